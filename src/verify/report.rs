//! The report of [`verify`](super::verify), as a table for people and as JSON for programs.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::case::{WrittenTensor, complaints_of};
use super::plan::{NamedCase, PlannedGroup};
use super::{KnownFailures, Scope, StepComparison, Tolerance, VerifyOptions};
use crate::error::Result;
use crate::gpu::GpuDevice;
use crate::program::Device;

/// The complaint about two runs that differ.
pub(super) const DIFFERENT_BITS: &str = "two runs from the same seed differ in their bits";

/// The largest number of failing cases of an operation that are described; the others are counted.
const MAX_DESCRIBED: usize = 5;

/// The report of [`verify`](super::verify).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// The adapter.
    pub device: String,
    /// Name and version of its driver.
    pub driver: String,
    /// `quick` or `full`.
    pub scope: &'static str,
    /// The seed of the operands' values.
    pub seed: u64,
    /// Whether every case passed or failed as expected, and the cases reached all entry points.
    pub passed: bool,
    /// The duration in seconds.
    pub seconds: f64,
    /// One summary for each operation, in the order of their first case.
    pub operations: Vec<OperationSummary>,
    /// The entry points of shaders that no case ran. Each one is a gap in this program's cases.
    pub entry_points_not_reached: Vec<String>,
    /// The comparisons of whole steps.
    pub steps: Vec<StepComparison>,
    /// The models for which two runs gave the same bits.
    pub repeated: Vec<String>,
    /// Other problems.
    pub complaints: Vec<String>,
    /// The result of every case, in the order in which they ran. JSON has only the results other than passes, as `not_passed`.
    #[serde(rename = "not_passed", serialize_with = "only_not_passed")]
    pub results: Vec<CaseResult>,
    /// The known failures of the device.
    #[serde(skip)]
    known_failures: Known,
}

/// The known failures of the device. They do not affect the equality of reports.
#[derive(Debug, Clone, Default)]
struct Known(KnownFailures);

impl PartialEq for Known {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The summary of one operation's cases, or of its integer twins.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OperationSummary {
    /// The operation's name: `conv`, or `conv (integers)` for its integer twins.
    pub operation: String,
    /// The number of cases.
    pub cases: usize,
    /// The largest difference of an element from f64.
    pub largest_absolute: f64,
    /// The largest difference as a share of the reference, among elements that are not close to 0.
    pub largest_relative: f64,
    /// The largest normalised error of a tensor: the root of the sum of squared differences over that of squared references.
    pub normalised: f64,
    /// The loosest bound of an element close to 0; it grows with the length of sums.
    pub bound: f64,
    /// The source of the bound.
    pub why: &'static str,
    /// The largest error of an element as a share of its bound: at most 1 where all cases pass.
    pub share: f64,
    /// The number of failing cases that are not expected to fail.
    pub failed: usize,
    /// The number of cases that failed as expected.
    pub known_failures: usize,
    /// The number of cases that passed and were expected to fail.
    pub unexpected_passes: usize,
    /// Descriptions of the first failing cases.
    pub complaints: Vec<String>,
}

/// The result of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CaseResult {
    /// The name of the case, as `gpu-gan verify --list` prints it.
    pub name: String,
    /// The kernels or the tile shape that the case ran with; none for the device's own.
    pub variant: Option<String>,
    /// Whether the case passed, and whether that was expected.
    pub verdict: Verdict,
    /// Descriptions of the errors.
    pub complaints: Vec<String>,
    /// Why the case is expected to fail, if it is.
    pub reason: Option<String>,
    /// The duration in seconds.
    pub seconds: f64,
}

/// Whether a case passed, and whether that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Verdict {
    /// The case passed, as expected.
    Passed,
    /// The case failed, and was not expected to.
    Failed,
    /// The case failed, as expected.
    KnownFailure,
    /// The case passed, and was expected to fail.
    UnexpectedPass,
}

