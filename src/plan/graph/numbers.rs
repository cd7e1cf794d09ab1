//! Counts of a snapshot, written to boxes and edges as far as the statistics tell.
//!
//! Statistics count by object. An edge has a count where they leave no choice: it is the only one to its box. Copies that a tool gets
//! from several rules are counted at the tool alone.

use std::collections::BTreeMap;

use super::{Counts, EDITS_OF_RULES, EDITS_OF_TOOLS, Graph, Kind};
use tapline_api::snapshot::{Dropped, Snapshot};
use tapline_api::words::Refusal;

/// Returns what did happen of counts by reason.
fn happened(counts: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<&'static str, u64> {
    counts.filter(|(_, count)| *count > 0).collect()
}

/// Adds counts, if all are known. The most stands for what is more: a file may say any number.
fn sum(counts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    counts.into_iter().try_fold(0u64, |sum, count| Some(sum.saturating_add(count?)))
}

fn dropped(dropped: &Dropped) -> BTreeMap<&'static str, u64> {
    happened(dropped.by_reason())
}

impl Graph {
    /// Writes the counts of a snapshot to boxes and edges. Returns the boxes that the snapshot does not know.
    pub fn count(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let mut unknown = Vec::new();
        for node in 0..self.nodes.len() {
            if self.nodes[node].kind == Kind::Edit {
                continue;
            }
            match self.counted(node, snapshot) {
                Some(counts) => self.nodes[node].counts = counts,
                None => unknown.push(format!("{} {}", self.nodes[node].kind.word(), self.nodes[node].name)),
            }
        }
        // the copies that edits get are those that they hand on: behind them first
        self.count_edges(|layer| layer != EDITS_OF_RULES && layer != EDITS_OF_TOOLS);
        for layer in [EDITS_OF_TOOLS, EDITS_OF_RULES] {
            self.count_edits(layer);
            self.count_edges(|to| to == layer);
        }
        let uptime_s = snapshot.uptime_s;
        let rate = |counts: &mut Counts| {
            let mean = |packets: u64| (packets as f64 / uptime_s * 1000.0).round() / 1000.0;
            counts.rate = counts.packets.filter(|_| uptime_s > 0.0).map(mean);
        };
        self.nodes.iter_mut().for_each(|node| rate(&mut node.counts));
        self.edges.iter_mut().for_each(|edge| rate(&mut edge.counts));
        self.account = Some(account(snapshot));
        unknown
    }

    /// Returns the counts of a box that stands for an object.
    fn counted(&self, node: usize, snapshot: &Snapshot) -> Option<Counts> {
        let node = &self.nodes[node];
        let counts = |packets, dropped| Counts { packets: Some(packets), rate: None, dropped };
        Some(match node.kind {
            Kind::Port => {
                let port = snapshot.ports.get(&node.name)?;
                // frames that the driver could not hand over
                let lost = [("missed", port.driver.missed), ("no_mbuf", port.driver.no_mbuf)];
                counts(port.received, happened(lost.into_iter()))
            }
            Kind::End => {
                let end = snapshot.ports.get(&node.name)?.terminate.as_ref()?;
                let refused = Refusal::ALL.into_iter().zip(end.refused.0);
                let refused = happened(refused.map(|(reason, count)| (reason.word(), count)));
                let packets = sum(refused.values().copied().map(Some))
                    .map(|lost| end.terminated.saturating_add(lost));
                counts(packets.unwrap_or_default(), refused)
            }
            Kind::Rule => {
                let matched = |rule: &u32| Some(snapshot.rules.get(&rule.to_string())?.matched);
                counts(sum(node.rules.iter().map(matched))?, BTreeMap::new())
            }
            Kind::Group => {
                let group = snapshot.groups.get(&node.name)?;
                counts(group.requested, dropped(&group.unassigned.dropped))
            }
            Kind::Tool => {
                let tool = snapshot.tools.get(&node.name)?;
                counts(tool.copies.requested, dropped(&tool.copies.dropped))
            }
            Kind::Wire => {
                let (wire, way) = node.name.rsplit_once(' ')?;
                let wire = snapshot.wires.get(wire)?;
                let way = if way == "a-to-b" { &wire.a_to_b } else { &wire.b_to_a };
                counts(way.received, dropped(&way.dropped))
            }
            Kind::Edit => return None,
        })
    }

    /// Gives an edge the counts of its box where it is the only one that leads to it, for boxes of some layers.
    fn count_edges(&mut self, is_meant: impl Fn(usize) -> bool) {
        let mut incoming = vec![0; self.nodes.len()];
        self.edges.iter().for_each(|edge| incoming[edge.to] += 1);
        for edge in &mut self.edges {
            let to = &self.nodes[edge.to];
            if incoming[edge.to] == 1 && is_meant(to.layer) {
                edge.counts = to.counts.clone();
            }
        }
    }

    /// Gives the edits of a layer the sums of what they hand on.
    fn count_edits(&mut self, layer: usize) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].layer == layer {
                let handed = self.edges.iter().filter(|edge| edge.from == node);
                self.nodes[node].counts.packets = sum(handed.map(|edge| edge.counts.packets));
            }
        }
    }
}

/// Says the account of packets in words.
fn account(snapshot: &Snapshot) -> String {
    let packets = &snapshot.packets;
    let ends = packets.ends().into_iter().filter(|(word, count)| *count > 0 || *word == "delivered");
    let ends: Vec<String> =
        ends.map(|(word, count)| format!("{count} {}", word.replace('_', " "))).collect();
    format!("{} packets in {:.1} s: {}", packets.received, snapshot.uptime_s, ends.join(", "))
}

/// Writes a count in at most five letters: `547`, `1.2k`, `34M`.
pub(super) fn short(count: f64) -> String {
    let mut value = count;
    for unit in ["", "k", "M", "G", "T"] {
        if value < 999.5 {
            let is_whole = unit.is_empty() && value.fract() == 0.0 || value >= 99.5;
            return if is_whole { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.0}P")
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn counts_are_short() {
        let counts = [0.0, 7.25, 547.0, 999.4, 1234.0, 99_960.0, 12_345_678.0, 2e16];
        let texts = counts.map(short);
        assert_eq!(texts, ["0", "7.2", "547", "999", "1.2k", "100k", "12.3M", "20P"]);
    }
}
