//! A table of the drivers of virtual devices: one row each. NICs state themselves what they can do.

use std::borrow::Cow;
use std::fmt;

/// A driver of virtual devices.
#[derive(Debug)]
pub struct Driver {
    /// The beginning of its devices' names.
    pub name: &'static str,
    /// The arguments that it takes in DPDK 22.11 to 24.11.
    /// # Source
    /// `RTE_PMD_REGISTER_PARAM_STRING` in each driver's source.
    pub arguments: &'static [&'static str],
    /// Arguments that name files, and whether those are written.
    pub files: &'static [(&'static str, bool)],
    /// Arguments that name interfaces of the kernel which are there before the device, and are received from or sent to.
    pub interfaces: &'static [&'static str],
    /// Arguments that name the interface whose link and MTU are the port's, the first one given: where two differ, what is sent is
    /// what a link that is down loses.
    pub links: &'static [&'static str],
    /// It copies packets while it is called: what was received was just written by the core that polls, and what was sent is
    /// written, handed to the kernel or thrown away when its transmit function returns.
    pub copies_packets: bool,
    /// It sends frames of several segments, although it does not say so.
    pub joins_segments: bool,
    /// Mbufs that a transmit and a receive queue keep, where its rings are as long as they like, whatever descriptors they are asked
    /// for.
    pub own_rings: Option<(u32, u32)>,
    /// The frames that it takes.
    pub takes: Takes,
    /// Bytes of a slot of its rings with the kernel (packet_mmap, version 2), unless `framesz` says other. Longer frames are cut when
    /// they are received, and are not sent; what fits is less by the headers of a slot, which `receive::af_packet_cut` and
    /// `egress::mtu` of the data path know. A driver that cuts frames by another rule needs a field of its own.
    pub tpacket_slot: Option<u32>,
    /// It joins IP fragments, loses those that lack others, and gives every VLAN tag the type 0x8100.
    pub changes_frames: bool,
    /// The kernel's counter of what the driver lost without counting it.
    pub kernel_counter: KernelCounter,
    /// The argument that gives what waits to be received more room.
    pub more_room: Option<&'static str>,
    /// It goes by libpcap: it receives nothing unless it is told from where, and takes names of interfaces that libpcap alone knows.
    pub by_libpcap: bool,
    /// It has as many receive as transmit queues, one at least of each.
    pub pairs_queues: bool,
    /// It makes packets when it is asked, as long as `size` says.
    pub makes_packets: bool,
    /// Packets that are sent into its device come out of it.
    pub is_loop: bool,
    /// Bytes of a packet of several mbufs that it writes to its `files`: it cuts longer ones there, and keeps their length.
    pub written_len: Option<u32>,
    /// The longest MTU that it receives at.
    pub most_mtu: Option<u32>,
    /// Arguments that Tapline adds where they are not said.
    pub added: &'static [(&'static str, &'static str)],
}

/// Which frames a driver takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// All, as far as it says.
    All,
    /// Those that have bytes: its peer would get what was there before in place of a packet of no length.
    NotEmpty,
    /// Those that an interface of the kernel takes.
    Kernel {
        /// It makes its interface; other drivers send to one where `iface` or `tx_iface` names it.
        makes_interface: bool,
        /// Bytes beyond its MTU that it takes, a frame check sequence and a tag counted; `None`: the Ethernet header, and a tag.
        room: Option<u32>,
        /// It writes behind a buffer that has room for one mbuf's bytes.
        one_mbuf: bool,
    },
}

/// A count of the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelCounter {
    None,
    /// The counters of the driver's packet sockets.
    PacketSockets,
    /// The counters of its XDP sockets.
    XdpSockets,
    /// The counter of its interface for packets that it was to send and had no room for.
    Interface,
}

/// A driver of which nothing is to be known.
const PLAIN: Driver = Driver {
    name: "",
    arguments: &[],
    files: &[],
    interfaces: &[],
    links: &[],
    copies_packets: false,
    joins_segments: false,
    own_rings: None,
    takes: Takes::All,
    tpacket_slot: None,
    changes_frames: false,
    kernel_counter: KernelCounter::None,
    more_room: None,
    by_libpcap: false,
    pairs_queues: false,
    makes_packets: false,
    is_loop: false,
    written_len: None,
    most_mtu: None,
    added: &[],
};

const KERNEL: Takes = Takes::Kernel { makes_interface: false, room: None, one_mbuf: false };

