//! Egress: a bounded queue for each tool, transmit, and the reason for every copy that is not sent.
//!
//! The last stage. Copies go straight to the driver where nothing waits before them and they are enough for a call; else they
//! queue. Tools with classes, a limit in bytes or a rate, and those on kernel interfaces, have a [`Gate`]: they pay for it, the
//! others do not. Tools that send by the same transmit queue take turns where it does not take all that they have.

use std::sync::Arc;

use super::admission::{Class, Fill, Limits};
use super::backlog::Backlog;
use super::burst::{MAX_BURST, Selection};
use super::copy::Stamps;
use super::fit::{Fit, Unfit};
use super::live::Live;
use super::order::Order;
use super::record::{self, Origin};
use super::route::Copies;
use super::shape::{Allowance, TokenBucket};
use crate::dpdk::clock;
use crate::dpdk::mbuf::copy::Made;
use crate::dpdk::mbuf::{MbufBurst, MbufQueue, Packet, RxStamp, Shared};
use crate::dpdk::queue::{Moved, TxQueue};
use crate::dpdk::ring::{Receiver, Sender};
use crate::fault;
use crate::plan::plan::{PortId, ToolId};
use crate::stats::counters::{DropReason, ToolCounters, WorkerCounters};

/// Copies of one burst do not wait for more, where none wait before them, if they are this part of a burst, or all that was
/// received, or if a call of the driver costs little: their mbufs are still in the first cache.
const FULL_ENOUGH: u64 = 4;

/// A worker's way to one tool.
pub enum Outlet {
    /// Through a transmit queue of the worker's own: its place in [`Outlets::txqs`].
    Port { txq: usize, line: Line },
    /// Through a ring to the worker that owns the tool's transmit queue. The line gathers copies for the ring; what it admits is
    /// judged by all that waits for the tool there.
    Handover { ring: Sender, backlog: Arc<Backlog>, line: Line },
    /// To the thread that writes the tool's file.
    Capture(record::Line),
    /// Counted and freed.
    Discard,
    /// The tool's port is stopped: freed and counted as dropped.
    Down,
}

/// Copies that wait for a tool.
pub struct Line {
    queue: MbufQueue,
    gate: Option<Box<Gate>>,
    /// Where copies leave in the order of their times.
    merge: Option<Box<Merge>>,
    /// A packet in the queue whose latency is measured.
    marker: Option<Marker>,
    /// Takes all copies that there is room for, and sends them as soon and in whatever order they come.
    is_plain: bool,
    /// A call of its driver costs little beside what each packet costs.
    has_cheap_calls: bool,
    /// Its transmit queue is one of [`Outlets::shared`].
    is_shared: bool,
    /// That queue does not take all that waits for it: copies wait for the tool's turn, and do not go past others.
    is_crowded: bool,
    /// Copies that came from other workers, and those that went to the ring of another.
    taken_over: u64,
    handed_over: u64,
}

/// Where a timed packet is in a queue.
struct Marker {
    /// Packets that go before it.
    ahead: usize,
    /// When it was polled, in ticks.
    polled: u64,
}

/// Copies that are held until they can leave in order.
pub struct Merge {
    order: Order<Packet>,
    /// On their way in.
    staged: MbufQueue,
    /// Where other workers note the time of copies that they hand over.
    place: RxStamp,
}

/// What becomes of copies that wait to leave in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Earlier ones may be about to come.
    Stay,
    /// Those that have waited for the window go.
    Expire,
    /// All go.
    Leave,
}

impl Merge {
    /// For a queue of `capacity` copies, those that are held included: a burst of it, or half where it is short, is left for those
    /// that may go. Where no more can be held the earliest go before their time.
    pub fn new(window_ns: u64, capacity: usize, place: RxStamp) -> Self {
        let capacity = capacity.saturating_sub(MAX_BURST).max(capacity / 2);
        Self { order: Order::new(window_ns, capacity), staged: MbufQueue::with_capacity(MAX_BURST), place }
    }

    /// Orders what is staged, of the times of `stamps`, or of those that the packets carry.
    fn take_in(&mut self, stamps: Option<(Selection, &Stamps)>, queue: &mut MbufQueue, tool: &ToolCounters) {
        let now_ns = clock::monotonic_ns();
        let (mut late, mut lost) = (0, 0);
        let mut out = |packet| lost += u64::from(queue.push(packet).is_err());
        let mut indices = stamps.map(|(selection, stamps)| (selection.indices(), stamps));
        while let Some(packet) = self.staged.pop() {
            fault::panics("merge");
            let noted = indices.as_mut().and_then(|(indices, stamps)| Some(stamps.ns[indices.next()?]));
            let ns = noted.unwrap_or_else(|| packet.stamp(self.place));
            late += u64::from(self.order.push(ns, now_ns, packet, &mut out));
        }
        self.order.release(None, &mut out);
        tool.late.add(late);
        count_lost(tool, lost);
    }

