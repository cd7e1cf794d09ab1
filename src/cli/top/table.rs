//! Tables of text: cells, the columns that a width has room for, and lines of them.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::theme::Theme;
use super::units::{nanoseconds, percent, short, spark};
use crate::report::table::grouped;

/// One place of a table.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Cell {
    Text(String),
    /// Something a second; `None` where there are no two snapshots to tell it from.
    Rate(Option<f64>),
    /// The number of copies or packets that are lost a second, and the words for the reasons.
    Loss(f64, String),
    Count(u64),
    /// A share of 0 to 1.
    Share(Option<f64>),
    /// Nanoseconds.
    Time(Option<u64>),
    /// Rates of the past, oldest first.
    Trend(Vec<f64>),
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Returns the number of the cell, by which rows are sorted and peaks are kept.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Text(_) | Self::Trend(_) => None,
            Self::Rate(rate) | Self::Share(rate) => *rate,
            Self::Loss(rate, _) => Some(*rate),
            Self::Count(count) => Some(*count as f64),
            Self::Time(ns) => ns.map(|ns| ns as f64),
        }
    }

    /// Returns the same kind of cell with another number.
    pub(super) fn with_number(&self, number: f64) -> Self {
        match self {
            Self::Text(_) | Self::Trend(_) => self.clone(),
            Self::Rate(_) => Self::Rate(Some(number)),
            Self::Share(_) => Self::Share(Some(number)),
            Self::Loss(_, words) => Self::Loss(number, words.clone()),
            Self::Count(_) => Self::Count(number as u64),
            Self::Time(_) => Self::Time(Some(number as u64)),
        }
    }

    fn shown(&self, width: usize) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Rate(None) | Self::Share(None) | Self::Time(None) => "-".to_owned(),
            Self::Rate(Some(rate)) => short(*rate),
            Self::Loss(rate, _) if *rate == 0.0 => "0".to_owned(),
            Self::Loss(rate, words) => format!("{} {words}", short(*rate)).trim_end().to_owned(),
            Self::Count(count) => grouped(*count),
            Self::Share(Some(share)) => percent(*share),
            Self::Time(Some(ns)) => nanoseconds(*ns),
            Self::Trend(values) => spark(values.iter(), width),
        }
    }

    fn style(&self, theme: Theme) -> Style {
        match self {
            Self::Loss(rate, _) if *rate > 0.0 => theme.bad(),
            Self::Trend(_) => theme.flow(),
            // zero is quiet: a column is scanned for what is not zero
            cell if cell.number().is_none_or(|number| number == 0.0) && !matches!(cell, Self::Text(_)) => {
                theme.dim()
            }
            _ => Style::new(),
        }
    }
}

/// A column's head, and how it stands in a row that is too narrow for all.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) head: String,
    is_left: bool,
    /// Columns of a high rank are left out first; those of rank 0 stay.
    rank: u8,
}

impl Column {
    pub(super) fn right(head: impl Into<String>, rank: u8) -> Self {
        Self { head: head.into(), is_left: false, rank }
    }

    pub(super) fn left(head: impl Into<String>, rank: u8) -> Self {
        Self { head: head.into(), is_left: true, rank }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    /// It loses, or is out of order: it stands first, and is marked.
    pub(super) is_hurt: bool,
    /// Nothing happens there: it may be left out with the words of `Table::quiet`.
    pub(super) is_quiet: bool,
    /// As many as there are columns; the first is the name.
    pub(super) cells: Vec<Cell>,
}

impl Row {
    pub(super) fn name(&self) -> &str {
        match self.cells.first() {
            Some(Cell::Text(name)) => name,
            _ => "",
        }
    }

