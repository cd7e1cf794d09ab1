//! The programs of all rules that share an input, decided together over a burst: what the classify stage calls.

use std::fmt;

use super::bpf::verify::Program;
use super::native::code::{NativeCode, NoNativeCode};
use super::native::graph::{Graph, NodeId};
use super::native::lower::Layout;
use super::native::merge::Merged;
use tapline_dpdk::mbuf::MbufFrames;
use tapline_packet::burst::Selection;
use tapline_packet::frame::{Frame, SplitFrame};

/// The engine that runs the programs of a set.
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
pub struct Filters {
    set: Set,
    /// The same over packets in mbufs, where that was asked for and no program is left to the interpreter.
    of_mbufs: Option<NativeCode>,
}

/// A set of programs over frames in two pieces: what `through` looks at.
pub struct SplitFilters(Set);

impl Filters {
    /// Prepares `programs`; selections come in their order. Where there can be no native code, the interpreter serves.
    pub fn build(programs: &[Program]) -> Filters {
        Filters { set: Set::build(Layout::Whole, programs), of_mbufs: None }
    }

    /// The same, for packets in mbufs too: for bursts of which no other stage asks for frames.
    pub fn build_for_mbufs(programs: &[Program]) -> Filters {
        let mut interpreted = Vec::new();
        let parts = parts(programs, &mut interpreted);
        let of_mbufs = if interpreted.is_empty() {
            NativeCode::generate(Layout::Mbuf, &parts, programs.len()).ok()
        } else {
            None
        };
        Filters { set: Set::of(Layout::Whole, programs, &parts, interpreted), of_mbufs }
    }

    /// Prepares `programs` for the interpreter.
    pub fn interpreted(programs: &[Program], reason: &str) -> Filters {
        Filters { set: Set::interpreted(programs, reason.to_owned()), of_mbufs: None }
    }

