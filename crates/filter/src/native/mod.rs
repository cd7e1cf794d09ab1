//! Programs -> code for this processor, over a whole burst.

/// Code in memory, and its call.
pub(crate) mod code;
/// Questions of one shape, four programs at a time.
mod formula;
/// Programs as decision graphs.
pub(crate) mod graph;
/// Graph -> Cranelift IR.
pub(crate) mod lower;
/// Asks once what several programs ask alike.
pub(crate) mod merge;
/// Questions about neighbouring bytes, at once.
mod side_by_side;
