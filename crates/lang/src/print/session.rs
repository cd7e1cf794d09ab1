//! Commands to a running broker, which stand in no file: for records of what was asked, and for programs that send lines.

use super::super::ast::session::{Guard, Guarded, Reload, SessionCommand, TokenCommand};
use super::value::duration;
use super::{Print, Words};

impl Print for SessionCommand {
    fn print(&self, line: &mut Words) {
        match self {
            Self::Reload(reload) => reload.print(line),
            Self::Confirm(id) => with_id(line, "confirm", *id),
            Self::Rollback(id) => with_id(line, "rollback", *id),
            Self::Save(path) => {
                line.word("save");
                if let Some(path) = path {
                    line.text(path);
                }
            }
            Self::Reopen => {
                line.word("reopen");
            }
            Self::ShowHistory => {
                line.word("show history");
            }
            Self::ShowDrift => {
                line.word("show drift");
            }
            Self::ShowDiff { old, new } => {
                line.word("show diff").word(old).word(new);
            }
            Self::Token(token) => token.print(line),
        }
    }
}

fn with_id(line: &mut Words, word: &str, id: Option<u32>) {
    line.word(word);
    if let Some(id) = id {
        line.word(id);
    }
}

impl Print for Reload {
    fn print(&self, line: &mut Words) {
        let Self { file, is_dry_run, capture, confirm, guard, may_interrupt } = self;
        line.word("reload");
        match file.as_deref() {
            None => {}
            // without quotes such a name would be an option
            Some(path @ ("dry-run" | "-r" | "confirm" | "guard" | "interrupt")) => {
                line.quoted(path);
            }
            Some(path) => {
                line.text(path);
            }
        }
        if *is_dry_run {
            line.word("dry-run");
        }
        if let Some(path) = capture {
            line.word("-r").text(path);
        }
        if let Some(limit) = confirm {
            line.word("confirm").word(duration(*limit));
        }
        if let Some(Guard { of, most }) = guard {
            let of = match of {
                Guarded::Loss => "loss",
                Guarded::Drops => "drops",
            };
            line.word("guard").word(format_args!("{of}>{most}"));
        }
        if *may_interrupt {
            line.word("interrupt");
        }
    }
}

impl Print for TokenCommand {
    fn print(&self, line: &mut Words) {
        line.word("token");
        match self {
            Self::List => {
                line.word("list");
            }
            Self::Revoke(name) => {
                line.word("revoke").text(&name.value);
            }
            Self::Create { name, role, has_peek, expire } => {
                line.word("create").text(&name.value).word(role);
                if *has_peek {
                    line.word("peek");
                }
                if let Some(limit) = expire {
                    line.word("expire").word(duration(*limit));
                }
            }
        }
    }
}

impl std::fmt::Display for SessionCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&Words::of(self).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::NoFiles;
    use crate::{parse_onto, parse_text, role_of};

    /// The command of a line, without its place, and the role that the line needs.
    fn read(line: &str) -> (SessionCommand, tapline_api::words::Role) {
        let mut parsed = parse_onto(&parse_text("t", "", &[]), line.as_bytes(), &NoFiles);
        assert_eq!(
            parsed.diagnostics.errors(),
            0,
            "{line}: {}",
            parsed.diagnostics.render(&parsed.sources)
        );
        (parsed.session.remove(0).value, parsed.role)
    }

    #[test]
    fn every_command_reads_back_and_needs_the_role_of_its_line() {
        for line in [
            "reload",
            "reload a.pipe",
            "reload \"confirm\" confirm 1h",
            "reload \"a b\\\"\\\\.pipe\" dry-run confirm 90s guard loss>3 interrupt",
            "reload \"-r\" dry-run -r \"a b.pcap\"",
            "reload guard drops>0",
            "confirm",
            "confirm 7",
            "rollback",
            "rollback 4294967295",
            "save",
            "save \"#x\"",
            "reopen",
            "show history",
            "show drift",
            "show diff 1 2",
            "token list",
            "token revoke a",
            "token create a operator peek expire 1500ms",
        ] {
            let (command, role) = read(line);
            assert_eq!(command.to_string(), line);
            assert_eq!(role_of(&command), role, "{line}");
        }
        // a path that begins like a variable is none
        let command = SessionCommand::Save(Some("/x/${HOME}".to_owned()));
        assert_eq!(read(&command.to_string()).0, command);
    }
}
