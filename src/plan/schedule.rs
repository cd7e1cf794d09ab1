//! Schedules: when a rule is on by itself.
//!
//! A plan holds a `Schedule` for each rule that has one; the broker asks it at a burst boundary whether the rule is on and when to
//! ask again. Everything is computed from the time that is passed in.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// When a rule is on: within its weekly hours, before its end, and not longer than its time.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Schedule {
    /// `active "Mon-Fri 08:00-18:00" zone Europe/Berlin`.
    pub hours: Option<WeeklyHours>,
    /// `until 2026-12-01T00:00:00Z`, in ns since the Unix epoch. The rule is off from this instant on.
    pub until_ns: Option<u64>,
    /// `for 30m`, counted from when the rule came into force.
    pub for_ns: Option<u64>,
}

/// Says whether a rule is on, and until when that holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Activity {
    pub is_on: bool,
    /// When `is_on` becomes false or true next, in ns since the Unix epoch; `None` if never.
    pub next_change_ns: Option<u64>,
}

impl Schedule {
    /// Gives the activity at `now_ns` of a rule that came into force at `since_ns`, both in ns since the Unix epoch.
    pub fn at(&self, since_ns: u64, now_ns: u64) -> Activity {
        let end_ns = match (self.until_ns, self.for_ns.map(|for_ns| since_ns.saturating_add(for_ns))) {
            (Some(until), Some(over)) => Some(until.min(over)),
            (until, over) => until.or(over),
        };
        if end_ns.is_some_and(|end| now_ns >= end) {
            return Activity { is_on: false, next_change_ns: None };
        }
        let by_hours = self
            .hours
            .as_ref()
            .map_or(Activity { is_on: true, next_change_ns: None }, |hours| hours.at(now_ns));
        match (by_hours.next_change_ns, end_ns) {
            (Some(change), Some(end)) if change < end => by_hours,
            (_, Some(end)) if by_hours.is_on => Activity { is_on: true, next_change_ns: Some(end) },
            // Off until after its end: it never comes on again.
            (_, Some(_)) => Activity { is_on: false, next_change_ns: None },
            (_, None) => by_hours,
        }
    }
}

/// Hours of weekdays in a time zone.
#[derive(Clone, PartialEq, Debug)]
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

const MINUTES_A_DAY: u16 = 24 * 60;

impl WeeklyHours {
    /// Hours as the pipeline language gives them, each with its days (bit 0 is Monday) and its first minute of the day and the
    /// minute that it ends before, 1..=1440; one that ends before it begins ends on the next day.
    pub fn of(spans: impl IntoIterator<Item = (u8, u16, u16)>, zone: TimeZone) -> WeeklyHours {
        let spans = spans.into_iter().map(|(days, start_minute, end_minute)| Span {
            days,
            start_minute,
            end_minute,
        });
        WeeklyHours { spans: spans.collect(), zone }
    }

    /// Gives whether `now_ns` is within the hours, and when that changes. Clock changes are followed: hours that a change skips
    /// begin that much later, and the first of hours that come twice counts.
    pub fn at(&self, now_ns: u64) -> Activity {
        let Ok(now) = Timestamp::from_nanosecond(now_ns.into()) else {
            return Activity { is_on: false, next_change_ns: None };
        };
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
        let horizon =
            now.checked_add(jiff::SignedDuration::from_hours(7 * 24 + 1)).unwrap_or(Timestamp::MAX);
        match merged.into_iter().find(|&(_, end)| now < end) {
            Some((start, _)) if now < start => {
                Activity { is_on: false, next_change_ns: nanoseconds(start) }
            }
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
        let (date, minute) =
            if minute == MINUTES_A_DAY { (date.tomorrow().ok()?, 0) } else { (date, minute) };
        let time = Time::new((minute / 60).try_into().ok()?, (minute % 60).try_into().ok()?, 0, 0).ok()?;
        self.zone.to_timestamp(date.to_datetime(time)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tapline_lang as lang;
    use tapline_lang::ast::Command;
    use tapline_lang::ast::rule::RuleClause;

    fn ns(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
    }

    /// The hours of `active "TEXT"` in a zone.
    fn hours_in(zone: &str, text: &str) -> WeeklyHours {
        let parsed = lang::parse_command(&format!("rule create 1 from a active \"{text}\" to t"));
        let [command] = &parsed.file.commands[..] else { panic!("one command") };
        let Command::RuleCreate { clauses, .. } = &command.value else { panic!("a rule") };
        let windows = clauses.iter().find_map(|clause| match &clause.value {
            RuleClause::Active(active) => Some(&active.windows),
            _ => None,
        });
        let windows = windows
            .expect("hours")
            .iter()
            .map(|window| (window.days, window.from_minute, window.until_minute));
        WeeklyHours::of(windows, TimeZone::get(zone).unwrap())
    }

    fn hours(text: &str) -> WeeklyHours {
        hours_in("UTC", text)
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
        assert_eq!(hours("Mon-Tue 00:00-24:00").at(ns("2026-11-23T12:00:00Z")), on("2026-11-25T00:00:00Z"));
        assert_eq!(
            hours("Mon-Sun 00:00-24:00").at(ns("2026-11-23T12:00:00Z")),
            Activity { is_on: true, next_change_ns: None }
        );
        assert_eq!(
            hours("daily 00:00-12:00; daily 12:00-24:00").at(ns("2026-11-23T12:00:00Z")).next_change_ns,
            None
        );
        assert_eq!(hours("Tue-Sun 00:00-24:00").at(ns("2026-11-24T00:00:00Z")), on("2026-11-30T00:00:00Z"));
        assert_eq!(
            hours("Sat-Mon 10:00-11:00").at(ns("2026-11-23T11:00:00Z")),
            off("2026-11-28T10:00:00Z")
        );
        assert_eq!(
            hours("Mon,Wed 08:00-09:00; Tue 10:00-11:00").at(ns("2026-11-23T09:00:00Z")),
            off("2026-11-24T10:00:00Z")
        );
    }

    /// In Berlin 2026-03-29 02:00 is followed by 03:00, and 2026-10-25 03:00 by 02:00.
    #[test]
    fn hours_follow_the_clock_changes_of_their_zone() {
        let morning = hours_in("Europe/Berlin", "Sun 01:30-03:30");
        assert_eq!(morning.at(ns("2026-03-29T00:30:00Z")), on("2026-03-29T01:30:00Z"));
        assert_eq!(morning.at(ns("2026-10-24T23:30:00Z")), on("2026-10-25T02:30:00Z"));
        let skipped = hours_in("Europe/Berlin", "Sun 02:15-02:45");
        assert_eq!(skipped.at(ns("2026-03-29T01:15:00Z")), on("2026-03-29T01:45:00Z"));
        let office = hours_in("America/New_York", "Mon-Fri 08:00-18:00");
        assert_eq!(office.at(ns("2026-07-01T12:00:00Z")), on("2026-07-01T22:00:00Z"));
        assert_eq!(office.at(ns("2026-12-01T12:30:00Z")), off("2026-12-01T13:00:00Z"));
    }

    #[test]
    fn an_end_cuts_hours_short_and_stops_them_for_good() {
        let schedule = |until: Option<&str>, for_ns| Schedule {
            hours: Some(hours("Mon-Fri 08:00-18:00")),
            until_ns: until.map(ns),
            for_ns,
        };
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
    }
}
