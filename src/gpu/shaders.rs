//! The shaders, and what naga reads in them: which binding each tensor of an entry point has.

use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module};

/// A WGSL file of `shaders/`.
pub struct Shader {
    /// The file's name without its ending; its twin has the same.
    pub name: &'static str,
    /// What is compiled: the file, behind those that it needs in front.
    pub source: &'static str,
}

macro_rules! shader {
    ($name:literal $(, after $library:literal)*) => {
        Shader {
            name: $name,
            source: concat!(
                $(include_str!(concat!("../../shaders/", $library, ".wgsl")), "\n",)*
                include_str!(concat!("../../shaders/", $name, ".wgsl"))
            ),
        }
    };
}

/// Every shader.
pub const SHADERS: &[Shader] = &[
    shader!("activation", after "function"),
    shader!("adam"),
    shader!("augment", after "random"),
    shader!("batch", after "random"),
    shader!("batch_norm", after "function"),
    shader!("bias"),
    shader!("clock"),
    shader!("concat"),
    shader!("conv"),
    shader!("conv_lanes"),
    shader!("cross_entropy"),
    shader!("dropout", after "random"),
    shader!("labels", after "random"),
    shader!("loss"),
    shader!("max_pool"),
    shader!("moving_average"),
    shader!("noise", after "random"),
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
    module: Module,
    info: ModuleInfo,
}

impl Reflection {
    pub(super) fn of(shader: &Shader) -> Self {
        let module = naga::front::wgsl::parse_str(shader.source)
            .unwrap_or_else(|error| panic!("{}", error.emit_to_string_with_path(shader.source, shader.name)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP)
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

/// Every entry point with the tensors it uses, as (shader, entry point, bindings).
pub fn entry_points() -> Vec<(&'static str, String, Vec<Binding>)> {
    let mut list = Vec::new();
    for shader in SHADERS {
        let reflection = Reflection::of(shader);
        for entry in reflection.entry_points() {
            list.push((shader.name, entry.to_string(), reflection.bindings(entry)));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use naga::back::pipeline_constants::process_overrides;
    use naga::back::{hlsl, msl};

    use super::super::lower::{Dispatch, Kernels, lower};
    use super::*;
    use crate::net::Model;
    use crate::program::Program;
    use crate::train::{Augment, Gan, Settings};

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
            let twin_name =
                if name == "function" { "activation" } else { name.strip_suffix("_lanes").unwrap_or(&name) };
            assert!(twin.ends_with(&format!("/{twin_name}.rs")), "{twin} is not called {twin_name}.rs");
            assert!(root.join(twin).is_file(), "{name}.wgsl names {twin}, which is not there");
            files.insert(name);
        }
        let table: BTreeSet<String> = SHADERS.iter().map(|shader| shader.name.to_string()).collect();
        for library in ["function", "random"] {
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

    /// Where the tests run there is neither Metal nor DX12, but what their drivers are given can be made anywhere.
    #[test]
    fn every_kernel_of_every_shipped_model_and_of_the_judges_translates_for_metal_and_dx12() {
        let mut translated = BTreeSet::new();
        let mut translate_all = |program: &Program| {
            for dispatch in program.routines().iter().flat_map(|it| lower(&it.ops, program, Kernels::Portable)) {
                if translated.insert(format!("{} {} {:?}", dispatch.shader, dispatch.entry, dispatch.constants)) {
                    translate(&dispatch);
                }
            }
        };
        translate_all(&crate::metrics::lesson([28, 28, 1], 10));
        for model in Model::built_in().map(|name| Model::named(name).unwrap()) {
            let augment = Augment { rotate: 20.0, flip: true, quarter_turns: model.image[0] == model.image[1] };
            let settings = Settings { augment, ..Settings::bare(&model, 10, model.training.batch_size) };
            translate_all(&Gan::new(&model, &settings, 10).program);
        }
        assert!(translated.len() > 50, "{} kernels", translated.len());
    }

    fn translate(dispatch: &Dispatch) {
        let shader = SHADERS.iter().find(|shader| shader.name == dispatch.shader).unwrap();
        let Reflection { module, info } = Reflection::of(shader);
        let entry_point = (naga::ShaderStage::Compute, dispatch.entry);
        let constants = dispatch.constants.iter().map(|&(name, value)| (name.to_string(), value)).collect();
        let (module, info) = process_overrides(&module, &info, Some(entry_point), &constants)
            .unwrap_or_else(|error| panic!("{dispatch:?}: {error}"));

        let entry_point = Some((naga::ShaderStage::Compute, dispatch.entry.to_string()));
        let pipeline = msl::PipelineOptions { entry_point: entry_point.clone(), ..Default::default() };
        let (text, _) = msl::write_string(&module, &info, &msl::Options::default(), &pipeline)
            .unwrap_or_else(|error| panic!("{dispatch:?} for Metal: {error}"));
        assert!(text.contains("kernel void"), "{dispatch:?} for Metal: {text}");

        let (mut text, options) = (String::new(), hlsl::Options::default());
        let pipeline = hlsl::PipelineOptions { entry_point };
        hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|error| panic!("{dispatch:?} for DX12: {error}"));
        assert!(text.contains("numthreads"), "{dispatch:?} for DX12: {text}");
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
