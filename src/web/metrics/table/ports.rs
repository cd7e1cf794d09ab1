//! Ports: what they received, their drivers, clocks and tunnels.

use super::super::{Family, Number, Samples};
use super::{counter, gauge, seconds, some};
use tapline_api::snapshot::{PortEntry, SequenceCounts, TerminateState};
use tapline_api::words::{AlarmKind, Refusal};

use Samples::{Many, Ports};

pub(super) const FAMILIES: &[Family] = &[
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
    counter(
        "tapline_port_replay_read_bytes_total",
        &["ports.*.replay.read_bytes"],
        "Bytes of the replayed file that were read, of all passes.",
        Ports(|port| some(port.replay.as_ref().map_or(0, |replay| replay.read_bytes))),
    ),
    gauge(
        "tapline_port_replay_all_bytes",
        &["ports.*.replay.all_bytes"],
        "Bytes that all passes of a replay have, where there is an end of them.",
        Ports(|port| some(port.replay.as_ref()?.all_bytes?)),
    ),
    gauge(
        "tapline_port_alarm",
        &[],
        "1 while the alarm is raised.",
        Many(&["port", "alarm"], |scene, put| {
            for (name, port) in &scene.stats.ports {
                put(&[name, AlarmKind::Loss.word()], port.alarms.contains(&AlarmKind::Loss).into());
            }
        }),
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
    counter(
        "tapline_port_address_claims_total",
        &["ports.*.answers.claimed"],
        "Frames by which somebody else said that one of the port's own addresses is theirs.",
        Ports(|port| some(port.answers.unwrap_or_default().claimed)),
    ),
];

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
