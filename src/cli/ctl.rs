//! `tapline ctl`: commands to a running broker, by its control socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Status;
use super::output::{print, tell, tell_line};
use crate::control::{help, lines};
use crate::report::log::Form;
use tapline_api::words::{Level, Vocabulary};
use tapline_lang::ast::session::{Reload, SessionCommand};
use tapline_lang::files::NoFiles;

/// The folder of units' sockets: RUNTIME/NAME/control.sock.
pub(super) const RUNTIME: &str = "/run/tapline";
/// The name of a unit's socket.
pub(super) const SOCKET: &str = "control.sock";
/// The longest reply: statistics of the largest plans.
pub(super) const MOST_REPLY_BYTES: usize = 256 << 20;

/// Which broker is meant.
#[derive(clap::Args, Debug)]
pub struct Which {
    /// The broker's name: its socket is /run/tapline/NAME/control.sock
    #[arg(short, long, value_name = "NAME", conflicts_with = "control")]
    name: Option<String>,
    /// The broker's control socket
    #[arg(long, value_name = "PATH", env = "TAPLINE_CONTROL")]
    control: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Print replies as JSON
    #[arg(long)]
    json: bool,
    /// Send the commands of a file, or of standard input with -, a line at a time
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "command")]
    file: Option<PathBuf>,
    /// The command, such as `show ports`; a prompt without one
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<String>,
}

pub fn run(args: &Args) -> Status {
    match run_to_end(args) {
        Ok(status) | Err(status) => status,
    }
}

fn run_to_end(args: &Args) -> Result<Status, Status> {
    let mut broker = Connection::open(&args.which)?;
    match (&args.file, args.command.as_slice()) {
        (Some(path), _) => broker.send_file(path, args.json),
        (None, []) => super::shell::run(&mut broker, args.json),
        (None, words) if words[0] == "events" => broker.events(&words[1..], args.json),
        (None, words) if words[0] == "get" => broker.get(&words[1..]),
        (None, words) => broker.obey(&command_line(words), args.json),
    }
}

