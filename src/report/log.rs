//! The log: events as lines, so many of a kind, and a count of what was left out.
//!
//! A line begins with its time and its level, or, where standard error leads to systemd's journal, with the level as the journal reads
//! it. A forged packet can cause an event, so what is written of one kind about one thing has a rate. Errors and answers to commands have
//! none. Every event has its number and is kept (`Events`), written or not.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use jiff::Timestamp;
use tapline_api::event::{Alarm, Event, Recorded};
use tapline_api::words::Level;

use super::events::Events;

/// How many lines of one kind about one thing may be written.
#[derive(Clone, Copy)]
struct Rate {
    /// Lines that are written at once.
    burst: u64,
    /// Time until there is room for one more.
    refill_ns: u64,
}

const ORDINARY: Rate = Rate { burst: 10, refill_ns: 1_000_000_000 };
/// The rate of lines of DPDK, which all are of one kind: a start may have many.
const OF_DPDK: Rate = Rate { burst: 64, ..ORDINARY };
/// The rate of all lines about one next hop: whoever is on its link can cause them by forged frames.
const OF_NEXT_HOPS: Rate = Rate { burst: 1, refill_ns: 10_000_000_000 };

/// How lines begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `2026-11-30T20:31:07.123Z warning: `
    Timed,
    /// `<4>`: the journal has a time of its own.
    /// # Source
    /// sd-daemon(3).
    Journal,
}

impl Form {
    /// Returns the form for standard error, where `journal` is the value of JOURNAL_STREAM.
    ///
    /// # Source
    /// systemd.exec(5): `JOURNAL_STREAM` has the device and the inode of the stream that leads to the journal. A program whose standard
    /// error is another file was given another one since.
    pub fn of_stderr(journal: Option<&str>) -> Self {
        let stream =
            std::io::stderr().as_fd().try_clone_to_owned().and_then(|file| File::from(file).metadata());
        let is_named =
            |file: &Metadata| journal.is_some_and(|named| is_named(named, file.dev(), file.ino()));
        if stream.is_ok_and(|file| is_named(&file)) { Form::Journal } else { Form::Timed }
    }

    /// Returns a line. Control characters in `text` are escaped: a line is one line, whatever a name or a driver's message has.
    pub fn line(self, time_ns: u64, level: Level, text: &str) -> String {
        let mut line = match self {
            Form::Timed => format!("{} {level}: ", rfc3339(time_ns)),
            Form::Journal => format!("<{}>", level.number()),
        };
        for letter in text.chars() {
            if letter.is_control() && letter != '\t' {
                line.extend(letter.escape_default());
            } else {
                line.push(letter);
            }
        }
        line
    }
}

/// Returns whether `named`, a value of JOURNAL_STREAM, is this file.
fn is_named(named: &str, device: u64, inode: u64) -> bool {
    let numbers = named.split_once(':').map(|(device, inode)| (device.parse(), inode.parse()));
    numbers == Some((Ok(device), Ok(inode)))
}

/// Returns a time in ns since the Unix epoch in UTC, to the millisecond.
/// # Source
/// RFC 3339, section 5.6.
pub fn rfc3339(time_ns: u64) -> String {
    let millisecond = i64::try_from(time_ns / 1_000_000).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millisecond)
        .map_or_else(|_| time_ns.to_string(), |time| format!("{time:.3}"))
}

/// The lines that may be written of one kind of event about one thing.
struct Room {
    /// Lines that may be written.
    tokens: u64,
    /// Up to when tokens were given.
    given_ns: u64,
    left_out: u64,
    /// The last of those, with its level.
    last: Option<(Level, String)>,
}

impl Room {
    fn new(now_ns: u64, rate: Rate) -> Self {
        Self { tokens: rate.burst, given_ns: now_ns, left_out: 0, last: None }
    }

    /// Gives tokens for the time that went by. A clock that was set back gives none.
    fn refill(&mut self, now_ns: u64, Rate { burst, refill_ns }: Rate) {
        let due = now_ns.saturating_sub(self.given_ns) / refill_ns;
        self.tokens = self.tokens.saturating_add(due).min(burst);
        let is_set_back = now_ns < self.given_ns;
        if self.tokens == burst || is_set_back {
            self.given_ns = now_ns;
        } else {
            self.given_ns += due * refill_ns;
        }
    }

    /// Returns the line that says what was left out, if something was.
    fn told(&mut self, form: Form, now_ns: u64, object: &str) -> Option<String> {
        let (level, last) = self.last.take()?;
        let count = std::mem::take(&mut self.left_out);
        let text = format!("{object}: … {count} more of this kind left out; the last: {last}");
        Some(form.line(now_ns, level, &text))
    }
}

