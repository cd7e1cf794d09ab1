//! A program that is connected to the control socket.

use std::collections::VecDeque;
use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::access::Caller;
use super::super::bell::Bell;
use super::super::lines::{Excess, Line, next_line};
use super::super::outlet::Outlet;
use super::super::tokens::Shown;
use super::MOST_LINE_BYTES;
use super::rpc::{self, Form};
use serde_json::Value;
use tapline_api::request::Reply;
use tapline_api::words::ErrorKind;

/// Lines that wait to be answered.
const MOST_WAITING: usize = 8;
/// Bytes of lines that wait, beside one line that waits alone.
const MOST_WAITING_BYTES: usize = 1 << 20;
/// Bytes of replies that wait to be read by the client.
const MOST_UNREAD_BYTES: usize = 1 << 20;
/// How long the end of the broker waits for a client to read its last reply.
const FINISH_LIMIT: Duration = Duration::from_millis(200);

/// A client, as the session sees it.
pub(super) struct Client {
    caller: Mutex<Caller>,
    stream: UnixStream,
    outlet: Outlet,
    inbox: Mutex<Inbox>,
    /// There is room in the inbox.
    taken: Condvar,
}

#[derive(Default)]
struct Inbox {
    lines: VecDeque<Line>,
    bytes: usize,
    /// A request was taken and is not answered.
    is_asking: bool,
    is_closed: bool,
}

/// Closes a connection that is not taken, with an error that says why. It answers no request, so its id is null.
pub(super) fn turn_away(mut stream: &UnixStream, kind: ErrorKind, why: &str) {
    let reply = Reply::error(kind, format!("error: {why}\n"));
    // it has just connected, so its buffer is empty; whoever does not read this is closed all the same
    let _ = stream.write_all(rpc::reply(&Form::Json(Value::Null), &reply).as_bytes());
}

impl Client {
    /// Begins to write to a client. Gives what is to be read by [`read`](Self::read), too.
    pub(super) fn new(stream: UnixStream, caller: Caller) -> io::Result<(Self, UnixStream)> {
        let (reader, writer) = (stream.try_clone()?, stream.try_clone()?);
        let outlet = Outlet::to(MOST_UNREAD_BYTES, move || Ok(writer), |_| None)?;
        let (inbox, taken) = (Mutex::default(), Condvar::new());
        Ok((Self { caller: Mutex::new(caller), stream, outlet, inbox, taken }, reader))
    }

    /// Returns whether it reads no answers any more: what it has asked for is carried out, and nobody waits for it.
    pub(super) fn is_gone(&self) -> bool {
        self.outlet.has_failed()
    }

    pub(super) fn caller(&self) -> Caller {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// He has shown a token.
    pub(super) fn sign_in(&self, token: Shown) {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner).token = Some(token);
    }

    /// The inbox is whole between any two statements, so a panic elsewhere spoils nothing.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads lines until the client goes away, and waits where too many are not answered. A line that is too long is the last.
    pub(super) fn read(&self, stream: UnixStream, bell: &Bell) {
        let mut stream = BufReader::new(stream);
        while let Ok(Some(line)) = next_line(&mut stream, MOST_LINE_BYTES, Excess::Stop) {
            let is_last = line == Line::TooLong;
            let bytes = size(&line);
            let mut inbox = self.inbox();
            while !inbox.is_closed
                && !inbox.lines.is_empty()
                && (inbox.lines.len() >= MOST_WAITING || inbox.bytes + bytes > MOST_WAITING_BYTES)
            {
                inbox = self.taken.wait(inbox).unwrap_or_else(PoisonError::into_inner);
            }
            if inbox.is_closed {
                break;
            }
            inbox.bytes += bytes;
            inbox.lines.push_back(line);
            drop(inbox);
            bell.ring();
            if is_last {
                break;
            }
        }
        // what it asked for is answered, where it reads the answers
        let mut inbox = self.inbox();
        while !inbox.is_closed && (inbox.is_asking || !inbox.lines.is_empty()) {
            inbox = self.taken.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        self.outlet.close();
    }

    /// Takes the next line, if nothing is on its way and the answer will have room.
    pub(super) fn take(&self) -> Option<Line> {
        let mut inbox = self.inbox();
        if inbox.is_asking || !self.outlet.has_room() {
            return None;
        }
        let line = inbox.lines.pop_front()?;
        inbox.bytes -= size(&line);
        inbox.is_asking = true;
        self.taken.notify_all();
        Some(line)
    }

    /// Sends the answer to the line that was taken last.
    pub(super) fn answer(&self, text: String) {
        if !text.is_empty() {
            self.outlet.push(text);
        }
        self.inbox().is_asking = false;
        self.taken.notify_all();
    }

    /// Sends what was not asked for just now. Returns whether there was room.
    pub(super) fn send(&self, text: String) -> bool {
        self.outlet.has_room() && self.outlet.push(text)
    }

    /// Ends the connection once what waits is written.
    pub(super) fn close(&self) {
        self.inbox().is_closed = true;
        self.taken.notify_all();
        self.outlet.close();
        // what it says now is not read; its reader comes back, and the writer ends with what it has
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Ends the connection with the broker, which does not wait for long.
    pub(super) fn finish(&self) {
        self.outlet.flush(FINISH_LIMIT);
        self.close();
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn size(line: &Line) -> usize {
    match line {
        Line::Whole(bytes) => bytes.len(),
        Line::TooLong => 0,
    }
}
