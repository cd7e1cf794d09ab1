//! `tapline doctor` on machines that are made up: folders with the files that a kernel would show, and a library of DPDK's drivers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tapline::doctor::{Finding, Level, Report, Roots, examine};
use tapline::plan::{Plan, Run, RunOptions, Surroundings, plan};
use tapline_lang as lang;

/// A machine of two CPUs with two NICs of Intel's: one is the kernel's, one is nobody's.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().expect("a folder for the test"));
        machine.write("proc/meminfo", "MemAvailable: 8000000 kB\nHugepagesize:       2048 kB\n");
        machine.rights(u64::MAX);
        machine.write("sys/devices/system/cpu/isolated", "\n");
        machine.pages(4, 0);
        machine.nic("0000:03:00.0", "0x100e", Some("e1000"), Some("eth7"));
        machine.nic("0000:04:00.0", "0x100e", None, None);
        let driver = |name: &str, modules: &str, ids: &str| {
            format!(
                "PMD_INFO_STRING= {{\"name\": \"{name}\", \"kmod\": \"{modules}\", \"pci_ids\": [{ids}]}}\0"
            )
        };
        let drivers = [
            driver("net_e1000_em", "* igb_uio | vfio-pci", "[32902, 4110, 65535, 65535]"),
            driver("mlx5_eth", "* ib_uverbs & mlx5_core & mlx5_ib", "[5555, 4119, 65535, 65535]"),
            driver("net_null", "", ""),
        ];
        machine.write("pmds-23.0/librte_some.so.23.0", format!("\x7fELF P PMD {}", drivers.join("\0P\0")));
        machine
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
        fs::write(path, content).expect("a writable folder");
    }

    /// Pages of 2 MiB, and how many are free.
    fn pages(&self, total: u64, free: u64) {
        self.write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", format!("{total}\n"));
        self.write("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", format!("{free}\n"));
    }

    fn rights(&self, effective: u64) {
        let status = format!("Name:\ttapline\nCapEff:\t{effective:016x}\nCpus_allowed_list:\t0-1\n");
        self.write("proc/self/status", status);
    }

    fn nic(&self, address: &str, device: &str, driver: Option<&str>, interface: Option<&str>) {
        let folder = format!("sys/bus/pci/devices/{address}");
        self.write(&format!("{folder}/class"), "0x020000\n");
        self.write(&format!("{folder}/vendor"), if device == "0x1017" { "0x15b3\n" } else { "0x8086\n" });
        self.write(&format!("{folder}/device"), format!("{device}\n"));
        let link = self.path(&format!("{folder}/driver"));
        let _ = fs::remove_file(&link);
        if let Some(driver) = driver {
            symlink(format!("../../../bus/pci/drivers/{driver}"), link).expect("a link");
        }
        if let Some(interface) = interface {
            self.write(&format!("{folder}/net/{interface}/mtu"), "1500\n");
        }
    }

    fn examine(&self, text: Option<&str>) -> Report {
        let roots = Roots { root: self.0.path().to_owned(), pmds: self.path("pmds-23.0") };
        let Some(text) = text else { return examine(&roots, None, None) };
        let plan: Plan =
            plan(&mut lang::parse_text("test", text, &[]), &Surroundings::fixed()).expect("a plan");
        let options = RunOptions::default();
        examine(&roots, Some(Path::new("test.pipe")), Some(Run { plan: &plan, options: &options }))
    }

    /// The gaps of a pipeline file, each with the command that mends it.
    fn gaps(&self, text: &str) -> Vec<(String, Option<String>)> {
        let report = self.examine(Some(text));
        assert_eq!(report.is_ready(), report.count(Level::Gap) == 0);
        let gaps = report.findings.into_iter().filter(|finding| finding.level == Level::Gap);
        gaps.map(|finding| (finding.text, finding.command)).collect()
    }
}

/// A file that takes from one device.
fn from(device: &str) -> String {
    format!("port attach in {device}\ntool create t discard\nrule create 10 from in to t\n")
}

fn of<'a>(report: &'a Report, area: &str) -> Vec<&'a Finding> {
    report.findings.iter().filter(|finding| finding.area == area).collect()
}

#[test]
fn a_machine_without_huge_pages_runs_and_is_told_the_command_that_reserves_them() {
    let machine = Machine::new();
    let report = machine.examine(None);
    assert!(report.is_ready());
    let [pages] = of(&report, "huge pages")[..] else { panic!("{report}") };
    // a GiB of 2 MiB, beside the four that others have
    assert_eq!(
        (pages.level, pages.command.as_deref()),
        (Level::Advice, Some("sysctl -w vm.nr_hugepages=516"))
    );
    machine.pages(516, 512);
    let report = machine.examine(None);
    assert_eq!(of(&report, "huge pages")[0].level, Level::Fine);
}

