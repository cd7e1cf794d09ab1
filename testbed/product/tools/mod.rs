//! Sampling, dedup, schedules, groups and tool health in the running program, on captures and on devices of this machine.

#[allow(dead_code, reason = "the suites of classification use the rest")]
#[path = "../../offline/classify/captures.rs"]
mod captures;
mod dedup;
mod failover;
mod flows;
mod memory;
mod sampling;
mod schedule;
mod statistics;
mod workers;
