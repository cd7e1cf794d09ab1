//! Packets as tshark sees them.

use std::path::Path;
use std::process::Command;

use crate::programs::run;

/// Every checksum that tshark 4.0 can check in traffic of this kind (`tshark -G currentprefs`), and no guess at an FCS.
pub const STRICT: [&str; 32] = [
    "-o",
    "ip.check_checksum:TRUE",
    "-o",
    "udp.check_checksum:TRUE",
    "-o",
    "udp.ignore_ipv6_zero_checksum:FALSE",
    "-o",
    "udplite.check_checksum:TRUE",
    "-o",
    "udplite.ignore_checksum_coverage:FALSE",
    "-o",
    "tcp.check_checksum:TRUE",
    "-o",
    "sctp.checksum:CRC-32c",
    "-o",
    "dccp.check_checksum:TRUE",
    "-o",
    "pgm.check_checksum:TRUE",
    "-o",
    "stt.check_checksum:TRUE",
    "-o",
    "cattp.checksum:TRUE",
    "-o",
    "cfp.check_fcs:TRUE",
    "-o",
    "eth.check_fcs:TRUE",
    "-o",
    "eth.fcs:Never",
    "-o",
    "vrrp.v3_checksum_as_in_v2:FALSE",
    "-o",
    "tcp.analyze_sequence_numbers:FALSE",
];

/// Nothing is reassembled, so each packet stands for itself.
pub const EACH_ALONE: [&str; 6] =
    ["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE"];

/// tshark's fields, one row a packet; several values of one field are joined by `;`.
pub fn fields(path: &Path, extra: &[&str], names: &[&str]) -> Vec<Vec<String>> {
    let mut arguments =
        vec!["-n", "-r", path.to_str().expect("utf-8"), "-T", "fields", "-E", "aggregator=;"];
    arguments.extend(STRICT);
    arguments.extend(extra);
    for name in names {
        arguments.extend(["-e", name]);
    }
    run("tshark", &arguments).lines().map(|line| line.split('\t').map(str::to_string).collect()).collect()
}

/// The fields of all protocols in which tshark says how a checksum is.
pub fn checksum_statuses() -> &'static [String] {
    static STATUSES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    STATUSES.get_or_init(|| {
        let fields = run("tshark", &["-G", "fields"]);
        let names = fields.lines().filter_map(|line| line.split('\t').nth(2));
        let names =
            names.filter(|name| name.ends_with("checksum.status") || name.ends_with("cksum.status"));
        let names: std::collections::BTreeSet<String> = names.map(str::to_owned).collect();
        assert!(names.contains("ip.checksum.status") && names.len() > 30, "{names:?}");
        names.into_iter().collect()
    })
}

/// Fails if tshark finds anything malformed or any checksum bad.
pub fn assert_sound(path: &Path, extra: &[&str]) {
    let mut arguments = vec!["-n", "-r", path.to_str().expect("utf-8")];
    arguments.extend(STRICT);
    arguments.extend(extra);
    let complaints = format!(
        "_ws.malformed || _ws.short || udp.length.bad || ip.bogus_ip_length || _ws.expert.group == Checksum || \
         _ws.expert.severity >= 6291456 || {}",
        checksum_statuses().join(" == Bad || ") + " == Bad"
    );
    arguments.extend(["-V", "-Y", &complaints]);
    let complaints = run("tshark", &arguments);
    assert!(complaints.is_empty(), "{}: {complaints}", path.display());
}

/// Where tshark sees the innermost Ethernet header of each packet begin.
pub fn innermost_ethernet(path: &Path) -> Vec<usize> {
    let mut arguments =
        vec!["-n", "-r", path.to_str().expect("utf-8"), "-T", "jsonraw", "--no-duplicate-keys"];
    arguments.extend(STRICT);
    let packets: serde_json::Value =
        serde_json::from_str(&run("tshark", &arguments)).expect("tshark writes JSON");
    let place = |eth: &serde_json::Value| {
        let last = match &eth[0] {
            serde_json::Value::Array(_) => {
                eth.as_array().and_then(|all| all.last()).cloned().unwrap_or_default()
            }
            _ => eth.clone(),
        };
        last[1].as_u64().expect("a position") as usize
    };
    packets
        .as_array()
        .expect("one a packet")
        .iter()
        .map(|packet| place(&packet["_source"]["layers"]["eth_raw"]))
        .collect()
}

/// What tshark says of each packet of `file`: one row a packet, one column a field, all values of a field joined by commas.
/// Nothing is reassembled, so each packet stands for itself.
pub fn columns(file: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args([
        "-n",
        "-T",
        "fields",
        "-E",
        "separator=/t",
        "-E",
        "occurrence=a",
        "-E",
        "aggregator=,",
    ]);
    command.args(EACH_ALONE);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark was found");
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("tshark writes text");
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}
