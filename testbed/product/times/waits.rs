//! Replays that wait: for writers that are slow or pause, for mbufs of edited copies, and for the times in the file; and what a run
//! says that ends before a file does.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use tapline_capture::ByteOrder;
use tapline_harness::judges::{assert_balanced, number};
use tapline_harness::lab::{Account, EAL, Ended, Lab};

use super::packets::{Form, Timed, assert_same, office, read, write};

/// Packets of these lengths, a microsecond apart, behind a tag of VLAN 7.
fn tagged(lens: impl Iterator<Item = usize>) -> Vec<Timed> {
    let packets = lens.enumerate().map(|(index, len)| {
        let mut bytes: Vec<u8> = (0..len).map(|at| (at ^ index) as u8).collect();
        bytes[..18].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 7, 0x88, 0xb5]);
        bytes[18..26].copy_from_slice(&(index as u64).to_be_bytes());
        Timed { ns: 1_700_000_000_000_000_000 + 1000 * index as u64, original_len: len as u32, bytes }
    });
    packets.collect()
}

/// The same without their tag.
fn stripped(packets: &[Timed]) -> Vec<Timed> {
    let strip = |packet: &Timed| {
        let bytes = [&packet.bytes[..12], &packet.bytes[16..]].concat();
        Timed { original_len: bytes.len() as u32, bytes, ..packet.clone() }
    };
    packets.iter().map(strip).collect()
}

/// How a pipe is read: after each of these portions the reader rests for so long, and then reads all the rest.
#[derive(Clone, Copy)]
struct Reader {
    portions: usize,
    portion_bytes: usize,
    rest: Duration,
}

/// Takes nothing for far longer than the runs of these tests may be idle.
const PAUSES: Reader = Reader { portions: 1, portion_bytes: 300_000, rest: Duration::from_secs(3) };

impl Reader {
    /// Makes a pipe and reads it into the file `NAME.pcapng` until its writer is gone.
    fn of(self, lab: &Lab, name: &str) -> JoinHandle<()> {
        let (pipe, file) = (lab.path(name), lab.path(&format!("{name}.pcapng")));
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        std::thread::spawn(move || {
            let mut pipe = File::open(pipe).expect("a pipe");
            let mut bytes = Vec::new();
            for _ in 0..self.portions {
                (&mut pipe)
                    .take(self.portion_bytes as u64)
                    .read_to_end(&mut bytes)
                    .expect("a pipe that can be read");
                std::thread::sleep(self.rest);
            }
            pipe.read_to_end(&mut bytes).expect("a pipe that can be read");
            std::fs::write(file, bytes).expect("a writable folder");
        })
    }
}

fn input(lab: &Lab, packets: &[Timed]) {
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), packets);
}

/// Runs a pipeline that is idle after half a second.
fn run(lab: &Lab, pipeline: &str) -> Ended {
    lab.run(pipeline, &["--exit-idle", "500ms"])
}

/// Nothing was lost between the file and the tools.
fn assert_whole(account: &Account, packets: usize, tools: &[&str]) {
    let count = packets as u64;
    assert_eq!(account.number("packets/received"), count);
    for tool in tools {
        let of_tool = ["requested", "sent"].map(|key| account.number(&format!("tools/{tool}/{key}")));
        assert_eq!(of_tool, [count, count], "{tool}: {}", account.last());
    }
}

#[test]
fn a_writer_that_pauses_for_longer_than_a_run_may_be_idle_loses_nothing() {
    let lab = Lab::new();
    let packets = tagged((0..20_000).map(|index| 100 + index % 900));
    input(&lab, &packets);
    let reader = PAUSES.of(&lab, "slow");
    let account = run(
        &lab,
        "port attach in replay:in.cap,speed=max\ntool create slow capture slow\ntool create disk capture disk.pcapng\n\
         rule create 10 from in to slow,disk\n",
    )
    .done();
    reader.join().expect("the pipe is read to its end");
    assert_whole(&account, packets.len(), &["slow", "disk"]);
    assert_eq!(account.last()["ports"]["in"]["replay"]["ended"], true);
    for file in ["slow.pcapng", "disk.pcapng"] {
        assert_same(file, &read(&lab.path(file)), &packets);
    }
}

