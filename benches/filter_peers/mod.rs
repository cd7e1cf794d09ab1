//! The filter engines of others: libpcap's `bpf_filter`, linked, and DPDK's `rte_bpf`, opened at run time where it is installed.

use std::ffi::{CStr, c_void};
use std::mem::transmute;

use tapline_filter::Program;
use tapline_packet::frame::Frame;

use super::traffic::Mbuf;

/// `struct bpf_insn` of libpcap's pcap/bpf.h.
#[repr(C)]
struct BpfInsn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// `struct bpf_program`.
#[repr(C)]
struct BpfProgram {
    len: u32,
    insns: *const BpfInsn,
}

// The pcap crate links libpcap.
unsafe extern "C" {
    fn bpf_filter(program: *const BpfInsn, packet: *const u8, wirelen: u32, buflen: u32) -> u32;
}

fn insns(program: &Program) -> Vec<BpfInsn> {
    program
        .insns()
        .iter()
        .map(|insn| BpfInsn { code: insn.code, jt: insn.jt, jf: insn.jf, k: insn.k })
        .collect()
}

/// A program for libpcap's interpreter.
pub(crate) struct BpfFilter(Vec<BpfInsn>);

impl BpfFilter {
    pub(crate) fn new(program: &Program) -> BpfFilter {
        BpfFilter(insns(program))
    }

    pub(crate) fn matches(&self, frame: &Frame<'_>) -> bool {
        // SAFETY: the program was verified; the frame holds `captured_len` bytes.
        unsafe {
            bpf_filter(self.0.as_ptr(), frame.bytes().as_ptr(), frame.original_len(), frame.captured_len())
                != 0
        }
    }
}

/// librte_bpf, opened.
pub(crate) struct RteBpfLibrary {
    convert: unsafe extern "C" fn(*const BpfProgram) -> *mut c_void,
    load: unsafe extern "C" fn(*const c_void) -> *mut c_void,
    get_jit: unsafe extern "C" fn(*const c_void, *mut Jit) -> i32,
}

/// `struct rte_bpf_jit`.
#[repr(C)]
struct Jit {
    function: Option<unsafe extern "C" fn(*const Mbuf) -> u64>,
    size: usize,
}

/// A program that rte_bpf compiled. It is never unloaded.
pub(crate) struct RteBpf(unsafe extern "C" fn(*const Mbuf) -> u64);

/// Opens librte_bpf of the DPDK releases that Tapline knows, and starts its EAL without huge pages.
pub(crate) fn rte_bpf() -> Option<RteBpfLibrary> {
    let names = [c"librte_bpf.so.23", c"librte_bpf.so.24", c"librte_bpf.so.25", c"librte_bpf.so"];
    // SAFETY: the library is DPDK's, whose initialisers only register things.
    let library = names
        .iter()
        .map(|name| unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) })
        .find(|library| !library.is_null())?;
    let symbol = |name: &CStr| {
        // SAFETY: `library` was opened above.
        let address = unsafe { libc::dlsym(library, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    };
    // rte_bpf takes its memory from the EAL.
    let arguments = [
        c"filter",
        c"--no-huge",
        c"--no-shconf",
        c"--no-pci",
        c"--no-telemetry",
        c"-m",
        c"64",
        c"--log-level=1",
    ];
    let mut arguments: Vec<*const libc::c_char> =
        arguments.iter().map(|argument| argument.as_ptr()).collect();
    arguments.extend([c"-l".as_ptr(), c"0".as_ptr()]);
    let init = symbol(c"rte_eal_init")?;
    // SAFETY: the type is that of rte_eal.h, from the library that librte_bpf depends on.
    let init = unsafe {
        transmute::<*mut c_void, unsafe extern "C" fn(i32, *mut *const libc::c_char) -> i32>(init)
    };
    // SAFETY: `arguments` are so many C strings; the EAL may reorder them.
    let status = unsafe { init(i32::try_from(arguments.len()).ok()?, arguments.as_mut_ptr()) };
    if status < 0 {
        return None;
    }
    // SAFETY: the types are those of rte_bpf.h.
    unsafe {
        Some(RteBpfLibrary {
            convert: transmute::<*mut c_void, unsafe extern "C" fn(*const BpfProgram) -> *mut c_void>(
                symbol(c"rte_bpf_convert")?,
            ),
            load: transmute::<*mut c_void, unsafe extern "C" fn(*const c_void) -> *mut c_void>(symbol(
                c"rte_bpf_load",
            )?),
            get_jit: transmute::<*mut c_void, unsafe extern "C" fn(*const c_void, *mut Jit) -> i32>(
                symbol(c"rte_bpf_get_jit")?,
            ),
        })
    }
}

impl RteBpfLibrary {
    /// `None` where rte_bpf refuses the program, or would crash on it.
    pub(crate) fn load(&self, program: &Program) -> Option<RteBpf> {
        // The JIT of DPDK 22.11 encodes JSET with a signed-byte constant wrongly; running it crashes.
        if program.insns().iter().any(|insn| insn.code == 0x45 && (insn.k < 0x80 || insn.k >= 0xffff_ff80))
        {
            return None;
        }
        let insns = insns(program);
        let program = BpfProgram { len: u32::try_from(insns.len()).ok()?, insns: insns.as_ptr() };
        // SAFETY: `program` is a verified program, which is read only.
        let parameters = unsafe { (self.convert)(&program) };
        if parameters.is_null() {
            return None;
        }
        // SAFETY: `parameters` came from rte_bpf_convert.
        let loaded = unsafe { (self.load)(parameters) };
        if loaded.is_null() {
            return None;
        }
        let mut jit = Jit { function: None, size: 0 };
        // SAFETY: `loaded` came from rte_bpf_load; `jit` is written.
        let status = unsafe { (self.get_jit)(loaded, &mut jit) };
        (status == 0).then_some(RteBpf(jit.function?))
    }
}

impl RteBpf {
    pub(crate) fn matches(&self, mbuf: &Mbuf) -> bool {
        // SAFETY: the function was compiled for mbufs, of which it reads the fields that `Mbuf` has, and bytes below `data_len`.
        unsafe { (self.0)(mbuf) != 0 }
    }
}
