//! The statistics, `tapline.stats/1`: all counters of a broker at one moment, by the names of the pipeline file.
//!
//! Numbers are of the time since the start, or since `clear stats`; those of `recent` are of the interval before the snapshot. Times are
//! seconds since the Unix epoch.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::by_name::{ByName, counts};
use super::words::{
    AlarmKind, BurstSize, Class, ClockQuality, Disposition, DropReason, IcmpReason, LcoreRole, LinkState,
    NextHopState, Reason, Refusal, Stage, TimeSource, ToolState, TunnelKind,
};

/// The name and version of the form.
pub const SCHEMA: &str = "tapline.stats/1";

/// Everything that is shown of a running broker at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub schema: Cow<'static, str>,
    pub time: f64,
    pub uptime_s: f64,
    pub ports: ByName<PortEntry>,
    /// The rules, by priority.
    pub rules: ByName<RuleEntry>,
    pub tools: ByName<ToolEntry>,
    pub wires: ByName<WireEntry>,
    pub groups: ByName<GroupEntry>,
    /// The dedup of each rule that looks for duplicates, by priority.
    pub dedup: ByName<DedupEntry>,
    /// The lcores, by number.
    pub lcores: ByName<LcoreEntry>,
    pub packets: Packets,
    pub copies: Copies,
    /// This is what of those is of ports, tools and groups that the plan has no more; absent while there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departed: Option<Departed>,
    /// Devices of ports that were detached, which their buses could not take out of DPDK.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_devices: Vec<KeptDevice>,
    pub latency_ns: Latency,
    /// The engine that runs the filters: `native`, or `interpreter` and why.
    pub filter_engine: String,
    /// The latest changes of states, oldest first.
    pub events: Vec<EventEntry>,
    /// The most packets and copies that could be on their way when this was read; none at the end of a run.
    pub in_flight_limit: InFlightLimit,
    /// The rates over all ports and tools.
    #[serde(default)]
    pub recent: RecentTotals,
    /// Both identities of the ledger hold, but for what can be on its way.
    pub balanced: bool,
}

/// The rates of the whole broker over the interval before the snapshot.
#[derive(Clone, Copy, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct RecentTotals {
    /// How long the interval was; 0 where none has passed.
    pub interval_s: f64,
    /// Packets that were received.
    pub packets_per_s: f64,
    pub bytes_per_s: f64,
    /// Packets that ports lost before Tapline received them.
    pub lost_per_s: f64,
    /// Copies that were sent.
    pub copies_per_s: f64,
    /// Copies that were dropped.
    pub drops_per_s: f64,
}

/// The rates of one object over the interval before the snapshot.
#[derive(Clone, Copy, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Recent {
    pub packets_per_s: f64,
    /// Absent where bytes are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<f64>,
    /// Absent where nothing can be dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops_per_s: Option<f64>,
    /// The most that waited in one worker's queue during the interval; absent where there is no queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_peak: Option<u64>,
}

/// The most that can be on its way at one moment: bursts in workers' hands, and what rings and queues hold.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InFlightLimit {
    /// Packets that were received and have no disposition yet.
    pub packets: u64,
    /// Copies of all tools that were requested, and neither sent nor dropped yet.
    pub copies: u64,
}

/// This is what was counted of ports, tools and groups that were taken out of the running plan. `packets` and `copies` hold it, too.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Departed {
    /// Packets of ports that were detached.
    pub received: u64,
    /// Copies of tools that were destroyed, and of groups those that no member got.
    pub copies: Copies,
}

/// Packets by disposition: `received` is the sum of the others when nothing is on its way.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Packets {
    pub received: u64,
    pub delivered: u64,
    pub unmatched: u64,
    pub excluded: u64,
    pub sampled_out: u64,
    pub duplicate: u64,
    pub failed: u64,
}

