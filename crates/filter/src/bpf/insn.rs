//! Classic BPF instructions, as libpcap compiles them.

use std::fmt;

/// One classic BPF instruction.
/// # Source
/// `struct bpf_insn` of libpcap's `pcap/bpf.h`; McCanne and Jacobson, "The BSD Packet Filter", 1993.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Insn {
    /// Operation: class, size or operator, mode or source.
    pub code: u16,
    /// Instructions to skip where a jump's test holds.
    pub jt: u8,
    /// Instructions to skip where it does not.
    pub jf: u8,
    /// Constant operand.
    pub k: u32,
}

impl fmt::Display for Insn {
    /// The four numbers in the form of `tcpdump -ddd`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {} {}", self.code, self.jt, self.jf, self.k)
    }
}

/// Words of scratch memory, `BPF_MEMWORDS`.
pub const SCRATCH_WORDS: usize = 16;

/// The operation of an instruction, decoded. It is one of the closed set that `bpf_filter` knows.
///
/// Jump targets are absolute instruction indices, so that an `Op` means the same wherever it is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// A = bytes at a constant offset.
    LoadAbsolute { width: Width, offset: u32 },
    /// A = bytes at X plus a constant.
    LoadIndirect { width: Width, offset: u32 },
    /// A = length on the wire.
    LoadLen,
    /// A = constant.
    LoadConstant(u32),
    /// A = scratch word (below `SCRATCH_WORDS`).
    LoadScratch(usize),
    /// X = length on the wire.
    LoadXLen,
    /// X = constant.
    LoadXConstant(u32),
    /// X = scratch word.
    LoadXScratch(usize),
    /// X = four times the low nibble of the byte at a constant offset: an IPv4 header's length.
    LoadXHeaderLen { offset: u32 },
    /// Scratch word = A.
    Store(usize),
    /// Scratch word = X.
    StoreX(usize),
    /// A = A operator operand.
    Alu { operator: AluOperator, operand: Operand },
    /// A = -A.
    Negate,
    /// X = A.
    CopyAToX,
    /// A = X.
    CopyXToA,
    /// Goes on at an instruction.
    Jump { target: usize },
    /// Goes on at one of two instructions.
    Branch { test: Test, operand: Operand, then: usize, otherwise: usize },
    /// Ends with a constant.
    Return(u32),
    /// Ends with A.
    ReturnA,
}

/// Bytes that a load reads, in network order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Width {
    Byte,
    Half,
    Word,
}

impl Width {
    pub fn bytes(self) -> u32 {
        match self {
            Width::Byte => 1,
            Width::Half => 2,
            Width::Word => 4,
        }
    }

    /// The largest number of this width.
    pub fn maximum(self) -> u32 {
        match self {
            Width::Byte => 0xff,
            Width::Half => 0xffff,
            Width::Word => u32::MAX,
        }
    }
}

/// The second operand of arithmetic and tests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operand {
    Constant(u32),
    X,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AluOperator {
    Add,
    Sub,
    Mul,
    /// Division by zero ends the program with 0.
    Div,
    /// As `Div`.
    Mod,
    And,
    Or,
    Xor,
    /// A shift by 32 or more gives 0.
    ShiftLeft,
    /// As `ShiftLeft`.
    ShiftRight,
}

impl AluOperator {
    /// The result for 32-bit unsigned operands; `None` for division by zero.
    #[inline(always)]
    pub fn apply(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            AluOperator::Add => a.wrapping_add(b),
            AluOperator::Sub => a.wrapping_sub(b),
            AluOperator::Mul => a.wrapping_mul(b),
            AluOperator::Div => return a.checked_div(b),
            AluOperator::Mod => return a.checked_rem(b),
            AluOperator::And => a & b,
            AluOperator::Or => a | b,
            AluOperator::Xor => a ^ b,
            AluOperator::ShiftLeft => a.checked_shl(b).unwrap_or(0),
            AluOperator::ShiftRight => a.checked_shr(b).unwrap_or(0),
        })
    }
}

/// The test of a branch: A against the operand, unsigned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    /// Some bit is set in both.
    AnyBit,
}

impl Test {
    #[inline(always)]
    pub fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Test::Equal => a == b,
            Test::Greater => a > b,
            Test::GreaterOrEqual => a >= b,
            Test::AnyBit => a & b != 0,
        }
    }
}
