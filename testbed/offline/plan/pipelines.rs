//! Pipelines as lists of objects, each with the line that creates it, and changes of one object.

use proptest::prelude::*;
use tapline::plan::diff::{Kind, Subject};

/// An object, and the line that creates it.
pub(super) type Object = (Subject, String);

/// The text of a pipeline.
pub(super) fn text_of(objects: &[Object]) -> String {
    objects.iter().flat_map(|(_, line)| [line.as_str(), "\n"]).collect()
}

/// Words that each object of a kind may end with; the first are those of an object of which nothing is said. None has any bearing on
/// another object.
pub(super) const PORT_WORDS: [&str; 6] =
    ["", " mtu 9000", " rxd 512", " promiscuous off", " txd 2048", " rxq 1"];
pub(super) const TOOL_WORDS: [&str; 8] = [
    "",
    " queue 100",
    " rate 1gbit",
    " alarm 80%",
    " strip vlan",
    " timestamp vss",
    " slice 100",
    " anonymize ip",
];
pub(super) const GROUP_WORDS: [&str; 6] =
    ["", " hash ip", " discard 10%", " return idle 30s", " min-up 1", " hash 5-tuple inner"];
pub(super) const WIRE_WORDS: [&str; 3] = ["", " bypass", " propagate-link"];
pub(super) const FILTER_WORDS: [&str; 4] = ["\"tcp\"", "\"udp port 53\"", "\"ip\" through vlan", "\"arp\""];
pub(super) const RULE_WORDS: [&str; 12] = [
    "",
    " sample 1/10",
    " sample flow 1/10",
    " sample flow 1/10 hash ip",
    " dedup window 5ms",
    " limit 1000 packets",
    " active \"Mon-Fri 08:00-18:00\" zone Europe/Berlin",
    " final",
    " slice 64",
    " anonymize ip",
    " unread pass",
    " vlan 7",
];
/// Settings that touch nothing else.
pub(super) const SETTINGS: [(&str, [&str; 2]); 6] = [
    ("burst", ["16", "32"]),
    ("idle", ["pause", "sleep"]),
    ("flows", ["64k", "1k"]),
    ("clock", ["ptp", "ntp"]),
    ("workers", ["2", "3"]),
    ("eal", ["--no-huge", "--no-pci"]),
];

/// A pipeline that is right: ports `p…` to receive on, `o…` to send on, `a…` and `b…` of wires; each tool is in a rule or a group.
pub(super) fn pipeline() -> impl Strategy<Value = Vec<Object>> {
    let counts = (1..4usize, 1..4usize, 0..3usize, 0..3usize, 1..4usize, 1..6usize);
    (counts, proptest::collection::vec(any::<u8>(), 64)).prop_map(
        |((ports, tools, groups, wires, filters, rules), choices)| {
            let mut choices = choices.into_iter().cycle();
            let mut choice = |below: usize| usize::from(choices.next().unwrap_or_default()) % below;
            let mut objects = Vec::new();
            let mut device = 0;
            let mut port = |objects: &mut Vec<Object>, name: String, words: &str| {
                let line = format!("port attach {name} net_null{device}{words}");
                objects.push((Subject::Port(name), line));
                device += 1;
            };
            for (key, values) in SETTINGS.iter().take(choice(4)) {
                objects.push((Subject::Setting(key), format!("set {key} {}", values[choice(2)])));
            }
            for index in 0..ports {
                port(&mut objects, format!("p{index}"), PORT_WORDS[choice(PORT_WORDS.len())]);
            }
            port(&mut objects, "o0".to_owned(), "");
            for index in 0..tools {
                let place = ["port o0", "port o0", "discard"][choice(3)];
                let words = if place == "discard" { "" } else { TOOL_WORDS[choice(TOOL_WORDS.len())] };
                let line = format!("tool create t{index} {place}{words}");
                objects.push((Subject::Tool(format!("t{index}")), line));
            }
            let all: Vec<String> = (0..tools).map(|index| format!("t{index}")).collect();
            for index in 0..groups {
                let words = GROUP_WORDS[choice(GROUP_WORDS.len())];
                let line = format!("group create g{index} tools {}{words}", all.join(","));
                objects.push((Subject::Group(format!("g{index}")), line));
            }
            for index in 0..wires {
                port(&mut objects, format!("a{index}"), "");
                port(&mut objects, format!("b{index}"), "");
                let words = WIRE_WORDS[choice(WIRE_WORDS.len())];
                let line = format!("wire create w{index} ports a{index},b{index}{words}");
                objects.push((Subject::Wire(format!("w{index}")), line));
            }
            for index in 0..filters {
                let words = FILTER_WORDS[choice(FILTER_WORDS.len())];
                objects.push((
                    Subject::Filter(format!("f{index}")),
                    format!("filter create f{index} {words}"),
                ));
            }
            for index in 0..rules {
                let from = format!("p{}", choice(ports));
                let filter = format!("f{}", choice(filters));
                let to = match choice(3) {
                    0 if groups > 0 => format!("g{}", choice(groups)),
                    _ => format!("t{}", choice(tools)),
                };
                let words = RULE_WORDS[choice(RULE_WORDS.len())];
                let line = format!("rule create {} from {from} match {filter}{words} to {to}", index + 1);
                objects.push((Subject::Rule(index as u32 + 1), line));
            }
            objects
        },
    )
}

