//! Convolution with a stride of 1 and its two gradients for few output channels, such as the last layer of a generator.
//!
//! The patches of `x` take K*K times the memory of `x`, and `gemm` computes several columns of a product at a time, most of which
//! would be unused. Here the roles are swapped: not `x` is gathered but the small tensor, `y` or `dy`. A matrix of taps has a row for each
//! output channel and position of the kernel, (o, u, v), and a column for each pixel of `x`: the value of channel o that the pixel and the
//! weights at (u, v) contribute to. With the weights as a matrix `w` (`C_OUT`*K*K, `C_IN`),
//!
//! - `forward` computes `taps = w * x^T`, and adds each row to its channel of `y`;
//! - `grad_input` is `taps(dy)^T * w`;
//! - `grad_weight` is `taps(dy) * x`.
//!
//! A core takes a block of lines of one image at a time.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    ConvSizes, Cores, Geometry, Matrix, PATCHES, PIECES, Scalar, Scratch, add_partials, fill_rows, product, transpose,
};

/// [`super::forward`].
pub(super) fn forward<T: Scalar>(
    sizes: ConvSizes,
    x: &[T],
    w: &[T],
    b: Option<&[T]>,
    y: &mut [T],
    scratch: &mut Scratch<T>,
) {
    let w = transposed(sizes, w, scratch);
    let (line, block) = (sizes.w_out * sizes.c_out, sizes.lines_of_a_block());
    y.par_chunks_mut(sizes.h_out * line).enumerate().for_each(|(n, y)| {
        y.par_chunks_mut(block * line).enumerate().for_each(|(number, y)| {
            let of_y = number * block..number * block + y.len() / line;
            let of_x = sizes.lines_of_x(&of_y);
            let x = sizes.pixels(x, n, &of_x);
            T::with_scratch(y.len() + sizes.rows_of_taps() * of_x.len() * sizes.w, |scratch| {
                let (planes, taps) = scratch.split_at_mut(y.len());
                for (o, plane) in planes.chunks_exact_mut(y.len() / sizes.c_out).enumerate() {
                    plane.fill(b.map_or(T::ZERO, |b| b[o]));
                }
                if !of_x.is_empty() {
                    product(taps, false, w, x.transposed(), Cores::One);
                }
                sizes.for_each_tap(&of_x, &of_y, |tap, value, len| {
                    for (sum, &tap) in planes[value..value + len].iter_mut().zip(&taps[tap..tap + len]) {
                        *sum += tap;
                    }
                });
                interleave(planes, sizes.c_out, y);
            });
        });
    });
}

/// [`super::grad_input`].
pub(super) fn grad_input<T: Scalar>(
    sizes: ConvSizes,
    dy: &[T],
    w: &[T],
    b: Option<&[T]>,
    dx: &mut [T],
    scratch: &mut Scratch<T>,
) {
    let w = transposed(sizes, w, scratch);
    let (line, block) = (sizes.w * sizes.c_in, sizes.lines_of_a_block());
    dx.par_chunks_mut(sizes.image()).enumerate().for_each(|(n, dx)| {
        dx.par_chunks_mut(block * line).enumerate().for_each(|(number, dx)| {
            if let Some(b) = b {
                fill_rows(dx, b);
            }
            let of_x = number * block..number * block + dx.len() / line;
            with_taps(sizes, dy, n, &of_x, |taps| product(dx, b.is_some(), taps.transposed(), w, Cores::One));
        });
    });
}

/// [`super::grad_weight`].
pub(super) fn grad_weight<T: Scalar>(sizes: ConvSizes, x: &[T], dy: &[T], dw: &mut [T], scratch: &mut Scratch<T>) {
    let block = sizes.lines_of_a_block();
    let of_part = sizes.n.div_ceil(PIECES);
    let parts = sizes.n.div_ceil(of_part);
    let (partials, total) = scratch.take((parts + 1) * dw.len()).split_at_mut(parts * dw.len());
    partials.par_chunks_mut(dw.len()).enumerate().for_each(|(part, partial)| {
        let images = part * of_part..sizes.n.min((part + 1) * of_part);
        for n in images.clone() {
            for start in (0..sizes.h).step_by(block) {
                let of_x = start..sizes.h.min(start + block);
                let accumulate = n > images.start || start > 0;
                let x = sizes.pixels(x, n, &of_x);
                with_taps(sizes, dy, n, &of_x, |taps| product(partial, accumulate, taps, x, Cores::One));
            }
        }
    });
    add_partials(partials, total);
    transpose(total, sizes.depth(), dw);
}

