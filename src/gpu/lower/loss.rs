//! The adversarial losses of both networks. What the product before them leaves of the logits in partial sums, they add; a small layer
//! of one logit they compute.

use super::Dispatch;
use super::kernel::{Kernel, flag, sizes};
use super::operations::history_overrides;
use super::partials::partials;
use super::product::{Epilogue, Product, linear_layer};
use crate::program::{AdversarialLoss, Op, Program, TensorId};

/// The loss of a network.
pub(super) struct Loss {
    logits: TensorId,
    /// How the logits arrive.
    pub(super) source: LogitSource,
}

/// How logits arrive.
#[derive(Clone, Copy)]
pub(super) enum LogitSource {
    /// Complete.
    Complete,
    /// In partial sums, to which a bias is added.
    Partials { splits: usize, bias: Option<TensorId> },
    /// As operands of the layer that computes them.
    Layer { x: TensorId, w: TensorId, b: Option<TensorId> },
}

/// The most multiplications of a layer that the loss computes in its only workgroup: 128 of each invocation.
const MAX_MULTIPLICATIONS: usize = 32_768;

impl Loss {
    pub(super) fn of(logits: TensorId, source: LogitSource) -> Self {
        Self { logits, source }
    }

    /// Whether it computes a layer itself: one that reads each element of its input once, for one output.
    pub(super) fn computes(layer: &Op, program: &Program) -> bool {
        linear_layer(layer, program)
            .is_some_and(|layer| layer.columns == 1 && layer.rows * layer.row_len <= MAX_MULTIPLICATIONS)
    }

    /// Whether it can take the partial sums of a product.
    pub(super) fn takes(&self, product: &Product, program: &Program) -> bool {
        let is_plain = matches!(product.epilogue, Epilogue::None) && product.output.splits > 1;
        // A bias is one number.
        is_plain && product.output.tensor == self.logits && program.nhwc(self.logits)[3] == 1
    }

    pub(super) fn dispatch(&self, op: &Op, program: &Program) -> Dispatch {
        let (entry, clock, n, kind, history, column, smoothing, reals) = match *op {
            Op::DiscriminatorLoss { clock, logits, history, kind, smoothing, column, .. } => {
                ("discriminator", clock, program.shape(logits)[0] / 2, kind, history, column, smoothing, None)
            }
            Op::GeneratorLoss { clock, logits, reals, history, kind, column, .. } => {
                ("generator", clock, program.shape(logits)[0], kind, history, column, 0.0, reals)
            }
            _ => unreachable!("a loss"),
        };
        let overrides = [sizes(&[("N", n), ("KIND", number_of(kind))]), history_overrides(program, history, column)];
        let kernel = Kernel::new(op, "loss", overrides.concat()).overrides(&[("SMOOTHING", smoothing)]);
        // Every variable of an entry point is bound: those that are absent to a tensor that is only read.
        let kernel = kernel.tensor("reals", reals.unwrap_or(clock));
        let kernel = kernel.tensor("terms", clock).tensor("w", clock).tensor("b", clock);
        let of_terms = |count: usize, bias: Option<TensorId>| {
            let counts = [("TERMS", count), ("LOGITS", program.info(self.logits).len())];
            let kernel = kernel.clone().overrides(&sizes(&counts)).overrides(&[flag("HAS_BIAS", bias.is_some())]);
            kernel.tensor("b", bias.unwrap_or(clock))
        };
        let kernel = match self.source {
            LogitSource::Complete => kernel,
            LogitSource::Partials { splits, bias } => {
                of_terms(splits, bias).bind("terms", partials(self.logits, splits, program))
            }
            LogitSource::Layer { x, w, b } => {
                let row_len = program.info(w).len();
                of_terms(row_len, b).overrides(&[flag("IS_LAYER", true)]).tensor("terms", x).tensor("w", w)
            }
        };
        kernel.dispatch(entry, [1, 1, 1])
    }
}

/// The number of a loss in the shader.
fn number_of(kind: AdversarialLoss) -> usize {
    match kind {
        AdversarialLoss::NonSaturating => 0,
        AdversarialLoss::Minimax => 1,
        AdversarialLoss::Hinge => 2,
        AdversarialLoss::LeastSquares => 3,
        AdversarialLoss::Wasserstein => 4,
        AdversarialLoss::Relativistic => 5,
    }
}
