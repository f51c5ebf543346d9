//! The shaders in a browser's WebGPU: another WGSL compiler, Tint, on a device with WebGPU's default limits.
//!
//! Rust writes the memory of the cases before they run, a page runs their dispatches, and Rust compares the memory afterwards.
#![cfg(target_os = "linux")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::time::Instant;

use common::{aloud, first_of, left_out, node, output_of};
use gpu_gan::gpu::{Binding, Dispatch, KernelSet, Resource, SHADERS, entry_points};
use gpu_gan::net::Model;
use gpu_gan::program::{Element, Executor, Program, RoutineId, Snapshot, TensorId, Values};
use gpu_gan::verify::{Case, Scope, cases_of};
use gpu_gan::{Result, verify};
use serde_json::{Value, json};

/// The largest memory of a case, in bytes. It is sent to the page and back.
const LARGEST: usize = 2 << 20;

/// The largest number of floating-point operations of a case.
const MOST_FLOPS: u64 = 20_000_000;

/// The sets of kernels that pages have.
const KERNELS: [KernelSet; 2] = [KernelSet::Portable, KernelSet::Direct];

/// The most cases of the same entry points that are not matrix products. Native drivers run all of them.
const CASES_OF_AN_OPERATION: usize = 3;

/// Small cases with the kernels of GPUs, and products also with those that pages run on the CPU: a few for each list of entry points.
/// SwiftShader compiles a matrix product in up to a second, so of these there is one case for each combination of tile shape, split,
/// bias and stride.
fn chosen(all: &[Case]) -> Vec<(&Case, KernelSet)> {
    let small = |case: &&Case| bytes_of(case) <= LARGEST && case.op().flops(case.program()) <= MOST_FLOPS;
    let mut layouts = BTreeSet::new();
    let mut counts = BTreeMap::new();
    let mut is_new = |case: &Case, kernels: KernelSet| {
        let dispatches = case.dispatches(kernels);
        if case.op().flops(case.program()) == 0 {
            if kernels == KernelSet::Direct {
                return false; // the same dispatches
            }
            let entries: Vec<_> = dispatches.iter().map(|dispatch| (dispatch.shader, dispatch.entry)).collect();
            let count = counts.entry(entries).or_insert(0);
            *count += 1;
            return *count <= CASES_OF_AN_OPERATION;
        }
        let product = &dispatches[0];
        let of = |name: &str, most: usize| {
            let value =
                product.overrides.iter().find(|(constant, _)| *constant == name).map_or(0.0, |(_, value)| *value);
            (value as usize).min(most)
        };
        let layout = [of("TX", 16), of("ACROSS", 2), of("SPLITS", 2), of("HAS_BIAS", 1), of("STRIDE", 2)];
        layouts.insert((product.label(), layout))
    };
    let each = all.iter().filter(small).flat_map(|case| KERNELS.map(|kernels| (case, kernels)));
    each.filter(|&(case, kernels)| is_new(case, kernels)).collect()
}

/// The memory of a program that the page runs.
struct Memory<'a> {
    program: &'a Program,
    buffers: Vec<Vec<u8>>,
}

impl<'a> Memory<'a> {
    /// NaN in buffers of floats, zeros in the others. A buffer is a whole number of words.
    fn poisoned(program: &'a Program) -> Self {
        let poisoned = |buffer: &gpu_gan::program::Buffer| match buffer.element {
            Element::F32 => f32::NAN.to_le_bytes().repeat(buffer.len),
            Element::U32 | Element::U8 => vec![0; buffer.bytes().next_multiple_of(4) as usize],
        };
        Self { program, buffers: program.buffers().iter().map(poisoned).collect() }
    }

    fn read(program: &'a Program, file: &mut impl Read) -> Self {
        let mut memory = Self::poisoned(program);
        for buffer in &mut memory.buffers {
            file.read_exact(buffer).expect("the memory of every case is there");
        }
        memory
    }

    fn words(&self, tensor: TensorId) -> impl Iterator<Item = [u8; 4]> {
        let info = self.program.info(tensor);
        let words = self.buffers[info.buffer.index()].chunks_exact(4).map(|word| word.try_into().unwrap());
        words.skip(info.offset).take(info.len())
    }
}

impl Executor for Memory<'_> {
    fn upload(&mut self, tensor: TensorId, values: Values<'_>) -> Result<()> {
        let info = self.program.info(tensor);
        let (bytes, element): (Vec<u8>, _) = match values {
            Values::F32(values) => (values.iter().flat_map(|value| value.to_le_bytes()).collect(), Element::F32),
            Values::U32(values) => (values.iter().flat_map(|value| value.to_le_bytes()).collect(), Element::U32),
            Values::U8(values) => (values.to_vec(), Element::U8),
        };
        assert_eq!((element, bytes.len()), (self.program.element(tensor), info.len() * element.bytes()));
        let start = info.offset * element.bytes();
        self.buffers[info.buffer.index()][start..start + bytes.len()].copy_from_slice(&bytes);
        Ok(())
    }

    fn download(&mut self, tensor: TensorId) -> Result<Vec<f32>> {
        Ok(self.words(tensor).map(f32::from_le_bytes).collect())
    }

    fn counters(&mut self, tensor: TensorId) -> Result<Vec<u32>> {
        Ok(self.words(tensor).map(u32::from_le_bytes).collect())
    }

    fn run(&mut self, _: RoutineId, _: usize) -> Result<()> {
        unreachable!("the page runs it")
    }

    fn snapshot(&mut self, _: TensorId) -> Result<Snapshot> {
        unreachable!("downloads need no snapshot")
    }

    fn collect(&mut self, _: Snapshot) -> Result<Vec<f32>> {
        unreachable!("downloads need no snapshot")
    }
}

