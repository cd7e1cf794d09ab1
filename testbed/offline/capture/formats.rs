//! Every format that Wireshark's tools write is read as libpcap and tshark read it, and what we write is read back by them.

use std::fs::File;
use std::path::Path;

use tapline_capture::{ByteOrder, Interface, LinkType, Packet, Reader, Writer};
use tapline_harness::programs::{has_programs, run};

use super::support::{PlainPacket, captures, libpcap_packets, our_packets, output, text};

fn read(path: &Path) -> Vec<PlainPacket> {
    Reader::open(path).map(our_packets).unwrap_or_default()
}

#[test]
fn captures_are_read_as_libpcap_reads_them() {
    let mut packets = 0;
    for path in captures() {
        let Some(expected) = libpcap_packets(&path) else { continue };
        assert_eq!(read(&path), expected, "{}", path.display());
        let ahead = Reader::read_ahead(File::open(&path).expect("opened before")).expect("read before");
        assert_eq!(our_packets(ahead), expected, "{} read ahead", path.display());
        packets += expected.len();
    }
    println!("{packets} packets");
}

#[test]
fn formats_that_editcap_writes_are_read_as_libpcap_reads_them() {
    if !has_programs(&["editcap"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (index, path) in captures().iter().step_by(40).enumerate() {
        let Some(original) = libpcap_packets(path) else { continue };
        for format in ["pcap", "nsecpcap", "modpcap", "nokiapcap", "pcapng"] {
            let converted = folder.path().join(format!("{index}.{format}"));
            run("editcap", &["-F", format, text(path), text(&converted)]);
            let Some(expected) = libpcap_packets(&converted) else { continue };
            if format == "nokiapcap" {
                // It has the common magic number and longer records: libpcap cannot tell it either.
                continue;
            }
            let ours = read(&converted);
            assert_eq!(ours, expected, "{} as {format}", path.display());
            assert_eq!(ours.len(), original.len(), "{} as {format}", path.display());
        }
    }
}

#[test]
fn captures_of_several_interfaces_and_sections_are_read_whole() {
    let captures = captures();
    if captures.is_empty() || !has_programs(&["mergecap", "editcap", "tshark"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (merged, cooked, two) =
        (folder.path().join("m.pcapng"), folder.path().join("c.pcapng"), folder.path().join("two.pcapng"));
    let inputs: Vec<&str> =
        captures.iter().filter(|path| !read(path).is_empty()).step_by(60).map(|path| text(path)).collect();
    run("mergecap", &[&["-F", "pcapng", "-I", "none", "-w", text(&merged)], inputs.as_slice()].concat());
    run("editcap", &["-F", "pcapng", "-T", "rawip", inputs[0], text(&cooked)]);
    let mut sections = std::fs::read(&merged).expect("written by mergecap");
    sections.extend(std::fs::read(&cooked).expect("written by editcap"));
    std::fs::write(&two, &sections).expect("a writable folder");

    let mut reader = Reader::open(&two).expect("a pcapng file");
    let mut ours = Vec::new();
    while let Some(burst) = reader.next_burst().expect("a sound file") {
        for record in burst.iter() {
            let link_type = burst.interfaces()[record.interface.0 as usize].link_type.0;
            let time = format!("{}.{:09}", record.time_ns / 1_000_000_000, record.time_ns % 1_000_000_000);
            ours.push(format!(
                "{time}\t{}\t{}\t{}",
                record.bytes.len(),
                record.original_len,
                if link_type == 1 { "1" } else { "7" }
            ));
        }
    }
    let fields = ["frame.time_epoch", "frame.cap_len", "frame.len", "frame.encap_type"];
    let args: Vec<&str> = ["-n", "-r", text(&two), "-T", "fields"]
        .into_iter()
        .chain(fields.iter().flat_map(|field| ["-e", field]))
        .collect();
    let theirs: Vec<String> = output("tshark", &args).lines().map(str::to_owned).collect();
    assert!(ours.len() > 100, "the captures hold packets");
    assert_eq!(ours, theirs);
}

/// Packets of all lengths around a multiple of four, with the highest and lowest times and both kinds of lengths.
fn samples() -> Vec<PlainPacket> {
    (0..200u32)
        .map(|index| PlainPacket {
            time_ns: 1_700_000_000_123_456_789 + u64::from(index) * 1_000_000_007,
            original_len: 60 + index * 3,
            bytes: (0..60 + index).map(|at| (at * 7 + index) as u8).collect(),
        })
        .collect()
}

#[test]
fn pcap_files_that_we_write_are_read_by_libpcap() {
    let folder = tempfile::tempdir().expect("a folder");
    for (order, is_ns) in [
        (ByteOrder::Little, true),
        (ByteOrder::Big, true),
        (ByteOrder::Little, false),
        (ByteOrder::Big, false),
    ] {
        let path = folder.path().join("out.pcap");
        let mut writer =
            Writer::pcap(File::create(&path).expect("a folder"), order, is_ns, LinkType::ETHERNET, 0)
                .expect("a writable folder");
        let interface =
            writer.add_interface(&Interface::new(LinkType::ETHERNET, 0, None)).expect("one interface");
        let mut expected = samples();
        for packet in &mut expected {
            let (time_ns, original_len, bytes) = (packet.time_ns, packet.original_len, &packet.bytes);
            writer
                .write(&Packet { interface, time_ns, bytes, original_len, comments: &[] })
                .expect("a writable folder");
            packet.time_ns = if is_ns { time_ns } else { time_ns / 1000 * 1000 };
        }
        writer.finish().expect("a writable folder");
        assert_eq!(
            libpcap_packets(&path).expect("a pcap file"),
            expected,
            "{order:?}, nanoseconds {is_ns}"
        );
        assert_eq!(read(&path), expected, "{order:?}, nanoseconds {is_ns}");
    }
}

#[test]
fn pcapng_files_that_we_write_are_read_by_tshark_with_times_names_and_comments() {
    if !has_programs(&["tshark", "capinfos"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let path = folder.path().join("out.pcapng");
        let mut writer =
            Writer::pcapng(File::create(&path).expect("a folder"), order).expect("a writable folder");
        let names = ["tap0", "tap-ü"];
        let interfaces = names.map(|name| {
            writer
                .add_interface(&Interface::new(LinkType::ETHERNET, 262_144, Some(name.into())))
                .expect("an interface")
        });
        let mut expected = Vec::new();
        for (index, packet) in samples().iter().enumerate() {
            let comments: &[&str] = match index % 3 {
                0 => &[],
                1 => &["one"],
                _ => &["two of", "three"],
            };
            let interface = interfaces[index % 2];
            let PlainPacket { time_ns, original_len, ref bytes } = *packet;
            writer
                .write(&Packet { interface, time_ns, bytes, original_len, comments })
                .expect("a writable folder");
            let time = format!("{}.{:09}", time_ns / 1_000_000_000, time_ns % 1_000_000_000);
            expected.push(
                [
                    &time,
                    names[index % 2],
                    &bytes.len().to_string(),
                    &original_len.to_string(),
                    &comments.join(","),
                ]
                .join("\t"),
            );
        }
        writer.finish().expect("a writable folder");

        run("capinfos", &[text(&path)]);
        let fields =
            ["frame.time_epoch", "frame.interface_name", "frame.cap_len", "frame.len", "frame.comment"];
        let args: Vec<&str> = ["-n", "-r", text(&path), "-T", "fields"]
            .into_iter()
            .chain(fields.iter().flat_map(|field| ["-e", field]))
            .collect();
        let theirs: Vec<String> = output("tshark", &args).lines().map(str::to_owned).collect();
        assert_eq!(theirs, expected, "{order:?}");
        assert_eq!(libpcap_packets(&path).expect("a pcapng file"), samples(), "{order:?}");
        assert_eq!(read(&path), samples(), "{order:?}");

        let mut reader = Reader::open(&path).expect("our file");
        let mut index = 0;
        while let Some(record) = reader.next_record().expect("our file") {
            let comments: Vec<String> = record.comments().map(std::borrow::Cow::into_owned).collect();
            assert_eq!(comments.len(), index % 3);
            assert_eq!(record.interface, interfaces[index % 2]);
            index += 1;
        }
        assert_eq!(reader.interfaces()[1].name.as_deref(), Some("tap-ü"));
    }
}
