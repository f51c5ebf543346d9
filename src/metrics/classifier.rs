//! The classifier of the feature extractor: a small network that is trained on the labelled images of a data set.

use std::ops::Range;
use std::path::Path;

use flate2::Crc;

use super::accuracy::Accuracy;
use super::architecture::{Architecture, RANGE, start};
use super::classifier_file::{ClassifierFile, SavedClassifier};
use super::feature_network::FeatureNetwork;
use super::score::largest;
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::net::parameters::{Layout, StoredTensor};
use crate::net::{DropoutRng, Mode, Network, Shape, Wrt};
use crate::program::random::shuffled;
use crate::program::{Device, Element, Op, Order, Program, RampUp, RoutineId, Schedule, TensorId, Values};
use crate::progress::{Console, Task};

/// The learning rates of Adam. Each is used for an equal part of the steps.
const RATES: [f64; 5] = [2e-3, 2e-3, 1e-3, 4e-4, 1e-4];
/// The number of epochs of training.
const EPOCHS: usize = 5;
/// The smallest number of training steps, for small data sets.
const MIN_STEPS: usize = 500;
/// The decay of the EMA of the weights.
const EMA_DECAY: f64 = 0.995;
/// The number of steps between two updates of the progress bar.
const BURST: usize = 10;
/// Without test images, 1 / `HELD_OUT` of the images is held out for testing.
const HELD_OUT: u32 = 10;
/// The seed of the order of the images and of the initial weights.
const SEED: u64 = 1;

/// The classifier of a data set.
pub(super) struct TrainedClassifier {
    /// The network.
    pub(super) network: FeatureNetwork,
    /// The accuracy on test images.
    pub(super) accuracy: Accuracy,
    /// The CRC-32 of the weights, in hexadecimal.
    pub(super) fingerprint: String,
}

/// Reads the classifier of these images from `cache`, or trains one and saves it there. It is tested on `test`, or on a held-out tenth of
/// the images.
///
/// # Panics
///
/// If the images have no [`ImageSet::classes`].
pub(super) fn open(
    device: &dyn Device,
    images: &ImageSet,
    test: Option<&ImageSet>,
    cache: Option<&Path>,
    console: &Console,
) -> Result<TrainedClassifier> {
    let architecture = Architecture::classifier(
        images.image_shape(),
        images.classes().expect("the caller checks that there are classes"),
    );
    let (training, test_set) = (LabelledImages::training_of(images, test), LabelledImages::test_of(images, test));
    let place = cache.map(|cache| ClassifierFile::new(cache, &about(&architecture, &training, &test_set)));
    if let Some(place) = &place {
        let found = place.read().and_then(|found| match found {
            None => Ok(None),
            Some(SavedClassifier { tensors, accuracy }) => {
                let network = FeatureNetwork::new(device, &architecture, |layouts| pack(&tensors, layouts));
                let classifier =
                    |network| Some(TrainedClassifier { network, accuracy, fingerprint: fingerprint(&tensors) });
                network.map(classifier).map_err(|error| error.to_string())
            }
        });
        match found {
            Ok(Some(classifier)) => {
                report(classifier.accuracy, console);
                return Ok(classifier);
            }
            Ok(None) => {}
            Err(what) => {
                console.message(&format!(
                    "{} cannot be used, so the classifier is trained again: {what}",
                    place.path().display()
                ));
            }
        }
    }
    let tensors = train(
        device,
        &architecture,
        &training,
        &console.task("training the classifier", steps(&architecture, &training)),
    )?;
    let mut network = FeatureNetwork::new(device, &architecture, |layouts| pack(&tensors, layouts))?;
    let accuracy = test_set.test(&mut network)?;
    let fingerprint = fingerprint(&tensors);
    if let Some(place) = &place
        && let Err(error) = place.write(&SavedClassifier { tensors, accuracy })
    {
        console.message(&format!("the classifier is not saved in the cache: {error}"));
    }
    report(accuracy, console);
    Ok(TrainedClassifier { network, accuracy, fingerprint })
}

/// The accuracy on `test` of a classifier that is trained on `generated` images only.
pub(super) fn accuracy_when_trained_on(
    generated: &LabelledImages,
    device: &dyn Device,
    test: &LabelledImages,
    classes: usize,
    console: &Console,
) -> Result<Accuracy> {
    let architecture = Architecture::classifier(generated.image, classes);
    let task = console.task("training a classifier on generated images", steps(&architecture, generated));
    let tensors = train(device, &architecture, generated, &task)?;
    test.test(&mut FeatureNetwork::new(device, &architecture, |layouts| pack(&tensors, layouts))?)
}

/// The CRC-32 of the names and values of all tensors, in hexadecimal.
fn fingerprint(tensors: &[StoredTensor<f32>]) -> String {
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut crc = Crc::new();
    for tensor in sorted {
        crc.update(tensor.name.as_bytes());
        crc.update(bytemuck::cast_slice(&tensor.values));
    }
    format!("{:08x}", crc.sum())
}

