//! From operations to dispatches: which entry points run an operation, how large, and specialised how.

use std::collections::BTreeMap;

use crate::program::{
    Access, Activation, Adversarial, Centre, Decay, DiffAugment, Geometry, Op, Operand, Order, Program, RampUp,
    Schedule, TensorId, random,
};

/// Invocations of an elementwise workgroup, as in the shaders.
const ELEMENTWISE: usize = 256;
/// Terms of a product's sums that go through workgroup memory together, as in `conv.wgsl`.
const DEPTH: usize = 16;
/// Workgroups along one dimension that every adapter allows.
const MOST_WORKGROUPS: usize = 65_535;

/// Lanes of the kernels for software adapters, as in `conv_lanes.wgsl`.
pub(super) const LANES: u32 = 8;

/// Which kernels run the operations that have more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// Those that run everywhere: tiles in workgroup memory.
    Portable,
    /// Those for adapters that compute on the CPU in vectors of eight: tiles in registers.
    Lanes,
}

impl Kernels {
    /// Whether a shader is ever run: some are for certain adapters.
    pub fn uses(self, shader: &str) -> bool {
        self == Self::Lanes || !shader.ends_with("_lanes")
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
    pub constants: Vec<(&'static str, f64)>,
    /// What its tensors are, by their names in WGSL.
    pub bindings: BTreeMap<&'static str, Source>,
    /// How many workgroups along x, y and z.
    pub workgroups: [usize; 3],
}

/// What is bound to a name of a shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A tensor of the program.
    Tensor(TensorId),
    /// Memory of that name and at least so many f32, for results between the dispatches of one operation.
    Scratch(&'static str, usize),
}

/// The dispatches that run operations, in order. Neighbours that one kernel computes together are one; they still write all that
/// each of them writes.
pub fn lower(ops: &[Op], program: &Program, kernels: Kernels) -> Vec<Dispatch> {
    let dispatches = |group: &[Op]| match group {
        [op, next] => lower_pair(op, next, program, kernels).expect("there is a kernel for both"),
        alone => alone.iter().flat_map(|op| lower_one(op, program, kernels)).collect(),
    };
    fused(ops, program, kernels).into_iter().flat_map(dispatches).collect()
}

/// Operations in the same order, each alone or together with the next one where one kernel computes both.
pub(super) fn fused<'a>(ops: &'a [Op], program: &Program, kernels: Kernels) -> Vec<&'a [Op]> {
    let (mut groups, mut rest) = (Vec::new(), ops);
    while let [op, after @ ..] = rest {
        let pair = after.first().is_some_and(|next| lower_pair(op, next, program, kernels).is_some());
        let (group, after) = rest.split_at(if pair { 2 } else { 1 });
        groups.push(group);
        rest = after;
    }
    groups
}

/// The dispatches that run an operation together with the next one, where there is a kernel for both.
fn lower_pair(op: &Op, next: &Op, program: &Program, kernels: Kernels) -> Option<Vec<Dispatch>> {
    if !may_share_a_dispatch(op, next, program) {
        return None;
    }
    match (op, next) {
        (&Op::BatchNorm { y, .. } | &Op::BatchNormEval { y, .. }, &Op::Activation { kind, x, y: z }) if x == y => {
            Some(batch_norm(op, program, kernels, Some((kind, z))))
        }
        (&Op::ActivationGrad { kind, y: z, dy, dx: dz }, &Op::BatchNormGrad { dy: taken, .. }) if taken == dz => {
            Some(batch_norm_grad(next, program, kernels, Some(Behind { kind, z, dy, dz })))
        }
        (&Op::Adam { param, .. }, &Op::MovingAverage { param: averaged, average, decay, ramp_up, .. })
            if averaged == param =>
        {
            let kernel = adam(op, program).bind("average", Source::Tensor(average));
            let kernel = kernel.constants(&averaging(decay, ramp_up));
            Some(vec![kernel.dispatch("update_and_average", elementwise(program, param))])
        }
        (&Op::Batch { y, .. }, &Op::Concat { a, b, y: both }) if a == y => {
            let kernel = batch(op, program).bind("b", Source::Tensor(b)).bind("both", Source::Tensor(both));
            Some(vec![kernel.dispatch("gather_and_join", [program.shape(both)[0], 1, 1])])
        }
        _ => None,
    }
}

