//! Golden files, their layouts, and the comparison.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// The largest accepted difference, as a share of the largest value of the tensor; README.md gives the reason.
const TOLERANCE: f64 = 1e-10;

/// A row-major array of numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

impl Array {
    pub(crate) fn filled(shape: &[usize], value: f64) -> Self {
        Self { shape: shape.to_vec(), values: vec![value; shape.iter().product()] }
    }

    /// The same numbers with the axes in another order. (N, C) counts as (N, C, 1, 1).
    fn permuted(&self, axes: [usize; 4]) -> Self {
        let mut from = [1; 4];
        from[..self.shape.len()].copy_from_slice(&self.shape);
        let strides = [from[1] * from[2] * from[3], from[2] * from[3], from[3], 1];
        let [a, b, c, d] = axes.map(|axis| (0..from[axis]).map(move |index| index * strides[axis]));
        let mut values = Vec::with_capacity(self.values.len());
        for a in a {
            for b in b.clone() {
                for c in c.clone() {
                    values.extend(d.clone().map(|d| self.values[a + b + c + d]));
                }
            }
        }
        Self { shape: axes.map(|axis| from[axis]).to_vec(), values }
    }

    /// From PyTorch's (N, C, H, W) to (N, H, W, C).
    pub(crate) fn images(&self) -> Self {
        self.permuted([0, 2, 3, 1])
    }

    /// From (N, H, W, C) to PyTorch's (N, C, H, W).
    pub(crate) fn channels_first(&self) -> Self {
        self.permuted([0, 3, 1, 2])
    }

    /// From PyTorch's (`C_OUT`, `C_IN`, K, K) to (K, K, `C_IN`, `C_OUT`). A transposed convolution has the weights of the
    /// convolution that it transposes, so its (C, O, K, K) is permuted in the same way.
    pub(crate) fn weights(&self) -> Self {
        self.permuted([2, 3, 1, 0])
    }

    /// The rows of a matrix.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.shape[1])
    }
}

/// A golden file. It records which tensors were read, so that a test can check that it compared all of them.
pub(crate) struct Goldens {
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Array>,
    used: RefCell<BTreeSet<String>>,
}

impl Goldens {
    pub(crate) fn read(file: &[u8]) -> Self {
        let (_, header) = SafeTensors::read_metadata(file).unwrap();
        let metadata = header.metadata().as_ref().expect("generate.py describes every case");
        let file = SafeTensors::deserialize(file).unwrap();
        let array = |tensor: &safetensors::tensor::TensorView<'_>| {
            assert_eq!(tensor.dtype(), Dtype::F64);
            let (values, rest) = tensor.data().as_chunks();
            assert!(rest.is_empty());
            let values: Vec<f64> = values.iter().map(|&value| f64::from_le_bytes(value)).collect();
            assert!(values.iter().all(|value| value.is_finite()), "all values are finite");
            Array { shape: tensor.shape().to_vec(), values }
        };
        Self {
            metadata: metadata.iter().map(|(key, json)| (key.clone(), serde_json::from_str(json).unwrap())).collect(),
            tensors: file.iter().map(|(name, tensor)| (name.to_string(), array(&tensor))).collect(),
            used: RefCell::default(),
        }
    }

    /// The value of a key in the file's metadata.
    pub(crate) fn about(&self, key: &str) -> &Value {
        self.find(key).unwrap_or_else(|| panic!("the golden file does not describe {key}"))
    }

    /// The value of a key in the file's metadata, if it has the key.
    pub(crate) fn find(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// The cases of operations, in the order of their names.
    pub(crate) fn cases(&self) -> impl Iterator<Item = Case<'_>> {
        let described = self.metadata.iter().filter(|(key, _)| *key != "about");
        described.map(|(name, hyper)| Case { goldens: self, name, hyper })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> &Array {
        self.used.borrow_mut().insert(name.to_string());
        self.tensors.get(name).unwrap_or_else(|| panic!("the golden file has no tensor {name}"))
    }

    /// Asserts that all tensors whose names start with `prefix` were read.
    pub(crate) fn assert_all_used(&self, prefix: &str) {
        let used = self.used.borrow();
        let unused: Vec<&str> = self.names().filter(|name| name.starts_with(prefix) && !used.contains(*name)).collect();
        assert!(unused.is_empty(), "never compared: {unused:?}");
    }
}

/// A case of an operation: its hyper-parameters and its tensors.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    goldens: &'a Goldens,
    pub(crate) name: &'a str,
    hyper: &'a Value,
}

