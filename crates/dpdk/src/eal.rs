//! EAL: started once a process, with arguments chosen from what the plan needs and what the machine has.

use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::LcoreId;
use super::error::{self, Error, take_log};
use super::mempool::Pool;

static STARTED: AtomicBool = AtomicBool::new(false);

/// The source of DPDK's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Huge pages that no other process can see and that leave no files (`--in-memory`).
    HugePages,
    /// Ordinary pages, all reserved at start (`--no-huge -m`), in MiB.
    Ordinary { mib: u32 },
    /// The memory that the user's own arguments name.
    AsGiven,
}

/// The options that EAL is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Worker lcores, each pinned to the CPU of its number.
    pub workers: Vec<LcoreId>,
    /// CPUs that the main thread may use.
    pub main_cpus: Vec<u32>,
    pub memory: Memory,
    /// PCI addresses that may be probed; empty: the PCI bus is left alone.
    pub pci_devices: Vec<String>,
    /// The user's own arguments (`set eal`, `--eal`); they take the place of ours where they say the same thing.
    pub extra: Vec<String>,
}

impl Options {
    /// The argument list, program name first.
    pub fn arguments(&self) -> Vec<String> {
        let given = |names: &[&str]| {
            self.extra.iter().any(|arg| {
                names.iter().any(|name| {
                    arg == name || arg.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
                })
            })
        };
        let short =
            |letter: &str| self.extra.iter().any(|arg| arg.starts_with(letter) && !arg.starts_with("--"));
        let mut args = vec!["tapline".to_owned()];
        if !says_lcores(&self.extra) {
            let main = self.main_lcore();
            let cpus: Vec<String> = self.main_cpus.iter().map(u32::to_string).collect();
            let mut lcores = vec![format!("{}@({})", main.0, cpus.join(","))];
            lcores.extend(self.workers.iter().map(|lcore| format!("{0}@{0}", lcore.0)));
            args.extend([
                "--lcores".to_owned(),
                lcores.join(","),
                "--main-lcore".to_owned(),
                main.0.to_string(),
            ]);
        }
        match self.memory {
            Memory::HugePages => args.push("--in-memory".to_owned()),
            Memory::Ordinary { mib } => {
                args.extend(["--no-huge".to_owned(), "--no-shconf".to_owned()]);
                if !short("-m") {
                    args.extend(["-m".to_owned(), mib.to_string()]);
                }
            }
            Memory::AsGiven => {}
        }
        if !given(&["--no-pci", "--allow", "--block", "-a", "-b"]) {
            if self.pci_devices.is_empty() {
                args.push("--no-pci".to_owned());
            }
            for device in &self.pci_devices {
                args.extend(["-a".to_owned(), device.clone()]);
            }
        }
        if !given(&["--telemetry", "--no-telemetry"]) {
            args.push("--no-telemetry".to_owned());
        }
        args.extend(self.extra.iter().cloned());
        args
    }

    /// The main thread's lcore number: CPU 0's where no worker has it, else the first that none has.
    fn main_lcore(&self) -> LcoreId {
        (0..)
            .map(LcoreId)
            .find(|lcore| !self.workers.contains(lcore))
            .expect("there are fewer workers than integers")
    }
}

/// EAL, running. Cloning shares it, and EAL ends when the last clone goes: every owner of what lies in DPDK's memory holds one, be it
/// a port, a pool, a ring or an lcore at work, so that none outlives EAL, in whatever order they go.
///
/// Mbufs hold none, and need none: as long as somebody has one its pool is not whole, and EAL does not end without all pools.
#[derive(Clone)]
pub struct Eal(Arc<Running>);

struct Running {
    /// Pools whose owners are gone and whose mbufs were not all back then, as a port not yet closed has some.
    left: Mutex<Vec<Pool>>,
    /// Devices that could not be taken out of DPDK, and that nobody was told of.
    kept: Mutex<Vec<KeptDevice>>,
}

