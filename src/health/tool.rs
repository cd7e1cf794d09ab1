//! Tool health: whether a tool gets copies, and why not.
//!
//! The control side keeps one `Health` a tool and feeds it what it learns: link changes, transmit progress, resolution of the next
//! hop, answers to echoes, heartbeats that came back, commands. Nothing here reads a clock or sends a packet. Every change comes
//! out as one `StateChange` for the log, the statistics and the groups (`Health::state`). A tool that keeps failing is held down by flap
//! damping with the terms of RFC 2439: each failure adds to a figure of merit that decays by half in every half-life; above the
//! cutoff the tool stays down until the figure is below the reuse threshold.

use tapline_api::words::{Reason, ToolState};
use tapline_datapath::route::balance::MemberState;

/// The checks of a tool, and their thresholds. Times are in ns.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HealthSpec {
    /// A tool that has packets waiting and accepts none for this long is `stalled`.
    pub stall_ns: u64,
    /// A stalled tool whose driver shows no progress by itself is tried again after this long.
    pub stall_retry_ns: u64,
    /// A tunnel tool is down until its next hop is resolved.
    pub needs_next_hop: bool,
    pub echo: Option<ProbeSpec>,
    pub heartbeat: Option<ProbeSpec>,
    /// How long all checks must be good before a tool that was down is up again.
    pub up_after_ns: u64,
    pub damping: Damping,
}

impl HealthSpec {
    /// Link and transmit progress alone: 1 s without progress is a stall, tried again after 5 s; up after 1 s of good checks.
    pub const LOCAL: HealthSpec = HealthSpec {
        stall_ns: SECOND_NS,
        stall_retry_ns: 5 * SECOND_NS,
        needs_next_hop: false,
        echo: None,
        heartbeat: None,
        up_after_ns: SECOND_NS,
        damping: Damping::DEFAULT,
    };
    /// The checks of [`LOCAL`](Self::LOCAL), and the next hop.
    pub const TUNNEL: HealthSpec = HealthSpec { needs_next_hop: true, ..HealthSpec::LOCAL };
    /// The checks of a file. Its writer shows by itself when it goes on, so a stalled one is not tried again before that.
    pub const FILE: HealthSpec = HealthSpec { stall_retry_ns: u64::MAX, ..HealthSpec::LOCAL };
    /// The checks of a store, and of a file that a replay flat out waits for. A slow writer is not stalled; it is if it takes nothing at all for a
    /// minute.
    pub const WAITED_FOR: HealthSpec = HealthSpec { stall_ns: 60 * SECOND_NS, ..HealthSpec::FILE };
}

const SECOND_NS: u64 = 1_000_000_000;

/// How many probes (ICMP echoes, heartbeat frames) decide. How often they are sent, and after what time one counts as lost, is the
/// sender's to keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeSpec {
    /// Lost in a row until the tool is down; at least 1.
    pub retries: u32,
    /// Answered in a row until it is good again; at least 1.
    pub rise: u32,
}

impl ProbeSpec {
    pub const DEFAULT: ProbeSpec = ProbeSpec { retries: 3, rise: 2 };
}

/// Flap damping, RFC 2439 section 4.2, with shorter times than for routes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Damping {
    /// The points that one failure adds to the figure of merit.
    pub penalty: f64,
    /// Above this the tool is suppressed.
    pub cutoff: f64,
    /// Below this a suppressed tool is used again.
    pub reuse: f64,
    pub half_life_ns: u64,
    /// The longest that a tool is suppressed for its past failures.
    pub most_ns: u64,
}

impl Damping {
    /// The third failure within about 10 s suppresses, for half a minute or so, for at most two minutes.
    pub const DEFAULT: Damping = Damping {
        penalty: 1000.0,
        cutoff: 2000.0,
        reuse: 750.0,
        half_life_ns: 15 * SECOND_NS,
        most_ns: 120 * SECOND_NS,
    };
}

/// A fact that the broker learns about a tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observation {
    Link {
        is_up: bool,
    },
    /// Since the last time: packets that the port accepted, and packets that wait in the tool's queues at this moment.
    Transmit {
        accepted: u64,
        waiting: u64,
    },
    /// The tool's file could not be written: it never will be.
    WriteFailed,
    NextHop {
        is_resolved: bool,
    },
    Echo {
        is_answered: bool,
    },
    Heartbeat {
        is_returned: bool,
    },
    /// `tool drain`.
    Drain,
    /// `tool enable`.
    Enable,
    /// The tool's queues are empty and no bucket of a group is with it.
    Emptied,
    /// Nothing but time went by: feed this when `next_change_ns` has come.
    Tick,
}

