//! From operations to dispatches: which entry points run an operation, how large, and specialised how.

mod batch_norm;
mod convolution;
mod kernel;
mod waiting;

use std::collections::BTreeMap;
use std::ops::Range;

use batch_norm::{Behind, Given, batch_norm, batch_norm_grad};
pub(super) use convolution::MAX_TILE_SHAPES;
use convolution::{Convolution, Next, Sums};
use kernel::{
    ELEMENTWISE, Kernel, MOST_WORKGROUPS, Slices, blocks_of_four, elementwise, flag, invocations, seed_constants, sizes,
};

use crate::program::{
    Access, Activation, AdversarialLoss, Centre, Decay, DiffAugment, Op, Operand, Order, Program, RampUp, Schedule,
    TensorId, random,
};

/// Lanes of the kernels for software adapters, as in `conv_lanes.wgsl`.
pub(super) const LANES: u32 = 8;

/// Which kernels run the operations that have more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelSet {
    /// Those that run everywhere: tiles in workgroup memory.
    Portable,
    /// Those for adapters that compute on the CPU in vectors of eight: tiles in registers.
    Lanes,
    /// Those that run everywhere, but for larger products of numbers rounded to f16, by matrices of so many rows and columns of a
    /// subgroup of so many invocations.
    CooperativeMatrices {
        /// 8 or 16.
        side: usize,
        /// Invocations of every subgroup.
        subgroup: usize,
    },
}

impl KernelSet {
    /// Whether a shader is ever run: some are for certain adapters.
    pub fn uses(self, shader: &str) -> bool {
        match shader {
            "conv_lanes" => self == Self::Lanes,
            "conv_matrices_8" => matches!(self, Self::CooperativeMatrices { side: 8, .. }),
            "conv_matrices_16" => matches!(self, Self::CooperativeMatrices { side: 16, .. }),
            _ => true,
        }
    }
}

/// One dispatch of one entry point.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// The shader's name.
    pub shader: &'static str,
    /// The entry point's name.
    pub entry: &'static str,
    /// Values of the shader's overrides.
    pub overrides: Vec<(&'static str, f64)>,
    /// What its tensors are, by their names in WGSL.
    pub bindings: BTreeMap<&'static str, Resource>,
    /// How many workgroups along x, y and z.
    pub workgroups: [usize; 3],
    /// Other tiles that the same work can be cut into. Whichever is taken, the bits are the same.
    pub tile_shapes: Vec<TileShape>,
}

/// What a dispatch becomes with other tiles.
#[derive(Debug, Clone, PartialEq)]
pub struct TileShape {
    /// Values of overrides, instead of those of the same names.
    pub overrides: Vec<(&'static str, f64)>,
    /// How many workgroups along x, y and z.
    pub workgroups: [usize; 3],
}

impl Dispatch {
    /// What it is of: shader and entry point.
    pub fn label(&self) -> String {
        format!("{}.{}", self.shader, self.entry)
    }

    /// What a pipeline is made of, and one dispatch may share with another: its [`Self::label`] and all constants.
    pub fn kernel(&self) -> String {
        format!("{} {:?}", self.label(), self.overrides)
    }

    /// The same with its usual tiles, 0, or one of the other [`Self::tile_shapes`], from 1 on; with the usual ones where it has not so many.
    #[must_use]
    pub fn with_tile_shape(&self, number: usize) -> Self {
        let mut tiled = Self { tile_shapes: Vec::new(), ..self.clone() };
        let Some(tiling) = number.checked_sub(1).and_then(|other| self.tile_shapes.get(other)) else { return tiled };
        for &(name, value) in &tiling.overrides {
            let constant = tiled.overrides.iter_mut().find(|(known, _)| *known == name);
            *constant.expect("a tiling changes constants that are there") = (name, value);
        }
        tiled.workgroups = tiling.workgroups;
        tiled
    }
}

/// What is bound to a name of a shader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A tensor of the program.
    Tensor(TensorId),
    /// So many f32 of the memory of that name, from there on: for results between dispatches.
    Scratch(&'static str, Range<usize>),
    /// Numbers that are known beforehand, and only read.
    Table(Vec<u32>),
}

/// The dispatches that run operations, in order. Neighbours that kernels compute together need fewer than each of them alone; they
/// still write all that each of them writes.
pub fn lower(ops: &[Op], program: &Program, kernels: KernelSet) -> Vec<Dispatch> {
    groups(ops, program, kernels).into_iter().flat_map(|group| group.dispatches).collect()
}

/// Operations that are computed together, and what computes them.
pub(super) struct Group<'a> {
    pub(super) ops: &'a [Op],
    pub(super) dispatches: Vec<Dispatch>,
}

