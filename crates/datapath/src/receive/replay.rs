//! Replay: a port that is a capture file. Packets keep their times, to the nanosecond, and their lengths on the wire.
//!
//! Stands where a receive queue does. The file is read ahead by a thread of its own; the worker copies packets that are due into
//! mbufs of the port's pool. Packets of other link layers become Ethernet frames on the way, where Ethernet could carry them; the
//! others are passed over, and counted. Where the pool runs empty the packets come later, and are counted as having waited: nothing is lost
//! between the file and the rules. What is left of the file when the run ends is counted, so that no end is taken for the file's.
//! # Source
//! draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng (see `tapline_capture`).

use std::fs::File;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use crate::copies::facts::Stamps;
use crate::counters::Counter;
use crate::work_plan::ReplayPlan;
use tapline_api::values::ReplaySpeed;
use tapline_api::words::ClockQuality;
use tapline_capture::{Burst, Error, LinkType, Reader, to_ethernet};
use tapline_dpdk::clock;
use tapline_dpdk::mbuf::MbufBurst;
use tapline_dpdk::mempool::Mempool;
use tapline_dpdk::queue::Moved;
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::Frame;

/// Files up to this size are kept in memory where they are replayed more than once: opening one anew costs more than its packets.
const MOST_KEPT_BYTES: u64 = 64 << 20;

/// How far a replay has come.
#[derive(Default)]
pub struct Progress {
    /// worker: adds; control: reads.
    pub packets: Counter,
    pub bytes: Counter,
    /// Passes through the file that came to its end.
    pub passes: Counter,
    /// Packets that had to wait for an mbuf.
    pub no_mbuf: Counter,
    /// Packets of the file that no Ethernet frames are made of.
    pub passed_over: Counter,
    /// Bytes of the file that were read, over all passes.
    pub read_bytes: Counter,
    /// control: sets when it opens the file. Bytes of all passes; 0 where there is no end of them.
    pub all_bytes: Counter,
    /// worker: sets; control: reads. A packet is due, and there is no mbuf for it. Relaxed suffices: it says nothing of other memory.
    is_starved: AtomicBool,
    /// worker: sets once, with release; control: reads.
    is_ended: AtomicBool,
    failure: OnceLock<String>,
}

impl Progress {
    /// Returns whether no more packets will come.
    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }

    /// Returns whether packets are due for which there is no mbuf.
    pub fn is_starved(&self) -> bool {
        self.is_starved.load(Ordering::Relaxed) && !self.is_ended()
    }

    /// Why the file could not be read to its end, with the byte offset.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    fn end(&self, failure: Option<String>) {
        if let Some(failure) = failure {
            // it ends once, so nothing was set before
            let _ = self.failure.set(failure);
        }
        self.is_ended.store(true, Ordering::Release);
    }
}

/// Looks whether a file can be replayed, as far as its beginning says.
///
/// # Errors
/// It is no capture, or no Ethernet frames can be made of its packets.
pub fn probe(file: Box<dyn Read + Send>) -> Result<(), String> {
    let mut reader = Reader::from_stream(file).map_err(|error| error.to_string())?;
    // damage further on is for the replay to report, after what came before it
    let _ = reader.next_record();
    check_link_types(&reader)
}

fn open(path: &Path) -> Result<File, String> {
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err("is not a regular file; write it to one first".to_owned())
    }
}

/// A pcap file has one link type; of a pcapng file's interfaces one at least must give Ethernet frames.
fn check_link_types(reader: &Reader) -> Result<(), String> {
    let interfaces = reader.interfaces();
    match interfaces
        .iter()
        .all(|interface| !interface.link_type.can_be_ethernet())
        .then(|| interfaces.first())
        .flatten()
    {
        Some(interface) => Err(format!(
            "{}; only Ethernet (1) can be replayed, and what frames are made of: BSD loopback (0, 108), PPP (9, 50, 51), raw IP \
             (12, 14, 101, 228, 229), Linux cooked (113, 276)",
            fact(interface.link_type)
        )),
        None => Ok(()),
    }
}

