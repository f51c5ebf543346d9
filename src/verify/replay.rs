//! Failing cases of a dump, run again on any device, and shrunk to the smallest shapes that still fail.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::case::{WrittenTensor, complaints_of};
use super::case_file::{CASE_FILE, CaseFile, CaseKey};
use super::dump::Dump;
use super::plan::{groups, repeat_name, step_batch, step_name, stepped, variant_of};
use super::report::DIFFERENT_BITS;
use super::shrink::{Shrunk, shrink};
use super::{Case, CaseFilter, REPEATED_STEPS, Scope, built_in_models, one_step, repeats};
use crate::error::{Error, Result};
use crate::gpu::GpuDevice;
use crate::net::Model;
use crate::program::Device;
use crate::progress::Console;

/// Failing cases that `gpu-gan verify --dump` wrote.
#[derive(Debug)]
pub struct Replay {
    /// The cases with their folders, of which there is at least one.
    cases: Vec<(PathBuf, CaseFile)>,
}

/// The report of [`Replay::run`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReplayReport {
    /// The adapter.
    pub device: String,
    /// Name and version of its driver.
    pub driver: String,
    /// Whether every case passed.
    pub passed: bool,
    /// The duration in seconds.
    pub seconds: f64,
    /// The cases, in the order of their folders.
    pub cases: Vec<ReplayedCase>,
}

/// A case that was run again.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReplayedCase {
    /// The folder of the case.
    pub folder: PathBuf,
    /// The name of the case, as `gpu-gan verify --list` prints it.
    pub name: String,
    /// The kernels or the tile shape that the case ran with; none for the device's own.
    pub variant: Option<String>,
    /// Descriptions of the errors; none if the case passed.
    pub complaints: Vec<String>,
    /// The smallest case that still fails; `None` if the case passed, could not run, or is a whole step.
    pub smallest: Option<SmallestCase>,
}

/// The smallest case that fails as another one does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SmallestCase {
    /// The operations and the shapes of their operands.
    pub name: String,
    /// Descriptions of the errors.
    pub complaints: Vec<String>,
    /// The number of cases that were run to find it.
    pub runs: usize,
}

/// The cases of a scope, by their names.
type CasesByName = HashMap<String, Case>;

impl Replay {
    /// Reads the descriptions of cases. `folder` is one that `gpu-gan verify --dump` wrote, or the folder of one case in it. With a
    /// filter, only cases whose names match are read.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read, has no case or none that matches, or a description is not one of `gpu-gan verify --dump`.
    pub fn read(folder: &Path, filter: Option<&CaseFilter>) -> Result<Self> {
        let mut cases = Vec::new();
        for of_case in case_folders(folder)? {
            let file = CaseFile::read(&of_case)?;
            if filter.is_none_or(|filter| filter.matches(&file.key.name)) {
                cases.push((of_case, file));
            }
        }
        if cases.is_empty() {
            return Err(Error::Request {
                message: format!("no case in {} matches the filter", folder.display()),
                hint: "leave out --filter to run all of its cases".into(),
            });
        }
        Ok(Self { cases })
    }

    /// Runs the cases again. Each case that fails is shrunk: its axes become shorter as long as it fails. The smallest cases are
    /// written into the folder `dump`, if there is one, which is created if a case fails. `console` shows the progress.
    ///
    /// # Errors
    ///
    /// If a case is not one of this version of the program, or the dump of the smallest cases cannot be written.
    pub fn run(&self, gpu: &GpuDevice, dump: Option<&Path>, console: &Console) -> Result<ReplayReport> {
        let start = Instant::now();
        let mut dump = dump.map(Dump::new).transpose()?;
        let models = built_in_models()?;
        let mut by_name: HashMap<(Scope, u64), CasesByName> = HashMap::new();
        let mut replayed = Vec::new();
        let task = console.task("cases", self.cases.len() as u64);
        for (folder, file) in &self.cases {
            let CaseKey { name, scope, seed, variant } = &file.key;
            let gpu = &variant_of(gpu, variant.as_deref());
            let (complaints, smallest) = if let Some(complaints) = run_steps(&file.key, &models, gpu) {
                (complaints, None)
            } else {
                let known = by_name.entry((*scope, *seed)).or_insert_with(|| {
                    let cases = groups(&models, *scope, *seed).into_iter().flat_map(|group| group.cases);
                    cases.map(|named| (named.name, named.case)).collect()
                });
                let case = case_of(file, folder, known)?;
                task.rename(case.op().name());
                let outcome = case.outcome(gpu, &mut None);
                let complaints = complaints_of(&outcome);
                let smallest = (outcome.is_ok() && !complaints.is_empty()).then(|| smallest_of(&case, gpu));
                if let (Some(dump), Some((small, of_small, written))) = (&mut dump, &smallest) {
                    dump.add_case(&file.key, &of_small.complaints, small, gpu, written)?;
                }
                (complaints, smallest.map(|(_, smallest, _)| smallest))
            };
            replayed.push(ReplayedCase {
                folder: folder.clone(),
                name: name.clone(),
                variant: variant.clone(),
                complaints,
                smallest,
            });
            task.advance(1);
        }
        drop(task);
        if let Some(dump) = dump {
            dump.finish(console);
        }
        Ok(ReplayReport {
            device: gpu.description(),
            driver: gpu.driver().to_string(),
            passed: replayed.iter().all(|case| case.complaints.is_empty()),
            seconds: start.elapsed().as_secs_f64(),
            cases: replayed,
        })
    }
}

