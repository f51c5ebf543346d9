//! Partial sums (split-K): where a kernel leaves them, and who adds them.

use std::ops::Range;

use super::Resource;
use crate::program::{Program, SLICE_ALIGNMENT, TensorId};

/// The scratch memory of partial sums that the next dispatch adds.
const PARTIALS: &str = "partials";

/// A result whose sums may be cut into partial sums.
pub(super) struct SplitSum {
    /// The result.
    pub(super) tensor: TensorId,
    /// The number of partial sums of each element; 1 where the sum is not cut.
    pub(super) splits: usize,
    /// Elements of the result.
    pub(super) len: usize,
    /// Where the kernel leaves partial sums, if it does not write the result. A sum that is not cut may be left as its only partial sum.
    memory: Option<(&'static str, Range<usize>)>,
    /// Whether a kernel that reads the result adds the partial sums.
    pub(super) is_taken: bool,
}

impl SplitSum {
    /// A result in that number of partial sums. Without another taker, a dispatch of its own adds them.
    pub(super) fn new(tensor: TensorId, splits: usize, program: &Program) -> Self {
        let len = program.info(tensor).len();
        let memory = (splits > 1).then(|| (PARTIALS, 0..splits * len));
        Self { tensor, splits, len, memory, is_taken: false }
    }

    /// Whether the kernel leaves partial sums, and not the result.
    pub(super) fn is_partial(&self) -> bool {
        self.memory.is_some()
    }

    /// Whether a dispatch behind the kernel has to add the partial sums.
    pub(super) fn needs_reduction(&self) -> bool {
        self.is_partial() && !self.is_taken
    }

    /// Where partial sums are that begin at `start`, or at the next place where a binding may begin.
    pub(super) fn memory_from(&self, start: usize) -> Range<usize> {
        let start = start.next_multiple_of(SLICE_ALIGNMENT);
        start..start + self.splits * self.len
    }

    /// Leaves partial sums [there](Self::memory_from).
    pub(super) fn leave_at(&mut self, scratch: &'static str, start: usize) -> Range<usize> {
        let memory = self.memory_from(start);
        self.memory = Some((scratch, memory.clone()));
        memory
    }

    /// Leaves partial sums, and behind them those of another result that the same kernel computes.
    pub(super) fn leave_with(&mut self, other: &mut Self) {
        let memory = self.leave_at(PARTIALS, 0);
        other.leave_at(PARTIALS, memory.end);
    }

    /// Where the kernel writes: the result, or its partial sums.
    pub(super) fn resource(&self) -> Resource {
        match self.memory.clone() {
            Some((scratch, memory)) => Resource::Scratch(scratch, memory),
            None => Resource::Tensor(self.tensor),
        }
    }

    /// One binding for these partial sums and those of another result behind them, and where the latter begin in it.
    pub(super) fn resource_with(&self, other: &Self) -> (Resource, usize) {
        let (Resource::Scratch(scratch, own), Resource::Scratch(_, others)) = (self.resource(), other.resource())
        else {
            unreachable!("both are in partial sums")
        };
        (Resource::Scratch(scratch, own.start..others.end), others.start - own.start)
    }
}
