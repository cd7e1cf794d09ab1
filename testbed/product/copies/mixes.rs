//! Random and cut packets through random mixes of edits and transports in the product, by a model of a few lines.

use proptest::prelude::*;
use proptest::sample::select;
use tapline_capture::ByteOrder;
use tapline_harness::frames;
use tapline_harness::judges;
use tapline_harness::lab::Lab;
use tapline_harness::pcap_files::packets;

use crate::times::packets::{Form, Timed, assert_same, read, write};

/// What a tool asks for.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    strip_vlan: bool,
    /// Offset, length, byte.
    mask: Option<(usize, usize, u8)>,
    slice: Option<usize>,
    mac: bool,
    tag: Option<u16>,
    /// Said by the rule and not by the tool.
    by_rule: bool,
    carriage: Carriage,
}

#[derive(Clone, Copy, Debug)]
enum Carriage {
    Capture,
    Rspan,
    /// The words, and the bytes in front of a copy over IPv4; 20 more over IPv6 (`docs/reference/transports.md`).
    Tunnel {
        words: &'static str,
        header_len: usize,
        is_ipv6: bool,
    },
}

const TUNNELS: [(&str, usize); 6] = [
    ("erspan1 session 1", 38),
    ("erspan2 session 2", 50),
    ("erspan3 session 3", 54),
    ("vxlan vni 4", 50),
    ("geneve vni 5", 50),
    ("gre key 6", 42),
];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

impl Mix {
    fn words(&self) -> String {
        let mut words = String::new();
        if self.strip_vlan {
            words += " strip vlan";
        }
        if let Some((offset, len, byte)) = self.mask {
            words += &format!(" mask {offset} {len} byte {byte:#04x}");
        }
        if let Some(keep) = self.slice {
            words += &format!(" slice {keep}");
        }
        if self.mac {
            words += " rewrite dst-mac 02:00:00:00:00:99";
        }
        if let Some(vlan) = self.tag {
            words += &format!(" tag vlan {vlan}");
        }
        words
    }

    // short queues: eight full ones of copies have to fit the memory that tests have
    fn tool(&self, place: usize) -> String {
        let edits = if self.by_rule { String::new() } else { self.words() };
        let transport = match self.carriage {
            Carriage::Capture => {
                return format!("tool create t{place} capture t{place}.pcapng{edits} queue 1024\n");
            }
            Carriage::Rspan => "rspan vlan 77 priority 2".to_owned(),
            Carriage::Tunnel { words, is_ipv6, .. } => {
                let ends = if is_ipv6 {
                    "src 2001:db8::1 dst 2001:db8::9"
                } else {
                    "src 198.18.0.1 dst 198.18.0.9"
                };
                format!("{words} {ends} next-hop 02:00:00:00:01:02 mtu 9000")
            }
        };
        format!(
            "port attach p{place} net_pcap{place},tx_pcap=t{place}.pcap rxq 0\ntool create t{place} port p{place} {transport}{edits} queue 1024\n"
        )
    }

    /// The packet as the tool is to have it, in the order of docs/reference/edits.md.
    fn model(&self, packet: &Timed) -> Timed {
        let Timed { ns, mut original_len, mut bytes } = packet.clone();
        if self.strip_vlan && bytes[12..14] == [0x81, 0] {
            bytes.drain(12..16);
            original_len -= 4;
        }
        if let Some((offset, len, byte)) = self.mask {
            bytes.iter_mut().skip(offset).take(len).for_each(|place| *place = byte);
        }
        bytes.truncate(self.slice.unwrap_or(usize::MAX));
        if self.mac {
            bytes[..6].copy_from_slice(&MAC);
        }
        if let Some(vlan) = self.tag {
            bytes = frames::tagged(&bytes, vlan, 0);
            original_len += 4;
        }
        Timed { ns, original_len, bytes }
    }
}

