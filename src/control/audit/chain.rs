//! Records of the audit log, `tapline.audit/1`: lines of JSON, each with the hash of the one before it.
//!
//! `hash` is the SHA-256 of `prev` and of the line as it would be without `hash`, both as bytes: whoever removes that member from the
//! object and prints the rest in its order, without blanks, can compute it.
//! # Source
//! FIPS 180-4 (SHA-256); the chain is that of S. Haber, W. S. Stornetta, "How to Time-Stamp a Digital Document" (1991), section 5.1.

use std::fmt;
use std::io::{self, BufRead, Read};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The name and version of the form.
pub const SCHEMA: &str = "tapline.audit/1";

/// This is what stands for the hash of the record before the first.
pub const ORIGIN: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The longest line that is read as a record.
pub const MOST_LINE_BYTES: usize = 1 << 16;

/// Begins the last member of a record.
const HASH_MEMBER: &str = ",\"hash\":\"";

/// The last record of a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// 0 before the first.
    pub seq: u64,
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { seq: 0, hash: ORIGIN.to_owned() }
    }
}

/// As `--head` takes it.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// Returns a SHA-256 in 64 lower-case hexadecimal digits.
pub fn sha256(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a line of a record that follows `head`, which it becomes.
pub fn seal(members: Map<String, Value>, head: &mut Head) -> String {
    let mut record = Map::new();
    record.insert("schema".to_owned(), json!(SCHEMA));
    record.insert("seq".to_owned(), json!(head.seq + 1));
    record.extend(members);
    record.insert("prev".to_owned(), json!(head.hash));
    let text = Value::Object(record).to_string();
    let hash = sha256(&[head.hash.as_bytes(), text.as_bytes()]);
    let line = format!("{}{HASH_MEMBER}{hash}\"}}\n", &text[..text.len() - 1]);
    *head = Head { seq: head.seq + 1, hash };
    line
}

/// A line that has the form of a record.
pub struct Record {
    pub head: Head,
    pub prev: String,
    /// `hash` is that of the bytes.
    pub is_whole: bool,
    pub members: Value,
}

/// Reads a line, without its end.
pub fn unseal(line: &[u8]) -> Option<Record> {
    let text = std::str::from_utf8(line).ok()?;
    let (rest, hash) = text.rsplit_once(HASH_MEMBER)?;
    let hash = hash.strip_suffix("\"}")?;
    let members: Value = serde_json::from_str(text).ok()?;
    let of = |key: &str| Some(members.get(key)?.as_str()?.to_owned());
    let (seq, prev) = (members.get("seq")?.as_u64()?, of("prev")?);
    if of("schema")? != SCHEMA || of("hash")? != hash {
        return None;
    }
    let is_whole = sha256(&[prev.as_bytes(), rest.as_bytes(), b"}"]) == hash;
    Some(Record { head: Head { seq, hash: hash.to_owned() }, prev, is_whole, members })
}

/// The first thing that is wrong with a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bad {
    pub file: String,
    /// From 1; `None` where it is what is not there.
    pub line: Option<u64>,
    pub what: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bad { file, line, what } = self;
        match line {
            Some(line) => write!(f, "{file}:{line}: {what}"),
            None => write!(f, "{file}: {what}"),
        }
    }
}

/// Goes along a chain, from file to file.
#[derive(Default)]
pub struct Verifier {
    head: Option<Head>,
    first: Option<u64>,
    /// This is what the log says that it lacks, with the numbers of the records that say it.
    pub gaps: Vec<(u64, String)>,
    /// A line that is no record, and where it stands.
    torn: Option<(String, u64, Vec<u8>)>,
    /// The head that is looked for.
    wanted: Option<Wanted>,
}

/// The head that a log is to have: `SEQ:HASH`, or a hash alone.
#[derive(Clone, Debug)]
pub struct Wanted {
    seq: Option<u64>,
    hash: String,
    is_found: bool,
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (seq, hash) = match text.split_once(':') {
            Some((seq, hash)) => (Some(seq.parse().map_err(|_| "expected SEQ:HASH")?), hash),
            None => (None, text),
        };
        let is_hash = hash.len() == ORIGIN.len() && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hash {
            return Err(
                "expected 64 hexadecimal digits, with the record's number and `:` before them".into()
            );
        }
        Ok(Self { seq, hash: hash.to_ascii_lowercase(), is_found: false })
    }
}

