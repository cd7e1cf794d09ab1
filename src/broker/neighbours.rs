//! Neighbours: keeps the next hops of tunnels resolved, and answers for the addresses that tunnels are sent from.
//!
//! Run by the control thread. Workers hand it what tool ports receive ([`Post`]); what it sends goes over a ring to the worker that owns a
//! transmit queue of the port. It tells the watch which next hops answer, and the watch takes tools down and up.

use std::net::IpAddr;
use std::sync::Arc;

use super::next_hop::{NextHop, NextHopEvent, NextHopState, Responder, Timing, TunnelAddress};
use super::watch::Watch;
use crate::datapath::post::Post;
use crate::dpdk::mbuf::MbufQueue;
use crate::dpdk::mbuf::copy::CopyPool;
use crate::dpdk::ring::Sender;
use crate::plan::plan::ToolId;
use crate::stats::snapshot::NextHopEntry;

/// All ports that tunnels leave by.
#[derive(Default)]
pub struct Neighbours {
    ports: Vec<Neighbourhood>,
}

/// One port.
pub struct Neighbourhood {
    pub post: Arc<Post>,
    pub responder: Responder,
    pub hops: Vec<Hop>,
    pub outbox: Outbox,
}

/// A next hop and the tools whose tunnels go there.
pub struct Hop {
    own: TunnelAddress,
    target: IpAddr,
    tools: Vec<ToolId>,
    state: NextHop,
}

/// Frames on their way to the worker that sends them.
pub struct Outbox {
    pool: CopyPool,
    queue: MbufQueue,
    ring: Sender,
}

impl Outbox {
    pub fn new(pool: CopyPool, ring: Sender) -> Self {
        Self { pool, queue: MbufQueue::with_capacity(64), ring }
    }

    /// Sends a frame, if there is an mbuf for it; who asks, asks again.
    fn send(&mut self, frame: &[u8]) {
        self.pool.reserve(1);
        let Some(mut page) = self.pool.page() else { return };
        let Some(bytes) = page.bytes().get_mut(..frame.len()) else { return };
        bytes.copy_from_slice(frame);
        page.set(0..frame.len());
        self.queue.push_page(page);
        self.ring.send(&mut self.queue);
    }
}

impl Neighbourhood {
    /// Asks for `target` on behalf of `tool`.
    pub fn follow(&mut self, tool: ToolId, own: TunnelAddress, target: IpAddr) {
        match self.hops.iter_mut().find(|hop| hop.own == own && hop.target == target) {
            Some(hop) => hop.tools.push(tool),
            None => {
                let state = NextHop::new(own, target, Timing::default());
                self.hops.push(Hop { own, target, tools: vec![tool], state });
            }
        }
    }
}

impl Neighbours {
    pub fn new(ports: Vec<Neighbourhood>) -> Self {
        Self { ports }
    }

    /// Reads the post, answers, and asks for what is due. `elapsed_ns` is of a clock that is never set. Gives lines for the log.
    pub fn look(&mut self, elapsed_ns: u64, now_ns: u64, watch: &mut Watch) -> Vec<String> {
        let mut log = Vec::new();
        for Neighbourhood { post, responder, hops, outbox } in &mut self.ports {
            while let Some(letter) = post.take() {
                if let Some(answer) = responder.answer(letter.bytes()) {
                    outbox.send(&answer);
                }
                for hop in hops.iter_mut() {
                    if let Some(event) = hop.state.on_frame(letter.bytes(), elapsed_ns) {
                        log.extend(hop.tell(event, now_ns, watch));
                    }
                }
            }
            for hop in hops.iter_mut() {
                if let Some(event) = hop.state.on_time(elapsed_ns, &mut |frame| outbox.send(frame)) {
                    log.extend(hop.tell(event, now_ns, watch));
                }
            }
        }
        log
    }

    /// What statistics show of a tool's next hop.
    pub fn entry(&self, tool: ToolId) -> Option<NextHopEntry> {
        let hop = self.ports.iter().flat_map(|port| &port.hops).find(|hop| hop.tools.contains(&tool))?;
        let state = match hop.state.state() {
            NextHopState::Resolving => "resolving",
            NextHopState::Up { .. } => "up",
            NextHopState::Down => "down",
        };
        Some(NextHopEntry {
            address: hop.target.to_string(),
            mac: hop.state.mac().map(|mac| mac.to_string()),
            state,
            requests: hop.state.requests(),
            losses: hop.state.losses(),
        })
    }
}

impl Hop {
    fn tell(&self, event: NextHopEvent, now_ns: u64, watch: &mut Watch) -> Vec<String> {
        let target = self.target;
        let mut log = vec![match event {
            NextHopEvent::Up { mac } => format!("next hop {target} is at {mac}"),
            NextHopEvent::Moved { from, to } => format!("next hop {target} moved from {from} to {to}"),
            NextHopEvent::Down => format!("next hop {target} does not answer"),
        }];
        for &tool in &self.tools {
            log.extend(watch.set_next_hop(tool, self.state.mac(), now_ns));
        }
        log
    }
}
