//! Convolution and its gradients as matrix products, each with an epilogue: what its kernel computes from the result beside storing
//! it.

use super::kernel::{ELEMENTWISE, Kernel, MAX_WORKGROUPS, are_same_elements, elementwise, flag, sizes};
use super::partials::ProductResult;
use super::tiles::{ProductLayout, ProductSize, ROWS_OF_EVERY_TILE};
use super::{Dispatch, KernelSet, Resource};
use crate::program::{Access, Activation, Geometry, Op, Operand, Program, TensorId};

/// The most parts of a group whose sums batch normalisation reads: more would take longer than a pass over its rows.
const MAX_PARTS: usize = 512;

/// What a kernel computes from a complete result beside storing it.
#[derive(Clone, Copy)]
pub(super) enum Epilogue {
    /// Nothing.
    None,
    /// `y = f(result)`.
    Activation { kind: Activation, y: TensorId },
    /// `dx = result * f'`, where `y` is what f gave.
    ActivationGrad { kind: Activation, y: TensorId, dx: TensorId },
    /// The sums of the result, over the rows of `parts` parts of each of `groups` groups, that its batch normalisation needs.
    Statistics { groups: usize, parts: usize },
    /// `dx = result * f'`, and the sums of dx that the gradient of batch normalisation needs: of `x` with the statistics `saved`.
    GradientSums {
        kind: Activation,
        y: TensorId,
        dx: TensorId,
        x: TensorId,
        saved: TensorId,
        groups: usize,
        parts: usize,
    },
}

/// A linear layer of few outputs whose input is what a product leaves in partial sums.
#[derive(Clone, Copy)]
pub(super) struct NextLayer {
    w: TensorId,
    b: Option<TensorId>,
    y: TensorId,
}

/// The sizes of a layer that reads each element of its input once.
pub(super) struct LinearLayer {
    pub(super) rows: usize,
    pub(super) row_len: usize,
    pub(super) columns: usize,
}

/// The sizes of an operation if it is a convolution of one window, the whole image.
pub(super) fn linear_layer(op: &Op, program: &Program) -> Option<LinearLayer> {
    let &Op::Conv { x, w, y, geometry, .. } = op else { return None };
    let ([rows, h, width, _], [k, ..], [_, h_out, w_out, columns]) =
        (program.nhwc(x), program.nhwc(w), program.nhwc(y));
    let is_linear = [h_out, w_out] == [1, 1] && [h, width] == [k, k] && geometry.pad == 0;
    is_linear.then_some(LinearLayer { rows, row_len: program.info(x).len() / rows, columns })
}

/// The most elements of a gradient of weights that is copied for the sake of the gradient of the bias.
const MAX_COPIED: usize = 1 << 20;
/// The most outputs of a [`NextLayer`], as in `conv_narrow.wgsl`.
const MAX_NEXT_COLUMNS: usize = 4;
/// The fewest rows of a [`NextLayer`]: each is one workgroup, and fewer do not keep an adapter busy.
const MIN_NEXT_ROWS: usize = 32;
/// The most loop iterations of an invocation of a [`NextLayer`], far from those after which Mesa before 25.1 ends loops.
const MAX_NEXT_ITERATIONS: usize = 16_384;

/// Which of the three products it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ProductKind {
    Forward,
    GradInput,
    GradWeight,
}

