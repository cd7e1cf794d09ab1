//! Groups: which of several tools gets a flow, by a table of buckets that is looked up with one load.
//!
//! Stands in the route stage. The control side owns a `Group` and, whenever a member's state changes, computes a fresh immutable
//! `BucketTable`; workers only read it, and where flows may return when idle they stamp the buckets they use. A flow is a hash; it
//! belongs to one bucket for as long as the group has that many buckets.
//!
//! A group has *seats*, one for each active member, with its weight. Every bucket has a home seat. A standby member occupies the
//! seat of an active one that is down; the buckets of a seat that nobody occupies are spread over the others and come home when it
//! is occupied again. Shares are apportioned by the Webster/Sainte-Laguë method: it is the fair rounding, and, unlike largest
//! remainders, a member that leaves never lowers the count of another, so that nothing but the failed member's buckets moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::flow::sketch::FlowSketch;
use crate::ids::PortId;
use crate::receive::times::age;
use tapline_api::words::Below;
use tapline_dpdk::mbuf::prefetch;
use tapline_packet::by_id::ById;

/// The content of a bucket: a member of the group by its index, or the reason why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Slot(u16);

impl Slot {
    /// The bucket belongs to the discard share.
    pub const DISCARD: Slot = Slot(u16::MAX);
    /// No member is up, or fewer than `min-up` with `below drop`: copies are dropped as `down`.
    const NO_MEMBER: Slot = Slot(u16::MAX - 1);

    fn of(member: usize) -> Slot {
        debug_assert!(member < GroupSpec::MOST_MEMBERS);
        Slot(member as u16)
    }

    /// The member's index in the group: active members in order, then standbys.
    #[inline(always)]
    pub fn member(self) -> Option<usize> {
        (self.0 < Self::NO_MEMBER.0).then_some(usize::from(self.0))
    }
}

/// The table that workers read: one slot a bucket. Clones share it.
#[derive(Clone, Debug)]
pub struct BucketTable {
    slots: Arc<[Slot]>,
    /// Odd; spreads the hash over its high bits, differently for each seed.
    multiplier: u64,
    /// 64 less the logarithm of the number of buckets.
    shift: u32,
}

/// A [`BucketTable`] that is read for the length of a burst.
#[derive(Clone, Copy)]
pub struct OpenTable<'a> {
    slots: &'a [Slot],
    multiplier: u64,
    /// 6 less than the table's: what is left has 6 bits below the bucket.
    shift: u32,
}

impl OpenTable<'_> {
    /// The bucket of a flow, and which of 64 bits is the flow's in the bucket's [`FlowSketch`].
    #[inline(always)]
    pub fn place(&self, hash: u64) -> (usize, u32) {
        let place = hash.wrapping_mul(self.multiplier) >> self.shift;
        ((place >> 6) as usize, place as u32 & 63)
    }

    /// Asks the processor for what `bucket` says.
    #[inline(always)]
    pub fn load_ahead(&self, bucket: usize) {
        self.slots.get(bucket).into_iter().for_each(prefetch);
    }

    /// Gives the content of `bucket`.
    #[inline(always)]
    pub fn slot(&self, bucket: usize) -> Slot {
        self.slots[bucket]
    }
}

impl BucketTable {
    fn new(slots: Arc<[Slot]>, seed: u64) -> BucketTable {
        debug_assert!(slots.len().is_power_of_two() && slots.len() > 1);
        let shift = 64 - slots.len().trailing_zeros();
        BucketTable { slots, multiplier: tapline_packet::mix::mix(seed, 0) | 1, shift }
    }

    /// The bucket of a flow, 0..`bucket_count()`.
    #[inline(always)]
    pub fn bucket(&self, hash: u64) -> usize {
        (hash.wrapping_mul(self.multiplier) >> self.shift) as usize
    }

    /// The table for the length of a burst.
    #[inline(always)]
    pub fn open(&self) -> OpenTable<'_> {
        OpenTable { slots: &self.slots, multiplier: self.multiplier, shift: self.shift - 6 }
    }

    /// Which member the flow with this hash goes to: a multiplication and a load.
    #[inline(always)]
    pub fn lookup(&self, hash: u64) -> Slot {
        self.slots[self.bucket(hash)]
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub fn bucket_count(&self) -> usize {
        self.slots.len()
    }

    /// How many of the flows with these hashes go elsewhere by `self` than by `earlier`: what a worker's flow table can count.
    pub fn flows_moved(&self, earlier: &BucketTable, hashes: impl IntoIterator<Item = u64>) -> u64 {
        hashes.into_iter().filter(|&hash| self.lookup(hash) != earlier.lookup(hash)).count() as u64
    }
}

/// One worker's notes about a group's buckets, for the control thread.
pub struct BucketUse {
    /// The times at which buckets were last used, if flows return when idle.
    pub stamps: Option<BucketStamps>,
    pub flows: FlowSketch,
}

/// When each bucket was last used by one worker, for `return idle`.
pub struct BucketStamps {
    /// worker: writes; control: reads. Relaxed suffices: a stamp guards no other memory, and a late one only delays a return.
    seen: Box<[AtomicU64]>,
}

/// When a packet passed, and by which port it came, for times of different ports need not be of one clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct BucketStamp(u64);

impl BucketStamp {
    /// No packet passed yet: there is no such port.
    const NEVER: u64 = u64::MAX;
    /// The unit of stamps is 2^16 ns. Below it stands the port.
    const PORT_BITS: u32 = 16;
    const PORT_MASK: u64 = (1 << Self::PORT_BITS) - 1;

