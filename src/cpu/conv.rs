//! Convolution and its two gradients. Twin of `conv.wgsl`.
//!
//! A convolution is a matrix product. Row (n, i, j) of the left matrix, the patches, is the K*K*`C_IN` inputs that the kernel
//! covers at that position; `w` as it lies is a matrix (K*K*`C_IN`, `C_OUT`); and the product is `y`, one row per pixel. So
//! `forward` is `patches(x) * w`; `grad_weight` is `patches(x)^T * dy`; and `grad_input` adds each row of `dy * w^T` back to
//! the inputs that the patch was taken from.
//!
//! The patches take K*K/S^2 times the memory of `x`. So they are gathered for a few lines (rows of pixels of `y`) at a time:
//!
//! - Usually each core takes a number of lines that fits its cache, and multiplies them alone.
//! - `gemm` packs `w` again for each product. Where `w` is large, that takes a considerable part of the time, so all cores
//!   gather many lines together and share one product.
//! - Where `x` already is the matrix of patches, nothing is gathered, and all cores share one product.
//! - Where there are few output channels, they are gathered instead of the input channels ([`narrow`]).

mod narrow;

use std::ops::Range;

use rayon::prelude::*;

use super::memory::Scratch;
use super::product::{Cores, Matrix, product};
use super::{CHUNK, Scalar};
use crate::program::Geometry;

/// The number of elements of patches that a core gathers at a time: in f32, half of a second-level cache of 1 MiB.
const PATCHES: usize = 128 * 1024;

/// The smallest number of rows of patches that a core multiplies at a time, unless the convolution has fewer.
const MIN_ROWS: usize = 128;

/// The smallest number of pieces of work, if the lines or images suffice: enough for the cores of a desktop computer.
const PIECES: usize = 16;

/// The number of columns of patches that a task of `grad_weight` gathers, unless the convolution has fewer.
const BLOCK: usize = 128;

/// From this number of elements of `w` on, all cores share one product.
const LARGE_WEIGHTS: usize = 1 << 18;

/// The number of rows of patches that all cores gather together.
const SHARED_ROWS: usize = 1024;

/// The largest number of output channels that [`narrow`] computes. It has been measured with 1 and 3.
const NARROW: usize = 4;

/// The smallest number of rows of patches in a partial sum of `grad_weight`, so that adding the partial sums costs little.
const PART: usize = 1024;

/// The sizes of a convolution from x (N, H, W, `C_IN`) to y (N, `H_OUT`, `W_OUT`, `C_OUT`).
#[derive(Debug, Clone, Copy)]
pub(super) struct ConvSizes {
    /// The number N of images.
    n: usize,
    /// The height H of x, in pixels.
    h: usize,
    /// The width W of x, in pixels.
    w: usize,
    /// The number of channels of x.
    c_in: usize,
    /// The height of y, in pixels.
    h_out: usize,
    /// The width of y, in pixels.
    w_out: usize,
    /// The number of channels of y.
    c_out: usize,
    /// Kernel K, stride S and padding P.
    geometry: Geometry,
}

/// `y[n,i,j,o] = b[o] + sum_{u,v,c} x[n, i*S+u-P, j*S+v-P, c] * w[u,v,c,o]`.
pub(super) fn forward<T: Scalar>(
    sizes: ConvSizes,
    x: &[T],
    w: &[T],
    b: Option<&[T]>,
    y: &mut [T],
    scratch: &mut Scratch<T>,
) {
    if sizes.is_narrow() {
        return narrow::forward(sizes, x, w, b, y, scratch);
    }
    let (depth, w_out, c_out) = (sizes.depth(), sizes.w_out, sizes.c_out);
    let w = Matrix::new(w, depth, c_out);
    if sizes.x_is_patches() {
        return product_and_bias(y, Matrix::new(x, sizes.rows(), depth), w, b, Cores::All);
    }
    if sizes.has_large_weights() {
        let (line, step) = (w_out * c_out, sizes.shared_lines());
        for (number, y) in y.chunks_mut(step * line).enumerate() {
            let lines = number * step..number * step + y.len() / line;
            let patches = gather_all(sizes, x, lines, scratch);
            product_and_bias(y, patches, w, b, Cores::All);
        }
        return;
    }
    let lines = sizes.lines_of_a_piece();
    y.par_chunks_mut(lines * w_out * c_out).enumerate().for_each(|(piece, y)| {
        let rows = y.len() / c_out;
        let lines = piece * lines..piece * lines + rows / w_out;
        for columns in sizes.blocks_of_columns(rows) {
            let block = columns.len();
            T::with_scratch(rows * block, |patches| {
                gather(sizes, x, lines.clone(), columns.clone(), patches);
                let (patches, w) = (Matrix::new(patches, rows, block), w.rows(columns.start, block));
                if columns.start == 0 {
                    product_and_bias(y, patches, w, b, Cores::One);
                } else {
                    product(y, true, patches, w, Cores::One);
                }
            });
        }
    });
}

