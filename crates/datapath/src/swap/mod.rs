//! A plan in force, and another that takes its place while packets flow.

/// Hands each worker its part of another plan.
pub mod plan_part;
/// State that control publishes to workers: tools in force, groups, rules.
pub mod published;
/// This is what a worker polls and sends by in another plan.
pub mod setup;
