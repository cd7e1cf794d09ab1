//! `tool create|modify|destroy|drain|enable`.
//!
//! A transport and its keys stand among the other options in any order; they are put together when the line has been read.

use std::net::IpAddr;

use super::super::ast::tool::{Erspan, NextHop, Outer, Probe, ToolOption, ToolTarget, Transport};
use super::super::ast::{Command, Name};
use super::super::diagnostic::{Diagnostic, any_of};
use super::super::source::{Span, Spanned};
use super::super::value::{self, bytes, count, duration, ip, next_hop, number, percent, thresholds};
use super::edit;
use super::edit::with_edits;
use super::line::{Clause, Line, Read, Reported, Verb, many, once, verb};
use tapline_api::words::{Direction, Granularity, NameKind, Role, RspanTag};

pub(super) const VERBS: &[(&str, Verb)] = &[
    (
        "create",
        verb(
            Role::Admin,
            "NAME port PORT [TRANSPORT] [KEYS] | NAME capture PATH [KEYS] | NAME discard [KEYS]",
            "makes a tool, where copies go",
            create,
        ),
    ),
    (
        "modify",
        verb(Role::Admin, "NAME KEYS", "changes what is said of a tool", |line| {
            let name = tool(line)?;
            Ok(Command::ToolModify { name, options: options(line, None) })
        }),
    ),
    ("destroy", verb(Role::Admin, "NAME", "removes a tool", |line| Ok(Command::ToolDestroy(tool(line)?)))),
    (
        "drain",
        verb(
            Role::Operator,
            "NAME",
            "takes a tool out of service: its queue is sent, and its flows go elsewhere",
            |line| Ok(Command::ToolDrain(tool(line)?)),
        ),
    ),
    (
        "enable",
        verb(Role::Operator, "NAME", "takes a drained tool back into service", |line| {
            Ok(Command::ToolEnable(tool(line)?))
        }),
    ),
];

pub(super) type Target = fn(&mut Line<'_>) -> Read<ToolTarget>;

pub(super) const TARGETS: &[(&str, Target)] = &[
    ("port", |line| Ok(ToolTarget::Port(line.name_of("port", NameKind::Port)?))),
    ("discard", |_| Ok(ToolTarget::Discard)),
    ("capture", |line| {
        Ok(ToolTarget::Capture(line.free_text("capture", "the path of a file or directory")?))
    }),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Local,
    Rspan,
    Erspan1,
    Erspan2,
    Erspan3,
    Vxlan,
    Geneve,
    Gre,
}

/// One clause of a tool command.
pub(super) enum Item {
    Option(ToolOption),
    Kind(Kind),
    Key(Key),
}

pub(super) enum Key {
    Src(Spanned<IpAddr>),
    Dst(Spanned<IpAddr>),
    NextHop(Spanned<NextHop>),
    Vlan(Spanned<u16>),
    Priority(Spanned<u8>),
    Tag(RspanTag),
    Ttl(Spanned<u8>),
    Dscp(Spanned<u8>),
    Df(bool),
    Session(Spanned<u16>),
    Direction(Spanned<Direction>),
    Cos(Spanned<u8>),
    Sgt(Spanned<u16>),
    Index(Spanned<u32>),
    HwId(Spanned<u8>),
    Granularity(Spanned<Granularity>),
    Vni(Spanned<u32>),
    UdpPort(Spanned<u16>),
    UdpChecksum(bool),
    Gre(Spanned<u32>),
}

impl Key {
    fn word(&self) -> &'static str {
        match self {
            Key::Src(_) => "src",
            Key::Dst(_) => "dst",
            Key::NextHop(_) => "next-hop",
            Key::Vlan(_) => "vlan",
            Key::Priority(_) => "priority",
            Key::Tag(tag) => tag.word(),
            Key::Ttl(_) => "ttl",
            Key::Dscp(_) => "dscp",
            Key::Df(_) => "df",
            Key::Session(_) => "session",
            Key::Direction(_) => "direction",
            Key::Cos(_) => "cos",
            Key::Sgt(_) => "sgt",
            Key::Index(_) => "index",
            Key::HwId(_) => "hw-id",
            Key::Granularity(_) => "granularity",
            Key::Vni(_) => "vni",
            Key::UdpPort(_) => "udp-port",
            Key::UdpChecksum(_) => "udp-checksum",
            Key::Gre(_) => "key",
        }
    }
}