/// The log of one broker.
pub struct Log {
    form: Form,
    /// The number of the last event that was read.
    seen: u64,
    /// The room of each kind and object.
    rooms: HashMap<(&'static str, String), Room>,
    /// Events whose lines were written before they were recorded.
    ahead: Vec<Event>,
}

impl Log {
    /// Begins with the first event.
    pub fn new(form: Form) -> Self {
        Self { form, seen: 0, rooms: HashMap::new(), ahead: Vec::new() }
    }

    /// Returns the lines of the events that came since the last call, and what was left out of those before, as far as there is room
    /// for it at this time, in ns since the Unix epoch.
    pub fn news(&mut self, events: &Events, now_ns: u64) -> Vec<String> {
        let mut lines = Vec::new();
        let fresh = events.last() - self.seen;
        let mut kept = 0;
        for recorded in events.since(self.seen) {
            kept += 1;
            self.write(recorded, &mut lines);
        }
        if kept < fresh {
            let text =
                format!("events: … {} more left out: they came faster than they were read", fresh - kept);
            lines.push(self.form.line(now_ns, Level::Warning, &text));
        }
        self.seen = events.last();
        self.tell_left_out(now_ns, &mut lines);
        lines
    }

    /// Returns the last lines of a run: those that [`news`](Self::news) gives, and all that was left out.
    pub fn end(&mut self, events: &Events, now_ns: u64) -> Vec<String> {
        let mut lines = self.news(events, now_ns);
        let mut rooms: Vec<_> = self.rooms.drain().collect();
        rooms.sort_by(|(a, _), (b, _)| a.cmp(b));
        lines.extend(
            rooms.into_iter().filter_map(|((_, object), mut room)| room.told(self.form, now_ns, &object)),
        );
        lines
    }

    /// Returns the line of an event that is recorded later, once there is a broker.
    pub fn ahead(&mut self, event: &Event, now_ns: u64) -> String {
        self.ahead.push(event.clone());
        self.form.line(now_ns, event.level(), &event.to_string())
    }

    /// Returns a line that is no event.
    pub fn line(&self, now_ns: u64, level: Level, text: &str) -> String {
        self.form.line(now_ns, level, text)
    }

    /// Adds an event's line, if there is room for it.
    fn write(&mut self, recorded: &Recorded, lines: &mut Vec<String>) {
        let Recorded { time_ns, ref event, .. } = *recorded;
        if let Some(place) = self.ahead.iter().position(|told| told == event) {
            self.ahead.swap_remove(place);
            return;
        }
        let (level, text) = (event.level(), event.to_string());
        if level == Level::Error || event.is_answer() {
            lines.push(self.form.line(time_ns, level, &text));
            return;
        }
        let key = (kind_of(event), event.object());
        let rate = rate_of(key.0);
        let room = self.rooms.entry(key.clone()).or_insert_with(|| Room::new(time_ns, rate));
        room.refill(time_ns, rate);
        // where there is room for one line alone, the count of what was left out is that line
        if room.tokens == 0 || rate.burst == 1 && room.last.is_some() {
            room.left_out += 1;
            room.last = Some((level, text));
            return;
        }
        // in their order
        lines.extend(room.told(self.form, time_ns, &key.1));
        room.tokens -= 1;
        lines.push(self.form.line(time_ns, level, &text));
    }

    /// Adds what was left out where there is room for it, and forgets what had no event for long enough.
    fn tell_left_out(&mut self, now_ns: u64, lines: &mut Vec<String>) {
        if self.rooms.is_empty() {
            return;
        }
        let (form, mut told) = (self.form, Vec::new());
        self.rooms.retain(|(kind, object), room| {
            let rate = rate_of(kind);
            room.refill(now_ns, rate);
            if room.tokens > 0
                && let Some(line) = room.told(form, now_ns, object)
            {
                told.push(line);
                if rate.burst == 1 {
                    (room.tokens, room.given_ns) = (0, now_ns);
                }
            }
            room.tokens < rate.burst
        });
        told.sort();
        lines.extend(told);
    }
}

/// Returns the kind whose room an event's line takes: all that is said of a next hop has one room.
fn kind_of(event: &Event) -> &'static str {
    match event {
        Event::NextHopResolved { .. }
        | Event::NextHopMoved { .. }
        | Event::NextHopLost { .. }
        | Event::AlarmRaised(Alarm::Conflict { .. })
        | Event::AlarmCleared(Alarm::Conflict { .. }) => NEXT_HOP,
        _ => event.kind(),
    }
}

const NEXT_HOP: &str = "next_hop";

