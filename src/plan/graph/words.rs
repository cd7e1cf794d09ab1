//! Says of each object what its box shows, in words of the pipeline language.

use std::path::Path;

use super::super::value::{Output, Plan, PortPlan, RulePlan, ToolPlan};
use tapline_api::words::{Anchor, Class, TimestampFormat};
use tapline_datapath::copies::edit::Edits;
use tapline_datapath::copies::transport::Transport;
use tapline_datapath::receive::tunnel_match::Terminator;
use tapline_datapath::work_plan::{GroupWork, Verdict};
use tapline_packet::headers::layer::{Layer, LayerSet};

pub(super) fn port(port: &PortPlan) -> Vec<String> {
    let device = match (&port.replay, &port.iface) {
        (Some(replay), _) => format!("replay {}", replay.path),
        (_, Some(iface)) => format!("interface {}", iface.interface),
        _ => port.devargs.to_string(),
    };
    let stopped = port.is_stopped.then(|| "stopped".to_owned());
    [device].into_iter().chain(stopped).collect()
}

pub(super) fn terminator(terminator: &Terminator) -> String {
    let mut words = terminator.kind.word().to_owned();
    let ranges: Vec<String> = terminator
        .identifiers
        .iter()
        .map(|range| match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("{}-{}", range.start(), range.end()),
        })
        .collect();
    if !ranges.is_empty() {
        words += &format!(" {}", ranges.join(","));
    }
    if let Some(port) = terminator.udp_port {
        words += &format!(" udp port {port}");
    }
    terminator.to.iter().for_each(|to| words += &format!(" to {to}"));
    let from: Vec<String> = terminator.from.iter().map(ToString::to_string).collect();
    if !from.is_empty() {
        words += &format!(" from {}", from.join(","));
    }
    words
}

pub(super) fn rule(rule: &RulePlan) -> Vec<String> {
    let mut says = vec![if rule.words.is_empty() { "all packets".to_owned() } else { rule.words.clone() }];
    if let Some(dedup) = &rule.dedup {
        let window = match dedup.window_ns {
            ns if ns % 1_000_000 == 0 => format!("{}ms", ns / 1_000_000),
            ns if ns % 1000 == 0 => format!("{}us", ns / 1000),
            ns => format!("{ns}ns"),
        };
        says.push(format!("dedup window {window} action {}", dedup.action));
    }
    rule.limit.iter().for_each(|limit| says.push(format!("limit {limit} packets")));
    if rule.schedule.is_some() {
        says.push("by a schedule".to_owned());
    }
    if let Some(class) = rule.class.filter(|class| *class != Class::Normal) {
        says.push(format!("class {class}"));
    }
    match rule.verdict {
        Verdict::Continue => {}
        Verdict::Final => says.push("final".to_owned()),
        Verdict::Drop => says.push("drop".to_owned()),
    }
    if !rule.is_enabled {
        says.push("disabled".to_owned());
    }
    says
}

/// Says of rules that share a box the first and the last, how many end the search, and how many are off.
pub(super) fn rules(rules: &[&RulePlan]) -> Vec<String> {
    let priorities = match rules {
        [first, .., last] => format!("{} to {}", first.priority, last.priority),
        _ => String::new(),
    };
    let mut says = vec![priorities];
    let verdicts = [(Verdict::Final, "final"), (Verdict::Drop, "drop")];
    for (verdict, word) in verdicts {
        let count = rules.iter().filter(|rule| rule.verdict == verdict).count();
        match count {
            0 => {}
            _ if count == rules.len() => says.push(format!("all {word}")),
            _ => says.push(format!("{count} {word}")),
        }
    }
    let off = rules.iter().filter(|rule| !rule.is_enabled).count();
    if off > 0 {
        says.push(format!("{off} disabled"));
    }
    says
}

pub(super) fn group(group: &GroupWork, plan: &Plan) -> Vec<String> {
    let weights = &group.spec.weights;
    let active = weights.len().min(group.members.len());
    let count = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let mut says = vec![count(active, "member")];
    if weights.iter().any(|weight| *weight != weights[0]) {
        let weights: Vec<String> = weights.iter().map(ToString::to_string).collect();
        says.push(format!("weights {}", weights.join(",")));
    }
    let standby: Vec<&str> =
        group.members[active..].iter().map(|&tool| plan.tools[tool].name.as_str()).collect();
    if !standby.is_empty() {
        says.push(format!("standby {}", standby.join(",")));
    }
    says
}

pub(super) fn tool(tool: &ToolPlan, plan: &Plan) -> Vec<String> {
    let mut says = Vec::new();
    match (&tool.copy.transport, &tool.copy.tunnel) {
        (Transport::Rspan { tag, .. }, _) => says.push(format!("rspan vlan {}", tag.vlan)),
        (Transport::Tunnel(_), Some(tunnel)) => {
            let (_, to, session) = &tunnel.session;
            says.push(format!("{session} to {to}"));
        }
        _ => {}
    }
    if tool.copy.timestamp.format != TimestampFormat::None {
        says.push(format!("timestamp {}", tool.copy.timestamp.format));
    }
    says.push(match tool.output {
        Output::Port(port) => format!("port {}", plan.ports[port].name),
        Output::Capture => {
            format!("capture {}", tool.capture.as_deref().unwrap_or(Path::new("")).display())
        }
        Output::Discard => "discard".to_owned(),
    });
    if tool.is_drained {
        says.push("drained".to_owned());
    }
    says
}

fn layers(layers: LayerSet) -> String {
    if layers == LayerSet::ALL {
        return "all".to_owned();
    }
    let words = Layer::ALL.into_iter().filter(|&layer| layers.contains(layer)).map(Layer::word);
    words.collect::<Vec<_>>().join(",")
}

/// Says edits in the order in which they are made.
pub(super) fn edits(edits: &Edits) -> Vec<String> {
    let Edits { strip, anonymize, masks, payload_drop, slice, rewrite, tag, mark } = edits;
    let after = |anchor: Option<Anchor>| anchor.map_or(String::new(), |anchor| format!(" after {anchor}"));
    let mut says = Vec::new();
    if !strip.is_empty() {
        says.push(format!("strip {}", layers(*strip)));
    }
    if let Some(anonymize) = anonymize {
        let keep = match (anonymize.keep, anonymize.keep_ipv6) {
            (0, 0) => String::new(),
            (ipv4, ipv6) => format!(" keep {ipv4}/{ipv6}"),
        };
        says.push(format!("anonymize ip{keep}{}", if anonymize.inner { " inner" } else { "" }));
    }
    says.extend(masks.iter().map(|mask| format!("mask {} {}{}", mask.offset, mask.len, after(mask.after))));
    if *payload_drop {
        says.push("payload drop".to_owned());
    }
    says.extend(slice.map(|slice| format!("slice {}{}", slice.keep, after(slice.after))));
    says.extend(rewrite.destination.map(|mac| format!("rewrite dst-mac {mac}")));
    says.extend(rewrite.source.map(|mac| format!("rewrite src-mac {mac}")));
    says.extend(rewrite.vlan.map(|vlan| format!("rewrite vlan {vlan}")));
    says.extend(tag.map(|tag| {
        let label = tag.label.map_or(String::new(), |label| format!(" {label}"));
        format!("tag vlan {}{label}", tag.tag.vlan)
    }));
    says.extend(mark.map(|vlan| format!("tag vlan {vlan}")));
    says
}
