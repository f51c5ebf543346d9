//! Partial sums (split-K): where a kernel leaves them, and who adds them.

use std::ops::Range;

use super::Resource;
use crate::program::{Program, TensorId};

/// The scratch memory of gradients in partial sums until Adam adds them.
pub(super) const GRADIENT_PARTIALS: &str = "gradient partials";
/// The result of a sum that may be cut into partial sums.
pub(super) struct ProductResult {
    /// The result.
    pub(super) tensor: TensorId,
    /// The number of partial sums of each element; 1 where the sum is not cut.
    pub(super) splits: usize,
    /// Who adds them.
    pub(super) reduction: Reduction,
}

/// Who adds partial sums.
pub(super) enum Reduction {
    /// A dispatch behind the one that computes them.
    Dispatch,
    /// The next node, which finds them in the scratch memory of all partial sums.
    NextNode,
    /// Adam, which finds them in this range of the scratch memory of gradients.
    Adam(Range<usize>),
}

impl ProductResult {
    /// Where the kernel writes: the result, or its partial sums.
    pub(super) fn resource(&self, program: &Program) -> Resource {
        match &self.reduction {
            _ if self.splits == 1 => Resource::Tensor(self.tensor),
            Reduction::Adam(range) => Resource::Scratch(GRADIENT_PARTIALS, range.clone()),
            Reduction::Dispatch | Reduction::NextNode => partials(self.tensor, self.splits, program),
        }
    }

    /// Whether a dispatch behind the kernel has to add the partial sums.
    pub(super) fn needs_reduction(&self) -> bool {
        self.splits > 1 && matches!(self.reduction, Reduction::Dispatch)
    }
}

/// The scratch memory of the partial sums of a tensor that the next dispatch adds.
pub(super) fn partials(tensor: TensorId, splits: usize, program: &Program) -> Resource {
    Resource::Scratch("partials", 0..splits * program.info(tensor).len())
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