impl Packets {
    /// Gives each disposition's word and count, in the order of the account.
    pub fn ends(&self) -> [(&'static str, u64); 6] {
        let Self { received: _, delivered, unmatched, excluded, sampled_out, duplicate, failed } = *self;
        [
            (Disposition::Delivered.word(), delivered),
            (Disposition::Unmatched.word(), unmatched),
            (Disposition::Excluded.word(), excluded),
            (Disposition::SampledOut.word(), sampled_out),
            (Disposition::Duplicate.word(), duplicate),
            (Disposition::Failed.word(), failed),
        ]
    }

    /// Returns how many packets have a disposition.
    pub fn ended(&self) -> u64 {
        self.ends().iter().map(|(_, count)| count).sum()
    }

    /// Returns whether every packet has a disposition.
    pub fn is_balanced(&self) -> bool {
        self.received == self.ended()
    }
}

/// Copies by end: `requested = sent + dropped` when nothing is on its way.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Copies {
    pub requested: u64,
    pub sent: u64,
    pub dropped: Dropped,
}

impl Copies {
    /// Returns how many copies were sent or dropped.
    pub fn ended(&self) -> u64 {
        self.sent + self.dropped.total()
    }

    /// Returns whether every copy came to an end.
    pub fn is_balanced(&self) -> bool {
        self.requested == self.ended()
    }

    /// Returns what was counted since `earlier`.
    pub fn since(&self, earlier: &Copies) -> Copies {
        Copies {
            requested: self.requested.saturating_sub(earlier.requested),
            sent: self.sent - earlier.sent,
            dropped: Dropped(std::array::from_fn(|reason| {
                self.dropped.0[reason] - earlier.dropped.0[reason]
            })),
        }
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Copies) {
        self.requested += other.requested;
        self.sent += other.sent;
        for (sum, count) in self.dropped.0.iter_mut().zip(other.dropped.0) {
            *sum += count;
        }
    }
}

/// Copies that were not sent, by reason.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Dropped(pub [u64; DropReason::ALL.len()]);

counts!(Dropped by DropReason);

impl Dropped {
    /// Returns how many were dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Returns `count` copies dropped for `reason`.
    pub fn of(reason: DropReason, count: u64) -> Self {
        let mut dropped = Self::default();
        dropped.0[reason as usize] = count;
        dropped
    }

    /// Gives each reason's word, and how many were dropped for it.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        DropReason::ALL.into_iter().map(DropReason::word).zip(self.0)
    }

    /// Returns how many were dropped.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Time from receive to transmit, in nanoseconds, of the packets that were sampled; null where none was.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub p50: Option<u64>,
    pub p99: Option<u64>,
    pub p999: Option<u64>,
    pub max: Option<u64>,
    /// How many values these are of.
    pub samples: u64,
}

/// A device that is closed, and cannot be attached before the next start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptDevice {
    /// The name of the port that it was.
    pub port: String,
    pub device: String,
    pub error: String,
}

/// A port: what it received, its link, what its driver counts, its replay and the tunnels that end at it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PortEntry {
    /// Packets that the driver handed over, without Tapline's own heartbeats.
    pub received: u64,
    pub received_bytes: u64,
    /// Received packets that no work lcore had room for: they failed.
    pub congested: u64,
    /// Received packets that the plan looked into to their innermost layer, and that have one which could hold addresses and is not
    /// read.
    pub unparsed: u64,
    /// Heartbeats of tools that returned, if some return by the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeats: Option<u64>,
    /// Frames that the driver cut, if it may cut them without counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<u64>,
    pub device: String,
    pub driver_name: String,
    /// It was stopped: nothing is received or sent by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// The reason why the port has no device, where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    pub link_up: bool,
    /// The device is gone, for now or for good.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gone: bool,
    pub speed_mbps: Option<u32>,
    /// The MTU of a kernel interface, which frames that it is to send are judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    pub driver: DriverStats,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayState>,
    pub clock: ClockState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate: Option<TerminateState>,
    /// The answers for the addresses that the port has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswerState>,
    /// The alarms that are raised.
    #[serde(default)]
    pub alarms: Vec<AlarmKind>,
    #[serde(default)]
    pub recent: Recent,
}

impl PortEntry {
    /// Returns how many packets were lost before Tapline received them. A replay's packets wait for mbufs, and none is lost.
    pub fn lost(&self) -> u64 {
        let no_mbuf = if self.replay.is_some() { 0 } else { self.driver.no_mbuf };
        self.driver.missed + self.driver.rx_errors + no_mbuf
    }
}

