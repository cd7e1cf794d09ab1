//! Bindings to the distribution's DPDK, generated from its own headers, and the shim's functions (`tl_*`): one C call a burst
//! for what DPDK offers only as static inlines or thread-local variables.
#![allow(
    non_upper_case_globals,
    non_camel_case_types,
    non_snake_case,
    unsafe_op_in_unsafe_fn,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    rustdoc::all,
    reason = "bindgen writes them as C has them"
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
