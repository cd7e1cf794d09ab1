//! Captures to the nanosecond, written for the tests.

use std::path::Path;

use tapline_capture::{ByteOrder, Interface, LinkType, Packet, Writer};
pub(crate) use tapline_harness::captures::{Timed, timed as read};

/// The generated office traffic at uneven times; one packet in three is cut, one in fifty is longer than an mbuf.
pub(crate) fn office() -> Vec<Timed> {
    let mut ns = 1_700_000_000_123_456_789;
    let packets = tapline_traffic::office().packets.into_iter().enumerate();
    packets
        .map(|(index, packet)| {
            let mut bytes = packet.bytes;
            if index % 50 == 7 {
                bytes.resize(5000 + index, index as u8);
            }
            let original_len = bytes.len() as u32;
            if index % 3 == 1 {
                bytes.truncate(96);
            }
            ns += (index as u64 * 7_919) % 100_003;
            Timed { ns, original_len, bytes }
        })
        .collect()
}

/// A file format, and whether it has nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    PcapUs(ByteOrder),
    PcapNs(ByteOrder),
    Pcapng(ByteOrder),
}

pub(crate) fn write(path: &Path, form: Form, packets: &[Timed]) {
    let file = std::fs::File::create(path).expect("a writable folder");
    let mut writer = match form {
        Form::PcapUs(order) => Writer::pcap(file, order, false, LinkType::ETHERNET, 0),
        Form::PcapNs(order) => Writer::pcap(file, order, true, LinkType::ETHERNET, 0),
        Form::Pcapng(order) => Writer::pcapng(file, order),
    }
    .expect("a writable file");
    // packets come from three interfaces in turn
    let interfaces: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            writer
                .add_interface(&Interface::new(LinkType::ETHERNET, 0, Some(name.to_owned())))
                .expect("a writable file")
        })
        .into();
    for (index, Timed { ns, original_len, bytes }) in packets.iter().enumerate() {
        let packet = Packet {
            interface: interfaces[index % 3],
            time_ns: *ns,
            bytes,
            original_len: *original_len,
            comments: &[],
        };
        writer.write(&packet).expect("a writable file");
    }
    writer.finish().expect("a writable file");
}

/// Compares packets in order; a difference is told by its place.
pub(crate) fn assert_same(what: &str, got: &[Timed], expected: &[Timed]) {
    if let Some(place) = got.iter().zip(expected).position(|(got, expected)| got != expected) {
        let (got, expected) = (&got[place], &expected[place]);
        panic!(
            "{what}: packet {place} at {} of {} bytes ({} kept) instead of {} of {} ({}), or other bytes",
            got.ns,
            got.original_len,
            got.bytes.len(),
            expected.ns,
            expected.original_len,
            expected.bytes.len()
        );
    }
    assert_eq!(got.len(), expected.len(), "{what}: the number of packets");
}
