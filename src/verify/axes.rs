//! The axes of an operation: dimensions of its operands that can only change together, such as the images of a batch.

use std::collections::BTreeMap;

use crate::program::{Geometry, Op, Program, TensorId};

/// A dimension of a tensor.
type Dimension = (TensorId, usize);

/// Dimensions of operands that can only change together.
pub(super) struct Axis {
    /// The size, at least 1.
    pub(super) size: usize,
    /// Each dimension with its scale: where the axis has one element less, the dimension has as many elements less as its scale.
    pub(super) dimensions: Vec<(Dimension, usize)>,
}

/// The axes of an operation. Sizes that belong to no axis, such as the number of running statistics, cannot change.
#[expect(clippy::too_many_lines, reason = "a table with one entry for each operation")]
pub(super) fn axes(op: &Op, program: &Program) -> Vec<Axis> {
    let size = |tensor: TensorId, dimension: usize| program.shape(tensor)[dimension];
    let scaled = |size: usize, dimensions: &[(TensorId, usize, usize)]| Axis {
        size,
        dimensions: dimensions.iter().map(|&(tensor, index, scale)| ((tensor, index), scale)).collect(),
    };
    let shared = |dimensions: &[Dimension]| Axis {
        size: size(dimensions[0].0, dimensions[0].1),
        dimensions: dimensions.iter().map(|&dimension| (dimension, 1)).collect(),
    };
    // Tensors of the same shape, from some dimension on.
    let alike = |tensors: &[TensorId], first: usize| -> Vec<Axis> {
        let dimensions = first..program.shape(tensors[0]).len();
        dimensions.map(|index| shared(&tensors.iter().map(|&tensor| (tensor, index)).collect::<Vec<_>>())).collect()
    };
    let product = |x: TensorId, w: TensorId, y: TensorId, Geometry { stride, .. }: Geometry| {
        vec![
            shared(&[(x, 0), (y, 0)]),
            scaled(size(y, 1), &[(y, 1, 1), (x, 1, stride)]),
            scaled(size(y, 2), &[(y, 2, 1), (x, 2, stride)]),
            shared(&[(x, 3), (w, 2)]),
            shared(&[(y, 3), (w, 3)]),
        ]
    };
    let with_bias = |mut axes: Vec<Axis>, axis: usize, b: Option<TensorId>| {
        axes[axis].dimensions.extend(b.map(|b| ((b, 0), 1)));
        axes
    };
    // Images in equal groups, and the affine parameters and statistics of their channels.
    let normalised = |images: &[TensorId], groups: usize, of_channels: &[Dimension]| {
        let mut axes = alike(images, 1);
        axes[2].dimensions.extend(of_channels.iter().map(|&dimension| (dimension, 1)));
        let n: Vec<_> = images.iter().map(|&tensor| (tensor, 0, groups)).collect();
        axes.push(scaled(size(images[0], 0) / groups, &n));
        axes
    };
    match *op {
        Op::Tick { .. } | Op::AdaptAugment { .. } => Vec::new(),
        Op::Normal { y, .. } | Op::Fill { y, .. } => alike(&[y], 0),
        Op::Batch { images, y, .. } | Op::Labels { labels: images, y, .. } => {
            let mut axes = alike(&[images, y], 1);
            axes.extend([shared(&[(images, 0)]), shared(&[(y, 0)])]);
            axes
        }
        Op::Augment { x, y, .. }
        | Op::DiffAugment { x, y, .. }
        | Op::DiffAugmentGrad { dy: x, dx: y, .. }
        | Op::Activation { x, y, .. }
        | Op::Accumulate { x, y }
        | Op::Horner { a: x, y, .. }
        | Op::Dropout { x, y, .. }
        | Op::PenaltyDirection { g: x, t: y, .. }
        | Op::Ema { param: x, ema: y, .. } => alike(&[x, y], 0),
        Op::ActivationGrad { y, dy, dx, .. } => alike(&[y, dy, dx], 0),
        Op::Mix { a, b, y, .. } => alike(&[a, b, y], 0),
        Op::Adam { param, grad, m, v, .. } => alike(&[param, grad, m, v], 0),
        Op::AppendClass { x, labels, y } => {
            let (part, parts) = (size(labels, 0), size(x, 0) / size(labels, 0));
            vec![
                scaled(part, &[(labels, 0, 1), (x, 0, parts), (y, 0, parts)]),
                scaled(parts, &[(x, 0, part), (y, 0, part)]),
                scaled(size(x, 3), &[(x, 3, 1), (y, 3, 1)]),
                scaled(size(y, 3) - size(x, 3), &[(y, 3, 1)]),
            ]
        }
        Op::PickLogit { logits, labels, y } | Op::PickLogitGrad { dy: y, labels, dlogits: logits } => {
            let (part, parts) = (size(labels, 0), size(y, 0) / size(labels, 0));
            vec![
                scaled(part, &[(labels, 0, 1), (y, 0, parts), (logits, 0, parts)]),
                scaled(parts, &[(y, 0, part), (logits, 0, part)]),
                scaled(size(logits, 3) - 1, &[(logits, 3, 1)]),
            ]
        }
        Op::Concat { a, b, y } => {
            let mut axes = alike(&[a, b, y], 1);
            axes.extend([a, b].map(|part| scaled(size(part, 0), &[(part, 0, 1), (y, 0, 1)])));
            axes
        }
        Op::Pack { x, y } | Op::PackGrad { dy: y, dx: x } => {
            let m = size(x, 0) / size(y, 0);
            vec![
                scaled(size(y, 0), &[(y, 0, 1), (x, 0, m)]),
                shared(&[(x, 1), (y, 1)]),
                shared(&[(x, 2), (y, 2)]),
                scaled(size(x, 3), &[(x, 3, 1), (y, 3, m)]),
            ]
        }
        Op::Conv { x, w, b, y, geometry } => with_bias(product(x, w, y, geometry), 4, b),
        Op::ConvGradInput { dy, w, b, dx, geometry } => with_bias(product(dx, w, dy, geometry), 3, b),
        Op::ConvGradWeight { x, dy, dw, geometry } => product(x, dw, dy, geometry),
        Op::SpectralNorm { w: a, uv, y: b, .. } | Op::SpectralNormGrad { dw: a, uv, y: b, .. } => {
            let rows = size(a, 0) * size(a, 1);
            vec![
                scaled(size(a, 2), &[(a, 2, 1), (b, 2, 1), (uv, 0, rows)]),
                scaled(size(a, 3), &[(a, 3, 1), (b, 3, 1), (uv, 0, 1)]),
            ]
        }
        Op::BiasGrad { dy, db } => {
            let mut axes = alike(&[dy], 0);
            axes[3].dimensions.push(((db, 0), 1));
            axes
        }
        Op::BatchNorm { x, affine, y, saved, running, groups, .. } => {
            normalised(&[x, y], groups, &[(affine, 1), (saved, 2), (running, 1)])
        }
        Op::BatchNormEval { x, affine, running, y, .. } => normalised(&[x, y], 1, &[(affine, 1), (running, 1)]),
        Op::BatchNormGrad { x, dy, affine, saved, dx, daffine, groups } => {
            let of_channels = [(affine, 1), (saved, 2)].into_iter().chain(daffine.map(|daffine| (daffine, 1)));
            normalised(&[x, dy, dx], groups, &of_channels.collect::<Vec<_>>())
        }
        Op::Upsample { x, y } | Op::UpsampleGrad { dy: y, dx: x } => {
            let factor = size(y, 1) / size(x, 1);
            vec![
                shared(&[(x, 0), (y, 0)]),
                scaled(size(x, 1), &[(x, 1, 1), (y, 1, factor)]),
                scaled(size(x, 2), &[(x, 2, 1), (y, 2, factor)]),
                shared(&[(x, 3), (y, 3)]),
            ]
        }
        Op::MaxPool { x, y, size: window } => pooled(&[x], y, window, program),
        Op::MaxPoolGrad { x, dy, dx, size: window } => pooled(&[x, dx], dy, window, program),
        Op::MinibatchDeviation { x, y, group } => deviation(&[x], y, group, program),
        Op::MinibatchDeviationGrad { x, dy, dx, group } => deviation(&[x, dx], dy, group, program),
        Op::DiscriminatorLoss { logits, dlogits, .. } => {
            vec![scaled(size(logits, 0) / 2, &[(logits, 0, 2), (dlogits, 0, 2)])]
        }
        Op::GeneratorLoss { logits, reals, dlogits, .. } => {
            let tensors = [logits, dlogits].into_iter().chain(reals);
            vec![shared(&tensors.map(|tensor| (tensor, 0)).collect::<Vec<_>>())]
        }
        Op::CrossEntropy { logits, labels, dlogits, .. } => {
            vec![shared(&[(logits, 0), (labels, 0), (dlogits, 0)]), shared(&[(logits, 3), (dlogits, 3)])]
        }
    }
}