    fn release(&mut self, held: Held, queue: &mut MbufQueue, tool: &ToolCounters) {
        if self.order.is_empty() {
            return;
        }
        let mut lost = 0;
        let mut out = |packet| lost += u64::from(queue.push(packet).is_err());
        match held {
            Held::Stay => self.order.release(None, &mut out),
            Held::Expire => self.order.release(Some(clock::monotonic_ns()), &mut out),
            Held::Leave => self.order.release_all(&mut out),
        }
        count_lost(tool, lost);
    }
}

/// What a queue admits, and how fast it may be emptied.
pub struct Gate {
    limits: Limits,
    /// Which all workers share that send to the tool.
    bucket: Option<Arc<TokenBucket>>,
    /// Bytes that wait; kept only where there is a limit to them.
    bytes: u64,
    /// The rate, not the port, held the last copies back.
    is_held_by_rate: bool,
    /// What the port takes, if it does not take all frames.
    fit: Option<Fit>,
}

impl Gate {
    pub fn new(limits: Limits, bucket: Option<Arc<TokenBucket>>, fit: Option<Fit>) -> Self {
        Self { limits, bucket, bytes: 0, is_held_by_rate: false, fit }
    }

    /// Those of `selection` that the port takes; the others are counted.
    fn fitting(&self, selection: Selection, shared: &Shared<'_>, tool: &ToolCounters) -> Selection {
        let Some(fit) = self.fit else { return selection };
        let Unfit { short, long } = fit.unfit(selection, shared);
        for (unfit, reason) in [(short, DropReason::Undersize), (long, DropReason::Oversize)] {
            if !unfit.is_empty() {
                tool.drop_copies(reason, u64::from(unfit.count()));
            }
        }
        Selection(selection.0 & !(short.0 | long.0))
    }

    fn reason(&self) -> DropReason {
        if self.is_held_by_rate { DropReason::RateLimited } else { DropReason::Congested }
    }

    /// Chooses those of `selection` that the port takes and a queue that is filled so far admits; frees the others and counts them.
    #[inline]
    fn admit(
        &self,
        fill: Fill,
        reason: DropReason,
        shared: &mut Shared<'_>,
        selection: Selection,
        by_class: [Selection; 3],
        tool: &ToolCounters,
    ) -> Selection {
        let fitting = self.fitting(selection, shared, tool);
        let by_class = by_class.map(|class| Selection(class.0 & fitting.0));
        let admitted = self.limits.admit(fill, by_class, |index| shared.len_of(index));
        for ((class, asked), admitted) in Class::ALL.into_iter().zip(by_class).zip(admitted) {
            if asked != admitted {
                tool.refuse(class, reason, u64::from(asked.count() - admitted.count()));
            }
        }
        let admitted = Selection(admitted.iter().fold(0, |all, selection| all | selection.0));
        shared.discard(Selection(selection.0 & !admitted.0));
        admitted
    }
}

/// A worker's ways to all tools, by tool.
pub struct Outlets {
    pub tools: Vec<Outlet>,
    pub txqs: Vec<TxQueue>,
    /// Those of `txqs` that several tools send by.
    pub shared: Vec<SharedTxq>,
    /// Copies that other workers hand over.
    pub handovers: Vec<Incoming>,
    /// Frames of the control thread.
    pub mails: Vec<Mail>,
    /// Most packets in one call of the driver.
    pub burst: usize,
    /// How many of `tools`, counted from the first, take copies; those behind them are the directions of wires.
    pub copy_tools: usize,
    /// Some tool is a capture.
    pub has_captures: bool,
    /// Where copies that are handed over carry their times, if some tool of another worker's orders them.
    pub time_place: Option<RxStamp>,
    /// While a burst is handed out: so many tools, counted from the first, have not been asked yet. 0 between bursts.
    pub left: usize,
}

impl Outlets {
    /// Finds the transmit queues that several tools send by, so that those take turns. All tools are there.
    pub fn take_turns(&mut self) {
        for txq in 0..self.txqs.len() {
            let sends_by = |outlet: &Outlet| matches!(outlet, Outlet::Port { txq: own, .. } if *own == txq);
            let tools: Vec<usize> = (0..self.tools.len()).filter(|&tool| sends_by(&self.tools[tool])).collect();
            if tools.len() < 2 {
                continue;
            }
            for &tool in &tools {
                if let Outlet::Port { line, .. } = &mut self.tools[tool] {
                    line.is_shared = true;
                }
            }
            self.shared.push(SharedTxq { txq, tools, turn: 0, left: self.burst, is_crowded: false });
        }
    }

    /// Sets right what a stage that unwound left half done, so that every tool's account holds again: what tools were to get of the
    /// burst's `copies` is requested of them, and what is requested and in no queue is dropped. The number dropped.
    #[cold]
    pub fn mend(&mut self, copies: &Copies, counters: &WorkerCounters) -> u64 {
        for (tool, selection) in counters.tools.iter().zip(&copies.tools).take(std::mem::take(&mut self.left)) {
            tool.requested.add(u64::from(selection.count()));
        }
        let mut dropped = 0;
        for (outlet, tool) in self.tools.iter_mut().zip(&counters.tools) {
            let (held, taken_over) = outlet.mend();
            let ended = tool.ended() + held;
            let asked = tool.requested.get() + taken_over;
            if asked >= ended {
                dropped += asked - ended;
                tool.drop_copies(DropReason::Internal, asked - ended);
            } else {
                // dropped before it was counted as requested
                tool.requested.add(ended - asked);
            }
        }
        dropped
    }

