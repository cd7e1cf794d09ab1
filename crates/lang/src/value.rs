//! The values of the language: one function for each, from the text of a word.
//!
//! Each says what it expected when it cannot read the text; reading the empty text always fails, which is how a missing value is
//! described.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::ast::edit::KeepPrefix;
use super::ast::filter::FilterSource;
use super::ast::port::{Device, Iface, Loops};
use super::ast::rule::{RuleSource, Window};
use super::ast::tool::NextHop;
use super::ast::{Name, Ranges};
use super::suggest::nearest;
use tapline_api::values::{Rate, ReplaySpeed};
use tapline_api::words::{Vocabulary, WireDirection};
use tapline_packet::headers::ethernet;
use tapline_packet::headers::ethernet::MacAddress;
use tapline_packet::layers;
use tapline_packet::prefix::{Prefix, PrefixError};

/// Why a text is not the value that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Misread {
    /// A description of what would have been right.
    pub expected: String,
    /// The bytes of the text that are wrong, if not all of them.
    pub part: Option<Range<usize>>,
    pub help: Option<String>,
}

impl Misread {
    pub(crate) fn expected(expected: impl Into<String>) -> Misread {
        Misread { expected: expected.into(), part: None, help: None }
    }

    fn at(mut self, part: Range<usize>) -> Misread {
        self.part = Some(part);
        self
    }

    fn help(mut self, help: impl Into<String>) -> Misread {
        self.help = Some(help.into());
        self
    }

    /// Moves the wrong part by `offset` bytes; `whole` is the part if there was none.
    fn within(mut self, whole: Range<usize>) -> Misread {
        self.part = Some(match self.part {
            Some(part) => part.start + whole.start..part.end + whole.start,
            None => whole,
        });
        self
    }
}

pub(crate) type Value<T> = Result<T, Misread>;

/// A number without a unit.
pub(crate) fn number<T: TryFrom<u64> + PartialOrd + Display + Copy>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Value<T> {
    move |text| {
        let read = unsigned(text).and_then(|n| T::try_from(n).ok()).filter(|n| range.contains(n));
        read.ok_or_else(|| Misread::expected(format!("a number from {} to {}", range.start(), range.end())))
    }
}

/// A type that may announce VLAN tags: one that stands for nothing else that Tapline reads.
pub(crate) fn tpid(text: &str) -> Value<u16> {
    let read = unsigned(text).and_then(|n| u16::try_from(n).ok());
    match read.filter(|ethertype| *ethertype >= ethernet::TYPE_MIN) {
        Some(ethertype) if layers::has_other_meaning(ethertype) => {
            Err(Misread::expected("a type of VLAN tags, such as 0x8200; this one is of something else"))
        }
        Some(ethertype) => Ok(ethertype),
        None => Err(Misread::expected("a type of VLAN tags, such as 0x8200, from 0x0600 to 0xffff")),
    }
}

/// Decimal digits, or hexadecimal ones behind `0x`. No sign.
fn unsigned(text: &str) -> Option<u64> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

// Units of the language with their sizes, the least first. Of two that are alike, the first one is written.
pub(crate) const DECIMAL: [(&str, u64); 6] =
    [("", 1), ("k", 1000), ("K", 1000), ("M", 1_000_000), ("G", 1_000_000_000), ("T", 1_000_000_000_000)];
pub(crate) const BINARY: [(&str, u64); 4] =
    [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("Ti", 1 << 40)];
pub(crate) const TIME: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];
pub(crate) const BITS: [(&str, u64); 5] =
    [("bit", 1), ("kbit", 1000), ("mbit", 1_000_000), ("gbit", 1_000_000_000), ("tbit", 1_000_000_000_000)];
pub(crate) const PACKETS: [(&str, u64); 4] =
    [("pps", 1), ("kpps", 1000), ("mpps", 1_000_000), ("gpps", 1_000_000_000)];

