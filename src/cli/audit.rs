//! `tapline audit`: whether an audit log is as it was written.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use super::Status;
use super::output::{print, tell_line};
use crate::control::audit::chain::{Verifier, Wanted};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Go along the chain of an audit log, and name the first record that is wrong
    Verify(Verify),
}

#[derive(clap::Args, Debug)]
struct Verify {
    /// Files of one log, the oldest first
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A head that the broker told, as SEQ:HASH: the log is to have it still
    #[arg(long, value_name = "HEAD")]
    head: Option<Wanted>,
}

pub fn run(args: &Args) -> Status {
    let Command::Verify(args) = &args.command;
    verify(args)
}

fn verify(args: &Verify) -> Status {
    let mut verifier = Verifier::new(args.head.clone());
    for path in &args.files {
        let name = path.display().to_string();
        let gone = File::open(path).and_then(|file| verifier.file(&name, BufReader::new(file)));
        let bad = match gone {
            Ok(Ok(())) => continue,
            Ok(Err(bad)) => bad.to_string(),
            Err(error) => format!("{name}: {error}"),
        };
        tell_line(format_args!("error: {bad}"));
        return Status::Failed;
    }
    let (first, head) = match verifier.end() {
        Ok(Some(ends)) => ends,
        Ok(None) => {
            tell_line("error: there is no record");
            return Status::Failed;
        }
        Err(bad) => {
            tell_line(format_args!("error: {bad}"));
            return Status::Failed;
        }
    };
    for (record, what) in &verifier.gaps {
        print(format!("record {record} tells of a gap: {what}\n"));
    }
    if first > 1 {
        print(format!("records before {first} are in earlier files\n"));
    }
    print(format!("records {first} to {} are as they were written; the head is {head}\n", head.seq));
    Status::Done
}
