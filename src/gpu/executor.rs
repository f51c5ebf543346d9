//! A program on a GPU: buffers, pipelines and bind groups made once, routines replayed as submissions.

mod timing;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use rayon::prelude::*;

use super::lower::{Dispatch, Source, lower};
use super::pace::Pace;
use super::shaders::{Binding, Reflection, SHADERS, Shader};
use super::{Counters, GpuDevice};
use crate::error::{Error, Result};
use crate::program::{BufferId, Device, Element, Executor, Program, RoutineId, Snapshot, TensorId, Values};

/// Submissions that the GPU has in hand, so that the next one is there when one is done.
const IN_FLIGHT: usize = 2;
/// Bytes of an upload that go with one submission, so that a large one does not need its size in memory once more.
const UPLOAD: usize = 16 << 20;
/// After this long without an answer a GPU is taken for dead.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program on a GPU, ready to run.
pub struct GpuExecutor {
    gpu: GpuDevice,
    program: Program,
    buffers: Vec<wgpu::Buffer>,
    scratch: BTreeMap<&'static str, wgpu::Buffer>,
    /// By what is in them.
    tables: BTreeMap<Vec<u32>, wgpu::Buffer>,
    routines: Vec<Prepared>,
    in_flight: VecDeque<InFlight>,
    /// When the submission before the oldest one in flight was over, if that is known.
    last_end: Option<Instant>,
    readings: Vec<Option<Reading>>,
    staging: Vec<wgpu::Buffer>,
}

/// A routine, ready to be encoded.
struct Prepared {
    passes: Vec<Pass>,
    pace: Pace,
}

/// A submission that the GPU has in hand.
struct InFlight {
    index: wgpu::SubmissionIndex,
    /// The routine that it is a piece of and how many dispatches that is, if it tells how long those take.
    timed: Option<(RoutineId, usize)>,
}

/// A dispatch, ready to be encoded.
struct Pass {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
}

