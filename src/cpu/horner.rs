//! A polynomial by Horner's rule. Twin of `horner.wgsl`.

use pulp::{Arch, Simd, WithSimd};

/// SIMD vectors whose sums are computed at once. A multiply-add takes four cycles on current CPUs, which begin two in each cycle.
const AT_ONCE: usize = 8;

/// `y = a^0 + a^1 + ... + a^degree` without a fused multiply-add: the reference. Some numbers at a time, as each sum waits for the one before.
pub(super) fn plain(degree: u32, a: &[f64], y: &mut [f64]) {
    for (y, a) in y.chunks_mut(2 * AT_ONCE).zip(a.chunks(2 * AT_ONCE)) {
        y.fill(1.0);
        for _ in 0..degree {
            y.iter_mut().zip(a).for_each(|(y, a)| *y = *y * a + 1.0);
        }
    }
}

/// The same for f32, as fast as the CPU can multiply and add.
pub(super) fn with_simd(degree: u32, a: &[f32], y: &mut [f32]) {
    Arch::new().dispatch(Horner { degree, a, y });
}

/// The arguments, for `pulp` to compile the loop for each SIMD instruction set.
struct Horner<'a> {
    degree: u32,
    a: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Horner<'_> {
    type Output = ();

    // Compiled once for each SIMD instruction set.
    #[expect(clippy::inline_always, reason = "a separate function would not be compiled for the instruction set")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { degree, a, y } = self;
        let one = simd.splat_f32s(1.0);
        let ((a, a_rest), (y, y_rest)) = (S::as_simd_f32s(a), S::as_mut_simd_f32s(y));
        let ((a, a_last), (y, y_last)) = (a.as_chunks::<AT_ONCE>(), y.as_chunks_mut::<AT_ONCE>());
        for (y, a) in y.iter_mut().zip(a) {
            let mut sums = [one; AT_ONCE];
            for _ in 0..degree {
                for (sum, a) in sums.iter_mut().zip(a) {
                    *sum = simd.mul_add_f32s(*sum, *a, one);
                }
            }
            *y = sums;
        }
        for (y, a) in y_last.iter_mut().zip(a_last) {
            *y = (0..degree).fold(one, |sum, _| simd.mul_add_f32s(sum, *a, one));
        }
        for (y, a) in y_rest.iter_mut().zip(a_rest) {
            *y = (0..degree).fold(1.0, |sum, _| sum * a + 1.0);
        }
    }
}
