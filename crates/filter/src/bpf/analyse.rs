//! Facts about a program that need no packets, for the warnings of `tapline check`. Nothing false is claimed; not all is found.

use super::insn::{Test, Width};
use super::verify::Program;
use crate::native::graph::{Condition, Graph, Node, NodeId, Table, Value, ValueId};

/// The facts that are certain about a program. The default claims nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Analysis {
    /// No packet is accepted.
    pub never_matches: bool,
    /// Every packet is accepted.
    pub always_matches: bool,
    /// No frame is accepted whose type says that a VLAN tag follows (0x8100, 0x88a8, 0x9100, 0x9200).
    pub misses_tagged: bool,
    /// Packets of which fewer bytes were captured are never accepted. It is 0 where no packet is.
    pub least_captured_bytes: u64,
}

/// Types of tagged frames (IEEE 802.1Q, 802.1ad, and those of old switches, of which libpcap's `vlan` knows only 0x9100).
const TAG_TYPES: [u32; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
const TYPE_OFFSET: u32 = 12;

/// Analyses `program`.
pub fn analyse(program: &Program) -> Analysis {
    let mut graph = Graph::new();
    let Ok(root) = graph.add(program) else { return Analysis::default() };
    let value = graph.load(Width::Half, TYPE_OFFSET);
    let tags =
        TAG_TYPES.map(|tag| Condition::Compare { test: Test::Equal, a: value, b: graph.constant(tag) });
    let accepts_none =
        |known, answer| Search::new(&graph, NodeId::ACCEPT).knowing(known, answer).is_barren(root);
    let never_matches = Search::new(&graph, NodeId::ACCEPT).is_barren(root);
    // the fewer bytes were captured, the fewer ways there are
    let mut bounds: Vec<u64> =
        graph.in_order(root).into_iter().filter_map(|node| bound_of(graph.node(node))).collect();
    bounds.sort_unstable();
    bounds.dedup();
    let needed =
        bounds.partition_point(|&end| !never_matches && accepts_none(Condition::Captured { end }, false));
    Analysis {
        never_matches,
        always_matches: Search::new(&graph, NodeId::REJECT).is_barren(root),
        misses_tagged: tags.into_iter().all(|tag| accepts_none(tag, true)),
        least_captured_bytes: needed.checked_sub(1).map_or(0, |last| bounds[last]),
    }
}

/// The captured bytes that a node asks for, those before a base not counted.
fn bound_of(node: Node) -> Option<u64> {
    match node {
        Node::Branch {
            condition: Condition::Captured { end } | Condition::CapturedAt { end, .. }, ..
        } => Some(end),
        _ => None,
    }
}

/// A search for a way to an end that some packet can go, as far as its answers, taken two by two, can all be given.
///
/// From a node from which there is none, there is none whenever the answers that made it so stand: they are at the beginning of the
/// way, so it is enough to know how many answers that are. So parts of a graph that many ways share are searched once.
struct Search<'a> {
    graph: &'a Graph,
    wanted: NodeId,
    /// The answers on the way.
    facts: Vec<Fact>,
    /// Their places.
    by_condition: Table<Condition, usize>,
    /// Places of those that tell something of other questions: about a value, or about captured bytes.
    by_value: Table<Option<ValueId>, Vec<usize>>,
    /// Nodes from which the end cannot be reached, and how many answers have to stand for that.
    barren: Table<NodeId, usize>,
    steps_left: usize,
}

struct Fact {
    condition: Condition,
    answer: bool,
    /// Nodes that are barren as long as this answer stands.
    barren: Vec<NodeId>,
}

/// A node on the way.
struct Place {
    node: NodeId,
    /// Answers before it.
    facts: usize,
    /// How many answers have to stand for what was found barren behind it.
    needs: usize,
    /// The node that the answer yes leads to, if it was not tried yet.
    then: Option<NodeId>,
}

/// Steps of one search for each node of the graph: beyond so many nothing is claimed.
const STEPS_A_NODE: usize = 32;
/// The same for small graphs.
const LEAST_STEPS: usize = 1024;
/// Earlier answers about one value that a question is compared with, the last ones: others seldom tell more.
const MOST_COMPARED: usize = 8;
/// Operations between a question's value and one whose number is known.
const MOST_OPERATIONS: u32 = 8;

impl<'a> Search<'a> {
    fn new(graph: &'a Graph, wanted: NodeId) -> Self {
        let steps_left = LEAST_STEPS + STEPS_A_NODE * graph.node_count();
        let (by_condition, by_value, barren) = Default::default();
        Self { graph, wanted, facts: Vec::new(), by_condition, by_value, barren, steps_left }
    }

    /// The same, among packets that answer `condition` so.
    fn knowing(mut self, condition: Condition, answer: bool) -> Self {
        self.learn(condition, answer);
        self
    }

