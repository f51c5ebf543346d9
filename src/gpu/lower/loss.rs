//! The adversarial losses of both networks, which may compute the logits as well: by adding what the product before them leaves in
//! partial sums, or a small layer of one logit.

use super::kernel::{Kernel, Overrides, overrides};
use super::operations::history_overrides;
use super::partials::SplitSum;
use super::product::linear_layer;
use super::{Dispatch, Resource};
use crate::program::{Op, Program, TensorId};

/// The most multiplications of a layer that the loss computes in its only workgroup: 128 of each invocation.
const MAX_MULTIPLICATIONS: usize = 32_768;

/// What a loss adds up to logits.
pub(super) struct LogitTerms {
    /// The terms.
    terms: Resource,
    /// The number of terms of each logit.
    count: usize,
    /// The weights of the terms of a layer; none for partial sums.
    w: Option<TensorId>,
    /// The bias, one number.
    b: Option<TensorId>,
}

impl LogitTerms {
    /// The terms of the partial sums of a product.
    pub(super) fn of_partials(sum: &SplitSum, bias: Option<TensorId>) -> Self {
        Self { terms: sum.resource(), count: sum.splits, w: None, b: bias }
    }

    /// The terms of a layer for one output that reads each element of its input once, if they are few.
    pub(super) fn of_layer(layer: &Op, program: &Program) -> Option<Self> {
        let (&Op::Conv { x, w, b, .. }, [rows, count, 1]) = (layer, linear_layer(layer, program)?) else { return None };
        (rows * count <= MAX_MULTIPLICATIONS).then_some(Self { terms: Resource::Tensor(x), count, w: Some(w), b })
    }
}

/// The logits of a loss; none for other operations.
pub(super) fn logits_of(op: &Op) -> Option<TensorId> {
    match *op {
        Op::DiscriminatorLoss { logits, .. } | Op::GeneratorLoss { logits, .. } => Some(logits),
        _ => None,
    }
}

/// The dispatch of a loss on complete logits, or on those that it computes.
pub(super) fn dispatch(op: &Op, terms: Option<LogitTerms>, program: &Program) -> Dispatch {
    let (entry, logits, halves, kind, history, column, smoothing, reals) = match *op {
        Op::DiscriminatorLoss { logits, history, kind, smoothing, column, .. } => {
            ("discriminator", logits, 2, kind, history, column, smoothing, None)
        }
        Op::GeneratorLoss { logits, reals, history, kind, column, .. } => {
            ("generator", logits, 1, kind, history, column, 0.0, reals)
        }
        _ => unreachable!("a loss"),
    };
    let count = program.info(logits).len();
    // `loss.wgsl` numbers the losses in the order of their enum.
    let kernel = Kernel::new(op, "loss", overrides! { N: count / halves, KIND: kind as usize })
        .overrides(history_overrides(program, history, column))
        .overrides(overrides! { SMOOTHING: smoothing })
        .optional("reals", reals);
    let kernel = match terms {
        None => kernel.optional("terms", None).optional("w", None).optional("b", None),
        Some(LogitTerms { terms, count: of_each, w, b }) => kernel
            .overrides(overrides! { TERMS: of_each, LOGITS: count, HAS_BIAS: u8::from(b.is_some()) })
            .overrides(w.map_or(Overrides::new(), |_| overrides! { IS_LAYER: u8::from(true) }))
            .bind("terms", terms)
            .optional("w", w)
            .optional("b", b),
    };
    kernel.dispatch(entry, [1, 1, 1])
}
