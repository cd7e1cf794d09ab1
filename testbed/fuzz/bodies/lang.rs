//! The body of the fuzz target for pipeline files: any text is parsed and planned, or refused with places that lie in it.

use tapline::plan::{Surroundings, plan};
use tapline_lang::{parse_command, parse_text};

/// Parses bytes as a file and as a command, and plans what the file says.
pub(super) fn parse_anything(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parsed = parse_text("fuzz.pipe", &text, &[]);
    // names in the bytes lead to no file: there is none in these surroundings
    let planned = plan(&mut parsed, &Surroundings::fixed());
    let shown = parsed.diagnostics.render(&parsed.sources);
    assert!(planned.is_some() || !shown.is_empty(), "refused without a word");
    let _ = parse_command(&text);
}
