//! The packets that a classic BPF program accepts, as conjunctions of tests on fields.
//!
//! A packet takes one way through a program's decision graph. It is accepted if and only if all answers on some accepting way hold
//! for it; a load that fails is an answer that rejects. There are far too many ways to list them: where one of fifty alternatives
//! fails, the next one is asked with other answers known. So the search for ways goes on only where a packet could come that no way
//! found so far stands for. Each way is described by as few of its answers as suffice for acceptance. A node behind which nothing
//! new was found is remembered with the answers that made it so.

use super::field::{Field, Source, ValueSet};
use crate::bpf::insn::{AluOperator, Test, Width};
use crate::bpf::verify::Program;
use crate::native::graph::{Condition, Graph, Node, NodeId, Table, Value, ValueId};

/// Tests that must all hold: each field can be read, and its value is in the set. Sorted by field, one test a field.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Path {
    pub tests: Vec<(Field, ValueSet)>,
}

/// The program cannot be told as a reasonable number of tests on fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotIndexable;

/// Nodes that are visited at most for each node of a program's graph: beyond so many the program is not indexed. Fifty alternatives
/// of a host and a port need 200.
const STEPS_A_NODE: usize = 384;
/// The same for small graphs.
const LEAST_STEPS: usize = 16_384;
/// Accepting ways of one program at most, before merging.
const MAX_WAYS: usize = 4096;
/// The same after merging.
const MAX_PATHS: usize = 512;
/// Claims about one node at most; the oldest makes room.
const MOST_CLAIMS: usize = 8;
/// Facts of one claim at most.
const MOST_FACTS: u32 = 16;

impl Path {
    fn set(&mut self, field: Field, values: ValueSet) {
        match self.tests.binary_search_by_key(&field, |test| test.0) {
            Ok(at) => self.tests[at].1 = self.tests[at].1.intersection(&values),
            Err(at) => self.tests.insert(at, (field, values)),
        }
    }

    /// Drops tests that any value passes, where another test shows that the field can be read.
    fn drop_implied(&mut self) {
        let mut at = 0;
        while at < self.tests.len() {
            let (field, values) = &self.tests[at];
            let others = |index: usize, other: &Field| index != at && other.source.implies(field.source);
            let implied = field.source == Source::Len
                || self.tests.iter().enumerate().any(|(index, test)| others(index, &test.0));
            if implied && values.is_full(field.mask) {
                self.tests.remove(at);
            } else {
                at += 1;
            }
        }
    }
}

/// Masks of leading bits only, of a value with the bits of `max`.
fn keeps_leading(mask: u32, max: u32) -> bool {
    let dropped = max & !mask;
    mask != 0 && dropped & dropped.wrapping_add(1) == 0
}

/// The packets for which `(source & mask) >> shift` is in `low..=high`; `mask` is not 0.
fn range_test(source: Source, mask: u32, shift: u32, low: u32, high: u32) -> (Field, ValueSet) {
    let max = source.max();
    // In terms of `source & mask`, where only multiples of the mask's lowest bit occur.
    let low = u64::from(low) << shift;
    let high = ((u64::from(high) + 1) << shift) - 1;
    let step = 1u64 << mask.trailing_zeros();
    let low = low.next_multiple_of(step);
    let high = high.min(u64::from(mask)) / step * step;
    let field = |mask| Field { source, mask };
    let narrow = |value: u64| u32::try_from(value).expect("at most the mask");
    if low > high {
        return (field(if keeps_leading(mask, max) { max } else { mask }), ValueSet::empty());
    }
    if keeps_leading(mask, max) {
        return (field(max), ValueSet::range(narrow(low), narrow(high + (step - 1))));
    }
    if low == high && low & !u64::from(mask) != 0 {
        return (field(mask), ValueSet::empty());
    }
    (field(mask), ValueSet::range(narrow(low), narrow(high)))
}

/// A number that a program computes: `(source & mask) >> shift`.
#[derive(Clone, Copy)]
struct Masked {
    source: Source,
    mask: u32,
    shift: u32,
}

/// Gives the bits of a source that `value` is; `None` if it is more than bits of one source.
fn masked(graph: &Graph, value: ValueId) -> Option<Masked> {
    let whole = |source: Source| Masked { source, mask: source.max(), shift: 0 };
    match graph.value(value) {
        Value::Constant(_) => None,
        Value::Len => Some(whole(Source::Len)),
        Value::Load { width, offset } => Some(whole(Source::Absolute { offset, width: bytes(width) })),
        Value::LoadAt { width, base, offset } => Some(whole(indirect(graph, base, offset, bytes(width))?)),
        Value::Alu { operator, a, b } => {
            let (Masked { source, mask, shift }, k) = (masked(graph, a)?, graph.as_constant(b)?);
            let (mask, shift) = match operator {
                AluOperator::And => (
                    mask & u32::try_from(u64::from(k) << shift & 0xffff_ffff).expect("masked to 32 bits"),
                    shift,
                ),
                AluOperator::ShiftRight => {
                    let by = shift.checked_add(k).filter(|&by| by < 32)?;
                    (mask >> by << by, by)
                }
                _ => return None,
            };
            (mask != 0).then_some(Masked { source, mask, shift })
        }
    }
}

