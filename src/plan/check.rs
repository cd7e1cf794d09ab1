//! Warnings: what is not wrong, but most likely not meant.

use std::collections::{HashMap, HashSet};

use super::access::Grantee;
use super::devargs::{misspelt_driver, unknown_arguments};
use super::interfaces::warn_of_interfaces;
use super::memory::{self, CopiesTo};
use super::progress::{GivenUp, Progress};
use super::resolve::{Resolved, RuleSource};
use super::schedule::{Activity, Schedule};
use super::surroundings::Surroundings;
use super::value::{PortPlan, RulePlan};
use super::{Plan, Run, RunOptions};
use tapline_api::words::NameKind;
use tapline_capture::Reader;
use tapline_datapath::classify::{FilterTerm, Matcher};
use tapline_datapath::ids::{PortId, RuleId, ToolId};
use tapline_datapath::work_plan::Verdict;
use tapline_dpdk::driver::{Devargs, Driver};
use tapline_filter::Analysis;
use tapline_filter::analyse;
use tapline_filter::bpf::verify::Program;
use tapline_filter::terms::{Term, VlanSet};
use tapline_lang::Parsed;
use tapline_lang::ast::access::Grant;
use tapline_lang::ast::port::Device;
use tapline_lang::ast::set::Setting;
use tapline_lang::ast::{Command, Name};
use tapline_lang::diagnostic::{Diagnostic, Diagnostics};
use tapline_lang::files::Files;
use tapline_packet::by_id::ById;
use tapline_packet::headers::layer::LayerSet;

/// Adds the warnings of a plan that has no errors.
pub(super) fn warn(
    resolved: &Resolved,
    parsed: &Parsed,
    surroundings: &Surroundings,
    diagnostics: &mut Diagnostics,
    progress: &Progress,
) -> Result<(), GivenUp> {
    let plan = &resolved.plan;
    if plan.ports.iter().all(|port| port.rxq == Some(0))
        && let Some(source) = parsed.sources.first()
    {
        diagnostics.push(Diagnostic::of_file(
            tapline_lang::diagnostic::Severity::Warning,
            source,
            "no port receives; attach one with `port attach NAME DEVARGS`",
        ));
    }
    warn_of_rules(resolved, surroundings, diagnostics, progress)?;
    warn_of_clocks(resolved, diagnostics);
    warn_of_mempool(plan, parsed, diagnostics);
    warn_of_arguments(parsed, diagnostics);
    warn_of_tools(plan, parsed, diagnostics);
    warn_of_ports(resolved, parsed, diagnostics);
    warn_of_interfaces(plan, parsed, surroundings, diagnostics);
    warn_of_groups(plan, parsed, surroundings, diagnostics);
    Ok(())
}

/// Warns of groups that are granted something and that the control socket, whose mode is 0660, lets nobody of connect.
fn warn_of_groups(
    plan: &Plan,
    parsed: &Parsed,
    surroundings: &Surroundings,
    diagnostics: &mut Diagnostics,
) {
    let own = (surroundings.names.own_group)();
    for grant in &plan.access {
        let Grantee::Group(group) = grant.to else { continue };
        let is_place = |command: &Command| match command {
            Command::AccessGrant(Grant { to, .. }) => {
                (to.kind, &to.name.value) == (grant.kind, &grant.name)
            }
            _ => false,
        };
        if group != own
            && let Some(Command::AccessGrant(Grant { to, .. })) =
                parsed.file.commands.iter().map(|command| &command.value).rfind(|command| is_place(command))
        {
            let message =
                format!("the control socket lets nobody connect for being in group `{}`", grant.name);
            let label = format!(
                "it is made with mode 0660 for group `{}`, that of whoever runs this",
                (surroundings.names.group_name)(own)
            );
            let help = "run Tapline with this group (`Group=` of its unit, or sg(1)), or set the group and the setgid bit of the socket's folder";
            diagnostics.push(Diagnostic::warning(to.name.span, message).label(label).help(help));
        }
    }
}

/// Warns of arguments that a port's driver does not take, and of names that are nearly a driver's.
fn warn_of_arguments(parsed: &Parsed, diagnostics: &mut Diagnostics) {
    for command in &parsed.file.commands {
        let Command::PortAttach { device, .. } = &command.value else { continue };
        let Device::Devargs(devargs) = &device.value else { continue };
        if let Some(near) = misspelt_driver(devargs) {
            let message = format!("there is no driver of the name of `{}`", Devargs::new(devargs).device());
            let help = format!("did you mean `{near}`?");
            diagnostics.push(Diagnostic::warning(device.span, message).help(help));
        }
        for (driver, name, advice) in unknown_arguments(&Devargs::new(devargs)) {
            let message = format!("{driver} takes no argument `{name}`");
            diagnostics.push(Diagnostic::warning(device.span, message).help(advice));
        }
    }
}

