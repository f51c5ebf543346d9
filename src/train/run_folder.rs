//! The folder of a run: its settings, its log and its results.
//!
//! ```text
//! config.toml, model.toml   the options and the model
//! tile-shapes.json          tile shapes of the matrix products on a hardware GPU, for resuming with the same kernels
//! local.toml                absolute paths of this machine, which are not meant to be shared
//! losses.csv, log.jsonl     a row for each step
//! alarms.jsonl              the alarms, if there are any
//! samples/                  reals.png, the sheets: epoch-0001.png, epoch-0002-step-000500.png; progress.gif, all of them
//! real-vs-fake.png          real images and the images of the newest sheet, side by side
//! plots/                    each as .svg and .png: losses-by-step, losses-by-epoch, judgement, accuracy, quality
//! checkpoints/              step-00000469.safetensors; best.safetensors, of the best step
//! report.html               the report page, which embeds all images
//! run.lock                  the process that trains in the folder, while there is one
//! ```
//!
//! Plots, `real-vs-fake.png` and `report.html` are drawn again from time to time, `progress.gif` when a run ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::checkpoint::BEST;
use super::settings::Facts;
use super::{Checkpoint, Settings, shared_paths};
use crate::error::{Error, Result};
use crate::files::{self, FolderLock};
use crate::net::Model;
use crate::recipe::{CLASSES, RUN};
use crate::report::page;

/// The name of the configuration file of a run.
pub(super) const CONFIG: &str = "config.toml";
/// The name of the model file of a run.
const MODEL: &str = "model.toml";
/// The name of the file of tile shapes.
const TILE_SHAPES: &str = "tile-shapes.json";
/// The folder of all runs that are given no other.
const RUNS: &str = "runs";
/// The name of the newest run.
const LATEST: &str = "latest";
/// The first line of the configuration file of a run.
const CONFIG_HEADER: &str =
    "# The options of this run. `gpu-gan train --config FILE` begins a run with the same results.\n";

/// The folders in the folder of a run.
const SUBFOLDERS: [&str; 3] = ["samples", "plots", "checkpoints"];

/// The folder of a run.
#[derive(Debug, Clone)]
pub struct RunFolder {
    /// The path of the folder.
    path: PathBuf,
    /// Held while this process trains in the folder.
    lock: Option<Arc<FolderLock>>,
}

/// A sheet of images that lies in a run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// The step after which it was drawn.
    pub step: u64,
    /// What it is called for a person: `epoch 3`, `epoch 3, step 1500`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// The table `[run]` of `config.toml`: what came of the options.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RunTable<'a> {
    version: &'static str,
    device_name: &'a str,
    #[serde(flatten)]
    facts: Facts,
}

impl RunFolder {
    /// Makes the folder of a new run, `path` or the next free `runs/NAME-0001`, and locks it.
    ///
    /// # Errors
    ///
    /// Where `path` exists and is not an empty folder, or cannot be created.
    pub fn create(path: Option<&Path>, name: &str) -> Result<Self> {
        let path = match path {
            Some(path) => given(path)?,
            None => numbered(name)?,
        };
        Self { path, lock: None }.locked()?.with_subfolders()
    }

    /// Creates the folders in the run's folder that are missing.
    pub fn with_subfolders(self) -> Result<Self> {
        for part in SUBFOLDERS {
            files::create_folder(&self.path.join(part))?;
        }
        Ok(self)
    }

    /// Locks the folder for this process, until the last clone of it is dropped, and removes the temporary files that a killed process
    /// left in it.
    ///
    /// # Errors
    ///
    /// Where another process uses the folder.
    pub fn locked(self) -> Result<Self> {
        let lock = Arc::new(FolderLock::take(&self.path)?);
        let subfolders = SUBFOLDERS.map(|part| self.path.join(part));
        for folder in std::iter::once(&self.path).chain(&subfolders) {
            files::remove_abandoned(folder, Duration::ZERO);
        }
        Ok(Self { lock: Some(lock), ..self })
    }

    /// Whether the run of a `config.toml` is conditional. `None` if the file does not tell, since no run wrote it.
    pub(super) fn was_conditional(config: &Path) -> Option<bool> {
        let table: toml::Table = fs::read_to_string(config).ok()?.parse().ok()?;
        Some(table.get(RUN)?.get(CLASSES).is_some() || table.contains_key(CLASSES))
    }

    /// What a person should know about the lock, if anything.
    pub fn warning(&self) -> Option<&str> {
        self.lock.as_ref().and_then(|lock| lock.warning())
    }

