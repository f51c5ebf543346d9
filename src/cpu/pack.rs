//! Packing of several images into the channels of one. Twin of `pack.wgsl`.

use rayon::prelude::*;

use super::{CHUNK, Scalar};

/// `y[n,h,w,j*C+c] = x[n*m+j,h,w,c]`; `single` is the shape of x, (N, H, W, C), and m the number of images in a pack.
pub(super) fn forward<T: Scalar>(single: [usize; 4], m: usize, x: &[T], y: &mut [T]) {
    let [_, h, w, c] = single;
    let pack = m * h * w * c;
    y.par_chunks_mut(pack).zip(x.par_chunks(pack)).with_min_len(CHUNK.div_ceil(pack)).for_each(|(y, x)| {
        for (j, x) in x.chunks_exact(h * w * c).enumerate() {
            for (y, x) in y.chunks_exact_mut(m * c).zip(x.chunks_exact(c)) {
                y[j * c..][..c].copy_from_slice(x);
            }
        }
    });
}

/// `dx[n*m+j,h,w,c] = dy[n,h,w,j*C+c]`; `single` is the shape of dx, (N, H, W, C), and m the number of images in a pack.
pub(super) fn grad<T: Scalar>(single: [usize; 4], m: usize, dy: &[T], dx: &mut [T]) {
    let [_, h, w, c] = single;
    let pack = m * h * w * c;
    dx.par_chunks_mut(pack).zip(dy.par_chunks(pack)).with_min_len(CHUNK.div_ceil(pack)).for_each(|(dx, dy)| {
        for (j, dx) in dx.chunks_exact_mut(h * w * c).enumerate() {
            for (dx, dy) in dx.chunks_exact_mut(c).zip(dy.chunks_exact(m * c)) {
                dx.copy_from_slice(&dy[j * c..][..c]);
            }
        }
    });
}