/// Warns of tools that no rule sends to.
fn warn_of_tools(plan: &Plan, parsed: &Parsed, diagnostics: &mut Diagnostics) {
    let chosen: HashSet<ToolId> = plan.rules.iter().flat_map(|rule| plan.tools_of(&rule.targets)).collect();
    for (id, tool) in plan.tools.entries() {
        if !chosen.contains(&id)
            && let Some(name) = defined(parsed, NameKind::Tool, &tool.name)
        {
            diagnostics
                .push(Diagnostic::warning(name.span, format!("no rule sends to tool `{}`", tool.name)));
        }
    }
}

/// Warns of ports whose packets no rule takes, and of tools' ports whose packets rules take unasked.
fn warn_of_ports(resolved: &Resolved, parsed: &Parsed, diagnostics: &mut Diagnostics) {
    let plan = &resolved.plan;
    let takes_any = resolved.rules.iter().any(|source| source.is_from_any);
    let mut are_named = ById::filled(plan.ports.len(), false);
    for (_, rule) in resolved.rules.iter().zip(&plan.rules).filter(|(source, _)| !source.is_from_any) {
        rule.sources.iter().for_each(|&port| are_named[port] = true);
    }
    for (port_id, port) in plan.ports.entries() {
        if port.rxq == Some(0) || are_named[port_id] || plan.wire_at(port_id).is_some() {
            continue;
        }
        let Some(name) = defined(parsed, NameKind::Port, &port.name) else { continue };
        if port.uses.returns_heartbeats || port.uses.is_answered {
            continue;
        }
        // net_pcap receives nothing unless it is told from where
        let receives = !port.devargs.goes_by_libpcap() || port.devargs.text().contains("rx_");
        let message = match (port.uses.is_sent_to(), takes_any) {
            (true, true) if receives => {
                format!("tools send on port `{}`, and rules `from any` take what it receives", port.name)
            }
            (true, false) if receives => format!("what tool port `{}` receives is unmatched", port.name),
            (false, false) => format!("no rule takes from port `{}`", port.name),
            _ => continue,
        };
        let label = if let Some(Driver { name, pairs_queues: true, .. }) = port.devargs.driver() {
            format!("{name} cannot only send; a rule `from {} drop` excludes what comes", port.name)
        } else if port.iface.is_some() {
            "`queues=0` behind the interface makes it a port that only sends".to_owned()
        } else {
            "`rxq 0` makes it a port that only sends".to_owned()
        };
        diagnostics.push(Diagnostic::warning(name.span, message).label(label));
    }
}

/// Warns of rules that look for duplicates among ports whose times are of different clocks.
fn warn_of_clocks(resolved: &Resolved, diagnostics: &mut Diagnostics) {
    let plan = &resolved.plan;
    for (rule, source) in plan.rules.iter().zip(&resolved.rules).filter(|(rule, _)| rule.is_enabled) {
        let Some(dedup) = &rule.dedup else { continue };
        // net_pcap receives nothing unless it is told from where
        let is_told = |port: &&PortPlan| {
            ["rx_", "iface="].iter().any(|argument| port.devargs.text().contains(argument))
        };
        let receives =
            |port: &&PortPlan| port.rxq != Some(0) && (!port.devargs.goes_by_libpcap() || is_told(port));
        let ports = dedup.scope.iter().map(|&port| &plan.ports[port]).filter(receives);
        let timed: Vec<_> = ports.map(|port| (&port.name, port.time_base())).collect();
        let Some((first, base)) = timed.first() else { continue };
        let Some((other, other_base)) = timed.iter().find(|(_, other)| other != base) else { continue };
        let message = format!(
            "rule {} does not find copies of a packet that come by `{first}` and by `{other}`",
            rule.priority
        );
        let label = format!(
            "packets of `{first}` have the time of {}, those of `{other}` of {}: they are not compared",
            base.name(),
            other_base.name()
        );
        let help = "write a rule for each, or name the ports of one clock by `scope ports`";
        diagnostics.push(Diagnostic::warning(source.span, message).label(label).help(help));
    }
}

