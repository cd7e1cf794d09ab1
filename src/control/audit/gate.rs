//! The gate of a change: it takes effect after its record is written, where that is required.

use super::{Asked, Audit, Pending, Written};
use tapline_api::access::Principal;
use tapline_api::request::Reply;

/// The record of a change on its way.
pub struct Gate {
    asked: Asked,
    stage: Stage,
    /// The number of the record of its being accepted.
    seq: Option<u64>,
}

enum Stage {
    /// Nothing is recorded.
    Shut,
    Waits(Pending),
    Open,
}

/// Says whether a change may take effect.
pub enum Passage {
    Waits,
    Free,
    Closed(Reply),
}

impl Gate {
    /// Begins with the hash of the plan in force.
    pub fn new(by: &Principal, command: Vec<u8>, before: &str) -> Self {
        let asked = Asked { by: by.clone(), command, before: before.to_owned(), after: None };
        Self { asked, stage: Stage::Shut, seq: None }
    }

    /// Records that the change is accepted, and looks whether it may take effect. `after` is the hash of the plan that it brings, where
    /// it brings one.
    pub fn pass(&mut self, audit: &mut Audit, after: Option<&str>, is_required: bool) -> Passage {
        if matches!(self.stage, Stage::Shut) {
            self.asked.after = after.map(str::to_owned);
            self.stage = audit.accept(&self.asked).map_or(Stage::Open, Stage::Waits);
        }
        let Stage::Waits(pending) = &self.stage else { return Passage::Free };
        let passage = match audit.look(pending) {
            Written::Waits if is_required => return Passage::Waits,
            Written::Done(seq) => {
                self.seq = Some(seq);
                Passage::Free
            }
            Written::Not(why) if is_required => Passage::Closed(Reply::failed(format!(
                "error: the audit log cannot be written, and nothing is changed without it: {why}\n"
            ))),
            // a gap is told of when the log can be written again
            Written::Waits | Written::Not(_) => Passage::Free,
        };
        self.stage = Stage::Open;
        passage
    }

    /// Records the answer, where it is a refusal or a failure.
    pub fn answered(&self, audit: &mut Audit, reply: &Reply) {
        audit.answered(&self.asked, self.seq, reply);
    }
}
