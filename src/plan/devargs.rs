//! The arguments that virtual devices take, so that a misspelt one is found before a driver refuses it without saying which.

use std::io::{Cursor, Read};
use std::path::Path;

use super::surroundings::Surroundings;
use tapline_capture::{Compression, LinkType, Reader};
use tapline_datapath::receive::replay;
use tapline_dpdk::driver::{Argument, DRIVERS, Devargs, Driver};
use tapline_dpdk::mempool::DATA_ROOM;
use tapline_lang::files::{Files, Stream};
use tapline_lang::suggest::nearest;

/// A file that a device's arguments name.
pub struct DeviceFile<'a> {
    /// The whole argument.
    pub argument: &'a str,
    pub path: &'a str,
    pub is_written: bool,
}

/// The files that a device reads and writes, in the order of its arguments.
pub fn device_files(devargs: &Devargs) -> impl Iterator<Item = DeviceFile<'_>> {
    let of_driver = devargs.driver().map_or(&[][..], |driver| driver.files);
    devargs.arguments().filter_map(|Argument { word, name, value }| {
        let &(_, is_written) = of_driver.iter().find(|file| file.0 == name)?;
        Some(DeviceFile { argument: word, path: value, is_written })
    })
}

/// The kernel's interfaces that a device's packets come from and go to, and that are there before it, each with its argument.
fn interfaces(devargs: &Devargs) -> impl Iterator<Item = (&str, &str)> {
    let of_driver = devargs.driver().map_or(&[][..], |driver| driver.interfaces);
    let named = devargs.arguments().filter(|argument| of_driver.contains(&argument.name));
    named.map(|argument| (argument.word, argument.value))
}

/// Packets that a device would receive or send as Ethernet frames although they are something else.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct ForeignFrames<'a> {
    /// The argument that names it.
    pub argument: &'a str,
    pub message: String,
    pub reason: String,
}

/// The first file or interface of a device whose packets are no Ethernet frames. Drivers do not look: they hand packets on as
/// frames, whatever their first bytes are.
pub(super) fn foreign_frames<'a>(
    devargs: &'a Devargs,
    surroundings: &Surroundings,
) -> Option<ForeignFrames<'a>> {
    let captures =
        device_files(devargs).filter(|file| !file.is_written && file.argument.starts_with("rx_pcap="));
    let files = captures.filter_map(|DeviceFile { argument, path, .. }| {
        let reason = foreign_file(surroundings.files.open(Path::new(path)).ok()?)?;
        Some(ForeignFrames { argument, message: format!("`{path}` cannot be replayed"), reason })
    });
    let interfaces = interfaces(devargs).filter_map(|(argument, name)| {
        let hardware_type = (surroundings.hardware_type)(name);
        let fact = foreign_interface(name, hardware_type, devargs.goes_by_libpcap())?;
        let message = format!("interface `{name}` {fact}");
        Some(ForeignFrames {
            argument,
            message,
            reason: "expected an interface of Ethernet frames (hardware type 1, or loopback)".to_owned(),
        })
    });
    files.chain(interfaces).next()
}

/// Gives what is wrong with a file that is compressed or not all Ethernet, as far as its beginning says. net_pcap reads by libpcap,
/// which goes by the link type of a pcapng file's first interface, and ends at an interface of another link type.
fn foreign_file(mut file: Stream) -> Option<String> {
    let mut first = [0; 4];
    file.read_exact(&mut first).ok()?;
    if let Some(compression) = Compression::of(first) {
        return Some(format!(
            "it is compressed by {compression}, which net_pcap does not read; `replay:FILE` does"
        ));
    }
    let mut reader = Reader::from_stream(Box::new(Cursor::new(first).chain(file))).ok()?;
    // damage is for the driver to refuse
    let _ = reader.next_record();
    reader
        .interfaces()
        .iter()
        .map(|interface| interface.link_type)
        .find(|link_type| *link_type != LinkType::ETHERNET)
        .map(replay::foreign)
}

/// The devices that libpcap knows besides the kernel's interfaces. None has Ethernet frames.
const PSEUDO_INTERFACES: [&str; 6] = ["any", "nflog", "nfqueue", "usbmon", "bluetooth", "dbus"];

