//! Two fields looked up together: the paths that their values leave are few, and their other tests are compared one by one.
//!
//! Rules of prefixes and port ranges are mostly told apart by two fields, say the addresses. A table over both fields' classes has
//! a list of the paths left, as the cross-products of recursive flow classification (Gupta and McKeown, SIGCOMM 1999) do; it ends
//! there, as the tables over more fields grow large. Of IPv6 addresses one word is looked up, and the words before it are compared
//! with what all paths demand alike, as long as that is one site's prefix.
//!
//! The tables of all leaves stand together. All packets of a burst take the same way through loads and comparisons, whatever leaves
//! they came to, with no jump that the values in them decide, so the processor works on several packets at once.

use std::collections::{BTreeMap, HashMap};

use super::Node;
use super::classes::{Classes, Tree, Trees};
use super::field::{Field, Source, ValueSet};
use super::leaf_path::LeafPath;
use super::load::{Load, Word, first_chunk, header_bytes};
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::Frame;

/// Other fields than the two that paths test at most.
const MAX_OTHERS: usize = 8;
/// Combinations of both fields' classes at most.
const MAX_CELLS: usize = 1 << 19;
/// Candidates of a cell at most.
const MAX_LISTED: usize = 16;
/// Candidates that are compared at once.
const STRIDE: usize = 2;
/// Packets of one round.
const ROUND: usize = 32;

/// The table of one leaf, before it is put beside the others.
pub(super) struct PairTable {
    /// The offset of the byte whose low nibble tells the length of the header that the fields behind it count from.
    header: u32,
    keys: [Key; 2],
    trees: [Tree; 2],
    others: Vec<Place>,
    /// Classes of the second field.
    width: u32,
    lists: Lists,
}

/// The candidates for all combinations of classes.
struct Lists {
    /// The number of the list's first stride, by the first field's class and then the second's.
    cells: Vec<u16>,
    /// The first is empty.
    strides: Vec<Stride<MAX_OTHERS>>,
}

/// Candidates that are compared at once. It ends its list where its last does not say `HAS_MORE`.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Stride<const R: usize>([Candidate<R>; STRIDE]);

/// The place of a field in a packet.
#[derive(Clone, Copy)]
struct Place {
    load: Load,
    word: Word,
    /// All ones where it is counted from the header's end, else 0.
    behind: usize,
}

#[derive(Clone, Copy)]
struct Key {
    place: Place,
    lead: Lead,
    /// The place at which its tree begins.
    tree: u32,
    /// The class of packets that do not have the field, or whose bytes before it are not as the paths that test it demand.
    absent: u32,
}

/// The value that all paths which test a word of an address demand of the eight bytes before it.
#[derive(Clone, Copy)]
struct Lead {
    start: u32,
    mask: u64,
    value: u64,
}

/// A path's demands on the other fields: values of `low..=low + span`.
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

impl Place {
    const NOWHERE: Self = Place { load: Load::NONE, word: Word::NONE, behind: 0 };

    /// `None` where it cannot be read as a word.
    fn new(field: Field) -> Option<Self> {
        let load = Load::new(field);
        let behind = if matches!(field.source, Source::Indirect { .. }) { usize::MAX } else { 0 };
        Some(Place { load, word: Word::new(load)?, behind })
    }

    #[inline(always)]
    fn read(self, bytes: &[u8], behind: usize) -> Option<u32> {
        self.word.read(bytes, behind & self.behind)
    }
}

impl Lead {
    const NONE: Self = Lead { start: 0, mask: 0, value: 0 };