/// Calls `work` with the taps of `dy` at the pixels of some lines of x in image `n`.
fn with_taps<T: Scalar>(sizes: ConvSizes, dy: &[T], n: usize, of_x: &Range<usize>, work: impl FnOnce(Matrix<'_, T>)) {
    let ConvSizes { w, h_out, w_out, c_out, .. } = sizes;
    let of_y = sizes.lines_of_y(of_x);
    let line = w_out * c_out;
    let dy = &dy[(n * h_out + of_y.start) * line..][..of_y.len() * line];
    let (rows, pixels) = (sizes.rows_of_taps(), of_x.len() * w);
    T::with_scratch(dy.len() + rows * pixels, |scratch| {
        let (planes, taps) = scratch.split_at_mut(dy.len());
        deinterleave(dy, c_out, planes);
        taps.fill(T::ZERO);
        sizes.for_each_tap(of_x, &of_y, |tap, value, len| {
            taps[tap..tap + len].copy_from_slice(&planes[value..value + len]);
        });
        work(Matrix::new(taps, rows, pixels));
    });
}

/// The weights as a matrix (`C_OUT`*K*K, `C_IN`).
fn transposed<'a, T: Scalar>(sizes: ConvSizes, w: &[T], scratch: &'a mut Scratch<T>) -> Matrix<'a, T> {
    let transposed = scratch.take(w.len());
    transpose(w, sizes.c_out, transposed);
    Matrix::new(transposed, sizes.rows_of_taps(), sizes.c_in)
}

impl ConvSizes {
    /// Rows of the taps, `C_OUT`*K*K.
    fn rows_of_taps(self) -> usize {
        self.c_out * self.geometry.kernel * self.geometry.kernel
    }

    /// The number of lines of x or y whose taps a core gathers at a time.
    fn lines_of_a_block(self) -> usize {
        (PATCHES / (self.rows_of_taps() * self.w)).max(1)
    }

    /// The pixels of lines of x in image `n`, as a matrix with a row for each.
    fn pixels<'a, T: Scalar>(self, x: &'a [T], n: usize, lines: &Range<usize>) -> Matrix<'a, T> {
        let pixels = lines.len() * self.w;
        Matrix::new(&x[(n * self.h + lines.start) * self.w * self.c_in..][..pixels * self.c_in], pixels, self.c_in)
    }

    /// The lines of x that lines of y depend on.
    fn lines_of_x(self, of_y: &Range<usize>) -> Range<usize> {
        let Geometry { kernel, pad, .. } = self.geometry;
        let end = self.h.min((of_y.end + kernel - 1).saturating_sub(pad));
        of_y.start.saturating_sub(pad).min(end)..end
    }

    /// The lines of y that depend on lines of x.
    fn lines_of_y(self, of_x: &Range<usize>) -> Range<usize> {
        let Geometry { kernel, pad, .. } = self.geometry;
        let end = self.h_out.min(of_x.end + pad);
        (of_x.start + pad).saturating_sub(kernel - 1).min(end)..end
    }

    /// Visits the taps of some lines of x and y in runs along a line. Calls `visit` with the index of a run in the taps, its index in
    /// planes (o, i, j) of the lines of y, and its length.
    fn for_each_tap(self, of_x: &Range<usize>, of_y: &Range<usize>, mut visit: impl FnMut(usize, usize, usize)) {
        let Geometry { kernel, pad, .. } = self.geometry;
        for row in 0..self.rows_of_taps() {
            let (o, u, v) = (row / (kernel * kernel), row / kernel % kernel, row % kernel);
            let columns = pad.saturating_sub(v)..self.w_out.min((self.w + pad).saturating_sub(v));
            if columns.is_empty() {
                continue;
            }
            for i in of_y.clone() {
                let a = (i + u).wrapping_sub(pad);
                if of_x.contains(&a) {
                    let tap = (row * of_x.len() + a - of_x.start) * self.w + columns.start + v - pad;
                    let value = (o * of_y.len() + i - of_y.start) * self.w_out + columns.start;
                    visit(tap, value, columns.len());
                }
            }
        }
    }
}

/// Planes (`C_OUT`, H, W) of pixels (H, W, `C_OUT`).
fn deinterleave<T: Scalar>(pixels: &[T], channels: usize, planes: &mut [T]) {
    if channels == 1 {
        return planes.copy_from_slice(pixels);
    }
    for (o, plane) in planes.chunks_exact_mut(pixels.len() / channels).enumerate() {
        plane.iter_mut().zip(pixels.iter().skip(o).step_by(channels)).for_each(|(value, &pixel)| *value = pixel);
    }
}

/// The inverse of [`deinterleave`].
fn interleave<T: Scalar>(planes: &[T], channels: usize, pixels: &mut [T]) {
    if channels == 1 {
        return pixels.copy_from_slice(planes);
    }
    for (o, plane) in planes.chunks_exact(pixels.len() / channels).enumerate() {
        pixels.iter_mut().skip(o).step_by(channels).zip(plane).for_each(|(pixel, &value)| *pixel = value);
    }
}
