//! Edits: what is removed from, changed in and added to a copy before it leaves, for the tools that ask for it.
//!
//! Stands between route and the transport. The clauses of a rule or tool are compiled once into an `EditPlan`; a copy is edited in
//! a `Draft`, whose front is the copy's own and whose rest may stay in the shared packet. The order is always the same, whatever
//! order the clauses are written in:
//!
//! | step | changes | needs of the copy | checksums |
//! | --- | --- | --- | --- |
//! | 1 strip | drops headers and tags | its front | those inside stay right: they never cover what is dropped |
//! | 2 anonymize | addresses, wherever docs/reference/edits.md names them | its front | kept: a right one stays right, a wrong one wrong |
//! | 3 mask | bytes to one value | up to the mask's end | left on purpose: a masked packet shows as one |
//! | 4 payload drop | the length | only the length | left, and so are IP's and UDP's lengths: they tell the original size |
//! | 5 slice | the length | only the length | left, as above |
//! | 6 rewrite | addresses and VLAN of the link | its front | none cover them |
//! | 7 tag | adds four bytes | its front | none cover them |
//! | 8 mark | adds four bytes in front of those | its front | none cover them |
//!
//! Offsets of masks and lengths of slices count in the frame after step 1.

use thiserror::Error;

use super::facts::CopyFacts;
use tapline_api::words::{Anchor, TagLabel};
use tapline_packet::frame::Frame;
use tapline_packet::headers::ethernet;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::layer::LayerSet;
use tapline_packet::headers::vlan;
use tapline_packet::headers::vlan::VlanTag;
use tapline_packet::headers::{arp, ip, ipv4, tcp};
use tapline_packet::layers;
use tapline_packet::layers::{Depth, Layers};

pub mod anonymize;
mod strip;

pub use self::anonymize::{Anonymize, Anonymizer};

/// Free bytes that a draft's front needs before it: for the tags, rounded up to keep IP headers aligned.
pub const DRAFT_HEADROOM: usize = 16;
/// Bytes of a copy that are its own when its headers are edited: enough for a VXLAN with IPv6 and TCP inside. Longer stacks ask for
/// the whole packet.
const HEADERS_LEN: usize = 256;
/// Bytes of a copy that are its own when only its link header is edited.
const LINK_LEN: usize = 64;
/// A frame that a link header edit touches is at least this long, else it is left alone.
const LINK_HEADER_LEN: usize = ethernet::HEADER_LEN;

/// The layers of packets that no edit looks into.
static NO_LAYERS: Layers = Layers::EMPTY;

/// Keeps `keep` bytes after `after`. A frame without that layer is cut after the deepest that it has before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slice {
    pub keep: u16,
    pub after: Option<Anchor>,
}

/// Overwrites `len` bytes from `offset` after `after`; what lies beyond the frame is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mask {
    pub offset: u16,
    pub len: u16,
    pub byte: u8,
    pub after: Option<Anchor>,
}

/// Changes fields of the link header. A `vlan` is written to the outermost tag, whose priority stays; untagged frames have none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rewrite {
    pub destination: Option<MacAddress>,
    pub source: Option<MacAddress>,
    pub vlan: Option<u16>,
}

/// Pushes an 802.1Q tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    pub tag: VlanTag,
    /// The label that is added to the VLAN; `None`: all copies have the same VLAN.
    pub label: Option<TagLabel>,
}

/// The clauses of a rule or tool, resolved: a field for each step of the module's table. A further edit is carried out in
/// [`EditPlan::apply`], is known to `EditPlan::needed`, and to `keeps_rest` where it moves or cuts what lies behind the headers.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Edits {
    /// The layers that are taken off.
    pub strip: LayerSet,
    pub anonymize: Option<Anonymize>,
    pub masks: Vec<Mask>,
    /// Nothing is kept behind the innermost transport header.
    pub payload_drop: bool,
    pub slice: Option<Slice>,
    pub rewrite: Rewrite,
    pub tag: Option<Tag>,
    /// The VLAN of a further 802.1Q tag, the outermost: what duplicates are marked by (`dedup … action tag`).
    pub mark: Option<u16>,
}

