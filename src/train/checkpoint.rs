//! The state of a run: both networks, the EMA of the generator's weights, both states of Adam, and the run's settings.
//!
//! A checkpoint is a safetensors file. Weights have PyTorch's names and layouts, so other programs can load them:
//! `generator.1.weight`. The EMA of this tensor is `ema.generator.1.weight`; Adam's moments are `adam.m.generator.1.weight` and
//! `adam.v.generator.1.weight`.
//! The metadata has one entry, `gpu-gan`, a JSON object of step, settings and the text of the model file: a checkpoint needs
//! no other file.

mod format_2;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::classes::ClassDistribution;
use super::settings::Facts;
use super::{Settings, shared_paths};
use crate::error::{Error, Result};
use crate::files::{self, shell_quoted};
use crate::net::Model;
use crate::net::parameters::{self, Layout, StoredTensor};
use crate::recipe::Recipe;

/// The prefix of the names of the EMA of the generator's weights.
pub(crate) const EMA: &str = "ema.";
/// The prefix of the names of Adam's first moments.
pub(super) const ADAM_M: &str = "adam.m.";
/// The prefix of the names of Adam's second moments.
pub(super) const ADAM_V: &str = "adam.v.";

/// The name of the strength of DiffAugment, where it is adapted.
const AUGMENT_STRENGTH: &str = "augment.strength";
/// Its name in earlier runs, which adapted the probability of changes.
const AUGMENT_PROBABILITY: &str = "augment.probability";

/// The file name of the best checkpoint: the newest one whose Fréchet distance is not measurably above the lowest.
pub(super) const BEST: &str = "best.safetensors";

/// The name of the entry of the metadata.
const METADATA: &str = "gpu-gan";
/// The version of the file format. It increases when older versions of the program cannot read new files.
const FORMAT: u64 = 3;
/// The largest file that is read, in bytes. No model that can be trained has a larger checkpoint.
const LARGEST_FILE: u64 = 16 << 30;

/// The state of a run after a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The model, with the text of its file.
    pub model: Model,
    /// The settings of the run.
    pub settings: Settings,
    /// The number of steps that are done.
    pub step: u64,
    /// The tensors by name.
    tensors: BTreeMap<String, StoredTensor<f32>>,
}

/// The metadata of a file.
#[derive(Serialize, Deserialize)]
struct Metadata {
    /// The version of the file format.
    format: u64,
    /// The version of the program.
    version: String,
    /// The number of steps that are done.
    step: u64,
    /// The options of the run.
    #[serde(serialize_with = "only_given")]
    recipe: Recipe,
    /// The facts of the run that are not options.
    run: Facts,
    /// The text of the model file.
    model: String,
}

impl Checkpoint {
    /// The state before the first step: initial weights that are determined by the seed, and moments of zero.
    pub fn initial(model: &Model, settings: &Settings) -> Self {
        let start = parameters::initial(model, settings.seed);
        let mut checkpoint = Self::empty(model, settings, 0);
        checkpoint.put(EMA, start.generator.params.clone());
        for state in [start.generator, start.discriminator] {
            for prefix in [ADAM_M, ADAM_V] {
                let zero = |stored: &StoredTensor<f32>| StoredTensor {
                    values: vec![0.0; stored.values.len()],
                    ..stored.clone()
                };
                checkpoint.put(prefix, state.params.iter().map(zero).collect());
            }
            checkpoint.put("", state.params);
            checkpoint.put("", state.running);
        }
        if settings.adapts_augment() {
            checkpoint.put_augment_strength(0.0);
        }
        checkpoint
    }

    /// A checkpoint without tensors.
    pub(super) fn empty(model: &Model, settings: &Settings, step: u64) -> Self {
        Self { model: model.clone(), settings: settings.clone(), step, tensors: BTreeMap::new() }
    }

    /// Adds tensors under their names with the given prefix.
    pub(super) fn put(&mut self, prefix: &str, tensors: Vec<StoredTensor<f32>>) {
        self.tensors.extend(tensors.into_iter().map(|tensor| (format!("{prefix}{}", tensor.name), tensor)));
    }

