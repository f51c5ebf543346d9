//! The list of dispatches of a training step. No test here needs a GPU.

use std::collections::BTreeSet;
use std::path::Path;

use gpu_gan::gpu::{DispatchList, KernelSet, Resource, lower};
use gpu_gan::net::Model;
use gpu_gan::program::Program;
use gpu_gan::train::{Gan, Settings};
use gpu_gan::verify::{Scope, cases_of};

/// The program of a model at its own batch size, on 60,000 images.
fn gan(model: &str) -> Gan {
    let model = Model::named(model).unwrap();
    Gan::new(&model, &Settings::bare(&model, 60_000, model.training.batch_size), 60_000)
}

#[test]
fn the_dispatches_of_a_step_are_those_of_the_golden_lists() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for model in ["dcgan-small", "dcgan-fast"] {
        let gan = gan(model);
        let list = format!("{}\n", DispatchList::new(&gan.program, gan.step, KernelSet::Portable));
        let path = folder.join(format!("dispatches-{model}.txt"));
        if std::env::var_os("GPU_GAN_WRITE_GOLDEN").is_some() {
            std::fs::write(&path, &list).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert!(
            list == golden,
            "a step of {model} is no longer that of {} (GPU_GAN_WRITE_GOLDEN=1 renews it):\n{list}",
            path.display()
        );
    }
}

/// With the kernels of GPUs, with those of software adapters with subgroups, and with those of other software adapters, whose products leave no
/// statistics for batch normalisation.
#[test]
fn a_step_has_as_many_dispatches_as_the_documents_say() {
    let kernel_sets = [KernelSet::Portable, KernelSet::Lanes, KernelSet::Direct];
    for (model, known) in [("dcgan-fast", [43, 47, 51]), ("dcgan-small", [53, 54, 66])] {
        let gan = gan(model);
        let counts = kernel_sets.map(|kernels| DispatchList::new(&gan.program, gan.step, kernels).dispatches.len());
        assert_eq!(counts, known, "{model}");
    }
}

/// Dispatches compute several operations where these share no buffer.
#[test]
fn tensors_that_share_buffers_keep_all_operations_fused() {
    for model in ["dcgan-small", "dcgan-fast", "dcgan-r1", "dcgan-64"] {
        let (gan, sharing) = (gan(model), gan(model).sharing_buffers());
        assert!(sharing.program.buffers().len() < gan.program.buffers().len());
        let routines = [Some(gan.step), gan.penalised_step.map(|penalised| penalised.step), Some(gan.sheet.routine)];
        for routine in routines.into_iter().flatten() {
            for kernels in [KernelSet::Portable, KernelSet::Lanes, KernelSet::Direct] {
                let dispatches = |program: &Program| lower(&program.routine(routine).ops, program, kernels);
                assert!(dispatches(&sharing.program) == dispatches(&gan.program), "{model}, {kernels:?}");
            }
        }
    }
}

/// A variable that nothing is bound to has scratch memory of its own name. If that is so in every dispatch, its binding was forgotten.
#[test]
fn every_variable_of_every_shader_is_bound_to_something_in_some_dispatch() {
    let models: Vec<Model> = Model::built_in().map(|name| Model::named(name).unwrap()).collect();
    let cases = cases_of(&models, Scope::Quick);
    let matrices = [8, 16].map(|side| KernelSet::CooperativeMatrices { side, subgroup: 32 });
    let (mut used, mut bound) = (BTreeSet::new(), BTreeSet::new());
    for kernels in [KernelSet::Portable, KernelSet::Direct, KernelSet::Lanes].into_iter().chain(matrices) {
        for dispatch in cases.iter().flat_map(|case| case.dispatches(kernels)) {
            for (variable, resource) in &dispatch.bindings {
                let variable = (dispatch.shader, variable.name.as_str());
                used.insert(variable);
                if !matches!(resource, Resource::Scratch(name, range) if *name == variable.1 && *range == (0..4)) {
                    bound.insert(variable);
                }
            }
        }
    }
    assert!(used.len() > 100, "{} variables", used.len());
    let unbound: Vec<_> = used.difference(&bound).collect();
    assert!(unbound.is_empty(), "nothing is ever bound to {unbound:?}");
}

/// Mesa before 25.1 ends all loops of an invocation after 65,535 iterations. That does not shape what GPUs run: tests on software adapters run
/// the same products with shorter sums.
#[test]
fn no_invocation_of_a_shipped_models_products_comes_near_mesas_limit_of_iterations() {
    const DEPTH: usize = 16; // terms of a stage
    let mut longest = 0;
    for model in Model::built_in() {
        let program = gan(model).program;
        for dispatch in
            program.routines().iter().flat_map(|routine| lower(&routine.ops, &program, KernelSet::PortableOnSoftware))
        {
            // Products of few columns have no tiles, and short sums.
            let (Some(_), Some(terms)) = (dispatch.value("TX"), dispatch.value("SPLIT_DEPTH")) else { continue };
            for shape in (0..=dispatch.tile_shapes.len()).map(|number| dispatch.with_tile_shape(number)) {
                let [x, y, down, across, lanes] = ["TX", "TY", "DOWN", "ACROSS", "LANES"]
                    .map(|name| shape.value(name).map_or(1, |value| value as usize));
                let vectors = |side: usize| 4 * (4 * side).div_ceil(lanes);
                // The stage itself and one that it skips, the vectors that it loads, each of up to four loads, and the product. The first
                // workgroups of a gradient of weights also sum up the columns of each stage.
                let of_stage = 2 + 5 * vectors(y * down) + 4 * vectors(x * across) + 2 * DEPTH;
                longest = longest.max(terms as usize / DEPTH * of_stage);
            }
        }
    }
    assert!((10_000..65_535 - 200).contains(&longest), "{longest} iterations");
}

/// Without scaling, gradients of a mean over a batch lose most of their digits when they are rounded to f16.
#[test]
fn mixed_precision_scales_gradients_before_it_rounds_them_and_nothing_else() {
    let kernels = KernelSet::CooperativeMatrices { side: 16, subgroup: 32 };
    let (mut gradients, mut others) = (0, 0);
    let program = gan("dcgan-small").program;
    let ops = program.routines().iter().flat_map(|routine| &routine.ops).cloned().collect::<Vec<_>>();
    for dispatch in lower(&ops, &program, kernels) {
        for (scale, operand) in [("SCALE_A", "left"), ("SCALE_B", "right")] {
            let Some(scale) = dispatch.value(scale) else { continue };
            let Some(&Resource::Tensor(tensor)) = dispatch.resource(operand) else { panic!("{dispatch:?}") };
            let name = &program.info(tensor).name;
            let is_gradient = [".dx ", ".grad"].iter().any(|part| name.contains(part));
            let images = program.nhwc(tensor)[0].next_power_of_two();
            assert_eq!(scale as usize, if is_gradient { 16 * images } else { 1 }, "{name}");
            *(if is_gradient { &mut gradients } else { &mut others }) += 1;
        }
    }
    assert!(gradients > 5 && others > 10, "{gradients} gradients, {others} others");
}