#[test]
fn a_writer_that_is_slow_and_steady_is_not_stalled() {
    let lab = Lab::new();
    // what is counted as sent at once takes the reader longer than `down-after`
    let packets = tagged((0..2500).map(|_| 1000));
    input(&lab, &packets);
    let steady = Reader { portions: 120, portion_bytes: 16_384, rest: Duration::from_millis(100) };
    let reader = steady.of(&lab, "slow");
    let account = run(
        &lab,
        "port attach in replay:in.cap,speed=max,loop=2\ntool create slow capture slow down-after 4s\nrule create 10 from in to slow\n",
    )
    .done();
    reader.join().expect("the pipe is read to its end");
    assert_whole(&account, 2 * packets.len(), &["slow"]);
    assert_eq!(account.last()["events"].as_array().map(Vec::len), Some(0), "{}", account.last()["events"]);
    assert_eq!(read(&lab.path("slow.pcapng")).len(), 2 * packets.len());
}

#[test]
fn what_the_queue_holds_when_the_file_has_ended_is_written_however_long_it_takes() {
    let lab = Lab::new();
    let packets = tagged((0..2000).map(|_| 500));
    input(&lab, &packets);
    // the whole file fits the queue; two seconds are what a drain may take
    let reader = Reader { rest: Duration::from_secs(4), ..PAUSES }.of(&lab, "slow");
    let account =
        run(&lab, "port attach in replay:in.cap,speed=max\ntool create slow capture slow\nrule create 10 from in to slow\n").done();
    reader.join().expect("the pipe is read to its end");
    assert_whole(&account, packets.len(), &["slow"]);
    assert_same("slow", &read(&lab.path("slow.pcapng")), &packets);
}

#[test]
fn edited_copies_of_jumbo_frames_wait_for_mbufs_and_none_is_lost() {
    let lab = Lab::new();
    let packets = tagged((0..6000).map(|_| 9000));
    input(&lab, &packets);
    let reader = PAUSES.of(&lab, "slow");
    let account = run(
        &lab,
        "port attach in replay:in.cap,speed=max\ntool create slow capture slow strip vlan\n\
         tool create disk capture disk.pcapng strip vlan\ntool create cut capture cut.pcapng\n\
         tool create plain capture plain.pcapng\nrule create 10 from in to slow,disk,plain\nrule create 20 from in slice 8000 to cut\n",
    )
    .done();
    reader.join().expect("the pipe is read to its end");
    assert_whole(&account, packets.len(), &["slow", "disk", "cut", "plain"]);
    assert_same("plain", &read(&lab.path("plain.pcapng")), &packets);
    let expected = stripped(&packets);
    for file in ["slow.pcapng", "disk.pcapng"] {
        assert_same(file, &read(&lab.path(file)), &expected);
    }
    let cut: Vec<Timed> = packets
        .iter()
        .map(|packet| Timed { bytes: packet.bytes[..8000].to_vec(), ..packet.clone() })
        .collect();
    assert_same("cut", &read(&lab.path("cut.pcapng")), &cut);
}

#[test]
fn a_few_long_packets_among_short_ones_find_mbufs_for_all_tools_in_the_smallest_pool() {
    let lab = Lab::new();
    let len = |index: usize| match index {
        4000 | 4001 => 262_000,
        _ if index.is_multiple_of(60) => 20_000,
        _ if index.is_multiple_of(7) => 9000,
        _ => 80 + index % 1400,
    };
    let packets = tagged((0..8000).map(len));
    input(&lab, &packets);
    let names: Vec<String> = (0..10).map(|tool| format!("t{tool}")).collect();
    let tools: String = names
        .iter()
        .map(|name| format!("tool create {name} capture {name}.pcapng queue 600 strip vlan\n"))
        .collect();
    for settings in ["", "set mempool 2000\n", "set mempool 2000\nset burst 1\n"] {
        let pipeline = format!(
            "{settings}port attach in replay:in.cap,speed=max\n{tools}rule create 10 from in to {}\n",
            names.join(",")
        );
        let account = lab.run(&pipeline, &["--exit-idle", "1s"]).done();
        assert_whole(&account, packets.len(), &names.iter().map(String::as_str).collect::<Vec<_>>());
        let expected = stripped(&packets);
        for name in &names {
            assert_same(name, &read(&lab.path(&format!("{name}.pcapng"))), &expected);
        }
    }
}

