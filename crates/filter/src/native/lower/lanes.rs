//! Programs with formulas of one shape, computed four at a time: a lane of a vector is one program's.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I32X4, I64};
use cranelift_codegen::ir::{self, InstBuilder};

use super::loads::raw_constant;
use super::{Available, Form, Lowering};
use crate::bpf::insn::Test;
use crate::native::formula::{Constants, Shape, Term};
use crate::native::graph::Graph;

const LANES: usize = 4;

impl Lowering<'_> {
    /// Decides at most 32 programs of one shape together.
    pub(super) fn group(
        &mut self,
        shape: &Shape,
        programs: &[(usize, Vec<Constants>)],
        available: &mut Available,
    ) {
        let mut matched = None;
        for (index, lanes) in programs.chunks(LANES).enumerate() {
            let lanes_match = self.four(shape, lanes, available);
            let bits = self.builder.ins().vhigh_bits(I32, lanes_match);
            let shift = self.builder.ins().iconst(I32, (LANES * index) as i64);
            let bits = self.builder.ins().ishl(bits, shift);
            matched = Some(match matched {
                Some(matched) => self.builder.ins().bor(matched, bits),
                None => bits,
            });
        }
        let Some(mut matched) = matched else { return };
        // The lanes beyond the last program hold copies of it.
        if programs.len() < 32 && !programs.len().is_multiple_of(LANES) {
            let real = self.builder.ins().iconst(I32, (1 << programs.len()) - 1);
            matched = self.builder.ins().band(matched, real);
        }
        let hit = self.builder.create_block();
        let after = self.builder.create_block();
        self.builder.ins().brif(matched, hit, &[], after, &[]);
        self.builder.switch_to_block(hit);
        for (index, lanes) in programs.chunks(LANES).enumerate() {
            let skip = self.builder.create_block();
            if programs.len() > LANES {
                let some = self.builder.create_block();
                let mask = self.builder.ins().iconst(I32, i64::from(0xfu32 << (LANES * index)));
                let bits = self.builder.ins().band(matched, mask);
                self.builder.ins().brif(bits, some, &[], skip, &[]);
                self.builder.switch_to_block(some);
            }
            let zero = self.builder.ins().iconst(I64, 0);
            for (lane, (program, _)) in lanes.iter().enumerate() {
                let mask = self.builder.ins().iconst(I32, i64::from(1u32 << (LANES * index + lane)));
                let matches = self.builder.ins().band(matched, mask);
                let bits = self.builder.ins().select(matches, self.bit, zero);
                self.select(*program, bits);
            }
            self.builder.ins().jump(skip, &[]);
            self.builder.switch_to_block(skip);
        }
        self.builder.ins().jump(after, &[]);
        self.builder.switch_to_block(after);
    }

    /// Computes the formulas of at most four programs; a lane is all ones where its program's holds.
    fn four(
        &mut self,
        shape: &Shape,
        lanes: &[(usize, Vec<Constants>)],
        available: &mut Available,
    ) -> ir::Value {
        let mut stack = Vec::new();
        let mut comparison = 0;
        for &term in &shape.0 {
            let result = match term {
                Term::Compare { test, value, masked } => {
                    let raw = self.is_load(value) && matches!(test, Test::Equal | Test::AnyBit);
                    let constants = |pick: fn(&Constants) -> u32| {
                        std::array::from_fn::<u32, LANES, _>(|lane| {
                            let (_, constants) = lanes.get(lane).unwrap_or(&lanes[lanes.len() - 1]);
                            pick(&constants[comparison])
                        })
                    };
                    let (masks, against) = (constants(|one| one.mask), constants(|one| one.against));
                    comparison += 1;
                    let order = |graph: &Graph, number: u32| {
                        if raw { raw_constant(graph, value, number) } else { number }
                    };
                    let mut number =
                        self.value(value, if raw { Form::RawSplat } else { Form::Splat }, available);
                    if masked {
                        let masks = self.four_constants(masks.map(|mask| order(self.graph, mask)));
                        number = self.builder.ins().band(number, masks);
                    }
                    let against = self.four_constants(against.map(|number| order(self.graph, number)));
                    match test {
                        Test::Equal => self.builder.ins().icmp(IntCC::Equal, number, against),
                        Test::Greater => {
                            self.builder.ins().icmp(IntCC::UnsignedGreaterThan, number, against)
                        }
                        Test::GreaterOrEqual => {
                            self.builder.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, number, against)
                        }
                        Test::AnyBit => {
                            let common = self.builder.ins().band(number, against);
                            let zero = self.four_constants([0; LANES]);
                            self.builder.ins().icmp(IntCC::NotEqual, common, zero)
                        }
                    }
                }
                Term::Not => {
                    let operand = pop(&mut stack);
                    self.builder.ins().bnot(operand)
                }
                Term::And => {
                    let (b, a) = (pop(&mut stack), pop(&mut stack));
                    self.builder.ins().band(a, b)
                }
                Term::Or => {
                    let (b, a) = (pop(&mut stack), pop(&mut stack));
                    self.builder.ins().bor(a, b)
                }
            };
            stack.push(result);
        }
        pop(&mut stack)
    }

    fn four_constants(&mut self, numbers: [u32; LANES]) -> ir::Value {
        self.vector_constant(I32X4, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }
}

fn pop(stack: &mut Vec<ir::Value>) -> ir::Value {
    stack.pop().expect("formulas are well-formed")
}
