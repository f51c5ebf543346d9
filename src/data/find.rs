//! What a name stands for: a built-in set, files in IDX format, or images in files and folders.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use super::account::{Account, LEAST_IMAGES};
use super::collection::{Classes, Collection, Original};
use super::decode::{Content, begins_like_an_image, has_images_name};
use super::{aerial, data_error, mnist, stacked_mnist};
use crate::error::{Error, Result};

/// The endings under which IDX files of images are passed around, after `train-images`.
const IMAGE_ENDINGS: [&str; 2] = ["-idx3-ubyte", ".idx3-ubyte"];

/// The most files that a folder may hold, those in its folders included.
const MOST_FILES: usize = 4_000_000;

const WHAT_TO_NAME: &str = "name a folder of images (PNG, JPEG, WebP, BMP, TIFF, GIF), or a file or folder in IDX format, \
                            or `stacked-mnist`, `mnist` or `aerial`, which ship with the program";

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Place {
    /// The digits that are built in.
    Mnist,
    /// Three of them in each image.
    StackedMnist,
    /// The photographs that are built in.
    Aerial,
    /// Images in IDX format.
    Idx(IdxFiles),
    /// A file with an image.
    Picture(PathBuf),
    /// A folder with files of images.
    Folder(PathBuf),
}

/// The files of a data set in IDX format.
#[derive(Debug)]
pub(super) struct IdxFiles {
    /// What to call the set: the name of the folder, or of the file without its endings.
    pub(super) name: String,
    pub(super) images: PathBuf,
    pub(super) labels: Option<PathBuf>,
}

/// What `name` stands for: exactly `mnist`, `stacked-mnist` and `aerial` are built in (a folder of that name is `./mnist`), anything else
/// is a path. A folder with a file of training images in IDX format is a data set in that format, whatever else is in it.
pub(super) fn place(name: &str) -> Result<Place> {
    match name {
        mnist::NAME => return Ok(Place::Mnist),
        stacked_mnist::NAME => return Ok(Place::StackedMnist),
        aerial::NAME => return Ok(Place::Aerial),
        _ => {}
    }
    let path = Path::new(name);
    match kind_of(path)? {
        Kind::Nothing => Err(data_error(format!("there is nothing at `{name}`"), WHAT_TO_NAME)),
        Kind::Other => Err(data_error(format!("{name} is neither a file nor a folder"), WHAT_TO_NAME)),
        Kind::File if has_images_name(path) || begins_like_an_image(path).map_err(Error::file("read", path))? => {
            Ok(Place::Picture(path.to_path_buf()))
        }
        Kind::File => Ok(Place::Idx(IdxFiles {
            name: name_of_file(path),
            images: path.to_path_buf(),
            labels: labels_beside(path)?,
        })),
        Kind::Folder => {
            let names = IMAGE_ENDINGS.map(|ending| format!("train-images{ending}"));
            Ok(match first_file(path, &names)? {
                Some(images) => {
                    Place::Idx(IdxFiles { name: name_of_folder(path), labels: labels_beside(&images)?, images })
                }
                None => Place::Folder(path.to_path_buf()),
            })
        }
    }
}

/// The photographs that are built in.
pub(super) fn built_in_photographs() -> Collection<'static> {
    let originals =
        aerial::PHOTOGRAPHS.map(|(name, bytes)| Original { name: name.into(), content: Content::BuiltIn(bytes) });
    Collection {
        name: aerial::NAME.into(),
        account: Account::new(originals.len(), LEAST_IMAGES),
        pictures: originals.into(),
        classes: Classes::None,
    }
}

/// The one image of a file.
pub(super) fn picture(path: &Path) -> Result<Collection<'static>> {
    let about = fs::metadata(path).map_err(Error::file("read", path))?;
    let content = Content::File { path: path.into(), length: about.len(), modified: about.modified().ok() };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Collection {
        pictures: vec![Original { name: shown(path.file_name().unwrap_or_default().as_ref()), content }],
        name,
        classes: Classes::None,
        account: Account::new(1, LEAST_IMAGES),
    })
}

