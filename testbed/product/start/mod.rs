//! A start that fails says where and why, ends with status 1, and leaves nothing behind; and no pipeline file makes `check` or `run` panic.
//!
//! Needs: EAL. What needs more, as a control group of its own, is skipped by name where it is not to be had.

/// What the kernel does not let the process have.
mod limits;
/// Each place where a start can fail.
mod points;
