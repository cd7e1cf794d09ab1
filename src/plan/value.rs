//! The plan: everything that lcores need to know, validated, immutable, indexed by ids.
//!
//! Spans end here and ids begin: what a `Plan` says is right, so nothing that reads it reports mistakes of the user.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::access::{AuditPlan, GrantPlan};
use super::schedule::Schedule;
use crate::health::probe::ProbeTiming;
use crate::health::tool::HealthSpec;
use tapline_api::words::{Class, ClockQuality, DedupAction, TimestampFormat, Unread, WhenGone};
use tapline_datapath::classify::Matcher;
use tapline_datapath::copies::edit::anonymize::Key;
use tapline_datapath::copies::timestamp::Timestamp;
use tapline_datapath::copies::transport::{PathRoom, Transport};
use tapline_datapath::egress::admission::{QueueLimits, Thresholds};
use tapline_datapath::egress::token_bucket::BucketSpec;
use tapline_datapath::egresses::{Egress, Egresses, Side};
use tapline_datapath::flow::table::Timeouts;
use tapline_datapath::ids::{EditId, GroupId, HashId, PortId, RuleId, ToolId, WireId};
use tapline_datapath::receive::tunnel_match::Terminator;
use tapline_datapath::route::balance::Returns;
use tapline_datapath::route::dedup::{Dedup, DedupSpec, Ignore};
use tapline_datapath::route::sample::SampleSpec;
use tapline_datapath::work_plan::{Idle, ReplayPlan, Target, Verdict, WorkPlan};
use tapline_dpdk::driver::Devargs;
use tapline_filter::Engine;
use tapline_lang::ast::Show;
use tapline_packet::by_id::ById;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::vlan::VlanTag;
use tapline_packet::layers::Depth;

/// A pipeline file, checked and ready to run.
#[derive(Default, PartialEq)]
pub struct Plan {
    pub settings: Settings,
    pub ports: ById<PortId, PortPlan>,
    pub tools: ById<ToolId, ToolPlan>,
    pub wires: ById<WireId, WirePlan>,
    pub groups: ById<GroupId, GroupPlan>,
    /// Those with names, in the order in which they were created; rules have their own.
    pub filters: Vec<FilterPlan>,
    /// Ascending by priority.
    pub rules: ById<RuleId, RulePlan>,
    /// Who may do what, in the order in which it was granted.
    pub access: Vec<GrantPlan>,
    /// All that workers are told.
    pub work: Arc<WorkPlan>,
    /// The actions that the file asks for once everything is set up, in its order.
    pub actions: Vec<Action>,
    /// The key of `anonymize ip` without a key file, if some edits have it.
    pub random_key: Option<Key>,
    /// Some tool asks for the packets' own times, or its copies say them.
    pub tools_want_stamps: bool,
    /// All files that commands and the command line name, to be read or written, as they name them.
    pub files: Arc<HashSet<PathBuf>>,
}

/// The uses that tools, wires and rules make of a port, gathered from all of them (`Plan::note_uses`).
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PortUse {
    /// The tools that send on it, ascending.
    pub tools: Vec<ToolId>,
    /// The wire that it is a side of, and which.
    pub wire: Option<(WireId, Side)>,
    /// Some rule takes from it.
    pub is_taken_from: bool,
    /// Tunnels leave by it.
    pub is_tunnel_port: bool,
    /// Heartbeats of tools leave by it.
    pub sends_heartbeats: bool,
    /// Heartbeats of tools return by it.
    pub returns_heartbeats: bool,
    /// A tunnel's next hop or far end answers there.
    pub is_answered: bool,
    /// The addresses at which its tunnels end, as far as Tapline answers for them.
    pub ends: Vec<IpAddr>,
    /// The shortest window of the tools that put its packets in order.
    pub order_ns: Option<u64>,
}

impl PortUse {
    /// Returns whether a tool sends on it, or a wire.
    pub fn is_sent_to(&self) -> bool {
        !self.tools.is_empty() || self.wire.is_some()
    }
}

