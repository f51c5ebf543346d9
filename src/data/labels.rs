//! The classes of images: from a `dataset.json` or CSV file beside them, from their folders, or from an array of labels.
//!
//! Folders are not always classes. `train/` and `test/` are splits, of which only the training split is used; `00000/` and
//! `00001/` are shards of one set. A remark names the folders that are not used as classes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use serde::Deserialize;

use super::data_error;
use super::file_data::FileData;
use super::listing::{ListedFile, Listing, composed, shown};
use crate::error::{Error, Result};

/// The largest number of classes of a data set: labels are bytes.
pub(super) const MAX_CLASSES: usize = 256;

/// The largest size of a file of labels, in bytes.
const MAX_TABLE_BYTES: u64 = 256 << 20;

/// The largest number of label files that are tried in one folder.
const MAX_TABLES: usize = 16;

/// The class of each image of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ImageClasses {
    /// The images have no classes.
    None,
    /// The label of each image, and the name of each class; no names if the labels are the names.
    Numbers(Vec<u8>, Vec<String>),
    /// The name of each image's class; `None` for an image without one.
    Names(Vec<Option<String>>),
}

/// The meaning of the folders of a data set.
#[derive(Debug, Default, PartialEq, Eq)]
struct FolderLayout {
    /// The class of each remaining image; `None` if the folders are not classes.
    classes: Option<Vec<Option<String>>>,
    /// For each image, whether it belongs to the split that is used.
    stays: Vec<bool>,
    /// Remarks on splits and shards.
    remarks: Vec<String>,
}

/// Finds the classes of a listing's images. Removes images of other splits than the training split from it.
/// `table` is the label file that the person gave.
///
/// # Errors
///
/// If the label file that the person gave has no labels for these images.
pub(super) fn find_classes(listing: &mut Listing, table: Option<&Path>) -> Result<ImageClasses> {
    let paths: Vec<Vec<String>> = listing.images.iter().map(|image| composed(&image.path)).collect();
    if let Some(path) = table {
        let about = std::fs::metadata(path).map_err(Error::file("read", path))?;
        let file = ListedFile { path: path.to_path_buf(), data: FileData::on_disk(path.to_path_buf(), &about) };
        let hint = "give a CSV file with a header and a line `file,label` for each image, with paths as they are in the \
                    data folder, or a dataset.json as StyleGAN has it";
        let found = read_table(&file).map_err(|reason| {
            data_error(format!("{} holds no labels that can be read: {reason}", path.display()), hint)
        })?;
        let classes = found.and_then(|labels| labels_of(&labels, &paths));
        return classes.map(|(classes, _)| ImageClasses::Names(classes)).ok_or_else(|| {
            data_error(format!("{} names none of the images of {}", path.display(), listing.name), hint)
        });
    }
    let mut has_shards = false;
    for file in preferred_tables(&listing.tables) {
        let name = shown(&file.path);
        let is_style_gan = file.path.file_name().is_some_and(|name| name == "dataset.json");
        match read_table(file) {
            // StyleGAN's tool writes `null` for a set without labels. Its folders are always shards.
            Ok(None) => has_shards |= is_style_gan,
            Ok(Some(labels)) => {
                has_shards |= is_style_gan;
                let Some((classes, missing)) = labels_of(&labels, &paths) else { continue };
                if missing == 0 {
                    listing.report.note(format!("classes are the labels of {name}"));
                    return Ok(ImageClasses::Names(classes));
                }
                listing.report.note(format!(
                    "{name} has labels for {} of {} images, so the images have no classes",
                    paths.len() - missing,
                    paths.len()
                ));
                if !is_style_gan {
                    return Ok(ImageClasses::None);
                }
            }
            Err(reason) if is_style_gan => listing.report.note(format!("{name} cannot be read: {reason}")),
            Err(_) => {}
        }
    }
    if has_shards {
        let folders: BTreeSet<_> = paths.iter().filter(|parts| parts.len() > 1).map(|parts| &parts[0]).collect();
        if folders.len() > 1 {
            let count = folders.len();
            listing.report.note(format!("{count} folders are the shards of a dataset.json, not classes"));
        }
        return Ok(ImageClasses::None);
    }
    let layout = layout_of(&paths);
    layout.remarks.into_iter().for_each(|remark| listing.report.note(remark));
    let mut stays = layout.stays.iter();
    listing.images.retain(|_| *stays.next().expect("a decision for each image"));
    listing.report.are_left(listing.images.len(), paths.len());
    Ok(layout.classes.map_or(ImageClasses::None, ImageClasses::Names))
}

