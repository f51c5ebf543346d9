//! A classifier, trained by this program's own operations on images with labels.

use std::path::Path;

use flate2::Crc;
use serde::{Deserialize, Serialize};

use super::embedder::Embedder;
use super::networks::{Architecture, RANGE, start};
use super::score::largest;
use super::store::{Kept, Place};
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::net::parameters::{Layout, StoredTensor};
use crate::net::{DropoutRng, Mode, Network, Wrt};
use crate::program::random::shuffled;
use crate::program::{Device, Element, Op, Order, Program, RampUp, RoutineId, Schedule, TensorId, Values};
use crate::progress::{Console, Task};

/// Learning rates of Adam, each for an equal part of the steps.
const RATES: [f64; 5] = [2e-3, 2e-3, 1e-3, 4e-4, 1e-4];
/// Passes over the images,
const EPOCHS: usize = 5;
/// and at least so many steps, where they are few.
const LEAST_STEPS: usize = 500;
/// The share of the old weights in their moving average.
const AVERAGE: f64 = 0.995;
/// Steps between two looks at how far it is.
const BURST: usize = 10;
/// Of images without others to test with, one in so many is held back.
const HELD_BACK: u32 = 10;
/// What the order of the images and the first weights are drawn from.
const SEED: u64 = 1;

/// How often a classifier was right on images that it had not learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    /// On so many images,
    pub right: usize,
    /// out of so many.
    pub of: usize,
}

impl Accuracy {
    /// As a share of 1.
    pub fn share(self) -> f64 {
        self.right as f64 / self.of as f64
    }
}

/// A classifier of these images: the one that is kept in the cache, else one that is trained and then kept there. It is
/// tested with `test`, or where there are no such images with a tenth of the others, held back.
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
) -> Result<(Embedder, Accuracy)> {
    let architecture = Architecture::classifier(images.image_shape(), images.classes().expect("asked for"));
    let [lesson, exam] = Examples::split(images, test.filter(|test| test.image_shape() == images.image_shape()));
    let place = cache.map(|cache| Place::new(cache, &about(&architecture, &lesson, &exam)));
    if let Some(place) = &place {
        let found = place.read().and_then(|found| match found {
            None => Ok(None),
            Some(Kept { tensors, accuracy }) => {
                let eye = Embedder::new(device, &architecture, |layouts| pack(&tensors, layouts));
                eye.map(|eye| Some((eye, accuracy))).map_err(|error| error.to_string())
            }
        });
        match found {
            Ok(Some((eye, accuracy))) => {
                accuracy.tell(console);
                return Ok((eye, accuracy));
            }
            Ok(None) => {}
            Err(what) => {
                console.message(&format!("{} cannot be used; rebuilding it: {what}", place.path().display()));
            }
        }
    }
    let tensors =
        learn(device, &architecture, &lesson, &console.task("training the classifier", steps(&architecture, &lesson)))?;
    let mut eye = Embedder::new(device, &architecture, |layouts| pack(&tensors, layouts))?;
    let accuracy = exam.take(&mut eye)?;
    if let Some(place) = &place
        && let Err(error) = place.write(&Kept { tensors, accuracy })
    {
        console.message(&format!("the classifier is not kept for the next time: {error}"));
    }
    accuracy.tell(console);
    Ok((eye, accuracy))
}

/// How often a classifier that learns from `made` images alone, each with its label, is right on the real ones that a classifier of
/// the real `images` is tested with.
///
/// # Panics
///
/// If the images have no [`ImageSet::classes`].
pub(super) fn taught_by(
    made: &Examples,
    device: &dyn Device,
    images: &ImageSet,
    test: Option<&ImageSet>,
    console: &Console,
) -> Result<Accuracy> {
    let architecture = Architecture::classifier(images.image_shape(), images.classes().expect("asked for"));
    let [_, exam] = Examples::split(images, test.filter(|test| test.image_shape() == images.image_shape()));
    let task = console.task("learning from generated images", steps(&architecture, made));
    let tensors = learn(device, &architecture, made, &task)?;
    exam.take(&mut Embedder::new(device, &architecture, |layouts| pack(&tensors, layouts))?)
}

impl Accuracy {
    fn tell(self, console: &Console) {
        let weak = if self.share() < 0.9 { ", so figures that rest on it are weak" } else { "" };
        console.message(&format!("classifier  {:.1} % on {} test images{weak}", 100.0 * self.share(), self.of));
    }
}

/// Everything that decides what a classifier is: another one has another text.
fn about(architecture: &Architecture, lesson: &Examples, exam: &Examples) -> String {
    format!(
        "trained on {}, tested on {}, {architecture:?}, rates {RATES:?}, {EPOCHS} epochs, {LEAST_STEPS} steps at least, \
         average {AVERAGE}, seed {SEED}",
        lesson.fingerprint(),
        exam.fingerprint()
    )
}

/// Images with their classes.
pub(super) struct Examples {
    pub(super) pixels: Vec<u8>, // (N, H, W, C)
    pub(super) labels: Vec<u8>, // (N)
}

