//! `dcgan-r1`: a model for images of any size. Its model file is written for a size.
//!
//! The generator doubles a base grid of 4 to 15 pixels by transposed convolutions until it has the size of the image. For small images a
//! convolution makes the image of features of its size, and features below that size are added to a function of the latent; for large ones,
//! the last transposed convolution makes the image. The discriminator halves the image in the same way; for small images it ends with a
//! hidden layer. Where a side is doubled, the channels are halved, so that each layer takes the same work. `docs/quality.md` measures the
//! choices.

use std::fmt::Write;
use std::iter;

use super::layer::Shape;
use crate::error::{Error, Result};
use crate::recipe::{ImageSize, MAX_IMAGE_SIDE};

/// The name of the model.
pub(super) const NAME: &str = "dcgan-r1";
/// The shape of the images if no other one is requested.
pub(super) const DEFAULT_IMAGE: Shape = [28, 28, 1];

/// The smallest side of an image: the smallest base grid, doubled twice.
const MIN_SIDE: usize = 4 * MIN_BASE;
/// The smallest shorter side of a base grid.
const MIN_BASE: usize = 4;
/// The largest shorter side of a base grid.
const MAX_BASE: usize = 15;
/// The longer side of an image is at most this multiple of the shorter one.
const MAX_RATIO: usize = 4;
/// Images with a shorter side up to this are small: they have other networks, larger batches and fewer steps.
const SMALL_SIDE: usize = 32;

/// Channels of the generator below the size of the image.
const GENERATOR: Width = Width { product: 1024, min: 16 };

/// The number of channels by the resolution.
#[derive(Clone, Copy)]
struct Width {
    /// Channels times the resolution.
    product: usize,
    /// The smallest number of channels.
    min: usize,
}

impl Width {
    /// The number of channels of a feature map, from its shorter side.
    fn channels(self, side: usize) -> usize {
        (self.product / side.next_power_of_two()).max(self.min)
    }
}

/// The settings that depend on the size of the images.
struct SizeSettings {
    /// Length of the latent vector.
    latent: usize,
    /// Channels of the generator's features at the size of the image; without them, the last transposed convolution makes the image.
    features: Option<Width>,
    /// Whether a linear function of the latent is added to the generator's features above the base grid and below the size of the image.
    adds_latent: bool,
    /// Channels of the discriminator.
    discriminator: Width,
    /// Features of the discriminator's hidden layer, if it has one.
    hidden: Option<usize>,
    /// Length of a run in epochs.
    epochs: u64,
    /// Steps of a run at least.
    min_steps: u64,
    /// Real images in a batch.
    batch_size: usize,
    /// Learning rate, proportional to the square root of the batch size.
    lr: &'static str,
    /// Changes of DiffAugment on few images.
    diff_augment: &'static str,
    /// Weight of R1. Above 128 x 128 pixels, it is proportional to the number of pixels, as in StyleGAN2-ADA.
    r1: f64,
}

impl SizeSettings {
    fn new([height, width, channels]: Shape) -> Self {
        let pixels = height * width;
        if height.min(width) <= SMALL_SIDE {
            let discriminator = Width { product: 512, min: 16 };
            let features = Some(discriminator);
            let (epochs, min_steps, diff_augment, r1) = (6, 4000, "none", 1.0);
            return Self {
                latent: 64,
                features,
                adds_latent: true,
                discriminator,
                hidden: Some(128),
                epochs,
                min_steps,
                batch_size: 64,
                lr: "2e-3",
                diff_augment,
                r1,
            };
        }
        let (batch_size, lr) = if pixels <= 128 * 128 { (16, "1e-3") } else { (8, "7e-4") };
        let r1 = 5.0 * (pixels as f64 / (128.0 * 128.0)).max(1.0);
        // Changes of colour would change the transparency, too.
        let diff_augment = if channels == 4 { "translation,cutout" } else { "translation,cutout,colour" };
        let discriminator = Width { product: 768, min: 16 };
        Self {
            latent: 100,
            features: None,
            adds_latent: false,
            discriminator,
            hidden: None,
            epochs: 25,
            min_steps: 20_000,
            batch_size,
            lr,
            diff_augment,
            r1,
        }
    }
}