/// The uses that rules make of a tool, gathered from all rules and groups (`Plan::note_uses`).
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ToolUse {
    /// The ports whose packets rules may send to it, ascending.
    pub sources: Vec<PortId>,
    /// Some of its copies are not the packets themselves.
    pub has_made_copies: bool,
}

/// `filter create NAME …`: what `show filters` says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterPlan {
    pub name: String,
    pub words: String,
}

/// `set KEY VALUE`.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Most packets received in one poll, 1..=64.
    pub burst: usize,
    /// Lcores that take part, in whatever stage; `None`: `workers` of them, chosen at start.
    pub lcores: Option<Vec<u32>>,
    /// Lcores to choose where `lcores` does not name them, at least 1.
    pub workers: usize,
    /// Which of them does what; `None`: each runs to completion.
    pub stages: Option<Stages>,
    /// Mbufs for each port and socket; `None`: from the ports' descriptors and the workers.
    pub mempool: Option<u32>,
    pub idle: Idle,
    /// EAL arguments of the pipeline file.
    pub eal: Vec<String>,
    /// Seeds the flow hash.
    pub seed: u64,
    /// The reference that the system's clock follows, if the kernel says that the clock is kept.
    pub clock: ClockQuality,
    /// Flows that all stateful rules remember, in all workers together.
    pub flows: usize,
    pub timeouts: Timeouts,
    /// Types that announce VLAN tags beside the built-in ones.
    pub tpids: Vec<u16>,
    /// The folder that gets the frames of bursts in which a stage panicked; `None`: they are not written.
    pub panic_dump: Option<PathBuf>,
    /// The log of changes; `None`: there is none.
    pub audit: Option<AuditPlan>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            burst: 64,
            lcores: None,
            workers: 1,
            stages: None,
            mempool: None,
            idle: Idle::Poll,
            eal: Vec::new(),
            seed: 0,
            clock: ClockQuality::Ntp,
            flows: 1 << 20,
            timeouts: Timeouts::DEFAULT,
            tpids: Vec::new(),
            panic_dump: None,
            audit: None,
        }
    }
}

/// Lcores by what they do with packets. No list is empty; an lcore may be in several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stages {
    /// Poll ports, and hand what comes to those that work.
    pub receive: Vec<u32>,
    /// Judge packets, and make copies.
    pub work: Vec<u32>,
    /// Send copies.
    pub transmit: Vec<u32>,
}

impl Stages {
    /// Returns whether some lcores poll ports for others to work.
    pub fn are_spread(&self) -> bool {
        self.receive != self.work
    }

    /// All lcores, each once.
    pub fn lcores(&self) -> Vec<u32> {
        let mut lcores: Vec<u32> = Vec::new();
        for &lcore in self.receive.iter().chain(&self.work).chain(&self.transmit) {
            if !lcores.contains(&lcore) {
                lcores.push(lcore);
            }
        }
        lcores
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct PortPlan {
    pub name: String,
    pub devargs: Devargs,
    /// Receive queues; `None`: one for each worker where the driver spreads packets over queues, else one.
    pub rxq: Option<u16>,
    /// Transmit queues; `None`: one for each worker, as far as the driver has them.
    pub txq: Option<u16>,
    /// Receive descriptors a queue.
    pub rxd: u16,
    /// Transmit descriptors a queue.
    pub txd: u16,
    /// Bytes behind the Ethernet header; `None`: the driver's default.
    pub mtu: Option<u16>,
    pub is_promiscuous: bool,
    /// Lcores that poll the port; `None`: all that poll ports of its kind.
    pub lcores: Option<Vec<u32>>,
    /// The run ends or waits where its device is gone.
    pub when_gone: WhenGone,
    /// Without `alarm off`: packets that it loses are told.
    pub is_alarmed: bool,
    /// Tunnels that end at the port: what is inside becomes the packet.
    pub terminators: Vec<Terminator>,
    /// Packets that its driver keeps in mbufs of the port's pool for as long as it runs.
    pub resident: u32,
    /// The capture that the port is, in place of a device.
    pub replay: Option<ReplayPlan>,
    /// The kernel's interface that the port is, in place of a device.
    pub iface: Option<IfacePlan>,
    /// `port stop`: not polled, and what tools would send on it is dropped as `down`.
    pub is_stopped: bool,
    pub uses: PortUse,
}

/// `iface:IF`; how many receive queues it has says the port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IfacePlan {
    pub interface: String,
    /// Frames that this machine sends by the interface are received too.
    pub takes_outgoing: bool,
    /// Offloads that change frames are switched off for as long as the port is there.
    pub ends_offloads: bool,
    /// Times are the NIC's own.
    pub wants_nic_times: bool,
    /// Bytes of each receive queue's ring.
    pub ring_bytes: u64,
}

/// The clock that the times of a port's packets are of. Times of different clocks are not compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TimeBase {
    /// This machine's: the poll, the kernel, and NICs, whose clocks are fitted to it.
    Machine,
    /// That of whoever wrote the capture.
    Capture,
    /// That of whoever sends the tunnel: ERSPAN III.
    Tunnel,
}