/// Prints the accuracy of the classifier.
fn report(accuracy: Accuracy, console: &Console) {
    let weak = if accuracy.share() < 0.9 { ", so metrics that use it are unreliable" } else { "" };
    console.message(&format!("classifier  {:.1} % on {} test images{weak}", 100.0 * accuracy.share(), accuracy.of));
}

/// Describes everything that determines the trained weights. Two classifiers with the same description are equal.
fn about(architecture: &Architecture, training: &LabelledImages, test: &LabelledImages) -> String {
    format!(
        "trained on {}, tested on {}, {architecture:?}, rates {RATES:?}, {EPOCHS} epochs, {MIN_STEPS} steps at least, \
         EMA {EMA_DECAY}, seed {SEED}",
        training.fingerprint(),
        test.fingerprint()
    )
}

/// Images with their labels.
pub struct LabelledImages {
    /// The images, bytes (N, H, W, C).
    pub pixels: Vec<u8>,
    /// The labels (N).
    pub labels: Vec<u8>,
    /// Height, width and channels of the images.
    pub image: Shape,
}

impl LabelledImages {
    /// The images on which the classifier of a data set is tested: `test` if it has labels and images of the same shape, or a held-out
    /// tenth of the data set.
    ///
    /// # Panics
    ///
    /// If the images have no labels.
    pub fn test_of(images: &ImageSet, test: Option<&ImageSet>) -> Self {
        match separate(images, test) {
            Some((test, labels)) => {
                Self { pixels: test.pixels.clone(), labels: labels.to_vec(), image: images.image_shape() }
            }
            None => Self::shuffled_part(images, 0..held_out(images)),
        }
    }

    /// The images on which the classifier of a data set is trained: all that are not test images.
    fn training_of(images: &ImageSet, test: Option<&ImageSet>) -> Self {
        let labels = images.labels.as_ref().expect("images with classes have labels");
        match separate(images, test) {
            Some(_) => Self { pixels: images.pixels.clone(), labels: labels.clone(), image: images.image_shape() },
            None => Self::shuffled_part(images, held_out(images)..images.count() as u32),
        }
    }

    /// The images at the given positions of a shuffled order.
    fn shuffled_part(images: &ImageSet, positions: Range<u32>) -> Self {
        let labels = images.labels.as_ref().expect("images with classes have labels");
        let chosen: Vec<usize> = positions.map(|g| shuffled(SEED, g, images.count() as u32) as usize).collect();
        Self {
            pixels: chosen.iter().flat_map(|&i| images.image(i)).copied().collect(),
            labels: chosen.iter().map(|&i| labels[i]).collect(),
            image: images.image_shape(),
        }
    }

    /// Some of the images.
    ///
    /// # Panics
    ///
    /// If there is no such image.
    #[must_use]
    pub fn part(&self, images: Range<usize>) -> Self {
        let len: usize = self.image.iter().product();
        Self {
            pixels: self.pixels[images.start * len..images.end * len].to_vec(),
            labels: self.labels[images].to_vec(),
            image: self.image,
        }
    }

    /// Appends further images of the same shape.
    pub fn append(&mut self, mut next: Self) {
        self.pixels.append(&mut next.pixels);
        self.labels.append(&mut next.labels);
    }

    fn fingerprint(&self) -> String {
        let crc = |bytes: &[u8]| {
            let mut crc = Crc::new();
            crc.update(bytes);
            crc.sum()
        };
        format!("{} images {:08x} with labels {:08x}", self.labels.len(), crc(&self.pixels), crc(&self.labels))
    }

    /// Measures the accuracy of a classifier on these images.
    fn test(&self, network: &mut FeatureNetwork) -> Result<Accuracy> {
        let logits = network.run(&self.pixels, 0, &Task::hidden())?.logits.expect("a classifier has logits");
        let right = logits.iter().zip(&self.labels).filter(|(row, label)| largest(row) == usize::from(**label)).count();
        Ok(Accuracy { right, of: self.labels.len() })
    }
}

/// Separate test images and their labels, if there are any of the shape of the data set.
fn separate<'a>(images: &ImageSet, test: Option<&'a ImageSet>) -> Option<(&'a ImageSet, &'a [u8])> {
    let test = test.filter(|test| test.image_shape() == images.image_shape())?;
    Some((test, test.labels.as_deref()?))
}

/// The number of held-out images of a data set without separate test images.
fn held_out(images: &ImageSet) -> u32 {
    (images.count() as u32 / HELD_OUT).max(1)
}

/// Packs parameters and running statistics into their buffers.
fn pack(tensors: &[StoredTensor<f32>], layouts: [&Layout; 2]) -> Result<[Vec<f32>; 2]> {
    let is_running = |tensor: &StoredTensor<f32>| tensor.name.contains(".running_");
    let (statistics, weights): (Vec<_>, Vec<_>) = tensors.iter().cloned().partition(is_running);
    Ok([layouts[0].pack(&weights)?, layouts[1].pack(&statistics)?])
}

