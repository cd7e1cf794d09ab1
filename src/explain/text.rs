//! Answers for people.

use std::fmt::Write;

use super::answer::{Answer, CopyPart, RulePart, RuleResult, SamplePart};
use super::summary::{Count, Summary, ToolCount};
use crate::plan::Plan;
use tapline_api::words::{Disposition, DropReason};

/// Says an answer in lines; the last is empty.
pub fn answer(answer: &Answer) -> String {
    let packet = &answer.packet;
    let mut out = format!(
        "#{}  {}  {}  {} B on the wire, {} captured\n",
        packet.number,
        time(packet.time_ns),
        packet.port,
        packet.original,
        packet.captured
    );
    line(&mut out, "fields", &packet.fields.line());
    if let Some(refusal) = packet.refusal {
        line(&mut out, "tunnel", &format!("in none that ends at {}: {refusal}", packet.port));
    }
    let width = answer.rules.iter().map(|rule| rule.words.chars().count()).max().unwrap_or(0).min(60);
    for rule in &answer.rules {
        let text = format!(
            "{:<4} {:<width$}  {}:{}  {}",
            rule.result.word(),
            rule.words,
            rule.file,
            rule.line,
            because(rule)
        );
        line(&mut out, &rule.priority.to_string(), text.trim_end());
    }
    for copy in &answer.copies {
        copy_lines(&mut out, copy);
    }
    let copies = answer.sent().filter(|copy| !copy.is_original).count();
    let end = match answer.disposition {
        Disposition::Delivered => {
            format!("delivered: {copies} {}", if copies == 1 { "copy" } else { "copies" })
        }
        other => other.word().to_owned(),
    };
    writeln!(out, "  {end}\n").expect("writing to a string");
    out
}

fn line(out: &mut String, head: &str, text: &str) {
    writeln!(out, "  {head:<9} {text}").expect("writing to a string");
}

/// A time in ns since the Unix epoch in UTC, to the nanosecond.
pub(super) fn time(time_ns: u64) -> String {
    let time = i64::try_from(time_ns).ok().and_then(|ns| jiff::Timestamp::from_nanosecond(ns.into()).ok());
    time.map_or_else(|| time_ns.to_string(), |time| format!("{time:.9}"))
}

/// Says why the rule's result is as it is.
fn because(rule: &RulePart) -> String {
    let sample = rule.sample.as_ref().map(sample);
    let before = if rule.depends_on_packets_before { " (depends on packets before)" } else { "" };
    match rule.result {
        RuleResult::Yes => {
            let sample = sample.map_or_else(String::new, |sample| format!("; {sample}"));
            let remaining =
                rule.limit_remaining.map_or_else(String::new, |left| format!("; {left} more by its limit"));
            format!("-> {}{sample}{remaining}{before}", rule.targets.join(","))
        }
        RuleResult::No => {
            let is_cause = |primitive: &str| rule.flips.iter().any(|flip| flip == primitive);
            let mut values: Vec<&str> = rule
                .because
                .iter()
                .filter(|because| is_cause(&because.primitive) && !because.value.is_empty())
                .map(|because| because.value.as_str())
                .collect();
            values.dedup();
            values.join("; ")
        }
        RuleResult::Off => "it is off".to_owned(),
        RuleResult::Limited => "its limit is used up (depends on packets before)".to_owned(),
        RuleResult::SampledOut => format!("{}{before}", sample.unwrap_or_default()),
        RuleResult::Duplicate => "the same packet came before (depends on packets before)".to_owned(),
        RuleResult::NotTried => rule.by.map_or_else(String::new, |by| format!("not tried, by {by}")),
    }
}

