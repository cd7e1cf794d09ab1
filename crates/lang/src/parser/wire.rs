//! `wire create|modify|destroy`.

use super::super::ast::Command;
use super::super::ast::wire::WireOption;
use super::super::diagnostic::Diagnostic;
use super::super::value;
use super::line::{Clause, Line, Read, Reported, Verb, once, verb};
use tapline_api::words::{NameKind, Role};

pub(super) const VERBS: &[(&str, Verb)] = &[
    ("create", verb(Role::Admin, "NAME ports A,B [KEYS]", "joins two ports inline", create)),
    (
        "modify",
        verb(Role::Admin, "NAME KEYS", "changes what is said of a wire", |line| {
            let name = line.name_before(NameKind::Wire, OPTIONS)?;
            Ok(Command::WireModify { name, options: line.clauses(OPTIONS) })
        }),
    ),
    (
        "destroy",
        verb(Role::Admin, "NAME", "removes a wire", |line| {
            Ok(Command::WireDestroy(line.name_before(NameKind::Wire, OPTIONS)?))
        }),
    ),
];

pub(super) const OPTIONS: &[Clause<WireOption>] = &[
    once("bypass", |line| Ok(WireOption::Bypass(line.switch()))),
    once("propagate-link", |line| Ok(WireOption::PropagateLink(line.switch()))),
];

/// `wire create NAME ports A,B [bypass] [propagate-link]`.
fn create(line: &mut Line<'_>) -> Read<Command> {
    line.stop_at_words(["ports"].into_iter());
    let name = line.new_name(NameKind::Wire);
    if name.is_err() && line.peek().is_none() {
        return Err(Reported);
    }
    line.expect("ports")?;
    line.stop_at(OPTIONS);
    let ports = line.names("ports", &[NameKind::Port]);
    let span = line.last_span();
    let options = line.clauses(OPTIONS);
    let ports = ports?;
    let given = ports.len();
    let Some((a, b)) = value::pair(ports) else {
        let error = Diagnostic::error(span, format!("a wire joins two ports, {given} given"));
        return Err(line.report(error.label("expected `ports A,B`")));
    };
    Ok(Command::WireCreate { name: name?, a, b, options })
}
