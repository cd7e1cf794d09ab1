//! Schedules: when a rule is on by itself.
//!
//! A plan holds a `Schedule` for each rule that has one; the broker asks it at a burst boundary whether the rule is on and when to ask
//! again. Everything is computed from the time that is passed in.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// When a rule is on: within its weekly hours, before its end, and not longer than its time.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// `active "Mon-Fri 08:00-18:00 Europe/Berlin"`.
    pub hours: Option<WeeklyHours>,
    /// `until 2026-12-01T00:00:00Z`, in ns since the Unix epoch. The rule is off from this instant on.
    pub until_ns: Option<u64>,
    /// `for 30m`, counted from when the rule came into force.
    pub for_ns: Option<u64>,
}

/// Whether a rule is on, and until when that holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Activity {
    pub is_on: bool,
    /// When `is_on` becomes false or true next, in ns since the Unix epoch; `None` if never.
    pub next_change_ns: Option<u64>,
}

impl Schedule {
    /// What holds at `now_ns` for a rule that came into force at `since_ns`, both in ns since the Unix epoch.
    pub fn at(&self, since_ns: u64, now_ns: u64) -> Activity {
        let end_ns = match (self.until_ns, self.for_ns.map(|for_ns| since_ns.saturating_add(for_ns))) {
            (Some(until), Some(over)) => Some(until.min(over)),
            (until, over) => until.or(over),
        };
        if end_ns.is_some_and(|end| now_ns >= end) {
            return Activity { is_on: false, next_change_ns: None };
        }
        let by_hours = self.hours.as_ref().map_or(Activity { is_on: true, next_change_ns: None }, |hours| hours.at(now_ns));
        match (by_hours.next_change_ns, end_ns) {
            (Some(change), Some(end)) if change < end => by_hours,
            (_, Some(end)) if by_hours.is_on => Activity { is_on: true, next_change_ns: Some(end) },
            // Off until after its end: it never comes on again.
            (_, Some(_)) => Activity { is_on: false, next_change_ns: None },
            (_, None) => by_hours,
        }
    }
}

/// Why the text of `active` or `until` is wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error("`{0}` is neither a weekday (Mon..Sun, Mon-Fri), hours (08:00-18:00) nor a time zone (Europe/Berlin, UTC)")]
    Word(String),
    #[error("hours `{0}`: expected HH:MM-HH:MM with a start before 24:00 and an end up to 24:00")]
    Hours(String),
    #[error("no weekdays or hours: expected, for example, `Mon-Fri 08:00-18:00`")]
    Empty,
    #[error("time zone `{0}` is not in the system's time zone database")]
    Zone(String),
    #[error("`{0}` is not an instant: expected, for example, 2026-12-01T00:00:00Z")]
    Instant(String),
}

/// Reads `until`'s instant, RFC 3339 with an offset or `Z`, as ns since the Unix epoch.
///
/// # Errors
/// If the text is no such instant or lies before 1970 or after 2554.
pub fn parse_until(text: &str) -> Result<u64, ScheduleError> {
    let instant: Timestamp = text.parse().map_err(|_| ScheduleError::Instant(text.into()))?;
    u64::try_from(instant.as_nanosecond()).map_err(|_| ScheduleError::Instant(text.into()))
}

/// Hours of weekdays in a time zone.
#[derive(Clone, Debug)]
pub struct WeeklyHours {
    spans: Vec<Span>,
    zone: TimeZone,
}

/// One stretch of hours on some weekdays. An `end` that is not after `start` is on the following day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    /// Bit 0 is Monday.
    days: u8,
    start_minute: u16,
    /// 1..=1440.
    end_minute: u16,
}

const ALL_DAYS: u8 = 0x7f;
const MINUTES_A_DAY: u16 = 24 * 60;

