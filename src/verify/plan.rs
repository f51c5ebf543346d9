//! The cases of a scope, their names, and the variants of a device on which they run.

use std::collections::{BTreeSet, HashMap};

use super::cases::{awkward, long, of_models, of_training};
use super::{Case, Scope};
use crate::gpu::{Dispatch, GpuDevice};
use crate::net::{Model, Summary};
use crate::program::Op;

/// The model whose whole step [`Scope::Quick`] checks.
const QUICK_MODEL: &str = "dcgan-fast";

/// The largest number of floating-point operations in the step of a model whose operations [`Scope::Quick`] checks.
const QUICK_FLOPS: u64 = 1_000_000_000;

/// The largest number of floating-point operations of a checked whole step; larger models use a smaller batch.
const STEP_FLOPS: u64 = 7_000_000_000;

/// In how many cases [`Scope::Quick`] runs each choice in the code of a kernel on a variant of a device.
const QUICK_CASES_ON_VARIANT: usize = 3;

/// The end of the name of an integer twin, after the name of its case.
const INTEGERS: &str = "/integers";

/// The label of the variant of a device with the portable kernels.
const PORTABLE: &str = "portable kernels";

/// The label of the variant of a device whose kernels with grid-stride loops have two workgroups.
const TWO_WORKGROUPS: &str = "two workgroups";

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
    /// Whether the cases are also run on variants of the device: other kernels, other tile shapes, fewer workgroups.
    on_variants: bool,
}

/// Cases of the same program on the device or on a variant of it.
pub(super) struct PlannedGroup<'a> {
    /// The cases, of which there is at least one.
    pub(super) cases: Vec<&'a NamedCase>,
    /// The kernels, the tile shape or the workgroups of the variant; none for the device itself.
    pub(super) variant: Option<String>,
    /// The device or its variant.
    pub(super) gpu: GpuDevice,
}

/// Every case of a scope, without the integer twins.
pub fn cases_of(models: &[Model], scope: Scope) -> Vec<Case> {
    named(models, scope).into_iter().map(|(named, _)| named.case).collect()
}

/// The cases of a scope with their names, which may occur several times, and whether they are also run on variants of the device.
fn named(models: &[Model], scope: Scope) -> Vec<(NamedCase, bool)> {
    let extremely_long = if scope == Scope::Full { long() } else { Vec::new() };
    let own_shapes = awkward().into_iter().chain(extremely_long);
    let models_shapes = match scope {
        Scope::Quick => first_and_last_of_each_kind(of_models(models, QUICK_FLOPS)),
        Scope::Full => of_models(models, u64::MAX),
    };
    let training = if scope == Scope::Full { of_training(models, &models_shapes) } else { Vec::new() };
    let of_shapes = |case: Case| NamedCase { name: case.name(), case };
    let own_shapes = own_shapes.map(|case| (of_shapes(case), true));
    let models_shapes = models_shapes.into_iter().map(|case| (of_shapes(case), false));
    let training = training.into_iter().map(|(name, case)| (NamedCase { name, case }, false));
    own_shapes.chain(models_shapes).chain(training).collect()
}

/// The first and the last case of each kind of operation.
fn first_and_last_of_each_kind(cases: Vec<Case>) -> Vec<Case> {
    let kinds: Vec<String> = cases.iter().map(kind_of_operation).collect();
    let is_an_end =
        |number: usize| !kinds[..number].contains(&kinds[number]) || !kinds[number + 1..].contains(&kinds[number]);
    cases.into_iter().enumerate().filter(|&(number, _)| is_an_end(number)).map(|(_, case)| case).collect()
}

/// The operation of a case without the sizes of its images: a product with its geometry, its bias, and whether one of its sides has few
/// channels, as images have.
fn kind_of_operation(case: &Case) -> String {
    let (name, has_few_channels) =
        (case.op().name(), |w| case.program().shape(w)[2..].iter().map(|&c| c <= 4).collect());
    match *case.op() {
        Op::Conv { w, b, geometry, .. } | Op::ConvGradInput { w, b, geometry, .. } => {
            let few: Vec<bool> = has_few_channels(w);
            format!("{name} {geometry:?} {} {few:?}", b.is_some())
        }
        Op::ConvGradWeight { dw, geometry, .. } => format!("{name} {geometry:?} {:?}", has_few_channels(dw)),
        Op::Activation { kind, .. } | Op::ActivationGrad { kind, .. } => format!("{name} {kind:?}"),
        _ => name.into(),
    }
}