/// The transports: their words, the keys that they must have and those that they may have.
struct Grammar {
    kind: Kind,
    word: &'static str,
    required: &'static [&'static str],
    /// Beside those of the outer headers.
    optional: &'static [&'static str],
    is_tunnel: bool,
}

const OUTER_KEYS: &[&str] = &["next-hop", "vlan", "priority", "ttl", "dscp", "df"];

const TRANSPORTS: &[Grammar] = &[
    Grammar { kind: Kind::Local, word: "local", required: &[], optional: &[], is_tunnel: false },
    Grammar {
        kind: Kind::Rspan,
        word: "rspan",
        required: &["vlan"],
        optional: &["priority", RspanTag::Replace.word(), RspanTag::Push.word()],
        is_tunnel: false,
    },
    Grammar {
        kind: Kind::Erspan1,
        word: "erspan1",
        required: &["session", "src", "dst"],
        optional: &[],
        is_tunnel: true,
    },
    Grammar {
        kind: Kind::Erspan2,
        word: "erspan2",
        required: &["session", "src", "dst"],
        optional: &["direction", "cos", "index"],
        is_tunnel: true,
    },
    Grammar {
        kind: Kind::Erspan3,
        word: "erspan3",
        required: &["session", "src", "dst"],
        optional: &["direction", "cos", "sgt", "hw-id", "granularity"],
        is_tunnel: true,
    },
    Grammar {
        kind: Kind::Vxlan,
        word: "vxlan",
        required: &["vni", "src", "dst"],
        optional: &["udp-port", "udp-checksum"],
        is_tunnel: true,
    },
    Grammar {
        kind: Kind::Geneve,
        word: "geneve",
        required: &["vni", "src", "dst"],
        optional: &["udp-port", "udp-checksum"],
        is_tunnel: true,
    },
    Grammar {
        kind: Kind::Gre,
        word: "gre",
        required: &["src", "dst"],
        optional: &["key"],
        is_tunnel: true,
    },
];

impl Grammar {
    fn of(kind: Kind) -> &'static Grammar {
        TRANSPORTS.iter().find(|grammar| grammar.kind == kind).expect("every kind has its row")
    }

    fn has(&self, key: &str) -> bool {
        self.keys().contains(&key)
    }

    fn keys(&self) -> Vec<&'static str> {
        let outer = if self.is_tunnel { OUTER_KEYS } else { &[] };
        [self.required, self.optional, outer].concat()
    }
}

const fn transport(word: &'static str, read: fn(&mut Line<'_>) -> Read<Item>) -> Clause<Item> {
    once(word, read)
}

