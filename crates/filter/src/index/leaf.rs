//! The tests that are left once the headers are known: exact values by hashing, prefixes and ranges by tables over pairs of fields
//! (`pairs`) or by intersecting bit vectors.

use std::collections::BTreeMap;

use super::classes::{ClassTable, Classes};
use super::field::{Field, ValueSet};
use super::leaf_path::LeafPath;
use super::load::{Column, Group, LANES, Load, WordLoad};
use super::pairs::PairTable;
use crate::native::graph::Table;
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::Frame;

/// Fields that the paths of one leaf test at most.
pub(super) const MAX_FIELDS: usize = 16;
/// Values of one test, and combinations of a path's, that are hashed one by one at most: what was joined (ports, protocols) is
/// taken apart again.
const MAX_VALUES: u64 = 4;
const MAX_KEYS: u64 = 16;
/// Combinations of fields that are hashed at most, each costs a probe a packet.
const MAX_TABLES: usize = 6;
/// Paths that a combination must have to be worth a probe, beside bit vectors that are looked up in any case.
const TABLE_PATHS: usize = 64;
/// Bits of the values by which paths with other tests are looked up at least.
const GUARDED_BITS: u32 = 32;
/// Such paths for the same values at most.
const MAX_GUARDED: usize = 8;
/// Words that a combination of fields is read as at most.
const MAX_WORDS: usize = 8;

/// The tests that remain for packets of one class of headers.
#[derive(Default)]
pub(super) struct Leaf {
    /// Rows of paths with no test left.
    always: Vec<u32>,
    tables: Vec<ExactTable>,
    /// The tests that are left after those, if no table over pairs of fields does them.
    vectors: Option<Vectors>,
}

impl Leaf {
    /// Gives also the table over pairs of fields for the paths that are looked up there, if `may_pair`.
    pub(super) fn new(
        paths: &[LeafPath<'_>],
        fields: &[Field],
        may_pair: bool,
    ) -> (Self, Option<PairTable>) {
        let mut always: Vec<u32> = Vec::new();
        let mut by_fields: Table<Vec<usize>, Vec<&LeafPath<'_>>> = Table::default();
        let mut ranged: Vec<&LeafPath<'_>> = Vec::new();
        for path in paths {
            if path.tests.is_empty() {
                always.push(path.row);
            } else if let Some(exact) = exact_fields(path, fields) {
                by_fields.entry(exact).or_default().push(path);
            } else {
                ranged.push(path);
            }
        }
        always.sort_unstable();
        always.dedup();
        let mut by_fields: Vec<_> = by_fields.into_iter().collect();
        by_fields.sort_by(|one, other| other.1.len().cmp(&one.1.len()).then_with(|| one.0.cmp(&other.0)));
        let only_tables = ranged.is_empty() && by_fields.len() <= 2;
        let mut tables = Vec::new();
        for (tested, mut paths) in by_fields {
            ranged.extend(take_crowded(&tested, &mut paths));
            let (words, places) =
                WordLoad::join(&tested.iter().map(|&field| fields[field]).collect::<Vec<_>>());
            let is_worth = only_tables || paths.len() >= TABLE_PATHS && tables.len() < MAX_TABLES;
            if is_worth && words.len() <= MAX_WORDS {
                tables.push(ExactTable::new(words, &tested, &places, &paths, fields));
            } else {
                ranged.extend(paths);
            }
        }
        let pairs = if ranged.is_empty() || !may_pair { None } else { PairTable::new(&ranged, fields) };
        let vectors = (!ranged.is_empty() && pairs.is_none()).then(|| Vectors::new(ranged, fields));
        (Leaf { always, tables, vectors }, pairs)
    }

    /// Returns whether nothing is looked up here.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.always.is_empty() && self.tables.is_empty() && self.vectors.is_none()
    }

