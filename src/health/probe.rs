//! Probes: questions that are asked again and again, and how long an answer is waited for.
//!
//! Without clock, thread or device: the time goes in, and what is due, answered or lost comes out. Heartbeats and echoes share it;
//! what a row of lost ones means is for `health::tool` to judge.

use std::collections::VecDeque;

/// When probes are sent, and when one is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeTiming {
    pub every_ns: u64,
    pub timeout_ns: u64,
}

/// The fate of a tool's probes: `sent = returned + lost + waiting`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ProbeCounts {
    pub sent: u64,
    /// Answered in time.
    pub returned: u64,
    pub lost: u64,
    /// Answers to what had been answered, or given up, before.
    pub late: u64,
}

/// The probes of one tool.
#[derive(Clone, Debug)]
pub struct Prober {
    timing: ProbeTiming,
    counts: ProbeCounts,
    next_sequence: u64,
    due_ns: u64,
    /// Those that are not answered, oldest first: the sequence number and when it is lost.
    waiting: VecDeque<(u64, u64)>,
}

impl Prober {
    /// When probes are sent, and when one is lost.
    pub fn timing(&self) -> ProbeTiming {
        self.timing
    }

    /// The first probe is due at once.
    pub fn new(timing: ProbeTiming) -> Self {
        Self {
            timing,
            counts: ProbeCounts::default(),
            next_sequence: 0,
            due_ns: 0,
            waiting: VecDeque::new(),
        }
    }

    pub fn counts(&self) -> ProbeCounts {
        self.counts
    }

    /// Probes that may still be answered.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Counts from here; what waits counts as sent.
    pub fn clear_counts(&mut self) {
        self.counts = ProbeCounts { sent: self.waiting.len() as u64, ..ProbeCounts::default() };
    }

    /// An answer came. Whether it was waited for.
    pub fn answered(&mut self, sequence: u64) -> bool {
        let place = self.waiting.iter().position(|&(waiting, _)| waiting == sequence);
        match place {
            Some(place) => {
                self.waiting.remove(place);
                self.counts.returned += 1;
            }
            None => self.counts.late += 1,
        }
        place.is_some()
    }

    /// Gives up the oldest probe whose time is over. Whether there was one: ask again until there is none.
    pub fn expire(&mut self, now_ns: u64) -> bool {
        let is_lost = self.waiting.front().is_some_and(|&(_, until_ns)| now_ns >= until_ns);
        if is_lost {
            self.waiting.pop_front();
            self.counts.lost += 1;
        }
        is_lost
    }

    /// The sequence number of the probe to send, if one is due. Those that were missed are not made up for.
    pub fn due(&mut self, now_ns: u64) -> Option<u64> {
        if now_ns < self.due_ns {
            return None;
        }
        let on_time_ns = self.due_ns.saturating_add(self.timing.every_ns);
        self.due_ns =
            if on_time_ns > now_ns { on_time_ns } else { now_ns.saturating_add(self.timing.every_ns) };
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.waiting.push_back((sequence, now_ns.saturating_add(self.timing.timeout_ns)));
        self.counts.sent += 1;
        Some(sequence)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMING: ProbeTiming = ProbeTiming { every_ns: 100, timeout_ns: 250 };

    #[test]
    fn probes_go_out_at_their_rate_and_are_lost_at_their_timeout() {
        let mut prober = Prober::new(TIMING);
        assert_eq!(
            (prober.due(0), prober.due(99), prober.due(107), prober.due(200)),
            (Some(0), None, Some(1), Some(2))
        );
        assert!(prober.answered(1), "answers may come in any order");
        assert!(!prober.expire(249));
        assert!(prober.expire(250) && !prober.expire(250));
        assert!(!prober.answered(0), "too late");
        assert!(!prober.answered(1), "a second time");
        assert!(!prober.answered(99), "never sent");
        assert_eq!(prober.counts(), ProbeCounts { sent: 3, returned: 1, lost: 1, late: 3 });
        assert_eq!(prober.waiting(), 1);
    }

    #[test]
    fn probes_that_were_missed_are_not_made_up_for() {
        let mut prober = Prober::new(TIMING);
        assert_eq!(prober.due(5000), Some(0));
        assert_eq!((prober.due(5099), prober.due(5100)), (None, Some(1)));
    }

    #[test]
    fn cleared_counts_keep_what_waits() {
        let mut prober = Prober::new(TIMING);
        prober.due(0);
        prober.due(100);
        prober.answered(0);
        prober.clear_counts();
        assert!(prober.expire(400));
        assert_eq!(prober.counts(), ProbeCounts { sent: 1, returned: 0, lost: 1, late: 0 });
    }

    proptest! {
        /// The model: every probe's fate by itself, from when it was sent and when its answers came.
        #[test]
        fn every_probe_is_returned_or_lost_or_waits(
            steps in proptest::collection::vec((0u64..120, proptest::option::of(0u64..40)), 1..200),
        ) {
            let mut prober = Prober::new(TIMING);
            let (mut sent, mut fates): (Vec<u64>, Vec<Option<bool>>) = (Vec::new(), Vec::new());
            let (mut now, mut late) = (0, 0);
            for (elapsed, answer) in steps {
                now += elapsed;
                if let Some(sequence) = answer {
                    let fate = fates.get_mut(sequence as usize).filter(|fate| fate.is_none());
                    prop_assert_eq!(prober.answered(sequence), fate.is_some());
                    late += u64::from(fate.is_none());
                    fate.into_iter().for_each(|fate| *fate = Some(true));
                }
                let overdue = sent.iter().zip(&mut fates).filter(|(at, fate)| fate.is_none() && now >= **at + TIMING.timeout_ns);
                let overdue = overdue.map(|(_, fate)| *fate = Some(false)).count();
                prop_assert_eq!(std::iter::from_fn(|| prober.expire(now).then_some(())).count(), overdue);
                if let Some(sequence) = prober.due(now) {
                    prop_assert_eq!(sequence, sent.len() as u64);
                    prop_assert!(sent.last().is_none_or(|last| now > *last));
                    sent.push(now);
                    fates.push(None);
                }
                let count = |wanted| fates.iter().filter(|fate| **fate == wanted).count() as u64;
                let counts = ProbeCounts { sent: sent.len() as u64, returned: count(Some(true)), lost: count(Some(false)), late };
                prop_assert_eq!(prober.counts(), counts);
                prop_assert_eq!(counts.sent, counts.returned + counts.lost + prober.waiting() as u64);
            }
            // as many as the time has room for, and no more
            prop_assert!(sent.len() as u64 <= now / TIMING.every_ns + 1);
        }
    }
}
