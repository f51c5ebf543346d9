//! `gpu-gan verify`: selection of cases, known failures, and reports for CI systems.

use serde_json::Value;

use crate::place::{Place, skipped};

/// A filter of cases that run quickly on a software adapter.
const FILTER: &str = "--filter ^(concat|pick_logit)/";

/// Whether GPU tests are skipped.
fn without_gpu() -> bool {
    let skip = std::env::var("GPU_GAN_SKIP_GPU").is_ok_and(|value| value == "1");
    if skip {
        skipped("verify on a GPU", "GPU_GAN_SKIP_GPU=1");
    }
    skip
}

#[test]
fn the_list_has_the_names_of_all_cases_or_of_those_that_match_without_a_device() {
    let place = Place::empty();
    let all = place.gpu_gan("verify --list").succeeds().stdout();
    assert!(all.lines().count() > 500 && all.lines().any(|name| name == "step/dcgan-fast"), "{all}");
    let some = place.gpu_gan("verify --list --filter ^concat/").succeeds().stdout();
    assert!(some.starts_with("concat/a=1x3x3x5,b=1x3x3x5,y=2x3x3x5\n"), "{some}");
    assert_eq!(some.lines().count(), all.lines().filter(|name| name.starts_with("concat/")).count());
}

#[test]
fn a_filter_that_matches_nothing_and_a_broken_one_are_refused() {
    let place = Place::empty();
    place.gpu_gan("verify --list --filter nosuch").refused().error("no case matches the filter");
    place.gpu_gan("verify --filter ( --list").misused().error("invalid value '(' for '--filter <REGEX>'");
    if !without_gpu() {
        place.gpu_gan("verify --device gpu --filter nosuch").refused().error("no case matches").hint("--list");
    }
}

#[test]
fn a_filtered_run_writes_junit_and_a_summary_of_its_cases() {
    if without_gpu() {
        return;
    }
    let place = Place::empty();
    let call = format!("verify --device gpu --json --seed 7 {FILTER} --junit junit.xml --summary summary.md");
    let report: Value = serde_json::from_str(&place.gpu_gan(&call).succeeds().stdout()).expect("JSON");
    assert_eq!((&report["passed"], &report["seed"]), (&true.into(), &7.into()), "{report}");
    let operations: Vec<_> = report["operations"].as_array().unwrap().iter().map(|row| &row["operation"]).collect();
    assert_eq!(operations, ["concat", "pick_logit"], "{report}");

    let junit = place.text("junit.xml");
    let document = roxmltree::Document::parse(&junit).expect("XML");
    let suites = document.root_element();
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase")).count();
    assert_eq!(suites.attribute("tests"), Some(cases.to_string().as_str()), "{junit}");
    assert_eq!((suites.attribute("failures"), suites.attribute("skipped")), (Some("0"), Some("0")), "{junit}");
    let ran: u64 = report["operations"].as_array().unwrap().iter().filter_map(|row| row["cases"].as_u64()).sum();
    assert_eq!(cases as u64, ran);

    let summary = place.text("summary.md");
    assert!(summary.starts_with("## gpu-gan verify: passed\n") && summary.contains("| concat | "), "{summary}");
}

#[test]
fn a_known_failure_that_passes_fails_the_run_and_is_named() {
    if without_gpu() {
        return;
    }
    let place = Place::empty();
    place.write("known.toml", b"[[failure]]\ncase = '^concat/a=1x3'\nreason = 'a fixed <bug>'\n");
    let call = format!("verify --device gpu {FILTER} --expect known.toml --junit junit.xml --summary summary.md");
    let output = place.command(&call).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    assert!(stdout.contains("unexpected pass: concat/a=1x3x3x5,b=1x3x3x5,y=2x3x3x5"), "{stdout}");
    assert!(stderr.contains("are listed as known failures") && stderr.contains("--expect"), "{stderr}");
    let junit = place.text("junit.xml");
    let document = roxmltree::Document::parse(&junit).expect("XML");
    let failure = document.descendants().find(|node| node.has_tag_name("failure")).expect("a failure");
    assert!(failure.attribute("message").unwrap().contains("a fixed <bug>"), "{junit}");
    assert!(place.text("summary.md").contains("### Unexpected passes: "));

    // A known failure of another vendor is not expected here.
    place.write("known.toml", b"[[failure]]\nvendor = '0xffff1'\ncase = '^concat/'\nreason = 'another device'\n");
    place.gpu_gan(&format!("verify --device gpu {FILTER} --expect known.toml")).succeeds();
}

#[test]
fn a_broken_list_of_known_failures_is_refused() {
    let place = Place::empty();
    place.write("known.toml", b"[[failure]]\ncase = 'x'\n");
    let said = place.gpu_gan("verify --expect known.toml").fails();
    said.error("known.toml is not a list of known failures").hint("[[failure]]");
    place.gpu_gan("verify --expect nosuch.toml").refused().error("cannot read nosuch.toml");
}

#[test]
fn a_replay_of_a_folder_without_failing_cases_is_refused() {
    let place = Place::empty();
    place.gpu_gan("verify --replay nosuch").refused().error("cannot read the folder nosuch").hint("spelling");
    place.write("other/notes.txt", b"mine");
    let hint = "give a folder that `gpu-gan verify --dump DIR` wrote";
    place.gpu_gan("verify --replay other").refused().error("other has no failing case").hint(hint);
    place.write("other/case.json", b"{}");
    place.gpu_gan("verify --replay other").refused().error("case.json does not describe a case of").hint(hint);
    place.gpu_gan("verify --replay other --seed 3").misused().error("cannot be used with");
}

#[test]
fn a_dump_into_a_folder_with_files_is_refused_and_without_failures_none_is_written() {
    if without_gpu() {
        return;
    }
    let place = Place::empty();
    place.write("mine/notes.txt", b"mine");
    let said = place.gpu_gan(&format!("verify --device gpu {FILTER} --dump mine")).refused();
    said.error("mine already exists and is not empty").hint("--dump");
    let said = place.gpu_gan(&format!("verify --device gpu {FILTER} --dump dump")).succeeds();
    said.remarks("no case failed, so dump was not written");
    assert!(!place.path("dump").exists());
}
