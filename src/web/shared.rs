//! The things that the session writes and the thread of the HTTP server reads, and the questions that go the other way.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::json;
use tokio::sync::{oneshot, watch};

use super::access::{SignIns, is_own_host};
use super::listen::Listening;
use super::tls::Acceptor;
use crate::control::access::Caller;
use crate::control::bell::Bell;
use crate::control::published::Published;
use crate::control::socket::rpc::Call;
use crate::plan::Plan;
use crate::report::events::Events;
use tapline_api::event::{Event, SCHEMA as EVENT_SCHEMA};
use tapline_api::request::Reply;
use tapline_api::words::Anonymous;
use tapline_dpdk::clock;

/// Events that are kept for those who come back.
const MOST_EVENTS: usize = 1024;

/// A question to the session.
pub(super) struct Asked {
    pub question: Question,
    pub answer: oneshot::Sender<Told>,
}

pub(super) enum Question {
    /// Whom the one-time link of this code was made for.
    Link(String),
    /// A method of the control socket.
    Call(Box<Caller>, Call),
    /// None: something has happened.
    Note(Event),
}

/// The answer of the session.
pub(super) enum Told {
    Link(Result<Box<Caller>, Reply>),
    Reply(Reply),
}

/// An event as programs read it.
#[derive(Clone)]
pub(super) struct EventText {
    pub seq: u64,
    pub json: Arc<str>,
}

/// The state that both threads know.
pub(super) struct Shared {
    /// Names the start of the broker: the numbers of events begin anew with each.
    pub boot: String,
    /// The port of the address, which the name of the cookie has.
    pub port: u16,
    address: IpAddr,
    tls: Mutex<Option<Acceptor>>,
    /// session: writes; thread: reads.
    published: watch::Sender<(Instant, Arc<Published>)>,
    events: Mutex<VecDeque<EventText>>,
    /// The number of the last event. session: writes; thread: reads.
    last_event: watch::Sender<u64>,
    /// session: writes; thread: reads.
    ending: watch::Sender<bool>,
    ask: Sender<Asked>,
    bell: Bell,
    pub sign_ins: Mutex<SignIns>,
    /// Connections that are taken. thread: writes and reads, so that no ordering is needed.
    connections: AtomicU32,
}

impl Shared {
    pub(super) fn new(listening: &Listening, first: Published, ask: Sender<Asked>, bell: Bell) -> Self {
        Self {
            boot: format!("{:x}", clock::now_ns() / 1_000_000),
            port: listening.address.port(),
            address: listening.address.ip(),
            tls: Mutex::new(listening.tls.clone()),
            published: watch::Sender::new((Instant::now(), Arc::new(first))),
            events: Mutex::default(),
            last_event: watch::Sender::new(0),
            ending: watch::Sender::new(false),
            ask,
            bell,
            sign_ins: Mutex::default(),
            connections: AtomicU32::new(0),
        }
    }

    /// session: gives readers another snapshot.
    pub(super) fn publish(&self, published: Published) {
        self.published.send_replace((Instant::now(), Arc::new(published)));
    }

    /// session: gives readers the events that they do not know.
    pub(super) fn add_events(&self, events: &Events, broker: &str) {
        let (known, last) = (*self.last_event.borrow(), events.last());
        if known == last {
            return;
        }
        let mut kept = self.events();
        for event in events.since(known) {
            // numbers, names and words always have a form
            let json = serde_json::to_string(&event.object_of(broker)).unwrap_or_default();
            if kept.len() == MOST_EVENTS {
                kept.pop_front();
            }
            kept.push_back(EventText { seq: event.seq, json: json.into() });
        }
        drop(kept);
        self.last_event.send_replace(last);
    }

    /// session: nobody is served any more.
    pub(super) fn end(&self) {
        self.ending.send_replace(true);
    }

    /// The list is whole between any two statements, so a panic elsewhere spoils nothing.
    fn events(&self) -> MutexGuard<'_, VecDeque<EventText>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As above.
    pub(super) fn sign_ins(&self) -> MutexGuard<'_, SignIns> {
        self.sign_ins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_connection(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns how many connections are taken.
    pub(super) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns the last snapshot.
    pub(super) fn last(&self) -> Arc<Published> {
        Arc::clone(&self.published.borrow().1)
    }

    /// Returns when the last snapshot was published.
    pub(super) fn last_time(&self) -> Instant {
        self.published.borrow().0
    }

    pub(super) fn snapshots(&self) -> watch::Receiver<(Instant, Arc<Published>)> {
        self.published.subscribe()
    }

    pub(super) fn new_events(&self) -> watch::Receiver<u64> {
        self.last_event.subscribe()
    }

    pub(super) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    pub(super) fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// Returns the number of the last event.
    pub(super) fn last_event(&self) -> u64 {
        *self.last_event.borrow()
    }

    /// Returns the events behind a number, as far as they are kept; before them what says how many are not.
    pub(super) fn events_since(&self, seq: u64) -> Vec<EventText> {
        let kept = self.events();
        let mut told = Vec::new();
        let mut next = seq.saturating_add(1);
        for event in kept.iter().filter(|event| event.seq > seq) {
            if event.seq > next {
                let lost = json!({ "schema": EVENT_SCHEMA, "lost": event.seq - next }).to_string();
                told.push(EventText { seq: event.seq - 1, json: lost.into() });
            }
            told.push(event.clone());
            next = event.seq + 1;
        }
        told
    }

    /// Returns what takes TLS connections, where the server has TLS.
    pub(super) fn tls(&self) -> Option<Acceptor> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// thread: reads the files of `set tls` again, where the server has TLS: connections from now on begin with what they have.
    pub(super) fn read_tls(&self, plan: &Plan) {
        let (Some(files), true) = (&plan.settings.tls, self.tls().is_some()) else { return };
        match Acceptor::load(files) {
            Ok(tls) => *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls),
            Err(error) => {
                let (answer, _) = oneshot::channel();
                // a session that has ended notes nothing
                let _ = self
                    .ask
                    .send(Asked { question: Question::Note(Event::HttpFilesFailed { error }), answer });
                self.bell.ring();
            }
        }
    }

    /// Returns the scheme of the server's addresses.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls().is_some() { "https" } else { "http" }
    }

    /// Returns whether a request for a host, and a port, is meant for this server.
    pub(super) fn hosts(&self, host: &str) -> bool {
        is_own_host(host, self.address) || self.tls().is_some_and(|tls| tls.is_for(host))
    }

    /// Returns whether answers may be read by whoever shows nothing; those of `/metrics` may be open while others are not.
    pub(super) fn is_open_to_all(&self, are_metrics: bool, plan: &Plan) -> bool {
        match plan.settings.web_anonymous {
            Some(Anonymous::Off) => false,
            Some(Anonymous::Metrics) => are_metrics,
            Some(Anonymous::On) | None => self.address.to_canonical().is_loopback(),
        }
    }

    /// Asks the session; `None` where it has ended.
    pub(super) async fn ask(&self, question: Question) -> Option<Told> {
        let (answer, told) = oneshot::channel();
        self.ask.send(Asked { question, answer }).ok()?;
        self.bell.ring();
        told.await.ok()
    }
}
