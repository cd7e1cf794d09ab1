//! `tapline diff OLD NEW [-r IN]`: say how two pipeline files differ, and which packets of a capture fare otherwise; start nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::explain::{Failure, range, surroundings};
use super::output::{judge, offer, tell_line};
use super::signals::Signals;
use super::{SourceArgs, Status, load_in, load_text_in, name_and_value};
use crate::broker::rehearsal;
use crate::explain::capture::{Batch, Capture};
use crate::explain::compare::count::Counted;
use crate::explain::compare::{Compared, Comparison, Difference, json, text};
use crate::plan::diff::diff;
use crate::plan::origin::origins;
use tapline_filter::{Program, compile};
use tapline_packet::burst::{MAX_BURST, Selection};

/// Say how two pipeline files differ, and which packets of a capture fare otherwise
///
/// Packets go through the data path's own code, one worker of each file, as for `explain`: nothing that the files name is attached, opened
/// for writing or locked, and no right is needed. Packets that fare otherwise are grouped by cause, the first of each shown; `!` marks
/// packets that a tool had and no longer has.
#[derive(clap::Args, Debug)]
#[command(after_help = "Exit status: 0 done, 1 run-time failure, 2 wrong command line or pipeline file; \
                        with --exit-code: 0 equal, 1 different, 2 the comparison failed")]
pub struct Args {
    /// Pipeline file as it is
    old: PathBuf,
    /// Pipeline file as it is to be
    new: PathBuf,
    /// Define what ${NAME} expands to in both files; wins over `let` in a file
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
    sets: Vec<(String, String)>,
    /// Capture file to read; - is standard input
    #[arg(short = 'r', long = "read", value_name = "IN")]
    input: Option<PathBuf>,
    /// Port that the packets come by; else the files' only input, or the port that the capture's interface is named after
    #[arg(long, value_name = "PORT", requires = "input")]
    from: Option<String>,
    /// Compare packet N, or packets A to B, counted from 1; those before are run, too
    #[arg(long, value_name = "N|A-B", value_parser = range, requires = "input")]
    packet: Option<(u64, u64)>,
    /// Compare packets that match a pcap-filter expression
    #[arg(long = "match", value_name = "EXPR", requires = "input")]
    expression: Option<String>,
    /// Compare what samplers keep, too; else packets are compared before their draw
    #[arg(long, requires = "input")]
    sampled: bool,
    /// Exit with 1 if packets fare otherwise, or without a capture if objects differ; with 2 if that cannot be known
    #[arg(long)]
    exit_code: bool,
    /// Print JSON (tapline.diff/1)
    #[arg(long)]
    json: bool,
    /// OLD and NEW are names; standard input has both texts, each behind its length in 8 bytes, then the capture; what --json prints is
    /// followed by the lines about packets
    #[arg(long, hide = true, requires = "json")]
    texts: bool,
}

/// Runs the subcommand; gives the exit status.
pub fn run(args: &Args) -> u8 {
    let compared = Signals::handle().map_err(|status| Failure(status, String::new()));
    let compared = compared.and_then(|signals| compare(args, &signals));
    let (status, is_same) = match compared {
        Ok(is_same) => (judge(Status::Done), is_same),
        Err(Failure(status, text)) => {
            // planning told its mistakes itself
            if !text.is_empty() {
                tell_line(format_args!("error: {text}"));
            }
            (judge(status), true)
        }
    };
    match (args.exit_code, status) {
        (true, Status::Done) => u8::from(!is_same),
        (true, _) => 2,
        (false, status) => status as u8,
    }
}

