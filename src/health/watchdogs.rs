//! Watches of the control thread while workers run: workers that stall, tools near their limits, links of wires.
//!
//! Each watch is a small machine that is told what is and what time it is, and says what changed.

use std::collections::VecDeque;
use std::time::Duration;
use tapline_api::values::Rate;
use tapline_dpdk::lcore::CpuUse;

/// A worker that has not finished a turn for this long, besides the longest time that it may sleep, is stalled.
pub const STALL_LIMIT: Duration = Duration::from_millis(500);

/// Time between two readings of a worker's CPU time.
const CPU_INTERVAL: Duration = Duration::from_millis(100);

/// Watches one worker's turns.
#[derive(Clone, Copy, Default, Debug)]
pub struct Watchdog {
    turns: u64,
    since: Duration,
    is_stalled: bool,
    /// When the worker's CPU time was last read while its turns went on, and how much it was.
    ran: (Duration, Duration),
    /// The same for when it was seen to stand still.
    ran_still: Option<(Duration, Duration)>,
    /// How often the worker stalled.
    pub stalls: u64,
    /// How often that was because it got no CPU.
    pub starvations: u64,
}

/// A change that a watchdog saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It has not finished a turn for so long. Said once.
    Stalled(Duration),
    /// The same, and it wants to, but others had its CPU. Said once.
    Starved { quiet: Duration, ran: Duration },
    /// It goes on after so long.
    Recovered(Duration),
}

impl Watchdog {
    /// The worker has finished `turns` turns at `now`, and may take `limit` for one. `cpu` reads what its thread had of its CPU, which
    /// takes two calls of the system: it is asked now and then.
    pub fn look(
        &mut self,
        turns: u64,
        now: Duration,
        limit: Duration,
        cpu: impl Fn() -> CpuUse,
    ) -> Option<Turn> {
        let quiet = now.saturating_sub(self.since);
        if turns != self.turns {
            (self.turns, self.since) = (turns, now);
            self.ran_still = None;
            if now.saturating_sub(self.ran.0) >= CPU_INTERVAL {
                self.ran = (now, cpu().ran);
            }
            return std::mem::take(&mut self.is_stalled).then_some(Turn::Recovered(quiet));
        }
        if quiet >= STANDSTILL && self.ran_still.is_none() {
            self.ran_still = Some((now, cpu().ran));
        }
        if quiet < limit || self.is_stalled {
            return None;
        }
        self.is_stalled = true;
        self.stalls += 1;
        let Some(ran) = self.starved(now, cpu()) else { return Some(Turn::Stalled(quiet)) };
        self.starvations += 1;
        Some(Turn::Starved { quiet, ran })
    }

    /// Returns how long the worker ran, if it wants to run and others had its CPU: with a CPU it would have finished its turn.
    fn starved(&self, now: Duration, cpu: CpuUse) -> Option<Duration> {
        // who looks may have stood still as well: what the worker ran before its last turn ended is among it then
        let (since, most) = match self.ran_still {
            Some(still) if now.saturating_sub(still.0) >= CPU_INTERVAL => (still, 20),
            _ => (self.ran, 2),
        };
        let ran = cpu.ran.saturating_sub(since.1);
        (cpu.wants_more && most * ran <= now.saturating_sub(since.0)).then_some(ran)
    }

    pub fn is_stalled(&self) -> bool {
        self.is_stalled
    }
}

/// The time that tools are judged by: it stands still while a worker does, because a tool cannot accept a packet that no worker
/// offers, and what it answers waits until a worker polls. On a machine with more threads than CPUs a worker may go without one for
/// a while.
#[derive(Clone, Default, Debug)]
pub struct Pace {
    looked: Duration,
    /// For each worker: its turns, and since when they have been so many.
    workers: Vec<(u64, Duration)>,
    time: Duration,
    excused: Duration,
}