/// The folder itself if it is that of a case, else the folders of cases in it, by their names.
fn case_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::file("read the folder", folder))?;
    if folder.join(CASE_FILE).is_file() {
        return Ok(vec![folder.into()]);
    }
    let mut folders: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.join(CASE_FILE).is_file()).collect();
    folders.sort();
    if folders.is_empty() {
        return Err(Error::Request {
            message: format!(
                "{} has no failing case: neither it nor a folder in it has a {CASE_FILE}",
                folder.display()
            ),
            hint: "give a folder that `gpu-gan verify --dump DIR` wrote; it writes none if every case passes".into(),
        });
    }
    Ok(folders)
}

/// Runs a case of whole steps. Returns its complaints, or `None` for a case of operations.
fn run_steps(key: &CaseKey, models: &[Model], gpu: &GpuDevice) -> Option<Vec<String>> {
    let model = |name: fn(&Model) -> String| stepped(models, key.scope).find(|model| name(model) == key.name);
    if let Some(model) = model(step_name) {
        let outcome = one_step(gpu, model, step_batch(model));
        return Some(outcome.map_or_else(|error| vec![error.to_string()], |steps| steps.complaints));
    }
    let model = model(repeat_name)?;
    Some(match repeats(gpu, model, step_batch(model), REPEATED_STEPS) {
        Ok(true) => Vec::new(),
        Ok(false) => vec![DIFFERENT_BITS.into()],
        Err(error) => vec![error.to_string()],
    })
}

/// The case that a file describes.
fn case_of(file: &CaseFile, folder: &Path, known: &CasesByName) -> Result<Case> {
    let unknown = |problem: &str| Error::Request {
        message: format!("{}: {problem}: {}", folder.display(), file.key.name),
        hint: format!(
            "replay it with the version of gpu-gan that wrote it, {}, or write a new dump with `gpu-gan verify --dump DIR`",
            file.version
        ),
    };
    let case = known.get(&file.key.name).ok_or_else(|| unknown("this version of gpu-gan has no case of this name"))?;
    let fits = case.operands().len() == file.operands.len()
        && case.operands().iter().zip(&file.operands).all(|((operand, _), entry)| {
            let shape = case.program().shape(operand.tensor);
            shape.len() == entry.shape.len()
                && shape.iter().zip(&entry.shape).all(|(&largest, size)| (1..=largest).contains(size))
        });
    let shapes = case.operands().iter().zip(&file.operands);
    let shapes = shapes.map(|((operand, _), entry)| (operand.tensor, entry.shape.clone())).collect();
    let resized = if fits { case.resized(&shapes) } else { None };
    let case =
        resized.ok_or_else(|| unknown("the shapes of its operands are not those of the case, nor smaller ones"))?;
    if case.ops().iter().map(|op| format!("{op:?}")).eq(file.operations.iter().cloned()) {
        return Ok(case);
    }
    Err(unknown("this version of gpu-gan has other operations under this name"))
}

/// The smallest case that still fails, its description, and the tensors that it wrote.
fn smallest_of(case: &Case, gpu: &GpuDevice) -> (Case, SmallestCase, Vec<WrittenTensor>) {
    // An error of the device is no wrong result; after one, no further case can run.
    let fails = |case: &Case| {
        let written = case.outcome(gpu, &mut None)?;
        Ok(!complaints_of(&Ok(written)).is_empty())
    };
    let (case, runs, mut complaints) = match shrink(case, fails) {
        Ok(Shrunk { case, runs }) => (case, runs, Vec::new()),
        Err(error) => (case.clone(), 0, vec![format!("the search for smaller shapes ended: {error}")]),
    };
    let outcome = case.outcome(gpu, &mut None);
    complaints.extend(complaints_of(&outcome));
    if complaints.is_empty() {
        complaints.push("it failed before and passed now: the fault is intermittent".into());
    }
    (case.clone(), SmallestCase { name: case.name(), complaints, runs }, outcome.unwrap_or_default())
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ReplayedCase { name, variant, complaints, smallest, .. } in &self.cases {
            let variant = variant.as_ref().map_or(String::new(), |variant| format!(" [{variant}]"));
            let verdict = if complaints.is_empty() { "ok" } else { "FAILED" };
            writeln!(f, "{name}{variant}  {verdict}")?;
            for complaint in complaints {
                writeln!(f, "    {complaint}")?;
            }
            if let Some(SmallestCase { name, complaints, runs }) = smallest {
                writeln!(f, "    smallest failing shapes, after {runs} runs: {name}")?;
                for complaint in complaints {
                    writeln!(f, "        {complaint}")?;
                }
            }
        }
        let failed = self.cases.iter().filter(|case| !case.complaints.is_empty()).count();
        write!(f, "{}: {failed} of {} cases fail, {:.0} s", self.device, self.cases.len(), self.seconds)
    }
}
