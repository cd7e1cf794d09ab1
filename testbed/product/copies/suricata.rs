//! Suricata unwraps what Tapline wrapped: its eve.json names the flows inside, each with its packets.
//!
//! Needs suricata, which Debian 12 has in its backports; its package sets up a daemon, so that `testbed/packages test` unpacks it
//! and does not install it. Here it only reads files, with a configuration of the test's own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use tapline_harness::frames;
use tapline_harness::lab::Lab;
use tapline_harness::pcap_files::{packets, write_frames};
use tapline_harness::programs::has_program;

/// Flows only, and every tunnel that it knows on the port of its standard.
const CONFIGURATION: &str = "%YAML 1.1
---
vars: { address-groups: { HOME_NET: any, EXTERNAL_NET: any } }
stats: { enabled: no }
outputs: [ { eve-log: { enabled: yes, filetype: regular, filename: eve.json, types: [ flow ] } } ]
decoder:
  vxlan: { enabled: true, ports: 4789 }
  geneve: { enabled: true, ports: 6081 }
  erspan: { typeI: { enabled: true } }
";

/// Protocol and both ends of a flow, the lower one first.
type Flow = (String, [(String, u64); 2]);

fn flow(protocol: &str, mut ends: [(String, u64); 2]) -> Flow {
    ends.sort();
    (protocol.to_owned(), ends)
}

/// Packets of each flow of TCP or UDP that Suricata sees in a file, whatever other traffic it names beside.
fn flows(lab: &Lab, file: &Path) -> BTreeMap<Flow, u64> {
    let folder = lab.path("suricata");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a folder of the test's own");
    lab.write("suricata.yaml", CONFIGURATION);
    let mut command = Command::new("suricata");
    // no rules, and every checksum is looked at
    command
        .args(["-c", "suricata.yaml", "-S", "/dev/null", "-k", "all", "-l"])
        .arg(&folder)
        .arg("-r")
        .arg(file);
    let output = command.current_dir(lab.path("")).output().expect("suricata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let eve = std::fs::read_to_string(folder.join("eve.json")).expect("suricata writes eve.json");
    let mut flows = BTreeMap::new();
    for line in eve.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("suricata writes JSON");
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let port = |key: &str| line[key].as_u64().unwrap_or_default();
        if !["TCP", "UDP"].contains(&text("proto").as_str()) {
            continue;
        }
        let ends = [(text("src_ip"), port("src_port")), (text("dest_ip"), port("dest_port"))];
        let count = |key: &str| line["flow"][key].as_u64().unwrap_or_default();
        *flows.entry(flow(&text("proto"), ends)).or_default() +=
            count("pkts_toserver") + count("pkts_toclient");
    }
    flows
}

/// Three conversations, of both IP versions.
fn conversations() -> Vec<Vec<u8>> {
    let mut frames = frames::frames();
    frames.extend((1..20).map(|len| frames::tcp6(len * 40)));
    frames.extend((1..20).map(|len| frames::udp4(len * 40)));
    frames
}

#[test]
fn eve_json_names_the_flows_inside_of_every_tunnel_that_suricata_knows() {
    if !has_program("suricata") {
        return;
    }
    let lab = Lab::new();
    write_frames(&lab.path("in.pcap"), &conversations());
    let expected = flows(&lab, &lab.path("in.pcap"));
    assert!(expected.len() >= 4, "{expected:?}");
    let inner = expected.values().sum::<u64>();
    let tunnel = "src 198.18.0.1 dst 198.18.0.9 next-hop 02:00:00:00:00:09 mtu 9000";
    let mut pipeline = "port attach in net_pcap0,rx_pcap=in.pcap\n".to_owned();
    let kinds = [
        ("vxlan", "vxlan vni 7"),
        ("geneve", "geneve vni 7"),
        ("gre", "gre"),
        ("keyed", "gre key 7"),
        ("erspan1", "erspan1 session 7"),
        ("erspan2", "erspan2 session 7"),
    ];
    for (place, (name, words)) in kinds.iter().enumerate() {
        pipeline += &format!("port attach {name}0 net_pcap{},tx_pcap={name}.pcap rxq 0\n", place + 1);
        pipeline += &format!(
            "tool create {name} port {name}0 {words} {tunnel}\nrule create {} from in to {name}\n",
            place + 10
        );
    }
    lab.account(&pipeline, &[]);
    for (name, _) in kinds {
        let file = lab.path(&format!("{name}.pcap"));
        assert_eq!(packets(&file).len(), conversations().len());
        // the tunnel's own flow, of UDP, is named beside those inside
        let mut named = flows(&lab, &file);
        named.retain(|(_, ends), _| ends.iter().all(|(address, _)| !address.starts_with("198.18.0.")));
        assert_eq!(named, expected, "{name}: {inner} packets inside");
    }
}
