//! What a step reports of itself.

/// The number of steps whose losses are kept on the device before they are overwritten.
pub const HISTORY_ROWS: usize = 256;

/// Names of the numbers that a step writes: six means of [`Op::DiscriminatorLoss`](crate::program::Op::DiscriminatorLoss), then three
/// of [`Op::GeneratorLoss`](crate::program::Op::GeneratorLoss).
pub const HISTORY_NAMES: [&str; 9] = [
    "d_loss_real",
    "d_real",
    "d_accuracy_real",
    "d_loss_fake",
    "d_fake",
    "d_accuracy_fake",
    "g_loss",
    "d_fake_for_g",
    "d_accuracy_for_g",
];
/// Numbers that a step writes.
pub(super) const HISTORY_COLUMNS: usize = HISTORY_NAMES.len();
/// The first column of the discriminator's loss.
pub(super) const D_COLUMN: usize = 0;
/// The share of real images that the discriminator classifies as real.
pub(super) const D_ACCURACY_REAL_COLUMN: usize = D_COLUMN + 2;
/// The first column of the generator's loss.
pub(super) const G_COLUMN: usize = 6;

/// What a step reports of itself: means over its batch, or over the last of its batches where it has several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// The discriminator's loss on real images, in nats.
    pub d_loss_real: f32,
    /// The discriminator's loss on generated images, in nats.
    pub d_loss_fake: f32,
    /// The generator's loss, in nats.
    pub g_loss: f32,
    /// D(x): how real the discriminator finds real images, 0 to 1.
    pub d_real: f32,
    /// D(G(z)): how real it finds generated images, 0 to 1, before its update.
    pub d_fake: f32,
    /// Its accuracy, with real and generated images counted equally.
    pub d_accuracy: f32,
    /// D(G(z)) after its update.
    pub d_fake_for_g: f32,
}

impl Losses {
    /// The losses of a step, counted from 1, from the values of [`Gan::history`](super::Gan::history).
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

    /// The discriminator's loss: the sum of its losses on real and on generated images.
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
