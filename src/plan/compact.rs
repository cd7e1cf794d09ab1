//! Commands -> fewer commands that say the same: what later commands undid or said anew is forgotten.
//!
//! A broker whose plan is changed for months would else remember every object that it ever had, and every value of each.

use std::collections::HashMap;
use std::mem::discriminant;

use super::Plan;
use super::resolve::definitions::is_same_clause;
use tapline_api::words::{Anchor, GranteeKind, NameKind};
use tapline_lang::Parsed;
use tapline_lang::ast::Command;
use tapline_lang::ast::edit::Edit;
use tapline_lang::ast::port::{PortOption, Terminate};
use tapline_lang::ast::rule::RuleClause;
use tapline_lang::ast::set::Setting;
use tapline_lang::ast::tool::ToolOption;
use tapline_lang::source::{SourceId, Spanned};

/// Leaves of each object the command that creates it, with all that is said of it, and one that turns it off where it is off; of each
/// setting and each grant the one in force. What was parsed made `plan`, and makes the same one afterwards.
pub fn compact(parsed: &mut Parsed, plan: &Plan) {
    let mut kept = Kept::default();
    for command in std::mem::take(&mut parsed.file.commands) {
        kept.take(command);
    }
    kept.forget_revoked(plan);
    parsed.file.commands = kept.commands.into_iter().flatten().collect();
    let used = parsed.file.commands.iter().flat_map(|command| {
        let mut sources = sources_of(&command.value);
        sources.push(command.span.source);
        sources
    });
    parsed.sources.forget_all_but(used);
}

/// An object that commands name.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Named(NameKind, String),
    Rule(u32),
}

/// The places of the commands that are left of an object.
struct Places {
    create: usize,
    /// The command that turns it off.
    off: Option<usize>,
}

/// A deed is done by a command to the object that it names.
enum Deed {
    Create,
    Modify,
    TurnOff,
    TurnOn,
    Destroy,
}

/// The commands that are left, in their order.
#[derive(Default)]
struct Kept {
    commands: Vec<Option<Spanned<Command>>>,
    objects: HashMap<Key, Places>,
    settings: Vec<usize>,
}

impl Kept {
    fn take(&mut self, command: Spanned<Command>) {
        match &command.value {
            Command::RuleDestroyAll => {
                let is_rule = |key: &Key| matches!(key, Key::Rule(_));
                let rules: Vec<Key> = self.objects.keys().filter(|key| is_rule(key)).cloned().collect();
                rules.iter().for_each(|rule| self.destroy(rule));
            }
            Command::Set(setting) => {
                let is_same = |&at: &usize| match &self.commands[at] {
                    Some(Spanned { value: Command::Set(old), .. }) => {
                        discriminant(old) == discriminant(setting)
                    }
                    _ => false,
                };
                match self.settings.iter().copied().find(is_same) {
                    Some(at) => self.set_anew(at, command),
                    None => {
                        self.settings.push(self.commands.len());
                        self.commands.push(Some(command));
                    }
                }
            }
            _ => match deed(&command.value) {
                Some((key, deed)) => self.carry_out(key, &deed, command),
                None => self.commands.push(Some(command)),
            },
        }
    }

    /// Does what a command says. Objects that it names are there, since what was parsed makes a plan.
    fn carry_out(&mut self, key: Key, deed: &Deed, command: Spanned<Command>) {
        match deed {
            Deed::Create => {
                self.objects.insert(key, Places { create: self.commands.len(), off: None });
                self.commands.push(Some(command));
            }
            Deed::Destroy => self.destroy(&key),
            Deed::Modify => {
                let known = self.objects.get(&key).and_then(|places| self.commands[places.create].as_mut());
                if let Some(known) = known {
                    modify(&mut known.value, command.value);
                }
            }
            Deed::TurnOff | Deed::TurnOn => {
                let Some(places) = self.objects.get_mut(&key) else { return };
                if let Some(off) = places.off.take() {
                    self.commands[off] = None;
                }
                if matches!(deed, Deed::TurnOff) {
                    places.off = Some(self.commands.len());
                    self.commands.push(Some(command));
                }
            }
        }
    }

    fn destroy(&mut self, key: &Key) {
        if let Some(Places { create, off }) = self.objects.remove(key) {
            [Some(create), off].into_iter().flatten().for_each(|at| self.commands[at] = None);
        }
    }

    /// Puts a setting in the place of the one before. What `set flows` does not say stays.
    fn set_anew(&mut self, at: usize, mut command: Spanned<Command>) {
        if let (
            Command::Set(Setting::Flows { idle, max_age, .. }),
            Some(Spanned {
                value: Command::Set(Setting::Flows { idle: old_idle, max_age: old_max_age, .. }),
                ..
            }),
        ) = (&mut command.value, self.commands[at].take())
        {
            *idle = idle.take().or(old_idle);
            *max_age = max_age.take().or(old_max_age);
        }
        self.commands[at] = Some(command);
    }

