//! The control socket: a Unix stream socket on which any number of programs, up to 64, talk to the session.
//!
//! A line that begins with `{` is a JSON-RPC 2.0 request, any other line a command of the pipeline language; `rpc` has the forms. Each
//! client has a thread that reads it and one that writes to it, so a client that stands still keeps nobody waiting: it is read no
//! further once its requests wait, and served no further once its replies do.
//! # Source
//! unix(7); JSON-RPC 2.0 Specification (2013-01-04).

/// One program that is connected.
mod client;
/// The place in the file system.
mod place;
/// Requests and replies as lines.
pub mod rpc;

use std::collections::HashMap;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::access::Caller;
use super::bell::Bell;
use super::lines::Line;
use super::tokens::Shown;
use client::Client;
use place::Place;
use tapline_api::words::ErrorKind;
use tapline_kernel::peer::peer;
use tapline_kernel::process::user_name;

/// The longest line of a client.
pub const MOST_LINE_BYTES: usize = 1 << 20;

/// Programs that may be connected at once.
pub const MOST_CLIENTS: usize = 64;
/// Programs that went away before all that they had asked for was carried out.
const MOST_GONE: usize = 4 * MOST_CLIENTS;
/// Time between two tries to accept where the system has no file or no memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Names a client; no two of one broker have the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ClientId(u64);

/// A socket that is listened to. Its end takes it out of the file system and ends its clients.
pub struct Socket {
    /// Removes the socket when it is dropped.
    _place: Place,
    shared: Arc<Shared>,
}

struct Shared {
    clients: Mutex<HashMap<ClientId, Arc<Client>>>,
    next: AtomicU64,
    bell: Bell,
    is_ended: AtomicBool,
}

/// A line of a client, and who sent it.
pub struct Received {
    pub client: ClientId,
    pub line: Line,
}

impl Socket {
    /// Makes the socket at `path` and listens. The bell is rung when a client has said something.
    ///
    /// # Errors
    /// Another process listens there, or the socket cannot be made; nothing is left behind then.
    pub fn listen(path: &Path, bell: Bell) -> io::Result<Self> {
        let (place, listener) = Place::take(path)?;
        let shared = Arc::new(Shared {
            clients: Mutex::default(),
            next: AtomicU64::new(1),
            bell,
            is_ended: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("control".to_owned()).spawn(move || theirs.accept(&listener))?;
        Ok(Self { _place: place, shared })
    }

    /// Takes the next line of each client that has no request on its way.
    pub fn take(&self) -> Vec<Received> {
        let clients = self.shared.clients();
        let mut received: Vec<Received> = clients
            .iter()
            .filter_map(|(&client, connected)| Some(Received { client, line: connected.take()? }))
            .collect();
        // the same order however the map keeps them
        received.sort_unstable_by_key(|received| received.client);
        received
    }

    /// Returns who a client is; `None` where he has gone.
    pub fn caller(&self, client: ClientId) -> Option<Caller> {
        Some(self.shared.clients().get(&client)?.caller())
    }

    /// A client has shown a token.
    pub fn sign_in(&self, client: ClientId, token: Shown) {
        if let Some(client) = self.shared.clients().get(&client) {
            client.sign_in(token);
        }
    }

    /// Answers the request that a client has on its way: the next one may be taken.
    pub fn answer(&self, client: ClientId, text: String) {
        if let Some(client) = self.shared.clients().get(&client) {
            client.answer(text);
        }
    }

    /// Sends a client what it did not ask for just now. Returns whether there was room for it.
    pub fn send(&self, client: ClientId, text: String) -> bool {
        self.shared.clients().get(&client).is_some_and(|client| client.send(text))
    }

    /// Returns whether a client is still connected.
    pub fn is_there(&self, client: ClientId) -> bool {
        self.shared.clients().contains_key(&client)
    }

    /// Ends a client's connection once what waits for it is written.
    pub fn close(&self, client: ClientId) {
        if let Some(client) = self.shared.clients().remove(&client) {
            client.close();
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.shared.is_ended.store(true, Ordering::Relaxed);
        let clients = std::mem::take(&mut *self.shared.clients());
        for client in clients.values() {
            client.finish();
        }
    }
}

impl Shared {
    /// The map is whole between any two statements, so a panic elsewhere spoils nothing.
    fn clients(&self) -> MutexGuard<'_, HashMap<ClientId, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            if self.is_ended.load(Ordering::Relaxed) {
                return;
            }
            match stream {
                Ok(stream) => self.welcome(stream),
                // a client that went away at once is nobody's fault; for the rest there may be room in a while
                Err(_) => std::thread::sleep(ACCEPT_PAUSE),
            }
        }
    }

    fn welcome(self: &Arc<Self>, stream: UnixStream) {
        let (all, gone) = {
            let clients = self.clients();
            (clients.len(), clients.values().filter(|client| client.is_gone()).count())
        };
        if all - gone >= MOST_CLIENTS || gone >= MOST_GONE {
            let why = format!("{MOST_CLIENTS} clients are connected already; try again later");
            return client::turn_away(&stream, ErrorKind::Busy, &why);
        }
        let caller = match peer(&stream) {
            // looked up once: it may take its time
            Ok(peer) => Caller { user: user_name(peer.uid), peer, token: None },
            Err(error) => {
                let why = format!("who you are is not known: {error}");
                return client::turn_away(&stream, ErrorKind::Failed, &why);
            }
        };
        let id = ClientId(self.next.fetch_add(1, Ordering::Relaxed));
        // where there is no thread for it, it finds its connection closed
        let Ok((client, reader)) = Client::new(stream, caller) else { return };
        let client = Arc::new(client);
        self.clients().insert(id, Arc::clone(&client));
        let shared = Arc::clone(self);
        let read = std::thread::Builder::new().name("client".to_owned()).spawn(move || {
            client.read(reader, &shared.bell);
            shared.clients().remove(&id);
            shared.bell.ring();
        });
        if read.is_err() {
            self.clients().remove(&id);
        }
    }
}
