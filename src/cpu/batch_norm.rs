//! Batch normalisation. Twin of `batch_norm.wgsl`.
//!
//! The activation after batch normalisation, and its gradient before the gradient of batch normalisation, are computed chunk by
//! chunk while the chunk is in the cache. So no tensor is read from memory twice.

use rayon::prelude::*;

use super::memory::Scratch;
use super::rows::{ROWS, sums};
use super::{CHUNK, Scalar, activation};
use crate::program::Activation;

/// The settings of batch normalisation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Constants {
    /// The number that is added to the variance.
    pub(super) eps: f64,
    /// The share of the newest batch in the running statistics.
    pub(super) momentum: f64,
}

/// The activation after batch normalisation, with its output.
pub(super) type ActivationAfter<'a, T> = Option<(Activation, &'a mut [T])>;

/// `y = gamma * (x - mean) * inv_std + beta` with the statistics of each group, which go to `saved` (groups, 2, C) and
/// into `running` (2, C). Then applies the activation to `y`.
#[expect(clippy::too_many_arguments, reason = "the operands of the operation")]
pub(super) fn forward<T: Scalar>(
    constants: Constants,
    x: &[T],
    affine: &[T],
    y: &mut [T],
    saved: &mut [T],
    running: &mut [T],
    activation: ActivationAfter<'_, T>,
    scratch: &mut Scratch<T>,
) {
    let c = affine.len() / 2;
    let len = x.len() / (saved.len() / affine.len()); // elements of a group
    let (kind, mut rest) = activation.map_or((None, None), |(kind, z)| (Some(kind), Some(z)));
    let groups = x.chunks_exact(len).zip(y.chunks_exact_mut(len)).zip(saved.chunks_exact_mut(2 * c));
    for ((x, y), saved) in groups {
        let activation = rest.take().map(|all| {
            let (z, others) = all.split_at_mut(len);
            rest = Some(others);
            (kind.expect("an activation has a function and an output"), z)
        });
        let (mean, inv_std) = saved.split_at_mut(c);
        statistics(constants, x, mean, inv_std, running, scratch);
        normalize(x, affine, mean, inv_std, y, activation);
    }
}

/// `y = gamma * (x - mean) / sqrt(variance + eps) + beta` with the running statistics. Then applies the activation to `y`.
pub(super) fn eval<T: Scalar>(
    eps: f64,
    x: &[T],
    affine: &[T],
    running: &[T],
    y: &mut [T],
    activation: ActivationAfter<'_, T>,
    scratch: &mut Scratch<T>,
) {
    let (mean, variance) = running.split_at(affine.len() / 2);
    let inv_std = scratch.take(variance.len());
    for (inv_std, variance) in inv_std.iter_mut().zip(variance) {
        *inv_std = T::from_f64(1.0 / (variance.to_f64() + eps).sqrt());
    }
    normalize(x, affine, mean, inv_std, y, activation);
}

/// With `xhat = (x - mean) * inv_std` and means over the rows of a group:
/// `dx = gamma * inv_std * (dy - mean(dy) - xhat * mean(dy * xhat))`; over all rows, `dgamma = sum dy * xhat` and
/// `dbeta = sum dy`.
pub(super) fn grad<T: Scalar>(
    x: &[T],
    dy: &[T],
    affine: &[T],
    saved: &[T],
    dx: &mut [T],
    mut daffine: Option<&mut [T]>,
    scratch: &mut Scratch<T>,
) {
    let c = affine.len() / 2;
    let len = x.len() / (saved.len() / affine.len()); // elements of a group
    if let Some(daffine) = &mut daffine {
        daffine.fill(T::ZERO);
    }
    let groups = x.chunks_exact(len).zip(dy.chunks_exact(len)).zip(dx.chunks_exact_mut(len));
    for (((x, dy), dx), saved) in groups.zip(saved.chunks_exact(2 * c)) {
        let (mean, inv_std) = saved.split_at(c);
        let parts = x.par_chunks(ROWS * c).zip(dy.par_chunks(ROWS * c));
        let sums = sums(2 * c, scratch, parts, |(x, dy), sums| add_gradients(x, dy, mean, sums));
        grad_of_group(x, dy, &affine[..c], (mean, inv_std), sums, dx, daffine.as_deref_mut());
    }
}