impl<'a> Case<'a> {
    pub(crate) fn op(&self) -> &'a str {
        self.hyper["op"].as_str().unwrap()
    }

    pub(crate) fn real(&self, key: &str) -> f64 {
        self.hyper[key].as_f64().unwrap_or_else(|| panic!("{}: no number {key}", self.name))
    }

    pub(crate) fn integer(&self, key: &str) -> u64 {
        self.hyper[key].as_u64().unwrap_or_else(|| panic!("{}: no whole number {key}", self.name))
    }

    pub(crate) fn value(&self, key: &str) -> &'a Value {
        &self.hyper[key]
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.hyper[key].as_bool().unwrap_or_else(|| panic!("{}: no flag {key}", self.name))
    }

    pub(crate) fn get(&self, tensor: &str) -> &'a Array {
        self.goldens.get(&format!("{}/{tensor}", self.name))
    }

    /// A tensor of one number.
    pub(crate) fn number(&self, tensor: &str) -> f64 {
        let array = self.get(tensor);
        assert_eq!(array.shape, [1], "{}/{tensor}", self.name);
        array.values[0]
    }

    pub(crate) fn has(&self, tensor: &str) -> bool {
        self.goldens.tensors.contains_key(&format!("{}/{tensor}", self.name))
    }

    /// Two vectors (C) as one tensor (2, C), as the program stores gamma and beta, or mean and variance.
    pub(crate) fn pair(&self, first: &str, second: &str) -> Array {
        let (first, second) = (self.get(first), self.get(second));
        assert_eq!(first.shape, second.shape);
        Array { shape: vec![2, first.values.len()], values: [first.values.as_slice(), &second.values].concat() }
    }

    /// Concatenated vectors of logits (N), or of their gradients, as images (N, 1, 1, 1).
    pub(crate) fn logits(&self, tensors: &[&str]) -> Array {
        let values: Vec<f64> = tensors.iter().flat_map(|tensor| self.get(tensor).values.clone()).collect();
        Array { shape: vec![values.len(), 1, 1, 1], values }
    }
}

/// Compares with PyTorch's values; panics with the index and the values of the largest difference.
#[track_caller]
pub(crate) fn assert_agrees(place: &str, got: &[f64], want: &Array) {
    assert_eq!(got.len(), want.values.len(), "{place}: {} numbers for {:?}", got.len(), want.shape);
    let largest = want.values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let bound = TOLERANCE * largest;
    let errors = || got.iter().zip(&want.values).map(|(got, want)| (got - want).abs());
    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "a NaN is outside the bound")]
    let failed = errors().filter(|error| !(*error <= bound)).count();
    // In `total_cmp` a positive NaN is above all numbers.
    let worst = errors().enumerate().max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()));
    if let Some((worst, error)) = worst.filter(|_| failed > 0) {
        panic!(
            "{place} at {:?} of {:?} is {:e}, but PyTorch has {:e}: {error:e} apart, where {bound:e} is allowed; \
             {failed} of {} numbers are outside",
            index_of(worst, &want.shape),
            want.shape,
            got[worst],
            want.values[worst],
            got.len(),
        );
    }
}

/// The index of an element, from its position in memory.
fn index_of(mut place: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (index, &len) in index.iter_mut().zip(shape).rev() {
        *index = place % len;
        place /= len;
    }
    index
}

/// Errors that the comparison must find.
mod planted_errors {
    use super::{Array, assert_agrees};

    fn want() -> Array {
        Array { shape: vec![2, 3], values: vec![0.0, 1e-3, -2.0, 0.5, 1.0, 0.25] }
    }

    fn compare_with(fault: impl FnOnce(&mut Vec<f64>)) {
        let mut got = want().values;
        fault(&mut got);
        assert_agrees("planted", &got, &want());
    }

    #[test]
    fn numbers_within_the_tolerance_agree() {
        compare_with(|_| ());
        compare_with(|got| got[1] += 1e-10);
        assert_agrees("zeros", &[0.0; 3], &Array::filled(&[3], 0.0));
    }

    #[test]
    #[should_panic(expected = "planted at [0, 1] of [2, 3] is 1.0003e-3, but PyTorch has 1e-3")]
    fn a_small_error_is_found_and_located() {
        compare_with(|got| got[1] += 3e-7);
    }

    #[test]
    #[should_panic(expected = "planted at [1, 0] of [2, 3] is NaN, but PyTorch has 5e-1")]
    fn a_nan_is_found_and_located() {
        compare_with(|got| got[3] = -f64::NAN);
    }

    #[test]
    #[should_panic(expected = "1e-300, but PyTorch has 0e0")]
    fn a_nonzero_value_is_found_in_a_zero_tensor() {
        assert_agrees("zeros", &[0.0, 1e-300], &Array::filled(&[2], 0.0));
    }

    #[test]
    #[should_panic(expected = "5 numbers for [2, 3]")]
    fn a_missing_number_is_found() {
        compare_with(|got| got.truncate(5));
    }

    #[test]
    fn permuted_axes_move_their_elements() {
        // (N, C, H, W) = (1, 2, 1, 3)
        let array = Array { shape: vec![1, 2, 1, 3], values: vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0] };
        let images = Array { shape: vec![1, 1, 3, 2], values: vec![0.0, 10.0, 1.0, 11.0, 2.0, 12.0] };
        assert_eq!(array.images(), images);
        assert_eq!(images.channels_first(), array);
        let linear = Array { shape: vec![2, 3], values: vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0] };
        let weights = Array { shape: vec![1, 1, 3, 2], values: vec![0.0, 10.0, 1.0, 11.0, 2.0, 12.0] };
        assert_eq!(linear.weights(), weights);
    }
}
