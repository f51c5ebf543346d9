//! `verify` detects broken kernels: in each shader, one `+` at a time is replaced by a `-`. It writes the cases that fail, and a replay
//! of them finds the smallest shapes that fail.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::ops::Range;
use std::path::Path;

use common::{aloud, gpu, with_every_kernel_set};
use gpu_gan::gpu::{Dispatch, GpuDevice, SHADERS, Shader};
use gpu_gan::net::Model;
use gpu_gan::progress::Console;
use gpu_gan::verify::{
    Case, Replay, Scope, SmallestCase, Verdict, VerifyOptions, awkward, case_names, long, runs_of, verify,
};
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

/// A case on a variant of the device.
struct Run<'a> {
    /// Whether `verify --quick` has it.
    is_quick: bool,
    case: &'a Case,
    gpu: &'a GpuDevice,
    /// Its dispatches of one shader.
    dispatches: Vec<Dispatch>,
}

/// Verifies a mutated shader. Returns the first failure, if any. Runs whose kernels have the same SPIR-V as before are left out.
fn caught<'a>(shader: &Shader, source: &str, mut runs: impl Iterator<Item = &'a Run<'a>>) -> Option<String> {
    let (mut changed_entries, mut equal_kernels) = (BTreeSet::new(), BTreeSet::new());
    runs.find_map(|Run { case, gpu, dispatches, .. }| {
        let mutated = (*gpu).clone().replacing(shader.name, source);
        let mut is_changed = |dispatch: &Dispatch| {
            if changed_entries.contains(dispatch.entry) || equal_kernels.contains(&dispatch.kernel()) {
                return changed_entries.contains(dispatch.entry);
            }
            let is_changed = gpu.spirv(dispatch).is_none_or(|spirv| mutated.spirv(dispatch) != Some(spirv));
            if is_changed {
                changed_entries.insert(dispatch.entry);
            } else {
                equal_kernels.insert(dispatch.kernel());
            }
            is_changed
        };
        if !dispatches.iter().any(&mut is_changed) {
            return None;
        }
        match case.run(&mutated) {
            Err(error) => Some(format!("{}: {error}", case.op().name())),
            Ok(comparisons) => comparisons.into_iter().find_map(|(letter, comparison)| {
                comparison.complaint.map(|complaint| format!("{letter} of {}: {complaint}", case.op().name()))
            }),
        }
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
    let models: Vec<Model> = Model::built_in().map(|name| Model::named(name).unwrap()).collect();
    // What `verify --quick` runs, then what `verify --full` runs more.
    let quick = runs_of(&models, Scope::Quick, gpu);
    let all: Vec<Case> = long().into_iter().chain(awkward()).collect();
    // The tuner may choose any of the tile shapes, and tensors of many million elements need grid-stride loops.
    let mut variants = with_every_kernel_set(gpu);
    variants.extend(gpu.tile_shape_variants());
    variants.push(gpu.with_two_workgroups());
    // Each case on all variants that run it differently, before the next case: a mutation of what only one variant runs is caught early, too.
    let mut runs: BTreeMap<&str, Vec<Run>> = BTreeMap::new();
    let mut add = |is_quick, case, gpu, all: &[Dispatch]| {
        let shaders: BTreeSet<&str> = all.iter().map(|dispatch| dispatch.shader).collect();
        for shader in shaders {
            let dispatches = all.iter().filter(|dispatch| dispatch.shader == shader).cloned().collect();
            runs.entry(shader).or_default().push(Run { is_quick, case, gpu, dispatches });
        }
    };
    for (case, variant) in &quick {
        add(true, case, variant, &case.dispatches_on(variant));
    }
    for case in &all {
        let mut known = Vec::new();
        for variant in &variants {
            let dispatches = case.dispatches_on(variant);
            if !known.contains(&dispatches) {
                add(false, case, variant, &dispatches);
                known.push(dispatches);
            }
        }
    }
    let broken = |source: &str, place: usize| format!("{}-{}", &source[..place], &source[place + 1..]);
    // A file can be part of several shaders.
    let mut users: BTreeMap<&str, Vec<(&Shader, Range<usize>)>> = BTreeMap::new();
    let is_run = |shader: &str| variants.iter().any(|variant| variant.uses(shader));
    for shader in SHADERS.iter().filter(|shader| is_run(shader.name)) {
        for (file, lies) in files(shader) {
            users.entry(file).or_default().push((shader, lies));
        }
    }
    let mut mutations = Vec::new();
    for (file, users) in &users {
        let (first, lies) = &users[0];
        let text = &first.source[lies.clone()];
        let places = places(text);
        // A file of declarations alone has no arithmetic.
        assert_eq!(places.is_empty(), !text.contains("fn "), "{file} has nothing to break");
        mutations.extend(chosen(&places, text.lines().count()).map(|place| (file, text, place, users)));
    }
    // Drivers compile a kernel on one core, so each core tries a mutation.
    let results = mutations.into_par_iter().map(|(file, text, place, users)| {
        let caught_in = |is_quick: bool| {
            users.iter().find_map(|(shader, lies)| {
                let runs = runs[shader.name].iter().filter(|run| run.is_quick == is_quick);
                caught(shader, &broken(shader.source, lies.start + place), runs)
            })
        };
        let by_quick = caught_in(true).map(|complaint| format!("caught by {complaint}"));
        let complaint = by_quick.or_else(|| Some(format!("caught in the full scope by {}", caught_in(false)?)));
        (format!("{file}: {}", line_of(&broken(text, place), place)), complaint)
    });
    let (mut table, mut missed) = (String::new(), Vec::new());
    for (what, complaint) in results.collect::<Vec<_>>() {
        match complaint {
            Some(complaint) => writeln!(table, "{what}\n    {complaint}").unwrap(),
            None => missed.push(what),
        }
    }
    let others: Vec<&str> = SHADERS.iter().map(|shader| shader.name).filter(|name| !is_run(name)).collect();
    aloud(&format!("not broken, as this adapter does not run them: {}", others.join(", ")));
    aloud(&table);
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
}

/// The elements of a file of a NumPy array of f32, or of f64 rounded to f32, and its shape.
fn array(path: &Path) -> (Vec<f32>, Vec<u64>) {
    let read = || npyz::NpyFile::new(fs::File::open(path).unwrap()).unwrap();
    let values = read()
        .into_vec::<f32>()
        .unwrap_or_else(|_| read().into_vec::<f64>().unwrap().into_iter().map(|value| value as f32).collect());
    (values, read().shape().to_vec())
}

#[test]
fn a_case_that_cannot_run_fails_alone_and_results_are_in_order() {
    let Some(gpu) = gpu() else { return };
    // A device of its own: errors of a device stay.
    let broken = GpuDevice::open(gpu.adapter()).unwrap().replacing("concat", "no WGSL");
    let filter = "^(concat|fill|accumulate|append_class)/";
    let mut options = VerifyOptions::default();
    options.filter = Some(filter.parse().unwrap());
    let report = verify(&broken, &options, &Console::silent()).unwrap();
    let failed: Vec<bool> = report.results.iter().map(|result| result.verdict == Verdict::Failed).collect();
    let expected: Vec<bool> = report.results.iter().map(|result| result.name.starts_with("concat/")).collect();
    assert!(failed == expected && failed.contains(&true) && failed.contains(&false), "{:?}", report.results);
    let on_device = report.results.iter().filter(|result| result.variant.is_none());
    let names: Vec<&String> = on_device.map(|result| &result.name).collect();
    let all = case_names(Scope::Quick).unwrap();
    let expected: Vec<&String> = all.iter().filter(|name| options.filter.as_ref().unwrap().matches(name)).collect();
    assert_eq!(names, expected);
}

#[test]
fn a_failing_case_is_written_and_a_replay_shrinks_it_on_a_broken_device_and_passes_on_a_correct_one() {
    let Some(gpu) = gpu() else { return };
    // Every element of the first batch from the fortieth on becomes 0.
    let concat = SHADERS.iter().find(|shader| shader.name == "concat").unwrap();
    let source = concat.source.replace("y[i] = a[i];", "y[i] = select(a[i], 0.0, i >= 40u);");
    assert_ne!(source, concat.source);
    let broken = gpu.clone().replacing("concat", &source);
    let folder = tempfile::tempdir().unwrap();
    let [dump, smaller] = ["dump", "smaller"].map(|name| folder.path().join(name));
    let options = |dump: &Path| {
        let mut options = VerifyOptions::default();
        options.filter = Some("^concat/a=(1|3)x3x3x5".parse().unwrap());
        options.seed = 3;
        options.dump = Some(dump.to_path_buf());
        options
    };
    let report = verify(gpu, &options(&dump), &Console::silent()).unwrap();
    assert!(report.passed && !dump.exists(), "{report}");
    let report = verify(&broken, &options(&dump), &Console::silent()).unwrap();
    let failed: Vec<&str> =
        report.results.iter().filter(|result| !result.complaints.is_empty()).map(|result| &*result.name).collect();
    assert_eq!(failed, ["concat/a=1x3x3x5,b=1x3x3x5,y=2x3x3x5", "concat/a=3x3x3x5,b=5x3x3x5,y=8x3x3x5"], "{report}");

    let case = dump.join("0002-concat");
    let (a, _) = array(&case.join("inputs/0-a.npy"));
    let (b, _) = array(&case.join("inputs/1-b.npy"));
    let (got, shape) = array(&case.join("got/2-y.npy"));
    let (wanted, _) = array(&case.join("wanted/2-y.npy"));
    assert_eq!(shape, [8, 3, 3, 5]);
    assert_eq!(wanted, [&a[..], &b].concat());
    assert_eq!(got, [&a[..40], &[0.0; 95], &b].concat());
    let text = fs::read_to_string(case.join("case.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let dispatch = &file["dispatches"][0];
    assert_eq!((&file["name"], &file["seed"]), (&failed[1].into(), &3.into()), "{text}");
    assert_eq!(dispatch["overrides"], serde_json::json!({ "LEN_A": 135.0, "LEN_B": 225.0 }), "{text}");
    assert_eq!(dispatch["bindings"]["y"], "2-y from element 0", "{text}");
    assert_eq!(file["adapter"]["name"], gpu.adapter().name, "{text}");
    assert!(file["complaints"][0].as_str().unwrap().contains("95 of 360 elements are wrong"), "{text}");
    assert_eq!(fs::read_to_string(case.join("concat.wgsl")).unwrap(), source);
    assert_eq!(dispatch["spirv"].is_string(), gpu.adapter().backend == "Vulkan", "{text}");
    if let Some(spirv) = dispatch["spirv"].as_str() {
        let words = fs::read(case.join(spirv)).unwrap();
        assert_eq!(words[..4], 0x0723_0203_u32.to_le_bytes(), "the magic number of SPIR-V");
    }

    let replay = Replay::read(&dump, None).unwrap();
    let correct = replay.run(gpu, Some(&smaller), &Console::silent()).unwrap();
    assert!(correct.passed && correct.cases.len() == 2 && !smaller.exists(), "{correct}");
    let found = replay.run(&broken, Some(&smaller), &Console::silent()).unwrap();
    let smallest = |number: usize| found.cases[number].smallest.as_ref().expect("it fails");
    assert!(!found.passed, "{found}");
    // Every axis that is shorter by one leaves at most forty elements in the first batch; the second one is not broken.
    assert_eq!(smallest(0).name, "concat/a=1x3x3x5,b=1x3x3x5,y=2x3x3x5", "{found}");
    assert_eq!(smallest(1).name, "concat/a=3x1x3x5,b=1x1x3x5,y=4x1x3x5", "{found}");
    assert!(found.to_string().contains("smallest failing shapes, after "), "{found}");

    // The smallest case is a dump, too: it fails again, and cannot become smaller.
    let again = Replay::read(&smaller.join("0002-concat"), None).unwrap();
    let again = again.run(&broken, None, &Console::silent()).unwrap();
    let SmallestCase { name, complaints, .. } = again.cases[0].smallest.as_ref().unwrap();
    assert_eq!((name, complaints), (&smallest(1).name, &smallest(1).complaints));
    assert_eq!(again.cases[0].complaints, *complaints, "{again}");
}

#[test]
fn a_replay_refuses_a_case_that_this_version_does_not_have() {
    let Some(gpu) = gpu() else { return };
    let pick = SHADERS.iter().find(|shader| shader.name == "class").unwrap();
    let broken = gpu.clone().replacing("class", &pick.source.replace("+ logits", "- logits"));
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump");
    let name = "pick_logit/logits=6x1x1x4,labels=2,y=6x1x1x1";
    let mut options = VerifyOptions::default();
    options.filter = Some(format!("^{name}$").parse().unwrap());
    options.dump = Some(dump.clone());
    assert!(!verify(&broken, &options, &Console::silent()).unwrap().passed);
    let case = dump.join("0001-pick_logit");
    let path = case.join("case.json");
    let text = fs::read_to_string(&path).unwrap();
    for (right, wrong, problem) in [
        (name, "pick_logit/y=1", "this version of gpu-gan has no case of this name: pick_logit/y=1"),
        ("4\n      ]", "5\n      ]", "the shapes of its operands are not those of the case, nor smaller ones"),
        ("PickLogit {", "PickLogit2 {", "this version of gpu-gan has other operations under this name"),
    ] {
        assert!(text.contains(right), "{right:?} is not in {text}");
        fs::write(&path, text.replacen(right, wrong, 1)).unwrap();
        let error = Replay::read(&case, None).unwrap().run(gpu, None, &Console::silent()).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
        assert!(error.hint().contains("with the version of gpu-gan that wrote it, "), "{}", error.hint());
    }
    for (right, wrong, problem) in [
        ("gpu-gan verify case 1", "gpu-gan verify case 2", "its format is \"gpu-gan verify case 2\""),
        ("\"seed\"", "\"sead\"", "missing field `seed`"),
    ] {
        fs::write(&path, text.replacen(right, wrong, 1)).unwrap();
        let error = Replay::read(&dump, None).unwrap_err();
        assert!(error.to_string().contains(problem) && error.to_string().contains("case.json"), "{error}");
    }
}