/// `width` bytes at `offset` behind the header whose length `base` computes, as `ldxb 4*([14]&0xf)` does.
fn indirect(graph: &Graph, base: ValueId, offset: u32, width: u8) -> Option<Source> {
    let Value::Alu { operator: AluOperator::ShiftLeft, a, b } = graph.value(base) else { return None };
    let Value::Alu { operator: AluOperator::And, a: byte, b: nibble } = graph.value(a) else { return None };
    let Value::Load { width: Width::Byte, offset: base } = graph.value(byte) else { return None };
    let is_header_len = (graph.as_constant(b), graph.as_constant(nibble)) == (Some(2), Some(0xf));
    // Beyond 2^31 the sum of header length and offset could wrap.
    (is_header_len && offset < 1 << 31).then_some(Source::Indirect { base, offset, width })
}

fn bytes(width: Width) -> u8 {
    match width {
        Width::Byte => 1,
        Width::Half => 2,
        Width::Word => 4,
    }
}

/// The field that `condition` compares, and the values for which the answer is yes.
fn comparison(graph: &Graph, test: Test, a: ValueId, b: ValueId) -> Option<(Field, ValueSet)> {
    let (Masked { source, mask, shift }, k) = (masked(graph, a)?, graph.as_constant(b)?);
    Some(match test {
        Test::Equal => range_test(source, mask, shift, k, k),
        Test::Greater => range_test(source, mask, shift, k.checked_add(1)?, u32::MAX),
        Test::GreaterOrEqual => range_test(source, mask, shift, k, u32::MAX),
        Test::AnyBit => {
            match mask & u32::try_from(u64::from(k) << shift & 0xffff_ffff).expect("masked to 32 bits") {
                0 => (Field { source, mask: source.max() }, ValueSet::empty()),
                mask => range_test(source, mask, 0, 1, u32::MAX),
            }
        }
    })
}

/// The fact that an answer states. Fields are given by number.
#[derive(Clone, PartialEq, Eq)]
enum Fact {
    Has(Source),
    In {
        field: usize,
        values: ValueSet,
    },
    /// It is not this value, but one of several others.
    Not {
        field: usize,
        value: u32,
    },
}

/// The question of a node.
struct Step {
    /// The fact that the answer yes states.
    yes: Fact,
    /// The fact that the answer no states; `None` if no rejects, as it does for packets too short for a load.
    no: Option<Fact>,
    then: NodeId,
    otherwise: NodeId,
    /// Several nodes lead here.
    is_joint: bool,
}

impl Step {
    /// Makes a step that asks whether the value of the field, whose bits are `mask`, is among `values`.
    fn compare(field: usize, mask: u32, values: ValueSet, then: NodeId, otherwise: NodeId) -> Self {
        let others = values.complement(mask);
        let no = match values.single() {
            Some(value) if others.len() > 1 => Fact::Not { field, value },
            _ => Fact::In { field, values: others },
        };
        Step { yes: Fact::In { field, values }, no: Some(no), then, otherwise, is_joint: false }
    }
}

/// A program's graph in terms of fields.
struct Questions {
    root: NodeId,
    /// The step of each node, by its number; `None` for ends.
    steps: Vec<Option<Step>>,
    fields: Vec<Field>,
    /// For each field the number of that which is the whole value, if some question asks for it and this one is a part.
    wholes: Vec<Option<usize>>,
}

