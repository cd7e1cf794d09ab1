//! Commands to a running broker that are none of its plan: they stand in no file.

use super::super::ast::session::{Guard, Guarded, Reload, SessionCommand, TokenCommand};
use super::super::lexer::Word;
use super::super::value::{Misread, Value, duration, number, text};
use super::access::grantee_name;
use super::line::{About, Clause, Line, Read, once};
use tapline_api::words::Role;

/// A row of the table: who may give the command, and what reads what follows its word.
#[derive(Clone, Copy)]
pub(super) struct Session {
    pub(super) about: About,
    pub(super) read: fn(&mut Line<'_>) -> Read<SessionCommand>,
}

const fn session(
    role: Role,
    usage: &'static str,
    does: &'static str,
    read: fn(&mut Line<'_>) -> Read<SessionCommand>,
) -> Session {
    Session { about: About { role, usage, does }, read }
}

/// Every such command by its word.
const SESSION: &[(&str, Session)] = &[
    (
        "reload",
        session(
            Role::Admin,
            "[FILE] [dry-run [-r CAPTURE]] [confirm DURATION] [guard loss|drops[>N]] [interrupt]",
            "puts the plan of a whole file in the place of the running one",
            reload,
        ),
    ),
    (
        "confirm",
        session(Role::Operator, "[ID]", "keeps a plan that waits to be confirmed", |line| {
            Ok(SessionCommand::Confirm(id(line, "confirm")?))
        }),
    ),
    (
        "rollback",
        session(Role::Operator, "[ID]", "goes back to an earlier plan", |line| {
            Ok(SessionCommand::Rollback(id(line, "rollback")?))
        }),
    ),
    (
        "save",
        session(Role::Admin, "[FILE]", "writes the commands in force to a file", |line| {
            Ok(SessionCommand::Save(path(line, "save")?))
        }),
    ),
    (
        "reopen",
        session(Role::Operator, "", "opens the file of statistics anew", |_| Ok(SessionCommand::Reopen)),
    ),
    (
        "token",
        session(
            Role::Admin,
            "create NAME ROLE [peek] [expire DURATION] | list | revoke NAME",
            "makes, lists and takes back secrets that stand for a role",
            token,
        ),
    ),
];

/// The words behind `show` that are about a broker that runs.
const SHOWN: &[(&str, Shown)] =
    &[("history", Shown::History), ("drift", Shown::Drift), ("diff", Shown::Diff)];

#[derive(Clone, Copy)]
enum Shown {
    History,
    Drift,
    Diff,
}

const SHOW: Session = session(
    Role::Viewer,
    "history|drift|diff OLD NEW",
    "shows the plans that were in force, and how they differ",
    |line| {
        Ok(match line.choice("show", SHOWN)?.value {
            Shown::History => SessionCommand::ShowHistory,
            Shown::Drift => SessionCommand::ShowDrift,
            Shown::Diff => SessionCommand::ShowDiff {
                old: line.value("diff", number(1..=u32::MAX))?.value,
                new: line.value("diff", number(1..=u32::MAX))?.value,
            },
        })
    },
);

/// Returns the row of a line whose first words are these, if it is such a command.
pub(super) fn row(first: &Word, second: Option<&Word>) -> Option<Session> {
    let is_shown = second.is_some_and(|second| SHOWN.iter().any(|(word, _)| second.is(word)));
    if first.is("show") && is_shown {
        return Some(SHOW);
    }
    SESSION.iter().find(|(word, _)| first.is(word)).map(|(_, session)| *session)
}

/// Says that a line may begin with one of these commands.
pub(super) fn offer(line: &mut Line<'_>) {
    line.may_be(words());
}

/// Lists the words that these commands begin with.
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    SESSION.iter().map(|(word, _)| *word)
}

/// Returns the role that a command needs, as the table of commands has it.
pub fn role(command: &SessionCommand) -> Role {
    let word = match command {
        SessionCommand::Reload(_) => "reload",
        SessionCommand::Confirm(_) => "confirm",
        SessionCommand::Rollback(_) => "rollback",
        SessionCommand::Save(_) => "save",
        SessionCommand::Reopen => "reopen",
        SessionCommand::Token(_) => "token",
        SessionCommand::ShowHistory | SessionCommand::ShowDrift | SessionCommand::ShowDiff { .. } => {
            return SHOW.about.role;
        }
    };
    // a word that no row has is nobody's: the test below goes through all commands
    SESSION.iter().find(|(known, _)| *known == word).map_or(Role::Admin, |(_, row)| row.about.role)
}

/// Lists the words behind `show` that are about a broker that runs.
pub(super) fn shown() -> impl Iterator<Item = &'static str> {
    SHOWN.iter().map(|(word, _)| *word)
}

