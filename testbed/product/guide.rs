//! The page of the guide that needs no root: its commands print what the page shows.

use tapline_harness::guide::follow;
use tapline_harness::lab::Lab;
use tapline_harness::programs::has_programs;

#[test]
fn the_first_capture_goes_as_its_page_says() {
    if !has_programs(&["tcpdump", "tshark"]) {
        return;
    }
    let lab = Lab::new();
    std::fs::create_dir(lab.path("demo-out")).expect("a writable folder");
    lab.write("demo-out/traffic.pcap", tapline_traffic::office().to_pcap());
    follow(&lab, "first-capture.md", &[]);
}
