//! Kept: what another plan has of the running one, found by names.
//!
//! Ids are of one plan. Each table here has, by an id of the plan that comes, the id that the same object has in the plan before.

use crate::plan::Plan;
use crate::plan::value::{Output, RulePlan, ToolPlan};
use tapline_datapath::counters::Origins;
use tapline_datapath::egresses::{Egress, Egresses, Side};
use tapline_datapath::ids::{EgressId, GroupId, PortId, RuleId, ToolId, WireId};
use tapline_datapath::swap::plan_part::CarriedOver;
use tapline_packet::by_id::{ById, Id};

/// Ports of both plans whose devices do not stay, by name.
#[derive(Default)]
pub(super) struct Anew {
    /// They lose their devices.
    pub closing: Vec<String>,
    /// They are set up.
    pub opening: Vec<String>,
}

impl Anew {
    /// Returns whether a port's device does not stay.
    pub(super) fn has(&self, port: &str) -> bool {
        self.is_closing(port) || self.opening.iter().any(|name| name == port)
    }

    /// Returns whether a port loses its device.
    pub(super) fn is_closing(&self, port: &str) -> bool {
        self.closing.iter().any(|name| name == port)
    }
}

/// The objects of a plan that the plan before has, too.
pub(super) struct Kept {
    /// Those that are counted on.
    pub ports: ById<PortId, Option<PortId>>,
    /// Those of them whose devices and queues stay as they are; the others get them anew, or lose them.
    pub devices: ById<PortId, Option<PortId>>,
    pub tools: ById<ToolId, Option<ToolId>>,
    pub wires: ById<WireId, Option<WireId>>,
    pub groups: ById<GroupId, Option<GroupId>>,
    pub rules: ById<RuleId, Option<CarriedOver>>,
    /// Those that are counted on.
    pub egresses: ById<EgressId, Option<EgressId>>,
    /// Those of them whose queues stay as they are; the others are made anew.
    pub outlets: ById<EgressId, Option<EgressId>>,
    /// The egresses of the plan that comes, and of the one before.
    pub kinds: Egresses,
    pub kinds_before: Egresses,
    groups_before: usize,
    /// Each port of the plan before whose device stays has its id in the plan that comes.
    pub devices_after: ById<PortId, Option<PortId>>,
}

/// Returns for each id of the plan that comes the id of its namesake before.
fn by_name<I: Id, B, A>(
    before: &ById<I, B>,
    after: &ById<I, A>,
    is_same: impl Fn(&B, &A) -> bool,
) -> ById<I, Option<I>> {
    after
        .iter()
        .map(|after| before.entries().find(|(_, before)| is_same(before, after)).map(|(id, _)| id))
        .collect()
}

fn writes_file(plan: &Plan, tool: ToolId) -> bool {
    plan.tools[tool].output == Output::Capture
}

/// Returns for each id of the plan before the id of its namesake that comes.
fn inverse<I: Id>(before: &ById<I, Option<I>>, count: usize) -> ById<I, Option<I>> {
    let mut after = ById::filled(count, None);
    for (to, from) in before.entries() {
        if let Some(from) = from {
            after[*from] = Some(to);
        }
    }
    after
}

impl Kept {
    /// This is what `after` keeps of `before`. Ports are taken for kept if they have the name, and their devices unless the port is
    /// among `anew`: whoever prepares the plan refuses those that are set up otherwise.
    pub(super) fn of(before: &Plan, after: &Plan, anew: &Anew) -> Self {
        let ports = by_name(&before.ports, &after.ports, |before, after| before.name == after.name);
        let tools = by_name(&before.tools, &after.tools, |before, after| before.name == after.name);
        let wires = by_name(&before.wires, &after.wires, |before, after| before.name == after.name);
        let groups = by_name(&before.groups, &after.groups, |before, after| before.name == after.name);
        let stays =
            |(id, from): (PortId, &Option<PortId>)| from.filter(|_| !anew.has(&after.ports[id].name));
        let devices: ById<PortId, Option<PortId>> = ports.entries().map(stays).collect();
        let devices_after = inverse(&devices, before.ports.len());
        let (kinds, kinds_before) = (after.egresses(), before.egresses());
        let mut kept = Self {
            rules: namesakes(&before.rules, &after.rules, &ports),
            egresses: ById::default(),
            outlets: ById::default(),
            ports,
            devices,
            tools,
            wires,
            groups,
            kinds,
            kinds_before,
            groups_before: before.groups.len(),
            devices_after,
        };
        for (_, egress) in kinds.all() {
            let (known, is_as_before) = match egress {
                Egress::Tool(tool) => {
                    let is_same = |from: ToolId| kept.is_same_queue(before, after, from, tool);
                    let from = kept.tools[tool];
                    let is_as_before = from.is_some_and(is_same);
                    // a file that is begun anew has an account of its own
                    if !is_as_before
                        && from.is_some_and(|from| writes_file(before, from) || writes_file(after, tool))
                    {
                        kept.tools[tool] = None;
                    }
                    (kept.tools[tool].map(ToolId::egress), is_as_before)
                }
                Egress::Wire(wire, side) => {
                    let from = kept.wires[wire];
                    let is_same = |from: WireId| kept.is_same_wire((before, from), (after, wire), side);
                    (from.map(|from| kinds_before.of_wire(from, side)), from.is_some_and(is_same))
                }
            };
            kept.egresses.push(known);
            kept.outlets.push(known.filter(|_| is_as_before));
        }
        kept
    }

