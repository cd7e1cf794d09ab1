//! `port attach|detach|start|stop|config`.

use super::super::ast::port::{PortOption, Terminate};
use super::super::ast::{Command, Name};
use super::super::diagnostic::Diagnostic;
use super::super::value::{device, ip, lcores, number, prefixes, ranges};
use super::line::{Clause, Line, Read, Verb, many, once, verb};
use tapline_api::words::{NameKind, Role, TunnelKind};

pub(super) const VERBS: &[(&str, Verb)] = &[
    ("attach", verb(Role::Admin, "NAME DEVICE [KEYS]", "attaches a port", attach)),
    ("detach", verb(Role::Admin, "NAME", "detaches a port", |line| Ok(Command::PortDetach(port(line)?)))),
    (
        "start",
        verb(Role::Admin, "NAME", "starts a port that was stopped", |line| {
            Ok(Command::PortStart(port(line)?))
        }),
    ),
    ("stop", verb(Role::Admin, "NAME", "stops a port", |line| Ok(Command::PortStop(port(line)?)))),
    (
        "config",
        verb(Role::Admin, "NAME KEYS [interrupt]", "changes what is said of a port", |line| {
            Ok(Command::PortConfig { name: port(line)?, options: line.clauses(CONFIG) })
        }),
    ),
];

/// The keys of `port config`: the word by which a port that runs may be taken down, and those of the port.
const CONFIG: &[Clause<PortOption>] = &[
    once("interrupt", |_| Ok(PortOption::Interrupt)),
    once("rxq", |line| Ok(PortOption::Rxq(line.value("rxq", number(0..=1024))?.value))),
    once("txq", |line| Ok(PortOption::Txq(line.value("txq", number(0..=1024))?.value))),
    once("rxd", |line| Ok(PortOption::Rxd(line.value("rxd", number(1..=u16::MAX))?.value))),
    once("txd", |line| Ok(PortOption::Txd(line.value("txd", number(1..=u16::MAX))?.value))),
    once("mtu", |line| Ok(PortOption::Mtu(line.value("mtu", number(68..=u16::MAX))?.value))),
    once("promiscuous", |line| Ok(PortOption::Promiscuous(line.switch()))),
    once("lcores", |line| Ok(PortOption::Lcores(line.value("lcores", lcores)?.value))),
    once("gone", |line| Ok(PortOption::Gone(line.word_of("gone")?.value))),
    once("alarm", |line| Ok(PortOption::Alarm(line.switch()))),
    many("terminate", |line| Ok(PortOption::Terminate(terminate(line)?))),
];

/// The keys of a port.
pub(super) const OPTIONS: &[Clause<PortOption>] = match CONFIG.split_first() {
    Some((_, of_port)) => of_port,
    None => &[],
};

fn port(line: &mut Line<'_>) -> Read<Name> {
    line.name_before(NameKind::Port, CONFIG)
}

fn attach(line: &mut Line<'_>) -> Read<Command> {
    line.stop_at(OPTIONS);
    let name = line.new_name(NameKind::Port)?;
    line.refuse_stop("port attach", || {
        device("").map_or_else(|misread| misread.expected, |_| String::new())
    })?;
    let device = line.value("port attach", device);
    let options = line.clauses(OPTIONS);
    Ok(Command::PortAttach { name, device: device?, options })
}

/// `terminate TUNNEL [to ADDRESS] [from PREFIXES] [vni|key|session|teid|vlan LIST] [udp-port N]`.
fn terminate(line: &mut Line<'_>) -> Read<Terminate> {
    let tunnel = line.word_of("terminate")?;
    // The word for a tunnel's own number and its greatest value, and whether the tunnel travels in UDP.
    let (id, in_udp) = match tunnel.value {
        TunnelKind::Vxlan | TunnelKind::Geneve => (Some(("vni", 0xff_ffff)), true),
        TunnelKind::Gre => (Some(("key", u32::MAX)), false),
        TunnelKind::Erspan => (Some(("session", 1023)), false),
        TunnelKind::Gtp => (Some(("teid", u32::MAX)), true),
        TunnelKind::Tzsp => (None, true),
        TunnelKind::Rspan => (Some(("vlan", 4095)), false),
    };
    let mut found = Terminate { tunnel, to: None, from: None, ids: None, udp_port: None };
    loop {
        if found.tunnel.value != TunnelKind::Rspan && found.to.is_none() && line.accept("to").is_some() {
            found.to = Some(line.value("to", ip)?);
        } else if found.tunnel.value != TunnelKind::Rspan
            && found.from.is_none()
            && line.accept("from").is_some()
        {
            found.from = Some(line.value("from", prefixes)?);
        } else if let (None, Some((id, most))) = (&found.ids, id)
            && line.accept(id).is_some()
        {
            found.ids = Some(line.value(id, ranges(most))?);
        } else if in_udp && found.udp_port.is_none() && line.accept("udp-port").is_some() {
            found.udp_port = Some(line.value("udp-port", number(1..=u16::MAX))?);
        } else {
            break;
        }
    }
    if let Some(word) = line.peek()
        && ["vni", "key", "session", "teid", "vlan"].iter().any(|other| word.is(other))
    {
        let error = Diagnostic::error(word.span, format!("`{}` does not belong to this tunnel", word.text));
        let label = match id {
            Some((id, _)) => format!("expected `{id}`, the number of this kind of tunnel"),
            None => "this kind of tunnel has no number".to_owned(),
        };
        return Err(line.report(error.label(label)));
    }
    Ok(found)
}
