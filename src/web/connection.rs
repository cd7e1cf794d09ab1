//! Connections: how many there are, how long each may take, and what is served on them.
//!
//! Nothing of a client is waited for without a bound: headers have a size and a time, bodies too, and a client that takes nothing of its
//! answer is disconnected.
//! # Source
//! RFC 9112, section 9 (connection management).

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::routes::Routes;
use super::thread::{First, first_of};

/// Connections at a time.
pub(super) const MOST_CONNECTIONS: u32 = 32;
/// Bytes of a request's headers.
const MOST_HEADER_BYTES: usize = 64 << 10;
/// How long a client may take to send its headers, or to send another request.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// How long a client may take nothing of its answer.
const TAKE_LIMIT: Duration = Duration::from_secs(30);
/// Time between two tries to accept where the system has no file or no memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The answer to a client beyond the bound.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
Content-Type: application/json\r\nContent-Length: 85\r\n\r\n\
{\"error\":{\"kind\":\"busy\",\"message\":\"all 32 connections are taken; try again later\"}}\n\n";

/// The one at the other end, as far as the connection says.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The names of his certificate; empty where he has shown none.
    pub certificate: Vec<String>,
}

/// The connections that are served.
pub(super) struct Served(Arc<Semaphore>);

impl Served {
    /// Waits until all are gone.
    pub(super) async fn all_gone(self) {
        // the semaphore is never closed
        let _ = self.0.acquire_many(MOST_CONNECTIONS).await;
    }
}

/// Serves whoever connects, until the broker ends.
pub(super) async fn serve(listener: &TcpListener, routes: &Arc<Routes>) -> Served {
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS as usize));
    let mut ending = routes.shared.ending();
    loop {
        let accepted = match first_of(ended(&mut ending), listener.accept()).await {
            First::This(()) => return Served(slots),
            First::That(accepted) => accepted,
        };
        match accepted {
            Ok((stream, _)) => match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => drop(tokio::spawn(welcome(stream, Arc::clone(routes), slot))),
                // it has just connected, so its buffer is empty; whoever does not read this is closed all the same
                Err(_) => drop(stream.try_write(TURNED_AWAY)),
            },
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Waits until the broker ends.
async fn ended(ending: &mut watch::Receiver<bool>) {
    // its sender lives as long as the routes
    let _ = ending.wait_for(|is_ending| *is_ending).await;
}

async fn welcome(stream: TcpStream, routes: Arc<Routes>, slot: OwnedSemaphorePermit) {
    let shared = Arc::clone(&routes.shared);
    shared.add_connection();
    // answers are written whole; where the kernel refuses, they come a little later
    let _ = stream.set_nodelay(true);
    let stream = Patient::new(stream);
    match routes.tls() {
        None => answer(stream, Peer { certificate: Vec::new() }, routes).await,
        Some(tls) => {
            if let Ok(Ok((stream, certificate))) = timeout(HEADER_LIMIT, tls.accept(stream)).await {
                answer(stream, Peer { certificate }, routes).await;
            }
        }
    }
    shared.end_connection();
    drop(slot);
}

/// Answers the requests of a connection.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send, peer: Peer, routes: Arc<Routes>) {
    let mut ending = routes.shared.ending();
    let service = service_fn(move |request| {
        let (routes, peer) = (Arc::clone(&routes), peer.clone());
        async move { Ok::<_, Infallible>(routes.answer(&peer, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT).max_buf_size(MOST_HEADER_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    if let First::That(()) = first_of(connection.as_mut(), ended(&mut ending)).await {
        connection.as_mut().graceful_shutdown();
        // a client that goes away, or does not keep to the protocol, is nobody's fault
        let _ = connection.await;
    }
}

/// A stream that gives a client up which takes nothing for [`TAKE_LIMIT`].
pub(super) struct Patient<S> {
    stream: S,
    /// Runs while something waits to be taken.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S) -> Self {
        Self { stream, waits: None }
    }

    /// Passes on what came of a write, unless it has waited for too long.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + TAKE_LIMIT)));
        match waits.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(written, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_turned_away_gets_a_whole_answer() {
        let text = String::from_utf8(TURNED_AWAY.to_vec()).expect("text");
        let (headers, body) = text.split_once("\r\n\r\n").expect("headers");
        assert!(
            headers.contains(&format!("Content-Length: {}\r", body.len()))
                || headers.ends_with(&format!("Content-Length: {}", body.len()))
        );
        assert!(body.contains(&format!("all {MOST_CONNECTIONS} connections")));
        let body: serde_json::Value = serde_json::from_str(body).expect("an object");
        assert_eq!(body["error"]["kind"], "busy");
    }
}
