//! Workers, and wires.

use super::super::{Family, Kind, Samples};
use super::{counter, dropped, gauge, seconds, some};
use tapline_api::words::BurstSize;

use Samples::{Lcores, Many, Ways};

pub(super) const FAMILIES: &[Family] = &[
    counter(
        "tapline_wire_received_packets_total",
        &["wires.*.*.received"],
        "Originals that came to be forwarded.",
        Ways(|way| some(way.received)),
    ),
    counter(
        "tapline_wire_forwarded_packets_total",
        &["wires.*.*.forwarded"],
        "Originals that were forwarded.",
        Ways(|way| some(way.forwarded)),
    ),
    counter(
        "tapline_wire_forwarded_bytes_total",
        &["wires.*.*.forwarded_bytes"],
        "Their bytes.",
        Ways(|way| some(way.forwarded_bytes)),
    ),
    counter(
        "tapline_wire_dropped_packets_total",
        &["wires.*.*.dropped.*"],
        "Originals that were not forwarded, by reason.",
        Many(&["wire", "direction", "reason"], |scene, put| {
            for (name, wire) in &scene.stats.wires {
                for (direction, way) in
                    super::super::encode::DIRECTIONS.into_iter().zip([&wire.a_to_b, &wire.b_to_a])
                {
                    dropped(&way.dropped, |reason, number| put(&[name, direction, reason], number));
                }
            }
        }),
    ),
    gauge(
        "tapline_wire_queue_packets",
        &["wires.*.*.queue_depth"],
        "Originals that wait.",
        Ways(|way| some(way.queue_depth)),
    ),
    gauge(
        "tapline_wire_queue_peak_packets",
        &["wires.*.*.queue_peak"],
        "The most that have waited in one worker's queue.",
        Ways(|way| some(way.queue_peak)),
    ),
    Family {
        name: "tapline_wire_latency_seconds",
        kind: Kind::Histogram,
        help: "Time from receive to transmit of originals that are sampled.",
        fields: &["wires.*.*.latency_ns.samples"],
        samples: Samples::WayLatency,
    },
    counter(
        "tapline_lcore_received_packets_total",
        &["lcores.*.received"],
        "Packets that the worker received.",
        Lcores(|lcore| some(lcore.received)),
    ),
    counter(
        "tapline_lcore_ring_packets_total",
        &["lcores.*.from_rings"],
        "Packets that receive lcores handed over to it.",
        Lcores(|lcore| some(lcore.from_rings)),
    ),
    counter(
        "tapline_lcore_turns_total",
        &["lcores.*.turns"],
        "Turns of the worker.",
        Lcores(|lcore| some(lcore.turns)),
    ),
    counter(
        "tapline_lcore_idle_turns_total",
        &["lcores.*.idle_turns"],
        "Turns in which there was nothing to do.",
        Lcores(|lcore| some(lcore.idle_turns)),
    ),
    counter(
        "tapline_lcore_polls_total",
        &["lcores.*.polls"],
        "Polls of queues and rings.",
        Lcores(|lcore| some(lcore.polls)),
    ),
    counter(
        "tapline_lcore_empty_polls_total",
        &["lcores.*.empty_polls"],
        "Polls that gave nothing.",
        Lcores(|lcore| some(lcore.empty_polls)),
    ),
    counter(
        "tapline_lcore_received_bytes_total",
        &["lcores.*.received_bytes"],
        "Bytes that the worker received.",
        Lcores(|lcore| some(lcore.received_bytes)),
    ),
    counter(
        "tapline_lcore_busy_seconds_total",
        &["lcores.*.busy_ns"],
        "Time in which there was something to do.",
        Lcores(|lcore| Some(seconds(lcore.busy_ns))),
    ),
    counter(
        "tapline_lcore_seconds_total",
        &["lcores.*.total_ns"],
        "All time of the worker.",
        Lcores(|lcore| Some(seconds(lcore.total_ns))),
    ),
    counter(
        "tapline_lcore_sleeps_total",
        &["lcores.*.sleeps"],
        "How often the worker slept for want of packets.",
        Lcores(|lcore| some(lcore.sleeps)),
    ),
    counter(
        "tapline_lcore_bursts_total",
        &["lcores.*.bursts.*"],
        "Bursts by their size in packets.",
        Many(&["lcore", "packets"], |scene, put| {
            for (name, lcore) in &scene.stats.lcores {
                for (size, count) in BurstSize::ALL.into_iter().zip(lcore.bursts.0) {
                    put(&[name, size.word()], count.into());
                }
            }
        }),
    ),
    gauge(
        "tapline_lcore_stalled",
        &["lcores.*.is_stalled"],
        "1 while the worker does not finish a turn in time.",
        Lcores(|lcore| some(lcore.is_stalled)),
    ),
    counter(
        "tapline_lcore_stalls_total",
        &["lcores.*.stalls"],
        "How often the worker did not finish a turn in time.",
        Lcores(|lcore| some(lcore.stalls)),
    ),
    counter(
        "tapline_lcore_starvations_total",
        &["lcores.*.starvations"],
        "How often the worker did not finish a turn in time because it got no CPU.",
        Lcores(|lcore| some(lcore.starvations)),
    ),
    counter(
        "tapline_lcore_panics_total",
        &["lcores.*.panics"],
        "Panics that the worker went on after: faults of Tapline.",
        Lcores(|lcore| some(lcore.panics)),
    ),
    gauge(
        "tapline_lcore_cycles_per_packet",
        &[
            "lcores.*.cycles_per_packet.receive",
            "lcores.*.cycles_per_packet.classify",
            "lcores.*.cycles_per_packet.route",
            "lcores.*.cycles_per_packet.egress",
        ],
        "With --profile: ticks of the time-stamp counter a packet, by stage.",
        Many(&["lcore", "stage"], |scene, put| {
            for (name, lcore) in &scene.stats.lcores {
                let Some(cycles) = lcore.cycles_per_packet else { continue };
                put(&[name, "receive"], cycles.receive.into());
                put(&[name, "classify"], cycles.classify.into());
                put(&[name, "route"], cycles.route.into());
                put(&[name, "egress"], cycles.egress.into());
            }
        }),
    ),
    counter(
        "tapline_lcore_timed_packets_total",
        &["lcores.*.cycles_per_packet.packets"],
        "Packets that those are of.",
        Lcores(|lcore| some(lcore.cycles_per_packet.map_or(0, |cycles| cycles.packets))),
    ),
];
