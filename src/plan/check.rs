//! Warnings: what is not wrong, but most likely not meant.

use std::collections::HashSet;

use super::devargs::unknown_arguments;
use super::plan::{Output, PortId, Target, ToolId, ToolPlan, Verdict};
use super::resolve::Resolved;
use super::schedule::{Activity, Schedule};
use crate::capture::Reader;
use crate::datapath::classify::{FilterTerm, Matcher};
use crate::dpdk::clock;
use crate::filter::{Analysis, analyse};
use crate::lang::Parsed;
use crate::lang::ast::{Command, Device, FilterSource, Name, NameKind};
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
    warn_of_rules(resolved, parsed, diagnostics);
    for command in &parsed.file.commands {
        let Command::PortAttach { device, .. } = &command.value else { continue };
        let Device::Devargs(devargs) = &device.value else { continue };
        for (driver, name, advice) in unknown_arguments(devargs) {
            let message = format!("{driver} takes no argument `{name}`");
            diagnostics.push(Diagnostic::warning(device.span, message).help(advice));
        }
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
        // a tunnel's next hop or far end answers there, or heartbeats return
        let is_asked = |tool: &ToolPlan| tool.copy.asks_for_next_hop() || tool.echo.is_some();
        if plan.returns_heartbeats(port_id) || plan.tools.iter().any(|tool| tool.output == Output::Port(port_id) && is_asked(tool))
        {
            continue;
        }
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

/// Warns of rules that can never match, and of rules that miss what they look as if they took.
fn warn_of_rules(resolved: &Resolved, parsed: &Parsed, diagnostics: &mut Diagnostics) {
    let rules = &resolved.plan.rules;
    let now_ns = clock::now_ns();
    let asking: Vec<usize> = {
        let filters = tagged_filters(parsed);
        (0..rules.len()).filter(|&rule| asks_for_vlans(&filters, resolved, rule)).collect()
    };
    let snaplens: Vec<Option<u32>> = resolved.plan.ports.iter().map(|port| snaplen(&port.devargs)).collect();
    let analyses: Vec<Vec<Analysis>> = resolved.rules.iter().map(|source| analyse_all(&source.matcher)).collect();
    for (index, (rule, source)) in rules.iter().zip(&resolved.rules).enumerate().filter(|(_, (rule, _))| rule.is_enabled) {
        let warning = |text: String| Diagnostic::warning(source.span, text);
        if let Some(reason) = rule.schedule.as_ref().and_then(|schedule| never_on(schedule, now_ns)) {
            diagnostics.push(warning(format!("rule {} is never on", rule.priority)).label(reason));
            continue;
        }
        let mine = &analyses[index];
        if mine.iter().any(|analysis| analysis.never_matches) {
            diagnostics
                .push(warning(format!("rule {} can never match", rule.priority)).label("no packet is what its filter asks for"));
            continue;
        }
        let shadow = (0..index).find(|&earlier| {
            let (other, other_source) = (&rules[earlier], &resolved.rules[earlier]);
            other.is_enabled
                && other.verdict != Verdict::Continue
                // one that goes off by itself leaves its packets to those behind it
                && other.schedule.is_none()
                && other.limit.is_none()
                && rule.sources.iter().all(|port| other.sources.contains(port))
                && (takes_all(&other_source.matcher, &analyses[earlier]) || is_same(&other_source.matcher, &source.matcher))
        });
        if let Some(shadow) = shadow {
            let word = if rules[shadow].verdict == Verdict::Drop { "drop" } else { "final" };
            let text = format!("rule {} can never match", rule.priority);
            diagnostics
                .push(warning(text).label(format!("rule {}, which is `{word}`, takes its packets first", rules[shadow].priority)));
            continue;
        }
        if let Some((port, snaplen)) =
            snapped(resolved, &snaplens, index, mine.iter().map(|analysis| analysis.least_captured_bytes).max().unwrap_or(0))
        {
            let text = format!("rule {} can never match packets of port `{}`", rule.priority, resolved.plan.ports[port.0].name);
            diagnostics.push(
                warning(text).label(format!("its filter looks beyond the {snaplen} bytes that the capture keeps of a packet")),
            );
        }
        let looks_plain = source.matcher.vlans.is_none() && source.matcher.filters.iter().all(|filter| filter.through.is_empty());
        if looks_plain && mine.iter().any(|analysis| analysis.misses_tagged) {
            let tagged = asking
                .iter()
                .copied()
                .find(|&other| other != index && rules[other].sources.iter().any(|port| rule.sources.contains(port)));
            if let Some(other) = tagged {
                let text = format!(
                    "rule {} misses tagged packets, which rule {} says the port carries",
                    rule.priority, rules[other].priority
                );
                diagnostics.push(warning(text).help("`through vlan` after the filter looks behind the tags"));
            }
        }
    }
}

/// Why a rule that starts at `now_ns` is off for good, if it is.
fn never_on(schedule: &Schedule, now_ns: u64) -> Option<&'static str> {
    let is_past = schedule.until_ns.is_some_and(|until_ns| until_ns <= now_ns);
    match schedule.at(now_ns, now_ns) {
        Activity { is_on: false, next_change_ns: None } if is_past => Some("its `until` is past"),
        Activity { is_on: false, next_change_ns: None } => Some("it ends before its hours begin"),
        _ => None,
    }
}

