//! Neighbours: keeps the next hops of tunnels resolved, answers for the addresses that tunnels are sent from or end at, probes tools
//! by heartbeats and echoes, and counts what ICMP says of their copies.
//!
//! Run by the control thread. Workers hand it what ports receive for it (`LocalFrames`); what it sends goes over a ring to the worker
//! that owns a transmit queue of the port. It tells the watch which next hops and probes are answered, and the watch takes tools
//! down and up.

use std::net::IpAddr;
use std::sync::Arc;

use super::watch::Watch;
use crate::health::echo::Echo;
use crate::health::icmp_error::{ErrorCounts, IcmpError};
use crate::health::next_hop::{NextHop, NextHopEvent, NextHopState, Timing, TunnelAddress};
use crate::health::probe::Prober;
use crate::health::responder::{Announcer, Responder};
use crate::health::tool::Observation;
use crate::report::events::Moment;
use tapline_api::event::{Alarm, Event};
use tapline_api::snapshot::{AnswerState, IcmpErrors, NextHopEntry, ProbeEntry};
use tapline_api::words;
use tapline_datapath::copies::transport::Transport;
use tapline_datapath::ids::{PortId, ToolId};
use tapline_datapath::receive::local_frames::LocalFrames;
use tapline_dpdk::mbuf::MbufQueue;
use tapline_dpdk::mbuf::copy::CopyPool;
use tapline_dpdk::ring::Sender;
use tapline_packet::by_id::ById;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::heartbeat::{Heartbeat, Key};

/// All ports that tunnels leave by or end at, or heartbeats leave and return by.
#[derive(Default)]
pub struct Neighbours {
    ports: Vec<Neighbourhood>,
    probes: Vec<Probe>,
    /// The clock of the probes, which stands still while workers rest.
    clock_ns: u64,
    /// The time at which it was looked at, unless workers rested since.
    looked_ns: Option<u64>,
}

/// One port.
pub struct Neighbourhood {
    pub port: PortId,
    /// The port's name.
    pub name: String,
    /// The queue of frames for Tapline itself, if some may come.
    pub local_frames: Option<Arc<LocalFrames>>,
    pub responder: Responder,
    pub announcer: Announcer,
    /// When it was told that somebody else has one of its addresses.
    pub conflicts: Vec<(IpAddr, u64)>,
    pub hops: Vec<Hop>,
    /// The tunnels that leave by it, if it hears what comes back.
    pub tunnels: Vec<SentTunnel>,
    /// The outbox by which Tapline sends, if it sends by this port.
    pub outbox: Option<Outbox>,
    /// The port is stopped: nothing is sent by it.
    pub is_stopped: bool,
    /// The port's link was up when it was looked at.
    pub is_link_up: bool,
}

/// A tunnel by which a tool's copies are sent, and what ICMP said of them.
pub struct SentTunnel {
    pub tool: ToolId,
    pub own: TunnelAddress,
    pub transport: Transport,
    pub errors: ErrorCounts,
}

/// A question that a tool is asked again and again.
pub struct Probe {
    pub tool: ToolId,
    /// The port by which it is asked.
    pub port: PortId,
    pub question: Question,
    pub prober: Prober,
}

/// A kind of probe.
pub enum Question {
    Heartbeat {
        key: Key,
        source: MacAddress,
        destination: MacAddress,
        /// The port that it has to return by.
        back: PortId,
    },
    Echo {
        echo: Echo,
        /// The address to which the tunnel's frames go, if it was given; else it is asked for.
        next_hop: Option<MacAddress>,
    },
}

impl Question {
    fn is_of_kind(&self, other: &Question) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    fn observation(&self, is_answered: bool) -> Observation {
        match self {
            Question::Heartbeat { .. } => Observation::Heartbeat { is_returned: is_answered },
            Question::Echo { .. } => Observation::Echo { is_answered },
        }
    }
}

impl Probe {
    /// Returns whether a heartbeat that returned by `port` is of this tool, and by that port.
    fn is_returned_by(&self, port: PortId, heartbeat: &Heartbeat) -> bool {
        heartbeat.tool as usize == self.tool.0
            && matches!(self.question, Question::Heartbeat { back, .. } if back == port)
    }

    fn answered(&mut self, sequence: u64, watch: &mut Watch, moment: &mut Moment<'_>) {
        if self.prober.answered(sequence) {
            watch.observe(self.tool, self.question.observation(true), moment);
        }
    }
}

