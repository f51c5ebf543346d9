//! Whole training steps on the GPU, compared with steps on the CPU in f32 and f64.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::cpu::CpuDevice;
use crate::error::Result;
use crate::net::Model;
use crate::program::random::philox;
use crate::program::{Access, Activation, Device, Element, Executor, Op, Program, TensorId, Values};
use crate::recipe::Adam;
use crate::train::{Checkpoint, Gan, Settings};

/// The number of training images. They are noise.
const IMAGES: usize = 100;
/// The largest accepted distance of the GPU from f64, as a multiple of the distance of the CPU in f32. Both add in different orders.
const MAX_DISTANCE_RATIO: f64 = 3.0;
/// The largest accepted relative distance of a tensor from f64 in mixed precision. About one in two thousand inputs of a leaky ReLU is
/// closer to 0 than its rounding, so that its slope may change. Over several layers such errors add up like a random walk.
const MAX_MIXED_DISTANCE: f64 = 0.1;

/// The comparison of a whole training step with f64.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepComparison {
    /// The model's name.
    pub model: String,
    /// Real images in a step.
    pub batch_size: usize,
    /// The number of tensors that the step writes; all of them are compared.
    pub tensors: usize,
    /// The largest distance of a tensor from f64, as a share of its bound.
    pub share: f64,
    /// The name of the tensor with the largest share, and its distances in words.
    pub worst: String,
    /// Descriptions of the tensors that exceed their bounds.
    pub complaints: Vec<String>,
}

/// The largest difference of two values that rounding can cause, relative to the largest value of their tensor. It limits the
/// [decisions](decide_alike) that are copied from another device.
const ROUNDING: f32 = 1e-5;

/// The values of tensors.
type Tensors = BTreeMap<TensorId, Vec<f32>>;

/// A model in training on a device under test.
struct ModelUnderTest {
    /// The program of the training step.
    gan: Gan,
    /// The initial state.
    start: Checkpoint,
    /// The program on the device.
    executor: Box<dyn Executor>,
}

impl ModelUnderTest {
    /// Settings of Adam with a large eps. Adam divides a gradient by its magnitude. With a small eps, weights with a gradient near 0
    /// would move by rounding errors alone.
    const SMOOTH: Adam = Adam { lr: 1e-3, beta1: 0.5, beta2: 0.99, eps: 0.1 };