/// Edits that cannot be done as written.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum EditError {
    #[error("vlan {0} does not exist; use 1 to 4094")]
    Vlan(u16),
    #[error("priority {0} does not fit a tag; use 0 to 7")]
    Priority(u8),
    #[error("a slice of {0} bytes would cut the Ethernet header; keep at least 14")]
    SliceTooShort(u16),
    #[error("a mask of 0 bytes changes nothing")]
    EmptyMask,
    #[error("keep {prefix}/{ipv6_prefix} is more than an address has; use at most 32/128")]
    Keep { prefix: u8, ipv6_prefix: u8 },
}

/// How much of a copy must be its own before it is edited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// There are no edits: share the packet.
    Nothing,
    /// Share the packet and send its first `EditPlan::keep_len` bytes.
    Length,
    /// The first so many bytes, or all of a shorter packet; the rest may stay shared.
    Front(usize),
    /// All of the packet.
    Whole,
}

/// The front of the copy was not enough to tell where its headers end: give it the whole packet, and apply the edits afresh.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
#[error("the edit needs all of the packet's bytes")]
pub struct NeedsWhole;

/// A copy while it is edited: `buffer[start..end]` is its own front, and `rest` further bytes stay in the shared packet, from where
/// the front ended when the draft was begun.
#[derive(Debug)]
pub struct Draft<'a> {
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
    rest: usize,
    original_len: usize,
}

impl<'a> Draft<'a> {
    /// Begins with the front of a packet in `buffer[headroom..]`, `rest` bytes of it elsewhere, and `original_len` on the wire.
    /// `headroom` is at least `DRAFT_HEADROOM`, or a tag finds no room and is left out.
    pub fn new(buffer: &'a mut [u8], headroom: usize, rest: usize, original_len: usize) -> Self {
        let end = buffer.len();
        Self { buffer, start: headroom.min(end), end, rest, original_len }
    }