#[test]
fn huge_pages_that_the_file_asks_for_are_a_gap_until_there_are_as_many_as_the_command_says() {
    let machine = Machine::new();
    let pipeline = format!("set eal \"--in-memory\"\n{}", from("net_null0"));
    let gaps = machine.gaps(&pipeline);
    let [(_, Some(command))] = &gaps[..] else { panic!("{gaps:?}") };
    let total: u64 =
        command.strip_prefix("sysctl -w vm.nr_hugepages=").expect("it").parse().expect("a number");
    machine.pages(total, total - 4);
    assert_eq!(machine.gaps(&pipeline), []);
    // one page fewer is too few
    machine.pages(total - 1, total - 5);
    assert_eq!(machine.gaps(&pipeline).len(), 1);
}

#[test]
fn nics_are_told_by_who_has_them_and_by_whether_dpdk_has_a_driver() {
    let machine = Machine::new();
    machine.nic("0000:05:00.0", "0x1017", Some("mlx5_core"), Some("eth8"));
    machine.nic("0000:06:00.0", "0xffff", Some("strange"), Some("eth9"));
    machine.nic("0000:07:00.0", "0x100e", Some("vfio-pci"), None);
    let report = machine.examine(None);
    let nics = of(&report, "nics");
    let levels: Vec<Level> = nics.iter().map(|finding| finding.level).collect();
    assert_eq!(levels, [Level::Fine, Level::Advice, Level::Fine, Level::Fine, Level::Fine], "{report}");
    assert!(nics[0].text.contains(
        "0000:03:00.0 [8086:100e]: the kernel has it, by its driver e1000; net_e1000_em takes it"
    ));
    let bind =
        |address: &str| Some(format!("modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci {address}"));
    assert_eq!(nics[1].command, bind("0000:04:00.0"));
    assert!(
        nics[2].text.ends_with("mlx5_core hands it to programs; mlx5_eth takes it"),
        "{}",
        nics[2].text
    );
    assert!(nics[3].text.ends_with("no driver of DPDK that is installed takes it; iface:eth9 does"));
    assert!(nics[4].text.ends_with("vfio-pci hands it to programs; net_e1000_em takes it"));
    // a file that names them does not run with all of them
    machine.write("sys/kernel/iommu_groups/0/type", "DMA\n");
    assert_eq!(machine.gaps(&from("0000:05:00.0")), []);
    assert_eq!(machine.gaps(&from("07:00.0")), []);
    assert_eq!(machine.gaps(&from("0000:03:00.0"))[0].1, bind("0000:03:00.0"));
    assert_eq!(machine.gaps(&from("04:00.0"))[0].1, bind("0000:04:00.0"));
    assert!(machine.gaps(&from("06:00.0"))[0].0.contains("no driver of DPDK"));
    assert!(machine.gaps(&from("0000:08:00.0"))[0].0.contains("there is no NIC 0000:08:00.0"));
    // what the command does
    machine.nic("0000:04:00.0", "0x100e", Some("vfio-pci"), None);
    assert_eq!(machine.gaps(&from("04:00.0")), []);
}

