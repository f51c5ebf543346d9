//! Checks that a GPU and its driver compute correctly: every operation against the CPU device in f64, whole training steps, and
//! repeated runs.
//!
//! A [`Case`] is a program of one operation, or of a few consecutive ones, with guards after its tensors and NaN in its results.
//! [`awkward`] lists cases at shapes that no tile size divides, [`of_models`] cases at the shapes of models. The tests of the
//! shaders run the same cases as `gpu-gan verify`.

mod case;
mod cases;
mod export;
mod known_failures;
mod report;
mod steps;
mod tolerance;

use std::collections::{BTreeSet, HashMap};
use std::str::FromStr;
use std::time::Instant;

use regex_lite::Regex;

pub use case::{Case, pattern};
pub use cases::{awkward, long, of_models};
pub use known_failures::KnownFailures;
pub use report::{CaseResult, OperationSummary, Verdict, VerifyReport};
pub use steps::{StepComparison, one_step, repeats};
pub use tolerance::{Comparison, Tolerance};

use crate::error::{Error, Result};
use crate::gpu::{self, GpuDevice};
use crate::net::{Model, Summary};
use crate::progress::Console;

/// The scope of [`verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Awkward shapes, the models' shapes at small batch sizes, and one whole step of the default model.
    Quick,
    /// Also very long sums, the models' shapes at their own batch sizes, and a whole step of every model.
    Full,
}

/// The options of [`verify`].
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// The scope of the checks.
    pub scope: Scope,
    /// Only cases whose names match are run; `None` runs all cases.
    pub filter: Option<CaseFilter>,
    /// The seed of the operands' values.
    pub seed: u64,
    /// The failures that are expected.
    pub known_failures: KnownFailures,
}

/// A regular expression of the names of cases.
#[derive(Debug, Clone)]
pub struct CaseFilter(Regex);

impl CaseFilter {
    /// Whether the name of a case matches.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl FromStr for CaseFilter {
    type Err = String;

    fn from_str(pattern: &str) -> Result<Self, String> {
        Regex::new(pattern).map(Self).map_err(|error| error.to_string())
    }
}

/// The model whose whole step [`Scope::Quick`] checks.
const QUICK_MODEL: &str = "dcgan-fast";

/// The largest number of floating-point operations in the step of a model whose operations [`Scope::Quick`] checks.
const QUICK_FLOPS: u64 = 1_000_000_000;

/// The largest number of floating-point operations of a checked whole step; larger models use a smaller batch.
const STEP_FLOPS: u64 = 7_000_000_000;

/// A case with its name, unique among the cases of a scope.
struct NamedCase {
    /// The name.
    name: String,
    /// The case.
    case: Case,
    /// Whether the case is also run on variants of the device: other kernels and other tile shapes.
    on_variants: bool,
}

/// A case on the device or on a variant of it.
struct PlannedCase<'a> {
    /// The case with its name.
    named: &'a NamedCase,
    /// The kernels or the tile shape of the variant; none for the device itself.
    variant: Option<String>,
    /// The device or its variant.
    gpu: GpuDevice,
}

/// Every case of a scope.
pub fn cases_of(models: &[Model], scope: Scope) -> Vec<Case> {
    named_cases(models, scope).into_iter().map(|named| named.case).collect()
}

/// The names of all cases of a scope, in the order in which they run.
///
/// # Errors
///
/// If a built-in model is invalid, which is a bug in this program.
pub fn case_names(scope: Scope) -> Result<Vec<String>> {
    let models = built_in_models()?;
    let names = named_cases(&models, scope).into_iter().map(|named| named.name);
    let steps = stepped(&models, scope).flat_map(|model| [step_name(model), repeat_name(model)]);
    Ok(names.chain(steps).collect())
}

