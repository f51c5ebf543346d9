//! The dispatches of operations that no other node of the plan concerns, of Adam, and of the gradient of a bias.

use super::kernel::{
    ELEMENTWISE, Kernel, MAX_WORKGROUPS, RowSlices, activation_overrides, blocks_of_four, elementwise, flag,
    invocations, sizes,
};
use super::partials::{GRADIENT_PARTIALS, GradientPartials, ProductResult};
use super::{Dispatch, Resource};
use crate::program::{Centre, Decay, DiffAugment, Op, Order, Program, RampUp, Schedule, TensorId, random};

/// Adam, and the EMA behind it if there is one.
#[derive(Default)]
pub(super) struct AdamStep {
    /// The gradients that arrive in partial sums, which it reduces.
    pub(super) gradients: Vec<GradientPartials>,
}

impl AdamStep {
    pub(super) fn dispatch(&self, op: &Op, ema: Option<&Op>, program: &Program) -> Dispatch {
        let &Op::Adam { param, lr, beta1, beta2, eps, schedule, .. } = op else { unreachable!("Adam") };
        let mut overrides = vec![
            ("LEN", program.info(param).len() as f64),
            ("LR", lr),
            ("ONE_MINUS_BETA1", 1.0 - beta1),
            ("ONE_MINUS_BETA2", 1.0 - beta2),
            ("EPS", eps),
            ("WAITING", self.gradients.len() as f64),
        ];
        overrides.extend(schedule_overrides(schedule));
        let row = |gradient: &GradientPartials| {
            [gradient.first, gradient.len, gradient.splits, gradient.memory.start].map(|number| number as u32)
        };
        // Every variable of an entry point is bound, so without such gradients there is a row that is not read.
        let table = if self.gradients.is_empty() { vec![0; 4] } else { self.gradients.iter().flat_map(row).collect() };
        let end = self.gradients.iter().map(|gradient| gradient.memory.end).max().unwrap_or(1);
        let kernel = Kernel::new(op, "adam", overrides)
            .bind("waiting", Resource::Table(table))
            .bind("partials", Resource::Scratch(GRADIENT_PARTIALS, 0..end));
        match ema {
            Some(&Op::Ema { ema, decay, ramp_up, .. }) => kernel
                .tensor("ema", ema)
                .overrides(&ema_overrides(decay, ramp_up))
                .dispatch("update_with_ema", elementwise(program, param)),
            _ => kernel.dispatch("update", elementwise(program, param)),
        }
    }
}

/// The gradient of a bias: the sum over all rows, in slices.
pub(super) struct BiasGrad {
    pub(super) output: ProductResult,
    rows: usize,
    slice_rows: usize,
}

impl BiasGrad {
    pub(super) fn of(dy: TensorId, db: TensorId, program: &Program) -> Self {
        let [n, h, w, _] = program.nhwc(dy);
        let RowSlices { count, rows } = RowSlices::of(n * h * w);
        Self { output: ProductResult::new(db, count), rows: n * h * w, slice_rows: rows }
    }