    /// Builds the program on a device. With `separate`, each operation of a step is also a separate routine.
    fn new(device: &dyn Device, model: &Model, batch_size: usize, separate: bool) -> Result<Self> {
        let mut settings = Settings { adam: Self::SMOOTH, ..Settings::bare(model, IMAGES, batch_size) };
        settings.objective.penalty.every = 1; // so that the first step has the penalty, if any step has one
        let start = Checkpoint::initial(model, &settings);
        let mut gan = Gan::new(model, &settings, IMAGES);
        if separate {
            for (number, op) in step_of(&gan).to_vec().into_iter().enumerate() {
                gan.program.begin(&routine_name(number));
                gan.program.push(op);
            }
        }
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

    /// All tensors of floats that a step writes.
    fn written(&mut self) -> Result<Tensors> {
        let program = &self.gan.program;
        let mut tensors = Tensors::new();
        for operand in step_of(&self.gan).iter().flat_map(Op::operands) {
            if operand.access != Access::Read && program.element(operand.tensor) == Element::F32 {
                tensors.insert(operand.tensor, self.executor.download(operand.tensor)?);
            }
        }
        Ok(tensors)
    }

    /// Runs a step operation by operation, with the [decisions](decide_alike) of another device, whose step wrote `other`. For tensors
    /// that a step writes several times the decisions are this device's own, since `other` has only their last values.
    fn run_with_decisions_of(&mut self, other: &Tensors) -> Result<()> {
        let program = &self.gan.program;
        let mut writes = HashMap::new();
        for operand in step_of(&self.gan).iter().flat_map(Op::operands) {
            if operand.access != Access::Read {
                *writes.entry(program.info(operand.tensor).buffer).or_insert(0) += 1;
            }
        }
        for (number, op) in step_of(&self.gan).iter().enumerate() {
            if let &Op::Activation { kind: Activation::LeakyRelu { .. }, x, .. } | &Op::MaxPool { x, .. } = op
                && writes.get(&program.info(x).buffer) == Some(&1)
                && let Some(other) = values_of(x, other, program)
            {
                let mut values = self.executor.download(x)?;
                let window = if let Op::MaxPool { size, .. } = *op { Some((program.nhwc(x), size)) } else { None };
                if decide_alike(&mut values, other, window) {
                    self.executor.upload(x, Values::F32(&values))?;
                }
            }
            let routine = program.routine_named(&routine_name(number)).expect("each operation has a routine");
            self.executor.run(routine, 1)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Checkpoint> {
        let Checkpoint { model, settings, .. } = &self.start;
        self.gan.save(self.executor.as_mut(), model, settings, 0)
    }
}

/// The name of the routine of one operation of a step.
fn routine_name(number: usize) -> String {
    format!("operation {number}")
}

/// Changes the inputs `values` of a ReLU so that each has the sign of the value on another device; or, with `windows` (the shape and
/// the window size of max pooling), so that each window has its maximum at the same position. Returns whether any value changed.
///
/// Two correct devices may decide differently if the difference is within rounding. All later gradients then differ by much more than
/// rounding. So values are copied from the other device, but only if they differ by rounding: a wrong value stays wrong.
fn decide_alike(values: &mut [f32], other: &[f32], windows: Option<([usize; 4], usize)>) -> bool {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let mut changed = false;
    let mut take = |values: &mut [f32], group: &[usize]| {
        if group.iter().all(|&at| (values[at] - other[at]).abs() <= ROUNDING * largest) {
            for &at in group {
                values[at] = other[at];
            }
            changed = true;
        }
    };
    let Some(([n, h, w, c], size)) = windows else {
        for at in 0..values.len() {
            if (values[at] > 0.0) != (other[at] > 0.0) {
                take(values, &[at]);
            }
        }
        return changed;
    };
    let first_maximum = |values: &[f32], window: &[usize]| {
        let later = |first: usize, at: &usize| if values[*at] > values[first] { *at } else { first };
        window.iter().fold(window[0], later)
    };
    for row in 0..n * (h / size) {
        let top = row / (h / size) * h + row % (h / size) * size;
        for (column, channel) in (0..w / size).flat_map(|column| (0..c).map(move |channel| (column, channel))) {
            let at = |(i, j): (usize, usize)| ((top + i) * w + column * size + j) * c + channel;
            let window: Vec<usize> = (0..size).flat_map(|i| (0..size).map(move |j| (i, j))).map(at).collect();
            if first_maximum(values, &window) != first_maximum(other, &window) {
                take(values, &window);
            }
        }
    }
    changed
}

/// The values of a tensor in `written`, which may have them under another handle on the same elements.
fn values_of<'tensors>(tensor: TensorId, written: &'tensors Tensors, program: &Program) -> Option<&'tensors Vec<f32>> {
    let elements = |tensor: TensorId| (program.info(tensor).buffer, program.info(tensor).range());
    written.iter().find(|(other, _)| elements(**other) == elements(tensor)).map(|(_, values)| values)
}

/// The operations of a step, with its gradient penalty if it has one.
fn step_of(gan: &Gan) -> &[Op] {
    &gan.program.routine(gan.penalised_step.map_or(gan.step, |penalised| penalised.step)).ops
}

/// Compares one step of a model with f64: every tensor that the step writes, such as activations, gradients, moments and parameters.
/// The bound is a multiple of the distance between f32 and f64 on the CPU. Where rounding decides the sign of an activation's input or
/// the position of a maximum, the CPU uses the GPU's decision.
///
/// # Errors
///
/// If the program does not fit into the memory of a device, or the GPU is lost.
pub fn one_step(gpu: &dyn Device, model: &Model, batch_size: usize) -> Result<StepComparison> {
    // Only one device at a time, since the largest model takes gigabytes.
    let mut on_the_gpu = ModelUnderTest::new(gpu, model, batch_size, false)?;
    on_the_gpu.run(1)?;
    let on_gpu = &on_the_gpu.written()?;
    drop(on_the_gpu);
    let on_the_cpu = |device: &dyn Device| -> Result<(Tensors, Gan)> {
        let mut on_the_cpu = ModelUnderTest::new(device, model, batch_size, true)?;
        on_the_cpu.run_with_decisions_of(on_gpu)?;
        Ok((on_the_cpu.written()?, on_the_cpu.gan))
    };
    let (exact, gan) = &on_the_cpu(&CpuDevice::<f64>::new())?;
    let (rounded, _) = &on_the_cpu(&CpuDevice::<f32>::new())?;
    let mut steps = StepComparison {
        model: model.name.clone(),
        batch_size,
        tensors: exact.len(),
        share: 0.0,
        worst: String::new(),
        complaints: Vec::new(),
    };
    for (&id, want) in exact {
        let tensor = &gan.program.info(id).name;
        let rows = rows_of_bias(id, exact, gan);
        let (share, words) = if let Some(rows) = rows.filter(|rows| norm(want) < 1e-12 * rows) {
            // The gradient of a bias before batch normalisation is 0, so the result is only the rounding of a long sum.
            let noise = norm(&on_gpu[&id]);
            (noise / (1e-5 * rows), format!("{tensor}: {noise:.1e} instead of 0, from summands of size {rows:.1e}"))
        } else {
            let (cpu_distance, gpu_distance) = (distance(&rounded[&id], want), distance(&on_gpu[&id], want));
            let words =
                format!("{tensor}: relative distance {gpu_distance:.1e} from f64, f32 on the CPU {cpu_distance:.1e}");
            // A sum whose terms nearly cancel has the rounding errors of its terms. An example is the gradient of the last bias, where
            // half of the terms are positive and half are negative.
            let cancelled = rows.map_or(0.0, |rows| 2e-7 * rows / norm(want));
            let margin = if gpu.mixed_precision() { MAX_MIXED_DISTANCE } else { 1e-6 };
            (gpu_distance / (MAX_DISTANCE_RATIO * cpu_distance + margin + cancelled), words)
        };
        // A NaN counts as an infinite distance.
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

/// The norm of the summands of a bias's gradient, if the tensor is one.
fn rows_of_bias(tensor: TensorId, exact: &Tensors, gan: &Gan) -> Option<f64> {
    let dy = step_of(gan).iter().find_map(|op| match *op {
        Op::BiasGrad { dy, db } if db == tensor => Some(dy),
        _ => None,
    })?;
    Some(norm(values_of(dy, exact, &gan.program)?))
}

/// Whether two runs of `steps` steps give the same bits in all tensors of a checkpoint.
///
/// # Errors
///
/// If the program does not fit into the memory of the device, or the device is lost.
pub fn repeats(gpu: &dyn Device, model: &Model, batch_size: usize, steps: usize) -> Result<bool> {
    let bits = || -> Result<Vec<u32>> {
        let mut model_under_test = ModelUnderTest::new(gpu, model, batch_size, false)?;
        model_under_test.run(steps)?;
        let checkpoint = model_under_test.checkpoint()?;
        Ok(checkpoint.tensors().values().flat_map(|tensor| &tensor.values).map(|value| value.to_bits()).collect())
    };
    Ok(bits()? == bits()?)
}

/// The norm of the difference of two tensors, relative to the norm of the second.
fn distance(got: &[f32], want: &[f32]) -> f64 {
    let difference: Vec<f32> = got.iter().zip(want).map(|(&got, &want)| got - want).collect();
    let apart = norm(&difference);
    if apart == 0.0 { 0.0 } else { apart / norm(want) }
}

/// The Euclidean norm.
fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decisions_within_rounding_are_copied_from_the_other_device() {
        let own = [1.0, 1e-7, -1e-7, 0.5, -0.5];
        let mut values = own;
        assert!(!decide_alike(&mut values, &own, None));
        assert!(decide_alike(&mut values, &[1.0, -1e-7, -2e-7, 0.4, 0.5], None));
        assert_eq!(values.map(f32::to_bits), [1.0, -1e-7, -1e-7, 0.5, -0.5].map(f32::to_bits));

        // Two windows of 2 x 2 pixels: in the first, the maximum moves by rounding; in the second, by a wrong value.
        let own = [1.0, 0.1, 0.9, 0.2, 0.999_999, 0.0, 0.0, 0.0];
        let other = [0.999_999, 0.1, 0.9, 0.95, 1.0, 0.0, 0.0, 0.0];
        let mut values = own;
        assert!(decide_alike(&mut values, &other, Some(([1, 2, 4, 1], 2))));
        assert_eq!(values.map(f32::to_bits), [0.999_999, 0.1, 0.9, 0.2, 1.0, 0.0, 0.0, 0.0].map(f32::to_bits));
    }
}
