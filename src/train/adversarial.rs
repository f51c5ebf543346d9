//! One adversarial step, as a program: the discriminator learns to tell real images from fakes, then the generator
//! learns to fool the discriminator it now faces (Goodfellow et al. 2014, algorithm 1).

use crate::error::Result;
use crate::net::parameters::Layout;
use crate::net::{DropoutRng, Mode, Model, Network, Wrt};
use crate::program::random::stream;
use crate::program::{AdversarialLoss, Centre, Element, Executor, Op, Order, Program, RoutineId, TensorId, Values};
use crate::recipe::{Adam, Penalty};

use super::{Augment, Checkpoint, Settings, checkpoint};

/// Steps whose losses a device remembers before it writes over them.
pub const HISTORY_ROWS: usize = 256;
/// Places of a sheet: images of the seeds 0 to 63; of a conditional run up to so many, a column for each class.
pub const SHEET_IMAGES: usize = 64;

/// What [`Op::DiscriminatorLoss`] writes (six means), then [`Op::GeneratorLoss`] (three).
const HISTORY_COLUMNS: usize = 9;
const D_COLUMN: usize = 0;
const G_COLUMN: usize = 6;

/// Real images, fakes while the discriminator learns, and the same fakes while the generator does, are changed independently.
const SEEN_REALS: u32 = stream::DIFF_AUGMENT;
const SEEN_FAKES: u32 = stream::DIFF_AUGMENT + 1;
const SEEN_FAKES_ANEW: u32 = stream::DIFF_AUGMENT + 2;

/// A training step and a sheet of images, as routines of one program over the same parameters.
pub struct Gan {
    /// The program.
    pub program: Program,
    /// Trains once. Nothing is uploaded, decided or allocated between two runs of it.
    pub step: RoutineId,
    /// The step in whose place it is done now and then, with the discriminator's penalty; see [`Self::run`].
    pub penalised_step: Option<PenalisedStep>,
    /// Draws [`Self::sheet_images`] from [`Self::sheet_latents`] with the averaged parameters.
    pub sheet: RoutineId,
    /// u32 (1): how many batches of real images were shown. Random numbers are drawn by it.
    pub clock: TensorId,
    /// u32 (1): how many steps were done; the same as [`Self::clock`] where a step shows one batch.
    pub steps: TensorId,
    /// u8 (capacity, H, W, C): the images to learn from, or a window of them; [`Supply`](super::Supply) fills it.
    pub data: TensorId,
    /// u8 (capacity): the classes of these images, where the model is told them; [`Supply`](super::Supply) fills it, too.
    pub labels: Option<TensorId>,
    /// (`HISTORY_ROWS`, `HISTORY_COLUMNS`): see [`Losses::of_step`].
    pub history: TensorId,
    /// (64, 1, 1, latent).
    pub sheet_latents: TensorId,
    /// u32 (64): the classes of these images, where the model is told them.
    pub sheet_classes: Option<TensorId>,
    /// (64, H, W, C) in the model's range.
    pub sheet_images: TensorId,
    /// The real images of the running step as the discriminator sees them, (N, H, W, C) in the model's range.
    pub reals: TensorId,
    /// Writes [`Self::reals`] as the step does whose number is on [`Self::clock`]. Only where they are not as they were taken.
    pub augmented: Option<RoutineId>,
    /// The images that the running step's generator made, (N, H, W, C) in the model's range.
    pub fakes: TensorId,
    /// The network that makes images.
    pub generator: Network,
    /// The same with the moving average of its parameters.
    pub average: Network,
    /// The network that judges them.
    pub discriminator: Network,
}

/// A step with a gradient penalty.
#[derive(Debug, Clone, Copy)]
pub struct PenalisedStep {
    /// Trains once.
    pub step: RoutineId,
    /// Every so many-th step is one of these.
    pub every: u64,
}