/// The meaning of the folders, from the parts of the images' paths.
fn layout_of(paths: &[Vec<String>]) -> FolderLayout {
    let mut layout = FolderLayout { classes: None, stays: vec![true; paths.len()], remarks: Vec::new() };
    let mut folders: Vec<(usize, Vec<String>)> =
        paths.iter().enumerate().map(|(i, parts)| (i, parts[..parts.len().saturating_sub(1)].to_vec())).collect();
    strip_common(&mut folders);
    for depth in 0..2 {
        choose_split(&mut folders, depth, &mut layout);
    }
    strip_common(&mut folders);
    let names: BTreeSet<&String> = folders.iter().filter_map(|(_, parts)| parts.first()).collect();
    if names.len() < 2 {
        return layout;
    }
    let files: Vec<&String> = folders.iter().filter_map(|(i, _)| paths[*i].last()).collect();
    if are_shards(&names, &files) {
        layout.remarks.push(format!(
            "the folders {} look like shards of one set, so they are not used as classes (a CSV file of `file,label` \
             gives classes)",
            some_of(names.iter().copied())
        ));
        return layout;
    }
    if names.len() > MAX_CLASSES {
        layout.remarks.push(format!(
            "{} folders exceed the limit of {MAX_CLASSES} classes, so they are not used as classes",
            names.len()
        ));
        return layout;
    }
    layout.classes = Some(folders.into_iter().map(|(_, parts)| parts.into_iter().next()).collect());
    layout
}

/// Removes the parts of the paths that all images share.
fn strip_common(folders: &mut [(usize, Vec<String>)]) {
    while let Some(first) = folders.first().and_then(|(_, parts)| parts.first()).cloned() {
        if !folders.iter().all(|(_, parts)| parts.first() == Some(&first)) {
            return;
        }
        for (_, parts) in folders.iter_mut() {
            parts.remove(0);
        }
    }
}

/// If all folders at `depth` are splits, keeps the images of the training split and removes that part of their paths.
fn choose_split(folders: &mut Vec<(usize, Vec<String>)>, depth: usize, layout: &mut FolderLayout) {
    let splits: Option<Vec<(Split, &str)>> =
        folders.iter().map(|(_, parts)| parts.get(depth).and_then(|name| split_of(name))).collect();
    let Some(splits) = splits.filter(|splits| !splits.is_empty()) else { return };
    let mut counts = BTreeMap::new();
    for (_, parts) in folders.iter() {
        *counts.entry(parts[depth].clone()).or_insert(0_usize) += 1;
    }
    let domains: Vec<String> = splits.iter().map(|(_, domain)| (*domain).to_string()).collect();
    let kinds: Vec<Split> = splits.iter().map(|(split, _)| *split).collect();
    if counts.len() < 2 {
        return;
    }
    let has_training = kinds.contains(&Split::Training);
    let named = |training: bool| {
        let chosen =
            counts.iter().filter(|(name, _)| split_of(name).is_some_and(|(s, _)| (s == Split::Training) == training));
        let named: Vec<_> = chosen.map(|(name, count)| format!("{name}/ ({count} images)")).collect();
        named.join(", ")
    };
    if has_training {
        let others = named(false);
        if !others.is_empty() {
            layout.remarks.push(format!(
                "the folders are splits: {} is used, and {others} left out (to train on another split, name its folder)",
                named(true)
            ));
        }
    } else {
        layout.remarks.push(format!("the folders are splits, and all are used: {}", named(false)));
    }
    let mut kept = Vec::new();
    for (((i, mut parts), kind), domain) in std::mem::take(folders).into_iter().zip(kinds).zip(domains) {
        if has_training && kind != Split::Training {
            layout.stays[i] = false;
            continue;
        }
        if domain.is_empty() {
            parts.remove(depth);
        } else {
            parts[depth] = domain;
        }
        kept.push((i, parts));
    }
    *folders = kept;
}

/// The purpose of a part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Split {
    /// The part for training.
    Training,
    /// A part for validation or tests.
    Other,
}

/// The split that a folder's name denotes, and the domain in the rest of the name: `A` for `trainA`, the layout of `CycleGAN`'s
/// data sets.
fn split_of(name: &str) -> Option<(Split, &str)> {
    let (stem, domain) = match name.strip_suffix(['A', 'B']) {
        Some(stem) => (stem, &name[stem.len()..]),
        None => (name, ""),
    };
    let lower = stem.to_lowercase();
    let bare = lower.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '_' | '-' | ' ' | '.'));
    let bare =
        ["images", "imgs", "img", "set", "data", "split"].iter().find_map(|end| bare.strip_suffix(end)).unwrap_or(bare);
    match bare.trim_end_matches(['_', '-', ' ']) {
        "train" | "training" | "trn" => Some((Split::Training, domain)),
        "test" | "testing" | "tst" | "val" | "valid" | "validation" | "validate" | "dev" | "eval" | "evaluation"
        | "holdout" => Some((Split::Other, domain)),
        _ => None,
    }
}

