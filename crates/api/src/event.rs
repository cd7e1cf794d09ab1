//! The events of a broker, `tapline.event/1`: each is a value with a kind, a level and the thing that it is about.
//!
//! The log, the statistics and whoever subscribes read the same values. `Display` of an event is the text of its log line.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::snapshot::{Change, EventEntry};
use super::values::{Span, seconds};
use super::words::{Expiry, IcmpReason, Level, LinkState, Reason, Stage, ToolState, Unfinished};

/// The texts of events of what is kept.
mod kept;

/// Holds alarms.
mod alarm;

pub use alarm::Alarm;

/// The name and version of the form.
pub const SCHEMA: &str = "tapline.event/1";

impl Level {
    /// Returns the number that syslog has for the level.
    /// # Source
    /// RFC 5424, section 6.2.1, table 2.
    pub const fn number(self) -> u8 {
        match self {
            Level::Error => 3,
            Level::Warning => 4,
            Level::Notice => 5,
            Level::Info => 6,
            Level::Debug => 7,
        }
    }
}

/// Defines the events: each kind with its word and its own fields.
macro_rules! events {
    ($( $(#[$attribute:meta])* $Kind:ident = $word:literal { $( $(#[$of_field:meta])* $field:ident: $Type:ty, )* }, )+) => {
        /// An event of a broker, or of what it looks after.
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Event {
            $(
                $(#[$attribute])*
                #[serde(rename = $word)]
                $Kind { $( $(#[$of_field])* $field: $Type, )* },
            )+
            /// Something is wrong that goes on until it is cleared.
            #[serde(rename = "alarm_raised")]
            AlarmRaised(Alarm),
            /// The reason of an alarm is over.
            #[serde(rename = "alarm_cleared")]
            AlarmCleared(Alarm),
        }

        impl Event {
            /// The words of all kinds.
            pub const KINDS: &'static [&'static str] = &[$($word,)+ "alarm_raised", "alarm_cleared"];

            /// Returns the word for the kind.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Event::$Kind { .. } => $word,)+
                    Event::AlarmRaised(_) => "alarm_raised",
                    Event::AlarmCleared(_) => "alarm_cleared",
                }
            }
        }
    };
}

events! {
    /// No huge pages are free, and mempools are made of ordinary ones.
    OrdinaryPages = "ordinary_pages" {
        free_mib: u64,
        needed_mib: u32,
        /// Huge pages of 2 MiB that would do.
        pages: u32,
    },
    /// Workers have their lcores.
    WorkersPlaced = "workers_placed" {
        /// Lcores that receive; empty where those that work do.
        receive: Vec<u32>,
        work: Vec<u32>,
        /// Lcores that transmit; empty where those that work do.
        transmit: Vec<u32>,
        /// CPUs of the main thread; empty where EAL arguments of the user say them.
        main_cpus: Vec<u32>,
        why: String,
    },
    /// Receive queues have the lcores that poll them.
    QueuesPolled = "queues_polled" { lcores: Vec<Polled>, },
    /// A port's NIC may bring the two directions of a flow by different queues.
    FlowsSplit = "flows_split" { port: String, queues: u16, why: String, },
    /// A tunnel's path is taken to carry more than its port does.
    PathTooWide = "path_too_wide" { tool: String, port: String, mtu: u32, path_mtu: u32, },
    /// A kernel interface may bring frames that its port's driver cuts or loses.
    FramesTooLong = "frames_too_long" {
        port: String,
        interface: String,
        mtu: u32,
        driver: String,
        most_mtu: u32,
        /// They are cut; else they may be lost.
        are_cut: bool,
    },
    /// A driver changes frames of its port's kernel interface, and loses some, without a word.
    FramesChanged = "frames_changed" { port: String, interface: String, driver: String, },
    /// Offloads change frames of a port's kernel interface before they are received.
    OffloadsOn = "offloads_on" {
        port: String,
        /// The interface that has them.
        interface: String,
        /// The port's, where the one that has them is its far end.
        far_end_of: Option<String>,
        /// The words that ethtool has for them.
        offloads: Vec<String>,
    },
    /// The far end of a port's kernel interface is in another network namespace, and may have offloads that change frames.
    FarEndUnseen = "far_end_unseen" { port: String, interface: String, },
    /// net_pcap writes to a pipe, and does not notice when its reader goes.
    PipeUnwatched = "pipe_unwatched" { port: String, path: String, },
    /// A driver does not set the links of a wire's ports.
    LinksNotPropagated = "links_not_propagated" { wire: String, error: String, },
    /// DPDK or a driver logged a line.
    DpdkLogged = "dpdk_logged" { line: String, },

    /// A tool's state is another one.
    ToolChanged = "tool_changed" { tool: String, from: ToolState, to: ToolState, reason: Reason, },
    /// A port's link is up, down or gone.
    PortChanged = "port_changed" { port: String, from: LinkState, to: LinkState, },
    /// A port was taken down for a change, and could not be set up again: it has no device.
    PortClosed = "port_closed" { port: String, error: String, },
    /// The device of a port that left cannot be taken out of DPDK: it is closed, and stays there.
    DeviceKept = "device_kept" { port: String, device: String, error: String, },
    /// Buckets of a group have other members.
    BucketsMoved = "buckets_moved" {
        group: String,
        buckets: u64,
        /// Buckets that the group has.
        of: u64,
        /// Flows in those that moved, about.
        flows: u64,
        /// Buckets that wait to be idle.
        pending: u64,
    },
    /// A rule went on or off by its schedule.
    RuleSwitched = "rule_switched" {
        rule: u32,
        on: bool,
        /// When it will go the other way, in seconds since the Unix epoch.
        next_change: Option<f64>,
    },
    /// A wire's port has its link set as the other side's is.
    LinkPropagated = "link_propagated" { wire: String, port: String, to: LinkState, },
    /// A port's device is back, and cannot be attached.
    PortNotAttached = "port_not_attached" { port: String, error: String, },
    /// The run ends because ports are gone.
    EndedForGone = "ended_for_gone" { ports: Vec<String>, },
    /// A port's kernel interface has another MTU.
    MtuChanged = "mtu_changed" { port: String, from: u32, to: u32, },
    /// A port's driver cut a frame; it is said once.
    FramesCut = "frames_cut" { port: String, driver: String, bytes: u32, },
    /// A tunnel's next hop answered.
    NextHopResolved = "next_hop_resolved" { next_hop: IpAddr, mac: String, tools: Vec<String>, },
    /// A tunnel's next hop has another MAC address.
    NextHopMoved = "next_hop_moved" { next_hop: IpAddr, from: String, to: String, tools: Vec<String>, },
    /// A tunnel's next hop does not answer.
    NextHopLost = "next_hop_lost" { next_hop: IpAddr, tools: Vec<String>, },
    /// An ICMP error came about a copy of a tunnel; it is said once in ten minutes for each reason.
    TunnelRefused = "tunnel_refused" {
        tool: String,
        reason: IcmpReason,
        /// Who said it.
        by: IpAddr,
        /// The MTU of the way, where a copy was too big and the error says it.
        mtu: Option<u32>,
    },
    /// Somebody else says that an address is theirs at which tunnels end, or that tunnels are sent from.
    AddressConflict = "address_conflict" { port: String, address: IpAddr, mac: String, },
    /// The system's clock was set.
    SystemClockStepped = "system_clock_stepped" { by_ns: i64, },
    /// A NIC's clock is fitted to the system's.
    NicClockFitted = "nic_clock_fitted" { port: String, },
    /// A NIC's clock is fitted to the system's no more.
    NicClockDegraded = "nic_clock_degraded" { port: String, },
    /// A NIC's clock and the system's are another time apart.
    NicClockStepped = "nic_clock_stepped" { port: String, by_ns: i64, },
    /// A worker does not finish its turn.
    WorkerStalled = "worker_stalled" { lcore: u32, stage: Stage, quiet_ms: u64, },
    /// A worker does not finish its turn, for it gets no CPU.
    WorkerStarved = "worker_starved" {
        lcore: u32,
        quiet_ms: u64,
        /// The CPU time that it had meanwhile.
        ran_ms: u64,
    },
    /// A worker that was stalled, or had no CPU, goes on.
    WorkerRecovered = "worker_recovered" { lcore: u32, quiet_ms: u64, },
    /// A stage panicked, and cost a burst.
    WorkerPanicked = "worker_panicked" {
        lcore: u32,
        stage: Stage,
        panic: String,
        /// Packets.
        failed: u64,
        /// Copies.
        dropped: u64,
    },
    /// The frames of the burst that a panic cost are in a file.
    BurstDumped = "burst_dumped" { lcore: u32, path: String, },
    /// The frames of the burst that a panic cost are in no file.
    BurstNotDumped = "burst_not_dumped" { lcore: u32, error: String, },
    /// A worker returned though nobody had asked it to.
    WorkerLost = "worker_lost" { lcore: u32, },
    /// A worker goes on with the plan before the one that it was given.
    SwapLate = "swap_late" { lcore: u32, },
    /// Another plan is in force.
    PlanChanged = "plan_changed" { rules: usize, planned_ms: f64, in_force_ms: f64, },
    /// An earlier plan is in force again.
    RolledBack = "rolled_back" { to: u32, why: String, },
    /// An earlier plan could not be brought back.
    RollbackFailed = "rollback_failed" { to: u32, why: String, },
    /// Statistics could not be written, and are no more.
    StatisticsLost = "statistics_lost" { path: String, error: String, },

    /// Packets of a replay's file could not be made Ethernet frames of.
    PacketsPassedOver = "packets_passed_over" { port: String, path: String, packets: u64, },
    /// A run ended before its replay's file did.
    ReplayUnfinished = "replay_unfinished" {
        port: String,
        path: String,
        read: u64,
        /// Packets that are left; `None`: there is no end of them.
        left: Option<u64>,
        /// There may be more left than that.
        is_least: bool,
        because: Unfinished,
        /// When the next packet is due, where the replay waits for that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due_ns: Option<u64>,
        /// Mbufs that the port has, where it waits for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mbufs: Option<u32>,
    },
    /// A capture tool's file did not take all of a replay in time.
    CopiesUnwritten = "copies_unwritten" {
        tool: String,
        copies: u64,
        seconds: u64,
        /// Somebody ended the run.
        is_asked: bool,
    },
    /// A capture tool's file takes nothing at the end of the run.
    CaptureStuck = "capture_stuck" { tool: String, },
    /// A segment of a store that a crash left was cut behind its last whole block; without a packet it is removed.
    SegmentRepaired = "segment_repaired" { tool: String, file: String, packets: u64, kept_bytes: u64, cut_bytes: u64, },
    /// A segment of a store was deleted.
    SegmentExpired = "segment_expired" { tool: String, file: String, bytes: u64, reason: Expiry, },
    /// A store is written again.
    StoreResumed = "store_resumed" { tool: String, path: String, },
    /// A file that net_pcap wrote lacks packets that were sent.
    OutputShort = "output_short" { port: String, path: String, sent: u64, whole: u64, },
    /// The audit log cannot be written.
    AuditFailed = "audit_failed" { path: String, error: String, },
    /// The audit log is written again.
    AuditResumed = "audit_resumed" { path: String, },
    /// HTTP is answered.
    HttpBegun = "http_begun" { url: String, cpus: String, },
    /// The files of `set tls` are wrong; connections begin with those before.
    HttpFilesFailed = "http_files_failed" { error: String, },
    /// The last record of the audit log, now and then: a log that has it not was cut.
    AuditHead = "audit_head" {
        path: String,
        /// The number of the record.
        record: u64,
        /// In hexadecimal digits.
        hash: String,
    },
    /// The audit log that a start finds does not have its last record.
    AuditCut = "audit_cut" { path: String, record: u64, hash: String, },
    /// A plan was not confirmed when the broker before this one ended.
    ConfirmInterrupted = "confirm_interrupted" {
        plan: u32,
        /// The confirmed plan.
        to: u32,
        /// The confirmed plan is run; else it is not kept, and the file is run.
        is_kept: bool,
        /// The file that the command line names.
        file: String,
    },
    /// A file of the folder of `--state` is damaged, and was moved aside.
    StateDamaged = "state_damaged" { path: String, error: String, },
    /// The history cannot be kept.
    StateFailed = "state_failed" { path: String, error: String, },
    /// The history is kept again.
    StateResumed = "state_resumed" { path: String, },
    /// A worker did not end well.
    EndFailed = "end_failed" { error: String, },
    /// The identities of the account do not hold.
    OutOfBalance = "out_of_balance" {},
}

/// The ports whose receive queues an lcore polls.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Polled {
    pub lcore: u32,
    pub ports: Vec<String>,
}

impl Event {
    /// Returns how much the event matters.
    pub const fn level(&self) -> Level {
        match self {
            Event::WorkerPanicked { .. }
            | Event::WorkerLost { .. }
            | Event::StatisticsLost { .. }
            | Event::CaptureStuck { .. }
            | Event::OutputShort { .. }
            | Event::AuditFailed { .. }
            | Event::HttpFilesFailed { .. }
            | Event::StateFailed { .. }
            | Event::EndFailed { .. }
            | Event::RollbackFailed { .. }
            | Event::EndedForGone { .. }
            | Event::AlarmRaised(Alarm::PortGone { .. } | Alarm::Unbalanced { .. })
            | Event::PortClosed { .. }
            | Event::OutOfBalance {} => Level::Error,
            Event::AlarmRaised(alarm) if alarm.is_failure() => Level::Error,
            Event::CopiesUnwritten { is_asked: false, .. } => Level::Error,
            Event::ReplayUnfinished { because, .. } if !matches!(because, Unfinished::Asked) => {
                Level::Error
            }
            Event::FlowsSplit { .. }
            | Event::PathTooWide { .. }
            | Event::FramesTooLong { .. }
            | Event::FramesChanged { .. }
            | Event::OffloadsOn { .. }
            | Event::FarEndUnseen { .. }
            | Event::PipeUnwatched { .. }
            | Event::LinksNotPropagated { .. }
            | Event::DpdkLogged { .. }
            | Event::ToolChanged { to: ToolState::Down, .. }
            | Event::PortChanged { to: LinkState::Down | LinkState::Gone, .. }
            | Event::PortNotAttached { .. }
            | Event::DeviceKept { .. }
            | Event::FramesCut { .. }
            | Event::NextHopMoved { .. }
            | Event::NextHopLost { .. }
            | Event::TunnelRefused { .. }
            | Event::AddressConflict { .. }
            | Event::SystemClockStepped { .. }
            | Event::NicClockDegraded { .. }
            | Event::NicClockStepped { .. }
            | Event::WorkerStalled { .. }
            | Event::WorkerStarved { .. }
            | Event::BurstNotDumped { .. }
            | Event::SwapLate { .. }
            | Event::PacketsPassedOver { .. }
            | Event::ReplayUnfinished { .. }
            | Event::CopiesUnwritten { .. }
            | Event::SegmentRepaired { .. }
            | Event::AuditCut { .. }
            | Event::ConfirmInterrupted { .. }
            | Event::StateDamaged { .. }
            | Event::AlarmRaised(_) => Level::Warning,
            Event::OrdinaryPages { .. }
            | Event::ToolChanged { .. }
            | Event::PortChanged { .. }
            | Event::BucketsMoved { .. }
            | Event::RuleSwitched { .. }
            | Event::LinkPropagated { .. }
            | Event::MtuChanged { .. }
            | Event::NextHopResolved { .. }
            | Event::WorkerRecovered { .. }
            | Event::BurstDumped { .. }
            | Event::PlanChanged { .. }
            | Event::RolledBack { .. }
            | Event::AuditResumed { .. }
            | Event::HttpBegun { .. }
            | Event::AuditHead { .. }
            | Event::StateResumed { .. }
            | Event::StoreResumed { .. }
            | Event::AlarmCleared(_) => Level::Notice,
            Event::WorkersPlaced { .. }
            | Event::QueuesPolled { .. }
            | Event::NicClockFitted { .. }
            | Event::SegmentExpired { .. } => Level::Info,
        }
    }

    /// Returns what the event is about, such as `tool ids-a`.
    pub fn object(&self) -> String {
        match self {
            Event::OrdinaryPages { .. }
            | Event::WorkersPlaced { .. }
            | Event::QueuesPolled { .. }
            | Event::SystemClockStepped { .. }
            | Event::PlanChanged { .. }
            | Event::RolledBack { .. }
            | Event::RollbackFailed { .. }
            | Event::StatisticsLost { .. }
            | Event::AuditFailed { .. }
            | Event::AuditResumed { .. }
            | Event::HttpBegun { .. }
            | Event::HttpFilesFailed { .. }
            | Event::AuditHead { .. }
            | Event::AuditCut { .. }
            | Event::ConfirmInterrupted { .. }
            | Event::StateDamaged { .. }
            | Event::StateFailed { .. }
            | Event::StateResumed { .. }
            | Event::EndFailed { .. }
            | Event::EndedForGone { .. }
            | Event::OutOfBalance {} => "broker".to_owned(),
            Event::DpdkLogged { .. } => "dpdk".to_owned(),
            Event::FlowsSplit { port, .. }
            | Event::FramesTooLong { port, .. }
            | Event::FramesChanged { port, .. }
            | Event::OffloadsOn { port, .. }
            | Event::FarEndUnseen { port, .. }
            | Event::PipeUnwatched { port, .. }
            | Event::PortChanged { port, .. }
            | Event::PortNotAttached { port, .. }
            | Event::PortClosed { port, .. }
            | Event::DeviceKept { port, .. }
            | Event::MtuChanged { port, .. }
            | Event::FramesCut { port, .. }
            | Event::NicClockFitted { port }
            | Event::NicClockDegraded { port }
            | Event::NicClockStepped { port, .. }
            | Event::PacketsPassedOver { port, .. }
            | Event::ReplayUnfinished { port, .. }
            | Event::AddressConflict { port, .. }
            | Event::OutputShort { port, .. } => format!("port {port}"),
            Event::PathTooWide { tool, .. }
            | Event::ToolChanged { tool, .. }
            | Event::TunnelRefused { tool, .. }
            | Event::CopiesUnwritten { tool, .. }
            | Event::CaptureStuck { tool }
            | Event::SegmentRepaired { tool, .. }
            | Event::SegmentExpired { tool, .. }
            | Event::StoreResumed { tool, .. } => format!("tool {tool}"),
            Event::LinksNotPropagated { wire, .. } | Event::LinkPropagated { wire, .. } => {
                format!("wire {wire}")
            }
            Event::BucketsMoved { group, .. } => format!("group {group}"),
            Event::RuleSwitched { rule, .. } => format!("rule {rule}"),
            Event::NextHopResolved { next_hop, .. }
            | Event::NextHopMoved { next_hop, .. }
            | Event::NextHopLost { next_hop, .. } => format!("next hop {next_hop}"),
            Event::WorkerStalled { lcore, .. }
            | Event::WorkerStarved { lcore, .. }
            | Event::WorkerRecovered { lcore, .. }
            | Event::WorkerPanicked { lcore, .. }
            | Event::BurstDumped { lcore, .. }
            | Event::BurstNotDumped { lcore, .. }
            | Event::WorkerLost { lcore }
            | Event::SwapLate { lcore } => format!("lcore {lcore}"),
            Event::AlarmRaised(alarm) | Event::AlarmCleared(alarm) => alarm.object(),
        }
    }

    /// Returns whether the event is the answer to a command: nothing else can cause it, and who gave the command waits for it.
    pub const fn is_answer(&self) -> bool {
        matches!(
            self,
            Event::SwapLate { .. }
                | Event::PlanChanged { .. }
                | Event::RolledBack { .. }
                | Event::RollbackFailed { .. }
                | Event::PortClosed { .. }
                | Event::DeviceKept { .. }
                | Event::ToolChanged { reason: Reason::Drain | Reason::Emptied | Reason::Enable, .. }
        )
    }

    /// Returns the alarm that the event raises, if it raises one.
    pub const fn alarm(&self) -> Option<&Alarm> {
        match self {
            Event::AlarmRaised(alarm) => Some(alarm),
            _ => None,
        }
    }

    /// Writes an event of the start: of memory, lcores and devices.
    fn write_start(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::OrdinaryPages { free_mib, needed_mib, pages } => write!(
                f,
                "no huge pages ({free_mib} MiB free, {needed_mib} needed): running on ordinary pages, slower; to reserve them: \
                 echo {pages} | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
            ),
            Event::WorkersPlaced { receive, work, transmit, main_cpus, why } => {
                let work = list(work);
                match (receive.as_slice(), transmit.as_slice()) {
                    ([], []) => write!(f, "workers on lcores {work}")?,
                    ([], transmit) => write!(
                        f,
                        "receive and work on lcores {work}, transmit on lcores {}",
                        list(transmit)
                    )?,
                    (receive, transmit) => write!(
                        f,
                        "receive on lcores {}, work on lcores {work}, transmit on lcores {}",
                        list(receive),
                        list(transmit)
                    )?,
                }
                match main_cpus.as_slice() {
                    [] => write!(f, ", {why}; CPUs as the EAL arguments say"),
                    cpus => write!(f, ", {why}; main thread on CPUs {}", list(cpus)),
                }
            }
            Event::QueuesPolled { lcores } => {
                let is_idle = lcores.iter().any(|polled| polled.ports.is_empty());
                let polled = lcores.iter().map(|Polled { lcore, ports }| {
                    format!(
                        "lcore {lcore} polls {}",
                        if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
                    )
                });
                write!(f, "receive queues: {}", polled.collect::<Vec<_>>().join("; "))?;
                if !is_idle {
                    return Ok(());
                }
                f.write_str("; a queue is polled by one worker: `set lcores receive LIST work LIST` shares its packets out")
            }
            Event::FlowsSplit { port, queues, why } => write!(
                f,
                "port {port}: {why}: the two directions of a flow may come by different queues of its {queues}, and meet on no worker; \
                 use rxq 1 with `set lcores receive LIST work LIST` where they must"
            ),
            Event::PathTooWide { tool, port, mtu, path_mtu } => write!(
                f,
                "tool {tool}: port {port} has an MTU of {mtu}, and its path is taken to carry {path_mtu}; use mtu {mtu}"
            ),
            Event::LinksNotPropagated { wire, error } => {
                write!(f, "wire {wire}: links are not propagated: {error}")
            }
            Event::DpdkLogged { line } => write!(f, "dpdk: {line}"),
            _ => self.write_frames(f),
        }
    }

    /// Writes an event of what drivers and interfaces do to frames.
    fn write_frames(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::FramesTooLong { port, interface, mtu, driver, most_mtu, are_cut } => {
                let fate = if *are_cut {
                    "cuts frames above it without a word"
                } else {
                    "may receive nothing above it"
                };
                write!(
                    f,
                    "port {port}: {interface} has an MTU of {mtu}, and {driver} takes {most_mtu}: it {fate}; use mtu {most_mtu}, or attach \
                     iface:{interface}"
                )
            }
            Event::FramesChanged { port, interface, driver } => write!(
                f,
                "port {port}: {driver} joins IP fragments and loses those that lack others, makes every VLAN tag's type 0x8100, cuts long \
                 frames and has no times, all without a word; attach iface:{interface}"
            ),
            Event::OffloadsOn { port, interface, far_end_of, offloads } => {
                write!(f, "port {port}: {interface}")?;
                if let Some(near) = far_end_of {
                    write!(f, ", the far end of {near},")?;
                }
                let has = |words: &[&str]| offloads.iter().any(|offload| words.contains(&offload.as_str()));
                let facts = [
                    (has(&["gro", "lro"]), "joins segments"),
                    (has(&["tso", "gso"]), "leaves segments uncut"),
                    (has(&["tx"]), "leaves checksums out"),
                ];
                let facts: Vec<&str> =
                    facts.iter().filter_map(|&(is_so, fact)| is_so.then_some(fact)).collect();
                write!(
                    f,
                    " {}, so frames are not as they are on a wire; switch it off: ethtool -K {interface}",
                    facts.join(" and ")
                )?;
                offloads.iter().try_for_each(|offload| write!(f, " {offload} off"))?;
                f.write_str("; or say offloads=off behind the interface")
            }
            Event::FarEndUnseen { port, interface } => write!(
                f,
                "port {port}: the far end of {interface} is in another network namespace, where it may leave segments uncut and checksums \
                 out; switch that off there: ethtool -K INTERFACE tso off gso off tx off"
            ),
            Event::PipeUnwatched { port, path } => write!(
                f,
                "port {port}: net_pcap does not notice when {path}, a pipe, is not read any more, and counts what is lost as sent; a tool \
                 with `capture {path}` does notice"
            ),
            _ => self.write_change(f),
        }
    }

    /// Writes an event of tools, ports, groups, rules, wires and next hops.
    fn write_change(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::ToolChanged { tool, from, to, reason } => {
                write!(f, "tool {tool}: {from} -> {to} ({reason})")
            }
            Event::PortChanged { port, from, to } => write!(f, "port {port}: {from} -> {to}"),
            Event::PortNotAttached { port, error } => {
                write!(f, "port {port}: its device is back, and cannot be attached: {error}")
            }
            Event::PortClosed { port, error } => {
                write!(f, "port {port}: closed, since it could not be set up again: {error}")
            }
            Event::DeviceKept { port, device, error } => write!(
                f,
                "port {port}: its device `{device}` is closed and stays in DPDK, and cannot be attached before the next start: {error}"
            ),
            Event::BucketsMoved { group, buckets, of, flows, pending } => write!(
                f,
                "group {group}: {buckets} of {of} buckets moved with about {flows} flows, {pending} wait to be idle"
            ),
            Event::RuleSwitched { rule, on, .. } => {
                write!(f, "rule {rule}: {}", if *on { "on" } else { "off" })
            }
            Event::LinkPropagated { wire, port, to } => {
                write!(f, "wire {wire}: link of port {port} set {to}, as the other side's is")
            }
            Event::MtuChanged { port, from, to } => {
                write!(f, "port {port}: its interface's MTU is {to}; it was {from}")
            }
            Event::FramesCut { port, driver, bytes } => write!(
                f,
                "port {port}: the driver {driver} cuts frames to {bytes} bytes without a word: lower the interface's MTU, switch off \
                 what joins segments (ethtool -K IFACE gro off lro off; on a veth's other end tso off), or attach it as iface:IFACE"
            ),
            Event::NextHopResolved { next_hop, mac, .. } => write!(f, "next hop {next_hop} is at {mac}"),
            Event::NextHopMoved { next_hop, from, to, .. } => {
                write!(f, "next hop {next_hop} moved from {from} to {to}")
            }
            Event::NextHopLost { next_hop, .. } => write!(f, "next hop {next_hop} does not answer"),
            Event::TunnelRefused { tool, reason, by, mtu } => write_refused(f, tool, *reason, *by, *mtu),
            Event::AddressConflict { port, address, mac } => write!(
                f,
                "port {port}: {mac} has {address}, too, which is this port's for tunnels: give one of the two another address"
            ),
            Event::SystemClockStepped { by_ns } => write!(
                f,
                "the system's clock was set: it stepped by {by_ns} ns, and so do the times of packets"
            ),
            Event::NicClockFitted { port } => {
                write!(f, "port {port}: the NIC's clock is fitted to the system's clock")
            }
            Event::NicClockDegraded { port } => write!(
                f,
                "port {port}: the NIC's clock is not fitted to the system's clock any more: times are degraded"
            ),
            Event::NicClockStepped { port, by_ns } => write!(
                f,
                "port {port}: the NIC's clock and the system's clock stepped by {by_ns} ns against each other: times are degraded"
            ),
            Event::AlarmRaised(alarm) => {
                f.write_str("alarm raised: ")?;
                alarm.write(f, true)
            }
            Event::AlarmCleared(alarm) => {
                f.write_str("alarm cleared: ")?;
                alarm.write(f, false)
            }
            _ => self.write_work(f),
        }
    }

    /// Writes an event of workers and of changes of the plan.
    fn write_work(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::WorkerStalled { lcore, stage, quiet_ms } => {
                write!(f, "lcore {lcore}: the worker has been in stage {stage} for {quiet_ms} ms")
            }
            Event::WorkerStarved { lcore, quiet_ms, ran_ms } => write!(
                f,
                "lcore {lcore}: the worker got no CPU: it ran for {ran_ms} of {quiet_ms} ms, while other threads had its CPU; keep them off \
                 it, or give the worker another (`set lcores`)"
            ),
            Event::WorkerRecovered { lcore, quiet_ms } => {
                write!(f, "lcore {lcore}: the worker goes on after {quiet_ms} ms")
            }
            Event::WorkerPanicked { lcore, stage, panic, failed, dropped } => write!(
                f,
                "lcore {lcore}: panic in stage {stage}: {panic}; {failed} packets failed, {dropped} copies dropped; please report this"
            ),
            Event::BurstDumped { lcore, path } => {
                write!(f, "lcore {lcore}: the burst's frames are in {path}")
            }
            Event::BurstNotDumped { lcore, error } => {
                write!(f, "lcore {lcore}: the burst's frames cannot be written: {error}")
            }
            Event::WorkerLost { lcore } => write!(f, "the worker on lcore {lcore} ended by itself"),
            Event::SwapLate { lcore } => write!(f, "lcore {lcore} has not taken up the plan yet"),
            Event::PlanChanged { rules, planned_ms, in_force_ms } => write!(
                f,
                "plan changed: {rules} rules; planned in {planned_ms:.1} ms, in force in {in_force_ms:.1} ms"
            ),
            Event::RolledBack { to, why } => write!(f, "plan {to} is in force again: {why}"),
            Event::RollbackFailed { to, why } => write!(f, "plan {to} could not be brought back ({why})"),
            _ => self.write_end(f),
        }
    }

    /// Writes an event of the end.
    fn write_end(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::StatisticsLost { path, error } => {
                write!(f, "{path}: statistics cannot be written: {error}")
            }
            Event::PacketsPassedOver { port, path, packets } => write!(
                f,
                "port {port}: packets of {path} that are no Ethernet frames, and that none can be made of, were passed over: {packets}"
            ),
            Event::CopiesUnwritten { tool, copies, seconds, .. } => write!(
                f,
                "tool {tool}: its file did not take {copies} copies within {seconds} s after the end; they are counted as `congested`"
            ),
            Event::CaptureStuck { tool } => {
                write!(f, "tool {tool}: its file takes nothing; what waited for it was dropped")
            }
            Event::OutputShort { port, path, sent, whole } => write!(
                f,
                "port {port}: {path}: of {sent} packets that were sent {whole} are whole in the file"
            ),
            Event::EndedForGone { ports } => {
                let ports = ports.join(", ");
                write!(f, "the run ends, since ports are gone: {ports}")
            }
            Event::EndFailed { error } => f.write_str(error),
            Event::OutOfBalance {} => {
                f.write_str("the account does not balance; please report this with the statistics above")
            }
            Event::ReplayUnfinished { port, path, read, left, is_least, because, due_ns, mbufs } => {
                let left = match left {
                    None => "without end".to_owned(),
                    Some(left) if *is_least => format!("more than {left}"),
                    Some(left) => left.to_string(),
                };
                if *because == Unfinished::Starved {
                    starved(f, port, *read, mbufs.unwrap_or_default())?;
                    return write!(f, " (packets left: {left})");
                }
                write!(
                    f,
                    "port {port}: {path} was not read to its end (packets read: {read}, left: {left})"
                )?;
                match because {
                    Unfinished::Asked | Unfinished::Starved => Ok(()),
                    Unfinished::TimeUp => {
                        f.write_str(": the time was up; raise --duration, or say --exit-idle in its place")
                    }
                    Unfinished::Early => write!(
                        f,
                        ": the next is due in {}; say maxgap=1s or speed=max of the replay, or raise --exit-idle",
                        Span(due_ns.unwrap_or_default())
                    ),
                    Unfinished::Idle => {
                        f.write_str(": none came for as long as --exit-idle says; raise it")
                    }
                }
            }
            other => other.write_kept(f),
        }
    }
}

