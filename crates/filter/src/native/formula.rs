//! The rest of a program as one formula over comparisons. Formulas of one shape can be computed side by side.
//!
//! A decision graph becomes a formula by joining tests that lead to the same place: `src = A ? ports : (dst = A ? ports : reject)`
//! is `(src = A or dst = A) and ports`. Two programs have one shape if their formulas differ in constants only.

use super::graph::{Condition, Graph, Node, NodeId, Value, ValueId};
use super::merge::Known;
use crate::bpf::insn::{AluOperator, Test};

/// A formula with its constants taken out, in postfix order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Shape(pub Vec<Term>);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Term {
    /// Compares `value`, masked by a constant of each program's own if so said, with a constant of each program's own.
    Compare {
        test: Test,
        value: ValueId,
        masked: bool,
    },
    Not,
    And,
    Or,
}

/// The constants of one `Term::Compare`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Constants {
    pub mask: u32,
    pub against: u32,
}

/// A program's formula: the shape, and the constants of its comparisons in the order of the shape.
pub(super) struct Formula {
    pub shape: Shape,
    pub constants: Vec<Constants>,
}

/// Comparisons in a formula: beyond so many, a packet is decided sooner by asking one after another.
const MAX_COMPARISONS: usize = 8;

impl Formula {
    /// The formula of the graph from `node` on; `None` where not everything in it may be computed at once, or it is long.
    pub(super) fn of(graph: &Graph, node: NodeId, known: &Known) -> Option<Formula> {
        let mut builder =
            Builder { graph, known, formula: Formula { shape: Shape(Vec::new()), constants: Vec::new() } };
        builder.node(node)?;
        Some(builder.formula)
    }
}

struct Builder<'a> {
    graph: &'a Graph,
    known: &'a Known,
    formula: Formula,
}

impl Builder<'_> {
    fn push(&mut self, term: Term) {
        self.formula.shape.0.push(term);
    }

    /// Appends the formula of a node that is no end.
    fn node(&mut self, node: NodeId) -> Option<()> {
        let Node::Branch { condition, mut then, mut otherwise } = self.graph.node(node) else {
            return None;
        };
        let start = (self.formula.shape.0.len(), self.formula.constants.len());
        self.comparison(condition)?;
        loop {
            match (self.graph.node(then), self.graph.node(otherwise)) {
                (_, Node::Branch { condition, then: then2, otherwise: otherwise2 }) if then2 == then => {
                    self.comparison(condition)?;
                    self.push(Term::Or);
                    otherwise = otherwise2;
                }
                (_, Node::Branch { condition, then: then2, otherwise: otherwise2 })
                    if otherwise2 == then =>
                {
                    self.comparison(condition)?;
                    self.push(Term::Not);
                    self.push(Term::Or);
                    otherwise = then2;
                }
                (Node::Branch { condition, then: then2, otherwise: otherwise2 }, _)
                    if otherwise2 == otherwise =>
                {
                    self.comparison(condition)?;
                    self.push(Term::And);
                    then = then2;
                }
                (Node::Branch { condition, then: then2, otherwise: otherwise2 }, _)
                    if then2 == otherwise =>
                {
                    self.comparison(condition)?;
                    self.push(Term::Not);
                    self.push(Term::And);
                    then = otherwise2;
                }
                _ => break,
            }
        }
        match (then, otherwise) {
            (NodeId::ACCEPT, NodeId::REJECT) => {}
            (NodeId::REJECT, NodeId::ACCEPT) => self.push(Term::Not),
            (NodeId::ACCEPT, rest) => {
                self.node(rest)?;
                self.push(Term::Or);
            }
            (rest, NodeId::REJECT) => {
                self.node(rest)?;
                self.push(Term::And);
            }
            (NodeId::REJECT, rest) => {
                self.push(Term::Not);
                self.node(rest)?;
                self.push(Term::And);
            }
            (rest, NodeId::ACCEPT) => {
                self.push(Term::Not);
                self.node(rest)?;
                self.push(Term::Or);
            }
            (left, right) => {
                let terms = self.formula.shape.0[start.0..].to_vec();
                let constants = self.formula.constants[start.1..].to_vec();
                self.node(left)?;
                self.push(Term::And);
                self.formula.shape.0.extend(terms);
                self.formula.constants.extend(constants);
                self.push(Term::Not);
                self.node(right)?;
                self.push(Term::And);
                self.push(Term::Or);
            }
        }
        Some(())
    }

    fn comparison(&mut self, condition: Condition) -> Option<()> {
        let Condition::Compare { test, a, b } = condition else { return None };
        let against = self.graph.as_constant(b)?;
        if self.formula.constants.len() == MAX_COMPARISONS || !self.known.allows(a, self.graph) {
            return None;
        }
        let (value, mask) = match self.graph.value(a) {
            Value::Alu { operator: AluOperator::And, a: value, b: mask } => {
                match self.graph.as_constant(mask) {
                    Some(mask) => (value, Some(mask)),
                    None => (a, None),
                }
            }
            _ => (a, None),
        };
        self.push(Term::Compare { test, value, masked: mask.is_some() });
        self.formula.constants.push(Constants { mask: mask.unwrap_or(u32::MAX), against });
        Some(())
    }
}
