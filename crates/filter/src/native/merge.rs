//! Decides together what several programs ask alike: ethertype, protocol, fragment offset and header lengths once for all of them.
//!
//! A state is what every program has still to ask, given the answers so far. From a state the question that most programs share is
//! asked, and each program goes on with what that answer leaves of it. Where nothing worth sharing is left, or where there are
//! enough states, the state stays open: what is left of each program is asked for itself.

use std::rc::Rc;

use super::graph::{Condition, Graph, Node, NodeId, Set, Table, Value, ValueId};
use crate::bpf::insn::{AluOperator, Test};

/// States, and what is known on the way in.
pub(crate) struct Merged {
    pub entry: Edge,
    pub states: Vec<State>,
}

/// The way into a state: the programs that accept on it, each by its index.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub accepts: Vec<usize>,
    pub to: usize,
}

#[derive(Debug)]
pub(crate) enum State {
    Ask { condition: Condition, then: Edge, otherwise: Edge },
    Open { programs: Vec<(usize, NodeId)>, known: Known },
}

/// The bytes of a packet that the questions so far allow to be read without asking again.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Known {
    captured: u64,
    captured_at: Vec<(ValueId, u64)>,
    nonzero: Vec<ValueId>,
    /// The packet is cut so short that speed does not matter.
    cut: bool,
}

/// Every whole Ethernet frame has so many bytes (IEEE 802.3, without the frame check sequence).
const SHORTEST_FRAME: u64 = 60;
/// A program that asks no more has all its bounds asked first, so that the rest can be answered together.
const MOST_BOUNDS_FIRST: usize = 24;
/// More states make more code than they save time.
const MAX_STATES: usize = 64;
/// The same for what is left of programs in all open states together.
const MAX_OPEN: usize = 1024;

impl Known {
    /// Gives what is known once `condition` was answered `answer`.
    fn and(&self, condition: Condition, answer: bool, graph: &Graph) -> Known {
        let mut known = self.clone();
        match (condition, answer) {
            (Condition::Captured { end }, true) => known.captured = known.captured.max(end),
            (Condition::CapturedAt { base, end }, true) => {
                match known.captured_at.iter_mut().find(|(other, _)| *other == base) {
                    Some((_, most)) => *most = end.max(*most),
                    None => known.captured_at.push((base, end)),
                }
                known.captured_at.sort_unstable();
            }
            (Condition::Captured { .. } | Condition::CapturedAt { .. }, false) => known.cut = true,
            (Condition::Compare { test: Test::Equal, a, b }, false) if graph.as_constant(b) == Some(0) => {
                known.nonzero.push(a);
                known.nonzero.sort_unstable();
                known.nonzero.dedup();
            }
            _ => {}
        }
        known
    }

    /// Bytes that are surely captured.
    pub(crate) fn captured(&self) -> u64 {
        self.captured
    }

    /// Returns whether `value` can be computed from what is known to be captured.
    pub(crate) fn allows(&self, value: ValueId, graph: &Graph) -> bool {
        match graph.value(value) {
            Value::Constant(_) | Value::Len => true,
            Value::Load { width, offset } => u64::from(offset) + u64::from(width.bytes()) <= self.captured,
            Value::LoadAt { width, base, offset } => {
                let end = u64::from(offset) + u64::from(width.bytes());
                let within = u64::from(graph.maximum(base)) + end <= self.captured
                    || self.captured_at.iter().any(|&(other, most)| other == base && end <= most);
                within && self.allows(base, graph)
            }
            Value::Alu { operator, a, b } => {
                let divides = matches!(operator, AluOperator::Div | AluOperator::Mod);
                let safe = !divides || graph.as_constant(b).is_some() || self.nonzero.contains(&b);
                safe && self.allows(a, graph) && self.allows(b, graph)
            }
        }
    }

    /// Returns whether `condition` can be asked.
    pub(crate) fn allows_asking(&self, condition: Condition, graph: &Graph) -> bool {
        match condition {
            Condition::Captured { .. } => true,
            Condition::CapturedAt { base, .. } => self.allows(base, graph),
            Condition::Compare { a, b, .. } => self.allows(a, graph) && self.allows(b, graph),
        }
    }
}

impl Merged {
    /// Merges programs given by index and root. Their graphs are small: `Graph::restrict` descends into them.
    pub(crate) fn new(graph: &mut Graph, programs: Vec<(usize, NodeId)>) -> Merged {
        let mut merger =
            Merger { graph, numbers: Table::default(), waiting: Vec::new(), conditions: Table::default() };
        let entry = merger.arrive(programs, Known::default());
        let mut states = Vec::new();
        let mut open = 0;
        while let Some((programs, known)) = merger.waiting.get(states.len()).cloned() {
            let worthwhile = merger.waiting.len() < MAX_STATES && open < MAX_OPEN && !known.cut;
            let question = if worthwhile { merger.question(&programs, &known) } else { None };
            states.push(match question {
                Some(condition) => {
                    let then = merger.answer(&programs, &known, condition, true);
                    let otherwise = merger.answer(&programs, &known, condition, false);
                    State::Ask { condition, then, otherwise }
                }
                None => {
                    open += programs.len();
                    State::Open { programs, known }
                }
            });
        }
        Merged { entry, states }
    }

