//! The fence: safe owners of DPDK things, one file each. Raw pointers, raw integers and C results stop here.
#![allow(unsafe_code)]

pub mod frame;

pub use frame::{Frame, SplitFrame};
