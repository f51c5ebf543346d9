//! Convolution and its gradients as matrix products, each with the neighbours that its kernels compute as well.

use super::kernel::{ELEMENTWISE, Kernel, MAX_WORKGROUPS, Overrides, are_same_elements, elementwise, overrides};
use super::norm::groups_of;
use super::partials::{PARTIALS, SplitSum};
use super::tiles::{ProductKind, ProductLayout, ProductSize, ROWS_OF_EVERY_TILE};
use super::{Dispatch, KernelSet};
use crate::program::{Geometry, Op, Program, TensorId};

/// The most parts of a group whose sums batch normalisation reads: more would take longer than a pass over its rows.
const MAX_PARTS: usize = 512;
/// The most elements of a gradient of weights that is copied for the sake of the gradient of the bias.
const MAX_COPIED: usize = 1 << 20;
/// The most outputs of a next layer, as in `partials.wgsl`.
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
    /// The matrices that are multiplied.
    operands: [TensorId; 2],
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
    layout: ProductLayout,
    /// The overrides that describe the convolution.
    overrides: Overrides,
}

impl<'a> Product<'a> {
    pub(super) fn of(op: &'a Op, program: &'a Program, kernels: KernelSet) -> Self {
        let (kind, x, y, bias, geometry) = match *op {
            Op::Conv { x, b, y, geometry, .. } => (ProductKind::Forward, x, y, b, geometry),
            Op::ConvGradInput { dy, b, dx, geometry, .. } => (ProductKind::GradInput, dx, dy, b, geometry),
            Op::ConvGradWeight { x, dy, geometry, .. } => (ProductKind::GradWeight, x, dy, None, geometry),
            _ => unreachable!("a convolution"),
        };
        let ([n, h, width, c_in], [_, h_out, w_out, c_out]) = (program.nhwc(x), program.nhwc(y));
        let Geometry { kernel, stride, pad } = geometry;
        let (windows, taps) = (n * h_out * w_out, kernel * kernel);
        let (rows, columns, depth, phases) = match kind {
            ProductKind::Forward => (windows, c_out, taps * c_in, 1),
            ProductKind::GradWeight => (taps * c_in, c_out, windows, 1),
            ProductKind::GradInput => {
                // Of the largest phase.
                let (pixels, taps) = (h.div_ceil(stride) * width.div_ceil(stride), kernel.div_ceil(stride).pow(2));
                (n * pixels, c_in, taps * c_out, stride * stride)
            }
        };
        // The first two operands are multiplied, and the last one is the result.
        let operands: Vec<TensorId> = op.operands().iter().map(|operand| operand.tensor).collect();
        let layout = ProductLayout::of(ProductSize { kind, rows, columns, depth, phases }, kernels);
        let overrides = overrides! {
            N: n, H: h, W: width, C_IN: c_in, H_OUT: h_out, W_OUT: w_out, C_OUT: c_out,
            K: kernel, STRIDE: stride, PAD: pad
        };
        Self {
            program,
            op,
            operands: [operands[0], operands[1]],
            bias,
            output: SplitSum::new(operands[operands.len() - 1], layout.splits, program),
            bias_gradient: None,
            activation: None,
            norm: None,
            next_layer: None,
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
        let of_left =
            summed == x && has_all(h, h_out) && has_all(w, w_out) && self.layout.size.rows <= ROWS_OF_EVERY_TILE;
        // A result that is not split is copied once more by who adds partial sums.
        let is_cheap = self.output.splits > 1 || self.output.len <= MAX_COPIED;
        let takes = (summed == dy || of_left) && is_cheap && self.layout.has_sums();
        if takes {
            let bias_gradient = self.bias_gradient.insert(SplitSum::new(db, self.output.splits, self.program));
            bias_gradient.leave_at(PARTIALS, self.output.leave_at(PARTIALS, 0));
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
        let rows = self.layout.size.rows / groups_of(norm);
        let parts = self.layout.size.phases * rows.div_ceil(self.layout.rows_of_part());
        self.norm = (self.layout.has_sums() && parts <= MAX_PARTS).then_some((norm, parts));
        self.norm.map(|(_, parts)| parts)
    }

    /// The dispatch of the product, and those that reduce its partial sums if no other kernel takes them.
    pub(super) fn dispatches(&self) -> Vec<Dispatch> {
        let (splits, split_depth) = (self.output.splits, self.layout.split_depth);
        let has_bias = u8::from(self.bias.is_some());
        let mut kernel = Kernel::new(self.op, self.layout.shader, self.overrides.clone())
            .overrides(overrides! { HAS_BIAS: has_bias, SPLITS: splits, SPLIT_DEPTH: split_depth })
            .tensor("left", self.operands[0])
            .tensor("right", self.operands[1])
            .bind("partials", self.output.resource())
            .epilogue(self.activation);
        if let Some((norm, parts)) = self.norm {
            let (groups, rows) = (groups_of(norm), self.layout.rows_of_part());
            kernel = kernel
                .overrides(overrides! { GROUPS: groups, PARTS: parts, PART_ROWS: rows })
                .scratch("sums", groups * parts * (2 * self.layout.size.columns + 1));
            if let &Op::BatchNormGrad { x, saved, .. } = norm {
                kernel = kernel.tensor("normalised_x", x).tensor("saved", saved);
            }
        }
        if let Some(bias_gradient) = &self.bias_gradient {
            let (both, at) = self.output.resource_with(bias_gradient);
            kernel = kernel.bind("partials", both).overrides(overrides! { BIAS_AT: at });
        }
        if let KernelSet::CooperativeMatrices { .. } = self.layout.kernels {
            let [left, right] = self.operands.map(|operand| self.scale_of(operand));
            kernel = kernel.overrides(overrides! { SCALE_A: left, SCALE_B: right });
        }
        let product = self.layout.dispatch(&kernel, self.norm.map(|(norm, _)| norm));
        let outputs = [Some(&self.output), self.bias_gradient.as_ref()].into_iter().flatten();
        [product].into_iter().chain(outputs.filter_map(|output| self.reduction(output))).collect()
    }

    /// The dispatch that adds the partial sums of a result if no other kernel does, and computes the next layer if there is one.
    fn reduction(&self, output: &SplitSum) -> Option<Dispatch> {
        let mut kernel = output.reduction(self.op)?.epilogue(self.activation);
        if self.bias.is_some() {
            kernel = kernel.overrides(overrides! { HAS_BIAS: 1, BIAS_LEN: self.layout.size.columns });
        }
        let Some(&Op::Conv { w, b, y, .. }) = self.next_layer else {
            return Some(kernel.dispatch("reduce", elementwise(output.len)));
        };
        let [rows, .., columns] = self.program.nhwc(y);
        let sizes =
            overrides! { ROW_LEN: output.len / rows, NEXT_COLUMNS: columns, NEXT_HAS_BIAS: u8::from(b.is_some()) };
        let kernel = kernel.overrides(sizes).tensor("next_w", w).tensor("next_b", b).tensor("next_y", y);
        Some(kernel.dispatch("reduce_and_multiply", [rows, 1, 1]))
    }

    /// The power of two by which the elements of an operand are multiplied before they are rounded to f16, whose smallest positive number is
    /// 6e-8. A gradient of a mean over a batch is smaller by a factor of its images, and by a factor of about 16 more.
    fn scale_of(&self, operand: TensorId) -> usize {
        let images = self.program.nhwc(operand)[0];
        if self.program.is_gradient(operand) { 16 * images.next_power_of_two() } else { 1 }
    }
}
