//! Placement: which lcores do what, and why.
//!
//! Stands before EAL is started: it looks at the plan and at what the kernel says of CPUs and devices.

use std::path::Path;

use super::Error;
use crate::dpdk::{LcoreId, eal};
use crate::plan::Plan;
use crate::plan::plan::PortId;
use crate::stats::snapshot::Stages;

/// Who works where.
pub struct Placement {
    pub crew: Crew,
    /// CPUs for the main thread.
    pub main_cpus: Vec<u32>,
    /// What was chosen and why.
    pub notes: Vec<String>,
}

/// The lcores that take part, and by place in that list who does what. No list is empty.
pub struct Crew {
    pub lcores: Vec<LcoreId>,
    /// Poll ports that are spread.
    pub receive: Vec<usize>,
    /// Judge packets, and poll ports that are not spread.
    pub work: Vec<usize>,
    pub transmit: Vec<usize>,
}

impl Crew {
    fn of(plan: &Plan, lcores: Vec<u32>) -> Self {
        let seats = |stage: &[u32]| stage.iter().filter_map(|lcore| lcores.iter().position(|other| other == lcore)).collect();
        let all = || (0..lcores.len()).collect();
        let (receive, work, transmit) = match &plan.settings.stages {
            Some(stages) => (seats(&stages.receive), seats(&stages.work), seats(&stages.transmit)),
            None => (all(), all(), all()),
        };
        Self { receive, work, transmit, lcores: lcores.into_iter().map(LcoreId).collect() }
    }

    /// The seats that poll a port.
    pub fn pollers(&self, plan: &Plan, port: PortId) -> Vec<usize> {
        let able = if plan.is_spread(port) { &self.receive } else { &self.work };
        let wanted = plan.ports[port.0].lcores.as_ref();
        able.iter().copied().filter(|&seat| wanted.is_none_or(|wanted| wanted.contains(&self.lcores[seat].0))).collect()
    }

    /// What a seat does.
    pub fn stages_of(&self, seat: usize) -> Stages {
        let has = |stage: &[usize]| stage.contains(&seat);
        Stages { receives: has(&self.receive), works: has(&self.work), transmits: has(&self.transmit) }
    }
}

/// Lcores where the plan says; else one worker on a CPU that shares no core with the main thread's, on the NUMA node of the first port
/// that has one. The main thread has what is left.
///
/// # Errors
/// If the plan names CPUs that are not there, or has a port polled by an lcore that polls none of its kind.
pub fn place(plan: &Plan) -> Result<Placement, Error> {
    let cpus = eal::available_cpus();
    let is_users = eal::says_lcores(&plan.settings.eal);
    let (workers, why) = match &plan.settings.lcores {
        Some(lcores) => (lcores.clone(), "as the pipeline file says".to_owned()),
        None => choose(&cpus, device_nodes(plan), &Topology),
    };
    if let Some(missing) = workers.iter().find(|cpu| !is_users && !cpus.contains(cpu)) {
        let have: Vec<String> = cpus.iter().map(u32::to_string).collect();
        let have = have.join(",");
        return Err(Error::Refused(format!("lcore {missing}: this machine gives Tapline the CPUs {have}; change `set lcores`")));
    }
    let spare: Vec<u32> = cpus.iter().copied().filter(|cpu| !workers.contains(cpu)).collect();
    let main_cpus = if spare.is_empty() { cpus } else { spare };
    let crew = Crew::of(plan, workers);
    for (index, port) in plan.ports.iter().enumerate() {
        let pollers = crew.pollers(plan, PortId(index)).len();
        if let Some(wanted) = port.lcores.as_ref().filter(|wanted| pollers < wanted.len()) {
            let able = if plan.is_spread(PortId(index)) { &crew.receive } else { &crew.work };
            let able: Vec<u32> = able.iter().map(|&seat| crew.lcores[seat].0).collect();
            let (name, wanted) = (&port.name, list(wanted));
            return Err(Error::Refused(format!("port {name}: lcores {wanted}: this port can be polled by lcores {}", list(&able))));
        }
    }
    let notes = vec![describe(plan, &crew, &main_cpus, is_users, &why)];
    Ok(Placement { crew, main_cpus, notes })
}