impl Verifier {
    pub fn new(wanted: Option<Wanted>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Goes along a file, which follows those before it.
    ///
    /// # Errors
    /// The file cannot be read, or the first record that is wrong.
    pub fn file(&mut self, name: &str, mut file: impl BufRead) -> io::Result<Result<(), Bad>> {
        let mut number = 0;
        loop {
            let mut line = Vec::new();
            // one byte more than a record may have says that it is none
            let limit = MOST_LINE_BYTES as u64 + 1;
            file.by_ref().take(limit).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Ok(Ok(()));
            }
            number += 1;
            let has_end = line.pop_if(|byte| *byte == b'\n').is_some();
            if !has_end && line.len() > MOST_LINE_BYTES {
                let what = format!("a line of more than {MOST_LINE_BYTES} bytes is no record");
                return Ok(Err(Bad { file: name.to_owned(), line: Some(number), what }));
            }
            if let Err(what) = self.line(name, number, line, has_end) {
                return Ok(Err(Bad { file: name.to_owned(), line: Some(number), what }));
            }
        }
    }

    fn line(&mut self, name: &str, number: u64, line: Vec<u8>, has_end: bool) -> Result<(), String> {
        let Some(record) = unseal(&line).filter(|_| has_end) else {
            if let Some((_, _, torn)) = &self.torn {
                return Err(format!(
                    "this line is no record, nor is the one before it ({} bytes)",
                    torn.len()
                ));
            }
            self.torn = Some((name.to_owned(), number, line));
            return Ok(());
        };
        let seq = record.head.seq;
        if !record.is_whole {
            return Err(format!("record {seq} was changed: its hash is not that of what it says"));
        }
        if let Some((_, _, torn)) = self.torn.take() {
            let said = |key: &str| record.members.get(key).cloned().unwrap_or_default();
            let is_told =
                said("torn_bytes") == json!(torn.len()) && said("torn_sha256") == json!(sha256(&[&torn]));
            if !is_told {
                return Err(format!(
                    "the line before record {seq} is no record, and record {seq} does not tell of it"
                ));
            }
        }
        if let Some(head) = &self.head {
            if seq != head.seq + 1 {
                return Err(format!(
                    "record {seq} stands where record {} is expected: records were removed, repeated or swapped",
                    head.seq + 1
                ));
            }
            if record.prev != head.hash {
                return Err(format!(
                    "record {seq} does not follow record {}: one of them was replaced",
                    head.seq
                ));
            }
        } else if seq == 1 && record.prev != ORIGIN {
            return Err("record 1 says that one stands before it".to_owned());
        }
        if record.members.get("kind") == Some(&json!("gap")) {
            let reason =
                record.members.get("reason").and_then(Value::as_str).unwrap_or("no reason is said");
            let lost = record.members.get("lost").and_then(Value::as_u64).unwrap_or(0);
            self.gaps.push((seq, format!("{reason}; records lost: {lost}")));
        }
        if let Some(wanted) = &mut self.wanted {
            wanted.is_found |= wanted.hash == record.head.hash && wanted.seq.is_none_or(|at| at == seq);
        }
        self.first.get_or_insert(seq);
        self.head = Some(record.head);
        Ok(())
    }