/// The answers that a port gave for its own addresses: none of them is a copy.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnswerState {
    /// ARP requests that were answered.
    pub arp: u64,
    /// Neighbour solicitations that were answered.
    pub nd: u64,
    /// Pings that were answered.
    pub echo: u64,
    /// Announcements that were sent unasked.
    pub announced: u64,
    /// Pings in fragments, which are not answered.
    pub fragment: u64,
    /// Solicitations and pings that are not right, such as by their checksum.
    pub malformed: u64,
    /// Requests that were too many to answer, and other frames that found no room beside them.
    pub limited: u64,
    /// Frames by which somebody else said that one of the addresses is theirs.
    #[serde(default)]
    pub claimed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The counters of the driver and the NIC.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DriverStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// Packets that the NIC, or the kernel, dropped because no descriptor, or place in a ring, was free.
    pub missed: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    /// Packets that could not be received for want of mbufs.
    pub no_mbuf: u64,
}

impl DriverStats {
    /// Returns what was counted since `earlier`; 0 where the driver has begun anew in between.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            rx_packets: self.rx_packets.saturating_sub(earlier.rx_packets),
            tx_packets: self.tx_packets.saturating_sub(earlier.tx_packets),
            rx_bytes: self.rx_bytes.saturating_sub(earlier.rx_bytes),
            tx_bytes: self.tx_bytes.saturating_sub(earlier.tx_bytes),
            missed: self.missed.saturating_sub(earlier.missed),
            rx_errors: self.rx_errors.saturating_sub(earlier.rx_errors),
            tx_errors: self.tx_errors.saturating_sub(earlier.tx_errors),
            no_mbuf: self.no_mbuf.saturating_sub(earlier.no_mbuf),
        }
    }

    /// Returns the sum with what another driver counted.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            rx_packets: self.rx_packets + other.rx_packets,
            tx_packets: self.tx_packets + other.tx_packets,
            rx_bytes: self.rx_bytes + other.rx_bytes,
            tx_bytes: self.tx_bytes + other.tx_bytes,
            missed: self.missed + other.missed,
            rx_errors: self.rx_errors + other.rx_errors,
            tx_errors: self.tx_errors + other.tx_errors,
            no_mbuf: self.no_mbuf + other.no_mbuf,
        }
    }
}

/// How far a replay has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplayState {
    /// No more packets will come.
    pub ended: bool,
    /// Passes through the file that came to its end.
    pub passes: u64,
    /// Packets of the file that no Ethernet frames are made of, of all passes.
    pub passed_over: u64,
    /// Bytes of the file that were read, of all passes.
    #[serde(default)]
    pub read_bytes: u64,
    /// Bytes that all passes have; null where there is no end of them.
    #[serde(default)]
    pub all_bytes: Option<u64>,
    /// Why the file could not be read to its end.
    pub error: Option<String>,
}

/// The source of the receive times of a port's packets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClockState {
    /// `nic`, `file`, `kernel` or `poll`.
    pub source: TimeSource,
    /// The moment at which the latency of the port's packets begins: `nic` or `kernel`, at such a time; `poll`, at the poll;
    /// `ring`, when a work lcore takes them.
    pub latency_from: TimeSource,
    /// How the clock behind it is disciplined.
    pub quality: ClockQuality,
    /// The counter is not fitted to the system's clock yet, or not any more.
    pub degraded: bool,
    /// Real time at tick 0, of the counter that is fitted: the NIC's, or the time-stamp counter.
    pub offset_ns: Option<i64>,
    pub ns_per_tick: Option<f64>,
    /// How far times may be from the system's, now: more than at the last reading.
    pub error_ns: Option<u64>,
    pub readings: u64,
    pub rejected: u64,
    pub steps: u64,
}

