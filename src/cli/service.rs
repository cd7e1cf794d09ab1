//! The service manager that started the run: it is told when packets are received, how the run is, that it is alive, and that it ends.
//!
//! The command's own thread sends datagrams to the socket that `NOTIFY_SOCKET` names. A datagram that finds no room is not waited for: what
//! must come is sent again at the next look. The variables are taken out of the environment.
//! # Source
//! sd_notify(3), sd_watchdog_enabled(3); systemd.service(5): `Type=`, `TimeoutStartSec=`, `WatchdogSec=`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use super::output::tell_line;
use super::signals::END_LIMIT;
use crate::control::session::Session;
use crate::report::table;
use tapline_kernel::{clock, process};

/// Time between two looks at how the run is.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How long a plan that is being made may take more, said again and again while it is made.
const PLAN_LIMIT: Duration = Duration::from_secs(60);
const PLAN_INTERVAL: Duration = Duration::from_secs(5);
/// How long ports and memory may take to be set up: a machine clears several gigabytes of pages in a second, and has at most some
/// terabytes.
const SET_UP_LIMIT: Duration = Duration::from_secs(300);

/// The manager, if there is one.
pub(super) struct Service {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// A text that it must have, and had no room for.
    due: Option<String>,
    /// The status that it was told.
    status: String,
    /// The last reload that a signal asked for was refused.
    is_refused: bool,
    next_status: Instant,
    next_extension: Instant,
    watchdog: Option<Watchdog>,
}

/// The manager ends a run that does not say that it is alive.
struct Watchdog {
    interval: Duration,
    said: Instant,
    /// The turns of each worker when it was said.
    turns: Vec<u64>,
}

impl Watchdog {
    /// The time is that of half of what the manager allows, where the variables are meant for this process.
    fn of(usec: Option<&OsStr>, pid: Option<&OsStr>) -> Option<Self> {
        let number = |value: &OsStr| value.to_str()?.parse::<u64>().ok();
        let is_ours = pid.is_none_or(|pid| number(pid) == Some(u64::from(std::process::id())));
        let usec = usec.and_then(number).filter(|&usec| usec > 0 && is_ours)?;
        Some(Self { interval: Duration::from_micros(usec / 2), said: Instant::now(), turns: Vec::new() })
    }

    /// Returns whether it is time to say that the run is alive, and it is: each worker has had a turn since that was last said.
    fn is_due(&self, now: Instant, turns: &[u64]) -> bool {
        let have_moved = self.turns.len() != turns.len()
            || self.turns.iter().zip(turns).all(|(before, turns)| before != turns);
        have_moved && now.saturating_duration_since(self.said) >= self.interval
    }
}

impl Service {
    /// Takes the manager's variables out of the environment. No other thread may run yet.
    pub(super) fn take() -> Self {
        let [path, usec, pid] = process::take_variables(["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]);
        let socket = path.filter(|path| !path.is_empty()).and_then(|path| {
            let told =
                |error| tell_line(format_args!("warning: NOTIFY_SOCKET {}: {error}", path.display()));
            socket_to(&path).map_err(told).ok()
        });
        let now = Instant::now();
        Self {
            watchdog: Watchdog::of(usec.as_deref(), pid.as_deref()).filter(|_| socket.is_some()),
            socket,
            due: None,
            status: String::new(),
            is_refused: false,
            next_status: now,
            next_extension: now,
        }
    }

    /// Returns whether a manager has started this process.
    pub(super) fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// Returns whether the manager has room for that.
    fn send(&self, text: &str) -> bool {
        let Some((socket, address)) = &self.socket else { return true };
        match socket.send_to_addr(text.as_bytes(), address) {
            Ok(_) => true,
            // a manager that is gone needs to hear nothing
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// Tells it something, at the next look where there is no room now. What was to be told before is over.
    fn tell(&mut self, text: String) {
        self.due = (!self.send(&text)).then_some(text);
    }

    fn extend(&self, by: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()));
    }

    /// The plan is still being made: to be called again and again.
    pub(super) fn plans(&mut self) {
        let now = Instant::now();
        if now >= self.next_extension {
            self.next_extension = now + PLAN_INTERVAL;
            self.extend(PLAN_LIMIT);
        }
    }

    /// Memory and ports are about to be set up.
    pub(super) fn sets_up(&self) {
        self.extend(SET_UP_LIMIT);
    }

    fn status_of(&self, session: &Session) -> String {
        let reload = if self.is_refused { "the last reload was refused; " } else { "" };
        format!("{reload}{}", table::status(&session.snapshot()))
    }

    /// Packets are received.
    pub(super) fn ready(&mut self, session: &Session) {
        self.status = self.status_of(session);
        self.tell(format!("READY=1\nSTATUS={}", self.status));
    }

    /// The file is being loaded again for a signal. With `Type=notify-reload`, which systemd 253 brought, systemd waits for this, and for
    /// [`ready`](Self::ready) behind it.
    pub(super) fn reloads(&mut self) {
        self.tell(format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_us()));
    }

    /// The reload has come to its end.
    pub(super) fn reloaded(&mut self, session: &Session, is_well: bool) {
        self.is_refused = !is_well;
        self.ready(session);
    }

    /// The run ends, which takes its time.
    pub(super) fn stops(&mut self) {
        self.tell(format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={}\nSTATUS=ending: tools are drained",
            END_LIMIT.as_micros()
        ));
    }

    /// Tells the manager how the run is, from time to time, and that it is alive: to be called every few milliseconds.
    pub(super) fn look(&mut self, session: &Session) {
        if self.socket.is_none() {
            return;
        }
        if let Some(due) = self.due.take() {
            self.tell(due);
        }
        let now = Instant::now();
        if now >= self.next_status {
            self.next_status = now + STATUS_INTERVAL;
            let status = self.status_of(session);
            if status != self.status && self.send(&format!("STATUS={status}")) {
                self.status = status;
            }
        }
        let Some(watchdog) = &self.watchdog else { return };
        if now.saturating_duration_since(watchdog.said) < watchdog.interval {
            return;
        }
        let turns = session.turns();
        if watchdog.is_due(now, &turns) && self.send("WATCHDOG=1") {
            self.watchdog = Some(Watchdog { interval: watchdog.interval, said: now, turns });
        }
    }
}

/// Makes a socket that waits for nobody, and the address that a path or, behind `@`, an abstract name is.
fn socket_to(path: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_fed_at_half_its_time_if_every_worker_has_had_a_turn() {
        let watchdog =
            |usec: &str, pid: Option<&str>| Watchdog::of(Some(OsStr::new(usec)), pid.map(OsStr::new));
        assert!(watchdog("0", None).is_none() && watchdog("soon", None).is_none());
        assert!(watchdog("1000", Some("1")).is_none(), "that is another process");
        let own = std::process::id().to_string();
        let fresh = watchdog("2000000", Some(&own)).expect("a watchdog of this process");
        let said = fresh.said;
        let after = |ms: u64| said + Duration::from_millis(ms);
        assert!(!fresh.is_due(after(999), &[1, 1]) && fresh.is_due(after(1000), &[1, 1]));
        let fed = Watchdog { turns: vec![5, 7], ..fresh };
        assert!(fed.is_due(after(1000), &[6, 8]));
        assert!(!fed.is_due(after(1000), &[6, 7]) && !fed.is_due(after(60_000), &[5, 8]));
    }
}
