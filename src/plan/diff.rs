//! The difference of two plans: which objects were added, removed, made anew or changed, in what, and what that needs of a broker
//! that runs the first and is to run the second.
//!
//! Objects are known by their names, rules by their priorities; ids of the two plans are never compared. What plans hold beside what
//! was said of an object (what others do with it, for one) is no change of it: the others are listed for theirs. Every field of a
//! plan is judged here or said to be none of anybody's words, and a new one does not compile before it is.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use super::Plan;
use super::access::{GrantPlan, Grantee};
use super::value::{
    CopyPlan, DedupPlan, FilterPlan, GroupPlan, HeartbeatPlan, IfacePlan, Output, PortPlan, RulePlan,
    Settings, ToolPlan, WirePlan,
};
use crate::health::tool::HealthSpec;
use tapline_api::words::NameKind;
use tapline_datapath::copies::edit::EditPlan;
use tapline_datapath::flow::hash::HashSpec;
use tapline_datapath::ids::{EditId, GroupId, HashId, PortId, ToolId};
use tapline_datapath::route::balance::GroupSpec;
use tapline_datapath::work_plan::{GroupWork, ReplayPlan, Target};
use tapline_lang::ast::Command;
use tapline_packet::by_id::ById;

/// The object that is changed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Subject {
    /// `set KEY`.
    Setting(&'static str),
    Port(String),
    Tool(String),
    Group(String),
    Wire(String),
    Filter(String),
    /// A rule has its priority for a name.
    Rule(u32),
    /// This is what is granted to somebody: `user anna`.
    Access(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Setting(key) => write!(out, "setting {key}"),
            Subject::Port(name) => write!(out, "port {name}"),
            Subject::Tool(name) => write!(out, "tool {name}"),
            Subject::Group(name) => write!(out, "group {name}"),
            Subject::Wire(name) => write!(out, "wire {name}"),
            Subject::Filter(name) => write!(out, "filter {name}"),
            Subject::Rule(priority) => write!(out, "rule {priority}"),
            Subject::Access(grantee) => write!(out, "access {grantee}"),
        }
    }
}

/// The fate of an object. One that is kept as it is, is no change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Added,
    /// It stays, and is told what is different.
    Changed,
    /// It is taken down and set up again under its name: what it counted by itself and remembered is gone.
    Recreated,
    Removed,
}

/// The needs of a change of a running broker; each takes in those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Needs {
    /// The control thread does it by itself.
    Nothing,
    /// Workers take up their parts of another plan, each between two of its bursts.
    Swap,
    /// A port is stopped on the way: what comes meanwhile is missed.
    PortInterrupted,
    /// It is settled when the program starts.
    Restart,
}

/// How an object of one plan differs from its namesake in another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub subject: Subject,
    pub kind: Kind,
    /// The parts that differ, in words of the pipeline language; empty where all of the object is new or gone.
    pub what: Vec<&'static str>,
    pub needs: Needs,
}