    /// Packs the tensors of a layout into one buffer.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or has another shape.
    pub(super) fn buffer(&self, prefix: &str, layout: &Layout) -> Result<Vec<f32>> {
        let named = layout.tensors().filter_map(|(name, _)| self.tensors.get(&format!("{prefix}{name}")));
        layout.pack(&named.cloned().collect::<Vec<_>>())
    }

    /// How strongly DiffAugment changes images, where it is adapted.
    pub(super) fn augment_strength(&self) -> Option<f32> {
        self.tensors.get(AUGMENT_STRENGTH).map(|tensor| tensor.values[0])
    }

    /// Adds how strongly DiffAugment changes images.
    pub(super) fn put_augment_strength(&mut self, strength: f32) {
        let name = AUGMENT_STRENGTH.to_owned();
        self.put("", vec![StoredTensor { name, shape: vec![1], values: vec![strength] }]);
    }

    /// The distribution of the classes that seeds draw. `None` if the model is not conditional.
    pub fn class_distribution(&self) -> Option<ClassDistribution> {
        self.model.classes.map(|count| ClassDistribution::new(count, self.settings.classes.as_ref()))
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> &BTreeMap<String, StoredTensor<f32>> {
        &self.tensors
    }

    /// The CRC-32 of the names and values of all tensors, in hexadecimal. It tells checkpoints apart.
    pub fn fingerprint(&self) -> String {
        let mut crc = flate2::Crc::new();
        for (name, tensor) in &self.tensors {
            crc.update(name.as_bytes());
            crc.update(bytemuck::cast_slice(&tensor.values));
        }
        format!("{:08x}", crc.sum())
    }

    /// Puts other values in the place of those of tensors that it has, by their names in the file.
    pub(super) fn replace(&mut self, tensors: Vec<(String, StoredTensor<f32>)>) {
        self.tensors.extend(tensors);
    }

    /// The name of the first tensor with a value that is not a finite number.
    pub fn not_finite(&self) -> Option<&str> {
        let broken = self.tensors.iter().find(|(_, tensor)| tensor.values.iter().any(|value| !value.is_finite()));
        broken.map(|(name, _)| name.as_str())
    }

    /// Writes the checkpoint, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = self.encode(shared_paths::shared(self.settings.recipe(), &shared_paths::run_of(path)));
        files::write_atomically(path, |file| file.write_all(&bytes).map_err(Error::file("write", path)))
    }