/// A next hop and the tools whose tunnels go there.
pub struct Hop {
    own: TunnelAddress,
    target: IpAddr,
    tools: Vec<ToolId>,
    state: NextHop,
    /// The conflict that is told: the address that copies go to, and the other.
    raised: Option<(MacAddress, MacAddress)>,
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

/// From one event about an address that somebody else has to the next.
const CONFLICT_TOLD_EVERY_NS: u64 = 600_000_000_000;

impl Neighbourhood {
    /// Answers a frame, and takes note of what it says of next hops, far ends and the port's own addresses.
    fn hear(&mut self, frame: &[u8], now_ns: u64, watch: &mut Watch, moment: &mut Moment<'_>) {
        if let (Some(answer), Some(outbox)) = (self.responder.answer_at(frame, now_ns), &mut self.outbox) {
            outbox.send(&answer);
        }
        if let Some((address, mac)) = self.responder.conflict(frame) {
            self.responder.claimed();
            self.announcer.defend(now_ns);
            self.tell_conflict(address, mac, now_ns, moment);
        }
        for hop in &mut self.hops {
            if let Some(event) = hop.state.on_frame(frame, now_ns) {
                hop.tell(event, watch, moment);
            }
        }
        // tools that share a session cannot be told apart by what is quoted: the first is as good as any
        let found = self.tunnels.iter_mut().find_map(|tunnel| {
            let error = IcmpError::read(frame, &tunnel.own)?;
            tunnel.transport.has_sent(error.quoted).then_some((tunnel, error))
        });
        if let Some((tunnel, IcmpError { from, reason, mtu, .. })) = found
            && tunnel.errors.note(reason, now_ns)
        {
            let tool = watch.tool_name(tunnel.tool).to_owned();
            moment.record(Event::TunnelRefused { tool, reason, by: from, mtu });
        }
    }

    fn tell_conflict(&mut self, address: IpAddr, mac: MacAddress, now_ns: u64, moment: &mut Moment<'_>) {
        match self.conflicts.iter_mut().find(|(other, _)| *other == address) {
            Some((_, told)) if now_ns.saturating_sub(*told) < CONFLICT_TOLD_EVERY_NS => return,
            Some((_, told)) => *told = now_ns,
            None => self.conflicts.push((address, now_ns)),
        }
        let port = self.name.clone();
        moment.record(Event::AddressConflict { port, address, mac: mac.to_string() });
    }

    /// Announces the addresses at which tunnels end, where that is due.
    fn announce(&mut self, now_ns: u64) {
        let Some(outbox) = &mut self.outbox else { return };
        let ends = self.responder.ends();
        if ends.is_empty() || !self.announcer.is_due(now_ns) {
            return;
        }
        let count = ends.len() as u64;
        ends.iter().for_each(|end| outbox.send(&end.announcement()));
        self.responder.announced(count);
    }

    /// Goes on with what the same port had before. `tools` have the ids before.
    fn go_on(&mut self, before: &mut Neighbourhood, tools: &ById<ToolId, Option<ToolId>>) {
        self.outbox = self.outbox.take().or_else(|| before.outbox.take());
        self.responder.go_on(&before.responder);
        self.is_link_up = before.is_link_up;
        if self.responder.ends() == before.responder.ends() {
            self.announcer = before.announcer;
            self.conflicts = std::mem::take(&mut before.conflicts);
        }
        for hop in &mut self.hops {
            if let Some(known) =
                before.hops.iter_mut().find(|known| known.own == hop.own && known.target == hop.target)
            {
                std::mem::swap(&mut hop.state, &mut known.state);
                hop.raised = known.raised.take();
            }
        }
        for tunnel in &mut self.tunnels {
            if let Some(known) = before.tunnels.iter().find(|known| Some(known.tool) == tools[tunnel.tool])
            {
                tunnel.errors = known.errors.clone();
            }
        }
    }

    /// Asks for `target` on behalf of `tool`.
    pub fn follow(&mut self, tool: ToolId, own: TunnelAddress, target: IpAddr) {
        match self.hops.iter_mut().find(|hop| hop.own == own && hop.target == target) {
            Some(hop) => hop.tools.push(tool),
            None => {
                let state = NextHop::new(own, target, Timing::default());
                self.hops.push(Hop { own, target, tools: vec![tool], state, raised: None });
            }
        }
    }
}

impl Neighbours {
    pub fn new(ports: Vec<Neighbourhood>, probes: Vec<Probe>) -> Self {
        Self { ports, probes, clock_ns: 0, looked_ns: None }
    }

    /// Returns whether Tapline sends by a port.
    pub fn has_outbox(&self, port: PortId) -> bool {
        self.ports.iter().any(|known| known.port == port && known.outbox.is_some())
    }

    /// Returns the queue in which a port's workers put frames for Tapline itself.
    pub fn local_frames_of(&self, port: PortId) -> Option<Arc<LocalFrames>> {
        self.ports.iter().find(|known| known.port == port)?.local_frames.clone()
    }