/// A number with one of `units` behind it; fractions only where they come out whole.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let scale = u128::from(units.iter().find(|(name, _)| *name == unit)?.1);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 15 {
        return None;
    }
    let parts_of_one = 10_u128.pow(fraction.len() as u32);
    let fraction = u128::from(fraction.parse::<u64>().ok()?) * scale;
    if !fraction.is_multiple_of(parts_of_one) {
        return None;
    }
    u64::try_from(u128::from(whole.parse::<u64>().ok()?) * scale + fraction / parts_of_one).ok()
}

/// A count of things: `4096`, `1M`.
pub(crate) fn count(range: RangeInclusive<u64>) -> impl Fn(&str) -> Value<u64> {
    move |text| {
        let read = scaled(text, &DECIMAL).filter(|n| range.contains(n));
        let (least, most) = (range.start(), range.end());
        let expected = || match *most {
            u64::MAX => format!("a number from {least}, such as 4096, 10k or 1M"),
            _ => format!("a number from {least} to {most}, such as 4096, 10k or 1M"),
        };
        read.ok_or_else(|| Misread::expected(expected()))
    }
}

/// Bytes: `1500`, `64k`, `1G` (powers of 1000), `64Ki`, `1Gi` (powers of 1024).
pub(crate) fn bytes(text: &str) -> Value<u64> {
    let read = scaled(text, &DECIMAL).or_else(|| scaled(text, &BINARY)).filter(|&n| n > 0);
    read.ok_or_else(|| Misread::expected("a size in bytes, such as 1500, 64k, 1G or 1Gi"))
}

/// A duration with its unit.
pub(crate) fn duration(text: &str) -> Value<Duration> {
    let read = scaled(text, &TIME).filter(|&n| n > 0).map(Duration::from_nanos);
    read.ok_or_else(|| {
        let misread = Misread::expected("a duration, such as 50us, 1ms, 10s, 30m or 1h");
        if unsigned(text).is_some_and(|n| n > 0) {
            misread.help(format!("a duration has a unit: `{text}s`"))
        } else {
            misread
        }
    })
}

/// `5gbit`, `100kpps`.
pub(crate) fn rate(text: &str) -> Value<Rate> {
    let lower = text.to_ascii_lowercase();
    let bits = scaled(&lower, &BITS).filter(|&n| n > 0).map(Rate::BitsPerSecond);
    let read = bits.or_else(|| scaled(&lower, &PACKETS).filter(|&n| n > 0).map(Rate::PacketsPerSecond));
    read.ok_or_else(|| {
        Misread::expected("a rate in bits or packets a second, such as 500mbit, 5gbit, 100kpps or 2mpps")
    })
}

/// N of `1/N`.
pub(crate) fn one_in(text: &str) -> Value<u32> {
    let read = text.strip_prefix("1/").and_then(|n| number(1..=u32::MAX)(n).ok());
    read.ok_or_else(|| Misread::expected(format!("1/N, with N from 1 to {}", u32::MAX)))
}

/// `80%`.
pub(crate) fn percent(text: &str) -> Value<u8> {
    let read = text.strip_suffix('%').and_then(|n| number(1..=99)(n).ok());
    read.ok_or_else(|| Misread::expected("a share from 1% to 99%"))
}

/// `50%,80%`, ascending.
pub(crate) fn thresholds(text: &str) -> Value<(u8, u8)> {
    let read =
        text.split_once(',').and_then(|(low, normal)| Some((percent(low).ok()?, percent(normal).ok()?)));
    read.filter(|(low, normal)| low <= normal).ok_or_else(|| {
        Misread::expected("LOW%,NORMAL%, two shares from 1% to 99%, the first not above the second")
    })
}

pub(crate) fn ip(text: &str) -> Value<IpAddr> {
    text.parse().map_err(|_| Misread::expected("an IPv4 or IPv6 address"))
}

/// `10.0.0.0/8,2001:db8::7`: prefixes and addresses.
pub(crate) fn prefixes(text: &str) -> Value<Vec<Prefix>> {
    let read = |(part, item): (Range<usize>, &str)| {
        item.parse::<Prefix>().map_err(|error| {
            let expected = "addresses or prefixes, such as 10.0.0.0/8,2001:db8::7";
            Misread::expected(match error {
                PrefixError::Syntax => expected.to_owned(),
                error => format!("{expected}; {error}"),
            })
            .within(part)
        })
    };
    items(text).map(read).collect()
}