/// The images in a folder and in its folders, sorted by their paths. What is hidden (`.thumbnails`) is passed over, links
/// are followed unless they lead in a circle, and a folder that may not be read is as an image that cannot be read.
pub(super) fn pictures_in(folder: &Path) -> Result<Collection<'static>> {
    let mut account = Account::new(0, LEAST_IMAGES);
    let mut found = Vec::new();
    let is_hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
    let entries = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.file_name())) {
        let inside = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_path_buf();
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) if !has_images_name(entry.path()) => account.is_no_image(&shown(&inside(entry.path()))),
            Ok(entry) => {
                account.found();
                let about = entry.metadata();
                match about {
                    Ok(about) if about.is_file() => {
                        let content = Content::File {
                            path: entry.path().to_path_buf(),
                            length: about.len(),
                            modified: about.modified().ok(),
                        };
                        found.push((inside(entry.path()), content));
                    }
                    // A pipe might never end.
                    Ok(_) => account.cannot_read(&shown(&inside(entry.path())), "it is not a file"),
                    Err(error) => account.cannot_read(&shown(&inside(entry.path())), &error.to_string()),
                }
            }
            Err(error) if error.loop_ancestor().is_some() => {}
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_path_buf();
                let depth = error.depth();
                let source = error.into_io_error().unwrap_or_else(|| io::ErrorKind::Other.into());
                if depth == 0 {
                    return Err(Error::file("read the folder", folder)(source));
                }
                let leads_nowhere = source.kind() == io::ErrorKind::NotFound;
                if leads_nowhere && !has_images_name(&path) {
                    account.is_no_image(&shown(&inside(&path)));
                } else {
                    account.found();
                    account.cannot_read(&shown(&inside(&path)), &source.to_string());
                }
            }
        }
        if found.len() > MOST_FILES {
            return Err(data_error(
                format!("{} holds more than {MOST_FILES} images", folder.display()),
                "name a folder with fewer; is this the one you mean?",
            ));
        }
    }
    if account.pictures() == 0 {
        return Err(no_images(folder)?);
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let class = |path: &Path| match path.components().collect::<Vec<_>>()[..] {
        [Component::Normal(folder), _, ..] => Some(shown(Path::new(folder))),
        _ => None,
    };
    Ok(Collection {
        name: name_of_folder(folder),
        classes: Classes::Folders(found.iter().map(|(path, _)| class(path)).collect()),
        pictures: found.into_iter().map(|(path, content)| Original { name: shown(&path), content }).collect(),
        account,
    })
}

/// A path as it may stand in a line: a name from outside may hold line breaks, or what moves a terminal's cursor.
fn shown(path: &Path) -> String {
    path.to_string_lossy().replace(char::is_control, "\u{fffd}")
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

fn no_images(folder: &Path) -> Result<Error> {
    let entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(Error::file("read the folder", folder))?;
    if entries.is_empty() {
        return Ok(data_error(format!("{} is empty", folder.display()), WHAT_TO_NAME));
    }
    let message = format!(
        "{} holds no image: nothing in it or in its folders is named like one (.png, .jpg, .jpeg, .webp, .bmp, .tif, \
         .tiff, .gif), and it holds no IDX file of training images (train-images-idx3-ubyte or train-images.idx3-ubyte, \
         with or without .gz)",
        folder.display()
    );
    let other_images =
        entries.iter().map(fs::DirEntry::path).filter(|path| path.is_file() && is_named_like_idx(path)).min();
    let hint = match other_images {
        Some(path) => format!("to train on one of its other files, name the file: {}", path.display()),
        None => WHAT_TO_NAME.into(),
    };
    Ok(data_error(message, hint))
}

fn is_named_like_idx(path: &Path) -> bool {
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
