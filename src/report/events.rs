//! The events of a broker: numbered, with their times, the latest of them kept for whoever reads them.

use std::collections::VecDeque;

use tapline_api::event::{Event, Recorded};
use tapline_api::snapshot::EventEntry;

/// Events that are kept.
const MOST_EVENTS: usize = 1024;
/// Changes of tools and links that statistics show.
const MOST_CHANGES: usize = 64;

/// All events of a broker, of which the last 1024 are kept.
#[derive(Default)]
pub struct Events {
    recorded: VecDeque<Recorded>,
    /// The number of the last event.
    last: u64,
    /// The changes that statistics show. They are kept by themselves: other events do not push them out.
    changes: VecDeque<EventEntry>,
}

/// A moment at which events are recorded.
pub struct Moment<'a> {
    events: &'a mut Events,
    /// Nanoseconds since the Unix epoch.
    pub now_ns: u64,
}

impl Moment<'_> {
    /// Numbers an event and keeps it.
    pub fn record(&mut self, event: Event) {
        self.events.record(self.now_ns, event);
    }
}

impl Events {
    /// Begins to record events of one time, in ns since the Unix epoch.
    pub fn at(&mut self, now_ns: u64) -> Moment<'_> {
        Moment { events: self, now_ns }
    }

    /// Numbers an event of a time in ns since the Unix epoch, and keeps it.
    pub fn record(&mut self, time_ns: u64, event: Event) {
        self.last += 1;
        let recorded = Recorded { seq: self.last, time_ns, event };
        if let Some(entry) = recorded.entry() {
            push(&mut self.changes, entry, MOST_CHANGES);
        }
        push(&mut self.recorded, recorded, MOST_EVENTS);
    }

    /// Returns the number of the last event; 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Returns the events after the one of this number, oldest first, as far as they are kept.
    pub fn since(&self, seq: u64) -> impl Iterator<Item = &Recorded> {
        let fresh = usize::try_from(self.last.saturating_sub(seq)).unwrap_or(usize::MAX);
        self.recorded.range(self.recorded.len().saturating_sub(fresh)..)
    }

    /// Returns what statistics show: the last 64 changes of tools and links.
    pub fn changes(&self) -> Vec<EventEntry> {
        self.changes.iter().cloned().collect()
    }
}

/// Adds to a list of at most `most`, whose oldest goes.
fn push<T>(list: &mut VecDeque<T>, item: T, most: usize) {
    if list.len() == most {
        list.pop_front();
    }
    list.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_api::words::{LinkState, Reason, ToolState};

    fn numbers(events: &Events, seq: u64) -> Vec<u64> {
        events.since(seq).map(|recorded| recorded.seq).collect()
    }

    #[test]
    fn events_are_numbered_from_one_and_the_last_1024_are_kept() {
        let mut events = Events::default();
        assert_eq!((events.last(), numbers(&events, 0)), (0, vec![]));
        for lcore in 0..1024 {
            events.record(7, Event::WorkerLost { lcore });
        }
        assert_eq!(numbers(&events, 0), (1..=1024).collect::<Vec<_>>());
        assert_eq!(numbers(&events, 1022), [1023, 1024]);
        for seq in [1024, 1025, u64::MAX] {
            assert_eq!(numbers(&events, seq), [0; 0], "{seq}");
        }
        events.at(8).record(Event::WorkerLost { lcore: 1024 });
        assert_eq!(numbers(&events, 0), (2..=1025).collect::<Vec<_>>());
        let last = events.since(1024).next().expect("the last");
        assert_eq!((last.time_ns, &last.event), (8, &Event::WorkerLost { lcore: 1024 }));
    }

    #[test]
    fn a_flood_of_other_events_leaves_the_changes_of_tools_and_links_to_statistics() {
        let mut events = Events::default();
        let (from, to) = (LinkState::Up, LinkState::Down);
        events.record(1_999_999, Event::PortChanged { port: "p".into(), from, to });
        for lcore in 0..5000 {
            events.record(2_000_000, Event::WorkerLost { lcore });
        }
        for tool in 0..63 {
            let (from, to, reason) = (ToolState::Up, ToolState::Down, Reason::LinkDown);
            events.record(3_000_000, Event::ToolChanged { tool: tool.to_string(), from, to, reason });
        }
        let changes = events.changes();
        let json = |entry: &EventEntry| serde_json::to_string(entry).expect("plain values");
        assert_eq!(json(&changes[0]), r#"{"time":0.001,"port":"p","from":"up","to":"down"}"#);
        assert_eq!(
            json(&changes[63]),
            r#"{"time":0.003,"tool":"62","from":"up","to":"down","reason":"link_down"}"#
        );
        events.record(4_000_000, Event::PortChanged { port: "q".into(), from, to });
        assert_eq!(events.changes()[..63], changes[1..]);
        assert_eq!(events.changes().len(), 64);
    }
}
