//! Running a function on an lcore.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::{Error, check, or_fault};
use super::{Eal, LcoreId, SocketId};
use tapline_fault as fault;
use tapline_kernel::machine::thread_number;

type Outcome<T> = Arc<Mutex<Option<Result<T, String>>>>;

/// A function that runs on an lcore; [`Running::join`] waits for what it returns. One that is not waited for keeps EAL.
pub struct Running<T> {
    eal: Eal,
    lcore: LcoreId,
    outcome: Outcome<T>,
    /// The kernel's number of the thread; 0 until it has begun. worker: writes; control: reads.
    thread: Arc<AtomicI32>,
}

/// A thread's use of its CPU.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct CpuUse {
    /// The time that it ran, as of the kernel's last tick.
    pub ran: Duration,
    /// How long it waited, while others had its CPU, each time until it ran again.
    pub waited: Duration,
    /// It runs, or waits.
    pub wants_more: bool,
}

/// Runs `work` on `lcore` until it returns. The lcore is one of the workers that EAL was started with, and idle.
///
/// # Errors
/// If the lcore is not one of EAL's, or is busy.
pub fn launch<T: Send + 'static>(
    eal: &Eal,
    lcore: LcoreId,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Running<T>, Error> {
    let outcome: Outcome<T> = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&outcome);
    let thread = Arc::new(AtomicI32::new(0));
    let its_number = Arc::clone(&thread);
    let job: Job = Box::new(move || {
        its_number.store(thread_number(), Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_text(panic.as_ref()));
        *theirs.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(result);
    });
    let argument = Box::into_raw(Box::new(job));
    let result = or_fault("start.launch", || {
        // SAFETY: `run_job` takes the box back exactly once; EAL is running (`eal`) and refuses a bad or busy lcore.
        unsafe { dpdk_sys::rte_eal_remote_launch(Some(run_job), argument.cast(), lcore.0) }
    });
    if let Err(error) = check(format!("lcore {}", lcore.0), "rte_eal_remote_launch", result) {
        // SAFETY: the launch failed, so nobody else took the box.
        drop(unsafe { Box::from_raw(argument) });
        return Err(error);
    }
    Ok(Running { eal: eal.clone(), lcore, outcome, thread })
}

/// Checks that `lcore` can be given work.
///
/// # Errors
/// If EAL was not started with it, or runs the main thread on it.
pub fn check_worker(_eal: &Eal, lcore: LcoreId) -> Result<(), Error> {
    // SAFETY: EAL is running; an unknown lcore is not enabled.
    let is_enabled = unsafe { dpdk_sys::rte_lcore_is_enabled(lcore.0) } != 0;
    // SAFETY: as above.
    let is_main = unsafe { dpdk_sys::rte_get_main_lcore() } == lcore.0;
    let refused =
        |reason: &str| Error::refused(format!("lcore {}", lcore.0), "rte_eal_remote_launch", reason);
    match (is_enabled && !fault::strikes("start.lcore"), is_main) {
        (true, false) => Ok(()),
        (true, true) => {
            Err(refused("it is EAL's main lcore").remedy("give the main thread another with --main-lcore"))
        }
        (false, _) => {
            Err(refused("EAL was started without it").remedy("name it in the EAL arguments' --lcores"))
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

unsafe extern "C" fn run_job(argument: *mut c_void) -> i32 {
    // SAFETY: `launch` made `argument` from a `Box<Job>` and gave it away.
    let job = unsafe { Box::from_raw(argument.cast::<Job>()) };
    job();
    0
}

/// Gives the text of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".to_owned())
}

impl<T> Running<T> {
    /// Returns whether the function has returned.
    pub fn is_finished(&self) -> bool {
        self.outcome.lock().is_ok_and(|outcome| outcome.is_some())
    }

    /// Gives the thread's use of its CPU; zeroes if the kernel does not say.
    /// # Source
    /// Linux, Documentation/scheduler/sched-stats.rst: `/proc/PID/schedstat`, in nanoseconds; proc_pid_stat(5).
    pub fn cpu_use(&self) -> CpuUse {
        let task = format!("/proc/self/task/{}", self.thread.load(Ordering::Relaxed));
        let read = |file: &str| std::fs::read_to_string(format!("{task}/{file}")).unwrap_or_default();
        let schedstat = read("schedstat");
        let mut times =
            schedstat.split_whitespace().map(|ns| Duration::from_nanos(ns.parse().unwrap_or(0)));
        let (ran, waited) = (times.next().unwrap_or_default(), times.next().unwrap_or_default());
        // the state stands behind the name, which may hold anything
        let wants_more = read("stat").rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'));
        CpuUse { ran, waited, wants_more }
    }

    /// Waits for the function and gives what it returned.
    ///
    /// # Errors
    /// With the panic's text if it panicked.
    pub fn join(self) -> Result<T, String> {
        // SAFETY: waits for the lcore to become idle; any lcore number is allowed.
        unsafe { dpdk_sys::rte_eal_wait_lcore(self.lcore.0) };
        let outcome = self.outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        outcome.unwrap_or_else(|| Err("ended without a result".to_owned()))
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        // the job has its own handle of the outcome until it is over
        if Arc::strong_count(&self.outcome) > 1 {
            self.eal.keep();
        }
    }
}

/// The NUMA node of an lcore.
pub fn socket_of(_eal: &Eal, lcore: LcoreId) -> SocketId {
    // SAFETY: EAL is running; an unknown lcore gives socket 0.
    Some(unsafe { dpdk_sys::rte_lcore_to_socket_id(lcore.0) })
}
