//! The receipt of a reload says what moved, what was kept and what was lost, zero included (`tapline.reload/1`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::plan::Plan;
use crate::plan::diff::{Change, Kind, Subject};
use crate::plan::value::RulePlan;
use tapline_api::access::Principal;
use tapline_api::snapshot::Snapshot;
use tapline_api::values::seconds;
use tapline_api::words::Via;

/// The name and version of the form.
pub const SCHEMA: &str = "tapline.reload/1";

/// The receipt of a reload.
#[derive(Clone, Serialize, Debug)]
pub struct Receipt {
    pub schema: &'static str,
    /// Seconds since the Unix epoch.
    pub time: f64,
    pub broker: String,
    pub seq: u64,
    /// The number of the plan in the history; of a dry run, the one that it would have.
    pub id: u32,
    /// SHA-256 of the text of the commands before and after.
    pub before: String,
    pub after: String,
    pub by: By,
    pub result: Outcome,
    pub planned_ms: f64,
    /// Until all workers went by the plan.
    pub swapped_us: f64,
    /// The longest that a worker stood between its last burst by the plan before and its first by this one, without the time in which it
    /// had no CPU.
    pub paused_us: f64,
    pub retired_ms: f64,
    pub objects: Objects,
    /// Samplers and tables of duplicates of rules that both plans have.
    pub state: Vec<State>,
    /// Buckets of groups that changed their tool, and about how many flows those had.
    pub moved: Moved,
    pub lost: Lost,
    pub balanced: bool,
    pub confirm: Option<Confirm>,
    /// The same for people.
    pub text: String,
    /// Warnings of the file.
    pub remarks: String,
}

/// The one who asked for it.
#[derive(Clone, Serialize, Debug)]
pub struct By {
    pub uid: Option<u32>,
    pub user: String,
    pub via: Via,
}

/// The result.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is in force.
    Done,
    /// It was planned alone.
    DryRun,
}

/// The plan goes back unless it is confirmed.
#[derive(Clone, Serialize, Debug)]
pub struct Confirm {
    /// Seconds since the Unix epoch.
    pub until: f64,
    /// The plan that it goes back to.
    pub rollback_to: u32,
}

/// The memory of a rule.
#[derive(Clone, Serialize, Debug)]
pub struct State {
    pub object: String,
    /// `sample` or `dedup`.
    pub what: &'static str,
    /// It goes on; else it begins anew.
    pub kept: bool,
}

/// Buckets and flows of groups that go elsewhere.
#[derive(Clone, Copy, Default, Serialize, Debug)]
pub struct Moved {
    pub buckets: u64,
    pub flows: u64,
}

/// The facts of a receipt that the broker and both plans have.
pub struct Facts {
    pub objects: Objects,
    pub state: Vec<State>,
    /// Statistics of the moment before, and those once it was over.
    pub before: Snapshot,
    pub after: Snapshot,
    /// Until what left was gone.
    pub retired: Duration,
    pub moved: Moved,
}

impl Facts {
    /// Compares two plans, whose differences are `changes`, at a moment with these statistics.
    pub fn of(old: &Plan, new: &Plan, changes: &[Change], before: Snapshot) -> Self {
        Self {
            objects: Objects::of(old, new, changes),
            state: states(old, new),
            after: before.clone(),
            before,
            retired: Duration::ZERO,
            moved: Moved::default(),
        }
    }
}

/// Says of the rules of both plans whether they go on with what they remember.
fn states(old: &Plan, new: &Plan) -> Vec<State> {
    let before: HashMap<u32, &RulePlan> = old.rules.iter().map(|rule| (rule.priority, rule)).collect();
    let mut states = Vec::new();
    for rule in &new.rules {
        let Some(known) = before.get(&rule.priority) else { continue };
        let mut note = |what, has: bool, kept| {
            if has {
                states.push(State { object: format!("rule {}", rule.priority), what, kept });
            }
        };
        note("sample", known.sample.is_some() && rule.sample.is_some(), known.sample == rule.sample);
        note("dedup", known.dedup.is_some() && rule.dedup.is_some(), known.dedup == rule.dedup);
    }
    states
}

/// All objects by their kind.
#[derive(Clone, Default, Serialize, Debug)]
pub struct Objects {
    pub ports: Fates,
    pub tools: Fates,
    pub groups: Fates,
    pub wires: Fates,
    pub rules: Fates,
    pub filters: Fates,
    pub access: Fates,
    pub settings: Fates,
}

