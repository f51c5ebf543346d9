//! Steps of several ranks, compared with one process: the time of a step, of the exchange in it, and how well it scales.

use std::fmt;
use std::time::Instant;

use serde::Serialize;

use super::steps::noise;
use crate::error::{Result, bytes_for_people};
use crate::net::Model;
use crate::program::{Device, Executor, Values};
use crate::train::{Checkpoint, Communicator, Gan, Rank, Settings};

/// Parts of batches that a rank holds on its device.
const BATCHES: usize = 8;

/// The times of training steps of several ranks, in seconds: means of many steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RankReport {
    /// The name of the model.
    pub model: String,
    /// The device of rank 0.
    pub device: String,
    /// The number of ranks.
    pub ranks: usize,
    /// The real images of a step of all ranks.
    pub batch_size: usize,
    /// The duration of a step of all ranks: that of the slowest.
    pub step: f64,
    /// The part of it that the ranks spend on the exchange: the duration beyond that of a process which computes the part of one rank for
    /// itself, while the other ranks do the same.
    pub exchange: f64,
    /// The bytes that a rank sends in a step, and as many receives.
    pub exchanged_bytes: u64,
    /// The duration of a step of the whole batch in one process, while the other ranks wait.
    pub one_process: f64,
    /// The scaling efficiency: `one_process / (ranks * step)`. 1 is ideal.
    pub efficiency: f64,
}

/// Measures steps of all ranks together, each for about `seconds`. All ranks call it with the same arguments, and all have the report.
///
/// # Errors
///
/// If a program does not fit into a device's memory, a device is lost, or another rank does not answer.
pub fn measure_ranks(
    device: &dyn Device,
    model: &Model,
    batch_size: usize,
    seconds: f64,
    ranks: &dyn Communicator,
) -> Result<RankReport> {
    let rank = ranks.rank();
    let part = rank.images_of(batch_size);
    let together = Steps::new(device, model, batch_size, rank)?.time(seconds, ranks, true)?;
    let apart = Steps::new(device, model, part, Rank::SINGLE)?.time(seconds, ranks, true)?;
    // The other ranks wait for the time that rank 0 sends.
    let one_process = Steps::new(device, model, batch_size, Rank::SINGLE)?.time(seconds, ranks, rank.index == 0)?;
    let gan = Gan::new(model, &Settings::bare(model, part, part), part);
    let [generator, discriminator] = [&gan.generator, &gan.discriminator];
    let tensors = [generator.grads(), generator.running(), discriminator.grads(), discriminator.running()];
    let floats: usize = tensors.into_iter().map(|tensor| gan.program.info(tensor).len()).sum();
    Ok(RankReport {
        model: model.name.clone(),
        device: device.description(),
        ranks: rank.count,
        batch_size,
        step: together,
        exchange: (together - apart).max(0.0),
        exchanged_bytes: 2 * 4 * (floats * (rank.count - 1) / rank.count) as u64,
        one_process,
        efficiency: one_process / (rank.count as f64 * together),
    })
}

/// Training steps on a device.
struct Steps {
    gan: Gan,
    executor: Box<dyn Executor>,
    done: u64,
}

impl Steps {
    fn new(device: &dyn Device, model: &Model, batch_size: usize, rank: Rank) -> Result<Self> {
        let images = BATCHES * rank.images_of(batch_size);
        let settings = Settings::bare(model, images * rank.count, batch_size);
        let gan = Gan::for_training(model, &settings, images, rank);
        let mut executor = device.build(&gan.program)?;
        gan.load(executor.as_mut(), &Checkpoint::initial(model, &settings))?;
        executor.upload(gan.data, Values::U8(&noise(gan.program.info(gan.data).len())))?;
        Ok(Self { gan, executor, done: 0 })
    }

    fn run(&mut self, steps: u64, ranks: &dyn Communicator) -> Result<()> {
        self.gan.run_with(self.executor.as_mut(), ranks, self.done, steps)?;
        self.done += steps;
        self.executor.download(self.gan.history).map(drop)
    }

    /// The mean duration of a step on the slowest of the ranks that take part, in seconds. Rank 0 decides the number of steps.
    fn time(&mut self, seconds: f64, ranks: &dyn Communicator, takes_part: bool) -> Result<f64> {
        let unit = self.gan.penalised_step.map_or(1, |penalised| penalised.every);
        let mut own = 0.0;
        if takes_part {
            self.run(unit, ranks)?;
        }
        let begin = Instant::now();
        if takes_part {
            self.run(unit, ranks)?;
        }
        let wanted = ((seconds / begin.elapsed().as_secs_f64()).ceil() as u64).clamp(1, 1 << 20);
        let agreed = ranks.broadcast(wanted.to_le_bytes().to_vec())?;
        let steps = unit * u64::from_le_bytes(agreed.try_into().unwrap_or_default());
        let begin = Instant::now();
        if takes_part {
            self.run(steps, ranks)?;
            own = begin.elapsed().as_secs_f64() / steps as f64;
        }
        let mut all = vec![0.0; ranks.rank().count];
        ranks.all_gather(&[own as f32], &mut all)?;
        Ok(all.into_iter().fold(0.0, f32::max).into())
    }
}

impl fmt::Display for RankReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, device, ranks, batch_size, step, exchange, exchanged_bytes, one_process, efficiency } = self;
        let rate = |seconds: f64| format!("{:>9.2} ms {:>9.0} images/s", 1e3 * seconds, *batch_size as f64 / seconds);
        writeln!(f, "{model}, {batch_size} images in a step, {ranks} ranks with a device like {device}")?;
        writeln!(f)?;
        writeln!(f, "step of one process    {}", rate(*one_process))?;
        writeln!(f, "step of {ranks:<3} ranks      {}", rate(*step))?;
        let share = 100.0 * exchange / step;
        let bytes = bytes_for_people(*exchanged_bytes);
        writeln!(f, "exchange in it         {:>9.2} ms {share:>9.0} %, {bytes} from each rank", 1e3 * exchange)?;
        write!(f, "scaling efficiency     {:>9.0} %", 100.0 * efficiency)
    }
}