    #[inline(always)]
    pub fn new(time_ns: u64, port: PortId) -> BucketStamp {
        BucketStamp(time_ns & !Self::PORT_MASK | (port.0 as u64).min(Self::PORT_MASK - 1))
    }
}

impl BucketStamps {
    pub fn new(bucket_count: usize) -> BucketStamps {
        BucketStamps { seen: (0..bucket_count).map(|_| AtomicU64::new(BucketStamp::NEVER)).collect() }
    }

    /// Goes on with what was noted in `before`, of a plan whose ports have the ids that `ports` gives; what came by others is over.
    /// If a bucket is one of several neighbours that were one, it goes on with that one's.
    #[cold]
    pub fn take_over(&self, before: &BucketStamps, ports: &ById<PortId, Option<PortId>>) {
        let (count, known) = (self.seen.len(), before.seen.len());
        for (bucket, seen) in self.seen.iter().enumerate() {
            let Some(old) = before.seen.get(bucket * known / count.max(1)) else { continue };
            let stamp = old.load(Ordering::Relaxed);
            let port = PortId((stamp & BucketStamp::PORT_MASK) as usize);
            let after = match ports.get(port).copied().flatten() {
                Some(port) if stamp != BucketStamp::NEVER => BucketStamp::new(stamp, port).0,
                _ => BucketStamp::NEVER,
            };
            seen.store(after, Ordering::Relaxed);
        }
    }

    /// Notes that a packet of `bucket` passed.
    #[inline(always)]
    pub fn touch(&self, bucket: usize, stamp: BucketStamp) {
        self.seen[bucket].store(stamp.0, Ordering::Relaxed);
    }

    /// Returns whether no packet of `bucket` passed for `idle_ns` or longer. `now_ns` gives the time of a port's packets at this moment.
    pub fn is_idle(&self, bucket: usize, now_ns: impl Fn(PortId) -> u64, idle_ns: u64) -> bool {
        let seen = self.seen[bucket].load(Ordering::Relaxed);
        if seen == BucketStamp::NEVER {
            return true;
        }
        let unit_ns = 1 << BucketStamp::PORT_BITS;
        let port = PortId((seen & BucketStamp::PORT_MASK) as usize);
        // a unit more, because the stamp may be nearly a unit younger than it says
        age(now_ns(port), seen & !BucketStamp::PORT_MASK, idle_ns) >= idle_ns.saturating_add(unit_ns)
    }
}

/// The settings of a group in a pipeline file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSpec {
    /// One weight for each active member, each at least 1.
    pub weights: Vec<u32>,
    /// Members that wait for an active one to go down. Their indices follow those of the active members.
    pub standbys: usize,
    /// Weight of the share that goes nowhere; 0 for none.
    pub discard_weight: u32,
    /// The fewest members that must be up; 0 for no such bound.
    pub min_up: usize,
    /// The behaviour while fewer than `min_up` members are up.
    pub below: Below,
    /// When flows go back to a member that returned.
    pub returns: Returns,
    /// Power of two; `None` chooses the least from 4096 up with which no share is off by more than 1 %.
    pub bucket_count: Option<usize>,
    /// Brokers in series need different seeds, else the second sees only some of its buckets used.
    pub seed: u64,
}

/// `return at-once|idle 30s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Returns {
    AtOnce,
    /// A bucket goes back when none of its flows sent a packet for `idle_ns`.
    WhenIdle {
        idle_ns: u64,
    },
}

/// The state of a member, as its group sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberState {
    Up,
    /// Gets no bucket anew; with `Returns::WhenIdle` it keeps those that are busy until they are idle.
    Draining,
    Down,
}

/// Why a group cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    #[error("a group needs at least one active member")]
    NoMember,
    #[error("{0} members in a group; at most {most} are possible", most = GroupSpec::MOST_MEMBERS)]
    TooManyMembers(usize),
    #[error("weight {weight} of member {member} is outside 1..={most}", most = GroupSpec::MOST_WEIGHT)]
    Weight { member: usize, weight: u32 },
    #[error("{0} buckets: expected a power of two in 64..={most}", most = GroupSpec::MOST_BUCKETS)]
    BucketCount(usize),
    #[error("member {member} gets no bucket of {bucket_count}: its weight is too small beside the others")]
    NoBucket { member: usize, bucket_count: usize },
    #[error("min-up {min_up}, but the group has {members} members")]
    MinUp { min_up: usize, members: usize },
}

impl GroupSpec {
    const MOST_MEMBERS: usize = 1024;
    /// Above 99 times the sum of 1024 weights of 1000, which a discard share of 99 % may weigh.
    const MOST_WEIGHT: u32 = 1 << 27;
    const MOST_BUCKETS: usize = 1 << 16;
    const LEAST_BUCKETS: usize = 1 << 12;
    /// The largest default table: 64 KiB, so that it stays in a core's second-level cache.
    const MOST_BUCKETS_BY_ITSELF: usize = 1 << 15;
    /// How far rounding to whole buckets may take a share from its weight, when the number of buckets is ours to choose.
    const MOST_ROUNDING: f64 = 0.01;

    /// Equal members, all up, spread over what is left, flows back at once.
    pub fn equal(members: usize) -> GroupSpec {
        GroupSpec {
            weights: vec![1; members],
            standbys: 0,
            discard_weight: 0,
            min_up: 0,
            below: Below::Spread,
            returns: Returns::AtOnce,
            bucket_count: None,
            seed: 0,
        }
    }

