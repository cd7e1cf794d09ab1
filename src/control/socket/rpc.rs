//! The forms of requests and replies on the control socket: JSON-RPC 2.0 a line, or plain commands.
//! # Source
//! JSON-RPC 2.0 Specification (2013-01-04), sections 4 (request, notification), 5 (response) and 5.1 (errors).

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use tapline_api::request::{Reply, Request};
use tapline_api::words::{ErrorKind, Get, Vocabulary};
use tapline_lang::ast::session::{Guard, Guarded, Reload, SessionCommand};

/// The version of the methods and their forms; additions do not change it.
pub const PROTOCOL: u32 = 1;

/// The line is no JSON.
pub const PARSE_ERROR: i32 = -32700;
/// The object is no request.
pub const INVALID_REQUEST: i32 = -32600;
/// There is no such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// The method has no such parameters.
pub const INVALID_PARAMS: i32 = -32602;

/// Returns the code of an error of ours.
pub const fn code(kind: ErrorKind) -> i32 {
    match kind {
        ErrorKind::Refused => -32001,
        ErrorKind::Failed => -32002,
        ErrorKind::Forbidden => -32003,
        ErrorKind::NeedsRestart => -32004,
        ErrorKind::ConfirmPending => -32005,
        ErrorKind::Busy => -32006,
        ErrorKind::Cancelled => -32007,
    }
}

/// How a client wants its answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Form {
    /// Text that ends with `= STATUS`.
    Text,
    /// An object that has this id.
    Json(Value),
    /// None: the request was a notification.
    Silent,
}

/// The request of a line.
#[derive(Clone, PartialEq, Debug)]
pub enum Call {
    /// The session answers it.
    Session(Request),
    /// A command to the broker itself; the session answers it as the line that says the same.
    Command(SessionCommand),
    /// With a token, where one is shown.
    Hello(Option<String>),
    Subscribe(Subscribe),
    /// `exit`: the client wants to be disconnected.
    Exit,
}

/// Parameters of `subscribe`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    pub to: Topic,
    /// Seconds between two statistics.
    #[serde(default = "one_second")]
    pub interval: f64,
    /// Events from behind this number.
    pub since: Option<u64>,
}

/// The topics that can be subscribed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    Stats,
    Events,
}

fn one_second() -> f64 {
    1.0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    jsonrpc: String,
    #[serde(default, deserialize_with = "present")]
    id: Option<Value>,
    method: String,
    #[serde(default)]
    params: Option<Value>,
}

/// An id that is there, `null` too.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    #[serde(alias = "text")]
    line: String,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetParams {
    what: String,
    since: Option<u64>,
}

/// Parameters of `reload`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadParams {
    file: Option<String>,
    #[serde(default)]
    dry_run: bool,
    read: Option<String>,
    /// In seconds.
    confirm: Option<f64>,
    guard: Option<GuardParams>,
    #[serde(default)]
    interrupt: bool,
}

/// One of both is said, and how many are borne.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GuardParams {
    loss: Option<u64>,
    drops: Option<u64>,
}

/// Parameters of `confirm` and `rollback`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfPlan {
    id: Option<u32>,
}

impl TryFrom<ReloadParams> for Reload {
    type Error = &'static str;

