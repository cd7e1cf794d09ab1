//! The second fence: what Tapline asks the kernel itself, as safe functions. It needs no DPDK.

/// Memory, open files, and files of a size: what the kernel lets this process have.
pub mod limits;
