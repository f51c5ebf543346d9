//! Which shapes and settings an operation may have.

use super::{Geometry, MAX_GROUP, MAX_LOGITS, MAX_SPECTRAL_ROWS, MAX_WINDOW, Op};
use crate::program::{AdversarialLoss, Program, TensorId};

impl Op {
    /// Whether the operands have the element types of the table and shapes that fit together, and the settings are in range.
    ///
    /// # Errors
    ///
    /// A sentence with the shapes or the value.
    #[expect(clippy::too_many_lines, reason = "a table with one entry for each operation")]
    pub(crate) fn check(&self, program: &Program) -> Result<(), String> {
        let shape = |tensor: TensorId| program.shape(tensor);
        let channels = |tensor: TensorId| shape(tensor).last().copied().unwrap_or(0);
        let same = |a: TensorId, b: TensorId| equal("shapes", shape(a), shape(b));
        for operand in self.operands() {
            let element = program.element(operand.tensor);
            if element != operand.element {
                return Err(format!("{} has elements of type {element:?}, not {:?}", operand.name, operand.element));
            }
        }
        match *self {
            Self::Tick { .. } | Self::Normal { .. } | Self::Fill { .. } => Ok(()),
            Self::Batch { images, y, .. } => equal("images", &shape(images)[1..], &shape(y)[1..]),
            Self::Augment { x, y, rotate, quarter_turns, .. } => {
                same(x, y)?;
                let [_, h, w, _] = program.nhwc(x);
                if quarter_turns && h != w {
                    return Err(format!("quarter turns need square images, but these are {w} x {h}"));
                }
                let bounded = (0.0..=180.0).contains(&rotate);
                if bounded { Ok(()) } else { Err(format!("angle {rotate} is out of range 0..=180 degrees")) }
            }
            Self::DiffAugment { x, strength, y, .. } | Self::DiffAugmentGrad { dy: x, strength, dx: y, .. } => {
                same(x, y)?;
                strength.map_or(Ok(()), |strength| equal("strength", shape(strength), &[1]))?;
                check_diff_augment(program, x)
            }
            Self::AdaptAugment { history, strength, column, .. } => {
                equal("strength", shape(strength), &[1])?;
                let columns = channels(history);
                if column < columns { Ok(()) } else { Err(format!("column {column} of {columns}")) }
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
                if rows <= MAX_SPECTRAL_ROWS {
                    Ok(())
                } else {
                    Err(format!("{rows} rows, more than {MAX_SPECTRAL_ROWS}"))
                }
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
            Self::Horner { a, y, degree } => {
                same(a, y)?;
                // Mesa before 25.1 ends the loops of an invocation after 65,535 iterations.
                if (1..65_535).contains(&degree) { Ok(()) } else { Err(format!("degree {degree}")) }
            }
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
                if (0.0..1.0).contains(&rate) { Ok(()) } else { Err(format!("rate {rate} is out of range 0..1")) }
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
    // "Same" padding of an odd total adds the odd row after the image, where `pad` does not count it.
    let fits = |out: usize, size: usize| {
        [0, 1].iter().any(|odd| (size + odd + 2 * pad).checked_sub(kernel).is_some_and(|span| span / stride + 1 == out))
    };
    if fits(h_out, h) && fits(w_out, width) {
        return Ok(());
    }
    Err(format!(
        "y is {w_out} x {h_out}, but the geometry gives {:?} x {:?}",
        geometry.output(width),
        geometry.output(h)
    ))
}

/// `y` has m times fewer images than `x` and m times as many channels.
fn check_pack(program: &Program, x: TensorId, y: TensorId) -> Result<(), String> {
    let ([n, h, w, c], [packs, ..]) = (program.nhwc(x), program.nhwc(y));
    if !n.is_multiple_of(packs) {
        return Err(format!("{n} images cannot be packed into {packs}"));
    }
    equal("images", &[packs, h, w, n / packs * c], program.shape(y))
}

/// `y` is larger than `x` by one factor in both directions.
fn check_upsample(program: &Program, x: TensorId, y: TensorId) -> Result<(), String> {
    let ([n, h, w, c], [_, h_out, ..]) = (program.nhwc(x), program.nhwc(y));
    let factor = h_out / h;
    if factor > MAX_WINDOW {
        return Err(format!("factor {factor} is larger than {MAX_WINDOW}"));
    }
    equal("images", &[n, factor * h, factor * w, c], program.shape(y))
}

fn check_max_pool(program: &Program, x: TensorId, y: TensorId, size: usize) -> Result<(), String> {
    let [n, h, w, c] = program.nhwc(x);
    if !(1..=MAX_WINDOW).contains(&size) || h < size || w < size {
        return Err(format!(
            "window {size} x {size} is larger than {MAX_WINDOW} or than the image of {w} x {h}, or empty"
        ));
    }
    equal("images", &[n, h / size, w / size, c], program.shape(y))
}

/// Each of the `n` rows of `wide` has `before` numbers, then one for each class; `labels` are the classes of an equal part of the rows.
fn check_classes(program: &Program, labels: TensorId, wide: TensorId, before: usize, n: usize) -> Result<(), String> {
    let channels = program.nhwc(wide)[3];
    equal("images", program.shape(wide), &[n, 1, 1, channels])?;
    let &[part] = program.shape(labels) else { return Err("labels must have one dimension".into()) };
    let fits = part > 0 && n.is_multiple_of(part) && channels > before;
    if fits {
        Ok(())
    } else {
        Err(format!("{part} labels for {n} rows of {channels} channels, {before} of them before the classes"))
    }
}

/// One workgroup computes an image, and each of its invocations must stay below the 65,535 iterations after which Mesa before 25.1
/// ends loops. Random positions have 16 bits.
fn check_diff_augment(program: &Program, x: TensorId) -> Result<(), String> {
    let [_, h, w, c] = program.nhwc(x);
    if h.max(w) < 1 << 15 && h * w * (3 * c + 2) <= 16_000_000 {
        return Ok(());
    }
    Err(format!("an image of {w} x {h} x {c} is too large for DiffAugment"))
}

fn check_deviation(program: &Program, x: TensorId, y: TensorId, group: usize) -> Result<(), String> {
    let [n, h, w, c] = program.nhwc(x);
    if !(2..=MAX_GROUP).contains(&group) || !n.is_multiple_of(group) {
        return Err(format!("{n} images cannot be divided into groups of {group}, in 2..={MAX_GROUP}"));
    }
    equal("images", &[n, h, w, c + 1], program.shape(y))
}

fn check_batch_norm(program: &Program, x: TensorId, affine: TensorId, groups: usize) -> Result<(), String> {
    let [n, h, w, c] = program.nhwc(x);
    equal("affine", program.shape(affine), &[2, c])?;
    if groups == 0 || !n.is_multiple_of(groups) || n / groups * h * w < 2 {
        return Err(format!(
            "a batch of {n} images of {w} x {h} cannot be divided into {groups} groups of at least 2 rows"
        ));
    }
    Ok(())
}

fn equal(what: &str, a: &[usize], b: &[usize]) -> Result<(), String> {
    if a == b { Ok(()) } else { Err(format!("{what} differ: {a:?} and {b:?}")) }
}