/// A snapshot on its way to the host.
struct Reading {
    buffer: wgpu::Buffer,
    len: usize,
    mapped: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl GpuExecutor {
    pub(super) fn new(gpu: GpuDevice, program: &Program) -> Result<Self> {
        let lowered: Vec<Vec<Dispatch>> =
            program.routines().iter().map(|routine| lower(&routine.ops, program, gpu.kernels)).collect();

        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let mut buffers = Vec::with_capacity(program.buffers().len());
        for buffer in program.buffers() {
            buffers.push(create_buffer(&gpu, &buffer.name, buffer.bytes(), usage)?);
        }
        let (mut scratch_len, mut tables) = (BTreeMap::new(), BTreeMap::new());
        for source in lowered.iter().flatten().flat_map(|dispatch| dispatch.bindings.values()) {
            match source {
                Source::Tensor(_) => {}
                Source::Scratch(name, range) => {
                    let largest = scratch_len.entry(*name).or_insert(0);
                    *largest = range.end.max(*largest);
                }
                Source::Table(numbers) if tables.contains_key(numbers) => {}
                Source::Table(numbers) => {
                    let table = create_buffer(&gpu, "table", 4 * numbers.len() as u64, usage)?;
                    gpu.queue.write_buffer(&table, 0, bytemuck::cast_slice(numbers));
                    tables.insert(numbers.clone(), table);
                }
            }
        }
        let mut scratch = BTreeMap::new();
        for (name, len) in scratch_len {
            scratch.insert(name, create_buffer(&gpu, name, 4 * len as u64, usage)?);
        }

        let mut executor = Self {
            gpu,
            program: program.clone(),
            buffers,
            scratch,
            tables,
            routines: Vec::new(),
            in_flight: VecDeque::new(),
            last_end: None,
            readings: Vec::new(),
            staging: Vec::new(),
        };
        let lowered = executor.with_tiles(&lowered)?;
        let pipelines = Pipelines::compile(&executor.gpu, lowered.iter().flatten())?;
        for dispatches in &lowered {
            let passes = dispatches.iter().map(|dispatch| executor.pass(&pipelines, dispatch)).collect();
            executor.routines.push(Prepared { passes, pace: Pace::new() });
        }
        executor.gpu.healthy()?;
        Ok(executor)
    }

    /// Overwrites every tensor of f32 and all scratch memory with NaN, so that a test sees what is not written.
    pub fn poison(&mut self) {
        let floats = self.program.buffers().iter().zip(&self.buffers);
        let floats = floats.filter(|(info, _)| info.element == Element::F32).map(|(_, buffer)| buffer);
        for buffer in floats.chain(self.scratch.values()) {
            let poison = vec![f32::NAN; buffer.size() as usize / 4];
            self.gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&poison));
        }
    }

    /// Buffers that this executor has made so far, those for reading results among them: does not grow with steps.
    pub fn buffer_count(&self) -> usize {
        let reading = self.staging.len() + self.readings.iter().flatten().count();
        self.buffers.len() + self.scratch.len() + self.tables.len() + reading
    }

    /// Dispatches of one run of a routine.
    pub fn dispatch_count(&self, routine: RoutineId) -> usize {
        self.routines[routine.0].passes.len()
    }

    /// The most dispatches of a routine in its next submission, so that it takes about a tenth of a second. That is found by
    /// timing submissions of this very routine, so what a light one learns does not overload the GPU with a heavy one.
    pub fn submission_size(&self, routine: RoutineId) -> usize {
        self.routines[routine.0].pace.dispatches()
    }

    /// Waits until everything that was asked for is done.
    pub fn finish(&mut self) -> Result<()> {
        while let Some(submission) = self.in_flight.pop_front() {
            self.wait_for(submission.index)?;
        }
        self.gpu.healthy()
    }

    fn pass(&self, pipelines: &Pipelines, dispatch: &Dispatch) -> Pass {
        let (pipeline, bindings) = pipelines.of(dispatch);
        let entries: Vec<_> = bindings
            .iter()
            .map(|Binding { name, number }| {
                let source = dispatch.bindings.get(name.as_str());
                let source = source.unwrap_or_else(|| panic!("{dispatch:?} binds nothing to `{name}`"));
                wgpu::BindGroupEntry { binding: *number, resource: self.resource(source) }
            })
            .collect();
        Counters::count(&self.gpu.made.bind_groups);
        let bind_group = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&dispatch.label()),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let workgroups = dispatch.workgroups.map(|groups| u32::try_from(groups).expect("checked against the limits"));
        Pass { pipeline: pipeline.clone(), bind_group, workgroups }
    }

    /// A tensor from its first element to the end of its buffer: a shader that writes too far is then seen to do so,
    /// where a narrower binding would hide it on drivers that check bounds.
    fn resource(&self, source: &Source) -> wgpu::BindingResource<'_> {
        let (buffer, offset) = match source {
            Source::Tensor(tensor) => {
                let info = self.program.info(*tensor);
                (self.buffer(info.buffer), info.offset * self.program.element(*tensor).bytes())
            }
            Source::Scratch(name, range) => (&self.scratch[name], 4 * range.start),
            Source::Table(numbers) => (&self.tables[numbers], 0),
        };
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: offset as u64, size: None })
    }

    fn buffer(&self, id: BufferId) -> &wgpu::Buffer {
        &self.buffers[id.0]
    }

    fn encoder(&self, label: &str) -> wgpu::CommandEncoder {
        self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(label) })
    }

    /// Submits, and waits until no more than [`IN_FLIGHT`] submissions are in hand.
    fn submit(&mut self, encoder: wgpu::CommandEncoder, timed: Option<(RoutineId, usize)>) -> Result<()> {
        self.in_flight.push_back(InFlight { index: self.gpu.queue.submit([encoder.finish()]), timed });
        while self.in_flight.len() > IN_FLIGHT {
            let oldest = self.in_flight.pop_front().expect("more than none");
            self.wait_for(oldest.index)?;
            let now = Instant::now();
            if let (Some(last_end), Some((routine, dispatches))) = (self.last_end.replace(now), oldest.timed) {
                self.routines[routine.0].pace.observe(dispatches, now - last_end);
            }
        }
        self.gpu.healthy()
    }

    /// What is in flight tells nothing any more of how long it takes: it may be over long before it is waited for.
    fn forget_times(&mut self) {
        self.last_end = None;
        for submission in &mut self.in_flight {
            submission.timed = None;
        }
    }

    /// The one place that waits for the GPU.
    fn wait_for(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
        let outcome = self.gpu.poll(wait);
        self.gpu.healthy()?;
        let Some(Err(error)) = outcome else { return Ok(()) };
        Err(Error::Device {
            message: format!("{} does not answer: {error}", self.gpu.name),
            hint: "go on from the last checkpoint with --resume; where it happens again, a new run with a smaller \
                   --batch-size may help"
                .into(),
        })
    }

    /// A buffer that the host can read, of at least that size; used again when its reading is collected.
    fn staging(&mut self, bytes: u64) -> Result<wgpu::Buffer> {
        match self.staging.iter().position(|buffer| buffer.size() >= bytes && buffer.size() <= 2 * bytes) {
            Some(free) => Ok(self.staging.swap_remove(free)),
            None => {
                create_buffer(&self.gpu, "staging", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
            }
        }
    }
}

