//! The adversarial losses of both networks, which may compute the logits as well: by adding what the product before them leaves in
//! partial sums, or a small layer of one logit.

use super::kernel::{Kernel, history_overrides, overrides};
use super::product::linear_layer;
use super::{Dispatch, Resource};
use crate::program::{Op, Program, TensorId};

/// The most multiplications of a layer that the loss computes in its only workgroup: 128 of each invocation.
const MAX_MULTIPLICATIONS: usize = 32_768;

/// What a loss adds up to logits.
pub(super) struct LogitTerms {
    /// The terms.
    pub(super) terms: Resource,
    /// The number of terms of each logit.
    pub(super) count: usize,
    /// The weights of the terms of a layer; none for partial sums.
    pub(super) w: Option<TensorId>,
    /// The bias, one number.
    pub(super) b: Option<TensorId>,
}

impl LogitTerms {
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
    let (&Op::DiscriminatorLoss { logits, history, kind, column, .. }
    | &Op::GeneratorLoss { logits, history, kind, column, .. }) = op
    else {
        unreachable!("a loss")
    };
    let (entry, halves, smoothing) = match *op {
        Op::DiscriminatorLoss { smoothing, .. } => ("discriminator", 2, smoothing),
        _ => ("generator", 1, 0.0),
    };
    let count = program.info(logits).len();
    // `loss.wgsl` numbers the losses in the order of their enum.
    let kernel = Kernel::new(op, "loss", overrides! { N: count / halves, KIND: kind as usize, SMOOTHING: smoothing })
        .overrides(history_overrides(program, history, column));
    let kernel = match terms {
        None => kernel,
        Some(LogitTerms { terms, count: of_each, w, b }) => {
            let (is_layer, has_bias) = (u8::from(w.is_some()), u8::from(b.is_some()));
            kernel
                .overrides(overrides! { TERMS: of_each, LOGITS: count, IS_LAYER: is_layer, HAS_BIAS: has_bias })
                .bind("terms", terms)
                .tensor("w", w)
                .tensor("b", b)
        }
    };
    kernel.dispatch(entry, [1, 1, 1])
}
