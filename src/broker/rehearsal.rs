//! Rehearsal: one worker of a plan whose ports are made up, for packets that the caller brings.
//!
//! Filters, samplers, groups, edits and transports are those that `broker::start` would set up. Nothing of the plan is opened, attached or
//! written: every port has a link, every next hop has answered, and every tool takes what it gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Error;
use super::clocks::Clocks;
use super::start::copies::maker_without_ports;
use super::start::rules::state_of;
use super::watch::Watch;
use crate::plan::Plan;
use crate::report::events::Events;
use std::num::NonZeroU32;
use tapline_api::words::LinkState;
use tapline_datapath::copies::facts::Stamps;
use tapline_datapath::counters::WorkerCounters;
use tapline_datapath::egress::mtu::FrameLimits;
use tapline_datapath::egress::outlets::Outlets;
use tapline_datapath::flow::table::{KeyedHash, Secret};
use tapline_datapath::ids::{Attachment, GroupId, PortId, RuleId, ToolId};
use tapline_datapath::receive::clock::ClockView;
use tapline_datapath::receive::decap::Endpoint;
use tapline_datapath::receive::distribute::RingTimes;
use tapline_datapath::receive::{Intake, Source};
use tapline_datapath::route::RuleState;
use tapline_datapath::route::sample::WorkerShare;
use tapline_datapath::swap::plan_part::Swap;
use tapline_datapath::swap::published::LiveView;
use tapline_datapath::witness::Witness;
use tapline_datapath::worker::panics::{PanicReport, Panics};
use tapline_datapath::worker::rehearsed::{Decided, Rehearsed};
use tapline_datapath::worker::{Phase, PhaseCell, Worker};
use tapline_dpdk::Eal;
use tapline_dpdk::eal::{Memory, Options};
use tapline_dpdk::mbuf::{MbufBurst, RxStamp};
use tapline_dpdk::mempool::{DATA_ROOM, Mempool, Pages, mebibytes};
use tapline_dpdk::ring;
use tapline_kernel::machine::available_cpus;
use tapline_packet::burst::MAX_BURST;
use tapline_packet::by_id::ById;
use tapline_packet::frame::Frame;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::vlan;

/// Mbufs for the packets of a burst: 64 of the longest.
const PACKETS: u32 = 4095;
/// Mbufs for copies to ports, and as many for those to captures.
pub const COPIES: u32 = 8191;
/// Memory that EAL takes for itself and for rings, in MiB.
const OTHER_MIB: u32 = 24;
/// The address that a next hop is taken to have answered with: of those that anybody may give himself (IEEE 802, local bit).
pub const NEXT_HOP: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

/// Starts EAL for so many rehearsals: on ordinary pages, with no device, no file and no right.
///
/// # Errors
/// If EAL does not start.
pub fn eal(rehearsals: u32) -> Result<Eal, Error> {
    let mib = mebibytes(PACKETS + 2 * COPIES, Pages::Ordinary) * rehearsals + OTHER_MIB;
    Ok(Eal::start(&Options {
        workers: Vec::new(),
        main_cpus: available_cpus(),
        memory: Memory::Ordinary { mib },
        pci_devices: Vec::new(),
        extra: Vec::new(),
    })?)
}

/// A plan's worker, and what it goes by.
pub struct Rehearsal {
    worker: Rehearsed,
    watch: Watch,
    burst: MbufBurst,
    pool: Arc<Mempool>,
    has_schedules: bool,
    /// Tools whose copies may have to be made.
    made_copies: usize,
}