impl Executor for GpuExecutor {
    fn mixed_precision(&self) -> bool {
        self.gpu.mixed_precision()
    }

    fn upload(&mut self, tensor: TensorId, values: Values<'_>) -> Result<()> {
        let info = self.program.info(tensor);
        let (element, len, bytes): (_, _, &[u8]) = match values {
            Values::F32(values) => (Element::F32, values.len(), bytemuck::cast_slice(values)),
            Values::U32(values) => (Element::U32, values.len(), bytemuck::cast_slice(values)),
            Values::U8(values) => (Element::U8, values.len(), values),
        };
        assert_eq!((element, len), (self.program.element(tensor), info.len()), "values for {}", info.name);
        let offset = (info.offset * element.bytes()) as u64;
        let buffer = self.buffer(info.buffer).clone();
        for (number, piece) in bytes.chunks(UPLOAD).enumerate() {
            let offset = offset + (number * UPLOAD) as u64;
            // Copies are made in words of four bytes.
            let (words, rest) = piece.split_at(piece.len() / 4 * 4);
            self.gpu.queue.write_buffer(&buffer, offset, words);
            if !rest.is_empty() {
                let mut last = [0; 4];
                last[..rest.len()].copy_from_slice(rest);
                self.gpu.queue.write_buffer(&buffer, offset + words.len() as u64, &last);
            }
            // Written data waits in memory of its own until something is submitted, and is in place before what is submitted
            // next. How long that takes says nothing of dispatches.
            self.forget_times();
            let encoder = self.encoder("upload");
            self.submit(encoder, None)?;
        }
        Ok(())
    }

    fn run(&mut self, routine: RoutineId, times: usize) -> Result<()> {
        let total = self.dispatch_count(routine) * times;
        let mut done = 0;
        self.forget_times();
        while done < total {
            let end = total.min(done + self.submission_size(routine));
            let mut encoder = self.encoder(&self.program.routines()[routine.0].name);
            self.encode(routine, done..end, &mut encoder, None);
            // The first one may have waited for what was there before it.
            self.submit(encoder, (done > 0).then_some((routine, end - done)))?;
            done = end;
        }
        Ok(())
    }

    fn snapshot(&mut self, tensor: TensorId) -> Result<Snapshot> {
        assert_eq!(self.program.element(tensor), Element::F32, "{} is read as f32", self.program.info(tensor).name);
        self.snapshot_words(tensor)
    }

    fn collect(&mut self, snapshot: Snapshot) -> Result<Vec<f32>> {
        Ok(self.collect_words(&snapshot)?.into_iter().map(f32::from_bits).collect())
    }

