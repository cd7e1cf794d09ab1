//! Sampling, dedup, schedules, groups and tool health in the running program, on captures and on devices of this machine.

#[allow(dead_code)]
#[path = "../classify/captures.rs"]
mod captures;
mod dedup;
mod devices;
mod failover;
mod flows;
mod memory;
mod probes;
mod sampling;
mod schedule;
mod statistics;
mod support;
mod workers;
