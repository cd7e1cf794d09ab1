//! Numbers as people read them: three digits and a prefix, and never a zero for what is not nothing.

/// A unit that rates are counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(super) enum Unit {
    #[default]
    Packets,
    Bits,
    Bytes,
}

impl Unit {
    /// Returns the unit that the key `u` goes on to.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Packets => Self::Bits,
            Self::Bits => Self::Bytes,
            Self::Bytes => Self::Packets,
        }
    }

    /// Returns the word of rates in this unit.
    pub(super) fn rate_word(self) -> &'static str {
        match self {
            Self::Packets => "packets/s",
            Self::Bits => "bits/s",
            Self::Bytes => "bytes/s",
        }
    }

    /// Chooses the rate of this unit.
    pub(super) fn of(self, packets: f64, bytes: f64) -> f64 {
        match self {
            Self::Packets => packets,
            Self::Bits => bytes * 8.0,
            Self::Bytes => bytes,
        }
    }
}

/// Writes a number with three digits and a prefix of the SI, such as `1.27 M`. What is above zero is not shown as `0`.
pub(super) fn short(value: f64) -> String {
    let value = value.max(0.0);
    if value == 0.0 {
        return "0".to_owned();
    }
    if value < 0.01 {
        return "<0.01".to_owned();
    }
    let (mut scaled, mut prefix) = (value, "");
    for next in ["k", "M", "G", "T", "P"] {
        // 999.5 is shown with its thousand
        if scaled < 999.5 {
            break;
        }
        (scaled, prefix) = (scaled / 1000.0, next);
    }
    let is_whole = prefix.is_empty() && (scaled - scaled.round()).abs() < 1e-9;
    let decimals = match scaled {
        _ if is_whole => 0,
        s if s < 9.995 => 2,
        s if s < 99.95 => 1,
        _ => 0,
    };
    let blank = if prefix.is_empty() { "" } else { " " };
    format!("{scaled:.decimals$}{blank}{prefix}")
}

/// Writes a share of 0 to 1 in percent. What is lost is not shown as `0 %`, and what is not all not as `100 %`.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        p if p <= 0.0 => "0 %".to_owned(),
        p if p < 0.1 => "<0.1 %".to_owned(),
        p if p < 9.95 => format!("{p:.1} %"),
        p if p < 100.0 => format!("{:.0} %", p.min(99.0)),
        p => format!("{p:.0} %"),
    }
}

/// Writes a time of some nanoseconds.
pub(super) fn nanoseconds(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => (ns as f64, "ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let decimals = if unit == "ns" || value >= 99.95 { 0 } else { 1 };
    format!("{value:.decimals$} {unit}")
}

/// Writes how long something lasted, with its two largest units.
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Draws the last `width` values as bars, the latest at the right. Bars begin at zero, and the highest value is a full one.
pub(super) fn spark<'a>(values: impl DoubleEndedIterator<Item = &'a f64>, width: usize) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let mut shown: Vec<f64> = values.rev().take(width).copied().collect();
    shown.reverse();
    let most = shown.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| match *value {
        value if value <= 0.0 || most <= 0.0 => BARS[0],
        // what is not nothing has a bar
        value => BARS[((value / most * 8.0).round() as usize).clamp(1, 8)],
    };
    let bars: String = shown.iter().map(bar).collect();
    format!("{bars:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_nothing_but_zero_is_zero() {
        for (value, text) in [
            (0.0, "0"),
            (0.004, "<0.01"),
            (0.25, "0.25"),
            (7.0, "7"),
            (53_400.0, "53.4 k"),
            (999.4, "999"),
            (999.6, "1.00 k"),
            (1_274_000.0, "1.27 M"),
            (137_000.0, "137 k"),
            (9_999_000.0, "10.0 M"),
            (2.5e10, "25.0 G"),
        ] {
            assert_eq!(short(value), text, "{value}");
        }
    }

    #[test]
    fn shares_and_times_are_short_and_true() {
        let shares = [0.0, 0.0004, 0.006, 0.18, 0.9996, 1.0].map(percent);
        assert_eq!(shares, ["0 %", "<0.1 %", "0.6 %", "18 %", "99 %", "100 %"]);
        let times = [800, 88_000, 18_200_000, 2_000_000_000].map(nanoseconds);
        assert_eq!(times, ["800 ns", "88.0 µs", "18.2 ms", "2.0 s"]);
        let lengths = [41.0, 133.0, 3_700.0, 533_520.0].map(duration);
        assert_eq!(lengths, ["41 s", "2 min 13 s", "1 h 1 min", "6 d 4 h"]);
    }

    #[test]
    fn bars_begin_at_zero_and_end_with_the_latest_value() {
        assert_eq!(spark([0.0, 4.0, 8.0].iter(), 5), "   ▄█");
        assert_eq!(spark([9.0, 1.0, 8.0].iter(), 2), "▁█");
        assert_eq!(spark([0.0, 0.0].iter(), 3), "   ");
        assert_eq!(spark([1e-9, 1.0].iter(), 2), "▁█");
    }
}
