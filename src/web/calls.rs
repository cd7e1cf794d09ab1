//! Changes: a request becomes a method of the control socket, and its reply becomes an answer.

use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::access::{Asker, SIGN_IN_LIMIT, Shows, cookie_name};
use super::api::text_answer;
use super::pages;
use super::routes::{Front, error, error_object};
use super::shared::{Question, Told};
use crate::control::socket::rpc;
use tapline_api::request::Reply;
use tapline_api::words::ErrorKind;

/// Bytes of a body.
const MOST_BODY_BYTES: usize = 1 << 20;
/// How long a body may take.
const BODY_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn run(
    front: State<Front>,
    asker: Extension<Asker>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    call(front, asker, headers, body, "run").await
}

pub(super) async fn reload(
    front: State<Front>,
    asker: Extension<Asker>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    call(front, asker, headers, body, "reload").await
}

pub(super) async fn confirm(
    front: State<Front>,
    asker: Extension<Asker>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    call(front, asker, headers, body, "confirm").await
}

pub(super) async fn rollback(
    front: State<Front>,
    asker: Extension<Asker>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    call(front, asker, headers, body, "rollback").await
}

/// Asks the session for a method with the parameters of a body.
async fn call(
    State(front): State<Front>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    body: Body,
    method: &'static str,
) -> Response {
    let params = match object(&headers, body).await {
        Ok(params) => params,
        Err(refusal) => return refusal,
    };
    let call = match rpc::call(method, params) {
        Ok(call) => call,
        Err((_, why)) => return error(StatusCode::BAD_REQUEST, "refused", why),
    };
    match front.shared.ask(Question::Call(Box::new(asker.caller), call)).await {
        Some(Told::Reply(reply)) => answer(&reply),
        Some(Told::Link(_)) | None => {
            error(StatusCode::SERVICE_UNAVAILABLE, "busy", "the broker has ended")
        }
    }
}

/// Says a reply as the control socket says it, with the status that fits.
fn answer(reply: &Reply) -> Response {
    let text = rpc::reply(&rpc::Form::Json(Value::Null), reply);
    let mut said: Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(kind) = reply.error else {
        return text_answer(said["result"].take().to_string());
    };
    let status = match kind {
        ErrorKind::Refused => StatusCode::BAD_REQUEST,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Failed | ErrorKind::NeedsRestart | ErrorKind::ConfirmPending | ErrorKind::Cancelled => {
            StatusCode::CONFLICT
        }
    };
    let mut object = said["error"]["data"].take();
    object["kind"] = json!(kind.word());
    object["message"] = said["error"]["message"].take();
    error_object(status, object)
}

/// Reads a body that is a JSON object.
async fn object(headers: &HeaderMap, body: Body) -> Result<Value, Response> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let message = "the body is not `application/json`";
        return Err(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message));
    }
    let bytes = bytes(body).await?;
    match serde_json::from_slice(&bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(error(StatusCode::BAD_REQUEST, "refused", "the body is no JSON object")),
        Err(why) => Err(error(StatusCode::BAD_REQUEST, "refused", format!("the body is no JSON: {why}"))),
    }
}

async fn bytes(body: Body) -> Result<Bytes, Response> {
    match timeout(BODY_LIMIT, to_bytes(body, MOST_BODY_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => {
            let message = format!("the body has more than {MOST_BODY_BYTES} bytes, or is not whole");
            Err(error(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message))
        }
        Err(_) => {
            let message = format!("the body took more than {} s", BODY_LIMIT.as_secs());
            Err(error(StatusCode::REQUEST_TIMEOUT, "timeout", message))
        }
    }
}

/// Ends the sign-in of whoever asks.
pub(super) async fn sign_out(
    State(front): State<Front>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if let Err(refusal) = object(&headers, body).await {
        return refusal;
    }
    if let Shows::Cookie(sha256) = &asker.shows {
        front.shared.sign_ins().end(sha256);
    }
    let mut response = text_answer("{}".to_owned());
    if let Ok(cookie) = HeaderValue::from_str(&set_cookie(&front, "", 0)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

fn set_cookie(front: &Front, value: &str, seconds: u64) -> String {
    let name = cookie_name(front.shared.port);
    let secure = if front.shared.scheme() == "https" { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// Takes a one-time link: the form that its page sends.
pub(super) async fn sign_in(State(front): State<Front>, body: Body) -> Response {
    let bytes = match bytes(body).await {
        Ok(bytes) => bytes,
        Err(refusal) => return refusal,
    };
    let code =
        std::str::from_utf8(&bytes).ok().and_then(|form| form.strip_prefix("code=")).unwrap_or_default();
    let refused = |why: &str| pages::refused_sign_in(why);
    if !pages::is_code(code) {
        return refused("this is no code of a link");
    }
    let caller = match front.shared.ask(Question::Link(code.to_owned())).await {
        Some(Told::Link(Ok(caller))) => *caller,
        Some(Told::Link(Err(reply))) => return refused(reply.remarks.trim_start_matches("error: ").trim()),
        Some(Told::Reply(_)) | None => return refused("the broker has ended"),
    };
    let value = front.shared.sign_ins().add(caller, Instant::now());
    match value.map(|value| set_cookie(&front, &value, SIGN_IN_LIMIT.as_secs())) {
        Ok(cookie) => {
            let headers = [(header::LOCATION, "/".to_owned()), (header::SET_COOKIE, cookie)];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Err(why) => refused(&why),
    }
}
