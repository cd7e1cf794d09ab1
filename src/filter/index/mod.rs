//! All rules at once: finds the rules that a packet matches in a time that hardly depends on how many there are.
//!
//! It stands beside the native code of `filter`: rules whose programs are decisions over fields of the packet go into an index, the
//! others are left to native code. The index is made from libpcap's programs and so has their meaning in every bit: each accepting
//! way through a program is a conjunction of tests on fields (`path`), the paths of all rules are dispatched by the headers they ask
//! for (`Branch`), and what then remains, mostly addresses and ports, is looked up (`leaf`).

mod classes;
mod field;
mod leaf;
mod path;

use std::collections::HashMap;

use self::classes::starts;
use self::field::{Field, Source, ValueSet};
use self::leaf::{Leaf, LeafPath, Load, MAX_BASES, MAX_FIELDS, View};
use super::program::Insn;
use crate::datapath::burst::{MAX_BURST, Selection, Touched};
use crate::dpdk::Frame;

/// Many filters as one structure; immutable, shared by all workers.
pub struct Index {
    branches: Vec<Branch>,
    leaves: Vec<Leaf>,
    root: Node,
    /// Offsets of the bytes that the lengths of variable headers are read from.
    bases: [u32; MAX_BASES],
}

/// A branch's number, or `LEAF` plus a leaf's.
type Node = u16;
const LEAF: Node = 1 << 15;

/// A field of the headers whose value decides which tests remain: ethertype, protocol, fragment offset.
struct Branch {
    load: Load,
    /// Where to go on for packets that do not have the field.
    absent: Node,
    /// Where to go on, by value.
    table: Vec<Node>,
}

/// Classes of values that a branch's field may have.
const MAX_BRANCH_CLASSES: usize = 16;
/// Branches and leaves at most.
const MAX_NODES: usize = 4096;

impl Index {
    /// Builds the index of `rules`; rule `i` is the program `rules[i]`, as libpcap compiled it.
    ///
    /// Also gives the rules that cannot be indexed, ascending: the index never selects for them, the caller evaluates them.
    pub fn build(rules: &[&[Insn]]) -> (Index, Vec<usize>) {
        let rows: Vec<u32> = (0u32..).take(rules.len()).collect();
        Self::build_rows(rules, &rows)
    }

