//! Every option of a run: its name, its range, its help.
//!
//! The first paragraph of a field's documentation is its help in one line.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::values::{self, number, whole};
use super::{EvalInterval, ImageSize, Interval, KeptCheckpoints, TimeLimit};
use crate::data::{Background, Fit, Frames};
use crate::files::shell_quoted_text;
use crate::program::{AdversarialLoss, Decay, DiffAugment};

/// An option as it is declared.
pub(super) struct DeclaredOption {
    /// The key of the option in files, which is the name of its flag.
    pub(super) key: String,
    /// The group of the option, which is its heading in the help.
    pub(super) group: &'static str,
    /// Checks that a value of the option's type, as a text, is within the option's range.
    pub(super) check: fn(&str) -> Result<(), String>,
}

/// Declares a group of options: a struct whose fields are `None` where an option is not given.
///
/// The documentation of a field is the help of its flag. `#[arg(...)]` says how clap reads the flag, and `#[check(...)]` reads the
/// value from a text within its range, in flags and in files. Without the feature `cli`, there are no flags.
macro_rules! options {
    (
        $(#[doc = $group_doc:tt])+
        #[group($heading:literal)]
        pub struct $group:ident {$(
            $(#[doc = $doc:tt])+
            $(#[serde($($serde:tt)*)])*
            #[arg($($arg:tt)*)]
            $(#[check($($check:tt)*)])?
            pub $field:ident: Option<$type:tt>,
        )*}
    ) => {
        $(#[doc = $group_doc])+
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(feature = "cli", derive(clap::Args), command(next_help_heading = $heading))]
        #[serde(default, rename_all = "kebab-case")]
        pub struct $group {$(
            $(#[doc = $doc])+
            $(#[serde($($serde)*)])*
            #[cfg_attr(feature = "cli", arg($($arg)* $(, value_parser = $($check)*)?))]
            pub $field: Option<$type>,
        )*}

        impl $group {
            /// The options of this group, in the order of their declaration.
            pub(super) fn declared() -> Vec<DeclaredOption> {
                vec![$(DeclaredOption {
                    key: stringify!($field).replace('_', "-"),
                    group: $heading,
                    check: |text| {
                        let _ = text; // not read without a check
                        $(($($check)*)(text)?;)?
                        Ok(())
                    },
                }),*]
            }
        }
    };
}

/// Largest side and stride of tiles, in pixels: no image that can be read is larger.
const MAX_TILE: u64 = 65_536;
/// Largest number of images in a batch.
pub(crate) const MAX_BATCH: u64 = 1 << 16;
/// Largest number of images that a discriminator sees at once.
pub(crate) const MAX_PAC: usize = 64;
/// Largest number of epochs.
const MAX_EPOCHS: u64 = 1_000_000;
/// Largest half-life of the EMA, in images.
const MAX_HALF_LIFE: u64 = 1_000_000_000;
/// Largest whole number in TOML and in spreadsheets.
const MAX_SEED: u64 = i64::MAX as u64;
/// Largest weight of a gradient penalty.
const MAX_PENALTY: f64 = 1e6;
/// Learning rates, and Adam's epsilon, that single precision holds.
const RATE: RangeInclusive<f64> = 1e-12..=1.0;
/// Smallest epsilon of Adam.
const MIN_EPS: f64 = 1e-20;

options! {
    /// Options of the images.
    #[group("Data")]
    pub struct DataOptions {
        /// Images to train on: mnist, stacked-mnist, aerial, or a folder or file of images
        ///
        /// Built in are `mnist` (digits), `stacked-mnist` (three digits in the colours of one image) and `aerial` (forests from the
        /// air). A folder holds PNG, JPEG, WebP, BMP, TIFF or GIF images; so does a .zip or .tar archive. NumPy arrays (.npy, .npz) hold
        /// bytes, other integers or floats. IDX files may be gzipped.
        #[arg(value_name = "DATA", value_parser = values::path())]
        pub data: Option<String>,

        /// Cut each image into square tiles of PIXELS pixels and train on the tiles [default for aerial: 64]
        #[arg(long, value_name = "PIXELS")]
        #[check(whole::<usize>(1..=MAX_TILE))]
        pub tile: Option<usize>,

        /// Distance between neighbouring tiles, in pixels [default: PIXELS of --tile; half of it for aerial]
        #[arg(long, value_name = "PIXELS")]
        #[check(whole::<usize>(1..=MAX_TILE))]
        pub stride: Option<usize>,

        /// Enlarge images that are smaller than the model's instead of leaving them out
        #[arg(long, num_args = 0, default_missing_value = "true")]
        pub upscale: Option<bool>,

        /// How images of another shape than the model's become images of its shape [default: crop]
        #[arg(long, value_name = "FIT", value_enum)]
        pub fit: Option<Fit>,

        /// Colour behind transparent pixels and around padded images: a name or #rrggbb [default: white]
        #[arg(long, value_name = "COLOUR")]
        pub background: Option<Background>,

        /// Map the lowest and the highest value of all images to black and white
        ///
        /// It is for images of 16 bits or of numbers, whose values fill a part of their range.
        #[arg(long, num_args = 0, default_missing_value = "true")]
        pub normalise: Option<bool>,

        /// Frames of animated images and pages of TIFF files to train on [default: first]
        #[arg(long, value_name = "FRAMES", value_enum)]
        pub frames: Option<Frames>,

        /// File with the classes of the images: a CSV file of `file,label`, or a dataset.json
        #[arg(long, value_name = "FILE", value_parser = values::path())]
        pub labels: Option<String>,

        /// Device memory for images, in MiB [default: the largest buffer of the device]
        ///
        /// Where the images need more, they are uploaded in chunks while training. The results do not depend on it.
        #[arg(long, value_name = "MIB")]
        #[check(whole::<u64>(1..=1 << 24))]
        pub data_memory: Option<u64>,
    }
}

options! {
    /// Options of the networks.
    #[group("Model")]
    pub struct ModelOptions {
        /// Model: a name that `gpu-gan models` lists, or a model file (.toml)
        ///
        /// By default dcgan-r1: for colour images of 64 x 64 pixels with image files, and for arrays of images (mnist, IDX, NumPy) of up to
        /// 64 x 64 pixels for their own shape. For stacked-mnist it is dcgan-fast with --pac 2.
        #[arg(long, value_name = "MODEL")]
        pub model: Option<String>,

        /// Start from the trained weights of INIT, a run or one of its checkpoints (transfer learning)
        ///
        /// The model is that of INIT, unless --model or --size gives another one. Layers with the same position, kind and shapes are copied; the others
        /// start fresh. Classes of conditional models are matched by their names. The optimiser and the learning-rate schedule start fresh. A
        /// conditional model stays conditional, unless --unconditional is given, and an unconditional one stays unconditional, unless
        /// --conditional or --model is given.
        #[arg(long, value_name = "INIT", value_parser = values::path())]
        pub init: Option<String>,

        /// Size of the images in pixels: SIDE or `WIDTHxHEIGHT`, for the model dcgan-r1
        ///
        /// The model is built for the size: 64, 128 or 96x48, for example. Both sides are 16 to 1024 pixels and divisible by four; from 64
        /// pixels on by eight, from 128 pixels on by 16, and so on.
        #[serde(serialize_with = "values::serialize", deserialize_with = "values::deserialize")]
        #[serde(skip_serializing_if = "Option::is_none")]
        #[arg(long, value_name = "SIZE")]
        pub size: Option<ImageSize>,

        /// Channels of the images: 1 (grey), 3 (colour) or 4 (colour and transparency) [default: the model's]
        #[arg(long, value_name = "N")]
        #[check(channels)]
        pub channels: Option<usize>,

        /// Train a class-conditional model, which draws images of a requested class
        ///
        /// The classes are the labels of the images: those in the IDX file of labels, or the folders that the images lie in. This is the
        /// default for 2 to 256 classes with 200 images or more in each. It is not the default if a class has the name of a split or a shard
        /// (train, shard-0), with --pac 2 or more, or if the model file has `conditional-by-default = false`, as those of published recipes
        /// have.
        #[arg(long, num_args = 0, default_missing_value = "true")]
        pub conditional: Option<bool>,

        /// Show the discriminator N images at once (PacGAN), against mode collapse [default: the model's]
        #[arg(long, value_name = "N")]
        #[check(whole::<usize>(1..=MAX_PAC as u64))]
        pub pac: Option<usize>,
    }
}

options! {
    /// Options of the length of a run and of its optimiser.
    #[group("Training")]
    pub struct TrainingOptions {
        /// Length of the run in epochs, passes over the images
        ///
        /// Of --epochs, --steps and --time, give one.
        #[arg(long, value_name = "N", conflicts_with_all = ["steps", "time"])]
        #[check(whole::<u64>(1..=MAX_EPOCHS))]
        pub epochs: Option<u64>,

        /// Length of the run in steps
        #[arg(long, value_name = "N", conflicts_with = "time")]
        #[check(whole::<u64>(1..=u64::from(u32::MAX)))]
        pub steps: Option<u64>,

        /// Length of the run in time, such as 90s, 5m or 1h30m
        ///
        /// The first steps are timed. Then the run begins with the number of steps that fit into the time, including drawing, saving
        /// and evaluating. Learning rates decay over that number of steps.
        #[serde(serialize_with = "values::serialize", deserialize_with = "values::deserialize")]
        #[serde(skip_serializing_if = "Option::is_none")]
        #[arg(long, value_name = "TIME")]
        pub time: Option<TimeLimit>,

        /// Train at least N steps if no length is given
        ///
        /// On few images, the model's number of epochs would be a short run.
        #[arg(long, value_name = "N")]
        #[check(whole::<u64>(1..=MAX_EPOCHS))]
        pub min_steps: Option<u64>,

        /// Real images in a batch; a batch of generated images has the same size
        #[arg(long, value_name = "N")]
        #[check(whole::<usize>(1..=MAX_BATCH))]
        pub batch_size: Option<usize>,

        /// Updates of the discriminator for each update of the generator
        ///
        /// Each update of the discriminator has real images and latents of its own.
        #[arg(long, value_name = "N")]
        #[check(whole::<u32>(1..=100))]
        pub d_steps: Option<u32>,

        /// Seed of all random numbers
        ///
        /// The same seed on the same device gives the same bits.
        #[arg(long, value_name = "SEED")]
        #[check(whole::<u64>(0..=MAX_SEED))]
        pub seed: Option<u64>,

        /// Loss of both networks
        #[arg(long, value_name = "LOSS", value_enum)]
        pub loss: Option<AdversarialLoss>,

        /// Learning rate of both networks
        #[arg(long, value_name = "RATE")]
        #[check(number(RATE))]
        pub lr: Option<f64>,

        /// Learning rate of the discriminator [default: --lr]
        #[arg(long, value_name = "RATE")]
        #[check(number(RATE))]
        pub d_lr: Option<f64>,

        /// Linear learning-rate warm-up, in steps
        #[arg(long, value_name = "STEPS")]
        #[check(whole::<u32>(0..=1_000_000_000))]
        pub warm_up: Option<u32>,

        /// Decay of the learning rates until the end of the run
        #[arg(long, value_name = "DECAY", value_enum)]
        pub decay: Option<Decay>,

        /// Learning rates at the end of the decay, as a share of those at its start
        #[arg(long, value_name = "SHARE")]
        #[check(number(0.0..=1.0))]
        pub last_rate: Option<f64>,

        /// Steps until the end of the decay [default: the length of the run]
        #[arg(long, value_name = "STEPS")]
        #[check(whole::<u64>(1..=u64::from(u32::MAX)))]
        pub decay_steps: Option<u64>,

        /// Adam's decay of the first moment
        #[arg(long, value_name = "SHARE")]
        #[check(number(0.0..1.0))]
        pub beta1: Option<f64>,

        /// Adam's decay of the second moment
        #[arg(long, value_name = "SHARE")]
        #[check(number(0.0..1.0))]
        pub beta2: Option<f64>,

        /// Adam's epsilon, added to the root of the second moment
        #[arg(long, value_name = "EPS")]
        #[check(number(MIN_EPS..=1.0))]
        pub eps: Option<f64>,

        /// Half-life of the EMA of the generator's weights, in real images shown
        ///
        /// The EMA (exponential moving average) of the weights draws the sheets of images, and all images that are drawn later. After
        /// IMAGES real images, an old value of a weight counts half as much in it. Early in training the half-life is shorter, at most a
        /// twentieth of the images shown so far. By default the model's; the built-in models have --ema-decay 0.999 instead, a half-life of
        /// 693 steps.
        #[arg(long, value_name = "IMAGES", conflicts_with = "ema_decay")]
        #[check(whole::<u64>(1..=MAX_HALF_LIFE))]
        pub ema_half_life: Option<u64>,

        /// Decay of the EMA of the generator's weights in each step, instead of its half-life
        #[arg(long, value_name = "SHARE")]
        #[check(number(0.0..1.0))]
        pub ema_decay: Option<f64>,
    }
}

options! {
    /// Options that keep the discriminator from winning.
    #[group("Regularisation")]
    pub struct RegularisationOptions {
        /// Weight of the R1 gradient penalty on real images; 0 turns it off
        #[arg(long, value_name = "WEIGHT")]
        #[check(number(0.0..=MAX_PENALTY))]
        pub r1: Option<f64>,

        /// Weight of the R2 gradient penalty on generated images; 0 turns it off
        #[arg(long, value_name = "WEIGHT")]
        #[check(number(0.0..=MAX_PENALTY))]
        pub r2: Option<f64>,

        /// Weight of the WGAN-GP gradient penalty between real and generated images; 0 turns it off
        #[arg(long, value_name = "WEIGHT")]
        #[check(number(0.0..=MAX_PENALTY))]
        pub gp: Option<f64>,

        /// Interval between gradient penalties, in steps (lazy regularisation)
        ///
        /// A penalty that is due every N steps has N times its weight.
        #[arg(long, value_name = "STEPS")]
        #[check(whole::<u32>(1..=1000))]
        pub penalty_every: Option<u32>,

        /// One-sided label smoothing: target 1 - SHARE for real images
        #[arg(long, value_name = "SHARE")]
        #[check(number(0.0..0.5))]
        pub label_smoothing: Option<f64>,
    }
}

options! {
    /// Options of random augmentation.
    #[group("Augmentation")]
    pub struct AugmentationOptions {
        /// Mirror real images left to right with probability 1/2
        #[arg(long, num_args = 0, default_missing_value = "true")]
        pub flip: Option<bool>,

        /// Turn real images, which must be square, by 0, 90, 180 or 270 degrees at random
        #[arg(long, num_args = 0, default_missing_value = "true")]
        pub quarter_turns: Option<bool>,

        /// Rotate real images by a random angle between -DEGREES and DEGREES
        #[arg(long, value_name = "DEGREES")]
        #[check(number(0.0..=180.0))]
        pub rotate: Option<f64>,

        /// Augment all images that the discriminator sees (DiffAugment)
        ///
        /// DiffAugment keeps the discriminator from memorising a small data set. CHANGES is a comma-separated list of translation,
        /// cutout and colour, or none. Changes given here apply to any number of images. By default, the model's changes apply below
        /// 20000 images, and none otherwise.
        #[serde(serialize_with = "values::serialize", deserialize_with = "values::deserialize")]
        #[serde(skip_serializing_if = "Option::is_none")]
        #[arg(long, value_name = "CHANGES")]
        pub diff_augment: Option<DiffAugment>,

        /// Let --diff-augment change images only as strongly as the discriminator needs
        ///
        /// At first, no image is changed. While the discriminator recognises more than 80 % of the real images, a sign that it memorises
        /// them, all images are changed more strongly, and otherwise less (after ADA, adaptive discriminator augmentation).
        #[arg(long, num_args = 0, default_missing_value = "true")]
        pub adaptive_augment: Option<bool>,
    }
}

options! {
    /// Options of what a run writes.
    #[group("Output")]
    pub struct OutputOptions {
        /// Interval between sheets of images
        ///
        /// 5epochs is after every fifth epoch, 500steps after every 500 steps, and 20times is 20 times in the run, after epochs.
        #[serde(serialize_with = "values::serialize", deserialize_with = "values::deserialize")]
        #[serde(skip_serializing_if = "Option::is_none")]
        #[arg(long, value_name = "INTERVAL")]
        pub sample_every: Option<Interval>,

        /// Interval between checkpoints
        ///
        /// As for --sample-every.
        #[serde(serialize_with = "values::serialize", deserialize_with = "values::deserialize")]
        #[serde(skip_serializing_if = "Option::is_none")]
        #[arg(long, value_name = "INTERVAL")]
        pub checkpoint_every: Option<Interval>,

        /// Number of checkpoints that are kept, or all; the oldest are removed
        #[serde(serialize_with = "values::serialize", deserialize_with = "values::deserialize")]
        #[serde(skip_serializing_if = "Option::is_none")]
        #[arg(long, value_name = "N")]
        pub keep_checkpoints: Option<KeptCheckpoints>,

        /// Interval between evaluations, or never
        ///
        /// As for --sample-every. An evaluation is the Fréchet distance of 2000 generated images to real images, with its standard error. With
        /// labelled images, a classifier is trained for it once, in about half a minute, beside training.
        #[serde(serialize_with = "values::serialize", deserialize_with = "values::deserialize")]
        #[serde(skip_serializing_if = "Option::is_none")]
        #[arg(long, value_name = "INTERVAL")]
        pub eval_every: Option<EvalInterval>,

        /// End the run if the images improve no more
        ///
        /// N evaluations without a lower Fréchet distance end it; without a number, 5. A distance is lower if it fell by more than twice the
        /// standard error of the difference. 0 never ends the run, as does leaving this option out. A run that ends early has not finished its
        /// learning-rate decay, which lowers quality. If you know how long the run may take, use --time instead.
        #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "5")]
        #[check(whole::<usize>(0..=1_000_000))]
        pub stop_when_flat: Option<usize>,

        /// Write TensorBoard's event file into the run's folder, which is the default
        #[arg(long, num_args = 0, default_missing_value = "true")]
        pub tensorboard: Option<bool>,
    }
}

options! {
    /// Options of the device.
    #[group("Device")]
    pub struct DeviceOptions {
        /// Device: auto, cpu, gpu, or a GPU of `gpu-gan devices` [default: auto]
        ///
        /// `auto` takes a hardware GPU if there is one, else the CPU. `gpu` takes the best GPU, even a software one. A GPU is given by its
        /// number, a part of its name or its backend (vulkan, metal, dx12, gl). The environment variable `GPU_GAN_DEVICE` sets another
        /// default.
        #[arg(long, value_name = "DEVICE")]
        pub device: Option<String>,

        /// Autotune matrix-product tiles on a hardware GPU, which is the default
        ///
        /// A few tile shapes are timed once for each product, and the fastest is cached. A run records its tile shapes and uses them when
        /// it is resumed. Results have the same bits with every tile shape.
        #[arg(long, num_args = 0, default_missing_value = "true")]
        pub autotune: Option<bool>,

        /// Multiply large matrices in f16 with sums in f32, on GPUs with matrix units
        ///
        /// Everything else is computed in f32. Results are less exact.
        #[arg(long, num_args = 0, default_missing_value = "true")]
        pub mixed_precision: Option<bool>,
    }
}

impl DeviceOptions {
    /// ` --device NAME` for commands that are printed, if a device is given; else nothing.
    pub fn flag(&self) -> String {
        self.device.as_deref().map(|name| format!(" --device {}", shell_quoted_text(name))).unwrap_or_default()
    }
}

/// Reads a number of channels.
fn channels(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "4" => Ok(4),
        _ => Err("choose 1 (grey), 3 (red, green, blue) or 4 (red, green, blue, alpha)".into()),
    }
}
