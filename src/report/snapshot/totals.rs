//! The sums of what the workers counted, and the two identities of the ledger that the sums are judged by.

use std::sync::Arc;
use tapline_api::words::DropReason;
use tapline_datapath::ids::{EgressId, GroupId, PortId, RuleId};

use crate::plan::Plan;
use crate::report::ledger::packets_of;
use tapline_api::snapshot::{self, Copies, Dropped, FlowCounters, Packets, Refused};
use tapline_datapath::counters::dedup::{DedupCounters, PairCounters};
use tapline_datapath::counters::latency::Merged;
use tapline_datapath::counters::{EgressCounters, GroupCounters, Origins, WorkerCounters, WriterCounters};
use tapline_datapath::egresses::Egresses;
use tapline_packet::by_id::{ById, Id};

/// The sums of what the workers counted, indexed by the plan's ids.
#[derive(Clone, Default, Debug)]
pub struct Totals {
    pub packets: Packets,
    pub ports: ById<PortId, PortTotals>,
    pub rules: ById<RuleId, RuleTotals>,
    pub egresses: ById<EgressId, ToolTotals>,
    pub groups: ById<GroupId, GroupTotals>,
    /// The dedup of each rule; `None` if the rule does not look for duplicates.
    pub dedups: ById<RuleId, Option<DedupTotals>>,
    /// Holds what tools, groups and wires had counted that the plan has no more.
    pub departed: Departed,
}

/// The fate of copies and originals of tools, groups and wires that plans before had.
#[derive(Clone, Default, Debug)]
pub struct Departed {
    /// Packets of ports that are gone.
    pub received: u64,
    /// Counts the copies of tools, and those of groups that no member got.
    pub copies: Copies,
    /// Counts the originals of wires.
    pub originals: Copies,
}

impl Departed {
    /// This is what statistics show of it, if there is anything.
    pub(super) fn entry(&self) -> Option<snapshot::Departed> {
        let entry = snapshot::Departed { received: self.received, copies: self.copies };
        (entry != snapshot::Departed::default()).then_some(entry)
    }

    /// Adds those of others.
    pub fn add(&mut self, more: &Self) {
        self.received += more.received;
        self.copies.add(&more.copies);
        self.originals.add(&more.originals);
    }

    fn is_balanced(&self) -> bool {
        self.copies.is_balanced() && self.originals.is_balanced()
    }

    fn at_rest(&mut self) {
        for copies in [&mut self.copies, &mut self.originals] {
            copies.requested = copies.ended();
        }
    }
}

/// This is what some counters of one egress say of its copies.
pub fn copies_of<'a>(counters: impl Iterator<Item = &'a EgressCounters> + Clone) -> Copies {
    let sum = |get: &dyn Fn(&EgressCounters) -> u64| counters.clone().map(get).sum();
    // what ends is read first: a copy on its way counts as waiting
    let dropped = Dropped(std::array::from_fn(|reason| sum(&|counters| counters.dropped[reason].get())));
    let sent = sum(&|counters| counters.sent.get());
    Copies { requested: sum(&|counters| counters.requested.get()), sent, dropped }
}

/// This is what some counters of one group say.
pub fn group_of<'a>(counters: impl Iterator<Item = &'a GroupCounters> + Clone) -> GroupTotals {
    let sum = |get: &dyn Fn(&GroupCounters) -> u64| counters.clone().map(get).sum();
    GroupTotals {
        requested: sum(&|group| group.requested.get()),
        assigned: sum(&|group| group.assigned.get()),
        discarded: sum(&|group| group.discarded.get()),
        down: sum(&|group| group.down.get()),
    }
}

#[derive(Clone, Copy, Default, Debug)]
pub struct PortTotals {
    /// Packets that the driver handed over, without Tapline's own heartbeats.
    pub received: u64,
    pub received_bytes: u64,
    /// Received packets that no work lcore had room for: they failed.
    pub congested: u64,
    /// Received packets that were parsed to the innermost layer and have one that is not read.
    pub unparsed: u64,
    /// Received frames that the driver cut without counting them.
    pub cut: u64,
    /// Heartbeats of tools that returned here, which are not among them.
    pub heartbeats: u64,
}