fn rate_of(kind: &str) -> Rate {
    match kind {
        "dpdk_logged" => OF_DPDK,
        NEXT_HOP => OF_NEXT_HOPS,
        _ => ORDINARY,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use tapline_api::event::Event;

    const S: u64 = 1_000_000_000;
    /// 2026-11-30T20:31:07.123456789Z
    const NOW: u64 = 1_796_070_667_123_456_789;

    /// An event with the rate of most.
    fn moved(number: u64) -> Event {
        let (from, to) = (number as u32, number as u32 + 1);
        Event::MtuChanged { port: "p".into(), from, to }
    }

    fn hop_moved(number: u64) -> Event {
        let next_hop = IpAddr::from([198, 18, 0, 9]);
        let mac = |number: u64| format!("02:00:00:00:{:02x}:{:02x}", number >> 8, number & 255);
        Event::NextHopMoved {
            next_hop,
            from: mac(number),
            to: mac(number + 1),
            tools: vec!["cloud".into()],
        }
    }

    /// The lines of a log that is read every 5 ms over `moments`, and its end.
    fn read(moments: impl Iterator<Item = (u64, Vec<Event>)>) -> (Vec<String>, Events) {
        let (mut events, mut log, mut lines, mut last) =
            (Events::default(), Log::new(Form::Timed), vec![], 0);
        for (now_ns, fresh) in moments {
            fresh.into_iter().for_each(|event| events.record(now_ns, event));
            lines.extend(log.news(&events, now_ns));
            last = now_ns;
        }
        lines.extend(log.end(&events, last));
        (lines, events)
    }

    #[test]
    fn half_a_second_of_forged_arp_is_a_line_and_a_count() {
        // 6842 moves of one next hop within 0.5 s, then calm
        let mut number = 0;
        let moments = (0..3000u64).map(|turn| {
            let until = (6842 * (turn + 1) / 100).min(6842);
            let fresh: Vec<Event> = (number..until).map(hop_moved).collect();
            number = until;
            (NOW + turn * S / 200, fresh)
        });
        let (lines, events) = read(moments);
        assert_eq!(lines.len(), 2, "{lines:#?}");
        let first = "2026-11-30T20:31:07.123Z warning: next hop 198.18.0.9 moved from 02:00:00:00:00:00 to 02:00:00:00:00:01";
        assert_eq!(lines[0], first);
        let left_out = "2026-11-30T20:31:17.123Z warning: next hop 198.18.0.9: … 6841 more of this kind left out; the last: \
                        next hop 198.18.0.9 moved from 02:00:00:00:1a:b9 to 02:00:00:00:1a:ba";
        assert_eq!(lines[1], left_out);
        assert_eq!(events.last(), 6842);
        assert_eq!(
            events.since(0).map(|event| event.seq).collect::<Vec<_>>(),
            (5819..=6842).collect::<Vec<_>>()
        );
    }

    #[test]
    fn next_hops_have_a_line_in_ten_seconds_each_whatever_happens_to_them() {
        let next_hops = [9, 7].map(|last| IpAddr::from([198, 18, 0, last]));
        let of_all_kinds = |next_hop, turn| {
            let (mac, other, tools) =
                ("02:bb:00:00:00:09".to_owned(), "02:66:00:00:00:01".to_owned(), vec![]);
            match turn % 4 {
                0 => Event::NextHopResolved { next_hop, mac, tools },
                1 => Event::AlarmRaised(Alarm::Conflict { next_hop, mac, other, tools }),
                2 => Event::AlarmCleared(Alarm::Conflict { next_hop, mac, other, tools }),
                _ => Event::NextHopLost { next_hop, tools },
            }
        };
        // a minute, twice a second
        let moments = (0..120u64).map(|turn| {
            (NOW + turn * S / 2, next_hops.iter().map(|&next_hop| of_all_kinds(next_hop, turn)).collect())
        });
        let (lines, _) = read(moments);
        for next_hop in next_hops {
            let of_it: Vec<_> =
                lines.iter().filter(|line| line.contains(&format!("next hop {next_hop}"))).collect();
            // at 0, 10, …, 50 s, and at the end
            assert!((6..=7).contains(&of_it.len()), "{lines:#?}");
            let count = |line: &&String| line.split("… ").nth(1)?.split(' ').next()?.parse::<u64>().ok();
            let left_out: u64 = of_it.iter().filter_map(count).sum();
            assert_eq!(of_it.iter().filter(|line| count(line).is_none()).count() as u64 + left_out, 120);
        }
    }

    #[test]
    fn a_flood_that_goes_on_is_one_line_and_one_count_a_second_and_none_is_lost() {
        let moments = (0..2000u64).map(|turn| (NOW + turn * S / 200, vec![moved(turn)]));
        let (lines, _) = read(moments);
        let count = |line: &String| line.split("… ").nth(1)?.split(' ').next()?.parse::<u64>().ok();
        let left_out: u64 = lines.iter().filter_map(count).sum();
        let written = lines.iter().filter(|line| count(line).is_none()).count() as u64;
        assert_eq!(written + left_out, 2000);
        // 10 s: ten at once, and one a second
        assert!((18..=20).contains(&written) && lines.len() <= 40, "{written} of {}", lines.len());
    }

    #[test]
    fn the_end_of_a_run_says_what_was_left_out_before_there_was_room() {
        let (lines, _) = read([(NOW, (0..30).map(moved).collect())].into_iter());
        assert_eq!(lines.len(), 11);
        assert!(lines[10].contains("port p: … 20 more of this kind left out; the last: "), "{}", lines[10]);
    }

    #[test]
    fn things_do_not_take_room_from_each_other_and_errors_and_answers_need_none() {
        let fresh = (0..25).flat_map(|_| {
            [
                Event::FramesCut { port: "p".into(), driver: "net_a".into(), bytes: 2048 },
                Event::FramesCut { port: "q".into(), driver: "net_a".into(), bytes: 2048 },
                Event::WorkerLost { lcore: 1 },
                Event::PlanChanged { rules: 3, planned_ms: 1.0, in_force_ms: 0.5 },
                Event::DpdkLogged { line: "EAL: it is so".into() },
            ]
        });
        let (lines, _) = read([(NOW, fresh.collect())].into_iter());
        let count = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
        assert_eq!(count("error: the worker on lcore 1 ended by itself"), 25);
        assert_eq!(count("notice: plan changed: 3 rules; planned in 1.0 ms, in force in 0.5 ms"), 25);
        assert_eq!(count("dpdk: EAL: it is so"), 25);
        for port in ["p", "q"] {
            assert_eq!(count(&format!("Z warning: port {port}: the driver net_a cuts")), 10, "{port}");
            assert_eq!(count(&format!("port {port}: … 15 more")), 1, "{port}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_gives_no_room_and_keeps_the_count() {
        let moments = [(NOW, 20), (NOW - 3600 * S, 20), (NOW - 3600 * S + S, 1)];
        let moments = moments.map(|(now_ns, count)| (now_ns, (0..count).map(moved).collect()));
        let (lines, _) = read(moments.into_iter());
        assert!(lines[10].starts_with("2026-11-30T19:31:08.123Z notice: port p: … 30 more"), "{lines:#?}");
        assert_eq!(lines.len(), 12);
    }

    #[test]
    fn what_came_faster_than_it_was_read_is_counted() {
        let (lines, _) =
            read([(NOW, (0..2000).map(|lcore| Event::WorkerLost { lcore }).collect())].into_iter());
        assert_eq!(lines.len(), 1025);
        assert!(
            lines[1024]
                .ends_with("warning: events: … 976 more left out: they came faster than they were read")
        );
    }

    #[test]
    fn the_journal_reads_the_level_and_has_a_time_of_its_own() {
        assert_eq!(
            Form::Journal.line(NOW, Level::Warning, "tool ids-a: up -> down"),
            "<4>tool ids-a: up -> down"
        );
        assert_eq!(Form::Journal.line(NOW, Level::Error, "it failed"), "<3>it failed");
        assert_eq!(Form::Timed.line(0, Level::Info, "so"), "1970-01-01T00:00:00.000Z info: so");
        assert_eq!(
            Form::Timed.line(NOW, Level::Notice, "a\nb\u{1b}[2J é"),
            "2026-11-30T20:31:07.123Z notice: a\\nb\\u{1b}[2J é"
        );
    }

    #[test]
    fn standard_error_leads_to_the_journal_where_it_is_the_stream_that_is_named() {
        let stderr = File::from(std::io::stderr().as_fd().try_clone_to_owned().expect("a descriptor"));
        let file = stderr.metadata().expect("what it is");
        let (device, inode) = (file.dev(), file.ino());
        assert_eq!(Form::of_stderr(Some(&format!("{device}:{inode}"))), Form::Journal);
        let others = [
            format!("{device}:{}", inode + 1),
            format!("{}:{inode}", device + 1),
            "8".into(),
            ":".into(),
            String::new(),
        ];
        for other in others {
            assert_eq!(Form::of_stderr(Some(&other)), Form::Timed, "{other}");
        }
        assert_eq!(Form::of_stderr(None), Form::Timed);
    }
}
