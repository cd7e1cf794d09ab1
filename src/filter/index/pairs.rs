//! Two fields looked up together: the paths that their values leave are few, and their other tests are compared one by one.
//!
//! Rules of prefixes and port ranges are mostly told apart by two fields, say the addresses. A table over both fields' classes has
//! a list of the paths left, as the cross-products of recursive flow classification (Gupta and McKeown, SIGCOMM 1999) do; it ends there,
//! as the tables over more fields grow large. All packets take the same way through loads and comparisons, with no jump that the
//! values in them decide, so the processor works on several packets at once.

use std::collections::{BTreeMap, HashMap};

use super::classes::{ClassTable, Classes};
use super::field::{Field, Source, ValueSet};
use super::leaf::LeafPath;
use super::load::{Load, Word, header_bytes};
use crate::datapath::burst::Selection;
use crate::dpdk::Frame;

/// Other fields than the two that paths test at most.
const MAX_OTHERS: usize = 8;
/// Combinations of both fields' classes at most.
const MAX_CELLS: usize = 1 << 19;
/// Candidates of a cell at most, and in all cells.
const MAX_LISTED: usize = 16;
const MAX_CANDIDATES: usize = 1 << 17;
/// Candidates that are compared at once.
const STRIDE: usize = 2;

/// By how many other fields there are.
pub(super) enum Pairs {
    None(PairTable<0>),
    One(PairTable<1>),
    Two(PairTable<2>),
    UpTo4(PairTable<4>),
    UpTo6(PairTable<6>),
    UpTo8(PairTable<8>),
}

pub(super) struct PairTable<const R: usize> {
    /// Where the byte stands whose low nibble tells the length of the header that the fields behind it count from.
    header: u32,
    keys: [Key; 2],
    others: [Place; R],
    /// Classes of the second field.
    width: u32,
    /// The list of candidates, by the first field's class and then the second's: the number of its first stride, and `HAS_MORE` where
    /// it has more than one.
    cells: Vec<u32>,
    /// The first is empty. A stride is the last of its list where its last candidate does not say `HAS_MORE`.
    strides: Vec<[Candidate<R>; STRIDE]>,
}

/// Where a field stands.
#[derive(Clone, Copy)]
struct Place {
    load: Load,
    word: Word,
    /// 1 where it is counted from the header's end, else 0.
    is_behind: usize,
}

struct Key {
    place: Place,
    table: ClassTable,
    /// The class of packets that do not have the field.
    absent: u32,
}

/// What a path asks of the other fields: values of `low..=low + span`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Candidate<const R: usize> {
    low: [u32; R],
    span: [u32; R],
    /// `NO_ROW` where there is no path.
    row: u32,
    /// Which of the fields it tests, bit by bit: such a field must be there. In a stride's last candidate also `HAS_MORE`.
    tested: u32,
}

const HAS_MORE: u32 = 1 << 31;
const NO_ROW: u32 = 1 << 24;

/// What is found out of the packets of one round.
#[derive(Default)]
pub(super) struct Round {
    /// Values, then classes, of the two fields.
    keys: [[u32; ROUND]; 2],
    others: [[u32; MAX_OTHERS]; ROUND],
    lists: [u32; ROUND],
    /// Rows and packets that match, as `row << 6 | packet`.
    hits: [[u32; ROUND]; STRIDE],
}

/// Packets of one round.
const ROUND: usize = 32;