    /// For the field `key` of `paths`; gives also the fields whose tests it stands for in the paths that test `key`.
    fn new(key: usize, paths: &[&LeafPath<'_>], fields: &[Field]) -> (Self, Vec<usize>) {
        let word = |offset| Field { source: Source::Absolute { offset, width: 4 }, mask: u32::MAX };
        let (mut lead, mut joined) = (Lead::NONE, Vec::new());
        let Source::Absolute { offset: offset @ 8.., width: 4 } = fields[key].source else {
            return (lead, joined);
        };
        lead.start = offset - 8;
        for (shift, offset) in [(32, offset - 8), (0, offset - 4)] {
            let Ok(field) = fields.binary_search(&word(offset)) else { continue };
            let testing = paths.iter().filter(|path| path.test(key).is_some());
            let mut demanded = testing.map(|path| path.test(field).and_then(ValueSet::single));
            if let Some(Some(value)) = demanded.next()
                && demanded.all(|other| other == Some(value))
            {
                lead.mask |= u64::from(u32::MAX) << shift;
                lead.value |= u64::from(value) << shift;
                joined.push(field);
            }
        }
        (lead, joined)
    }

    /// `None` where the eight bytes cannot be read.
    #[inline(always)]
    fn read(self, bytes: &[u8]) -> Option<bool> {
        first_chunk(bytes, self.start as usize)
            .map(|lead| u64::from_be_bytes(lead) & self.mask == self.value)
    }
}

impl<const R: usize> Candidate<R> {
    /// Holds for nothing.
    const NONE: Self = Candidate { low: [0; R], span: [u32::MAX; R], row: NO_ROW, tested: 0 };

    #[inline(always)]
    fn holds(&self, values: &[u32; R]) -> bool {
        let mut holds = self.row != NO_ROW;
        for (at, value) in values.iter().enumerate() {
            holds &= value.wrapping_sub(self.low[at]) <= self.span[at];
        }
        holds
    }

