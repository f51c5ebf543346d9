//! Which shapes the operands of an operation may have together.

use super::{Geometry, MAX_GROUP, MAX_LOGITS, MAX_SPECTRAL_ROWS, MAX_WINDOW, Op, Operand};
use crate::program::{AdversarialLoss, Element, Program, TensorId};

impl Op {
    /// Whether the shapes of the operands fit together.
    #[expect(clippy::too_many_lines, reason = "a table with one entry for each operation")]
    pub(in crate::program) fn check(&self, program: &Program) -> Result<(), String> {
        let shape = |tensor: TensorId| program.shape(tensor);
        let channels = |tensor: TensorId| shape(tensor).last().copied().unwrap_or(0);
        let same = |a: TensorId, b: TensorId| equal("shapes", shape(a), shape(b));
        for Operand { name, tensor, .. } in self.operands() {
            let wanted = match (self, name) {
                (_, "images") | (Self::Labels { .. }, "labels") => Element::U8,
                (_, "clock" | "labels") | (Self::Labels { .. }, "y") => Element::U32,
                _ => Element::F32,
            };
            if program.element(tensor) != wanted {
                return Err(format!("{name} is {:?}, not {wanted:?}", program.element(tensor)));
            }
        }
        match *self {
            Self::Tick { .. } | Self::Normal { .. } | Self::Fill { .. } => Ok(()),
            Self::Batch { images, y, .. } => equal("images", &shape(images)[1..], &shape(y)[1..]),
            Self::Augment { x, y, rotate, quarter_turns, .. } => {
                same(x, y)?;
                let [_, h, w, _] = program.nhwc(x);
                if quarter_turns && h != w {
                    return Err(format!("{h} x {w} is not square, so a quarter turn changes it"));
                }
                let bounded = (0.0..=180.0).contains(&rotate);
                if bounded { Ok(()) } else { Err(format!("{rotate} is no angle from 0 to 180")) }
            }
            Self::DiffAugment { x, y, .. } | Self::DiffAugmentGrad { dy: x, dx: y, .. } => {
                same(x, y)?;
                check_diff_augment(program, x)
            }
            Self::Labels { labels, y, .. } => equal("dimensions", &[shape(labels).len(), shape(y).len()], &[1, 1]),
            Self::AppendClass { x, labels, y } => {
                equal("images", &[1, 1, channels(x)], &shape(x)[1..])?;
                check_classes(program, labels, y, channels(x), shape(x)[0])
            }
            Self::PickLogit { logits, labels, y } | Self::PickLogitGrad { dy: y, labels, dlogits: logits } => {
                equal("logits", &[1, 1, 1], &shape(y)[1..])?;
                check_classes(program, labels, logits, 1, shape(y)[0])
            }
            Self::Concat { a, b, y } => {
                equal("images", &shape(a)[1..], &shape(b)[1..])?;
                equal("images", &shape(a)[1..], &shape(y)[1..])?;
                equal("batches", &[shape(a)[0] + shape(b)[0]], &shape(y)[..1])
            }
            Self::Pack { x, y } | Self::PackGrad { dy: y, dx: x } => check_pack(program, x, y),
            Self::Conv { x, w, b, y, geometry } => {
                check_conv(program, x, w, y, geometry)?;
                b.map_or(Ok(()), |b| equal("bias", shape(b), &[channels(y)]))
            }
            Self::ConvGradInput { dy, w, b, dx, geometry } => {
                check_conv(program, dx, w, dy, geometry)?;
                b.map_or(Ok(()), |b| equal("bias", shape(b), &[channels(dx)]))
            }
            Self::ConvGradWeight { x, dy, dw, geometry } => check_conv(program, x, dw, dy, geometry),
            Self::SpectralNorm { w: a, uv, y: b, sigma } | Self::SpectralNormGrad { dw: a, uv, y: b, sigma } => {
                same(a, b)?;
                let [k, _, c_in, c_out] = program.nhwc(a);
                equal("uv", shape(uv), &[c_out + k * k * c_in])?;
                equal("sigma", shape(sigma), &[1])?;
                let rows = k * k * c_in;
                if rows <= MAX_SPECTRAL_ROWS { Ok(()) } else { Err(format!("{rows} rows")) }
            }
            Self::BiasGrad { dy, db } => equal("bias", shape(db), &[channels(dy)]),
            Self::BatchNorm { x, affine, y, saved, running, groups, .. } => {
                same(x, y)?;
                check_batch_norm(program, x, affine, groups)?;
                equal("saved", shape(saved), &[groups, 2, channels(x)])?;
                equal("running", shape(running), &[2, channels(x)])
            }
            Self::BatchNormEval { x, affine, running, y, .. } => {
                same(x, y)?;
                same(affine, running)?;
                equal("affine", shape(affine), &[2, channels(x)])
            }
            Self::BatchNormGrad { x, dy, affine, saved, dx, daffine, groups } => {
                same(x, dy)?;
                same(x, dx)?;
                check_batch_norm(program, x, affine, groups)?;
                equal("saved", shape(saved), &[groups, 2, channels(x)])?;
                daffine.map_or(Ok(()), |daffine| same(affine, daffine))
            }
            Self::Activation { x, y, .. } | Self::Accumulate { x, y } => same(x, y),
            Self::ActivationGrad { y, dy, dx, .. } => same(y, dy).and_then(|()| same(y, dx)),
            Self::Upsample { x, y } | Self::UpsampleGrad { dy: y, dx: x } => check_upsample(program, x, y),
            Self::MaxPool { x, y, size } => check_max_pool(program, x, y, size),
            Self::MaxPoolGrad { x, dy, dx, size } => {
                same(x, dx)?;
                check_max_pool(program, x, dy, size)
            }
            Self::MinibatchDeviation { x, y, group } => check_deviation(program, x, y, group),
            Self::MinibatchDeviationGrad { x, dy, dx, group } => {
                same(x, dx)?;
                check_deviation(program, x, dy, group)
            }
            Self::Dropout { x, y, rate, .. } => {
                same(x, y)?;
                if (0.0..1.0).contains(&rate) { Ok(()) } else { Err(format!("the rate {rate} is not in [0, 1)")) }
            }
            Self::DiscriminatorLoss { logits, dlogits, history, kind, smoothing, column, .. } => {
                same(logits, dlogits)?;
                let [n, ref rest @ ..] = *shape(logits) else { return Err("there are no logits".into()) };
                equal("logits", rest, &[1, 1, 1])?;
                let smooth = if kind.has_labels() { (0.0..0.5).contains(&smoothing) } else { smoothing == 0.0 };
                let fits = n.is_multiple_of(2) && column + 6 <= channels(history) && smooth;
                if fits { Ok(()) } else { Err(format!("{n} rows, column {column}, smoothing {smoothing}")) }
            }
            Self::GeneratorLoss { logits, reals, dlogits, history, kind, column, .. } => {
                same(logits, dlogits)?;
                equal("logits", &shape(logits)[1..], &[1, 1, 1])?;
                reals.map_or(Ok(()), |reals| same(logits, reals))?;
                let fits =
                    reals.is_some() == (kind == AdversarialLoss::Relativistic) && column + 3 <= channels(history);
                if fits { Ok(()) } else { Err(format!("{kind:?} with reals {reals:?}, column {column}")) }
            }
            Self::PenaltyDirection { g, t, .. } => same(g, t),
            Self::Mix { a, b, y, .. } => same(a, b).and_then(|()| same(a, y)),
            Self::CrossEntropy { logits, labels, dlogits, history, column, .. } => {
                same(logits, dlogits)?;
                let [n, h, w, k] = program.nhwc(logits);
                equal("logits", &[h, w], &[1, 1])?;
                equal("labels", shape(labels), &[n])?;
                let fits = n * k <= MAX_LOGITS && column + 2 <= channels(history);
                if fits { Ok(()) } else { Err(format!("{n} rows of {k} classes, column {column}")) }
            }
            Self::Adam { param, grad, m, v, .. } => {
                same(param, grad).and_then(|()| same(param, m)).and_then(|()| same(param, v))
            }
            Self::Ema { param, ema, .. } => same(param, ema),
        }
    }
}

