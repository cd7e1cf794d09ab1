//! A few questions that may all be asked, answered together without a branch.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8X16, I16, I16X8, I32X4};
use cranelift_codegen::ir::{self, Endianness, InstBuilder, MemFlagsData};

use super::{Available, Form, Lowering};
use crate::bpf::insn::Width;
use crate::native::graph::{Condition, Node, NodeId, Table, Value};
use crate::native::merge::Known;
use crate::native::side_by_side::{Conjunction, Equalities, Window};

/// Questions that are answered together, those about neighbouring bytes counted as one: beyond so many, a packet is decided sooner
/// by asking one after another.
const MOST_TOGETHER: usize = 12;
/// Beyond so many there are surely more questions.
const MOST_NODES_TOGETHER: usize = 64;

/// Questions that are answered together.
pub(super) struct Together {
    conjunction: Conjunction,
    rest: Rest,
}

/// The questions for packets that the conjunction holds for.
enum Rest {
    None,
    Equalities(Equalities),
    /// Each before those that follow it.
    Nodes(Vec<NodeId>),
}

impl Lowering<'_> {
    /// Gives the questions from `node` on, if they are few and all of them may be asked whatever the answers are.
    pub(super) fn together(&self, node: NodeId, known: &Known) -> Option<Together> {
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

    /// Asks all of that. Gives 1 where the packet is accepted, else 0.
    pub(super) fn answer(
        &mut self,
        Together { conjunction, rest }: Together,
        available: &mut Available,
    ) -> ir::Value {
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

    /// Emits the comparison of a window: 1 if the packet's bytes are as they have to be.
    fn window(&mut self, window: &Window) -> ir::Value {
        let bytes = self.load_bytes(window.start);
        let against = self.vector_constant(I8X16, window.against.to_vec());
        let mask = self.vector_constant(I8X16, window.mask.to_vec());
        let differing = self.builder.ins().bxor(bytes, against);
        let differing = self.builder.ins().band(differing, mask);
        let differs = self.builder.ins().vany_true(differing);
        self.builder.ins().bxor_imm_u(differs, 1)
    }

    /// Emits the comparison of halves: true if one of them equals one of the numbers that it is compared with.
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
}
