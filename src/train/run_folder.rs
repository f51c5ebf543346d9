//! A run is a folder: what was decided, what happened, and what came of it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Checkpoint, Settings};
use crate::error::{Error, Result};
use crate::files;
use crate::net::Model;

/// The folder of a run: `config.toml`, `model.toml`, `losses.csv`, `log.jsonl`, `samples/` and `checkpoints/`.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

/// What `config.toml` holds: for people; resuming reads the checkpoint.
#[derive(Serialize)]
struct Config<'a> {
    version: &'static str,
    device: &'a str,
    settings: &'a Settings,
}

impl RunFolder {
    /// Makes the folder of a new run: `path`, or the next free `runs/NAME-0001`.
    ///
    /// # Errors
    ///
    /// Where `path` is there already and is not an empty folder, or cannot be made.
    pub fn create(path: Option<&Path>, name: &str) -> Result<Self> {
        let path = match path {
            Some(path) => given(path)?,
            None => numbered(name)?,
        };
        for part in ["samples", "checkpoints"] {
            files::create_folder(&path.join(part))?;
        }
        Ok(Self { path })
    }

    /// Whether a new run may begin at `path`: nothing is there, or an empty folder.
    pub fn check_free(path: &Path) -> Result<()> {
        let taken = |what: &str| Error::Request {
            message: format!("{} {what}", path.display()),
            hint: "choose a new folder with --out, or go on with a run by --resume".into(),
        };
        if path.is_dir() {
            if fs::read_dir(path).map_err(Error::file("read", path))?.next().is_some() {
                return Err(taken("is there already, and not empty"));
            }
        } else if path.exists() {
            return Err(taken("is there already, and is not a folder"));
        }
        Ok(())
    }

    /// The folder of a run that goes on.
    pub fn reopen(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `config.toml` and `model.toml`.
    pub fn write_config(&self, settings: &Settings, model: &Model, device: &str) -> Result<()> {
        let config = Config { version: env!("CARGO_PKG_VERSION"), device, settings };
        let config = toml::to_string(&config).expect("plain data has a TOML form");
        for (name, text) in [("config.toml", config.as_str()), ("model.toml", model.to_toml())] {
            let path = self.path.join(name);
            files::write_atomically(&path, |file| {
                file.write_all(text.as_bytes()).map_err(Error::file("write", &path))
            })?;
        }
        Ok(())
    }

    /// Where some of the real images are shown.
    pub fn reals(&self) -> PathBuf {
        self.path.join("samples/reals.png")
    }

    /// Where some of them are shown as the discriminator sees them.
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

    /// Where the checkpoint of a step goes.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.path.join("checkpoints").join(format!("step-{step:08}.safetensors"))
    }

    /// The newest checkpoint, if there is one.
    pub fn newest_checkpoint(&self) -> Option<PathBuf> {
        Checkpoint::find(&self.path).ok()
    }
}

fn given(path: &Path) -> Result<PathBuf> {
    RunFolder::check_free(path)?;
    files::create_folder(path)?;
    Ok(path.to_path_buf())
}

fn numbered(name: &str) -> Result<PathBuf> {
    let runs = Path::new("runs");
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
    fn a_folder_that_is_in_use_is_refused_and_an_empty_one_taken() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run");
        RunFolder::create(Some(&path), "mnist").unwrap();
        let error = RunFolder::create(Some(&path), "mnist").unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
        fs::create_dir(place.path().join("empty")).unwrap();
        RunFolder::create(Some(&place.path().join("empty")), "mnist").unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        let error = RunFolder::create(Some(&place.path().join("file")), "mnist").unwrap_err();
        assert!(error.to_string().contains("not a folder"), "{error}");
    }
}