pub(crate) fn mac(text: &str) -> Value<MacAddress> {
    let mut octets = [0; 6];
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let is_octet =
        |part: &&str| (1..=2).contains(&part.len()) && part.chars().all(|c| c.is_ascii_hexdigit());
    if parts.len() != 6 || !parts.iter().all(is_octet) {
        return Err(Misread::expected("a MAC address, such as 02:00:00:00:00:01"));
    }
    for (octet, part) in octets.iter_mut().zip(parts) {
        *octet = u8::from_str_radix(part, 16).unwrap_or_default();
    }
    Ok(MacAddress(octets))
}

pub(crate) fn next_hop(text: &str) -> Value<NextHop> {
    let read = ip(text).map(NextHop::Ip).or_else(|_| mac(text).map(NextHop::Mac));
    read.map_err(|_| Misread::expected("an IPv4, IPv6 or MAC address"))
}

/// Any text but none; `expected` names it.
pub(crate) fn text(expected: &'static str) -> impl Fn(&str) -> Value<String> {
    move |text| if text.is_empty() { Err(Misread::expected(expected)) } else { Ok(text.into()) }
}

/// Words that follow names in the grammar: a forgotten name is recognised by them.
pub(crate) const RESERVED: [&str; 29] = [
    "any",
    "all",
    "file",
    "port",
    "ports",
    "tools",
    "from",
    "to",
    "match",
    "and",
    "through",
    "vlan",
    "vni",
    "teid",
    "mpls-label",
    "bytes",
    "sample",
    "dedup",
    "strip",
    "tag",
    "rewrite",
    "slice",
    "mask",
    "anonymize",
    "payload",
    "final",
    "drop",
    "class",
    "limit",
];

/// The name of a thing that a command defines.
pub(crate) fn new_name(text: &str) -> Value<String> {
    if RESERVED.contains(&text) {
        return Err(Misread::expected("a name that is no word of the language"));
    }
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !starts_well
        || text.len() > 63
        || !text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    {
        return Err(Misread::expected(
            "a name of up to 63 letters, digits, `_`, `-` and `.`, beginning with a letter or digit",
        ));
    }
    Ok(text.into())
}

/// `7`, `100-110`, `1,5-9`: numbers up to `most`.
pub(crate) fn ranges(most: u32) -> impl Fn(&str) -> Value<Ranges> {
    move |text| {
        let one = number(0..=most);
        let mut found = Vec::new();
        for (part, item) in items(text) {
            let range = match item.split_once('-') {
                None => one(item).map(|n| (n, n)),
                Some((first, last)) => one(first).and_then(|first| Ok((first, one(last)?))),
            };
            let expected =
                || Misread::expected(format!("numbers from 0 to {most}, such as 7, 100-110 or 1,5-9"));
            match range {
                Err(_) => return Err(expected().within(part)),
                Ok((first, last)) if first > last => {
                    return Err(expected()
                        .help(format!("the range counts upwards: `{last}-{first}`"))
                        .within(part));
                }
                Ok(range) => found.push(range),
            }
        }
        Ok(Ranges(found))
    }
}

/// The lcores of `1-3,5`, each once, as written.
pub(crate) fn lcores(text: &str) -> Value<Vec<u32>> {
    // RTE_MAX_LCORE is 128 in distributions and never above this in DPDK's own configurations.
    const MOST: u32 = 1023;
    let ranges = ranges(MOST)(text)?;
    let mut lcores = Vec::new();
    for (index, (first, last)) in ranges.0.into_iter().enumerate() {
        for lcore in first..=last {
            if lcores.contains(&lcore) {
                let part = items(text).nth(index).map_or(0..text.len(), |(part, _)| part);
                return Err(Misread::expected(format!("each lcore once; {lcore} is named before")).at(part));
            }
            lcores.push(lcore);
        }
    }
    Ok(lcores)
}

