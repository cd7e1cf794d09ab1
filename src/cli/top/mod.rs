//! `tapline top`: a running broker, or a file of its statistics, on a terminal.
//!
//! It is a client of the control socket with the rights of a viewer, and asks the broker for nothing but what it publishes.

/// Holds what is known of a broker.
mod board;
/// Reads the text of a plan.
mod plan;
/// The terminal.
mod screen;
/// Reads a socket, or a file of statistics.
mod source;
/// Cells, columns and lines.
mod table;
/// The tables of each kind of object.
mod tables;
/// Colours and marks.
mod theme;
/// Numbers as people read them.
mod units;
/// Judges whether anything is lost.
mod verdict;
/// Lays the screen out.
mod view;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget};

use super::Status;
use super::ctl::Which;
use super::output::{offer, tell_line};
use board::Board;
use jiff::tz::TimeZone;
use screen::{Screen, end_flag};
use source::{News, Replay, follow};
use tapline_fault as fault;
use theme::{Theme, in_ascii, is_utf8_locale};
use units::Unit;
use view::{Feed, Page, View, kinds};

/// The time that a key, or news, may wait.
const TICK: Duration = Duration::from_millis(100);
/// A broker that said nothing for so many of its intervals, and a second, is told of.
const SILENT_INTERVALS: u32 = 3;
/// So many snapshots before one that is jumped to are read: its past is full.
const PAST_LINES: usize = 64;
/// The width of plain text, and what the height of a screen is that has room for all.
const PLAIN: (usize, usize) = (100, 240);
/// The fastest replay.
const MOST_SPEED: u32 = 64;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Replay a file that `tapline run --stats` wrote
    #[arg(short = 'r', long = "replay", value_name = "STATS", conflicts_with_all = ["name", "control"])]
    replay: Option<PathBuf>,
    /// Print the numbers of one interval, and end
    #[arg(long)]
    once: bool,
    /// Print lines of text and leave the terminal as it is
    #[arg(long)]
    plain: bool,
    /// Unit of rates
    #[arg(long, value_enum, value_name = "UNIT", default_value_t = Unit::Packets)]
    units: Unit,
    /// Time between two looks at the broker
    #[arg(long, value_name = "TIME", value_parser = tapline_lang::parse_duration, default_value = "1s")]
    interval: Duration,
}

pub fn run(args: &Args) -> Status {
    match run_to_end(args) {
        Ok(status) | Err(status) => status,
    }
}

fn failed(why: &dyn std::fmt::Display) -> Status {
    tell_line(format_args!("error: {why}"));
    Status::Failed
}

fn run_to_end(args: &Args) -> Result<Status, Status> {
    let is_ended = end_flag().map_err(|error| failed(&error))?;
    let mut app = App::open(args, is_ended)?;
    if args.once || args.plain || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        app.print(args.once)
    } else {
        app.show()
    }
}

enum Source {
    Live(Receiver<News>),
    /// A file, the line that is shown next, and when.
    File {
        replay: Replay,
        next: usize,
        due: Instant,
    },
}

struct App {
    board: Board,
    view: View,
    feed: Feed,
    source: Source,
    interval: Duration,
    /// The moment at which the last snapshot came.
    heard: Instant,
    is_ended: Arc<AtomicBool>,
    is_utf8: bool,
}

impl App {
    fn open(args: &Args, is_ended: Arc<AtomicBool>) -> Result<Self, Status> {
        let now = Instant::now();
        let (name, source) = match &args.replay {
            Some(path) => {
                let replay = Replay::open(path).map_err(|error| failed(&error))?;
                (replay.name(), Source::File { replay, next: 0, due: now })
            }
            None => {
                let path = args.which.path()?;
                let name = path.display().to_string();
                (
                    name,
                    Source::Live(
                        follow(path, args.interval.as_secs_f64()).map_err(|error| failed(&error))?,
                    ),
                )
            }
        };
        Ok(Self {
            board: Board::new(name),
            view: View::new(args.units, Theme::of_environment(), TimeZone::system()),
            feed: Feed::Waiting,
            source,
            interval: args.interval,
            heard: now,
            is_ended,
            is_utf8: is_utf8_locale(),
        })
    }

    fn take(&mut self, snapshot: tapline_api::snapshot::Snapshot) {
        self.board.take(snapshot);
        for unit in [Unit::Packets, Unit::Bits, Unit::Bytes] {
            for kind in kinds() {
                let table = tables::table(kind, &self.board, unit);
                self.board.note_peaks(kind, &table);
            }
        }
        self.heard = Instant::now();
    }

    /// Takes what a broker says. Returns whether it has two snapshots by now.
    fn hear(&mut self, news: News) -> bool {
        match news {
            News::Broker(name) => self.board.name = name,
            News::Plan(plan) => self.board.plan = plan,
            News::Event(event) => self.board.take_event(&event),
            News::Gone(why) => {
                let since = match &self.feed {
                    Feed::Gone { since, .. } => *since,
                    _ => jiff::Timestamp::now().as_millisecond() as f64 / 1e3,
                };
                self.feed = Feed::Gone { since, why };
            }
            // numbers stand still while the user reads them
            News::Stats(_) if self.view.is_paused => self.heard = Instant::now(),
            News::Stats(snapshot) => {
                self.take(*snapshot);
                self.feed = Feed::Live;
                return self.board.interval().is_some_and(|interval| interval.before().is_some());
            }
        }
        false
    }

