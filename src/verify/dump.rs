//! Failing cases as files: inputs, results, references and kernels, for the people who write drivers and for
//! [`Replay`](super::Replay).

use std::fs;
use std::path::{Path, PathBuf};

use super::Case;
use super::case::{OperandValues, WrittenTensor};
use super::case_file::{CaseFile, CaseKey, DispatchEntry, OperandEntry};
use crate::error::{Error, Result, bytes_for_people};
use crate::files;
use crate::gpu::{Dispatch, GpuDevice, Resource};
use crate::program::{Access, Device, Operand};
use crate::progress::Console;
use crate::report::arrays::write_array;

/// The largest size of all arrays of a dump, in bytes. Further cases are written without arrays, which a replay computes again.
const MAX_ARRAY_BYTES: u64 = 1 << 30;

/// A folder of failing cases, each of which is a folder.
pub(super) struct Dump {
    /// The folder; it is created for the first case.
    folder: PathBuf,
    /// The number of cases so far.
    count: usize,
    /// The bytes of all arrays so far.
    array_bytes: u64,
    /// The number of cases without arrays because of [`MAX_ARRAY_BYTES`].
    without_arrays: usize,
}

impl Dump {
    /// A dump without cases.
    ///
    /// # Errors
    ///
    /// If the folder is not empty, or cannot be created.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        files::check_folder(folder)?;
        if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::Request {
                message: format!("{} already exists and is not empty", folder.display()),
                hint: "choose another folder with --dump, or remove that one".into(),
            });
        }
        Ok(Self { folder: folder.into(), count: 0, array_bytes: 0, without_arrays: 0 })
    }

    /// Writes a failing case. `written` is empty if the case could not run.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub(super) fn add_case(
        &mut self,
        key: &CaseKey,
        complaints: &[String],
        case: &Case,
        gpu: &GpuDevice,
        written: &[WrittenTensor],
    ) -> Result<()> {
        let folder = self.next_folder(&key.name)?;
        let arrays: Vec<String> = case
            .operands()
            .iter()
            .enumerate()
            .map(|(index, (operand, _))| format!("{index}-{}", operand.name))
            .collect();
        // An input has four bytes an element, a result four, and its reference in f64 eight.
        let elements = |operand: &Operand| case.program().info(operand.tensor).len() as u64;
        let inputs: u64 = case.operands().iter().map(|(operand, _)| 4 * elements(operand)).sum();
        let results: u64 = written.iter().map(|tensor| 12 * tensor.got.len() as u64).sum();
        let with_arrays = self.array_bytes + inputs + results <= MAX_ARRAY_BYTES;
        if with_arrays {
            self.array_bytes += inputs + results;
            write_arrays(&folder, case, &arrays, written)?;
        } else {
            self.without_arrays += 1;
        }
        let mut dispatches = Vec::new();
        for (number, dispatch) in case.dispatches_on(gpu).iter().enumerate() {
            dispatches.push(write_kernel(&folder, number + 1, dispatch, &arrays, case, gpu)?);
        }
        let operands = case.operands().iter().zip(arrays).map(|((operand, _), array)| OperandEntry {
            array,
            tensor: operand.tensor.0,
            shape: case.program().shape(operand.tensor).to_vec(),
            access: access_name(operand.access).into(),
        });
        let file = CaseFile {
            operations: case.ops().iter().map(|op| format!("{op:?}")).collect(),
            operands: operands.collect(),
            dispatches,
            arrays: with_arrays,
            ..description(key, complaints, gpu)
        };
        file.write(&folder)
    }

    /// Writes a failing case of whole steps, which has no operands.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub(super) fn add_step(&mut self, key: &CaseKey, complaints: &[String], gpu: &GpuDevice) -> Result<()> {
        let folder = self.next_folder(&key.name)?;
        description(key, complaints, gpu).write(&folder)
    }

    /// Prints where the cases are.
    pub(super) fn finish(self, console: &Console) {
        let folder = self.folder.display();
        match self.count {
            0 => console.message(&format!("dump     no case failed, so {folder} was not written")),
            1 => console.message(&format!("dump     {folder}, 1 failing case")),
            count => console.message(&format!("dump     {folder}, {count} failing cases")),
        }
        if self.without_arrays > 0 {
            console.message(&format!(
                "dump     {} cases are without their arrays, which would exceed {}; `gpu-gan verify --replay` computes them again",
                self.without_arrays,
                bytes_for_people(MAX_ARRAY_BYTES)
            ));
        }
    }

    /// Creates the folder of the next case: `0001-conv`.
    fn next_folder(&mut self, name: &str) -> Result<PathBuf> {
        self.count += 1;
        // Names of operations have no other characters, and the names of several are joined by +.
        let operation = name.split(['/', '+']).next().unwrap_or_default();
        let folder = self.folder.join(format!("{:04}-{operation}", self.count));
        files::create_folder(&folder)?;
        Ok(folder)
    }
}

