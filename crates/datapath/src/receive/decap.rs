//! Decapsulation: on ports with `terminate`, the frames inside the tunnels that end there become the packets.
//!
//! Stands behind receive, before anything looks at packets. Nothing is copied: the packet's begin and end move within its mbufs. A
//! packet of none of the port's tunnels is not shown to any rule. It counts as unmatched, and by its reason.

use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::ArrayVec;

use super::local_frames::LocalFrames;
use super::tunnel_match::{Inner, SequenceTracker, SessionKey, Terminator};
use crate::copies::facts::Stamps;
use tapline_api::snapshot::SequenceCounts;
use tapline_api::words::{Refusal, TunnelKind};
use tapline_dpdk::mbuf::{Frames, Linear, MbufBurst, Place};
use tapline_fault as fault;
use tapline_packet::burst::{Column, MAX_BURST, Selection};

/// Sessions of one port that a worker follows by their sequence numbers.
const MOST_SESSIONS: usize = 256;
/// Bursts between two reports to the control thread.
const REPORTED_BURSTS: u32 = 64;
/// An ERSPAN time without full seconds is the packet's if it is as near as this to the time of arrival: a sender whose clock does
/// not count from 1970 is hardly ever.
const NEAR_NS: u64 = 1_000_000_000;

/// The counters of an endpoint.
#[derive(Clone, Default, Debug)]
pub struct EndpointCounts {
    pub terminated: u64,
    /// Terminated packets that have the time which the tunnel says.
    pub timed: u64,
    /// Refused packets by [`Refusal`].
    pub refused: [u64; Refusal::ALL.len()],
    pub sessions: Vec<(SessionKey, SequenceCounts)>,
    /// Packets of sessions that were too many to follow.
    pub untracked: u64,
}

/// A worker's report about a port's tunnels; there is one for each worker.
pub type EndpointReport = Arc<Mutex<EndpointCounts>>;

/// The ids of the tunnel that a packet came in, which rules and headers of further tunnels ask for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct OuterId {
    /// The id of VXLAN, Geneve, GRE, ERSPAN or RSPAN.
    pub vni: Option<u32>,
    /// The id of GTP.
    pub teid: Option<u32>,
    /// Its sender says that it cut the frame.
    pub is_cut: bool,
    /// Its sender says that the frame was leaving the mirrored port.
    pub is_egress: bool,
}

impl OuterId {
    /// The number of the tunnel, of whatever kind; 0 where it has none.
    pub fn number(&self) -> u32 {
        self.vni.or(self.teid).unwrap_or_default()
    }
}

/// A worker's end of the tunnels of one port.
pub struct Endpoint {
    terminators: Vec<Terminator>,
    tracker: SequenceTracker,
    counts: EndpointCounts,
    outer: Column<OuterId>,
    report: EndpointReport,
    bursts: u32,
    is_reported: bool,
}

impl Endpoint {
    pub fn new(terminators: Vec<Terminator>, report: EndpointReport) -> Self {
        let counts =
            EndpointCounts { sessions: Vec::with_capacity(MOST_SESSIONS), ..EndpointCounts::default() };
        report.lock().unwrap_or_else(PoisonError::into_inner).sessions.reserve(MOST_SESSIONS);
        Self {
            terminators,
            tracker: SequenceTracker::new(MOST_SESSIONS),
            counts,
            outer: Column::new(OuterId::default()),
            report,
            bursts: 0,
            is_reported: true,
        }
    }

    /// Returns whether tunnels may say when their packets were received.
    pub fn says_times(&self) -> bool {
        self.terminators.iter().any(Terminator::says_times)
    }

    /// The numbers of the tunnels of the burst's packets, of those that came in one.
    pub fn outer(&mut self) -> &mut Column<OuterId> {
        &mut self.outer
    }

