//! Placement: which lcores do what, and why.
//!
//! Stands before EAL is started: it looks at the plan and at what the kernel says of CPUs and devices.

use crate::plan::value::PortPlan;
use crate::plan::{Plan, Run};
use crate::report::snapshot::lcore::Stages;
use tapline_api::event::Event;
use tapline_datapath::ids::PortId;
use tapline_dpdk::{LcoreId, eal};
use tapline_kernel::interface::is_in_sysfs;
use tapline_kernel::machine::available_cpus;
use tapline_packet::by_id::ById;

/// Which lcores the workers and the main thread have.
pub struct Placement {
    pub roles: LcoreRoles,
    /// CPUs for the main thread.
    pub main_cpus: Vec<u32>,
    /// The event that says what was chosen, and why.
    pub placed: Event,
}

/// Why a plan has no place on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{message}: {expected}")]
pub struct Misplaced {
    pub culprit: Culprit,
    pub message: String,
    pub expected: String,
}

/// The part of the pipeline file that asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Culprit {
    /// `set lcores`
    Lcores,
    /// `set workers`
    Workers,
    /// `lcores` of a port.
    Port(PortId),
}

/// The lcores that workers run on, and which of them, by index in `lcores`, do what. No list is empty.
#[derive(Default)]
pub struct LcoreRoles {
    pub lcores: Vec<LcoreId>,
    /// Poll ports that are spread.
    pub receive: Vec<usize>,
    /// Judge packets, and poll ports that are not spread.
    pub work: Vec<usize>,
    pub transmit: Vec<usize>,
    /// The workers on each port's NUMA node; `None` where the user chose the lcores or no worker is on the node.
    near: ById<PortId, Option<Vec<usize>>>,
}

impl LcoreRoles {
    fn of(plan: &Plan, lcores: Vec<u32>) -> Self {
        let workers = |stage: &[u32]| {
            stage.iter().filter_map(|lcore| lcores.iter().position(|other| other == lcore)).collect()
        };
        let all = || (0..lcores.len()).collect();
        let (receive, work, transmit) = match &plan.settings.stages {
            Some(stages) => (workers(&stages.receive), workers(&stages.work), workers(&stages.transmit)),
            None => (all(), all(), all()),
        };
        Self {
            receive,
            work,
            transmit,
            lcores: lcores.into_iter().map(LcoreId).collect(),
            near: ById::filled(plan.ports.len(), None),
        }
    }

    /// The same lcores with the same work, for the ports of another plan.
    pub fn for_ports_of(&self, plan: &Plan) -> Self {
        let nodes: Vec<Option<u32>> = plan.ports.iter().map(device_node).collect();
        let is_chosen = plan.settings.lcores.is_none();
        Self {
            lcores: self.lcores.clone(),
            receive: self.receive.clone(),
            work: self.work.clone(),
            transmit: self.transmit.clone(),
            near: if is_chosen {
                near(&self.lcores, &nodes, &Topology).into()
            } else {
                ById::filled(plan.ports.len(), None)
            },
        }
    }

    /// The workers that may poll a port: those that its `lcores` name, else those near its device, else all that poll ports of its
    /// kind.
    pub fn pollers(&self, plan: &Plan, port: PortId) -> Vec<usize> {
        let able = if plan.is_spread(port) { &self.receive } else { &self.work };
        let is_wanted = |worker: usize| match (&plan.ports[port].lcores, &self.near[port]) {
            (Some(wanted), _) => wanted.contains(&self.lcores[worker].0),
            (None, Some(near)) => near.contains(&worker),
            (None, None) => true,
        };
        able.iter().copied().filter(|&worker| is_wanted(worker)).collect()
    }

    /// The stages that a worker runs.
    pub fn stages_of(&self, worker: usize) -> Stages {
        let has = |stage: &[usize]| stage.contains(&worker);
        Stages { receives: has(&self.receive), works: has(&self.work), transmits: has(&self.transmit) }
    }
}

