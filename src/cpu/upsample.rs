//! Nearest-neighbour upsampling. Twin of `upsample.wgsl`.

use rayon::prelude::*;

use super::{CHUNK, Scalar};

/// `y[n,h,w,c] = x[n, h/F, w/F, c]`; `small` is the shape of x, `large` that of y.
pub(super) fn forward<T: Scalar>(small: [usize; 4], large: [usize; 4], x: &[T], y: &mut [T]) {
    let ([_, h, w, c], [_, h_out, w_out, _]) = (small, large);
    let factor = h_out / h;
    let row = w_out * c;
    y.par_chunks_mut(row).enumerate().with_min_len(CHUNK.div_ceil(row)).for_each(|(line, y)| {
        let (n, i) = (line / h_out, line % h_out / factor);
        let x = &x[(n * h + i) * w * c..][..w * c];
        for (y, x) in y.chunks_exact_mut(factor * c).zip(x.chunks_exact(c)) {
            y.chunks_exact_mut(c).for_each(|y| y.copy_from_slice(x));
        }
    });
}

/// `dx[n,h,w,c] = sum_{u,v} dy[n, h*F+u, w*F+v, c]`; `small` is the shape of dx, `large` that of dy.
pub(super) fn grad<T: Scalar>(small: [usize; 4], large: [usize; 4], dy: &[T], dx: &mut [T]) {
    let ([_, h, w, c], [_, h_out, w_out, _]) = (small, large);
    let factor = h_out / h;
    let row = w * c;
    dx.par_chunks_mut(row).enumerate().with_min_len(CHUNK.div_ceil(factor * factor * row)).for_each(|(line, dx)| {
        let (n, i) = (line / h, line % h);
        dx.fill(T::ZERO);
        for u in 0..factor {
            let dy = &dy[(n * h_out + i * factor + u) * w_out * c..][..w_out * c];
            for (dx, dy) in dx.chunks_exact_mut(c).zip(dy.chunks_exact(factor * c)) {
                for dy in dy.chunks_exact(c) {
                    for (dx, &dy) in dx.iter_mut().zip(dy) {
                        *dx += dy;
                    }
                }
            }
        }
    });
}
