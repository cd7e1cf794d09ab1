//! The product ends tunnels of makers other than itself: captured GTP as tshark takes it apart, RSPAN as tcpdump and tcprewrite do.

use std::process::Command;

use tapline_harness::captures::captures;
use tapline_harness::frames::{self, frames, tagged, tcp4, udp4};
use tapline_harness::judges::assert_same;
use tapline_harness::lab::Lab;
use tapline_harness::pcap_files::{packets, tcpdump_selects, write_frames};
use tapline_harness::programs::has_program;
use tapline_harness::tshark::fields;

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
        let all = |column: usize| {
            row.get(column)
                .map_or_else(Vec::new, |text| text.split(';').filter(|part| !part.is_empty()).collect())
        };
        let number = |text: &str| {
            text.strip_prefix("0x").map_or(text.parse(), |digits| u32::from_str_radix(digits, 16)).ok()
        };
        let (lens, more) = (all(2), all(3));
        // fragments of what carries are not joined by a port; the last number is the innermost header's
        if matches!(more.first(), Some(&"1") | Some(&"True")) {
            return None;
        }
        let is_ipv6 = lens.len() == 1;
        let outer = number(lens[0])? as usize;
        let inner =
            if is_ipv6 { number(all(4).first()?)? as usize + 40 } else { number(lens[1])? as usize };
        let end = 14 + outer;
        Some(UserData {
            packet: row[0].parse::<usize>().ok()? - 1,
            start: end - inner,
            end,
            is_ipv6,
            teid: number(all(1)[0])?,
        })
    };
    rows.into_iter().filter_map(of).collect()
}

#[test]
fn captured_gtp_ends_at_a_port_and_gives_the_packets_that_tshark_sees_inside() {
    if !has_program("tshark") {
        return;
    }
    let mut compared = 0;
    for capture in captures(&["pcap"]) {
        let name = capture.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !["gtp1_gn_normal_incl_fragmentation.pcap", "gtp7_ipv6.pcap", "gtp_ext_header.pcap"]
            .contains(&name)
        {
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
        let refused =
            account.last()["ports"]["in"]["terminate"]["refused"].as_object().expect("by reason").clone();
        assert_eq!(
            refused.values().filter_map(serde_json::Value::as_u64).sum::<u64>() + terminated,
            outer.len() as u64,
            "{name}"
        );
        compared += expected.len();
    }
    assert!(compared > 30 || captures(&["pcap"]).is_empty(), "{compared} compared");
}

#[test]
fn an_rspan_vlan_ends_at_a_port_as_tcprewrite_takes_its_tag_off() {
    if !has_program("tcprewrite") {
        return;
    }
    let lab = Lab::new();
    // tcprewrite writes other MAC addresses to IPv6 frames whose tag it takes off
    let others = [[0x81, 0], [0x86, 0xdd]];
    let untagged: Vec<Vec<u8>> =
        frames().into_iter().filter(|frame| others.iter().all(|other| frame[12..14] != *other)).collect();
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
    assert!(
        Command::new("tcprewrite")
            .args(arguments)
            .current_dir(lab.path(""))
            .status()
            .expect("tcprewrite runs")
            .success()
    );
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
    if !has_program("tshark") {
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
            fields(&lab.path(&format!("{name}.pcap")), &["-Y", "erspan"], &[field])
                .into_iter()
                .map(|row| row[0].clone())
                .collect()
        };
        let truncated: Vec<String> =
            all.iter().map(|frame| u8::from(frame.len() > 80).to_string()).collect();
        assert!(
            truncated.contains(&"0".to_owned()) && truncated.contains(&"1".to_owned()),
            "{truncated:?}"
        );
        for name in ["near", "two", "three", "edited"] {
            assert_eq!(column(name, "erspan.truncated"), truncated, "{direction} {name}");
        }
        for name in ["near", "three", "edited"] {
            assert!(
                column(name, "erspan.direction").iter().all(|direction| direction == bit),
                "{direction} {name}"
            );
        }
    }
}

