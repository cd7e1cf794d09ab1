//! Pools: how many mbufs are needed so that what waits for tools cannot use up what ports receive into.
//!
//! A tool that takes nothing keeps its queue and its port's transmit ring full for as long as it likes. Each pool therefore has room
//! for all of that at once, besides what its ports receive into; then no tool can cost another one a packet. Less than that is the
//! user's own choice (`set mempool`), of which `plan::check` warns.

use super::value::{EgressPlan, Output, PortPlan, Settings, ToolPlan};
use super::{Plan, Run};
use tapline_datapath::copies::build::MOST_MBUFS;
use tapline_datapath::egresses::Egress;
use tapline_datapath::ids::{EgressId, PortId};
use tapline_datapath::receive::distribute;
use tapline_datapath::work_plan::ReplayPlan;
use tapline_dpdk::mempool;
use tapline_packet::burst::MAX_BURST;
use tapline_packet::by_id::ById;
use tapline_packet::headers::{ethernet, vlan};

/// Mbufs that a worker's cache and hands may hold: DPDK's largest cache and half as much again before it is flushed, and a burst.
pub const MBUFS_A_WORKER: u32 = 512 * 3 / 2 + MAX_BURST as u32;
/// Mbufs that a worker's cache of those for copies to captures holds. Their writers free them past every cache, so that a larger one
/// gains nothing.
pub const CAPTURE_CACHE: u32 = 128;
/// As [`MBUFS_A_WORKER`], of that cache.
const CAPTURED_A_WORKER: u32 = CAPTURE_CACHE * 3 / 2 + MAX_BURST as u32;
/// Mbufs of a burst of short packets and one of the longest that a capture may hold.
const LONGEST_CHAIN: u32 = MAX_BURST as u32 + 262_144u32.div_ceil(mempool::DATA_ROOM as u32);
/// The fewest mbufs that Tapline chooses for a pool.
const LEAST: u32 = 8191;
/// Mbufs in all, at the least, of ports whose packets are received on one lcore and freed on another. An mbuf goes round through
/// the whole pool; where the two cache lines of all of them fit the cores' own caches (2 MiB each is usual), every one is fetched
/// out of the other core's cache, which takes longest. Measured with `net_null`: with 12 000 mbufs half as many packets go through,
/// with 65 535 an eighth fewer.
const LEAST_BETWEEN_LCORES: u32 = 32_767;

/// Mbufs of a pool of the port's own: what the user said, else what it needs.
pub fn port_pool(run: Run<'_>, port: PortId) -> u32 {
    let plan = run.plan;
    match plan.settings.mempool {
        _ if plan.ports[port].rxq == Some(0) => 0,
        Some(said) => said,
        None => port_need(run, port).max(least(plan, 1)),
    }
}

/// Mbufs of the port's packets for tools that come while a plan runs which may be changed, beside those for what may wait by now: a
/// quarter of these, and one tool of default queue at the least.
pub fn reserve_of(run: Run<'_>, port: PortId) -> u32 {
    if may_wait(run, port) { reserve(run, waiting_from(run, port)) } else { 0 }
}

fn reserve(run: Run<'_>, waiting: u32) -> u32 {
    let least = EgressPlan::DEFAULT_QUEUE as u32;
    if run.options.is_changeable { (waiting / 4).max(least) } else { 0 }
}

/// Mbufs of one pool for several ports, which Tapline chooses: what waits for tools is in it only once.
pub fn shared_pool(run: Run<'_>, ports: impl Iterator<Item = PortId>) -> u32 {
    let plan = run.plan;
    let (mut own, mut waiting, mut count) = (0u32, 0, 0);
    for port in ports.filter(|&port| plan.ports[port].rxq != Some(0)) {
        own = own.saturating_add(received(plan, port));
        waiting = waiting.max(waiting_from(run, port).saturating_add(reserve_of(run, port)));
        count += 1;
    }
    if count == 0 { 0 } else { own.saturating_add(waiting).max(least(plan, count)) }
}

/// The least mbufs of a pool that several ports share, without those for tools that may come.
pub fn shared_need(run: Run<'_>, ports: impl Iterator<Item = PortId>) -> u32 {
    let (mut own, mut waiting) = (0u32, 0);
    for port in ports.filter(|&port| run.plan.ports[port].rxq != Some(0)) {
        own = own.saturating_add(received(run.plan, port));
        waiting = waiting.max(waiting_from(run, port));
    }
    own.saturating_add(waiting)
}

