//! Sampling, dedup, schedules, groups and tool health in the running program, on captures and on devices of this machine.

/// The account while packets flow.
mod balance;
/// Dedup in the running program.
mod dedup;
/// Tools that fail or are taken out of service.
mod failover;
/// No flow is split, by tshark.
mod flows;
/// What workers ask of the heap.
mod memory;
/// Samplers of two programs; how evenly a group spreads flows.
mod sampling;
/// Limits and schedules.
mod schedule;
/// Statistics after `clear stats` and on the way.
mod statistics;
/// Two workers at once.
mod workers;
