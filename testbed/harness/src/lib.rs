//! What the test binaries share: the program in a folder of its own, packets, captures, and the judges of what comes out.

/// Pipelines that are told what to do at their prompt, in a network namespace if asked for.
pub mod bench;
/// Public captures, which are no part of the repository.
pub mod captures;
/// A client of the control socket that is not Tapline's.
pub mod client;
/// EAL in the test's own process.
pub mod eal;
/// Frames that tests are made of.
pub mod frames;
/// Pages of the guide, run as they are written.
pub mod guide;
/// What is demanded of statistics and of packets.
pub mod judges;
/// A folder of its own for each test, in which the program runs.
pub mod lab;
/// Kernel interfaces and network namespaces.
pub mod links;
/// The text of log lines.
pub mod log;
/// Capture files, written and read back by libpcap.
pub mod pcap_files;
/// The program under test, and those that judge it.
pub mod programs;
/// A NIC that stamps, hashes and computes checksums, made of a virtual device.
pub mod simnic;
/// How long tests go on that can go on for as long as they are let.
pub mod spans;
/// Keys and screens: programs on a terminal.
pub mod terminal;
/// Packets as tshark sees them.
pub mod tshark;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::programs::repository;

    /// The modules of a binary that stand in its folder.
    fn on_disk(binary: &str) -> BTreeSet<String> {
        let folder =
            repository().join("testbed").join(binary).read_dir().expect("a folder of the repository");
        let names = folder.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names
            .filter(|name| name != "main.rs")
            .map(|name| format!("{binary}/{}", name.trim_end_matches(".rs")))
            .collect()
    }

    #[test]
    fn the_index_names_every_module_of_every_binary_and_no_other() {
        let index = std::fs::read_to_string(repository().join("testbed/README.md")).expect("the index");
        for binary in ["offline", "product", "privileged", "soak"] {
            let begin = format!("| `{binary}/");
            let rows = index
                .lines()
                .filter(|line| line.starts_with(&begin))
                .filter_map(|line| line.split('`').nth(1));
            assert_eq!(rows.map(str::to_owned).collect::<BTreeSet<_>>(), on_disk(binary));
            let main = std::fs::read_to_string(repository().join(format!("testbed/{binary}/main.rs")))
                .expect("a binary");
            let modules = main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
            assert_eq!(
                modules.map(|name| format!("{binary}/{name}")).collect::<BTreeSet<_>>(),
                on_disk(binary)
            );
        }
    }
}
