//! The matrix product of the `gemm` crate, with the only unsafe code of this device.

use super::Scalar;

/// A matrix to read: element (i, j) is `values[i * row_step + j * column_step]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    /// The elements, of which a matrix may use a part.
    values: &'a [T],
    /// The number of rows.
    rows: usize,
    /// The number of columns.
    columns: usize,
    /// The distance between neighbouring rows in `values`.
    row_step: usize,
    /// The distance between neighbouring columns in `values`.
    column_step: usize,
}

/// Which cores compute a product. The choice does not change the bits of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// The calling core.
    One,
    /// All cores.
    All,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix of all `values`.
    pub(crate) fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "{rows} x {columns} elements");
        Self { values, rows, columns, row_step: columns, column_step: 1 }
    }

    /// The `count` columns from `first` on.
    pub(crate) fn columns(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.columns, "columns {first} + {count} of {}", self.columns);
        Self { values: &self.values[first * self.column_step..], columns: count, ..self }
    }

    /// The `count` rows from `first` on.
    pub(crate) fn rows(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows, "rows {first} + {count} of {}", self.rows);
        Self { values: &self.values[first * self.row_step..], rows: count, ..self }
    }

    /// The transpose.
    pub(crate) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
        }
    }

    /// Whether all elements lie in `values`; the last element has the largest index.
    fn lies_within_its_values(self) -> bool {
        let last = (self.rows - 1) * self.row_step + (self.columns - 1) * self.column_step;
        last < self.values.len()
    }
}

/// `c = a * b`, or `c += a * b` if `accumulate`; `c` is row-major.
pub(crate) fn product<T: Scalar>(c: &mut [T], accumulate: bool, a: Matrix<'_, T>, b: Matrix<'_, T>, cores: Cores) {
    let (rows, columns, depth) = (a.rows, b.columns, a.columns);
    assert!(rows > 0 && columns > 0 && depth > 0, "{a:?} and {b:?} have elements");
    assert_eq!(depth, b.rows, "the columns of a and the rows of b");
    assert_eq!(c.len(), rows * columns, "the elements of c");
    assert!(a.lies_within_its_values() && b.lies_within_its_values(), "the elements of a and b");
    let parallelism = match cores {
        Cores::One => gemm::Parallelism::None,
        Cores::All => gemm::Parallelism::Rayon(0),
    };
    // SAFETY: `gemm` reads element (i, j) of a and of b at their pointer plus i * row_step + j * column_step, and writes
    // element (i, j) of c at its pointer plus i * columns + j. Steps are not negative, so the last element of each has the
    // greatest offset; for a and b it was asserted to lie within the slice, and for c it is rows * columns - 1, within its
    // asserted length. Slices are no larger than isize::MAX bytes, so the casts lose nothing. c is borrowed for writing, so
    // nothing else reads or writes it during the call, and a and b do not overlap it. T is f32 or f64, which are all the
    // types that `Scalar` is implemented for; for any other type `gemm` panics and touches nothing.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            c.as_mut_ptr(),
            1,
            columns as isize,
            accumulate,
            a.values.as_ptr(),
            a.column_step as isize,
            a.row_step as isize,
            b.values.as_ptr(),
            b.column_step as isize,
            b.row_step as isize,
            T::ONE, // factor of the old c
            T::ONE, // factor of the product
            false,
            false,
            false,
            parallelism,
        );
    }
}