impl Questions {
    fn of(program: &Program) -> Result<Self, NotIndexable> {
        let mut graph = Graph::new();
        let root = graph.add(program).map_err(|_| NotIndexable)?;
        let nodes: Vec<(NodeId, Condition, NodeId, NodeId)> = graph
            .in_order(root)
            .into_iter()
            .filter_map(|id| match graph.node(id) {
                Node::Branch { condition, then, otherwise } => Some((id, condition, then, otherwise)),
                Node::Reject | Node::Accept => None,
            })
            .collect();
        let mut asked: Vec<Option<(Field, ValueSet)>> = Vec::with_capacity(nodes.len());
        for &(_, condition, ..) in &nodes {
            asked.push(match condition {
                Condition::Compare { test, a, b } => {
                    Some(comparison(&graph, test, a, b).ok_or(NotIndexable)?)
                }
                Condition::Captured { .. } | Condition::CapturedAt { .. } => None,
            });
        }
        let mut fields: Vec<Field> = asked.iter().flatten().map(|test| test.0).collect();
        fields.sort_unstable();
        fields.dedup();
        let number = |field: &Field| fields.binary_search(field).ok();
        let whole = |field: &Field| Field { source: field.source, mask: field.source.max() };
        let wholes =
            fields.iter().map(|field| number(&whole(field)).filter(|_| *field != whole(field))).collect();
        let mut steps: Vec<Option<Step>> = (0..graph.node_count()).map(|_| None).collect();
        for ((id, condition, then, otherwise), asked) in nodes.into_iter().zip(asked).rev() {
            steps[id.index()] = Some(match asked {
                Some((field, values)) => {
                    let field = number(&field).expect("collected above");
                    // `proto 6 or 17`: values that lead to the same place are asked for at once
                    match steps[otherwise.index()].as_ref() {
                        Some(Step {
                            yes: Fact::In { field: next, values: more },
                            then: same,
                            otherwise,
                            ..
                        }) if (*next, *same) == (field, then) => {
                            Step::compare(field, fields[field].mask, values.union(more), then, *otherwise)
                        }
                        _ => Step::compare(field, fields[field].mask, values, then, otherwise),
                    }
                }
                None if otherwise != NodeId::REJECT => return Err(NotIndexable),
                None => {
                    let yes = Fact::Has(reaching(&graph, condition, &fields).ok_or(NotIndexable)?);
                    Step { yes, no: None, then, otherwise, is_joint: false }
                }
            });
        }
        let mut ways_to = vec![0usize; steps.len()];
        let mut waiting = vec![root];
        while let Some(node) = waiting.pop() {
            ways_to[node.index()] += 1;
            if let (1, Some(Step { then, otherwise, .. })) = (ways_to[node.index()], &steps[node.index()]) {
                waiting.extend([*then, *otherwise]);
            }
        }
        steps
            .iter_mut()
            .zip(ways_to)
            .for_each(|(step, ways)| step.iter_mut().for_each(|step| step.is_joint = ways > 1));
        Ok(Self { root, steps, fields, wholes })
    }
}

/// Gives a source that every packet has which answers a question for captured bytes with yes: one of `fields` that ends there, else
/// the last byte.
fn reaching(graph: &Graph, condition: Condition, fields: &[Field]) -> Option<Source> {
    let last = |end: u64| u32::try_from(end.checked_sub(1)?).ok();
    let byte = match condition {
        Condition::Captured { end } => Source::Absolute { offset: last(end)?, width: 1 },
        Condition::CapturedAt { base, end } => indirect(graph, base, last(end)?, 1)?,
        Condition::Compare { .. } => return None,
    };
    let is_same = |source: Source| source.implies(byte) && byte.implies(source);
    Some(fields.iter().map(|field| field.source).find(|&source| is_same(source)).unwrap_or(byte))
}

/// An answer on the way.
struct Answer {
    node: NodeId,
    fact: Fact,
}

/// The facts that are known of a packet on the way.
struct Known<'q> {
    questions: &'q Questions,
    answers: Vec<Answer>,
    /// So many answers are of the whole search: nobody has to be told of them.
    given: usize,
    /// Places of answers that it has a source.
    has: Vec<usize>,
    /// For each field: the places of answers that say which values it can have, and the values that are left after each.
    values: Vec<Vec<(usize, ValueSet)>>,
    /// For each field: the places of answers that exclude a value, and that value.
    excluded: Vec<Vec<(usize, u32)>>,
    /// The same by field and value.
    places: Table<(usize, u32), usize>,
}

/// Which answers on the way something needs.
#[derive(Clone, Copy, Default)]
struct Needs {
    /// All up to here.
    all: usize,
    /// And some, by place.
    some: [u64; NUMBERED / 64],
}

/// Answers that can be told one by one: so far on it is seldom that something is met again.
const NUMBERED: usize = 256;

impl Needs {
    fn of(places: impl IntoIterator<Item = usize>) -> Self {
        let mut needs = Self::default();
        places.into_iter().for_each(|place| needs.add_place(place));
        needs
    }

    fn add(&mut self, others: Self) {
        self.all = self.all.max(others.all);
        self.some.iter_mut().zip(others.some).for_each(|(some, others)| *some |= others);
    }

    fn add_place(&mut self, place: usize) {
        match self.some.get_mut(place / 64) {
            Some(some) => *some |= 1 << (place % 64),
            None => self.all = self.all.max(place + 1),
        }
    }

    /// Keeps only needs of the first `answers` answers: what has to be known before the later ones are given.
    fn before(mut self, answers: usize) -> Self {
        self.all = self.all.min(answers);
        self.some.iter_mut().zip(0..).for_each(|(some, word)| *some &= first_bits(answers, word));
        self
    }