    fn check(&self) -> Result<(), GroupError> {
        let members = self.weights.len() + self.standbys;
        if self.weights.is_empty() {
            return Err(GroupError::NoMember);
        }
        if members > Self::MOST_MEMBERS {
            return Err(GroupError::TooManyMembers(members));
        }
        for (member, &weight) in self.weights.iter().enumerate() {
            if weight == 0 || weight > Self::MOST_WEIGHT {
                return Err(GroupError::Weight { member, weight });
            }
        }
        if self.discard_weight > Self::MOST_WEIGHT {
            return Err(GroupError::Weight { member: members, weight: self.discard_weight });
        }
        if let Some(count) = self.bucket_count
            && !(count.is_power_of_two() && (64..=Self::MOST_BUCKETS).contains(&count))
        {
            return Err(GroupError::BucketCount(count));
        }
        if self.min_up > members {
            return Err(GroupError::MinUp { min_up: self.min_up, members });
        }
        Ok(())
    }

    /// Weights of the seats and, last, of the discard share.
    fn shares(&self) -> Vec<u32> {
        self.weights.iter().copied().chain([self.discard_weight]).collect()
    }

    fn choose_bucket_count(&self) -> usize {
        let shares = self.shares();
        let total: f64 = shares.iter().map(|&weight| f64::from(weight)).sum();
        let mut count = Self::LEAST_BUCKETS;
        while count < Self::MOST_BUCKETS_BY_ITSELF {
            let counts = apportion(&shares, count);
            let off = |(&weight, &got): (&u32, &usize)| {
                (got as f64 / (f64::from(weight) / total * count as f64) - 1.0).abs()
            };
            if shares.iter().zip(&counts).filter(|(weight, _)| **weight > 0).map(off).fold(0.0, f64::max)
                <= Self::MOST_ROUNDING
            {
                break;
            }
            count *= 2;
        }
        count
    }
}

/// The difference between two tables.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Movement {
    /// Buckets whose flows go elsewhere than before.
    pub buckets_moved: usize,
    /// Buckets that still wait to be idle before they go where they belong. While there are any, call `update` from time to time.
    pub buckets_pending: usize,
}

/// The control side of a group: who holds which bucket, and why.
pub struct Group {
    spec: GroupSpec,
    /// The seat that each bucket belongs to while all are occupied; `DISCARD` for the discard share.
    home: Vec<Slot>,
    /// The seat that each bucket belongs to with the seats that are occupied; `NO_MEMBER` while none is.
    seat: Vec<Slot>,
    /// The member that each bucket is with; behind `seat` while flows wait to be idle.
    holder: Vec<Slot>,
    /// The member in each seat.
    occupant: Vec<Option<usize>>,
    table: BucketTable,
}

impl Group {
    /// Builds the group with all its members up.
    ///
    /// # Errors
    /// If the members, weights, buckets or `min_up` are outside their ranges.
    pub fn new(spec: GroupSpec) -> Result<Group, GroupError> {
        spec.check()?;
        let bucket_count = spec.bucket_count.unwrap_or_else(|| spec.choose_bucket_count());
        let seats = spec.weights.len();
        let mut home = Vec::with_capacity(bucket_count);
        let counts = award(&spec.shares(), bucket_count, |share| {
            home.push(if share == seats { Slot::DISCARD } else { Slot::of(share) });
        });
        if let Some(member) = counts[..seats].iter().position(|&count| count == 0) {
            return Err(GroupError::NoBucket { member, bucket_count });
        }
        let table = BucketTable::new(home.clone().into(), spec.seed);
        let occupant = (0..seats).map(Some).collect();
        Ok(Group { seat: home.clone(), holder: home.clone(), home, occupant, table, spec })
    }