#[derive(Clone, Copy, Default, Debug)]
pub struct RuleTotals {
    /// Packets that reached the rule and matched it.
    pub matched: u64,
    /// Matched packets that were seen a moment before.
    pub duplicates: u64,
    /// Matched packets that its sampler passed over.
    pub sampled_out: u64,
    /// Copies that were to be anonymised and could not be read.
    pub unread: u64,
    /// The share that its sampler keeps at the moment, where traffic changes it: the mean of the workers', weighted by their
    /// packets.
    pub varying_share: Option<f64>,
    /// The counters of its sampler's flow tables, from the start on.
    pub flows: FlowCounters,
}

impl RuleTotals {
    /// Adds what was counted elsewhere; a share is no count.
    pub fn add(&mut self, more: &Self) {
        self.matched += more.matched;
        self.duplicates += more.duplicates;
        self.sampled_out += more.sampled_out;
        self.unread += more.unread;
        self.flows.begun += more.flows.begun;
        self.flows.over += more.flows.over;
        self.flows.evicted += more.flows.evicted;
    }
}

/// A group's copies.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct GroupTotals {
    /// Copies that rules asked of the group.
    pub requested: u64,
    /// Copies that a member is to get.
    pub assigned: u64,
    /// Copies that the discard share took.
    pub discarded: u64,
    /// For want of members.
    pub down: u64,
}

impl GroupTotals {
    /// Copies that no member got. Those of the discard share count as sent.
    pub fn unassigned(&self) -> Copies {
        // while packets are on their way, a worker's numbers may be read half-way
        let requested = self.requested.saturating_sub(self.assigned);
        Copies { requested, sent: self.discarded, dropped: Dropped::of(DropReason::Down, self.down) }
    }

    fn ended(&self) -> u64 {
        self.assigned + self.discarded + self.down
    }

    pub fn is_balanced(&self) -> bool {
        self.requested == self.ended()
    }

    /// Gives what was counted since `earlier`.
    fn since(&self, earlier: &Self) -> Self {
        Self {
            requested: self.requested.saturating_sub(earlier.requested),
            assigned: self.assigned - earlier.assigned,
            discarded: self.discarded - earlier.discarded,
            down: self.down - earlier.down,
        }
    }
}

/// The most that may be on its way while counters are read.
#[derive(Clone, Default, Debug)]
pub struct InFlight {
    /// Packets in workers' hands and in rings between them, and those that came while counters were read.
    pub packets: u64,
    /// Copies that may wait for each tool or direction of a wire.
    pub waiting: ById<EgressId, u64>,
    /// Something of a plan before is on its way, which is judged once it is over.
    pub is_leaving: bool,
}

/// The mean of the workers' shares of a rule's sampler, weighted by the packets that each had; `None` before the first packet, and
/// where the share is fixed.
fn varying_share(workers: &[Arc<WorkerCounters>], rule: RuleId) -> Option<f64> {
    let (mut sum, mut weight) = (0.0, 0.0);
    for rule in workers.iter().map(|worker| &worker.rules[rule]) {
        let share = f64::from_bits(rule.sampler.share.get());
        if share > 0.0 {
            let packets = (rule.matched.get() as f64).max(1.0);
            (sum, weight) = (sum + share * packets, weight + packets);
        }
    }
    (weight > 0.0).then(|| sum / weight)
}

#[derive(Clone, Default, Debug)]
pub struct ToolTotals {
    pub copies: Copies,
    pub sent_bytes: u64,
    /// Bytes that copies lost to the MTU of the tool's path.
    pub cut_bytes: u64,
    pub refused: Refused,
    /// Copies that left behind later ones.
    pub late: u64,
    /// Copies that wait for the tool at this moment.
    pub queue_depth: u64,
    /// The most that ever waited in one worker's queue.
    pub queue_peak: u64,
    pub latency: Merged,
}

