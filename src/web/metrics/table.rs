//! Every family, in the order of the text.

use super::{Family, Kind, Number, Samples, Scene};
use tapline_api::snapshot::{
    Dropped, PortEntry, ProbeEntry, SequenceCounts, Snapshot, TerminateState, ToolEntry,
};
use tapline_api::words::{
    AlarmKind, BurstSize, Class, DropReason, IcmpReason, NextHopState, Refusal, ToolState,
};

use Samples::{Dedups, Groups, Lcores, Many, One, Ports, Rules, Tools, Ways};

const fn counter(
    name: &'static str,
    fields: &'static [&'static str],
    help: &'static str,
    samples: Samples,
) -> Family {
    Family { name, kind: Kind::Counter, help, fields, samples }
}

const fn gauge(
    name: &'static str,
    fields: &'static [&'static str],
    help: &'static str,
    samples: Samples,
) -> Family {
    Family { name, kind: Kind::Gauge, help, fields, samples }
}

/// A number that is always there.
#[expect(clippy::unnecessary_wraps, reason = "all rows of the table have one shape")]
fn some(value: impl Into<Number>) -> Option<Number> {
    Some(value.into())
}

fn seconds(ns: u64) -> Number {
    Number::Real(ns as f64 / 1e9)
}

/// Receives the series of a family.
type Put<'a> = &'a mut dyn FnMut(&[&str], Number);

fn dropped(dropped: &Dropped, mut put: impl FnMut(&str, Number)) {
    DropReason::ALL.into_iter().for_each(|reason| put(reason.word(), dropped.get(reason).into()));
}

/// The sum of what the sessions of a port's tunnels counted.
fn sessions(port: &PortEntry) -> SequenceCounts {
    let mut sum = SequenceCounts::default();
    for session in port.terminate.iter().flat_map(|tunnels| &tunnels.sessions) {
        let SequenceCounts { received, lost, reordered, duplicate, late, restarts } = session.counts;
        sum.received += received;
        sum.lost += lost;
        sum.reordered += reordered;
        sum.duplicate += duplicate;
        sum.late += late;
        sum.restarts += restarts;
    }
    sum
}

/// A count of a port's tunnels; 0 where it ends none.
fn tunnels(port: &PortEntry, count: fn(&TerminateState) -> u64) -> Option<Number> {
    some(port.terminate.as_ref().map_or(0, count))
}

