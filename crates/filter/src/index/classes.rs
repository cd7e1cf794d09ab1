//! Value -> class: which tests of one field a value passes, found by a few comparisons or up to three table loads.

use super::field::ValueSet;
use crate::native::graph::Table;

/// Splits the values `0..=max` where any of `sets` begins or ends. Gives the first value of each part, ascending from 0.
pub(super) fn starts<'s>(sets: impl Iterator<Item = &'s ValueSet>, max: u32) -> Vec<u32> {
    let mut starts = vec![0];
    for set in sets {
        for &(low, high) in set.ranges() {
            starts.push(low);
            starts.extend(high.checked_add(1).filter(|&next| next <= max));
        }
    }
    starts.sort_unstable();
    starts.dedup();
    starts
}

/// The values of one field by which paths they pass.
pub(super) struct Classes {
    /// First values of parts of the values, ascending from 0, and the class of each part.
    pub starts: Vec<u32>,
    pub classes: Vec<u32>,
    /// The paths of each class, as bits.
    pub sets: Vec<Box<[u64]>>,
    /// The class of packets that do not have the field.
    pub absent: u32,
}

impl Classes {
    /// `tested` are the paths, of `path_count`, that test the field, with the sets that they accept; its values are `0..=max`.
    pub(super) fn new(tested: &[(usize, &ValueSet)], path_count: usize, max: u32) -> Self {
        let starts = starts(tested.iter().map(|test| test.1), max);
        let part = |value: u32| starts.partition_point(|&start| start <= value) - 1;
        // For each part, the paths whose sets begin or end there.
        let mut turns: Vec<(usize, usize)> = Vec::new();
        for &(path, set) in tested {
            for &(low, high) in set.ranges() {
                turns.push((part(low), path));
                turns
                    .extend(high.checked_add(1).filter(|&next| next <= max).map(|next| (part(next), path)));
            }
        }
        turns.sort_unstable();
        let mut bits = vec![0u64; path_count.div_ceil(64)];
        bits.iter_mut()
            .enumerate()
            .for_each(|(at, word)| *word = u64::MAX >> (64 - (path_count - at * 64).min(64)));
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
        Classes { starts, classes, sets: sets.sets, absent }
    }

    /// How many paths a class has on average.
    pub(super) fn paths_per_class(&self) -> u64 {
        let paths: u64 = self.sets.iter().flatten().map(|word| u64::from(word.count_ones())).sum();
        paths / self.sets.len() as u64
    }
}

/// A map from values to classes that are constant over ranges.
pub(super) enum ClassTable {
    /// A few ranges: their first values but for the first, which is 0, and their classes.
    Few {
        starts: Vec<u32>,
        classes: [u32; FEW],
    },
    /// One entry a value, for fields of up to 16 bits.
    Direct(Vec<u16>),
    Tree(Tree),
}

/// Ranges up to which comparing with all of them is fastest.
const FEW: usize = 16;

/// A map for 32-bit values: a tree of tables over the first 16 bits, the next 8, and the last 8.
///
/// An entry is a class, or `FURTHER` and where a table of the next level begins. Which of the two comes in no order that a branch
/// could learn, so there is none: classes stand at the beginning too, each at its own number, and a class leads there and so to
/// itself. With 1000 rules and packets that the processor has not learnt, jumps here took a fifth of the index's time.
pub(super) struct Tree {
    entries: Vec<u32>,
    /// The place at which the 65536 entries of the first level begin, behind the classes.
    first: usize,
}

const FURTHER: u32 = 1 << 31;

impl ClassTable {
    /// Maps each value of `0..=max` to the class of the last of `starts` (ascending from 0) that is not above it.
    pub(super) fn new(starts: &[u32], classes: &[u32], max: u32) -> Self {
        if starts.len() <= FEW {
            let mut few = [0; FEW];
            few[..classes.len()].copy_from_slice(classes);
            return ClassTable::Few { starts: starts[1..].to_vec(), classes: few };
        }
        match u16::try_from(max) {
            Ok(max) => {
                let mut table = vec![0; usize::from(max) + 1];
                for (at, (&start, &class)) in starts.iter().zip(classes).enumerate() {
                    let end = starts.get(at + 1).map_or(table.len(), |&next| next as usize);
                    // As many classes as values at most, and one more for the values that cannot be read.
                    table[start as usize..end]
                        .fill(u16::try_from(class).expect("at most 65536 classes of 65536 values"));
                }
                ClassTable::Direct(table)
            }
            Err(_) => ClassTable::Tree(Tree::new(starts, classes, 0)),
        }
    }

