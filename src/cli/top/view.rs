//! The screen: what of the board is shown, in as much room as there is.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::text::{Line, Span};

use super::board::{Board, Interval, Kind};
use super::table::{Table, Window, fitted};
use super::tables::table;
use super::theme::Theme;
use super::units::{Unit, duration, short};
use super::verdict::{Loss, Mood, verdict};
use crate::report::table::grouped;
use tapline_api::snapshot::Snapshot;

/// The pages, by the digits that lead to them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Page {
    Overview,
    Of(Kind),
    Events,
}

impl Page {
    const ALL: [(Self, &str); 7] = [
        (Self::Overview, "overview"),
        (Self::Of(Kind::Port), "ports"),
        (Self::Of(Kind::Tool), "tools"),
        (Self::Of(Kind::Group), "groups"),
        (Self::Of(Kind::Rule), "rules"),
        (Self::Of(Kind::Lcore), "lcores"),
        (Self::Events, "events"),
    ];

    /// Returns the page that a digit leads to.
    pub(super) fn of_digit(digit: char) -> Option<Self> {
        let index = digit.to_digit(10)?.checked_sub(1)? as usize;
        Self::ALL.get(index).map(|(page, _)| *page)
    }
}

/// The source of the numbers.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Feed {
    Waiting,
    Live,
    /// There is no broker, since a moment and for a reason.
    Gone {
        since: f64,
        why: String,
    },
    /// A file: the line that is shown, the number of lines, and how many times faster than it was written.
    Replay {
        line: usize,
        lines: usize,
        speed: u32,
    },
}

/// The user's choice of what is shown.
pub(super) struct View {
    pub(super) page: Page,
    pub(super) unit: Unit,
    pub(super) theme: Theme,
    pub(super) zone: TimeZone,
    pub(super) is_paused: bool,
    pub(super) shows_peaks: bool,
    pub(super) shows_help: bool,
    /// The object of the selected row, field by field.
    pub(super) shows_detail: bool,
    /// The column by which tables are sorted; the order of the pipeline file without one.
    pub(super) sort: Option<usize>,
    pub(super) filter: String,
    pub(super) is_typing: bool,
    pub(super) first: usize,
    pub(super) selected: usize,
}

