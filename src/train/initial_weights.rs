//! Transfer learning: a run that starts from the trained weights of another one, `gpu-gan train --init`.
//!
//! A layer is taken where both models have a layer of its number and kind, and all its tensors have the same shapes. The first
//! weights of a conditional generator and the last ones of its discriminator are taken class by class: what all classes share, and
//! those classes that both runs have by name. Everything else starts as in any other run. The optimiser and the learning-rate schedule
//! begin anew. Weights come from weights and the EMA from the EMA, so the discriminator meets the generator that it was trained against,
//! and the first sheets look like those of the other run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::checkpoint::{ADAM_M, ADAM_V, EMA};
use super::settings::InitSource;
use super::{Checkpoint, Classes, RunFolder};
use crate::data::listed_names;
use crate::error::{Error, Result};
use crate::files::{path_of, text_of};
use crate::net::parameters::StoredTensor;
use crate::net::{Layer, Model};

/// The networks, in the order in which they are named.
const NETWORKS: [&str; 2] = ["generator", "discriminator"];

/// A checkpoint that a run takes its initial weights from.
pub(super) struct TrainedWeights {
    /// The path of the checkpoint file.
    path: PathBuf,
    /// The checkpoint.
    checkpoint: Checkpoint,
}

/// The tensors of a layer of the new run under their names in its checkpoint, and the names of the classes whose weights start fresh.
type TakenLayer = (Vec<(String, StoredTensor<f32>)>, Vec<String>);

/// The classes of two runs, along an axis of a tensor.
struct ClassAxis {
    /// The axis.
    axis: usize,
    /// The length of the axis before the first class: the latent size, or 1 in the discriminator.
    shared: usize,
    /// For each class of the new run the same class of the other run.
    counterparts: Vec<Option<usize>>,
    /// The number of classes of the other run.
    others: usize,
}

impl TrainedWeights {
    /// Reads a checkpoint, or the newest one of a run.
    ///
    /// # Errors
    ///
    /// Where there is none, or it cannot be used.
    pub(super) fn read(run: &str) -> Result<Self> {
        let path = Checkpoint::find(&RunFolder::find(&path_of(run))?)?;
        let checkpoint = Checkpoint::read(&path)?;
        Ok(Self { path, checkpoint })
    }

    /// What is saved with the new run.
    pub(super) fn source(&self) -> InitSource {
        InitSource { path: crate::data::absolute(&text_of(&self.path)), fingerprint: self.checkpoint.fingerprint() }
    }

    /// The model that was trained.
    pub(super) fn model(&self) -> &Model {
        &self.checkpoint.model
    }

    /// Puts the weights that fit into a run that has not begun, and says which they are, in two lines at most.
    ///
    /// # Errors
    ///
    /// Where no layer with weights fits.
    pub(super) fn put_into(&self, start: &mut Checkpoint) -> Result<Vec<String>> {
        let mut layers: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
        for name in start.tensors().keys() {
            if let Some(layer) = layer_of(name) {
                layers.entry(layer).or_default().push(name.clone());
            }
        }
        let (mut taken, mut fresh, mut with_weights) = (Vec::new(), Vec::new(), false);
        for ((network, number), names) in layers {
            let network = NETWORKS[network];
            match self.layer(start, network, number, &names) {
                Ok((tensors, without)) => {
                    with_weights |= tensors.iter().any(|(_, tensor)| tensor.shape.len() > 1);
                    start.replace(tensors);
                    taken.push((network, number));
                    if !without.is_empty() {
                        fresh.push(format!("{network} {number} for the {}", listed_classes(&without)));
                    }
                }
                Err(reason) => fresh.push(format!("{network} {number} ({reason})")),
            }
        }
        let path = self.path.display();
        if !with_weights {
            return Err(Error::Request {
                message: format!(
                    "no layer with weights of {path}, whose model is {}, fits the model {}: {}",
                    self.model().name,
                    start.model.name,
                    fresh.first().map_or("", String::as_str)
                ),
                hint: "leave out `model` to train the model of `init`, or choose a model that begins or ends with the same layers; \
                       `gpu-gan summary` lists them"
                    .into(),
            });
        }
        let mut lines =
            vec![format!("initial        {}, step {}: took {}", path, self.checkpoint.step, listed_layers(&taken))];
        if !fresh.is_empty() {
            lines.push(format!("initial        fresh: {}", fresh.join(", ")));
        }
        Ok(lines)
    }

