//! A store, as the thread has it that feeds it: packets become blocks of sections, gathered in chunks for the disk.
//!
//! A section is a segment. Each interface is described before its first packet of the section, and counted at the end of the section
//! and every ten seconds: what was accepted is what was delivered and what was lost. The next packet of an interface behind lost ones
//! says how many they are.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::StoreSpec;
use super::chunk::{CHUNK_LEN, Chunk, Lane, MOST_CHUNKS, Tally};
use super::disk::{Disk, Disks, Live};
use super::folder::Folder;
use super::status::Status;
use tapline_api::words::DropReason;
use tapline_capture::blocks::{self, Direction, InterfaceStatistics, STATISTICS_LEN};
use tapline_capture::{ByteOrder, Interface, InterfaceId, LinkType, Packet};

/// The byte order of segments.
const ORDER: ByteOrder = ByteOrder::NATIVE;
/// The time between two counts of the interfaces of a section.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// The time behind a loss to the disk, before which it is not tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The most bytes of one packet that readers take.
const MOST_BYTES: usize = 262_144;
/// Chunks that are left to whoever may wait: room for a section's end, the next one's beginning and what comes meanwhile.
const SPARE_CHUNKS: usize = 4;

/// A source of packets, by its place among those that a store was told of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SourceId(pub usize);

/// The counts of a port, from whenever on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PortCounts {
    pub received: u64,
    /// Packets that were lost before the port had them.
    pub missed: u64,
}

/// A port that packets come by, by its place among those that a store was told of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StorePort(usize);

/// The counts of a port, and what they were when the last section ended.
#[derive(Default)]
struct PortState {
    now: PortCounts,
    before: PortCounts,
}

/// The origin of packets: an interface of each section that has some.
#[derive(Clone, Debug)]
pub struct Source {
    /// The port's name.
    pub name: String,
    /// The words of the rule that chose the packets, and its filter as an expression of libpcap.
    pub description: Option<String>,
    pub filter: Option<String>,
    pub direction: Option<Direction>,
    pub port: Option<StorePort>,
}

/// The fate of a packet for the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// It is on its way.
    Taken,
    Lost(DropReason),
}

/// The packets that have come to their end since the last look.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Written {
    /// Writes that the system took.
    pub writes: u64,
    pub packets: u64,
    pub bytes: u64,
    /// Bytes of packets that no reader of captures would take.
    pub cut_bytes: u64,
    /// Packets that were on their way and are lost, by reason.
    pub lost: [u64; DropReason::ALL.len()],
}

/// A source, and what became of its packets.
struct SourceState {
    interface: Interface,
    direction: Option<Direction>,
    port: Option<StorePort>,
    /// The interface of the section, once it is described.
    id: Option<InterfaceId>,
    /// Packets in the section.
    delivered: u64,
    /// Packets that were lost since the last section was counted.
    dropped: u64,
    /// Packets that were lost since the packet before.
    pending: u64,
}

/// The section that is written.
struct Section {
    number: u64,
    first_ns: u64,
    begun: Instant,
    begun_ns: u64,
    bytes: u64,
    interfaces: u32,
    counted: Instant,
    /// It ends before its next packet.
    must_end: bool,
}

/// A store that records.
pub struct Store {
    lane: Arc<Lane>,
    disk: Arc<Disk>,
    live: Arc<Live>,
    generation: u64,
    spec: StoreSpec,
    comment: String,
    sources: Vec<SourceState>,
    ports: Vec<PortState>,
    section: Option<Section>,
    /// Sections so far.
    sections: u64,
    /// The chunk that is filled.
    chunk: Option<Chunk>,
    spare: Vec<Chunk>,
    made: usize,
    written: Written,
    failing: Option<(DropReason, Instant)>,
}

impl Store {
    /// Takes the folder at `path`, repairs what a crash left there, and begins to record. `comment` is of each section.
    ///
    /// # Errors
    /// There is no such folder that can be written, another store has it, or there can be no further thread.
    pub fn start(path: &Path, spec: StoreSpec, comment: String, disks: &Disks) -> io::Result<Self> {
        let folder = Folder::take(path)?;
        Self::start_in(folder, spec, comment, disks)
    }