/// Writes the text of the log line.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_start(f)
    }
}

/// Writes what is wrong with a replay whose packets find no mbuf.
fn starved(f: &mut fmt::Formatter<'_>, port: &str, packets: u64, mbufs: u32) -> fmt::Result {
    write!(
        f,
        "port {port}: {packets} packets were read, and the next finds none of {mbufs} mbufs free: tools hold them; raise `set mempool`"
    )
}

/// Writes what did not let a copy through a tunnel, and what mends it.
fn write_refused(
    f: &mut fmt::Formatter<'_>,
    tool: &str,
    reason: IcmpReason,
    by: IpAddr,
    mtu: Option<u32>,
) -> fmt::Result {
    write!(f, "tool {tool}: {by} refuses copies, {reason}: ")?;
    f.write_str(match reason {
        IcmpReason::NetworkUnreachable => "say a route to the tunnel's `dst` to the routers on the way",
        IcmpReason::HostUnreachable => {
            "nobody has the tunnel's `dst`; start the far end, or say another `dst`"
        }
        IcmpReason::ProtocolUnreachable => "nothing takes GRE there; set up the tunnel's end",
        IcmpReason::PortUnreachable => {
            "nothing takes the tunnel's UDP port there; start what ends the tunnel, or say its `udp-port`"
        }
        IcmpReason::TooBig => match mtu {
            Some(mtu) => return write!(f, "the way carries {mtu} bytes; say `mtu {mtu}` of the tool"),
            None => "the way carries less than the tool's `mtu`; say a smaller one",
        },
        IcmpReason::Prohibited => "a filter on the way forbids them; allow the tunnel there",
        IcmpReason::TimeExceeded => "routers pass them in a circle, or the tool's `ttl` is too small",
        IcmpReason::Other => "capture the ICMP message on the tool's port to see why",
    })
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// An event with its number and its time.
#[derive(Clone, PartialEq, Debug)]
pub struct Recorded {
    /// Counts from 1; none is left out.
    pub seq: u64,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    pub event: Event,
}

impl Recorded {
    /// Returns what statistics show of the event, if it is the change of a tool or of a link.
    pub fn entry(&self) -> Option<EventEntry> {
        let change = match self.event.clone() {
            Event::ToolChanged { tool, from, to, reason } => Change::Tool { tool, from, to, reason },
            Event::PortChanged { port, from, to } => Change::Port { port, from, to },
            _ => return None,
        };
        Some(EventEntry { time: seconds(self.time_ns), change })
    }

    /// Returns the event as an object of [`SCHEMA`], of the broker of this name.
    pub fn object_of<'a>(&'a self, broker: &'a str) -> impl Serialize + 'a {
        Object {
            schema: SCHEMA,
            time: seconds(self.time_ns),
            broker,
            seq: self.seq,
            level: self.event.level(),
            object: self.event.object(),
            text: self.event.to_string(),
            event: &self.event,
        }
    }
}

#[derive(Serialize)]
struct Object<'a> {
    schema: &'static str,
    time: f64,
    broker: &'a str,
    seq: u64,
    level: Level,
    object: String,
    text: String,
    #[serde(flatten)]
    event: &'a Event,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_the_numbers_of_syslog() {
        assert_eq!(Level::ALL.map(Level::number), [3, 4, 5, 6, 7]);
    }
}
