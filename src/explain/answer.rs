//! The answer about one packet.

use serde::Serialize;

use super::fields::Fields;
use super::reason::Because;
use tapline_api::words::{Disposition, Refusal};

/// The fate of one packet, and the reasons.
#[derive(Clone, Debug)]
pub struct Answer {
    pub packet: PacketPart,
    /// The rules that take from the packet's port, in their order.
    pub rules: Vec<RulePart>,
    pub copies: Vec<CopyPart>,
    pub disposition: Disposition,
}

/// The packet itself.
#[derive(Clone, Debug)]
pub struct PacketPart {
    /// From 1, in the order of the capture.
    pub number: u64,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    pub port: String,
    /// Bytes that the capture has, and those on the wire; of what is inside a tunnel that ends at the port, those of that.
    pub captured: u32,
    pub original: u32,
    pub fields: Fields,
    /// Tunnels end at the port, and the packet came in none of them.
    pub refusal: Option<Refusal>,
}

/// The outcome of a rule for one packet.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum RuleResult {
    Yes,
    No,
    /// It is disabled, or its schedule has it off.
    Off,
    /// It has had the packets that its limit allows.
    Limited,
    SampledOut,
    Duplicate,
    /// A rule before took the packet away.
    NotTried,
}

impl RuleResult {
    /// Returns the word for it in a text of columns.
    pub fn word(self) -> &'static str {
        match self {
            RuleResult::Yes => "yes",
            RuleResult::No => "no",
            RuleResult::Off => "off",
            RuleResult::Limited => "limited",
            RuleResult::SampledOut => "out",
            RuleResult::Duplicate => "dup",
            RuleResult::NotTried => "-",
        }
    }
}

/// A rule that takes from the packet's port.
#[derive(Clone, Debug)]
pub struct RulePart {
    pub priority: u32,
    /// The file of the line that creates it.
    pub file: String,
    pub line: usize,
    /// The conditions as they were written.
    pub words: String,
    pub result: RuleResult,
    /// The rule that took the packet away from this one.
    pub by: Option<u32>,
    pub because: Vec<Because>,
    /// The fewest primitives of `because` whose change turns `yes` to `no`, or `no` to `yes`.
    pub flips: Vec<String>,
    pub sample: Option<SamplePart>,
    pub limit_remaining: Option<u64>,
    /// The answer may be another one where other packets came before.
    pub depends_on_packets_before: bool,
    /// The tools and groups that it sends to; `drop` for a rule that drops.
    pub targets: Vec<String>,
}

/// The judgement of a rule's sampler.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct SamplePart {
    /// The words of the language: `1/N`, `random`, `flow`, `first`, `rate`, `every`.
    pub method: String,
    /// The part of the packets, or of the flows, that is kept, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The packet's place among those of which the first is kept, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The place of the flow between 0 and 1: those up to `share` are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draw: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    pub kept: bool,
}

/// A change that is made in a copy.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct StepPart {
    /// The word of the edit, `timestamp`, or the words of the transport.
    pub edit: String,
    /// The offset of the bytes that changed, in the copy before the step.
    pub at: usize,
    /// The bytes there before and after, in hexadecimal; long ones are cut, which `…` says.
    pub before: String,
    pub after: String,
    pub length: usize,
}

/// A copy for a tool, or an original that leaves a wire.
#[derive(Clone, Debug)]
pub struct CopyPart {
    /// The tool; of a wire, its name and the direction.
    pub tool: String,
    pub is_original: bool,
    /// The rule that chose the tool.
    pub rule: Option<u32>,
    pub group: Option<GroupPart>,
    pub steps: Vec<StepPart>,
    /// Bytes of the copy; 0 where it was not made.
    pub length: usize,
    /// Bytes that the timestamp and the transport add.
    pub overhead: i64,
    /// Addresses in it are replaced by a key that is drawn at each start: they are an example.
    pub is_example: bool,
    /// The word of the reason why it is not sent: that of a [`DropReason`](tapline_api::words::DropReason), or [`DISCARDED`]. `None`: it
    /// is sent.
    pub reason: Option<&'static str>,
    /// The copy's own bytes, and how many it would have if it were not cut.
    pub bytes: Vec<u8>,
    pub wire_len: u32,
}

/// The reason of a copy whose bucket is in the discard share of its group.
pub const DISCARDED: &str = "discarded";

/// The way in which a group chose a tool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupPart {
    pub name: String,
    pub hash: u64,
    pub bucket: usize,
    pub buckets: usize,
    /// The members that are up.
    pub up: Vec<String>,
}

impl CopyPart {
    /// A copy of which only its tool is known.
    pub fn to(tool: String) -> Self {
        Self {
            tool,
            is_original: false,
            rule: None,
            group: None,
            steps: Vec::new(),
            length: 0,
            overhead: 0,
            is_example: false,
            reason: None,
            bytes: Vec::new(),
            wire_len: 0,
        }
    }
}

impl Answer {
    /// Gives the copies that are sent.
    pub fn sent(&self) -> impl Iterator<Item = &CopyPart> {
        self.copies.iter().filter(|copy| copy.reason.is_none())
    }
}