/// The drivers that Tapline knows. A row says how its driver differs from `PLAIN`; a virtual device of a driver that has none is
/// attached all the same, and taken for one that differs in nothing.
pub static DRIVERS: [Driver; 8] = [
    // no driver of DPDK's: `iface:IF`, which Tapline receives from and sends to itself
    Driver {
        name: "iface:",
        arguments: &["iface", "queues", "outgoing", "offloads", "time", "buffer"],
        interfaces: &["iface"],
        links: &["iface"],
        copies_packets: true,
        joins_segments: true,
        more_room: Some("buffer"),
        takes: KERNEL,
        ..PLAIN
    },
    Driver {
        name: "net_pcap",
        arguments: &[
            "rx_pcap",
            "tx_pcap",
            "rx_iface",
            "rx_iface_in",
            "tx_iface",
            "iface",
            "phy_mac",
            "infinite_rx",
        ],
        files: &[("rx_pcap", false), ("tx_pcap", true)],
        interfaces: &["iface", "rx_iface", "rx_iface_in", "tx_iface"],
        links: &["iface", "tx_iface", "rx_iface", "rx_iface_in"],
        copies_packets: true,
        // `eth_pcap_tx` reads them by rte_pktmbuf_read
        joins_segments: true,
        takes: KERNEL,
        by_libpcap: true,
        // `RTE_ETH_PCAP_SNAPLEN` in drivers/net/pcap/pcap_ethdev.c of DPDK 22.11, as long as a jumbo frame of ethdev's
        written_len: Some(0x3f00),
        ..PLAIN
    },
    Driver {
        name: "net_null",
        arguments: &["size", "copy", "no-rx"],
        copies_packets: true,
        makes_packets: true,
        ..PLAIN
    },
    Driver {
        name: "net_ring",
        arguments: &["nodeaction", "internal"],
        // `RING_SIZE` in drivers/net/ring/rte_eth_ring.c of DPDK 22.11
        own_rings: Some((1024, 0)),
        is_loop: true,
        ..PLAIN
    },
    Driver {
        name: "net_af_packet",
        more_room: Some("framecnt"),
        arguments: &["iface", "qpairs", "blocksz", "framesz", "framecnt", "qdisc_bypass", "fanout_mode"],
        interfaces: &["iface"],
        links: &["iface"],
        copies_packets: true,
        takes: KERNEL,
        tpacket_slot: Some(2048),
        // its fanout group is of PACKET_FANOUT_FLAG_DEFRAG; `eth_af_packet_rx` calls rte_vlan_insert, which knows one type
        changes_frames: true,
        kernel_counter: KernelCounter::PacketSockets,
        ..PLAIN
    },
    Driver {
        name: "net_af_xdp",
        arguments: &[
            "iface",
            "start_queue",
            "queue_count",
            "shared_umem",
            "xdp_prog",
            "busy_budget",
            "force_copy",
            "use_cni",
            "use_pinned_map",
            "dp_path",
            "mode",
        ],
        files: &[("xdp_prog", false)],
        interfaces: &["iface"],
        links: &["iface"],
        // `ETH_AF_XDP_DFLT_NUM_DESCS` in drivers/net/af_xdp/rte_eth_af_xdp.c of DPDK 22.11
        own_rings: Some((2048, 2048)),
        takes: Takes::Kernel { makes_interface: false, room: None, one_mbuf: true },
        kernel_counter: KernelCounter::XdpSockets,
        pairs_queues: true,
        // one frame with its room in front and behind in a page: above it many kernel drivers give nothing
        most_mtu: Some(3506),
        ..PLAIN
    },
    Driver {
        name: "net_tap",
        arguments: &["iface", "mac", "remote", "persist"],
        interfaces: &["remote"],
        links: &["iface"],
        copies_packets: true,
        // `pmd_tx_burst`: a header, a frame check sequence and a tag
        takes: Takes::Kernel { makes_interface: true, room: Some(14 + 4 + 4), one_mbuf: false },
        kernel_counter: KernelCounter::Interface,
        ..PLAIN
    },
    Driver {
        name: "net_memif",
        arguments: &[
            "id",
            "role",
            "bsize",
            "rsize",
            "socket",
            "socket-abstract",
            "owner-uid",
            "owner-gid",
            "mac",
            "zero-copy",
            "secret",
        ],
        takes: Takes::NotEmpty,
        // whole jumbo frames: a reader by DPDK takes frames in several buffers half-way if it looks while they are written, and goes
        // wrong from there on (`eth_memif_rx` of DPDK 22.11: nothing checks whether the buffer that follows is there yet)
        added: &[("bsize", "9216")],
        ..PLAIN
    },
];

impl Driver {
    /// Finds the driver of a device, if it is a virtual one that is known.
    fn of(device: &str) -> Option<&'static Driver> {
        DRIVERS.iter().find(|driver| device.starts_with(driver.name))
    }

    /// Finds the driver that calls itself so.
    pub fn named(name: &str) -> Option<&'static Driver> {
        // the driver of `iface:IF` is `iface`, too
        let name = name.trim_end_matches(':');
        DRIVERS.iter().find(|driver| driver.name.trim_end_matches(':') == name)
    }
}

/// A device and its arguments, as testpmd takes them: `net_pcap0,rx_pcap=a.pcap`, `0000:03:00.0`.
#[derive(Clone, Debug)]
pub struct Devargs {
    text: String,
    driver: Option<&'static Driver>,
}

/// One argument of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Argument<'a> {
    /// All of it: `NAME=VALUE`.
    pub word: &'a str,
    pub name: &'a str,
    pub value: &'a str,
}