    /// Whether [`Self::create`] can make a folder, before it is known what the run is called.
    ///
    /// # Errors
    ///
    /// Where `path`, or else the folder of all runs, is in use or cannot be written.
    pub fn check_can_create(path: Option<&Path>) -> Result<()> {
        if let Some(path) = path {
            check_free(path)?;
        }
        files::check_folder(path.unwrap_or(Path::new(RUNS)))
    }

    /// The folder of a run that is resumed, not locked.
    pub fn reopen(path: &Path) -> Self {
        Self { path: path.to_path_buf(), lock: None }
    }

    /// The run or checkpoint that a person means: `latest` is the newest run below `runs`, and `FOLDER/latest` the newest below FOLDER,
    /// unless something of that name exists. Anything else is a path.
    ///
    /// # Errors
    ///
    /// Where there is no run with a checkpoint below the folder.
    pub fn find(name: &Path) -> Result<PathBuf> {
        if !name.ends_with(LATEST) || name.exists() {
            return Ok(name.to_path_buf());
        }
        let folder = name.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(RUNS));
        newest_below(folder).ok_or_else(|| Error::Checkpoint {
            message: format!("{} holds no run with a checkpoint, so there is no latest one", folder.display()),
            hint: format!("name a run; `{LATEST}` is the newest in `{RUNS}`, and FOLDER/{LATEST} the newest in FOLDER"),
        })
    }

    /// The run that a checkpoint lies in: RUN/checkpoints/step-00000469.safetensors.
    ///
    /// # Errors
    ///
    /// Where it lies in no run's folder.
    pub fn around(checkpoint: &Path) -> Result<Self> {
        // As the person wrote it, where that says enough; standing in the folder, it does not.
        let absolute: PathBuf = fs::canonicalize(checkpoint).map_err(Error::file("read", checkpoint))?;
        let run_of = |path: &Path| {
            let run = path.parent().filter(|folder| folder.ends_with("checkpoints")).and_then(Path::parent)?;
            (run != Path::new("")).then(|| Self::reopen(run))
        };
        run_of(checkpoint).or_else(|| run_of(&absolute)).ok_or_else(|| Error::Request {
            message: format!("{} does not lie in a run's folder", checkpoint.display()),
            hint: "say with --out where the results should go".into(),
        })
    }

    /// Whether a process began a run at `path` and ended before its first checkpoint: nothing is there but what runs write.
    pub fn is_without_checkpoint(path: &Path) -> bool {
        let written = |name: &str| {
            let settings = [CONFIG, MODEL, TILE_SHAPES, shared_paths::LOCAL];
            let files = ["report.html", "real-vs-fake.png", "alarms.jsonl", "run.lock"];
            let logs = ["losses.csv", "log.jsonl", "events.out.tfevents."];
            SUBFOLDERS.contains(&name)
                || settings.contains(&name)
                || files.contains(&name)
                || logs.iter().any(|log| name.starts_with(log))
        };
        let is_ours = |entry: std::io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| {
                files::is_temporary(&entry.path()) || entry.file_name().to_str().is_some_and(written)
            })
        };
        // A process that ended early may have left its lock alone.
        let is_begun = path.join("run.lock").exists() || SUBFOLDERS.iter().any(|part| path.join(part).is_dir());
        // A folder that cannot be read may hold checkpoints.
        let has_none = match fs::read_dir(path.join("checkpoints")) {
            Ok(mut entries) => entries.all(|entry| {
                entry.is_ok_and(|entry| entry.path().extension().is_none_or(|ending| ending != "safetensors"))
            }),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        is_begun && has_none && fs::read_dir(path).is_ok_and(|mut all| all.all(is_ours))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `config.toml`, `model.toml` and `local.toml`.
    pub fn write_config(&self, settings: &Settings, model: &Model, device: &str) -> Result<()> {
        shared_paths::write_local(&settings.recipe(), &self.path)?;
        let mut recipe = shared_paths::shared(settings.recipe(), &self.path);
        recipe.model.model = Some(MODEL.into());
        let run = RunTable { version: env!("CARGO_PKG_VERSION"), device_name: device, facts: settings.facts() };
        let run = toml::to_string(&BTreeMap::from([(RUN, run)])).expect("plain data has a TOML form");
        let config = format!("{CONFIG_HEADER}\n{}\n{run}", recipe.to_toml());
        for (name, text) in [(CONFIG, config.as_str()), (MODEL, model.to_toml())] {
            let path = self.path.join(name);
            files::write_atomically(&path, |file| {
                file.write_all(text.as_bytes()).map_err(Error::file("write", &path))
            })?;
        }
        Ok(())
    }

    /// The file of the tile shapes that the run's matrix products have on a GPU with autotuning.
    pub fn tile_shapes(&self) -> PathBuf {
        self.path.join(TILE_SHAPES)
    }

    /// The sheet of real images.
    pub fn reals(&self) -> PathBuf {
        self.path.join("samples/reals.png")
    }

    /// The sheet of augmented real images.
    pub fn augmented_reals(&self) -> PathBuf {
        self.path.join("samples/reals-augmented.png")
    }

    /// Where the sheet of a step goes. Names sort by time: `epoch-0001.png` when an epoch is complete, and in the middle
    /// of one `epoch-0002-step-000500.png`.
    pub fn sheet(&self, step: u64, settings: &Settings) -> PathBuf {
        let name = match settings.completed_epoch(step) {
            Some(epoch) => format!("epoch-{epoch:04}.png"),
            None => format!("epoch-{:04}-step-{step:06}.png", settings.epoch_of(step)),
        };
        self.path.join("samples").join(name)
    }

    /// The sheets that are there of steps up to `step`, in the order of their steps. Those of later steps are left from a
    /// run that then went on from an earlier checkpoint.
    pub fn sheets(&self, step: u64, settings: &Settings) -> Result<Vec<Sheet>> {
        let folder = self.path.join("samples");
        let entries =
            fs::read_dir(&folder).and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
        let paths: Vec<PathBuf> = entries.map_err(Error::file("read", &folder))?;
        let sheet = |path: PathBuf| {
            let (epoch, at) = epoch_and_step(path.file_name()?.to_str()?)?;
            let (step, name) = match at {
                None => (settings.steps_of(epoch), format!("epoch {epoch}")),
                Some(step) => (step, format!("epoch {epoch}, step {step}")),
            };
            Some(Sheet { step, name, path })
        };
        let mut sheets: Vec<Sheet> = paths.into_iter().filter_map(sheet).collect();
        sheets.retain(|sheet| sheet.step <= step && sheet.path == self.sheet(sheet.step, settings));
        sheets.sort_by_key(|sheet| sheet.step);
        Ok(sheets)
    }

    /// The animation of all sheets.
    pub fn progress(&self) -> PathBuf {
        self.path.join("samples/progress.gif")
    }

    /// The image of real and generated images side by side.
    pub fn comparison(&self) -> PathBuf {
        self.path.join("real-vs-fake.png")
    }

    /// The file of a plot. `ending` is svg or png.
    pub fn plot(&self, name: &str, ending: &str) -> PathBuf {
        self.path.join("plots").join(format!("{name}.{ending}"))
    }

    /// The report page.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// Whether the last report of the run was drawn after its last step, which ends a run. A build without reports has none to draw.
    pub(super) fn is_drawn(&self, step: u64) -> bool {
        !cfg!(feature = "report") || fs::read_to_string(self.report()).is_ok_and(|html| page::is_final(&html, step))
    }

    /// The checkpoint file of a step.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.path.join("checkpoints").join(format!("step-{step:08}.safetensors"))
    }

    /// The file of the best checkpoint: the newest one whose Fréchet distance is not measurably above the lowest.
    pub fn best_checkpoint(&self) -> PathBuf {
        self.path.join("checkpoints").join(BEST)
    }

    /// Removes the checkpoints of steps up to `step`, except the newest `keep`.
    pub fn remove_checkpoints_before(&self, step: u64, keep: usize) -> Result<()> {
        let folder = self.path.join("checkpoints");
        let names = fs::read_dir(&folder)
            .and_then(|entries| {
                entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()
            })
            .map_err(Error::file("read", &folder))?;
        let mut steps: Vec<u64> = names.iter().filter_map(|name| step_of(name.to_str()?)).collect();
        steps.retain(|&other| other <= step);
        steps.sort_unstable();
        steps.truncate(steps.len().saturating_sub(keep));
        for step in steps {
            let path = self.checkpoint(step);
            fs::remove_file(&path).map_err(Error::file("remove", &path))?;
        }
        Ok(())
    }

    /// The newest checkpoint, if there is one.
    pub fn newest_checkpoint(&self) -> Option<PathBuf> {
        Checkpoint::find(&self.path).ok()
    }
}

