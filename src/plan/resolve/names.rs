//! Names and priorities: how things are looked up by them, and what is said where nothing has them.

use std::fmt::Display;
use std::hash::Hash;

use super::Resolver;
use tapline_api::words::NameKind;
use tapline_lang::ast::Name;
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::source::{Span, Spanned};
use tapline_lang::suggest::nearest;
use tapline_packet::by_id::Id;

/// Names that an error lists.
const MOST_LISTED: usize = 12;

/// The keys that things are known by: names, and the priorities of rules.
pub(crate) trait Key: Eq + Hash + Display + Sized {
    /// The noun for what each thing must have for itself.
    const NOUN: &'static str;

    /// The key, as it stands behind the word for its kind.
    fn words(&self) -> String;

    /// Reports a key that is not among those known.
    fn report_unknown(
        resolver: &mut Resolver<'_>,
        kind: NameKind,
        key: &Spanned<Self>,
        known: &[&Spanned<Self>],
    );
}

impl Key for String {
    const NOUN: &'static str = "name";

    fn words(&self) -> String {
        format!("`{self}`")
    }

    fn report_unknown(resolver: &mut Resolver<'_>, kind: NameKind, name: &Name, known: &[&Name]) {
        resolver.unknown(&kind.to_string(), &format!("a {kind}"), &name.value, name.span, known);
    }
}

impl Key for u32 {
    const NOUN: &'static str = "priority";

    fn words(&self) -> String {
        self.to_string()
    }

    fn report_unknown(
        resolver: &mut Resolver<'_>,
        kind: NameKind,
        priority: &Spanned<u32>,
        known: &[&Spanned<u32>],
    ) {
        let mut known: Vec<u32> = known.iter().map(|known| known.value).collect();
        known.sort_unstable();
        let label = if known.is_empty() {
            format!("no {kind} is defined")
        } else {
            format!("expected a {kind}; defined are {}", listed(known.iter().map(u32::to_string)))
        };
        resolver.error(
            Diagnostic::error(priority.span, format!("unknown {kind} `{}`", priority.value)).label(label),
        );
    }
}

impl<'a> Resolver<'a> {
    /// The place of a name among those defined, or a diagnostic.
    pub(super) fn look_up<I: Id>(&mut self, kind: NameKind, name: &Name, known: &[&Name]) -> Option<I> {
        let found = known.iter().position(|known| known.value == name.value);
        if found.is_none() {
            self.unknown_key(kind, name, known);
        }
        found.map(I::new)
    }

    /// Reports a key that is not among those defined, unless that follows from another mistake.
    pub(super) fn unknown_key<K: Key>(&mut self, kind: NameKind, key: &Spanned<K>, known: &[&Spanned<K>]) {
        if !self.parsed.file.is_excused(kind, &key.value.to_string()) {
            K::report_unknown(self, kind, key, known);
        }
    }

    /// Reports a name that is not among those defined.
    pub(super) fn unknown(&mut self, kind: &str, expected: &str, name: &str, span: Span, known: &[&Name]) {
        let label = if known.is_empty() {
            format!("expected {expected}; none is defined")
        } else {
            format!(
                "expected {expected}; defined are {}",
                listed(known.iter().map(|name| name.value.clone()))
            )
        };
        let mut diagnostic = Diagnostic::error(span, format!("unknown {kind} `{name}`")).label(label);
        if let Some(near) = nearest(name, known.iter().map(|name| name.value.as_str()))
            && let Some(defined) = known.iter().find(|name| name.value == near)
        {
            let line = self.sources().position(defined.span).line;
            diagnostic =
                diagnostic.help(format!("a {kind} with a similar name exists: `{near}` (line {line})"));
        }
        self.error(diagnostic);
    }
}

/// The first of all keys, for an error that lists them.
fn listed(keys: impl Iterator<Item = String>) -> String {
    let mut listed: Vec<String> = keys.take(MOST_LISTED + 1).collect();
    if listed.len() > MOST_LISTED {
        listed[MOST_LISTED] = "…".to_owned();
    }
    listed.join(", ")
}
