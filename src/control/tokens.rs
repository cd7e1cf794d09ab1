//! Tokens: secrets that stand for a role, for whoever shows one. They are shown once and kept as their SHA-256; at 256 random bits
//! nothing is won by a slow hash.
//! # Source
//! FIPS 180-4 (SHA-256); random(4).

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::state::State;
use tapline_api::words::Role;
use tapline_lang::ast::session::TokenCommand;

/// Begins each token, so that people and programs that look for secrets know one.
pub const PREFIX: &str = "tl_";
/// The file of the tokens.
pub(super) const FILE: &str = "tokens.json";
/// Tokens that a broker has.
const MOST_TOKENS: usize = 1000;
/// Random bytes of a token.
const SECRET_BYTES: usize = 32;

/// A token, without its secret.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Token {
    pub name: String,
    /// The hash of the token, in hexadecimal digits.
    sha256: String,
    pub role: Role,
    /// May see packets' bytes.
    pub peek: bool,
    /// In seconds since the Unix epoch.
    created: u64,
    /// From when on it is none, in seconds since the Unix epoch.
    expires: Option<u64>,
}

/// A token to be made.
#[derive(Clone, PartialEq, Debug)]
pub struct NewToken {
    pub name: String,
    pub role: Role,
    pub has_peek: bool,
    pub expire: Option<Duration>,
}

#[derive(Deserialize)]
struct Kept {
    tokens: Vec<Token>,
}

/// The tokens of a broker. Clones are the same until one is changed.
#[derive(Clone, Default)]
pub struct Tokens {
    all: Vec<Token>,
    state: Option<Arc<State>>,
}

/// One that was shown, and that may be taken back.
#[derive(Clone, PartialEq, Debug)]
pub struct Shown {
    name: String,
    sha256: String,
}

impl Tokens {
    /// Reads the tokens of a folder. Without one they end with the broker.
    ///
    /// # Errors
    /// The file cannot be read, or is none of tokens.
    pub fn of(state: Option<Arc<State>>) -> io::Result<Self> {
        let bytes = state.as_ref().map(|state| state.read(FILE)).transpose()?.flatten();
        let all = match bytes {
            None => Vec::new(),
            Some(bytes) => {
                let kept: Result<Kept, _> = serde_json::from_slice(&bytes);
                kept.map_err(|error| io::Error::other(format!("{FILE}: {error}")))?.tokens
            }
        };
        Ok(Self { all, state })
    }

    /// Returns whether the tokens outlive the broker.
    pub fn are_kept(&self) -> bool {
        self.state.is_some()
    }

    /// Makes a token; the text that whoever uses it has to show.
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn create(&mut self, new: NewToken, now_ns: u64) -> Result<String, String> {
        let now = now_ns / 1_000_000_000;
        self.all.retain(|token| !token.is_over(now));
        if self.all.iter().any(|token| token.name == new.name) {
            return Err(format!(
                "there is a token `{}` already; `token revoke {}` takes it back",
                new.name, new.name
            ));
        }
        if self.all.len() >= MOST_TOKENS {
            return Err(format!("there are {MOST_TOKENS} tokens already; take one back"));
        }
        let text = format!("{PREFIX}{}", &*secret()?);
        self.all.push(Token {
            name: new.name,
            sha256: hash(&text),
            role: new.role,
            peek: new.has_peek,
            created: now,
            expires: new.expire.map(|time| now.saturating_add(time.as_secs().max(1))),
        });
        Ok(text)
    }

    /// Does what a command asks for; the text for who gave it.
    ///
    /// # Errors
    /// The reason why nothing has changed.
    pub fn obey(&mut self, command: TokenCommand, now_ns: u64) -> Result<String, String> {
        match command {
            TokenCommand::Create { name, role, has_peek, expire } => {
                let text = self.create(NewToken { name: name.value, role, has_peek, expire }, now_ns)?;
                let end =
                    if self.are_kept() { "" } else { "it ends with this broker, which has no --state\n" };
                Ok(format!("{text}\nit is shown this once\n{end}"))
            }
            TokenCommand::Revoke(name) if self.revoke(&name.value) => Ok(String::new()),
            TokenCommand::Revoke(name) => Err(format!("there is no token `{}`", name.value)),
            TokenCommand::List => Ok(self.list(now_ns)),
        }
    }

    /// Takes a token back. Returns whether there was one.
    pub fn revoke(&mut self, name: &str) -> bool {
        let before = self.all.len();
        self.all.retain(|token| token.name != name);
        self.all.len() < before
    }

