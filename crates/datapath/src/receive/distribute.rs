//! Spread: hands the packets of a receive lcore to work lcores, each flow always to the same one.
//!
//! Stands between receive and classify where a plan has stages on lcores of their own, or one queue and several workers. A ring
//! leads from every receive queue of such a port to every work lcore; a ring keeps the order, so a flow does. Plans without stages
//! have none of this.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::copies::facts::Stamps;
use crate::flow::burst_flows::Flows;
use crate::flow::hash::HashSpec;
use crate::ids::HashId;
use tapline_api::words::ClockQuality;
use tapline_dpdk::mbuf::{Frames, Linear, MbufBurst, MbufQueue, RxStamp};
use tapline_dpdk::ring::SoleSender;
use tapline_fault as fault;
use tapline_packet::burst::{MAX_BURST, Selection};

/// Packets that a ring between receive and work holds.
pub const RING_PACKETS: u32 = 1023;

/// Sets the lcore's choice apart from those of groups and samplers of the same seed, which would else see a part of their range
/// alone.
pub const SEED: u64 = 0x5b1d_9f3c_7a2e_4461;

/// The place at which the work lcores find the receive times of packets that a ring brings them.
#[derive(Clone)]
pub struct RingTimes {
    /// The field of each packet that holds its time, and the flag of those whose times are not degraded.
    pub place: RxStamp,
    /// The quality of the port's clock at the last burst.
    pub clock: Arc<ClockNote>,
}

/// How well a port's clock is disciplined: the receive lcore writes it, work lcores read it.
///
/// Relaxed ordering suffices: a burst may show the quality of its neighbour.
#[derive(Default)]
pub struct ClockNote(AtomicU8);

const QUALITIES: [ClockQuality; 5] =
    [ClockQuality::Free, ClockQuality::Ntp, ClockQuality::Gps, ClockQuality::Ptp, ClockQuality::Holdover];

impl ClockNote {
    /// receive lcore: writes.
    fn write(&self, quality: ClockQuality) {
        let index = QUALITIES.iter().position(|&known| known == quality).unwrap_or(0) as u8;
        self.0.store(index, Ordering::Relaxed);
    }

    /// work lcore: reads.
    fn read(&self) -> ClockQuality {
        QUALITIES.get(usize::from(self.0.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }
}

impl RingTimes {
    /// Reads the times of a burst that a ring brought.
    pub fn read(&self, burst: &MbufBurst, stamps: &mut Stamps) {
        let sound = burst.raw_stamps(self.place, &mut stamps.ns);
        (stamps.quality, stamps.degraded) = (self.clock.read(), burst.all() - sound);
    }

    /// Writes the times of a burst that goes into a ring.
    pub fn write(&self, burst: &mut MbufBurst, stamps: &Stamps) {
        burst.write_stamps(self.place, &stamps.ns);
        burst.mark_stamped(self.place, burst.all() - stamps.degraded);
        self.clock.write(stamps.quality);
    }
}

/// A receive lcore's way from one queue to the work lcores.
pub struct Spread {
    /// The ring to each work lcore.
    rings: Vec<SoleSender>,
    /// Each work lcore's packets of the burst.
    selections: Vec<Selection>,
    flows: Flows,
    staged: MbufQueue,
    /// Packets that work lcores were handed.
    handed: u64,
    /// The port gives packets whenever it is asked, and loses none where it is not.
    can_wait: bool,
    times: Option<RingTimes>,
}

impl Spread {
    pub fn new(rings: Vec<SoleSender>, hash: HashSpec, can_wait: bool, times: Option<RingTimes>) -> Self {
        Self {
            selections: vec![Selection::NONE; rings.len()],
            rings,
            flows: Flows::new(&[hash], hash.depth),
            staged: MbufQueue::with_capacity(MAX_BURST),
            handed: 0,
            can_wait,
            times,
        }
    }

    /// Packets that may be asked of the port: a port that can wait is asked for none until all surely find room, for bursts of few
    /// packets would cost the lcores on both sides more.
    #[inline]
    pub fn room(&mut self, limit: usize) -> usize {
        if !self.can_wait || self.rings.iter_mut().all(|ring| ring.has_room(limit)) { limit } else { 0 }
    }

    pub fn needs_times(&self) -> bool {
        self.times.is_some()
    }

    /// Hands the burst over, which is empty afterwards. The number of packets that found no room, and were freed.
    pub fn send(&mut self, burst: &mut MbufBurst, linear: &mut Linear, stamps: &Stamps) -> usize {
        if let Some(times) = &self.times {
            times.write(burst, stamps);
        }
        if let [only] = self.rings.as_mut_slice() {
            let packets = burst.len();
            let refused = only.send_all(burst);
            self.handed += (packets - refused) as u64;
            return refused;
        }
        self.choose(burst, linear);
        let mut shared = burst.share(self.selections.iter().copied());
        let mut refused = 0;
        for (ring, &selection) in self.rings.iter_mut().zip(&self.selections) {
            if !selection.is_empty() {
                shared.take(selection, &mut self.staged);
                self.handed += ring.send(&mut self.staged) as u64;
                refused += self.staged.clear();
            }
        }
        refused
    }

    /// Packets that work lcores were handed so far.
    pub fn handed(&self) -> u64 {
        self.handed
    }

    /// Frees what a stage that unwound left on its way.
    #[cold]
    pub fn mend(&mut self) {
        self.staged.clear();
    }

    /// Gives every packet the lcore of its flow.
    fn choose(&mut self, burst: &MbufBurst, linear: &mut Linear) {
        let all = burst.all();
        let mut frames = Frames::new();
        burst.load_ahead();
        burst.frames(linear, &mut frames);
        self.flows.clear();
        self.selections.fill(Selection::NONE);
        let hashes = self.flows.hashes(HashId(0), all, &frames);
        for (index, &hash) in hashes.of(all) {
            fault::panics_on_packet("spread", index);
            self.selections[place(hash, self.rings.len())].insert(index);
        }
    }
}

/// One of `count` places, all alike likely.
#[inline(always)]
fn place(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_its_share_of_the_hashes() {
        for count in 1..=7 {
            let mut seen = vec![0; count];
            (0..1000u64).for_each(|step| seen[place(step * (u64::MAX / 1000), count)] += 1);
            assert!(seen.iter().all(|&hits: &usize| hits.abs_diff(1000 / count) <= 1), "{seen:?}");
        }
        assert_eq!((place(0, 3), place(u64::MAX, 3)), (0, 2));
    }

    #[test]
    fn a_clock_note_is_read_as_it_was_written() {
        let note = ClockNote::default();
        for quality in QUALITIES {
            note.write(quality);
            assert_eq!(note.read(), quality);
        }
    }
}