/// [`grad`] after the gradient of an activation, which it writes to `dy`.
#[expect(clippy::too_many_arguments, reason = "the operands of both operations")]
pub(super) fn grad_after_activation<T: Scalar>(
    (kind, z, dz): (Activation, &[T], &[T]),
    x: &[T],
    dy: &mut [T],
    affine: &[T],
    saved: &[T],
    dx: &mut [T],
    mut daffine: Option<&mut [T]>,
    scratch: &mut Scratch<T>,
) {
    let c = affine.len() / 2;
    let len = x.len() / (saved.len() / affine.len()); // elements of a group
    if let Some(daffine) = &mut daffine {
        daffine.fill(T::ZERO);
    }
    let groups = x.chunks_exact(len).zip(dy.chunks_exact_mut(len)).zip(dx.chunks_exact_mut(len));
    let groups = groups.zip(z.chunks_exact(len).zip(dz.chunks_exact(len)));
    for ((((x, dy), dx), (z, dz)), saved) in groups.zip(saved.chunks_exact(2 * c)) {
        let (mean, inv_std) = saved.split_at(c);
        let activations = z.par_chunks(ROWS * c).zip(dz.par_chunks(ROWS * c));
        let parts = x.par_chunks(ROWS * c).zip(dy.par_chunks_mut(ROWS * c)).zip(activations);
        let sums = sums(2 * c, scratch, parts, |((x, dy), (z, dz)), sums| {
            activation::grad_chunk(kind, z, dz, dy);
            add_gradients(x, dy, mean, sums);
        });
        grad_of_group(x, dy, &affine[..c], (mean, inv_std), sums, dx, daffine.as_deref_mut());
    }
}

/// The gradients of a group from `sums`: of `dy`, then of `dy * (x - mean)`.
fn grad_of_group<T: Scalar>(
    x: &[T],
    dy: &[T],
    gamma: &[T],
    (mean, inv_std): (&[T], &[T]),
    sums: &mut [T],
    dx: &mut [T],
    daffine: Option<&mut [T]>,
) {
    let (dbeta, dgamma) = sums.split_at_mut(gamma.len());
    for (dgamma, &inv_std) in dgamma.iter_mut().zip(inv_std) {
        *dgamma = *dgamma * inv_std;
    }
    if let Some(daffine) = daffine {
        for (sum, &part) in daffine.iter_mut().zip(dgamma.iter().chain(dbeta.iter())) {
            *sum += part;
        }
    }
    grad_input(x, dy, gamma, (mean, inv_std), (dgamma, dbeta), dx);
}

/// Computes mean and `1 / sqrt(variance + eps)` of the rows of a group, and updates
/// `running = (1 - momentum) * running + momentum * batch`, with the unbiased variance.
///
/// Each core computes the mean of a part of the rows, and the sum of squared differences from that mean, while the part is in the
/// cache. Both are combined in f64 (Chan, Golub and `LeVeque` 1979).
fn statistics<T: Scalar>(
    constants: Constants,
    x: &[T],
    mean: &mut [T],
    inv_std: &mut [T],
    running: &mut [T],
    scratch: &mut Scratch<T>,
) {
    let Constants { eps, momentum } = constants;
    let c = mean.len();
    let n = (x.len() / c) as f64;
    let partials = scratch.take(x.len().div_ceil(ROWS * c) * 2 * c);
    partials.par_chunks_mut(2 * c).zip(x.par_chunks(ROWS * c)).for_each(|(partial, x)| {
        let (mean, squares) = partial.split_at_mut(c);
        mean_and_squares(x, mean, squares);
    });

    let learn = |running: &mut T, batch: f64| {
        *running = T::from_f64((1.0 - momentum) * running.to_f64() + momentum * batch);
    };
    let (running_mean, running_variance) = running.split_at_mut(c);
    let statistics = mean.iter_mut().zip(inv_std).zip(running_mean).zip(running_variance);
    for (column, (((mean, inv_std), running_mean), running_variance)) in statistics.enumerate() {
        // The number of rows, the mean and the sum of squares of each part.
        let parts = || {
            partials
                .chunks_exact(2 * c)
                .zip(x.chunks(ROWS * c))
                .map(|(partial, x)| ((x.len() / c) as f64, partial[column].to_f64(), partial[c + column].to_f64()))
        };
        let average = parts().map(|(rows, mean, _)| rows * mean).sum::<f64>() / n;
        let squares: f64 = parts().map(|(rows, mean, squares)| squares + rows * (mean - average).powi(2)).sum();
        *mean = T::from_f64(average);
        *inv_std = T::from_f64(1.0 / (squares / n + eps).sqrt());
        learn(running_mean, average);
        learn(running_variance, squares / (n - 1.0));
    }
}