    /// Returns whether a tool's copies go on in the queue that it has.
    fn is_same_queue(&self, before: &Plan, after: &Plan, from: ToolId, to: ToolId) -> bool {
        let (before_tool, after_tool): (&ToolPlan, &ToolPlan) = (&before.tools[from], &after.tools[to]);
        let is_same_output = match (before_tool.output, after_tool.output) {
            (Output::Port(from), Output::Port(to)) => {
                self.devices[to] == Some(from)
                    && before.ports[from].is_stopped == after.ports[to].is_stopped
            }
            (Output::Capture, Output::Capture) => {
                before_tool.capture == after_tool.capture
                    && before_tool.store.is_some() == after_tool.store.is_some()
            }
            (Output::Discard, Output::Discard) => true,
            _ => false,
        };
        is_same_output
            && before_tool.queue == after_tool.queue
            && before_tool.queue_bytes == after_tool.queue_bytes
            && before_tool.shaping == after_tool.shaping
            && before_tool.order_ns == after_tool.order_ns
    }

    /// Returns whether what enters a wire at `side` goes on in the queue that it has.
    fn is_same_wire(&self, before: (&Plan, WireId), after: (&Plan, WireId), side: Side) -> bool {
        let port = |(plan, wire): (&Plan, WireId), side: Side| plan.wires[wire].port(side);
        let is_same = |&side: &Side| self.devices[port(after, side)] == Some(port(before, side));
        let leaves_by = |at: (&Plan, WireId)| at.0.ports[port(at, side.other())].is_stopped;
        Side::ALL.iter().all(is_same) && leaves_by(before) == leaves_by(after)
    }

    /// Returns the ids before, at which counters are found that go on.
    pub(super) fn origins(&self) -> Origins {
        Origins { ports: self.ports.clone(), egresses: self.egresses.clone(), groups: self.groups.clone() }
    }

    /// Egresses before whose queues leave: their tools are gone, or made anew.
    pub(super) fn leaving(&self) -> Vec<EgressId> {
        let stays = |id: &EgressId| self.outlets.iter().flatten().any(|from| from == id);
        self.kinds_before.all().map(|(id, _)| id).filter(|id| !stays(id)).collect()
    }

    /// Ports before whose devices leave.
    pub(super) fn detached(&self) -> impl Iterator<Item = PortId> {
        self.devices_after.entries().filter(|(_, after)| after.is_none()).map(|(id, _)| id)
    }

    /// Returns whether the groups have the ids that they had.
    pub(super) fn keeps_groups(&self) -> bool {
        self.groups.entries().all(|(to, from)| *from == Some(to)) && self.groups_before == self.groups.len()
    }

    /// Returns whether all ports and queues are as before, at the same ids.
    pub(super) fn keeps_setup(&self) -> bool {
        is_identity(&self.devices, self.devices_after.len())
            && is_identity(&self.outlets, self.kinds_before.count())
            && is_identity(&self.tools, self.kinds_before.tool_count())
    }
}

fn is_identity<I: Id>(ids: &ById<I, Option<I>>, count: usize) -> bool {
    ids.len() == count
        && ids.entries().all(|(to, from)| from.is_some_and(|from| from.place() == to.place()))
}