impl Totals {
    /// Adds up the workers' counters.
    pub fn of(workers: &[Arc<WorkerCounters>]) -> Self {
        let Some(first) = workers.first() else { return Self::default() };
        let sum =
            |get: &dyn Fn(&WorkerCounters) -> u64| workers.iter().map(|worker| get(worker)).sum::<u64>();
        let ports = first.ports.ids().map(|id| PortTotals {
            received: sum(&|worker| worker.ports[id].received()),
            received_bytes: sum(&|worker| worker.ports[id].received_bytes()),
            congested: sum(&|worker| worker.ports[id].congested.get()),
            unparsed: sum(&|worker| worker.ports[id].unparsed.get()),
            cut: sum(&|worker| worker.ports[id].cut.get()),
            heartbeats: sum(&|worker| worker.ports[id].heartbeats.get()),
        });
        let rules = first.rules.ids().map(|id| RuleTotals {
            matched: sum(&|worker| worker.rules[id].matched.get()),
            duplicates: sum(&|worker| worker.rules[id].duplicates.get()),
            sampled_out: sum(&|worker| worker.rules[id].sampled_out.get()),
            unread: sum(&|worker| worker.rules[id].unread.get()),
            varying_share: varying_share(workers, id),
            flows: FlowCounters {
                begun: sum(&|worker| worker.rules[id].sampler.flows_begun.get()),
                over: sum(&|worker| worker.rules[id].sampler.flows_over.get()),
                evicted: sum(&|worker| worker.rules[id].sampler.flows_evicted.get()),
            },
        });
        let egresses = first.egresses.ids().map(|id| ToolTotals {
            copies: Copies {
                requested: sum(&|worker| worker.egresses[id].requested.get()),
                sent: sum(&|worker| worker.egresses[id].sent.get()),
                dropped: Dropped(std::array::from_fn(|reason| {
                    sum(&|worker| worker.egresses[id].dropped[reason].get())
                })),
            },
            sent_bytes: sum(&|worker| worker.egresses[id].sent_bytes.get()),
            cut_bytes: sum(&|worker| worker.egresses[id].cut_bytes.get()),
            refused: Refused(std::array::from_fn(|class| {
                Dropped(std::array::from_fn(|reason| {
                    sum(&|worker| worker.egresses[id].refused[class][reason].get())
                }))
            })),
            late: sum(&|worker| worker.egresses[id].late.get()),
            queue_depth: sum(&|worker| worker.egresses[id].queue_depth.get()),
            queue_peak: workers.iter().map(|worker| worker.egresses[id].all_time_peak()).max().unwrap_or(0),
            latency: workers.iter().fold(Merged::default(), |mut sum, worker| {
                sum.add(&worker.egresses[id].latency);
                sum
            }),
        });
        let groups = first.groups.ids().map(|id| GroupTotals {
            requested: sum(&|worker| worker.groups[id].requested.get()),
            assigned: sum(&|worker| worker.groups[id].assigned.get()),
            discarded: sum(&|worker| worker.groups[id].discarded.get()),
            down: sum(&|worker| worker.groups[id].down.get()),
        });
        Self {
            packets: packets_of(workers.iter().map(AsRef::as_ref)),
            ports: ports.collect(),
            rules: rules.collect(),
            egresses: egresses.collect(),
            groups: groups.collect(),
            dedups: first.dedups.ids().map(|rule| DedupTotals::of(workers, rule)).collect(),
            departed: Departed {
                received: sum(&|worker| worker.received_from_left()),
                ..Departed::default()
            },
        }
    }

    /// Adds what became of copies in the hands of capture writers: all that writers count.
    pub fn add_writers(&mut self, writers: &WriterCounters) {
        for (id, tool) in writers.tools.entries() {
            let sum = &mut self.egresses[id.egress()];
            sum.copies.sent += tool.sent.get();
            sum.sent_bytes += tool.sent_bytes.get();
            sum.copies
                .dropped
                .0
                .iter_mut()
                .zip(&tool.dropped)
                .for_each(|(sum, dropped)| *sum += dropped.get());
            sum.late += tool.late.get();
        }
    }

    /// Adds what rules counted under plans before: as many as there are rules.
    pub fn add_past(&mut self, past: &[RuleTotals]) {
        self.rules.iter_mut().zip(past).for_each(|(rule, past)| rule.add(past));
    }

    /// The totals of the same rules where they stand in another plan: `before` has for each of its rules the place that it had, and
    /// whether it looks for duplicates as before.
    pub fn of_rules(mut self, before: &[(Option<RuleId>, bool)]) -> Self {
        let rule =
            |&(from, _): &(Option<RuleId>, bool)| from.map(|from| self.rules[from]).unwrap_or_default();
        let rules = before.iter().map(rule).collect();
        let dedup =
            |&(from, has_dedup): &(Option<RuleId>, bool)| self.dedups[from.filter(|_| has_dedup)?].clone();
        let dedups = before.iter().map(dedup).collect();
        (self.rules, self.dedups) = (rules, dedups);
        self
    }