    /// As [`Store::start`], in a folder that is taken already.
    ///
    /// # Errors
    /// It cannot be read or repaired, or there can be no further thread.
    pub fn start_in(folder: Folder, spec: StoreSpec, comment: String, disks: &Disks) -> io::Result<Self> {
        let (live, lane) = (Arc::new(Live::new(spec.clone())), Arc::new(Lane::new()));
        let disk = disks.record(folder, Arc::clone(&live), Arc::clone(&lane))?;
        Ok(Self {
            lane,
            disk,
            live,
            generation: 0,
            spec,
            comment,
            sources: Vec::new(),
            ports: Vec::new(),
            section: None,
            sections: 0,
            chunk: None,
            spare: Vec::new(),
            made: 0,
            written: Written::default(),
            failing: None,
        })
    }

    /// The handle by which others see it, and tell it other wishes.
    pub fn handle(&self) -> StoreHandle {
        StoreHandle { lane: Arc::clone(&self.lane), live: Arc::clone(&self.live) }
    }

    /// Notes a source.
    pub fn add_source(&mut self, source: Source) -> SourceId {
        let Source { name, description, filter, direction, port } = source;
        let interface = Interface::new(LinkType::ETHERNET, 0, Some(name)).described(description, filter);
        self.sources.push(SourceState {
            interface,
            direction,
            port,
            id: None,
            delivered: 0,
            dropped: 0,
            pending: 0,
        });
        SourceId(self.sources.len() - 1)
    }

    /// Notes a port that has counted so far.
    pub fn add_port(&mut self, counts: PortCounts) -> StorePort {
        self.ports.push(PortState { now: counts, before: counts });
        StorePort(self.ports.len() - 1)
    }

    /// Says what a port has counted by now.
    pub fn tell_port(&mut self, StorePort(port): StorePort, counts: PortCounts) {
        self.ports[port].now = counts;
    }

    /// Returns whether whoever can wait may go on: there is room for some packets of any length.
    pub fn has_room(&self) -> bool {
        self.failing.is_some() || self.spare.len() + (MOST_CHUNKS - self.made) >= SPARE_CHUNKS
    }

    /// Takes a packet of a source.
    pub fn put(&mut self, of: SourceId, packet: Packet<'_>) -> Put {
        if let Some((reason, until)) = self.failing {
            if Instant::now() < until {
                self.lose(of, 1);
                return Put::Lost(reason);
            }
            self.failing = None;
        }
        if self.try_put(of, packet) {
            return Put::Taken;
        }
        self.lose(of, 1);
        Put::Lost(DropReason::DiskSlow)
    }

    /// Takes a packet, if there is room. Returns whether there was.
    fn try_put(&mut self, of: SourceId, packet: Packet<'_>) -> bool {
        let kept = packet.bytes.len().min(MOST_BYTES);
        let len = blocks::packet_len(kept);
        let described = match self.sources[of.0].id {
            Some(_) => 0,
            None => described_len(&self.sources[of.0].interface),
        };
        if self
            .section
            .as_ref()
            .is_some_and(|section| self.must_end(section, len + described, packet.time_ns))
            && !self.end_section()
        {
            return false;
        }
        if self.section.is_none() && !self.begin_section(packet.time_ns) {
            return false;
        }
        if !self.reserve(len + described_len(&self.sources[of.0].interface)) {
            return false;
        }
        let (Some(chunk), Some(section)) = (&mut self.chunk, &mut self.section) else { return false };
        let source = &mut self.sources[of.0];
        let before = chunk.bytes.len();
        let id = *source.id.get_or_insert_with(|| {
            let id = InterfaceId(section.interfaces);
            section.interfaces += 1;
            blocks::interface(&mut chunk.bytes, ORDER, &source.interface).expect("Ethernet's number fits");
            id
        });
        let whole = Packet { interface: id, bytes: &packet.bytes[..kept], ..packet };
        let lost = std::mem::take(&mut source.pending);
        blocks::packet(&mut chunk.bytes, ORDER, &whole, source.direction, lost);
        chunk.tally.add(of, kept, packet.bytes.len() - kept, lost);
        source.delivered += 1;
        section.bytes += (chunk.bytes.len() - before) as u64;
        true
    }

    /// Counts packets of a source that were lost on their way here, and are counted elsewhere.
    pub fn lose(&mut self, of: SourceId, packets: u64) {
        let source = &mut self.sources[of.0];
        source.dropped += packets;
        source.pending += packets;
    }

