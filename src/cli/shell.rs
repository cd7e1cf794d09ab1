//! The prompt of `tapline ctl`.

use std::cell::RefCell;
use std::path::Path;

use serde_json::json;

use super::Status;
use super::ctl::Connection;
use super::editor::{self, Editor, Typed};
use super::output::tell_line;
use crate::control::complete::Completion;

/// Sends the lines that are typed until `exit` or Ctrl-D, or those of standard input where it is no terminal.
pub(super) fn run(broker: &mut Connection, is_json: bool) -> Result<Status, Status> {
    if !editor::is_possible() {
        return broker.send_file(Path::new("-"), is_json);
    }
    let broker = RefCell::new(broker);
    let editor = Editor::open(|line| complete(&mut broker.borrow_mut(), line));
    let mut editor = editor.map_err(|error| {
        tell_line(format_args!("error: there is no prompt on this terminal: {error}"));
        Status::Failed
    })?;
    loop {
        let line = match editor.read() {
            Typed::Line(line) => line,
            Typed::GivenUp => continue,
            Typed::End => return Ok(Status::Done),
        };
        match line.trim() {
            "" => {}
            "exit" => return Ok(Status::Done),
            // the broker closes the connection
            "quit" => return broker.borrow_mut().obey(&line, is_json),
            // a slip has been seen, and is forgotten
            _ => drop(broker.borrow_mut().obey(&line, is_json)?),
        }
    }
}

/// Asks the broker what may stand at the end of a line.
fn complete(broker: &mut Connection, line: &str) -> Completion {
    let answer = broker.call("complete", &json!({ "line": line })).ok();
    answer.and_then(|mut answer| serde_json::from_value(answer["result"].take()).ok()).unwrap_or_default()
}