/// A change of state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateChange {
    pub time_ns: u64,
    pub from: ToolState,
    pub to: ToolState,
    pub reason: Reason,
}

/// One tool's health.
#[derive(Clone, Debug)]
pub struct Health {
    spec: HealthSpec,
    state: ToolState,
    link_is_up: bool,
    has_write_failed: bool,
    /// Since when packets have waited without one being accepted.
    waiting_since_ns: Option<u64>,
    /// When a stalled tool is tried again.
    stalled_until_ns: Option<u64>,
    next_hop_is_resolved: bool,
    echo: Probe,
    heartbeat: Probe,
    is_drained_by_command: bool,
    /// Since when all checks have been good while the tool was down.
    good_since_ns: Option<u64>,
    merit: Merit,
}

impl Health {
    /// A tool whose port has (or has not) a link and of which nothing else is known: up if that is enough. This is not an event.
    pub fn new(spec: HealthSpec, link_is_up: bool) -> Health {
        let is_up = link_is_up && !spec.needs_next_hop;
        Health {
            spec,
            state: if is_up { ToolState::Up } else { ToolState::Down },
            link_is_up,
            has_write_failed: false,
            waiting_since_ns: None,
            stalled_until_ns: None,
            next_hop_is_resolved: false,
            echo: Probe::default(),
            heartbeat: Probe::default(),
            is_drained_by_command: false,
            good_since_ns: None,
            merit: Merit::default(),
        }
    }

    pub fn state(&self) -> ToolState {
        self.state
    }

    /// Returns whether copies that wait are offered to its port. They are offered to a stalled port, which shows so that it takes
    /// packets again. They are not if there is no link or the file cannot be written, because what a driver takes then may be lost.
    pub fn can_send(&self) -> bool {
        self.link_is_up && !self.has_write_failed
    }

    /// Gives the state by which groups know it.
    pub fn member_state(&self) -> MemberState {
        match self.state {
            ToolState::Up => MemberState::Up,
            ToolState::Draining => MemberState::Draining,
            ToolState::Drained | ToolState::Down => MemberState::Down,
        }
    }

    /// Takes in what was observed at `now_ns`; gives the change of state that follows, if one does.
    pub fn observe(&mut self, observation: Observation, now_ns: u64) -> Option<StateChange> {
        match observation {
            Observation::Link { is_up } => self.link_is_up = is_up,
            Observation::Transmit { accepted, waiting } => self.observe_transmit(accepted, waiting, now_ns),
            Observation::NextHop { is_resolved } => self.next_hop_is_resolved = is_resolved,
            Observation::Echo { is_answered } => self.echo.observe(is_answered, self.spec.echo),
            Observation::Heartbeat { is_returned } => {
                self.heartbeat.observe(is_returned, self.spec.heartbeat)
            }
            Observation::Drain => self.is_drained_by_command = true,
            Observation::Enable => self.is_drained_by_command = false,
            Observation::WriteFailed => self.has_write_failed = true,
            Observation::Emptied | Observation::Tick => {}
        }
        if self.stalled_until_ns.is_some_and(|until| now_ns >= until) {
            self.stalled_until_ns = None;
        }
        let (to, reason) = self.judge(observation, now_ns)?;
        let from = std::mem::replace(&mut self.state, to);
        (from != to).then_some(StateChange { time_ns: now_ns, from, to, reason })
    }

    /// So much of the time that went by was no time of the tool's: those who hold its packets did not run.
    pub fn excuse(&mut self, excused_ns: u64, now_ns: u64) {
        if let Some(since) = &mut self.waiting_since_ns {
            *since = since.saturating_add(excused_ns).min(now_ns);
        }
    }

    /// When the state may change by time alone: feed `Tick` then.
    pub fn next_change_ns(&self) -> Option<u64> {
        if self.state != ToolState::Down {
            return self.waiting_since_ns.map(|since| since.saturating_add(self.spec.stall_ns));
        }
        let retry = self.stalled_until_ns;
        let recovery = self
            .good_since_ns
            .map(|since| since.saturating_add(self.spec.up_after_ns).max(self.merit.reuse_ns));
        [retry, recovery].into_iter().flatten().min()
    }

