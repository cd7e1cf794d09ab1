//! The ways through a classic BPF program that end in acceptance, as tests on fields of the packet.
//!
//! A packet takes exactly one way through a program. So the program accepts a packet if and only if all tests of one accepting way
//! hold, a load that fails being a test that fails. Ways are found by running the program on symbols instead of bytes.

use super::field::{Field, Source, ValueSet};
use crate::filter::program::Insn;

/// Tests that must all hold: each field can be read, and its value is in the set. Sorted by field, one test a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Path {
    pub tests: Vec<(Field, ValueSet)>,
}

/// The program cannot be told as a reasonable number of tests on fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotIndexable;

/// Instructions that are visited at most for one program: the rest of its tests stay as they are, or it is not indexed.
const MAX_STEPS: usize = 50_000;
/// Accepting ways of one program at most, before merging.
const MAX_PATHS: usize = 512;
/// Words of a program's scratch memory (`BPF_MEMWORDS`).
const SCRATCH_WORDS: usize = 16;

/// What a register or a word of scratch memory holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value {
    Constant(u32),
    /// `(source & mask) >> shift`
    Masked {
        source: Source,
        mask: u32,
        shift: u32,
    },
    /// `4*([base]&0xf)`
    HeaderLen {
        base: u32,
    },
}

#[derive(Clone)]
struct State {
    at: usize,
    a: Value,
    x: Value,
    scratch: [Value; SCRATCH_WORDS],
    path: Path,
}

impl Path {
    fn test(&self, field: Field) -> Option<&ValueSet> {
        self.tests.binary_search_by_key(&field, |test| test.0).ok().map(|at| &self.tests[at].1)
    }

    fn set(&mut self, field: Field, values: ValueSet) {
        match self.tests.binary_search_by_key(&field, |test| test.0) {
            Ok(at) => self.tests[at].1 = values,
            Err(at) => self.tests.insert(at, (field, values)),
        }
    }

    /// Whether every packet of this path has `source`.
    fn has(&self, source: Source) -> bool {
        source == Source::Len || self.tests.iter().any(|(field, _)| field.source.implies(source))
    }

    /// Drops tests that any value passes, where another test shows that the field can be read.
    fn drop_implied(&mut self) {
        let mut at = 0;
        while at < self.tests.len() {
            let (field, values) = &self.tests[at];
            let others = |index: usize, other: &Field| index != at && other.source.implies(field.source);
            let implied = field.source == Source::Len || self.tests.iter().enumerate().any(|(index, test)| others(index, &test.0));
            if implied && values.is_full(field.mask) {
                self.tests.remove(at);
            } else {
                at += 1;
            }
        }
    }
}

/// Which values of a field pass a test: the field, and the set.
type Test = (Field, ValueSet);

/// Masks of leading bits only, of a value with the bits of `max`.
fn keeps_leading(mask: u32, max: u32) -> bool {
    let dropped = max & !mask;
    mask != 0 && dropped & dropped.wrapping_add(1) == 0
}

/// The packets for which `(source & mask) >> shift` is in `low..=high`; `mask` is not 0.
fn range_test(source: Source, mask: u32, shift: u32, low: u32, high: u32) -> Test {
    let max = source.max();
    // In terms of `source & mask`, where only multiples of the mask's lowest bit occur.
    let low = u64::from(low) << shift;
    let high = ((u64::from(high) + 1) << shift) - 1;
    let step = 1u64 << mask.trailing_zeros();
    let low = low.next_multiple_of(step);
    let high = high.min(u64::from(mask)) / step * step;
    let field = |mask| Field { source, mask };
    let narrow = |value: u64| u32::try_from(value).expect("at most the mask");
    if low > high {
        return (field(if keeps_leading(mask, max) { max } else { mask }), ValueSet::empty());
    }
    if keeps_leading(mask, max) {
        return (field(max), ValueSet::range(narrow(low), narrow(high + (step - 1))));
    }
    if low == high && low & !u64::from(mask) != 0 {
        return (field(mask), ValueSet::empty());
    }
    (field(mask), ValueSet::range(narrow(low), narrow(high)))
}