impl VerifyReport {
    pub(super) fn new(gpu: &GpuDevice, options: &VerifyOptions) -> Self {
        let (device, driver) = (gpu.description(), gpu.driver().to_string());
        let known_failures = options.known_failures.of_device(gpu.vendor(), &device, &driver);
        Self {
            device,
            driver,
            scope: if options.scope == Scope::Quick { "quick" } else { "full" },
            seed: options.seed,
            passed: true,
            seconds: 0.0,
            operations: Vec::new(),
            entry_points_not_reached: Vec::new(),
            steps: Vec::new(),
            repeated: Vec::new(),
            complaints: Vec::new(),
            results: Vec::new(),
            known_failures: Known(known_failures),
        }
    }

    /// Adds the outcome of a case. Returns the result if it is a failure.
    pub(super) fn add(
        &mut self,
        named: &NamedCase,
        group: &PlannedGroup<'_>,
        outcome: &Result<Vec<WrittenTensor>>,
        time: Duration,
    ) -> Option<&CaseResult> {
        let row = named.case.row();
        let mixed_precision = group.gpu.mixed_precision();
        let index = self.operations.iter().position(|summary| summary.operation == row).unwrap_or_else(|| {
            self.operations.push(OperationSummary::new(row, named.case.tolerance(mixed_precision)));
            self.operations.len() - 1
        });
        self.operations[index].measure(named.case.tolerance(mixed_precision), outcome);
        let complaints = complaints_of(outcome);
        let verdict = self.record(&named.name, group.variant.as_deref(), complaints.clone(), time);
        let summary = &mut self.operations[index];
        match verdict {
            Verdict::Passed => {}
            Verdict::Failed => summary.failed += 1,
            Verdict::KnownFailure => summary.known_failures += 1,
            Verdict::UnexpectedPass => summary.unexpected_passes += 1,
        }
        if verdict == Verdict::Failed && summary.complaints.len() < MAX_DESCRIBED {
            summary.complaints.push(format!("{} on {}", complaints.join("; "), named.case.shapes()));
        }
        self.last_failure()
    }

    pub(super) fn add_missing_entry_points(&mut self, entry_points: impl Iterator<Item = String>) {
        self.entry_points_not_reached.extend(entry_points);
        self.passed &= self.entry_points_not_reached.is_empty();
    }

    /// Adds the outcome of a whole step. Returns the result if it is a failure.
    pub(super) fn add_steps(
        &mut self,
        name: &str,
        outcome: Result<StepComparison>,
        time: Duration,
    ) -> Option<&CaseResult> {
        match outcome {
            Ok(steps) => {
                self.record(name, None, steps.complaints.clone(), time);
                self.steps.push(steps);
            }
            Err(error) => self.complain(name, &error.to_string(), time),
        }
        self.last_failure()
    }

    /// Adds the outcome of two runs of a model. Returns the result if it is a failure.
    pub(super) fn add_repeat(
        &mut self,
        name: &str,
        model: &str,
        outcome: Result<bool>,
        time: Duration,
    ) -> Option<&CaseResult> {
        match outcome {
            Ok(true) => {
                self.record(name, None, Vec::new(), time);
                self.repeated.push(model.to_string());
            }
            Ok(false) => self.complain(name, DIFFERENT_BITS, time),
            Err(error) => self.complain(name, &error.to_string(), time),
        }
        self.last_failure()
    }

    /// The newest result, if it is a failure that was not expected.
    fn last_failure(&self) -> Option<&CaseResult> {
        self.results.last().filter(|result| result.verdict == Verdict::Failed)
    }

    /// The results with a verdict.
    pub fn with_verdict(&self, verdict: Verdict) -> impl Iterator<Item = &CaseResult> {
        self.results.iter().filter(move |result| result.verdict == verdict)
    }

    /// Records the result of a case: its complaints, which are empty if it passed.
    fn record(&mut self, name: &str, variant: Option<&str>, complaints: Vec<String>, time: Duration) -> Verdict {
        let reason = self.known_failures.0.reason(name).map(String::from);
        let verdict = match (complaints.is_empty(), &reason) {
            (true, None) => Verdict::Passed,
            (false, None) => Verdict::Failed,
            (false, Some(_)) => Verdict::KnownFailure,
            (true, Some(_)) => Verdict::UnexpectedPass,
        };
        self.passed &= matches!(verdict, Verdict::Passed | Verdict::KnownFailure);
        self.results.push(CaseResult {
            name: name.into(),
            variant: variant.map(String::from),
            verdict,
            complaints,
            reason,
            seconds: time.as_secs_f64(),
        });
        verdict
    }

