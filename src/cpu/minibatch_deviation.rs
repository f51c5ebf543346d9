//! The standard deviation of a minibatch. Twin of `minibatch_deviation.wgsl`.

use rayon::prelude::*;

use super::Scalar;

/// The mean of one element over the images of a group, minus its value in the first image, and its standard deviation.
fn spread<T: Scalar>(x: &[T], len: usize, group: usize, i: usize) -> (T, T) {
    let scale = T::from_f64(1.0 / group as f64);
    let offset = |g: usize| x[g * len + i] - x[i];
    let mean = (0..group).fold(T::ZERO, |sum, g| sum + offset(g)) * scale;
    let variance = (0..group).fold(T::ZERO, |sum, g| sum + (offset(g) - mean) * (offset(g) - mean)) * scale;
    (mean, (variance + T::from_f64(1e-8)).sqrt())
}

/// `y` is `x` with the mean deviation of the group after the channels of each pixel; `shape` is the shape of x.
pub(super) fn forward<T: Scalar>([_, h, w, c]: [usize; 4], group: usize, x: &[T], y: &mut [T]) {
    let (len, out) = (h * w * c, h * w * (c + 1));
    y.par_chunks_mut(group * out).zip(x.par_chunks(group * len)).for_each(|(y, x)| {
        let sum = (0..len).fold(T::ZERO, |sum, i| sum + spread(x, len, group, i).1);
        let mean = sum * T::from_f64(1.0 / len as f64);
        for (y, x) in y.chunks_exact_mut(c + 1).zip(x.chunks_exact(c)) {
            y[..c].copy_from_slice(x);
            y[c] = mean;
        }
    });
}

/// `dx[n,h,w,c] = dy[n,h,w,c] + S / (H*W*C*group) * d / deviation`; `shape` is the shape of x.
pub(super) fn grad<T: Scalar>([_, h, w, c]: [usize; 4], group: usize, x: &[T], dy: &[T], dx: &mut [T]) {
    let (len, out) = (h * w * c, h * w * (c + 1));
    let groups = x.par_chunks(group * len).zip(dy.par_chunks(group * out));
    dx.par_chunks_mut(group * len).zip(groups).for_each(|(dx, (x, dy))| {
        let sum = dy.chunks_exact(c + 1).fold(T::ZERO, |sum, dy| sum + dy[c]);
        let share = sum * T::from_f64(1.0 / (len * group) as f64);
        for (dx, dy) in dx.chunks_exact_mut(c).zip(dy.chunks_exact(c + 1)) {
            dx.copy_from_slice(&dy[..c]);
        }
        for i in 0..len {
            let (mean, deviation) = spread(x, len, group, i);
            for g in 0..group {
                dx[g * len + i] += share * ((x[g * len + i] - x[i] - mean) / deviation);
            }
        }
    });
}
