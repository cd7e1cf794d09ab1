//! A program at the control socket that has nothing of Tapline's: lines of JSON-RPC, one request after another.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Connects to the control socket of a broker that has just been started: the one before may have left its own.
pub fn connected(path: &Path) -> UnixStream {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(error) => assert!(begun.elapsed().as_secs() < 60, "no broker listens: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A request as a line, without its end.
pub fn request(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
}

/// A connection to a running broker.
pub struct Client(BufReader<UnixStream>);

impl Client {
    pub fn of(path: &Path) -> Self {
        let stream = connected(path);
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a socket");
        Self(BufReader::new(stream))
    }

    /// Sends a line. A connection that has ended may have its answer all the same.
    pub fn send(&mut self, line: &str) {
        let _ = writeln!(self.0.get_mut(), "{line}");
    }

    /// Reads the next line; it is empty at the end of the connection, which the kernel calls reset where something was not read.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("no line in time: {error}"),
            Ok(_) | Err(_) => line,
        }
    }

    /// Reads the next object.
    pub fn receive(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// The whole response to a request.
    pub fn answer(&mut self, method: &str, params: &Value) -> Value {
        self.send(&request(method, params));
        self.receive()
    }

    /// The result of a request that succeeds.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        let mut answer = self.answer(method, params);
        assert!(answer.get("result").is_some(), "{method} {params}: {answer}");
        answer["result"].take()
    }

    /// The response to a line of the pipeline language, or to several that are taken up together.
    pub fn run(&mut self, line: &str) -> Value {
        self.answer("run", &json!({ "line": line }))
    }

    /// The plan in force, as the broker writes it.
    pub fn plan(&mut self) -> Value {
        self.call("get", &json!({ "what": "plan" }))
    }
}
