//! The system's clocks.

use rustix::time::{ClockId, clock_gettime};

/// Returns for how many nanoseconds the calling thread has been on a CPU: the time that others had is not in it.
pub fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let [seconds, nanoseconds] = [time.tv_sec, time.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

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

/// Returns the microseconds of the clock that is never set.
/// # Source
/// clock_gettime(2): CLOCK_MONOTONIC.
pub fn monotonic_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`, which `time` is, during the call only.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec) * 1_000_000 + part(time.tv_nsec) / 1000
}