/// As [`lower`] does, with what each dispatch is for.
pub(super) fn groups<'a>(ops: &'a [Op], program: &Program, kernels: KernelSet) -> Vec<Group<'a>> {
    let dispatches = |group: &[Op]| match group {
        [alone] => lower_one(alone, program, kernels),
        row => lower_row(row, program, kernels).expect("there are kernels for them"),
    };
    let fused = fused(ops, program, kernels).into_iter();
    let mut groups: Vec<Group> = fused.map(|ops| Group { ops, dispatches: dispatches(ops) }).collect();
    waiting::leave_adding_to_adam(&mut groups, program);
    groups
}

/// Operations in the same order, each alone or together with one or two behind it where there are kernels for them together.
pub(super) fn fused<'a>(ops: &'a [Op], program: &Program, kernels: KernelSet) -> Vec<&'a [Op]> {
    let (mut groups, mut rest) = (Vec::new(), ops);
    while !rest.is_empty() {
        let together = |&count: &usize| count <= rest.len() && lower_row(&rest[..count], program, kernels).is_some();
        let (group, after) = rest.split_at([3, 2].into_iter().find(together).unwrap_or(1));
        groups.push(group);
        rest = after;
    }
    groups
}

/// The dispatches that run two or three operations together, where there are kernels for that.
fn lower_row(ops: &[Op], program: &Program, kernels: KernelSet) -> Option<Vec<Dispatch>> {
    if !may_share_a_dispatch(ops, program) {
        return None;
    }
    match ops {
        [product, norm, behind @ ..] if kernels != KernelSet::Lanes && normalises(norm, product) => {
            normalised(product, norm, behind, program, kernels)
        }
        [product, gradient, norm] if kernels != KernelSet::Lanes => {
            normalised_gradient(product, gradient, norm, program, kernels)
        }
        [op, next] => lower_pair(op, next, program, kernels),
        _ => None,
    }
}

/// The tensor that a product gives which may be handed on to another kernel.
fn handed_on(op: &Op) -> Option<TensorId> {
    match *op {
        Op::Conv { y, .. } | Op::ConvGradInput { dx: y, .. } => Some(y),
        _ => None,
    }
}

fn normalises(norm: &Op, product: &Op) -> bool {
    matches!(*norm, Op::BatchNorm { x, .. } if handed_on(product) == Some(x))
}

/// A product, its batch normalisation, and the activation behind that if there is one.
fn normalised(product: &Op, norm: &Op, behind: &[Op], program: &Program, kernels: KernelSet) -> Option<Vec<Dispatch>> {
    let &Op::BatchNorm { y, groups, .. } = norm else { return None };
    let behind = match *behind {
        [] => None,
        [Op::Activation { kind, x, y: z }] if x == y => Some((kind, z)),
        _ => return None,
    };
    let product = Convolution::of(product, program, kernels);
    let in_parts = product.in_parts().map(|(dispatch, addends)| (dispatch, Given::Addends(addends)));
    let with_sums =
        || product.with_sums(Sums::Statistics, groups).map(|(dispatch, parts)| (dispatch, Given::Sums(parts)));
    let (dispatch, given) = in_parts.or_else(with_sums)?;
    Some([vec![dispatch], batch_norm(norm, program, kernels, behind, given)].concat())
}

/// A product that is the gradient for an activation, that of the activation, and that of the batch normalisation before it.
fn normalised_gradient(
    product: &Op,
    gradient: &Op,
    norm: &Op,
    program: &Program,
    kernels: KernelSet,
) -> Option<Vec<Dispatch>> {
    let &Op::ActivationGrad { kind, y: z, dy, dx: dz } = gradient else { return None };
    let &Op::BatchNormGrad { x, dy: taken, saved, groups, .. } = norm else { return None };
    if handed_on(product) != Some(dy) || taken != dz {
        return None;
    }
    let product = Convolution::of(product, program, kernels);
    let in_parts = product.in_parts().map(|(dispatch, addends)| (dispatch, Given::Addends(addends)));
    let sums = Sums::Gradient { kind, z, dz, x, saved };
    let with_sums = || product.with_sums(sums, groups).map(|(dispatch, parts)| (dispatch, Given::Sums(parts)));
    let (dispatch, given) = in_parts.or_else(with_sums)?;
    let behind = Some(Behind { kind, z, dy, dz });
    Some([vec![dispatch], batch_norm_grad(norm, program, kernels, behind, given)?].concat())
}

