//! The stores of a broker: what becomes of them is recorded, and they are told what the plan says of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use super::Broker;
use super::recorder::Storing;
use super::recorder::evidence::{Evidence, PortTally, received};
use crate::plan::Plan;
use tapline_api::event::{Alarm, Event};
use tapline_api::snapshot::StoreEntry;
use tapline_store::PortCounts;
use tapline_store::status::{Happening, StoreCounts};

/// This is what statistics show of a store.
pub(super) fn entry(store: &Storing) -> StoreEntry {
    let StoreCounts { segments, bytes, oldest_ns, begun, expired, expired_bytes, is_failing } =
        store.handle.status().counts();
    StoreEntry {
        segments,
        bytes,
        oldest: oldest_ns.map(|ns| ns as f64 / 1e9),
        begun,
        expired,
        expired_bytes,
        failing: is_failing,
    }
}

impl Broker {
    /// Records what became of stores since the last look, and gives them the ports' counts.
    pub(super) fn watch_stores(&mut self, now_ns: u64) {
        if self.recorders.iter().all(|recorder| recorder.store().is_none()) {
            return;
        }
        self.tally_ports();
        let mut events = Vec::new();
        for recorder in &self.recorders {
            let Some(store) = recorder.store() else { continue };
            let name = || self.plan.tools[recorder.tool].name.clone();
            let path = || store.path.display().to_string();
            for happening in store.handle.status().take_happenings() {
                events.push(match happening {
                    Happening::Repaired(repaired) => Event::SegmentRepaired {
                        tool: name(),
                        file: repaired.name.to_string(),
                        packets: repaired.packets,
                        kept_bytes: repaired.kept_bytes,
                        cut_bytes: repaired.cut_bytes,
                    },
                    Happening::Expired { segment, reason } => Event::SegmentExpired {
                        tool: name(),
                        file: segment.name.to_string(),
                        bytes: segment.bytes,
                        reason,
                    },
                    Happening::Failing { error, .. } => {
                        Event::AlarmRaised(Alarm::CaptureFailed { tool: name(), path: path(), error })
                    }
                    Happening::Recovered => Event::StoreResumed { tool: name(), path: path() },
                });
            }
        }
        for event in events {
            // what was lost is missing at the end, too
            if event.alarm().is_some() {
                self.fail(now_ns, event)
            } else {
                self.events.record(now_ns, event)
            }
        }
    }

    /// Shows stores the counts of ports.
    pub(super) fn tally_ports(&self) {
        let mut tallies = self.account.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        for (port, &attachment) in self.machine.attachments.entries() {
            // a port's counters stay as long as its attachment
            let driver = self.machine.driver_stats(port);
            let missed = driver.missed + driver.no_mbuf;
            let tally = tallies.entry(attachment).or_insert_with(|| {
                let workers = self.account.counters.iter().map(|worker| Arc::clone(&worker.ports[port]));
                let workers: Vec<_> = workers.collect();
                let before = PortCounts { received: received(&workers), missed };
                Arc::new(PortTally { workers, missed: AtomicU64::new(missed), before })
            });
            tally.missed.store(missed, Ordering::Relaxed);
        }
    }

    /// Tells stores what `plan`, which comes, wishes of them, and says of their packets.
    pub(super) fn tell_stores(&self, plan: &Plan) {
        for recorder in &self.recorders {
            let tool = recorder.tool;
            if let (Some(store), Some(spec)) = (recorder.store(), &plan.tools[tool].store) {
                store.handle.set(spec.clone());
                let evidence = Evidence::of(plan, tool, &self.machine.attachments);
                store.evidence.set(evidence, plan.is_waited_for(tool));
            }
        }
    }
}