/// Gives what the packets of an interface of `hardware_type` are, if they are no Ethernet frames. The driver refuses an interface
/// that does not exist.
/// # Source
/// linux/if_arp.h: `ARPHRD_ETHER`, `ARPHRD_LOOPBACK`.
fn foreign_interface(name: &str, hardware_type: Option<u16>, is_libpcaps: bool) -> Option<String> {
    match hardware_type {
        Some(1 | 772) => None,
        Some(number) => {
            let word = match number {
                32 => " (InfiniBand)",
                512 => " (PPP)",
                768 | 769 | 776 | 778 | 823 => " (an IP tunnel)",
                801..=803 => " (IEEE 802.11)",
                65534 => " (IP packets without a link layer)",
                _ => "",
            };
            Some(format!("is of hardware type {number}{word}"))
        }
        None => {
            let is_pseudo = is_libpcaps && PSEUDO_INTERFACES.iter().any(|pseudo| name.starts_with(pseudo));
            is_pseudo.then(|| {
                "is none of the kernel's: libpcap gives packets of another link type by this name"
                    .to_owned()
            })
        }
    }
}

/// Packets that a device keeps in mbufs of its port's pool: net_pcap those of its files, where it gives them over and over.
/// # Source
/// DPDK 22.11, `eth_rx_queue_setup` in drivers/net/pcap/pcap_ethdev.c: an mbuf for each packet, from the queue's pool, until the port
/// is closed.
pub(super) fn resident_packets(devargs: &Devargs, files: &dyn Files) -> u32 {
    let is_infinite =
        devargs.argument("infinite_rx").is_some_and(|value| !value.trim_start_matches('0').is_empty());
    if !is_infinite {
        return 0;
    }
    let captures = device_files(devargs).filter(|file| file.argument.starts_with("rx_pcap="));
    captures.map(|file| packets_in(files, Path::new(file.path))).fold(0, u32::saturating_add)
}

/// Counts the packets of a file. The driver itself refuses a file that it cannot read.
fn packets_in(files: &dyn Files, path: &Path) -> u32 {
    let file = files.open(path).ok();
    let Some(mut reader) = file.and_then(|file| Reader::from_stream(file).ok()) else { return 0 };
    let mut packets = 0u32;
    while let Ok(Some(burst)) = reader.next_burst() {
        packets = packets.saturating_add(burst.len() as u32);
    }
    packets
}

/// Gives the unknown arguments of a virtual device: the driver, the argument's name, and what was meant or may stand there.
pub(super) fn unknown_arguments(devargs: &Devargs) -> Vec<(&'static str, &str, String)> {
    let Some(Driver { name: driver, arguments: known, .. }) = devargs.driver() else {
        return Vec::new();
    };
    // a value may hold commas in brackets or parentheses: only words that look like an argument of their own are judged
    let names = devargs.arguments().map(|argument| argument.name);
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    let unknown = names.filter(|name| is_name(name) && !known.contains(name));
    let advice = |name: &str| match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it takes {}", known.join(", ")),
    };
    unknown.map(|name| (*driver, name, advice(name))).collect()
}

/// Gives the most likely name of a device that begins with the name of no driver that is known.
pub(super) fn misspelt_driver(devargs: &str) -> Option<String> {
    let devargs = Devargs::new(devargs);
    let device = devargs.device();
    if devargs.driver().is_some() {
        return None;
    }
    if let Some((prefix, rest)) = device.split_once(':') {
        return nearest(prefix, ["iface", "replay"]).map(|near| format!("{near}:{rest}"));
    }
    let name = device.trim_end_matches(|c: char| c.is_ascii_digit());
    let near = nearest(name, DRIVERS.iter().map(|driver| driver.name).filter(|name| !name.contains(':')))?;
    Some(format!("{near}{}", &device[name.len()..]))
}

/// Why net_null would write or read beyond an mbuf: it makes packets of `size` bytes in one, however many that are.
pub(super) fn oversized_packets(devargs: &Devargs) -> Option<String> {
    let Driver { name, .. } = devargs.driver().filter(|driver| driver.makes_packets)?;
    let fits = |size: &str| size.parse().is_ok_and(|size: u16| (1..=DATA_ROOM).contains(&size));
    // the driver takes the last of several
    let mut sizes = devargs.words().filter_map(|word| word.strip_prefix("size="));
    let size = sizes.find(|size| !fits(size))?;
    Some(format!("{name} cannot make packets of size `{size}`"))
}