    /// Returns whether surely no packet goes from `root` to the end.
    fn is_barren(&mut self, root: NodeId) -> bool {
        let mut way: Vec<Place> = Vec::new();
        let mut next = Some(root);
        loop {
            // forward, to an end or a node that is known to be barren
            let mut needs = 0;
            while let Some(node) = next.take() {
                if node == self.wanted || self.steps_left == 0 {
                    return false;
                }
                self.steps_left -= 1;
                if let Some(&known) = self.barren.get(&node) {
                    needs = known;
                    continue;
                }
                let Node::Branch { condition, then, otherwise } = self.graph.node(node) else { continue };
                let facts = self.facts.len();
                next = Some(match self.answer(condition) {
                    Some((answer, needs)) => {
                        way.push(Place { node, facts, needs, then: None });
                        if answer { then } else { otherwise }
                    }
                    None => {
                        // no comes first: it tells less, so what is barren then is barren on more ways
                        way.push(Place { node, facts, needs: 0, then: Some(then) });
                        self.learn(condition, false);
                        otherwise
                    }
                });
            }
            // back, to the last node that was not answered yes
            while next.is_none() {
                let Some(place) = way.last_mut() else { return true };
                // of its own answers the node does not depend: it is barren with either
                place.needs = place.needs.max(needs.min(place.facts));
                if self.facts.len() > place.facts {
                    self.forget();
                }
                next = place.then.take();
                if next.is_some() {
                    let Node::Branch { condition, .. } = self.graph.node(place.node) else {
                        unreachable!("ends are not on the way")
                    };
                    self.learn(condition, true);
                } else {
                    needs = place.needs;
                    self.barren.insert(place.node, needs);
                    if let Some(last) = needs.checked_sub(1) {
                        self.facts[last].barren.push(place.node);
                    }
                    way.pop();
                }
            }
        }
    }

    fn learn(&mut self, condition: Condition, answer: bool) {
        self.by_condition.insert(condition, self.facts.len());
        if let Some(about) = tells_of(condition, answer) {
            self.by_value.entry(about).or_default().push(self.facts.len());
        }
        self.facts.push(Fact { condition, answer, barren: Vec::new() });
    }

    /// Forgets the last answer, and what was known by it.
    fn forget(&mut self) {
        let Some(Fact { condition, answer, barren }) = self.facts.pop() else { return };
        self.by_condition.remove(&condition);
        if let Some(places) = tells_of(condition, answer).and_then(|about| self.by_value.get_mut(&about)) {
            places.pop();
        }
        for node in barren {
            self.barren.remove(&node);
        }
    }

    /// The answer to `condition` if earlier ones tell it, and how many of them have to stand for that.
    fn answer(&self, condition: Condition) -> Option<(bool, usize)> {
        if let Some(&place) = self.by_condition.get(&condition) {
            return Some((self.facts[place].answer, place + 1));
        }
        match condition {
            Condition::Captured { .. } | Condition::CapturedAt { .. } => self.implied_by(None, condition),
            Condition::Compare { a, .. } => self.implied_by_parts(a, condition, MOST_OPERATIONS),
        }
    }

    /// The same from answers about `value` and what it is computed from.
    fn implied_by_parts(&self, value: ValueId, condition: Condition, depth: u32) -> Option<(bool, usize)> {
        self.implied_by(Some(value), condition).or_else(|| match self.graph.value(value) {
            Value::Alu { a, b, .. } if depth > 0 => self
                .implied_by_parts(a, condition, depth - 1)
                .or_else(|| self.implied_by_parts(b, condition, depth - 1)),
            _ => None,
        })
    }

    fn implied_by(&self, about: Option<ValueId>, condition: Condition) -> Option<(bool, usize)> {
        self.by_value.get(&about)?.iter().rev().take(MOST_COMPARED).find_map(|&place| {
            let Fact { condition: fact, answer, .. } = self.facts[place];
            Some((self.graph.implied(fact, answer, condition)?, place + 1))
        })
    }
}

/// Gives the subject that an answer tells more of than its own question: a value, or (`None`) captured bytes.
fn tells_of(condition: Condition, answer: bool) -> Option<Option<ValueId>> {
    match condition {
        Condition::Captured { .. } | Condition::CapturedAt { .. } => Some(None),
        Condition::Compare { test: Test::Equal, .. } if !answer => None,
        Condition::Compare { a, .. } => Some(Some(a)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile;

    fn of(expression: &str) -> Analysis {
        analyse(&compile(expression).expect("a valid expression"))
    }

    #[test]
    fn alternatives_are_searched_in_steps_that_grow_as_they_do() {
        let steps = |count: usize| {
            let text: Vec<String> =
                (1..=count).map(|index| format!("host 10.0.0.{index} and port {index}")).collect();
            let mut graph = Graph::new();
            let root = graph
                .add(&compile(&text.join(" or ")).expect("a valid expression"))
                .expect("a simple program");
            let a = graph.load(Width::Half, TYPE_OFFSET);
            let tag = Condition::Compare { test: Test::Equal, a, b: graph.constant(TAG_TYPES[0]) };
            let new = |wanted| Search::new(&graph, wanted);
            let searches =
                [new(NodeId::ACCEPT), new(NodeId::REJECT), new(NodeId::ACCEPT).knowing(tag, true)];
            searches.map(|mut search| {
                let before = search.steps_left;
                search.is_barren(root);
                before - search.steps_left
            })
        };
        let (few, many) = (steps(10), steps(40));
        for (few, many) in few.into_iter().zip(many) {
            assert!(many <= 5 * few + 20, "{few} steps for 10 alternatives, {many} for 40");
        }
    }

    #[test]
    fn parts_that_many_ways_share_are_searched_once() {
        // every way through the first two lines comes to the third, where it ends
        let either = |from: usize| {
            (0..12).map(|index| format!("ether[{}] = 1", from + index)).collect::<Vec<_>>().join(" or ")
        };
        let found = of(&format!("({}) and ({}) and ip", either(20), either(40)));
        assert!(found.misses_tagged && !found.never_matches && !found.always_matches);
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
        for expression in
            ["vlan", "vlan and ip", "ip or vlan", "not ip", "len > 100", "ether host 02:00:00:00:00:01", ""]
        {
            assert!(!of(expression).misses_tagged, "{expression}");
        }
    }
}
