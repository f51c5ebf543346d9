//! The cases of a scope, their names, and the variants of a device on which they run.

use std::collections::HashMap;

use super::cases::{awkward, long, of_models};
use super::{Case, Scope};
use crate::gpu::GpuDevice;
use crate::net::{Model, Summary};

/// The model whose whole step [`Scope::Quick`] checks.
const QUICK_MODEL: &str = "dcgan-fast";

/// The largest number of floating-point operations in the step of a model whose operations [`Scope::Quick`] checks.
const QUICK_FLOPS: u64 = 1_000_000_000;

/// The largest number of floating-point operations of a checked whole step; larger models use a smaller batch.
const STEP_FLOPS: u64 = 7_000_000_000;

/// The end of the name of an integer twin, after the name of its case.
const INTEGERS: &str = "/integers";

/// The label of the variant of a device with the portable kernels.
const PORTABLE: &str = "portable kernels";

/// The label of the variant of a device with an alternative tile shape, before the number of the tile shape.
const TILE_SHAPE: &str = "tile shape ";

/// A case with its name, unique among the cases of a scope.
pub(super) struct NamedCase {
    /// The name.
    pub(super) name: String,
    /// The case.
    pub(super) case: Case,
}

/// Cases of the same program: a case and its integer twin, if it has one. They run one after the other on one executor, so a twin
/// compiles nothing.
pub(super) struct CaseGroup {
    /// The cases, of which there is at least one.
    pub(super) cases: Vec<NamedCase>,
    /// Whether the cases are also run on variants of the device: other kernels and other tile shapes.
    on_variants: bool,
}

/// Cases of the same program on the device or on a variant of it.
pub(super) struct PlannedGroup<'a> {
    /// The cases, of which there is at least one.
    pub(super) cases: Vec<&'a NamedCase>,
    /// The kernels or the tile shape of the variant; none for the device itself.
    pub(super) variant: Option<String>,
    /// The device or its variant.
    pub(super) gpu: GpuDevice,
}

/// Every case of a scope, without the integer twins.
pub fn cases_of(models: &[Model], scope: Scope) -> Vec<Case> {
    unnamed(models, scope).map(|(case, _)| case).collect()
}

/// The cases of a scope, and whether they are also run on variants of the device.
fn unnamed(models: &[Model], scope: Scope) -> impl Iterator<Item = (Case, bool)> {
    let extremely_long = if scope == Scope::Full { long() } else { Vec::new() };
    let own_shapes = awkward().into_iter().chain(extremely_long).map(|case| (case, true));
    let flops = if scope == Scope::Quick { QUICK_FLOPS } else { u64::MAX };
    let models_shapes = of_models(models, flops).into_iter().map(|case| (case, false));
    own_shapes.chain(models_shapes)
}

/// The cases of a scope in groups, with this seed of the operands' values.
pub(super) fn groups(models: &[Model], scope: Scope, seed: u64) -> Vec<CaseGroup> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let named = unnamed(models, scope).map(|(case, on_variants)| {
        let case = case.with_seed(seed);
        let shapes = case.name();
        let count = counts.entry(shapes.clone()).or_default();
        *count += 1;
        let name = if *count == 1 { shapes } else { format!("{shapes}#{count}") };
        let twin = case.integer_twin().map(|case| NamedCase { name: format!("{name}{INTEGERS}"), case });
        CaseGroup { cases: [NamedCase { name, case }].into_iter().chain(twin).collect(), on_variants }
    });
    named.collect()
}

/// The selected cases, on the device and on each variant of it that runs other dispatches.
pub(super) fn planned<'a>(
    groups: &'a [CaseGroup],
    gpu: &GpuDevice,
    scope: Scope,
    selected: &dyn Fn(&str) -> bool,
) -> Vec<PlannedGroup<'a>> {
    let kernels = gpu.variants().into_iter().enumerate();
    let kernels: Vec<_> = kernels.map(|(number, gpu)| ((number > 0).then(|| PORTABLE.to_string()), gpu)).collect();
    let tile_shapes = gpu.tile_shape_variants().into_iter().enumerate();
    let tile_shapes: Vec<_> =
        tile_shapes.map(|(number, gpu)| (Some(format!("{TILE_SHAPE}{}", number + 1)), gpu)).collect();

    let mut planned = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        let cases: Vec<&NamedCase> = group.cases.iter().filter(|named| selected(&named.name)).collect();
        let Some(first) = cases.first() else { continue };
        if !group.on_variants {
            planned.push(PlannedGroup { cases, variant: None, gpu: gpu.clone() });
            continue;
        }
        // The quick scope runs one case of four with one of the other tile shapes, in turn.
        let tile_shapes = match scope {
            Scope::Quick if number % 4 == 0 => &tile_shapes[number / 4 % tile_shapes.len()..][..1],
            Scope::Quick => &[],
            Scope::Full => &tile_shapes[..],
        };
        let mut known = Vec::new();
        for (variant, gpu) in kernels.iter().chain(tile_shapes) {
            let dispatches = first.case.dispatches_on(gpu);
            if !known.contains(&dispatches) {
                known.push(dispatches);
                planned.push(PlannedGroup { cases: cases.clone(), variant: variant.clone(), gpu: gpu.clone() });
            }
        }
    }
    planned
}

/// The variant of a device that a label names; the device itself without a label, and where it has no such variant.
pub(super) fn variant_of(gpu: &GpuDevice, label: Option<&str>) -> GpuDevice {
    let number = label.and_then(|label| label.strip_prefix(TILE_SHAPE)?.parse::<usize>().ok()?.checked_sub(1));
    let variant = match (label, number) {
        (Some(PORTABLE), _) => gpu.variants().into_iter().last(),
        (_, Some(number)) => gpu.tile_shape_variants().into_iter().nth(number),
        _ => None,
    };
    variant.unwrap_or_else(|| gpu.clone())
}

/// The models whose whole steps a scope checks.
pub(super) fn stepped(models: &[Model], scope: Scope) -> impl Iterator<Item = &Model> {
    models.iter().filter(move |model| scope == Scope::Full || model.name == QUICK_MODEL)
}

/// The name of the case of a whole step.
pub(super) fn step_name(model: &Model) -> String {
    format!("step/{}", model.name)
}

/// The name of the case of two runs.
pub(super) fn repeat_name(model: &Model) -> String {
    format!("repeat/{}", model.name)
}

/// The number of real images in a checked step.
pub(super) fn step_batch(model: &Model) -> usize {
    let batch_size = (STEP_FLOPS / Summary::new(model).step_flops).clamp(2, 16) as usize;
    batch_size.next_multiple_of(model.batch_multiple())
}
