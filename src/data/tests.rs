//! Opening valid and damaged data sets. The valid one has three images of 2 x 4 pixels; the damaged ones are variants of it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::{ImageSet, Source};
use crate::error::{Error, Result};
use crate::progress::Console;

mod classes;
mod formats;
mod images;

const PIXELS: [u8; 24] = [
    0, 1, 2, 3, 4, 5, 6, 7, //
    10, 11, 12, 13, 14, 15, 16, 17, //
    255, 254, 253, 252, 251, 250, 249, 248,
];
const LABELS: [u8; 3] = [7, 0, 255];
/// The labels as class indices: 0, 7 and 255 are three classes.
const COMPACT: [u8; 3] = [1, 0, 2];

const IMAGE_FILE: &str = "train-images-idx3-ubyte";
const LABEL_FILE: &str = "train-labels-idx1-ubyte";

fn idx(magic: [u8; 4], dimensions: &[u32], elements: &[u8]) -> Vec<u8> {
    let dimensions = dimensions.iter().flat_map(|d| d.to_be_bytes());
    magic.into_iter().chain(dimensions).chain(elements.iter().copied()).collect()
}

fn images() -> Vec<u8> {
    idx([0, 0, 8, 3], &[3, 2, 4], &PIXELS)
}

fn labels() -> Vec<u8> {
    idx([0, 0, 8, 1], &[3], &LABELS)
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// A folder of IDX files, removed at the end of its test.
struct IdxFolder(TempDir);

impl IdxFolder {
    fn with(files: &[(&str, &[u8])]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, bytes) in files {
            fs::write(folder.join(name), bytes).unwrap();
        }
        folder
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> Result<ImageSet> {
        open(self.0.path().to_str().unwrap())
    }

    fn open_file(&self, name: &str) -> Result<ImageSet> {
        open(self.join(name).to_str().unwrap())
    }
}

/// Opens a data set at the size of the valid images.
fn open(name: &str) -> Result<ImageSet> {
    super::open(&Source::from(name), [2, 4, 1], None, &Console::silent())
}

fn open_bytes(bytes: &[u8]) -> Result<ImageSet> {
    IdxFolder::with(&[("cats.idx", bytes)]).open_file("cats.idx")
}

/// Asserts that the outcome is an error whose message has each of `parts`, with a hint.
#[track_caller]
fn assert_refused(outcome: Result<ImageSet>, parts: &[&str]) -> Error {
    let error = outcome.expect_err("bad input was accepted");
    let sentence = error.to_string();
    for part in parts {
        assert!(sentence.contains(part), "no `{part}` in: {sentence}");
    }
    assert!(!error.hint().is_empty(), "no hint for: {sentence}");
    error
}

#[track_caller]
fn assert_is_the_good_set(set: &ImageSet, name: &str, labels: Option<&[u8]>) {
    assert_eq!(set.name, name);
    assert_eq!((set.count(), set.image_shape()), (3, [2, 4, 1]));
    assert_eq!(set.pixels, PIXELS);
    assert_eq!(set.image(1), &PIXELS[8..16]);
    assert_eq!(set.labels.as_deref(), labels);
}

#[test]
fn every_spelling_of_the_files_is_found() {
    let (images, labels) = (images(), labels());
    let (compressed_images, compressed_labels) = (compressed(&images), compressed(&labels));
    for (image_name, image_bytes, label_name, label_bytes) in [
        (IMAGE_FILE, &images, LABEL_FILE, &labels),
        ("train-images-idx3-ubyte.gz", &compressed_images, "train-labels-idx1-ubyte.gz", &compressed_labels),
        ("train-images.idx3-ubyte", &images, "train-labels.idx1-ubyte", &labels),
        ("train-images.idx3-ubyte.gz", &compressed_images, "train-labels.idx1-ubyte", &labels),
        (IMAGE_FILE, &images, "train-labels-idx1-ubyte.gz", &compressed_labels),
    ] {
        let folder = IdxFolder::with(&[(image_name, image_bytes), (label_name, label_bytes)]);
        let folder_name = folder.0.path().file_name().unwrap().to_str().unwrap();
        assert_is_the_good_set(&folder.open().unwrap(), folder_name, Some(&COMPACT));
        assert_is_the_good_set(&folder.open_file(image_name).unwrap(), "train-images", Some(&COMPACT));
    }
}

#[test]
fn labels_may_be_missing() {
    let folder = IdxFolder::with(&[(IMAGE_FILE, &images())]);
    assert_eq!(folder.open().unwrap().labels, None);
}

#[test]
fn a_file_may_have_any_name() {
    assert_is_the_good_set(&open_bytes(&images()).unwrap(), "cats.idx", None);
    assert_is_the_good_set(&open_bytes(&compressed(&images())).unwrap(), "cats.idx", None);
}

#[test]
fn labels_are_found_by_the_file_name_alone() {
    let folder = IdxFolder::with(&[]);
    fs::create_dir(folder.join("images")).unwrap();
    fs::write(folder.join("images/train-images-idx3-ubyte"), images()).unwrap();
    fs::write(folder.join("images/train-labels-idx1-ubyte"), labels()).unwrap();
    assert_is_the_good_set(&folder.open_file("images").unwrap(), "images", Some(&COMPACT));
}

#[test]
fn compression_is_detected_by_content_not_by_name() {
    let folder = IdxFolder::with(&[("train-images-idx3-ubyte.gz", &images()), (LABEL_FILE, &compressed(&labels()))]);
    assert_eq!(folder.open().unwrap().labels.as_deref(), Some(&COMPACT[..]));
}

#[test]
fn a_gzip_of_several_members_is_read_to_its_end() {
    let all = images();
    let (first, second) = all.split_at(20);
    let members = [compressed(first), compressed(second)].concat();
    assert_is_the_good_set(&open_bytes(&members).unwrap(), "cats.idx", None);
}

#[test]
fn a_file_takes_precedence_over_a_folder_of_the_same_name() {
    let folder = IdxFolder::with(&[("train-images.idx3-ubyte", &images()), ("train-labels.idx1-ubyte", &labels())]);
    fs::create_dir(folder.join(IMAGE_FILE)).unwrap();
    assert_eq!(folder.open().unwrap().labels.as_deref(), Some(&COMPACT[..]));
}

#[test]
fn mnist_is_the_built_in_set() {
    let set = super::open(&"mnist".into(), [28, 28, 1], None, &Console::silent()).unwrap();
    assert_eq!((set.name.as_str(), set.count()), ("mnist", 60_000));
}

#[test]
fn a_path_that_does_not_exist_is_refused() {
    for source in ["", "Mnist", "data/cats", "./mnist"] {
        let error = assert_refused(open(source), &["does not exist", source]);
        assert!(error.hint().contains("`mnist`"));
    }
    for (source, hint) in [("~/cats", "$HOME"), ("cats/*.png", "not a pattern")] {
        let error = assert_refused(open(source), &["does not exist", source]);
        assert!(error.hint().contains(hint), "{}", error.hint());
    }
    let error = assert_refused(open("https://example.com/cats.zip"), &["is an address"]);
    assert!(error.hint().contains("download"));
}

#[test]
fn an_empty_folder_is_refused() {
    assert_refused(IdxFolder::with(&[]).open(), &["is empty"]);
}

#[test]
fn a_folder_without_images_is_refused() {
    let folder = IdxFolder::with(&[("1.txt", b"\x89PNG"), ("2", b"")]);
    let error = assert_refused(folder.open(), &["holds no image", ".png", IMAGE_FILE, "train-images.idx3-ubyte"]);
    assert!(error.hint().contains("`mnist` or `aerial`"));
}

#[test]
fn a_folder_of_test_images_is_refused_with_a_hint() {
    let folder = IdxFolder::with(&[("t10k-images-idx3-ubyte", &images())]);
    let error = assert_refused(folder.open(), &["it holds no IDX file of training images"]);
    let file = folder.join("t10k-images-idx3-ubyte");
    assert!(error.hint().ends_with(&format!("name the file: {}", Path::display(&file))));
}

#[test]
fn a_folder_in_place_of_an_idx_file_is_refused() {
    let folder = IdxFolder::with(&[]);
    fs::create_dir(folder.join(IMAGE_FILE)).unwrap();
    assert_refused(folder.open(), &[IMAGE_FILE, "is not a file"]);

    let folder = IdxFolder::with(&[(IMAGE_FILE, &images())]);
    fs::create_dir(folder.join(LABEL_FILE)).unwrap();
    assert_refused(folder.open(), &[LABEL_FILE, "is not a file"]);
}

#[test]
fn reading_a_folder_as_an_idx_file_fails() {
    let folder = IdxFolder::with(&[]);
    let error = super::idx::read_images(folder.0.path()).unwrap_err();
    assert!(matches!(error, Error::File { action: "read", .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_device_is_not_read() {
    assert_refused(open("/dev/zero"), &["/dev/zero is neither a file nor a folder"]);
}

#[cfg(unix)]
#[test]
fn a_circular_link_is_refused() {
    let folder = IdxFolder::with(&[]);
    std::os::unix::fs::symlink(folder.join("circle"), folder.join("circle")).unwrap();
    let error = folder.open_file("circle").unwrap_err();
    assert!(matches!(error, Error::File { action: "read", .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn files_and_folders_without_read_permission_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let close = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();

    let folder = IdxFolder::with(&[(IMAGE_FILE, &images()), (LABEL_FILE, &labels())]);
    close(&folder.join(LABEL_FILE), 0o000);
    if fs::read(folder.join(LABEL_FILE)).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    assert_refused(folder.open(), &["cannot read", LABEL_FILE]);
    close(&folder.join(IMAGE_FILE), 0o000);
    assert_refused(folder.open(), &["cannot read", IMAGE_FILE]);
    close(folder.0.path(), 0o600); // listing is allowed, opening files is not
    assert_refused(folder.open(), &["cannot read", IMAGE_FILE]);
    close(folder.0.path(), 0o700);

    let folder = IdxFolder::with(&[]);
    close(folder.0.path(), 0o300); // opening files is allowed, listing is not
    assert_refused(folder.open(), &["cannot read the folder"]);
    close(folder.0.path(), 0o700);
}

#[test]
fn a_truncated_idx_file_is_refused() {
    let whole = images();
    for length in 0..16 {
        let expected = format!("truncated: it has {length} bytes, but its header needs 16");
        assert_refused(open_bytes(&whole[..length]), &[&expected]);
    }
    for length in 16..whole.len() {
        let expected = format!("truncated: it has {length} bytes, but its header declares 40");
        assert_refused(open_bytes(&whole[..length]), &[&expected]);
    }
}

#[test]
fn a_file_truncated_before_compression_is_refused() {
    let whole = images();
    assert_refused(
        open_bytes(&compressed(&whole[..7])),
        &["truncated: it has 7 bytes after unpacking, but its header needs 16"],
    );
    assert_refused(
        open_bytes(&compressed(&whole[..39])),
        &["truncated: it has 39 bytes after unpacking, but its header declares 40"],
    );
}

#[test]
fn a_truncated_gzip_is_refused() {
    let whole = compressed(&images());
    for length in 2..whole.len() {
        assert_refused(open_bytes(&whole[..length]), &["truncated"]);
    }
    let without_checksum = &whole[..whole.len() - 8];
    assert_refused(open_bytes(without_checksum), &["checksum", "is missing"]);
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut bytes = images();
    bytes.extend([0; 5]);
    assert_refused(open_bytes(&bytes), &["is too long: it has 45 bytes, but its header declares 40"]);
    assert_refused(
        open_bytes(&compressed(&bytes)),
        &["is too long: it has more bytes after unpacking, but its header declares 40"],
    );
}

#[test]
fn a_gzip_with_a_changed_byte_is_read_correctly_or_refused() {
    let whole = compressed(&images());
    let mut refused = 0;
    for place in 2..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0xff;
        match open_bytes(&damaged) {
            Ok(set) => assert_eq!(set.pixels, PIXELS, "byte {place}"), // the header of a gzip has bytes without meaning
            Err(_) => refused += 1,
        }
    }
    assert!(refused > whole.len() / 2, "only {refused} of {}", whole.len());
}

#[test]
fn a_gzip_with_a_wrong_checksum_is_refused() {
    let mut bytes = compressed(&images());
    let checksum = bytes.len() - 8;
    bytes[checksum] ^= 1;
    assert_refused(open_bytes(&bytes), &["is damaged: its gzip stream fails"]);
}

#[test]
fn a_gzip_with_something_behind_it() {
    let mut bytes = compressed(&images());
    bytes.extend(b"something else");
    assert_refused(open_bytes(&bytes), &["is damaged"]);
}

#[test]
fn a_wrong_magic_number_is_refused_with_a_hint() {
    let refused_with = |magic: [u8; 4], shown: &str, hint: &str| {
        let folder = IdxFolder::with(&[(IMAGE_FILE, &idx(magic, &[3, 2, 4], &PIXELS))]);
        let error = assert_refused(folder.open(), &["not an IDX file of images", shown, "00 00 08 03"]);
        assert!(error.hint().contains(hint), "no `{hint}` in: {}", error.hint());
    };
    refused_with([0xca, 0xfe, 0x00, 0x01], "ca fe 00 01", "yann.lecun.com");
    refused_with([0xff, 0xd8, 0xff, 0xe0], "ff d8 ff e0", "image file");
    refused_with([b'P', b'K', 3, 4], "50 4b 03 04", "zip archive");
    refused_with(*b"<!DO", "3c 21 44 4f", "IDX format");
    refused_with([0, 0, 0x0d, 3], "00 00 0d 03", "only unsigned bytes");
    refused_with([0, 0, 8, 4], "00 00 08 04", "only grey images");
}

#[test]
fn labels_in_place_of_images_are_refused() {
    let folder = IdxFolder::with(&[(IMAGE_FILE, &labels())]);
    let error = assert_refused(folder.open(), &["00 00 08 01 instead of 00 00 08 03"]);
    assert!(error.hint().contains("this is a file of labels"));
}

#[test]
fn images_in_place_of_labels_are_refused() {
    let folder = IdxFolder::with(&[(IMAGE_FILE, &images()), (LABEL_FILE, &images())]);
    let error = assert_refused(folder.open(), &["00 00 08 03 instead of 00 00 08 01"]);
    assert!(error.hint().contains("this is a file of images"));
}

#[test]
fn sizes_of_zero() {
    for dimensions in [[0, 2, 4], [3, 0, 4], [3, 2, 0]] {
        let sizes = format!("holds no images: the sizes in its header are {dimensions:?}");
        assert_refused(open_bytes(&idx([0, 0, 8, 3], &dimensions, &[])), &[&sizes]);
    }
    let folder = IdxFolder::with(&[(IMAGE_FILE, &images()), (LABEL_FILE, &idx([0, 0, 8, 1], &[0], &[]))]);
    assert_refused(folder.open(), &["holds no labels: the sizes in its header are [0]"]);
}

#[test]
fn sizes_beyond_the_limits_are_refused() {
    let open_with = |dimensions: [u32; 3]| open_bytes(&compressed(&idx([0, 0, 8, 3], &dimensions, &PIXELS)));
    assert_refused(open_with([1, 4097, 1]), &["1 x 4097 pixels; at most 4096 x 4096"]);
    assert_refused(open_with([1, 1, u32::MAX]), &["4294967295 x 1 pixels"]);
    assert_refused(open_with([u32::MAX; 3]), &["4294967295 x 4294967295 pixels"]); // their product overflows 64 bits
    assert_refused(open_with([u32::MAX, 4096, 4096]), &["declares 4294967295 x 4096 x 4096 bytes; at most 2147483648"]);
    assert_refused(open_with([129, 4096, 4096]), &["declares 129 x 4096 x 4096 bytes"]);
}

/// The header declares 2 GiB, which is just within the limits, and 24 bytes follow. The test does not assert the time and
/// memory that this takes.
#[test]
fn a_header_that_declares_more_than_the_file_holds_is_refused() {
    let bytes = idx([0, 0, 8, 3], &[128, 4096, 4096], &PIXELS);
    assert_refused(open_bytes(&bytes), &["it has 40 bytes", "declares 2147483664"]);
    assert_refused(open_bytes(&compressed(&bytes)), &["it has 40 bytes after unpacking", "declares 2147483664"]);
}

#[test]
fn a_number_of_labels_other_than_that_of_images_is_refused() {
    let folder = IdxFolder::with(&[(IMAGE_FILE, &images()), (LABEL_FILE, &idx([0, 0, 8, 1], &[2], &LABELS[..2]))]);
    assert_refused(folder.open(), &["holds 3 images, but the file of labels beside it holds 2"]);
}

fn good_set() -> ImageSet {
    open_bytes(&images()).unwrap()
}

#[test]
fn the_fingerprint_depends_on_the_images_only() {
    let set = good_set();
    let renamed = ImageSet { name: "other".into(), labels: Some(LABELS.to_vec()), ..set.clone() };
    assert_eq!(set.fingerprint(), renamed.fingerprint());
}

#[test]
fn the_fingerprint_changes_with_any_pixel_and_with_the_shape() {
    let set = good_set();
    let mut prints = vec![set.fingerprint()];
    for i in 0..PIXELS.len() {
        let mut changed = set.clone();
        changed.pixels[i] ^= 1;
        prints.push(changed.fingerprint());
    }
    for [height, width, channels] in [[4, 2, 1], [1, 8, 1], [2, 2, 2], [1, 4, 1]] {
        prints.push(ImageSet { height, width, channels, ..set.clone() }.fingerprint());
    }
    let all = prints.len();
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), all);
}

/// In Python: `crc = zlib.crc32; hex(crc(struct.pack("<4Q", 3, 2, 4, 1)) << 32 | crc(bytes(PIXELS)))`.
#[test]
fn the_fingerprint_is_the_same_everywhere() {
    assert_eq!(good_set().fingerprint(), 0x11b5_dd04_3bd9_67ba);
}