    /// The totals of what another plan keeps, where it stands there by `origins`; what it has not is departed. Tools are told from
    /// wires by the egresses of the plan before.
    pub fn of_plan(mut self, origins: &Origins, before: Egresses) -> Self {
        let is_gone = |id: &EgressId| !origins.egresses.iter().flatten().any(|from| from == id);
        for (id, totals) in self.egresses.entries().filter(|(id, _)| is_gone(id)) {
            let sum =
                if before.is_tool(id) { &mut self.departed.copies } else { &mut self.departed.originals };
            sum.add(&totals.copies);
        }
        let is_gone = |id: &GroupId| !origins.groups.iter().flatten().any(|from| from == id);
        for (_, totals) in self.groups.entries().filter(|(id, _)| is_gone(id)) {
            self.departed.copies.add(&totals.unassigned());
        }
        let is_gone = |id: &PortId| !origins.ports.iter().flatten().any(|from| from == id);
        self.departed.received +=
            self.ports.entries().filter(|(id, _)| is_gone(id)).map(|(_, port)| port.received).sum::<u64>();
        self.ports = moved(&self.ports, &origins.ports);
        self.egresses = moved(&self.egresses, &origins.egresses);
        self.groups = moved(&self.groups, &origins.groups);
        self
    }

    /// Copies of all tools, and those of groups that no member got.
    pub fn copies(&self, plan: &Plan) -> Copies {
        let unassigned = self.groups.iter().map(GroupTotals::unassigned);
        self.of_copies(plan).map(|tool| tool.copies).chain(unassigned).fold(
            self.departed.copies,
            |mut sum, copies| {
                sum.add(&copies);
                sum
            },
        )
    }

    /// Those of tools, without the directions of wires.
    fn of_copies(&self, plan: &Plan) -> impl Iterator<Item = &ToolTotals> {
        let egresses = plan.egresses();
        self.egresses.entries().filter(move |&(id, _)| egresses.is_tool(id)).map(|(_, totals)| totals)
    }

    /// Latency over all tools.
    pub(super) fn latency(&self, plan: &Plan) -> Merged {
        self.of_copies(plan).fold(Merged::default(), |mut sum, tool| {
            sum.merge(&tool.latency);
            sum
        })
    }

    /// Returns whether both identities of the ledger hold, the second for each tool and for each group.
    pub fn is_balanced(&self) -> bool {
        self.is_balanced_within(&InFlight::default())
    }

    /// Returns whether both identities of the ledger hold but for what may be on its way.
    pub fn is_balanced_within(&self, limit: &InFlight) -> bool {
        let is_within = |begun: u64, ended: u64, limit: u64| begun.abs_diff(ended) <= limit;
        // copies are of packets that are on their way, or wait
        let are_tools_balanced = self.egresses.entries().all(|(id, tool)| {
            let waiting = limit.waiting.get(id).copied().unwrap_or(0);
            is_within(tool.copies.requested, tool.copies.ended(), limit.packets.saturating_add(waiting))
        });
        let are_groups_balanced =
            self.groups.iter().all(|group| is_within(group.requested, group.ended(), limit.packets));
        is_within(self.packets.received, self.packets.ended(), limit.packets)
            && (limit.is_leaving || self.departed.is_balanced())
            && are_tools_balanced
            && are_groups_balanced
    }

    /// As if nothing were on its way: what comes to its end later counts from here on with its beginning, so that both identities
    /// also hold for what is counted [`since`](Self::since).
    pub fn at_rest(mut self) -> Self {
        let received = self.departed.received + self.ports.iter().map(|port| port.received).sum::<u64>();
        let mut on_the_way = received.saturating_sub(self.packets.ended());
        self.packets.received = self.packets.ended();
        // which ports they came from is not known
        for port in &mut self.ports {
            let packets = on_the_way.min(port.received);
            port.received -= packets;
            on_the_way -= packets;
        }
        self.egresses.iter_mut().for_each(|tool| tool.copies.requested = tool.copies.ended());
        self.groups.iter_mut().for_each(|group| group.requested = group.ended());
        self.departed.at_rest();
        self
    }