impl Pairs {
    /// `None` where the paths are of another kind: more fields, or no two of them that leave few paths.
    pub fn new(paths: &[&LeafPath<'_>], fields: &[Field]) -> Option<Self> {
        let mut by_field: BTreeMap<usize, Vec<(usize, &ValueSet)>> = BTreeMap::new();
        for (at, path) in paths.iter().enumerate() {
            path.tests.iter().for_each(|&(field, set)| by_field.entry(field).or_default().push((at, set)));
        }
        if by_field.len() > MAX_OTHERS + 2 || paths.iter().any(|path| path.row >= NO_ROW) {
            return None;
        }
        let mut headers: Vec<u32> = Vec::new();
        for &field in by_field.keys() {
            match fields[field].source {
                Source::Absolute { .. } => (),
                Source::Indirect { base, .. } => headers.push(base),
                Source::Len => return None,
            }
        }
        headers.dedup();
        if headers.len() > 1 {
            return None;
        }
        // The two fields whose classes have the fewest paths.
        let mut classes: Vec<(usize, Classes)> =
            by_field.iter().map(|(&field, tested)| (field, Classes::new(tested, paths.len(), fields[field].mask))).collect();
        classes.sort_by_key(|(_, classes)| classes.paths_per_class());
        let others: Vec<usize> = classes.iter().skip(2).map(|one| one.0).collect();
        classes.truncate(2);
        if let &[(field, _)] = &classes[..] {
            classes.push((field, Classes::new(&[], paths.len(), fields[field].mask)));
        }
        let header = headers.first().copied().unwrap_or(0);
        match others.len() {
            0 => PairTable::new(paths, fields, header, classes, &others).map(Pairs::None),
            1 => PairTable::new(paths, fields, header, classes, &others).map(Pairs::One),
            2 => PairTable::new(paths, fields, header, classes, &others).map(Pairs::Two),
            3..=4 => PairTable::new(paths, fields, header, classes, &others).map(Pairs::UpTo4),
            5..=6 => PairTable::new(paths, fields, header, classes, &others).map(Pairs::UpTo6),
            _ => PairTable::new(paths, fields, header, classes, &others).map(Pairs::UpTo8),
        }
    }

    #[inline(always)]
    pub fn matches(&self, frames: &[Frame<'_>], packets: Selection, round: &mut Round, on_row: &mut impl FnMut(u8, u32)) {
        match self {
            Pairs::None(table) => table.matches(frames, packets, round, on_row),
            Pairs::One(table) => table.matches(frames, packets, round, on_row),
            Pairs::Two(table) => table.matches(frames, packets, round, on_row),
            Pairs::UpTo4(table) => table.matches(frames, packets, round, on_row),
            Pairs::UpTo6(table) => table.matches(frames, packets, round, on_row),
            Pairs::UpTo8(table) => table.matches(frames, packets, round, on_row),
        }
    }
}

impl Place {
    fn new(field: Field) -> Self {
        let load = Load::new(field);
        Place { load, word: Word::new(load), is_behind: usize::from(matches!(field.source, Source::Indirect { .. })) }
    }

    #[inline(always)]
    fn read(self, bytes: &[u8], behind: usize) -> Option<u32> {
        self.word.read(bytes, behind * self.is_behind)
    }
}

impl<const R: usize> Candidate<R> {
    const NONE: Self = Candidate { low: [0; R], span: [u32::MAX; R], row: NO_ROW, tested: 0 };

    #[inline(always)]
    fn holds(&self, values: &[u32]) -> bool {
        let mut holds = self.row != NO_ROW;
        for (at, value) in values.iter().enumerate().take(R) {
            holds &= value.wrapping_sub(self.low[at]) <= self.span[at];
        }
        holds
    }

    /// What the path asks, one candidate for each combination of ranges.
    fn of_path(path: &LeafPath<'_>, others: &[usize]) -> Vec<Self> {
        let mut candidates = vec![Candidate { row: path.row, ..Self::NONE }];
        for (at, field) in others.iter().enumerate() {
            let Some((_, set)) = path.tests.iter().find(|test| test.0 == *field) else {
                continue;
            };
            let with = |&candidate: &Self| {
                set.ranges().iter().map(move |&(low, high)| {
                    let mut candidate = Candidate { tested: candidate.tested | 1 << at, ..candidate };
                    (candidate.low[at], candidate.span[at]) = (low, high - low);
                    candidate
                })
            };
            candidates = candidates.iter().flat_map(with).take(MAX_LISTED + 1).collect();
        }
        candidates
    }
}

impl<const R: usize> PairTable<R> {
    fn new(
        paths: &[&LeafPath<'_>],
        fields: &[Field],
        header: u32,
        classes: Vec<(usize, Classes)>,
        others: &[usize],
    ) -> Option<Self> {
        let [(first_field, first), (second_field, second)] = <[_; 2]>::try_from(classes).ok()?;
        if first.sets.len() * second.sets.len() > MAX_CELLS {
            return None;
        }
        let candidates: Vec<Vec<Candidate<R>>> = paths.iter().map(|path| Candidate::of_path(path, others)).collect();
        let mut strides = vec![[Candidate::NONE; STRIDE]];
        let mut known: HashMap<Vec<u32>, u32> = HashMap::from([(Vec::new(), 0)]);
        let mut cells = Vec::with_capacity(first.sets.len() * second.sets.len());
        let mut left: Vec<u32> = Vec::new();
        for one in &first.sets {
            for other in &second.sets {
                left.clear();
                for (word, common) in (0u32..).zip(one.iter().zip(other).map(|(one, other)| one & other)) {
                    left.extend(Selection(common).indices().map(|bit| word * 64 + bit as u32));
                }
                if let Some(&list) = known.get(&left) {
                    cells.push(list);
                    continue;
                }
                let listed: Vec<Candidate<R>> =
                    left.iter().flat_map(|&path| &candidates[path as usize]).take(MAX_LISTED + 1).copied().collect();
                let list = u32::try_from(strides.len()).ok()?;
                if listed.len() > MAX_LISTED || strides.len() * STRIDE > MAX_CANDIDATES {
                    return None;
                }
                let count = listed.len().div_ceil(STRIDE);
                for (at, some) in listed.chunks(STRIDE).enumerate() {
                    let mut stride = std::array::from_fn(|lane| some.get(lane).copied().unwrap_or(Candidate::NONE));
                    stride[STRIDE - 1].tested |= if at + 1 < count { HAS_MORE } else { 0 };
                    strides.push(stride);
                }
                let list = match count {
                    0 => 0,
                    1 => list,
                    _ => list | HAS_MORE,
                };
                known.insert(left.clone(), list);
                cells.push(list);
            }
        }
        let width = u32::try_from(second.sets.len()).ok()?;
        let key = |field: usize, classes: Classes| Key {
            place: Place::new(fields[field]),
            table: ClassTable::new(&classes.starts, &classes.classes, fields[field].mask),
            absent: classes.absent,
        };
        let nowhere = Place { load: Load::NONE, word: Word::NONE, is_behind: 0 };
        Some(PairTable {
            header,
            keys: [key(first_field, first), key(second_field, second)],
            width,
            others: std::array::from_fn(|at| others.get(at).map_or(nowhere, |&field| Place::new(fields[field]))),
            cells,
            strides,
        })
    }

    #[inline(always)]
    fn matches(&self, frames: &[Frame<'_>], packets: Selection, round: &mut Round, on_row: &mut impl FnMut(u8, u32)) {
        for packets in [packets.0 & 0xffff_ffff, packets.0 & !0xffff_ffff] {
            let (count, rest) = self.find(frames, Selection(packets), round);
            // Which packets match cannot be foreseen: only their number decides a jump.
            for &hit in round.hits.as_flattened().iter().take(count) {
                on_row((hit & 63) as u8, hit >> 6);
            }
            for packet in rest.indices() {
                self.matches_one(&frames[packet], |row| on_row(packet as u8, row));
            }
        }
    }

    /// Puts matches into `round`, and gives their number and the packets that are left out, as they may lack a field or have more than
    /// `STRIDE` candidates.
    ///
    /// Each table is looked up for all packets before the next, so that the processor waits for many of its entries at the same time.
    #[inline(never)]
    fn find(&self, frames: &[Frame<'_>], packets: Selection, round: &mut Round) -> (usize, Selection) {
        let mut members = [0u8; ROUND];
        let Round { keys, others, lists, hits } = round;
        let hits = hits.as_flattened_mut();
        let mut count = 0;
        let mut rest = 0;
        for packet in packets.indices() {
            let lane = count % ROUND;
            members[lane] = packet as u8;
            let mut read = || {
                let bytes = frames[packet].bytes();
                let behind = header_bytes(bytes, self.header)?;
                for (column, key) in keys.iter_mut().zip(&self.keys) {
                    column[lane] = key.place.read(bytes, behind)?;
                }
                for (value, place) in others[lane].iter_mut().zip(&self.others) {
                    *value = place.read(bytes, behind)?;
                }
                Some(())
            };
            match read() {
                Some(()) => count += 1,
                None => rest |= 1 << packet,
            }
        }
        // A multiple of 8, which the processor foresees more often. What stands in the other lanes is of an earlier round.
        let padded = count.next_multiple_of(8).min(ROUND);
        for (column, key) in keys.iter_mut().zip(&self.keys) {
            key.table.classify(column, padded);
        }
        let [first, second] = &*keys;
        for (list, (first, second)) in lists.iter_mut().zip(first.iter().zip(second)).take(padded) {
            *list = self.cells[(first * self.width + second) as usize];
        }
        let mut found = 0;
        for ((&list, values), &member) in lists.iter().zip(&*others).zip(&members).take(count) {
            let has_more = list >= HAS_MORE;
            rest |= u64::from(has_more) << (member & 63);
            for candidate in &self.strides[if has_more { 0 } else { list as usize }] {
                hits[found % hits.len()] = candidate.row << 6 | u32::from(member);
                found += usize::from(candidate.holds(values));
            }
        }
        (found, Selection(rest))
    }

    /// For one packet of any kind.
    #[inline(never)]
    fn matches_one(&self, frame: &Frame<'_>, mut on_row: impl FnMut(u32)) {
        let [first, second] =
            self.keys.each_ref().map(|key| key.place.load.load(frame).map_or(key.absent, |value| key.table.class(value)));
        let values = self.others.map(|place| place.load.load(frame));
        let list = self.cells[(first * self.width + second) as usize];
        for stride in &self.strides[(list & !HAS_MORE) as usize..] {
            for candidate in stride {
                let is_there = |at: usize| values[at].is_some() || candidate.tested >> at & 1 == 0;
                if (0..R).all(is_there) && candidate.holds(&values.map(Option::unwrap_or_default)) {
                    on_row(candidate.row);
                }
            }
            if stride[STRIDE - 1].tested < HAS_MORE {
                break;
            }
        }
    }
}