/// The model file for images of a shape.
///
/// # Errors
///
/// If no base grid fits the size.
pub(super) fn text(image: Shape) -> Result<String> {
    let [height, width, channels] = image;
    let doublings = doublings(height, width).ok_or_else(|| refused(height, width))?;
    let settings = SizeSettings::new(image);
    let (generator, discriminator) =
        (generator(image, doublings, &settings), discriminator(image, doublings, &settings));
    let SizeSettings { latent, epochs, min_steps, batch_size, lr, diff_augment, r1, .. } = settings;
    let size = ImageSize { width, height };
    Ok(format!(
        r#"# dcgan-r1 for images of {width} x {height} pixels: a DCGAN with linear learning-rate decay, no momentum, and a discriminator without
# batch norm, which the R1 gradient penalty requires (Mescheder et al. 2018, "Which training methods for GANs do actually converge?").
# `gpu-gan train DATA --size {size}` writes this file.

name = "{NAME}"
about = "Our best images in minutes, for any size (--size): a DCGAN with the gradient penalty R1"
image = {{ height = {height}, width = {width}, channels = {channels} }}
latent = {latent}

generator = [
{generator}]

discriminator = [
{discriminator}]

[training]
epochs = {epochs}
min-steps = {min_steps}
batch-size = {batch_size}
ema-decay = 0.999
loss = "non-saturating"
diff-augment = "{diff_augment}"
adaptive-augment = true
lr = {lr}
beta1 = 0.0
beta2 = 0.99
eps = 1e-8
r1 = {r1:?}
penalty-every = 4
decay = "linear"

[initial]
weight = "fan-in-uniform"
"#
    ))
}

/// The number of times that the base grid is doubled to the size of the image: as often as it can be.
fn doublings(height: usize, width: usize) -> Option<usize> {
    let (shorter, longer) = (height.min(width), height.max(width));
    let largest = height.trailing_zeros().min(width.trailing_zeros()) as usize;
    let doublings = (2..=largest).rev().find(|&n| shorter >> n >= MIN_BASE)?;
    let fits = shorter >> doublings <= MAX_BASE && longer <= MAX_RATIO * shorter && longer <= MAX_IMAGE_SIDE;
    fits.then_some(doublings)
}

fn refused(height: usize, width: usize) -> Error {
    let (shorter, longer) = (height.min(width), height.max(width));
    let message = format!("{NAME} has no network for images of {width} x {height} pixels (width x height)");
    let hint = if shorter < MIN_SIDE || longer > MAX_IMAGE_SIDE {
        format!("choose sides of {MIN_SIDE} to {MAX_IMAGE_SIDE} pixels")
    } else if longer > MAX_RATIO * shorter {
        format!("choose a longer side of at most {MAX_RATIO} times the shorter one")
    } else {
        let multiple =
            (4..).step_by(4).find(|multiple| shorter < (MAX_BASE + 1) * multiple && multiple.is_power_of_two());
        let multiple = multiple.expect("powers of two are unbounded");
        let near = |side: usize| (side + multiple / 2) / multiple * multiple;
        format!("choose sides that are multiples of {multiple}, such as {} x {}", near(width), near(height))
    };
    Error::Request { message, hint }
}

