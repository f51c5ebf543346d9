//! One adversarial step, as a program: the discriminator learns to tell real from generated images, then the generator learns to fool
//! the updated discriminator (Goodfellow et al. 2014, algorithm 1). [`AdversarialStep::write`] is the whole step.

use crate::net::{DropoutRng, Mode, Model, Network, Wrt};
use crate::program::random::stream;
use crate::program::{AdversarialLoss, Centre, Op, Program, TensorId};
use crate::recipe::{Adam, Penalty};

use super::losses::{D_ACCURACY_REAL_COLUMN, D_COLUMN, G_COLUMN};
use super::{Rank, Settings};

/// The share of real images that the discriminator may classify as real before they are augmented more strongly: a mean sign of its logits of
/// 0.6 (Karras et al. 2020, "Training generative adversarial networks with limited data", section 3.1).
const AUGMENT_TARGET: f64 = 0.8;
/// The number of real images after which the strength of augmentation can have risen from 0 to 1.
const AUGMENT_IMAGES: f64 = 100_000.0;

/// Stream of DiffAugment for real images.
pub(super) const SEEN_REALS: u32 = stream::DIFF_AUGMENT;
/// Stream of DiffAugment for generated images in the update of the discriminator.
const SEEN_FAKES: u32 = stream::DIFF_AUGMENT + 1;
/// Stream of DiffAugment for the same generated images in the update of the generator.
const SEEN_BY_GENERATOR: u32 = stream::DIFF_AUGMENT + 2;

/// Tensors and places of a step that was written.
pub(super) struct WrittenStep {
    /// The generated images.
    pub(super) fakes: TensorId,
    /// Real and generated images as the discriminator takes them.
    pub(super) judged: [TensorId; 2],
    /// The discriminator's logits of the real and then of the generated images.
    pub(super) logits: TensorId,
    /// The discriminator's logits of the generated images in the update of the generator.
    pub(super) fake_logits: TensorId,
    /// Numbers of the discriminator's Adam operations: the gradients of penalties belong before each.
    pub(super) d_updates: Vec<usize>,
}

/// What an adversarial step is written from.
pub(super) struct AdversarialStep<'a> {
    /// The networks.
    pub(super) model: &'a Model,
    /// The options of the run.
    pub(super) settings: &'a Settings,
    /// u32 (1): the number of batches of real images that were shown.
    pub(super) clock: TensorId,
    /// u32 (1): the number of steps that were done.
    pub(super) steps: TensorId,
    /// The real images as the discriminator sees them.
    pub(super) reals: TensorId,
    /// The operations that write the real images.
    pub(super) take_reals: &'a [Op],
    /// How strongly DiffAugment changes images, where it is adapted; f32 (1).
    pub(super) strength: Option<TensorId>,
    /// The operation that writes their classes, of a conditional model.
    pub(super) take_classes: Option<Op>,
    /// Where the losses go.
    pub(super) history: TensorId,
    /// The process that runs the step, which computes its part of each batch.
    pub(super) rank: Rank,
    /// The number of parts of a batch of real or of generated images that have batch statistics of their own.
    pub(super) groups: usize,
}

