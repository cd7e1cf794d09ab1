//! The body of the fuzz target for pipeline files: any text is parsed and planned, or refused with places that lie in it.

use tapline::plan::plan;
use tapline_lang::{parse_command, parse_text};

/// Parses bytes as a file and as a command, and plans what the file says.
pub(super) fn parse_anything(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // files are not looked for: what a name in the bytes may stand for is not the parser's business
    if text.contains("include") || text.contains("file") {
        return;
    }
    let mut parsed = parse_text("fuzz.pipe", &text, &[]);
    let planned = plan(&mut parsed);
    let shown = parsed.diagnostics.render(&parsed.sources);
    assert!(planned.is_some() || !shown.is_empty(), "refused without a word");
    let _ = parse_command(&text);
}