    fn observe_transmit(&mut self, accepted: u64, waiting: u64, now_ns: u64) {
        if accepted > 0 {
            self.stalled_until_ns = None;
        }
        if accepted > 0 || waiting == 0 {
            self.waiting_since_ns = None;
        } else {
            self.waiting_since_ns.get_or_insert(now_ns);
        }
    }

    /// The state that the tool should have, with the reason; `None` to leave it as it is.
    fn judge(&mut self, observation: Observation, now_ns: u64) -> Option<(ToolState, Reason)> {
        let failure = self.failure(now_ns);
        match (self.state, failure) {
            (ToolState::Drained, _) if self.is_drained_by_command => None,
            (ToolState::Up | ToolState::Draining, Some(reason)) => {
                let is_suppressed = self.merit.fail(&self.spec.damping, now_ns);
                self.good_since_ns = None;
                Some((ToolState::Down, if is_suppressed { Reason::Flapping } else { reason }))
            }
            (ToolState::Up, None) => {
                self.is_drained_by_command.then_some((ToolState::Draining, Reason::Drain))
            }
            (ToolState::Draining, None) if !self.is_drained_by_command => {
                Some((ToolState::Up, Reason::Enable))
            }
            (ToolState::Draining, None) => {
                (observation == Observation::Emptied).then_some((ToolState::Drained, Reason::Emptied))
            }
            (ToolState::Down, _) if self.is_drained_by_command => Some((ToolState::Drained, Reason::Drain)),
            // Enabled again: good checks let it up at once, because nothing had failed.
            (ToolState::Drained, None) => Some((ToolState::Up, Reason::Enable)),
            (ToolState::Drained, Some(reason)) => Some((ToolState::Down, reason)),
            (ToolState::Down, Some(_)) => {
                self.good_since_ns = None;
                None
            }
            (ToolState::Down, None) => {
                let since = *self.good_since_ns.get_or_insert(now_ns);
                let is_good =
                    now_ns >= since.saturating_add(self.spec.up_after_ns) && now_ns >= self.merit.reuse_ns;
                is_good.then_some((ToolState::Up, Reason::Recovered))
            }
        }
    }

    /// The first check that is bad, in the order of what causes what.
    fn failure(&mut self, now_ns: u64) -> Option<Reason> {
        if !self.link_is_up {
            self.waiting_since_ns = None;
            return Some(Reason::LinkDown);
        }
        if self.has_write_failed {
            self.waiting_since_ns = None;
            return Some(Reason::WriteError);
        }
        if self.waiting_since_ns.is_some_and(|since| now_ns.saturating_sub(since) >= self.spec.stall_ns) {
            self.waiting_since_ns = None;
            self.stalled_until_ns = Some(now_ns.saturating_add(self.spec.stall_retry_ns));
        }
        if self.stalled_until_ns.is_some() {
            Some(Reason::Stalled)
        } else if self.spec.needs_next_hop && !self.next_hop_is_resolved {
            Some(Reason::Unresolved)
        } else if self.echo.is_lost {
            Some(Reason::EchoLost)
        } else if self.heartbeat.is_lost {
            Some(Reason::HeartbeatLost)
        } else {
            None
        }
    }
}

/// Probes in a row that went the other way than the verdict that holds.
#[derive(Clone, Copy, Default, Debug)]
struct Probe {
    is_lost: bool,
    against: u32,
}

impl Probe {
    fn observe(&mut self, is_answered: bool, spec: Option<ProbeSpec>) {
        let Some(spec) = spec else { return };
        if is_answered != self.is_lost {
            self.against = 0;
            return;
        }
        self.against += 1;
        if self.against >= if self.is_lost { spec.rise } else { spec.retries } {
            *self = Probe { is_lost: !self.is_lost, against: 0 };
        }
    }
}

/// RFC 2439's figure of merit.
#[derive(Clone, Copy, Default, Debug)]
struct Merit {
    figure: f64,
    as_of_ns: u64,
    /// Until when the tool is suppressed; past if it is not.
    reuse_ns: u64,
}

