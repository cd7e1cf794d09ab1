//! Who is at the other end of a Unix socket.
//! # Source
//! unix(7) (SO_PEERCRED), socket(7), Linux 4.13 net/core/sock.c (SO_PEERGROUPS: all groups of the peer when it connected).

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use rustix::net::sockopt::socket_peercred;

/// include/uapi/asm-generic/socket.h, as x86 and Arm have it.
const SO_PEERGROUPS: libc::c_int = 59;

/// The process that connected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
    /// A hint: the process may be gone, and its number another's.
    pub pid: i32,
    /// All its groups, the primary one included.
    pub groups: Vec<u32>,
}

/// Asks the kernel who connected a Unix socket.
///
/// # Errors
/// If the socket is none of that kind.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let credentials = socket_peercred(&socket)?;
    let mut groups = peer_groups(&socket)?;
    let gid = credentials.gid.as_raw();
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    Ok(Peer { uid: credentials.uid.as_raw(), gid, pid: credentials.pid.as_raw_nonzero().get(), groups })
}

fn peer_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    // Linux lets a process have 65,536 groups; few have more than a handful
    let mut groups: Vec<u32> = vec![0; 32];
    loop {
        let mut bytes =
            libc::socklen_t::try_from(groups.len() * size_of::<u32>()).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: `groups` has room for `bytes` bytes, of which the kernel writes at most so many; it writes whole gid_t, which are u32,
        // and the number of bytes to `bytes`.
        let status = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<u32>();
        if status == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // `bytes` says by now how many it takes
            Some(libc::ERANGE) if count > groups.len() => groups.resize(count, 0),
            Some(libc::ENODATA) => return Ok(Vec::new()),
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_pair_of_sockets_is_ours_at_both_ends() {
        let (one, _other) = UnixStream::pair().expect("sockets");
        let peer = peer(&one).expect("a Unix socket");
        assert_eq!(peer.uid, rustix::process::getuid().as_raw());
        assert_eq!(peer.pid, i32::try_from(std::process::id()).expect("a pid"));
        // as id(1) says
        let said = std::process::Command::new("id").arg("-G").output().expect("id(1)");
        let mut said: Vec<u32> = String::from_utf8_lossy(&said.stdout)
            .split_whitespace()
            .map(|id| id.parse().expect("a number"))
            .collect();
        let mut groups = peer.groups;
        said.sort_unstable();
        groups.sort_unstable();
        assert_eq!(groups, said);
    }

    #[test]
    fn another_kind_of_socket_has_no_peer() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        assert!(peer(&socket).is_err());
    }
}
