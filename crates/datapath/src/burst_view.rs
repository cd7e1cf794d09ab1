//! The burst that a worker carries, as stages see it.

use std::sync::Arc;

use crate::copies::facts::Stamps;
use crate::counters::WorkerCounters;
use crate::flow::burst_flows::Flows;
use crate::ids::{GroupId, PortId};
use crate::receive::times::Times;
use crate::route::balance::BucketUse;
use crate::swap::published::Live;
use crate::work_plan::WorkPlan;
use tapline_dpdk::mbuf::MbufBurst;
use tapline_packet::burst::Selection;
use tapline_packet::by_id::ById;
use tapline_packet::frame::Frame;

/// A burst between its receipt and its egress, with the worker's plan and counters. What no rule of the input asks for is empty.
pub struct BurstView<'a> {
    pub plan: &'a WorkPlan,
    pub counters: &'a WorkerCounters,
    pub burst: &'a MbufBurst,
    /// The packets that rules judge.
    pub all: Selection,
    pub frames: &'a [Frame<'a>],
    pub flows: &'a mut Flows,
    /// Lengths on the wire, in bytes.
    pub lens: &'a [u32],
    /// The port that received it.
    pub port: PortId,
    /// The times that rules go by.
    pub times: Times<'a>,
    /// The times that copies carry.
    pub stamps: &'a Stamps,
    pub live: &'a Live,
    /// The places at which the use of buckets is noted.
    pub uses: &'a ById<GroupId, Arc<BucketUse>>,
}
