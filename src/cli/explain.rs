//! `tapline explain FILE -r IN`: what a pipeline file does with each packet of a capture, and why.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::output::{offer, tell_line};
use super::signals::Signals;
use super::{SourceArgs, Status, load_in};
use crate::broker::rehearsal;
use crate::explain::answer::Answer;
use crate::explain::capture::{Batch, Capture, CaptureError};
use crate::explain::{Explainer, Outcome, Packet, Question, json, text};
use crate::plan::origin::origins;
use crate::plan::surroundings::{Random, System, target_of_open};
use crate::plan::{Plan, Surroundings};
use tapline_api::words::{Disposition, DropReason};
use tapline_capture::{ByteOrder, Interface, InterfaceId, LinkType, Writer};
use tapline_datapath::ids::PortId;
use tapline_filter::{Program, compile};
use tapline_lang::files::{Files as _, Target};
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::by_id::ById;

/// Say what a pipeline file does with each packet of a capture, and why
///
/// Packets go through the data path's own code, one worker of it, on ports that are made up: nothing that the file names is attached,
/// opened for writing or locked, and no right is needed. Each packet is shown with its fields, each rule that was tried and why it took the
/// packet or did not, each copy with its edits, and its disposition.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Capture file to read; - is standard input
    #[arg(short = 'r', long = "read", value_name = "IN")]
    input: PathBuf,
    /// Port that the packets come by; else the file's only input, or the port that the capture's interface is named after
    #[arg(long, value_name = "PORT")]
    from: Option<String>,
    /// Answer about packet N, or about packets A to B, counted from 1; those before are run, too
    #[arg(long, value_name = "N|A-B", value_parser = range)]
    packet: Option<(u64, u64)>,
    /// Answer about packets that match a pcap-filter expression
    #[arg(long = "match", value_name = "EXPR")]
    expression: Option<String>,
    /// Answer about packets that the rule of this priority takes
    #[arg(long, value_name = "P")]
    rule: Option<u32>,
    /// Answer about packets of which this tool is to get a copy
    #[arg(long, value_name = "T")]
    tool: Option<String>,
    /// Answer about packets with this outcome: a disposition (delivered, unmatched, excluded, sampled_out, duplicate), `sent`, or the reason
    /// for which a copy is dropped (oversize, down, unread, …)
    #[arg(long, value_name = "WORD", value_parser = outcome)]
    outcome: Option<Outcome>,
    /// Count all packets by disposition, rule and tool instead
    #[arg(long, conflicts_with_all = ["packet", "expression", "rule", "tool", "outcome", "write"])]
    summary: bool,
    /// Print JSON, an object a line (tapline.explain/1)
    #[arg(long)]
    json: bool,
    /// Write the packets to a pcapng file, each with its answer as a comment, and do not print the answers unless --json is there
    #[arg(long, value_name = "OUT.pcapng")]
    write: Option<PathBuf>,
}

/// Reads `N` or `A-B`.
pub(super) fn range(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 1 <= first && first <= last => Ok((first, last)),
        _ => Err("expected the number of a packet from 1 on, or two of them as in 8-20".to_owned()),
    }
}

/// Reads the word of an outcome.
fn outcome(text: &str) -> Result<Outcome, String> {
    if text == "sent" {
        return Ok(Outcome::Sent);
    }
    let disposition = Disposition::ALL.into_iter().find(|of| of.word() == text).map(Outcome::Disposition);
    let reason = || DropReason::ALL.into_iter().find(|of| of.word() == text).map(Outcome::Dropped);
    disposition.or_else(reason).ok_or_else(|| {
        let words = Disposition::ALL.map(Disposition::word).into_iter().chain(["sent"]);
        let words: Vec<&str> = words.chain(DropReason::ALL.map(DropReason::word)).collect();
        format!("expected one of {}", words.join(", "))
    })
}

