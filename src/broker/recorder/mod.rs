//! The writers of capture tools: one thread a tool, which takes batches from all workers and writes one pcapng file, or feeds a store.
//!
//! A copy counts as sent when its bytes were handed to the system. When a write to a file fails the tool is down for good: what waited,
//! and what still comes, is dropped as `down`. A store goes on, and counts what it cannot write.

/// Words and counts that the segments of a store have beside packets.
pub mod evidence;
mod store;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::evidence::{Evidence, EvidenceCell, PortTallies};
use self::store::StoreMedium;
use super::Error;
use super::outputs::{Locked, Taken};
use super::pcap_output::{Failure, REMOVED, is_removed};
use super::refusal::Refusal;
use crate::plan::Run;
use tapline_api::words::DropReason;
use tapline_capture::{ByteOrder, Interface, InterfaceId, LinkType, Packet, Writer};
use tapline_datapath::counters::EgressCounters;
use tapline_datapath::egress::capture_queue::{Batch, BatchRing, PacketMeta};
use tapline_datapath::egress::merge::Held;
use tapline_datapath::egress::reorder::Order;
use tapline_datapath::ids::{Attachment, PortId, ToolId};
use tapline_dpdk::mbuf::Linear;
use tapline_dpdk::{self as dpdk, clock};
use tapline_fault as fault;
use tapline_packet::by_id::ById;
use tapline_store::disk::Disks;
use tapline_store::{Store, StoreHandle};

/// How long a writer without work sleeps: longer from time to time, so that it hardly costs anything where little comes.
const REST: Duration = Duration::from_micros(50);
const LONGEST_REST: Duration = Duration::from_millis(1);
/// Bytes of packets between two hand-overs to the system: copies are counted as sent then, which takes a slow disk no long time.
const ROUND_BYTES: u64 = 1 << 20;
/// Bytes of one write to a pipe: what its reader takes of a longer one is not seen before the last byte is taken.
const PIPE_WRITE_LEN: usize = 4096;

/// A capture tool's writer, as the broker sees it.
pub struct Recorder {
    pub tool: ToolId,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
    is_stuck: bool,
    store: Option<Storing>,
}

/// A store that a recorder feeds, as the broker sees it.
pub struct Storing {
    pub handle: StoreHandle,
    pub evidence: Arc<EvidenceCell>,
    pub path: PathBuf,
}

#[derive(Default)]
struct State {
    /// control: sets when no worker gives anything any more.
    is_closing: AtomicBool,
    /// control: sets, under the lock that the writer counts under, when it counts what is left as dropped.
    is_abandoned: Mutex<bool>,
    /// writer: sets; control: reads. Copies that are held until they may leave in order. Relaxed suffices: it is a count.
    held: AtomicU64,
    /// control: sets; writer: resets. What is held may leave: nothing more seems to come.
    is_letting_go: AtomicBool,
    failure: OnceLock<Failure>,
}

/// The state of the writer's thread.
struct CaptureWriter {
    rings: Vec<Arc<BatchRing>>,
    state: Arc<State>,
    counters: Arc<EgressCounters>,
    linear: Linear,
    /// Holds copies that are written in the order of their times, if the tool asks for that.
    order: Option<Holding>,
    /// Copies that may be written.
    leaving: Vec<HeldCopy>,
}

/// A copy that is held.
type HeldCopy = (dpdk::mbuf::Packet, PacketMeta);

/// Copies that are held until they may leave in order.
struct Holding {
    order: Order<HeldCopy>,
    /// Mbufs that they have, and how many they may have: as many as there are for copies that wait here, however long packets are.
    mbufs: usize,
    capacity: usize,
}

impl Holding {
    fn new(window_ns: u64, capacity: usize) -> Self {
        Self { order: Order::new(window_ns, capacity), mbufs: 0, capacity }
    }

    /// Takes in a batch's packets; what may leave goes to `leaving`.
    fn take_in(&mut self, batch: &mut Batch, leaving: &mut Vec<HeldCopy>, tool: &EgressCounters) {
        let now_ns = clock::monotonic_ns();
        for meta in batch.metas.drain(..) {
            let Some(packet) = batch.packets.pop() else { break };
            self.mbufs += packet.mbufs();
            let is_late = self.order.push(
                meta.time_ns,
                now_ns,
                (packet, meta),
                &mut out_of(&mut self.mbufs, leaving),
            );
            tool.late.add(u64::from(is_late));
        }
        while self.mbufs > self.capacity && !self.order.is_empty() {
            self.order.release_first(&mut out_of(&mut self.mbufs, leaving));
        }
    }

