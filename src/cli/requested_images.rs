//! The images that `gpu-gan sample` draws: their latents, classes and names.

use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::value_parser;

use super::classes::RequestedClasses;
use super::seeds::SeedList;
use super::truncation::TruncationArgument;
use crate::error::{Error, Result};
use crate::program::Device;
use crate::progress::Console;
use crate::report::arrays;
use crate::train::classes::usual_seeds;
use crate::train::{
    Checkpoint, ClassMix, GeneratorInput, RejectionCounts, RejectionSampler, SampleRequest, candidate_latent,
};

/// The largest number of images in a folder or an array.
pub(super) const MAX_IMAGES: u64 = 1_000_000;

/// The arguments that select the images.
#[derive(Debug, clap::Args)]
pub(super) struct RequestArguments {
    /// Number of images, with the seeds 0, 1, 2, ... [default: 64]
    ///
    /// With the same checkpoint and the same options, a seed always gives the same image. Without --class, the seed of a conditional run
    /// also draws the class, each class as often as it occurs in the training images.
    #[arg(long, value_name = "N", conflicts_with = "seeds", value_parser = value_parser!(u64).range(1..=MAX_IMAGES))]
    pub(super) count: Option<u64>,

    /// Seeds of the images, such as 0-63,100
    #[arg(long, value_name = "SEEDS")]
    pub(super) seeds: Option<SeedList>,

    /// Latents from a NumPy array, (N, LATENT) f32 or f64, instead of seeds
    #[arg(long, value_name = "NPY", conflicts_with_all = ["count", "seeds", "reject"])]
    pub(super) latents: Option<PathBuf>,

    /// Classes, such as 7, cats,dogs or all [default: drawn by the seeds]
    ///
    /// For a conditional run. With several classes, each seed gives one image of each class: a row of a sheet, with a column for each
    /// class. --count counts images, not rows. By default there are as many images as fill whole rows of a sheet of 64.
    #[arg(long, value_name = "CLASSES", allow_hyphen_values = true)]
    pub(super) class: Option<String>,

    /// The factor of the latents.
    #[command(flatten)]
    pub(super) truncation: TruncationArgument,

    /// Reject images that look less real to the discriminator
    ///
    /// Discriminator rejection sampling (Azadi et al. 2019). Each seed has a sequence of candidates of its class, whose first one is the
    /// image that the seed gives without --reject. The first candidate is drawn that the discriminator accepts, so the distribution of the
    /// images is nearer to that of the data. The number of images stays the same, and a seed still always gives the same image. Needs the
    /// non-saturating or minimax loss without label smoothing, and a discriminator that judges each image alone: without batch normalisation,
    /// minibatch deviation and PacGAN.
    #[arg(long)]
    pub(super) reject: bool,
}

/// The images that a command requests of a run.
pub(super) struct RequestedImages {
    /// The latents.
    latents: Latents,
    /// The numbers of the accepted candidates of the first images. Of other images, candidate 0 is drawn.
    accepted: Vec<u32>,
    /// The classes, for conditional models only.
    classes: Option<RequestedClasses>,
    /// The number of images of each latent: the number of listed classes, or 1.
    pub(super) per_seed: usize,
    /// The number of images.
    pub(super) count: usize,
    /// The length of a latent.
    pub(super) latent_size: usize,
    /// The factor of the latents.
    truncation: TruncationArgument,
}

impl RequestArguments {
    /// The seeds, if they or their number are given.
    pub(super) fn given_seeds(&self) -> Option<Vec<u64>> {
        match (&self.seeds, self.count) {
            (Some(list), _) => Some(list.seeds().to_vec()),
            (None, Some(count)) => Some((0..count).collect()),
            (None, None) => None,
        }
    }
}

impl RequestedImages {
    /// The images of the checkpoint of a run. Without seeds or latents, they are those of the seeds that fill a sheet.
    pub(super) fn of(arguments: &RequestArguments, checkpoint: &Checkpoint, run: &Path) -> Result<Self> {
        let classes = RequestedClasses::parse(arguments.class.as_deref(), checkpoint, run)?;
        let per_seed = match &classes {
            Some(RequestedClasses::Listed(classes)) => classes.len(),
            Some(RequestedClasses::Drawn(_)) | None => 1,
        };
        let latent_size = checkpoint.model.latent;
        let latents = match (&arguments.latents, arguments.given_seeds()) {
            (Some(file), _) => Latents::File(arrays::read_matrix(file, latent_size, MAX_IMAGES as usize)?, latent_size),
            (None, Some(seeds)) => Latents::Seeds(seeds),
            (None, None) => Latents::Seeds((0..usual_seeds(per_seed) as u64).collect()),
        };
        if let (Some(file), Some(RequestedClasses::Drawn(_))) = (&arguments.latents, &classes) {
            return Err(Error::Request {
                message: format!("the latents of {} have no seeds, which draw the classes of images", file.display()),
                hint: "choose classes with --class, such as --class 0 or --class all".into(),
            });
        }
        let count = arguments.count.map_or(latents.len() * per_seed, |count| count as usize);
        Ok(Self {
            latents,
            accepted: Vec::new(),
            classes,
            per_seed,
            count,
            latent_size,
            truncation: arguments.truncation,
        })
    }

