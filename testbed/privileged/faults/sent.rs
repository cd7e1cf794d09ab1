//! What counts as sent or missed, against what others count: the kernel at both ends of a pair of interfaces, and libpcap in files.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tapline_harness::bench::{Bench, dropped, flows, settled};
use tapline_harness::judges::assert_balanced;
use tapline_harness::links::{Pair, counted, ip};

/// A small file system in memory, which goes with this value.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None`, after saying so, where none can be mounted.
    fn new(path: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&path).expect("a folder is made");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(&path)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(path));
        }
        tapline_skip::skipped("no file system can be mounted (needs CAP_SYS_ADMIN)");
        None
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// How a run ended, what it said, and its last statistics.
fn ended(bench: &Bench, pipeline: &str) -> (Option<i32>, String, Value) {
    let output = bench.command(pipeline, &["--exit-idle", "500ms"]).output().expect("the program starts");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = std::fs::read_to_string(bench.path("stats.json")).expect("statistics");
    let last = serde_json::from_str(text.lines().last().expect("a line")).expect("statistics are JSON");
    assert_balanced(&last);
    (output.status.code(), log, last)
}

/// Packets that libpcap reads from a file, up to where it is damaged.
fn whole(path: &Path) -> u64 {
    let mut capture = pcap::Capture::from_file(path).expect("a capture");
    std::iter::from_fn(|| capture.next_packet().ok().map(drop)).count() as u64
}

#[test]
fn a_file_of_net_pcap_on_a_full_disk_is_told_of_and_what_it_lacks_is_counted() {
    let bench = Bench::new();
    flows(&bench);
    let Some(disk) = Tmpfs::new(bench.path("disk"), "256k") else { return };
    let (status, log, last) = ended(
        &bench,
        "port attach src replay:@/in.pcap,speed=max,loop=20
        port attach full net_pcap0,tx_pcap=@/disk/out.pcap rxq 0
        port attach well net_pcap1,tx_pcap=@/out.pcap rxq 0
        tool create cut port full
        tool create whole port well
        rule create 10 from src to cut,whole",
    );
    let held = whole(&disk.0.join("out.pcap"));
    let port = &last["ports"]["full"]["driver"];
    assert!(held > 1000 && held < 20_000, "{held}");
    assert_eq!(port["tx_packets"].as_u64().map(|sent| sent - held), port["tx_errors"].as_u64(), "{port}");
    assert_eq!(port["tx_packets"], last["tools"]["cut"]["sent"]);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("out.pcap: net_pcap could not write all of it; is the disk full?"), "{log}");
    assert!(log.contains(&format!("sent {held} are whole in the file")), "{log}");
    assert_eq!(
        (&last["tools"]["cut"]["state"], &last["tools"]["cut"]["reason"]),
        (&"down".into(), &"write_error".into()),
        "{log}"
    );
    assert_eq!(
        (last["tools"]["whole"]["sent"].as_u64(), whole(&bench.path("out.pcap"))),
        (Some(20_000), 20_000)
    );
    assert_eq!(
        (&last["tools"]["whole"]["state"], last["ports"]["well"]["driver"]["tx_errors"].as_u64()),
        (&"up".into(), Some(0))
    );
}

#[test]
fn a_pipe_that_net_pcap_writes_to_is_warned_of() {
    let bench = Bench::new();
    flows(&bench);
    let made = Command::new("mkfifo").arg(bench.path("pipe")).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo(1)");
    // open at both ends, it takes some packets and blocks nobody
    let pipe = std::fs::File::options().read(true).write(true).open(bench.path("pipe")).expect("a pipe");
    let (status, log, _) = ended(
        &bench,
        "port attach src replay:@/in.pcap,speed=max
        port attach out net_pcap0,tx_pcap=@/pipe rxq 0
        port attach well net_pcap1,tx_pcap=@/out.pcap rxq 0
        tool create piped port out
        tool create whole port well
        rule create 10 from src sample 1/97 to piped,whole",
    );
    drop(pipe);
    assert_eq!((status, log.matches("does not notice when").count()), (Some(0), 1), "{log}");
    assert!(log.contains("warning: port out: net_pcap does not notice"), "{log}");
}