/// Mbufs that a pool of the port's own must have, so that its packets may wait wherever they can.
pub fn port_need(run: Run<'_>, port: PortId) -> u32 {
    let plan = run.plan;
    let waiting = waiting_from(run, port);
    received(plan, port).saturating_add(waiting).saturating_add(reserve_of(run, port))
}

/// Mbufs that a port needs to receive at all, with so many receive queues.
pub fn receive_need(plan: &Plan, port: PortId, rx_queues: u16) -> u32 {
    let of_port = &plan.ports[port];
    let workers = workers(&plan.settings) as u32;
    if of_port.replay.is_some() {
        return workers * MBUFS_A_WORKER + LONGEST_CHAIN;
    }
    // a burst more than a ring between receive and work holds may be on its way out of it
    let rings = match plan.settings.stages.as_ref().filter(|_| plan.is_spread(port)) {
        Some(stages) => {
            u32::from(rx_queues) * stages.work.len() as u32 * (distribute::RING_PACKETS + MAX_BURST as u32)
        }
        None => 0,
    };
    if of_port.iface.is_some() {
        // what finds no mbuf stays in the kernel's ring, but the longest must find some
        return workers * MBUFS_A_WORKER + LONGEST_CHAIN + rings;
    }
    let descriptors = u32::from(of_port.rxd).max(rings_of(of_port).1);
    u32::from(rx_queues) * descriptors + workers * MBUFS_A_WORKER + rings + of_port.resident
}

/// Returns whether packets of the port may wait for tools: rules take from it, or may do so later, or a wire forwards them.
fn may_wait(run: Run<'_>, port: PortId) -> bool {
    let of_port = &run.plan.ports[port];
    let uses = &of_port.uses;
    let may_give_copies = uses.is_taken_from || run.options.is_changeable && uses.tools.is_empty();
    of_port.rxq != Some(0) && (may_give_copies || uses.wire.is_some())
}

/// Mbufs of the port's packets that may wait for the tools of the plan.
pub fn waiting_from(run: Run<'_>, port: PortId) -> u32 {
    let plan = run.plan;
    if may_wait(run, port) { waiting(plan, holding(plan)).saturating_mul(segments(plan, port)) } else { 0 }
}

/// Mbufs that copies may hold while a wire's port needs others for its originals.
pub fn wire_reserve(plan: &Plan, port: PortId) -> u32 {
    if plan.wire_at(port).is_some() { waiting(plan, holding(plan)) } else { 0 }
}

/// Which copies that are not the packets themselves a pool is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopiesTo {
    Ports,
    /// Apart from the others: replays flat out wait for these.
    Captures,
}

impl CopiesTo {
    pub const ALL: [CopiesTo; 2] = [CopiesTo::Ports, CopiesTo::Captures];
}

/// Mbufs for copies that are not the packets themselves: what the user said, else what they need; 0 where none are made. Copies to
/// captures have as many at the least as one packet may take of them.
pub fn copy_pool(run: Run<'_>, to: CopiesTo) -> u32 {
    let plan = run.plan;
    let need = copy_need(run, to);
    match plan.settings.mempool {
        Some(said) if need > 0 => said.max(copies_at_once(run, to)),
        Some(_) => need,
        None if need > 0 => need.saturating_add(reserve(run, need)),
        None => 0,
    }
}

/// Mbufs that such copies must have, so that all tools that get them may have full queues.
pub fn copy_need(run: Run<'_>, to: CopiesTo) -> u32 {
    let plan = run.plan;
    if !plan.tools.iter().any(|tool| tool.uses.has_made_copies) {
        return 0;
    }
    let tools: Vec<&ToolPlan> = plan.tools.iter().filter(|tool| may_make(run, to, tool)).collect();
    if tools.is_empty() {
        return 0;
    }
    let a_worker = if to == CopiesTo::Captures { CAPTURED_A_WORKER } else { MBUFS_A_WORKER };
    let egresses = tools.iter().map(|tool| tool.egress());
    let full = waiting(plan, egresses).saturating_add(workers(&plan.settings) as u32 * a_worker);
    // what is held for its order is not written before more comes
    let held: usize = tools.iter().filter(|tool| tool.order_ns.is_some()).map(|tool| tool.queue).sum();
    full.max(copies_at_once(run, to).saturating_add(u32::try_from(held).unwrap_or(u32::MAX)))
}

