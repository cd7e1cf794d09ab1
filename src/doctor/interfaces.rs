//! Interfaces of the kernel that ports name, and offloads that cut or join frames on the way to them.

use super::Finding;
use crate::broker::offloads::{Changing, changes};
use crate::plan::Run;
use crate::plan::value::PortPlan;
use tapline_kernel::interface::{self, Index};

/// Looks at the interfaces of a plan, else at all.
pub(super) fn look(run: Option<Run<'_>>) -> Vec<Finding> {
    let Some(run) = run else {
        let names = interface::names();
        return names
            .iter()
            .filter(|name| *name != "lo")
            .filter_map(|name| {
                let index = Index::of(name)?;
                Some(offloads(name, index, false))
            })
            .flatten()
            .collect();
    };
    run.plan.ports.iter().flat_map(of_port).collect()
}

fn of_port(port: &PortPlan) -> Vec<Finding> {
    let Some(driver) = port.devargs.driver() else { return Vec::new() };
    let named = port.devargs.arguments().filter(|argument| driver.interfaces.contains(&argument.name));
    let mut findings = Vec::new();
    for argument in named {
        let name = argument.value;
        let Some(index) = Index::of(name) else {
            let text = format!(
                "port {}: there is no interface `{name}` here; `ip link` lists those that there are",
                port.name
            );
            findings.push(Finding::gap("interfaces", text));
            continue;
        };
        if index.state() == interface::State::Down {
            let text = format!("port {}: interface `{name}` is down, or has no carrier", port.name);
            findings.push(Finding::advice("interfaces", text).mended_by(format!("ip link set {name} up")));
        } else {
            findings.push(Finding::fine("interfaces", format!("port {}: {name} is up", port.name)));
        }
        let receives = port.rxq != Some(0) && argument.name != "tx_iface";
        let ends = port.iface.as_ref().is_some_and(|iface| iface.ends_offloads);
        let takes_outgoing = port.iface.as_ref().is_none_or(|iface| iface.takes_outgoing);
        if receives && !ends {
            findings.extend(offloads(name, index, takes_outgoing));
        }
    }
    findings
}

/// Says which offloads change the frames that are received by an interface.
fn offloads(name: &str, index: Index, takes_outgoing: bool) -> Vec<Finding> {
    const AREA: &str = "offloads";
    let changes = changes(index, name, takes_outgoing);
    let mut findings: Vec<Finding> = changes
        .changing
        .iter()
        .map(|Changing { name: changing, is_far_end, offloads, .. }| {
            let words: Vec<&str> = offloads.iter().map(|offload| offload.word()).collect();
            let of = if *is_far_end { format!(", the far end of {name},") } else { String::new() };
            let text = format!(
                "{changing}{of} changes frames before they are received at {name}: {}",
                words.join(", ")
            );
            let off: Vec<String> = words.iter().map(|word| format!("{word} off")).collect();
            Finding::advice(AREA, text).mended_by(format!("ethtool -K {changing} {}", off.join(" ")))
        })
        .collect();
    if changes.is_far_end_unseen {
        let text = format!(
            "the far end of {name} is in another network namespace, where its offloads cannot be seen"
        );
        findings.push(Finding::advice(AREA, text).mended_by("ethtool -K INTERFACE tso off gso off tx off"));
    }
    findings
}