    /// Packets that surely find room in every capture tool that is up.
    #[cold]
    pub fn capture_room(&self, live: &Live) -> usize {
        let rooms = self.tools.iter().zip(&live.tools_up).filter_map(|(outlet, &is_up)| match outlet {
            Outlet::Capture(line) if is_up => Some(line.room()),
            _ => None,
        });
        rooms.min().unwrap_or(MAX_BURST)
    }
}

/// A transmit queue that several tools send by. Where it does not take all that they have, they take turns: each may send a burst,
/// and whose turn was cut short goes on with it.
///
/// Without turns the tool that is asked first would take every place that becomes free, and the others would get none.
pub struct SharedTxq {
    /// Its place in [`Outlets::txqs`].
    txq: usize,
    /// Their places in [`Outlets::tools`].
    tools: Vec<usize>,
    /// The place in `tools` of the one that may send first.
    turn: usize,
    /// Packets that it may send in this turn; at least 1.
    left: usize,
    is_crowded: bool,
}

impl SharedTxq {
    /// Sends what waits for the tools that `can_send`, a turn of at most `burst` packets each, until nothing waits or the port
    /// takes no more. Whether anything went.
    #[cold]
    fn serve(
        &mut self,
        tools: &mut [Outlet],
        txqs: &mut [TxQueue],
        burst: usize,
        can_send: impl Fn(usize) -> bool,
        counters: &WorkerCounters,
    ) -> bool {
        let txq = &mut txqs[self.txq];
        let (mut turn, mut left) = (self.turn, self.left);
        let (mut has_moved, mut cut_short) = (false, None);
        // tools in a row that had nothing more to send, or could not
        let mut at_rest = 0;
        while at_rest < self.tools.len() {
            let tool = self.tools[turn];
            at_rest += 1;
            if let Outlet::Port { line, .. } = &mut tools[tool]
                && !line.queue.is_empty()
            {
                if can_send(tool) {
                    let wanted = line.queue.len().min(left);
                    let (sent, offered) = line.transmit_some(txq, wanted, &counters.tools[tool]);
                    has_moved |= sent > 0;
                    if sent == wanted {
                        at_rest = 0;
                    } else if sent < offered && cut_short.is_none() {
                        // the others are asked all the same: a driver may refuse one frame and take the next
                        cut_short = Some((turn, left - sent));
                    }
                } else {
                    line.hold();
                }
            }
            (turn, left) = ((turn + 1) % self.tools.len(), burst);
        }
        let is_crowded = cut_short.is_some();
        (self.turn, self.left) = cut_short.unwrap_or((turn, left));
        if std::mem::replace(&mut self.is_crowded, is_crowded) != is_crowded {
            for &tool in &self.tools {
                if let Outlet::Port { line, .. } = &mut tools[tool] {
                    line.is_crowded = is_crowded;
                    line.judge_plain();
                }
            }
        }
        has_moved
    }
}

/// Copies for a tool that other workers hand over to the one that owns its transmit queue.
pub struct Incoming {
    tool: usize,
    ring: Receiver,
    backlog: Arc<Backlog>,
    /// What of the owner's own queue is in the backlog.
    known: Fill,
}

impl Incoming {
    pub fn new(tool: usize, ring: Receiver, backlog: Arc<Backlog>) -> Self {
        Self { tool, ring, backlog, known: Fill::default() }
    }

    /// Brings the backlog up to date with the owner's line.
    fn settle(&mut self, line: &Line, tool: &ToolCounters) {
        let fill = line.fill();
        self.backlog.change(self.known, fill);
        self.known = fill;
        self.backlog.note_held_by_rate(line.gate.as_ref().is_some_and(|gate| gate.is_held_by_rate));
        let waiting = self.backlog.fill();
        tool.note_depth(waiting.packets);
        tool.queued_bytes.set(waiting.bytes);
    }
}

/// Frames that the control thread sends by a port: no copies, and not counted as such.
pub struct Mail {
    /// Its place in [`Outlets::txqs`].
    pub txq: usize,
    pub ring: Receiver,
    pub queue: MbufQueue,
}

