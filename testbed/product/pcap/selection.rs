//! Each tool's capture holds byte for byte, in order, the packets that `tcpdump -r IN EXPR` selects.

use std::path::Path;

use tapline_harness::captures;
use tapline_harness::judges::assert_same;
use tapline_harness::lab::{Lab, office, pcap_tools};
use tapline_harness::pcap_files::{packets, tcpdump_selects, write_capture};

/// Tools of one run: with the port that receives, fewer ports than Debian's DPDK takes.
const MOST_TOOLS: usize = 25;

/// What net_pcap writes of a packet in several segments: `RTE_ETHER_MAX_JUMBO_FRAME_LEN` (drivers/net/pcap/pcap_ethdev.c).
const NET_PCAP_MOST: usize = 0x3f00;

/// One rule and one tool for each expression, all of them on the same input at once; then each tool's file against tcpdump's.
fn same_as_tcpdump(input: &Path, expressions: &[&str], flags: &[&str]) {
    let received = packets(input).len();
    for expressions in expressions.chunks(MOST_TOOLS) {
        let lab = Lab::new();
        let names: Vec<String> = (0..expressions.len()).map(|index| format!("t{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut pipeline = format!(
            "set mempool 16384\nset idle sleep\nport attach in net_pcap0,rx_pcap={}\n",
            input.display()
        ) + &pcap_tools(&names);
        for (index, expression) in expressions.iter().enumerate() {
            pipeline += &format!("rule create {} from in match \"{expression}\" to t{index}\n", index + 1);
        }
        let account = lab.account(&pipeline, flags);
        assert_eq!(account.number("packets/received"), received as u64);
        for (index, expression) in expressions.iter().enumerate() {
            let Some(expected) = tcpdump_selects(input, expression) else { return };
            let sent = packets(&lab.path(&format!("t{index}.pcap")));
            assert_same(expression, &sent, &expected);
            assert_eq!(
                account.number(&format!("tools/t{index}/sent")),
                expected.len() as u64,
                "{expression}"
            );
        }
    }
}

#[test]
fn tools_get_what_tcpdump_selects_of_the_office_traffic() {
    let lab = Lab::new();
    office(&lab);
    same_as_tcpdump(&lab.path("in.pcap"), &captures::expressions(), &[]);
}

#[test]
fn tools_get_what_tcpdump_selects_of_the_public_captures() {
    let Some(folder) = captures::folder() else { return };
    let lab = Lab::new();
    let input = lab.path("all.pcap");
    let all: Vec<captures::Packet> =
        captures::ethernet(&folder).iter().flat_map(|file| captures::packets(file)).collect();
    // what was cut when it was captured, or net_pcap cuts, has its own test
    let whole = all.iter().filter(|packet| {
        packet.bytes.len() == packet.original_len as usize && packet.bytes.len() <= NET_PCAP_MOST
    });
    write_capture(&input, whole.map(|packet| (&packet.bytes[..], packet.original_len)));
    same_as_tcpdump(&input, &captures::expressions(), &["--exit-idle", "2s"]);
}

#[test]
fn tools_get_what_tcpdump_selects_of_jumbo_frames_in_several_segments() {
    let lab = Lab::new();
    let input = lab.write("in.pcap", tapline_traffic::jumbo().to_pcap());
    assert!(packets(&input).iter().any(|packet| packet.len() > 9000));
    // offset 3054 is where the generator puts a mark: 14 + 20 + 20 bytes of headers before 3000 of payload
    let expressions = [
        "ether[3054:2] = 2",
        "ether[3054:2] = 1 and tcp",
        "ether[8999] & 1 = 0",
        "vlan and ether[3058:2] = 0",
        "len > 4000",
        "tcp",
    ];
    same_as_tcpdump(&input, &expressions, &[]);
}

/// Such packets are judged whole; the file that net_pcap writes has their first 16128 bytes and says how long they were.
#[test]
fn packets_beyond_16128_bytes_are_cut_by_net_pcap_when_it_writes_them() {
    let lab = Lab::new();
    let input = lab.path("in.pcap");
    let packet: Vec<u8> = (0..20_000u32).map(|byte| byte as u8).collect();
    write_capture(&input, [(&packet[..], 20_000)]);
    let rule = "rule create 1 from in match \"ether[19999] = 0x1f and len = 20000\" to t\n";
    lab.account(&format!("port attach in net_pcap0,rx_pcap=in.pcap\n{}{rule}", pcap_tools(&["t"])), &[]);
    let mut capture = pcap::Capture::from_file(lab.path("t.pcap")).expect("a capture");
    let sent = capture.next_packet().expect("the packet");
    assert_eq!((sent.data, sent.header.len), (&packet[..NET_PCAP_MOST], 20_000));
}

#[test]
fn an_empty_capture_gives_empty_captures() {
    let lab = Lab::new();
    let input = lab.path("in.pcap");
    write_capture(&input, []);
    same_as_tcpdump(&input, &["ip", "not ip"], &[]);
}

#[test]
fn of_a_capture_that_breaks_off_comes_what_is_whole() {
    let lab = Lab::new();
    let whole = tapline_traffic::office().to_pcap();
    let input = lab.write("in.pcap", &whole[..whole.len() / 2 + 5]);
    let expected = packets(&input);
    assert!(!expected.is_empty());
    let pipeline = format!(
        "port attach in net_pcap0,rx_pcap=in.pcap\n{}rule create 1 from in to t\n",
        pcap_tools(&["t"])
    );
    let account = lab.account(&pipeline, &[]);
    assert_eq!(packets(&lab.path("t.pcap")), expected);
    assert_eq!(account.number("packets/delivered"), expected.len() as u64);
}

/// net_pcap hands on the captured bytes alone: the original length of a packet that was cut when it was captured is lost, so `len`,
/// `less` and `greater` judge the captured length. All other expressions judge the same bytes as tcpdump.
#[test]
fn packets_that_were_cut_are_matched_as_far_as_their_bytes_go() {
    let lab = Lab::new();
    let whole = tapline_traffic::office();
    let input = lab.path("in.pcap");
    let cut =
        |index: usize, bytes: &'static [u8]| &bytes[..bytes.len().min([20, 34, 54, 64, 96][index % 5])];
    let whole: Vec<&'static [u8]> = whole.packets.into_iter().map(|packet| &*packet.bytes.leak()).collect();
    write_capture(
        &input,
        whole.iter().enumerate().map(|(index, bytes)| (cut(index, bytes), bytes.len() as u32)),
    );
    let judges_lengths =
        |expression: &&str| ["len", "less", "greater"].iter().any(|word| expression.contains(word));
    let (by_length, others): (Vec<&str>, Vec<&str>) =
        captures::expressions().into_iter().partition(judges_lengths);
    same_as_tcpdump(&input, &others, &[]);

    let as_captured = lab.path("as-captured.pcap");
    write_capture(
        &as_captured,
        whole.iter().enumerate().map(|(index, bytes)| (cut(index, bytes), cut(index, bytes).len() as u32)),
    );
    same_as_tcpdump(&as_captured, &by_length, &[]);
}