/// The dispatches that run an operation together with the next one, where there is a kernel for both.
fn lower_pair(op: &Op, next: &Op, program: &Program, kernels: KernelSet) -> Option<Vec<Dispatch>> {
    match (op, next) {
        (&Op::BatchNorm { y, .. } | &Op::BatchNormEval { y, .. }, &Op::Activation { kind, x, y: z }) if x == y => {
            Some(batch_norm(op, program, kernels, Some((kind, z)), Given::Whole))
        }
        (&Op::ActivationGrad { kind, y: z, dy, dx: dz }, &Op::BatchNormGrad { dy: taken, .. }) if taken == dz => {
            batch_norm_grad(next, program, kernels, Some(Behind { kind, z, dy, dz }), Given::Whole)
        }
        (_, &Op::Activation { kind, x, y: z }) if handed_on(op) == Some(x) => {
            Some(Convolution::of(op, program, kernels).with(Some(Next::Activation { kind, y: z })))
        }
        (_, &Op::ActivationGrad { kind, y: z, dy, dx }) if handed_on(op) == Some(dy) => {
            Some(Convolution::of(op, program, kernels).with(Some(Next::Gradient { kind, y: z, dx })))
        }
        (&Op::Adam { param, .. }, &Op::Ema { param: averaged, ema, decay, ramp_up, .. }) if averaged == param => {
            let kernel = adam(op, program).bind("ema", Resource::Tensor(ema));
            let kernel = kernel.constants(&averaging(decay, ramp_up));
            Some(vec![kernel.dispatch("update_with_ema", elementwise(program, param))])
        }
        (&Op::Batch { y, .. }, &Op::Concat { a, b, y: both }) if a == y => {
            let kernel = batch(op, program).bind("b", Resource::Tensor(b)).bind("both", Resource::Tensor(both));
            Some(vec![kernel.dispatch("gather_and_join", [program.shape(both)[0], 1, 1])])
        }
        _ => None,
    }
}

/// WebGPU's rule on one dispatch: it reads a buffer, or writes it through one binding alone.
fn may_share_a_dispatch(ops: &[Op], program: &Program) -> bool {
    let mut operands: Vec<Operand> = Vec::new();
    for operand in ops.iter().flat_map(Op::operands) {
        match operands.iter_mut().find(|other| other.tensor == operand.tensor) {
            Some(other) if operand.access != Access::Read => other.access = operand.access,
            Some(_) => {}
            None => operands.push(operand),
        }
    }
    let buffer = |operand: &Operand| program.info(operand.tensor).buffer;
    operands.iter().enumerate().all(|(number, one)| {
        operands[..number]
            .iter()
            .all(|other| buffer(one) != buffer(other) || (one.access == Access::Read && other.access == Access::Read))
    })
}

