//! `tapline doctor [FILE]`: say what this machine, or the file on it, lacks; start nothing.

use std::path::PathBuf;

use super::output::print;
use super::signals::Signals;
use super::{SourceArgs, Status, load, name_and_value};
use crate::doctor::{Report, Roots, examine};
use crate::plan::{Run, RunOptions};
use tapline_dpdk::clock;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Pipeline file that is to run here
    file: Option<PathBuf>,
    /// Define what ${NAME} expands to; wins over `let` in the file
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value, requires = "file")]
    sets: Vec<(String, String)>,
    /// Further EAL arguments, as for `run`
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true, requires = "file")]
    eal: Option<String>,
    /// Print tapline.doctor/1
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Status {
    match report(args) {
        Ok(report) => {
            if args.json {
                print(format_args!("{:#}\n", report.json(clock::now_ns())));
            } else {
                print(&report);
            }
            if report.is_ready() { Status::Done } else { Status::Failed }
        }
        Err(status) => status,
    }
}

/// Looks at this machine. An `Err` is a file that is wrong, or a signal.
fn report(args: &Args) -> Result<Report, Status> {
    let roots = Roots::system();
    let Some(file) = &args.file else { return Ok(examine(&roots, None, None)) };
    let source = SourceArgs { file: file.clone(), sets: args.sets.clone() };
    let signals = Signals::handle()?;
    let (_, plan) = load(&source, Vec::new(), &signals, || {})?;
    let options = RunOptions { eal: RunOptions::eal_of(args.eal.as_deref()), ..RunOptions::default() };
    Ok(examine(&roots, Some(file), Some(Run { plan: &plan, options: &options })))
}