    /// Takes all that has come. Returns whether there is anything new to show.
    fn listen(&mut self) -> bool {
        let mut is_new = false;
        loop {
            let news = match &self.source {
                Source::Live(told) => told.try_recv(),
                Source::File { .. } => return self.play(),
            };
            match news {
                Ok(news) => {
                    self.hear(news);
                    is_new = true;
                }
                Err(TryRecvError::Empty) => break,
                // the thread ends when nobody listens
                Err(TryRecvError::Disconnected) => break,
            }
        }
        let patience = self.interval * SILENT_INTERVALS + Duration::from_secs(1);
        if self.feed == Feed::Live && self.heard.elapsed() > patience {
            let since = self.board.interval().map_or(0.0, |interval| interval.now.time);
            self.feed = Feed::Gone { since, why: "the broker says nothing".to_owned() };
            is_new = true;
        }
        is_new
    }

    /// Takes the next line of a file when its time has come. Returns whether there was one.
    fn play(&mut self) -> bool {
        let Source::File { replay, next, due } = &mut self.source else { return false };
        if self.view.is_paused || Instant::now() < *due {
            return false;
        }
        if *next >= replay.len() {
            // it may be written on
            *due = Instant::now() + Duration::from_secs(1);
            if replay.look().is_err() || *next >= replay.len() {
                return false;
            }
        }
        let index = *next;
        self.go_to(index, false);
        true
    }

    /// Shows a line of a file; with the lines before it where it is jumped to.
    fn go_to(&mut self, index: usize, is_jump: bool) {
        let Source::File { replay, next, .. } = &mut self.source else { return };
        let index = index.min(replay.len() - 1);
        *next = index + 1;
        let first = if is_jump { index.saturating_sub(PAST_LINES) } else { index };
        if is_jump {
            self.board = Board::new(std::mem::take(&mut self.board.name));
        }
        let (lines, speed) = (replay.len(), self.speed());
        let mut wrong = None;
        let mut step_s = 1.0;
        for line in first..=index {
            let Source::File { replay, .. } = &mut self.source else { return };
            match replay.read(line) {
                Ok(snapshot) => {
                    self.take(snapshot);
                    step_s = self.board.interval().map_or(1.0, |interval| interval.seconds);
                }
                Err(error) => wrong = Some(error),
            }
        }
        // a pause of the writer is not waited for
        let step = Duration::from_secs_f64(step_s.clamp(0.01, 10.0) / f64::from(speed));
        if let Source::File { due, .. } = &mut self.source {
            *due = Instant::now() + step;
        }
        self.feed = match wrong {
            Some(why) => {
                Feed::Gone { since: self.board.interval().map_or(0.0, |interval| interval.now.time), why }
            }
            None => Feed::Replay { line: index + 1, lines, speed },
        };
    }

    fn speed(&self) -> u32 {
        if let Feed::Replay { speed, .. } = self.feed { speed } else { 1 }
    }

