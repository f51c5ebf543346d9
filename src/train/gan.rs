//! The program of a GAN: its tensors, and the routines that train it and draw images.

use crate::error::Result;
use crate::net::parameters::Layout;
use crate::net::{Model, Network};
use crate::program::{Element, Executor, Op, Order, Program, RoutineId, TensorId, Values};

use super::adversarial::{AdversarialStep, SEEN_REALS, WrittenStep, push_all};
use super::losses::{HISTORY_COLUMNS, HISTORY_ROWS};
use super::ranks::exchange;
use super::sampler::ImageRoutine;
use super::{Augment, Checkpoint, Communicator, Rank, SHEET_IMAGES, Settings, checkpoint};

/// A training step and the drawing of images, as routines of one program over the same parameters.
pub struct Gan {
    /// The program.
    pub program: Program,
    /// The routine of a training step. The host uploads, decides and allocates nothing between two steps.
    pub step: RoutineId,
    /// The step with gradient penalties that takes the place of [`Self::step`] at an interval; see [`Self::run`].
    pub penalised_step: Option<PenalisedStep>,
    /// Draws the 64 images of a sheet with the EMA of the generator's weights.
    pub sheet: ImageRoutine,
    /// u32 (1): the number of batches of real images that were shown. Random numbers are a function of it.
    pub clock: TensorId,
    /// u32 (1): the number of steps that were done; the same tensor as [`Self::clock`] where a step shows one batch.
    pub steps: TensorId,
    /// u8 (capacity, H, W, C): the images to train on, or a chunk of them; [`ChunkLoader`](super::ChunkLoader) fills it.
    pub data: TensorId,
    /// u8 (capacity): the classes of these images, of a conditional model; [`ChunkLoader`](super::ChunkLoader) fills it, too.
    pub labels: Option<TensorId>,
    /// (`HISTORY_ROWS`, `HISTORY_COLUMNS`): see [`Losses::of_step`](super::Losses::of_step).
    pub history: TensorId,
    /// The real images of the running step as the discriminator sees them, (N, H, W, C) in the model's range.
    pub reals: TensorId,
    /// Writes [`Self::reals`] as the step does whose number is on [`Self::clock`]; there is one where real images are augmented.
    pub augmented: Option<RoutineId>,
    /// The generated images of the current step, (N, H, W, C), in the range of the model.
    pub fakes: TensorId,
    /// The discriminator's logits of the step's real and then of its generated images, before the discriminator's last update.
    pub logits: TensorId,
    /// The discriminator's logits of the step's generated images in the update of the generator.
    pub fake_logits: TensorId,
    /// How strongly DiffAugment changes images, where it is adapted; shape (1).
    pub strength: Option<TensorId>,
    /// Where the update of the generator begins: the number of operations of [`Self::step`] before it.
    pub generator_update: usize,
    /// The generator.
    pub generator: Network,
    /// The generator with the EMA of its weights.
    pub ema: Network,
    /// The discriminator.
    pub discriminator: Network,
    /// The process that runs the program.
    rank: Rank,
    /// The parts of the step, and of the step with gradient penalties, of one of several ranks.
    parts: [Vec<StepPart>; 2],
}

/// A part of a step, and the tensors whose mean over all ranks the next part needs.
struct StepPart {
    /// The routine.
    routine: RoutineId,
    /// The tensors: the gradients of a network, and behind the last gradients the running statistics.
    averaged: Vec<TensorId>,
}

/// A step with a gradient penalty.
#[derive(Debug, Clone, Copy)]
pub struct PenalisedStep {
    /// One training step.
    pub step: RoutineId,
    /// Interval between such steps.
    pub every: u64,
}

impl Gan {
    /// The program that trains a model with these settings, with `capacity` images on the device: all of them, or whole
    /// batches of fewer. Each tensor has a buffer of its own.
    pub fn new(model: &Model, settings: &Settings, capacity: usize) -> Self {
        Self::write(model, settings, capacity, Rank::SINGLE, 1)
    }

