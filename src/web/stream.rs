//! Server-sent events: statistics once a second, events at once, until the client goes away or the broker ends.
//!
//! A message waits until the client has taken the one before it. Whoever reads too slowly gets the newest statistics alone, and is told
//! how many events are no longer kept.
//! # Source
//! HTML Living Standard, section 9.2 (server-sent events).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::{Body as HttpBody, Frame};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::api::{self, Wanted};
use super::routes::{Front, MOST_STREAMS, error};
use super::thread::{First, first_of};
use crate::control::published::Published;

/// The name and version of the form.
const SCHEMA: &str = "tapline.stream/1";
/// Rules up to which the statistics are streamed with them.
const MOST_RULES: usize = 1000;
/// How long a client waits before it comes back.
const RETRY: &str = "retry: 1000\n\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamWanted {
    since: Option<u64>,
}

pub(super) async fn stream(
    State(front): State<Front>,
    headers: HeaderMap,
    wanted: Wanted<StreamWanted>,
) -> Response {
    let Ok(axum::extract::Query(StreamWanted { since })) = wanted else {
        return error(StatusCode::BAD_REQUEST, "refused", "`since` is no number of an event");
    };
    let Ok(slot) = Arc::clone(&front.streams).try_acquire_owned() else {
        let message = format!("{MOST_STREAMS} streams are read already; try again later");
        return error(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
    };
    let last = front.shared.last_event();
    let came_back = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(|id| {
        let known = id.split_once('-').filter(|(boot, _)| *boot == front.shared.boot);
        // of another start all that is kept is new
        known.and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
    });
    let told = came_back.or(since).unwrap_or(last).min(last);
    let (sender, receiver) = channel(1);
    tokio::spawn(async move {
        // whoever goes away is told no more
        let _ = Teller { front, sender, told, plan: None }.tell().await;
        drop(slot);
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::new(Messages(receiver))).into_response()
}

/// The messages of a stream as they are made.
struct Messages(Receiver<Bytes>);

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|message| message.map(|message| Ok(Frame::data(message))))
    }
}

/// The client has gone away.
struct Gone;

/// Makes the messages of one stream.
struct Teller {
    front: Front,
    sender: Sender<Bytes>,
    /// The number of the last event that was told.
    told: u64,
    /// The last message about the plan.
    plan: Option<String>,
}

impl Teller {
    async fn tell(mut self) -> Result<(), Gone> {
        let shared = Arc::clone(&self.front.shared);
        let (mut snapshots, mut events, mut ending) =
            (shared.snapshots(), shared.new_events(), shared.ending());
        let hello = json!({
            "schema": SCHEMA, "broker": &*shared.last().broker, "boot": shared.boot,
            "version": env!("CARGO_PKG_VERSION"), "since": self.told,
        });
        self.send(format!("{RETRY}{}", self.message("hello", &hello.to_string()))).await?;
        snapshots.mark_changed();
        loop {
            if *ending.borrow_and_update() {
                return self.send(self.message("end", "{}")).await;
            }
            if *events.borrow_and_update() > self.told {
                for event in shared.events_since(self.told) {
                    self.told = event.seq;
                    self.send(self.message("event", &event.json)).await?;
                }
            }
            if snapshots.has_changed().unwrap_or(false) {
                let published = Arc::clone(&snapshots.borrow_and_update().1);
                self.tell_plan(&published).await?;
                self.send_bytes(self.stats(&published)).await?;
            }
            let something = first_of(snapshots.changed(), first_of(events.changed(), ending.changed()));
            match first_of(something, self.sender.closed()).await {
                First::This(First::This(_)) => snapshots.mark_changed(),
                First::This(First::That(First::This(_))) => events.mark_changed(),
                First::This(First::That(First::That(_))) => ending.mark_changed(),
                First::That(()) => return Err(Gone),
            }
        }
    }

    /// Tells which plan is in force and whether it waits to be confirmed, where that is news.
    async fn tell_plan(&mut self, published: &Published) -> Result<(), Gone> {
        let version = &published.version;
        let plan = json!({ "id": version.id, "sha256": version.hash, "confirm": api::confirm(published) })
            .to_string();
        if self.plan.as_ref() != Some(&plan) {
            self.send(self.message("plan", &plan)).await?;
            self.plan = Some(plan);
        }
        Ok(())
    }

    /// The statistics, which are put into words once for all streams. Their id is of an event that every stream of the snapshot knows.
    fn stats(&self, published: &Published) -> Bytes {
        let mut streamed = self.front.streamed.lock().unwrap_or_else(PoisonError::into_inner);
        match &*streamed {
            Some((seq, text)) if *seq == published.seq => text.clone(),
            _ => {
                let text = api::streamed(published, MOST_RULES);
                let text = Bytes::from(format!("event: stats\ndata: {text}\n\n"));
                *streamed = Some((published.seq, text.clone()));
                text
            }
        }
    }

    fn message(&self, event: &str, data: &str) -> String {
        format!("id: {}-{}\nevent: {event}\ndata: {data}\n\n", self.front.shared.boot, self.told)
    }

    async fn send(&self, text: String) -> Result<(), Gone> {
        self.send_bytes(text.into()).await
    }

    async fn send_bytes(&self, bytes: Bytes) -> Result<(), Gone> {
        self.sender.send(bytes).await.map_err(|_| Gone)
    }
}
