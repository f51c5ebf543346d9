//! The model file: two lists of layers, how they start and how they are trained.

use std::io::Read;
use std::path::Path;

use super::file::{File, Span, listed};
use super::layer::{self, Layer, Placed, Shape, Size};
use super::read::{self, MAX_PAC, Sizes};
use super::training::Training;
use super::training_section::{self, MAX_BATCH};
use crate::error::{Error, Result};

/// The models that come with the program, by name.
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

const MAX_FILE_BYTES: u64 = 1 << 20;

/// A generator, a discriminator, and how they are trained: everything that a model file says, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Letters, digits, `-`, `_` and `.`, so that it may be part of a file's name.
    pub name: String,
    /// One sentence on what it is.
    pub about: String,
    /// Height, width and channels of the images; their values are in [`Self::range`].
    pub image: Shape,
    /// How many normal numbers the generator makes an image from.
    pub latent: usize,
    /// How many classes the images are of, where both networks are told the class of each: such a model is conditional.
    pub classes: Option<usize>,
    /// From [`Self::latents`] to an image.
    pub generator: Vec<Layer>,
    /// How many images the discriminator sees at a time, all real or all made, side by side in the channels of one (Lin et al.
    /// 2018, "The power of two samples in generative adversarial networks"): it finds out a generator that makes always the same.
    pub pac: usize,
    /// From an image, or a pack of them, to one logit, which is positive where it is judged real; of a conditional model to one
    /// more for each class, so that its last layer is wider here than in the file.
    /// [`Op::PickLogit`](crate::program::Op::PickLogit) makes one of them.
    pub discriminator: Vec<Layer>,
    /// How it is trained.
    pub training: Training,
    /// How its parameters start.
    pub initial: Initial,
    source: String,
}

/// How parameters start. The beta of batch normalisation starts at 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Initial {
    /// Of linear layers, convolutions and transposed convolutions.
    pub weight: Draw,
    /// The gamma of batch normalisation.
    pub gamma: Normal,
}

/// How weights and biases are drawn. A weight of shape (K, K, `C_IN`, `C_OUT`) has the fans `K * K * C_IN` and `K * K * C_OUT`; that
/// of a transposed convolution has the fans of the convolution that it reverses, as in PyTorch.
#[derive(Debug, Clone, PartialEq)]
pub enum Draw {
    /// Weights are normal numbers, biases 0.
    Normal(Normal),
    /// Weights are uniform in `+-sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010, equation 16), biases 0: what Keras does
    /// unless told otherwise.
    GlorotUniform,
    /// Weights and biases are uniform in `+-1 / sqrt(fan_in)`: what PyTorch does unless told otherwise.
    FanInUniform,
}

/// A draw of normal numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Normal {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation; 0 makes all of them the mean.
    pub std: f64,
}