/// Hands every tool its copies of the burst, which is empty afterwards. `made` are the copies that are not the packets themselves,
/// by tool, or nothing where none is. `polled` is when the burst was polled, if it is timed.
#[inline]
pub fn egress(
    outlets: &mut Outlets,
    copies: &Copies,
    made: &mut [Made],
    burst: &mut MbufBurst,
    origin: Origin<'_>,
    polled: Option<u64>,
    counters: &WorkerCounters,
) {
    let Outlets { tools, txqs, shared, burst: limit, time_place, left, .. } = outlets;
    *left = tools.len();
    if let Some(place) = *time_place {
        burst.write_stamps(place, &origin.stamps.ns);
    }
    let mut of_burst = if made.is_empty() {
        burst.share(copies.tools.iter().copied())
    } else {
        let alone = made.iter().map(Made::alone).chain(std::iter::repeat(Selection::NONE));
        burst.share(copies.tools.iter().zip(alone).map(|(copies, alone)| Selection(copies.0 & !alone.0)))
    };
    let mut is_due = false;
    // backwards: wires stand behind the tools, and an original goes before its copies
    for (index, ((outlet, &selection), tool)) in tools.iter_mut().zip(&copies.tools).zip(&counters.tools).enumerate().rev() {
        if selection.is_empty() {
            continue;
        }
        *left = index;
        tool.requested.add(u64::from(selection.count()));
        fault::panics_on_packet("egress", index);
        if let Outlet::Port { txq, line } = outlet
            && line.is_plain
            && made.is_empty()
        {
            line.give(&mut txqs[*txq], *limit, &mut of_burst, selection, polled, tool);
            continue;
        }
        let asked = Asked { selection, origin, polled, tool };
        let by_class = || copies.by_class(index);
        match made.get_mut(index).filter(|made| !made.is_empty()) {
            None => is_due |= outlet.give(txqs, *limit, &mut of_burst, &asked, by_class),
            Some(made) => {
                if let Some(place) = *time_place {
                    made.write_stamps(place, &origin.stamps.ns);
                }
                is_due |= outlet.give(txqs, *limit, &mut of_burst.join(selection, made), &asked, by_class);
            }
        }
    }
    *left = 0;
    if is_due {
        serve_all(shared, tools, txqs, *limit, counters);
    }
}

/// Sends by transmit queues that several tools send by, once a burst waits for one of them.
#[cold]
fn serve_all(shared: &mut [SharedTxq], tools: &mut [Outlet], txqs: &mut [TxQueue], limit: usize, counters: &WorkerCounters) {
    for shared in shared {
        // a tool of the port was just given copies, so the port can send
        shared.serve(tools, txqs, limit, |_| true, counters);
    }
}

/// Hands each of `tools` a copy of every packet of the burst, as [`egress`] does; the copies are counted as requested already.
#[inline(always)]
pub fn egress_straight(
    outlets: &mut Outlets,
    tools: &[ToolId],
    burst: &mut MbufBurst,
    polled: Option<u64>,
    counters: &WorkerCounters,
) {
    if let [ToolId(index)] = *tools
        && let Outlet::Port { txq, line } = &mut outlets.tools[index]
        && line.is_plain
        && line.queue.is_empty()
    {
        // the packets themselves go, with the one reference that each has
        let (tool, packets) = (&counters.tools[index], burst.len() as u64);
        fault::panics_on_packet("egress", index);
        let (sent, lost) = burst.transmit(&mut outlets.txqs[*txq], &mut line.queue);
        line.note_sent(packets, sent, lost, polled, tool);
    } else {
        egress_alike(outlets, tools, burst, polled, counters);
    }
}

#[inline(never)]
fn egress_alike(outlets: &mut Outlets, tools: &[ToolId], burst: &mut MbufBurst, polled: Option<u64>, counters: &WorkerCounters) {
    let (all, packets) = (burst.all(), burst.len() as u64);
    let mut alike = burst.share_alike(tools.len());
    let mut is_due = false;
    for &ToolId(index) in tools {
        let tool = &counters.tools[index];
        fault::panics_on_packet("egress", index);
        match &mut outlets.tools[index] {
            Outlet::Port { txq, line } if line.is_plain && line.queue.is_empty() => {
                let (sent, lost) = alike.transmit(&mut outlets.txqs[*txq], &mut line.queue);
                line.note_sent(packets, sent, lost, polled, tool);
            }
            outlet => {
                let by_class = || [Selection::NONE, all, Selection::NONE];
                // tools that ask for times are never on the straight way
                let origin = Origin { port: PortId(0), stamps: &Stamps::NONE };
                let asked = Asked { selection: all, origin, polled, tool };
                is_due |= outlet.give(&mut outlets.txqs, outlets.burst, &mut alike.one(), &asked, by_class);
            }
        }
    }
    if is_due {
        serve_all(&mut outlets.shared, &mut outlets.tools, &mut outlets.txqs, outlets.burst, counters);
    }
}

/// What a tool is to get of a burst.
struct Asked<'a> {
    selection: Selection,
    origin: Origin<'a>,
    polled: Option<u64>,
    tool: &'a ToolCounters,
}

impl Outlet {
    /// From now on the tool's queue admits what fits `limits`, which are without bytes where they were before.
    #[cold]
    pub fn limit(&mut self, limits: Limits) {
        if let Outlet::Port { line, .. } | Outlet::Handover { line, .. } = self {
            match &mut line.gate {
                Some(gate) => gate.limits = limits,
                gate @ None => *gate = Some(Box::new(Gate::new(limits, None, None))),
            }
            line.judge_plain();
        }
    }

    /// From now on the tool's port takes what `fit` says, where it does not take all frames.
    #[cold]
    pub fn refit(&mut self, fit: Fit, tool: &ToolCounters) {
        if let Outlet::Port { line, .. } | Outlet::Handover { line, .. } = self
            && let Some(known) = line.gate.as_mut().and_then(|gate| gate.fit.as_mut())
            && *known != fit
        {
            *known = fit;
            let before = line.fill();
            line.sift(fit, tool);
            if let Outlet::Handover { backlog, line, .. } = self {
                backlog.change(before, line.fill());
                // the owner says what waits
                tool.queue_depth.set(0);
            }
        }
    }

