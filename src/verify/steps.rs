//! Whole training steps: on the GPU, and on the CPU in f32 and f64.

use serde::Serialize;

use crate::cpu::CpuDevice;
use crate::error::Result;
use crate::net::{Adam, Model};
use crate::program::random::philox;
use crate::program::{Access, Device, Element, Executor, Values};
use crate::train::{Checkpoint, Gan, Settings};

/// Images to learn from: noise, which is as good as any for this.
const IMAGES: usize = 100;
/// The GPU adds in another order than the CPU, and may be so many times as far from exact numbers.
const TIMES_AS_FAR: f64 = 3.0;

/// What came of whole steps of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Steps {
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
struct Trainee {
    gan: Gan,
    start: Checkpoint,
    executor: Box<dyn Executor>,
}

impl Trainee {
    /// Adam divides a gradient by its own size, so that weights whose gradient is close to 0 move by rounding alone. A large
    /// eps prevents that.
    const SMOOTH: Adam = Adam { lr: 1e-3, beta1: 0.5, beta2: 0.99, eps: 0.1 };

    fn new(device: &dyn Device, model: &Model, batch_size: usize) -> Result<Self> {
        let settings = Settings { adam: Self::SMOOTH, ..Settings::bare(model, IMAGES, batch_size) };
        let start = Checkpoint::initial(model, &settings);
        let gan = Gan::new(model, &settings, IMAGES);
        let mut executor = device.build(&gan.program)?;
        gan.load(executor.as_mut(), &start)?;
        let len = gan.program.info(gan.data).len();
        let pixels = (0..len.div_ceil(16) as u32).flat_map(|block| philox([block, 0, 0, 0], [11, 0]));
        let pixels: Vec<u8> = pixels.flat_map(u32::to_le_bytes).take(len).collect();
        executor.upload(gan.data, Values::U8(&pixels))?;
        Ok(Self { gan, start, executor })
    }

    fn run(&mut self, steps: usize) -> Result<()> {
        self.executor.run(self.gan.step, steps)
    }

    fn checkpoint(&mut self) -> Result<Checkpoint> {
        let Checkpoint { model, settings, .. } = &self.start;
        self.gan.save(self.executor.as_mut(), model, settings, 0)
    }
}

/// One step of a model: every tensor that it writes is compared, activations, gradients, moments and parameters. The
/// yardstick is how far f32 is from f64 on the CPU.
pub fn one_step(gpu: &dyn Device, model: &Model, batch_size: usize) -> Result<Steps> {
    let devices: [&dyn Device; 3] = [&CpuDevice::<f64>::new(), &CpuDevice::<f32>::new(), gpu];
    let mut trainees = Vec::new();
    for device in devices {
        let mut trainee = Trainee::new(device, model, batch_size)?;
        trainee.run(1)?;
        trainees.push(trainee);
    }
    let [exact, rounded, on_gpu] = &mut trainees[..] else { unreachable!("three devices") };
    let mut steps = Steps {
        model: model.name.clone(),
        batch_size,
        tensors: 0,
        share: 0.0,
        worst: String::new(),
        complaints: vec![],
    };
    let program = exact.gan.program.clone();
    for op in &program.routine(exact.gan.step).ops {
        for operand in op.operands() {
            if operand.access == Access::Read || program.element(operand.tensor) != Element::F32 {
                continue;
            }
            let want = exact.executor.download(operand.tensor)?;
            let rounding = distance(&rounded.executor.download(operand.tensor)?, &want);
            let strayed = distance(&on_gpu.executor.download(operand.tensor)?, &want);
            // A tensor with a NaN is infinitely far from any other.
            let share = Some(strayed / (TIMES_AS_FAR * rounding + 1e-6)).filter(|share| !share.is_nan());
            let share = share.unwrap_or(f64::INFINITY);
            let name = &program.info(operand.tensor).name;
            let words = format!("{name}: {strayed:.1e} from f64, while f32 on the CPU is {rounding:.1e}");
            steps.tensors += 1;
            if share > 1.0 {
                steps.complaints.push(words.clone());
            }
            if share > steps.share {
                (steps.share, steps.worst) = (share, words);
            }
        }
    }
    Ok(steps)
}

/// Whether two runs of a few steps give the same bits, in all that a checkpoint holds.
pub fn repeats(gpu: &dyn Device, model: &Model, batch_size: usize, steps: usize) -> Result<bool> {
    let bits = || -> Result<Vec<u32>> {
        let mut trainee = Trainee::new(gpu, model, batch_size)?;
        trainee.run(steps)?;
        let checkpoint = trainee.checkpoint()?;
        Ok(checkpoint.tensors().values().flat_map(|tensor| &tensor.values).map(|value| value.to_bits()).collect())
    };
    Ok(bits()? == bits()?)
}

/// How far a tensor is from another, relative to that: the root of the sum of squares of both.
fn distance(got: &[f32], want: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let apart = norm(&mut got.iter().zip(want).map(|(&got, &want)| f64::from(got) - f64::from(want)));
    if apart == 0.0 { 0.0 } else { apart / norm(&mut want.iter().map(|&want| f64::from(want))) }
}
