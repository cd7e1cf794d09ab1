//! Interfaces of the kernel. It is asked of the network namespace that Tapline is in; /sys/class/net may show another one's.
//! # Source
//! netdevice(7): SIOCGIFINDEX, SIOCGIFNAME, SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCGIFHWADDR, SIOCGIFMTU. Linux,
//! Documentation/networking/timestamping.rst: SIOCSHWTSTAMP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice};

/// An interface by its number, which stays when it is renamed: what is made anew under its name is another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Index(u32);

/// The state of an interface, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It is up and has a carrier, or the kernel cannot be asked.
    Running,
    /// It is down, or has no carrier.
    Down,
    /// There is none of this index.
    Gone,
}

/// Returns whether the kernel has an address, on whatever interface: what it sends there, it sends from there. Nothing is sent.
///
/// `bind` does not tell: a network namespace whose interfaces have no address lets a socket be bound to any.
/// # Source
/// ip(7): the kernel chooses the source of a socket that is connected; RFC 6724, section 5, rule 1.
pub fn has_address(address: IpAddr) -> bool {
    /// The discard service, which nothing is sent to.
    const PORT: u16 = 9;
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let chosen = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, PORT))?;
        socket.local_addr()
    };
    chosen().is_ok_and(|chosen| chosen.ip() == address)
}

impl Index {
    /// Finds the interface that has this name, if one does.
    pub fn of(name: &str) -> Option<Self> {
        netdevice::name_to_index(any_socket()?, name).ok().map(Self)
    }

    /// Gives the number, as the kernel's structures have it.
    pub(crate) fn number(self) -> libc::c_int {
        self.0 as libc::c_int
    }

    /// Gives the index that is the kernel's `number`.
    pub(crate) fn numbered(number: u32) -> Self {
        Self(number)
    }

    /// Gives the interface's name of this moment, if it is there.
    pub fn name(self) -> Option<String> {
        netdevice::index_to_name(any_socket()?, self.0).ok()
    }

    /// Gives the interface's MTU of this moment.
    pub fn mtu(self) -> Option<u32> {
        let answer = ask(&any_socket()?, libc::SIOCGIFMTU, request_for(&self.name()?)?)?;
        // SAFETY: the kernel answers SIOCGIFMTU in `ifru_mtu`; it is a number, for which any bytes are valid.
        u32::try_from(unsafe { answer.ifr_ifru.ifru_mtu }).ok()
    }

    /// Gives the interface's Ethernet address; that of a loopback interface is zeroes.
    pub fn mac(self) -> Option<[u8; 6]> {
        let answer = ask(&any_socket()?, libc::SIOCGIFHWADDR, request_for(&self.name()?)?)?;
        // SAFETY: the kernel answers SIOCGIFHWADDR in `ifru_hwaddr`; it is numbers, for which any bytes are valid.
        let data = unsafe { answer.ifr_ifru.ifru_hwaddr.sa_data };
        let mut mac = [0; 6];
        mac.iter_mut().zip(data).for_each(|(to, from)| *to = from as u8);
        Some(mac)
    }

    /// Tells the NIC to stamp every frame that it receives.
    ///
    /// # Errors
    /// If it cannot, or this process may not tell it to (CAP_NET_ADMIN).
    pub(crate) fn stamp_all(self) -> io::Result<()> {
        const HWTSTAMP_FILTER_ALL: libc::c_int = 1; // linux/net_tstamp.h
        let gone = || io::Error::from(Errno::NODEV);
        let (socket, name) = any_socket().zip(self.name()).ok_or_else(gone)?;
        let mut request = request_for(&name).ok_or_else(gone)?;
        let mut config = libc::hwtstamp_config { flags: 0, tx_type: 0, rx_filter: HWTSTAMP_FILTER_ALL };
        request.ifr_ifru.ifru_data = (&raw mut config).cast();
        // SAFETY: `socket` is open while it is borrowed; the kernel reads and writes one `ifreq` and the `hwtstamp_config` that it
        // points to, during the call only.
        match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSHWTSTAMP, &mut request) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sets the interface up or down, as `ip link set` does. One that is down has no carrier for what it is joined to.
    ///
    /// # Errors
    /// If it is gone, or this process may not (CAP_NET_ADMIN).
    pub fn set_up(self, is_up: bool) -> io::Result<()> {
        const UP: libc::c_short = libc::IFF_UP as libc::c_short;
        let gone = || io::Error::from(Errno::NODEV);
        let (socket, name) = any_socket().zip(self.name()).ok_or_else(gone)?;
        let asked = request_for(&name).and_then(|request| ask(&socket, libc::SIOCGIFFLAGS, request));
        let mut request = asked.ok_or_else(gone)?;
        // SAFETY: the kernel answered SIOCGIFFLAGS in `ifru_flags`; it is a number, for which any bytes are valid.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        let wanted = if is_up { flags | UP } else { flags & !UP };
        if wanted == flags {
            return Ok(());
        }
        request.ifr_ifru.ifru_flags = wanted;
        // SAFETY: `socket` is open while it is borrowed; the kernel reads one `ifreq`, whose name ends in a zero, during the call only,
        // and follows no pointer in it.
        match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &mut request) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Gives the state of the interface, whatever it is called by now.
    pub fn state(self) -> State {
        const RUNNING: libc::c_int = libc::IFF_UP | libc::IFF_RUNNING;
        let Some(socket) = any_socket() else { return State::Running };
        let name = match netdevice::index_to_name(&socket, self.0) {
            Ok(name) => name,
            Err(Errno::NODEV | Errno::NXIO) => return State::Gone,
            Err(_) => return State::Running,
        };
        let answer = request_for(&name).and_then(|request| ask(&socket, libc::SIOCGIFFLAGS, request));
        // SAFETY: the kernel answers SIOCGIFFLAGS in `ifru_flags`; it is a number, for which any bytes are valid.
        let flags = answer.map(|answer| libc::c_int::from(unsafe { answer.ifr_ifru.ifru_flags }));
        // one that went, or was renamed, between the two calls is told of by the next
        if flags.is_some_and(|flags| flags & RUNNING == RUNNING) { State::Running } else { State::Down }
    }
}