    /// Chooses the candidates of some of the images that the discriminator of the checkpoint accepts, and prints their share.
    ///
    /// # Panics
    ///
    /// If the latents are from a file.
    pub(super) fn reject(
        &mut self,
        device: &dyn Device,
        checkpoint: &Checkpoint,
        raw: bool,
        numbers: Range<usize>,
        console: &Console,
    ) -> Result<RejectionCounts> {
        let request = |number: usize| {
            let seed = self.latents.seed(number / self.per_seed).expect("candidates are those of a seed");
            SampleRequest { seed, class: self.class(number) }
        };
        let requests: Vec<SampleRequest> = numbers.clone().map(request).collect();
        let mut sampler = RejectionSampler::new(device, checkpoint, raw, self.truncation.factor(), console)?;
        let accepted = sampler.accept(&requests, console)?;
        let counts = RejectionCounts::of(&accepted);
        console.message(&format!("rejection   {counts}"));
        self.accepted = vec![0; numbers.start];
        self.accepted.extend(accepted);
        Ok(counts)
    }

    /// The bytes that determine all latents: the seeds, or the values from the file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.latents.bytes()
    }

    /// Whether the images have classes.
    pub(super) fn is_conditional(&self) -> bool {
        self.classes.is_some()
    }

    /// The listed classes. `None` if the model is not conditional, or seeds draw the classes.
    pub(super) fn listed(&self) -> Option<&[u8]> {
        match &self.classes {
            Some(RequestedClasses::Listed(classes)) => Some(classes),
            Some(RequestedClasses::Drawn(_)) | None => None,
        }
    }

    /// The class of an image, for conditional models only.
    pub(super) fn class(&self, number: usize) -> Option<u8> {
        match &self.classes {
            Some(RequestedClasses::Listed(classes)) => Some(classes[number % self.per_seed]),
            Some(RequestedClasses::Drawn(classes)) => self.latents.seed(number).map(|seed| classes.draw(seed)),
            None => None,
        }
    }

    /// The latent of an image. All listed classes of a seed have the same one, unless candidates are rejected.
    pub(super) fn latent(&self, number: usize) -> Vec<f32> {
        let accepted = self.accepted.get(number).copied().unwrap_or(0);
        self.truncation.apply(self.latents.latent(number / self.per_seed, accepted, self.latent_size))
    }

    pub(super) fn input(&self, number: usize) -> GeneratorInput {
        GeneratorInput { latent: self.latent(number), class: self.class(number).map(ClassMix::from) }
    }

    /// The file name of an image in a folder, such as `seed-000007.png` or `seed-000007-class-003.png`.
    pub(super) fn file_name(&self, number: usize) -> String {
        let class = self.class(number).map_or_else(String::new, |class| format!("-class-{class:03}"));
        format!("{}{class}.png", self.latents.name(number / self.per_seed))
    }

    /// What a person should know about the classes of the images, if anything.
    pub(super) fn note(&self, checkpoint: &Checkpoint) -> Option<String> {
        let known = checkpoint.settings.classes.as_ref();
        match &self.classes {
            Some(RequestedClasses::Listed(classes)) if classes.len() > 1 => {
                let all = known.map_or_else(String::new, |known| format!(" (of {known})"));
                Some(format!("each seed gives {} images, one of each class{all}", classes.len()))
            }
            Some(RequestedClasses::Drawn(_)) if known.is_none_or(|known| known.images.is_empty()) => Some(
                "classes are equally frequent, since this checkpoint does not have the frequencies of the data".into(),
            ),
            _ => None,
        }
    }
}

/// The latents of the images.
enum Latents {
    /// Latents that are determined by seeds.
    Seeds(Vec<u64>),
    /// Latents from a file: the rows of its array, and the size of a latent.
    File(Vec<f32>, usize),
}

impl Latents {
    /// The number of latents.
    fn len(&self) -> usize {
        match self {
            Self::Seeds(seeds) => seeds.len(),
            Self::File(values, size) => values.len() / size,
        }
    }

    /// The bytes that determine all latents: the seeds, or the values from the file.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Seeds(seeds) => seeds.iter().flat_map(|seed| seed.to_le_bytes()).collect(),
            Self::File(values, _) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// The latent with this index, of `size` values: that of a candidate of a seed.
    fn latent(&self, number: usize, of_candidate: u32, size: usize) -> Vec<f32> {
        match self {
            Self::Seeds(seeds) => candidate_latent(seeds[number], of_candidate, size),
            Self::File(values, size) => values[number * size..][..*size].to_vec(),
        }
    }

    /// The seed of the latent with this index, if it has one.
    fn seed(&self, number: usize) -> Option<u64> {
        match self {
            Self::Seeds(seeds) => Some(seeds[number]),
            Self::File(..) => None,
        }
    }

    /// The name of a latent in file names.
    fn name(&self, number: usize) -> String {
        match self {
            Self::Seeds(seeds) => format!("seed-{:06}", seeds[number]),
            Self::File(..) => format!("latent-{number:06}"),
        }
    }
}