/// A mask, a slice and so on, or none of it; masks leave the link header to the other edits.
pub(crate) fn mixes() -> impl Strategy<Value = Mix> {
    let tunnel = (select(TUNNELS.to_vec()), any::<bool>()).prop_map(|((words, header_len), is_ipv6)| {
        Carriage::Tunnel { words, header_len: header_len + if is_ipv6 { 20 } else { 0 }, is_ipv6 }
    });
    let carriage = prop_oneof![2 => Just(Carriage::Capture), 1 => Just(Carriage::Rspan), 3 => tunnel];
    let mask = proptest::option::of((18usize..300, 1usize..300, any::<u8>()));
    let slice = proptest::option::of(prop_oneof![18usize..70, 18usize..1500]);
    let tag = proptest::option::of(1u16..4095);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (flags, mask, slice, tag, carriage).prop_map(
        |((strip_vlan, mac, by_rule), mask, slice, tag, carriage)| Mix {
            strip_vlan,
            mask,
            slice,
            mac,
            tag,
            by_rule,
            carriage,
        },
    )
}

/// The lines of a tool for each mix, and of a rule that sends it all packets of port `in`.
pub(crate) fn tools_and_rules(mixes: &[Mix]) -> String {
    let tools: String = mixes.iter().enumerate().map(|(place, mix)| mix.tool(place)).collect();
    let rule = |(place, mix): (usize, &Mix)| {
        let edits = if mix.by_rule { mix.words() } else { String::new() };
        format!("rule create {} from in{edits} to t{place}\n", place + 1)
    };
    tools + &mixes.iter().enumerate().map(rule).collect::<String>()
}

/// A frame of some kind or random bytes behind a link header, cut anywhere behind that, at its own time.
fn random_packets() -> impl Strategy<Value = Vec<Timed>> {
    let made = select(frames::frames());
    let random =
        proptest::collection::vec(any::<u8>(), 4..1400).prop_map(|bytes| frames::ethernet(0x88b5, &bytes));
    // longer than an mbuf: chains of up to four
    let long = (2000usize..8000, any::<u8>()).prop_map(|(len, seed)| {
        let bytes: Vec<u8> =
            (0..len).map(|place| (place as u8).wrapping_mul(7).wrapping_add(seed)).collect();
        frames::ethernet(0x88b5, &bytes)
    });
    let packet = (prop_oneof![8 => made, 6 => random, 1 => long], any::<u16>(), 0u64..1000, 0u32..100);
    proptest::collection::vec(packet, 1..150).prop_map(|packets| {
        let mut time_ns = 1_700_000_000_123_456_789;
        let packet = |(mut bytes, cut, pause_ns, more): (Vec<u8>, u16, u64, u32)| {
            time_ns += pause_ns;
            let original_len = bytes.len() as u32 + more;
            if cut % 2 == 1 {
                bytes.truncate(18 + usize::from(cut) % bytes.len());
            }
            Timed { ns: time_ns, original_len, bytes }
        };
        packets.into_iter().map(packet).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_mix_gives_each_tool_the_packets_of_the_model(packets_in in random_packets(), mixes in proptest::collection::vec(mixes(), 8)) {
        let lab = Lab::new();
        write(&lab.path("in.cap"), Form::PcapNs(ByteOrder::Little), &packets_in);
        let account = lab.account(&format!("port attach in replay:in.cap,speed=max\n{}", tools_and_rules(&mixes)), &[]);
        prop_assert_eq!(account.number("copies/sent"), (mixes.len() * packets_in.len()) as u64);
        for (place, mix) in mixes.iter().enumerate() {
            let expected: Vec<Timed> = packets_in.iter().map(|packet| mix.model(packet)).collect();
            let what = format!("{mix:?}");
            if let Carriage::Capture = mix.carriage {
                assert_same(&what, &read(&lab.path(&format!("t{place}.pcapng"))), &expected);
                continue;
            }
            let got = packets(&lab.path(&format!("t{place}.pcap")));
            let expected: Vec<Vec<u8>> = expected.into_iter().map(|packet| packet.bytes).collect();
            let Carriage::Tunnel { header_len, is_ipv6, .. } = mix.carriage else {
                let tagged: Vec<Vec<u8>> = expected.iter().map(|frame| frames::tagged(frame, 77, 2)).collect();
                judges::assert_same(&what, &got, &tagged);
                continue;
            };
            let inside: Vec<Vec<u8>> = got.iter().map(|copy| copy[header_len..].to_vec()).collect();
            judges::assert_same(&what, &inside, &expected);
            for copy in &got {
                // IPv4 counts its own header, IPv6 does not
                let (at, counted) = if is_ipv6 { (18, copy.len() - 54) } else { (16, copy.len() - 14) };
                prop_assert_eq!(usize::from(u16::from_be_bytes([copy[at], copy[at + 1]])), counted, "{}", what);
            }
        }
    }
}
