//! Edits, timestamps, transports and MTUs of rules and tools: from their words to what the data path carries out.
//!
//! A part of resolve: every mistake goes to its diagnostics.

use std::net::IpAddr;
use std::path::Path;

use super::Resolver;
use super::definitions::{Definitions, Port};
use super::port::only_sends;
use crate::plan::shell_word;
use crate::plan::value::{CopyPlan, NextHopPlan, Plan, TunnelPlan};
use tapline_api::words::{Granularity, HashKind, Oversize, TimestampFormat};
use tapline_datapath::copies::edit::anonymize::{KEY_LEN, Key};
use tapline_datapath::copies::edit::{Anonymize, EditPlan, Edits, Mask, Slice, Tag};
use tapline_datapath::copies::timestamp::Timestamp;
use tapline_datapath::copies::transport::{
    Encapsulation, Erspan2, Erspan3, Outer, PathRoom, Subheader, Transport, TransportError,
};
use tapline_datapath::flow::hash::HashSpec;
use tapline_datapath::ids::EditId;
use tapline_dpdk::driver::Devargs;
use tapline_kernel::secret::wipe_stack;
use tapline_lang::ast;
use tapline_lang::ast::edit::Edit as Word;
use tapline_lang::ast::port::{Device, PortOption};
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::files::Files;
use tapline_lang::source::{Span, Spanned};
use tapline_packet::headers::ethernet;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::headers::vlan;
use tapline_packet::headers::vlan::VlanTag;
use tapline_packet::layers::Depth;
use zeroize::Zeroizing;

/// Bytes behind the Ethernet header where a port does not say.
const DEFAULT_MTU: u16 = 1500;
/// More than any form of a key has.
const MOST_KEY_BYTES: u64 = 4096;
/// The permission bits by which others than a file's owner read and write it.
const OTHERS: u32 = 0o066;
/// Time to live where a tunnel does not say (RFC 1700).
const DEFAULT_TTL: u8 = 64;

/// The options of a tool that concern its copies.
#[derive(Default)]
pub(super) struct CopyWords<'a> {
    pub transport: Option<Spanned<&'a ast::tool::Transport>>,
    pub timestamp: Option<Spanned<TimestampFormat>>,
    pub mtu: Option<Spanned<u16>>,
    pub oversize: Option<Spanned<Oversize>>,
    pub edits: Vec<Spanned<&'a ast::edit::Edit>>,
}

impl<'a> Resolver<'a> {
    /// The edits of a rule whose own are `edits`, for duplicates that are marked by a tag of `vlan`.
    pub(super) fn marked_edits_of(
        &mut self,
        edits: Option<EditId>,
        vlan: u16,
        span: Span,
    ) -> Option<EditId> {
        let edits = edits.map_or_else(Edits::default, |EditId(place)| self.edits[place].edits().clone());
        self.edit_id(Edits { mark: Some(vlan), ..edits }, span)
    }

    /// The edits of a rule or tool. Where an edit that can be done once is said again, the last one counts.
    pub(super) fn edits_of(&mut self, list: &[Spanned<&Word>]) -> Option<EditId> {
        let mut edits = Edits::default();
        for edit in list {
            match edit.value {
                Word::Strip(layers) => edits.strip = edits.strip.union(*layers),
                Word::TagVlan { vlan, label } => {
                    edits.tag = Some(Tag { tag: VlanTag { vlan: *vlan, priority: 0 }, label: *label });
                }
                Word::RewriteDstMac(mac) => edits.rewrite.destination = Some(*mac),
                Word::RewriteSrcMac(mac) => edits.rewrite.source = Some(*mac),
                Word::RewriteVlan(vlan) => edits.rewrite.vlan = Some(*vlan),
                Word::Slice { keep_bytes, after } => {
                    edits.slice = Some(Slice { keep: *keep_bytes, after: value_of(after) });
                }
                Word::Mask { offset, length, byte, after } => {
                    let (offset, len, byte, after) = (*offset, *length, *byte, value_of(after));
                    let mask = Mask { offset, len, byte, after };
                    // what the same mask wrote before, this one writes again
                    edits.masks.retain(|old| *old != mask);
                    edits.masks.push(mask);
                }
                Word::AnonymizeIp { key_file, keep, inner } => {
                    let key = match key_file {
                        Some(path) => self.key_of(path),
                        None => self.random_key(edit.span),
                    };
                    let (keep, keep_ipv6) =
                        keep.as_ref().map_or((0, 0), |keep| (keep.value.ipv4, keep.value.ipv6));
                    edits.anonymize = Some(Anonymize { key: key?, keep, keep_ipv6, inner: *inner });
                }
                Word::PayloadDrop => edits.payload_drop = true,
            }
        }
        self.edit_id(edits, list.first()?.span)
    }

