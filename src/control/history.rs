//! The plans that were in force, by number: their texts, who brought them, and when.

use std::collections::VecDeque;
use std::fmt::Write;

use crate::plan::identity::plan_hash;

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
    /// Its origin: a file, or a change.
    pub origin: String,
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
    versions: VecDeque<Version>,
    last: u32,
    /// The text of the file that was loaded last.
    loaded: String,
}

impl History {
    /// Begins with the plan of a file.
    pub fn of_file(text: String, origin: String, by: String, time_ns: u64) -> Self {
        let mut history = Self { loaded: text.clone(), ..Self::default() };
        history.add(text, origin, by, time_ns);
        history
    }

    /// Adds the plan that is in force from now on; its number.
    pub fn add(&mut self, text: String, origin: String, by: String, time_ns: u64) -> u32 {
        self.last += 1;
        if self.versions.len() == MOST_VERSIONS {
            self.versions.pop_front();
        }
        let hash = plan_hash(&text);
        self.versions.push_back(Version { id: self.last, text, hash, time_ns, by, origin });
        self.last
    }

    /// Notes that a file with this text was loaded: drift is counted from it.
    pub fn load(&mut self, text: String) {
        self.loaded = text;
    }

    /// Returns the version in force.
    pub fn current(&self) -> &Version {
        self.versions.back().expect("a history begins with a version")
    }

    /// Returns a version that is kept.
    pub fn get(&self, id: u32) -> Option<&Version> {
        self.versions.iter().find(|version| version.id == id)
    }

    /// Returns the version before the one in force.
    pub fn before(&self) -> Option<&Version> {
        self.versions.iter().rev().nth(1)
    }

    /// Says all versions that are kept, a line each, the one in force last; `rfc3339` says a time.
    pub fn list(&self, rfc3339: impl Fn(u64) -> String) -> String {
        let mut out = String::new();
        for version in &self.versions {
            let Version { id, time_ns, by, origin, .. } = version;
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
        let mut history = History::of_file("a\n".into(), "a.pipe".into(), "anna".into(), 0);
        for n in 2..=60 {
            assert_eq!(
                history.add(format!("{n}\n"), "change".into(), "anna".into(), n),
                u32::try_from(n).expect("small")
            );
        }
        assert_eq!(history.list(|_| String::new()).lines().count(), MOST_VERSIONS);
        assert!(history.get(10).is_none());
        assert_eq!((history.current().id, history.before().map(|version| version.id)), (60, Some(59)));
        assert_eq!(history.drift(), "- a\n+ 60\n");
        history.load("60\n".into());
        assert_eq!(history.drift(), "");
    }

    #[test]
    fn lines_that_stand_twice_are_counted() {
        assert_eq!(lines_that_differ("a\nb\nb\n", "b\nc\nc\n"), "- a\n- b\n+ c\n+ c\n");
        assert_eq!(lines_that_differ("a\n", "a\n"), "");
    }
}