    /// The program of one of several ranks, which computes its part of each batch; see [`Self::run_with`]. `capacity` is the number of
    /// this rank's images on its device, whole parts of batches. A program of one process is that of [`Self::new`].
    ///
    /// # Panics
    ///
    /// If the number of ranks does not divide the batch size.
    pub fn of_rank(model: &Model, settings: &Settings, capacity: usize, rank: Rank) -> Self {
        assert!(settings.batch_size.is_multiple_of(rank.count), "{rank:?} and a batch of {}", settings.batch_size);
        Self::write(model, settings, capacity, rank, 1)
    }

    /// The program of a process that trains or measures training: that of [`Self::of_rank`], with shared buffers
    /// ([`Self::sharing_buffers`]).
    ///
    /// # Panics
    ///
    /// If the number of ranks does not divide the batch size.
    pub fn for_training(model: &Model, settings: &Settings, capacity: usize, rank: Rank) -> Self {
        Self::of_rank(model, settings, capacity, rank).sharing_buffers()
    }

    /// The program of one process that computes what `groups` ranks compute: each of as many equal parts of a batch has batch statistics of
    /// its own. Running statistics are updated by each part in turn, while ranks take their mean.
    pub fn with_groups(model: &Model, settings: &Settings, capacity: usize, groups: usize) -> Self {
        Self::write(model, settings, capacity, Rank::SINGLE, groups)
    }

    fn write(model: &Model, settings: &Settings, capacity: usize, rank: Rank, groups: usize) -> Self {
        let mut program = Program::new();
        let clock = program.tensor_of(Element::U32, "clock", &[1]);
        let steps = if settings.d_steps > 1 { program.tensor_of(Element::U32, "steps", &[1]) } else { clock };
        let [h, w, c] = model.image;
        let data = program.tensor_of(Element::U8, "data", &[capacity, h, w, c]);
        let history = program.tensor("history", &[HISTORY_ROWS, HISTORY_COLUMNS]);
        let batch_size = rank.images_of(settings.batch_size);
        let [labels, classes] = classes(&mut program, model, batch_size, capacity);
        let generator = Network::generator(&mut program, model).with_labels(classes);
        let ema = generator.ema(&mut program);
        let discriminator = Network::discriminator(&mut program, model).with_labels(classes);
        let order = if rank.is_single() { order(capacity, settings) } else { Order::Chunk };
        let first = (rank.index * batch_size) as u32;
        let strength = settings.adapts_augment().then(|| program.tensor("augment.strength", &[1]));
        let source = RealImages { clock, data, order, batch_size, first, strength };
        let (reals, take_reals) = reals(&mut program, model, settings, source);

        let step = program.begin("step");
        let take_classes = labels.zip(classes).map(|(labels, y)| {
            let seed = settings.seed;
            Op::Labels { clock, labels, y, seed, order }
        });
        let draft = AdversarialStep {
            model,
            settings,
            clock,
            steps,
            reals,
            take_reals: &take_reals,
            strength,
            take_classes,
            history,
            rank,
            groups,
        };
        let WrittenStep { fakes, judged, logits, fake_logits, d_updates } =
            draft.write(&mut program, &generator, &ema, &discriminator);
        let penalty = settings.objective.penalty;
        let penalised_step = penalty.is_on().then(|| {
            let ops = program.routine(step).ops.clone();
            let penalised = program.begin("penalised step");
            let mut added = Vec::new();
            for (number, op) in ops.into_iter().enumerate() {
                if d_updates.contains(&number) {
                    if added.is_empty() {
                        draft.penalise(&mut program, &discriminator, judged, penalty);
                        added = program.routine(penalised).ops[number..].to_vec();
                    } else {
                        push_all(&mut program, &added);
                    }
                }
                program.push(op);
            }
            PenalisedStep { step: penalised, every: penalty.every.into() }
        });

        let sheet = ImageRoutine::add(&mut program, &ema, model, "sheet", SHEET_IMAGES);

        let augmented = (take_reals.len() > 1).then(|| {
            let augmented = program.begin("augmented");
            for op in take_reals {
                program.push(op);
            }
            augmented
        });

        let averaged: Vec<TensorId> =
            [generator.running(), discriminator.running()].into_iter().chain(strength).collect();
        let parts = [Some(step), penalised_step.map(|penalised| penalised.step)].map(|step| match step {
            Some(step) if !rank.is_single() => step_parts(&mut program, step, &averaged),
            _ => Vec::new(),
        });

        Self {
            program,
            step,
            penalised_step,
            sheet,
            clock,
            steps,
            data,
            labels,
            history,
            reals,
            augmented,
            fakes,
            logits,
            fake_logits,
            strength,
            generator_update: d_updates.last().map_or(0, |update| update + 1),
            generator,
            ema,
            discriminator,
            rank,
            parts,
        }
    }

