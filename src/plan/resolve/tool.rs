//! Tools: where copies go, and what waits for them there.

use std::time::Duration;

use super::copies::CopyWords;
use super::definitions::{Definitions, Tool, names_of};
use super::port::is_flat_out;
use super::{Resolver, first_word};
use crate::health::tool::HealthSpec;
use crate::plan::value::{AlarmPlan, Output, ToolPlan};
use tapline_api::words::NameKind;
use tapline_datapath::egress::admission::Thresholds;
use tapline_datapath::egress::token_bucket::BucketSpec;
use tapline_dpdk::clock::nanoseconds;
use tapline_lang::ast::Name;
use tapline_lang::ast::port::PortOption;
use tapline_lang::ast::tool::{Probe, ToolOption, ToolTarget};
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::source::{Span, Spanned};

/// The longest time that a tool with `order` may hold copies for.
const LONGEST_ORDER_WINDOW: Duration = Duration::from_secs(60);

/// The longest queue: an rte_ring of that many slots is 8 MiB.
const MOST_QUEUE: u64 = 1 << 20;

/// The options of a tool that depend on its other options.
#[derive(Default)]
struct ToolWords<'a> {
    copy: CopyWords<'a>,
    heartbeat: Option<(Spanned<&'a Probe>, Option<&'a Name>)>,
    echo: Option<Spanned<&'a Probe>>,
}

impl<'a> Resolver<'a> {
    pub(super) fn tool(&mut self, tool: &Tool<'a>, definitions: &Definitions<'a>) -> ToolPlan {
        let output = self.output(tool, definitions);
        let health = match output {
            Output::Capture if definitions.ports.iter().any(is_flat_out) => HealthSpec::WAITED_FOR,
            Output::Capture => HealthSpec::FILE,
            Output::Port(_) | Output::Discard => HealthSpec::LOCAL,
        };
        let capture = match &tool.target.value {
            ToolTarget::Capture(path) => Some(path.value.clone().into()),
            ToolTarget::Port(_) | ToolTarget::Discard => None,
        };
        let is_drained = tool.is_drained;
        let mut plan =
            ToolPlan { capture, health, is_drained, ..ToolPlan::new(tool.name.value.clone(), output) };
        let mut words = ToolWords::default();
        for option in &tool.options {
            match self.misplaced_option(tool, option) {
                Some(misplaced) => self.error(misplaced),
                None => self.option(option, &mut plan, &mut words),
            }
        }
        let port = match output {
            Output::Port(port) => Some(&definitions.ports[port]),
            Output::Discard | Output::Capture => None,
        };
        plan.copy = self.copy_plan(&words.copy, port);
        plan.health.needs_next_hop = plan.copy.asks_for_next_hop();
        if let Some((probe, back)) = words.heartbeat {
            self.heartbeat(&mut plan, &probe, back, definitions);
        }
        if let Some(probe) = words.echo {
            self.echo(&mut plan, &probe, definitions);
        }
        plan
    }

    /// Finds the destination of a tool's copies.
    fn output(&mut self, tool: &Tool<'a>, definitions: &Definitions<'a>) -> Output {
        let name = match &tool.target.value {
            ToolTarget::Port(name) => name,
            ToolTarget::Discard => return Output::Discard,
            ToolTarget::Capture(_) => return Output::Capture,
        };
        let Some(port) = self.look_up(NameKind::Port, name, &names_of(&definitions.ports)) else {
            return Output::Discard;
        };
        let definition = &definitions.ports[port];
        self.refuse_replay(name, definition);
        if definition.is_said(&PortOption::Txq(0)) {
            let message = format!("port `{}` has no transmit queue", name.value);
            self.error(Diagnostic::error(name.span, message).label("expected a port with txq 1 or more"));
        }
        Output::Port(port)
    }