impl TimeBase {
    pub fn name(self) -> &'static str {
        match self {
            TimeBase::Machine => "this machine's clock",
            TimeBase::Capture => "its capture",
            TimeBase::Tunnel => "what ERSPAN III says",
        }
    }
}

impl PortPlan {
    /// Returns whether DPDK drives it: it is neither a replay nor an interface of Tapline's own.
    pub fn is_ethdev(&self) -> bool {
        self.replay.is_none() && self.iface.is_none()
    }

    /// Returns whether its packets come out of a file, with their times: a replay, or net_pcap but where it gives them over and
    /// over.
    pub fn reads_capture(&self) -> bool {
        self.replay.is_some()
            || self.resident == 0
                && self.devargs.goes_by_libpcap()
                && self.devargs.argument("rx_pcap").is_some()
    }

    /// Gives the addresses at which its tunnels end, if somebody may ask for them and be answered: it is on a segment, receives and
    /// sends. What comes out of a file, or is made, asks for nothing.
    fn ends(&self) -> Vec<IpAddr> {
        let sends_nothing = self.txq == Some(0) || self.rxq == Some(0) || self.replay.is_some();
        let is_told = |name: &&str| self.devargs.argument(name).is_some();
        let is_file = self.devargs.goes_by_libpcap() && !["iface", "tx_iface"].iter().any(is_told);
        let is_made = self.devargs.driver().is_some_and(|driver| driver.makes_packets || driver.is_loop);
        if sends_nothing || is_file || is_made {
            return Vec::new();
        }
        let mut ends: Vec<IpAddr> = Vec::new();
        for to in self.terminators.iter().filter_map(|terminator| terminator.to) {
            if !ends.contains(&to) {
                ends.push(to);
            }
        }
        ends
    }

