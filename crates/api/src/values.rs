//! Values that mean the same to the language and to the data path.

/// So many bits or packets in one second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    /// Bits of frames from the Ethernet header on, without FCS, preamble and gap.
    BitsPerSecond(u64),
    PacketsPerSecond(u64),
}

/// How fast a replay gives its packets.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ReplaySpeed {
    /// The gaps of the capture.
    Original,
    /// As fast as the pipeline takes packets.
    Max,
    /// The gaps of the capture divided by this many thousandths: `2x` is 2000.
    Times { thousandths: u64 },
}