/// The reason why there are no answers, with the status that says so.
pub(super) struct Failure(pub Status, pub String);

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        let status = if matches!(error, CaptureError::Port(_)) { Status::Refused } else { Status::Failed };
        Self(status, error.to_string())
    }
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Status {
    let signals = match Signals::handle() {
        Ok(signals) => signals,
        Err(status) => return status,
    };
    match explain(args, &signals) {
        Ok(()) => Status::Done,
        // planning told its mistakes itself
        Err(Failure(status, text)) if text.is_empty() => status,
        Err(Failure(status, text)) => {
            tell_line(format_args!("error: {text}"));
            status
        }
    }
}

/// The same for the same text at any time: what the plan would draw at random is fixed.
pub(super) fn surroundings() -> Surroundings {
    Surroundings { random: Random::known(*b"tapline explain: an example key."), ..Surroundings::system() }
}

fn explain(args: &Args, signals: &Signals) -> Result<(), Failure> {
    let refused = |text: String| Failure(Status::Refused, text);
    let expression = args.expression.as_deref().map(compile).transpose();
    let expression = expression.map_err(|error| refused(format!("--match: {error}")))?;
    let (parsed, plan) =
        load_in(&args.source, signals, surroundings).map_err(|status| Failure(status, String::new()))?;
    let question = question(args, &plan)?;
    let mut capture = Capture::open(&args.input, &plan, args.from.as_deref())?;
    for port in plan.ports.iter().filter(|port| port.is_stopped && port.uses.is_taken_from) {
        tell_line(format_args!(
            "note: port {} is stopped, and receives nothing until `port start {}`; packets are judged as if it was started",
            port.name, port.name
        ));
    }
    let mut out = Out {
        args,
        written: args.write.as_ref().map(|path| Written::create(path, args, &plan)).transpose()?,
    };
    let plan = Arc::new(plan);
    let failed = |error: crate::broker::Error| Failure(Status::Failed, error.to_string());
    let eal = rehearsal::eal(1).map_err(failed)?;
    let (_, last) = args.packet.unwrap_or((1, u64::MAX));
    let mut explainer: Option<Explainer> = None;
    let mut result = Ok(());
    loop {
        let batch = match capture.next_batch() {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            // what came before is answered
            Err(error) => {
                result = Err(error.into());
                break;
            }
        };
        let explainer = match &mut explainer {
            Some(explainer) => explainer,
            None => {
                let now_ns = batch.first_ns().unwrap_or_default();
                let origins = origins(&parsed, &surroundings());
                let made = Explainer::new(&eal, Arc::clone(&plan), origins, now_ns).map_err(failed)?;
                explainer.insert(made)
            }
        };
        let is_last = answer(explainer, &batch, args, (&question, expression.as_ref(), last), &mut out)?;
        signals.alive();
        if is_last || signals.is_ended() {
            break;
        }
    }
    out.finish()?;
    if args.summary {
        let empty = crate::explain::summary::Summary::new(&plan);
        let summary = explainer.as_ref().map_or(&empty, |explainer| &explainer.summary);
        offer(&match args.json {
            true => format!("{}\n", json::summary(summary, &plan)),
            false => text::summary(summary, &plan),
        });
    }
    result
}

/// Gives what is asked for by names.
fn question(args: &Args, plan: &Plan) -> Result<Question, Failure> {
    let rule = args.rule.map(|priority| {
        let found = plan.rules.entries().find(|(_, rule)| rule.priority == priority).map(|(id, _)| id);
        found.ok_or_else(|| Failure(Status::Refused, format!("--rule {priority}: there is no such rule")))
    });
    let tool = args.tool.as_ref().map(|name| {
        let found = plan.tools.entries().find(|(_, tool)| tool.name == *name).map(|(id, _)| id);
        let all: Vec<&str> = plan.tools.iter().map(|tool| tool.name.as_str()).collect();
        let unknown = || format!("--tool {name}: there is no such tool; there are {}", all.join(", "));
        found.ok_or_else(|| Failure(Status::Refused, unknown()))
    });
    Ok(Question { rule: rule.transpose()?, tool: tool.transpose()?, outcome: args.outcome })
}

