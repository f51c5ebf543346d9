//! A device that runs a program in Rust: in f32 on all cores for machines without a GPU, and in f64 as the reference for every
//! kernel.
//!
//! Each file with the name of a shader is the shader's twin and computes the same formulas, which [`Op`] defines. Convolution is
//! a matrix product, computed by the `gemm` crate; everything else is a plain loop over chunks, which the cores share. How work is
//! divided, and so the order in which numbers are added, depends on shapes alone: the same program gives the same bits each time,
//! with any number of threads.

mod activation;
mod adam;
mod augment;
mod batch;
mod batch_norm;
mod bias;
mod class;
mod clock;
mod concat;
mod conv;
mod cross_entropy;
mod diff_augment;
mod dropout;
mod ema;
mod fill;
mod functions;
mod horner;
mod labels;
mod loss;
mod max_pool;
mod memory;
mod minibatch_deviation;
mod mix;
mod noise;
mod pack;
mod penalty;
pub(crate) mod product;
mod rows;
mod scalar;
mod spectral_norm;
#[cfg(test)]
mod tests;
mod upsample;
mod words;

use std::marker::PhantomData;
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::{Error, Result, bytes_for_people};
use crate::program::{Access, BufferId, Device, Executor, Op, Operand, Program, RoutineId, Snapshot, TensorId, Values};
use memory::{Memory, Scratch};
pub use scalar::Scalar;

/// The number of elements of a tensor that one core processes at a time: enough work (10 microseconds) to be worth handing to
/// another core. One core processes a tensor of at most this size.
const CHUNK: usize = 16 * 1024;

/// The CPU device, which computes in `T`.
#[derive(Debug, Default, Clone, Copy)]
pub struct CpuDevice<T = f32>(PhantomData<fn() -> T>);

impl<T: Scalar> CpuDevice<T> {
    /// The CPU device of this machine.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Scalar> Device for CpuDevice<T> {
    fn description(&self) -> String {
        match rayon::current_num_threads() {
            1 => "CPU, 1 thread".into(),
            threads => format!("CPU, {threads} threads"),
        }
    }

    /// A quarter of the available memory, so that the rest of the program and other programs have room.
    fn max_image_bytes(&self) -> u64 {
        crate::memory::available() / 4
    }

    fn check(&self, program: &Program) -> Result<()> {
        let needed = memory::needed::<T>(program);
        let available = crate::memory::available();
        if needed <= available {
            return Ok(());
        }
        let largest = program.buffers().iter().max_by_key(|buffer| memory::bytes::<T>(buffer));
        let largest = largest.map_or(String::new(), |buffer| {
            let bytes = bytes_for_people(memory::bytes::<T>(buffer));
            format!(" (its largest buffer, {}, takes {bytes})", buffer.name)
        });
        Err(Error::TooLarge {
            tensor: format!("the program{largest}"),
            bytes: needed,
            limit: available,
            limit_name: "memory available",
            device: self.description(),
            hint: String::new(),
        })
    }

    fn build(&self, program: &Program) -> Result<Box<dyn Executor>> {
        self.check(program)?;
        Ok(Box::new(CpuExecutor::<T>::new(program)?))
    }
}

/// A program in memory, ready to run.
#[derive(Debug)]
pub struct CpuExecutor<T> {
    /// The program.
    program: Arc<Program>,
    /// The buffers of the program.
    memory: Memory<T>,
    /// Memory for intermediate results of operations.
    scratch: Scratch<T>,
    /// The values of each [`Snapshot`], by its index. Collecting a snapshot leaves `None`, and its index is reused.
    snapshots: Vec<Option<Vec<f32>>>,
}

impl<T: Scalar> CpuExecutor<T> {
    /// Allocates every buffer, filled with zeros.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if an allocation fails.
    pub fn new(program: &Program) -> Result<Self> {
        let program = Arc::new(program.clone());
        Ok(Self { memory: Memory::new(&program)?, program, scratch: Scratch::default(), snapshots: Vec::new() })
    }

    /// Overwrites a tensor of floats, without rounding.
    ///
    /// # Panics
    ///
    /// If `values` has another length than the tensor, or the tensor does not hold floats.
    pub fn write(&mut self, tensor: TensorId, values: &[T]) {
        let target = self.memory.floats_mut(tensor);
        assert_eq!(target.len(), values.len(), "the tensor and the values differ in length");
        target.copy_from_slice(values);
    }

