//! What a pipeline file says, typed, before any name is resolved.
//!
//! Every value is checked for itself here (a VLAN ID is a VLAN ID); what needs the other commands of the file (is there such a
//! tool?) is the planner's to say. Whatever the planner may have to point at carries its span.

use std::net::IpAddr;
use std::time::Duration;

pub use super::source::Spanned;
use crate::packet::headers::layer::LayerSet;

/// A name as the user wrote it, not looked up yet.
pub type Name = Spanned<String>;

/// The kinds of things that have names. A rule's name is its priority.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NameKind {
    Port,
    Tool,
    Group,
    Wire,
    Filter,
    Rule,
}

impl NameKind {
    pub const ALL: [NameKind; 6] =
        [NameKind::Port, NameKind::Tool, NameKind::Group, NameKind::Wire, NameKind::Filter, NameKind::Rule];

    /// The word of the language, which begins the commands of this kind.
    pub fn word(self) -> &'static str {
        match self {
            NameKind::Port => "port",
            NameKind::Tool => "tool",
            NameKind::Group => "group",
            NameKind::Wire => "wire",
            NameKind::Filter => "filter",
            NameKind::Rule => "rule",
        }
    }
}

impl std::fmt::Display for NameKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// A pipeline file with everything that it includes, in the order of the text.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PipelineFile {
    /// The commands without a mistake.
    pub commands: Vec<Spanned<Command>>,
    /// Commands in which a mistake was reported, with those of their clauses that are right. They can never be carried out; the
    /// planner looks up the names in them, so that a second mistake in the same line is reported in the same run.
    pub partial: Vec<Spanned<Command>>,
    /// Names that commands with mistakes would have defined. A use of one is no mistake of its own.
    pub broken: Vec<(NameKind, String)>,
    /// Part of the text could not be read (a missing include, bytes that are not UTF-8): an unknown name may be defined there, and
    /// is no mistake of its own.
    pub incomplete: bool,
}

impl PipelineFile {
    /// Whether a name that no command defines was meant to be defined: its absence follows from a mistake that is reported already.
    pub fn is_excused(&self, kind: NameKind, name: &str) -> bool {
        self.incomplete || self.broken.iter().any(|(k, n)| *k == kind && n == name)
    }
}

/// One command. `let` and `include` are carried out while reading and leave no command.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    Set(Setting),
    PortAttach { name: Name, device: Spanned<Device>, options: Vec<Spanned<PortOption>> },
    PortConfig { name: Name, options: Vec<Spanned<PortOption>> },
    PortDetach(Name),
    PortStart(Name),
    PortStop(Name),
    ToolCreate { name: Name, target: Spanned<ToolTarget>, options: Vec<Spanned<ToolOption>> },
    ToolModify { name: Name, options: Vec<Spanned<ToolOption>> },
    ToolDestroy(Name),
    ToolDrain(Name),
    ToolEnable(Name),
    GroupCreate { name: Name, options: Vec<Spanned<GroupOption>> },
    GroupModify { name: Name, options: Vec<Spanned<GroupOption>> },
    GroupDestroy(Name),
    WireCreate { name: Name, a: Name, b: Name, options: Vec<Spanned<WireOption>> },
    WireModify { name: Name, options: Vec<Spanned<WireOption>> },
    WireDestroy(Name),
    FilterCreate { name: Name, filter: Filter },
    FilterModify { name: Name, filter: Filter },
    FilterDestroy(Name),
    RuleCreate { priority: Spanned<u32>, clauses: Vec<Spanned<RuleClause>> },
    RuleModify { priority: Spanned<u32>, clauses: Vec<Spanned<RuleClause>> },
    RuleEnable(Spanned<u32>),
    RuleDisable(Spanned<u32>),
    RuleDestroy(Spanned<u32>),
    RuleDestroyAll,
    Start,
    Stop,
    Show(Show),
    ClearStats,
    Quit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Show {
    Ports,
    Tools,
    Groups,
    Wires,
    Filters,
    Rules,
    Lcores,
    Stats,
    Plan,
}