    fn counters(&mut self, tensor: TensorId) -> Result<Vec<u32>> {
        assert_eq!(self.program.element(tensor), Element::U32, "{} is read as u32", self.program.info(tensor).name);
        let snapshot = self.snapshot_words(tensor)?;
        self.collect_words(&snapshot)
    }
}

impl GpuExecutor {
    /// Encodes dispatches of a routine as one compute pass, counting on from one run of it to the next.
    fn encode(
        &self,
        routine: RoutineId,
        dispatches: Range<usize>,
        encoder: &mut wgpu::CommandEncoder,
        clock: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        let passes = &self.routines[routine.0].passes;
        encode(dispatches.map(|index| &passes[index % passes.len()]), encoder, clock);
    }

    /// Remembers a tensor of numbers of 32 bits, whatever they mean.
    fn snapshot_words(&mut self, tensor: TensorId) -> Result<Snapshot> {
        let info = self.program.info(tensor);
        let (id, len, offset) = (info.buffer, info.len(), 4 * info.offset as u64);
        let bytes = 4 * len as u64;
        let buffer = self.staging(bytes)?;
        let mut encoder = self.encoder("snapshot");
        encoder.copy_buffer_to_buffer(self.buffer(id), offset, &buffer, 0, bytes);
        self.submit(encoder, None)?;
        Ok(self.map(buffer, len))
    }

    /// Begins to read so many words of a buffer that everything submitted so far writes.
    fn map(&mut self, buffer: wgpu::Buffer, len: usize) -> Snapshot {
        let bytes = 4 * len as u64;
        let (send, mapped) = oneshot::channel();
        buffer.slice(..bytes).map_async(wgpu::MapMode::Read, move |outcome| {
            // The executor may be gone by then, and then nobody wants to know.
            let _ = send.send(outcome);
        });
        let reading = Some(Reading { buffer, len, mapped });
        let free = self.readings.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.readings.push(None);
            self.readings.len() - 1
        });
        self.readings[slot] = reading;
        Snapshot(slot)
    }

    fn collect_words(&mut self, snapshot: &Snapshot) -> Result<Vec<u32>> {
        let mut reading = self.readings[snapshot.0].take().expect("a snapshot is collected once");
        let failed = |what: String| Error::Device {
            message: format!("results cannot be read from {}: {what}", self.gpu.name),
            hint: "go on from the last checkpoint with --resume".into(),
        };
        loop {
            match reading.mapped.try_recv() {
                Ok(Some(Ok(()))) => break,
                // Where the device was lost or refused something, this is a consequence.
                Ok(Some(Err(error))) => return Err(self.gpu.healthy().err().unwrap_or(failed(error.to_string()))),
                Err(oneshot::Canceled) => {
                    return Err(self.gpu.healthy().err().unwrap_or(failed("the driver forgot them".into())));
                }
                Ok(None) => self.gpu.healthy()?,
            }
            let oldest = self.in_flight.pop_front();
            match oldest {
                Some(submission) => self.wait_for(submission.index)?,
                // Everything submitted is done, so the callback is due with this poll.
                None => drop(self.gpu.poll(wgpu::PollType::wait_indefinitely())),
            }
        }
        let range = reading.buffer.slice(..4 * reading.len as u64);
        let values =
            bytemuck::cast_slice(&range.get_mapped_range().map_err(|error| failed(error.to_string()))?).to_vec();
        reading.buffer.unmap();
        self.staging.push(reading.buffer);
        Ok(values)
    }
}

/// Encodes dispatches as one compute pass.
fn encode<'a>(
    passes: impl Iterator<Item = &'a Pass>,
    encoder: &mut wgpu::CommandEncoder,
    clock: Option<wgpu::ComputePassTimestampWrites<'_>>,
) {
    let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: clock };
    let mut compute = encoder.begin_compute_pass(&descriptor);
    for pass in passes {
        compute.set_pipeline(&pass.pipeline);
        compute.set_bind_group(0, &pass.bind_group, &[]);
        let [x, y, z] = pass.workgroups;
        compute.dispatch_workgroups(x, y, z);
    }
}

