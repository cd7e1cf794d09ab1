//! Merged decision graphs -> Cranelift IR: one function over a burst.
//!
//! The function has the shape `fn(frames: *const F, end: *const F, selections: *mut u64) -> u64`: it looks at the packets one by one
//! and sets bit `i` of `selections[program]` where the program accepts packet `i`; it gives 1, or 0 where it met a packet in several
//! segments, and then selections say nothing. Numbers are computed where they are first needed
//! and kept as long as every way to a place has computed them. What is left of several programs with formulas of one shape is
//! computed four programs at a time. A few questions that may all be asked are answered together without a branch: traffic answers
//! them at random, and a processor that guesses wrong pays for more than all of them.

/// Programs of one shape, four at a time.
mod lanes;
/// Finds the bytes of a packet, and reads them.
mod loads;
/// Questions that are answered together.
mod together;

use std::collections::BTreeSet;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I32X4, I64};
use cranelift_codegen::ir::{
    self, AbiParam, Block, ConstantData, Function, InstBuilder, MemFlagsData, Signature,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

pub(crate) use self::loads::Layout;
use self::loads::raw_constant;
use super::formula::{Constants, Formula, Shape};
use super::graph::{Condition, Graph, Node, NodeId, Table, Value, ValueId};
use super::merge::{Edge, Known, Merged, State};
use crate::bpf::insn::{AluOperator, Test};

/// The signature of every lowered function.
pub(crate) fn signature(call_conv: CallConv) -> Signature {
    let mut signature = Signature::new(call_conv);
    signature.params.extend([AbiParam::new(I64); 3]);
    signature.returns.push(AbiParam::new(I64));
    signature
}

/// Fills `function`, whose signature is `signature`'s.
pub(crate) fn lower(
    function: &mut Function,
    context: &mut FunctionBuilderContext,
    target: TargetFrontendConfig,
    layout: Layout,
    graph: &Graph,
    merged: &Merged,
) {
    let mut builder = FunctionBuilder::new(function, context);
    let entry = builder.create_block();
    let packet = builder.create_block();
    let next = builder.create_block();
    let done = builder.create_block();
    let given_up = builder.create_block();
    builder.set_cold_block(given_up);
    builder.append_block_params_for_function_params(entry);
    let [first, end, selections] = *builder.block_params(entry) else {
        unreachable!("the signature has three parameters")
    };
    let frame = builder.append_block_param(packet, I64);
    let bit = builder.append_block_param(packet, I64);

    builder.switch_to_block(entry);
    let programs: BTreeSet<usize> = merged.programs().collect();
    let mut held = Table::default();
    if programs.len() <= MOST_HELD {
        for program in programs {
            let variable = builder.declare_var(I64);
            let selection =
                builder.ins().load(I64, MemFlagsData::trusted(), selections, selection_offset(program));
            builder.def_var(variable, selection);
            held.insert(program, variable);
        }
    }
    let one = builder.ins().iconst(I64, 1);
    let is_empty = builder.ins().icmp(IntCC::Equal, first, end);
    builder.ins().brif(is_empty, done, &[], packet, &[first.into(), one.into()]);

    builder.switch_to_block(packet);
    let mut lowering = Lowering {
        builder,
        graph,
        layout,
        selections,
        held,
        frame,
        bit,
        next,
        given_up,
        data: frame,
        captured: bit,
    };
    lowering.packet(merged);

    let Lowering { mut builder, held, .. } = lowering;
    builder.switch_to_block(next);
    let stride = builder.ins().iconst(I64, layout.stride() as i64);
    let next_frame = builder.ins().iadd(frame, stride);
    let next_bit = builder.ins().iadd(bit, bit);
    let is_last = builder.ins().icmp(IntCC::Equal, next_frame, end);
    builder.ins().brif(is_last, done, &[], packet, &[next_frame.into(), next_bit.into()]);

    builder.switch_to_block(done);
    for (program, variable) in held {
        let selection = builder.use_var(variable);
        builder.ins().store(MemFlagsData::trusted(), selection, selections, selection_offset(program));
    }
    let whole = builder.ins().iconst(I64, 1);
    builder.ins().return_(&[whole]);
    builder.switch_to_block(given_up);
    let nothing = builder.ins().iconst(I64, 0);
    builder.ins().return_(&[nothing]);
    builder.seal_all_blocks();
    builder.finalize(target);
}

/// How a number is held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Form {
    /// As what it is.
    Number,
    /// A load without the change of byte order: good enough for equality and bits, with constants changed instead.
    Raw,
    /// Four times the above.
    Splat,
    RawSplat,
}

