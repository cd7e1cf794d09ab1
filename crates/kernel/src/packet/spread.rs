//! Spreads an interface's frames over sockets by their addresses alone, so that both directions of a flow, and every fragment of a
//! datagram, come by one socket.
//!
//! The kernel's own hash (`PACKET_FANOUT_HASH`) takes ports, which later fragments do not have: it needs them joined first. So a
//! program of classic BPF says where each frame goes.
//! # Source
//! packet(7), `PACKET_FANOUT`. Linux, `fanout_demux_bpf` in net/packet/af_packet.c, Documentation/networking/filter.rst.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Failure, set_option};

/// A classic BPF instruction.
type Insn = libc::sock_filter;

const fn insn(code: u32, jt: u8, jf: u8, k: u32) -> Insn {
    Insn { code: code as u16, jt, jf, k }
}

const LDB_ABS: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LDH_ABS: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LDW_ABS: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LDH_IND: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LDW_IND: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
const LDX_IMM: u32 = libc::BPF_LDX | libc::BPF_IMM;
const LD_MEM: u32 = libc::BPF_LD | libc::BPF_MEM;
const LDX_MEM: u32 = libc::BPF_LDX | libc::BPF_MEM;
const JEQ: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JA: u32 = libc::BPF_JMP | libc::BPF_JA;
const TXA: u32 = libc::BPF_MISC | libc::BPF_TXA;
const TAX: u32 = libc::BPF_MISC | libc::BPF_TAX;
const ADD: u32 = libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K;
const MUL: u32 = libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K;
const RSH: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
/// BPF_XOR, which libc lacks.
const XOR_X: u32 = libc::BPF_ALU | 0xa0 | libc::BPF_X;
const RET_A: u32 = libc::BPF_RET | libc::BPF_A;
const RET_K: u32 = libc::BPF_RET | libc::BPF_K;

/// Places of facts that the kernel knows beside the bytes: `SKF_AD_OFF` plus `SKF_AD_PROTOCOL`, `SKF_AD_PKTTYPE`; the link layer from `SKF_LL_OFF` on.
const PROTOCOL: u32 = (-0x1000_i32) as u32;
const PACKET_TYPE: u32 = PROTOCOL + 4;
const LINK: u32 = (-0x20_0000_i32) as u32;
const OUTGOING: u32 = libc::PACKET_OUTGOING as u32;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
/// Types of tags: those that the kernel leaves in place, and some that it does not know.
const TPIDS: [u32; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
/// Tags that are looked behind.
const MOST_TAGS: usize = 3;
/// A word of the program's memory.
const WORD: u32 = 0;

/// Gives a socket's frames to nobody.
pub(super) fn take_nothing(socket: BorrowedFd<'_>) -> Result<(), Failure> {
    attach(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, "SO_ATTACH_FILTER", &[insn(RET_K, 0, 0, 0)])
}

/// Undoes [`take_nothing`].
pub(super) fn take_all(socket: BorrowedFd<'_>) -> Result<(), Failure> {
    let unused: libc::c_int = 0;
    let (pointer, len) = (&raw const unused, size_of_val(&unused) as libc::socklen_t);
    // SAFETY: the socket is open while it is borrowed; the kernel reads at most one number during the call, and needs none.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, pointer.cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(Failure::of("SO_DETACH_FILTER", io::Error::last_os_error())) }
}

/// Makes one group of sockets that are bound to one interface: each frame comes to one of them.
pub(super) fn join(sockets: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    let Some((&first, others)) = sockets.split_first() else { return Ok(()) };
    // the kernel chooses a number that no group of this network namespace has
    join_one(first, libc::PACKET_FANOUT_FLAG_UNIQUEID)?;
    let group = number_of(first)?;
    for &socket in others {
        join_one(socket, group)?;
    }
    attach(first, libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, "PACKET_FANOUT_DATA", &program())
}

/// Lets a socket join the group of a number, or a new one.
fn join_one(socket: BorrowedFd<'_>, group: u32) -> Result<(), Failure> {
    let argument = match group {
        libc::PACKET_FANOUT_FLAG_UNIQUEID => (libc::PACKET_FANOUT_CBPF | group) << 16,
        number => libc::PACKET_FANOUT_CBPF << 16 | number,
    };
    set_option(socket, "PACKET_FANOUT", libc::PACKET_FANOUT, &argument)
}

/// Gives the number of the group that a socket has joined.
fn number_of(socket: BorrowedFd<'_>) -> Result<u32, Failure> {
    let mut value = 0u32;
    let mut len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the socket is open while it is borrowed; the kernel writes at most `len` bytes to `value`, and their count to `len`,
    // during the call only.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            (&raw mut value).cast(),
            &mut len,
        )
    };
    if result == 0 {
        Ok(value & 0xffff)
    } else {
        Err(Failure::of("PACKET_FANOUT", io::Error::last_os_error()))
    }
}