/// WebGPU's rule on one dispatch: it reads a buffer, or writes it through one binding alone.
fn may_share_a_dispatch(op: &Op, next: &Op, program: &Program) -> bool {
    let mut operands = op.operands();
    for operand in next.operands() {
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
fn lower_one(op: &Op, program: &Program, kernels: Kernels) -> Vec<Dispatch> {
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
            constants.push(flag("WINDOW", order == Order::Window));
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
        Op::Conv { x, w, b, y, geometry } => {
            let [n, h_out, w_out, c_out] = program.nhwc(y);
            let [k, _, c_in, _] = program.nhwc(w);
            let size = Size { rows: n * h_out * w_out, columns: c_out, depth: k * k * c_in, phases: 1 };
            let kernel = Kernel::new(op, "conv", conv_sizes(program, x, y, geometry)).with_bias(b, w);
            kernel.product(&Product { entry: "forward", left: x, right: w, result: y }, &size, program, kernels)
        }
        Op::ConvGradInput { dy, w, b, dx, geometry } => {
            let [n, h, width, c_in] = program.nhwc(dx);
            let [k, _, _, c_out] = program.nhwc(w);
            let stride = geometry.stride;
            let (lines, taps) = (h.div_ceil(stride) * width.div_ceil(stride), k.div_ceil(stride).pow(2)); // at most
            let size = Size { rows: n * lines, columns: c_in, depth: taps * c_out, phases: stride * stride };
            let kernel = Kernel::new(op, "conv", conv_sizes(program, dx, dy, geometry)).with_bias(b, w);
            kernel.product(&Product { entry: "grad_input", left: dy, right: w, result: dx }, &size, program, kernels)
        }
        Op::ConvGradWeight { x, dy, dw, geometry } => {
            let [n, h_out, w_out, c_out] = program.nhwc(dy);
            let [k, _, c_in, _] = program.nhwc(dw);
            let size = Size { rows: k * k * c_in, columns: c_out, depth: n * h_out * w_out, phases: 1 };
            let kernel = Kernel::new(op, "conv", conv_sizes(program, x, dy, geometry)).with_bias(None, x);
            kernel.product(&Product { entry: "grad_weight", left: x, right: dy, result: dw }, &size, program, kernels)
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
            let kernel = Kernel::new(op, "spectral_norm", sizes(&constants)).scratch("parts", slices);
            vec![
                kernel.clone().dispatch("grad_parts", [slices, 1, 1]),
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
                return vec![kernel.bind("parts", Source::Tensor(db)).dispatch("grad_parts", workgroups)];
            }
            let kernel = kernel.scratch("parts", slices.count * c);
            vec![kernel.clone().dispatch("grad_parts", workgroups), kernel.dispatch("grad", [c.div_ceil(64), 1, 1])]
        }
        Op::BatchNorm { .. } | Op::BatchNormEval { .. } => batch_norm(op, program, kernels, None),
        Op::BatchNormGrad { .. } => batch_norm_grad(op, program, kernels, None),
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
            vec![kernel.clone().dispatch("grad_parts", workgroups), kernel.dispatch("grad", workgroups_of_groups)]
        }
        Op::Dropout { x, seed, stream, rate, .. } => {
            let len = program.info(x).len();
            let mut constants = seed_constants(seed);
            constants.extend([
                ("LEN", len as f64),
                ("STREAM", f64::from(stream)),
                ("DROPPED", f64::from(random::dropped(rate))),
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
            vec![kernel.bind("reals", Source::Tensor(reals.unwrap_or(logits))).dispatch("generator", [1, 1, 1])]
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
        Op::MovingAverage { param, decay, ramp_up, .. } => {
            let constants = vec![("LEN", program.info(param).len() as f64)];
            let kernel = Kernel::new(op, "moving_average", constants).constants(&averaging(decay, ramp_up));
            vec![kernel.dispatch("update", elementwise(program, param))]
        }
    }
}

/// The loss of `n` images of each kind; its means go to a column of the history.
fn loss(op: &Op, program: &Program, kind: Adversarial, n: usize, (history, column): (TensorId, usize)) -> Kernel {
    let [rows, columns] = history_shape(program, history);
    let number = match kind {
        Adversarial::NonSaturating => 0,
        Adversarial::Minimax => 1,
        Adversarial::Hinge => 2,
        Adversarial::LeastSquares => 3,
        Adversarial::Wasserstein => 4,
        Adversarial::Relativistic => 5,
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
    constants.extend([("SCALE", high - low), ("SHIFT", 255.0 * low), flag("WINDOW", order == Order::Window)]);
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
    Kernel::new(op, "adam", constants)
}

fn averaging(decay: f64, ramp_up: RampUp) -> [(&'static str, f64); 2] {
    [("ONE_MINUS_DECAY", 1.0 - decay), flag("BY_HALF_LIFE", ramp_up == RampUp::HalfLife)]
}

/// The most rows, of all groups together, for which batch normalisation is one dispatch. On a GPU few invocations then read
/// all of a channel, which is slower than two dispatches as soon as there are many rows; an adapter with few cores loses
/// nothing, and stays far from the iterations after which Mesa before 25.1 ends loops.
fn most_rows_of_one_dispatch(kernels: Kernels) -> usize {
    match kernels {
        Kernels::Portable => 2048,
        Kernels::Lanes => 65_536,
    }
}

/// What the kernels of batch normalisation have in common, and the rows of a group, how they are cut, and C.
fn batch_norm_kernel(op: &Op, program: &Program, x: TensorId, groups: usize) -> (Kernel, usize, Slices, usize) {
    let [n, h, w, c] = program.nhwc(x);
    let rows = n / groups * h * w;
    let slices = Slices::of(rows);
    let constants = [sizes(&[("GROUPS", groups), ("ROWS", rows), ("C", c)]), slices.constants()].concat();
    let kernel = Kernel::new(op, "batch_norm", constants).scratch("parts", groups * slices.count * 2 * c);
    (kernel, rows, slices, c)
}

/// Batch normalisation, in training or evaluation, and the activation behind it with its result.
fn batch_norm(op: &Op, program: &Program, kernels: Kernels, behind: Option<(Activation, TensorId)>) -> Vec<Dispatch> {
    let (x, groups, eps, momentum) = match *op {
        Op::BatchNorm { x, groups, eps, momentum, .. } => (x, groups, eps, Some(momentum)),
        Op::BatchNormEval { x, eps, .. } => (x, 1, eps, None),
        _ => unreachable!("batch normalisation"),
    };
    let (kernel, rows, slices, c) = batch_norm_kernel(op, program, x, groups);
    let kernel = kernel.constants(&[("EPS", eps)]).constants(&function(behind.map(|(kind, _)| kind)));
    let kernel = match behind {
        Some((_, z)) => kernel.bind("z", Source::Tensor(z)),
        None => kernel.scratch("z", 1),
    };
    let Some(momentum) = momentum else {
        return vec![kernel.dispatch("evaluate", elementwise(program, x))];
    };
    let kernel = kernel.constants(&[("MOMENTUM", momentum)]);
    if rows * groups <= most_rows_of_one_dispatch(kernels) {
        return vec![whole(kernel, "whole", c)];
    }
    let workgroups = [c.div_ceil(32), slices.count, groups];
    vec![kernel.clone().dispatch("statistics", workgroups), kernel.dispatch("forward", workgroups)]
}

/// One dispatch whose workgroups have all rows of their channels: at least two of them, so that more than one core works.
fn whole(kernel: Kernel, entry: &'static str, channels: usize) -> Dispatch {
    let width = (channels.next_power_of_two() / 2).clamp(8, 32);
    let height = (ELEMENTWISE / width).min(16);
    kernel.constants(&sizes(&[("WIDTH", width), ("HEIGHT", height)])).dispatch(entry, [channels.div_ceil(width), 1, 1])
}

/// The activation behind a batch normalisation, going backward: its result, the gradients for that and for what it was of.
#[derive(Clone, Copy)]
struct Behind {
    kind: Activation,
    z: TensorId,
    dy: TensorId,
    dz: TensorId,
}

fn batch_norm_grad(op: &Op, program: &Program, kernels: Kernels, behind: Option<Behind>) -> Vec<Dispatch> {
    let &Op::BatchNormGrad { x, dy, daffine, groups, .. } = op else { unreachable!("batch normalisation's gradient") };
    let (mut kernel, rows, slices, c) = batch_norm_kernel(op, program, x, groups);
    if daffine.is_none() {
        kernel = kernel.scratch("daffine", 2 * c);
    }
    kernel = kernel.constants(&function(behind.map(|behind| behind.kind)));
    let first = match behind {
        None => kernel.clone().bind("z_before", Source::Tensor(x)).scratch("dz", 1),
        Some(Behind { z, dy, dz, .. }) => {
            let kernel = kernel.clone().bind("dy", Source::Tensor(dy));
            kernel.bind("z_before", Source::Tensor(z)).bind("dz", Source::Tensor(dz))
        }
    };
    if rows * groups <= most_rows_of_one_dispatch(kernels) {
        return vec![whole(first, "grad_whole", c)];
    }
    let workgroups = [c.div_ceil(32), slices.count, groups];
    let second = kernel.bind("dy", Source::Tensor(dy));
    vec![first.dispatch("grad_parts", workgroups), second.dispatch("grad_input", workgroups)]
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

/// An entry point's shader, constants and tensors, before its size is known.
#[derive(Clone)]
struct Kernel {
    shader: &'static str,
    constants: Vec<(&'static str, f64)>,
    bindings: BTreeMap<&'static str, Source>,
}

impl Kernel {
    /// The operands of the operation are bound under their own names.
    fn new(op: &Op, shader: &'static str, constants: Vec<(&'static str, f64)>) -> Self {
        let bindings =
            op.operands().into_iter().map(|operand| (operand.name, Source::Tensor(operand.tensor))).collect();
        Self { shader, constants, bindings }
    }

    fn constants(mut self, more: &[(&'static str, f64)]) -> Self {
        self.constants.extend_from_slice(more);
        self
    }

    fn bind(mut self, name: &'static str, source: Source) -> Self {
        self.bindings.insert(name, source);
        self
    }

    fn scratch(self, name: &'static str, len: usize) -> Self {
        self.bind(name, Source::Scratch(name, len))
    }

    /// A shader's bindings are fixed, so an absent bias is any tensor that is only read.
    fn with_bias(self, bias: Option<TensorId>, placeholder: TensorId) -> Self {
        let has_bias = flag("HAS_BIAS", bias.is_some());
        self.bind("b", Source::Tensor(bias.unwrap_or(placeholder))).constants(&[has_bias])
    }

    fn dispatch(self, entry: &'static str, workgroups: [usize; 3]) -> Dispatch {
        Dispatch { shader: self.shader, entry, constants: self.constants, bindings: self.bindings, workgroups }
    }

    /// A matrix product into its result; where its sums are cut into slices, another dispatch adds the parts.
    fn product(self, product: &Product, size: &Size, program: &Program, kernels: Kernels) -> Vec<Dispatch> {
        let len = program.info(product.result).len();
        let (tile, constants): (Tile, _) = match kernels {
            Kernels::Portable => {
                let block = Block::of(size.columns);
                (block.tile(), sizes(&[("TX", block.x), ("TY", block.y)]))
            }
            Kernels::Lanes => {
                let shape = LaneTile::of(size);
                let number = ["forward", "grad_input", "grad_weight"].iter().position(|&entry| entry == product.entry);
                let number = number.expect("one of three products");
                let mut constants = sizes(&[("PRODUCT", number), ("QUADS", shape.quads)]);
                constants.push(flag("SWAPPED", shape.swapped));
                (shape.tile(), constants)
            }
        };
        let [x, y] = [size.columns.div_ceil(tile.columns), size.rows.div_ceil(tile.rows)];
        let slices = tile.slices(x * y * size.phases, size.depth);
        let slice_depth = size.depth.div_ceil(slices).next_multiple_of(DEPTH);
        let slices = size.depth.div_ceil(slice_depth);
        let workgroups = [x, y, size.phases * slices];
        let sliced = self.constants(&sizes(&[("SLICES", slices), ("SLICE_DEPTH", slice_depth)]));
        let parts = match slices {
            1 => Source::Tensor(product.result),
            _ => Source::Scratch("parts", slices * len),
        };
        let kernel = sliced.clone().constants(&constants).bind("parts", parts);
        let mut dispatches = vec![match kernels {
            Kernels::Portable => kernel.dispatch(product.entry, workgroups),
            Kernels::Lanes => {
                let kernel =
                    kernel.bind("left", Source::Tensor(product.left)).bind("right", Source::Tensor(product.right));
                Kernel { shader: "conv_lanes", ..kernel }.dispatch("product", workgroups)
            }
        }];
        if slices > 1 {
            let adding = sliced
                .bind("parts", parts)
                .bind("result", Source::Tensor(product.result))
                .constants(&sizes(&[("LEN", len), ("BIAS_LEN", size.columns)]));
            dispatches.push(adding.dispatch("add_parts", elementwise(program, product.result)));
        }
        dispatches
    }
}

/// A matrix product of tensors: its entry point in `conv.wgsl`, and which tensors its matrices are made from.
struct Product {
    entry: &'static str,
    left: TensorId,
    right: TensorId,
    result: TensorId,
}

/// The size of a matrix product: of the largest phase, where there are several.
struct Size {
    rows: usize,
    columns: usize,
    depth: usize,
    phases: usize,
}

/// What one workgroup computes of a product.
struct Tile {
    rows: usize,
    columns: usize,
    /// How many workgroups keep an adapter busy.
    wanted: usize,
    /// A sum is cut only into slices of at least so many terms.
    least_depth: usize,
    /// Loop iterations for each [`DEPTH`] terms.
    iterations: usize,
}

impl Tile {
    /// Into how many slices a sum of `depth` terms is cut: where there are few workgroups into more, until there are
    /// about as many as wanted or slices are short; and always so that no invocation runs more than 40,000 iterations,
    /// since Mesa before 25.1 silently ends all loops after 65,535.
    fn slices(&self, workgroups: usize, depth: usize) -> usize {
        let longest = 40_000 / self.iterations * DEPTH;
        let wanted = (self.wanted / workgroups).clamp(1, depth.div_ceil(self.least_depth));
        wanted.max(depth.div_ceil(longest))
    }
}

/// How many invocations of a workgroup of `conv.wgsl` lie along columns and rows; each computes 8 x 8.
struct Block {
    x: usize,
    y: usize,
}

impl Block {
    /// 64 x 64 where there are columns enough, else narrower and taller. No tile is taller than 128 rows, so that
    /// both tiles stay within 16 KiB of workgroup memory.
    fn of(columns: usize) -> Self {
        let x = columns.div_ceil(8).next_power_of_two().min(8);
        Self { x, y: (64 / x).min(16) }
    }

    fn tile(&self) -> Tile {
        // The step itself, both loads, the product.
        let iterations = 1 + 8 * DEPTH / self.x + 8 * DEPTH / self.y + DEPTH;
        Tile { rows: 8 * self.y, columns: 8 * self.x, wanted: 128, least_depth: 128, iterations }
    }
}

/// How a subgroup of `conv_lanes.wgsl` lies on rows and columns: 32 of one along the lanes, up to 16 of the other in quads.
struct LaneTile {
    swapped: bool,
    quads: usize,
}

impl LaneTile {
    /// Whichever way wastes less of the tiles at the edges.
    fn of(size: &Size) -> Self {
        let quads = |count: usize| count.div_ceil(4).min(4);
        let cost = |on_lanes: usize, in_quads: usize| {
            on_lanes.div_ceil(32) * in_quads.div_ceil(16) * (1 + 2 * quads(in_quads))
        };
        let swapped = cost(size.rows, size.columns) < cost(size.columns, size.rows);
        Self { swapped, quads: quads(if swapped { size.columns } else { size.rows }) }
    }

    /// A CPU has few cores, and a sum shorter than this costs less than another dispatch would.
    fn tile(&self) -> Tile {
        let [rows, columns] = if self.swapped { [32, 16] } else { [16, 32] };
        Tile { rows, columns, wanted: 16, least_depth: 65_536, iterations: DEPTH / 4 + 1 }
    }
}

/// How a sum over many rows is split into parts that are added in a fixed order.
struct Slices {
    count: usize,
    rows: usize,
}

impl Slices {
    /// About 64 slices, of 256 rows at least, and of 131,072 at most: its 8 lanes read them twice, and so stay at half of
    /// the iterations after which Mesa before 25.1 ends loops.
    fn of(rows: usize) -> Self {
        let slice = rows.div_ceil(64).clamp(256, 131_072);
        Self { count: rows.div_ceil(slice), rows: slice }
    }

    fn constants(&self) -> Vec<(&'static str, f64)> {
        sizes(&[("SLICES", self.count), ("SLICE_ROWS", self.rows)])
    }
}

fn elementwise(program: &Program, tensor: TensorId) -> [usize; 3] {
    invocations(program.info(tensor).len())
}

/// Workgroups of so many invocations in all, or fewer for a grid-stride loop.
fn invocations(count: usize) -> [usize; 3] {
    [count.div_ceil(ELEMENTWISE).min(MOST_WORKGROUPS), 1, 1]
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
    let kernel = Kernel::new(op, "minibatch_deviation", constants).scratch("parts", groups * slices);
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

/// Workgroups of 64 invocations that each draw four random words at a time.
fn blocks_of_four(len: usize) -> [usize; 3] {
    [len.div_ceil(4 * 64).min(MOST_WORKGROUPS), 1, 1]
}

fn flag(name: &'static str, set: bool) -> (&'static str, f64) {
    (name, f64::from(u8::from(set)))
}

fn seed_constants(seed: u64) -> Vec<(&'static str, f64)> {
    let [low, high] = random::key(seed);
    vec![("SEED_LOW", f64::from(low)), ("SEED_HIGH", f64::from(high))]
}

fn conv_sizes(program: &Program, x: TensorId, y: TensorId, geometry: Geometry) -> Vec<(&'static str, f64)> {
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

fn sizes(list: &[(&'static str, usize)]) -> Vec<(&'static str, f64)> {
    list.iter().map(|&(name, size)| (name, size as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::MAX_WINDOW;

    /// Mesa before 25.1 counts all iterations of an invocation.
    const MESA_LIMIT: usize = 65_535;

    #[test]
    fn tiles_fit_into_the_workgroup_memory_and_invocations_that_every_adapter_has() {
        for columns in 1..=100 {
            let block = Block::of(columns);
            let tile = block.tile();
            let origins = 16 * tile.rows; // a vec3 takes 16 bytes
            let bytes = 4 * DEPTH * (tile.rows + tile.columns) + origins;
            assert!(bytes <= 16 << 10, "{columns} columns: {bytes} bytes");
            assert!(block.x * block.y <= 256, "{columns} columns");
            assert!(tile.columns >= columns.min(64), "{columns} columns");
        }
    }

    #[test]
    fn no_invocation_of_a_product_comes_near_mesas_limit_of_iterations() {
        for columns in [1, 3, 8, 9, 64, 1000] {
            for depth in [1, 16, 4096, 65_536, 1 << 22] {
                for workgroups in [1, 127, 128, 5000] {
                    let lanes = LaneTile::of(&Size { rows: 100, columns, depth, phases: 1 });
                    for tile in [Block::of(columns).tile(), lanes.tile()] {
                        let slices = tile.slices(workgroups, depth);
                        let steps = depth.div_ceil(slices).div_ceil(DEPTH);
                        let iterations = steps * tile.iterations + 200;
                        assert!(iterations < MESA_LIMIT, "{columns} columns, depth {depth}: {iterations}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_window_of_a_model_comes_near_mesas_limit_of_iterations() {
        // The gradient of pooling runs over a window twice, and over each of its rows.
        let iterations = 2 * MAX_WINDOW * (MAX_WINDOW + 1) + 16;
        assert!(iterations < MESA_LIMIT, "{iterations}");
    }

    #[test]
    fn no_lane_of_batch_normalisation_in_one_dispatch_comes_near_mesas_limit_of_iterations() {
        let iterations = 2 * most_rows_of_one_dispatch(Kernels::Lanes).div_ceil(8) + 100 * 32;
        assert!(iterations < MESA_LIMIT, "{iterations}");
    }

    #[test]
    fn no_lane_of_a_reduction_comes_near_mesas_limit_of_iterations() {
        for rows in [1, 255, 257, 1_000_000, 100_000_000, 1 << 31] {
            let slices = Slices::of(rows);
            assert!(slices.count * slices.rows >= rows && (slices.count - 1) * slices.rows < rows, "{rows} rows");
            assert!(2 * slices.rows / 8 + 16 < MESA_LIMIT && 2 * slices.count < MESA_LIMIT, "{rows} rows");
            // Batch normalisation reads the parts of both groups, then those of its own, twice, and then its rows.
            let in_reach = rows <= 100_000_000; // where that adapter's buffers end
            assert!(!in_reach || slices.rows / 8 + 6 * slices.count < MESA_LIMIT, "{rows} rows");
        }
    }
}