/// Lcores where the plan says; else as many workers as it asks for where `choose` puts them. The main thread has what is left.
///
/// # Errors
/// If the plan names CPUs that are not there, asks for more workers than CPUs, or has a port polled by an lcore that polls none of
/// its kind.
pub fn place(run: Run<'_>) -> Result<Placement, Misplaced> {
    let plan = run.plan;
    let cpus = available_cpus();
    let is_users = eal::says_lcores(&run.eal());
    let wanted = plan.settings.workers;
    let nodes: Vec<Option<u32>> = plan.ports.iter().map(device_node).collect();
    let (workers, why) = match &plan.settings.lcores {
        Some(lcores) => (lcores.clone(), "as the pipeline file says".to_owned()),
        None if is_users && wanted > 1 => {
            let message = format!("set workers {wanted}: the EAL arguments say which lcores there are");
            let expected = "expected `set lcores`, which names the workers".to_owned();
            return Err(Misplaced { culprit: Culprit::Workers, message, expected });
        }
        None if wanted > cpus.len().max(1) => {
            let (count, have) = (cpus.len(), list(&cpus));
            let message = format!(
                "set workers {wanted}: this machine gives Tapline {count} CPUs ({have}), and each worker takes one"
            );
            return Err(Misplaced {
                culprit: Culprit::Workers,
                message,
                expected: format!("expected at most {count}"),
            });
        }
        None => choose(&cpus, wanted, &nodes, &Topology),
    };
    if let Some(missing) = workers.iter().find(|cpu| !is_users && !cpus.contains(cpu)) {
        let message = format!("lcore {missing}: this machine gives Tapline the CPUs {}", list(&cpus));
        return Err(Misplaced {
            culprit: Culprit::Lcores,
            message,
            expected: "expected some of those".to_owned(),
        });
    }
    let main_cpus = left_for_main(&cpus, &workers, &Topology);
    let mut roles = LcoreRoles::of(plan, workers);
    if plan.settings.lcores.is_none() {
        roles.near = near(&roles.lcores, &nodes, &Topology).into();
    }
    for (id, port) in plan.ports.entries() {
        let pollers = roles.pollers(plan, id).len();
        if let Some(wanted) = port.lcores.as_ref().filter(|wanted| pollers < wanted.len()) {
            let able = if plan.is_spread(id) { &roles.receive } else { &roles.work };
            let able: Vec<u32> = able.iter().map(|&worker| roles.lcores[worker].0).collect();
            let (name, wanted) = (&port.name, list(wanted));
            let message =
                format!("port {name}: lcores {wanted}: this port can be polled by lcores {}", list(&able));
            let expected =
                "expected some of those: the lcores that `set lcores` gives to the stage".to_owned();
            return Err(Misplaced { culprit: Culprit::Port(id), message, expected });
        }
    }
    let placed = placed(plan, &roles, &main_cpus, is_users, why);
    Ok(Placement { roles, main_cpus, placed })
}

