//! Measurements: how long a routine takes to encode and to run, and how long a matrix product takes with each tile shape.

use std::time::{Duration, Instant};

use super::super::device::{TileChoice, create_buffer};
use super::super::lower::{Dispatch, Resource};
use super::super::pipelines::Pipelines;
use super::super::timestamps::{self, TimestampQueries};
use super::super::tuner::TileBenchmark;
use super::{GpuExecutor, PreparedDispatch, encode};
use crate::error::Result;
use crate::program::{Element, RoutineId, random};

/// How long a sample should take with the default tile shape, in seconds: it repeats the dispatch until it does.
const SAMPLE_SECONDS: f64 = 1e-3;
/// The most repetitions of the dispatch in one sample.
const MAX_REPETITIONS: usize = 256;
/// The number of samples of each tile shape, of which the shortest counts.
const SAMPLES: usize = 4;
/// No further round of samples starts after this time.
const SAMPLING_BUDGET: Duration = Duration::from_millis(50);
/// Words of random numbers that fill the tensors of a product, again and again. A prime, so that no two rows are equal.
const NOISE: usize = 1_048_573;
/// The words of a result that are compared at its beginning, and again at its end; a result of up to twice this length is compared
/// whole.
const COMPARED: usize = 1 << 18;

/// A product with each of its tile shapes, the default one first.
pub(in crate::gpu) struct PreparedProduct {
    shapes: Vec<PreparedDispatch>,
    /// What it writes: a tensor or scratch memory, the first word of it and how many words.
    results: Vec<(Resource, usize, usize)>,
}

impl GpuExecutor {
    /// How long the host takes to encode one run of a routine. The encoded commands are discarded. Where the GPU is faster than
    /// the host, this is what a step costs.
    pub fn time_to_encode(&self, routine: RoutineId) -> Duration {
        let begin = Instant::now();
        let mut encoder = self.encoder(&self.program.routines()[routine.0].name);
        self.encode(routine, 0..self.dispatch_count(routine), &mut encoder, None);
        drop(encoder.finish());
        begin.elapsed()
    }

    /// Seconds that the GPU takes for `times` runs of a routine, by its own clock: one value for each of `samples` submissions, each
    /// of which should be short. `None` where the device was opened without [timestamps](super::super::OpenOptions::timestamps), or
    /// its clock does not run.
    pub fn time_on_gpu(&mut self, routine: RoutineId, times: usize, samples: usize) -> Result<Option<Vec<f64>>> {
        let samples = samples.min(timestamps::MAX_PASSES);
        let Some(queries) = TimestampQueries::new(&self.gpu, samples)? else { return Ok(None) };
        self.discard_timings();
        for sample in 0..samples {
            let mut encoder = self.encoder("timed");
            let dispatches = 0..times * self.dispatch_count(routine);
            self.encode(routine, dispatches, &mut encoder, Some(queries.writes(sample)));
            self.submit(encoder, None)?;
        }
        let buffer = self.staging(queries.bytes())?;
        let mut encoder = self.encoder("timestamps");
        queries.resolve(&mut encoder, &buffer);
        self.submit(encoder, None)?;
        let snapshot = self.map(buffer, queries.bytes() as usize / 4);
        let words = self.collect_words(&snapshot)?;
        Ok(timestamps::durations(&words, self.gpu.queue.get_timestamp_period().into()))
    }

    /// The dispatches of routines with the tile shapes that this device chooses. Leaves all buffers zeroed.
    pub(super) fn choose_tile_shapes(&mut self, routines: &[Vec<Dispatch>]) -> Result<Vec<Vec<Dispatch>>> {
        let choice = self.gpu.tile_choice.clone();
        if let TileChoice::Fastest(tuner) = &choice {
            let untimed = tuner.untimed(routines.iter().flatten());
            if !untimed.is_empty() {
                self.fill_with_noise()?;
                tuner.tune(&untimed, self)?;
                self.clear()?;
            }
            tuner.record(routines.iter().flatten());
        }
        Ok(routines
            .iter()
            .map(|dispatches| dispatches.iter().map(|dispatch| choice.apply(dispatch)).collect())
            .collect())
    }

    /// Fills all tensors of f32 and all scratch memory with random numbers from -1 to 1.
    fn fill_with_noise(&mut self) -> Result<()> {
        let word = |block: usize| random::philox([block as u32, 0, 0, 0], [0, 0]);
        let words = (0..NOISE.div_ceil(4)).flat_map(word).take(NOISE);
        let values: Vec<f32> = words.map(|word| (2.0 * random::uniform(word) - 1.0) as f32).collect();
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let noise = create_buffer(&self.gpu, "noise", 4 * NOISE as u64, usage)?;
        self.gpu.queue.write_buffer(&noise, 0, bytemuck::cast_slice(&values));
        let mut encoder = self.encoder("noise");
        let infos = self.program.buffers().iter();
        let floats =
            infos.zip(&self.buffers).filter(|(info, _)| info.element == Element::F32).map(|(_, buffer)| buffer);
        for buffer in floats.chain(self.scratch.values()) {
            for offset in (0..buffer.size()).step_by(4 * NOISE) {
                let len = (4 * NOISE as u64).min(buffer.size() - offset);
                encoder.copy_buffer_to_buffer(&noise, 0, buffer, offset, len);
            }
        }
        self.submit(encoder, None)?;
        self.finish()
    }

