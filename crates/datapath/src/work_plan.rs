//! All that workers are told: numbers, tables and programs, without names and without spans.

use std::path::PathBuf;
use std::time::Duration;

use crate::classify::Classifier;
use crate::copies::edit::EditPlan;
use crate::egresses::Egresses;
use crate::flow::hash::HashSpec;
use crate::ids::{EditId, EgressId, GroupId, HashId, PortId, RuleId, RuleMark, ToolId};
use crate::route::balance::GroupSpec;
use tapline_api::values::ReplaySpeed;
use tapline_api::words::{Class, DedupAction, Unread};
use tapline_packet::by_id::ById;
use tapline_packet::layers::Depth;

/// The orders of workers: what they do with packets.
#[derive(Default, PartialEq)]
pub struct WorkPlan {
    /// Most packets received in one poll, 1..=64.
    pub burst: usize,
    pub idle: Idle,
    /// The folder that gets the frames of bursts in which a stage panicked; `None`: they are not written.
    pub panic_dump: Option<PathBuf>,
    pub egresses: Egresses,
    /// The orders for each port's packets.
    pub inputs: ById<PortId, InputPlan>,
    pub groups: ById<GroupId, GroupWork>,
    /// The edits that rules and tools make in their copies.
    pub edits: ById<EditId, EditPlan>,
    /// The ways to hash flows that groups, samplers and tunnels use.
    pub hashes: ById<HashId, HashSpec>,
    /// How deep packets are parsed for some rule, besides what hashes ask for.
    pub parse_depth: Depth,
    /// How deep a tool's own edits anonymise its copies; empty where no rule and no tool does.
    pub anonymized: ById<ToolId, Option<Depth>>,
    /// Which tools are stores, and want to know the rules that chose their copies; empty where none is.
    pub stores: ById<ToolId, bool>,
    /// Some rule edits its copies.
    pub has_edits: bool,
    /// Some rule gives its copies a class other than normal.
    pub has_classes: bool,
}

/// A group as the route stage needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupWork {
    /// Active members in order, then standbys: the indices of the table's slots.
    pub members: Vec<ToolId>,
    pub spec: GroupSpec,
    pub hash: HashId,
}

/// The way in which a worker spends a turn that found nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Idle {
    /// Polls again at once.
    #[default]
    Poll,
    /// Tells the processor to pause for a moment.
    Pause,
    /// Sleeps, longer from turn to turn up to the bound.
    Sleep { longest: Duration },
}

/// `replay:FILE`.
#[derive(Clone, PartialEq, Debug)]
pub struct ReplayPlan {
    pub path: String,
    pub speed: ReplaySpeed,
    /// How often the file is read; `None`: for ever.
    pub passes: Option<u64>,
    /// The longest that a packet waits behind the one before it; `None`: as long as the file's times say.
    pub max_gap_ns: Option<u64>,
}

impl ReplayPlan {
    /// Returns whether packets are due as fast as they can be taken, so that the replay can wait for tools that want every packet.
    pub fn is_flat_out(&self) -> bool {
        self.speed == ReplaySpeed::Max
    }
}

/// The destination of a rule's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    Tool(ToolId),
    Group(GroupId),
}

/// The effect of a rule on the rules after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// They are tried too.
    Continue,
    /// They are not tried for the packets that match.
    Final,
    /// The packets that match are kept from them, and have no copies of this rule.
    Drop,
}

/// The orders for one port's packets.
#[derive(Default)]
pub struct InputPlan {
    /// The rules that take from the port, in order.
    pub steps: Vec<Step>,
    pub classifier: Classifier,
    /// Set where all packets go the same way, whatever is in them.
    pub straight: Option<Straight>,
    /// The egress of the originals if the port is a side of a wire.
    pub wire: Option<EgressId>,
    /// They do even while rules do not run.
    pub is_bypass: bool,
    /// Some stage looks at the packets' bytes.
    pub needs_frames: bool,
    /// Some sampler asks for lengths.
    pub needs_lens: bool,
    /// Some sampler, dedup or group asks for the time: that of each packet where the port has it, else one for the burst.
    pub needs_time: bool,
    /// Some group asks how far the port's packets have come in time.
    pub notes_time: bool,
    /// Some copies of its packets are to be anonymised.
    pub anonymizes: bool,
    /// Some copies of its packets are not the packets themselves.
    pub needs_copies: bool,
    /// Some tool asks for the packets' own times, or its copies say them.
    pub needs_stamps: bool,
}

impl PartialEq for InputPlan {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            steps,
            // compiled from the matchers of the rules that the steps name: equal where those are
            classifier: _,
            straight,
            wire,
            is_bypass,
            needs_frames,
            needs_lens,
            needs_time,
            notes_time,
            anonymizes,
            needs_copies,
            needs_stamps,
        } = self;
        let needs = [*needs_frames, *needs_lens, *needs_time, *notes_time, *anonymizes, *needs_copies];
        let others = [
            other.needs_frames,
            other.needs_lens,
            other.needs_time,
            other.notes_time,
            other.anonymizes,
            other.needs_copies,
        ];
        *steps == other.steps
            && *straight == other.straight
            && *wire == other.wire
            && (*is_bypass, *needs_stamps) == (other.is_bypass, other.needs_stamps)
            && needs == others
    }
}

/// The way of packets that no stage has to look at: every rule takes all of them, and every egress gets a copy of each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Straight {
    pub rules: Vec<RuleId>,
    /// In the order that copies are sent: originals on a wire go first.
    pub egresses: Vec<EgressId>,
}

/// A rule as the data path carries it out.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    pub rule: RuleId,
    /// Stores know its packets by it.
    pub mark: RuleMark,
    /// The rule's dedup, if it leaves out, counts or marks duplicates among this port's packets.
    pub dedup: Option<StepDedup>,
    pub is_scheduled: bool,
    pub is_limited: bool,
    pub is_sampled: bool,
    /// How flows are hashed for the sampler, where it asks.
    pub sample_hash: Option<HashId>,
    pub edits: Option<EditId>,
    /// The edits of duplicates, if they are marked.
    pub duplicate_edits: Option<EditId>,
    /// How deep the rule's edits anonymise its copies.
    pub anonymized: Option<Depth>,
    /// The fate of copies that are to be anonymised and cannot be read.
    pub unread: Unread,
    pub targets: Vec<Target>,
    pub verdict: Verdict,
    pub class: Class,
}

/// How a step looks for duplicates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepDedup {
    /// The port's place in the rule's scope.
    pub port: u8,
    pub action: DedupAction,
}