    /// Leaves the grants in force. One may be taken back by another name of the same user.
    fn forget_revoked(&mut self, plan: &Plan) {
        let mut left: Vec<(GranteeKind, &str)> =
            plan.access.iter().map(|grant| (grant.kind, grant.name.as_str())).collect();
        for place in self.commands.iter_mut().rev() {
            let is_in_force = match place.as_ref().map(|command| &command.value) {
                Some(Command::AccessGrant(grant)) => {
                    let to = (grant.to.kind, grant.to.name.value.as_str());
                    let found = left.iter().position(|grantee| *grantee == to);
                    found.map(|at| left.swap_remove(at)).is_some()
                }
                Some(Command::AccessRevoke(_)) => false,
                _ => true,
            };
            if !is_in_force {
                *place = None;
            }
        }
    }
}

/// Returns what a command does, and to which object.
fn deed(command: &Command) -> Option<(Key, Deed)> {
    let (key, deed) = match command {
        Command::RuleCreate { priority, .. } => (Key::Rule(priority.value), Deed::Create),
        Command::RuleModify { priority, .. } => (Key::Rule(priority.value), Deed::Modify),
        Command::RuleEnable(priority) => (Key::Rule(priority.value), Deed::TurnOn),
        Command::RuleDisable(priority) => (Key::Rule(priority.value), Deed::TurnOff),
        Command::RuleDestroy(priority) => (Key::Rule(priority.value), Deed::Destroy),
        _ => {
            let (kind, name, deed) = match command {
                Command::PortAttach { name, .. } => (NameKind::Port, name, Deed::Create),
                Command::PortConfig { name, .. } => (NameKind::Port, name, Deed::Modify),
                Command::PortStop(name) => (NameKind::Port, name, Deed::TurnOff),
                Command::PortStart(name) => (NameKind::Port, name, Deed::TurnOn),
                Command::PortDetach(name) => (NameKind::Port, name, Deed::Destroy),
                Command::ToolCreate { name, .. } => (NameKind::Tool, name, Deed::Create),
                Command::ToolModify { name, .. } => (NameKind::Tool, name, Deed::Modify),
                Command::ToolDrain(name) => (NameKind::Tool, name, Deed::TurnOff),
                Command::ToolEnable(name) => (NameKind::Tool, name, Deed::TurnOn),
                Command::ToolDestroy(name) => (NameKind::Tool, name, Deed::Destroy),
                Command::GroupCreate { name, .. } => (NameKind::Group, name, Deed::Create),
                Command::GroupModify { name, .. } => (NameKind::Group, name, Deed::Modify),
                Command::GroupDestroy(name) => (NameKind::Group, name, Deed::Destroy),
                Command::WireCreate { name, .. } => (NameKind::Wire, name, Deed::Create),
                Command::WireModify { name, .. } => (NameKind::Wire, name, Deed::Modify),
                Command::WireDestroy(name) => (NameKind::Wire, name, Deed::Destroy),
                Command::FilterCreate { name, .. } => (NameKind::Filter, name, Deed::Create),
                Command::FilterModify { name, .. } => (NameKind::Filter, name, Deed::Modify),
                Command::FilterDestroy(name) => (NameKind::Filter, name, Deed::Destroy),
                _ => return None,
            };
            (Key::Named(kind, name.value.clone()), deed)
        }
    };
    Some((key, deed))
}