    /// Calls `on_row` for each packet of `packets`, which are of `frames`, and each row that it matches, perhaps more than once.
    #[inline(always)]
    pub(super) fn matches(
        &self,
        frames: &[Frame<'_>],
        packets: Selection,
        scratch: &mut Scratch,
        mut on_row: impl FnMut(u8, u32),
    ) {
        for &row in &self.always {
            packets.indices().for_each(|packet| on_row(packet as u8, row));
        }
        if self.tables.is_empty() && self.vectors.is_none() {
            return;
        }
        let mut members = [0; MAX_BURST];
        let mut count = 0;
        for packet in packets.indices() {
            members[count % MAX_BURST] = packet as u8;
            count += 1;
        }
        for members in members[..count].chunks(LANES) {
            let mut bytes: [&[u8]; LANES] = [&[]; LANES];
            let group = Group::new(frames, members, &mut bytes);
            for table in &self.tables {
                table.matches(&group, &mut scratch.words, &mut on_row);
            }
            if let Some(vectors) = &self.vectors {
                vectors.matches(&group, &mut scratch.values, &mut on_row);
            }
        }
    }
}

/// Values that are read from a group's packets, kept from group to group because clearing them costs more than the reading.
pub(super) struct Scratch {
    words: [Column<u64>; MAX_WORDS],
    values: [Column<u32>; MAX_FIELDS],
}

impl Default for Scratch {
    #[inline(always)]
    fn default() -> Self {
        Scratch { words: Default::default(), values: Default::default() }
    }
}

/// The fields that a path tests for one value or a few, if it can be looked up by them: its other tests are few, pass most values, and
/// are seldom come to.
fn exact_fields(path: &LeafPath<'_>, fields: &[Field]) -> Option<Vec<usize>> {
    let (exact, others): (Vec<_>, Vec<_>) = path.tests.iter().partition(|test| test.1.len() <= MAX_VALUES);
    let is_wide = |&&(field, set): &&(usize, &ValueSet)| set.len() > u64::from(fields[field].mask) / 2;
    let are_wide = others.iter().all(|test| is_wide(&test));
    let bits: u32 = exact.iter().map(|test| fields[test.0].mask.count_ones()).sum();
    let may = others.is_empty() || are_wide && bits >= GUARDED_BITS;
    let keys = exact.iter().map(|test| test.1.len()).product::<u64>();
    (may && keys <= MAX_KEYS).then(|| exact.iter().map(|test| test.0).collect())
}

/// Takes the paths with other tests than those for exact values from `paths` where many are for the same values.
fn take_crowded<'p, 'b>(tested: &[usize], paths: &mut Vec<&'p LeafPath<'b>>) -> Vec<&'p LeafPath<'b>> {
    let is_guarded = |path: &LeafPath<'_>| path.tests.len() > tested.len();
    let key = |path: &LeafPath<'b>| tested.iter().map(|&field| path.test(field)).collect::<Vec<_>>();
    let mut counts: Table<Vec<Option<&ValueSet>>, usize> = Table::default();
    paths
        .iter()
        .filter(|path| is_guarded(path))
        .for_each(|path| *counts.entry(key(path)).or_default() += 1);
    if counts.values().all(|&count| count <= MAX_GUARDED) {
        return Vec::new();
    }
    let (crowded, others) =
        paths.drain(..).partition(|path| is_guarded(path) && counts[&key(path)] > MAX_GUARDED);
    *paths = others;
    crowded
}

/// The paths that test the same fields for exact values: one hash table.
struct ExactTable {
    words: Vec<WordLoad>,
    /// log2 of the slots, from 64.
    shift: u32,
    /// Open addressing: a part of the hash, and the entry plus 1; 0 is free.
    slots: Vec<(u32, u32)>,
    /// `words.len()` values an entry.
    keys: Vec<u64>,
    /// The place at which the rows of each entry begin; they end where those of the next begin.
    row_starts: Vec<u32>,
    rows: Vec<u32>,
    /// The same for rows that have more to pass; both empty where none has.
    guard_starts: Vec<u32>,
    guarded: Vec<Guarded>,
}

/// A row whose path has more tests than those for exact values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Guarded {
    row: u32,
    /// The fields that are read, and the ranges that their values must be in.
    tests: Vec<(Field, Vec<(u32, u32)>)>,
}

