//! What is left to test once the headers are known: exact values by hashing, prefixes and ranges by intersecting bit vectors.

use std::collections::HashMap;

use super::classes::{ClassSets, ClassTable, starts};
use super::field::{Field, Source, ValueSet};

/// Fields that the paths of one leaf test at most.
pub(super) const MAX_FIELDS: usize = 24;
/// Values of a path's tests that are hashed one by one at most: what `merge` joined is taken apart again.
const MAX_KEYS: u64 = 16;
/// Combinations of fields that are hashed at most, each costs a probe a packet.
const MAX_SHAPES: usize = 6;
/// Paths that a combination must have to be worth a probe.
const SHAPE_PATHS: usize = 8;

/// A path's remaining tests, by number of its field and of its set.
pub(super) struct LeafPath<'b> {
    pub row: u32,
    pub tests: Vec<(usize, &'b ValueSet)>,
}

/// Reads one field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Load {
    /// Which of `Bases` the offset counts from.
    base: u8,
    /// Bits to shift a 32-bit load right by.
    shift: u8,
    width: u8,
    offset: u32,
    mask: u32,
}

/// Variable headers that an index knows: none, the packet's length in place of bytes, and two of `4*([base]&0xf)` bytes.
pub(super) const MAX_BASES: usize = 2;
const BASE_LEN: u8 = u8::MAX;

/// What a packet's loads start from: lengths of the variable headers.
pub(super) struct View<'a> {
    bytes: &'a [u8],
    original_len: u32,
    /// Added to a load's offset: 0, then the lengths of the variable headers. One that cannot be read leads past all bytes.
    bases: [usize; 4],
}

impl<'a> View<'a> {
    #[inline(always)]
    pub fn new(bytes: &'a [u8], original_len: u32, at: &[u32; MAX_BASES]) -> Self {
        let length = |at: u32| bytes.get(at as usize).map_or(usize::MAX / 2, |byte| usize::from(byte & 0xf) << 2);
        Self { bytes, original_len, bases: [0, length(at[0]), length(at[1]), 0] }
    }

    /// The field's value, if the captured bytes reach that far.
    #[inline(always)]
    pub fn load(&self, load: Load) -> Option<u32> {
        if load.base == BASE_LEN {
            return Some(self.original_len & load.mask);
        }
        let at = self.bases[usize::from(load.base) & 3].wrapping_add(load.offset as usize);
        match self.bytes.get(at..).and_then(<[u8]>::first_chunk) {
            Some(&word) => Some((u32::from_be_bytes(word) >> load.shift) & load.mask),
            None => self.load_near_end(at, load),
        }
    }

    /// Fewer than four bytes remain.
    #[cold]
    fn load_near_end(&self, at: usize, load: Load) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(usize::from(load.width))?)?;
        Some(bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)) & load.mask)
    }
}

impl Load {
    /// `bases` are the offsets of the known variable headers' length bytes.
    pub fn new(field: Field, bases: &[u32]) -> Self {
        let (base, offset, width) = match field.source {
            Source::Len => (BASE_LEN, 0, 4),
            Source::Absolute { offset, width } => (0, offset, width),
            Source::Indirect { base, offset, width } => {
                let base = bases.iter().position(|&known| known == base).expect("all bases are known");
                (u8::try_from(base + 1).expect("few bases"), offset, width)
            }
        };
        Load { base, shift: 32 - 8 * width, width, offset, mask: field.mask }
    }
}

/// The tests that remain for packets of one class of headers.
#[derive(Default)]
pub(super) struct Leaf {
    loads: Vec<Load>,
    /// Rows of paths with no test left.
    always: Vec<u32>,
    shapes: Vec<Shape>,
    vectors: Option<Vectors>,
}