    /// Keeps only needs of answers that are not among the first `answers`.
    fn since(mut self, answers: usize) -> Self {
        if self.all <= answers {
            self.all = 0;
        }
        self.some.iter_mut().zip(0..).for_each(|(some, word)| *some &= !first_bits(answers, word));
        self
    }

    /// Gives the places of the answers that are needed one by one, the last first.
    fn places(&self) -> impl Iterator<Item = usize> {
        self.some.iter().enumerate().rev().flat_map(|(word, &some)| {
            let mut left = some;
            std::iter::from_fn(move || {
                let last = 63usize.checked_sub(left.leading_zeros() as usize)?;
                left &= !(1 << last);
                Some(word * 64 + last)
            })
        })
    }

    /// The number of answers that are needed one by one.
    fn count(&self) -> u32 {
        self.some.iter().map(|some| some.count_ones()).sum()
    }
}

/// Bits of word `word` of a set of numbers that stand for numbers below `count`.
fn first_bits(count: usize, word: usize) -> u64 {
    match count.saturating_sub(word * 64) {
        bits @ 0..64 => (1 << bits) - 1,
        _ => u64::MAX,
    }
}

impl<'q> Known<'q> {
    fn nothing(questions: &'q Questions) -> Self {
        let count = questions.fields.len();
        let (answers, has, places) = Default::default();
        Self {
            questions,
            answers,
            given: 0,
            has,
            values: vec![Vec::new(); count],
            excluded: vec![Vec::new(); count],
            places,
        }
    }

    fn learn(&mut self, node: NodeId, fact: Fact) {
        let place = self.answers.len();
        match &fact {
            Fact::Has(_) => self.has.push(place),
            Fact::In { field, values } => {
                let before = self.values[*field].last();
                let values = before.map_or_else(|| values.clone(), |before| before.1.intersection(values));
                self.values[*field].push((place, values));
            }
            &Fact::Not { field, value } => {
                self.excluded[field].push((place, value));
                self.places.insert((field, value), place);
            }
        }
        self.answers.push(Answer { node, fact });
    }

    /// Forgets the last answer.
    fn forget(&mut self) {
        match self.answers.pop().map(|answer| answer.fact) {
            Some(Fact::Has(_)) => drop(self.has.pop()),
            Some(Fact::In { field, .. }) => drop(self.values[field].pop()),
            Some(Fact::Not { field, value }) => {
                self.excluded[field].pop();
                self.places.remove(&(field, value));
            }
            None => {}
        }
    }

    /// Returns whether `fact` is true, if that is known.
    fn holds(&self, fact: &Fact) -> Option<bool> {
        match fact {
            Fact::Has(source) => self.has(*source).map(|_| true),
            Fact::In { field, values } => self.is_in(*field, values.ranges()),
            Fact::Not { field, value } => Some(!self.is(*field, *value)?),
        }
    }

    /// The place of the answer which says that the packet has `source`.
    fn has(&self, source: Source) -> Option<usize> {
        let says = |&&place: &&usize| matches!(self.answers[place].fact, Fact::Has(known) if known.implies(source));
        self.has.iter().find(says).copied()
    }

    fn is(&self, field: usize, value: u32) -> Option<bool> {
        if self.places.contains_key(&(field, value)) {
            Some(false)
        } else {
            self.is_in(field, &[(value, value)])
        }
    }

    /// Returns whether the field's value is among `wanted`, if that is known.
    fn is_in(&self, field: usize, wanted: &[(u32, u32)]) -> Option<bool> {
        if let Some(value) = single(wanted)
            && self.places.contains_key(&(field, value))
        {
            return Some(false);
        }
        let own = self.values[field].last().and_then(|(_, values)| values.lies_in(wanted));
        own.or_else(|| self.left(field, wanted)?.lies_in(wanted))
            // a value that is known as a whole tells its parts
            .or_else(|| {
                let value = self.whole(field)?.1 & self.questions.fields[field].mask;
                Some(wanted.iter().any(|&(low, high)| low <= value && value <= high))
            })
    }

    /// The values that the field can have, where those that it does not have may matter for whether they are among `wanted`.
    fn left(&self, field: usize, wanted: &[(u32, u32)]) -> Option<ValueSet> {
        let excluded = &self.excluded[field];
        let mask = self.questions.fields[field].mask;
        let count = self.values[field].last().map_or(u64::from(mask) + 1, |entry| entry.1.len());
        let may_matter =
            !excluded.is_empty() && (single(wanted).is_none() || count <= excluded.len() as u64 + 1);
        may_matter.then(|| {
            let all = ValueSet::range(0, mask);
            let values = self.values[field].last().map_or(&all, |entry| &entry.1);
            without(values, excluded.iter().map(|entry| entry.1))
        })
    }