impl Guarded {
    fn passes(&self, frame: &Frame<'_>) -> bool {
        self.tests.iter().all(|(field, ranges)| {
            Load::new(*field).load(frame).is_some_and(|value| {
                let at = ranges.partition_point(|&(_, high)| high < value);
                ranges.get(at).is_some_and(|&(low, _)| low <= value)
            })
        })
    }
}

/// Odd multipliers, one a word: the digits of the golden ratio's fraction, stepped by `splitmix64`'s constant.
const MULTIPLIERS: [u64; MAX_WORDS] = {
    let mut multipliers = [0; MAX_WORDS];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut at = 0;
    while at < MAX_WORDS {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        multipliers[at] = (mixed ^ mixed >> 31) | 1;
        at += 1;
    }
    multipliers
};

impl ExactTable {
    /// `places` tells for each field of `tested` which of `words` it stands in, and how far left.
    fn new(
        words: Vec<WordLoad>,
        tested: &[usize],
        places: &[(usize, u32)],
        paths: &[&LeafPath<'_>],
        fields: &[Field],
    ) -> Self {
        let mut by_key: Table<Vec<u64>, (Vec<u32>, Vec<Guarded>)> = Table::default();
        for path in paths {
            let mut keys = vec![vec![0u64; words.len()]];
            for (&field, &(word, shift)) in tested.iter().zip(places) {
                let ranges = path.test(field).map_or(&[][..], ValueSet::ranges);
                let values = ranges.iter().flat_map(|&(low, high)| low..=high);
                let with = |value: u32| {
                    keys.iter().cloned().map(move |mut key| {
                        key[word] |= u64::from(value) << shift;
                        key
                    })
                };
                keys = values.flat_map(with).collect();
            }
            let others = path.tests.iter().filter(|test| !tested.contains(&test.0));
            let tests: Vec<_> =
                others.map(|&(field, set)| (fields[field], set.ranges().to_vec())).collect();
            for key in keys {
                let (rows, guarded) = by_key.entry(key).or_default();
                if tests.is_empty() {
                    rows.push(path.row);
                } else {
                    guarded.push(Guarded { row: path.row, tests: tests.clone() });
                }
            }
        }
        let mut entries: Vec<_> = by_key.into_iter().collect();
        entries.sort_unstable();
        // At most a quarter full: most packets match nothing, and then the first slot looked at is mostly free.
        let slot_count = (entries.len() * 4).next_power_of_two().max(8);
        let mut table = ExactTable {
            shift: 64 - slot_count.trailing_zeros(),
            slots: vec![(0, 0); slot_count],
            keys: Vec::with_capacity(entries.len() * words.len()),
            words,
            row_starts: Vec::with_capacity(entries.len() + 1),
            rows: Vec::new(),
            guard_starts: Vec::new(),
            guarded: Vec::new(),
        };
        let place = |len: usize| u32::try_from(len).expect("fewer than 2^32 rows");
        let is_guarded = entries.iter().any(|(_, (_, guarded))| !guarded.is_empty());
        for (number, (key, (mut rows, guarded))) in (1..).zip(entries) {
            let hash = key.iter().zip(MULTIPLIERS).fold(0, |hash, (&word, by)| mix(hash, word, by));
            let mut slot = (hash >> table.shift) as usize;
            while table.slots[slot].1 != 0 {
                slot = (slot + 1) & (slot_count - 1);
            }
            table.slots[slot] = (tag(hash), number);
            table.keys.extend(key);
            rows.sort_unstable();
            rows.dedup();
            table.row_starts.push(place(table.rows.len()));
            if is_guarded {
                table.guard_starts.push(place(table.guarded.len()));
                // what matches in any case has nothing more to pass
                table.guarded.extend(
                    guarded.into_iter().filter(|guarded| rows.binary_search(&guarded.row).is_err()),
                );
            }
            table.rows.extend(rows);
        }
        table.row_starts.push(place(table.rows.len()));
        if is_guarded {
            table.guard_starts.push(place(table.guarded.len()));
        }
        table
    }

    #[inline(always)]
    fn matches(
        &self,
        group: &Group<'_>,
        columns: &mut [Column<u64>; MAX_WORDS],
        on_row: &mut impl FnMut(u8, u32),
    ) {
        let mut hashes = [0u64; LANES];
        let mut missing = 0;
        for ((&word, column), by) in self.words.iter().zip(&mut *columns).zip(MULTIPLIERS) {
            missing |= word.load_each(group, |lane, value| {
                column[lane] = value;
                hashes[lane] = mix(hashes[lane], value, by);
            });
        }
        let last = self.slots.len() - 1;
        for (lane, &member) in group.members().iter().enumerate() {
            let hash = hashes[lane % LANES];
            let mut slot = (hash >> self.shift) as usize;
            loop {
                let (tagged, number) = self.slots[slot & last];
                if number == 0 {
                    break;
                }
                if tagged == tag(hash) {
                    let entry = number as usize - 1;
                    let key = &self.keys[entry * self.words.len()..][..self.words.len()];
                    if missing >> lane & 1 == 0
                        && columns
                            .iter()
                            .zip(key)
                            .all(|(column, &expected)| column[lane % LANES] == expected)
                    {
                        let rows = &self.rows
                            [self.row_starts[entry] as usize..self.row_starts[entry + 1] as usize];
                        rows.iter().for_each(|&row| on_row(member, row));
                        if let Some(&first) = self.guard_starts.get(entry) {
                            let guarded =
                                &self.guarded[first as usize..self.guard_starts[entry + 1] as usize];
                            let passed = guarded.iter().filter(|guarded| guarded.passes(group.frame(lane)));
                            passed.for_each(|guarded| on_row(member, guarded.row));
                        }
                        break;
                    }
                }
                slot += 1;
            }
        }
    }
}

/// Adds a word to a hash. Products are folded, as the slot is taken from the upper bits only: all bits of the word must reach them.
#[inline(always)]
fn mix(hash: u64, word: u64, by: u64) -> u64 {
    hash.wrapping_add((word ^ word >> 32).wrapping_mul(by))
}

/// Bits of the hash that the slot's number does not use, mostly.
#[inline(always)]
fn tag(hash: u64) -> u32 {
    (hash >> 8 & 0xffff_ffff) as u32
}

/// Paths with prefixes, ranges or negations, by how many there are.
enum Vectors {
    UpTo64(BitVectors<1>),
    UpTo128(BitVectors<2>),
    UpTo256(BitVectors<4>),
    UpTo384(BitVectors<6>),
    UpTo512(BitVectors<8>),
    UpTo640(BitVectors<10>),
    UpTo1024(BitVectors<16>),
    More(BitVectors<1>),
}

/// Each field's value gives the paths that it passes as a bit vector; what is in all of them matches.
///
/// A vector is one line of `W` words; where that is not enough, lines with a summary that tells which of them are not 0, so that
/// only lines are read where all fields have something (aggregated bit vectors: Baboescu and Varghese, SIGCOMM 2001). Those lines
/// are of one word: with eight, and paths sorted by their first field, 10 000 rules took 1.6 times as long.
struct BitVectors<const W: usize> {
    /// Words and the values that all paths demand of them alike, such as the leading words of IPv6 addresses of one site.
    demands: Vec<(WordLoad, u64)>,
    fields: Vec<VectorField<W>>,
    /// Words of a summary, each for 64 lines of a vector.
    summary_words: usize,
    /// The row of each path.
    rows: Vec<u32>,
}

struct VectorField<const W: usize> {
    load: Load,
    table: ClassTable,
    /// The class of packets that do not have the field.
    absent: u32,
    /// `summary_words` a class; none if a vector has one line, which then has the class as its number.
    summaries: Vec<Summary>,
    /// The lines, class by class; with summaries, only those that are not 0.
    lines: Vec<[u64; W]>,
}

#[derive(Clone, Copy)]
struct Summary {
    /// Which of 64 lines are not 0.
    used: u64,
    /// The place at which these begin in `lines`.
    at: usize,
}

impl Vectors {
    fn new(paths: Vec<&LeafPath<'_>>, fields: &[Field]) -> Self {
        match paths.len() {
            0..=64 => Vectors::UpTo64(BitVectors::new(paths, fields)),
            65..=128 => Vectors::UpTo128(BitVectors::new(paths, fields)),
            129..=256 => Vectors::UpTo256(BitVectors::new(paths, fields)),
            257..=384 => Vectors::UpTo384(BitVectors::new(paths, fields)),
            385..=512 => Vectors::UpTo512(BitVectors::new(paths, fields)),
            513..=640 => Vectors::UpTo640(BitVectors::new(paths, fields)),
            641..=1024 => Vectors::UpTo1024(BitVectors::new(paths, fields)),
            _ => Vectors::More(BitVectors::new(paths, fields)),
        }
    }

