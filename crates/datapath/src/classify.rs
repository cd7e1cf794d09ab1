//! Classify: every rule of an input at once, one selection a rule.
//!
//! Stands behind receive. What a rule matches is settled at plan time and compiled for all rules of the input together: the filters
//! into one native function or, where there are many, into an index; those that look `through` layers likewise over the inner
//! frames. Only rules that got packets are told to the next stage, so that a thousand rules cost little more than ten.

use std::sync::Arc;

use super::flow::burst_flows::Flows;
use super::receive::decap::OuterId;
use tapline_dpdk::mbuf::MbufFrames;
use tapline_filter::index::{Index, PrefixSet};
use tapline_filter::terms::{Term, VlanSet};
use tapline_filter::through::{inside, inside_burst};
use tapline_filter::{Engine, Filters, Program, SplitFilters};
use tapline_packet::burst::{Known, MAX_BURST, Selection, Touched};
use tapline_packet::frame::{Frame, SplitFrame};
use tapline_packet::headers::layer::LayerSet;
use tapline_packet::layers::{Depth, Layers};

/// The conditions of one rule, which must all hold.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Matcher {
    /// `vlan LIST`.
    pub vlans: Option<VlanSet>,
    /// `match`: each holds where one of its programs does.
    pub filters: Vec<FilterTerm>,
    /// `vni`, `teid`, `mpls-label`, `bytes`.
    pub terms: Vec<Term>,
}

/// One filter: an expression, or a list (`match file`) of which one entry has to match.
#[derive(Clone, PartialEq, Debug)]
pub struct FilterTerm {
    pub programs: Vec<Program>,
    /// Prefixes of the list, looked up together; only where nothing is looked through.
    pub prefixes: Option<Arc<PrefixSet>>,
    /// The layers that it looks through; empty: none.
    pub through: LayerSet,
}

/// All matchers of one input, compiled together.
#[derive(Default)]
pub struct Classifier {
    /// Steps that match every packet.
    always: Vec<usize>,
    plain: Plain,
    through: Vec<Inner>,
    composites: Vec<Composite>,
    steps: usize,
    rows: usize,
    depth: Option<Depth>,
}

/// Filters that look at the frame itself. A program selects for its row; row `i` below the number of steps is step `i`'s answer.
#[derive(Default)]
struct Plain {
    index: Option<Index>,
    filters: Option<Filters>,
    rows: Vec<u32>,
    prefixes: Vec<(Arc<PrefixSet>, u32)>,
}

/// Filters that look through the same layers.
struct Inner {
    through: LayerSet,
    filters: SplitFilters,
    programs: Vec<Program>,
    rows: Vec<u32>,
}

/// A step whose answer is made of several.
struct Composite {
    step: usize,
    vlans: Option<VlanSet>,
    rows: Vec<u32>,
    terms: Vec<Term>,
}

/// The results of a burst's filters. Each worker has its own.
#[derive(Default)]
pub struct Matches {
    /// The packets that match each row; empty for rows that `touched` does not name.
    selections: Vec<Selection>,
    touched: Touched,
    /// The packets that match each program of one engine.
    programs: Vec<Selection>,
}

impl Matches {
    /// Room for the classifiers of a plan.
    pub fn new<'a>(classifiers: impl Iterator<Item = &'a Classifier>) -> Self {
        let rows = classifiers.map(|classifier| classifier.rows).max().unwrap_or(0);
        Self { selections: vec![Selection::NONE; rows], touched: Touched::new(rows), programs: Vec::new() }
    }

    /// Forgets what an unwound stage left.
    #[cold]
    pub fn clear(&mut self) {
        self.selections.fill(Selection::NONE);
        self.touched.clear();
    }

    /// Calls `on_step` for each step that matched, ascending, with its packets, and forgets them.
    #[inline]
    pub fn drain(&mut self, mut on_step: impl FnMut(usize, Selection)) {
        let selections = &mut self.selections;
        self.touched.drain(|row| {
            let selection = std::mem::take(&mut selections[row]);
            // rows of composites were taken when their step was decided, and are empty
            if !selection.is_empty() {
                on_step(row, selection);
            }
        });
    }

    #[inline(always)]
    fn add(&mut self, row: usize, selection: Selection) {
        if !selection.is_empty() {
            self.selections[row] |= selection;
            self.touched.mark(row);
        }
    }
}

/// Programs of one input from which on the index serves: below, one native function decides them all faster
/// (`benches/filter.rs` has the one, `benches/index.rs` the other).
pub const INDEX_FROM: usize = 24;

impl Classifier {
    /// Compiles the matchers of an input's steps.
    pub fn new(matchers: &[Matcher]) -> Self {
        Self::compile(matchers, false)
    }

