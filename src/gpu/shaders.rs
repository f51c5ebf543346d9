//! The shaders: one table of what is compiled, and what naga reads in them: which binding each tensor of an entry point has.

use std::sync::OnceLock;

use naga::valid::{Capabilities, FunctionInfo, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, BuiltIn, GlobalVariable, Handle, Module};

use super::adapters::{Adapter, AdapterFeatures, AdapterKind};
use crate::error::{Error, Result};

/// A row of [`SHADERS`]: a source that is compiled as a whole.
pub struct Shader {
    /// Its name: that of the file with its entry points, or that with a suffix where several shaders share the file.
    pub name: &'static str,
    /// The text of its files, one after the other. naga wants arrays whose sizes depend on overrides behind all overrides, so some
    /// files follow the one with the entry points.
    pub source: &'static str,
    /// The file in `src/cpu/` that computes the same in plain Rust.
    pub twin: &'static str,
    /// The adapters that run it.
    pub runs_on: RunsOn,
    /// The source as naga understands it, once it was asked for.
    reflection: OnceLock<Reflection>,
}

/// Which adapters run a shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsOn {
    /// All adapters.
    All,
    /// Software adapters with subgroups of 8 lanes.
    SoftwareInLanes,
    /// Other software adapters.
    OtherSoftware,
    /// Adapters that were opened with mixed precision, by the side of their cooperative matrices.
    CooperativeMatrices(usize),
}

/// Lanes of a subgroup of the kernels for software adapters, as in `conv_lanes.wgsl`.
const LANES: u32 = 8;

/// Which kernels a device runs, where there are several for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelSet {
    /// The kernels for every adapter: matrix products with tiles in workgroup memory, by many invocations.
    Portable,
    /// As [`KernelSet::Portable`], with sums so short that Mesa before 25.1 ends no loop too early: for tests of these kernels on adapters that
    /// compute on the CPU.
    PortableOnSoftware,
    /// Matrix products without workgroup memory, for adapters that compute on the CPU and pay for each invocation at each barrier; all
    /// else as [`KernelSet::Portable`].
    Direct,
    /// Matrix products with tiles in registers, for adapters that compute on the CPU in vectors of eight; all else as
    /// [`KernelSet::Portable`].
    Lanes,
    /// Larger matrix products of numbers rounded to f16, by cooperative matrices; all else as [`KernelSet::Portable`].
    CooperativeMatrices {
        /// Rows and columns of a matrix, 8 or 16.
        side: usize,
        /// Invocations of every subgroup.
        subgroup: usize,
    },
}

impl KernelSet {
    /// The kernels that run on an adapter.
    ///
    /// # Errors
    ///
    /// If `mixed_precision` is asked of an adapter that cannot compute in it.
    pub fn of(adapter: &Adapter, mixed_precision: bool) -> Result<Self> {
        let AdapterFeatures { subgroups, mixed_precision: side, .. } = adapter.features;
        match (adapter.kind, subgroups, side) {
            (_, Some([subgroup, _]), Some(side)) if mixed_precision => {
                Ok(Self::CooperativeMatrices { side: side as usize, subgroup: subgroup as usize })
            }
            _ if mixed_precision => Err(Error::Device {
                message: format!(
                    "{adapter} cannot compute in mixed precision: that needs cooperative matrices of f16 and subgroups of one \
                     size"
                ),
                hint: "leave out --mixed-precision; `gpu-gan devices` lists what each device can do".into(),
            }),
            (AdapterKind::Software, Some([LANES, LANES]), _) => Ok(Self::Lanes),
            (AdapterKind::Software, ..) => Ok(Self::Direct),
            _ => Ok(Self::Portable),
        }
    }

    /// Whether these kernels include some of a shader.
    pub fn uses(self, shader: &str) -> bool {
        match Shader::named(shader).runs_on {
            RunsOn::All => true,
            RunsOn::SoftwareInLanes => self == Self::Lanes,
            RunsOn::OtherSoftware => self == Self::Direct,
            RunsOn::CooperativeMatrices(of) => matches!(self, Self::CooperativeMatrices { side, .. } if side == of),
        }
    }
}

macro_rules! files {
    ($($file:literal),+) => { concat!($(include_str!(concat!("../../shaders/", $file, ".wgsl")), "\n"),+) };
}

macro_rules! shaders {
    ($($name:literal from $($file:literal),+; twin $twin:literal; on $adapters:expr;)+) => {
        [$(Shader {
            name: $name,
            source: files!($($file),+),
            twin: concat!("src/cpu/", $twin, ".rs"),
            runs_on: $adapters,
            reflection: OnceLock::new(),
        }),+]
    };
}