/// The description of a failure, without its operations.
fn description(key: &CaseKey, complaints: &[String], gpu: &GpuDevice) -> CaseFile {
    let mut adapter = serde_json::to_value(gpu.adapter()).expect("plain data has a JSON form");
    adapter["vendor"] = format!("{:#06x}", gpu.vendor()).into();
    CaseFile { adapter, mixed_precision: gpu.mixed_precision(), ..CaseFile::new(key, complaints) }
}

/// Writes the arrays of the operands: `inputs` before the operations, `got` and `wanted` after them.
fn write_arrays(folder: &Path, case: &Case, arrays: &[String], written: &[WrittenTensor]) -> Result<()> {
    let [inputs, got, wanted] = ["inputs", "got", "wanted"].map(|name| folder.join(name));
    files::create_folder(&inputs)?;
    for ((operand, _), array) in case.operands().iter().zip(arrays) {
        if operand.access == Access::Write {
            continue;
        }
        let (path, shape) = (inputs.join(format!("{array}.npy")), case.program().shape(operand.tensor));
        match case.values_of(operand) {
            OperandValues::F32(values) => write_array(&path, &values, shape)?,
            OperandValues::U32(values) => write_array(&path, &values, shape)?,
            OperandValues::U8(values) => write_array(&path, &values, shape)?,
        }
    }
    if written.is_empty() {
        return Ok(());
    }
    files::create_folder(&got)?;
    files::create_folder(&wanted)?;
    for tensor in written {
        let shape = case.program().shape(case.operands()[tensor.operand].0.tensor);
        let file = format!("{}.npy", arrays[tensor.operand]);
        write_array(&got.join(&file), &tensor.got, shape)?;
        write_array(&wanted.join(&file), &tensor.wanted, shape)?;
    }
    Ok(())
}

/// Writes the kernel of a dispatch, in WGSL and, for a Vulkan device, in SPIR-V.
fn write_kernel(
    folder: &Path,
    number: usize,
    dispatch: &Dispatch,
    arrays: &[String],
    case: &Case,
    gpu: &GpuDevice,
) -> Result<DispatchEntry> {
    let wgsl = format!("{}.wgsl", dispatch.shader);
    files::write_bytes(&folder.join(&wgsl), gpu.wgsl(dispatch.shader).as_bytes())?;
    let mut spirv = None;
    if let Some(words) = gpu.spirv(dispatch) {
        let file = format!("{number}-{}.spv", dispatch.label());
        files::write_bytes(&folder.join(&file), bytemuck::cast_slice(&words))?;
        spirv = Some(file);
    }
    let bindings = dispatch.bindings.iter().map(|(variable, resource)| {
        let bound = match resource {
            Resource::Tensor(tensor) => {
                let info = case.program().info(*tensor);
                let of = |operand: &Operand| case.program().info(operand.tensor).buffer == info.buffer;
                let operand =
                    case.operands().iter().position(|(operand, _)| of(operand)).expect("a dispatch binds operands");
                format!("{} from element {}", arrays[operand], info.offset)
            }
            Resource::Scratch(name, range) => format!("elements {}..{} of scratch {name}", range.start, range.end),
            Resource::Table(numbers) => format!("table {numbers:?}"),
        };
        (variable.name.clone(), bound)
    });
    Ok(DispatchEntry {
        wgsl,
        spirv,
        entry: dispatch.entry.into(),
        overrides: dispatch.overrides.iter().map(|&(name, value)| (name.into(), value)).collect(),
        workgroups: dispatch.workgroups,
        bindings: bindings.collect(),
    })
}

fn access_name(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::Update => "update",
    }
}