    /// Rules that edit alike share what a worker remembers for it.
    fn edit_id(&mut self, edits: Edits, span: Span) -> Option<EditId> {
        match EditPlan::compile(edits) {
            Ok(plan) => {
                let place = self.edits.iter().position(|known| *known == plan).unwrap_or_else(|| {
                    self.edits.push(plan);
                    self.edits.len() - 1
                });
                Some(EditId(place))
            }
            Err(error) => {
                self.error(Diagnostic::error(span, error.to_string()));
                None
            }
        }
    }

    fn key_of(&mut self, path: &Spanned<String>) -> Option<Key> {
        let files = &*self.surroundings.files;
        let read = files.read(Path::new(&path.value), MOST_KEY_BYTES);
        let read = read.map_err(|reason| format!("`{}` cannot be read: {reason}", path.value));
        let key = read
            .map(Zeroizing::new)
            .and_then(|content| Key::from_file_content(&content).map_err(|error| error.to_string()));
        wipe_stack();
        let key = match key {
            Ok(key) => key,
            Err(message) => {
                let help = key_help(files, Path::new(&path.value));
                self.error(
                    Diagnostic::error(path.span, message).label("expected a Crypto-PAn key").help(help),
                );
                return None;
            }
        };
        // who can read the key can undo the edit, and who can write it chooses the key
        if let Some(mode) = files.mode(Path::new(&path.value)).filter(|mode| mode & OTHERS != 0) {
            let message = format!(
                "key file `{}` has mode {mode:04o}: others than its owner can read or write it",
                path.value
            );
            let help = format!("`chmod 600 {}` keeps it to its owner", shell_word(Path::new(&path.value)));
            self.error(
                Diagnostic::error(path.span, message).label("expected mode 0600 or 0400").help(help),
            );
            return None;
        }
        Some(key)
    }

    fn random_key(&mut self, span: Span) -> Option<Key> {
        if self.random_key.is_none() {
            match self.surroundings.random.key() {
                Ok(key) => self.random_key = Some(key),
                Err(reason) => self.error(Diagnostic::error(span, format!("no random key: {reason}"))),
            }
        }
        self.random_key.clone()
    }

    /// How a tool's copies differ from the packets. `port` is where they leave.
    pub(super) fn copy_plan(&mut self, words: &CopyWords<'a>, port: Option<&Port<'a>>) -> CopyPlan {
        let format = words.timestamp.as_ref().map_or(TimestampFormat::None, |word| word.value);
        let timestamp = Timestamp::from(format);
        let local = ast::tool::Transport::Local;
        let said = words.transport.as_ref().map_or(&local, |transport| transport.value);
        if let Some(word) = words.timestamp.as_ref().filter(|_| format == TimestampFormat::Erspan3)
            && !matches!(said, ast::tool::Transport::Erspan(ast::tool::Erspan { version: 3, .. }))
        {
            let message = "`timestamp erspan3` stands in the ERSPAN III header, and the tool has none";
            self.error(
                Diagnostic::error(word.span, message)
                    .label("expected `erspan3 session …` in this tool, or another format"),
            );
        }
        let edits = self.edits_of(&words.edits);
        let span = words.transport.as_ref().map(|transport| transport.span);
        let transport = match self.transport(said, timestamp) {
            Ok(transport) => transport,
            Err(error) => {
                span.into_iter().for_each(|span| self.error(Diagnostic::error(span, error.to_string())));
                Transport::Local
            }
        };
        let tunnel = outer_of(said).zip(span).map(|(outer, span)| self.tunnel(said, outer, span, port));
        let hash = transport
            .says_flow()
            .then(|| self.hash_id(HashSpec { kind: HashKind::FiveTuple, depth: Depth::Outer, seed: 0 }));
        let mtu = words.mtu.as_ref().map_or_else(|| port.map_or(DEFAULT_MTU, mtu_of), |mtu| mtu.value);
        let room = self.room(words, &transport, timestamp, mtu);
        CopyPlan { edits, timestamp, transport, tunnel, mtu, room, hash }
    }