/// Returns the event that says where workers and the main thread are.
fn placed(plan: &Plan, roles: &LcoreRoles, main_cpus: &[u32], is_users: bool, why: String) -> Event {
    let lcores =
        |workers: &[usize]| workers.iter().map(|&worker| roles.lcores[worker].0).collect::<Vec<_>>();
    let (receive, transmit) = match &plan.settings.stages {
        Some(stages) if stages.are_spread() => (lcores(&roles.receive), lcores(&roles.transmit)),
        Some(_) => (Vec::new(), lcores(&roles.transmit)),
        None => (Vec::new(), Vec::new()),
    };
    let main_cpus = if is_users { Vec::new() } else { main_cpus.to_vec() };
    Event::WorkersPlaced { receive, work: lcores(&roles.work), transmit, main_cpus, why }
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// The machine's facts about its CPUs.
trait Machine {
    /// The NUMA node of a CPU.
    fn node(&self, cpu: u32) -> Option<u32>;
    /// CPUs that share a core with one, itself included.
    fn siblings(&self, cpu: u32) -> Vec<u32>;
}

/// The facts of this machine, by sysfs(5).
struct Topology;

impl Machine for Topology {
    fn node(&self, cpu: u32) -> Option<u32> {
        let entries = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}")).ok()?;
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("node")?.parse().ok())
            .next()
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

/// The NUMA node of a port's device: a PCI address, or a kernel interface (`iface=`) on one. `None` where the port has none, or
/// only transmits.
pub(super) fn device_node(port: &PortPlan) -> Option<u32> {
    if port.replay.is_some() || port.rxq == Some(0) {
        return None;
    }
    let address = port.devargs.written_device();
    let interface = port.devargs.argument("iface").filter(|name| is_in_sysfs(name));
    let paths = [
        format!("/sys/bus/pci/devices/{address}/numa_node"),
        format!("/sys/bus/pci/devices/0000:{address}/numa_node"),
        format!("/sys/class/net/{}/device/numa_node", interface.unwrap_or_default()),
    ];
    let is_name = |text: &str| !text.contains('/');
    let text = paths
        .iter()
        .filter(|_| is_name(address) && interface.is_none_or(is_name))
        .find_map(|path| std::fs::read_to_string(path).ok())?;
    // -1 where the machine does not say
    text.trim().parse().ok()
}

/// Puts `wanted` workers on CPUs, and says why there.
///
/// Node before core, since memory that is far costs every packet: each node that has devices gets a worker, those with most devices
/// first, then further ones in proportion to its devices, as far as it has CPUs. On a node, cores that have no worker come before
/// those that have one, and the main thread's core and CPU come last among equals. Without knowledge of devices all go to one node.
/// `nodes` are the devices' where they are known; `wanted` is at least 1, and at most the number of CPUs.
fn choose(
    cpus: &[u32],
    wanted: usize,
    nodes: &[Option<u32>],
    machine: &impl Machine,
) -> (Vec<u32>, String) {
    let Some(&main) = cpus.first() else { return (vec![0], "for want of knowledge of CPUs".to_owned()) };
    let mut devices: Vec<(u32, usize)> = Vec::new();
    for &node in nodes.iter().flatten() {
        match devices.iter_mut().find(|(other, _)| *other == node) {
            Some((_, count)) => *count += 1,
            None => devices.push((node, 1)),
        }
    }
    let is_known = !devices.is_empty();
    if !is_known {
        devices.extend(machine.node(main).map(|node| (node, 1)));
    }
    let main_core = machine.siblings(main);
    let mut chosen: Vec<u32> = Vec::new();
    while chosen.len() < wanted.min(cpus.len()) {
        let taken_on = |node: u32| chosen.iter().filter(|&&cpu| machine.node(cpu) == Some(node)).count();
        let free = |cpu: u32| !chosen.contains(&cpu);
        let has_room = |node: u32| cpus.iter().any(|&cpu| free(cpu) && machine.node(cpu) == Some(node));
        // a share is compared without fractions: devices / (workers there + 1) against that of another node
        let mut node: Option<(u32, usize, usize)> = None;
        for &(other, count) in devices.iter().filter(|&&(other, _)| has_room(other)) {
            let taken = taken_on(other);
            let is_better =
                node.is_none_or(|(_, best_count, best_taken)| match (best_taken == 0, taken == 0) {
                    (true, false) => false,
                    (false, true) => true,
                    _ => count * (best_taken + 1) > best_count * (taken + 1),
                });
            if is_better {
                node = Some((other, count, taken));
            }
        }
        let cost = |cpu: u32| {
            let core = machine.siblings(cpu);
            (
                chosen.iter().filter(|other| core.contains(other)).count(),
                cpu == main,
                main_core.contains(&cpu),
                cpu,
            )
        };
        let is_near = |cpu: u32| node.is_none_or(|(node, ..)| machine.node(cpu) == Some(node));
        let Some(cpu) =
            cpus.iter().copied().filter(|&cpu| free(cpu) && is_near(cpu)).min_by_key(|&cpu| cost(cpu))
        else {
            break;
        };
        chosen.push(cpu);
    }
    chosen.sort_unstable();
    let why = format!(
        "chosen: {}{}",
        cores(cpus, &chosen, machine),
        devices_near(&chosen, is_known, &devices, machine)
    );
    (chosen, why)
}

/// The CPUs that no worker has; those on cores without workers, if there are such; all where workers have all.
fn left_for_main(cpus: &[u32], workers: &[u32], machine: &impl Machine) -> Vec<u32> {
    let spare: Vec<u32> = cpus.iter().copied().filter(|cpu| !workers.contains(cpu)).collect();
    let is_apart = |cpu: u32| !machine.siblings(cpu).iter().any(|sibling| workers.contains(sibling));
    let apart: Vec<u32> = spare.iter().copied().filter(|&cpu| is_apart(cpu)).collect();
    [apart, spare].into_iter().find(|list| !list.is_empty()).unwrap_or_else(|| cpus.to_vec())
}

/// Says where the workers are, and whom they share their cores with.
fn cores(cpus: &[u32], workers: &[u32], machine: &impl Machine) -> String {
    let main = left_for_main(cpus, workers, machine);
    let with = |cpu: u32, others: &[u32]| {
        machine.siblings(cpu).iter().any(|other| *other != cpu && others.contains(other))
    };
    let shared: Vec<u32> = workers.iter().copied().filter(|&cpu| with(cpu, workers)).collect();
    let beside_main = workers.iter().any(|&cpu| main.contains(&cpu) || with(cpu, &main));
    let on = on_nodes(workers, machine);
    let text = match (shared.as_slice(), beside_main, workers) {
        ([], false, [_]) => "a core of its own".to_owned(),
        ([], true, [_]) if cpus.len() == 1 => "the only CPU, which the main thread shares".to_owned(),
        ([], true, [_]) => "the core that the main thread is on, for want of another".to_owned(),
        ([], ..) => "a core for each".to_owned(),
        (shared, ..) => format!("lcores {} share cores for want of others", list(shared)),
    };
    let beside = if beside_main && workers.len() > 1 { ", the main thread beside them" } else { "" };
    format!("{text}{on}{beside}")
}

/// ` on NUMA nodes 0,1`, where they are known.
fn on_nodes(workers: &[u32], machine: &impl Machine) -> String {
    let mut nodes: Vec<u32> = workers.iter().filter_map(|&cpu| machine.node(cpu)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    match nodes.as_slice() {
        [] => String::new(),
        [node] => format!(" on NUMA node {node}"),
        nodes => format!(" on NUMA nodes {}", list(nodes)),
    }
}

/// Says which devices and workers the nodes have.
fn devices_near(
    workers: &[u32],
    is_known: bool,
    devices: &[(u32, usize)],
    machine: &impl Machine,
) -> String {
    if !is_known {
        return if devices.is_empty() { String::new() } else { "; no device prefers a node".to_owned() };
    }
    let count = |(node, count): &(u32, usize)| {
        let taken = workers.iter().filter(|&&cpu| machine.node(cpu) == Some(*node)).count();
        let devices = if *count == 1 { "device" } else { "devices" };
        format!("node {node} has {count} {devices} and {taken} of the workers")
    };
    format!("; {}", devices.iter().map(count).collect::<Vec<_>>().join(", "))
}

/// Gives for each port the workers on its device's node, if there are such.
fn near(workers: &[LcoreId], nodes: &[Option<u32>], machine: &impl Machine) -> Vec<Option<Vec<usize>>> {
    let on = |node: u32| {
        let there: Vec<usize> =
            (0..workers.len()).filter(|&worker| machine.node(workers[worker].0) == Some(node)).collect();
        (!there.is_empty()).then_some(there)
    };
    nodes.iter().map(|node| node.and_then(on)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes of two cores with two threads each: CPUs 0, 1, 4, 5 on node 0, and CPU n shares its core with n ^ 4.
    struct Box8;

    impl Machine for Box8 {
        fn node(&self, cpu: u32) -> Option<u32> {
            Some(cpu % 4 / 2)
        }

        fn siblings(&self, cpu: u32) -> Vec<u32> {
            vec![cpu % 4, cpu % 4 + 4]
        }
    }

    const ALL: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

    fn several(cpus: &[u32], wanted: usize, nodes: &[u32]) -> (Vec<u32>, String) {
        let nodes: Vec<Option<u32>> = nodes.iter().copied().map(Some).collect();
        choose(cpus, wanted, &nodes, &Box8)
    }

    fn chosen(cpus: &[u32], nodes: &[u32]) -> (u32, String) {
        let (workers, why) = several(cpus, 1, nodes);
        (workers[0], why)
    }

    #[test]
    fn the_worker_goes_where_most_devices_are_and_off_the_main_threads_core() {
        assert_eq!(chosen(&ALL, &[1, 0]).0, 2, "the first of equals");
        assert_eq!(chosen(&ALL, &[1, 0, 0]).0, 1);
        assert_eq!(
            chosen(&ALL, &[0]),
            (
                1,
                "chosen: a core of its own on NUMA node 0; node 0 has 1 device and 1 of the workers"
                    .to_owned()
            )
        );
        assert_eq!(chosen(&[0, 4, 5], &[0]).0, 5);
        // node before core: memory that is far costs every packet
        assert_eq!(chosen(&[0, 2, 4], &[0]).0, 4);
        let (cpu, why) = chosen(&[0, 4], &[0]);
        assert!(cpu == 4 && why.contains("for want of another"), "{why}");
        let (cpu, why) = chosen(&[0, 1], &[1]);
        assert!(cpu == 1 && why.contains("node 1 has 1 device and 0 of the workers"), "{why}");
        let (cpu, why) = chosen(&[3], &[]);
        assert!(cpu == 3 && why.contains("the only CPU"), "{why}");
    }

    #[test]
    fn several_workers_are_shared_out_by_the_devices_of_each_node() {
        assert_eq!(several(&ALL, 2, &[0, 1]).0, [1, 2]);
        assert_eq!(several(&ALL, 3, &[0, 1, 1]).0, [1, 2, 3]);
        assert_eq!(several(&ALL, 2, &[0, 0, 0, 0, 1]).0, [1, 2], "each node that has devices has a worker");
        assert_eq!(several(&ALL, 4, &[0, 0, 0, 1]).0, [1, 2, 4, 5]);
        let (_, why) = several(&ALL, 3, &[0, 1, 1]);
        let nodes = "on NUMA nodes 0,1; node 0 has 1 device and 1 of the workers, node 1 has 2 devices and 2 of the workers";
        assert_eq!(why, format!("chosen: a core for each {nodes}"));
    }

    #[test]
    fn each_core_has_a_worker_before_one_has_two_and_the_main_thread_gives_way_last() {
        assert_eq!(several(&ALL, 2, &[0]).0, [1, 4], "the main thread's core before a worker's sibling");
        assert_eq!(several(&ALL, 3, &[0]).0, [1, 4, 5]);
        assert_eq!(several(&ALL, 4, &[0]).0, [0, 1, 4, 5]);
        assert_eq!(
            several(&ALL, 5, &[0]).0,
            [0, 1, 2, 4, 5],
            "other nodes take what the devices' has no room for"
        );
        assert_eq!(several(&ALL, 8, &[0, 1]).0, ALL);
        let (workers, why) = several(&ALL, 2, &[]);
        assert!(
            workers == [1, 4] && why.ends_with("on NUMA node 0; no device prefers a node"),
            "{workers:?} {why}"
        );
        let (_, why) = several(&ALL, 3, &[1]);
        assert!(
            why.starts_with("chosen: lcores 2,6 share cores for want of others on NUMA node 1"),
            "{why}"
        );
    }

    #[test]
    fn the_main_thread_keeps_off_workers_cores_as_far_as_it_can() {
        assert_eq!(left_for_main(&ALL, &[1], &Box8), [0, 2, 3, 4, 6, 7]);
        assert_eq!(left_for_main(&ALL, &[1, 2, 4], &Box8), [3, 7]);
        assert_eq!(left_for_main(&[0, 1, 4, 5], &[0, 1], &Box8), [4, 5]);
        assert_eq!(left_for_main(&[0, 1], &[0, 1], &Box8), [0, 1]);
    }

    #[test]
    fn ports_are_polled_on_their_own_node_where_workers_are_there() {
        let workers = [1, 2, 3].map(LcoreId);
        let ports = near(&workers, &[Some(0), Some(1), None, Some(7)], &Box8);
        assert_eq!(ports, [Some(vec![0]), Some(vec![1, 2]), None, None]);
    }

    proptest::proptest! {
        #[test]
        fn any_number_of_workers_get_a_cpu_each(mask in 1u32..256, wanted in 1usize..9, nodes in proptest::collection::vec(0u32..4, 0..6)) {
            let cpus: Vec<u32> = ALL.into_iter().filter(|cpu| mask & 1 << cpu != 0).collect();
            let wanted = wanted.min(cpus.len());
            let (mut workers, _) = several(&cpus, wanted, &nodes);
            proptest::prop_assert!(workers.iter().all(|cpu| cpus.contains(cpu)));
            workers.dedup();
            proptest::prop_assert_eq!(workers.len(), wanted);
        }
    }

    #[test]
    fn sysfs_lists_are_read() {
        assert_eq!(cpus_of("0-2,8,10-11"), [0, 1, 2, 8, 10, 11]);
        assert_eq!(cpus_of(""), [0; 0]);
    }
}
