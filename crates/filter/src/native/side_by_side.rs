//! Questions about neighbouring bytes of a packet, found in a decision graph so that one comparison of many bytes answers them.
//!
//! `ip and tcp and not a fragment` asks for the ethertype, the protocol and the fragment offset: all lie within sixteen bytes, and
//! all have to be as they are. `port 80 or port 443` asks whether the source port or the destination port, which are neighbours,
//! is one of some numbers.

use std::ops::Range;

use super::graph::{Condition, Graph, Node, NodeId, Value, ValueId};
use crate::bpf::insn::{AluOperator, Test, Width};

/// Bytes that are compared at once.
pub(super) const WINDOW_BYTES: usize = 16;
/// Numbers of two bytes that are compared at once.
pub(super) const LANES: usize = WINDOW_BYTES / 2;
/// A window for a single question saves nothing.
const FEWEST_IN_WINDOW: usize = 2;
/// The same for the numbers that halves are compared with.
const FEWEST_EQUALITIES: usize = 3;

/// Bytes of the packet that all have to be as they are: `(bytes & mask) == against`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    pub start: u64,
    pub mask: [u8; WINDOW_BYTES],
    pub against: [u8; WINDOW_BYTES],
}

/// Conditions that all have to hold, and the node that follows them.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Conjunction {
    pub windows: Vec<Window>,
    /// Further questions, each with the answer that it has to have.
    pub others: Vec<(Condition, bool)>,
    /// The node at which packets go on that all conditions hold for; never `REJECT`.
    pub rest: NodeId,
}

/// A question that asks whether one of two neighbouring numbers of two bytes, or a single one, equals one of some numbers.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Equalities {
    /// The first of them, a load of two bytes.
    pub first: ValueId,
    /// There is one behind it.
    pub is_pair: bool,
    /// The bytes that lanes are compared with, in the packet's byte order. For a pair, even lanes have those of the first number
    /// and odd lanes those of the other.
    pub against: Vec<[[u8; 2]; LANES]>,
}

/// Bytes at a constant offset that have to be as they are.
struct Bytes {
    start: u64,
    width: usize,
    mask: [u8; 4],
    against: [u8; 4],
}

impl Conjunction {
    /// Gives the conditions that have to hold from `node` on, which is no end. Windows lie within `readable`.
    pub(super) fn of(graph: &Graph, node: NodeId, readable: Range<u64>) -> Self {
        let (mut bytes, mut others, mut rest) = (Vec::new(), Vec::new(), node);
        while let Node::Branch { condition, then, otherwise } = graph.node(rest) {
            let answer = match (then, otherwise) {
                (NodeId::REJECT, NodeId::REJECT) => break,
                (_, NodeId::REJECT) => true,
                (NodeId::REJECT, _) => false,
                _ => break,
            };
            rest = if answer { then } else { otherwise };
            match Bytes::of(graph, condition, answer) {
                Some(asked) => bytes.push((asked, condition, answer)),
                None => others.push((condition, answer)),
            }
        }
        let mut windows = Vec::new();
        bytes.sort_by_key(|(asked, ..)| asked.start);
        while let Some((first, ..)) = bytes.first() {
            let mut window =
                Window { start: first.start, mask: [0; WINDOW_BYTES], against: [0; WINDOW_BYTES] };
            window.start =
                window.start.min(readable.end.saturating_sub(WINDOW_BYTES as u64)).max(readable.start);
            let fits = window.start <= first.start && window.start + WINDOW_BYTES as u64 <= readable.end;
            let (taken, left): (Vec<_>, Vec<_>) =
                bytes.into_iter().partition(|(asked, ..)| fits && window.add(asked));
            if taken.len() >= FEWEST_IN_WINDOW {
                windows.push(window);
                bytes = left;
            } else {
                let mut rest = taken.into_iter().chain(left);
                others.extend(rest.next().map(|(_, condition, answer)| (condition, answer)));
                bytes = rest.collect();
            }
        }
        Self { windows, others, rest }
    }

    /// Questions that are left where windows are one each.
    pub(super) fn questions(&self) -> usize {
        self.windows.len() + self.others.len()
    }
}

