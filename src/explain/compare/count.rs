//! Packets whose fates differ, counted by cause.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use super::cause::{Cause, Found};
use crate::explain::Packet;
use crate::explain::fields::Fields;
use tapline_packet::layers::{Depth, parse};

/// The causes that are told apart; packets with others are counted together.
pub const MOST_CAUSES: usize = 1000;
/// The flows that are told apart, of each cause by themselves.
pub const MOST_FLOWS: usize = 1 << 20;

/// A packet that is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// From 1, in the order of the capture.
    pub number: u64,
    pub time_ns: u64,
    pub port: String,
    pub fields: Fields,
}

/// Packets of one cause, and of the same outcomes.
#[derive(Clone, Debug)]
pub struct Group {
    pub cause: Cause,
    /// The fates in words.
    pub old: String,
    pub new: String,
    /// A tool, group or wire no longer has these packets.
    pub is_loss: bool,
    pub count: u64,
    pub flows: u64,
    /// Bytes on the wire.
    pub bytes: u64,
    pub first: Shown,
}

/// The packets of a capture, by whether their fates differ.
#[derive(Default, Debug)]
pub struct Counted {
    pub same: u64,
    pub different: u64,
    /// Packets of `different` that a tool, group or wire no longer has.
    pub lost: u64,
    /// Flows of `different`.
    pub flows: u64,
    /// There are more flows than are told apart: their numbers are the least that there are.
    pub is_least: bool,
    /// Bytes on the wire of `different`.
    pub bytes: u64,
    /// Packets that no Ethernet frames are made of.
    pub passed_over: u64,
    /// Packets of `different` that are in no group, since there are too many.
    pub ungrouped: u64,
    groups: Vec<Group>,
    places: HashMap<(Cause, String, String, bool), usize>,
    /// Hashes of flows, by the place of the group; all together at `usize::MAX`.
    known: HashSet<(usize, u64)>,
}

impl Counted {
    /// Counts a packet whose fates differ.
    pub(super) fn add(&mut self, found: Found, port: &str, packet: &Packet<'_>) {
        let Found { cause, old, new, is_loss } = found;
        let layers = parse(&packet.frame, Depth::Full);
        let fields = Fields::of(packet.frame.bytes(), &layers);
        let (flow, bytes) = (flow_of(&fields), u64::from(packet.frame.original_len()));
        self.different += 1;
        self.lost += u64::from(is_loss);
        self.bytes += bytes;
        self.flows += u64::from(self.is_new_flow(usize::MAX, flow));
        let place = match self.places.entry((cause, old, new, is_loss)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(_) if self.groups.len() >= MOST_CAUSES => {
                self.ungrouped += 1;
                return;
            }
            Entry::Vacant(vacant) => {
                let (cause, old, new, is_loss) = vacant.key().clone();
                let first =
                    Shown { number: packet.number, time_ns: packet.time_ns, port: port.to_owned(), fields };
                self.groups.push(Group { cause, old, new, is_loss, count: 0, flows: 0, bytes: 0, first });
                *vacant.insert(self.groups.len() - 1)
            }
        };
        let is_new = self.is_new_flow(place, flow);
        let group = &mut self.groups[place];
        group.count += 1;
        group.bytes += bytes;
        group.flows += u64::from(is_new);
    }

    fn is_new_flow(&mut self, place: usize, flow: u64) -> bool {
        if self.known.len() < MOST_FLOWS {
            return self.known.insert((place, flow));
        }
        self.is_least |= !self.known.contains(&(place, flow));
        false
    }

    /// Returns the packets that were compared.
    pub fn total(&self) -> u64 {
        self.same + self.different
    }

    /// Gives the groups, those with the most packets first.
    pub fn groups(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.first.number));
        groups
    }
}

/// Hashes what makes packets one flow, the same in both directions: addresses, protocol and ports of the innermost headers, or what there
/// is in their place.
fn flow_of(fields: &Fields) -> u64 {
    let innermost = std::iter::successors(Some(fields), |fields| fields.inner.as_deref()).last();
    let fields = innermost.unwrap_or(fields);
    let mut hasher = DefaultHasher::new();
    let ports = fields.ports.unwrap_or_default();
    match fields.addresses {
        Some((source, destination)) => {
            let (one, other) = ((source, ports.0), (destination, ports.1));
            (one.min(other), one.max(other), fields.protocol).hash(&mut hasher);
        }
        None => {
            let macs = fields.macs.map(|(source, destination)| (source.0, destination.0));
            let macs = macs.map(|(one, other)| (one.min(other), one.max(other)));
            (macs, fields.ethertype).hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::compare::cause::Kind;
    use tapline_packet::frame::Frame;

    fn found(outcome: &str) -> Found {
        let cause = Cause { kind: Kind::Rule, object: None, old: None, new: None };
        Found { cause, old: outcome.to_owned(), new: String::new(), is_loss: false }
    }

    #[test]
    fn causes_beyond_the_bound_are_counted_together() {
        let mut counted = Counted::default();
        for number in 1..=MOST_CAUSES as u64 + 5 {
            let packet = Packet { number, time_ns: 0, frame: Frame::new(&[0; 60], 60) };
            counted.add(found(&number.to_string()), "in", &packet);
        }
        assert_eq!((counted.different, counted.ungrouped), (MOST_CAUSES as u64 + 5, 5));
        assert_eq!(counted.groups().len(), MOST_CAUSES);
        assert_eq!((counted.flows, counted.is_least), (1, false));
    }

    #[test]
    fn both_directions_are_one_flow() {
        // Ethernet, IPv4 10.0.0.1 > 10.0.0.2, UDP 1000 > 53
        let mut there = [0; 60];
        there[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17]);
        there[26..38].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 3, 0xe8, 0, 53]);
        let mut back = there;
        back[26..38].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1, 0, 53, 3, 0xe8]);
        let mut other = there;
        other[37] = 54;
        let flow = |bytes: &[u8]| {
            let frame = Frame::new(bytes, bytes.len() as u32);
            flow_of(&Fields::of(bytes, &parse(&frame, Depth::Full)))
        };
        assert_eq!(flow(&there), flow(&back));
        assert_ne!(flow(&there), flow(&other));
    }
}