fn probes(tool: &ToolEntry) -> [(&'static str, Option<ProbeEntry>); 2] {
    [("heartbeat", tool.heartbeat), ("echo", tool.echo)]
}

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
            let packets = &scene.stats.packets;
            put(&["delivered"], packets.delivered.into());
            put(&["unmatched"], packets.unmatched.into());
            put(&["excluded"], packets.excluded.into());
            put(&["sampled_out"], packets.sampled_out.into());
            put(&["duplicate"], packets.duplicate.into());
            put(&["failed"], packets.failed.into());
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
    // ports
    counter(
        "tapline_port_received_packets_total",
        &["ports.*.received"],
        "Packets that the driver handed over, without heartbeats.",
        Ports(|port| some(port.received)),
    ),
    counter(
        "tapline_port_received_bytes_total",
        &["ports.*.received_bytes"],
        "Their bytes, from the Ethernet header on, without frame check sequence.",
        Ports(|port| some(port.received_bytes)),
    ),
    counter(
        "tapline_port_congested_packets_total",
        &["ports.*.congested"],
        "Received packets that no work lcore had room for.",
        Ports(|port| some(port.congested)),
    ),
    counter(
        "tapline_port_unparsed_packets_total",
        &["ports.*.unparsed"],
        "Received packets with a layer that is not read.",
        Ports(|port| some(port.unparsed)),
    ),
    counter(
        "tapline_port_cut_packets_total",
        &["ports.*.cut"],
        "Received packets that the driver had cut.",
        Ports(|port| some(port.cut.unwrap_or(0))),
    ),
    counter(
        "tapline_port_heartbeats_total",
        &["ports.*.heartbeats"],
        "Heartbeats of tools that returned here.",
        Ports(|port| some(port.heartbeats.unwrap_or(0))),
    ),
    gauge(
        "tapline_port_link_up",
        &["ports.*.link_up"],
        "1 while the link is up.",
        Ports(|port| some(port.link_up)),
    ),
    gauge(
        "tapline_port_gone",
        &["ports.*.gone"],
        "1 while the device is gone.",
        Ports(|port| some(port.gone)),
    ),
    gauge(
        "tapline_port_stopped",
        &["ports.*.stopped"],
        "1 while the port is stopped.",
        Ports(|port| some(port.stopped)),
    ),
    gauge(
        "tapline_port_closed",
        &[],
        "1 while the port has no device for another reason.",
        Ports(|port| some(port.closed.is_some())),
    ),
    gauge(
        "tapline_port_speed_bytes",
        &["ports.*.speed_mbps"],
        "Bytes a second that the link carries, where it says.",
        Ports(|port| some(f64::from(port.speed_mbps?) * 125_000.0)),
    ),
    gauge(
        "tapline_port_mtu_bytes",
        &["ports.*.mtu"],
        "The MTU of a kernel interface.",
        Ports(|port| some(port.mtu?)),
    ),
    counter(
        "tapline_port_driver_received_packets_total",
        &["ports.*.driver.rx_packets"],
        "Packets that the NIC, or the driver, counts as received.",
        Ports(|port| some(port.driver.rx_packets)),
    ),
    counter(
        "tapline_port_driver_received_bytes_total",
        &["ports.*.driver.rx_bytes"],
        "Their bytes.",
        Ports(|port| some(port.driver.rx_bytes)),
    ),
    counter(
        "tapline_port_driver_sent_packets_total",
        &["ports.*.driver.tx_packets"],
        "Packets that the NIC, or the driver, counts as sent.",
        Ports(|port| some(port.driver.tx_packets)),
    ),
    counter(
        "tapline_port_driver_sent_bytes_total",
        &["ports.*.driver.tx_bytes"],
        "Their bytes.",
        Ports(|port| some(port.driver.tx_bytes)),
    ),
    counter(
        "tapline_port_driver_missed_packets_total",
        &["ports.*.driver.missed"],
        "Packets that were lost before Tapline: no descriptor, or place in a ring, was free.",
        Ports(|port| some(port.driver.missed)),
    ),
    counter(
        "tapline_port_driver_no_mbuf_packets_total",
        &["ports.*.driver.no_mbuf"],
        "Packets that could not be received for want of mbufs.",
        Ports(|port| some(port.driver.no_mbuf)),
    ),
    counter(
        "tapline_port_driver_receive_errors_total",
        &["ports.*.driver.rx_errors"],
        "Frames that came damaged.",
        Ports(|port| some(port.driver.rx_errors)),
    ),
    counter(
        "tapline_port_driver_transmit_errors_total",
        &["ports.*.driver.tx_errors"],
        "Frames that could not be sent.",
        Ports(|port| some(port.driver.tx_errors)),
    ),
    gauge(
        "tapline_port_replay_ended",
        &["ports.*.replay.ended"],
        "1 once a replay gives no more packets.",
        Ports(|port| some(port.replay.as_ref()?.ended)),
    ),
    counter(
        "tapline_port_replay_passes_total",
        &["ports.*.replay.passes"],
        "Passes through the replayed file that came to its end.",
        Ports(|port| some(port.replay.as_ref().map_or(0, |replay| replay.passes))),
    ),
    counter(
        "tapline_port_replay_passed_over_packets_total",
        &["ports.*.replay.passed_over"],
        "Packets of the replayed file that no Ethernet frames are made of.",
        Ports(|port| some(port.replay.as_ref().map_or(0, |replay| replay.passed_over))),
    ),
    gauge(
        "tapline_clock_degraded",
        &["ports.*.clock.degraded"],
        "1 while the port's clock is not fitted to the system's.",
        Ports(|port| some(port.clock.degraded)),
    ),
    gauge(
        "tapline_clock_error_seconds",
        &["ports.*.clock.error_ns"],
        "How far times of the port may be from the system's.",
        Ports(|port| Some(seconds(port.clock.error_ns?))),
    ),
    counter(
        "tapline_clock_readings_total",
        &["ports.*.clock.readings"],
        "Readings of the port's clock.",
        Ports(|port| some(port.clock.readings)),
    ),
    counter(
        "tapline_clock_rejected_readings_total",
        &["ports.*.clock.rejected"],
        "Readings that were not believed.",
        Ports(|port| some(port.clock.rejected)),
    ),
    counter(
        "tapline_clock_steps_total",
        &["ports.*.clock.steps"],
        "Steps of the port's clock.",
        Ports(|port| some(port.clock.steps)),
    ),
    counter(
        "tapline_port_terminated_packets_total",
        &["ports.*.terminate.terminated"],
        "Frames of tunnels that end here, whose inside became the packet.",
        Ports(|port| tunnels(port, |tunnels| tunnels.terminated)),
    ),
    counter(
        "tapline_port_terminated_timed_packets_total",
        &["ports.*.terminate.timed"],
        "Those with the time that the tunnel's header says.",
        Ports(|port| tunnels(port, |tunnels| tunnels.timed)),
    ),
    counter(
        "tapline_port_untracked_packets_total",
        &["ports.*.terminate.untracked"],
        "Packets of sessions that were too many to follow.",
        Ports(|port| tunnels(port, |tunnels| tunnels.untracked)),
    ),
    counter(
        "tapline_port_refused_packets_total",
        &["ports.*.terminate.refused.*"],
        "Frames at an end of tunnels that rules did not see, by reason.",
        Many(&["port", "reason"], |scene, put| {
            for (name, port) in &scene.stats.ports {
                let refused = port.terminate.as_ref().map(|tunnels| tunnels.refused).unwrap_or_default();
                for (reason, count) in Refusal::ALL.into_iter().zip(refused.0) {
                    put(&[name, reason.word()], count.into());
                }
            }
        }),
    ),
    gauge(
        "tapline_port_sessions",
        &[],
        "Sessions of senders whose tunnels end here.",
        Ports(|port| some(port.terminate.as_ref().map_or(0, |tunnels| tunnels.sessions.len()))),
    ),
    counter(
        "tapline_port_session_packets_total",
        &[
            "ports.*.terminate.sessions.received",
            "ports.*.terminate.sessions.lost",
            "ports.*.terminate.sessions.reordered",
            "ports.*.terminate.sessions.duplicate",
            "ports.*.terminate.sessions.late",
        ],
        "Packets of all sessions by their sequence numbers; lost are those that did not arrive here.",
        Many(&["port", "fate"], |scene, put| {
            for (name, port) in &scene.stats.ports {
                let SequenceCounts { received, lost, reordered, duplicate, late, restarts: _ } =
                    sessions(port);
                put(&[name, "received"], received.into());
                put(&[name, "lost"], lost.into());
                put(&[name, "reordered"], reordered.into());
                put(&[name, "duplicate"], duplicate.into());
                put(&[name, "late"], late.into());
            }
        }),
    ),
    counter(
        "tapline_port_session_restarts_total",
        &["ports.*.terminate.sessions.restarts"],
        "How often senders began their sequence numbers anew.",
        Ports(|port| some(sessions(port).restarts)),
    ),
    counter(
        "tapline_port_answers_total",
        &["ports.*.answers.arp", "ports.*.answers.nd", "ports.*.answers.echo", "ports.*.answers.announced"],
        "Frames that were sent for the port's own addresses, by kind.",
        Many(&["port", "kind"], |scene, put| {
            for (name, port) in &scene.stats.ports {
                let answers = port.answers.unwrap_or_default();
                put(&[name, "arp"], answers.arp.into());
                put(&[name, "nd"], answers.nd.into());
                put(&[name, "echo"], answers.echo.into());
                put(&[name, "announced"], answers.announced.into());
            }
        }),
    ),
    counter(
        "tapline_port_unanswered_total",
        &["ports.*.answers.fragment", "ports.*.answers.malformed", "ports.*.answers.limited"],
        "Requests for the port's own addresses that were not answered, by reason.",
        Many(&["port", "reason"], |scene, put| {
            for (name, port) in &scene.stats.ports {
                let answers = port.answers.unwrap_or_default();
                put(&[name, "fragment"], answers.fragment.into());
                put(&[name, "malformed"], answers.malformed.into());
                put(&[name, "limited"], answers.limited.into());
            }
        }),
    ),
    // rules
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
    // tools
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
                for alarm in AlarmKind::ALL {
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
    // groups
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
    // wires
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
                    super::encode::DIRECTIONS.into_iter().zip([&wire.a_to_b, &wire.b_to_a])
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
    // lcores
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
    gauge(
        "tapline_lcore_busy_ratio",
        &["lcores.*.busy"],
        "Share of the time since the start in which there was something to do.",
        Lcores(|lcore| some(lcore.busy)),
    ),
    counter(
        "tapline_lcore_busy_seconds_total",
        &[],
        "Time in which there was something to do.",
        Many(&["lcore"], |scene, put| {
            for ((lcore, _), &ns) in scene.stats.lcores.iter().zip(&scene.published.counted.busy_ns) {
                put(&[lcore], seconds(ns));
            }
        }),
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
    // changes
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
    // the process
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
    gauge(
        "tapline_series_left_out",
        &[],
        "Series of rules beyond `set metrics rules` that are not here.",
        Samples::LeftOut,
    ),
];

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

/// Numbers of `tapline.stats/1` that have no metric, and why.
#[cfg(test)]
pub(super) const WITHOUT: &[(&str, &str)] = &[
    ("ports.*.clock.offset_ns", "it is of no use without the counter behind it"),
    ("ports.*.clock.ns_per_tick", "it is of no use without the counter behind it"),
    ("ports.*.terminate.sessions.session", "it names a session: their number has no bound"),
    ("dedup.*.pairs.duplicates", "pairs grow with the square of the ports"),
    ("dedup.*.pairs.most_gap_ns", "pairs grow with the square of the ports"),
    ("dedup.*.pairs.gaps", "pairs grow with the square of the ports"),
    ("tools.*.latency_ns.p50", "the histogram has it"),
    ("tools.*.latency_ns.p99", "the histogram has it"),
    ("tools.*.latency_ns.p999", "the histogram has it"),
    ("tools.*.latency_ns.max", "the histogram has it, to its bounds"),
    ("wires.*.*.latency_ns.p50", "the histogram has it"),
    ("wires.*.*.latency_ns.p99", "the histogram has it"),
    ("wires.*.*.latency_ns.p999", "the histogram has it"),
    ("wires.*.*.latency_ns.max", "the histogram has it, to its bounds"),
    ("latency_ns.p50", "the histograms of all tools have it"),
    ("latency_ns.p99", "the histograms of all tools have it"),
    ("latency_ns.p999", "the histograms of all tools have it"),
    ("latency_ns.max", "the histograms of all tools have it, to their bounds"),
    ("latency_ns.samples", "it is the sum of the histograms' counts"),
    ("events.time", "events are no metric; the log and `get events` have them"),
];
