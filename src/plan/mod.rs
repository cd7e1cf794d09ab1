//! Pipeline file -> plan: names become ids, mistakes become diagnostics, rules become steps that lcores run.

pub mod plan;

pub use plan::Plan;