/// Mbufs that workers have in hand for a replay flat out before it gives the next packets, at the most: a packet of any length finds
/// as many once all that waits for captures is written, and no worker takes another one's.
fn copies_at_once(run: Run<'_>, to: CopiesTo) -> u32 {
    let plan = run.plan;
    let is_flat_out = |port: &PortPlan| port.replay.as_ref().is_some_and(ReplayPlan::is_flat_out);
    if to != CopiesTo::Captures || !plan.ports.iter().any(is_flat_out) {
        return 0;
    }
    let a_worker = CAPTURED_A_WORKER as usize + copies_in_hand(run);
    u32::try_from(workers(&plan.settings) * a_worker).unwrap_or(u32::MAX)
}

/// Gives the egresses that may hold the packets themselves. A capture whose every copy is made holds none.
fn holding(plan: &Plan) -> impl Iterator<Item = EgressPlan> {
    let holds = |tool: &ToolPlan| tool.output != Output::Capture || !tool.copy.makes_every_copy();
    plan.egresses().all().filter_map(move |(_, egress)| match egress {
        Egress::Tool(tool) if !holds(&plan.tools[tool]) => None,
        Egress::Tool(_) | Egress::Wire(..) => Some(plan.egress(egress)),
    })
}

/// Mbufs that a worker takes out of the pool for captures at once, at the most.
pub fn copies_in_hand(run: Run<'_>) -> usize {
    let plan = run.plan;
    plan.tools.iter().filter(|tool| may_make(run, CopiesTo::Captures, tool)).count() * MOST_MBUFS
}

/// Returns whether copies that are not the packets themselves may be made for a tool. A rule that edits may come while the plan
/// runs, for any tool.
fn may_make(run: Run<'_>, to: CopiesTo, tool: &ToolPlan) -> bool {
    let is_to = (tool.output == Output::Capture) == (to == CopiesTo::Captures);
    is_to && (tool.uses.has_made_copies || run.options.is_changeable)
}

fn received(plan: &Plan, port: PortId) -> u32 {
    receive_need(plan, port, most_queues(plan, port))
}

/// Receive queues that the port may get: how many the driver has is known later.
fn most_queues(plan: &Plan, port: PortId) -> u16 {
    let pollers = match plan.settings.stages.as_ref().filter(|_| plan.is_spread(port)) {
        Some(stages) => stages.receive.len(),
        None => workers(&plan.settings),
    };
    plan.ports[port].rxq.unwrap_or(u16::try_from(pollers).unwrap_or(u16::MAX))
}

/// Mbufs that tools and wires may hold: in queues, on the way to them, and in their ports' transmit rings.
fn waiting(plan: &Plan, egresses: impl Iterator<Item = EgressPlan>) -> u32 {
    let mut queued = 0;
    let mut are_sent_on = ById::filled(plan.ports.len(), false);
    for egress in egresses {
        queued += waiting_for(plan, &egress);
        if let Output::Port(port) = egress.output {
            are_sent_on[port] = true;
        }
    }
    let sent_on = plan.ports.iter().zip(are_sent_on).filter(|(_, is_sent_on)| *is_sent_on);
    let in_rings: u64 = sent_on.map(|(port, _)| in_ring(plan, port)).sum();
    u32::try_from(queued + in_rings).unwrap_or(u32::MAX)
}

/// Mbufs that the longest frame of a port takes, if it is said how long that may be.
fn segments(plan: &Plan, port: PortId) -> u32 {
    let frame_bytes = |mtu: u16| u32::from(mtu) + (ethernet::HEADER_LEN + 2 * vlan::TAG_LEN) as u32;
    plan.ports[port].mtu.map_or(1, |mtu| frame_bytes(mtu).div_ceil(mempool::DATA_ROOM.into()))
}

/// Mbufs in a port's transmit rings; several tools share them.
fn in_ring(plan: &Plan, port: &PortPlan) -> u64 {
    if port.devargs.copies_packets() {
        return 0;
    }
    let transmit = lcores(&plan.settings).1.len();
    let queues = port.txq.map_or(transmit, |queues| transmit.min(queues.into()));
    queues as u64 * u64::from(u32::from(port.txd).max(rings_of(port).0))
}

/// Gives the packets that the port's driver keeps of its own accord: in a transmit queue, and in a receive queue.
fn rings_of(port: &PortPlan) -> (u32, u32) {
    port.devargs.driver().and_then(|driver| driver.own_rings).unwrap_or_default()
}