    /// Moves copies that may leave to `leaving`.
    fn release(&mut self, held: Held, leaving: &mut Vec<HeldCopy>) {
        let mut out = out_of(&mut self.mbufs, leaving);
        match held {
            Held::Stay => self.order.release(None, &mut out),
            Held::Expire => self.order.release(Some(clock::monotonic_ns()), &mut out),
            Held::Leave => self.order.release_all(&mut out),
        }
    }
}

/// Puts copies that are held no more to those that leave.
fn out_of(mbufs: &mut usize, leaving: &mut Vec<HeldCopy>) -> impl FnMut(HeldCopy) {
    |copy| {
        *mbufs -= copy.0.mbufs();
        leaving.push(copy);
    }
}

/// A capture's file, which shows that it lives.
struct Sink {
    file: File,
    counters: Arc<EgressCounters>,
    longest_write: usize,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(&bytes[..bytes.len().min(self.longest_write)])?;
        self.counters.writes.add(1);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The target that a capture is written to.
enum Target {
    Open(File),
    /// A pipe: opening it waits for its reader.
    Pipe(PathBuf),
    Store(Box<StoreMedium>),
}

/// A file that is written.
struct FileMedium {
    writer: Writer<Sink>,
    interfaces: Interfaces,
    /// The file, if it is a regular one.
    watched: Option<File>,
}

/// This is where copies are written to.
enum Medium {
    File(FileMedium),
    Store(Box<StoreMedium>),
}

impl Target {
    /// Gives the target of a capture, and how others see it if it is a store.
    fn of(
        run: Run<'_>,
        tool: ToolId,
        taken: Taken,
        feed: &Feed,
        disks: &Disks,
    ) -> io::Result<(Self, Option<Storing>)> {
        if fault::strikes("start.capture") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let plan_tool = &run.plan.tools[tool];
        let path = plan_tool.capture.clone().unwrap_or_default();
        match (taken, &plan_tool.store) {
            (Taken::Folder(folder), Some(spec)) => {
                let evidence = Evidence::of(run.plan, tool, &feed.attachments);
                let waits = run.plan.is_waited_for(tool);
                let store = Store::start_in(folder, spec.clone(), evidence.comment.clone(), disks)?;
                let (handle, evidence) = (store.handle(), Arc::new(EvidenceCell::new(evidence, waits)));
                let shared = (Arc::clone(&feed.names), Arc::clone(&feed.tallies));
                let counters = Arc::clone(&feed.counters);
                let medium = StoreMedium::new(store, Arc::clone(&evidence), shared, counters);
                Ok((Target::Store(Box::new(medium)), Some(Storing { handle, evidence, path })))
            }
            (Taken::File(locked), _) => Ok((Self::at(&path, Some(locked))?, None)),
            (Taken::Nothing | Taken::Folder(_), _) => Ok((Self::at(&path, None)?, None)),
        }
    }

    /// Gives the target of a file: a regular one, which is locked, or what else is at `path`.
    fn at(path: &Path, locked: Option<Locked>) -> io::Result<Self> {
        if let Some(locked) = locked {
            return locked.begin().map(Target::Open);
        }
        let is_pipe = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
        if is_pipe { Ok(Target::Pipe(path.to_owned())) } else { File::create(path).map(Target::Open) }
    }