/// Warns where the user's mempools are smaller than what tools that take nothing may hold.
fn warn_of_mempool(plan: &Plan, parsed: &Parsed, diagnostics: &mut Diagnostics) {
    let said = parsed.file.commands.iter().rev().find_map(|command| match &command.value {
        Command::Set(Setting::Mempool(count)) => Some(count),
        _ => None,
    });
    let Some(said) = said else { return };
    let run = Run { plan, options: &RunOptions::default() };
    let receiving = plan.ports.ids().filter(|&port| plan.ports[port].rxq != Some(0));
    let of_ports =
        receiving.map(|port| (memory::port_need(run, port), format!("port `{}`", plan.ports[port].name)));
    let of_copies =
        CopiesTo::ALL.map(|to| (memory::copy_need(run, to), "the pool of edited copies".to_owned()));
    let needs = of_ports.chain(of_copies);
    let Some((need, whose)) =
        needs.max_by_key(|(need, _)| *need).filter(|(need, _)| u64::from(*need) > said.value)
    else {
        return;
    };
    let message = format!(
        "tools that take nothing can use up a mempool of {} mbufs, and then no tool gets anything",
        said.value
    );
    let warning = Diagnostic::warning(said.span, message)
        .label(format!("{whose} needs {need}, with full queues of all tools"));
    diagnostics.push(
        warning.help(format!("raise it to {need}, leave it to Tapline, or lower the tools' `queue`")),
    );
}

/// Warns of rules that can never match, and of rules that miss what they look as if they took.
fn warn_of_rules(
    resolved: &Resolved,
    surroundings: &Surroundings,
    diagnostics: &mut Diagnostics,
    progress: &Progress,
) -> Result<(), GivenUp> {
    let rules = &resolved.plan.rules;
    let now_ns = surroundings.now_ns;
    let asking = asking_for_vlans(resolved);
    let snaplens: ById<PortId, Option<u32>> =
        resolved.plan.ports.iter().map(|port| snaplen(&port.devargs, &*surroundings.files)).collect();
    let analyses = resolved.rules.iter().map(|source| {
        progress.step()?;
        Ok(analyse_all(&source.matcher))
    });
    let analyses: ById<RuleId, Vec<Analysis>> = analyses.collect::<Result<_, _>>()?;
    let mut takers = Takers::default();
    for ((id, rule), source) in
        rules.entries().zip(&resolved.rules).filter(|((_, rule), _)| rule.is_enabled)
    {
        let warning = |text: String| Diagnostic::warning(source.span, text);
        let mine = &analyses[id];
        if let Some(never) = never_of_itself(rule, source, mine, now_ns) {
            diagnostics.push(never);
            continue;
        }
        if rule.unread.is_none() && anonymizes(&resolved.plan, rule) {
            let text = format!("rule {} drops copies that cannot be read to be anonymised", rule.priority);
            let help =
                "`unread drop` says that this is meant; `unread pass` lets them pass, and counts them";
            diagnostics.push(warning(text).help(help));
        }
        let shadow = takers.before(rule, &source.matcher, rules);
        if shadow.is_none() && takes_for_good(rule) {
            takers.add(id, &source.matcher, takes_all(&source.matcher, mine));
        }
        if let Some(shadow) = shadow {
            let word = if rules[shadow].verdict == Verdict::Drop { "drop" } else { "final" };
            let text = format!("rule {} can never match", rule.priority);
            diagnostics.push(warning(text).label(format!(
                "rule {}, which is `{word}`, takes its packets first",
                rules[shadow].priority
            )));
            continue;
        }
        if let Some((port, snaplen)) = snapped(
            resolved,
            &snaplens,
            id,
            mine.iter().map(|analysis| analysis.least_captured_bytes).max().unwrap_or(0),
        ) {
            let text = format!(
                "rule {} can never match packets of port `{}`",
                rule.priority, resolved.plan.ports[port].name
            );
            diagnostics.push(warning(text).label(format!(
                "its filter looks beyond the {snaplen} bytes that the capture keeps of a packet"
            )));
        }
        let looks_plain = source.matcher.vlans.is_none()
            && source.matcher.filters.iter().all(|filter| filter.through.is_empty());
        if looks_plain && mine.iter().any(|analysis| analysis.misses_tagged) {
            let others = rule.sources.iter().flat_map(|&port| &asking[port]).copied();
            if let Some(other) = others.filter(|&other| other != id).min() {
                let text = format!(
                    "rule {} misses tagged packets, which rule {} says the port carries",
                    rule.priority, rules[other].priority
                );
                diagnostics
                    .push(warning(text).help("`through vlan` after the filter looks behind the tags"));
            }
        }
    }
    Ok(())
}

