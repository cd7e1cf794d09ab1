//! Make: the copies that are not the packets themselves, edited, stamped and encapsulated for the tools that want them so.
//!
//! Stands between route and egress. A copy that nothing changes is not made: the tool gets a reference to the packet. Of the
//! others,
//!
//! - a header in front of an otherwise unchanged packet is an mbuf of its own, chained to the packet, where the tool's port sends
//!   several segments and the packet is not among the shortest (`CHAINED_FROM`);
//! - everything else is a private copy in one mbuf, of the bytes that are left after the edits: a slice copies what it keeps. A
//!   front of its own before an indirect mbuf for the rest was rejected: to attach and detach one costs 17 ns more than a plain
//!   reference, as much as copying 700 bytes, and the NIC pays for a second descriptor. A copy of 1500 bytes with a rewritten
//!   address or a mask in its headers costs 0.84 times `rte_pktmbuf_copy`, with a tag 0.89, anonymized 0.94, sliced to 128 bytes
//!   0.58 (the figures of this module: Xeon model 207, November 2026, `benches/copies.rs` on ordinary pages).
//!
//! The order of what is done to a copy is fixed: the edits of the rule, those of the tool (each in the order of `copies::edit`),
//! what the path's MTU leaves, the timestamp, the transport. Copies that cannot be made are dropped here, and counted.

use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::edit::{Draft, EditPlan, EditState, Reach};
use super::facts::CopyFacts;
use super::timestamp;
use super::timestamp::MAX_TRAILER_LEN;
use super::timestamp::Timestamp;
use super::transport::{Fit, HeaderShape, MAX_HEADER_BYTES, PathRoom, Sequence, Transport, Tunnel};
use crate::burst_view::BurstView;
use crate::counters::EgressCounters;
use crate::ids::{EditId, HashId, ToolId};
use crate::receive::decap::OuterId;
use crate::route::Copies;
use crate::swap::published::Live;
use crate::witness::Witness;
use crate::work_plan::WorkPlan;
use tapline_api::words::DropReason;
use tapline_dpdk::mbuf::copy::{
    CopyPool, LONGEST_COPY, MOST_PAGES, Made, Offload, PAGE_LEN, Pages, copy_in_order,
};
use tapline_dpdk::mbuf::prefetch;
use tapline_fault as fault;
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::by_id::ById;
use tapline_packet::frame::Frame;
use tapline_packet::headers::ethernet;
use tapline_packet::headers::ethernet::MacAddress;

/// Packets from this length on get their header as an mbuf of its own. A VXLAN header that is chained takes 41 ns, a private copy
/// with it 51 ns at 64 bytes and more beyond (as above); only for the shortest packets is the driver's second segment taken to
/// outweigh that.
const CHAINED_FROM: usize = 128;

/// Free bytes in front of a copy: for the tags of rule and tool, the mark of a duplicate, the timestamp's header and the
/// transport's.
const HEADROOM: usize = 128;
const _: () =
    assert!(HEADROOM >= MAX_HEADER_BYTES + timestamp::HEADER_LEN + 3 * 4 && HEADROOM + 14 < PAGE_LEN);

/// Mbufs that one copy takes at most.
pub const MOST_MBUFS: usize = 1 + MOST_PAGES;

/// Bytes of a copy that are looked at where a slice counts from behind a header.
const HEADERS_LEN: usize = 256;

/// How one worker makes the copies of one tool.
pub struct ToolMaker {
    pub edits: Option<EditId>,
    pub timestamp: Timestamp,
    pub transport: Transport,
    pub room: Option<PathRoom>,
    /// The hash of the flow, if the transport states it.
    pub hash: Option<HashId>,
    /// Shared with the other workers.
    pub sequence: Arc<Sequence>,
    /// The tool's port sends packets of several segments.
    pub sends_chains: bool,
    /// The work on the copies' headers that the tool's port does itself.
    pub offload: Option<Offload>,
    /// The tool is a capture: it notes how long a copy would be that was not cut, and its copies have mbufs of their own.
    pub is_capture: bool,
}