/// The layers of the generator, one a line. For small images, a base grid above 4 pixels is doubled from one of half its size, as the
/// discriminator halves it.
fn generator([height, width, _]: Shape, doublings: usize, settings: &SizeSettings) -> String {
    let &SizeSettings { features, adds_latent, .. } = settings;
    let size = [height, width];
    let base = size.map(|side| side >> doublings);
    let is_halved = features.is_some() && base[0].min(base[1]) > MIN_BASE && base[0] % 2 == base[1] % 2;
    let [mut h, mut w] = if is_halved { base.map(|side| side.div_ceil(2)) } else { base };
    let channels = GENERATOR.channels(h.min(w));
    let mut lines = String::new();
    push(&mut lines, &format!(r#"layer = "linear", features = {}, bias = false"#, h * w * channels), "");
    push(&mut lines, &format!(r#"layer = "reshape", height = {h}, width = {w}, channels = {channels}"#), "");
    let mut double = |width: Width, odd: usize| {
        [h, w] = [2 * h - odd, 2 * w - odd];
        let (channels, kernel) = (width.channels(h.min(w)), 4 - odd);
        normalise(&mut lines);
        let layer = format!(
            r#"layer = "transposed-conv", channels = {channels}, kernel = {kernel}, stride = 2, pad = 1, bias = false"#
        );
        push(&mut lines, &layer, &format!("{w} x {h} x {channels}"));
        if adds_latent && [h, w] != size {
            push(&mut lines, r#"layer = "add-latent""#, "");
        }
    };
    if is_halved {
        double(GENERATOR, base[0] % 2);
    }
    for width in iter::repeat_n(GENERATOR, doublings - 1).chain(features) {
        double(width, 0);
    }
    normalise(&mut lines);
    let last = match features {
        Some(_) => r#"layer = "conv", channels = "image", kernel = 3, pad = 1"#,
        None => r#"layer = "transposed-conv", channels = "image", kernel = 4, stride = 2, pad = 1"#,
    };
    push(&mut lines, last, "");
    push(&mut lines, r#"layer = "tanh""#, "");
    lines
}

fn normalise(lines: &mut String) {
    push(lines, r#"layer = "batch-norm""#, "");
    push(lines, r#"layer = "relu""#, "");
}

fn leaky_relu(lines: &mut String) {
    push(lines, r#"layer = "leaky-relu", slope = 0.2"#, "");
}

/// The layers of the discriminator, one a line. A base grid above 4 pixels is halved once more. A hidden layer judges all parts of an image
/// together, where one linear layer would add up their verdicts.
fn discriminator([height, width, _]: Shape, doublings: usize, settings: &SizeSettings) -> String {
    let &SizeSettings { discriminator: channels, hidden, .. } = settings;
    let [mut h, mut w] = [height, width];
    let mut lines = String::new();
    let mut halve = |kernel: usize| {
        [h, w] = [h.div_ceil(2), w.div_ceil(2)];
        let channels = channels.channels(h.min(w));
        let layer = format!(r#"layer = "conv", channels = {channels}, kernel = {kernel}, stride = 2, pad = 1"#);
        push(&mut lines, &layer, &format!("{w} x {h} x {channels}"));
        leaky_relu(&mut lines);
        h.min(w)
    };
    let base = (0..doublings).map(|_| halve(4)).last();
    if base > Some(MIN_BASE) {
        halve(3);
    }
    push(&mut lines, r#"layer = "flatten""#, "");
    if let Some(features) = hidden {
        push(&mut lines, &format!(r#"layer = "linear", features = {features}"#), "");
        leaky_relu(&mut lines);
    }
    push(&mut lines, r#"layer = "linear", features = 1"#, "one logit");
    lines
}

/// Appends a layer with a comment.
fn push(lines: &mut String, layer: &str, comment: &str) {
    let line = format!("    {{ {layer} }},");
    let comment = if comment.is_empty() {
        String::new()
    } else {
        format!("{:1$}# {comment}", "", 104_usize.saturating_sub(line.len()))
    };
    writeln!(lines, "{line}{comment}").expect("writing to a string");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Layer, Model, Summary};

    fn sized(height: usize, width: usize, channels: usize) -> Model {
        Model::sized([height, width, channels]).unwrap()
    }

    /// Shape of the generator's base grid and of the discriminator's last feature map.
    fn smallest(model: &Model) -> [Shape; 2] {
        let [generator, discriminator] = model.placed_networks();
        let last = discriminator.iter().rposition(|placed| matches!(placed.layer, Layer::Conv { .. })).unwrap();
        [generator[1].output, discriminator[last].output]
    }

    #[test]
    fn every_size_has_a_base_grid_and_networks_of_its_shape() {
        for (height, width, base, last) in [
            (16, 16, [4, 4, 256], [4, 4, 128]),
            (24, 24, [3, 3, 256], [3, 3, 128]),
            (28, 28, [4, 4, 256], [4, 4, 128]),
            (20, 28, [3, 4, 256], [3, 4, 128]),
            (24, 28, [6, 7, 128], [3, 4, 128]),
            (32, 32, [4, 4, 256], [4, 4, 128]),
            (36, 36, [9, 9, 64], [5, 5, 96]),
            (48, 48, [6, 6, 128], [3, 3, 192]),
            (60, 60, [15, 15, 64], [8, 8, 96]),
            (64, 64, [4, 4, 256], [4, 4, 192]),
            (96, 96, [6, 6, 128], [3, 3, 192]),
            (128, 128, [4, 4, 256], [4, 4, 192]),
            (256, 256, [4, 4, 256], [4, 4, 192]),
            (48, 96, [6, 12, 128], [3, 6, 192]),
            (96, 48, [12, 6, 128], [6, 3, 192]),
            (64, 256, [4, 16, 256], [4, 16, 192]),
            (1024, 1024, [4, 4, 256], [4, 4, 192]),
        ] {
            for channels in [1, 3, 4] {
                let model = sized(height, width, channels);
                assert_eq!(model.image, [height, width, channels]);
                assert_eq!(smallest(&model), [base, last], "{width} x {height}");
                assert_eq!(Model::parse(model.to_toml(), "again").unwrap(), model);
                model.check_penalty().unwrap();
                assert_eq!(model.with_classes(10).unwrap().classes, Some(10));
            }
        }
    }

    #[test]
    fn sizes_without_a_base_grid_are_refused_with_sizes_that_have_one() {
        for (width, height, hint) in [
            (12, 12, "sides of 16 to 1024"),
            (8, 64, "sides of 16 to 1024"),
            (2048, 1024, "sides of 16 to 1024"),
            (30, 30, "multiples of 4, such as 32 x 32"),
            (100, 100, "multiples of 8, such as 104 x 104"),
            (130, 250, "multiples of 16, such as 128 x 256"),
            (16, 68, "at most 4 times"),
        ] {
            let error = Model::sized([height, width, 3]).unwrap_err();
            assert!(error.to_string().contains(&format!("{width} x {height} pixels")), "{error}");
            assert!(error.hint().contains(hint), "{width} x {height}: {}", error.hint());
        }
    }

    #[test]
    fn work_grows_more_slowly_than_the_number_of_pixels() {
        let work = [64, 128, 256].map(|side| Summary::new(&sized(side, side, 3)).step_flops);
        assert!(work[0] < work[1] && work[1] < work[2] && work[2] < 4 * work[0], "{work:?}");
    }

    #[test]
    fn a_requested_size_and_number_of_channels_decide_the_network_and_its_settings() {
        let size = Some(ImageSize { width: 96, height: 48 });
        let open = |channels| Model::open_for(NAME, size, channels, DEFAULT_IMAGE).unwrap();
        assert_eq!((open(None).image, open(Some(4)).image), ([48, 96, 1], [48, 96, 4]));
        let changes = |channels| open(Some(channels)).training.diff_augment.to_string();
        assert_eq!((changes(3), changes(4)), ("translation,cutout,colour".into(), "translation,cutout".into()));
        let small = Model::open_for(NAME, None, None, DEFAULT_IMAGE).unwrap();
        assert_eq!(small, Model::named(NAME).unwrap());
        let fixed = Model::open_for("dcgan-64", size, None, DEFAULT_IMAGE).unwrap_err();
        assert!(fixed.to_string().contains("cannot have the size 96x48"), "{fixed}");
        let grey = Model::open_for("dcgan-64", None, Some(1), DEFAULT_IMAGE).unwrap();
        assert_eq!(grey.image, [64, 64, 1]);
    }

    #[test]
    fn batch_size_rates_and_r1_depend_on_the_size() {
        let of = |side: usize| {
            let training = sized(side, side, 3).training;
            (training.batch_size, training.adam.lr, training.objective.penalty.r1)
        };
        assert_eq!([28, 64, 128, 256].map(of), [(64, 2e-3, 1.0), (16, 1e-3, 5.0), (16, 1e-3, 5.0), (8, 7e-4, 20.0)]);
    }
}
