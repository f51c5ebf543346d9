//! The lists of a program's manifest: kernels, buffers with their initial values, dispatches. `docs/program-format.md` defines them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::ops::Range;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use half::f16;
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::gpu::{self, KernelSet, Resource};
use crate::program::{Access, BufferId, Element, Executor, Op, Program, RoutineId, Snapshot, Tensor, TensorId, Values};
use crate::train::Gan;

/// The exponent of the largest power of two in f16.
const LARGEST_F16_EXPONENT: f32 = 15.0;

/// How the values of f32 of a buffer are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    /// With all digits.
    F32,
    /// As f16.
    F16,
    /// As the f16 of their square roots, for Adam's second moments: their range is too wide for f16.
    F16Roots,
    /// Not at all: they begin with zeros.
    Zeros,
}

/// The buffers of a program in the memory of this process. Nothing runs.
pub(super) struct InitialMemory<'a> {
    program: &'a Program,
    /// The bytes of each buffer that something was uploaded to.
    buffers: Vec<Option<Vec<u8>>>,
}

impl<'a> InitialMemory<'a> {
    pub(super) fn new(program: &'a Program) -> Self {
        Self { program, buffers: vec![None; program.buffers().len()] }
    }

    /// Gives zeros to the buffers that operations read and do not write, or of which they leave a tensor as it is: a gradient
    /// penalty has no gradient for biases, for example.
    pub(super) fn zero_unwritten(&mut self) {
        let mut touched: Vec<(BufferId, Range<usize>, Access)> = Vec::new();
        for op in self.program.routines().iter().flat_map(|routine| &routine.ops) {
            touched.extend(op.operands().iter().map(|operand| {
                let info = self.program.info(operand.tensor);
                (info.buffer, info.range(), operand.access)
            }));
        }
        let is_whole = |tensor: &Tensor| {
            let parts = self.program.tensors().iter().filter(|other| other.buffer == tensor.buffer);
            parts.into_iter().any(|other| other.len() < tensor.len() && tensor.range().contains(&other.offset))
        };
        for tensor in self.program.tensors().iter().filter(|tensor| !is_whole(tensor)) {
            let range = tensor.range();
            let mut touches = touched.iter().filter(|(buffer, ..)| *buffer == tensor.buffer);
            let is_read = touches.clone().any(|(_, other, access)| {
                *access != Access::Write && other.start < range.end && range.start < other.end
            });
            let is_written = touches.any(|(_, other, access)| {
                *access != Access::Read && other.start <= range.start && range.end <= other.end
            });
            if is_read && !is_written {
                let size = self.program.buffers()[tensor.buffer.index()].bytes() as usize;
                self.buffers[tensor.buffer.index()].get_or_insert_with(|| vec![0; size]);
            }
        }
    }

    /// The values of the whole buffer of a tensor, which something was uploaded to.
    pub(super) fn floats(&self, tensor: TensorId) -> Vec<f32> {
        let bytes = self.buffers[self.program.info(tensor).buffer.index()].as_deref();
        floats(bytes.expect("the buffer has initial values")).collect()
    }
}

impl Executor for InitialMemory<'_> {
    fn upload(&mut self, tensor: TensorId, values: Values<'_>) -> Result<()> {
        let info = self.program.info(tensor);
        let bytes: &[u8] = match values {
            Values::F32(values) => bytemuck::cast_slice(values),
            Values::U32(values) => bytemuck::cast_slice(values),
            Values::U8(values) => values,
        };
        let size = self.program.buffers()[info.buffer.index()].bytes() as usize;
        let start = info.offset * self.program.element(tensor).bytes();
        let buffer = self.buffers[info.buffer.index()].get_or_insert_with(|| vec![0; size]);
        buffer[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn run(&mut self, _: RoutineId, _: usize) -> Result<()> {
        unreachable!("an export runs nothing")
    }

    fn snapshot(&mut self, _: TensorId) -> Result<Snapshot> {
        unreachable!("an export computes nothing")
    }

    fn collect(&mut self, _: Snapshot) -> Result<Vec<f32>> {
        unreachable!("an export computes nothing")
    }

    fn counters(&mut self, _: TensorId) -> Result<Vec<u32>> {
        unreachable!("an export computes nothing")
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().expect("four bytes")))
}

/// Values as f16, and the power of two that each is multiplied by after it is read: the largest one is then near the largest f16, and
/// small ones keep their digits.
pub(super) fn to_f16(values: &[f32]) -> (Vec<f16>, f32) {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = if largest > 0.0 { (largest.log2().floor() - LARGEST_F16_EXPONENT + 1.0).exp2() } else { 1.0 };
    (values.iter().map(|value| f16::from_f32(value / scale)).collect(), scale)
}