/// Every shader.
pub static SHADERS: &[Shader] = &TABLE;

#[rustfmt::skip]
static TABLE: [Shader; 32] = shaders! {
    "activation" from "function", "activation"; twin "activation"; on RunsOn::All;
    "adapt_augment" from "adapt_augment"; twin "diff_augment"; on RunsOn::All;
    "adam" from "random", "share", "adam"; twin "adam"; on RunsOn::All;
    "augment" from "random", "augment"; twin "augment"; on RunsOn::All;
    "batch" from "random", "batch"; twin "batch"; on RunsOn::All;
    "batch_norm" from "function", "workgroup_sums", "batch_norm"; twin "batch_norm"; on RunsOn::All;
    "bias" from "workgroup_sums", "bias"; twin "bias"; on RunsOn::All;
    "class" from "class"; twin "class"; on RunsOn::All;
    "clock" from "clock"; twin "clock"; on RunsOn::All;
    "concat" from "concat"; twin "concat"; on RunsOn::All;
    "conv" from "function", "conv_sizes", "conv", "conv_epilogue", "conv_narrow", "conv_bias", "tile"; twin "conv"; on RunsOn::All;
    "conv_lanes" from "function", "conv_sizes", "conv_lanes"; twin "conv"; on RunsOn::SoftwareInLanes;
    "conv_direct" from "function", "conv_sizes", "conv_direct"; twin "conv"; on RunsOn::OtherSoftware;
    "conv_matrices_8" from "matrices_8", "function", "conv_sizes", "conv", "conv_epilogue", "conv_bias", "matrices"; twin "conv"; on RunsOn::CooperativeMatrices(8);
    "conv_matrices_16" from "matrices_16", "function", "conv_sizes", "conv", "conv_epilogue", "conv_bias", "matrices"; twin "conv"; on RunsOn::CooperativeMatrices(16);
    "cross_entropy" from "workgroup_sums", "cross_entropy"; twin "cross_entropy"; on RunsOn::All;
    "diff_augment" from "random", "workgroup_sums", "diff_augment"; twin "diff_augment"; on RunsOn::All;
    "dropout" from "random", "dropout"; twin "dropout"; on RunsOn::All;
    "ema" from "share", "ema"; twin "ema"; on RunsOn::All;
    "fill" from "fill"; twin "fill"; on RunsOn::All;
    "horner" from "horner"; twin "horner"; on RunsOn::All;
    "labels" from "random", "labels"; twin "labels"; on RunsOn::All;
    "loss" from "workgroup_sums", "loss"; twin "loss"; on RunsOn::All;
    "max_pool" from "max_pool"; twin "max_pool"; on RunsOn::All;
    "minibatch_deviation" from "workgroup_sums", "minibatch_deviation"; twin "minibatch_deviation"; on RunsOn::All;
    "mix" from "random", "mix"; twin "mix"; on RunsOn::All;
    "noise" from "random", "noise"; twin "noise"; on RunsOn::All;
    "pack" from "pack"; twin "pack"; on RunsOn::All;
    "partials" from "function", "workgroup_sums", "partials"; twin "conv"; on RunsOn::All;
    "penalty" from "workgroup_sums", "penalty"; twin "penalty"; on RunsOn::All;
    "spectral_norm" from "workgroup_sums", "spectral_norm"; twin "spectral_norm"; on RunsOn::All;
    "upsample" from "upsample"; twin "upsample"; on RunsOn::All;
};

impl Shader {
    /// The shader of that name.
    pub(super) fn named(name: &str) -> &'static Self {
        SHADERS.iter().find(|shader| shader.name == name).unwrap_or_else(|| panic!("no shader is called {name}"))
    }

    /// The source as naga understands it.
    pub(super) fn reflection(&self) -> &Reflection {
        self.reflection.get_or_init(|| Reflection::of(self.name, self.source).unwrap_or_else(|error| panic!("{error}")))
    }
}

/// A tensor that an entry point uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Its name in WGSL, which is the operand's name in the operation.
    pub name: String,
    /// Its number in bind group 0.
    pub number: u32,
    /// Whether the entry point reads it.
    pub read: bool,
    /// Whether the entry point writes it.
    pub written: bool,
}

/// A source as naga understands it.
pub(super) struct Reflection {
    pub(super) module: Module,
    pub(super) info: ModuleInfo,
    /// What each entry point uses, in the order of the source.
    entry_points: Vec<EntryPoint>,
}

/// What an entry point uses.
struct EntryPoint {
    name: String,
    /// The tensors.
    bindings: Vec<Binding>,
    /// Whether it asks for the number of workgroups.
    asks_for_workgroups: bool,
}

