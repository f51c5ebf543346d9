//! The paths that are saved with a run, in a form that can be shared.
//!
//! The files of a run are shown to other people, so `config.toml`, checkpoints, the report and TensorBoard's texts hold no absolute path.
//! A path below the current folder or the run is relative to the run's folder, and of any other only the last part is kept: the
//! fingerprint beside it tells the images apart. The absolute paths are in `local.toml`, which is for this machine alone and may be left
//! out when a run is shared. A run that is read finds its images by `local.toml`, or by the relative path, or under their name beside the
//! run or in the current folder. Resuming compares the fingerprint of the images.

use std::io::Write;
use std::path::{Component, Path, PathBuf};

use crate::data::is_built_in;
use crate::error::{Error, Result};
use crate::files::{self, path_of, text_of};
use crate::recipe::Recipe;

/// The file of a run with the absolute paths of this machine.
pub(super) const LOCAL: &str = "local.toml";

/// The beginning of that file.
const LOCAL_HEADER: &str = "# Absolute paths on this machine. Leave this file out when you share the run: without it, \
                            `gpu-gan train DATA --resume RUN`\n# and `gpu-gan eval RUN --data DATA` take the path of the images.\n";

/// The folder of the run that a checkpoint lies in, or else the checkpoint's own folder.
pub(super) fn run_of(checkpoint: &Path) -> PathBuf {
    let checkpoint = std::path::absolute(checkpoint).unwrap_or_else(|_| checkpoint.to_path_buf());
    let folder = checkpoint.parent().unwrap_or(Path::new(""));
    let run = folder.parent().filter(|_| folder.ends_with("checkpoints"));
    run.unwrap_or(folder).to_path_buf()
}

/// The recipe with paths that can be shared, to be saved in the folder of the run.
pub(super) fn shared(mut recipe: Recipe, run: &Path) -> Recipe {
    let [data, labels, init] = all_paths_of(&mut recipe);
    let inside =
        data.as_ref().zip(labels.as_ref()).and_then(|(data, labels)| Path::new(labels).strip_prefix(data).ok());
    let inside = inside.map(|inside| inside.to_string_lossy().into_owned());
    for path in [&mut *data, &mut *labels, init].into_iter().flatten() {
        *path = shared_path(path, run);
    }
    // A file of labels moves with the images that it lies among.
    if let (Some(data), Some(inside)) = (data, inside) {
        *labels = Some(format!("{data}/{inside}"));
    }
    recipe
}

/// A path as it may be shown to anyone: relative to the current folder, or else its last part.
pub(crate) fn shown_path(path: &str) -> String {
    shared_path(path, Path::new("."))
}

/// The recipe with the paths of this machine, as far as they are found, where it was read from the folder of the run.
pub(super) fn found(mut recipe: Recipe, run: &Path) -> Recipe {
    // A damaged file is as good as none: what cannot be found is said when it is needed.
    let mut local = Recipe::read(&run.join(LOCAL)).unwrap_or_default();
    let here: Vec<Option<String>> = [local.data.data.take(), local.data.labels.take(), local.model.init.take()].into();
    for (path, here) in all_paths_of(&mut recipe).into_iter().zip(here) {
        let Some(path) = path.as_mut().filter(|path| !is_built_in(path)) else { continue };
        let inside = text_of(&run.join(path_of(path)));
        // Beside a checkpoint that was copied out of its run, or below the current folder.
        let named = path_of(path).file_name().map(Path::new).map(Path::to_path_buf);
        let beside = named.as_ref().map(|name| text_of(&run.join(name)));
        let current = named.as_ref().map(|name| text_of(name));
        let existing = [here, Some(inside), beside, current].into_iter().flatten().find(|path| path_of(path).exists());
        if let Some(existing) = existing {
            *path = crate::data::absolute(&existing);
        }
    }
    recipe
}

/// Writes the absolute paths of a recipe beside the `config.toml` of its run, if it has any.
pub(super) fn write_local(recipe: &Recipe, run: &Path) -> Result<()> {
    let mut local = Recipe::default();
    local.data.data.clone_from(&recipe.data.data);
    local.data.labels.clone_from(&recipe.data.labels);
    local.model.init.clone_from(&recipe.model.init);
    for path in all_paths_of(&mut local) {
        path.take_if(|path| is_built_in(path) || !Path::new(path).is_absolute());
    }
    if local == Recipe::default() {
        return Ok(());
    }
    let path = run.join(LOCAL);
    let text = format!("{LOCAL_HEADER}\n{}", local.to_toml());
    files::write_atomically(&path, |file| file.write_all(text.as_bytes()).map_err(Error::file("write", &path)))
}

