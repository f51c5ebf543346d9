//! The adversarial losses of both networks. What the product before them leaves of the logits in partial sums, they add.

use super::Dispatch;
use super::kernel::{Kernel, flag, sizes};
use super::operations::history_overrides;
use super::partials::partials;
use super::product::{Epilogue, Product};
use crate::program::{AdversarialLoss, Op, Program, TensorId};

/// The loss of a network.
pub(super) struct Loss {
    logits: TensorId,
    /// How the logits arrive if not complete.
    pub(super) partials: Option<LogitPartials>,
}

/// Logits in partial sums.
#[derive(Clone, Copy)]
pub(super) struct LogitPartials {
    /// Partial sums of each logit.
    pub(super) splits: usize,
    /// The bias that is added to them.
    pub(super) bias: Option<TensorId>,
}

impl Loss {
    pub(super) fn of(logits: TensorId) -> Self {
        Self { logits, partials: None }
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
        let kernel = match self.partials {
            None => kernel.tensor("partials", clock).tensor("b", clock).scratch("reduced", 1),
            Some(LogitPartials { splits, bias }) => kernel
                .overrides(&sizes(&[("SPLITS", splits), ("LOGITS", program.info(self.logits).len())]))
                .overrides(&[flag("HAS_BIAS", bias.is_some())])
                .bind("partials", partials(self.logits, splits, program))
                .tensor("b", bias.unwrap_or(clock))
                .tensor("reduced", self.logits)
                .tensor("logits", clock),
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