impl WeeklyHours {
    /// Reads weekdays and hours, separated by spaces or commas, and at the end the time zone, which otherwise is `zone`:
    /// `Mon-Fri 08:00-18:00`, `Mon,Wed 22:00-06:00, Sat 09:00-12:00 Europe/Berlin`. Days without hours mean all day, hours without
    /// days every day.
    ///
    /// # Errors
    /// If a word is none of these, or the time zone is unknown.
    pub fn parse(text: &str, zone: TimeZone) -> Result<WeeklyHours, ScheduleError> {
        let mut words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let zone = match words.last() {
            Some(&last) if parse_days(last).is_none() && !last.starts_with(|first: char| first.is_ascii_digit()) => {
                words.pop();
                if !(last.contains('/') || last == "UTC") {
                    return Err(ScheduleError::Word(last.into()));
                }
                TimeZone::get(last).map_err(|_| ScheduleError::Zone(last.into()))?
            }
            _ => zone,
        };
        let mut spans: Vec<Span> = Vec::new();
        let (mut days, mut days_have_hours) = (0u8, false);
        for word in words {
            if let Some(more) = parse_days(word) {
                if days_have_hours {
                    days = 0;
                }
                (days, days_have_hours) = (days | more, false);
            } else if word.starts_with(|first: char| first.is_ascii_digit()) {
                let (start_minute, end_minute) = parse_hours(word).ok_or_else(|| ScheduleError::Hours(word.into()))?;
                spans.push(Span { days: if days == 0 { ALL_DAYS } else { days }, start_minute, end_minute });
                days_have_hours = true;
            } else {
                return Err(ScheduleError::Word(word.into()));
            }
        }
        if days != 0 && !days_have_hours {
            spans.push(Span { days, start_minute: 0, end_minute: MINUTES_A_DAY });
        }
        if spans.is_empty() { Err(ScheduleError::Empty) } else { Ok(WeeklyHours { spans, zone }) }
    }

    /// Hours as the pipeline language gives them, each with its days (bit 0 is Monday) and its first minute of the day and the minute
    /// that it ends before, 1..=1440; one that ends before it begins ends on the next day.
    pub fn of(spans: impl IntoIterator<Item = (u8, u16, u16)>, zone: TimeZone) -> WeeklyHours {
        let spans = spans.into_iter().map(|(days, start_minute, end_minute)| Span { days, start_minute, end_minute });
        WeeklyHours { spans: spans.collect(), zone }
    }

    /// Whether `now_ns` is within the hours, and when that changes. Clock changes are followed: hours that a change skips begin that much
    /// later, and of hours that come twice the first counts.
    pub fn at(&self, now_ns: u64) -> Activity {
        let Ok(now) = Timestamp::from_nanosecond(now_ns.into()) else { return Activity { is_on: false, next_change_ns: None } };
        let today = now.to_zoned(self.zone.clone()).date();
        let mut stretches: Vec<(Timestamp, Timestamp)> = (-1..=8)
            .filter_map(|day| today.checked_add(day.days()).ok())
            .flat_map(|date| self.spans.iter().filter_map(move |span| self.stretch(span, date)))
            .collect();
        stretches.sort();
        let mut merged: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (start, end) in stretches {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        let nanoseconds = |instant: Timestamp| u64::try_from(instant.as_nanosecond()).ok();
        let horizon = now.checked_add(jiff::SignedDuration::from_hours(7 * 24 + 1)).unwrap_or(Timestamp::MAX);
        match merged.into_iter().find(|&(_, end)| now < end) {
            Some((start, _)) if now < start => Activity { is_on: false, next_change_ns: nanoseconds(start) },
            // Hours that last longer than a week without a gap are all the week.
            Some((_, end)) if end > horizon => Activity { is_on: true, next_change_ns: None },
            Some((_, end)) => Activity { is_on: true, next_change_ns: nanoseconds(end) },
            None => Activity { is_on: false, next_change_ns: None },
        }
    }

    /// The instants between which `span` is on that begins on `date`, if it does.
    fn stretch(&self, span: &Span, date: Date) -> Option<(Timestamp, Timestamp)> {
        if span.days >> date.weekday().to_monday_zero_offset() & 1 == 0 {
            return None;
        }
        let last_day = if span.end_minute <= span.start_minute { date.tomorrow().ok()? } else { date };
        let start = self.instant(date, span.start_minute)?;
        let end = self.instant(last_day, span.end_minute)?;
        (start < end).then_some((start, end))
    }

    fn instant(&self, date: Date, minute: u16) -> Option<Timestamp> {
        let (date, minute) = if minute == MINUTES_A_DAY { (date.tomorrow().ok()?, 0) } else { (date, minute) };
        let time = Time::new((minute / 60).try_into().ok()?, (minute % 60).try_into().ok()?, 0, 0).ok()?;
        self.zone.to_timestamp(date.to_datetime(time)).ok()
    }
}

/// `Mon`, `Mon-Fri` or `Sat-Mon` as bits.
fn parse_days(word: &str) -> Option<u8> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last) = (parse_day(first)?, parse_day(last)?);
    let count = (last + 7 - first) % 7 + 1;
    Some((0..count).fold(0, |days, day| days | 1 << ((first + day) % 7)))
}

fn parse_day(word: &str) -> Option<u8> {
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let index = names.iter().position(|name| name.eq_ignore_ascii_case(word))?;
    u8::try_from(index).ok()
}

