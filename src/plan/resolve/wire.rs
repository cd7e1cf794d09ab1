//! Wires: two ports, and the egress of each direction.

use super::Resolver;
use super::definitions::{Definitions, Wire};
use super::names::names_of;
use super::tool::DEFAULT_QUEUE;
use crate::broker::health::HealthSpec;
use crate::lang::ast::NameKind;
use crate::lang::ast::port::PortOption;
use crate::lang::ast::tool::ToolTarget;
use crate::lang::ast::wire::WireOption;
use crate::lang::diagnostic::Diagnostic;
use crate::lang::source::Spanned;
use crate::plan::value::{CopyPlan, Output, PortId, ToolId, ToolPlan, WireId, WirePlan};

impl<'a> Resolver<'a> {
    /// A wire, which is to be `id`, and whose two directions are added to `tools`.
    pub(super) fn wire(
        &mut self,
        wire: &Wire<'a>,
        id: WireId,
        definitions: &Definitions<'a>,
        tools: &mut Vec<ToolPlan>,
    ) -> Option<WirePlan> {
        let known = names_of(&definitions.ports);
        if let Some(port) = known.iter().find(|port| port.value == wire.name.value) {
            let line = self.sources().position(port.span).line;
            let message = format!("wire `{}` has the name of a port", wire.name.value);
            let label = format!("expected a name that no port has; line {line} has this one");
            self.error(Diagnostic::error(wire.name.span, message).label(label));
        }
        let mut ports = Vec::new();
        for &side in &wire.sides {
            let Some(index) = self.look_up(NameKind::Port, side, &known) else { continue };
            self.refuse_replay(side, &definitions.ports[index]);
            let terminates = |option: &&Spanned<PortOption>| matches!(option.value, PortOption::Terminate(_));
            if let Some(option) = definitions.ports[index].options.iter().copied().find(terminates) {
                let message = format!("port `{}` is a side of a wire, which forwards what it receives unmodified", side.value);
                self.error(Diagnostic::error(option.span, message).label("expected on a port that is no side of a wire"));
            }
            let refusal = |option: PortOption, lacks: &str, remedy: &str| {
                let is_said = definitions.ports[index].options.iter().any(|said| said.value == option);
                is_said.then(|| {
                    Diagnostic::error(side.span, format!("port `{}` has no {lacks} queue", side.value)).label(remedy.to_owned())
                })
            };
            let refusals = [
                refusal(PortOption::Rxq(0), "receive", "expected a port with rxq 1 or more"),
                refusal(PortOption::Txq(0), "transmit", "expected a port with txq 1 or more"),
            ];
            refusals.into_iter().flatten().for_each(|diagnostic| self.error(diagnostic));
            let earlier = definitions.wires.iter().take_while(|other| !std::ptr::eq(other.name, wire.name));
            let twin = earlier.flat_map(|other| other.sides).find(|other| other.value == side.value);
            if ports.contains(&PortId(index)) || twin.is_some() {
                let message = format!("port `{}` is a side of a wire already", side.value);
                self.error(Diagnostic::error(side.span, message).label("expected a port that no wire has"));
            }
            // copies would take the originals' place in the transmit queue
            let tool = definitions.tools.iter().find_map(|tool| match &tool.target.value {
                ToolTarget::Port(port) if port.value == side.value => Some((tool, port)),
                _ => None,
            });
            if let Some((tool, port)) = tool {
                let message =
                    format!("tool `{}` sends on port `{}`, a side of wire `{}`", tool.name.value, side.value, wire.name.value);
                self.error(Diagnostic::error(port.span, message).label("expected a port that no wire has"));
            }
            ports.push(PortId(index));
        }
        let &[a, b] = ports.as_slice() else { return None };
        let mut plan = WirePlan {
            name: wire.name.value.clone(),
            ports: [a, b],
            ways: [ToolId(tools.len()), ToolId(tools.len() + 1)],
            is_bypass: false,
            propagates_link: false,
        };
        for option in &wire.options {
            match option.value {
                WireOption::Bypass(is_on) => plan.is_bypass = is_on,
                WireOption::PropagateLink(is_on) => plan.propagates_link = is_on,
            }
        }
        for (direction, to) in [("a-to-b", b), ("b-to-a", a)] {
            tools.push(ToolPlan {
                name: format!("{}:{direction}", wire.name.value),
                output: Output::Port(to),
                order_ns: None,
                capture: None,
                queue: DEFAULT_QUEUE,
                queue_bytes: None,
                thresholds: None,
                shape: None,
                alarm: None,
                wire: Some(id),
                health: HealthSpec::LOCAL,
                heartbeat: None,
                echo: None,
                is_drained: false,
                copy: CopyPlan::default(),
            });
        }
        Some(plan)
    }
}
