//! Closed vocabularies: each word that a user may write or read, once, with the value that it stands for.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A value out of a closed vocabulary.
pub trait Vocabulary: Copy + PartialEq + 'static {
    /// Every value, in the order in which users see them.
    const VALUES: &'static [Self];
    /// The word for each value, in the same order.
    const WORDS: &'static [&'static str];

    /// Returns the word for the value.
    fn word(self) -> &'static str;

    /// Returns the value that `word` stands for.
    fn of_word(word: &str) -> Option<Self> {
        Self::VALUES.iter().copied().find(|value| value.word() == word)
    }
}

/// Reads a word.
struct Reads<T>(std::marker::PhantomData<T>);

impl<T: Vocabulary> Visitor<'_> for Reads<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {}", T::WORDS.join(", "))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<T, E> {
        T::of_word(word).ok_or_else(|| E::unknown_variant(word, T::WORDS))
    }
}

/// Defines vocabularies: each variant with its word.
macro_rules! words {
    ($(
        $(#[$attribute:meta])*
        pub enum $Name:ident { $( $(#[$of_variant:meta])* $Variant:ident = $word:literal, )+ }
    )+) => {$(
        $(#[$attribute])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $Name { $( $(#[$of_variant])* $Variant, )+ }

        impl $Name {
            /// Every value, in the order in which users see them.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$Variant),+];

            /// Returns the word for the value.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$Variant => $word,)+ }
            }
        }

        impl Vocabulary for $Name {
            const VALUES: &'static [Self] = &Self::ALL;
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn word(self) -> &'static str {
                self.word()
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }

        impl Serialize for $Name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> Deserialize<'de> for $Name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Reads(std::marker::PhantomData))
            }
        }
    )+};
}

words! {
    /// The things that `get` reads.
    pub enum Get {
        /// The statistics, whole.
        Stats = "stats",
        Ports = "ports",
        Tools = "tools",
        Groups = "groups",
        Rules = "rules",
        Wires = "wires",
        Lcores = "lcores",
        /// The latest events.
        Events = "events",
        /// The running plan: its text and what it came to.
        Plan = "plan",
        /// The receipt of the last reload.
        Reload = "reload",
        /// The commands of the language, with who may give them.
        Commands = "commands",
    }

    /// Why a request did not do what was asked.
    pub enum ErrorKind {
        /// It is wrong: the diagnostics say where.
        Refused = "refused",
        /// It is right, and failed.
        Failed = "failed",
        /// The caller's role is not enough.
        Forbidden = "forbidden",
        /// Part of it is settled when the broker starts.
        NeedsRestart = "needs_restart",
        /// Another change waits to be confirmed.
        ConfirmPending = "confirm_pending",
        /// Another token is being written, or too many programs are connected.
        Busy = "busy",
        /// It was given up before it took effect: somebody took it back, or the broker ends.
        Cancelled = "cancelled",
    }

    /// The role of somebody who asks something of a broker. Each may ask what those before it may.
    pub enum Role {
        /// Reads.
        Viewer = "viewer",
        /// Operates what is there.
        Operator = "operator",
        /// Changes the plan, and says who may do what.
        Admin = "admin",
    }

    /// The way by which a request came.
    pub enum Via {
        /// Standard input of the broker.
        Prompt = "prompt",
        /// The control socket.
        Socket = "socket",
        /// The web page or the HTTP interface.
        Web = "web",
        /// A signal, such as SIGHUP.
        Signal = "signal",
        /// The broker's own time.
        Timer = "timer",
        /// The command line that started the broker.
        CommandLine = "command-line",
    }

    /// The kinds of those who are granted a role.
    pub enum GranteeKind {
        /// A user of this machine.
        User = "user",
        /// All users of a group of this machine.
        Group = "group",
        /// Whoever shows a token.
        Token = "token",
        /// Whoever shows a client certificate of this name.
        Certificate = "cert",
    }

    /// Who may read by HTTP without signing in.
    pub enum Anonymous {
        /// Everybody, on loopback.
        On = "on",
        /// Everybody reads the metrics alone.
        Metrics = "metrics",
        /// Nobody.
        Off = "off",
    }

    /// The use of an audit log that cannot be written.
    pub enum AuditMode {
        /// Nothing is changed before its record is written.
        Required = "required",
        /// Changes go on, and the log says later how many records it lacks.
        BestEffort = "best-effort",
    }

    /// The kinds of things that have names. A rule's name is its priority.
    pub enum NameKind {
        Port = "port",
        Tool = "tool",
        Group = "group",
        Wire = "wire",
        Filter = "filter",
        Rule = "rule",
    }

    /// The tunnels that a port terminates: `terminate TUNNEL`.
    pub enum TunnelKind {
        /// VXLAN and VXLAN-GPE.
        Vxlan = "vxlan",
        Geneve = "geneve",
        /// GRE that carries Ethernet or IP; not ERSPAN.
        Gre = "gre",
        /// ERSPAN I, II and III.
        Erspan = "erspan",
        /// GTP-U.
        Gtp = "gtp",
        Tzsp = "tzsp",
        /// Frames in an RSPAN VLAN, whose tag is taken off.
        Rspan = "rspan",
    }

    /// Why a frame is not a packet of the tunnel that its port terminates; the later ones know more of it.
    pub enum Refusal {
        /// It is something else.
        OtherTraffic = "other_traffic",
        /// The tunnel ends at another address.
        OtherAddress = "other_address",
        /// The tunnel was sent from an address that is not among those asked for.
        OtherSender = "other_sender",
        /// The identifier is not among those asked for.
        OtherIdentifier = "other_identifier",
        /// A fragment of the tunnel's packet: the inner frame is not all here.
        Fragment = "fragment",
        /// Headers are cut or contradict each other, or carry neither Ethernet nor IP.
        Malformed = "malformed",
    }

    /// Why a copy did not get through a tunnel, as an ICMP error says that quotes it.
    pub enum IcmpReason {
        /// No route leads to the far end's network.
        NetworkUnreachable = "network_unreachable",
        /// The far end does not answer its last router.
        HostUnreachable = "host_unreachable",
        /// The far end takes no GRE.
        ProtocolUnreachable = "protocol_unreachable",
        /// The far end takes nothing on the tunnel's UDP port.
        PortUnreachable = "port_unreachable",
        /// The way carries shorter packets alone.
        TooBig = "too_big",
        /// A filter on the way forbids it.
        Prohibited = "prohibited",
        /// The time to live was used up, or fragments were missing.
        TimeExceeded = "time_exceeded",
        Other = "other",
    }

    /// The fields that make packets one flow: `hash KIND`.
    #[derive(Default)]
    pub enum HashKind {
        /// IP addresses.
        Ip = "ip",
        /// IP addresses and ports.
        IpPort = "ip-port",
        /// IP addresses, protocol and ports, the same for both directions.
        #[default]
        FiveTuple = "5-tuple",
        /// MAC addresses.
        Mac = "mac",
        /// VLAN id of the outermost tag; 0 where untagged.
        Vlan = "vlan",
        /// Virtual network id of VXLAN, GENEVE or NVGRE; without one as `FiveTuple`.
        Vni = "vni",
        /// Tunnel endpoint id of GTP-U; without one as `FiveTuple`.
        Teid = "teid",
        /// IP addresses, and ports of TCP and UDP, as NICs hash them with the symmetric key.
        Rss = "rss",
    }

    /// The behaviour of a group while fewer members than `min-up` are up: `below drop|spread`.
    #[derive(Default)]
    pub enum Below {
        /// Nobody gets anything, so that the members that are left are not overrun; counted as `down`.
        Drop = "drop",
        /// The members that are left get everything.
        #[default]
        Spread = "spread",
    }

    /// The fields that dedup does not compare: `ignore LIST`.
    pub enum DedupIgnore {
        Ttl = "ttl",
        Tos = "tos",
        Vlan = "vlan",
        Mac = "mac",
        TcpSeq = "tcp-seq",
    }

    /// The fate of a duplicate: `action ACTION`.
    #[derive(Default)]
    pub enum DedupAction {
        /// The rule does not take it.
        #[default]
        Drop = "drop",
        /// It is counted, and goes where its original went.
        Count = "count",
        /// The same, with a mark.
        Tag = "tag",
    }

    /// How much a copy matters, in the order in which a burst's copies are admitted: `class CLASS`.
    #[derive(Default)]
    pub enum Class {
        High = "high",
        #[default]
        Normal = "normal",
        Low = "low",
    }

    /// The header behind which an offset begins to count: `after ANCHOR`. Without one it counts from the first byte of the frame.
    pub enum Anchor {
        /// The outermost Ethernet header, its tags and labels.
        L2 = "l2",
        /// The outermost IP header with its options or extension headers, or an ARP packet.
        L3 = "l3",
        /// The outermost TCP, UDP, SCTP or ICMP header.
        L4 = "l4",
        /// As `L4`, of the innermost packet.
        InnerL4 = "inner-l4",
    }

    /// The fate of copies that are to be anonymised and cannot be read: `unread WORD`.
    #[derive(Default)]
    pub enum Unread {
        /// They are dropped, reason `unread`.
        #[default]
        Drop = "drop",
        /// They are counted alone, and leave with the addresses that were not found.
        Pass = "pass",
    }

    /// The label that is added to a tag's VLAN, so that a tool can tell copies apart: `tag vlan ID LABEL`.
    pub enum TagLabel {
        /// The source port's index.
        FromPort = "from-port",
        /// The number of the tunnel that the packet came in, where its port terminates tunnels.
        FromTunnel = "from-tunnel",
    }

    /// How a tool's copies say when they were received: `timestamp FORMAT`.
    #[derive(Default)]
    pub enum TimestampFormat {
        #[default]
        None = "none",
        /// Keysight (Ixia) trailer, 15 bytes: source of the time, seconds, nanoseconds, checksum.
        Ixia = "ixia",
        /// Metamako and Arista 7130 trailer, 16 bytes: the frame's FCS, seconds, nanoseconds, flags, device and port.
        Metamako = "metamako",
        /// VSS Monitoring trailer, 9 bytes: seconds, nanoseconds with the clock's source, port.
        Vss = "vss",
        /// Arista 7280 header behind the addresses, 14 bytes: ethertype 0xd28b, UTC seconds and nanoseconds; the frame's own type
        /// follows.
        Arista = "arista",
        /// Gigamon trailer, 24 bytes: original size, port, seconds, nanoseconds with the clock's source, checksum.
        Gigamon = "gigamon",
        /// In the ERSPAN III header: granularity IEEE 1588 and full seconds in subheader 5. The transport writes it.
        Erspan3 = "erspan3",
    }

    /// The fate of a copy that its tool's path cannot carry: `oversize WORD`.
    #[derive(Default)]
    pub enum Oversize {
        /// It is cut to what fits; the transport signals the truncation where it can, and the bytes cut are counted.
        Slice = "slice",
        /// It is dropped, reason `oversize`.
        #[default]
        Drop = "drop",
        /// The plan is refused when a full frame of a source port cannot fit; one that comes nevertheless is dropped, reason
        /// `oversize`.
        FragmentNever = "fragment-never",
    }

    /// How an RSPAN VLAN meets frames that carry a tag already.
    #[derive(Default)]
    pub enum RspanTag {
        /// It takes the place of the frame's outermost tag.
        Replace = "replace",
        /// It goes in front of the frame's own.
        #[default]
        Push = "push",
    }

    /// Which way a frame went through the port that it was copied at: `direction WORD`.
    #[derive(Default)]
    pub enum Direction {
        #[default]
        Ingress = "ingress",
        Egress = "egress",
    }

    /// The unit of ERSPAN III timestamps: `granularity UNIT`.
    #[derive(Default)]
    pub enum Granularity {
        #[default]
        HundredMicroseconds = "100us",
        HundredNanoseconds = "100ns",
        /// Nanoseconds of the second; the subheader `Seconds` adds the rest.
        Ieee1588 = "1588",
    }

    /// A wire's direction, from one of its ports to the other.
    pub enum WireDirection {
        AToB = "a-to-b",
        BToA = "b-to-a",
    }

    /// How well the clock behind a timestamp is disciplined. `set clock` takes those that name a reference.
    #[derive(Default)]
    pub enum ClockQuality {
        /// It runs freely.
        #[default]
        Free = "free",
        Ntp = "ntp",
        Gps = "gps",
        Ptp = "ptp",
        /// Its reference was lost and it coasts.
        Holdover = "holdover",
    }

    /// The source of packets' receive times.
    pub enum TimeSource {
        /// The NIC's clock.
        Nic = "nic",
        /// The capture that is replayed.
        File = "file",
        /// The kernel.
        Kernel = "kernel",
        /// Our clock at the poll that received them.
        Poll = "poll",
        /// Our clock where a work lcore takes them from a receive lcore's ring.
        Ring = "ring",
    }

    /// The subject of an alarm of a tool or a port.
    pub enum AlarmKind {
        /// The fill of its queues.
        Queue = "queue",
        /// The share of its rate, or of its link's speed.
        Utilisation = "utilisation",
        /// The copies that a tool drops.
        Drops = "drops",
        /// The packets that a port loses before they are received.
        Loss = "loss",
    }

    /// The state of a tunnel's next hop.
    pub enum NextHopState {
        /// Asked for, never answered.
        Resolving = "resolving",
        /// It answered.
        Up = "up",
        /// It did not answer; it is asked further.
        Down = "down",
    }

    /// Sizes of bursts that are told apart.
    pub enum BurstSize {
        One = "1",
        Two = "2-3",
        Four = "4-7",
        Eight = "8-15",
        Sixteen = "16-31",
        ThirtyTwo = "32-63",
        SixtyFour = "64",
    }

    /// The part of an lcore in the way of packets.
    pub enum LcoreRole {
        Receive = "receive",
        Work = "work",
        Transmit = "transmit",
    }

    /// The stage that a worker is in.
    pub enum Stage {
        /// Between turns, or waiting for work.
        Idle = "idle",
        /// In a driver's receive call.
        Receive = "receive",
        /// Packets are looked at and matched.
        Classify = "classify",
        /// Rules, samplers and groups choose tools.
        Route = "route",
        /// Copies are queued and handed to drivers.
        Egress = "egress",
        /// Packets that waited are handed to drivers.
        Flush = "flush",
    }

    /// The fate of a received packet. Every packet ends with exactly one.
    pub enum Disposition {
        /// At least one copy of it was requested.
        Delivered = "delivered",
        /// No rule took it.
        Unmatched = "unmatched",
        /// A `drop` rule took it before any tool was chosen.
        Excluded = "excluded",
        /// Rules took it, but their samplers passed it over.
        SampledOut = "sampled_out",
        /// A copy of it was seen a moment before.
        Duplicate = "duplicate",
        /// Tapline could not judge it.
        Failed = "failed",
    }

    /// Why a copy was not sent.
    pub enum DropReason {
        /// The tool's queue was full, or the tool had not taken the copy when the drain ended.
        Congested = "congested",
        /// The tool was down.
        Down = "down",
        /// The copy did not fit the tool's MTU.
        Oversize = "oversize",
        /// No mbuf was free for an edited copy.
        NoBuffer = "no_buffer",
        /// The tool's rate was used up.
        RateLimited = "rate_limited",
        /// The copy had no whole Ethernet header, and the tool's port is a kernel interface, which takes none such; or no byte, and
        /// it is net_memif.
        Undersize = "undersize",
        /// The copy was to be anonymised, and has a layer that could hold addresses and is not read.
        Unread = "unread",
        /// The worker panicked before the tool's queue had the copy: a fault of Tapline.
        Internal = "internal",
        /// The disk of a store was behind, and all chunks for it were full.
        DiskSlow = "disk_slow",
        /// The disk of a store had no space, and no segment was left to delete.
        NoSpace = "no_space",
        /// A store could not be written.
        WriteError = "write_error",
    }

    /// Why a segment of a store was deleted.
    pub enum Expiry {
        /// The folder would hold more than `keep`.
        Keep = "keep",
        /// It was older than `age`.
        Age = "age",
        /// Less than `free` of the file system would be left.
        Free = "free",
        /// The file system had no space left.
        NoSpace = "no_space",
    }

    /// The state of a tool: whether it gets copies.
    pub enum ToolState {
        Up = "up",
        /// On its way out by command: it still sends what it holds, and gets no flow anew.
        Draining = "draining",
        /// Out by command, and empty.
        Drained = "drained",
        Down = "down",
    }

    /// Why a tool's state changed.
    pub enum Reason {
        /// The port has no link, or is gone.
        LinkDown = "link_down",
        /// The file could not be written.
        WriteError = "write_error",
        /// The port accepts no packets though some are waiting.
        Stalled = "stalled",
        /// No answer by ARP or ND for the next hop.
        Unresolved = "unresolved",
        /// ICMP echoes to the tunnel's far end are not answered.
        EchoLost = "echo_lost",
        /// Heartbeat frames do not come back through the tool.
        HeartbeatLost = "heartbeat_lost",
        /// It failed too often; held down until it is calm.
        Flapping = "flapping",
        /// `tool drain`.
        Drain = "drain",
        /// The last packet of a draining tool is sent.
        Emptied = "emptied",
        /// `tool enable`.
        Enable = "enable",
        /// All checks have been good for long enough.
        Recovered = "recovered",
    }

    /// How much an event matters.
    pub enum Level {
        /// Something failed, and the run with it, or packets are lost that need not be.
        Error = "error",
        /// Something is not as it should be.
        Warning = "warning",
        /// Something changed that is worth knowing.
        Notice = "notice",
        Info = "info",
        Debug = "debug",
    }

    /// Why a run ended before a replay's file did.
    pub enum Unfinished {
        /// Somebody ended the run.
        Asked = "asked",
        /// The time was up.
        TimeUp = "time_up",
        /// The next packet found no mbuf for as long as an idle run may last.
        Starved = "starved",
        /// The next packet is due later than an idle run may last.
        Early = "early",
        /// No packet came for as long as an idle run may last.
        Idle = "idle",
    }

    /// A port's state.
    pub enum LinkState {
        Up = "up",
        Down = "down",
        /// The device, or the kernel's interface behind it, was taken away.
        Gone = "gone",
    }

    /// The way on where a port's device is gone.
    pub enum WhenGone {
        /// The run ends, and has failed.
        End = "end",
        /// The run goes on, and takes the device back once it is there again.
        Wait = "wait",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for reason in DropReason::ALL {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{reason}\""));
            assert_eq!(serde_json::from_str::<DropReason>(&json).unwrap(), reason);
        }
        let unknown = serde_json::from_str::<Class>("\"urgent\"").unwrap_err().to_string();
        assert_eq!(
            unknown,
            "unknown variant `urgent`, expected one of `high`, `normal`, `low` at line 1 column 8"
        );
    }

    #[test]
    fn every_disposition_and_every_reason_has_its_row_in_the_reference() {
        let reference = include_str!("../../../docs/reference/statistics.md");
        for word in Disposition::WORDS.iter().chain(DropReason::WORDS) {
            let rows = reference.lines().filter(|line| line.starts_with(&format!("| `{word}` | "))).count();
            assert_eq!(rows, 1, "{word}");
        }
        // the example shows all reasons, for a tool and for all copies
        let shown = DropReason::ALL.map(|reason| format!("\"{reason}\": 0")).join(", ");
        assert_eq!(reference.matches(&format!("\"dropped\": {{ {shown} }}")).count(), 2);
    }

    #[test]
    fn no_word_stands_for_two_values() {
        fn check<T: Vocabulary>() {
            let words: HashSet<_> = T::VALUES.iter().map(|value| value.word()).collect();
            assert_eq!(words.len(), T::VALUES.len());
            assert!(T::VALUES.iter().map(|value| value.word()).eq(T::WORDS.iter().copied()));
            assert!(T::VALUES.iter().all(|value| T::of_word(value.word()) == Some(*value)));
        }
        check::<NameKind>();
        check::<TunnelKind>();
        check::<Refusal>();
        check::<HashKind>();
        check::<DedupIgnore>();
        check::<TimestampFormat>();
        check::<Disposition>();
        check::<DropReason>();
        check::<Reason>();
    }
}