/// Packets that may wait for each tool, and on each direction of a wire, before they are handed to its driver or written.
pub fn waiting_by_egress(plan: &Plan) -> ById<EgressId, u64> {
    let in_chunks = |egress: Egress| match egress {
        Egress::Tool(tool) if plan.tools[tool].store.is_some() => tapline_store::MOST_PACKETS_WAITING,
        Egress::Tool(_) | Egress::Wire(..) => 0,
    };
    let waiting = |egress| waiting_for(plan, &plan.egress(egress)) + in_chunks(egress);
    plan.egresses().all().map(|(_, egress)| waiting(egress)).collect()
}

/// Packets in rings between receive and work lcores, and a burst on its way out of each.
pub fn between_lcores(plan: &Plan) -> u64 {
    let Some(stages) = &plan.settings.stages else { return 0 };
    let spread = plan.ports.ids().filter(|&port| plan.is_spread(port)).count();
    let rings = spread * stages.receive.len() * stages.work.len();
    rings as u64 * u64::from(distribute::RING_PACKETS + MAX_BURST as u32)
}

/// Packets that may wait for a tool, or on a wire, in all workers.
fn waiting_for(plan: &Plan, egress: &EgressPlan) -> u64 {
    let (work, transmit) = lcores(&plan.settings);
    let of_workers = |count: usize| egress.queue as u64 * count as u64;
    match egress.output {
        Output::Discard => 0,
        // a worker's go in batches of a burst; those that are put in order wait once more, in the writer
        Output::Capture => {
            let batches = work.len() as u64 * (egress.queue.next_multiple_of(MAX_BURST)) as u64;
            batches + if egress.order_ns.is_some() { of_workers(1) + MAX_BURST as u64 } else { 0 }
        }
        Output::Port(port) => {
            // how many transmit queues the driver has is known later
            let counts = match plan.ports[port].txq {
                // what is put in order passes one place
                _ if egress.order_ns.is_some() => 1..=1,
                Some(queues) => {
                    let queues = usize::from(queues).clamp(1, transmit.len());
                    queues..=queues
                }
                None => 1..=transmit.len(),
            };
            let most = counts.map(|count| {
                let owners = &transmit[..count];
                let senders = work.iter().filter(|lcore| !owners.contains(lcore)).count();
                let own = owners.iter().filter(|lcore| work.contains(lcore)).count();
                // senders look at the queue before they add a burst to it, and may do so at the same time; and as much is staged
                of_workers(own + count.min(senders)) + (senders * 2 * MAX_BURST) as u64
            });
            most.max().unwrap_or(0)
        }
    }
}

/// The fewest mbufs of a pool for so many ports.
fn least(plan: &Plan, ports: u32) -> u32 {
    let receiving = plan.ports.iter().filter(|port| port.rxq != Some(0)).count().max(1) as u32;
    if plan.settings.stages.is_some() {
        (LEAST_BETWEEN_LCORES * ports / receiving).max(LEAST)
    } else {
        LEAST
    }
}

/// Lcores that take part.
fn workers(settings: &Settings) -> usize {
    settings.lcores.as_ref().map_or(settings.workers, Vec::len)
}

