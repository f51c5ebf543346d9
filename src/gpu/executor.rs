//! A program on a GPU: buffers, pipelines and bind groups, created once, and routines, replayed as submissions.

mod timing;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use futures::channel::oneshot;

use super::device::{Created, GpuDevice, buffer_size, create_buffer};
use super::lower::{self, Dispatch, Resource};
use super::pipelines::Pipelines;
use super::shaders::{Binding, KernelSet};
use super::submission::SubmissionSize;
use crate::error::{Error, Result};
use crate::program::{BufferId, Device, Element, Executor, Program, RoutineId, Snapshot, TensorId, Values};

/// Submissions in flight: the GPU finds the next one when it has finished one.
const MAX_IN_FLIGHT: usize = 2;
/// The most bytes of an upload in one submission. wgpu copies them to memory of its own first, so a large upload in one piece would
/// need its size again.
const UPLOAD_CHUNK: usize = 16 << 20;
/// How long a submission may take before the GPU counts as hung.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A program on a GPU, ready to run.
pub struct GpuExecutor {
    gpu: GpuDevice,
    program: Program,
    buffers: Vec<wgpu::Buffer>,
    scratch: BTreeMap<&'static str, wgpu::Buffer>,
    /// The buffers of tables, by their contents.
    tables: BTreeMap<Vec<u32>, wgpu::Buffer>,
    routines: Vec<PreparedRoutine>,
    in_flight: VecDeque<InFlight>,
    /// When the submission before the oldest one in flight ended, if that was observed.
    last_end: Option<Instant>,
    reads: Vec<Option<PendingRead>>,
    /// Buffers that the host can read, for use again.
    staging: Vec<wgpu::Buffer>,
}

/// A routine, ready to be encoded.
struct PreparedRoutine {
    dispatches: Vec<PreparedDispatch>,
    submission_size: SubmissionSize,
}

/// A submission that the GPU has not finished.
struct InFlight {
    index: wgpu::SubmissionIndex,
    /// The routine and the number of its dispatches, where their duration is to be observed.
    timed: Option<(RoutineId, usize)>,
}

/// A dispatch, ready to be encoded.
struct PreparedDispatch {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
}

/// A snapshot on its way to the host.
struct PendingRead {
    buffer: wgpu::Buffer,
    len: usize,
    mapped: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

/// What to do where a program is too large for a device; the writer of the program may know something better.
const OTHER_DEVICE: &str = "choose another device with --device (see `gpu-gan devices`), or a smaller model";

impl GpuDevice {
    /// A program on this device: [`Device::build`] without the box.
    pub fn executor(&self, program: &Program) -> Result<GpuExecutor> {
        self.check(program)?;
        GpuExecutor::new(self.clone(), program)
    }
}

impl Device for GpuDevice {
    fn description(&self) -> String {
        self.name.clone()
    }

    /// Shaders address the bytes of images with 32 bits, whatever the size of a buffer.
    fn max_image_bytes(&self) -> u64 {
        self.largest_buffer().0.min(u64::from(u32::MAX))
    }

    fn mixed_precision(&self) -> bool {
        matches!(self.kernels, KernelSet::CooperativeMatrices { .. })
    }

    fn check(&self, program: &Program) -> Result<()> {
        let (limit, limit_name) = self.largest_buffer();
        let check_buffer = |name: &str, bytes: u64| {
            if buffer_size(bytes) <= limit {
                return Ok(());
            }
            let (tensor, device) = (name.to_string(), self.name.clone());
            Err(Error::TooLarge { tensor, bytes, limit, limit_name, device, hint: OTHER_DEVICE.into() })
        };
        for buffer in program.buffers() {
            check_buffer(&buffer.name, buffer.bytes())?;
        }
        let most_workgroups = self.device.limits().max_compute_workgroups_per_dimension;
        let routines = program.routines().iter();
        for group in routines.flat_map(|routine| lower::groups(&routine.ops, program, self.kernels)) {
            for dispatch in &group.dispatches {
                for (_, resource) in &dispatch.bindings {
                    if let Resource::Scratch(name, range) = resource {
                        check_buffer(name, 4 * range.end as u64)?;
                    }
                }
                if let Some(&count) = dispatch.workgroups.iter().find(|&&count| count > most_workgroups as usize) {
                    return Err(Error::Device {
                        message: format!(
                            "{} of {} needs {count} workgroups along one dimension, but {} allows {most_workgroups} \
                             (max_compute_workgroups_per_dimension)",
                            group.ops[0].name(),
                            program.info(group.ops[0].operands()[0].tensor).name,
                            self.name
                        ),
                        hint: OTHER_DEVICE.into(),
                    });
                }
            }
        }
        Ok(())
    }

