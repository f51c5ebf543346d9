//! A model: two lists of layers, their initialisation and the settings of their training.

#[cfg(test)]
mod file_tests;
mod rules;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::Path;

use super::initialisation::Initialisation;
use super::layer::{Layer, Shape};
use super::limits::{CLASSES, MAX_FILE_BYTES};
use super::read_layers::{NamedSizes, layers};
use super::read_model;
use super::sized;
use super::toml_table::{ModelText, listed};
use super::training_section;
use crate::error::{Error, Result, nearest};
use crate::recipe::{ImageSize, MAX_PAC, Recipe, TrainingSettings};

/// Name and text of each built-in model file of one size.
const BUILT_IN: [(&str, &str); 8] = [
    ("gan-mlp", include_str!("../../data/models/gan-mlp.toml")),
    ("dcgan-small", include_str!("../../data/models/dcgan-small.toml")),
    ("dcgan-fast", include_str!("../../data/models/dcgan-fast.toml")),
    ("dcgan-28", include_str!("../../data/models/dcgan-28.toml")),
    ("dcgan-fast-64", include_str!("../../data/models/dcgan-fast-64.toml")),
    ("dcgan-64", include_str!("../../data/models/dcgan-64.toml")),
    ("upconv-64", include_str!("../../data/models/upconv-64.toml")),
    ("upconv-aerial", include_str!("../../data/models/upconv-aerial.toml")),
];

/// A generator, a discriminator and the settings of their training: the checked contents of a model file.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Name, of letters, digits, `-`, `_` and `.`, so that it can be part of a file name.
    pub name: String,
    /// Description of the model in one line.
    pub about: String,
    /// Height, width and channels of the images. [`Self::range`] is the range of their values.
    pub image: Shape,
    /// Length of the latent vector, whose values are normally distributed.
    pub latent: usize,
    /// Number of classes of a class-conditional model; `None` for an unconditional model.
    pub classes: Option<usize>,
    /// Whether a run on images with classes is conditional if nothing else is requested. Models of published recipes, which have no
    /// classes, are not.
    pub conditional_by_default: bool,
    /// Layers from [`Self::generator_input`] to an image.
    pub generator: Vec<Layer>,
    /// Number of images that the discriminator sees at once, concatenated along their channels; all are real or all are generated
    /// (`PacGAN`: Lin et al. 2018). More than 1 helps against mode collapse.
    pub pac: usize,
    /// Layers from [`Self::discriminator_input`] to one logit, which is positive for images that look real. In a conditional
    /// model the last layer has one more logit for each class, so it is wider here than in the file.
    /// [`Op::PickLogit`](crate::program::Op::PickLogit) combines them into one logit.
    pub discriminator: Vec<Layer>,
    /// The options that the model file gives for training.
    pub recipe: Recipe,
    /// Settings of the training: [`Self::recipe`], with [`Recipe::built_in`] for the options that it does not give.
    pub training: TrainingSettings,
    /// Initial values of the parameters.
    pub initial: Initialisation,
    /// The text of the model file, unchanged.
    source: String,
}

impl Model {
    /// Name of the default model, which is built for a size by [`Self::sized`].
    pub const SIZED: &'static str = sized::NAME;