/// Says why a rule can take no packet, whatever the other rules are, if it cannot.
fn never_of_itself(
    rule: &RulePlan,
    source: &RuleSource,
    analyses: &[Analysis],
    now_ns: u64,
) -> Option<Diagnostic> {
    if let Some(reason) = rule.schedule.as_ref().and_then(|schedule| never_on(schedule, now_ns)) {
        let text = format!("rule {} is never on", rule.priority);
        return Some(Diagnostic::warning(source.span, text).label(reason));
    }
    let never = || Diagnostic::warning(source.span, format!("rule {} can never match", rule.priority));
    if analyses.iter().any(|analysis| analysis.never_matches) {
        return Some(never().label("no packet is what its filter asks for"));
    }
    (source.matcher.vlans.is_some() && misses_its_tags(&source.matcher, analyses)).then(|| {
        never()
            .label("`vlan` asks for a tag, and its filter for packets that have another type in the tag's place")
            .help("`through vlan` after the filter looks behind the tags")
    })
}

/// Returns whether copies of a rule are to be anonymised, by itself or by its tools.
fn anonymizes(plan: &Plan, rule: &RulePlan) -> bool {
    let by_rule = || rule.edits.is_some_and(|id| plan.work.edits[id].anonymizes().is_some());
    by_rule() || plan.tools_of(&rule.targets).any(|tool| plan.anonymizes(tool).is_some())
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

/// Gives what is certain about each filter of a rule. A list matches if one of its entries does.
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
            least_captured_bytes: each
                .iter()
                .map(|analysis| analysis.least_captured_bytes)
                .min()
                .unwrap_or(0),
        }
    };
    matcher.filters.iter().map(together).collect()
}

/// Entries of a list that are looked into one by one.
const MOST_ANALYSED: usize = 64;

/// Returns whether one of a rule's filters takes no tagged packet.
fn misses_its_tags(matcher: &Matcher, analyses: &[Analysis]) -> bool {
    let mut filters = matcher.filters.iter().zip(analyses);
    filters.any(|(filter, analysis)| filter.through.is_empty() && analysis.misses_tagged)
}

fn takes_all(matcher: &Matcher, analyses: &[Analysis]) -> bool {
    matcher.vlans.is_none()
        && matcher.terms.is_empty()
        && analyses.iter().all(|analysis| analysis.always_matches)
}

/// The key that two rules share if they match the same packets.
type MatcherKey<'a> = (Option<&'a VlanSet>, Vec<(&'a [Program], LayerSet)>, &'a [Term]);

/// `None` for a matcher whose like is not looked for.
fn key_of(matcher: &Matcher) -> Option<MatcherKey<'_>> {
    let filters = matcher
        .filters
        .iter()
        .map(|filter| filter.prefixes.is_none().then_some((&filter.programs[..], filter.through)));
    Some((matcher.vlans.as_ref(), filters.collect::<Option<_>>()?, &matcher.terms))
}

/// Returns whether a rule keeps the packets that it takes from the rules behind it. One that goes off by itself leaves them to
/// those.
fn takes_for_good(rule: &RulePlan) -> bool {
    rule.verdict != Verdict::Continue && rule.schedule.is_none() && rule.limit.is_none()
}

/// Rules so far that leave nothing of what they match to rules behind them, but for those that another one leaves nothing: what
/// these would keep from a rule, that one keeps from it. So there are few for each matcher, however many rules there are.
#[derive(Default)]
struct Takers<'a> {
    /// Those that take every packet of their ports.
    all: Vec<RuleId>,
    by_matcher: HashMap<MatcherKey<'a>, Vec<RuleId>>,
}

impl<'a> Takers<'a> {
    /// Rules are added in their order.
    fn add(&mut self, rule: RuleId, matcher: &'a Matcher, takes_all: bool) {
        if takes_all {
            self.all.push(rule);
        }
        if let Some(key) = key_of(matcher) {
            self.by_matcher.entry(key).or_default().push(rule);
        }
    }

    /// The first that takes all packets of a rule.
    fn before(&self, rule: &RulePlan, matcher: &Matcher, rules: &ById<RuleId, RulePlan>) -> Option<RuleId> {
        let alike = key_of(matcher).and_then(|key| self.by_matcher.get(&key));
        let first = |takers: &[RuleId]| {
            let has_all =
                |taker: &RuleId| rule.sources.iter().all(|port| rules[*taker].sources.contains(port));
            takers.iter().copied().find(has_all)
        };
        first(&self.all).into_iter().chain(first(alike.map_or(&[], Vec::as_slice))).min()
    }
}