    /// Returns whether a section has to end before `len` further bytes, of a packet at `time_ns`.
    fn must_end(&self, section: &Section, len: usize, time_ns: u64) -> bool {
        let counts = (section.interfaces as usize + 1) * STATISTICS_LEN;
        let is_full = section.must_end || section.bytes + (len + counts) as u64 > self.spec.rotate_bytes;
        let is_over = self.spec.rotate_ns.is_some_and(|ns| time_ns.saturating_sub(section.first_ns) >= ns);
        is_full || is_over
    }

    /// Makes room for `len` bytes in the chunk that is filled. Returns whether there is some.
    fn reserve(&mut self, len: usize) -> bool {
        if self
            .chunk
            .as_ref()
            .is_some_and(|chunk| chunk.bytes.len() + len > CHUNK_LEN && !chunk.bytes.is_empty())
        {
            self.hand_over();
        }
        if self.chunk.is_none() {
            self.chunk = self.spare.pop();
        }
        if self.chunk.is_none() && self.made < MOST_CHUNKS {
            self.made += 1;
            self.chunk = Some(Chunk { bytes: Vec::with_capacity(CHUNK_LEN), ..Chunk::default() });
        }
        if let (Some(chunk), Some(section)) = (&mut self.chunk, &self.section) {
            chunk.section = section.number;
        }
        self.chunk.is_some()
    }

    fn hand_over(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            // as many fit as there are
            let _ = self.lane.full.push(chunk);
            self.disk.wake();
        }
    }

    /// Begins a section whose first packet is of `time_ns`. Returns whether there was room.
    fn begin_section(&mut self, time_ns: u64) -> bool {
        if !self.reserve(CHUNK_LEN / 2) {
            return false;
        }
        let Some(chunk) = &mut self.chunk else { return false };
        self.sections += 1;
        let comments = [self.comment.as_str()];
        let comments = if self.comment.is_empty() { &[][..] } else { &comments[..] };
        blocks::section(&mut chunk.bytes, ORDER, comments);
        (chunk.begins, chunk.section) = (Some(time_ns), self.sections);
        let now = Instant::now();
        self.section = Some(Section {
            number: self.sections,
            first_ns: time_ns,
            begun: now,
            begun_ns: now_ns(),
            bytes: chunk.bytes.len() as u64,
            interfaces: 0,
            counted: now,
            must_end: false,
        });
        true
    }

    /// Ends the section, so that the next packet begins another one. Returns whether there was room, or no section.
    fn end_section(&mut self) -> bool {
        if self.section.is_none() {
            return true;
        }
        if !self.count_interfaces() {
            return false;
        }
        if let Some(chunk) = &mut self.chunk {
            chunk.ends = true;
            for (place, source) in
                self.sources.iter_mut().enumerate().filter(|(_, source)| source.id.is_some())
            {
                if source.dropped > 0 {
                    chunk.tally.part(SourceId(place)).counted = std::mem::take(&mut source.dropped);
                }
            }
            self.ports.iter_mut().for_each(|port| port.before = port.now);
        }
        self.hand_over();
        self.leave_section();
        true
    }

    fn leave_section(&mut self) {
        self.section = None;
        for source in &mut self.sources {
            (source.id, source.delivered) = (None, 0);
        }
    }

    /// Writes the counts of all interfaces of the section. Returns whether there was room.
    fn count_interfaces(&mut self) -> bool {
        let is_told = |source: &SourceState| source.id.is_some() || source.dropped > 0;
        let len = |source: &SourceState| STATISTICS_LEN + described_len(&source.interface);
        let len: usize = self.sources.iter().filter(|source| is_told(source)).map(len).sum();
        if !self.reserve(len) {
            return false;
        }
        let (Some(chunk), Some(section)) = (&mut self.chunk, &mut self.section) else { return false };
        let before = chunk.bytes.len();
        for source in self.sources.iter_mut().filter(|source| is_told(source)) {
            let id = *source.id.get_or_insert_with(|| {
                let id = InterfaceId(section.interfaces);
                section.interfaces += 1;
                blocks::interface(&mut chunk.bytes, ORDER, &source.interface)
                    .expect("Ethernet's number fits");
                id
            });
            let port = source.port.map(|StorePort(port)| &self.ports[port]);
            blocks::statistics(&mut chunk.bytes, ORDER, id, &source.counts(section.begun_ns, port));
        }
        section.bytes += (chunk.bytes.len() - before) as u64;
        section.counted = Instant::now();
        true
    }

    /// Takes note of what the disk has done.
    fn collect(&mut self) {
        while let Some(mut chunk) = self.lane.done.pop() {
            match chunk.lost {
                None => {
                    self.written.writes += 1;
                    let Tally { packets, bytes, cut_bytes, .. } = chunk.tally;
                    self.written.packets += packets;
                    self.written.bytes += bytes;
                    self.written.cut_bytes += cut_bytes;
                }
                Some(reason) => {
                    self.failing = Some((reason, Instant::now() + RETRY_INTERVAL));
                    self.lose_chunk(&chunk, reason);
                    if self.section.as_ref().is_some_and(|section| section.number == chunk.section) {
                        if let Some(mut gathered) = self.chunk.take() {
                            self.lose_chunk(&gathered, reason);
                            gathered.clear();
                            self.spare.push(gathered);
                        }
                        self.leave_section();
                    }
                }
            }
            chunk.clear();
            self.spare.push(chunk);
        }
    }

    fn lose_chunk(&mut self, chunk: &Chunk, reason: DropReason) {
        self.written.lost[reason as usize] += chunk.tally.packets;
        for part in &chunk.tally.parts {
            let source = &mut self.sources[part.of.0];
            source.dropped += part.packets + part.counted;
            source.pending += part.packets + part.told;
        }
    }

    /// Does what is due beside packets, and gives what became of those that came: to be called every so often. Where the disk has
    /// nothing to do, it gets what was gathered.
    pub fn tend(&mut self) -> Written {
        self.collect();
        let generation = self.live.generation();
        if generation != self.generation {
            (self.generation, self.spec) = self.live.read();
        }
        if let Some(section) = &self.section {
            let is_over =
                self.spec.rotate_ns.is_some_and(|ns| section.begun.elapsed() >= Duration::from_nanos(ns));
            // where there is no room, it is due at the next look
            if is_over || section.must_end {
                self.end_section();
            } else if section.counted.elapsed() >= COUNT_INTERVAL {
                self.count_interfaces();
            }
        }
        if self.lane.full.is_empty() && self.chunk.as_ref().is_some_and(|chunk| !chunk.bytes.is_empty()) {
            self.hand_over();
        }
        std::mem::take(&mut self.written)
    }

    /// Ends the segment that is written, and says in those that follow what `comment` says. Where there is no room for the end, the
    /// segment ends at its next packet.
    pub fn turn_over(&mut self, comment: String) {
        self.comment = comment;
        if !self.end_section()
            && let Some(section) = &mut self.section
        {
            section.must_end = true;
        }
    }

    /// Ends the last segment. Returns whether all has come to its end; if it has not, it is to be called again.
    pub fn finish(&mut self) -> bool {
        if !self.lane.is_closed.load(Ordering::Relaxed) {
            if !self.end_section() {
                return false;
            }
            self.lane.is_closed.store(true, Ordering::SeqCst);
            self.disk.wake();
        }
        if !self.lane.is_ended.load(Ordering::Acquire) {
            return false;
        }
        self.collect();
        true
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.lane.is_closed.store(true, Ordering::SeqCst);
        self.disk.wake();
    }
}

