//! One adversarial step, as a program: the discriminator learns to tell real images from fakes, then the generator
//! learns to fool the discriminator it now faces (Goodfellow et al. 2014, algorithm 1).

use crate::error::Result;
use crate::net::parameters::Layout;
use crate::net::{Adam, Chance, Mode, Model, Network, Wrt};
use crate::program::random::stream;
use crate::program::{Element, Executor, Op, Order, Program, RoutineId, TensorId, Values};

use super::{Augment, Checkpoint, Settings, checkpoint};

/// Steps whose losses a device remembers before it writes over them.
pub const HISTORY_ROWS: usize = 256;
/// Images of a sheet: always those of the seeds 0 to 63.
pub const SHEET_IMAGES: usize = 64;

/// What [`Op::Loss`] writes of the discriminator's update (six means), then of the generator's (three).
const HISTORY_COLUMNS: usize = 9;
const D_COLUMN: usize = 0;
const G_COLUMN: usize = 6;

/// A training step and a sheet of images, as routines of one program over the same parameters.
pub struct Gan {
    /// The program.
    pub program: Program,
    /// Trains once. Nothing is uploaded, decided or allocated between two runs of it.
    pub step: RoutineId,
    /// Draws [`Self::sheet_images`] from [`Self::sheet_latents`] with the averaged parameters.
    pub sheet: RoutineId,
    /// u32 (1): how many steps were done.
    pub clock: TensorId,
    /// u8 (capacity, H, W, C): the images to learn from, or a window of them; [`Supply`](super::Supply) fills it.
    pub data: TensorId,
    /// (`HISTORY_ROWS`, `HISTORY_COLUMNS`): see [`Losses::of_step`].
    pub history: TensorId,
    /// (64, 1, 1, latent).
    pub sheet_latents: TensorId,
    /// (64, H, W, C) in the model's range.
    pub sheet_images: TensorId,
    /// The real images of the running step as the discriminator sees them, (N, H, W, C) in the model's range.
    pub reals: TensorId,
    /// Writes [`Self::reals`] as the step does whose number is on [`Self::clock`]. Only where they are augmented.
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

impl Gan {
    /// The program that trains a model with these settings, with `capacity` images on the device: all of them, or whole
    /// batches of fewer.
    pub fn new(model: &Model, settings: &Settings, capacity: usize) -> Self {
        let mut program = Program::new();
        let clock = program.tensor_of(Element::U32, "clock", &[1]);
        let [h, w, c] = model.image;
        let data = program.tensor_of(Element::U8, "data", &[capacity, h, w, c]);
        let history = program.tensor("history", &[HISTORY_ROWS, HISTORY_COLUMNS]);
        let generator = Network::generator(&mut program, model);
        let average = generator.average(&mut program);
        let discriminator = Network::discriminator(&mut program, model);
        let (reals, take_reals) = reals(&mut program, model, settings, clock, data);

        let step = program.begin("step");
        let draft = Step { model, settings, clock, reals, take_reals: &take_reals, history };
        let fakes = draft.write(&mut program, &generator, &average, &discriminator);

        let sheet = program.begin("sheet");
        let sheet_latents = program.tensor("sheet.latents", &[SHEET_IMAGES, 1, 1, model.latent]);
        let sheet_images = average.forward(&mut program, sheet_latents, Mode::Evaluate, "sheet").y;

        let augmented = settings.augment.is_on().then(|| {
            let augmented = program.begin("augmented");
            for op in take_reals {
                program.push(op);
            }
            augmented
        });

        Self {
            program,
            step,
            sheet,
            clock,
            data,
            history,
            sheet_latents,
            sheet_images,
            reals,
            augmented,
            fakes,
            generator,
            average,
            discriminator,
        }
    }