/// Whether the name of a folder is that of a part of a data set, a split (`train`, `test`) or a shard (`shard-0`, `00001`), so that it may
/// not be a class.
pub fn names_a_part(name: &str) -> bool {
    let is_padded = name.len() >= 3 && name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit());
    split_of(name).is_some() || is_called_shard(name) || is_padded
}

/// Whether the name of a folder says that it is a shard, such as `shard-0` or `part_3`.
fn is_called_shard(name: &str) -> bool {
    let stem = name.to_lowercase();
    let number = stem.trim_start_matches(|c: char| !c.is_ascii_digit());
    let word = stem[..stem.len() - number.len()].trim_end_matches(['-', '_', ' ', '.']).to_string();
    !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && ["shard", "part", "batch", "chunk"].contains(&word.as_str())
}

/// Whether folders are shards: their names say so (`shard-0`, `part_3`), or are numbers with leading zeros and no file name
/// occurs twice. Class folders repeat file names (`00007/00000.png`), or are numbers without leading zeros.
fn are_shards(names: &BTreeSet<&String>, files: &[&String]) -> bool {
    let called_so = names.iter().all(|name| is_called_shard(name));
    let width = names.first().map_or(0, |name| name.len());
    let numbered =
        width >= 3 && names.iter().all(|name| name.len() == width && name.bytes().all(|byte| byte.is_ascii_digit()));
    let distinct: BTreeSet<_> = files.iter().collect();
    called_so || (numbered && distinct.len() == files.len() && files.len() > names.len())
}

fn some_of<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let count = names.len();
    let mut text = names.take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    if count > 3 {
        text.push_str(", ...");
    }
    text
}

/// The files that may hold labels, those with common names first. Only files in the top folder are tried.
fn preferred_tables(tables: &[ListedFile]) -> impl Iterator<Item = &ListedFile> {
    let rank = |file: &ListedFile| {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        ["dataset.json", "labels.csv", "metadata.csv", "train.csv"].iter().position(|known| *known == name).unwrap_or(9)
    };
    let is_tried = |file: &&ListedFile| {
        let is_json = file.path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        file.path.components().count() == 1 && (!is_json || rank(file) == 0)
    };
    let mut tables: Vec<_> = tables.iter().filter(is_tried).collect();
    tables.sort_by_key(|file| rank(file));
    tables.into_iter().take(MAX_TABLES)
}

/// The class of each path, and the number of paths without a class; `None` if the table has none of the paths.
fn labels_of(labels: &HashMap<String, String>, paths: &[Vec<String>]) -> Option<(Vec<Option<String>>, usize)> {
    let class = |parts: &Vec<String>| {
        let path = parts.join("/");
        let file = parts.last().map_or("", String::as_str);
        let stem = |name: &str| name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_string();
        [path.clone(), file.to_string(), stem(&path), stem(file)].iter().find_map(|key| labels.get(key)).cloned()
    };
    let classes: Vec<_> = paths.iter().map(class).collect();
    let missing = classes.iter().filter(|class| class.is_none()).count();
    (missing < classes.len()).then_some((classes, missing))
}

/// The labels in a file, by image name; `None` for a `dataset.json` without labels.
fn read_table(file: &ListedFile) -> Result<Option<HashMap<String, String>>, String> {
    let bytes = file.data.read(MAX_TABLE_BYTES).map_err(|error| error.to_string())?;
    let is_json = file.path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    if is_json { labels_in_json(&bytes) } else { labels_in_csv(&bytes).map(Some) }
}

/// The labels of `StyleGAN`'s `dataset.json`: `{"labels": [["00000/img00000000.png", 6], ...]}`, or `{"labels": null}`.
pub(super) fn labels_in_json(bytes: &[u8]) -> Result<Option<HashMap<String, String>>, String> {
    #[derive(Deserialize)]
    struct DatasetJson {
        labels: Option<Vec<(String, serde_json::Value)>>,
    }
    let table: DatasetJson = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let label = |value: serde_json::Value| match value {
        serde_json::Value::Number(number) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        serde_json::Value::String(name) => Ok(name),
        other => Err(format!("its labels are whole numbers or names, not {other}")),
    };
    let labels = table.labels.map(|labels| {
        labels.into_iter().map(|(file, value)| Ok((composed(Path::new(&file)).join("/"), label(value)?))).collect()
    });
    labels.transpose()
}

