//! Tools and groups.

use super::super::{Family, Kind, Number, Samples};
use super::{counter, dropped, gauge, some};
use tapline_api::snapshot::{ProbeEntry, ToolEntry};
use tapline_api::words::{AlarmKind, Class, DropReason, IcmpReason, NextHopState, ToolState};

use Samples::{Groups, Many, Tools};

pub(super) const FAMILIES: &[Family] = &[
    counter(
        "tapline_copies_requested_total",
        &["tools.*.requested"],
        "Copies that rules and groups asked of the tool.",
        Tools(|tool| some(tool.copies.requested)),
    ),
    counter(
        "tapline_copies_sent_total",
        &["tools.*.sent"],
        "Copies that were sent.",
        Tools(|tool| some(tool.copies.sent)),
    ),
    counter(
        "tapline_copies_dropped_total",
        &["tools.*.dropped.*"],
        "Copies that were not sent, by reason.",
        Many(&["tool", "reason"], |scene, put| {
            for (name, tool) in &scene.stats.tools {
                dropped(&tool.copies.dropped, |reason, number| put(&[name, reason], number));
            }
        }),
    ),
    counter(
        "tapline_copies_refused_total",
        &["tools.*.refused.*.congested", "tools.*.refused.*.rate_limited"],
        "The dropped copies that the tool's queue refused, by class.",
        Many(&["tool", "class", "reason"], |scene, put| {
            for (name, tool) in &scene.stats.tools {
                for (class, refused) in Class::ALL.into_iter().zip(tool.refused.0) {
                    for reason in [DropReason::Congested, DropReason::RateLimited] {
                        put(&[name, class.word(), reason.word()], refused.get(reason).into());
                    }
                }
            }
        }),
    ),
    counter(
        "tapline_tool_sent_bytes_total",
        &["tools.*.sent_bytes"],
        "Bytes of the copies that were sent.",
        Tools(|tool| some(tool.sent_bytes)),
    ),
    counter(
        "tapline_tool_cut_bytes_total",
        &["tools.*.cut_bytes"],
        "Bytes that copies lost to the MTU of the tool's path.",
        Tools(|tool| some(tool.cut_bytes)),
    ),
    counter(
        "tapline_tool_late_copies_total",
        &["tools.*.late"],
        "Copies that came behind later ones, beyond the window of the tool's order.",
        Tools(|tool| some(tool.late.unwrap_or(0))),
    ),
    gauge(
        "tapline_tool_up",
        &[],
        "1 while the tool gets copies: it is up.",
        Tools(|tool| some(tool.health.state == ToolState::Up)),
    ),
    gauge(
        "tapline_tool_state",
        &[],
        "1 for the state that the tool is in, else 0.",
        Many(&["tool", "state"], |scene, put| {
            for (name, tool) in &scene.stats.tools {
                for state in ToolState::ALL {
                    put(&[name, state.word()], (tool.health.state == state).into());
                }
            }
        }),
    ),
    gauge(
        "tapline_tool_state_since_timestamp_seconds",
        &["tools.*.since"],
        "When the tool's state changed last.",
        Tools(|tool| some(tool.health.since)),
    ),
    gauge(
        "tapline_tool_alarm",
        &[],
        "1 while the alarm is raised.",
        Many(&["tool", "alarm"], |scene, put| {
            for (name, tool) in &scene.stats.tools {
                for alarm in AlarmKind::ALL.into_iter().filter(|alarm| *alarm != AlarmKind::Loss) {
                    put(&[name, alarm.word()], tool.alarms.contains(&alarm).into());
                }
            }
        }),
    ),
    gauge(
        "tapline_tool_queue_copies",
        &["tools.*.queue_depth"],
        "Copies that wait for the tool.",
        Tools(|tool| some(tool.queue_depth)),
    ),
    gauge(
        "tapline_tool_queue_peak_copies",
        &["tools.*.queue_peak"],
        "The most that have waited in one worker's queue.",
        Tools(|tool| some(tool.queue_peak)),
    ),
    gauge(
        "tapline_tool_queue_limit_copies",
        &[],
        "The most that may wait in one worker's queue.",
        Many(&["tool"], |scene, put| {
            for (_, tool) in scene.published.plan.tools.entries() {
                put(&[&tool.name], tool.queue.into());
            }
        }),
    ),
    gauge(
        "tapline_tool_next_hop_up",
        &[],
        "1 while the next hop answers, 0 while it does not; none where no next hop is asked for.",
        Tools(|tool| some(tool.next_hop.as_ref()?.state == NextHopState::Up)),
    ),
    counter(
        "tapline_tool_next_hop_requests_total",
        &["tools.*.next_hop.requests"],
        "Requests for the address of the next hop.",
        Tools(|tool| some(tool.next_hop.as_ref().map_or(0, |hop| hop.requests))),
    ),
    counter(
        "tapline_tool_next_hop_losses_total",
        &["tools.*.next_hop.losses"],
        "How often the next hop stopped answering.",
        Tools(|tool| some(tool.next_hop.as_ref().map_or(0, |hop| hop.losses))),
    ),
    counter(
        "tapline_tool_next_hop_moves_total",
        &["tools.*.next_hop.moves"],
        "How often the next hop's MAC address became another one.",
        Tools(|tool| some(tool.next_hop.as_ref().map_or(0, |hop| hop.moves))),
    ),
    counter(
        "tapline_tool_next_hop_probes_total",
        &["tools.*.next_hop.probes"],
        "Requests to one neighbour alone because somebody claimed the next hop's address.",
        Tools(|tool| some(tool.next_hop.as_ref().map_or(0, |hop| hop.probes))),
    ),
    counter(
        "tapline_tool_next_hop_conflicts_total",
        &["tools.*.next_hop.conflicts"],
        "How often two neighbours were found to have the next hop's address.",
        Tools(|tool| some(tool.next_hop.as_ref().map_or(0, |hop| hop.conflicts))),
    ),
    counter(
        "tapline_tool_next_hop_ignored_total",
        &["tools.*.next_hop.ignored"],
        "Frames about the next hop's address that changed nothing.",
        Tools(|tool| some(tool.next_hop.as_ref().map_or(0, |hop| hop.ignored))),
    ),
    gauge(
        "tapline_store_segments",
        &["tools.*.store.segments"],
        "Whole segments that the folder of a store holds.",
        Tools(|tool| some(tool.store.as_ref()?.segments)),
    ),
    gauge(
        "tapline_store_bytes",
        &["tools.*.store.bytes"],
        "Bytes of all that the folder of a store holds.",
        Tools(|tool| some(tool.store.as_ref()?.bytes)),
    ),
    gauge(
        "tapline_store_oldest_timestamp_seconds",
        &["tools.*.store.oldest"],
        "The time of the first packet that a store holds.",
        Tools(|tool| tool.store.as_ref()?.oldest.map(Number::Real)),
    ),
    counter(
        "tapline_store_segments_begun_total",
        &["tools.*.store.begun"],
        "Segments that a store began.",
        Tools(|tool| some(tool.store.as_ref().map_or(0, |store| store.begun))),
    ),
    counter(
        "tapline_store_segments_expired_total",
        &["tools.*.store.expired"],
        "Segments that a store deleted.",
        Tools(|tool| some(tool.store.as_ref().map_or(0, |store| store.expired))),
    ),
    counter(
        "tapline_store_expired_bytes_total",
        &["tools.*.store.expired_bytes"],
        "Bytes of the segments that a store deleted.",
        Tools(|tool| some(tool.store.as_ref().map_or(0, |store| store.expired_bytes))),
    ),
    gauge(
        "tapline_store_failing",
        &["tools.*.store.failing"],
        "1 while a store can write nothing.",
        Tools(|tool| some(tool.store.as_ref()?.failing)),
    ),
    counter(
        "tapline_tool_probes_total",
        &[
            "tools.*.heartbeat.sent",
            "tools.*.heartbeat.returned",
            "tools.*.heartbeat.lost",
            "tools.*.heartbeat.late",
            "tools.*.echo.sent",
            "tools.*.echo.returned",
            "tools.*.echo.lost",
            "tools.*.echo.late",
        ],
        "Heartbeats and echoes of the tool, by their fate.",
        Many(&["tool", "probe", "fate"], |scene, put| {
            for (name, tool) in &scene.stats.tools {
                for (probe, entry) in probes(tool) {
                    let none = ProbeEntry { sent: 0, returned: 0, lost: 0, waiting: 0, late: 0 };
                    let ProbeEntry { sent, returned, lost, waiting: _, late } = entry.unwrap_or(none);
                    put(&[name, probe, "sent"], sent.into());
                    put(&[name, probe, "returned"], returned.into());
                    put(&[name, probe, "lost"], lost.into());
                    put(&[name, probe, "late"], late.into());
                }
            }
        }),
    ),
    gauge(
        "tapline_tool_probes_waiting",
        &["tools.*.heartbeat.waiting", "tools.*.echo.waiting"],
        "Heartbeats and echoes that may yet return.",
        Many(&["tool", "probe"], |scene, put| {
            for (name, tool) in &scene.stats.tools {
                for (probe, entry) in probes(tool) {
                    put(&[name, probe], entry.map_or(0, |entry| entry.waiting).into());
                }
            }
        }),
    ),
    counter(
        "tapline_tool_icmp_errors_total",
        &["tools.*.icmp_errors.*"],
        "ICMP errors about the tool's copies, by reason.",
        Many(&["tool", "reason"], |scene, put| {
            for (name, tool) in &scene.stats.tools {
                for (reason, count) in
                    IcmpReason::ALL.into_iter().zip(tool.icmp_errors.unwrap_or_default().0)
                {
                    put(&[name, reason.word()], count.into());
                }
            }
        }),
    ),
    Family {
        name: "tapline_latency_seconds",
        kind: Kind::Histogram,
        help: "Time from receive to transmit, of the packets that are sampled.",
        fields: &["tools.*.latency_ns.samples"],
        samples: Samples::ToolLatency,
    },
    gauge(
        "tapline_group_buckets",
        &["groups.*.buckets.*"],
        "Buckets of the group's table that the member has.",
        Many(&["group", "tool"], |scene, put| {
            for (name, group) in &scene.stats.groups {
                for (tool, count) in &group.buckets {
                    put(&[name, tool], (*count).into());
                }
            }
        }),
    ),
    gauge(
        "tapline_group_members_up",
        &[],
        "Members of the group that are up.",
        Many(&["group"], |scene, put| {
            for (name, group) in &scene.stats.groups {
                let tool = |tool: &str| scene.stats.tools.get(tool);
                let is_up =
                    |member: &str| tool(member).is_some_and(|tool| tool.health.state == ToolState::Up);
                put(&[name], group.buckets.iter().filter(|(member, _)| is_up(member)).count().into());
            }
        }),
    ),
    gauge(
        "tapline_group_members_minimum",
        &[],
        "Members that have to be up (min-up).",
        Many(&["group"], |scene, put| {
            let plan = &scene.published.plan;
            for (group, work) in plan.groups.iter().zip(&plan.work.groups) {
                put(&[&group.name], work.spec.min_up.into());
            }
        }),
    ),
    counter(
        "tapline_group_buckets_moved_total",
        &["groups.*.buckets_moved"],
        "Buckets that went to another member.",
        Groups(|group| some(group.buckets_moved)),
    ),
    gauge(
        "tapline_group_buckets_pending",
        &["groups.*.buckets_pending"],
        "Buckets that wait to be idle before they go where they belong.",
        Groups(|group| some(group.buckets_pending)),
    ),
    gauge(
        "tapline_group_flows",
        &["groups.*.flows"],
        "Flows of the last half minute to minute, about.",
        Groups(|group| some(group.flows)),
    ),
    counter(
        "tapline_group_flows_moved_total",
        &["groups.*.flows_moved"],
        "Flows whose bucket moved, about.",
        Groups(|group| some(group.flows_moved)),
    ),
    counter(
        "tapline_group_copies_requested_total",
        &["groups.*.requested"],
        "Copies that rules asked of the group.",
        Groups(|group| some(group.requested)),
    ),
    counter(
        "tapline_group_copies_assigned_total",
        &["groups.*.assigned"],
        "Those that a member is to get.",
        Groups(|group| some(group.assigned)),
    ),
    counter(
        "tapline_group_copies_unassigned_total",
        &["groups.*.unassigned.requested", "groups.*.unassigned.sent", "groups.*.unassigned.dropped.*"],
        "Copies that no member got by their end: requested, sent (the discard share), or the reason of their drop.",
        Many(&["group", "end"], |scene, put| {
            for (name, group) in &scene.stats.groups {
                put(&[name, "requested"], group.unassigned.requested.into());
                put(&[name, "sent"], group.unassigned.sent.into());
                dropped(&group.unassigned.dropped, |reason, number| put(&[name, reason], number));
            }
        }),
    ),
];

fn probes(tool: &ToolEntry) -> [(&'static str, Option<ProbeEntry>); 2] {
    [("heartbeat", tool.heartbeat), ("echo", tool.echo)]
}