    #[inline(always)]
    fn matches(
        &self,
        group: &Group<'_>,
        columns: &mut [Column<u32>; MAX_FIELDS],
        on_row: &mut impl FnMut(u8, u32),
    ) {
        match self {
            Vectors::UpTo64(vectors) => vectors.matches_line(group, columns, on_row),
            Vectors::UpTo128(vectors) => vectors.matches_line(group, columns, on_row),
            Vectors::UpTo256(vectors) => vectors.matches_line(group, columns, on_row),
            Vectors::UpTo384(vectors) => vectors.matches_line(group, columns, on_row),
            Vectors::UpTo512(vectors) => vectors.matches_line(group, columns, on_row),
            Vectors::UpTo640(vectors) => vectors.matches_line(group, columns, on_row),
            Vectors::UpTo1024(vectors) => vectors.matches_line(group, columns, on_row),
            Vectors::More(vectors) => vectors.matches_lines(group, columns, on_row),
        }
    }
}

impl<const W: usize> BitVectors<W> {
    fn new(mut paths: Vec<&LeafPath<'_>>, fields: &[Field]) -> Self {
        sort(&mut paths);
        let mut by_field: BTreeMap<usize, Vec<(usize, &ValueSet)>> = BTreeMap::new();
        for (at, path) in paths.iter().enumerate() {
            path.tests.iter().for_each(|&(field, set)| by_field.entry(field).or_default().push((at, set)));
        }
        let alike = |tested: &[(usize, &ValueSet)]| {
            let value = tested.first().and_then(|test| test.1.single());
            value.filter(|_| {
                tested.len() == paths.len() && tested.iter().all(|test| test.1.single() == value)
            })
        };
        // At least one field gives vectors: without any, a line would have bits that stand for no path.
        let kept = by_field
            .keys()
            .copied()
            .find(|field| alike(&by_field[field]).is_none())
            .or(by_field.keys().next().copied());
        let alike = |field: usize, tested: &[(usize, &ValueSet)]| {
            if kept == Some(field) { None } else { alike(tested) }
        };
        let (demanded, values): (Vec<Field>, Vec<u32>) = by_field
            .iter()
            .filter_map(|(&field, tested)| Some((fields[field], alike(field, tested)?)))
            .unzip();
        let (words, places) = WordLoad::join(&demanded);
        let mut demands: Vec<(WordLoad, u64)> = words.into_iter().map(|word| (word, 0)).collect();
        for (value, (word, shift)) in values.into_iter().zip(places) {
            demands[word].1 |= u64::from(value) << shift;
        }
        by_field.retain(|&field, tested| alike(field, tested).is_none());
        let vector_fields = by_field
            .into_iter()
            .map(|(field, tested)| VectorField::new(fields[field], &tested, paths.len()));
        let summary_words = paths.len().div_ceil(64 * W).div_ceil(64);
        BitVectors {
            demands,
            fields: vector_fields.collect(),
            summary_words,
            rows: paths.iter().map(|path| path.row).collect(),
        }
    }

