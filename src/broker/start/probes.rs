//! The questions of the control thread to neighbours and tools by the ports: next hops, heartbeats, echoes.

use std::net::IpAddr;
use std::sync::Arc;

use super::Site;
use super::ports::StartedPort;
use super::queues::{SpareTxq, Ways};
use crate::broker::Error;
use crate::broker::neighbours::{Neighbourhood, Outbox, Probe, Question, SentTunnel};
use crate::health::echo::Echo;
use crate::health::icmp_error::ErrorCounts;
use crate::health::next_hop::TunnelAddress;
use crate::health::probe::Prober;
use crate::health::responder::{Announcer, EndAddress, Responder};
use crate::plan::Plan;
use crate::plan::value::{NextHopPlan, Output, TunnelPlan};
use tapline_datapath::egress::outlets::ControlFrames;
use tapline_datapath::flow::table::Secret;
use tapline_datapath::ids::{PortId, ToolId};
use tapline_datapath::receive::local_frames::LocalFrames;
use tapline_dpdk::mbuf::MbufQueue;
use tapline_dpdk::mbuf::copy::CopyPool;
use tapline_dpdk::mempool::Mempool;
use tapline_dpdk::{lcore, ring};
use tapline_kernel::interface::has_address;
use tapline_packet::by_id::ById;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::heartbeat::Key;

/// Frames of the control thread that may be on their way by a port.
const MOST_CONTROL_FRAMES: u32 = 64;

/// Makes for each port the queue of frames that it receives for Tapline itself.
pub(in crate::broker) fn local_frames(
    plan: &Plan,
    heartbeat_key: Key,
) -> ById<PortId, Option<Arc<LocalFrames>>> {
    plan.ports.ids().map(|port| local_frames_of(plan, port, heartbeat_key)).collect()
}

/// Makes the queue of frames that a port receives for Tapline itself, if tunnels leave by it or end at it, or heartbeats return.
fn local_frames_of(plan: &Plan, port: PortId, heartbeat_key: Key) -> Option<Arc<LocalFrames>> {
    let own = own_addresses(plan, port);
    let has_answers = !own.is_empty() || plan.returns_heartbeats(port);
    let is_listening = has_answers && plan.ports[port].rxq != Some(0) && !plan.ports[port].is_stopped;
    let key = plan.returns_heartbeats(port).then_some(heartbeat_key);
    is_listening.then(|| Arc::new(LocalFrames::new(own, key)))
}

/// Gives the addresses that tunnels of a port are sent from, and those at which tunnels end.
pub(in crate::broker) fn own_addresses(plan: &Plan, port: PortId) -> Vec<IpAddr> {
    let uses = &plan.ports[port].uses;
    let tunnels = uses.tools.iter().filter_map(|&tool| plan.tools[tool].copy.tunnel.as_ref());
    tunnels.map(|tunnel| tunnel.source).chain(uses.ends.iter().copied()).collect()
}

/// Makes the key that tells this run's heartbeats from all other frames.
pub(in crate::broker) fn heartbeat_key(secret: &Secret) -> Key {
    let mut key = Key::default();
    for (index, word) in key.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&secret.word(HEARTBEAT_WORDS + index as u64).to_be_bytes());
    }
    key
}

/// Words of the secret that nothing else uses: those of heartbeats, then one for each tool.
const HEARTBEAT_WORDS: u64 = 1 << 32;
const PROBE_WORDS: u64 = 2 << 32;

/// Makes the heartbeats and echoes of all tools.
pub(in crate::broker) fn probes(site: &Site<'_>, heartbeat_key: Key, secret: &Secret) -> Vec<Probe> {
    let Site { plan, ports, .. } = *site;
    let mac_of = |port: PortId| MacAddress(ports[port].mac().unwrap_or_default());
    let mut probes = Vec::new();
    for (id, tool) in plan.tools.entries() {
        let Output::Port(port) = tool.output else { continue };
        let word = secret.word(PROBE_WORDS + id.0 as u64);
        if let Some(heartbeat) = tool.heartbeat {
            // an address of the tool's own, locally administered: no bridge may take a port of ours for being elsewhere
            let [a, b, c, ..] = word.to_be_bytes();
            let source = MacAddress([0x02, b'T', b'L', a, b, c]);
            let (destination, back) = (mac_of(heartbeat.back), heartbeat.back);
            let question = Question::Heartbeat { key: heartbeat_key, source, destination, back };
            probes.push(Probe { tool: id, port, question, prober: Prober::new(heartbeat.timing) });
        }
        if let (Some(timing), Some(tunnel)) = (tool.echo, &tool.copy.tunnel) {
            let own = TunnelAddress { mac: mac_of(port), address: tunnel.source, vlan: tunnel.vlan };
            let next_hop = match tunnel.next_hop {
                NextHopPlan::Mac(mac) => Some(mac),
                NextHopPlan::Ask(_) => None,
            };
            let question =
                Question::Echo { echo: Echo { own, target: tunnel.session.1, key: word }, next_hop };
            probes.push(Probe { tool: id, port, question, prober: Prober::new(timing) });
        }
    }
    probes
}

