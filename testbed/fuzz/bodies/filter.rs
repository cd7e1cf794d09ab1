//! What the filter fuzz targets do with their bytes. Input: a count of instructions, eight bytes for each, then a packet.

use tapline_dpdk::mbuf::MbufHeaders;
use tapline_filter::analyse;
use tapline_filter::{Filters, Insn, Program, SplitFilters};
use tapline_packet::burst::Selection;
use tapline_packet::frame::{Frame, SplitFrame};

/// Instructions as they come: the verifier refuses them, or they run to an end and every engine agrees.
pub(super) fn verify(bytes: &[u8]) {
    let (insns, packet) = decode(bytes);
    if let Ok(program) = Program::verify(insns) {
        agree(&program, packet);
    }
}

/// Instructions bent until the verifier takes them, so that all of the input reaches the engines.
pub(super) fn native(bytes: &[u8]) {
    let (mut insns, packet) = decode(bytes);
    let count = insns.len();
    for (at, insn) in insns.iter_mut().enumerate() {
        insn.code = OPERATIONS[usize::from(insn.code) % OPERATIONS.len()];
        let room = u8::try_from(count - at).unwrap_or(u8::MAX);
        (insn.jt, insn.jf) = (insn.jt % room, insn.jf % room);
        insn.k = match insn.code {
            0x05 => insn.k % u32::from(room),
            0x02 | 0x03 | 0x60 | 0x61 => insn.k % 16,
            0x34 | 0x94 => insn.k.max(1),
            0x64 | 0x74 => insn.k % 32,
            // Most offsets lie in the packet.
            0x20..=0x50 | 0xb1 if insn.k & 0x8000_0000 == 0 => insn.k % 100,
            _ => insn.k,
        };
    }
    insns.push(Insn { code: 0x16, jt: 0, jf: 0, k: 0 });
    let program = Program::verify(insns).expect("instructions bent to be valid");
    agree(&program, packet);
}

/// The operations of `bpf_filter`.
const OPERATIONS: [u16; 49] = [
    0x06, 0x16, 0x20, 0x28, 0x30, 0x80, 0x81, 0x40, 0x48, 0x50, 0xb1, 0x00, 0x01, 0x60, 0x61, 0x02, 0x03,
    0x05, 0x25, 0x35, 0x15, 0x45, 0x2d, 0x3d, 0x1d, 0x4d, 0x84, 0x07, 0x87, 0x04, 0x0c, 0x14, 0x1c, 0x24,
    0x2c, 0x34, 0x3c, 0x94, 0x9c, 0x54, 0x5c, 0x44, 0x4c, 0xa4, 0xac, 0x64, 0x6c, 0x74, 0x7c,
];

fn decode(bytes: &[u8]) -> (Vec<Insn>, &[u8]) {
    let Some((&count, rest)) = bytes.split_first() else { return (Vec::new(), bytes) };
    let length = (usize::from(count) * 8).min(rest.len() / 8 * 8);
    let (code, packet) = rest.split_at(length);
    let insn = |bytes: &[u8]| Insn {
        code: u16::from_le_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    (code.chunks_exact(8).map(insn).collect(), packet)
}

/// The interpreter, and native code over frames, mbufs and split frames, judge `packet` alike, at every cut of its first 64 bytes.
fn agree(program: &Program, packet: &[u8]) {
    let claims = analyse(program);
    let original_len = u32::try_from(packet.len()).expect("a fuzzer's input is short");
    let cuts: Vec<&[u8]> =
        (0..64.min(packet.len() + 1)).map(|less| &packet[..packet.len() - less]).collect();
    let frames: Vec<Frame<'_>> = cuts.iter().map(|cut| Frame::new(cut, original_len)).collect();
    let programs = [program.clone()];
    let mut selected = [Selection::NONE];
    let filters = Filters::build_for_mbufs(&programs);
    filters.select(&frames, &mut selected);
    for (index, cut) in cuts.iter().enumerate() {
        let accepted = program.run(cut, original_len) != 0;
        assert_eq!(selected[0].contains(index), accepted, "native code differs on {} bytes", cut.len());
        assert!(
            !(accepted && claims.never_matches) && (accepted || !claims.always_matches),
            "a false claim"
        );
        assert!(!accepted || cut.len() as u64 >= claims.least_captured_bytes, "a false claim of bytes");
    }
    let accepted = selected;
    assert!(
        filters.interpreted_count() > 0
            || filters.select_mbufs(MbufHeaders::of(&frames).frames(), &mut selected)
    );
    assert_eq!(selected, accepted, "native code over mbufs differs");
    let split = |cut: &&&[u8]| cut.len() >= SplitFrame::HEADER_BYTES;
    let cuts: Vec<&[u8]> = cuts.iter().filter(split).copied().collect();
    let frames: Vec<SplitFrame<'_>> = cuts
        .iter()
        .filter_map(|cut| {
            cut.split_first_chunk().map(|(header, payload)| SplitFrame::new(*header, payload, original_len))
        })
        .collect();
    SplitFilters::build(&programs).select(&frames, &mut selected);
    for (index, (cut, frame)) in cuts.iter().zip(&frames).enumerate() {
        let accepted = program.run(cut, original_len) != 0;
        assert_eq!(
            program.matches_split(frame),
            accepted,
            "the split interpreter differs on {} bytes",
            cut.len()
        );
        assert_eq!(
            selected[0].contains(index),
            accepted,
            "split native code differs on {} bytes",
            cut.len()
        );
    }
}