    /// Carries out an option, or adds it to the words that are put together once all options are read.
    fn option(&mut self, option: &'a Spanned<ToolOption>, plan: &mut ToolPlan, words: &mut ToolWords<'a>) {
        match &option.value {
            ToolOption::Transport(transport) => {
                words.copy.transport = Some(Spanned::new(transport, option.span))
            }
            ToolOption::Timestamp(format) => {
                words.copy.timestamp = Some(Spanned::new(*format, option.span))
            }
            ToolOption::Mtu(mtu) => words.copy.mtu = Some(Spanned::new(*mtu, option.span)),
            ToolOption::Oversize(oversize) => {
                words.copy.oversize = Some(Spanned::new(*oversize, option.span))
            }
            ToolOption::Edit(edit) => words.copy.edits.push(Spanned::new(edit, option.span)),
            ToolOption::Heartbeat { probe, back } => {
                words.heartbeat = Some((Spanned::new(probe, option.span), back.as_ref()))
            }
            ToolOption::Echo(probe) => words.echo = Some(Spanned::new(probe, option.span)),
            ToolOption::DownAfter(duration) => plan.health.stall_ns = nanoseconds(*duration),
            ToolOption::UpAfter(duration) => plan.health.up_after_ns = nanoseconds(*duration),
            ToolOption::Queue { packets, bytes } if (1..=MOST_QUEUE).contains(packets) => {
                plan.queue = *packets as usize;
                plan.queue_bytes = bytes.as_ref().map(|bytes| bytes.value);
            }
            ToolOption::Queue { .. } => {
                let message = "this queue is out of range".to_owned();
                self.error(
                    Diagnostic::error(option.span, message)
                        .label(format!("expected 1 to {MOST_QUEUE} packets")),
                );
            }
            ToolOption::Thresholds { low, normal } => {
                plan.thresholds = Some(Thresholds { low: *low, normal: *normal })
            }
            ToolOption::Alarm { percent, hold } => {
                let hold = hold.as_ref().map_or(AlarmPlan::DEFAULT_HOLD, |hold| hold.value);
                plan.alarm = Some(AlarmPlan { percent: *percent, hold });
                plan.is_alarmed = true;
            }
            ToolOption::Alarmed(is_alarmed) => {
                plan.alarm = None;
                plan.is_alarmed = *is_alarmed;
            }
            ToolOption::Order(window) if *window <= LONGEST_ORDER_WINDOW => {
                plan.order_ns = Some(nanoseconds(*window))
            }
            ToolOption::Order(_) => {
                self.error(
                    Diagnostic::error(option.span, "this window is too long").label("expected at most 1m"),
                );
            }
            ToolOption::Rate { rate, burst } => {
                let burst = burst.as_ref().map_or(BucketSpec::DEFAULT_BURST, |burst| burst.value);
                plan.shaping = Some(BucketSpec { rate: rate.value, burst });
            }
            ToolOption::Rotate(_) | ToolOption::Keep(_) => {
                let word = first_word(self.sources().text(option.span)).to_owned();
                self.unavailable(option.span, &format!("`{word}`"));
            }
        }
    }

    /// Gives the mistake of an option that means nothing for the destination of the tool's copies.
    fn misplaced_option(&self, tool: &Tool<'a>, option: &Spanned<ToolOption>) -> Option<Diagnostic> {
        use ToolOption::{Alarm, DownAfter, Order, Queue, Rate, Thresholds, Transport, UpAfter};
        const OF_PORTS: &str = "expected on a tool that sends through a port";
        let of_target = match &tool.target.value {
            ToolTarget::Port(_) => return None,
            ToolTarget::Capture(_) => "capture",
            ToolTarget::Discard => "discard",
        };
        let is_capture = of_target == "capture";
        let (word, span, label) = match &option.value {
            Queue { bytes: Some(bytes), .. } if is_capture => ("bytes", bytes.span, OF_PORTS),
            Transport(_) | Rate { .. } | Thresholds { .. } => {
                (first_word(self.sources().text(option.span)), option.span, OF_PORTS)
            }
            Queue { .. } | Alarm { .. } | Order(_) | DownAfter(_) | UpAfter(_) if !is_capture => {
                let label = "expected on a tool that sends or writes: nothing waits for this one";
                (first_word(self.sources().text(option.span)), option.span, label)
            }
            _ => return None,
        };
        let message = format!("`{word}` does not apply to {of_target} `{}`", tool.name.value);
        Some(Diagnostic::error(span, message).label(label))
    }

    /// Refuses a word of the grammar whose feature this version does not have.
    fn unavailable(&mut self, span: Span, what: &str) {
        self.error(Diagnostic::error(span, format!("{what}: not available in this version")));
    }
}
