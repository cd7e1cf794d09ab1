//! All rules at once: finds the rules that a packet matches in a time that hardly depends on how many there are.
//!
//! It stands beside the native code of `filter`: rules whose programs are decisions over fields of the packet go into an index, the
//! others are left to native code. The index is made from libpcap's programs and so has their meaning in every bit: each accepting
//! way through a program is a conjunction of tests on fields (`path`), the paths of all rules are dispatched by the headers they
//! ask for (`Branch`), and what then remains, mostly addresses and ports, is looked up: leaf by leaf (`leaf`), or for all leaves at
//! once where two fields tell paths apart (`pairs`).

/// Value -> class: which tests of one field a value passes.
mod classes;
/// Fields of a packet, and sets of their values.
mod field;
/// Tests what is left once the headers are known.
mod leaf;
/// The tests of a path that are left to a leaf.
mod leaf_path;
/// Fields read from the packets of a group.
mod load;
/// Two fields looked up together.
mod pairs;
/// Programs as conjunctions of tests on fields.
mod path;
/// Sets of prefixes.
mod prefixes;

use self::classes::starts;
use self::field::{Field, Source, ValueSet};
use self::leaf::{Leaf, MAX_FIELDS, Scratch};
use self::leaf_path::LeafPath;
use self::load::{Load, Word};
use self::pairs::{PairTable, Pairs};
pub use self::prefixes::{Direction, PrefixSet};
use super::bpf::verify::Program;
use super::native::graph::Table;
use tapline_packet::burst::{MAX_BURST, Selection, Touched};
use tapline_packet::frame::Frame;

/// Many filters as one structure; immutable, shared by all workers.
pub struct Index {
    /// A branch leads to later branches and to leaves only. Packets start at the first, or at the first leaf where there is none.
    branches: Vec<Branch>,
    /// One for each branch, then one for each leaf, which leads to itself.
    steps: Vec<Step>,
    /// The targets of all steps.
    targets: Vec<Node>,
    /// Steps after which every packet is at its leaf.
    depth: usize,
    leaves: Vec<Leaf>,
    /// Something is looked up in some leaf.
    has_leaves: bool,
    /// The tables in which packets of all leaves are looked up together.
    pairs: Pairs,
}

/// Number of a branch, or of a leaf, counted on from the branches.
type Node = u16;

/// A field of the headers whose value decides which tests remain: ethertype, protocol, fragment offset.
struct Branch {
    load: Load,
    /// The node at which packets go on that do not have the field.
    absent: Node,
}

/// A branch as it is taken without jumps by packets that surely have its field.
struct Step {
    word: Word,
    /// The place among the targets at which the target of the value 0 stands; those of the other values follow.
    targets: u32,
}

/// Classes of values that a branch's field may have.
const MAX_BRANCH_CLASSES: usize = 8;
/// Leaves at which the packets of a burst are brought together at most.
const MAX_GROUPED: usize = 64;
/// Steps that are taken without jumps at most.
const MAX_DEPTH: usize = 8;
/// Bytes in which the first headers stand of a packet that was not cut: the shortest of Ethernet.
const HEAD: usize = 60;
/// Branches and leaves at most.
const MAX_NODES: usize = 4096;

impl Index {
    /// Builds the index of `rules`; rule `i` is the program `rules[i]`.
    ///
    /// Also gives the rules that cannot be indexed, ascending: the index never selects for them, the caller evaluates them.
    pub fn build(rules: &[&Program]) -> (Index, Vec<usize>) {
        let rows: Vec<u32> = (0u32..).take(rules.len()).collect();
        Self::build_rows(rules, &rows)
    }

    /// As `build`, where several programs may stand for one rule: program `i` selects for rule `rows[i]`, which matches where any
    /// of its programs does. The second value holds the numbers of programs, not of rules.
    ///
    /// # Panics
    /// If `programs` and `rows` differ in length.
    pub fn build_rows(programs: &[&Program], rows: &[u32]) -> (Index, Vec<usize>) {
        assert_eq!(programs.len(), rows.len(), "each program selects for one rule");
        let mut residual = Vec::new();
        let mut indexed = Vec::new();
        for (number, program) in programs.iter().enumerate() {
            match path::paths(program) {
                Ok(paths) => indexed.extend(paths.into_iter().map(|path| (number, path))),
                Err(path::NotIndexable) => residual.push(number),
            }
        }
        // Programs whose fields do not fit beside the others' are left out until all fit.
        loop {
            match Builder::new(&indexed, rows).build() {
                Ok(index) => {
                    residual.sort_unstable();
                    residual.dedup();
                    return (index, residual);
                }
                Err(LeftOut(programs)) => {
                    indexed.retain(|(number, _)| programs.binary_search(number).is_err());
                    residual.extend(programs);
                }
            }
        }
    }