/// Compares the files. Returns whether nothing differs.
fn compare(args: &Args, signals: &Signals) -> Result<bool, Failure> {
    let expression = args.expression.as_deref().map(compile).transpose();
    let expression = expression.map_err(|error| Failure(Status::Refused, format!("--match: {error}")))?;
    let load = |file: &PathBuf| -> Result<Compared, Failure> {
        let loaded = match args.texts {
            true => load_text_in(&file.to_string_lossy(), text_of_input()?, signals, surroundings),
            false => {
                let source = SourceArgs { file: file.clone(), sets: args.sets.clone() };
                load_in(&source, signals, surroundings)
            }
        };
        let (parsed, plan) = loaded.map_err(|status| Failure(status, String::new()))?;
        let origins = origins(&parsed, &surroundings());
        Ok(Compared { plan, origins })
    };
    let plans = [load(&args.old)?, load(&args.new)?];
    let changes = diff(&plans[0].plan, &plans[1].plan);
    let (counted, result) = match &args.input {
        None => (None, Ok(())),
        Some(input) => {
            let (counted, result) = compare_packets(args, input, plans, (expression.as_ref(), signals))?;
            (Some(counted), result)
        }
    };
    let difference = Difference { changes: &changes, packets: counted.as_ref() };
    let lines = || counted.as_ref().map_or_else(String::new, text::packets);
    offer(&match (args.json, args.texts) {
        (true, true) => format!("{}\n{}", json::difference(&difference), lines()),
        (true, false) => format!("{}\n", json::difference(&difference)),
        (false, _) => text::difference(&difference),
    });
    result.map(|()| difference.is_none())
}

/// Reads a text from standard input, behind its length, and nothing that follows it.
fn text_of_input() -> Result<String, Failure> {
    let read = || -> io::Result<String> {
        let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut len = [0; 8];
        input.read_exact(&mut len)?;
        let mut text = String::new();
        input.take(u64::from_be_bytes(len)).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error| Failure(Status::Failed, format!("standard input: {error}")))
}

/// Lets both plans decide on a capture. Where it is damaged, what comes before is counted, and the result says so.
fn compare_packets(
    args: &Args,
    input: &Path,
    plans: [Compared; 2],
    (expression, signals): (Option<&Program>, &Signals),
) -> Result<(Counted, Result<(), Failure>), Failure> {
    let failed = |error: crate::broker::Error| Failure(Status::Failed, error.to_string());
    let both = [&plans[0].plan, &plans[1].plan];
    let mut capture = Capture::open_for_both(input, both, args.from.as_deref())?;
    let eal = rehearsal::eal(2).map_err(failed)?;
    let range = args.packet.unwrap_or((1, u64::MAX));
    let (mut plans, mut comparison) = (Some(plans), None::<Comparison>);
    let mut result = Ok(());
    loop {
        let batch = match capture.next_batch() {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(error) => {
                result = Err(error.into());
                break;
            }
        };
        if let Some(plans) = plans.take() {
            let now_ns = batch.first_ns().unwrap_or_default();
            comparison = Some(Comparison::new(&eal, plans, args.sampled, now_ns).map_err(failed)?);
        }
        let Some(comparison) = &mut comparison else { break };
        let is_last = compare_batch(comparison, &batch, range, expression);
        signals.alive();
        if signals.is_ended() {
            return Err(Failure(Status::Failed, "the comparison was given up for a signal".to_owned()));
        }
        if is_last {
            break;
        }
    }
    Ok((comparison.map(|comparison| comparison.counted).unwrap_or_default(), result))
}

/// Lets both plans decide on a batch. Returns whether nothing is asked about later packets.
fn compare_batch(
    comparison: &mut Comparison,
    batch: &Batch<'_>,
    (first, last): (u64, u64),
    expression: Option<&Program>,
) -> bool {
    let in_range = |number: u64| (first..=last).contains(&number);
    let passed_over = batch.passed_over.iter().filter(|&&number| in_range(number)).count();
    comparison.counted.passed_over += passed_over as u64;
    for (ports, packets) in batch.runs_of_both() {
        let mut rest = &packets[..];
        while !rest.is_empty() {
            let (burst, behind) = rest.split_at(comparison.fitting(rest).min(MAX_BURST));
            let is_wanted = |index: usize| {
                let packet = &burst[index];
                in_range(packet.number) && expression.is_none_or(|program| program.matches(&packet.frame))
            };
            let wanted: Selection = (0..burst.len()).filter(|&index| is_wanted(index)).collect();
            comparison.judge(ports, burst, wanted);
            if burst.last().is_some_and(|packet| packet.number >= last) {
                return true;
            }
            rest = behind;
        }
    }
    false
}
