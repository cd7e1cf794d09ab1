//! The reason why a rule takes a packet or does not: its conditions one by one, with the packet's own values, and the fewest conditions
//! whose change turns the answer.
//!
//! The data path decides which rules match, and not this module. If an expression is not understood and its conditions come to another
//! answer, the filters are shown whole, as the data path runs them.

use super::expression::{Expression, Formula};
use super::fields::Fields;
use crate::plan::origin::{FilterOrigin, FilterText, RuleOrigin, layer_words};
use serde::Serialize;
use tapline_datapath::classify::{FilterTerm, Matcher, select_term};
use tapline_datapath::receive::decap::OuterId;
use tapline_filter::terms::{Term, VlanSet};
use tapline_filter::through::{Inside, inside};
use tapline_filter::{Program, compile};
use tapline_packet::burst::{Known, Selection};
use tapline_packet::frame::Frame;
use tapline_packet::headers::layer::LayerSet;
use tapline_packet::headers::{ethernet, u16_at};
use tapline_packet::layers::{Depth, Layers, parse};

/// A condition, and what the packet has in its place.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Because {
    /// A pcap-filter expression, or the words of another term.
    pub primitive: String,
    /// The layers that it looks through, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// The packet's own; empty where it has nothing to say in a word.
    pub value: String,
    pub result: bool,
}

/// The answer to why.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Reason {
    pub because: Vec<Because>,
    /// The places in `because` of the fewest conditions whose change turns the answer.
    pub flips: Vec<usize>,
}

/// The packets of a burst, as rules saw them.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub frames: &'a [Frame<'a>],
    pub layers: Known<'a, Layers>,
    pub outer: Known<'a, OuterId>,
}

enum Condition {
    Vlans(VlanSet),
    Program { program: Program, through: LayerSet },
    List { filter: FilterTerm },
    Term(Term),
}

struct Named {
    words: String,
    condition: Condition,
}

/// The conditions of a rule.
pub struct Conditions {
    /// Taken apart as far as they are understood.
    fine: (Vec<Named>, Formula),
    /// Filter by filter.
    coarse: (Vec<Named>, Formula),
}

impl Conditions {
    /// Takes a rule's conditions apart; `matcher` is what the data path runs of them.
    pub fn new(matcher: &Matcher, origin: &RuleOrigin) -> Self {
        Self { fine: conditions(matcher, origin, true), coarse: conditions(matcher, origin, false) }
    }

    /// Says why the rule matches packet `index`, or does not.
    pub fn why(&self, seen: &Seen<'_>, index: usize, is_match: bool) -> Reason {
        let mut values: Vec<bool> = Vec::new();
        let (named, formula) = [&self.fine, &self.coarse]
            .into_iter()
            .find(|(named, formula)| {
                values = named.iter().map(|named| named.condition.holds(seen, index)).collect();
                formula.holds(&values) == is_match
            })
            .unwrap_or(&self.coarse);
        let because = named.iter().zip(&values).map(|(named, &result)| Because {
            primitive: named.words.clone(),
            through: named.condition.through(),
            value: named.condition.value(&named.words, seen, index),
            result,
        });
        Reason { because: because.collect(), flips: formula.flips(&values) }
    }
}

fn conditions(matcher: &Matcher, origin: &RuleOrigin, is_fine: bool) -> (Vec<Named>, Formula) {
    let mut named = Vec::new();
    let mut parts = Vec::new();
    if let Some(vlans) = &matcher.vlans {
        let words = origin.vlans.clone().unwrap_or_else(|| "vlan".to_owned());
        parts.push(Formula::Primitive(named.len()));
        named.push(Named { words, condition: Condition::Vlans(vlans.clone()) });
    }
    for (place, filter) in matcher.filters.iter().enumerate() {
        let written = origin.filters.get(place);
        parts.push(of_filter(filter, written, is_fine, &mut named));
    }
    for (place, term) in matcher.terms.iter().enumerate() {
        let words = origin.terms.get(place).cloned().unwrap_or_default();
        parts.push(Formula::Primitive(named.len()));
        named.push(Named { words, condition: Condition::Term(term.clone()) });
    }
    (named, Formula::All(parts))
}