    fn try_from(params: ReloadParams) -> Result<Self, Self::Error> {
        let ReloadParams { file, dry_run, read, confirm, guard, interrupt } = params;
        let confirm = match confirm {
            None => None,
            Some(seconds) => match Duration::try_from_secs_f64(seconds) {
                // as many as a line takes, which counts nanoseconds
                Ok(limit) if !limit.is_zero() && u64::try_from(limit.as_nanos()).is_ok() => Some(limit),
                _ => return Err("`confirm` is no number of seconds above 0"),
            },
        };
        let guard = match guard {
            None => None,
            Some(GuardParams { loss: Some(most), drops: None }) => Some(Guard { of: Guarded::Loss, most }),
            Some(GuardParams { loss: None, drops: Some(most) }) => Some(Guard { of: Guarded::Drops, most }),
            Some(_) => return Err("`guard` has either `loss` or `drops`"),
        };
        Ok(Self { file, is_dry_run: dry_run, capture: read, confirm, guard, may_interrupt: interrupt })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Complete {
    line: String,
    /// In bytes; the end of the line where it is not said.
    cursor: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HelloParams {
    token: Option<String>,
}

/// A line that is no request: the text of the answer.
pub type Wrong = String;

/// Reads a line of a client.
///
/// # Errors
/// The answer to a line that asks for nothing that there is.
pub fn read(line: Vec<u8>) -> Result<(Call, Form), Wrong> {
    match line.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => read_json(&line),
        _ if line.trim_ascii() == b"exit" => Ok((Call::Exit, Form::Text)),
        _ => Ok((Call::Session(Request::line(line)), Form::Text)),
    }
}

fn read_json(line: &[u8]) -> Result<(Call, Form), Wrong> {
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| error_object(Value::Null, PARSE_ERROR, &error.to_string(), None))?;
    let id_of = |value: &Value| value.get("id").filter(|id| is_id(id)).cloned().unwrap_or(Value::Null);
    let id = id_of(&value);
    let envelope: Envelope = serde_json::from_value(value)
        .map_err(|error| error_object(id.clone(), INVALID_REQUEST, &error.to_string(), None))?;
    let invalid = |why: &str| error_object(id.clone(), INVALID_REQUEST, why, None);
    if envelope.jsonrpc != "2.0" {
        return Err(invalid("`jsonrpc` is not \"2.0\""));
    }
    let form = match envelope.id {
        None => Form::Silent,
        Some(id) if is_id(&id) => Form::Json(id),
        Some(_) => return Err(invalid("`id` is neither a string, a number nor null")),
    };
    let params = envelope.params.unwrap_or_else(|| json!({}));
    call(&envelope.method, params)
        .map(|call| (call, form))
        .map_err(|(code, why)| error_object(id, code, &why, None))
}

fn is_id(id: &Value) -> bool {
    id.is_string() || id.is_number() || id.is_null()
}

fn call(method: &str, params: Value) -> Result<Call, (i32, String)> {
    fn of<T: DeserializeOwned>(params: Value) -> Result<T, (i32, String)> {
        serde_json::from_value(params).map_err(|error| (INVALID_PARAMS, error.to_string()))
    }
    Ok(match method {
        "hello" => of::<HelloParams>(params).map(|hello| Call::Hello(hello.token))?,
        "run" => {
            let Run { line, dry_run } = of(params)?;
            Call::Session(Request::Line { text: line.into_bytes(), is_dry_run: dry_run })
        }
        "get" => {
            let GetParams { what, since } = of(params)?;
            let Some(what) = Get::of_word(&what) else {
                let all = Get::WORDS.join(", ");
                return Err((INVALID_PARAMS, format!("there is no `{what}` to get; there are {all}")));
            };
            Call::Session(Request::Get { what, since })
        }
        "reload" => {
            let reload = Reload::try_from(of::<ReloadParams>(params)?);
            Call::Command(SessionCommand::Reload(reload.map_err(|why| (INVALID_PARAMS, why.to_owned()))?))
        }
        "confirm" => of::<OfPlan>(params).map(|of| Call::Command(SessionCommand::Confirm(of.id)))?,
        "rollback" => of::<OfPlan>(params).map(|of| Call::Command(SessionCommand::Rollback(of.id)))?,
        "complete" => {
            let Complete { line, cursor } = of(params)?;
            let cursor = cursor.unwrap_or(line.len());
            if !line.is_char_boundary(cursor) {
                return Err((
                    INVALID_PARAMS,
                    "`cursor` is not between two characters of `line`".to_owned(),
                ));
            }
            Call::Session(Request::Complete { line: line[..cursor].to_owned() })
        }
        "subscribe" => {
            let subscribe: Subscribe = of(params)?;
            if !(subscribe.interval.is_finite() && (0.01..=86_400.0).contains(&subscribe.interval)) {
                return Err((
                    INVALID_PARAMS,
                    "`interval` is not between 0.01 and 86400 seconds".to_owned(),
                ));
            }
            Call::Subscribe(subscribe)
        }
        _ => {
            return Err((
                METHOD_NOT_FOUND,
                format!("there is no method `{method}`; there are {}", METHODS.join(", ")),
            ));
        }
    })
}

/// All methods.
pub const METHODS: &[&str] =
    &["hello", "run", "get", "reload", "confirm", "rollback", "subscribe", "complete"];

/// Says a reply as the client wants it.
pub fn reply(form: &Form, reply: &Reply) -> String {
    let id = match form {
        Form::Silent => return String::new(),
        Form::Text => {
            let (result, remarks) = (ended(&reply.result), ended(&reply.remarks));
            return format!("{result}{remarks}= {}\n", reply.status() as u8);
        }
        Form::Json(id) => id.clone(),
    };
    let Some(kind) = reply.error else {
        let value = reply.value.as_ref().map_or_else(
            || json!({ "status": 0, "result": reply.result, "remarks": reply.remarks, "diagnostics": reply.diagnostics }),
            |value| serde_json::from_str(value).unwrap_or(Value::Null),
        );
        return result(form, value);
    };
    let data = json!({
        "kind": kind, "status": reply.status() as u8, "diagnostics": reply.diagnostics, "text": reply.remarks,
    });
    // warnings stand before what failed
    let says_why = |line: &&str| line.starts_with("error: ") || line.contains(": error: ");
    let mut lines = reply.remarks.lines();
    let first = lines.clone().find(says_why).or(lines.next()).unwrap_or(kind.word());
    error_object(id, code(kind), first, Some(data))
}

/// Text whose last line is ended.
fn ended(text: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}")
}

