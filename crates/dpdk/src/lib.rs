//! The fence: safe owners of DPDK things, one file each. Raw pointers, raw integers and C results stop here.
#![warn(clippy::too_many_lines)]
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used))]

pub mod attach_advice;
pub mod clock;
mod device;
pub mod driver;
pub mod eal;
pub mod error;
mod kernel_drops;
mod kernel_tx;
pub mod lcore;
pub mod mbuf;
pub mod mempool;
pub mod port;
pub mod queue;
pub mod ring;
pub mod telemetry;

pub use eal::Eal;
pub use error::Error;

/// An ethdev, as DPDK numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct EthdevId(pub u16);

/// A receive or transmit queue of one ethdev.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct QueueId(pub u16);

/// A logical core of EAL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LcoreId(pub u32);

/// A NUMA node. `None` where the device has no preference.
pub type SocketId = Option<u32>;

/// Gives the number of a socket as DPDK takes it; that of "any socket" for `None`.
fn raw_socket(socket: SocketId) -> i32 {
    socket.map_or(dpdk_sys::SOCKET_ID_ANY, |id| id as i32)
}

/// The DPDK release that is linked, such as `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: `rte_version` takes nothing and returns a static, NUL-terminated string.
    let text = unsafe { std::ffi::CStr::from_ptr(dpdk_sys::rte_version()) };
    text.to_string_lossy().into_owned()
}