/// The mean of the rows `x`, and the sum of squared differences from it.
fn mean_and_squares<T: Scalar>(x: &[T], mean: &mut [T], squares: &mut [T]) {
    let c = mean.len();
    mean.fill(T::ZERO);
    for x in x.chunks_exact(c) {
        for (sum, &x) in mean.iter_mut().zip(x) {
            *sum += x;
        }
    }
    let rows = T::from_f64((x.len() / c) as f64);
    for sum in &mut *mean {
        *sum = *sum / rows;
    }
    squares.fill(T::ZERO);
    for x in x.chunks_exact(c) {
        for ((sum, &x), &mean) in squares.iter_mut().zip(x).zip(&*mean) {
            *sum += (x - mean) * (x - mean);
        }
    }
}

/// `y = gamma * (x - mean) * inv_std + beta`, then applies the activation to `y`.
fn normalize<T: Scalar>(
    x: &[T],
    affine: &[T],
    mean: &[T],
    inv_std: &[T],
    y: &mut [T],
    activation: ActivationAfter<'_, T>,
) {
    let c = mean.len();
    let (gamma, beta) = affine.split_at(c);
    let chunk = CHUNK.next_multiple_of(c); // whole rows
    let normalize = |x: &[T], y: &mut [T]| {
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            let channels = gamma.iter().zip(beta).zip(mean).zip(inv_std);
            for ((y, &x), (((&gamma, &beta), &mean), &inv_std)) in y.iter_mut().zip(x).zip(channels) {
                *y = gamma * ((x - mean) * inv_std) + beta;
            }
        }
    };
    let chunks = y.par_chunks_mut(chunk).zip(x.par_chunks(chunk));
    match activation {
        None => chunks.for_each(|(y, x)| normalize(x, y)),
        Some((kind, z)) => chunks.zip(z.par_chunks_mut(chunk)).for_each(|((y, x), z)| {
            normalize(x, y);
            activation::forward_chunk(kind, y, z);
        }),
    }
}

/// Adds `dy`, then `dy * (x - mean)`, of each row to the sums.
fn add_gradients<T: Scalar>(x: &[T], dy: &[T], mean: &[T], sums: &mut [T]) {
    let c = mean.len();
    let (dbeta, dgamma) = sums.split_at_mut(c);
    for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
        let channels = dbeta.iter_mut().zip(&mut *dgamma).zip(mean);
        for ((&x, &dy), ((dbeta, dgamma), &mean)) in x.iter().zip(dy).zip(channels) {
            *dbeta += dy;
            *dgamma += dy * (x - mean);
        }
    }
}

/// `dx = gamma * inv_std * (dy - dbeta / n - xhat * dgamma / n)`, with the sums over the n rows of the group.
fn grad_input<T: Scalar>(
    x: &[T],
    dy: &[T],
    gamma: &[T],
    (mean, inv_std): (&[T], &[T]),
    (dgamma, dbeta): (&mut [T], &mut [T]),
    dx: &mut [T],
) {
    let c = gamma.len();
    let n = T::from_f64((x.len() / c) as f64);
    // In place: dx = gamma * inv_std * (dy - mean(dy) - (x - mean) * slope).
    for ((dgamma, dbeta), &inv_std) in dgamma.iter_mut().zip(&mut *dbeta).zip(inv_std) {
        *dgamma = *dgamma * inv_std / n;
        *dbeta = *dbeta / n;
    }
    let (slope, mean_dy) = (&*dgamma, &*dbeta);
    let chunk = CHUNK.next_multiple_of(c); // whole rows
    let chunks = x.par_chunks(chunk).zip(dy.par_chunks(chunk));
    dx.par_chunks_mut(chunk).zip(chunks).for_each(|(dx, (x, dy))| {
        for ((dx, x), dy) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(dy.chunks_exact(c)) {
            let channels = gamma.iter().zip(inv_std).zip(mean).zip(slope).zip(mean_dy);
            for (((dx, &x), &dy), ((((&gamma, &inv_std), &mean), &slope), &mean_dy)) in
                dx.iter_mut().zip(x).zip(dy).zip(channels)
            {
                *dx = gamma * inv_std * (dy - mean_dy - (x - mean) * slope);
            }
        }
    });
}
