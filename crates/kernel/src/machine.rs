//! CPUs, pages and threads, as this process finds them.

use rustix::thread::CpuSet;

/// Gives the CPUs that this process may run on, ascending.
pub fn available_cpus() -> Vec<u32> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).map(|cpu| cpu as u32).collect()
}

/// Gives the bytes of an ordinary page: 4 KiB or more, on every machine that DPDK runs on.
pub fn page_bytes() -> u64 {
    (rustix::param::page_size() as u64).max(4096)
}

/// Gives the kernel's number of the calling thread.
pub fn thread_number() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_those_that_the_kernel_writes_of_this_thread() {
        let status = std::fs::read_to_string(format!("/proc/self/task/{}/status", thread_number()));
        let status = status.expect("procfs knows the thread");
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list");
        let mut cpus = Vec::new();
        for range in list.trim().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            cpus.extend(first.parse::<u32>().expect("a number")..=last.parse().expect("a number"));
        }
        assert_eq!(available_cpus(), cpus);
    }
}
