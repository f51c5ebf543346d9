//! Whether `verify` sees a broken kernel: in each shader in turn a `+` becomes a `-`, one at a time.

mod common;

use std::fmt::Write;

use common::{aloud, gpu};
use gpu_gan::gpu::{GpuDevice, SHADERS, Shader, entry_points_of};
use gpu_gan::verify::{Case, awkward, long};

/// Places of a shader that are tried, evenly chosen.
const MUTATIONS: usize = 5;

/// The places of the code, comments left out, where a `+` stands between two terms or before a `=`.
fn places(source: &str) -> Vec<usize> {
    let mut places = Vec::new();
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let code = line.split("//").next().unwrap_or_default();
        let pluses = code.match_indices([' ']).filter(|&(at, _)| {
            let rest = &code[at..];
            rest.starts_with(" + ") || rest.starts_with(" += ")
        });
        places.extend(pluses.map(|(at, _)| start + at + 1));
        start += line.len();
    }
    places
}

/// What is seen of a shader with a mutation: the first complaint, or nothing.
fn caught(gpu: &GpuDevice, cases: &[&Case]) -> Option<String> {
    cases.iter().find_map(|case| match case.run(gpu) {
        Err(error) => Some(format!("{}: {error}", case.op().name())),
        Ok(comparisons) => comparisons.into_iter().find_map(|(letter, comparison)| {
            comparison.complaint.map(|complaint| format!("{letter} of {}: {complaint}", case.op().name()))
        }),
    })
}

fn line_of(source: &str, place: usize) -> &str {
    let start = source[..place].rfind('\n').map_or(0, |at| at + 1);
    source[start..].lines().next().unwrap_or_default().trim()
}

#[test]
fn a_plus_that_became_a_minus_is_caught_in_every_shader() {
    let Some(gpu) = gpu() else { return };
    let cases: Vec<Case> = awkward().into_iter().chain(long()).collect();
    let (mut table, mut missed) = (String::new(), Vec::new());
    for shader @ Shader { name, source } in SHADERS {
        let cases: Vec<&Case> = cases
            .iter()
            .filter(|case| entry_points_of(case.op(), case.program()).iter().any(|(used, _)| used == &shader.name))
            .collect();
        let places = places(source);
        let step = places.len().div_ceil(MUTATIONS).max(1);
        assert!(!places.is_empty(), "{name} has nothing to break");
        for &place in places.iter().skip(step / 2).step_by(step) {
            let broken = format!("{}-{}", &source[..place], &source[place + 1..]);
            let what = format!("{name}: {}", line_of(&broken, place));
            match caught(&gpu.clone().replacing(name, &broken), &cases) {
                Some(complaint) => writeln!(table, "{what}\n    caught by {complaint}").unwrap(),
                None => missed.push(what),
            }
        }
    }
    aloud(&table);
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
}