/// Gives the hardware type (`ARPHRD_…`) of the interface that has this name, if one does.
pub fn hardware_type(name: &str) -> Option<u16> {
    let answer = ask(&any_socket()?, libc::SIOCGIFHWADDR, request_for(name)?)?;
    // SAFETY: the kernel answers SIOCGIFHWADDR in `ifru_hwaddr`; it is numbers, for which any bytes are valid.
    Some(unsafe { answer.ifr_ifru.ifru_hwaddr.sa_family })
}

/// The kernel's counts of all interfaces of this network namespace; empty where the kernel does not say.
fn counts() -> String {
    std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default()
}

/// Gives the interfaces that `table` has, each with its numbers.
fn rows(table: &str) -> impl Iterator<Item = (&str, &str)> {
    // two lines of headings, then `NAME: NUMBERS`
    let rows = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    rows.map(|(name, numbers)| (name.trim(), numbers))
}

/// Gives the names of all interfaces; none where the kernel does not say.
pub fn names() -> Vec<String> {
    rows(&counts()).map(|(name, _)| name.to_owned()).collect()
}

/// Gives the packets that an interface was to send and had no room for, as the kernel counts them; 0 where it does not say.
/// # Source
/// Linux, `dev_seq_printf_stats` in net/core/net-procfs.c.
pub fn dropped_before_sending(name: &str) -> u64 {
    /// Eight numbers of what was received come first, then bytes, packets and errors of what was sent.
    const PLACE: usize = 11;
    let counts = counts();
    let found = rows(&counts).find(|(known, _)| *known == name);
    found.and_then(|(_, numbers)| numbers.split_whitespace().nth(PLACE)?.parse().ok()).unwrap_or(0)
}

/// Returns whether /sys/class/net shows the interface that has this name here, and not a namesake of another network namespace.
pub fn is_in_sysfs(name: &str) -> bool {
    let shown = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok();
    let shown = shown.and_then(|text| text.trim().parse().ok());
    shown.is_some() && shown == Index::of(name).map(|index| index.0)
}

/// Opens a socket to ask by: any takes requests for interfaces.
pub(crate) fn any_socket() -> Option<OwnedFd> {
    rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()
}

/// Makes a request that names an interface; `None` where the name is longer than any.
pub(crate) fn request_for(name: &str) -> Option<libc::ifreq> {
    // SAFETY: `ifreq` is numbers, addresses and a null pointer, for all of which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // its last byte stays zero
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (place, &byte) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *place = byte as libc::c_char;
    }
    Some(request)
}

/// Asks the kernel by `call`, one of netdevice(7) that only reads; `None` where it refuses.
fn ask(socket: &OwnedFd, call: libc::c_ulong, mut request: libc::ifreq) -> Option<libc::ifreq> {
    debug_assert!([libc::SIOCGIFFLAGS, libc::SIOCGIFHWADDR, libc::SIOCGIFMTU].contains(&call));
    // SAFETY: `socket` is open while it is borrowed; these calls read and write one `ifreq`, whose name ends in a zero, during the
    // call only, and follow no pointer in it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), call, &mut request) };
    (result == 0).then_some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_its_loopback_address_and_none_of_documentation() {
        let lo = Index::of("lo").expect("every namespace has a loopback");
        for address in ["192.0.2.1", "2001:db8::1"] {
            assert!(!has_address(address.parse().expect("an address")), "{address}");
        }
        if lo.state() == State::Running {
            assert!(has_address(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        }
    }

    #[test]
    fn an_interface_is_found_by_its_name_and_asked_by_its_index() {
        let index = Index::of("lo").expect("every namespace has a loopback");
        assert!([State::Running, State::Down].contains(&index.state()));
        assert_eq!(hardware_type("lo"), Some(libc::ARPHRD_LOOPBACK));
        let mtu = std::fs::read_to_string("/sys/class/net/lo/mtu").expect("sysfs");
        assert_eq!(index.mtu(), mtu.trim().parse().ok());
        assert_eq!((index.name().as_deref(), index.mac()), (Some("lo"), Some([0; 6])));
        assert!(names().iter().any(|name| name == "lo") && is_in_sysfs("lo"));
        let dropped = std::fs::read_to_string("/sys/class/net/lo/statistics/tx_dropped").expect("sysfs");
        assert_eq!(Some(dropped_before_sending("lo")), dropped.trim().parse().ok());
    }

    #[test]
    fn what_is_not_there_is_none_or_gone() {
        for name in ["", "no-such-if", "a-name-longer-than-any"] {
            assert_eq!((Index::of(name), hardware_type(name)), (None, None), "{name}");
            assert!(dropped_before_sending(name) == 0 && !is_in_sysfs(name), "{name}");
        }
        assert_eq!(Index(0x7fff_fff0).state(), State::Gone);
    }
}