    /// Gives the path's demands on those other fields that `is_left` names, one candidate for each combination of ranges.
    fn of_path(path: &LeafPath<'_>, others: &[usize], is_left: impl Fn(usize) -> bool) -> Vec<Self> {
        let mut candidates = vec![Candidate { row: path.row, ..Self::NONE }];
        for (at, &field) in others.iter().enumerate() {
            let Some(set) = path.test(field).filter(|_| is_left(field)) else {
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

    /// The first `N` of its tests; it has no others.
    fn narrow<const N: usize>(&self) -> Candidate<N> {
        let Candidate { row, tested, .. } = *self;
        Candidate {
            low: std::array::from_fn(|at| self.low[at]),
            span: std::array::from_fn(|at| self.span[at]),
            row,
            tested,
        }
    }
}

impl<const R: usize> Stride<R> {
    const EMPTY: Self = Stride([Candidate::NONE; STRIDE]);

    #[inline(always)]
    fn has_more(&self) -> bool {
        self.0[STRIDE - 1].tested >= HAS_MORE
    }
}

impl PairTable {
    /// `None` where the paths are of another kind: more fields, or no two of them that leave few paths.
    pub(super) fn new(paths: &[&LeafPath<'_>], fields: &[Field]) -> Option<Self> {
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
        let mut classes: Vec<(usize, Classes)> = by_field
            .iter()
            .map(|(&field, tested)| (field, Classes::new(tested, paths.len(), fields[field].mask)))
            .collect();
        classes.sort_by_key(|(_, classes)| classes.paths_per_class());
        let mut others: Vec<usize> = classes.iter().skip(2).map(|one| one.0).collect();
        classes.truncate(2);
        if let &[(field, _)] = &classes[..] {
            classes.push((field, Classes::new(&[], paths.len(), fields[field].mask)));
        }
        let [(first_field, first), (second_field, second)] = <[_; 2]>::try_from(classes).ok()?;
        if first.sets.len() * second.sets.len() > MAX_CELLS {
            return None;
        }
        let leads = [first_field, second_field].map(|field| (field, Lead::new(field, paths, fields)));
        let is_left = |path: &LeafPath<'_>, field: usize| {
            let is_joined = |(key, (_, joined)): &(usize, (Lead, Vec<usize>))| {
                joined.contains(&field) && path.test(*key).is_some()
            };
            path.test(field).is_some() && !leads.iter().any(is_joined)
        };
        others.retain(|&field| paths.iter().any(|path| is_left(path, field)));
        let candidates: Vec<Vec<Candidate<MAX_OTHERS>>> = paths
            .iter()
            .map(|path| Candidate::of_path(path, &others, |field| is_left(path, field)))
            .collect();
        let lists = Lists::new(&first, &second, &candidates)?;
        let key = |field: usize, classes: &Classes, lead: Lead| {
            Some(Key { place: Place::new(fields[field])?, lead, tree: 0, absent: classes.absent })
        };
        Some(PairTable {
            header: headers.first().copied().unwrap_or(0),
            keys: [key(first_field, &first, leads[0].1.0)?, key(second_field, &second, leads[1].1.0)?],
            width: u32::try_from(second.sets.len()).ok()?,
            // with the class of packets that are absent, which may be that of no value
            trees: [first, second]
                .map(|classes| Tree::new(&classes.starts, &classes.classes, classes.absent + 1)),
            others: others.iter().map(|&field| Place::new(fields[field])).collect::<Option<_>>()?,
            lists,
        })
    }
}

impl Lists {
    /// `None` where they are long; `candidates` are those of each path.
    fn new(first: &Classes, second: &Classes, candidates: &[Vec<Candidate<MAX_OTHERS>>]) -> Option<Self> {
        let mut strides = vec![Stride::EMPTY];
        let mut known: HashMap<Vec<u32>, u16> = HashMap::from([(Vec::new(), 0)]);
        let mut cells = Vec::with_capacity(first.sets.len() * second.sets.len());
        let mut left: Vec<u32> = Vec::new();
        for one in &first.sets {
            for other in &second.sets {
                left.clear();
                for (word, common) in (0u32..).zip(one.iter().zip(other).map(|(one, other)| one & other)) {
                    left.extend(Selection::from_bits(common).indices().map(|bit| word * 64 + bit as u32));
                }
                if let Some(&list) = known.get(&left) {
                    cells.push(list);
                    continue;
                }
                let listed: Vec<_> = left
                    .iter()
                    .flat_map(|&path| &candidates[path as usize])
                    .take(MAX_LISTED + 1)
                    .copied()
                    .collect();
                let list = if listed.is_empty() { 0 } else { u16::try_from(strides.len()).ok()? };
                if listed.len() > MAX_LISTED {
                    return None;
                }
                for some in listed.chunks(STRIDE) {
                    let mut stride =
                        std::array::from_fn(|lane| some.get(lane).copied().unwrap_or(Candidate::NONE));
                    stride[STRIDE - 1].tested |= HAS_MORE;
                    strides.push(Stride(stride));
                }
                if let Some(Stride(last)) = strides.last_mut() {
                    last[STRIDE - 1].tested &= !HAS_MORE;
                }
                known.insert(left.clone(), list);
                cells.push(list);
            }
        }
        Some(Lists { cells, strides })
    }
}

/// The tables of all leaves, by how many other fields they have.
pub(super) struct Pairs {
    up_to_2: Group<2>,
    up_to_4: Group<4>,
    up_to_8: Group<MAX_OTHERS>,
}

impl Pairs {
    /// `tables` are those of the leaves, in their order.
    pub(super) fn new(tables: &[Option<PairTable>]) -> Self {
        Pairs {
            up_to_2: Group::new(tables, 0..=2),
            up_to_4: Group::new(tables, 3..=4),
            up_to_8: Group::new(tables, 5..=MAX_OTHERS),
        }
    }

    /// Calls `on_row` for each packet and each row that it matches, perhaps more than once; `leaves` are those that the packets
    /// came to.
    #[inline(always)]
    pub(super) fn matches(
        &self,
        frames: &[Frame<'_>],
        leaves: &[Node; MAX_BURST],
        on_row: &mut impl FnMut(u8, u32),
    ) {
        self.up_to_2.matches(frames, leaves, on_row);
        self.up_to_4.matches(frames, leaves, on_row);
        self.up_to_8.matches(frames, leaves, on_row);
    }
}

/// Tables of several leaves with up to `R` other fields.
struct Group<const R: usize> {
    /// The number of each leaf's table, `NO_TABLE` where it has none here.
    table_of: Vec<u8>,
    tables: Vec<Table<R>>,
    /// The trees of all tables, those of one behind those of another.
    trees: Trees,
    cells: Vec<u16>,
    strides: Vec<Stride<R>>,
}

const NO_TABLE: u8 = u8::MAX;

struct Table<const R: usize> {
    header: u32,
    keys: [Key; 2],
    others: [Place; R],
    width: u32,
    /// The places at which its cells and its strides begin.
    cells: u32,
    strides: u32,
}

/// The results for the packets of one round.
struct Round<const R: usize> {
    /// The packets, and the numbers of their tables.
    members: [u8; ROUND],
    tables: [u8; ROUND],
    /// Values of the two fields, and where the way to their classes begins.
    keys: [[(u32, u32); ROUND]; 2],
    others: [[u32; R]; ROUND],
    /// The places of the packets' cells and, later, of their first strides.
    lists: [u32; ROUND],
    /// Rows and packets that match, as `row << 6 | packet`.
    hits: [[u32; ROUND]; STRIDE],
}

/// How many hits a round has, and which of its lanes have more than `STRIDE` candidates, bit by bit.
struct Found {
    hits: usize,
    more: u64,
    /// Packets that are left out, as they may lack a field.
    rest: Selection,
}

impl<const R: usize> Group<R> {
    fn new(tables: &[Option<PairTable>], other_counts: std::ops::RangeInclusive<usize>) -> Self {
        let is_here = |table: &&PairTable| other_counts.contains(&table.others.len());
        let mut group = Group {
            table_of: vec![NO_TABLE; tables.len()],
            tables: Vec::new(),
            trees: Trees::new(tables.iter().flatten().filter(is_here).flat_map(|table| &table.trees)),
            cells: Vec::new(),
            strides: Vec::new(),
        };
        let mut begins = group.trees.begins().iter();
        for (number, table) in group.table_of.iter_mut().zip(tables) {
            let Some(table) = table.as_ref().filter(is_here) else { continue };
            *number = u8::try_from(group.tables.len()).expect("of at most MAX_GROUPED leaves");
            let index =
                |at: usize| u32::try_from(at).expect("255 tables of MAX_CELLS cells and 65536 lists");
            group.tables.push(Table {
                header: table.header,
                keys: table.keys.map(|key| Key { tree: *begins.next().expect("two a table"), ..key }),
                others: std::array::from_fn(|at| table.others.get(at).copied().unwrap_or(Place::NOWHERE)),
                width: table.width,
                cells: index(group.cells.len()),
                strides: index(group.strides.len()),
            });
            group.cells.extend(&table.lists.cells);
            group.strides.extend(
                table.lists.strides.iter().map(|stride| Stride(stride.0.each_ref().map(Candidate::narrow))),
            );
        }
        group
    }

    #[inline(always)]
    fn matches(&self, frames: &[Frame<'_>], leaves: &[Node; MAX_BURST], on_row: &mut impl FnMut(u8, u32)) {
        if self.tables.is_empty() {
            return;
        }
        let mut packets = 0;
        for (packet, &leaf) in leaves.iter().enumerate().take(frames.len()) {
            packets |= u64::from(self.table_of[usize::from(leaf)] != NO_TABLE) << packet;
        }
        let mut round = Round {
            members: [0; ROUND],
            tables: [0; ROUND],
            keys: [[(0, 0); ROUND]; 2],
            others: [[0; R]; ROUND],
            lists: [0; ROUND],
            hits: [[0; ROUND]; STRIDE],
        };
        for half in [packets & 0xffff_ffff, packets & !0xffff_ffff] {
            if half == 0 {
                continue;
            }
            let Found { hits, more, rest } =
                self.find(frames, Selection::from_bits(half), leaves, &mut round);
            // Which packets match cannot be foreseen: only their number decides a jump.
            for &hit in round.hits.as_flattened().iter().take(hits) {
                on_row((hit & 63) as u8, hit >> 6);
            }
            for lane in Selection::from_bits(more).indices() {
                let (list, values) = (round.lists[lane], &round.others[lane]);
                self.each_candidate(list as usize + 1, |candidate| {
                    if candidate.holds(values) {
                        on_row(round.members[lane], candidate.row);
                    }
                });
            }
            for packet in rest.indices() {
                let table = &self.tables[usize::from(self.table_of[usize::from(leaves[packet])])];
                self.matches_one(table, &frames[packet], |row| on_row(packet as u8, row));
            }
        }
    }

    /// Puts into `round` what of `packets`, up to `ROUND` of them, match among the first candidates of their lists.
    ///
    /// All packets are taken a step before the next, so that the processor waits for many entries of tables at the same time.
    #[inline(never)]
    fn find(
        &self,
        frames: &[Frame<'_>],
        packets: Selection,
        leaves: &[Node; MAX_BURST],
        round: &mut Round<R>,
    ) -> Found {
        let mut count = 0;
        let mut rest = 0;
        for packet in packets.indices() {
            let lane = count % ROUND;
            let number = self.table_of[usize::from(leaves[packet])];
            let table = &self.tables[usize::from(number)];
            let read = || {
                let bytes = frames[packet].bytes();
                let behind = header_bytes(bytes, table.header)?;
                let mut keys = [(0, 0); 2];
                for (out, key) in keys.iter_mut().zip(&table.keys) {
                    let value = key.place.read(bytes, behind)?;
                    let begin = key.tree + (value >> 16);
                    *out = (value, if key.lead.read(bytes)? { begin } else { key.absent });
                }
                let mut others = [0; R];
                for (value, place) in others.iter_mut().zip(&table.others) {
                    *value = place.read(bytes, behind)?;
                }
                Some((keys, others))
            };
            let Some(([first, second], others)) = read() else {
                rest |= 1 << packet;
                continue;
            };
            // a lane is of one packet as a whole: looked up by another's table, its classes may lead anywhere
            (round.members[lane], round.tables[lane]) = (packet as u8, number);
            (round.keys[0][lane], round.keys[1][lane], round.others[lane]) = (first, second, others);
            count += 1;
        }
        // A multiple of 8, which the processor foresees more often. What stands in the other lanes is of an earlier round.
        let padded = count.next_multiple_of(8).min(ROUND);
        let Round { members, tables, keys: [first, second], others, lists, hits } = round;
        for lane in 0..padded {
            let table = &self.tables[usize::from(tables[lane])];
            let [first, second] =
                [first[lane], second[lane]].map(|(value, begin)| self.trees.class(begin, value));
            lists[lane] = table.cells + first * table.width + second;
        }
        for lane in 0..padded {
            let table = &self.tables[usize::from(tables[lane])];
            lists[lane] = table.strides + u32::from(self.cells[lists[lane] as usize]);
        }
        let mut more = 0;
        for (lane, &list) in lists.iter().enumerate().take(padded) {
            more |= u64::from(self.strides[list as usize].has_more()) << lane;
        }
        more &= Selection::first(count).bits();
        let hits = hits.as_flattened_mut();
        let mut found = 0;
        for lane in 0..count.min(ROUND) {
            for candidate in &self.strides[lists[lane] as usize].0 {
                hits[found % hits.len()] = candidate.row << 6 | u32::from(members[lane]);
                found += usize::from(candidate.holds(&others[lane]));
            }
        }
        Found { hits: found, more, rest: Selection::from_bits(rest) }
    }

    /// Calls `on_candidate` for the candidates of a list from one of its strides on.
    #[inline(always)]
    fn each_candidate(&self, stride: usize, mut on_candidate: impl FnMut(&Candidate<R>)) {
        for stride in &self.strides[stride..] {
            stride.0.iter().for_each(&mut on_candidate);
            if !stride.has_more() {
                break;
            }
        }
    }

    /// For one packet of any kind.
    #[inline(never)]
    fn matches_one(&self, table: &Table<R>, frame: &Frame<'_>, mut on_row: impl FnMut(u32)) {
        let [first, second] = table.keys.each_ref().map(|key| {
            let is_led = key.lead.mask == 0 || key.lead.read(frame.bytes()) == Some(true);
            let value = key.place.load.load(frame).filter(|_| is_led);
            value.map_or(key.absent, |value| self.trees.class(key.tree + (value >> 16), value))
        });
        let values = table.others.map(|place| place.load.load(frame));
        let list = self.cells[(table.cells + first * table.width + second) as usize];
        self.each_candidate(table.strides as usize + usize::from(list), |candidate| {
            let is_there = |at: usize| values[at].is_some() || candidate.tested >> at & 1 == 0;
            if (0..R).all(is_there) && candidate.holds(&values.map(Option::unwrap_or_default)) {
                on_row(candidate.row);
            }
        });
    }
}
