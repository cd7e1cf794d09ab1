//! Copies that other workers hand over to the one that owns the tool's transmit queue.

use std::sync::Arc;

use super::admission::Fill;
use super::backlog::Backlog;
use crate::counters::EgressCounters;
use crate::ids::EgressId;
use tapline_dpdk::ring::Receiver;

/// Copies for a tool that other workers hand over to the one that owns its transmit queue.
pub struct Incoming {
    pub(crate) egress: EgressId,
    pub(super) ring: Receiver,
    pub(super) backlog: Arc<Backlog>,
    /// The part of the backlog that is the owner's own queue.
    pub(super) known: Fill,
}

impl Incoming {
    pub fn new(egress: EgressId, ring: Receiver, backlog: Arc<Backlog>) -> Self {
        Self { egress, ring, backlog, known: Fill::default() }
    }

    /// Brings the backlog up to date with the owner's queue, in which `fill` waits.
    pub(super) fn settle(&mut self, fill: Fill, is_held_by_rate: bool, counted: &EgressCounters) {
        self.backlog.change(self.known, fill);
        self.known = fill;
        self.backlog.note_held_by_rate(is_held_by_rate);
        let waiting = self.backlog.fill();
        counted.note_depth(waiting.packets);
        counted.queued_bytes.set(waiting.bytes);
    }
}
