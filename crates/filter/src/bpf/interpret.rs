//! Runs a verified program on one packet with exactly the meaning of libpcap's `bpf_filter`.
//!
//! It is the model that native code is tested against, and what serves where the system refuses code generation.
//! # Source
//! `bpf_filter` of libpcap's bpf_filter.c, userland form: loads are big-endian, a load past the captured bytes ends the program
//! with 0, `len` is the length on the wire. Scratch memory starts as zeros, as in newer libpcap and the Linux kernel.
//! A loop that does not end is given up: those of `protochain` go on by a header, of 8 bytes at least, at each turn.

use super::insn::{Op, Operand, SCRATCH_WORDS, Width};
use super::verify::Program;
use tapline_packet::frame::{Frame, SplitFrame};

impl Program {
    /// Runs the program on the captured `bytes` of a packet that had `original_len` bytes on the wire.
    /// Gives what the program returns: 0 rejects the packet, anything else accepts it.
    pub fn run(&self, bytes: &[u8], original_len: u32) -> u32 {
        self.result(&Whole(bytes), bytes.len(), original_len)
    }

    /// Returns whether the program accepts the packet.
    pub fn matches(&self, frame: &Frame<'_>) -> bool {
        self.run(frame.bytes(), frame.original_len()) != 0
    }

    /// Returns whether the program accepts the packet that `frame`'s header and payload would be if they were joined.
    pub fn matches_split(&self, frame: &SplitFrame<'_>) -> bool {
        let captured_len = SplitFrame::HEADER_BYTES + frame.payload().len();
        self.result(frame, captured_len, frame.original_len()) != 0
    }

    fn result(&self, packet: &impl Packet, captured_len: usize, original_len: u32) -> u32 {
        let steps = if self.has_loops() {
            self.ops().len() * (captured_len / LEAST_HEADER_LEN + 2)
        } else {
            // each jump goes forward
            self.ops().len()
        };
        run(self.ops(), packet, original_len, steps).unwrap_or(0)
    }
}

/// The shortest header that `protochain` steps over: an IPv6 extension header of one unit, or AH without a checksum value
/// (RFC 8200, section 4; RFC 4302, section 2.2).
const LEAST_HEADER_LEN: usize = 8;

/// The packet that loads read from.
trait Packet {
    /// The `N` bytes at `offset`, if all were captured.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
}

struct Whole<'a>(&'a [u8]);

impl Packet for Whole<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.0.get(offset as usize..)?.first_chunk().copied()
    }
}

impl Packet for SplitFrame<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let at = offset as usize + index;
            *byte = match at.checked_sub(SplitFrame::HEADER_BYTES) {
                None => self.header()[at],
                Some(at) => *self.payload().get(at)?,
            };
        }
        Some(bytes)
    }
}

#[inline(always)]
fn load(packet: &impl Packet, width: Width, offset: u32) -> Option<u32> {
    Some(match width {
        Width::Byte => u32::from(u8::from_be_bytes(packet.load(offset)?)),
        Width::Half => u32::from(u16::from_be_bytes(packet.load(offset)?)),
        Width::Word => u32::from_be_bytes(packet.load(offset)?),
    })
}

/// `None` where a load or a division ends the program early, or it has not come to its end after so many steps.
fn run(ops: &[Op], packet: &impl Packet, original_len: u32, steps: usize) -> Option<u32> {
    let (mut a, mut x) = (0u32, 0u32);
    let mut scratch = [0u32; SCRATCH_WORDS];
    let mut at = 0;
    for _ in 0..steps {
        let op = *ops.get(at)?;
        at += 1;
        match op {
            Op::LoadAbsolute { width, offset } => a = load(packet, width, offset)?,
            Op::LoadIndirect { width, offset } => a = load(packet, width, x.checked_add(offset)?)?,
            Op::LoadLen => a = original_len,
            Op::LoadConstant(k) => a = k,
            Op::LoadScratch(word) => a = scratch[word],
            Op::LoadXLen => x = original_len,
            Op::LoadXConstant(k) => x = k,
            Op::LoadXScratch(word) => x = scratch[word],
            Op::LoadXHeaderLen { offset } => x = (load(packet, Width::Byte, offset)? & 0xf) << 2,
            Op::Store(word) => scratch[word] = a,
            Op::StoreX(word) => scratch[word] = x,
            Op::Alu { operator, operand } => a = operator.apply(a, value(operand, x))?,
            Op::Negate => a = a.wrapping_neg(),
            Op::CopyAToX => x = a,
            Op::CopyXToA => a = x,
            Op::Jump { target } => at = target,
            Op::Branch { test, operand, then, otherwise } => {
                at = if test.holds(a, value(operand, x)) { then } else { otherwise }
            }
            Op::Return(k) => return Some(k),
            Op::ReturnA => return Some(a),
        }
    }
    None
}

#[inline(always)]
fn value(operand: Operand, x: u32) -> u32 {
    match operand {
        Operand::Constant(k) => k,
        Operand::X => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::insn::Insn;

    fn program(insns: &[(u16, u8, u8, u32)]) -> Program {
        let insns = insns.iter().map(|&(code, jt, jf, k)| Insn { code, jt, jf, k }).collect();
        Program::verify(insns).expect("a valid program")
    }

    #[test]
    fn loads_are_big_endian_and_reject_past_the_captured_bytes() {
        let bytes = [1, 2, 3, 4, 5];
        for (code, width) in [(0x20, 4), (0x28, 2), (0x30, 1)] {
            for offset in 0..8 {
                let at = offset as usize;
                let expected = bytes
                    .get(at..at + width)
                    .map_or(0, |part| part.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
                assert_eq!(program(&[(code, 0, 0, offset), (0x16, 0, 0, 0)]).run(&bytes, 5), expected);
                // The same offset, half of it in X.
                let indirect =
                    [(0x01, 0, 0, offset / 2), (code + 0x20, 0, 0, offset - offset / 2), (0x16, 0, 0, 0)];
                assert_eq!(program(&indirect).run(&bytes, 5), expected);
            }
        }
    }

    #[test]
    fn an_indirect_offset_does_not_wrap_around() {
        assert_eq!(
            program(&[(0x01, 0, 0, u32::MAX), (0x50, 0, 0, 1), (0x06, 0, 0, 7)]).run(&[9; 64], 64),
            0
        );
        assert_eq!(program(&[(0x30, 0, 0, u32::MAX), (0x06, 0, 0, 7)]).run(&[9; 64], 64), 0);
    }

    #[test]
    fn len_is_the_length_on_the_wire() {
        assert_eq!(program(&[(0x80, 0, 0, 0), (0x16, 0, 0, 0)]).run(&[0; 60], 1500), 1500);
        assert_eq!(program(&[(0x81, 0, 0, 0), (0x87, 0, 0, 0), (0x16, 0, 0, 0)]).run(&[], 1500), 1500);
    }

    #[test]
    fn division_by_a_zero_x_rejects() {
        for code in [0x3c, 0x9c] {
            assert_eq!(program(&[(0x00, 0, 0, 8), (code, 0, 0, 0), (0x06, 0, 0, 7)]).run(&[], 0), 0);
        }
    }

    #[test]
    fn a_shift_by_32_or_more_gives_zero() {
        for code in [0x6c, 0x7c] {
            for by in [32, 33, u32::MAX] {
                assert_eq!(
                    program(&[(0x00, 0, 0, u32::MAX), (0x01, 0, 0, by), (code, 0, 0, 0), (0x16, 0, 0, 0)])
                        .run(&[], 0),
                    0
                );
            }
        }
    }
}