impl ToolMaker {
    /// Every copy of the tool is made.
    fn makes_all(&self) -> bool {
        self.edits.is_some() || self.stamps() || !matches!(self.transport, Transport::Local)
    }

    fn stamps(&self) -> bool {
        self.timestamp.has_trailer() || self.timestamp.has_header()
    }

    /// Gives the length that the wire pads frames to behind a trailer.
    fn padded_len(&self) -> usize {
        match self.transport {
            Transport::Tunnel(_) => 0,
            Transport::Local | Transport::Rspan { .. } => {
                ethernet::MIN_FRAME_LEN - self.transport.overhead_bytes()
            }
        }
    }
}

/// A worker's means to make copies.
pub struct Maker {
    pools: CopyPools,
    /// Tools that get copies of the second pool.
    captures: usize,
    states: ById<EditId, EditState>,
    /// `None` for those whose copies are never made.
    tools: ById<ToolId, Option<ToolMaker>>,
    /// The copies that were made in this burst.
    pub made: ById<ToolId, Made>,
    /// For copies that are longer than a page, while they are written; kept for the next.
    scratches: Vec<Vec<u8>>,
}

/// Mbufs for copies. Those for captures are apart: a replay flat out waits for captures, whose writers free theirs sooner or later,
/// and what ports keep for as long as they like must not be among what it waits for.
pub struct CopyPools {
    pub ports: Option<CopyPool>,
    pub captures: Option<CopyPool>,
}

/// A copy that is longer than a page, on its way through the stage.
struct Long {
    index: usize,
    /// The scratch buffer that it is written in, and the pages that it will be poured into.
    scratch: usize,
    pages: Pages,
    range: Range<usize>,
}

/// A copy that was edited.
struct Drafted {
    range: Range<usize>,
    original_len: usize,
    cut_bytes: usize,
}

/// Names what a copy is too long for, so that it was not drafted.
enum TooLong {
    /// The tool's path does not carry it.
    Path,
    /// The buffer does not hold it.
    Buffer,
}

/// Why a copy is dropped here: one reason of [`DropReason`] each.
enum Unmade {
    Oversize,
    NoBuffer,
}

impl Maker {
    /// `tools` are by tool of the plan.
    pub fn new(plan: &WorkPlan, pools: CopyPools, tools: ById<ToolId, Option<ToolMaker>>) -> Self {
        let made = tools.iter().map(|_| Made::default()).collect();
        let states = plan.edits.iter().map(EditPlan::state).collect();
        let captures = tools.iter().flatten().filter(|tool| tool.is_capture).count();
        Self { pools, captures, states, tools, made, scratches: Vec::new() }
    }

    /// How many packets, the first of those whose lengths are `lens`, surely find mbufs for their copies to captures. These are in
    /// hand then, so that no other worker takes them.
    pub fn room(&mut self, lens: impl Iterator<Item = usize>) -> usize {
        let lens: ArrayVec<usize, MAX_BURST> = lens.take(MAX_BURST).collect();
        let Some(pool) = self.pools.captures.as_mut().filter(|_| self.captures > 0) else {
            return lens.len();
        };
        let needed = || lens.iter().map(|&len| self.captures * most_mbufs(len));
        let ready = pool.reserve(needed().sum());
        let sums = needed().scan(0, |sum, needed| {
            *sum += needed;
            Some(*sum)
        });
        sums.take_while(|&sum| sum <= ready).count()
    }

    /// Sends further copies of tunnels to the next hops of `live`.
    #[cold]
    pub fn adopt(&mut self, live: &Live) {
        self.send_to(&live.next_hops);
    }

