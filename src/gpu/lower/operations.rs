//! The dispatches of operations: a table with one entry for each.

use super::Dispatch;
use super::kernel::{
    ELEMENTWISE, Kernel, MAX_WORKGROUPS, Overrides, elementwise, ema_overrides, history_overrides, overrides,
    row_slices,
};
use super::loss::{self, LogitTerms};
use super::norm::{self, NormInput};
use super::partials::SplitSum;
use super::plan::Lowering;
use crate::program::{Centre, Op, Order, TensorId, random};

/// The dispatches of the operation at `start` and of those that they compute with it, and the number of these operations.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn group_from(lowering: &mut Lowering, start: usize) -> (usize, Vec<Dispatch>) {
    let Lowering { ops, program, kernels, .. } = *lowering;
    let neighbour = lowering.neighbour(start);
    let count = 1 + usize::from(neighbour.is_some());
    // The kernel that computes both has the operands of the random numbers.
    let (op, neighbour) = match (&ops[start], neighbour) {
        (tick @ Op::Tick { .. }, Some(normal)) => (normal, Some(tick)),
        pair => pair,
    };
    let kernel = |shader, overrides| Kernel::new(op, shader, overrides);
    let len = |tensor: TensorId| program.info(tensor).len();
    let each_element = |tensor: TensorId| elementwise(len(tensor));
    // A shader has one entry point for an operation and one for its gradient.
    let forward_or_grad = if op.name().ends_with("_grad") { "grad" } else { "forward" };
    let (kernel, entry, workgroups) = match *op {
        Op::Tick { .. } => (kernel("clock", Overrides::new()), "tick", [1, 1, 1]),
        Op::Normal { y, seed, stream, first, .. } => {
            let kernel = kernel("noise", seeded(seed, overrides! { LEN: len(y), STREAM: stream, FIRST: first }));
            match neighbour {
                Some(&Op::Tick { clock }) => (kernel.tensor("ticking", clock), "tick_and_normal", [1, 1, 1]),
                _ => (kernel, "normal", elementwise(len(y) + first as usize % 4)),
            }
        }
        Op::Batch { images, y, seed, order, range: [low, high], .. } => {
            let (n, count) = (program.shape(y)[0], program.shape(images)[0]);
            let overrides = overrides! {
                N: n, PIXELS: len(y) / n, COUNT: count, HALF_BITS: random::half_bits(count as u32),
                SCALE: high - low, SHIFT: 255.0 * low, CHUNK: u8::from(order == Order::Chunk)
            };
            let kernel = kernel("batch", seeded(seed, overrides));
            match neighbour {
                Some(&Op::Concat { b, y: both, .. }) => {
                    let kernel = kernel.tensor("b", b).tensor("both", both);
                    (kernel, "gather_and_join", [program.shape(both)[0], 1, 1])
                }
                _ => (kernel, "gather", [n, 1, 1]),
            }
        }
        Op::Augment { x, seed, rotate, flip, quarter_turns, first, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            let overrides = overrides! {
                H: h, W: w, C: c, FIRST: first, ROTATE: rotate / 180.0,
                FLIP: u8::from(flip), QUARTER_TURNS: u8::from(quarter_turns)
            };
            (kernel("augment", seeded(seed, overrides)), "forward", [n, 1, 1])
        }
        Op::DiffAugment { x, strength, seed, stream, changes, first, .. }
        | Op::DiffAugmentGrad { dy: x, strength, seed, stream, changes, first, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            let overrides = overrides! {
                H: h, W: w, C: c, STREAM: stream, FIRST: first, ADAPTED: u8::from(strength.is_some()),
                TRANSLATION: u8::from(changes.translation), CUTOUT: u8::from(changes.cutout),
                COLOUR: u8::from(changes.colour)
            };
            (kernel("diff_augment", seeded(seed, overrides)), forward_or_grad, [n, 1, 1])
        }
        Op::AdaptAugment { history, target, rate, column, .. } => {
            let kernel = kernel("adapt_augment", history_overrides(program, history, column));
            (kernel.overrides(overrides! { TARGET: target, RATE: rate }), "adapt", [1, 1, 1])
        }
        Op::Labels { labels, y, seed, order, .. } => {
            let (count, n) = (len(labels), len(y));
            let overrides = overrides! {
                N: n, COUNT: count, HALF_BITS: random::half_bits(count as u32), CHUNK: u8::from(order == Order::Chunk)
            };
            (kernel("labels", seeded(seed, overrides)), "gather", [n.div_ceil(64), 1, 1])
        }
        Op::AppendClass { x, labels, y } => {
            let [n, _, _, before] = program.nhwc(x);
            let overrides = overrides! { N: n, LABELS: len(labels), WIDTH: program.nhwc(y)[3], BEFORE: before };
            (kernel("class", overrides), "append", each_element(y))
        }
        Op::PickLogit { logits: wide, labels, y: narrow } | Op::PickLogitGrad { dlogits: wide, labels, dy: narrow } => {
            let overrides = overrides! { N: len(narrow), LABELS: len(labels), WIDTH: program.nhwc(wide)[3] };
            match op {
                Op::PickLogit { .. } => (kernel("class", overrides), "pick", [len(narrow).div_ceil(ELEMENTWISE), 1, 1]),
                _ => (kernel("class", overrides), "pick_grad", each_element(wide)),
            }
        }
        Op::Concat { a, b, y } => {
            (kernel("concat", overrides! { LEN_A: len(a), LEN_B: len(b) }), "forward", each_element(y))
        }
        Op::Pack { x: single, y: packed } | Op::PackGrad { dx: single, dy: packed } => {
            let ([n, h, w, c], packs) = (program.nhwc(single), program.shape(packed)[0]);
            let overrides = overrides! { LEN: len(single), PIXELS: h * w, C: c, M: n / packs };
            (kernel("pack", overrides), forward_or_grad, each_element(single))
        }
        Op::Activation { kind, x, .. } | Op::ActivationGrad { kind, y: x, .. } => {
            if let Some(norm) = neighbour {
                return (count, norm::dispatches(norm, Some(op), NormInput::Complete, program, kernels));
            }
            let kernel = kernel("activation", overrides! { LEN: len(x) }).function(Some(kind));
            (kernel, forward_or_grad, each_element(x))
        }
        Op::Upsample { x: small, y: large } | Op::UpsampleGrad { dx: small, dy: large } => {
            let ([n, h, w, c], [_, h_out, ..]) = (program.nhwc(small), program.nhwc(large));
            let overrides = overrides! { N: n, H: h, W: w, C: c, FACTOR: h_out / h };
            let written = if matches!(op, Op::Upsample { .. }) { large } else { small };
            (kernel("upsample", overrides), forward_or_grad, each_element(written))
        }
        Op::MaxPool { x, size, .. } | Op::MaxPoolGrad { x, size, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            let overrides = overrides! { N: n, H: h, W: w, C: c, SIZE: size };
            let windows = |side: usize| if let Op::MaxPool { .. } = op { side / size } else { side.div_ceil(size) };
            (kernel("max_pool", overrides), forward_or_grad, elementwise(n * windows(h) * windows(w) * c))
        }
        Op::Dropout { x, seed, stream, rate, .. } => {
            let dropped = random::dropout_threshold(rate);
            let overrides = overrides! { LEN: len(x), STREAM: stream, DROPPED: dropped, SCALE: 1.0 / (1.0 - rate) };
            (kernel("dropout", seeded(seed, overrides)), "forward", elementwise(len(x)))
        }
        Op::PenaltyDirection { g, centre, weight, .. } => {
            let n = program.shape(g)[0];
            let around_one = u8::from(centre == Centre::One);
            let overrides = overrides! { N: n, LEN: len(g) / n, WEIGHT: weight, AROUND_ONE: around_one };
            (kernel("penalty", overrides), "direction", [n, 1, 1])
        }
        Op::Fill { y, value } => {
            (kernel("fill", overrides! { LEN: len(y), VALUE: value }), "constant", each_element(y))
        }
        Op::Accumulate { y, .. } => (kernel("fill", overrides! { LEN: len(y) }), "accumulate", each_element(y)),
        Op::Horner { y, degree, .. } => {
            (kernel("horner", overrides! { LEN: len(y), DEGREE: degree }), "evaluate", [len(y).div_ceil(4096), 1, 1])
        }
        Op::Mix { y, seed, stream, first, .. } => {
            let n = program.shape(y)[0];
            let overrides = overrides! { LEN: len(y) / n, STREAM: stream, FIRST: first };
            (kernel("mix", seeded(seed, overrides)), "forward", [n, 1, 1])
        }
        Op::CrossEntropy { logits, history, column, .. } => {
            let [n, _, _, classes] = program.nhwc(logits);
            let kernel = kernel("cross_entropy", overrides! { N: n, CLASSES: classes });
            (kernel.overrides(history_overrides(program, history, column)), "softmax", [1, 1, 1])
        }
        Op::Ema { param, decay, ramp_up, .. } => {
            let kernel = kernel("ema", overrides! { LEN: len(param) });
            (kernel.overrides(ema_overrides(decay, ramp_up)), "update", each_element(param))
        }
        Op::SpectralNorm { w, .. } => {
            let [k, _, c_in, columns] = program.nhwc(w);
            let rows = k * k * c_in;
            let kernel = kernel("spectral_norm", overrides! { D: rows, O: columns });
            let kernel = kernel.scratch("v_raw", rows).scratch("u_raw", columns);
            let project = kernel.clone().dispatch("project", [rows.min(MAX_WORKGROUPS), 1, 1]);
            let reflect = kernel.clone().dispatch("reflect", [columns.div_ceil(32), 1, 1]);
            return (count, vec![project, reflect, kernel.dispatch("normalise", each_element(w))]);
        }
        Op::SpectralNormGrad { y, .. } => {
            let [k, _, c_in, columns] = program.nhwc(y);
            let slices = len(y).div_ceil(4096).min(ELEMENTWISE); // at most one for each lane of a workgroup
            let slice = len(y).div_ceil(slices);
            let overrides = overrides! { D: k * k * c_in, O: columns, SLICES: slices, SLICE: slice };
            let kernel = kernel("spectral_norm", overrides).scratch("partials", slices);
            let first = kernel.clone().dispatch("grad_partials", [slices, 1, 1]);
            return (count, vec![first, kernel.dispatch("grad", each_element(y))]);
        }
        Op::MinibatchDeviation { x, group, .. } | Op::MinibatchDeviationGrad { x, group, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            // The numbers of each group that the first kernel adds up.
            let (len, first, second, workgroups) = match *op {
                Op::MinibatchDeviation { y, .. } => (h * w * c, "deviation", "forward", each_element(y)),
                _ => (group * h * w, "grad_partials", "grad", elementwise(n / group * h * w * c)),
            };
            // Slices of at most 32,768. A lane adds 128 of them, in at most 2 * `MAX_GROUP` iterations each, and stays far below the 65,535
            // after which Mesa before 25.1 ends loops.
            let (groups, slices) = (n / group, len.div_ceil(1 << 15));
            let overrides = overrides! {
                N: n, PIXELS: h * w, C: c, C_OUT: c + 1, GROUP: group, SLICES: slices, SLICE: len.div_ceil(slices)
            };
            let kernel = kernel("minibatch_deviation", overrides).scratch("partials", groups * slices);
            let first = kernel.clone().dispatch(first, [groups, slices, 1]);
            return (count, vec![first, kernel.dispatch(second, workgroups)]);
        }
        Op::Conv { .. } => {
            let Some(loss) = neighbour else { return lowering.product(start) };
            return (count, vec![loss::dispatch(loss, LogitTerms::of_layer(op, program), program)]);
        }
        Op::ConvGradInput { .. } => return lowering.product(start),
        Op::ConvGradWeight { .. } => return lowering.weight_gradient(start),
        Op::BiasGrad { dy, db } => {
            let [channels, rows] = [len(db), len(dy) / len(db)];
            let [slices, slice_rows] = row_slices(rows);
            let mut sum = SplitSum::new(db, slices, program);
            if sum.is_partial() {
                lowering.waiting.leave(&mut [&mut sum], ops, start + 1, program);
            }
            let kernel = kernel("bias", overrides! { ROWS: rows, C: channels, SLICE_ROWS: slice_rows });
            let kernel = kernel.bind("partials", sum.resource());
            let gradient = kernel.dispatch("grad", [channels.div_ceil(32), slices, 1]);
            let reduction =
                sum.reduction(op).map(|kernel| kernel.epilogue(None).dispatch("reduce", elementwise(sum.len)));
            return (count, [gradient].into_iter().chain(reduction).collect());
        }
        Op::BatchNorm { .. } | Op::BatchNormEval { .. } | Op::BatchNormGrad { .. } => {
            return (count, norm::dispatches(op, neighbour, NormInput::Complete, program, kernels));
        }
        Op::DiscriminatorLoss { .. } | Op::GeneratorLoss { .. } => {
            return (count, vec![loss::dispatch(op, None, program)]);
        }
        Op::Adam { .. } => return (count, vec![lowering.waiting.dispatch(start, op, neighbour, program)]),
    };
    (count, vec![kernel.dispatch(entry, workgroups)])
}

/// Overrides together with those of a random seed.
fn seeded(seed: u64, mut overrides: Overrides) -> Overrides {
    let [low, high] = random::key(seed);
    overrides.extend(overrides! { SEED_LOW: low, SEED_HIGH: high });
    overrides
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
