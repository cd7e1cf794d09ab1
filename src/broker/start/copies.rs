//! Means to make copies: pools, and for each tool how its copies are made.

use std::sync::Arc;

use crate::broker::Error;
use crate::broker::device::Device;
use crate::broker::refusal::Refusal;
use crate::plan::memory::{self, CopiesTo};
use crate::plan::value::{Output, ToolPlan, TunnelPlan};
use crate::plan::{Plan, Run};
use tapline_datapath::copies::build::{CopyPools, Maker, ToolMaker};
use tapline_datapath::copies::transport::Sequence;
use tapline_datapath::ids::{PortId, ToolId};
use tapline_dpdk::mbuf::copy::{CopyPool, Offload};
use tapline_dpdk::mempool::Mempool;
use tapline_dpdk::{Eal, LcoreId, lcore};
use tapline_packet::by_id::ById;
use tapline_packet::headers::ethernet::MacAddress;

/// The pools and numbers that makers share, from the first plan that makes copies to the end.
#[derive(Clone, Default)]
pub(in crate::broker) struct CopyResources {
    /// The pools of copies to ports, and of copies to captures.
    pools: [Option<Arc<Mempool>>; 2],
    /// The numbers of what each tool sends.
    sequences: ById<ToolId, Arc<Sequence>>,
}

impl CopyResources {
    /// This is what another plan goes on with: `tools` has by its tools their ids in the plan before. Tools of a session that somebody sent
    /// to go on with its numbers.
    pub(in crate::broker) fn for_plan(
        &self,
        before: &Plan,
        plan: &Plan,
        tools: &ById<ToolId, Option<ToolId>>,
    ) -> Self {
        if self.sequences.is_empty() {
            return self.clone();
        }
        let session = |tool: &ToolPlan| tool.copy.tunnel.as_ref().map(|tunnel| tunnel.session.clone());
        let known = before.tools.iter().zip(&self.sequences);
        let mut known: Vec<_> =
            known.filter_map(|(tool, sequence)| Some((session(tool)?, Arc::clone(sequence)))).collect();
        let of_tool = |(id, tool): (ToolId, &ToolPlan)| match session(tool) {
            Some(session) => match known.iter().find(|(other, _)| *other == session) {
                Some((_, sequence)) => Arc::clone(sequence),
                None => {
                    let sequence = Arc::<Sequence>::default();
                    known.push((session, Arc::clone(&sequence)));
                    sequence
                }
            },
            None => tools[id].and_then(|from| self.sequences.get(from).cloned()).unwrap_or_default(),
        };
        Self { pools: self.pools.clone(), sequences: plan.tools.entries().map(of_tool).collect() }
    }
}

/// Each worker's means to make copies, or `None` where the plan makes none. The pools are made for the first plan that needs them.
///
/// # Errors
/// If there is no memory for them.
pub(in crate::broker) fn makers(
    eal: &Eal,
    run: Run<'_>,
    ports: &ById<PortId, Device>,
    lcores: &[LcoreId],
    copy_resources: &mut CopyResources,
) -> Result<Vec<Option<Maker>>, Error> {
    let plan = run.plan;
    let counts = CopiesTo::ALL.map(|to| memory::copy_pool(run, to));
    if counts == [0, 0] {
        return Ok(lcores.iter().map(|_| None).collect());
    }
    let socket = lcores.first().and_then(|&lcore| lcore::socket_of(eal, lcore));
    for (to, pool) in CopiesTo::ALL.into_iter().zip(&copy_resources.pools) {
        let needed = if plan.settings.mempool.is_none() { memory::copy_need(run, to) } else { 0 };
        if let Some(pool) = pool.as_ref().filter(|pool| pool.count() < needed) {
            return Err(Refusal::CopyPoolTooSmall { mbufs: pool.count(), needed }.into());
        }
    }
    let [of_ports, of_captures] = &mut copy_resources.pools;
    if counts[0] > 0 && of_ports.is_none() {
        *of_ports = Some(Mempool::create(eal, "copies", counts[0], socket)?);
    }
    if counts[1] > 0 && of_captures.is_none() {
        *of_captures =
            Some(Mempool::create_cached(eal, "captured-copies", counts[1], memory::CAPTURE_CACHE, socket)?);
    }
    let [of_ports, of_captures] = &copy_resources.pools;
    let in_hand = memory::copies_in_hand(run);
    if copy_resources.sequences.is_empty() {
        copy_resources.sequences = sequences(plan);
    }
    let maker = || {
        let pools = CopyPools {
            ports: of_ports.as_ref().map(|pool| CopyPool::new(Arc::clone(pool))),
            captures: of_captures.as_ref().map(|pool| CopyPool::with_stock(Arc::clone(pool), in_hand)),
        };
        Maker::new(
            &plan.work,
            pools,
            tool_makers(plan, &copy_resources.sequences, |port| Some(&ports[port])),
        )
    };
    Ok(lcores.iter().map(|_| Some(maker())).collect())
}

