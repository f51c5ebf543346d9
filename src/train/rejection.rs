//! Discriminator rejection sampling (Azadi et al. 2019): of a sequence of candidates for each image, the first one is drawn that the
//! discriminator accepts.
//!
//! The discriminator's logit estimates `ln(p_data(x) / p_generated(x))`. [`Acceptance`] makes a probability of it. The candidates of a seed
//! are numbered: candidate 0 is the image that the seed gives without rejection. A candidate's latent, and the random number that decides
//! on it, are functions of the seed and of its number. So is its place in a batch, so that its logit has the same bits whatever else is
//! drawn.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use serde::Serialize;

use super::acceptance::Acceptance;
use super::checkpoint::EMA;
use super::classes::ClassDistribution;
use super::sampler::{BATCH, ImageRoutine};
use super::{Checkpoint, ClassMix, GeneratorInput, SampleRequest, candidate_latent, scaled_latent};
use crate::error::{Error, Result};
use crate::net::{Layer, Mode, Network};
use crate::program::random::{stream, uniform_at};
use crate::program::{AdversarialLoss, Device, Element, Executor, Program, TensorId, Values};
use crate::progress::Console;

/// The number of images whose logits determine the acceptance probability, as in the paper.
const BURN_IN: usize = 10_000;
/// The seed of the first image of the burn-in. The other seeds follow.
const FIRST_OF_BURN_IN: u64 = 1 << 63;
/// The largest number of images that are counted. The counts of all shards of an evaluation can be added.
const MAX_COUNTED: u64 = 1 << 32;
/// The largest number of candidates for an image.
const MAX_CANDIDATES: u32 = 1000;

/// A generator and its discriminator on a device.
pub struct RejectionSampler {
    /// Runs both networks.
    executor: Box<dyn Executor>,
    /// The routine that draws candidates, and computes their logits.
    routine: ImageRoutine,
    /// The classes of the candidates, u32 (batch), if the model is conditional.
    classes: Option<TensorId>,
    /// The logits of the candidates.
    logits: TensorId,
    /// The length of a latent.
    latent_size: usize,
    /// The factor of the latents.
    truncation: f64,
    /// The classes that seeds draw, if the model is conditional.
    distribution: Option<ClassDistribution>,
    /// The acceptance probability.
    acceptance: Acceptance,
}

/// How many candidates were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RejectionCounts {
    /// The number of images, which is that of accepted candidates.
    pub images: u64,
    /// The number of candidates.
    pub candidates: u64,
}

/// A candidate for an image.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// The index of the request for the image.
    request: usize,
    /// The number of the candidate among those of its seed.
    number: u32,
}

impl RejectionSampler {
    /// Checks that the logits of a checkpoint's discriminator estimate the ratio of densities of each image.
    ///
    /// # Errors
    ///
    /// If it was trained with a loss whose logits mean something else, or judges several images together.
    pub fn check(checkpoint: &Checkpoint) -> Result<()> {
        let Checkpoint { model, settings, .. } = checkpoint;
        let refused = |message: String, hint: &str| Err(Error::Request { message, hint: hint.into() });
        let loss = settings.objective.loss;
        if !matches!(loss, AdversarialLoss::NonSaturating | AdversarialLoss::Minimax) {
            return refused(
                format!(
                    "rejection sampling needs logits that estimate ln(p_data / p_generated), which a discriminator with the {} \
                     loss does not learn",
                    loss.name()
                ),
                "leave out --reject, or train a run with --loss non-saturating",
            );
        }
        let smoothing = settings.objective.label_smoothing;
        if smoothing > 0.0 {
            return refused(
                format!(
                    "rejection sampling needs logits that estimate ln(p_data / p_generated), which label smoothing ({smoothing}) \
                     changes"
                ),
                "leave out --reject, or train a run without --label-smoothing",
            );
        }
        if model.pac > 1 {
            return refused(
                format!(
                    "rejection sampling judges each image alone, but the discriminator sees {} images at once (PacGAN)",
                    model.pac
                ),
                "leave out --reject, or train a run with --pac 1",
            );
        }
        let together = |layer: &&Layer| matches!(layer, Layer::BatchNorm { .. } | Layer::MinibatchDeviation { .. });
        if let Some(layer) = model.discriminator.iter().find(together) {
            return refused(
                format!(
                    "rejection sampling judges each image alone, but the discriminator of {} was trained on statistics of whole \
                     batches (the layer {})",
                    model.name,
                    layer.kind()
                ),
                "leave out --reject, or train a model whose discriminator has no such layer, such as dcgan-r1",
            );
        }
        Ok(())
    }

