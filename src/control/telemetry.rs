//! Answers to commands of DPDK's telemetry socket (`set telemetry on`), from the last statistics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::session::Session;
use tapline_api::snapshot::Snapshot;
use tapline_dpdk::Error;
use tapline_dpdk::telemetry::{Answer, Command, MOST_ENTRIES, answer_by};

/// Time between two snapshots.
const INTERVAL: Duration = Duration::from_secs(1);

const COMMANDS: &[Command] = &[
    Command { name: c"/tapline/packets", help: c"Packets and copies, by what became of them" },
    Command { name: c"/tapline/ports", help: c"Names of ports. Parameters: the first's place" },
    Command { name: c"/tapline/port", help: c"Counts of a port. Parameters: its name" },
    Command { name: c"/tapline/tools", help: c"Names of tools. Parameters: the first's place" },
    Command { name: c"/tapline/tool", help: c"Counts of a tool. Parameters: its name" },
    Command { name: c"/tapline/lcores", help: c"Counts of workers, by lcore" },
];

/// The statistics that are told, and when they are due again.
pub struct Telemetry {
    last: Arc<Mutex<Arc<Snapshot>>>,
    next: Instant,
}

impl Telemetry {
    /// Has DPDK answer commands about a session.
    ///
    /// # Errors
    /// If DPDK refuses.
    pub fn begin(session: &Session) -> Result<Self, Error> {
        let last = Arc::new(Mutex::new(Arc::new(session.snapshot())));
        let theirs = Arc::clone(&last);
        answer_by(COMMANDS, move |command, parameters| {
            let snapshot = Arc::clone(&theirs.lock().unwrap_or_else(PoisonError::into_inner));
            answer(&snapshot, command, parameters)
        })?;
        Ok(Self { last, next: Instant::now() + INTERVAL })
    }

    /// Takes another snapshot if one is due.
    pub fn publish(&mut self, session: &Session) {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + INTERVAL;
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(session.snapshot());
        }
    }
}

fn answer(snapshot: &Snapshot, command: &str, parameters: &str) -> Option<Answer> {
    let numbers = |list: &[(&str, u64)]| {
        Answer::Numbers(list.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect())
    };
    let page = |names: Vec<&String>| {
        let first: usize = if parameters.is_empty() { Some(0) } else { parameters.parse().ok() }?;
        Some(Answer::Words(names.into_iter().skip(first).take(MOST_ENTRIES).cloned().collect()))
    };
    Some(match command {
        "/tapline/packets" => {
            let (packets, copies) = (&snapshot.packets, &snapshot.copies);
            let mut list = vec![("received", packets.received)];
            list.extend(packets.ends());
            list.extend([
                ("copies_requested", copies.requested),
                ("copies_sent", copies.sent),
                ("copies_dropped", copies.dropped.total()),
                ("balanced", u64::from(snapshot.balanced)),
            ]);
            numbers(&list)
        }
        "/tapline/ports" => page(snapshot.ports.iter().map(|(name, _)| name).collect())?,
        "/tapline/port" => {
            let port = snapshot.ports.get(parameters)?;
            numbers(&[
                ("received", port.received),
                ("received_bytes", port.received_bytes),
                ("congested", port.congested),
                ("missed", port.driver.missed),
                ("no_mbuf", port.driver.no_mbuf),
                ("rx_errors", port.driver.rx_errors),
                ("tx_packets", port.driver.tx_packets),
                ("tx_errors", port.driver.tx_errors),
                ("link_up", u64::from(port.link_up)),
            ])
        }
        "/tapline/tools" => page(snapshot.tools.iter().map(|(name, _)| name).collect())?,
        "/tapline/tool" => {
            let tool = snapshot.tools.get(parameters)?;
            let mut list = vec![
                ("requested", tool.copies.requested),
                ("sent", tool.copies.sent),
                ("sent_bytes", tool.sent_bytes),
                ("queue_depth", tool.queue_depth),
                ("queue_peak", tool.queue_peak),
            ];
            list.extend(tool.copies.dropped.by_reason());
            numbers(&list)
        }
        "/tapline/lcores" => {
            let lcores = snapshot.lcores.iter().flat_map(|(lcore, entry)| {
                [
                    (format!("{lcore}/received"), entry.received),
                    (format!("{lcore}/busy_per_mille"), (entry.busy * 1000.0).round() as u64),
                    (format!("{lcore}/stalls"), entry.stalls),
                    (format!("{lcore}/panics"), entry.panics),
                ]
            });
            Answer::Numbers(lcores.collect())
        }
        _ => return None,
    })
}
