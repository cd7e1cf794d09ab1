//! The plans that were in force, by number: their texts, who brought them, and when.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

use super::archive::Record;
use crate::plan::identity::plan_hash;
use tapline_api::words::Via;

/// Versions that are kept.
pub const MOST_VERSIONS: usize = 50;
/// Digits of a hash that people read.
const SHORT: usize = 8;

/// A plan that was in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    pub id: u32,
    /// The commands, as [`tapline_lang::text`] prints them.
    pub text: String,
    pub hash: String,
    /// When it came into force, in ns since the Unix epoch.
    pub time_ns: u64,
    pub by: String,
    pub via: Via,
    /// Its origin: a file, or a change.
    pub origin: String,
}

/// The cause of a version: who brought it, in which way, from where and when.
#[derive(Clone, Debug)]
pub struct Source {
    pub by: String,
    pub via: Via,
    pub origin: String,
    /// In ns since the Unix epoch.
    pub time_ns: u64,
}

impl Version {
    /// Returns the beginning of the hash.
    pub fn short(&self) -> &str {
        &self.hash[..SHORT]
    }
}

/// The last [`MOST_VERSIONS`] plans, the one in force last.
#[derive(Clone, Default, Debug)]
pub struct History {
    versions: VecDeque<Arc<Version>>,
    last: u32,
    /// The text of the file that was loaded last.
    loaded: String,
}

impl History {
    /// Goes on behind the plans of `past` with the one that a broker starts with, which is no other where it is the last of them.
    pub fn after(past: Record, text: String, source: Source) -> Self {
        let Record { versions, last, pending: _ } = past;
        let mut history = Self { versions: versions.into(), last, loaded: text.clone() };
        if history.versions.back().is_none_or(|before| before.id != last || before.text != text) {
            history.add(text, source);
        }
        history
    }

    /// Adds the plan that is in force from now on; its number.
    pub fn add(&mut self, text: String, source: Source) -> u32 {
        self.last += 1;
        if self.versions.len() == MOST_VERSIONS {
            self.versions.pop_front();
        }
        let (id, hash, Source { by, via, origin, time_ns }) = (self.last, plan_hash(&text), source);
        self.versions.push_back(Arc::new(Version { id, text, hash, time_ns, by, via, origin }));
        self.last
    }

    /// Returns all that is kept of it beyond the end of the broker.
    pub fn record(&self) -> Record {
        Record { versions: self.versions.iter().cloned().collect(), last: self.last, pending: None }
    }

    /// Returns the number that the next plan will have.
    pub fn next(&self) -> u32 {
        self.last + 1
    }

    /// Notes that a file with this text was loaded: drift is counted from it.
    pub fn load(&mut self, text: String) {
        self.loaded = text;
    }

    /// Returns the version in force.
    pub fn current(&self) -> &Version {
        self.versions.back().expect("a history begins with a version")
    }

    /// Shares the version in force.
    pub fn share_current(&self) -> Arc<Version> {
        Arc::clone(self.versions.back().expect("a history begins with a version"))
    }

    /// Returns a version that is kept.
    pub fn get(&self, id: u32) -> Option<&Version> {
        self.versions.iter().map(|version| &**version).find(|version| version.id == id)
    }

    /// Returns the version before the one in force.
    pub fn before(&self) -> Option<&Version> {
        self.versions.iter().rev().nth(1).map(|version| &**version)
    }

    /// Says all versions that are kept, a line each, the one in force last; `rfc3339` says a time.
    pub fn list(&self, rfc3339: impl Fn(u64) -> String) -> String {
        let mut out = String::new();
        for version in &self.versions {
            let Version { id, time_ns, by, origin, .. } = &**version;
            writeln!(out, "{id:>4}  {}  {}  {by}: {origin}", rfc3339(*time_ns), version.short())
                .expect("a string takes everything");
        }
        out
    }

    /// Says what was changed since the file was loaded; nothing, where nothing was.
    pub fn drift(&self) -> String {
        lines_that_differ(&self.loaded, &self.current().text)
    }
}

/// Says the commands of `old` that `new` has not, with `-`, and those of `new` that `old` has not, with `+`.
pub fn lines_that_differ(old: &str, new: &str) -> String {
    let mut counts = std::collections::HashMap::new();
    old.lines().for_each(|line| *counts.entry(line).or_insert(0i64) += 1);
    new.lines().for_each(|line| *counts.entry(line).or_insert(0) -= 1);
    let mut left = counts.clone();
    let mut out = String::new();
    let mut say = |mark: char, line: &str| {
        out.push(mark);
        out.push(' ');
        out.push_str(line);
        out.push('\n');
    };
    for line in old.lines() {
        if let Some(count) = left.get_mut(line).filter(|count| **count > 0) {
            *count -= 1;
            say('-', line);
        }
    }
    for line in new.lines() {
        if let Some(count) = left.get_mut(line).filter(|count| **count < 0) {
            *count += 1;
            say('+', line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_numbers_go_on() {
        let source =
            |time_ns| Source { by: "anna".into(), via: Via::Socket, origin: "change".into(), time_ns };
        let mut history = History::after(Record::default(), "a\n".into(), source(0));
        for n in 2..=60 {
            assert_eq!(history.add(format!("{n}\n"), source(n)), u32::try_from(n).expect("small"));
        }
        assert_eq!(history.list(|_| String::new()).lines().count(), MOST_VERSIONS);
        assert!(history.get(10).is_none());
        assert_eq!((history.current().id, history.before().map(|version| version.id)), (60, Some(59)));
        assert_eq!(history.drift(), "- a\n+ 60\n");
        history.load("60\n".into());
        assert_eq!(history.drift(), "");
        // a broker that starts with the last plan goes on with it, and with another one behind it
        let again = History::after(history.record(), "60\n".into(), source(61));
        assert_eq!((again.current().id, again.current().time_ns, again.drift().as_str()), (60, 60, ""));
        let other = History::after(history.record(), "x\n".into(), source(61));
        assert_eq!((other.current().id, other.get(12).map(|version| version.id)), (61, Some(12)));
        assert!(other.get(11).is_none());
        // the last plan of all may be one that is not kept
        let mut past = history.record();
        past.versions.pop();
        assert_eq!(History::after(past, "59\n".into(), source(61)).current().id, 61);
    }

    #[test]
    fn lines_that_stand_twice_are_counted() {
        assert_eq!(lines_that_differ("a\nb\nb\n", "b\nc\nc\n"), "- a\n- b\n+ c\n+ c\n");
        assert_eq!(lines_that_differ("a\n", "a\n"), "");
    }
}