#[test]
fn a_nic_for_vfio_needs_an_iommu_or_the_mode_without() {
    let machine = Machine::new();
    machine.nic("0000:04:00.0", "0x100e", Some("vfio-pci"), None);
    let of_iommu = || machine.gaps(&from("04:00.0"));
    for (cpu, command) in [
        ("vendor_id : AuthenticAMD\nflags : fpu sse\n", "iommu=pt"),
        ("vendor_id : GenuineIntel\nflags : fpu sse\n", "intel_iommu=on iommu=pt"),
        ("vendor_id : GenuineIntel\nflags : fpu hypervisor sse\n", "enable_unsafe_noiommu_mode"),
    ] {
        machine.write("proc/cpuinfo", cpu);
        let gaps = of_iommu();
        let [(_, Some(said))] = &gaps[..] else { panic!("{gaps:?}") };
        assert!(said.contains(command), "{said}");
    }
    machine.write("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    assert_eq!(of_iommu(), []);
}

#[test]
fn rights_are_those_of_each_driver_and_a_capability_more_is_no_gap() {
    const NET_ADMIN: u64 = 1 << 12;
    const NET_RAW: u64 = 1 << 13;
    const SYS_ADMIN: u64 = 1 << 21;
    const BPF: u64 = 1 << 39;
    let machine = Machine::new();
    for (device, needed, names) in [
        ("iface:lo", vec![NET_RAW], "cap_net_raw"),
        ("net_af_xdp0,iface=lo", vec![NET_RAW, NET_ADMIN, BPF], "cap_net_raw,cap_net_admin,cap_bpf"),
        ("net_af_xdp0,iface=lo", vec![NET_RAW, NET_ADMIN, SYS_ADMIN], "cap_net_raw,cap_net_admin,cap_bpf"),
        ("net_tap0,iface=tp0", vec![NET_ADMIN], "cap_net_admin"),
        ("net_null0", vec![], ""),
    ] {
        let gaps = |effective: u64| {
            machine.rights(effective);
            let all = machine.gaps(&from(device)).into_iter();
            all.filter_map(|(_, command)| command.filter(|command| command.starts_with("setcap")))
                .collect::<Vec<_>>()
        };
        let all: u64 = needed.iter().sum();
        assert!(gaps(all).is_empty(), "{device}");
        for right in &needed {
            assert_eq!(gaps(all - right).len(), 1, "{device} without {right:x}");
        }
        if !needed.is_empty() {
            assert!(gaps(0)[0].starts_with(&format!("setcap {names}+ep ")), "{device} {:?}", gaps(0));
        }
    }
}

#[test]
fn a_driver_that_is_not_installed_is_a_package() {
    let machine = Machine::new();
    assert_eq!(machine.gaps(&from("net_null0")), []);
    let gaps = machine.gaps(&from("net_ring0"));
    let [(text, Some(command))] = &gaps[..] else { panic!("{gaps:?}") };
    assert!(text.contains("port in: DPDK has no driver net_ring"), "{text}");
    assert_eq!(command, "apt-get install librte-net-ring23");
}

#[test]
fn workers_that_share_cpus_and_slow_clocks_are_advice_with_commands() {
    let machine = Machine::new();
    machine.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    machine.write("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n");
    let pipeline = format!("set lcores 1\n{}", from("net_null0"));
    let said = machine.examine(Some(&pipeline)).to_string();
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1) {
        assert!(said.contains("workers run on 1, which the kernel uses"), "{said}");
        assert!(said.contains("isolcpus=1 nohz_full=1 rcu_nocbs=1"), "{said}");
        // the worker's own CPU is fast
        assert!(!said.contains("powersave"), "{said}");
        machine.write("sys/devices/system/cpu/isolated", "1\n");
        machine.write("sys/devices/system/cpu/nohz_full", "0-1\n");
        assert!(!machine.examine(Some(&pipeline)).to_string().contains("isolcpus="));
    }
    let report = machine.examine(None);
    let slow =
        of(&report, "cpus").into_iter().find(|finding| finding.level == Level::Advice).expect("advice");
    assert_eq!(
        slow.command.as_deref(),
        Some("echo performance | tee /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    );
}

#[test]
fn folders_of_captures_are_there_once_the_command_was_run() {
    let machine = Machine::new();
    let folder = machine.path("new folder");
    let pipeline = format!(
        "port attach in net_null0\ntool create t capture \"{}/a.pcapng\"\nrule create 10 from in to t\n",
        folder.display()
    );
    let gaps = machine.gaps(&pipeline);
    let [(_, Some(command))] = &gaps[..] else { panic!("{gaps:?}") };
    let status = std::process::Command::new("sh").args(["-c", command]).status().expect("sh(1)");
    assert!(status.success() && folder.is_dir());
    assert_eq!(machine.gaps(&pipeline), []);
}

#[test]
fn json_has_the_fields_of_the_reference_and_the_same_findings_as_the_text() {
    let report = Machine::new().examine(Some(&from("net_ring0")));
    let json = report.json(7);
    let page = tapline_harness::programs::repository().join("docs/reference/doctor.md");
    let page = fs::read_to_string(page).expect("the page");
    let rows: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|word| !word.starts_with('-'))
        .collect();
    let fields = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    };
    let all = [fields(&json), fields(&json["findings"][0])].concat();
    assert_eq!(rows, all);
    assert_eq!(
        (&json["schema"], &json["ready"], &json["gaps"]),
        (&"tapline.doctor/1".into(), &false.into(), &1.into())
    );
    let text = report.to_string();
    for finding in json["findings"].as_array().expect("a list") {
        assert!(text.contains(finding["text"].as_str().expect("a text")));
        assert!(
            finding["command"].as_str().is_none_or(|command| text.contains(&format!("mend: {command}\n")))
        );
    }
    assert!(text.ends_with("pieces of advice\n") || text.ends_with("piece of advice\n"), "{text}");
}