impl Leaf {
    pub fn new(paths: &[LeafPath<'_>], fields: &[Field], bases: &[u32]) -> Self {
        let mut used: Vec<usize> = paths.iter().flat_map(|path| path.tests.iter().map(|test| test.0)).collect();
        used.sort_unstable();
        used.dedup();
        let position = |field: usize| used.binary_search(&field).expect("collected above");
        let mut always: Vec<u32> = Vec::new();
        let mut by_shape: HashMap<Vec<usize>, Vec<&LeafPath<'_>>> = HashMap::new();
        let mut ranged: Vec<&LeafPath<'_>> = Vec::new();
        for path in paths {
            if path.tests.is_empty() {
                always.push(path.row);
            } else if path.tests.iter().try_fold(1, |keys: u64, test| keys.checked_mul(test.1.len())).is_some_and(|n| n <= MAX_KEYS)
            {
                by_shape.entry(path.tests.iter().map(|test| position(test.0)).collect()).or_default().push(path);
            } else {
                ranged.push(path);
            }
        }
        always.sort_unstable();
        always.dedup();
        let mut by_shape: Vec<_> = by_shape.into_iter().collect();
        by_shape.sort_by(|one, other| other.1.len().cmp(&one.1.len()).then_with(|| one.0.cmp(&other.0)));
        let few = by_shape.len() <= 2;
        let mut shapes = Vec::new();
        for (fields, paths) in by_shape {
            if shapes.len() < MAX_SHAPES && (few || paths.len() >= SHAPE_PATHS) {
                shapes.push(Shape::new(&fields, &paths));
            } else {
                ranged.extend(paths);
            }
        }
        let vectors = (!ranged.is_empty()).then(|| Vectors::new(ranged, &used, fields));
        Leaf { loads: used.iter().map(|&field| Load::new(fields[field], bases)).collect(), always, shapes, vectors }
    }

    /// Calls `on_row` for each row that the packet matches, perhaps more than once.
    #[inline(always)]
    pub fn matches(&self, view: &View<'_>, mut on_row: impl FnMut(u32)) {
        for &row in &self.always {
            on_row(row);
        }
        let mut values = [0; MAX_FIELDS];
        let mut present = 0u32;
        for (at, (value, load)) in values.iter_mut().zip(&self.loads).enumerate() {
            if let Some(loaded) = view.load(*load) {
                *value = loaded;
                present |= 1 << at;
            }
        }
        for shape in &self.shapes {
            if present & shape.needs == shape.needs {
                for &row in shape.rows(&values) {
                    on_row(row);
                }
            }
        }
        if let Some(vectors) = &self.vectors {
            vectors.matches(&values, present, on_row);
        }
    }
}

/// The paths that test the same fields for exact values: one hash table.
struct Shape {
    /// Indices of the fields among the leaf's values.
    fields: Vec<u8>,
    /// The fields as bits.
    needs: u32,
    /// log2 of the slots, from 64.
    shift: u32,
    /// Open addressing: upper half of the hash, and the entry plus 1; 0 is free.
    slots: Vec<(u32, u32)>,
    /// `fields.len()` values an entry.
    keys: Vec<u32>,
    /// Where the rows of an entry begin; those of the next end them.
    row_starts: Vec<u32>,
    rows: Vec<u32>,
}

/// Odd multipliers, one a field: the digits of the golden ratio's fraction, stepped by `splitmix64`'s constant.
const MULTIPLIERS: [u64; MAX_FIELDS] = {
    let mut multipliers = [0; MAX_FIELDS];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut at = 0;
    while at < MAX_FIELDS {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        multipliers[at] = (mixed ^ mixed >> 31) | 1;
        at += 1;
    }
    multipliers
};

impl Shape {
    fn new(fields: &[usize], paths: &[&LeafPath<'_>]) -> Self {
        let mut by_key: HashMap<Vec<u32>, Vec<u32>> = HashMap::new();
        for path in paths {
            let mut keys = vec![Vec::with_capacity(fields.len())];
            for (_, set) in &path.tests {
                let values: Vec<u32> = set.ranges().iter().flat_map(|&(low, high)| low..=high).collect();
                keys = keys.iter().flat_map(|key| values.iter().map(|&value| [key, &[value][..]].concat())).collect();
            }
            for key in keys {
                by_key.entry(key).or_default().push(path.row);
            }
        }
        let mut entries: Vec<_> = by_key.into_iter().collect();
        entries.sort_unstable();
        // At most a quarter full: most packets match nothing, and then the first slot looked at is mostly free.
        let slot_count = (entries.len() * 4).next_power_of_two().max(8);
        let mut shape = Shape {
            fields: fields.iter().map(|&field| u8::try_from(field).expect("at most MAX_FIELDS")).collect(),
            needs: fields.iter().fold(0, |bits, &field| bits | 1 << field),
            shift: 64 - slot_count.trailing_zeros(),
            slots: vec![(0, 0); slot_count],
            keys: Vec::with_capacity(entries.len() * fields.len()),
            row_starts: Vec::with_capacity(entries.len() + 1),
            rows: Vec::new(),
        };
        for (number, (key, mut rows)) in (1..).zip(entries) {
            let hash =
                key.iter().zip(MULTIPLIERS).fold(0u64, |hash, (&value, by)| hash.wrapping_add(u64::from(value).wrapping_mul(by)));
            let mut slot = (hash >> shape.shift) as usize;
            while shape.slots[slot].1 != 0 {
                slot = (slot + 1) & (slot_count - 1);
            }
            shape.slots[slot] = (tag(hash), number);
            shape.keys.extend(key);
            rows.sort_unstable();
            rows.dedup();
            shape.row_starts.push(u32::try_from(shape.rows.len()).expect("fewer than 2^32 rows"));
            shape.rows.extend(rows);
        }
        shape.row_starts.push(u32::try_from(shape.rows.len()).expect("fewer than 2^32 rows"));
        shape
    }

    /// The rows whose exact values these are.
    #[inline(always)]
    fn rows(&self, values: &[u32; MAX_FIELDS]) -> &[u32] {
        let value = |field: u8| values[usize::from(field) % MAX_FIELDS];
        let mut hash = 0u64;
        for (&field, by) in self.fields.iter().zip(MULTIPLIERS) {
            hash = hash.wrapping_add(u64::from(value(field)).wrapping_mul(by));
        }
        let last = self.slots.len() - 1;
        let mut slot = (hash >> self.shift) as usize;
        loop {
            let (tagged, number) = self.slots[slot & last];
            if number == 0 {
                return &[];
            }
            let entry = number as usize - 1;
            if tagged == tag(hash) {
                let key = &self.keys[entry * self.fields.len()..][..self.fields.len()];
                if self.fields.iter().zip(key).all(|(&field, &expected)| value(field) == expected) {
                    return &self.rows[self.row_starts[entry] as usize..self.row_starts[entry + 1] as usize];
                }
            }
            slot += 1;
        }
    }
}

/// Bits of the hash that the slot's number does not use, mostly.
#[inline(always)]
fn tag(hash: u64) -> u32 {
    (hash >> 8 & 0xffff_ffff) as u32
}

/// Paths with prefixes, ranges or negations: each field's value gives the paths that it passes as a bit vector; their intersection matches.
///
/// A vector is kept as blocks of 64 words with a word that says which of them are not 0, so that the intersection touches only the
/// few words where all fields have something (aggregated bit vectors: Baboescu and Varghese, SIGCOMM 2001).
struct Vectors {
    fields: Vec<VectorField>,
    /// Blocks of 4096 paths.
    block_count: usize,
    /// The row of each path.
    rows: Vec<u32>,
}

struct VectorField {
    /// Index among the leaf's values.
    value: u8,
    table: ClassTable,
    /// The class of packets that do not have the field.
    absent: u32,
    /// `block_count` a class.
    blocks: Vec<Block>,
    words: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Block {
    /// Which of the 64 words are not 0.
    used: u64,
    /// Where these words begin in `words`.
    at: u32,
}

impl Vectors {
    fn new(mut paths: Vec<&LeafPath<'_>>, used: &[usize], fields: &[Field]) -> Self {
        // Paths that test the same fields for near values stand side by side, so that a packet's matches fall into few words.
        paths.sort_by_cached_key(|path| {
            let tests: Vec<_> = path.tests.iter().map(|test| test.0).collect();
            let ranges: Vec<_> = path.tests.iter().filter_map(|test| test.1.ranges().first().copied()).collect();
            (tests, ranges, path.row)
        });
        let word_count = paths.len().div_ceil(64);
        let block_count = word_count.div_ceil(64);
        let vector_fields = used.iter().enumerate().filter_map(|(value, &field)| {
            let tested: Vec<(usize, &ValueSet)> = paths
                .iter()
                .enumerate()
                .filter_map(|(at, path)| path.tests.iter().find(|test| test.0 == field).map(|test| (at, test.1)))
                .collect();
            let value = u8::try_from(value).expect("at most MAX_FIELDS");
            (!tested.is_empty()).then(|| VectorField::new(value, fields[field].mask, &tested, paths.len()))
        });
        Vectors { fields: vector_fields.collect(), block_count, rows: paths.iter().map(|path| path.row).collect() }
    }