/// Adds the conditions of a filter.
fn of_filter(
    filter: &FilterTerm,
    written: Option<&FilterOrigin>,
    is_fine: bool,
    named: &mut Vec<Named>,
) -> Formula {
    let (expression, words) = match written.map(|written| &written.source) {
        Some(FilterText::Expression(text)) => (Expression::parse(text).filter(|_| is_fine), text.clone()),
        Some(FilterText::List(path)) => (None, format!("file {path}")),
        None => (None, String::new()),
    };
    let parts: Option<Vec<Named>> = expression.as_ref().and_then(|expression: &Expression| {
        let each = expression.primitives.iter().map(|text| {
            let program = compile(text).ok()?;
            let condition = Condition::Program { program, through: filter.through };
            Some(Named { words: String::clone(text), condition })
        });
        each.collect()
    });
    let first = named.len();
    match (parts, expression) {
        (Some(parts), Some(expression)) => {
            named.extend(parts);
            shifted(expression.formula, first)
        }
        _ => {
            named.push(Named { words, condition: Condition::List { filter: filter.clone() } });
            Formula::Primitive(first)
        }
    }
}

/// The formula with the places of its primitives counted from `first`.
fn shifted(formula: Formula, first: usize) -> Formula {
    let each = |parts: Vec<Formula>| parts.into_iter().map(|part| shifted(part, first)).collect();
    match formula {
        Formula::Primitive(place) => Formula::Primitive(first + place),
        Formula::Not(inner) => Formula::Not(Box::new(shifted(*inner, first))),
        Formula::All(parts) => Formula::All(each(parts)),
        Formula::Any(parts) => Formula::Any(each(parts)),
    }
}

impl Condition {
    fn holds(&self, seen: &Seen<'_>, index: usize) -> bool {
        let only = Selection::only(index);
        let matches = |program: &Program, through: LayerSet| match looked_at(seen, index, through) {
            Inside::Whole(frame) => program.matches(&frame),
            Inside::Split(frame) => program.matches_split(&frame),
        };
        match self {
            Condition::Vlans(vlans) => !vlans.select(seen.frames, only).is_empty(),
            Condition::Program { program, through } => matches(program, *through),
            Condition::List { filter } => {
                let is_listed = filter
                    .prefixes
                    .as_ref()
                    .is_some_and(|set| !(set.select(seen.frames, only) & only).is_empty());
                is_listed || filter.programs.iter().any(|program| matches(program, filter.through))
            }
            Condition::Term(term) => {
                !select_term(term, seen.frames, seen.layers, seen.outer, only).is_empty()
            }
        }
    }

    fn through(&self) -> Option<String> {
        let through = match self {
            Condition::Program { through, .. } => *through,
            Condition::List { filter } => filter.through,
            Condition::Vlans(_) | Condition::Term(_) => return None,
        };
        (!through.is_empty()).then(|| layer_words(through))
    }

    /// Says what the packet has where a condition, which reads `words`, looks.
    fn value(&self, words: &str, seen: &Seen<'_>, index: usize) -> String {
        let through = match self {
            Condition::Program { through, .. } => *through,
            Condition::List { filter } => filter.through,
            Condition::Vlans(_) => LayerSet::default(),
            Condition::Term(term) => return of_term(term, seen, index),
        };
        match looked_at(seen, index, through) {
            Inside::Whole(frame) => value_of(words, &frame),
            Inside::Split(frame) => {
                let bytes = [&frame.header()[..], frame.payload()].concat();
                value_of(words, &Frame::new(&bytes, frame.original_len()))
            }
        }
    }
}

fn looked_at<'a>(seen: &Seen<'a>, index: usize, through: LayerSet) -> Inside<'a> {
    let layers = seen.layers.get(index).unwrap_or(&Layers::EMPTY);
    inside(through, &seen.frames[index], layers)
}

