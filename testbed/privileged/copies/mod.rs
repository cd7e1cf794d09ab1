//! Copies that the kernel or a switch takes.

/// Ends of tunnels that the kernel finds and sends to, and its ICMP errors about copies.
mod ends;
/// Frames that a stranger on a tunnel's link forges, and two that answer for one next hop.
mod neighbours;
/// UDP checksums that a tap's port computes.
mod offload;
/// ERSPAN to Open vSwitch.
mod ovs;
/// Tunnels to the kernel's VXLAN device, next hops by ARP and ND.
mod veth;