/// The items of a comma list with their byte ranges.
pub(crate) fn items(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut at = 0;
    text.split(',').map(move |item| {
        let start = at;
        at += item.len() + 1;
        (start..start + item.len(), item)
    })
}

/// The device of a port.
pub(crate) fn device(text: &str) -> Value<Device> {
    if let Some(interface) = text.strip_prefix("iface:") {
        return iface(interface).map(Device::Iface);
    }
    let Some(replay) = text.strip_prefix("replay:") else {
        return match text {
            "" => Err(Misread::expected(
                "iface:INTERFACE, a device such as 0000:01:00.0 or net_pcap0,rx_pcap=FILE, or replay:FILE",
            )),
            _ => Ok(Device::Devargs(text.into())),
        };
    };
    let (mut speed, mut loops, mut max_gap) = (ReplaySpeed::Original, Loops::Times(1), None);
    let mut items =
        items(replay).map(|(part, item)| (part.start + "replay:".len()..part.end + "replay:".len(), item));
    let path = items.next().map_or("", |(_, path)| path);
    if path.is_empty() {
        return Err(Misread::expected("replay:FILE[,speed=original|max|2x][,loop=N][,maxgap=DURATION]"));
    }
    for (part, item) in items {
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        match key {
            "speed" => speed = replay_speed(value).map_err(|misread| misread.within(part))?,
            "loop" if value == "forever" => loops = Loops::Forever,
            "loop" => {
                let expected = |_| Misread::expected("loop=N, N from 1, or loop=forever").at(part);
                loops = Loops::Times(count(1..=u64::MAX)(value).map_err(expected)?);
            }
            "maxgap" => {
                let expected = |_| Misread::expected("maxgap=DURATION, such as maxgap=1s").at(part);
                max_gap = Some(duration(value).map_err(expected)?);
            }
            _ => {
                let expected = "speed=original|max|2x, loop=N or maxgap=DURATION";
                let misread = Misread::expected(expected).at(part.start..part.start + key.len());
                return Err(match nearest(key, ["speed", "loop", "maxgap"]) {
                    Some(near) => misread.help(format!("did you mean `{near}`?")),
                    None => misread,
                });
            }
        }
    }
    Ok(Device::Replay { path: path.into(), speed, loops, max_gap })
}

/// The longest name of an interface, in bytes (`IFNAMSIZ` less its zero).
const LONGEST_INTERFACE: usize = 15;
/// Sizes of a ring that can be asked for.
const RING_BYTES: RangeInclusive<u64> = 256 << 10..=2 << 30;

/// Reads the words behind `iface:`.
fn iface(text: &str) -> Value<Iface> {
    const PREFIX: usize = "iface:".len();
    const KEYS: [&str; 5] = ["queues", "outgoing", "offloads", "time", "buffer"];
    let mut items = items(text).map(|(part, item)| (part.start + PREFIX..part.end + PREFIX, item));
    let name = items.next().map_or("", |(_, name)| name);
    let is_name = !name.is_empty()
        && name.len() <= LONGEST_INTERFACE
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if !is_name {
        return Err(Misread::expected(
            "iface:INTERFACE[,queues=N][,outgoing=on|off][,offloads=keep|off][,time=kernel|nic][,buffer=SIZE]",
        ));
    }
    let mut iface = Iface {
        interface: name.into(),
        queues: 1,
        takes_outgoing: false,
        ends_offloads: false,
        wants_nic_times: false,
        ring_bytes: None,
    };
    for (part, item) in items {
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        let expected = |text: &str| Misread::expected(text).at(part.clone());
        match (key, value) {
            ("queues", _) => {
                let queues = number(0..=64)(value);
                iface.queues = queues.map_err(|_| expected("queues=N, N from 0 to 64; 0 only sends"))?;
            }
            ("outgoing", "on" | "off") => iface.takes_outgoing = value == "on",
            ("outgoing", _) => return Err(expected("outgoing=on or outgoing=off")),
            ("offloads", "keep" | "off") => iface.ends_offloads = value == "off",
            ("offloads", _) => return Err(expected("offloads=keep or offloads=off")),
            ("time", "kernel" | "nic") => iface.wants_nic_times = value == "nic",
            ("time", _) => return Err(expected("time=kernel or time=nic")),
            ("buffer", _) => {
                let size = bytes(value).ok().filter(|size| RING_BYTES.contains(size));
                let size =
                    size.ok_or_else(|| expected("buffer=SIZE, from 256Ki to 2Gi, such as buffer=64Mi"))?;
                iface.ring_bytes = Some(size);
            }
            _ => {
                let misread = Misread::expected("queues, outgoing, offloads, time or buffer")
                    .at(part.start..part.start + key.len());
                return Err(match nearest(key, KEYS) {
                    Some(near) => misread.help(format!("did you mean `{near}`?")),
                    None => misread,
                });
            }
        }
    }
    Ok(iface)
}

