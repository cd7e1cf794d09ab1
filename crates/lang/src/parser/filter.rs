//! `filter create|modify|destroy`, and what rules' filters share with them.

use super::super::ast::Command;
use super::super::ast::filter::{Filter, FilterSource};
use super::super::diagnostic::Diagnostic;
use super::super::source::{Span, Spanned};
use super::super::value::text;
use super::edit::through;
use super::line::{Line, Read, Reported, Verb, verb};
use tapline_api::words::{NameKind, Role};

pub(super) const VERBS: &[(&str, Verb)] = &[
    (
        "create",
        verb(
            Role::Operator,
            "NAME \"EXPR\" [through LAYERS] | NAME file PATH [through LAYERS]",
            "names a filter",
            |line| {
                let name = line.new_name(NameKind::Filter)?;
                Ok(Command::FilterCreate { name, filter: definition(line, "filter create")? })
            },
        ),
    ),
    (
        "modify",
        verb(
            Role::Operator,
            "NAME \"EXPR\" [through LAYERS] | NAME file PATH [through LAYERS]",
            "gives a named filter another meaning",
            |line| {
                let name = line.name(NameKind::Filter)?;
                Ok(Command::FilterModify { name, filter: definition(line, "filter modify")? })
            },
        ),
    ),
    (
        "destroy",
        verb(Role::Operator, "NAME", "removes a named filter", |line| {
            Ok(Command::FilterDestroy(line.name(NameKind::Filter)?))
        }),
    ),
];

/// `"EXPR" [through LIST]` or `file PATH [through LIST]`.
fn definition(line: &mut Line<'_>, key: &str) -> Read<Filter> {
    let source = match list(line)? {
        Some(list) => list,
        None => {
            let is_quoted = line.peek().is_some_and(|word| word.quoted);
            let expression = line.value(key, text("an expression in double quotes, or file PATH"))?;
            if !is_quoted && line.peek().is_some_and(|word| !word.is("through")) {
                return Err(unquoted_expression(line, expression.span.to(line.end())));
            }
            expression.map(FilterSource::Expression)
        }
    };
    Ok(Filter { source, through: through(line)? })
}

/// `file PATH`, if it comes here.
pub(super) fn list(line: &mut Line<'_>) -> Read<Option<Spanned<FilterSource>>> {
    let Some(word) = line.accept("file") else { return Ok(None) };
    let path = line.free_text("file", "the path of a list of prefixes or expressions")?;
    Ok(Some(Spanned::new(FilterSource::File(path.value), word.to(path.span))))
}

/// Reports `tcp port 80` where `"tcp port 80"` was meant.
pub(super) fn unquoted_expression(line: &mut Line<'_>, span: Span) -> Reported {
    let error = Diagnostic::error(span, "the filter expression is not in quotes")
        .label("expected double quotes around it");
    let reported = line.report(error.help(format!("write \"{}\"", line.words_within(span))));
    line.mute();
    reported
}