    fn complain(&mut self, name: &str, complaint: &str, time: Duration) {
        if self.record(name, None, vec![complaint.to_string()], time) == Verdict::Failed {
            self.complaints.push(format!("{name}: {complaint}"));
        }
    }

    /// The reasons of the bounds, each once, with the operations that have this bound.
    fn bounds(&self) -> Vec<(&'static str, Vec<&str>)> {
        let mut bounds: Vec<(&str, Vec<&str>)> = Vec::new();
        for summary in &self.operations {
            match bounds.iter_mut().find(|(why, _)| *why == summary.why) {
                Some((_, operations)) => operations.push(&summary.operation),
                None => bounds.push((summary.why, vec![&summary.operation])),
            }
        }
        bounds
    }
}

impl OperationSummary {
    fn new(operation: String, tolerance: Tolerance) -> Self {
        Self {
            operation,
            cases: 0,
            largest_absolute: 0.0,
            largest_relative: 0.0,
            normalised: 0.0,
            bound: 0.0,
            why: tolerance.why,
            share: 0.0,
            failed: 0,
            known_failures: 0,
            unexpected_passes: 0,
            complaints: Vec::new(),
        }
    }

    /// Adds the errors of a case.
    fn measure(&mut self, tolerance: Tolerance, outcome: &Result<Vec<WrittenTensor>>) {
        self.cases += 1;
        self.bound = self.bound.max(tolerance.absolute);
        for WrittenTensor { comparison, .. } in outcome.iter().flatten() {
            self.largest_absolute = self.largest_absolute.max(comparison.largest_absolute);
            self.largest_relative = self.largest_relative.max(comparison.largest_relative);
            self.normalised = self.normalised.max(comparison.normalised);
            self.share = self.share.max(comparison.share);
        }
    }

    /// `ok`, or the numbers of failures, known failures and unexpected passes.
    pub(super) fn status(&self) -> String {
        let counts = [
            (self.failed, "FAILED"),
            (self.known_failures, "known to fail"),
            (self.unexpected_passes, "UNEXPECTEDLY PASSED"),
        ];
        let parts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let parts = parts.collect::<Vec<_>>().join(", ");
        if parts.is_empty() { "ok".into() } else { parts }
    }
}

impl CaseResult {
    /// The name, with the variant in brackets if there is one.
    pub fn full_name(&self) -> String {
        match &self.variant {
            Some(variant) => format!("{} [{variant}]", self.name),
            None => self.name.clone(),
        }
    }
}