/// The objects of a kind, by what became of them.
#[derive(Clone, Default, Serialize, Debug)]
pub struct Fates {
    pub kept: Vec<String>,
    pub changed: Vec<Changed>,
    pub recreated: Vec<String>,
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub needs_restart: Vec<String>,
}

/// An object that was changed in its place.
#[derive(Clone, Serialize, Debug)]
pub struct Changed {
    pub name: String,
    pub what: Vec<String>,
}

/// The losses while the plans changed places, on what both have.
#[derive(Clone, Default, Serialize, Debug)]
pub struct Lost {
    pub packets: u64,
    pub copies: u64,
    pub by_port: BTreeMap<String, u64>,
    pub by_tool: BTreeMap<String, u64>,
}

impl By {
    pub fn of(by: &Principal) -> Self {
        Self { uid: by.uid, user: by.user.clone(), via: by.via }
    }
}

impl Objects {
    /// Sorts the objects of `new` by what became of them since `old`; `changes` are all that differ.
    pub fn of(old: &Plan, new: &Plan, changes: &[Change]) -> Self {
        let mut objects = Self::default();
        for change in changes {
            let (fates, name) = objects.fates(&change.subject);
            if change.needs == crate::plan::diff::Needs::Restart {
                fates.needs_restart.push(name.clone());
            }
            match change.kind {
                Kind::Added => fates.added.push(name),
                Kind::Removed => fates.removed.push(name),
                Kind::Recreated => fates.recreated.push(name),
                Kind::Changed => {
                    let what = change.what.iter().map(|&what| what.to_owned()).collect();
                    fates.changed.push(Changed { name, what });
                }
            }
        }
        let changed: HashSet<&Subject> = changes.iter().map(|change| &change.subject).collect();
        let known: HashSet<Subject> = subjects(old).collect();
        for subject in subjects(new).filter(|subject| known.contains(subject) && !changed.contains(subject))
        {
            let (fates, name) = objects.fates(&subject);
            fates.kept.push(name);
        }
        objects
    }

    /// Says of these ports that they were recreated.
    pub fn with_recreated(mut self, ports: &[String]) -> Self {
        let fates = &mut self.ports;
        fates.kept.retain(|name| !ports.contains(name));
        fates.changed.retain(|changed| !ports.contains(&changed.name));
        let known = std::mem::take(&mut fates.recreated);
        fates.recreated.extend(known.into_iter().filter(|name| !ports.contains(name)));
        fates.recreated.extend(ports.iter().cloned());
        self
    }

    fn fates(&mut self, subject: &Subject) -> (&mut Fates, String) {
        match subject {
            Subject::Setting(key) => (&mut self.settings, (*key).to_owned()),
            Subject::Port(name) => (&mut self.ports, name.clone()),
            Subject::Tool(name) => (&mut self.tools, name.clone()),
            Subject::Group(name) => (&mut self.groups, name.clone()),
            Subject::Wire(name) => (&mut self.wires, name.clone()),
            Subject::Filter(name) => (&mut self.filters, name.clone()),
            Subject::Rule(priority) => (&mut self.rules, priority.to_string()),
            Subject::Access(grantee) => (&mut self.access, grantee.clone()),
        }
    }