    /// Puts a checkpoint into the program's tensors.
    pub fn load(&self, executor: &mut dyn Executor, checkpoint: &Checkpoint) -> Result<()> {
        for (prefix, tensor, layout) in self.state() {
            executor.upload(tensor, Values::F32(&checkpoint.buffer(prefix, layout)?))?;
        }
        executor.upload(self.clock, Values::U32(&[checkpoint.step as u32]))
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
            (checkpoint::AVERAGE, self.average.params(), g.params_layout()),
            (checkpoint::ADAM_M, g.m(), g.params_layout()),
            (checkpoint::ADAM_V, g.v(), g.params_layout()),
            (checkpoint::ADAM_M, d.m(), d.params_layout()),
            (checkpoint::ADAM_V, d.v(), d.params_layout()),
        ]
    }
}

/// What a step is written from.
struct Step<'a> {
    model: &'a Model,
    settings: &'a Settings,
    clock: TensorId,
    reals: TensorId,
    take_reals: &'a [Op],
    history: TensorId,
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
    let order = if program.shape(data)[0] < settings.images { Order::Window } else { Order::Shuffled };
    let batch = |y| Op::Batch { clock, images: data, y, seed, order, range: model.range() };
    let reals = program.tensor("reals", &shape);
    if !settings.augment.is_on() {
        return (reals, vec![batch(reals)]);
    }
    let originals = program.tensor("originals", &shape);
    let Augment { rotate, flip, quarter_turns } = settings.augment;
    let augment = Op::Augment { clock, x: originals, y: reals, seed, rotate, flip, quarter_turns };
    (reals, vec![batch(originals), augment])
}

impl Step<'_> {
    /// Appends the step; returns the tensor of its fakes.
    fn write(&self, program: &mut Program, g: &Network, average: &Network, d: &Network) -> TensorId {
        let (clock, seed, n) = (self.clock, self.settings.seed, self.settings.batch_size);
        let chance = Chance { clock, seed };
        let [h, w, c] = self.model.image;
        let latents = program.tensor("latents", &[n, 1, 1, self.model.latent]);
        let both = program.tensor("both", &[2 * n, h, w, c]);

        program.push(Op::Tick { clock });
        program.push(Op::Normal { clock, y: latents, seed, stream: stream::LATENTS });
        let fakes = g.forward(program, latents, Mode::Train { groups: 1, chance }, "fakes"); // G(z), for both halves
        for op in self.take_reals {
            program.push(op.clone());
        }

        // Discriminator: minimise softplus(-D(x)) + softplus(D(G(z))). Reals and fakes are one batch of two groups.
        program.push(Op::Concat { a: self.reals, b: fakes.y, y: both });
        let verdict = d.forward(program, both, Mode::Train { groups: 2, chance }, "both");
        let dlogits = self.loss(program, verdict.y, n, D_COLUMN);
        d.backward(program, &verdict, dlogits, Wrt::Params);
        self.adam(program, d);

        // Generator: minimise softplus(-D(G(z))), with the discriminator as it is now.
        let verdict = d.forward(program, fakes.y, Mode::Train { groups: 1, chance }, "fakes");
        let dlogits = self.loss(program, verdict.y, n, G_COLUMN);
        let dfakes = d.backward(program, &verdict, dlogits, Wrt::Input).expect("asked for");
        g.backward(program, &fakes, dfakes, Wrt::Params);
        self.adam(program, g);
        program.push(Op::MovingAverage {
            clock,
            param: g.params(),
            average: average.params(),
            decay: self.settings.average,
        });
        fakes.y
    }

    /// The loss toward `real` real rows, then fakes; returns its gradient for the logits.
    fn loss(&self, program: &mut Program, logits: TensorId, real: usize, column: usize) -> TensorId {
        let shape = program.shape(logits).to_vec();
        let dlogits = program.tensor(format!("{}.grad", program.info(logits).name), &shape);
        program.push(Op::Loss { clock: self.clock, logits, dlogits, history: self.history, real, column });
        dlogits
    }

    fn adam(&self, program: &mut Program, network: &Network) {
        let Adam { lr, beta1, beta2, eps } = self.settings.adam;
        program.push(Op::Adam {
            clock: self.clock,
            param: network.params(),
            grad: network.grads(),
            m: network.m(),
            v: network.v(),
            lr,
            beta1,
            beta2,
            eps,
        });
    }
}

/// What a step measured of itself; each a mean over its batch.
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