fn only_not_passed<S: Serializer>(results: &[CaseResult], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(results.iter().filter(|result| result.verdict != Verdict::Passed))
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.operations.is_empty() {
            writeln!(
                f,
                "{:<26} {:>6} {:>9} {:>9} {:>10} {:>9} {:>6}",
                "operation", "cases", "absolute", "relative", "normalised", "bound", "share"
            )?;
        }
        for summary in &self.operations {
            writeln!(
                f,
                "{:<26} {:>6} {:>9.1e} {:>9.1e} {:>10.1e} {:>9.1e} {:>5.0}%  {}",
                summary.operation,
                summary.cases,
                summary.largest_absolute,
                summary.largest_relative,
                summary.normalised,
                summary.bound,
                100.0 * summary.share,
                summary.status(),
            )?;
            for complaint in &summary.complaints {
                writeln!(f, "    {complaint}")?;
            }
        }
        for (why, operations) in self.bounds() {
            writeln!(f, "bound of {}: {why}", operations.join(", "))?;
        }
        for entry in &self.entry_points_not_reached {
            writeln!(f, "no case reached the entry point {entry}  FAILED")?;
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
        for result in self.with_verdict(Verdict::KnownFailure) {
            writeln!(f, "known failure: {} ({})", result.full_name(), result.reason.as_deref().unwrap_or_default())?;
        }
        for result in self.with_verdict(Verdict::UnexpectedPass) {
            writeln!(f, "unexpected pass: {} is listed as a known failure  FAILED", result.full_name())?;
        }
        let passed = self.with_verdict(Verdict::Passed).count();
        let verdict = if self.passed { "computes correctly" } else { "DOES NOT COMPUTE CORRECTLY" };
        write!(
            f,
            "{} {verdict}: {passed} of {} cases pass, {:.0} s ({})",
            self.device,
            self.results.len(),
            self.seconds,
            self.scope
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report with a case of each verdict.
    fn report() -> VerifyReport {
        let known = KnownFailures::parse("[[failure]]\ncase = '^b'\nreason = 'driver bug <1>'").unwrap();
        let mut report = VerifyReport {
            device: "A & B".into(),
            driver: "driver".into(),
            scope: "quick",
            seed: 0,
            passed: true,
            seconds: 1.5,
            operations: Vec::new(),
            entry_points_not_reached: Vec::new(),
            steps: Vec::new(),
            repeated: Vec::new(),
            complaints: Vec::new(),
            results: Vec::new(),
            known_failures: Known(known),
        };
        let time = Duration::from_millis(250);
        report.record("a/x=1", None, Vec::new(), time);
        report.record("b/x=1", Some("tile shape 1"), vec!["y: 1 of 2 elements is wrong".into()], time);
        assert!(report.passed, "a known failure does not fail the run");
        report
    }

    #[test]
    fn an_unexpected_pass_and_a_failure_fail_the_run() {
        let mut with_pass = report();
        assert_eq!(with_pass.record("b/x=2", None, Vec::new(), Duration::ZERO), Verdict::UnexpectedPass);
        assert!(!with_pass.passed);
        assert!(with_pass.to_string().contains("unexpected pass: b/x=2"), "{with_pass}");
        let mut with_failure = report();
        assert_eq!(with_failure.record("a/x=2", None, vec!["y".into()], Duration::ZERO), Verdict::Failed);
        assert!(!with_failure.passed);
    }

    #[test]
    fn junit_has_every_case_and_is_well_formed() {
        let mut report = report();
        report.record("a/x=2", None, vec!["y: NaN & more".into()], Duration::ZERO);
        report.record("b/x=2", None, Vec::new(), Duration::ZERO);
        let junit = report.junit();
        let document = roxmltree::Document::parse(&junit).expect("XML");
        let suite = document.root_element();
        let counts = ["tests", "failures", "skipped", "errors"].map(|name| suite.attribute(name).unwrap());
        assert_eq!(counts, ["4", "2", "1", "0"], "{junit}");
        let messages = |tag: &str| -> Vec<&str> {
            let nodes = document.descendants().filter(|node| node.has_tag_name(tag));
            nodes.map(|node| node.attribute("message").unwrap()).collect()
        };
        assert_eq!(messages("skipped"), ["known failure: driver bug <1>; y: 1 of 2 elements is wrong"]);
        assert_eq!(messages("failure"), ["y: NaN & more", "passes, but is listed as a known failure: driver bug <1>"]);
        let case = document.descendants().find(|node| node.attribute("name") == Some("b/x=1 [tile shape 1]"));
        assert_eq!(case.unwrap().attribute("classname"), Some("b"));
    }

    #[test]
    fn the_markdown_summary_lists_failures_and_known_failures() {
        let mut report = report();
        report.record("a/x=2", None, vec!["y: <b>".into()], Duration::ZERO);
        let markdown = report.markdown();
        assert!(markdown.starts_with("## gpu-gan verify: FAILED\n"), "{markdown}");
        assert!(markdown.contains("- cases: 1 of 3 passed\n"), "{markdown}");
        assert!(markdown.contains("### Failed: 1\n\n- `a/x=2`: y: &lt;b>\n"), "{markdown}");
        assert!(
            markdown.contains("### Known failures: 1\n\n- `b/x=1 [tile shape 1]`: driver bug &lt;1>; "),
            "{markdown}"
        );
    }

    #[test]
    fn json_omits_the_cases_that_passed() {
        let json = serde_json::to_value(report()).unwrap();
        let results = json["not_passed"].as_array().unwrap();
        assert_eq!(results.len(), 1);
        assert_eq!((&results[0]["verdict"], &results[0]["name"]), (&"known-failure".into(), &"b/x=1".into()));
    }
}