    /// Opens it; `first` are the ports that a file describes at its beginning.
    fn open(
        self,
        interfaces: Interfaces,
        first: &[Attachment],
        counters: &Arc<EgressCounters>,
    ) -> io::Result<Medium> {
        let file = match self {
            Target::Open(file) => file,
            Target::Pipe(path) => File::options().write(true).open(path)?,
            Target::Store(store) => return Ok(Medium::Store(store)),
        };
        let kind = file.metadata()?.file_type();
        let watched = if kind.is_file() { Some(file.try_clone()?) } else { None };
        let longest_write = if kind.is_fifo() { PIPE_WRITE_LEN } else { usize::MAX };
        let sink = Sink { file, counters: Arc::clone(counters), longest_write };
        let mut medium =
            FileMedium { writer: Writer::pcapng(sink, ByteOrder::NATIVE)?, interfaces, watched };
        for &port in first {
            medium.interfaces.of(port, &mut medium.writer)?;
        }
        medium.writer.flush()?;
        Ok(Medium::File(medium))
    }
}

/// The names of all ports that were attached in a run, by their attachments.
pub type PortNames = Arc<Mutex<Vec<String>>>;

/// The things that a capture tool's writer is fed with.
pub struct Feed {
    pub rings: Vec<Arc<BatchRing>>,
    pub counters: Arc<EgressCounters>,
    pub names: PortNames,
    pub tallies: PortTallies,
    /// Each port of the plan has the attachment that its packets are noted with.
    pub attachments: ById<PortId, Attachment>,
}

/// The ports that a file knows: each is described before its first packet.
struct Interfaces {
    /// Each attachment has the number of its interface in the file, once it has one.
    known: Vec<Option<InterfaceId>>,
    names: PortNames,
}

impl Interfaces {
    /// This is what the file calls a port.
    fn of<W: Write>(&mut self, port: Attachment, writer: &mut Writer<W>) -> io::Result<InterfaceId> {
        let place = port.0 as usize;
        match self.known.get(place) {
            Some(Some(known)) => Ok(*known),
            _ => self.describe(place, writer),
        }
    }

    #[cold]
    fn describe<W: Write>(&mut self, place: usize, writer: &mut Writer<W>) -> io::Result<InterfaceId> {
        let name = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(place).cloned();
        let interface = writer.add_interface(&Interface::new(LinkType::ETHERNET, 0, name))?;
        self.known.resize(self.known.len().max(place + 1), None);
        self.known[place] = Some(interface);
        Ok(interface)
    }
}

/// The packets that came to their end since the last count.
#[derive(Clone, Copy, Default)]
struct Round {
    /// Packets that were written.
    packets: u64,
    bytes: u64,
    /// Bytes of these packets that no reader of captures would take.
    cut_bytes: u64,
    /// Packets that were lost, by reason.
    lost: [u64; DropReason::ALL.len()],
}

impl Round {
    fn is_empty(&self) -> bool {
        self.packets == 0 && self.lost.iter().all(|lost| *lost == 0)
    }
}

impl Recorder {
    /// Begins a tool's file or store, which is `taken` if it is a regular file or a folder, and starts its writer, which counts in the
    /// counters of `feed`.
    ///
    /// # Errors
    /// If the file cannot be created, or the store cannot be written.
    pub fn start(
        run: Run<'_>,
        tool: ToolId,
        taken: Taken,
        feed: Feed,
        disks: &Disks,
    ) -> Result<Self, Error> {
        let plan = run.plan;
        let plan_tool = &plan.tools[tool];
        let path = plan_tool.capture.clone().unwrap_or_default();
        let refused = |error: io::Error| Refusal::Output {
            owner: format!("tool {}", plan_tool.name),
            path: path.clone(),
            error,
        };
        let (target, storing) = Target::of(run, tool, taken, &feed, disks).map_err(refused)?;
        let Feed { rings, counters, names, attachments, .. } = feed;
        let mut ports = plan.ports_to(tool).to_vec();
        if run.options.is_changeable {
            let is_other = |port: &PortId| plan.ports[*port].rxq != Some(0) && !ports.contains(port);
            let others: Vec<PortId> = plan.ports.ids().filter(is_other).collect();
            ports.extend(others);
        }
        let interfaces = Interfaces { known: Vec::new(), names };
        let first: Vec<Attachment> = ports.iter().map(|&port| attachments[port]).collect();
        let order = plan_tool.order_ns.map(|window_ns| Holding::new(window_ns, plan_tool.queue));
        let state = Arc::new(State::default());
        let capture_writer = CaptureWriter {
            rings,
            state: Arc::clone(&state),
            counters,
            linear: Linear::default(),
            order,
            leaving: Vec::new(),
        };
        let spawned = if fault::strikes("start.writer") {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            std::thread::Builder::new().name("capture".into()).spawn(move || {
                capture_writer.run(|counters| target.open(interfaces, &first, counters), &path)
            })
        };
        let thread = spawned.map_err(|error| Refusal::NoWriter { tool: plan_tool.name.clone(), error })?;
        Ok(Self { tool, state, thread: Some(thread), is_stuck: false, store: storing })
    }

    /// The store that it feeds, if it feeds one.
    pub fn store(&self) -> Option<&Storing> {
        self.store.as_ref()
    }

