//! What verifying found, as a table for people and as JSON for programs.

use std::fmt;

use serde::Serialize;

use super::{Case, Comparison, Scope, StepComparison, Tolerance};
use crate::error::Result;
use crate::gpu::GpuDevice;
use crate::program::Device;

/// The most complaints of an operation that are kept; the others are counted.
const MOST_COMPLAINTS: usize = 5;

/// What verifying found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// The adapter.
    pub device: String,
    /// Name and version of its driver.
    pub driver: String,
    /// `quick` or `full`.
    pub scope: &'static str,
    /// Whether everything holds.
    pub passed: bool,
    /// How long it took.
    pub seconds: f64,
    /// One for each operation, in the order of their first case.
    pub operations: Vec<OperationSummary>,
    /// Entry points that no case ran: none, unless this program has a gap.
    pub entry_points_not_reached: Vec<String>,
    /// Whole steps.
    pub steps: Vec<StepComparison>,
    /// Models whose runs gave the same bits twice.
    pub repeated: Vec<String>,
    /// What else went wrong.
    pub complaints: Vec<String>,
}

/// What was found of one operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperationSummary {
    /// Its name.
    pub operation: &'static str,
    /// How many shapes and settings were tried.
    pub cases: usize,
    /// The largest difference of an element from f64.
    pub largest_absolute: f64,
    /// The largest as a share of the reference, among elements that are not close to 0.
    pub largest_relative: f64,
    /// The largest normalised error of a tensor: the root of the sum of squared differences over that of squared references.
    pub normalised: f64,
    /// The loosest bound of an element close to 0; it grows with the length of sums.
    pub bound: f64,
    /// Where the bound comes from.
    pub why: &'static str,
    /// The largest share of its bound that an element took: at most 1 where all hold.
    pub share: f64,
    /// How many cases failed.
    pub failed: usize,
    /// What is wrong with the first of them.
    pub complaints: Vec<String>,
}