/// Lets the plan decide on a batch, and gives the answers that are asked for. Returns whether nothing is asked about later packets.
fn answer(
    explainer: &mut Explainer,
    batch: &Batch<'_>,
    args: &Args,
    (question, expression, last): (&Question, Option<&Program>, u64),
    out: &mut Out<'_>,
) -> Result<bool, Failure> {
    let (first, _) = args.packet.unwrap_or((1, u64::MAX));
    batch.passed_over.iter().for_each(|&number| explainer.summary.pass_over(number));
    let mut is_last = false;
    let mut failure = Ok(());
    for (port, packets) in batch.runs() {
        let mut rest = &packets[..];
        while !rest.is_empty() && !is_last && failure.is_ok() {
            let (burst, behind) = rest.split_at(explainer.fitting(rest).min(MAX_BURST));
            let is_wanted = |packet: &Packet<'_>| {
                let is_in_range = (first..=last).contains(&packet.number);
                !args.summary
                    && is_in_range
                    && expression.is_none_or(|program| program.matches(&packet.frame))
            };
            let wanted: Selection = (0..burst.len()).filter(|&index| is_wanted(&burst[index])).collect();
            explainer.judge(port, burst, wanted, question, |answer| {
                let place = burst.iter().position(|packet| packet.number == answer.packet.number);
                if let (Some(place), Ok(())) = (place, &failure) {
                    failure = out.give(&answer, port, &burst[place]);
                }
            });
            is_last = burst.last().is_some_and(|packet| packet.number >= last);
            rest = behind;
        }
    }
    failure.map(|()| is_last)
}

/// The places that answers go to.
struct Out<'a> {
    args: &'a Args,
    written: Option<Written>,
}

/// The pcapng file of `--write`.
struct Written {
    path: String,
    writer: Writer<File>,
    interfaces: ById<PortId, InterfaceId>,
}

impl Written {
    fn create(path: &PathBuf, args: &Args, plan: &Plan) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let failed = |error: io::Error| Failure(Status::Failed, format!("{shown}: {error}"));
        let input = File::open(&args.input).and_then(|file| file.metadata());
        let input = input.ok().and_then(|there| target_of_open(&there));
        if matches!((&input, System.target(path)), (Some(Target::Present { .. }), target) if target == input)
        {
            return Err(Failure(
                Status::Refused,
                format!("--write {shown}: that is the capture that is read"),
            ));
        }
        let file = File::create(path).map_err(failed)?;
        let mut writer = Writer::pcapng(file, ByteOrder::NATIVE).map_err(failed)?;
        let interfaces: Result<ById<PortId, InterfaceId>, io::Error> = plan
            .ports
            .iter()
            .map(|port| {
                writer.add_interface(&Interface::new(LinkType::ETHERNET, 0, Some(port.name.clone())))
            })
            .collect();
        Ok(Self { interfaces: interfaces.map_err(failed)?, path: shown, writer })
    }
}

impl Out<'_> {
    /// Gives an answer about a packet.
    fn give(&mut self, answer: &Answer, port: PortId, packet: &Packet<'_>) -> Result<(), Failure> {
        let told = match (self.args.json, &self.written) {
            (true, _) => format!("{}\n", json::answer(answer)),
            (false, None) => text::answer(answer),
            (false, Some(_)) => String::new(),
        };
        if !told.is_empty() && !offer(&told) {
            // whoever reads has seen enough
            return Err(Failure(Status::Done, String::new()));
        }
        let Some(Written { path, writer, interfaces }) = &mut self.written else { return Ok(()) };
        let comment = text::answer(answer);
        let written = writer.write(&tapline_capture::Packet {
            interface: interfaces[port],
            time_ns: packet.time_ns,
            bytes: packet.frame.bytes(),
            original_len: packet.frame.original_len(),
            comments: &[comment.trim_end()],
        });
        written.map(drop).map_err(|error| Failure(Status::Failed, format!("{path}: {error}")))
    }

    fn finish(self) -> Result<(), Failure> {
        let Some(Written { path, writer, .. }) = self.written else { return Ok(()) };
        writer.finish().map(drop).map_err(|error| Failure(Status::Failed, format!("{path}: {error}")))
    }
}