fn sample(sample: &SamplePart) -> String {
    let mut text = format!("sample {}", sample.method);
    if let Some(share) = sample.share {
        write!(text, ", share {}", rounded(share)).expect("writing to a string");
    }
    if let (Some(position), Some(one_in)) = (sample.position, sample.method.strip_prefix("1/")) {
        write!(text, ", packet {position} of its {one_in}; the 1st is kept").expect("writing to a string");
    }
    if let Some(draw) = sample.draw {
        write!(text, ", flow at {}", rounded(draw)).expect("writing to a string");
    }
    text
}

fn rounded(share: f64) -> String {
    let text = format!("{share:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn copy_lines(out: &mut String, copy: &CopyPart) {
    let outcome = copy.reason.map_or_else(|| "sent".to_owned(), |reason| format!("dropped: {reason}"));
    let length = match copy.length {
        0 => String::new(),
        length => format!(", {length} B"),
    };
    let (head, way) = match &copy.group {
        Some(group) => {
            let tool = if copy.tool.is_empty() { "no tool" } else { &copy.tool };
            let way = format!(
                "hash {:#018x}, bucket {} of {} -> {tool} (of {} up)",
                group.hash,
                group.bucket,
                group.buckets,
                group.up.len()
            );
            (group.name.as_str(), way)
        }
        None if copy.is_original => (copy.tool.as_str(), "the original".to_owned()),
        None if copy.steps.is_empty() => (copy.tool.as_str(), "the packet itself".to_owned()),
        None => (copy.tool.as_str(), "a copy".to_owned()),
    };
    line(out, head, &format!("{way}{length}  {outcome}"));
    if copy.is_example {
        line(out, "", "addresses are an example: their key is drawn at each start");
    }
    for step in &copy.steps {
        let text =
            format!("{}  @{}  {} -> {}  ({} B)", step.edit, step.at, step.before, step.after, step.length);
        line(out, "", &text);
    }
}

/// Says the summary of a plan in lines.
pub fn summary(summary: &Summary, plan: &Plan) -> String {
    let mut out = format!("packets     {}\n", summary.packets);
    let mut put = |name: &str, count: Count| {
        if let Some(first) = count.first {
            writeln!(out, "  {name:<16} {:>10}  first #{first}", count.count).expect("writing to a string");
        }
    };
    for disposition in Disposition::ALL {
        put(disposition.word(), summary.of(disposition));
    }
    put("in no tunnel", summary.refused);
    put("passed over", summary.passed_over);
    out += "rules\n";
    for (rule, counted) in plan.rules.iter().zip(&summary.rules) {
        let mut text = format!("{:>10}", counted.taken.count);
        if let Some(first) = counted.taken.first {
            write!(text, "  first #{first}").expect("writing to a string");
        }
        for (word, count) in [
            ("sampled out", counted.sampled_out),
            ("duplicate", counted.duplicates),
            ("beyond limit", counted.limited),
        ] {
            if let Some(first) = count.first {
                write!(text, ", {word} {} (first #{first})", count.count).expect("writing to a string");
            }
        }
        if !counted.is_reached {
            text += "  never reached";
        }
        writeln!(out, "  {:<16} {text}", rule.priority).expect("writing to a string");
    }
    out += "tools\n";
    let mut put = |name: &str, counted: &ToolCount| {
        let mut text = format!("{:>10} sent, {} B", counted.sent.count, counted.bytes);
        if let Some(first) = counted.sent.first {
            write!(text, ", first #{first}").expect("writing to a string");
        }
        for reason in DropReason::ALL {
            if let Some((_, count)) = counted.dropped.iter().find(|(of, _)| *of == reason) {
                let first = count.first.unwrap_or_default();
                write!(text, ", {reason} {} (first #{first})", count.count).expect("writing to a string");
            }
        }
        writeln!(out, "  {name:<16} {text}").expect("writing to a string");
    };
    for (tool, counted) in plan.tools.iter().zip(&summary.tools) {
        put(&tool.name, counted);
    }
    for (wire, counted) in plan.wires.iter().zip(&summary.wires) {
        put(&wire.name, counted);
    }
    out
}