/// The step in the name of a checkpoint, if [`RunFolder::checkpoint`] gives that name.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()?;
    (format!("step-{step:08}.safetensors") == name).then_some(step)
}

/// What a sheet's name says: `epoch-0001.png` is of an epoch, `epoch-0002-step-000500.png` also of a step.
fn epoch_and_step(name: &str) -> Option<(u64, Option<u64>)> {
    let numbers = name.strip_prefix("epoch-")?.strip_suffix(".png")?;
    match numbers.split_once("-step-") {
        None => Some((numbers.parse::<u32>().ok()?.into(), None)),
        Some((epoch, step)) => Some((epoch.parse().ok()?, Some(step.parse().ok()?))),
    }
}

/// The run in a folder whose newest checkpoint was written last.
fn newest_below(folder: &Path) -> Option<PathBuf> {
    let newest = |run: PathBuf| {
        let written = fs::metadata(Checkpoint::find(&run).ok()?).ok()?.modified().ok()?;
        run.is_dir().then_some((written, run))
    };
    let runs = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    runs.filter_map(newest).max().map(|(_, run)| run)
}

/// Whether a new run may begin at `path`: nothing is there, or an empty folder.
fn check_free(path: &Path) -> Result<()> {
    let taken = |what: &str| Error::Request {
        message: format!("{} {what}", path.display()),
        hint: "choose a new folder with --out, or resume a run with --resume".into(),
    };
    if path.is_dir() {
        if fs::read_dir(path).map_err(Error::file("read", path))?.next().is_some() {
            return Err(taken("already exists and is not empty"));
        }
    } else if path.exists() {
        return Err(taken("already exists and is not a folder"));
    }
    Ok(())
}

