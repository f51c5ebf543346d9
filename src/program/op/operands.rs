//! The operands of each operation: which tensors it has, by which letters, and what is done to them.

use super::Op;
use crate::program::TensorId;

/// Whether an operation reads or writes a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its elements are read.
    Read,
    /// All its elements are written, and none is read before.
    Write,
    /// It is changed in place.
    Update,
}

/// A tensor in its part in an operation.
#[derive(Debug, Clone, Copy)]
pub struct Operand {
    /// The letter in the formula; bindings of shaders have the same.
    pub name: &'static str,
    /// The tensor.
    pub tensor: TensorId,
    /// What is done to it.
    pub access: Access,
}

impl Op {
    /// A short name for listings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tick { .. } => "tick",
            Self::Normal { .. } => "normal",
            Self::Batch { .. } => "batch",
            Self::Augment { .. } => "augment",
            Self::DiffAugment { .. } => "diff_augment",
            Self::DiffAugmentGrad { .. } => "diff_augment_grad",
            Self::Labels { .. } => "labels",
            Self::AppendClass { .. } => "append_class",
            Self::PickLogit { .. } => "pick_logit",
            Self::PickLogitGrad { .. } => "pick_logit_grad",
            Self::Concat { .. } => "concat",
            Self::Pack { .. } => "pack",
            Self::PackGrad { .. } => "pack_grad",
            Self::Conv { .. } => "conv",
            Self::ConvGradInput { .. } => "conv_grad_input",
            Self::ConvGradWeight { .. } => "conv_grad_weight",
            Self::SpectralNorm { .. } => "spectral_norm",
            Self::SpectralNormGrad { .. } => "spectral_norm_grad",
            Self::BiasGrad { .. } => "bias_grad",
            Self::BatchNorm { .. } => "batch_norm",
            Self::BatchNormEval { .. } => "batch_norm_eval",
            Self::BatchNormGrad { .. } => "batch_norm_grad",
            Self::Activation { .. } => "activation",
            Self::ActivationGrad { .. } => "activation_grad",
            Self::Upsample { .. } => "upsample",
            Self::UpsampleGrad { .. } => "upsample_grad",
            Self::MaxPool { .. } => "max_pool",
            Self::MaxPoolGrad { .. } => "max_pool_grad",
            Self::MinibatchDeviation { .. } => "minibatch_deviation",
            Self::MinibatchDeviationGrad { .. } => "minibatch_deviation_grad",
            Self::Dropout { .. } => "dropout",
            Self::DiscriminatorLoss { .. } => "discriminator_loss",
            Self::GeneratorLoss { .. } => "generator_loss",
            Self::PenaltyDirection { .. } => "penalty_direction",
            Self::Fill { .. } => "fill",
            Self::Accumulate { .. } => "accumulate",
            Self::Mix { .. } => "mix",
            Self::CrossEntropy { .. } => "cross_entropy",
            Self::Adam { .. } => "adam",
            Self::Ema { .. } => "ema",
        }
    }

    /// Its tensors, by the letters of the formula.
    pub fn operands(&self) -> Vec<Operand> {
        let mut list = Vec::new();
        self.clone().visit(&mut |name, &mut tensor, access| list.push(Operand { name, tensor, access }));
        list
    }

    /// The same operation on other tensors.
    #[must_use]
    pub fn on(&self, mut other: impl FnMut(Operand) -> TensorId) -> Self {
        let mut op = self.clone();
        op.visit(&mut |name, tensor, access| *tensor = other(Operand { name, tensor: *tensor, access }));
        op
    }

    /// Each tensor with its letter and what is done to it: the one table of operands.
    #[expect(clippy::too_many_lines, reason = "a table with one entry for each operation")]
    fn visit(&mut self, each: &mut dyn FnMut(&'static str, &mut TensorId, Access)) {
        use Access::{Read, Update, Write};
        match self {
            Self::Tick { clock } => each("clock", clock, Update),
            Self::Normal { clock, y, .. } => {
                each("clock", clock, Read);
                each("y", y, Write);
            }
            Self::Batch { clock, images, y, .. } => {
                each("clock", clock, Read);
                each("images", images, Read);
                each("y", y, Write);
            }
            Self::Augment { clock, x, y, .. }
            | Self::DiffAugment { clock, x, y, .. }
            | Self::Dropout { clock, x, y, .. } => {
                each("clock", clock, Read);
                each("x", x, Read);
                each("y", y, Write);
            }
            Self::DiffAugmentGrad { clock, dy, dx, .. } => {
                each("clock", clock, Read);
                each("dy", dy, Read);
                each("dx", dx, Write);
            }
            Self::Labels { clock, labels, y, .. } => {
                each("clock", clock, Read);
                each("labels", labels, Read);
                each("y", y, Write);
            }
            Self::AppendClass { x, labels, y } => {
                each("x", x, Read);
                each("labels", labels, Read);
                each("y", y, Write);
            }
            Self::PickLogit { logits, labels, y } => {
                each("logits", logits, Read);
                each("labels", labels, Read);
                each("y", y, Write);
            }
            Self::PickLogitGrad { dy, labels, dlogits } => {
                each("dy", dy, Read);
                each("labels", labels, Read);
                each("dlogits", dlogits, Write);
            }
            Self::Concat { a, b, y } => {
                each("a", a, Read);
                each("b", b, Read);
                each("y", y, Write);
            }
            Self::Conv { x, w, b, y, .. } => {
                each("x", x, Read);
                each("w", w, Read);
                if let Some(b) = b {
                    each("b", b, Read);
                }
                each("y", y, Write);
            }
            Self::ConvGradInput { dy, w, b, dx, .. } => {
                each("dy", dy, Read);
                each("w", w, Read);
                if let Some(b) = b {
                    each("b", b, Read);
                }
                each("dx", dx, Write);
            }
            Self::ConvGradWeight { x, dy, dw, .. } => {
                each("x", x, Read);
                each("dy", dy, Read);
                each("dw", dw, Write);
            }
            Self::SpectralNorm { w, uv, y, sigma } => {
                each("w", w, Read);
                each("uv", uv, Update);
                each("y", y, Write);
                each("sigma", sigma, Write);
            }
            Self::SpectralNormGrad { y, uv, sigma, dw } => {
                each("y", y, Read);
                each("uv", uv, Read);
                each("sigma", sigma, Read);
                each("dw", dw, Update);
            }
            Self::BiasGrad { dy, db } => {
                each("dy", dy, Read);
                each("db", db, Write);
            }
            Self::BatchNorm { x, affine, y, saved, running, .. } => {
                each("x", x, Read);
                each("affine", affine, Read);
                each("y", y, Write);
                each("saved", saved, Write);
                each("running", running, Update);
            }
            Self::BatchNormEval { x, affine, running, y, .. } => {
                each("x", x, Read);
                each("affine", affine, Read);
                each("running", running, Read);
                each("y", y, Write);
            }
            Self::BatchNormGrad { x, dy, affine, saved, dx, daffine, .. } => {
                each("x", x, Read);
                each("dy", dy, Read);
                each("affine", affine, Read);
                each("saved", saved, Read);
                each("dx", dx, Write);
                if let Some(daffine) = daffine {
                    each("daffine", daffine, Write);
                }
            }
            Self::Activation { x, y, .. }
            | Self::Upsample { x, y }
            | Self::MaxPool { x, y, .. }
            | Self::Pack { x, y }
            | Self::MinibatchDeviation { x, y, .. } => {
                each("x", x, Read);
                each("y", y, Write);
            }
            Self::ActivationGrad { y, dy, dx, .. } => {
                each("y", y, Read);
                each("dy", dy, Read);
                each("dx", dx, Write);
            }
            Self::UpsampleGrad { dy, dx } | Self::PackGrad { dy, dx } => {
                each("dy", dy, Read);
                each("dx", dx, Write);
            }
            Self::MaxPoolGrad { x, dy, dx, .. } | Self::MinibatchDeviationGrad { x, dy, dx, .. } => {
                each("x", x, Read);
                each("dy", dy, Read);
                each("dx", dx, Write);
            }
            // A step writes its own cells of the history and leaves the others as they are.
            Self::DiscriminatorLoss { clock, logits, dlogits, history, .. } => {
                each("clock", clock, Read);
                each("logits", logits, Read);
                each("dlogits", dlogits, Write);
                each("history", history, Update);
            }
            Self::GeneratorLoss { clock, logits, reals, dlogits, history, .. } => {
                each("clock", clock, Read);
                each("logits", logits, Read);
                if let Some(reals) = reals {
                    each("reals", reals, Read);
                }
                each("dlogits", dlogits, Write);
                each("history", history, Update);
            }
            Self::PenaltyDirection { g, t, .. } => {
                each("g", g, Read);
                each("t", t, Write);
            }
            Self::Fill { y, .. } => each("y", y, Write),
            Self::Accumulate { x, y } => {
                each("x", x, Read);
                each("y", y, Update);
            }
            Self::Mix { clock, a, b, y, .. } => {
                each("clock", clock, Read);
                each("a", a, Read);
                each("b", b, Read);
                each("y", y, Write);
            }
            Self::CrossEntropy { clock, logits, labels, dlogits, history, .. } => {
                each("clock", clock, Read);
                each("logits", logits, Read);
                each("labels", labels, Read);
                each("dlogits", dlogits, Write);
                each("history", history, Update);
            }
            Self::Adam { clock, param, grad, m, v, .. } => {
                each("clock", clock, Read);
                each("param", param, Update);
                each("grad", grad, Read);
                each("m", m, Update);
                each("v", v, Update);
            }
            Self::Ema { clock, param, ema, .. } => {
                each("clock", clock, Read);
                each("param", param, Read);
                each("ema", ema, Update);
            }
        }
    }
}
