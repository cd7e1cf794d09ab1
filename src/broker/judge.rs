//! The judgement of what a second's statistics say beside those of the second before: what was lost, and whether the account balances.

use std::time::Duration;

use super::Broker;
use super::housekeeping::{Guards, OF_THRESHOLDS, record_alarm};
use crate::health::loss::{CLEAR_AFTER, Loss, LossWatch, Turn};
use crate::report::loss::{Cause, remedy};
use tapline_api::event::Alarm as Raised;
use tapline_api::snapshot::{PortEntry, Snapshot, ToolEntry};
use tapline_api::words::{AlarmKind, DropReason, Reason};
use tapline_dpdk::driver::Driver;

/// The account must be out of balance for this long, in which it is looked at twice.
const UNBALANCED_HOLD: Duration = Duration::from_millis(500);

impl Guards {
    /// Fills in which alarms are raised.
    pub(super) fn show_alarms(&self, snapshot: &mut Snapshot) {
        for ((_, tool), alarms) in snapshot.tools.iter_mut().zip(&self.alarms) {
            let raised = OF_THRESHOLDS.into_iter().zip(alarms).filter(|(_, alarm)| alarm.is_raised());
            tool.alarms = raised.map(|(kind, _)| kind).collect();
        }
        for ((_, tool), watch) in snapshot.tools.iter_mut().zip(&self.drops) {
            tool.alarms.extend(watch.is_raised().then_some(AlarmKind::Drops));
        }
        for ((_, port), watch) in snapshot.ports.iter_mut().zip(&self.losses) {
            port.alarms.extend(watch.is_raised().then_some(AlarmKind::Loss));
        }
    }
}

impl Broker {
    /// Begins an interval for whoever has none of his own, and judges the one that is over.
    pub(super) fn step(&mut self, now_ns: u64) {
        let snapshot = self.snapshot();
        if let Some(earlier) = self.moments.latest().cloned() {
            self.judge_ports(&snapshot, &earlier, now_ns);
            self.judge_tools(&snapshot, &earlier, now_ns);
        }
        self.judge_balance(&snapshot, now_ns);
        let mark = self.mark(&snapshot);
        self.moments.step(mark);
    }

    fn judge_ports(&mut self, now: &Snapshot, earlier: &Snapshot, now_ns: u64) {
        let pace = self.guards.pace.time();
        self.guards.losses.resize(self.plan.ports.len(), LossWatch::default());
        for (((name, port), plan), watch) in
            now.ports.iter().zip(&self.plan.ports).zip(&mut self.guards.losses)
        {
            if !plan.is_alarmed {
                watch.rest();
                continue;
            }
            let before = earlier.ports.get(name);
            let lost = since(PortEntry::lost, port, before);
            let of = lost + since(|port| port.received, port, before);
            let Some(turn) = watch.look(lost, of, pace) else { continue };
            let (Turn::Raised(loss) | Turn::Cleared(loss)) = turn;
            let cause = Cause::of(port, before);
            let Loss { lost, of, time } = loss;
            let alarm = Raised::Loss {
                port: name.clone(),
                lost,
                of,
                mostly: cause.word().to_owned(),
                seconds: seconds(time),
                quiet_s: CLEAR_AFTER.as_secs(),
                remedy: remedy(cause, Driver::named(&port.driver_name)),
            };
            record_alarm(&mut self.events, now_ns, alarm, matches!(turn, Turn::Raised(_)));
        }
    }

    fn judge_tools(&mut self, now: &Snapshot, earlier: &Snapshot, now_ns: u64) {
        let pace = self.guards.pace.time();
        self.guards.drops.resize(self.plan.tools.len(), LossWatch::default());
        let mut places = earlier.tools.iter();
        for (((name, tool), plan), watch) in
            now.tools.iter().zip(&self.plan.tools).zip(&mut self.guards.drops)
        {
            // in the same order as a rule; after a change they are looked for
            let next = places.next().filter(|(known, _)| known == name).map(|(_, tool)| tool);
            let before = next.or_else(|| earlier.tools.get(name));
            // who takes a tool out of service knows what it does not get
            if !plan.is_alarmed || tool.health.reason == Some(Reason::Drain) {
                watch.rest();
                continue;
            }
            let dropped = since(|tool| tool.copies.dropped.total(), tool, before);
            let of = since(|tool| tool.copies.ended(), tool, before);
            let Some(turn) = watch.look(dropped, of, pace) else { continue };
            let (Turn::Raised(loss) | Turn::Cleared(loss)) = turn;
            let Loss { lost: dropped, of, time } = loss;
            let alarm = Raised::Drops {
                tool: name.clone(),
                dropped,
                of,
                mostly: mostly(tool, before),
                seconds: seconds(time),
                quiet_s: CLEAR_AFTER.as_secs(),
            };
            record_alarm(&mut self.events, now_ns, alarm, matches!(turn, Turn::Raised(_)));
        }
    }

    fn judge_balance(&mut self, now: &Snapshot, now_ns: u64) {
        let elapsed = self.started.elapsed();
        let Some(is_raised) = self.guards.unbalanced.look(!now.balanced, elapsed, UNBALANCED_HOLD) else {
            return;
        };
        let (packets, copies) = (&now.packets, &now.copies);
        let alarm = Raised::Unbalanced {
            packets: packets.received.abs_diff(packets.ended()),
            most_packets: now.in_flight_limit.packets,
            copies: copies.requested.abs_diff(copies.ended()),
            most_copies: now.in_flight_limit.copies,
        };
        record_alarm(&mut self.events, now_ns, alarm, is_raised);
    }
}

/// Returns what was counted since `before`; all of it where counters began anew.
fn since<T>(count: impl Fn(&T) -> u64, now: &T, before: Option<&T>) -> u64 {
    let now = count(now);
    now.checked_sub(before.map_or(0, count)).unwrap_or(now)
}

/// Returns the reason for which most copies were dropped since `before`.
fn mostly(tool: &ToolEntry, before: Option<&ToolEntry>) -> DropReason {
    let of = |reason: &DropReason| since(|tool| tool.copies.dropped.get(*reason), tool, before);
    // in the second before the loss is over nothing was dropped: those of all time
    let all = |reason: &DropReason| tool.copies.dropped.get(*reason);
    DropReason::ALL
        .into_iter()
        .max_by_key(|reason| (of(reason), all(reason)))
        .unwrap_or(DropReason::Congested)
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}
