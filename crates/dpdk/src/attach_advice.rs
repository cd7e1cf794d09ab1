//! Advice where DPDK does not take a device: most often its own words do not have the reason.
//! # Source
//! DPDK, "Linux Drivers" of the Getting Started Guide; Linux, Documentation/ABI/testing/sysfs-bus-pci.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use super::driver::{Devargs, KernelCounter, Takes};
use tapline_kernel::interface;
use tapline_kernel::process::{Right, has_right};

/// Drivers of the kernel that hand a PCI device to a program.
pub const FOR_PROGRAMS: [&str; 3] = ["vfio-pci", "igb_uio", "uio_pci_generic"];
/// The folder in which the kernel shows PCI devices.
const PCI_DEVICES: &str = "/sys/bus/pci/devices";

/// Says what is wrong with a device that DPDK did not take, and what mends it, as far as that can be seen; `logged` is what DPDK said.
pub(crate) fn advice(devargs: &Devargs, logged: &str) -> Option<String> {
    if let Some(address) = pci_address(devargs.written_device()) {
        return of_pci(&Path::new(PCI_DEVICES).join(&address), &address);
    }
    let driver = devargs.driver()?;
    // EAL finds no driver of the name: those of distributions are packages of their own
    if logged.contains("failed to parse device") {
        let package = driver.name.replace('_', "-");
        return Some(format!(
            "the DPDK that is installed has no driver {}; install its package (Debian, Ubuntu: librte-{package} and the ABI's number)",
            driver.name
        ));
    }
    let mut interfaces = devargs.arguments().filter(|argument| driver.interfaces.contains(&argument.name));
    if let Some(missing) = interfaces.find(|argument| interface::Index::of(argument.value).is_none()) {
        return Some(format!("there is no interface `{}` here", missing.value));
    }
    let needed = rights_of(devargs);
    let lacks = needed.iter().any(|&right| !has_right(right));
    let words: Vec<&str> = needed.iter().map(|right| right.word()).collect();
    let words = match words.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => words.concat(),
    };
    lacks.then(|| format!("{} needs {words}; run as root, or give it to the program", driver.name))
}

/// Gives the rights that the driver of a device needs.
pub fn rights_of(devargs: &Devargs) -> &'static [Right] {
    let Some(driver) = devargs.driver() else { return &[] };
    let has_interface = || devargs.arguments().any(|argument| driver.interfaces.contains(&argument.name));
    match (driver.kernel_counter, driver.takes) {
        (KernelCounter::PacketSockets, _) => &[Right::NetRaw],
        (KernelCounter::XdpSockets, _) => &[Right::NetRaw, Right::NetAdmin, Right::Bpf],
        (_, Takes::Kernel { makes_interface: true, .. }) => &[Right::NetAdmin],
        (_, Takes::Kernel { .. }) if has_interface() => &[Right::NetRaw],
        _ => &[],
    }
}

/// Gives the whole address, if a device's name is one of PCI: `0000:03:00.0` or `03:00.0`.
pub fn pci_address(device: &str) -> Option<String> {
    let device = device.strip_prefix("pci:").unwrap_or(device);
    let is_hex = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = device.split([':', '.']).collect();
    if !device.contains('.') || !parts.iter().all(|part| is_hex(part)) {
        return None;
    }
    match parts.len() {
        3 => Some(format!("0000:{device}")),
        4 => Some(device.to_owned()),
        _ => None,
    }
}

/// Gives the reason why DPDK does not take the PCI device that the kernel shows in `folder`.
fn of_pci(folder: &Path, address: &str) -> Option<String> {
    const NETWORK: &str = "0x02";
    if !folder.exists() {
        return Some(format!("there is no PCI device {address}; `lspci -D` lists those that there are"));
    }
    let class = fs::read_to_string(folder.join("class")).unwrap_or_default();
    if !class.is_empty() && !class.starts_with(NETWORK) {
        return Some(format!("PCI device {address} is no NIC (class {})", class.trim()));
    }
    let driver: Option<PathBuf> = fs::read_link(folder.join("driver")).ok();
    let driver =
        driver.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let bind = format!("bind it to vfio-pci: dpdk-devbind.py --bind=vfio-pci {address}");
    match driver {
        None => Some(format!("PCI device {address} is bound to no driver; {bind}")),
        Some(driver) if FOR_PROGRAMS.contains(&driver.as_str()) => Some(format!(
            "PCI device {address} is bound to {driver}: another program may have it, or DPDK has no driver for it (packages librte-net-*)"
        )),
        Some(driver) => {
            let interface = fs::read_dir(folder.join("net")).ok().and_then(|mut names| names.next()?.ok());
            let or = interface.map_or(String::new(), |interface| {
                format!(", or attach iface:{}", interface.file_name().to_string_lossy())
            });
            Some(format!("PCI device {address} is the kernel's, by its driver {driver}; {bind}{or}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pci_device_is_told_by_what_the_kernel_shows_of_it() {
        let root = tempfile::tempdir().expect("a folder for the test");
        let of = |name: &str, class: Option<&str>, driver: Option<&str>, interface: Option<&str>| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).expect("a writable folder");
            if let Some(class) = class {
                fs::write(folder.join("class"), class).expect("a writable folder");
            }
            if let Some(driver) = driver {
                let to = format!("../../bus/pci/drivers/{driver}");
                std::os::unix::fs::symlink(to, folder.join("driver")).expect("a writable folder");
            }
            if let Some(name) = interface {
                fs::create_dir_all(folder.join("net").join(name)).expect("a writable folder");
            }
            of_pci(&folder, "0000:03:00.0").expect("advice")
        };
        let bind = "bind it to vfio-pci: dpdk-devbind.py --bind=vfio-pci 0000:03:00.0";
        assert_eq!(
            of("a", Some("0x020000\n"), Some("e1000e"), Some("eth7")),
            format!(
                "PCI device 0000:03:00.0 is the kernel's, by its driver e1000e; {bind}, or attach iface:eth7"
            )
        );
        assert_eq!(
            of("b", Some("0x020000\n"), None, None),
            format!("PCI device 0000:03:00.0 is bound to no driver; {bind}")
        );
        assert_eq!(
            of("c", Some("0x010601\n"), Some("ahci"), None),
            "PCI device 0000:03:00.0 is no NIC (class 0x010601)"
        );
        assert!(of("d", Some("0x020000\n"), Some("vfio-pci"), None).contains("another program"));
        let missing = of_pci(&root.path().join("none"), "0000:03:00.0");
        assert!(missing.is_some_and(|text| text.starts_with("there is no PCI device 0000:03:00.0")));
    }

    #[test]
    fn addresses_of_pci_are_told_from_other_devices() {
        for (device, address) in [
            ("0000:03:00.0", Some("0000:03:00.0")),
            ("03:00.1", Some("0000:03:00.1")),
            ("pci:03:00.1", Some("0000:03:00.1")),
            ("net_pcap0", None),
            ("eth0.7", None),
            ("", None),
        ] {
            assert_eq!(pci_address(device).as_deref(), address, "{device}");
        }
    }

    #[test]
    fn a_driver_that_eal_does_not_find_is_a_package_that_lacks() {
        let said = "EAL: failed to parse device \"net_af_xdp0\"";
        let text = advice(&Devargs::new("net_af_xdp0,iface=lo"), said).expect("advice");
        assert!(text.contains("librte-net-af-xdp"), "{text}");
        let text = advice(&Devargs::new("net_af_packet0,iface=no-such"), "").expect("advice");
        assert_eq!(text, "there is no interface `no-such` here");
        assert_eq!(advice(&Devargs::new("net_null0"), ""), None);
    }
}
