//! Products followed by batch normalisation, and their gradients: fused kernels pass partial sums to each other.

use super::{KINDS, batch_norm, convolution, shape};
use crate::program::{Op, Program, TensorId};
use crate::verify::Case;

/// Cases with partial sums that groups and phases do not divide, and with split sums, for few and for many rows.
pub(super) fn products_with_batch_norm() -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, shape) in [
        shape(4, [13, 13], [3, 17], [5, 2, 0]), // phases of four sizes
        shape(4, [2, 2], [3, 5], [2, 3, 0]),    // phases without a pixel
        shape(6, [9, 8], [14, 66], [3, 1, 1]),  // one column more than a wide tile; tiles that groups do not divide
        shape(66, [5, 5], [3, 4], [4, 2, 1]),   // images in several tiles
        shape(2, [80, 80], [1, 70], [1, 1, 0]), // many partial sums
        shape(4, [6, 5], [70, 8], [3, 1, 1]),   // a split sum, forward
        shape(2, [40, 30], [40, 5], [3, 1, 1]), // more rows than one dispatch computes
        shape(2, [40, 30], [5, 40], [3, 1, 1]), // more rows than one dispatch computes, backward
        shape(64, [8, 8], [16, 64], [4, 2, 1]), // divisible by all sizes
    ]
    .into_iter()
    .enumerate()
    {
        let geometry = shape.geometry;
        let forward = |program: &mut Program| {
            let [x, w, y, _] = convolution(program, shape);
            (Op::Conv { x, w, b: None, y, geometry }, y)
        };
        let backward = |program: &mut Program| {
            let [dx, w, dy, _] = convolution(program, shape);
            (Op::ConvGradInput { dy, w, b: None, dx, geometry }, dx)
        };
        let kind = KINDS[number % KINDS.len()];
        for product in [&forward as &dyn Fn(&mut Program) -> (Op, TensorId), &backward] {
            for groups in [1, 2] {
                for activation in [true, false].into_iter().take(if number == 0 { 2 } else { 1 }) {
                    cases.push(Case::sequence(1, |program| {
                        let (product, result) = product(program);
                        let shape = program.nhwc(result);
                        let mut norm = batch_norm(program, &shape, groups);
                        let Op::BatchNorm { x, y, .. } = &mut norm else { unreachable!("batch normalisation") };
                        *x = result;
                        let y = *y;
                        let z = program.tensor("z", &shape);
                        let activation = activation.then_some(Op::Activation { kind, x: y, y: z });
                        [product, norm].into_iter().chain(activation).collect()
                    }));
                }
                cases.push(Case::sequence(1, |program| {
                    let (product, dz) = product(program);
                    let shape = program.nhwc(dz);
                    let c = shape[3];
                    let [z, dy, dx, x] = ["z", "dy", "dx", "x"].map(|name| program.tensor(name, &shape));
                    let [affine, saved] = [vec![2, c], vec![groups, 2, c]].map(|shape| program.tensor("saved", &shape));
                    let daffine = (groups == 1).then(|| program.tensor("daffine", &[2, c]));
                    vec![
                        product,
                        Op::ActivationGrad { kind, y: z, dy: dz, dx: dy },
                        Op::BatchNormGrad { x, dy, affine, saved, dx, daffine, groups },
                    ]
                }));
            }
        }
    }
    cases
}