impl Devargs {
    /// Reads devargs, and looks their driver up.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { driver: Driver::of(without_bus(&text)), text }
    }

    /// Gives them as they were written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Gives the driver, if it is one of virtual devices that is known.
    pub fn driver(&self) -> Option<&'static Driver> {
        self.driver
    }

    /// Gives the device's name as it was written.
    pub fn written_device(&self) -> &str {
        self.text.split(',').next().unwrap_or_default()
    }

    /// Gives the device's name, which begins with that of its driver where it is a virtual one. DPDK takes it behind the bus `vdev:`,
    /// too.
    pub fn device(&self) -> &str {
        without_bus(self.written_device())
    }

    /// Gives what stands behind the device, between commas.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.text.split(',').skip(1)
    }

    /// Gives the arguments that have a value, in their order. The interface of `iface:IF` is one: its first.
    pub fn arguments(&self) -> impl Iterator<Item = Argument<'_>> {
        let device = self.written_device();
        let interface =
            device.strip_prefix("iface:").map(|value| Argument { word: device, name: "iface", value });
        let words = self.words();
        interface.into_iter().chain(
            words.filter_map(|word| {
                word.split_once('=').map(|(name, value)| Argument { word, name, value })
            }),
        )
    }

    /// Gives the value of an argument, the first where there are several.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments().find(|argument| argument.name == name).map(|argument| argument.value)
    }

    /// Gives the interface of the kernel whose link and MTU are the device's, if it is one of those.
    pub fn kernel_interface(&self) -> Option<&str> {
        self.driver?.links.iter().find_map(|name| self.argument(name))
    }

    /// Returns whether the driver goes by libpcap.
    pub fn goes_by_libpcap(&self) -> bool {
        self.driver.is_some_and(|driver| driver.by_libpcap)
    }

    /// Returns whether the driver copies packets while it is called.
    pub fn copies_packets(&self) -> bool {
        self.driver.is_some_and(|driver| driver.copies_packets)
    }

    /// Gives the most bytes of a packet that the device writes to its file, if it writes one and cuts what is longer.
    pub fn written_len(&self) -> Option<u32> {
        let driver = self.driver?;
        let is_written =
            |name: &str| driver.files.iter().any(|&(file, is_written)| is_written && file == name);
        driver.written_len.filter(|_| self.arguments().any(|argument| is_written(argument.name)))
    }

    /// Returns whether the device makes packets when it is asked, and so can be asked later without a loss.
    pub fn can_wait(&self) -> bool {
        self.driver.is_some_and(|driver| {
            driver.makes_packets || driver.by_libpcap && self.text.contains("rx_pcap=")
        })
    }

    /// Gives them with what Tapline adds to them.
    pub fn with_added(&self) -> Cow<'_, Self> {
        let added = self.driver.map_or(&[][..], |driver| driver.added);
        let missing = added.iter().filter(|(name, _)| self.argument(name).is_none());
        missing.fold(Cow::Borrowed(self), |devargs, (name, value)| {
            Cow::Owned(Self::new(format!("{},{name}={value}", devargs.text)))
        })
    }
}

/// The table has a driver but once.
impl PartialEq for Devargs {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Devargs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn without_bus(device: &str) -> &str {
    device.strip_prefix("vdev:").unwrap_or(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_its_driver_by_either_spelling() {
        for driver in &DRIVERS {
            for bus in ["", "vdev:"] {
                let devargs = Devargs::new(format!("{bus}{}7,iface=eth0", driver.name));
                assert_eq!(devargs.driver().map(|driver| driver.name), Some(driver.name));
                assert_eq!(devargs.device(), format!("{}7", driver.name));
            }
            assert_eq!(Driver::named(driver.name).map(|found| found.name), Some(driver.name));
        }
        let is_unknown = |text: &str| Devargs::new(text).driver().is_none();
        assert!(is_unknown("0000:03:00.0") && is_unknown("net_bonding0"));
    }

    #[test]
    fn memif_has_long_buffers_unless_it_says_how_long() {
        let with_added = |text: &str| Devargs::new(text).with_added().to_string();
        assert_eq!(with_added("vdev:net_memif0,role=client"), "vdev:net_memif0,role=client,bsize=9216");
        for same in ["net_memif0,bsize=4096", "net_pcap0,iface=eth0", "0000:01:00.0"] {
            assert_eq!(with_added(same), same);
        }
    }

    #[test]
    fn a_row_names_only_arguments_that_its_driver_takes() {
        for driver in &DRIVERS {
            let files = driver.files.iter().map(|file| file.0);
            let named = files.chain(driver.interfaces.iter().copied()).chain(driver.links.iter().copied());
            named.for_each(|name| assert!(driver.arguments.contains(&name), "{} {name}", driver.name));
        }
    }

    #[test]
    fn the_interface_of_a_device_is_the_one_that_it_sends_to() {
        for (text, interface) in [
            ("vdev:net_af_packet0,iface=eth0", Some("eth0")),
            ("net_pcap0,rx_iface=in,tx_iface=out", Some("out")),
            ("net_pcap0,rx_pcap=a.pcap", None),
            ("iface:eth0", Some("eth0")),
            ("iface:eth0.7,queues=2", Some("eth0.7")),
        ] {
            assert_eq!(Devargs::new(text).kernel_interface(), interface);
        }
    }
}