    /// Sets right what a stage that unwound left half done. Gives the copies that the outlet holds or has handed to others, and those
    /// that it took over from others.
    #[cold]
    fn mend(&mut self) -> (u64, u64) {
        match self {
            Outlet::Port { line, .. } | Outlet::Handover { line, .. } => {
                line.mend();
                (line.len() as u64 + line.handed_over, line.taken_over)
            }
            Outlet::Capture(line) => {
                line.mend();
                (line.taken(), 0)
            }
            Outlet::Discard | Outlet::Down => (0, 0),
        }
    }

    /// Takes a tool's copies, which are counted as requested: to the driver, into its queue, or to their end. Whether a burst waits
    /// for the tool's turn.
    #[inline(never)]
    fn give(
        &mut self,
        txqs: &mut [TxQueue],
        limit: usize,
        shared: &mut Shared<'_>,
        asked: &Asked<'_>,
        by_class: impl FnOnce() -> [Selection; 3],
    ) -> bool {
        let &Asked { selection, origin, polled, tool } = asked;
        let requested = u64::from(selection.count());
        match self {
            Outlet::Port { txq, line } if line.is_plain => {
                line.give(&mut txqs[*txq], limit, shared, selection, polled, tool);
            }
            Outlet::Port { txq, line } => {
                let txq = &mut txqs[*txq];
                line.enter(shared, selection, origin.stamps, by_class, polled, tool);
                if line.queue.len() >= limit {
                    if line.is_crowded {
                        return true;
                    }
                    line.transmit(txq, limit, tool);
                }
            }
            Outlet::Handover { ring, backlog, line } => {
                line.enter_backlog(backlog, shared, selection, by_class, tool);
                if line.queue.len() >= limit {
                    line.hand_over(ring);
                }
            }
            Outlet::Capture(line) => {
                let taken = line.enter(shared, selection, origin) as u64;
                tool.note_depth(line.depth());
                count_lost(tool, requested - taken);
            }
            Outlet::Discard => {
                shared.discard(selection);
                tool.sent.add(requested);
            }
            Outlet::Down => {
                shared.discard(selection);
                tool.drop_copies(DropReason::Down, requested);
            }
        }
        false
    }
}

#[inline(always)]
fn count_sent(tool: &ToolCounters, sent: Moved) {
    tool.sent.add(sent.packets as u64);
    tool.sent_bytes.add(sent.bytes);
}

/// A timed packet goes.
#[cold]
fn note_latency(tool: &ToolCounters, polled: u64) {
    tool.latency.record(clock::tsc().wrapping_sub(polled));
}

#[inline(always)]
fn count_lost(tool: &ToolCounters, lost: u64) {
    if lost > 0 {
        tool.refuse(Class::Normal, DropReason::Congested, lost);
    }
}

impl Line {
    /// An empty queue for `capacity` packets.
    pub fn new(capacity: usize, gate: Option<Gate>, merge: Option<Merge>, has_cheap_calls: bool) -> Self {
        let mut line = Self {
            has_cheap_calls,
            queue: MbufQueue::with_capacity(capacity),
            gate: gate.map(Box::new),
            merge: merge.map(Box::new),
            marker: None,
            is_plain: false,
            is_shared: false,
            is_crowded: false,
            taken_over: 0,
            handed_over: 0,
        };
        line.judge_plain();
        line
    }

    fn judge_plain(&mut self) {
        self.is_plain = self.gate.is_none() && self.merge.is_none() && !self.is_crowded;
    }

    /// Copies that wait.
    #[inline(always)]
    fn len(&self) -> usize {
        self.queue.len() + self.merge.as_ref().map_or(0, |merge| merge.order.len())
    }

    /// And their bytes, where there is a limit to them.
    #[inline]
    fn fill(&self) -> Fill {
        Fill { packets: self.len(), bytes: self.gate.as_ref().map_or(0, |gate| gate.bytes) }
    }

    /// Frees what was on its way into the order, and forgets what is measured.
    #[cold]
    fn mend(&mut self) {
        let staged_bytes = self.merge.as_mut().map(|merge| {
            let bytes = merge.staged.bytes();
            merge.staged.clear();
            bytes
        });
        if let Some(gate) = self.gate.as_mut().filter(|gate| gate.limits.has_bytes()) {
            gate.bytes = staged_bytes.map_or(self.queue.bytes(), |bytes| gate.bytes.saturating_sub(bytes));
        }
        self.marker = None;
    }