/// A convolution, its gradient for the input, which also is a transposed convolution, or its gradient for the weights.
pub(super) struct Product {
    kind: ProductKind,
    left: TensorId,
    right: TensorId,
    pub(super) bias: Option<TensorId>,
    pub(super) output: ProductResult,
    /// The gradient of the bias, which the product that computes the gradient of the weights computes as well.
    pub(super) bias_gradient: Option<ProductResult>,
    pub(super) epilogue: Epilogue,
    /// The next layer, which the dispatch that reduces the partial sums computes as well.
    pub(super) next: Option<NextLayer>,
    size: ProductSize,
    layout: ProductLayout,
    /// Terms of a partial sum.
    split_depth: usize,
    /// The overrides that describe the convolution.
    overrides: Vec<(&'static str, f64)>,
}

impl Product {
    pub(super) fn of(op: &Op, program: &Program, kernels: KernelSet) -> Self {
        let (kind, [left, right, result], bias, size, overrides) = match *op {
            Op::Conv { x, w, b, y, geometry } => {
                let [n, h_out, w_out, c_out] = program.nhwc(y);
                let [k, _, c_in, _] = program.nhwc(w);
                let size =
                    ProductSize { groups: 1, rows: n * h_out * w_out, columns: c_out, depth: k * k * c_in, phases: 1 };
                (ProductKind::Forward, [x, w, y], b, size, convolution_overrides(program, x, y, geometry))
            }
            Op::ConvGradInput { dy, w, b, dx, geometry } => {
                let [n, h, width, c_in] = program.nhwc(dx);
                let [k, _, _, c_out] = program.nhwc(w);
                let stride = geometry.stride;
                // Of the largest phase.
                let (pixels, taps) = (h.div_ceil(stride) * width.div_ceil(stride), k.div_ceil(stride).pow(2));
                let phases = stride * stride;
                let size = ProductSize { groups: 1, rows: n * pixels, columns: c_in, depth: taps * c_out, phases };
                (ProductKind::GradInput, [dy, w, dx], b, size, convolution_overrides(program, dx, dy, geometry))
            }
            Op::ConvGradWeight { x, dy, dw, geometry } => {
                let [n, h_out, w_out, c_out] = program.nhwc(dy);
                let [k, _, c_in, _] = program.nhwc(dw);
                let size =
                    ProductSize { groups: 1, rows: k * k * c_in, columns: c_out, depth: n * h_out * w_out, phases: 1 };
                (ProductKind::GradWeight, [x, dy, dw], None, size, convolution_overrides(program, x, dy, geometry))
            }
            _ => unreachable!("a convolution"),
        };
        let layout = ProductLayout::of(&size, kernels);
        let (splits, split_depth) = layout.splits(&size, kind == ProductKind::GradWeight);
        let output = ProductResult::new(result, splits);
        let epilogue = Epilogue::None;
        Self {
            kind,
            left,
            right,
            bias,
            output,
            bias_gradient: None,
            epilogue,
            next: None,
            size,
            layout,
            split_depth,
            overrides,
        }
    }

    pub(super) fn is_weight_gradient(&self) -> bool {
        self.kind == ProductKind::GradWeight
    }

    /// Lets a product that computes the gradient of weights compute the next operation as well, if that is the gradient of the bias and its
    /// kernels can; returns whether it is. Both gradients are left in partial sums, side by side.
    pub(super) fn take_bias_gradient(&mut self, op: &Op, next: Option<&Op>, program: &Program) -> bool {
        let &Op::ConvGradWeight { x, dy, geometry: Geometry { kernel, stride, pad }, .. } = op else { return false };
        let Some(&Op::BiasGrad { dy: summed, db }) = next else { return false };
        let ([_, h, w, _], [_, h_out, w_out, _]) = (program.nhwc(x), program.nhwc(dy));
        // That of a transposed convolution, where windows have all pixels of x.
        let has_all = |size: usize, out: usize| kernel >= stride && size + pad <= stride * (out - 1) + kernel;
        let of_left = summed == x && has_all(h, h_out) && has_all(w, w_out) && self.size.rows <= ROWS_OF_EVERY_TILE;
        // A result that is not split is copied once more by who adds partial sums.
        let is_cheap = self.output.splits > 1 || program.info(self.output.tensor).len() <= MAX_COPIED;
        let takes = (summed == dy || of_left) && is_cheap && self.layout.sums_depth();
        if takes {
            let mut bias_gradient = ProductResult::new(db, self.output.splits);
            bias_gradient.move_behind(&self.output, program);
            (self.output.is_partial, bias_gradient.is_partial) = (true, true);
            self.bias_gradient = Some(bias_gradient);
            self.overrides.push(flag("BIAS_OF_LEFT", of_left));
        }
        takes
    }

