//! The fields of a packet's headers, under the names that Wireshark gives them.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};
use tapline_packet::headers::ethernet;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::ipv4::Ipv4;
use tapline_packet::headers::ipv6::Ipv6;
use tapline_packet::headers::{chunk, ip, u16_at};
use tapline_packet::layers::{Layers, Stack};

/// The type that announces a service tag (IEEE 802.1ad), for which Wireshark has fields of their own.
const SERVICE_TAG: u16 = 0x88a8;

/// TCP flags from the lowest bit on, by the letters that tcpdump prints.
const TCP_FLAGS: &[u8] = b"FSRP.UEW";

/// The headers of one stack: link, network, transport.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Fields {
    pub macs: Option<(MacAddress, MacAddress)>,
    pub ethertype: Option<u16>,
    /// The id of the outermost VLAN tag.
    pub vlan: Option<u16>,
    /// That tag is a service tag of 802.1ad.
    pub is_service_vlan: bool,
    pub addresses: Option<(IpAddr, IpAddr)>,
    pub ttl: Option<u8>,
    pub protocol: Option<u8>,
    pub ports: Option<(u16, u16)>,
    pub tcp_flags: Option<u8>,
    /// Type and code of ICMP and ICMPv6.
    pub icmp: Option<(u8, u8)>,
    pub arp_operation: Option<u16>,
    /// The words of the tunnels and tags that are around the innermost headers.
    pub layers: Vec<String>,
    /// The innermost headers, where there are layers in front that carry a packet.
    pub inner: Option<Box<Fields>>,
}

impl Fields {
    /// Reads the fields of a packet whose layers are known to the innermost.
    pub fn of(bytes: &[u8], layers: &Layers) -> Self {
        let word = |shell: &tapline_packet::layers::Shell| match shell.kind.row().word {
            Ok(layer) => layer.word().to_owned(),
            Err(name) => name.to_string(),
        };
        let mut fields = Self::of_stack(bytes, &layers.outer);
        fields.layers = layers.shells().iter().map(word).collect();
        if layers.inner != layers.outer {
            fields.inner = Some(Box::new(Self::of_stack(bytes, &layers.inner)));
        }
        fields
    }

    fn of_stack(bytes: &[u8], stack: &Stack) -> Self {
        let mut fields = Self::default();
        if let Some(at) = stack.ethernet() {
            let mac = |at: usize| chunk::<6>(bytes, at).map(|mac| MacAddress(*mac));
            fields.macs = mac(at + 6).zip(mac(at));
            fields.vlan = stack.vlan(bytes);
            fields.is_service_vlan = u16_at(bytes, at + ethernet::ADDRESSES_LEN) == Some(SERVICE_TAG);
        }
        let is_known = !bytes.is_empty() && (stack.network().is_some() || stack.ethernet().is_some());
        fields.ethertype = is_known.then(|| stack.ethertype());
        if stack.is_ipv4()
            && let Some(header) = Ipv4::at(bytes, stack.l3())
        {
            let address = |word: u32| IpAddr::V4(Ipv4Addr::from(word));
            fields.addresses = Some((address(header.source()), address(header.destination())));
            fields.ttl = Some(header.ttl());
            fields.protocol = Some(stack.protocol());
        } else if stack.is_ipv6()
            && let Some(header) = Ipv6::at(bytes, stack.l3())
        {
            let address = |word: u128| IpAddr::V6(Ipv6Addr::from(word));
            fields.addresses = Some((address(header.source()), address(header.destination())));
            fields.ttl = bytes.get(stack.l3() + 7).copied();
            fields.protocol = Some(stack.protocol());
        } else if stack.is_arp() {
            fields.arp_operation = u16_at(bytes, stack.l3() + 6);
        }
        let Some(l4) = stack.l4().filter(|_| !stack.is_later_fragment()) else { return fields };
        if stack.has_ports() {
            fields.ports = u16_at(bytes, l4).zip(u16_at(bytes, l4 + 2));
        }
        match stack.protocol() {
            ip::TCP => fields.tcp_flags = bytes.get(l4 + 13).copied(),
            ip::ICMP | ip::ICMPV6 => fields.icmp = bytes.get(l4).copied().zip(bytes.get(l4 + 1).copied()),
            _ => {}
        }
        fields
    }