#[expect(clippy::too_many_lines, reason = "a table with one entry for each operation")]
fn lower_one(op: &Op, program: &Program, kernels: KernelSet) -> Vec<Dispatch> {
    match *op {
        Op::Tick { .. } => vec![Kernel::new(op, "clock", vec![]).dispatch("tick", [1, 1, 1])],
        Op::Normal { y, seed, stream, .. } => {
            let len = program.info(y).len();
            let mut constants = seed_constants(seed);
            constants.extend([("LEN", len as f64), ("STREAM", f64::from(stream))]);
            vec![Kernel::new(op, "noise", constants).dispatch("normal", blocks_of_four(len))]
        }
        Op::Batch { y, .. } => vec![batch(op, program).dispatch("gather", [program.shape(y)[0], 1, 1])],
        Op::Augment { x, seed, rotate, flip, quarter_turns, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            let mut constants = seed_constants(seed);
            constants.extend(sizes(&[("H", h), ("W", w), ("C", c)]));
            constants.extend([("ROTATE", rotate / 180.0), flag("FLIP", flip), flag("QUARTER_TURNS", quarter_turns)]);
            vec![Kernel::new(op, "augment", constants).dispatch("forward", [n, 1, 1])]
        }
        Op::DiffAugment { x, seed, stream, changes, .. } => {
            vec![diff_augment(op, program, x, (seed, stream), changes).dispatch("forward", images(program, x))]
        }
        Op::DiffAugmentGrad { dy, seed, stream, changes, .. } => {
            vec![diff_augment(op, program, dy, (seed, stream), changes).dispatch("grad", images(program, dy))]
        }
        Op::Labels { labels, y, seed, order, .. } => {
            let (count, n) = (program.shape(labels)[0], program.shape(y)[0]);
            let mut constants = seed_constants(seed);
            let half_bits = random::half_bits(count as u32) as usize;
            constants.extend(sizes(&[("N", n), ("COUNT", count), ("HALF_BITS", half_bits)]));
            constants.push(flag("CHUNK", order == Order::Chunk));
            vec![Kernel::new(op, "labels", constants).dispatch("gather", [n.div_ceil(64), 1, 1])]
        }
        Op::AppendClass { x, labels, y } => {
            let [n, _, _, before] = program.nhwc(x);
            let constants = [class_sizes(program, labels, y, n), sizes(&[("BEFORE", before)])].concat();
            vec![Kernel::new(op, "class", constants).dispatch("append", elementwise(program, y))]
        }
        Op::PickLogit { logits, labels, y } => {
            let constants = class_sizes(program, labels, logits, program.shape(y)[0]);
            vec![
                Kernel::new(op, "class", constants).dispatch("pick", [program.shape(y)[0].div_ceil(ELEMENTWISE), 1, 1]),
            ]
        }
        Op::PickLogitGrad { dy, labels, dlogits } => {
            let constants = class_sizes(program, labels, dlogits, program.shape(dy)[0]);
            vec![Kernel::new(op, "class", constants).dispatch("pick_grad", elementwise(program, dlogits))]
        }
        Op::Concat { a, b, y } => {
            let (len_a, len_b) = (program.info(a).len(), program.info(b).len());
            let constants = sizes(&[("LEN_A", len_a), ("LEN_B", len_b)]);
            vec![Kernel::new(op, "concat", constants).dispatch("forward", elementwise(program, y))]
        }
        Op::Pack { x, y } => {
            vec![Kernel::new(op, "pack", pack_sizes(program, x, y)).dispatch("forward", elementwise(program, y))]
        }
        Op::PackGrad { dy, dx } => {
            vec![Kernel::new(op, "pack", pack_sizes(program, dx, dy)).dispatch("grad", elementwise(program, dx))]
        }
        Op::Conv { .. } | Op::ConvGradInput { .. } | Op::ConvGradWeight { .. } => {
            Convolution::of(op, program, kernels).with(None)
        }
        Op::SpectralNorm { w, .. } => {
            let [k, _, c_in, columns] = program.nhwc(w);
            let rows = k * k * c_in;
            let kernel = Kernel::new(op, "spectral_norm", sizes(&[("D", rows), ("O", columns)]));
            let kernel = kernel.scratch("v_raw", rows).scratch("u_raw", columns);
            vec![
                kernel.clone().dispatch("project", [rows.min(MOST_WORKGROUPS), 1, 1]),
                kernel.clone().dispatch("reflect", [columns.div_ceil(32), 1, 1]),
                kernel.dispatch("normalise", elementwise(program, w)),
            ]
        }
        Op::SpectralNormGrad { y, .. } => {
            let ([k, _, c_in, columns], len) = (program.nhwc(y), program.info(y).len());
            let slices = len.div_ceil(4096).min(ELEMENTWISE); // as many as a workgroup has lanes, at most
            let constants = [("D", k * k * c_in), ("O", columns), ("SLICES", slices), ("SLICE", len.div_ceil(slices))];
            let kernel = Kernel::new(op, "spectral_norm", sizes(&constants)).scratch("partials", slices);
            vec![
                kernel.clone().dispatch("grad_partials", [slices, 1, 1]),
                kernel.dispatch("grad", elementwise(program, y)),
            ]
        }
        Op::BiasGrad { dy, db } => {
            let [n, h, w, c] = program.nhwc(dy);
            let slices = Slices::of(n * h * w);
            let constants = [sizes(&[("ROWS", n * h * w), ("C", c)]), slices.constants()].concat();
            let kernel = Kernel::new(op, "bias", constants);
            let workgroups = [c.div_ceil(32), slices.count, 1];
            if slices.count == 1 {
                return vec![kernel.bind("partials", Resource::Tensor(db)).dispatch("grad_partials", workgroups)];
            }
            let kernel = kernel.scratch("partials", slices.count * c);
            vec![kernel.clone().dispatch("grad_partials", workgroups), kernel.dispatch("grad", [c.div_ceil(64), 1, 1])]
        }
        Op::BatchNorm { .. } | Op::BatchNormEval { .. } => batch_norm(op, program, kernels, None, Given::Whole),
        Op::BatchNormGrad { .. } => {
            batch_norm_grad(op, program, kernels, None, Given::Whole).expect("there are kernels for it alone")
        }
        Op::Activation { kind, x, .. } => {
            vec![activation(op, program, kind, x).dispatch("forward", elementwise(program, x))]
        }
        Op::ActivationGrad { kind, y, .. } => {
            vec![activation(op, program, kind, y).dispatch("grad", elementwise(program, y))]
        }
        Op::Upsample { x, y } => {
            vec![
                Kernel::new(op, "upsample", upsample_sizes(program, x, y)).dispatch("forward", elementwise(program, y)),
            ]
        }
        Op::UpsampleGrad { dy, dx } => {
            vec![
                Kernel::new(op, "upsample", upsample_sizes(program, dx, dy)).dispatch("grad", elementwise(program, dx)),
            ]
        }
        Op::MaxPool { x, y, size } => {
            let kernel = Kernel::new(op, "max_pool", max_pool_sizes(program, x, size));
            vec![kernel.dispatch("forward", elementwise(program, y))]
        }
        Op::MaxPoolGrad { x, size, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            let kernel = Kernel::new(op, "max_pool", max_pool_sizes(program, x, size));
            vec![kernel.dispatch("grad", invocations(n * h.div_ceil(size) * w.div_ceil(size) * c))]
        }
        Op::MinibatchDeviation { x, y, group } => {
            let [_, h, w, c] = program.nhwc(x);
            let (kernel, workgroups) = deviation(op, program, x, group, h * w * c);
            vec![kernel.clone().dispatch("deviation", workgroups), kernel.dispatch("forward", elementwise(program, y))]
        }
        Op::MinibatchDeviationGrad { x, group, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            let (kernel, workgroups) = deviation(op, program, x, group, group * h * w);
            let workgroups_of_groups = invocations(n / group * h * w * c);
            vec![kernel.clone().dispatch("grad_partials", workgroups), kernel.dispatch("grad", workgroups_of_groups)]
        }
        Op::Dropout { x, seed, stream, rate, .. } => {
            let len = program.info(x).len();
            let mut constants = seed_constants(seed);
            constants.extend([
                ("LEN", len as f64),
                ("STREAM", f64::from(stream)),
                ("DROPPED", f64::from(random::dropout_threshold(rate))),
                ("SCALE", 1.0 / (1.0 - rate)),
            ]);
            vec![Kernel::new(op, "dropout", constants).dispatch("forward", blocks_of_four(len))]
        }
        Op::DiscriminatorLoss { logits, history, kind, smoothing, column, .. } => {
            let kernel = loss(op, program, kind, program.shape(logits)[0] / 2, (history, column));
            let kernel = kernel.constants(&[("SMOOTHING", smoothing)]);
            vec![kernel.dispatch("discriminator", [1, 1, 1])]
        }
        Op::GeneratorLoss { logits, reals, history, kind, column, .. } => {
            let kernel = loss(op, program, kind, program.shape(logits)[0], (history, column));
            // A shader's bindings are fixed: without reals, which are not looked at then, they are any logits.
            vec![kernel.bind("reals", Resource::Tensor(reals.unwrap_or(logits))).dispatch("generator", [1, 1, 1])]
        }
        Op::PenaltyDirection { g, centre, weight, .. } => {
            let n = program.shape(g)[0];
            let mut constants = sizes(&[("N", n), ("LEN", program.info(g).len() / n)]);
            constants.extend([("WEIGHT", weight), flag("AROUND_ONE", centre == Centre::One)]);
            vec![Kernel::new(op, "penalty", constants).dispatch("direction", [n, 1, 1])]
        }
        Op::Fill { y, value } => {
            let constants = vec![("LEN", program.info(y).len() as f64), ("VALUE", value)];
            vec![Kernel::new(op, "fill", constants).dispatch("constant", elementwise(program, y))]
        }
        Op::Accumulate { y, .. } => {
            let constants = sizes(&[("LEN", program.info(y).len())]);
            vec![Kernel::new(op, "fill", constants).dispatch("accumulate", elementwise(program, y))]
        }
        Op::Mix { y, seed, stream, .. } => {
            let n = program.shape(y)[0];
            let mut constants = seed_constants(seed);
            constants.extend([("LEN", (program.info(y).len() / n) as f64), ("STREAM", f64::from(stream))]);
            vec![Kernel::new(op, "mix", constants).dispatch("forward", [n, 1, 1])]
        }
        Op::CrossEntropy { logits, history, column, .. } => {
            let ([n, _, _, classes], [rows, columns]) = (program.nhwc(logits), history_shape(program, history));
            let constants =
                sizes(&[("N", n), ("CLASSES", classes), ("HISTORY", rows), ("COLUMNS", columns), ("COLUMN", column)]);
            vec![Kernel::new(op, "cross_entropy", constants).dispatch("softmax", [1, 1, 1])]
        }
        Op::Adam { param, .. } => vec![adam(op, program).dispatch("update", elementwise(program, param))],
        Op::Ema { param, decay, ramp_up, .. } => {
            let constants = vec![("LEN", program.info(param).len() as f64)];
            let kernel = Kernel::new(op, "ema", constants).constants(&averaging(decay, ramp_up));
            vec![kernel.dispatch("update", elementwise(program, param))]
        }
    }
}