/// `dx[n,h,w,c] = b[c] + sum dy[n,i,j,o] * w[u,v,c,o]` over all (i, j, u, v, o) with `h = i*S+u-P` and `w = j*S+v-P`.
pub(super) fn grad_input<T: Scalar>(
    sizes: ConvSizes,
    dy: &[T],
    w: &[T],
    b: Option<&[T]>,
    dx: &mut [T],
    scratch: &mut Scratch<T>,
) {
    if sizes.is_narrow() {
        return narrow::grad_input(sizes, dy, w, b, dx, scratch);
    }
    let (depth, c_out) = (sizes.depth(), sizes.c_out);
    if !sizes.x_is_patches() && sizes.has_large_weights() {
        return grad_input_shared(sizes, dy, w, b, dx, scratch);
    }
    // `gemm` accepts a transposed matrix, but would transpose it again for each piece of work.
    let transposed = scratch.take(w.len());
    transpose(w, c_out, transposed);
    let w = Matrix::new(transposed, c_out, depth); // (C_OUT, K*K*C_IN)
    if sizes.x_is_patches() {
        return product_and_bias(dx, Matrix::new(dy, sizes.rows(), c_out), w, b, Cores::All);
    }
    // Patches overlap within an image, so one core adds all patches of an image.
    let lines = sizes.lines_of_a_piece();
    let images = lines.div_ceil(sizes.h_out);
    let line = sizes.w_out * c_out;
    let pieces = dy.par_chunks(images * sizes.h_out * line);
    dx.par_chunks_mut(images * sizes.image()).zip(pieces).for_each(|(dx, dy)| {
        match b {
            Some(b) => fill_rows(dx, b),
            None => dx.fill(T::ZERO),
        }
        for (part, dy) in dy.chunks(lines * line).enumerate() {
            let rows = dy.len() / c_out;
            let lines = part * lines..part * lines + rows / sizes.w_out;
            for columns in sizes.blocks_of_columns(rows) {
                let block = columns.len();
                T::with_scratch(rows * block, |patches| {
                    product(patches, false, Matrix::new(dy, rows, c_out), w.columns(columns.start, block), Cores::One);
                    scatter(sizes, patches, lines.clone(), columns, dx);
                });
            }
        }
    });
}

/// [`grad_input`] where all cores share each product; a product computes the patches of a few whole images.
fn grad_input_shared<T: Scalar>(
    sizes: ConvSizes,
    dy: &[T],
    w: &[T],
    b: Option<&[T]>,
    dx: &mut [T],
    scratch: &mut Scratch<T>,
) {
    let (depth, c_out) = (sizes.depth(), sizes.c_out);
    let w = Matrix::new(w, depth, c_out).transposed();
    let rows_of_image = sizes.h_out * sizes.w_out;
    let images = (SHARED_ROWS / rows_of_image).max(1);
    let pieces = dy.chunks(images * rows_of_image * c_out);
    for (dx, dy) in dx.chunks_mut(images * sizes.image()).zip(pieces) {
        let rows = dy.len() / c_out;
        let patches = scratch.take(rows * depth);
        product(patches, false, Matrix::new(dy, rows, c_out), w, Cores::All);
        let images = dx.par_chunks_mut(sizes.image()).zip(patches.par_chunks(rows_of_image * depth));
        images.for_each(|(dx, patches)| {
            match b {
                Some(b) => fill_rows(dx, b),
                None => dx.fill(T::ZERO),
            }
            scatter(sizes, patches, 0..sizes.h_out, 0..depth, dx);
        });
    }
}

