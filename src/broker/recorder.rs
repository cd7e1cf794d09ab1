//! The writers of capture tools: one thread a tool, which takes batches from all workers and writes one pcapng file.
//!
//! A copy counts as sent when its bytes were handed to the system. When a write fails the tool is down for good: what waited, and
//! what still comes, is dropped as `down`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Error;
use super::written::{REMOVED, is_removed};
use crate::capture::{ByteOrder, Interface, InterfaceId, LinkType, Packet, Writer};
use crate::datapath::order::Order;
use crate::datapath::record::{Batch, Belt, Note};
use crate::dpdk::mbuf::Linear;
use crate::dpdk::{self, clock};
use crate::plan::plan::{Plan, PortId, ToolId};
use crate::stats::counters::{DropReason, ToolCounters, WriterCounters};

/// How long a writer without work sleeps: longer from time to time, so that it hardly costs anything where little comes.
const REST: Duration = Duration::from_micros(50);
const LONGEST_REST: Duration = Duration::from_millis(1);
/// Batches between two hand-overs to the system: copies are counted as sent then.
const ROUND: usize = 64;

/// A capture tool's writer, as the broker sees it.
pub struct Recorder {
    pub tool: ToolId,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
    is_stuck: bool,
}

#[derive(Default)]
struct State {
    /// control: sets when no worker gives anything any more.
    is_closing: AtomicBool,
    /// control: sets, under the lock that the writer counts under, when it counts what is left as dropped.
    is_abandoned: Mutex<bool>,
    failure: OnceLock<String>,
}

/// What the writer's thread works with.
struct Scribe {
    belts: Vec<Arc<Belt>>,
    state: Arc<State>,
    counters: Arc<WriterCounters>,
    tool: usize,
    /// By port of the plan.
    interfaces: Vec<Option<InterfaceId>>,
    linear: Linear,
    /// Where copies are written in the order of their times.
    order: Option<Order<Copy>>,
    /// Copies that may be written.
    leaving: Vec<Copy>,
}

/// A copy that is held.
type Copy = (dpdk::mbuf::Packet, Note);

/// Where a capture is written to.
enum Target {
    Open(File),
    /// A pipe: opening it waits for its reader.
    Pipe(PathBuf),
}

impl Target {
    fn at(path: &Path) -> io::Result<Self> {
        let is_pipe = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
        if is_pipe { Ok(Target::Pipe(path.to_owned())) } else { File::create(path).map(Target::Open) }
    }

    fn open(self) -> io::Result<File> {
        match self {
            Target::Open(file) => Ok(file),
            Target::Pipe(path) => File::options().write(true).open(path),
        }
    }
}

/// What was written since the last count.
#[derive(Clone, Copy, Default)]
struct Round {
    packets: u64,
    bytes: u64,
}

impl Recorder {
    /// Creates a tool's file and starts its writer. `counters` is that of all capture writers.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn start(plan: &Plan, tool: ToolId, belts: Vec<Arc<Belt>>, counters: Arc<WriterCounters>) -> Result<Self, Error> {
        let plan_tool = &plan.tools[tool.0];
        let path = plan_tool.capture.clone().unwrap_or_default();
        let refused = |error: io::Error| Error::Refused(format!("tool {}: {}: {error}", plan_tool.name, path.display()));
        let target = Target::at(&path).map_err(refused)?;
        let mut ports = plan.ports_to(tool);
        if plan.settings.is_changeable {
            let is_other = |port: &PortId| plan.ports[port.0].rxq != Some(0) && !ports.contains(port);
            let others: Vec<PortId> = (0..plan.ports.len()).map(PortId).filter(is_other).collect();
            ports.extend(others);
        }
        let names = ports.iter().map(|port| plan.ports[port.0].name.clone()).collect();
        let mut interfaces = vec![None; plan.ports.len()];
        for (index, PortId(port)) in ports.into_iter().enumerate() {
            interfaces[port] = Some(InterfaceId(index as u32));
        }
        let order = plan_tool.order_ns.map(|window_ns| Order::new(window_ns, plan_tool.queue));
        let state = Arc::new(State::default());
        let scribe = Scribe {
            belts,
            state: Arc::clone(&state),
            counters,
            tool: tool.0,
            interfaces,
            linear: Linear::default(),
            order,
            leaving: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("capture".into()).spawn(move || scribe.run(target, names, &path));
        Ok(Self { tool, state, thread: Some(thread.map_err(refused_thread)?), is_stuck: false })
    }

    /// Why the file could not be written.
    pub fn failure(&self) -> Option<&str> {
        self.state.failure.get().map(String::as_str)
    }

    /// Whether it did not end when it was told to.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck
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

fn refused_thread(error: io::Error) -> Error {
    Error::Refused(format!("a capture's writer cannot be started: {error}"))
}

/// Fails if a regular file was removed.
fn is_there(file: Option<&File>) -> io::Result<()> {
    match file.map(File::metadata).transpose()? {
        Some(metadata) if is_removed(&metadata) => Err(io::Error::other(REMOVED)),
        _ => Ok(()),
    }
}

impl Scribe {
    fn run(mut self, target: Target, names: Vec<String>, path: &Path) {
        let written = target.open().and_then(|file| self.write(file, names));
        if let Err(error) = written {
            // it fails once
            let _ = self.state.failure.set(format!("{}: {error}", path.display()));
            self.refuse();
        }
    }

