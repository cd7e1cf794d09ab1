//! Classify: every rule of an input at once, one selection a rule.
//!
//! Stands behind parse. What a rule matches is settled at plan time: everything, a filter (a program among those that are evaluated
//! together), a list of VLANs, or both.

use crate::dpdk::Frame;
use crate::filter::native::Filters;
use crate::filter::verify::Program;

use super::burst::Selection;

/// What one rule matches.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// `vlan LIST`: inclusive ranges of the outer VLAN ID.
    pub vlans: Option<Vec<(u16, u16)>>,
    /// `match`: all must hold.
    pub programs: Vec<Program>,
}

/// All matchers of one input, compiled together.
#[derive(Default)]
pub struct Classifier {
    filters: Filters,
    steps: Vec<Compiled>,
}

struct Compiled {
    vlans: Option<Vec<(u16, u16)>>,
    /// Indices among the filters.
    programs: Vec<usize>,
}

/// Room for what the filters say of a burst; a worker's own.
#[derive(Default)]
pub struct ClassifyScratch {
    filters: Vec<Selection>,
}

impl Classifier {
    /// Compiles the matchers of an input's rules; equal programs are evaluated once.
    pub fn new(matchers: &[Matcher]) -> Self {
        let mut programs: Vec<Program> = Vec::new();
        let mut index_of = |program: &Program| {
            programs.iter().position(|known| known == program).unwrap_or_else(|| {
                programs.push(program.clone());
                programs.len() - 1
            })
        };
        let steps = matchers
            .iter()
            .map(|matcher| Compiled {
                vlans: matcher.vlans.clone(),
                programs: matcher.programs.iter().map(&mut index_of).collect(),
            })
            .collect();
        Self { filters: Filters::build(&programs), steps }
    }

    /// Whether any rule looks at the packets.
    pub fn needs_frames(&self) -> bool {
        self.steps.iter().any(|step| step.vlans.is_some() || !step.programs.is_empty())
    }
}

/// Says for each rule which packets of the burst it matches: `selections[i]` is rule `i`'s. `all` has a bit for each packet;
/// `frames` may be empty where no rule looks at them.
#[inline]
pub fn classify(
    classifier: &Classifier,
    all: Selection,
    frames: &[Frame<'_>],
    scratch: &mut ClassifyScratch,
    selections: &mut [Selection],
) {
    if !frames.is_empty() {
        scratch.filters.resize(classifier.filters.len(), Selection::NONE);
        classifier.filters.select(frames, &mut scratch.filters);
    }
    for (step, selection) in classifier.steps.iter().zip(selections) {
        let mut selected = all.0;
        for &program in &step.programs {
            selected &= scratch.filters[program].0;
        }
        if let Some(vlans) = &step.vlans {
            selected &= select_vlans(frames, vlans).0;
        }
        *selection = Selection(selected);
    }
}

fn select_vlans(frames: &[Frame<'_>], vlans: &[(u16, u16)]) -> Selection {
    let mut selected = 0;
    for (index, frame) in frames.iter().enumerate() {
        let is_in = outer_vlan(frame.bytes()).is_some_and(|id| vlans.iter().any(|&(first, last)| first <= id && id <= last));
        selected |= u64::from(is_in) << index;
    }
    Selection(selected)
}

/// The VLAN ID of the outermost tag. IEEE 802.1Q, 9.6 (0x8100 and 0x88a8), and 0x9100, which older QinQ gear writes.
fn outer_vlan(bytes: &[u8]) -> Option<u16> {
    let tag = bytes.get(12..16)?;
    matches!(u16::from_be_bytes([tag[0], tag[1]]), 0x8100 | 0x88a8 | 0x9100).then(|| u16::from_be_bytes([tag[2], tag[3]]) & 0xfff)
}
