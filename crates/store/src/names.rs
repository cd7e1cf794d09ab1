//! Names of segments: `FIRSTNS-SEQ.pcapng`, and `.FIRSTNS-SEQ.pcapng.part` while they are written.

use std::fmt;

/// The name of the segment that is opened beforehand: it has no packet yet, and so no first one.
pub(crate) const NEXT: &str = ".next.pcapng.part";

/// A segment's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SegmentName {
    /// The number of the segment in its folder; the oldest has the lowest.
    pub seq: u64,
    /// The time of its first packet, in nanoseconds since the Unix epoch.
    pub first_ns: u64,
}

impl SegmentName {
    /// Reads the name of a visible segment.
    pub fn of(file_name: &str) -> Option<Self> {
        let (first_ns, seq) = file_name.strip_suffix(".pcapng")?.split_once('-')?;
        let number =
            |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok());
        let name = Self { first_ns: number(first_ns)??, seq: number(seq)?? };
        (name.to_string() == file_name).then_some(name)
    }

    /// Reads the name of a segment that is, or was, being written.
    pub(crate) fn of_part(file_name: &str) -> Option<Self> {
        Self::of(file_name.strip_prefix('.')?.strip_suffix(".part")?)
    }

    /// Gives its name while it is written.
    pub(crate) fn part(self) -> String {
        format!(".{self}.part")
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // as many digits as a time of today has: names are in order as text, too
        write!(out, "{:019}-{:08}.pcapng", self.first_ns, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_nothing_else_is_one() {
        for (seq, first_ns) in [(0, 0), (7, 1_700_000_000_123_456_789), (u64::MAX, u64::MAX)] {
            let name = SegmentName { seq, first_ns };
            assert_eq!(SegmentName::of(&name.to_string()), Some(name));
            assert_eq!(SegmentName::of_part(&name.part()), Some(name));
        }
        for other in [
            "",
            "-",
            "1-2.pcapng",
            "1700000000123456789-00000007.pcap",
            NEXT,
            "dns.pcapng",
            "+700000000123456789-00000007.pcapng",
            "1700000000123456789-00000007.pcapng.zst",
            "1700000000123456789-.pcapng",
            "99999999999999999999999-00000001.pcapng",
        ] {
            assert_eq!(SegmentName::of(other), None, "{other}");
            assert_eq!(SegmentName::of_part(other), None, "{other}");
        }
    }
}