pub(super) const OPTIONS: &[Clause<Item>] = with_edits!(|edit| Item::Option(ToolOption::Edit(edit)); [
    transport("local", |_| Ok(Item::Kind(Kind::Local))),
    transport("rspan", |_| Ok(Item::Kind(Kind::Rspan))),
    transport("erspan1", |_| Ok(Item::Kind(Kind::Erspan1))),
    transport("erspan2", |_| Ok(Item::Kind(Kind::Erspan2))),
    transport("erspan3", |_| Ok(Item::Kind(Kind::Erspan3))),
    transport("vxlan", |_| Ok(Item::Kind(Kind::Vxlan))),
    transport("geneve", |_| Ok(Item::Kind(Kind::Geneve))),
    transport("gre", |_| Ok(Item::Kind(Kind::Gre))),
    once("src", |line| Ok(Item::Key(Key::Src(line.value("src", ip)?)))),
    once("dst", |line| Ok(Item::Key(Key::Dst(line.value("dst", ip)?)))),
    once("next-hop", |line| Ok(Item::Key(Key::NextHop(line.value("next-hop", next_hop)?)))),
    once("vlan", |line| Ok(Item::Key(Key::Vlan(line.value("vlan", number(1..=4094))?)))),
    once("priority", |line| Ok(Item::Key(Key::Priority(line.value("priority", number(0..=7))?)))),
    once(RspanTag::Replace.word(), |_| Ok(Item::Key(Key::Tag(RspanTag::Replace)))),
    once(RspanTag::Push.word(), |_| Ok(Item::Key(Key::Tag(RspanTag::Push)))),
    once("ttl", |line| Ok(Item::Key(Key::Ttl(line.value("ttl", number(1..=255))?)))),
    once("dscp", |line| Ok(Item::Key(Key::Dscp(line.value("dscp", number(0..=63))?)))),
    once("df", |line| Ok(Item::Key(Key::Df(line.switch())))),
    once("session", |line| Ok(Item::Key(Key::Session(line.value("session", number(0..=1023))?)))),
    once("direction", |line| Ok(Item::Key(Key::Direction(line.word_of("direction")?)))),
    once("cos", |line| Ok(Item::Key(Key::Cos(line.value("cos", number(0..=7))?)))),
    once("sgt", |line| Ok(Item::Key(Key::Sgt(line.value("sgt", number(0..=u16::MAX))?)))),
    once("index", |line| Ok(Item::Key(Key::Index(line.value("index", number(0..=0xf_ffff))?)))),
    once("hw-id", |line| Ok(Item::Key(Key::HwId(line.value("hw-id", number(0..=63))?)))),
    once("granularity", |line| Ok(Item::Key(Key::Granularity(line.word_of("granularity")?)))),
    once("vni", |line| Ok(Item::Key(Key::Vni(line.value("vni", number(0..=0xff_ffff))?)))),
    once("udp-port", |line| Ok(Item::Key(Key::UdpPort(line.value("udp-port", number(1..=u16::MAX))?)))),
    once("udp-checksum", |line| Ok(Item::Key(Key::UdpChecksum(line.switch())))),
    once("key", |line| Ok(Item::Key(Key::Gre(line.value("key", number(0..=u32::MAX))?)))),
    once("mtu", |line| Ok(Item::Option(ToolOption::Mtu(line.value("mtu", number(68..=u16::MAX))?.value)))),
    once("queue", |line| {
        let packets = line.value("queue", count(1..=1 << 20))?.value;
        let bytes = line.optional("bytes", |line| line.value("bytes", bytes))?;
        Ok(Item::Option(ToolOption::Queue { packets, bytes }))
    }),
    once("thresholds", |line| {
        let (low, normal) = line.value("thresholds", thresholds)?.value;
        Ok(Item::Option(ToolOption::Thresholds { low, normal }))
    }),
    once("rate", |line| {
        let rate = line.value("rate", value::rate)?;
        let burst = line.optional("burst", |line| line.value("burst", duration))?;
        Ok(Item::Option(ToolOption::Rate { rate, burst }))
    }),
    once("timestamp", |line| Ok(Item::Option(ToolOption::Timestamp(line.word_of("timestamp")?.value)))),
    once("order", |line| {
        line.expect("window")?;
        Ok(Item::Option(ToolOption::Order(line.value("order window", duration)?.value)))
    }),
    once("oversize", |line| Ok(Item::Option(ToolOption::Oversize(line.word_of("oversize")?.value)))),
    once("rotate", |line| Ok(Item::Option(ToolOption::Rotate(line.value("rotate", value::rotate)?.value)))),
    once("keep", |line| Ok(Item::Option(ToolOption::Keep(line.value("keep", bytes)?.value)))),
    once("heartbeat", |line| {
        let probe = probe(line)?;
        let back = line.optional("return", |line| line.name(NameKind::Port))?;
        Ok(Item::Option(ToolOption::Heartbeat { probe, back }))
    }),
    once("echo", |line| Ok(Item::Option(ToolOption::Echo(probe(line)?)))),
    once("down-after", |line| {
        Ok(Item::Option(ToolOption::DownAfter(line.value("down-after", duration)?.value)))
    }),
    once("up-after", |line| Ok(Item::Option(ToolOption::UpAfter(line.value("up-after", duration)?.value)))),
    once("alarm", |line| {
        if let Some(is_on) = line.said_switch() {
            return Ok(Item::Option(ToolOption::Alarmed(is_on)));
        }
        let percent = line.value("alarm", percent)?.value;
        let hold = line.optional("hold", |line| line.value("hold", duration))?;
        Ok(Item::Option(ToolOption::Alarm { percent, hold }))
    }),
] []);