/// The numbers that every way to a place has computed.
#[derive(Clone, Default)]
struct Available(Table<(ValueId, Form), ir::Value>);

impl Available {
    /// Keeps what is available on both of two ways. Equal IR values come from before the ways parted.
    fn meet(ways: &mut Option<Available>, other: &Available) {
        match ways {
            Some(ways) => ways.0.retain(|key, value| other.0.get(key) == Some(value)),
            None => *ways = Some(other.clone()),
        }
    }
}

/// Programs of one shape, each with its own constants.
struct Group {
    shape: Shape,
    programs: Vec<(usize, Vec<Constants>)>,
}

struct Lowering<'a> {
    builder: FunctionBuilder<'a>,
    graph: &'a Graph,
    layout: Layout,
    selections: ir::Value,
    /// Selections of programs that stay in registers from packet to packet.
    held: Table<usize, Variable>,
    frame: ir::Value,
    /// The packet's bit in selections.
    bit: ir::Value,
    next: Block,
    /// The block that a packet in several segments leads to.
    given_up: Block,
    /// The packet's bytes; of a split frame, 14 bytes before its payload.
    data: ir::Value,
    /// Captured bytes, as 64 bits.
    captured: ir::Value,
}

/// Fewer programs than this of one shape are asked one by one.
const SMALLEST_GROUP: usize = 4;
/// Selections that are held in registers at most.
const MOST_HELD: usize = 4;

/// Gives the byte offset of a program's selection.
fn selection_offset(program: usize) -> i32 {
    i32::try_from(8 * program).expect("selections are capped far below 2^28")
}