    /// Sends copies of tunnels to `next_hops`, by tool, as far as they are known.
    pub fn send_to(&mut self, next_hops: &[Option<MacAddress>]) {
        for (tool, next_hop) in self.tools.iter_mut().zip(next_hops) {
            if let (Some(tool), Some(mac)) = (tool, next_hop) {
                tool.transport.set_next_hop(*mac);
            }
        }
    }

    /// Makes the copies of the burst that have to be made. Those that cannot be are counted, and taken from `copies`.
    #[inline]
    pub fn make<W: Witness>(&mut self, view: &mut BurstView<'_>, copies: &mut Copies, witness: &mut W) {
        for index in self.tools.ids() {
            let selection = copies.egresses[index.egress()];
            let Some(tool) = self.tools[index].as_ref().filter(|_| !selection.is_empty()) else { continue };
            let mut wanted = if tool.makes_all() { selection } else { copies.edited(index) };
            if let Some(room) = tool.room.filter(|_| wanted != selection) {
                let is_long =
                    |packet: usize| view.frames[packet].bytes().len() > room.longest_frame_bytes();
                wanted |= selection.filter(is_long);
            }
            if !wanted.is_empty() {
                let made = self.make_for(index, wanted, view, copies);
                let lost = wanted - made;
                if !lost.is_empty() {
                    witness.unmade(index, lost);
                    view.counters.egresses[index.egress()].requested.add(u64::from(lost.count()));
                    copies.take_back(index, lost);
                }
            }
        }
    }

    /// Makes one tool's copies of the packets that are `wanted`; those that were made. The others are counted as dropped.
    fn make_for(
        &mut self,
        index: ToolId,
        wanted: Selection,
        view: &mut BurstView<'_>,
        copies: &Copies,
    ) -> Selection {
        let Self { pools, states, tools, made, scratches, .. } = self;
        let Some(tool) = &tools[index] else { return Selection::NONE };
        let (edits, counters) = (&view.plan.edits, &view.counters.egresses[index.egress()]);
        let pool = if tool.is_capture { &mut pools.captures } else { &mut pools.ports };
        let Some(pool) = pool else {
            counters.drop_copies(DropReason::NoBuffer, wanted.count().into());
            return Selection::NONE;
        };
        let made = &mut made[index];
        let chained_lens = tool.chained_lens();
        let is_chained = |packet: usize| chained_lens.contains(&view.frames[packet].bytes().len());
        let is_edited = !(wanted & copies.edited(index)).is_empty();
        if !is_edited && wanted.indices().all(is_chained) {
            return put_headers(tool, pool, made, wanted, view, counters);
        }
        if !is_edited
            && let Some(id) = tool.edits_alone()
            && edits[id].keeps_rest()
            && wanted.indices().all(|packet| tool.takes_in_a_page(view.frames[packet].bytes().len()))
        {
            return put_edited((&edits[id], &mut states[id]), pool, made, wanted, view, counters);
        }
        let mut drafts = Drafts::default();
        pool.reserve(wanted.count() as usize);
        let mut copy_maker = CopyMaker { tool, chained_lens, pool, states, made, scratches };
        copy_maker.draft_all(wanted, |packet| copies.edits_of(index, packet), view, &mut drafts);
        drafts.count(counters);
        // slices are done where they are drafted
        if tool.stamps() || !matches!(tool.transport, Transport::Local) || !drafts.longs.is_empty() {
            copy_maker.finish_all(wanted, view, &mut drafts);
            if let Some(offload) = &tool.offload {
                made.leave_to_nic(offload);
            }
        }
        drafts.done
    }
}

/// One tool's copies of a burst, between their edits and their headers.
struct Drafts {
    /// Copies that were made so far, and those of them that are a header in front of the packet itself.
    done: Selection,
    fronts: Selection,
    /// Lengths of the packets, with what edits took off or put in front.
    original_lens: [usize; MAX_BURST],
    longs: Vec<Long>,
    oversize: u64,
    no_buffer: u64,
    cut_bytes: u64,
}