/// The fate of the frames that a port received in tunnels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TerminateState {
    /// Frames whose inside became the packet.
    pub terminated: u64,
    /// Terminated packets with the time that the tunnel's header says.
    pub timed: u64,
    /// Frames that rules did not see, by reason.
    pub refused: Refusals,
    pub sessions: Vec<SessionEntry>,
    /// Packets of sessions that were too many to follow.
    pub untracked: u64,
}

/// Frames that were of none of a port's tunnels, by reason.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Refusals(pub [u64; Refusal::ALL.len()]);

counts!(Refusals by Refusal);

/// ICMP errors about a tool's copies, by reason.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct IcmpErrors(pub [u64; IcmpReason::ALL.len()]);

counts!(IcmpErrors by IcmpReason);

impl IcmpErrors {
    /// Returns how many came.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// A sender's session, by its sequence numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionEntry {
    pub tunnel: TunnelKind,
    pub source: IpAddr,
    /// ERSPAN session or GRE key.
    pub session: u32,
    #[serde(flatten)]
    pub counts: SequenceCounts,
}

/// The fate of a session's copies on their way here.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct SequenceCounts {
    pub received: u64,
    /// Numbers that were skipped and did not come later: lost upstream.
    pub lost: u64,
    /// Came after a higher number.
    pub reordered: u64,
    /// Came again.
    pub duplicate: u64,
    /// Came so late that nothing is known of its number.
    pub late: u64,
    /// The sender began anew.
    pub restarts: u64,
}

/// A rule: what it matched, and whether it takes packets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuleEntry {
    /// Packets that reached the rule and matched it.
    pub matched: u64,
    /// Matched packets that were seen a moment before.
    pub duplicates: u64,
    /// Matched packets that its sampler passed over.
    pub sampled_out: u64,
    /// Copies that were to be anonymised and have a layer that could hold addresses and is not read.
    pub unread: u64,
    /// The share that the rule's sampler keeps at the moment, above 0 to 1, by which exporters divide counts; null if the rule has
    /// none.
    pub sample_share: Option<f64>,
    /// The sampler's memory of flows, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<FlowCounters>,
    #[serde(flatten)]
    pub activity: RuleActivity,
    #[serde(default)]
    pub recent: Recent,
}

/// The counters of a table of flows. `begun = over + evicted + occupied slots`, always.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct FlowCounters {
    /// Flows that got a slot.
    pub begun: u64,
    /// Flows whose slot was used again after they had timed out.
    pub over: u64,
    /// Flows that lost their slot while they were alive.
    pub evicted: u64,
}

/// Says whether a rule takes packets.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct RuleActivity {
    pub on: bool,
    /// When its schedule turns it on or off next; null if never.
    pub next_change: Option<f64>,
    /// Packets that its `limit` still allows.
    pub limit_remaining: Option<u64>,
}

/// Buckets of gaps between a packet and its duplicate. The last bucket begins at 2^22 µs, about 4 s.
pub const GAP_BUCKETS: usize = 24;

/// The findings of a rule's dedup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DedupEntry {
    /// Packets that were compared.
    pub packets: u64,
    pub duplicates: u64,
    /// Packets forgotten within the window for want of room; their duplicates passed.
    pub forgotten: u64,
    /// Pairs of ports that had duplicates.
    pub pairs: Vec<PairEntry>,
}

/// Duplicates of packets of one port that came by another, or the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PairEntry {
    pub first: String,
    pub duplicate: String,
    pub duplicates: u64,
    pub most_gap_ns: u64,
    /// Gaps below 1 µs, below 2 µs, below 4 µs and so on, the last one all above.
    pub gaps: [u64; GAP_BUCKETS],
}

/// A tool: its copies, its queue, its health, its next hop and its probes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ToolEntry {
    #[serde(flatten)]
    pub copies: Copies,
    pub sent_bytes: u64,
    /// Bytes that copies lost to the MTU of the tool's path (`oversize slice`).
    pub cut_bytes: u64,
    /// The dropped copies that the queue refused, by class.
    pub refused: Refused,
    /// Copies that came behind later ones, beyond the window, if the tool has `order`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<u64>,
    pub queue_depth: u64,
    pub queue_peak: u64,
    pub latency_ns: Latency,
    /// The alarms that are raised.
    pub alarms: Vec<AlarmKind>,
    #[serde(flatten)]
    pub health: ToolHealth,
    /// The next hop of a tunnel that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHopEntry>,
    /// The probes of a tool that has `heartbeat`, or `echo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<ProbeEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<ProbeEntry>,
    /// The folder of a capture tool that rotates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreEntry>,
    /// The ICMP errors about the copies of a tunnel whose port receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_errors: Option<IcmpErrors>,
    #[serde(default)]
    pub recent: Recent,
}