    pub fn time_base(&self) -> TimeBase {
        match (self.terminators.iter().any(Terminator::says_times), self.reads_capture()) {
            (true, _) => TimeBase::Tunnel,
            (false, true) => TimeBase::Capture,
            (false, false) => TimeBase::Machine,
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct ToolPlan {
    pub name: String,
    pub output: Output,
    /// The file of [`Output::Capture`].
    pub capture: Option<PathBuf>,
    pub copy: CopyPlan,
    /// Packets that may wait for the tool, a worker.
    pub queue: usize,
    pub health: HealthSpec,
    /// Frames that must return through the tool.
    pub heartbeat: Option<HeartbeatPlan>,
    /// ICMP echoes to the tunnel's far end.
    pub echo: Option<ProbeTiming>,
    /// `tool drain`: it gets nothing until `tool enable`.
    pub is_drained: bool,
    /// Bytes that may wait for the tool, a worker.
    pub queue_bytes: Option<u64>,
    /// `None`: copies of all classes may fill the queue.
    pub thresholds: Option<Thresholds>,
    /// The most that the tool is sent.
    pub shaping: Option<BucketSpec>,
    /// `order window DURATION`: copies leave in the order of their times.
    pub order_ns: Option<u64>,
    /// `alarm PERCENT [hold DURATION]`.
    pub alarm: Option<AlarmPlan>,
    /// Without `alarm off`: copies that it drops are told.
    pub is_alarmed: bool,
    pub uses: ToolUse,
}

impl ToolPlan {
    /// A tool of which nothing is said but where its copies go.
    pub fn new(name: String, output: Output) -> Self {
        Self {
            name,
            output,
            capture: None,
            copy: CopyPlan::default(),
            queue: EgressPlan::DEFAULT_QUEUE,
            health: HealthSpec::LOCAL,
            heartbeat: None,
            echo: None,
            is_drained: false,
            queue_bytes: None,
            thresholds: None,
            shaping: None,
            order_ns: None,
            alarm: None,
            is_alarmed: true,
            uses: ToolUse::default(),
        }
    }

    /// Its egress.
    pub fn egress(&self) -> EgressPlan {
        EgressPlan {
            output: self.output,
            queue: self.queue,
            queue_bytes: self.queue_bytes,
            thresholds: self.thresholds,
            shaping: self.shaping,
            order_ns: self.order_ns,
        }
    }
}

/// The part that tools and the directions of wires have alike: a queue, and where it leads.
#[derive(Clone, Copy, Debug)]
pub struct EgressPlan {
    pub output: Output,
    /// Packets that may wait, a worker.
    pub queue: usize,
    /// Bytes that may wait, a worker.
    pub queue_bytes: Option<u64>,
    pub thresholds: Option<Thresholds>,
    pub shaping: Option<BucketSpec>,
    pub order_ns: Option<u64>,
}

impl EgressPlan {
    /// Packets that may wait for a tool whose `queue` does not say, and for a direction of a wire.
    pub const DEFAULT_QUEUE: usize = 4096;

    /// Gives what its queue admits.
    pub fn limits(&self) -> QueueLimits {
        QueueLimits::new(self.queue, self.queue_bytes, self.thresholds.unwrap_or(Thresholds::NONE))
    }
}

/// How a tool's copies differ from the packets.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct CopyPlan {
    /// Done after those of the rule.
    pub edits: Option<EditId>,
    pub timestamp: Timestamp,
    /// A tunnel's MAC addresses are not settled yet.
    pub transport: Transport,
    /// The tunnel, if the transport is one.
    pub tunnel: Option<TunnelPlan>,
    /// Bytes behind the Ethernet header that the path is taken to carry.
    pub mtu: u16,
    /// The frames that the path carries, if that is judged.
    pub room: Option<PathRoom>,
    /// The hash of the flow inside, if the transport states it.
    pub hash: Option<HashId>,
}

impl CopyPlan {
    /// Returns whether copies are made even where no rule edits them.
    fn makes_copies(&self) -> bool {
        self.makes_every_copy() || self.room.is_some()
    }

    /// Returns whether no copy is ever the packet itself, however long it is.
    pub fn makes_every_copy(&self) -> bool {
        let is_plain = matches!(self.transport, Transport::Local) && self.edits.is_none();
        !is_plain || self.timestamp.has_trailer() || self.timestamp.has_header()
    }

    /// Returns whether the next hop is found by asking for it.
    pub fn asks_for_next_hop(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| matches!(tunnel.next_hop, NextHopPlan::Ask(_)))
    }

    /// Returns whether copies say when the packet was received.
    pub fn says_time(&self) -> bool {
        self.timestamp.format != TimestampFormat::None || self.transport.says_time()
    }
}

/// Between which addresses a tunnel goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelPlan {
    pub source: IpAddr,
    pub vlan: Option<VlanTag>,
    pub next_hop: NextHopPlan,
    /// Tools that send to one session share its sequence numbers: the same destination, protocol and identifier.
    pub session: (IpAddr, IpAddr, String),
}

/// Whom a tunnel's frames are addressed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextHopPlan {
    Mac(MacAddress),
    /// Who answers for this address.
    Ask(IpAddr),
}

/// `heartbeat` of a tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatPlan {
    pub timing: ProbeTiming,
    /// The port by which they return.
    pub back: PortId,
}

/// When a tool's queue or utilisation raises an alarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlarmPlan {
    pub percent: u8,
    /// How long it must be above to raise, and not above to clear.
    pub hold: Duration,
}

