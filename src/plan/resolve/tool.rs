//! Tools: where copies go, and what waits for them there.

use std::time::Duration;

use super::copies::CopyWords;
use super::definitions::{Definitions, Tool};
use super::names::names_of;
use super::port::is_flat_out;
use super::{Resolver, first_word};
use crate::broker::health::HealthSpec;
use crate::datapath::admission::Thresholds;
use crate::datapath::sample::Budget;
use crate::datapath::shape::Shape;
use crate::dpdk::clock::nanoseconds;
use crate::lang::ast;
use crate::lang::ast::NameKind;
use crate::lang::ast::port::PortOption;
use crate::lang::ast::tool::{ToolOption, ToolTarget};
use crate::lang::diagnostic::Diagnostic;
use crate::lang::source::{Span, Spanned};
use crate::plan::value::{AlarmPlan, CopyPlan, Output, PortId, ToolPlan};

/// What a tool with `order` may hold copies for.
const LONGEST_ORDER_WINDOW: Duration = Duration::from_secs(60);

/// Packets that may wait for a tool where its `queue` does not say.
pub(super) const DEFAULT_QUEUE: usize = 4096;

/// The longest queue: an rte_ring of that many slots is 8 MiB.
const MOST_QUEUE: u64 = 1 << 20;

impl<'a> Resolver<'a> {
    pub(super) fn tool(&mut self, tool: &Tool<'a>, definitions: &Definitions<'a>) -> ToolPlan {
        let mut capture = None;
        let output = match &tool.target.value {
            ToolTarget::Port(name) => {
                let index = self.look_up(NameKind::Port, name, &names_of(&definitions.ports));
                if let Some(port) = index.map(|index| &definitions.ports[index]) {
                    self.refuse_replay(name, port);
                }
                if let Some(port) = index.map(|index| &definitions.ports[index])
                    && port.options.iter().any(|option| option.value == PortOption::Txq(0))
                {
                    let message = format!("port `{}` has no transmit queue", name.value);
                    self.error(Diagnostic::error(name.span, message).label("expected a port with txq 1 or more"));
                }
                index.map_or(Output::Discard, |index| Output::Port(PortId(index)))
            }
            ToolTarget::Discard => Output::Discard,
            ToolTarget::Capture(path) => {
                capture = Some(path.value.clone().into());
                Output::Capture
            }
        };
        let health = match output {
            Output::Capture if definitions.ports.iter().any(is_flat_out) => HealthSpec::WAITED_FOR,
            Output::Capture => HealthSpec::FILE,
            Output::Port(_) | Output::Discard => HealthSpec::LOCAL,
        };
        let mut plan = ToolPlan {
            name: tool.name.value.clone(),
            output,
            capture,
            queue: DEFAULT_QUEUE,
            queue_bytes: None,
            thresholds: None,
            shape: None,
            alarm: None,
            order_ns: None,
            wire: None,
            health,
            heartbeat: None,
            echo: None,
            is_drained: tool.is_drained,
            copy: CopyPlan::default(),
        };
        let mut words = CopyWords::default();
        let (mut heartbeat, mut echo) = (None, None);
        for option in &tool.options {
            if let Some(misplaced) = self.misplaced_option(tool, option) {
                self.error(misplaced);
                continue;
            }
            match &option.value {
                ToolOption::Transport(transport) => words.transport = Some(Spanned::new(transport, option.span)),
                ToolOption::Timestamp(format) => words.timestamp = Some(Spanned::new(*format, option.span)),
                ToolOption::Mtu(mtu) => words.mtu = Some(Spanned::new(*mtu, option.span)),
                ToolOption::Oversize(oversize) => words.oversize = Some(Spanned::new(*oversize, option.span)),
                ToolOption::Edit(edit) => words.edits.push(Spanned::new(edit, option.span)),
                ToolOption::Heartbeat { probe, back } => heartbeat = Some((Spanned::new(probe, option.span), back.as_ref())),
                ToolOption::Echo(probe) => echo = Some(Spanned::new(probe, option.span)),
                ToolOption::DownAfter(duration) => plan.health.stall_ns = nanoseconds(*duration),
                ToolOption::UpAfter(duration) => plan.health.up_after_ns = nanoseconds(*duration),
                ToolOption::Queue { packets, bytes } if (1..=MOST_QUEUE).contains(packets) => {
                    plan.queue = *packets as usize;
                    plan.queue_bytes = bytes.as_ref().map(|bytes| bytes.value);
                }
                ToolOption::Queue { .. } => {
                    let message = "this queue is out of range".to_owned();
                    self.error(Diagnostic::error(option.span, message).label(format!("expected 1 to {MOST_QUEUE} packets")));
                }
                ToolOption::Thresholds { low, normal } => plan.thresholds = Some(Thresholds { low: *low, normal: *normal }),
                ToolOption::Alarm { percent, hold } => {
                    let hold = hold.as_ref().map_or(AlarmPlan::DEFAULT_HOLD, |hold| hold.value);
                    plan.alarm = Some(AlarmPlan { percent: *percent, hold });
                }
                ToolOption::Order(window) if *window <= LONGEST_ORDER_WINDOW => plan.order_ns = Some(nanoseconds(*window)),
                ToolOption::Order(_) => {
                    self.error(Diagnostic::error(option.span, "this window is too long").label("expected at most 1m"));
                }
                ToolOption::Rate { rate, burst } => {
                    let burst = burst.as_ref().map_or(Shape::DEFAULT_BURST, |burst| burst.value);
                    plan.shape = Some(Shape { rate: budget(rate.value), burst });
                }
                _ => {
                    let word = first_word(self.sources().text(option.span)).to_owned();
                    self.unavailable(option.span, &format!("`{word}`"));
                }
            }
        }
        let port = match output {
            Output::Port(PortId(port)) => Some(&definitions.ports[port]),
            Output::Discard | Output::Capture => None,
        };
        plan.copy = self.copy_plan(&words, port);
        plan.health.needs_next_hop = plan.copy.asks_for_next_hop();
        if let Some((probe, back)) = heartbeat {
            self.heartbeat(&mut plan, &probe, back, definitions);
        }
        if let Some(probe) = echo {
            self.echo(&mut plan, &probe, definitions);
        }
        plan
    }

    /// What is wrong with an option that means nothing for where the tool's copies go.
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
            Transport(_) | Rate { .. } | Thresholds { .. } => (first_word(self.sources().text(option.span)), option.span, OF_PORTS),
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

pub(super) fn budget(rate: ast::Rate) -> Budget {
    match rate {
        ast::Rate::BitsPerSecond(bits) => Budget::BitsPerSecond(bits),
        ast::Rate::PacketsPerSecond(packets) => Budget::PacketsPerSecond(packets),
    }
}
