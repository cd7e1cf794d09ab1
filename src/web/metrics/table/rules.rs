//! Rules and their dedup.

use super::super::{Family, Samples};
use super::{counter, gauge, some};

use Samples::{Dedups, Rules};

pub(super) const FAMILIES: &[Family] = &[
    counter(
        "tapline_rule_matched_packets_total",
        &["rules.*.matched"],
        "Packets that reached the rule and matched it.",
        Rules(|rule| some(rule.matched)),
    ),
    counter(
        "tapline_rule_duplicate_packets_total",
        &["rules.*.duplicates"],
        "Matched packets that were seen a moment before.",
        Rules(|rule| some(rule.duplicates)),
    ),
    counter(
        "tapline_rule_sampled_out_packets_total",
        &["rules.*.sampled_out"],
        "Matched packets that the rule's sampler passed over.",
        Rules(|rule| some(rule.sampled_out)),
    ),
    counter(
        "tapline_rule_unread_copies_total",
        &["rules.*.unread"],
        "Copies that were to be anonymised and have a layer that is not read.",
        Rules(|rule| some(rule.unread)),
    ),
    gauge(
        "tapline_rule_sample_share_ratio",
        &["rules.*.sample_share"],
        "The share that the rule's sampler keeps, by which counts are divided.",
        Rules(|rule| some(rule.sample_share?)),
    ),
    counter(
        "tapline_rule_flows_begun_total",
        &["rules.*.flows.begun"],
        "Flows that got a slot of the sampler's memory.",
        Rules(|rule| some(rule.flows.map_or(0, |flows| flows.begun))),
    ),
    counter(
        "tapline_rule_flows_over_total",
        &["rules.*.flows.over"],
        "Flows that timed out.",
        Rules(|rule| some(rule.flows.map_or(0, |flows| flows.over))),
    ),
    counter(
        "tapline_rule_flows_evicted_total",
        &["rules.*.flows.evicted"],
        "Flows that lost their slot while they were alive.",
        Rules(|rule| some(rule.flows.map_or(0, |flows| flows.evicted))),
    ),
    gauge(
        "tapline_rule_on",
        &["rules.*.on"],
        "1 while the rule takes packets.",
        Rules(|rule| some(rule.activity.on)),
    ),
    gauge(
        "tapline_rule_next_change_timestamp_seconds",
        &["rules.*.next_change"],
        "When the rule's schedule turns it on or off next.",
        Rules(|rule| some(rule.activity.next_change?)),
    ),
    gauge(
        "tapline_rule_limit_remaining_packets",
        &["rules.*.limit_remaining"],
        "Packets that the rule's limit still allows.",
        Rules(|rule| some(rule.activity.limit_remaining?)),
    ),
    counter(
        "tapline_dedup_packets_total",
        &["dedup.*.packets"],
        "Packets that were compared.",
        Dedups(|dedup| some(dedup.packets)),
    ),
    counter(
        "tapline_dedup_duplicate_packets_total",
        &["dedup.*.duplicates"],
        "Packets that were duplicates.",
        Dedups(|dedup| some(dedup.duplicates)),
    ),
    counter(
        "tapline_dedup_forgotten_packets_total",
        &["dedup.*.forgotten"],
        "Packets forgotten within the window for want of room; their duplicates passed.",
        Dedups(|dedup| some(dedup.forgotten)),
    ),
];
