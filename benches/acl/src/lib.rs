//! `rte_acl` as a broker would use it: packets of a burst are parsed to 5-tuples, then classified together.
//!
//! It gives the first rule that matches; Tapline's index gives all of them. Headers are taken as the bench makes them: IPv4 with
//! options and fragments, IPv6 without extension headers, no tags.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::OnceLock;

/// The longest burst.
pub const MOST: usize = 64;

/// A 5-tuple rule; `repr(C)` as `struct rule` of the shim. Words and ports in host order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Rule {
    /// IPv4 addresses are the first word.
    pub source: [u32; 4],
    pub destination: [u32; 4],
    pub source_bits: u32,
    pub destination_bits: u32,
    /// Inclusive.
    pub source_ports: [u16; 2],
    pub destination_ports: [u16; 2],
    pub is_v6: bool,
    pub protocol: u8,
    /// Whether it asks for ports, and so never matches fragments but the first.
    pub has_ports: bool,
    pub unused: u8,
}

#[repr(C)]
struct Packet {
    bytes: *const u8,
    len: u32,
}

unsafe extern "C" {
    fn tapline_acl_eal() -> c_int;
    fn tapline_acl_algorithm() -> c_int;
    fn tapline_acl_build(name: *const c_char, rules: *const Rule, count: u32, is_v6: c_int) -> *mut c_void;
    fn tapline_acl_free(ctx: *mut c_void);
    fn tapline_acl_classify(
        v4: *mut c_void,
        v6: *mut c_void,
        algorithm: c_int,
        packets: *const Packet,
        count: u32,
        results: *mut u32,
    ) -> c_int;
}

/// Rules that were built, a context for each version of IP.
pub struct Acl {
    contexts: [*mut c_void; 2],
    algorithm: c_int,
}

impl Acl {
    /// Builds `rules`, of which those before others take precedence. Starts an EAL without huge pages in this process.
    ///
    /// `None` where there is no memory for it, or no EAL.
    pub fn new(rules: &[Rule]) -> Option<Self> {
        static EAL: OnceLock<bool> = OnceLock::new();
        // SAFETY: once a process.
        if !*EAL.get_or_init(|| unsafe { tapline_acl_eal() } >= 0) {
            return None;
        }
        // SAFETY: no arguments; the EAL is initialised.
        let algorithm = unsafe { tapline_acl_algorithm() };
        let mut acl = Acl { contexts: [std::ptr::null_mut(); 2], algorithm };
        for (is_v6, context) in acl.contexts.iter_mut().enumerate() {
            if rules.iter().any(|rule| usize::from(rule.is_v6) == is_v6) {
                let name = CString::new(format!("v{is_v6}-{:p}", rules)).ok()?;
                let count = u32::try_from(rules.len()).ok()?;
                // SAFETY: there are `count` rules; the shim copies them and the name.
                *context =
                    unsafe { tapline_acl_build(name.as_ptr(), rules.as_ptr(), count, is_v6 as c_int) };
                if context.is_null() {
                    return None;
                }
            }
        }
        Some(acl)
    }

    /// The function that classifies, by DPDK's name.
    pub fn algorithm(&self) -> &'static str {
        ["default", "scalar", "sse", "avx2", "neon", "altivec", "avx512x16", "avx512x32"]
            [self.algorithm as usize]
    }

    /// Puts the number of the first rule that each packet matches, plus 1, into `results`, and 0 for none.
    ///
    /// # Panics
    /// If there are more than `MOST` packets or fewer results.
    pub fn classify<'a>(&self, packets: impl ExactSizeIterator<Item = &'a [u8]>, results: &mut [u32]) {
        let count = packets.len();
        assert!(count <= MOST && count <= results.len());
        let mut views = [const { Packet { bytes: std::ptr::null(), len: 0 } }; MOST];
        for (view, bytes) in views.iter_mut().zip(packets) {
            *view = Packet { bytes: bytes.as_ptr(), len: bytes.len() as u32 };
        }
        let [v4, v6] = self.contexts;
        // SAFETY: contexts were built or are null, the processor has the algorithm, as `new` saw; `count` packets and results are
        // there.
        let status = unsafe {
            tapline_acl_classify(v4, v6, self.algorithm, views.as_ptr(), count as u32, results.as_mut_ptr())
        };
        assert_eq!(status, 0, "rte_acl_classify_alg takes these arguments");
    }
}

impl Drop for Acl {
    fn drop(&mut self) {
        // SAFETY: each was built by `new` and is freed once; `rte_acl_free` takes null.
        self.contexts.iter().for_each(|&context| unsafe { tapline_acl_free(context) });
    }
}
