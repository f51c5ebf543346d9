//! Whether a GPU and its driver compute correctly: every operation against the CPU device in f64, whole training steps,
//! and runs against themselves.
//!
//! A [`Case`] is one operation alone in a program, between guards, on poisoned memory. [`awkward`] lists them at shapes that divide
//! nothing, [`of_model`] at those of a model. The tests of the shaders run the same cases as `gpu-gan verify`.

mod case;
mod cases;
mod report;
mod steps;
mod tolerance;

use std::collections::BTreeSet;
use std::time::Instant;

pub use case::{Case, pattern};
pub use cases::{awkward, long, of_model};
pub use report::{Report, Row};
pub use steps::{Steps, one_step, repeats};
pub use tolerance::{Comparison, Tolerance};

use crate::error::Result;
use crate::gpu::{self, GpuDevice};
use crate::net::Model;

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Awkward shapes and the models' own at small batches; one whole step of the default model.
    Quick,
    /// Very long sums as well, the models' shapes at their own batch sizes, and a whole step of every model.
    Full,
}

/// Tries a GPU. What is wrong with it is in the report, as is what it could not run at all; `now` is told what is being done
/// and how far that is, from 0 to 1.
///
/// # Errors
///
/// Where there is a mistake in a model that comes with the program, and so none that the GPU makes.
pub fn verify(gpu: &GpuDevice, scope: Scope, now: &mut dyn FnMut(&str, f64)) -> Result<Report> {
    let clock = Instant::now();
    let models = Model::built_in().map(Model::named).collect::<Result<Vec<_>>>()?;
    let mut report = Report::new(gpu, scope);

    let mut cases = awkward();
    for model in &models {
        cases.extend(of_model(model, batch_of(model, scope)));
    }
    if scope == Scope::Full {
        cases.extend(long());
    }
    let mut missing: BTreeSet<_> = gpu::entry_points().into_iter().map(|(shader, entry, _)| (shader, entry)).collect();
    for (done, case) in cases.iter().enumerate() {
        now(case.op().name(), done as f64 / cases.len() as f64);
        report.add(case, case.run(gpu));
        for (shader, entry) in gpu::entry_points_of(case.op(), case.program()) {
            missing.remove(&(shader, entry.to_string()));
        }
    }
    report.not_reached(missing.into_iter().map(|(shader, entry)| format!("{shader}.{entry}")));

    let models = if scope == Scope::Quick { &models[..1] } else { &models[..] };
    for (done, model) in models.iter().enumerate() {
        now(&format!("a step of {}", model.name), done as f64 / models.len() as f64);
        let batch_size = model.training.batch_size.min(if model.latent < 100 { 16 } else { 2 });
        report.add_steps(&model.name, one_step(gpu, model, batch_size));
        report.add_repeat(&model.name, repeats(gpu, model, batch_size, 3));
    }
    report.seconds = clock.elapsed().as_secs_f64();
    Ok(report)
}

/// A batch size at which a software adapter can run every operation of a model within seconds, or the model's own.
fn batch_of(model: &Model, scope: Scope) -> usize {
    match scope {
        Scope::Quick => model.training.batch_size.min(2),
        Scope::Full => model.training.batch_size,
    }
}
