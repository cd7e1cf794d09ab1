//! NICs on the PCI bus: who has them, and whether DPDK can take them; and the IOMMU, by which a program may.

use std::fs;

use super::cpus::kernel_argument;
use super::pmds::{Pmd, Pmds};
use super::{Finding, Roots};
use crate::plan::Run;
use tapline_dpdk::attach_advice::{FOR_PROGRAMS, pci_address};
use tapline_dpdk::driver::Devargs;

const AREA: &str = "nics";
const DEVICES: &str = "sys/bus/pci/devices";
/// The class of network controllers.
const NETWORK: &str = "0x02";

/// A NIC as the kernel shows it.
struct Nic<'a> {
    address: String,
    vendor: u64,
    device: u64,
    /// The driver of the kernel that it is bound to.
    driver: Option<String>,
    /// Its interface, where the kernel has it.
    interface: Option<String>,
    pmd: Option<&'a Pmd>,
    node: Option<i32>,
}

/// Returns the PCI address that devargs name.
pub(super) fn address_of(devargs: &Devargs) -> Option<String> {
    pci_address(devargs.written_device())
}

impl<'a> Nic<'a> {
    fn read(roots: &Roots, address: &str, pmds: &'a Pmds) -> Option<Self> {
        let folder = format!("{DEVICES}/{address}");
        let number = |name: &str| {
            let text = roots.read(&format!("{folder}/{name}"))?;
            u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
        };
        if !roots.read(&format!("{folder}/class"))?.starts_with(NETWORK) {
            return None;
        }
        let (vendor, device) = (number("vendor")?, number("device")?);
        let driver = fs::read_link(roots.root.join(&folder).join("driver")).ok();
        // virtio's interface is one level below
        let below = roots.names(&folder).into_iter().filter(|name| name.starts_with("virtio"));
        let places = std::iter::once(folder.clone()).chain(below.map(|name| format!("{folder}/{name}")));
        Some(Self {
            address: address.to_owned(),
            vendor,
            device,
            driver: driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
            interface: places.flat_map(|place| roots.names(&format!("{place}/net"))).next(),
            pmd: pmds.of_pci(vendor, device),
            node: roots.read(&format!("{folder}/numa_node")).and_then(|text| text.parse().ok()),
        })
    }

    fn is_for_programs(&self) -> bool {
        self.driver.as_deref().is_some_and(|driver| FOR_PROGRAMS.contains(&driver))
    }

    /// Returns whether DPDK takes it while a driver of the kernel has it.
    fn is_shared(&self) -> bool {
        !self.is_for_programs()
            && self.pmd.zip(self.driver.as_deref()).is_some_and(|(pmd, driver)| pmd.shares_with(driver))
    }

    fn bind(&self) -> String {
        format!("modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci {}", self.address)
    }

    /// Says who has it. A plan that names it does not run without a driver of DPDK and one that hands it over.
    fn finding(&self, is_asked_for: bool) -> Finding {
        let node =
            self.node.filter(|&node| node >= 0).map_or(String::new(), |node| format!(", NUMA node {node}"));
        let name = format!("{} [{:04x}:{:04x}{node}]", self.address, self.vendor, self.device);
        let lacks = |text: String| {
            if is_asked_for { Finding::gap(AREA, text) } else { Finding::advice(AREA, text) }
        };
        let Some(pmd) = self.pmd else {
            let text = format!("{name}: no driver of DPDK that is installed takes it");
            return match &self.interface {
                Some(interface) if !is_asked_for => {
                    Finding::fine(AREA, format!("{text}; iface:{interface} does"))
                }
                _ => lacks(text).mended_by("apt-get install librte-meta-allpmds"),
            };
        };
        let pmd = &pmd.name;
        match (&self.driver, &self.interface) {
            (None, _) => {
                lacks(format!("{name}: it is bound to no driver; {pmd} takes it")).mended_by(self.bind())
            }
            (Some(driver), _) if self.is_for_programs() || self.is_shared() => {
                Finding::fine(AREA, format!("{name}: {driver} hands it to programs; {pmd} takes it"))
            }
            (Some(driver), interface) => {
                let or =
                    interface.as_ref().map_or(String::new(), |name| format!(", or attach iface:{name}"));
                let text = format!(
                    "{name}: the kernel has it, by its driver {driver}; {pmd} takes it when it is bound to vfio-pci{or}"
                );
                if is_asked_for {
                    Finding::gap(AREA, text).mended_by(self.bind())
                } else {
                    // it may be the one by which this machine is reached: nobody is told to take it away
                    Finding::fine(AREA, text)
                }
            }
        }
    }
}

/// Looks at all NICs, and at those that a plan names.
pub(super) fn look(roots: &Roots, run: Option<Run<'_>>, pmds: &Pmds) -> Vec<Finding> {
    let asked: Vec<String> = run.map_or_else(Vec::new, |run| {
        run.plan.ports.iter().filter_map(|port| address_of(&port.devargs)).collect()
    });
    let nics: Vec<Nic<'_>> =
        roots.names(DEVICES).iter().filter_map(|address| Nic::read(roots, address, pmds)).collect();
    let mut findings: Vec<Finding> =
        nics.iter().map(|nic| nic.finding(asked.contains(&nic.address))).collect();
    for address in asked.iter().filter(|address| nics.iter().all(|nic| nic.address != **address)) {
        findings.push(Finding::gap(
            AREA,
            format!("there is no NIC {address}; `lspci -D` lists the PCI devices that there are"),
        ));
    }
    if nics.is_empty() {
        findings.push(Finding::fine(AREA, "there is none on the PCI bus"));
    }
    let is_asked = nics.iter().any(|nic| asked.contains(&nic.address) && !nic.is_shared());
    findings.push(iommu(roots, is_asked, !nics.is_empty()));
    findings
}

/// Looks at what lets a program have a NIC without all memory.
fn iommu(roots: &Roots, is_asked: bool, has_nic: bool) -> Finding {
    const AREA: &str = "iommu";
    let groups = roots.names("sys/kernel/iommu_groups").len();
    if groups > 0 {
        return Finding::fine(AREA, format!("it has {groups} groups"));
    }
    if roots.read("sys/module/vfio/parameters/enable_unsafe_noiommu_mode").as_deref() == Some("Y") {
        return Finding::fine(AREA, "there is none; VFIO does without, and a NIC reaches all memory");
    }
    let text = "there is none, or the kernel does not use it: vfio-pci takes no NIC";
    let cpu = roots.read("proc/cpuinfo").unwrap_or_default();
    let is_guest = cpu
        .lines()
        .any(|line| line.starts_with("flags") && line.split(' ').any(|flag| flag == "hypervisor"));
    let command = if is_guest {
        "modprobe vfio enable_unsafe_noiommu_mode=1 && echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode".to_owned()
    } else if cpu.contains("AuthenticAMD") {
        kernel_argument("iommu=pt")
    } else {
        kernel_argument("intel_iommu=on iommu=pt")
    };
    match (is_asked, has_nic) {
        (true, _) => Finding::gap(AREA, text).mended_by(command),
        (false, true) => Finding::advice(AREA, text).mended_by(command),
        (false, false) => Finding::fine(AREA, "there is none, and no NIC that would need it"),
    }
}