impl Window {
    /// Returns whether the window now asks for these bytes too: they have to lie in it, and what it asks must not exclude them.
    fn add(&mut self, asked: &Bytes) -> bool {
        let Ok(at) = usize::try_from(asked.start - self.start) else { return false };
        if at + asked.width > WINDOW_BYTES {
            return false;
        }
        let contradicts = |index: usize| {
            let shared = self.mask[at + index] & asked.mask[index];
            (self.against[at + index] ^ asked.against[index]) & shared != 0
        };
        if (0..asked.width).any(contradicts) {
            return false;
        }
        for index in 0..asked.width {
            self.mask[at + index] |= asked.mask[index];
            self.against[at + index] |= asked.against[index];
        }
        true
    }
}

impl Bytes {
    /// `condition` with this answer as a question for bytes.
    fn of(graph: &Graph, condition: Condition, answer: bool) -> Option<Self> {
        let Condition::Compare { test, a, b } = condition else { return None };
        let (load, mask) = match graph.value(a) {
            Value::Alu { operator: AluOperator::And, a: load, b: mask } => (load, graph.as_constant(mask)?),
            _ => (a, u32::MAX),
        };
        let Value::Load { width, offset } = graph.value(load) else { return None };
        let all = match width {
            Width::Byte => 0xff,
            Width::Half => 0xffff,
            Width::Word => u32::MAX,
        };
        let (mask, against) = match (test, answer, graph.as_constant(b)?) {
            (Test::Equal, true, against) => (mask & all, against),
            (Test::AnyBit, false, bits) => (mask & bits & all, 0),
            _ => return None,
        };
        // no number has these bits
        if against & !mask != 0 {
            return None;
        }
        let width = width.bytes() as usize;
        let of = |number: u32| {
            let mut bytes = [0; 4];
            bytes[..width].copy_from_slice(&number.to_be_bytes()[4 - width..]);
            bytes
        };
        Some(Self { start: u64::from(offset), width, mask: of(mask), against: of(against) })
    }
}

impl Equalities {
    /// All that is asked from `node` on, if it is whether numbers of two bytes that are neighbours equal one of some numbers.
    pub(super) fn of(graph: &Graph, mut node: NodeId) -> Option<Self> {
        let mut asked: Vec<(ValueId, u16)> = Vec::new();
        while node != NodeId::REJECT {
            let Node::Branch {
                condition: Condition::Compare { test: Test::Equal, a, b },
                then: NodeId::ACCEPT,
                otherwise,
            } = graph.node(node)
            else {
                return None;
            };
            asked.push((a, u16::try_from(graph.as_constant(b)?).ok()?));
            node = otherwise;
        }
        if asked.len() < FEWEST_EQUALITIES {
            return None;
        }
        let first = asked
            .iter()
            .map(|&(half, _)| half)
            .min_by_key(|&half| half_place(graph, half).map(|(_, offset)| offset))?;
        let (base, offset) = half_place(graph, first)?;
        let (mut numbers, mut is_pair) = ([Vec::new(), Vec::new()], false);
        for (half, number) in asked {
            let place = half_place(graph, half)?;
            let is_second = place == (base, offset.checked_add(2)?);
            if !is_second && place != (base, offset) {
                return None;
            }
            is_pair |= is_second;
            numbers[usize::from(is_second)].push(number.to_be_bytes());
        }
        let lanes = if is_pair { LANES / 2 } else { LANES };
        let [firsts, seconds] = numbers;
        let rounds = firsts.len().max(seconds.len()).div_ceil(lanes);
        // lanes that are left over ask again what was asked
        let against = (0..rounds).map(|round| {
            std::array::from_fn(|lane| match (is_pair, lane % 2) {
                (false, _) => firsts[(round * lanes + lane) % firsts.len()],
                (true, 0) => firsts[(round * lanes + lane / 2) % firsts.len()],
                (true, _) => seconds[(round * lanes + lane / 2) % seconds.len()],
            })
        });
        Some(Self { first, is_pair, against: against.collect() })
    }
}