/// The lists of a manifest, while they grow.
pub(super) struct ManifestWriter<'a> {
    gan: &'a Gan,
    buffers: Vec<Value>,
    blobs: Vec<String>,
    /// Scratch memory by its name: the index of the buffer.
    scratch: BTreeMap<&'static str, usize>,
    /// Tables by their contents: the index of the buffer.
    tables: HashMap<Vec<u32>, usize>,
    kernels: Vec<Value>,
    /// The index of each kernel, and the network whose learning rate it has.
    kernel_of: HashMap<(String, Option<&'static str>), usize>,
    knobs: BTreeMap<String, Vec<Value>>,
    routines: Map<String, Value>,
    /// The same routines with the kernels for adapters that compute on the CPU.
    cpu_routines: Map<String, Value>,
    tensors: Map<String, Value>,
}

impl<'a> ManifestWriter<'a> {
    /// Begins a manifest with the buffers of a program. `precision` is asked for the buffers that have initial values.
    pub(super) fn new(gan: &'a Gan, memory: &InitialMemory<'_>, precision: impl Fn(usize) -> Precision) -> Self {
        let mut writer = Self {
            gan,
            buffers: Vec::new(),
            blobs: Vec::new(),
            scratch: BTreeMap::new(),
            tables: HashMap::new(),
            kernels: Vec::new(),
            kernel_of: HashMap::new(),
            knobs: BTreeMap::new(),
            routines: Map::new(),
            cpu_routines: Map::new(),
            tensors: Map::new(),
        };
        for (index, (buffer, initial)) in gan.program.buffers().iter().zip(&memory.buffers).enumerate() {
            let bytes = buffer.bytes().next_multiple_of(4);
            let element = match buffer.element {
                Element::F32 => "f32",
                Element::U32 => "u32",
                Element::U8 => "u8",
            };
            let mut entry = json!({ "name": buffer.name, "bytes": bytes, "element": element });
            if let Some(values) = initial {
                let precision = if buffer.element == Element::F32 { precision(index) } else { Precision::F32 };
                let mut values = values.clone();
                values.resize(bytes as usize, 0);
                entry["initial"] = match precision {
                    Precision::F32 => writer.blob(&values, element),
                    Precision::F16 => writer.f16_blob(&floats(&values).collect::<Vec<f32>>()),
                    Precision::F16Roots => {
                        let roots: Vec<f32> = floats(&values).map(|value| value.max(0.0).sqrt()).collect();
                        let mut initial = writer.f16_blob(&roots);
                        initial["squared"] = true.into();
                        initial
                    }
                    Precision::Zeros => writer.blob(&vec![0; values.len()], element),
                };
            }
            writer.buffers.push(entry);
        }
        writer
    }

    fn blob(&mut self, bytes: &[u8], encoding: &str) -> Value {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        let packed = packed.write_all(bytes).and_then(|()| packed.finish()).expect("memory takes what is written");
        self.blobs.push(BASE64_STANDARD.encode(packed));
        json!({ "blob": self.blobs.len() - 1, "encoding": encoding })
    }

    fn f16_blob(&mut self, values: &[f32]) -> Value {
        let (values, scale) = to_f16(values);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut initial = self.blob(&bytes, "f16");
        initial["scale"] = scale.into();
        initial
    }

    /// Adds the dispatches of a routine, for GPUs and for adapters that compute on the CPU.
    pub(super) fn routine(&mut self, name: &str, ops: &[Op]) {
        let dispatches = self.dispatches(ops, KernelSet::Portable);
        self.routines.insert(name.into(), dispatches);
        let dispatches = self.dispatches(ops, KernelSet::Direct);
        self.cpu_routines.insert(name.into(), dispatches);
    }

    fn dispatches(&mut self, ops: &[Op], kernels: KernelSet) -> Value {
        let dispatches = gpu::lower(ops, &self.gan.program, kernels).into_iter().map(|dispatch| {
            let kernel = self.kernel(&dispatch);
            let places = dispatch.bindings.iter().map(|(variable, resource)| (&variable.name, self.place(resource)));
            let bind: BTreeMap<_, _> = places.collect();
            json!({ "kernel": kernel, "workgroups": dispatch.workgroups, "bind": bind })
        });
        dispatches.collect()
    }

    /// The index of a dispatch's kernel. Adam of each network has a kernel of its own, for its learning rate is a knob.
    fn kernel(&mut self, dispatch: &gpu::Dispatch) -> usize {
        let networks = [("generator", &self.gan.generator), ("discriminator", &self.gan.discriminator)];
        let updates = |params| dispatch.resource("param") == Some(&Resource::Tensor(params));
        let network = networks.into_iter().find(|(_, network)| updates(network.params())).map(|(name, _)| name);
        let network = network.filter(|_| dispatch.shader == "adam");
        let key = (dispatch.kernel(), network);
        if let Some(&known) = self.kernel_of.get(&key) {
            return known;
        }
        let index = self.kernels.len();
        let constants: BTreeMap<_, _> = dispatch.overrides.iter().copied().collect();
        let numbers = dispatch.bindings.iter().map(|(variable, _)| (&variable.name, variable.number));
        let bindings: BTreeMap<_, _> = numbers.collect();
        self.kernels.push(json!({
            "shader": dispatch.shader, "entry": dispatch.entry, "constants": constants, "bindings": bindings,
        }));
        if let Some(network) = network {
            let knob = self.knobs.entry(format!("{network} learning rate")).or_default();
            knob.push(json!({ "kernel": index, "constant": "LR" }));
        }
        self.kernel_of.insert(key, index);
        index
    }