    /// Names of the built-in models.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        std::iter::once(Self::SIZED).chain(BUILT_IN.iter().map(|(name, _)| *name))
    }

    /// A built-in model; [`Self::SIZED`] for grey images of 28 x 28 pixels.
    ///
    /// # Errors
    ///
    /// If there is no built-in model of this name.
    pub fn named(name: &str) -> Result<Self> {
        if name == Self::SIZED {
            return Self::sized(sized::DEFAULT_IMAGE);
        }
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Self::parse(text, name),
            None => Err(Error::Model {
                message: format!("there is no built-in model called {name:?}"),
                hint: format!("built-in models: {}", listed(&Self::built_in().collect::<Vec<_>>())),
            }),
        }
    }

    /// The model [`Self::SIZED`] for images of this height, width and number of channels.
    ///
    /// # Errors
    ///
    /// If the model has no network for the size: a side is out of range or divisible by too small a power of two.
    pub fn sized(image: Shape) -> Result<Self> {
        Self::parse(&sized::text(image)?, Self::SIZED)
    }

    /// A built-in model by its name, or the model file at a path.
    ///
    /// # Errors
    ///
    /// If the model or file does not exist, or the file has a mistake.
    pub fn open(name_or_path: &str) -> Result<Self> {
        let path = Path::new(name_or_path);
        if Self::built_in().any(|name| name == name_or_path) {
            return Self::named(name_or_path);
        }
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Err(Error::Model {
                message: format!("there is no model called {name_or_path:?}"),
                hint: format!(
                    "{}built-in models: {}; the path of a model file must end in .toml",
                    nearest(name_or_path, Self::built_in())
                        .map(|name| format!("did you mean `{name}`? "))
                        .unwrap_or_default(),
                    listed(&Self::built_in().collect::<Vec<_>>())
                ),
            });
        }
        let bytes = read_at_most(path, MAX_FILE_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|error| Error::Model {
            message: format!(
                "{name_or_path} is not a model file: its byte {} is not UTF-8 text",
                error.utf8_error().valid_up_to()
            ),
            hint: "a model file is written in TOML, as plain text".into(),
        })?;
        Self::parse(&text, name_or_path)
    }

    /// [`Self::open`], with a requested size of the images, which only [`Self::SIZED`] can have, and a requested number of channels. The
    /// images of [`Self::SIZED`] have the shape `default` if nothing is requested.
    ///
    /// # Errors
    ///
    /// As [`Self::open`], and if the model cannot have the size or the number of channels.
    pub fn open_for(name: &str, size: Option<ImageSize>, channels: Option<usize>, default: Shape) -> Result<Self> {
        let [height, width, of_default] = default;
        if name == Self::SIZED {
            let ImageSize { width, height } = size.unwrap_or(ImageSize { width, height });
            let channels = channels.unwrap_or(of_default);
            check_channels(channels)?;
            return Self::sized([height, width, channels]);
        }
        let model = Self::open(name)?;
        if let Some(size) = size {
            return Err(Error::Request {
                message: format!("the model {name} has one size, so it cannot have the size {size}"),
                hint: format!("leave out --size, or choose the model {}, which is built for a size", Self::SIZED),
            });
        }
        channels.map_or_else(|| Ok(model.clone()), |channels| model.with_channels(channels))
    }

    /// A model from the text of its file. `origin` is its name in messages.
    ///
    /// # Errors
    ///
    /// If the text is not a valid model file or its layers do not fit together. The message names the line and the layer.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let file = ModelText { origin, text };
        let top = read_model::top(file)?;
        let image = read_model::image(&top)?;
        let (latent, classes) = (read_model::latent(&top)?, read_model::classes(&top)?);
        let sizes = NamedSizes { image, latent: latent + classes.unwrap_or(0) };
        let (generator, generator_lines) = layers(file, &top, "generator", sizes)?;
        let (discriminator, discriminator_lines) = layers(file, &top, "discriminator", sizes)?;
        let recipe = training_section::training(file, &top)?;
        let mut model = Self {
            name: read_model::name(&top)?,
            about: read_model::about(&top)?,
            image,
            latent,
            classes,
            conditional_by_default: read_model::conditional_by_default(&top)?,
            pac: read_model::pac(&top)?,
            generator,
            discriminator,
            training: TrainingSettings::new(&recipe),
            recipe,
            initial: read_model::initial(&top)?,
            source: text.to_string(),
        };
        if model.classes.is_some() && model.pac > 1 {
            let message = format!("a discriminator that sees {} images at once cannot be conditional", model.pac);
            return Err(file.mistake(&top.span("classes"), &message, "leave out either pac or classes"));
        }
        model.check_generator(file, &generator_lines)?;
        model.check_discriminator(file, &discriminator_lines)?;
        model.add_class_logits(file, &discriminator_lines)?;
        match model.batch_mistake(model.training.batch_size) {
            Some((message, hint)) => Err(file.mistake(&top.span("training"), &message, hint)),
            None => Ok(model),
        }
    }

    /// The text of the model file, unchanged.
    pub fn to_toml(&self) -> &str {
        &self.source
    }

    /// The same model for images with 1 channel (grey), 3 (colour) or 4 (colour and transparency). Its text has the new number of
    /// channels.
    ///
    /// # Errors
    ///
    /// If `channels` is another number, or the generator's layers give another number of channels: its last layer should have
    /// `channels = "image"`.
    pub fn with_channels(&self, channels: usize) -> Result<Self> {
        check_channels(channels)?;
        let file = ModelText { origin: &self.name, text: &self.source };
        let place = read_model::image_channels_span(&read_model::top(file)?)?;
        let mut text = self.source.clone();
        text.replace_range(place, &channels.to_string());
        Self::parse(&text, &format!("{} with {channels} channels", self.name))
    }

    /// The same model, conditional on this number of classes, in 2 to 256. Its text has the line `classes = N`.
    ///
    /// # Errors
    ///
    /// If the number is out of range or the layers do not fit it: a reshape of the latent should have `channels = "latent"`, and the
    /// discriminator should end in a linear layer or a convolution.
    pub fn with_classes(&self, classes: usize) -> Result<Self> {
        if !CLASSES.contains(&classes) {
            return Err(Error::Request {
                message: format!("number of classes {classes} is out of range {}..={}", CLASSES.start(), CLASSES.end()),
                hint: format!("choose {} to {} classes", CLASSES.start(), CLASSES.end()),
            });
        }
        let file = ModelText { origin: &self.name, text: &self.source };
        let (place, before) = read_model::classes_position(file, &read_model::top(file)?)?;
        let mut text = self.source.clone();
        text.replace_range(place, &format!("{before}{classes}"));
        Self::parse(&text, &format!("{} with {classes} classes", self.name))
    }

    /// The same unconditional model. Its text does not have the line `classes = N`.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] if the layers do not fit together without classes.
    pub fn without_classes(&self) -> Result<Self> {
        if self.classes.is_none() {
            return Ok(self.clone());
        }
        let file = ModelText { origin: &self.name, text: &self.source };
        let (value, _) = read_model::classes_position(file, &read_model::top(file)?)?;
        let start = self.source[..value.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.source[value.end..].find('\n').map_or(self.source.len(), |at| value.end + at + 1);
        let mut text = self.source.clone();
        text.replace_range(start..end, "");
        Self::parse(&text, &format!("{} without classes", self.name))
    }

    /// The same model with another [`Self::pac`]. Its text has the line `pac = N`.
    ///
    /// # Errors
    ///
    /// If the number is out of range, or the discriminator's layers or the batch size do not fit it.
    pub fn with_pac(&self, pac: usize) -> Result<Self> {
        if !(1..=MAX_PAC).contains(&pac) {
            return Err(Error::Request {
                message: format!("pac {pac} is out of range 1..={MAX_PAC}"),
                hint: "choose the number of images that the discriminator sees at once, such as 2".into(),
            });
        }
        let file = ModelText { origin: &self.name, text: &self.source };
        let mut text = self.source.clone();
        match read_model::pac_span(&read_model::top(file)?)? {
            Some(place) => text.replace_range(place, &pac.to_string()),
            None if pac == 1 => {}
            None => text.insert_str(0, &format!("pac = {pac}\n")), // before the first [section]
        }
        Self::parse(&text, &format!("{} with pac = {pac}", self.name))
    }

    /// Shape of the generator's input, an image of one pixel: the latent vector, followed by the one-hot vector of the class in a
    /// conditional model.
    pub fn generator_input(&self) -> Shape {
        [1, 1, self.latent + self.classes.unwrap_or(0)]
    }

    /// Shape of the discriminator's input: [`Self::pac`] images concatenated along their channels.
    pub fn discriminator_input(&self) -> Shape {
        let [h, w, c] = self.image;
        [h, w, self.pac * c]
    }

    /// Values of black and white in the networks: 0 and 1 if the generator ends in a sigmoid, else -1 and 1.
    pub fn range(&self) -> [f64; 2] {
        let reshapes = |layer: &&Layer| matches!(layer, Layer::Reshape { .. } | Layer::Flatten);
        match self.generator.iter().rev().find(|layer| !reshapes(layer)) {
            Some(Layer::Sigmoid) => [0.0, 1.0],
            _ => [-1.0, 1.0],
        }
    }

    /// Name, layers and input shape of both networks.
    pub(crate) fn networks(&self) -> [(&'static str, &[Layer], Shape); 2] {
        [
            ("generator", &self.generator, self.generator_input()),
            ("discriminator", &self.discriminator, self.discriminator_input()),
        ]
    }
}

/// Refuses numbers of channels that images cannot have.
fn check_channels(channels: usize) -> Result<()> {
    if matches!(channels, 1 | 3 | 4) {
        return Ok(());
    }
    Err(Error::Request {
        message: format!("images cannot have {channels} channels"),
        hint: "choose 1 (grey), 3 (red, green, blue) or 4 (red, green, blue, alpha)".into(),
    })
}

fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(Error::file("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::Model {
            message: format!("{} is larger than a model file may be, {limit} bytes", path.display()),
            hint: "check that it is a model file: they are a few kilobytes of TOML".into(),
        });
    }
    Ok(bytes)
}
