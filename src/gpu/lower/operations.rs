//! The dispatches of operations that the plan has no rule for, and of those that share overrides with them.

use super::Dispatch;
use super::kernel::{
    ELEMENTWISE, Kernel, MAX_WORKGROUPS, Overrides, RowSlices, blocks_of_four, elementwise, invocations, overrides,
};
use super::partials::SplitSum;
use crate::program::{Centre, DiffAugment, Op, Order, Program, RampUp, TensorId, random};

/// The gradient of a bias: the sum over all rows, in slices.
pub(super) fn bias_grad(op: &Op, sum: &SplitSum, slices: &RowSlices) -> Vec<Dispatch> {
    let overrides = overrides! { ROWS: slices.all, C: sum.len, SLICES: slices.count, SLICE_ROWS: slices.rows };
    let kernel = Kernel::new(op, "bias", overrides).bind("partials", sum.resource());
    let partials = kernel.clone().dispatch("grad_partials", [sum.len.div_ceil(32), slices.count, 1]);
    let reduction = sum.needs_reduction().then(|| kernel.dispatch("grad", [sum.len.div_ceil(64), 1, 1]));
    [partials].into_iter().chain(reduction).collect()
}

/// A batch that is written into a concatenation as well.
pub(super) fn batch_and_concat(op: &Op, concat: &Op, program: &Program) -> Dispatch {
    let &Op::Concat { b, y, .. } = concat else { unreachable!("a concatenation") };
    let kernel = Kernel::new(op, "batch", batch_overrides(op, program)).tensor("b", b).tensor("both", y);
    kernel.dispatch("gather_and_join", [program.shape(y)[0], 1, 1])
}

/// The most random numbers that one workgroup draws, which also advances the clock: eight blocks of four for each invocation.
pub(super) const MAX_NORMAL_BEHIND_TICK: usize = 8192;

/// The number of the step and the random numbers behind it.
pub(super) fn tick_and_normal(tick: &Op, normal: &Op, program: &Program) -> Dispatch {
    let &Op::Tick { clock } = tick else { unreachable!("a tick") };
    let kernel = Kernel::new(normal, "noise", normal_overrides(normal, program)).tensor("ticking", clock);
    kernel.dispatch("tick_and_normal", [1, 1, 1])
}

