//! The numbers by which workers know ports, tools and all else that a plan names.

use tapline_packet::by_id::Id;

macro_rules! ids {
    ($($(#[$doc:meta])+ $name:ident;)+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub usize);

        impl Id for $name {
            #[inline(always)]
            fn new(place: usize) -> Self {
                Self(place)
            }

            #[inline(always)]
            fn place(self) -> usize {
                self.0
            }
        }
    )+};
}

/// A port's number among all that were attached in a run. A `PortId` is of one plan; this is the port's own in every plan, and never
/// another's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Attachment(pub u32);

/// A rule, and what it says of packets, among all rules of a run: rules of two plans that have one mark choose the same packets. A `RuleId`
/// is of one plan.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct RuleMark(pub u64);

ids! {
    /// A port of the plan, by its place in `Plan::ports`.
    PortId;
    /// A tool of the plan, by its place in `Plan::tools`.
    ToolId;
    /// A tool or a direction of a wire, by which copies or originals leave. [`Egresses`](crate::egresses::Egresses) says which.
    EgressId;
    /// A group of the plan, by its place in `Plan::groups`.
    GroupId;
    /// Edits of the plan, by their place in `WorkPlan::edits`.
    EditId;
    /// A wire of the plan, by its place in `Plan::wires`.
    WireId;
    /// A rule of the plan, by its place in `Plan::rules`, which is the order in which rules are tried.
    RuleId;
    /// A way to hash flows, by its place in `WorkPlan::hashes`.
    HashId;
}
