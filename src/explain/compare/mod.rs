//! Compare: two plans side by side decide on the packets of one capture, and packets whose fates differ are grouped by cause.
//!
//! Each plan has an `Explainer` of its own, whose worker is the data path's own code. Samplers are taken away, unless they are asked for: a
//! sampler that counts packets keeps others once one packet more comes before, which is no difference of the plans. Memory is bounded,
//! whatever the length of the capture.

/// The cause of a difference.
pub mod cause;
/// Counts by cause.
pub mod count;
/// The difference for programs.
pub mod json;
/// The difference for people.
pub mod text;

use std::sync::Arc;

use self::cause::{View, difference};
use self::count::Counted;
use super::capture::Ports;
use super::fate::Fate;
use super::{Explainer, Packet};
use crate::broker::Error;
use crate::plan::Plan;
use crate::plan::diff::{Change, diff};
use crate::plan::origin::Origins;
use tapline_datapath::flow::hash::HashSpec;
use tapline_datapath::ids::{PortId, RuleId};
use tapline_datapath::route::sample::SampleSpec;
use tapline_dpdk::Eal;
use tapline_packet::burst::Selection;
use tapline_packet::by_id::ById;

/// A plan that is compared, and the text that it is of.
pub struct Compared {
    pub plan: Plan,
    pub origins: Origins,
}

/// The samplers of a plan's rules, and how each hashes flows.
pub type Samplers = ById<RuleId, Option<(SampleSpec, Option<HashSpec>)>>;

struct Side {
    explainer: Explainer,
    /// Empty where packets are sampled.
    samplers: Samplers,
}

/// Two plans that decide on the same packets.
pub struct Comparison {
    sides: [Side; 2],
    changes: Vec<Change>,
    pub counted: Counted,
}

fn samplers_of(plan: &Plan) -> Samplers {
    let of = |rule: &crate::plan::value::RulePlan| {
        Some((rule.sample?, rule.sample_hash.map(|hash| plan.work.hashes[hash])))
    };
    plan.rules.iter().map(of).collect()
}

impl Side {
    fn new(eal: &Eal, compared: Compared, is_sampled: bool, now_ns: u64) -> Result<Self, Error> {
        let Compared { plan, origins } = compared;
        let (samplers, plan) = match is_sampled {
            true => (plan.rules.iter().map(|_| None).collect(), plan),
            false => (samplers_of(&plan), plan.without_samplers()),
        };
        Ok(Self { explainer: Explainer::new(eal, Arc::new(plan), origins, now_ns)?, samplers })
    }

    fn view<'a>(&'a self, fate: Option<&'a Fate>) -> View<'a> {
        View {
            plan: self.explainer.plan(),
            origins: &self.explainer.origins,
            samplers: &self.samplers,
            fate,
        }
    }
}

impl Comparison {
    /// Sets up both plans, whose first packet is of time `now_ns`. `is_sampled` lets samplers draw as in a run.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn new(eal: &Eal, [old, new]: [Compared; 2], is_sampled: bool, now_ns: u64) -> Result<Self, Error> {
        let changes = diff(&old.plan, &new.plan);
        let sides = [Side::new(eal, old, is_sampled, now_ns)?, Side::new(eal, new, is_sampled, now_ns)?];
        Ok(Self { sides, changes, counted: Counted::default() })
    }

    /// Gives how many of `packets`, the first ones, go through both workers at once.
    pub fn fitting(&self, packets: &[Packet<'_>]) -> usize {
        let [old, new] = &self.sides;
        old.explainer.fitting(packets).min(new.explainer.fitting(packets))
    }

    /// Lets both plans decide on packets that came by one port, and counts those that are `wanted`. `packets` are no more than
    /// [`fitting`](Self::fitting) says. A plan without the port, or with the port stopped, does not receive them.
    pub fn judge(&mut self, ports: Ports, packets: &[Packet<'_>], wanted: Selection) {
        let [old, new] = &mut self.sides;
        let fates = |side: &mut Side, at: usize| {
            let is_started = |port: &PortId| !side.explainer.plan().ports[*port].is_stopped;
            let port = ports[at].filter(is_started);
            let fates = port.map(|port| side.explainer.fates(port, packets, wanted));
            fates.map(|fates| fates.into_iter().map(|(_, fate)| fate).collect::<Vec<Fate>>())
        };
        let (olds, news) = (fates(old, 0), fates(new, 1));
        let [old, new] = &self.sides;
        let name = ports
            .iter()
            .zip([old, new])
            .find_map(|(port, side)| Some(side.explainer.plan().ports[(*port)?].name.as_str()));
        let wanted = wanted.filter(|index| index < packets.len());
        for (place, index) in wanted.indices().enumerate() {
            let old = old.view(olds.as_ref().map(|fates| &fates[place]));
            let new = new.view(news.as_ref().map(|fates| &fates[place]));
            match difference(&old, &new, &self.changes, name.unwrap_or_default()) {
                None => self.counted.same += 1,
                Some(found) => self.counted.add(found, name.unwrap_or_default(), &packets[index]),
            }
        }
    }
}

/// The difference of two plans, and of what they do with packets.
pub struct Difference<'a> {
    pub changes: &'a [Change],
    /// `None`: there was no capture.
    pub packets: Option<&'a Counted>,
}

impl Difference<'_> {
    /// Returns whether there is none: of the fates of packets where there was a capture, else of the objects.
    pub fn is_none(&self) -> bool {
        match self.packets {
            Some(counted) => counted.different == 0,
            None => self.changes.is_empty(),
        }
    }
}
