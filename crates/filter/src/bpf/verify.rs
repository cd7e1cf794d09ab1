//! Verifies classic BPF: what leaves here ends on every packet, reads nothing but packet and scratch memory, and decodes.
//!
//! The rules are those of libpcap's `bpf_validate`, made strict where that one is lax: every instruction is one that `bpf_filter`
//! executes, and shifts by a constant stay below 32 (as newer libpcap and the Linux kernel ask; libpcap 1.10 leaves them to the
//! processor). Jumps go forward, but for those of `protochain`, which libpcap compiles to loops: such programs are known by
//! `Program::has_loops`, and are run by the interpreter alone, which bounds their steps.

use std::sync::Arc;

use super::insn::{AluOperator, Insn, Op, Operand, SCRATCH_WORDS, Test, Width};

/// The most instructions that a program may have; an OR of a hundred hosts takes about 1500.
const MAX_INSNS: usize = 1 << 20;

/// A verified program: every jump stays inside, every path ends with a return or in a loop, every operation is known.
///
/// Shared, not copied, by `clone`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Program {
    insns: Arc<[Insn]>,
    ops: Arc<[Op]>,
    has_loops: bool,
}

/// Why a program is refused. Instructions are counted from 0, as `tcpdump -d` numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("the program has no instructions")]
    Empty,
    #[error("the program has {count} instructions; at most {MAX_INSNS} are taken")]
    TooLong { count: usize },
    #[error("instruction {at}: operation 0x{code:04x} is not one that classic BPF defines")]
    UnknownOperation { at: usize, code: u16 },
    #[error("instruction {at}: jumps backward by {by}, before the first one")]
    JumpBeforeStart { at: usize, by: u32 },
    #[error("instruction {at}: jumps to instruction {target}, past the end at {count}")]
    JumpPastEnd { at: usize, target: usize, count: usize },
    #[error("instruction {at}: uses scratch word {word}; there are {SCRATCH_WORDS}")]
    ScratchOutOfRange { at: usize, word: u32 },
    #[error("instruction {at}: divides by the constant zero")]
    DivisionByZero { at: usize },
    #[error("instruction {at}: shifts a 32-bit value by {by}")]
    ShiftTooFar { at: usize, by: u32 },
    #[error("instruction {at}: the last one is not a return, so the program runs off its end")]
    RunsOffEnd { at: usize },
}

impl Program {
    /// Verifies `insns`.
    /// # Errors
    /// The first thing wrong with them, by instruction.
    pub fn verify(insns: Vec<Insn>) -> Result<Program, VerifyError> {
        let count = insns.len();
        if count == 0 {
            return Err(VerifyError::Empty);
        }
        if count > MAX_INSNS {
            return Err(VerifyError::TooLong { count });
        }
        let ops = insns
            .iter()
            .enumerate()
            .map(|(at, insn)| decode(insn, at, count))
            .collect::<Result<Arc<[Op]>, _>>()?;
        match ops.last() {
            Some(Op::Return(_) | Op::ReturnA) => {
                let is_backward =
                    |(at, op): (usize, &Op)| matches!(op, Op::Jump { target } if *target <= at);
                let has_loops = ops.iter().enumerate().any(is_backward);
                Ok(Program { insns: insns.into(), ops, has_loops })
            }
            _ => Err(VerifyError::RunsOffEnd { at: count - 1 }),
        }
    }

    /// Returns whether some jump goes backward.
    pub fn has_loops(&self) -> bool {
        self.has_loops
    }

    /// The instructions as libpcap wrote them.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// The same, decoded, with absolute jump targets.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }
}

// The fields of `Insn::code`, from libpcap's pcap/bpf.h.
const CLASS: u16 = 0x07;
const LD: u16 = 0x00;
const LDX: u16 = 0x01;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;
const OPERATOR: u16 = 0xf0;
const SOURCE_X: u16 = 0x08;
const NEG: u16 = 0x80;
const RET_A: u16 = 0x10;
const TAX: u16 = 0x07;
const TXA: u16 = 0x87;