/// The folder of a store.
#[derive(Clone, Copy, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct StoreEntry {
    /// Segments that are whole.
    pub segments: u64,
    /// Bytes of all that the folder holds, the segment that is written included.
    pub bytes: u64,
    /// The time of the first packet of the oldest segment, in seconds since the Unix epoch; `null` where there is no segment.
    pub oldest: Option<f64>,
    /// Segments that were begun in this run.
    pub begun: u64,
    /// Segments that were deleted in this run, and their bytes.
    pub expired: u64,
    pub expired_bytes: u64,
    /// Nothing can be written at the moment.
    pub failing: bool,
}

/// Copies that a tool's queue refused, by class: all reasons are counted, those that a queue has are shown.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Refused(pub [Dropped; Class::ALL.len()]);

/// The reasons for which a queue refuses copies.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct QueueReasons {
    congested: u64,
    rate_limited: u64,
}

impl From<&Dropped> for QueueReasons {
    fn from(dropped: &Dropped) -> Self {
        Self {
            congested: dropped.get(DropReason::Congested),
            rate_limited: dropped.get(DropReason::RateLimited),
        }
    }
}

impl Serialize for Refused {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Class::ALL.iter().zip(self.0.iter().map(QueueReasons::from)))
    }
}

impl<'de> Deserialize<'de> for Refused {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let classes = std::collections::BTreeMap::<Class, QueueReasons>::deserialize(deserializer)?;
        let mut refused = Self::default();
        for (class, reasons) in classes {
            refused.0[class as usize].0[DropReason::Congested as usize] = reasons.congested;
            refused.0[class as usize].0[DropReason::RateLimited as usize] = reasons.rate_limited;
        }
        Ok(refused)
    }
}

/// Says whether a tool gets copies.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ToolHealth {
    pub state: ToolState,
    /// The reason of the last change of state.
    pub reason: Option<Reason>,
    pub since: f64,
}

/// The fate of a tool's probes: `sent = returned + lost + waiting`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProbeEntry {
    pub sent: u64,
    /// In time.
    pub returned: u64,
    pub lost: u64,
    pub waiting: u64,
    /// Answers to what was answered, or lost, before.
    pub late: u64,
}

/// Whom a tunnel's frames are addressed to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NextHopEntry {
    pub address: String,
    /// Null until it answered.
    pub mac: Option<String>,
    pub state: NextHopState,
    /// ARP requests and neighbour solicitations sent.
    pub requests: u64,
    /// How often it stopped answering.
    pub losses: u64,
    /// How often its MAC address became another one.
    #[serde(default)]
    pub moves: u64,
    /// Requests sent to one neighbour alone because somebody claimed the address.
    #[serde(default)]
    pub probes: u64,
    /// How often two were found to have the address.
    #[serde(default)]
    pub conflicts: u64,
    /// Frames about the address that changed nothing.
    #[serde(default)]
    pub ignored: u64,
    /// The other MAC address that answers for the address, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
}

/// A wire: what each of its directions took and sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireEntry {
    pub a: String,
    pub b: String,
    pub a_to_b: WayEntry,
    pub b_to_a: WayEntry,
}

/// One direction of a wire: `received = forwarded + dropped`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WayEntry {
    pub received: u64,
    pub forwarded: u64,
    pub forwarded_bytes: u64,
    pub dropped: Dropped,
    pub queue_depth: u64,
    pub queue_peak: u64,
    pub latency_ns: Latency,
    #[serde(default)]
    pub recent: Recent,
}

