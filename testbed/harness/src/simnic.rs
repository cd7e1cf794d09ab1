//! The simulated NIC: a library (`simnic/simnic.c`) that makes a NIC of a virtual device, preloaded into the program under test.
//!
//! A NIC is a line of words. `hz`, `ppm`, `wander_ns` with `wander_period_ns`, `start` and `bits` make its counter; `stamps=1` offers
//! receive timestamps by that counter, `ptp=1` lets it be read as a PTP clock alone. Stamps lie `wait_ns` before the poll, every fourth
//! `disorder_ns` more; one in `missing` is not there, one in `zero` is zero. `asymmetric=1` keeps the NIC to an RSS key of its own,
//! `strips=1` has it take 802.1Q tags off unasked, `strips=2` those behind an 802.1ad tag with it, `sums=1` has it compute UDP checksums, `chains=1` has it send packets of several
//! segments, which no other takes.
//!
//! Frames arrive when the test releases them, so that nothing goes by how fast the machine is.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::Bench;
use crate::programs::repository;

/// The words that a test writes while the program runs, in the order of `struct control`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// Frames that have arrived so far.
    Released,
    /// The counter cannot be read, if not 0.
    Unreadable,
    /// Ticks by which the counter is moved.
    StepTicks,
    /// The NIC transmits nothing, if not 0.
    Refusing,
    /// The RSS hash of every packet, if not 0.
    FixedHash,
}

const WORDS: usize = 5;

/// A frame as the NIC received it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrived {
    pub number: usize,
    /// The true time of its stamp, in nanoseconds since the epoch.
    pub true_ns: u64,
    pub ticks: u64,
    /// It has a stamp that says something.
    pub is_stamped: bool,
    pub queue: u16,
    pub hash: u32,
}

/// A packet as the NIC was to transmit it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmitted {
    pub segments: u32,
    /// It asked for its UDP checksum.
    pub asks_for_checksum: bool,
}

/// NICs of a run that is yet to be started.
pub struct Simnic {
    library: PathBuf,
    configuration: PathBuf,
    folder: PathBuf,
}

impl Simnic {
    /// Makes the library, and NICs of the devices with these names and words. `None`, after saying so, where it cannot be compiled.
    pub fn new(bench: &Bench, nics: &[(&str, &str)]) -> Option<Self> {
        let library = bench.path("simnic.so");
        if let Err(why) = compile(&library) {
            tapline_skip::skipped(format_args!("the simulated NIC is not compiled: {why}"));
            return None;
        }
        let made = Self { library, configuration: bench.path("simnic"), folder: bench.path("") };
        let mut lines = String::new();
        for (device, words) in nics {
            let control = made.path(device, "control");
            std::fs::write(&control, [0; 8 * WORDS]).expect("a writable folder");
            let log = made.path(device, "log");
            let (control, log) = (control.display(), log.display());
            lines += &format!("{device} control={control} log={log} {words}\n");
        }
        std::fs::write(&made.configuration, lines).expect("a writable folder");
        Some(made)
    }

    fn path(&self, device: &str, what: &str) -> PathBuf {
        self.folder.join(format!("{device}.{what}"))
    }

    /// Adds frames that arrive at a NIC.
    pub fn bring(&self, device: &str, frames: &[Vec<u8>]) {
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|frame| [&(frame.len() as u32).to_ne_bytes()[..], frame].concat())
            .collect();
        let path = self.path(device, "frames");
        std::fs::write(&path, bytes).expect("a writable folder");
        let with_frames = |line: &str| {
            if line.split(' ').next() == Some(device) {
                format!("{line} frames={}\n", path.display())
            } else {
                format!("{line}\n")
            }
        };
        let lines = std::fs::read_to_string(&self.configuration).expect("it was written");
        let lines: String = lines.lines().map(with_frames).collect();
        std::fs::write(&self.configuration, lines).expect("a writable folder");
    }

    /// The variables that the program needs.
    pub fn variables(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("TAPLINE_SIMNIC", &self.configuration)]
    }

    /// Writes a control word, which is mapped in the running program.
    pub fn set(&self, device: &str, word: Word, value: u64) {
        let file: File =
            OpenOptions::new().write(true).open(self.path(device, "control")).expect("it is there");
        file.write_all_at(&value.to_ne_bytes(), 8 * word as u64).expect("it is written");
    }

    fn logged<T>(&self, device: &str, kind: &str, read: impl Fn(&[u64]) -> T) -> Vec<T> {
        let text = std::fs::read_to_string(self.path(device, "log")).unwrap_or_default();
        let of_kind = text.lines().filter_map(|line| line.strip_prefix(kind));
        let numbers = |line: &str| -> Vec<u64> {
            line.split_whitespace().map(|word| word.parse().expect("a number")).collect()
        };
        of_kind.map(|line| read(&numbers(line))).collect()
    }

    /// The frames that a NIC received, by their numbers.
    pub fn arrived(&self, device: &str) -> Vec<Arrived> {
        let mut arrived = self.logged(device, "rx ", |line| Arrived {
            number: line[0] as usize,
            true_ns: line[1],
            ticks: line[2],
            is_stamped: line[3] != 0,
            queue: line[4] as u16,
            hash: line[5] as u32,
        });
        arrived.sort_by_key(|frame| frame.number);
        arrived
    }

    /// The packets that a NIC was to transmit.
    pub fn transmitted(&self, device: &str) -> Vec<Transmitted> {
        self.logged(device, "tx ", |line| Transmitted {
            segments: line[1] as u32,
            asks_for_checksum: line[2] != 0,
        })
    }
}

/// Compiles the library by the headers of the DPDK that the program is linked with.
fn compile(library: &Path) -> Result<(), String> {
    let flags = Command::new("pkg-config").args(["--cflags", "libdpdk"]).output();
    let flags = flags.map_err(|error| format!("pkg-config: {error}"))?;
    if !flags.status.success() {
        return Err("no headers of DPDK".to_owned());
    }
    let flags = String::from_utf8_lossy(&flags.stdout).into_owned();
    let source = repository().join("testbed/harness/simnic/simnic.c");
    let words = ["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-DALLOW_EXPERIMENTAL_API"];
    let made = Command::new("cc")
        .args(words)
        .args(flags.split_whitespace())
        .args([OsStr::new("-o"), library.as_os_str(), source.as_os_str(), OsStr::new("-lm")])
        .output();
    match made {
        Err(error) => Err(format!("no cc: {error}")),
        // a compiler that is there must take it
        Ok(made) => {
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            Ok(())
        }
    }
}