/// Returns all that makes `new` another plan than `old`: settings, ports, tools, groups, wires, filters, rules; those of `new` in its
/// order, and then those that are gone.
pub fn diff(old: &Plan, new: &Plan) -> Vec<Change> {
    let Plan {
        settings,
        ports,
        tools,
        wires,
        groups,
        filters,
        rules,
        access,
        // what workers are told follows from all the others; `edits`, `hashes` and `groups` are judged by who uses them
        work: _,
        // asked for once, at the start
        actions: _,
        // a part of the edits that go by it
        random_key: _,
        // from all tools
        tools_want_stamps: _,
        // of all objects that name them
        files: _,
    } = new;
    let both = Both { old, new };
    let mut changes = settings_changes(&old.settings, settings);
    let named = |port: &PortPlan| port.name.clone();
    compare(&mut changes, old.ports.iter(), ports.iter(), named, Subject::Port, &|pair| match pair {
        Pair::Both(old, new) => port_change(old, new, both.need_of_port(old, new)),
        Pair::Added(_) | Pair::Removed => Parts::all(Needs::Swap),
    });
    let named = |tool: &ToolPlan| tool.name.clone();
    compare(&mut changes, old.tools.iter(), tools.iter(), named, Subject::Tool, &|pair| match pair {
        Pair::Both(old, new) => both.tool_change(old, new),
        Pair::Added(tool) => Parts::all(both.need_of_output(tool)),
        Pair::Removed => Parts::all(Needs::Swap),
    });
    let with_work = |groups: &ById<GroupId, GroupPlan>, plan: &Plan| -> Vec<(GroupPlan, GroupWork)> {
        groups.iter().cloned().zip(plan.work.groups.iter().cloned()).collect()
    };
    let (old_groups, new_groups) = (with_work(&old.groups, old), with_work(groups, new));
    let named = |(group, _): &(GroupPlan, GroupWork)| group.name.clone();
    compare(
        &mut changes,
        old_groups.iter(),
        new_groups.iter(),
        named,
        Subject::Group,
        &|pair| match pair {
            Pair::Both(old, new) => both.group_change(old, new),
            Pair::Added(_) | Pair::Removed => Parts::all(Needs::Swap),
        },
    );
    let named = |wire: &WirePlan| wire.name.clone();
    compare(&mut changes, old.wires.iter(), wires.iter(), named, Subject::Wire, &|pair| match pair {
        Pair::Both(old, new) => both.wire_change(old, new),
        Pair::Added(wire) => Parts::all(both.need_of_wire(wire)),
        Pair::Removed => Parts::all(Needs::Swap),
    });
    let named = |filter: &FilterPlan| filter.name.clone();
    compare(&mut changes, old.filters.iter(), filters.iter(), named, Subject::Filter, &|pair| match pair {
        Pair::Both(old, new) => filter_change(old, new),
        // rules have their own
        Pair::Added(_) | Pair::Removed => Parts::all(Needs::Nothing),
    });
    let named = |rule: &RulePlan| rule.priority;
    compare(&mut changes, old.rules.iter(), rules.iter(), named, Subject::Rule, &|pair| match pair {
        Pair::Both(old, new) => both.rule_change(old, new),
        Pair::Added(_) | Pair::Removed => Parts::all(Needs::Swap),
    });
    // names may be two of one user
    let named = |grant: &GrantPlan| grant.to.clone();
    let names: HashMap<Grantee, String> =
        old.access.iter().chain(access).map(|grant| (grant.to.clone(), grant.grantee())).collect();
    let subject = |to: Grantee| Subject::Access(names.get(&to).cloned().unwrap_or_default());
    compare(&mut changes, old.access.iter(), access.iter(), named, subject, &|pair| match pair {
        Pair::Both(old, new) => grant_change(old, new),
        Pair::Added(_) | Pair::Removed => Parts::all(Needs::Nothing),
    });
    changes
}

/// Returns whether the ports, tools, groups and wires that have an id in `old` have the same in `new`, and no others are there.
pub fn keeps_ids(old: &Plan, new: &Plan) -> bool {
    old.ports.iter().map(|port| &port.name).eq(new.ports.iter().map(|port| &port.name))
        && old.tools.iter().map(|tool| &tool.name).eq(new.tools.iter().map(|tool| &tool.name))
        && old.groups.iter().map(|group| &group.name).eq(new.groups.iter().map(|group| &group.name))
        && old.wires.iter().map(|wire| &wire.name).eq(new.wires.iter().map(|wire| &wire.name))
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Added => "added",
            Kind::Changed => "changed",
            Kind::Recreated => "recreated",
            Kind::Removed => "removed",
        };
        write!(out, "{} is {kind}", self.subject)?;
        if self.what.is_empty() { Ok(()) } else { write!(out, " ({})", self.what.join(", ")) }
    }
}

/// The subject of a command, as far as plans are judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// It leaves the plan as it is.
    Nothing,
    Settings,
    Objects(NameKind),
    /// Who may do what.
    Access,
}

