//! Partial sums (split-K): where a kernel leaves them, and who adds them.

use std::ops::Range;

use super::Resource;
use super::kernel::{Kernel, overrides};
use crate::program::{Op, Program, SLICE_ALIGNMENT, TensorId};

/// The scratch memory of partial sums that the next dispatch adds.
pub(super) const PARTIALS: &str = "partials";

/// A result whose sums may be cut into partial sums.
#[derive(Clone)]
pub(super) struct SplitSum {
    /// The result.
    pub(super) tensor: TensorId,
    /// The number of partial sums of each element; 1 where the sum is not cut.
    pub(super) splits: usize,
    /// Elements of the result.
    pub(super) len: usize,
    /// The scratch memory of the partial sums; none where the kernel writes the result. A sum that is not cut can also lie in scratch memory,
    /// as one partial sum.
    scratch: Option<&'static str>,
    /// The first element of the partial sums in the scratch memory.
    start: usize,
    /// Whether a kernel that reads the result adds the partial sums.
    pub(super) is_taken: bool,
}

impl SplitSum {
    /// A result in that number of partial sums. Without another taker, a dispatch of its own adds them.
    pub(super) fn new(tensor: TensorId, splits: usize, program: &Program) -> Self {
        let (len, scratch) = (program.info(tensor).len(), (splits > 1).then_some(PARTIALS));
        Self { tensor, splits, len, scratch, start: 0, is_taken: false }
    }

    /// Whether the kernel leaves partial sums, and not the result.
    pub(super) fn is_partial(&self) -> bool {
        self.scratch.is_some()
    }

    /// The kernel that adds the partial sums, if no other one does.
    pub(super) fn reduction(&self, op: &Op) -> Option<Kernel> {
        let kernel = || {
            Kernel::new(op, "partials", overrides! { LEN: self.len, SPLITS: self.splits })
                .bind("partials", self.resource())
                .tensor("result", self.tensor)
        };
        (self.is_partial() && !self.is_taken).then(kernel)
    }

    /// Where the partial sums are in their scratch memory.
    pub(super) fn memory(&self) -> Range<usize> {
        self.start..self.start + self.splits * self.len
    }

    /// Leaves partial sums from `start` on, or from the next place where a binding may begin; returns their end.
    pub(super) fn leave_at(&mut self, scratch: &'static str, start: usize) -> usize {
        (self.scratch, self.start) = (Some(scratch), start.next_multiple_of(SLICE_ALIGNMENT));
        self.memory().end
    }

    /// Where the kernel writes: the result, or its partial sums.
    pub(super) fn resource(&self) -> Resource {
        self.scratch.map_or(Resource::Tensor(self.tensor), |scratch| Resource::Scratch(scratch, self.memory()))
    }

    /// One binding for these partial sums and those of another result behind them, and where the latter begin in it.
    pub(super) fn resource_with(&self, other: &Self) -> (Resource, usize) {
        let scratch = self.scratch.expect("both are in partial sums");
        (Resource::Scratch(scratch, self.start..other.memory().end), other.start - self.start)
    }
}
