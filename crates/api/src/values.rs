//! Values that mean the same to the language, to the data path and to clients.

use std::fmt;
use std::time::Duration;

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

/// A span of time in nanoseconds, written as people say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = Duration::from_nanos(self.0);
        let seconds = span.as_secs();
        match seconds {
            0..60 => write!(f, "{span:.1?}"),
            60..3600 => write!(f, "{} m", seconds / 60),
            3600..86_400 => write!(f, "{} h", seconds / 3600),
            _ => write!(f, "{} days", seconds / 86_400),
        }
    }
}

/// Returns nanoseconds since the Unix epoch as seconds, to the millisecond.
pub fn seconds(ns: u64) -> f64 {
    (ns / 1_000_000) as f64 / 1e3
}