#[test]
fn a_file_of_net_pcap_that_is_removed_takes_its_tool_down_and_one_that_is_moved_does_not() {
    let bench = Bench::new();
    flows(&bench);
    let mut prompt = bench.start(
        "set idle sleep
        port attach src replay:@/in.pcap,speed=max,loop=forever
        port attach removed net_pcap0,tx_pcap=@/gone.pcap rxq 0
        port attach moved net_pcap1,tx_pcap=@/moved.pcap rxq 0
        tool create lost port removed rate 1kpps
        tool create kept port moved rate 1kpps
        rule create 10 from src to lost,kept
        start",
    );
    let sends = |tool: &'static str, more: u64| {
        move |stats: &Value| stats["tools"][tool]["sent"].as_u64() > Some(more)
    };
    prompt.wait("files are written", sends("kept", 100));
    std::fs::rename(bench.path("moved.pcap"), bench.path("kept.pcap")).expect("a file");
    std::fs::remove_file(bench.path("gone.pcap")).expect("a file");
    let down = prompt.wait_for_state("lost", "down");
    assert_eq!(down["tools"]["lost"]["reason"], "write_error");
    let kept = down["tools"]["kept"]["sent"].as_u64().expect("a number");
    prompt.wait("the other goes on", sends("kept", kept + 200));
    prompt.signal("INT");
    let last = prompt.wait_for_end();
    assert_eq!(last["ports"]["removed"]["driver"]["tx_errors"], last["tools"]["lost"]["sent"]);
    assert_eq!(last["tools"]["kept"]["sent"].as_u64(), Some(whole(&bench.path("kept.pcap"))));
}

#[test]
fn a_capture_that_is_removed_takes_its_tool_down_and_one_that_is_moved_does_not() {
    let bench = Bench::new();
    flows(&bench);
    let mut prompt = bench.start(
        "set idle sleep
        port attach src net_pcap0,rx_pcap=@/in.pcap,infinite_rx=1 txq 0
        tool create lost capture @/gone.pcapng
        tool create kept capture @/moved.pcapng
        rule create 10 from src sample 1/997 to lost,kept
        start",
    );
    let sends = |more: u64| move |stats: &Value| stats["tools"]["kept"]["sent"].as_u64() > Some(more);
    prompt.wait("files are written", sends(100));
    std::fs::rename(bench.path("moved.pcapng"), bench.path("kept.pcapng")).expect("a file");
    std::fs::remove_file(bench.path("gone.pcapng")).expect("a file");
    let down = prompt.wait_for_state("lost", "down");
    assert_eq!(down["tools"]["lost"]["reason"], "write_error");
    prompt
        .wait("the other goes on", sends(down["tools"]["kept"]["sent"].as_u64().expect("a number") + 200));
    prompt.signal("INT");
    let last = prompt.wait_for_end();
    assert_eq!(last["tools"]["kept"]["sent"].as_u64(), Some(whole(&bench.path("kept.pcapng"))));
}