/// `set KEY VALUE`.
#[derive(Clone, PartialEq, Debug)]
pub enum Setting {
    /// Packets in a burst, 1..=64.
    Burst(Spanned<u32>),
    Lcores(Spanned<Lcores>),
    /// Mbufs for each port and socket.
    Mempool(Spanned<u64>),
    Idle(Spanned<Idle>),
    Flows {
        entries: Spanned<u64>,
        idle: Option<Spanned<Duration>>,
        max_age: Option<Spanned<Duration>>,
    },
    /// EAL arguments, as on DPDK's own command lines.
    Eal(Spanned<String>),
    /// `set workers 4`: so many, on lcores that Tapline chooses.
    Workers(Spanned<u64>),
    /// Seeds the flow hash: two brokers with one seed pick the same flows.
    Seed(Spanned<u64>),
    /// What keeps the system's clock.
    Clock(Spanned<Reference>),
    /// The folder for the frames of bursts in which a stage panicked.
    PanicDump(Spanned<String>),
}

/// What a clock daemon follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reference {
    Ntp,
    Gps,
    Ptp,
}

/// Where the work runs. The numbers are lcores.
#[derive(Clone, PartialEq, Debug)]
pub enum Lcores {
    /// `set lcores 1-3`: each polls its receive queues and carries its packets to the tools.
    RunToCompletion(Vec<u32>),
    /// `set lcores receive 1 work 2-3 transmit 4`: stages with rings between them. Empty means that the neighbouring stage does it.
    Staged { receive: Vec<u32>, work: Vec<u32>, transmit: Vec<u32> },
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Idle {
    Poll,
    Pause,
    /// Sleeps between empty polls, for at most this long if given.
    Sleep(Option<Duration>),
}

/// What a port is.
#[derive(Clone, PartialEq, Debug)]
pub enum Device {
    /// A PCI address or a virtual device with its arguments, as testpmd takes them.
    Devargs(String),
    /// `replay:FILE`: a capture that Tapline reads itself.
    Replay { path: String, speed: ReplaySpeed, loops: Loops, max_gap: Option<Duration> },
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ReplaySpeed {
    /// The gaps of the capture.
    Original,
    /// As fast as the pipeline takes packets.
    Max,
    /// The gaps of the capture divided by this many thousandths: `2x` is 2000.
    Times { thousandths: u64 },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loops {
    Times(u64),
    Forever,
}

#[derive(Clone, PartialEq, Debug)]
pub enum PortOption {
    /// Receive queues; 0 for a port that only transmits.
    Rxq(u16),
    /// Transmit queues; 0 for a port that only receives.
    Txq(u16),
    /// Receive descriptors for each queue.
    Rxd(u16),
    /// Transmit descriptors for each queue.
    Txd(u16),
    /// Bytes behind the Ethernet header.
    Mtu(u16),
    Promiscuous(bool),
    /// The lcores that poll this port's receive queues.
    Lcores(Vec<u32>),
    Terminate(Terminate),
}

/// `terminate`: the inner frame of a tunnel that ends here becomes the packet.
#[derive(Clone, PartialEq, Debug)]
pub struct Terminate {
    pub tunnel: Spanned<TunnelIn>,
    /// The outer destination; any if absent.
    pub to: Option<Spanned<IpAddr>>,
    /// The tunnel's own number (VNI, GRE key, ERSPAN session, TEID or RSPAN VLAN); any if absent.
    pub ids: Option<Spanned<Ranges>>,
    /// The UDP port of VXLAN, GENEVE and GTP if not the standard's.
    pub udp_port: Option<Spanned<u16>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunnelIn {
    Vxlan,
    Geneve,
    Gre,
    Erspan,
    Gtp,
    Rspan,
}

/// Ascending or not, as written: inclusive ranges.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges(pub Vec<(u32, u32)>);

impl Ranges {
    pub fn contains(&self, n: u32) -> bool {
        self.0.iter().any(|&(first, last)| first <= n && n <= last)
    }
}

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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    BitsPerSecond(u64),
    PacketsPerSecond(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampFormat {
    None,
    Ixia,
    Metamako,
    Vss,
    Arista,
    Gigamon,
    Erspan3,
}

/// What becomes of a copy that does not fit the path's MTU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oversize {
    Slice,
    Drop,
    /// A plan in which a copy might not fit is refused.
    FragmentNever,
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RspanTag {
    Replace,
    Push,
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Ingress,
    Egress,
}

/// The unit of ERSPAN III timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Granularity {
    HundredMicroseconds,
    HundredNanoseconds,
    Ieee1588,
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
    Mac(Mac),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mac(pub [u8; 6]);

#[derive(Clone, PartialEq, Debug)]
pub enum GroupOption {
    Tools(Vec<Name>),
    Weights(Vec<Spanned<u32>>),
    Hash(Hash),
    Standby(Vec<Name>),
    MinUp {
        count: u32,
        below: Option<Spanned<Below>>,
    },
    Return(Return),
    /// The share of flows that no tool gets, in percent.
    Discard {
        percent: u8,
    },
}

/// What makes packets one flow: `ip inner`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hash {
    pub kind: Spanned<HashKind>,
    pub layers: Option<Spanned<HashLayers>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashKind {
    /// Addresses, protocol and ports, the same for both directions.
    Symmetric,
    Ip,
    IpPort,
    FiveTuple,
    Mac,
    Vlan,
    Vni,
    Teid,
    /// As NICs hash.
    Rss,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashLayers {
    Inner,
    Outer,
}

/// What a group does while fewer members than `min-up` are up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Below {
    Drop,
    Spread,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Return {
    Now,
    /// A flow returns once it was idle for this long.
    Idle(Duration),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireOption {
    Bypass(bool),
    PropagateLink(bool),
}

/// An expression or a file of them, and the layers that it looks through.
#[derive(Clone, PartialEq, Debug)]
pub struct Filter {
    pub source: Spanned<FilterSource>,
    pub through: Option<Spanned<LayerSet>>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum FilterSource {
    /// A filter that `filter create` defines.
    Named(String),
    /// A pcap-filter expression.
    Expression(String),
    /// A list of prefixes or expressions, one a line.
    File(String),
}

#[derive(Clone, PartialEq, Debug)]
pub enum RuleClause {
    From(Vec<Spanned<RuleSource>>),
    Vlan(Ranges),
    /// All must hold. A rule may have several of these; all of all must hold.
    Match(Vec<Spanned<Term>>),
    Sample(Sample),
    Dedup(Dedup),
    Edit(Edit),
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

/// Where a rule's packets come from.
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireDirection {
    AToB,
    BToA,
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

/// The header behind which an offset begins to count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    L2,
    L3,
    L4,
    InnerL4,
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DedupIgnore {
    Ttl,
    Tos,
    Vlan,
    Mac,
    TcpSeq,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DedupAction {
    Drop,
    Count,
    Tag,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    High,
    Normal,
    Low,
}

/// Of what a tag's VLAN tells copies apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TagLabel {
    /// `from-port`: the source port's index.
    FromPort,
    /// `from-tunnel`: the number of the tunnel that the packet came in.
    FromTunnel,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Edit {
    Strip(LayerSet),
    TagVlan {
        vlan: u16,
        /// What is counted on top of `vlan`.
        label: Option<TagLabel>,
    },
    RewriteDstMac(Mac),
    RewriteSrcMac(Mac),
    RewriteVlan(u16),
    Slice {
        keep_bytes: u16,
        after: Option<Spanned<Anchor>>,
    },
    Mask {
        offset: u16,
        length: u16,
        byte: u8,
        after: Option<Spanned<Anchor>>,
    },
    AnonymizeIp {
        key_file: Option<Spanned<String>>,
        keep: Option<Spanned<KeepPrefix>>,
        inner: bool,
    },
    PayloadDrop,
}

/// Leading bits of an address that stay as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepPrefix {
    pub ipv4: u8,
    pub ipv6: u8,
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