    /// The values of a tensor of floats, without rounding.
    pub fn read(&self, tensor: TensorId) -> Vec<T> {
        self.memory.floats(tensor).to_vec()
    }
}

impl<T: Scalar> Executor for CpuExecutor<T> {
    fn upload(&mut self, tensor: TensorId, values: Values<'_>) -> Result<()> {
        self.memory.upload(tensor, values);
        Ok(())
    }

    fn run(&mut self, routine: RoutineId, times: usize) -> Result<()> {
        let Self { program, memory, scratch, .. } = self;
        // Waking the thread pool once for all operations, not once for each, saves a few microseconds per operation.
        rayon::scope(|_| {
            for _ in 0..times {
                for ops in fused(&program.routines()[routine.0].ops, program) {
                    match ops {
                        [op] => execute(op, program, memory, scratch),
                        _ => execute_fused(ops, memory, scratch),
                    }
                }
            }
        });
        Ok(())
    }

    fn snapshot(&mut self, tensor: TensorId) -> Result<Snapshot> {
        let values = self.memory.floats(tensor).iter();
        let values = Some(values.map(|value| value.to_f64() as f32).collect());
        let free = self.snapshots.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.snapshots.push(None);
            self.snapshots.len() - 1
        });
        self.snapshots[index] = values;
        Ok(Snapshot(index))
    }

    fn collect(&mut self, snapshot: Snapshot) -> Result<Vec<f32>> {
        let values = self.snapshots[snapshot.0].take();
        Ok(values.expect("a snapshot belongs to this executor and is collected once"))
    }

    fn counters(&mut self, tensor: TensorId) -> Result<Vec<u32>> {
        Ok(self.memory.counters(tensor).to_vec())
    }
}

/// Groups the operations of a routine. Batch normalisation is fused with the activation after it, and the gradient of an activation
/// with the gradient of batch normalisation after it; all other operations stay alone. A fused group passes over memory once.
pub(crate) fn fused<'a>(mut ops: &'a [Op], program: &Program) -> Vec<&'a [Op]> {
    let mut groups = Vec::with_capacity(ops.len());
    while !ops.is_empty() {
        let pair = ops.get(..2).is_some_and(|pair| is_fused(pair, program));
        let (group, rest) = ops.split_at(if pair { 2 } else { 1 });
        groups.push(group);
        ops = rest;
    }
    groups
}

/// Whether two operations run as one: the second takes the result of the first, and their other operands share no buffer.
fn is_fused(pair: &[Op], program: &Program) -> bool {
    let passed = match *pair {
        [Op::BatchNorm { y, .. } | Op::BatchNormEval { y, .. }, Op::Activation { x, .. }] if x == y => y,
        [Op::ActivationGrad { dx, .. }, Op::BatchNormGrad { dy, .. }] if dx == dy => dy,
        _ => return false,
    };
    let buffer = |operand: &Operand| program.info(operand.tensor).buffer;
    let others: Vec<Operand> = pair.iter().flat_map(Op::operands).filter(|other| other.tensor != passed).collect();
    let users = |id: BufferId| others.iter().filter(|other| buffer(other) == id).count();
    let mut writes = others.iter().filter(|operand| operand.access != Access::Read).map(buffer);
    users(program.info(passed).buffer) == 0 && writes.all(|written| users(written) == 1)
}

