//! The way of copies into a store: each origin, a port and the rule that chose the packet there first, is an interface of its own.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fnv::FnvBuildHasher;

use super::evidence::{Evidence, EvidenceCell, PortTallies, PortTally};
use super::{PortNames, Round};
use tapline_capture::{InterfaceId, Packet};
use tapline_datapath::counters::EgressCounters;
use tapline_datapath::egress::capture_queue::{BatchRing, PacketMeta};
use tapline_datapath::ids::{Attachment, RuleMark};
use tapline_store::{PortCounts, Put, Source, SourceId, Store, StorePort, Written};

/// The time between two looks at whether the disk has room again.
const REST: Duration = Duration::from_micros(50);

type Origin = (Attachment, RuleMark);

/// A store, as its writer has it.
pub(super) struct StoreMedium {
    store: Store,
    cell: Arc<EvidenceCell>,
    generation: u64,
    evidence: Arc<Evidence>,
    names: PortNames,
    tallies: PortTallies,
    ports: HashMap<Attachment, (StorePort, Arc<PortTally>), FnvBuildHasher>,
    sources: HashMap<Origin, SourceId, FnvBuildHasher>,
    /// The origin of the last packet.
    last: Option<(Origin, SourceId)>,
    /// Losses of the workers that are noted already, by ring and by place there.
    noted: Vec<Vec<u64>>,
    counters: Arc<EgressCounters>,
}

impl StoreMedium {
    pub(super) fn new(
        mut store: Store,
        cell: Arc<EvidenceCell>,
        (names, tallies): (PortNames, PortTallies),
        counters: Arc<EgressCounters>,
    ) -> Self {
        let (generation, evidence) = cell.read();
        let known = tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let ports = known
            .iter()
            .map(|(&port, tally)| (port, (store.add_port(tally.counts()), Arc::clone(tally))))
            .collect();
        drop(known);
        Self {
            store,
            cell,
            generation,
            evidence,
            names,
            tallies,
            ports,
            sources: HashMap::default(),
            last: None,
            noted: Vec::new(),
            counters,
        }
    }

    /// Takes a packet, or counts in `round` why it is lost. `is_over` says whether nobody waits for it any more.
    pub(super) fn put(
        &mut self,
        meta: &PacketMeta,
        bytes: &[u8],
        round: &mut Round,
        is_over: &dyn Fn() -> bool,
    ) {
        let source = self.source((meta.port, meta.rule));
        while !self.store.has_room() && self.cell.waits() && !is_over() {
            self.look(round);
            std::thread::sleep(REST);
        }
        let packet = Packet {
            interface: InterfaceId(0),
            time_ns: meta.time_ns,
            bytes,
            original_len: meta.original_len,
            comments: &[],
        };
        if let Put::Lost(reason) = self.store.put(source, packet) {
            round.lost[reason as usize] += 1;
        }
    }

    fn source(&mut self, origin: Origin) -> SourceId {
        match self.last {
            Some((last, source)) if last == origin => source,
            _ => {
                let source = match self.sources.get(&origin) {
                    Some(&known) => known,
                    None => self.describe(origin),
                };
                self.last = Some((origin, source));
                source
            }
        }
    }

    #[cold]
    fn describe(&mut self, origin: Origin) -> SourceId {
        let (port, rule) = origin;
        let name = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(port.0 as usize).cloned();
        let port_of_store = self.port(port);
        // a worker may go by the plan that comes before this thread has looked for its words
        let (_, newest) = self.cell.read();
        let words = self.evidence.words(rule).or_else(|| newest.words(rule));
        let source = self.store.add_source(Source {
            name: name.unwrap_or_default(),
            description: words.map(|words| words.description.clone()),
            filter: words.and_then(|words| words.filter.clone()),
            direction: self.evidence.directions.get(&port).copied(),
            port: port_of_store,
        });
        self.sources.insert(origin, source);
        source
    }

    /// The port of the store for an attachment, which may have come behind the store.
    fn port(&mut self, attachment: Attachment) -> Option<StorePort> {
        if let Some((port, _)) = self.ports.get(&attachment) {
            return Some(*port);
        }
        let tally =
            self.tallies.lock().unwrap_or_else(PoisonError::into_inner).get(&attachment).cloned()?;
        let port = self.store.add_port(PortCounts::default());
        self.ports.insert(attachment, (port, tally));
        Some(port)
    }

    /// Takes over what ports have counted.
    pub(super) fn tell_ports(&mut self) {
        for (port, tally) in self.ports.values() {
            self.store.tell_port(*port, tally.counts());
        }
    }

    /// Notes what the workers had no room for.
    pub(super) fn note_lost(&mut self, rings: &[Arc<BatchRing>]) {
        self.noted.resize_with(rings.len(), Vec::new);
        for (ring, of_ring) in rings.iter().enumerate() {
            for (place, (port, rule, packets)) in of_ring.lost().enumerate() {
                let noted = &mut self.noted[ring];
                noted.resize(noted.len().max(place + 1), 0);
                let more = packets - std::mem::replace(&mut noted[place], packets);
                if more > 0 {
                    let source = self.source((port, rule));
                    self.store.lose(source, more);
                }
            }
        }
    }

    /// Does what is due, and adds to `round` what has come to its end.
    pub(super) fn look(&mut self, round: &mut Round) {
        if let Some((generation, evidence)) = self.cell.newer(self.generation) {
            (self.generation, self.evidence) = (generation, evidence);
            self.store.turn_over(self.evidence.comment.clone());
            self.sources.clear();
            self.last = None;
        }
        let Written { writes, packets, bytes, cut_bytes, lost } = self.store.tend();
        self.counters.writes.add(writes);
        round.packets += packets;
        round.bytes += bytes + cut_bytes;
        round.cut_bytes += cut_bytes;
        round.lost.iter_mut().zip(lost).for_each(|(sum, lost)| *sum += lost);
    }

    /// Ends the last segment. Returns whether that is done; what has come to its end is in `round`.
    pub(super) fn finish(&mut self, round: &mut Round) -> bool {
        self.tell_ports();
        let is_done = self.store.finish();
        self.look(round);
        is_done
    }
}
