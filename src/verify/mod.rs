//! Whether a GPU and its driver compute correctly: every operation against the CPU device in f64, whole training steps,
//! and runs against themselves.
//!
//! A [`Case`] is one operation alone in a program, between guards, on poisoned memory. [`awkward`] lists them at shapes that divide
//! nothing, [`of_models`] at those of models. The tests of the shaders run the same cases as `gpu-gan verify`.

mod case;
mod cases;
mod report;
mod steps;
mod tolerance;

use std::collections::BTreeSet;
use std::time::Instant;

pub use case::{Case, pattern};
pub use cases::{awkward, long, of_models};
pub use report::{OperationSummary, VerifyReport};
pub use steps::{StepComparison, one_step, repeats};
pub use tolerance::{Comparison, Tolerance};

use crate::error::Result;
use crate::gpu::{self, GpuDevice};
use crate::net::{Model, Summary};
use crate::program::Device;
use crate::progress::Console;

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Awkward shapes and the models' own at small batches; one whole step of the default model.
    Quick,
    /// Very long sums as well, the models' shapes at their own batch sizes, and a whole step of every model.
    Full,
}

/// The model of which a whole step is tried quickly.
const QUICK_MODEL: &str = "dcgan-fast";

/// Floating-point operations of the step of a model whose operations are tried quickly.
const QUICK_FLOPS: u64 = 1_000_000_000;

/// The same of whole steps.
const STEP_FLOPS: u64 = 7_000_000_000;

/// Every case that is tried in a scope.
pub fn cases_of(models: &[Model], scope: Scope) -> Vec<Case> {
    [trials(scope), at_models_shapes(models, scope)].into_iter().flatten().collect()
}

/// Those at shapes of their own.
fn trials(scope: Scope) -> Vec<Case> {
    let mut cases = awkward();
    if scope == Scope::Full {
        cases.extend(long());
    }
    cases
}

fn at_models_shapes(models: &[Model], scope: Scope) -> Vec<Case> {
    of_models(models, if scope == Scope::Quick { QUICK_FLOPS } else { u64::MAX })
}

/// Tries a GPU. What is wrong with it is in the report, as is what it could not run at all. `console` shows the progress.
///
/// # Errors
///
/// Where there is a mistake in a model that comes with the program, and so none that the GPU makes.
pub fn verify(gpu: &GpuDevice, scope: Scope, console: &Console) -> Result<VerifyReport> {
    let clock = Instant::now();
    let models = Model::built_in().map(Model::named).collect::<Result<Vec<_>>>()?;
    let mut report = VerifyReport::new(gpu, scope);

    let (variants, tile_shapes) = (gpu.variants(), gpu.tile_shape_variants());
    let (trials, at_models_shapes) = (trials(scope), at_models_shapes(&models, scope));
    let mut cases: Vec<(&Case, &GpuDevice)> = Vec::new();
    for (number, case) in trials.iter().enumerate() {
        let mut known = Vec::new();
        // Quickly, one case of four is tried in one of the other tile_shapes, in turn.
        let tile_shapes = match scope {
            Scope::Quick if number % 4 == 0 => &tile_shapes[number / 4 % tile_shapes.len()..][..1],
            Scope::Quick => &[],
            Scope::Full => &tile_shapes[..],
        };
        for variant in variants.iter().chain(tile_shapes) {
            let dispatches = case.dispatches_on(variant);
            if !known.contains(&dispatches) {
                known.push(dispatches);
                cases.push((case, variant));
            }
        }
    }
    cases.extend(at_models_shapes.iter().map(|case| (case, gpu)));
    let entry_points = gpu::entry_points().into_iter().filter(|(shader, ..)| gpu.uses(shader));
    let mut missing: BTreeSet<_> = entry_points.map(|(shader, entry, _)| (shader, entry)).collect();
    let task = console.task("operations", cases.len() as u64);
    for (case, variant) in &cases {
        task.rename(case.op().name());
        report.add(case, case.tolerance(variant.mixed_precision()), case.run(variant));
        for (shader, entry) in case.entry_points(variant) {
            missing.remove(&(shader, entry.to_string()));
        }
        task.advance(1);
    }
    drop(task);
    report.not_reached(missing.into_iter().map(|(shader, entry)| format!("{shader}.{entry}")));

    let models: Vec<_> = models.iter().filter(|model| scope == Scope::Full || model.name == QUICK_MODEL).collect();
    let task = console.task("training steps", models.len() as u64);
    for model in models {
        task.rename(&format!("a step of {}", model.name));
        let batch_size = (STEP_FLOPS / Summary::new(model).step_flops).clamp(2, 16) as usize;
        let batch_size = batch_size.next_multiple_of(model.batch_multiple());
        report.add_steps(&model.name, one_step(gpu, model, batch_size));
        report.add_repeat(&model.name, repeats(gpu, model, batch_size, 3));
        task.advance(1);
    }
    drop(task);
    report.seconds = clock.elapsed().as_secs_f64();
    Ok(report)
}
