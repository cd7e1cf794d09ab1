//! The body of the fuzz target for what programs send to the control socket: any bytes, in any pieces, are lines and requests, or are
//! answered with an error that is JSON-RPC.

use std::io::{BufReader, Read};

use serde_json::Value;
use tapline::control::lines::{Excess, Line, next_line};
use tapline::control::socket::rpc;

/// Bytes that come in pieces of at most so many.
struct Pieces<'a> {
    bytes: &'a [u8],
    most: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let len = self.most.min(into.len()).min(self.bytes.len());
        let (piece, rest) = self.bytes.split_at(len);
        into[..len].copy_from_slice(piece);
        self.bytes = rest;
        Ok(len)
    }
}

/// The lines of a text, by the standard library: what is longer than `most` is passed over, or is the last of all.
fn model(bytes: &[u8], most: usize, excess: Excess) -> Vec<Line> {
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let line = |line: &[u8]| if line.len() > most { Line::TooLong } else { Line::Whole(line.to_vec()) };
    let mut lines: Vec<Line> = lines.into_iter().map(line).collect();
    if excess == Excess::Stop
        && let Some(last) = lines.iter().position(|line| *line == Line::TooLong)
    {
        lines.truncate(last + 1);
    }
    lines
}

/// Reads bytes as a client's: the first two say how long a line may be, and in which pieces they come.
pub(super) fn talk(bytes: &[u8]) {
    let [most, piece, rest @ ..] = bytes else { return };
    let (most, most_at_once) = (usize::from(*most), usize::from(*piece) + 1);
    for excess in [Excess::Skip, Excess::Stop] {
        let mut stream = BufReader::with_capacity(16, Pieces { bytes: rest, most: most_at_once });
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut stream, most, excess).expect("nothing fails") {
            let is_last = line == Line::TooLong && excess == Excess::Stop;
            lines.push(line);
            if is_last {
                break;
            }
        }
        assert_eq!(lines, model(rest, most, excess));
    }
    // a line as long as it likes
    for line in rest.split(|&byte| byte == b'\n') {
        let is_json = line.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        match rpc::read(line.to_vec()) {
            Ok((_, form)) => assert_eq!(is_json, form != rpc::Form::Text, "{line:?}"),
            Err(answer) => {
                assert!(is_json, "a command is for the parser to refuse: {line:?}");
                assert_eq!(answer.matches('\n').count(), 1, "{answer:?}");
                let answer: Value = serde_json::from_str(&answer).expect("JSON");
                let id =
                    serde_json::from_slice::<Value>(line).ok().and_then(|line| line.get("id").cloned());
                let is_id = |id: &Value| id.is_string() || id.is_number() || id.is_null();
                assert_eq!(answer["id"], id.filter(is_id).unwrap_or(Value::Null), "{line:?}");
                let code = answer["error"]["code"].as_i64();
                assert!(matches!(code, Some(-32700 | -32600 | -32601 | -32602)), "{answer}");
            }
        }
    }
}