/// The means of a worker whose tools' ports are not there: `mbufs` for copies to ports, and as many for those to captures. `None` where the
/// plan makes no copies. `index` tells their mempools from those of others.
///
/// # Errors
/// If there is no memory for them.
pub(in crate::broker) fn maker_without_ports(
    eal: &Eal,
    plan: &Plan,
    mbufs: u32,
    index: u32,
) -> Result<Option<Maker>, Error> {
    let makes = |is_capture: bool| {
        let is_to = |tool: &ToolPlan| (tool.output == Output::Capture) == is_capture;
        plan.tools.entries().any(|(id, tool)| plan.makes_copies_for(id) && is_to(tool))
    };
    if !makes(false) && !makes(true) {
        return Ok(None);
    }
    let pool = |name: &str, is_capture: bool| -> Result<Option<CopyPool>, Error> {
        let name = format!("{name}-{index}");
        let pool = makes(is_capture).then(|| Mempool::create(eal, &name, mbufs, None)).transpose()?;
        Ok(pool.map(CopyPool::new))
    };
    let pools = CopyPools { ports: pool("copies", false)?, captures: pool("captured-copies", true)? };
    Ok(Some(Maker::new(&plan.work, pools, tool_makers(plan, &sequences(plan), |_| None))))
}

/// The means to make the copies of each tool, or `None` for those whose copies are the packets themselves. `device` gives a port's.
fn tool_makers<'a>(
    plan: &Plan,
    sequences: &ById<ToolId, Arc<Sequence>>,
    device: impl Fn(PortId) -> Option<&'a Device>,
) -> ById<ToolId, Option<ToolMaker>> {
    let tools = plan.tools.entries().zip(sequences).map(|((id, tool), sequence)| {
        if !plan.makes_copies_for(id) {
            return None;
        }
        let port = match tool.output {
            Output::Port(port) => device(port),
            Output::Capture | Output::Discard => None,
        };
        let mut transport = tool.copy.transport.clone();
        transport.set_source(MacAddress(port.and_then(Device::mac).unwrap_or_default()));
        let offload = port
            .and_then(Device::ethdev)
            .filter(|port| port.info().udp_checksum_tx)
            .and_then(|_| transport.leave_udp_checksum());
        Some(ToolMaker {
            offload: offload.map(|lens| Offload::udp_checksum(lens.link, lens.network, lens.is_ipv6)),
            edits: tool.copy.edits,
            timestamp: tool.copy.timestamp,
            transport,
            room: tool.copy.room,
            hash: tool.copy.hash,
            sequence: Arc::clone(sequence),
            sends_chains: port.and_then(Device::ethdev).is_none_or(|port| port.info().multi_segment_tx),
            is_capture: tool.output == Output::Capture,
        })
    });
    tools.collect()
}

/// Makes the numbers of what each tool sends. Tools of one session share them.
fn sequences(plan: &Plan) -> ById<ToolId, Arc<Sequence>> {
    let mut sequences: Vec<(&TunnelPlan, Arc<Sequence>)> = Vec::new();
    let of_tool = plan.tools.iter().map(|tool| {
        let Some(tunnel) = &tool.copy.tunnel else { return Arc::default() };
        match sequences.iter().find(|(other, _)| other.session == tunnel.session) {
            Some((_, shared)) => Arc::clone(shared),
            None => {
                let sequence = Arc::<Sequence>::default();
                sequences.push((tunnel, Arc::clone(&sequence)));
                sequence
            }
        }
    });
    of_tool.collect()
}