    /// Builds a group that takes the place of `before`: `from` has for each of its members the index that it had there, if it was a
    /// member. Buckets stay with the members that they have as far as the weights allow; [`update`](Self::update) says how many
    /// moved. All buckets are shared out anew where the seed differs, or where there are to be fewer of them.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn after(spec: GroupSpec, before: &Group, from: &[Option<usize>]) -> Result<Group, GroupError> {
        let least = before.home.len();
        let count = spec.bucket_count.unwrap_or_else(|| spec.choose_bucket_count().max(least));
        let fresh = Group::new(GroupSpec { bucket_count: Some(count), ..spec.clone() })?;
        if spec.seed != before.spec.seed || count < least {
            return Ok(Group { spec, ..fresh });
        }
        let (seats, seats_before) = (spec.weights.len(), before.spec.weights.len());
        let member_after = |slot: Slot| match slot.member() {
            Some(member) => {
                from.iter().position(|&from| from == Some(member)).map_or(Slot::NO_MEMBER, Slot::of)
            }
            None => slot,
        };
        // a seat goes on where its own member has one again
        let seat_after = |slot: Slot| match member_after(slot) {
            after if after.member().is_some_and(|member| member >= seats) => Slot::NO_MEMBER,
            after => after,
        };
        // a bucket is the first bits of a hash: where there are twice as many, each becomes two neighbours
        let widened = |slots: &[Slot], after: &dyn Fn(Slot) -> Slot| -> Vec<Slot> {
            slots.iter().flat_map(|&slot| std::iter::repeat_n(after(slot), count / least)).collect()
        };
        let mut home = widened(&before.home, &seat_after);
        let mut lacking = apportion(&spec.shares(), count);
        let mut strays = Vec::new();
        for (bucket, slot) in home.iter().enumerate() {
            let share = if *slot == Slot::DISCARD { Some(seats) } else { slot.member() };
            match share {
                Some(share) if lacking[share] > 0 => lacking[share] -= 1,
                _ => strays.push(bucket),
            }
        }
        for bucket in strays {
            let most = (0..=seats).max_by_key(|&share| lacking[share]).unwrap_or(seats);
            lacking[most] = lacking[most].saturating_sub(1);
            home[bucket] = if most == seats { Slot::DISCARD } else { Slot::of(most) };
        }
        let mut seat = widened(&before.seat, &seat_after);
        let mut holder = widened(&before.holder, &member_after);
        for ((seat, holder), &home) in seat.iter_mut().zip(&mut holder).zip(&home) {
            // what is discarded has no flow that could be torn
            if home == Slot::DISCARD {
                (*seat, *holder) = (home, home);
            } else if *seat == Slot::DISCARD {
                (*seat, *holder) = (Slot::NO_MEMBER, Slot::NO_MEMBER);
            }
        }
        let occupant_of = |seat: usize| {
            let before_seat = from[seat].filter(|&before_seat| before_seat < seats_before)?;
            member_after(before.occupant[before_seat].map_or(Slot::NO_MEMBER, Slot::of)).member()
        };
        let occupant = (0..seats).map(occupant_of).collect();
        let slots = widened(before.table.slots(), &member_after).into();
        Ok(Group { home, seat, holder, occupant, table: BucketTable::new(slots, spec.seed), spec })
    }

    pub fn spec(&self) -> &GroupSpec {
        &self.spec
    }

    /// The table for workers. It is the same value until `update` reports that something moved.
    pub fn table(&self) -> &BucketTable {
        &self.table
    }

    /// The member that occupies each active member's seat: itself, a standby, or nobody.
    pub fn occupants(&self) -> &[Option<usize>] {
        &self.occupant
    }

    /// Buckets of each member by the current table.
    pub fn buckets_by_member(&self) -> Vec<usize> {
        let mut counts = vec![0; self.spec.weights.len() + self.spec.standbys];
        self.table.slots().iter().filter_map(|slot| slot.member()).for_each(|member| counts[member] += 1);
        counts
    }

    /// Brings the table up to date with its members' states, one each, active members first.
    /// `is_idle` says of a bucket whether its flows may be moved without being torn; it is asked only for `Returns::WhenIdle`.
    ///
    /// # Panics
    /// If there are fewer states than members.
    pub fn update(&mut self, states: &[MemberState], is_idle: impl Fn(usize) -> bool) -> Movement {
        self.occupy_seats(states);
        self.seat_buckets();
        let buckets_pending = self.hand_over(states, is_idle);
        let up = self.occupant.iter().flatten().count();
        let is_shut = up < self.spec.min_up && self.spec.below == Below::Drop;
        let shut = |&slot: &Slot| if is_shut && slot != Slot::DISCARD { Slot::NO_MEMBER } else { slot };
        let slots: Arc<[Slot]> = self.holder.iter().map(shut).collect();
        let buckets_moved = slots.iter().zip(self.table.slots()).filter(|(to, from)| to != from).count();
        if buckets_moved > 0 {
            self.table = BucketTable { slots, ..self.table };
        }
        Movement { buckets_moved, buckets_pending }
    }

    /// Active members sit in their own seats; a standby keeps the seat that it has taken until its owner is back.
    fn occupy_seats(&mut self, states: &[MemberState]) {
        let is_up = |member: usize| states[member] == MemberState::Up;
        for (seat, occupant) in self.occupant.iter_mut().enumerate() {
            *occupant = if is_up(seat) { Some(seat) } else { occupant.filter(|&member| is_up(member)) };
        }
        let seats = self.spec.weights.len();
        for standby in (seats..seats + self.spec.standbys).filter(|&member| is_up(member)) {
            if !self.occupant.contains(&Some(standby))
                && let Some(vacant) = self.occupant.iter_mut().find(|occupant| occupant.is_none())
            {
                *vacant = Some(standby);
            }
        }
    }

    /// Gives every bucket a seat that is occupied: its home if possible, else the one it has, else where buckets are missing.
    fn seat_buckets(&mut self) {
        let weights: Vec<u32> = self
            .spec
            .weights
            .iter()
            .zip(&self.occupant)
            .map(|(&weight, occupant)| if occupant.is_some() { weight } else { 0 })
            .collect();
        let shared = self.home.iter().filter(|&&home| home != Slot::DISCARD).count();
        // How many buckets each seat should get; once its own are counted off, how many it lacks.
        let mut lacking: Vec<usize> = apportion(&weights, shared);
        let has_occupant = |slot: Slot| slot.member().is_some_and(|seat| weights[seat] > 0);
        for (seat, &home) in self.seat.iter_mut().zip(&self.home) {
            if home.member().is_some() && has_occupant(home) {
                *seat = home;
                lacking[usize::from(home.0)] -= 1;
            }
        }
        let mut strays = Vec::new();
        for (bucket, (seat, &home)) in self.seat.iter_mut().zip(&self.home).enumerate() {
            if home == Slot::DISCARD || has_occupant(home) {
                continue;
            }
            match seat.member() {
                Some(held_by) if lacking[held_by] > 0 => lacking[held_by] -= 1,
                _ => strays.push(bucket),
            }
        }
        for bucket in strays {
            let most =
                (0..lacking.len()).max_by_key(|&seat| lacking[seat]).filter(|&seat| lacking[seat] > 0);
            self.seat[bucket] = most.map_or(Slot::NO_MEMBER, |seat| {
                lacking[seat] -= 1;
                Slot::of(seat)
            });
        }
    }

    /// Moves each bucket to the member in its seat, or leaves it where its flows are alive and counts it as pending.
    fn hand_over(&mut self, states: &[MemberState], is_idle: impl Fn(usize) -> bool) -> usize {
        let mut pending = 0;
        for (bucket, (holder, seat)) in self.holder.iter_mut().zip(&self.seat).enumerate() {
            let target = match seat.member() {
                Some(seat) => self.occupant[seat].map_or(Slot::NO_MEMBER, Slot::of),
                None => *seat,
            };
            let may_stay = self.spec.returns != Returns::AtOnce
                && holder.member().is_some_and(|member| states[member] != MemberState::Down);
            if *holder != target && may_stay && !is_idle(bucket) {
                pending += 1;
            } else {
                *holder = target;
            }
        }
        pending
    }
}