/// Runs a group of two operations from [`fused`].
fn execute_fused<T: Scalar>(ops: &[Op], memory: &mut Memory<T>, scratch: &mut Scratch<T>) {
    match *ops {
        [Op::BatchNorm { x, affine, y, saved, running, eps, momentum, .. }, Op::Activation { kind, y: z, .. }] => {
            let constants = batch_norm::Constants { eps, momentum };
            memory.write([y, saved, running, z], |memory, [y, saved, running, z]| {
                let (x, affine) = (memory.floats(x), memory.floats(affine));
                batch_norm::forward(constants, x, affine, y, saved, running, Some((kind, z)), scratch);
            });
        }
        [Op::BatchNormEval { x, affine, running, y, eps }, Op::Activation { kind, y: z, .. }] => {
            memory.write([y, z], |memory, [y, z]| {
                let (x, affine, running) = (memory.floats(x), memory.floats(affine), memory.floats(running));
                batch_norm::eval(eps, x, affine, running, y, Some((kind, z)), scratch);
            });
        }
        [
            Op::ActivationGrad { kind, y: z, dy: dz, .. },
            Op::BatchNormGrad { x, dy, affine, saved, dx, daffine, .. },
        ] => {
            let mut gradients = |memory: &Memory<T>, dy: &mut [T], dx: &mut [T], daffine: Option<&mut [T]>| {
                let before = (kind, memory.floats(z), memory.floats(dz));
                let [x, affine, saved] = [x, affine, saved].map(|tensor| memory.floats(tensor));
                batch_norm::grad_after_activation(before, x, dy, affine, saved, dx, daffine, scratch);
            };
            match daffine {
                Some(d) => memory.write([dy, dx, d], |memory, [dy, dx, d]| gradients(memory, dy, dx, Some(d))),
                None => memory.write([dy, dx], |memory, [dy, dx]| gradients(memory, dy, dx, None)),
            }
        }
        _ => unreachable!("`fused` returns no other groups: {ops:?}"),
    }
}