    /// One program, asked for itself from its root on.
    pub(crate) fn alone(program: usize, root: NodeId) -> Merged {
        let states = vec![State::Open { programs: vec![(program, root)], known: Known::default() }];
        Merged { entry: Edge { accepts: Vec::new(), to: 0 }, states }
    }

    /// Every program that some state decides, with repetitions.
    pub(crate) fn programs(&self) -> impl Iterator<Item = usize> {
        let edges = self.states.iter().flat_map(|state| match state {
            State::Ask { then, otherwise, .. } => [Some(then), Some(otherwise)],
            State::Open { .. } => [None, None],
        });
        let accepted = edges.flatten().chain([&self.entry]).flat_map(|edge| edge.accepts.iter().copied());
        let open = self.states.iter().flat_map(|state| match state {
            State::Open { programs, .. } => programs.as_slice(),
            State::Ask { .. } => &[],
        });
        accepted.chain(open.map(|&(program, _)| program))
    }

    /// The states, each before those that follow it.
    pub(crate) fn in_order(&self) -> Vec<usize> {
        fn visit(merged: &Merged, state: usize, seen: &mut [bool], finished: &mut Vec<usize>) {
            if std::mem::replace(&mut seen[state], true) {
                return;
            }
            if let State::Ask { then, otherwise, .. } = &merged.states[state] {
                visit(merged, then.to, seen, finished);
                visit(merged, otherwise.to, seen, finished);
            }
            finished.push(state);
        }
        let mut finished = Vec::new();
        visit(self, self.entry.to, &mut vec![false; self.states.len()], &mut finished);
        finished.reverse();
        finished
    }
}

type Key = (Vec<(usize, NodeId)>, Known);

struct Merger<'a> {
    graph: &'a mut Graph,
    numbers: Table<Key, usize>,
    waiting: Vec<Key>,
    conditions: Table<NodeId, Rc<[Condition]>>,
}

impl Merger<'_> {
    fn arrive(&mut self, programs: Vec<(usize, NodeId)>, known: Known) -> Edge {
        let accepts = programs
            .iter()
            .filter(|(_, node)| *node == NodeId::ACCEPT)
            .map(|&(program, _)| program)
            .collect();
        let open: Vec<_> = programs.into_iter().filter(|(_, node)| !node.is_end()).collect();
        // With nothing left to ask, all that is known is forgotten, so that there is one such state.
        let known = if open.is_empty() { Known::default() } else { known };
        let waiting = &mut self.waiting;
        let to = *self.numbers.entry((open, known)).or_insert_with_key(|key| {
            waiting.push(key.clone());
            waiting.len() - 1
        });
        Edge { accepts, to }
    }

    fn answer(
        &mut self,
        programs: &[(usize, NodeId)],
        known: &Known,
        condition: Condition,
        answer: bool,
    ) -> Edge {
        let programs = programs
            .iter()
            .map(|&(program, node)| (program, self.graph.restrict(node, condition, answer)))
            .collect();
        let known = known.and(condition, answer, self.graph);
        self.arrive(programs, known)
    }

    /// The question to ask next: the bound of the shortest frame, then what most programs ask, the earlier the better; of one
    /// program, its other bounds.
    fn question(&mut self, programs: &[(usize, NodeId)], known: &Known) -> Option<Condition> {
        let mut bound = None;
        let mut askers: Table<Condition, (usize, usize)> = Table::default();
        for &(_, node) in programs {
            for (depth, &condition) in self.conditions(node).iter().enumerate() {
                if let Condition::Captured { end: ..=SHORTEST_FRAME } = condition {
                    bound = bound.max(Some(condition));
                } else if programs.len() > 1 {
                    let (count, depths) = askers.entry(condition).or_default();
                    *count += 1;
                    *depths += depth;
                }
            }
        }
        if bound.is_some() {
            return bound;
        }
        if let &[(_, node)] = programs {
            let conditions = self.conditions(node);
            let is_askable = |condition: &&Condition| {
                matches!(condition, Condition::CapturedAt { .. })
                    && known.allows_asking(**condition, self.graph)
            };
            return conditions
                .iter()
                .filter(|_| conditions.len() <= MOST_BOUNDS_FIRST)
                .find(is_askable)
                .copied();
        }
        askers
            .into_iter()
            .filter(|&(condition, (count, _))| {
                count >= 2 && 4 * count >= programs.len() && known.allows_asking(condition, self.graph)
            })
            .min_by_key(|&(condition, (count, depths))| (std::cmp::Reverse(count), depths, condition))
            .map(|(condition, _)| condition)
    }

    fn conditions(&mut self, node: NodeId) -> Rc<[Condition]> {
        let graph = &*self.graph;
        let list = || {
            let (mut list, mut seen) = (Vec::new(), Set::default());
            for node in graph.in_order(node) {
                if let Node::Branch { condition, .. } = graph.node(node)
                    && seen.insert(condition)
                {
                    list.push(condition);
                }
            }
            list.into()
        };
        Rc::clone(self.conditions.entry(node).or_insert_with(list))
    }
}