fn tool(line: &mut Line<'_>) -> Read<Name> {
    line.name_before(NameKind::Tool, OPTIONS)
}

fn create(line: &mut Line<'_>) -> Read<Command> {
    // `discard` and `capture` may be names; `port` shows that the name was forgotten.
    line.stop_at_words(["port"].into_iter());
    let name = line.new_name(NameKind::Tool);
    if name.is_err() && line.peek().is_none() {
        return Err(Reported);
    }
    let first = line.peek().map(|word| word.span);
    let read_target = line.keyword("kind of tool", TARGETS);
    line.stop_at(OPTIONS);
    let target = read_target.and_then(|read| read(line));
    let target =
        target.map(|target| Spanned::new(target, first.map_or(line.end(), |first| line.since(first))));
    // What a tool cannot have depends on what it is.
    let options = options(line, target.as_ref().ok());
    Ok(Command::ToolCreate { name: name?, target: target?, options })
}

/// `every 100ms [timeout 300ms] [retries 3]`.
fn probe(line: &mut Line<'_>) -> Read<Probe> {
    line.expect("every")?;
    let every = line.value("every", duration)?;
    let timeout = line.optional("timeout", |line| line.value("timeout", duration))?;
    let retries = line.optional("retries", |line| line.value("retries", number(0..=1000)))?;
    Ok(Probe { every, timeout, retries })
}

fn options(line: &mut Line<'_>, target: Option<&Spanned<ToolTarget>>) -> Vec<Spanned<ToolOption>> {
    let mut options = Vec::new();
    let (mut kinds, mut keys) = (Vec::new(), Vec::new());
    for item in line.clauses(OPTIONS) {
        match item.value {
            Item::Option(option) => options.push(Spanned::new(option, item.span)),
            Item::Kind(kind) => kinds.push(Spanned::new(kind, item.span)),
            Item::Key(key) => keys.push(Spanned::new(key, item.span)),
        }
    }
    if let Ok(Some(transport)) = assemble(line, &kinds, keys) {
        options.push(transport);
    }
    if let Some(target) = target.filter(|_| !line.is_flawed()) {
        check_target(line, &target.value, &options);
    }
    options
}

/// Captures have files, ports have frames on a cable.
fn check_target(line: &mut Line<'_>, target: &ToolTarget, options: &[Spanned<ToolOption>]) {
    for option in options {
        let (what, place, fits) = match &option.value {
            ToolOption::Rotate(_) => {
                ("`rotate`", "`capture PATH`", matches!(target, ToolTarget::Capture(_)))
            }
            ToolOption::Keep(_) => ("`keep`", "`capture PATH`", matches!(target, ToolTarget::Capture(_))),
            ToolOption::Transport(transport) if **transport == Transport::Local => continue,
            ToolOption::Transport(_) => {
                ("a transport", "`port NAME`", matches!(target, ToolTarget::Port(_)))
            }
            _ => continue,
        };
        if !fits {
            let error =
                Diagnostic::error(option.span, format!("{what} does not belong to this kind of tool"));
            line.report(error.label(format!("expected only behind {place}")));
        }
    }
}

