//! How the bytes of a packet are read: where they stand in each layout, and loads of numbers and of windows.

use std::ops::Range;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8X16, I16, I32, I64};
use cranelift_codegen::ir::{self, InstBuilder, MemFlagsData};

use super::Lowering;
use crate::bpf::insn::Width;
use crate::native::graph::{Graph, Value, ValueId};
use crate::native::merge::Known;
use tapline_dpdk::mbuf::MbufFrames;
use tapline_packet::frame::{Frame, SplitFrame};

/// The layout of a packet in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// A `Frame`.
    Whole,
    /// A `SplitFrame`.
    Split,
    /// A pointer to an mbuf, one of `MbufFrames`.
    Mbuf,
}

impl Layout {
    /// From one packet to the next.
    pub(super) fn stride(self) -> usize {
        match self {
            Layout::Whole => Frame::STRIDE,
            Layout::Split => SplitFrame::STRIDE,
            Layout::Mbuf => MbufFrames::STRIDE,
        }
    }

    /// Gives the offset of the packet's length on the wire.
    pub(super) fn original_len_offset(self) -> usize {
        match self {
            Layout::Whole => Frame::ORIGINAL_LEN_OFFSET,
            Layout::Split => SplitFrame::ORIGINAL_LEN_OFFSET,
            Layout::Mbuf => MbufFrames::PKT_LEN_OFFSET as usize,
        }
    }
}

const HEADER: u64 = SplitFrame::HEADER_BYTES as u64;

fn packet_flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