/// Returns the instruction that a jump back by `by` goes to.
fn target_before(at: usize, by: u32) -> Result<usize, VerifyError> {
    (at + 1).checked_sub(by as usize).ok_or(VerifyError::JumpBeforeStart { at, by })
}

fn decode(insn: &Insn, at: usize, count: usize) -> Result<Op, VerifyError> {
    let Insn { code, jt, jf, k } = *insn;
    let unknown = VerifyError::UnknownOperation { at, code };
    let scratch = || match usize::try_from(k) {
        Ok(word) if word < SCRATCH_WORDS => Ok(word),
        _ => Err(VerifyError::ScratchOutOfRange { at, word: k }),
    };
    let target = |skip: usize| match at + 1 + skip {
        target if target < count => Ok(target),
        target => Err(VerifyError::JumpPastEnd { at, target, count }),
    };
    let operand = if code & SOURCE_X == 0 { Operand::Constant(k) } else { Operand::X };
    Ok(match code {
        0x20 => Op::LoadAbsolute { width: Width::Word, offset: k },
        0x28 => Op::LoadAbsolute { width: Width::Half, offset: k },
        0x30 => Op::LoadAbsolute { width: Width::Byte, offset: k },
        0x40 => Op::LoadIndirect { width: Width::Word, offset: k },
        0x48 => Op::LoadIndirect { width: Width::Half, offset: k },
        0x50 => Op::LoadIndirect { width: Width::Byte, offset: k },
        LD => Op::LoadConstant(k),
        0x60 => Op::LoadScratch(scratch()?),
        0x80 => Op::LoadLen,
        LDX => Op::LoadXConstant(k),
        0x61 => Op::LoadXScratch(scratch()?),
        0x81 => Op::LoadXLen,
        0xb1 => Op::LoadXHeaderLen { offset: k },
        ST => Op::Store(scratch()?),
        STX => Op::StoreX(scratch()?),
        TAX => Op::CopyAToX,
        TXA => Op::CopyXToA,
        RET => Op::Return(k),
        _ if code == RET | RET_A => Op::ReturnA,
        _ if code == ALU | NEG => Op::Negate,
        // the distance of an unconditional jump has a sign
        _ if code == JMP => match i32::try_from(k) {
            Ok(skip) => Op::Jump { target: target(skip.unsigned_abs() as usize)? },
            Err(_) => Op::Jump { target: target_before(at, k.wrapping_neg())? },
        },
        _ if code & !(OPERATOR | SOURCE_X | CLASS) != 0 => return Err(unknown),
        _ if code & CLASS == ALU => {
            let operator = match code & OPERATOR {
                0x00 => AluOperator::Add,
                0x10 => AluOperator::Sub,
                0x20 => AluOperator::Mul,
                0x30 => AluOperator::Div,
                0x40 => AluOperator::Or,
                0x50 => AluOperator::And,
                0x60 => AluOperator::ShiftLeft,
                0x70 => AluOperator::ShiftRight,
                0x90 => AluOperator::Mod,
                0xa0 => AluOperator::Xor,
                _ => return Err(unknown),
            };
            match (operator, operand) {
                (AluOperator::Div | AluOperator::Mod, Operand::Constant(0)) => {
                    return Err(VerifyError::DivisionByZero { at });
                }
                (AluOperator::ShiftLeft | AluOperator::ShiftRight, Operand::Constant(by @ 32..)) => {
                    return Err(VerifyError::ShiftTooFar { at, by });
                }
                _ => Op::Alu { operator, operand },
            }
        }
        _ if code & CLASS == JMP => {
            let test = match code & OPERATOR {
                0x10 => Test::Equal,
                0x20 => Test::Greater,
                0x30 => Test::GreaterOrEqual,
                0x40 => Test::AnyBit,
                _ => return Err(unknown),
            };
            Op::Branch {
                test,
                operand,
                then: target(usize::from(jt))?,
                otherwise: target(usize::from(jf))?,
            }
        }
        _ => return Err(unknown),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPT: Insn = Insn { code: 0x06, jt: 0, jf: 0, k: 1 };

    fn insn(code: u16, k: u32) -> Insn {
        Insn { code, jt: 0, jf: 0, k }
    }

    fn refusal(first: Insn) -> VerifyError {
        Program::verify(vec![first, ACCEPT]).expect_err("a refusal")
    }

    #[test]
    fn programs_without_an_end_are_refused() {
        assert_eq!(Program::verify(vec![]), Err(VerifyError::Empty));
        assert_eq!(Program::verify(vec![insn(0x00, 1)]), Err(VerifyError::RunsOffEnd { at: 0 }));
        assert_eq!(
            Program::verify(vec![ACCEPT; MAX_INSNS + 1]),
            Err(VerifyError::TooLong { count: MAX_INSNS + 1 })
        );
        assert!(Program::verify(vec![ACCEPT; MAX_INSNS]).is_ok());
    }

    #[test]
    fn jumps_stay_inside() {
        assert_eq!(refusal(insn(0x05, 1)), VerifyError::JumpPastEnd { at: 0, target: 2, count: 2 });
        assert_eq!(refusal(insn(0x05, -2i32 as u32)), VerifyError::JumpBeforeStart { at: 0, by: 2 });
        assert_eq!(
            refusal(insn(0x05, i32::MIN as u32)),
            VerifyError::JumpBeforeStart { at: 0, by: 1 << 31 }
        );
        let backward = Program::verify(vec![insn(0x05, u32::MAX), ACCEPT]).expect("it stays inside");
        assert!(backward.has_loops() && backward.ops()[0] == Op::Jump { target: 0 });
        assert_eq!(
            refusal(insn(0x05, i32::MAX as u32)),
            VerifyError::JumpPastEnd { at: 0, target: 0x8000_0000, count: 2 }
        );
        assert_eq!(
            refusal(Insn { code: 0x15, jt: 0, jf: 1, k: 0 }),
            VerifyError::JumpPastEnd { at: 0, target: 2, count: 2 }
        );
        assert_eq!(
            refusal(Insn { code: 0x15, jt: 255, jf: 0, k: 0 }),
            VerifyError::JumpPastEnd { at: 0, target: 256, count: 2 }
        );
        assert!(!Program::verify(vec![insn(0x05, 0), ACCEPT]).expect("it goes on").has_loops());
    }

    #[test]
    fn operands_that_have_no_meaning_are_refused() {
        for code in [0x60, 0x61, 0x02, 0x03] {
            assert_eq!(refusal(insn(code, 16)), VerifyError::ScratchOutOfRange { at: 0, word: 16 });
            assert!(Program::verify(vec![insn(code, 15), ACCEPT]).is_ok());
        }
        for code in [0x34, 0x94] {
            assert_eq!(refusal(insn(code, 0)), VerifyError::DivisionByZero { at: 0 });
            assert!(Program::verify(vec![insn(code | 8, 0), ACCEPT]).is_ok());
        }
        for code in [0x64, 0x74] {
            assert_eq!(refusal(insn(code, 32)), VerifyError::ShiftTooFar { at: 0, by: 32 });
            assert!(Program::verify(vec![insn(code, 31), ACCEPT]).is_ok());
        }
    }

    #[test]
    fn exactly_the_operations_of_bpf_filter_are_known() {
        // The `case` labels of bpf_filter() in libpcap's bpf_filter.c.
        let mut known = vec![
            0x06, 0x16, 0x20, 0x28, 0x30, 0x80, 0x81, 0x40, 0x48, 0x50, 0xb1, 0x00, 0x01, 0x60, 0x61, 0x02,
            0x03,
        ];
        known.extend([0x05, 0x25, 0x35, 0x15, 0x45, 0x2d, 0x3d, 0x1d, 0x4d, 0x84, 0x07, 0x87]);
        for operator in [0x00, 0x10, 0x20, 0x30, 0x90, 0x50, 0x40, 0xa0, 0x60, 0x70] {
            known.extend([0x04 | operator, 0x0c | operator]);
        }
        for code in 0..=u16::MAX {
            let verified = Program::verify(vec![insn(code, 1), ACCEPT, ACCEPT]);
            let expected = if known.contains(&code) {
                None
            } else {
                Some(VerifyError::UnknownOperation { at: 0, code })
            };
            assert_eq!(verified.err(), expected, "operation 0x{code:04x}");
        }
    }
}
