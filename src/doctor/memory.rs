//! Huge pages that are free, and the memory that a plan takes.

use super::{Finding, Roots};
use crate::broker::start::memory::{Needed, needed};
use crate::plan::Run;
use tapline_dpdk::eal;
use tapline_kernel::limits;

const AREA: &str = "huge pages";
/// Pages for a first plan: 512 of 2 MiB.
const FIRST_MIB: u64 = 1024;

/// Huge pages of one size.
struct Size {
    kib: u64,
    total: u64,
    free: u64,
}

impl Size {
    fn free_mib(&self) -> u64 {
        self.free * self.kib / 1024
    }

    fn words(&self) -> String {
        let size = if self.kib >= 1 << 20 {
            format!("{} GiB", self.kib >> 20)
        } else {
            format!("{} MiB", self.kib >> 10)
        };
        format!("{} of {} pages of {size} are free", self.free, self.total)
    }
}

fn sizes(roots: &Roots) -> Vec<Size> {
    const FOLDER: &str = "sys/kernel/mm/hugepages";
    let of_name = |name: String| {
        let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let number = |file: &str| roots.read(&format!("{FOLDER}/{name}/{file}"))?.parse().ok();
        Some(Size { kib, total: number("nr_hugepages")?, free: number("free_hugepages")? })
    };
    let mut sizes: Vec<Size> = roots.names(FOLDER).into_iter().filter_map(of_name).collect();
    sizes.sort_by_key(|size| size.kib);
    sizes
}

/// Returns the size of the pages that `vm.nr_hugepages` counts, in KiB.
fn default_kib(roots: &Roots) -> u64 {
    let text = roots.read("proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(2048)
}

/// Returns the command that makes so much more memory huge pages.
fn reserve(roots: &Roots, sizes: &[Size], missing_mib: u64) -> String {
    let kib = default_kib(roots);
    let total = sizes.iter().find(|size| size.kib == kib).map_or(0, |size| size.total);
    format!("sysctl -w vm.nr_hugepages={}", total + (missing_mib * 1024).div_ceil(kib))
}

/// Looks at huge pages, by what a plan takes of them.
pub(super) fn look(roots: &Roots, run: Option<Run<'_>>) -> Vec<Finding> {
    let sizes = sizes(roots);
    let free: u64 = sizes.iter().map(Size::free_mib).sum();
    let words: Vec<String> = sizes.iter().filter(|size| size.total > 0).map(Size::words).collect();
    let words = if words.is_empty() { "none are reserved".to_owned() } else { words.join(", ") };
    let slower = "EAL takes ordinary pages, which are slower";
    let Some(run) = run else {
        let finding = if free == 0 {
            Finding::advice(AREA, format!("{words}: {slower}")).mended_by(reserve(roots, &sizes, FIRST_MIB))
        } else {
            Finding::fine(AREA, words)
        };
        return vec![finding];
    };
    let Needed { huge_mib, ordinary_mib } = needed(run);
    let missing = || reserve(roots, &sizes, u64::from(huge_mib).saturating_sub(free));
    let arguments = run.eal();
    if eal::says_memory(&arguments) {
        let is_ordinary = arguments.iter().any(|argument| argument == "--no-huge");
        return vec![if is_ordinary {
            Finding::fine(AREA, format!("{words}; the EAL arguments ask for ordinary pages"))
        } else if free < u64::from(huge_mib) {
            let text = format!(
                "{words}; the EAL arguments ask for huge pages, of which the file takes {huge_mib} MiB"
            );
            Finding::gap(AREA, text).mended_by(missing())
        } else {
            Finding::fine(AREA, format!("{words}; the file takes {huge_mib} MiB"))
        }];
    }
    if free >= u64::from(huge_mib) {
        return vec![Finding::fine(AREA, format!("{words}; the file takes {huge_mib} MiB"))];
    }
    let few = Finding::advice(AREA, format!("{words}; the file takes {huge_mib} MiB: {slower}"));
    let mut findings = vec![few.mended_by(missing())];
    let available = limits::available_under(&roots.root);
    findings.extend(available.map(|available| {
        if available.mib < u64::from(ordinary_mib) {
            let text = format!("the file takes {ordinary_mib} MiB of ordinary pages, of {available}; expected fewer mbufs (`set mempool`), shorter queues, or more memory");
            Finding::gap("memory", text)
        } else {
            Finding::fine("memory", format!("the file takes {ordinary_mib} MiB of ordinary pages, of {available}"))
        }
    }));
    findings
}
