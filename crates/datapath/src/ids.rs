//! The numbers by which workers know ports, tools and all else that a plan names.

/// A port of the plan, by its place in `Plan::ports`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PortId(pub usize);

/// A tool of the plan, by its place in `Plan::tools`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ToolId(pub usize);

/// A group of the plan, by its place in `Plan::groups`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct GroupId(pub usize);

/// Edits of the plan, by their place in `WorkPlan::edits`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct EditId(pub usize);

/// A wire of the plan, by its place in `Plan::wires`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WireId(pub usize);

/// A rule of the plan, by its place in `Plan::rules`, which is the order in which rules are tried.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RuleId(pub usize);