    /// Why the file could not be written.
    pub fn failure(&self) -> Option<&Failure> {
        self.state.failure.get()
    }

    /// Copies that the writer holds until they may leave in order.
    pub fn held(&self) -> u64 {
        self.state.held.load(Ordering::Relaxed)
    }

    /// Lets what is held leave, since nothing more seems to come. Returns whether anything was.
    pub fn let_go(&self) -> bool {
        let is_holding = self.held() > 0;
        if is_holding {
            self.state.is_letting_go.store(true, Ordering::Relaxed);
        }
        is_holding
    }

    /// Returns whether it did not end when it was told to.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Lets the writer end, once no worker gives anything any more.
    pub fn begin_close(&self) {
        self.state.is_closing.store(true, Ordering::Release);
    }

    /// Returns whether the writer has ended.
    pub fn is_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Lets the writer end, once no worker gives anything any more, and waits for it, at most `limit`. Afterwards it counts nothing
    /// any more: what it still held is for the caller to account for.
    pub fn close(&mut self, limit: Duration) {
        let Some(thread) = self.thread.take() else { return };
        self.state.is_closing.store(true, Ordering::Release);
        let deadline = Instant::now() + limit;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !thread.is_finished() {
            *self.state.is_abandoned.lock().unwrap_or_else(PoisonError::into_inner) = true;
            // one that is merely slow ends after the packet at hand
            std::thread::sleep(Duration::from_millis(20));
            self.is_stuck = !thread.is_finished();
        }
    }
}

/// Fails if a regular file was removed.
fn is_there(file: Option<&File>) -> io::Result<()> {
    match file.map(File::metadata).transpose()? {
        Some(metadata) if is_removed(&metadata) => Err(io::Error::other(REMOVED)),
        _ => Ok(()),
    }
}

impl CaptureWriter {
    fn run(mut self, open: impl FnOnce(&Arc<EgressCounters>) -> io::Result<Medium>, path: &Path) {
        let written = open(&self.counters).and_then(|medium| self.write(medium));
        if let Err(error) = written {
            // it fails once
            let _ = self
                .state
                .failure
                .set(Failure { path: path.display().to_string(), error: error.to_string() });
            self.refuse();
        }
    }

    /// Writes until everything is written that workers gave before the close.
    fn write(&mut self, mut medium: Medium) -> io::Result<()> {
        let mut rest = REST;
        loop {
            let is_closing = self.state.is_closing.load(Ordering::Acquire);
            let mut round = Round::default();
            let written = self.write_round(&mut medium, is_closing, &mut round).and_then(|has_batches| {
                self.end_round(&mut medium, is_closing, &mut round).map(|()| has_batches)
            });
            let has_batches = match written {
                Ok(has_batches) => has_batches,
                Err(error) => {
                    let mut held = 0;
                    if let Some(holding) = &mut self.order {
                        holding.order.release_all(&mut |_| held += 1);
                    }
                    self.state.held.store(0, Ordering::Relaxed);
                    self.drop_copies(round.packets + held);
                    return Err(error);
                }
            };
            if has_batches || !round.is_empty() {
                rest = REST;
                if !self.settle(&round) {
                    return Ok(());
                }
            } else if is_closing {
                match &mut medium {
                    Medium::File(file) => return file.writer.flush(),
                    Medium::Store(store) => {
                        let is_done = store.finish(&mut round);
                        if !self.settle(&round) || is_done {
                            return Ok(());
                        }
                        std::thread::sleep(REST);
                    }
                }
            } else {
                std::thread::sleep(rest);
                rest = LONGEST_REST.min(rest + REST / 4);
            }
        }
    }

    /// Counts what came to its end. Returns whether the account is still open.
    fn settle(&self, round: &Round) -> bool {
        self.count(|counted| {
            counted.sent.add(round.packets);
            counted.sent_bytes.add(round.bytes - round.cut_bytes);
            counted.cut_bytes.add(round.cut_bytes);
            for (reason, &lost) in DropReason::ALL.into_iter().zip(&round.lost) {
                counted.drop_copies(reason, lost);
            }
        })
    }

    /// Hands what was gathered to the system.
    fn end_round(&mut self, medium: &mut Medium, is_closing: bool, round: &mut Round) -> io::Result<()> {
        match medium {
            Medium::File(file) => {
                file.writer.flush()?;
                if round.packets > 0 || is_closing { is_there(file.watched.as_ref()) } else { Ok(()) }
            }
            Medium::Store(store) => {
                store.note_lost(&self.rings);
                store.look(round);
                Ok(())
            }
        }
    }