/// Lists these commands as the table of all commands does.
pub(super) fn rows() -> impl Iterator<Item = (&'static str, About)> {
    SESSION.iter().map(|(word, session)| (*word, session.about)).chain([("show", SHOW.about)])
}

/// An option behind `reload [FILE]`.
enum ReloadOption {
    DryRun,
    Capture(String),
    Confirm(std::time::Duration),
    Guard(Guard),
    Interrupt,
}

const OPTIONS: &[Clause<ReloadOption>] = &[
    once("dry-run", |_| Ok(ReloadOption::DryRun)),
    once("-r", |line| Ok(ReloadOption::Capture(line.value("-r", text("a capture's path"))?.value))),
    once("confirm", |line| Ok(ReloadOption::Confirm(line.value("confirm", duration)?.value))),
    once("guard", |line| Ok(ReloadOption::Guard(line.value("guard", guard)?.value))),
    once("interrupt", |_| Ok(ReloadOption::Interrupt)),
];

fn reload(line: &mut Line<'_>) -> Read<SessionCommand> {
    let is_option = line.peek().is_none_or(|word| OPTIONS.iter().any(|option| word.is(option.word())));
    let file = if is_option { None } else { path(line, "reload")? };
    if file.is_none() {
        line.may_have_value("reload");
    }
    let mut reload = Reload { file, ..Reload::default() };
    for option in line.clauses(OPTIONS) {
        match option.value {
            ReloadOption::DryRun => reload.is_dry_run = true,
            ReloadOption::Capture(path) => reload.capture = Some(path),
            ReloadOption::Confirm(limit) => reload.confirm = Some(limit),
            ReloadOption::Guard(guard) => reload.guard = Some(guard),
            ReloadOption::Interrupt => reload.may_interrupt = true,
        }
    }
    Ok(SessionCommand::Reload(reload))
}

/// The words behind `token`.
const TOKEN: &[(&str, TokenVerb)] =
    &[("create", TokenVerb::Create), ("list", TokenVerb::List), ("revoke", TokenVerb::Revoke)];

#[derive(Clone, Copy)]
enum TokenVerb {
    Create,
    List,
    Revoke,
}

/// This is what may follow `token create NAME ROLE`.
enum TokenOption {
    Peek,
    Expire(std::time::Duration),
}

const TOKEN_OPTIONS: &[Clause<TokenOption>] = &[
    once("peek", |_| Ok(TokenOption::Peek)),
    once("expire", |line| Ok(TokenOption::Expire(line.value("expire", duration)?.value))),
];

fn token(line: &mut Line<'_>) -> Read<SessionCommand> {
    let command = match line.choice("token", TOKEN)?.value {
        TokenVerb::List => TokenCommand::List,
        TokenVerb::Revoke => TokenCommand::Revoke(line.value("token", grantee_name)?),
        TokenVerb::Create => {
            let name = line.value("token", grantee_name)?;
            let role = line.word_of("token create")?.value;
            let (mut has_peek, mut expire) = (false, None);
            for option in line.clauses(TOKEN_OPTIONS) {
                match option.value {
                    TokenOption::Peek => has_peek = true,
                    TokenOption::Expire(time) => expire = Some(time),
                }
            }
            TokenCommand::Create { name, role, has_peek, expire }
        }
    };
    Ok(SessionCommand::Token(command))
}

/// `loss`, `drops`, `loss>N`, `drops>N`.
fn guard(text: &str) -> Value<Guard> {
    let (word, most) = text.split_once('>').map_or((text, "0"), |(word, most)| (word, most));
    let of = match word {
        "loss" => Some(Guarded::Loss),
        "drops" => Some(Guarded::Drops),
        _ => None,
    };
    match (of, most.parse()) {
        (Some(of), Ok(most)) => Ok(Guard { of, most }),
        _ => Err(Misread::expected("`loss` or `drops`, and how many are borne, such as `drops>100`")),
    }
}

fn id(line: &mut Line<'_>, key: &str) -> Read<Option<u32>> {
    line.may_have_value(key);
    match line.peek() {
        None => Ok(None),
        Some(_) => Ok(Some(line.value(key, number(1..=u32::MAX))?.value)),
    }
}

fn path(line: &mut Line<'_>, key: &str) -> Read<Option<String>> {
    line.may_have_value(key);
    match line.peek() {
        None => Ok(None),
        Some(_) => Ok(Some(line.value(key, text("a file's path"))?.value)),
    }
}
