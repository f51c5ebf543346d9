//! Convolution and its gradients as matrix products, each with the neighbours that its kernels compute as well.

use super::kernel::{ELEMENTWISE, Kernel, MAX_WORKGROUPS, Overrides, are_same_elements, elementwise, overrides};
use super::norm::groups_of;
use super::partials::SplitSum;
use super::tiles::{ProductKind, ProductLayout, ProductSize, ROWS_OF_EVERY_TILE};
use super::{Dispatch, KernelSet};
use crate::program::{Access, Geometry, Op, Operand, Program, TensorId};

/// The most parts of a group whose sums batch normalisation reads: more would take longer than a pass over its rows.
const MAX_PARTS: usize = 512;
/// The most elements of a gradient of weights that is copied for the sake of the gradient of the bias.
const MAX_COPIED: usize = 1 << 20;
/// The most outputs of a next layer, as in `conv_narrow.wgsl`.
const MAX_NEXT_COLUMNS: usize = 4;
/// The fewest rows of a next layer: each is one workgroup, and fewer do not keep an adapter busy.
const MIN_NEXT_ROWS: usize = 32;
/// The most loop iterations of an invocation of a next layer, far from those after which Mesa before 25.1 ends loops.
const MAX_NEXT_ITERATIONS: usize = 16_384;

/// Rows, terms of each sum, and columns of an operation if it is a convolution of one window, the whole image, which reads each element of
/// its input once.
pub(super) fn linear_layer(op: &Op, program: &Program) -> Option<[usize; 3]> {
    let &Op::Conv { x, y, geometry, .. } = op else { return None };
    let ([rows, h, width, _], [_, h_out, w_out, columns]) = (program.nhwc(x), program.nhwc(y));
    let is_linear = [h_out, w_out] == [1, 1] && [h, width] == [geometry.kernel; 2] && geometry.pad == 0;
    is_linear.then_some([rows, program.info(x).len() / rows, columns])
}

/// A convolution, its gradient for the input, which also is a transposed convolution, or its gradient for the weights.
pub(super) struct Product<'a> {
    program: &'a Program,
    op: &'a Op,
    kind: ProductKind,
    left: TensorId,
    right: TensorId,
    pub(super) bias: Option<TensorId>,
    /// The result.
    pub(super) output: SplitSum,
    /// The gradient of the bias, which the product that computes the gradient of the weights computes as well.
    pub(super) bias_gradient: Option<SplitSum>,
    /// The activation of the result, or the gradient of an activation, which the epilogue of the product computes.
    pub(super) activation: Option<&'a Op>,
    /// Batch normalisation, or its gradient, for which the epilogue sums up rows, and the number of parts of a group that it sums up.
    norm: Option<(&'a Op, usize)>,
    /// The next layer, which the dispatch that reduces the partial sums computes as well.
    pub(super) next_layer: Option<&'a Op>,
    size: ProductSize,
    layout: ProductLayout,
    /// The overrides that describe the convolution.
    overrides: Overrides,
}

impl<'a> Product<'a> {
    pub(super) fn of(op: &'a Op, program: &'a Program, kernels: KernelSet) -> Self {
        let (x, w, y, bias, geometry) = match *op {
            Op::Conv { x, w, b, y, geometry } => (x, w, y, b, geometry),
            Op::ConvGradInput { dy, w, b, dx, geometry } => (dx, w, dy, b, geometry),
            Op::ConvGradWeight { x, dy, dw, geometry } => (x, dw, dy, None, geometry),
            _ => unreachable!("a convolution"),
        };
        let ([n, h, width, c_in], [_, h_out, w_out, c_out]) = (program.nhwc(x), program.nhwc(y));
        let Geometry { kernel, stride, pad } = geometry;
        let (windows, taps) = (n * h_out * w_out, kernel * kernel);
        let (kind, [left, right, result], rows, columns, depth, phases) = match op {
            Op::Conv { .. } => (ProductKind::Forward, [x, w, y], windows, c_out, taps * c_in, 1),
            Op::ConvGradWeight { .. } => (ProductKind::GradWeight, [x, y, w], taps * c_in, c_out, windows, 1),
            _ => {
                // Of the largest phase.
                let (pixels, taps) = (h.div_ceil(stride) * width.div_ceil(stride), kernel.div_ceil(stride).pow(2));
                (ProductKind::GradInput, [y, w, x], n * pixels, c_in, taps * c_out, stride * stride)
            }
        };
        let size = ProductSize { rows, columns, depth, phases };
        let scales = [left, right].map(|tensor| scale_of(tensor, program));
        let layout = ProductLayout::of(&size, kind, scales, kernels);
        let overrides = overrides! {
            N: n, H: h, W: width, C_IN: c_in, H_OUT: h_out, W_OUT: w_out, C_OUT: c_out,
            K: kernel, STRIDE: stride, PAD: pad
        };
        Self {
            program,
            op,
            kind,
            left,
            right,
            bias,
            output: SplitSum::new(result, layout.splits, program),
            bias_gradient: None,
            activation: None,
            norm: None,
            next_layer: None,
            size,
            layout,
            overrides,
        }
    }