impl Default for Drafts {
    #[inline(always)]
    fn default() -> Self {
        Self {
            done: Selection::NONE,
            fronts: Selection::NONE,
            original_lens: [0; MAX_BURST],
            longs: Vec::new(),
            oversize: 0,
            no_buffer: 0,
            cut_bytes: 0,
        }
    }
}

impl Drafts {
    #[inline(always)]
    fn count(&self, counters: &EgressCounters) {
        if self.oversize > 0 {
            counters.drop_copies(DropReason::Oversize, self.oversize);
        }
        if self.no_buffer > 0 {
            counters.drop_copies(DropReason::NoBuffer, self.no_buffer);
        }
        if self.cut_bytes > 0 {
            counters.cut_bytes.add(self.cut_bytes);
        }
    }
}

/// Makes one tool's copies.
struct CopyMaker<'a> {
    tool: &'a ToolMaker,
    /// The lengths of packets whose copies the tool chains.
    chained_lens: Range<usize>,
    pool: &'a mut CopyPool,
    states: &'a mut [EditState],
    made: &'a mut Made,
    scratches: &'a mut Vec<Vec<u8>>,
}

impl CopyMaker<'_> {
    /// Copies and edits each packet that is `wanted`, as the rule that chose it (`of_rule`) and the tool say.
    #[inline(always)]
    fn draft_all(
        &mut self,
        wanted: Selection,
        of_rule: impl Fn(usize) -> Option<EditId>,
        view: &BurstView<'_>,
        drafts: &mut Drafts,
    ) {
        let Self { tool, chained_lens, pool, states, made, scratches } = self;
        let edits = &view.plan.edits;
        let mut plain = CopyFacts { port: view.port.0 as u16, ..CopyFacts::default() };
        let outer = view.flows.outer();
        let of_tool = tool.edits.map(|id| (&edits[id], id.0));
        for packet in wanted.indices() {
            fault::panics_on_packet("make", packet);
            let frame = &view.frames[packet];
            load_ahead(view.frames, packet);
            let Some(mut page) = pool.page() else {
                drafts.no_buffer += 1;
                continue;
            };
            let of_rule = of_rule(packet);
            if of_rule.is_none() && chained_lens.contains(&frame.bytes().len()) {
                made.put(packet, page);
                drafts.original_lens[packet] = frame.original_len() as usize;
                drafts.done.insert(packet);
                drafts.fronts.insert(packet);
                continue;
            }
            plain.tunnel = outer.get(packet).map_or(0, OuterId::number);
            // lent, not handed on: to copy it right after it was written waits for the stores
            let edits = [of_rule.map(|id| (&edits[id], id.0)), of_tool];
            let mut edit = |buffer: &mut [u8]| draft(buffer, frame, &edits, states, &plain, tool.room);
            let drafted = match edit(page.bytes()) {
                Ok(drafted) => {
                    page.set(drafted.range.clone());
                    made.put(packet, page);
                    Ok(drafted)
                }
                Err(TooLong::Path) => Err(Unmade::Oversize),
                // one segment does not hold it
                Err(TooLong::Buffer) if !tool.sends_chains => Err(Unmade::Oversize),
                Err(TooLong::Buffer) => {
                    lay_out(pool, scratches, &mut drafts.longs, packet, frame.bytes().len(), edit)
                }
            };
            match drafted {
                Ok(drafted) => {
                    if tool.is_capture {
                        made.say_wire_len(packet, drafted.original_len as u32);
                    }
                    drafts.cut_bytes += drafted.cut_bytes as u64;
                    drafts.original_lens[packet] = drafted.original_len;
                    drafts.done.insert(packet);
                }
                Err(Unmade::NoBuffer) => drafts.no_buffer += 1,
                Err(Unmade::Oversize) => drafts.oversize += 1,
            }
        }
    }

    /// Stamps and encapsulates each copy that was drafted.
    #[inline(always)]
    fn finish_all(&mut self, wanted: Selection, view: &mut BurstView<'_>, drafts: &mut Drafts) {
        let Self { tool, made, scratches, .. } = self;
        let plain = CopyFacts { port: view.port.0 as u16, ..CopyFacts::default() };
        let signs = view.flows.outer_signs();
        let hashes = tool.hash.map(|hash| view.flows.hashes(hash, wanted, view.frames));
        let mut sequence =
            if tool.transport.is_tunnel() { tool.sequence.claim(drafts.done.count()) } else { 0 };
        for packet in drafts.done.indices() {
            let hash = hashes.and_then(|hashes| hashes.get(packet)).copied().unwrap_or(0);
            let (stamp, direction) = (view.stamps.of(packet), signs.direction(packet));
            let mut of_copy =
                CopyFacts { stamp, direction, flow_hash: (hash ^ hash >> 32) as u32, sequence, ..plain };
            let (came_cut, original_len) = (signs.is_cut(packet), drafts.original_lens[packet]);
            sequence = sequence.wrapping_add(1);
            if let Some(mut page) = made.page(packet) {
                if drafts.fronts.contains(packet) {
                    let payload = view.frames[packet].bytes();
                    of_copy.truncated = came_cut || payload.len() < original_len;
                    let written = tool.transport.write(&of_copy, &[payload], page.bytes());
                    made.make_front(packet, 0..written.header_bytes, view.burst);
                } else {
                    let range = page.range();
                    of_copy.truncated = came_cut || range.len() < original_len;
                    let drafted_len = range.len();
                    let range = finish(tool, &of_copy, page.bytes(), range);
                    let len = range.len();
                    page.set(range);
                    if tool.is_capture {
                        made.say_wire_len(packet, grown(original_len, drafted_len, len));
                    }
                }
            } else if let Some(place) = drafts.longs.iter().position(|long| long.index == packet) {
                let Long { scratch, pages, range, .. } = drafts.longs.swap_remove(place);
                of_copy.truncated = came_cut || range.len() < original_len;
                let drafted_len = range.len();
                let range = finish(tool, &of_copy, &mut scratches[scratch], range);
                if tool.is_capture {
                    made.say_wire_len(packet, grown(original_len, drafted_len, range.len()));
                }
                made.put(packet, pages.pour(&scratches[scratch][range]));
            }
        }
    }
}

