//! Merged decision graphs -> Cranelift IR: one function over a burst.
//!
//! The function has the shape `fn(frames: *const F, end: *const F, selections: *mut u64) -> u64`: it looks at the packets one by one
//! and sets bit `i` of `selections[program]` where the program accepts packet `i`; it gives 1, or 0 where it met a packet in several
//! segments, and then selections say nothing. Numbers are computed where they are first needed
//! and kept as long as every way to a place has computed them. What is left of several programs with formulas of one shape is
//! computed four programs at a time. A few questions that may all be asked are answered together without a branch: traffic answers
//! them at random, and a processor that guesses wrong pays for more than all of them.

use std::collections::BTreeSet;
use std::ops::Range;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8X16, I16, I16X8, I32, I32X4, I64};
use cranelift_codegen::ir::{
    self, AbiParam, Block, ConstantData, Endianness, Function, InstBuilder, MemFlagsData, Signature,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::formula::{Constants, Formula, Shape, Term};
use super::graph::{Condition, Graph, Node, NodeId, Table, Value, ValueId};
use super::merge::{Edge, Known, Merged, State};
use super::side_by_side::{Conjunction, Equalities, Window};
use crate::bpf::insn::{AluOperator, Test, Width};
use tapline_dpdk::mbuf::MbufFrames;
use tapline_packet::frame::{Frame, SplitFrame};

/// What a packet looks like in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// A `Frame`.
    Whole,
    /// A `SplitFrame`.
    Split,
    /// A pointer to an mbuf, one of `MbufFrames`.
    Mbuf,
}

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
    let stride = match layout {
        Layout::Whole => Frame::STRIDE,
        Layout::Split => SplitFrame::STRIDE,
        Layout::Mbuf => MbufFrames::STRIDE,
    };
    let stride = builder.ins().iconst(I64, stride as i64);
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
    /// What is available on either of two ways. Equal IR values come from before the ways parted.
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

/// Questions that are answered together.
struct Together {
    conjunction: Conjunction,
    rest: Rest,
}

/// What is asked of packets for which the conjunction holds.
enum Rest {
    None,
    Equalities(Equalities),
    /// Each before those that follow it.
    Nodes(Vec<NodeId>),
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
    /// Where a packet in several segments leads.
    given_up: Block,
    /// The packet's bytes; of a split frame, 14 bytes before its payload.
    data: ir::Value,
    /// Captured bytes, as 64 bits.
    captured: ir::Value,
}

/// Questions that are answered together, those about neighbouring bytes counted as one: beyond so many, a packet is decided sooner
/// by asking one after another.
const MOST_TOGETHER: usize = 12;
/// Beyond so many there are surely more questions.
const MOST_NODES_TOGETHER: usize = 64;
/// Fewer programs than this of one shape are asked one by one.
const SMALLEST_GROUP: usize = 4;
const LANES: usize = 4;
/// Selections that are held in registers at most.
const MOST_HELD: usize = 4;
const HEADER: u64 = SplitFrame::HEADER_BYTES as u64;

/// Where a program's selection is.
fn selection_offset(program: usize) -> i32 {
    i32::try_from(8 * program).expect("selections are capped far below 2^28")
}

fn packet_flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