impl AdversarialStep<'_> {
    /// Appends the step to the routine that was begun last. `g` has its weights' EMA in `ema`.
    pub(super) fn write(&self, program: &mut Program, g: &Network, ema: &Network, d: &Network) -> WrittenStep {
        let (clock, seed, n) = (self.clock, self.settings.seed, self.rank.images_of(self.settings.batch_size));
        let [h, w, c] = self.model.discriminator_input();
        let latents = program.tensor("latents", &[n, 1, 1, self.model.latent]);
        let both = program.tensor("both", &[2 * (n / self.model.pac), h, w, c]);
        if self.steps != clock {
            program.push(Op::Tick { clock: self.steps });
        }

        // A batch of real images, and the generator's images of as many latents.
        let first = ops_so_far(program);
        program.push(Op::Tick { clock });
        push_all(program, self.take_classes.as_slice());
        program.push(Op::Normal {
            clock,
            y: latents,
            seed,
            stream: stream::LATENTS,
            first: self.first(latents, program) * self.model.latent as u32,
        });
        let fakes = g.forward(program, latents, self.training(1), "fakes"); // G(z), for both updates
        push_all(program, self.take_reals);

        // Update of the discriminator: real and generated images are one batch of two groups.
        let seen = self.seen(program, fakes.y, SEEN_FAKES);
        let judged = [(self.reals, "reals"), (seen, "fakes")].map(|(images, name)| self.packed(program, images, name));
        program.push(Op::Concat { a: judged[0], b: judged[1], y: both });
        d.normalise(program);
        let verdict = d.forward(program, both, self.training(2), "both");
        let logits = verdict.y;
        let dlogits = self.discriminator_loss(program, logits);
        d.backward(program, &verdict, dlogits, Wrt::Params);
        let mut d_updates = vec![ops_so_far(program)];
        self.adam(program, d, (clock, self.settings.d_steps), self.settings.rates.discriminator);

        // More updates of it are the same operations on the same tensors: the clock moves on, so latents and real images are others.
        let update = program.routines().last().expect("it was begun").ops[first..].to_vec();
        for _ in 1..self.settings.d_steps {
            push_all(program, &update);
            d_updates.push(ops_so_far(program) - 1);
        }

        // Update of the generator: fool the updated discriminator with the images that it saw last.
        d.normalise(program);
        let seen = self.seen(program, fakes.y, SEEN_BY_GENERATOR);
        let fooling = if seen == fakes.y { judged[1] } else { self.packed(program, seen, "fakes anew") };
        let verdict = d.forward(program, fooling, self.training(1), "fakes");
        let reals = (self.settings.objective.loss == AdversarialLoss::Relativistic)
            .then(|| d.forward(program, judged[0], self.training(1), "reals").y);
        let dlogits = self.generator_loss(program, verdict.y, reals);
        let dfooling = d.backward(program, &verdict, dlogits, Wrt::Input).expect("asked for");
        let dseen = if self.model.pac == 1 { dfooling } else { unpacked(program, dfooling, fakes.y) };
        let dfakes = self.gradient_before_diff_augment(program, dseen);
        g.backward(program, &fakes, dfakes, Wrt::Params);
        self.adam(program, g, (self.steps, 1), None);
        self.update_ema(program, g, ema);
        WrittenStep { fakes: fakes.y, judged, logits, fake_logits: verdict.y, d_updates }
    }

    /// Moves the EMA of the generator's weights towards its weights.
    fn update_ema(&self, program: &mut Program, g: &Network, ema: &Network) {
        program.push(Op::Ema {
            clock: self.steps,
            param: g.params(),
            ema: ema.params(),
            decay: self.settings.ema.decay(self.settings.images_per_step()),
            ramp_up: self.settings.ema.ramp_up(),
        });
    }

    /// Generated images as the discriminator sees them: DiffAugment is applied, if the run has it.
    fn seen(&self, program: &mut Program, fakes: TensorId, stream: u32) -> TensorId {
        let changes = self.settings.diff_augment;
        if !changes.is_on() {
            return fakes;
        }
        let shape = program.shape(fakes).to_vec();
        let name = if stream == SEEN_FAKES { "fakes.seen" } else { "fakes.seen anew" };
        let y = program.tensor(name, &shape);
        let (clock, seed, first) = (self.clock, self.settings.seed, self.first(fakes, program));
        let strength = self.strength;
        program.push(Op::DiffAugment { clock, x: fakes, strength, y, seed, stream, changes, first });
        y
    }

    /// The gradient for generated images, from the gradient for what the discriminator saw of them in the update of the generator.
    fn gradient_before_diff_augment(&self, program: &mut Program, dy: TensorId) -> TensorId {
        let changes = self.settings.diff_augment;
        if !changes.is_on() {
            return dy;
        }
        let shape = program.shape(dy).to_vec();
        let dx = program.tensor("fakes.unseen.grad", &shape);
        let (clock, seed, first) = (self.clock, self.settings.seed, self.first(dy, program));
        let (strength, stream) = (self.strength, SEEN_BY_GENERATOR);
        program.push(Op::DiffAugmentGrad { clock, dy, strength, dx, seed, stream, changes, first });
        dx
    }

    /// Adds what the discriminator's gradient for images, as it sees them, costs to the gradients of its weights, as many times
    /// over as it is due seldom. The changes of DiffAugment are no part of the discriminator, nor of this gradient.
    pub(super) fn penalise(&self, program: &mut Program, d: &Network, [reals, fakes]: [TensorId; 2], penalty: Penalty) {
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
            let (clock, seed, first) = (self.clock, self.settings.seed, self.first(mixed, program));
            program.push(Op::Mix { clock, a: reals, b: fakes, y: mixed, seed, stream: stream::MIX, first });
            add(program, mixed, "gp", Centre::One, gp);
        }
    }

    /// Images as the discriminator takes them: one by one, or packed (PacGAN).
    fn packed(&self, program: &mut Program, images: TensorId, name: &str) -> TensorId {
        let (n, [h, w, c]) = (program.shape(images)[0], self.model.discriminator_input());
        if self.model.pac == 1 {
            return images;
        }
        let packs = program.tensor(format!("{name}.packed"), &[n / self.model.pac, h, w, c]);
        program.push(Op::Pack { x: images, y: packs });
        packs
    }

    /// The mode of a pass over `parts` batches, one after the other.
    fn training(&self, parts: usize) -> Mode {
        // Ranks drop other elements of their parts of a batch.
        let seed = self.settings.seed.wrapping_add((self.rank.index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Mode::Train { groups: parts * self.groups, rng: DropoutRng { clock: self.clock, seed } }
    }

    /// The number, in its batch, of the first of the images of this rank.
    fn first(&self, images: TensorId, program: &Program) -> u32 {
        (self.rank.index * program.shape(images)[0]) as u32
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
        if let Some(strength) = self.strength {
            program.push(Op::AdaptAugment {
                clock: self.steps,
                history: self.history,
                strength,
                target: AUGMENT_TARGET,
                rate: self.settings.batch_size as f64 / AUGMENT_IMAGES,
                column: D_ACCURACY_REAL_COLUMN,
            });
        }
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

    /// Appends an update of a network, at `own_rate` if it has one. `clock` counts its updates, of which a step has `updates`.
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

/// The gradient for images, from the gradient for packs of images.
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

/// The number of operations of the routine that was begun last.
fn ops_so_far(program: &Program) -> usize {
    program.routines().last().map_or(0, |routine| routine.ops.len())
}

pub(super) fn push_all(program: &mut Program, ops: &[Op]) {
    for op in ops {
        program.push(op.clone());
    }
}