    /// The networks of a checkpoint: the EMA of the generator's weights, or its raw weights, and the discriminator. `truncation` is the
    /// factor of all latents. Draws the images of the burn-in.
    ///
    /// # Errors
    ///
    /// Those of [`Self::check`], and if the networks do not fit on the device or a logit is not finite.
    pub fn new(
        device: &dyn Device,
        checkpoint: &Checkpoint,
        raw: bool,
        truncation: f64,
        console: &Console,
    ) -> Result<Self> {
        let mut sampler = Self::without_burn_in(device, checkpoint, raw, truncation)?;
        let task = console.task("judging images", BURN_IN as u64);
        let requests: Vec<SampleRequest> =
            (0..BURN_IN as u64).map(|number| sampler.requested((FIRST_OF_BURN_IN + number).into())).collect();
        let mut logits = Vec::with_capacity(BURN_IN);
        for first in (0..BURN_IN).step_by(BATCH) {
            let numbers = first..BURN_IN.min(first + BATCH);
            let places: Vec<Option<Candidate>> =
                numbers.clone().map(|request| Some(Candidate { request, number: 0 })).collect();
            logits.extend(sampler.judge(&requests, &places)?);
            task.advance(numbers.len() as u64);
        }
        sampler.acceptance = Acceptance::of_burn_in(&logits);
        let Acceptance { maximum, gamma } = sampler.acceptance;
        console.detail(&format!("rejection   largest logit of {BURN_IN} images {maximum:.4}, gamma {gamma:.4}"));
        Ok(sampler)
    }

    /// The networks on the device, with an acceptance probability that is not yet known.
    fn without_burn_in(device: &dyn Device, checkpoint: &Checkpoint, raw: bool, truncation: f64) -> Result<Self> {
        Self::check(checkpoint)?;
        let model = &checkpoint.model;
        let mut program = Program::new();
        let generator = Network::generator(&mut program, model);
        let classes = model.classes.map(|_| program.tensor_of(Element::U32, "judged.classes", &[BATCH]));
        let discriminator = Network::discriminator(&mut program, model).with_labels(classes);
        let is_spectral = model.discriminator.iter().any(Layer::is_spectral);
        let normalise = is_spectral.then(|| {
            let normalise = program.begin("normalise");
            discriminator.normalise(&mut program);
            normalise
        });
        let routine = ImageRoutine::of_whole_inputs(&mut program, &generator, model, "judged", BATCH);
        let logits = discriminator.forward(&mut program, routine.images, Mode::Evaluate, "judged").y;
        device.check(&program)?;
        let mut executor = device.build(&program)?;
        for (prefix, network) in [(if raw { "" } else { EMA }, &generator), ("", &discriminator)] {
            let params = checkpoint.buffer(prefix, network.params_layout())?;
            executor.upload(network.params(), Values::F32(&params))?;
            let running = checkpoint.buffer("", network.running_layout())?;
            executor.upload(network.running(), Values::F32(&running))?;
        }
        normalise.map_or(Ok(()), |normalise| executor.run(normalise, 1))?;
        Ok(Self {
            executor,
            routine,
            classes,
            logits,
            latent_size: model.latent,
            truncation,
            distribution: checkpoint.class_distribution(),
            acceptance: Acceptance { maximum: f64::NAN, gamma: f64::NAN },
        })
    }

    /// The number of the candidate that is accepted for each request; [`candidate_latent`] gives its latent. Candidates have the class of their
    /// request, or else the one that its seed draws.
    ///
    /// # Errors
    ///
    /// If the discriminator accepts none of 1000 candidates, a logit is not finite, or the device is lost.
    ///
    /// # Panics
    ///
    /// If a request has a class and the model is not conditional.
    pub fn accept(&mut self, requests: &[SampleRequest], console: &Console) -> Result<Vec<u32>> {
        let task = console.task("accepting images", requests.len() as u64);
        let requests: Vec<SampleRequest> = requests.iter().map(|&request| self.requested(request)).collect();
        let mut accepted = vec![0; requests.len()];
        // Candidates wait for their place in a batch.
        let mut waiting: Vec<VecDeque<Candidate>> = vec![VecDeque::new(); BATCH];
        for (request, of) in requests.iter().enumerate() {
            waiting[place_of(of, 0)].push_back(Candidate { request, number: 0 });
        }
        loop {
            let places: Vec<Option<Candidate>> = waiting.iter_mut().map(VecDeque::pop_front).collect();
            if places.iter().all(Option::is_none) {
                return Ok(accepted);
            }
            let logits = self.judge(&requests, &places)?;
            for (Candidate { request, number }, logit) in places.into_iter().flatten().zip(logits) {
                let of = &requests[request];
                if uniform_at(of.seed, stream::ACCEPT, number, 0) < self.acceptance.probability(logit) {
                    accepted[request] = number;
                    task.advance(1);
                } else if number + 1 < MAX_CANDIDATES {
                    waiting[place_of(of, number + 1)].push_back(Candidate { request, number: number + 1 });
                } else {
                    return Err(none_accepted(of));
                }
            }
        }
    }