fn given(path: &Path) -> Result<PathBuf> {
    check_free(path)?;
    files::create_folder(path)?;
    Ok(path.to_path_buf())
}

fn numbered(name: &str) -> Result<PathBuf> {
    let runs = Path::new(RUNS);
    files::create_folder(runs)?;
    for number in 1..=9999 {
        let path = runs.join(format!("{name}-{number:04}"));
        // Making it is the test whether it is free: another run may begin at the same time.
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::file("create the folder", &path)(error)),
        }
    }
    Err(Error::Request {
        message: format!("runs/{name}-0001 to runs/{name}-9999 are all there"),
        hint: "name a folder with --out".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::settings;
    use super::*;

    #[test]
    fn sheets_sort_by_time() {
        let folder = RunFolder::reopen(Path::new("run"));
        let settings = settings(60_000, 128);
        let names: Vec<_> = [0, 100, 469, 500, 938].map(|step| folder.sheet(step, &settings)).into();
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names[0], Path::new("run/samples/epoch-0000.png"));
        assert_eq!(names[3], Path::new("run/samples/epoch-0002-step-000500.png"));
    }

    #[test]
    fn sheets_are_found_in_the_order_of_their_steps_and_nothing_else_is() {
        let place = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(Some(&place.path().join("run")), "mnist").unwrap();
        let settings = settings(60_000, 128);
        // Names of more digits than usual sort wrong as texts.
        let steps = [0, 100, 469, 470, 938, settings.steps_of(9_999), settings.steps_of(10_000)];
        for step in steps.into_iter().rev() {
            fs::write(folder.sheet(step, &settings), "").unwrap();
        }
        let names = [
            "reals.png",
            "progress.gif",
            "epoch-.png",
            "epoch-0001-step-.png",
            "epoch-99999999999999999999.png",
            "epoch-18446744073709551615.png",
            "epoch-0007-step-000100.png",
            "epoch-1.png",
            "epoch-0001.png.tmp",
        ];
        for name in names {
            fs::write(folder.path().join("samples").join(name), "").unwrap();
        }
        let found = folder.sheets(u64::from(u32::MAX), &settings).unwrap();
        assert_eq!(found.iter().map(|sheet| sheet.step).collect::<Vec<_>>(), steps);
        let names: Vec<_> = found.iter().map(|sheet| sheet.name.as_str()).collect();
        assert_eq!(names[..3], ["epoch 0", "epoch 1, step 100", "epoch 1"]);
        assert_eq!(folder.sheets(470, &settings).unwrap(), found[..4]);
    }

    #[test]
    fn a_folder_that_is_in_use_is_refused_and_an_empty_one_taken() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run");
        RunFolder::create(Some(&path), "mnist").unwrap();
        let error = RunFolder::create(Some(&path), "mnist").unwrap_err();
        assert!(error.to_string().contains("already exists and is not empty"), "{error}");
        fs::create_dir(place.path().join("empty")).unwrap();
        RunFolder::create(Some(&place.path().join("empty")), "mnist").unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        let error = RunFolder::create(Some(&place.path().join("file")), "mnist").unwrap_err();
        assert!(error.to_string().contains("not a folder"), "{error}");
    }
}