/// Hands the kernel a program.
fn attach(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    name: &'static str,
    program: &[Insn],
) -> Result<(), Failure> {
    let program =
        libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_ptr().cast_mut() };
    let (pointer, len) = (&raw const program, size_of_val(&program) as libc::socklen_t);
    // SAFETY: the socket is open while it is borrowed; the kernel reads the program's description and its instructions, which are
    // borrowed, during the call only.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, pointer.cast(), len) };
    if result == 0 { Ok(()) } else { Err(Failure::of(name, io::Error::last_os_error())) }
}

/// Gives the number that decides a frame's socket: its IP addresses, or, where it has none, its MAC addresses, mixed; both directions
/// give the same.
///
/// A frame that is received begins behind its Ethernet header, one that is sent with it. X is the place of the layer behind the last type.
fn program() -> Vec<Insn> {
    let mut code = vec![
        insn(LDB_ABS, 0, 0, PACKET_TYPE),
        insn(JEQ, 0, 3, OUTGOING),
        insn(LDX_IMM, 0, 0, 14),
        insn(LDH_ABS, 0, 0, 12),
        insn(JA, 0, 0, 2),
        insn(LDX_IMM, 0, 0, 0),
        insn(LDW_ABS, 0, 0, PROTOCOL),
    ];
    // Each tag that is there: A becomes the type behind it, X the place behind that. Where there is none, the rest is passed over, as
    // none follows.
    for _ in 0..MOST_TAGS {
        let others = TPIDS.len() as u8;
        for (index, tpid) in (0..).zip(TPIDS) {
            code.push(insn(JEQ, others - index, 0, tpid));
        }
        code.push(insn(JA, 0, 0, 6));
        code.push(insn(LDH_IND, 0, 0, 2));
        code.push(insn(libc::BPF_ST, 0, 0, WORD));
        code.push(insn(TXA, 0, 0, 0));
        code.push(insn(ADD, 0, 0, 4));
        code.push(insn(TAX, 0, 0, 0));
        code.push(insn(LD_MEM, 0, 0, WORD));
    }
    let ipv4 = xor_of(&[12, 16].map(|at| insn(LDW_IND, 0, 0, at)));
    let ipv6 = xor_of(&[8, 12, 16, 20, 24, 28, 32, 36].map(|at| insn(LDW_IND, 0, 0, at)));
    // X is used up by then: the link layer's place is known
    let link = xor_of(&[
        insn(LDW_ABS, 0, 0, LINK),
        insn(LDW_ABS, 0, 0, LINK + 6),
        insn(LDH_ABS, 0, 0, LINK + 4),
        insn(LDH_ABS, 0, 0, LINK + 10),
    ]);
    // a jump over what belongs to others; conditional ones reach 255 instructions
    let over = |block: &[Insn]| block.len() as u32;
    code.push(insn(JEQ, 0, ipv4.len() as u8 + 1, IPV4));
    code.extend_from_slice(&ipv4);
    code.push(insn(JA, 0, 0, 1 + over(&ipv6) + 1 + over(&link)));
    code.push(insn(JEQ, 0, ipv6.len() as u8 + 1, IPV6));
    code.extend_from_slice(&ipv6);
    code.push(insn(JA, 0, 0, over(&link)));
    code.extend_from_slice(&link);
    code.extend([
        // murmur3's finaliser, in part: addresses that differ by little are spread by the low bits
        insn(TAX, 0, 0, 0),
        insn(RSH, 0, 0, 16),
        insn(XOR_X, 0, 0, 0),
        insn(MUL, 0, 0, 0x85eb_ca6b),
        insn(TAX, 0, 0, 0),
        insn(RSH, 0, 0, 13),
        insn(XOR_X, 0, 0, 0),
        insn(RET_A, 0, 0, 0),
    ]);
    code
}

