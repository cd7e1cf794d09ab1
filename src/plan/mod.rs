//! Pipeline file -> plan: names become ids, mistakes become diagnostics, rules become steps that lcores run.

/// Who may do what.
pub mod access;
/// Warnings: what is most likely not meant.
mod check;
/// Commands -> fewer commands that say the same.
mod compact;
/// Rules -> what becomes of each port's packets.
mod compile;
/// A plan in words.
pub mod describe;
/// Devices by their arguments.
pub mod devargs;
/// Compares two plans.
pub mod diff;
/// Lists what is read and written, in one table.
mod files;
/// The picture of a plan.
pub mod graph;
/// Names a text of commands.
pub mod identity;
/// Warns of interfaces that are shared, or not there.
mod interfaces;
/// Computes how many mbufs a plan needs.
pub mod memory;
/// How far planning is, and giving it up.
pub mod progress;
/// Names -> ids.
mod resolve;
/// How a plan is run.
pub mod run;
/// When rules are on.
pub mod schedule;
/// Gives planning what it goes by besides the text.
pub mod surroundings;
/// The plan itself.
pub mod value;

pub use compact::compact;
pub use resolve::origin;
pub use run::{Run, RunOptions};
pub use surroundings::Surroundings;
pub use value::Plan;

use std::path::Path;

use self::progress::{GivenUp, Progress, Stage};
use tapline_lang::Parsed;

/// Returns a path as a shell takes it for one word.
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Makes a plan of what was parsed, in such surroundings. Mistakes and warnings are added to `parsed.diagnostics`; with an error there
/// is no plan.
pub fn plan(parsed: &mut Parsed, surroundings: &Surroundings) -> Option<Plan> {
    plan_after(parsed, surroundings, None, &Progress::default())
        .expect("nobody else has this progress, to give it up")
}

/// Makes a plan that is to take the place of `before`: what that chose at random stays, and so do thresholds of tools. `progress` says to others how far it is.
///
/// The plan is a function of `parsed`, `surroundings` and `before`: nothing else is read.
///
/// # Errors
/// If the plan is given up: what `parsed.diagnostics` say then is of no use.
pub fn plan_after(
    parsed: &mut Parsed,
    surroundings: &Surroundings,
    before: Option<&Plan>,
    progress: &Progress,
) -> Result<Option<Plan>, GivenUp> {
    let random_key = before.and_then(|before| before.random_key.clone());
    let mut diagnostics = std::mem::take(&mut parsed.diagnostics);
    let resolved = resolve::resolve(parsed, surroundings, random_key, &mut diagnostics, progress);
    progress.go_on()?;
    if !diagnostics.has_errors() {
        progress.begin(Stage::Warnings, resolved.rules.len());
        check::warn(&resolved, parsed, surroundings, &mut diagnostics, progress)?;
    }
    diagnostics.sort(&parsed.sources);
    parsed.diagnostics = diagnostics;
    if parsed.diagnostics.has_errors() {
        Ok(None)
    } else {
        let mut plan = compile::compile(resolved, before, progress)?;
        if plan.tools.iter().any(|tool| tool.store.is_some()) {
            plan.hash = value::PlanHash(Some(identity::plan_hash(&tapline_lang::text(&parsed.file))));
        }
        Ok(Some(plan))
    }
}
