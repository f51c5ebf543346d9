//! Batch normalisation. Twin of `batch_norm.wgsl`.

use rayon::prelude::*;

use super::memory::Scratch;
use super::rows::sums;
use super::{CHUNK, Scalar};

/// What batch normalisation is set to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Constants {
    pub(super) eps: f64,
    pub(super) momentum: f64,
}

/// `y = gamma * (x - mean) * inv_std + beta` with the statistics of each group, which go to `saved` (groups, 2, C) and
/// into `running` (2, C).
pub(super) fn forward<T: Scalar>(
    constants: Constants,
    x: &[T],
    affine: &[T],
    y: &mut [T],
    saved: &mut [T],
    running: &mut [T],
    scratch: &mut Scratch<T>,
) {
    let c = affine.len() / 2;
    let len = x.len() / (saved.len() / affine.len()); // of a group
    let groups = x.chunks_exact(len).zip(y.chunks_exact_mut(len)).zip(saved.chunks_exact_mut(2 * c));
    for ((x, y), saved) in groups {
        let (mean, inv_std) = saved.split_at_mut(c);
        statistics(constants, x, mean, inv_std, running, scratch);
        normalize(x, affine, mean, inv_std, y);
    }
}

/// `y = gamma * (x - mean) / sqrt(variance + eps) + beta` with the running statistics.
pub(super) fn eval<T: Scalar>(eps: f64, x: &[T], affine: &[T], running: &[T], y: &mut [T], scratch: &mut Scratch<T>) {
    let (mean, variance) = running.split_at(affine.len() / 2);
    let inv_std = scratch.take(variance.len());
    for (inv_std, variance) in inv_std.iter_mut().zip(variance) {
        *inv_std = T::from_f64(1.0 / (variance.to_f64() + eps).sqrt());
    }
    normalize(x, affine, mean, inv_std, y);
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
    let len = x.len() / (saved.len() / affine.len()); // of a group
    if let Some(daffine) = &mut daffine {
        daffine.fill(T::ZERO);
    }
    let groups = x.chunks_exact(len).zip(dy.chunks_exact(len)).zip(dx.chunks_exact_mut(len));
    for (((x, dy), dx), saved) in groups.zip(saved.chunks_exact(2 * c)) {
        let (mean, inv_std) = saved.split_at(c);
        let sums = sums(len / c, 2 * c, scratch, |rows, sums| {
            let rows = rows.start * c..rows.end * c;
            add_gradients(&x[rows.clone()], &dy[rows], mean, sums);
        });
        let (dbeta, dgamma) = sums.split_at_mut(c);
        for (dgamma, &inv_std) in dgamma.iter_mut().zip(inv_std) {
            *dgamma = *dgamma * inv_std;
        }
        if let Some(daffine) = &mut daffine {
            for (sum, &part) in daffine.iter_mut().zip(dgamma.iter().chain(dbeta.iter())) {
                *sum += part;
            }
        }
        grad_input(x, dy, &affine[..c], (mean, inv_std), (dgamma, dbeta), dx);
    }
}

/// Mean and `1 / sqrt(variance + eps)` of the rows of a group, and
/// `running = (1 - momentum) * running + momentum * batch`, with the unbiased variance.
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
    let (running_mean, running_variance) = running.split_at_mut(c);
    let learn = |running: &mut T, batch: f64| {
        *running = T::from_f64((1.0 - momentum) * running.to_f64() + momentum * batch);
    };

    let totals = sums(x.len() / c, c, scratch, |rows, sums| {
        for x in x[rows.start * c..rows.end * c].chunks_exact(c) {
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum += x;
            }
        }
    });
    for ((mean, running), total) in mean.iter_mut().zip(running_mean).zip(totals) {
        let batch = total.to_f64() / n;
        *mean = T::from_f64(batch);
        learn(running, batch);
    }

    let mean = &*mean;
    let totals = sums(x.len() / c, c, scratch, |rows, sums| {
        for x in x[rows.start * c..rows.end * c].chunks_exact(c) {
            for ((sum, &x), &mean) in sums.iter_mut().zip(x).zip(mean) {
                *sum += (x - mean) * (x - mean);
            }
        }
    });
    for ((inv_std, running), total) in inv_std.iter_mut().zip(running_variance).zip(totals) {
        *inv_std = T::from_f64(1.0 / (total.to_f64() / n + eps).sqrt());
        learn(running, total.to_f64() / (n - 1.0));
    }
}

/// `y = gamma * (x - mean) * inv_std + beta`.
fn normalize<T: Scalar>(x: &[T], affine: &[T], mean: &[T], inv_std: &[T], y: &mut [T]) {
    let c = mean.len();
    let (gamma, beta) = affine.split_at(c);
    let chunk = CHUNK.next_multiple_of(c); // whole rows
    y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(y, x)| {
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            let channels = gamma.iter().zip(beta).zip(mean).zip(inv_std);
            for ((y, &x), (((&gamma, &beta), &mean), &inv_std)) in y.iter_mut().zip(x).zip(channels) {
                *y = gamma * ((x - mean) * inv_std) + beta;
            }
        }
    });
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