/// Leaves in A the XOR of what the loads give. X stays as it is while there is one to come: the sum is kept in memory.
fn xor_of(loads: &[Insn]) -> Vec<Insn> {
    const PLACE: u32 = 1;
    const SUM: u32 = 2;
    let mut code = vec![
        insn(TXA, 0, 0, 0),
        insn(libc::BPF_ST, 0, 0, PLACE),
        insn(libc::BPF_LD | libc::BPF_IMM, 0, 0, 0),
        insn(libc::BPF_ST, 0, 0, SUM),
    ];
    for &load in loads {
        code.extend([
            insn(LDX_MEM, 0, 0, PLACE),
            load,
            insn(LDX_MEM, 0, 0, SUM),
            insn(XOR_X, 0, 0, 0),
            insn(libc::BPF_ST, 0, 0, SUM),
        ]);
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel does on a frame that was received (`data` begins behind the Ethernet header at 14) or sent.
    fn run(frame: &[u8], is_outgoing: bool) -> u32 {
        let data = if is_outgoing { frame } else { &frame[14..] };
        let number = |bytes: &[u8], at: usize, len: usize| {
            bytes.get(at..at + len).map(|part| part.iter().fold(0, |all, &byte| all << 8 | u32::from(byte)))
        };
        let load = |offset: i64, len: usize| match offset {
            offset if offset == i64::from(PROTOCOL as i32) => number(frame, 12, 2),
            offset if offset == i64::from(PACKET_TYPE as i32) => Some(if is_outgoing { 4 } else { 0 }),
            offset if offset < 0 => number(frame, (offset + 0x20_0000) as usize, len),
            offset => number(data, offset as usize, len),
        };
        let (mut a, mut x, mut memory, mut at) = (0u32, 0u32, [0u32; 16], 0);
        let code = program();
        loop {
            let Insn { code: op, jt, jf, k } = code[at];
            at += 1;
            match u32::from(op) {
                LDB_ABS | LDH_ABS | LDW_ABS | LDH_IND | LDW_IND => {
                    let len = match u32::from(op) & 0x18 {
                        0x10 => 1,
                        0x08 => 2,
                        _ => 4,
                    };
                    let is_indirect = u32::from(op) & 0xe0 == libc::BPF_IND;
                    let offset = i64::from(k as i32) + if is_indirect { i64::from(x) } else { 0 };
                    match load(offset, len) {
                        Some(value) => a = value,
                        None => return 0,
                    }
                }
                LDX_IMM => x = k,
                LD_MEM => a = memory[k as usize],
                LDX_MEM => x = memory[k as usize],
                libc::BPF_ST => memory[k as usize] = a,
                JEQ => at += usize::from(if a == k { jt } else { jf }),
                JA => at += k as usize,
                TXA => a = x,
                TAX => x = a,
                ADD => a = a.wrapping_add(k),
                MUL => a = a.wrapping_mul(k),
                RSH => a >>= k,
                XOR_X => a ^= x,
                RET_A => return a,
                0 => a = k, // BPF_LD | BPF_IMM
                other => panic!("no instruction {other:#x}"),
            }
        }
    }

    fn frame(tags: &[u16], ethertype: u16, addresses: &[u8], rest: u8) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, rest]);
        }
        frame.extend(ethertype.to_be_bytes());
        match ethertype {
            0x0800 => frame.extend([0x45, 0, 0, 40, 0, rest, 0x20, 0, 64, 17, 0, 0]),
            _ => frame.extend([0x60, 0, 0, 0, 0, 20, 44, 64]),
        }
        frame.extend(addresses);
        frame.extend([rest; 20]);
        frame
    }

    #[test]
    fn addresses_alone_decide_whatever_the_direction_the_tags_and_the_ports() {
        let (one, other) = ([198, 18, 0, 1, 198, 18, 0, 9], [198, 18, 0, 9, 198, 18, 0, 1]);
        let expected = run(&frame(&[], 0x0800, &one, 0), false);
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x9100, 0x8100, 0x8100]] {
            for addresses in [one, other] {
                for is_outgoing in [false, true] {
                    let given = run(&frame(tags, 0x0800, &addresses, 77), is_outgoing);
                    assert_eq!(given, expected, "{tags:x?} {addresses:?} {is_outgoing}");
                }
            }
        }
        // 2001:db8::1 and 2001:db8:5::9
        let [one, other] = [(0, 1), (5, 9)].map(|(net, host)| {
            let mut address = [0x20, 0x01, 0x0d, 0xb8, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            address[15] = host;
            address
        });
        let (six, swapped) = ([one, other].concat(), [other, one].concat());
        let expected = run(&frame(&[0x8100], 0x86dd, &six, 1), false);
        assert_eq!(run(&frame(&[], 0x86dd, &swapped, 2), true), expected);
        assert_ne!(expected, 0);
    }

    #[test]
    fn frames_without_addresses_of_ip_go_by_their_mac_addresses() {
        let mut arp = frame(&[], 0x0806, &[], 3);
        let expected = run(&arp, false);
        let (to, from) = arp.split_at_mut(6);
        to.swap_with_slice(&mut from[..6]);
        assert_eq!(run(&arp, true), expected);
        arp[3] ^= 0x10;
        assert_ne!(run(&arp, false), expected);
        // too short for what its type says: one socket for all such
        assert_eq!(run(&frame(&[], 0x0800, &[], 0)[..20], false), 0);
    }

    #[test]
    fn many_pairs_of_addresses_are_spread_over_few_sockets_about_alike() {
        for sockets in [2u32, 3, 4, 7] {
            let mut counts = vec![0u32; sockets as usize];
            for host in 0..=254u8 {
                let given = run(&frame(&[], 0x0800, &[198, 18, 0, 1, 198, 18, 0, host], 0), false);
                counts[(given % sockets) as usize] += 1;
            }
            assert!(counts.iter().all(|&count| count > 255 / sockets / 2), "{counts:?}");
        }
    }
}