    /// Takes copies for a plain line: to the driver, into the queue, or to their end.
    #[inline(always)]
    fn give(
        &mut self,
        txq: &mut TxQueue,
        limit: usize,
        shared: &mut Shared<'_>,
        selection: Selection,
        polled: Option<u64>,
        tool: &ToolCounters,
    ) {
        let requested = u64::from(selection.count());
        let is_enough = || self.has_cheap_calls || requested * FULL_ENOUGH >= limit as u64 || shared.is_whole(selection);
        if self.queue.is_empty() && is_enough() {
            let (sent, lost) = shared.transmit(selection, txq, &mut self.queue);
            return self.note_sent(requested, sent, lost, polled, tool);
        }
        let before = self.queue.len();
        let kept = shared.take(selection, &mut self.queue) as u64;
        count_lost(tool, requested - kept);
        self.mark(before, polled);
        tool.note_depth(self.queue.len());
        if self.queue.len() >= limit {
            self.transmit(txq, limit, tool);
        }
    }

    /// The first packet behind `before` of them is timed, if one came and none is timed yet.
    #[inline(always)]
    fn mark(&mut self, before: usize, polled: Option<u64>) {
        if let Some(polled) = polled
            && self.marker.is_none()
            && self.queue.len() > before
        {
            self.marker = Some(Marker { ahead: before, polled });
        }
    }

    /// Counts copies that went straight to the driver, and of the rest those that the queue had no room for.
    #[inline(always)]
    fn note_sent(&self, requested: u64, sent: Moved, lost: usize, polled: Option<u64>, tool: &ToolCounters) {
        count_sent(tool, sent);
        if let Some(polled) = polled.filter(|_| sent.packets > 0) {
            note_latency(tool, polled);
        }
        if sent.packets as u64 != requested {
            self.note_rest(lost, tool);
        }
    }

    #[cold]
    fn note_rest(&self, lost: usize, tool: &ToolCounters) {
        tool.note_depth(self.queue.len());
        count_lost(tool, lost as u64);
    }

    /// Queues what is admitted of `selection`, frees the rest and counts it.
    #[inline]
    fn enter(
        &mut self,
        shared: &mut Shared<'_>,
        selection: Selection,
        stamps: &Stamps,
        by_class: impl FnOnce() -> [Selection; 3],
        polled: Option<u64>,
        tool: &ToolCounters,
    ) {
        let fill = self.fill();
        let before = self.queue.len();
        let mut admitted = selection;
        let (queue, is_merged) = match &mut self.merge {
            Some(merge) => (&mut merge.staged, true),
            None => (&mut self.queue, false),
        };
        match &mut self.gate {
            None => {
                let kept = shared.take(selection, queue) as u64;
                count_lost(tool, u64::from(selection.count()) - kept);
            }
            Some(gate) => {
                admitted = gate.admit(fill, gate.reason(), shared, selection, by_class(), tool);
                // the limit of class high is the queue's capacity, so all of these fit
                shared.take(admitted, queue);
                if gate.limits.has_bytes() {
                    gate.bytes += queue.bytes_behind(if is_merged { 0 } else { before });
                }
            }
        }
        if let Some(merge) = &mut self.merge {
            merge.take_in(Some((admitted, stamps)), &mut self.queue, tool);
            return tool.note_depth(self.len());
        }
        self.mark(before, polled);
        tool.note_depth(self.queue.len());
    }

    /// Gathers what is admitted of `selection` for the ring, frees the rest and counts it.
    #[inline]
    fn enter_backlog(
        &mut self,
        backlog: &Backlog,
        shared: &mut Shared<'_>,
        selection: Selection,
        by_class: impl FnOnce() -> [Selection; 3],
        tool: &ToolCounters,
    ) {
        let Some(gate) = &mut self.gate else { return shared.discard(selection) };
        let (fill, before) = (backlog.fill(), self.queue.len());
        let admitted = gate.admit(fill, backlog.reason(), shared, selection, by_class(), tool);
        // what is gathered goes at the latest when it is a burst, and the line holds two
        let packets = shared.take(admitted, &mut self.queue);
        let bytes = if gate.limits.has_bytes() { self.queue.bytes_behind(before) } else { 0 };
        gate.bytes += bytes;
        backlog.change(Fill::default(), Fill { packets, bytes });
        // the owner says what waits
        tool.queue_peak.peak((fill.packets + packets) as u64);
    }

    /// Sends what the port takes and the rate allows. Whether anything went.
    #[inline]
    fn transmit(&mut self, txq: &mut TxQueue, limit: usize, tool: &ToolCounters) -> bool {
        let sent = match &mut self.gate {
            None => self.queue.transmit(txq, limit),
            Some(gate) => gate.transmit(&mut self.queue, txq, limit),
        };
        self.note_transmitted(sent, tool);
        sent.packets > 0
    }

    /// Sends at most `most` packets in one call of the driver, as far as the rate allows. Gives the number that the port took, and
    /// the number that it was offered.
    fn transmit_some(&mut self, txq: &mut TxQueue, most: usize, tool: &ToolCounters) -> (usize, usize) {
        let (sent, offered) = match &mut self.gate {
            None => (self.queue.transmit_some(txq, most), most),
            Some(gate) => gate.transmit_some(&mut self.queue, txq, most),
        };
        self.note_transmitted(sent, tool);
        (sent.packets, offered)
    }