    fn build(&self, program: &Program) -> Result<Box<dyn Executor>> {
        Ok(Box::new(self.executor(program)?))
    }
}

impl GpuExecutor {
    fn new(gpu: GpuDevice, program: &Program) -> Result<Self> {
        let lowered: Vec<Vec<Dispatch>> =
            program.routines().iter().map(|routine| gpu.lower(&routine.ops, program)).collect();

        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let mut buffers = Vec::with_capacity(program.buffers().len());
        for buffer in program.buffers() {
            buffers.push(create_buffer(&gpu, &buffer.name, buffer.bytes(), usage)?);
        }
        let (mut scratch_len, mut tables) = (BTreeMap::new(), BTreeMap::new());
        for (_, resource) in lowered.iter().flatten().flat_map(|dispatch| &dispatch.bindings) {
            match resource {
                Resource::Tensor(_) => {}
                Resource::Scratch(name, range) => {
                    let largest = scratch_len.entry(*name).or_insert(0);
                    *largest = range.end.max(*largest);
                }
                Resource::Table(numbers) if tables.contains_key(numbers) => {}
                Resource::Table(numbers) => {
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
            reads: Vec::new(),
            staging: Vec::new(),
        };
        let lowered = executor.choose_tile_shapes(&lowered)?;
        let pipelines = Pipelines::compile(&executor.gpu, lowered.iter().flatten())?;
        for dispatches in &lowered {
            let dispatches =
                dispatches.iter().map(|dispatch| executor.prepare_dispatch(&pipelines, dispatch)).collect();
            let submission_size = SubmissionSize::new(executor.gpu.submission_target);
            executor.routines.push(PreparedRoutine { dispatches, submission_size });
        }
        executor.gpu.healthy()?;
        Ok(executor)
    }

    /// Overwrites every tensor of f32 and all scratch memory with NaN, so that a test notices an element that is not written.
    pub fn poison(&mut self) {
        let floats = self.program.buffers().iter().zip(&self.buffers);
        let floats = floats.filter(|(info, _)| info.element == Element::F32).map(|(_, buffer)| buffer);
        for buffer in floats.chain(self.scratch.values()) {
            let poison = vec![f32::NAN; buffer.size() as usize / 4];
            self.gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&poison));
        }
    }

    /// The number of buffers of this executor, including those that results are read through. Running routines does not add any.
    pub fn buffer_count(&self) -> usize {
        let staging = self.staging.len() + self.reads.iter().flatten().count();
        self.buffers.len() + self.scratch.len() + self.tables.len() + staging
    }

    /// The number of dispatches of one run of a routine.
    pub fn dispatch_count(&self, routine: RoutineId) -> usize {
        self.routines[routine.0].dispatches.len()
    }

    /// The most dispatches in the next submission of a routine, so that it takes about 20 ms on a GPU. It is found by timing
    /// submissions of the same routine: a light routine says nothing about a heavy one.
    pub fn submission_size(&self, routine: RoutineId) -> usize {
        self.routines[routine.0].submission_size.dispatches()
    }

    /// Waits until the GPU has finished every submission.
    pub fn finish(&mut self) -> Result<()> {
        while let Some(submission) = self.in_flight.pop_front() {
            self.wait_for(&submission.index)?;
        }
        self.gpu.healthy()
    }

    fn prepare_dispatch(&self, pipelines: &Pipelines, dispatch: &Dispatch) -> PreparedDispatch {
        let pipeline = pipelines.of(dispatch);
        let entry = |(variable, resource): &(&Binding, Resource)| wgpu::BindGroupEntry {
            binding: variable.number,
            resource: self.binding_resource(resource),
        };
        let entries: Vec<_> = dispatch.bindings.iter().map(entry).collect();
        Created::count(&self.gpu.created.bind_groups);
        let bind_group = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&dispatch.label()),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let workgroups = dispatch.workgroups.map(|groups| u32::try_from(groups).expect("checked against the limits"));
        PreparedDispatch { pipeline: pipeline.clone(), bind_group, workgroups }
    }