    /// Returns what tells the row from others: its first texts.
    pub(super) fn key(&self) -> String {
        let texts = self.cells.iter().map_while(|cell| match cell {
            Cell::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("/")
    }
}

#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// The words for rows in which nothing happens, such as `ports receive nothing`.
    pub(super) quiet: &'static str,
}

/// The longest name that is shown whole.
const NAME_WIDTH: usize = 22;
/// The least and the most width of a trend.
const TREND: std::ops::RangeInclusive<usize> = 8..=60;
/// Between two columns.
const GAP: usize = 2;

impl Table {
    /// Puts rows that are hurt first, and sorts by a column where one is chosen: the highest first, or names from A on.
    pub(super) fn sort(&mut self, column: Option<usize>) {
        if let Some(column) = column.map(|column| column.min(self.columns.len().saturating_sub(1))) {
            self.rows.sort_by(|a, b| match (a.cells[column].number(), b.cells[column].number()) {
                (None, None) => a.cells[column].shown(0).cmp(&b.cells[column].shown(0)),
                (a, b) => b.unwrap_or(-1.0).total_cmp(&a.unwrap_or(-1.0)),
            });
        }
        self.rows.sort_by_key(|row| !row.is_hurt);
    }

    /// Leaves out columns that say nothing: all of their cells are unknown, or say that all is as it should be.
    pub(super) fn tidy(&mut self) {
        let says_nothing = |index: usize| {
            let is_quiet = |row: &Row| match &row.cells[index] {
                Cell::Text(text) => ["", "up", "runs", "on"].contains(&text.as_str()),
                cell => cell.number().is_none() && !matches!(cell, Cell::Trend(_)),
            };
            index > 0 && self.rows.iter().all(is_quiet)
        };
        let kept: Vec<bool> = (0..self.columns.len()).map(|index| !says_nothing(index)).collect();
        let mut keeps = kept.iter();
        self.columns.retain(|_| keeps.next() == Some(&true));
        for row in &mut self.rows {
            let mut keeps = kept.iter();
            row.cells.retain(|_| keeps.next() == Some(&true));
        }
    }

    /// Leaves the rows in which a cell has `text`, whatever its case.
    pub(super) fn filter(&mut self, text: &str) {
        let wanted = text.to_lowercase();
        self.rows.retain(|row| {
            wanted.is_empty()
                || row
                    .cells
                    .iter()
                    .any(|cell| matches!(cell, Cell::Text(text) | Cell::Loss(_, text) if text.to_lowercase().contains(&wanted)))
        });
    }

    /// Lays the table out: its head and at most `most_rows` rows from `first` on. What is left out is said in the last of them.
    pub(super) fn lines(&self, width: usize, window: Window, theme: Theme) -> Vec<Line<'static>> {
        let widths = self.widths(width);
        let mut lines = vec![self.head(&widths, theme)];
        let shown = self.shown_rows(window);
        for &index in &shown {
            lines.push(self.line(index, &widths, window.selected == Some(index), theme));
        }
        if let Some(rest) = self.rest(window, &shown) {
            lines.push(Line::styled(format!(" {rest}"), theme.dim()));
        }
        lines
    }

    /// Returns how many lines the table takes with all of its rows.
    pub(super) fn height(&self, folds: bool) -> usize {
        let quiet = self.rows.iter().filter(|row| row.is_quiet && !row.is_hurt).count();
        if folds && quiet > 1 { 2 + self.rows.len() - quiet } else { 1 + self.rows.len() }
    }

    fn shown_rows(&self, window: Window) -> Vec<usize> {
        let quiet = self.rows.iter().filter(|row| row.is_quiet && !row.is_hurt).count();
        let folds = window.folds && quiet > 1;
        let all: Vec<usize> = (0..self.rows.len())
            .filter(|&index| !folds || !self.rows[index].is_quiet || self.rows[index].is_hurt)
            .collect();
        let room = if all.len() < self.rows.len() || all.len() > window.rows {
            window.rows.saturating_sub(1)
        } else {
            window.rows
        };
        let first = window.first.min(all.len().saturating_sub(room));
        all.into_iter().skip(first).take(room).collect()
    }

