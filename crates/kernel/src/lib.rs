//! The second fence: what Tapline asks the kernel itself, as safe functions. It needs no DPDK.
#![warn(clippy::too_many_lines)]

/// The system's clocks: who keeps them, and one that is never set.
pub mod clock;
/// File systems: their room, and what may be done there.
pub mod disk;
/// Offloads of interfaces.
pub mod ethtool;
/// Interfaces of the kernel: their indices, flags and hardware types.
pub mod interface;
/// Memory, open files, and files of a size: what the kernel lets this process have.
pub mod limits;
/// CPUs, pages and threads, as this process finds them.
pub mod machine;
/// Packet sockets: frames of one interface, received by rings and sent.
pub mod packet;
/// Who is at the other end of a Unix socket.
pub mod peer;
/// This process.
pub mod process;
/// Memory for keys, and cores.
pub mod secret;
/// Sockets that this process has open, and what the kernel counts of each.
pub mod socket;
/// Space that is reserved for files, bytes that do not stay in the page cache, and the room of file systems.
pub mod storage;
/// The terminal that standard input comes from.
pub mod terminal;