impl Lowering<'_> {
    fn packet(&mut self, merged: &Merged) {
        self.begin_packet();
        let blocks: Vec<Block> = merged.states.iter().map(|_| self.builder.create_block()).collect();
        let mut arriving: Vec<Option<Available>> = vec![None; merged.states.len()];
        arriving[merged.entry.to] = Some(Available::default());
        self.follow(&merged.entry, &blocks);
        for state in merged.in_order() {
            self.builder.switch_to_block(blocks[state]);
            let mut available = arriving[state].take().expect("a state comes after those that lead to it");
            match &merged.states[state] {
                State::Ask { condition, then, otherwise } => {
                    let answer = self.ask(*condition, &mut available);
                    let ways = [then, otherwise].map(|edge| {
                        Available::meet(&mut arriving[edge.to], &available);
                        if edge.accepts.is_empty() {
                            (blocks[edge.to], None)
                        } else {
                            (self.builder.create_block(), Some(edge))
                        }
                    });
                    self.builder.ins().brif(answer, ways[0].0, &[], ways[1].0, &[]);
                    for (block, edge) in ways {
                        if let Some(edge) = edge {
                            self.builder.switch_to_block(block);
                            self.follow(edge, &blocks);
                        }
                    }
                }
                State::Open { programs, known } => self.open(programs, known, available),
            }
        }
    }

    fn follow(&mut self, edge: &Edge, blocks: &[Block]) {
        for &program in &edge.accepts {
            self.accept(program);
        }
        self.builder.ins().jump(blocks[edge.to], &[]);
    }

    /// Sets the packet's bit in the program's selection.
    fn accept(&mut self, program: usize) {
        let bit = self.bit;
        self.select(program, bit);
    }

    /// Adds `bits` to the program's selection.
    fn select(&mut self, program: usize, bits: ir::Value) {
        if let Some(&variable) = self.held.get(&program) {
            let before = self.builder.use_var(variable);
            let after = self.builder.ins().bor(before, bits);
            return self.builder.def_var(variable, after);
        }
        let offset = selection_offset(program);
        let before = self.builder.ins().load(I64, MemFlagsData::trusted(), self.selections, offset);
        let after = self.builder.ins().bor(before, bits);
        self.builder.ins().store(MemFlagsData::trusted(), after, self.selections, offset);
    }

    /// Decides `programs` one after another and goes to the next packet.
    fn open(&mut self, programs: &[(usize, NodeId)], known: &Known, mut available: Available) {
        let mut groups: Vec<Group> = Vec::new();
        let mut others = Vec::new();
        if programs.len() >= SMALLEST_GROUP {
            let mut numbers: Table<Shape, usize> = Table::default();
            for &(program, node) in programs {
                let Some(Formula { shape, constants }) = Formula::of(self.graph, node, known) else {
                    others.push((program, node));
                    continue;
                };
                let number = *numbers.entry(shape.clone()).or_insert_with(|| {
                    groups.push(Group { shape, programs: Vec::new() });
                    groups.len() - 1
                });
                groups[number].programs.push((program, constants));
            }
            for group in groups.extract_if(.., |group| group.programs.len() < SMALLEST_GROUP) {
                let single = |(program, _): &(usize, _)| {
                    programs.iter().copied().find(|(other, _)| other == program)
                };
                others.extend(group.programs.iter().filter_map(single));
            }
        } else {
            others.extend(programs);
        }
        self.compute_shared(&others, known, &mut available);
        for group in &groups {
            for programs in group.programs.chunks(32) {
                self.group(&group.shape, programs, &mut available);
            }
        }
        for (index, &(program, root)) in others.iter().enumerate() {
            let after = if index + 1 == others.len() { self.next } else { self.builder.create_block() };
            available = self.alone(program, root, known, available, after);
            if after != self.next {
                self.builder.switch_to_block(after);
            }
        }
        if others.is_empty() {
            self.builder.ins().jump(self.next, &[]);
        }
    }

    /// Computes what more than one of `programs` compares, where it may be computed already.
    fn compute_shared(&mut self, programs: &[(usize, NodeId)], known: &Known, available: &mut Available) {
        let mut askers: Table<ValueId, (usize, usize)> = Table::default();
        let mut order = Vec::new();
        for (asker, &(_, root)) in programs.iter().enumerate() {
            for node in self.graph.in_order(root) {
                let Node::Branch { condition: Condition::Compare { a, .. }, .. } = self.graph.node(node)
                else {
                    continue;
                };
                let (last, count) = askers.entry(a).or_insert_with(|| {
                    order.push(a);
                    (asker, 1)
                });
                if *last != asker {
                    (*last, *count) = (asker, *count + 1);
                }
            }
        }
        for value in order {
            if askers[&value].1 > 1 && known.allows(value, self.graph) {
                let form = if self.is_load(value) { Form::Raw } else { Form::Number };
                self.value(value, form, available);
            }
        }
    }

    /// Asks what is left of one program, and goes to `after`. Gives what is available there.
    fn alone(
        &mut self,
        program: usize,
        root: NodeId,
        known: &Known,
        available: Available,
        after: Block,
    ) -> Available {
        let nodes = self.graph.in_order(root);
        let mut blocks: Table<NodeId, (Block, Option<Available>)> = Table::default();
        for &node in &nodes[1..] {
            blocks.insert(node, (self.builder.create_block(), None));
        }
        let accept = self.builder.create_block();
        blocks.insert(NodeId::ACCEPT, (accept, None));
        blocks.insert(NodeId::REJECT, (after, None));
        let (mut current, mut decided) = (Some(available), None);
        for node in nodes {
            let Node::Branch { condition, then, otherwise } = self.graph.node(node) else {
                unreachable!("ends are left out")
            };
            let mut available = match current.take() {
                Some(available) => available,
                None => {
                    let (block, arriving) = blocks.get_mut(&node).expect("every node has a block");
                    // what leads to it was answered together with it
                    let Some(available) = arriving.take() else { continue };
                    self.builder.switch_to_block(*block);
                    available
                }
            };
            if let Some(together) = self.together(node, known) {
                let accepted = self.answer(together, &mut available);
                let zero = self.builder.ins().iconst(I64, 0);
                let bits = self.builder.ins().select(accepted, self.bit, zero);
                self.select(program, bits);
                self.builder.ins().jump(after, &[]);
                Available::meet(&mut decided, &available);
                continue;
            }
            let answer = self.ask(condition, &mut available);
            let [then, otherwise] = [then, otherwise].map(|target| {
                let (block, arriving) = blocks.get_mut(&target).expect("every node has a block");
                Available::meet(arriving, &available);
                *block
            });
            self.builder.ins().brif(answer, then, &[], otherwise, &[]);
        }
        let (_, accepted) = blocks.remove(&NodeId::ACCEPT).expect("inserted above");
        if accepted.is_some() {
            self.builder.switch_to_block(accept);
            self.accept(program);
            self.builder.ins().jump(after, &[]);
        }
        let (_, rejected) = blocks.remove(&NodeId::REJECT).expect("inserted above");
        for way in [accepted, rejected].iter().flatten() {
            Available::meet(&mut decided, way);
        }
        decided.unwrap_or_default()
    }

    fn vector_constant(&mut self, kind: ir::Type, bytes: Vec<u8>) -> ir::Value {
        let constant = self.builder.func.dfg.constants.insert(ConstantData::from(bytes));
        self.builder.ins().vconst(kind, constant)
    }

    fn is_load(&self, value: ValueId) -> bool {
        matches!(self.graph.value(value), Value::Load { .. } | Value::LoadAt { .. })
    }

    /// 1 where the answer is yes, else 0.
    fn ask_exactly(&mut self, condition: Condition, available: &mut Available) -> ir::Value {
        let yes = self.ask(condition, available);
        match condition {
            Condition::Compare { test: Test::AnyBit, .. } => {
                self.builder.ins().icmp_imm_u(IntCC::NotEqual, yes, 0)
            }
            _ => yes,
        }
    }

    /// A number that is nonzero where the answer is yes.
    fn ask(&mut self, condition: Condition, available: &mut Available) -> ir::Value {
        match condition {
            Condition::Captured { end } => {
                let end = self.builder.ins().iconst(I64, end as i64);
                self.builder.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, self.captured, end)
            }
            Condition::CapturedAt { base, end } => {
                let base = self.value(base, Form::Number, available);
                let base = self.builder.ins().uextend(I64, base);
                let end = self.builder.ins().iconst(I64, end as i64);
                let end = self.builder.ins().iadd(base, end);
                self.builder.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, self.captured, end)
            }
            Condition::Compare { test, a, b } => {
                if let (Test::Equal | Test::AnyBit, Some(against)) = (test, self.graph.as_constant(b)) {
                    let (load, mask) = match self.graph.value(a) {
                        Value::Alu { operator: AluOperator::And, a: masked, b: mask } => {
                            (masked, self.graph.as_constant(mask))
                        }
                        _ => (a, Some(u32::MAX)),
                    };
                    if let Some(mask) = mask
                        && self.is_load(load)
                    {
                        return self.ask_raw(test, load, mask, against, available);
                    }
                }
                let (a, b) =
                    (self.value(a, Form::Number, available), self.value(b, Form::Number, available));
                match test {
                    Test::Equal => self.builder.ins().icmp(IntCC::Equal, a, b),
                    Test::Greater => self.builder.ins().icmp(IntCC::UnsignedGreaterThan, a, b),
                    Test::GreaterOrEqual => {
                        self.builder.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, a, b)
                    }
                    Test::AnyBit => self.builder.ins().band(a, b),
                }
            }
        }
    }

    /// Emits the question whether `load & mask` equals `against`, or has a bit of it, with constants in the packet's byte order.
    fn ask_raw(
        &mut self,
        test: Test,
        load: ValueId,
        mask: u32,
        against: u32,
        available: &mut Available,
    ) -> ir::Value {
        let mut number = self.value(load, Form::Raw, available);
        let all = raw_constant(self.graph, load, u32::MAX);
        let mask = raw_constant(self.graph, load, mask);
        let against = raw_constant(self.graph, load, against);
        match test {
            Test::AnyBit => {
                let bits = self.builder.ins().iconst(I32, i64::from(mask & against));
                self.builder.ins().band(number, bits)
            }
            _ => {
                if mask != all {
                    let mask = self.builder.ins().iconst(I32, i64::from(mask));
                    number = self.builder.ins().band(number, mask);
                }
                let against = self.builder.ins().iconst(I32, i64::from(against));
                self.builder.ins().icmp(IntCC::Equal, number, against)
            }
        }
    }

    /// The number `id`; what it reads is known to be captured here, what it divides by is known not to be zero.
    fn value(&mut self, id: ValueId, form: Form, available: &mut Available) -> ir::Value {
        if let Some(&value) = available.0.get(&(id, form)) {
            return value;
        }
        let value = match form {
            Form::Splat | Form::RawSplat => {
                let one =
                    self.value(id, if form == Form::Splat { Form::Number } else { Form::Raw }, available);
                self.builder.ins().splat(I32X4, one)
            }
            Form::Raw => match self.graph.value(id) {
                Value::Load { width, offset } => self.load(width, offset),
                Value::LoadAt { width, base, offset } => {
                    let base = self.value(base, Form::Number, available);
                    self.load_at(width, base, offset)
                }
                _ => unreachable!("only loads are held raw"),
            },
            Form::Number => match self.graph.value(id) {
                Value::Constant(number) => self.builder.ins().iconst(I32, i64::from(number)),
                Value::Len => self.field(I32, self.layout.original_len_offset()),
                Value::Load { width, .. } | Value::LoadAt { width, .. } => {
                    let raw = self.value(id, Form::Raw, available);
                    self.in_host_order(width, raw)
                }
                Value::Alu { operator, a, b } => {
                    let (left, right) =
                        (self.value(a, Form::Number, available), self.value(b, Form::Number, available));
                    self.alu(operator, left, right, self.graph.as_constant(b))
                }
            },
        };
        available.0.insert((id, form), value);
        value
    }

    fn alu(
        &mut self,
        operator: AluOperator,
        a: ir::Value,
        b: ir::Value,
        constant: Option<u32>,
    ) -> ir::Value {
        let ins = self.builder.ins();
        match operator {
            AluOperator::Add => ins.iadd(a, b),
            AluOperator::Sub => ins.isub(a, b),
            AluOperator::Mul => ins.imul(a, b),
            AluOperator::Div => ins.udiv(a, b),
            AluOperator::Mod => ins.urem(a, b),
            AluOperator::And => ins.band(a, b),
            AluOperator::Or => ins.bor(a, b),
            AluOperator::Xor => ins.bxor(a, b),
            AluOperator::ShiftLeft | AluOperator::ShiftRight => {
                let shifted =
                    if operator == AluOperator::ShiftLeft { ins.ishl(a, b) } else { ins.ushr(a, b) };
                if constant.is_some() {
                    return shifted;
                }
                let width = self.builder.ins().iconst(I32, 32);
                let is_short = self.builder.ins().icmp(IntCC::UnsignedLessThan, b, width);
                let zero = self.builder.ins().iconst(I32, 0);
                self.builder.ins().select(is_short, shifted, zero)
            }
        }
    }
}
