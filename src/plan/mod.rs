//! Pipeline file -> plan: names become ids, mistakes become diagnostics, rules become steps that lcores run.

#[expect(clippy::module_inception, reason = "the module's own value")]
pub mod plan;

pub use plan::Plan;
