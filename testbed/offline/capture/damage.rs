//! Damaged and random files: no panic, and every packet before the damage.

use proptest::collection::vec;
use proptest::prelude::*;
use tapline_capture::{ByteOrder, Interface, LinkType, Packet, Reader, Writer};

use super::support::our_packets;
use crate::fuzz::capture::read_anything;

/// A small file of `count` packets, and where each packet's record ends.
fn sample(layout: Sample, count: usize) -> (Vec<u8>, Vec<usize>) {
    let ethernet = Interface::new(LinkType::ETHERNET, 200, Some("tap0".into()));
    let mut writer = match layout {
        Sample::Pcap(order) => Writer::pcap(Vec::new(), order, true, LinkType::ETHERNET, 200),
        Sample::Pcapng(order) => Writer::pcapng(Vec::new(), order),
    }
    .expect("a vector takes all");
    let interface = writer.add_interface(&ethernet).expect("a vector takes all");
    let mut ends = Vec::new();
    let mut at = match layout {
        Sample::Pcap(_) => 24,
        // Both header blocks, with their options, as the first packet's place tells below.
        Sample::Pcapng(_) => 0,
    };
    for index in 0..count {
        let bytes: Vec<u8> = (0..index * 5 + 1).map(|byte| byte as u8).collect();
        let comments: &[&str] = if index % 2 == 0 { &[] } else { &["odd"] };
        let time_ns = 1_700_000_000_000_000_000 + index as u64;
        writer
            .write(&Packet { interface, time_ns, bytes: &bytes, original_len: 500, comments })
            .expect("a vector takes all");
        at += match layout {
            Sample::Pcap(_) => 16 + bytes.len(),
            Sample::Pcapng(_) => {
                32 + bytes.len().next_multiple_of(4) + if comments.is_empty() { 0 } else { 12 }
            }
        };
        ends.push(at);
    }
    let file = writer.finish().expect("a vector takes all");
    let header_len = file.len() - at;
    let ends = ends.into_iter().map(|end| end + header_len).collect();
    (file, ends)
}

#[derive(Clone, Copy, Debug)]
enum Sample {
    Pcap(ByteOrder),
    Pcapng(ByteOrder),
}

const SAMPLES: [Sample; 4] = [
    Sample::Pcap(ByteOrder::Little),
    Sample::Pcap(ByteOrder::Big),
    Sample::Pcapng(ByteOrder::Little),
    Sample::Pcapng(ByteOrder::Big),
];

#[test]
fn a_file_cut_at_any_byte_yields_its_complete_packets_and_tells_where_the_cut_one_begins() {
    for layout in SAMPLES {
        let (file, ends) = sample(layout, 12);
        assert_eq!(ends.last(), Some(&file.len()));
        let whole = our_packets(
            Reader::from_stream(Box::new(std::io::Cursor::new(file.clone()))).expect("a sound file"),
        );
        assert_eq!(whole.len(), 12);
        let first_at = ends[0] - (ends[1] - ends[0]).min(ends[0]);
        for len in 0..file.len() {
            let complete = ends.iter().filter(|end| **end <= len).count();
            let Ok(mut reader) = Reader::from_stream(Box::new(std::io::Cursor::new(file[..len].to_vec())))
            else {
                assert!(len < 24, "{layout:?} of {len} bytes: the header is there");
                continue;
            };
            let mut packets = 0;
            let end = loop {
                match reader.next_record() {
                    Ok(Some(record)) => {
                        assert_eq!(record.bytes, whole[packets].bytes);
                        packets += 1;
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            assert_eq!(packets, complete, "{layout:?} of {len} bytes");
            let begin = ends[..complete].last().copied();
            match end {
                Some(error) if len > first_at && begin.is_some() => {
                    assert_eq!(error.offset, begin.expect("checked") as u64)
                }
                Some(error) => assert!(error.offset <= len as u64),
                None => assert!(
                    begin.is_none_or(|begin| begin == len),
                    "{layout:?} of {len} bytes: the cut is noticed"
                ),
            }
            assert!(matches!(reader.next_record(), Ok(None)), "after its end a file stays ended");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_bytes_are_read_to_an_end(bytes in vec(any::<u8>(), 0..300)) {
        read_anything(&bytes);
    }

    #[test]
    fn random_bytes_after_a_header_are_read_to_an_end(
        index in 0..SAMPLES.len(), keep in 0usize..4, bytes in vec(prop_oneof![Just(0u8), Just(4), any::<u8>()], 0..600),
    ) {
        let (mut file, _) = sample(SAMPLES[index], keep);
        file.extend(bytes);
        read_anything(&file);
    }

    #[test]
    fn changed_bytes_cost_no_packet_before_them(
        index in 0..SAMPLES.len(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (mut file, ends) = sample(SAMPLES[index], 12);
        let whole = our_packets(Reader::from_stream(Box::new(std::io::Cursor::new(file.clone()))).expect("a sound file"));
        let mut first = file.len();
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
            first = first.min(at);
        }
        read_anything(&file);
        let untouched = ends.iter().filter(|end| **end <= first).count();
        if let Ok(reader) = Reader::from_stream(Box::new(std::io::Cursor::new(file))) {
            prop_assert_eq!(&our_packets(reader)[..untouched], &whole[..untouched]);
        }
    }
}