#[cfg(test)]
mod tests {
    use super::{Devargs, device_files, interfaces, misspelt_driver, oversized_packets, unknown_arguments};

    #[test]
    fn net_null_makes_packets_that_fit_an_mbuf() {
        for devargs in
            ["net_null0", "net_null0,size=2048,copy=1", "net_pcap0,size=9000", "net_null0,copy=1"]
        {
            assert_eq!(oversized_packets(&Devargs::new(devargs)), None, "{devargs}");
        }
        for devargs in [
            "net_null0,size=2049",
            "vdev:net_null0,size=65535",
            "net_null0,size=64,size=-1",
            "net_null0,size=0x1000",
        ] {
            assert!(oversized_packets(&Devargs::new(devargs)).is_some(), "{devargs}");
        }
    }

    #[test]
    fn files_and_interfaces_of_devices_are_found_in_their_order() {
        let files = |text: &str| {
            let devargs = Devargs::new(text);
            let files = device_files(&devargs).map(|file| (file.path.to_owned(), file.is_written));
            files.collect::<Vec<_>>()
        };
        let file = |path: &str, is_written| (path.to_owned(), is_written);
        assert_eq!(
            files("net_pcap0,tx_pcap=a,rx_pcap=b=c,iface=d,tx_pcap=a"),
            [file("a", true), file("b=c", false), file("a", true)]
        );
        assert_eq!(files("vdev:net_pcap0,rx_pcap=a"), [file("a", false)]);
        assert_eq!(files("net_af_xdp0,iface=a,xdp_prog=b.o"), [file("b.o", false)]);
        assert_eq!(files("net_null0,tx_pcap=a"), []);
        let names = |text: &str| {
            interfaces(&Devargs::new(text)).map(|(_, name)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("net_pcap0,rx_iface=a,rx_iface_in=b,tx_iface=c,rx_pcap=d"), ["a", "b", "c"]);
        assert_eq!(names("net_tap0,iface=new,remote=old"), ["old"]);
        assert_eq!(names("net_af_packet0,iface=a,qpairs=2"), ["a"]);
    }

    #[test]
    fn a_misspelt_argument_is_told_with_the_one_that_was_meant() {
        let devargs = Devargs::new("net_pcap0,rx_pcp=a.pcap,tx_pcap=b=c.pcap");
        let [(driver, name, advice)] = &unknown_arguments(&devargs)[..] else { panic!() };
        assert_eq!((*driver, *name, advice.as_str()), ("net_pcap", "rx_pcp", "did you mean `rx_pcap`?"));
        assert_eq!(
            unknown_arguments(&Devargs::new("net_null0,speed=1"))[0].2,
            "it takes size, copy, no-rx"
        );
    }

    #[test]
    fn a_misspelt_driver_is_told_and_what_is_none_is_not() {
        assert_eq!(misspelt_driver("net_af_pakcet0,iface=eth0").as_deref(), Some("net_af_packet0"));
        assert_eq!(misspelt_driver("vdev:net_pcpa12").as_deref(), Some("net_pcap12"));
        assert_eq!(misspelt_driver("ifcae:eth0,queues=2").as_deref(), Some("iface:eth0"));
        assert_eq!(misspelt_driver("repaly:in.pcap").as_deref(), Some("replay:in.pcap"));
        for other in
            ["net_pcap0", "net_bonding0,mode=1", "0000:03:00.0", "03:00.0", "iface:eth0", "net_vhost0"]
        {
            assert_eq!(misspelt_driver(other), None, "{other}");
        }
    }

    #[test]
    fn devices_that_are_not_known_are_left_to_their_drivers() {
        for devargs in [
            "0000:03:00.0,mprq_en=1",
            "net_null0,size=64",
            "net_bonding0,mode=1,slave=0",
            "net_null0",
            "vdev:net_pcap9,iface=lo",
        ] {
            assert!(unknown_arguments(&Devargs::new(devargs)).is_empty(), "{devargs}");
        }
    }
}