fn replay_speed(text: &str) -> Value<ReplaySpeed> {
    let times = |factor| scaled(factor, &[("", 1000)]).filter(|&n| n > 0);
    match text {
        "original" => Ok(ReplaySpeed::Original),
        "max" => Ok(ReplaySpeed::Max),
        _ => match text.strip_suffix('x').and_then(times) {
            Some(thousandths) => Ok(ReplaySpeed::Times { thousandths }),
            None => Err(Misread::expected("speed=original, speed=max or a factor such as speed=2x")),
        },
    }
}

/// A port, a wire, a wire's direction or `any`.
pub(crate) fn rule_source(text: &str) -> Value<RuleSource> {
    match text.split_once(':') {
        _ if text.is_empty() => {
            Err(Misread::expected("a port, a wire, a wire's direction such as w0:a-to-b, or any"))
        }
        None if text == "any" => Ok(RuleSource::Any),
        None => Ok(RuleSource::Named(text.into())),
        Some((wire, direction)) => {
            let direction = WireDirection::of_word(direction).ok_or_else(|| {
                let [one, other] = WireDirection::ALL;
                Misread::expected(format!("{one} or {other} behind a wire's name"))
                    .at(wire.len() + 1..text.len())
            })?;
            Ok(RuleSource::WireDirection { wire: wire.into(), direction })
        }
    }
}

/// Reads the source of a filter. A text that no filter can have as its name, or that is quoted, is an expression.
pub(crate) fn filter_source(text: &str, quoted: bool) -> FilterSource {
    if quoted || new_name(text).is_err() {
        FilterSource::Expression(text.into())
    } else {
        FilterSource::Named(text.into())
    }
}

/// The two names of `A,B`.
pub(crate) fn pair(names: Vec<Name>) -> Option<(Name, Name)> {
    let [a, b]: [Name; 2] = names.try_into().ok()?;
    Some((a, b))
}

/// `HEX[/MASK]`: value and mask of one length.
pub(crate) fn hex_mask(text: &str) -> Value<(Vec<u8>, Vec<u8>)> {
    const EXPECTED: &str = "HEX or HEX/MASK, such as 0x4745 or 0x80/0xf0";
    let (value, mask) = text.split_once('/').map_or((text, None), |(value, mask)| (value, Some(mask)));
    let mask_part = value.len() + 1..text.len();
    let value = hex_bytes(value).ok_or_else(|| Misread::expected(EXPECTED).at(0..value.len()))?;
    let mask = match mask {
        None => vec![0xff; value.len()],
        Some(mask) => hex_bytes(mask).ok_or_else(|| Misread::expected(EXPECTED).at(mask_part.clone()))?,
    };
    if mask.len() != value.len() {
        return Err(
            Misread::expected(format!("a mask as long as the value, {} bytes", value.len())).at(mask_part)
        );
    }
    if value.iter().zip(&mask).any(|(v, m)| v & !m != 0) {
        return Err(Misread::expected("a mask that covers every bit of the value").at(mask_part));
    }
    Ok((value, mask))
}

fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    const MOST: usize = 64;
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_hex = digits.bytes().all(|c| c.is_ascii_hexdigit());
    if !is_hex || digits.is_empty() || !digits.len().is_multiple_of(2) || digits.len() > 2 * MOST {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

/// `0xNN`.
pub(crate) fn byte(text: &str) -> Value<u8> {
    let read = text
        .strip_prefix("0x")
        .filter(|digits| digits.len() == 2)
        .and_then(|digits| u8::from_str_radix(digits, 16).ok());
    read.ok_or_else(|| Misread::expected("a byte from 0x00 to 0xff"))
}

/// `16/48`: leading bits kept of IPv4 and of IPv6 addresses.
pub(crate) fn keep_prefix(text: &str) -> Value<KeepPrefix> {
    let read = text.split_once('/').and_then(|(ipv4, ipv6)| {
        Some(KeepPrefix { ipv4: number(0..=32)(ipv4).ok()?, ipv6: number(0..=128)(ipv6).ok()? })
    });
    read.ok_or_else(|| Misread::expected("IPV4/IPV6, bits from 0 to 32 and from 0 to 128, such as 16/48"))
}

/// `2026-12-01T00:00:00Z`, in nanoseconds since the Unix epoch (RFC 3339; years 1970 to 2553, so that they fit).
pub(crate) fn timestamp(text: &str) -> Value<u64> {
    rfc3339(text).ok_or_else(|| {
        Misread::expected("a time such as 2026-12-01T00:00:00Z or 2026-12-01T01:00:00.5+01:00")
    })
}

fn rfc3339(text: &str) -> Option<u64> {
    let field = |range: Range<usize>, most: i64| {
        let digits = text.get(range).filter(|t| t.bytes().all(|c| c.is_ascii_digit()))?;
        digits.parse::<i64>().ok().filter(|&n| n <= most)
    };
    let separators = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
    if separators.iter().any(|&(at, separator)| text.get(at..at + 1) != Some(separator)) {
        return None;
    }
    let (year, month, day) = (field(0..4, 9999)?, field(5..7, 12)?, field(8..10, 31)?);
    let (hour, minute, second) = (field(11..13, 23)?, field(14..16, 59)?, field(17..19, 59)?);
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 9 {
            return None;
        }
        nanos = fraction[..digits].parse::<i64>().ok()? * 10_i64.pow(9 - digits as u32);
        rest = &fraction[digits..];
    }
    let offset_minutes = match rest.as_bytes() {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|c| c.is_ascii_digit()) =>
        {
            let two = |tens: &u8, ones: &u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
            let (hours, minutes) = (two(h1, h2), two(m1, m2));
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month_index = usize::try_from(month.checked_sub(1)?).ok()?;
    if day < 1 || day > *month_days.get(month_index)? {
        return None;
    }
    let leap_days_before = |year: i64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let days = (year - 1970) * 365 + leap_days_before(year) - leap_days_before(1970)
        + month_days[..month_index].iter().sum::<i64>()
        + day
        - 1;
    let seconds = ((days * 24 + hour) * 60 + minute - offset_minutes) * 60 + second;
    u64::try_from(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).ok()
}

/// The windows of `active`: `Mon-Fri 08:00-18:00; Sat,Sun 10:00-12:00`.
pub(crate) fn windows(text: &str) -> Value<Vec<Window>> {
    let mut found = Vec::new();
    let mut at = 0;
    for piece in text.split(';') {
        let start = at + (piece.len() - piece.trim_start().len());
        let window = piece.trim();
        at += piece.len() + 1;
        found.push(self::window(window).map_err(|misread| misread.within(start..start + window.len()))?);
    }
    Ok(found)
}

fn window(text: &str) -> Value<Window> {
    const EXPECTED: &str = "DAYS HH:MM-HH:MM, such as Mon-Fri 08:00-18:00, several separated by `;`";
    let (days, hours) =
        text.split_once(char::is_whitespace).map_or((text, ""), |(days, hours)| (days, hours.trim_start()));
    let days_part = 0..days.len();
    let hours_part = text.len() - hours.len()..text.len();
    let days = week_days(days).ok_or_else(|| {
        Misread::expected(if text.is_empty() { EXPECTED } else { "days such as Mon-Fri, Sat,Sun or daily" })
            .at(days_part)
    })?;
    if hours.is_empty() {
        return Err(Misread::expected(EXPECTED));
    }
    let read =
        hours.split_once('-').and_then(|(from, until)| Some((minute_of_day(from)?, minute_of_day(until)?)));
    let (from_minute, until_minute) = read
        .filter(|(from, until)| from != until && *from < 1440)
        .ok_or_else(|| Misread::expected("HH:MM-HH:MM, from 00:00 to 24:00").at(hours_part))?;
    // Midnight as an end is the end of the day, whichever way it is written.
    Ok(Window { days, from_minute, until_minute: if until_minute == 0 { 1440 } else { until_minute } })
}

fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) =
        text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
    let (hour, minute) = (number(0..=24)(hour).ok()?, number(0..=59)(minute).ok()?);
    Some(hour * 60 + minute).filter(|&total: &u16| total <= 1440)
}

