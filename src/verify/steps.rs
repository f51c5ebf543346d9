//! Whole training steps: on the GPU, and on the CPU in f32 and f64.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cpu::CpuDevice;
use crate::error::Result;
use crate::net::Model;
use crate::program::random::philox;
use crate::program::{Access, Device, Element, Executor, Op, Values};
use crate::recipe::Adam;
use crate::train::{Checkpoint, Gan, Settings};

/// Images to learn from: noise, which is as good as any for this.
const IMAGES: usize = 100;
/// The GPU adds in another order than the CPU; its error may be this multiple of the CPU's.
const TIMES_AS_FAR: f64 = 3.0;
/// Mixed precision may be as far from exact numbers as this share of them: where a number before a leaky ReLU is closer to 0 than its
/// rounding, one in two thousand, its gradient is another, and a gradient through several layers is off by the root of them all.
const IN_F16: f64 = 0.1;

/// What came of whole steps of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepComparison {
    /// The model's name.
    pub model: String,
    /// Real images in a step.
    pub batch_size: usize,
    /// How many tensors the step writes, all of which were compared.
    pub tensors: usize,
    /// The largest share of its bound that a tensor's distance from f64 takes.
    pub share: f64,
    /// The tensor with that share, and both distances in words.
    pub worst: String,
    /// What is wrong, if something is.
    pub complaints: Vec<String>,
}

/// A model in training on a device.
struct ModelUnderTest {
    gan: Gan,
    start: Checkpoint,
    executor: Box<dyn Executor>,
}

impl ModelUnderTest {
    /// Adam divides a gradient by its own size, so that weights whose gradient is close to 0 move by rounding alone. A large
    /// eps prevents that.
    const SMOOTH: Adam = Adam { lr: 1e-3, beta1: 0.5, beta2: 0.99, eps: 0.1 };

    fn new(device: &dyn Device, model: &Model, batch_size: usize) -> Result<Self> {
        let mut settings = Settings { adam: Self::SMOOTH, ..Settings::bare(model, IMAGES, batch_size) };
        settings.objective.penalty.every = 1; // so that the first step has one, if ever one does
        let start = Checkpoint::initial(model, &settings);
        let gan = Gan::new(model, &settings, IMAGES);
        let mut executor = device.build(&gan.program)?;
        gan.load(executor.as_mut(), &start)?;
        let len = gan.program.info(gan.data).len();
        let pixels = (0..len.div_ceil(16) as u32).flat_map(|block| philox([block, 0, 0, 0], [11, 0]));
        let pixels: Vec<u8> = pixels.flat_map(u32::to_le_bytes).take(len).collect();
        executor.upload(gan.data, Values::U8(&pixels))?;
        if let (Some(labels), Some(classes)) = (gan.labels, model.classes) {
            let classes: Vec<u8> = (0..IMAGES).map(|image| (7 * image % classes) as u8).collect();
            executor.upload(labels, Values::U8(&classes))?;
        }
        Ok(Self { gan, start, executor })
    }

    fn run(&mut self, steps: usize) -> Result<()> {
        self.gan.run(self.executor.as_mut(), 0, steps as u64)
    }

    /// All floats that a step writes, by name.
    fn written(&mut self) -> Result<BTreeMap<String, Vec<f32>>> {
        let program = &self.gan.program;
        let mut tensors = BTreeMap::new();
        for operand in step_of(&self.gan).iter().flat_map(Op::operands) {
            if operand.access != Access::Read && program.element(operand.tensor) == Element::F32 {
                tensors.insert(program.info(operand.tensor).name.clone(), self.executor.download(operand.tensor)?);
            }
        }
        Ok(tensors)
    }

    fn checkpoint(&mut self) -> Result<Checkpoint> {
        let Checkpoint { model, settings, .. } = &self.start;
        self.gan.save(self.executor.as_mut(), model, settings, 0)
    }
}

/// The operations of a step, with its penalty if it has one.
fn step_of(gan: &Gan) -> &[Op] {
    &gan.program.routine(gan.penalised_step.map_or(gan.step, |penalised| penalised.step)).ops
}

