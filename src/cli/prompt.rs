//! Standard input as a front end of the session: a script, or a terminal with or without an editor.

use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::Status;
use super::editor::{self, Editor, PROMPT, Typed};
use super::output::{self, has_room, print, tell, tell_line};
use super::signals::Signals;
use crate::control::bell::Bell;
use crate::control::complete::Completion;
use crate::control::draft::Draft;
use crate::control::help::{self, TAKE_BACK};
use crate::control::lines::{Line, Lines, MOST_BYTES};
use crate::control::session::{Answer, Ticket};
use tapline_api::access::Principal;
use tapline_api::request::Reply;
use tapline_api::words::ErrorKind;
use tapline_fault as fault;
use tapline_kernel::process;

/// How often commands before `start` are looked for.
const TICK: Duration = Duration::from_millis(5);
/// How long the editor waits for the words that complete a line.
const COMPLETION_LIMIT: Duration = Duration::from_millis(200);
/// A line that takes longer may be taken back: the prompt comes before its answer.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long the prompt waits for what is to stand above it.
const FLUSH_LIMIT: Duration = Duration::from_millis(100);

/// Standard input, as a front end of the session.
pub(super) struct Prompt {
    lines: Lines,
    pub(super) principal: Principal,
    /// The line that is not answered yet.
    pub(super) waits_for: Option<Ticket>,
    /// When the last line was taken.
    taken: Instant,
    /// The user may type.
    is_shown: bool,
    /// The worst that came of a script's lines.
    worst: Status,
    front: Front,
}

/// The source of lines.
enum Front {
    Script,
    /// A terminal that cannot be edited on.
    Plain,
    Edited(Desk),
}

/// The thread that edits lines: it reads one when it is its turn.
struct Desk {
    turns: SyncSender<()>,
    questions: Receiver<Question>,
}

/// This is what may stand at the end of a line that is being typed.
struct Question {
    line: String,
    answer: SyncSender<Completion>,
}

