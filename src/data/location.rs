//! Resolves the name of a data set: a built-in set, a file in IDX format or with arrays, an archive, or image files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::format::{FileFormat, ending_of, format_of, has_image_name, start_of, unreadable_by_name};
use super::listing::{Listing, name_of_folder};
use super::{aerial, data_error, mnist, stacked_mnist};
use crate::error::{Error, Result, nearest};
use crate::files;

/// The suffixes of IDX files of images, after `train-images`.
const IDX_ENDINGS: [&str; 2] = ["-idx3-ubyte", ".idx3-ubyte"];

/// The words for images in the names of files. A file of labels has a word for labels in their place.
const IMAGE_WORDS: [&str; 3] = ["images", "imgs", "image"];

/// The hint on which paths are data sets.
const WHAT_TO_NAME: &str = "name a folder or an archive (.zip, .tar) of images (PNG, JPEG, WebP, BMP, TIFF, GIF), a file \
                            or folder in IDX format, an array (.npy, .npz), or `stacked-mnist`, `mnist` or `aerial`, which \
                            are built in";

/// The location of a data set.
#[derive(Debug)]
pub(super) enum Location {
    /// The built-in digits of MNIST.
    Mnist,
    /// Images of three built-in digits each.
    StackedMnist,
    /// The built-in aerial images.
    Aerial,
    /// Images in IDX format.
    Idx(LabelledFile),
    /// Images in an array, `.npy` or `.npz`.
    Npy(LabelledFile),
    /// A zip archive of image files.
    Zip(PathBuf),
    /// A tar archive of image files.
    Tar(PathBuf),
    /// A tar archive of image files that is compressed with gzip.
    GzippedTar(PathBuf),
    /// An image file.
    Image(PathBuf),
    /// A folder of image files.
    Folder(PathBuf),
}

/// A file of images with the file of labels beside it.
#[derive(Debug)]
pub(super) struct LabelledFile {
    /// The name of the data set: the name of the folder, or of the file without its extensions.
    pub(super) name: String,
    /// The file of images.
    pub(super) images: PathBuf,
    /// The file of labels.
    pub(super) labels: Option<PathBuf>,
}

/// The location of the data set `name`. The names `mnist`, `stacked-mnist` and `aerial` are built in (a folder of such a name is
/// `./mnist`); every other name is a path. A folder with an IDX file of training images is a data set in that format, even if it
/// holds other files.
///
/// # Errors
///
/// If the path does not exist, or its content is not supported.
pub(super) fn locate(name: &str) -> Result<Location> {
    match name {
        mnist::NAME => return Ok(Location::Mnist),
        stacked_mnist::NAME => return Ok(Location::StackedMnist),
        aerial::NAME => return Ok(Location::Aerial),
        _ => {}
    }
    let path = files::path_of(name);
    let path = path.as_path();
    match type_of(path)? {
        FileType::Nothing => {
            if name.contains("://") {
                return Err(data_error(
                    format!("`{name}` is an address, and gpu-gan reads only files of this machine"),
                    "download the file first, such as with `curl -L -O ADDRESS`, and name it",
                ));
            }
            let built_in = nearest(name, [mnist::NAME, stacked_mnist::NAME, aerial::NAME]);
            let meant = match built_in {
                Some(name) => format!("did you mean {name}? "),
                None if name.starts_with("~/") => {
                    "a shell replaces ~ only outside quotes: write \"$HOME/...\"; ".into()
                }
                None if name.contains(['*', '?']) => "give one path, not a pattern: the folder of the images; ".into(),
                None => files::meant_instead(path),
            };
            Err(data_error(format!("`{name}` does not exist"), format!("{meant}{WHAT_TO_NAME}")))
        }
        FileType::Other => Err(data_error(format!("{name} is neither a file nor a folder"), WHAT_TO_NAME)),
        FileType::File => locate_file(path),
        FileType::Folder => {
            let names = IDX_ENDINGS.map(|ending| format!("train-images{ending}"));
            Ok(match first_file(path, &names)? {
                Some(images) => {
                    Location::Idx(LabelledFile { name: name_of_folder(path), labels: labels_beside(&images)?, images })
                }
                None => Location::Folder(path.to_path_buf()),
            })
        }
    }
}