/// Why a driver that takes all packets for Ethernet frames cannot read those of a link type.
pub fn foreign(link_type: LinkType) -> String {
    let advice =
        if link_type.can_be_ethernet() { "; `replay:FILE` makes Ethernet frames of them" } else { "" };
    format!("{}; only Ethernet (1) can be replayed so{advice}", fact(link_type))
}

fn fact(link_type: LinkType) -> String {
    let name = match link_type.0 {
        0 | 108 => " (BSD loopback)",
        9 | 50 | 51 => " (PPP)",
        12 | 14 | 101 | 228 | 229 => " (raw IP)",
        113 => " (Linux cooked)",
        276 => " (Linux cooked v2)",
        105 | 127 => " (IEEE 802.11)",
        _ => "",
    };
    format!("its packets are of link type {}{name}", link_type.0)
}

/// When packets are due: as the file's times say, some times faster, or at once.
#[derive(Debug)]
pub struct Pace {
    speed: ReplaySpeed,
    /// Ticks a second.
    hz: u64,
    /// The first packet's time, and when it was due.
    origin: Option<(u64, u64)>,
    /// The time that packets are due by their distance from, where it is not the first packet's.
    origin_ns: Option<u64>,
    paused: Option<u64>,
    /// The longest distance of two packets, as the file's times say it.
    max_gap_ns: Option<u64>,
    /// The time that the next packet's distance is counted from: the latest that was given.
    before_ns: Option<u64>,
    /// The part of longer distances beyond the longest allowed one, less what a clock was set back by.
    skipped_ns: i128,
}

impl Pace {
    /// Two packets are `max_gap_ns` apart at most when they are replayed, whatever the speed.
    pub fn new(speed: ReplaySpeed, max_gap_ns: Option<u64>, hz: u64) -> Self {
        let in_file = |ns: u64| match speed {
            ReplaySpeed::Times { thousandths } => {
                u64::try_from(u128::from(ns) * u128::from(thousandths) / 1000).unwrap_or(u64::MAX)
            }
            ReplaySpeed::Original | ReplaySpeed::Max => ns,
        };
        Self {
            speed,
            hz: hz.max(1),
            origin: None,
            origin_ns: None,
            paused: None,
            max_gap_ns: max_gap_ns.map(in_file),
            before_ns: None,
            skipped_ns: 0,
        }
    }

    /// The next packet is of time `next_ns`. What its distance from those before has beyond the longest is skipped, once. Where times
    /// go back by more than that the clock was set, as behind one wild time: they go on from there.
    #[cold]
    fn skip_gap(&mut self, next_ns: u64, max_gap_ns: u64) {
        let Some(before_ns) = self.before_ns else { return };
        let counted_from_ns = if next_ns > before_ns {
            next_ns.saturating_sub(max_gap_ns).max(before_ns)
        } else if before_ns - next_ns > max_gap_ns {
            next_ns
        } else {
            before_ns
        };
        self.skipped_ns += i128::from(counted_from_ns) - i128::from(before_ns);
        self.before_ns = Some(counted_from_ns);
    }

    /// The last packet that was given is of time `last_ns`.
    #[inline(always)]
    fn give(&mut self, last_ns: u64) {
        if self.max_gap_ns.is_some() {
            self.before_ns = self.before_ns.max(Some(last_ns));
        }
    }

