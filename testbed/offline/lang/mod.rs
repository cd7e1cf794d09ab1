//! The language: its texts are in testbed/lang.

/// The diagnostics of each `NAME.pipe`, by `NAME.expected`.
mod golden;
/// Files of thousands of filters and rules.
mod many;
