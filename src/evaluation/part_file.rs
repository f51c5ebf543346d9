//! The file of a part of an evaluation: safetensors, with the description of the evaluation as metadata.
//!
//! The tensors are `real.features` and `real.logits`, `noise.*` and `generated.K.*` likewise, with a row for each image, `rejection` (the
//! numbers of images and of candidates), `modes.real` and `modes.generated` (counts), and for a conditional run `training.images`, `training.classes`, `test.images` and `test.classes`.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::part::{ConditionalImages, EvaluationAbout, EvaluationPart, ModeHistograms};
use crate::data::stacked_mnist::MODES;
use crate::error::{Error, Result, bytes_for_people};
use crate::files;
use crate::metrics::{ExtractorKind, Features, ImageFeatures, LabelledImages};
use crate::shard::{ShardFile, damaged, parse_description};
use crate::train::RejectionCounts;

/// The name of the entry of the metadata.
const METADATA: &str = "gpu-gan-evaluation";
/// The name of the tensor of the counts of candidates.
const REJECTION: &str = "rejection";
/// The version of the file format. It increases when older versions of the program cannot read new files, or would misread them: a reader
/// of format 1 ignores rejection sampling.
const FORMAT: u32 = 2;
/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 30;
/// The largest number of classes: labels are bytes.
const MAX_CLASSES: usize = 256;

/// The metadata of the file.
#[derive(Serialize, Deserialize)]
struct PartMetadata {
    /// The version of the file format.
    format: u32,
    /// The description of the evaluation.
    about: EvaluationAbout,
}

/// A tensor to be written: its name, type, shape and bytes.
type NamedTensor<'a> = (String, Dtype, Vec<usize>, &'a [u8]);

impl EvaluationPart {
    /// Writes the part, whole or not at all.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut tensors: Vec<NamedTensor> = Vec::new();
        let mut matrices = matrices_of("real", &self.real);
        matrices.extend(self.noise.iter().flat_map(|images| matrices_of("noise", images)));
        for (k, images) in self.generated.iter().enumerate() {
            matrices.extend(matrices_of(&format!("generated.{k}"), images));
        }
        tensors.extend(matrices.into_iter().map(|(name, matrix)| {
            (name, Dtype::F32, vec![matrix.rows(), matrix.width()], bytemuck::cast_slice(matrix.values()))
        }));
        let counts = self.rejection.map(|RejectionCounts { images, candidates, .. }| [images, candidates]);
        if let Some(counts) = &counts {
            tensors.push((REJECTION.into(), Dtype::U64, vec![2], bytemuck::cast_slice(counts)));
        }
        if let Some(ModeHistograms { generated, real }) = &self.modes {
            let counts = [("real", Some(real)), ("generated", generated.as_ref())];
            tensors.extend(counts.into_iter().filter_map(|(name, counts)| {
                let counts = counts?;
                Some((format!("modes.{name}"), Dtype::U64, vec![counts.len()], bytemuck::cast_slice(counts)))
            }));
        }
        if let Some(ConditionalImages { generated, test }) = &self.conditional {
            for (name, LabelledImages { pixels, labels, image: [h, w, c] }) in [("training", generated), ("test", test)]
            {
                tensors.push((format!("{name}.images"), Dtype::U8, vec![labels.len(), *h, *w, *c], pixels));
                tensors.push((format!("{name}.classes"), Dtype::U8, vec![labels.len()], labels));
            }
        }
        let metadata = PartMetadata { format: FORMAT, about: self.about.clone() };
        let metadata = serde_json::to_string(&metadata).expect("plain data has a JSON form");
        let views = tensors.into_iter().map(|(name, kind, shape, bytes)| {
            (name, TensorView::new(kind, shape, bytes).expect("values fill their shape"))
        });
        let bytes = safetensors::serialize(views, Some(HashMap::from([(METADATA.to_string(), metadata)])))
            .expect("names are unique and shapes fit");
        files::write_atomically(path, |file| file.write_all(&bytes).map_err(Error::file("write", path)))
    }

    /// Reads a part, and checks that it has all images of its shard.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is truncated, or is not a part.
    pub fn read(path: &Path) -> Result<ShardFile<Self>> {
        let length = fs::metadata(path).map_err(Error::file("read", path))?.len();
        if length > MAX_FILE_BYTES {
            return Err(damaged(path, &format!("it is {} large", bytes_for_people(length))));
        }
        let bytes = fs::read(path).map_err(Error::file("read", path))?;
        let part = Self::parse(&bytes).map_err(|what| damaged(path, &what))?;
        Ok(ShardFile { path: path.to_path_buf(), shard: part.shard(), content: part })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let broken = |error: safetensors::SafeTensorError| format!("it is truncated or no safetensors file: {error}");
        let file = SafeTensors::deserialize(bytes).map_err(broken)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let metadata = header.metadata().as_ref().and_then(|entries| entries.get(METADATA));
        let metadata = metadata.ok_or("`gpu-gan eval --shard` did not write it")?;
        let PartMetadata { about, .. } = parse_description(metadata, FORMAT)?;
        let classes = check(&about)?;
        let stored = StoredPart { file, about: &about, classes };

        let count = about.real.count();
        let generated = (0..about.checkpoints.len())
            .map(|k| stored.images(&format!("generated.{k}"), count))
            .collect::<Result<_, _>>()?;
        let is_run = !about.checkpoints.is_empty();
        let modes = match about.reader {
            None => None,
            Some(_) => Some(ModeHistograms {
                real: stored.counts("modes.real")?,
                generated: if is_run { Some(stored.counts("modes.generated")?) } else { None },
            }),
        };
        let conditional = match about.conditional {
            None => None,
            Some(counts) => Some(ConditionalImages {
                generated: stored.labelled("training", counts.training)?,
                test: stored.labelled("test", counts.test)?,
            }),
        };
        let real = stored.images("real", about.real.total())?;
        let noise = if is_run { None } else { Some(stored.images("noise", count)?) };
        let rejection = if about.reject { Some(stored.rejection()?) } else { None };
        Ok(Self { real, noise, generated, rejection, modes, conditional, neighbours: None, about })
    }
}

