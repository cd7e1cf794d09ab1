//! The control socket as a front end of the session: lines become requests, replies and events become lines.
//!
//! A client's requests are answered in their order, one after another; those of several clients by turns.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::help;
use super::lines::Line;
use super::session::{Answer, Session, Ticket};
use super::socket::rpc::{self, Call, Form, Subscribe, Topic};
use super::socket::{ClientId, Received, Socket};
use crate::report::recent::Mark;
use tapline_api::access::Principal;
use tapline_api::event::SCHEMA;
use tapline_api::request::{Reply, Request};

/// How long requests are answered without a look at the rest of the broker.
const LIMIT: Duration = Duration::from_millis(2);

/// The clients of a control socket, and what they wait for.
pub struct Server {
    socket: Socket,
    pending: HashMap<Ticket, (ClientId, Form)>,
    subscriptions: Vec<Subscription>,
}

/// A client's wish to be told something.
struct Subscription {
    client: ClientId,
    topic: Topic,
    interval: Duration,
    /// When statistics are due.
    next: Instant,
    /// When it was last told statistics.
    mark: Option<Mark>,
    /// The number of the last event that it was told.
    told: u64,
}

impl Server {
    pub fn new(socket: Socket) -> Self {
        Self { socket, pending: HashMap::new(), subscriptions: Vec::new() }
    }

    /// Answers what clients have asked for, for a short time. Returns whether more may wait.
    pub fn serve(&mut self, session: &mut Session) -> bool {
        let until = Instant::now() + LIMIT;
        loop {
            let received = self.socket.take();
            if received.is_empty() {
                return false;
            }
            for Received { client, line } in received {
                self.handle(session, client, line);
            }
            if Instant::now() >= until {
                return true;
            }
        }
    }

    fn handle(&mut self, session: &mut Session, client: ClientId, line: Line) {
        let Some(mut caller) = self.socket.caller(client) else { return };
        let Line::Whole(line) = line else {
            let most = super::socket::MOST_LINE_BYTES;
            let reply = Reply::refused(format!(
                "error: the line is longer than {most} bytes; the connection ends\n"
            ));
            self.socket.answer(client, rpc::reply(&Form::Text, &reply));
            return self.socket.close(client);
        };
        let (call, form) = match rpc::read(line) {
            Ok(read) => read,
            Err(wrong) => return self.socket.answer(client, wrong),
        };
        if let Call::Hello(Some(token)) = &call {
            match session.sign_in(&caller, token) {
                Ok(shown) => {
                    self.socket.sign_in(client, shown.clone());
                    caller.token = Some(shown);
                }
                Err(refusal) => return self.socket.answer(client, rpc::reply(&form, &refusal)),
            }
        }
        // anew for each request: what was taken back counts at once
        let principal = session.principal(&caller);
        match call {
            Call::Session(request) => {
                let own = match &request {
                    Request::Line { text, .. } => help::own_answer(text),
                    Request::Get { .. } | Request::Complete { .. } => None,
                };
                let answer = own.map_or_else(|| session.handle(&principal, request), Answer::Now);
                self.give(client, form, answer);
            }
            Call::Command(command) => {
                let answer = session.command(&principal, command);
                self.give(client, form, answer);
            }
            Call::Hello(_) => self.socket.answer(client, rpc::result(&form, hello(session, &principal))),
            Call::Subscribe(subscribe) => self.subscribe(session, client, &form, &subscribe),
            Call::Exit => {
                self.socket.answer(client, rpc::reply(&form, &Reply::done("")));
                self.socket.close(client);
            }
        }
    }

    /// Sends an answer, or waits for it.
    fn give(&mut self, client: ClientId, form: Form, answer: Answer) {
        match answer {
            Answer::Now(reply) => self.socket.answer(client, rpc::reply(&form, &reply)),
            Answer::Later(ticket) => {
                self.pending.insert(ticket, (client, form));
            }
        }
    }

    fn subscribe(&mut self, session: &Session, client: ClientId, form: &Form, subscribe: &Subscribe) {
        let interval = Duration::from_secs_f64(subscribe.interval);
        let told = subscribe.since.unwrap_or(session.events().last());
        self.subscriptions.retain(|known| (known.client, known.topic) != (client, subscribe.to));
        self.subscriptions.push(Subscription {
            client,
            topic: subscribe.to,
            interval,
            next: Instant::now(),
            mark: None,
            told,
        });
        self.socket.answer(client, rpc::result(form, json!({ "subscribed": subscribe.to, "since": told })));
    }

    /// Answers a request that was given a ticket, if it is one of ours.
    pub fn answer(&mut self, ticket: Ticket, reply: &Reply) {
        if let Some((client, form)) = self.pending.remove(&ticket) {
            self.socket.answer(client, rpc::reply(&form, reply));
        }
    }

    /// A request is answered under another ticket.
    pub fn rename(&mut self, old: Ticket, new: Ticket) {
        if let Some(waiting) = self.pending.remove(&old) {
            self.pending.insert(new, waiting);
        }
    }

    /// Tells subscribers what is due. Who reads too slowly gets the newest statistics alone, and is told how many events he has lost.
    pub fn publish(&mut self, session: &mut Session) {
        let socket = &self.socket;
        self.subscriptions.retain(|subscription| socket.is_there(subscription.client));
        let now = Instant::now();
        for subscription in &mut self.subscriptions {
            match subscription.topic {
                Topic::Stats if now >= subscription.next => {
                    // rates are of the time since this client was told: no two clients share a line
                    let (stats, snapshot) = session.stats_since(subscription.mark.as_ref());
                    if socket.send(subscription.client, rpc::notification("stats", &stats.to_string())) {
                        subscription.next = now + subscription.interval;
                        subscription.mark = Some(session.mark(&snapshot));
                    }
                }
                Topic::Stats => {}
                Topic::Events => tell_events(socket, session, subscription),
            }
        }
    }
}

/// Tells a subscriber the events that he has not been told. Those that are no longer kept are lost.
fn tell_events(socket: &Socket, session: &Session, subscription: &mut Subscription) {
    let last = session.events().last();
    if subscription.told >= last {
        return;
    }
    for event in session.events().since(subscription.told) {
        let lost = event.seq - subscription.told - 1;
        let mut text = String::new();
        if lost > 0 {
            text = rpc::notification("event", &json!({ "schema": SCHEMA, "lost": lost }).to_string());
        }
        // numbers, names and words always have a form
        let object = serde_json::to_string(&event.object_of(session.name())).unwrap_or_default();
        if !socket.send(subscription.client, text + &rpc::notification("event", &object)) {
            return;
        }
        subscription.told = event.seq;
    }
}

/// Says who answers, and who asks.
fn hello(session: &Session, principal: &Principal) -> serde_json::Value {
    json!({
        "schema": "tapline.hello/1",
        "broker": session.name(),
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": rpc::PROTOCOL,
        "pid": std::process::id(),
        "user": principal.user,
        "uid": principal.uid,
        "role": principal.role,
        "peek": principal.has_peek,
        "methods": rpc::METHODS,
    })
}