    #[inline(always)]
    fn matches(&self, values: &[u32; MAX_FIELDS], present: u32, mut on_row: impl FnMut(u32)) {
        let mut firsts = [0; MAX_FIELDS];
        for (first, field) in firsts.iter_mut().zip(&self.fields) {
            let has = present >> field.value & 1 == 1;
            let class = if has { field.table.class(values[usize::from(field.value) % MAX_FIELDS]) } else { field.absent };
            *first = class as usize * self.block_count;
        }
        for block in 0..self.block_count {
            let mut common = u64::MAX;
            for (field, &first) in self.fields.iter().zip(&firsts) {
                common &= field.blocks[first + block].used;
            }
            while common != 0 {
                let below = (1 << common.trailing_zeros()) - 1;
                let mut word = u64::MAX;
                for (field, &first) in self.fields.iter().zip(&firsts) {
                    let Block { used, at } = field.blocks[first + block];
                    word &= field.words[at as usize + (used & below).count_ones() as usize];
                }
                let base = (block * 64 + common.trailing_zeros() as usize) * 64;
                while word != 0 {
                    on_row(self.rows[base + word.trailing_zeros() as usize]);
                    word &= word - 1;
                }
                common &= common - 1;
            }
        }
    }
}

impl VectorField {
    /// `tested` are the paths, of `path_count`, that test the field, with the sets that they accept.
    fn new(value: u8, max: u32, tested: &[(usize, &ValueSet)], path_count: usize) -> Self {
        let starts = starts(tested.iter().map(|test| test.1), max);
        let part = |value: u32| starts.partition_point(|&start| start <= value) - 1;
        // For each part, the paths whose sets begin or end there.
        let mut turns: Vec<(usize, usize)> = Vec::new();
        for &(path, set) in tested {
            for &(low, high) in set.ranges() {
                turns.push((part(low), path));
                turns.extend(high.checked_add(1).filter(|&next| next <= max).map(|next| (part(next), path)));
            }
        }
        turns.sort_unstable();
        let mut bits = vec![0u64; path_count.div_ceil(64)];
        bits.iter_mut().enumerate().for_each(|(at, word)| *word = u64::MAX >> (64 - (path_count - at * 64).min(64)));
        for &(path, _) in tested {
            bits[path / 64] &= !(1 << (path % 64));
        }
        let untested = bits.clone();
        let mut sets = ClassSets::default();
        let mut turns = turns.into_iter().peekable();
        let classes: Vec<u32> = (0..starts.len())
            .map(|part| {
                while let Some((_, path)) = turns.next_if(|turn| turn.0 == part) {
                    bits[path / 64] ^= 1 << (path % 64);
                }
                sets.class(&bits)
            })
            .collect();
        let absent = sets.class(&untested);
        let mut field =
            VectorField { value, table: ClassTable::new(&starts, &classes, max), absent, blocks: Vec::new(), words: Vec::new() };
        for set in &sets.sets {
            for chunk in set.chunks(64) {
                let used = chunk.iter().enumerate().fold(0, |used, (at, &word)| used | u64::from(word != 0) << at);
                field.blocks.push(Block { used, at: u32::try_from(field.words.len()).expect("fewer than 2^32 words") });
                field.words.extend(chunk.iter().filter(|&&word| word != 0));
            }
        }
        field
    }
}
