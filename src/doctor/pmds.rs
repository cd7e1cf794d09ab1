//! Drivers of DPDK that are installed: what each library says of itself.
//! # Source
//! DPDK, `RTE_PMD_EXPORT_NAME` and buildtools/pmdinfogen: a library holds `PMD_INFO_STRING= ` and a JSON object, with `pci_ids` of
//! vendor, device, vendor and device of the subsystem; 65535 stands for any.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Finding, Roots, names_in};
use crate::plan::Run;
use crate::plan::value::PortPlan;

/// The largest library that is read, in bytes: those of DPDK 22.11 have at most 10 MiB.
const LARGEST: u64 = 64 << 20;
const MARK: &[u8] = b"PMD_INFO_STRING= ";
/// The number that stands for any in `pci_ids`.
const ANY: u64 = 65535;

/// A driver of DPDK.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pmd {
    pub name: String,
    /// Drivers of the kernel that its devices are bound to.
    pub modules: String,
    ids: Vec<[u64; 2]>,
}

impl Pmd {
    fn of(value: &Value) -> Option<Self> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let id = |id: &Value| Some([id[0].as_u64()?, id[1].as_u64()?]);
        let ids = value["pci_ids"].as_array().map_or(&[][..], Vec::as_slice);
        Some(Self {
            name: text("name")?,
            modules: text("kmod").unwrap_or_default(),
            ids: ids.iter().filter_map(id).collect(),
        })
    }

    /// Returns whether it takes PCI devices of these numbers.
    pub(super) fn takes(&self, vendor: u64, device: u64) -> bool {
        self.ids.iter().any(|&[of, number]| of == vendor && (number == device || number == ANY))
    }

    /// Returns whether its devices stay with a driver of the kernel.
    pub(super) fn shares_with(&self, module: &str) -> bool {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        self.modules.split(|c| !is_word(c)).any(|word| word == module)
    }
}

/// All drivers that are installed.
pub(super) struct Pmds {
    folder: PathBuf,
    /// The number behind the names of packages.
    abi: String,
    pub all: Vec<Pmd>,
}

impl Pmds {
    /// Reads the folder that DPDK takes its drivers from, and those that EAL arguments name.
    pub(super) fn read(roots: &Roots, run: Option<Run<'_>>) -> Self {
        let folder = roots.pmds.clone();
        let abi = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let abi = abi.trim_start_matches("pmds-").split('.').next().unwrap_or_default().to_owned();
        let arguments = run.map(|run| run.eal()).unwrap_or_default();
        let named = arguments.iter().enumerate().filter_map(|(index, argument)| {
            match argument.strip_prefix("-d") {
                Some("") => arguments.get(index + 1).map(PathBuf::from),
                path => path.map(PathBuf::from),
            }
        });
        let mut all = Vec::new();
        for place in std::iter::once(folder.clone()).chain(named) {
            if place.is_dir() {
                names_in(&place).iter().for_each(|name| add(&place.join(name), &mut all));
            } else {
                add(&place, &mut all);
            }
        }
        Self { folder, abi, all }
    }

    /// Returns the driver that takes PCI devices of these numbers.
    pub(super) fn of_pci(&self, vendor: u64, device: u64) -> Option<&Pmd> {
        self.all.iter().find(|pmd| pmd.takes(vendor, device))
    }

    /// Looks whether the drivers of a plan's virtual devices are there.
    pub(super) fn look(&self, run: Option<Run<'_>>) -> Vec<Finding> {
        const AREA: &str = "drivers";
        let folder = self.folder.display();
        let mut findings = Vec::new();
        if self.all.is_empty() {
            let text = format!("there is no driver of DPDK in {folder}");
            let package = format!("apt-get install {}", self.package("net_pcap"));
            findings.push(match run {
                Some(run)
                    if run.plan.ports.iter().any(|port| driver_of(port).is_none() && port.is_ethdev()) =>
                {
                    Finding::gap(AREA, text).mended_by(package)
                }
                _ => Finding::advice(AREA, text).mended_by(package),
            });
        } else {
            findings
                .push(Finding::fine(AREA, format!("{} drivers of DPDK are in {folder}", self.all.len())));
        }
        let Some(run) = run else { return findings };
        let mut told: Vec<&str> = Vec::new();
        for port in run.plan.ports.iter() {
            let Some(driver) = driver_of(port).filter(|driver| !told.contains(driver)) else { continue };
            told.push(driver);
            findings.push(if self.all.iter().any(|pmd| pmd.name == driver) {
                Finding::fine(AREA, format!("port {}: {driver} is installed", port.name))
            } else {
                Finding::gap(AREA, format!("port {}: DPDK has no driver {driver} in {folder}", port.name))
                    .mended_by(format!("apt-get install {}", self.package(driver)))
            });
        }
        findings
    }

    fn package(&self, driver: &str) -> String {
        format!("librte-{}{}", driver.replace('_', "-"), self.abi)
    }
}

/// Returns the driver of a virtual device: its name without the number.
fn driver_of(port: &PortPlan) -> Option<&str> {
    let device = port.devargs.device();
    let driver = device.trim_end_matches(|c: char| c.is_ascii_digit());
    (port.is_ethdev() && driver.starts_with("net_")).then_some(driver)
}

/// Adds the drivers that a library says it has. Links to a library say nothing more.
fn add(path: &Path, all: &mut Vec<Pmd>) {
    let is_library = |there: fs::Metadata| there.is_file() && there.len() <= LARGEST;
    if !fs::symlink_metadata(path).is_ok_and(is_library) {
        return;
    }
    let Ok(bytes) = fs::read(path) else { return };
    let mut rest = &bytes[..];
    while let Some(at) = rest.iter().position(|&byte| byte == MARK[0]) {
        rest = &rest[at..];
        let Some(text) = rest.strip_prefix(MARK) else {
            rest = &rest[1..];
            continue;
        };
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        let value: Option<Value> = serde_json::from_slice(&text[..end]).ok();
        all.extend(value.as_ref().and_then(Pmd::of));
        rest = &text[end..];
    }
}