/// A worker that has not finished a turn for this long, besides the longest time that it may sleep, stands still.
const STANDSTILL: Duration = Duration::from_millis(20);
/// Nor does a step of the control thread longer than this say anything of tools: it stood still itself.
const LONGEST_STEP: Duration = Duration::from_millis(50);
/// A worker that stands still for longer than this is held up by more than others' work: perhaps by a tool's driver.
const LONGEST_STANDSTILL: Duration = Duration::from_secs(5);

impl Pace {
    /// Workers have finished these `turns` at `now`, and may sleep for `longest_sleep`.
    pub fn look(&mut self, turns: impl Iterator<Item = u64>, now: Duration, longest_sleep: Duration) {
        let elapsed = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        let mut is_held = false;
        for (index, turns) in turns.enumerate() {
            if index == self.workers.len() {
                self.workers.push((turns, now));
            }
            let (known, since) = &mut self.workers[index];
            if *known != turns {
                (*known, *since) = (turns, now);
            }
            let quiet = now.saturating_sub(*since);
            is_held |= quiet > STANDSTILL + longest_sleep && quiet < LONGEST_STANDSTILL + longest_sleep;
        }
        let counted = if is_held { Duration::ZERO } else { elapsed.min(LONGEST_STEP) };
        self.time += counted;
        self.excused += elapsed - counted;
    }

    /// The time so far.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Gives the time that was not counted since the last call.
    pub fn take_excused(&mut self) -> Duration {
        std::mem::take(&mut self.excused)
    }
}

/// The packets that a tool was sent of late.
#[derive(Clone, Default, Debug)]
pub struct Usage {
    looks: VecDeque<Sent>,
}

/// The packets that a tool had been sent when it was looked at.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sent {
    pub at: Duration,
    pub packets: u64,
    pub bits: u64,
}

impl Usage {
    /// So many that one more or less is no great share of them.
    const LEAST_PACKETS: u64 = 10;
    const LONGEST: Duration = Duration::from_secs(60);

    /// Gives what was sent since the last look, or, if few packets go in so short a time, in the latest time in which enough went.
    /// It gives nothing before enough went.
    pub fn look(&mut self, sent: Sent) -> Sent {
        self.looks.push_back(sent);
        let is_enough = |since: &Sent| {
            sent.packets - since.packets >= Self::LEAST_PACKETS || sent.at - since.at >= Self::LONGEST
        };
        while self.looks.get(1).is_some_and(is_enough) {
            self.looks.pop_front();
        }
        match self.looks.front().filter(|since| is_enough(since)) {
            Some(since) => Sent {
                at: sent.at - since.at,
                packets: sent.packets - since.packets,
                bits: sent.bits - since.bits,
            },
            None => Sent::default(),
        }
    }
}

impl Sent {
    /// Gives the share of a rate that was used. A tool that its rate holds back uses all of it: what was left over is less than a
    /// packet.
    pub fn share_of(&self, rate: Rate, is_held: bool) -> f64 {
        let packets = self.packets + u64::from(is_held);
        let used = match rate {
            Rate::PacketsPerSecond(rate) => packets as f64 / rate as f64,
            Rate::BitsPerSecond(rate) => {
                self.bits as f64 * packets as f64 / self.packets.max(1) as f64 / rate as f64
            }
        };
        if self.at.is_zero() { 0.0 } else { used / self.at.as_secs_f64() }
    }
}

/// An alarm with hold-off: above the threshold for all of `hold` raises it, not above for all of `hold` clears it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Alarm {
    is_raised: bool,
    /// Since when the value has been on the other side.
    crossed: Option<Duration>,
}

impl Alarm {
    /// The value is above the threshold, or not, at `now`. `Some(true)`: the alarm is raised by this; `Some(false)`: cleared.
    pub fn look(&mut self, is_above: bool, now: Duration, hold: Duration) -> Option<bool> {
        if is_above == self.is_raised {
            self.crossed = None;
            return None;
        }
        let since = *self.crossed.get_or_insert(now);
        if now.saturating_sub(since) < hold {
            return None;
        }
        self.crossed = None;
        self.is_raised = is_above;
        Some(is_above)
    }

    pub fn is_raised(&self) -> bool {
        self.is_raised
    }
}

