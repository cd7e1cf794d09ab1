//! Sampling, dedup, schedules, groups and tool health in the running program, on captures and on devices of this machine.

mod dedup;
mod failover;
mod flows;
mod memory;
mod sampling;
mod schedule;
mod statistics;
mod workers;