    fn transport(
        &mut self,
        said: &ast::tool::Transport,
        timestamp: Timestamp,
    ) -> Result<Transport, TransportError> {
        let encapsulation = match said {
            ast::tool::Transport::Local => return Ok(Transport::Local),
            ast::tool::Transport::Rspan { vlan, priority, tag } => {
                return Transport::rspan(
                    vlan.value,
                    value_of(priority).unwrap_or_default(),
                    value_of(tag).unwrap_or_default(),
                );
            }
            ast::tool::Transport::Vxlan { vni, udp_port, udp_checksum, .. } => Encapsulation::Vxlan {
                vni: vni.value,
                udp_port: value_of(udp_port),
                udp_checksum: *udp_checksum,
            },
            ast::tool::Transport::Geneve { vni, udp_port, udp_checksum, .. } => Encapsulation::Geneve {
                vni: vni.value,
                udp_port: value_of(udp_port),
                udp_checksum: *udp_checksum,
            },
            ast::tool::Transport::Gre { key, .. } => Encapsulation::Gre { key: value_of(key) },
            ast::tool::Transport::Erspan(erspan) => self.erspan(erspan, timestamp.format),
        };
        match outer_of(said) {
            Some(outer) => Transport::tunnel(&outer_header(outer), &encapsulation),
            None => Ok(Transport::Local),
        }
    }

    fn erspan(&mut self, erspan: &ast::tool::Erspan, timestamp: TimestampFormat) -> Encapsulation {
        let session = erspan.session.value;
        let cos = value_of(&erspan.cos);
        let stamped = timestamp == TimestampFormat::Erspan3;
        let granularity = value_of(&erspan.granularity);
        if let (true, Some(said), Some(word)) = (stamped, granularity, &erspan.granularity)
            && said != Granularity::Ieee1588
        {
            let message = "`timestamp erspan3` counts nanoseconds";
            self.error(Diagnostic::error(word.span, message).label("expected `granularity 1588`, or none"));
        }
        if let (1 | 2, Some(direction)) = (erspan.version, &erspan.direction) {
            let message =
                format!("the header of `erspan{}` has no place for the direction", erspan.version);
            self.error(Diagnostic::warning(direction.span, message).label("`erspan3` says it"));
        }
        match erspan.version {
            1 => Encapsulation::Erspan1,
            2 => Encapsulation::Erspan2(Erspan2 { session, cos, index: value_of(&erspan.index) }),
            _ => Encapsulation::Erspan3(Erspan3 {
                session,
                cos,
                direction: value_of(&erspan.direction),
                security_group_tag: erspan.sgt.as_ref().map_or(0, |sgt| sgt.value),
                hardware: erspan.hw_id.as_ref().map(|hardware| hardware.value),
                granularity: if stamped { Granularity::Ieee1588 } else { granularity.unwrap_or_default() },
                subheader: if stamped { Subheader::Seconds { switch: 0 } } else { Subheader::None },
            }),
        }
    }