    /// The number of the field which is the whole of `field`, and its value, if there is but one.
    fn whole(&self, field: usize) -> Option<(usize, u32)> {
        let whole = self.questions.wholes[field]?;
        Some((whole, self.values[whole].last()?.1.single()?))
    }

    /// Adds the places of the answers from which `holds` has its own.
    fn why(&self, fact: &Fact, needs: &mut Needs) {
        match fact {
            Fact::Has(source) => needs.add(Needs::of(self.has(*source))),
            Fact::In { field, values } => self.why_in(*field, values.ranges(), needs),
            Fact::Not { field, value } => self.why_in(*field, &[(*value, *value)], needs),
        }
    }

    fn why_in(&self, field: usize, wanted: &[(u32, u32)], needs: &mut Needs) {
        if let Some(&place) = single(wanted).and_then(|value| self.places.get(&(field, value))) {
            needs.add_place(place);
        } else if self.add_first(field, |values| values.lies_in(wanted).is_some(), needs) {
        } else if self.left(field, wanted).is_some_and(|values| values.lies_in(wanted).is_some()) {
            needs.add(Needs::of(self.values[field].iter().map(|entry| entry.0)));
            needs.add(Needs::of(self.excluded[field].iter().map(|entry| entry.0)));
        } else if let Some((whole, _)) = self.whole(field) {
            self.add_first(whole, |values| values.single().is_some(), needs);
        }
    }

    /// Adds the places of the first answers about `field` after which its values are as `is_enough` says; whether there are.
    fn add_first(&self, field: usize, is_enough: impl Fn(&ValueSet) -> bool, needs: &mut Needs) -> bool {
        let stack = &self.values[field];
        let at = stack.partition_point(|(_, values)| !is_enough(values));
        let Some(&(place, _)) = stack.get(at) else { return false };
        match &self.answers[place].fact {
            Fact::In { values, .. } if is_enough(values) => needs.add_place(place),
            _ => needs.add(Needs::of(stack[..=at].iter().map(|entry| entry.0))),
        }
        true
    }

    /// Returns whether all of `claim` is known.
    fn entails(&self, claim: &[Fact]) -> bool {
        claim.iter().all(|fact| self.holds(fact) == Some(true))
    }

    /// Gives the facts of the answers that are needed, the last ones first, as those are the least often known. It gives `None` if
    /// they are so many that they would hardly be met again.
    fn claim(&self, needs: Needs) -> Option<Vec<Fact>> {
        let needs = needs.since(self.given);
        let is_told = needs.all == 0 && needs.count() <= MOST_FACTS;
        is_told.then(|| needs.places().map(|place| self.answers[place].fact.clone()).collect())
    }
}

/// The value of ranges that hold just one.
fn single(ranges: &[(u32, u32)]) -> Option<u32> {
    match *ranges {
        [(low, high)] if low == high => Some(low),
        _ => None,
    }
}

/// `values` but for some.
fn without(values: &ValueSet, excluded: impl Iterator<Item = u32>) -> ValueSet {
    let excluded = ValueSet::from_ranges(excluded.map(|value| (value, value)).collect());
    values.intersection(&excluded.complement(u32::MAX))
}

/// Claims about acceptance, by the value of the widest field of which they ask for one.
#[derive(Default)]
struct Accepted(Table<Option<(usize, u32)>, Vec<Vec<Fact>>>);

impl Accepted {
    fn add(&mut self, questions: &Questions, claim: Vec<Fact>) {
        let values = claim.iter().filter_map(|fact| match fact {
            Fact::In { field, values } => Some((*field, values.single()?)),
            Fact::Has(_) | Fact::Not { .. } => None,
        });
        let key = values.max_by_key(|&(field, _)| questions.fields[field].mask);
        self.0.entry(key).or_default().push(claim);
    }

    /// One that is known.
    fn find(&self, known: &Known<'_>) -> Option<&Vec<Fact>> {
        let singles = known
            .values
            .iter()
            .enumerate()
            .filter_map(|(field, stack)| Some((field, stack.last()?.1.single()?)));
        let keys = singles.map(Some).chain([None]);
        keys.filter_map(|key| self.0.get(&key)).flatten().find(|claim| known.entails(claim))
    }
}

/// Why a search ended before it was through.
enum End {
    Refuted,
    OutOfSteps,
}

/// A node on the way.
struct Place {
    node: NodeId,
    /// Answers before it.
    answers: usize,
    /// Which of those are needed for what was found behind it.
    needs: Needs,
    /// The node that the answer yes leads to, if it was not tried yet.
    then: Option<NodeId>,
}

/// The purpose of a search.
trait Purpose {
    /// Is called at acceptance. Gives what makes it needless to come there again: answers on the way, by place, and perhaps a claim
    /// that is not of the way.
    fn accept(
        &mut self,
        known: &Known<'_>,
        steps_left: &mut usize,
    ) -> Result<(Needs, Option<Vec<Fact>>), End>;

