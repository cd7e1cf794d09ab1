//! The programs of all rules that share an input, decided together over a burst: what the classify stage calls.

use std::fmt;

use super::graph::{Graph, NodeId};
use super::lower::Layout;
use super::merge::Merged;
use super::native::{NativeCode, NoNativeCode};
use super::verify::Program;
use crate::datapath::burst::Selection;
use crate::dpdk::{Frame, SplitFrame};

/// What decides the programs of a set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Engine {
    /// Code generated for this processor.
    Native,
    /// The interpreter, because of what the code generator or the system said.
    Interpreter { reason: String },
}

impl fmt::Display for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Engine::Native => write!(out, "native"),
            Engine::Interpreter { reason } => write!(out, "interpreter ({reason})"),
        }
    }
}

/// A set of programs over whole frames.
pub struct Filters(Set);

/// A set of programs over frames in two pieces: what `through` looks at.
pub struct SplitFilters(Set);

impl Filters {
    /// Prepares `programs`; selections come in their order. Where there can be no native code, the interpreter serves.
    pub fn build(programs: &[Program]) -> Filters {
        Filters(Set::build(Layout::Whole, programs))
    }

    /// Prepares `programs` for the interpreter.
    pub fn interpreted(programs: &[Program], reason: &str) -> Filters {
        Filters(Set::interpreted(programs, reason.to_owned()))
    }

    /// Sets each program's selection to the packets of the burst that it accepts.
    /// There are at most `MAX_BURST` frames, and as many selections as programs.
    /// # Panics
    /// If there are not.
    pub fn select(&self, frames: &[Frame<'_>], selections: &mut [Selection]) {
        selections.fill(Selection::NONE);
        if let Some(code) = &self.0.code {
            code.select(frames, selections);
        }
        self.0.interpret(frames, selections, Program::matches);
    }

    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Programs that the interpreter decides: all without native code, else those too complex to compile.
    pub fn interpreted_count(&self) -> usize {
        self.0.interpreted.len()
    }
}

impl SplitFilters {
    /// As `Filters::build`.
    pub fn build(programs: &[Program]) -> SplitFilters {
        SplitFilters(Set::build(Layout::Split, programs))
    }

    /// As `Filters::interpreted`.
    pub fn interpreted(programs: &[Program], reason: &str) -> SplitFilters {
        SplitFilters(Set::interpreted(programs, reason.to_owned()))
    }

    /// As `Filters::select`: a frame is judged as if its header and payload were joined.
    pub fn select(&self, frames: &[SplitFrame<'_>], selections: &mut [Selection]) {
        selections.fill(Selection::NONE);
        if let Some(code) = &self.0.code {
            code.select_split(frames, selections);
        }
        self.0.interpret(frames, selections, Program::matches_split);
    }

    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// As `Filters::interpreted_count`.
    pub fn interpreted_count(&self) -> usize {
        self.0.interpreted.len()
    }
}

struct Set {
    engine: Engine,
    program_count: usize,
    code: Option<NativeCode>,
    /// The programs that native code leaves out, by index.
    interpreted: Vec<(usize, Program)>,
}

/// Programs that are merged with each other; more at once take longer to compile than they save.
const MERGED_TOGETHER: usize = 64;
/// A program with more nodes than this is compiled for itself.
const MAX_MERGED_NODES: usize = 512;

impl Set {
    fn build(layout: Layout, programs: &[Program]) -> Set {
        let mut interpreted = Vec::new();
        let parts = parts(programs, &mut interpreted);
        match NativeCode::generate(layout, &parts, programs.len()) {
            Ok(code) => Set { engine: Engine::Native, program_count: programs.len(), code: Some(code), interpreted },
            Err(error) => Set::without_code(programs, error),
        }
    }

    fn without_code(programs: &[Program], error: NoNativeCode) -> Set {
        Set::interpreted(programs, error.to_string())
    }

    fn interpreted(programs: &[Program], reason: String) -> Set {
        let interpreted = programs.iter().cloned().enumerate().collect();
        Set { engine: Engine::Interpreter { reason }, program_count: programs.len(), code: None, interpreted }
    }

    fn interpret<F>(&self, frames: &[F], selections: &mut [Selection], matches: fn(&Program, &F) -> bool) {
        assert_eq!(selections.len(), self.program_count, "one selection a program");
        for (index, program) in &self.interpreted {
            let accepted = frames.iter().enumerate().filter(|(_, frame)| matches(program, frame));
            selections[*index] = Selection(accepted.fold(0, |bits, (packet, _)| bits | 1 << packet));
        }
    }
}

/// Divides `programs` into the parts that each become a function; those too complex for it go to `interpreted`.
fn parts(programs: &[Program], interpreted: &mut Vec<(usize, Program)>) -> Vec<(Graph, Merged)> {
    let mut parts = Vec::new();
    let indexed: Vec<(usize, &Program)> = programs.iter().enumerate().collect();
    for chunk in indexed.chunks(MERGED_TOGETHER) {
        let mut graph = Graph::new();
        let mut roots: Vec<(usize, NodeId)> = Vec::new();
        for &(index, program) in chunk {
            let mut own = Graph::new();
            let Ok(root) = own.add(program) else {
                interpreted.push((index, program.clone()));
                continue;
            };
            if own.in_order(root).len() > MAX_MERGED_NODES {
                parts.push((own, Merged::alone(index, root)));
            } else if let Ok(root) = graph.add(program) {
                roots.push((index, graph.ask_bounds_once(root)));
            }
        }
        if !roots.is_empty() {
            let merged = Merged::new(&mut graph, roots);
            parts.push((graph, merged));
        }
    }
    parts
}
