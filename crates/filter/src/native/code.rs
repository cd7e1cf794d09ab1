//! Holds and calls generated code: the one place outside the fence where `unsafe` is allowed.
//!
//! Code is written to pages that are writable, which then become executable and never writable again (cranelift-jit's memory:
//! mapped read-write, `mprotect` to read-execute when definitions are finalised). All functions of a set live in one module, whose
//! pages are unmapped when the set is dropped.
#![expect(unsafe_code, reason = "generated code is called by its address")]

use std::sync::Arc;

use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Module, default_libcall_names};

use super::graph::Graph;
use super::lower;
use super::lower::Layout;
use super::merge::Merged;
use tapline_dpdk::mbuf::MbufFrames;
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::{Frame, SplitFrame};

/// The shape of every generated function: packets from `frames` up to `end`, and a word for each program of the set.
type Lowered<F> = unsafe extern "C" fn(frames: *const F, end: *const F, selections: *mut u64) -> u64;

/// Why there is no native code, in the words of the code generator or of the system.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoNativeCode(String);

impl NoNativeCode {
    fn because(error: impl std::fmt::Display) -> Self {
        Self(format!("{error:#}"))
    }
}

/// Functions that decide programs over a burst.
pub(crate) struct NativeCode {
    layout: Layout,
    functions: Vec<*const u8>,
    /// Words that the functions write: selections have to be as many.
    program_count: usize,
    /// `None` only while dropping.
    module: Option<JITModule>,
}

// SAFETY: the functions are read-only memory owned by `module`, which is neither read nor changed before `drop`, which has `&mut
// self`.
unsafe impl Send for NativeCode {}
// SAFETY: as above: `&NativeCode` gives only calls of the functions, which keep no state.
unsafe impl Sync for NativeCode {}

impl NativeCode {
    /// Generates a function for each part of a set of `program_count` programs.
    ///
    /// Every program index in `parts` has to be below `program_count`.
    /// # Errors
    /// Fails with the text of the code generator or of the system: an unknown processor, no memory, no executable pages.
    pub(crate) fn generate(
        layout: Layout,
        parts: &[(Graph, Merged)],
        program_count: usize,
    ) -> Result<NativeCode, NoNativeCode> {
        let module = JITModule::new(JITBuilder::with_isa(native_isa()?, default_libcall_names()));
        // Owned at once, so that memory is freed on errors too.
        let mut code = NativeCode { layout, functions: Vec::new(), program_count, module: Some(module) };
        let module = code.module.as_mut().expect("taken only while dropping");
        let mut context = module.make_context();
        let mut builder_context = FunctionBuilderContext::new();
        let mut ids = Vec::new();
        for (graph, merged) in parts {
            assert!(merged.programs().all(|program| program < program_count), "a program outside the set");
            context.func.signature = lower::signature(module.target_config().default_call_conv);
            lower::lower(
                &mut context.func,
                &mut builder_context,
                module.target_config(),
                layout,
                graph,
                merged,
            );
            let id = module
                .declare_anonymous_function(&context.func.signature)
                .map_err(NoNativeCode::because)?;
            module.define_function(id, &mut context).map_err(NoNativeCode::because)?;
            module.clear_context(&mut context);
            ids.push(id);
        }
        module.finalize_definitions().map_err(NoNativeCode::because)?;
        code.functions = ids.into_iter().map(|id| module.get_finalized_function(id)).collect();
        Ok(code)
    }

    /// Sets bit `i` of `selections[program]` where the program accepts `frames[i]`; other bits stay.
    pub(crate) fn select(&self, frames: &[Frame<'_>], selections: &mut [Selection]) {
        assert!(self.layout == Layout::Whole);
        // SAFETY: the layout was checked, so the functions read `Frame`s.
        unsafe { self.call(frames, selections) };
    }

    /// The same for packets in mbufs. Whether it could: not where one is in several segments, and then selections say nothing.
    pub(crate) fn select_mbufs(&self, frames: MbufFrames<'_>, selections: &mut [Selection]) -> bool {
        assert!(self.layout == Layout::Mbuf);
        // SAFETY: the layout was checked, so the functions read pointers to mbufs, and the bytes of those in one segment.
        unsafe { self.call(frames.mbufs(), selections) }
    }

    /// The same for frames in two pieces.
    pub(crate) fn select_split(&self, frames: &[SplitFrame<'_>], selections: &mut [Selection]) {
        assert!(self.layout == Layout::Split);
        // SAFETY: the layout was checked, so the functions read `SplitFrame`s.
        unsafe { self.call(frames, selections) };
    }

    /// Returns whether all functions went through all packets.
    ///
    /// # Safety
    /// `F` is the type that the functions were lowered for.
    unsafe fn call<F>(&self, frames: &[F], selections: &mut [Selection]) -> bool {
        assert!(frames.len() <= MAX_BURST && selections.len() == self.program_count);
        let range = frames.as_ptr_range();
        self.functions.iter().all(|&function| {
            // SAFETY: `function` is code for `lower::signature`, finalised in `generate` and mapped while `module` lives, that is
            // as long as `self`; by this function's contract it takes `F`s.
            let function = unsafe { std::mem::transmute::<*const u8, Lowered<F>>(function) };
            // SAFETY: the code reads the fields of the `F`s in `range` and packet bytes that their lengths allow (every load is
            // behind a bounds check, see `Known::allows`), and writes words below `program_count`, checked in `generate`;
            // `selections` has so many, each a transparent u64.
            unsafe { function(range.start, range.end, selections.as_mut_ptr().cast()) != 0 }
        })
    }
}

impl Drop for NativeCode {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: the functions are called only through `&self`, so none is running and none is called again.
            unsafe { module.free_memory() };
        }
    }
}

fn native_isa() -> Result<Arc<dyn TargetIsa>, NoNativeCode> {
    let mut flags = settings::builder();
    for (name, value) in [
        ("opt_level", "speed"),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
        ("enable_verifier", "false"),
    ] {
        flags.set(name, value).map_err(NoNativeCode::because)?;
    }
    let builder = cranelift_native::builder().map_err(NoNativeCode::because)?;
    builder.finish(settings::Flags::new(flags)).map_err(NoNativeCode::because)
}
