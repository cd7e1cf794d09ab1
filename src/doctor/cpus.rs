//! CPUs: which there are, which are left to Tapline alone, and how they are clocked.

use super::{Finding, Roots};
use crate::broker::start::placement::place;
use crate::plan::Run;

const AREA: &str = "cpus";

/// Reads a list of CPUs, such as `0-3,8`.
fn list(text: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u32>().ok()?..=last.trim().parse::<u32>().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

fn words(cpus: &[u32]) -> String {
    cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// Looks at CPUs, by the lcores that a plan's workers have.
pub(super) fn look(roots: &Roots, run: Option<Run<'_>>) -> Vec<Finding> {
    let status = roots.read("proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let allowed = allowed.map_or_else(Vec::new, list);
    let of_machine =
        |name: &str| list(&roots.read(&format!("sys/devices/system/cpu/{name}")).unwrap_or_default());
    let (isolated, tickless) = (of_machine("isolated"), of_machine("nohz_full"));
    let nodes = roots.names("sys/devices/system/node");
    let nodes =
        nodes.iter().filter(|name| name.strip_prefix("node").is_some_and(|n| n.parse::<u32>().is_ok()));
    let shown = |cpus: &[u32]| if cpus.is_empty() { "none".to_owned() } else { words(cpus) };
    let mut findings = vec![Finding::fine(
        AREA,
        format!(
            "Tapline may use {}; NUMA nodes: {}; isolated: {}; without a tick (nohz_full): {}",
            shown(&allowed),
            nodes.count().max(1),
            shown(&isolated),
            shown(&tickless)
        ),
    )];
    let workers = run.map(place);
    let workers: Vec<u32> = match workers {
        Some(Err(misplaced)) => {
            findings.push(Finding::gap(AREA, misplaced.to_string()));
            Vec::new()
        }
        Some(Ok(placement)) => placement.roles.lcores.iter().map(|lcore| lcore.0).collect(),
        None => Vec::new(),
    };
    let mut shared: Vec<u32> = workers.clone();
    shared.sort_unstable();
    shared.retain(|cpu| !(isolated.contains(cpu) && tickless.contains(cpu)));
    if !shared.is_empty() {
        let cpus = words(&shared);
        let text = format!("workers run on {cpus}, which the kernel uses for other work, too");
        findings.push(
            Finding::advice(AREA, text)
                .mended_by(kernel_argument(&format!("isolcpus={cpus} nohz_full={cpus} rcu_nocbs={cpus}"))),
        );
    }
    findings.extend(governors(roots, &workers, &allowed));
    findings
}

/// Looks at how CPUs are clocked: those of workers, else all.
fn governors(roots: &Roots, workers: &[u32], allowed: &[u32]) -> Option<Finding> {
    const FAST: &str = "performance";
    let cpus = if workers.is_empty() { allowed } else { workers };
    let governor =
        |cpu: u32| roots.read(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"));
    let known: Vec<(u32, String)> = cpus.iter().filter_map(|&cpu| Some((cpu, governor(cpu)?))).collect();
    let slow: Vec<u32> = known.iter().filter(|(_, name)| name != FAST).map(|&(cpu, _)| cpu).collect();
    let first = known.first()?;
    Some(match slow.first().and_then(|cpu| known.iter().find(|(known, _)| known == cpu)) {
        None => Finding::fine(AREA, format!("governor: {}", first.1)),
        Some((_, name)) => {
            let text =
                format!("the governor of {} is {name}: polling CPUs may be clocked down", words(&slow));
            let files: Vec<String> = slow
                .iter()
                .map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"))
                .collect();
            Finding::advice(AREA, text).mended_by(format!("echo {FAST} | tee {}", files.join(" ")))
        }
    })
}

/// Returns the command that gives the kernel arguments from its next start on.
pub(super) fn kernel_argument(arguments: &str) -> String {
    format!("sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{arguments} /' /etc/default/grub && update-grub && reboot")
}