    /// Gives what was counted since `earlier`.
    pub fn since(&self, earlier: &Totals) -> Totals {
        let (a, b) = (&self.packets, &earlier.packets);
        let ports = self.ports.iter().zip(&earlier.ports).map(|(a, b)| PortTotals {
            received: a.received.saturating_sub(b.received),
            received_bytes: a.received_bytes - b.received_bytes,
            congested: a.congested - b.congested,
            unparsed: a.unparsed - b.unparsed,
            cut: a.cut - b.cut,
            heartbeats: a.heartbeats - b.heartbeats,
        });
        let rules = self.rules.iter().zip(&earlier.rules);
        let rules = rules.map(|(a, b)| RuleTotals {
            matched: a.matched - b.matched,
            duplicates: a.duplicates - b.duplicates,
            sampled_out: a.sampled_out - b.sampled_out,
            unread: a.unread - b.unread,
            ..*a
        });
        let dedups = self.dedups.iter().zip(&earlier.dedups).map(|(a, b)| match b {
            Some(b) => Some(a.as_ref()?.since(b)),
            None => a.clone(),
        });
        let egresses = self.egresses.iter().zip(&earlier.egresses).map(|(a, b)| ToolTotals {
            copies: a.copies.since(&b.copies),
            sent_bytes: a.sent_bytes - b.sent_bytes,
            cut_bytes: a.cut_bytes - b.cut_bytes,
            refused: Refused(std::array::from_fn(|class| {
                Dropped(std::array::from_fn(|reason| {
                    a.refused.0[class].0[reason] - b.refused.0[class].0[reason]
                }))
            })),
            late: a.late - b.late,
            queue_depth: a.queue_depth,
            queue_peak: a.queue_peak,
            latency: a.latency.since(&b.latency),
        });
        Totals {
            packets: Packets {
                received: a.received.saturating_sub(b.received),
                delivered: a.delivered - b.delivered,
                unmatched: a.unmatched - b.unmatched,
                excluded: a.excluded - b.excluded,
                sampled_out: a.sampled_out - b.sampled_out,
                duplicate: a.duplicate - b.duplicate,
                failed: a.failed - b.failed,
            },
            ports: ports.collect(),
            rules: rules.collect(),
            egresses: egresses.collect(),
            groups: self.groups.iter().zip(&earlier.groups).map(|(a, b)| a.since(b)).collect(),
            departed: Departed {
                received: self.departed.received.saturating_sub(earlier.departed.received),
                copies: self.departed.copies.since(&earlier.departed.copies),
                originals: self.departed.originals.since(&earlier.departed.originals),
            },
            dedups: dedups.collect(),
        }
    }
}

/// Values by the ids of another plan, that `from` knows the ids before of.
fn moved<I: Id, T: Clone + Default>(before: &ById<I, T>, from: &ById<I, Option<I>>) -> ById<I, T> {
    from.iter().map(|from| from.and_then(|from| before.get(from).cloned()).unwrap_or_default()).collect()
}

/// The sums of what a rule's dedup counted, in all workers.
#[derive(Clone, Default, Debug)]
pub struct DedupTotals {
    pub counters: DedupCounters,
    /// `first port * ports + second port`, by their places in the rule's scope.
    pub pairs: Vec<PairCounters>,
}

impl DedupTotals {
    fn of(workers: &[Arc<WorkerCounters>], rule: RuleId) -> Option<Self> {
        let mut sum: Option<Self> = None;
        for tally in workers.iter().filter_map(|worker| worker.dedups[rule].as_ref()) {
            let ports = tally.ports();
            let counters = tally.counters();
            let sum = sum.get_or_insert_with(|| Self {
                pairs: vec![PairCounters::NONE; ports * ports],
                ..Self::default()
            });
            sum.counters.packets += counters.packets;
            sum.counters.duplicates += counters.duplicates;
            sum.counters.forgotten += counters.forgotten;
            sum.pairs
                .iter_mut()
                .enumerate()
                .for_each(|(place, pair)| pair.add(&tally.pair(place / ports, place % ports)));
        }
        sum
    }