    /// The index of the buffer of what a dispatch binds, and the offset in bytes.
    fn place(&mut self, resource: &Resource) -> [usize; 2] {
        match resource {
            &Resource::Tensor(tensor) => {
                let info = self.gan.program.info(tensor);
                [info.buffer.index(), info.offset * self.gan.program.element(tensor).bytes()]
            }
            Resource::Scratch(name, range) => {
                let index = *self.scratch.entry(name).or_insert_with(|| {
                    self.buffers.push(json!({ "name": format!("scratch.{name}"), "bytes": 0, "element": "f32" }));
                    self.buffers.len() - 1
                });
                let bytes = self.buffers[index]["bytes"].as_u64().unwrap_or(0).max(4 * range.end as u64);
                self.buffers[index]["bytes"] = bytes.into();
                [index, 4 * range.start]
            }
            Resource::Table(numbers) => {
                if let Some(&index) = self.tables.get(numbers) {
                    return [index, 0];
                }
                let bytes: &[u8] = bytemuck::cast_slice(numbers);
                let initial = self.blob(bytes, "u32");
                let entry = json!({ "name": "table", "bytes": bytes.len(), "element": "u32", "initial": initial });
                self.buffers.push(entry);
                self.tables.insert(numbers.clone(), self.buffers.len() - 1);
                [self.buffers.len() - 1, 0]
            }
        }
    }

    /// Lists a tensor under a name, and returns the name.
    pub(super) fn tensor(&mut self, name: &str, tensor: TensorId) -> String {
        let info = self.gan.program.info(tensor);
        self.elements(name, tensor, 0, &info.shape)
    }

    /// Lists the elements of a tensor from number `first` on, as a tensor of that shape, and returns its name.
    pub(super) fn elements(&mut self, name: &str, tensor: TensorId, first: usize, shape: &[usize]) -> String {
        let info = self.gan.program.info(tensor);
        let offset = (info.offset + first) * self.gan.program.element(tensor).bytes();
        let entry = json!({ "buffer": info.buffer.index(), "offset": offset, "shape": shape });
        self.tensors.insert(name.into(), entry);
        name.into()
    }

    /// The largest buffer: its name and its size in bytes.
    pub(super) fn largest_buffer(&self) -> (&str, u64) {
        let size = |buffer: &&Value| buffer["bytes"].as_u64().unwrap_or(0);
        let largest = self.buffers.iter().max_by_key(size).expect("a program has buffers");
        (largest["name"].as_str().unwrap_or_default(), size(&largest))
    }

    /// The manifest. `gan` says what the routines and tensors are for, and `fresh` how fresh weights are drawn.
    pub(super) fn finish(self, gan: &Value, fresh: &[Value]) -> Value {
        let used: BTreeSet<&str> = self.kernels.iter().filter_map(|kernel| kernel["shader"].as_str()).collect();
        let shaders = gpu::SHADERS.iter().filter(|shader| used.contains(shader.name));
        let shaders: BTreeMap<&str, &str> = shaders.map(|shader| (shader.name, shader.source)).collect();
        json!({
            "format": "gpu-gan program",
            "version": 1,
            "shaders": shaders,
            "kernels": self.kernels,
            "buffers": self.buffers,
            "blobs": self.blobs,
            "routines": self.routines,
            "cpu_routines": self.cpu_routines,
            "tensors": self.tensors,
            "knobs": self.knobs,
            "fresh": fresh,
            "gan": gan,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_keeps_eleven_binary_digits_of_large_and_small_values() {
        let values = [70_000.0, -3.0e9, 1.0e3, 0.0, 5.0e9];
        let (halves, scale) = to_f16(&values);
        for (half, value) in halves.iter().zip(values) {
            assert!((half.to_f32() * scale - value).abs() <= value.abs() / 2048.0, "{value}");
        }
        assert!(to_f16(&[0.0, 0.0]).0.iter().all(|half| half.to_f32().abs() < f32::MIN_POSITIVE));
        let (tiny, scale) = to_f16(&[1.0e-9, 3.0e-10]);
        assert!((tiny[1].to_f32() * scale - 3.0e-10).abs() <= 3.0e-10 / 2048.0);
        assert!(tiny.iter().all(|half| half.is_finite()));
    }
}
