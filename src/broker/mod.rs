//! Plan -> running: workers, drain.

pub mod next_hop;
