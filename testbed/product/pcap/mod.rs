//! `net_pcap` in, `net_pcap` out.

/// What rules, groups, samplers, several ports and several workers make of packets, by models.
mod delivery;
/// Each tool's capture, by `tcpdump -r`.
mod selection;
