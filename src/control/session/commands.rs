//! Commands to the broker itself: reloads and rollbacks, tokens, the files of the history.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::{Answer, Session, Ticket};
use crate::control::change::{Order, What, forbidden, is_recorded, no_thread};
use crate::control::compare::Comparing;
use crate::control::files::{self, Save};
use crate::control::history::lines_that_differ;
use crate::control::reload::{Cause, Origin, with_comparison};
use crate::control::work::Work;
use crate::plan::surroundings::System;
use crate::report::log::rfc3339;
use tapline_api::access::Principal;
use tapline_api::request::Reply;
use tapline_api::words::ErrorKind;
use tapline_dpdk::clock;
use tapline_lang::ast::session::{Reload, SessionCommand, TokenCommand};
use tapline_lang::files::Files;

impl Session {
    /// Answers a command to the broker itself that came in another form than a line, as the line that says the same.
    pub fn command(&mut self, by: &Principal, command: SessionCommand) -> Answer {
        let (line, needed) = (command.to_string().into_bytes(), tapline_lang::role_of(&command));
        if needed > by.role {
            return Answer::Now(self.refuse(by, line, needed, forbidden(needed, by)));
        }
        self.obey_recorded(by, command, (line, false))
    }

    /// Carries out a command to the broker itself, after its record is written, where it has one; `typed` is the line that says it, and
    /// whether it is a dry run.
    pub(super) fn obey_recorded(
        &mut self,
        by: &Principal,
        command: SessionCommand,
        typed: (Vec<u8>, bool),
    ) -> Answer {
        let (line, is_dry_run) = typed;
        if self.audit.is_on() && is_recorded(&command) {
            let what = What::Session { line, command };
            let files = self.files_of(by);
            return self.submit(
                Cause::Orders,
                Order { what, by: by.clone(), files, is_dry_run, may_interrupt: false, must_be: None },
            );
        }
        self.obey(by, command, is_dry_run)
    }

    /// Carries out a command to the broker itself.
    pub(super) fn obey(&mut self, by: &Principal, command: SessionCommand, is_dry_run: bool) -> Answer {
        let reply = match command {
            SessionCommand::Reload(reload) => return self.reload(by, reload, is_dry_run),
            SessionCommand::Rollback(id) => return self.roll_back(by, id, is_dry_run),
            SessionCommand::Save(path) => return self.save(by, path.map(PathBuf::from), is_dry_run),
            SessionCommand::Confirm(id) => {
                let (ticket, reply) = (self.ticket(), self.versions.confirm(id, is_dry_run));
                return match self.hold(ticket, reply) {
                    Some(reply) => Answer::Now(reply),
                    None => Answer::Later(ticket),
                };
            }
            SessionCommand::Reopen if is_dry_run => {
                Reply::done("the file of statistics would be opened anew\n")
            }
            SessionCommand::Reopen => {
                self.is_reopen_asked = true;
                Reply::done("")
            }
            SessionCommand::ShowHistory => Reply::done(self.versions.history().list(rfc3339)),
            SessionCommand::ShowDrift => {
                let drift = self.versions.history().drift();
                Reply::done(if drift.is_empty() {
                    "nothing was changed since the file was loaded\n".to_owned()
                } else {
                    drift
                })
            }
            SessionCommand::ShowDiff { old, new } => self.show_diff(old, new),
            SessionCommand::Token(TokenCommand::List) => Reply::done(self.tokens().list(clock::now_ns())),
            SessionCommand::Token(_) if is_dry_run => Reply::done(""),
            SessionCommand::Token(command) => return self.change_tokens(command),
        };
        Answer::Now(reply)
    }

    fn show_diff(&self, old: u32, new: u32) -> Reply {
        let version = |id| self.versions.target(Some(id));
        match (version(old), version(new)) {
            (Ok(old), Ok(new)) => Reply::done(lines_that_differ(&old.text, &new.text)),
            (Err(reply), _) | (_, Err(reply)) => reply,
        }
    }

    /// Puts a whole file in the place of the running plan.
    pub fn reload(&mut self, by: &Principal, reload: Reload, is_dry_run: bool) -> Answer {
        let named = reload.file.as_ref().map(PathBuf::from);
        let Some(path) = named.or_else(|| self.origin.path.clone()) else {
            let text = "error: this broker has read its pipeline from a pipe, which cannot be read again; name a file\n";
            return Answer::Now(Reply::failed(text));
        };
        if reload.guard.is_some() && reload.confirm.is_none() {
            let text = "error: `guard` needs `confirm DURATION`: it goes back within that time\n";
            return Answer::Now(Reply::refused(text));
        }
        let is_dry_run = is_dry_run || reload.is_dry_run;
        if reload.capture.is_some() && !is_dry_run {
            let text =
                "error: `-r` needs `dry-run`: it compares packets by both plans, and changes nothing\n";
            return Answer::Now(Reply::refused(text));
        }
        let Origin { sets, outputs, .. } = self.origin.clone();
        let what = What::File { path: path.clone(), sets, outputs };
        let (files, may_interrupt) = (self.files_of(by), reload.may_interrupt);
        self.submit(
            Cause::Reload { path, reload },
            Order { what, by: by.clone(), files, is_dry_run, may_interrupt, must_be: None },
        )
    }

