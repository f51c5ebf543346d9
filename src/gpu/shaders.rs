//! The shaders, and what naga reads in them: which binding each tensor of an entry point has.

use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module};

/// A WGSL file of `shaders/`.
pub struct Shader {
    /// The file's name without its ending; its twin has the same. Where there are several of one file, each has its own.
    pub name: &'static str,
    /// What is compiled: the file, between those that it needs. Sizes of arrays that depend on overrides come behind all overrides, as
    /// naga wants it.
    pub source: &'static str,
}

macro_rules! shader {
    ($name:literal is $file:literal $(, after $library:literal)* $(, before $rest:literal)*) => {
        Shader {
            name: $name,
            source: concat!(
                $(include_str!(concat!("../../shaders/", $library, ".wgsl")), "\n",)*
                include_str!(concat!("../../shaders/", $file, ".wgsl")),
                $("\n", include_str!(concat!("../../shaders/", $rest, ".wgsl")),)*
            ),
        }
    };
    ($name:literal $($rest:tt)*) => { shader!($name is $name $($rest)*) };
}

/// Every shader.
pub const SHADERS: &[Shader] = &[
    shader!("activation", after "function"),
    shader!("adam", after "random", after "share"),
    shader!("augment", after "random"),
    shader!("batch", after "random"),
    shader!("batch_norm", after "function"),
    shader!("bias"),
    shader!("class"),
    shader!("clock"),
    shader!("concat"),
    shader!("conv", after "function", before "tile"),
    shader!("conv_lanes", after "function"),
    shader!("conv_matrices_8" is "conv", after "matrices_8", after "function", before "matrices"),
    shader!("conv_matrices_16" is "conv", after "matrices_16", after "function", before "matrices"),
    shader!("cross_entropy"),
    shader!("diff_augment", after "random"),
    shader!("dropout", after "random"),
    shader!("ema", after "share"),
    shader!("fill"),
    shader!("labels", after "random"),
    shader!("loss"),
    shader!("max_pool"),
    shader!("minibatch_deviation"),
    shader!("mix", after "random"),
    shader!("noise", after "random"),
    shader!("pack"),
    shader!("penalty"),
    shader!("spectral_norm"),
    shader!("upsample"),
];

/// A tensor of a shader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Its name in WGSL, which is the operand's name in the operation.
    pub name: String,
    /// Its number in group 0.
    pub number: u32,
}

/// A shader as naga understands it.
pub(super) struct Reflection {
    pub(super) module: Module,
    pub(super) info: ModuleInfo,
}

impl Reflection {
    pub(super) fn of(shader: &Shader) -> Self {
        let module = naga::front::wgsl::parse_str(shader.source)
            .unwrap_or_else(|error| panic!("{}", error.emit_to_string_with_path(shader.source, shader.name)));
        let capabilities = Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
        let info = Validator::new(ValidationFlags::all(), capabilities)
            .validate(&module)
            .unwrap_or_else(|error| panic!("{}", error.emit_to_string_with_path(shader.source, shader.name)));
        Self { module, info }
    }

    /// The entry points, in the order of the file.
    pub(super) fn entry_points(&self) -> impl Iterator<Item = &str> {
        self.module.entry_points.iter().map(|entry| entry.name.as_str())
    }

    /// The tensors that an entry point uses.
    pub(super) fn bindings(&self, entry: &str) -> Vec<Binding> {
        let index = self.entry_points().position(|name| name == entry);
        let index = index.unwrap_or_else(|| panic!("no entry point is called {entry}"));
        let uses = self.info.get_entry_point(index);
        self.module
            .global_variables
            .iter()
            .filter(|(handle, variable)| {
                matches!(variable.space, AddressSpace::Storage { .. }) && uses[*handle] != GlobalUse::empty()
            })
            .map(|(_, variable)| Binding {
                name: variable.name.clone().expect("tensors of shaders have names"),
                number: variable.binding.as_ref().expect("tensors of shaders have bindings").binding,
            })
            .collect()
    }
}

/// Every entry point with the tensors it uses, as (shader, entry point, bindings); without those that a shader only has because
/// another one of the same file has them: matrices multiply no few columns.
pub fn entry_points() -> Vec<(&'static str, String, Vec<Binding>)> {
    let mut list = Vec::new();
    for shader in SHADERS {
        let reflection = Reflection::of(shader);
        let idle = |entry: &str| shader.name.starts_with("conv_matrices") && entry.starts_with("thin_");
        for entry in reflection.entry_points().filter(|entry| !idle(entry)) {
            list.push((shader.name, entry.to_string(), reflection.bindings(entry)));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_shader_file_is_in_the_table_and_has_the_twin_that_its_header_names() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = BTreeSet::new();
        for entry in std::fs::read_dir(root.join("shaders")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_string();
            let text = std::fs::read_to_string(&path).unwrap();
            let twin =
                text.lines().find_map(|line| line.strip_prefix("// Twin      ")).expect("a header with its twin");
            // Kernels for one kind of adapter have the twin of those that run everywhere.
            let twin_name = match name.as_str() {
                "function" => "activation",
                "share" => "ema",
                "tile" | "matrices" | "matrices_8" | "matrices_16" => "conv",
                other => other.strip_suffix("_lanes").unwrap_or(other),
            };
            assert!(twin.ends_with(&format!("/{twin_name}.rs")), "{twin} is not called {twin_name}.rs");
            assert!(root.join(twin).is_file(), "{name}.wgsl names {twin}, which is not there");
            files.insert(name);
        }
        let variant = |name: &str| name.starts_with("conv_matrices");
        let table = SHADERS.iter().map(|shader| shader.name.to_string()).filter(|name| !variant(name));
        let table: BTreeSet<String> = table.collect();
        for library in ["function", "random", "share", "tile", "matrices", "matrices_8", "matrices_16"] {
            files.remove(library); // compiled as part of others
        }
        assert_eq!(files, table);
    }

    #[test]
    fn no_entry_point_uses_more_than_eight_tensors_which_every_adapter_has_room_for() {
        for (shader, entry, bindings) in entry_points() {
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
