//! Which egress is a tool, and which a direction of a wire.
//!
//! Workers queue, count and send for both alike, so both have ids of one kind, and one table each for all that is alike. The tools
//! come first, in their order; behind them the wires in theirs, each from A to B and then from B to A. Nothing outside this module
//! goes by that order, but for [`egress`](crate::egress::egress), which sends the last ones first: an original goes before its
//! copies.

use crate::ids::{EgressId, ToolId, WireId};
use tapline_packet::by_id::Id;

/// A side of a wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    A,
    B,
}

impl Side {
    pub const ALL: [Side; 2] = [Side::A, Side::B];

    /// The side that receives what this one sends.
    pub fn other(self) -> Self {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// The owner of an egress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Egress {
    /// Takes copies.
    Tool(ToolId),
    /// The direction of a wire that comes from this side, and takes originals.
    Wire(WireId, Side),
}

/// The egresses of a plan.
///
/// Behind them a worker may have others, which leave: those of the plan before that this one has not. They send what waits for them,
/// and get nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Egresses {
    tools: usize,
    wires: usize,
}

impl ToolId {
    /// The tool's egress.
    #[inline(always)]
    pub fn egress(self) -> EgressId {
        EgressId(self.0)
    }
}

impl Egresses {
    pub fn new(tools: usize, wires: usize) -> Self {
        Self { tools, wires }
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.tools + Side::ALL.len() * self.wires
    }

    /// How many of them are tools.
    pub fn tool_count(self) -> usize {
        self.tools
    }

    /// Returns whether an egress is none of the plan's, and leaves.
    #[inline(always)]
    pub fn is_leaving(self, id: EgressId) -> bool {
        id.0 >= self.count()
    }

    /// Returns whether an egress is a tool, and takes copies.
    #[inline(always)]
    pub fn is_tool(self, id: EgressId) -> bool {
        id.0 < self.tools
    }

    /// The egress of the direction of a wire that comes from side `from`.
    pub fn of_wire(self, wire: WireId, from: Side) -> EgressId {
        EgressId(self.tools + Side::ALL.len() * wire.0 + from as usize)
    }

    /// All of them, and what each is.
    pub fn all(self) -> impl DoubleEndedIterator<Item = (EgressId, Egress)> {
        let tools = (0..self.tools).map(ToolId::new).map(|tool| (tool.egress(), Egress::Tool(tool)));
        let directions = (0..self.wires).map(WireId::new).flat_map(move |wire| {
            Side::ALL.map(|from| (self.of_wire(wire, from), Egress::Wire(wire, from)))
        });
        tools.chain(directions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_egress_has_an_id_of_its_own_and_tools_come_first() {
        for (tools, wires) in [(0, 0), (3, 0), (0, 2), (3, 2)] {
            let egresses = Egresses::new(tools, wires);
            let all: Vec<_> = egresses.all().collect();
            assert_eq!(all.len(), egresses.count());
            for (place, &(id, egress)) in all.iter().enumerate() {
                assert_eq!(id, EgressId(place));
                assert_eq!(egresses.is_tool(id), place < tools);
                let known = match egress {
                    Egress::Tool(tool) => tool.egress(),
                    Egress::Wire(wire, from) => egresses.of_wire(wire, from),
                };
                assert_eq!((known, egresses.is_tool(id)), (id, matches!(egress, Egress::Tool(_))));
            }
        }
        let all: Vec<_> = Egresses::new(1, 1).all().map(|(_, egress)| egress).collect();
        let wire = |from| Egress::Wire(WireId(0), from);
        assert_eq!(all, [Egress::Tool(ToolId(0)), wire(Side::A), wire(Side::B)]);
    }
}