    /// The request with the class that its seed draws, if it has none.
    fn requested(&self, SampleRequest { seed, class }: SampleRequest) -> SampleRequest {
        assert!(class.is_none() || self.distribution.is_some(), "the model is not conditional");
        let drawn = || self.distribution.as_ref().map(|distribution| distribution.draw(seed));
        SampleRequest { seed, class: class.or_else(drawn) }
    }

    /// The logits of candidates, in the order of their places. Places may be empty.
    fn judge(&mut self, requests: &[SampleRequest], places: &[Option<Candidate>]) -> Result<Vec<f64>> {
        let whole = self.routine.latent_size;
        let (mut inputs, mut labels) = (vec![0.0; BATCH * whole], vec![0_u32; BATCH]);
        for (place, &Candidate { request, number }) in
            places.iter().enumerate().filter_map(|(place, candidate)| Some((place, candidate.as_ref()?)))
        {
            let SampleRequest { seed, class } = requests[request];
            let latent = scaled_latent(candidate_latent(seed, number, self.latent_size), self.truncation);
            GeneratorInput { latent, class: class.map(ClassMix::from) }.write(&mut inputs[place * whole..][..whole]);
            labels[place] = class.unwrap_or(0).into();
        }
        if let Some(classes) = self.classes {
            self.executor.upload(classes, Values::U32(&labels))?;
        }
        self.executor.upload(self.routine.latents, Values::F32(&inputs))?;
        self.executor.run(self.routine.routine, 1)?;
        let logits = self.executor.download(self.logits)?;
        let logits: Vec<f64> =
            places.iter().zip(logits).filter_map(|(place, logit)| place.map(|_| f64::from(logit))).collect();
        if logits.iter().all(|logit| logit.is_finite()) {
            return Ok(logits);
        }
        Err(Error::Device {
            message: "the discriminator produced a logit that is not a finite number".into(),
            hint: "training diverged: use an earlier checkpoint, or train again with a lower --lr".into(),
        })
    }
}

impl RejectionCounts {
    /// The counts of `candidates` candidates for `images` images. `None` if sampling cannot give these counts.
    pub(crate) fn new(images: u64, candidates: u64) -> Option<Self> {
        let most = images.checked_mul(MAX_CANDIDATES.into())?;
        let is_possible = (1..=MAX_COUNTED).contains(&images) && (images..=most).contains(&candidates);
        is_possible.then_some(Self { images, candidates })
    }

    /// The counts of accepted candidates with these numbers.
    pub fn of(accepted: &[u32]) -> Self {
        let candidates = accepted.iter().map(|&number| u64::from(number) + 1).sum();
        Self { images: accepted.len() as u64, candidates }
    }
}

impl std::fmt::Display for RejectionCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { images, candidates } = *self;
        let share = 100.0 * images as f64 / candidates as f64;
        write!(f, "accepted {images} of {candidates} candidates ({share:.1} %)")
    }
}

/// The place of a candidate in its batch. It is a function of seed, class and number, and those of neighbouring seeds fill a batch.
fn place_of(&SampleRequest { seed, class }: &SampleRequest, number: u32) -> usize {
    let sum = seed.wrapping_add(7 * u64::from(class.unwrap_or(0))).wrapping_add(number.into());
    (sum % BATCH as u64) as usize
}

fn none_accepted(&SampleRequest { seed, class }: &SampleRequest) -> Error {
    let class = class.map_or_else(String::new, |class| format!(" of class {class}"));
    Error::Request {
        message: format!(
            "the discriminator accepts none of the first {MAX_CANDIDATES} candidates{class} for seed {seed}"
        ),
        hint:
            "it tells nearly all of them from real images: leave out --reject or this seed, or use another checkpoint"
                .into(),
    }
}