/// How a test of a jump comes out.
enum Outcome {
    Known(bool),
    Open(Test),
}

fn jump_test(operator: u16, value: Value, k: u32) -> Result<Outcome, NotIndexable> {
    let (source, mask, shift) = match value {
        Value::Constant(a) => {
            return Ok(Outcome::Known(match operator {
                0x10 => a == k,
                0x20 => a > k,
                0x30 => a >= k,
                0x40 => a & k != 0,
                _ => return Err(NotIndexable),
            }));
        }
        Value::Masked { source, mask, shift } => (source, mask, shift),
        Value::HeaderLen { .. } => return Err(NotIndexable),
    };
    Ok(Outcome::Open(match operator {
        0x10 => range_test(source, mask, shift, k, k),
        0x20 if k == u32::MAX => return Ok(Outcome::Known(false)),
        0x20 => range_test(source, mask, shift, k + 1, u32::MAX),
        0x30 => range_test(source, mask, shift, k, u32::MAX),
        0x40 => match mask & u32::try_from(u64::from(k) << shift & 0xffff_ffff).expect("masked to 32 bits") {
            0 => return Ok(Outcome::Known(false)),
            mask => range_test(source, mask, 0, 1, u32::MAX),
        },
        _ => return Err(NotIndexable),
    }))
}

fn alu(operator: u16, a: Value, k: u32) -> Result<Value, NotIndexable> {
    let masked = |source, mask, shift| match mask {
        0 => Value::Constant(0),
        mask => Value::Masked { source, mask, shift },
    };
    Ok(match (operator, a) {
        (0x50, Value::Masked { source, mask, shift }) => {
            masked(source, mask & u32::try_from(u64::from(k) << shift & 0xffff_ffff).expect("masked to 32 bits"), shift)
        }
        (0x70, Value::Masked { source, mask, shift }) if k < 32 => match shift + k {
            by @ 0..32 => masked(source, mask >> by << by, by),
            _ => Value::Constant(0),
        },
        (_, Value::Constant(a)) => Value::Constant(match operator {
            0x00 => a.wrapping_add(k),
            0x10 => a.wrapping_sub(k),
            0x20 => a.wrapping_mul(k),
            0x40 => a | k,
            0x50 => a & k,
            0x60 => a.checked_shl(k).unwrap_or(0),
            0x70 => a.checked_shr(k).unwrap_or(0),
            0xa0 => a ^ k,
            _ => return Err(NotIndexable),
        }),
        _ => return Err(NotIndexable),
    })
}

/// A run over all ways through a program that packets of a given path can take.
struct Run<'p, F> {
    program: &'p [Insn],
    /// Called for each end of a way: the tests of the way, and whether it accepts. `false` stops the run.
    on_end: F,
    steps_left: &'p mut usize,
}

