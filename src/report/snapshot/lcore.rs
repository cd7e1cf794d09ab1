//! The snapshot's entry of an lcore: its stages, and what it does with its time.

use tapline_api::snapshot::{BurstSizes, LcoreEntry, StageCycles};
use tapline_api::words::{LcoreRole, Stage};
use tapline_datapath::counters::WorkerCounters;

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
pub fn entry(stages: Stages, counters: &WorkerCounters, is_stalled: bool, stalls: u64) -> LcoreEntry {
    let own = &counters.lcore;
    let packets = own.timed_packets.get();
    let cycles = |stage: Stage| round(own.stage_ticks[stage as usize].get() as f64 / packets as f64, 10.0);
    LcoreEntry {
        stages: stages.roles(),
        received: counters.received(),
        from_rings: own.from_rings.get(),
        turns: own.turns.get(),
        idle_turns: own.idle_turns.get(),
        polls: own.polls(),
        empty_polls: own.empty_polls.get(),
        busy: round(own.busy_ticks.get() as f64 / own.ticks.get().max(1) as f64, 1e4),
        sleeps: own.sleeps.get(),
        bursts: BurstSizes(std::array::from_fn(|size| own.bursts[size].get())),
        stage: own.stage(),
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

fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}
