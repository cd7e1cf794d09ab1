//! `tapline check FILE`: parse, resolve and plan; print errors and warnings; start nothing.

use super::output::print;
use super::signals::Signals;
use super::{SourceArgs, Status, has_place, load};
use crate::plan::{Run, RunOptions};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Further EAL arguments, as for `run`: they may say which lcores there are
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    eal: Option<String>,
}

pub fn run(args: &Args) -> Status {
    match Signals::handle().and_then(|signals| load(&args.source, Vec::new(), &signals, || {})) {
        Ok((parsed, plan)) => {
            let options =
                RunOptions { eal: RunOptions::eal_of(args.eal.as_deref()), ..RunOptions::default() };
            if !has_place(&parsed, Run { plan: &plan, options: &options }) {
                return Status::Refused;
            }
            let count =
                |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
            let wires = if plan.wires.is_empty() {
                String::new()
            } else {
                format!(", {}", count(plan.wires.len(), "wire"))
            };
            print(format_args!(
                "{}: {}, {}, {}{wires}, {}\n",
                args.source.file.display(),
                count(plan.ports.len(), "port"),
                count(plan.tools.len(), "tool"),
                count(plan.groups.len(), "group"),
                count(plan.rules.len(), "rule")
            ));
            Status::Done
        }
        Err(status) => status,
    }
}