impl Model {
    /// The names of the models that come with the program.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A model that comes with the program.
    pub fn named(name: &str) -> Result<Self> {
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Self::parse(text, name),
            None => Err(Error::Model {
                message: format!("there is no built-in model called {name:?}"),
                hint: format!("built-in models: {}", listed(&Self::built_in().collect::<Vec<_>>())),
            }),
        }
    }

    /// A built-in model by its name, or else the model file at a path.
    pub fn open(name_or_path: &str) -> Result<Self> {
        let path = Path::new(name_or_path);
        if Self::built_in().any(|name| name == name_or_path) {
            return Self::named(name_or_path);
        }
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Err(Error::Model {
                message: format!("there is no model called {name_or_path:?}"),
                hint: format!(
                    "built-in models: {}; the path of a model file must end in .toml",
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

    /// A model from the text of its file. `origin` is what sentences about mistakes call it.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let file = File { origin, text };
        let top = read::top(file)?;
        let image = read::image(&top)?;
        let (latent, classes) = (read::latent(&top)?, read::classes(&top)?);
        let sizes = Sizes { image, latent: latent + classes.unwrap_or(0) };
        let (generator, generator_lines) = read::layers(file, &top, "generator", sizes)?;
        let (discriminator, discriminator_lines) = read::layers(file, &top, "discriminator", sizes)?;
        let mut model = Self {
            name: read::name(&top)?,
            about: read::about(&top)?,
            image,
            latent,
            classes,
            pac: read::pac(&top)?,
            generator,
            discriminator,
            training: training_section::training(&top)?,
            initial: read::initial(&top)?,
            source: text.to_string(),
        };
        if model.classes.is_some() && model.pac > 1 {
            let message =
                format!("a discriminator that sees {} images at a time cannot be told their class", model.pac);
            return Err(file.mistake(&top.span("classes"), &message, "leave out either pac or classes"));
        }
        model.check_generator(file, &generator_lines)?;
        model.check_discriminator(file, &discriminator_lines)?;
        model.judge_classes(file, &discriminator_lines)?;
        match model.batch_mistake(model.training.batch_size) {
            Some((message, hint)) => Err(file.mistake(&top.span("training"), &message, hint)),
            None => Ok(model),
        }
    }

    /// The text of the model file, word for word.
    pub fn to_toml(&self) -> &str {
        &self.source
    }

    /// The same model for images of other channels: 1 is grey, 3 is colour. The text of its file changes with it, in that one
    /// place.
    ///
    /// # Errors
    ///
    /// Where its layers do not follow: those that end the generator should say `channels = "image"`.
    pub fn with_channels(&self, channels: usize) -> Result<Self> {
        if !matches!(channels, 1 | 3) {
            return Err(Error::Request {
                message: format!("images cannot have {channels} channels"),
                hint: "choose 1 (grey) or 3 (red, green, blue)".into(),
            });
        }
        let file = File { origin: &self.name, text: &self.source };
        let place = read::image_channels(&read::top(file)?)?;
        let mut text = self.source.clone();
        text.replace_range(place, &channels.to_string());
        Self::parse(&text, &format!("{} with {channels} channels", self.name))
    }

    /// The same model for images of so many classes, which both networks are then told. The text of its file says so, in a line
    /// behind that of the latent.
    ///
    /// # Errors
    ///
    /// Where its layers do not follow: a reshape of the latent should say `channels = "latent"`, and the discriminator should end
    /// in a linear layer or a convolution.
    pub fn with_classes(&self, classes: usize) -> Result<Self> {
        if !read::CLASSES.contains(&classes) {
            return Err(Error::Request {
                message: format!("a model cannot be told {classes} classes apart"),
                hint: format!("choose {} to {} classes", read::CLASSES.start(), read::CLASSES.end()),
            });
        }
        let file = File { origin: &self.name, text: &self.source };
        let (place, before) = read::classes_place(file, &read::top(file)?)?;
        let mut text = self.source.clone();
        text.replace_range(place, &format!("{before}{classes}"));
        Self::parse(&text, &format!("{} with {classes} classes", self.name))
    }

    /// The same model with another number of images that its discriminator sees at a time. The text of its file changes with it.
    ///
    /// # Errors
    ///
    /// Where the discriminator's layers or the batch do not follow.
    pub fn with_pac(&self, pac: usize) -> Result<Self> {
        if !(1..=MAX_PAC).contains(&pac) {
            return Err(Error::Request {
                message: format!("images cannot be packed by {pac}"),
                hint: format!("choose a number of images from 1 to {MAX_PAC}, such as 2"),
            });
        }
        let file = File { origin: &self.name, text: &self.source };
        let mut text = self.source.clone();
        match read::pac_span(&read::top(file)?)? {
            Some(place) => text.replace_range(place, &pac.to_string()),
            None if pac == 1 => {}
            None => text.insert_str(0, &format!("pac = {pac}\n")), // before the first [section]
        }
        Self::parse(&text, &format!("{} with pac = {pac}", self.name))
    }

    /// The shape of what the discriminator takes: an image, or several side by side in its channels.
    pub fn judged(&self) -> Shape {
        let [h, w, c] = self.image;
        [h, w, self.pac * c]
    }

    /// Batches are multiples of this: of whole packs, and of whole groups of those that a layer compares.
    pub fn batch_unit(&self) -> usize {
        let groups = self.discriminator.iter().filter_map(|layer| match layer {
            Layer::MinibatchDeviation { group } => Some(*group),
            _ => None,
        });
        self.pac.saturating_mul(groups.fold(1, least_common_multiple))
    }

    /// What the networks have for black and for white: 0 and 1 where the generator ends in a sigmoid, else -1 and 1.
    pub fn range(&self) -> [f64; 2] {
        let reshapes = |layer: &&Layer| matches!(layer, Layer::Reshape { .. } | Layer::Flatten);
        match self.generator.iter().rev().find(|layer| !reshapes(layer)) {
            Some(Layer::Sigmoid) => [0.0, 1.0],
            _ => [-1.0, 1.0],
        }
    }

    /// The shape of the generator's input, an image of one pixel: normal numbers, and behind them one for each class, if the
    /// model is told.
    pub fn latents(&self) -> Shape {
        [1, 1, self.latent + self.classes.unwrap_or(0)]
    }

    /// Whether the networks can be trained with a batch of this many images; the model's own batch size can.
    pub fn check_batch(&self, batch_size: usize) -> Result<()> {
        match self.batch_mistake(batch_size) {
            Some((message, hint)) => Err(Error::Request { message, hint }),
            None => Ok(()),
        }
    }

    /// Whether the gradient penalty of a discriminator can be computed, as [`Network::penalise`](super::Network::penalise)
    /// does it.
    pub fn check_penalty(&self) -> Result<()> {
        let obstacle = self.discriminator.iter().enumerate().find(|(_, layer)| !layer.is_piecewise_linear());
        let Some((number, layer)) = obstacle else { return Ok(()) };
        Err(Error::Request {
            message: format!(
                "a gradient penalty is not possible with discriminator layer {number} ({}): it is made for layers that are \
                 linear, or linear in pieces",
                layer.kind()
            ),
            hint: "leave the penalty out, or choose a model whose discriminator has none of batch-norm, max-pool, \
                   minibatch-deviation, tanh and sigmoid, such as dcgan-fast"
                .into(),
        })
    }

    /// Name, layers and input of both networks.
    pub(super) fn networks(&self) -> [(&'static str, &[Layer], Shape); 2] {
        [("generator", &self.generator, self.latents()), ("discriminator", &self.discriminator, self.judged())]
    }

    /// Why a batch of this many images cannot be trained with, and what to change.
    fn batch_mistake(&self, batch_size: usize) -> Option<(String, String)> {
        if batch_size == 0 || batch_size > MAX_BATCH {
            return Some((
                format!("a batch cannot have {batch_size} images"),
                format!("choose a batch size from 1 to {MAX_BATCH}"),
            ));
        }
        if !batch_size.is_multiple_of(self.pac) {
            return Some((
                format!("a batch of {batch_size} images cannot be packed by {}", self.pac),
                format!("choose a batch size that is a multiple of {}, or another pac", self.pac),
            ));
        }
        if !batch_size.is_multiple_of(self.batch_unit()) {
            let unit = self.batch_unit();
            let packs = if self.pac > 1 { format!(" of packs by {}", self.pac) } else { String::new() };
            return Some((
                format!("a batch of {batch_size} images is no whole number of the discriminator's groups{packs}"),
                format!("choose a batch size that is a multiple of {unit}, or another group of minibatch-deviation"),
            ));
        }
        self.networks().into_iter().find_map(|(network, layers, input)| {
            let batch_size = if network == "discriminator" { batch_size / self.pac } else { batch_size };
            let placed = layer::place(layers, input, "the input").expect("`parse` found that they fit");
            let number = placed.iter().position(|Placed { layer, input: [h, w, _], .. }| {
                matches!(layer, Layer::BatchNorm { .. }) && batch_size * h * w < 2
            })?;
            Some((
                format!(
                    "{network} layer {number} (batch-norm) cannot normalise a batch of {batch_size}: it needs at least two \
                     pixels in each channel"
                ),
                "choose a batch size of at least 2".into(),
            ))
        })
    }

    fn check_generator(&self, file: File<'_>, lines: &[Span]) -> Result<()> {
        if let Some(number) = self.generator.iter().position(Layer::is_spectral) {
            let message = format!("generator layer {number} ({}) has spectral-norm", self.generator[number].kind());
            return Err(file.mistake(&lines[number], &message, "it is for the discriminator alone: leave it out"));
        }
        let compares = |layer: &Layer| matches!(layer, Layer::MinibatchDeviation { .. });
        if let Some(number) = self.generator.iter().position(compares) {
            let message = format!(
                "generator layer {number} (minibatch-deviation) would make an image depend on the others of its batch"
            );
            let hint = "it belongs in the discriminator, before its last convolution or linear layer";
            return Err(file.mistake(&lines[number], &message, hint));
        }
        let output = check_layers(file, "generator", &self.generator, lines, self.latents(), "the latent")?;
        if output == self.image {
            return Ok(());
        }
        Err(file.mistake(
            &lines[lines.len() - 1],
            &format!(
                "the generator ends in {} ({}), but an image is {}",
                Size(output),
                last(&self.generator),
                Size(self.image)
            ),
            "change its layers, or `image`; channels = \"image\" (or features = \"image\") in a layer follows it",
        ))
    }

    fn check_discriminator(&self, file: File<'_>, lines: &[Span]) -> Result<()> {
        let layers = &self.discriminator;
        let output = check_layers(file, "discriminator", layers, lines, self.judged(), "the image")?;
        let (message, hint) = if output != [1, 1, 1] {
            (
                format!(
                    "the discriminator ends in {} ({}), but must end in one logit, 1 x 1 x 1",
                    Size(output),
                    last(layers)
                ),
                "end it with { layer = \"flatten\" } and { layer = \"linear\", features = 1 }",
            )
        } else if layers.last() == Some(&Layer::Sigmoid) {
            (
                format!("the discriminator ends in a probability ({}), but must end in one logit", last(layers)),
                "leave the last layer out: the loss applies the sigmoid itself",
            )
        } else {
            return Ok(());
        };
        Err(file.mistake(&lines[lines.len() - 1], &message, hint))
    }

    /// Where there are classes, the discriminator gives a logit for each, beside the one that the file asks for.
    fn judge_classes(&mut self, file: File<'_>, lines: &[Span]) -> Result<()> {
        let Some(classes) = self.classes else { return Ok(()) };
        let number = self.discriminator.iter().rposition(|layer| *layer != Layer::Flatten).unwrap_or(0);
        match &mut self.discriminator[number] {
            Layer::Linear { features: logits, .. } | Layer::Conv { channels: logits, .. } => *logits += classes,
            other => {
                let message = format!(
                    "the discriminator of a model with classes must end in a linear layer or a convolution, but layer {number} \
                     is {}",
                    other.kind()
                );
                let hint = "end it with { layer = \"flatten\" } and { layer = \"linear\", features = 1 }";
                return Err(file.mistake(&lines[number], &message, hint));
            }
        }
        // A wider layer may be too large.
        check_layers(file, "discriminator", &self.discriminator, lines, self.judged(), "the image").map(|_| ())
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor).saturating_mul(b)
}

/// `layer 11, tanh`.
fn last(layers: &[Layer]) -> String {
    let number = layers.len() - 1;
    format!("layer {number}, {}", layers[number].kind())
}

/// Whether each layer takes what the one before gives; returns the shape that the last one gives.
fn check_layers(
    file: File<'_>,
    network: &str,
    layers: &[Layer],
    lines: &[Span],
    input: Shape,
    source: &str,
) -> Result<Shape> {
    let placed = layer::place(layers, input, source)
        .map_err(|misfit| file.mistake(&lines[misfit.layer], &format!("{network} {}", misfit.message), misfit.hint))?;
    Ok(placed.last().map_or(input, |last| last.output))
}

fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(Error::file("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::Model {
            message: format!("{} is larger than a model file may be, {limit} bytes", path.display()),
            hint: "check that it is a model file: `gpu-gan summary FILE` shows what it holds".into(),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_model_parses_and_is_called_as_its_file() {
        for (name, text) in BUILT_IN {
            let model = Model::open(name).unwrap();
            assert_eq!((model.name.as_str(), model.to_toml()), (name, text));
        }
    }

    #[test]
    fn dcgan_small_has_the_shapes_and_parameters_it_is_known_for() {
        let model = Model::named("dcgan-small").unwrap();
        let shapes = |layers: &[Layer], input| -> Vec<Shape> {
            let placed = layer::place(layers, input, "the input").unwrap();
            placed.iter().filter(|p| p.layer.weights(p.input).is_some()).map(|p| p.output).collect()
        };
        assert_eq!(shapes(&model.generator, model.latents()), [[3, 3, 256], [6, 6, 128], [13, 13, 64], [28, 28, 1]]);
        assert_eq!(shapes(&model.discriminator, model.image), [[13, 13, 16], [5, 5, 32], [1, 1, 64], [1, 1, 1]]);
        let kinds: Vec<&str> = model.generator.iter().map(Layer::kind).collect();
        assert_eq!(kinds[..4], ["reshape", "transposed-conv", "batch-norm", "relu"]);
        assert_eq!(kinds[10..], ["transposed-conv", "tanh"]);
        let parameters = model.networks().map(|(_, layers, input)| -> usize {
            layer::place(layers, input, "the input").unwrap().iter().map(Placed::parameters).sum()
        });
        // 64 -> 256 -> 128 -> 64 -> 1 with kernels of 3, 4, 3, 4, and two numbers for each normalised channel.
        let generator = 9 * 64 * 256 + 16 * 256 * 128 + 9 * 128 * 64 + 16 * 64 + 1 + 2 * (256 + 128 + 64);
        let discriminator = 9 * 16 + 25 * 16 * 32 + 25 * 32 * 64 + 64 + 1 + 2 * (16 + 32 + 64);
        assert_eq!(parameters, [generator, discriminator]);
    }

    /// Trained parameters of both networks, and the generator's with its running statistics.
    fn parameters(model: &Model) -> [usize; 3] {
        let networks = model.networks().map(|(_, layers, input)| layer::place(layers, input, "the input").unwrap());
        let [g, d] = networks.each_ref().map(|placed| placed.iter().map(Placed::parameters).sum());
        [g, d, g + networks[0].iter().map(Placed::statistics).sum::<usize>()]
    }

    #[test]
    fn the_models_have_the_parameters_that_their_sources_publish() {
        for (name, g, d, g_with_statistics) in [
            ("gan-mlp", 1_486_352, 533_505, 1_486_352),
            ("dcgan-28", 2_305_472, 212_865, 2_330_944),
            ("dcgan-64", 3_576_704, 2_765_568, 3_578_624),
            ("upconv-64", 6_619_136 + 295_040 + 256 + 73_792 + 128 + 1_731, 1_246_241, 6_990_467),
            ("upconv-aerial", 19_083_139, 6_489_121, 19_087_235), // 19.09 M
        ] {
            assert_eq!(parameters(&Model::named(name).unwrap()), [g, d, g_with_statistics], "{name}");
        }
    }

    #[test]
    fn every_model_is_there_for_grey_and_for_colour_and_says_so_in_its_text() {
        for name in Model::built_in() {
            let model = Model::named(name).unwrap();
            let [h, w, c] = model.image;
            for channels in [1, 3] {
                let other = model.with_channels(channels).unwrap();
                assert_eq!(other.image, [h, w, channels], "{name}");
                assert_eq!(Model::parse(other.to_toml(), name).unwrap(), other, "{name}");
                assert_eq!(other == model, channels == c, "{name}");
                assert_eq!(other.with_channels(c).unwrap(), model, "{name}");
            }
        }
        // The counts of the sources that have one channel where ours have three.
        let grey = Model::named("dcgan-64").unwrap().with_channels(1).unwrap();
        assert_eq!(parameters(&grey)[..2], [3_576_704 - 2 * 1024, 2_765_568 - 2 * 1024]);
    }

    #[test]
    fn every_model_is_there_for_classes_and_says_so_in_its_text() {
        for name in Model::built_in() {
            let model = Model::named(name).unwrap();
            let conditional = model.with_classes(10).unwrap();
            assert_eq!((model.classes, conditional.classes), (None, Some(10)), "{name}");
            assert!(conditional.to_toml().contains("\nclasses = 10\n"), "{name}");
            assert_eq!(Model::parse(conditional.to_toml(), name).unwrap(), conditional, "{name}");
            assert_eq!(conditional.latents(), [1, 1, model.latent + 10], "{name}");
            let ends = [&model, &conditional].map(|model| {
                let placed = layer::place(&model.discriminator, model.image, "the image").unwrap();
                placed.last().unwrap().output
            });
            assert_eq!(ends, [[1, 1, 1], [1, 1, 11]], "{name}");
            // Where the number stands already, it is replaced; channels and classes do not mind each other.
            let three = conditional.with_classes(3).unwrap();
            assert_eq!(three, model.with_classes(3).unwrap(), "{name}");
            let [_, _, channels] = model.image;
            let other = three.with_channels(4 - channels).unwrap();
            assert_eq!((other.classes, other.image[2]), (Some(3), 4 - channels), "{name}");
        }
    }

    #[test]
    fn an_embedding_of_each_class_and_a_logit_for_it_are_what_classes_add() {
        let model = Model::named("dcgan-fast").unwrap();
        let [g, d, _] = parameters(&model);
        let [g_of_classes, d_of_classes, _] = parameters(&model.with_classes(10).unwrap());
        assert_eq!([g_of_classes - g, d_of_classes - d], [10 * 9 * 256, 10 * (2048 + 1)]);
    }

    #[test]
    fn models_that_cannot_be_told_classes_are_refused_with_what_to_change() {
        let model = Model::named("dcgan-small").unwrap();
        for classes in [0, 1, 257, usize::MAX] {
            let error = model.with_classes(classes).unwrap_err();
            assert_eq!(error.to_string(), format!("a model cannot be told {classes} classes apart"));
            assert_eq!(error.hint(), "choose 2 to 256 classes");
        }
        let changed = |from: &str, to: &str| {
            assert!(model.to_toml().contains(from), "{from}");
            Model::parse(&model.to_toml().replace(from, to), "mine.toml").unwrap()
        };
        let fixed = changed("channels = \"latent\"", "channels = 64").with_classes(10).unwrap_err();
        assert!(fixed.to_string().contains("64 numbers, but the latent is 1 x 1 x 74"), "{fixed}");
        assert!(fixed.hint().contains("channels = \"latent\""), "{}", fixed.hint());
        let reshaped = changed(
            "features = 1 }",
            "features = 4 }, { layer = \"reshape\", height = 2, width = 2, channels = 1 }, { layer = \"max-pool\", size = 2 }",
        );
        let packed = model.with_pac(2).unwrap().with_classes(10).unwrap_err();
        assert!(packed.to_string().contains("2 images at a time cannot be told their class"), "{packed}");
        let error = reshaped.with_classes(10).unwrap_err();
        assert!(
            error.to_string().contains("must end in a linear layer or a convolution, but layer 12 is max-pool"),
            "{error}"
        );
    }

    #[test]
    fn a_model_with_packs_has_a_discriminator_of_more_channels_says_so_in_its_text_and_takes_whole_packs() {
        let model = Model::named("dcgan-fast").unwrap();
        assert_eq!((model.pac, model.judged(), model.with_pac(1).unwrap()), (1, [28, 28, 1], model.clone()));
        let packed = model.with_pac(2).unwrap();
        assert_eq!((packed.pac, packed.judged(), packed.image), (2, [28, 28, 2], [28, 28, 1]));
        assert_eq!(Model::parse(packed.to_toml(), "packed").unwrap(), packed);
        assert_eq!(parameters(&packed)[1], parameters(&model)[1] + 4 * 4 * 32);
        let four = packed.with_pac(4).unwrap().with_channels(3).unwrap();
        assert_eq!((four.judged(), four.to_toml().matches("pac = ").count()), ([28, 28, 12], 1));
        packed.check_batch(64).unwrap();
        let error = packed.check_batch(65).unwrap_err();
        assert_eq!(error.to_string(), "a batch of 65 images cannot be packed by 2");
        assert!(error.hint().contains("a multiple of 2"), "{}", error.hint());
        for pac in [0, 65] {
            assert_eq!(model.with_pac(pac).unwrap_err().to_string(), format!("images cannot be packed by {pac}"));
        }
        // A pack is what batch normalisation has a row of.
        let small = Model::named("dcgan-small").unwrap().with_pac(2).unwrap();
        assert!(small.check_batch(2).unwrap_err().to_string().contains("cannot normalise a batch of 1"));
        assert!(model.with_pac(3).unwrap_err().to_string().contains("a batch of 64 images cannot be packed by 3"));
    }

    #[test]
    fn channels_that_no_image_has_or_that_the_layers_do_not_follow_are_refused() {
        let model = Model::named("dcgan-small").unwrap();
        for channels in [0, 2, 4, usize::MAX] {
            let error = model.with_channels(channels).unwrap_err();
            assert_eq!(error.to_string(), format!("images cannot have {channels} channels"));
            assert_eq!(error.hint(), "choose 1 (grey) or 3 (red, green, blue)");
        }
        let fixed = model.to_toml().replace("channels = \"image\"", "channels = 1");
        let error = Model::parse(&fixed, "fixed.toml").unwrap().with_channels(3).unwrap_err();
        assert!(error.to_string().contains("28 x 28 x 1 (layer 11, tanh), but an image is 28 x 28 x 3"), "{error}");
        assert!(error.hint().contains("channels = \"image\""), "{}", error.hint());
    }

    #[test]
    fn pixels_lie_in_the_range_of_the_generators_last_function() {
        let ranges: Vec<[f64; 2]> = Model::built_in().map(|name| Model::named(name).unwrap().range()).collect();
        let (signed, unsigned) = ([-1.0, 1.0], [0.0, 1.0]);
        assert_eq!(ranges, [signed, signed, signed, signed, signed, signed, unsigned, signed]);
        let text = BUILT_IN[0].1.replace("\"tanh\"", "\"sigmoid\""); // before a reshape
        assert_eq!(vec![Model::parse(&text, "mlp").unwrap().range()], [unsigned]);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_names_there_are() {
        let named = Model::named("dcgan").unwrap_err();
        assert_eq!(named.to_string(), "there is no built-in model called \"dcgan\"");
        assert_eq!(
            named.hint(),
            "built-in models: gan-mlp, dcgan-small, dcgan-fast, dcgan-28, dcgan-fast-64, dcgan-64, upconv-64 and upconv-aerial"
        );
        for name in ["dcgan", "models/dcgan.json", "", "models/"] {
            let error = Model::open(name).unwrap_err();
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
            assert!(error.hint().contains("dcgan-small"), "{}", error.hint());
            assert!(error.hint().contains("must end in .toml"), "{}", error.hint());
        }
    }

    #[test]
    fn a_model_file_is_opened_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, BUILT_IN[1].1).unwrap();
        let model = Model::open(path.to_str().unwrap()).unwrap();
        assert_eq!(model, Model::named("dcgan-small").unwrap());
    }

    #[test]
    fn a_file_that_cannot_be_a_model_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("binary.toml"), [b'a', b'=', 0xff]).unwrap();
        std::fs::write(path("huge.toml"), vec![b'#'; MAX_FILE_BYTES as usize + 1]).unwrap();
        std::fs::create_dir(path("folder.toml")).unwrap();
        for (name, fact) in [
            ("missing.toml", "cannot read"),
            ("folder.toml", "cannot read"),
            ("binary.toml", "byte 2 is not UTF-8"),
            ("huge.toml", "larger than a model file may be"),
        ] {
            let error = Model::open(path(name).to_str().unwrap()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(fact), "{error}");
        }
    }

    #[test]
    fn a_batch_that_batch_norm_cannot_normalise_is_refused_with_the_layer() {
        let model = Model::named("dcgan-small").unwrap();
        model.check_batch(2).unwrap();
        let one = model.check_batch(1).unwrap_err();
        assert!(one.to_string().contains("discriminator layer 7 (batch-norm)"), "{one}");
        assert_eq!(one.hint(), "choose a batch size of at least 2");
        for size in [0, MAX_BATCH + 1, usize::MAX] {
            assert!(model.check_batch(size).unwrap_err().to_string().contains(&size.to_string()));
        }
    }
}