/// In any case; bit 0 is the first.
pub(crate) const WEEK_DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

fn week_days(text: &str) -> Option<u8> {
    if text.eq_ignore_ascii_case("daily") {
        return Some(0x7f);
    }
    let day = |name: &str| WEEK_DAYS.iter().position(|known| known.eq_ignore_ascii_case(name));
    let mut days = 0;
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (mut index, last) = (day(first)?, day(last)?);
        days |= 1 << index;
        while index != last {
            index = (index + 1) % 7;
            days |= 1 << index;
        }
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_suffixes_are_exact() {
        assert_eq!(count(1..=u64::MAX)("1.5M"), Ok(1_500_000));
        assert_eq!(bytes("100G"), Ok(100_000_000_000));
        assert_eq!(bytes("64Ki"), Ok(65536));
        assert_eq!(duration("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("50µs"), Ok(Duration::from_micros(50)));
        assert_eq!(rate("2.5gbit"), Ok(Rate::BitsPerSecond(2_500_000_000)));
        assert_eq!(rate("100kpps"), Ok(Rate::PacketsPerSecond(100_000)));
        for wrong in
            ["", "1.", ".5s", "1x", "-1", "+1", "1.0000000001ns", "99999999999T", "1..5", "k", "0.1"]
        {
            assert!(bytes(wrong).is_err() && duration(wrong).is_err() && rate(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_are_those_of_gnu_date() {
        // date -u -d TIME +%s%N
        assert_eq!(timestamp("2026-12-01T00:00:00Z"), Ok(1_796_083_200_000_000_000));
        assert_eq!(timestamp("2024-02-29T23:59:59.25+01:30"), Ok(1_709_245_799_250_000_000));
        assert_eq!(timestamp("2100-03-01T00:00:00-00:30"), Ok(4_107_544_200_000_000_000));
        assert_eq!(timestamp("1970-01-01T00:00:00Z"), Ok(0));
        for wrong in [
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-12-01",
            "2026-12-01T00:00:00",
            "2026-12-01T00:00:00.Z",
            "1969-12-31T23:59:59Z",
            "9999-01-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-12-0é00:00:00Z",
            "2026-12-01T00:00:00+24:00",
        ] {
            assert!(timestamp(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn schedules_wrap_over_the_week_and_midnight() {
        let one = |text| windows(text).map(|w| w[0]);
        assert_eq!(
            one("Mon-Fri 08:00-18:00"),
            Ok(Window { days: 0b001_1111, from_minute: 480, until_minute: 1080 })
        );
        assert_eq!(
            one("sat-mon 22:00-06:00"),
            Ok(Window { days: 0b110_0001, from_minute: 1320, until_minute: 360 })
        );
        assert_eq!(one("daily 00:00-24:00"), Ok(Window { days: 0x7f, from_minute: 0, until_minute: 1440 }));
        assert_eq!(windows("Mon 01:00-02:00; Tue,Thu 03:00-00:00").map(|w| w.len()), Ok(2));
        assert_eq!(windows("Mon 01:00-02:00; Tue 3:00-04:00").unwrap_err().part, Some(21..31));
        for wrong in [
            "",
            "Mon",
            "Mon 08:00",
            "Mon 08:00-08:00",
            "Mon 25:00-26:00",
            "Mon 24:00-01:00",
            "Moon 08:00-09:00",
            ";",
        ] {
            assert!(windows(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn lists_point_at_the_item_that_is_wrong() {
        assert_eq!(ranges(4095)("100-110,7"), Ok(Ranges(vec![(100, 110), (7, 7)])));
        assert_eq!(ranges(4095)("1,4096").unwrap_err().part, Some(2..6));
        assert_eq!(
            ranges(4095)("1,9-5").unwrap_err().help.as_deref(),
            Some("the range counts upwards: `5-9`")
        );
        assert_eq!(lcores("1-3,2").unwrap_err().part, Some(4..5));
        assert_eq!(hex_mask("0x80/f0"), Ok((vec![0x80], vec![0xf0])));
        assert!(hex_mask("0x88/f0").is_err() && hex_mask("0x8").is_err() && hex_mask("88/f0f0").is_err());
        assert_eq!(
            device("replay:a.pcap,speed=2.5x,loop=3").ok(),
            Some(Device::Replay {
                path: "a.pcap".into(),
                speed: ReplaySpeed::Times { thousandths: 2500 },
                loops: Loops::Times(3),
                max_gap: None
            })
        );
        let max_gap = |text| match device(text) {
            Ok(Device::Replay { max_gap, .. }) => Ok(max_gap),
            other => Err(other.err().and_then(|misread| misread.part)),
        };
        assert_eq!(max_gap("replay:a.pcap,maxgap=250ms,speed=2x"), Ok(Some(Duration::from_millis(250))));
        for wrong in ["replay:a.pcap,maxgap=1", "replay:a.pcap,maxgap=", "replay:a.pcap,maxgap=0s"] {
            assert_eq!(max_gap(wrong), Err(Some(14..wrong.len())), "{wrong}");
        }
        assert_eq!(device("replay:a.pcap,lop=3").unwrap_err().part, Some(14..17));
    }

    #[test]
    fn interfaces_have_their_words() {
        let plain = Iface {
            interface: "eth0.7".into(),
            queues: 1,
            takes_outgoing: false,
            ends_offloads: false,
            wants_nic_times: false,
            ring_bytes: None,
        };
        assert_eq!(device("iface:eth0.7").ok(), Some(Device::Iface(plain.clone())));
        assert_eq!(
            device("iface:eth0.7,queues=4,outgoing=on,offloads=off,time=nic,buffer=64Mi").ok(),
            Some(Device::Iface(Iface {
                queues: 4,
                takes_outgoing: true,
                ends_offloads: true,
                wants_nic_times: true,
                ring_bytes: Some(64 << 20),
                ..plain
            }))
        );
        for (wrong, part) in [
            ("iface:eth0,queus=2", Some(11..16)),
            ("iface:eth0,queues=65", Some(11..20)),
            ("iface:eth0,outgoing", Some(11..19)),
            ("iface:eth0,buffer=4k", Some(11..20)),
            ("iface:", None),
            ("iface:an/eth0", None),
            ("iface:a-name-longer-than-any", None),
        ] {
            assert_eq!(device(wrong).unwrap_err().part, part, "{wrong}");
        }
    }

    #[test]
    fn the_empty_text_is_no_value() {
        assert!(
            device("").is_err()
                && rule_source("").is_err()
                && text("a")("").is_err()
                && new_name("").is_err()
        );
        assert!(
            ip("").is_err()
                && mac("").is_err()
                && ranges(1)("").is_err()
                && lcores("").is_err()
                && hex_mask("").is_err()
        );
        assert!(
            percent("").is_err()
                && thresholds("").is_err()
                && keep_prefix("").is_err()
                && windows("").is_err()
        );
    }
}
