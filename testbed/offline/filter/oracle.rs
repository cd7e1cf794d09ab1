//! libpcap's own `bpf_filter` and `bpf_validate`, called directly: the pcap crate offers neither for programs that it did not
//! compile.

use tapline_filter::Insn;

/// `struct bpf_insn` of libpcap's pcap/bpf.h.
#[repr(C)]
struct BpfInsn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

// The pcap crate links libpcap.
unsafe extern "C" {
    fn bpf_filter(program: *const BpfInsn, packet: *const u8, wirelen: u32, buflen: u32) -> u32;
    fn bpf_validate(program: *const BpfInsn, len: i32) -> i32;
}

/// A program that `bpf_validate` accepts.
pub(super) struct Oracle(Vec<BpfInsn>);

impl Oracle {
    /// `None` where libpcap finds the program invalid.
    pub(super) fn new(insns: &[Insn]) -> Option<Oracle> {
        // Keeps the pcap crate, and with it libpcap, linked.
        let _ = pcap::Linktype::ETHERNET;
        let insns: Vec<_> =
            insns.iter().map(|&Insn { code, jt, jf, k }| BpfInsn { code, jt, jf, k }).collect();
        let len = i32::try_from(insns.len()).ok()?;
        // SAFETY: `insns` holds `len` instructions.
        let is_valid = unsafe { bpf_validate(insns.as_ptr(), len) } != 0;
        is_valid.then_some(Oracle(insns))
    }

    pub(super) fn run(&self, bytes: &[u8], original_len: u32) -> u32 {
        let captured_len = u32::try_from(bytes.len()).expect("a short packet");
        // SAFETY: `bpf_validate` accepted the program; `bytes` holds `captured_len` bytes.
        unsafe { bpf_filter(self.0.as_ptr(), bytes.as_ptr(), original_len, captured_len) }
    }
}