/// The entry point of a kernel with each choice in its code: of the epilogue, the operands and the tile.
fn choices_of_kernel(dispatch: &Dispatch) -> BTreeSet<String> {
    const CHOICES: [&str; 17] = [
        "HAS_BIAS",
        "KIND",
        "BACKWARD",
        "PRODUCT",
        "QUADS",
        "SWAPPED",
        "TX",
        "TY",
        "LANES",
        "DOWN",
        "ACROSS",
        "SWIZZLE",
        "ROLLED",
        "BIAS_OF_LEFT",
        "NEXT_HAS_BIAS",
        "IS_LAYER",
        "ADAPTED",
    ];
    const SIZES: [&str; 4] = ["K", "STRIDE", "SPLITS", "TERMS"];
    let choices = CHOICES.iter().filter_map(|name| Some(format!("{name} = {}", dispatch.value(name)?)));
    let sizes = SIZES.iter().filter_map(|name| Some(format!("{name} > 1: {}", dispatch.value(name)? > 1.0)));
    choices
        .chain(sizes)
        .chain([String::new()])
        .map(|choice| format!("{} {} {choice}", dispatch.shader, dispatch.entry))
        .collect()
}

/// The cases of a scope in groups, with this seed of the operands' values.
pub(super) fn groups(models: &[Model], scope: Scope, seed: u64) -> Vec<CaseGroup> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let grouped = named(models, scope).into_iter().map(|(NamedCase { name, case }, on_variants)| {
        let case = case.with_seed(seed);
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        let name = if *count == 1 { name } else { format!("{name}#{count}") };
        let twin = case.integer_twin().map(|case| NamedCase { name: format!("{name}{INTEGERS}"), case });
        CaseGroup { cases: [NamedCase { name, case }].into_iter().chain(twin).collect(), on_variants }
    });
    grouped.collect()
}

/// The selected cases, on the device and on each variant of it that runs other dispatches. The quick scope runs a case on a variant only
/// if a kernel of it has a choice that few cases before it had.
pub(super) fn planned<'a>(
    groups: &'a [CaseGroup],
    gpu: &GpuDevice,
    scope: Scope,
    selected: &dyn Fn(&str) -> bool,
) -> Vec<PlannedGroup<'a>> {
    let kernels = gpu.variants().into_iter().enumerate();
    let kernels = kernels.map(|(number, gpu)| ((number > 0).then(|| PORTABLE.to_string()), gpu));
    let two_workgroups = (Some(TWO_WORKGROUPS.to_string()), gpu.with_two_workgroups());
    let kernels: Vec<_> = kernels.chain([two_workgroups]).collect();
    let tile_shapes = gpu.tile_shape_variants().into_iter().enumerate();
    let tile_shapes: Vec<_> =
        tile_shapes.map(|(number, gpu)| (Some(format!("{TILE_SHAPE}{}", number + 1)), gpu)).collect();

    let mut runs: HashMap<(&Option<String>, String), usize> = HashMap::new();
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
            if known.contains(&dispatches) {
                continue;
            }
            let choices: BTreeSet<String> = dispatches.iter().flat_map(choices_of_kernel).collect();
            known.push(dispatches);
            let count = |choice: &String| runs.get(&(variant, choice.clone())).copied().unwrap_or(0);
            let has_rare_choice = choices.iter().any(|choice| count(choice) < QUICK_CASES_ON_VARIANT);
            if scope == Scope::Full || variant.is_none() || has_rare_choice {
                for choice in choices {
                    *runs.entry((variant, choice)).or_default() += 1;
                }
                planned.push(PlannedGroup { cases: cases.clone(), variant: variant.clone(), gpu: gpu.clone() });
            }
        }
    }
    planned
}

/// The cases of a scope on a device and on its variants, as `verify` runs them, without the integer twins and whole steps.
pub fn runs_of(models: &[Model], scope: Scope, gpu: &GpuDevice) -> Vec<(Case, GpuDevice)> {
    let groups = groups(models, scope, 0);
    let planned = planned(&groups, gpu, scope, &|_| true);
    planned.into_iter().map(|group| (group.cases[0].case.clone(), group.gpu)).collect()
}

/// The variant of a device that a label names; the device itself without a label, and where it has no such variant.
pub(super) fn variant_of(gpu: &GpuDevice, label: Option<&str>) -> GpuDevice {
    let number = label.and_then(|label| label.strip_prefix(TILE_SHAPE)?.parse::<usize>().ok()?.checked_sub(1));
    let variant = match (label, number) {
        (Some(PORTABLE), _) => gpu.variants().into_iter().last(),
        (Some(TWO_WORKGROUPS), _) => Some(gpu.with_two_workgroups()),
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