/// The location in a file, by its content, or by its name if the content is not recognised.
fn locate_file(path: &Path) -> Result<Location> {
    let start = start_of(path).map_err(Error::file("read", path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let is_named = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let with_labels =
        || Ok(LabelledFile { name: name_of_file(path), images: path.to_path_buf(), labels: labels_beside(path)? });
    let unreadable = |format: super::format::UnreadableFormat| {
        data_error(format!("{} is {}, which is not supported", path.display(), format.name), format.hint)
    };
    Ok(match format_of(&start) {
        FileFormat::Image => Location::Image(path.to_path_buf()),
        FileFormat::Npy => Location::Npy(with_labels()?),
        FileFormat::Zip | FileFormat::Gzip | FileFormat::Unknown if unreadable_by_name(path).is_some() => {
            return Err(unreadable_by_name(path).map(unreadable).expect("the format is known"));
        }
        FileFormat::Zip if is_named(&[".npz"]) => Location::Npy(with_labels()?),
        FileFormat::Zip => Location::Zip(path.to_path_buf()),
        FileFormat::Tar => Location::Tar(path.to_path_buf()),
        FileFormat::Gzip if is_named(&[".tar.gz", ".tgz"]) => Location::GzippedTar(path.to_path_buf()),
        FileFormat::Unreadable(format) if !is_named(&["ubyte", ".idx", ".gz"]) => return Err(unreadable(format)),
        FileFormat::Unknown if is_named(&[".tar"]) => Location::Tar(path.to_path_buf()),
        FileFormat::Unknown if has_image_name(path) => Location::Image(path.to_path_buf()),
        FileFormat::Unknown if !is_named(&["ubyte", ".gz"]) && !name.contains("idx") => {
            let start: Vec<_> = start.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            return Err(data_error(
                format!(
                    "{} is not an image, an array, an archive or an IDX file: it starts with the bytes {}",
                    path.display(),
                    start.join(" ")
                ),
                WHAT_TO_NAME,
            ));
        }
        FileFormat::Idx | FileFormat::Gzip | FileFormat::Unreadable(_) | FileFormat::Unknown => {
            Location::Idx(with_labels()?)
        }
    })
}

/// The file of labels that belongs to a file of images: `t10k-images-idx3-ubyte.gz` has `t10k-labels-idx1-ubyte`,
/// compressed or not, and `k49-train-imgs.npz` has `k49-train-labels.npz`. If neither exists, any file whose name starts
/// like theirs is used, such as `qmnist-train-labels-idx2-int.gz`.
fn labels_beside(images: &Path) -> Result<Option<PathBuf>> {
    let Some(name) = images.file_name().and_then(|name| name.to_str()) else {
        return Ok(None);
    };
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let Some((before, after)) = IMAGE_WORDS.iter().find_map(|word| name.split_once(word)) else {
        return Ok(None);
    };
    let folder = match images.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let labels = format!("{before}labels{}", after.replace("idx3", "idx1"));
    if let Some(path) = first_file(folder, &[labels])? {
        return Ok(Some(path));
    }
    let begins_likewise = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_table = ending_of(path).is_some_and(|ending| ["txt", "csv", "json", "md"].contains(&ending.as_str()));
        name.starts_with(&format!("{before}labels")) && !is_table && path.is_file()
    };
    // A folder without permission to list it has no other labels.
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    Ok(entries.filter(begins_likewise).min())
}

/// The first of `names` that is a file in `folder`, with or without `.gz`. A file takes precedence over a folder of the same name
/// (some archives unpack to both); such a folder alone is an error.
fn first_file(folder: &Path, names: &[String]) -> Result<Option<PathBuf>> {
    let mut in_the_way = None;
    for name in names {
        for path in [folder.join(name), folder.join(format!("{name}.gz"))] {
            match type_of(&path)? {
                FileType::File => return Ok(Some(path)),
                FileType::Folder | FileType::Other => in_the_way = in_the_way.or(Some(path)),
                FileType::Nothing => {}
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

/// The error for a folder without supported images.
pub(super) fn no_images(folder: &Path, listing: &Listing) -> Error {
    let entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).collect();
    if entries.is_empty() {
        return data_error(format!("{} is empty", folder.display()), WHAT_TO_NAME);
    }
    if let Some((facts, hint)) = listing.report.unreadable_instead() {
        return data_error(format!("{} holds no image that can be read: {facts}", folder.display()), hint);
    }
    if let Some(runs) = listing.report.own_outputs() {
        return data_error(
            format!("{} holds only images that gpu-gan wrote: {runs}", folder.display()),
            "name the folder of images itself, such as the folder `samples` of a run",
        );
    }
    let message = format!(
        "{} holds no image: no file in it or in its folders is named like one (.png, .jpg, .jpeg, .webp, .bmp, .tif, \
         .tiff, .gif), and it holds no IDX file of training images (train-images-idx3-ubyte or train-images.idx3-ubyte, \
         with or without .gz)",
        folder.display()
    );
    let can_be_named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let endings = [".npy", ".npz", ".zip", ".tar", ".tar.gz", ".tgz"];
        path.is_file() && (name.contains("idx3") || endings.iter().any(|ending| name.ends_with(ending)))
    };
    let hint = match entries.iter().map(fs::DirEntry::path).filter(can_be_named).min() {
        Some(path) => format!("to train on one of its other files, name the file: {}", path.display()),
        None => WHAT_TO_NAME.into(),
    };
    data_error(message, hint)
}

fn name_of_file(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let endings = [IDX_ENDINGS[0], IDX_ENDINGS[1], ".npy", ".npz"];
    let stem = endings.into_iter().find_map(|ending| name.strip_suffix(ending));
    stem.filter(|stem| !stem.is_empty()).unwrap_or(name).to_string()
}

/// The type of a path.
enum FileType {
    /// The path does not exist.
    Nothing,
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A pipe or a device; reading it might never end.
    Other,
}

fn type_of(path: &Path) -> Result<FileType> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() => Ok(FileType::File),
        Ok(there) if there.is_dir() => Ok(FileType::Folder),
        Ok(_) => Ok(FileType::Other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FileType::Nothing),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}