    /// Lists the kinds in the order in which people read them.
    fn all(&self) -> [(&'static str, &Fates); 8] {
        [
            ("settings", &self.settings),
            ("ports", &self.ports),
            ("tools", &self.tools),
            ("groups", &self.groups),
            ("wires", &self.wires),
            ("filters", &self.filters),
            ("rules", &self.rules),
            ("access", &self.access),
        ]
    }
}

/// All objects of a plan that have names.
fn subjects(plan: &Plan) -> impl Iterator<Item = Subject> {
    let ports = plan.ports.iter().map(|port| Subject::Port(port.name.clone()));
    let tools = plan.tools.iter().map(|tool| Subject::Tool(tool.name.clone()));
    let groups = plan.groups.iter().map(|group| Subject::Group(group.name.clone()));
    let wires = plan.wires.iter().map(|wire| Subject::Wire(wire.name.clone()));
    let filters = plan.filters.iter().map(|filter| Subject::Filter(filter.name.clone()));
    let rules = plan.rules.iter().map(|rule| Subject::Rule(rule.priority));
    let access = plan.access.iter().map(|grant| Subject::Access(grant.grantee()));
    ports.chain(tools).chain(groups).chain(wires).chain(filters).chain(rules).chain(access)
}

impl Lost {
    /// Counts what ports and tools that are in both statistics lost between them.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let mut lost = Self::default();
        for (name, port) in after.ports.iter() {
            let Some(known) = before.ports.get(name) else { continue };
            let count = losses(port).saturating_sub(losses(known));
            lost.packets += count;
            lost.by_port.insert(name.to_string(), count);
        }
        lost.packets += after.packets.failed.saturating_sub(before.packets.failed);
        for (name, tool) in after.tools.iter() {
            let Some(known) = before.tools.get(name) else { continue };
            let count = tool.copies.dropped.total().saturating_sub(known.copies.dropped.total());
            lost.copies += count;
            lost.by_tool.insert(name.to_string(), count);
        }
        lost
    }
}

fn losses(port: &tapline_api::snapshot::PortEntry) -> u64 {
    port.driver.missed + port.driver.rx_errors + port.driver.no_mbuf
}

impl Receipt {
    /// Says the same for people; `origin` is what brought the plan.
    pub fn of_people(&self, origin: &str) -> String {
        let mut out = String::new();
        let is_dry = self.result == Outcome::DryRun;
        let by = match self.by.uid {
            Some(uid) => format!("{} (uid {uid})", self.by.user),
            None => self.by.user.clone(),
        };
        let word = if is_dry { "dry run" } else { "reload" };
        let mut line = |text: String| writeln!(out, "{text}").expect("a string takes everything");
        let times = if is_dry {
            format!("planned in {:.1} ms", self.planned_ms)
        } else {
            format!(
                "planned in {:.1} ms, swapped in {:.1} ms, retired in {:.1} ms",
                self.planned_ms,
                self.swapped_us / 1e3,
                self.retired_ms
            )
        };
        line(format!(
            "{word} {}: {origin} {}… -> {}… by {by}; {times}",
            self.id,
            &self.before[..8],
            &self.after[..8]
        ));
        for (kind, fates) in self.objects.all() {
            if let Some(text) = fates.text() {
                line(format!("  {kind:<8} {text}"));
            }
        }
        if self.moved.buckets > 0 {
            line(format!(
                "  moved    {} buckets with about {} flows",
                self.moved.buckets, self.moved.flows
            ));
        }
        let begun = self.state.iter().filter(|state| !state.kept);
        let begun: Vec<String> = begun.map(|state| format!("{} of {}", state.what, state.object)).collect();
        if !begun.is_empty() {
            line(format!("  anew     {}", begun.join(", ")));
        }
        if !is_dry {
            let balanced = if self.balanced { "balanced" } else { "NOT balanced" };
            line(format!(
                "  lost     {} packets, {} copies on all kept ports and tools; {balanced}",
                self.lost.packets, self.lost.copies
            ));
        }
        if let Some(confirm) = &self.confirm {
            let left = (confirm.until - self.time).max(0.0);
            line(format!(
                "confirm within {left:.0} s: confirm {}          (else rollback to {})",
                self.id, confirm.rollback_to
            ));
        }
        out
    }
}

impl Fates {
    /// Says what became of the objects of a kind; `None` where there are none.
    fn text(&self) -> Option<String> {
        let mut parts = Vec::new();
        let mut part = |count: usize, word: &str, names: String| {
            if count > 0 {
                parts.push(format!("{count} {word}{names}"));
            }
        };
        let list = |names: &[String]| format!(" ({})", names.join(", "));
        part(self.kept.len(), "kept", String::new());
        let changed: Vec<String> = self
            .changed
            .iter()
            .map(|changed| format!("{}: {}", changed.name, changed.what.join(", ")))
            .collect();
        part(changed.len(), "changed", format!(" ({})", changed.join("; ")));
        part(self.recreated.len(), "recreated", list(&self.recreated));
        part(self.added.len(), "added", list(&self.added));
        part(self.removed.len(), "removed", list(&self.removed));
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Returns a time in ns since the Unix epoch in seconds.
pub fn time(now_ns: u64) -> f64 {
    seconds(now_ns)
}
