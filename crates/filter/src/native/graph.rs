//! Programs as decision graphs: what a program asks of a packet, with registers, scratch memory and jumps gone.
//!
//! A program is executed once with symbols in place of packet bytes. What remains is a graph whose nodes ask one question of the
//! packet each and whose two ends are accept and reject. Values and nodes are shared (hash-consed) by all programs of a `Graph`, so
//! that equal questions of different programs are one, and a question whose answer is known can be cut out of all of them.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

use rustc_hash::FxBuildHasher;

use crate::bpf::insn::{AluOperator, Op, Operand, SCRATCH_WORDS, Test, Width};
use crate::bpf::verify::Program;

/// A number computed from a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ValueId(u32);

/// A place in a decision graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct NodeId(u32);

impl NodeId {
    pub(crate) const REJECT: NodeId = NodeId(0);
    pub(crate) const ACCEPT: NodeId = NodeId(1);

    pub(crate) fn is_end(self) -> bool {
        self <= NodeId::ACCEPT
    }

    /// Its number, below the graph's `node_count`.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a number is computed. All are 32-bit and unsigned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Value {
    Constant(u32),
    /// The length on the wire.
    Len,
    /// The big-endian number at a constant offset.
    Load {
        width: Width,
        offset: u32,
    },
    /// The same at `base` plus a constant.
    LoadAt {
        width: Width,
        base: ValueId,
        offset: u32,
    },
    Alu {
        operator: AluOperator,
        a: ValueId,
        b: ValueId,
    },
}

/// A question about a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Condition {
    /// At least `end` bytes were captured.
    Captured { end: u64 },
    /// At least `base + end` bytes were captured.
    CapturedAt { base: ValueId, end: u64 },
    /// A test of two numbers.
    Compare { test: Test, a: ValueId, b: ValueId },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Node {
    Reject,
    Accept,
    Branch { condition: Condition, then: NodeId, otherwise: NodeId },
}

/// A table whose keys are a few numbers of a program's: nobody outside chooses them, and SipHash took most of the compiler's time.
pub(crate) type Table<K, V> = HashMap<K, V, FxBuildHasher>;
/// The same without values.
pub(crate) type Set<K> = HashSet<K, FxBuildHasher>;

/// A table that gives equal things equal numbers.
struct Interner<T> {
    items: Vec<T>,
    numbers: Table<T, u32>,
}

impl<T: Copy + Eq + Hash> Interner<T> {
    fn new() -> Self {
        Self { items: Vec::new(), numbers: Table::default() }
    }

    fn intern(&mut self, item: T) -> u32 {
        *self.numbers.entry(item).or_insert_with(|| {
            self.items.push(item);
            u32::try_from(self.items.len() - 1).expect("graphs are capped far below 2^32 items")
        })
    }
}

/// The values and nodes of a set of programs.
pub(crate) struct Graph {
    values: Interner<Value>,
    /// Operations between each value and the packet, so that walks over a value may recurse.
    depths: Vec<u32>,
    nodes: Interner<Node>,
    /// The results of `restrict`. A result is also entered as its own result, because restricting it by the same answer changes
    /// nothing. So a walk goes through each part of a graph once for each answer, from however many places it comes.
    restricted: Table<(NodeId, Condition, bool), NodeId>,
    /// Nodes that walks came to. Tests count them in place of time.
    #[cfg(test)]
    visits: std::cell::Cell<usize>,
}

/// The program has more symbolic states, or longer arithmetic, than is worth compiling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooComplex;

/// A symbolic state: where the program stands, and what is in the registers that it will still read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    at: usize,
    a: ValueId,
    x: ValueId,
    scratch: [ValueId; SCRATCH_WORDS],
}

/// The outcome of a symbolic state: an end, or a question and the states after it (`None` rejects).
enum Outcome {
    End(NodeId),
    Ask { condition: Condition, then: usize, otherwise: Option<usize> },
}

// The live set of a program point: one bit a scratch word, and these two.
const LIVE_A: u32 = 1 << 16;
const LIVE_X: u32 = 1 << 17;