/// Runs one operation.
#[expect(clippy::too_many_lines, reason = "a table with one entry for each operation")]
fn execute<T: Scalar>(op: &Op, program: &Program, memory: &mut Memory<T>, scratch: &mut Scratch<T>) {
    match *op {
        Op::Tick { clock } => clock::tick(memory.counter_mut(clock)),
        Op::Normal { clock, y, seed, stream, first } => {
            let step = memory.counter(clock);
            memory.write([y], |_, [y]| noise::normal(seed, stream, step, first, y));
        }
        Op::Batch { clock, images, y, seed, order, range } => {
            let step = memory.counter(clock);
            let n = program.shape(y)[0];
            memory.write([y], |memory, [y]| {
                batch::forward(seed, order, step, n, range, memory.bytes(images), y);
            });
        }
        Op::Augment { clock, x, y, seed, rotate, flip, quarter_turns, first } => {
            let (step, shape) = (memory.counter(clock), program.nhwc(x));
            let chances = augment::AugmentSettings { rotate, flip, quarter_turns };
            memory.write([y], |memory, [y]| augment::forward(seed, step, chances, first, shape, memory.floats(x), y));
        }
        Op::DiffAugment { clock, x, strength, y, seed, stream, changes, first } => {
            let (step, shape) = (memory.counter(clock), program.nhwc(x));
            let strength = strength.map_or(1.0, |strength| memory.floats(strength)[0].to_f64());
            let draws = diff_augment::Draws { changes, seed, stream, step, first, strength };
            memory.write([y], |memory, [y]| diff_augment::forward(draws, shape, memory.floats(x), y));
        }
        Op::DiffAugmentGrad { clock, dy, strength, dx, seed, stream, changes, first } => {
            let (step, shape) = (memory.counter(clock), program.nhwc(dy));
            let strength = strength.map_or(1.0, |strength| memory.floats(strength)[0].to_f64());
            let draws = diff_augment::Draws { changes, seed, stream, step, first, strength };
            memory.write([dx], |memory, [dx]| diff_augment::grad(draws, shape, memory.floats(dy), dx));
        }
        Op::AdaptAugment { clock, history, strength, target, rate, column } => {
            let step = memory.counter(clock);
            let [rows, columns] = program.shape(history) else { unreachable!("two dimensions") };
            let cell = (step - 1) as usize % rows * columns + column;
            memory.write([strength], |memory, [strength]| {
                diff_augment::adapt(memory.floats(history)[cell], target, rate, &mut strength[0]);
            });
        }
        Op::Labels { clock, labels, y, seed, order } => {
            let step = memory.counter(clock);
            memory.write_counters(y, |memory, y| labels::forward(seed, order, step, memory.bytes(labels), y));
        }
        Op::AppendClass { x, labels, y } => {
            let n = program.shape(x)[0];
            memory.write([y], |memory, [y]| class::append(n, memory.floats(x), memory.counters(labels), y));
        }
        Op::PickLogit { logits, labels, y } => {
            memory.write([y], |memory, [y]| class::pick(memory.floats(logits), memory.counters(labels), y));
        }
        Op::PickLogitGrad { dy, labels, dlogits } => {
            memory.write([dlogits], |memory, [dlogits]| {
                class::pick_grad(memory.floats(dy), memory.counters(labels), dlogits);
            });
        }
        Op::Concat { a, b, y } => {
            memory.write([y], |memory, [y]| {
                concat::forward(memory.floats(a), memory.floats(b), y);
            });
        }
        Op::Pack { x, y } => {
            let (single, m) = (program.nhwc(x), program.shape(x)[0] / program.shape(y)[0]);
            memory.write([y], |memory, [y]| pack::forward(single, m, memory.floats(x), y));
        }
        Op::PackGrad { dy, dx } => {
            let (single, m) = (program.nhwc(dx), program.shape(dx)[0] / program.shape(dy)[0]);
            memory.write([dx], |memory, [dx]| pack::grad(single, m, memory.floats(dy), dx));
        }
        Op::Conv { x, w, b, y, geometry } => {
            let sizes = conv::ConvSizes::new(program.nhwc(x), program.nhwc(y), geometry);
            memory.write([y], |memory, [y]| {
                let b = b.map(|b| memory.floats(b));
                conv::forward(sizes, memory.floats(x), memory.floats(w), b, y, scratch);
            });
        }
        Op::ConvGradInput { dy, w, b, dx, geometry } => {
            let sizes = conv::ConvSizes::new(program.nhwc(dx), program.nhwc(dy), geometry);
            memory.write([dx], |memory, [dx]| {
                let b = b.map(|b| memory.floats(b));
                conv::grad_input(sizes, memory.floats(dy), memory.floats(w), b, dx, scratch);
            });
        }
        Op::ConvGradWeight { x, dy, dw, geometry } => {
            let sizes = conv::ConvSizes::new(program.nhwc(x), program.nhwc(dy), geometry);
            memory.write([dw], |memory, [dw]| {
                conv::grad_weight(sizes, memory.floats(x), memory.floats(dy), dw, scratch);
            });
        }
        Op::SpectralNorm { w, uv, y, sigma } => {
            let columns = program.nhwc(w)[3];
            memory.write([uv, y, sigma], |memory, [uv, y, sigma]| {
                spectral_norm::forward(columns, memory.floats(w), uv, y, sigma);
            });
        }
        Op::SpectralNormGrad { y, uv, sigma, dw } => {
            let columns = program.nhwc(y)[3];
            memory.write([dw], |memory, [dw]| {
                spectral_norm::grad(columns, memory.floats(y), memory.floats(uv), memory.floats(sigma)[0], dw);
            });
        }
        Op::BiasGrad { dy, db } => {
            memory.write([db], |memory, [db]| bias::grad(memory.floats(dy), db, scratch));
        }
        Op::BatchNorm { x, affine, y, saved, running, eps, momentum, .. } => {
            let constants = batch_norm::Constants { eps, momentum };
            memory.write([y, saved, running], |memory, [y, saved, running]| {
                let (x, affine) = (memory.floats(x), memory.floats(affine));
                batch_norm::forward(constants, x, affine, y, saved, running, None, scratch);
            });
        }
        Op::BatchNormEval { x, affine, running, y, eps } => memory.write([y], |memory, [y]| {
            batch_norm::eval(eps, memory.floats(x), memory.floats(affine), memory.floats(running), y, None, scratch);
        }),
        Op::BatchNormGrad { x, dy, affine, saved, dx, daffine, .. } => {
            let mut gradients = |memory: &Memory<T>, dx: &mut [T], daffine: Option<&mut [T]>| {
                let (x, dy) = (memory.floats(x), memory.floats(dy));
                batch_norm::grad(x, dy, memory.floats(affine), memory.floats(saved), dx, daffine, scratch);
            };
            match daffine {
                Some(daffine) => memory.write([dx, daffine], |memory, [dx, d]| gradients(memory, dx, Some(d))),
                None => memory.write([dx], |memory, [dx]| gradients(memory, dx, None)),
            }
        }
        Op::Activation { kind, x, y } => {
            memory.write([y], |memory, [y]| activation::forward(kind, memory.floats(x), y));
        }
        Op::ActivationGrad { kind, y, dy, dx } => {
            memory.write([dx], |memory, [dx]| {
                activation::grad(kind, memory.floats(y), memory.floats(dy), dx);
            });
        }
        Op::Upsample { x, y } => {
            let (small, large) = (program.nhwc(x), program.nhwc(y));
            memory.write([y], |memory, [y]| upsample::forward(small, large, memory.floats(x), y));
        }
        Op::UpsampleGrad { dy, dx } => {
            let (small, large) = (program.nhwc(dx), program.nhwc(dy));
            memory.write([dx], |memory, [dx]| upsample::grad(small, large, memory.floats(dy), dx));
        }
        Op::MaxPool { x, y, size } => {
            let shape = program.nhwc(x);
            memory.write([y], |memory, [y]| max_pool::forward(shape, size, memory.floats(x), y));
        }
        Op::MaxPoolGrad { x, dy, dx, size } => {
            let shape = program.nhwc(x);
            memory.write([dx], |memory, [dx]| {
                max_pool::grad(shape, size, memory.floats(x), memory.floats(dy), dx);
            });
        }
        Op::MinibatchDeviation { x, y, group } => {
            let shape = program.nhwc(x);
            memory.write([y], |memory, [y]| minibatch_deviation::forward(shape, group, memory.floats(x), y));
        }
        Op::MinibatchDeviationGrad { x, dy, dx, group } => {
            let shape = program.nhwc(x);
            memory.write([dx], |memory, [dx]| {
                minibatch_deviation::grad(shape, group, memory.floats(x), memory.floats(dy), dx);
            });
        }
        Op::Dropout { clock, x, y, seed, stream, rate } => {
            let step = memory.counter(clock);
            memory.write([y], |memory, [y]| dropout::forward(seed, stream, step, rate, memory.floats(x), y));
        }
        Op::DiscriminatorLoss { clock, logits, dlogits, history, kind, smoothing, column } => {
            let step = memory.counter(clock);
            let columns = program.shape(history)[1];
            memory.write([dlogits, history], |memory, [dlogits, history]| {
                let cells = loss::cells(step, history, columns, column);
                loss::discriminator(kind, smoothing, memory.floats(logits), dlogits, cells);
            });
        }
        Op::GeneratorLoss { clock, logits, reals, dlogits, history, kind, column } => {
            let step = memory.counter(clock);
            let columns = program.shape(history)[1];
            memory.write([dlogits, history], |memory, [dlogits, history]| {
                let cells = loss::cells(step, history, columns, column);
                let reals = reals.map(|reals| memory.floats(reals));
                loss::generator(kind, memory.floats(logits), reals, dlogits, cells);
            });
        }
        Op::PenaltyDirection { g, t, centre, weight } => {
            let n = program.shape(g)[0];
            memory.write([t], |memory, [t]| penalty::direction(centre, weight, n, memory.floats(g), t));
        }
        Op::Fill { y, value } => memory.write([y], |_, [y]| fill::constant(value, y)),
        Op::Horner { a, y, degree } => memory.write([y], |memory, [y]| {
            let chunks = y.par_chunks_mut(CHUNK).zip(memory.floats(a).par_chunks(CHUNK));
            chunks.for_each(|(y, a)| T::horner(degree, a, y));
        }),
        Op::Accumulate { x, y } => memory.write([y], |memory, [y]| fill::accumulate(memory.floats(x), y)),
        Op::Mix { clock, a, b, y, seed, stream, first } => {
            let (step, n) = (memory.counter(clock), program.shape(y)[0]);
            memory.write([y], |memory, [y]| {
                let draw = |i: u32| crate::program::random::uniform_at(seed, stream, step, first + i);
                mix::forward(draw, n, memory.floats(a), memory.floats(b), y);
            });
        }
        Op::CrossEntropy { clock, logits, labels, dlogits, history, column } => {
            let step = memory.counter(clock);
            let columns = program.shape(history)[1];
            memory.write([dlogits, history], |memory, [dlogits, history]| {
                let cells = loss::cells(step, history, columns, column);
                cross_entropy::softmax(memory.floats(logits), memory.counters(labels), dlogits, cells);
            });
        }
        Op::Adam { clock, param, grad, m, v, lr, beta1, beta2, eps, schedule } => {
            let t = memory.counter(clock);
            let rates = adam::AdamSettings { lr: lr * schedule.at(t), beta1, beta2, eps };
            memory.write([param, m, v], |memory, [param, m, v]| {
                adam::update(rates, t, memory.floats(grad), param, m, v);
            });
        }
        Op::Ema { clock, param, ema, decay, ramp_up } => {
            let t = memory.counter(clock);
            memory.write([ema], |memory, [ema]| ema::update(decay, ramp_up, t, memory.floats(param), ema));
        }
    }
}