impl Examples {
    /// Those to learn from, and those to be tested with.
    fn split(images: &ImageSet, test: Option<&ImageSet>) -> [Self; 2] {
        let labels = |set: &ImageSet| set.labels.clone();
        let all = || Self { pixels: images.pixels.clone(), labels: labels(images).expect("they have classes") };
        if let Some((test, labels)) = test.and_then(|test| Some((test, labels(test)?))) {
            return [all(), Self { pixels: test.pixels.clone(), labels }];
        }
        let (count, labels) = (images.count() as u32, all().labels);
        let held_back = (count / HELD_BACK).max(1);
        [held_back..count, 0..held_back].map(|places| {
            let chosen: Vec<usize> = places.map(|g| shuffled(SEED, g, count) as usize).collect();
            Self {
                pixels: chosen.iter().flat_map(|&i| images.image(i)).copied().collect(),
                labels: chosen.iter().map(|&i| labels[i]).collect(),
            }
        })
    }

    fn fingerprint(&self) -> String {
        let crc = |bytes: &[u8]| {
            let mut crc = Crc::new();
            crc.update(bytes);
            crc.sum()
        };
        format!("{} images {:08x} with labels {:08x}", self.labels.len(), crc(&self.pixels), crc(&self.labels))
    }

    /// How many of them a classifier gets right.
    fn take(&self, eye: &mut Embedder) -> Result<Accuracy> {
        let logits = eye.look_at(&self.pixels, &Task::hidden())?.logits.expect("a classifier has logits");
        let right = logits.iter().zip(&self.labels).filter(|(row, label)| largest(row) == usize::from(**label)).count();
        Ok(Accuracy { right, of: self.labels.len() })
    }
}

/// Parameters and running statistics as their layouts have them.
fn pack(tensors: &[StoredTensor<f32>], layouts: [&Layout; 2]) -> Result<[Vec<f32>; 2]> {
    let is_running = |tensor: &StoredTensor<f32>| tensor.name.contains(".running_");
    let (statistics, weights): (Vec<_>, Vec<_>) = tensors.iter().cloned().partition(is_running);
    Ok([layouts[0].pack(&weights)?, layouts[1].pack(&statistics)?])
}

/// A training step on `count` images.
pub(super) struct Lesson {
    pub(super) program: Program,
    /// The same step at each of [`RATES`].
    steps: Vec<RoutineId>,
    data: TensorId,
    labels: TensorId,
    history: TensorId,
    network: Network,
    average: Network,
}

impl Lesson {
    pub(super) fn new(architecture: &Architecture, count: usize) -> Self {
        let mut program = Program::new();
        let ([h, w, c], n) = (architecture.image, architecture.batch().min(count));
        let clock = program.tensor_of(Element::U32, "clock", &[1]);
        let data = program.tensor_of(Element::U8, "data", &[count, h, w, c]);
        let labels = program.tensor_of(Element::U8, "labels", &[count]);
        let history = program.tensor("history", &[1, 2]);
        let network = architecture.network(&mut program);
        let average = network.ema(&mut program);

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
            "lesson",
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
        program.push(Op::Ema { clock, param, ema: average.params(), decay: AVERAGE, ramp_up: RampUp::Steps });

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
        Self { program, steps, data, labels, history, network, average }
    }
}

/// How many steps it takes to learn from them.
fn steps(architecture: &Architecture, examples: &Examples) -> u64 {
    (EPOCHS * examples.labels.len()).div_ceil(architecture.batch()).max(LEAST_STEPS) as u64
}

/// Trains a classifier; returns the moving average of its parameters, and its running statistics.
fn learn(
    device: &dyn Device,
    architecture: &Architecture,
    examples: &Examples,
    task: &Task,
) -> Result<Vec<StoredTensor<f32>>> {
    let count = examples.labels.len();
    let lesson = Lesson::new(architecture, count);
    let mut executor = device.build(&lesson.program)?;
    let Lesson { network, average, .. } = &lesson;
    let params = start(network.params_layout(), SEED);
    executor.upload(network.params(), Values::F32(&params))?;
    executor.upload(average.params(), Values::F32(&params))?;
    executor.upload(network.running(), Values::F32(&start(network.running_layout(), SEED)))?;
    executor.upload(lesson.data, Values::U8(&examples.pixels))?;
    executor.upload(lesson.labels, Values::U8(&examples.labels))?;

    let steps = steps(architecture, examples) as usize;
    for (number, &step) in lesson.steps.iter().enumerate() {
        let part = steps * number / RATES.len()..steps * (number + 1) / RATES.len();
        for first in part.clone().step_by(BURST) {
            let burst = BURST.min(part.end - first);
            executor.run(step, burst)?;
            task.advance(burst as u64);
        }
    }
    let [loss, _] = executor.download(lesson.history)?[..] else { unreachable!("a history of one row of two") };
    if !loss.is_finite() {
        return Err(Error::Device {
            message: format!("the classifier that judges the images could not be trained: its loss became {loss}"),
            hint: "try again with --device cpu".into(),
        });
    }
    let params = network.params_layout().unpack(&executor.download(average.params())?);
    let running = network.running_layout().unpack(&executor.download(network.running())?);
    Ok([params, running].concat())
}
