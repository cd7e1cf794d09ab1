//! What can be said of a program without packets, for the warnings of `tapline check`. Nothing false is claimed; not all is found.

use std::collections::HashMap;

use super::graph::{Condition, Graph, Node, NodeId};
use super::program::{Test, Width};
use super::verify::Program;

/// What is certain of a program. The default claims nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Analysis {
    /// No packet is accepted.
    pub never_matches: bool,
    /// Every packet is accepted.
    pub always_matches: bool,
    /// No frame is accepted whose type says that a VLAN tag follows (0x8100, 0x88a8, 0x9100).
    pub misses_tagged: bool,
    /// Packets of which fewer bytes were captured are never accepted. It is 0 where no packet is.
    pub least_captured_bytes: u64,
}

/// Types of tagged frames, which libpcap's `vlan` knows (IEEE 802.1Q, 802.1ad, and 0x9100 of old switches).
const TAG_TYPES: [u32; 3] = [0x8100, 0x88a8, 0x9100];
const TYPE_OFFSET: u32 = 12;
/// Larger graphs are taken as they are.
const MAX_SIMPLIFIED_NODES: usize = 512;

/// Analyses `program`.
pub fn analyse(program: &Program) -> Analysis {
    let mut graph = Graph::new();
    let Ok(mut root) = graph.add(program) else { return Analysis::default() };
    let is_small = graph.in_order(root).len() <= MAX_SIMPLIFIED_NODES;
    if is_small {
        root = simplify(&mut graph, root);
    }
    let misses_tagged = is_small && {
        let value = graph.load(Width::Half, TYPE_OFFSET);
        TAG_TYPES.iter().all(|&tag| {
            let b = graph.constant(tag);
            let tagged = graph.restrict(root, Condition::Compare { test: Test::Equal, a: value, b }, true);
            simplify(&mut graph, tagged) == NodeId::REJECT
        })
    };
    Analysis {
        never_matches: root == NodeId::REJECT,
        always_matches: root == NodeId::ACCEPT,
        misses_tagged,
        least_captured_bytes: least_captured(&graph, root).unwrap_or(0),
    }
}

/// The same graph without questions that an earlier one answers.
fn simplify(graph: &mut Graph, root: NodeId) -> NodeId {
    let mut done: HashMap<NodeId, NodeId> = HashMap::new();
    for &node in graph.in_order(root).iter().rev() {
        let Node::Branch { condition, then, otherwise } = graph.node(node) else { continue };
        let [then, otherwise] = [(then, true), (otherwise, false)].map(|(next, answer)| {
            let next = done.get(&next).copied().unwrap_or(next);
            graph.restrict(next, condition, answer)
        });
        let simple = graph.branch(condition, then, otherwise);
        done.insert(node, simple);
    }
    done.get(&root).copied().unwrap_or(root)
}

/// The fewest captured bytes with which some way from `root` to acceptance can be gone; `None` if there is no way.
fn least_captured(graph: &Graph, root: NodeId) -> Option<u64> {
    let mut least: HashMap<NodeId, Option<u64>> = HashMap::from([(NodeId::REJECT, None), (NodeId::ACCEPT, Some(0))]);
    for &node in graph.in_order(root).iter().rev() {
        let Node::Branch { condition, then, otherwise } = graph.node(node) else { continue };
        let needed = match condition {
            Condition::Captured { end } | Condition::CapturedAt { end, .. } => end,
            Condition::Compare { .. } => 0,
        };
        let ways = [least[&then].map(|bytes| bytes.max(needed)), least[&otherwise]];
        least.insert(node, ways.into_iter().flatten().min());
    }
    least[&root]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::compile;

    fn of(expression: &str) -> Analysis {
        analyse(&compile(expression).expect("a valid expression"))
    }

    #[test]
    fn expressions_that_nothing_matches_are_found() {
        for expression in ["1 = 0", "ip[0] > 255", "ip and ip6", "tcp and udp", "len < 0"] {
            assert!(of(expression).never_matches, "{expression}");
        }
        for expression in ["ip", "tcp port 80", "1 = 1", "len < 1", "ip[0] > 254", "vlan and vlan"] {
            assert!(!of(expression).never_matches, "{expression}");
        }
    }

    #[test]
    fn expressions_that_everything_matches_are_found() {
        for expression in ["", "1 = 1", "len >= 0", "ip or not ip", "len > 60 or len < 1000"] {
            assert!(of(expression).always_matches, "{expression}");
        }
        for expression in ["ip", "len > 0", "not ip", "len > 60 or len < 50"] {
            assert!(!of(expression).always_matches, "{expression}");
        }
    }

    #[test]
    fn the_bytes_that_a_match_needs_are_those_that_it_reads() {
        assert_eq!(of("ip").least_captured_bytes, 14);
        assert_eq!(of("ether[200] = 1").least_captured_bytes, 201);
        // A load past the captured bytes rejects, whatever comes after it; libpcap keeps the order of the halves.
        assert_eq!(of("ether[200] = 1 or ip").least_captured_bytes, 201);
        assert_eq!(of("ip or ether[200] = 1").least_captured_bytes, 14);
        assert_eq!(of("len > 1000").least_captured_bytes, 0);
        assert_eq!(of("1 = 0").least_captured_bytes, 0);
    }

    #[test]
    fn expressions_that_look_past_tags_are_told_from_those_that_do_not() {
        for expression in ["ip", "tcp port 80", "host 10.0.0.1", "arp or ip6"] {
            assert!(of(expression).misses_tagged, "{expression}");
        }
        for expression in ["vlan", "vlan and ip", "ip or vlan", "not ip", "len > 100", "ether host 02:00:00:00:00:01", ""] {
            assert!(!of(expression).misses_tagged, "{expression}");
        }
    }
}
