//! How a run begins or resumes: from a recipe to a checkpoint and its images.

use std::path::Path;

use super::classes::model_by_default;
use super::initial_weights::TrainedWeights;
use super::quality::{Measured, flat_for};
use super::run_folder::CONFIG;
use super::settings::without_classes;
use super::{Checkpoint, Classes, Row, RunFolder, Settings, shared_paths};
use crate::data::{self, ImageSet, Source, aerial, stacked_mnist};
use crate::error::{Error, Result};
use crate::files::{shell_quoted, text_of};
use crate::net::{Model, Shape};
use crate::program::Decay;
use crate::progress::Console;
use crate::recipe::{DeviceOptions, EvalInterval, ModelOptions, OutputOptions, Recipe};

/// The learning-rate schedule of a run that is extended. Without a choice, the rate is kept; a schedule that ends at 0 is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum Extension {
    /// The schedule stays as it was; the steps behind its end have its last rate.
    KeepRate,
    /// The schedule begins again with the full rate, without a warm-up, and ends with the run.
    RestartSchedule,
}

/// Reads a configuration file, such as the `config.toml` of a run. Relative paths in it are relative to its folder. A file of the name
/// `config.toml` is taken for that of a run, whose images may also lie where its `local.toml` says, or in the current folder.
///
/// # Errors
///
/// If the file cannot be read or has an unknown key or a wrong value. The error names the file, the line and the key.
pub fn read_config(path: &Path) -> Result<Recipe> {
    let mut recipe = Recipe::read(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let from_folder = |name: String| text_of(&folder.join(name));
    if path.ends_with(CONFIG) {
        recipe = shared_paths::found(recipe, folder);
        recipe.model.conditional = recipe.model.conditional.or(RunFolder::was_conditional(path));
    }
    let Recipe { data, model, .. } = &mut recipe;
    data.data = data.data.take().map(|name| if data::is_built_in(&name) { name } else { from_folder(name) });
    data.labels = data.labels.take().map(from_folder);
    let is_file = |name: &String| Path::new(name).extension().is_some_and(|extension| extension == "toml");
    model.model = model.model.take().map(|name| if is_file(&name) { from_folder(name) } else { name });
    model.init = model.init.take().map(from_folder);
    Ok(recipe)
}

/// The shape of the default model's images for image files.
const IMAGE_FILES: Shape = [64, 64, 3];
/// The shape of the default model's images for digits.
const DIGITS: Shape = [28, 28, 1];
/// Arrays of images of larger sides are scaled down by default.
const MAX_OWN_SIDE: usize = 64;

/// Begins a run: reads its images and decides every option that the recipe leaves open.
///
/// # Errors
///
/// If an option is out of range, options contradict each other, or the images or the model cannot be read.
pub fn begin(recipe: &Recipe, cache: Option<&Path>, console: &Console) -> Result<(Checkpoint, ImageSet)> {
    recipe.check()?;
    let name = recipe.data.data.as_deref().ok_or_else(|| Error::Request {
        message: "no images are given".into(),
        hint: "give `data`, such as mnist, or a folder of images".into(),
    })?;
    let upscale = recipe.data.upscale.or(Recipe::built_in().data.upscale).unwrap_or_default();
    let source = Source::new(name, recipe.data.tile, recipe.data.stride, upscale)?;
    let source = Source {
        fit: recipe.data.fit.unwrap_or_default(),
        background: recipe.data.background.unwrap_or_default(),
        normalise: recipe.data.normalise.unwrap_or_default(),
        frames: recipe.data.frames.unwrap_or_default(),
        labels: recipe.data.labels.as_deref().map(data::absolute),
        ..source
    };
    let init = recipe.model.init.as_deref().map(TrainedWeights::read).transpose()?;
    let of_init = recipe.model.model.is_none() && recipe.model.size.is_none();
    let trained = init.as_ref().map(TrainedWeights::model).filter(|_| of_init);
    let mut model = match trained {
        Some(trained) => with_options(&trained.without_classes()?, &recipe.model)?,
        None => model_for(&source, &recipe.model)?,
    };
    let images = data::open(&source, model.image, cache, console)?;
    let stays = trained.map(|trained| trained.classes.is_some());
    model = match recipe.model.conditional.or(stays) {
        Some(true) => model.with_classes(images.classes().ok_or_else(|| without_classes(&source))?)?,
        Some(false) => {
            if recipe.model.conditional.is_none() && images.classes().is_some() {
                console.message("classes        not used, since the trained model has none (see --conditional)");
            }
            model.without_classes()?
        }
        None => match model_by_default(&model, &images) {
            Ok(model) => model,
            Err(reason) => {
                console.message(&format!("classes        not used, since {reason} (see --conditional)"));
                model
            }
        },
    };
    let recipe = recipe.over(&usual_options(&source, &model));
    let settings = Settings::with_recipe(&recipe, &model, &images, source)?;
    let settings = Settings { init: init.as_ref().map(TrainedWeights::source), ..settings };
    settings.check(&model)?;
    let mut start = Checkpoint::initial(&model, &settings);
    if let Some(init) = init {
        init.put_into(&mut start)?.iter().for_each(|line| console.message(line));
    }
    Ok((start, images))
}

/// The default options of a data set. Aerial images have no natural orientation, so they are mirrored and rotated.
pub fn usual_options(source: &Source, model: &Model) -> Recipe {
    let mut usual = Recipe::default();
    if source.name == aerial::NAME {
        let [height, width, _] = model.image;
        usual.augmentation.flip = Some(true);
        usual.augmentation.quarter_turns = Some(height == width);
    }
    usual
}

/// The requested model, or the default model of the data set, with the requested size, channels and [`Model::pac`].
///
/// # Errors
///
/// If the model does not exist, its file is invalid, or it cannot have the size, channels or `pac`.
pub fn model_for(source: &Source, asked: &ModelOptions) -> Result<Model> {
    let ModelOptions { model, size, channels, pac, .. } = asked;
    if source.name == stacked_mnist::NAME && model.is_none() && size.is_none() {
        let model = Model::named("dcgan-fast")?.with_channels(channels.unwrap_or(3))?;
        return model.with_pac(pac.unwrap_or(2));
    }
    let name = model.as_deref().unwrap_or(Model::SIZED);
    let model = Model::open_for(name, *size, *channels, default_shape(source)?)?;
    pac.map_or_else(|| Ok(model.clone()), |pac| model.with_pac(pac))
}

/// The shape of the default model's images: the arrays' own shape if it is small and there is a network for it.
fn default_shape(source: &Source) -> Result<Shape> {
    let fits = |&shape: &Shape| shape[0].max(shape[1]) <= MAX_OWN_SIDE && Model::sized(shape).is_ok();
    match source.array_shape()?.filter(fits) {
        Some(own) => Ok(own),
        None => Ok(if source.has_image_files()? { IMAGE_FILES } else { DIGITS }),
    }
}

/// A model with the requested channels and [`Model::pac`].
fn with_options(model: &Model, asked: &ModelOptions) -> Result<Model> {
    let model = asked.channels.map_or_else(|| Ok(model.clone()), |channels| model.with_channels(channels))?;
    asked.pac.map_or_else(|| Ok(model.clone()), |pac| model.with_pac(pac))
}

/// Resumes a run with its saved settings. `changes` may have options that do not change the steps that are done: the length of the run,
/// output options, the device, the memory for images, and the path of the images, which must be the same images. These options are saved
/// from then on.
///
/// If the run is extended beyond its learning-rate schedule, `extension` selects the further schedule. By default, the last rate is kept.
///
/// # Errors
///
/// If the run is complete, other options are given, or the images differ from those that the run began with.
pub fn resume(
    run: &Path,
    changes: &Recipe,
    extension: Option<Extension>,
    cache: Option<&Path>,
    console: &Console,
) -> Result<(Checkpoint, ImageSet)> {
    changes.check()?;
    let path = Checkpoint::find(run)?;
    let mut checkpoint = Checkpoint::read(&path)?;
    refuse_fixed(changes)?;
    let settings = with_changes(&checkpoint.settings, changes)?;
    let planned = std::mem::replace(&mut checkpoint.settings, settings);
    if let Some(moved) = &changes.data.data {
        checkpoint.settings.data = checkpoint.settings.data.moved_to(moved);
    }
    extend(&mut checkpoint.settings, &planned, checkpoint.step, extension)?;
    let settings = &checkpoint.settings;
    settings.check(&checkpoint.model)?;
    if is_complete(&path, checkpoint.step, settings.steps) {
        return Err(Error::Request {
            message: format!("{} is complete: {} of {} steps are done", run.display(), checkpoint.step, settings.steps),
            hint: "request more with `epochs` or `steps`, which count from the beginning of the run".into(),
        });
    }
    let if_moved = || {
        let (run, device) = (shell_quoted(run), settings.device_flag());
        format!("if they moved, name their new path: gpu-gan train PATH --resume {run}{device}")
    };
    let images = training_images(&checkpoint, cache, console).map_err(|error| match error {
        Error::Data { message, .. } => Error::Data {
            message: format!("the images that the run began with cannot be read: {message}"),
            hint: if_moved(),
        },
        other => other,
    })?;
    if format!("{:016x}", images.fingerprint()) != settings.data_fingerprint || images.count() != settings.images {
        return Err(Error::Request {
            message: format!("the images of {} are not those that the run began with", settings.data.name),
            hint: format!("restore the images, or begin a new run; {}", if_moved()),
        });
    }
    let classes = Settings::classes_of(&checkpoint.model, &images, &settings.data)?;
    if !Classes::are_equal(classes.as_ref(), settings.classes.as_ref()) {
        return Err(Error::Request {
            message: format!(
                "the classes of the images of {} are not those that the run began with",
                settings.data.name
            ),
            hint: "restore the labels or the names of the folders, or begin a new run".into(),
        });
    }
    checkpoint.settings.classes = classes; // checkpoints of earlier versions do not have the number of images of each class
    Ok((checkpoint, images))
}

/// Reads the images of a run, with its classes in the order of the run.
///
/// # Errors
///
/// If the images cannot be read.
pub fn training_images(run: &Checkpoint, cache: Option<&Path>, console: &Console) -> Result<ImageSet> {
    let images = data::open(&run.settings.data, run.model.image, cache, console)?;
    Ok(images.in_class_order(run.settings.classes.as_ref().map_or(&[], |classes| &classes.names)))
}

/// Whether nothing is left to do after the step of a checkpoint, if the run ends there. A run that was killed after its last checkpoint
/// has its report still to be drawn.
fn is_ended(checkpoint: &Path, step: u64) -> bool {
    RunFolder::around(checkpoint).map_or(true, |run| run.is_drawn(step))
}

/// Whether nothing is left to do after the step of a checkpoint of a run of `steps` steps.
fn is_complete(checkpoint: &Path, step: u64, steps: u64) -> bool {
    step > steps || (step == steps && is_ended(checkpoint, step))
}

/// Refuses options that cannot be changed when resuming.
fn refuse_fixed(changes: &Recipe) -> Result<()> {
    let mut fixed = changes.clone();
    let Recipe { data, training, output, device, .. } = &mut fixed;
    data.data_memory = None;
    data.data = None; // the same images may have another path
    (training.epochs, training.steps) = (None, None);
    (*output, *device) = (OutputOptions::default(), DeviceOptions::default());
    match fixed.keys().first() {
        Some(key) => Err(Error::Request {
            message: format!("`{key}` cannot be changed when resuming"),
            hint: "leave it out, or begin a new run without --resume".into(),
        }),
        None => Ok(()),
    }
}

/// The settings with options that may change.
fn with_changes(settings: &Settings, changes: &Recipe) -> Result<Settings> {
    let mut changes = changes.clone();
    changes.data.data = None;
    if changes.output.eval_every == Some(EvalInterval(None)) {
        changes.output.stop_when_flat.get_or_insert(0); // without evaluations, there is nothing to compare
    }
    if let Some(epochs) = changes.training.epochs.take() {
        changes.training.steps = Some(settings.steps_of(epochs));
    }
    Settings::saved(&changes.over(&settings.recipe()), settings.facts())
}

/// Decides the learning-rate schedule of a run whose length changed from that of `planned`, after `step` steps.
fn extend(settings: &mut Settings, planned: &Settings, step: u64, extension: Option<Extension>) -> Result<()> {
    let rates = planned.rates;
    let end = rates.decay_steps.unwrap_or(planned.steps);
    if settings.steps == planned.steps || rates.decay == Decay::Constant {
        return match extension {
            Some(_) if rates.decay == Decay::Constant => Err(Error::Request {
                message: "the learning rate of this run does not decay, so it has no schedule to extend".into(),
                hint: "leave out --extend".into(),
            }),
            Some(_) => Err(Error::Request {
                message: format!("the run keeps its length of {} steps", planned.steps),
                hint: "ask for another one with `epochs` or `steps`, or leave out --extend".into(),
            }),
            None => Ok(()),
        };
    }
    // Steps at a rate of 0 would change nothing.
    let ends_at_zero = rates.last == 0.0 && settings.steps > end;
    let extension = extension.unwrap_or(if ends_at_zero { Extension::RestartSchedule } else { Extension::KeepRate });
    match extension {
        Extension::KeepRate if ends_at_zero => Err(Error::Request {
            message: format!(
                "the learning rate of this run is 0 after step {end}, so that steps {} to {} would change nothing",
                end.max(step) + 1,
                settings.steps
            ),
            hint: "leave out --extend to begin again with the full learning rate, or begin a new run".into(),
        }),
        Extension::KeepRate => {
            settings.rates.decay_steps = Some(end);
            Ok(())
        }
        Extension::RestartSchedule => {
            settings.rates.restart = Some(step);
            settings.rates.decay_steps = None;
            Ok(())
        }
    }
}

/// What is left to do for a command that may have begun its run before, as a job that a scheduler started again.
#[derive(Debug)]
pub enum Requeued {
    /// The run is resumed, with these changes.
    Resume(Box<Recipe>),
    /// All steps are done; this is the last checkpoint.
    Complete(Box<Checkpoint>),
}

/// Compares the options of a command with the run that it may have begun: options that the run has already are no changes.
///
/// # Errors
///
/// Where the newest checkpoint cannot be read, or the model is another one. Other options that cannot be changed are refused by
/// [`resume`].
pub fn requeued(run: &Path, asked: &Recipe) -> Result<Requeued> {
    asked.check()?;
    let path = Checkpoint::find(run)?;
    let checkpoint = Checkpoint::read(&path)?;
    let (settings, model) = (&checkpoint.settings, &checkpoint.model);
    let mut asked = asked.clone();
    let of_model = std::mem::take(&mut asked.model);
    let ModelOptions { model: ref name, ref init, size, channels, pac, conditional } = of_model;
    let mut same = match (name, init, size, channels, pac) {
        // Without a name and a size, the model is that of the trained weights, which may have been trained on.
        (None, None, None, None, None) | (None, Some(_), None, ..) => with_options(model, &of_model)?,
        _ => model_for(&settings.data, &of_model)?,
    };
    if let Some(classes) = model.classes.filter(|_| conditional != Some(false) && same.classes.is_none()) {
        same = same.with_classes(classes)?;
    }
    let lacks_classes = conditional == Some(true) && model.classes.is_none();
    if same != *model || lacks_classes || (init.is_some() && settings.init.is_none()) {
        return Err(Error::Request {
            message: format!("{} is a run of another model or other initial weights: {}", run.display(), model.name),
            hint: "leave out the options of the model, or begin a new run in another folder".into(),
        });
    }
    // The length was decided when the run began.
    (asked.training.time, asked.training.min_steps) = (None, None);
    asked.data.labels = asked.data.labels.as_deref().map(data::absolute);
    let data = asked.data.data.take();
    let has = settings.recipe().to_table();
    let mut changes = asked.to_table();
    changes.retain(|key, value| has.get(key) != Some(value));
    let mut changes: Recipe = changes.try_into().expect("some keys of a recipe are a recipe");
    let changed = with_changes(settings, &changes)?;
    let ended_flat = || -> Result<bool> {
        let Some(patience) = changed.output.stop_when_flat else { return Ok(false) };
        let rows = Row::all_of(run)?;
        let distances = rows.iter().filter(|row| row.step <= checkpoint.step).filter_map(Measured::of);
        Ok(flat_for(distances) >= patience && is_ended(&path, checkpoint.step))
    };
    if is_complete(&path, checkpoint.step, changed.steps) || (changed.steps == settings.steps && ended_flat()?) {
        return Ok(Requeued::Complete(Box::new(checkpoint)));
    }
    changes.data.data = data;
    Ok(Requeued::Resume(Box::new(changes)))
}
