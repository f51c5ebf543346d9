//! Checks that a GPU and its driver compute correctly: every operation against the CPU device in f64, whole training steps, and
//! repeated runs.
//!
//! A [`Case`] is a program of one operation, or of a few consecutive ones, with guards after its tensors and NaN in its results.
//! [`awkward`] lists cases at shapes that no tile size divides, [`of_models`] cases at the shapes of models. Each case with a matrix
//! product has an [integer twin](Case::integer_twin), which must be exact. The tests of the shaders run the same cases as
//! `gpu-gan verify`.
//!
//! [`VerifyOptions::dump`] writes failing cases as files. [`Replay`] runs them again and shrinks them.

mod axes;
mod batch_norm_bounds;
mod bounds;
mod case;
mod case_file;
mod cases;
mod dump;
mod export;
mod known_failures;
mod plan;
mod replay;
mod report;
mod shrink;
mod steps;
mod tolerance;
mod workers;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use regex_lite::Regex;

pub use case::{Case, pattern};
pub use cases::{awkward, long, of_models};
pub use known_failures::KnownFailures;
pub use plan::{cases_of, runs_of};
pub use replay::{Replay, ReplayReport, ReplayedCase, SmallestCase};
pub use report::{CaseResult, OperationSummary, Verdict, VerifyReport};
pub use steps::{StepComparison, one_step, repeats};
pub use tolerance::{Comparison, Tolerance};

use case_file::CaseKey;
use dump::Dump;
use plan::{groups, planned, repeat_name, step_batch, step_name, stepped};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gpu::{self, GpuDevice};
use crate::net::Model;
use crate::progress::Console;

/// The scope of [`verify`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Scope {
    /// Awkward shapes, two of the models' shapes for each kind of operation, at small batch sizes, and one whole step of a model.
    #[default]
    Quick,
    /// Also very long sums, all of the models' shapes and the very kernels that train them, at their own batch sizes, and a whole step of
    /// every model.
    Full,
}

/// The options of [`verify`]: by default all cases of the quick scope.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// The scope of the checks.
    pub scope: Scope,
    /// Only cases whose names match are run; `None` runs all cases.
    pub filter: Option<CaseFilter>,
    /// The seed of the operands' values.
    pub seed: u64,
    /// The failures that are expected.
    pub known_failures: KnownFailures,
    /// The folder into which every failing case is written, other than known failures; `None` to write none. It is created if a case
    /// fails.
    pub dump: Option<PathBuf>,
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

/// The number of steps of each of two runs that must give the same bits.
const REPEATED_STEPS: usize = 3;

/// The names of all cases of a scope, in the order in which they run.
///
/// # Errors
///
/// If a built-in model is invalid, which is a bug in this program.
pub fn case_names(scope: Scope) -> Result<Vec<String>> {
    let models = built_in_models()?;
    let names = groups(&models, scope, 0).into_iter().flat_map(|group| group.cases).map(|named| named.name);
    let steps = stepped(&models, scope).flat_map(|model| [step_name(model), repeat_name(model)]);
    Ok(names.chain(steps).collect())
}

/// Checks a GPU. The report contains wrong results and cases that cannot run. `console` shows the progress.
///
/// # Errors
///
/// If no case matches the filter, if a failing case cannot be written, or if a built-in model is invalid, which is a bug in this
/// program.
pub fn verify(gpu: &GpuDevice, options: &VerifyOptions, console: &Console) -> Result<VerifyReport> {
    let start = Instant::now();
    let gpu = &gpu.clone().sharing_pipelines();
    let scope = options.scope;
    let models = built_in_models()?;
    let selected = |name: &str| options.filter.as_ref().is_none_or(|filter| filter.matches(name));
    let groups = groups(&models, scope, options.seed);
    let planned = planned(&groups, gpu, scope, &selected);
    let (stepped_models, repeated_models): (Vec<_>, Vec<_>) = (
        stepped(&models, scope).filter(|model| selected(&step_name(model))).collect(),
        stepped(&models, scope).filter(|model| selected(&repeat_name(model))).collect(),
    );
    if planned.is_empty() && stepped_models.is_empty() && repeated_models.is_empty() {
        return Err(Error::Request {
            message: "no case matches the filter".into(),
            hint: "`gpu-gan verify --list` prints the names of all cases; --full has more cases".into(),
        });
    }
    let mut dump = options.dump.as_deref().map(Dump::new).transpose()?;

    let key_of = |failure: &CaseResult| CaseKey {
        name: failure.name.clone(),
        scope,
        seed: options.seed,
        variant: failure.variant.clone(),
    };

    let mut report = VerifyReport::new(gpu, options);
    let entry_points = gpu::entry_points().into_iter();
    let mut missing: BTreeSet<_> = entry_points.filter(|(shader, _)| gpu.uses(shader)).collect();
    let task = console.task("operations", planned.iter().map(|group| group.cases.len() as u64).sum());
    workers::run(&planned, gpu, |group, outcomes| {
        for (named, (outcome, time)) in group.cases.iter().zip(outcomes) {
            task.rename(named.case.op().name());
            let failure = report.add(named, group, &outcome, time);
            if let (Some(dump), Some(failure)) = (&mut dump, failure) {
                let written = outcome.as_deref().unwrap_or_default();
                dump.add_case(&key_of(failure), &failure.complaints, &named.case, &group.gpu, written)?;
            }
            task.advance(1);
        }
        for (shader, entry) in group.cases[0].case.entry_points(&group.gpu) {
            missing.remove(&(shader, entry));
        }
        Ok(())
    })?;
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
        let failure = report.add_steps(&step_name(model), outcome, begin.elapsed());
        if let (Some(dump), Some(failure)) = (&mut dump, failure) {
            dump.add_step(&key_of(failure), &failure.complaints, gpu)?;
        }
        task.advance(1);
    }
    for model in repeated_models {
        task.rename(&format!("two runs of {}", model.name));
        let begin = Instant::now();
        let outcome = repeats(gpu, model, step_batch(model), REPEATED_STEPS);
        let failure = report.add_repeat(&repeat_name(model), &model.name, outcome, begin.elapsed());
        if let (Some(dump), Some(failure)) = (&mut dump, failure) {
            dump.add_step(&key_of(failure), &failure.complaints, gpu)?;
        }
        task.advance(1);
    }
    drop(task);
    if let Some(dump) = dump {
        dump.finish(console);
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

fn built_in_models() -> Result<Vec<Model>> {
    Model::built_in().map(Model::named).collect()
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
