//! The facts that are known of one copy when it is edited, stamped and encapsulated.

use tapline_api::words::{ClockQuality, Direction};
use tapline_packet::burst::{MAX_BURST, Selection};

/// When a packet was received.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stamp {
    /// Nanoseconds since the Unix epoch.
    pub ns: u64,
    pub quality: ClockQuality,
    /// The fit of the clock to real time has not converged (see `clock_fit`), or the NIC was to stamp the packet and did not.
    pub degraded: bool,
}

impl Stamp {
    /// Whole seconds since the epoch, modulo 2^32, as every format here carries them.
    #[inline(always)]
    pub fn seconds(self) -> u32 {
        (self.ns / 1_000_000_000) as u32
    }

    /// The clock to name beside the time, in formats that cannot say degraded: whatever the clock follows, this time does not yet.
    #[inline(always)]
    pub fn said_quality(self) -> ClockQuality {
        if self.degraded { ClockQuality::Free } else { self.quality }
    }

    /// Nanoseconds of the second.
    #[inline(always)]
    pub fn nanoseconds(self) -> u32 {
        (self.ns % 1_000_000_000) as u32
    }
}

/// The receive times of a burst's packets.
#[derive(Clone, Debug)]
pub struct Stamps {
    /// Nanoseconds since the Unix epoch, by packet.
    pub ns: [u64; MAX_BURST],
    pub quality: ClockQuality,
    /// The packets whose stamps are [degraded](Stamp::degraded).
    pub degraded: Selection,
}

impl Default for Stamps {
    fn default() -> Self {
        Self::NONE
    }
}

impl Stamps {
    /// Nothing is known.
    pub const NONE: Stamps =
        Stamps { ns: [0; MAX_BURST], quality: ClockQuality::Free, degraded: Selection::NONE };

    /// The time of one packet.
    #[inline(always)]
    pub fn of(&self, index: usize) -> Stamp {
        Stamp { ns: self.ns[index], quality: self.quality, degraded: self.degraded.contains(index) }
    }
}

/// The facts that a transport or a timestamp format states about the copy that it carries.
#[derive(Clone, Copy, Default, Debug)]
pub struct CopyFacts {
    pub stamp: Stamp,
    /// Index of the port that received the packet.
    pub port: u16,
    /// Number of the tunnel that the packet came in: VNI, GRE key, ERSPAN session, RSPAN VLAN or TEID; 0 where its port ends none.
    pub tunnel: u32,
    pub direction: Direction,
    /// The copy holds fewer bytes than its packet had: it was sliced, or cut before it came.
    pub truncated: bool,
    /// The hash of the flow inside, the same for both directions.
    pub flow_hash: u32,
    /// Number of the copy in its session, claimed from the session's `Sequence` once a burst.
    pub sequence: u32,
}
