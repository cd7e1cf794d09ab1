//! Judges whether anything is lost, where, why, and what to do about it.
//!
//! "Why" is what the numbers prove, never a guess. "Do" is a command of the pipeline language where one helps.

use std::collections::BTreeMap;

use super::board::{Interval, Kind};
use super::plan::PlanText;
use super::units::{duration, percent, short};
use crate::report::table::grouped;
use tapline_api::snapshot::{GroupEntry, Snapshot};
use tapline_api::words::{DropReason, ToolState};

/// A loss is still told so many seconds after the last of it.
const HOLD_S: f64 = 10.0;
/// A link, or an lcore, that is used beyond this share is full.
const FULL: f64 = 0.95;
/// The parts that weights which are proposed are of.
const WEIGHT_PARTS: f64 = 32.0;

/// A loss: its place, its reason, and how much it is.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Loss {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// The word of the reason.
    pub(super) word: &'static str,
    /// `copies` or `packets`.
    pub(super) what: &'static str,
    /// In the last interval, a second.
    pub(super) rate: f64,
    /// Since the start of the counters.
    pub(super) total: u64,
    /// The time at which the loss began.
    pub(super) since: f64,
    pub(super) why: String,
    pub(super) remedy: String,
}

/// One place and reason, in the interval.
struct Counted {
    kind: Kind,
    name: String,
    word: &'static str,
    what: &'static str,
    count: u64,
    total: u64,
}

/// Remembers when each loss began, and when the last of it was.
#[derive(Default)]
pub(super) struct Memory {
    spans: BTreeMap<(Kind, String, &'static str), (f64, f64)>,
    /// The last time at which anything was lost.
    last: Option<f64>,
}

impl Memory {
    pub(super) fn note(&mut self, interval: &Interval) {
        let now = interval.now.time;
        self.spans.retain(|_, (_, last)| now - *last < HOLD_S);
        for counted in counted(interval).into_iter().filter(|counted| counted.count > 0) {
            let key = (counted.kind, counted.name, counted.word);
            self.spans.entry(key).or_insert((now - interval.seconds, now)).1 = now;
            self.last = Some(now);
        }
    }

    /// Returns what is lost, or was within the last seconds: the most first.
    pub(super) fn losses(&self, interval: &Interval, plan: &PlanText) -> Vec<Loss> {
        let mut losses: Vec<Loss> = counted(interval)
            .into_iter()
            .filter_map(|counted| {
                let key = (counted.kind, counted.name.clone(), counted.word);
                let &(since, _) = self.spans.get(&key)?;
                let (why, remedy) = explained(&counted, interval, plan);
                let Counted { kind, name, word, what, count, total } = counted;
                let rate = count as f64 / interval.seconds;
                Some(Loss { kind, name, word, what, rate, total, since, why, remedy })
            })
            .collect();
        losses.sort_by(|a, b| b.rate.total_cmp(&a.rate));
        losses
    }

