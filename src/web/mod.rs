//! The HTTP server: metrics, JSON and pages, answered by one thread from what the session publishes.
//!
//! The thread runs a single-threaded runtime, off the workers' CPUs. It owns no state of the broker: what is read is the last published
//! snapshot, and what is to be changed is asked of the session as the clients of the control socket ask. The session's side is `Web`,
//! which waits for nobody.
//! # Source
//! RFC 9110 (HTTP semantics), RFC 9112 (HTTP/1.1).

/// Who asks.
mod access;
/// Answers of the interface for programs.
mod api;
/// Changes that are asked of the session.
mod calls;
/// Connections, and what bounds them.
mod connection;
/// Keeps the recent past.
mod history;
/// The address, and who may listen there.
mod listen;
/// Numbers for Prometheus.
mod metrics;
/// Files for browsers.
mod pages;
/// Which request is answered by whom.
mod routes;
/// Holds what the session and the thread share.
mod shared;
/// Server-sent events.
mod stream;
/// The thread.
mod thread;
/// Certificates.
mod tls;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use listen::{Listening, Refused};

use crate::broker::start::placement::place;
use crate::control::bell::Bell;
use crate::control::help;
use crate::control::session::{Answer, Session, Ticket, WebPlace};
use crate::control::socket::rpc::Call;
use crate::plan::{Plan, Run, RunOptions};
use shared::{Asked, Question, Shared, Told};
use tapline_api::event::Event;
use tapline_api::request::{Reply, Request};
use tapline_kernel::machine::available_cpus;

/// Time between two published snapshots.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long requests are answered without a look at the rest of the broker.
const LIMIT: Duration = Duration::from_millis(2);
/// How long the end of the broker waits for the thread.
const END_LIMIT: Duration = Duration::from_millis(900);

/// Returns what is to be said of a plan whose workers leave no CPU for the server's thread; `None` where they do.
pub fn crowded(plan: &Plan, options: &RunOptions) -> Option<String> {
    // a plan that has no place is told of by itself
    let placement = place(Run { plan, options }).ok()?;
    let workers: Vec<u32> = placement.roles.lcores.iter().map(|lcore| lcore.0).collect();
    thread::Cpus::without(&workers, &available_cpus()).warning()
}

/// The HTTP server, from the session's side.
pub struct Web {
    shared: Arc<Shared>,
    asked: Receiver<Asked>,
    pending: HashMap<Ticket, oneshot::Sender<Told>>,
    /// When the next snapshot is due.
    next: Instant,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// Begins to serve a session whose workers have the lcores of its statistics.
    ///
    /// # Errors
    /// If there is no further thread, or no socket for it.
    pub fn begin(listening: Listening, session: &mut Session, bell: Bell) -> std::io::Result<Self> {
        let url = listening.url();
        let (ask, asked) = std::sync::mpsc::channel();
        let first = session.publish();
        let cpus = thread::Cpus::beside(&first, &listening.cpus);
        session.record(Event::HttpBegun { url: url.clone(), cpus: cpus.to_string() });
        session.has_web(WebPlace { url, cpus: cpus.to_string() });
        let shared = Arc::new(Shared::new(&listening, first, ask, bell));
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || thread::run(listening.listener, theirs, &cpus))?;
        Ok(Self { shared, asked, pending: HashMap::new(), next: Instant::now(), thread: Some(thread) })
    }

    /// Answers what was asked for, for a short time. Returns whether more may wait.
    pub fn serve(&mut self, session: &mut Session) -> bool {
        let until = Instant::now() + LIMIT;
        while let Ok(asked) = self.asked.try_recv() {
            self.handle(session, asked);
            if Instant::now() >= until {
                return true;
            }
        }
        false
    }

    fn handle(&mut self, session: &mut Session, asked: Asked) {
        let Asked { question, answer } = asked;
        let told = match question {
            Question::Note(event) => {
                session.record(event);
                return;
            }
            Question::Link(code) => Told::Link(session.take_link(&code).map(Box::new)),
            Question::Call(caller, call) => {
                let by = session.principal(&caller);
                let reply = match call {
                    Call::Session(Request::Line { text, is_dry_run }) => match help::own_answer(&text) {
                        Some(reply) => Answer::Now(reply),
                        None => session.handle(&by, Request::Line { text, is_dry_run }),
                    },
                    Call::Session(request) => session.handle(&by, request),
                    Call::Command(command) => session.command(&by, command),
                    Call::Hello(_) | Call::Subscribe(_) | Call::Web | Call::Exit => {
                        Answer::Now(Reply::refused("error: this is not asked for by HTTP\n"))
                    }
                };
                match reply {
                    Answer::Now(reply) => {
                        self.publish_now(session);
                        Told::Reply(reply)
                    }
                    Answer::Later(ticket) => {
                        self.pending.insert(ticket, answer);
                        return;
                    }
                }
            }
        };
        // whoever has gone away needs no answer
        let _ = answer.send(told);
    }

    /// Answers a request that was given a ticket, if it is one of ours.
    pub fn answer(&mut self, ticket: Ticket, reply: &Reply) {
        if let Some(answer) = self.pending.remove(&ticket) {
            let _ = answer.send(Told::Reply(reply.clone()));
        }
    }

    /// A request is answered under another ticket.
    pub fn rename(&mut self, old: Ticket, new: Ticket) {
        if let Some(waiting) = self.pending.remove(&old) {
            self.pending.insert(new, waiting);
        }
    }

    /// Publishes a snapshot if one is due, and the events that have happened.
    pub fn publish(&mut self, session: &mut Session) {
        self.shared.add_events(session.events(), session.name());
        if Instant::now() >= self.next {
            self.publish_now(session);
        }
    }

    /// Publishes a snapshot: a change is seen before its answer is sent.
    pub fn publish_now(&mut self, session: &mut Session) {
        self.next = Instant::now() + INTERVAL;
        self.shared.add_events(session.events(), session.name());
        self.shared.publish(session.publish());
    }

    /// Has streams and connections end.
    pub fn begin_end(&self) {
        self.shared.end();
    }

    /// Ends the thread, and waits for it, not for long.
    pub fn end(mut self) {
        self.begin_end();
        let Some(thread) = self.thread.take() else { return };
        let until = Instant::now() + END_LIMIT;
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        // one that hangs ends with the process
        if thread.is_finished() {
            drop(thread.join());
        }
    }
}
