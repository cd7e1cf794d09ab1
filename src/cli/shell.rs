//! The prompt of `tapline ctl`.

use std::io::BufRead;

use super::Status;
use super::ctl::Connection;

/// Sends the lines of standard input until it ends, or `exit`.
pub(super) fn run(broker: &mut Connection, is_json: bool) -> Result<Status, Status> {
    let mut status = Status::Done;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let text = line.trim();
        if text == "exit" {
            break;
        }
        if !text.is_empty() && !text.starts_with('#') {
            status = status.max(broker.send(&line, is_json)?);
        }
    }
    Ok(status)
}