/// The identifiers of a packet that a term asks about.
fn of_term(term: &Term, seen: &Seen<'_>, index: usize) -> String {
    let bytes = seen.frames[index].bytes();
    let shells = seen.layers.get(index).map_or(&[][..], Layers::shells);
    let outer = seen.outer.get(index).copied().unwrap_or_default();
    let (name, found): (&str, Vec<u32>) = match term {
        Term::Vni(_) => {
            ("vni", shells.iter().filter_map(|shell| shell.vni(bytes)).chain(outer.vni).collect())
        }
        Term::Teid(_) => {
            ("teid", shells.iter().filter_map(|shell| shell.teid(bytes)).chain(outer.teid).collect())
        }
        Term::MplsLabel(_) => ("label", shells.iter().flat_map(|shell| shell.labels(bytes)).collect()),
        Term::Bytes(_) => return String::new(),
    };
    match &found[..] {
        [] => format!("there is no {name}"),
        [only] => format!("{name} is {only}"),
        all => format!("{name}s are {}", all.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// Says what stands between the link header and the network header, where filters look for that: they see a tag there, and no packet.
fn in_front(fields: &Fields, bytes: &[u8]) -> Option<String> {
    let ethertype = u16_at(bytes, ethernet::ADDRESSES_LEN)?;
    let is_read = fields.addresses.is_some() || fields.arp_operation.is_some();
    if !is_read || fields.ethertype == Some(ethertype) {
        return None;
    }
    Some(match fields.vlan {
        Some(vlan) => format!("vlan {vlan} is in front, which only `through` looks behind"),
        None => format!("ethertype {ethertype:#06x} is in front, which only `through` looks behind"),
    })
}

/// Gives the number of the IPv6 extension header that stands in front of the transport header, if one does.
fn extension(layers: &Layers, bytes: &[u8]) -> Option<u8> {
    const NEXT_HEADER: usize = 6;
    let stack = &layers.outer;
    let next = bytes.get(stack.l3() + NEXT_HEADER).copied().filter(|_| stack.is_ipv6())?;
    (next != stack.protocol()).then_some(next)
}

/// Says what a frame has where a primitive looks: the first thing that is asked for and is not so, or is.
fn value_of(words: &str, frame: &Frame<'_>) -> String {
    let layers = parse(frame, Depth::Full);
    let fields = Fields::of(frame.bytes(), &layers);
    let all: Vec<&str> = words.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    let has = |any: &[&str]| any.iter().any(|word| all.contains(word));
    let protocol = || match (fields.protocol_name(), extension(&layers, frame.bytes())) {
        (Some(protocol), Some(extension)) => {
            format!(
                "IPv6 extension header {extension} is in front of {protocol}, which filters do not look behind"
            )
        }
        (Some(protocol), None) => format!("protocol is {protocol}"),
        (None, _) => format!("it is {}", fields.network_name()),
    };
    if has(&["vlan"]) && all.len() <= 3 {
        return fields
            .vlan
            .map_or_else(|| "there is no VLAN tag".to_owned(), |vlan| format!("vlan is {vlan}"));
    }
    if has(&["len", "less", "greater"]) {
        return format!("length is {}", frame.original_len());
    }
    if let Some(in_front) = in_front(&fields, frame.bytes())
        && !has(&["ether", "vlan", "mpls", "pppoes", "pppoed"])
    {
        return in_front;
    }
    let asked = ["tcp", "udp", "sctp"].into_iter().find(|name| all.contains(name));
    if has(&["port", "portrange"]) {
        return match (fields.ports, fields.protocol_name()) {
            (ports, Some(name))
                if asked.is_none_or(|asked| asked == name)
                    && extension(&layers, frame.bytes()).is_none() =>
            {
                match ports {
                    Some((source, destination)) => format!("{name} ports are {source} and {destination}"),
                    None => format!("protocol is {name}, and its ports are not there"),
                }
            }
            _ => protocol(),
        };
    }
    if has(&["ether"]) && !has(&["proto"]) {
        return fields.macs.map_or_else(String::new, |(source, destination)| {
            format!("MAC addresses are {source} and {destination}")
        });
    }
    if has(&["host", "net", "src", "dst"]) || words.starts_with("file ") {
        return match fields.addresses {
            Some((source, destination)) => format!("addresses are {source} and {destination}"),
            None => format!("it is {}", fields.network_name()),
        };
    }
    if has(&["ip", "ip6", "arp", "rarp"]) && !words.contains('[') {
        return format!("it is {}", fields.network_name());
    }
    if words.contains('[') && has(&["tcp"]) && fields.tcp_flags.is_some() && has(&["tcpflags", "13"]) {
        return format!("tcp flags are {:#04x}", fields.tcp_flags.unwrap_or_default());
    }
    protocol()
}
