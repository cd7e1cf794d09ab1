//! Packets in mbufs: a burst as it was received, the references that its copies share, and the queues in front of tools.
//!
//! Every pointer in these types stands for one reference that the type owns. A poll gives a burst one to each packet. Further ones
//! are made by [`MbufBurst::share`] and [`MbufBurst::share_alike`], which lend them to the tools as [`Shared`] and [`Alike`], and by
//! [`MbufBurst::again`]. They are taken to a queue, given up to the driver or to a ring, or freed: none is lost and none is used
//! twice, whatever the caller does. None is freed after its pool: a pool whose owner goes while mbufs are out stays, and with it EAL ([`crate::Eal`]).

/// Packets as one poll received them.
mod burst;
/// Copies that are not the packets themselves.
pub mod copy;
/// Fields of mbufs, and what is asked of raw pointers to them.
pub(crate) mod field;
/// Packets one after the other, in front of a tool or a ring.
mod queue;
/// References that a burst lends out.
mod share;
/// Packets as bytes: where they are, or joined.
mod view;

pub use burst::{MbufBurst, Place, burst_of};
pub use field::{RxStamp, prefetch};
pub use queue::{MbufQueue, Packet};
pub use share::{Alike, MOST_REFERENCES, Shared};
pub use view::{Frames, Linear, MbufFrames, MbufHeaders};
