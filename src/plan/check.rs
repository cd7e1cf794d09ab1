//! Warnings: what is not wrong, but most likely not meant.

use super::plan::{Output, PortId, Target, ToolId};
use super::resolve::Resolved;
use crate::lang::Parsed;
use crate::lang::ast::{Command, Name, NameKind};
use crate::lang::diagnostic::{Diagnostic, Diagnostics};

/// Adds the warnings of a plan that has no errors.
pub(super) fn warn(resolved: &Resolved, parsed: &Parsed, diagnostics: &mut Diagnostics) {
    let plan = &resolved.plan;
    if plan.ports.iter().all(|port| port.rxq == Some(0))
        && let Some(source) = parsed.sources.first()
    {
        diagnostics.push(Diagnostic::of_file(
            crate::lang::diagnostic::Severity::Warning,
            source,
            "no port receives; attach one with `port attach NAME DEVARGS`",
        ));
    }
    for (index, tool) in plan.tools.iter().enumerate() {
        let tool_id = ToolId(index);
        let is_chosen = plan.rules.iter().flat_map(|rule| &rule.targets).any(|target| match target {
            Target::Tool(chosen) => *chosen == tool_id,
            Target::Group(group) => plan.groups[group.0].members.contains(&tool_id),
        });
        if !is_chosen && let Some(name) = defined(parsed, NameKind::Tool, &tool.name) {
            diagnostics.push(Diagnostic::warning(name.span, format!("no rule sends to tool `{}`", tool.name)));
        }
    }
    for (index, port) in plan.ports.iter().enumerate() {
        let port_id = PortId(index);
        let is_named =
            resolved.rules.iter().zip(&plan.rules).any(|(source, rule)| !source.is_from_any && rule.sources.contains(&port_id));
        if port.rxq == Some(0) || is_named || plan.wire_at(port_id).is_some() {
            continue;
        }
        let Some(name) = defined(parsed, NameKind::Port, &port.name) else { continue };
        let is_tool = plan.tools.iter().any(|tool| tool.output == Output::Port(port_id));
        let takes_any = resolved.rules.iter().any(|source| source.is_from_any);
        // net_pcap receives nothing unless it is told from where
        let receives = !port.devargs.starts_with("net_pcap") || port.devargs.contains("rx_");
        let message = match (is_tool, takes_any) {
            (true, true) if receives => format!("tools send on port `{}`, and rules `from any` take what it receives", port.name),
            (true, false) if receives => format!("what tool port `{}` receives is unmatched", port.name),
            (false, false) => format!("no rule takes from port `{}`", port.name),
            _ => continue,
        };
        diagnostics.push(Diagnostic::warning(name.span, message).label("`rxq 0` makes it a port that only sends"));
    }
}

/// Where a port or tool is defined.
fn defined<'a>(parsed: &'a Parsed, kind: NameKind, wanted: &str) -> Option<&'a Name> {
    parsed.file.commands.iter().find_map(|command| match (&command.value, kind) {
        (Command::PortAttach { name, .. }, NameKind::Port) | (Command::ToolCreate { name, .. }, NameKind::Tool) => {
            (name.value == wanted).then_some(name)
        }
        _ => None,
    })
}