/// Those that work and those that transmit. Where Tapline chooses them their numbers do not matter.
fn lcores(settings: &Settings) -> (Vec<u32>, Vec<u32>) {
    match &settings.stages {
        Some(stages) => (stages.work.clone(), stages.transmit.clone()),
        None => {
            let all: Vec<u32> = (0..workers(settings) as u32).collect();
            (all.clone(), all)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{RunOptions, Surroundings, plan};
    use tapline_lang as lang;

    fn plan_of(text: &str) -> Plan {
        plan(&mut lang::parse_text("test", text, &[]), &Surroundings::fixed()).expect("a plan")
    }

    /// As the command line says nothing of it.
    fn run(plan: &Plan) -> Run<'_> {
        const OPTIONS: &RunOptions =
            &RunOptions { eal: Vec::new(), is_profiled: false, is_changeable: false };
        Run { plan, options: OPTIONS }
    }

    /// Two tools on ports that nobody drains, one that discards.
    const TOOLS: &str = "port attach a net_null0\nport attach r1 net_ring1 rxq 0\nport attach r2 net_ring2 rxq 0\n\
                         tool create t1 port r1\ntool create t2 port r2 queue 100\ntool create d discard\nrule create 1 from a to t1,t2,d\n";

    #[test]
    fn a_port_has_mbufs_for_full_queues_and_full_transmit_rings() {
        let need = |head: &str| port_need(run(&plan_of(&format!("{head}{TOOLS}"))), PortId(0)) as usize;
        let worker = MBUFS_A_WORKER as usize;
        assert_eq!(need(""), 1024 + worker + 4196 + 2 * 1024);
        // each worker may have a transmit queue, or hand over to the one that has
        assert_eq!(need("set workers 2\n"), 2 * (1024 + worker + 4196 + 128 + 2 * 1024));
        // one queue, at the transmit lcore; what is on its way to it is a part of it
        let stages = need("set lcores receive 1 work 2 transmit 3\n");
        assert_eq!(stages, 1024 + 1023 + 64 + 3 * worker + 4196 + 2 * 128 + 2 * 1024);
    }

    #[test]
    fn frames_that_take_several_mbufs_wait_in_as_many() {
        let need = |mtu: u32| {
            let tools = TOOLS.replace("a net_null0", &format!("a net_null0 mtu {mtu}"));
            port_need(run(&plan_of(&tools)), PortId(0))
        };
        let waiting = 4196 + 2 * 1024;
        assert_eq!(
            (need(1500), need(9000)),
            (1024 + MBUFS_A_WORKER + waiting, 1024 + MBUFS_A_WORKER + 5 * waiting)
        );
    }

    #[test]
    fn ports_that_share_a_pool_count_what_waits_once() {
        // beyond the least
        let tools = TOOLS.replace("queue 100", "queue 20000");
        let plan = plan_of(&format!("{tools}port attach b net_null9\nrule create 2 from b to t1\n"));
        let (alone, other) = (port_need(run(&plan), PortId(0)), PortId(3));
        assert_eq!(port_need(run(&plan), other), alone);
        assert_eq!(shared_pool(run(&plan), [PortId(0), other].into_iter()), alone + 1024 + MBUFS_A_WORKER);
    }

    #[test]
    fn copies_that_are_made_have_mbufs_for_every_tool_that_gets_them() {
        let tool = |count: u32| {
            let tools = (1..=count).map(|index| {
                format!("port attach r{index} net_ring{index} rxq 0\ntool create t{index} port r{index} tag vlan 7\n")
            });
            let names: Vec<String> = (1..=count).map(|index| format!("t{index}")).collect();
            format!(
                "port attach a net_null0\n{}rule create 1 from a to {}\n",
                tools.collect::<String>(),
                names.join(",")
            )
        };
        for count in [1, 4, 9] {
            assert_eq!(
                copy_need(run(&plan_of(&tool(count))), CopiesTo::Ports),
                count * (4096 + 1024) + MBUFS_A_WORKER
            );
        }
        assert_eq!(copy_need(run(&plan_of(TOOLS)), CopiesTo::Ports), 0);
    }

    #[test]
    fn copies_for_captures_have_mbufs_for_full_queues_and_for_one_packet_of_any_length() {
        let plan = |head: &str, speed: &str, queue: usize| {
            let tools: String = (0..20)
                .map(|index| {
                    format!("tool create t{index} capture t{index}.pcapng queue {queue} strip vlan\n")
                })
                .collect();
            let names: Vec<String> = (0..20).map(|index| format!("t{index}")).collect();
            plan_of(&format!(
                "{head}port attach a replay:a.pcap,speed={speed}\n{tools}rule create 1 from a to {}\n",
                names.join(",")
            ))
        };
        let (worker, any_length) = (CAPTURED_A_WORKER, 20 * MOST_MBUFS as u32);
        for (speed, queue, need) in
            [("max", 4096, 20 * 4096), ("original", 64, 20 * 64), ("max", 64, any_length)]
        {
            assert_eq!(
                copy_need(run(&plan("", speed, queue)), CopiesTo::Captures),
                need + worker,
                "{speed} {queue}"
            );
        }
        assert_eq!(
            copy_pool(run(&plan("set mempool 1000\n", "max", 64)), CopiesTo::Captures),
            any_length + worker
        );
        assert_eq!(copy_pool(run(&plan("set mempool 1000\n", "original", 64)), CopiesTo::Captures), 1000);
        assert_eq!(copy_pool(run(&plan("", "max", 64)), CopiesTo::Ports), 0);
        // nothing of the port's own waits for them
        assert_eq!(waiting_from(run(&plan("", "max", 4096)), PortId(0)), 0);
    }
}
