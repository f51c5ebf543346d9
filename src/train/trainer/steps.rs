//! Steps on a device: submitted in bursts, their losses read later.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::pace::{BURSTS_AHEAD, BurstPace};
use crate::data::ImageSet;
use crate::error::Result;
use crate::program::{Device, Executor, Snapshot};
use crate::train::{Checkpoint, ChunkLoader, Gan, Losses, Row, Settings, with_fewer_images};

/// The program of a run on its device, with the steps in flight.
pub(super) struct StepRunner<'a> {
    /// The program of the GAN.
    pub(super) gan: Gan,
    /// Runs the program on the device.
    pub(super) executor: Box<dyn Executor>,
    /// Uploads the training images.
    pub(super) chunks: ChunkLoader<'a>,
    /// The number of images that the device holds at once.
    pub(super) capacity: usize,
    /// The last step that was submitted to the device.
    pub(super) step: u64,
    /// Decides the number of steps of a burst.
    pub(super) pace: BurstPace,
    /// The bursts in flight: their steps and the snapshots of their losses.
    pending: VecDeque<(RangeInclusive<u64>, Snapshot)>,
}

/// The losses of the steps of a burst.
pub(super) struct BurstLosses {
    /// The steps.
    pub(super) steps: RangeInclusive<u64>,
    /// The real images per second, a moving average.
    pub(super) images_per_second: f64,
    /// The ring of losses on the device.
    history: Vec<f32>,
}

impl<'a> StepRunner<'a> {
    /// Builds the program on a device and loads the checkpoint `start`. The device holds `capacity` images at once, or fewer if it lacks
    /// memory.
    pub(super) fn new(device: &dyn Device, images: &'a ImageSet, start: &Checkpoint, capacity: usize) -> Result<Self> {
        let Checkpoint { settings, model, step, .. } = start;
        let (capacity, (gan, mut executor)) = with_fewer_images(settings, capacity, |capacity| {
            let gan = Gan::new(model, settings, capacity);
            device.check(&gan.program)?;
            let executor = device.build(&gan.program)?;
            Ok((gan, executor))
        })?;
        gan.load(executor.as_mut(), start)?;
        Ok(Self {
            gan,
            executor,
            chunks: ChunkLoader::new(images, settings, capacity),
            capacity,
            step: *step,
            pace: BurstPace::new(),
            pending: VecDeque::new(),
        })
    }

    /// Submits the next burst, at most up to the step `end`.
    pub(super) fn submit(&mut self, end: u64) -> Result<()> {
        let (data, labels) = (self.gan.data, self.gan.labels);
        let provided = self.chunks.provide(self.executor.as_mut(), data, labels, self.step + 1)?;
        let burst = self.pace.burst().min(end.min(provided) - self.step);
        self.gan.run(self.executor.as_mut(), self.step, burst)?;
        let snapshot = self.executor.snapshot(self.gan.history)?;
        self.pending.push_back((self.step + 1..=self.step + burst, snapshot));
        self.step += burst;
        Ok(())
    }

    /// Whether the device has enough bursts in hand, so that the losses of the oldest one should be read.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= BURSTS_AHEAD
    }

    /// Waits for the losses of the oldest burst in flight. `None` if there is none.
    pub(super) fn collect(&mut self, settings: &Settings) -> Result<Option<BurstLosses>> {
        let Some((steps, snapshot)) = self.pending.pop_front() else { return Ok(None) };
        let history = self.executor.collect(snapshot)?;
        let steps_per_second = self.pace.observe(steps.end() - steps.start() + 1);
        let images_per_second = steps_per_second * settings.images_per_step() as f64;
        Ok(Some(BurstLosses { steps, images_per_second, history }))
    }
}

impl BurstLosses {
    /// The row of a step, without a distance. An error names the loss that is not finite.
    pub(super) fn row(&self, step: u64, settings: &Settings) -> Result<Row, &'static str> {
        let losses = Losses::of_step(&self.history, step);
        match losses.diverged() {
            Some(what) => Err(what),
            None => Ok(Row {
                step,
                epoch: settings.epoch_of(step),
                d_loss: losses.d_loss(),
                g_loss: losses.g_loss,
                d_real: losses.d_real,
                d_fake: losses.d_fake,
                d_accuracy: losses.d_accuracy,
                fd: None,
                fd_se: None,
                fd_blocks: None,
                images_per_second: self.images_per_second as f32,
            }),
        }
    }
}
