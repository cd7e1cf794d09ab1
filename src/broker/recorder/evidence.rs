//! Evidence: what the segments of a store say of its packets beside the packets, in words of the plan.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::plan::Plan;
use crate::plan::value::RulePlan;
use tapline_capture::blocks::Direction;
use tapline_datapath::counters::PortCounters;
use tapline_datapath::ids::{Attachment, PortId, RuleMark, ToolId};
use tapline_packet::by_id::ById;
use tapline_store::PortCounts;

/// The counts of a port: what workers received of it, and what was lost before.
#[derive(Default)]
pub struct PortTally {
    pub workers: Vec<Arc<PortCounters>>,
    /// control: writes; writers: read. As of the last look at the driver.
    pub missed: AtomicU64,
    /// The counts when the port was attached: those of a device that it had before.
    pub before: PortCounts,
}

impl PortTally {
    pub(super) fn counts(&self) -> PortCounts {
        PortCounts {
            received: received(&self.workers).saturating_sub(self.before.received),
            missed: self.missed.load(Ordering::Relaxed).saturating_sub(self.before.missed),
        }
    }
}

/// Packets that workers received of a port.
pub fn received(workers: &[Arc<PortCounters>]) -> u64 {
    workers.iter().map(|worker| worker.received()).sum()
}

/// The counts of all ports that were attached in a run, by their attachments.
pub type PortTallies = Arc<Mutex<HashMap<Attachment, Arc<PortTally>>>>;

/// The words for the packets of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleWords {
    pub description: String,
    /// The rule's filter, where it is an expression of libpcap.
    pub filter: Option<String>,
}

/// This is what a plan says of the packets of a store.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Evidence {
    /// The program, and the plan by its name.
    pub comment: String,
    pub rules: HashMap<RuleMark, RuleWords>,
    /// The rules of the plan before: some workers may go by it a little longer.
    pub rules_before: HashMap<RuleMark, RuleWords>,
    /// Ports whose packets have one direction.
    pub directions: HashMap<Attachment, Direction>,
}

impl Evidence {
    /// This is what `plan`, whose ports have these attachments, says of the packets of `tool`.
    pub fn of(plan: &Plan, tool: ToolId, attachments: &ById<PortId, Attachment>) -> Self {
        let feeds = |rule: &&RulePlan| plan.tools_of(&rule.targets).any(|fed| fed == tool);
        let by_tool = plan.anonymizes(tool).is_some();
        let words = |rule: &RulePlan| {
            let by_rule = rule.edits.is_some_and(|id| plan.work.edits[id].anonymizes().is_some());
            let priority = rule.priority;
            // an expression may name the addresses that are hidden
            if by_tool || by_rule {
                return RuleWords { description: format!("rule {priority}"), filter: None };
            }
            let blank = if rule.words.is_empty() { "" } else { " " };
            RuleWords {
                description: format!("rule {priority}{blank}{}", rule.words),
                filter: rule.expression.clone(),
            }
        };
        let rules = plan.rules.iter().filter(feeds).map(|rule| (rule.mark(), words(rule)));
        // what comes by a side of a wire came in there
        let of_wires = plan.ports.ids().filter(|&port| plan.wire_at(port).is_some());
        let directions = of_wires.map(|port| (attachments[port], Direction::Inbound));
        let hash = plan.hash.text();
        let comment = format!("tapline {}, plan {hash}", env!("CARGO_PKG_VERSION"));
        let directions = directions.collect();
        Self { comment, rules: rules.collect(), rules_before: HashMap::new(), directions }
    }

    /// The words for the packets of a rule.
    pub(super) fn words(&self, rule: RuleMark) -> Option<&RuleWords> {
        self.rules.get(&rule).or_else(|| self.rules_before.get(&rule))
    }

    /// Returns whether packets of a store that has these words are described by `other`, too.
    fn is_like(&self, other: &Self) -> bool {
        self.rules == other.rules && self.directions == other.directions
    }
}

/// The evidence of a store, which changes with the plan.
#[derive(Default, Debug)]
pub struct EvidenceCell {
    /// control: raises, behind the evidence.
    generation: AtomicU64,
    evidence: Mutex<Arc<Evidence>>,
    /// control: sets; writer: reads. A replay waits for the store. Relaxed suffices: it is a wish.
    waits: AtomicBool,
}

impl EvidenceCell {
    /// The first evidence of a store, and whether a replay waits for it.
    pub fn new(evidence: Evidence, waits: bool) -> Self {
        Self {
            generation: AtomicU64::new(0),
            evidence: Mutex::new(Arc::new(evidence)),
            waits: AtomicBool::new(waits),
        }
    }

    /// writer: whether a replay waits for the store.
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// control: puts other evidence in its place, if it says something else of packets.
    pub fn set(&self, mut evidence: Evidence, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
        let mut known = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_like(&evidence) {
            evidence.rules_before.clone_from(&known.rules);
            *known = Arc::new(evidence);
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// writer: the evidence, if it is not the one of generation `seen`.
    pub(super) fn newer(&self, seen: u64) -> Option<(u64, Arc<Evidence>)> {
        (self.generation.load(Ordering::Acquire) != seen).then(|| self.read())
    }

    pub(super) fn read(&self) -> (u64, Arc<Evidence>) {
        let known = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        (self.generation.load(Ordering::Acquire), Arc::clone(&known))
    }
}