/// A device that was closed, and that its bus could not take out of DPDK.
#[derive(Clone, Debug)]
pub struct KeptDevice {
    /// The name of the port that it was.
    pub port: String,
    /// Devargs without arguments.
    pub device: String,
    pub error: String,
}

impl Eal {
    /// Starts EAL. `rte_eal_init` works once a process.
    ///
    /// # Errors
    /// With what EAL logged and a remedy where one is known.
    pub fn start(options: &Options) -> Result<Self, Error> {
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(Error::refused("EAL", "rte_eal_init", "EAL was started before in this process"));
        }
        let quiet = !options.extra.iter().any(|arg| arg.starts_with("--log-level"));
        // SAFETY: both only set up the log, before EAL's own threads exist.
        unsafe {
            dpdk_sys::tl_log_capture();
            if quiet {
                dpdk_sys::tl_log_level(LOG_WARNING);
            }
        }
        let args: Vec<CString> = options
            .arguments()
            .into_iter()
            .map(|arg| {
                CString::new(arg)
                    .map_err(|_| Error::refused("EAL", "rte_eal_init", "an argument contains a NUL byte"))
            })
            .collect::<Result<_, _>>()?;
        let mut pointers: Vec<*mut c_char> = args.iter().map(|arg| arg.as_ptr().cast_mut()).collect();
        // EAL permutes and keeps pointers to its arguments: they live as long as the process.
        std::mem::forget(args);
        let count = pointers.len() as i32;
        pointers.push(std::ptr::null_mut());
        let argv = pointers.leak();
        // SAFETY: `argv` holds `count` NUL-terminated strings and a null, all alive for ever; EAL was not started before (STARTED).
        let result =
            error::or_fault("start.eal", || unsafe { dpdk_sys::rte_eal_init(count, argv.as_mut_ptr()) });
        if result < 0 {
            let error = Error::from_result("EAL", "rte_eal_init", result);
            let arguments = options.arguments()[1..].join(" ");
            return Err(error.remedy(format!("EAL was given: {arguments}")));
        }
        Ok(Self(Arc::new(Running { left: Mutex::default(), kept: Mutex::default() })))
    }

    /// Keeps EAL to the end of the process: for who works with its memory and cannot be told to end.
    pub fn keep(&self) {
        std::mem::forget(self.clone());
    }

    /// Takes over a pool that somebody may still have mbufs of.
    pub(super) fn leave(&self, pool: Pool) {
        self.0.left.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
    }

    /// Notes a device that could not be taken out of DPDK.
    pub(super) fn note_kept(&self, device: KeptDevice) {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).push(device);
    }

    /// Gives the devices that could not be taken out of DPDK since the last call.
    pub fn take_kept(&self) -> Vec<KeptDevice> {
        std::mem::take(&mut *self.0.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Frees the pools whose owners are gone, and whose mbufs are all back since.
    pub fn reclaim(&self) {
        let mut left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        for pool in left.extract_if(.., |pool| pool.in_use() == 0) {
            // SAFETY: its owner is gone, and every mbuf is back.
            unsafe { pool.free() };
        }
    }

    /// Mbufs that are still out of pools whose owners are gone: who has them has lost them, once all ports are closed.
    pub fn lost_mbufs(&self) -> u32 {
        self.0.left.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Pool::in_use).sum()
    }

    /// Gives the warnings and errors that EAL and the drivers logged since the last call.
    pub fn log(&self) -> Vec<String> {
        take_log()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let left = std::mem::take(self.left.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(pool) = left.iter().find(|pool| pool.in_use() > 0) {
            // whoever has these mbufs will free them: what they lie in stays to the end of the process
            #[expect(clippy::print_stderr, reason = "the log's owner may be gone; builds for tests only")]
            if cfg!(debug_assertions) {
                eprintln!("dpdk: EAL is not ended: {} mbufs of a pool are held", pool.in_use());
            }
            return;
        }
        // SAFETY: all mbufs of these pools are back, and their owners are gone.
        left.into_iter().for_each(|pool| unsafe { pool.free() });
        // SAFETY: EAL is running, and nobody is left who could use it: owners of ports, pools, rings and lcores have a clone each, and
        // all mbufs are in their pools.
        unsafe { dpdk_sys::rte_eal_cleanup() };
    }
}

/// `RTE_LOG_WARNING` (`rte_log.h`).
const LOG_WARNING: u32 = 5;

/// Returns the folder that EAL loads its drivers from.
pub fn pmd_folder() -> &'static str {
    let bytes: &'static [u8] = dpdk_sys::RTE_EAL_PMD_PATH;
    let text = std::ffi::CStr::from_bytes_until_nul(bytes).ok();
    text.and_then(|text| text.to_str().ok()).unwrap_or_default()
}

