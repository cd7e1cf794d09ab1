//! The `tapline` command: arguments, one match on the command, exit status.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tapline::cli::{self, Status, output};

/// A network packet broker on DPDK that accounts for every packet
#[derive(Parser)]
#[command(
    name = "tapline",
    version,
    after_help = "Exit status: 0 done, 1 run-time failure, 2 wrong command line or pipeline file"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a pipeline file
    Run(cli::run::Args),
    /// Check a pipeline file; start nothing
    Check(cli::check::Args),
    /// Say what this machine, or a pipeline file on it, lacks, and the command that mends it
    Doctor(cli::doctor::Args),
    /// Draw a pipeline file; start nothing
    Graph(cli::graph::Args),
    /// Send commands to a running broker
    Ctl(cli::ctl::Args),
    /// Watch a running broker, or replay its statistics
    Top(cli::top::Args),
    /// Say what a pipeline file does with each packet of a capture, and why
    Explain(cli::explain::Args),
    /// Compare two pipeline files: objects, and what becomes of the packets of a capture
    Diff(cli::diff::Args),
    /// Check an audit log
    Audit(cli::audit::Args),
    /// Select packets of a capture file, with tcpdump's meaning
    Filter(cli::filter::Args),
    /// Print the versions of Tapline, DPDK and libpcap
    Version,
}

fn main() -> ExitCode {
    tapline_kernel::limits::let_writes_fail();
    let status: Status = match Cli::parse().command {
        Command::Run(args) => cli::run::run(&args),
        Command::Check(args) => cli::check::run(&args),
        Command::Doctor(args) => cli::doctor::run(&args),
        Command::Graph(args) => cli::graph::run(&args),
        Command::Ctl(args) => cli::ctl::run(&args),
        Command::Top(args) => cli::top::run(&args),
        Command::Explain(args) => cli::explain::run(&args),
        Command::Diff(args) => return ExitCode::from(cli::diff::run(&args)),
        Command::Audit(args) => cli::audit::run(&args),
        Command::Filter(args) => return filter(&args),
        Command::Version => cli::version::run(),
    };
    ExitCode::from(output::judge(status) as u8)
}

fn filter(args: &cli::filter::Args) -> ExitCode {
    cli::filter::run(args).unwrap_or_else(|error| {
        output::tell_line(format_args!("tapline: {error:#}"));
        let status = if error.is::<cli::UsageError>() { Status::Refused } else { Status::Failed };
        ExitCode::from(status as u8)
    })
}