    fn since(&self, earlier: &Self) -> Self {
        let (a, b) = (&self.counters, &earlier.counters);
        Self {
            counters: DedupCounters {
                packets: a.packets - b.packets,
                duplicates: a.duplicates - b.duplicates,
                forgotten: a.forgotten - b.forgotten,
            },
            pairs: self.pairs.iter().zip(&earlier.pairs).map(|(a, b)| a.since(b)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use tapline_api::words::Disposition;
    use tapline_datapath::ids::ToolId;

    #[test]
    fn a_copy_that_a_group_lost_unbalances_the_account() {
        let workers =
            [Arc::new(WorkerCounters::new(1, 1, 1, 1)), Arc::new(WorkerCounters::new(1, 1, 1, 1))];
        let is_balanced = || Totals::of(&workers).is_balanced();
        workers[0].groups[GroupId(0)].requested.add(10);
        workers[0].groups[GroupId(0)].assigned.add(6);
        workers[0].groups[GroupId(0)].discarded.add(3);
        assert!(!is_balanced());
        workers[1].groups[GroupId(0)].down.add(1);
        assert!(is_balanced());
        assert_eq!(Totals::of(&workers).groups[GroupId(0)].unassigned().requested, 4);
        workers[1].groups[GroupId(0)].discarded.add(1);
        assert!(!is_balanced(), "a copy counted twice");
    }

    #[test]
    fn what_the_writers_of_captures_end_is_part_of_the_account() {
        let worker = Arc::new(WorkerCounters::new(1, 1, 2, 0));
        let writers = WriterCounters::new(2);
        worker.egresses[EgressId(1)].requested.add(10);
        worker.egresses[EgressId(1)].drop_copies(DropReason::Congested, 2);
        writers.tools[ToolId(1)].sent.add(7);
        writers.tools[ToolId(1)].sent_bytes.add(700);
        writers.tools[ToolId(1)].drop_copies(DropReason::Down, 1);
        writers.tools[ToolId(1)].late.add(3);
        let mut totals = Totals::of(&[worker]);
        assert!(!totals.is_balanced());
        totals.add_writers(&writers);
        assert!(totals.is_balanced());
        let tool = &totals.egresses[EgressId(1)];
        assert_eq!((tool.copies.sent, tool.sent_bytes, tool.late, tool.copies.ended()), (7, 700, 3, 10));
    }

    proptest! {
        #[test]
        fn what_is_counted_since_a_moment_of_work_balances_once_all_is_at_rest(
            begun in prop::collection::vec((0u64..50, 0u64..50), 4), ends in 0u64..100, rest in 0u64..50
        ) {
            let worker = Arc::new(WorkerCounters::new(2, 1, 2, 1));
            let begin = |of: &[(u64, u64)]| {
                for (index, &(packets, copies)) in of.iter().enumerate() {
                    worker.ports[PortId(index % 2)].packets.add(packets);
                    worker.egresses[EgressId(index % 2)].requested.add(copies);
                    worker.groups[GroupId(0)].requested.add(copies);
                }
            };
            let end = |most: u64| {
                let totals = Totals::of(std::slice::from_ref(&worker));
                worker.settle(Disposition::Delivered, most.min(totals.packets.received - totals.packets.ended()));
                worker.egresses.iter().zip(&totals.egresses).for_each(|(tool, totals)| {
                    tool.sent.add(most.min(totals.copies.requested - totals.copies.ended()));
                });
                worker.groups[GroupId(0)].assigned.add(most.min(totals.groups[GroupId(0)].requested - totals.groups[GroupId(0)].ended()));
            };
            begin(&begun[..2]);
            end(ends);
            let cleared = Totals::of(std::slice::from_ref(&worker)).at_rest();
            begin(&begun[2..]);
            end(rest);
            end(u64::MAX);
            let since = Totals::of(std::slice::from_ref(&worker)).since(&cleared);
            prop_assert!(since.is_balanced(), "{since:?}");
            prop_assert_eq!(since.ports.iter().map(|port| port.received).sum::<u64>(), since.packets.received);
        }
    }

    #[test]
    fn the_share_of_several_workers_is_weighted_by_their_packets() {
        let workers = [0.5, 0.1, 0.0].map(|share: f64| {
            let worker = Arc::new(WorkerCounters::new(0, 1, 0, 0));
            worker.rules[RuleId(0)].sampler.share.set(share.to_bits());
            worker
        });
        workers[0].rules[RuleId(0)].matched.add(300);
        workers[1].rules[RuleId(0)].matched.add(100);
        let share = Totals::of(&workers).rules[RuleId(0)].varying_share.expect("two workers say theirs");
        assert!((share - 0.4).abs() < 1e-9, "{share}");
        assert_eq!(
            Totals::of(&[Arc::new(WorkerCounters::new(0, 1, 0, 0))]).rules[RuleId(0)].varying_share,
            None
        );
    }
}