/// Says in the command that creates an object what another command changes of it.
fn modify(create: &mut Command, change: Command) {
    match (create, change) {
        (Command::PortAttach { options: all, .. }, Command::PortConfig { options, .. }) => {
            for option in options {
                match &option.value {
                    // it was said for one change
                    PortOption::Interrupt => {}
                    // tunnels add up, and the first that a packet is of counts
                    PortOption::Terminate(new) => {
                        let is_known = |old: &Spanned<PortOption>| match &old.value {
                            PortOption::Terminate(old) => is_same_tunnel(old, new),
                            _ => false,
                        };
                        if !all.iter().any(is_known) {
                            all.push(option);
                        }
                    }
                    _ => say(all, [option], |old, new| discriminant(old) == discriminant(new)),
                }
            }
        }
        (Command::ToolCreate { options: all, .. }, Command::ToolModify { options, .. }) => {
            let is_same = |old: &ToolOption, new: &ToolOption| {
                // one key that says whether and when
                let is_alarm = |option: &ToolOption| {
                    matches!(option, ToolOption::Alarmed(_) | ToolOption::Alarm { .. })
                };
                !matches!(new, ToolOption::Edit(_))
                    && (discriminant(old) == discriminant(new) || is_alarm(old) && is_alarm(new))
            };
            say(all, options, is_same);
            forget_edits(all, |option| match option {
                ToolOption::Edit(edit) => Some(edit),
                _ => None,
            });
        }
        (Command::GroupCreate { options: all, .. }, Command::GroupModify { options, .. }) => {
            say(all, options, |old, new| discriminant(old) == discriminant(new));
        }
        (Command::WireCreate { options: all, .. }, Command::WireModify { options, .. }) => {
            say(all, options, |old, new| discriminant(old) == discriminant(new));
        }
        (Command::FilterCreate { filter: known, .. }, Command::FilterModify { filter, .. }) => {
            *known = filter
        }
        (Command::RuleCreate { clauses: all, .. }, Command::RuleModify { clauses, .. }) => {
            // those of one command stand beside each other
            all.retain(|old| !clauses.iter().any(|new| is_same_clause(&old.value, &new.value)));
            all.extend(clauses);
            forget_edits(all, |clause| match clause {
                RuleClause::Edit(edit) => Some(edit),
                _ => None,
            });
        }
        _ => {}
    }
}

/// Returns whether two clauses end the same tunnels, wherever they stand.
fn is_same_tunnel(old: &Terminate, new: &Terminate) -> bool {
    fn value<T>(word: &Option<Spanned<T>>) -> Option<&T> {
        word.as_ref().map(|word| &word.value)
    }
    old.tunnel.value == new.tunnel.value
        && value(&old.to) == value(&new.to)
        && value(&old.from) == value(&new.from)
        && value(&old.ids) == value(&new.ids)
        && value(&old.udp_port) == value(&new.udp_port)
}

/// Adds options to those of an object; one takes the place of those that `is_same` finds.
fn say<T>(
    all: &mut Vec<Spanned<T>>,
    options: impl IntoIterator<Item = Spanned<T>>,
    is_same: impl Fn(&T, &T) -> bool,
) {
    for option in options {
        all.retain(|old| !is_same(&old.value, &option.value));
        all.push(option);
    }
}

/// Forgets the edits of a rule or tool that later ones make needless. A change adds its edits to those that are there; most can be done
/// once, and the last one counts.
fn forget_edits<T>(options: &mut Vec<Spanned<T>>, edit_of: fn(&mut T) -> Option<&mut Edit>) {
    for mut option in std::mem::take(options) {
        if let Some(new) = edit_of(&mut option.value) {
            options.retain_mut(|old| edit_of(&mut old.value).is_none_or(|old| !takes_over(new, old)));
        }
        options.push(option);
    }
}

/// Returns whether an edit does all that `old`, an earlier one of its rule, is still there for. A `strip` takes up the layers of the other.
fn takes_over(new: &mut Edit, old: &Edit) -> bool {
    if let (Edit::Strip(layers), Edit::Strip(old)) = (&mut *new, old) {
        *layers = layers.union(*old);
    }
    match (&*new, old) {
        (
            Edit::Mask { offset, length, byte, after },
            Edit::Mask { offset: old_offset, length: old_length, byte: old_byte, after: old_after },
        ) => {
            let anchor = |after: &Option<Spanned<Anchor>>| after.as_ref().map(|after| after.value);
            (offset, length, byte, anchor(after)) == (old_offset, old_length, old_byte, anchor(old_after))
        }
        (Edit::Mask { .. }, _) => false,
        (
            Edit::Strip(_)
            | Edit::TagVlan { .. }
            | Edit::RewriteDstMac(_)
            | Edit::RewriteSrcMac(_)
            | Edit::RewriteVlan(_)
            | Edit::Slice { .. }
            | Edit::AnonymizeIp { .. }
            | Edit::PayloadDrop,
            old,
        ) => discriminant(&*new) == discriminant(old),
    }
}

/// Returns the texts that the clauses of a command stand in; a change may have brought some of them.
fn sources_of(command: &Command) -> Vec<SourceId> {
    fn of<T>(options: &[Spanned<T>]) -> Vec<SourceId> {
        options.iter().map(|option| option.span.source).collect()
    }
    match command {
        Command::RuleCreate { clauses, .. } => of(clauses),
        Command::FilterCreate { filter, .. } => vec![filter.source.span.source],
        Command::PortAttach { options, .. } => of(options),
        Command::ToolCreate { options, .. } => of(options),
        Command::GroupCreate { options, .. } => of(options),
        Command::WireCreate { options, .. } => of(options),
        Command::Set(Setting::Flows { idle, max_age, .. }) => {
            [idle, max_age].into_iter().flatten().map(|duration| duration.span.source).collect()
        }
        _ => Vec::new(),
    }
}
