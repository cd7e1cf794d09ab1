use super::{inside, long_pair};
use tapline_harness::bench::Bench;
use tapline_harness::links::Pair;

/// Which of the words of `ethtool -k` are on: of segments those of plain TCP.
fn on(pair: &Pair, side: &str) -> Vec<bool> {
    let said = inside(&pair.far, &format!("ethtool -k {side}"));
    let words = [
        "tx-tcp-segmentation",
        "generic-segmentation-offload",
        "generic-receive-offload",
        "tx-checksumming",
    ];
    words.iter().map(|word| said.contains(&format!("{word}: on"))).collect()
}

#[test]
fn offloads_that_change_frames_are_told_with_the_line_that_mends_them_which_does() {
    let Some(pair) = long_pair('e') else { return };
    super::set_offloads(&pair, "tso on gso on tx on gro on");
    let bench = Bench::inside(&pair.far);
    let pipeline = "set idle sleep
        port attach span0 iface:far
        tool create rec discard
        rule create 10 from span0 to rec";
    let said = bench.run(pipeline, &["--duration", "100ms"]).stderr;
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("ethtool -K")).collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains("port span0: far joins segments, so"), "{said}");
    let of_far_end =
        "port span0: near, the far end of far, leaves segments uncut and leaves checksums out, so";
    assert!(lines[1].contains(of_far_end), "{said}");
    // what is told is done as it is said
    for line in lines {
        let from = line.find("ethtool -K").expect("the command");
        let command = line[from..].split(';').next().expect("the command's end");
        inside(&pair.far, command);
    }
    assert_eq!(on(&pair, "far")[2..3], [false]);
    assert_eq!(on(&pair, "near"), [false, false, true, false]);
    let said = bench.run(pipeline, &["--duration", "100ms"]).stderr;
    assert!(!said.contains("ethtool"), "{said}");
}

#[test]
fn offloads_that_are_switched_off_are_as_before_when_the_run_ends() {
    let Some(pair) = long_pair('n') else { return };
    super::set_offloads(&pair, "tso on gso off tx on gro on");
    let before = [on(&pair, "near"), on(&pair, "far")];
    let bench = Bench::inside(&pair.far);
    let mut prompt = bench.start(
        "set idle sleep
        port attach span0 iface:far,offloads=off
        tool create rec discard
        rule create 10 from span0 to rec
        start",
    );
    prompt.wait("it runs", |stats| stats["ports"]["span0"]["link_up"] == true);
    assert_eq!(on(&pair, "near"), [false, false, true, false]);
    assert!(!on(&pair, "far")[2], "gro is off");
    let run = prompt.quit();
    assert!(!run.stderr.contains("ethtool"), "{}", run.stderr);
    assert_eq!([on(&pair, "near"), on(&pair, "far")], before);
}