/// What a change of one object makes of a pipeline: its objects, and what is expected to be said of them.
pub(super) struct Mutated {
    pub objects: Vec<Object>,
    pub expected: Vec<(Subject, Kind)>,
}

/// Says the line of an object anew with other words out of `all`, of which the line has one at its end or in front of ` to `.
fn reworded(line: &str, all: &[&str], choice: usize) -> Option<String> {
    let (head, tail) = match line.rsplit_once(" to ") {
        Some((head, tail)) if line.starts_with("rule ") => (head, format!(" to {tail}")),
        _ => (line, String::new()),
    };
    let own = all.iter().filter(|words| head.ends_with(**words)).max_by_key(|words| words.len())?;
    let others: Vec<&&str> = all.iter().filter(|words| *words != own).collect();
    let other = others[choice % others.len()];
    Some(format!("{}{other}{tail}", &head[..head.len() - own.len()]))
}

/// Makes one object of a pipeline another one.
pub(super) fn reword(objects: &[Object], which: usize, choice: usize) -> Option<Mutated> {
    let place = which % objects.len();
    let (subject, line) = &objects[place];
    let new = match subject {
        Subject::Setting(key) => {
            let (_, values) = SETTINGS.iter().find(|(known, _)| known == key)?;
            reworded(line, values, choice)?
        }
        Subject::Port(name) if name.starts_with('p') => reworded(line, &PORT_WORDS, choice)?,
        Subject::Port(_) => return None,
        Subject::Tool(_) if line.ends_with("discard") => return None,
        Subject::Tool(_) => reworded(line, &TOOL_WORDS, choice)?,
        Subject::Group(_) => reworded(line, &GROUP_WORDS, choice)?,
        Subject::Wire(_) => reworded(line, &WIRE_WORDS, choice)?,
        Subject::Filter(_) => reworded(line, &FILTER_WORDS, choice)?,
        Subject::Rule(_) => reworded(line, &RULE_WORDS, choice)?,
        // none of these pipelines grants anything
        Subject::Access(_) => return None,
    };
    let mut expected = vec![(subject.clone(), Kind::Changed)];
    if let Subject::Filter(name) = subject {
        let users = objects.iter().filter(|(_, line)| line.contains(&format!(" match {name} ")));
        expected.extend(users.map(|(rule, _)| (rule.clone(), Kind::Changed)));
    }
    let mut objects = objects.to_vec();
    objects[place].1 = new;
    Some(Mutated { objects, expected })
}

/// Adds an object that no other names, anywhere among those of its kind.
pub(super) fn add(objects: &[Object], kind: usize, place: usize) -> Mutated {
    let (subject, line) = match kind % 5 {
        0 => (Subject::Port("new".to_owned()), "port attach new net_null99".to_owned()),
        1 => (Subject::Tool("new".to_owned()), "tool create new port o0".to_owned()),
        2 => (Subject::Group("new".to_owned()), "group create new tools t0".to_owned()),
        3 => (Subject::Filter("new".to_owned()), "filter create new \"tcp\"".to_owned()),
        _ => (Subject::Rule(99), "rule create 99 from p0 to t0".to_owned()),
    };
    let mut all = objects.to_vec();
    all.insert(place % (all.len() + 1), (subject.clone(), line));
    Mutated { objects: all, expected: vec![(subject, Kind::Added)] }
}