/// `08:00-18:00` in minutes of the day.
fn parse_hours(word: &str) -> Option<(u16, u16)> {
    let (start, end) = word.split_once('-')?;
    let (start, end) = (parse_minute(start)?, parse_minute(end)?);
    (start < MINUTES_A_DAY && end > 0 && start != end).then_some((start, end))
}

fn parse_minute(word: &str) -> Option<u16> {
    let (hour, minute) = word.split_once(':')?;
    if hour.len() != 2 || minute.len() != 2 || !word.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (minute < 60 && hour * 60 + minute <= MINUTES_A_DAY).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::Weekday;
    use proptest::prelude::*;

    fn ns(text: &str) -> u64 {
        parse_until(text).unwrap()
    }

    fn hours(text: &str) -> WeeklyHours {
        WeeklyHours::parse(text, TimeZone::UTC).unwrap()
    }

    fn on(until: &str) -> Activity {
        Activity { is_on: true, next_change_ns: Some(ns(until)) }
    }

    fn off(until: &str) -> Activity {
        Activity { is_on: false, next_change_ns: Some(ns(until)) }
    }

    #[test]
    fn office_hours_are_on_and_off_to_the_nanosecond() {
        // 2026-11-20 is a Friday.
        let office = hours("Mon-Fri 08:00-18:00");
        assert_eq!(office.at(ns("2026-11-20T07:59:59.999999999Z")), off("2026-11-20T08:00:00Z"));
        assert_eq!(office.at(ns("2026-11-20T08:00:00Z")), on("2026-11-20T18:00:00Z"));
        assert_eq!(office.at(ns("2026-11-20T17:59:59.999999999Z")), on("2026-11-20T18:00:00Z"));
        assert_eq!(office.at(ns("2026-11-20T18:00:00Z")), off("2026-11-23T08:00:00Z"));
    }

    #[test]
    fn hours_over_midnight_belong_to_the_day_they_begin_on() {
        let night = hours("Fri 22:00-06:00");
        assert_eq!(night.at(ns("2026-11-20T05:00:00Z")), off("2026-11-20T22:00:00Z"));
        assert_eq!(night.at(ns("2026-11-21T05:59:00Z")), on("2026-11-21T06:00:00Z"));
        assert_eq!(night.at(ns("2026-11-21T06:00:00Z")), off("2026-11-27T22:00:00Z"));
    }

    #[test]
    fn hours_that_touch_are_one_and_hours_of_all_week_never_change() {
        assert_eq!(hours("Mon-Tue").at(ns("2026-11-23T12:00:00Z")), on("2026-11-25T00:00:00Z"));
        assert_eq!(hours("Mon-Sun").at(ns("2026-11-23T12:00:00Z")), Activity { is_on: true, next_change_ns: None });
        assert_eq!(hours("00:00-12:00 12:00-24:00").at(ns("2026-11-23T12:00:00Z")).next_change_ns, None);
        assert_eq!(hours("Tue-Sun").at(ns("2026-11-24T00:00:00Z")), on("2026-11-30T00:00:00Z"));
        assert_eq!(hours("Sat-Mon 10:00-11:00").at(ns("2026-11-23T11:00:00Z")), off("2026-11-28T10:00:00Z"));
        assert_eq!(hours("Mon,Wed 08:00-09:00, Tue 10:00-11:00").at(ns("2026-11-23T09:00:00Z")), off("2026-11-24T10:00:00Z"));
    }

    /// In Berlin 2026-03-29 02:00 is followed by 03:00, and 2026-10-25 03:00 by 02:00.
    #[test]
    fn hours_follow_the_clock_changes_of_their_zone() {
        let morning = hours("Sun 01:30-03:30 Europe/Berlin");
        assert_eq!(morning.at(ns("2026-03-29T00:30:00Z")), on("2026-03-29T01:30:00Z"));
        assert_eq!(morning.at(ns("2026-10-24T23:30:00Z")), on("2026-10-25T02:30:00Z"));
        let skipped = hours("Sun 02:15-02:45 Europe/Berlin");
        assert_eq!(skipped.at(ns("2026-03-29T01:15:00Z")), on("2026-03-29T01:45:00Z"));
        let office = hours("Mon-Fri 08:00-18:00 America/New_York");
        assert_eq!(office.at(ns("2026-07-01T12:00:00Z")), on("2026-07-01T22:00:00Z"));
        assert_eq!(office.at(ns("2026-12-01T12:30:00Z")), off("2026-12-01T13:00:00Z"));
    }

    #[test]
    fn an_end_cuts_hours_short_and_stops_them_for_good() {
        let schedule =
            |until: Option<&str>, for_ns| Schedule { hours: Some(hours("Mon-Fri 08:00-18:00")), until_ns: until.map(ns), for_ns };
        let never = Activity { is_on: false, next_change_ns: None };
        let ended = schedule(Some("2026-11-20T12:00:00Z"), None);
        assert_eq!(ended.at(0, ns("2026-11-20T09:00:00Z")), on("2026-11-20T12:00:00Z"));
        assert_eq!(ended.at(0, ns("2026-11-20T07:00:00Z")), off("2026-11-20T08:00:00Z"));
        assert_eq!(ended.at(0, ns("2026-11-20T12:00:00Z")), never);
        assert_eq!(
            schedule(Some("2026-11-21T12:00:00Z"), None).at(0, ns("2026-11-20T19:00:00Z")),
            never,
            "no hours before the end"
        );
        let half_an_hour = schedule(None, Some(1_800_000_000_000));
        let since = ns("2026-11-20T17:45:00Z");
        assert_eq!(half_an_hour.at(since, since), on("2026-11-20T18:00:00Z"));
        assert_eq!(half_an_hour.at(since, ns("2026-11-20T18:00:00Z")), never);
        let plain = Schedule { for_ns: Some(10), ..Schedule::default() };
        assert_eq!(plain.at(100, 109), Activity { is_on: true, next_change_ns: Some(110) });
        assert_eq!(plain.at(100, 110), never);
        assert_eq!(Schedule::default().at(5, 5), Activity { is_on: true, next_change_ns: None });
    }

    #[test]
    fn what_is_no_schedule_is_refused_by_its_word() {
        let error = |text| WeeklyHours::parse(text, TimeZone::UTC).unwrap_err();
        assert_eq!(error(""), ScheduleError::Empty);
        assert_eq!(error("Mon-Fry 08:00-18:00"), ScheduleError::Word("Mon-Fry".into()));
        assert_eq!(error("Mon 8:00-18:00"), ScheduleError::Hours("8:00-18:00".into()));
        assert_eq!(error("Mon 08:00-24:01"), ScheduleError::Hours("08:00-24:01".into()));
        assert_eq!(error("Mon 08:00-08:00"), ScheduleError::Hours("08:00-08:00".into()));
        assert_eq!(error("Mon 08:00-18:00 Europe/Atlantis"), ScheduleError::Zone("Europe/Atlantis".into()));
        assert_eq!(error("Mon 08:00-18:00 soon"), ScheduleError::Word("soon".into()));
        assert!(parse_until("2026-12-01").is_err());
        assert!(parse_until("1969-12-01T00:00:00Z").is_err());
    }

    proptest! {
        /// Minute by minute: the weekday and the minute of the day say it.
        #[test]
        fn a_schedule_is_what_the_minute_of_the_week_says(
            spans in prop::collection::vec((1u8..128, 0u16..1440, 1u16..=1440), 1..4), now_minute in 30_000_000u64..31_000_000,
        ) {
            prop_assume!(spans.iter().all(|&(_, start, end)| start != end));
            let spans: Vec<Span> = spans.into_iter().map(|(days, start_minute, end_minute)| Span { days, start_minute, end_minute }).collect();
            let is_on = |minute: u64| {
                // 1970-01-01 was a Thursday, three days after a Monday.
                let (day, minute) = ((minute / 1440 + 3) % 7, (minute % 1440) as u16);
                let has = |days: u8, day: u64| days >> (day % 7) & 1 == 1;
                spans.iter().any(|span| if span.start_minute < span.end_minute {
                    has(span.days, day) && (span.start_minute..span.end_minute).contains(&minute)
                } else {
                    has(span.days, day) && minute >= span.start_minute || has(span.days, day + 6) && minute < span.end_minute
                })
            };
            let weekly = WeeklyHours { spans: spans.clone(), zone: TimeZone::UTC };
            let activity = weekly.at(now_minute * 60_000_000_000);
            prop_assert_eq!(activity.is_on, is_on(now_minute));
            let change = (now_minute..now_minute + 8 * 1440).find(|&minute| is_on(minute) != is_on(now_minute));
            prop_assert_eq!(activity.next_change_ns, change.map(|minute| minute * 60_000_000_000));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[A-Za-z0-9:, /-]{0,30}") {
            let _ = WeeklyHours::parse(&text, TimeZone::UTC);
        }
    }

    #[test]
    fn weekdays_count_from_monday() {
        assert_eq!(Weekday::Monday.to_monday_zero_offset(), 0);
        assert_eq!(parse_days("Mon-Fri"), Some(0b001_1111));
        assert_eq!(parse_days("sat-mon"), Some(0b110_0001));
    }
}