    /// The same program with less memory: activations and gradients that no routine needs at the same time share buffers
    /// ([`Program::share_buffers`]). The state of the run and the tensors that the fields of this type name keep their values after a step.
    #[must_use]
    pub fn sharing_buffers(mut self) -> Self {
        let Self { history, reals, fakes, logits, fake_logits, .. } = self;
        self.program.share_buffers(&[history, reals, fakes, logits, fake_logits, self.sheet.images]);
        self
    }

    /// Runs `steps` steps, after `done` steps.
    pub fn run(&self, executor: &mut dyn Executor, done: u64, steps: u64) -> Result<()> {
        let Some(PenalisedStep { step, every }) = self.penalised_step else {
            return executor.run(self.step, steps as usize);
        };
        let end = done + steps;
        let mut done = done;
        while done < end {
            let due = (done / every + 1) * every; // the number of the next step with a penalty
            let plain = (due - 1).min(end) - done;
            if plain > 0 {
                executor.run(self.step, plain as usize)?;
            }
            if due <= end {
                executor.run(step, 1)?;
            }
            done = due.min(end);
        }
        Ok(())
    }

    /// Runs `steps` steps, after `done` steps, as the rank of the communicator. All ranks call it with the same numbers.
    ///
    /// # Errors
    ///
    /// Those of [`Self::run`], and if another rank does not answer.
    pub fn run_with(
        &self,
        executor: &mut dyn Executor,
        communicator: &dyn Communicator,
        done: u64,
        steps: u64,
    ) -> Result<()> {
        if self.rank.is_single() {
            return self.run(executor, done, steps);
        }
        for step in done + 1..=done + steps {
            let is_penalised = self.penalised_step.is_some_and(|penalised| step.is_multiple_of(penalised.every));
            for StepPart { routine, averaged } in &self.parts[usize::from(is_penalised)] {
                executor.run(*routine, 1)?;
                if !averaged.is_empty() {
                    exchange(communicator, executor, averaged)?;
                }
            }
        }
        Ok(())
    }

    /// Puts a checkpoint into the program's tensors.
    pub fn load(&self, executor: &mut dyn Executor, checkpoint: &Checkpoint) -> Result<()> {
        for (prefix, tensor, layout) in self.state() {
            executor.upload(tensor, Values::F32(&checkpoint.buffer(prefix, layout)?))?;
        }
        if let Some((tensor, strength)) = self.strength.zip(checkpoint.augment_strength()) {
            executor.upload(tensor, Values::F32(&[strength]))?;
        }
        let Checkpoint { step, ref settings, .. } = *checkpoint;
        executor.upload(self.steps, Values::U32(&[step as u32]))?;
        executor.upload(self.clock, Values::U32(&[step as u32 * settings.d_steps]))
    }

    /// Takes a checkpoint out of the program's tensors, after `step` steps.
    pub fn save(
        &self,
        executor: &mut dyn Executor,
        model: &Model,
        settings: &Settings,
        step: u64,
    ) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::empty(model, settings, step);
        for (prefix, tensor, layout) in self.state() {
            checkpoint.put(prefix, layout.unpack(&executor.download(tensor)?));
        }
        if let Some(strength) = self.augment_strength(executor)? {
            checkpoint.put_augment_strength(strength);
        }
        Ok(checkpoint)
    }

    /// How strongly DiffAugment changes images, where it is adapted.
    pub fn augment_strength(&self, executor: &mut dyn Executor) -> Result<Option<f32>> {
        self.strength.map(|tensor| Ok(executor.download(tensor)?[0])).transpose()
    }

    /// The state that a step changes and the next step needs, except for the clock and the strength of augmentation: the prefix of the names
    /// in a checkpoint, the buffer, and its layout.
    fn state(&self) -> [(&'static str, TensorId, &Layout); 9] {
        let (g, d) = (&self.generator, &self.discriminator);
        [
            ("", g.params(), g.params_layout()),
            ("", g.running(), g.running_layout()),
            ("", d.params(), d.params_layout()),
            ("", d.running(), d.running_layout()),
            (checkpoint::EMA, self.ema.params(), g.params_layout()),
            (checkpoint::ADAM_M, g.m(), g.params_layout()),
            (checkpoint::ADAM_V, g.v(), g.params_layout()),
            (checkpoint::ADAM_M, d.m(), d.params_layout()),
            (checkpoint::ADAM_V, d.v(), d.params_layout()),
        ]
    }
}