    /// Lets the dispatch that reduces the partial sums compute the next operation as well, if that is a layer that reads each element of
    /// the result, or of its activation, once; returns whether it is.
    pub(super) fn take_next_layer(&mut self, op: Option<&Op>, program: &Program) -> bool {
        let result = match self.epilogue {
            Epilogue::None => self.output.tensor,
            Epilogue::Activation { y, .. } => y,
            _ => return false,
        };
        let Some((&Op::Conv { x, w, b, y, .. }, layer)) = op.and_then(|op| Some((op, linear_layer(op, program)?)))
        else {
            return false;
        };
        let LinearLayer { rows, row_len, columns } = layer;
        let iterations = row_len.div_ceil(ELEMENTWISE) * (2 + self.output.splits + columns);
        let fits = columns <= MAX_NEXT_COLUMNS
            && (MIN_NEXT_ROWS..=MAX_WORKGROUPS).contains(&rows)
            && iterations <= MAX_NEXT_ITERATIONS;
        let takes = self.output.is_partial && are_same_elements(x, result, program) && fits;
        self.next = takes.then_some(NextLayer { w, b, y });
        takes
    }

    /// What the product computes: the result, and the gradient of the bias if there is one.
    pub(super) fn outputs(&mut self) -> Vec<&mut ProductResult> {
        [&mut self.output].into_iter().chain(&mut self.bias_gradient).collect()
    }

    /// Whether its kernels compute an activation, or the gradient of one, from the result.
    pub(super) fn has_epilogues(&self) -> bool {
        self.kind != ProductKind::GradWeight
    }

    /// The number of parts of each group that its kernel sums up for batch normalisation; none where there is no such kernel, or where
    /// there would be too many.
    pub(super) fn statistics_parts(&self, groups: usize) -> Option<usize> {
        let part = self.layout.rows_of_part()?;
        let parts = self.size.phases * (self.size.rows / groups).div_ceil(part);
        (self.has_epilogues() && self.output.splits == 1 && parts <= MAX_PARTS).then_some(parts)
    }

    /// The dispatch of the product, and those that reduce its partial sums if no other node does.
    pub(super) fn dispatches(&self, op: &Op, program: &Program) -> Vec<Dispatch> {
        let kernel = Kernel::new(op, self.layout.shader(), self.overrides.clone())
            .overrides(&[flag("HAS_BIAS", self.bias.is_some())])
            // Every variable of an entry point is bound, so what is absent is some tensor that is only read.
            .tensor("b", self.bias.unwrap_or(self.left))
            .overrides(&sizes(&[("SPLITS", self.output.splits), ("SPLIT_DEPTH", self.split_depth)]))
            .tensor("left", self.left)
            .tensor("right", self.right)
            .bind("partials", self.output.resource(program));
        let kernel = self.with_epilogue(kernel);
        let product = match &self.bias_gradient {
            None => self.product(kernel.clone(), program),
            Some(bias_gradient) => {
                let (of_weights, of_bias) = (self.output.memory(program), bias_gradient.memory(program));
                let both = Resource::Scratch(self.output.scratch, of_weights.start..of_bias.end);
                let kernel = kernel.clone().bind("partials", both);
                let kernel = kernel.overrides(&sizes(&[("BIAS_AT", of_bias.start - of_weights.start)]));
                self.product(kernel, program)
            }
        };
        let mut dispatches = vec![product];
        for output in [Some(&self.output), self.bias_gradient.as_ref()].into_iter().flatten() {
            if output.needs_reduction() {
                let result = output.tensor;
                let reduction = kernel.clone().of_shader("conv").tensor("result", result);
                let reduction = reduction
                    .bind("partials", output.resource(program))
                    .overrides(&sizes(&[("LEN", program.info(result).len()), ("BIAS_LEN", self.size.columns)]));
                dispatches.push(self.reduction(reduction, result, program));
            }
        }
        dispatches
    }

    /// The dispatch that reduces the partial sums of a result, and computes the next layer if there is one.
    fn reduction(&self, kernel: Kernel, result: TensorId, program: &Program) -> Dispatch {
        let Some(NextLayer { w, b, y }) = self.next else {
            return kernel.dispatch("reduce_partials", elementwise(program, result));
        };
        let [rows, .., columns] = program.nhwc(y);
        let row_len = program.info(result).len() / rows;
        let kernel = kernel
            .overrides(&sizes(&[("ROW_LEN", row_len), ("NEXT_COLUMNS", columns)]))
            .overrides(&[flag("NEXT_HAS_BIAS", b.is_some())])
            .tensor("next_w", w)
            .tensor("next_b", b.unwrap_or(w))
            .tensor("next_y", y);
        kernel.dispatch("reduce_partials_and_multiply", [rows, 1, 1])
    }