    /// Returns for how long nothing was lost, as far as was seen.
    pub(super) fn calm_since(&self, first: f64) -> f64 {
        self.last.unwrap_or(first)
    }
}

/// Gives all places and reasons where something was lost since the start, with what was in the interval.
fn counted(interval: &Interval) -> Vec<Counted> {
    let mut all = Vec::new();
    if interval.before().is_none() {
        return all;
    }
    let mut count = |kind, name: &str, word, what, of: &dyn Fn(&Snapshot) -> Option<u64>| {
        let total = of(&interval.now).unwrap_or(0);
        if total > 0 {
            let count = interval.counted(of).unwrap_or(0);
            all.push(Counted { kind, name: name.to_owned(), word, what, count, total });
        }
    };
    for (name, port) in &interval.now.ports {
        let of = |snapshot: &Snapshot| Some(snapshot.ports.get(name)?.driver);
        count(Kind::Port, name, "missed", "packets", &|snapshot| Some(of(snapshot)?.missed));
        count(Kind::Port, name, "rx_errors", "packets", &|snapshot| Some(of(snapshot)?.rx_errors));
        // packets of a replay wait for mbufs, and are not lost
        if port.replay.is_none() {
            count(Kind::Port, name, "no_mbuf", "packets", &|snapshot| Some(of(snapshot)?.no_mbuf));
        }
        count(Kind::Port, name, "congested", "packets", &|snapshot| {
            Some(snapshot.ports.get(name)?.congested)
        });
    }
    for reason in DropReason::ALL {
        for (name, _) in &interval.now.tools {
            let of = |snapshot: &Snapshot| Some(snapshot.tools.get(name)?.copies.dropped.get(reason));
            count(Kind::Tool, name, reason.word(), "copies", &of);
        }
        for (name, _) in &interval.now.groups {
            let of = |snapshot: &Snapshot| Some(snapshot.groups.get(name)?.unassigned.dropped.get(reason));
            count(Kind::Group, name, reason.word(), "copies", &of);
        }
        for (name, _) in &interval.now.wires {
            let of = |snapshot: &Snapshot| {
                let wire = snapshot.wires.get(name)?;
                Some(wire.a_to_b.dropped.get(reason) + wire.b_to_a.dropped.get(reason))
            };
            count(Kind::Wire, name, reason.word(), "packets", &of);
        }
    }
    all
}

/// Says why something is lost, and what to do.
fn explained(counted: &Counted, interval: &Interval, plan: &PlanText) -> (String, String) {
    let name = &counted.name;
    match counted.kind {
        Kind::Port => port_explained(counted.word, name, interval, plan),
        Kind::Group => ("no member of the group is up".to_owned(), "show tools".to_owned()),
        _ => match DropReason::ALL.into_iter().find(|reason| reason.word() == counted.word) {
            Some(DropReason::Congested) if counted.kind == Kind::Tool => congested(name, interval, plan),
            Some(DropReason::Congested) => {
                ("the port of the other side takes less than comes".to_owned(), "show wires".to_owned())
            }
            Some(reason) => (why(reason, name, interval), remedy(reason, name)),
            None => Default::default(),
        },
    }
}

fn why(reason: DropReason, tool: &str, interval: &Interval) -> String {
    let health = interval.now.tools.get(tool).and_then(|tool| tool.health.reason);
    match reason {
        DropReason::Down => match health {
            Some(reason) => format!("the tool is down: {reason}"),
            None => "the tool is down".to_owned(),
        },
        DropReason::Oversize => "the copies are longer than the tool's MTU".to_owned(),
        DropReason::NoBuffer => "no mbuf was free to write the copies into".to_owned(),
        DropReason::RateLimited => "more copies come than the tool's rate allows".to_owned(),
        DropReason::Undersize => "the copies are too short for the tool's port".to_owned(),
        DropReason::Unread => "the copies have layers that cannot be read to anonymise them".to_owned(),
        DropReason::Internal => "a stage panicked: a fault of Tapline, which the log tells".to_owned(),
        DropReason::DiskSlow => "the disk of the store takes less than comes".to_owned(),
        DropReason::NoSpace => "the disk of the store is full".to_owned(),
        DropReason::WriteError => "the store's folder cannot be written: the log says why".to_owned(),
        DropReason::Congested => "its queue is full".to_owned(),
    }
}

fn remedy(reason: DropReason, tool: &str) -> String {
    match reason {
        DropReason::Oversize => format!("tool modify {tool} oversize slice"),
        DropReason::RateLimited => format!("raise its rate: tool modify {tool} rate RATE"),
        DropReason::NoBuffer => "raise `set mempool` in the file, and start again".to_owned(),
        DropReason::Internal | DropReason::WriteError => "show events".to_owned(),
        DropReason::NoSpace => format!("free the disk, or keep less: tool modify {tool} keep SIZE"),
        DropReason::DiskSlow => "give the store a faster disk, or its rules less: slice, sample".to_owned(),
        DropReason::Down | DropReason::Congested | DropReason::Undersize | DropReason::Unread => {
            "show tools".to_owned()
        }
    }
}

/// Says whether the tool or its link is too slow, and what would give it less.
fn congested(tool: &str, interval: &Interval, plan: &PlanText) -> (String, String) {
    let of = |snapshot: &Snapshot| Some(snapshot.tools.get(tool)?.copies);
    let asked = interval.rate(|snapshot| Some(of(snapshot)?.requested)).unwrap_or(0.0);
    let sent = interval.rate(|snapshot| Some(of(snapshot)?.sent)).unwrap_or(0.0);
    let takes = format!("takes {}/s of {}/s", short(sent), short(asked));
    let used = plan.port_of(tool).and_then(|port| link_share(port, interval, Way::Out));
    let why = match used {
        Some(used) if used >= FULL => {
            format!("{takes}, its link is {} used: the link is full", percent(used))
        }
        Some(used) => format!("{takes}, its link is {} used: the tool is too slow", percent(used)),
        None => format!("{takes}: its queue is full"),
    };
    let group = interval.now.groups.iter().find(|(_, group)| group.buckets.get(tool).is_some());
    let weights = group.and_then(|(name, group)| Some((name, lighter(group, tool, sent / asked)?)));
    let remedy = match weights {
        Some((group, weights)) => format!("group modify {group} weights {weights}"),
        None => format!(
            "send it less (filter, sample, slice), or give it a group; short bursts: tool modify {tool} queue N"
        ),
    };
    (why, remedy)
}

/// Returns weights by which a member gets the share of its present load that it takes, and the others the rest.
fn lighter(group: &GroupEntry, member: &str, takes: f64) -> Option<String> {
    let all: usize = group.buckets.iter().map(|(_, buckets)| buckets).sum();
    let own = *group.buckets.get(member)?;
    if group.buckets.len() < 2 || own == 0 || own == all || !takes.is_finite() {
        return None;
    }
    let own_share = own as f64 / all as f64;
    // a little less than it took, so that it has room
    let new_share = own_share * takes * 0.95;
    let weight = |(name, &buckets): (&String, &usize)| {
        let share = buckets as f64 / all as f64;
        let share = if name == member { new_share } else { share * (1.0 - new_share) / (1.0 - own_share) };
        // 1 is the least weight that there is
        ((share * WEIGHT_PARTS).round() as u64).max(1).to_string()
    };
    Some(group.buckets.iter().map(|(name, buckets)| weight((name, buckets))).collect::<Vec<_>>().join(","))
}

fn port_explained(word: &str, port: &str, interval: &Interval, plan: &PlanText) -> (String, String) {
    match word {
        "rx_errors" => {
            ("frames are broken on the wire".to_owned(), "look at cable, optics and duplex".to_owned())
        }
        "no_mbuf" => {
            ("no mbuf was free".to_owned(), "raise `set mempool` in the file, and start again".to_owned())
        }
        "congested" => {
            ("the lcores that work are slower than those that receive".to_owned(), "show lcores".to_owned())
        }
        _ => missed(port, interval, plan),
    }
}

/// Says which lcore is too slow, where only one can be.
fn missed(port: &str, interval: &Interval, plan: &PlanText) -> (String, String) {
    let polls = |lcore: &str| plan.lcores_of(port).is_none_or(|lcores| lcores == lcore);
    let lcores: Vec<(&str, f64)> = interval
        .now
        .lcores
        .iter()
        .filter(|(lcore, _)| polls(lcore))
        .map(|(lcore, entry)| (lcore.as_str(), entry.busy))
        .collect();
    let more_lcores = || {
        format!(
            "more lcores (`set workers`), or rules that do less: show lcores; bursts: port config {port} rxd N interrupt"
        )
    };
    match lcores.as_slice() {
        [(lcore, busy)] if *busy >= FULL => {
            (format!("lcore {lcore}, which alone polls it, is {} busy", percent(*busy)), more_lcores())
        }
        _ => match lcores.iter().max_by(|a, b| a.1.total_cmp(&b.1)) {
            Some((lcore, busy)) if *busy >= FULL => {
                (format!("lcore {lcore} is {} busy", percent(*busy)), more_lcores())
            }
            _ => (
                "packets come in bursts that its descriptors do not hold; no lcore is busy all the time"
                    .to_owned(),
                format!("port config {port} rxd N interrupt, with N above the present number"),
            ),
        },
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// Bytes of a frame on the wire that its driver does not count: preamble, start of frame, FCS, gap.
/// # Source
/// IEEE 802.3, clauses 3.1.1 and 4.4.2.
const WIRE_BYTES: u64 = 7 + 1 + 4 + 12;

/// Returns the share of a link's speed that is used.
pub(super) fn link_share(port: &str, interval: &Interval, way: Way) -> Option<f64> {
    let speed_mbps = interval.now.ports.get(port)?.speed_mbps.filter(|&speed| speed > 0)?;
    let bytes = interval.rate(|snapshot| {
        let port = snapshot.ports.get(port)?;
        let driver = &port.driver;
        Some(match way {
            Way::In => port.received_bytes + port.received * WIRE_BYTES,
            Way::Out => driver.tx_bytes + driver.tx_packets * WIRE_BYTES,
        })
    })?;
    Some(bytes * 8.0 / (f64::from(speed_mbps) * 1e6))
}

/// The gravity of a verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mood {
    Well,
    Waits,
    Loses,
}

/// Returns what a colleague would say in one line.
pub(super) fn verdict(interval: &Interval, losses: &[Loss], memory: &Memory, first: f64) -> (Mood, String) {
    let now = &interval.now;
    if !now.balanced {
        let packets = now.packets.received.abs_diff(now.packets.ended());
        let copies = now.copies.requested.abs_diff(now.copies.ended());
        let text = format!(
            "THE ACCOUNT DOES NOT BALANCE   {} packets, {} copies: report it",
            grouped(packets),
            grouped(copies)
        );
        return (Mood::Loses, text);
    }
    if !losses.is_empty() {
        let since = losses.iter().map(|loss| loss.since).fold(f64::MAX, f64::min);
        let places: Vec<String> = losses
            .iter()
            .map(|loss| format!("{} {}/s at {}", short(loss.rate), loss.what, loss.name))
            .collect();
        let shown = places.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let more =
            if places.len() > 3 { format!(", and {} more", places.len() - 3) } else { String::new() };
        return (Mood::Loses, format!("LOSING {shown}{more}; for {}", duration(now.time - since)));
    }
    let mut wrong: Vec<String> = Vec::new();
    let gone = now.ports.iter().filter(|(_, port)| port.gone || port.closed.is_some());
    wrong.extend(gone.map(|(name, _)| format!("port {name} is gone")));
    let out = now.tools.iter().filter(|(_, tool)| tool.health.state == ToolState::Down);
    wrong.extend(out.map(|(name, tool)| match tool.health.reason {
        Some(reason) => format!("tool {name} is down: {reason}"),
        None => format!("tool {name} is down"),
    }));
    let stalled = now.lcores.iter().filter(|(_, lcore)| lcore.is_stalled);
    wrong.extend(stalled.map(|(name, _)| format!("lcore {name} does not finish its turn")));
    if !wrong.is_empty() {
        return (Mood::Waits, format!("LOOK   {}", wrong.join("; ")));
    }
    if now.packets.received == 0 {
        let no_link = now.ports.iter().filter(|(_, port)| !port.link_up).map(|(name, _)| name.as_str());
        let no_link = no_link.collect::<Vec<_>>().join(", ");
        let links = if no_link.is_empty() { String::new() } else { format!("; no link: {no_link}") };
        return (Mood::Waits, format!("NO PACKET YET   for {}{links}", duration(now.uptime_s)));
    }
    let up = now.tools.iter().filter(|(_, tool)| tool.health.state == ToolState::Up).count();
    let calm = duration(now.time - memory.calm_since(first));
    (Mood::Well, format!("ALL WELL   nothing lost for {calm}; {up} of {} tools up", now.tools.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_api::ByName;

    fn group(buckets: &[(&str, usize)]) -> GroupEntry {
        GroupEntry {
            buckets: ByName(buckets.iter().map(|&(name, buckets)| (name.to_owned(), buckets)).collect()),
            buckets_moved: 0,
            buckets_pending: 0,
            flows: 0,
            flows_moved: 0,
            requested: 0,
            assigned: 0,
            unassigned: Default::default(),
            recent: Default::default(),
        }
    }

    #[test]
    fn weights_take_from_a_member_what_it_does_not_take() {
        let ids = group(&[("a", 2048), ("b", 1024), ("c", 1024)]);
        // a quarter of 32 parts, of which it takes three fifths, with room: 0.25 * 0.6 * 0.95 * 32 = 4.56
        let weights = lighter(&ids, "b", 0.6).expect("weights");
        assert_eq!(weights, "18,5,9");
        assert_eq!(lighter(&ids, "d", 0.6), None);
        assert_eq!(lighter(&ids, "b", f64::NAN), None);
        assert_eq!(lighter(&group(&[("a", 4096)]), "a", 0.5), None);
        assert_eq!(lighter(&ids, "b", 0.0).as_deref(), Some("21,1,11"));
    }
}
