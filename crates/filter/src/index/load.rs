//! Reading fields from packets: one packet at a time, or one field of many packets.

use super::field::{Field, Source};
use tapline_packet::frame::Frame;

/// Packets whose fields are read side by side at most. Of 4 to 16, 6 and 8 were fastest at bursts of 32: there are few of one kind
/// in a burst.
pub(super) const LANES: usize = 8;

/// Up to `LANES` packets that have come to the same leaf.
pub(super) struct Group<'a> {
    frames: &'a [Frame<'a>],
    /// Their numbers among the frames.
    members: &'a [u8],
    /// The bytes of each member.
    bytes: &'a [&'a [u8]],
}

impl<'a> Group<'a> {
    /// `members` are at most `LANES` of `frames`; `bytes` is where theirs are put.
    #[inline(always)]
    pub(super) fn new(
        frames: &'a [Frame<'a>],
        members: &'a [u8],
        bytes: &'a mut [&'a [u8]; LANES],
    ) -> Self {
        let bytes = &mut bytes[..members.len()];
        bytes
            .iter_mut()
            .zip(members)
            .for_each(|(bytes, &member)| *bytes = frames[usize::from(member)].bytes());
        Self { frames, members, bytes }
    }

    pub(super) fn members(&self) -> &'a [u8] {
        self.members
    }

    /// The packet of a lane.
    pub(super) fn frame(&self, lane: usize) -> &'a Frame<'a> {
        &self.frames[usize::from(self.members[lane])]
    }

    fn original_lens(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|&member| self.frames[usize::from(member)].original_len())
    }
}

/// One value for each packet of a group.
pub(super) type Column<T> = [T; LANES];

/// Reads one field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Load {
    base: Base,
    /// Bytes: 1, 2 or 4.
    width: u8,
    offset: u32,
    mask: u32,
}

/// The place that a load's offset counts from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Base {
    Frame,
    /// The end of a header of `4*([at]&0xf)` bytes.
    Header {
        at: u32,
    },
    /// Not bytes, but the length on the wire.
    Len,
}

impl Load {
    /// Reads nothing of use.
    pub(super) const NONE: Load = Load { base: Base::Frame, width: 1, offset: 0, mask: 0 };

    pub(super) fn new(field: Field) -> Self {
        let (base, offset, width) = match field.source {
            Source::Len => (Base::Len, 0, 4),
            Source::Absolute { offset, width } => (Base::Frame, offset, width),
            Source::Indirect { base, offset, width } => (Base::Header { at: base }, offset, width),
        };
        Load { base, width, offset, mask: field.mask }
    }

    /// The field's value, if the captured bytes reach that far.
    #[inline(always)]
    pub(super) fn load(self, frame: &Frame<'_>) -> Option<u32> {
        let bytes = frame.bytes();
        let base = match self.base {
            Base::Frame => 0,
            Base::Header { at } => header_bytes(bytes, at)?,
            Base::Len => return Some(frame.original_len() & self.mask),
        };
        // One load for all widths, where four bytes remain; the least of them are shifted out.
        let at = base + self.offset as usize;
        let value = match first_chunk(bytes, at) {
            Some(word) => u32::from_be_bytes(word) >> ((32 - 8 * u32::from(self.width)) & 31),
            None => near_end(bytes, at, self.width)?,
        };
        Some(value & self.mask)
    }

    /// Reads the field of all members, 0 for those that do not have it. Gives the latter, bit by bit.
    #[inline(always)]
    pub(super) fn load_all(self, group: &Group<'_>, values: &mut Column<u32>) -> u32 {
        let mask = self.mask;
        let Load { base, offset, .. } = self;
        match self.width {
            _ if base == Base::Len => {
                values.iter_mut().zip(group.original_lens()).for_each(|(value, len)| *value = len & mask);
                0
            }
            4 => load_each(base, offset, group, |lane, bytes| {
                values[lane] = u32::from_be_bytes(bytes) & mask
            }),
            2 => load_each(base, offset, group, |lane, bytes| {
                values[lane] = u32::from(u16::from_be_bytes(bytes)) & mask
            }),
            _ => load_each(base, offset, group, |lane, [byte]| values[lane] = u32::from(byte) & mask),
        }
    }
}

/// Reads one field of up to four bytes by one load of four, for packets that surely have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Word {
    /// The offset of the four bytes, which end with the field.
    start: u32,
    mask: u32,
}

impl Word {
    /// Reads 0.
    pub(super) const NONE: Word = Word { start: 0, mask: 0 };

    /// For a field in the packet's bytes, not its length on the wire. `None` for one among the first bytes, before which the four
    /// would begin: that saves all others a shift.
    pub(super) fn new(load: Load) -> Option<Self> {
        let start = load.offset.checked_add(load.width.into())?.checked_sub(4)?;
        Some(Word { start, mask: load.mask })
    }

