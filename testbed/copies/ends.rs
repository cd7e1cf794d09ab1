//! The product ends tunnels of makers other than itself: captured GTP as tshark takes it apart, RSPAN as tcpdump and tcprewrite do.

#[path = "support.rs"]
mod frames;
#[path = "../support/mod.rs"]
mod support;

use std::process::Command;

use frames::{captures, fields, frames, have, tagged, tcp4, udp4, write_frames};
use support::{Lab, assert_same, has_program, packets, tcpdump_selects};

/// User data that tshark sees in a capture of GTP over IPv4: where it stands in which packet, and its TEID.
struct UserData {
    packet: usize,
    start: usize,
    end: usize,
    is_ipv6: bool,
    teid: u32,
}

fn user_data(path: &std::path::Path) -> Vec<UserData> {
    let names = ["frame.number", "gtp.teid", "ip.len", "ip.flags.mf", "ipv6.plen"];
    let rows = fields(path, &["-o", "ip.defragment:FALSE", "-Y", "gtp.message == 0xff"], &names);
    let of = |row: Vec<String>| {
        let all =
            |column: usize| row.get(column).map_or_else(Vec::new, |text| text.split(';').filter(|part| !part.is_empty()).collect());
        let number = |text: &str| text.strip_prefix("0x").map_or(text.parse(), |digits| u32::from_str_radix(digits, 16)).ok();
        let (lens, more) = (all(2), all(3));
        // fragments of what carries are not joined by a port; the last number is the innermost header's
        if matches!(more.first(), Some(&"1") | Some(&"True")) {
            return None;
        }
        let is_ipv6 = lens.len() == 1;
        let outer = number(lens[0])? as usize;
        let inner = if is_ipv6 { number(all(4).first()?)? as usize + 40 } else { number(lens[1])? as usize };
        let end = 14 + outer;
        Some(UserData { packet: row[0].parse::<usize>().ok()? - 1, start: end - inner, end, is_ipv6, teid: number(all(1)[0])? })
    };
    rows.into_iter().filter_map(of).collect()
}

#[test]
fn captured_gtp_ends_at_a_port_and_gives_the_packets_that_tshark_sees_inside() {
    if !have("tshark") {
        return;
    }
    let mut compared = 0;
    for capture in captures() {
        let name = capture.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !["gtp1_gn_normal_incl_fragmentation.pcap", "gtp7_ipv6.pcap", "gtp_ext_header.pcap"].contains(&name) {
            continue;
        }
        let lab = Lab::new();
        std::fs::copy(&capture, lab.path("in.pcap")).expect("a readable capture");
        let outer = packets(&capture);
        let inside = user_data(&capture);
        let teid = inside.first().map_or(0, |data| data.teid);
        let frame = |data: &UserData| {
            let bytes = &outer[data.packet];
            let ethertype: [u8; 2] = if data.is_ipv6 { [0x86, 0xdd] } else { [0x08, 0x00] };
            [&bytes[..12], &ethertype, &bytes[data.start..data.end]].concat()
        };
        let account = lab.account(
            &format!(
                "port attach in net_pcap0,rx_pcap=in.pcap terminate gtp\n\
                 port attach every0 net_pcap1,tx_pcap=every.pcap rxq 0\n\
                 port attach one0 net_pcap2,tx_pcap=one.pcap rxq 0\n\
                 tool create every port every0\n\
                 tool create one port one0\n\
                 rule create 10 from in to every\n\
                 rule create 20 from in teid {teid} to one\n"
            ),
            &[],
        );
        let expected: Vec<Vec<u8>> = inside.iter().map(frame).collect();
        assert_same(name, &packets(&lab.path("every.pcap")), &expected);
        let of_one: Vec<Vec<u8>> = inside.iter().filter(|data| data.teid == teid).map(frame).collect();
        assert_same(name, &packets(&lab.path("one.pcap")), &of_one);
        let terminated = account.number("ports/in/terminate/terminated");
        assert_eq!(terminated, expected.len() as u64, "{name}");
        let refused = account.last()["ports"]["in"]["terminate"]["refused"].as_object().expect("by reason").clone();
        assert_eq!(refused.values().filter_map(|n| n.as_u64()).sum::<u64>() + terminated, outer.len() as u64, "{name}");
        compared += expected.len();
    }
    assert!(compared > 30 || captures().is_empty(), "{compared} compared");
}

