//! Wires: two ports that are joined inline.

use super::Resolver;
use super::definitions::{Definitions, Port, Wire, names_of};
use super::port::only_sends;
use crate::plan::value::WirePlan;
use tapline_api::words::NameKind;
use tapline_lang::ast::Name;
use tapline_lang::ast::port::PortOption;
use tapline_lang::ast::tool::ToolTarget;
use tapline_lang::ast::wire::WireOption;
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::source::Spanned;

impl<'a> Resolver<'a> {
    pub(super) fn wire(&mut self, wire: &Wire<'a>, definitions: &Definitions<'a>) -> Option<WirePlan> {
        let known = names_of(&definitions.ports);
        if let Some(port) = known.iter().find(|port| port.value == wire.name.value) {
            let line = self.sources().position(port.span).line;
            let message = format!("wire `{}` has the name of a port", wire.name.value);
            let label = format!("expected a name that no port has; line {line} has this one");
            self.error(Diagnostic::error(wire.name.span, message).label(label));
        }
        let mut ports = Vec::new();
        for &side in &wire.sides {
            let Some(port) = self.look_up(NameKind::Port, side, &known) else { continue };
            self.check_side(side, &definitions.ports[port]);
            self.check_only_use(wire, side, definitions);
            ports.push(port);
        }
        let &[a, b] = ports.as_slice() else { return None };
        let mut plan = WirePlan {
            name: wire.name.value.clone(),
            ports: [a, b],
            is_bypass: false,
            propagates_link: false,
        };
        for option in &wire.options {
            match option.value {
                WireOption::Bypass(is_on) => plan.is_bypass = is_on,
                WireOption::PropagateLink(is_on) => plan.propagates_link = is_on,
            }
        }
        Some(plan)
    }

    /// Refuses a port that cannot be a side of a wire.
    fn check_side(&mut self, side: &Name, port: &Port<'a>) {
        self.refuse_replay(side, port);
        let terminates = |option: &&Spanned<PortOption>| matches!(option.value, PortOption::Terminate(_));
        if let Some(option) = port.options.iter().copied().find(terminates) {
            let message = format!(
                "port `{}` is a side of a wire, which forwards what it receives unmodified",
                side.value
            );
            self.error(
                Diagnostic::error(option.span, message)
                    .label("expected on a port that is no side of a wire"),
            );
        }
        let cannot_send = port.is_said(&PortOption::Txq(0));
        for (is_lacking, queues, expected) in [
            (only_sends(port), "receive", "expected a port with rxq 1 or more"),
            (cannot_send, "transmit", "expected a port with txq 1 or more"),
        ] {
            if is_lacking {
                let message = format!("port `{}` has no {queues} queue", side.value);
                self.error(Diagnostic::error(side.span, message).label(expected));
            }
        }
    }

    /// Refuses a side whose port is a side already, of this wire or an earlier one, or the port of a tool.
    fn check_only_use(&mut self, wire: &Wire<'a>, side: &Name, definitions: &Definitions<'a>) {
        let earlier = definitions.wires.iter().take_while(|other| !std::ptr::eq(other.name, wire.name));
        let earlier = earlier.flat_map(|other| other.sides);
        let mut others =
            earlier.chain(wire.sides.into_iter().take_while(|other| !std::ptr::eq(*other, side)));
        if others.any(|other| other.value == side.value) {
            let message = format!("port `{}` is a side of a wire already", side.value);
            self.error(Diagnostic::error(side.span, message).label("expected a port that no wire has"));
        }
        // copies would take the originals' place in the transmit queue
        let tool = definitions.tools.iter().find_map(|tool| match &tool.target.value {
            ToolTarget::Port(port) if port.value == side.value => Some((tool, port)),
            _ => None,
        });
        if let Some((tool, port)) = tool {
            let (tool, wire) = (&tool.name.value, &wire.name.value);
            let message = format!("tool `{tool}` sends on port `{}`, a side of wire `{wire}`", side.value);
            self.error(Diagnostic::error(port.span, message).label("expected a port that no wire has"));
        }
    }
}