/// The matrices of images under their names in the file.
fn matrices_of<'a>(name: &str, images: &'a ImageFeatures) -> Vec<(String, &'a Features)> {
    let logits = images.logits.iter().map(|logits| (format!("{name}.logits"), logits));
    std::iter::once((format!("{name}.features"), &images.features)).chain(logits).collect()
}

/// Checks that a description is one that an evaluation writes. Returns the number of classes of the classifier.
fn check(about: &EvaluationAbout) -> Result<Option<usize>, String> {
    let impossible = |what: &str| Err(format!("its description is damaged: {what}"));
    if !about.real.is_possible() || about.shard.check(about.real.count(), "images").is_err() {
        return impossible("the number of images");
    }
    if about.features == 0 || about.image.contains(&0) {
        return impossible("the size of the images");
    }
    let is_possible = |of: usize, right: usize| of > 0 && right <= of;
    if about.reader.is_some_and(|reader| !is_possible(reader.of, reader.right)) {
        return impossible("the accuracy of the digit reader");
    }
    let classes = match about.extractor {
        ExtractorKind::Random => None,
        ExtractorKind::Classifier { classes, accuracy } => {
            if !(2..=MAX_CLASSES).contains(&classes) || !is_possible(accuracy.of, accuracy.right) {
                return impossible("the classifier");
            }
            Some(classes)
        }
    };
    if about.reject && about.checkpoints.is_empty() {
        return impossible("rejected images of no checkpoint");
    }
    match about.conditional {
        Some(counts) if classes.is_none() || about.checkpoints.is_empty() || counts.training < about.real.count() => {
            impossible("the number of images for the conditional scores")
        }
        _ => Ok(classes),
    }
}

/// The tensors of a file, and what is known of their shapes.
struct StoredPart<'a> {
    /// The tensors.
    file: SafeTensors<'a>,
    /// The description of the evaluation.
    about: &'a EvaluationAbout,
    /// The number of classes of the classifier, if the feature extractor is one.
    classes: Option<usize>,
}

impl StoredPart<'_> {
    /// The bytes of a tensor that must have this type and shape.
    fn bytes(&self, name: &str, kind: Dtype, shape: &[usize]) -> Result<&[u8], String> {
        let view = self.file.tensor(name).map_err(|_| format!("{name} is missing"))?;
        if (view.dtype(), view.shape()) != (kind, shape) {
            return Err(format!("{name} is {:?} {:?} instead of {kind:?} {shape:?}", view.dtype(), view.shape()));
        }
        Ok(view.data())
    }

    /// Features and logits of the shard's part of `total` images.
    fn images(&self, name: &str, total: usize) -> Result<ImageFeatures, String> {
        let rows = self.about.shard.range(total).len();
        let matrix = |kind: &str, width: usize| {
            let name = format!("{name}.{kind}");
            let words = self.bytes(&name, Dtype::F32, &[rows, width])?.as_chunks::<4>().0;
            let values = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
            Features::new(values, width).map_err(|error| format!("{name}: {error}"))
        };
        let features = matrix("features", self.about.features)?;
        Ok(ImageFeatures { features, logits: self.classes.map(|classes| matrix("logits", classes)).transpose()? })
    }

    /// How many candidates were accepted.
    fn rejection(&self) -> Result<RejectionCounts, String> {
        let words = self.bytes(REJECTION, Dtype::U64, &[2])?.as_chunks::<8>().0;
        let [images, candidates] = [words[0], words[1]].map(u64::from_le_bytes);
        RejectionCounts::new(images, candidates).ok_or_else(|| format!("{REJECTION} does not count candidates"))
    }

    /// The number of images of each mode, of the shard's part of the images.
    fn counts(&self, name: &str) -> Result<Vec<u64>, String> {
        let words = self.bytes(name, Dtype::U64, &[MODES])?.as_chunks::<8>().0;
        let counts: Vec<u64> = words.iter().map(|&word| u64::from_le_bytes(word)).collect();
        let sum = counts.iter().try_fold(0_u64, |sum, &count| sum.checked_add(count));
        if sum == Some(EvaluationPart::modes_count(self.about.shard) as u64) {
            Ok(counts)
        } else {
            Err(format!("{name} does not count the images of its shard"))
        }
    }

    /// The shard's part of `total` images with their classes.
    fn labelled(&self, name: &str, total: usize) -> Result<LabelledImages, String> {
        let (rows, [h, w, c]) = (self.about.shard.range(total).len(), self.about.image);
        let pixels = self.bytes(&format!("{name}.images"), Dtype::U8, &[rows, h, w, c])?.to_vec();
        let labels = self.bytes(&format!("{name}.classes"), Dtype::U8, &[rows])?.to_vec();
        if labels.iter().any(|&label| Some(usize::from(label)) >= self.classes) {
            return Err(format!("{name}.classes has a class that does not exist"));
        }
        Ok(LabelledImages { pixels, labels, image: self.about.image })
    }
}
