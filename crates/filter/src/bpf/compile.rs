//! Filter expression -> classic BPF, by libpcap: its compiler is the only judge of what an expression means.

#![expect(unsafe_code, reason = "libpcap takes a capture file's descriptor into its hands")]

use std::cell::RefCell;
use std::io;
use std::io::Write;
use std::os::fd::IntoRawFd;

use pcap::{Capture, Offline};

use super::insn::Insn;
use super::verify::{Program, VerifyError};

/// Why an expression gives no program.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CompileError {
    /// libpcap refused it; the message is libpcap's.
    #[error("{0}")]
    Expression(String),
    /// It asks what only the kernel that captured a packet knew. The message is libpcap's.
    #[error("{0}: a captured packet does not say it")]
    AsksTheKernel(String),
    #[error("the expression contains a NUL character")]
    Nul,
    /// No compiler for the link layer could be had.
    #[error("libpcap gives no compiler: {0}")]
    Handle(String),
    /// libpcap compiled it to a program that Tapline does not run.
    #[error("the compiled program cannot be used: {0}")]
    Program(#[from] VerifyError),
}

/// The text of libpcap for an expression that no packet can match. `compile` turns it into the program that rejects all packets.
const REJECTS_ALL: &str = "expression rejects all packets";

/// The text of libpcap for primitives whose answer only a kernel knows (`inbound`, `ifindex`).
const ASKS_THE_KERNEL: &str = "when reading savefiles";

/// The header that frames begin with, and the byte order of its numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkLayer {
    /// The link type as capture files number it (`LINKTYPE_*`).
    /// # Source
    /// <https://www.tcpdump.org/linktypes.html>
    pub link_type: u32,
    /// The file was written on a machine of the other byte order. Some link types (`LINKTYPE_NULL`) have numbers in that order.
    pub is_swapped: bool,
}

impl LinkLayer {
    /// The link layer of frames that ports receive.
    pub const ETHERNET: LinkLayer = LinkLayer { link_type: 1, is_swapped: false };
}

/// Compiles a pcap-filter expression for Ethernet frames, optimised, with netmask 0 as `tcpdump -r` does.
///
/// An expression that no packet can match (`1 = 0`), which tcpdump refuses, gives the program that rejects everything, so that a
/// pipeline file can be warned about it instead.
/// # Errors
/// libpcap's message, or the reason why its program cannot be run.
pub fn compile(expression: &str) -> Result<Program, CompileError> {
    compile_for(expression, LinkLayer::ETHERNET)
}

/// Compiles a pcap-filter expression, as `compile` does, for a capture file of another link layer.
/// # Errors
/// Those of `compile`; what the link type lacks (`vlan` on raw IP) is refused by libpcap.
pub fn compile_for(expression: &str, link_layer: LinkLayer) -> Result<Program, CompileError> {
    if expression.contains('\0') {
        return Err(CompileError::Nul);
    }
    let refused = |error: pcap::Error| match error {
        pcap::Error::PcapError(message) if message.contains(ASKS_THE_KERNEL) => {
            CompileError::AsksTheKernel(message)
        }
        pcap::Error::PcapError(message) => CompileError::Expression(message),
        other => CompileError::Expression(other.to_string()),
    };
    let compiled = with_handle(link_layer, |handle| handle.compile(expression, true).map_err(refused))?;
    match compiled {
        Ok(program) => {
            let insns = program
                .get_instructions()
                .iter()
                .map(|insn| parse(&insn.to_string()))
                .collect::<Option<Vec<Insn>>>();
            Ok(Program::verify(insns.expect("the pcap crate prints an instruction as `code jt jf k`"))?)
        }
        Err(CompileError::Expression(message)) if message.contains(REJECTS_ALL) => {
            Ok(Program::verify(vec![Insn { code: 0x06, jt: 0, jf: 0, k: 0 }])?)
        }
        Err(error) => Err(error),
    }
}

thread_local! {
    /// The handles that this thread compiles for: they are asked for each expression of a plan.
    static HANDLES: RefCell<Vec<(LinkLayer, Capture<Offline>)>> = const { RefCell::new(Vec::new()) };
}

/// Calls `compile` with libpcap's handle for a capture file of this link layer.
///
/// The compiler asks its handle whether it is a file and of which byte order. A handle that stands for nothing
/// (`pcap_open_dead`) answers as a live capture of this machine: `ip6` in a file of another system would be compiled for this
/// one's number of IPv6, and `inbound` to loads of what only a kernel has.
fn with_handle<T>(
    link_layer: LinkLayer,
    compile: impl FnOnce(&Capture<Offline>) -> T,
) -> Result<T, CompileError> {
    HANDLES.with_borrow_mut(|handles| {
        let known = handles.iter().position(|(known, _)| *known == link_layer);
        let place = match known {
            Some(place) => place,
            None => {
                handles.push((link_layer, open(link_layer)?));
                handles.len() - 1
            }
        };
        Ok(compile(&handles[place].1))
    })
}

