//! The pages of the guide that need no root: their commands print what the pages show.

use tapline_harness::guide::follow;
use tapline_harness::lab::Lab;
use tapline_harness::programs::has_programs;

#[test]
fn the_first_capture_goes_as_its_page_says() {
    if !has_programs(&["tcpdump", "tshark"]) {
        return;
    }
    follow(&office(), "first-capture.md", &[]);
}

#[test]
fn a_packet_that_did_not_arrive_is_found_as_its_page_says() {
    if has_programs(&["tshark"]) {
        follow(&office(), "why-not-arrived.md", &[]);
    }
}

#[test]
fn a_recording_goes_as_its_page_says() {
    if has_programs(&["mergecap", "tshark"]) {
        follow(&office(), "recording.md", &[]);
    }
}

/// A lab that has the demo's capture.
fn office() -> Lab {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("demo-out")).expect("a writable folder");
    lab.write("demo-out/traffic.pcap", tapline_traffic::office().to_pcap());
    lab
}
