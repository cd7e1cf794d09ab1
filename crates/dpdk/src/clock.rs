//! The processor's time-stamp counter.

/// The counter now, in ticks of [`tsc_hz`]. About 8 ns: read it once a burst, not once a packet.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: reads a register.
    unsafe { dpdk_sys::tl_tsc() }
}

/// Ticks a second, as EAL measured them (0 before EAL was started).
pub fn tsc_hz() -> u64 {
    // SAFETY: reads a variable that EAL sets once.
    unsafe { dpdk_sys::rte_get_tsc_hz() }
}

/// Nanoseconds of the time-stamp counter, from some moment on.
#[inline]
pub fn monotonic_ns() -> u64 {
    let ns = u128::from(tsc()) * 1_000_000_000 / u128::from(tsc_hz().max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// Tells the processor that this is a wait loop.
#[inline]
pub fn pause() {
    // SAFETY: one instruction without effect on state.
    unsafe { dpdk_sys::tl_pause() }
}

/// Nanoseconds since the Unix epoch, from the system's real-time clock. About 19 ns: once a burst at most.
#[inline]
pub fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    nanoseconds(since)
}

/// A time in nanoseconds; of more than 584 years, as many as there are.
pub fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