    /// What is taken of a layer; or the reason why it starts fresh.
    fn layer(&self, start: &Checkpoint, network: &str, number: usize, names: &[String]) -> Result<TakenLayer, String> {
        let [mine, theirs] = [&start.model, self.model()].map(|model| layers_of(model, network).get(number));
        let kinds = [mine, theirs].map(|layer| layer.map(Layer::kind));
        match kinds {
            [Some(mine), Some(theirs)] if mine != theirs => return Err(format!("it is {mine}, there {theirs}")),
            [_, None] => return Err("there is no such layer".into()),
            _ => {}
        }
        let axis = self.class_axis(start, network, number);
        let mut tensors = Vec::new();
        for name in names {
            let all = if network == "generator" && !is_gathered(name) { &["", EMA][..] } else { &[""] };
            for prefix in all {
                let key = format!("{prefix}{name}");
                let fresh = &start.tensors()[&key];
                let trained = self.checkpoint.tensors().get(&key);
                let trained = trained.ok_or_else(|| format!("it has a {}, there is none", suffix(name)))?;
                let values = match &axis {
                    Some(axis) if !is_gathered(name) => axis.merge(fresh, trained),
                    _ => (fresh.shape == trained.shape).then(|| trained.values.clone()),
                };
                match values {
                    Some(values) => tensors.push((key, StoredTensor { values, ..fresh.clone() })),
                    None if is_singular_vector(name) => {} // training finds it again
                    None => {
                        let [fresh, trained] = [&fresh.shape, &trained.shape].map(|shape| shape_in_words(shape));
                        return Err(format!("its {} is {fresh}, there {trained}", suffix(name)));
                    }
                }
            }
        }
        let without = axis.map_or(Vec::new(), |axis| axis.without_counterpart(start));
        Ok((tensors, without))
    }

    /// The axis of the classes, if the layer is where a network is given the class and one of the two runs is conditional.
    fn class_axis(&self, start: &Checkpoint, network: &str, number: usize) -> Option<ClassAxis> {
        let (model, other) = (&start.model, self.model());
        if model.classes.is_none() && other.classes.is_none() {
            return None;
        }
        let layers = layers_of(model, network);
        let has_weights =
            |layer: &&Layer| matches!(layer, Layer::Linear { .. } | Layer::Conv { .. } | Layer::TransposedConv { .. });
        let numbers: Vec<usize> =
            layers.iter().enumerate().filter(|(_, layer)| has_weights(layer)).map(|(number, _)| number).collect();
        let (place, axis, shared) = if network == "generator" {
            let first = *numbers.first()?;
            let axis = usize::from(!matches!(layers[first], Layer::TransposedConv { .. }));
            if model.latent != other.latent {
                return None;
            }
            (first, axis, model.latent)
        } else {
            (*numbers.last()?, 0, 1)
        };
        (place == number).then(|| ClassAxis {
            axis,
            shared,
            counterparts: counterparts(
                model.classes.unwrap_or(0),
                start.settings.classes.as_ref(),
                other.classes.unwrap_or(0),
                self.checkpoint.settings.classes.as_ref(),
            ),
            others: other.classes.unwrap_or(0),
        })
    }
}

