//! The process, by the names that Prometheus's own clients have for its numbers.

use std::fs;

use tapline_kernel::machine::page_bytes;
use tapline_kernel::process::cpu_time;

/// The numbers of this process; one that the kernel does not say is not there.
#[derive(Default)]
pub(super) struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
    pub threads: Option<u64>,
}

impl Process {
    pub(super) fn now() -> Self {
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = |place: usize| statm.split(' ').nth(place).and_then(|pages| pages.parse::<u64>().ok());
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
        Self {
            cpu_seconds: cpu_time().as_secs_f64(),
            virtual_bytes: pages(0).map(|pages| pages * page_bytes()),
            resident_bytes: pages(1).map(|pages| pages * page_bytes()),
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
            max_fds: files.and_then(|line| line.split_whitespace().next()?.parse().ok()),
            threads: threads.and_then(|count| count.trim().parse().ok()),
        }
    }
}