impl Prompt {
    pub(super) fn new(bell: Bell) -> std::io::Result<Self> {
        if fault::strikes("start.prompt") {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let (front, lines) = if editor::is_possible() {
            let (desk, lines) = Desk::open(bell)?;
            (Front::Edited(desk), lines)
        } else {
            let is_terminal = std::io::stdin().is_terminal();
            (if is_terminal { Front::Plain } else { Front::Script }, Lines::of(std::io::stdin(), bell)?)
        };
        Ok(Self {
            lines,
            principal: Principal::at_prompt(process::own_uid()),
            waits_for: None,
            taken: Instant::now(),
            is_shown: false,
            worst: Status::Done,
            front,
        })
    }

    /// Lets the user type, unless he may already.
    pub(super) fn show(&mut self) {
        if std::mem::replace(&mut self.is_shown, true) {
            return;
        }
        match &self.front {
            Front::Script => {}
            Front::Plain => tell(PROMPT),
            // the thread has ended where it takes no turn; the end of the lines says so
            Front::Edited(desk) => drop(desk.turns.try_send(())),
        }
    }

    /// Takes the next line.
    pub(super) fn take(&mut self) -> Result<Line, TryRecvError> {
        let line = self.lines.take()?;
        (self.taken, self.is_shown) = (Instant::now(), false);
        Ok(line)
    }

    /// Returns whether the user takes back the line that is not answered yet.
    pub(super) fn is_taken_back(&mut self) -> bool {
        let is_taken_back = self.waits_for.is_some() && self.lines.take_if(TAKE_BACK.as_bytes());
        // the line is one that was typed
        self.is_shown &= !is_taken_back;
        is_taken_back
    }

    /// Lets the user take back a line that takes long.
    pub(super) fn look(&mut self) {
        if matches!(self.front, Front::Edited(_))
            && self.waits_for.is_some()
            && self.taken.elapsed() > PATIENCE
        {
            self.show();
        }
    }

    /// Answers what the editor asks.
    pub(super) fn complete(&self, complete: impl Fn(&str) -> Completion) {
        if let Front::Edited(desk) = &self.front {
            for Question { line, answer } in desk.questions.try_iter() {
                // an editor that has given up takes no answer
                let _ = answer.try_send(complete(&line));
            }
        }
    }

    /// The line is answered under another ticket.
    pub(super) fn rename(&mut self, old: Ticket, new: Ticket) {
        if self.waits_for == Some(old) {
            self.waits_for = Some(new);
        }
    }

    /// Takes note of the answer to a line. A change that the script itself took back has not failed.
    pub(super) fn note(&mut self, reply: &Reply) {
        if reply.error != Some(ErrorKind::Cancelled) {
            self.worst = self.worst.max(reply.status());
        }
    }

    /// Returns the exit status that the lines of a script lead to. At a terminal a slip has been seen, and is forgotten.
    pub(super) fn status(&self) -> Status {
        if matches!(self.front, Front::Script) { self.worst } else { Status::Done }
    }

    /// Refuses a line that is too long.
    pub(super) fn too_long() -> Reply {
        Reply::refused(format!("error: the line is longer than {MOST_BYTES} bytes; it was passed over\n"))
    }

    /// Takes commands that add to the file's plan, until `start`. An `Err` ends the command: `quit`, a signal or the end of the input came first.
    pub(super) fn until_start(&mut self, draft: &mut Draft, signals: &Signals) -> Result<(), Status> {
        if draft.is_started() {
            return Ok(());
        }
        self.show();
        while !signals.is_ended() && !draft.is_quit() && !draft.is_started() {
            signals.alive();
            self.look();
            self.complete(|line| draft.complete(line));
            let (reply, line) = draft.tick();
            line.iter().for_each(tell_line);
            let is_taken_back = self.is_taken_back();
            if let Some(reply) = reply.or_else(|| is_taken_back.then(|| draft.cancel()).flatten()) {
                self.waits_for = None;
                self.answer_draft(draft, &reply);
                continue;
            }
            if self.waits_for.is_some() || !has_room() {
                std::thread::sleep(TICK);
                continue;
            }
            match self.take() {
                Ok(Line::TooLong) => self.answer_draft(draft, &Self::too_long()),
                Ok(Line::Whole(line)) if is_exit(&line) => return Err(self.status()),
                Ok(Line::Whole(line)) => match help::own_answer(&line) {
                    Some(reply) => self.answer_draft(draft, &reply),
                    None => match draft.handle(line) {
                        Answer::Now(reply) => self.answer_draft(draft, &reply),
                        Answer::Later(ticket) => self.waits_for = Some(ticket),
                    },
                },
                Err(TryRecvError::Empty) => std::thread::sleep(TICK),
                Err(TryRecvError::Disconnected) => return Err(self.status()),
            }
        }
        if draft.is_started() { Ok(()) } else { Err(self.status()) }
    }

    /// Prints the answer to a line before `start`.
    fn answer_draft(&mut self, draft: &Draft, reply: &Reply) {
        self.note(reply);
        print(&reply.result);
        tell(&reply.remarks);
        if !draft.is_started() && !draft.is_quit() {
            self.show();
        }
    }
}

/// Returns whether a line leaves the prompt.
pub(super) fn is_exit(line: &[u8]) -> bool {
    line.trim_ascii() == b"exit"
}

impl Drop for Prompt {
    fn drop(&mut self) {
        if let Front::Edited(_) = self.front {
            output::flush(FLUSH_LIMIT);
            output::restore_terminal();
        }
    }
}

impl Desk {
    /// Begins to edit on a thread of its own.
    fn open(bell: Bell) -> std::io::Result<(Self, Lines)> {
        let (turns, turn) = sync_channel(1);
        let (asking, questions) = sync_channel(1);
        let rung = bell.clone();
        let mut editor =
            Editor::open(move |line| ask(&asking, &rung, line)).map_err(std::io::Error::other)?;
        editor.share_screen().map_err(std::io::Error::other)?;
        let lines = Lines::by(move || next_line(&turn, &mut editor), bell)?;
        Ok((Self { turns, questions }, lines))
    }
}

/// Waits for its turn, and reads a line.
fn next_line<C: Fn(&str) -> Completion>(turn: &Receiver<()>, editor: &mut Editor<C>) -> Option<Line> {
    turn.recv().ok()?;
    output::flush(FLUSH_LIMIT);
    loop {
        match editor.read() {
            Typed::Line(line) if line.len() > MOST_BYTES => return Some(Line::TooLong),
            Typed::Line(line) => return Some(Line::Whole(line.into_bytes())),
            Typed::GivenUp => tell_line("the line was given up; `quit` ends the broker"),
            Typed::End => return None,
        }
    }
}

/// Asks the session for what completes a line; nothing where it is busy.
fn ask(asking: &SyncSender<Question>, bell: &Bell, line: &str) -> Completion {
    let (answer, answered) = sync_channel(1);
    let nothing = Completion { start: line.len(), candidates: Vec::new() };
    if asking.try_send(Question { line: line.to_owned(), answer }).is_err() {
        return nothing;
    }
    bell.ring();
    answered.recv_timeout(COMPLETION_LIMIT).unwrap_or(nothing)
}
