//! Which request is answered by whom, and what every request has to be like before anybody looks at it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::access::{Asker, Shows, host_of, is_same_origin};
use super::connection::Peer;
use super::history::History;
use super::shared::Shared;
use super::{api, calls, metrics, pages, stream};
use crate::control::published::Published;

/// Streams at a time: connections are left for everybody else.
pub(super) const MOST_STREAMS: usize = 24;
/// How long an answer may take; one of the session waits for the change that was asked for.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);

/// The routes, and what their answers are made of.
pub(super) struct Routes {
    pub shared: Arc<Shared>,
    router: TowerToHyperService<Router>,
    front: Front,
}

/// The things that answers are made of.
#[derive(Clone)]
pub(super) struct Front {
    pub shared: Arc<Shared>,
    pub history: Arc<Mutex<History>>,
    pub streams: Arc<Semaphore>,
    /// The statistics of a number as they are streamed, for all who read them.
    pub streamed: Arc<Mutex<Option<(u64, Bytes)>>>,
    /// The version of DPDK.
    pub dpdk: Arc<str>,
}

impl Front {
    pub(super) fn last(&self) -> Arc<Published> {
        self.shared.last()
    }
}

impl Routes {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let front = Front {
            shared: Arc::clone(&shared),
            history: Arc::default(),
            streams: Arc::new(Semaphore::new(MOST_STREAMS)),
            streamed: Arc::default(),
            dpdk: tapline_dpdk::version().into(),
        };
        let router = TowerToHyperService::new(router(front.clone()));
        Self { shared, router, front }
    }

    /// Notes every snapshot in the history, and reads files again with every change of the plan.
    pub(super) fn remember(&self) -> impl Future<Output = ()> + Send + use<> {
        let (mut snapshots, history) = (self.shared.snapshots(), Arc::clone(&self.front.history));
        let shared = Arc::clone(&self.shared);
        async move {
            let mut plan = Arc::clone(&shared.last().plan);
            loop {
                let published = Arc::clone(&snapshots.borrow_and_update().1);
                if !Arc::ptr_eq(&plan, &published.plan) {
                    plan = Arc::clone(&published.plan);
                    shared.read_tls(&plan);
                }
                history.lock().unwrap_or_else(PoisonError::into_inner).note(&published.counted);
                if snapshots.changed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Answers a request.
    pub(super) async fn answer(&self, peer: &Peer, request: hyper::Request<Incoming>) -> Response {
        let mut request = request.map(Body::new);
        let asker = match self.judge(peer, &request) {
            Ok(asker) => asker,
            Err(refusal) => return with_headers(refusal),
        };
        request.extensions_mut().insert(asker);
        let answer = timeout(ANSWER_LIMIT, self.router.call(request)).await;
        with_headers(match answer {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => error(StatusCode::SERVICE_UNAVAILABLE, "busy", "the broker took too long to answer"),
        })
    }

    /// Finds out who asks, and whether he may ask for that.
    #[expect(clippy::result_large_err, reason = "an answer is made once a request")]
    fn judge(&self, peer: &Peer, request: &Request) -> Result<Asker, Response> {
        let path = request.uri().path();
        let Some(host) = host_of(request.uri(), request.headers()) else {
            return Err(error(StatusCode::BAD_REQUEST, "refused", "the request has no `Host`"));
        };
        if !self.shared.hosts(host) {
            let message = format!("this server is not `{}`", shown(host));
            return Err(error(StatusCode::MISDIRECTED_REQUEST, "misdirected", message));
        }
        let Ok(asker) = Asker::of(request.headers(), peer, &self.shared) else {
            let message = "the token is wrong, was taken back, or is over";
            return Err(unauthorized(message));
        };
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if is_read {
            if asker.shows == Shows::Nothing && !self.is_open(path) {
                return Err(unauthorized("sign in (tapline ctl web), or show a token"));
            }
            return Ok(asker);
        }
        match is_same_origin(request.headers(), self.shared.scheme(), host) {
            Some(true) => {}
            Some(false) => {
                return Err(error(
                    StatusCode::FORBIDDEN,
                    "forbidden",
                    "the request comes from another origin",
                ));
            }
            None if matches!(asker.shows, Shows::Token | Shows::Certificate) => {}
            None => {
                let message = "a POST without `Origin` needs a token or a client certificate";
                return Err(error(StatusCode::FORBIDDEN, "forbidden", message));
            }
        }
        if asker.shows == Shows::Nothing && path != pages::SIGN_IN {
            return Err(unauthorized("sign in (tapline ctl web), or show a token"));
        }
        Ok(asker)
    }

    /// Returns whether a path may be read by whoever shows nothing.
    fn is_open(&self, path: &str) -> bool {
        let is_answer = path == "/metrics" || path.starts_with("/api/");
        !is_answer || self.shared.is_open_to_all(path == "/metrics", &self.shared.last().plan)
    }

    /// Returns what takes TLS connections, where the server has TLS.
    pub(super) fn tls(&self) -> Option<super::tls::Acceptor> {
        self.shared.tls()
    }
}

fn router(front: Front) -> Router {
    let reads = Router::new()
        .route("/stats", get(api::stats))
        .route("/ports", get(|front: State<Front>| api::part(front, "ports")))
        .route("/tools", get(|front: State<Front>| api::part(front, "tools")))
        .route("/groups", get(|front: State<Front>| api::part(front, "groups")))
        .route("/wires", get(|front: State<Front>| api::part(front, "wires")))
        .route("/lcores", get(|front: State<Front>| api::part(front, "lcores")))
        .route("/rules", get(api::rules))
        .route("/plan", get(api::plan))
        .route("/graph", get(api::graph))
        .route("/events", get(api::events))
        .route("/history", get(api::history))
        .route("/reload", get(api::reload).post(calls::reload))
        .route("/commands", get(api::all_commands))
        .route("/me", get(api::me))
        .route("/stream", get(stream::stream))
        .route("/openapi.json", get(api::openapi))
        .route("/run", post(calls::run))
        .route("/confirm", post(calls::confirm))
        .route("/rollback", post(calls::rollback))
        .route("/sign-out", post(calls::sign_out))
        .fallback(api::not_found)
        .method_not_allowed_fallback(api::method_not_allowed);
    Router::new()
        .nest("/api/v1", reads)
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/metrics", get(metrics::answer))
        .route(pages::SIGN_IN, get(pages::sign_in_page).post(calls::sign_in))
        .fallback(pages::page)
        .method_not_allowed_fallback(api::method_not_allowed)
        .with_state(front)
}

/// The one who asks, as [`Routes::answer`] has found out.
pub(super) type Asks = Extension<Asker>;

/// Adds what every answer says to browsers.
fn with_headers(mut response: Response) -> Response {
    const HEADERS: [(&str, &str); 5] = [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ];
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Text of a client, cut for a message.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Answers with an object that says why the request was not done.
pub(super) fn error(status: StatusCode, kind: &str, message: impl Into<String>) -> Response {
    let message = message.into();
    let text = format!("error: {message}\n");
    error_object(
        status,
        json!({ "kind": kind, "message": message, "status": 1, "text": text, "diagnostics": [] }),
    )
}

pub(super) fn error_object(status: StatusCode, error: Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{}\n", json!({ "error": error })))
        .into_response()
}

fn unauthorized(message: &str) -> Response {
    let mut response = error(StatusCode::UNAUTHORIZED, "unauthorized", message);
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tapline\""));
    response
}