    /// Reads the fields of a group and puts their classes into `columns`. Gives the members, bit by bit, that may match at all.
    #[inline(always)]
    fn classify(&self, group: &Group<'_>, columns: &mut [Column<u32>; MAX_FIELDS]) -> u32 {
        let mut failing = 0;
        for &(word, expected) in &self.demands {
            let mut differing = 0;
            failing |=
                word.load_each(group, |lane, value| differing |= u32::from(value != expected) << lane);
            failing |= differing;
        }
        if !failing & ((1 << group.members().len()) - 1) == 0 {
            return 0;
        }
        let mut missing = [0; MAX_FIELDS];
        let mut any_missing = 0;
        for ((field, column), missing) in self.fields.iter().zip(&mut *columns).zip(&mut missing) {
            *missing = field.load.load_all(group, column);
            any_missing |= *missing;
        }
        // A second pass: the values of a column are read together here, and must have left the processor's store buffer by then.
        for (field, column) in self.fields.iter().zip(&mut *columns) {
            field.table.classify(column, group.members().len());
        }
        if any_missing != 0 {
            for ((field, column), missing) in self.fields.iter().zip(&mut *columns).zip(missing) {
                for (_, class) in column.iter_mut().enumerate().filter(|(lane, _)| missing >> lane & 1 == 1)
                {
                    *class = field.absent;
                }
            }
        }
        !failing
    }