    /// As `build`, where several programs may stand for one rule: program `i` selects for rule `rows[i]`, which matches where any of
    /// its programs does. The second value holds the numbers of programs, not of rules.
    ///
    /// # Panics
    /// If `programs` and `rows` differ in length.
    pub fn build_rows(programs: &[&[Insn]], rows: &[u32]) -> (Index, Vec<usize>) {
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
            match Builder::new(&indexed, rows).and_then(Builder::build) {
                Ok(index) => {
                    residual.sort_unstable();
                    residual.dedup();
                    return (index, residual);
                }
                Err(Unfit(programs)) => {
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
        for (packet, frame) in frames.iter().enumerate() {
            let view = View::new(frame.bytes(), frame.original_len(), &self.bases);
            let mut node = self.root;
            while node & LEAF == 0 {
                let branch = &self.branches[usize::from(node)];
                node = view.load(branch.load).map_or(branch.absent, |value| branch.table[value as usize]);
            }
            self.leaves[usize::from(node & !LEAF)].matches(&view, |row| {
                selections[row as usize].0 |= 1 << packet;
                touched.mark(row as usize);
            });
        }
    }
}

/// Programs that must be left out, ascending.
struct Unfit(Vec<usize>);

/// A path with its fields and sets by number.
struct BuildPath {
    program: usize,
    row: u32,
    tests: Vec<(usize, usize)>,
}

struct Builder {
    fields: Vec<Field>,
    sets: Vec<ValueSet>,
    paths: Vec<BuildPath>,
    bases: Vec<u32>,
    branches: Vec<Branch>,
    leaves: Vec<Leaf>,
    /// Nodes by the paths that reach them and the fields decided there.
    known: HashMap<(Vec<u32>, Vec<usize>), Node>,
    /// Paths that may yet be put into leaves before branching stops.
    budget: usize,
}

impl Builder {
    fn new(indexed: &[(usize, path::Path)], rows: &[u32]) -> Result<Self, Unfit> {
        let mut fields: Vec<Field> = indexed.iter().flat_map(|(_, path)| path.tests.iter().map(|test| test.0)).collect();
        fields.sort_unstable();
        fields.dedup();
        let mut bases: Vec<u32> = Vec::new();
        for field in &fields {
            if let Source::Indirect { base, .. } = field.source
                && !bases.contains(&base)
            {
                bases.push(base);
            }
        }
        let unknown = |field: &Field| match field.source {
            Source::Indirect { base, .. } => !bases[..bases.len().min(MAX_BASES)].contains(&base),
            _ => false,
        };
        let mut unfit: Vec<usize> =
            indexed.iter().filter(|(_, path)| path.tests.iter().any(|test| unknown(&test.0))).map(|&(number, _)| number).collect();
        unfit.dedup();
        if !unfit.is_empty() {
            return Err(Unfit(unfit));
        }
        let mut sets: Vec<ValueSet> = Vec::new();
        let mut numbers: HashMap<&ValueSet, usize> = HashMap::new();
        let paths = indexed
            .iter()
            .map(|&(program, ref path)| {
                let mut number = |set| {
                    *numbers.entry(set).or_insert_with(|| {
                        sets.push(set.clone());
                        sets.len() - 1
                    })
                };
                let tests =
                    path.tests.iter().map(|(field, set)| (fields.binary_search(field).expect("collected above"), number(set)));
                BuildPath { program, row: rows[program], tests: tests.collect() }
            })
            .collect::<Vec<_>>();
        let budget = paths.len() * 16 + 4096;
        Ok(Self { fields, sets, paths, bases, branches: Vec::new(), leaves: Vec::new(), known: HashMap::new(), budget })
    }

    fn build(mut self) -> Result<Index, Unfit> {
        let root = self.node((0u32..).take(self.paths.len()).collect(), Vec::new())?;
        let mut bases = [0; MAX_BASES];
        bases.iter_mut().zip(&self.bases).for_each(|(slot, &base)| *slot = base);
        Ok(Index { branches: self.branches, leaves: self.leaves, root, bases })
    }

    /// The node for packets that passed what the branches before asked for, with the `paths` still possible; `decided` are the fields
    /// of those branches, ascending.
    fn node(&mut self, paths: Vec<u32>, decided: Vec<usize>) -> Result<Node, Unfit> {
        let key = (paths, decided);
        if let Some(&node) = self.known.get(&key) {
            return Ok(node);
        }
        let (paths, decided) = &key;
        let split = if self.branches.len() + self.leaves.len() < MAX_NODES { self.split(paths, decided) } else { None };
        let node = match split {
            Some(split) => self.branch(split, decided)?,
            None => self.leaf(paths, decided)?,
        };
        self.known.insert(key, node);
        Ok(node)
    }

    fn branch(&mut self, split: Split, decided: &[usize]) -> Result<Node, Unfit> {
        let number = self.branches.len();
        let field = self.fields[split.field];
        let mut decided = decided.to_vec();
        decided.push(split.field);
        decided.sort_unstable();
        // Its place is taken before its children's.
        self.branches.push(Branch { load: Load::new(field, &self.bases), absent: 0, table: Vec::new() });
        let absent = self.node(split.absent, decided.clone())?;
        let mut table = vec![0; field.mask as usize + 1];
        let nodes = split.parts.into_iter().map(|paths| self.node(paths, decided.clone())).collect::<Result<Vec<_>, _>>()?;
        for (at, &node) in nodes.iter().enumerate() {
            let end = split.starts.get(at + 1).map_or(table.len(), |&next| next as usize);
            table[split.starts[at] as usize..end].fill(node);
        }
        self.branches[number].absent = absent;
        self.branches[number].table = table;
        Ok(Node::try_from(number).expect("at most MAX_NODES"))
    }

    fn leaf(&mut self, paths: &[u32], decided: &[usize]) -> Result<Node, Unfit> {
        self.budget = self.budget.saturating_sub(paths.len());
        let mut used: HashMap<usize, usize> = HashMap::new();
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
            let mut by_use: Vec<_> = used.into_iter().map(|(field, count)| (std::cmp::Reverse(count), field)).collect();
            by_use.sort_unstable();
            let rare: Vec<usize> = by_use[MAX_FIELDS..].iter().map(|&(_, field)| field).collect();
            let unfit = paths.iter().map(|&path| &self.paths[path as usize]);
            let mut unfit: Vec<usize> =
                unfit.filter(|path| path.tests.iter().any(|test| rare.contains(&test.0))).map(|path| path.program).collect();
            unfit.sort_unstable();
            unfit.dedup();
            return Err(Unfit(unfit));
        }
        self.leaves.push(Leaf::new(&leaf_paths, &self.fields, &self.bases));
        Ok(LEAF | Node::try_from(self.leaves.len() - 1).expect("at most MAX_NODES"))
    }

    /// The field that is best decided next, with what it leaves for each of its values; `None` where a leaf does better.
    fn split(&self, paths: &[u32], decided: &[usize]) -> Option<Split> {
        let mut uses = vec![0usize; self.fields.len()];
        for &path in paths {
            self.paths[path as usize].tests.iter().for_each(|test| uses[test.0] += 1);
        }
        let is_header = |field: &Field| matches!(field.source, Source::Absolute { .. }) && field.mask <= 0xffff;
        let mut candidates: Vec<usize> = (0..uses.len())
            .filter(|&field| {
                uses[field] * 16 > paths.len() && is_header(&self.fields[field]) && decided.binary_search(&field).is_err()
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
        let holds = |set: usize, value: u32| self.sets[set].ranges().iter().any(|&(low, high)| low <= value && value <= high);
        // Which sets hold the values of each part; parts with equal sets go the same way.
        let passing: Vec<u64> = starts
            .iter()
            .map(|&start| sets.iter().enumerate().fold(0, |bits, (number, &set)| bits | u64::from(holds(set, start)) << number))
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
                let mut remaining: Vec<u32> = tested.iter().filter(|test| class >> test.1 & 1 == 1).map(|test| test.0).collect();
                remaining.extend(&absent);
                remaining.sort_unstable();
                remaining
            })
            .collect();
        let total: usize = of_class.iter().map(Vec::len).sum();
        if total > paths.len() * 4 + 256 || total > self.budget {
            return None;
        }
        let parts = passing.iter().map(|class| of_class[classes.binary_search(class).expect("collected above")].clone()).collect();
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