/// The pipelines of a program: one for each entry point with the same constants.
struct Pipelines {
    by_kernel: HashMap<String, wgpu::ComputePipeline>,
    bindings: HashMap<(&'static str, &'static str), Vec<Binding>>,
}

impl Pipelines {
    fn compile<'a>(gpu: &GpuDevice, dispatches: impl Iterator<Item = &'a Dispatch>) -> Result<Self> {
        let mut kernels: BTreeMap<String, &Dispatch> = BTreeMap::new();
        for dispatch in dispatches {
            kernels.entry(dispatch.kernel()).or_insert(dispatch);
        }
        let mut modules: HashMap<&'static str, (wgpu::ShaderModule, Reflection)> = HashMap::new();
        for shader in SHADERS.iter().filter(|shader| kernels.values().any(|kernel| kernel.shader == shader.name)) {
            modules.insert(shader.name, (create_module(gpu, shader), Reflection::of(shader)));
        }
        let mut bindings = HashMap::new();
        for kernel in kernels.values() {
            bindings
                .entry((kernel.shader, kernel.entry))
                .or_insert_with(|| modules[kernel.shader].1.bindings(kernel.entry));
        }
        let by_kernel = kernels
            .par_iter()
            .map(|(name, kernel)| (name.clone(), create_pipeline(gpu, &modules[kernel.shader].0, kernel)))
            .collect();
        gpu.healthy()?;
        Ok(Self { by_kernel, bindings })
    }

    fn of(&self, dispatch: &Dispatch) -> (&wgpu::ComputePipeline, &[Binding]) {
        (&self.by_kernel[&dispatch.kernel()], &self.bindings[&(dispatch.shader, dispatch.entry)])
    }
}

fn create_module(gpu: &GpuDevice, shader: &Shader) -> wgpu::ShaderModule {
    let source = gpu.compilation.replaced.get(shader.name).map_or(shader.source, |replaced| &**replaced);
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: Some(shader.name), source: wgpu::ShaderSource::Wgsl(source.into()) };
    if gpu.compilation.checked {
        return gpu.device.create_shader_module(descriptor);
    }
    // SAFETY: the shaders are this crate's own. Every index into a buffer is compared with the sizes that the host
    // derives from the tensors bound (`lower.rs`), every loop ends by a counter, no divisor is zero, and the tests run
    // each kernel at shapes that divide nothing, between guards. The checks would cost clamps in the innermost loops.
    unsafe { gpu.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

fn create_pipeline(gpu: &GpuDevice, module: &wgpu::ShaderModule, dispatch: &Dispatch) -> wgpu::ComputePipeline {
    Counters::count(&gpu.made.pipelines);
    gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&dispatch.label()),
        layout: None,
        module,
        entry_point: Some(dispatch.entry),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &dispatch.constants,
            // Every kernel writes workgroup memory before it reads it.
            zero_initialize_workgroup_memory: gpu.compilation.checked,
        },
        cache: None,
    })
}

/// A buffer of zeros, a whole number of vectors of four words long, as some shaders see it.
pub(super) fn create_buffer(
    gpu: &GpuDevice,
    name: &str,
    bytes: u64,
    usage: wgpu::BufferUsages,
) -> Result<wgpu::Buffer> {
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let size = bytes.next_multiple_of(16);
    let descriptor = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
    Counters::count(&gpu.made.buffers);
    let buffer = gpu.device.create_buffer(&descriptor);
    match pollster::block_on(scope.pop()) {
        None => Ok(buffer),
        Some(_) => Err(Error::OutOfMemory {
            tensor: name.to_string(),
            bytes: size,
            device: gpu.name.clone(),
            hint: "end other programs that use the GPU, or choose another device with --device".into(),
        }),
    }
}