    /// Replaces each of the first `count` values by its class, and values that the field cannot have by any.
    #[inline(always)]
    pub(super) fn classify<const N: usize>(&self, values: &mut [u32; N], count: usize) {
        match self {
            ClassTable::Few { starts, classes } => {
                for values in values.as_chunks_mut::<8>().0.iter_mut().take(count.div_ceil(8)) {
                    let mut ranges = [0; 8];
                    for &start in starts {
                        ranges
                            .iter_mut()
                            .zip(&*values)
                            .for_each(|(range, &value)| *range += u32::from(start <= value));
                    }
                    values
                        .iter_mut()
                        .zip(ranges)
                        .for_each(|(value, range)| *value = classes[range as usize % FEW]);
                }
            }
            ClassTable::Direct(table) => {
                let class = |value: u32| table.get(value as usize).map_or(0, |&class| u32::from(class));
                values.iter_mut().take(count).for_each(|value| *value = class(*value));
            }
            ClassTable::Tree(tree) => {
                values.iter_mut().take(count).for_each(|value| *value = tree.class(*value))
            }
        }
    }
}

impl Tree {
    /// As [`ClassTable::new`], for classes below `class_count` and those of `classes`: some may be of no value.
    pub(super) fn new(starts: &[u32], classes: &[u32], class_count: u32) -> Self {
        let class_count = classes.iter().max().map_or(0, |&class| class + 1).max(class_count);
        let first = class_count as usize;
        let mut tree = Self { entries: (0..class_count).collect(), first };
        tree.entries.resize(first + (1 << 16), 0);
        let mut at = 0;
        for prefix in 0..1 << 16 {
            let (from, to) = within(starts, at, prefix << 16, 16);
            at = from;
            let entry = if from == to {
                classes[from]
            } else {
                tree.middle(&starts[from..=to], &classes[from..=to], prefix << 16)
            };
            tree.entries[first + prefix as usize] = entry;
        }
        tree
    }

    /// Adds the table for the 65536 values from `first` on.
    fn middle(&mut self, starts: &[u32], classes: &[u32], first: u32) -> u32 {
        let mut table = [0; 256];
        let mut at = 0;
        for (third, entry) in (0..).zip(&mut table) {
            let first = first | third << 8;
            let (from, to) = within(starts, at, first, 8);
            at = from;
            *entry = if from == to {
                classes[from]
            } else {
                self.low(&starts[from..=to], &classes[from..=to], first)
            };
        }
        self.add(&table)
    }

    /// Adds the table for the 256 values from `first` on.
    fn low(&mut self, starts: &[u32], classes: &[u32], first: u32) -> u32 {
        let mut table = [0; 256];
        let mut at = 0;
        for (last, entry) in (0..).zip(&mut table) {
            at = within(starts, at, first | last, 0).0;
            *entry = classes[at];
        }
        self.add(&table)
    }

    fn add(&mut self, table: &[u32; 256]) -> u32 {
        let begin = u32::try_from(self.entries.len())
            .ok()
            .filter(|&begin| begin < FURTHER)
            .expect("fewer than 2^31 entries");
        self.entries.extend(table);
        FURTHER | begin
    }

    #[inline(always)]
    fn class(&self, value: u32) -> u32 {
        class(&self.entries, self.first + (value >> 16) as usize, value)
    }
}

/// The class that is found from `entries[begin]` on by the lower 16 bits of `value`.
#[inline(always)]
fn class(entries: &[u32], begin: usize, value: u32) -> u32 {
    let entry = below(entries, entries[begin], value >> 8);
    below(entries, entry, value)
}

/// The entry that `entry` leads to by the last eight bits of `value`: itself if it is a class.
#[inline(always)]
fn below(entries: &[u32], entry: u32, value: u32) -> u32 {
    // All ones where the entry leads further.
    let further = (entry.cast_signed() >> 31).cast_unsigned();
    entries[((entry & !FURTHER) + (value & 0xff & further)) as usize]
}

/// Several trees, one behind the other; the classes at the beginning serve all.
pub(super) struct Trees {
    entries: Vec<u32>,
    begins: Vec<u32>,
}

