//! The gradient of a bias. Twin of `bias.wgsl`.

use rayon::prelude::*;

use super::Scalar;
use super::memory::Scratch;
use super::rows::{ROWS, sums};

/// `db[c] = sum_{n,h,w} dy[n,h,w,c]`.
pub(super) fn grad<T: Scalar>(dy: &[T], db: &mut [T], scratch: &mut Scratch<T>) {
    let c = db.len();
    let sums = sums(c, scratch, dy.par_chunks(ROWS * c), |dy, sums| {
        for dy in dy.chunks_exact(c) {
            for (sum, &dy) in sums.iter_mut().zip(dy) {
                *sum += dy;
            }
        }
    });
    db.copy_from_slice(sums);
}