impl VerifyReport {
    pub(super) fn new(gpu: &GpuDevice, scope: Scope) -> Self {
        Self {
            device: gpu.description(),
            driver: gpu.driver().to_string(),
            scope: if scope == Scope::Quick { "quick" } else { "full" },
            passed: true,
            seconds: 0.0,
            operations: Vec::new(),
            entry_points_not_reached: Vec::new(),
            steps: Vec::new(),
            repeated: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// What came of a case with that tolerance.
    pub(super) fn add(&mut self, case: &Case, tolerance: Tolerance, outcome: Result<Vec<(&'static str, Comparison)>>) {
        let name = case.op().name();
        let index = self.operations.iter().position(|row| row.operation == name).unwrap_or_else(|| {
            self.operations.push(OperationSummary::new(case, tolerance));
            self.operations.len() - 1
        });
        self.passed &= self.operations[index].add(case, tolerance, outcome);
    }

    pub(super) fn not_reached(&mut self, entry_points: impl Iterator<Item = String>) {
        self.entry_points_not_reached.extend(entry_points);
        self.passed &= self.entry_points_not_reached.is_empty();
    }

    pub(super) fn add_steps(&mut self, model: &str, outcome: Result<StepComparison>) {
        match outcome {
            Ok(steps) => {
                self.passed &= steps.complaints.is_empty();
                self.steps.push(steps);
            }
            Err(error) => self.complain(format!("a step of {model}: {error}")),
        }
    }

    pub(super) fn add_repeat(&mut self, model: &str, outcome: Result<bool>) {
        match outcome {
            Ok(true) => self.repeated.push(model.to_string()),
            Ok(false) => self.complain(format!("two runs of {model} from the same seed differ in their bits")),
            Err(error) => self.complain(format!("two runs of {model}: {error}")),
        }
    }

    /// Where bounds come from, each reason once, and the operations whose bounds do.
    fn reasons(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for row in &self.operations {
            match reasons.iter_mut().find(|(why, _)| *why == row.why) {
                Some((_, operations)) => operations.push(row.operation),
                None => reasons.push((row.why, vec![row.operation])),
            }
        }
        reasons
    }

    fn complain(&mut self, complaint: String) {
        self.passed = false;
        self.complaints.push(complaint);
    }
}

impl OperationSummary {
    fn new(case: &Case, tolerance: Tolerance) -> Self {
        Self {
            operation: case.op().name(),
            cases: 0,
            largest_absolute: 0.0,
            largest_relative: 0.0,
            normalised: 0.0,
            bound: 0.0,
            why: tolerance.why,
            share: 0.0,
            failed: 0,
            complaints: Vec::new(),
        }
    }

    /// Returns whether the case holds.
    fn add(&mut self, case: &Case, tolerance: Tolerance, outcome: Result<Vec<(&'static str, Comparison)>>) -> bool {
        self.cases += 1;
        self.bound = self.bound.max(tolerance.absolute);
        let mut complaints = Vec::new();
        match outcome {
            Err(error) => complaints.push(error.to_string()),
            Ok(comparisons) => {
                for (letter, comparison) in comparisons {
                    self.largest_absolute = self.largest_absolute.max(comparison.largest_absolute);
                    self.largest_relative = self.largest_relative.max(comparison.largest_relative);
                    self.normalised = self.normalised.max(comparison.normalised);
                    self.share = self.share.max(comparison.share);
                    complaints.extend(comparison.complaint.map(|complaint| format!("{letter}: {complaint}")));
                }
            }
        }
        let holds = complaints.is_empty();
        self.failed += usize::from(!holds);
        if !holds && self.complaints.len() < MOST_COMPLAINTS {
            self.complaints.push(format!("{} on {}", complaints.join("; "), case.shapes()));
        }
        holds
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<18} {:>6} {:>9} {:>9} {:>10} {:>9} {:>6}",
            "operation", "cases", "absolute", "relative", "normalised", "bound", "share"
        )?;
        for row in &self.operations {
            writeln!(
                f,
                "{:<18} {:>6} {:>9.1e} {:>9.1e} {:>10.1e} {:>9.1e} {:>5.0}%  {}",
                row.operation,
                row.cases,
                row.largest_absolute,
                row.largest_relative,
                row.normalised,
                row.bound,
                100.0 * row.share,
                if row.failed == 0 { "ok".to_string() } else { format!("{} FAILED", row.failed) }
            )?;
            for complaint in &row.complaints {
                writeln!(f, "    {complaint}")?;
            }
        }
        for (why, operations) in self.reasons() {
            writeln!(f, "bound of {}: {why}", operations.join(", "))?;
        }
        for entry in &self.entry_points_not_reached {
            writeln!(f, "entry point {entry} was not reached by any case FAILED")?;
        }
        for StepComparison { model, batch_size, tensors, share, worst, complaints } in &self.steps {
            let verdict = if complaints.is_empty() { "ok" } else { "FAILED" };
            writeln!(
                f,
                "one step of {model}, batch {batch_size}: {tensors} tensors, at most {:.0}% of the bound ({worst})  {verdict}",
                100.0 * share
            )?;
            for complaint in complaints {
                writeln!(f, "    {complaint}")?;
            }
        }
        for model in &self.repeated {
            writeln!(f, "two runs of {model} from the same seed: the same bits  ok")?;
        }
        for complaint in &self.complaints {
            writeln!(f, "{complaint}  FAILED")?;
        }
        let cases: usize = self.operations.iter().map(|row| row.cases).sum();
        let failed: usize = self.operations.iter().map(|row| row.failed).sum();
        let verdict = if self.passed { "computes correctly" } else { "DOES NOT COMPUTE CORRECTLY" };
        write!(
            f,
            "{} {verdict}: {} of {cases} cases hold, {:.0} s ({})",
            self.device,
            cases - failed,
            self.seconds,
            self.scope
        )
    }
}