/// Returns the ports that run and that some of the changes of `old` to `new` interrupt, each with the first change that does.
pub fn interrupted(old: &Plan, new: &Plan, changes: &[Change]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let beside = ports_beside(old, new);
    for change in changes.iter().filter(|change| change.needs == Needs::PortInterrupted) {
        let ports: Vec<&str> = match &change.subject {
            Subject::Port(name) => vec![name],
            Subject::Wire(name) => {
                let wire = new.wires.iter().find(|wire| wire.name == *name);
                wire.map(|wire| ports_of(new, &wire.ports)).unwrap_or_default()
            }
            Subject::Tool(name) => {
                let outputs = new.tools.iter().filter(|tool| tool.name == *name).map(|tool| tool.output);
                let port = |output| match output {
                    Output::Port(port) => Some(port_of(new, port)),
                    Output::Capture | Output::Discard => None,
                };
                outputs.filter_map(port).collect()
            }
            Subject::Setting(_)
            | Subject::Group(_)
            | Subject::Filter(_)
            | Subject::Rule(_)
            | Subject::Access(_) => Vec::new(),
        };
        let runs = |name: &&str| {
            old.ports.iter().any(|port| port.name == **name) && !beside.iter().any(|port| port == *name)
        };
        for port in ports.into_iter().filter(runs) {
            if !found.iter().any(|(name, _)| name == port) {
                found.push((port.to_owned(), change.to_string()));
            }
        }
    }
    found
}

/// Says what a command changes.
pub fn about(command: &Command) -> About {
    match command {
        Command::Start
        | Command::Stop
        | Command::Show(_)
        | Command::ClearStats
        | Command::Quit
        | Command::ToolDrain(_)
        | Command::ToolEnable(_) => About::Nothing,
        Command::Set(_) => About::Settings,
        Command::PortAttach { .. }
        | Command::PortConfig { .. }
        | Command::PortDetach(_)
        | Command::PortStart(_)
        | Command::PortStop(_) => About::Objects(NameKind::Port),
        Command::ToolCreate { .. } | Command::ToolModify { .. } | Command::ToolDestroy(_) => {
            About::Objects(NameKind::Tool)
        }
        Command::GroupCreate { .. } | Command::GroupModify { .. } | Command::GroupDestroy(_) => {
            About::Objects(NameKind::Group)
        }
        Command::WireCreate { .. } | Command::WireModify { .. } | Command::WireDestroy(_) => {
            About::Objects(NameKind::Wire)
        }
        Command::FilterCreate { .. } | Command::FilterModify { .. } | Command::FilterDestroy(_) => {
            About::Objects(NameKind::Filter)
        }
        Command::RuleCreate { .. }
        | Command::RuleModify { .. }
        | Command::RuleEnable(_)
        | Command::RuleDisable(_)
        | Command::RuleDestroy(_)
        | Command::RuleDestroyAll => About::Objects(NameKind::Rule),
        Command::AccessGrant(_) | Command::AccessRevoke(_) => About::Access,
    }
}

impl Change {
    /// Says what it is about.
    pub fn about(&self) -> About {
        match self.subject {
            Subject::Setting(_) => About::Settings,
            Subject::Port(_) => About::Objects(NameKind::Port),
            Subject::Tool(_) => About::Objects(NameKind::Tool),
            Subject::Group(_) => About::Objects(NameKind::Group),
            Subject::Wire(_) => About::Objects(NameKind::Wire),
            Subject::Filter(_) => About::Objects(NameKind::Filter),
            Subject::Rule(_) => About::Objects(NameKind::Rule),
            Subject::Access(_) => About::Access,
        }
    }
}

/// The word for all edits of a rule or tool.
const EDITS: &str = "edits";

/// The parts of an object that differ, and their needs.
#[derive(Debug)]
struct Parts {
    what: Vec<&'static str>,
    is_recreated: bool,
    needs: Needs,
}

impl Parts {
    /// Nothing yet.
    fn none() -> Self {
        Self { what: Vec::new(), is_recreated: false, needs: Needs::Nothing }
    }

    /// All of it, which is new or gone.
    fn all(needs: Needs) -> Self {
        Self { needs, ..Self::none() }
    }

    /// Notes that `what` is different, unless it is the same.
    fn judge(mut self, what: &'static str, is_same: bool, needs: Needs) -> Self {
        if !is_same {
            if !self.what.contains(&what) {
                self.what.push(what);
            }
            self.needs = self.needs.max(needs);
        }
        self
    }