impl Rehearsal {
    /// Sets up a plan whose rules come into force at `now_ns`, in ns since the Unix epoch.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn set_up(eal: &Eal, plan: &Arc<Plan>, now_ns: u64) -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // no two mempools of an EAL have one name; relaxed suffices, for it orders nothing but itself
        let index = NEXT.fetch_add(1, Ordering::Relaxed);
        vlan::add_tpids(&plan.settings.tpids);
        let links = plan.ports.iter().map(|port| port.replay.is_none().then_some(LinkState::Up)).collect();
        let fits = plan.ports.iter().map(|port| FrameLimits::of(&port.devargs, None, port.mtu)).collect();
        let mut watch = Watch::new(plan, links, fits, 1, now_ns);
        for (tool, _) in plan.tools.entries().filter(|(_, tool)| tool.copy.asks_for_next_hop()) {
            watch.set_next_hop(tool, Some(NEXT_HOP), &mut Events::default().at(now_ns));
        }
        let secret = Secret::from_seed(plan.settings.seed);
        let share = WorkerShare {
            index: 0,
            workers: NonZeroU32::MIN,
            random_seed: plan.settings.seed,
            flows: plan.flows_of_a_table(1),
            timeouts: plan.settings.timeouts,
            flow_hash: KeyedHash::new(&secret),
        };
        let rules = plan.rules.iter().zip(watch.limits());
        let states: Vec<RuleState> =
            rules.map(|(rule, limit)| state_of(plan, rule, limit, Some(&share), &secret)).collect();
        let mut maker = maker_without_ports(eal, plan, COPIES, index)?;
        if let Some(maker) = &mut maker {
            maker.send_to(watch.next_hops());
        }
        let mut counters = WorkerCounters::new(
            plan.ports.len(),
            plan.rules.len(),
            plan.egresses().count(),
            plan.groups.len(),
        );
        let tallies =
            states.iter().map(|state| state.dedup.as_ref().map(|dedup| Arc::clone(dedup.tally())));
        counters.dedups = tallies.collect();
        let worker = Worker {
            plan: Arc::clone(&plan.work),
            is_profiled: false,
            is_in_step: false,
            intakes: intakes(eal, plan)?,
            outlets: no_outlets(plan),
            states: states.into(),
            maker,
            handed_before: 0,
            clock: ClockView::new(Clocks::new(plan.settings.clock).tsc()),
            live: LiveView::new(Arc::clone(watch.cell())),
            swap: Arc::<Swap>::default(),
            uses: watch.uses_of(0),
            counters: Arc::new(counters),
            phase: Arc::new(PhaseCell::new(Phase::Running)),
            quiet_turns: Arc::new(AtomicU64::new(0)),
            panics: Panics::new(Arc::<PanicReport>::default()),
        };
        Ok(Self {
            worker: Rehearsed::new(worker),
            watch,
            burst: MbufBurst::default(),
            pool: Mempool::create(eal, &format!("packets-{index}"), PACKETS, None)?,
            has_schedules: plan.rules.iter().any(|rule| rule.schedule.is_some()),
            made_copies: plan.tools.ids().filter(|&tool| plan.makes_copies_for(tool)).count(),
        })
    }

    /// Gives how many of the packets that have these `lens`, the first ones, go through at once: as many as there are mbufs for. Where a rule
    /// goes on and off by the time they come one by one. One goes in any case.
    pub fn fitting(&self, lens: impl Iterator<Item = usize>) -> usize {
        if self.has_schedules {
            return 1;
        }
        let (mut packets, mut copies) = (0, 0);
        let fits = |len: &usize| {
            packets += 1 + len / usize::from(DATA_ROOM);
            copies += self.made_copies * (2 + len / usize::from(DATA_ROOM));
            packets <= PACKETS as usize && copies <= COPIES as usize
        };
        lens.take(MAX_BURST).take_while(fits).count().max(1)
    }

    /// Returns the counters of what was decided so far.
    pub fn counters(&self) -> &WorkerCounters {
        self.worker.counters()
    }

    /// Turns rules on and off whose time has come at `now_ns`.
    pub fn keep_time(&mut self, now_ns: u64) {
        if self.has_schedules {
            self.watch.keep_schedules(&mut Events::default().at(now_ns));
            self.worker.refresh();
        }
    }

    /// Gives the packets that a rule may still take, if it has a limit.
    pub fn limit_remaining(&self, rule: RuleId) -> Option<u64> {
        self.watch.limits().get(rule.0)?.as_ref().map(|limit| limit.remaining())
    }

    /// Returns whether a rule's schedule lets it take packets.
    pub fn is_on(&self, rule: RuleId) -> bool {
        self.worker.live().rules_on[rule]
    }

    /// Gives the number of a group's buckets.
    pub fn bucket_count(&self, group: GroupId) -> usize {
        self.worker.live().tables[group].bucket_count()
    }

    /// Returns whether rules send to a tool.
    pub fn is_up(&self, tool: ToolId) -> bool {
        self.worker.live().egress_up[tool.egress()]
    }

    /// Lets the worker decide on packets that came by a port, of which `stamps` say when. `frames` are at most 64, and no more bytes than the
    /// mbufs of a rehearsal hold. `witness` is told what is decided, and `look` is shown what leaves.
    pub fn judge<W: Witness>(
        &mut self,
        port: PortId,
        frames: &[Frame<'_>],
        stamps: &Stamps,
        witness: &mut W,
        look: impl FnOnce(Decided<'_>, &mut W),
    ) {
        let moved = self.burst.copy_of(&self.pool, frames);
        assert!(moved.packets == frames.len(), "the caller brings no more than there are mbufs for");
        self.worker.judge(port.0, &mut self.burst, stamps, witness, look);
    }
}

/// An intake for each port, which gets what the caller brings.
fn intakes(eal: &Eal, plan: &Plan) -> Result<Vec<Intake>, Error> {
    let times = RingTimes { place: RxStamp::register(eal)?, clock: Arc::default() };
    let intake = |(port, of_port): (PortId, &crate::plan::value::PortPlan)| {
        // nobody fills it: packets are laid before the worker
        let (_, ring) = ring::create_sole(eal, 1, None)?;
        let terminators = &of_port.terminators;
        let endpoint = || Box::new(Endpoint::new(terminators.clone(), Arc::default()));
        Ok(Intake {
            port,
            attachment: Attachment(port.0 as u32),
            source: Source::Ring { ring, times: Some(times.clone()) },
            is_cold: false,
            endpoint: (!terminators.is_empty()).then(endpoint),
            local_frames: None,
            spread: None,
            gives_rss: false,
            longest: None,
            is_stopped: false,
        })
    };
    plan.ports.entries().map(intake).collect()
}

fn no_outlets(plan: &Plan) -> Outlets {
    Outlets {
        egresses: ById::default(),
        txqs: Vec::new(),
        shared: Vec::new(),
        handovers: Vec::new(),
        control_frames: Vec::new(),
        tx_burst: plan.settings.burst,
        kinds: plan.egresses(),
        has_captures: false,
        time_place: None,
        left: 0,
    }
}
