//! The pages of the guide that need interfaces: their commands print what the pages show, each page in a network of its own.

use tapline_harness::guide::follow;
use tapline_harness::lab::Lab;
use tapline_harness::programs::has_programs;

/// Runs a page in a network namespace, as it tells the reader to.
fn follow_apart(page: &str) {
    if !has_programs(&["tcpdump", "tshark", "tcpreplay", "ip", "ethtool", "unshare"]) {
        return;
    }
    let probe = std::process::Command::new("unshare").args(["--net", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        tapline_skip::skipped("network namespaces cannot be made (needs CAP_SYS_ADMIN)");
        return;
    }
    let lab = Lab::new();
    std::fs::create_dir(lab.path("demo-out")).expect("a writable folder");
    lab.write("demo-out/traffic.pcap", tapline_traffic::office().to_pcap());
    follow(&lab, page, &["unshare", "--net"]);
}

#[test]
fn the_first_interface_goes_as_its_page_says() {
    follow_apart("first-interface.md");
}

#[test]
fn the_first_tunnel_goes_as_its_page_says() {
    follow_apart("first-tunnel.md");
}

#[test]
fn balanced_sensors_go_as_their_page_says() {
    follow_apart("balanced-sensors.md");
}
