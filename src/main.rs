//! The command line: arguments -> one match on the command -> exit status.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tapline::cli::{UsageError, filter};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Filter(filter::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Filter(args) => filter::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tapline: {error:#}");
        ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
    })
}
