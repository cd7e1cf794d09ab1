//! `tapline graph FILE`: draw a pipeline file; start nothing.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::output::{print, tell_line};
use super::signals::Signals;
use super::{SourceArgs, Status, load};
use crate::plan::graph::{Graph, MOST_RULES};
use tapline_api::snapshot::Snapshot;

/// The longest line of statistics that is read, in bytes: 32 ports with tunnels and 10 000 rules have less than a tenth.
const LONGEST_LINE: u64 = 64 << 20;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// File that the picture is written to; its ending says the form (.svg, .dot, .mmd, .json) [default: standard output]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Form of the picture [default: by the ending of OUT, else svg]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Statistics of a run of FILE (`run --stats`): the last line's counts are written beside edges and boxes
    #[arg(long, value_name = "STATS")]
    stats: Option<PathBuf>,
    /// Most rules that are drawn one by one; of more, those with the same targets share a box
    #[arg(long, value_name = "N", default_value_t = MOST_RULES)]
    rules: usize,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    /// A picture for browsers
    Svg,
    /// Text for Graphviz
    Dot,
    /// Text for Mermaid
    Mmd,
    /// tapline.graph/1
    Json,
}

impl Format {
    /// Returns the form that a file's name asks for.
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "svg" => Some(Format::Svg),
            "dot" | "gv" => Some(Format::Dot),
            "mmd" | "mermaid" => Some(Format::Mmd),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

impl Args {
    /// Returns whether the picture would take the place of the statistics.
    fn is_written_over(&self) -> bool {
        let real = |path: &PathBuf| path.canonicalize().ok();
        let output = self.output.as_ref().and_then(real);
        output.is_some() && output == self.stats.as_ref().and_then(real)
    }
}

pub fn run(args: &Args) -> Status {
    let format = match (args.format, &args.output) {
        (Some(format), _) => format,
        (None, None) => Format::Svg,
        (None, Some(path)) => match Format::of(path) {
            Some(format) => format,
            None => {
                let path = path.display();
                tell_line(format_args!(
                    "error: -o {path}: expected a name that ends in .svg, .dot, .mmd or .json, or --format"
                ));
                return Status::Refused;
            }
        },
    };
    if args.is_written_over() {
        tell_line("error: -o and --stats name the same file; expected a file of its own for the picture");
        return Status::Refused;
    }
    let outputs = args.output.iter().map(|path| ("-o", path.clone())).collect();
    let plan = Signals::handle().and_then(|signals| load(&args.source, outputs, &signals, || {}));
    let plan = match plan {
        Ok((_, plan)) => plan,
        Err(status) => return status,
    };
    let name = args.source.file.file_name().unwrap_or(args.source.file.as_os_str());
    let mut graph = Graph::of(&plan, &name.to_string_lossy(), args.rules);
    if let Some(bundled) = graph.bundled() {
        tell_line(format_args!("note: {bundled}; --rules {} draws each by itself", graph.rules));
    }
    if let Some(path) = &args.stats
        && let Err(status) = count(&mut graph, path)
    {
        return status;
    }
    let text = match format {
        Format::Svg => graph.svg(),
        Format::Dot => graph.dot(),
        Format::Json => format!("{:#}\n", graph.json()),
        Format::Mmd => match graph.mermaid() {
            Ok(text) => text,
            Err(error) => {
                tell_line(format_args!("error: the graph has {error}"));
                return Status::Failed;
            }
        },
    };
    let Some(path) = &args.output else {
        print(text);
        return Status::Done;
    };
    match std::fs::write(path, text) {
        Ok(()) => Status::Done,
        Err(error) => {
            tell_line(format_args!("error: {} cannot be written: {error}", path.display()));
            Status::Failed
        }
    }
}

/// Writes the counts of a statistics file to a graph.
fn count(graph: &mut Graph, path: &Path) -> Result<(), Status> {
    let shown = path.display();
    let refuse = |why: &str| {
        tell_line(format_args!("error: --stats {shown}: {why}"));
        Status::Refused
    };
    let line = last_line(path).map_err(|error| refuse(&error.to_string()))?;
    let snapshot: Snapshot = serde_json::from_str(&line)
        .map_err(|error| refuse(&format!("the last line is no tapline.stats/1: {error}")))?;
    let unknown = graph.count(&snapshot);
    if !unknown.is_empty() {
        let more =
            if unknown.len() > 3 { format!(" and {} more", unknown.len() - 3) } else { String::new() };
        let names = unknown.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        tell_line(format_args!(
            "warning: --stats {shown} has nothing of {names}{more}: is it of another file?"
        ));
    }
    Ok(())
}

/// Returns the last whole line of a file that is not empty. Of a long file only the end is read.
fn last_line(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let there = file.metadata()?;
    if there.is_file() {
        file.seek(SeekFrom::Start(there.len().saturating_sub(LONGEST_LINE)))?;
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_LINE).read_to_end(&mut bytes)?;
    let (whole, begun) = match bytes.iter().rposition(|&byte| byte == b'\n') {
        Some(end) => bytes.split_at(end + 1),
        None => (&[][..], &bytes[..]),
    };
    // a run that goes on may be writing one more
    let line = whole.split(|&byte| byte == b'\n').rev().find(|line| !line.is_empty()).unwrap_or(begun);
    if line.is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    String::from_utf8(line.to_vec()).map_err(io::Error::other)
}
