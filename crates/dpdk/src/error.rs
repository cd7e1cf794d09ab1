//! The one door by which C results leave: a negative or null result becomes an [`Error`] that names the call, the thing it was
//! for, the reason, what the driver logged, and what to change.

use std::fmt;

use tapline_fault as fault;
use tapline_kernel::limits::Descriptors;

/// A DPDK call that failed.
#[derive(Debug, Clone)]
pub struct Error {
    /// The object of the call, by the user's name for it: `port tap0`, `EAL`.
    pub what: String,
    /// The DPDK function.
    pub call: &'static str,
    /// Positive errno; 0 where the call gave none.
    pub errno: i32,
    /// Why, where the errno text alone would not tell.
    pub reason: Option<String>,
    /// Lines that EAL and the driver logged during the call.
    pub log: Vec<String>,
    /// The change that would help.
    pub remedy: Option<String>,
}

impl Error {
    /// An error from a call's result: a negative errno, or -1 with the reason in `rte_errno`.
    pub(super) fn from_result(what: impl Into<String>, call: &'static str, result: i32) -> Self {
        let errno = if result < -1 { -result } else { rte_errno() };
        let mut log = take_log();
        // what could not be opened is seldom named: pools then seem to lack memory
        log.extend(
            Descriptors::now().filter(Descriptors::are_used_up).map(|descriptors| descriptors.to_string()),
        );
        Self { what: what.into(), call, errno, reason: None, log, remedy: None }
    }

    /// A refusal of Tapline's own, before the call was made.
    pub(super) fn refused(what: impl Into<String>, call: &'static str, reason: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            call,
            errno: 0,
            reason: Some(reason.into()),
            log: Vec::new(),
            remedy: None,
        }
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.what, self.call)?;
        match &self.reason {
            Some(reason) => f.write_str(reason)?,
            None => f.write_str(&errno_text(self.errno))?,
        }
        for line in &self.log {
            write!(f, "; {line}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// 0 or positive is the value, negative an error.
pub(super) fn check(what: impl Into<String>, call: &'static str, result: i32) -> Result<i32, Error> {
    if result < 0 { Err(Error::from_result(what, call, result)) } else { Ok(result) }
}

/// Gives the result of `call`, or ENOMEM without calling it if a test makes this place fail.
pub(super) fn or_fault(place: &str, call: impl FnOnce() -> i32) -> i32 {
    if fault::strikes(place) { -libc::ENOMEM } else { call() }
}

fn rte_errno() -> i32 {
    // SAFETY: reads a thread-local integer.
    unsafe { dpdk_sys::tl_errno() }
}

fn errno_text(errno: i32) -> String {
    if errno == 0 {
        return "failed without a reason".to_owned();
    }
    // SAFETY: `rte_strerror` returns a NUL-terminated string that is static or thread-local, and it is copied at once.
    unsafe { std::ffi::CStr::from_ptr(dpdk_sys::rte_strerror(errno)) }.to_string_lossy().into_owned()
}

/// Takes what EAL and the drivers logged since the last call, a line each.
pub fn take_log() -> Vec<String> {
    let mut text = vec![0u8; 16 * 1024];
    // SAFETY: the shim writes at most `text.len()` bytes, the terminating NUL included.
    let len = unsafe { dpdk_sys::tl_log_take(text.as_mut_ptr().cast(), text.len()) };
    let mut lines: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(&text[..len]).lines().map(str::trim).filter(|line| !line.is_empty())
    {
        if lines.last().is_none_or(|last| last != line) {
            lines.push(line.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_place_call_reason_and_remedy() {
        let error = Error::refused("port tap0", "rte_eth_rx_queue_setup", "driver offers 1 queue, 4 asked")
            .remedy("use rxq 1");
        assert_eq!(
            error.to_string(),
            "port tap0: rte_eth_rx_queue_setup: driver offers 1 queue, 4 asked; use rxq 1"
        );
    }

    #[test]
    fn a_negative_result_is_an_errno() {
        assert_eq!(check("x", "f", -22).unwrap_err().to_string(), "x: f: Invalid argument");
        assert_eq!(check("x", "f", 3).unwrap(), 3);
    }
}
