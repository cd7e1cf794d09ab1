//! The outside's view of a broker: the words of the language, the statistics and the log, and their forms.
//!
//! It knows nothing but serde, so that a client can be built without DPDK, and every word is written once: parser, planner, data
//! path, statistics and metrics take it from here.
#![forbid(unsafe_code)]
#![warn(clippy::too_many_lines)]

/// Who asks.
pub mod access;
mod by_name;
/// The events.
pub mod event;
/// Requests, and their answers.
pub mod request;
/// The statistics.
pub mod snapshot;
/// Values that are no words.
pub mod values;
/// Closed vocabularies.
pub mod words;

pub use by_name::ByName;