/// The dispatches of an operation: a table with one entry for each.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn dispatches(op: &Op, program: &Program) -> Vec<Dispatch> {
    let len = |tensor: TensorId| program.info(tensor).len();
    let each_element = |tensor: TensorId| elementwise(program, tensor);
    // A shader has one entry point for an operation and one for its gradient.
    let forward_or_grad = if op.name().ends_with("_grad") { "grad" } else { "forward" };
    let (shader, entry, overrides, workgroups) = match *op {
        Op::Tick { .. } => ("clock", "tick", vec![], [1, 1, 1]),
        Op::Normal { y, first, .. } => {
            ("noise", "normal", normal_overrides(op, program), blocks_of_four(len(y) + first as usize % 4))
        }
        Op::Batch { y, .. } => ("batch", "gather", batch_overrides(op, program), [program.shape(y)[0], 1, 1]),
        Op::Augment { x, seed, rotate, flip, quarter_turns, first, .. } => {
            let ([n, h, w, c], [flip, quarter_turns]) = (program.nhwc(x), [flip, quarter_turns].map(u8::from));
            let overrides = overrides! {
                H: h, W: w, C: c, FIRST: first, ROTATE: rotate / 180.0, FLIP: flip, QUARTER_TURNS: quarter_turns
            };
            ("augment", "forward", seeded(seed, overrides), [n, 1, 1])
        }
        Op::DiffAugment { clock, x, strength, seed, stream, changes, first, .. }
        | Op::DiffAugmentGrad { clock, dy: x, strength, seed, stream, changes, first, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            let DiffAugment { translation, cutout, colour } = changes;
            let [adapted, translation, cutout, colour] =
                [strength.is_some(), translation, cutout, colour].map(u8::from);
            let overrides = overrides! {
                H: h, W: w, C: c, STREAM: stream, FIRST: first,
                ADAPTED: adapted, TRANSLATION: translation, CUTOUT: cutout, COLOUR: colour
            };
            let kernel = Kernel::new(op, "diff_augment", seeded(seed, overrides));
            // Every variable of an entry point is bound.
            let kernel = kernel.tensor("strength", strength.unwrap_or(clock));
            return vec![kernel.dispatch(forward_or_grad, [n, 1, 1])];
        }
        Op::AdaptAugment { history, target, rate, column, .. } => {
            let mut overrides = history_overrides(program, history, column);
            overrides.extend(overrides! { TARGET: target, RATE: rate });
            ("adapt_augment", "adapt", overrides, [1, 1, 1])
        }
        Op::Labels { labels, y, seed, order, .. } => {
            let (count, n) = (len(labels), len(y));
            let (half_bits, is_chunk) = (random::half_bits(count as u32), u8::from(order == Order::Chunk));
            let overrides = overrides! { N: n, COUNT: count, HALF_BITS: half_bits, CHUNK: is_chunk };
            ("labels", "gather", seeded(seed, overrides), [n.div_ceil(64), 1, 1])
        }
        Op::AppendClass { x, labels, y } => {
            let [n, _, _, before] = program.nhwc(x);
            let overrides = overrides! { N: n, LABELS: len(labels), WIDTH: program.nhwc(y)[3], BEFORE: before };
            ("class", "append", overrides, each_element(y))
        }
        Op::PickLogit { logits: wide, labels, y: narrow } | Op::PickLogitGrad { dlogits: wide, labels, dy: narrow } => {
            let overrides = overrides! { N: len(narrow), LABELS: len(labels), WIDTH: program.nhwc(wide)[3] };
            match op {
                Op::PickLogit { .. } => ("class", "pick", overrides, [len(narrow).div_ceil(ELEMENTWISE), 1, 1]),
                _ => ("class", "pick_grad", overrides, each_element(wide)),
            }
        }
        Op::Concat { a, b, y } => ("concat", "forward", overrides! { LEN_A: len(a), LEN_B: len(b) }, each_element(y)),
        Op::Pack { x: single, y: packed } | Op::PackGrad { dx: single, dy: packed } => {
            let ([n, h, w, c], packs) = (program.nhwc(single), program.shape(packed)[0]);
            let overrides = overrides! { LEN: len(single), PIXELS: h * w, C: c, M: n / packs };
            ("pack", forward_or_grad, overrides, each_element(single))
        }
        Op::Activation { kind, x, .. } | Op::ActivationGrad { kind, y: x, .. } => {
            let kernel = Kernel::new(op, "activation", overrides! { LEN: len(x) }).activation(Some(kind));
            return vec![kernel.dispatch(forward_or_grad, each_element(x))];
        }
        Op::Upsample { x: small, y: large } | Op::UpsampleGrad { dx: small, dy: large } => {
            let ([n, h, w, c], [_, h_out, ..]) = (program.nhwc(small), program.nhwc(large));
            let overrides = overrides! { N: n, H: h, W: w, C: c, FACTOR: h_out / h };
            let written = if matches!(op, Op::Upsample { .. }) { large } else { small };
            ("upsample", forward_or_grad, overrides, each_element(written))
        }
        Op::MaxPool { x, size, .. } | Op::MaxPoolGrad { x, size, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            let overrides = overrides! { N: n, H: h, W: w, C: c, SIZE: size };
            let windows = |side: usize| if let Op::MaxPool { .. } = op { side / size } else { side.div_ceil(size) };
            ("max_pool", forward_or_grad, overrides, invocations(n * windows(h) * windows(w) * c))
        }
        Op::Dropout { x, seed, stream, rate, .. } => {
            let dropped = random::dropout_threshold(rate);
            let overrides = overrides! { LEN: len(x), STREAM: stream, DROPPED: dropped, SCALE: 1.0 / (1.0 - rate) };
            ("dropout", "forward", seeded(seed, overrides), blocks_of_four(len(x)))
        }
        Op::PenaltyDirection { g, centre, weight, .. } => {
            let (n, around_one) = (program.shape(g)[0], u8::from(centre == Centre::One));
            let overrides = overrides! { N: n, LEN: len(g) / n, WEIGHT: weight, AROUND_ONE: around_one };
            ("penalty", "direction", overrides, [n, 1, 1])
        }
        Op::Fill { y, value } => ("fill", "constant", overrides! { LEN: len(y), VALUE: value }, each_element(y)),
        Op::Accumulate { y, .. } => ("fill", "accumulate", overrides! { LEN: len(y) }, each_element(y)),
        Op::Horner { y, degree, .. } => {
            ("horner", "evaluate", overrides! { LEN: len(y), DEGREE: degree }, [len(y).div_ceil(4096), 1, 1])
        }
        Op::Mix { y, seed, stream, first, .. } => {
            let n = program.shape(y)[0];
            let overrides = overrides! { LEN: len(y) / n, STREAM: stream, FIRST: first };
            ("mix", "forward", seeded(seed, overrides), [n, 1, 1])
        }
        Op::CrossEntropy { logits, history, column, .. } => {
            let [n, _, _, classes] = program.nhwc(logits);
            let mut overrides = overrides! { N: n, CLASSES: classes };
            overrides.extend(history_overrides(program, history, column));
            ("cross_entropy", "softmax", overrides, [1, 1, 1])
        }
        Op::Ema { param, decay, ramp_up, .. } => {
            let mut overrides = overrides! { LEN: len(param) };
            overrides.extend(ema_overrides(decay, ramp_up));
            ("ema", "update", overrides, each_element(param))
        }
        Op::SpectralNorm { w, .. } => {
            let [k, _, c_in, columns] = program.nhwc(w);
            let rows = k * k * c_in;
            let kernel = Kernel::new(op, "spectral_norm", overrides! { D: rows, O: columns });
            let kernel = kernel.scratch("v_raw", rows).scratch("u_raw", columns);
            return vec![
                kernel.clone().dispatch("project", [rows.min(MAX_WORKGROUPS), 1, 1]),
                kernel.clone().dispatch("reflect", [columns.div_ceil(32), 1, 1]),
                kernel.dispatch("normalise", each_element(w)),
            ];
        }
        Op::SpectralNormGrad { y, .. } => {
            let [k, _, c_in, columns] = program.nhwc(y);
            let slices = len(y).div_ceil(4096).min(ELEMENTWISE); // at most one for each lane of a workgroup
            let slice = len(y).div_ceil(slices);
            let overrides = overrides! { D: k * k * c_in, O: columns, SLICES: slices, SLICE: slice };
            let kernel = Kernel::new(op, "spectral_norm", overrides).scratch("partials", slices);
            let first = kernel.clone().dispatch("grad_partials", [slices, 1, 1]);
            return vec![first, kernel.dispatch("grad", each_element(y))];
        }
        Op::MinibatchDeviation { x, y, group } => {
            let [_, h, w, c] = program.nhwc(x);
            let (kernel, workgroups) = deviation(op, program, x, group, h * w * c);
            return vec![kernel.clone().dispatch("deviation", workgroups), kernel.dispatch("forward", each_element(y))];
        }
        Op::MinibatchDeviationGrad { x, group, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            let (kernel, workgroups) = deviation(op, program, x, group, group * h * w);
            let first = kernel.clone().dispatch("grad_partials", workgroups);
            return vec![first, kernel.dispatch("grad", invocations(n / group * h * w * c))];
        }
        Op::Conv { .. }
        | Op::ConvGradInput { .. }
        | Op::ConvGradWeight { .. }
        | Op::BiasGrad { .. }
        | Op::BatchNorm { .. }
        | Op::BatchNormEval { .. }
        | Op::BatchNormGrad { .. }
        | Op::DiscriminatorLoss { .. }
        | Op::GeneratorLoss { .. }
        | Op::Adam { .. } => unreachable!("{} has a node of its own", op.name()),
    };
    vec![Kernel::new(op, shader, overrides).dispatch(entry, workgroups)]
}

