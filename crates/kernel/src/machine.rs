//! CPUs, pages and threads, as this process finds them.
//! # Source
//! sched_setaffinity(2), sched_setscheduler(2), sched(7).

use std::io;

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

/// Lets the calling thread, and those that it starts, run on these CPUs alone.
///
/// # Errors
/// If the kernel refuses, such as where there is none of them.
pub fn run_on(cpus: &[u32]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus.iter().filter(|&&cpu| (cpu as usize) < CpuSet::MAX_CPU) {
        set.set(cpu as usize);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Lets the calling thread run only while no other thread wants its CPU (`SCHED_IDLE`).
///
/// # Errors
/// If the kernel refuses.
pub fn run_when_idle() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the parameters, which are valid for the call, and changes the calling thread's policy alone.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_runs_where_it_was_put_and_when_nobody_else_does() {
        let placed = std::thread::spawn(|| {
            let last = *available_cpus().last().expect("a CPU");
            run_on(&[last]).expect("it is allowed");
            run_when_idle().expect("everybody may");
            assert!(run_on(&[]).is_err());
            // the 41st field is the policy: 5 is SCHED_IDLE (proc_pid_stat(5))
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("procfs knows the thread");
            let after_name = stat.rsplit_once(") ").expect("a name").1.to_owned();
            (available_cpus() == [last], after_name.split(' ').nth(38).expect("a policy").to_owned())
        });
        assert_eq!(placed.join().expect("it ends"), (true, "5".to_owned()));
    }

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
