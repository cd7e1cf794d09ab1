//! The broker as a whole, its plan and its process.

use super::super::{Family, Kind, Samples, Scene};
use super::{Put, counter, dropped, gauge, some};
use tapline_api::snapshot::Snapshot;

use Samples::{Many, One};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "tapline_build_info",
        kind: Kind::Info,
        help: "The versions of Tapline and of DPDK.",
        fields: &[],
        samples: Many(&["version", "dpdk"], |scene, put| {
            put(&[env!("CARGO_PKG_VERSION"), scene.version], 1u64.into());
        }),
    },
    Family {
        name: "tapline_plan_info",
        kind: Kind::Info,
        help: "The running plan by the hash of its text, and what runs its filters.",
        fields: &[],
        samples: Many(&["sha256", "filter_engine"], |scene, put| {
            put(&[&scene.published.version.hash, &scene.stats.filter_engine], 1u64.into());
        }),
    },
    gauge(
        "tapline_uptime_seconds",
        &["uptime_s"],
        "Time since the ports were started.",
        One(|scene| some(scene.stats.uptime_s)),
    ),
    gauge(
        "tapline_snapshot_timestamp_seconds",
        &["time"],
        "When the numbers were read.",
        One(|scene| some(scene.stats.time)),
    ),
    gauge(
        "tapline_balanced",
        &["balanced"],
        "1 while both identities of the account hold but for what can be on its way, else 0.",
        One(|scene| some(scene.stats.balanced)),
    ),
    gauge(
        "tapline_in_flight_limit_packets",
        &["in_flight_limit.packets"],
        "The most packets that could be on their way.",
        One(|scene| some(scene.stats.in_flight_limit.packets)),
    ),
    gauge(
        "tapline_in_flight_limit_copies",
        &["in_flight_limit.copies"],
        "The most copies that could be on their way.",
        One(|scene| some(scene.stats.in_flight_limit.copies)),
    ),
    counter(
        "tapline_packets_received_total",
        &["packets.received"],
        "Packets that drivers handed over: the sum of all dispositions when nothing is on its way.",
        One(|scene| some(scene.stats.packets.received)),
    ),
    counter(
        "tapline_packets_total",
        &[
            "packets.delivered",
            "packets.unmatched",
            "packets.excluded",
            "packets.sampled_out",
            "packets.duplicate",
            "packets.failed",
        ],
        "Packets by what became of them.",
        Many(&["disposition"], |scene, put| {
            scene.stats.packets.ends().into_iter().for_each(|(word, count)| put(&[word], count.into()));
        }),
    ),
    counter(
        "tapline_all_copies_requested_total",
        &["copies.requested"],
        "Copies that were asked for, of all tools and of those that are gone.",
        One(|scene| some(scene.stats.copies.requested)),
    ),
    counter(
        "tapline_all_copies_sent_total",
        &["copies.sent"],
        "Copies that were sent, of all tools and of those that are gone.",
        One(|scene| some(scene.stats.copies.sent)),
    ),
    counter(
        "tapline_all_copies_dropped_total",
        &["copies.dropped.*"],
        "Copies that were not sent by reason, of all tools and of those that are gone.",
        Many(&["reason"], |scene, put| {
            dropped(&scene.stats.copies.dropped, |reason, number| put(&[reason], number))
        }),
    ),
    counter(
        "tapline_departed_packets_received_total",
        &["departed.received"],
        "Packets of ports that were detached, which the received packets hold, too.",
        One(|scene| some(scene.stats.departed.map_or(0, |departed| departed.received))),
    ),
    counter(
        "tapline_departed_copies_total",
        &["departed.copies.requested", "departed.copies.sent", "departed.copies.dropped.*"],
        "Copies of tools that are gone by their end: requested, sent, or the reason of their drop. The families of all copies have them too.",
        Many(&["end"], departed_copies),
    ),
    gauge(
        "tapline_kept_devices",
        &[],
        "Devices of detached ports that their buses could not take out of DPDK.",
        One(|scene| some(scene.stats.kept_devices.len())),
    ),
    gauge(
        "tapline_plan_id",
        &[],
        "The number of the running plan.",
        One(|scene| some(scene.published.version.id)),
    ),
    gauge(
        "tapline_confirm_pending",
        &[],
        "1 while the running plan waits to be confirmed.",
        One(|scene| some(scene.published.confirm.is_some())),
    ),
    gauge(
        "tapline_confirm_until_timestamp_seconds",
        &[],
        "When it goes back unless it is confirmed.",
        One(|scene| some(scene.published.confirm?.until)),
    ),
    gauge(
        "tapline_reload_last_success",
        &[],
        "1 if the last reload was done, or none was asked for, else 0.",
        One(|scene| some(scene.published.reload.is_none_or(|reload| reload.is_done))),
    ),
    gauge(
        "tapline_reload_last_timestamp_seconds",
        &[],
        "When the last reload ended.",
        One(|scene| some(scene.published.reload?.time)),
    ),
    gauge(
        "tapline_audit_sequence",
        &[],
        "The number of the last record of the audit log.",
        One(|scene| some(scene.published.audit?.seq)),
    ),
    gauge(
        "tapline_audit_stuck",
        &[],
        "1 while the audit log cannot be written.",
        One(|scene| some(scene.published.audit.is_some_and(|audit| audit.is_stuck))),
    ),
    gauge(
        "tapline_http_connections",
        &[],
        "Connections to the HTTP server.",
        One(|scene| some(scene.connections)),
    ),
    counter(
        "process_cpu_seconds_total",
        &[],
        "CPU time of all threads.",
        One(|scene| some(scene.process.cpu_seconds)),
    ),
    gauge(
        "process_resident_memory_bytes",
        &[],
        "Memory that is resident.",
        One(|scene| some(scene.process.resident_bytes?)),
    ),
    gauge(
        "process_virtual_memory_bytes",
        &[],
        "Memory that is mapped.",
        One(|scene| some(scene.process.virtual_bytes?)),
    ),
    gauge("process_open_fds", &[], "Open files.", One(|scene| some(scene.process.open_fds?))),
    gauge(
        "process_max_fds",
        &[],
        "The most files that may be open.",
        One(|scene| some(scene.process.max_fds?)),
    ),
    gauge("process_threads", &[], "Threads.", One(|scene| some(scene.process.threads?))),
    gauge(
        "process_start_time_seconds",
        &[],
        "When the ports were started.",
        One(|scene| some(start(scene.stats))),
    ),
];

/// Stands last: what is left out is known once all others are written.
pub(super) static LEFT_OUT: Family = gauge(
    "tapline_series_left_out",
    &[],
    "Series of rules beyond `set metrics rules` that are not here.",
    Samples::LeftOut,
);

/// The time of the start, to the second: clock and uptime are read one after the other.
fn start(stats: &Snapshot) -> f64 {
    (stats.time - stats.uptime_s).round()
}

fn departed_copies(scene: &Scene<'_>, put: Put<'_>) {
    let copies = scene.stats.departed.map(|departed| departed.copies).unwrap_or_default();
    put(&["requested"], copies.requested.into());
    put(&["sent"], copies.sent.into());
    dropped(&copies.dropped, |reason, number| put(&[reason], number));
}