    /// Adds to `selections` (one a rule) the packets of `frames` that the rule matches, and to `touched` each rule that got any.
    ///
    /// # Panics
    /// If there are more than 64 frames, or fewer selections than rules.
    pub fn select(&self, frames: &[Frame<'_>], selections: &mut [Selection], touched: &mut Touched) {
        assert!(frames.len() <= MAX_BURST);
        let mut on_row = |packet: u8, row: u32| {
            selections[row as usize].insert(packet.into());
            touched.mark(row as usize);
        };
        let leaves = self.find_leaves(frames);
        self.pairs.matches(frames, &leaves, &mut on_row);
        if !self.has_leaves {
            return;
        }
        if self.leaves.len() <= MAX_GROUPED {
            self.select_by_leaf(frames, &leaves, on_row);
        } else {
            self.select_one_by_one(frames, &leaves, on_row);
        }
    }

    /// Brings packets of the same headers together, so that their fields are read and looked up side by side.
    #[inline(always)]
    fn select_by_leaf(
        &self,
        frames: &[Frame<'_>],
        leaves: &[Node; MAX_BURST],
        mut on_row: impl FnMut(u8, u32),
    ) {
        let mut scratch = Scratch::default();
        let mut at_leaf = [Selection::NONE; MAX_GROUPED];
        for (packet, &leaf) in leaves.iter().enumerate().take(frames.len()) {
            at_leaf[usize::from(leaf) % MAX_GROUPED].insert(packet);
        }
        for (leaf, &packets) in self.leaves.iter().zip(&at_leaf) {
            if packets.is_empty() || leaf.is_empty() {
                continue;
            }
            leaf.matches(frames, packets, &mut scratch, &mut on_row);
        }
    }

    /// For so many leaves that few packets would meet in one.
    fn select_one_by_one(
        &self,
        frames: &[Frame<'_>],
        leaves: &[Node; MAX_BURST],
        mut on_row: impl FnMut(u8, u32),
    ) {
        let mut scratch = Scratch::default();
        for (packet, &leaf) in leaves.iter().enumerate().take(frames.len()) {
            self.leaves[usize::from(leaf)].matches(
                frames,
                Selection::only(packet),
                &mut scratch,
                &mut on_row,
            );
        }
    }

    /// The leaves that the packets come to.
    ///
    /// Which headers the next packet has cannot be foreseen, so all packets take as many steps, without a jump among them.
    #[inline(never)]
    fn find_leaves(&self, frames: &[Frame<'_>]) -> [Node; MAX_BURST] {
        let mut nodes = [0; MAX_BURST];
        let Some(first) = self.steps.first() else {
            return nodes;
        };
        let (steps, targets) = (&self.steps[..], &self.targets[..]);
        // All packets take a step before the next one, as each of a packet's waits for the one before.
        let mut heads = [&[0; HEAD]; MAX_BURST];
        let mut short = if self.depth > MAX_DEPTH { Selection::first(frames.len()).bits() } else { 0 };
        for (packet, ((node, head), frame)) in nodes.iter_mut().zip(&mut heads).zip(frames).enumerate() {
            match frame.bytes().first_chunk() {
                Some(bytes) => *head = bytes,
                None => short |= 1 << packet,
            }
            match first.word.read(*head, 0) {
                Some(value) => *node = targets[value as usize],
                None => short |= 1 << packet,
            }
        }
        for _ in 1..self.depth.min(MAX_DEPTH) {
            for (packet, (node, head)) in nodes.iter_mut().zip(&heads).enumerate().take(frames.len()) {
                let step = &steps[usize::from(*node)];
                match step.word.read(*head, 0) {
                    Some(value) => *node = targets[(step.targets + value) as usize],
                    None => short |= 1 << packet,
                }
            }
        }
        for packet in Selection::from_bits(short).indices() {
            nodes[packet] = (self.branches.len() + self.leaf_of(&frames[packet])) as Node;
        }
        let branches = self.branches.len() as Node;
        nodes.iter_mut().take(frames.len()).for_each(|node| *node -= branches);
        nodes
    }

    /// The number of the leaf that a packet comes to, also where it lacks a branch's field.
    #[inline(never)]
    fn leaf_of(&self, frame: &Frame<'_>) -> usize {
        let mut node = 0;
        while let Some(branch) = self.branches.get(node) {
            let value = branch.load.load(frame);
            node =
                usize::from(value.map_or(branch.absent, |value| {
                    self.targets[(self.steps[node].targets + value) as usize]
                }));
        }
        node - self.branches.len()
    }
}
/// Programs that must be left out, ascending.
struct LeftOut(Vec<usize>);

/// A path with its fields and sets by number.
struct BuildPath {
    program: usize,
    row: u32,
    tests: Vec<(usize, usize)>,
}

/// A branch whose targets are not numbered yet.
struct BuildBranch {
    field: usize,
    absent: usize,
    /// First values of the parts of the field's values, and where each part leads to.
    starts: Vec<u32>,
    nodes: Vec<usize>,
}

/// The number that the builder adds to the numbers of leaves. It is that of the leaf that no path reaches.
const LEAF: usize = 1 << 15;

struct Builder {
    fields: Vec<Field>,
    sets: Vec<ValueSet>,
    paths: Vec<BuildPath>,
    branches: Vec<BuildBranch>,
    /// The leaves, and what is looked up for them beside others.
    leaves: Vec<(Leaf, Option<PairTable>)>,
    /// Nodes, the leaves counted from `LEAF`, by the paths that reach them and the fields decided there.
    known: Table<(Vec<u32>, Vec<usize>), usize>,
    /// Paths that may yet be put into leaves before branching stops.
    budget: usize,
}

impl Builder {
    fn new(indexed: &[(usize, path::Path)], rows: &[u32]) -> Self {
        let mut fields: Vec<Field> =
            indexed.iter().flat_map(|(_, path)| path.tests.iter().map(|test| test.0)).collect();
        fields.sort_unstable();
        fields.dedup();
        let mut sets: Vec<ValueSet> = Vec::new();
        let mut numbers: Table<&ValueSet, usize> = Table::default();
        let paths = indexed
            .iter()
            .map(|&(program, ref path)| {
                let mut number = |set| {
                    *numbers.entry(set).or_insert_with(|| {
                        sets.push(set.clone());
                        sets.len() - 1
                    })
                };
                let tests = path.tests.iter().map(|(field, set)| {
                    (fields.binary_search(field).expect("collected above"), number(set))
                });
                BuildPath { program, row: rows[program], tests: tests.collect() }
            })
            .collect::<Vec<_>>();
        let budget = paths.len() * 16 + 4096;
        let leaves = vec![(Leaf::default(), None)];
        Self { fields, sets, paths, branches: Vec::new(), leaves, known: Table::default(), budget }
    }

    fn build(mut self) -> Result<Index, LeftOut> {
        let root = self.node((0u32..).take(self.paths.len()).collect(), Vec::new())?;
        Ok(self.renumber(root))
    }

    /// Puts branches in an order in which each stands before those that it leads to.
    fn renumber(mut self, root: usize) -> Index {
        let mut order = Vec::new();
        let mut is_seen = vec![false; self.branches.len()];
        self.visit(root, &mut is_seen, &mut order);
        order.reverse();
        if order.is_empty() {
            self.leaves.swap(0, root - LEAF);
        }
        let mut numbers = vec![0; self.branches.len()];
        order.iter().enumerate().for_each(|(number, &branch)| numbers[branch] = number);
        let number = |node: usize| {
            Node::try_from(if node < LEAF { numbers[node] } else { order.len() + node - LEAF })
                .expect("at most MAX_NODES")
        };
        let (leaves, tables): (Vec<Leaf>, Vec<Option<PairTable>>) =
            std::mem::take(&mut self.leaves).into_iter().unzip();
        let mut index = Index {
            branches: Vec::new(),
            steps: Vec::new(),
            targets: Vec::new(),
            depth: 0,
            has_leaves: leaves.iter().any(|leaf| !leaf.is_empty()),
            leaves,
            pairs: Pairs::new(&tables),
        };
        let add = |index: &mut Index, word: Word| {
            index.steps.push(Step {
                word,
                targets: u32::try_from(index.targets.len()).expect("MAX_NODES tables of 65536 values"),
            });
        };
        for &branch in &order {
            let BuildBranch { field, absent, ref starts, ref nodes } = self.branches[branch];
            let load = Load::new(self.fields[field]);
            add(&mut index, Word::new(load).expect("split takes such fields only"));
            index.branches.push(Branch { load, absent: number(absent) });
            for (at, &node) in nodes.iter().enumerate() {
                let end =
                    starts.get(at + 1).map_or(self.fields[field].mask as usize + 1, |&next| next as usize);
                index.targets.extend(std::iter::repeat_n(number(node), end - starts[at] as usize));
            }
        }
        for leaf in 0..index.leaves.len() {
            add(&mut index, Word::NONE);
            index.targets.push(number(LEAF + leaf));
        }
        // The longest way: a branch leads to later ones only.
        let mut depths = vec![0; order.len()];
        for (at, &branch) in order.iter().enumerate() {
            index.depth = index.depth.max(depths[at] + 1);
            let BuildBranch { absent, ref nodes, .. } = self.branches[branch];
            for &next in nodes.iter().chain([&absent]).filter(|&&next| next < LEAF) {
                depths[numbers[next]] = depths[numbers[next]].max(depths[at] + 1);
            }
        }
        index
    }

    /// Appends to `order` the branches that `node` leads to, each behind those that it leads to itself.
    fn visit(&self, node: usize, is_seen: &mut [bool], order: &mut Vec<usize>) {
        if node >= LEAF || std::mem::replace(&mut is_seen[node], true) {
            return;
        }
        let BuildBranch { absent, nodes, .. } = &self.branches[node];
        nodes.iter().chain([absent]).for_each(|&next| self.visit(next, is_seen, order));
        order.push(node);
    }

    /// The node for packets that passed what the branches before asked for, with the `paths` still possible; `decided` are the
    /// fields of those branches, ascending.
    fn node(&mut self, paths: Vec<u32>, decided: Vec<usize>) -> Result<usize, LeftOut> {
        if paths.is_empty() {
            return Ok(LEAF);
        }
        let key = (paths, decided);
        if let Some(&node) = self.known.get(&key) {
            return Ok(node);
        }
        let (paths, decided) = &key;
        let split = if self.branches.len() + self.leaves.len() < MAX_NODES {
            self.split(paths, decided)
        } else {
            None
        };
        let node = match split {
            Some(split) => self.branch(split, decided)?,
            None => self.leaf(paths, decided)?,
        };
        self.known.insert(key, node);
        Ok(node)
    }

    fn branch(&mut self, split: Split, decided: &[usize]) -> Result<usize, LeftOut> {
        let mut decided = decided.to_vec();
        decided.push(split.field);
        decided.sort_unstable();
        let absent = self.node(split.absent, decided.clone())?;
        let nodes = split
            .parts
            .into_iter()
            .map(|paths| self.node(paths, decided.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        self.branches.push(BuildBranch { field: split.field, absent, starts: split.starts, nodes });
        Ok(self.branches.len() - 1)
    }

    fn leaf(&mut self, paths: &[u32], decided: &[usize]) -> Result<usize, LeftOut> {
        self.budget = self.budget.saturating_sub(paths.len());
        let mut used: Table<usize, usize> = Table::default();
        let leaf_paths: Vec<LeafPath<'_>> = paths
            .iter()
            .map(|&path| {
                let path = &self.paths[path as usize];
                let tests = path.tests.iter().filter(|test| decided.binary_search(&test.0).is_err());
                let tests: Vec<_> = tests.map(|&(field, set)| (field, &self.sets[set])).collect();
                tests.iter().for_each(|test| *used.entry(test.0).or_default() += 1);
                LeafPath { row: path.row, tests }
            })
            .collect();
        if used.len() > MAX_FIELDS {
            let mut by_use: Vec<_> =
                used.into_iter().map(|(field, count)| (std::cmp::Reverse(count), field)).collect();
            by_use.sort_unstable();
            let rare: Vec<usize> = by_use[MAX_FIELDS..].iter().map(|&(_, field)| field).collect();
            let left_out = paths.iter().map(|&path| &self.paths[path as usize]);
            let mut left_out: Vec<usize> = left_out
                .filter(|path| path.tests.iter().any(|test| rare.contains(&test.0)))
                .map(|path| path.program)
                .collect();
            left_out.sort_unstable();
            left_out.dedup();
            return Err(LeftOut(left_out));
        }
        self.leaves.push(Leaf::new(&leaf_paths, &self.fields, self.leaves.len() < MAX_GROUPED));
        Ok(LEAF + self.leaves.len() - 1)
    }

    /// The field that is best decided next, with what it leaves for each of its values; `None` where a leaf does better.
    fn split(&self, paths: &[u32], decided: &[usize]) -> Option<Split> {
        let mut uses = vec![0usize; self.fields.len()];
        for &path in paths {
            self.paths[path as usize].tests.iter().for_each(|test| uses[test.0] += 1);
        }
        let is_header = |field: &Field| {
            matches!(field.source, Source::Absolute { .. })
                && field.mask <= 0xffff
                && Word::new(Load::new(*field)).is_some()
        };
        let mut candidates: Vec<usize> = (0..uses.len())
            .filter(|&field| {
                uses[field] * 3 > paths.len()
                    && is_header(&self.fields[field])
                    && decided.binary_search(&field).is_err()
            })
            .collect();
        // Of equally used fields, the one that programs look at first.
        candidates.sort_by_key(|&field| std::cmp::Reverse(uses[field]));
        candidates.into_iter().find_map(|field| self.split_by(field, paths))
    }

    fn split_by(&self, field: usize, paths: &[u32]) -> Option<Split> {
        let mut absent = Vec::new();
        let mut tested: Vec<(u32, usize)> = Vec::new();
        let mut sets: Vec<usize> = Vec::new();
        for &path in paths {
            match self.paths[path as usize].tests.binary_search_by_key(&field, |test| test.0) {
                Err(_) => absent.push(path),
                Ok(at) => {
                    let set = self.paths[path as usize].tests[at].1;
                    let number = sets.iter().position(|&other| other == set).unwrap_or_else(|| {
                        sets.push(set);
                        sets.len() - 1
                    });
                    if sets.len() > MAX_BRANCH_CLASSES * 2 {
                        return None;
                    }
                    tested.push((path, number));
                }
            }
        }
        let starts = starts(sets.iter().map(|&set| &self.sets[set]), self.fields[field].mask);
        let holds = |set: usize, value: u32| {
            self.sets[set].ranges().iter().any(|&(low, high)| low <= value && value <= high)
        };
        // Which sets hold the values of each part; parts with equal sets go the same way.
        let passing: Vec<u64> = starts
            .iter()
            .map(|&start| {
                sets.iter()
                    .enumerate()
                    .fold(0, |bits, (number, &set)| bits | u64::from(holds(set, start)) << number)
            })
            .collect();
        let mut classes = passing.clone();
        classes.sort_unstable();
        classes.dedup();
        if classes.len() > MAX_BRANCH_CLASSES {
            return None;
        }
        let of_class: Vec<Vec<u32>> = classes
            .iter()
            .map(|&class| {
                let mut remaining: Vec<u32> =
                    tested.iter().filter(|test| class >> test.1 & 1 == 1).map(|test| test.0).collect();
                remaining.extend(&absent);
                remaining.sort_unstable();
                remaining
            })
            .collect();
        let total: usize = of_class.iter().map(Vec::len).sum();
        if total > paths.len() * 4 + 256 || total > self.budget {
            return None;
        }
        let parts = passing
            .iter()
            .map(|class| of_class[classes.binary_search(class).expect("collected above")].clone())
            .collect();
        Some(Split { field, starts, parts, absent })
    }
}

/// A field to branch on.
struct Split {
    field: usize,
    /// First values of the parts of the field's values.
    starts: Vec<u32>,
    /// The paths that remain for each part.
    parts: Vec<Vec<u32>>,
    /// The paths that remain for packets that do not have the field.
    absent: Vec<u32>,
}