impl<F: FnMut(&Path, bool) -> bool> Run<'_, F> {
    /// Follows all ways from `state` on; gives whether to go on.
    fn follow(&mut self, mut state: State) -> Result<bool, NotIndexable> {
        loop {
            *self.steps_left = self.steps_left.checked_sub(1).ok_or(NotIndexable)?;
            let Insn { code, jt, jf, k } = *self.program.get(state.at).ok_or(NotIndexable)?;
            state.at += 1;
            let word = usize::try_from(k).ok().filter(|&word| word < SCRATCH_WORDS).ok_or(NotIndexable);
            if code > 0xff {
                return Err(NotIndexable);
            }
            match (code & 0x07, code & 0xf8) {
                // ld, ldx: width in 0x18, mode in 0xe0.
                (0x00, 0x00) => state.a = Value::Constant(k),
                (0x01, 0x00) => state.x = Value::Constant(k),
                (0x00, 0x60) => state.a = state.scratch[word?],
                (0x01, 0x60) => state.x = state.scratch[word?],
                (0x00, 0x80) => state.a = Value::Masked { source: Source::Len, mask: u32::MAX, shift: 0 },
                (0x01, 0x80) => state.x = Value::Masked { source: Source::Len, mask: u32::MAX, shift: 0 },
                (0x01, 0xb0) => {
                    if !self.load(&mut state, Source::Absolute { offset: k, width: 1 }) {
                        return Ok(false);
                    }
                    state.x = Value::HeaderLen { base: k };
                }
                (0x00, mode @ (0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50)) => {
                    let width = match mode & 0x18 {
                        0x00 => 4,
                        0x08 => 2,
                        _ => 1,
                    };
                    let source = match (mode & 0xe0, state.x) {
                        (0x20, _) => Source::Absolute { offset: k, width },
                        (_, Value::Constant(x)) => Source::Absolute { offset: x.checked_add(k).ok_or(NotIndexable)?, width },
                        // Beyond 2^31 the sum of header length and offset could wrap.
                        (_, Value::HeaderLen { base }) if k < 1 << 31 => Source::Indirect { base, offset: k, width },
                        _ => return Err(NotIndexable),
                    };
                    if !self.load(&mut state, source) {
                        return Ok(false);
                    }
                    state.a = Value::Masked { source, mask: source.max(), shift: 0 };
                }
                (0x02, 0x00) => state.scratch[word?] = state.a,
                (0x03, 0x00) => state.scratch[word?] = state.x,
                (0x07, 0x00) => state.x = state.a,
                (0x07, 0x80) => state.a = state.x,
                (0x04, operator) if operator & 0x08 == 0 => state.a = alu(operator, state.a, k)?,
                (0x04, operator) => match state.x {
                    Value::Constant(x) => state.a = alu(operator & 0xf0, state.a, x)?,
                    _ => return Err(NotIndexable),
                },
                (0x05, 0x00) => state.at = usize::try_from(k).ok().and_then(|k| k.checked_add(state.at)).ok_or(NotIndexable)?,
                (0x05, operator) => {
                    let operand = match (operator & 0x08, state.x) {
                        (0, _) => k,
                        (_, Value::Constant(x)) => x,
                        _ => return Err(NotIndexable),
                    };
                    let (then, otherwise) = (state.at + usize::from(jt), state.at + usize::from(jf));
                    if then == otherwise {
                        state.at = then;
                        continue;
                    }
                    match self.split(&state.path, jump_test(operator & 0xf0, state.a, operand)?) {
                        (Some(path), None) => (state.path, state.at) = (path, then),
                        (None, Some(path)) => (state.path, state.at) = (path, otherwise),
                        (Some(yes), Some(no)) => {
                            if !self.follow(State { at: then, path: yes, ..state.clone() })? {
                                return Ok(false);
                            }
                            (state.path, state.at) = (no, otherwise);
                        }
                        (None, None) => return Ok(true),
                    }
                }
                (0x06, 0x00) => return Ok((self.on_end)(&state.path, k != 0)),
                (0x06, 0x10) => {
                    let (accepted, rejected) = self.split(&state.path, jump_test(0x20, state.a, 0)?);
                    return Ok(accepted.is_none_or(|path| (self.on_end)(&path, true))
                        && rejected.is_none_or(|path| (self.on_end)(&path, false)));
                }
                _ => return Err(NotIndexable),
            }
        }
    }

    /// Reads `source`: packets that are too short for it end here, rejected. Gives whether to go on.
    fn load(&mut self, state: &mut State, source: Source) -> bool {
        if state.path.has(source) {
            return true;
        }
        let go_on = (self.on_end)(&state.path, false);
        state.path.set(Field { source, mask: source.max() }, ValueSet::range(0, source.max()));
        go_on
    }

    /// The packets of `path` that pass the test, and those that do not.
    fn split(&self, path: &Path, outcome: Outcome) -> (Option<Path>, Option<Path>) {
        let (field, passing) = match outcome {
            Outcome::Known(true) => return (Some(path.clone()), None),
            Outcome::Known(false) => return (None, Some(path.clone())),
            Outcome::Open(test) => test,
        };
        // A value that is known as a whole decides tests of its parts.
        let whole = Field { source: field.source, mask: field.source.max() };
        if field != whole
            && let Some(value) = path.test(whole).and_then(ValueSet::single)
        {
            let passes = !passing.intersection(&ValueSet::range(value & field.mask, value & field.mask)).is_empty();
            return if passes { (Some(path.clone()), None) } else { (None, Some(path.clone())) };
        }
        let full = ValueSet::range(0, field.mask);
        let values = path.test(field).unwrap_or(&full);
        let narrowed = |to: ValueSet| {
            (!to.is_empty()).then(|| {
                let mut path = path.clone();
                path.set(field, to);
                path
            })
        };
        (narrowed(values.intersection(&passing)), narrowed(values.intersection(&passing.complement(field.mask))))
    }
}

