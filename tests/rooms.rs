//! The structure of the code: a room uses only rooms below it in the code map of `docs/ARCHITECTURE.md`, the files of a room do not use
//! each other in circles, type names are unique, and code names the crates of a feature only where it asks for that feature.

#[path = "rooms/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use source::Crate;

/// The exceptions in tests: finite differences of a gradient penalty need a whole network.
const UPWARD_IN_TESTS: &[&str] = &["cpu/tests/gradients uses net"];

/// The circles that exist and should be removed.
const CIRCLES_YET: &[&str] = &["cpu/memory, cpu/scalar"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rooms of the code map with their heights, 0 at the bottom. Rooms in one row have the same height.
fn heights() -> BTreeMap<String, usize> {
    let map = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let (_, map) = map.split_once("## Code map").expect("a code map");
    let rows = map.lines().filter(|line| line.starts_with("| `src/"));
    let mut heights = BTreeMap::new();
    for (height, row) in rows.rev().enumerate() {
        let rooms = row.split('|').nth(1).expect("a cell");
        for room in rooms.split('`').filter_map(|path| path.strip_prefix("src/")) {
            let room = room.trim_end_matches('/').trim_end_matches(".rs").to_owned();
            assert_eq!(heights.insert(room.clone(), height), None, "{room} is in the code map twice");
        }
    }
    heights
}

#[test]
fn the_code_map_lists_each_room_and_no_other() {
    let rooms: BTreeSet<String> = std::fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|room| room != "lib")
        .collect();
    assert_eq!(heights().into_keys().collect::<BTreeSet<_>>(), rooms);
}

#[test]
fn a_room_uses_only_rooms_below_it() {
    let heights = heights();
    let code = Crate::read(&root().join("src"));
    let mut upward = BTreeSet::new();
    for (file, used) in code.uses_with_tests() {
        let (from, to) = (file.room(), used.room());
        // `lib.rs` lists all rooms.
        if from == to || from == "lib" {
            continue;
        }
        if to == "lib" || heights[to] >= heights[from] {
            upward.insert(format!("{} uses {to}", file.path()));
        }
    }
    upward.retain(|use_| !UPWARD_IN_TESTS.contains(&use_.as_str()));
    assert_eq!(upward, BTreeSet::new());
}

#[test]
fn files_of_a_room_do_not_use_one_another_in_circles() {
    let code = Crate::read(&root().join("src"));
    let mut circles: BTreeSet<String> = code.circles().into_iter().map(|circle| circle.join(", ")).collect();
    circles.retain(|circle| !CIRCLES_YET.contains(&circle.as_str()));
    assert_eq!(circles, BTreeSet::new());
}

#[test]
fn type_names_are_unique() {
    let code = Crate::read(&root().join("src"));
    let several: BTreeMap<_, _> = code.types().into_iter().filter(|(_, files)| files.len() > 1).collect();
    assert_eq!(several, BTreeMap::new());
}

/// The optional crates with the features that bring each of them, directly or through another feature.
fn optional_crates() -> BTreeMap<String, BTreeSet<String>> {
    let manifest: toml::Table = std::fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let features = manifest["features"].as_table().expect("a table");
    let listed = |feature: &str| -> Vec<String> {
        let list = features[feature].as_array().expect("a list").iter();
        list.map(|entry| entry.as_str().expect("a text").to_owned()).collect()
    };
    let mut crates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for feature in features.keys().filter(|feature| *feature != "default") {
        let mut open = vec![feature.clone()];
        while let Some(entry) = open.pop() {
            match entry.strip_prefix("dep:") {
                Some(name) => drop(crates.entry(name.replace('-', "_")).or_default().insert(feature.clone())),
                // A feature of another crate.
                None if entry.contains('/') => {}
                None => open.extend(listed(&entry)),
            }
        }
    }
    crates
}

#[test]
fn code_names_the_crates_of_a_feature_only_where_it_asks_for_the_feature() {
    let code = Crate::read(&root().join("src"));
    let crates = optional_crates();
    assert!(crates["wgpu"].contains("gpu") && crates["wgpu"].contains("cli") && !crates["wgpu"].contains("report"));
    for (name, features) in crates {
        let crates = BTreeSet::from([name]);
        // A crate that no code names could go.
        assert_ne!(code.names_without(&crates, &BTreeSet::new()), BTreeSet::new(), "{crates:?} is not used");
        assert_eq!(code.names_without(&crates, &features), BTreeSet::new());
    }
}