/// Overrides together with those of a random seed.
fn seeded(seed: u64, mut overrides: Overrides) -> Overrides {
    let [low, high] = random::key(seed);
    overrides.extend(overrides! { SEED_LOW: low, SEED_HIGH: high });
    overrides
}

/// The overrides of a ring of recent losses.
pub(super) fn history_overrides(program: &Program, history: TensorId, column: usize) -> Overrides {
    let [rows, columns] = program.shape(history).try_into().expect("a history has rows and columns");
    overrides! { HISTORY: rows, COLUMNS: columns, COLUMN: column }
}

/// The overrides of `share.wgsl`.
pub(super) fn ema_overrides(decay: f64, ramp_up: RampUp) -> Overrides {
    overrides! { ONE_MINUS_DECAY: 1.0 - decay, BY_HALF_LIFE: u8::from(ramp_up == RampUp::HalfLife) }
}

fn normal_overrides(op: &Op, program: &Program) -> Overrides {
    let &Op::Normal { y, seed, stream, first, .. } = op else { unreachable!("random numbers") };
    seeded(seed, overrides! { LEN: program.info(y).len(), STREAM: stream, FIRST: first })
}

fn batch_overrides(op: &Op, program: &Program) -> Overrides {
    let &Op::Batch { images, y, seed, order, range: [low, high], .. } = op else { unreachable!("a batch") };
    let (count, n) = (program.shape(images)[0], program.shape(y)[0]);
    let (half_bits, is_chunk) = (random::half_bits(count as u32), u8::from(order == Order::Chunk));
    let overrides = overrides! {
        N: n, PIXELS: program.info(y).len() / n, COUNT: count, HALF_BITS: half_bits,
        SCALE: high - low, SHIFT: 255.0 * low, CHUNK: is_chunk
    };
    seeded(seed, overrides)
}

/// What the kernels of the minibatch deviation share, and the workgroups that add up `len` numbers of each group in slices of at most
/// 32,768. A lane adds 128 of them, in at most 2 * [`MAX_GROUP`](crate::program::MAX_GROUP) iterations each, and stays far below the
/// 65,535 after which Mesa before 25.1 ends loops.
fn deviation(op: &Op, program: &Program, x: TensorId, group: usize, len: usize) -> (Kernel, [usize; 3]) {
    let [n, h, w, c] = program.nhwc(x);
    let (groups, slices) = (n / group, len.div_ceil(1 << 15));
    let overrides = overrides! {
        N: n, PIXELS: h * w, C: c, C_OUT: c + 1, GROUP: group, SLICES: slices, SLICE: len.div_ceil(slices)
    };
    let kernel = Kernel::new(op, "minibatch_deviation", overrides).scratch("partials", groups * slices);
    (kernel, [groups, slices, 1])
}

#[cfg(test)]
mod tests {
    use super::super::MESA_LIMIT;
    use crate::program::MAX_WINDOW;

    #[test]
    fn no_window_of_a_model_comes_near_mesas_limit_of_iterations() {
        // The gradient of pooling reads a window twice, and each of its rows.
        let iterations = 2 * MAX_WINDOW * (MAX_WINDOW + 1) + 16;
        assert!(iterations < MESA_LIMIT, "{iterations}");
    }
}
