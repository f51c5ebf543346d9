//! `verify` detects broken kernels: in each shader, one `+` at a time is replaced by a `-`.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use common::{aloud, gpu};
use gpu_gan::gpu::{GpuDevice, SHADERS, Shader};
use gpu_gan::verify::{Case, awkward, long};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

/// The number of mutations of a short file.
const MUTATIONS: usize = 5;
/// The number of lines of a long file for each mutation.
const LINES: usize = 50;

/// The positions of `+` operators and `+=` assignments in a shader, without those in comments.
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

/// Verifies a mutated shader. Returns the first failure, if any.
fn caught(shader: &Shader, source: &str, cases: &[(&Case, &GpuDevice)]) -> Option<String> {
    cases.iter().find_map(|(case, gpu)| match case.run(&(*gpu).clone().replacing(shader.name, source)) {
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

/// The files that a shader consists of: their names and their ranges in its source.
fn files(shader: &Shader) -> Vec<(&'static str, Range<usize>)> {
    let source = shader.source;
    let name = |at: usize| Some(source[at..].strip_prefix("// ")?.split_once(".wgsl:")?.0);
    let lines = source.split_inclusive('\n').scan(0, |end, line| {
        *end += line.len();
        Some(*end - line.len())
    });
    let starts: Vec<_> = lines.filter_map(|at| Some((at, name(at).filter(|name| !name.contains(' '))?))).collect();
    let ends = starts.iter().skip(1).map(|&(at, _)| at).chain([source.len()]);
    starts.iter().zip(ends).map(|(&(at, name), end)| (name, at..end)).collect()
}

/// An evenly spaced choice of positions.
fn chosen(places: &[usize], lines: usize) -> impl Iterator<Item = usize> {
    let step = places.len().div_ceil(MUTATIONS.max(lines / LINES)).max(1);
    places.iter().skip(step / 2).step_by(step).copied()
}

#[test]
fn a_plus_that_became_a_minus_is_caught_in_every_shader() {
    let Some(gpu) = gpu() else { return };
    let all: Vec<Case> = awkward().into_iter().chain(long()).collect();
    let variants = gpu.variants();
    let of = |shader: &Shader| -> Vec<(&Case, &GpuDevice)> {
        let pairs = variants.iter().flat_map(|variant| all.iter().map(move |case| (case, variant)));
        pairs.filter(|(case, gpu)| case.entry_points(gpu).iter().any(|(used, _)| *used == shader.name)).collect()
    };
    let broken = |source: &str, place: usize| format!("{}-{}", &source[..place], &source[place + 1..]);
    // A file can be part of several shaders.
    let mut users: BTreeMap<&str, Vec<(&Shader, Range<usize>)>> = BTreeMap::new();
    for shader in SHADERS.iter().filter(|shader| gpu.uses(shader.name)) {
        for (file, lies) in files(shader) {
            users.entry(file).or_default().push((shader, lies));
        }
    }
    let mut mutations = Vec::new();
    for (file, users) in &users {
        let (first, lies) = &users[0];
        let text = &first.source[lies.clone()];
        let places = places(text);
        assert!(!places.is_empty(), "{file} has nothing to break");
        mutations.extend(chosen(&places, text.lines().count()).map(|place| (file, text, place, users)));
    }
    // Drivers compile a kernel on one core, so each core tries a mutation.
    let results = mutations.into_par_iter().map(|(file, text, place, users)| {
        let complaint = users
            .iter()
            .find_map(|(shader, lies)| caught(shader, &broken(shader.source, lies.start + place), &of(shader)));
        (format!("{file}: {}", line_of(&broken(text, place), place)), complaint)
    });
    let (mut table, mut missed) = (String::new(), Vec::new());
    for (what, complaint) in results.collect::<Vec<_>>() {
        match complaint {
            Some(complaint) => writeln!(table, "{what}\n    caught by {complaint}").unwrap(),
            None => missed.push(what),
        }
    }
    let others: Vec<&str> = SHADERS.iter().map(|shader| shader.name).filter(|name| !gpu.uses(name)).collect();
    aloud(&format!("not broken, as this adapter does not run them: {}", others.join(", ")));
    aloud(&table);
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
}