/// The labels of a CSV file, separated by commas, semicolons or tabs. The header names the columns of files and labels;
/// without such a header they are the first and the second column.
pub(super) fn labels_in_csv(bytes: &[u8]) -> Result<HashMap<String, String>, String> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let first_line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let count = |separator: u8| first_line.split(|&byte| byte == separator).count();
    let separator =
        [b',', b';', b'\t'].into_iter().max_by_key(|&separator| (count(separator), separator == b',')).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).has_headers(false).flexible(true).from_reader(text);
    let mut columns = None;
    let mut labels = HashMap::new();
    for record in reader.byte_records() {
        let record = record.map_err(|error| error.to_string())?;
        let field = |i: usize| record.get(i).map(|field| String::from_utf8_lossy(field).trim().to_string());
        let Some((file_column, label_column)) = columns else {
            let header: Vec<String> = (0..record.len()).filter_map(field).map(|name| name.to_lowercase()).collect();
            let find = |names: &[&str]| header.iter().position(|name| names.contains(&name.as_str()));
            let file = find(&[
                "file",
                "filename",
                "file_name",
                "path",
                "filepath",
                "image",
                "image_name",
                "image_id",
                "id",
                "img",
            ]);
            let label = find(&["label", "labels", "class", "class_name", "category", "target", "y"]);
            if record.len() < 2 {
                return Err("its lines have no second column".into());
            }
            columns = Some((file.unwrap_or(0), label.unwrap_or(1)));
            if file.is_none() && label.is_none() {
                insert(&mut labels, field(0), field(1));
            }
            continue;
        };
        insert(&mut labels, field(file_column), field(label_column));
    }
    Ok(labels)
}

fn insert(labels: &mut HashMap<String, String>, file: Option<String>, label: Option<String>) {
    if let (Some(file), Some(label)) = (file, label.filter(|label| !label.is_empty())) {
        labels.insert(composed(Path::new(&file.replace('\\', "/"))).join("/"), composed(Path::new(&label)).join("/"));
    }
}

/// The labels of images in an array or an IDX file, one for each image.
pub(super) enum Labels {
    /// Whole numbers.
    Numbers(Vec<i64>),
    /// Names.
    Names(Vec<String>),
}

impl Labels {
    /// The number of labels.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Names(names) => names.len(),
        }
    }

    /// Class indices from 0 on, and the names of the classes, in order. There are no names if the labels are the numbers 0, 1, 2 and so on.
    ///
    /// # Errors
    ///
    /// A sentence, if the labels have more than [`MAX_CLASSES`] different values.
    pub(super) fn compact(&self) -> Result<(Vec<u8>, Vec<String>), String> {
        match self {
            Self::Numbers(numbers) => {
                let distinct = distinct(numbers)?;
                let is_contiguous = distinct.iter().enumerate().all(|(i, number)| *number == i as i64);
                let names = if is_contiguous { Vec::new() } else { distinct.iter().map(ToString::to_string).collect() };
                let label = |number| distinct.binary_search(number).unwrap_or_default() as u8;
                Ok((numbers.iter().map(label).collect(), names))
            }
            Self::Names(labels) => {
                let mut names = distinct(labels)?;
                sort_names(&mut names);
                let indices: HashMap<&str, u8> = names.iter().map(String::as_str).zip(0..).collect();
                Ok((labels.iter().map(|label| indices[label.as_str()]).collect(), names.clone()))
            }
        }
    }
}

/// The different values of labels, in order.
fn distinct<T: Ord + Clone>(labels: &[T]) -> Result<Vec<T>, String> {
    let distinct: Vec<T> = labels.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
    if distinct.len() > MAX_CLASSES {
        let count = distinct.len();
        return Err(format!("the labels have {count} different values, more than the limit of {MAX_CLASSES} classes"));
    }
    Ok(distinct)
}

/// Sorts the names of classes: numerically if all are integers, else alphabetically.
pub(super) fn sort_names(names: &mut [String]) {
    let numbers: Option<Vec<i128>> = names.iter().map(|name| name.parse().ok()).collect();
    match numbers {
        Some(_) => names.sort_by_cached_key(|name| (name.parse::<i128>().unwrap_or_default(), name.clone())),
        None => names.sort(),
    }
}
