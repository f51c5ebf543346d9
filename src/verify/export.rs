//! Reports of [`verify`](super::verify) for CI systems: JUnit XML, and Markdown for the page of a job.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::{CaseResult, Verdict, VerifyReport};

/// The largest number of results of a kind that the Markdown summary lists; the others are counted.
const MAX_NAMED: usize = 20;

/// The template of the JUnit XML, the format that CI systems read.
const JUNIT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="gpu-gan verify" tests="{{ tests }}" failures="{{ failures }}" errors="0" skipped="{{ skipped }}" time="{{ time }}">
  <testsuite name="{{ device }}" tests="{{ tests }}" failures="{{ failures }}" errors="0" skipped="{{ skipped }}" time="{{ time }}">
    <properties>
      <property name="device" value="{{ device }}"/>
      <property name="driver" value="{{ driver }}"/>
      <property name="scope" value="{{ scope }}"/>
      <property name="seed" value="{{ seed }}"/>
    </properties>
{%- for case in cases %}
    <testcase classname="{{ case.operation }}" name="{{ case.name }}" time="{{ case.time }}">
{%- if case.failure %}
      <failure message="{{ case.failure }}"/>
{%- endif %}
{%- if case.skipped %}
      <skipped message="{{ case.skipped }}"/>
{%- endif %}
    </testcase>
{%- endfor %}
  </testsuite>
</testsuites>
"#;

/// The values of [`JUNIT`].
#[derive(Serialize)]
struct Suite<'a> {
    /// The number of test cases.
    tests: usize,
    /// The number of failed test cases.
    failures: usize,
    /// The number of skipped test cases.
    skipped: usize,
    /// The duration of all cases, in seconds.
    time: String,
    /// The name of the adapter.
    device: &'a str,
    /// The name and version of its driver.
    driver: &'a str,
    /// The scope of the checks: `quick` or `full`.
    scope: &'a str,
    /// The seed of the operands' values.
    seed: u64,
    /// The test cases.
    cases: Vec<TestCase>,
}

/// A test case of the XML.
#[derive(Serialize)]
struct TestCase {
    /// The name of the operation.
    operation: String,
    /// The name of the case.
    name: String,
    /// The duration, in seconds.
    time: String,
    /// The description of the failure; `None` for a passed or skipped case.
    failure: Option<String>,
    /// The reason for skipping the case; `None` for a passed or failed case.
    skipped: Option<String>,
}

impl VerifyReport {
    /// All results as JUnit XML. A known failure is a skipped test, an unexpected pass a failed one.
    pub fn junit(&self) -> String {
        let cases = self.results.iter().map(test_case);
        let entry_points = self.entry_points_not_reached.iter().map(|entry| TestCase {
            operation: "entry-point".into(),
            name: format!("entry-point/{entry}"),
            time: seconds(0.0),
            failure: Some("no case reached this entry point".into()),
            skipped: None,
        });
        let cases: Vec<TestCase> = cases.chain(entry_points).collect();
        let suite = Suite {
            tests: cases.len(),
            failures: cases.iter().filter(|case| case.failure.is_some()).count(),
            skipped: cases.iter().filter(|case| case.skipped.is_some()).count(),
            time: seconds(self.seconds),
            device: &self.device,
            driver: &self.driver,
            scope: self.scope,
            seed: self.seed,
            cases,
        };
        let mut environment = Environment::new();
        // XML and HTML escape the same characters.
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.render_str(JUNIT, Serde(suite)).expect("the template and its values are constants of this file")
    }

    /// A summary in Markdown: the verdict, a table of operations, and all results other than passes.
    pub fn markdown(&self) -> String {
        let mut lines = vec![
            format!("## gpu-gan verify: {}", if self.passed { "passed" } else { "FAILED" }),
            String::new(),
            format!("- device: {}", escaped(&self.device)),
            format!("- driver: {}", escaped(&self.driver)),
            format!("- scope: {}, seed {}, {:.0} s", self.scope, self.seed, self.seconds),
            format!("- cases: {} of {} passed", self.with_verdict(Verdict::Passed).count(), self.results.len()),
            String::new(),
        ];
        if !self.operations.is_empty() {
            lines.push("| operation | cases | largest error, share of its bound | status |".into());
            lines.push("|---|---:|---:|---|".into());
            lines.extend(self.operations.iter().map(|summary| {
                let share = 100.0 * summary.share;
                format!("| {} | {} | {share:.0} % | {} |", summary.operation, summary.cases, summary.status())
            }));
        }
        for (heading, verdict) in [
            ("Failed", Verdict::Failed),
            ("Unexpected passes", Verdict::UnexpectedPass),
            ("Known failures", Verdict::KnownFailure),
        ] {
            let results: Vec<_> = self.with_verdict(verdict).collect();
            if results.is_empty() {
                continue;
            }
            lines.extend([String::new(), format!("### {heading}: {}", results.len()), String::new()]);
            lines.extend(results.iter().take(MAX_NAMED).map(|result| item(result)));
            if results.len() > MAX_NAMED {
                lines.push(format!("- and {} more", results.len() - MAX_NAMED));
            }
        }
        if !self.entry_points_not_reached.is_empty() {
            lines.extend([String::new(), "### Entry points that no case reached".into(), String::new()]);
            lines.extend(self.entry_points_not_reached.iter().map(|entry| format!("- `{entry}`")));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

fn test_case(result: &CaseResult) -> TestCase {
    let reason = result.reason.as_deref().unwrap_or_default();
    let (failure, skipped) = match result.verdict {
        Verdict::Passed => (None, None),
        Verdict::Failed => (Some(result.complaints.join("; ")), None),
        Verdict::UnexpectedPass => (Some(format!("passes, but is listed as a known failure: {reason}")), None),
        Verdict::KnownFailure => (None, Some(format!("known failure: {reason}; {}", result.complaints.join("; ")))),
    };
    let operation = result.name.split('/').next().unwrap_or_default().to_string();
    TestCase { operation, name: result.full_name(), time: seconds(result.seconds), failure, skipped }
}

fn item(result: &CaseResult) -> String {
    let mut text = format!("- `{}`", result.full_name());
    let remarks = result.reason.iter().chain(&result.complaints);
    let remarks: Vec<String> = remarks.map(|remark| escaped(remark)).collect();
    if !remarks.is_empty() {
        text.push_str(": ");
        text.push_str(&remarks.join("; "));
    }
    text
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3}")
}

/// Escapes a text for Markdown and HTML, in one line.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '\n' | '\r' => escaped.push(' '),
            '<' => escaped.push_str("&lt;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => escaped.extend(['\\', character]),
            other => escaped.push(other),
        }
    }
    escaped
}
