//! Classic BPF instructions, as libpcap compiles them.

/// One classic BPF instruction.
/// # Source
/// `struct bpf_insn` of libpcap's `pcap/bpf.h`; McCanne and Jacobson, "The BSD Packet Filter", 1993.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Insn {
    /// Operation: class, size or operator, mode or source.
    pub code: u16,
    /// Instructions to skip where a jump's test holds.
    pub jt: u8,
    /// Instructions to skip where it does not.
    pub jf: u8,
    /// Constant operand.
    pub k: u32,
}