fn check_conv(program: &Program, x: TensorId, w: TensorId, y: TensorId, geometry: Geometry) -> Result<(), String> {
    let ([n, h, width, c_in], [n_out, h_out, w_out, c_out]) = (program.nhwc(x), program.nhwc(y));
    let Geometry { kernel, stride, pad } = geometry;
    equal("weights", program.shape(w), &[kernel, kernel, c_in, c_out])?;
    equal("batches", &[n], &[n_out])?;
    // "Same" padding of an odd total puts the odd row behind the image, where it is not counted in `pad`.
    let fits = |out: usize, size: usize| {
        [0, 1].iter().any(|odd| (size + odd + 2 * pad).checked_sub(kernel).is_some_and(|span| span / stride + 1 == out))
    };
    if fits(h_out, h) && fits(w_out, width) {
        return Ok(());
    }
    Err(format!(
        "y is {h_out} x {w_out}, but the geometry gives {:?} x {:?}",
        geometry.output(h),
        geometry.output(width)
    ))
}

/// `y` has fewer images than `x`, and as many times as many channels.
fn check_pack(program: &Program, x: TensorId, y: TensorId) -> Result<(), String> {
    let ([n, h, w, c], [packs, ..]) = (program.nhwc(x), program.nhwc(y));
    if !n.is_multiple_of(packs) {
        return Err(format!("{n} images cannot be made {packs}"));
    }
    equal("images", &[packs, h, w, n / packs * c], program.shape(y))
}

