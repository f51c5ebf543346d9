//! Features of images: a row of numbers for each image.

use std::ops::Range;

use crate::error::{Error, Result};

/// A matrix (N, WIDTH) of finite numbers, with a row for each image.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// The numbers, row after row.
    values: Vec<f32>,
    /// The number of columns.
    width: usize,
}

impl Features {
    /// Makes a matrix of `values`, which are rows of `width` numbers, one after the other.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] if a number is not finite, since no metric can be computed from it.
    ///
    /// # Panics
    ///
    /// If `values` is empty or not a whole number of rows.
    pub fn new(values: Vec<f32>, width: usize) -> Result<Self> {
        assert!(width > 0 && !values.is_empty() && values.len().is_multiple_of(width), "{} values", values.len());
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(Self { values, width }),
            Some(place) => Err(Error::Device {
                message: format!("feature {} of image {} is not a finite number", place % width, place / width),
                hint:
                    "try again with --device cpu; if the error persists, remove the folder `classifiers` of the cache"
                        .into(),
            }),
        }
    }

    /// The number of rows, at least one.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// The number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All numbers, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The rows in their order.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.width)
    }

    /// Some of the rows.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    #[must_use]
    pub fn part(&self, rows: Range<usize>) -> Self {
        assert!(!rows.is_empty(), "a part without rows");
        Self { values: self.values[rows.start * self.width..rows.end * self.width].to_vec(), width: self.width }
    }

    /// Appends the rows of another matrix.
    ///
    /// # Panics
    ///
    /// If the widths differ.
    pub fn append(&mut self, mut next: Self) {
        assert_eq!(self.width, next.width, "rows of one width");
        self.values.append(&mut next.values);
    }

    /// The mean of each column, in f64.
    pub(super) fn mean(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.width];
        for row in self {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
        sums.iter().map(|sum| sum / self.rows() as f64).collect()
    }
}

impl<'a> IntoIterator for &'a Features {
    type Item = &'a [f32];
    type IntoIter = std::slice::ChunksExact<'a, f32>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::program::random::normal;

    /// `rows` samples of N(0, I), determined by `seed`.
    pub(in crate::metrics) fn gaussian(seed: u64, rows: usize, width: usize) -> Features {
        let values = (0..rows * width).map(|i| normal(seed, 0, 0, i as u32) as f32).collect();
        Features::new(values, width).unwrap()
    }

    /// The rows of `features` in another order.
    pub(in crate::metrics) fn permuted(features: &Features) -> Features {
        let order = (0..features.rows()).map(|i| i * 7 % features.rows());
        let rows: Vec<&[f32]> = features.iter().collect();
        assert!(!features.rows().is_multiple_of(7));
        Features::new(order.flat_map(|i| rows[i]).copied().collect(), features.width()).unwrap()
    }

    #[test]
    fn features_that_are_not_finite_are_refused_with_their_position() {
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = Features::new(vec![0.0, 1.0, 2.0, broken], 2).unwrap_err();
            assert_eq!(error.to_string(), "feature 1 of image 1 is not a finite number");
            assert!(!error.hint().is_empty());
        }
    }

    #[test]
    fn rows_are_counted_and_means_are_of_columns() {
        let features = Features::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 9.0], 2).unwrap();
        assert_eq!((features.rows(), features.width(), features.mean()), (3, 2, vec![3.0, 5.0]));
    }
}