impl Graph {
    /// A filter that no hand writes; random programs reach it. A hundred hosts joined by `or` have about 1500 states.
    const MAX_STATES: usize = 1 << 16;
    /// Operations on one number in a row; libpcap's longest, for Geneve options, has about a dozen.
    const MAX_DEPTH: u32 = 64;

    pub(crate) fn new() -> Self {
        let mut graph = Self {
            values: Interner::new(),
            depths: Vec::new(),
            nodes: Interner::new(),
            restricted: Table::default(),
            #[cfg(test)]
            visits: std::cell::Cell::default(),
        };
        graph.nodes.intern(Node::Reject);
        graph.nodes.intern(Node::Accept);
        graph
    }

    pub(crate) fn value(&self, id: ValueId) -> Value {
        self.values.items[id.0 as usize]
    }

    pub(crate) fn node(&self, id: NodeId) -> Node {
        self.nodes.items[id.0 as usize]
    }

    /// Nodes of all programs, the two ends counted.
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.items.len()
    }

    /// The number of nodes that were made and looked at so far.
    #[cfg(test)]
    pub(crate) fn work(&self) -> usize {
        self.nodes.items.len() + self.restricted.len() + self.visits.get()
    }

    pub(crate) fn constant(&mut self, number: u32) -> ValueId {
        self.intern_value(Value::Constant(number))
    }

    /// The number at a constant offset.
    pub(crate) fn load(&mut self, width: Width, offset: u32) -> ValueId {
        self.intern_value(Value::Load { width, offset })
    }

    /// The number, where it does not depend on the packet.
    pub(crate) fn as_constant(&self, id: ValueId) -> Option<u32> {
        match self.value(id) {
            Value::Constant(number) => Some(number),
            _ => None,
        }
    }

    fn intern_value(&mut self, value: Value) -> ValueId {
        let id = self.values.intern(value);
        if id as usize == self.depths.len() {
            let depth = |part: ValueId| self.depths[part.0 as usize];
            self.depths.push(match value {
                Value::Constant(_) | Value::Len | Value::Load { .. } => 0,
                Value::LoadAt { base, .. } => depth(base) + 1,
                Value::Alu { a, b, .. } => depth(a).max(depth(b)) + 1,
            });
        }
        ValueId(id)
    }

    /// The largest number that a value can be.
    pub(crate) fn maximum(&self, id: ValueId) -> u32 {
        match self.value(id) {
            Value::Constant(number) => number,
            Value::Load { width, .. } | Value::LoadAt { width, .. } => width.maximum(),
            Value::Alu { operator: AluOperator::And, a, b } => self
                .as_constant(b)
                .unwrap_or(u32::MAX)
                .min(self.as_constant(a).unwrap_or(u32::MAX))
                .min(self.load_maximum(a)),
            Value::Alu { operator: AluOperator::ShiftLeft, a, b } => {
                let most =
                    u64::from(self.maximum_of_masked(a)) << self.as_constant(b).unwrap_or(32).min(32);
                u32::try_from(most).unwrap_or(u32::MAX)
            }
            Value::Len | Value::Alu { .. } => u32::MAX,
        }
    }

    // One level each, so that the depth of a value does not become the depth of the stack.
    fn maximum_of_masked(&self, id: ValueId) -> u32 {
        match self.value(id) {
            Value::Alu { operator: AluOperator::And, a, b } => {
                self.as_constant(b).unwrap_or(u32::MAX).min(self.load_maximum(a))
            }
            _ => self.load_maximum(id),
        }
    }

    fn load_maximum(&self, id: ValueId) -> u32 {
        match self.value(id) {
            Value::Constant(number) => number,
            Value::Load { width, .. } | Value::LoadAt { width, .. } => width.maximum(),
            _ => u32::MAX,
        }
    }

    /// `a operator b`; the caller has made sure that it is no division by zero.
    fn alu(&mut self, operator: AluOperator, a: ValueId, b: ValueId) -> ValueId {
        use AluOperator::*;
        let (left, right) = (self.as_constant(a), self.as_constant(b));
        if let (Some(left), Some(right)) = (left, right)
            && let Some(result) = operator.apply(left, right)
        {
            return self.constant(result);
        }
        match (operator, right) {
            (Add | Sub | Or | Xor | ShiftLeft | ShiftRight, Some(0)) | (Mul | Div, Some(1)) => return a,
            (Mul | And, Some(0)) | (ShiftLeft | ShiftRight, Some(32..)) => return self.constant(0),
            (And, Some(mask))
                if self.load_maximum(a).count_zeros() < 32
                    && mask & self.load_maximum(a) == self.load_maximum(a) =>
            {
                return a;
            }
            _ => {}
        }
        match (operator, left) {
            (Add | Mul | And | Or | Xor, Some(_)) => self.intern_value(Value::Alu { operator, a: b, b: a }),
            _ => self.intern_value(Value::Alu { operator, a, b }),
        }
    }

    /// A node that asks `condition`, or what follows where the answer is known or does not matter.
    pub(crate) fn branch(&mut self, condition: Condition, then: NodeId, otherwise: NodeId) -> NodeId {
        if then == otherwise {
            return then;
        }
        let (mut condition, mut then, mut otherwise) = (condition, then, otherwise);
        match condition {
            Condition::Captured { end: 0 } => return then,
            Condition::Captured { end } if end > u64::from(u32::MAX) => return otherwise,
            Condition::CapturedAt { base, end } => {
                if let Some(base) = self.as_constant(base) {
                    return self.branch(
                        Condition::Captured { end: u64::from(base) + end },
                        then,
                        otherwise,
                    );
                }
            }
            Condition::Compare { test, a, b } => match (self.as_constant(a), self.as_constant(b)) {
                (Some(a), Some(b)) => return if test.holds(a, b) { then } else { otherwise },
                (Some(_), None) if matches!(test, Test::Equal | Test::AnyBit) => {
                    return self.branch(Condition::Compare { test, a: b, b: a }, then, otherwise);
                }
                (None, Some(b)) => match (test, b) {
                    (Test::GreaterOrEqual, 0) => return then,
                    (Test::GreaterOrEqual, b) => {
                        let b = self.constant(b - 1);
                        return self.branch(
                            Condition::Compare { test: Test::Greater, a, b },
                            then,
                            otherwise,
                        );
                    }
                    (Test::Greater, b) if b >= self.maximum(a) => return otherwise,
                    (Test::Equal, b) if b > self.maximum(a) => return otherwise,
                    (Test::AnyBit, 0) => return otherwise,
                    (Test::Greater, 0) => {
                        condition = Condition::Compare { test: Test::Equal, a, b: self.constant(0) };
                        (then, otherwise) = (otherwise, then);
                    }
                    _ => {}
                },
                _ => {}
            },
            _ => {}
        }
        NodeId(self.nodes.intern(Node::Branch { condition, then, otherwise }))
    }

    /// Adds the decision graph of a program, which accepts what the program accepts.
    /// # Errors
    /// Fails if registers hold so many different things at one place that the graph would outgrow the program by far.
    pub(crate) fn add(&mut self, program: &Program) -> Result<NodeId, TooComplex> {
        // a loop has no end among questions
        if program.has_loops() {
            return Err(TooComplex);
        }
        let ops = program.ops();
        let live = liveness(ops);
        let zero = self.constant(0);
        let limit = Self::MAX_STATES.min(64 * ops.len() + 256);
        let mut states = vec![State { at: 0, a: zero, x: zero, scratch: [zero; SCRATCH_WORDS] }];
        let mut numbers = Table::from_iter([(states[0], 0)]);
        let mut outcomes = Vec::new();
        while let Some(&state) = states.get(outcomes.len()) {
            if states.len() > limit {
                return Err(TooComplex);
            }
            let mut number = |mut next: State| {
                next.forget_dead(live[next.at], zero);
                *numbers.entry(next).or_insert_with(|| {
                    states.push(next);
                    states.len() - 1
                })
            };
            outcomes.push(self.step(ops, state, &mut number)?);
        }
        // Jumps go forward, so a state's successors stand further on in the program: built last to first, they exist in time.
        let mut order: Vec<usize> = (0..outcomes.len()).collect();
        order.sort_unstable_by_key(|&index| std::cmp::Reverse(states[index].at));
        let mut built = vec![NodeId::REJECT; outcomes.len()];
        for index in order {
            built[index] = match outcomes[index] {
                Outcome::End(node) => node,
                Outcome::Ask { condition, then, otherwise } => self.branch(
                    condition,
                    built[then],
                    otherwise.map_or(NodeId::REJECT, |otherwise| built[otherwise]),
                ),
            };
        }
        Ok(built[0])
    }

    /// Goes on from `state` to the next question or end; `number` names the states after a question.
    fn step(
        &mut self,
        ops: &[Op],
        mut state: State,
        number: &mut impl FnMut(State) -> usize,
    ) -> Result<Outcome, TooComplex> {
        loop {
            if self.depths[state.a.0 as usize].max(self.depths[state.x.0 as usize]) > Self::MAX_DEPTH {
                return Err(TooComplex);
            }
            let op = ops[state.at];
            state.at += 1;
            if let Some(outcome) = self.carry_out(op, &mut state, number) {
                return Ok(outcome);
            }
        }
    }

    /// Carries out one instruction. `None` where it asks nothing of the packet and the program goes on at `state`.
    fn carry_out(
        &mut self,
        op: Op,
        state: &mut State,
        number: &mut impl FnMut(State) -> usize,
    ) -> Option<Outcome> {
        match op {
            Op::LoadAbsolute { width, offset } => {
                let condition = self.load_a(width, offset, state);
                return Some(Outcome::demand(condition, number(*state)));
            }
            Op::LoadIndirect { width, offset } => {
                return Some(match self.load_a_at(width, offset, state) {
                    Some(condition) => Outcome::demand(condition, number(*state)),
                    None => Outcome::End(NodeId::REJECT),
                });
            }
            Op::LoadXHeaderLen { offset } => {
                state.x = self.header_len(offset);
                return Some(Outcome::demand(captured(Width::Byte, offset), number(*state)));
            }
            Op::LoadLen => state.a = self.intern_value(Value::Len),
            Op::LoadXLen => state.x = self.intern_value(Value::Len),
            Op::LoadConstant(k) => state.a = self.constant(k),
            Op::LoadXConstant(k) => state.x = self.constant(k),
            Op::LoadScratch(word) => state.a = state.scratch[word],
            Op::LoadXScratch(word) => state.x = state.scratch[word],
            Op::Store(word) => state.scratch[word] = state.a,
            Op::StoreX(word) => state.scratch[word] = state.x,
            Op::CopyAToX => state.x = state.a,
            Op::CopyXToA => state.a = state.x,
            Op::Negate => {
                let zero = self.constant(0);
                state.a = self.alu(AluOperator::Sub, zero, state.a);
            }
            Op::Alu { operator, operand } => return self.compute(operator, operand, state, number),
            Op::Jump { target } => state.at = target,
            Op::Branch { test, operand, then, otherwise } => {
                let condition = Condition::Compare { test, a: state.a, b: self.operand(operand, state) };
                let then = number(State { at: then, ..*state });
                let otherwise = number(State { at: otherwise, ..*state });
                return Some(Outcome::Ask { condition, then, otherwise: Some(otherwise) });
            }
            Op::Return(0) => return Some(Outcome::End(NodeId::REJECT)),
            Op::Return(_) => return Some(Outcome::End(NodeId::ACCEPT)),
            Op::ReturnA => {
                let zero = self.constant(0);
                let condition = Condition::Compare { test: Test::Equal, a: state.a, b: zero };
                return Some(Outcome::End(self.branch(condition, NodeId::REJECT, NodeId::ACCEPT)));
            }
        }
        None
    }

    /// Gives the value that an instruction takes beside the accumulator.
    fn operand(&mut self, operand: Operand, state: &State) -> ValueId {
        match operand {
            Operand::Constant(k) => self.constant(k),
            Operand::X => state.x,
        }
    }

    /// Loads the accumulator from a constant offset. Gives what must be true for that.
    fn load_a(&mut self, width: Width, offset: u32, state: &mut State) -> Condition {
        state.a = self.load(width, offset);
        captured(width, offset)
    }

    /// Loads the accumulator from the index register plus `offset`. Gives what must be true for that; `None` where no packet is so
    /// long.
    fn load_a_at(&mut self, width: Width, offset: u32, state: &mut State) -> Option<Condition> {
        let base = state.x;
        if let Some(base) = self.as_constant(base) {
            return Some(self.load_a(width, base.checked_add(offset)?, state));
        }
        state.a = self.intern_value(Value::LoadAt { width, base, offset });
        let end = u64::from(offset) + u64::from(width.bytes());
        Some(Condition::CapturedAt { base, end })
    }

    /// The length of the IP header whose first byte is at `offset`.
    fn header_len(&mut self, offset: u32) -> ValueId {
        let byte = self.load(Width::Byte, offset);
        let (nibble, two) = (self.constant(0xf), self.constant(2));
        let words = self.alu(AluOperator::And, byte, nibble);
        self.alu(AluOperator::ShiftLeft, words, two)
    }

    /// Computes the accumulator anew. A division by zero rejects the packet: one by a number of the packet's asks about it first.
    fn compute(
        &mut self,
        operator: AluOperator,
        operand: Operand,
        state: &mut State,
        number: &mut impl FnMut(State) -> usize,
    ) -> Option<Outcome> {
        let b = self.operand(operand, state);
        let divides = matches!(operator, AluOperator::Div | AluOperator::Mod);
        let divisor = self.as_constant(b);
        if divides && divisor == Some(0) {
            return Some(Outcome::End(NodeId::REJECT));
        }
        state.a = self.alu(operator, state.a, b);
        if !divides || divisor.is_some() {
            return None;
        }
        let condition = Condition::Compare { test: Test::Greater, a: b, b: self.constant(0) };
        Some(Outcome::demand(condition, number(*state)))
    }

    /// The graph from `node` on, given that `fact` was answered `answer`: questions that this answers are gone.
    ///
    /// It descends by recursion: for graphs of bounded size only.
    pub(crate) fn restrict(&mut self, node: NodeId, fact: Condition, answer: bool) -> NodeId {
        let Node::Branch { condition, then, otherwise } = self.node(node) else { return node };
        if let Some(&known) = self.restricted.get(&(node, fact, answer)) {
            return known;
        }
        let result = match self.implied(fact, answer, condition) {
            Some(true) => self.restrict(then, fact, answer),
            Some(false) => self.restrict(otherwise, fact, answer),
            None => {
                let then = self.restrict(then, fact, answer);
                let otherwise = self.restrict(otherwise, fact, answer);
                self.branch(condition, then, otherwise)
            }
        };
        self.restricted.insert((node, fact, answer), result);
        self.restricted.insert((result, fact, answer), result);
        result
    }

    /// The same graph with bounds asked once: where a bounds check leads to a farther one from the same base, the farther one is
    /// asked first and the nearer one only where it fails. Packets cut between the two are rare.
    ///
    /// It descends by recursion: for graphs of bounded size only.
    pub(crate) fn ask_bounds_once(&mut self, root: NodeId) -> NodeId {
        let mut done: Table<NodeId, NodeId> = Table::default();
        let mut bounds = Table::default();
        for &node in self.in_order(root).iter().rev() {
            let Node::Branch { condition, then, otherwise } = self.node(node) else { continue };
            let [then, otherwise] = [then, otherwise].map(|id| done.get(&id).copied().unwrap_or(id));
            let farther = match condition {
                Condition::Captured { .. } | Condition::CapturedAt { .. } => self
                    .bounds(then, &mut bounds)
                    .iter()
                    .copied()
                    .filter(|&bound| is_farther(condition, bound))
                    .max(),
                Condition::Compare { .. } => None,
            };
            let asked = match farther {
                Some(farther) => {
                    let near = self.restrict(then, farther, false);
                    let near = self.branch(condition, near, otherwise);
                    let far = self.restrict(then, farther, true);
                    self.branch(farther, far, near)
                }
                None => self.branch(condition, then, otherwise),
            };
            done.insert(node, asked);
        }
        done.get(&root).copied().unwrap_or(root)
    }

    /// The bounds that are asked from `node` on, ascending; `known` are those of nodes that were looked at before.
    fn bounds(&self, node: NodeId, known: &mut Table<NodeId, Rc<[Condition]>>) -> Rc<[Condition]> {
        let Node::Branch { condition, then, otherwise } = self.node(node) else { return Rc::default() };
        if let Some(bounds) = known.get(&node) {
            return Rc::clone(bounds);
        }
        let (one, other) = (self.bounds(then, known), self.bounds(otherwise, known));
        let is_bound =
            !matches!(condition, Condition::Compare { .. }) && one.binary_search(&condition).is_err();
        let bounds = if !is_bound && (Rc::ptr_eq(&one, &other) || other.is_empty()) {
            one
        } else {
            let mut bounds: Vec<Condition> =
                one.iter().chain(&*other).copied().chain(is_bound.then_some(condition)).collect();
            bounds.sort_unstable();
            bounds.dedup();
            bounds.into()
        };
        known.insert(node, Rc::clone(&bounds));
        bounds
    }

    /// Gives the answer that `question` must have once `fact` was answered `answer`, if that can be told.
    pub(crate) fn implied(&self, fact: Condition, answer: bool, question: Condition) -> Option<bool> {
        if fact == question {
            return Some(answer);
        }
        match (fact, question) {
            (Condition::Captured { end: known }, Condition::Captured { end }) => bound(answer, known, end),
            (Condition::Captured { end: known }, Condition::CapturedAt { base, end }) => {
                if answer && u64::from(self.maximum(base)) + end <= known {
                    Some(true)
                } else if !answer && end >= known {
                    Some(false)
                } else {
                    None
                }
            }
            (Condition::CapturedAt { base, end: known }, Condition::CapturedAt { base: other, end })
                if base == other =>
            {
                bound(answer, known, end)
            }
            (Condition::CapturedAt { end: known, .. }, Condition::Captured { end })
                if answer && end <= known =>
            {
                Some(true)
            }
            (
                Condition::Compare { test, a, b },
                Condition::Compare { test: asked, a: other, b: against },
            ) => {
                let (b, against) = (self.as_constant(b)?, self.as_constant(against)?);
                if test == Test::Equal && answer {
                    return Some(asked.holds(self.evaluate(other, a, b, 8)?, against));
                }
                if a != other {
                    return None;
                }
                let (least, most) = match (test, answer) {
                    (Test::Greater, true) => (b.checked_add(1)?, self.maximum(a)),
                    (Test::Greater, false) => (0, b),
                    (Test::AnyBit, true) => {
                        return (asked == Test::Equal && against & b == 0).then_some(false);
                    }
                    (Test::AnyBit, false) => {
                        return match asked {
                            Test::Equal if against & b != 0 => Some(false),
                            Test::AnyBit if against & !b == 0 => Some(false),
                            _ => None,
                        };
                    }
                    _ => return None,
                };
                match asked {
                    Test::Equal if against < least || against > most => Some(false),
                    Test::Greater if least > against => Some(true),
                    Test::Greater if most <= against => Some(false),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The number of `value` where `known` is `number`, if nothing else goes into it.
    fn evaluate(&self, value: ValueId, known: ValueId, number: u32, depth: u32) -> Option<u32> {
        if value == known {
            return Some(number);
        }
        match self.value(value) {
            Value::Constant(constant) => Some(constant),
            Value::Alu { operator, a, b } if depth > 0 => operator.apply(
                self.evaluate(a, known, number, depth - 1)?,
                self.evaluate(b, known, number, depth - 1)?,
            ),
            _ => None,
        }
    }

    /// The nodes that can be reached from `root`, each before those that follow it; ends are left out.
    pub(crate) fn in_order(&self, root: NodeId) -> Vec<NodeId> {
        self.in_order_while(root, |_| true).expect("no node ends the walk")
    }

    /// The same, or `None` as soon as it comes to a node that `may_go_on` does not hold for, which is asked once for each.
    pub(crate) fn in_order_while(
        &self,
        root: NodeId,
        mut may_go_on: impl FnMut(Node) -> bool,
    ) -> Option<Vec<NodeId>> {
        let mut seen = Set::default();
        let mut finished = Vec::new();
        let mut stack = vec![(root, false)];
        while let Some((id, is_expanded)) = stack.pop() {
            let node = self.node(id);
            let Node::Branch { then, otherwise, .. } = node else { continue };
            if is_expanded {
                finished.push(id);
            } else if seen.insert(id) {
                #[cfg(test)]
                self.visits.set(self.visits.get() + 1);
                if !may_go_on(node) {
                    return None;
                }
                stack.extend([(id, true), (then, false), (otherwise, false)]);
            }
        }
        finished.reverse();
        Some(finished)
    }
}

/// Returns whether `bound` is a little farther than `near`, from the same base.
fn is_farther(near: Condition, bound: Condition) -> bool {
    const REACH: u64 = 16;
    match (near, bound) {
        (Condition::Captured { end: near }, Condition::Captured { end }) => {
            end > near && end <= near + REACH
        }
        (Condition::CapturedAt { base, end: near }, Condition::CapturedAt { base: other, end }) => {
            base == other && end > near && end <= near + REACH
        }
        _ => false,
    }
}

/// `known` or more is true or false: is `asked` or more?
fn bound(answer: bool, known: u64, asked: u64) -> Option<bool> {
    match answer {
        true if asked <= known => Some(true),
        false if asked >= known => Some(false),
        _ => None,
    }
}

/// The condition that a number at a constant offset was captured.
fn captured(width: Width, offset: u32) -> Condition {
    Condition::Captured { end: u64::from(offset) + u64::from(width.bytes()) }
}

impl Outcome {
    /// Goes on where `condition` is true, and rejects elsewhere.
    fn demand(condition: Condition, then: usize) -> Outcome {
        Outcome::Ask { condition, then, otherwise: None }
    }
}

impl State {
    /// Registers that are not read again do not tell states apart.
    fn forget_dead(&mut self, live: u32, zero: ValueId) {
        if live & LIVE_A == 0 {
            self.a = zero;
        }
        if live & LIVE_X == 0 {
            self.x = zero;
        }
        for (word, value) in self.scratch.iter_mut().enumerate() {
            if live & 1 << word == 0 {
                *value = zero;
            }
        }
    }
}

/// For each instruction, what is read after it starts before it is written.
fn liveness(ops: &[Op]) -> Vec<u32> {
    let mut live = vec![0; ops.len() + 1];
    let reads = |operand| if operand == Operand::X { LIVE_X } else { 0 };
    for (at, op) in ops.iter().enumerate().rev() {
        let after = live[at + 1];
        live[at] = match *op {
            Op::LoadAbsolute { .. } | Op::LoadLen | Op::LoadConstant(_) => after & !LIVE_A,
            Op::LoadIndirect { .. } | Op::CopyXToA => after & !LIVE_A | LIVE_X,
            Op::LoadScratch(word) => after & !LIVE_A | 1 << word,
            Op::LoadXLen | Op::LoadXConstant(_) | Op::LoadXHeaderLen { .. } => after & !LIVE_X,
            Op::LoadXScratch(word) => after & !LIVE_X | 1 << word,
            Op::Store(word) => after & !(1 << word) | LIVE_A,
            Op::StoreX(word) => after & !(1 << word) | LIVE_X,
            Op::Alu { operand, .. } => after | LIVE_A | reads(operand),
            Op::Negate => after | LIVE_A,
            Op::CopyAToX => after & !LIVE_X | LIVE_A,
            Op::Jump { target } => live[target],
            Op::Branch { operand, then, otherwise, .. } => {
                live[then] | live[otherwise] | LIVE_A | reads(operand)
            }
            Op::Return(_) => 0,
            Op::ReturnA => LIVE_A,
        };
    }
    live
}