    /// The copy's own bytes.
    #[inline(always)]
    pub fn front(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    #[inline(always)]
    fn front_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Gives the range of the buffer that the copy's own bytes take.
    pub fn front_range(&self) -> std::ops::Range<usize> {
        self.start..self.end
    }

    /// Bytes that follow from the shared packet.
    pub fn rest_len(&self) -> usize {
        self.rest
    }

    /// Bytes of the copy.
    pub fn len(&self) -> usize {
        self.end - self.start + self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the copy would have had uncut: the packet's length on the wire, less what was stripped, plus what was added.
    pub fn original_len(&self) -> usize {
        self.original_len
    }

    /// The copy holds less than there was.
    pub fn is_truncated(&self) -> bool {
        self.len() < self.original_len
    }

    fn truncate(&mut self, len: usize) {
        let front = self.end - self.start;
        if len <= front {
            self.end = self.start + len;
            self.rest = 0;
        } else {
            self.rest = self.rest.min(len - front);
        }
    }

    /// Cuts what lies behind `len`, which never belonged to the packet: Ethernet padding.
    fn trim(&mut self, len: usize) {
        self.truncate(len);
        self.original_len = self.original_len.min(len);
    }

    /// Drops `len` bytes of the front.
    fn drop_front(&mut self, len: usize) {
        debug_assert!(len <= self.end - self.start);
        self.start += len;
        self.original_len = self.original_len.saturating_sub(len);
    }

    /// Makes room for `len` bytes in front; false where there is none.
    fn grow_front(&mut self, len: usize) -> bool {
        let has_room = self.start >= len;
        if has_room {
            self.start -= len;
            self.original_len += len;
        }
        has_room
    }

    /// Finds the layers, as far as the front shows them.
    /// # Errors
    /// Fails with `NeedsWhole` if a header may go on behind the front.
    fn layers(&self) -> Result<Layers, NeedsWhole> {
        let mut layers = Layers::EMPTY;
        self.layers_into(Depth::Full, &mut layers).map(|()| layers)
    }

    /// As [`layers`](Self::layers), at least to `depth`, where they stay.
    #[inline]
    fn layers_into(&self, depth: Depth, layers: &mut Layers) -> Result<(), NeedsWhole> {
        let front = self.front();
        if self.rest == 0 {
            layers::parse_into(&Frame::whole(front), depth, layers);
            return Ok(());
        }
        layers::parse_into(&Frame::whole(front), Depth::Full, layers);
        // A TCP header has up to 60 bytes; what else is looked for behind the last layer is shorter.
        const LONGEST_TRANSPORT: usize = 60;
        let inner = layers.inner;
        let deepest = inner.l4().unwrap_or(inner.l3());
        // An unentered tunnel is one whose header is not all there: options of Geneve and extension headers of GTP-U reach far.
        const LONGEST_TUNNEL: usize = 1024;
        let longest = if layers::may_go_on(front, &inner) { LONGEST_TUNNEL } else { LONGEST_TRANSPORT };
        if inner.is_cut() || deepest + longest > front.len() { Err(NeedsWhole) } else { Ok(()) }
    }
}

/// Edits, checked and ready: immutable, shared by all workers.
#[derive(Clone, PartialEq, Debug)]
pub struct EditPlan {
    edits: Edits,
    reach: Reach,
    /// How deep packets are parsed for the anchors, where there are any.
    anchored: Option<Depth>,
    /// There are masks, all of them after `l4`, and nothing is cut.
    masks_payload: bool,
    /// Addresses are all that is changed.
    only_anonymizes: bool,
}

/// The state of edits between packets, one for each worker and plan.
#[derive(Debug, Default)]
pub struct EditState {
    anonymizer: Option<Box<Anonymizer>>,
    /// The layers of the last packet whose layers were asked for.
    layers: Layers,
}

impl EditPlan {
    /// Checks the clauses and finds how much of a copy they need.
    /// # Errors
    /// Fails for what cannot be done as written; see `EditError`.
    pub fn compile(edits: Edits) -> Result<Self, EditError> {
        for vlan in
            edits.rewrite.vlan.into_iter().chain(edits.tag.map(|tag| tag.tag.vlan)).chain(edits.mark)
        {
            if !(1..=4094).contains(&vlan) {
                return Err(EditError::Vlan(vlan));
            }
        }
        if let Some(Tag { tag, .. }) = edits.tag.filter(|tag| tag.tag.priority > 7) {
            return Err(EditError::Priority(tag.priority));
        }
        if let Some(slice) =
            edits.slice.filter(|slice| slice.after.is_none() && usize::from(slice.keep) < LINK_HEADER_LEN)
        {
            return Err(EditError::SliceTooShort(slice.keep));
        }
        if edits.masks.iter().any(|mask| mask.len == 0) {
            return Err(EditError::EmptyMask);
        }
        if let Some(Anonymize { keep, keep_ipv6, .. }) = edits.anonymize
            && (keep > 32 || keep_ipv6 > 128)
        {
            return Err(EditError::Keep { prefix: keep, ipv6_prefix: keep_ipv6 });
        }
        let reach = Self::needed(&edits);
        let anchors =
            || edits.masks.iter().map(|mask| mask.after).chain(edits.slice.map(|slice| slice.after));
        let anchored = if edits.payload_drop || anchors().any(|after| after == Some(Anchor::InnerL4)) {
            Some(Depth::Full)
        } else {
            anchors().any(|after| after.is_some()).then_some(Depth::Outer)
        };
        let is_cut = edits.payload_drop || edits.slice.is_some();
        let is_of_payload = |mask: &Mask| matches!(mask.after, Some(Anchor::L4 | Anchor::InnerL4));
        let masks_payload = !is_cut && !edits.masks.is_empty() && edits.masks.iter().all(is_of_payload);
        let only_anonymizes = edits == Edits { anonymize: edits.anonymize.clone(), ..Edits::default() };
        Ok(Self { edits, reach, anchored, masks_payload, only_anonymizes })
    }

    /// Finds how much of a copy the edits need. Each edit has its say: one that were left out would not be done to copies that a
    /// slice cuts, whose front is then empty.
    fn needed(edits: &Edits) -> Reach {
        let Edits { strip, anonymize, masks, payload_drop, slice, rewrite, tag, mark } = edits;
        let mut front = 0;
        if tag.is_some() || mark.is_some() || *rewrite != Rewrite::default() {
            front = LINK_LEN;
        }
        if !strip.is_empty() || anonymize.is_some() {
            front = HEADERS_LEN;
        }
        for mask in masks {
            let end = usize::from(mask.offset) + usize::from(mask.len);
            front = front.max(if mask.after.is_none() { end } else { HEADERS_LEN + end });
        }
        let cuts = slice.is_some() || *payload_drop;
        if front > 0 && (*payload_drop || slice.is_some_and(|slice| slice.after.is_some())) {
            front = front.max(HEADERS_LEN);
        }
        match front {
            0 if cuts => Reach::Length,
            0 => Reach::Nothing,
            // From here on the copy is cheaper than a chained mbuf, and long masks are rare.
            1025.. => Reach::Whole,
            _ => Reach::Front(front.next_multiple_of(64)),
        }
    }

    /// Gives the edits that it was compiled from.
    pub fn edits(&self) -> &Edits {
        &self.edits
    }

    /// How much of a copy must be its own.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// The most bytes by which a copy grows.
    pub fn added_len(&self) -> usize {
        vlan::TAG_LEN * (usize::from(self.edits.tag.is_some()) + usize::from(self.edits.mark.is_some()))
    }

    /// The longest that a copy of a frame of at most `len` bytes can be.
    pub fn longest(&self, len: usize) -> usize {
        let kept = self
            .edits
            .slice
            .filter(|slice| slice.after.is_none())
            .map_or(len, |slice| len.min(slice.keep.into()));
        kept + self.added_len()
    }

    /// Makes the state that a worker keeps for this plan: the anonymizer with its cache.
    pub fn state(&self) -> EditState {
        EditState {
            anonymizer: self.edits.anonymize.as_ref().map(|anonymize| Box::new(Anonymizer::new(anonymize))),
            layers: Layers::EMPTY,
        }
    }

    /// Bytes of the frame that are kept, where `reach` is `Length`; `layers` are the frame's, parsed to `Depth::Full`.
    #[inline]
    pub fn keep_len(&self, bytes: &[u8], layers: &Layers) -> usize {
        let mut keep = bytes.len();
        if self.edits.payload_drop {
            keep = keep.min(anchor(Some(Anchor::InnerL4), bytes, layers));
        }
        if let Some(slice) = self.edits.slice {
            keep = keep.min(anchor(slice.after, bytes, layers) + usize::from(slice.keep));
        }
        keep
    }

    /// Returns whether what lies behind the headers stays, where it stands from the frame's end: nothing but tags is stripped, and nothing
    /// cut.
    pub fn keeps_rest(&self) -> bool {
        self.edits.strip.is_tags() && self.edits.slice.is_none() && !self.edits.payload_drop
    }

    /// Returns how deep addresses are replaced, if they are.
    pub fn anonymizes(&self) -> Option<Depth> {
        let anonymize = self.edits.anonymize.as_ref()?;
        Some(if anonymize.inner { Depth::Full } else { Depth::Outer })
    }

    /// Returns whether `keep_len` looks at the layers.
    pub fn needs_layers(&self) -> bool {
        self.edits.payload_drop || self.edits.slice.is_some_and(|slice| slice.after.is_some())
    }

    /// Edits a copy, all steps in order.
    /// # Errors
    /// `NeedsWhole` where the draft's front does not show all headers and there is more of the packet: begin a draft with the whole
    /// packet. With a whole packet there is no error.
    #[inline]
    pub fn apply(
        &self,
        facts: &CopyFacts,
        draft: &mut Draft<'_>,
        state: &mut EditState,
    ) -> Result<(), NeedsWhole> {
        self.apply_shown(facts, draft, state, &mut |_, _| ())
    }

    /// As [`apply`](Self::apply); `show` is shown the draft behind each step that the plan has, with the step's word.
    ///
    /// # Errors
    /// As of `apply`.
    #[inline(always)]
    pub fn apply_shown(
        &self,
        facts: &CopyFacts,
        draft: &mut Draft<'_>,
        state: &mut EditState,
        show: &mut impl FnMut(&'static str, &Draft<'_>),
    ) -> Result<(), NeedsWhole> {
        let edits = &self.edits;
        if !edits.strip.is_empty() {
            strip::strip(edits.strip, draft)?;
            show("strip", draft);
        }
        if let Some(anonymizer) = &mut state.anonymizer {
            anonymizer.anonymize(draft)?;
            show("anonymize", draft);
            if self.only_anonymizes {
                return Ok(());
            }
        }
        if let Some(payload) = self.masks_behind_l4(draft) {
            for mask in &edits.masks {
                mask_from(mask, payload, draft)?;
                show("mask", draft);
            }
            self.change_link(facts, draft, show);
            return Ok(());
        }
        let layers = match self.anchored {
            Some(depth) => {
                draft.layers_into(depth, &mut state.layers)?;
                &state.layers
            }
            None => &NO_LAYERS,
        };
        for mask in &edits.masks {
            apply_mask(mask, draft, layers)?;
            show("mask", draft);
        }
        if edits.payload_drop || edits.slice.is_some() {
            // Anchors lie in the front, which `layers` saw to; a plain slice needs no more than the length.
            let mut keep = draft.len();
            if edits.payload_drop {
                keep = keep.min(anchor(Some(Anchor::InnerL4), draft.front(), layers));
            }
            if let Some(slice) = edits.slice {
                keep = keep.min(anchor(slice.after, draft.front(), layers) + usize::from(slice.keep));
            }
            draft.truncate(keep);
            show(if edits.slice.is_some() { "slice" } else { "payload drop" }, draft);
        }
        self.change_link(facts, draft, show);
        Ok(())
    }

    /// The last steps: rewrite, tag and mark.
    #[inline(always)]
    fn change_link(
        &self,
        facts: &CopyFacts,
        draft: &mut Draft<'_>,
        show: &mut impl FnMut(&'static str, &Draft<'_>),
    ) {
        if draft.front().len() >= LINK_HEADER_LEN {
            rewrite(&self.edits.rewrite, draft.front_mut());
            show("rewrite", draft);
            if let Some(tag) = self.edits.tag {
                push_tag(tag, facts, draft);
                show("tag", draft);
            }
            if let Some(vlan) = self.edits.mark {
                push_tag(Tag { tag: VlanTag { vlan, priority: 0 }, label: None }, facts, draft);
                show("mark", draft);
            }
        }
    }

    /// Gives the offset of the payload, if masks count from there alone, nothing is cut, and the frame is plain: TCP over IPv4 with
    /// no tags, options of IP or fragments, as most are. No layers are needed then.
    #[inline(always)]
    fn masks_behind_l4(&self, draft: &Draft<'_>) -> Option<usize> {
        const L4: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;
        if !self.masks_payload {
            return None;
        }
        let head = draft.front().first_chunk::<{ L4 + tcp::HEADER_LEN }>()?;
        let is_tcp =
            head[12..15] == [0x08, 0x00, 0x45] && head[23] == ip::TCP && head[20] & 0x3f | head[21] == 0;
        let header_len = usize::from(head[L4 + 12] >> 4) * 4;
        (is_tcp && header_len >= tcp::HEADER_LEN && L4 + header_len <= draft.front().len())
            .then_some(L4 + header_len)
    }
}

/// Gives the place at which counting begins, in bytes from the frame's first.
fn anchor(anchor: Option<Anchor>, bytes: &[u8], layers: &Layers) -> usize {
    let stack = if anchor == Some(Anchor::InnerL4) { &layers.inner } else { &layers.outer };
    let l2 = || stack.l3();
    let l3 = || if stack.is_arp() { l2() + arp::PACKET_LEN } else { stack.l4().unwrap_or_else(l2) };
    match anchor {
        None => 0,
        Some(Anchor::L2) => l2(),
        Some(Anchor::L3) => l3(),
        Some(Anchor::L4 | Anchor::InnerL4) => stack.payload(bytes).unwrap_or_else(l3),
    }
}

fn apply_mask(mask: &Mask, draft: &mut Draft<'_>, layers: &Layers) -> Result<(), NeedsWhole> {
    mask_from(mask, anchor(mask.after, draft.front(), layers), draft)
}

#[inline(always)]
fn mask_from(mask: &Mask, begin: usize, draft: &mut Draft<'_>) -> Result<(), NeedsWhole> {
    let start = begin + usize::from(mask.offset);
    let end = (start + usize::from(mask.len)).min(draft.len());
    if start >= end {
        return Ok(());
    }
    draft.front_mut().get_mut(start..end).ok_or(NeedsWhole)?.fill(mask.byte);
    Ok(())
}

fn rewrite(rewrite: &Rewrite, frame: &mut [u8]) {
    if let Some(mac) = rewrite.destination {
        frame[..6].copy_from_slice(&mac.0);
    }
    if let Some(mac) = rewrite.source {
        frame[6..12].copy_from_slice(&mac.0);
    }
    if let (Some(vlan), Some(old)) = (rewrite.vlan, vlan::outer_tag(frame)) {
        // The drop-eligible bit stays with the priority.
        frame[14] = frame[14] & 0xf0 | (vlan >> 8) as u8;
        frame[15] = vlan as u8;
        debug_assert!(vlan::outer_tag(frame) == Some(VlanTag { vlan, ..old }));
    }
}

/// The addresses move four bytes forward and the tag takes their place's end.
fn push_tag(tag: Tag, facts: &CopyFacts, draft: &mut Draft<'_>) {
    if !draft.grow_front(vlan::TAG_LEN) {
        return;
    }
    let mut pushed = tag.tag;
    let number = match tag.label {
        None => 0,
        Some(TagLabel::FromPort) => u32::from(facts.port),
        Some(TagLabel::FromTunnel) => facts.tunnel % 4094,
    };
    // The sum stays a VLAN that exists, 1 to 4094.
    pushed.vlan = ((u32::from(pushed.vlan - 1) + number) % 4094) as u16 + 1;
    // of a length that is known here, so that the addresses move through registers
    if let Some(head) = draft.front_mut().first_chunk_mut::<{ ethernet::ADDRESSES_LEN + vlan::TAG_LEN }>() {
        head.copy_within(vlan::TAG_LEN.., 0);
        head[ethernet::ADDRESSES_LEN..].copy_from_slice(&vlan::tag(vlan::TPID_8021Q, pushed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_traffic::packets;

    #[test]
    fn masks_of_payloads_begin_where_the_layers_say_by_the_short_way_too() {
        let mut shorts = 0;
        for after in [Some(Anchor::L4), Some(Anchor::InnerL4)] {
            let mask = Mask { offset: 1, len: 9, byte: 0xa5, after };
            let plan =
                EditPlan::compile(Edits { masks: vec![mask], ..Edits::default() }).expect("it is valid");
            let mut state = plan.state();
            for packet in packets::mix(64, 4, 7).into_iter().chain(packets::mix(64, 4, 8)) {
                for len in [packet.len(), packet.len().min(60), packet.len().min(53)] {
                    let packet = &packet[..len];
                    let begin =
                        anchor(after, packet, &layers::parse(&Frame::whole(packet), Depth::Full)) + 1;
                    let mut expected = packet.to_vec();
                    expected[begin.min(len)..(begin + 9).min(len)].fill(0xa5);
                    let mut buffer = [&[0; DRAFT_HEADROOM][..], packet].concat();
                    let mut draft = Draft::new(&mut buffer, DRAFT_HEADROOM, 0, len);
                    shorts += usize::from(plan.masks_behind_l4(&draft).is_some());
                    assert_eq!(plan.apply(&CopyFacts::default(), &mut draft, &mut state), Ok(()));
                    assert_eq!(draft.front(), expected, "{after:?} {len}");
                }
            }
        }
        assert!(shorts > 0);
    }
}