fn describe(plan: &Plan, crew: &Crew, main_cpus: &[u32], is_users: bool, why: &str) -> String {
    let lcores = |seats: &[usize]| list(&seats.iter().map(|&seat| crew.lcores[seat].0).collect::<Vec<_>>());
    let who = match &plan.settings.stages {
        Some(stages) => {
            let (receive, work) = (lcores(&crew.receive), lcores(&crew.work));
            let receive =
                if stages.are_spread() { format!("receive on lcores {receive}, work") } else { "receive and work".to_owned() };
            format!("{receive} on lcores {work}, transmit on lcores {}", lcores(&crew.transmit))
        }
        None => format!("workers on lcores {}", lcores(&crew.work)),
    };
    let main =
        if is_users { "CPUs as the EAL arguments say".to_owned() } else { format!("main thread on CPUs {}", list(main_cpus)) };
    format!("{who}, {why}; {main}")
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// What the machine says of its CPUs.
trait Machine {
    /// The NUMA node of a CPU.
    fn node(&self, cpu: u32) -> Option<u32>;
    /// CPUs that share a core with one, itself included.
    fn siblings(&self, cpu: u32) -> Vec<u32>;
}

/// By sysfs(5).
struct Topology;

impl Machine for Topology {
    fn node(&self, cpu: u32) -> Option<u32> {
        let entries = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}")).ok()?;
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("node")?.parse().ok()).next()
    }

    fn siblings(&self, cpu: u32) -> Vec<u32> {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        std::fs::read_to_string(path).map_or_else(|_| vec![cpu], |text| cpus_of(text.trim()))
    }
}

/// The CPUs of `0-1,4`, as sysfs writes them.
fn cpus_of(text: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// The NUMA nodes of the plan's PCI devices, in the order of the ports.
fn device_nodes(plan: &Plan) -> Vec<u32> {
    let node = |devargs: &str| {
        let address = devargs.split(',').next()?;
        let paths = [format!("/sys/bus/pci/devices/{address}/numa_node"), format!("/sys/bus/pci/devices/0000:{address}/numa_node")];
        let text =
            paths.iter().filter(|_| !address.contains('/')).find_map(|path| std::fs::read_to_string(Path::new(path)).ok())?;
        text.trim().parse().ok()
    };
    plan.ports.iter().filter(|port| port.replay.is_none()).filter_map(|port| node(&port.devargs)).collect()
}

/// One worker, and why there.
fn choose(cpus: &[u32], nodes: Vec<u32>, machine: &impl Machine) -> (Vec<u32>, String) {
    let Some(&main) = cpus.first() else { return (vec![0], "for want of knowledge of CPUs".to_owned()) };
    let others = &cpus[1..];
    if others.is_empty() {
        return (vec![main], "the only CPU; the main thread shares it".to_owned());
    }
    let siblings = machine.siblings(main);
    let is_apart = |cpu: u32| !siblings.contains(&cpu);
    let near = |cpu: u32| nodes.first().is_none_or(|&node| machine.node(cpu) == Some(node));
    let chosen = others.iter().copied().max_by_key(|&cpu| (near(cpu), is_apart(cpu), std::cmp::Reverse(cpu))).unwrap_or(main);
    let core = if is_apart(chosen) { "a core of its own" } else { "the core that the main thread is on, for want of another" };
    let node = match (nodes.first(), machine.node(chosen)) {
        (Some(_), Some(node)) if near(chosen) => format!(" on NUMA node {node}, where the first device is"),
        (Some(device), Some(node)) => {
            format!(" on NUMA node {node}; the first device is on node {device}, of whose CPUs none is free")
        }
        (None, Some(node)) => format!(" on NUMA node {node}; no device prefers one"),
        (_, None) => String::new(),
    };
    (vec![chosen], format!("chosen: {core}{node}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes of two cores with two threads each: CPUs 0-3 on node 0, and CPU n shares its core with n ^ 4.
    struct Box8;

    impl Machine for Box8 {
        fn node(&self, cpu: u32) -> Option<u32> {
            Some(cpu % 4 / 2)
        }

        fn siblings(&self, cpu: u32) -> Vec<u32> {
            vec![cpu % 4, cpu % 4 + 4]
        }
    }

    fn chosen(cpus: &[u32], nodes: &[u32]) -> (u32, String) {
        let (workers, why) = choose(cpus, nodes.to_vec(), &Box8);
        (workers[0], why)
    }

    #[test]
    fn the_worker_goes_where_the_first_device_is_and_off_the_main_threads_core() {
        let all: Vec<u32> = (0..8).collect();
        assert_eq!(chosen(&all, &[1, 0]).0, 2);
        assert_eq!(chosen(&all, &[0]).0, 1);
        assert_eq!(chosen(&[0, 4, 5], &[0]).0, 5);
        // node before core: memory that is far costs every packet
        let (cpu, why) = chosen(&[0, 2, 4], &[0]);
        assert!(cpu == 4 && why.contains("for want of another"), "{why}");
        let (cpu, why) = chosen(&[0, 1], &[1]);
        assert!(cpu == 1 && why.contains("first device is on node 1"), "{why}");
        assert_eq!(chosen(&[3], &[]).0, 3);
    }

    #[test]
    fn sysfs_lists_are_read() {
        assert_eq!(cpus_of("0-2,8,10-11"), [0, 1, 2, 8, 10, 11]);
        assert_eq!(cpus_of(""), [0; 0]);
    }
}