    /// Is called at rejection.
    fn reject(&mut self) -> Result<(), End>;

    /// Is called at a question for a source that is not known to be there. Packets without it are rejected; the search goes on with
    /// the others.
    fn need(&mut self, source: &Fact);
}

/// Goes all ways on which `known` grows, each part of the graph once for the answers that matter there.
fn search(known: &mut Known<'_>, purpose: &mut impl Purpose, steps_left: &mut usize) -> Result<(), End> {
    let mut node = known.questions.root;
    let claims = vec![Vec::new(); known.questions.steps.len()];
    let mut search = Search { known, claims, accepted: Accepted::default(), way: Vec::new() };
    loop {
        let needs = search.forward(node, purpose, steps_left)?;
        match search.back(needs) {
            Some(next) => node = next,
            None => return Ok(()),
        }
    }
}

/// A search under way.
struct Search<'s, 'q> {
    known: &'s mut Known<'q>,
    /// The claims of each node, by its number: facts that make it needless to go on from there, because the search did so before.
    claims: Vec<Vec<Vec<Fact>>>,
    /// The claims that make it needless to come to acceptance.
    accepted: Accepted,
    /// The nodes from the root to where the search is.
    way: Vec<Place>,
}

impl<'q> Search<'_, 'q> {
    /// Goes on from `node` to an end, or to a node behind which nothing new is found. Gives the answers on the way that make it so.
    fn forward(
        &mut self,
        mut node: NodeId,
        purpose: &mut impl Purpose,
        steps_left: &mut usize,
    ) -> Result<Needs, End> {
        let questions = self.known.questions;
        loop {
            *steps_left = steps_left.checked_sub(1).ok_or(End::OutOfSteps)?;
            let step = questions.steps[node.index()].as_ref();
            if let Some(claim) = self.claim_at(node, step) {
                let mut needs = Needs::default();
                claim.iter().for_each(|fact| self.known.why(fact, &mut needs));
                return Ok(needs);
            }
            let Some(step) = step else { return self.end(node, purpose, steps_left) };
            node = self.answer(node, step, purpose);
        }
    }

    /// Gives a claim that holds and makes it needless to go on from `node`.
    fn claim_at(&self, node: NodeId, step: Option<&Step>) -> Option<&Vec<Fact>> {
        match step {
            Some(step) if step.is_joint => {
                self.claims[node.index()].iter().rev().find(|claim| self.known.entails(claim))
            }
            Some(_) => None,
            None => self.accepted.find(self.known).filter(|_| node == NodeId::ACCEPT),
        }
    }

    /// Comes to an end of the program. Gives the answers for which it need not be come to again.
    fn end(
        &mut self,
        node: NodeId,
        purpose: &mut impl Purpose,
        steps_left: &mut usize,
    ) -> Result<Needs, End> {
        if node == NodeId::REJECT {
            purpose.reject()?;
            return Ok(Needs::default());
        }
        let (needs, beside) = purpose.accept(self.known, steps_left)?;
        for claim in beside.into_iter().chain(self.known.claim(needs)) {
            self.accepted.add(self.known.questions, claim);
        }
        Ok(needs)
    }

    /// Answers what `node` asks, by what is known or else with no. Gives where the answer leads.
    fn answer(&mut self, node: NodeId, step: &'q Step, purpose: &mut impl Purpose) -> NodeId {
        let Step { yes, no, then, otherwise, .. } = step;
        let known = &mut *self.known;
        let mut place = Place { node, answers: known.answers.len(), needs: Needs::default(), then: None };
        let next = match (known.holds(yes), no) {
            (Some(answer), _) => {
                known.why(yes, &mut place.needs);
                if answer { *then } else { *otherwise }
            }
            (None, None) => {
                purpose.need(yes);
                known.learn(node, yes.clone());
                *then
            }
            (None, Some(no)) => {
                // no comes first: it tells less
                place.then = Some(*then);
                known.learn(node, no.clone());
                *otherwise
            }
        };
        self.way.push(place);
        next
    }

    /// Goes back to the last node that was not answered yes, and gives where that answer leads; `None` where all ways were gone.
    /// `needs` are the answers that what was found needs.
    fn back(&mut self, mut needs: Needs) -> Option<NodeId> {
        loop {
            let place = self.way.last_mut()?;
            // its own answer is not needed: both were tried
            place.needs.add(needs.before(place.answers));
            if self.known.answers.len() > place.answers {
                self.known.forget();
            }
            let Some(Step { yes, is_joint, .. }) = &self.known.questions.steps[place.node.index()] else {
                unreachable!("ends are not on the way")
            };
            if let Some(then) = place.then.take() {
                self.known.learn(place.node, yes.clone());
                return Some(then);
            }
            needs = place.needs;
            if *is_joint && let Some(claim) = self.known.claim(needs) {
                let claims = &mut self.claims[place.node.index()];
                if claims.len() == MOST_CLAIMS {
                    claims.remove(0);
                }
                claims.push(claim);
            }
            self.way.pop();
        }
    }
}

