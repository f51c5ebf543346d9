//! Steps on a device: submitted in bursts, their losses read later. Rank 0 has the same steps run by all ranks.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::pace::{BURSTS_AHEAD, BurstPace};
use super::rank_command::RankCommand;
use crate::data::ImageSet;
use crate::error::Result;
use crate::program::{Device, Executor, Snapshot};
use crate::train::{
    Checkpoint, ChunkLoader, Communicator, Gan, Losses, Row, Settings, StopRequest, mean_over_ranks, with_fewer_images,
};

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
    /// The communication with the other ranks.
    ranks: &'a dyn Communicator,
    /// Asks the run to end.
    stop: &'a StopRequest,
    /// The bursts in flight: their steps and their losses.
    pending: VecDeque<(RangeInclusive<u64>, History)>,
}

/// The ring of losses after a burst.
enum History {
    /// On the device, which may still compute it.
    Pending(Snapshot),
    /// The means over all ranks.
    Ready(Vec<f32>),
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
    /// memory. Rank 0 has the other ranks do the same.
    pub(super) fn new(
        device: &dyn Device,
        images: &'a ImageSet,
        start: &Checkpoint,
        capacity: usize,
        ranks: &'a dyn Communicator,
        stop: &'a StopRequest,
    ) -> Result<Self> {
        let rank = ranks.rank();
        if rank.index == 0 && !rank.is_single() {
            RankCommand::Begin(start.to_bytes()).send(ranks)?;
        }
        let Checkpoint { settings, model, step, .. } = start;
        let (capacity, (gan, mut executor)) = with_fewer_images(settings, rank, capacity, |capacity| {
            let gan = Gan::for_training(model, settings, capacity, rank);
            device.check(&gan.program)?;
            let executor = device.build(&gan.program)?;
            Ok((gan, executor))
        })?;
        gan.load(executor.as_mut(), start)?;
        Ok(Self {
            gan,
            executor,
            chunks: ChunkLoader::of_rank(images, settings, capacity, rank),
            capacity,
            step: *step,
            pace: BurstPace::new(),
            ranks,
            stop,
            pending: VecDeque::new(),
        })
    }

    /// Submits the next burst, at most up to the step `end`.
    pub(super) fn submit(&mut self, end: u64) -> Result<()> {
        let history = if self.ranks.rank().is_single() {
            let provided = self.provide()?;
            let burst = self.pace.burst().min(end.min(provided) - self.step);
            self.gan.run(self.executor.as_mut(), self.step, burst)?;
            self.step += burst;
            (self.step + 1 - burst..=self.step, History::Pending(self.executor.snapshot(self.gan.history)?))
        } else {
            let burst = self.pace.burst().min(end - self.step);
            RankCommand::Run(burst).send(self.ranks)?;
            let history = self.run_with_ranks(burst)?;
            (self.step + 1 - burst..=self.step, History::Ready(history))
        };
        self.pending.push_back(history);
        Ok(())
    }

    /// Runs a burst together with the other ranks, and returns the losses: the means over all ranks. A rank that is asked to end asks the
    /// others.
    pub(super) fn run_with_ranks(&mut self, burst: u64) -> Result<Vec<f32>> {
        let end = self.step + burst;
        while self.step < end {
            let steps = self.provide()?.min(end) - self.step;
            self.gan.run_with(self.executor.as_mut(), self.ranks, self.step, steps)?;
            self.step += steps;
        }
        let mut requests = vec![0.0; self.ranks.rank().count];
        self.ranks.all_gather(&[self.stop.urgency().into()], &mut requests)?;
        self.stop.raise(requests.into_iter().fold(0.0, f32::max) as u8);
        let mut history = self.executor.download(self.gan.history)?;
        mean_over_ranks(self.ranks, &mut history)?;
        Ok(history)
    }

    /// Uploads the images of the next step, and returns the last step whose images are on the device.
    fn provide(&mut self) -> Result<u64> {
        let (data, labels) = (self.gan.data, self.gan.labels);
        self.chunks.provide(self.executor.as_mut(), data, labels, self.step + 1)
    }

    /// Has the other ranks compare their weights with those of this checkpoint of rank 0.
    pub(super) fn compare_ranks(&self, checkpoint: &Checkpoint) -> Result<()> {
        if self.ranks.rank().is_single() {
            return Ok(());
        }
        RankCommand::Compare(checkpoint.fingerprint()).send(self.ranks)
    }

    /// Whether the device has enough bursts in hand, so that the losses of the oldest one should be read.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= BURSTS_AHEAD
    }

    /// Waits for the losses of the oldest burst in flight. `None` if there is none.
    pub(super) fn collect(&mut self, settings: &Settings) -> Result<Option<BurstLosses>> {
        let Some((steps, history)) = self.pending.pop_front() else { return Ok(None) };
        let history = match history {
            History::Pending(snapshot) => self.executor.collect(snapshot)?,
            History::Ready(history) => history,
        };
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