#[test]
fn two_workers_do_not_take_mbufs_for_copies_from_each_other() {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if cpus < 2 {
        return tapline_skip::skipped("one CPU");
    }
    let lab = Lab::new();
    let packets = tagged((0..3000).map(|index| if index % 3 == 0 { 30_000 } else { 9000 }));
    input(&lab, &packets);
    let reader = PAUSES.of(&lab, "slow");
    let account = lab
        .run(
            "set lcores 0,1\nset idle sleep\nset mempool 4000\nport attach a replay:in.cap,speed=max\nport attach b replay:in.cap,speed=max\n\
             tool create slow capture slow strip vlan\ntool create disk capture disk.pcapng strip vlan\nrule create 10 from a,b to slow,disk\n",
            &["--exit-idle", "1s"],
        )
        .done();
    reader.join().expect("the pipe is read to its end");
    assert_whole(&account, 2 * packets.len(), &["slow", "disk"]);
    let expected: Vec<Timed> =
        stripped(&packets).into_iter().flat_map(|packet| [packet.clone(), packet]).collect();
    for file in ["slow.pcapng", "disk.pcapng"] {
        let mut written = read(&lab.path(file));
        written.sort_by_key(|packet| packet.ns);
        assert_same(file, &written, &expected);
    }
}

#[test]
fn a_port_that_takes_nothing_keeps_no_mbufs_from_captures() {
    let lab = Lab::new();
    let packets = tagged((0..5000).map(|_| 9000));
    input(&lab, &packets);
    let account = run(
        &lab,
        "port attach in replay:in.cap,speed=max\nport attach ring net_ring0 rxq 0\ntool create stuck port ring strip vlan\n\
         tool create disk capture disk.pcapng strip vlan\nrule create 10 from in to stuck,disk\n",
    );
    let account = account.done();
    assert_whole(&account, packets.len(), &["disk"]);
    assert!(account.number("tools/stuck/sent") < packets.len() as u64, "{}", account.last());
    assert_same("disk", &read(&lab.path("disk.pcapng")), &stripped(&packets));
}

#[test]
fn long_packets_that_are_held_for_their_order_do_not_stop_replays() {
    for edit in ["", " strip vlan"] {
        let lab = Lab::new();
        let packets = tagged((0..12_000).map(|_| 9000));
        let halves: Vec<Vec<Timed>> =
            (0..2).map(|half| packets.iter().skip(half).step_by(2).cloned().collect()).collect();
        for (name, half) in ["a.cap", "b.cap"].iter().zip(&halves) {
            write(&lab.path(name), Form::PcapNs(ByteOrder::Little), half);
        }
        // more packets are within the window than there are mbufs for
        let account = lab.account(
            &format!(
                "port attach a replay:a.cap,speed=max\nport attach b replay:b.cap,speed=max\n\
                 tool create t capture out.pcapng order window 10s{edit}\nrule create 10 from a,b to t\n"
            ),
            &["--exit-idle", "1s"],
        );
        assert_whole(&account, packets.len(), &["t"]);
        let expected = if edit.is_empty() { packets } else { stripped(&packets) };
        let mut written = read(&lab.path("out.pcapng"));
        written.sort_by_key(|packet| packet.ns);
        assert_same(edit, &written, &expected);
    }
}

/// Three packets: of the time 0, half a century later, and a moment after that.
fn first_of_time_0(path: &Path) {
    let mut packets = tagged((0..3).map(|_| 84));
    packets[0].ns = 0;
    write(path, Form::PcapUs(ByteOrder::Little), &packets);
}

