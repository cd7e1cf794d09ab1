//! `access grant|revoke`.

use super::super::ast::Command;
use super::super::ast::access::{Grant, Grantee};
use super::super::value::{Misread, Value};
use super::line::{Line, Read, Verb, verb};
use tapline_api::words::{GranteeKind, Role};

pub(super) const VERBS: &[(&str, Verb)] = &[
    ("grant", verb(Role::Admin, "ROLE user|group|token|cert NAME [peek]", "says who may do what", grant)),
    (
        "revoke",
        verb(Role::Admin, "user|group|token|cert NAME", "takes back what was granted", |line| {
            grantee(line).map(Command::AccessRevoke)
        }),
    ),
];

/// The word behind a grant of packets' bytes.
pub(super) const PEEK: &str = "peek";

fn grant(line: &mut Line<'_>) -> Read<Command> {
    let role = line.word_of("access grant")?;
    line.stop_at_words([PEEK].into_iter());
    let to = grantee(line)?;
    let has_peek = line.accept(PEEK).is_some();
    Ok(Command::AccessGrant(Grant { role, to, has_peek }))
}

fn grantee(line: &mut Line<'_>) -> Read<Grantee> {
    let kind: GranteeKind = line.word_of("access")?.value;
    line.refuse_stop(kind.word(), || EXPECTED.to_owned())?;
    Ok(Grantee { kind, name: line.value(kind.word(), grantee_name)? })
}

const EXPECTED: &str = "a name, or the number of a user or a group";

/// This is what may name a user, a group or a token: no blanks and nothing that a log would show as something else.
pub(super) fn grantee_name(text: &str) -> Value<String> {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != ':';
    if text.is_empty() || text.len() > 255 || !text.chars().all(is_plain) {
        return Err(Misread::expected(EXPECTED));
    }
    Ok(text.to_owned())
}
