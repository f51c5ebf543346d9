//! Which files a path stands for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::data_error;
use crate::error::{Error, Result};

/// The endings under which IDX files of images are passed around, after `train-images`.
const IMAGE_ENDINGS: [&str; 2] = ["-idx3-ubyte", ".idx3-ubyte"];

const WHAT_TO_NAME: &str = "name a file in IDX format, or a folder with one, or `mnist` for the digits that ship with \
                            the program; folders of PNG or JPEG images are not supported yet";

/// The files of a data set.
#[derive(Debug)]
pub(super) struct IdxFiles {
    /// What to call the set: the name of the folder, or of the file without its endings.
    pub(super) name: String,
    pub(super) images: PathBuf,
    pub(super) labels: Option<PathBuf>,
}

/// The IDX files that `source`, a file or a folder, stands for.
pub(super) fn idx_files(source: &str) -> Result<IdxFiles> {
    let path = Path::new(source);
    match kind_of(path)? {
        Kind::Nothing => Err(data_error(format!("there is nothing at `{source}`"), WHAT_TO_NAME)),
        Kind::Other => Err(data_error(format!("{source} is neither a file nor a folder"), WHAT_TO_NAME)),
        Kind::File => {
            Ok(IdxFiles { name: name_of_file(path), images: path.to_path_buf(), labels: labels_beside(path)? })
        }
        Kind::Folder => {
            let names = IMAGE_ENDINGS.map(|ending| format!("train-images{ending}"));
            let Some(images) = first_file(path, &names)? else {
                return Err(no_idx_file(path)?);
            };
            Ok(IdxFiles { name: name_of_folder(path), labels: labels_beside(&images)?, images })
        }
    }
}

/// The file of labels that belongs to a file of images: `t10k-images-idx3-ubyte.gz` has `t10k-labels-idx1-ubyte`,
/// whether or not that one is packed.
fn labels_beside(images: &Path) -> Result<Option<PathBuf>> {
    let Some(name) = images.file_name().and_then(|name| name.to_str()) else {
        return Ok(None);
    };
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let labels = name.replace("images", "labels").replace("idx3", "idx1");
    if labels == name {
        return Ok(None);
    }
    first_file(images.parent().unwrap_or(Path::new("")), &[labels])
}

/// The first of `names` that is a file in `folder`, as such or with `.gz` behind it. A folder of that name is passed
/// over for a file (some archives unpack to both), but on its own it is an error and not an absence.
fn first_file(folder: &Path, names: &[String]) -> Result<Option<PathBuf>> {
    let mut in_the_way = None;
    for name in names {
        for path in [folder.join(name), folder.join(format!("{name}.gz"))] {
            match kind_of(&path)? {
                Kind::File => return Ok(Some(path)),
                Kind::Folder | Kind::Other => in_the_way = in_the_way.or(Some(path)),
                Kind::Nothing => {}
            }
        }
    }
    match in_the_way {
        None => Ok(None),
        Some(path) => Err(data_error(
            format!("{} is not a file, but an IDX file should be there", path.display()),
            "name the IDX file of images itself; if it has labels, they are looked for beside it",
        )),
    }
}

fn no_idx_file(folder: &Path) -> Result<Error> {
    let entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(Error::file("read the folder", folder))?;
    if entries.is_empty() {
        return Ok(data_error(format!("{} is empty", folder.display()), WHAT_TO_NAME));
    }
    let message = format!(
        "{} holds no IDX file of training images (looked for train-images-idx3-ubyte and train-images.idx3-ubyte, \
         each with and without .gz)",
        folder.display()
    );
    let other_images =
        entries.iter().map(fs::DirEntry::path).filter(|path| path.is_file() && is_named_like_images(path)).min();
    let hint = match other_images {
        Some(path) => format!("to train on one of its other files, name the file: {}", path.display()),
        None => WHAT_TO_NAME.into(),
    };
    Ok(data_error(message, hint))
}

fn is_named_like_images(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains("idx3"))
}

fn name_of_file(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = IMAGE_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
    stem.filter(|stem| !stem.is_empty()).unwrap_or(name).to_string()
}

/// The last part of the path; the current folder and its parents have a name too, but only the system knows it.
fn name_of_folder(path: &Path) -> String {
    let resolved = fs::canonicalize(path).unwrap_or_default();
    match path.file_name().or(resolved.file_name()) {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "images".into(),
    }
}

enum Kind {
    Nothing,
    File,
    Folder,
    /// A pipe or a device, where reading might never end.
    Other,
}

fn kind_of(path: &Path) -> Result<Kind> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() => Ok(Kind::File),
        Ok(there) if there.is_dir() => Ok(Kind::Folder),
        Ok(_) => Ok(Kind::Other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kind::Nothing),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}