/// Shares `count` buckets out by weight: Webster's method, ties to the lower index. A weight of 0 gets none; all 0 give all 0.
fn apportion(weights: &[u32], count: usize) -> Vec<usize> {
    award(weights, count, |_| ())
}

/// Awards `count` buckets one by one, each to the share with the largest weight / (2 * awarded + 1), and tells of each.
fn award(weights: &[u32], count: usize, mut each: impl FnMut(usize)) -> Vec<usize> {
    let mut counts = vec![0usize; weights.len()];
    let is_before = |counts: &[usize], a: usize, b: usize| {
        u64::from(weights[a]) * (2 * counts[b] as u64 + 1)
            > u64::from(weights[b]) * (2 * counts[a] as u64 + 1)
    };
    for _ in 0..count {
        let first = (0..weights.len()).filter(|&share| weights[share] > 0);
        let Some(best) =
            first.reduce(|best, share| if is_before(&counts, share, best) { share } else { best })
        else {
            break;
        };
        counts[best] += 1;
        each(best);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemberState::{Down, Draining, Up};
    use proptest::prelude::*;

    #[test]
    fn what_buckets_were_used_by_is_known_by_the_ids_of_another_plan() {
        let (before, after) = (BucketStamps::new(2), BucketStamps::new(4));
        let time_ns = 5 << 20;
        before.touch(0, BucketStamp::new(time_ns, PortId(1)));
        before.touch(1, BucketStamp::new(time_ns, PortId(0)));
        after.take_over(&before, &vec![None, Some(PortId(7))].into());
        let now_of = |port: PortId| if port == PortId(7) { time_ns } else { u64::MAX };
        assert_eq!(
            [0, 1, 2, 3].map(|bucket| after.is_idle(bucket, now_of, 1000)),
            [false, false, true, true]
        );
    }

    #[test]
    fn more_buckets_are_halves_of_those_before_and_flows_stay() {
        let spec = |count| GroupSpec { bucket_count: Some(count), seed: 7, ..GroupSpec::equal(3) };
        let mut before = Group::new(spec(64)).unwrap();
        before.update(&[Up, Down, Up], busy);
        let mut after = Group::after(spec(256), &before, &[Some(0), Some(1), Some(2)]).unwrap();
        assert_eq!(
            flow_hashes(1)
                .filter(|&hash| after.table().lookup(hash) != before.table().lookup(hash))
                .count(),
            0
        );
        // 64 and 256 buckets are not shared out alike
        assert!(after.update(&[Up, Down, Up], busy).buckets_moved < 4);
    }

    #[test]
    fn a_standby_keeps_the_seat_that_it_has_taken_where_its_group_gets_a_member() {
        let spec = |weights| GroupSpec { weights, standbys: 1, ..GroupSpec::equal(1) };
        let mut before = Group::new(spec(vec![1, 1])).unwrap();
        before.update(&[Down, Up, Up], busy);
        assert_eq!(before.occupants(), [Some(2), Some(1)]);
        let mut after =
            Group::after(spec(vec![1, 1, 1]), &before, &[Some(0), Some(1), None, Some(2)]).unwrap();
        let movement = after.update(&[Down, Up, Up, Up], busy);
        assert_eq!(after.occupants(), [Some(3), Some(1), Some(2)]);
        // a third goes to the member that came
        assert_eq!(movement.buckets_moved, 4096 / 3);
    }

    fn busy(_: usize) -> bool {
        false
    }

    /// SplitMix64's output function over a counter: 100 000 flows.
    fn flow_hashes(seed: u64) -> impl Iterator<Item = u64> {
        (1..=100_000u64).map(move |flow| tapline_packet::mix::mix(flow, seed))
    }

    fn spec_strategy() -> impl Strategy<Value = GroupSpec> {
        (prop::collection::vec(1u32..20, 1..12), 0usize..3, prop_oneof![Just(0u32), 1u32..20], any::<u64>())
            .prop_map(|(weights, standbys, discard_weight, seed)| GroupSpec {
                weights,
                standbys,
                discard_weight,
                seed,
                bucket_count: Some(1024),
                ..GroupSpec::equal(1)
            })
    }

    fn state_strategy() -> impl Strategy<Value = Vec<Vec<MemberState>>> {
        let state = prop_oneof![3 => Just(Up), 1 => Just(Down), 1 => Just(Draining)];
        prop::collection::vec(prop::collection::vec(state, 14), 1..12)
    }

    proptest! {
        /// Counts follow the weights of the occupied seats, whatever came before, and all is as it was when all are back.
        #[test]
        fn shares_depend_on_who_is_up_and_not_on_history(spec in spec_strategy(), history in state_strategy()) {
            let mut group = Group::new(spec.clone()).unwrap();
            let initial = group.table().clone();
            let seats = spec.weights.len();
            for states in &history {
                group.update(states, busy);
                let counts = group.buckets_by_member();
                let up = states[..seats + spec.standbys].iter().filter(|&&state| state == Up).count();
                prop_assert_eq!(group.occupants().iter().flatten().count(), up.min(seats), "every seat that can be is occupied");
                let weights: Vec<u32> = (0..seats).map(|seat| if group.occupants()[seat].is_some() { spec.weights[seat] } else { 0 }).collect();
                let shared = 1024 - initial.slots().iter().filter(|&&slot| slot == Slot::DISCARD).count();
                let expected = apportion(&weights, shared);
                for seat in 0..seats {
                    match group.occupants()[seat] {
                        Some(member) => prop_assert_eq!(counts[member], expected[seat]),
                        None => prop_assert_eq!(counts[seat], 0, "nobody sits there"),
                    }
                }
                for (now, home) in group.table().slots().iter().zip(initial.slots()) {
                    prop_assert_eq!(*now == Slot::DISCARD, *home == Slot::DISCARD, "the discard share stays as it is");
                    prop_assert!(*now != Slot::NO_MEMBER || up == 0);
                }
            }
            group.update(&[Up; 14], busy);
            prop_assert_eq!(group.table().slots(), initial.slots());
        }

        /// A group that takes another's place moves no bucket that need not move, and ends with the shares of one that is begun anew.
        #[test]
        fn members_and_weights_change_and_only_what_must_moves(
            spec in spec_strategy(),
            weights in prop::collection::vec((1u32..20, prop::option::of(0usize..12)), 1..12),
            discard_weight in prop_oneof![Just(0u32), 1u32..20],
        ) {
            let before = Group::new(GroupSpec { standbys: 0, ..spec.clone() }).unwrap();
            let mut taken = Vec::new();
            let mut known = |from: Option<usize>| {
                let from = from.filter(|from| *from < spec.weights.len() && !taken.contains(from));
                taken.extend(from);
                from
            };
            let from: Vec<Option<usize>> = weights.iter().map(|&(_, from)| known(from)).collect();
            let next = GroupSpec {
                weights: weights.iter().map(|&(weight, _)| weight).collect(),
                standbys: 0,
                discard_weight,
                ..spec.clone()
            };
            let (mut after, fresh) = (Group::after(next.clone(), &before, &from).unwrap(), Group::new(next).unwrap());
            let movement = after.update(&[Up; 12], busy);
            prop_assert_eq!(after.buckets_by_member(), fresh.buckets_by_member());
            let discarded = |group: &Group| group.table().slots().iter().filter(|&&slot| slot == Slot::DISCARD).count();
            prop_assert_eq!(discarded(&after), discarded(&fresh));
            // what each share gains is what moves, and no more
            let (had, has) = (before.buckets_by_member(), after.buckets_by_member());
            let gains = from.iter().zip(&has).map(|(from, &has)| has.saturating_sub(from.map_or(0, |from| had[from])));
            let gained = gains.sum::<usize>() + discarded(&after).saturating_sub(discarded(&before));
            prop_assert_eq!(movement.buckets_moved, gained);
            for (now, old) in after.table().slots().iter().zip(before.table().slots()) {
                let stays = now.member().map_or(now == old, |now| from[now].is_some() && from[now] == old.member());
                prop_assert!(stays || movement.buckets_moved > 0);
            }
        }

        /// Movement is the failed share, exactly: every bucket of the failed member and none other.
        #[test]
        fn when_a_member_fails_only_its_buckets_move(spec in spec_strategy(), states in state_strategy(), failing in 0usize..12) {
            let mut group = Group::new(spec.clone()).unwrap();
            let mut states = states[0].clone();
            let failing = failing % spec.weights.len();
            states[failing] = Up;
            group.update(&states, busy);
            let before = group.table().clone();
            let held = group.buckets_by_member()[failing];
            states[failing] = Down;
            let movement = group.update(&states, busy);
            prop_assert_eq!(movement, Movement { buckets_moved: held, buckets_pending: 0 });
            for (now, was) in group.table().slots().iter().zip(before.slots()) {
                prop_assert_eq!(now != was, *was == Slot::of(failing));
            }
        }

        /// With `return idle` a bucket leaves a member only if it is idle or the member is down.
        #[test]
        fn busy_flows_stay_with_a_member_that_lives(spec in spec_strategy(), history in state_strategy(), idle in any::<u64>()) {
            let mut group = Group::new(GroupSpec { returns: Returns::WhenIdle { idle_ns: 1 }, ..spec }).unwrap();
            let initial = group.table().clone();
            let is_idle = |bucket: usize| idle >> (bucket % 64) & 1 == 1;
            for states in &history {
                let before = group.table().clone();
                group.update(states, is_idle);
                for bucket in 0..1024 {
                    let (was, now) = (before.slots()[bucket], group.table().slots()[bucket]);
                    if let Some(member) = was.member() {
                        prop_assert!(was == now || is_idle(bucket) || states[member] == Down);
                    }
                    if let Some(member) = now.member() {
                        prop_assert!(states[member] != Down);
                    }
                }
            }
            group.update(&[Up; 14], is_idle);
            let movement = group.update(&[Up; 14], |_| true);
            prop_assert_eq!(movement.buckets_pending, 0);
            prop_assert_eq!(group.table().slots(), initial.slots());
        }

        #[test]
        fn losing_a_share_never_lowers_another(weights in prop::collection::vec(0u32..1000, 2..10), count in 0usize..300, lost in 0usize..10) {
            let lost = lost % weights.len();
            let before = apportion(&weights, count);
            let mut fewer = weights.clone();
            fewer[lost] = 0;
            let after = apportion(&fewer, count);
            for share in (0..weights.len()).filter(|&share| share != lost) {
                prop_assert!(after[share] >= before[share]);
            }
            prop_assert_eq!(before.iter().sum::<usize>(), if weights.iter().all(|&weight| weight == 0) { 0 } else { count });
        }
    }

    fn worst_imbalance(group: &Group, weights: &[u32], flows_seed: u64) -> f64 {
        let mut flows = vec![0u32; weights.len()];
        flow_hashes(flows_seed).for_each(|hash| flows[group.table().lookup(hash).member().unwrap()] += 1);
        let total = f64::from(weights.iter().sum::<u32>());
        let off = |(&got, &weight): (&u32, &u32)| {
            (f64::from(got) / (100_000.0 * f64::from(weight) / total) - 1.0).abs()
        };
        flows.iter().zip(weights).map(off).fold(0.0, f64::max)
    }

    /// 12 500 flows a member have a standard deviation of 0.84 % under a perfect hash, which therefore goes beyond 3 % for one of
    /// eight members in 0.27 % of draws: 200 draws are held to that, with one allowed, and the default seed's first eight to 3 %
    /// each.
    #[test]
    fn eight_members_get_their_weights_within_three_percent_of_100_000_flows() {
        for weights in [vec![1; 8], vec![2, 1, 2, 1, 2, 1, 2, 1]] {
            let group = |seed| {
                Group::new(GroupSpec { weights: weights.clone(), seed, ..GroupSpec::equal(8) }).unwrap()
            };
            let worst = (0..8).map(|flows| worst_imbalance(&group(0), &weights, flows)).fold(0.0, f64::max);
            assert!(worst <= 0.03, "weights {weights:?}: {worst}");
        }
        let draws: Vec<f64> = (0..200)
            .map(|seed| {
                worst_imbalance(
                    &Group::new(GroupSpec { seed, ..GroupSpec::equal(8) }).unwrap(),
                    &[1; 8],
                    seed,
                )
            })
            .collect();
        assert!(draws.iter().filter(|&&worst| worst > 0.03).count() <= 1);
        let mean = draws.iter().sum::<f64>() / 200.0;
        assert!(mean < 0.0165, "the mean of the worst of eight is 1.45 % under a perfect hash; got {mean}");
    }

    #[test]
    fn a_failed_members_flows_are_spread_by_the_weights_of_the_others() {
        let mut group = Group::new(GroupSpec {
            weights: vec![4, 2, 1, 1],
            bucket_count: Some(4096),
            ..GroupSpec::equal(4)
        })
        .unwrap();
        assert_eq!(group.buckets_by_member(), [2048, 1024, 512, 512]);
        group.update(&[Down, Up, Up, Up], busy);
        assert_eq!(group.buckets_by_member(), [0, 2048, 1024, 1024]);
    }

    #[test]
    fn a_standby_takes_the_place_of_the_first_that_fails_and_keeps_it() {
        let mut group = Group::new(GroupSpec { standbys: 1, ..GroupSpec::equal(2) }).unwrap();
        assert_eq!(group.buckets_by_member(), [2048, 2048, 0]);
        group.update(&[Up, Down, Up], busy);
        assert_eq!(group.buckets_by_member(), [2048, 0, 2048]);
        group.update(&[Down, Down, Up], busy);
        assert_eq!(group.occupants(), [None, Some(2)]);
        assert_eq!(group.buckets_by_member(), [0, 0, 4096]);
        group.update(&[Down, Up, Up], busy);
        assert_eq!(group.buckets_by_member(), [0, 2048, 2048], "the standby sits in for the other one");
        group.update(&[Up, Up, Up], busy);
        assert_eq!(group.buckets_by_member(), [2048, 2048, 0]);
    }

    #[test]
    fn below_min_up_a_group_drops_all_or_spreads_as_it_is_told() {
        for (below, held) in [(Below::Drop, 0), (Below::Spread, 4096)] {
            let mut group = Group::new(GroupSpec { min_up: 2, below, ..GroupSpec::equal(3) }).unwrap();
            group.update(&[Up, Down, Down], busy);
            assert_eq!(group.buckets_by_member(), [held, 0, 0]);
            let dropped = group.table().slots().iter().filter(|&&slot| slot == Slot::NO_MEMBER).count();
            assert_eq!(dropped, 4096 - held);
            group.update(&[Up, Up, Down], busy);
            assert_eq!(group.buckets_by_member().iter().sum::<usize>(), 4096);
        }
    }

    #[test]
    fn buckets_return_only_after_they_were_idle_for_the_time_asked() {
        const SECOND: u64 = 1_000_000_000;
        let start = 1_700_000_000 * SECOND;
        let idle_ns = 30 * SECOND;
        let mut group =
            Group::new(GroupSpec { returns: Returns::WhenIdle { idle_ns }, ..GroupSpec::equal(2) })
                .unwrap();
        let stamps = BucketStamps::new(group.table().bucket_count());
        group.update(&[Up, Down], |_| false);
        (0..100).for_each(|bucket| stamps.touch(bucket, BucketStamp::new(start, PortId(3))));
        let movement =
            group.update(&[Up, Up], |bucket| stamps.is_idle(bucket, |_| start + SECOND, idle_ns));
        assert_eq!(movement, Movement { buckets_moved: 2048 - 50, buckets_pending: 50 });
        let movement =
            group.update(&[Up, Up], |bucket| stamps.is_idle(bucket, |_| start + 29 * SECOND, idle_ns));
        assert_eq!(movement, Movement { buckets_moved: 0, buckets_pending: 50 });
        let movement =
            group.update(&[Up, Up], |bucket| stamps.is_idle(bucket, |_| start + 31 * SECOND, idle_ns));
        assert_eq!(movement, Movement { buckets_moved: 50, buckets_pending: 0 });
    }

    #[test]
    fn a_draining_member_keeps_busy_flows_and_gets_no_others() {
        let mut group =
            Group::new(GroupSpec { returns: Returns::WhenIdle { idle_ns: 1 }, ..GroupSpec::equal(2) })
                .unwrap();
        let movement = group.update(&[Up, Draining], |bucket| bucket >= 100);
        assert_eq!(movement, Movement { buckets_moved: 2048 - 50, buckets_pending: 50 });
        assert_eq!(group.buckets_by_member(), [4096 - 50, 50]);
    }

    #[test]
    fn flows_moved_are_counted_by_their_hashes() {
        let mut group = Group::new(GroupSpec::equal(4)).unwrap();
        let before = group.table().clone();
        let of_second =
            flow_hashes(3).filter(|&hash| before.lookup(hash).member() == Some(1)).count() as u64;
        group.update(&[Up, Down, Up, Up], busy);
        assert_eq!(group.table().flows_moved(&before, flow_hashes(3)), of_second);
        assert!(of_second > 0);
    }

    #[test]
    fn a_discard_share_may_outweigh_the_largest_weights_of_many_members() {
        let weights = vec![1000; 64];
        let discard_weight = 99 * 64 * 1000;
        let group = Group::new(GroupSpec { weights, discard_weight, ..GroupSpec::equal(1) }).unwrap();
        let discarded = group.table().slots().iter().filter(|slot| slot.member().is_none()).count();
        let share = discarded as f64 / group.table().bucket_count() as f64;
        assert!((share - 0.99).abs() < 0.01, "{share}");
    }

    #[test]
    fn a_group_outside_its_ranges_is_refused() {
        let equal = GroupSpec::equal;
        assert_eq!(Group::new(equal(0)).err(), Some(GroupError::NoMember));
        assert_eq!(Group::new(equal(2000)).err(), Some(GroupError::TooManyMembers(2000)));
        assert_eq!(
            Group::new(GroupSpec { weights: vec![1, 0], ..equal(1) }).err(),
            Some(GroupError::Weight { member: 1, weight: 0 })
        );
        assert_eq!(
            Group::new(GroupSpec { bucket_count: Some(1000), ..equal(1) }).err(),
            Some(GroupError::BucketCount(1000))
        );
        assert_eq!(
            Group::new(GroupSpec { min_up: 3, ..equal(2) }).err(),
            Some(GroupError::MinUp { min_up: 3, members: 2 })
        );
        let lopsided = GroupSpec { weights: vec![100_000, 1], bucket_count: Some(64), ..equal(1) };
        assert_eq!(Group::new(lopsided).err(), Some(GroupError::NoBucket { member: 1, bucket_count: 64 }));
    }

    proptest! {
        #[test]
        fn a_bucket_is_never_called_idle_before_its_time(seen_ns in 0u64..1 << 40, silent_ns in 0u64..10_000_000_000, idle_ns in 0u64..10_000_000_000) {
            let stamps = BucketStamps::new(1);
            stamps.touch(0, BucketStamp::new(seen_ns, PortId(0)));
            let is_idle = stamps.is_idle(0, |_| seen_ns + silent_ns, idle_ns);
            prop_assert!(!is_idle || silent_ns >= idle_ns);
            prop_assert!(is_idle || silent_ns < idle_ns + (1 << 16));
        }

        /// The ten-line model: by port its latest time, by bucket the last packet's time and port.
        #[test]
        fn a_bucket_is_as_old_as_its_own_ports_packets_say(
            packets in prop::collection::vec((0usize..8, 0usize..3, prop_oneof![9 => 0u64..400, 1 => any::<u64>().prop_map(|ns| ns >> 16)]), 1..200),
        ) {
            let idle_ns = 100 << 16;
            let (stamps, mut now, mut last) = (BucketStamps::new(8), [0u64; 3], [None; 8]);
            for (bucket, port, unit) in packets {
                now[port] = unit << 16;
                last[bucket] = Some((unit << 16, port));
                stamps.touch(bucket, BucketStamp::new(unit << 16, PortId(port)));
                for (bucket, last) in last.iter().enumerate() {
                    let is_idle = last.is_none_or(|(then, port)| now[port] > then && now[port] - then > idle_ns || then - now[port].min(then) > idle_ns);
                    prop_assert_eq!(stamps.is_idle(bucket, |port| now[port.0], idle_ns), is_idle);
                }
            }
        }
    }

    #[test]
    fn a_bucket_that_no_packet_used_is_idle_and_one_of_time_0_is_not() {
        let stamps = BucketStamps::new(2);
        stamps.touch(1, BucketStamp::new(0, PortId(0)));
        assert_eq!([0, 1].map(|bucket| stamps.is_idle(bucket, |_| 0, 1_000_000_000)), [true, false]);
    }
}
