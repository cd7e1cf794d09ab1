//! Rehearsed: a worker that is asked about one burst after another, and shows what it decided in place of sending it.
//!
//! Everything up to egress is [`Worker`]'s own code. Nothing is polled, and nothing is sent.

use super::{TurnBuffers, Worker, made_for};
use crate::copies::facts::Stamps;
use crate::counters::WorkerCounters;
use crate::egress::mtu::FrameLimits;
use crate::ids::EgressId;
use crate::receive::Source;
use crate::receive::decap::OuterId;
use crate::route::Copies;
use crate::swap::published::Live;
use crate::witness::Witness;
use tapline_dpdk::mbuf::copy::Made;
use tapline_dpdk::mbuf::{Frames, Linear, MbufBurst, MbufQueue, Packet, Shared};
use tapline_packet::burst::{Known, MAX_BURST, Selection};

/// A worker that is on no lcore and whose tools are nowhere.
pub struct Rehearsed {
    worker: Worker,
    buffers: TurnBuffers,
    staged: MbufQueue,
}

/// A burst that was decided on.
pub struct Decided<'a> {
    copies: &'a Copies,
    made: &'a mut [Made],
    burst: &'a mut MbufBurst,
    linear: &'a mut Linear,
    staged: &'a mut MbufQueue,
    live: &'a Live,
    /// The receive times that copies say.
    pub stamps: &'a Stamps,
    /// The tunnels that packets came in, where their port ends some.
    pub outer: Known<'a, OuterId>,
}

/// A copy on its way to a tool, or an original on its way out of a wire.
pub struct Leaving<'a> {
    pub egress: EgressId,
    /// The packet's place in the burst.
    pub packet: usize,
    /// Bytes that the copy would have if it were not cut.
    pub wire_len: u32,
    /// The port does not take a frame of this length.
    pub is_misfit: bool,
    mbuf: &'a Packet,
    linear: &'a mut Linear,
}

impl Leaving<'_> {
    /// Bytes of the copy.
    pub fn len(&self) -> u32 {
        self.mbuf.len()
    }

    pub fn is_empty(&self) -> bool {
        self.mbuf.is_empty()
    }

    /// Shows the bytes of the copy.
    pub fn view<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> R {
        self.mbuf.view(self.linear, look)
    }
}

impl Decided<'_> {
    /// Shows the packets as rules saw them: what is inside tunnels that end at the port.
    pub fn view_frames(&mut self, look: impl FnOnce(&Frames<'_>)) {
        let mut frames = Frames::new();
        self.burst.frames(self.linear, &mut frames);
        look(&frames);
    }

    /// Gives the packets that an egress gets.
    pub fn selection(&self, egress: EgressId) -> Selection {
        self.copies.egresses[egress]
    }

    /// The packets of `selection` that the egress's port does not take, by their lengths and types.
    fn misfits(fit: Option<FrameLimits>, selection: Selection, shared: &Shared<'_>) -> Selection {
        let misfits = fit.map(|fit| fit.misfits(selection, shared));
        misfits.map_or(Selection::NONE, |misfits| misfits.short | misfits.long)
    }

    /// Gives all copies away, in the order in which egress would: `see` is shown each before it is freed.
    pub fn leave(self, mut see: impl FnMut(Leaving<'_>)) {
        let Self { copies, made, burst, linear, staged, live, .. } = self;
        let alone = made.iter().map(Made::alone).chain(std::iter::repeat(Selection::NONE));
        let mut of_burst =
            burst.share(copies.egresses.iter().zip(alone).map(|(&copies, alone)| copies - alone));
        for (egress, &selection) in copies.egresses.entries().rev() {
            if selection.is_empty() {
                continue;
            }
            let mut wire_lens = [0; MAX_BURST];
            let mut take = |shared: &mut Shared<'_>| {
                selection.indices().for_each(|packet| wire_lens[packet] = shared.wire_len_of(packet));
                let misfits = Self::misfits(live.fits[egress], selection, shared);
                shared.take(selection, staged);
                misfits
            };
            let misfits = match made.get_mut(egress.0).filter(|made| !made.is_empty()) {
                Some(made) => take(&mut of_burst.join(selection, made)),
                None => take(&mut of_burst),
            };
            for packet in selection.indices() {
                let Some(mbuf) = staged.pop() else { break };
                see(Leaving {
                    egress,
                    packet,
                    wire_len: wire_lens[packet],
                    is_misfit: misfits.contains(packet),
                    mbuf: &mbuf,
                    linear,
                });
            }
        }
    }
}

impl Rehearsed {
    pub fn new(worker: Worker) -> Self {
        Self { buffers: TurnBuffers::new(&worker), worker, staged: MbufQueue::with_capacity(MAX_BURST) }
    }

    /// Returns the counters of what was decided so far.
    pub fn counters(&self) -> &WorkerCounters {
        &self.worker.counters
    }

    pub fn live(&self) -> &Live {
        self.worker.live.get()
    }

    /// Takes up what was published since.
    pub fn refresh(&mut self) {
        if self.worker.live.refresh().is_some() {
            self.worker.adopt(&mut self.buffers);
        }
    }

    /// Decides on a burst that came by the worker's intake `at`, a ring whose packets have their times; `burst` is empty afterwards.
    /// `witness` is told what is decided; `look` is then shown what comes out of it.
    pub fn judge<W: Witness>(
        &mut self,
        at: usize,
        burst: &mut MbufBurst,
        stamps: &Stamps,
        witness: &mut W,
        look: impl FnOnce(Decided<'_>, &mut W),
    ) {
        let Self { worker, buffers, staged } = self;
        if let Source::Ring { times: Some(times), .. } = &worker.intakes[at].source {
            times.write(burst, stamps);
        }
        std::mem::swap(&mut buffers.burst, burst);
        let is_stamped = worker.decide(buffers, at, witness);
        let port = worker.intakes[at].port;
        let TurnBuffers { copies, burst: decided, linear, stamps, flows, .. } = buffers;
        look(
            Decided {
                copies,
                made: made_for(&worker.plan.inputs[port], &mut worker.maker),
                burst: decided,
                linear,
                staged,
                live: worker.live.get(),
                stamps: if is_stamped { stamps } else { &Stamps::NONE },
                outer: flows.outer(),
            },
            witness,
        );
        buffers.burst.clear();
    }
}
