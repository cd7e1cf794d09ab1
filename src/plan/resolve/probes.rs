//! Heartbeats and echoes of tools: from their words to what the broker asks, and where nothing could come back.
//!
//! A part of resolve: every mistake goes to its diagnostics.

use super::Resolver;
use super::copies::only_writes_a_file;
use super::definitions::{Definitions, Port};
use super::port::only_sends;
use crate::health::probe::ProbeTiming;
use crate::health::tool::ProbeSpec;
use crate::plan::value::{HeartbeatPlan, Output, ToolPlan};
use tapline_api::words::NameKind;
use tapline_datapath::copies::transport::Transport;
use tapline_datapath::ids::PortId;
use tapline_dpdk::clock::nanoseconds;
use tapline_lang::ast::Name;
use tapline_lang::ast::port::Device;
use tapline_lang::ast::tool::Probe;
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::source::{Span, Spanned};

/// How long an answer is waited for where a probe does not say.
const DEFAULT_TIMEOUT_NS: u64 = 500_000_000;
/// The control thread looks every few milliseconds.
const LEAST_EVERY_NS: u64 = 10_000_000;
/// Probes of a tool that may be on their way at a time.
const MOST_WAITING: u64 = 100;

impl<'a> Resolver<'a> {
    /// `heartbeat` of a tool: it needs a port to leave by, as it is, and one to return by.
    pub(super) fn heartbeat(
        &mut self,
        plan: &mut ToolPlan,
        probe: &Spanned<&Probe>,
        back: Option<&'a Name>,
        definitions: &Definitions<'a>,
    ) {
        let Output::Port(port) = plan.output else {
            return self.misplaced(
                "heartbeat",
                probe.span,
                plan,
                "expected on a tool that sends through a port",
            );
        };
        if !matches!(plan.copy.transport, Transport::Local) {
            let expected = if plan.copy.tunnel.is_some() {
                "expected on a tool without a transport; `echo` asks a tunnel's far end"
            } else {
                "expected on a tool without a transport"
            };
            return self.misplaced("heartbeat", probe.span, plan, expected);
        }
        let (back, span) = match back {
            Some(name) => match self.look_up_port(name, definitions) {
                Some(index) => (index, name.span),
                None => return,
            },
            None => (port, probe.span),
        };
        let definition = &definitions.ports[back];
        let name = &definition.name.value;
        if let Some(wire) = definitions.wire_of(name) {
            let message = format!("heartbeats cannot return by port `{name}`, a side of wire `{wire}`");
            self.error(Diagnostic::error(span, message).label("expected a port that no wire has"));
        } else if let Some(lack) = deafness(definition) {
            let message = format!("heartbeats of tool `{}` cannot return: port `{name}` {lack}", plan.name);
            self.error(
                Diagnostic::error(span, message)
                    .label("expected a port with rxq 1 or more, or `return PORT` with such a port"),
            );
        }
        let Some(timing) = self.timing(probe) else { return };
        plan.health.heartbeat = Some(spec(probe.value));
        plan.heartbeat = Some(HeartbeatPlan { timing, back });
    }

    /// `echo` of a tool: it needs a tunnel whose far end can answer.
    pub(super) fn echo(
        &mut self,
        plan: &mut ToolPlan,
        probe: &Spanned<&Probe>,
        definitions: &Definitions<'a>,
    ) {
        let (Output::Port(port), Some(_)) = (plan.output, &plan.copy.tunnel) else {
            let expected = "expected on a tool that sends through a tunnel: erspan1, erspan2, erspan3, vxlan, geneve or gre";
            return self.misplaced("echo", probe.span, plan, expected);
        };
        let definition = &definitions.ports[port];
        if let Some(lack) = deafness(definition) {
            let message = format!(
                "echoes of tool `{}` cannot be heard: port `{}` {lack}",
                plan.name, definition.name.value
            );
            self.error(Diagnostic::error(probe.span, message).label("expected a port with rxq 1 or more"));
        }
        let Some(timing) = self.timing(probe) else { return };
        plan.health.echo = Some(spec(probe.value));
        plan.echo = Some(timing);
    }

    fn misplaced(&mut self, word: &str, span: Span, plan: &ToolPlan, expected: &str) {
        let message = format!("`{word}` does not apply to tool `{}`", plan.name);
        self.error(Diagnostic::error(span, message).label(expected.to_owned()));
    }

    fn look_up_port(&mut self, name: &Name, definitions: &Definitions<'a>) -> Option<PortId> {
        let known: Vec<&Name> = definitions.ports.iter().map(|port| port.name).collect();
        self.look_up(NameKind::Port, name, &known)
    }

    fn timing(&mut self, probe: &Spanned<&Probe>) -> Option<ProbeTiming> {
        let ns = |duration: &Spanned<std::time::Duration>| nanoseconds(duration.value);
        let every = &probe.value.every;
        let every_ns = ns(every);
        if every_ns < LEAST_EVERY_NS {
            self.error(Diagnostic::error(every.span, "this is too often").label("expected at least 10ms"));
            return None;
        }
        let timeout_ns = probe.value.timeout.as_ref().map_or(DEFAULT_TIMEOUT_NS, ns);
        if let Some(timeout) = probe.value.timeout.as_ref().filter(|_| timeout_ns / every_ns > MOST_WAITING)
        {
            let label = format!("expected at most {MOST_WAITING} times as long as from one to the next");
            self.error(Diagnostic::error(timeout.span, "this timeout is too long").label(label));
            return None;
        }
        Some(ProbeTiming { every_ns, timeout_ns })
    }
}

/// A row of so many lost takes the tool down; even `retries 0` needs one.
fn spec(probe: &Probe) -> ProbeSpec {
    let retries = probe.retries.as_ref().map_or(ProbeSpec::DEFAULT.retries, |retries| retries.value.max(1));
    ProbeSpec { retries, ..ProbeSpec::DEFAULT }
}

/// Why nothing is received by a port.
fn deafness(port: &Port<'_>) -> Option<&'static str> {
    if matches!(port.device.value, Device::Replay { .. }) {
        Some("is a replay")
    } else if only_sends(port) {
        Some("has no receive queue")
    } else {
        only_writes_a_file(&port.device.value).then_some("only writes a file")
    }
}