/// Opens an empty capture file of this link layer, which no disk holds: its header comes by a pipe.
fn open(link_layer: LinkLayer) -> Result<Capture<Offline>, CompileError> {
    /// Magic, version 2.4, two fields of zeros, snapshot length; the link type follows.
    /// # Source
    /// draft-ietf-opsawg-pcap, section 4
    const HEADER: [u32; 5] = [0xa1b2_c3d4, 0, 0, 0, 262_144];
    let LinkLayer { link_type, is_swapped } = link_layer;
    let of_u16 = |number: u16| if is_swapped { number.swap_bytes() } else { number }.to_ne_bytes();
    let of_u32 = |number: u32| if is_swapped { number.swap_bytes() } else { number }.to_ne_bytes();
    let [magic, _, zone, digits, snaplen] = HEADER.map(of_u32);
    let [major, minor] = [2, 4].map(of_u16);
    let version = [major[0], major[1], minor[0], minor[1]];
    let header = [magic, version, zone, digits, snaplen, of_u32(link_type)].concat();
    let failed = |error: io::Error| CompileError::Handle(error.to_string());
    let (reader, mut writer) = io::pipe().map_err(failed)?;
    writer.write_all(&header).map_err(failed)?;
    drop(writer);
    // SAFETY: `into_raw_fd` gives the only handle of the descriptor away, so that libpcap owns it alone, and closes it.
    let opened = unsafe { Capture::from_raw_fd(reader.into_raw_fd()) };
    opened.map_err(|error| CompileError::Handle(error.to_string()))
}

/// The pcap crate shows an instruction's fields only as text, in the form of `tcpdump -ddd`.
fn parse(text: &str) -> Option<Insn> {
    let mut fields = text.split(' ');
    let code = fields.next()?.parse().ok()?;
    let jt = fields.next()?.parse().ok()?;
    let jf = fields.next()?.parse().ok()?;
    let k = fields.next()?.parse().ok()?;
    Some(Insn { code, jt, jf, k })
}

/// The version of the libpcap in this process, such as `1.10.3`; `None` where it cannot be told (linked statically, no /proc).
///
/// The pcap crate does not offer `pcap_lib_version`, so it is read from the name of the library's file.
pub fn libpcap_version() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    version_in(&maps)
}

fn version_in(maps: &str) -> Option<String> {
    let (_, version) = maps.lines().find_map(|line| line.split_once("/libpcap.so."))?;
    Some(version.split_whitespace().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_compile_to_what_tcpdump_prints() {
        // tcpdump -ddd -y EN10MB "ip": 4 / 40 0 0 12 / 21 0 1 2048 / 6 0 0 262144 / 6 0 0 0
        let program = compile("ip").expect("a valid expression");
        let text: Vec<String> = program.insns().iter().map(Insn::to_string).collect();
        assert_eq!(text[..2], ["40 0 0 12", "21 0 1 2048"]);
        assert_eq!(text[3..], ["6 0 0 0"]);
    }

    #[test]
    fn errors_carry_the_message_of_libpcap() {
        let error = compile("tcp prot 80").expect_err("a syntax error");
        assert!(error.to_string().contains("syntax error"), "{error}");
        assert_eq!(compile("ip\0"), Err(CompileError::Nul));
    }

    #[test]
    fn what_only_a_kernel_knows_is_refused() {
        for expression in ["inbound", "not inbound", "outbound and tcp", "ifindex 3"] {
            let error = compile(expression).expect_err("nothing that a packet says");
            assert!(matches!(error, CompileError::AsksTheKernel(_)), "{error}");
        }
    }

    #[test]
    fn a_loopback_file_is_judged_by_the_numbers_of_the_system_that_wrote_it() {
        const LINKTYPE_NULL: u32 = 0;
        for is_swapped in [false, true] {
            let program =
                compile_for("ip6", LinkLayer { link_type: LINKTYPE_NULL, is_swapped }).expect("a program");
            // AF_INET6 of NetBSD and OpenBSD, FreeBSD, macOS; AF_INET of all
            for (family, expected) in [(24u32, true), (28, true), (30, true), (2, false)] {
                let family = if is_swapped { family.swap_bytes() } else { family };
                let frame = [&family.to_ne_bytes()[..], &[0x60; 40]].concat();
                assert_eq!(program.run(&frame, 44) != 0, expected, "{family:#x}");
            }
        }
    }

    #[test]
    fn an_expression_that_nothing_matches_gives_a_program_that_rejects() {
        let program = compile("1 = 0").expect("a program");
        assert_eq!(program.run(&[0; 64], 64), 0);
    }

    #[test]
    fn the_version_of_libpcap_is_that_of_the_library_in_the_process() {
        assert_eq!(
            version_in("7f00-7f01 r-xp 0 08:01 1 /usr/lib/libpcap.so.1.10.3\n"),
            Some("1.10.3".to_owned())
        );
        assert_eq!(version_in("7f00-7f01 r-xp 0 08:01 1 /usr/lib/libc.so.6\n"), None);
        let version = libpcap_version().expect("libpcap is linked dynamically");
        assert!(version.starts_with("1."), "{version}");
    }
}