    /// The bytes of a file, for other ranks: with absolute paths.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.encode(self.settings.recipe())
    }

    /// The bytes of a file with the options `recipe`.
    fn encode(&self, recipe: Recipe) -> Vec<u8> {
        let metadata = Metadata {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            step: self.step,
            recipe,
            run: self.settings.facts(),
            model: self.model.to_toml().into(),
        };
        // One entry, since the crate would write several in an order that changes from run to run.
        let metadata = serde_json::to_string(&metadata).expect("plain data has a JSON form");
        let metadata = HashMap::from([(METADATA.to_string(), metadata)]);
        let views = self.tensors.iter().map(|(name, tensor)| {
            let bytes = bytemuck::cast_slice(&tensor.values);
            (name, TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).expect("values fill their shape"))
        });
        safetensors::serialize(views, Some(metadata)).expect("names are unique and shapes fit")
    }

    /// Reads a checkpoint and checks that it has all tensors of its model and that all values are finite.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] says what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self> {
        let broken = |what: String| Error::Checkpoint {
            message: format!("{} is not a checkpoint that can be used: {what}", path.display()),
            hint: "use an earlier checkpoint of the same run".into(),
        };
        let length = fs::metadata(path).map_err(Error::file("read", path))?.len();
        if length > LARGEST_FILE {
            return Err(broken(format!("it is {} large", crate::error::bytes_for_people(length))));
        }
        let bytes = fs::read(path).map_err(Error::file("read", path))?;
        Self::decode(&bytes, path, |recipe| shared_paths::found(recipe, &shared_paths::run_of(path)), &broken)
    }

    /// The checkpoint of [`Self::to_bytes`].
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let broken = |what: String| Error::Checkpoint {
            message: format!("the checkpoint of rank 0 cannot be used: {what}"),
            hint: "start all ranks with the same version of gpu-gan".into(),
        };
        Self::decode(bytes, Path::new("the checkpoint of rank 0"), |recipe| recipe, &broken)
    }

    /// The checkpoint with the bytes of a file. `found` finds its paths on this machine.
    fn decode(
        bytes: &[u8],
        path: &Path,
        found: impl Fn(Recipe) -> Recipe,
        broken: &dyn Fn(String) -> Error,
    ) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| {
            if path.extension().is_some_and(|ending| ending == "safetensors") {
                return broken(format!("{error}"));
            }
            Error::Checkpoint {
                message: format!("{} is not a checkpoint", path.display()),
                hint: "name the folder of a run, such as runs/mnist-0001, or a .safetensors file in its folder checkpoints"
                    .into(),
            }
        })?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| broken(format!("{error}")))?;
        let metadata = header.metadata().as_ref().and_then(|entries| entries.get(METADATA));
        let metadata = metadata.ok_or_else(|| broken("gpu-gan did not write it".into()))?;
        let metadata: Value = serde_json::from_str(metadata).map_err(|error| broken(format!("{error}")))?;
        let format = metadata.get("format").and_then(Value::as_u64);
        let metadata = match format {
            Some(2) => format_2::metadata(&metadata).map_err(broken)?,
            _ => metadata,
        };
        if !matches!(format, Some(2 | FORMAT)) {
            let version = metadata.get("version").and_then(Value::as_str).unwrap_or("of an unknown version");
            let format = format.map_or("an unknown format".into(), |format| format!("format {format}"));
            return Err(broken(format!(
                "gpu-gan {version} wrote it in {format}, and this is {} with format {FORMAT}",
                env!("CARGO_PKG_VERSION")
            )));
        }
        let metadata: Metadata = serde_json::from_value(metadata).map_err(|error| broken(format!("{error}")))?;
        let settings =
            Settings::saved(&found(metadata.recipe), metadata.run).map_err(|error| broken(error.to_string()))?;
        let model = Model::parse(&metadata.model, &format!("the model in {}", path.display()))?;
        let mut checkpoint = Self::empty(&model, &settings, metadata.step);
        for (name, view) in file.tensors() {
            let name = match &*name {
                _ if format == Some(2) => format_2::tensor(&name),
                AUGMENT_PROBABILITY => AUGMENT_STRENGTH.into(),
                _ => name,
            };
            let values = floats(&view).ok_or_else(|| broken(format!("{name} is not of f32")))?;
            checkpoint
                .tensors
                .insert(name.clone(), StoredTensor { name: plain(&name), shape: view.shape().to_vec(), values });
        }
        checkpoint.check(broken)?;
        Ok(checkpoint)
    }

    /// Checks that the tensors are those of the model, and finite.
    fn check(&self, broken: &dyn Fn(String) -> Error) -> Result<()> {
        self.settings.check(&self.model).map_err(|error| broken(error.to_string()))?;
        for (name, tensor) in &Self::initial(&self.model, &self.settings).tensors {
            match self.tensors.get(name) {
                None => return Err(broken(format!("{name} is missing"))),
                Some(there) if there.shape != tensor.shape => {
                    return Err(broken(format!("{name} is {:?}, but the model's is {:?}", there.shape, tensor.shape)));
                }
                Some(_) => {}
            }
        }
        match self.not_finite() {
            Some(name) => Err(broken(format!("{name} has values that are not finite numbers"))),
            None => Ok(()),
        }
    }

    /// The checkpoint of a run folder whose images were nearest to real ones.
    ///
    /// # Errors
    ///
    /// If the distance was not computed, or `run` is not a run folder.
    pub fn find_best(run: &Path) -> Result<PathBuf> {
        let newest = Self::find(run)?;
        let best = run.join("checkpoints").join(BEST);
        if newest == run {
            return Err(Error::Request {
                message: format!("{} is a checkpoint file, not a run folder", run.display()),
                hint: "name the run folder, or leave out --best".into(),
            });
        }
        if !best.is_file() {
            return Err(Error::Checkpoint {
                message: format!(
                    "{} has no best checkpoint, because the Fréchet distance was not computed",
                    run.display()
                ),
                hint: "leave out --best to use the newest checkpoint; `gpu-gan train --eval-every` enables evaluations"
                    .into(),
            });
        }
        Ok(best)
    }

    /// The checkpoint of an argument: the file itself, or the newest checkpoint of a run folder.
    ///
    /// # Errors
    ///
    /// If there is no checkpoint.
    pub fn find(run: &Path) -> Result<PathBuf> {
        if run.is_file() {
            return Ok(run.to_path_buf());
        }
        Ok(Self::find_all(run)?.pop().expect("the list is not empty"))
    }

    /// All checkpoints of a run folder, in the order of their steps.
    ///
    /// # Errors
    ///
    /// If there is no checkpoint.
    pub fn find_all(run: &Path) -> Result<Vec<PathBuf>> {
        let folder = run.join("checkpoints");
        if !folder.is_dir() {
            return Err(Error::Checkpoint {
                message: if run.is_dir() {
                    format!("{} has no folder checkpoints, so it is not a run", run.display())
                } else if run.is_file() {
                    format!("{} is a checkpoint file, not a run folder", run.display())
                } else {
                    format!("there is no run or checkpoint at {}", run.display())
                },
                hint: match run.parent().filter(|parent| parent.join("checkpoints").is_dir()) {
                    Some(parent) if run.is_dir() => format!("name the run itself: {}", shell_quoted(parent)),
                    _ => format!(
                        "{}name a folder that `gpu-gan train` made, such as runs/mnist-0001, or a .safetensors file in it",
                        if run.exists() { String::new() } else { files::meant_instead(run) }
                    ),
                },
            });
        }
        let mut found: Vec<PathBuf> = fs::read_dir(&folder)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
            .map_err(Error::file("read", &folder))?;
        found.retain(|path| path.extension().is_some_and(|ending| ending == "safetensors") && !path.ends_with(BEST));
        if found.is_empty() {
            return Err(Error::Checkpoint {
                message: format!("{} holds no checkpoint", folder.display()),
                hint: "the run ended before its first one; train again".into(),
            });
        }
        // Steps are written with leading zeros, so names are in the same order.
        found.sort();
        Ok(found)
    }
}

