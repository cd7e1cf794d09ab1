//! Machines that judge: no clock, no thread, no device. Time goes in, what has changed comes out.

/// Echoes to the far ends of tunnels, and which frames answer them.
pub mod echo;
/// ICMP errors about copies that were sent in tunnels.
pub mod icmp_error;
/// Loss of packets and copies, told once while it goes on.
pub mod loss;
/// The address of the next hop of a tunnel: asked for by ARP and neighbour discovery, and refreshed.
pub mod next_hop;
/// Heartbeats through a tool: what was sent, what came back.
pub mod probe;
/// Answers to ARP, neighbour discovery and ping for Tapline's own addresses.
pub mod responder;
/// Judges whether a tool is up, by its link, its queue and its heartbeats.
pub mod tool;
/// Workers that hang, mempools that are used up, links that follow each other.
pub mod watchdogs;
