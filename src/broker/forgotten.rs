//! Counts of probes, answers and ICMP errors that `clear stats` has taken back, for readers who count from the start: by name, since plans
//! come and go.

use std::collections::BTreeMap;

use tapline_api::snapshot::{AnswerState, IcmpErrors, ProbeEntry, Snapshot};

/// The counts of tools and ports that were cleared.
#[derive(Default)]
pub(super) struct Forgotten {
    tools: BTreeMap<String, OfTool>,
    ports: BTreeMap<String, AnswerState>,
}

#[derive(Default)]
struct OfTool {
    heartbeat: Option<ProbeEntry>,
    echo: Option<ProbeEntry>,
    icmp_errors: IcmpErrors,
}

impl Forgotten {
    /// Remembers what there was before a `clear stats` and is not there after it.
    pub(super) fn note(&mut self, before: &Snapshot, after: &Snapshot) {
        for ((name, before), (_, after)) in before.tools.iter().zip(&after.tools) {
            let forgotten = self.tools.entry(name.clone()).or_default();
            note_probe(&mut forgotten.heartbeat, before.heartbeat, after.heartbeat);
            note_probe(&mut forgotten.echo, before.echo, after.echo);
            let errors = before.icmp_errors.unwrap_or_default().0.into_iter();
            let left = after.icmp_errors.unwrap_or_default().0;
            for (sum, (before, after)) in forgotten.icmp_errors.0.iter_mut().zip(errors.zip(left)) {
                *sum += before.saturating_sub(after);
            }
        }
        for ((name, before), (_, after)) in before.ports.iter().zip(&after.ports) {
            let (Some(before), Some(after)) = (before.answers, after.answers) else { continue };
            let sum = self.ports.entry(name.clone()).or_default();
            *sum = added(*sum, before, |sum, before| sum + before);
            *sum = added(*sum, after, u64::saturating_sub);
        }
    }

    /// Adds what is remembered.
    pub(super) fn add_to(&self, snapshot: &mut Snapshot) {
        for (name, tool) in snapshot.tools.iter_mut() {
            let Some(forgotten) = self.tools.get(name) else { continue };
            add_probe(&mut tool.heartbeat, forgotten.heartbeat);
            add_probe(&mut tool.echo, forgotten.echo);
            if let Some(errors) = &mut tool.icmp_errors {
                errors.0.iter_mut().zip(forgotten.icmp_errors.0).for_each(|(sum, more)| *sum += more);
            }
        }
        for (name, port) in snapshot.ports.iter_mut() {
            if let (Some(answers), Some(forgotten)) = (&mut port.answers, self.ports.get(name)) {
                *answers = added(*answers, *forgotten, |sum, more| sum + more);
            }
        }
    }
}

fn note_probe(sum: &mut Option<ProbeEntry>, before: Option<ProbeEntry>, after: Option<ProbeEntry>) {
    let (Some(before), Some(after)) = (before, after) else { return };
    let none = ProbeEntry { sent: 0, returned: 0, lost: 0, waiting: 0, late: 0 };
    let sum = sum.get_or_insert(none);
    sum.sent += before.sent.saturating_sub(after.sent);
    sum.returned += before.returned.saturating_sub(after.returned);
    sum.lost += before.lost.saturating_sub(after.lost);
    sum.late += before.late.saturating_sub(after.late);
}

fn add_probe(entry: &mut Option<ProbeEntry>, forgotten: Option<ProbeEntry>) {
    if let (Some(entry), Some(forgotten)) = (entry, forgotten) {
        entry.sent += forgotten.sent;
        entry.returned += forgotten.returned;
        entry.lost += forgotten.lost;
        entry.late += forgotten.late;
    }
}

/// Puts the counts of two together, one by one.
fn added(a: AnswerState, b: AnswerState, with: fn(u64, u64) -> u64) -> AnswerState {
    AnswerState {
        arp: with(a.arp, b.arp),
        nd: with(a.nd, b.nd),
        echo: with(a.echo, b.echo),
        announced: with(a.announced, b.announced),
        fragment: with(a.fragment, b.fragment),
        malformed: with(a.malformed, b.malformed),
        limited: with(a.limited, b.limited),
        claimed: with(a.claimed, b.claimed),
    }
}