    /// As [`Parts::judge`], of what an object cannot be without being another one.
    fn judge_being(mut self, what: &'static str, is_same: bool, needs: Needs) -> Self {
        self.is_recreated |= !is_same;
        self.judge(what, is_same, needs)
    }
}

/// An object of two plans.
enum Pair<'a, T> {
    Both(&'a T, &'a T),
    Added(&'a T),
    Removed,
}

/// Adds the changes of one kind of objects.
fn compare<'a, T: 'a, K: Eq + Hash>(
    changes: &mut Vec<Change>,
    old: impl Iterator<Item = &'a T>,
    new: impl Iterator<Item = &'a T>,
    key: impl Fn(&T) -> K,
    subject: impl Fn(K) -> Subject,
    judge: &dyn Fn(Pair<'_, T>) -> Parts,
) {
    let old: Vec<&T> = old.collect();
    let mut left: HashMap<K, &T> = old.iter().map(|object| (key(object), *object)).collect();
    for object in new {
        let before = left.remove(&key(object));
        let parts = judge(before.map_or(Pair::Added(object), |before| Pair::Both(before, object)));
        let kind = match before {
            None => Kind::Added,
            Some(_) if parts.what.is_empty() => continue,
            Some(_) if parts.is_recreated => Kind::Recreated,
            Some(_) => Kind::Changed,
        };
        changes.push(Change { subject: subject(key(object)), kind, what: parts.what, needs: parts.needs });
    }
    for object in old.into_iter().filter(|object| left.contains_key(&key(object))) {
        let Parts { what, needs, .. } = judge(Pair::Removed);
        changes.push(Change { subject: subject(key(object)), kind: Kind::Removed, what, needs });
    }
}

fn settings_changes(old: &Settings, new: &Settings) -> Vec<Change> {
    let Settings {
        burst,
        lcores,
        workers,
        stages,
        mempool,
        idle,
        eal,
        seed,
        clock,
        flows,
        timeouts,
        tpids,
        panic_dump,
        audit,
    } = new;
    let judged = [
        ("burst", *burst == old.burst, Needs::Swap),
        ("lcores", (lcores, stages) == (&old.lcores, &old.stages), Needs::Restart),
        ("workers", *workers == old.workers, Needs::Restart),
        ("mempool", *mempool == old.mempool, Needs::Restart),
        ("idle", *idle == old.idle, Needs::Swap),
        ("eal", *eal == old.eal, Needs::Restart),
        ("seed", *seed == old.seed, Needs::Swap),
        ("clock", *clock == old.clock, Needs::Nothing),
        ("flows", (flows, timeouts) == (&old.flows, &old.timeouts), Needs::Swap),
        // the parser knows them for as long as the program runs
        ("tpid", *tpids == old.tpids, Needs::Restart),
        ("panic-dump", *panic_dump == old.panic_dump, Needs::Swap),
        // whoever may change the plan is not to choose where that is written
        ("audit", *audit == old.audit, Needs::Restart),
    ];
    let changed = judged.into_iter().filter(|(_, is_same, _)| !is_same);
    let change = |(key, _, needs)| Change {
        subject: Subject::Setting(key),
        kind: Kind::Changed,
        what: Vec::new(),
        needs,
    };
    changed.map(change).collect()
}

fn grant_change(old: &GrantPlan, new: &GrantPlan) -> Parts {
    let GrantPlan { to: _, kind: _, name, role, has_peek } = new;
    Parts::none()
        .judge("name", *name == old.name, Needs::Nothing)
        .judge("role", *role == old.role, Needs::Nothing)
        .judge("peek", *has_peek == old.has_peek, Needs::Nothing)
}

/// `interrupted` is the need of what a port is told when it is set up.
fn port_change(old: &PortPlan, new: &PortPlan, interrupted: Needs) -> Parts {
    let PortPlan {
        name: _,
        devargs,
        rxq,
        txq,
        rxd,
        txd,
        mtu,
        is_promiscuous,
        lcores,
        when_gone,
        is_alarmed,
        terminators,
        // a fact of the file when the plan was made: the driver that runs keeps what it read
        resident: _,
        replay,
        iface,
        is_stopped,
        // what others do with it
        uses: _,
    } = new;
    let parts = match (&old.replay, replay, &old.iface, iface) {
        (None, None, None, None) => {
            Parts::none().judge_being("device", *devargs == old.devargs, interrupted)
        }
        // the words of a replay or an interface are those of its fields
        (Some(old), Some(new), _, _) => replay_change(old, new, interrupted),
        (_, _, Some(old), Some(new)) => iface_change(old, new, interrupted),
        _ => Parts::none().judge_being("device", false, interrupted),
    };
    parts
        .judge(if iface.is_some() { "queues" } else { "rxq" }, *rxq == old.rxq, interrupted)
        .judge("txq", *txq == old.txq, interrupted)
        .judge("rxd", *rxd == old.rxd, interrupted)
        .judge("txd", *txd == old.txd, interrupted)
        .judge("mtu", *mtu == old.mtu, interrupted)
        // an interface's sockets are told when they are opened
        .judge(
            "promiscuous",
            *is_promiscuous == old.is_promiscuous,
            if iface.is_some() { interrupted } else { Needs::Nothing },
        )
        .judge("lcores", *lcores == old.lcores, interrupted)
        .judge("gone", *when_gone == old.when_gone, Needs::Nothing)
        .judge("alarm", *is_alarmed == old.is_alarmed, Needs::Nothing)
        .judge("terminate", *terminators == old.terminators, interrupted)
        .judge("stop", *is_stopped == old.is_stopped, Needs::Swap)
}

/// Returns the name of a port's device, or the file that the port replays.
fn device_word(port: &PortPlan) -> &str {
    match &port.replay {
        Some(replay) => &replay.path,
        None => pci_word(port.devargs.device()),
    }
}

/// Returns the name of a device without its bus, and without PCI domain 0, which DPDK takes for said.
fn pci_word(device: &str) -> &str {
    let device = device.strip_prefix("pci:").unwrap_or(device);
    device.strip_prefix("0000:").unwrap_or(device)
}

/// Returns the things of the machine that a port does not share: its device, the interfaces of that, and the files and sockets that
/// its arguments name but for those that are only read.
fn held(port: &PortPlan) -> Vec<&str> {
    if port.replay.is_some() {
        return Vec::new();
    }
    let driver = port.devargs.driver();
    let is_read = |name: &str| {
        driver.is_some_and(|driver| driver.files.iter().any(|&(file, written)| file == name && !written))
    };
    let is_interface =
        |name: &str| name == "iface" || driver.is_some_and(|driver| driver.interfaces.contains(&name));
    let named = port.devargs.arguments().filter(|argument| {
        is_interface(argument.name)
            || driver.is_some_and(|driver| driver.files.contains(&(argument.name, true)))
            || argument.value.contains('/') && !is_read(argument.name)
    });
    let device = port.iface.is_none().then(|| device_word(port));
    device.into_iter().chain(named.map(|argument| argument.value)).collect()
}

/// Returns whether two ports would have something of the machine that cannot be shared.
fn shares(one: &PortPlan, other: &PortPlan) -> bool {
    let of_other = held(other);
    held(one).iter().any(|thing| of_other.contains(thing))
}

/// Returns the names of ports of both plans that get another device, which is set up beside the one that they have.
pub fn ports_beside(old: &Plan, new: &Plan) -> Vec<String> {
    let both = Both { old, new };
    let pairs = new.ports.iter().filter_map(|port| {
        let before = old.ports.iter().find(|before| before.name == port.name)?;
        both.is_beside(before, port).then(|| port.name.clone())
    });
    pairs.collect()
}

/// A replay begins anew whatever is changed of it.
fn replay_change(old: &ReplayPlan, new: &ReplayPlan, interrupted: Needs) -> Parts {
    let ReplayPlan { path, speed, passes, max_gap_ns } = new;
    Parts::none()
        .judge_being("device", *path == old.path, interrupted)
        .judge_being("speed", *speed == old.speed, interrupted)
        .judge_being("loop", *passes == old.passes, interrupted)
        .judge_being("maxgap", *max_gap_ns == old.max_gap_ns, interrupted)
}

/// An interface begins anew whatever is changed of it.
fn iface_change(old: &IfacePlan, new: &IfacePlan, interrupted: Needs) -> Parts {
    let IfacePlan { interface, takes_outgoing, ends_offloads, wants_nic_times, ring_bytes } = new;
    Parts::none()
        .judge_being("device", *interface == old.interface, interrupted)
        .judge_being("outgoing", *takes_outgoing == old.takes_outgoing, interrupted)
        .judge_being("offloads", *ends_offloads == old.ends_offloads, interrupted)
        .judge_being("time", *wants_nic_times == old.wants_nic_times, interrupted)
        .judge_being("buffer", *ring_bytes == old.ring_bytes, interrupted)
}

fn filter_change(old: &FilterPlan, new: &FilterPlan) -> Parts {
    let FilterPlan { name: _, words } = new;
    Parts::none().judge("expression", *words == old.words, Needs::Nothing)
}

/// Two plans, to look up what their ids stand for.
struct Both<'a> {
    old: &'a Plan,
    new: &'a Plan,
}