/// Says the result of a method.
pub fn result(form: &Form, value: Value) -> String {
    match form {
        Form::Silent => String::new(),
        Form::Text => format!("{value}\n= 0\n"),
        Form::Json(id) => format!("{}\n", json!({ "jsonrpc": "2.0", "id": id, "result": value })),
    }
}

/// Says what a subscriber did not ask for just now.
pub fn notification(method: &str, params: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{params}}}\n")
}

fn error_object(id: Value, code: i32, message: &str, data: Option<Value>) -> String {
    let mut error = json!({ "code": code, "message": message });
    if let Some(data) = data {
        error["data"] = data;
    }
    format!("{}\n", json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(line: &str) -> i32 {
        let wrong = read(line.as_bytes().to_vec()).expect_err(line);
        let value: Value = serde_json::from_str(&wrong).expect("an object");
        i32::try_from(value["error"]["code"].as_i64().expect("a code")).expect("a code")
    }

    #[test]
    fn each_kind_of_wrong_request_has_its_code() {
        assert_eq!(code_of("{"), PARSE_ERROR);
        for line in [
            "{}",
            r#"{"jsonrpc":"1.0","id":1,"method":"hello"}"#,
            r#"{"jsonrpc":"2.0","id":[1],"method":"hello"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"hello","more":1}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
        ] {
            assert_eq!(code_of(line), INVALID_REQUEST, "{line}");
        }
        assert_eq!(code_of(r#"{"jsonrpc":"2.0","id":1,"method":"nothing"}"#), METHOD_NOT_FOUND);
        for line in [
            r#"{"jsonrpc":"2.0","id":1,"method":"hello","params":{"a":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"get","params":{"what":"nothing"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"get","params":[1]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"run"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"to":"stats","interval":0}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"complete","params":{"line":"ä","cursor":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"reload","params":{"confirm":0}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"reload","params":{"confirm":-1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"reload","params":{"confirm":1e300}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"reload","params":{"confirm":"60s"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"reload","params":{"guard":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"reload","params":{"guard":{"loss":1,"drops":1}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"reload","params":{"guard":{"loss":-1}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"reload","params":{"more":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"confirm","params":{"id":"2"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"rollback","params":{"id":4294967296}}"#,
        ] {
            assert_eq!(code_of(line), INVALID_PARAMS, "{line}");
        }
    }

    #[test]
    fn methods_make_the_commands_of_their_lines() {
        for (method, params, line) in [
            ("reload", "{}", "reload"),
            ("reload", r#"{"file":"a b.pipe","dry_run":true}"#, "reload \"a b.pipe\" dry-run"),
            ("reload", r#"{"dry_run":true,"read":"a b.pcap"}"#, "reload dry-run -r \"a b.pcap\""),
            (
                "reload",
                r#"{"file":"x","confirm":1.5,"guard":{"loss":3},"interrupt":true}"#,
                "reload x confirm 1500ms guard loss>3 interrupt",
            ),
            ("reload", r#"{"confirm":60,"guard":{"drops":0}}"#, "reload confirm 1m guard drops>0"),
            ("confirm", "{}", "confirm"),
            ("confirm", r#"{"id":7}"#, "confirm 7"),
            ("rollback", r#"{"id":null}"#, "rollback"),
            ("rollback", r#"{"id":4}"#, "rollback 4"),
        ] {
            let request = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            let (call, _) = read(request.into_bytes()).expect("a request");
            let Call::Command(command) = call else { panic!("{call:?}") };
            let empty = tapline_lang::parse_text("t", "", &[]);
            let mut typed =
                tapline_lang::parse_onto(&empty, line.as_bytes(), &tapline_lang::files::NoFiles);
            assert_eq!(command, typed.session.remove(0).value, "{line}");
        }
    }

    #[test]
    fn all_that_can_be_got_is_named() {
        let wrong =
            read(br#"{"jsonrpc":"2.0","id":1,"method":"get","params":{"what":"nonsense"}}"#.to_vec());
        let wrong = wrong.expect_err("nothing of that name");
        assert!(wrong.contains("there is no `nonsense` to get; there are stats, ports, "), "{wrong}");
        assert!(Get::WORDS.iter().all(|word| wrong.contains(word)), "{wrong}");
    }

    #[test]
    fn an_error_keeps_the_id_and_a_notification_has_no_answer() {
        let wrong =
            read(br#"{"jsonrpc":"2.0","id":"a","method":"nothing"}"#.to_vec()).expect_err("no method");
        assert!(wrong.contains(r#""id":"a""#), "{wrong}");
        let (call, form) =
            read(br#"{"jsonrpc":"2.0","method":"run","params":{"line":"show ports"}}"#.to_vec())
                .expect("a request");
        assert_eq!(call, Call::Session(Request::line(b"show ports".to_vec())));
        assert_eq!(reply(&form, &Reply::failed("no")), "");
        let (_, form) =
            read(br#"{"jsonrpc":"2.0","id":null,"method":"hello"}"#.to_vec()).expect("a request");
        assert_eq!(form, Form::Json(Value::Null));
    }

    #[test]
    fn text_is_answered_with_text_and_the_exit_status() {
        let (call, form) = read(b"show ports".to_vec()).expect("a command");
        assert_eq!((call, &form), (Call::Session(Request::line(b"show ports".to_vec())), &Form::Text));
        assert_eq!(reply(&form, &Reply::done("a\nb")), "a\nb\n= 0\n");
        assert_eq!(reply(&form, &Reply::refused("error: no\n")), "error: no\n= 2\n");
        assert_eq!(reply(&form, &Reply::failed("error: no\n")), "error: no\n= 1\n");
        assert_eq!(read(b" exit ".to_vec()).expect("a command").0, Call::Exit);
    }

    #[test]
    fn codes_are_apart() {
        let mut codes: Vec<i32> = ErrorKind::ALL.into_iter().map(code).collect();
        codes.extend([PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS]);
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorKind::ALL.len() + 4);
    }
}