/// The paths whose union is exactly what `program` accepts. They may overlap.
/// # Errors
/// Fails if the program is no decision over fields (loads at computed offsets, arithmetic), or has too many ways.
pub(super) fn paths(program: &Program) -> Result<Vec<Path>, NotIndexable> {
    let questions = Questions::of(program)?;
    let mut steps_left = LEAST_STEPS + STEPS_A_NODE * questions.steps.len();
    let mut ways = Ways { paths: Vec::new(), essential: Vec::new() };
    search(&mut Known::nothing(&questions), &mut ways, &mut steps_left).map_err(|_| NotIndexable)?;
    let mut paths = ways.paths;
    merge(&mut paths);
    if paths.len() > MAX_PATHS { Err(NotIndexable) } else { Ok(paths) }
}

/// Looks for the accepting ways.
struct Ways {
    paths: Vec<Path>,
    /// Nodes whose wide answer was found to be needed.
    essential: Vec<NodeId>,
}

impl Purpose for Ways {
    fn accept(
        &mut self,
        known: &Known<'_>,
        steps_left: &mut usize,
    ) -> Result<(Needs, Option<Vec<Fact>>), End> {
        let count = known.answers.len();
        let (places, beside) = self.least(known, steps_left)?;
        if let Some(facts) = &beside {
            self.paths.push(path(known.questions, facts.iter()));
        }
        self.paths.push(path(known.questions, places.iter().map(|&place| &known.answers[place].fact)));
        let needs = if places.len() == count && beside.is_some() {
            Needs { all: count, ..Needs::default() }
        } else {
            Needs::of(places)
        };
        if self.paths.len() > MAX_WAYS { Err(End::OutOfSteps) } else { Ok((needs, beside)) }
    }

    fn reject(&mut self) -> Result<(), End> {
        Ok(())
    }

    fn need(&mut self, _: &Fact) {}
}

impl Ways {
    /// Gives the places of as few answers as suffice for acceptance. `dst A` of `host A` is reached if `src` is not A, but packets
    /// from A to A are accepted as well. Without such answers most paths are plain conjunctions.
    ///
    /// If that holds only for packets that have more than this way asks for, a claim beside it describes them: the port of a second
    /// host is looked at before the other port only for packets that are not of the first host.
    fn least(
        &mut self,
        known: &Known<'_>,
        steps_left: &mut usize,
    ) -> Result<(Vec<usize>, Option<Vec<Fact>>), End> {
        let answers = &known.answers;
        let all: Vec<usize> = (0..answers.len()).collect();
        let is_wide = |place: usize| match &answers[place].fact {
            Fact::Has(_) => false,
            Fact::In { field, values } => {
                values.len() > u64::from(known.questions.fields[*field].mask) / 2 + 1
            }
            Fact::Not { .. } => true,
        };
        let may_go = |essential: &[NodeId], place: usize| {
            is_wide(place) && !essential.contains(&answers[place].node)
        };
        let few: Vec<usize> =
            all.iter().copied().filter(|&place| !may_go(&self.essential, place)).collect();
        if few.len() == all.len() {
            return Ok((all, None));
        }
        match what_more(known, &few, steps_left)? {
            Some(more) if more.is_empty() => return Ok((few, None)),
            Some(more) => {
                let facts = more
                    .into_iter()
                    .chain(few.iter().rev().map(|&place| answers[place].fact.clone()))
                    .collect();
                return Ok((all, Some(facts)));
            }
            None => {}
        }
        let mut left = all.clone();
        for place in all {
            if may_go(&self.essential, place) {
                let without: Vec<usize> = left.iter().copied().filter(|&other| other != place).collect();
                if what_more(known, &without, steps_left)?.is_some_and(|more| more.is_empty()) {
                    left = without;
                } else {
                    self.essential.push(answers[place].node);
                }
            }
        }
        Ok((left, None))
    }
}

/// Which sources packets must have, beside what the answers at `places` say of them, to be surely accepted, if that is all they need.
fn what_more(
    known: &Known<'_>,
    places: &[usize],
    steps_left: &mut usize,
) -> Result<Option<Vec<Fact>>, End> {
    let mut some = Known::nothing(known.questions);
    for &place in places {
        let Answer { node, fact } = &known.answers[place];
        some.learn(*node, fact.clone());
    }
    some.given = places.len();
    let mut sure = Sure(Vec::new());
    match search(&mut some, &mut sure, steps_left) {
        Ok(()) => Ok(Some(sure.0)),
        Err(End::Refuted) => Ok(None),
        Err(end) => Err(end),
    }
}

