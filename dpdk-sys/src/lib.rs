//! Bindings to the distribution's DPDK, generated from its own headers, and the shim's functions (`tl_*`): one C call a burst
//! for what DPDK offers only as static inlines or thread-local variables.
#![allow(non_upper_case_globals, non_camel_case_types, non_snake_case, missing_docs)]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