#[test]
fn copies_are_told_apart_by_the_tunnel_that_their_packets_came_in() {
    let ends = "src 198.18.0.1 dst 198.18.0.9 next-hop 02:00:00:00:00:09 mtu 9000";
    let all = frames();
    let lab = Lab::new();
    write_frames(&lab.path("in.pcap"), &all);
    let tunnels = [
        ("vxlan vni 5", 5),
        ("geneve vni 4099", 4099 % 4094),
        ("gre key 6", 6),
        ("erspan2 session 7", 7),
        ("rspan vlan 8", 8),
    ];
    let mut pipeline = "port attach in net_pcap0,rx_pcap=in.pcap\n".to_owned();
    for (place, (words, _)) in tunnels.iter().enumerate() {
        let ends = if words.starts_with("rspan") { "" } else { ends };
        pipeline += &format!(
            "port attach p{place} net_pcap{},tx_pcap={place}.pcap rxq 0\ntool create t{place} port p{place} {words} {ends}\n\
             rule create {place} from in to t{place}\n",
            place + 1
        );
    }
    lab.account(&pipeline, &[]);
    let mut mirrored = Vec::new();
    let mut expected = Vec::new();
    for (place, (_, number)) in tunnels.iter().enumerate() {
        mirrored.extend(packets(&lab.path(&format!("{place}.pcap"))));
        expected.extend(all.iter().map(|frame| tagged(frame, 100 + number, 0)));
    }
    write_frames(&lab.path("mirrored.pcap"), &mirrored);
    lab.account(
        "port attach in net_pcap0,rx_pcap=mirrored.pcap terminate vxlan terminate geneve terminate gre terminate erspan \
         terminate rspan vlan 8\n\
         port attach rule0 net_pcap1,tx_pcap=rule.pcap rxq 0\nport attach tool0 net_pcap2,tx_pcap=tool.pcap rxq 0\n\
         port attach both0 net_pcap3,tx_pcap=both.pcap rxq 0\n\
         tool create rule port rule0\ntool create tool port tool0 tag vlan 100 from-tunnel\n\
         tool create both port both0 strip vlan tag vlan 100 from-tunnel\n\
         rule create 10 from in tag vlan 100 from-tunnel to rule\nrule create 20 from in to tool,both\n",
        &[],
    );
    assert_same("edit of a rule", &packets(&lab.path("rule.pcap")), &expected);
    assert_same("edit of a tool", &packets(&lab.path("tool.pcap")), &expected);
    let without = |frame: &Vec<u8>| {
        if frame[16..18] == [0x81, 0] { [&frame[..16], &frame[20..]].concat() } else { frame.clone() }
    };
    let stripped: Vec<Vec<u8>> = expected.iter().map(without).collect();
    assert_same("after strip", &packets(&lab.path("both.pcap")), &stripped);
}

/// Each packet's payload of its innermost UDP or TCP header, as tshark sees it: none is empty. That of VXLAN's own UDP comes first.
fn innermost_payloads(path: &std::path::Path) -> Vec<String> {
    let payload = |row: Vec<String>| match row[0].as_str() {
        "" => row[1].rsplit(';').next().unwrap_or_default().to_owned(),
        tcp => tcp.to_owned(),
    };
    fields(path, &[], &["tcp.payload", "udp.payload"]).into_iter().map(payload).collect()
}

#[test]
fn bytes_and_masks_after_the_innermost_header_are_where_tshark_sees_the_payload() {
    if !has_program("tshark") {
        return;
    }
    let lab = Lab::new();
    let ends = "src 198.18.0.1 dst 198.18.0.9 next-hop 02:00:00:00:00:09 mtu 9000";
    let all: Vec<Vec<u8>> =
        (1..30).flat_map(|len| [frames::tcp6(len * 11), udp4(len), tagged(&tcp4(len * 5), 9, 1)]).collect();
    write_frames(&lab.path("in.pcap"), &all);
    lab.account(
        &format!(
            "port attach in net_pcap0,rx_pcap=in.pcap\nport attach vx0 net_pcap1,tx_pcap=vx.pcap rxq 0\n\
             port attach gre0 net_pcap2,tx_pcap=gre.pcap rxq 0\ntool create vx port vx0 vxlan vni 5 {ends}\n\
             tool create gre port gre0 gre {ends}\nrule create 10 from in to vx,gre\n"
        ),
        &[],
    );
    for tunnel in ["vx", "gre"] {
        let file = lab.path(&format!("{tunnel}.pcap"));
        let outer = packets(&file);
        lab.account(
            &format!(
                "port attach in net_pcap0,rx_pcap={tunnel}.pcap\nport attach a0 net_pcap1,tx_pcap=found.pcap rxq 0\n\
                 port attach b0 net_pcap2,tx_pcap=masked.pcap rxq 0\ntool create a port a0\n\
                 tool create b port b0 mask 2 3 byte 0xee after inner-l4\n\
                 rule create 10 from in match bytes 2 0x1118/ffff after inner-l4 to a\nrule create 20 from in to b\n"
            ),
            &[],
        );
        // payloads begin 03 0a 11 18 1f, so that all of four bytes and more match
        let payloads = innermost_payloads(&file);
        let is_found = |payload: &str| payload.len() >= 8 && &payload[4..8] == "1118";
        let found: Vec<Vec<u8>> = outer
            .iter()
            .zip(&payloads)
            .filter(|(_, payload)| is_found(payload))
            .map(|(frame, _)| frame.clone())
            .collect();
        assert!(found.len() > 60 && found.len() < outer.len(), "{}", found.len());
        assert_same(&format!("bytes in {tunnel}"), &packets(&lab.path("found.pcap")), &found);
        for ((masked, payload), frame) in
            innermost_payloads(&lab.path("masked.pcap")).iter().zip(&payloads).zip(&outer)
        {
            let byte = |place: usize| {
                if (2..5).contains(&(place / 2)) { 'e' } else { payload.as_bytes()[place].into() }
            };
            let expected: String = (0..payload.len()).map(byte).collect();
            assert_eq!(*masked, expected, "{tunnel}, {} bytes", frame.len());
        }
    }
}