/// How a rule goes on that had the place `from`; `ports` has the ids before of the ports.
fn carry_over(
    before: &RulePlan,
    after: &RulePlan,
    (from, to): (RuleId, RuleId),
    ports: &ById<PortId, Option<PortId>>,
) -> CarriedOver {
    let has_dedup = match (&before.dedup, &after.dedup) {
        (Some(before), Some(after)) => {
            let scope: Option<Vec<PortId>> = after.scope.iter().map(|&port| ports[port]).collect();
            scope.as_ref() == Some(&before.scope)
                && before.window_ns == after.window_ns
                && before.ignore == after.ignore
                && before.action == after.action
                && before.memory == after.memory
        }
        _ => false,
    };
    CarriedOver {
        from,
        to,
        has_dedup,
        has_sampler: before.sample.is_some() && before.sample == after.sample,
    }
}

/// Returns for each rule of `after` its namesake in `before`. Both are ascending.
fn namesakes(
    before: &ById<RuleId, RulePlan>,
    after: &ById<RuleId, RulePlan>,
    ports: &ById<PortId, Option<PortId>>,
) -> ById<RuleId, Option<CarriedOver>> {
    let mut rest = before.entries().peekable();
    let carried_over_of = |(to, rule): (RuleId, &RulePlan)| {
        while rest.next_if(|(_, known)| known.priority < rule.priority).is_some() {}
        let (from, known) = rest.next_if(|(_, known)| known.priority == rule.priority)?;
        Some(carry_over(known, rule, (from, to), ports))
    };
    after.entries().map(carried_over_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Surroundings, plan};
    use tapline_lang as lang;

    fn plan_of(text: &str) -> Plan {
        plan(&mut lang::parse_text("test", text, &[]), &Surroundings::fixed()).expect("a plan")
    }

    fn kept(before: &str, after: &str) -> Kept {
        let head = "port attach p net_null0\ntool create t discard\n";
        let (before, after) = (plan_of(&format!("{head}{before}")), plan_of(&format!("{head}{after}")));
        Kept::of(&before, &after, &Anew::default())
    }

    #[test]
    fn rules_are_known_by_their_priority_and_remember_what_is_said_as_before() {
        let kept = kept(
            "rule create 1 from p to t\nrule create 2 from p sample 1/2 to t\n\
             rule create 5 from p sample 1/5 dedup window 1ms to t\nrule create 9 from p sample 1/9 to t\n",
            "rule create 2 from p match \"tcp\" sample 1/2 to t\nrule create 3 from p sample 1/9 to t\n\
             rule create 5 from p sample 1/6 dedup window 1ms to t\nrule create 10 from p to t\n",
        );
        let carried =
            |from, to, has_dedup, has_sampler| Some(CarriedOver { from, to, has_dedup, has_sampler });
        let expected = [
            carried(RuleId(1), RuleId(0), false, true),
            None,
            carried(RuleId(2), RuleId(2), true, false),
            None,
        ];
        assert_eq!(*kept.rules, expected);
        assert!(kept.keeps_setup());
    }

    #[test]
    fn objects_are_known_by_their_names_and_queues_by_what_is_said_of_them() {
        let ports = |names: &[&str]| -> String {
            names.iter().map(|name| format!("port attach {name} net_ring{} rxq 0\n", &name[1..])).collect()
        };
        let before = format!(
            "{}tool create a port r1\ntool create b port r2 queue 64\ntool create c port r3\n\
             port attach i net_null7\nport attach j net_null8\nwire create w ports i,j\n",
            ports(&["r1", "r2", "r3"])
        );
        let after = format!(
            "{}port attach i net_null7\nport attach j net_null8\nwire create w ports i,j\n\
             tool create c port r3\ntool create d port r3\ntool create b port r2 queue 128\n",
            ports(&["r3", "r2"])
        );
        let kept = kept(&before, &after);
        let place = |ids: &[Option<EgressId>]| ids.iter().map(|id| id.map(|id| id.0)).collect::<Vec<_>>();
        // before: t a b c w w; after: t c d b w w
        assert_eq!(place(&kept.egresses), [Some(0), Some(3), None, Some(2), Some(4), Some(5)]);
        assert_eq!(place(&kept.outlets), [Some(0), Some(3), None, None, Some(4), Some(5)]);
        assert_eq!(kept.leaving(), [EgressId(1), EgressId(2)]);
        assert_eq!(kept.detached().collect::<Vec<_>>(), [PortId(1)]);
        assert!(!kept.keeps_setup());
    }
}