    #[inline(always)]
    fn note_transmitted(&mut self, sent: Moved, tool: &ToolCounters) {
        if sent.packets == 0 {
            self.look_why(tool);
        }
        count_sent(tool, sent);
        tool.note_depth(self.queue.len());
        if let Some(marker) = &mut self.marker {
            if marker.ahead < sent.packets {
                tool.latency.record(clock::tsc().wrapping_sub(marker.polled));
                self.marker = None;
            } else {
                marker.ahead -= sent.packets;
            }
        }
    }

    /// Says what alarms go by.
    fn note_gate(&self, tool: &ToolCounters) {
        if let Some(gate) = &self.gate {
            tool.queued_bytes.set(gate.bytes);
            tool.is_held_by_rate.set(u64::from(gate.is_held_by_rate));
        }
    }

    /// What waits is not offered to the port.
    #[cold]
    fn hold(&mut self) {
        if let Some(gate) = &mut self.gate {
            gate.is_held_by_rate = false;
        }
    }

    /// The port took nothing: a frame that another worker handed over, or that was held to leave in order, when the MTU was
    /// lowered may stand at the front, and would for ever.
    #[cold]
    fn look_why(&mut self, tool: &ToolCounters) {
        if let Some(fit) = self.gate.as_ref().and_then(|gate| gate.fit)
            && self.queue.front().is_some_and(|(len, ethertype)| fit.is_long(len, || ethertype))
        {
            self.sift(fit, tool);
        }
    }

    /// Drops what waits and is too long for the port.
    #[cold]
    fn sift(&mut self, fit: Fit, tool: &ToolCounters) {
        let mut long = 0;
        for _ in 0..self.queue.len() {
            let is_long = self.queue.front().is_some_and(|(len, ethertype)| fit.is_long(len, || ethertype));
            let Some(packet) = self.queue.pop() else { break };
            if is_long {
                long += 1;
            } else {
                // there is the room that it left
                let _ = self.queue.push(packet);
            }
        }
        if long == 0 {
            return;
        }
        tool.drop_copies(DropReason::Oversize, long);
        // what it counts is not before it any more
        self.marker = None;
        if let Some(gate) = &mut self.gate
            && gate.limits.has_bytes()
        {
            gate.bytes = self.queue.bytes();
        }
        tool.note_depth(self.len());
    }

    /// Moves copies to the ring, as many as fit. Whether any did.
    #[inline]
    fn hand_over(&mut self, ring: &Sender) -> bool {
        let moved = ring.send(&mut self.queue);
        self.handed_over += moved as u64;
        if let Some(gate) = &mut self.gate
            && gate.limits.has_bytes()
        {
            gate.bytes = self.queue.bytes();
        }
        moved > 0
    }

    /// Takes what other workers hand over, as far as there is room.
    fn take_over(&mut self, incoming: &mut Incoming, tool: &ToolCounters) -> bool {
        let Incoming { ring, known, .. } = incoming;
        let Self { queue, gate, merge, taken_over, .. } = self;
        let mut gate = gate.as_mut().filter(|gate| gate.limits.has_bytes());
        // noted before anything else is done with them
        let mut note = |packets: usize, bytes: &dyn Fn() -> u64| {
            *taken_over += packets as u64;
            let bytes = gate.as_mut().map_or(0, |gate| {
                let bytes = bytes();
                gate.bytes += bytes;
                bytes
            });
            *known = Fill { packets: known.packets + packets, bytes: known.bytes + bytes };
        };
        let Some(merge) = merge else {
            let before = queue.len();
            let packets = ring.receive(queue);
            note(packets, &|| queue.bytes_behind(before));
            return packets > 0;
        };
        let mut has_taken = false;
        loop {
            let room = queue.room().saturating_sub(merge.order.len());
            let packets = ring.receive_at_most(&mut merge.staged, room);
            if packets == 0 {
                return has_taken;
            }
            note(packets, &|| merge.staged.bytes());
            merge.take_in(None, queue, tool);
            has_taken = true;
        }
    }
}

impl Gate {
    /// Sends bursts of at most `limit` packets as long as the rate allows and the port takes them whole.
    fn transmit(&mut self, queue: &mut MbufQueue, txq: &mut TxQueue, limit: usize) -> Moved {
        let mut sent = Moved::default();
        while !queue.is_empty() {
            let wanted = queue.len().min(limit);
            let (moved, _) = self.transmit_some(queue, txq, wanted);
            sent.packets += moved.packets;
            sent.bytes += moved.bytes;
            if moved.packets < wanted {
                break;
            }
        }
        sent
    }

    /// Sends at most `most` packets in one call of the driver. Gives what the port took, and the number that it was offered.
    fn transmit_some(&mut self, queue: &mut MbufQueue, txq: &mut TxQueue, most: usize) -> (Moved, usize) {
        let wanted = queue.len().min(most);
        let (sent, offered) = match &self.bucket {
            None => (queue.transmit_some(txq, wanted), wanted),
            Some(bucket) => {
                let choose = |allowance: &mut Allowance<'_>| queue.leading(wanted, |len| allowance.lets_go(len));
                let taken = bucket.take(clock::tsc(), choose);
                let sent = queue.transmit_some(txq, taken.packets);
                if sent.packets < taken.packets {
                    bucket.give_back(taken.packets - sent.packets, taken.bytes - sent.bytes);
                }
                (sent, taken.packets)
            }
        };
        self.is_held_by_rate = offered < wanted && sent.packets == offered;
        if self.limits.has_bytes() {
            self.bytes = self.bytes.saturating_sub(sent.bytes);
        }
        (sent, offered)
    }
}