impl Reflection {
    /// A source as naga understands it.
    ///
    /// # Errors
    ///
    /// naga's message with the place in the source, if it is invalid.
    pub(super) fn of(name: &str, source: &str) -> Result<Self, String> {
        let module =
            naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string_with_path(source, name))?;
        let capabilities = Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
        let info = Validator::new(ValidationFlags::all(), capabilities)
            .validate(&module)
            .map_err(|error| error.emit_to_string_with_path(source, name))?;
        let workgroups = Some(naga::Binding::BuiltIn(BuiltIn::NumWorkGroups));
        let entry_points = module.entry_points.iter().enumerate().map(|(number, entry)| EntryPoint {
            name: entry.name.clone(),
            bindings: bindings(&module, info.get_entry_point(number)),
            asks_for_workgroups: entry.function.arguments.iter().any(|argument| argument.binding == workgroups),
        });
        Ok(Self { entry_points: entry_points.collect(), module, info })
    }

    fn entry_point(&self, name: &str) -> &EntryPoint {
        let found = self.entry_points.iter().find(|entry| entry.name == name);
        found.unwrap_or_else(|| panic!("no entry point is called {name}"))
    }

    /// The tensors that an entry point uses.
    pub(super) fn bindings(&self, entry: &str) -> &[Binding] {
        &self.entry_point(entry).bindings
    }

    /// Whether any number of workgroups along x computes the result of an entry point, by grid-stride loops. Those ask for that number, and
    /// nothing else does.
    pub(super) fn is_strided(&self, entry: &str) -> bool {
        self.entry_point(entry).asks_for_workgroups
    }
}

/// The tensors that an entry point uses.
fn bindings(module: &Module, uses: &FunctionInfo) -> Vec<Binding> {
    let tensors = module.global_variables.iter().filter(|(handle, variable)| {
        matches!(variable.space, AddressSpace::Storage { .. }) && uses[*handle] != GlobalUse::empty()
    });
    let binding = |(handle, variable): (Handle<GlobalVariable>, &GlobalVariable)| Binding {
        name: variable.name.clone().expect("tensors of shaders have names"),
        number: variable.binding.as_ref().expect("tensors of shaders have bindings").binding,
        read: uses[handle].contains(GlobalUse::READ),
        written: uses[handle].contains(GlobalUse::WRITE),
    };
    tensors.map(binding).collect()
}

/// Every entry point that some program runs, as (shader, entry point).
pub fn entry_points() -> Vec<(&'static str, &'static str)> {
    let of_shader = |shader: &'static Shader| {
        let entry_points = shader.reflection().entry_points.iter();
        entry_points.map(|entry| (shader.name, entry.name.as_str()))
    };
    SHADERS.iter().flat_map(of_shader).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_shader_file_is_in_the_table_with_the_twin_that_its_header_names() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(root.join("shaders")).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let twin =
                text.lines().find_map(|line| line.strip_prefix("// Twin      ")).expect("a header names the twin");
            assert!(root.join(twin).is_file(), "{twin} does not exist");
            let mut used_by = SHADERS.iter().filter(|shader| shader.source.contains(&text)).peekable();
            assert!(
                used_by.peek().is_some(),
                "no shader is composed of the file that begins with {:?}",
                text.lines().next()
            );
            if text.contains("@compute") {
                assert!(used_by.all(|shader| shader.twin == twin), "the table names another twin than {twin}");
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = SHADERS.iter().map(|shader| shader.name).collect();
        assert_eq!(names.len(), SHADERS.len());
    }

    #[test]
    fn no_entry_point_uses_more_than_eight_tensors_which_every_adapter_has_room_for() {
        for (shader, entry) in entry_points() {
            let bindings = Shader::named(shader).reflection().bindings(entry);
            assert!((1..=8).contains(&bindings.len()), "{shader} {entry}: {bindings:?}");
        }
    }

    #[test]
    fn only_this_room_names_wgpu_and_the_devices_do_not_know_each_other() {
        fn visit(folder: &std::path::Path, check: &dyn Fn(&str, &str)) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    visit(&path, check);
                } else {
                    check(path.to_str().unwrap(), &std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        visit(&root, &|path, text| {
            let room = std::path::Path::new(path).strip_prefix(&root).unwrap().iter().next().unwrap();
            if room != "gpu" {
                assert!(!text.contains("wgpu::"), "{path} names wgpu");
            }
            for (one, other) in [("gpu", "cpu"), ("cpu", "gpu")] {
                assert!(room != one || !text.contains(&format!("crate::{other}")), "{path} knows the {other} room");
            }
        });
    }
}