    /// Fills all tensors of f32 and all scratch memory with zeros.
    fn clear(&mut self) -> Result<()> {
        let mut encoder = self.encoder("clear");
        let infos = self.program.buffers().iter();
        let floats =
            infos.zip(&self.buffers).filter(|(info, _)| info.element == Element::F32).map(|(_, buffer)| buffer);
        for buffer in floats.chain(self.scratch.values()) {
            encoder.clear_buffer(buffer, 0, None);
        }
        self.submit(encoder, None)?;
        self.finish()
    }

    /// What a product writes with one of its tile shapes, where zeros were before: the compared words of all results.
    fn results_of(&mut self, product: &PreparedProduct, shape: usize) -> Result<Vec<u32>> {
        let mut encoder = self.encoder("autotuning");
        for (resource, first, len) in &product.results {
            encoder.clear_buffer(self.buffer_of(resource), 4 * *first as u64, Some(4 * *len as u64));
        }
        encode(std::iter::once(&product.shapes[shape]), &mut encoder, None);
        let compared: usize = product.results.iter().map(|(_, _, len)| (*len).min(2 * COMPARED)).sum();
        let staging = self.staging(4 * compared as u64)?;
        let mut at = 0;
        for (resource, first, len) in &product.results {
            let pieces = if *len > 2 * COMPARED {
                vec![(*first, COMPARED), (first + len - COMPARED, COMPARED)]
            } else {
                vec![(*first, *len)]
            };
            for (first, len) in pieces {
                let [from, to, bytes] = [first, at, len].map(|words| 4 * words as u64);
                encoder.copy_buffer_to_buffer(self.buffer_of(resource), from, &staging, to, bytes);
                at += len;
            }
        }
        self.submit(encoder, None)?;
        let snapshot = self.map(staging, compared);
        self.collect_words(&snapshot)
    }

    fn buffer_of(&self, resource: &Resource) -> &wgpu::Buffer {
        match resource {
            Resource::Tensor(tensor) => self.buffer(self.program.info(*tensor).buffer),
            Resource::Scratch(name, _) => &self.scratch[name],
            Resource::Table(numbers) => &self.tables[numbers],
        }
    }

    /// Seconds from the submission of `repetitions` runs of a dispatch, one after the other, until they are done.
    fn time_repeated(&mut self, dispatch: &PreparedDispatch, repetitions: usize) -> Result<f64> {
        let mut encoder = self.encoder("autotuning");
        encode(std::iter::repeat_n(dispatch, repetitions), &mut encoder, None);
        let begin = Instant::now();
        self.submit(encoder, None)?;
        self.finish()?;
        Ok(begin.elapsed().as_secs_f64())
    }
}

impl TileBenchmark for GpuExecutor {
    type Prepared = PreparedProduct;

    fn prepare(&mut self, products: &[&Dispatch]) -> Result<Vec<PreparedProduct>> {
        let shapes = |product: &&Dispatch| {
            (0..=product.tile_shapes.len()).map(|number| product.with_tile_shape(number)).collect::<Vec<_>>()
        };
        let all: Vec<Vec<Dispatch>> = products.iter().map(shapes).collect();
        let pipelines = Pipelines::compile(&self.gpu, all.iter().flatten())?;
        let prepared = all.iter().map(|shapes| PreparedProduct {
            shapes: shapes.iter().map(|shape| self.prepare_dispatch(&pipelines, shape)).collect(),
            results: self.written(&shapes[0]),
        });
        Ok(prepared.collect())
    }

    fn compare(&mut self, product: &PreparedProduct) -> Result<Vec<bool>> {
        let expected = self.results_of(product, 0)?;
        (1..product.shapes.len()).map(|shape| Ok(self.results_of(product, shape)? == expected)).collect()
    }

    fn time(&mut self, product: &PreparedProduct) -> Result<Vec<f64>> {
        let mut repetitions = 1;
        while self.time_repeated(&product.shapes[0], repetitions)? < SAMPLE_SECONDS && repetitions < MAX_REPETITIONS {
            repetitions *= 2;
        }
        // In turn, so that a change of the GPU's clock rate affects all tile shapes.
        let (begin, mut fastest) = (Instant::now(), vec![f64::INFINITY; product.shapes.len()]);
        for _ in 0..SAMPLES {
            for (dispatch, fastest) in product.shapes.iter().zip(&mut fastest) {
                *fastest = fastest.min(self.time_repeated(dispatch, repetitions)?);
            }
            if begin.elapsed() > SAMPLING_BUDGET {
                break;
            }
        }
        Ok(fastest)
    }
}