    /// Writes until everything is written that workers gave before the close.
    fn write(&mut self, file: File, names: Vec<String>) -> io::Result<()> {
        let watched = if file.metadata()?.is_file() { Some(file.try_clone()?) } else { None };
        let mut writer = Writer::pcapng(file, ByteOrder::NATIVE)?;
        for name in names {
            writer.add_interface(&Interface::new(LinkType::ETHERNET, 0, Some(name)))?;
        }
        writer.flush()?;
        let mut rest = REST;
        loop {
            let is_closing = self.state.is_closing.load(Ordering::Acquire);
            let mut round = Round::default();
            let written = self.write_round(&mut writer, is_closing, &mut round).and_then(|has_batches| {
                writer.flush()?;
                if round.packets > 0 || is_closing { is_there(watched.as_ref()).map(|()| has_batches) } else { Ok(has_batches) }
            });
            let has_batches = match written {
                Ok(has_batches) => has_batches,
                Err(error) => {
                    let mut held = 0;
                    if let Some(order) = &mut self.order {
                        order.release_all(&mut |_| held += 1);
                    }
                    self.drop_copies(round.packets + held);
                    return Err(error);
                }
            };
            if has_batches || round.packets > 0 {
                rest = REST;
                if !self.count(|counters, tool| {
                    counters.tools[tool].sent.add(round.packets);
                    counters.tools[tool].sent_bytes.add(round.bytes);
                }) {
                    return Ok(());
                }
            } else if is_closing {
                return writer.finish().map(drop);
            } else {
                std::thread::sleep(rest);
                rest = LONGEST_REST.min(rest + REST / 4);
            }
        }
    }

    /// Takes some batches of every worker and writes what may leave. What was taken out for good is in `round`, written or not.
    /// Gives whether there were any batches.
    fn write_round<W: Write>(&mut self, writer: &mut Writer<W>, is_closing: bool, round: &mut Round) -> io::Result<bool> {
        let mut has_batches = false;
        for belt in &self.belts {
            for _ in 0..ROUND {
                let Some(mut batch) = belt.next() else { break };
                has_batches = true;
                let written = match &mut self.order {
                    None => {
                        round.packets += batch.notes.len() as u64;
                        round.bytes += batch.packets.bytes();
                        write_batch(&batch, &self.interfaces, &mut self.linear, writer)
                    }
                    Some(order) => {
                        take_in(&mut batch, order, &mut self.leaving, &self.counters.tools[self.tool]);
                        Ok(())
                    }
                };
                belt.give_back(batch);
                written?;
            }
        }
        if let Some(order) = &mut self.order {
            let out = &mut |copy| self.leaving.push(copy);
            match (has_batches || self.belts.iter().any(|belt| belt.is_behind()), is_closing && !has_batches) {
                (true, false) => order.release(None, out),
                (false, false) => order.release(Some(clock::monotonic_ns()), out),
                (_, true) => order.release_all(out),
            }
            round.packets += self.leaving.len() as u64;
            for (packet, note) in self.leaving.drain(..) {
                round.bytes += u64::from(packet.len());
                packet.view(&mut self.linear, |bytes| writer.write(&written(&note, bytes, &self.interfaces)))?;
            }
        }
        Ok(has_batches)
    }

    /// Drops what comes, until the close.
    fn refuse(&self) {
        loop {
            let is_closing = self.state.is_closing.load(Ordering::Acquire);
            let mut dropped = 0;
            for belt in &self.belts {
                while let Some(batch) = belt.next() {
                    dropped += batch.notes.len() as u64;
                    belt.give_back(batch);
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
        self.count(|counters, tool| counters.tools[tool].drop_copies(DropReason::Down, count));
    }

    /// Counts, unless the account has been closed. Whether it counted.
    fn count(&self, add: impl FnOnce(&WriterCounters, usize)) -> bool {
        let is_abandoned = self.state.is_abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_abandoned {
            add(&self.counters, self.tool);
        }
        !*is_abandoned
    }
}

fn write_batch<W: Write>(
    batch: &Batch,
    interfaces: &[Option<InterfaceId>],
    linear: &mut Linear,
    writer: &mut Writer<W>,
) -> io::Result<()> {
    batch.packets.view(linear, |index, bytes| writer.write(&written(&batch.notes[index], bytes, interfaces)))
}

/// What the file has of a packet.
fn written<'a>(note: &Note, bytes: &'a [u8], interfaces: &[Option<InterfaceId>]) -> Packet<'a> {
    Packet {
        // rules send packets of these ports alone
        interface: interfaces[note.port.0].unwrap_or(InterfaceId(0)),
        time_ns: note.time_ns,
        bytes,
        original_len: note.original_len.max(bytes.len() as u32),
        comments: &[],
    }
}

/// Holds a batch's packets until they may leave in order.
fn take_in(batch: &mut Batch, order: &mut Order<Copy>, leaving: &mut Vec<Copy>, tool: &ToolCounters) {
    let now_ns = clock::monotonic_ns();
    for note in batch.notes.drain(..) {
        let Some(packet) = batch.packets.pop() else { break };
        let is_late = order.push(note.time_ns, now_ns, (packet, note), &mut |copy| leaving.push(copy));
        tool.late.add(u64::from(is_late));
    }
}