/// Returns the length on the wire of a copy that had `original_len` there, when its bytes have become `len` of `drafted_len`: by a
/// timestamp, or by padding that went for one.
#[inline(always)]
fn grown(original_len: usize, drafted_len: usize, len: usize) -> u32 {
    (original_len + len).saturating_sub(drafted_len) as u32
}

/// Makes mbufs ready for so many copies, as many as there are; copies beyond these are counted as dropped.
#[inline(always)]
fn reserve(pool: &mut CopyPool, count: u32, counters: &EgressCounters) -> u32 {
    let ready = pool.reserve(count as usize) as u32;
    if ready < count {
        counters.drop_copies(DropReason::NoBuffer, u64::from(count - ready));
    }
    ready
}

/// Puts a header in front of each packet that is `wanted`; those that got one. The others are counted as dropped. Of a tool that
/// only adds headers these are all packets but the shortest, so they have a loop of their own, which touches each header once; and
/// so has each of the usual shapes, in which nothing that all copies share is looked up.
fn put_headers(
    tool: &ToolMaker,
    pool: &mut CopyPool,
    made: &mut Made,
    wanted: Selection,
    view: &mut BurstView<'_>,
    counters: &EgressCounters,
) -> Selection {
    let Transport::Tunnel(tunnel) = &tool.transport else { return Selection::NONE };
    let ready = reserve(pool, wanted.count(), counters);
    let done = match tunnel.shape() {
        HeaderShape::GRE => put_headers_of(HeaderShape::GRE, tunnel, tool, pool, made, wanted, view, ready),
        HeaderShape::ERSPAN2 => {
            put_headers_of(HeaderShape::ERSPAN2, tunnel, tool, pool, made, wanted, view, ready)
        }
        HeaderShape::ERSPAN3 => {
            put_headers_of(HeaderShape::ERSPAN3, tunnel, tool, pool, made, wanted, view, ready)
        }
        HeaderShape::UDP => put_headers_of(HeaderShape::UDP, tunnel, tool, pool, made, wanted, view, ready),
        other => put_headers_of(other, tunnel, tool, pool, made, wanted, view, ready),
    };
    if let Some(offload) = &tool.offload {
        made.leave_to_nic(offload);
    }
    done
}