    fn with_epilogue(&self, kernel: Kernel) -> Kernel {
        let sums = |kernel: Kernel, groups: usize, parts: usize| {
            let part = self.layout.rows_of_part().expect("it has kernels with sums");
            kernel
                .overrides(&sizes(&[("GROUPS", groups), ("PARTS", parts), ("PART_ROWS", part)]))
                .scratch("sums", groups * parts * (2 * self.size.columns + 1))
        };
        let kernel = match self.epilogue {
            Epilogue::Statistics { groups, parts } => sums(kernel, groups, parts),
            Epilogue::GradientSums { x, saved, groups, parts, .. } => {
                sums(kernel, groups, parts).tensor("normalised_x", x).tensor("saved", saved)
            }
            _ => kernel,
        };
        match self.epilogue {
            Epilogue::None | Epilogue::Statistics { .. } => kernel
                .activation(None)
                .overrides(&[flag("BACKWARD", false)])
                .tensor("activated_y", self.left)
                .scratch("activated", 4),
            Epilogue::Activation { kind, y } => kernel
                .activation(Some(kind))
                .overrides(&[flag("BACKWARD", false)])
                .tensor("activated_y", self.left)
                .tensor("activated", y),
            Epilogue::ActivationGrad { kind, y, dx } | Epilogue::GradientSums { kind, y, dx, .. } => kernel
                .activation(Some(kind))
                .overrides(&[flag("BACKWARD", true)])
                .tensor("activated_y", y)
                .tensor("activated", dx),
        }
    }

    fn product(&self, kernel: Kernel, program: &Program) -> Dispatch {
        let (size, part) = match self.epilogue {
            Epilogue::Statistics { groups, .. } | Epilogue::GradientSums { groups, .. } => {
                let size = ProductSize { groups, rows: self.size.rows / groups, ..self.size };
                (size, self.layout.rows_of_part().expect("it has kernels with sums"))
            }
            _ if self.is_narrow() => {
                let entry = if self.kind == ProductKind::Forward { "narrow_forward" } else { "narrow_grad_input" };
                return kernel.dispatch(entry, [self.size.rows.div_ceil(64), 1, self.size.phases]);
            }
            _ => (self.size, 1),
        };
        let scales = [self.left, self.right].map(|tensor| scale_of(tensor, program));
        let product = match self.kind {
            ProductKind::Forward => 0,
            ProductKind::GradInput => 1,
            ProductKind::GradWeight => 2,
        };
        self.layout.dispatch(kernel, self.entry(), product, &size, self.output.splits, part, scales)
    }

    fn entry(&self) -> &'static str {
        match (self.kind, self.epilogue) {
            (ProductKind::Forward, Epilogue::Statistics { .. }) => "forward_and_statistics",
            (ProductKind::Forward, Epilogue::GradientSums { .. }) => "forward_and_gradient_sums",
            (ProductKind::Forward, _) => "forward",
            (ProductKind::GradInput, Epilogue::Statistics { .. }) => "grad_input_and_statistics",
            (ProductKind::GradInput, Epilogue::GradientSums { .. }) => "grad_input_and_gradient_sums",
            (ProductKind::GradInput, _) => "grad_input",
            (ProductKind::GradWeight, _) => "grad_weight",
        }
    }

    /// Whether one invocation computes all columns of a row: where they are so few that a tile would be mostly empty, rows are enough
    /// to keep an adapter busy, and loops are short.
    fn is_narrow(&self) -> bool {
        let ProductSize { rows, columns, depth, phases, .. } = self.size;
        let fits = columns <= 4 && depth <= 8192 && (64 * 128..=64 * MAX_WORKGROUPS).contains(&(rows * phases));
        fits && self.has_epilogues() && self.output.splits == 1 && self.layout.has_narrow_kernels()
    }
}

fn convolution_overrides(program: &Program, x: TensorId, y: TensorId, geometry: Geometry) -> Vec<(&'static str, f64)> {
    let ([n, h, w, c_in], [_, h_out, w_out, c_out]) = (program.nhwc(x), program.nhwc(y));
    sizes(&[
        ("N", n),
        ("H", h),
        ("W", w),
        ("C_IN", c_in),
        ("H_OUT", h_out),
        ("W_OUT", w_out),
        ("C_OUT", c_out),
        ("K", geometry.kernel),
        ("STRIDE", geometry.stride),
        ("PAD", geometry.pad),
    ])
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
