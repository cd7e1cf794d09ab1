//! MTUs of tools' interfaces that change while packets flow; what left is counted by the kernel at the other end.

use std::process::Command;

use serde_json::Value;
use tapline_harness::bench::{Bench, Prompt, dropped, settled};
use tapline_harness::frames::udp;
use tapline_harness::lab::{EAL, Lab};
use tapline_harness::links::{Pair, counted, ip};
use tapline_harness::programs::{has_programs, tapline};

fn frames(sizes: &[usize], count: usize) -> Vec<Vec<u8>> {
    let frame = |&size: &usize| {
        let mut bytes = udp(1, [198, 18, 1, 1], 1024, 64);
        bytes.resize(size, 0);
        bytes
    };
    sizes.iter().cycle().take(count).map(frame).collect()
}

/// What `far` was sent, as the kernel counts it.
fn came(pair: &Pair) -> u64 {
    counted(pair, "far", "rx_packets")
}

fn set_mtu(pair: &Pair, interface: &str, mtu: u32) {
    assert!(
        ip(&format!("-n {} link set {interface} mtu {mtu}", pair.far)),
        "{interface} takes an MTU of {mtu}"
    );
}

/// Sets the MTU of `near`, and waits until every worker goes by it.
fn change_mtu(pair: &Pair, prompt: &mut Prompt<'_>, mtu: u32) {
    set_mtu(pair, "near", mtu);
    let seen = prompt.wait("the MTU is seen", |stats| stats["ports"]["near"]["mtu"] == mtu);
    settled(prompt, &seen);
}

#[test]
fn frames_are_judged_by_the_mtu_of_the_moment() {
    judge_by_mtu('m', ["net_pcap0,iface=food txq 0", "net_pcap1,iface=near rxq 0"]);
}

#[test]
fn frames_are_judged_by_the_mtu_of_the_moment_under_iface() {
    judge_by_mtu('i', ["iface:food", "iface:near,queues=0"]);
}

/// Forwards frames of several lengths by two ports, `food` and `near`, while the MTU of `near` changes.
fn judge_by_mtu(letter: char, [food, near]: [&str; 2]) {
    const SIZES: [usize; 4] = [1514, 1515, 4000, 9014];
    const ROUNDS: u64 = 20;
    let Some(pair) = Pair::new(letter) else { return };
    // what another run sends by `feed` comes to this one by `food`
    assert!(ip(&format!("-n {} link add feed type veth peer name food", pair.far)));
    for name in ["feed", "food"] {
        ip(&format!("netns exec {} sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1", pair.far));
        set_mtu(&pair, name, 9000);
        assert!(ip(&format!("-n {} link set {name} up", pair.far)));
    }
    set_mtu(&pair, "far", 9000);
    let (bench, feeder) = (Bench::inside(&pair.far), Bench::inside(&pair.far));
    let packets = frames(&SIZES, SIZES.len() * ROUNDS as usize);
    feeder.write("in.pcap", &packets);
    let before = came(&pair);
    let mut prompt = bench.start(&format!(
        "set idle sleep
        port attach food {food}
        port attach near {near}
        tool create send port near
        rule create 10 from food to send
        start"
    ));
    prompt.wait("it runs by the MTU of the start", |stats| stats["ports"]["near"]["mtu"] == 1500);
    let (mut sent, mut oversize) = (0, 0);
    // by how many of each round fit
    for (mtu, fitting) in [(None, 1), (Some(9000), 4), (Some(3986), 3), (Some(1500), 1)] {
        if let Some(mtu) = mtu {
            change_mtu(&pair, &mut prompt, mtu);
        }
        let fed = feeder.run(
            "set idle sleep
            port attach src net_pcap0,rx_pcap=@/in.pcap txq 0
            port attach feed net_pcap1,iface=feed rxq 0
            tool create out port feed
            rule create 10 from src to out",
            &[],
        );
        assert_eq!(fed.number("tools/out/sent"), 4 * ROUNDS);
        (sent, oversize) = (sent + fitting * ROUNDS, oversize + (4 - fitting) * ROUNDS);
        prompt.wait("all frames have come", |stats| {
            stats["packets"]["received"].as_u64() >= Some(sent + oversize)
        });
        let ended = |stats: &Value| {
            Some(stats["copies"]["sent"].as_u64()? + stats["copies"]["dropped"]["oversize"].as_u64()?)
        };
        let seen = prompt.wait("all copies have ended", |stats| ended(stats) >= Some(sent + oversize));
        let counts = [&seen["tools"]["send"]["sent"], &seen["tools"]["send"]["dropped"]["oversize"]]
            .map(Value::as_u64);
        assert_eq!(counts, [Some(sent), Some(oversize)], "MTU {mtu:?}: {seen}");
    }
    let run = prompt.quit();
    assert_eq!((run.number("tools/send/sent"), dropped(&run, "send", "oversize")), (sent, oversize));
    assert_eq!(came(&pair) - before, sent, "what counts as sent has left");
    for (mtu, was) in [(9000, 1500), (3986, 9000), (1500, 3986)] {
        let said = format!("port near: its interface's MTU is {mtu}; it was {was}");
        assert_eq!(run.stderr.matches(&said).count(), 1, "{said} is not in {}", run.stderr);
    }
}

