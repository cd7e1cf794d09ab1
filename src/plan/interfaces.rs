//! Interfaces of the kernel that several ports have, or that come back to where they were sent: what is not wrong, but most likely not
//! meant.

use std::collections::BTreeMap;

use super::Plan;
use super::check::defined;
use super::surroundings::Surroundings;
use super::value::{Output, PortPlan};
use tapline_api::words::NameKind;
use tapline_datapath::copies::transport::Transport;
use tapline_datapath::ids::PortId;
use tapline_dpdk::driver::KernelCounter;
use tapline_lang::Parsed;
use tapline_lang::diagnostic::{Diagnostic, Diagnostics};
use tapline_lang::suggest::nearest;

/// The ways in which a port has an interface of the kernel.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Use {
    receives: bool,
    /// Frames that others of this machine send by the interface are received, too.
    takes_outgoing: bool,
    /// The port receives what it sends by the interface itself, too.
    takes_own: bool,
    sends: bool,
}

/// Gives the interfaces of the kernel that a port has, each with what it does there.
/// # Source
/// DPDK, `drivers/net/pcap/pcap_ethdev.c`: `iface` is one handle for both directions, `rx_iface` and `tx_iface` are two. The kernel
/// gives a frame to every packet socket but the one that sends it (`skb_loop_sk` in net/core/dev.c).
fn uses_of(plan: &Plan, id: PortId) -> Vec<(&str, Use)> {
    let port = &plan.ports[id];
    let Some(driver) = port.devargs.driver() else { return Vec::new() };
    let (may_receive, sends) = (port.rxq != Some(0), plan.is_sent_to(id));
    let named = port.devargs.arguments().filter(|argument| driver.interfaces.contains(&argument.name));
    let sent_to = port.devargs.argument("tx_iface");
    let uses = named.map(|argument| {
        let takes_outgoing = match &port.iface {
            Some(iface) => iface.takes_outgoing,
            None if driver.by_libpcap => argument.name != "rx_iface_in",
            None => driver.kernel_counter == KernelCounter::PacketSockets,
        };
        let receives = may_receive && argument.name != "tx_iface";
        let found = Use {
            receives,
            takes_outgoing: receives && takes_outgoing,
            takes_own: receives && sends && argument.name == "rx_iface" && sent_to == Some(argument.value),
            sends: sends && matches!(argument.name, "iface" | "tx_iface"),
        };
        (argument.value, found)
    });
    uses.collect()
}

/// Warns of interfaces that two ports receive from, and of ports that receive what is sent.
pub(super) fn warn_of_interfaces(
    plan: &Plan,
    parsed: &Parsed,
    surroundings: &Surroundings,
    diagnostics: &mut Diagnostics,
) {
    let mut by_interface: BTreeMap<&str, Vec<(PortId, Use)>> = BTreeMap::new();
    for id in plan.ports.ids() {
        for (interface, found) in uses_of(plan, id) {
            by_interface.entry(interface).or_default().push((id, found));
        }
    }
    let name_of = |id: PortId| plan.ports[id].name.as_str();
    let mut warn = |id: PortId, message: String, label: String| {
        if let Some(name) = defined(parsed, NameKind::Port, name_of(id)) {
            diagnostics.push(Diagnostic::warning(name.span, message).label(label));
        }
    };
    for (interface, uses) in &by_interface {
        let only_in =
            || format!("expected `iface:{interface}`, which receives only what comes in by the interface");
        for (at, &(id, found)) in uses.iter().enumerate() {
            let is_another = |&&(other, _): &&(PortId, Use)| other != id;
            let sender = uses.iter().filter(is_another).find(|(_, other)| other.sends);
            if found.takes_own {
                let message =
                    format!("port `{}` receives what it sends by interface `{interface}`", name_of(id));
                warn(id, message, only_in());
            } else if let (true, Some((sender, _))) = (found.takes_outgoing, sender) {
                let (name, sender) = (name_of(id), name_of(*sender));
                let message =
                    format!("port `{name}` receives what port `{sender}` sends by interface `{interface}`");
                warn(id, message, only_in());
            }
            let twin = uses[..at].iter().filter(is_another).find(|(_, other)| other.receives);
            if let (true, Some((twin, _))) = (found.receives, twin) {
                let (name, twin) = (name_of(id), name_of(*twin));
                let message = format!("interface `{interface}` is port `{twin}` already");
                warn(id, message, format!("what comes by it is received by `{twin}` and by `{name}`"));
            }
        }
    }
    warn_of_returns(plan, parsed, diagnostics);
    warn_of_missing(plan, parsed, surroundings, diagnostics);
}

/// Warns of rules that send what comes by an interface back by it, as it is.
fn warn_of_returns(plan: &Plan, parsed: &Parsed, diagnostics: &mut Diagnostics) {
    let interface_of = |port: &PortPlan| port.devargs.kernel_interface().map(str::to_owned);
    for tool in plan.tools.iter().filter(|tool| matches!(tool.copy.transport, Transport::Local)) {
        let Output::Port(out) = tool.output else { continue };
        let Some(interface) = interface_of(&plan.ports[out]) else { continue };
        let comes_back = |&&id: &&PortId| interface_of(&plan.ports[id]).as_ref() == Some(&interface);
        if tool.uses.sources.iter().find(comes_back).is_some()
            && let Some(name) = defined(parsed, NameKind::Tool, &tool.name)
        {
            let message = format!(
                "tool `{}` sends back by interface `{interface}` what rules take from there",
                tool.name
            );
            diagnostics.push(Diagnostic::warning(name.span, message).label(
                "a switch gives such frames to the network again; expected another interface, or a tunnel",
            ));
        }
    }
}

/// Warns of interfaces that are not there, where there are any.
fn warn_of_missing(
    plan: &Plan,
    parsed: &Parsed,
    surroundings: &Surroundings,
    diagnostics: &mut Diagnostics,
) {
    let there = (surroundings.interfaces)();
    for id in plan.ports.ids() {
        for (interface, _) in uses_of(plan, id) {
            let is_missing = !there.is_empty() && (surroundings.hardware_type)(interface).is_none();
            let Some(name) = defined(parsed, NameKind::Port, &plan.ports[id].name).filter(|_| is_missing)
            else {
                continue;
            };
            let warning =
                Diagnostic::warning(name.span, format!("there is no interface `{interface}` here"))
                    .label("it has to be there when the port is attached");
            diagnostics.push(match nearest(interface, there.iter().map(String::as_str)) {
                Some(near) => warning.help(format!("did you mean `{near}`?")),
                None => warning.help(format!("there are {}", there.join(", "))),
            });
        }
    }
}