    /// For vectors of one line.
    #[inline(always)]
    fn matches_line(
        &self,
        group: &Group<'_>,
        columns: &mut [Column<u32>; MAX_FIELDS],
        on_row: &mut impl FnMut(u8, u32),
    ) {
        let passing = self.classify(group, columns);
        let mut common = [[0; W]; LANES];
        for (lane, common) in common.iter_mut().enumerate().take(group.members().len()) {
            if passing >> lane & 1 == 0 {
                continue;
            }
            let mut line = [u64::MAX; W];
            for (field, column) in self.fields.iter().zip(&*columns) {
                intersect(&mut line, &field.lines[column[lane] as usize]);
            }
            *common = line;
        }
        for (common, &member) in common.iter().zip(group.members()) {
            self.emit(common, 0, |row| on_row(member, row));
        }
    }

    /// For vectors of several lines.
    #[inline(always)]
    fn matches_lines(
        &self,
        group: &Group<'_>,
        columns: &mut [Column<u32>; MAX_FIELDS],
        on_row: &mut impl FnMut(u8, u32),
    ) {
        let passing = self.classify(group, columns);
        for part in 0..self.summary_words {
            for (lane, &member) in
                group.members().iter().enumerate().filter(|(lane, _)| passing >> lane & 1 == 1)
            {
                let fields = || {
                    let class = |column: &Column<u32>| column[lane % LANES] as usize;
                    self.fields.iter().zip(&*columns).map(move |(field, column)| {
                        (field, field.summaries[class(column) * self.summary_words + part])
                    })
                };
                let mut used = fields().fold(u64::MAX, |used, (_, summary)| used & summary.used);
                while used != 0 {
                    let line = used.trailing_zeros();
                    let below = (1 << line) - 1;
                    let mut common = [u64::MAX; W];
                    for (field, summary) in fields() {
                        intersect(
                            &mut common,
                            &field.lines[summary.at + (summary.used & below).count_ones() as usize],
                        );
                    }
                    self.emit(&common, (part * 64 + line as usize) * 64 * W, |row| on_row(member, row));
                    used &= used - 1;
                }
            }
        }
    }