/// A word of the account, and its count.
type Term = (&'static str, fn(&Snapshot) -> u64);

const HELP: &[(&str, &str)] = &[
    ("1 to 7", "pages: overview, ports, tools, groups, rules, lcores, events"),
    ("u", "units: packets, bits, bytes"),
    ("s, S", "sort by the next column, in the order of the file"),
    ("/", "rows that have a text; Enter keeps it, Esc ends it"),
    ("p", "peaks: the highest number of each place so far"),
    ("space", "pause, and go on"),
    ("arrows, PgUp, PgDn", "select a row"),
    ("Enter", "all that is known of the selected row"),
    ("[ and ]", "in a replay: a line back, a line on"),
    ("+ and -", "in a replay: faster, slower"),
    ("q, Ctrl-C", "end"),
];

impl View {
    pub(super) fn new(unit: Unit, theme: Theme, zone: TimeZone) -> Self {
        Self {
            page: Page::Overview,
            unit,
            theme,
            zone,
            is_paused: false,
            shows_peaks: false,
            shows_help: false,
            shows_detail: false,
            sort: None,
            filter: String::new(),
            is_typing: false,
            first: 0,
            selected: 0,
        }
    }

    /// Returns the lines of a screen of this size, at most `height` of them.
    pub(super) fn lines(
        &self,
        board: &Board,
        feed: &Feed,
        width: usize,
        height: usize,
    ) -> Vec<Line<'static>> {
        let mut lines = vec![self.header(board, feed, width)];
        let Some(interval) = board.interval() else {
            lines.push(Line::raw(match feed {
                Feed::Gone { why, .. } => format!(" {why}; trying again each second"),
                _ => " waiting for the first numbers".to_owned(),
            }));
            return self.with_footer(lines, width, height);
        };
        if let Feed::Gone { since, why } = feed {
            let text = format!(
                "! NO BROKER since {}: {why}; numbers are the last ones, trying again",
                self.clock(*since)
            );
            lines.push(Line::styled(fitted(&text, width), self.theme.warn()));
        }
        let losses = board.losses();
        self.say_verdict(board, interval, &losses, (width, height), &mut lines);
        if self.shows_help {
            lines.push(Line::raw(""));
            lines.extend(HELP.iter().map(|(key, does)| {
                Line::from(vec![
                    Span::styled(format!("  {key:<20}"), self.theme.accent()),
                    Span::raw(*does),
                ])
            }));
            return self.with_footer(lines, width, height);
        }
        let room = height.saturating_sub(lines.len() + 1);
        let page = match self.page {
            Page::Overview => self.overview(board, interval, width, room),
            Page::Of(kind) if self.shows_detail => self.detail(kind, board, interval, room),
            Page::Of(kind) => self.page_of(kind, board, width, room),
            Page::Events => self.events(board, width, room),
        };
        lines.extend(page);
        self.with_footer(lines, width, height)
    }

    fn with_footer(
        &self,
        mut lines: Vec<Line<'static>>,
        width: usize,
        height: usize,
    ) -> Vec<Line<'static>> {
        lines.truncate(height.saturating_sub(1));
        lines.resize(height.saturating_sub(1), Line::raw(""));
        lines.push(self.footer(width));
        lines.truncate(height);
        lines.into_iter().map(|line| clipped(line, width)).collect()
    }

    fn clock(&self, seconds: f64) -> String {
        let time = Timestamp::from_millisecond((seconds * 1e3) as i64).unwrap_or(Timestamp::UNIX_EPOCH);
        time.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string()
    }

    fn header(&self, board: &Board, feed: &Feed, width: usize) -> Line<'static> {
        let now = board.interval().map(|interval| interval.now.time);
        let clock = now.map_or(String::new(), |now| self.clock(now));
        let state = match feed {
            _ if self.is_paused => format!("PAUSED {clock}"),
            Feed::Waiting => "connecting".to_owned(),
            Feed::Live => format!("live {clock}"),
            Feed::Gone { .. } => format!("GONE {clock}"),
            Feed::Replay { line, lines, speed } => format!("{clock}  {line} of {lines}, {speed}x"),
        };
        let peaks = if self.shows_peaks {
            format!("peaks since {}   ", self.clock(board.since))
        } else {
            String::new()
        };
        let unit = if width < 60 { "" } else { self.unit.rate_word() };
        let right = format!("{peaks}{unit}   {state} ");
        let plan = if board.plan.hash.is_empty() {
            String::new()
        } else {
            format!("   plan {} {}", board.plan.id, board.plan.hash)
        };
        let room = width.saturating_sub(right.chars().count() + 1);
        let mut left = format!(" tapline top   {}{plan}", board.name);
        if left.chars().count() > room {
            left = fitted(&format!(" {}", board.name), room);
        }
        let gap = " ".repeat(width.saturating_sub(left.chars().count() + right.chars().count()));
        Line::styled(format!("{left}{gap}{right}"), self.theme.bold())
    }

    fn footer(&self, width: usize) -> Line<'static> {
        if self.is_typing {
            return Line::styled(format!(" /{}_", self.filter), self.theme.accent());
        }
        let mut spans = Vec::new();
        let mut taken = 0;
        let mut add = |text: String, style| {
            // what has no room is left out whole
            if taken + text.chars().count() <= width {
                taken += text.chars().count();
                spans.push(Span::styled(text, style));
            }
        };
        let is_narrow = width < 72;
        for (index, (page, word)) in Page::ALL.iter().enumerate() {
            let style = if *page == self.page { self.theme.selected() } else { self.theme.dim() };
            let text = if is_narrow { format!(" {}", index + 1) } else { format!(" {} {word}", index + 1) };
            add(text, style);
        }
        let mut keys = vec![
            "  ? help",
            "  u units",
            "  q quit",
            "  s sort",
            "  / filter",
            "  p peaks",
            "  space pause",
        ];
        if !self.filter.is_empty() {
            keys.insert(0, "  FILTERED");
        }
        keys.into_iter().for_each(|key| add(key.to_owned(), self.theme.accent()));
        Line::from(spans)
    }

    /// The verdict, its causes, and the account.
    fn say_verdict(
        &self,
        board: &Board,
        interval: &Interval,
        losses: &[Loss],
        (width, height): (usize, usize),
        lines: &mut Vec<Line<'static>>,
    ) {
        let (mood, text) = verdict(interval, losses, &board.memory, board.since);
        let (mark, style) = match mood {
            Mood::Well => (" ", self.theme.good()),
            Mood::Waits => ("! ", self.theme.warn()),
            Mood::Loses => ("! ", self.theme.bad()),
        };
        lines.extend(
            wrapped(&format!("{mark}{text}"), width, 2).into_iter().map(|line| Line::styled(line, style)),
        );
        let most = match height {
            0..16 => 1,
            16..30 => 2,
            _ => 4,
        };
        for loss in losses.iter().take(most) {
            let stopped = if loss.rate == 0.0 { ", stopped by now" } else { "" };
            let why = format!("! {}  {}{stopped}: {}", loss.name, loss.word, loss.why);
            lines.push(Line::styled(fitted(&why, width), self.theme.bad()));
            if height >= 16 {
                lines.push(Line::from(vec![
                    Span::raw("    do  "),
                    Span::styled(fitted(&loss.remedy, width.saturating_sub(8)), self.theme.accent()),
                ]));
            }
        }
        if losses.is_empty() && height >= 20 {
            lines.push(Line::styled("─".repeat(width), self.theme.dim()));
        }
        lines.extend(self.account(interval, width, height).into_iter().map(Line::raw));
        if height >= 20 {
            lines.push(Line::raw(""));
        }
    }

    /// The equation of packets, that of copies, and what is of the whole run.
    fn account(&self, interval: &Interval, width: usize, height: usize) -> Vec<String> {
        let rate = |count: &dyn Fn(&Snapshot) -> u64| {
            interval.rate(|snapshot| Some(count(snapshot))).map_or("-".to_owned(), short)
        };
        let terms: [Term; 5] = [
            ("sampled out", |s| s.packets.sampled_out),
            ("duplicate", |s| s.packets.duplicate),
            ("excluded", |s| s.packets.excluded),
            ("unmatched", |s| s.packets.unmatched),
            ("failed", |s| s.packets.failed),
        ];
        let mut packets = format!(
            " packets  {} = delivered {}",
            rate(&|s| s.packets.received),
            rate(&|s| s.packets.delivered)
        );
        for (word, count) in terms {
            if count(&interval.now) > 0 {
                packets += &format!(" + {word} {}", rate(&count));
            }
        }
        let mut copies =
            format!(" copies   {} = sent {}", rate(&|s| s.copies.requested), rate(&|s| s.copies.sent));
        let dropped = interval.dropped(|snapshot| Some(snapshot.copies.dropped));
        for &(reason, count) in &dropped {
            copies += &format!(" + {reason} {}", short(count as f64 / interval.seconds));
        }
        if dropped.is_empty() {
            copies += " + dropped 0";
        }
        copies += if interval.now.balanced { "   balanced" } else { "   NOT BALANCED" };
        let mut lines = vec![fitted(&packets, width), fitted(&copies, width)];
        if height >= 34 {
            lines.extend(totals(&interval.now).iter().map(|line| fitted(line, width)));
        }
        if width < 60 && height < 16 {
            lines.truncate(0);
        }
        lines
    }

    /// Makes a table as the user wants it: with peaks, filtered and sorted.
    fn chosen(&self, kind: Kind, board: &Board) -> Table {
        let mut table = table(kind, board, self.unit);
        if self.shows_peaks {
            board.raise_to_peaks(kind, &mut table);
        }
        table.filter(&self.filter);
        // rules are by what they match unless another order is asked for on their page
        let by_rate = (kind == Kind::Rule && self.page == Page::Overview).then_some(1);
        table.sort(if self.page == Page::Overview { by_rate } else { self.sort });
        if self.page == Page::Overview {
            table.tidy();
        }
        table
    }

    fn overview(
        &self,
        board: &Board,
        interval: &Interval,
        width: usize,
        room: usize,
    ) -> Vec<Line<'static>> {
        let now = &interval.now;
        let is_wide = width >= 76;
        let mut lines: Vec<Line<'static>> = Vec::new();
        let tools = self.chosen(Kind::Tool, board);
        let ports = self.chosen(Kind::Port, board);
        let lcores = self.chosen(Kind::Lcore, board);
        let beside = if is_wide { lcores.height(false) } else { 0 };
        let wanted_ports = ports.height(true).max(beside);
        // tools first, but for what ports need at least
        let least_ports = wanted_ports.min(4).min(room / 3);
        let for_tools = tools.height(true).min(room.saturating_sub(least_ports + 1));
        lines.extend(tools.lines(width, folded(for_tools), self.theme));
        let gap = usize::from(room > 12);
        lines.extend(vec![Line::raw(""); gap]);
        let for_ports = wanted_ports.min(room.saturating_sub(lines.len()));
        if is_wide {
            let right = width * 2 / 5;
            let left = width - right - 2;
            let left_lines = ports.lines(left, folded(for_ports), self.theme);
            let right_lines = lcores.lines(right, folded(for_ports), self.theme);
            lines.extend(beside_each_other(left_lines, right_lines, left + 2));
        } else {
            lines.extend(ports.lines(width, folded(for_ports), self.theme));
        }
        let mut sections: Vec<Table> = Vec::new();
        if !now.wires.is_empty() {
            sections.push(self.chosen(Kind::Wire, board));
        }
        if !now.groups.is_empty() {
            sections.push(self.chosen(Kind::Group, board));
        }
        sections.push(self.chosen(Kind::Rule, board));
        for section in sections {
            let left = room.saturating_sub(lines.len() + gap);
            // a head and a row at least
            if left < 2 {
                break;
            }
            lines.extend(vec![Line::raw(""); gap]);
            lines.extend(section.lines(width, folded(left.min(section.height(true)).min(12)), self.theme));
        }
        let left = room.saturating_sub(lines.len() + gap);
        let events = self.events(board, width, left);
        if left >= 3 && !board.events().is_empty() {
            lines.extend(vec![Line::raw(""); gap]);
            lines.extend(events);
        }
        lines
    }

    fn page_of(&self, kind: Kind, board: &Board, width: usize, room: usize) -> Vec<Line<'static>> {
        let table = self.chosen(kind, board);
        let selected = self.selected.min(table.rows.len().saturating_sub(1));
        let rows = room.saturating_sub(2);
        // the selected row is always seen
        let first =
            self.first.min(selected).max((selected + 1).saturating_sub(rows.saturating_sub(1).max(1)));
        let window = Window { rows, first, selected: Some(selected), folds: false };
        let sorted = self.sort.map_or("the pipeline file".to_owned(), |column| {
            table
                .columns
                .get(column.min(table.columns.len() - 1))
                .map_or(String::new(), |column| column.head.clone())
        });
        let filter =
            if self.filter.is_empty() { String::new() } else { format!(", with `{}`", self.filter) };
        let about = format!(
            " {} rows{filter}, in the order of {sorted}; what loses stands first",
            table.rows.len()
        );
        let mut lines = vec![Line::styled(fitted(&about, width), self.theme.dim())];
        lines.extend(table.lines(width, window, self.theme));
        let wires =
            board.interval().is_some_and(|interval| kind == Kind::Port && !interval.now.wires.is_empty());
        if wires && room > lines.len() + 2 {
            lines.push(Line::raw(""));
            lines.extend(self.chosen(Kind::Wire, board).lines(
                width,
                folded(room - lines.len()),
                self.theme,
            ));
        }
        lines
    }

    /// All fields of the selected object, as the statistics have them.
    fn detail(&self, kind: Kind, board: &Board, interval: &Interval, room: usize) -> Vec<Line<'static>> {
        let table = self.chosen(kind, board);
        let Some(row) = table.rows.get(self.selected.min(table.rows.len().saturating_sub(1))) else {
            return vec![Line::raw(" there is no such row")];
        };
        let (name, now) = (row.name(), &interval.now);
        let value = match kind {
            Kind::Port => serde_json::to_value(now.ports.get(name)),
            Kind::Tool => serde_json::to_value(now.tools.get(name)),
            Kind::Group => serde_json::to_value(now.groups.get(name)),
            Kind::Rule => serde_json::to_value(now.rules.get(name)),
            Kind::Wire => serde_json::to_value(now.wires.get(name)),
            Kind::Lcore => serde_json::to_value(now.lcores.get(name)),
        };
        let mut fields = Vec::new();
        flatten("", &value.unwrap_or_default(), &mut fields);
        let mut lines = vec![Line::styled(format!(" {name}   Enter goes back"), self.theme.bold())];
        if kind == Kind::Rule {
            lines.push(Line::raw(format!(" {}", board.plan.rule(name))));
        }
        let shown = fields.iter().skip(self.first).take(room.saturating_sub(lines.len()));
        let fields: Vec<Line<'static>> = shown
            .map(|(key, value)| {
                let is_zero = value == "0" || value == "null" || value == "false";
                let style = if is_zero { self.theme.dim() } else { self.theme.bold() };
                Line::from(vec![Span::raw(format!("   {key:<32} ")), Span::styled(value.clone(), style)])
            })
            .collect();
        lines.extend(fields);
        lines
    }

    fn events(&self, board: &Board, width: usize, room: usize) -> Vec<Line<'static>> {
        let wanted = self.filter.to_lowercase();
        let mut lines = vec![Line::styled(" events, the latest first", self.theme.head())];
        let all = board.events();
        let events = all.iter().filter(|told| told.text.to_lowercase().contains(&wanted));
        let first = if self.page == Page::Events { self.selected } else { 0 };
        for told in events.skip(first).take(room.saturating_sub(1)) {
            let style = match told.level.as_str() {
                "error" => self.theme.bad(),
                "warning" => self.theme.warn(),
                _ => ratatui::style::Style::new(),
            };
            let level = if told.level == "info" || told.level.is_empty() {
                String::new()
            } else {
                format!("{}: ", told.level)
            };
            let text = format!(" {} {level}{}", self.clock(told.time), told.text);
            lines.push(Line::styled(fitted(&text, width), style));
        }
        if all.is_empty() {
            lines.push(Line::styled(" nothing happened", self.theme.dim()));
        }
        lines
    }
}