    /// A tensor is bound from its first element to the end of its buffer: a shader that writes too far then changes the guard behind
    /// the tensor, where drivers that check bounds would hide the mistake behind a narrower binding.
    fn binding_resource(&self, resource: &Resource) -> wgpu::BindingResource<'_> {
        let (buffer, offset) = match resource {
            Resource::Tensor(tensor) => {
                let info = self.program.info(*tensor);
                (self.buffer(info.buffer), info.offset * self.program.element(*tensor).bytes())
            }
            Resource::Scratch(name, range) => (&self.scratch[name], 4 * range.start),
            Resource::Table(numbers) => (&self.tables[numbers], 0),
        };
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: offset as u64, size: None })
    }

    /// What a dispatch writes: each resource, its first word in its buffer and its words.
    fn written(&self, dispatch: &Dispatch) -> Vec<(Resource, usize, usize)> {
        let written = dispatch.bindings.iter().filter(|(variable, _)| variable.written);
        let range = |resource: &Resource| match resource {
            Resource::Tensor(tensor) => self.program.info(*tensor).range(),
            Resource::Scratch(_, range) => range.clone(),
            Resource::Table(_) => unreachable!("tables are read only"),
        };
        written.map(|(_, resource)| (resource.clone(), range(resource).start, range(resource).len())).collect()
    }

    fn buffer(&self, id: BufferId) -> &wgpu::Buffer {
        &self.buffers[id.0]
    }

    fn encoder(&self, label: &str) -> wgpu::CommandEncoder {
        self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(label) })
    }

    /// Submits, and waits until no more than [`MAX_IN_FLIGHT`] submissions are in flight.
    fn submit(&mut self, encoder: wgpu::CommandEncoder, timed: Option<(RoutineId, usize)>) -> Result<()> {
        self.in_flight.push_back(InFlight { index: self.gpu.queue.submit([encoder.finish()]), timed });
        while self.in_flight.len() > MAX_IN_FLIGHT {
            let oldest = self.in_flight.pop_front().expect("more than none");
            self.wait_for(&oldest.index)?;
            let now = Instant::now();
            if let (Some(last_end), Some((routine, dispatches))) = (self.last_end.replace(now), oldest.timed) {
                self.routines[routine.0].submission_size.observe(dispatches, now - last_end);
            }
        }
        self.gpu.healthy()
    }

    /// Stops observing the submissions in flight: they may end long before the host waits for them.
    fn discard_timings(&mut self) {
        self.last_end = None;
        for submission in &mut self.in_flight {
            submission.timed = None;
        }
    }

    /// Waits for a submission, for at most [`TIMEOUT`]. OpenGL cuts each wait at 2.1 s, so it waits again.
    fn wait_for(&self, submission: &wgpu::SubmissionIndex) -> Result<()> {
        let begin = Instant::now();
        loop {
            let remaining = TIMEOUT.saturating_sub(begin.elapsed());
            let wait = wgpu::PollType::Wait { submission_index: Some(submission.clone()), timeout: Some(remaining) };
            let outcome = self.gpu.poll(wait);
            self.gpu.healthy()?;
            match outcome {
                None | Some(Ok(_)) => return Ok(()),
                Some(Err(wgpu::PollError::Timeout)) if begin.elapsed() < TIMEOUT => {}
                Some(Err(error)) => {
                    return Err(Error::Device {
                        message: format!("{} does not respond: {error}", self.gpu.name),
                        hint: "resume from the last checkpoint with --resume; if it happens again, start a new run with a \
                               smaller --batch-size"
                            .into(),
                    });
                }
            }
        }
    }

    /// A buffer of at least `bytes` bytes that the host can read. It is used again once its snapshot is collected.
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
        for (number, chunk) in bytes.chunks(UPLOAD_CHUNK).enumerate() {
            let offset = offset + (number * UPLOAD_CHUNK) as u64;
            // wgpu copies whole words of four bytes.
            let (words, rest) = chunk.split_at(chunk.len() / 4 * 4);
            self.gpu.queue.write_buffer(&buffer, offset, words);
            if !rest.is_empty() {
                let mut last = [0; 4];
                last[..rest.len()].copy_from_slice(rest);
                self.gpu.queue.write_buffer(&buffer, offset + words.len() as u64, &last);
            }
            // wgpu holds the data in staging memory until the next submission, and copies it before that submission runs. How long
            // that takes says nothing about dispatches.
            self.discard_timings();
            let encoder = self.encoder("upload");
            self.submit(encoder, None)?;
        }
        Ok(())
    }

    fn run(&mut self, routine: RoutineId, times: usize) -> Result<()> {
        let total = self.dispatch_count(routine) * times;
        let mut done = 0;
        self.discard_timings();
        while done < total {
            let end = total.min(done + self.submission_size(routine));
            let mut encoder = self.encoder(&self.program.routines()[routine.0].name);
            self.encode(routine, done..end, &mut encoder, None);
            // The first one may wait for earlier submissions.
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
    /// Encodes dispatches of a routine as one compute pass. Indices continue from one run of the routine to the next.
    fn encode(
        &self,
        routine: RoutineId,
        dispatches: Range<usize>,
        encoder: &mut wgpu::CommandEncoder,
        timestamps: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        let prepared = &self.routines[routine.0].dispatches;
        encode(dispatches.map(|index| &prepared[index % prepared.len()]), encoder, timestamps);
    }

    /// A snapshot of a tensor of f32 or u32.
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

    /// Starts to read the first `len` words of a buffer, after every submission so far.
    fn map(&mut self, buffer: wgpu::Buffer, len: usize) -> Snapshot {
        let bytes = 4 * len as u64;
        let (send, mapped) = oneshot::channel();
        buffer.slice(..bytes).map_async(wgpu::MapMode::Read, move |outcome| {
            // The executor, and so the receiver, may be dropped by then.
            let _ = send.send(outcome);
        });
        let read = Some(PendingRead { buffer, len, mapped });
        let free = self.reads.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.reads.push(None);
            self.reads.len() - 1
        });
        self.reads[slot] = read;
        Snapshot(slot)
    }

    fn collect_words(&mut self, snapshot: &Snapshot) -> Result<Vec<u32>> {
        let mut read = self.reads[snapshot.0].take().expect("a snapshot is collected once");
        let failed = |what: String| Error::Device {
            message: format!("results cannot be read from {}: {what}", self.gpu.name),
            hint: "resume from the last checkpoint with --resume".into(),
        };
        loop {
            match read.mapped.try_recv() {
                Ok(Some(Ok(()))) => break,
                // An earlier error of the device is the cause.
                Ok(Some(Err(error))) => return Err(self.gpu.healthy().err().unwrap_or(failed(error.to_string()))),
                Err(oneshot::Canceled) => {
                    return Err(self.gpu.healthy().err().unwrap_or(failed("the driver dropped the request".into())));
                }
                Ok(None) => self.gpu.healthy()?,
            }
            let oldest = self.in_flight.pop_front();
            match oldest {
                Some(submission) => self.wait_for(&submission.index)?,
                // Every submission is done, so this poll runs the callback.
                None => drop(self.gpu.poll(wgpu::PollType::wait_indefinitely())),
            }
        }
        let range = read.buffer.slice(..4 * read.len as u64);
        let values =
            bytemuck::cast_slice(&range.get_mapped_range().map_err(|error| failed(error.to_string()))?).to_vec();
        read.buffer.unmap();
        self.staging.push(read.buffer);
        Ok(values)
    }
}

/// Encodes dispatches as one compute pass.
fn encode<'a>(
    dispatches: impl Iterator<Item = &'a PreparedDispatch>,
    encoder: &mut wgpu::CommandEncoder,
    timestamps: Option<wgpu::ComputePassTimestampWrites<'_>>,
) {
    let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: timestamps };
    let mut compute = encoder.begin_compute_pass(&descriptor);
    for dispatch in dispatches {
        compute.set_pipeline(&dispatch.pipeline);
        compute.set_bind_group(0, &dispatch.bind_group, &[]);
        let [x, y, z] = dispatch.workgroups;
        compute.dispatch_workgroups(x, y, z);
    }
}