impl Lowering<'_> {
    /// Finds where the packet's bytes are, and how many were captured.
    pub(super) fn begin_packet(&mut self) {
        match self.layout {
            Layout::Whole => {
                self.data = self.field(I64, Frame::DATA_OFFSET);
                self.captured = self.length(Frame::CAPTURED_LEN_OFFSET);
            }
            Layout::Split => {
                let header = self.builder.ins().iconst(I64, HEADER as i64);
                let payload = self.field(I64, SplitFrame::PAYLOAD_OFFSET);
                self.data = self.builder.ins().isub(payload, header);
                let length = self.length(SplitFrame::PAYLOAD_LEN_OFFSET);
                self.captured = self.builder.ins().iadd(length, header);
            }
            Layout::Mbuf => self.mbuf(),
        }
    }

    pub(super) fn field(&mut self, kind: ir::Type, offset: usize) -> ir::Value {
        let offset = i32::try_from(offset).expect("a field's offset is small");
        self.builder.ins().load(kind, MemFlagsData::trusted(), self.frame, offset)
    }

    /// A length of 32 bits, as 64.
    fn length(&mut self, offset: usize) -> ir::Value {
        let length = self.field(I32, offset);
        self.builder.ins().uextend(I64, length)
    }

    /// Goes on with the packet's mbuf, if it is in one segment.
    fn mbuf(&mut self) {
        self.frame = self.field(I64, 0);
        let segments = self.half(MbufFrames::NB_SEGS_OFFSET);
        let is_one = self.builder.ins().icmp_imm_u(IntCC::Equal, segments, 1);
        let whole = self.builder.create_block();
        self.builder.ins().brif(is_one, whole, &[], self.given_up, &[]);
        self.builder.switch_to_block(whole);
        let start = self.field(I64, MbufFrames::BUF_ADDR_OFFSET as usize);
        let offset = self.half(MbufFrames::DATA_OFF_OFFSET);
        self.data = self.builder.ins().iadd(start, offset);
        self.captured = self.half(MbufFrames::DATA_LEN_OFFSET);
    }

    /// A field of 16 bits, as 64.
    fn half(&mut self, offset: u32) -> ir::Value {
        let offset = i32::try_from(offset).expect("a field's offset is small");
        self.builder.ins().uload16(I64, MemFlagsData::trusted(), self.frame, offset)
    }

    /// Gives the bytes of a packet that can be read in one piece.
    pub(super) fn readable(&self, known: &Known) -> Range<u64> {
        let start = if self.layout == Layout::Split { HEADER } else { 0 };
        start..known.captured()
    }

    pub(super) fn in_host_order(&mut self, width: Width, raw: ir::Value) -> ir::Value {
        match width {
            Width::Byte => raw,
            Width::Half => {
                let half = self.builder.ins().ireduce(I16, raw);
                let half = self.builder.ins().bswap(half);
                self.builder.ins().uextend(I32, half)
            }
            Width::Word => self.builder.ins().bswap(raw),
        }
    }

    /// Loads at a constant offset from the packet's start.
    pub(super) fn load(&mut self, width: Width, offset: u32) -> ir::Value {
        let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(width.bytes()));
        if self.layout != Layout::Split || start >= HEADER {
            return self.load_from(width, self.data, start);
        }
        if end <= HEADER {
            return self.load_from(width, self.frame, SplitFrame::HEADER_OFFSET as u64 + start);
        }
        self.join(width, |lowering, index| {
            let at = start + index;
            if at < HEADER {
                lowering.load_from(Width::Byte, lowering.frame, SplitFrame::HEADER_OFFSET as u64 + at)
            } else {
                lowering.load_from(Width::Byte, lowering.data, at)
            }
        })
    }

    /// Loads at `base` plus an offset.
    pub(super) fn load_at(&mut self, width: Width, base: ir::Value, offset: u32) -> ir::Value {
        let base = self.builder.ins().uextend(I64, base);
        if self.layout != Layout::Split || u64::from(offset) >= HEADER {
            let address = self.builder.ins().iadd(self.data, base);
            return self.load_from(width, address, u64::from(offset));
        }
        let header = self.builder.ins().iconst(I64, SplitFrame::HEADER_OFFSET as i64);
        let header = self.builder.ins().iadd(self.frame, header);
        self.join(width, |lowering, index| {
            let offset = lowering.builder.ins().iconst(I64, i64::from(offset) + index as i64);
            let at = lowering.builder.ins().iadd(base, offset);
            let limit = lowering.builder.ins().iconst(I64, HEADER as i64);
            let in_header = lowering.builder.ins().icmp(IntCC::UnsignedLessThan, at, limit);
            let part = lowering.builder.ins().select(in_header, header, lowering.data);
            let address = lowering.builder.ins().iadd(part, at);
            lowering.load_from(Width::Byte, address, 0)
        })
    }

    /// Loads as many bytes as a window has, which are in one piece.
    pub(super) fn load_bytes(&mut self, start: u64) -> ir::Value {
        let (address, offset) = self.place(self.data, start);
        self.builder.ins().load(I8X16, packet_flags(), address, offset)
    }

    /// Puts a raw number together from single bytes.
    fn join(&mut self, width: Width, mut byte: impl FnMut(&mut Self, u64) -> ir::Value) -> ir::Value {
        let mut raw = byte(self, 0);
        for index in 1..u64::from(width.bytes()) {
            let next = byte(self, index);
            let shift = self.builder.ins().iconst(I32, 8 * index as i64);
            let next = self.builder.ins().ishl(next, shift);
            raw = self.builder.ins().bor(raw, next);
        }
        raw
    }

    /// `address` plus `offset` as loads take it.
    fn place(&mut self, address: ir::Value, offset: u64) -> (ir::Value, i32) {
        match i32::try_from(offset) {
            Ok(offset) => (address, offset),
            Err(_) => {
                let far = self.builder.ins().iconst(I64, offset as i64);
                (self.builder.ins().iadd(address, far), 0)
            }
        }
    }

    /// Loads in the machine's byte order, extended to 32 bits.
    fn load_from(&mut self, width: Width, address: ir::Value, offset: u64) -> ir::Value {
        let (address, offset) = self.place(address, offset);
        match width {
            Width::Byte => self.builder.ins().uload8(I32, packet_flags(), address, offset),
            Width::Half => self.builder.ins().uload16(I32, packet_flags(), address, offset),
            Width::Word => self.builder.ins().load(I32, packet_flags(), address, offset),
        }
    }
}

/// The constant that a raw load of `load`'s width is compared with in place of `number`.
pub(super) fn raw_constant(graph: &Graph, load: ValueId, number: u32) -> u32 {
    match graph.value(load) {
        Value::Load { width, .. } | Value::LoadAt { width, .. } => match width {
            Width::Byte => number & 0xff,
            Width::Half => u32::from((number as u16).swap_bytes()),
            Width::Word => number.swap_bytes(),
        },
        _ => number,
    }
}