impl Trees {
    pub(super) fn new<'t>(trees: impl Iterator<Item = &'t Tree> + Clone) -> Self {
        let class_count = trees.clone().map(|tree| tree.first).max().unwrap_or(0);
        let number =
            |at: usize| u32::try_from(at).ok().filter(|&at| at < FURTHER).expect("fewer than 2^31 entries");
        let mut all = Self { entries: (0..number(class_count)).collect(), begins: Vec::new() };
        for tree in trees {
            let begin = all.entries.len();
            number(begin + tree.entries.len());
            let moved = |&entry: &u32| {
                if entry >= FURTHER { entry - number(tree.first) + number(begin) } else { entry }
            };
            all.entries.extend(tree.entries[tree.first..].iter().map(moved));
            all.begins.push(number(begin));
        }
        all
    }

    /// Gives the place at which each tree begins.
    pub(super) fn begins(&self) -> &[u32] {
        &self.begins
    }

    /// The class of `value`, of a tree whose first entry for it is at `begin`. A class as `begin` is found itself.
    #[inline(always)]
    pub(super) fn class(&self, begin: u32, value: u32) -> u32 {
        class(&self.entries, begin as usize, value)
    }
}

/// Gives two indices into `starts`, which is looked at from `at` on: that of the last start not above `first`, and that of the last
/// start not above the end of the `2^bits` values from `first` on.
fn within(starts: &[u32], at: usize, first: u32, bits: u32) -> (usize, usize) {
    let from = last_at_or_below(starts, at, first);
    (from, last_at_or_below(starts, from, first | ((1 << bits) - 1)))
}

/// The index of the last of `starts` that is not above `value`, from `from` on, which is not.
fn last_at_or_below(starts: &[u32], from: usize, value: u32) -> usize {
    from + starts[from..].iter().take_while(|&&start| start <= value).count() - 1
}

/// Sets of numbers that become classes: equal sets get the same class, in order of first appearance.
#[derive(Default)]
struct ClassSets {
    ids: Table<Box<[u64]>, u32>,
    sets: Vec<Box<[u64]>>,
}

impl ClassSets {
    fn class(&mut self, bits: &[u64]) -> u32 {
        if let Some(&id) = self.ids.get(bits) {
            return id;
        }
        let id = u32::try_from(self.sets.len()).expect("fewer than 2^31 classes");
        self.ids.insert(bits.into(), id);
        self.sets.push(bits.into());
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tables_give_the_class_of_the_range_that_holds_the_value(
            mut points in prop::collection::vec(prop_oneof![any::<u32>(), 0x0a00_0000u32..0x0a00_0400, 0x0a0b_0000u32..0x0a0c_0000], 0..200),
            probes in prop::collection::vec(any::<u32>(), 50),
            wide in any::<bool>(),
        ) {
            let max = if wide { u32::MAX } else { 0xffff };
            for point in &mut points { *point &= max; }
            points.push(0);
            points.sort_unstable();
            points.dedup();
            let classes: Vec<u32> = (0..points.len()).map(|at| u32::try_from(at % 7).unwrap()).collect();
            let table = ClassTable::new(&points, &classes, max);
            // Of different numbers of classes, so that they begin at different places.
            let of_tree = |tree| classes.iter().map(|class| class % (7 - tree)).collect::<Vec<_>>();
            // One class of each is of no value.
            let own: Vec<Tree> = (0..3).map(|tree| Tree::new(&points, &of_tree(tree), 8 - tree)).collect();
            let trees = Trees::new(own.iter());
            let near = points.iter().flat_map(|&point| [point, point.wrapping_sub(1), point.wrapping_add(1)]).collect::<Vec<_>>();
            for probe in probes.into_iter().chain(near).map(|probe| probe & max) {
                let expected = classes[points.iter().rposition(|&point| point <= probe).unwrap()];
                let mut class = [probe; 8];
                table.classify(&mut class, 1);
                prop_assert_eq!(class[0], expected);
                for (tree, &begin) in trees.begins().iter().enumerate() {
                    let expected = expected % (7 - u32::try_from(tree).unwrap());
                    prop_assert_eq!(trees.class(begin + (probe >> 16), probe), expected);
                    prop_assert_eq!(trees.class(expected, probe), expected);
                    prop_assert_eq!(trees.class(7, probe), 7);
                }
            }
        }
    }
}
