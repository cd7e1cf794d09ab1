//! `net_pcap` in, `net_pcap` out.

#[allow(dead_code, reason = "the filter suites use the rest")]
#[path = "../../offline/filter/captures.rs"]
mod captures;
/// What rules, groups, samplers, several ports and several workers make of packets, by models.
mod delivery;
/// Each tool's capture, by `tcpdump -r`.
mod selection;