/// The tensors of classes of a conditional model: for the `capacity` images on the device, and for the images of a step.
///
/// The generated images of a step have the same classes as its real images, at the same positions. So their classes are equally frequent,
/// and pairs of a real and a generated image (relativistic loss), and points between them (gradient penalty), have one class.
fn classes(program: &mut Program, model: &Model, batch_size: usize, capacity: usize) -> [Option<TensorId>; 2] {
    let mut tensor = |element, name, len| model.classes.map(|_| program.tensor_of(element, name, &[len]));
    [tensor(Element::U8, "labels", capacity), tensor(Element::U32, "classes", batch_size)]
}

/// The order of the images in their tensor, which holds `capacity` images.
fn order(capacity: usize, settings: &Settings) -> Order {
    if capacity < settings.images { Order::Chunk } else { Order::Shuffled }
}

/// Cuts a step before each update by Adam, and names the tensors whose mean over all ranks the update needs. The last update also takes the
/// `others` along, such as running statistics, which the step has changed by then.
fn step_parts(program: &mut Program, step: RoutineId, others: &[TensorId]) -> Vec<StepPart> {
    let adam = |op: &Op| if let Op::Adam { grad, .. } = op { Some(*grad) } else { None };
    let gradients: Vec<TensorId> = program.routine(step).ops.iter().filter_map(adam).collect();
    let routines = program.cut(step, |op| adam(op).is_some());
    let last = gradients.len() - 1;
    let averaged = gradients.into_iter().enumerate().map(|(update, gradient)| {
        let others = if update == last { others } else { &[] };
        [&[gradient], others].concat()
    });
    let averaged = averaged.chain([Vec::new()]);
    routines.into_iter().zip(averaged).map(|(routine, averaged)| StepPart { routine, averaged }).collect()
}

/// Where real images come from.
#[derive(Clone, Copy)]
struct RealImages {
    /// The number of batches of real images that were shown.
    clock: TensorId,
    /// The images on the device.
    data: TensorId,
    /// The order of the images in their tensor.
    order: Order,
    /// The number of images of a batch that this process computes.
    batch_size: usize,
    /// The number, in the batch, of the first of them.
    first: u32,
    /// How strongly DiffAugment changes images, where it is adapted.
    strength: Option<TensorId>,
}