/// Free huge pages of every size on this machine, in MiB, that this process may use.
pub fn free_huge_mib() -> u64 {
    let Ok(sizes) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return 0 };
    sizes
        .filter_map(|size| {
            let size = size.ok()?;
            let name = size.file_name().into_string().ok()?;
            let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let free: u64 =
                std::fs::read_to_string(size.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
            Some(free * kib / 1024)
        })
        .sum()
}

/// Returns whether EAL arguments of the user say where memory comes from.
pub fn says_memory(arguments: &[String]) -> bool {
    const KINDS: [&str; 8] = [
        "--in-memory",
        "--no-huge",
        "--huge-dir",
        "--file-prefix",
        "--legacy-mem",
        "--socket-mem",
        "--socket-limit",
        "--huge-unlink",
    ];
    arguments.iter().any(|argument| {
        let name = argument.split_once('=').map_or(argument.as_str(), |(name, _)| name);
        KINDS.contains(&name)
    })
}

/// Returns whether EAL arguments of the user say which lcores there are.
pub fn says_lcores(arguments: &[String]) -> bool {
    arguments.iter().any(|argument| {
        let is_long = argument.split('=').next() == Some("--lcores");
        is_long || !argument.starts_with("--") && (argument.starts_with("-l") || argument.starts_with("-c"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(extra: &[&str]) -> Options {
        Options {
            workers: vec![LcoreId(1)],
            main_cpus: vec![0],
            memory: Memory::Ordinary { mib: 128 },
            pci_devices: Vec::new(),
            extra: extra.iter().map(|arg| (*arg).to_owned()).collect(),
        }
    }

    #[test]
    fn the_default_arguments_leave_no_trace_on_the_machine() {
        let args = options(&[]).arguments().join(" ");
        assert_eq!(
            args,
            "tapline --lcores 0@(0),1@1 --main-lcore 0 --no-huge --no-shconf -m 128 --no-pci --no-telemetry"
        );
    }

    #[test]
    fn the_users_arguments_take_the_place_of_ours() {
        let mut options = options(&["-l", "0-1", "--in-memory", "-a", "0000:00:10.0"]);
        options.memory = Memory::AsGiven;
        let args = options.arguments().join(" ");
        assert_eq!(args, "tapline --no-telemetry -l 0-1 --in-memory -a 0000:00:10.0");
    }

    #[test]
    fn memory_that_the_user_speaks_of_is_left_to_them() {
        let says = |argument: &str| says_memory(&[argument.to_owned()]);
        assert!(says("--in-memory") && says("--no-huge") && says("--socket-mem=128,0"));
        // how much is asked of either kind
        assert!(!says("-m512") && !says("-l") && !says("--log-level=8"));
    }

    #[test]
    fn a_worker_on_cpu_0_leaves_the_main_thread_another_lcore() {
        let mut options = options(&[]);
        options.workers = vec![LcoreId(0), LcoreId(1)];
        options.main_cpus = vec![0, 1];
        assert!(options.arguments().join(" ").contains("--lcores 2@(0,1),0@0,1@1 --main-lcore 2"));
    }
}
