//! Partial sums (split-K): where a kernel leaves them, and who adds them.

use std::ops::Range;

use super::Resource;
use crate::program::{Program, SLICE_ALIGNMENT, TensorId};

/// The scratch memory of partial sums that the next dispatch adds.
const PARTIALS: &str = "partials";
/// The scratch memory of gradients in partial sums until Adam adds them.
pub(super) const GRADIENT_PARTIALS: &str = "gradient partials";

/// The result of a sum that may be cut into partial sums.
pub(super) struct ProductResult {
    /// The result.
    pub(super) tensor: TensorId,
    /// The number of partial sums of each element; 1 where the sum is not cut.
    pub(super) splits: usize,
    /// Whether the kernel leaves partial sums, and not the result. A sum that is not cut is its only partial sum.
    pub(super) is_partial: bool,
    /// Who adds the partial sums.
    pub(super) reduction: Reduction,
    /// The scratch memory of the partial sums.
    pub(super) scratch: &'static str,
    /// The first element of the partial sums in the scratch memory.
    start: usize,
}

/// Who adds partial sums.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reduction {
    /// A dispatch behind the one that computes them.
    Dispatch,
    /// The next node.
    NextNode,
    /// Adam.
    Adam,
}

impl ProductResult {
    /// A result in that number of partial sums, which a dispatch of its own adds.
    pub(super) fn new(tensor: TensorId, splits: usize) -> Self {
        let reduction = Reduction::Dispatch;
        Self { tensor, splits, is_partial: splits > 1, reduction, scratch: PARTIALS, start: 0 }
    }

    /// Where the partial sums are in their scratch memory.
    pub(super) fn memory(&self, program: &Program) -> Range<usize> {
        self.start..self.start + self.splits * program.info(self.tensor).len()
    }

    /// Moves the partial sums to that place in the scratch memory of gradients.
    pub(super) fn move_to_gradients(&mut self, start: usize) {
        (self.scratch, self.start) = (GRADIENT_PARTIALS, start);
    }

    /// Moves the partial sums behind those of another result, where a binding may begin.
    pub(super) fn move_behind(&mut self, other: &Self, program: &Program) {
        (self.scratch, self.start) = (other.scratch, other.memory(program).end.next_multiple_of(SLICE_ALIGNMENT));
    }

    /// Where the kernel writes: the result, or its partial sums.
    pub(super) fn resource(&self, program: &Program) -> Resource {
        if self.is_partial {
            Resource::Scratch(self.scratch, self.memory(program))
        } else {
            Resource::Tensor(self.tensor)
        }
    }

    /// Whether a dispatch behind the kernel has to add the partial sums.
    pub(super) fn needs_reduction(&self) -> bool {
        self.is_partial && self.reduction == Reduction::Dispatch
    }
}

/// The scratch memory of the partial sums of a tensor that the next dispatch adds.
pub(super) fn partials(tensor: TensorId, splits: usize, program: &Program) -> Resource {
    Resource::Scratch(PARTIALS, 0..splits * program.info(tensor).len())
}

/// A gradient that Adam takes in partial sums.
pub(super) struct GradientPartials {
    /// Offset of the gradient in the tensor that Adam takes.
    pub(super) first: usize,
    /// Elements of the gradient.
    pub(super) len: usize,
    /// Partial sums of each element.
    pub(super) splits: usize,
    /// Where they are in their scratch memory.
    pub(super) memory: Range<usize>,
}