/// The options of a recipe that are paths to other files than the model: of the images, of their labels, and of trained weights.
fn all_paths_of(recipe: &mut Recipe) -> [&mut Option<String>; 3] {
    let Recipe { data, model, .. } = recipe;
    [&mut data.data, &mut data.labels, &mut model.init]
}

fn shared_path(path: &str, run: &Path) -> String {
    let place = Path::new(path);
    if is_built_in(path) || !place.is_absolute() {
        return path.to_string();
    }
    let resolved = |folder: &Path| std::fs::canonicalize(folder).map(|folder| text_of(&folder)).ok();
    let run = resolved(run);
    let current = resolved(Path::new("."));
    let is_below =
        |path: &Path, folder: &Option<String>| folder.as_ref().is_some_and(|folder| path.starts_with(folder));
    let way = run
        .as_ref()
        .map(Path::new)
        .filter(|path| is_below(place, &run) || (is_below(place, &current) && is_below(path, &current)));
    let way = way.map(|run| relative(run, place)).filter(|way| !way.is_empty());
    let last = || place.file_name().map_or_else(|| "images".into(), |name| name.to_string_lossy().into_owned());
    let shared = way.unwrap_or_else(last);
    if is_built_in(&shared) { format!("./{shared}") } else { shared }
}

/// The way from a folder to a path, both absolute, with `/` between its parts on every system.
fn relative(from: &Path, to: &Path) -> String {
    let (from, to): (Vec<Component>, Vec<Component>) = (from.components().collect(), to.components().collect());
    let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let up = std::iter::repeat_n("..".into(), from.len() - common);
    let down = to[common..].iter().map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<String>>().join("/")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_path_is_relative_to_the_run_below_it_and_else_only_its_last_part() {
        let place = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(place.path()).unwrap();
        let run = root.join("runs/a");
        fs::create_dir_all(&run).unwrap();
        let shared = |path: &Path| shared_path(path.to_str().unwrap(), &run);
        assert_eq!(shared(&run.join("data/photos")), "data/photos");
        assert_eq!(shared(&root.join("photos")), "photos"); // the current folder is another one
        assert_eq!(shared(Path::new("/home/anna/photos")), "photos");
        assert_eq!(
            ["mnist", "photos", "../photos"].map(|path| shared_path(path, &run)),
            ["mnist", "photos", "../photos"]
        );
        assert_eq!(relative(Path::new("/a/b/runs/x"), Path::new("/a/b/photos")), "../../photos");
        assert_eq!(relative(Path::new("/a/b/runs/x"), Path::new("/a/b")), "../..", "runs inside the images");
        let current = std::env::current_dir().unwrap();
        assert_eq!(shown_path(current.join("src/data").to_str().unwrap()), "src/data");
        assert_eq!(Some(shown_path(current.to_str().unwrap()).as_ref()), current.file_name().unwrap().to_str());
    }

    #[test]
    fn a_run_finds_its_paths_by_their_relative_form_or_by_the_file_of_this_machine() {
        let place = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(place.path()).unwrap();
        let run = root.join("runs/a");
        for folder in ["runs/a", "photos", "elsewhere/more"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let recipe_of = |path: String| {
            let mut recipe = Recipe::default();
            recipe.data.data = Some(path);
            recipe
        };
        let found_at = |path: &str| found(recipe_of(path.into()), &run).data.data.unwrap();
        assert_eq!(found_at("../../photos"), text_of(&root.join("photos")));
        assert_eq!(found_at("more"), "more");
        write_local(&recipe_of(text_of(&root.join("elsewhere/more"))), &run).unwrap();
        assert_eq!(found_at("more"), text_of(&root.join("elsewhere/more")));
        assert_eq!(found_at("mnist"), "mnist");
        fs::write(run.join(LOCAL), "damaged").unwrap();
        assert_eq!(found_at("more"), "more");
    }
}