/// As `put_headers`, with the `ready` mbufs of `pool`, of a `tunnel` of this shape.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "a part of `put_headers`, that is compiled once for each shape"
)]
fn put_headers_of(
    shape: HeaderShape,
    tunnel: &Tunnel,
    tool: &ToolMaker,
    pool: &mut CopyPool,
    made: &mut Made,
    wanted: Selection,
    view: &mut BurstView<'_>,
    ready: u32,
) -> Selection {
    let signs = view.flows.outer_signs();
    let hashes = tool.hash.map(|hash| view.flows.hashes(hash, wanted, view.frames));
    let first = if tunnel.says_sequence() { tool.sequence.claim(ready) } else { 0 };
    let mut done = Selection::NONE;
    for (packet, place) in wanted.indices().zip(0..ready) {
        fault::panics_on_packet("make", packet);
        let Some(mut page) = pool.page() else { break };
        let frame = &view.frames[packet];
        let payload = frame.bytes();
        let hash = hashes.and_then(|hashes| hashes.get(packet)).copied().unwrap_or(0);
        let of_copy = CopyFacts {
            stamp: view.stamps.of(packet),
            port: view.port.0 as u16,
            // a label of edits, of which there are none
            tunnel: 0,
            direction: signs.direction(packet),
            truncated: signs.is_cut(packet) || payload.len() < frame.original_len() as usize,
            flow_hash: (hash ^ hash >> 32) as u32,
            sequence: first.wrapping_add(place),
        };
        tunnel.write_shape(shape, &of_copy, &[payload], page.bytes());
        made.put_front(packet, page, tunnel.header_bytes(), view.burst);
        done.insert(packet);
    }
    done
}

/// Puts an edited copy of each packet that is `wanted`, whole but for what the edits change in place; those that got one. The
/// others are counted as dropped. Of a tool that only edits so these are nearly all packets: they have a loop of their own, in
/// which nothing stands between the bytes and their copy.
#[inline]
fn put_edited(
    (plan, state): (&EditPlan, &mut EditState),
    pool: &mut CopyPool,
    made: &mut Made,
    wanted: Selection,
    view: &BurstView<'_>,
    counters: &EgressCounters,
) -> Selection {
    let ready = reserve(pool, wanted.count(), counters);
    let mut of_copy = CopyFacts { port: view.port.0 as u16, ..CopyFacts::default() };
    let outer = view.flows.outer();
    let mut done = Selection::NONE;
    for packet in wanted.indices().take(ready as usize) {
        fault::panics_on_packet("make", packet);
        let Some(mut page) = pool.page() else { break };
        let frame = &view.frames[packet];
        let bytes = frame.bytes();
        load_ahead(view.frames, packet);
        let buffer = &mut page.bytes()[..HEADROOM + bytes.len()];
        copy_in_order(&mut buffer[HEADROOM..], bytes);
        let mut draft = Draft::new(buffer, HEADROOM, 0, frame.original_len() as usize);
        of_copy.tunnel = outer.get(packet).map_or(0, OuterId::number);
        let applied = plan.apply(&of_copy, &mut draft, state);
        debug_assert!(applied.is_ok(), "a draft of the whole packet needs no more");
        let range = draft.front_range();
        page.set(range);
        made.put(packet, page);
        done.insert(packet);
    }
    done
}