impl AlarmPlan {
    /// `hold` where the tool does not say.
    pub const DEFAULT_HOLD: Duration = Duration::from_secs(6);
}

/// Two ports joined inline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WirePlan {
    pub name: String,
    /// Side A and side B.
    pub ports: [PortId; 2],
    /// Forwards while rules do not run.
    pub is_bypass: bool,
    /// Takes one side's link down with the other's.
    pub propagates_link: bool,
}

impl WirePlan {
    pub fn port(&self, side: Side) -> PortId {
        self.ports[side as usize]
    }

    /// The egress of the direction that comes from side `from`. Originals wait only for the link.
    pub fn egress(&self, from: Side) -> EgressPlan {
        EgressPlan {
            output: Output::Port(self.port(from.other())),
            queue: EgressPlan::DEFAULT_QUEUE,
            queue_bytes: None,
            thresholds: None,
            shaping: None,
            order_ns: None,
        }
    }
}

/// The destination of a tool's copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    Port(PortId),
    /// Written to the tool's file.
    Capture,
    /// Counted and freed.
    Discard,
}

/// A group as people know it; what it balances over stands in [`WorkPlan::groups`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupPlan {
    pub name: String,
}

#[derive(Clone, PartialEq, Debug)]
pub struct RulePlan {
    /// The rule's name.
    pub priority: u32,
    pub sources: Vec<PortId>,
    /// The edits of its copies.
    pub edits: Option<EditId>,
    /// The fate of copies that are to be anonymised and cannot be read, if the rule says it.
    pub unread: Option<Unread>,
    /// The edits of its copies of duplicates, and the mark, if those are marked.
    pub duplicate_edits: Option<EditId>,
    /// The packets that it matches.
    pub matcher: Arc<Matcher>,
    /// Its matches and samples, as a line of the language says them; empty where it takes everything.
    pub words: String,
    pub dedup: Option<DedupPlan>,
    pub sample: Option<SampleSpec>,
    /// How flows are hashed for the sampler, where it asks.
    pub sample_hash: Option<HashId>,
    /// When the rule is on; `None`: always.
    pub schedule: Option<Schedule>,
    /// Packets that it takes before it goes off for good.
    pub limit: Option<u64>,
    /// Not switched off by `rule disable`.
    pub is_enabled: bool,
    pub targets: Vec<Target>,
    pub verdict: Verdict,
    /// The class that the rule says; `None` is [`Class::Normal`], and does not bring thresholds to its tools.
    pub class: Option<Class>,
}

impl RulePlan {
    /// Returns whether some of its copies are edited.
    pub fn has_edits(&self) -> bool {
        self.edits.is_some() || self.duplicate_edits.is_some()
    }
}

/// `dedup window …` of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DedupPlan {
    pub window_ns: u64,
    pub ignore: Ignore,
    /// The ports that are compared with each other; in statistics and counters a port is its place here.
    pub scope: Vec<PortId>,
    pub action: DedupAction,
    /// Bytes of all workers' tables together.
    pub memory: u64,
}

impl DedupPlan {
    /// Gives the settings for each of `workers`.
    pub fn spec(&self, workers: usize) -> DedupSpec {
        DedupSpec {
            window_ns: self.window_ns,
            ignore: self.ignore,
            packets: Dedup::packets_for(self.memory / workers.max(1) as u64),
            ports: self.scope.len(),
        }
    }
}

/// An action that the file asks for once everything is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Start,
    Stop,
    Show(Show),
    ClearStats,
    Quit,
}

impl Plan {
    /// Gives the orders of workers, while the plan is made and nobody else has it.
    pub(super) fn work_mut(&mut self) -> &mut WorkPlan {
        Arc::get_mut(&mut self.work).expect("a plan that is being made has its work alone")
    }

    /// Gives the same plan without samplers: rules keep all that they would sample. Nobody else may have the plan's work yet.
    pub fn without_samplers(mut self) -> Self {
        self.rules.iter_mut().for_each(|rule| rule.sample = None);
        let inputs = self.work_mut().inputs.iter_mut();
        inputs.flat_map(|input| &mut input.steps).for_each(|step| step.is_sampled = false);
        self
    }