    /// Takes batches of the workers in turn, of [`ROUND_BYTES`] at most, and writes what may leave. What was taken out for good is in
    /// `round`, written or not. Gives whether there were any batches.
    fn write_round(
        &mut self,
        medium: &mut Medium,
        is_closing: bool,
        round: &mut Round,
    ) -> io::Result<bool> {
        let state = Arc::clone(&self.state);
        let is_over = || *state.is_abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut has_batches, mut taken_bytes) = (false, 0);
        loop {
            let mut has_taken = false;
            for ring in &self.rings {
                let Some(mut batch) = ring.next() else { continue };
                has_taken = true;
                let bytes = batch.packets.bytes();
                taken_bytes += bytes;
                let written = match &mut self.order {
                    None => {
                        medium.take_on(batch.metas.len() as u64, bytes, round);
                        batch.packets.view(&mut self.linear, |index, bytes| {
                            medium.put(&batch.metas[index], bytes, round, &is_over)
                        })
                    }
                    Some(holding) => {
                        holding.take_in(&mut batch, &mut self.leaving, &self.counters);
                        Ok(())
                    }
                };
                ring.give_back(batch);
                written?;
            }
            has_batches |= has_taken;
            if !has_taken || taken_bytes >= ROUND_BYTES {
                break;
            }
        }
        if let Some(holding) = &mut self.order {
            let leaves_all =
                is_closing && !has_batches || self.state.is_letting_go.swap(false, Ordering::Relaxed);
            let may_come = has_batches || self.rings.iter().any(|ring| ring.is_behind());
            let held = match (leaves_all, may_come) {
                (true, _) => Held::Leave,
                (false, true) => Held::Stay,
                (false, false) => Held::Expire,
            };
            holding.release(held, &mut self.leaving);
            self.state.held.store(holding.order.len() as u64, Ordering::Relaxed);
            let bytes = self.leaving.iter().map(|(packet, _)| u64::from(packet.len())).sum();
            medium.take_on(self.leaving.len() as u64, bytes, round);
            for (packet, meta) in self.leaving.drain(..) {
                packet.view(&mut self.linear, |bytes| medium.put(&meta, bytes, round, &is_over))?;
            }
        }
        Ok(has_batches)
    }

    /// Drops what comes, until the close.
    fn refuse(&self) {
        loop {
            let is_closing = self.state.is_closing.load(Ordering::Acquire);
            let mut dropped = 0;
            for ring in &self.rings {
                while let Some(batch) = ring.next() {
                    dropped += batch.metas.len() as u64;
                    ring.give_back(batch);
                }
            }
            match dropped {
                0 if is_closing => return,
                0 => std::thread::sleep(LONGEST_REST),
                _ => self.drop_copies(dropped),
            }
        }
    }

    fn drop_copies(&self, count: u64) {
        self.count(|counted| counted.drop_copies(DropReason::Down, count));
    }

    /// Counts, unless the account has been closed. Returns whether it counted.
    fn count(&self, add: impl FnOnce(&EgressCounters)) -> bool {
        let is_abandoned = self.state.is_abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_abandoned {
            add(&self.counters);
        }
        !*is_abandoned
    }
}

impl Medium {
    /// Notes packets that are taken out of the workers' hands for good: a file has them, or the tool is down. A store says itself what
    /// became of each.
    fn take_on(&mut self, packets: u64, bytes: u64, round: &mut Round) {
        match self {
            Medium::File(_) => {
                round.packets += packets;
                round.bytes += bytes;
            }
            // the ports have counted what comes next
            Medium::Store(store) => store.tell_ports(),
        }
    }

    fn put(
        &mut self,
        meta: &PacketMeta,
        bytes: &[u8],
        round: &mut Round,
        is_over: &dyn Fn() -> bool,
    ) -> io::Result<()> {
        match self {
            Medium::File(FileMedium { writer, interfaces, .. }) => {
                let packet = Packet {
                    interface: interfaces.of(meta.port, writer)?,
                    time_ns: meta.time_ns,
                    bytes,
                    original_len: meta.original_len,
                    comments: &[],
                };
                round.cut_bytes += writer.write(&packet)? as u64;
            }
            Medium::Store(store) => store.put(meta, bytes, round, is_over),
        }
        Ok(())
    }
}
