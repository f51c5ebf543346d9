//! The gradient of a bias. Twin of `bias.wgsl`.

use super::memory::Scratch;
use super::{Scalar, rows};

/// `db[c] = sum_{n,h,w} dy[n,h,w,c]`.
pub(super) fn grad<T: Scalar>(dy: &[T], db: &mut [T], scratch: &mut Scratch<T>) {
    let c = db.len();
    let sums = rows::sums(dy.len() / c, c, scratch, |rows, sums| {
        for dy in dy[rows.start * c..rows.end * c].chunks_exact(c) {
            for (sum, &dy) in sums.iter_mut().zip(dy) {
                *sum += dy;
            }
        }
    });
    db.copy_from_slice(sums);
}