    /// Takes the packets of a burst out of their tunnels; gives those that were in one. `stamps` hold the times of arrival where
    /// `has_stamps` says so, and then those that the tunnels say. The other frames may be for Tapline itself: `local_frames` gets
    /// those.
    pub fn terminate(
        &mut self,
        burst: &mut MbufBurst,
        linear: &mut Linear,
        stamps: Option<&mut Stamps>,
        local_frames: Option<&LocalFrames>,
    ) -> Selection {
        let mut found: ArrayVec<(Result<Inner, Refusal>, u32), MAX_BURST> = ArrayVec::new();
        let mut frames = Frames::new();
        burst.frames(linear, &mut frames);
        found.extend(
            frames.iter().map(|frame| (recognise(&self.terminators, frame.bytes()), frame.original_len())),
        );
        if let Some(local_frames) = local_frames {
            let others = frames.iter().zip(&found).filter(|(_, (found, _))| found.is_err());
            others.for_each(|(frame, _)| local_frames.offer(frame.bytes()));
        }
        drop(frames);
        let mut selection = Selection::NONE;
        let mut stamps = stamps;
        self.outer.clear();
        for (index, (found, frame_len)) in found.iter().enumerate() {
            fault::panics_on_packet("terminate", index);
            let inner = match found {
                Ok(inner) if burst.enter(index, &place(inner, *frame_len as usize)) => inner,
                Ok(_) => {
                    self.counts.refused[Refusal::Malformed as usize] += 1;
                    continue;
                }
                Err(refusal) => {
                    self.counts.refused[*refusal as usize] += 1;
                    continue;
                }
            };
            selection.insert(index);
            let identifier = inner.outer.identifier;
            let is_gtp = inner.outer.kind == TunnelKind::Gtp;
            let (vni, teid) = if is_gtp { (None, identifier) } else { (identifier, None) };
            let outer =
                OuterId { vni, teid, is_cut: inner.outer.is_truncated, is_egress: inner.outer.is_egress };
            self.outer.write(Selection::only(index), |all| all[index] = outer);
            self.tracker.observe(&inner.outer);
            if let (Some(time), Some(stamps)) = (inner.outer.time, stamps.as_deref_mut())
                && let Some(ns) = time.ns(stamps.ns[index])
                && (time.is_full() || ns.abs_diff(stamps.ns[index]) <= NEAR_NS)
            {
                stamps.ns[index] = ns;
                self.counts.timed += 1;
            }
        }
        self.counts.terminated += u64::from(selection.count());
        self.is_reported = false;
        self.bursts += 1;
        if self.bursts.is_multiple_of(REPORTED_BURSTS) {
            self.report();
        }
        selection
    }

    /// Tells the control thread what was counted, unless it is just reading.
    pub fn report(&mut self) {
        if self.is_reported {
            return;
        }
        if let Ok(mut report) = self.report.try_lock() {
            self.counts.untracked = self.tracker.untracked();
            let EndpointCounts { sessions, .. } = &mut *report;
            sessions.clear();
            // room for all was reserved
            sessions.extend(self.tracker.sessions());
            let sessions = std::mem::take(sessions);
            let EndpointCounts { terminated, timed, refused, untracked, .. } = self.counts;
            *report = EndpointCounts { terminated, timed, refused, sessions, untracked };
            self.is_reported = true;
        }
    }
}

/// The frame inside by the first tunnel that it is of; else the refusal that says most.
///
/// # Errors
/// It is in none of these tunnels.
pub fn recognise(terminators: &[Terminator], bytes: &[u8]) -> Result<Inner, Refusal> {
    let mut refusal = Refusal::OtherTraffic;
    for terminator in terminators {
        match terminator.recognise(bytes) {
            Ok(inner) => return Ok(inner),
            Err(other) => refusal = refusal.max(other),
        }
    }
    Err(refusal)
}

/// Gives the place of the inner frame in the received one, which had `frame_len` bytes on the wire.
fn place(inner: &Inner, frame_len: usize) -> Place<'_> {
    let link = inner.link.as_ref().map_or(&[][..], |link| &link[..]);
    let original_len = match inner.ends_with_frame {
        true => inner.original_len.max(frame_len.saturating_sub(inner.offset)),
        false => inner.original_len,
    };
    let wire_len = u32::try_from(original_len + link.len()).unwrap_or(u32::MAX);
    Place { offset: inner.offset, len: inner.len, link, wire_len }
}
