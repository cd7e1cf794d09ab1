//! Values in the units of the language: each is read by the function of the same name.

use std::time::Duration;

use super::super::ast::Ranges;
use super::super::ast::rule::Window;
use super::super::value::{BINARY, BITS, DECIMAL, PACKETS, TIME, WEEK_DAYS};
use tapline_api::values::{Rate, ReplaySpeed};
use tapline_packet::headers::layer::{Layer, LayerSet};

/// Gives the number in the greatest of `units` in which it is whole. The first of them has the size 1.
fn in_units(n: u128, units: &[(&str, u64)]) -> String {
    let fits = |scale: u64| n > 0 && n.is_multiple_of(scale.into());
    // `max_by_key` gives the last of those that are alike
    let greatest = units.iter().rev().filter(|(_, scale)| fits(*scale)).max_by_key(|(_, scale)| *scale);
    let (unit, scale) = greatest.or(units.first()).copied().unwrap_or(("", 1));
    format!("{}{unit}", n / u128::from(scale))
}

pub(super) fn count(n: u64) -> String {
    in_units(n.into(), &DECIMAL)
}

/// As a count, or in powers of 1024 where it is whole only in those.
pub(super) fn bytes(n: u64) -> String {
    let least = BINARY[0].1;
    if n > 0 && n.is_multiple_of(least) && !n.is_multiple_of(1000) {
        in_units(n.into(), &BINARY)
    } else {
        count(n)
    }
}

pub(super) fn duration(duration: Duration) -> String {
    in_units(duration.as_nanos(), &TIME)
}

pub(super) fn rate(rate: Rate) -> String {
    match rate {
        Rate::BitsPerSecond(bits) => in_units(bits.into(), &BITS),
        Rate::PacketsPerSecond(packets) => in_units(packets.into(), &PACKETS),
    }
}

pub(super) fn percent(percent: u8) -> String {
    format!("{percent}%")
}

pub(super) fn replay_speed(speed: ReplaySpeed) -> String {
    match speed {
        ReplaySpeed::Original => "original".to_owned(),
        ReplaySpeed::Max => "max".to_owned(),
        ReplaySpeed::Times { thousandths } => format!("{}x", fraction(thousandths, 3)),
    }
}

/// Gives the number of `10^-places`, without zeros at its end.
fn fraction(n: u64, places: u32) -> String {
    let (whole, rest) = (n / 10_u64.pow(places), n % 10_u64.pow(places));
    let written = format!("{whole}.{rest:0places$}", places = places as usize);
    written.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(super) fn ranges(Ranges(ranges): &Ranges) -> String {
    let range = |&(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

pub(super) fn lcores(lcores: &[u32]) -> String {
    let mut found: Vec<(u32, u32)> = Vec::new();
    for &lcore in lcores {
        match found.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(lcore) => *last = lcore,
            _ => found.push((lcore, lcore)),
        }
    }
    ranges(&Ranges(found))
}

/// `all` is the word for all of them, which differs from the list of those that have words.
pub(super) fn layers(layers: LayerSet, all: &str) -> String {
    if layers == LayerSet::ALL {
        return all.to_owned();
    }
    let words = Layer::ALL.into_iter().filter(|layer| layers.contains(*layer)).map(Layer::word);
    words.collect::<Vec<_>>().join(",")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// In UTC (RFC 3339), with as many digits behind the seconds as it needs.
///
/// # Source
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`: years begin in March, so that the leap day ends one.
pub(super) fn timestamp(ns: u64) -> String {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    /// From the first of March of the year 0 to the epoch.
    const DAYS_BEFORE_1970: u64 = 719_468;
    let (seconds, nanos) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (days, seconds) = (seconds / 86_400 + DAYS_BEFORE_1970, seconds % 86_400);
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let behind = fraction(nanos, 9);
    let behind = behind.strip_prefix('0').unwrap_or_default();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{behind}Z")
}

/// The windows of a schedule, without its zone.
pub(super) fn windows(schedule: &[Window]) -> String {
    schedule.iter().map(window).collect::<Vec<_>>().join("; ")
}

fn window(&Window { days, from_minute, until_minute }: &Window) -> String {
    let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    format!("{} {}-{}", week_days(days), time(from_minute), time(until_minute))
}

fn week_days(days: u8) -> String {
    if days == 0x7f {
        return "daily".to_owned();
    }
    let is_on = |day: usize| days >> day & 1 == 1;
    let mut items = Vec::new();
    let mut day = 0;
    while day < WEEK_DAYS.len() {
        let first = day;
        while day < WEEK_DAYS.len() && is_on(day) {
            day += 1;
        }
        match day - first {
            0 => day += 1,
            1 => items.push(WEEK_DAYS[first].to_owned()),
            _ => items.push(format!("{}-{}", WEEK_DAYS[first], WEEK_DAYS[day - 1])),
        }
    }
    items.join(",")
}
