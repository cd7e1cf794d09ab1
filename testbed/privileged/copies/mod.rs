//! Copies that the kernel or a switch takes.

/// UDP checksums that a tap's port computes.
mod offload;
/// ERSPAN to Open vSwitch.
mod ovs;
/// Tunnels to the kernel's VXLAN device, next hops by ARP and ND.
mod veth;