    /// The name of the transport protocol, or its number.
    pub fn protocol_name(&self) -> Option<String> {
        Some(match self.protocol? {
            ip::TCP => "tcp".to_owned(),
            ip::UDP => "udp".to_owned(),
            ip::ICMP => "icmp".to_owned(),
            ip::ICMPV6 => "icmp6".to_owned(),
            ip::SCTP => "sctp".to_owned(),
            ip::UDP_LITE => "udplite".to_owned(),
            number => number.to_string(),
        })
    }

    /// Says the network protocol, or the type of what is none that is read.
    pub fn network_name(&self) -> String {
        match (self.addresses, self.arp_operation, self.ethertype) {
            (Some((IpAddr::V4(_), _)), ..) => "ip".to_owned(),
            (Some((IpAddr::V6(_), _)), ..) => "ip6".to_owned(),
            (None, Some(_), _) => "arp".to_owned(),
            (None, None, Some(ethertype)) => format!("ethertype {ethertype:#06x}"),
            (None, None, None) => "not read".to_owned(),
        }
    }

    /// Gives the fields under Wireshark's names; those of inner headers stand in `inner`.
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        let mut put = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
        if let Some((source, destination)) = self.macs {
            put("eth.src", json!(source.to_string()));
            put("eth.dst", json!(destination.to_string()));
        }
        if let Some(vlan) = self.vlan {
            put(if self.is_service_vlan { "ieee8021ad.id" } else { "vlan.id" }, json!(vlan));
        }
        if let Some((source, destination)) = self.addresses {
            let (name, hops) = if source.is_ipv4() { ("ip", "ip.ttl") } else { ("ipv6", "ipv6.hlim") };
            put(&format!("{name}.src"), json!(source.to_string()));
            put(&format!("{name}.dst"), json!(destination.to_string()));
            put(hops, json!(self.ttl));
        }
        if let Some(operation) = self.arp_operation {
            put("arp.opcode", json!(operation));
        }
        let protocol = self.protocol_name();
        if let (Some(protocol), Some((source, destination))) = (&protocol, self.ports) {
            put(&format!("{protocol}.srcport"), json!(source));
            put(&format!("{protocol}.dstport"), json!(destination));
        }
        if let Some(flags) = self.tcp_flags {
            put("tcp.flags", json!(flags));
        }
        if let Some((kind, code)) = self.icmp {
            let name = if self.protocol == Some(ip::ICMP) { "icmp" } else { "icmpv6" };
            put(&format!("{name}.type"), json!(kind));
            put(&format!("{name}.code"), json!(code));
        }
        let is_read = self.addresses.is_some() || self.arp_operation.is_some();
        let is_plain = self.vlan.is_none() && self.layers.is_empty();
        if let Some(ethertype) =
            self.ethertype.filter(|&of| of >= ethernet::TYPE_MIN && is_plain && !is_read)
        {
            put("eth.type", json!(ethertype));
        }
        if !self.layers.is_empty() {
            put("layers", json!(self.layers));
        }
        if let Some(inner) = &self.inner {
            put("inner", inner.to_json());
        }
        Value::Object(all)
    }

    /// Says the fields in a line, as people read packets.
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        if let Some((source, destination)) = self.macs {
            parts.push(format!("eth {source} > {destination}"));
        }
        if let Some(vlan) = self.vlan {
            parts.push(format!("vlan {vlan}"));
        }
        match self.addresses {
            Some((source, destination)) => {
                let hops = self.ttl.map_or_else(String::new, |ttl| format!(" ttl {ttl}"));
                parts.push(format!("{} {source} > {destination}{hops}", self.network_name()));
            }
            None => parts.push(self.network_name()),
        }
        if let Some(protocol) = self.protocol_name() {
            let mut part = protocol;
            if let Some((source, destination)) = self.ports {
                write!(part, " {source} > {destination}").expect("writing to a string");
            }
            if let Some(flags) = self.tcp_flags {
                let letters = TCP_FLAGS
                    .iter()
                    .enumerate()
                    .filter(|(bit, _)| flags >> bit & 1 == 1)
                    .map(|(_, &letter)| char::from(letter));
                let letters: String = letters.collect();
                write!(part, " [{letters}]").expect("writing to a string");
            }
            if let Some((kind, code)) = self.icmp {
                write!(part, " type {kind} code {code}").expect("writing to a string");
            }
            parts.push(part);
        }
        if let Some(inner) = &self.inner {
            parts.push(format!("{} [{}]", self.layers.join(" "), inner.line()));
        }
        parts.join(", ")
    }
}
