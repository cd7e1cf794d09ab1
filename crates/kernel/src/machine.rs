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

/// Lets the calling thread run where the program's first one may. A thread that a worker starts would share the worker's CPU, which is
/// never idle. Where the kernel refuses, it stays there.
pub fn run_beside_main() {
    if let Ok(cpus) = rustix::thread::sched_getaffinity(Some(rustix::process::getpid())) {
        let _ = rustix::thread::sched_setaffinity(None, &cpus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_a_pinned_thread_runs_beside_main() {
        let cpus = available_cpus();
        let pinned = std::thread::spawn(move || {
            let mut one = CpuSet::new();
            one.set(*cpus.last().expect("a CPU") as usize);
            rustix::thread::sched_setaffinity(None, &one).expect("it is allowed");
            let freed = std::thread::spawn(|| {
                let before = available_cpus();
                run_beside_main();
                (before, available_cpus())
            });
            (cpus, freed.join().expect("it ends"))
        });
        let (cpus, (before, after)) = pinned.join().expect("it ends");
        assert_eq!((before.as_slice(), after.as_slice()), (&cpus[cpus.len() - 1..], cpus.as_slice()));
    }

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