    /// Sets each program's selection to the packets of the burst that it accepts.
    /// There are at most `MAX_BURST` frames, and as many selections as programs.
    /// # Panics
    /// If there are not.
    pub fn select(&self, frames: &[Frame<'_>], selections: &mut [Selection]) {
        selections.fill(Selection::NONE);
        if let Some(code) = &self.set.code {
            code.select(frames, selections);
        }
        self.set.interpret(frames, selections, Program::matches);
    }

    /// The same for packets in mbufs. Whether it could: not where it was not built for them or a packet is in several segments, and
    /// then selections say nothing.
    pub fn select_mbufs(&self, frames: MbufFrames<'_>, selections: &mut [Selection]) -> bool {
        let Some(code) = &self.of_mbufs else { return false };
        selections.fill(Selection::NONE);
        code.select_mbufs(frames, selections)
    }

    pub fn engine(&self) -> &Engine {
        &self.set.engine
    }

    /// Programs that the interpreter decides: all without native code, else those too complex to compile.
    pub fn interpreted_count(&self) -> usize {
        self.set.interpreted.len()
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
        Set::of(layout, programs, &parts, interpreted)
    }

    fn of(
        layout: Layout,
        programs: &[Program],
        parts: &[(Graph, Merged)],
        interpreted: Vec<(usize, Program)>,
    ) -> Set {
        match NativeCode::generate(layout, parts, programs.len()) {
            Ok(code) => {
                Set { engine: Engine::Native, program_count: programs.len(), code: Some(code), interpreted }
            }
            Err(error) => Set::without_code(programs, error),
        }
    }

    fn without_code(programs: &[Program], error: NoNativeCode) -> Set {
        Set::interpreted(programs, error.to_string())
    }

    fn interpreted(programs: &[Program], reason: String) -> Set {
        let interpreted = programs.iter().cloned().enumerate().collect();
        Set {
            engine: Engine::Interpreter { reason },
            program_count: programs.len(),
            code: None,
            interpreted,
        }
    }

    fn interpret<F>(&self, frames: &[F], selections: &mut [Selection], matches: fn(&Program, &F) -> bool) {
        assert_eq!(selections.len(), self.program_count, "one selection a program");
        for (index, program) in &self.interpreted {
            let accepted = frames.iter().enumerate().filter(|(_, frame)| matches(program, frame));
            selections[*index] = accepted.map(|(packet, _)| packet).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile;
    use tapline_dpdk::mbuf::MbufHeaders;

    fn compiled(expressions: &[&str]) -> Vec<Program> {
        expressions.iter().map(|text| compile(text).expect("a valid expression")).collect()
    }

    #[test]
    fn the_work_grows_as_the_rules_and_their_alternatives_do() {
        let work = |rules: usize, alternatives: usize| {
            let rule = |rule: usize| {
                let hosts = (0..alternatives).map(|index| rule * alternatives + index);
                let text: Vec<String> = hosts
                    .map(|host| format!("host 10.0.{}.{} and port {}", host / 256, host % 256, host + 1))
                    .collect();
                compile(&text.join(" or ")).expect("a valid expression")
            };
            let programs: Vec<Program> = (0..rules).map(rule).collect();
            let parts = parts(&programs, &mut Vec::new());
            NativeCode::generate(Layout::Whole, &parts, programs.len()).expect("a known processor");
            parts.iter().map(|(graph, _)| graph.work()).sum::<usize>()
        };
        let (few, more_rules, more_alternatives, longer) =
            (work(8, 5), work(16, 5), work(8, 10), work(8, 40));
        assert!(more_rules <= 3 * few, "{few} for 8 rules of 5 alternatives, {more_rules} for 16");
        assert!(
            more_alternatives <= 3 * few,
            "{few} for 8 rules of 5 alternatives, {more_alternatives} of 10"
        );
        // compiled each for itself
        assert!(longer <= 12 * few, "{few} for 8 rules of 5 alternatives, {longer} of 40");
    }

    /// Ethernet, type ARP.
    fn arp() -> Vec<u8> {
        let mut bytes = vec![0xff; 12];
        bytes.extend([8, 6]);
        bytes.resize(60, 0);
        bytes
    }

    #[test]
    fn a_set_of_no_programs_selects_nothing_and_a_burst_of_none_too() {
        Filters::build(&[]).select(&[Frame::whole(&arp())], &mut []);
        let mut selections = [Selection::ALL];
        Filters::build(&compiled(&["arp"])).select(&[], &mut selections);
        assert_eq!(selections, [Selection::NONE]);
    }

    #[test]
    fn all_64_packets_of_a_burst_have_their_bit() {
        let arp = arp();
        let frames = [Frame::whole(&arp); 64];
        let mut selections = [Selection::NONE; 3];
        Filters::build(&compiled(&["arp", "ip", "ether[0] = 0xff"])).select(&frames, &mut selections);
        assert_eq!(selections, [Selection::first(64), Selection::NONE, Selection::first(64)]);
    }

    #[test]
    fn packets_in_mbufs_are_judged_where_they_are_unless_one_is_in_several_segments() {
        let (arp, long) = (arp(), vec![0; 61]);
        let frames = [Frame::whole(&arp), Frame::whole(&long), Frame::new(&arp, 61)];
        let mut mbufs = MbufHeaders::of(&frames);
        let filters = Filters::build_for_mbufs(&compiled(&["arp", "len > 60"]));
        let mut selections = [Selection::ALL; 2];
        assert!(filters.select_mbufs(mbufs.frames(), &mut selections));
        assert_eq!(selections, [Selection::from_bits(0b101), Selection::from_bits(0b110)]);
        mbufs.continue_elsewhere(2);
        assert!(!filters.select_mbufs(mbufs.frames(), &mut selections));
    }

    #[test]
    fn the_interpreter_serves_with_its_reason_where_there_is_no_native_code() {
        let filters = Filters::interpreted(&compiled(&["arp", "ip"]), "mprotect: permission denied");
        assert_eq!(
            filters.engine(),
            &Engine::Interpreter { reason: "mprotect: permission denied".to_owned() }
        );
        assert_eq!(filters.engine().to_string(), "interpreter (mprotect: permission denied)");
        assert_eq!(filters.interpreted_count(), 2);
        let mut selections = [Selection::NONE; 2];
        filters.select(&[Frame::whole(&arp())], &mut selections);
        assert_eq!(selections, [Selection::from_bits(1), Selection::NONE]);
    }

    #[test]
    fn a_program_too_complex_to_compile_is_interpreted_beside_native_ones() {
        use crate::Insn;
        // A = A * 3 + X a hundred times over: one number a hundred operations deep.
        let mut insns =
            vec![Insn { code: 0x30, jt: 0, jf: 0, k: 0 }, Insn { code: 0x07, jt: 0, jf: 0, k: 0 }];
        for _ in 0..100 {
            insns
                .extend([Insn { code: 0x24, jt: 0, jf: 0, k: 3 }, Insn { code: 0x0c, jt: 0, jf: 0, k: 0 }]);
        }
        insns.push(Insn { code: 0x16, jt: 0, jf: 0, k: 0 });
        let mut programs = compiled(&["arp"]);
        programs.insert(0, Program::verify(insns).expect("a valid program"));
        let filters = Filters::build(&programs);
        assert_eq!((filters.engine(), filters.interpreted_count()), (&Engine::Native, 1));
        let mbufs = MbufHeaders::of(&[]);
        assert!(
            !Filters::build_for_mbufs(&programs).select_mbufs(mbufs.frames(), &mut [Selection::NONE; 2])
        );
        let mut selections = [Selection::NONE; 2];
        filters.select(&[Frame::whole(&arp())], &mut selections);
        assert_eq!(selections, [Selection::from_bits(1), Selection::from_bits(1)]);
    }

    #[test]
    fn a_long_disjunction_is_compiled_for_itself() {
        let text: Vec<String> =
            (0..400).map(|index| format!("ether[{}:4] = {index}", 14 + index % 40)).collect();
        let program = compile(&text.join(" or ")).expect("a valid expression");
        let mut frame = arp();
        frame[14 + 39..][..4].copy_from_slice(&399u32.to_be_bytes());
        let filters = Filters::build(&[program.clone(), program]);
        assert_eq!(filters.interpreted_count(), 0);
        let mut selections = [Selection::NONE; 2];
        filters.select(&[Frame::whole(&frame), Frame::whole(&arp())], &mut selections);
        // The zeros of the second frame are matched by index 0.
        assert_eq!(selections, [Selection::from_bits(0b11); 2]);
    }

    #[test]
    fn no_page_is_writable_and_executable_while_code_is_loaded() {
        let filters = Filters::build(&compiled(&["tcp port 80", "udp"]));
        assert_eq!(filters.engine(), &Engine::Native);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux");
        let mode = |line: &str| line.split(' ').nth(1).unwrap_or_default().to_owned();
        let is_anonymous = |line: &str| line.split_whitespace().count() == 5;
        assert!(
            maps.lines().any(|line| mode(line) == "r-xp" && is_anonymous(line)),
            "generated code:\n{maps}"
        );
        assert!(!maps.lines().any(|line| mode(line).contains("wx")), "{maps}");
        drop(filters);
    }

    #[test]
    fn code_is_unmapped_when_a_set_is_dropped() {
        let programs = compiled(&["tcp port 80", "udp", "host 10.0.0.1"]);
        for _ in 0..1000 {
            drop(Filters::build(&programs));
        }
        let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux");
        let size = |line: &str| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let is_code = rest.starts_with("r-xp") && rest.split_whitespace().count() == 4;
            is_code.then_some(u64::from_str_radix(end, 16).ok()? - u64::from_str_radix(start, 16).ok()?)
        };
        let mapped: u64 = maps.lines().filter_map(size).sum();
        // A thousand sets take a page each at least; tests beside this one hold a few.
        assert!(mapped < 500 * 4096, "{mapped} bytes of generated code are mapped");
    }
}