/// `dw[u,v,c,o] = sum_{n,i,j} x[n, i*S+u-P, j*S+v-P, c] * dy[n,i,j,o]`.
///
/// The K*K*`C_IN` rows of `dw` are divided into blocks. Where the blocks are too few pieces of work, the lines are divided as well,
/// and the partial sums are added at the end, in order.
pub(super) fn grad_weight<T: Scalar>(sizes: ConvSizes, x: &[T], dy: &[T], dw: &mut [T], scratch: &mut Scratch<T>) {
    if sizes.is_narrow() {
        return narrow::grad_weight(sizes, x, dy, dw, scratch);
    }
    let (depth, c_out) = (sizes.depth(), sizes.c_out);
    if !sizes.x_is_patches() && sizes.has_large_weights() {
        let step = sizes.shared_lines();
        for first in (0..sizes.lines()).step_by(step) {
            let lines = first..sizes.lines().min(first + step);
            let rows = lines.start * sizes.w_out..lines.end * sizes.w_out;
            let patches = gather_all(sizes, x, lines, scratch);
            let dy = Matrix::new(&dy[rows.start * c_out..rows.end * c_out], rows.len(), c_out);
            product(dw, first > 0, patches.transposed(), dy, Cores::All);
        }
        return;
    }
    let blocks = depth.div_ceil(BLOCK);
    let parts = PIECES.div_ceil(blocks).min(sizes.rows().div_ceil(PART));
    let lines = sizes.lines().div_ceil(parts); // lines of a part
    let parts = sizes.lines().div_ceil(lines);

    let sum_part = |part: usize, dw: &mut [T]| {
        dw.par_chunks_mut(BLOCK * c_out).enumerate().for_each(|(block, dw)| {
            let columns = block * BLOCK..block * BLOCK + dw.len() / c_out;
            sum_lines(sizes, x, dy, part * lines..sizes.lines().min((part + 1) * lines), columns, dw);
        });
    };
    if parts == 1 {
        return sum_part(0, dw);
    }
    let partials = scratch.take(parts * dw.len());
    partials.par_chunks_mut(dw.len()).enumerate().for_each(|(part, dw)| sum_part(part, dw));
    add_partials(partials, dw);
}

/// The sum of partial sums of `dw`, in order.
fn add_partials<T: Scalar>(partials: &[T], dw: &mut [T]) {
    let len = dw.len();
    dw.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, dw)| {
        dw.fill(T::ZERO);
        for partial in partials.chunks_exact(len) {
            for (sum, &partial) in dw.iter_mut().zip(&partial[chunk * CHUNK..]) {
                *sum += partial;
            }
        }
    });
}

/// `patches(x)^T * dy` for the given columns of the patches, summed over the given lines.
fn sum_lines<T: Scalar>(sizes: ConvSizes, x: &[T], dy: &[T], lines: Range<usize>, columns: Range<usize>, dw: &mut [T]) {
    let ConvSizes { w_out, c_out, .. } = sizes;
    let depth = columns.len();
    let step = if sizes.x_is_patches() { lines.len() } else { sizes.lines_at_a_time(depth) };
    for first in lines.clone().step_by(step) {
        let part = first..lines.end.min(first + step);
        let rows = part.start * w_out..part.end * w_out;
        let accumulate = first > lines.start;
        let dy = Matrix::new(&dy[rows.start * c_out..rows.end * c_out], rows.len(), c_out);
        let add = |dw: &mut [T], patches: Matrix<'_, T>| {
            product(dw, accumulate, patches.transposed(), dy, Cores::One);
        };
        if sizes.x_is_patches() {
            let x = &x[rows.start * sizes.depth()..rows.end * sizes.depth()];
            add(dw, Matrix::new(x, rows.len(), sizes.depth()).columns(columns.start, depth));
        } else {
            T::with_scratch(rows.len() * depth, |patches| {
                gather(sizes, x, part, columns.clone(), patches);
                add(dw, Matrix::new(patches, rows.len(), depth));
            });
        }
    }
}