/// Gives the base and the offset that a load of two bytes reads at.
fn half_place(graph: &Graph, half: ValueId) -> Option<(Option<ValueId>, u32)> {
    match graph.value(half) {
        Value::Load { width: Width::Half, offset } => Some((None, offset)),
        Value::LoadAt { width: Width::Half, base, offset } => Some((Some(base), offset)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile;

    /// Gives the graph of the questions that `text` asks once a whole frame is known to be captured.
    fn graph_of(text: &str) -> (Graph, NodeId) {
        let mut graph = Graph::new();
        let root = graph.add(&compile(text).expect("a valid expression")).expect("a simple program");
        let root = graph.restrict(root, Condition::Captured { end: 60 }, true);
        (graph, root)
    }

    #[test]
    fn header_fields_within_sixteen_bytes_are_one_window() {
        let (graph, root) = graph_of("ip proto 6 and ip[6:2] & 0x1fff = 0 and ip[1] = 0x10");
        let conjunction = Conjunction::of(&graph, root, 0..60);
        let mut window = Window { start: 12, mask: [0; 16], against: [0; 16] };
        // the ethertype, type of service, fragment offset and protocol (RFC 791, 3.1)
        for (at, mask, against) in
            [(12, 0xff, 8), (13, 0xff, 0), (15, 0xff, 0x10), (20, 0x1f, 0), (21, 0xff, 0), (23, 0xff, 6)]
        {
            (window.mask[at - 12], window.against[at - 12]) = (mask, against);
        }
        assert_eq!(
            conjunction,
            Conjunction { windows: vec![window], others: Vec::new(), rest: NodeId::ACCEPT }
        );
    }

    #[test]
    fn a_window_ends_where_the_captured_bytes_end() {
        let (graph, root) = graph_of("ether[58] = 1 and ether[59] = 2");
        let windows = Conjunction::of(&graph, root, 0..60).windows;
        let starts: Vec<u64> = windows.iter().map(|window| window.start).collect();
        assert_eq!((starts, windows[0].against[14..].to_vec()), (vec![44], vec![1, 2]));
    }

    #[test]
    fn bytes_that_cannot_be_so_and_otherwise_are_not_of_one_window() {
        let (graph, root) = graph_of("ether[20] & 3 = 1 and ether[21] = 7 and ether[20] & 6 = 2");
        let Conjunction { windows, others, rest } = Conjunction::of(&graph, root, 0..60);
        assert_eq!((windows.len(), others.len(), rest), (1, 1, NodeId::ACCEPT));
    }

    #[test]
    fn a_window_does_not_begin_before_what_can_be_read() {
        let (graph, root) = graph_of("ether[13] = 1 and ether[14] = 2 and ether[15] = 3");
        let Conjunction { windows, others, .. } = Conjunction::of(&graph, root, 14..60);
        assert_eq!((windows.len(), windows[0].start, others.len()), (1, 14, 1));
    }

    #[test]
    fn a_question_alone_is_asked_as_it_is() {
        let (graph, root) = graph_of("ether[20] = 1 and ether[50] = 1");
        let Conjunction { windows, others, .. } = Conjunction::of(&graph, root, 0..60);
        assert_eq!((windows.len(), others.len()), (0, 2));
    }

    #[test]
    fn neighbouring_ports_are_compared_with_all_numbers_at_once() {
        let (graph, root) =
            graph_of("ether[34:2] = 80 or ether[36:2] = 80 or ether[34:2] = 443 or ether[36:2] = 22");
        let equalities = Equalities::of(&graph, root).expect("a pair of halves");
        let (http, https, ssh) = ([0, 80], [1, 187], [0, 22]);
        assert!(equalities.is_pair);
        assert_eq!(equalities.against, [[http, http, https, ssh, http, http, https, ssh]]);
    }

    #[test]
    fn numbers_that_are_no_neighbours_are_not_compared_at_once() {
        for text in [
            "ether[34:2] = 1 or ether[37:2] = 2 or ether[34:2] = 3",
            "ether[34:2] = 1 or ether[36:2] > 2 or ether[34:2] = 3",
        ] {
            let (graph, root) = graph_of(text);
            assert_eq!(Equalities::of(&graph, root), None, "{text}");
        }
    }
}