/// Stores the options that a recipe gives.
fn only_given<S: Serializer>(recipe: &Recipe, serializer: S) -> Result<S::Ok, S::Error> {
    recipe.to_table().serialize(serializer)
}

/// The name without the prefix that tells what the tensor is for.
fn plain(name: &str) -> String {
    let prefix = [EMA, ADAM_M, ADAM_V].into_iter().find(|prefix| name.starts_with(prefix));
    name[prefix.map_or(0, str::len)..].to_string()
}

/// The values of a view, which need not be aligned; `None` where they are not f32.
fn floats(view: &TensorView) -> Option<Vec<f32>> {
    let words = view.data().as_chunks::<4>().0;
    (view.dtype() == Dtype::F32).then(|| words.iter().map(|&word| f32::from_le_bytes(word)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::DiffAugment;

    #[test]
    fn the_probability_of_changes_in_an_earlier_run_is_read_as_their_strength() {
        let model = Model::named("gan-mlp").unwrap();
        let mut settings = Settings::bare(&model, 100, 4);
        (settings.diff_augment, settings.adaptive_augment) = (DiffAugment::ALL, true);
        let mut checkpoint = Checkpoint::initial(&model, &settings);
        let mut stored = checkpoint.tensors.remove(AUGMENT_STRENGTH).unwrap();
        (stored.name, stored.values) = (AUGMENT_PROBABILITY.into(), vec![0.25]);
        checkpoint.put("", vec![stored]);
        let read = Checkpoint::from_bytes(&checkpoint.to_bytes()).unwrap();
        assert_eq!(read.augment_strength(), Some(0.25));
    }
}