    /// Compiles the matchers of an input's steps, of which no other stage looks at the packets: they may be looked at in their mbufs,
    /// if nothing but a few filters of the frame itself does.
    pub fn alone(matchers: &[Matcher]) -> Self {
        Self::compile(matchers, true)
    }

    fn compile(matchers: &[Matcher], is_alone: bool) -> Self {
        let steps = matchers.len();
        let mut rows = steps;
        let mut always = Vec::new();
        let mut composites = Vec::new();
        let mut plain: Vec<(Program, u32)> = Vec::new();
        let mut prefixes: Vec<(Arc<PrefixSet>, u32)> = Vec::new();
        let mut inner: Vec<(LayerSet, Vec<(Program, u32)>)> = Vec::new();
        let mut depth: Option<Depth> = None;
        for (step, matcher) in matchers.iter().enumerate() {
            let mut place = |filter: &FilterTerm, row: usize| {
                let rows = filter.programs.iter().map(|program| (program.clone(), row as u32));
                if filter.through.is_empty() {
                    plain.extend(rows);
                    prefixes.extend(filter.prefixes.iter().map(|set| (Arc::clone(set), row as u32)));
                } else {
                    depth = Some(Depth::Full);
                    match inner.iter_mut().find(|(through, _)| *through == filter.through) {
                        Some((_, programs)) => programs.extend(rows),
                        None => inner.push((filter.through, rows.collect())),
                    }
                }
            };
            match (&matcher.vlans, &matcher.filters[..], &matcher.terms[..]) {
                (None, [], []) => always.push(step),
                (None, [filter], []) => place(filter, step),
                (vlans, filters, terms) => {
                    let first = rows;
                    for filter in filters {
                        place(filter, rows);
                        rows += 1;
                    }
                    depth = depth.max(terms.iter().filter_map(Term::parse_depth).max());
                    let rows = (first as u32..rows as u32).collect();
                    composites.push(Composite { step, vlans: vlans.clone(), rows, terms: terms.to_vec() });
                }
            }
        }
        let in_mbufs = is_alone && inner.is_empty() && composites.is_empty() && prefixes.is_empty();
        let through = inner.into_iter().map(|(through, programs)| {
            let (programs, rows): (Vec<Program>, Vec<u32>) = programs.into_iter().unzip();
            Inner { through, filters: SplitFilters::build(&programs), programs, rows }
        });
        Self {
            always,
            plain: Plain { prefixes, ..Plain::new(plain, in_mbufs) },
            through: through.collect(),
            composites,
            steps,
            rows,
            depth,
        }
    }

    /// Returns whether any rule looks at the packets.
    pub fn needs_frames(&self) -> bool {
        self.always.len() < self.steps
    }

    /// How deep packets have to be parsed for it; `None`: not at all.
    pub fn parse_depth(&self) -> Option<Depth> {
        self.depth
    }

    /// Gives the engine that runs the filters, with the reason if it is the interpreter.
    pub fn engine(&self) -> Option<&Engine> {
        let through = self.through.iter().map(|inner| inner.filters.engine());
        let mut engines = self.plain.filters.iter().map(Filters::engine).chain(through);
        let first = engines.next();
        engines.find(|engine| **engine != Engine::Native).or(first)
    }

    /// Returns whether an index serves, since there are many filters.
    pub fn is_indexed(&self) -> bool {
        self.plain.index.is_some()
    }
}

impl Plain {
    fn new(programs: Vec<(Program, u32)>, in_mbufs: bool) -> Self {
        if programs.is_empty() {
            return Self::default();
        }
        if programs.len() < INDEX_FROM {
            let (programs, rows): (Vec<Program>, Vec<u32>) = programs.into_iter().unzip();
            let filters =
                if in_mbufs { Filters::build_for_mbufs(&programs) } else { Filters::build(&programs) };
            return Self { filters: Some(filters), rows, ..Self::default() };
        }
        let (all, rows): (Vec<&Program>, Vec<u32>) =
            programs.iter().map(|(program, row)| (program, *row)).unzip();
        let (index, residual) = Index::build_rows(&all, &rows);
        let rest: Vec<Program> = residual.iter().map(|&number| programs[number].0.clone()).collect();
        Self {
            index: Some(index),
            filters: (!rest.is_empty()).then(|| Filters::build(&rest)),
            rows: residual.iter().map(|&number| rows[number]).collect(),
            prefixes: Vec::new(),
        }
    }
}