fn folded(height: usize) -> Window {
    Window { rows: height.saturating_sub(1), folds: true, ..Window::default() }
}

/// Says what was counted since the start, exactly.
fn totals(now: &Snapshot) -> Vec<String> {
    let (packets, copies) = (&now.packets, &now.copies);
    let mut lines = vec![format!(
        " since start  {}: received {}   requested {}   sent {}",
        duration(now.uptime_s),
        grouped(packets.received),
        grouped(copies.requested),
        grouped(copies.sent)
    )];
    let mut lost: Vec<String> = copies
        .dropped
        .by_reason()
        .chain([("missed", now.ports.iter().map(|(_, port)| port.driver.missed).sum())])
        .filter(|&(_, count)| count > 0)
        .map(|(word, count)| format!("{word} {}", grouped(count)))
        .collect();
    if lost.is_empty() {
        lost.push("nothing".to_owned());
    }
    lines.push(format!("              lost {}", lost.join(", ")));
    lines
}

/// Joins the lines of two tables, the second from column `at` on.
fn beside_each_other(left: Vec<Line<'static>>, right: Vec<Line<'static>>, at: usize) -> Vec<Line<'static>> {
    let height = left.len().max(right.len());
    let (mut left, mut right) = (left.into_iter(), right.into_iter());
    (0..height)
        .map(|_| {
            let mut line = spread(left.next().unwrap_or_default());
            if let Some(right) = right.next() {
                let gap = at.saturating_sub(line.width());
                line.spans.push(Span::raw(" ".repeat(gap)));
                line.spans.extend(spread(right).spans);
            }
            line
        })
        .collect()
}