    /// How long it is from `now` ticks until a packet of time `next_ns` is due, if that is known.
    fn wait(&mut self, next_ns: u64, now: u64) -> Option<Duration> {
        self.origin?;
        let thousandths = match self.speed {
            ReplaySpeed::Max => return None,
            ReplaySpeed::Original => 1000,
            ReplaySpeed::Times { thousandths } => thousandths,
        };
        let ahead_ns = next_ns.saturating_sub(self.horizon_ns(next_ns, self.paused.unwrap_or(now)));
        let wait_ns = u128::from(ahead_ns) * 1000 / u128::from(thousandths.max(1));
        Some(Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(u64::MAX)))
    }

    /// The latest time of packets that are due at `now` ticks, where `first_ns` is the time of the next packet.
    #[inline]
    fn horizon_ns(&mut self, first_ns: u64, now: u64) -> u64 {
        let thousandths = match self.speed {
            ReplaySpeed::Max => return u64::MAX,
            ReplaySpeed::Original => 1000,
            ReplaySpeed::Times { thousandths } => thousandths,
        };
        if let Some(max_gap_ns) = self.max_gap_ns {
            self.skip_gap(first_ns, max_gap_ns);
        }
        let (origin_ns, origin) = *self.origin.get_or_insert((self.origin_ns.unwrap_or(first_ns), now));
        let ticks = u128::from(now.saturating_sub(origin));
        let ns =
            ticks.saturating_mul(u128::from(thousandths)).saturating_mul(1_000_000) / u128::from(self.hz);
        let horizon_ns =
            i128::from(origin_ns) + i128::try_from(ns).unwrap_or(i128::MAX >> 2) + self.skipped_ns;
        u64::try_from(horizon_ns.max(0)).unwrap_or(u64::MAX)
    }

    /// Time stands still from `now` on.
    pub fn pause(&mut self, now: u64) {
        self.paused.get_or_insert(now);
    }

    /// Time goes on.
    pub fn resume(&mut self, now: u64) {
        if let (Some(paused), Some((_, origin))) = (self.paused.take(), &mut self.origin) {
            *origin += now.saturating_sub(paused);
        }
    }
}

/// A capture file that is read as Ethernet frames.
struct FrameReader {
    reader: Reader,
    /// The packets of the reader's burst, where some of its section have another link layer.
    made: Option<MadeBurst>,
    /// A buffer for the next.
    spare: MadeBurst,
}

/// Ethernet frames that were made of packets of other link layers, and those between them.
#[derive(Default)]
struct MadeBurst {
    bytes: Vec<u8>,
    frames: Vec<MadeFrame>,
}

struct MadeFrame {
    time_ns: u64,
    range: Range<usize>,
    original_len: u32,
}

impl MadeBurst {
    fn frame(&self, made: &MadeFrame) -> Frame<'_> {
        Frame::new(&self.bytes[made.range.clone()], made.original_len)
    }

    /// Makes frames of all packets that Ethernet could carry, in order.
    fn fill(&mut self, burst: &Burst<'_>) {
        self.bytes.clear();
        self.frames.clear();
        for record in burst.iter() {
            let link_type = burst.interfaces()[record.interface.0 as usize].link_type;
            let begin = self.bytes.len();
            let original_len = if link_type == LinkType::ETHERNET {
                self.bytes.extend_from_slice(record.bytes);
                record.original_len
            } else {
                let Some(frame) = to_ethernet(link_type, record.bytes, record.original_len) else {
                    continue;
                };
                self.bytes.extend_from_slice(frame.header());
                self.bytes.extend_from_slice(frame.payload());
                frame.original_len()
            };
            let range = begin..self.bytes.len();
            self.frames.push(MadeFrame { time_ns: record.time_ns, range, original_len });
        }
    }
}

/// Packets that were read, as frames.
#[derive(Clone, Copy)]
enum Waiting<'a> {
    Read(Burst<'a>),
    Made(&'a MadeBurst),
}

impl<'a> Waiting<'a> {
    #[inline(always)]
    fn len(self) -> usize {
        match self {
            Waiting::Read(burst) => burst.len(),
            Waiting::Made(made) => made.frames.len(),
        }
    }

    /// The length of a packet in bytes.
    fn captured_len(self, index: usize) -> usize {
        match self {
            Waiting::Read(burst) => burst.get(index).bytes.len(),
            Waiting::Made(made) => made.frames[index].range.len(),
        }
    }

    #[inline(always)]
    fn time_ns(self, index: usize) -> u64 {
        match self {
            Waiting::Read(burst) => burst.time_ns(index),
            Waiting::Made(made) => made.frames[index].time_ns,
        }
    }
}

impl FrameReader {
    fn new(reader: Reader) -> Self {
        Self { reader, made: None, spare: MadeBurst::default() }
    }

    #[inline(always)]
    fn waiting(&self) -> Waiting<'_> {
        match &self.made {
            None => Waiting::Read(self.reader.burst()),
            Some(made) => Waiting::Made(made),
        }
    }

    /// Reads the next packets; how many were passed over since they are none that Ethernet could carry, or `None` at the end of the file.
    fn next_burst(&mut self) -> Result<Option<usize>, Error> {
        if let Some(made) = self.made.take() {
            self.spare = made;
        }
        let Some(burst) = self.reader.next_burst()? else { return Ok(None) };
        if burst.interfaces().iter().all(|interface| interface.link_type == LinkType::ETHERNET) {
            return Ok(Some(0));
        }
        let mut made = std::mem::take(&mut self.spare);
        made.fill(&burst);
        let passed_over = burst.len() - made.frames.len();
        self.made = Some(made);
        Ok(Some(passed_over))
    }
}