/// Puts a transport together from its word and its keys.
fn assemble(
    line: &mut Line<'_>,
    kinds: &[Spanned<Kind>],
    keys: Vec<Spanned<Key>>,
) -> Read<Option<Spanned<ToolOption>>> {
    if let Some(second) = kinds.get(1).filter(|_| !line.is_flawed()) {
        let error =
            Diagnostic::error(second.span, "a tool has one transport").label("expected no second one");
        return Err(line.report(error));
    }
    let Some(kind) = kinds.first() else {
        return match keys.first() {
            // The word before it may be the transport, misspelt.
            Some(key) if !line.is_flawed() => {
                let word = key.value.word();
                let fitting: Vec<&str> = TRANSPORTS
                    .iter()
                    .filter(|grammar| grammar.has(word))
                    .map(|grammar| grammar.word)
                    .collect();
                let error = Diagnostic::error(
                    key.span,
                    format!("`{word}` belongs to a transport, and the tool has none"),
                );
                Err(line.report(error.label(format!("expected {} in this line", any_of(&fitting)))))
            }
            Some(_) => Err(Reported),
            None => Ok(None),
        };
    };
    let grammar = Grammar::of(kind.value);
    // Behind another mistake, a key may only seem to be missing or out of place.
    if line.is_flawed() {
        return Keys::gather(keys)
            .transport(line, kind.value)
            .map(|transport| Some(as_option(transport, kind.span)));
    }
    let mut outcome = Ok(());
    for key in &keys {
        if !grammar.has(key.value.word()) {
            let message = format!("`{}` does not belong to `{}`", key.value.word(), grammar.word);
            let label = match grammar.keys().as_slice() {
                [] => format!("expected no keys; `{}` has none", grammar.word),
                keys => format!("expected {}", any_of(keys)),
            };
            outcome = Err(line.report(Diagnostic::error(key.span, message).label(label)));
        }
    }
    for required in grammar.required {
        if outcome.is_ok() && !keys.iter().any(|key| key.value.word() == *required) {
            let message = format!("`{}` lacks `{required}`", grammar.word);
            let label = format!("expected {} with it", grammar.required.join(", "));
            outcome = Err(line.report(Diagnostic::error(kind.span, message).label(label)));
        }
    }
    outcome?;
    let transport = Keys::gather(keys).transport(line, kind.value)?;
    Ok(Some(as_option(transport, kind.span)))
}

fn as_option(transport: Transport, span: Span) -> Spanned<ToolOption> {
    Spanned::new(ToolOption::Transport(Box::new(transport)), span)
}

/// Every key of every transport, as far as it was given.
#[derive(Default)]
struct Keys {
    src: Option<Spanned<IpAddr>>,
    dst: Option<Spanned<IpAddr>>,
    next_hop: Option<Spanned<NextHop>>,
    vlan: Option<Spanned<u16>>,
    priority: Option<Spanned<u8>>,
    tag: Option<Spanned<RspanTag>>,
    ttl: Option<Spanned<u8>>,
    dscp: Option<Spanned<u8>>,
    df: Option<Spanned<bool>>,
    session: Option<Spanned<u16>>,
    direction: Option<Spanned<Direction>>,
    cos: Option<Spanned<u8>>,
    sgt: Option<Spanned<u16>>,
    index: Option<Spanned<u32>>,
    hw_id: Option<Spanned<u8>>,
    granularity: Option<Spanned<Granularity>>,
    vni: Option<Spanned<u32>>,
    udp_port: Option<Spanned<u16>>,
    udp_checksum: Option<bool>,
    gre_key: Option<Spanned<u32>>,
}