    fn tunnel(
        &mut self,
        said: &ast::tool::Transport,
        outer: &ast::tool::Outer,
        span: Span,
        port: Option<&Port<'a>>,
    ) -> TunnelPlan {
        let next_hop = match outer.next_hop.as_ref().map(|next_hop| next_hop.value) {
            Some(ast::tool::NextHop::Mac(mac)) => NextHopPlan::Mac(mac),
            Some(ast::tool::NextHop::Ip(address)) => self.asked(address, span, port),
            None => self.asked(outer.dst.value, span, port),
        };
        let session = match said {
            ast::tool::Transport::Erspan(erspan) => {
                format!("erspan{} {}", erspan.version, erspan.session.value)
            }
            ast::tool::Transport::Vxlan { vni, .. } => format!("vxlan {}", vni.value),
            ast::tool::Transport::Geneve { vni, .. } => format!("geneve {}", vni.value),
            ast::tool::Transport::Gre { key: Some(key), .. } => format!("gre {}", key.value),
            ast::tool::Transport::Gre { key: None, .. } => "gre".to_owned(),
            ast::tool::Transport::Local | ast::tool::Transport::Rspan { .. } => String::new(),
        };
        TunnelPlan {
            source: outer.src.value,
            vlan: outer_tag(outer),
            next_hop,
            session: (outer.src.value, outer.dst.value, session),
        }
    }

    /// A next hop that has to be asked for, on a port that can hear the answer.
    fn asked(&mut self, address: IpAddr, span: Span, port: Option<&Port<'a>>) -> NextHopPlan {
        let Some(port) = port else { return NextHopPlan::Ask(address) };
        let name = &port.name.value;
        if only_writes_a_file(&port.device.value) {
            let message = format!(
                "port `{name}` writes a file, where nobody answers for {address}: frames are addressed to all"
            );
            self.error(Diagnostic::warning(span, message).label("`next-hop MAC` gives them an address"));
            return NextHopPlan::Mac(MacAddress::BROADCAST);
        }
        if only_sends(port) {
            let message = format!("port `{name}` has no receive queue to hear who answers for {address}");
            self.error(
                Diagnostic::error(span, message)
                    .label("expected a port with rxq 1 or more, or `next-hop MAC` in this tool"),
            );
        }
        NextHopPlan::Ask(address)
    }

    /// Finds what the path carries: always for tunnels, and for other tools that say so.
    fn room(
        &mut self,
        words: &CopyWords<'a>,
        transport: &Transport,
        timestamp: Timestamp,
        mtu: u16,
    ) -> Option<PathRoom> {
        if !transport.is_tunnel() && words.mtu.is_none() && words.oversize.is_none() {
            return None;
        }
        let oversize = value_of(&words.oversize).unwrap_or_default();
        let room = PathRoom::new(mtu.into(), transport, timestamp.added_len(), oversize);
        if room.longest_frame_bytes() < ethernet::MIN_FRAME_LEN {
            let span = words
                .mtu
                .as_ref()
                .map(|mtu| mtu.span)
                .or(words.transport.as_ref().map(|transport| transport.span));
            let added = transport.overhead_bytes() + timestamp.added_len();
            let message = format!(
                "an MTU of {mtu} bytes has no room for a frame beside the {added} bytes that this tool adds"
            );
            let least = usize::from(mtu) + ethernet::MIN_FRAME_LEN - room.longest_frame_bytes();
            span.into_iter().for_each(|span| {
                self.error(
                    Diagnostic::error(span, message.clone()).label(format!("expected at least {least}")),
                )
            });
        }
        Some(room)
    }