    /// Goes on with those of another plan. What is known of a next hop stays, and so does what a tool was asked and how often it
    /// answered. `ports` and `tools` have the ids before of those that the plan keeps.
    pub fn go_on(
        &mut self,
        (mut next, mut probes): (Vec<Neighbourhood>, Vec<Probe>),
        ports: &ById<PortId, Option<PortId>>,
        tools: &ById<ToolId, Option<ToolId>>,
    ) {
        for neighbourhood in &mut next {
            let from = ports[neighbourhood.port];
            let Some(before) = self.ports.iter_mut().find(|known| Some(known.port) == from) else {
                continue;
            };
            neighbourhood.go_on(before, tools);
        }
        for probe in &mut probes {
            // a heartbeat says the id of its tool
            let is_same = |before: &&mut Probe| {
                Some(before.tool) == tools[probe.tool]
                    && before.tool == probe.tool
                    && before.question.is_of_kind(&probe.question)
                    && before.prober.timing() == probe.prober.timing()
            };
            if let Some(before) = self.probes.iter_mut().find(is_same) {
                std::mem::swap(&mut probe.prober, &mut before.prober);
            }
        }
        (self.ports, self.probes) = (next, probes);
    }

    /// Workers receive nothing for a while: what is on its way meanwhile is not lost by that.
    pub fn rest(&mut self) {
        self.looked_ns = None;
    }

    /// Probes, answers and errors are counted from here.
    pub fn clear_counts(&mut self) {
        self.probes.iter_mut().for_each(|probe| probe.prober.clear_counts());
        for port in &mut self.ports {
            port.responder.clear_counts();
            port.tunnels.iter_mut().for_each(|tunnel| tunnel.errors.clear());
        }
    }

    /// Looks at the links of the ports. When a link comes up, the addresses where tunnels end are announced, and next hops are asked.
    pub fn look_at_links(&mut self, elapsed_ns: u64, is_up: impl Fn(PortId) -> bool) {
        for port in &mut self.ports {
            let is_up = is_up(port.port);
            if !port.responder.ends().is_empty() {
                port.announcer.see_link(is_up);
            }
            if is_up && !std::mem::replace(&mut port.is_link_up, is_up) {
                port.hops.iter_mut().for_each(|hop| hop.state.on_link_up(elapsed_ns));
            }
            port.is_link_up = is_up;
        }
    }

    /// Reads the local frames, answers, and asks for what is due. `elapsed_ns` is of a clock that is never set, and that stands
    /// still while workers do.
    pub fn look(&mut self, elapsed_ns: u64, watch: &mut Watch, moment: &mut Moment<'_>) {
        self.clock_ns +=
            elapsed_ns.saturating_sub(self.looked_ns.replace(elapsed_ns).unwrap_or(elapsed_ns));
        for neighbourhood in &mut self.ports {
            let port = neighbourhood.port;
            if let Some(local_frames) = neighbourhood.local_frames.clone() {
                while let Some(heartbeat) = local_frames.take_heartbeat() {
                    let returned = self.probes.iter_mut();
                    for probe in returned.filter(|probe| probe.is_returned_by(port, &heartbeat)) {
                        probe.answered(heartbeat.sequence, watch, moment);
                    }
                }
                while let Some(frame) = local_frames.take() {
                    neighbourhood.hear(frame.bytes(), elapsed_ns, watch, moment);
                    for probe in self.probes.iter_mut().filter(|probe| probe.port == port) {
                        if let Question::Echo { echo, .. } = &probe.question
                            && let Some(sequence) = echo.answer(frame.bytes())
                        {
                            probe.answered(sequence, watch, moment);
                        }
                    }
                }
                neighbourhood.responder.limited(local_frames.take_refused());
            }
            if neighbourhood.is_stopped {
                continue;
            }
            neighbourhood.announce(elapsed_ns);
            let Neighbourhood { hops, outbox: Some(outbox), local_frames, .. } = neighbourhood else {
                continue;
            };
            for hop in hops.iter_mut() {
                if let Some(event) = hop.state.on_time(elapsed_ns, &mut |frame| outbox.send(frame)) {
                    hop.tell(event, watch, moment);
                }
            }
            if let Some(local_frames) = local_frames {
                local_frames.know(hops.iter().filter_map(|hop| hop.state.mac()));
            }
        }
        self.probe(watch, moment);
    }

    /// Gives up what was not answered in time, and asks what is due.
    fn probe(&mut self, watch: &mut Watch, moment: &mut Moment<'_>) {
        for Probe { tool, port, question, prober } in &mut self.probes {
            while prober.expire(self.clock_ns) {
                watch.observe(*tool, question.observation(false), moment);
            }
            let Some(Neighbourhood { hops, outbox: Some(outbox), is_stopped: false, .. }) =
                self.ports.iter_mut().find(|known| known.port == *port)
            else {
                continue;
            };
            match question {
                Question::Heartbeat { key, source, destination, .. } => {
                    if let Some(sequence) = prober.due(self.clock_ns) {
                        outbox.send(&Heartbeat { tool: tool.0 as u32, sequence }.frame(
                            key,
                            *destination,
                            *source,
                        ));
                    }
                }
                Question::Echo { echo, next_hop } => {
                    let mac_of = |hop: &Hop| hop.state.mac().filter(|_| hop.tools.contains(tool));
                    // while there is nobody to send it to, the tool is down for that
                    let Some(mac) = next_hop.or_else(|| hops.iter().find_map(mac_of)) else { continue };
                    if let Some(sequence) = prober.due(self.clock_ns) {
                        outbox.send(&echo.request(sequence, mac));
                    }
                }
            }
        }
    }

