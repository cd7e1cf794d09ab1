//! What is shown of an lcore: its stages, and what it does with its time.

use serde::Serialize;
use serde::ser::Serializer;

use tapline_datapath::counters::{BURST_SIZES, Stage, WorkerCounters};
use tapline_dpdk::LcoreId;

/// One lcore's use of its time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LcoreState {
    #[serde(skip)]
    pub lcore: LcoreId,
    /// What it does with packets.
    pub stages: Stages,
    pub received: u64,
    /// Packets that receive lcores handed over.
    pub from_rings: u64,
    pub turns: u64,
    pub idle_turns: u64,
    pub polls: u64,
    pub empty_polls: u64,
    /// Share of the time in which there was something to do, 0 to 1.
    pub busy: f64,
    pub sleeps: u64,
    /// Bursts by size.
    pub bursts: BurstSizes,
    /// What the worker is doing.
    pub stage: &'static str,
    pub is_stalled: bool,
    /// How often the worker did not finish a turn in time.
    pub stalls: u64,
    /// Panics that the worker went on after.
    pub panics: u64,
    /// With `--profile`: ticks of the time-stamp counter a packet, by stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycles_per_packet: Option<StageCycles>,
}

/// The stages that run on an lcore.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stages {
    pub receives: bool,
    pub works: bool,
    pub transmits: bool,
}

impl Stages {
    /// Run to completion.
    pub const ALL: Stages = Stages { receives: true, works: true, transmits: true };

    /// The words of the pipeline language.
    pub fn names(self) -> Vec<&'static str> {
        let stages = [("receive", self.receives), ("work", self.works), ("transmit", self.transmits)];
        stages.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
    }
}

impl Serialize for Stages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// Bursts of 1, 2-3, 4-7, … 64 packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BurstSizes(pub [u64; BURST_SIZES]);

impl BurstSizes {
    pub const NAMES: [&str; BURST_SIZES] = ["1", "2-3", "4-7", "8-15", "16-31", "32-63", "64"];
}

impl Serialize for BurstSizes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Self::NAMES.iter().zip(self.0))
    }
}

/// Cycles a packet from receive to egress, of the bursts that were timed.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct StageCycles {
    pub receive: f64,
    pub classify: f64,
    pub route: f64,
    pub egress: f64,
    /// Packets that these are of.
    pub packets: u64,
}

impl LcoreState {
    /// What a worker counted of its own time.
    pub fn of(
        lcore: LcoreId,
        stages: Stages,
        counters: &WorkerCounters,
        is_stalled: bool,
        stalls: u64,
    ) -> Self {
        let own = &counters.lcore;
        let packets = own.timed_packets.get();
        let cycles =
            |stage: Stage| round(own.stage_ticks[stage as usize].get() as f64 / packets as f64, 10.0);
        Self {
            lcore,
            stages,
            received: counters.received(),
            from_rings: own.from_rings.get(),
            turns: own.turns.get(),
            idle_turns: own.idle_turns.get(),
            polls: own.polls(),
            empty_polls: own.empty_polls.get(),
            busy: round(own.busy_ticks.get() as f64 / own.ticks.get().max(1) as f64, 1e4),
            sleeps: own.sleeps.get(),
            bursts: BurstSizes(std::array::from_fn(|size| own.bursts[size].get())),
            stage: own.stage().name(),
            is_stalled,
            stalls,
            panics: own.panics.get(),
            cycles_per_packet: (packets > 0).then(|| StageCycles {
                receive: cycles(Stage::Receive),
                classify: cycles(Stage::Classify),
                route: cycles(Stage::Route),
                egress: cycles(Stage::Egress),
                packets,
            }),
        }
    }
}

fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}