/// Looks for a way on which packets are rejected that have all sources that they are asked for; those are gathered.
struct Sure(Vec<Fact>);

impl Purpose for Sure {
    fn accept(&mut self, _: &Known<'_>, _: &mut usize) -> Result<(Needs, Option<Vec<Fact>>), End> {
        Ok((Needs::default(), None))
    }

    fn reject(&mut self) -> Result<(), End> {
        Err(End::Refuted)
    }

    fn need(&mut self, source: &Fact) {
        if !self.0.contains(source) {
            self.0.push(source.clone());
        }
    }
}

/// The packets of which `facts` are true.
fn path<'f>(questions: &Questions, facts: impl Iterator<Item = &'f Fact>) -> Path {
    let mut path = Path { tests: Vec::new() };
    let mut excluded = Vec::new();
    for fact in facts {
        match *fact {
            Fact::Has(source) => {
                path.set(Field { source, mask: source.max() }, ValueSet::range(0, source.max()))
            }
            Fact::In { field, ref values } => path.set(questions.fields[field], values.clone()),
            Fact::Not { field, value } => excluded.push((field, value)),
        }
    }
    excluded.sort_unstable();
    for excluded in excluded.chunk_by(|one, other| one.0 == other.0) {
        let field = questions.fields[excluded[0].0];
        path.set(field, without(&ValueSet::range(0, field.mask), excluded.iter().map(|entry| entry.1)));
    }
    path.drop_implied();
    path
}

/// Joins paths that differ in the values of one field only, and removes repeated ones.
fn merge(paths: &mut Vec<Path>) {
    let mut left: Vec<Option<Path>> = std::mem::take(paths).into_iter().map(Some).collect();
    // paths by all their tests but the values of one, the field of which stands first
    let mut alike: Table<(Field, Path), usize> = Table::default();
    let mut waiting: Vec<usize> = (0..left.len()).rev().collect();
    while let Some(at) = waiting.pop() {
        let Some(path) = left[at].clone() else { continue };
        let keys: Vec<(Field, Path)> = (0..path.tests.len()).map(|test| but_for(&path, test)).collect();
        let other = keys.iter().enumerate().find_map(|(test, key)| {
            let other = alike.get(key).copied().filter(|&other| other != at)?;
            let joined = join(&path, left[other].as_ref()?, test)?;
            Some((other, joined))
        });
        match other {
            // what was joined may in turn join another
            Some((other, joined)) => {
                left[at] = None;
                left[other] = Some(joined);
                waiting.push(other);
            }
            None => alike.extend(keys.into_iter().map(|key| (key, at))),
        }
    }
    paths.extend(left.into_iter().flatten());
}

/// The path but for the values of one of its tests, of which only the field is kept.
fn but_for(path: &Path, test: usize) -> (Field, Path) {
    let mut rest = path.clone();
    (rest.tests.remove(test).0, rest)
}

/// The two as one, if they differ in the values of that test only.
fn join(one: &Path, other: &Path, test: usize) -> Option<Path> {
    if test >= other.tests.len() || but_for(one, test) != but_for(other, test) {
        return None;
    }
    let mut path = one.clone();
    path.tests[test].1 = one.tests[test].1.union(&other.tests[test].1);
    path.drop_implied();
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile;

    #[test]
    fn the_paths_of_alternatives_are_as_many_as_they_are() {
        let paths = |text: &str, count: usize| {
            let one = |index: usize| {
                text.replace("%h", &format!("10.0.0.{index}")).replace("%p", &(index + 1).to_string())
            };
            let text: Vec<String> = (0..count).map(one).collect();
            paths(&compile(&text.join(" or ")).expect("a valid expression")).map(|paths| paths.len())
        };
        for count in [1, 4, 16, 64] {
            assert_eq!(paths("(src host %h and tcp dst port %p)", count), Ok(count), "of {count}");
            // either address and either port, and from the second on two for packets cut between the ports, of which only the first
            // port is looked at
            assert_eq!(paths("(host %h and port %p)", count), Ok(6 * count - 2), "of {count}");
            // what differs in one field only is one path: either port, over either version of IP
            assert_eq!(paths("port %p", count), Ok(4), "of {count}");
        }
    }

    #[test]
    fn what_is_needed_is_not_dropped() {
        let of = |text: &str| paths(&compile(text).expect("a valid expression")).expect("tests on fields");
        let type_field = Field { source: Source::Absolute { offset: 12, width: 2 }, mask: 0xffff };
        let not_ip = ValueSet::range(0x800, 0x800).complement(0xffff);
        assert_eq!(of("not ip"), [Path { tests: vec![(type_field, not_ip)] }]);
    }
}
