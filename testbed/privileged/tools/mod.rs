//! Tools on interfaces of the kernel.

/// Tools on devices that fail in mid-traffic.
mod devices;
/// Heartbeats and echoes.
mod probes;
