//! The state that changes while a plan runs: which rules are on, which tools take copies, and which member of a group has which
//! bucket.
//!
//! The control thread publishes a fresh immutable `Live`; a worker takes it up between two bursts, so that no burst is judged by
//! half of a change. A worker pays one load a turn, and takes the lock only after a change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::egress::mtu::FrameLimits;
use crate::ids::{EgressId, GroupId, PortId, RuleId, ToolId};
use crate::route::balance::BucketTable;
use tapline_packet::by_id::ById;
use tapline_packet::headers::ethernet::MacAddress;

/// One state of all that changes.
#[derive(Clone, Default)]
pub struct Live {
    /// Its schedule lets it take packets.
    pub rules_on: ById<RuleId, bool>,
    /// Rules that name it send to it. A tool that is draining still gets what a group's table gives it. A direction of a
    /// wire is up while the port that it leaves by has a link.
    pub egress_up: ById<EgressId, bool>,
    /// Packets that wait for the egress are offered to its port, whether that is up or not. A driver may take all packets for a
    /// link that is down, and lose them.
    pub can_send: ById<EgressId, bool>,
    /// All packets go the same way, and every tool on it takes copies.
    pub go_straight: ById<PortId, bool>,
    pub tables: ById<GroupId, BucketTable>,
    /// The Ethernet address of a tunnel's next hop, once it is known.
    pub next_hops: ById<ToolId, Option<MacAddress>>,
    /// The frames that its port takes by its MTU, if it does not take all.
    pub fits: ById<EgressId, Option<FrameLimits>>,
}

/// The place at which the control thread publishes the state in force.
pub struct LiveCell {
    /// control: writes under the lock, with release; workers: read, with acquire.
    version: AtomicU64,
    current: Mutex<Arc<Live>>,
}

impl LiveCell {
    pub fn new(live: Live) -> Self {
        Self { version: AtomicU64::new(0), current: Mutex::new(Arc::new(live)) }
    }

    /// control: the state in force.
    pub fn current(&self) -> Arc<Live> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// control: lets every worker go on with `live` from its next turn.
    pub fn publish(&self, live: Live) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(live);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// control: wakes every worker, so that it looks for another part in its `Swap`; the state stays as it is.
    pub fn wake(&self) {
        // the lock orders it behind a publication
        let _current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// A worker's view of the state in force.
pub struct LiveView {
    cell: Arc<LiveCell>,
    version: u64,
    live: Arc<Live>,
}

impl LiveView {
    pub fn new(cell: Arc<LiveCell>) -> Self {
        let current = cell.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, live) = (cell.version.load(Ordering::Acquire), Arc::clone(&current));
        drop(current);
        Self { cell, version, live }
    }

    #[inline(always)]
    pub fn get(&self) -> &Live {
        &self.live
    }

    /// Adopts the state that was published since. Gives the state before it, or `None` if nothing was published.
    #[inline(always)]
    pub fn refresh(&mut self) -> Option<Arc<Live>> {
        if self.cell.version.load(Ordering::Acquire) == self.version { None } else { Some(self.adopt()) }
    }

    #[cold]
    fn adopt(&mut self) -> Arc<Live> {
        let current = self.cell.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.version = self.cell.version.load(Ordering::Acquire);
        std::mem::replace(&mut self.live, Arc::clone(&current))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_takes_up_what_is_published_once() {
        let live = |is_on| Live { rules_on: vec![is_on].into(), ..Live::default() };
        let cell = Arc::new(LiveCell::new(live(false)));
        let mut view = LiveView::new(Arc::clone(&cell));
        assert!(view.refresh().is_none() && !view.get().rules_on[RuleId(0)]);
        cell.publish(live(true));
        assert!(!view.get().rules_on[RuleId(0)]);
        assert!(view.refresh().is_some_and(|before| !before.rules_on[RuleId(0)]));
        assert!(view.refresh().is_none() && view.get().rules_on[RuleId(0)]);
    }
}