    pub(super) fn dispatches(&self, op: &Op, program: &Program) -> Vec<Dispatch> {
        let (channels, slices) = (program.info(self.output.tensor).len(), self.output.splits);
        let overrides = [("ROWS", self.rows), ("C", channels), ("SLICES", slices), ("SLICE_ROWS", self.slice_rows)];
        let kernel = Kernel::new(op, "bias", sizes(&overrides)).bind("partials", self.output.resource(program));
        let mut dispatches = vec![kernel.clone().dispatch("grad_partials", [channels.div_ceil(32), slices, 1])];
        if self.output.needs_reduction() {
            dispatches.push(kernel.dispatch("grad", [channels.div_ceil(64), 1, 1]));
        }
        dispatches
    }
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

/// The dispatches of an operation that no other node of the plan concerns: a table with one entry for each.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn dispatches(op: &Op, program: &Program) -> Vec<Dispatch> {
    let len = |tensor: TensorId| program.info(tensor).len();
    let each_element = |tensor: TensorId| elementwise(program, tensor);
    let (shader, entry, overrides, workgroups) = match *op {
        Op::Tick { .. } => ("clock", "tick", vec![], [1, 1, 1]),
        Op::Normal { y, first, .. } => {
            ("noise", "normal", normal_overrides(op, program), blocks_of_four(len(y) + first as usize % 4))
        }
        Op::Batch { y, .. } => ("batch", "gather", batch_overrides(op, program), [program.shape(y)[0], 1, 1]),
        Op::Augment { x, seed, rotate, flip, quarter_turns, first, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            let mut overrides = sizes(&[("H", h), ("W", w), ("C", c), ("FIRST", first as usize)]);
            overrides.extend([("ROTATE", rotate / 180.0), flag("FLIP", flip), flag("QUARTER_TURNS", quarter_turns)]);
            ("augment", "forward", seeded(seed, overrides), [n, 1, 1])
        }
        Op::DiffAugment { clock, x, strength, seed, stream, changes, first, .. }
        | Op::DiffAugmentGrad { clock, dy: x, strength, seed, stream, changes, first, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            let DiffAugment { translation, cutout, colour } = changes;
            let mut overrides = sizes(&[("H", h), ("W", w), ("C", c), ("STREAM", stream as usize)]);
            overrides.extend([("FIRST", first.into()), flag("ADAPTED", strength.is_some())]);
            overrides.extend([flag("TRANSLATION", translation), flag("CUTOUT", cutout), flag("COLOUR", colour)]);
            let kernel = Kernel::new(op, "diff_augment", seeded(seed, overrides));
            // Every variable of an entry point is bound.
            let kernel = kernel.tensor("strength", strength.unwrap_or(clock));
            return vec![kernel.dispatch(forward_or_grad(op), [n, 1, 1])];
        }
        Op::AdaptAugment { history, target, rate, column, .. } => {
            let mut overrides = history_overrides(program, history, column);
            overrides.extend([("TARGET", target), ("RATE", rate)]);
            ("adapt_augment", "adapt", overrides, [1, 1, 1])
        }
        Op::Labels { labels, y, seed, order, .. } => {
            let (count, n) = (len(labels), len(y));
            let half_bits = random::half_bits(count as u32) as usize;
            let mut overrides = sizes(&[("N", n), ("COUNT", count), ("HALF_BITS", half_bits)]);
            overrides.push(flag("CHUNK", order == Order::Chunk));
            ("labels", "gather", seeded(seed, overrides), [n.div_ceil(64), 1, 1])
        }
        Op::AppendClass { x, labels, y } => {
            let [n, _, _, before] = program.nhwc(x);
            let overrides = [class_sizes(program, labels, y, n), sizes(&[("BEFORE", before)])].concat();
            ("class", "append", overrides, each_element(y))
        }
        Op::PickLogit { logits, labels, y } => {
            ("class", "pick", class_sizes(program, labels, logits, len(y)), [len(y).div_ceil(ELEMENTWISE), 1, 1])
        }
        Op::PickLogitGrad { dy, labels, dlogits } => {
            ("class", "pick_grad", class_sizes(program, labels, dlogits, len(dy)), each_element(dlogits))
        }
        Op::Concat { a, b, y } => {
            ("concat", "forward", sizes(&[("LEN_A", len(a)), ("LEN_B", len(b))]), each_element(y))
        }
        Op::Pack { x: single, y: packed } | Op::PackGrad { dx: single, dy: packed } => {
            let ([n, h, w, c], packs) = (program.nhwc(single), program.shape(packed)[0]);
            let overrides = sizes(&[("LEN", len(single)), ("PIXELS", h * w), ("C", c), ("M", n / packs)]);
            ("pack", forward_or_grad(op), overrides, each_element(single))
        }
        Op::Activation { kind, x, .. } | Op::ActivationGrad { kind, y: x, .. } => {
            let overrides = [sizes(&[("LEN", len(x))]), activation_overrides(Some(kind))].concat();
            ("activation", forward_or_grad(op), overrides, each_element(x))
        }
        Op::Upsample { x: small, y: large } | Op::UpsampleGrad { dx: small, dy: large } => {
            let ([n, h, w, c], [_, h_out, ..]) = (program.nhwc(small), program.nhwc(large));
            let overrides = sizes(&[("N", n), ("H", h), ("W", w), ("C", c), ("FACTOR", h_out / h)]);
            let written = if matches!(op, Op::Upsample { .. }) { large } else { small };
            ("upsample", forward_or_grad(op), overrides, each_element(written))
        }
        Op::MaxPool { x, size, .. } | Op::MaxPoolGrad { x, size, .. } => {
            let [n, h, w, c] = program.nhwc(x);
            let overrides = sizes(&[("N", n), ("H", h), ("W", w), ("C", c), ("SIZE", size)]);
            let windows = |side: usize| if let Op::MaxPool { .. } = op { side / size } else { side.div_ceil(size) };
            ("max_pool", forward_or_grad(op), overrides, invocations(n * windows(h) * windows(w) * c))
        }
        Op::Dropout { x, seed, stream, rate, .. } => {
            let overrides = vec![
                ("LEN", len(x) as f64),
                ("STREAM", f64::from(stream)),
                ("DROPPED", f64::from(random::dropout_threshold(rate))),
                ("SCALE", 1.0 / (1.0 - rate)),
            ];
            ("dropout", "forward", seeded(seed, overrides), blocks_of_four(len(x)))
        }
        Op::PenaltyDirection { g, centre, weight, .. } => {
            let n = program.shape(g)[0];
            let mut overrides = sizes(&[("N", n), ("LEN", len(g) / n)]);
            overrides.extend([("WEIGHT", weight), flag("AROUND_ONE", centre == Centre::One)]);
            ("penalty", "direction", overrides, [n, 1, 1])
        }
        Op::Fill { y, value } => ("fill", "constant", vec![("LEN", len(y) as f64), ("VALUE", value)], each_element(y)),
        Op::Horner { y, degree, .. } => (
            "horner",
            "evaluate",
            sizes(&[("LEN", len(y)), ("DEGREE", degree as usize)]),
            [len(y).div_ceil(4096), 1, 1],
        ),
        Op::Accumulate { y, .. } => ("fill", "accumulate", sizes(&[("LEN", len(y))]), each_element(y)),
        Op::Mix { y, seed, stream, first, .. } => {
            let n = program.shape(y)[0];
            let overrides = sizes(&[("LEN", len(y) / n), ("STREAM", stream as usize), ("FIRST", first as usize)]);
            ("mix", "forward", seeded(seed, overrides), [n, 1, 1])
        }
        Op::CrossEntropy { logits, history, column, .. } => {
            let [n, _, _, classes] = program.nhwc(logits);
            let overrides = [sizes(&[("N", n), ("CLASSES", classes)]), history_overrides(program, history, column)];
            ("cross_entropy", "softmax", overrides.concat(), [1, 1, 1])
        }
        Op::Ema { param, decay, ramp_up, .. } => {
            let overrides = [sizes(&[("LEN", len(param))]), ema_overrides(decay, ramp_up)].concat();
            ("ema", "update", overrides, each_element(param))
        }
        Op::SpectralNorm { w, .. } => {
            let [k, _, c_in, columns] = program.nhwc(w);
            let rows = k * k * c_in;
            let kernel = Kernel::new(op, "spectral_norm", sizes(&[("D", rows), ("O", columns)]));
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
            let overrides = sizes(&[("D", k * k * c_in), ("O", columns), ("SLICES", slices), ("SLICE", slice)]);
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

/// The entry point of a shader that has one for an operation and one for its gradient.
fn forward_or_grad(op: &Op) -> &'static str {
    if op.name().ends_with("_grad") { "grad" } else { "forward" }
}

/// Overrides together with those of a random seed.
fn seeded(seed: u64, mut overrides: Vec<(&'static str, f64)>) -> Vec<(&'static str, f64)> {
    let [low, high] = random::key(seed);
    overrides.extend([("SEED_LOW", f64::from(low)), ("SEED_HIGH", f64::from(high))]);
    overrides
}

pub(super) fn history_overrides(program: &Program, history: TensorId, column: usize) -> Vec<(&'static str, f64)> {
    let [rows, columns] = program.shape(history).try_into().expect("a history has rows and columns");
    sizes(&[("HISTORY", rows), ("COLUMNS", columns), ("COLUMN", column)])
}

fn schedule_overrides(Schedule { warm_up, decay, steps, last }: Schedule) -> [(&'static str, f64); 4] {
    let number = match decay {
        Decay::Constant => 0.0,
        Decay::Linear => 1.0,
        Decay::Cosine => 2.0,
    };
    let decaying = steps.saturating_sub(warm_up).max(1);
    [("WARM_UP", warm_up.into()), ("DECAY", number), ("DECAYING_STEPS", decaying.into()), ("LAST", last)]
}

fn ema_overrides(decay: f64, ramp_up: RampUp) -> Vec<(&'static str, f64)> {
    vec![("ONE_MINUS_DECAY", 1.0 - decay), flag("BY_HALF_LIFE", ramp_up == RampUp::HalfLife)]
}

fn normal_overrides(op: &Op, program: &Program) -> Vec<(&'static str, f64)> {
    let &Op::Normal { y, seed, stream, first, .. } = op else { unreachable!("random numbers") };
    let len = program.info(y).len();
    seeded(seed, sizes(&[("LEN", len), ("STREAM", stream as usize), ("FIRST", first as usize)]))
}

fn batch_overrides(op: &Op, program: &Program) -> Vec<(&'static str, f64)> {
    let &Op::Batch { images, y, seed, order, range: [low, high], .. } = op else { unreachable!("a batch") };
    let (count, batch) = (program.shape(images)[0], program.shape(y)[0]);
    let pixels = program.info(y).len() / batch;
    let half_bits = random::half_bits(count as u32) as usize;
    let mut overrides = sizes(&[("N", batch), ("PIXELS", pixels), ("COUNT", count), ("HALF_BITS", half_bits)]);
    overrides.extend([("SCALE", high - low), ("SHIFT", 255.0 * low), flag("CHUNK", order == Order::Chunk)]);
    seeded(seed, overrides)
}

/// The overrides of `n` images, where `wide` has a channel for each class.
fn class_sizes(program: &Program, labels: TensorId, wide: TensorId, n: usize) -> Vec<(&'static str, f64)> {
    sizes(&[("N", n), ("LABELS", program.info(labels).len()), ("WIDTH", program.nhwc(wide)[3])])
}

/// What the kernels of the minibatch deviation share, and the workgroups that add up `len` numbers of each group in slices of at most
/// 32,768. A lane adds 128 of them, in at most 2 * [`MAX_GROUP`](crate::program::MAX_GROUP) iterations each, and stays far below the
/// 65,535 after which Mesa before 25.1 ends loops.
fn deviation(op: &Op, program: &Program, x: TensorId, group: usize, len: usize) -> (Kernel, [usize; 3]) {
    let [n, h, w, c] = program.nhwc(x);
    let (groups, slices) = (n / group, len.div_ceil(1 << 15));
    let mut overrides = sizes(&[("N", n), ("PIXELS", h * w), ("C", c), ("C_OUT", c + 1), ("GROUP", group)]);
    overrides.extend(sizes(&[("SLICES", slices), ("SLICE", len.div_ceil(slices))]));
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