    /// Flows that one rule remembers in one of `workers`: `set flows` is shared by the rules that remember any.
    pub fn flows_of_a_table(&self, workers: usize) -> usize {
        let rules = self
            .rules
            .iter()
            .filter(|rule| rule.sample.as_ref().is_some_and(SampleSpec::has_flow_table))
            .count();
        self.settings.flows.div_ceil((rules * workers).max(1))
    }

    /// Gives the engine that runs the filters, in words: `native`, or the interpreter and why.
    pub fn filter_engine(&self) -> String {
        let mut engines = self.work.inputs.iter().filter_map(|input| input.classifier.engine());
        let first = engines.next();
        engines
            .find(|engine| **engine != Engine::Native)
            .or(first)
            .map_or_else(|| "none".to_owned(), ToString::to_string)
    }

    /// Notes what tools do with ports, and rules with tools, once all of them are there.
    pub(super) fn note_uses(&mut self) {
        let tools = self.tool_uses();
        let ports = self.port_uses(&tools);
        for (port, uses) in self.ports.iter_mut().zip(ports) {
            port.uses = uses;
        }
        for (tool, uses) in self.tools.iter_mut().zip(tools) {
            tool.uses = uses;
        }
        self.tools_want_stamps =
            self.tools.entries().any(|(id, tool)| self.needs_stamps(id) || tool.copy.says_time());
    }

    fn tool_uses(&self) -> Vec<ToolUse> {
        let no_port: ById<PortId, bool> = ById::filled(self.ports.len(), false);
        let mut feeds: ById<ToolId, _> = ById::filled(self.tools.len(), no_port);
        let mut is_edited: ById<ToolId, bool> = ById::filled(self.tools.len(), false);
        for rule in &self.rules {
            for tool in self.tools_of(&rule.targets) {
                rule.sources.iter().for_each(|&port| feeds[tool][port] = true);
                is_edited[tool] |= rule.has_edits();
            }
        }
        let uses = self.tools.iter().zip(feeds).zip(is_edited).map(|((tool, feeds), is_edited)| ToolUse {
            sources: feeds.ids().filter(|&port| feeds[port]).collect(),
            has_made_copies: tool.output != Output::Discard && (tool.copy.makes_copies() || is_edited),
        });
        uses.collect()
    }

    /// `uses` are those of the tools.
    fn port_uses(&self, uses: &[ToolUse]) -> ById<PortId, PortUse> {
        let mut ports = ById::filled(self.ports.len(), PortUse::default());
        for (uses, port) in ports.iter_mut().zip(&self.ports) {
            uses.ends = port.ends();
        }
        for (id, wire) in self.wires.entries() {
            for side in Side::ALL {
                ports[wire.port(side)].wire = Some((id, side));
            }
        }
        for &port in self.rules.iter().flat_map(|rule| &rule.sources) {
            ports[port].is_taken_from = true;
        }
        for ((id, tool), uses) in self.tools.entries().zip(uses) {
            if let Output::Port(port) = tool.output {
                let port = &mut ports[port];
                port.tools.push(id);
                port.is_tunnel_port |= tool.copy.tunnel.is_some();
                port.sends_heartbeats |= tool.heartbeat.is_some();
                port.is_answered |= tool.copy.asks_for_next_hop() || tool.echo.is_some();
            }
            if let Some(heartbeat) = tool.heartbeat {
                ports[heartbeat.back].returns_heartbeats = true;
            }
            if let Some(window_ns) = tool.order_ns {
                for &port in &uses.sources {
                    let shortest = &mut ports[port].order_ns;
                    *shortest = Some(shortest.map_or(window_ns, |shortest| shortest.min(window_ns)));
                }
            }
        }
        ports
    }

    /// The ports whose packets rules may send to a tool, ascending.
    pub fn ports_to(&self, tool: ToolId) -> &[PortId] {
        &self.tools[tool].uses.sources
    }