/// `y` is larger than `x` by one factor in both directions.
fn check_upsample(program: &Program, x: TensorId, y: TensorId) -> Result<(), String> {
    let ([n, h, w, c], [_, h_out, ..]) = (program.nhwc(x), program.nhwc(y));
    let factor = h_out / h;
    if factor > MAX_WINDOW {
        return Err(format!("the factor {factor} is larger than {MAX_WINDOW}"));
    }
    equal("images", &[n, factor * h, factor * w, c], program.shape(y))
}

fn check_max_pool(program: &Program, x: TensorId, y: TensorId, size: usize) -> Result<(), String> {
    let [n, h, w, c] = program.nhwc(x);
    if !(1..=MAX_WINDOW).contains(&size) || h < size || w < size {
        return Err(format!("no window of {size} x {size}, at most {MAX_WINDOW}, fits into {h} x {w}"));
    }
    equal("images", &[n, h / size, w / size, c], program.shape(y))
}

/// `wide` has `before` numbers and those of one class or more for each of `n` images, of which `labels` are equal parts.
fn check_classes(program: &Program, labels: TensorId, wide: TensorId, before: usize, n: usize) -> Result<(), String> {
    let channels = program.nhwc(wide)[3];
    equal("images", program.shape(wide), &[n, 1, 1, channels])?;
    let &[part] = program.shape(labels) else { return Err("labels have more than one dimension".into()) };
    let fits = part > 0 && n.is_multiple_of(part) && channels > before;
    if fits { Ok(()) } else { Err(format!("{part} labels of {n} images, {channels} channels behind {before}")) }
}

/// An image is the work of one workgroup, each of whose lanes takes turns and must stay below the iterations after which Mesa
/// before 25.1 ends loops; the draws of places have 16 bits.
fn check_diff_augment(program: &Program, x: TensorId) -> Result<(), String> {
    let [_, h, w, c] = program.nhwc(x);
    if h.max(w) < 1 << 15 && h * w * (3 * c + 2) <= 16_000_000 {
        return Ok(());
    }
    Err(format!("an image of {h} x {w} x {c} is too large to be changed"))
}

fn check_deviation(program: &Program, x: TensorId, y: TensorId, group: usize) -> Result<(), String> {
    let [n, h, w, c] = program.nhwc(x);
    if !(2..=MAX_GROUP).contains(&group) || !n.is_multiple_of(group) {
        return Err(format!("{n} images are no groups of {group}"));
    }
    equal("images", &[n, h, w, c + 1], program.shape(y))
}

fn check_batch_norm(program: &Program, x: TensorId, affine: TensorId, groups: usize) -> Result<(), String> {
    let [n, h, w, c] = program.nhwc(x);
    equal("affine", program.shape(affine), &[2, c])?;
    if groups == 0 || !n.is_multiple_of(groups) || n / groups * h * w < 2 {
        return Err(format!("{groups} groups of at least two rows each cannot be made of a batch of {n} {h} x {w}"));
    }
    Ok(())
}

fn equal(what: &str, a: &[usize], b: &[usize]) -> Result<(), String> {
    if a == b { Ok(()) } else { Err(format!("{what} differ: {a:?} and {b:?}")) }
}