/// What a flush did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Flushed {
    /// Some packets still wait.
    pub is_left: bool,
    /// Some copies for tools that are up.
    pub are_copies_left: bool,
    /// Some originals on a wire whose other side has a link.
    pub are_originals_left: bool,
    /// Some copies went.
    pub has_moved: bool,
}

/// Sends what waits, other workers' copies included.
pub fn flush(outlets: &mut Outlets, held: Held, live: &Live, counters: &WorkerCounters) -> Flushed {
    let Outlets { tools, txqs, shared, handovers, mails, burst: limit, copy_tools, .. } = outlets;
    fault::panics("flush");
    let mut flushed = Flushed::default();
    for Mail { txq, ring, queue } in mails.iter_mut() {
        ring.receive(queue);
        if !queue.is_empty() {
            queue.transmit(&mut txqs[*txq], *limit);
        }
    }
    for incoming in handovers.iter_mut() {
        if let Outlet::Port { line, .. } = &mut tools[incoming.tool] {
            flushed.has_moved |= line.take_over(incoming, &counters.tools[incoming.tool]);
            flushed.note_left(incoming.ring.count() > 0, incoming.tool, *copy_tools, live);
        }
    }
    for (index, (outlet, tool)) in tools.iter_mut().zip(&counters.tools).enumerate().rev() {
        if let Outlet::Port { line, .. } = outlet
            && line.is_plain
            && line.queue.is_empty()
        {
            // nothing waits, and nothing limits it
            continue;
        }
        if let Outlet::Port { line, .. } = outlet
            && let Some(merge) = &mut line.merge
        {
            merge.release(held, &mut line.queue, tool);
            tool.note_depth(line.len());
        }
        let left = match outlet {
            // in its turn, below
            Outlet::Port { line, .. } if line.is_shared => continue,
            Outlet::Port { txq, line } if !line.queue.is_empty() => {
                if live.can_send[index] {
                    flushed.has_moved |= line.transmit(&mut txqs[*txq], *limit, tool);
                } else {
                    line.hold();
                }
                line.note_gate(tool);
                line.len()
            }
            Outlet::Port { line, .. } => {
                line.note_gate(tool);
                line.len()
            }
            Outlet::Handover { ring, line, .. } if !line.queue.is_empty() => {
                flushed.has_moved |= line.hand_over(ring);
                line.queue.len()
            }
            Outlet::Capture(line) => {
                let is_left = line.flush(held == Held::Stay);
                tool.queue_depth.set(line.depth() as u64);
                usize::from(is_left)
            }
            _ => 0,
        };
        flushed.note_left(left > 0, index, *copy_tools, live);
    }
    for shared in shared.iter_mut() {
        flushed.has_moved |= shared.serve(tools, txqs, *limit, |tool| live.can_send[tool], counters);
        for &tool in &shared.tools {
            if let Outlet::Port { line, .. } = &tools[tool] {
                line.note_gate(&counters.tools[tool]);
                flushed.note_left(line.len() > 0, tool, *copy_tools, live);
            }
        }
    }
    for incoming in handovers.iter_mut() {
        if let Outlet::Port { line, .. } = &tools[incoming.tool] {
            incoming.settle(line, &counters.tools[incoming.tool]);
        }
    }
    flushed
}

impl Flushed {
    #[inline(always)]
    fn note_left(&mut self, is_left: bool, tool: usize, copy_tools: usize, live: &Live) {
        if is_left {
            self.is_left = true;
            // what waits for a link may wait for ever
            self.are_originals_left |= tool >= copy_tools && live.tools_up[tool];
            self.are_copies_left |= tool < copy_tools && live.tools_up[tool];
        }
    }
}

/// Frees what was not sent in time and counts it: the end of a drain. Every worker has stopped. What waited has a reason but no
/// class.
pub fn abandon(outlets: &mut Outlets, counters: &WorkerCounters) {
    for (outlet, tool) in outlets.tools.iter_mut().zip(&counters.tools) {
        if let Outlet::Port { line, .. } | Outlet::Handover { line, .. } = outlet {
            if let Some(merge) = &mut line.merge {
                merge.release(Held::Leave, &mut line.queue, tool);
            }
            let reason = line.gate.as_ref().map_or(DropReason::Congested, |gate| gate.reason());
            tool.drop_copies(reason, line.queue.clear() as u64);
            tool.queue_depth.set(0);
        }
        if let Outlet::Capture(line) = outlet {
            tool.drop_copies(DropReason::Congested, line.abandon() as u64);
            tool.queue_depth.set(0);
        }
    }
    for Incoming { tool, ring, backlog, .. } in &mut outlets.handovers {
        counters.tools[*tool].drop_copies(backlog.reason(), ring.clear() as u64);
    }
}