/// Says for each step of the input which packets of the burst it matches. `all` has a bit for each packet; `frames` may be empty
/// where no rule looks at them.
#[inline]
pub fn classify(
    classifier: &Classifier,
    all: Selection,
    frames: &[Frame<'_>],
    flows: &mut Flows,
    matches: &mut Matches,
) {
    for &step in &classifier.always {
        matches.add(step, all);
    }
    if frames.is_empty() {
        return;
    }
    if let Some(index) = &classifier.plain.index {
        index.select(frames, &mut matches.selections, &mut matches.touched);
    }
    if let Some(filters) = &classifier.plain.filters {
        matches.programs.resize(classifier.plain.rows.len(), Selection::NONE);
        filters.select(frames, &mut matches.programs);
        hand_out(&classifier.plain.rows, matches);
    }
    for (set, row) in &classifier.plain.prefixes {
        matches.add(*row as usize, set.select(frames, all));
    }
    if !classifier.through.is_empty() || !classifier.composites.is_empty() {
        classify_further(classifier, all, frames, flows, matches);
    }
}

/// As [`classify`], of packets in their mbufs. Returns whether it could: not where some rule has to see frames, or a packet is in several
/// segments.
#[inline]
pub fn classify_mbufs(
    classifier: &Classifier,
    all: Selection,
    frames: Option<MbufFrames<'_>>,
    matches: &mut Matches,
) -> bool {
    let Plain { filters, rows, .. } = &classifier.plain;
    let (Some(filters), Some(frames)) = (filters, frames) else { return false };
    matches.programs.resize(rows.len(), Selection::NONE);
    if !filters.select_mbufs(frames, &mut matches.programs) {
        return false;
    }
    for &step in &classifier.always {
        matches.add(step, all);
    }
    hand_out(rows, matches);
    true
}

#[inline(always)]
fn hand_out(rows: &[u32], matches: &mut Matches) {
    for (program, &row) in rows.iter().enumerate() {
        let selection = matches.programs[program];
        matches.add(row as usize, selection);
    }
}

/// The packets `among` those given for which a term holds, or for whose ended tunnel it does; `outer` are those tunnels.
pub fn select_term(
    term: &Term,
    frames: &[Frame<'_>],
    layers: Known<'_, Layers>,
    outer: Known<'_, OuterId>,
    among: Selection,
) -> Selection {
    term.select(frames, layers, among) | ended(term, outer, among)
}

/// The packets `among` those given for whose ended tunnel the term holds.
fn ended(term: &Term, outer: Known<'_, OuterId>, among: Selection) -> Selection {
    let holds = |outer: &OuterId| match term {
        Term::Vni(ids) => outer.vni.is_some_and(|vni| ids.contains(vni)),
        Term::Teid(ids) => outer.teid.is_some_and(|teid| ids.contains(teid)),
        Term::MplsLabel(_) | Term::Bytes(_) => false,
    };
    outer.of(among).filter(|(_, outer)| holds(outer)).map(|(index, _)| index).collect()
}

/// The part that plans without `through`, `vlan` and terms do without.
fn classify_further(
    classifier: &Classifier,
    all: Selection,
    frames: &[Frame<'_>],
    flows: &mut Flows,
    matches: &mut Matches,
) {
    flows.layers(if classifier.depth.is_some() { all } else { Selection::NONE }, frames);
    let (layers, outer) = (flows.known_layers(), flows.outer());
    for inner in &classifier.through {
        let mut split = [SplitFrame::new([0; 14], &[], 0); MAX_BURST];
        let split = &mut split[..frames.len()];
        let is_split = inside_burst(inner.through, frames, layers, all, split);
        matches.programs.resize(inner.rows.len(), Selection::NONE);
        inner.filters.select(split, &mut matches.programs);
        for (selection, program) in matches.programs.iter_mut().zip(&inner.programs) {
            *selection &= is_split;
            // shorter than an Ethernet header: as the interpreter says of what there is
            for (index, layers) in layers.of(all - is_split) {
                if let tapline_filter::through::Inside::Whole(frame) =
                    inside(inner.through, &frames[index], layers)
                {
                    *selection |= Selection::only_if(index, program.matches(&frame));
                }
            }
        }
        hand_out(&inner.rows, matches);
    }
    for composite in &classifier.composites {
        let mut selected = all;
        for &row in &composite.rows {
            selected &= std::mem::take(&mut matches.selections[row as usize]);
            // the row is no step's: who drains must not hear of it
            matches.touched.unmark(row as usize);
        }
        if let Some(vlans) = &composite.vlans {
            selected = vlans.select(frames, selected);
        }
        for term in &composite.terms {
            selected = select_term(term, frames, layers, outer, selected);
        }
        matches.add(composite.step, selected);
    }
}