    /// Calls `on_row` for the paths in a line that begins with path `first`.
    ///
    /// Mostly there is none or one: the way to either has one branch that cannot be foreseen.
    #[inline(always)]
    fn emit(&self, line: &[u64; W], first: usize, mut on_row: impl FnMut(u32)) {
        let mut used =
            line.iter().enumerate().fold(0u32, |used, (at, &word)| used | u32::from(word != 0) << at);
        if used == 0 {
            return;
        }
        let mut word = line[used.trailing_zeros() as usize % W];
        loop {
            on_row(self.rows[first + used.trailing_zeros() as usize * 64 + word.trailing_zeros() as usize]);
            word &= word - 1;
            if word == 0 {
                used &= used - 1;
                if used == 0 {
                    return;
                }
                word = line[used.trailing_zeros() as usize % W];
            }
        }
    }
}

/// Brings paths together that a packet matches together or not at all, so that its matches fall into few lines: each path stands by
/// that of its tests which the fewest others overlap.
fn sort(paths: &mut [&LeafPath<'_>]) {
    let mut edges: BTreeMap<usize, (Vec<u32>, Vec<u32>)> = BTreeMap::new();
    for test in paths.iter().flat_map(|path| &path.tests) {
        let (lows, highs) = edges.entry(test.0).or_default();
        lows.extend(test.1.ranges().iter().map(|range| range.0));
        highs.extend(test.1.ranges().iter().map(|range| range.1));
    }
    for (lows, highs) in edges.values_mut() {
        lows.sort_unstable();
        highs.sort_unstable();
    }
    let overlapping = |field: usize, set: &ValueSet| -> usize {
        let (lows, highs) = &edges[&field];
        let ranges = set.ranges().iter();
        ranges
            .map(|&(low, high)| {
                lows.partition_point(|&other| other <= high) - highs.partition_point(|&other| other < low)
            })
            .sum()
    };
    paths.sort_by_cached_key(|path| {
        let rarest = path.tests.iter().min_by_key(|test| overlapping(test.0, test.1));
        (rarest.map(|test| (test.0, test.1.ranges().first().copied())), path.row)
    });
}

#[inline(always)]
fn intersect<const W: usize>(common: &mut [u64; W], line: &[u64; W]) {
    common.iter_mut().zip(line).for_each(|(word, other)| *word &= other);
}

impl<const W: usize> VectorField<W> {
    /// `tested` are the paths, of `path_count`, that test the field, with the sets that they accept.
    fn new(field: Field, tested: &[(usize, &ValueSet)], path_count: usize) -> Self {
        let Classes { starts, classes, sets, absent } = Classes::new(tested, path_count, field.mask);
        let table = ClassTable::new(&starts, &classes, field.mask);
        let mut field =
            VectorField { load: Load::new(field), table, absent, summaries: Vec::new(), lines: Vec::new() };
        for set in &sets {
            let lines: Vec<[u64; W]> = set
                .chunks(W)
                .map(|words| std::array::from_fn(|at| words.get(at).copied().unwrap_or(0)))
                .collect();
            if lines.len() == 1 {
                field.lines.extend(lines);
                continue;
            }
            for lines in lines.chunks(64) {
                let is_used = |line: &[u64; W]| line.iter().any(|&word| word != 0);
                let used = lines
                    .iter()
                    .enumerate()
                    .fold(0, |used, (at, line)| used | u64::from(is_used(line)) << at);
                field.summaries.push(Summary { used, at: field.lines.len() });
                field.lines.extend(lines.iter().filter(|line| is_used(line)));
            }
        }
        field
    }
}
