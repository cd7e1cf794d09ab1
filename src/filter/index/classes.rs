//! Value -> class: which tests of one field a value passes, found by one to three table loads.

use std::collections::HashMap;

use super::field::ValueSet;

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

/// A map from values to classes that are constant over ranges.
pub(super) enum ClassTable {
    /// One entry a value, for fields of up to 16 bits.
    Direct(Vec<u16>),
    Ranged(Ranged),
}

/// A map for 32-bit values: indexed by the leading 16 bits; behind that a short list of ranges, or tables over the next 8 and 8.
pub(super) struct Ranged {
    /// 16, or 32 where `top` has one entry.
    shift: u32,
    top: Vec<u32>,
    short: Vec<Short>,
    /// Tables of 256 entries, by the third and by the fourth byte.
    tables: Vec<u32>,
}

/// Up to eight ranges, in one cache line.
#[repr(align(64))]
struct Short {
    /// First value of each range; the first is not looked at. Unused ones repeat the last class at the largest value.
    starts: [u32; 8],
    classes: [u32; 8],
}

/// An entry is a class below this, else the rest says where to look further.
const FURTHER: u32 = 1 << 31;
/// Set beside `FURTHER`: look in `tables`, else in `short`.
const TABLE: u32 = 1 << 30;

impl ClassTable {
    /// Maps each value of `0..=max` to the class of the last of `starts` (ascending from 0) that is not above it.
    pub fn new(starts: &[u32], classes: &[u32], max: u32) -> Self {
        match u16::try_from(max) {
            Ok(max) => {
                let mut table = vec![0; usize::from(max) + 1];
                for (at, (&start, &class)) in starts.iter().zip(classes).enumerate() {
                    let end = starts.get(at + 1).map_or(table.len(), |&next| next as usize);
                    // As many classes as values at most, and one more for the values that cannot be read.
                    table[start as usize..end].fill(u16::try_from(class).expect("at most 65536 classes of 65536 values"));
                }
                ClassTable::Direct(table)
            }
            Err(_) => ClassTable::Ranged(Ranged::new(starts, classes)),
        }
    }

    #[inline(always)]
    pub fn class(&self, value: u32) -> u32 {
        match self {
            ClassTable::Direct(table) => u32::from(table[value as usize]),
            ClassTable::Ranged(ranged) => ranged.class(value),
        }
    }
}

impl Ranged {
    fn new(starts: &[u32], classes: &[u32]) -> Self {
        let mut map = Self { shift: 16, top: Vec::new(), short: Vec::new(), tables: Vec::new() };
        if starts.len() <= 8 {
            map.shift = 32;
            let entry = map.entry(starts, classes, 0, u32::MAX);
            map.top = vec![entry];
            return map;
        }
        let mut top = vec![0; 1 << 16];
        let mut at = 0;
        for (prefix, entry) in (0u32..).zip(&mut top) {
            let (low, high) = (prefix << 16, prefix << 16 | 0xffff);
            at = last_at_or_below(starts, at, low);
            let to = last_at_or_below(starts, at, high);
            *entry = map.entry(&starts[at..=to], &classes[at..=to], low, high);
        }
        map.top = top;
        map
    }

    /// The entry for `low..=high`, over which `starts` (the first at or below `low`) and `classes` are valid.
    fn entry(&mut self, starts: &[u32], classes: &[u32], low: u32, high: u32) -> u32 {
        if classes.iter().all(|class| *class == classes[0]) {
            return classes[0];
        }
        if starts.len() <= 8 {
            let mut short = Short { starts: [u32::MAX; 8], classes: [*classes.last().expect("one at least"); 8] };
            short.starts[..starts.len()].copy_from_slice(starts);
            short.classes[..classes.len()].copy_from_slice(classes);
            self.short.push(short);
            return FURTHER | (index(self.short.len()) - 1);
        }
        // By the third byte, or the fourth.
        let step = (high - low).div_ceil(256);
        let base = self.tables.len();
        self.tables.resize(base + 256, 0);
        let mut at = 0;
        for slot in 0..256u32 {
            let (low, high) = (low + slot * step, low + slot * step + (step - 1));
            at = last_at_or_below(starts, at, low);
            let to = last_at_or_below(starts, at, high);
            self.tables[base + slot as usize] = self.entry(&starts[at..=to], &classes[at..=to], low, high);
        }
        FURTHER | TABLE | index(base / 256)
    }

    #[inline(always)]
    fn class(&self, value: u32) -> u32 {
        let mut entry = self.top[(u64::from(value) >> self.shift) as usize];
        let mut shift = 8;
        while entry & FURTHER != 0 {
            if entry & TABLE == 0 {
                let short = &self.short[(entry & !FURTHER) as usize];
                let at = short.starts[1..].iter().map(|&start| usize::from(start <= value)).sum::<usize>();
                return short.classes[at & 7];
            }
            entry = self.tables[((entry & !(FURTHER | TABLE)) << 8 | (value >> shift & 0xff)) as usize];
            shift -= 8;
        }
        entry
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).ok().filter(|&at| at < TABLE >> 8).expect("fewer than 2^22 tables")
}

/// The index of the last of `starts` that is not above `value`, from `from` on, which is not.
fn last_at_or_below(starts: &[u32], from: usize, value: u32) -> usize {
    from + starts[from..].partition_point(|&start| start <= value) - 1
}

/// Sets of numbers that become classes: equal sets get the same class, in order of first appearance.
#[derive(Default)]
pub(super) struct ClassSets {
    ids: HashMap<Box<[u64]>, u32>,
    pub sets: Vec<Box<[u64]>>,
}

impl ClassSets {
    pub fn class(&mut self, bits: &[u64]) -> u32 {
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
        fn a_table_gives_the_class_of_the_range_that_holds_the_value(
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
            let near = points.iter().flat_map(|&point| [point, point.wrapping_sub(1), point.wrapping_add(1)]).collect::<Vec<_>>();
            for probe in probes.into_iter().chain(near).map(|probe| probe & max) {
                let expected = classes[points.iter().rposition(|&point| point <= probe).unwrap()];
                prop_assert_eq!(table.class(probe), expected);
            }
        }
    }
}
