//! The cache file of a trained classifier, so that it is trained once per data set.
//!
//! It is a safetensors file with PyTorch's names, in the folder `classifiers` of the cache. Its metadata has one entry, `gpu-gan`, which
//! is a JSON object. The key `about` of the object describes the training; a file with another description is not used.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Crc;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::accuracy::Accuracy;
use crate::error::{Error, Result};
use crate::files;
use crate::net::parameters::StoredTensor;

/// The name of the entry of the metadata.
const METADATA: &str = "gpu-gan";
/// The version of the file format. It is increased when older files must not be used.
const FORMAT: u32 = 2;
/// The largest file that is read, in bytes. A classifier has about two million bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The cache file of one classifier.
#[derive(Debug, Clone)]
pub(super) struct ClassifierFile {
    /// The description of the training, with the version of the format.
    about: String,
    /// The path of the file.
    path: PathBuf,
}

/// A trained classifier.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SavedClassifier {
    /// Parameters and running statistics.
    pub(super) tensors: Vec<StoredTensor<f32>>,
    /// The accuracy on test images.
    pub(super) accuracy: Accuracy,
}

/// The metadata of the file.
#[derive(Serialize, Deserialize)]
struct ClassifierMetadata {
    /// The description of the training, with the version of the format.
    about: String,
    /// The accuracy on test images.
    accuracy: Accuracy,
}

impl ClassifierFile {
    /// The file, in the folder `cache`, of the classifier whose training `about` describes.
    pub(super) fn new(cache: &Path, about: &str) -> Self {
        let about = format!("format {FORMAT}, {about}");
        let mut crc = Crc::new();
        crc.update(about.as_bytes());
        Self { path: cache.join("classifiers").join(format!("{:08x}.safetensors", crc.sum())), about }
    }

    /// The path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a classifier, whole or not at all.
    pub(super) fn write(&self, SavedClassifier { tensors, accuracy }: &SavedClassifier) -> Result<()> {
        let metadata = ClassifierMetadata { about: self.about.clone(), accuracy: *accuracy };
        let metadata = serde_json::to_string(&metadata).expect("plain data has a JSON form");
        let views = tensors.iter().map(|tensor| {
            let bytes = bytemuck::cast_slice(&tensor.values);
            (&tensor.name, TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).expect("values fill their shape"))
        });
        let bytes = safetensors::serialize(views, Some(HashMap::from([(METADATA.to_string(), metadata)])))
            .expect("names are unique and shapes fit");
        files::create_folder(self.path.parent().expect("the folder `classifiers`"))?;
        files::write_atomically(&self.path, |file| file.write_all(&bytes).map_err(Error::file("write", &self.path)))
    }

    /// Reads the classifier. Returns `None` if the file does not exist.
    ///
    /// # Errors
    ///
    /// Says in a few words what is wrong with the file.
    pub(super) fn read(&self) -> Result<Option<SavedClassifier>, String> {
        let mut bytes = Vec::new();
        match fs::File::open(&self.path) {
            Ok(file) => file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| error.to_string())?;
        let metadata =
            header.metadata().as_ref().and_then(|entries| entries.get(METADATA)).ok_or("it has no metadata")?;
        let metadata: ClassifierMetadata = serde_json::from_str(metadata).map_err(|error| error.to_string())?;
        if metadata.about != self.about {
            return Err(format!("it was trained with other settings: {}", metadata.about));
        }
        if metadata.accuracy.of == 0 || metadata.accuracy.right > metadata.accuracy.of {
            return Err(format!("its accuracy is {} of {}", metadata.accuracy.right, metadata.accuracy.of));
        }
        let mut tensors = Vec::new();
        for (name, view) in file.tensors() {
            let words = view.data().as_chunks::<4>().0;
            let values: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
            if view.dtype() != Dtype::F32 || values.iter().any(|value| !value.is_finite()) {
                return Err(format!("{name} has values that are not finite f32 numbers"));
            }
            tensors.push(StoredTensor { name, shape: view.shape().to_vec(), values });
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name)); // the crate does not define their order
        Ok(Some(SavedClassifier { tensors, accuracy: metadata.accuracy }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> SavedClassifier {
        let tensor = |name: &str, shape: &[usize], values: &[f32]| StoredTensor {
            name: name.into(),
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        SavedClassifier {
            tensors: vec![tensor("a.weight", &[2, 1], &[0.5, -1.0]), tensor("b.bias", &[1], &[3.0])],
            accuracy: Accuracy { right: 9, of: 10 },
        }
    }

    #[test]
    fn a_written_classifier_is_read_and_another_is_absent() {
        let cache = tempfile::tempdir().unwrap();
        let file = ClassifierFile::new(cache.path(), "digits");
        assert_eq!(file.read(), Ok(None));
        file.write(&saved()).unwrap();
        assert_eq!(file.read(), Ok(Some(saved())));
        assert_eq!(ClassifierFile::new(cache.path(), "letters").read(), Ok(None));
    }

    #[test]
    fn damaged_files_are_errors_and_nothing_panics() {
        let cache = tempfile::tempdir().unwrap();
        let file = ClassifierFile::new(cache.path(), "digits");
        file.write(&saved()).unwrap();
        let good = fs::read(file.path()).unwrap();
        for len in 0..good.len() {
            fs::write(file.path(), &good[..len]).unwrap();
            assert!(file.read().is_err(), "cut at {len}");
        }
        for fault in 0..good.len() {
            let mut bad = good.clone();
            bad[fault] ^= 0x81;
            fs::write(file.path(), &bad).unwrap();
            let _ = file.read(); // a weight may be any number
        }
        for (broken, what) in [
            (SavedClassifier { accuracy: Accuracy { right: 11, of: 10 }, ..saved() }, "its accuracy is 11 of 10"),
            (SavedClassifier { accuracy: Accuracy { right: 0, of: 0 }, ..saved() }, "its accuracy is 0 of 0"),
        ] {
            file.write(&broken).unwrap();
            assert_eq!(file.read(), Err(what.into()));
        }
        let mut broken = saved();
        broken.tensors[1].values[0] = f32::NAN;
        file.write(&broken).unwrap();
        assert!(file.read().unwrap_err().starts_with("b.bias has values"));
        // The file of another classifier under this name.
        let other = ClassifierFile::new(cache.path(), "letters");
        other.write(&saved()).unwrap();
        fs::copy(other.path(), file.path()).unwrap();
        assert_eq!(file.read(), Err("it was trained with other settings: format 2, letters".into()));
        fs::remove_file(file.path()).unwrap();
        fs::create_dir(file.path()).unwrap();
        assert!(file.read().is_err());
    }
}