impl Merit {
    /// Counts a failure; says whether the tool is suppressed by it.
    fn fail(&mut self, damping: &Damping, now_ns: u64) -> bool {
        let half_lives = now_ns.saturating_sub(self.as_of_ns) as f64 / damping.half_life_ns.max(1) as f64;
        self.figure = self.figure * 0.5f64.powf(half_lives) + damping.penalty;
        self.as_of_ns = now_ns;
        if self.figure <= damping.cutoff {
            return false;
        }
        let calm_ns = (self.figure / damping.reuse).log2().max(0.0) * damping.half_life_ns as f64;
        self.reuse_ns = now_ns.saturating_add((calm_ns as u64).min(damping.most_ns));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Observation::{Drain, Echo, Emptied, Enable, Heartbeat, Link, NextHop, Tick, Transmit};
    use proptest::prelude::*;

    const S: u64 = SECOND_NS;

    /// Feeds observations at times in seconds and gives the events as (time in seconds, state, reason).
    fn run(
        health: &mut Health,
        observations: &[(u64, Observation)],
    ) -> Vec<(u64, ToolState, &'static str)> {
        let events =
            observations.iter().filter_map(|&(time, observation)| health.observe(observation, time * S));
        events.map(|event| (event.time_ns / S, event.to, event.reason.word())).collect()
    }

    #[test]
    fn a_link_that_goes_takes_the_tool_down_at_once_and_up_after_a_second() {
        let mut health = Health::new(HealthSpec::LOCAL, true);
        assert_eq!(health.state(), ToolState::Up);
        let events = run(&mut health, &[(10, Link { is_up: false }), (20, Link { is_up: true })]);
        assert_eq!(events, [(10, ToolState::Down, "link_down")]);
        assert_eq!(health.next_change_ns(), Some(21 * S));
        assert_eq!(run(&mut health, &[(21, Tick), (22, Tick)]), [(21, ToolState::Up, "recovered")]);
    }

    #[test]
    fn a_tool_that_accepts_nothing_is_stalled_and_an_idle_one_is_not() {
        let mut health = Health::new(HealthSpec::LOCAL, true);
        let idle = Transmit { accepted: 0, waiting: 0 };
        let stuck = Transmit { accepted: 0, waiting: 50 };
        let slow = Transmit { accepted: 1, waiting: 50 };
        assert_eq!(run(&mut health, &[(1, idle), (9, idle), (10, slow), (20, slow)]), []);
        assert_eq!(run(&mut health, &[(30, stuck)]), []);
        assert_eq!(health.next_change_ns(), Some(31 * S));
        assert_eq!(run(&mut health, &[(31, stuck)]), [(31, ToolState::Down, "stalled")]);
        // Progress that the driver makes by itself brings it back ahead of the retry.
        assert_eq!(run(&mut health, &[(32, slow), (33, slow)]), [(33, ToolState::Up, "recovered")]);
        assert_eq!(run(&mut health, &[(40, stuck), (41, stuck)]), [(41, ToolState::Down, "stalled")]);
        assert_eq!(health.next_change_ns(), Some(46 * S), "tried again without progress");
        assert_eq!(run(&mut health, &[(46, Tick), (47, Tick)]), [(47, ToolState::Up, "recovered")]);
    }

    #[test]
    fn a_tunnel_tool_waits_for_its_next_hop() {
        let mut health = Health::new(HealthSpec { up_after_ns: 0, ..HealthSpec::TUNNEL }, true);
        assert_eq!(health.state(), ToolState::Down);
        let events =
            run(&mut health, &[(1, NextHop { is_resolved: true }), (50, NextHop { is_resolved: false })]);
        assert_eq!(events, [(1, ToolState::Up, "recovered"), (50, ToolState::Down, "unresolved")]);
    }

    #[test]
    fn time_that_workers_did_not_have_is_no_stall() {
        let stuck = Transmit { accepted: 0, waiting: 50 };
        let mut health = Health::new(HealthSpec { stall_ns: 1000, ..HealthSpec::LOCAL }, true);
        assert_eq!(health.observe(stuck, 100), None);
        for now_ns in [1200, 2300, 3400] {
            health.excuse(1000, now_ns);
            assert_eq!(health.observe(stuck, now_ns), None, "{now_ns}");
        }
        assert_eq!(health.observe(stuck, 4099), None);
        assert_eq!(
            health.observe(stuck, 4100).map(|event| event.reason),
            Some(Reason::Stalled),
            "1000 ns of its own"
        );
    }

    #[test]
    fn lost_probes_in_a_row_take_a_tool_down_and_answered_ones_in_a_row_bring_it_back() {
        for (probe, reason) in [
            ((|is_answered| Echo { is_answered }) as fn(bool) -> Observation, "echo_lost"),
            (|is_returned| Heartbeat { is_returned }, "heartbeat_lost"),
        ] {
            let probes = Some(ProbeSpec { retries: 3, rise: 2 });
            let mut health = Health::new(
                HealthSpec { echo: probes, heartbeat: probes, up_after_ns: 0, ..HealthSpec::LOCAL },
                true,
            );
            let answers = [false, false, true, false, false, false, true, false, true, true];
            let observations: Vec<_> =
                (0..).zip(answers).map(|(time, answer)| (time, probe(answer))).collect();
            assert_eq!(
                run(&mut health, &observations),
                [(5, ToolState::Down, reason), (9, ToolState::Up, "recovered")]
            );
        }
    }

    #[test]
    fn probes_that_were_not_asked_for_decide_nothing() {
        let mut health = Health::new(HealthSpec::LOCAL, true);
        let observations: Vec<_> = (0..50).map(|time| (time, Echo { is_answered: false })).collect();
        assert_eq!(run(&mut health, &observations), []);
    }

    #[test]
    fn a_drained_tool_empties_first_and_comes_back_by_command_only() {
        let mut health = Health::new(HealthSpec::LOCAL, true);
        assert_eq!(run(&mut health, &[(1, Drain), (2, Tick)]), [(1, ToolState::Draining, "drain")]);
        assert_eq!(health.member_state(), MemberState::Draining);
        assert_eq!(
            run(&mut health, &[(3, Emptied), (4, Link { is_up: true })]),
            [(3, ToolState::Drained, "emptied")]
        );
        assert_eq!(run(&mut health, &[(90, Tick), (99, Enable)]), [(99, ToolState::Up, "enable")]);
        assert_eq!(
            run(&mut health, &[(100, Drain), (101, Enable)]),
            [(100, ToolState::Draining, "drain"), (101, ToolState::Up, "enable")]
        );
        assert_eq!(
            run(&mut health, &[(200, Drain), (201, Link { is_up: false }), (202, Tick), (203, Enable)]),
            [
                (200, ToolState::Draining, "drain"),
                (201, ToolState::Down, "link_down"),
                (202, ToolState::Drained, "drain"),
                (203, ToolState::Down, "link_down")
            ]
        );
    }

    #[test]
    fn a_flapping_tool_is_held_down_until_it_is_calm() {
        let mut health = Health::new(HealthSpec { up_after_ns: 0, ..HealthSpec::LOCAL }, true);
        let flap = |time| [(time, Link { is_up: false }), (time + 1, Link { is_up: true })];
        assert_eq!(
            run(&mut health, &flap(0)),
            [(0, ToolState::Down, "link_down"), (1, ToolState::Up, "recovered")]
        );
        assert_eq!(
            run(&mut health, &flap(2)),
            [(2, ToolState::Down, "link_down"), (3, ToolState::Up, "recovered")]
        );
        assert_eq!(run(&mut health, &flap(4)), [(4, ToolState::Down, "flapping")]);
        // 1000 each at 0 s, 2 s and 4 s, halved every 15 s: 2742.7 at 4 s, 750 after 1.8707 half-lives.
        let reuse_ns = health.next_change_ns().unwrap();
        let expected = 4.0
            + 15.0 * ((1000.0 * (1.0 + 0.5f64.powf(2.0 / 15.0) + 0.5f64.powf(4.0 / 15.0))) / 750.0).log2();
        assert!((reuse_ns as f64 / 1e9 - expected).abs() < 1e-3, "{reuse_ns} ns, expected {expected} s");
        assert_eq!(health.observe(Tick, reuse_ns - 1), None);
        assert_eq!(health.observe(Tick, reuse_ns).map(|event| event.to), Some(ToolState::Up));
    }

    #[test]
    fn failures_far_apart_are_not_flapping() {
        let mut health = Health::new(HealthSpec { up_after_ns: 0, ..HealthSpec::LOCAL }, true);
        for minute in 0..20 {
            let events = run(
                &mut health,
                &[(60 * minute, Link { is_up: false }), (60 * minute + 1, Link { is_up: true })],
            );
            assert_eq!(events.len(), 2, "minute {minute}");
        }
    }

    #[test]
    fn a_file_that_a_replay_waits_for_is_stalled_after_a_minute_and_not_tried_before_it_takes_something() {
        let mut health = Health::new(HealthSpec::WAITED_FOR, true);
        let look = |health: &mut Health, second: u64, accepted: u64| {
            health.observe(Transmit { accepted, waiting: 64 }, second * SECOND_NS);
            health.state()
        };
        // one write in 59 s is slow
        for second in [0, 59, 118, 177] {
            assert_eq!(look(&mut health, second, 1), ToolState::Up);
            assert_eq!(look(&mut health, second + 1, 0), ToolState::Up);
        }
        assert_eq!([237, 238].map(|second| look(&mut health, second, 0)), [ToolState::Up, ToolState::Down]);
        assert!((239..5000).all(|second| look(&mut health, second, 0) == ToolState::Down));
        assert_eq!(
            [5000, 5001].map(|second| look(&mut health, second, 1)),
            [ToolState::Down, ToolState::Up]
        );
    }

    #[test]
    fn suppression_ends_after_its_longest_time() {
        let mut health = Health::new(HealthSpec { up_after_ns: 0, ..HealthSpec::LOCAL }, true);
        health.merit.figure = 1e9;
        assert_eq!(
            run(&mut health, &[(1, Link { is_up: false }), (2, Link { is_up: true })]),
            [(1, ToolState::Down, "flapping")]
        );
        assert_eq!(health.next_change_ns(), Some(121 * S));
    }

    proptest! {
        /// Whatever happens: a tool is never up with its link down or while drained, events are changes, and they chain.
        #[test]
        fn events_chain_and_a_bad_tool_is_never_up(steps in prop::collection::vec((0u64..3_000_000_000, 0usize..14), 1..200)) {
            let probes = Some(ProbeSpec::DEFAULT);
            let mut health = Health::new(HealthSpec { echo: probes, heartbeat: probes, ..HealthSpec::TUNNEL }, true);
            let all = [
                Link { is_up: true }, Link { is_up: false }, Transmit { accepted: 0, waiting: 9 }, Transmit { accepted: 5, waiting: 9 },
                Transmit { accepted: 0, waiting: 0 }, NextHop { is_resolved: true }, NextHop { is_resolved: false }, Echo { is_answered: true },
                Echo { is_answered: false }, Heartbeat { is_returned: true }, Heartbeat { is_returned: false }, Drain, Enable, Emptied,
            ];
            let (mut now_ns, mut state) = (0, health.state());
            let (mut link, mut drained, mut resolved) = (true, false, false);
            for (later, which) in steps {
                now_ns += later;
                match all[which] {
                    Link { is_up } => link = is_up,
                    NextHop { is_resolved } => resolved = is_resolved,
                    Drain => drained = true,
                    Enable => drained = false,
                    _ => {}
                }
                if let Some(event) = health.observe(all[which], now_ns) {
                    prop_assert_eq!(event.from, state);
                    prop_assert_ne!(event.to, event.from);
                    state = event.to;
                }
                prop_assert_eq!(state, health.state());
                prop_assert!(state != ToolState::Up || (link && resolved && !drained));
                prop_assert!(!matches!(state, ToolState::Drained) || drained);
                prop_assert!(state != ToolState::Draining || drained);
            }
            // Left alone with everything good, it comes up in the end.
            for observation in [Enable, Link { is_up: true }, NextHop { is_resolved: true }, Transmit { accepted: 1, waiting: 0 }] {
                health.observe(observation, now_ns);
            }
            for _ in 0..2 {
                health.observe(Echo { is_answered: true }, now_ns);
                health.observe(Heartbeat { is_returned: true }, now_ns);
            }
            let mut ticks = 0;
            while health.state() != ToolState::Up {
                now_ns = health.next_change_ns().expect("a tool that is down says when to look again");
                health.observe(Tick, now_ns);
                ticks += 1;
                prop_assert!(ticks < 5);
            }
        }
    }
}