impl SourceState {
    /// The counts of a section that is about to end.
    fn counts(&self, begun_ns: u64, port: Option<&PortState>) -> InterfaceStatistics {
        let since = port.map(|PortState { now, before }| {
            (now.received.saturating_sub(before.received), now.missed.saturating_sub(before.missed))
        });
        InterfaceStatistics {
            start_ns: begun_ns,
            end_ns: now_ns(),
            received: since.map(|(received, _)| received),
            missed: since.map(|(_, missed)| missed),
            accepted: self.delivered + self.dropped,
            dropped: self.dropped,
            delivered: self.delivered,
        }
    }
}

/// A store, as others see it.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    lane: Arc<Lane>,
    live: Arc<Live>,
}

impl StoreHandle {
    pub fn status(&self) -> &Status {
        &self.lane.status
    }

    /// Lets it go by other wishes from now on.
    pub fn set(&self, spec: StoreSpec) {
        self.live.set(spec);
    }
}

/// Returns the most bytes of the description of an interface.
fn described_len(interface: &Interface) -> usize {
    let texts = [&interface.name, &interface.description, &interface.filter];
    let len: usize =
        texts.into_iter().flatten().map(|text| text.len().min(usize::from(u16::MAX)) + 9).sum();
    40 + len
}

fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::SegmentName;
    use crate::status::Happening;
    use tapline_capture::Reader;

    fn spec(rotate_bytes: u64, keep_bytes: u64) -> StoreSpec {
        StoreSpec {
            rotate_bytes,
            rotate_ns: None,
            keep_bytes,
            age_ns: None,
            free_percent: None,
            sync_ns: 1_000_000,
            gid: None,
        }
    }

    fn source(name: &str) -> Source {
        Source { name: name.into(), description: None, filter: None, direction: None, port: None }
    }

    fn packet(time_ns: u64, bytes: &[u8]) -> Packet<'_> {
        Packet {
            interface: InterfaceId(0),
            time_ns,
            bytes,
            original_len: bytes.len() as u32,
            comments: &[],
        }
    }

    /// Puts a packet, however long that takes.
    fn put(store: &mut Store, of: SourceId, packet: Packet<'_>, written: &mut Written) {
        while !store.has_room() {
            add(written, store.tend());
        }
        assert_eq!(store.put(of, packet), Put::Taken);
    }

    fn add(sum: &mut Written, more: Written) {
        sum.packets += more.packets;
        sum.bytes += more.bytes;
        sum.lost.iter_mut().zip(more.lost).for_each(|(sum, more)| *sum += more);
    }

    fn finish(mut store: Store, written: &mut Written) {
        while !store.finish() {
            add(written, store.tend());
        }
        add(written, store.tend());
    }

    /// A packet, behind its time.
    type Timed = (u64, Vec<u8>);

    /// The visible segments, oldest first, and the times and bytes of their packets.
    fn segments(folder: &Path) -> Vec<(SegmentName, Vec<Timed>)> {
        let names =
            fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<SegmentName> =
            names.filter_map(|name| SegmentName::of(name.to_str().expect("a name"))).collect();
        names.sort_unstable();
        let read = |name: SegmentName| {
            let mut reader = Reader::open(&folder.join(name.to_string())).expect("a segment");
            let mut packets = Vec::new();
            while let Some(burst) = reader.next_burst().expect("a whole segment") {
                for (index, record) in burst.iter().enumerate() {
                    packets.push((burst.time_ns(index), record.bytes.to_vec()));
                }
            }
            (name, packets)
        };
        names.into_iter().map(read).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn segments_hold_every_packet_once_and_in_order(
            lens in prop::collection::vec(0usize..3000, 1..400),
            rotate in 1000u64..100_000,
            rotate_ns in prop::option::of(1u64..200),
        ) {
            let folder = tempfile::tempdir().expect("a folder");
            let spec = StoreSpec { rotate_ns, ..spec(rotate, u64::MAX) };
            let disks = Disks::default();
            let mut store = Store::start(folder.path(), spec, String::new(), &disks).expect("a store");
            let sources = [store.add_source(source("a")), store.add_source(source("b"))];
            let (mut written, mut expected) = (Written::default(), Vec::new());
            for (index, len) in lens.iter().enumerate() {
                let bytes: Vec<u8> = (0..*len).map(|at| (at + index) as u8).collect();
                put(&mut store, sources[index / 3 % 2], packet(index as u64, &bytes), &mut written);
                expected.push((index as u64, bytes));
            }
            finish(store, &mut written);
            prop_assert_eq!(written.packets, lens.len() as u64);
            let found = segments(folder.path());
            for (place, (name, packets)) in found.iter().enumerate() {
                prop_assert_eq!((name.seq, name.first_ns), (place as u64, packets[0].0));
                let len = fs::metadata(folder.path().join(name.to_string())).expect("it is there").len();
                prop_assert!(len <= rotate || packets.len() == 1);
                let span = packets[packets.len() - 1].0 - packets[0].0;
                prop_assert!(rotate_ns.is_none_or(|most| span < most));
            }
            let all: Vec<_> = found.into_iter().flat_map(|(_, packets)| packets).collect();
            prop_assert!(all == expected);
            // nothing hidden is left
            let is_hidden = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
            prop_assert!(!fs::read_dir(folder.path()).expect("a folder").any(|entry| is_hidden(entry.expect("an entry"))));
        }
    }

    #[test]
    fn a_restart_goes_on_behind_the_highest_number_and_keep_counts_earlier_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("note"), [0; 5000]).expect("a file");
        let (keep, disks) = (50_000, Disks::default());
        let mut seqs = Vec::new();
        for run in 0..3 {
            let mut store =
                Store::start(folder.path(), spec(10_000, keep), String::new(), &disks).expect("a store");
            let (of, mut written) = (store.add_source(source("a")), Written::default());
            for index in 0..40 {
                put(&mut store, of, packet(run * 1000 + index, &[7; 1000]), &mut written);
                store.tend();
            }
            let handle = store.handle();
            finish(store, &mut written);
            seqs = segments(folder.path()).iter().map(|(name, _)| name.seq).collect::<Vec<u64>>();
            let files = fs::read_dir(folder.path()).expect("a folder");
            let bytes: u64 =
                files.map(|entry| entry.expect("an entry").metadata().expect("a file").len()).sum();
            assert!(bytes <= keep, "{bytes}");
            let counts = handle.status().counts();
            assert_eq!((counts.bytes, counts.segments), (bytes, seqs.len() as u64));
            // one segment beyond need at most
            assert!(run == 0 || bytes + 2 * 10_000 > keep, "{bytes}");
        }
        assert_eq!(seqs.last(), Some(&14));
        assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    }

    #[test]
    fn a_folder_that_is_gone_costs_counted_packets_until_it_is_back() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("store");
        fs::create_dir(&folder).expect("a folder");
        let disks = Disks::default();
        let mut store =
            Store::start(&folder, spec(100_000, u64::MAX), String::new(), &disks).expect("a store");
        let (of, handle, mut written) = (store.add_source(source("a")), store.handle(), Written::default());
        let (mut taken, mut refused) = (0, 0);
        let mut record =
            |store: &mut Store, written: &mut Written, is_enough: &dyn Fn(&Written, u64) -> bool| {
                while !is_enough(written, refused) {
                    match store.put(of, packet(taken, &[7; 100])) {
                        Put::Taken => taken += 1,
                        Put::Lost(reason) => {
                            assert_eq!(reason, DropReason::WriteError);
                            refused += 1;
                        }
                    }
                    add(written, store.tend());
                    std::thread::sleep(Duration::from_micros(100));
                }
                (taken, refused)
            };
        record(&mut store, &mut written, &|written, _| written.packets > 10);
        fs::remove_dir_all(&folder).expect("a folder of our own");
        record(&mut store, &mut written, &|_, refused| refused > 10);
        assert!(handle.status().counts().is_failing);
        fs::create_dir(&folder).expect("a folder");
        let before = written.packets;
        let (taken, _) = record(&mut store, &mut written, &|written, _| written.packets > before + 10);
        finish(store, &mut written);
        let lost = written.lost[DropReason::WriteError as usize];
        assert_eq!(written.packets + lost, taken);
        let found: usize = segments(&folder).iter().map(|(_, packets)| packets.len()).sum();
        assert!(found > 10 && (found as u64) < written.packets);
        let happenings = handle.status().take_happenings();
        assert!(matches!(happenings[0], Happening::Failing { reason: DropReason::WriteError, .. }));
        assert_eq!(happenings[1], Happening::Recovered);
    }

    #[test]
    fn what_a_slow_disk_has_no_room_for_is_counted_in_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let disks = Disks::default();
        let wishes = spec(16 << 20, 64 << 20);
        let mut store = Store::start(folder.path(), wishes, String::new(), &disks).expect("a store");
        let of = store.add_source(source("a"));
        let bytes = vec![7; 200_000];
        let (mut written, mut refused, mut taken) = (Written::default(), 0, 0);
        // nobody waits: memory is faster than any disk for as long as the chunks last
        while refused < 100 {
            match store.put(of, packet(taken, &bytes)) {
                Put::Taken => taken += 1,
                Put::Lost(reason) => {
                    assert_eq!(reason, DropReason::DiskSlow);
                    refused += 1;
                }
            }
            if refused > 0 {
                add(&mut written, store.tend());
            }
        }
        while !store.has_room() {
            add(&mut written, store.tend());
        }
        assert_eq!(store.put(of, packet(taken, &bytes)), Put::Taken);
        assert_eq!(store.sources[of.0].pending, 0, "the last packet tells of all before it");
        finish(store, &mut written);
        assert_eq!((written.packets, written.lost.iter().sum::<u64>()), (taken + 1, 0));
        // each loss is told in the segments that are left, or in those that expired
        let found = segments(folder.path());
        assert!(found.iter().map(|(_, packets)| packets.len()).sum::<usize>() > 100);
    }
}
