//! Filters of an input, evaluated together.

use super::verify::Program;
use crate::datapath::burst::Selection;
use crate::dpdk::Frame;

/// Programs that share an input.
#[derive(Debug, Default)]
pub struct Filters {
    programs: Vec<Program>,
}

impl Filters {
    pub fn build(programs: &[Program]) -> Self {
        Self { programs: programs.to_vec() }
    }

    pub fn len(&self) -> usize {
        self.programs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    pub fn select(&self, frames: &[Frame<'_>], selections: &mut [Selection]) {
        for (program, selection) in self.programs.iter().zip(selections) {
            *selection = Selection(
                frames.iter().enumerate().fold(0, |bits, (index, frame)| bits | u64::from(program.matches(frame)) << index),
            );
        }
    }
}