/// Gives for each port the first two rules that say that it carries tagged packets: the first, and the one to name if the first is
/// the rule that asks.
fn asking_for_vlans(resolved: &Resolved) -> ById<PortId, Vec<RuleId>> {
    let mut asking = ById::filled(resolved.plan.ports.len(), Vec::new());
    let rules = resolved.plan.rules.entries().zip(&resolved.rules);
    for ((id, rule), _) in rules.filter(|(_, source)| asks_for_vlans(source)) {
        for &port in &rule.sources {
            if asking[port].len() < 2 {
                asking[port].push(id);
            }
        }
    }
    asking
}

/// Returns whether a rule looks for tags itself. One that looks through layers may meet them without doing so.
fn asks_for_vlans(source: &RuleSource) -> bool {
    let looks_through = source.matcher.filters.iter().any(|filter| !filter.through.is_empty());
    source.matcher.vlans.is_some() || source.names_vlans && !looks_through
}

/// The port of a rule that reads a capture whose packets are cut before the byte that the rule needs, and where they are cut.
fn snapped(
    resolved: &Resolved,
    snaplens: &ById<PortId, Option<u32>>,
    rule: RuleId,
    least_captured_bytes: u64,
) -> Option<(PortId, u32)> {
    resolved.plan.rules[rule].sources.iter().find_map(|&port| {
        let snaplen = snaplens[port]?;
        (snaplen > 0 && u64::from(snaplen) < least_captured_bytes).then_some((port, snaplen))
    })
}

/// Gives the length at which the packets of a capture that a port reads are cut.
fn snaplen(devargs: &Devargs, files: &dyn Files) -> Option<u32> {
    let path = devargs.argument("rx_pcap")?;
    // what is read of a pipe is lost to the driver
    let file = files.open(std::path::Path::new(path)).ok()?;
    Reader::from_stream(file).ok()?.interfaces().iter().map(|interface| interface.snaplen).max()
}

/// Gives the name of a port or tool where it is defined.
pub(super) fn defined<'a>(parsed: &'a Parsed, kind: NameKind, wanted: &str) -> Option<&'a Name> {
    parsed.file.commands.iter().find_map(|command| match (&command.value, kind) {
        (Command::PortAttach { name, .. }, NameKind::Port)
        | (Command::ToolCreate { name, .. }, NameKind::Tool) => (name.value == wanted).then_some(name),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use crate::plan::{Surroundings, plan};
    use tapline_lang as lang;

    /// Gives the diagnostics of a plan with these rules.
    fn said_of(rules: &str) -> String {
        let head = "port attach p net_null0\ntool create t discard\n";
        let mut parsed = lang::parse_text("test", &format!("{head}{rules}"), &[]);
        plan(&mut parsed, &Surroundings::fixed()).expect("a plan");
        parsed.diagnostics.render(&parsed.sources)
    }

    #[test]
    fn a_rule_that_asks_for_a_tag_and_for_another_type_in_its_place_never_matches() {
        let is_told = |rule: &str| {
            let said = said_of(&format!("rule create 20 from p {rule} to t\n"));
            assert_eq!(said.contains("`through vlan` after the filter"), said.contains("can never match"));
            said.contains("rule 20 can never match")
        };
        for never in [
            "vlan 100-110 match \"udp port 53\"",
            "vlan 7 match \"tcp\" and bytes 0 00",
            "vlan 7 match \"tcp\" through vlan and \"ip\"",
        ] {
            assert!(is_told(never), "{never}");
        }
        for possible in [
            "vlan 100-110 match \"udp port 53\" through vlan",
            "vlan 7 match \"vlan and tcp\"",
            "vlan 7 match \"not tcp\"",
            "vlan 7 match \"ether host 1:2:3:4:5:6\"",
            "match \"tcp\"",
        ] {
            assert!(!is_told(possible), "{possible}");
        }
    }

    #[test]
    fn a_rule_that_misses_tagged_packets_is_told_where_another_one_looks_for_them() {
        let is_told = |other: &str| {
            let rules =
                format!("rule create 1 from p {other} to t\nrule create 2 from p match \"tcp\" to t\n");
            said_of(&rules).contains("rule 2 misses tagged packets, which rule 1 says the port carries")
        };
        for asking in ["vlan 7", "match \"vlan 7 and udp\"", "match \"udp or (vlan and tcp)\""] {
            assert!(is_told(asking), "{asking}");
        }
        for other in ["match \"udp\"", "match \"udp\" through vlan", "match \"vlan 7\" through mpls"] {
            assert!(!is_told(other), "{other}");
        }
    }
}