/// One step of a model: every tensor that it writes is compared, activations, gradients, moments and parameters. The
/// yardstick is how far f32 is from f64 on the CPU.
pub fn one_step(gpu: &dyn Device, model: &Model, batch_size: usize) -> Result<StepComparison> {
    let devices: [&dyn Device; 3] = [&CpuDevice::<f64>::new(), &CpuDevice::<f32>::new(), gpu];
    let mut written = Vec::new();
    let mut gan = None;
    // One after the other, since the largest model takes gigabytes.
    for device in devices {
        let mut model_under_test = ModelUnderTest::new(device, model, batch_size)?;
        model_under_test.run(1)?;
        written.push(model_under_test.written()?);
        gan = Some(model_under_test.gan);
    }
    let (gan, [exact, rounded, on_gpu]) = (gan.expect("one for each device"), &written[..]) else {
        unreachable!("three devices")
    };
    let mut steps = StepComparison {
        model: model.name.clone(),
        batch_size,
        tensors: exact.len(),
        share: 0.0,
        worst: String::new(),
        complaints: Vec::new(),
    };
    for (tensor, want) in exact {
        let rows = rows_of_bias(tensor, exact, &gan);
        let (share, words) = if let Some(rows) = rows.filter(|rows| norm(want) < 1e-12 * rows) {
            // Right before batch normalisation: nothing but rounding, of the sum of all rows.
            let noise = norm(&on_gpu[tensor]);
            (noise / (1e-5 * rows), format!("{tensor}: {noise:.1e}, and should be 0 beside {rows:.1e}"))
        } else {
            let (rounding, strayed) = (distance(&rounded[tensor], want), distance(&on_gpu[tensor], want));
            let words = format!("{tensor}: {strayed:.1e} from f64, while f32 on the CPU is {rounding:.1e}");
            // A sum whose terms nearly cancel, such as the last bias's where half the logits should rise and half should fall, has
            // the roundings of its terms.
            let cancelled = rows.map_or(0.0, |rows| 2e-7 * rows / norm(want));
            let least = if gpu.mixed_precision() { IN_F16 } else { 1e-6 };
            (strayed / (TIMES_AS_FAR * rounding + least + cancelled), words)
        };
        // A tensor with a NaN is infinitely far from any other.
        let share = if share.is_nan() { f64::INFINITY } else { share };
        if share > 1.0 {
            steps.complaints.push(words.clone());
        }
        if share > steps.share {
            (steps.share, steps.worst) = (share, words);
        }
    }
    Ok(steps)
}

/// Of a bias's gradient, the size of what it is the sum of.
fn rows_of_bias(tensor: &str, exact: &BTreeMap<String, Vec<f32>>, gan: &Gan) -> Option<f64> {
    let program = &gan.program;
    let dy = step_of(gan).iter().find_map(|op| match *op {
        Op::BiasGrad { dy, db } if program.info(db).name == tensor => Some(dy),
        _ => None,
    })?;
    Some(norm(&exact[&program.info(dy).name]))
}

/// Whether two runs of a few steps give the same bits, in all that a checkpoint holds.
pub fn repeats(gpu: &dyn Device, model: &Model, batch_size: usize, steps: usize) -> Result<bool> {
    let bits = || -> Result<Vec<u32>> {
        let mut model_under_test = ModelUnderTest::new(gpu, model, batch_size)?;
        model_under_test.run(steps)?;
        let checkpoint = model_under_test.checkpoint()?;
        Ok(checkpoint.tensors().values().flat_map(|tensor| &tensor.values).map(|value| value.to_bits()).collect())
    };
    Ok(bits()? == bits()?)
}

/// How far a tensor is from another, relative to that.
fn distance(got: &[f32], want: &[f32]) -> f64 {
    let difference: Vec<f32> = got.iter().zip(want).map(|(&got, &want)| got - want).collect();
    let apart = norm(&difference);
    if apart == 0.0 { 0.0 } else { apart / norm(want) }
}

/// The root of the sum of squares.
fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}