    /// Gives the files that somebody may name.
    pub(super) fn files_of(&self, by: &Principal) -> Arc<dyn Files> {
        files::of(by, self.folder.as_ref(), self.broker.plan())
    }

    fn roll_back(&mut self, by: &Principal, id: Option<u32>, is_dry_run: bool) -> Answer {
        match self.rollback_of(id, "asked for") {
            Ok((cause, what)) => {
                // whoever goes back wants what there was, with all files that it names
                let (by, files) = (by.clone(), Arc::new(System));
                let order = Order { what, by, files, is_dry_run, may_interrupt: true, must_be: None };
                self.submit(cause, order)
            }
            Err(reply) => Answer::Now(reply),
        }
    }

    pub(super) fn rollback_of(&self, id: Option<u32>, why: &str) -> Result<(Cause, What), Reply> {
        let version = self.versions.target(id)?;
        let name = format!("plan {}", version.id);
        let what = What::Text { name, text: version.text.clone(), outputs: self.origin.outputs.clone() };
        Ok((Cause::Rollback { to: version.id, why: why.to_owned() }, what))
    }

    /// Makes a token or takes one back, by a thread that may wait for a disk.
    fn change_tokens(&mut self, command: TokenCommand) -> Answer {
        if self.errands.iter().any(|(ticket, _)| Some(*ticket) == self.token_errand) {
            let text = "error: another token is being written; try again\n";
            return Answer::Now(Reply::error(ErrorKind::Busy, text));
        }
        let mut tokens = self.tokens().clone();
        let reply = match tokens.obey(command, clock::now_ns()) {
            Ok(text) => Reply::done(text),
            Err(why) => return Answer::Now(Reply::failed(format!("error: {why}\n"))),
        };
        let shared = Arc::clone(&self.tokens);
        let written = Work::begin(move |_| {
            if let Err(error) = tokens.write() {
                return Reply::failed(format!(
                    "error: the tokens cannot be kept: {error}; they stay as they are\n"
                ));
            }
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = tokens;
            reply
        });
        match written {
            Ok(work) => {
                let ticket = self.ticket();
                self.errands.push((ticket, work));
                self.token_errand = Some(ticket);
                Answer::Later(ticket)
            }
            Err(error) => Answer::Now(no_thread(error)),
        }
    }

    /// Lets a process compare the packets of a capture by the plan in force and by the one of `text`, and adds what it says to the answer to
    /// a dry run. Gives the answer if there is no thread for it.
    pub(super) fn compare(
        &mut self,
        (ticket, by): (Ticket, &Principal),
        capture: PathBuf,
        text: String,
        reply: Reply,
    ) -> Option<Reply> {
        let history = self.versions.history();
        let (old, id) = (history.current(), history.next());
        let comparing = Comparing {
            old: (format!("plan {}", old.id), old.text.clone()),
            new: (format!("plan {id}"), text),
            capture,
            files: self.files_of(by),
        };
        match Work::begin(move |progress| with_comparison(reply, comparing.run(progress))) {
            Ok(work) => {
                self.errands.push((ticket, work));
                None
            }
            Err(error) => Some(no_thread(error)),
        }
    }

    /// Writes the commands in force to a file, by a thread that nobody waits for.
    fn save(&mut self, by: &Principal, path: Option<PathBuf>, is_dry_run: bool) -> Answer {
        let Some(path) = path.or_else(|| self.origin.path.clone()) else {
            return Answer::Now(Reply::failed("error: this broker has no file of its own; name one\n"));
        };
        let text = self.versions.history().current().text.clone();
        if is_dry_run {
            let (path, count) = (path.display(), text.lines().count());
            return Answer::Now(Reply::done(format!("{path}: {count} commands would be written\n")));
        }
        let (files, running) = (self.files_of(by), Arc::clone(self.broker.plan()));
        let save = Save { path, text, files, running, own: self.origin.path.clone() };
        let written = Work::begin(move |_| save.write());
        match written {
            Ok(work) => {
                let ticket = self.ticket();
                self.errands.push((ticket, work));
                Answer::Later(ticket)
            }
            Err(error) => Answer::Now(no_thread(error)),
        }
    }
}