#[test]
fn a_run_that_is_idle_before_the_file_ends_has_failed_and_says_what_is_left() {
    let lab = Lab::new();
    first_of_time_0(&lab.path("in.cap"));
    let pipeline = |options: &str| {
        format!(
            "port attach in replay:in.cap{options}\ntool create t capture out.pcapng\nrule create 10 from in to t\n"
        )
    };
    for (options, left) in [("", "2"), (",loop=4", "11"), (",loop=forever", "without end")] {
        let ended = run(&lab, &pipeline(options));
        assert_eq!(ended.status, Some(1), "{options}: {}", ended.stderr);
        let said = format!(
            "error: port in: in.cap was not read to its end (packets read: 1, left: {left}): the next is due in 19675 days;"
        );
        assert!(
            ended.stderr.contains(&said) && ended.stderr.contains("say maxgap=1s"),
            "{options}: {}",
            ended.stderr
        );
        let last = ended.stats.last().expect("statistics");
        assert_balanced(last);
        assert_eq!(
            (number(last, "packets/received"), last["ports"]["in"]["replay"]["ended"].clone()),
            (1, false.into())
        );
    }
    for (options, packets) in
        [(",maxgap=200ms", 3), (",maxgap=300ms,loop=2,speed=4x", 6), (",speed=max", 3)]
    {
        let account = run(&lab, &pipeline(options)).done();
        assert_whole(&account, packets, &["t"]);
        let written: Vec<u64> =
            read(&lab.path("out.pcapng")).iter().take(3).map(|packet| packet.ns).collect();
        let expected: Vec<u64> = read(&lab.path("in.cap")).iter().map(|packet| packet.ns).collect();
        assert_eq!(written, expected, "packets keep their times: {options}");
    }
}

#[test]
fn a_time_that_is_up_before_the_file_ends_fails_unless_it_has_no_end() {
    let lab = Lab::new();
    first_of_time_0(&lab.path("in.cap"));
    let pipeline = |options: &str| {
        format!(
            "port attach in replay:in.cap{options}\ntool create t discard\nrule create 10 from in to t\n"
        )
    };
    let ended = lab.run(&pipeline(""), &["--duration", "3s"]);
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    let said = "error: port in: in.cap was not read to its end (packets read: 1, left: 2): the time was up; raise --duration";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    assert_balanced(ended.stats.last().expect("statistics"));
    for endless in [",loop=forever", ",loop=forever,speed=max"] {
        let account = lab.account(&pipeline(endless), &["--duration", "300ms"]);
        assert!(!account.stderr.contains("left"), "{}", account.stderr);
    }
    // that it is over was seen or not
    let account = lab.account(&pipeline(",speed=max"), &["--duration", "3s"]);
    assert_whole(&account, 3, &["t"]);
}

#[test]
fn who_ends_a_run_is_told_what_is_left_of_a_file() {
    let pipeline = "port attach in replay:in.cap\ntool create t discard\nrule create 10 from in to t\n";
    for signal in [Some("INT"), Some("TERM"), None] {
        let lab = Lab::new();
        first_of_time_0(&lab.path("in.cap"));
        lab.write("test.pipe", pipeline);
        let mut arguments =
            vec!["run", "test.pipe", "--eal", EAL, "--stats", "stats.json", "--interval", "50ms"];
        arguments.extend(signal.is_none().then_some("-i"));
        let mut command = lab.tapline(&arguments);
        let mut started = lab.start(command.stdin(std::process::Stdio::piped()));
        let mut prompt = started.child.stdin.take();
        if let Some(prompt) = &mut prompt {
            prompt.write_all(b"start\n").expect("it reads");
        }
        lab.until("the first packet is read", |line| number(line, "packets/received") == 1);
        match (&mut prompt, signal) {
            (Some(prompt), _) => prompt.write_all(b"quit\n").expect("it reads"),
            (None, signal) => started.signal(signal.expect("there is no prompt")),
        }
        let account = lab.end(started).done();
        let said = "warning: port in: in.cap was not read to its end (packets read: 1, left: 2)\n";
        assert!(account.stderr.contains(said), "{signal:?}: {}", account.stderr);
    }
}

#[test]
fn loops_wait_for_a_writer_in_every_pass() {
    let lab = Lab::new();
    let packets = office();
    input(&lab, &packets);
    let reader = PAUSES.of(&lab, "slow");
    let account = run(
        &lab,
        "port attach in replay:in.cap,speed=max,loop=7\ntool create slow capture slow queue 100\nrule create 10 from in to slow\n",
    )
    .done();
    reader.join().expect("the pipe is read to its end");
    assert_whole(&account, 7 * packets.len(), &["slow"]);
    assert_eq!(account.number("ports/in/replay/passes"), 7);
    let written = read(&lab.path("slow.pcapng"));
    for pass in written.chunks(packets.len()) {
        let is_same = pass.iter().zip(&packets).all(|(got, expected)| got.bytes == expected.bytes);
        assert!(is_same && pass.len() == packets.len());
    }
}
