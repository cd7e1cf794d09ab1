//! What needs root: veth pairs, network namespaces, tap interfaces, the kernel at the far end. Each test says that it is skipped
//! where it does not get them.

/// Users and groups at the control socket; an audit log on a full disk.
mod access;
/// Tunnels to the kernel, to Open vSwitch and through a tap's offloads.
mod copies;
/// What this machine lacks, with the commands that mend it.
mod doctor;
/// Links that flap, interfaces that go, MTUs that change, what the kernel counts as sent and missed.
mod faults;
/// The pages of the guide that need interfaces.
mod guide;
/// Interfaces of the kernel as ports of Tapline's own.
mod interfaces;
/// Stores on file systems that are small, full, read-only or gone.
mod store;
/// Tools on veth pairs, heartbeats through a bridge, echoes to the kernel.
mod tools;