    /// Gives what a port answered for its own addresses; nothing of one that has none, or hears nothing.
    pub fn answers(&self, port: PortId) -> Option<AnswerState> {
        let port = self.ports.iter().find(|known| known.port == port)?;
        let is_asked = port.local_frames.is_some() && port.responder.has_addresses();
        is_asked.then(|| port.responder.counts())
    }

    /// Gives the ICMP errors about a tool's copies, if it sends them in a tunnel whose port receives.
    pub fn icmp_errors(&self, tool: ToolId) -> Option<IcmpErrors> {
        let mut tunnels = self.ports.iter().flat_map(|port| &port.tunnels);
        tunnels.find(|tunnel| tunnel.tool == tool).map(|tunnel| IcmpErrors(tunnel.errors.counts()))
    }

    /// Gives the statistics of a tool's heartbeats.
    pub fn heartbeats(&self, tool: ToolId) -> Option<ProbeEntry> {
        self.entry_of(tool, |question| matches!(question, Question::Heartbeat { .. }))
    }

    /// Gives the statistics of a tool's echoes.
    pub fn echoes(&self, tool: ToolId) -> Option<ProbeEntry> {
        self.entry_of(tool, |question| matches!(question, Question::Echo { .. }))
    }

    fn entry_of(&self, tool: ToolId, is_asked: impl Fn(&Question) -> bool) -> Option<ProbeEntry> {
        let probe = self.probes.iter().find(|probe| probe.tool == tool && is_asked(&probe.question))?;
        let counts = probe.prober.counts();
        let waiting = probe.prober.waiting() as u64;
        Some(ProbeEntry {
            sent: counts.sent,
            returned: counts.returned,
            lost: counts.lost,
            waiting,
            late: counts.late,
        })
    }

    /// Gives the statistics of a tool's next hop.
    pub fn entry(&self, tool: ToolId) -> Option<NextHopEntry> {
        let hop = self.ports.iter().flat_map(|port| &port.hops).find(|hop| hop.tools.contains(&tool))?;
        let state = match hop.state.state() {
            NextHopState::Resolving => words::NextHopState::Resolving,
            NextHopState::Up { .. } => words::NextHopState::Up,
            NextHopState::Down => words::NextHopState::Down,
        };
        let counts = hop.state.counts();
        Some(NextHopEntry {
            address: hop.target.to_string(),
            mac: hop.state.mac().map(|mac| mac.to_string()),
            state,
            requests: counts.requests,
            losses: counts.losses,
            moves: counts.moves,
            probes: counts.probes,
            conflicts: counts.conflicts,
            ignored: counts.ignored,
            conflict: hop.state.conflict().map(|mac| mac.to_string()),
        })
    }
}

impl Hop {
    fn tell(&mut self, event: NextHopEvent, watch: &mut Watch, moment: &mut Moment<'_>) {
        let next_hop = self.target;
        let tools: Vec<String> = self.tools.iter().map(|&tool| watch.tool_name(tool).to_owned()).collect();
        let conflict = |(mac, other): (MacAddress, MacAddress)| Alarm::Conflict {
            next_hop,
            mac: mac.to_string(),
            other: other.to_string(),
            tools: tools.clone(),
        };
        if let Some(over) = self.raised.take() {
            moment.record(Event::AlarmCleared(conflict(over)));
        }
        match event {
            NextHopEvent::Up { mac } => {
                let (mac, tools) = (mac.to_string(), tools.clone());
                moment.record(Event::NextHopResolved { next_hop, mac, tools });
            }
            NextHopEvent::Moved { from, to } => {
                let (from, to, tools) = (from.to_string(), to.to_string(), tools.clone());
                moment.record(Event::NextHopMoved { next_hop, from, to, tools });
            }
            NextHopEvent::Down => moment.record(Event::NextHopLost { next_hop, tools: tools.clone() }),
            NextHopEvent::Conflict { mac, other } => {
                self.raised = Some((mac, other));
                moment.record(Event::AlarmRaised(conflict((mac, other))));
            }
            NextHopEvent::ConflictOver => {}
        }
        for &tool in &self.tools {
            watch.set_next_hop(tool, self.state.mac(), moment);
        }
    }
}