impl Gan {
    /// The program that trains a model with these settings, with `capacity` images on the device: all of them, or whole
    /// batches of fewer.
    pub fn new(model: &Model, settings: &Settings, capacity: usize) -> Self {
        let mut program = Program::new();
        let clock = program.tensor_of(Element::U32, "clock", &[1]);
        let steps = if settings.d_steps > 1 { program.tensor_of(Element::U32, "steps", &[1]) } else { clock };
        let [h, w, c] = model.image;
        let data = program.tensor_of(Element::U8, "data", &[capacity, h, w, c]);
        let history = program.tensor("history", &[HISTORY_ROWS, HISTORY_COLUMNS]);
        let [labels, classes, sheet_classes] = classes(&mut program, model, settings.batch_size, capacity);
        let generator = Network::generator(&mut program, model).with_labels(classes);
        let average = generator.ema(&mut program).with_labels(sheet_classes);
        let discriminator = Network::discriminator(&mut program, model).with_labels(classes);
        let (reals, take_reals) = reals(&mut program, model, settings, clock, data);

        let step = program.begin("step");
        let take_classes = labels.zip(classes).map(|(labels, y)| {
            let (seed, order) = (settings.seed, order(capacity, settings));
            Op::Labels { clock, labels, y, seed, order }
        });
        let draft = Step { model, settings, clock, steps, reals, take_reals: &take_reals, take_classes, history };
        let Written { fakes, judged, discriminator_learns } =
            draft.write(&mut program, &generator, &average, &discriminator);
        let penalty = settings.objective.penalty;
        let penalised_step = penalty.is_on().then(|| {
            let ops = program.routine(step).ops.clone();
            let penalised = program.begin("penalised step");
            let mut added = Vec::new();
            for (number, op) in ops.into_iter().enumerate() {
                if discriminator_learns.contains(&number) {
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

        let sheet = program.begin("sheet");
        let sheet_latents = program.tensor("sheet.latents", &[SHEET_IMAGES, 1, 1, model.latent]);
        let sheet_images = average.forward(&mut program, sheet_latents, Mode::Evaluate, "sheet").y;

        let augmented = (take_reals.len() > 1).then(|| {
            let augmented = program.begin("augmented");
            for op in take_reals {
                program.push(op);
            }
            augmented
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
            sheet_latents,
            sheet_classes,
            sheet_images,
            reals,
            augmented,
            fakes,
            generator,
            average,
            discriminator,
        }
    }

    /// Runs so many steps, after `done` of them.
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

    /// Puts a checkpoint into the program's tensors.
    pub fn load(&self, executor: &mut dyn Executor, checkpoint: &Checkpoint) -> Result<()> {
        for (prefix, tensor, layout) in self.state() {
            executor.upload(tensor, Values::F32(&checkpoint.buffer(prefix, layout)?))?;
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
        Ok(checkpoint)
    }

    /// Everything that a step changes and the next one needs, but the clock: what its names in a checkpoint begin with,
    /// the buffer, and what lies where in it.
    fn state(&self) -> [(&'static str, TensorId, &Layout); 9] {
        let (g, d) = (&self.generator, &self.discriminator);
        [
            ("", g.params(), g.params_layout()),
            ("", g.running(), g.running_layout()),
            ("", d.params(), d.params_layout()),
            ("", d.running(), d.running_layout()),
            (checkpoint::EMA, self.average.params(), g.params_layout()),
            (checkpoint::ADAM_M, g.m(), g.params_layout()),
            (checkpoint::ADAM_V, g.v(), g.params_layout()),
            (checkpoint::ADAM_M, d.m(), d.params_layout()),
            (checkpoint::ADAM_V, d.v(), d.params_layout()),
        ]
    }
}

/// What came of writing a step.
struct Written {
    /// The tensor of its fakes.
    fakes: TensorId,
    /// Reals and fakes as the discriminator takes them.
    judged: [TensorId; 2],
    /// The numbers of the operations before which a penalty's gradients belong.
    discriminator_learns: Vec<usize>,
}

/// What a step is written from.
struct Step<'a> {
    model: &'a Model,
    settings: &'a Settings,
    clock: TensorId,
    steps: TensorId,
    reals: TensorId,
    take_reals: &'a [Op],
    take_classes: Option<Op>,
    history: TensorId,
}

/// Where a conditional model's classes lie: those of the data set's images, of which `capacity` lie on the device; those of the
/// step's images; those of a sheet. Fakes are of the same classes as the step's real images, place by place. So they are as
/// frequent as the real ones, pairs of both are of one class, and so is all that lies between them.
fn classes(program: &mut Program, model: &Model, batch_size: usize, capacity: usize) -> [Option<TensorId>; 3] {
    let mut tensor = |element, name, len| model.classes.map(|_| program.tensor_of(element, name, &[len]));
    [
        tensor(Element::U8, "labels", capacity),
        tensor(Element::U32, "classes", batch_size),
        tensor(Element::U32, "sheet.classes", SHEET_IMAGES),
    ]
}

/// How the images lie in their tensor, which has room for `capacity` of them.
fn order(capacity: usize, settings: &Settings) -> Order {
    if capacity < settings.images { Order::Chunk } else { Order::Shuffled }
}

/// The tensor of the images that the discriminator sees as real, and the operations that write it.
fn reals(
    program: &mut Program,
    model: &Model,
    settings: &Settings,
    clock: TensorId,
    data: TensorId,
) -> (TensorId, Vec<Op>) {
    let [h, w, c] = model.image;
    let shape = [settings.batch_size, h, w, c];
    let seed = settings.seed;
    let order = order(program.shape(data)[0], settings);
    let reals = program.tensor("reals", &shape);
    // From what is done last, which writes the images that are seen, to what is done first.
    let (mut y, mut ops) = (reals, Vec::new());
    if settings.diff_augment.is_on() {
        let x = program.tensor("undisturbed", &shape);
        ops.push(Op::DiffAugment { clock, x, y, seed, stream: SEEN_REALS, changes: settings.diff_augment });
        y = x;
    }
    if settings.augment.is_on() {
        let x = program.tensor("originals", &shape);
        let Augment { rotate, flip, quarter_turns } = settings.augment;
        ops.push(Op::Augment { clock, x, y, seed, rotate, flip, quarter_turns });
        y = x;
    }
    ops.push(Op::Batch { clock, images: data, y, seed, order, range: model.range() });
    ops.reverse();
    (reals, ops)
}

impl Step<'_> {
    /// Appends the step to the routine begun last.
    fn write(&self, program: &mut Program, g: &Network, average: &Network, d: &Network) -> Written {
        let (clock, seed, n) = (self.clock, self.settings.seed, self.settings.batch_size);
        let [h, w, c] = self.model.discriminator_input();
        let latents = program.tensor("latents", &[n, 1, 1, self.model.latent]);
        let both = program.tensor("both", &[2 * (n / self.model.pac), h, w, c]);

        if self.steps != clock {
            program.push(Op::Tick { clock: self.steps });
        }
        let first = ops_so_far(program);
        program.push(Op::Tick { clock });
        if let Some(take_classes) = &self.take_classes {
            program.push(take_classes.clone());
        }
        program.push(Op::Normal { clock, y: latents, seed, stream: stream::LATENTS });
        let fakes = g.forward(program, latents, self.training(1), "fakes"); // G(z), for both halves
        for op in self.take_reals {
            program.push(op.clone());
        }

        // Discriminator: tell reals from fakes, which are one batch of two groups.
        let seen = self.seen(program, fakes.y, SEEN_FAKES);
        let judged = [(self.reals, "reals"), (seen, "fakes")].map(|(images, name)| self.packed(program, images, name));
        program.push(Op::Concat { a: judged[0], b: judged[1], y: both });
        d.normalise(program);
        let verdict = d.forward(program, both, self.training(2), "both");
        let dlogits = self.discriminator_loss(program, verdict.y);
        d.backward(program, &verdict, dlogits, Wrt::Params);
        let mut discriminator_learns = vec![ops_so_far(program)];
        self.adam(program, d, (clock, self.settings.d_steps), self.settings.rates.discriminator);
        // As often as is wanted, on the same tensors: the clock has moved on, so latents and reals are others.
        let half = program.routines().last().expect("it was begun").ops[first..].to_vec();
        for _ in 1..self.settings.d_steps {
            push_all(program, &half);
            discriminator_learns.push(ops_so_far(program) - 1);
        }

        // Generator: fool the discriminator as it is now, with the fakes that it saw last.
        d.normalise(program);
        let seen_anew = self.seen(program, fakes.y, SEEN_FAKES_ANEW);
        let fooling = if seen_anew == fakes.y { judged[1] } else { self.packed(program, seen_anew, "fakes anew") };
        let verdict = d.forward(program, fooling, self.training(1), "fakes");
        let reals = (self.settings.objective.loss == AdversarialLoss::Relativistic)
            .then(|| d.forward(program, judged[0], self.training(1), "reals").y);
        let dlogits = self.generator_loss(program, verdict.y, reals);
        let dfooling = d.backward(program, &verdict, dlogits, Wrt::Input).expect("asked for");
        let dseen = if self.model.pac == 1 { dfooling } else { unpacked(program, dfooling, fakes.y) };
        let dfakes = self.gradient_of_what_is_seen(program, dseen);
        g.backward(program, &fakes, dfakes, Wrt::Params);
        self.adam(program, g, (self.steps, 1), None);
        program.push(Op::Ema {
            clock: self.steps,
            param: g.params(),
            ema: average.params(),
            decay: self.settings.ema.decay(self.settings.images_per_step()),
            ramp_up: self.settings.ema.ramp_up(),
        });
        Written { fakes: fakes.y, judged, discriminator_learns }
    }

    /// Fakes as the discriminator sees them.
    fn seen(&self, program: &mut Program, fakes: TensorId, stream: u32) -> TensorId {
        let changes = self.settings.diff_augment;
        if !changes.is_on() {
            return fakes;
        }
        let shape = program.shape(fakes).to_vec();
        let name = if stream == SEEN_FAKES { "fakes.seen" } else { "fakes.seen anew" };
        let y = program.tensor(name, &shape);
        program.push(Op::DiffAugment { clock: self.clock, x: fakes, y, seed: self.settings.seed, stream, changes });
        y
    }

    /// The gradient for fakes, of that for what the discriminator saw of them in the generator's turn.
    fn gradient_of_what_is_seen(&self, program: &mut Program, dy: TensorId) -> TensorId {
        let changes = self.settings.diff_augment;
        if !changes.is_on() {
            return dy;
        }
        let shape = program.shape(dy).to_vec();
        let dx = program.tensor("fakes.unseen.grad", &shape);
        let (clock, seed) = (self.clock, self.settings.seed);
        program.push(Op::DiffAugmentGrad { clock, dy, dx, seed, stream: SEEN_FAKES_ANEW, changes });
        dx
    }

    /// Adds what the discriminator's gradient for images, as it sees them, costs to the gradients of its weights, as many times
    /// over as it is due seldom. The changes of DiffAugment are no part of the discriminator, nor of this gradient.
    fn penalise(&self, program: &mut Program, d: &Network, [reals, fakes]: [TensorId; 2], penalty: Penalty) {
        let Penalty { r1, r2, gp, every } = penalty;
        let add = |program: &mut Program, images: TensorId, label: &str, centre: Centre, weight: f64| {
            let tape = d.forward(program, images, self.training(1), label);
            d.penalise(program, &tape, centre, f64::from(every) * weight);
        };
        if r1 > 0.0 {
            add(program, reals, "r1", Centre::Zero, r1);
        }
        if r2 > 0.0 {
            add(program, fakes, "r2", Centre::Zero, r2);
        }
        if gp > 0.0 {
            let shape = program.shape(fakes).to_vec();
            let mixed = program.tensor("mixed", &shape);
            let (clock, seed) = (self.clock, self.settings.seed);
            program.push(Op::Mix { clock, a: reals, b: fakes, y: mixed, seed, stream: stream::MIX });
            add(program, mixed, "gp", Centre::One, gp);
        }
    }

    /// Images as the discriminator takes them: as they are, or several side by side.
    fn packed(&self, program: &mut Program, images: TensorId, name: &str) -> TensorId {
        let (n, [h, w, c]) = (program.shape(images)[0], self.model.discriminator_input());
        if self.model.pac == 1 {
            return images;
        }
        let packs = program.tensor(format!("{name}.packed"), &[n / self.model.pac, h, w, c]);
        program.push(Op::Pack { x: images, y: packs });
        packs
    }

    fn training(&self, groups: usize) -> Mode {
        Mode::Train { groups, rng: DropoutRng { clock: self.clock, seed: self.settings.seed } }
    }

    /// Appends the discriminator's loss on reals, then fakes; returns its gradient for the logits.
    fn discriminator_loss(&self, program: &mut Program, logits: TensorId) -> TensorId {
        let dlogits = gradient_of(program, logits);
        program.push(Op::DiscriminatorLoss {
            clock: self.steps,
            logits,
            dlogits,
            history: self.history,
            kind: self.settings.objective.loss,
            smoothing: self.settings.objective.label_smoothing,
            column: D_COLUMN,
        });
        dlogits
    }

    /// Appends the generator's loss on its fakes; returns its gradient for the logits.
    fn generator_loss(&self, program: &mut Program, logits: TensorId, reals: Option<TensorId>) -> TensorId {
        let dlogits = gradient_of(program, logits);
        program.push(Op::GeneratorLoss {
            clock: self.steps,
            logits,
            reals,
            dlogits,
            history: self.history,
            kind: self.settings.objective.loss,
            column: G_COLUMN,
        });
        dlogits
    }

    /// At a learning rate of its own, if it has one. The clock counts its updates, of which a step has so many.
    fn adam(&self, program: &mut Program, network: &Network, (clock, updates): (TensorId, u32), own_rate: Option<f64>) {
        let Adam { lr, beta1, beta2, eps } = self.settings.adam;
        program.push(Op::Adam {
            clock,
            param: network.params(),
            grad: network.grads(),
            m: network.m(),
            v: network.v(),
            lr: own_rate.unwrap_or(lr),
            beta1,
            beta2,
            eps,
            schedule: self.settings.rates.schedule(self.settings.steps, updates),
        });
    }
}

/// The gradient for images, from that for packs of them.
fn unpacked(program: &mut Program, dy: TensorId, images: TensorId) -> TensorId {
    let shape = program.shape(images).to_vec();
    let dx = program.tensor("fakes.unpacked.grad", &shape);
    program.push(Op::PackGrad { dy, dx });
    dx
}

fn gradient_of(program: &mut Program, logits: TensorId) -> TensorId {
    let shape = program.shape(logits).to_vec();
    program.tensor(format!("{}.grad", program.info(logits).name), &shape)
}

/// How many operations the routine begun last has.
fn ops_so_far(program: &Program) -> usize {
    program.routines().last().map_or(0, |routine| routine.ops.len())
}

fn push_all(program: &mut Program, ops: &[Op]) {
    for op in ops {
        program.push(op.clone());
    }
}

/// What a step measured of itself; each a mean over its batch, or the last of its batches where it has several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// The discriminator's loss on real images, in nats.
    pub d_loss_real: f32,
    /// The discriminator's loss on fakes, in nats.
    pub d_loss_fake: f32,
    /// The generator's loss, in nats.
    pub g_loss: f32,
    /// D(x): how real the discriminator finds real images, 0 to 1.
    pub d_real: f32,
    /// D(G(z)): how real it finds fakes, 0 to 1, before its update.
    pub d_fake: f32,
    /// The share of images that it judges as they are, reals and fakes counted equally.
    pub d_accuracy: f32,
    /// D(G(z)) after its update.
    pub d_fake_for_g: f32,
}

impl Losses {
    /// The losses of a step, counted from 1, from the values of [`Gan::history`].
    pub fn of_step(history: &[f32], step: u64) -> Self {
        let row = (step - 1) as usize % HISTORY_ROWS;
        let row = &history[row * HISTORY_COLUMNS..][..HISTORY_COLUMNS];
        let (d, g) = (&row[D_COLUMN..], &row[G_COLUMN..]);
        Self {
            d_loss_real: d[0],
            d_real: d[1],
            d_loss_fake: d[3],
            d_fake: d[4],
            d_accuracy: f32::midpoint(d[2], d[5]),
            g_loss: g[0],
            d_fake_for_g: g[1],
        }
    }

    /// The discriminator's loss: on reals and on fakes.
    pub fn d_loss(&self) -> f32 {
        self.d_loss_real + self.d_loss_fake
    }

    /// The loss that is not a finite number, if one is.
    pub fn diverged(&self) -> Option<&'static str> {
        if !self.d_loss().is_finite() {
            Some("the discriminator's loss")
        } else if !self.g_loss.is_finite() {
            Some("the generator's loss")
        } else {
            None
        }
    }
}
