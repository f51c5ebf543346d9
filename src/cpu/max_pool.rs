//! Max pooling. Twin of `max_pool.wgsl`.

use rayon::prelude::*;

use super::Scalar;

/// `y[n,i,j,c] = max_{u,v} x[n, i*S+u, j*S+v, c]`; `shape` is that of x.
pub(super) fn forward<T: Scalar>([_, h, w, c]: [usize; 4], size: usize, x: &[T], y: &mut [T]) {
    let (h_out, w_out) = (h / size, w / size);
    y.par_chunks_mut(w_out * c).enumerate().for_each(|(line, y)| {
        let (n, i) = (line / h_out, line % h_out);
        let lines = &x[(n * h + i * size) * w * c..][..size * w * c];
        for (j, y) in y.chunks_exact_mut(c).enumerate() {
            for (channel, y) in y.iter_mut().enumerate() {
                *y = lines[first_maximum(lines, w, c, size, j * size * c + channel)];
            }
        }
    });
}

/// `dx[n,h,w,c] = dy[n, h/S, w/S, c]` at the first maximum of each window, and 0 elsewhere; `shape` is that of x.
pub(super) fn grad<T: Scalar>([_, h, w, c]: [usize; 4], size: usize, x: &[T], dy: &[T], dx: &mut [T]) {
    let (h_out, w_out) = (h / size, w / size);
    let images = dx.par_chunks_mut(h * w * c).zip(x.par_chunks(h * w * c)).zip(dy.par_chunks(h_out * w_out * c));
    images.for_each(|((dx, x), dy)| {
        // Lines after the last whole window have no gradient.
        let lines = dx.par_chunks_mut(size * w * c).zip(x.par_chunks(size * w * c));
        lines.enumerate().for_each(|(i, (dx, x))| {
            dx.fill(T::ZERO);
            let dy = dy.chunks_exact(w_out * c).nth(i).unwrap_or_default();
            for (j, dy) in dy.chunks_exact(c).enumerate() {
                for (channel, &dy) in dy.iter().enumerate() {
                    dx[first_maximum(x, w, c, size, j * size * c + channel)] = dy;
                }
            }
        });
    });
}

/// The index of the first maximum of the window whose first element has the index `first`, in lines of `w` pixels of `c` channels.
/// NaN counts as the largest value.
fn first_maximum<T: Scalar>(lines: &[T], w: usize, c: usize, size: usize, first: usize) -> usize {
    let mut best = first;
    for u in 0..size {
        for v in 0..size {
            let at = first + (u * w + v) * c;
            if exceeds(lines[at], lines[best]) {
                best = at;
            }
        }
    }
    best
}

fn exceeds<T: Scalar>(value: T, best: T) -> bool {
    let is_nan = |value: T| value.partial_cmp(&value).is_none();
    !is_nan(best) && (is_nan(value) || value > best)
}
