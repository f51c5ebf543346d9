//! How long things take: to encode a routine, to run it, and to run a product in each of its tilings.

use std::time::{Duration, Instant};

use super::super::Tiles;
use super::super::clock::{self, Clock};
use super::super::lower::Dispatch;
use super::{GpuExecutor, Pass, Pipelines, encode};
use crate::error::Result;
use crate::program::RoutineId;

/// A sample of a tiling is so many runs of it that the usual one takes this long, in seconds, or the most.
const SAMPLE: f64 = 1e-3;
const MOST_RUNS: usize = 256;
/// How many samples there are: the shortest counts. Where they take longer than this, there are no more of them.
const SAMPLES: usize = 4;
const ENOUGH: Duration = Duration::from_millis(50);

impl GpuExecutor {
    /// How long the host takes to encode a run of a routine, which is then thrown away: what steps cost where the GPU is faster
    /// than the host.
    pub fn time_to_encode(&self, routine: RoutineId) -> Duration {
        let begin = Instant::now();
        let mut encoder = self.encoder(&self.program.routines()[routine.0].name);
        self.encode(routine, 0..self.dispatch_count(routine), &mut encoder, None);
        drop(encoder.finish());
        begin.elapsed()
    }

    /// Seconds that the GPU takes for `times` runs of a routine, by its own clock; so many times over, each as a submission that
    /// should be short. None where the device [was not opened to be timed](super::super::Opening), or its clock does not run.
    pub fn time_on_gpu(&mut self, routine: RoutineId, times: usize, samples: usize) -> Result<Option<Vec<f64>>> {
        let samples = samples.min(clock::MOST_PASSES);
        let Some(clock) = Clock::new(&self.gpu, samples)? else { return Ok(None) };
        self.forget_times();
        for sample in 0..samples {
            let mut encoder = self.encoder("timed");
            let dispatches = 0..times * self.dispatch_count(routine);
            self.encode(routine, dispatches, &mut encoder, Some(clock.of_pass(sample)));
            self.submit(encoder, None)?;
        }
        let buffer = self.staging(clock.bytes())?;
        let mut encoder = self.encoder("clock");
        clock.read(&mut encoder, &buffer);
        self.submit(encoder, None)?;
        let instants = self.map(buffer, clock.bytes() as usize / 4);
        let words = self.collect_words(&instants)?;
        Ok(clock::durations(&words, self.gpu.queue.get_timestamp_period().into()))
    }

    /// The dispatches of routines with the tiles that this device takes.
    pub(super) fn with_tiles(&mut self, routines: &[Vec<Dispatch>]) -> Result<Vec<Vec<Dispatch>>> {
        let tiles = self.gpu.tiles.clone();
        if let Tiles::Fastest(tuner) = &tiles {
            tuner.tune(routines.iter().flatten(), |tilings| self.time_tilings(tilings))?;
        }
        Ok(routines.iter().map(|dispatches| dispatches.iter().map(|dispatch| tiles.of(dispatch)).collect()).collect())
    }

    /// Seconds that a product takes in each of its tilings, the usual one first, on tensors of zeros; which all are afterwards, too.
    fn time_tilings(&mut self, tilings: &[Dispatch]) -> Result<Vec<f64>> {
        let pipelines = Pipelines::compile(&self.gpu, tilings.iter())?;
        let passes: Vec<Pass> = tilings.iter().map(|tiling| self.pass(&pipelines, tiling)).collect();
        for pass in &passes {
            self.time_runs(pass, 1)?; // the driver may compile it only now
        }
        let mut runs = 1;
        while self.time_runs(&passes[0], runs)? < SAMPLE && runs < MOST_RUNS {
            runs *= 2;
        }
        // In turn, so that a GPU that changes its pace does so for all.
        let (clock, mut fastest) = (Instant::now(), vec![f64::INFINITY; passes.len()]);
        for _ in 0..SAMPLES {
            for (pass, fastest) in passes.iter().zip(&mut fastest) {
                *fastest = fastest.min(self.time_runs(pass, runs)?);
            }
            if clock.elapsed() > ENOUGH {
                break;
            }
        }
        let mut encoder = self.encoder("zeros");
        for buffer in self.buffers.iter().chain(self.scratch.values()) {
            encoder.clear_buffer(buffer, 0, None);
        }
        self.submit(encoder, None)?;
        self.finish()?;
        Ok(fastest)
    }

    /// Seconds of so many runs of a dispatch, one after the other, with what it takes to submit them and to hear that they are done.
    fn time_runs(&mut self, pass: &Pass, runs: usize) -> Result<f64> {
        let mut encoder = self.encoder("tiles");
        encode(std::iter::repeat_n(pass, runs), &mut encoder, None);
        let begin = Instant::now();
        self.submit(encoder, None)?;
        self.finish()?;
        Ok(begin.elapsed().as_secs_f64())
    }
}
