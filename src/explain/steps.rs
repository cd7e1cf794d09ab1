//! The steps by which a packet becomes a copy, with the bytes that each changes.

use super::answer::StepPart;
use crate::plan::Plan;
use tapline_datapath::copies::edit::{DRAFT_HEADROOM, Draft, EditPlan, EditState};
use tapline_datapath::copies::facts::CopyFacts;
use tapline_datapath::copies::transport::Fit;
use tapline_datapath::ids::{EditId, ToolId};
use tapline_packet::by_id::ById;
use tapline_packet::frame::Frame;

/// Bytes of a change that are shown.
const MOST_SHOWN: usize = 32;

/// The state of edits, which are carried out once more to be shown.
pub struct Shown {
    states: ById<EditId, EditState>,
}

impl Shown {
    pub fn new(plan: &Plan) -> Self {
        Self { states: plan.work.edits.iter().map(EditPlan::state).collect() }
    }

    /// Carries out the edits of a rule and of a tool; gives the steps that changed something, and the edited packet.
    pub fn edits(
        &mut self,
        plan: &Plan,
        frame: &Frame<'_>,
        facts: &CopyFacts,
        (of_rule, tool): (Option<EditId>, ToolId),
    ) -> (Vec<StepPart>, Vec<u8>) {
        let (mut steps, mut before) = (Vec::new(), frame.bytes().to_vec());
        let mut buffer = [&[0; 4 * DRAFT_HEADROOM][..], frame.bytes()].concat();
        let mut draft = Draft::new(&mut buffer, 4 * DRAFT_HEADROOM, 0, frame.original_len() as usize);
        for id in of_rule.into_iter().chain(plan.tools[tool].copy.edits) {
            let mut show = |edit: &'static str, draft: &Draft<'_>| {
                steps.extend(change(edit, &before, draft.front()));
                before = draft.front().to_vec();
            };
            let applied =
                plan.work.edits[id].apply_shown(facts, &mut draft, &mut self.states[id], &mut show);
            debug_assert!(applied.is_ok(), "a draft of the whole packet needs no more");
        }
        if let Some(Fit::Slice { keep_bytes }) =
            plan.tools[tool].copy.room.map(|room| room.fit(before.len()))
        {
            let cut = before[..keep_bytes.min(before.len())].to_vec();
            steps.extend(change("oversize slice", &before, &cut));
            before = cut;
        }
        (steps, before)
    }
}

/// The step from `before` to `after`; `None` where nothing changed.
pub fn change(edit: &str, before: &[u8], after: &[u8]) -> Option<StepPart> {
    if before == after {
        return None;
    }
    let alike = |pairs: &mut dyn Iterator<Item = (&u8, &u8)>| pairs.take_while(|(a, b)| a == b).count();
    // what is put in front, or taken off there, leaves the rest as it is
    let shorter = before.len().min(after.len());
    let behind = alike(&mut before.iter().rev().zip(after.iter().rev()));
    let is_front = before.len() != after.len() && behind == shorter;
    let at = if is_front { 0 } else { alike(&mut before.iter().zip(after)) };
    let behind = behind.min(shorter - at);
    let shown = |bytes: &[u8]| {
        let hex: Vec<String> = bytes.iter().take(MOST_SHOWN).map(|byte| format!("{byte:02x}")).collect();
        hex.join(" ") + if bytes.len() > MOST_SHOWN { " …" } else { "" }
    };
    Some(StepPart {
        edit: edit.to_owned(),
        at,
        before: shown(&before[at..before.len() - behind]),
        after: shown(&after[at..after.len() - behind]),
        length: after.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_as_short_as_it_can_be() {
        let step = |before: &[u8], after: &[u8]| {
            change("x", before, after).map(|step| (step.at, step.before, step.after, step.length))
        };
        let of =
            |at, before: &str, after: &str, length| Some((at, before.to_owned(), after.to_owned(), length));
        assert_eq!(step(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(step(&[1, 2, 3, 4], &[1, 9, 8, 4]), of(1, "02 03", "09 08", 4));
        assert_eq!(step(&[1, 2, 3, 4], &[1, 2]), of(2, "03 04", "", 2));
        assert_eq!(step(&[1, 2], &[9, 9, 1, 2]), of(0, "", "09 09", 4));
        assert_eq!(step(&[1, 2, 0x81, 0, 3], &[1, 2, 3]), of(2, "81 00", "", 3));
    }
}