/// The name of a port.
fn port_of(plan: &Plan, id: PortId) -> &str {
    &plan.ports[id].name
}

/// The names of ports, in their order.
fn ports_of<'a>(plan: &'a Plan, ids: &[PortId]) -> Vec<&'a str> {
    ids.iter().map(|&id| port_of(plan, id)).collect()
}

fn hash_of(plan: &Plan, id: Option<HashId>) -> Option<HashSpec> {
    id.map(|id| plan.work.hashes[id])
}

fn edits_of(plan: &Plan, id: Option<EditId>) -> Option<&EditPlan> {
    id.map(|id| &plan.work.edits[id])
}

/// A target by its kind and name.
fn target_of(plan: &Plan, target: Target) -> (NameKind, &str) {
    match target {
        Target::Tool(id) => (NameKind::Tool, &plan.tools[id].name),
        Target::Group(id) => (NameKind::Group, &plan.groups[id].name),
    }
}

/// The way of a tool's copies: a port's name, or nothing for a file and for none.
fn output_of(plan: &Plan, output: Output) -> (u8, &str) {
    match output {
        Output::Port(port) => (0, port_of(plan, port)),
        Output::Capture => (1, ""),
        Output::Discard => (2, ""),
    }
}

impl Both<'_> {
    /// Returns the needs of a port of both plans that is set up anew: one that gets another device is set up beside the running one.
    fn need_of_port(&self, old: &PortPlan, new: &PortPlan) -> Needs {
        if self.is_beside(old, new) { Needs::Swap } else { Needs::PortInterrupted }
    }

    /// Returns whether a port of both plans gets a device that nothing of the old plan has, and leaves one that nothing of the new
    /// plan gets.
    fn is_beside(&self, old: &PortPlan, new: &PortPlan) -> bool {
        let (leaves, gets) = (device_word(old), device_word(new));
        leaves != gets
            && !self.old.ports.iter().any(|port| shares(port, new))
            && !self.new.ports.iter().any(|port| shares(port, old))
    }

    /// Returns the needs of a tool of the new plan for the way of its copies: a port that nothing was sent on has no transmit queue.
    fn need_of_output(&self, tool: &ToolPlan) -> Needs {
        let Output::Port(port) = tool.output else { return Needs::Swap };
        let name = port_of(self.new, port);
        let before = self.old.ports.iter().find(|port| port.name == name);
        match before {
            // one that nobody sends on has a transmit queue all the same, unless it was told to have none
            Some(port) if port.txq == Some(0) => Needs::PortInterrupted,
            Some(_) | None => Needs::Swap,
        }
    }

    /// This is what a wire needs that comes: a port of a wire has buffers and transmit queues of its own.
    fn need_of_wire(&self, wire: &WirePlan) -> Needs {
        let runs = |name: &&str| self.old.ports.iter().any(|port| port.name == **name);
        let names = ports_of(self.new, &wire.ports);
        if names.iter().any(runs) { Needs::PortInterrupted } else { Needs::Swap }
    }

    fn tool_change(&self, old: &ToolPlan, new: &ToolPlan) -> Parts {
        let ToolPlan {
            name: _,
            output,
            capture,
            copy,
            queue,
            health,
            heartbeat,
            echo,
            is_drained,
            queue_bytes,
            thresholds,
            shaping,
            order_ns,
            alarm,
            is_alarmed,
            // what rules do with it
            uses: _,
        } = new;
        let is_there = output_of(self.old, old.output) == output_of(self.new, *output);
        let beats = |plan: &Plan, heartbeat: Option<HeartbeatPlan>| {
            heartbeat.map(|HeartbeatPlan { timing, back }| (timing, port_of(plan, back).to_owned()))
        };
        let has_heartbeat = beats(self.old, old.heartbeat) == beats(self.new, *heartbeat);
        let parts = self
            .copy_change(&old.copy, copy)
            .judge_being("port", is_there, self.need_of_output(new))
            .judge_being("capture", *capture == old.capture, Needs::Swap)
            .judge("heartbeat", has_heartbeat, Needs::Swap)
            .judge("echo", *echo == old.echo, Needs::Swap);
        // probes and the next hop are a part of it
        let but_for_those = HealthSpec {
            needs_next_hop: old.health.needs_next_hop,
            echo: old.health.echo,
            heartbeat: old.health.heartbeat,
            ..*health
        };
        let follows = parts.is_recreated || !has_heartbeat || *echo != old.echo;
        let has_health = *health == old.health || follows && but_for_those == old.health;
        parts
            .judge("queue", (queue, queue_bytes) == (&old.queue, &old.queue_bytes), Needs::Swap)
            .judge("thresholds", *thresholds == old.thresholds, Needs::Swap)
            .judge("rate", *shaping == old.shaping, Needs::Swap)
            .judge("order", *order_ns == old.order_ns, Needs::Swap)
            .judge("health", has_health, Needs::Nothing)
            .judge("alarm", (alarm, is_alarmed) == (&old.alarm, &old.is_alarmed), Needs::Nothing)
            .judge("drain", *is_drained == old.is_drained, Needs::Nothing)
    }

    fn copy_change(&self, old: &CopyPlan, new: &CopyPlan) -> Parts {
        let CopyPlan { edits, timestamp, transport, tunnel, mtu, room, hash } = new;
        let has_edits = edits_of(self.old, old.edits) == edits_of(self.new, *edits);
        let has_hash = hash_of(self.old, old.hash) == hash_of(self.new, *hash);
        let is_carried = (transport, tunnel) == (&old.transport, &old.tunnel);
        // what fits goes by the others; what becomes of longer ones is said
        let follows = *mtu != old.mtu || !is_carried || *timestamp != old.timestamp;
        Parts::none()
            .judge(EDITS, has_edits, Needs::Swap)
            .judge("timestamp", *timestamp == old.timestamp, Needs::Swap)
            // its session begins anew
            .judge_being("transport", is_carried && has_hash, Needs::Swap)
            .judge("mtu", *mtu == old.mtu, Needs::Swap)
            .judge("oversize", *room == old.room || follows, Needs::Swap)
    }

    fn group_change(&self, old: &(GroupPlan, GroupWork), new: &(GroupPlan, GroupWork)) -> Parts {
        let (GroupPlan { name: _ }, GroupWork { members, spec, hash }) = new;
        let (_, before) = old;
        let GroupSpec { weights, standbys, discard_weight, min_up, below, returns, bucket_count, seed } =
            spec;
        let names = |plan: &Plan, members: &[ToolId]| -> Vec<String> {
            members.iter().map(|&tool| plan.tools[tool].name.clone()).collect()
        };
        let known = &before.spec;
        let (is_same, swap) = (names(self.old, &before.members) == names(self.new, members), Needs::Swap);
        // a share for nowhere scales the weights of the others
        let is_in_proportion = weights.len() == known.weights.len()
            && weights.iter().zip(&known.weights).all(|(&new, &old)| {
                u64::from(new) * u64::from(known.weights[0]) == u64::from(old) * u64::from(weights[0])
            });
        let has_discard_alone = is_in_proportion && *discard_weight != known.discard_weight;
        let has_hash = hash_of(self.old, Some(before.hash)) == hash_of(self.new, Some(*hash));
        Parts::none()
            .judge("tools", is_same && *bucket_count == known.bucket_count, swap)
            .judge("weights", *weights == known.weights || has_discard_alone, swap)
            .judge("standby", *standbys == known.standbys, swap)
            .judge("discard", *discard_weight == known.discard_weight, swap)
            .judge("min-up", (min_up, below) == (&known.min_up, &known.below), swap)
            .judge("return", *returns == known.returns, swap)
            .judge("hash", has_hash && *seed == known.seed, swap)
    }

    fn wire_change(&self, old: &WirePlan, new: &WirePlan) -> Parts {
        let WirePlan { name: _, ports, is_bypass, propagates_link } = new;
        let is_same = ports_of(self.old, &old.ports) == ports_of(self.new, ports);
        Parts::none()
            .judge_being("ports", is_same, Needs::PortInterrupted)
            .judge("bypass", *is_bypass == old.is_bypass, Needs::Swap)
            .judge("propagate-link", *propagates_link == old.propagates_link, Needs::Nothing)
    }

    fn rule_change(&self, old: &RulePlan, new: &RulePlan) -> Parts {
        let RulePlan {
            priority: _,
            sources,
            edits,
            unread,
            duplicate_edits,
            matcher,
            words,
            dedup,
            sample,
            sample_hash,
            schedule,
            limit,
            is_enabled,
            targets,
            verdict,
            class,
        } = new;
        let set_of = |plan, ids| {
            let mut names = ports_of(plan, ids);
            names.sort_unstable();
            names
        };
        let takes_from = set_of(self.old, &old.sources) == set_of(self.new, sources);
        let goes_to = |plan, targets: &[Target]| -> Vec<(NameKind, String)> {
            let named = targets.iter().map(|&target| target_of(plan, target));
            named.map(|(kind, name)| (kind, name.to_owned())).collect()
        };
        let has_targets = goes_to(self.old, &old.targets) == goes_to(self.new, targets);
        let has_edits = edits_of(self.old, old.edits) == edits_of(self.new, *edits);
        let has_marks = edits_of(self.old, old.duplicate_edits) == edits_of(self.new, *duplicate_edits);
        let has_dedup = match (&old.dedup, dedup) {
            (Some(old), Some(new)) => self.is_same_dedup(old, new, takes_from),
            (old, new) => old.is_none() && new.is_none(),
        };
        let has_sample =
            *sample == old.sample && hash_of(self.old, old.sample_hash) == hash_of(self.new, *sample_hash);
        let swap = Needs::Swap;
        Parts::none()
            .judge("from", takes_from, swap)
            .judge("match", *matcher == old.matcher, swap)
            .judge("sample", has_sample, swap)
            .judge("dedup", has_dedup && (has_marks || !has_edits), swap)
            .judge(EDITS, has_edits, swap)
            .judge("unread", *unread == old.unread, swap)
            .judge("schedule", *schedule == old.schedule, swap)
            .judge("limit", *limit == old.limit, swap)
            .judge("enable", *is_enabled == old.is_enabled, swap)
            .judge("to", has_targets, swap)
            .judge("final", *verdict == old.verdict, swap)
            .judge("class", *class == old.class, swap)
            // the same in other words
            .judge("words", *words == old.words || *matcher != old.matcher || !has_sample, Needs::Nothing)
    }

    /// `takes_from` says whether the rule has the sources that it had.
    fn is_same_dedup(&self, old: &DedupPlan, new: &DedupPlan, takes_from: bool) -> bool {
        let DedupPlan { window_ns, ignore, scope, action, memory } = new;
        let has_scope = ports_of(self.old, &old.scope) == ports_of(self.new, scope);
        (window_ns, ignore, action, memory) == (&old.window_ns, &old.ignore, &old.action, &old.memory)
            && (has_scope || !takes_from)
    }
}