#[test]
fn an_rspan_vlan_ends_at_a_port_as_tcprewrite_takes_its_tag_off() {
    if !has_program("tcprewrite") {
        return;
    }
    let lab = Lab::new();
    // tcprewrite writes other MAC addresses to IPv6 frames whose tag it takes off
    let others = [[0x81, 0], [0x86, 0xdd]];
    let untagged: Vec<Vec<u8>> = frames().into_iter().filter(|frame| others.iter().all(|other| frame[12..14] != *other)).collect();
    let mut all: Vec<Vec<u8>> = untagged.iter().map(|frame| tagged(frame, 900, 5)).collect();
    all.extend(untagged.iter().map(|frame| tagged(frame, 901, 0)));
    all.extend([tcp4(70), udp4(200)]);
    write_frames(&lab.path("in.pcap"), &all);
    let account = lab.account(
        "port attach in net_pcap0,rx_pcap=in.pcap terminate rspan vlan 900\n\
         port attach every0 net_pcap1,tx_pcap=every.pcap rxq 0\n\
         port attach other0 net_pcap2,tx_pcap=other.pcap rxq 0\n\
         tool create every port every0\n\
         tool create other port other0\n\
         rule create 10 from in vni 900 match \"not vlan\" to every\n\
         rule create 20 from in vni 901 to other\n",
        &[],
    );
    let Some(selected) = tcpdump_selects(&lab.path("in.pcap"), "vlan 900") else { return };
    write_frames(&lab.path("selected.pcap"), &selected);
    let arguments = ["--enet-vlan=del", "-i", "selected.pcap", "-o", "expected.pcap"];
    assert!(Command::new("tcprewrite").args(arguments).current_dir(lab.path("")).status().expect("tcprewrite runs").success());
    let expected = packets(&lab.path("expected.pcap"));
    assert_eq!(expected.len(), untagged.len());
    assert_same("rspan", &packets(&lab.path("every.pcap")), &expected);
    assert_eq!(account.number("ports/in/terminate/terminated"), untagged.len() as u64);
    assert_eq!(account.number("ports/in/terminate/refused/other_identifier"), untagged.len() as u64);
    assert_eq!(account.number("ports/in/terminate/refused/other_traffic"), 2);
    assert_eq!(account.number("tools/other/requested"), 0);
}

#[test]
fn what_an_erspan_says_of_its_frames_a_further_erspan_says_again() {
    if !have("tshark") {
        return;
    }
    let ends = "src 198.18.0.1 dst 198.18.0.9 next-hop 02:00:00:00:00:09 mtu 9000";
    let all = frames();
    for (direction, bit) in [("ingress", "0"), ("egress", "1")] {
        let lab = Lab::new();
        write_frames(&lab.path("in.pcap"), &all);
        lab.account(
            &format!(
                "port attach in net_pcap0,rx_pcap=in.pcap\n\
                 port attach near0 net_pcap1,tx_pcap=near.pcap rxq 0\n\
                 tool create near port near0 erspan3 session 7 direction {direction} slice 80 {ends}\n\
                 rule create 10 from in to near\n"
            ),
            &[],
        );
        // the copies of copies are whole, and only what the first header says tells that the packets were not
        lab.account(
            &format!(
                "port attach in net_pcap0,rx_pcap=near.pcap terminate erspan session 7\n\
                 port attach two0 net_pcap1,tx_pcap=two.pcap rxq 0\n\
                 port attach three0 net_pcap2,tx_pcap=three.pcap rxq 0\n\
                 port attach edited0 net_pcap3,tx_pcap=edited.pcap rxq 0\n\
                 tool create two port two0 erspan2 session 8 {ends}\n\
                 tool create three port three0 erspan3 session 9 {ends}\n\
                 tool create edited port edited0 erspan3 session 10 mask 20 4 {ends}\n\
                 rule create 10 from in to two,three,edited\n"
            ),
            &[],
        );
        let column = |name: &str, field: &str| -> Vec<String> {
            fields(&lab.path(&format!("{name}.pcap")), &["-Y", "erspan"], &[field]).into_iter().map(|row| row[0].clone()).collect()
        };
        let truncated: Vec<String> = all.iter().map(|frame| u8::from(frame.len() > 80).to_string()).collect();
        assert!(truncated.contains(&"0".to_owned()) && truncated.contains(&"1".to_owned()), "{truncated:?}");
        for name in ["near", "two", "three", "edited"] {
            assert_eq!(column(name, "erspan.truncated"), truncated, "{direction} {name}");
        }
        for name in ["near", "three", "edited"] {
            assert!(column(name, "erspan.direction").iter().all(|direction| direction == bit), "{direction} {name}");
        }
    }
}