/// The dispatches and buffers of a case, for the page.
fn plan(case: &Case, kernels: KernelSet) -> Value {
    let program = case.program();
    let (mut scratch, mut tables) = (BTreeMap::new(), BTreeMap::new());
    let mut dispatches = Vec::new();
    for dispatch in case.dispatches(kernels) {
        let Dispatch { shader, entry, overrides, bindings, workgroups, .. } = dispatch;
        let mut bound = Vec::new();
        for (Binding { number, .. }, resource) in &bindings {
            bound.push(match resource {
                &Resource::Tensor(tensor) => {
                    let info = program.info(tensor);
                    let offset = info.offset * program.element(tensor).bytes();
                    json!({ "number": number, "buffer": info.buffer.index(), "offset": offset })
                }
                Resource::Scratch(name, range) => {
                    let bytes = scratch.entry(*name).or_insert(0);
                    *bytes = (4 * range.end).max(*bytes);
                    json!({ "number": number, "buffer": name, "offset": 4 * range.start })
                }
                Resource::Table(numbers) => {
                    let name = format!("table of {numbers:?}");
                    tables.insert(name.clone(), numbers.clone());
                    json!({ "number": number, "buffer": name, "offset": 0 })
                }
            });
        }
        let overrides: BTreeMap<_, _> = overrides.into_iter().collect();
        dispatches.push(json!({
            "shader": shader, "entry": entry, "overrides": overrides, "bindings": bound, "workgroups": workgroups,
        }));
    }
    let sizes: Vec<_> = Memory::poisoned(program).buffers.iter().map(Vec::len).collect();
    let name = format!("{} on {}", case.op().name(), case.shapes());
    json!({ "name": name, "buffers": sizes, "scratch": scratch, "tables": tables, "dispatches": dispatches })
}

fn bytes_of(case: &Case) -> usize {
    case.program().buffers().iter().map(|buffer| buffer.bytes() as usize).sum()
}

#[test]
fn the_shaders_compile_under_tint_and_compute_the_cases_of_verify_in_a_browser() {
    if left_out("TINT", "the shaders under Tint") {
        return;
    }
    let clock = Instant::now();
    let browser = first_of(&["/usr/bin/chromium", "/usr/bin/google-chrome", "/opt/google/chrome/chrome"]).expect(
        "a browser is needed to run the shaders under Tint: install it (Debian: apt install chromium), run tests/run.sh, \
         which does, or skip it with GPU_GAN_SKIP_TINT=1",
    );
    let models: Vec<Model> = Model::built_in().map(|name| Model::named(name).unwrap()).collect();
    let all = cases_of(&models, Scope::Quick);
    let cases = chosen(&all);
    let is_in_pages = |shader: &str| KERNELS.iter().any(|kernels| kernels.uses(shader));
    let in_pages: BTreeSet<_> = entry_points().into_iter().filter(|(shader, _)| is_in_pages(shader)).collect();
    let reached: BTreeSet<_> = cases
        .iter()
        .flat_map(|(case, kernels)| case.dispatches(*kernels))
        .map(|dispatch| (dispatch.shader, dispatch.entry))
        .collect();
    assert_eq!(reached, in_pages, "every entry point has a case that is small enough");

    let folder = tempfile::tempdir().unwrap();
    let mut before = BufWriter::new(File::create(folder.path().join("before.bin")).unwrap());
    let mut plans = Vec::new();
    for (case, kernels) in &cases {
        let mut memory = Memory::poisoned(case.program());
        case.fill(&mut memory).unwrap();
        before.write_all(&memory.buffers.concat()).unwrap();
        plans.push(plan(case, *kernels));
    }
    before.flush().unwrap();
    // Cooperative matrices are an extension of naga, and not in WebGPU.
    let known = SHADERS.iter().filter(|shader| !shader.source.contains("enable wgpu_"));
    let shaders: BTreeMap<_, _> = known.map(|shader| (shader.name, shader.source)).collect();
    let plan = json!({ "shaders": shaders, "cases": plans });
    std::fs::write(folder.path().join("plan.json"), plan.to_string()).unwrap();

    let begun = Instant::now();
    output_of(node("tests/node/kernels.mjs").arg(folder.path()).arg(browser));
    let ran = begun.elapsed();
    let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["refused"], json!([]), "errors and warnings of Tint and its device");

    let mut after = std::io::BufReader::new(File::open(folder.path().join("after.bin")).unwrap());
    let mut complaints = Vec::new();
    for (case, _) in &cases {
        let mut memory = Memory::read(case.program(), &mut after);
        for (letter, verify::Comparison { complaint, .. }) in case.compare(&mut memory).unwrap() {
            let name = format!("{letter} of {} on {}", case.op().name(), case.shapes());
            complaints.extend(complaint.map(|complaint| format!("{name}: {complaint}")));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    aloud(&format!(
        "Chromium {} on {}: {} of the {} cases of verify --quick in {} pipelines; {:.0} s in the browser, {:.0} s in all",
        report["browser"],
        report["adapter"],
        cases.len(),
        all.len(),
        report["pipelines"],
        ran.as_secs_f64(),
        clock.elapsed().as_secs_f64(),
    ));
}
