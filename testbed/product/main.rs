//! The product as any user runs it: `tapline` with EAL on ordinary pages, several at a time. No test needs root for most of its
//! work; what does says that it is skipped.

/// Rules that are changed while packets flow.
mod changes;
/// Messages, exit status, signals, statistics, the prompt, and files.
mod cli;
/// Copies as tools want them, `net_pcap` in and out.
mod copies;
/// Queues, classes, rates, pools and latency of tools, and wires.
mod egress;
/// What is said of packets and why, beside runs, tcpdump and tshark.
mod explain;
/// Clocks that are set, lcores that hang, memif readers that die, stages that panic.
mod faults;
/// The pages of the guide that need no root.
mod guide;
/// Stages on lcores of their own.
mod lcores;
/// Ports, tools, groups and wires that come and go while packets flow.
mod live;
/// A simulated NIC: its times, hashes and tags, and the work that it is asked for.
mod nic;
/// The account at full speed, on `net_null`.
mod null;
/// Each tool's capture, by `tcpdump -r` and models.
mod pcap;
/// The files in `pipelines/` and the README's example.
mod pipelines;
/// Each kind of change that cannot be taken up.
mod prepare;
/// Whole files, drawn at random, that take each other's place while packets flow.
mod reloads;
/// Every place where a start can fail.
mod start;
/// Packets with their own times: captures as ports and tools, merging, replays, tunnels that end.
mod times;
/// Sampling, dedup, schedules, groups and failover.
mod tools;
