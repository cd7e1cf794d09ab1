//! `set KEY VALUE`.

use std::time::Duration;

use super::super::source::Spanned;
use tapline_api::words::{Anonymous, AuditMode, ClockQuality};

/// `set KEY VALUE`.
#[derive(Clone, PartialEq, Debug)]
pub enum Setting {
    /// Packets in a burst, 1..=64.
    Burst(Spanned<u32>),
    Lcores(Spanned<Lcores>),
    /// Mbufs for each port and socket.
    Mempool(Spanned<u64>),
    Idle(Spanned<Idle>),
    Flows {
        entries: Spanned<u64>,
        idle: Option<Spanned<Duration>>,
        max_age: Option<Spanned<Duration>>,
    },
    /// EAL arguments, as on DPDK's own command lines.
    Eal(Spanned<String>),
    /// `set workers 4`: so many, on lcores that Tapline chooses.
    Workers(Spanned<u64>),
    /// Seeds the flow hash: two brokers with one seed pick the same flows.
    Seed(Spanned<u64>),
    /// The reference that keeps the system's clock.
    Clock(Spanned<ClockQuality>),
    /// Types that announce VLAN tags beside those that always do.
    Tpid(Spanned<Vec<u16>>),
    /// The folder for the frames of bursts in which a stage panicked.
    PanicDump(Spanned<String>),
    /// The log of changes, and what becomes of changes while it cannot be written.
    Audit {
        path: Spanned<String>,
        mode: Option<Spanned<AuditMode>>,
    },
    /// How many rules have metrics of their own.
    Metrics {
        rules: Spanned<u64>,
    },
    /// DPDK's telemetry socket, with commands of Tapline.
    Telemetry(Spanned<bool>),
    /// Who may read by HTTP without signing in.
    Web {
        anonymous: Spanned<Anonymous>,
    },
    Tls(Tls),
}

/// `set tls cert FILE key FILE [client-ca FILE] [crl FILE]`: files of the HTTP server.
#[derive(Clone, PartialEq, Debug)]
pub struct Tls {
    /// The chain of certificates, the server's own first.
    pub cert: Spanned<String>,
    pub key: Spanned<String>,
    /// The authorities of client certificates.
    pub client_ca: Option<Spanned<String>>,
    /// Certificates that they have revoked.
    pub crl: Option<Spanned<String>>,
}

/// The lcores that the work runs on, by number.
#[derive(Clone, PartialEq, Debug)]
pub enum Lcores {
    /// `set lcores 1-3`: each polls its receive queues and carries its packets to the tools.
    RunToCompletion(Vec<u32>),
    /// `set lcores receive 1 work 2-3 transmit 4`: stages with rings between them. Empty means that the neighbouring stage does it.
    Staged { receive: Vec<u32>, work: Vec<u32>, transmit: Vec<u32> },
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Idle {
    Poll,
    Pause,
    /// Sleeps between empty polls, for at most this long if given.
    Sleep(Option<Duration>),
}
