//! What is shown of changes: which tool or port went from which state to which, and why.

use serde::Serialize;

/// A tool's change of state.
#[derive(Clone, Serialize)]
pub struct EventEntry {
    /// Seconds since the Unix epoch.
    pub time: f64,
    #[serde(flatten)]
    pub subject: Subject,
    pub from: &'static str,
    pub to: &'static str,
    /// Of a tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// What changed, by its name.
#[derive(Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Port(String),
    Tool(String),
}
