//! The contents of a pipeline file, typed, before any name is resolved.
//!
//! Every value is checked for itself here (a VLAN ID is a VLAN ID). The planner checks what needs the other commands of the file
//! (is there such a tool?). Whatever the planner may have to point at carries its span.

/// Roles that are granted.
pub mod access;
/// The edits that rules and tools make in their copies.
pub mod edit;
/// Filters, with names and without.
pub mod filter;
/// Groups of tools, and what makes packets one flow.
pub mod group;
/// Ports, and tunnels that end at them.
pub mod port;
/// Rules and their clauses.
pub mod rule;
/// Commands to a running broker.
pub mod session;
/// Settings of the whole broker.
pub mod set;
/// Tools, and transports to them.
pub mod tool;
/// Wires and their directions.
pub mod wire;

use self::access::{Grant, Grantee};
use self::filter::Filter;
use self::group::GroupOption;
use self::port::{Device, PortOption};
use self::rule::RuleClause;
use self::set::Setting;
use self::tool::{ToolOption, ToolTarget};
use self::wire::WireOption;
use super::source::Spanned;
use tapline_api::words::NameKind;

/// A name as the user wrote it, not looked up yet.
pub type Name = Spanned<String>;

/// A pipeline file with everything that it includes, in the order of the text.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PipelineFile {
    /// The commands without a mistake.
    pub commands: Vec<Spanned<Command>>,
    /// Commands in which a mistake was reported, with those of their clauses that are right. They can never be carried out; the
    /// planner looks up the names in them, so that a second mistake in the same line is reported in the same run.
    pub partial: Vec<Spanned<Command>>,
    /// Names that commands with mistakes would have defined. A use of one is no mistake of its own.
    pub broken: Vec<(NameKind, String)>,
    /// Part of the text could not be read (a missing include, bytes that are not UTF-8): an unknown name may be defined there, and
    /// is no mistake of its own.
    pub incomplete: bool,
}

impl PipelineFile {
    /// Returns whether a name that no command defines was meant to be defined: its absence follows from a mistake that is
    /// reported already.
    pub fn is_excused(&self, kind: NameKind, name: &str) -> bool {
        self.incomplete || self.broken.iter().any(|(k, n)| *k == kind && n == name)
    }
}

/// One command. `let` and `include` are carried out while reading and leave no command.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    Set(Setting),
    PortAttach { name: Name, device: Spanned<Device>, options: Vec<Spanned<PortOption>> },
    PortConfig { name: Name, options: Vec<Spanned<PortOption>> },
    PortDetach(Name),
    PortStart(Name),
    PortStop(Name),
    ToolCreate { name: Name, target: Spanned<ToolTarget>, options: Vec<Spanned<ToolOption>> },
    ToolModify { name: Name, options: Vec<Spanned<ToolOption>> },
    ToolDestroy(Name),
    ToolDrain(Name),
    ToolEnable(Name),
    GroupCreate { name: Name, options: Vec<Spanned<GroupOption>> },
    GroupModify { name: Name, options: Vec<Spanned<GroupOption>> },
    GroupDestroy(Name),
    WireCreate { name: Name, a: Name, b: Name, options: Vec<Spanned<WireOption>> },
    WireModify { name: Name, options: Vec<Spanned<WireOption>> },
    WireDestroy(Name),
    FilterCreate { name: Name, filter: Filter },
    FilterModify { name: Name, filter: Filter },
    FilterDestroy(Name),
    RuleCreate { priority: Spanned<u32>, clauses: Vec<Spanned<RuleClause>> },
    RuleModify { priority: Spanned<u32>, clauses: Vec<Spanned<RuleClause>> },
    RuleEnable(Spanned<u32>),
    RuleDisable(Spanned<u32>),
    RuleDestroy(Spanned<u32>),
    RuleDestroyAll,
    AccessGrant(Grant),
    AccessRevoke(Grantee),
    Start,
    Stop,
    Show(Show),
    ClearStats,
    Quit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Show {
    Ports,
    Tools,
    Groups,
    Wires,
    Filters,
    Rules,
    Lcores,
    Stats,
    Plan,
    /// The commands in force, as a pipeline file says them.
    Config,
}

impl Show {
    /// Returns the word for what is shown.
    pub const fn word(self) -> &'static str {
        match self {
            Show::Ports => "ports",
            Show::Tools => "tools",
            Show::Groups => "groups",
            Show::Wires => "wires",
            Show::Filters => "filters",
            Show::Rules => "rules",
            Show::Lcores => "lcores",
            Show::Stats => "stats",
            Show::Plan => "plan",
            Show::Config => "config",
        }
    }
}

/// Ascending or not, as written: inclusive ranges.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges(pub Vec<(u32, u32)>);

impl Ranges {
    pub fn contains(&self, n: u32) -> bool {
        self.0.iter().any(|&(first, last)| first <= n && n <= last)
    }
}