/// Whether the pipeline starts here, which net_af_xdp may not; says so if it does not.
fn starts(pair: &Pair, pipeline: &str) -> bool {
    if !pipeline.contains("net_af_xdp") {
        return true;
    }
    let probe = Bench::inside(&pair.far);
    flows(&probe);
    let output = probe.command(pipeline, &["--duration", "100ms"]).output().expect("the program starts");
    if !output.status.success() {
        tapline_skip::skipped(format_args!(
            "net_af_xdp does not start here: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    output.status.success()
}

/// Takes the far end of a tool's link down while thousands of copies wait for it, and up again.
fn far_end_goes_down(letter: char, port: &str) {
    let Some(pair) = Pair::new(letter) else { return };
    let bench = Bench::inside(&pair.far);
    flows(&bench);
    let pipeline = format!(
        "set idle sleep
        port attach src replay:@/in.pcap,speed=max,loop=forever
        port attach near {port}
        tool create out port near rate 5kpps up-after 200ms
        rule create 10 from src to out"
    );
    if !starts(&pair, &pipeline) {
        return;
    }
    let (came, lost) = (counted(&pair, "far", "rx_packets"), counted(&pair, "near", "tx_dropped"));
    let mut prompt = bench.start(&format!("{pipeline}\nstart"));
    prompt.wait("copies wait", |stats| stats["tools"]["out"]["queue_depth"].as_u64() > Some(4000));
    pair.set_far("down");
    let down = prompt.wait_for_state("out", "down");
    assert_eq!(
        (&down["tools"]["out"]["reason"], &down["ports"]["near"]["link_up"]),
        (&"link_down".into(), &false.into()),
        "{down}"
    );
    let begun = settled(&mut prompt, &down);
    let later = prompt.wait("time passes", |stats| {
        stats["uptime_s"].as_f64() > begun["uptime_s"].as_f64().map(|at| at + 0.3)
    });
    assert_eq!(begun["tools"]["out"]["sent"], later["tools"]["out"]["sent"], "nothing is sent to nobody");
    assert!(later["tools"]["out"]["queue_depth"].as_u64() > Some(1000), "{later}");
    pair.set_far("up");
    let sent = later["tools"]["out"]["sent"].as_u64().map(|sent| sent + 500);
    prompt.wait_for_state("out", "up");
    prompt.wait("what waited is sent", |stats| stats["tools"]["out"]["sent"].as_u64() > sent);
    let run = prompt.quit();
    let (came, lost) =
        (counted(&pair, "far", "rx_packets") - came, counted(&pair, "near", "tx_dropped") - lost);
    let sent = run.number("tools/out/sent");
    assert!(dropped(&run, "out", "down") > 0);
    assert!(came <= sent && sent <= came + lost, "{sent} sent, {came} came, {lost} lost by the interface");
    println!("{port}: {sent} sent, {came} came: {} left before the link was seen down", sent - came);
}

#[test]
fn copies_wait_while_the_far_end_of_a_link_is_down_under_net_pcap() {
    far_end_goes_down('a', "net_pcap0,iface=near rxq 0");
}

#[test]
fn copies_wait_while_the_far_end_of_a_link_is_down_under_net_pcap_that_receives_from_elsewhere() {
    far_end_goes_down('b', "net_pcap0,rx_iface=far,tx_iface=near rxq 0");
}

#[test]
fn copies_wait_while_the_far_end_of_a_link_is_down_under_net_af_packet() {
    far_end_goes_down('d', "net_af_packet0,iface=near rxq 0");
}

#[test]
fn copies_wait_while_the_far_end_of_a_link_is_down_under_net_af_xdp() {
    far_end_goes_down('e', "net_af_xdp0,iface=near");
}

/// Freezes the program while more packets come than the kernel can keep for it.
fn miss(letter: char, port: &str) {
    const PACKETS: u64 = 30_000;
    let Some(pair) = Pair::new(letter) else { return };
    let (bench, feeder) = (Bench::inside(&pair.far), Bench::inside(&pair.far));
    flows(&feeder);
    let pipeline = format!(
        "set idle sleep
        port attach near {port}
        tool create got discard
        rule create 10 from near to got"
    );
    if !starts(&pair, &pipeline) {
        return;
    }
    let (by, count) =
        if port.starts_with("net_tap") { ("tap", "tx_packets") } else { ("far", "tx_packets") };
    let mut prompt = bench.start(&format!("{pipeline}\nstart"));
    prompt.wait("it runs", |stats| stats["lcores"].as_object().is_some_and(|lcores| !lcores.is_empty()));
    if by == "tap" {
        ip(&format!("netns exec {} sysctl -qw net.ipv6.conf.tap.disable_ipv6=1", pair.far));
    }
    let before = prompt.wait("it is quiet", |_| true);
    let number = |stats: &Value, name: &str| {
        stats["ports"]["near"].pointer(name).and_then(Value::as_u64).expect("a number")
    };
    let (quiet, sent_before) = (number(&before, "/received"), counted(&pair, by, count));
    prompt.signal("STOP");
    let fed = feeder.run(
        &format!(
            "set idle sleep
            port attach src replay:@/in.pcap,speed=max,loop={}
            port attach out net_pcap0,iface={by} rxq 0
            tool create send port out queue 65536
            rule create 10 from src to send",
            PACKETS / 1000
        ),
        &[],
    );
    assert_eq!(fed.number("tools/send/sent"), PACKETS);
    prompt.signal("CONT");
    let all = |stats: &Value| number(stats, "/received") - quiet + number(stats, "/driver/missed");
    let seen = prompt.wait("all packets are received or missed", |stats| all(stats) >= PACKETS);
    assert_eq!(all(&seen), PACKETS, "{}", seen["ports"]["near"]);
    assert!(
        number(&seen, "/received") > quiet && number(&seen, "/driver/missed") > 0,
        "{}",
        seen["ports"]["near"]
    );
    println!(
        "{port}: {} missed; the kernel sent {}",
        number(&seen, "/driver/missed"),
        counted(&pair, by, count) - sent_before
    );
    // nobody asked, and it is told: while it happens, and beside the account
    prompt
        .wait("the loss is told", |stats| stats["ports"]["near"]["alarms"] == serde_json::json!(["loss"]));
    prompt.say("show stats");
    // of what is there no more, nothing is forgotten
    prompt.say("clear stats");
    let cleared = prompt.wait("statistics are cleared", |stats| number(stats, "/received") == 0);
    assert_eq!(number(&cleared, "/driver/missed"), 0);
    let run = prompt.quit();
    assert!(run.stdout.contains("\nbefore   near: missed "), "{}", run.stdout);
    assert!(
        run.stdout.contains("accounted for; ") && run.stdout.contains(" were lost before"),
        "{}",
        run.stdout
    );
    assert_eq!(run.stderr.matches("alarm raised: port near: ").count(), 1, "{}", run.stderr);
}

#[test]
fn packets_that_the_kernel_had_no_room_for_are_missed_under_net_pcap() {
    miss('j', "net_pcap0,iface=near");
}

#[test]
fn packets_that_the_kernel_had_no_room_for_are_missed_under_net_af_packet() {
    miss('k', "net_af_packet0,iface=near");
}

#[test]
fn packets_that_the_kernel_had_no_room_for_are_missed_under_net_af_packet_with_several_queues() {
    miss('n', "net_af_packet0,iface=near,qpairs=2 rxq 2 txq 2");
}

#[test]
fn packets_that_the_kernel_had_no_room_for_are_missed_under_net_af_xdp() {
    miss('t', "net_af_xdp0,iface=near");
}

#[test]
fn packets_that_the_kernel_had_no_room_for_are_missed_under_net_tap() {
    miss('u', "net_tap0,iface=tap");
}
