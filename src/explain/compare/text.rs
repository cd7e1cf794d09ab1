//! The difference for people.

use std::fmt::Write;

use super::Difference;
use super::cause::{Cause, Kind, RuleRef};
use super::count::{Counted, Group};
use crate::explain::text::time;

/// Says a difference in lines.
pub fn difference(difference: &Difference<'_>) -> String {
    let mut out = String::new();
    let mut head = "objects";
    for change in difference.changes {
        writeln!(out, "{head:<9} {change}").expect("writing to a string");
        head = "";
    }
    if difference.changes.is_empty() {
        out += "objects   none differ\n";
    }
    out + &difference.packets.map_or_else(String::new, packets)
}

/// Says bytes as people read them.
fn bytes(count: u64) -> String {
    match count {
        0..1000 => format!("{count} B"),
        1000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

/// Says a number of something.
fn several(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Says in lines which packets fare otherwise.
pub fn packets(counted: &Counted) -> String {
    let mut out = String::new();
    let mut put = |text: String| writeln!(out, "{text}").expect("writing to a string");
    let total = counted.total();
    if counted.different == 0 {
        put(format!("packets   {total}: all as before"));
    } else {
        let least = if counted.is_least { "at least " } else { "" };
        let lost = match counted.lost {
            0 => String::new(),
            lost => format!("; {lost} lose a delivery (!)"),
        };
        put(format!(
            "packets   {total}: {} as before, {} otherwise ({least}{}, {}){lost}",
            counted.same,
            counted.different,
            several(counted.flows, "flow"),
            bytes(counted.bytes)
        ));
    }
    if counted.passed_over > 0 {
        put(format!("          {} passed over: no Ethernet frames", counted.passed_over));
    }
    let groups = counted.groups();
    let width = |text: &dyn Fn(&Group) -> String| {
        groups.iter().map(|group| text(group).chars().count()).max().unwrap_or(0).min(48)
    };
    let (fates, causes) = (width(&fates), width(&|group| cause(&group.cause)));
    for group in &groups {
        let mark = if group.is_loss { "  !" } else { "" };
        put(format!(
            "{:>9} {:<fates$}  {:<causes$}  first #{}{mark}",
            group.count,
            self::fates(group),
            cause(&group.cause),
            group.first.number
        ));
        let first = &group.first;
        put(format!(
            "          #{}  {}  {}  {}",
            first.number,
            time(first.time_ns),
            first.port,
            first.fields.line()
        ));
    }
    if counted.ungrouped > 0 {
        put(format!("{:>9} of further causes", counted.ungrouped));
    }
    out
}

fn fates(group: &Group) -> String {
    match (group.old == group.new, group.cause.kind) {
        (true, Kind::Edit) => format!("{}, in other bytes", group.old),
        (true, _) => group.old.clone(),
        (false, _) => format!("{} -> {}", group.old, group.new),
    }
}

/// Says a cause.
pub fn cause(cause: &Cause) -> String {
    let object = cause.object.as_deref();
    let pair = rules(cause.old.as_ref(), cause.new.as_ref());
    match (cause.kind, object) {
        (Kind::Rule, _) => pair,
        (Kind::Edit, Some(tool)) => format!("edits of tool {tool}"),
        (Kind::Edit, None) => format!("edits of {pair}"),
        (Kind::Group, object) => format!("group {}", object.unwrap_or_default()),
        (Kind::Tool, object) => format!("tool {}", object.unwrap_or_default()),
        (Kind::Port, object) => format!("port {}", object.unwrap_or_default()),
        (Kind::Wire, object) => format!("wire {}", object.unwrap_or_default()),
        (Kind::Sampler, _) => format!("sampler of {pair}"),
        (Kind::Limit, _) => format!("limit of {pair}"),
        (Kind::Dedup, _) => format!("dedup of {pair}"),
    }
}

/// Says the rules of a cause.
fn rules(old: Option<&RuleRef>, new: Option<&RuleRef>) -> String {
    let place = |rule: &RuleRef| format!("{}:{}", rule.file, rule.line);
    let named = |rule: &RuleRef| {
        let drops = if rule.drops { " drop" } else { "" };
        format!("{}{drops} ({})", rule.priority, place(rule))
    };
    match (old, new) {
        (Some(old), Some(new)) if old.priority == new.priority => {
            format!("rule {} ({} -> {})", old.priority, place(old), place(new))
        }
        (Some(old), Some(new)) => format!("new {} over old {}", named(new), named(old)),
        (None, Some(new)) => format!("new {} over none", named(new)),
        (Some(old), None) => format!("none over old {}", named(old)),
        (None, None) => "by no rule".to_owned(),
    }
}
