//! Filter expression -> classic BPF, by libpcap: its compiler is the only judge of what an expression means.

use pcap::{Capture, Linktype};

use super::insn::Insn;
use super::verify::{Program, VerifyError};

/// Why an expression gives no program.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CompileError {
    /// libpcap refused it; the message is libpcap's.
    #[error("{0}")]
    Expression(String),
    #[error("the expression contains a NUL character")]
    Nul,
    /// libpcap compiled it to a program that Tapline does not run.
    #[error("the compiled program cannot be used: {0}")]
    Program(#[from] VerifyError),
}

/// What libpcap says of an expression that no packet can match; `compile` turns that into the program that says so.
const REJECTS_ALL: &str = "expression rejects all packets";

/// Compiles a pcap-filter expression for Ethernet frames, optimised, with netmask 0 as `tcpdump -r` does.
///
/// An expression that no packet can match (`1 = 0`), which tcpdump refuses, gives the program that rejects everything, so that a
/// pipeline file can be warned about it instead.
/// # Errors
/// libpcap's message, or the reason why its program cannot be run (`protochain` loops).
pub fn compile(expression: &str) -> Result<Program, CompileError> {
    compile_for(expression, Linktype::ETHERNET.0)
}

/// Compiles a pcap-filter expression, as `compile` does, for frames of another link type, numbered as libpcap's `DLT_*`.
/// # Errors
/// Those of `compile`; what the link type lacks (`vlan` on raw IP) is refused by libpcap.
pub fn compile_for(expression: &str, dlt: i32) -> Result<Program, CompileError> {
    if expression.contains('\0') {
        return Err(CompileError::Nul);
    }
    let refused = |error: pcap::Error| match error {
        pcap::Error::PcapError(message) => CompileError::Expression(message),
        other => CompileError::Expression(other.to_string()),
    };
    let compiler = Capture::dead(Linktype(dlt)).map_err(refused)?;
    match compiler.compile(expression, true).map_err(refused) {
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
    fn protochain_is_refused_for_its_loop() {
        let error = compile("ip protochain 6").expect_err("a loop");
        assert!(matches!(error, CompileError::Program(VerifyError::BackwardJump { .. })), "{error}");
        assert!(error.to_string().contains("protochain"), "{error}");
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
