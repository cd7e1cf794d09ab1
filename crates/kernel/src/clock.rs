//! The system's clock.

/// Returns whether a daemon disciplines the system's clock, as the kernel sees it.
/// # Source
/// adjtimex(2): the status bit STA_UNSYNC.
pub fn is_disciplined() -> bool {
    // SAFETY: `timex` is plain numbers, for which zeroes are valid; its `modes` of zero ask and change nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel reads and writes one `timex`, which `state` is, during the call only.
    let result = unsafe { libc::adjtimex(&mut state) };
    result >= 0 && state.status & libc::STA_UNSYNC == 0
}