    /// Ends the way. Gives the number of the first record, and the last one.
    ///
    /// # Errors
    /// This is what is wrong with the end.
    pub fn end(&self) -> Result<Option<(u64, Head)>, Bad> {
        if let Some((file, line, _)) = &self.torn {
            let what = "the last line is no whole record, and none behind it tells of it".to_owned();
            return Err(Bad { file: file.clone(), line: Some(*line), what });
        }
        if let Some(Wanted { seq, hash, is_found: false }) = &self.wanted {
            let last = self.head.as_ref().map_or(0, |head| head.seq);
            let seq = seq.map_or(String::new(), |seq| format!(" {seq}"));
            let what = format!(
                "the log ends with record {last}, and has no record{seq} whose hash is {hash}: its tail was cut, or it is another log"
            );
            return Err(Bad { file: "the log".to_owned(), line: None, what });
        }
        Ok(self.first.zip(self.head.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(records: u64) -> (Vec<String>, Head) {
        let mut head = Head::default();
        let record = |n: u64, head: &mut Head| {
            let members = json!({ "time": 1.5, "kind": "change", "command": format!("rule destroy {n} \"ä\u{7f}\"\n") });
            let Value::Object(members) = members else { panic!("an object") };
            seal(members, head)
        };
        ((1..=records).map(|n| record(n, &mut head)).collect(), head)
    }

    /// `Ok` with the last record, or what is wrong.
    fn verify(text: &[u8], wanted: Option<&str>) -> Result<Option<(u64, Head)>, Bad> {
        let mut verifier = Verifier::new(wanted.map(|text| text.parse().expect("a head")));
        verifier.file("log", text).expect("memory")?;
        verifier.end()
    }

    #[test]
    fn python_computes_the_same_hashes() {
        let (lines, head) = log(5);
        let script = "import sys,json,hashlib\nprev='0'*64\nfor line in sys.stdin:\n r=json.loads(line);h=r.pop('hash');assert r['prev']==prev\n t=json.dumps(r,separators=(',',':'),ensure_ascii=False)\n prev=hashlib.sha256((prev+t).encode()).hexdigest();assert prev==h\nprint(prev)";
        let mut python = std::process::Command::new("python3")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3");
        let mut stdin = python.stdin.take().expect("a pipe");
        io::Write::write_all(&mut stdin, lines.concat().as_bytes()).expect("it reads");
        drop(stdin);
        let output = python.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), head.hash);
    }

    #[test]
    fn what_was_done_to_a_log_is_found_at_its_place() {
        let (lines, head) = log(9);
        let whole = lines.concat();
        assert_eq!(verify(whole.as_bytes(), Some(&head.to_string())), Ok(Some((1, head.clone()))));
        // the later files of a log that was rotated
        assert_eq!(verify(lines[4..].concat().as_bytes(), None), Ok(Some((5, head.clone()))));
        assert_eq!(verify(b"", None), Ok(None));
        let bad = |lines: &[String], line: u64, what: &str| {
            let found = verify(lines.concat().as_bytes(), None).expect_err(what);
            assert_eq!(found.line, Some(line), "{found}");
            assert!(found.what.contains(what), "{found}");
        };
        let mut removed = lines.clone();
        removed.remove(4);
        bad(&removed, 5, "record 6 stands where record 5 is expected");
        let mut swapped = lines.clone();
        swapped.swap(2, 3);
        bad(&swapped, 3, "record 4 stands where record 3 is expected");
        let mut repeated = lines.clone();
        repeated.insert(3, lines[2].clone());
        bad(&repeated, 4, "record 3 stands where record 4 is expected");
        // one that is right by itself, of another chain
        let mut replaced = lines.clone();
        let mut other = Head { seq: 4, hash: ORIGIN.to_owned() };
        replaced[4] = seal(Map::new(), &mut other);
        bad(&replaced, 5, "record 5 does not follow record 4");
        let cut = lines[..7].concat();
        assert!(verify(cut.as_bytes(), None).is_ok(), "a chain alone does not show it");
        for wanted in [head.to_string(), head.hash.to_uppercase()] {
            let found = verify(cut.as_bytes(), Some(&wanted)).expect_err("a cut tail");
            assert!(found.what.contains("ends with record 7"), "{found}");
        }
        // a later log still has an earlier head
        let (_, earlier) = log(3);
        assert!(verify(whole.as_bytes(), Some(&earlier.to_string())).is_ok());
        let torn = &whole[..whole.len() - 20];
        assert_eq!(verify(torn.as_bytes(), None).expect_err("a torn line").line, Some(9));
        assert!("1:2".parse::<Wanted>().is_err() && "x".parse::<Wanted>().is_err());
    }

    proptest! {
        #[test]
        fn any_bit_that_was_changed_is_found_in_its_record(at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let (lines, head) = log(4);
            let mut bytes = lines.concat().into_bytes();
            let at = at.index(bytes.len());
            let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
            bytes[at] ^= 1 << bit;
            let found = verify(&bytes, Some(&head.to_string())).expect_err("a changed bit");
            // a line that is no record any more is wrong where none tells of it
            prop_assert!(found.line.is_none_or(|found| found == line || found == line + 1), "{} {}", line, found);
        }
    }
}