impl Keys {
    fn gather(given: Vec<Spanned<Key>>) -> Keys {
        let mut keys = Keys::default();
        for key in given {
            match key.value {
                Key::Src(src) => keys.src = Some(src),
                Key::Dst(dst) => keys.dst = Some(dst),
                Key::NextHop(next_hop) => keys.next_hop = Some(next_hop),
                Key::Vlan(vlan) => keys.vlan = Some(vlan),
                Key::Priority(priority) => keys.priority = Some(priority),
                Key::Tag(tag) => keys.tag = Some(Spanned::new(tag, key.span)),
                Key::Ttl(ttl) => keys.ttl = Some(ttl),
                Key::Dscp(dscp) => keys.dscp = Some(dscp),
                Key::Df(df) => keys.df = Some(Spanned::new(df, key.span)),
                Key::Session(session) => keys.session = Some(session),
                Key::Direction(direction) => keys.direction = Some(direction),
                Key::Cos(cos) => keys.cos = Some(cos),
                Key::Sgt(sgt) => keys.sgt = Some(sgt),
                Key::Index(index) => keys.index = Some(index),
                Key::HwId(hw_id) => keys.hw_id = Some(hw_id),
                Key::Granularity(granularity) => keys.granularity = Some(granularity),
                Key::Vni(vni) => keys.vni = Some(vni),
                Key::UdpPort(udp_port) => keys.udp_port = Some(udp_port),
                Key::UdpChecksum(udp_checksum) => keys.udp_checksum = Some(udp_checksum),
                Key::Gre(gre_key) => keys.gre_key = Some(gre_key),
            }
        }
        keys
    }

    /// # Errors
    /// `Reported` when a required key is absent, which only a line with another mistake lets through.
    fn transport(mut self, line: &mut Line<'_>, kind: Kind) -> Read<Transport> {
        let version = match kind {
            Kind::Local => return Ok(Transport::Local),
            Kind::Rspan => {
                let vlan = self.vlan.ok_or(Reported)?;
                return Ok(Transport::Rspan { vlan, priority: self.priority, tag: self.tag });
            }
            Kind::Erspan1 => 1,
            Kind::Erspan2 => 2,
            Kind::Erspan3 => 3,
            Kind::Vxlan => {
                let (vni, udp_port) = (self.vni.take().ok_or(Reported)?, self.udp_port.take());
                return Ok(Transport::Vxlan {
                    vni,
                    udp_port,
                    udp_checksum: self.udp_checksum,
                    outer: self.outer(line)?,
                });
            }
            Kind::Geneve => {
                let (vni, udp_port) = (self.vni.take().ok_or(Reported)?, self.udp_port.take());
                return Ok(Transport::Geneve {
                    vni,
                    udp_port,
                    udp_checksum: self.udp_checksum,
                    outer: self.outer(line)?,
                });
            }
            Kind::Gre => return Ok(Transport::Gre { key: self.gre_key.take(), outer: self.outer(line)? }),
        };
        Ok(Transport::Erspan(Erspan {
            version,
            session: self.session.take().ok_or(Reported)?,
            direction: self.direction.take(),
            cos: self.cos.take(),
            sgt: self.sgt.take(),
            index: self.index.take(),
            hw_id: self.hw_id.take(),
            granularity: self.granularity.take(),
            outer: self.outer(line)?,
        }))
    }

    fn outer(self, line: &mut Line<'_>) -> Read<Outer> {
        let (src, dst) = (self.src.ok_or(Reported)?, self.dst.ok_or(Reported)?);
        let next_hop_ip = self.next_hop.as_ref().and_then(|next_hop| match next_hop.value {
            NextHop::Ip(ip) => Some((ip, next_hop.span)),
            NextHop::Mac(_) => None,
        });
        let others = [Some((src.value, src.span)), next_hop_ip];
        let odd: Option<Span> = others
            .into_iter()
            .flatten()
            .find(|(ip, _)| ip.is_ipv4() != dst.value.is_ipv4())
            .map(|(_, span)| span);
        if let Some(span) = odd {
            let version = if dst.value.is_ipv4() { "IPv4" } else { "IPv6" };
            let error = Diagnostic::error(span, "the addresses of a tunnel are of one IP version");
            return Err(line.report(error.label(format!("expected an {version} address, as `dst` is"))));
        }
        Ok(Outer {
            src,
            dst,
            next_hop: self.next_hop,
            vlan: self.vlan,
            priority: self.priority,
            ttl: self.ttl,
            dscp: self.dscp,
            df: self.df,
        })
    }
}