    /// Returns whether a replay flat out waits for a tool, where it is behind.
    pub fn is_waited_for(&self, tool: ToolId) -> bool {
        let is_flat_out =
            |port: &PortId| self.ports[*port].replay.as_ref().is_some_and(ReplayPlan::is_flat_out);
        self.tools[tool].output == Output::Capture && self.ports_to(tool).iter().any(is_flat_out)
    }

    /// Returns whether a tool asks for the packets' own times.
    pub fn needs_stamps(&self, tool: ToolId) -> bool {
        let tool = &self.tools[tool];
        tool.output == Output::Capture || tool.order_ns.is_some()
    }

    /// Returns whether receive lcores poll a port and spread its packets over the work lcores.
    ///
    /// Work lcores poll themselves what must not be lost or told apart on the way: ports of wires, replays, and ports where tunnels
    /// end.
    pub fn is_spread(&self, port: PortId) -> bool {
        let plan = &self.ports[port];
        let is_plain = plan.replay.is_none() && plan.terminators.is_empty() && self.wire_at(port).is_none();
        is_plain && self.settings.stages.as_ref().is_some_and(Stages::are_spread)
    }

    /// The shortest window of the tools that put packets of a port in order.
    pub fn order_of(&self, port: PortId) -> Option<u64> {
        self.ports[port].uses.order_ns
    }

    /// Returns whether a rule's targets want to know when their buckets were used.
    pub fn stamps_buckets(&self, targets: &[Target]) -> bool {
        targets.iter().any(|target| match target {
            Target::Group(group) => self.work.groups[*group].spec.returns != Returns::AtOnce,
            Target::Tool(_) => false,
        })
    }

    /// The tools that a rule's targets may send to.
    pub fn tools_of<'a>(&'a self, targets: &'a [Target]) -> impl Iterator<Item = ToolId> + 'a {
        targets
            .iter()
            .flat_map(|target| match target {
                Target::Tool(tool) => std::slice::from_ref(tool),
                Target::Group(group) => self.work.groups[*group].members.as_slice(),
            })
            .copied()
    }

    /// Returns how deep a tool's own edits anonymise its copies, if they do.
    pub fn anonymizes(&self, tool: ToolId) -> Option<Depth> {
        self.work.edits[self.tools[tool].copy.edits?].anonymizes()
    }

    /// Returns whether some copies of a tool are not the packets themselves.
    pub fn makes_copies_for(&self, tool: ToolId) -> bool {
        self.tools[tool].uses.has_made_copies
    }

    /// The tools and the directions of wires, which workers send by.
    pub fn egresses(&self) -> Egresses {
        Egresses::new(self.tools.len(), self.wires.len())
    }

    /// Gives the part that a tool and a direction of a wire have alike.
    pub fn egress(&self, egress: Egress) -> EgressPlan {
        match egress {
            Egress::Tool(tool) => self.tools[tool].egress(),
            Egress::Wire(wire, from) => self.wires[wire].egress(from),
        }
    }

    /// The wire that a port is a side of, and which.
    pub fn wire_at(&self, port: PortId) -> Option<(WireId, Side)> {
        self.ports[port].uses.wire
    }

    /// The port on the other side of the wire that a port is a side of.
    pub fn port_beyond(&self, port: PortId) -> Option<PortId> {
        self.wire_at(port).map(|(wire, side)| self.wires[wire].port(side.other()))
    }

    /// Returns whether tunnels leave by a port.
    pub fn is_tunnel_port(&self, port: PortId) -> bool {
        self.ports[port].uses.is_tunnel_port
    }

    /// Returns whether heartbeats of tools return by a port.
    pub fn returns_heartbeats(&self, port: PortId) -> bool {
        self.ports[port].uses.returns_heartbeats
    }

    /// Returns whether heartbeats leave by a port.
    pub fn sends_heartbeats(&self, port: PortId) -> bool {
        self.ports[port].uses.sends_heartbeats
    }

    /// Returns whether a tool sends on a port, or a wire.
    pub fn is_sent_to(&self, port: PortId) -> bool {
        self.ports[port].uses.is_sent_to()
    }
}