/// The training program of a classifier.
pub(super) struct ClassifierTraining {
    /// The program.
    pub(super) program: Program,
    /// The routines of a training step, one for each of [`RATES`].
    steps: Vec<RoutineId>,
    /// The training images, (N, H, W, C).
    data: TensorId,
    /// The labels of the training images, (N).
    labels: TensorId,
    /// The loss of the last step.
    history: TensorId,
    /// The classifier.
    network: Network,
    /// The EMA of the classifier.
    ema: Network,
}

impl ClassifierTraining {
    /// The training program for `count` images.
    pub(super) fn new(architecture: &Architecture, count: usize) -> Self {
        let mut program = Program::new();
        let ([h, w, c], n) = (architecture.image, architecture.batch().min(count));
        let clock = program.tensor_of(Element::U32, "clock", &[1]);
        let data = program.tensor_of(Element::U8, "data", &[count, h, w, c]);
        let labels = program.tensor_of(Element::U8, "labels", &[count]);
        let history = program.tensor("history", &[1, 2]);
        let network = architecture.network(&mut program);
        let ema = network.ema(&mut program);

        let step = program.begin("step 0");
        let images = program.tensor("images", &[n, h, w, c]);
        let classes = program.tensor_of(Element::U32, "classes", &[n]);
        program.push(Op::Tick { clock });
        program.push(Op::Batch { clock, images: data, y: images, seed: SEED, order: Order::Shuffled, range: RANGE });
        program.push(Op::Labels { clock, labels, y: classes, seed: SEED, order: Order::Shuffled });
        let tape = network.forward(
            &mut program,
            images,
            Mode::Train { groups: 1, rng: DropoutRng { clock, seed: SEED } },
            "train",
        );
        let logits = tape.y;
        let shape = program.shape(logits).to_vec();
        let dlogits = program.tensor("dlogits", &shape);
        program.push(Op::CrossEntropy { clock, logits, labels: classes, dlogits, history, column: 0 });
        network.backward(&mut program, &tape, dlogits, Wrt::Params);
        let (param, grad, m, v) = (network.params(), network.grads(), network.m(), network.v());
        program.push(Op::Adam {
            clock,
            param,
            grad,
            m,
            v,
            lr: RATES[0],
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            schedule: Schedule::CONSTANT,
        });
        program.push(Op::Ema { clock, param, ema: ema.params(), decay: EMA_DECAY, ramp_up: RampUp::Steps });

        let ops = program.routine(step).ops.clone();
        let mut steps = vec![step];
        for (number, rate) in RATES.into_iter().enumerate().skip(1) {
            steps.push(program.begin(&format!("step {number}")));
            for mut op in ops.clone() {
                if let Op::Adam { lr, .. } = &mut op {
                    *lr = rate;
                }
                program.push(op);
            }
        }
        Self { program, steps, data, labels, history, network, ema }
    }
}

/// The number of training steps for these images.
fn steps(architecture: &Architecture, examples: &LabelledImages) -> u64 {
    (EPOCHS * examples.labels.len()).div_ceil(architecture.batch()).max(MIN_STEPS) as u64
}

/// Trains a classifier. Returns the EMA of its parameters and its running statistics.
fn train(
    device: &dyn Device,
    architecture: &Architecture,
    examples: &LabelledImages,
    task: &Task,
) -> Result<Vec<StoredTensor<f32>>> {
    let count = examples.labels.len();
    let training = ClassifierTraining::new(architecture, count);
    let mut executor = device.build(&training.program)?;
    let ClassifierTraining { network, ema, .. } = &training;
    let params = start(network.params_layout(), SEED);
    executor.upload(network.params(), Values::F32(&params))?;
    executor.upload(ema.params(), Values::F32(&params))?;
    executor.upload(network.running(), Values::F32(&start(network.running_layout(), SEED)))?;
    executor.upload(training.data, Values::U8(&examples.pixels))?;
    executor.upload(training.labels, Values::U8(&examples.labels))?;

    let steps = steps(architecture, examples) as usize;
    for (number, &step) in training.steps.iter().enumerate() {
        let part = steps * number / RATES.len()..steps * (number + 1) / RATES.len();
        for first in part.clone().step_by(BURST) {
            let burst = BURST.min(part.end - first);
            executor.run(step, burst)?;
            task.advance(burst as u64);
        }
    }
    let [loss, _] = executor.download(training.history)?[..] else { unreachable!("a history of one row of two") };
    if !loss.is_finite() {
        return Err(Error::Device {
            message: format!("the classifier of the feature extractor could not be trained: its loss became {loss}"),
            hint: "try again with --device cpu".into(),
        });
    }
    let params = network.params_layout().unpack(&executor.download(ema.params())?);
    let running = network.running_layout().unpack(&executor.download(network.running())?);
    Ok([params, running].concat())
}