    /// Lets a product that computes the gradient of weights compute the next operation as well, if that is the gradient of the bias and its
    /// kernels can; returns whether it is. Both gradients are left in partial sums, side by side.
    pub(super) fn take_bias_gradient(&mut self, next: Option<&Op>) -> bool {
        let &Op::ConvGradWeight { x, dy, geometry: Geometry { kernel, stride, pad }, .. } = self.op else {
            return false;
        };
        let Some(&Op::BiasGrad { dy: summed, db }) = next else { return false };
        let ([_, h, w, _], [_, h_out, w_out, _]) = (self.program.nhwc(x), self.program.nhwc(dy));
        // That of a transposed convolution, where windows have all pixels of x.
        let has_all = |size: usize, out: usize| kernel >= stride && size + pad <= stride * (out - 1) + kernel;
        let of_left = summed == x && has_all(h, h_out) && has_all(w, w_out) && self.size.rows <= ROWS_OF_EVERY_TILE;
        // A result that is not split is copied once more by who adds partial sums.
        let is_cheap = self.output.splits > 1 || self.output.len <= MAX_COPIED;
        let takes = (summed == dy || of_left) && is_cheap && self.layout.has_sums();
        if takes {
            let mut bias_gradient = SplitSum::new(db, self.output.splits, self.program);
            self.output.leave_with(&mut bias_gradient);
            self.bias_gradient = Some(bias_gradient);
            self.overrides.extend(overrides! { BIAS_OF_LEFT: u8::from(of_left) });
        }
        takes
    }

    /// Whether the epilogue can compute an operation: an activation of the result, or the gradient of one.
    pub(super) fn takes_activation(&self, op: &Op) -> bool {
        let (&Op::Activation { x: operand, .. } | &Op::ActivationGrad { dy: operand, .. }) = op else { return false };
        are_same_elements(operand, self.output.tensor, self.program)
    }

    /// Whether the dispatch that reduces the partial sums can compute an operation: a layer that reads each element of the result, or of
    /// its activation, once.
    pub(super) fn takes_layer(&self, op: &Op) -> bool {
        let result = match self.activation {
            None => self.output.tensor,
            Some(&Op::Activation { y, .. }) => y,
            _ => return false,
        };
        let (&Op::Conv { x, .. }, Some([rows, row_len, columns])) = (op, linear_layer(op, self.program)) else {
            return false;
        };
        let iterations = row_len.div_ceil(ELEMENTWISE) * (2 + self.output.splits + columns);
        let fits = columns <= MAX_NEXT_COLUMNS
            && (MIN_NEXT_ROWS..=MAX_WORKGROUPS).contains(&rows)
            && iterations <= MAX_NEXT_ITERATIONS;
        self.output.is_partial() && are_same_elements(x, result, self.program) && fits
    }

    /// The gradients that it leaves in partial sums.
    pub(super) fn partial_gradients(&mut self) -> Vec<&mut SplitSum> {
        [&mut self.output].into_iter().chain(&mut self.bias_gradient).filter(|sum| sum.is_partial()).collect()
    }

    /// Lets the epilogue sum up rows for batch normalisation, or for its gradient. Returns the number of parts of each group whose sums it
    /// writes; none where there is no such kernel, or where there would be too many.
    pub(super) fn take_norm(&mut self, norm: &'a Op) -> Option<usize> {
        let rows = self.size.rows / groups_of(norm);
        let parts = self.size.phases * rows.div_ceil(self.layout.rows_of_part());
        self.norm = (self.layout.has_sums() && parts <= MAX_PARTS).then_some((norm, parts));
        self.norm.map(|(_, parts)| parts)
    }

    /// The dispatch of the product, and those that reduce its partial sums if no other kernel takes them.
    pub(super) fn dispatches(&self) -> Vec<Dispatch> {
        let (splits, split_depth) = (self.output.splits, self.layout.split_depth);
        let has_bias = u8::from(self.bias.is_some());
        let kernel = Kernel::new(self.op, self.layout.shader, self.overrides.clone())
            .overrides(overrides! { HAS_BIAS: has_bias, SPLITS: splits, SPLIT_DEPTH: split_depth })
            .optional("b", self.bias)
            .tensor("left", self.left)
            .tensor("right", self.right)
            .bind("partials", self.output.resource());
        let kernel = self.with_epilogue(kernel);
        let product = match &self.bias_gradient {
            None => kernel.clone(),
            Some(bias_gradient) => {
                let (both, at) = self.output.resource_with(bias_gradient);
                kernel.clone().bind("partials", both).overrides(overrides! { BIAS_AT: at })
            }
        };
        let outputs = [Some(&self.output), self.bias_gradient.as_ref()].into_iter().flatten();
        let reduced = outputs.filter(|output| output.needs_reduction());
        let reductions = reduced.map(|output| self.reduction(kernel.clone().of_shader("conv"), output));
        [self.product(product)].into_iter().chain(reductions).collect()
    }