/// Checks a GPU. The report contains wrong results and cases that cannot run. `console` shows the progress.
///
/// # Errors
///
/// If no case matches the filter, or a built-in model is invalid, which is a bug in this program.
pub fn verify(gpu: &GpuDevice, options: &VerifyOptions, console: &Console) -> Result<VerifyReport> {
    let start = Instant::now();
    let scope = options.scope;
    let models = built_in_models()?;
    let selected = |name: &str| options.filter.as_ref().is_none_or(|filter| filter.matches(name));
    let named: Vec<NamedCase> = named_cases(&models, scope)
        .into_iter()
        .map(|named| NamedCase { case: named.case.with_seed(options.seed), ..named })
        .collect();
    let cases = planned(&named, gpu, scope, &selected);
    let (stepped_models, repeated_models): (Vec<_>, Vec<_>) = (
        stepped(&models, scope).filter(|model| selected(&step_name(model))).collect(),
        stepped(&models, scope).filter(|model| selected(&repeat_name(model))).collect(),
    );
    if cases.is_empty() && stepped_models.is_empty() && repeated_models.is_empty() {
        return Err(Error::Request {
            message: "no case matches the filter".into(),
            hint: "`gpu-gan verify --list` prints the names of all cases; --full has more cases".into(),
        });
    }

    let mut report = VerifyReport::new(gpu, options);
    let entry_points = gpu::entry_points().into_iter().filter(|(shader, ..)| gpu.uses(shader));
    let mut missing: BTreeSet<_> = entry_points.map(|(shader, entry, _)| (shader, entry)).collect();
    let task = console.task("operations", cases.len() as u64);
    for PlannedCase { named, variant, gpu } in &cases {
        task.rename(named.case.op().name());
        let begin = Instant::now();
        let outcome = named.case.run(gpu);
        report.add(&named.name, variant.as_deref(), &named.case, gpu, outcome, begin.elapsed());
        for (shader, entry) in named.case.entry_points(gpu) {
            missing.remove(&(shader, entry.to_string()));
        }
        task.advance(1);
    }
    drop(task);
    // With a filter, the remaining cases need not reach all entry points.
    if options.filter.is_none() {
        report.add_missing_entry_points(missing.into_iter().map(|(shader, entry)| format!("{shader}.{entry}")));
    }

    let task = console.task("training steps", (stepped_models.len() + repeated_models.len()) as u64);
    for model in stepped_models {
        task.rename(&format!("a step of {}", model.name));
        let begin = Instant::now();
        let outcome = one_step(gpu, model, step_batch(model));
        report.add_steps(&step_name(model), outcome, begin.elapsed());
        task.advance(1);
    }
    for model in repeated_models {
        task.rename(&format!("two runs of {}", model.name));
        let begin = Instant::now();
        let outcome = repeats(gpu, model, step_batch(model), 3);
        report.add_repeat(&repeat_name(model), &model.name, outcome, begin.elapsed());
        task.advance(1);
    }
    drop(task);
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

fn built_in_models() -> Result<Vec<Model>> {
    Model::built_in().map(Model::named).collect()
}

fn named_cases(models: &[Model], scope: Scope) -> Vec<NamedCase> {
    let extremely_long = if scope == Scope::Full { long() } else { Vec::new() };
    let own_shapes = awkward().into_iter().chain(extremely_long).map(|case| (case, true));
    let flops = if scope == Scope::Quick { QUICK_FLOPS } else { u64::MAX };
    let models_shapes = of_models(models, flops).into_iter().map(|case| (case, false));
    let mut counts: HashMap<String, usize> = HashMap::new();
    let named = own_shapes.chain(models_shapes).map(|(case, on_variants)| {
        let shapes = case.name();
        let count = counts.entry(shapes.clone()).or_default();
        *count += 1;
        let name = if *count == 1 { shapes } else { format!("{shapes}#{count}") };
        NamedCase { name, case, on_variants }
    });
    named.collect()
}

/// The selected cases, on the device and on each variant of it that runs other dispatches.
fn planned<'a>(
    named: &'a [NamedCase],
    gpu: &GpuDevice,
    scope: Scope,
    selected: &dyn Fn(&str) -> bool,
) -> Vec<PlannedCase<'a>> {
    let label = |variant: GpuDevice, label: String| (Some(label).filter(|label| !label.is_empty()), variant);
    let kernels = gpu.variants().into_iter().enumerate();
    let kernels: Vec<_> = kernels
        .map(|(number, variant)| label(variant, if number == 0 { "" } else { "portable kernels" }.to_string()))
        .collect();
    let tile_shapes = gpu.tile_shape_variants().into_iter().enumerate();
    let tile_shapes: Vec<_> =
        tile_shapes.map(|(number, variant)| label(variant, format!("tile shape {}", number + 1))).collect();

    let mut cases = Vec::new();
    for (number, named) in named.iter().enumerate().filter(|(_, named)| selected(&named.name)) {
        if !named.on_variants {
            cases.push(PlannedCase { named, variant: None, gpu: gpu.clone() });
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
            let dispatches = named.case.dispatches_on(gpu);
            if !known.contains(&dispatches) {
                known.push(dispatches);
                cases.push(PlannedCase { named, variant: variant.clone(), gpu: gpu.clone() });
            }
        }
    }
    cases
}

/// The models whose whole steps a scope checks.
fn stepped(models: &[Model], scope: Scope) -> impl Iterator<Item = &Model> {
    models.iter().filter(move |model| scope == Scope::Full || model.name == QUICK_MODEL)
}

fn step_name(model: &Model) -> String {
    format!("step/{}", model.name)
}

fn repeat_name(model: &Model) -> String {
    format!("repeat/{}", model.name)
}

/// The number of real images in a checked step.
fn step_batch(model: &Model) -> usize {
    let batch_size = (STEP_FLOPS / Summary::new(model).step_flops).clamp(2, 16) as usize;
    batch_size.next_multiple_of(model.batch_multiple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_names_are_unique_and_contain_operation_and_shapes() {
        let names = case_names(Scope::Quick).unwrap();
        let unique: BTreeSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        assert!(unique.contains(&"conv/x=1x1x1x1,w=1x1x1x1,y=1x1x1x1".to_string()), "{names:?}");
        assert!(names.ends_with(&["step/dcgan-fast".to_string(), "repeat/dcgan-fast".to_string()]));
    }

    #[test]
    fn a_filter_is_a_regular_expression() {
        let filter: CaseFilter = "^conv(_grad_input)?/".parse().unwrap();
        assert!(filter.matches("conv/x=1") && filter.matches("conv_grad_input/dy=1"));
        assert!(!filter.matches("conv_grad_weight/x=1"));
        assert!("(".parse::<CaseFilter>().is_err());
    }
}