/// A capture file as a worker's intake.
pub struct Replay {
    path: PathBuf,
    /// The file's bytes, where it is read more than once and is small enough.
    kept: Option<Arc<[u8]>>,
    /// The length of the file when it was opened.
    file_bytes: u64,
    /// `None` when no more packets will come.
    reader: Option<FrameReader>,
    /// Frames of the reader's burst that were taken.
    taken: usize,
    pool: Arc<Mempool>,
    pace: Pace,
    /// Passes after this one; `None`: for ever.
    passes_left: Option<u64>,
    timeline: Timeline,
    /// How far it may be ahead of other replays whose packets are put in order with its own.
    step_ns: Option<u64>,
    /// Later packets wait for the other replays.
    limit_ns: u64,
    is_behind: bool,
    /// Packets that were due at the last poll and found no mbuf.
    starved: usize,
    progress: Arc<Progress>,
}

/// The packets of a replay's file that a run left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    pub packets: u64,
    /// They were counted to the end; else there are more.
    pub is_counted: bool,
    /// The file is replayed for ever.
    pub is_endless: bool,
    /// When the next packet would have been due, where that is what it waited for.
    pub wait: Option<Duration>,
}

/// Places the times of a further pass behind those of the passes before, so that time goes on through all of them.
#[derive(Default, Debug)]
struct Timeline {
    shift_ns: u64,
    first_ns: Option<u64>,
    last_ns: u64,
    packets: u64,
}

impl Timeline {
    #[inline(always)]
    fn place(&mut self, file_ns: u64) -> u64 {
        self.first_ns.get_or_insert(file_ns);
        self.last_ns = self.last_ns.max(file_ns);
        self.packets += 1;
        file_ns.wrapping_add(self.shift_ns)
    }

    /// A pass has ended: the next one begins behind its last packet, at the mean distance of its packets. Returns whether it had any.
    fn next_pass(&mut self) -> bool {
        let Some(first_ns) = self.first_ns.take() else { return false };
        let span_ns = self.last_ns.saturating_sub(first_ns);
        let gap_ns = span_ns.checked_div(self.packets - 1).unwrap_or(0);
        *self =
            Self { shift_ns: self.shift_ns.wrapping_add(span_ns).wrapping_add(gap_ns), ..Self::default() };
        true
    }
}