/// What is certain of each filter of a rule. A list matches where one entry does.
fn analyse_all(matcher: &Matcher) -> Vec<Analysis> {
    let together = |filter: &FilterTerm| {
        if filter.prefixes.is_some() || filter.programs.len() > MOST_ANALYSED {
            return Analysis::default();
        }
        let each: Vec<Analysis> = filter.programs.iter().map(analyse).collect();
        Analysis {
            never_matches: each.iter().all(|analysis| analysis.never_matches),
            always_matches: each.iter().any(|analysis| analysis.always_matches),
            misses_tagged: each.iter().all(|analysis| analysis.misses_tagged),
            least_captured_bytes: each.iter().map(|analysis| analysis.least_captured_bytes).min().unwrap_or(0),
        }
    };
    matcher.filters.iter().map(together).collect()
}

/// Entries of a list that are looked into one by one.
const MOST_ANALYSED: usize = 64;

fn takes_all(matcher: &Matcher, analyses: &[Analysis]) -> bool {
    matcher.vlans.is_none() && matcher.terms.is_empty() && analyses.iter().all(|analysis| analysis.always_matches)
}

fn is_same(a: &Matcher, b: &Matcher) -> bool {
    let filters = a.filters.len() == b.filters.len()
        && a.filters
            .iter()
            .zip(&b.filters)
            .all(|(a, b)| a.programs == b.programs && a.through == b.through && a.prefixes.is_none() && b.prefixes.is_none());
    filters && a.vlans == b.vlans && a.terms == b.terms
}

/// The names of filters that ask for a VLAN.
fn tagged_filters(parsed: &Parsed) -> HashSet<&str> {
    let named = parsed.file.commands.iter().filter_map(|command| match &command.value {
        Command::FilterCreate { name, filter } => match &filter.source.value {
            FilterSource::Expression(text) if has_vlan(text) => Some(name.value.as_str()),
            _ => None,
        },
        _ => None,
    });
    named.collect()
}

fn asks_for_vlans(filters: &HashSet<&str>, resolved: &Resolved, rule: usize) -> bool {
    let matcher = &resolved.rules[rule].matcher;
    let words = &resolved.plan.rules[rule].words;
    let is_named = || filters.contains(words.as_str());
    matcher.vlans.is_some() || (matcher.filters.iter().all(|filter| filter.through.is_empty()) && (has_vlan(words) || is_named()))
}

fn has_vlan(words: &str) -> bool {
    words.split(|c: char| !c.is_alphanumeric()).any(|word| word == "vlan")
}

/// The port of a rule that reads a capture whose packets are cut before the byte that the rule needs, and where they are cut.
fn snapped(resolved: &Resolved, snaplens: &[Option<u32>], rule: usize, least_captured_bytes: u64) -> Option<(PortId, u32)> {
    resolved.plan.rules[rule].sources.iter().find_map(|&port| {
        let snaplen = snaplens[port.0]?;
        (snaplen > 0 && u64::from(snaplen) < least_captured_bytes).then_some((port, snaplen))
    })
}

/// Where the packets of a capture that a port reads are cut.
fn snaplen(devargs: &str) -> Option<u32> {
    let path = devargs.split(',').find_map(|arg| arg.strip_prefix("rx_pcap="))?;
    let path = std::path::Path::new(path);
    // what is read of a pipe is lost to the driver
    if !path.is_file() {
        return None;
    }
    Reader::open(path).ok()?.interfaces().iter().map(|interface| interface.snaplen).max()
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
