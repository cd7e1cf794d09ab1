//! `tapline check FILE`: parse, resolve and plan; print errors and warnings; start nothing.

use std::net::SocketAddr;

use super::output::{print, tell_line};
use super::signals::Signals;
use super::{SourceArgs, Status, has_place, load, not_listening};
use crate::plan::{Run, RunOptions};
use crate::web::{self, Listening};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Further EAL arguments, as for `run`: they may say which lcores there are
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    eal: Option<String>,
    /// Also check that HTTP may be answered on this address, as `run --listen` would
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

pub fn run(args: &Args) -> Status {
    match Signals::handle().and_then(|signals| load(&args.source, Vec::new(), &signals, || {})) {
        Ok((parsed, plan)) => {
            let options =
                RunOptions { eal: RunOptions::eal_of(args.eal.as_deref()), ..RunOptions::default() };
            if !has_place(&parsed, Run { plan: &plan, options: &options }) {
                return Status::Refused;
            }
            if let Some(address) = args.listen {
                if let Err(refused) = Listening::check(address, &plan.settings) {
                    return not_listening(address, &refused);
                }
                if let Some(warning) = web::crowded(&plan, &options) {
                    tell_line(format_args!("warning: --listen {address}: {warning}"));
                }
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
