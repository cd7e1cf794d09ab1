//! The snapshot's entry of an lcore: its stages, and what it does with its time.

use crate::health::watchdogs::Watchdog;
use tapline_api::snapshot::{BurstSizes, LcoreEntry, Recent, StageCycles};
use tapline_api::words::{LcoreRole, Stage};
use tapline_datapath::counters::WorkerCounters;
use tapline_dpdk::clock::tsc_hz;

/// The stages that run on an lcore.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stages {
    pub receives: bool,
    pub works: bool,
    pub transmits: bool,
}

impl Stages {
    /// Returns the stages that there are.
    fn roles(self) -> Vec<LcoreRole> {
        let stages = [self.receives, self.works, self.transmits];
        LcoreRole::ALL
            .into_iter()
            .zip(stages)
            .filter(|(_, is_there)| *is_there)
            .map(|(role, _)| role)
            .collect()
    }
}

/// Shows what a worker counted of its own time.
pub fn entry(stages: Stages, counters: &WorkerCounters, watchdog: &Watchdog) -> LcoreEntry {
    let own = &counters.lcore;
    let packets = own.timed_packets.get();
    let cycles = |stage: Stage| round(own.stage_ticks[stage as usize].get() as f64 / packets as f64, 10.0);
    LcoreEntry {
        stages: stages.roles(),
        received: counters.received(),
        received_bytes: counters.received_bytes(),
        from_rings: own.from_rings.get(),
        turns: own.turns.get(),
        idle_turns: own.idle_turns.get(),
        polls: own.polls(),
        empty_polls: own.empty_polls.get(),
        busy: share(own.busy_ticks.get(), own.ticks.get()),
        busy_ns: nanoseconds(own.busy_ticks.get()),
        total_ns: nanoseconds(own.ticks.get()),
        sleeps: own.sleeps.get(),
        bursts: BurstSizes(std::array::from_fn(|size| own.bursts[size].get())),
        stage: own.stage(),
        is_stalled: watchdog.is_stalled(),
        stalls: watchdog.stalls,
        starvations: watchdog.starvations,
        panics: own.panics.get(),
        cycles_per_packet: (packets > 0).then(|| StageCycles {
            receive: cycles(Stage::Receive),
            classify: cycles(Stage::Classify),
            route: cycles(Stage::Route),
            egress: cycles(Stage::Egress),
            packets,
        }),
        recent: Recent::default(),
    }
}

/// Returns the busy part of a time, 0 to 1, with four digits.
pub(in crate::report) fn share(busy: u64, total: u64) -> f64 {
    round(busy as f64 / total.max(1) as f64, 1e4)
}

fn nanoseconds(ticks: u64) -> u64 {
    (ticks as f64 * 1e9 / tsc_hz() as f64) as u64
}

fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}