/// Calls `on_end` for all ways through `program` that packets of `path` can take.
fn run(program: &[Insn], steps_left: &mut usize, path: Path, on_end: impl FnMut(&Path, bool) -> bool) -> Result<(), NotIndexable> {
    let zero = Value::Constant(0);
    let state = State { at: 0, a: zero, x: zero, scratch: [zero; SCRATCH_WORDS], path };
    Run { program, on_end, steps_left }.follow(state).map(|_| ())
}

/// The paths whose union is exactly what `program` accepts. They may overlap.
/// # Errors
/// Where the program is no decision over fields (loads at computed offsets, arithmetic), or has too many ways.
pub(super) fn paths(program: &[Insn]) -> Result<Vec<Path>, NotIndexable> {
    let mut paths = Vec::new();
    let mut steps_left = MAX_STEPS;
    run(program, &mut steps_left, Path { tests: Vec::new() }, |path, accepts| {
        if accepts {
            paths.push(path.clone());
        }
        paths.len() <= MAX_PATHS
    })?;
    if paths.len() > MAX_PATHS {
        return Err(NotIndexable);
    }
    for path in &mut paths {
        widen(program, &mut steps_left, path);
        path.drop_implied();
    }
    merge(&mut paths);
    Ok(paths)
}

/// Drops tests that the program makes only because it had not accepted before: `dst A` of `host A` is reached where `src` is not A,
/// but packets from A to A are accepted as well. Without such tests most paths are plain conjunctions.
fn widen(program: &[Insn], steps_left: &mut usize, path: &mut Path) {
    for at in 0..path.tests.len() {
        let (field, values) = path.tests[at].clone();
        if values.single().is_some() || values.is_full(field.mask) {
            continue;
        }
        let mut rest = path.clone();
        rest.tests[at].1 = values.complement(field.mask);
        let mut all_accepted = true;
        let end = run(program, steps_left, rest, |_, accepts| {
            all_accepted &= accepts;
            accepts
        });
        if end.is_ok() && all_accepted {
            path.tests[at].1 = ValueSet::range(0, field.mask);
        }
    }
}

/// Joins paths that differ in the values of one field only, and removes repeated ones.
fn merge(paths: &mut Vec<Path>) {
    let mut at = 0;
    while at < paths.len() {
        let joined = (0..at).find_map(|other| joined(&paths[other], &paths[at]).map(|path| (other, path)));
        match joined {
            // The joined path may in turn join an earlier one.
            Some((other, path)) => {
                paths.swap_remove(at);
                paths[other] = path;
                at = other;
            }
            None => at += 1,
        }
    }
}

fn joined(one: &Path, other: &Path) -> Option<Path> {
    if one.tests.len() != other.tests.len() || !one.tests.iter().zip(&other.tests).all(|(a, b)| a.0 == b.0) {
        return None;
    }
    let mut differing = (0..one.tests.len()).filter(|&at| one.tests[at].1 != other.tests[at].1);
    let (first, second) = (differing.next(), differing.next());
    if second.is_some() {
        return None;
    }
    let mut path = one.clone();
    if let Some(at) = first {
        path.tests[at].1 = one.tests[at].1.union(&other.tests[at].1);
        path.drop_implied();
    }
    Some(path)
}
