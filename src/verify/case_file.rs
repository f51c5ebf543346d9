//! The file that describes a failing case in a folder of `gpu-gan verify --dump`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Scope;
use crate::error::{Error, Result};
use crate::files;

/// The name of the file in the folder of a case.
pub(super) const CASE_FILE: &str = "case.json";

/// The value of [`CaseFile::format`].
const FORMAT: &str = "gpu-gan verify case 1";

/// The largest size of the file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What identifies a case on a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CaseKey {
    /// The name of the case, as `gpu-gan verify --list` prints it.
    pub(super) name: String,
    /// The scope that has the case.
    pub(super) scope: Scope,
    /// The seed of the operands' values.
    pub(super) seed: u64,
    /// The variant of the device that ran the case; none for the device itself.
    pub(super) variant: Option<String>,
}

/// A failing case. [`Replay`](super::Replay) finds it again by its key and the shapes of its operands, and computes the same inputs
/// from the seed. The other fields are for people and for other programs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CaseFile {
    /// [`FORMAT`].
    pub(super) format: String,
    /// The version of this program.
    pub(super) version: String,
    /// The case.
    #[serde(flatten)]
    pub(super) key: CaseKey,
    /// Descriptions of the errors.
    pub(super) complaints: Vec<String>,
    /// The adapter: name, driver, limits and features.
    pub(super) adapter: serde_json::Value,
    /// Whether the device computed in mixed precision.
    pub(super) mixed_precision: bool,
    /// The operations with their settings; none for a whole step.
    pub(super) operations: Vec<String>,
    /// The operands of all operations.
    pub(super) operands: Vec<OperandEntry>,
    /// The dispatches, in order.
    pub(super) dispatches: Vec<DispatchEntry>,
    /// Whether the folder has the arrays `inputs`, `got` and `wanted`.
    pub(super) arrays: bool,
}

/// An operand of a case.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OperandEntry {
    /// The name of its array in the folders `inputs`, `got` and `wanted`, without the ending.
    pub(super) array: String,
    /// The number that the operations have for its tensor.
    pub(super) tensor: usize,
    /// The length of each dimension.
    pub(super) shape: Vec<usize>,
    /// Whether the operations read, write or update it.
    pub(super) access: String,
}

/// A dispatch of a case.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DispatchEntry {
    /// The file of the shader in WGSL.
    pub(super) wgsl: String,
    /// The file of the kernel in SPIR-V; none if the device is not a Vulkan device.
    pub(super) spirv: Option<String>,
    /// The entry point.
    pub(super) entry: String,
    /// Values of the shader's overrides.
    pub(super) overrides: BTreeMap<String, f64>,
    /// The number of workgroups along x, y and z.
    pub(super) workgroups: [usize; 3],
    /// What is bound to the shader's variables.
    pub(super) bindings: BTreeMap<String, String>,
}

impl CaseFile {
    /// A description without operations, as of a whole step.
    pub(super) fn new(key: &CaseKey, complaints: &[String]) -> Self {
        Self {
            format: FORMAT.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            key: key.clone(),
            complaints: complaints.to_vec(),
            adapter: serde_json::Value::Null,
            mixed_precision: false,
            operations: Vec::new(),
            operands: Vec::new(),
            dispatches: Vec::new(),
            arrays: false,
        }
    }

    /// Writes the file into the folder of a case.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain data has a JSON form");
        files::write_bytes(&folder.join(CASE_FILE), text.as_bytes())
    }

    /// Reads the file in the folder of a case.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is larger than 1 MiB, or is not a description of a case.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CASE_FILE);
        let failed = || Error::file("read", &path);
        let foreign = |problem: String| Error::Request {
            message: format!("{} does not describe a case of `gpu-gan verify --dump`: {problem}", path.display()),
            hint: "give a folder that `gpu-gan verify --dump DIR` wrote, unchanged".into(),
        };
        let size = fs::metadata(&path).map_err(failed())?.len();
        if size > MAX_BYTES {
            return Err(foreign(format!("{size} bytes exceed the limit of {MAX_BYTES}")));
        }
        let text = fs::read_to_string(&path).map_err(failed())?;
        let file: Self = serde_json::from_str(&text).map_err(|error| foreign(error.to_string()))?;
        if file.format == FORMAT { Ok(file) } else { Err(foreign(format!("its format is {:?}", file.format))) }
    }
}