    /// Writes the tokens where they are kept. It may wait for a disk.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&self) -> io::Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        let text = json!({ "schema": "tapline.tokens/1", "tokens": self.all });
        state.write(FILE, format!("{text:#}\n").as_bytes())
    }

    /// Says all tokens, a line each.
    pub fn list(&self, now_ns: u64) -> String {
        let now = now_ns / 1_000_000_000;
        let mut out = String::new();
        for token in &self.all {
            let peek = if token.peek { " peek" } else { "" };
            let end = match token.expires {
                None => String::new(),
                Some(_) if token.is_over(now) => ", expired".to_owned(),
                Some(end) => format!(", expires {}", utc(end)),
            };
            writeln!(out, "{}: {}{peek}, made {}{end}", token.name, token.role, utc(token.created))
                .expect("a string takes everything");
        }
        if out.is_empty() { "there is no token\n".to_owned() } else { out }
    }

    /// Finds a token by the text that was shown; all are looked at, however soon one differs.
    pub fn shown(&self, text: &str, now_ns: u64) -> Option<Shown> {
        let sha256 = hash(text);
        let mut found = None;
        for token in &self.all {
            if is_equal(token.sha256.as_bytes(), sha256.as_bytes())
                && !token.is_over(now_ns / 1_000_000_000)
            {
                found = Some(Shown { name: token.name.clone(), sha256: sha256.clone() });
            }
        }
        found
    }

    /// Returns a token that was shown, if it is one still.
    pub fn get(&self, shown: &Shown, now_ns: u64) -> Option<&Token> {
        let is_it = |token: &&Token| {
            (&token.name, &token.sha256) == (&shown.name, &shown.sha256)
                && !token.is_over(now_ns / 1_000_000_000)
        };
        self.all.iter().find(is_it)
    }
}

impl Token {
    fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|end| now >= end)
    }
}

fn utc(seconds: u64) -> String {
    let second = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    second.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Draws a secret of 256 random bits, in hexadecimal digits.
///
/// # Errors
/// The reason why there is none.
pub fn secret() -> Result<Zeroizing<String>, String> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut *secret))
        .map_err(|error| format!("/dev/urandom cannot be read: {error}"))?;
    Ok(Zeroizing::new(hexadecimal(&*secret)))
}

/// Returns the SHA-256 of a secret, by which it is kept.
pub fn hash(text: &str) -> String {
    hexadecimal(&Sha256::digest(text))
}

/// Compares in a time that does not depend on where the bytes differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let differs = a.iter().zip(b).fold(0, |differs, (a, b)| std::hint::black_box(differs | (a ^ b)));
    a.len() == b.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000_000_000;

    fn new(name: &str, expire: Option<u64>) -> NewToken {
        NewToken {
            name: name.to_owned(),
            role: Role::Operator,
            has_peek: false,
            expire: expire.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_token_is_found_until_it_is_taken_back_or_over() {
        let mut tokens = Tokens::default();
        let grafana = tokens.create(new("grafana", None), NOW).expect("a token");
        let short = tokens.create(new("short", Some(60)), NOW).expect("a token");
        assert!(grafana.starts_with("tl_") && grafana.len() == 3 + 64 && grafana != short);
        assert!(tokens.create(new("short", None), NOW).is_err());
        let shown = tokens.shown(&short, NOW).expect("it is one");
        assert_eq!(tokens.get(&shown, NOW + 59_000_000_000).map(|token| token.role), Some(Role::Operator));
        assert!(tokens.get(&shown, NOW + 60_000_000_000).is_none());
        assert!(tokens.shown(&short, NOW + 60_000_000_000).is_none());
        for wrong in ["", "tl_", &grafana[..66], &format!("{grafana}0"), &grafana.to_uppercase()] {
            assert!(tokens.shown(wrong, NOW).is_none(), "{wrong}");
        }
        let shown = tokens.shown(&grafana, NOW).expect("it is one");
        assert!(tokens.revoke("grafana") && !tokens.revoke("grafana"));
        assert!(tokens.get(&shown, NOW).is_none());
        // another one of the same name is another one
        tokens.create(new("grafana", None), NOW).expect("a token");
        assert!(tokens.get(&shown, NOW).is_none());
        // one that is over makes room for its name
        tokens.create(new("short", None), NOW + 60_000_000_000).expect("a token");
    }

    #[test]
    fn secrets_are_nowhere_and_hashes_are_those_of_sha256sum() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = Arc::new(State::open(folder.path()).expect("a folder"));
        let mut tokens = Tokens::of(Some(Arc::clone(&state))).expect("none");
        let text = tokens.create(new("a", Some(86400)), NOW).expect("a token");
        tokens.write().expect("a file");
        let kept = std::fs::read_to_string(folder.path().join(FILE)).expect("a file");
        let command = format!("printf %s {text} | sha256sum | cut -d' ' -f1");
        let output =
            std::process::Command::new("sh").args(["-c", &command]).output().expect("sha256sum(1)");
        assert!(
            kept.contains(String::from_utf8_lossy(&output.stdout).trim()) && !kept.contains(&text[3..])
        );
        assert_eq!(
            tokens.list(NOW),
            "a: operator, made 2027-01-15T08:00:00Z, expires 2027-01-16T08:00:00Z\n"
        );
        let again = Tokens::of(Some(state)).expect("a file");
        assert_eq!(again.all, tokens.all);
        assert!(again.shown(&text, NOW).is_some());
        std::fs::write(folder.path().join(FILE), "{").expect("a file");
        assert!(Tokens::of(again.state).is_err());
    }
}