/// Cuts a line that is wider than the screen.
fn clipped(mut line: Line<'static>, width: usize) -> Line<'static> {
    let mut room = width;
    for span in &mut line.spans {
        if span.width() > room {
            span.content = span.content.chars().take(room).collect::<String>().into();
        }
        room -= span.width().min(room);
    }
    line
}

/// Moves the style of a line to its parts.
fn spread(line: Line<'static>) -> Line<'static> {
    let style = line.style;
    Line::from(
        line.spans
            .into_iter()
            .map(|span| Span::styled(span.content, style.patch(span.style)))
            .collect::<Vec<_>>(),
    )
}

/// Breaks a text between words into at most `most` lines; the last of them is cut.
fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + word.trim_end().chars().count() > width && lines.len() < most {
            lines.push("  ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
    }
    lines.iter().map(|line| fitted(line.trim_end(), width)).collect()
}

/// Writes the fields of a JSON value, with the path to each.
fn flatten(path: &str, value: &serde_json::Value, fields: &mut Vec<(String, String)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        serde_json::Value::Object(entries) => {
            entries.iter().for_each(|(key, value)| flatten(&below(key), value, fields))
        }
        serde_json::Value::Array(values) if values.iter().any(serde_json::Value::is_object) => {
            values
                .iter()
                .enumerate()
                .for_each(|(index, value)| flatten(&below(&index.to_string()), value, fields));
        }
        serde_json::Value::String(text) => fields.push((path.to_owned(), text.clone())),
        serde_json::Value::Number(number) => {
            let shown = number.as_u64().map_or_else(|| number.to_string(), grouped);
            fields.push((path.to_owned(), shown));
        }
        value => fields.push((path.to_owned(), value.to_string())),
    }
}

/// Returns the pages' tables whose peaks are kept.
pub(super) fn kinds() -> [Kind; 5] {
    [Kind::Port, Kind::Tool, Kind::Group, Kind::Wire, Kind::Lcore]
}