/// The words of the shell as a line of the language. One word alone may be a line of its own.
fn command_line(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

/// A word as the language has it: in quotes where it has blanks, quotes or marks of the language.
fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || "\"#\\".contains(c));
    if is_plain {
        word.to_owned()
    } else {
        format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// Says a line that names files, `reload FILE`, `reload dry-run -r FILE` or `save FILE`, with their paths from the root on: the broker runs
/// in another folder.
/// `None` for all other lines.
fn from_root(line: &str) -> Option<String> {
    let nothing = tapline_lang::parse_text("", "", &[]);
    let mut parsed = tapline_lang::parse_onto(&nothing, line.as_bytes(), &NoFiles);
    // mistakes are the broker's to tell, and its variables are not known here
    if parsed.diagnostics.has_errors() || parsed.session.len() != 1 {
        return None;
    }
    let mut command = parsed.session.remove(0).value;
    let files = match &mut command {
        SessionCommand::Reload(Reload { file, capture, .. }) => vec![file, capture],
        SessionCommand::Save(file) => vec![file],
        _ => return None,
    };
    let mut is_changed = false;
    for path in files.into_iter().flatten() {
        *path = std::path::absolute(&*path).ok()?.to_str()?.to_owned();
        is_changed = true;
    }
    is_changed.then(|| command.to_string())
}

/// A connection to a broker.
pub(super) struct Connection {
    path: PathBuf,
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    next_id: u64,
}

impl Connection {
    /// Connects; what is wrong is told.
    pub(super) fn open(which: &Which) -> Result<Self, Status> {
        let path = which.path()?;
        let connected = UnixStream::connect(&path).and_then(|stream| Ok((stream.try_clone()?, stream)));
        match connected {
            Ok((reader, writer)) => Ok(Self { path, reader: BufReader::new(reader), writer, next_id: 1 }),
            Err(error) => {
                tell_line(format_args!("error: {}: {}", path.display(), remedy(&error)));
                Err(Status::Failed)
            }
        }
    }

    fn failed(&self, why: &dyn std::fmt::Display) -> Status {
        tell_line(format_args!("error: {}: {why}", self.path.display()));
        Status::Failed
    }

    /// Calls a method; the whole response.
    pub(super) fn call(&mut self, method: &str, params: &Value) -> Result<Value, Status> {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let written = self.writer.write_all(format!("{request}\n").as_bytes());
        // one that is turned away is told so, and may find its connection closed before it has asked
        if let Err(error) = written {
            let response = self.receive().ok().filter(is_of_no_request);
            return response.ok_or_else(|| self.failed(&error));
        }
        loop {
            let response = self.receive()?;
            // what was subscribed to may come in between
            if response["id"] == json!(id) || is_of_no_request(&response) {
                return Ok(response);
            }
        }
    }

    /// Takes the next object that the broker sends.
    fn receive(&mut self) -> Result<Value, Status> {
        match lines::next_line(&mut self.reader, MOST_REPLY_BYTES, lines::Excess::Stop) {
            Ok(Some(lines::Line::Whole(line))) => match serde_json::from_slice(&line) {
                Ok(value) => Ok(value),
                Err(_) => {
                    tell(String::from_utf8_lossy(&line));
                    Err(self.failed(&"the broker said what is no reply"))
                }
            },
            Ok(Some(lines::Line::TooLong)) => Err(self.failed(&"the reply is too long")),
            Ok(None) => Err(self.failed(&"the broker has ended the connection")),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Answers `help`, and sends any other line; prints the answer.
    pub(super) fn obey(&mut self, line: &str, is_json: bool) -> Result<Status, Status> {
        match help::asked(line) {
            Some(asked) => self.help(asked),
            None if line.trim() == "web" => Ok(show(&self.call("web", &json!({}))?, is_json)),
            None => self.send(line, is_json),
        }
    }

    /// Explains the commands that the broker knows.
    fn help(&mut self, asked: &str) -> Result<Status, Status> {
        let mut response = self.call("get", &json!({ "what": "commands" }))?;
        let Ok(entries) = serde_json::from_value(response["result"].take()) else {
            return Ok(show(&response, false));
        };
        match help::help(entries, asked) {
            Ok(text) => {
                print(text);
                Ok(Status::Done)
            }
            Err(unknown) => {
                tell(unknown);
                Ok(Status::Refused)
            }
        }
    }

    /// Sends a line, and prints the answer.
    fn send(&mut self, line: &str, is_json: bool) -> Result<Status, Status> {
        let line = from_root(line).unwrap_or_else(|| line.to_owned());
        let response = self.call("run", &json!({ "line": line }))?;
        Ok(show(&response, is_json))
    }

    /// Sends the lines of a file, one after the other. A line that is wrong makes the status 2, one that failed 1; the others are sent all the
    /// same.
    pub(super) fn send_file(&mut self, path: &Path, is_json: bool) -> Result<Status, Status> {
        let opened: std::io::Result<Box<dyn BufRead>> = if path == Path::new("-") {
            Ok(Box::new(std::io::stdin().lock()))
        } else {
            std::fs::File::open(path).map(|file| Box::new(BufReader::new(file)) as Box<dyn BufRead>)
        };
        let mut stream = opened.map_err(|error| {
            tell_line(format_args!("error: {}: {error}", path.display()));
            Status::Refused
        })?;
        let mut status = Status::Done;
        loop {
            match lines::next_line(&mut stream, lines::MOST_BYTES, lines::Excess::Skip) {
                Ok(Some(lines::Line::Whole(line))) => {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    let text = line.trim();
                    if text.is_empty() || text.starts_with('#') {
                        continue;
                    }
                    if text == "exit" {
                        return Ok(status);
                    }
                    status = status.max(self.obey(&line, is_json)?);
                }
                Ok(Some(lines::Line::TooLong)) => {
                    tell_line(format_args!(
                        "error: a line has more than {} bytes; it was passed over",
                        lines::MOST_BYTES
                    ));
                    status = Status::Refused;
                }
                Ok(None) => return Ok(status),
                Err(error) => {
                    tell_line(format_args!("error: {}: {error}", path.display()));
                    return Ok(status.max(Status::Failed));
                }
            }
        }
    }

    /// `ctl get WHAT`: prints the JSON.
    fn get(&mut self, words: &[String]) -> Result<Status, Status> {
        let [what] = words else {
            tell_line("error: `get` takes one word, such as `get stats`");
            return Err(Status::Refused);
        };
        let response = self.call("get", &json!({ "what": what }))?;
        match response.get("result") {
            Some(result) => {
                print(format_args!("{result}\n"));
                Ok(Status::Done)
            }
            None => Ok(show(&response, false)),
        }
    }

    /// `ctl events [--follow]`: what happened, and what happens, a line each.
    fn events(&mut self, words: &[String], is_json: bool) -> Result<Status, Status> {
        let is_followed = match words {
            [] => false,
            [word] if word == "--follow" => true,
            _ => {
                tell_line("error: `events` takes `--follow` alone");
                return Err(Status::Refused);
            }
        };
        let response = self.call("get", &json!({ "what": "events" }))?;
        let Some(events) = response["result"]["events"].as_array() else {
            return Ok(show(&response, is_json));
        };
        let mut last = 0;
        for event in events {
            last = event["seq"].as_u64().unwrap_or(last);
            show_event(event, is_json);
        }
        if !is_followed {
            return Ok(Status::Done);
        }
        let response = self.call("subscribe", &json!({ "to": "events", "since": last }))?;
        if response.get("result").is_none() {
            return Ok(show(&response, is_json));
        }
        loop {
            let told = self.receive()?;
            if told["method"] == "event" {
                show_event(&told["params"], is_json);
            }
        }
    }
}

/// Returns whether a response is an error that answers no request.
fn is_of_no_request(response: &Value) -> bool {
    response["id"].is_null() && response.get("error").is_some()
}

fn show_event(event: &Value, is_json: bool) {
    let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    if is_json {
        print(format_args!("{event}\n"));
    } else if let Some(lost) = event["lost"].as_u64() {
        print(format_args!("{lost} events were lost: they came faster than they were read\n"));
    } else {
        let ns = (event["time"].as_f64().unwrap_or_default() * 1e9) as u64;
        let level = Level::of_word(&word("level")).unwrap_or(Level::Info);
        print(format_args!("{}\n", Form::Timed.line(ns, level, &word("text"))));
    }
}

/// Prints a response: its result to standard output, its remarks to standard error. Gives the exit status that it says.
fn show(response: &Value, is_json: bool) -> Status {
    if is_json {
        print(format_args!(
            "{}\n",
            response.get("result").or(response.get("error")).unwrap_or(&Value::Null)
        ));
    }
    let status = match response.get("error") {
        None => Status::Done,
        Some(error) if error["data"]["status"] == json!(1) => Status::Failed,
        Some(_) => Status::Refused,
    };
    if is_json {
        return status;
    }
    if let Some(error) = response.get("error") {
        match error["data"]["text"].as_str() {
            Some(text) => tell(text),
            None => tell_line(format_args!("error: {}", error["message"].as_str().unwrap_or_default())),
        }
        return status;
    }
    // objects such as receipts have a text for people
    let result = &response["result"];
    print(result["text"].as_str().or(result["result"].as_str()).unwrap_or_default());
    tell(response["result"]["remarks"].as_str().unwrap_or_default());
    status
}

/// Why there is no connection, and what to do.
pub(super) fn remedy(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "no broker listens here: there is no such socket; `tapline run --control PATH` makes one"
                .to_owned()
        }
        std::io::ErrorKind::ConnectionRefused => {
            "no broker listens here any more: it has ended without a word".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("{error}; the socket is open to its owner and its group alone")
        }
        _ => error.to_string(),
    }
}

impl Which {
    /// The socket that is meant; where none is said, the only one of this machine.
    pub(super) fn path(&self) -> Result<PathBuf, Status> {
        match (&self.name, &self.control) {
            (Some(name), _) if name.contains('/') || name.is_empty() || name == ".." || name == "." => {
                tell_line(format_args!("error: `{name}` is no broker's name; --control takes a path"));
                Err(Status::Refused)
            }
            (Some(name), _) => Ok(Path::new(RUNTIME).join(name).join(SOCKET)),
            (None, Some(path)) => Ok(path.clone()),
            (None, None) => only_one(Path::new(RUNTIME)),
        }
    }
}

/// The only socket below `runtime`.
fn only_one(runtime: &Path) -> Result<PathBuf, Status> {
    let folders = std::fs::read_dir(runtime).into_iter().flatten().flatten();
    let mut sockets: Vec<(String, PathBuf)> = folders
        .map(|folder| (folder.file_name().to_string_lossy().into_owned(), folder.path().join(SOCKET)))
        .filter(|(_, socket)| socket.exists())
        .collect();
    sockets.sort();
    match sockets.as_slice() {
        [(_, socket)] => Ok(socket.clone()),
        [] => {
            tell_line(format_args!(
                "error: no broker has a socket below {}; name one with -n NAME or --control PATH",
                runtime.display()
            ));
            Err(Status::Failed)
        }
        _ => {
            let names: Vec<&str> = sockets.iter().map(|(name, _)| name.as_str()).collect();
            tell_line(format_args!("error: several brokers run; name one with -n: {}", names.join(", ")));
            Err(Status::Refused)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_shell_are_one_line_of_the_language() {
        let line =
            |words: &[&str]| command_line(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["show", "ports"]), "show ports");
        assert_eq!(line(&["rule create 5 from a to b"]), "rule create 5 from a to b");
        assert_eq!(
            line(&["rule", "create", "5", "from", "a", "match", "tcp port 80", "to", "b"]),
            "rule create 5 from a match \"tcp port 80\" to b"
        );
        assert_eq!(line(&["let", "x", ""]), "let x \"\"");
        assert_eq!(line(&["filter", "create", "a", "\"x\" \\"]), "filter create a \"\\\"x\\\" \\\\\"");
    }

    #[test]
    fn files_are_named_from_the_root_on() {
        let folder = std::env::current_dir().expect("a folder");
        let path = |name: &str| folder.join(name).display().to_string();
        assert_eq!(
            from_root("reload  a.pipe confirm 60s").as_deref(),
            Some(&*format!("reload {} confirm 1m", path("a.pipe")))
        );
        assert_eq!(
            from_root("reload dry-run -r a.pcap").as_deref(),
            Some(&*format!("reload dry-run -r {}", path("a.pcap")))
        );
        assert_eq!(from_root("save \"a b\"").as_deref(), Some(&*format!("save \"{}\"", path("a b"))));
        assert_eq!(from_root("reload /etc/a.pipe").as_deref(), Some("reload /etc/a.pipe"));
        for other in [
            "reload",
            "reload confirm 1h",
            "save",
            "show ports",
            "reload ${X}",
            "reload a b",
            "include a.pipe",
        ] {
            assert_eq!(from_root(other), None, "{other}");
        }
    }

    #[test]
    fn the_only_socket_is_found_and_several_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(only_one(folder.path()), Err(Status::Failed));
        for name in ["a", "b"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        std::fs::write(folder.path().join("b/control.sock"), "").expect("a file");
        assert_eq!(only_one(folder.path()), Ok(folder.path().join("b/control.sock")));
        std::fs::write(folder.path().join("a/control.sock"), "").expect("a file");
        assert_eq!(only_one(folder.path()), Err(Status::Refused));
    }
}
