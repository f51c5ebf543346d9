//! A reader and writer of checkpoint files that does not use the code of the program.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// The content of a checkpoint file.
#[derive(Clone, PartialEq)]
pub(crate) struct Checkpoint {
    /// The metadata. gpu-gan writes one entry, a JSON object.
    pub(crate) metadata: HashMap<String, String>,
    /// The tensors by name.
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

/// A tensor: its bytes, shape and type.
#[derive(Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Checkpoint {
    #[track_caller]
    pub(crate) fn of(file: &[u8]) -> Self {
        let (_, header) = SafeTensors::read_metadata(file).unwrap();
        let tensors = SafeTensors::deserialize(file).unwrap();
        let tensors = tensors.tensors().into_iter().map(|(name, view)| (name, Tensor::of(&view)));
        Self { metadata: header.metadata().clone().unwrap_or_default(), tensors: tensors.collect() }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, Tensor { dtype, shape, bytes })| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        safetensors::serialize(views, Some(self.metadata.clone())).unwrap()
    }

    /// Whether all values are finite.
    pub(crate) fn is_finite(&self) -> bool {
        self.tensors.values().flat_map(Tensor::values).all(f32::is_finite)
    }

    /// The file with a changed tensor.
    #[track_caller]
    pub(crate) fn with(mut self, name: &str, change: impl FnOnce(&mut Tensor)) -> Self {
        change(self.tensors.get_mut(name).unwrap_or_else(|| panic!("{name} is not there")));
        self
    }

    /// The file with changed metadata.
    #[track_caller]
    pub(crate) fn said(mut self, from: &str, to: &str) -> Self {
        let json = self.metadata.get_mut("gpu-gan").unwrap();
        assert!(json.contains(from), "{from} is not in {json}");
        *json = json.replace(from, to);
        self
    }
}

impl Tensor {
    fn of(view: &TensorView) -> Self {
        Self { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() }
    }

    /// Another first value.
    pub(crate) fn set_first(&mut self, value: f32) {
        self.bytes[..4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn values(&self) -> Vec<f32> {
        assert_eq!(self.dtype, Dtype::F32);
        self.bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
    }
}

/// Asserts that two files are equal. If not, names the tensors that differ.
#[track_caller]
pub(crate) fn assert_same_bits(one: &[u8], other: &[u8]) {
    let (a, b) = (Checkpoint::of(one), Checkpoint::of(other));
    let names = |checkpoint: &Checkpoint| checkpoint.tensors.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    let different: Vec<_> = names(&a).into_iter().filter(|name| a.tensors[name] != b.tensors[name]).collect();
    assert!(different.is_empty(), "not the same bits: {different:?}");
    assert_eq!(a.metadata, b.metadata);
    assert!(one == other, "the same tensors, but not the same files");
}

/// Asserts that two checkpoints have equal tensors and steps. The options of their runs may differ.
#[track_caller]
pub(crate) fn assert_same_tensors(one: &[u8], other: &[u8]) {
    let [one, other] = [one, other].map(Checkpoint::of);
    assert!(one.tensors == other.tensors, "not the same tensors");
}

mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let tensor = |value: f32| Tensor {
            dtype: Dtype::F32,
            shape: vec![1, 2],
            bytes: [value; 2].map(f32::to_le_bytes).concat(),
        };
        let tensors = [("one", 1.0), ("two", 2.0)].map(|(name, value)| (name.to_string(), tensor(value)));
        Checkpoint { metadata: [("gpu-gan".into(), "{}".into())].into(), tensors: tensors.into() }
    }

    #[test]
    fn a_checkpoint_taken_apart_and_put_together_is_the_same() {
        let file = checkpoint().to_bytes();
        assert!(Checkpoint::of(&file) == checkpoint());
        assert_same_bits(&file, &Checkpoint::of(&file).to_bytes());
        assert!(checkpoint().is_finite());
        assert!(!checkpoint().with("two", |tensor| tensor.set_first(f32::NAN)).is_finite());
    }

    #[test]
    #[should_panic(expected = "not the same bits: [\"two\"]")]
    fn a_value_that_differs_is_noticed_even_where_it_is_equal() {
        let zero = checkpoint().with("two", |tensor| tensor.set_first(0.0));
        let minus_zero = checkpoint().with("two", |tensor| tensor.set_first(-0.0));
        assert_same_bits(&zero.to_bytes(), &minus_zero.to_bytes());
    }
}