    /// Draws until the user, or a signal, ends it.
    fn show(&mut self) -> Result<Status, Status> {
        let mut screen = Screen::take().map_err(|error| failed(&error))?;
        let mut is_new = true;
        while !self.is_ended.load(Ordering::Relaxed) && screen.is_taken() {
            is_new |= self.listen();
            if is_new && self.draw(&mut screen).is_err() {
                // the terminal is gone, and nobody is left to be told
                return Ok(Status::Failed);
            }
            is_new = false;
            fault::panics("top.draw");
            if !event::poll(TICK).unwrap_or(false) {
                continue;
            }
            match event::read() {
                Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if self.press(key) {
                        return Ok(Status::Done);
                    }
                    is_new = true;
                }
                Ok(Event::Resize(..)) => is_new = true,
                Ok(_) => {}
                Err(_) => return Ok(Status::Failed),
            }
        }
        Ok(if screen.is_taken() { Status::Done } else { Status::Failed })
    }

    fn draw(&self, screen: &mut Screen) -> std::io::Result<()> {
        let draw = |frame: &mut ratatui::Frame<'_>| {
            let area = frame.area();
            Paragraph::new(self.lines(area.width.into(), area.height.into()))
                .render(area, frame.buffer_mut());
        };
        screen.terminal.draw(draw).map(|_| ())
    }

    fn lines(&self, width: usize, height: usize) -> Vec<Line<'static>> {
        let mut lines = self.view.lines(&self.board, &self.feed, width, height);
        if !self.is_utf8 {
            for span in lines.iter_mut().flat_map(|line| &mut line.spans) {
                span.content = in_ascii(&span.content).into();
            }
        }
        lines
    }

    /// Obeys a key. Returns whether it ends the program.
    fn press(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c' | 'd'));
        }
        let view = &mut self.view;
        if view.is_typing {
            match key.code {
                KeyCode::Char(letter) => view.filter.push(letter),
                KeyCode::Backspace => drop(view.filter.pop()),
                KeyCode::Enter => view.is_typing = false,
                KeyCode::Esc => (view.is_typing, view.filter) = (false, String::new()),
                _ => {}
            }
            (view.first, view.selected) = (0, 0);
            return false;
        }
        match key.code {
            KeyCode::Char('q') => return true,
            KeyCode::Char('?' | 'h') => view.shows_help = !view.shows_help,
            KeyCode::Char('u') => view.unit = view.unit.next(),
            KeyCode::Char('s') => view.sort = Some(view.sort.map_or(1, |column| (column + 1) % 10)),
            KeyCode::Char('S') => view.sort = None,
            KeyCode::Char('/') => view.is_typing = true,
            KeyCode::Char('p') => view.shows_peaks = !view.shows_peaks,
            KeyCode::Char(' ') => view.is_paused = !view.is_paused,
            KeyCode::Char('[' | ']' | '+' | '-') => self.wind(key.code),
            KeyCode::Char(digit) => {
                if let Some(page) = Page::of_digit(digit) {
                    (view.page, view.first, view.selected) = (page, 0, 0);
                    (view.shows_detail, view.shows_help) = (false, false);
                }
            }
            KeyCode::Enter => {
                view.shows_detail = !view.shows_detail && matches!(view.page, Page::Of(_));
                view.first = 0;
            }
            KeyCode::Esc => {
                (view.shows_help, view.shows_detail, view.filter) = (false, false, String::new())
            }
            code => self.scroll(code),
        }
        false
    }

    /// Goes along a replay.
    fn wind(&mut self, code: KeyCode) {
        let Feed::Replay { line, .. } = self.feed else { return };
        match (code, &mut self.feed) {
            (KeyCode::Char('['), _) => self.go_to(line.saturating_sub(2), true),
            (KeyCode::Char(']'), _) => self.go_to(line, false),
            (KeyCode::Char('+'), Feed::Replay { speed, .. }) => *speed = (*speed * 2).min(MOST_SPEED),
            (_, Feed::Replay { speed, .. }) => *speed = (*speed / 2).max(1),
            _ => {}
        }
    }

    fn scroll(&mut self, code: KeyCode) {
        let view = &mut self.view;
        let rows = match view.page {
            Page::Overview => return,
            Page::Of(kind) => tables::table(kind, &self.board, view.unit).rows.len(),
            Page::Events => self.board.events().len(),
        };
        let by = if view.shows_detail { &mut view.first } else { &mut view.selected };
        match code {
            KeyCode::Up => *by = by.saturating_sub(1),
            KeyCode::Down => *by += 1,
            KeyCode::PageUp => *by = by.saturating_sub(10),
            KeyCode::PageDown => *by += 10,
            KeyCode::Home => *by = 0,
            KeyCode::End => *by = usize::MAX,
            _ => {}
        }
        if !view.shows_detail {
            view.selected = view.selected.min(rows.saturating_sub(1));
        }
        // an object has fewer fields than this
        view.first = view.first.min(1024);
    }

    /// Prints lines of text: once, or at every snapshot.
    fn print(&mut self, is_once: bool) -> Result<Status, Status> {
        loop {
            match self.next_whole(is_once)? {
                true if !offer(&self.text()) || is_once => return Ok(Status::Done),
                true => {}
                false => return Ok(Status::Done),
            }
        }
    }

    /// Waits for the next snapshot behind another. Returns whether there was one: a file and a signal end that.
    fn next_whole(&mut self, is_once: bool) -> Result<bool, Status> {
        if let Source::File { replay, next, .. } = &self.source {
            let (next, lines) = (*next, replay.len());
            if next >= lines {
                return Ok(false);
            }
            // the last interval is what one would see
            self.go_to(if is_once { lines - 1 } else { next }, is_once);
            return match &self.feed {
                Feed::Gone { why, .. } => Err(failed(why)),
                _ => Ok(true),
            };
        }
        loop {
            if self.is_ended.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let Source::Live(told) = &self.source else { return Ok(false) };
            match told.recv_timeout(TICK) {
                Ok(News::Gone(why)) => return Err(failed(&format_args!("{}: {why}", self.board.name))),
                Ok(news) => {
                    if self.hear(news) {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
    }

    /// The overview as text, as high as it is.
    fn text(&self) -> String {
        let (width, height) = PLAIN;
        let lines = self.lines(width, height);
        text_of(&lines[..lines.len() - 1], width)
    }
}

/// Writes lines as text, without colours and without blanks at their ends.
fn text_of(lines: &[Line<'static>], width: usize) -> String {
    let area = Rect::new(0, 0, width as u16, lines.len() as u16);
    let mut buffer = Buffer::empty(area);
    Paragraph::new(lines.to_vec()).render(area, &mut buffer);
    let row =
        |y: u16| (0..area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    let text = (0..area.height).map(row).collect::<Vec<_>>().join("\n");
    format!("{}\n\n", text.trim_end())
}

#[cfg(test)]
mod tests;
