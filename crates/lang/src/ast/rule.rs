//! `rule …`: which packets a rule takes, and what becomes of them.

use std::time::Duration;

use super::super::source::Spanned;
use super::edit::Edit;
use super::filter::Filter;
use super::group::Hash;
use super::{Name, Ranges};
use tapline_api::values::Rate;
use tapline_api::words::{Anchor, Class, DedupAction, DedupIgnore, Unread, WireDirection};

#[derive(Clone, PartialEq, Debug)]
pub enum RuleClause {
    From(Vec<Spanned<RuleSource>>),
    Vlan(Ranges),
    /// All must hold. A rule may have several of these; all of all must hold.
    Match(Vec<Spanned<Term>>),
    Sample(Sample),
    Dedup(Dedup),
    Edit(Edit),
    /// The fate of copies that are to be anonymised and cannot be read.
    Unread(Unread),
    Active(Schedule),
    /// Nanoseconds since the Unix epoch.
    Until(u64),
    For(Duration),
    /// Packets.
    Limit(u64),
    /// Tools and groups.
    To(Vec<Name>),
    Final,
    Drop,
    Class(Class),
}

/// The source of a rule's packets.
#[derive(Clone, PartialEq, Debug)]
pub enum RuleSource {
    Any,
    /// A port or a wire.
    Named(String),
    /// `w0:a-to-b`.
    WireDirection {
        wire: String,
        direction: WireDirection,
    },
}

#[derive(Clone, PartialEq, Debug)]
pub enum Term {
    Filter(Filter),
    Vni(Ranges),
    Teid(Ranges),
    MplsLabel(Ranges),
    /// `bytes OFFSET HEX[/MASK]`; value and mask have one length, and the value has no bit outside the mask.
    Bytes {
        offset: u16,
        value: Vec<u8>,
        mask: Vec<u8>,
        after: Option<Spanned<Anchor>>,
    },
}

#[derive(Clone, PartialEq, Debug)]
pub enum Sample {
    /// Every Nth packet.
    Count { one_in: u32 },
    /// Each packet with probability 1/N.
    Random { one_in: u32 },
    /// All packets of one in N flows.
    Flow { one_in: u32, hash: Option<Hash>, seed: Option<Spanned<u64>> },
    /// The first packets of each flow.
    FirstPackets { packets: u64, hash: Option<Hash> },
    /// The first bytes of each flow.
    FirstBytes { bytes: u64, hash: Option<Hash> },
    /// The share of flows that fits.
    Rate { rate: Rate, hash: Option<Hash> },
    /// For `length` at the beginning of each `period`.
    Every { period: Duration, length: Duration },
}

#[derive(Clone, PartialEq, Debug)]
pub struct Dedup {
    pub window: Spanned<Duration>,
    pub memory: Option<Spanned<u64>>,
    pub ignore: Vec<Spanned<DedupIgnore>>,
    pub scope: Vec<Name>,
    pub action: Option<Spanned<DedupAction>>,
    /// The VLAN of `action tag VLAN`.
    pub tag_vlan: Option<Spanned<u16>>,
}

/// The times at which a rule is on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    pub windows: Vec<Window>,
    /// An IANA zone name; the machine's own zone if absent.
    pub zone: Option<Spanned<String>>,
}

/// From one minute of the day until before another, beginning on certain days. `until_minute` at or below `from_minute` is on the
/// next day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Bit 0 is Monday, bit 6 Sunday.
    pub days: u8,
    /// 0..1440.
    pub from_minute: u16,
    /// 1..=1440, or less than `from_minute` for the next day.
    pub until_minute: u16,
}