/// The tensor of the images that the discriminator sees as real, and the operations that write it.
fn reals(program: &mut Program, model: &Model, settings: &Settings, source: RealImages) -> (TensorId, Vec<Op>) {
    let RealImages { clock, data, order, batch_size, first, strength } = source;
    let [h, w, c] = model.image;
    let shape = [batch_size, h, w, c];
    let seed = settings.seed;
    let reals = program.tensor("reals", &shape);
    // The operations are collected from the last one, which writes `reals`, to the first one.
    let (mut y, mut ops) = (reals, Vec::new());
    if settings.diff_augment.is_on() {
        let x = program.tensor("unaugmented", &shape);
        let changes = settings.diff_augment;
        ops.push(Op::DiffAugment { clock, x, strength, y, seed, stream: SEEN_REALS, changes, first });
        y = x;
    }
    if settings.augment.is_on() {
        let x = program.tensor("originals", &shape);
        let Augment { rotate, flip, quarter_turns } = settings.augment;
        ops.push(Op::Augment { clock, x, y, seed, rotate, flip, quarter_turns, first });
        y = x;
    }
    ops.push(Op::Batch { clock, images: data, y, seed, order, range: model.range() });
    ops.reverse();
    (reals, ops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuDevice;
    use crate::program::{Buffer, Device, DiffAugment};

    /// With gradient penalties, two updates of the discriminator, classes or none, and augmentation.
    #[test]
    fn sharing_buffers_changes_no_bit_of_a_run() {
        const IMAGES: usize = 24;
        let device = CpuDevice::<f32>::new();
        for (name, d_steps) in [("dcgan-fast", 1), ("dcgan-fast", 2), ("dcgan-small", 1), ("gan-mlp", 1)] {
            let model = Model::named(name).unwrap();
            let mut settings = Settings::bare(&model, IMAGES, 4);
            (settings.diff_augment, settings.d_steps) = (DiffAugment::ALL, d_steps);
            let after_steps = |gan: Gan| {
                let mut executor = device.build(&gan.program).unwrap();
                let executor = executor.as_mut();
                gan.load(executor, &Checkpoint::initial(&model, &settings)).unwrap();
                let images: Vec<u8> = (0..IMAGES * 28 * 28).map(|i| (i * i % 251) as u8).collect();
                executor.upload(gan.data, Values::U8(&images)).unwrap();
                let latents = vec![0.5; gan.program.info(gan.sheet.latents).len()];
                executor.upload(gan.sheet.latents, Values::F32(&latents)).unwrap();
                gan.run(executor, 0, 3).unwrap();
                executor.run(gan.sheet.routine, 1).unwrap();
                gan.run(executor, 3, 2).unwrap();
                let kept = [gan.history, gan.reals, gan.fakes, gan.logits, gan.fake_logits, gan.sheet.images];
                let kept = kept.map(|tensor| executor.download(tensor).unwrap());
                (gan.save(executor, &model, &settings, 5).unwrap(), kept)
            };
            let gan = || Gan::new(&model, &settings, IMAGES);
            assert!(after_steps(gan()) == after_steps(gan().sharing_buffers()), "{name}, {d_steps} updates");
        }
    }

    /// `docs/performance.md` has these numbers.
    #[test]
    fn sharing_buffers_saves_memory() {
        let mebibytes = |gan: Gan| {
            let floats = gan.program.buffers().iter().filter(|buffer| buffer.element == Element::F32);
            floats.map(Buffer::bytes).sum::<u64>() >> 20
        };
        let sizes = ["dcgan-small", "dcgan-fast", "dcgan-r1", "dcgan-64"].map(|name| {
            let model = Model::named(name).unwrap();
            let gan = || Gan::new(&model, &Settings::bare(&model, 1000, model.training.batch_size), 1000);
            [mebibytes(gan()), mebibytes(gan().sharing_buffers())]
        });
        assert_eq!(sizes, [[114, 57], [107, 40], [183, 78], [1496, 625]]);
    }

    #[test]
    fn the_adapted_strength_of_augmentation_is_a_part_of_the_state_that_is_saved_and_loaded() {
        const IMAGES: usize = 12;
        const BATCH: usize = 6;
        let model = Model::named("dcgan-fast").unwrap();
        let mut settings = Settings::bare(&model, IMAGES, BATCH);
        (settings.diff_augment, settings.adaptive_augment) = (DiffAugment::ALL, true);
        let gan = Gan::new(&model, &settings, IMAGES);
        let device = CpuDevice::<f32>::new();
        let after_a_step = |strength: f32| {
            let mut state = Checkpoint::initial(&model, &settings);
            assert_eq!(state.augment_strength(), Some(0.0));
            state.put_augment_strength(strength);
            let mut executor = device.build(&gan.program).unwrap();
            gan.load(executor.as_mut(), &state).unwrap();
            let images: Vec<u8> = (0..IMAGES * 28 * 28).map(|i| (i * i % 251) as u8).collect();
            executor.upload(gan.data, Values::U8(&images)).unwrap();
            gan.run(executor.as_mut(), 0, 1).unwrap();
            let saved = gan.save(executor.as_mut(), &model, &settings, 1).unwrap();
            (saved.augment_strength().unwrap(), executor.download(gan.reals).unwrap())
        };
        let [none, half, all] = [0.0, 0.5, 1.0].map(after_a_step);
        assert!((half.0 - 0.5).abs() > 1e-5 && (half.0 - 0.5).abs() < 1e-3, "{}", half.0);
        assert!(none.1 != half.1 && half.1 != all.1 && none.1 != all.1);
    }
}