/// Gives ports that tunnels leave by or end at, or heartbeats leave or return by, a neighbourhood each, whose local frames their
/// workers fill. Ports that `has_outbox` says so of have one from before.
///
/// # Errors
/// If there is no memory for what the control thread sends.
pub(in crate::broker) fn neighbourhoods(
    site: &Site<'_>,
    started: &mut ById<PortId, StartedPort>,
    local_frames: ById<PortId, Option<Arc<LocalFrames>>>,
    ways: &mut Ways,
    has_outbox: impl Fn(PortId) -> bool,
) -> Result<Vec<Neighbourhood>, Error> {
    let mut neighbourhoods = Vec::new();
    for (id, local_frames) in site.plan.ports.ids().zip(local_frames) {
        let Some(mac) = site.ports[id].mac() else { continue };
        let has_addresses = site.plan.is_tunnel_port(id) || !site.plan.ports[id].uses.ends.is_empty();
        let has_frames = has_addresses && local_frames.is_some() || site.plan.sends_heartbeats(id);
        let outbox = match has_frames && !has_outbox(id) {
            true => outbox(site, id, &mut started[id].txqs, ways)?,
            false => None,
        };
        if local_frames.is_some() || outbox.is_some() || has_outbox(id) {
            neighbourhoods.push(neighbourhood(site, id, MacAddress(mac), local_frames, outbox));
        }
    }
    Ok(neighbourhoods)
}

/// Makes the outbox by which the control thread sends on port `id`; `None` if the port has no transmit queue. Where no tool sends on
/// it, the first lcore that transmits gets one of `txqs`.
fn outbox(
    site: &Site<'_>,
    id: PortId,
    txqs: &mut [Option<SpareTxq>],
    ways: &mut Ways,
) -> Result<Option<Outbox>, Error> {
    // the first lcore that transmits owns the first queue of every port that a tool sends on from the start
    let first = site.roles.transmit[0];
    let owned = |worker: &usize| ways.layout.owned[*worker][id].is_some();
    let owner = std::iter::once(first).chain(0..site.roles.lcores.len()).find(owned).unwrap_or(first);
    let txq = match ways.layout.owned[owner][id] {
        Some(txq) => txq,
        None => {
            let Some(taken) = txqs.iter_mut().find_map(Option::take) else { return Ok(None) };
            ways.own(owner, id, taken)
        }
    };
    let socket = lcore::socket_of(site.eal, site.roles.lcores[owner]);
    let (sender, ring) = ring::create(site.eal, MOST_CONTROL_FRAMES, socket)?;
    ways.of_workers[owner].control_frames.push(ControlFrames {
        txq,
        ring,
        queue: MbufQueue::with_capacity(MOST_CONTROL_FRAMES as usize),
    });
    let pool = Mempool::create(
        site.eal,
        &format!("control-{}", site.attachments[id].0),
        4 * MOST_CONTROL_FRAMES - 1,
        socket,
    )?;
    Ok(Some(Outbox::new(CopyPool::new(pool), sender)))
}

fn neighbourhood(
    site: &Site<'_>,
    id: PortId,
    mac: MacAddress,
    local_frames: Option<Arc<LocalFrames>>,
    outbox: Option<Outbox>,
) -> Neighbourhood {
    let plan = site.plan;
    let tools = plan.ports[id].uses.tools.iter();
    let tunnels: Vec<(ToolId, &TunnelPlan, TunnelAddress)> = tools
        .filter_map(|&tool| plan.tools[tool].copy.tunnel.as_ref().map(|tunnel| (tool, tunnel)))
        .map(|(tool, tunnel)| {
            (tool, tunnel, TunnelAddress { mac, address: tunnel.source, vlan: tunnel.vlan })
        })
        .collect();
    let mut own: Vec<TunnelAddress> = Vec::new();
    for (_, _, address) in &tunnels {
        if !own.contains(address) {
            own.push(*address);
        }
    }
    let mut neighbourhood = Neighbourhood {
        port: id,
        name: plan.ports[id].name.clone(),
        responder: Responder::new(own).with_ends(ends(plan, id, mac)),
        announcer: Announcer::default(),
        conflicts: Vec::new(),
        hops: Vec::new(),
        tunnels: Vec::new(),
        outbox,
        local_frames,
        is_stopped: plan.ports[id].is_stopped,
        is_link_up: false,
    };
    for (tool, tunnel, address) in tunnels {
        if let NextHopPlan::Ask(target) = tunnel.next_hop {
            neighbourhood.follow(tool, address, target);
        }
        if neighbourhood.local_frames.is_some() {
            let transport = plan.tools[tool].copy.transport.clone();
            let errors = ErrorCounts::default();
            neighbourhood.tunnels.push(SentTunnel { tool, own: address, transport, errors });
        }
    }
    neighbourhood
}

/// The addresses at which a port's tunnels end, but those that the kernel has: it answers for them by its interfaces itself.
fn ends(plan: &Plan, id: PortId, mac: MacAddress) -> Vec<EndAddress> {
    let is_kernels = plan.ports[id].devargs.kernel_interface().is_some();
    let ends = plan.ports[id].uses.ends.iter();
    // a loopback interface has no address to answer with
    let ends = ends.filter(|&&end| mac != MacAddress::default() && !(is_kernels && has_address(end)));
    ends.map(|&address| EndAddress { mac, address }).collect()
}