impl ClassAxis {
    /// The values of the trained tensor, and where a class has no counterpart those of the fresh one. `None` where the shapes do not fit. A
    /// tensor without the axis, such as a bias of the generator's first layer, fits as a whole.
    fn merge(&self, fresh: &StoredTensor<f32>, trained: &StoredTensor<f32>) -> Option<Vec<f32>> {
        let Self { axis, shared, counterparts, others } = self;
        if fresh.shape.len() <= *axis {
            return (fresh.shape == trained.shape).then(|| trained.values.clone());
        }
        let has_classes = |shape: &[usize], classes: usize| shape[*axis] == shared + classes;
        let without_axis = |shape: &[usize]| -> Vec<usize> {
            shape.iter().enumerate().filter(|(at, _)| at != axis).map(|(_, size)| *size).collect()
        };
        let fits = fresh.shape.len() == trained.shape.len()
            && has_classes(&fresh.shape, counterparts.len())
            && has_classes(&trained.shape, *others)
            && without_axis(&fresh.shape) == without_axis(&trained.shape);
        if !fits {
            return None;
        }
        let inner: usize = fresh.shape[axis + 1..].iter().product();
        let (mine, theirs) = (fresh.shape[*axis], trained.shape[*axis]);
        let mut values = fresh.values.clone();
        for (row, block) in values.chunks_exact_mut(inner).enumerate() {
            let (outer, at) = (row / mine, row % mine);
            let from = if at < *shared { Some(at) } else { counterparts[at - shared].map(|class| shared + class) };
            if let Some(from) = from {
                block.copy_from_slice(&trained.values[(outer * theirs + from) * inner..][..inner]);
            }
        }
        Some(values)
    }

    /// The names of the classes of the new run that the other one does not have.
    fn without_counterpart(&self, start: &Checkpoint) -> Vec<String> {
        let classes = start.settings.classes.as_ref();
        let missing = self.counterparts.iter().enumerate().filter(|(_, there)| there.is_none());
        missing.map(|(class, _)| name_of(classes, class)).collect()
    }
}

/// For each of `count` classes the class of the same name of the `others`. Classes without names have their numbers as names.
fn counterparts(
    count: usize,
    classes: Option<&Classes>,
    others: usize,
    other_classes: Option<&Classes>,
) -> Vec<Option<usize>> {
    let there: Vec<String> = (0..others).map(|class| name_of(other_classes, class)).collect();
    (0..count).map(|class| there.iter().position(|name| *name == name_of(classes, class))).collect()
}

fn name_of(classes: Option<&Classes>, class: usize) -> String {
    classes.and_then(|classes| classes.name(class)).map_or_else(|| class.to_string(), str::to_string)
}

fn layers_of<'a>(model: &'a Model, network: &str) -> &'a [Layer] {
    if network == "generator" { &model.generator } else { &model.discriminator }
}

/// Index in [`NETWORKS`] and number of the layer that a tensor of weights or running statistics belongs to.
fn layer_of(name: &str) -> Option<(usize, usize)> {
    if [EMA, ADAM_M, ADAM_V].iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let (network, rest) = name.split_once('.')?;
    let network = NETWORKS.iter().position(|known| *known == network)?;
    Some((network, rest.split_once('.')?.0.parse().ok()?))
}

/// The last part of a tensor's name.
fn suffix(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Whether training gathers a tensor instead of learning it, so that it has no EMA.
fn is_gathered(name: &str) -> bool {
    ["running_mean", "running_var"].contains(&suffix(name)) || is_singular_vector(name)
}

fn is_singular_vector(name: &str) -> bool {
    ["weight_u", "weight_v"].contains(&suffix(name))
}

/// `64 x 100`.
fn shape_in_words(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ")
}

/// `generator 1, 2, 5; discriminator 0, 3`.
fn listed_layers(layers: &[(&str, usize)]) -> String {
    let of = |network: &str| {
        let numbers: Vec<String> =
            layers.iter().filter(|(of, _)| *of == network).map(|(_, number)| number.to_string()).collect();
        if numbers.is_empty() {
            format!("no layer of the {network}")
        } else {
            format!("{network} {}", numbers.join(", "))
        }
    };
    format!("{}; {}", of("generator"), of("discriminator"))
}

/// `class cats`, `classes cats, dogs`, or `12 classes`.
fn listed_classes(classes: &[String]) -> String {
    const MOST: usize = 8;
    match classes {
        [one] => format!("class {one}"),
        few if few.len() <= MOST => format!("classes {}", listed_names(few)),
        many => format!("{} classes", many.len()),
    }
}
