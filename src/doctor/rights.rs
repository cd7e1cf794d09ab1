//! Capabilities of this process, by what the drivers of a plan ask for.

use super::{Finding, Roots, shell_word};
use crate::plan::Run;
use tapline_dpdk::attach_advice::rights_of;
use tapline_kernel::process::Right;

const AREA: &str = "rights";
/// The locked memory that VFIO maps for a NIC, in bytes: the least that a small pool has.
const LEAST_LOCKED: u64 = 256 << 20;

fn effective(roots: &Roots) -> Option<u64> {
    let status = roots.read("proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Returns the command that gives this program the rights.
fn give(rights: &[Right]) -> String {
    let words: Vec<String> = rights.iter().map(|right| right.word().to_ascii_lowercase()).collect();
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/tapline".into());
    format!("setcap {}+ep {}", words.join(","), shell_word(&program))
}

/// Looks at the rights that each port of a plan needs.
pub(super) fn look(roots: &Roots, run: Option<Run<'_>>) -> Vec<Finding> {
    let Some(effective) = effective(roots) else {
        return vec![
            Finding::advice(AREA, "/proc/self/status does not say which there are")
                .mended_by("mount -t proc proc /proc"),
        ];
    };
    let has = |right: &Right| right.bits().iter().any(|bit| effective & 1 << bit != 0);
    let there: Vec<&str> = Right::ALL.iter().filter(|right| has(right)).map(|right| right.word()).collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    let mut findings = vec![Finding::fine(AREA, format!("this process has {there}"))];
    let Some(run) = run else { return findings };
    let mut missing: Vec<Right> = Vec::new();
    let mut ports: Vec<&str> = Vec::new();
    for port in run.plan.ports.iter() {
        let lacks: Vec<Right> =
            rights_of(&port.devargs).iter().copied().filter(|right| !has(right)).collect();
        if !lacks.is_empty() {
            ports.push(&port.name);
            missing.extend(lacks);
        }
    }
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        let words: Vec<&str> = missing.iter().map(|right| right.word()).collect();
        let ports_of = format!("port{} {}", if ports.len() == 1 { "" } else { "s" }, ports.join(", "));
        let verb = if ports.len() == 1 { "needs" } else { "need" };
        findings.push(
            Finding::gap(AREA, format!("{ports_of} {verb} {}", words.join(", "))).mended_by(give(&missing)),
        );
    }
    let has_pci = run.plan.ports.iter().any(|port| super::nics::address_of(&port.devargs).is_some());
    if let Some(locked) = locked_bytes(roots).filter(|&bytes| has_pci && bytes < LEAST_LOCKED)
        && effective & 1 << 14 == 0
    {
        let text = format!("{locked} bytes of memory may be locked, and VFIO locks all that a NIC reaches");
        findings.push(Finding::gap(AREA, text).mended_by("ulimit -l unlimited"));
    }
    findings
}

/// Returns the limit of locked memory; `None` without one.
fn locked_bytes(roots: &Roots) -> Option<u64> {
    let limits = roots.read("proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}