#[test]
fn what_does_not_fit_a_slot_of_the_ring_with_the_kernel_is_not_counted_as_sent() {
    let Some(pair) = Pair::new('s') else { return };
    ["near", "far"].iter().for_each(|side| set_mtu(&pair, side, 9000));
    for (more, longest) in [("", 2016), (",framesz=1024,blocksz=4096", 992)] {
        let bench = Bench::inside(&pair.far);
        bench.write("in.pcap", frames(&[60, longest, longest + 1, 9014], 200).iter().map(Vec::as_slice));
        let before = came(&pair);
        let run = bench.run(
            &format!(
                "port attach src net_pcap0,rx_pcap=@/in.pcap txq 0
                port attach near net_af_packet0,iface=near{more} rxq 0
                tool create send port near
                rule create 10 from src to send"
            ),
            &[],
        );
        let counts = (run.number("tools/send/sent"), dropped(&run, "send", "oversize"));
        assert_eq!((counts, came(&pair) - before), ((100, 100), 100), "{more}: {}", run.stderr);
    }
}

/// Lowers the MTU while short and long frames wait for a tool with these `options`.
fn lower_while_frames_wait(letter: char, options: &str) {
    let Some(pair) = Pair::new(letter) else { return };
    ["near", "far"].iter().for_each(|side| set_mtu(&pair, side, 9000));
    let bench = Bench::inside(&pair.far);
    bench.write("in.pcap", frames(&[60, 9014], 200).iter().map(Vec::as_slice));
    let before = came(&pair);
    let mut prompt = bench.start(&format!(
        "set idle sleep
        port attach src net_pcap0,rx_pcap=@/in.pcap txq 0
        port attach near net_pcap1,iface=near rxq 0
        tool create send port near {options}
        rule create 10 from src to send
        start"
    ));
    prompt.wait("frames wait", |stats| stats["tools"]["send"]["queue_depth"].as_u64() > Some(150));
    change_mtu(&pair, &mut prompt, 1500);
    prompt.wait("none waits", |stats| {
        stats["packets"]["received"] == 200
            && stats["tools"]["send"]["queue_depth"] == 0
            && stats["balanced"] == true
    });
    let run = prompt.quit();
    let (sent, oversize) = (run.number("tools/send/sent"), dropped(&run, "send", "oversize"));
    assert_eq!((sent + oversize, came(&pair) - before), (200, sent), "what counts as sent has left");
    assert!(sent >= 100 && oversize > 0, "short frames are not held up: {sent} sent, {oversize} oversize");
}

#[test]
fn long_frames_that_wait_for_their_rate_when_the_mtu_is_lowered_hold_up_no_other() {
    lower_while_frames_wait('v', "rate 50pps");
}

#[test]
fn long_frames_that_are_held_for_their_order_when_the_mtu_is_lowered_hold_up_no_other() {
    lower_while_frames_wait('o', "order window 4s");
}

#[test]
fn frames_above_the_mtu_that_the_file_says_are_not_sent_by_drivers_that_know_of_none() {
    let bench = Bench::new();
    bench.write("in.pcap", frames(&[60, 114, 115, 9014], 200).iter().map(Vec::as_slice));
    let run = bench.run(
        "port attach src net_pcap0,rx_pcap=@/in.pcap txq 0 mtu 68
        port attach f net_pcap1,tx_pcap=@/out.pcap rxq 0 mtu 100
        port attach n net_null0,no-rx=1 rxq 0 mtu 100
        tool create f port f
        tool create n port n
        rule create 10 from src to f,n",
        &[],
    );
    for tool in ["f", "n"] {
        assert_eq!(
            (run.number(&format!("tools/{tool}/sent")), dropped(&run, tool, "oversize")),
            (100, 100),
            "{tool}"
        );
    }
    assert!(bench.read("out.pcap").iter().all(|bytes| bytes.len() <= 114), "what was sent fits");
}

#[test]
fn an_mtu_is_that_of_the_own_namespace_whatever_sysfs_shows() {
    if !has_programs(&["nsenter"]) {
        return tapline_skip::skipped("nsenter is missing");
    }
    let Some(pair) = Pair::new('v') else { return };
    // the driver itself says 1500, whatever its interface has
    for (mtu, path, is_warned) in [(1400, 1500, true), (9000, 9000, false)] {
        set_mtu(&pair, "far", mtu);
        let lab = Lab::new();
        lab.write(
            "test.pipe",
            format!(
                "port attach in net_null0
                port attach far net_pcap0,iface=far
                tool create up port far vxlan vni 1 src 198.18.0.1 dst 198.18.0.2 next-hop 02:00:00:00:00:01 mtu {path}
                rule create 10 from in sample 1/99991 to up\n"
            ),
        );
        // unlike `ip netns exec`, nsenter leaves /sys as it is: of the namespace in which the test runs
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", pair.far)).arg(tapline());
        command.args(["run", "test.pipe", "--eal", EAL, "--stats", "stats.json", "--duration", "300ms"]);
        let run = lab.end(lab.start(command.current_dir(lab.path(""))));
        let said = run.stderr.clone();
        assert_eq!(run.done().number("ports/far/mtu"), u64::from(mtu));
        let warning = format!("port far has an MTU of {mtu}, and its path is taken to carry {path}");
        assert_eq!(said.contains(&warning), is_warned, "{said}");
        assert_eq!(said.contains("its path is taken to carry"), is_warned, "{said}");
    }
}