impl ConvSizes {
    pub(super) fn new(x: [usize; 4], y: [usize; 4], geometry: Geometry) -> Self {
        let ([n, h, w, c_in], [_, h_out, w_out, c_out]) = (x, y);
        Self { n, h, w, c_in, h_out, w_out, c_out, geometry }
    }

    /// Columns of the patches, K*K*`C_IN`.
    fn depth(self) -> usize {
        self.geometry.kernel * self.geometry.kernel * self.c_in
    }

    /// Rows of pixels of y, in all images.
    fn lines(self) -> usize {
        self.n * self.h_out
    }

    /// Rows of the patches and pixels of y.
    fn rows(self) -> usize {
        self.lines() * self.w_out
    }

    /// Elements of an image of x.
    fn image(self) -> usize {
        self.h * self.w * self.c_in
    }

    /// Whether x, as it is stored, is the matrix of patches. It is if the kernel is one pixel with a stride of 1, or covers the
    /// whole image.
    fn x_is_patches(self) -> bool {
        let Geometry { kernel, stride, pad } = self.geometry;
        let pixel = kernel == 1 && stride == 1 && (self.h_out, self.w_out) == (self.h, self.w);
        let image = (self.h, self.w) == (kernel, kernel) && (self.h_out, self.w_out) == (1, 1);
        pad == 0 && (pixel || image)
    }

    /// Whether the output channels are gathered instead of the input channels.
    fn is_narrow(self) -> bool {
        let Geometry { kernel, stride, .. } = self.geometry;
        kernel > 1 && stride == 1 && self.c_out <= NARROW && 4 * self.c_out <= self.c_in && !self.x_is_patches()
    }

    /// Whether packing `w` takes a considerable part of a product with the rows of one core.
    fn has_large_weights(self) -> bool {
        self.depth() * self.c_out >= LARGE_WEIGHTS
    }

    /// The number of lines of patches that all cores gather together.
    fn shared_lines(self) -> usize {
        (SHARED_ROWS / self.w_out).max(1)
    }

    /// The number of lines of patches with `columns` columns that a core gathers at a time.
    fn lines_at_a_time(self, columns: usize) -> usize {
        (PATCHES / (self.w_out * columns)).max(1)
    }

    /// The number of lines of whole patches that a core multiplies at a time: the number that it gathers at once, but enough that
    /// packing the weights, which each product repeats, takes the smaller part of the time.
    fn lines_of_a_piece(self) -> usize {
        let lines = self.lines_at_a_time(self.depth()).max(MIN_ROWS.div_ceil(self.w_out));
        lines.min(self.lines().div_ceil(PIECES))
    }

    /// The columns of the patches, in blocks; a core gathers `rows` rows of a block at once.
    fn blocks_of_columns(self, rows: usize) -> impl Iterator<Item = Range<usize>> {
        let (depth, block) = (self.depth(), (PATCHES / rows).max(1));
        (0..depth).step_by(block).map(move |first| first..depth.min(first + block))
    }

    /// Whether the kernel reaches beyond the edges of the image.
    fn has_padding(self) -> bool {
        let Geometry { kernel, stride, pad } = self.geometry;
        let beyond = |out: usize, size: usize| (out - 1) * stride + kernel > pad + size;
        pad > 0 || beyond(self.h_out, self.h) || beyond(self.w_out, self.w)
    }