/// A group: its members' buckets and its copies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupEntry {
    /// Buckets of the group's table that each member has.
    pub buckets: ByName<usize>,
    /// Since the start.
    pub buckets_moved: u64,
    /// Buckets that wait to be idle before they go where they belong.
    pub buckets_pending: usize,
    /// Flows of the last half minute to minute, about.
    pub flows: u64,
    /// Flows whose bucket moved, since the start, about.
    pub flows_moved: u64,
    /// Copies that rules asked of the group, and of those the ones that a member is to get.
    pub requested: u64,
    pub assigned: u64,
    /// Copies that no member got; those of the discard share count as sent.
    pub unassigned: Copies,
    #[serde(default)]
    pub recent: Recent,
}

/// One lcore's use of its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LcoreEntry {
    /// The parts that it has in the way of packets.
    pub stages: Vec<LcoreRole>,
    pub received: u64,
    #[serde(default)]
    pub received_bytes: u64,
    /// Packets that receive lcores handed over.
    pub from_rings: u64,
    pub turns: u64,
    pub idle_turns: u64,
    pub polls: u64,
    pub empty_polls: u64,
    /// Share of the interval in which there was something to do, 0 to 1.
    pub busy: f64,
    /// The time in which there was something to do, and all time, since the start.
    #[serde(default)]
    pub busy_ns: u64,
    #[serde(default)]
    pub total_ns: u64,
    pub sleeps: u64,
    /// Bursts by size.
    pub bursts: BurstSizes,
    /// The stage that the worker is in.
    pub stage: Stage,
    pub is_stalled: bool,
    /// How often the worker did not finish a turn in time.
    pub stalls: u64,
    /// How often that was because it got no CPU.
    #[serde(default)]
    pub starvations: u64,
    /// Panics that the worker went on after.
    pub panics: u64,
    /// With `--profile`: ticks of the time-stamp counter a packet, by stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycles_per_packet: Option<StageCycles>,
    #[serde(default)]
    pub recent: Recent,
}

/// Bursts of 1, 2-3, 4-7, … 64 packets.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct BurstSizes(pub [u64; BurstSize::ALL.len()]);

counts!(BurstSizes by BurstSize);

/// Cycles a packet from receive to egress, of the bursts that were timed.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct StageCycles {
    pub receive: f64,
    pub classify: f64,
    pub route: f64,
    pub egress: f64,
    /// Packets that these are of.
    pub packets: u64,
}

/// A change of state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EventEntry {
    pub time: f64,
    #[serde(flatten)]
    pub change: Change,
}

/// A change of state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Change {
    Tool { tool: String, from: ToolState, to: ToolState, reason: Reason },
    Port { port: String, from: LinkState, to: LinkState },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_copies_are_named_by_reason() {
        let dropped = Dropped::of(DropReason::NoBuffer, 7);
        let json = serde_json::to_string(&dropped).expect("plain numbers");
        assert_eq!(
            json,
            r#"{"congested":0,"down":0,"oversize":0,"no_buffer":7,"rate_limited":0,"undersize":0,"unread":0,"internal":0,"disk_slow":0,"no_space":0,"write_error":0}"#
        );
        assert_eq!(serde_json::from_str::<Dropped>(&json).expect("what it wrote"), dropped);
        assert!(serde_json::from_str::<Dropped>(r#"{"stolen":1}"#).is_err());
    }

    #[test]
    fn a_change_says_of_what_it_is() {
        for (change, json) in [
            (
                Change::Port { port: "p".into(), from: LinkState::Up, to: LinkState::Gone },
                r#"{"time":1.5,"port":"p","from":"up","to":"gone"}"#,
            ),
            (
                Change::Tool {
                    tool: "t".into(),
                    from: ToolState::Up,
                    to: ToolState::Down,
                    reason: Reason::LinkDown,
                },
                r#"{"time":1.5,"tool":"t","from":"up","to":"down","reason":"link_down"}"#,
            ),
        ] {
            let event = EventEntry { time: 1.5, change };
            assert_eq!(serde_json::to_string(&event).expect("plain values"), json);
            assert_eq!(serde_json::from_str::<EventEntry>(json).expect("what it wrote"), event);
        }
    }
}