    fn rest(&self, window: Window, shown: &[usize]) -> Option<String> {
        let rest = self.rows.len() - shown.len();
        if rest == 0 || window.rows == 0 {
            return None;
        }
        let is_left_out = |index: usize| !shown.contains(&index);
        let hurt =
            (0..self.rows.len()).filter(|&index| is_left_out(index) && self.rows[index].is_hurt).count();
        let is_all_quiet =
            (0..self.rows.len()).filter(|&index| is_left_out(index)).all(|i| self.rows[i].is_quiet);
        Some(match hurt {
            _ if window.first > 0 => format!(
                "rows {} to {} of {}",
                window.first + 1,
                window.first + shown.len(),
                self.rows.len()
            ),
            0 if is_all_quiet => format!("{rest} {}", self.quiet),
            0 => format!("{rest} more"),
            hurt => format!("{rest} more, of them {hurt} that lose or are out of order"),
        })
    }

    /// Returns the width of each column, `None` for those that have no room.
    fn widths(&self, width: usize) -> Vec<Option<usize>> {
        let wanted = |index: usize| {
            let of_cell = |row: &Row| match &row.cells[index] {
                Cell::Trend(_) => *TREND.start(),
                cell => cell.shown(0).chars().count(),
            };
            let widest = self.rows.iter().map(of_cell).max().unwrap_or(0);
            let head = self.columns[index].head.chars().count();
            if index == 0 { widest.min(NAME_WIDTH).max(head) } else { widest.max(head) }
        };
        let mut widths: Vec<Option<usize>> =
            (0..self.columns.len()).map(|index| Some(wanted(index))).collect();
        // the mark before a name
        let total = |widths: &[Option<usize>]| {
            widths.iter().flatten().map(|width| width + GAP).sum::<usize>() + 1 - GAP
        };
        while total(&widths) > width {
            let last = (0..widths.len())
                .filter(|&index| widths[index].is_some() && self.columns[index].rank > 0)
                .max_by_key(|&index| self.columns[index].rank);
            match last {
                Some(index) => widths[index] = None,
                None => break,
            }
        }
        let rest = width.saturating_sub(total(&widths));
        let is_trend =
            |index: usize| matches!(self.rows.first().map(|row| &row.cells[index]), Some(Cell::Trend(_)));
        for (index, width) in widths.iter_mut().enumerate() {
            if let Some(width) = width.as_mut().filter(|_| is_trend(index)) {
                *width = (*width + rest).min(*TREND.end());
            }
        }
        widths
    }

    fn head(&self, widths: &[Option<usize>], theme: Theme) -> Line<'static> {
        let mut text = String::from(" ");
        for (column, width) in
            self.columns.iter().zip(widths).filter_map(|(column, width)| Some((column, (*width)?)))
        {
            text.push_str(&placed(&column.head, width, column.is_left));
            text.push_str("  ");
        }
        Line::styled(text.trim_end().to_owned(), theme.head())
    }

    fn line(
        &self,
        index: usize,
        widths: &[Option<usize>],
        is_selected: bool,
        theme: Theme,
    ) -> Line<'static> {
        let row = &self.rows[index];
        let mut spans = vec![Span::styled(if row.is_hurt { "!" } else { " " }, theme.bad())];
        for (place, (column, cell)) in self.columns.iter().zip(&row.cells).enumerate() {
            let Some(width) = widths[place] else { continue };
            if place > 0 {
                spans.push(Span::raw("  "));
            }
            let style = match place {
                0 if row.is_hurt => theme.bad(),
                0 => theme.bold(),
                _ => cell.style(theme),
            };
            spans.push(Span::styled(placed(&cell.shown(width), width, column.is_left), style));
        }
        let line = Line::from(spans);
        if is_selected { line.style(theme.selected()) } else { line }
    }
}

/// The rows of a table that are shown.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Window {
    /// The number of lines that there are for rows.
    pub(super) rows: usize,
    pub(super) first: usize,
    pub(super) selected: Option<usize>,
    /// Rows in which nothing happens are one line together.
    pub(super) folds: bool,
}

/// Writes a text into `width` columns. What is too long ends with `…`.
pub(super) fn placed(text: &str, width: usize, is_left: bool) -> String {
    let text = fitted(text, width);
    if is_left { format!("{text:<width$}") } else { format!("{text:>width$}") }
}

/// Cuts a text that is longer than `width`: it ends with `…` then.
pub(super) fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('…');
    }
    cut
}