    /// The field's value, counting from `base`; `None` where fewer than four bytes can be read, though the field may be there.
    #[inline(always)]
    pub(super) fn read(self, bytes: &[u8], base: usize) -> Option<u32> {
        first_chunk(bytes, base + self.start as usize).map(|word| u32::from_be_bytes(word) & self.mask)
    }
}

/// Reads several fields at once that are compared with exact values only: adjacent ones make one word of up to eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WordLoad {
    base: Base,
    /// Bytes: 1, 2, 4 or 8.
    width: u8,
    offset: u32,
    mask: u64,
}

impl WordLoad {
    /// The loads for `fields`. Gives also for each field the number of its word and how far left its value stands there.
    pub(super) fn join(fields: &[Field]) -> (Vec<WordLoad>, Vec<(usize, u32)>) {
        let mut order: Vec<usize> = (0..fields.len()).collect();
        let load = |field: usize| Load::new(fields[field]);
        order.sort_by_key(|&field| (load(field).base, load(field).offset));
        let mut words: Vec<WordLoad> = Vec::new();
        let mut places = vec![(0, 0); fields.len()];
        for field in order {
            let Load { base, width, offset, mask } = load(field);
            let bits = 8 * u32::from(width);
            let joined = words.last_mut().filter(|word| {
                let adjacent = base != Base::Len
                    && word.base == base
                    && u64::from(word.offset) + u64::from(word.width) == u64::from(offset);
                adjacent && (word.width + width).is_power_of_two() && word.width + width <= 8
            });
            match joined {
                Some(word) => {
                    word.width += width;
                    word.mask = word.mask << bits | u64::from(mask);
                    places
                        .iter_mut()
                        .filter(|place| place.0 == words.len() - 1)
                        .for_each(|place| place.1 += bits);
                }
                None => words.push(WordLoad { base, width, offset, mask: mask.into() }),
            }
            places[field] = (words.len() - 1, 0);
        }
        (words, places)
    }

    /// Calls `on_word` with the word of each member, 0 for those that do not have it. Gives the latter, bit by bit.
    #[inline(always)]
    pub(super) fn load_each(self, group: &Group<'_>, mut on_word: impl FnMut(usize, u64)) -> u32 {
        let mask = self.mask;
        let WordLoad { base, offset, .. } = self;
        match self.width {
            _ if base == Base::Len => {
                group
                    .original_lens()
                    .enumerate()
                    .for_each(|(lane, len)| on_word(lane, u64::from(len) & mask));
                0
            }
            8 => load_each(base, offset, group, |lane, bytes| {
                on_word(lane, u64::from_be_bytes(bytes) & mask)
            }),
            4 => load_each(base, offset, group, |lane, bytes| {
                on_word(lane, u64::from(u32::from_be_bytes(bytes)) & mask)
            }),
            2 => load_each(base, offset, group, |lane, bytes| {
                on_word(lane, u64::from(u16::from_be_bytes(bytes)) & mask)
            }),
            _ => load_each(base, offset, group, |lane, [byte]| on_word(lane, u64::from(byte) & mask)),
        }
    }
}

/// Calls `on_bytes` with the `N` bytes of each member, zeros for those that do not have them. Gives the latter.
#[inline(always)]
fn load_each<const N: usize>(
    base: Base,
    offset: u32,
    group: &Group<'_>,
    on_bytes: impl FnMut(usize, [u8; N]),
) -> u32 {
    match base {
        Base::Header { at } => {
            load_each_at(group, |bytes| Some(header_bytes(bytes, at)? + offset as usize), on_bytes)
        }
        _ => load_each_at(group, |_| Some(offset as usize), on_bytes),
    }
}

#[inline(always)]
fn load_each_at<const N: usize>(
    group: &Group<'_>,
    at: impl Fn(&[u8]) -> Option<usize>,
    mut on_bytes: impl FnMut(usize, [u8; N]),
) -> u32 {
    let mut missing = 0;
    for (lane, bytes) in group.bytes.iter().enumerate() {
        let found = at(bytes).and_then(|at| first_chunk(bytes, at));
        missing |= u32::from(found.is_none()) << lane;
        on_bytes(lane, found.unwrap_or([0; N]));
    }
    missing
}

/// The `N` bytes at `at`, which is below 2^33: knowing that, the compiler asks once whether they are there.
#[inline(always)]
pub(super) fn first_chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N).and_then(<[u8]>::first_chunk).copied()
}

#[inline(always)]
pub(super) fn header_bytes(bytes: &[u8], at: u32) -> Option<usize> {
    bytes.get(at as usize).map(|byte| usize::from(byte & 0xf) << 2)
}

/// Fewer than four bytes remain.
#[cold]
fn near_end(bytes: &[u8], at: usize, width: u8) -> Option<u32> {
    let bytes = bytes.get(at..at + usize::from(width))?;
    Some(bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
}
