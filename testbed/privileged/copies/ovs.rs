//! ERSPAN II and III to Open vSwitch, whose userspace datapath in a namespace takes the frames out again.
//!
//! Needs root for namespaces and net_af_packet, and the programs of the package openvswitch-switch (`testbed/packages test` unpacks
//! them); says so and is skipped where that is not given.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tapline_harness::frames::{arp, tagged, tcp4, tcp6, udp4, udp6};
use tapline_harness::judges::assert_same;
use tapline_harness::lab::Lab;
use tapline_harness::links::ip;
use tapline_harness::pcap_files::{packets, write_frames};
use tapline_harness::programs::has_program;

const NAMESPACE: &str = "tapline-ovs";
/// Where the switch's package has its schema: installed, or unpacked by testbed/packages.
const SCHEMAS: [&str; 2] = [
    "/usr/share/openvswitch/vswitch.ovsschema",
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/testbed/usr/share/openvswitch/vswitch.ovsschema"),
];

/// A program in the namespace and the folder.
fn there(folder: &Path, line: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", NAMESPACE]).args(line.split_whitespace()).current_dir(folder);
    for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"] {
        command.env(variable, folder);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A switch of its own: its database and daemon run in the namespace until it is dropped.
struct Switch {
    children: Vec<Child>,
}

impl Drop for Switch {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        ip(&format!("netns del {NAMESPACE}"));
        ip("link del tlov0");
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} does not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Switch {
    /// Begins with the far end of a veth pair in a bridge that has 198.18.0.9.
    fn new(folder: &Path) -> Option<Self> {
        if !["ip", "tcpdump", "ovsdb-server", "ovs-vswitchd"].into_iter().all(has_program) {
            return None;
        }
        let Some(schema) = SCHEMAS.into_iter().find(|schema| Path::new(schema).is_file()) else {
            tapline_skip::skipped("no vswitch.ovsschema");
            return None;
        };
        let mut switch = Switch { children: Vec::new() };
        // what a run that was killed left
        ip(&format!("netns del {NAMESPACE}"));
        ip("link del tlov0");
        if !ip(&format!("netns add {NAMESPACE}"))
            || !ip(&format!("link add tlov0 type veth peer name tlov1 netns {NAMESPACE}"))
        {
            tapline_skip::skipped("no permission to make network namespaces, or no veth");
            return None;
        }
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/tlov0/disable_ipv6", "1");
        assert!(ip("link set tlov0 up") && ip(&format!("-n {NAMESPACE} link set tlov1 up")));
        assert!(
            there(folder, &format!("ovsdb-tool create conf.db {schema}"))
                .status()
                .is_ok_and(|status| status.success())
        );
        let mut start =
            |line: &str| switch.children.push(there(folder, line).spawn().expect("it was found"));
        start("ovsdb-server conf.db --remote=punix:db.sock --unixctl=db.ctl");
        wait_for("the database", || {
            there(folder, "ovs-vsctl --db=unix:db.sock --no-wait init").status().is_ok_and(|s| s.success())
        });
        start("ovs-vswitchd unix:db.sock --unixctl=vswitchd.ctl");
        switch.set(
            folder,
            "add-br under -- set bridge under datapath_type=netdev other_config:hwaddr=02:00:00:00:00:09 -- add-port under tlov1",
        );
        assert!(ip(&format!("-n {NAMESPACE} addr add 198.18.0.9/24 dev under")));
        assert!(ip(&format!("-n {NAMESPACE} link set under up")));
        Some(switch)
    }

    fn set(&self, folder: &Path, words: &str) {
        let output = there(folder, &format!("ovs-vsctl --db=unix:db.sock --timeout=20 {words}"))
            .stderr(Stdio::piped())
            .output();
        let output = output.expect("ovs-vsctl runs");
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Adds a bridge whose only other port ends a tunnel: what comes out of it reaches the bridge's own interface, captured to
    /// `file`.
    fn end(&mut self, folder: &Path, bridge: &str, tunnel: &str, file: &str) {
        self.set(
            folder,
            &format!(
                "add-br {bridge} -- set bridge {bridge} datapath_type=netdev -- add-port {bridge} {bridge}-end \
                 -- set interface {bridge}-end type=erspan options:remote_ip=198.18.0.1 {tunnel}"
            ),
        );
        let _ = there(folder, &format!("sysctl -q net.ipv6.conf.{bridge}.disable_ipv6=1")).status();
        assert!(ip(&format!("-n {NAMESPACE} link set {bridge} up")));
        let line = format!("tcpdump -U -i {bridge} -w {file}");
        self.children.push(there(folder, &line).spawn().expect("it was found"));
        let file = folder.join(file);
        wait_for("tcpdump begins", || file.metadata().is_ok_and(|metadata| metadata.len() >= 24));
    }
}

#[test]
fn open_vswitch_takes_every_frame_out_of_erspan_2_and_3() {
    let lab = Lab::new();
    let folder = lab.path("");
    let Some(mut switch) = Switch::new(&folder) else { return };
    switch.end(&folder, "two", "options:key=7 options:erspan_ver=1 options:erspan_idx=3", "two.pcap");
    switch.end(
        &folder,
        "three",
        "options:key=8 options:erspan_ver=2 options:erspan_dir=1 options:erspan_hwid=3",
        "three.pcap",
    );
    // no more than the switch's socket holds at a time, and each packet of both tunnels at most 1514 bytes long
    let mut sent: Vec<Vec<u8>> = (0..8)
        .flat_map(|index| {
            [udp4(20 + 190 * index), tcp6(150 * index), udp6(index), tagged(&tcp4(100 + index), 100, 3)]
        })
        .collect();
    sent.push(arp());
    write_frames(&lab.path("in.pcap"), &sent);
    // Open vSwitch 3.1 does not know the platform subheader, in which `timestamp erspan3` says the seconds, and drops such packets
    let ends = "src 198.18.0.1 dst 198.18.0.9 next-hop 02:00:00:00:00:09";
    let account = lab.account(
        &format!(
            "port attach in replay:in.pcap\n\
             port attach up net_af_packet0,iface=tlov0\n\
             tool create two port up erspan2 session 7 {ends}\n\
             tool create three port up erspan3 session 8 {ends} granularity 100ns\n\
             rule create 10 from in to two,three\n"
        ),
        &[],
    );
    assert_eq!(account.number("copies/sent"), 2 * sent.len() as u64, "{}", account.last());
    for name in ["two", "three"] {
        let file = lab.path(&format!("{name}.pcap"));
        // the kernel says something on the interface of its own accord
        let ours = || packets(&file).into_iter().filter(|frame| sent.contains(frame)).collect::<Vec<_>>();
        let begun = Instant::now();
        while ours().len() < sent.len() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(50));
        }
        // within a batch the switch goes flow by flow
        let (mut got, mut expected) = (ours(), sent.clone());
        got.sort();
        expected.sort();
        assert_same(&format!("out of ERSPAN, bridge {name}"), &got, &expected);
    }
}
