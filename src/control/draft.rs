//! Commands before `start`: they add to the file's plan, and nothing runs yet.

use std::sync::Arc;

use super::change::{Pipeline, Planned, given_up, no_thread, not_planned};
use super::complete::{Completion, complete};
use super::session::{Answer, Ticket};
use super::work::{Look, Work};
use crate::plan::surroundings::System;
use crate::plan::value::Action;
use crate::plan::{Plan, describe};
use tapline_api::request::Reply;
use tapline_lang::ast::{Command, Show};

/// A plan that is not started.
pub struct Draft {
    pipeline: Pipeline,
    plan: Plan,
    planning: Option<Work<Result<Planned, Reply>>>,
    is_quit: bool,
}

impl Draft {
    /// Begins with the plan of a file.
    pub fn new(pipeline: Pipeline, plan: Plan) -> Self {
        Self { pipeline, plan, planning: None, is_quit: false }
    }

    /// Returns whether `start` was said.
    pub fn is_started(&self) -> bool {
        self.plan.actions.contains(&Action::Start)
    }

    /// Returns whether `quit` was said.
    pub fn is_quit(&self) -> bool {
        self.is_quit
    }

    /// Takes the commands and their plan.
    pub fn into_parts(self) -> (Pipeline, Plan) {
        (self.pipeline, self.plan)
    }

    /// Says what may stand at the end of a line.
    pub fn complete(&self, line: &str) -> Completion {
        complete(line, self.pipeline.parsed(), &self.plan)
    }

    /// Reads a line. A further one is taken when this one is answered.
    pub fn handle(&mut self, line: Vec<u8>) -> Answer {
        let work = if super::names_a_file(&line) {
            let pipeline = self.pipeline.clone();
            Work::begin(move |progress| {
                pipeline.read_freely(&line, &System)?.plan(Arc::new(System), None, progress)
            })
        } else {
            let change = match self.pipeline.read_freely(&line, &System) {
                Ok(change) => change,
                Err(refusal) => return Answer::Now(refusal),
            };
            if let Some(reply) = change.alone().and_then(|command| self.carry_out(command)) {
                return Answer::Now(reply);
            }
            Work::begin(move |progress| change.plan(Arc::new(System), None, progress))
        };
        match work {
            Ok(work) => {
                self.planning = Some(work);
                Answer::Later(Ticket::default())
            }
            Err(error) => Answer::Now(no_thread(error)),
        }
    }

    /// Answers a command that leaves the plan as it is.
    fn carry_out(&mut self, command: &Command) -> Option<Reply> {
        Some(match command {
            Command::Quit => {
                self.is_quit = true;
                Reply::done("")
            }
            Command::Show(Show::Filters) => Reply::done(describe::filters(&self.plan)),
            Command::Show(Show::Plan) => Reply::done(describe::plan(&self.plan)),
            Command::Show(Show::Config) => Reply::done(tapline_lang::text(&self.pipeline.parsed().file)),
            Command::Show(_) => Reply::done("not started; `show plan` shows what would run\n"),
            Command::Stop | Command::ClearStats => Reply::done("not started\n"),
            _ => return None,
        })
    }

    /// Gives up the line that is planned.
    pub fn cancel(&mut self) -> Option<Reply> {
        self.planning.take().map(|_| given_up())
    }

    /// Looks whether the line is planned; the answer to it, and a line of a plan that takes long.
    pub fn tick(&mut self) -> (Option<Reply>, Option<String>) {
        let Some(work) = &mut self.planning else { return (None, None) };
        let result = match work.look() {
            Look::Waits(line) => return (None, line),
            Look::Done(result) => result,
        };
        self.planning = None;
        let reply = match result {
            Ok(Ok(Planned { parsed, plan, warnings, .. })) => {
                (self.pipeline, self.plan) = (Pipeline::new(parsed), plan);
                warnings
            }
            Ok(Err(refusal)) => refusal,
            Err(_) => not_planned(),
        };
        (Some(reply), None)
    }
}
