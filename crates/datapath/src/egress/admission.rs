//! Admission: which copies a tool's queue takes while it is congested.
//!
//! Stands before a tool's egress queue, and only where a rule says `class` or the tool says `thresholds` or a limit in bytes.
//! Copies have a class from the rule that first chose the tool; each class may fill the queue up to a limit of its own, so that
//! under congestion low goes first and high last. Copies that were taken keep their order, whatever their class.

use tapline_api::words::Class;
use tapline_packet::burst::Selection;

/// The fill of a queue, in percent, above which copies of a class are refused. High copies are taken until it is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thresholds {
    pub low: u8,
    pub normal: u8,
}

impl Thresholds {
    /// The thresholds of a tool that does not say `thresholds`, if some rule says `class`.
    pub const DEFAULT: Thresholds = Thresholds { low: 50, normal: 80 };
    /// Every class may fill the queue.
    pub const NONE: Thresholds = Thresholds { low: 100, normal: 100 };
}

/// The packets and bytes that wait in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fill {
    pub packets: usize,
    pub bytes: u64,
}

/// How far each class may fill a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueLimits {
    /// The packets that each class may fill the queue with; at least 1.
    packets: [usize; 3],
    /// The bytes that each class may fill the queue with; `None`: without a limit.
    bytes: Option<[u64; 3]>,
}

impl QueueLimits {
    /// Limits of a queue for `packets` packets and `bytes` bytes.
    pub fn new(packets: usize, bytes: Option<u64>, thresholds: Thresholds) -> Self {
        let percent = [100, thresholds.normal, thresholds.low];
        // in u128: a limit in bytes may be any number
        let share = |whole: u64, percent: u8| (u128::from(whole) * u128::from(percent) / 100) as u64;
        Self {
            packets: percent.map(|percent| (share(packets as u64, percent) as usize).max(1)),
            bytes: bytes.map(|bytes| percent.map(|percent| share(bytes, percent))),
        }
    }

    pub fn has_bytes(&self) -> bool {
        self.bytes.is_some()
    }

    /// Returns whether `bytes` leave no room for any class.
    pub fn is_full(&self, bytes: u64) -> bool {
        self.bytes.is_some_and(|limits| bytes >= limits[Class::High as usize])
    }

    /// Chooses the copies that fit, by class: high first, then normal, then low, each in the order of the burst. A copy fits if the
    /// queue with it is within the limits of its class; an empty queue takes a copy of any length. `len` gives a packet's bytes.
    #[inline]
    pub fn admit(
        &self,
        mut fill: Fill,
        by_class: [Selection; 3],
        len: impl Fn(usize) -> u32,
    ) -> [Selection; 3] {
        let mut admitted = by_class;
        for (class, selection) in admitted.iter_mut().enumerate() {
            let room = self.packets[class].saturating_sub(fill.packets);
            *selection = selection.take(room);
            if let Some(bytes) = &self.bytes {
                for index in selection.indices() {
                    let with = fill.bytes + u64::from(len(index));
                    if with <= bytes[class] || fill.bytes == 0 {
                        fill.bytes = with;
                    } else {
                        selection.remove(index);
                    }
                }
            }
            fill.packets += selection.count() as usize;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One copy after another, the obvious way.
    fn model(
        packets: usize,
        bytes: Option<u64>,
        thresholds: Thresholds,
        fill: Fill,
        classes: &[Class],
        lens: &[u32],
    ) -> Vec<bool> {
        let (mut packets_held, mut bytes_held) = (fill.packets, fill.bytes);
        let mut is_admitted = vec![false; classes.len()];
        for (wanted, percent) in
            [(Class::High, 100), (Class::Normal, thresholds.normal), (Class::Low, thresholds.low)]
        {
            let packet_limit = (packets * usize::from(percent) / 100).max(1);
            for index in (0..classes.len()).filter(|&index| classes[index] == wanted) {
                let len = u64::from(lens[index]);
                let bytes_fit = bytes.is_none_or(|limit| {
                    bytes_held == 0 || bytes_held + len <= limit * u64::from(percent) / 100
                });
                if packets_held < packet_limit && bytes_fit {
                    (packets_held, bytes_held) = (packets_held + 1, bytes_held + len);
                    is_admitted[index] = true;
                }
            }
        }
        is_admitted
    }

    fn class() -> impl Strategy<Value = Class> {
        prop::sample::select(&Class::ALL[..])
    }

    proptest! {
        #[test]
        fn admission_without_bytes_equals_the_model(
            packets in 1usize..300, low in 1u8..100, more in 0u8..50, held in 0usize..300, classes in prop::collection::vec(class(), 0..=64),
        ) {
            let thresholds = Thresholds { low, normal: (low + more).min(99) };
            check(packets, None, thresholds, Fill { packets: held.min(packets), bytes: 0 }, &classes, &[100; 64])?;
        }

        #[test]
        fn admission_with_bytes_equals_the_model_while_packets_have_room(
            limit in 1u64..60_000, low in 1u8..100, more in 0u8..50, held in 0u64..60_000,
            copies in prop::collection::vec((class(), 14u32..1600), 0..=64),
        ) {
            let thresholds = Thresholds { low, normal: (low + more).min(99) };
            let (classes, lens): (Vec<Class>, Vec<u32>) = copies.into_iter().unzip();
            check(10_000, Some(limit), thresholds, Fill { packets: 0, bytes: held }, &classes, &lens)?;
        }
    }

    fn check(
        packets: usize,
        bytes: Option<u64>,
        thresholds: Thresholds,
        fill: Fill,
        classes: &[Class],
        lens: &[u32],
    ) -> Result<(), TestCaseError> {
        let of = |wanted: Class| {
            let places = (0..classes.len()).filter(|&index| classes[index] == wanted);
            places.collect()
        };
        let admitted =
            QueueLimits::new(packets, bytes, thresholds)
                .admit(fill, Class::ALL.map(of), |index| lens[index]);
        let expected = model(packets, bytes, thresholds, fill, classes, lens);
        for (index, class) in classes.iter().enumerate() {
            prop_assert_eq!(admitted[*class as usize].contains(index), expected[index], "copy {}", index);
        }
        prop_assert_eq!(
            admitted.iter().map(|selection| selection.count()).sum::<u32>(),
            expected.iter().filter(|&&is| is).count() as u32
        );
        Ok(())
    }

    #[test]
    fn low_is_refused_above_half_normal_above_four_fifths_high_when_full() {
        let limits = QueueLimits::new(10, None, Thresholds::DEFAULT);
        let takes = |held: usize| {
            limits.admit(
                Fill { packets: held, bytes: 0 },
                [Selection::from_bits(1), Selection::from_bits(2), Selection::from_bits(4)],
                |_| 64,
            )
        };
        assert_eq!(takes(0), [Selection::from_bits(1), Selection::from_bits(2), Selection::from_bits(4)]);
        assert_eq!(takes(4), [Selection::from_bits(1), Selection::from_bits(2), Selection::NONE]);
        assert_eq!(takes(8), [Selection::from_bits(1), Selection::NONE, Selection::NONE]);
        assert_eq!(takes(10), [Selection::NONE, Selection::NONE, Selection::NONE]);
    }
}
