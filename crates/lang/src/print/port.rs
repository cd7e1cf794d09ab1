//! `port …`: devices, their options, and tunnels that end at a port.

use std::fmt::{self, Display};
use std::net::IpAddr;

use super::super::ast::port::{Device, Iface, Loops, PortOption, Terminate};
use super::value::{bytes, count, duration, lcores, ranges, replay_speed};
use super::{Print, Words};
use tapline_api::values::ReplaySpeed;
use tapline_api::words::TunnelKind;
use tapline_packet::prefix::Prefix;

impl Print for Device {
    fn print(&self, line: &mut Words) {
        line.text(&self.to_string());
    }
}

/// The device as one word, without quotes.
impl Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Devargs(devargs) => f.write_str(devargs),
            Device::Replay { path, speed, loops, max_gap } => {
                write!(f, "replay:{path}")?;
                if *speed != ReplaySpeed::Original {
                    write!(f, ",speed={}", replay_speed(*speed))?;
                }
                match loops {
                    Loops::Times(1) => {}
                    Loops::Times(times) => write!(f, ",loop={}", count(*times))?,
                    Loops::Forever => f.write_str(",loop=forever")?,
                }
                match max_gap {
                    Some(max_gap) => write!(f, ",maxgap={}", duration(*max_gap)),
                    None => Ok(()),
                }
            }
            Device::Iface(iface) => write!(f, "{iface}"),
        }
    }
}

/// The interface with what is not as it is where nothing is said.
impl Display for Iface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Iface { interface, queues, takes_outgoing, ends_offloads, wants_nic_times, ring_bytes } = self;
        write!(f, "iface:{interface}")?;
        if *queues != 1 {
            write!(f, ",queues={queues}")?;
        }
        if *takes_outgoing {
            f.write_str(",outgoing=on")?;
        }
        if *ends_offloads {
            f.write_str(",offloads=off")?;
        }
        if *wants_nic_times {
            f.write_str(",time=nic")?;
        }
        match ring_bytes {
            Some(ring_bytes) => write!(f, ",buffer={}", bytes(*ring_bytes)),
            None => Ok(()),
        }
    }
}

impl Print for PortOption {
    fn print(&self, line: &mut Words) {
        match self {
            PortOption::Rxq(queues) => line.word("rxq").word(queues),
            PortOption::Txq(queues) => line.word("txq").word(queues),
            PortOption::Rxd(descriptors) => line.word("rxd").word(descriptors),
            PortOption::Txd(descriptors) => line.word("txd").word(descriptors),
            PortOption::Mtu(mtu) => line.word("mtu").word(mtu),
            PortOption::Promiscuous(is_on) => line.word("promiscuous").switch(*is_on),
            PortOption::Lcores(list) => line.word("lcores").word(lcores(list)),
            PortOption::Gone(when) => line.word("gone").word(when),
            PortOption::Alarm(is_on) => line.word("alarm").switch(*is_on),
            PortOption::Terminate(terminate) => line.print(terminate),
            PortOption::Interrupt => line.word("interrupt"),
        };
    }
}

impl Print for Terminate {
    fn print(&self, line: &mut Words) {
        let Terminate { tunnel, to, from, ids, udp_port } = self;
        let id = match tunnel.value {
            TunnelKind::Vxlan | TunnelKind::Geneve => "vni",
            TunnelKind::Gre => "key",
            TunnelKind::Erspan => "session",
            TunnelKind::Gtp => "teid",
            TunnelKind::Rspan => "vlan",
            // it has no number of its own, and so no word for one
            TunnelKind::Tzsp => "id",
        };
        line.word("terminate").word(tunnel.value).key("to", to, IpAddr::to_string);
        line.key("from", from, |from| from.iter().map(Prefix::to_string).collect::<Vec<_>>().join(","));
        line.key(id, ids, ranges).key("udp-port", udp_port, u16::to_string);
    }
}