/// Loads the headers of a packet that is copied soon, two behind `packet`: edits wait for them, and the copies between have thrown
/// them out of the first-level cache since the burst was looked at.
#[inline(always)]
fn load_ahead(frames: &[Frame<'_>], packet: usize) {
    if let Some(next) = frames.get(packet + 2) {
        prefetch(next.bytes());
    }
}

/// Mbufs that one copy of a packet of `len` bytes takes at most while it is made: a page to try, and those of a copy that is longer.
fn most_mbufs(len: usize) -> usize {
    let bytes = scratch_len(len);
    if bytes <= PAGE_LEN { 1 } else { MOST_MBUFS.min(1 + bytes.div_ceil(PAGE_LEN)) }
}

/// Bytes in which any copy of a packet of `len` bytes can be edited and finished.
fn scratch_len(len: usize) -> usize {
    HEADROOM + len + MAX_TRAILER_LEN + HEADROOM
}

/// Edits a copy that is longer than a page, in a scratch buffer of its own.
#[cold]
fn lay_out(
    pool: &mut CopyPool,
    scratches: &mut Vec<Vec<u8>>,
    longs: &mut Vec<Long>,
    index: usize,
    len: usize,
    mut edit: impl FnMut(&mut [u8]) -> Result<Drafted, TooLong>,
) -> Result<Drafted, Unmade> {
    let scratch = longs.len();
    if scratch == scratches.len() {
        scratches.push(Vec::new());
    }
    scratches[scratch].resize(scratch_len(len), 0);
    let drafted = edit(&mut scratches[scratch]).map_err(|_| Unmade::Oversize)?;
    let most = HEADROOM + drafted.range.len() + MAX_TRAILER_LEN;
    if most > LONGEST_COPY {
        return Err(Unmade::Oversize);
    }
    let pages = pool.pages(most).ok_or(Unmade::NoBuffer)?;
    longs.push(Long { index, scratch, pages, range: drafted.range.clone() });
    Ok(drafted)
}

impl ToolMaker {
    /// The edits, where they are all that copies need.
    #[inline(always)]
    fn edits_alone(&self) -> Option<EditId> {
        let is_alone = !self.stamps() && !self.is_capture && matches!(self.transport, Transport::Local);
        self.edits.filter(|_| is_alone)
    }

    /// Returns whether a packet of `len` bytes fits a page and the tool's path.
    #[inline(always)]
    fn takes_in_a_page(&self, len: usize) -> bool {
        HEADROOM + len + MAX_TRAILER_LEN <= PAGE_LEN
            && self.room.is_none_or(|room| room.fit(len) == Fit::Whole)
    }

    /// Lengths of packets that need no more than a header in front, where an mbuf of its own for that is the cheaper way.
    #[inline(always)]
    fn chained_lens(&self) -> Range<usize> {
        let has_edits = self.edits.is_some() || self.stamps();
        if !self.sends_chains || has_edits || !self.transport.is_tunnel() {
            return 0..0;
        }
        CHAINED_FROM..self.room.map_or(usize::MAX, |room| room.longest_frame_bytes().saturating_add(1))
    }
}

/// Edits a copy in `buffer`, as much of it as is left, behind `HEADROOM` free bytes and with room for a trailer behind it.
fn draft(
    buffer: &mut [u8],
    frame: &Frame<'_>,
    edits: &[Option<(&EditPlan, usize)>; 2],
    states: &mut [EditState],
    facts: &CopyFacts,
    room: Option<PathRoom>,
) -> Result<Drafted, TooLong> {
    let bytes = frame.bytes();
    let is_kept = edits.iter().flatten().all(|(plan, _)| plan.keeps_rest())
        && room.is_none_or(|room| room.fit(bytes.len()) == Fit::Whole);
    let mut front_len = match is_kept {
        // what is edited stays where it is copied to, so that one copy of all of it does
        true => bytes.len(),
        false => edits
            .iter()
            .flatten()
            .map(|(plan, _)| front_len(plan, bytes.len()))
            .max()
            .unwrap_or(0)
            .min(bytes.len()),
    };
    let (mut range, mut rest, original_len) = loop {
        let end = HEADROOM + front_len;
        let front = buffer.get_mut(..end).ok_or(TooLong::Buffer)?;
        copy_in_order(&mut front[HEADROOM..], &bytes[..front_len]);
        let mut draft = Draft::new(front, HEADROOM, bytes.len() - front_len, frame.original_len() as usize);
        let applied = edits
            .iter()
            .flatten()
            .try_for_each(|&(plan, state)| plan.apply(facts, &mut draft, &mut states[state]));
        if applied.is_ok() || front_len == bytes.len() {
            break (draft.front_range(), draft.rest_len(), draft.original_len());
        }
        front_len = bytes.len();
    };
    let mut cut_bytes = 0;
    if let Some(room) = room {
        let len = range.len() + rest;
        match room.fit(len) {
            Fit::Whole => {}
            Fit::Slice { keep_bytes } => {
                cut_bytes = len - keep_bytes;
                rest = keep_bytes.saturating_sub(range.len());
                range.end = range.end.min(range.start + keep_bytes);
            }
            Fit::Drop => return Err(TooLong::Path),
        }
    }
    let end = range.end + rest;
    if end + MAX_TRAILER_LEN > buffer.len() {
        return Err(TooLong::Buffer);
    }
    if rest > 0 {
        buffer[range.end..end].copy_from_slice(&bytes[front_len..front_len + rest]);
        range.end = end;
    }
    Ok(Drafted { range, original_len, cut_bytes })
}

/// Bytes of the copy that are its own while it is edited.
fn front_len(plan: &EditPlan, len: usize) -> usize {
    match plan.reach() {
        Reach::Nothing => 0,
        Reach::Length if plan.needs_layers() => HEADERS_LEN,
        Reach::Length => 0,
        Reach::Front(front) => front,
        Reach::Whole => len,
    }
}

/// Puts the timestamp and the transport's header to an edited copy; where it stands afterwards.
#[inline]
fn finish(tool: &ToolMaker, facts: &CopyFacts, buffer: &mut [u8], mut range: Range<usize>) -> Range<usize> {
    if tool.timestamp.has_trailer() {
        let mut out = [0; MAX_TRAILER_LEN];
        let trailer =
            tool.timestamp.write_trailer(facts, &[&buffer[range.clone()]], tool.padded_len(), &mut out);
        let end = range.start + trailer.keep_len;
        buffer[end..end + trailer.len].copy_from_slice(&out[..trailer.len]);
        range.end = end + trailer.len;
    }
    if tool.timestamp.has_header() {
        let mut out = [0; timestamp::HEADER_LEN];
        let written = tool.timestamp.write_header(facts, &buffer[range.clone()], &mut out);
        range.start =
            put_in_front(buffer, range.start + written.replaced_bytes, &out[..written.header_bytes]);
    }
    if !matches!(tool.transport, Transport::Local) {
        let mut out = [0; MAX_HEADER_BYTES];
        let written = tool.transport.write(facts, &[&buffer[range.clone()]], &mut out);
        range.start =
            put_in_front(buffer, range.start + written.replaced_bytes, &out[..written.header_bytes]);
    }
    range
}

/// Writes `header` so that it ends at `end`, and gives the place at which it begins.
fn put_in_front(buffer: &mut [u8], end: usize, header: &[u8]) -> usize {
    let start = end - header.len();
    buffer[start..end].copy_from_slice(header);
    start
}
