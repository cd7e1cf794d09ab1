//! What fails while packets flow, and is accounted for to the last packet and copy.

/// The system's clock is set.
pub(crate) mod clocks;
/// Lcores are held up by a device.
mod lcores;
/// A memif reader freezes, dies and is replaced.
mod memif;
/// Stages panic.
mod panics;
