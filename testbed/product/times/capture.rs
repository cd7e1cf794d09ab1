//! Captures as tools: one interface a port, drops counted, failures told.

use std::process::Command;

use tapline_capture::ByteOrder;
use tapline_harness::judges::{assert_balanced, number};
use tapline_harness::lab::Lab;
use tapline_harness::programs::has_program;

use super::packets::{Form, assert_same, office, read, write};

#[test]
fn each_port_is_an_interface_of_the_file_by_its_name() {
    if !has_program("tshark") {
        return;
    }
    let lab = Lab::new();
    let packets = office();
    write(&lab.path("east.cap"), Form::PcapNs(ByteOrder::Little), &packets[..30]);
    write(&lab.path("west.cap"), Form::Pcapng(ByteOrder::Big), &packets[30..70]);
    let pipeline = "port attach west replay:west.cap\nport attach other net_null0\nport attach east replay:east.cap\n\
                    tool create t capture out.pcapng\nrule create 10 from east,west to t\n";
    let account = lab.run(pipeline, &["--duration", "2s"]);
    assert_eq!(account.status, Some(0), "{}", account.stderr);
    let arguments = ["-r", "out.pcapng", "-T", "fields", "-e", "frame.interface_name"];
    let output =
        Command::new("tshark").args(arguments).current_dir(lab.path("")).output().expect("tshark runs");
    let names = String::from_utf8_lossy(&output.stdout);
    let count = |name: &str| names.lines().filter(|line| *line == name).count();
    assert_eq!((count("east"), count("west"), names.lines().count()), (30, 40, 70), "{names}");
}

#[test]
fn a_disk_that_is_full_takes_the_tool_down_and_nothing_else() {
    let lab = Lab::new();
    let packets = office();
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &packets);
    let pipeline = "port attach in replay:in.cap,speed=max\ntool create full capture /dev/full\n\
                    tool create well capture out.pcapng\nrule create 10 from in to full,well\n";
    let ended = lab.run(pipeline, &[]);
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("error: tool full: /dev/full: No space left on device"),
        "{}",
        ended.stderr
    );
    let last = ended.stats.last().expect("statistics");
    assert_balanced(last);
    let count = packets.len() as u64;
    assert_eq!((number(last, "tools/full/dropped/down"), number(last, "tools/well/sent")), (count, count));
    assert_eq!(last["events"][0]["reason"], "write_error", "{}", last["events"]);
    assert_same("the other tool", &read(&lab.path("out.pcapng")), &packets);
}

#[test]
fn a_file_that_cannot_be_made_is_told_at_the_start() {
    let lab = Lab::new();
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &office());
    let pipeline = "port attach in replay:in.cap\ntool create t capture no/such/folder.pcapng\nrule create 10 from in to t\n";
    let error = lab.run(pipeline, &[]).failed(1);
    assert!(error.contains("error: tool t: no/such/folder.pcapng: No such file or directory"), "{error}");
}

#[test]
fn what_a_writer_that_hangs_does_not_take_is_dropped_and_counted() {
    let lab = Lab::new();
    let packets = office();
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &packets);
    let status = Command::new("mkfifo").arg(lab.path("pipe")).status().expect("mkfifo runs");
    assert!(status.success());
    let pipeline = "port attach in replay:in.cap,speed=max,loop=5\ntool create hangs capture pipe queue 1000 down-after 1s\n\
                    tool create well discard\nrule create 10 from in to hangs,well\n";
    let ended = lab.run(pipeline, &["--exit-idle", "2s"]);
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    let last = ended.stats.last().expect("statistics");
    assert_balanced(last);
    let count = 5 * packets.len() as u64;
    assert_eq!((number(last, "tools/well/sent"), number(last, "tools/hangs/sent")), (count, 0));
    let dropped =
        ["congested", "down"].map(|reason| number(last, &format!("tools/hangs/dropped/{reason}")));
    assert_eq!(dropped.iter().sum::<u64>(), count);
    assert!(dropped[0] >= 1000, "{dropped:?}");
    let said = "error: tool hangs: its file took nothing for 1.0s, so no replay waits for it any more";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

#[test]
fn two_workers_write_one_file_and_a_group_shares_captures_out() {
    let lab = Lab::new();
    let packets = office();
    write(&lab.path("a.cap"), Form::PcapNs(ByteOrder::Little), &packets);
    write(&lab.path("b.cap"), Form::PcapNs(ByteOrder::Little), &packets);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let lcores = if cpus > 1 { "0,1" } else { "0" };
    let pipeline = format!(
        "set lcores {lcores}\nset mempool 16384\nset idle sleep\nport attach a replay:a.cap,speed=max\nport attach b replay:b.cap,speed=max\n\
         tool create x capture x.pcapng\ntool create y capture y.pcapng\ntool create whole capture whole.pcapng\n\
         group create g tools x,y\nrule create 10 from a,b to g,whole\n"
    );
    lab.account(&pipeline, &[]);
    let mut expected: Vec<_> = packets.iter().chain(&packets).cloned().collect();
    let mut whole = read(&lab.path("whole.pcapng"));
    let mut shared: Vec<_> =
        read(&lab.path("x.pcapng")).into_iter().chain(read(&lab.path("y.pcapng"))).collect();
    for packets in [&mut expected, &mut whole, &mut shared] {
        packets.sort_by(|a, b| (a.ns, &a.bytes).cmp(&(b.ns, &b.bytes)));
    }
    assert_same("one file", &whole, &expected);
    assert_same("a group", &shared, &expected);
}