/// The axes of max pooling: of images, and of their maxima.
fn pooled(images: &[TensorId], maxima: TensorId, window: usize, program: &Program) -> Vec<Axis> {
    let axis = |index: usize, scale: usize| Axis {
        size: program.shape(maxima)[index],
        dimensions: images.iter().map(|&tensor| ((tensor, index), scale)).chain([((maxima, index), 1)]).collect(),
    };
    vec![axis(0, 1), axis(1, window), axis(2, window), axis(3, 1)]
}

/// The axes of minibatch deviation: of images, and of images with one more channel.
fn deviation(images: &[TensorId], wider: TensorId, group: usize, program: &Program) -> Vec<Axis> {
    let axis = |index: usize, scale: usize| Axis {
        size: program.shape(images[0])[index] / scale,
        dimensions: images.iter().chain([&wider]).map(|&tensor| ((tensor, index), scale)).collect(),
    };
    vec![axis(0, group), axis(1, 1), axis(2, 1), axis(3, 1)]
}

/// The shapes of all tensors of operations where one axis of one of the operations has `fewer` elements less. Only the tensors whose
/// shapes change are listed. `None` if a tensor of another operation cannot change in this way.
pub(super) fn reduced(
    ops: &[Op],
    program: &Program,
    [op, axis]: [usize; 2],
    fewer: usize,
) -> Option<BTreeMap<TensorId, Vec<usize>>> {
    let all: Vec<Vec<Axis>> = ops.iter().map(|op| axes(op, program)).collect();
    // By how many elements each axis and each dimension shrinks.
    let mut of_axes: BTreeMap<[usize; 2], usize> = BTreeMap::from([([op, axis], fewer)]);
    let mut of_dimensions: BTreeMap<Dimension, usize> = BTreeMap::new();
    let mut open = vec![[op, axis]];
    while let Some(at @ [op, axis]) = open.pop() {
        for &(dimension, scale) in &all[op][axis].dimensions {
            let less = scale * of_axes[&at];
            if *of_dimensions.entry(dimension).or_insert(less) != less {
                return None;
            }
            // The other operations on this tensor shrink by an axis of their own.
            for (other, axes) in all.iter().enumerate() {
                if !ops[other].operands().iter().any(|operand| operand.tensor == dimension.0) {
                    continue;
                }
                let scales: Vec<([usize; 2], usize)> = axes
                    .iter()
                    .enumerate()
                    .filter_map(|(axis, Axis { dimensions, .. })| {
                        let scale = dimensions.iter().find(|(known, _)| *known == dimension)?.1;
                        Some(([other, axis], scale))
                    })
                    .collect();
                let explained: usize =
                    scales.iter().map(|(axis, scale)| scale * of_axes.get(axis).copied().unwrap_or(0)).sum();
                match scales[..] {
                    _ if explained == less => {}
                    [(axis, scale)] if explained == 0 && less.is_multiple_of(scale) => {
                        of_axes.insert(axis, less / scale);
                        open.push(axis);
                    }
                    _ => return None,
                }
            }
        }
    }
    let mut shapes: BTreeMap<TensorId, Vec<usize>> = BTreeMap::new();
    for ((tensor, index), less) in of_dimensions {
        let shape = shapes.entry(tensor).or_insert_with(|| program.shape(tensor).to_vec());
        shape[index] = shape[index].checked_sub(less).filter(|&size| size > 0)?;
    }
    Some(shapes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Activation;

    #[test]
    fn operations_that_share_a_tensor_shrink_together_and_a_stride_shrinks_the_input_by_more() {
        let mut program = Program::new();
        let x = program.tensor("x", &[4, 9, 9, 3]);
        let w = program.tensor("w", &[3, 3, 3, 5]);
        let [y, z] = ["y", "z"].map(|name| program.tensor(name, &[4, 4, 4, 5]));
        let geometry = Geometry { kernel: 3, stride: 2, pad: 0 };
        let ops = [Op::Conv { x, w, b: None, y, geometry }, Op::Activation { kind: Activation::Tanh, x: y, y: z }];
        // One row of y less, and two rows of x.
        let shapes = reduced(&ops, &program, [0, 1], 1).unwrap();
        let expected = [(x, vec![4, 7, 9, 3]), (y, vec![4, 3, 4, 5]), (z, vec![4, 3, 4, 5])];
        assert_eq!(shapes, BTreeMap::from(expected));
        // The channels of z are those of the weights.
        let shapes = reduced(&ops, &program, [1, 3], 4).unwrap();
        assert_eq!(shapes.get(&w), Some(&vec![3, 3, 3, 1]));
        assert_eq!(reduced(&ops, &program, [0, 0], 4), None, "a batch has at least one image");
    }
}