    /// Visits the given lines and columns of the patches in runs of contiguous elements. Calls `visit` with the index of a run in
    /// the patches, its index in the images, and its length. Skips elements outside the image.
    fn for_each_run(self, lines: Range<usize>, columns: Range<usize>, mut visit: impl FnMut(usize, usize, usize)) {
        let Geometry { kernel, stride, pad } = self.geometry;
        // Rows of the image and of the kernel are contiguous, so padding only shortens a row of the kernel at its ends.
        let (image_row, kernel_row, padding) = (self.w * self.c_in, kernel * self.c_in, pad * self.c_in);
        let width = columns.len();
        for (index, line) in lines.enumerate() {
            let (n, i) = (line / self.h_out, line % self.h_out);
            for u in 0..kernel {
                let elements = columns.start.max(u * kernel_row)..columns.end.min((u + 1) * kernel_row);
                let a = i * stride + u;
                if elements.is_empty() || a < pad || a >= self.h + pad {
                    continue;
                }
                let image = (n * self.h + a - pad) * image_row;
                for j in 0..self.w_out {
                    let left = j * stride * self.c_in;
                    let start = elements.start.max((u * kernel_row + padding).saturating_sub(left));
                    let end = elements.end.min((u * kernel_row + image_row + padding).saturating_sub(left));
                    if start < end {
                        let patch = (index * self.w_out + j) * width;
                        visit(
                            patch + start - columns.start,
                            image + left + start - u * kernel_row - padding,
                            end - start,
                        );
                    }
                }
            }
        }
    }
}

/// Gathers the given lines and columns of the patches.
fn gather<T: Scalar>(sizes: ConvSizes, x: &[T], lines: Range<usize>, columns: Range<usize>, patches: &mut [T]) {
    if sizes.has_padding() {
        patches.fill(T::ZERO);
    }
    sizes.for_each_run(lines, columns, |patch, image, len| {
        patches[patch..patch + len].copy_from_slice(&x[image..image + len]);
    });
}

/// Gathers the patches of the given lines on all cores.
fn gather_all<'a, T: Scalar>(
    sizes: ConvSizes,
    x: &[T],
    lines: Range<usize>,
    scratch: &'a mut Scratch<T>,
) -> Matrix<'a, T> {
    let (rows, depth) = (lines.len() * sizes.w_out, sizes.depth());
    let patches = scratch.take(rows * depth);
    patches.par_chunks_mut(sizes.w_out * depth).zip(lines).for_each(|(patches, line)| {
        gather(sizes, x, line..line + 1, 0..depth, patches);
    });
    Matrix::new(patches, rows, depth)
}

/// Adds the given lines and columns of the patches to the pixels that [`gather`] takes them from.
fn scatter<T: Scalar>(sizes: ConvSizes, patches: &[T], lines: Range<usize>, columns: Range<usize>, dx: &mut [T]) {
    sizes.for_each_run(lines, columns, |patch, image, len| {
        for (dx, &patch) in dx[image..image + len].iter_mut().zip(&patches[patch..patch + len]) {
            *dx += patch;
        }
    });
}

/// `y = patches * w + b`; the sums start with the bias.
fn product_and_bias<T: Scalar>(y: &mut [T], patches: Matrix<'_, T>, w: Matrix<'_, T>, b: Option<&[T]>, cores: Cores) {
    if let Some(b) = b {
        fill_rows(y, b);
    }
    product(y, b.is_some(), patches, w, cores);
}

fn fill_rows<T: Scalar>(y: &mut [T], row: &[T]) {
    y.chunks_exact_mut(row.len()).for_each(|y| y.copy_from_slice(row));
}

/// Transposes a matrix of `columns` columns, in tiles so that both matrices are read and written along cache lines.
fn transpose<T: Scalar>(matrix: &[T], columns: usize, transposed: &mut [T]) {
    const TILE: usize = 16;
    let rows = matrix.len() / columns;
    transposed.par_chunks_mut(TILE * rows).enumerate().for_each(|(strip, transposed)| {
        for tile in (0..rows).step_by(TILE) {
            for (column, target) in (strip * TILE..).zip(transposed.chunks_exact_mut(rows)) {
                let target = target[tile..].iter_mut().take(TILE);
                let source = matrix[tile * columns + column..].iter().step_by(columns);
                target.zip(source).for_each(|(target, &source)| *target = source);
            }
        }
    });
}