    /// Refuses tools that say `oversize fragment-never` and may get frames that do not fit.
    pub(super) fn check_paths(&mut self, plan: &Plan, definitions: &Definitions<'a>) {
        for ((id, tool), definition) in plan.tools.entries().zip(&definitions.tools) {
            let Some(room) = tool.copy.room else { continue };
            let said = definition
                .options
                .iter()
                .rev()
                .find(|option| matches!(option.value, ast::tool::ToolOption::Oversize(_)));
            let Some(said) = said else { continue };
            let of_tool = tool.copy.edits.map(|id| &plan.work.edits[id]);
            let too_long = plan
                .rules
                .iter()
                .filter(|rule| plan.tools_of(&rule.targets).any(|target| target == id))
                .find_map(|rule| {
                    let of_rule = rule.duplicate_edits.or(rule.edits).map(|id| &plan.work.edits[id]);
                    rule.sources.iter().find_map(|&port| {
                        let longest = usize::from(mtu_of(&definitions.ports[port]))
                            + ethernet::HEADER_LEN
                            + vlan::TAG_LEN;
                        let len = [of_rule, of_tool]
                            .into_iter()
                            .flatten()
                            .fold(longest, |len, edits| edits.longest(len));
                        room.check(len).err().map(|fits| (rule.priority, port, len, fits))
                    })
                });
            if let Some((rule, port, len, fits)) = too_long {
                let port = &plan.ports[port].name;
                let message = format!(
                    "copies of up to {len} bytes, by rule {rule} from port `{port}`, do not fit tool `{}`, whose path carries {fits}",
                    tool.name
                );
                self.error(
                    Diagnostic::error(said.span, message)
                        .label("expected a larger `mtu`, a `slice`, or `oversize slice` or `drop`"),
                );
            }
        }
    }
}

/// How to make a key. What is there, a link that leads nowhere too, is never written over by what is advised.
fn key_help(files: &dyn Files, path: &Path) -> String {
    match files.is_free(path) {
        true => format!("`(umask 077; head -c {KEY_LEN} /dev/urandom > {})` makes one", shell_word(path)),
        false => format!(
            "a key has {KEY_LEN} bytes, or twice as many hexadecimal digits; name a file that is not there, to be told how to make one"
        ),
    }
}

/// Bytes behind the Ethernet header that a port carries.
fn mtu_of(port: &Port<'_>) -> u16 {
    let said = port.options.iter().rev().find_map(|option| match option.value {
        PortOption::Mtu(mtu) => Some(mtu),
        _ => None,
    });
    said.unwrap_or(DEFAULT_MTU)
}

/// Returns whether a device writes a capture file and receives nothing.
pub(super) fn only_writes_a_file(device: &Device) -> bool {
    let Device::Devargs(devargs) = device else { return false };
    let devargs = Devargs::new(devargs);
    devargs.goes_by_libpcap()
        && devargs.text().contains(",tx_pcap=")
        && !devargs
            .text()
            .split(',')
            .any(|argument| argument.starts_with("rx_") || argument.contains("iface="))
}

fn outer_of(said: &ast::tool::Transport) -> Option<&ast::tool::Outer> {
    match said {
        ast::tool::Transport::Local | ast::tool::Transport::Rspan { .. } => None,
        ast::tool::Transport::Erspan(erspan) => Some(&erspan.outer),
        ast::tool::Transport::Vxlan { outer, .. }
        | ast::tool::Transport::Geneve { outer, .. }
        | ast::tool::Transport::Gre { outer, .. } => Some(outer),
    }
}

fn outer_tag(outer: &ast::tool::Outer) -> Option<VlanTag> {
    let priority = outer.priority.as_ref().map_or(0, |priority| priority.value);
    outer.vlan.as_ref().map(|vlan| VlanTag { vlan: vlan.value, priority })
}

/// The MAC addresses are settled when the tool's port is attached and the next hop is known.
fn outer_header(outer: &ast::tool::Outer) -> Outer {
    Outer {
        source_mac: MacAddress::default(),
        destination_mac: MacAddress::default(),
        vlan: outer_tag(outer),
        source: outer.src.value,
        destination: outer.dst.value,
        dscp: outer.dscp.as_ref().map_or(0, |dscp| dscp.value),
        ttl: outer.ttl.as_ref().map_or(DEFAULT_TTL, |ttl| ttl.value),
        dont_fragment: outer.df.as_ref().is_none_or(|df| df.value),
    }
}

/// Returns what was said, without its place.
fn value_of<T: Copy>(said: &Option<Spanned<T>>) -> Option<T> {
    said.as_ref().map(|said| said.value)
}
