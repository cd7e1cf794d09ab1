//! Packets that net_pcap cuts where it writes them are sent, and what was cut off is counted.

use tapline_capture::ByteOrder;
use tapline_harness::lab::Lab;

use crate::times::packets::{Form, Timed, read, write};

/// What net_pcap writes of a packet.
const WRITTEN: usize = 16_128;

#[test]
fn what_net_pcap_cuts_off_is_counted_and_not_among_the_bytes_that_were_sent() {
    let lab = Lab::new();
    let lens = [100, 16_184, WRITTEN, 20_084, 60, WRITTEN + 1, 3000];
    let packets: Vec<Timed> = (0..70)
        .map(|index| {
            let mut bytes = vec![index as u8; lens[index % lens.len()]];
            bytes[12..14].copy_from_slice(&[0x08, 0x06]);
            Timed { ns: 1_700_000_000_000_000_000 + index as u64, original_len: bytes.len() as u32, bytes }
        })
        .collect();
    write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &packets);
    let all: u64 = packets.iter().map(|packet| packet.bytes.len() as u64).sum();
    let cut: u64 = packets.iter().map(|packet| packet.bytes.len().saturating_sub(WRITTEN) as u64).sum();
    // straight to the driver, to several, from a queue with a rate, and a capture tool that cuts nothing
    let head = "port attach in replay:in.cap,speed=max\nport attach a net_pcap1,tx_pcap=a.pcap rxq 0\n\
                port attach b net_pcap2,tx_pcap=b.pcap rxq 0\n";
    for (tools, targets) in [
        ("tool create a port a\n", "a"),
        ("tool create a port a\ntool create b port b\n", "a,b"),
        ("tool create a port a rate 10gbit\n", "a"),
        ("tool create a port a\ntool create c capture c.pcapng\n", "a,c"),
    ] {
        let account = lab.account(&format!("{head}{tools}rule create 10 from in to {targets}\n"), &[]);
        for tool in targets.split(',').filter(|tool| *tool != "c") {
            let number = |what: &str| account.number(&format!("tools/{tool}/{what}"));
            assert_eq!((number("sent"), number("cut_bytes"), number("sent_bytes")), (70, cut, all - cut));
            let written = read(&lab.path(&format!("{tool}.pcap")));
            assert_eq!(written.len(), packets.len());
            for (written, packet) in written.iter().zip(&packets) {
                assert_eq!(written.bytes, packet.bytes[..packet.bytes.len().min(WRITTEN)]);
                assert_eq!(written.original_len, packet.original_len);
            }
            assert_eq!(account.number(&format!("ports/{tool}/driver/tx_bytes")), all - cut);
        }
        if targets.contains('c') {
            assert_eq!(account.number("tools/c/cut_bytes"), 0);
        }
    }
}
