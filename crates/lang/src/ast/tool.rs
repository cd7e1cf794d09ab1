//! `tool …`: where copies go, how they travel there, and what shows that a tool is well.

use std::net::IpAddr;
use std::time::Duration;

use super::super::source::Spanned;
use super::Name;
use super::edit::Edit;
use tapline_api::values::Rate;
use tapline_api::words::{Direction, Granularity, Oversize, RspanTag, TimestampFormat};
use tapline_packet::headers::ethernet::MacAddress;

#[derive(Clone, PartialEq, Debug)]
pub enum ToolTarget {
    Port(Name),
    /// Copies are counted and freed.
    Discard,
    /// A capture file, or a directory when it rotates.
    Capture(Spanned<String>),
}

#[derive(Clone, PartialEq, Debug)]
pub enum ToolOption {
    Transport(Box<Transport>),
    /// The path's MTU where it is less than the port's.
    Mtu(u16),
    /// Packets that may wait, and bytes.
    Queue {
        packets: u64,
        bytes: Option<Spanned<u64>>,
    },
    /// The queue's fill, in percent, above which low and normal copies are refused.
    Thresholds {
        low: u8,
        normal: u8,
    },
    Rate {
        rate: Spanned<Rate>,
        burst: Option<Spanned<Duration>>,
    },
    Timestamp(TimestampFormat),
    /// Copies are merged in time order within this window.
    Order(Duration),
    Oversize(Oversize),
    /// Starts a file anew at this size or after this long.
    Rotate(Rotate),
    /// Bytes of captures kept; the oldest files go first.
    Keep(u64),
    Heartbeat {
        probe: Probe,
        /// The port that they return by, where it is not the tool's.
        back: Option<Name>,
    },
    Echo(Probe),
    /// A tool that accepts nothing for this long is down.
    DownAfter(Duration),
    /// A tool must be well for this long before it is up again.
    UpAfter(Duration),
    /// Copies that it drops raise an alarm; nothing else does.
    Alarmed(bool),
    /// Its queue and its use raise one, too, above a share.
    Alarm {
        percent: u8,
        hold: Option<Spanned<Duration>>,
    },
    Edit(Edit),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rotate {
    Bytes(u64),
    Every(Duration),
}

/// A question that a healthy tool answers.
#[derive(Clone, PartialEq, Debug)]
pub struct Probe {
    pub every: Spanned<Duration>,
    pub timeout: Option<Spanned<Duration>>,
    pub retries: Option<Spanned<u32>>,
}

/// How copies travel to a tool.
#[derive(Clone, PartialEq, Debug)]
pub enum Transport {
    Local,
    Rspan { vlan: Spanned<u16>, priority: Option<Spanned<u8>>, tag: Option<Spanned<RspanTag>> },
    Erspan(Erspan),
    Vxlan { vni: Spanned<u32>, udp_port: Option<Spanned<u16>>, udp_checksum: Option<bool>, outer: Outer },
    Geneve { vni: Spanned<u32>, udp_port: Option<Spanned<u16>>, udp_checksum: Option<bool>, outer: Outer },
    Gre { key: Option<Spanned<u32>>, outer: Outer },
}

#[derive(Clone, PartialEq, Debug)]
pub struct Erspan {
    /// 1, 2 or 3.
    pub version: u8,
    /// 0..=1023.
    pub session: Spanned<u16>,
    pub direction: Option<Spanned<Direction>>,
    /// Class of service, 0..=7; the packet's own if absent.
    pub cos: Option<Spanned<u8>>,
    /// Security group tag (type III).
    pub sgt: Option<Spanned<u16>>,
    /// Source port index (type II), 20 bits.
    pub index: Option<Spanned<u32>>,
    /// Hardware ID (type III), 6 bits.
    pub hw_id: Option<Spanned<u8>>,
    pub granularity: Option<Spanned<Granularity>>,
    pub outer: Outer,
}

/// The outer headers of a tunnel. `src` and `dst` are of one IP version.
#[derive(Clone, PartialEq, Debug)]
pub struct Outer {
    pub src: Spanned<IpAddr>,
    pub dst: Spanned<IpAddr>,
    pub next_hop: Option<Spanned<NextHop>>,
    pub vlan: Option<Spanned<u16>>,
    /// 802.1p priority of the outer VLAN tag.
    pub priority: Option<Spanned<u8>>,
    pub ttl: Option<Spanned<u8>>,
    pub dscp: Option<Spanned<u8>>,
    pub df: Option<Spanned<bool>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextHop {
    Ip(IpAddr),
    Mac(MacAddress),
}