impl Replay {
    /// Opens the file of a port whose mbufs come from `pool`. With `step_ns` it is kept from being ahead of other replays by more.
    ///
    /// # Errors
    /// As [`probe`].
    pub fn open(
        plan: &ReplayPlan,
        step_ns: Option<u64>,
        pool: Arc<Mempool>,
        progress: Arc<Progress>,
    ) -> Result<Self, String> {
        let path = PathBuf::from(&plan.path);
        probe(Box::new(open(&path)?))?;
        let file_bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        progress.all_bytes.set(file_bytes.saturating_mul(plan.passes.unwrap_or(0)));
        let is_small = || std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MOST_KEPT_BYTES);
        let kept = if plan.passes != Some(1) && is_small() {
            let mut bytes = Vec::new();
            open(&path)?.read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
            Some(bytes.into())
        } else {
            None
        };
        let mut replay = Self {
            path,
            kept,
            file_bytes,
            reader: None,
            taken: 0,
            pool,
            pace: Pace::new(plan.speed, plan.max_gap_ns, clock::tsc_hz()),
            passes_left: plan.passes.map(|passes| passes.saturating_sub(1)),
            timeline: Timeline::default(),
            step_ns,
            limit_ns: u64::MAX,
            is_behind: false,
            starved: 0,
            progress,
        };
        replay.reader = Some(replay.open_again()?);
        Ok(replay)
    }

    fn open_again(&self) -> Result<FrameReader, String> {
        let reader = match &self.kept {
            Some(bytes) => Reader::decompressing(Box::new(Cursor::new(Arc::clone(bytes)))),
            None => Reader::read_ahead(open(&self.path)?),
        };
        reader.map(FrameReader::new).map_err(|error| error.to_string())
    }

    pub fn step_ns(&self) -> Option<u64> {
        self.step_ns
    }

    /// The next packet of all replays in step is of time `next_ns`.
    pub fn keep_within(&mut self, next_ns: u64) {
        self.limit_ns = self.step_ns.map_or(u64::MAX, |step_ns| next_ns.saturating_add(step_ns));
    }

    /// Returns whether there were more packets that were due when it was polled last.
    #[inline(always)]
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Packets are due by their distance from `origin_ns`, not from the first.
    pub fn set_origin(&mut self, origin_ns: u64) {
        self.pace.origin_ns = Some(origin_ns);
    }

    pub fn speed(&self) -> ReplaySpeed {
        self.pace.speed
    }

    /// Returns whether packets are due as fast as they can be taken.
    #[inline(always)]
    pub fn is_flat_out(&self) -> bool {
        self.pace.speed == ReplaySpeed::Max
    }

    pub fn pause(&mut self) {
        self.pace.pause(clock::tsc());
    }

    pub fn resume(&mut self) {
        self.pace.resume(clock::tsc());
    }

    /// Takes at most `limit` packets that are due into an empty burst, with their times.
    pub fn receive(&mut self, burst: &mut MbufBurst, limit: usize, stamps: &mut Stamps) -> Moved {
        self.is_behind = false;
        let Some(first_ns) = self.next_time() else { return Moved::default() };
        let Some(reader) = &self.reader else { return Moved::default() };
        let due_ns = self.pace.horizon_ns(first_ns, if self.is_flat_out() { 0 } else { clock::tsc() });
        let horizon_ns = due_ns.min(self.limit_ns);
        let shift_ns = self.timeline.shift_ns;
        let waiting = reader.waiting();
        let last = waiting.len().min(self.taken + limit.min(MAX_BURST));
        let mut frames: ArrayVec<_, MAX_BURST> = ArrayVec::new();
        let is_due = |time_ns: u64| time_ns.wrapping_add(shift_ns) <= horizon_ns;
        // two loops, so that packets that are frames already pay for no others
        match waiting {
            Waiting::Read(packets) => {
                for (ns, (time_ns, frame)) in
                    stamps.ns.iter_mut().zip(packets.timed_frames(self.taken..last))
                {
                    if !is_due(time_ns) {
                        break;
                    }
                    *ns = time_ns;
                    frames.push(frame);
                }
            }
            Waiting::Made(made) => {
                for frame in made.frames[self.taken..last].iter().take_while(|frame| is_due(frame.time_ns))
                {
                    stamps.ns[frames.len()] = frame.time_ns;
                    frames.push(made.frame(frame));
                }
            }
        }
        let due = frames.len();
        // what waits for the pace is not behind
        let next = Some(self.taken + due).filter(|&next| next < waiting.len());
        self.is_behind = next.is_none_or(|next| waiting.time_ns(next).wrapping_add(shift_ns) <= due_ns);
        let moved = burst.copy_of(&self.pool, &frames);
        (stamps.quality, stamps.degraded) = (ClockQuality::Free, Selection::NONE);
        stamps.ns[..moved.packets].iter_mut().for_each(|ns| *ns = self.timeline.place(*ns));
        if let Some(last) = moved.packets.checked_sub(1) {
            self.pace.give(stamps.ns[last]);
        }
        drop(frames);
        if moved.packets < due || self.starved > 0 {
            self.note_starved(due - moved.packets, moved.packets);
        }
        self.taken += moved.packets;
        self.progress.packets.add(moved.packets as u64);
        self.progress.bytes.add(moved.bytes);
        moved
    }

    /// The lengths of packets that may be asked for next, at most `most` (1..=64); none if there are none any more.
    pub fn next_lens(&mut self, most: usize) -> impl Iterator<Item = usize> {
        let is_there = self.next_time().is_some();
        let waiting = self.reader.as_ref().filter(|_| is_there).map(FrameReader::waiting);
        let taken = self.taken;
        let next = waiting
            .into_iter()
            .flat_map(move |waiting| (taken..waiting.len()).map(move |index| waiting.captured_len(index)));
        next.take(most)
    }

    /// Counts the packets that are left of the file when the run ends. It reads the rest for that, until `deadline` at most;
    /// nothing more can be received afterwards.
    pub fn left(&mut self, deadline: Instant) -> Left {
        let mut left = Left { packets: 0, is_counted: true, is_endless: false, wait: None };
        let next_ns = self.next_time_there();
        let Some(reader) = &mut self.reader else { return left };
        left.wait = next_ns.and_then(|next_ns| self.pace.wait(next_ns, clock::tsc()));
        left.packets = (reader.waiting().len() - self.taken) as u64;
        // damage ends the file there
        while let Ok(Some(_)) = reader.next_burst() {
            left.packets += reader.waiting().len() as u64;
            if Instant::now() >= deadline {
                left.is_counted = false;
                break;
            }
        }
        let of_a_pass = self.timeline.packets.saturating_add(left.packets);
        match self.passes_left {
            None => left.is_endless = of_a_pass > 0,
            Some(passes) => left.packets = left.packets.saturating_add(passes.saturating_mul(of_a_pass)),
        }
        self.reader = None;
        left
    }

    /// The next packet's time, as far as it was read already.
    fn next_time_there(&self) -> Option<u64> {
        let waiting = self.reader.as_ref()?.waiting();
        (self.taken < waiting.len())
            .then(|| waiting.time_ns(self.taken).wrapping_add(self.timeline.shift_ns))
    }

    /// So many packets found no mbuf, behind `given` that did. Each counts once, however often it is tried again.
    #[cold]
    fn note_starved(&mut self, starved: usize, given: usize) {
        let known = self.starved.saturating_sub(given);
        self.progress.no_mbuf.add(starved.saturating_sub(known) as u64);
        self.progress.is_starved.store(starved > 0, Ordering::Relaxed);
        self.starved = starved;
    }

    /// The next packet's time; `None` when there is none, for ever.
    #[inline]
    pub fn next_time(&mut self) -> Option<u64> {
        loop {
            let waiting = self.reader.as_ref()?.waiting();
            if self.taken < waiting.len() {
                return Some(waiting.time_ns(self.taken).wrapping_add(self.timeline.shift_ns));
            }
            self.read_on();
        }
    }

    /// Reads the next packets, in this pass or the next.
    fn read_on(&mut self) {
        self.taken = 0;
        let Some(reader) = &mut self.reader else { return };
        match reader.next_burst() {
            Ok(Some(passed_over)) => {
                let earlier = self.file_bytes.saturating_mul(self.progress.passes.get());
                self.progress.read_bytes.set(earlier.saturating_add(reader.reader.offset()));
                self.progress.passed_over.add(passed_over as u64);
            }
            Ok(None) => self.end_pass(),
            Err(error) => self.end(Some(error.to_string())),
        }
    }

    #[cold]
    fn end_pass(&mut self) {
        self.progress.passes.add(1);
        self.progress.read_bytes.set(self.file_bytes.saturating_mul(self.progress.passes.get()));
        let has_packets = self.timeline.next_pass();
        if self.passes_left == Some(0) || !has_packets {
            return self.end(None);
        }
        self.passes_left = self.passes_left.map(|passes| passes - 1);
        match self.open_again() {
            Ok(reader) => self.reader = Some(reader),
            Err(failure) => self.end(Some(failure)),
        }
    }

    #[cold]
    fn end(&mut self, failure: Option<String>) {
        self.reader = None;
        self.progress.end(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packets_are_due_when_their_distance_from_the_first_has_passed(
            gaps_ns in prop::collection::vec(0u64..5_000_000, 1..50),
            steps in prop::collection::vec(1u64..3_000_000, 1..200),
            thousandths in 100u64..10_000,
            start in 0u64..1 << 60,
            pauses in prop::collection::vec((0usize..200, 1u64..9_000_000), 0..5),
        ) {
            // a tick is a nanosecond
            let mut pace = Pace::new(ReplaySpeed::Times { thousandths }, None, 1_000_000_000);
            let times: Vec<u64> = gaps_ns.iter().scan(7u64, |time, gap| { *time += gap; Some(*time) }).collect();
            let (mut now, mut played_ns, mut sent) = (start, 0u64, 0);
            for (turn, step) in steps.iter().enumerate() {
                let horizon = pace.horizon_ns(times[sent.min(times.len() - 1)], now);
                while sent < times.len() && times[sent] <= horizon {
                    sent += 1;
                }
                // the model: what has been played, paused time left out, times the speed
                let due = times.iter().filter(|&&time| u128::from(time - times[0]) * 1000 <= u128::from(played_ns) * u128::from(thousandths));
                prop_assert_eq!(sent, due.count());
                now += step;
                played_ns += step;
                for (_, pause) in pauses.iter().filter(|(at, _)| *at == turn) {
                    pace.pause(now);
                    now += pause;
                    pace.resume(now);
                }
            }
        }
    }

    #[test]
    fn no_gap_is_longer_than_the_longest_and_wild_times_stop_nothing() {
        const SECOND: u64 = 1_000_000_000;
        // the times of the file, and when each packet is due, in halves of a second from the first
        let cases: [(&[u64], &[u64]); 4] = [
            (&[0, 1_577_880_000 * SECOND, 1_577_880_000 * SECOND + SECOND / 2], &[0, 2, 3]),
            // one of the year 2106 in the middle
            (&[5 * SECOND, 6 * SECOND, 4_294_967_295 * SECOND, 7 * SECOND, 8 * SECOND], &[0, 2, 4, 4, 6]),
            // a clock that was set back, and packets a little out of order
            (
                &[9 * SECOND, 2 * SECOND, 3 * SECOND, 3 * SECOND - 7, 3 * SECOND + SECOND / 2],
                &[0, 0, 2, 2, 3],
            ),
            (&[SECOND, SECOND, 90 * SECOND, 95 * SECOND], &[0, 0, 2, 4]),
        ];
        for (thousandths, times) in [(1000, 1), (4000, 4)] {
            for (file, due) in cases {
                let file: Vec<u64> = file.iter().map(|ns| ns * times).collect();
                let mut pace = Pace::new(ReplaySpeed::Times { thousandths }, Some(SECOND), SECOND);
                let (mut given, mut seen) = (0, Vec::new());
                for half in 0..10 {
                    // a poll gives what is due, and is asked anew for what is next
                    while given < file.len()
                        && file[given] <= pace.horizon_ns(file[given], 77 + half * SECOND / 2)
                    {
                        pace.give(file[given]);
                        given += 1;
                        seen.push(half);
                    }
                }
                assert_eq!(seen, due, "{file:?} at {times}x");
                let next = file[0] + SECOND / 2 * times;
                assert_eq!(Pace::new(ReplaySpeed::Max, Some(1), SECOND).horizon_ns(next, 0), u64::MAX);
            }
        }
    }

    #[test]
    fn a_further_pass_follows_at_the_mean_distance() {
        let mut timeline = Timeline::default();
        let first: Vec<u64> = [100, 150, 130, 400].map(|ns| timeline.place(ns)).to_vec();
        assert_eq!(first, [100, 150, 130, 400]);
        assert!(timeline.next_pass());
        assert_eq!(timeline.place(100), 500);
        assert!(timeline.next_pass() && !timeline.next_pass());
        // times that no clock ever had do no harm
        let mut broken = Timeline::default();
        for ns in [0, u64::MAX] {
            broken.place(ns);
        }
        assert!(broken.next_pass());
        broken.place(u64::MAX);
        assert_eq!(
            Pace {
                origin: Some((9, 0)),
                ..Pace::new(ReplaySpeed::Times { thousandths: u64::MAX }, None, 1)
            }
            .horizon_ns(0, u64::MAX),
            u64::MAX
        );
        // a lone packet has no distance
        assert_eq!(timeline.place(100), 500);
    }
}