/// How long a link that was taken down on purpose may take to come back before it is judged again.
const LINK_GRACE: Duration = Duration::from_secs(3);

/// Ties the links of a wire's two sides together: when one goes down the other is taken down, and up again when it returns.
#[derive(Clone, Copy, Default, Debug)]
pub struct LinkTie {
    /// The side that was taken down.
    forced: Option<usize>,
    /// Until when a side may be down without a consequence.
    grace: Duration,
}

impl LinkTie {
    /// Sides A and B are up, or not, at `now`. The side to be set, and whether up or down.
    pub fn look(&mut self, is_up: [bool; 2], now: Duration) -> Option<(usize, bool)> {
        match (self.forced, is_up) {
            // the side that was taken down says nothing; the other one has come back
            (Some(side), _) if is_up[1 - side] => {
                self.forced = None;
                self.grace = now + LINK_GRACE;
                Some((side, true))
            }
            (None, [false, true] | [true, false]) if now >= self.grace => {
                let side = usize::from(is_up[1]);
                self.forced = Some(side);
                Some((side, false))
            }
            _ => None,
        }
    }

    /// The side that is held down.
    pub fn forced(&self) -> Option<usize> {
        self.forced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_stalled_worker_is_named_once_and_again_when_it_goes_on() {
        let mut watchdog = Watchdog::default();
        let limit = ms(500);
        let mut look = |turns, now| watchdog.look(turns, ms(now), limit, || cpu(now, true));
        assert_eq!(look(1, 100), None);
        assert_eq!(look(1, 599), None);
        assert_eq!(look(1, 600), Some(Turn::Stalled(ms(500))));
        assert_eq!(look(1, 900), None);
        assert_eq!(look(2, 1000), Some(Turn::Recovered(ms(900))));
        assert_eq!(look(3, 1100), None);
        assert_eq!((watchdog.stalls, watchdog.starvations), (1, 0));
    }

    /// A thread that had its CPU for so long.
    fn cpu(ran: u64, wants_more: bool) -> CpuUse {
        CpuUse { ran: ms(ran), waited: Duration::ZERO, wants_more }
    }

    #[test]
    fn a_worker_without_a_cpu_is_told_from_one_that_hangs() {
        // it ran for 100 ms up to its last turn, and for 10 ms more before it was seen to stand still
        for (ran, wants_more, is_starved) in [
            (110, true, true),
            (130, true, true),
            (140, true, false),
            (600, true, false),
            (110, false, false),
        ] {
            let mut watchdog = Watchdog::default();
            assert_eq!(watchdog.look(7, ms(100), ms(500), || cpu(100, true)), None);
            assert_eq!(watchdog.look(7, ms(130), ms(500), || cpu(110, true)), None);
            let turn = watchdog.look(7, ms(600), ms(500), || cpu(ran, wants_more));
            let expected = if is_starved {
                Turn::Starved { quiet: ms(500), ran: ms(ran - 110) }
            } else {
                Turn::Stalled(ms(500))
            };
            assert_eq!(turn, Some(expected), "{ran}");
            assert_eq!((watchdog.stalls, watchdog.starvations), (1, u64::from(is_starved)));
        }
    }

    #[test]
    fn a_process_that_was_stopped_has_no_worker_that_hangs() {
        let mut watchdog = Watchdog::default();
        assert_eq!(watchdog.look(7, ms(100), ms(500), || cpu(100, true)), None);
        let turn = watchdog.look(7, ms(9100), ms(500), || cpu(190, true));
        assert_eq!(turn, Some(Turn::Starved { quiet: ms(9000), ran: ms(90) }));
    }

    /// Looks every 5 ms until `until`, at a worker whose turns go on unless it is held.
    fn keep_pace(pace: &mut Pace, now: &mut u64, until: u64, is_held: bool, turns: &mut u64) {
        while *now < until {
            *now += 5;
            *turns += u64::from(!is_held);
            pace.look([*turns, *now].into_iter(), ms(*now), Duration::ZERO);
        }
    }

    #[test]
    fn time_stands_still_while_a_worker_does_but_not_for_ever() {
        let (mut pace, mut now, mut turns) = (Pace::default(), 0, 0);
        keep_pace(&mut pace, &mut now, 1000, false, &mut turns);
        assert_eq!((pace.time(), pace.take_excused()), (ms(1000), ms(0)));
        keep_pace(&mut pace, &mut now, 2000, true, &mut turns);
        assert_eq!((pace.time(), pace.take_excused()), (ms(1020), ms(980)));
        keep_pace(&mut pace, &mut now, 3000, false, &mut turns);
        assert_eq!((pace.time(), pace.take_excused()), (ms(2020), ms(0)), "it goes on where it stood");
        keep_pace(&mut pace, &mut now, 13_000, true, &mut turns);
        assert!(
            pace.time() > ms(2020 + 4_900) && pace.take_excused() < ms(5_000),
            "no longer than five seconds"
        );
    }

    #[test]
    fn a_worker_that_sleeps_does_not_stand_still_and_a_control_thread_that_did_counts_little() {
        let mut pace = Pace::default();
        (1..=100).for_each(|look| pace.look([look / 20].into_iter(), ms(5 * look), ms(100)));
        assert_eq!(pace.time(), ms(500));
        pace.look([99].into_iter(), ms(2500), ms(100));
        assert_eq!((pace.time(), pace.take_excused()), (ms(550), ms(1950)));
    }

    proptest! {
        #[test]
        fn an_alarm_changes_after_hold_samples_in_a_row(values in prop::collection::vec(any::<bool>(), 0..200), hold in 1usize..10) {
            let mut alarm = Alarm::default();
            let mut is_raised = false;
            for (at, &is_above) in values.iter().enumerate() {
                // the last `hold + 1` samples, `hold` steps apart from first to last, agree against the state
                let run = values[..=at].iter().rev().take_while(|&&value| value != is_raised).count();
                let changes = run > hold;
                prop_assert_eq!(alarm.look(is_above, ms(at as u64), ms(hold as u64)), changes.then_some(!is_raised));
                is_raised ^= changes;
                prop_assert_eq!(alarm.is_raised(), is_raised);
            }
        }
    }

    #[test]
    fn the_use_of_a_rate_is_steady_however_few_packets_go_in_a_look() {
        // looked at ten times a second; the least and the greatest share once enough packets went
        let least_and_most = |rate: u64, sent: f64, is_held: bool| {
            let mut usage = Usage::default();
            let shares = (0..100u64).map(|look| {
                let packets = (look as f64 * sent / 10.0) as u64;
                usage.look(Sent { at: ms(100 * look), packets, bits: 800 * packets })
            });
            let shares: Vec<f64> =
                shares.map(|sent| sent.share_of(Rate::BitsPerSecond(800 * rate), is_held)).collect();
            shares[45..].iter().fold((f64::MAX, 0.0), |(least, most): (f64, f64), &share| {
                (least.min(share), most.max(share))
            })
        };
        for rate in [5, 7, 83, 10_000] {
            let (least, _) = least_and_most(rate, rate as f64, true);
            assert!(least > 0.99, "{rate} a second, used up: {least}");
            let (least, most) = least_and_most(rate, rate as f64 * 0.5, false);
            assert!(least >= 0.44 && most <= 0.56, "{rate} a second, half used: {least} to {most}");
        }
    }

    #[test]
    fn a_link_goes_down_with_the_other_and_comes_back_with_it() {
        let mut tie = LinkTie::default();
        assert_eq!(tie.look([true, true], ms(0)), None);
        assert_eq!(tie.look([false, true], ms(100)), Some((1, false)));
        // B is down because it was told to be: no reason to take A down
        assert_eq!(tie.look([false, false], ms(200)), None);
        assert_eq!(tie.look([true, false], ms(300)), Some((1, true)));
        // B takes its time
        assert_eq!(tie.look([true, false], ms(1300)), None);
        assert_eq!(tie.look([true, true], ms(2300)), None);
        assert_eq!(tie.look([true, false], ms(4000)), Some((0, false)));
        assert_eq!(tie.forced(), Some(0));
    }
}