/// The loss of `n` images of each kind; its means go to a column of the history.
fn loss(op: &Op, program: &Program, kind: AdversarialLoss, n: usize, (history, column): (TensorId, usize)) -> Kernel {
    let [rows, columns] = history_shape(program, history);
    let number = match kind {
        AdversarialLoss::NonSaturating => 0,
        AdversarialLoss::Minimax => 1,
        AdversarialLoss::Hinge => 2,
        AdversarialLoss::LeastSquares => 3,
        AdversarialLoss::Wasserstein => 4,
        AdversarialLoss::Relativistic => 5,
    };
    let constants = sizes(&[("N", n), ("KIND", number), ("HISTORY", rows), ("COLUMNS", columns), ("COLUMN", column)]);
    Kernel::new(op, "loss", constants)
}

fn schedule_constants(Schedule { warm_up, decay, steps, last }: Schedule) -> [(&'static str, f64); 4] {
    let number = match decay {
        Decay::Constant => 0.0,
        Decay::Linear => 1.0,
        Decay::Cosine => 2.0,
    };
    let decaying = steps.saturating_sub(warm_up).max(1);
    [("WARM_UP", warm_up.into()), ("DECAY", number), ("DECAYING_STEPS", decaying.into()), ("LAST", last)]
}

fn history_shape(program: &Program, history: TensorId) -> [usize; 2] {
    program.shape(history).try_into().expect("a history has rows and columns")
}

fn batch(op: &Op, program: &Program) -> Kernel {
    let &Op::Batch { images, y, seed, order, range: [low, high], .. } = op else { unreachable!("a batch") };
    let (count, batch) = (program.shape(images)[0], program.shape(y)[0]);
    let mut constants = seed_constants(seed);
    constants.extend(sizes(&[
        ("N", batch),
        ("PIXELS", program.info(y).len() / batch),
        ("COUNT", count),
        ("HALF_BITS", random::half_bits(count as u32) as usize),
    ]));
    constants.extend([("SCALE", high - low), ("SHIFT", 255.0 * low), flag("CHUNK", order == Order::Chunk)]);
    Kernel::new(op, "batch", constants)
}

fn diff_augment(op: &Op, program: &Program, x: TensorId, (seed, stream): (u64, u32), changes: DiffAugment) -> Kernel {
    let [_, h, w, c] = program.nhwc(x);
    let DiffAugment { translation, cutout, colour } = changes;
    let mut constants = seed_constants(seed);
    constants.extend(sizes(&[("H", h), ("W", w), ("C", c), ("STREAM", stream as usize)]));
    constants.extend([flag("TRANSLATION", translation), flag("CUTOUT", cutout), flag("COLOUR", colour)]);
    Kernel::new(op, "diff_augment", constants)
}

/// A workgroup for each image.
fn images(program: &Program, x: TensorId) -> [usize; 3] {
    [program.shape(x)[0], 1, 1]
}

fn adam(op: &Op, program: &Program) -> Kernel {
    let &Op::Adam { param, lr, beta1, beta2, eps, schedule, .. } = op else { unreachable!("Adam") };
    let mut constants = vec![
        ("LEN", program.info(param).len() as f64),
        ("LR", lr),
        ("ONE_MINUS_BETA1", 1.0 - beta1),
        ("ONE_MINUS_BETA2", 1.0 - beta2),
        ("EPS", eps),
    ];
    constants.extend(schedule_constants(schedule));
    waiting::nothing(Kernel::new(op, "adam", constants))
}

fn averaging(decay: f64, ramp_up: RampUp) -> [(&'static str, f64); 2] {
    [("ONE_MINUS_DECAY", 1.0 - decay), flag("BY_HALF_LIFE", ramp_up == RampUp::HalfLife)]
}

fn activation(op: &Op, program: &Program, kind: Activation, x: TensorId) -> Kernel {
    let constants = [vec![("LEN", program.info(x).len() as f64)], function(Some(kind))].concat();
    Kernel::new(op, "activation", constants)
}

/// Which function `function.wgsl` computes.
fn function(kind: Option<Activation>) -> Vec<(&'static str, f64)> {
    let (number, slope) = match kind {
        Some(Activation::LeakyRelu { slope }) => (0.0, slope),
        Some(Activation::Tanh) => (1.0, 0.0),
        Some(Activation::Sigmoid) => (2.0, 0.0),
        None => (3.0, 0.0),
    };
    vec![("KIND", number), ("SLOPE", slope)]
}

/// What the kernels of the minibatch's deviation have in common, and the workgroups that sum up `len` numbers of each group in
/// slices of at most 32,768: a lane does 128 of them, in 2 * [`MAX_GROUP`](crate::program::MAX_GROUP) iterations each at most, and
/// stays far below the 65,535 after which Mesa before 25.1 ends loops.
fn deviation(op: &Op, program: &Program, x: TensorId, group: usize, len: usize) -> (Kernel, [usize; 3]) {
    let [n, h, w, c] = program.nhwc(x);
    let (groups, slices) = (n / group, len.div_ceil(1 << 15));
    let constants = sizes(&[
        ("N", n),
        ("PIXELS", h * w),
        ("C", c),
        ("C_OUT", c + 1),
        ("GROUP", group),
        ("SLICES", slices),
        ("SLICE", len.div_ceil(slices)),
    ]);
    let kernel = Kernel::new(op, "minibatch_deviation", constants).scratch("partials", groups * slices);
    (kernel, [groups, slices, 1])
}

fn pack_sizes(program: &Program, single: TensorId, packed: TensorId) -> Vec<(&'static str, f64)> {
    let ([n, h, w, c], packs) = (program.nhwc(single), program.shape(packed)[0]);
    sizes(&[("LEN", n * h * w * c), ("PIXELS", h * w), ("C", c), ("M", n / packs)])
}

fn upsample_sizes(program: &Program, small: TensorId, large: TensorId) -> Vec<(&'static str, f64)> {
    let ([n, h, w, c], [_, h_out, ..]) = (program.nhwc(small), program.nhwc(large));
    sizes(&[("N", n), ("H", h), ("W", w), ("C", c), ("FACTOR", h_out / h)])
}

/// Of `n` images; `wide` has a number for each class.
fn class_sizes(program: &Program, labels: TensorId, wide: TensorId, n: usize) -> Vec<(&'static str, f64)> {
    sizes(&[("N", n), ("LABELS", program.info(labels).len()), ("WIDTH", program.nhwc(wide)[3])])
}

fn max_pool_sizes(program: &Program, x: TensorId, size: usize) -> Vec<(&'static str, f64)> {
    let [n, h, w, c] = program.nhwc(x);
    sizes(&[("N", n), ("H", h), ("W", w), ("C", c), ("SIZE", size)])
}

#[cfg(test)]
mod tests {
    use crate::program::MAX_WINDOW;

    /// Mesa before 25.1 counts all iterations of an invocation.
    pub(super) const MESA_LIMIT: usize = 65_535;

    #[test]
    fn no_window_of_a_model_comes_near_mesas_limit_of_iterations() {
        // The gradient of pooling runs over a window twice, and over each of its rows.
        let iterations = 2 * MAX_WINDOW * (MAX_WINDOW + 1) + 16;
        assert!(iterations < MESA_LIMIT, "{iterations}");
    }
}