impl Lowering<'_> {
    fn field(&mut self, kind: ir::Type, offset: usize) -> ir::Value {
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

    fn packet(&mut self, merged: &Merged) {
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

    /// What is asked from `node` on, if it is little, and all of it may be asked whatever the answers are.
    fn together(&self, node: NodeId, known: &Known) -> Option<Together> {
        let mut count = 0;
        self.graph.in_order_while(node, |node| {
            count += 1;
            let Node::Branch { condition: condition @ Condition::Compare { .. }, .. } = node else {
                return false;
            };
            count <= MOST_NODES_TOGETHER && known.allows_asking(condition, self.graph)
        })?;
        let conjunction = Conjunction::of(self.graph, node, self.readable(known));
        let rest = match Equalities::of(self.graph, conjunction.rest) {
            _ if conjunction.rest.is_end() => Rest::None,
            Some(equalities) => Rest::Equalities(equalities),
            None => Rest::Nodes(self.graph.in_order(conjunction.rest)),
        };
        let questions = conjunction.questions()
            + match &rest {
                Rest::None => 0,
                Rest::Equalities(equalities) => equalities.against.len(),
                Rest::Nodes(nodes) => nodes.len(),
            };
        (questions <= MOST_TOGETHER).then_some(Together { conjunction, rest })
    }

    /// What of a packet can be read in one piece.
    fn readable(&self, known: &Known) -> Range<u64> {
        let start = if self.layout == Layout::Split { HEADER } else { 0 };
        start..known.captured()
    }

    /// Asks all of that. Gives 1 where the packet is accepted, else 0.
    fn answer(&mut self, Together { conjunction, rest }: Together, available: &mut Available) -> ir::Value {
        let mut answers = Vec::new();
        for window in &conjunction.windows {
            answers.push(self.window(window));
        }
        for &(condition, expected) in &conjunction.others {
            let answer = self.ask_exactly(condition, available);
            answers.push(if expected { answer } else { self.builder.ins().bxor_imm_u(answer, 1) });
        }
        match &rest {
            Rest::None => {}
            Rest::Equalities(equalities) => answers.push(self.equalities(equalities, available)),
            Rest::Nodes(nodes) => answers.push(self.answer_nodes(nodes, available)),
        }
        let all = answers.into_iter().reduce(|all, answer| self.builder.ins().band(all, answer));
        all.expect("a node asks something")
    }

    /// Whether the packet's bytes in the window are as they have to be.
    fn window(&mut self, window: &Window) -> ir::Value {
        let bytes = self.load_bytes(window.start);
        let against = self.vector_constant(I8X16, window.against.to_vec());
        let mask = self.vector_constant(I8X16, window.mask.to_vec());
        let differing = self.builder.ins().bxor(bytes, against);
        let differing = self.builder.ins().band(differing, mask);
        let differs = self.builder.ins().vany_true(differing);
        self.builder.ins().bxor_imm_u(differs, 1)
    }

    /// Whether one of the halves equals one of the numbers that it is compared with.
    fn equalities(&mut self, equalities: &Equalities, available: &mut Available) -> ir::Value {
        let width = if equalities.is_pair { Width::Word } else { Width::Half };
        let raw = match self.graph.value(equalities.first) {
            Value::Load { offset, .. } => self.load(width, offset),
            Value::LoadAt { base, offset, .. } => {
                let base = self.value(base, Form::Number, available);
                self.load_at(width, base, offset)
            }
            _ => unreachable!("halves are loads"),
        };
        let lanes = if equalities.is_pair {
            let words = self.builder.ins().splat(I32X4, raw);
            self.builder.ins().bitcast(
                I16X8,
                MemFlagsData::new().with_endianness(Endianness::Little),
                words,
            )
        } else {
            let half = self.builder.ins().ireduce(I16, raw);
            self.builder.ins().splat(I16X8, half)
        };
        let equal = equalities.against.iter().map(|against| {
            let against = self.vector_constant(I16X8, against.concat());
            self.builder.ins().icmp(IntCC::Equal, lanes, against)
        });
        let equal: Vec<ir::Value> = equal.collect();
        let any = equal.into_iter().reduce(|any, equal| self.builder.ins().bor(any, equal));
        self.builder.ins().vany_true(any.expect("something is asked"))
    }

    /// Asks all of `nodes`, each before those that follow it. Gives 1 where the first leads to `ACCEPT`, else 0.
    fn answer_nodes(&mut self, nodes: &[NodeId], available: &mut Available) -> ir::Value {
        let mut ends: Table<NodeId, ir::Value> = Table::default();
        let mut first = None;
        for &node in nodes.iter().rev() {
            let Node::Branch { condition, then, otherwise } = self.graph.node(node) else {
                unreachable!("ends are left out")
            };
            let yes = self.ask_exactly(condition, available);
            let ins = self.builder.ins();
            let end = match (then, otherwise) {
                (NodeId::ACCEPT, NodeId::REJECT) => yes,
                (NodeId::REJECT, NodeId::ACCEPT) => ins.bxor_imm_u(yes, 1),
                (NodeId::ACCEPT, otherwise) => ins.bor(yes, ends[&otherwise]),
                (then, NodeId::REJECT) => ins.band(yes, ends[&then]),
                (NodeId::REJECT, otherwise) => {
                    let no = ins.bxor_imm_u(yes, 1);
                    self.builder.ins().band(no, ends[&otherwise])
                }
                (then, NodeId::ACCEPT) => {
                    let no = ins.bxor_imm_u(yes, 1);
                    self.builder.ins().bor(no, ends[&then])
                }
                (then, otherwise) => ins.select(yes, ends[&then], ends[&otherwise]),
            };
            ends.insert(node, end);
            first = Some(end);
        }
        first.expect("a node that is no end")
    }

    /// Decides at most 32 programs of one shape together.
    fn group(&mut self, shape: &Shape, programs: &[(usize, Vec<Constants>)], available: &mut Available) {
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

    /// Whether `load & mask` equals `against`, or has a bit of it, by constants in the packet's byte order.
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
                Value::Len => {
                    let offset = match self.layout {
                        Layout::Whole => Frame::ORIGINAL_LEN_OFFSET,
                        Layout::Split => SplitFrame::ORIGINAL_LEN_OFFSET,
                        Layout::Mbuf => MbufFrames::PKT_LEN_OFFSET as usize,
                    };
                    self.field(I32, offset)
                }
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

    fn in_host_order(&mut self, width: Width, raw: ir::Value) -> ir::Value {
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
    fn load(&mut self, width: Width, offset: u32) -> ir::Value {
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
    fn load_at(&mut self, width: Width, base: ir::Value, offset: u32) -> ir::Value {
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
    fn load_bytes(&mut self, start: u64) -> ir::Value {
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

fn pop(stack: &mut Vec<ir::Value>) -> ir::Value {
    stack.pop().expect("formulas are well-formed")
}

/// The constant that a raw load of `load`'s width is compared with in place of `number`.
fn raw_constant(graph: &Graph, load: ValueId, number: u32) -> u32 {
    match graph.value(load) {
        Value::Load { width, .. } | Value::LoadAt { width, .. } => match width {
            Width::Byte => number & 0xff,
            Width::Half => u32::from((number as u16).swap_bytes()),
            Width::Word => number.swap_bytes(),
        },
        _ => number,
    }
}