    /// The dispatch that reduces the partial sums of a result, and computes the next layer if there is one.
    fn reduction(&self, kernel: Kernel, output: &SplitSum) -> Dispatch {
        let kernel = kernel
            .tensor("result", output.tensor)
            .bind("partials", output.resource())
            .overrides(overrides! { LEN: output.len, BIAS_LEN: self.size.columns });
        let Some(&Op::Conv { w, b, y, .. }) = self.next_layer else {
            return kernel.dispatch("reduce_partials", elementwise(self.program, output.tensor));
        };
        let [rows, .., columns] = self.program.nhwc(y);
        let sizes =
            overrides! { ROW_LEN: output.len / rows, NEXT_COLUMNS: columns, NEXT_HAS_BIAS: u8::from(b.is_some()) };
        let kernel = kernel.overrides(sizes).tensor("next_w", w).tensor("next_b", b.unwrap_or(w)).tensor("next_y", y);
        kernel.dispatch("reduce_partials_and_multiply", [rows, 1, 1])
    }

    /// The kernel with what it computes from a complete result beside storing it.
    fn with_epilogue(&self, kernel: Kernel) -> Kernel {
        let kernel = match self.norm {
            None => kernel,
            Some((norm, parts)) => {
                let (groups, rows) = (groups_of(norm), self.layout.rows_of_part());
                kernel
                    .overrides(overrides! { GROUPS: groups, PARTS: parts, PART_ROWS: rows })
                    .scratch("sums", groups * parts * (2 * self.size.columns + 1))
            }
        };
        let kernel = match self.norm {
            Some((&Op::BatchNormGrad { x, saved, .. }, _)) => kernel.tensor("normalised_x", x).tensor("saved", saved),
            _ => kernel,
        };
        let (kind, y, result) = match self.activation {
            Some(&Op::Activation { kind, y, .. }) => (Some(kind), None, Some(y)),
            Some(&Op::ActivationGrad { kind, y, dx, .. }) => (Some(kind), Some(y), Some(dx)),
            _ => (None, None, None),
        };
        let kernel = kernel.activation(kind).overrides(overrides! { BACKWARD: u8::from(y.is_some()) });
        kernel.optional("activated_y", y).optional_result("activated", result, 4)
    }

    fn product(&self, kernel: Kernel) -> Dispatch {
        let [plain, with_statistics, with_gradient_sums, narrow] = match self.kind {
            ProductKind::Forward => {
                ["forward", "forward_and_statistics", "forward_and_gradient_sums", "narrow_forward"]
            }
            ProductKind::GradInput => {
                ["grad_input", "grad_input_and_statistics", "grad_input_and_gradient_sums", "narrow_grad_input"]
            }
            ProductKind::GradWeight => ["grad_weight"; 4],
        };
        let entry = match self.norm {
            Some((Op::BatchNorm { .. }, _)) => with_statistics,
            Some(_) => with_gradient_sums,
            None if self.is_narrow() => {
                return kernel.dispatch(narrow, [self.size.rows.div_ceil(64), 1, self.size.phases]);
            }
            None => plain,
        };
        self.layout.dispatch(kernel, entry, &self.size, self.norm.map(|(norm, _)| groups_of(norm)))
    }

    /// Whether one invocation computes all columns of a row: where they are so few that a tile would be mostly empty, rows are enough
    /// to keep an adapter busy, and loops are short.
    fn is_narrow(&self) -> bool {
        let ProductSize { columns, depth, rows, phases, .. } = self.size;
        let fits = columns <= 4 && depth <= 8192 && (64 * 128..=64 * MAX_WORKGROUPS).contains(&(rows * phases));
        fits && self.kind != ProductKind::GradWeight && self.output.splits == 1 && self.layout.has_narrow_kernels()
    }
}

/// The power of two by which the elements of a tensor are multiplied before they are rounded to f16, whose smallest positive number is
/// 6e-8. A gradient of a mean over a batch is smaller by a factor of its images, and by a factor of about 16 more.
fn scale_of(tensor: TensorId, program: &Program) -> usize {
    if is_gradient(tensor, program) { 16 * program.nhwc(tensor)[0].next_power_of_two() } else { 1 }
}

/// Whether a tensor is a gradient that comes back from a loss.
fn is_gradient(tensor: TensorId, program: &Program) -> bool {
    let ops = program.routines().iter().flat_map(|routine| &routine.ops);
    let written = |operand: &Operand| operand.tensor == tensor && operand.access != Access::Read;
    let writer = ops.into_iter().find(|op| op.operands().iter().any(written));
    match writer {
        Some(Op::DiscriminatorLoss { .. } | Op::GeneratorLoss { .. } | Op::CrossEntropy { .. }) => true,
        // These compute their own gradients: of a transposed convolution, and of dropout.
        Some(&Op::Conv { x: before, .. } | &Op::ConvGradInput { dy: before, .. } | &Op::Dropout { x: before, .. }) => {
            is_gradient(before, program)
        }
        Some(op) => op.name().ends_with("grad"),
        None => false,
    }
}
