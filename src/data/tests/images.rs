//! Image files of many sizes and kinds, valid and damaged, and their conversion to images of one size.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::TempDir;

use super::super::resize::Resize;
use super::super::{Fit, Tiles, aerial, open};
use super::{ImageSet, Source, assert_refused};
use crate::error::Result;
use crate::progress::Console;
use crate::progress::tests::Recording;

const SIDE: usize = 8;
pub(super) const COLOUR: [usize; 3] = [SIDE, SIDE, 3];
pub(super) const GREY: [usize; 3] = [SIDE, SIDE, 1];

/// Opens a data set. Returns the images, and the printed messages without lines of progress, which a slow machine prints.
pub(super) fn open_recorded(source: &Source, shape: [usize; 3], cache: Option<&Path>) -> (Result<ImageSet>, String) {
    let recording = Recording::default();
    let images = open(source, shape, cache, &recording.console());
    let text = recording.text();
    let messages: Vec<_> = text.lines().filter(|line| !line.ends_with(" %")).collect();
    (images, messages.join("\n"))
}

/// A folder of images and a cache, removed at the end of a test.
pub(super) struct ImageDir {
    pub(super) folder: TempDir,
    cache: TempDir,
}

impl ImageDir {
    pub(super) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), cache: tempfile::tempdir().unwrap() }
    }

    /// Twenty images in colour, 8 x 8 pixels; the red value of each is its number.
    pub(super) fn new() -> Self {
        let dir = Self::empty();
        for i in 0..20 {
            dir.write(&format!("{i:02}.png"), &png(&numbered(i)));
        }
        dir
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn source(&self) -> Source {
        Source::from(self.folder.path().to_str().unwrap())
    }

    pub(super) fn open(&self, shape: [usize; 3]) -> Result<ImageSet> {
        open(&self.source(), shape, None, &Console::silent())
    }

    /// Opens the images and returns the printed messages.
    pub(super) fn remarks(&self, shape: [usize; 3]) -> String {
        let (images, messages) = open_recorded(&self.source(), shape, None);
        images.unwrap();
        messages
    }

    pub(super) fn open_cached(&self, source: &Source, shape: [usize; 3]) -> (ImageSet, String) {
        let (images, messages) = open_recorded(source, shape, Some(self.cache.path()));
        (images.unwrap(), messages)
    }

    fn cached(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.cache.path().join("images")).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }
}

pub(super) fn numbered(i: u8) -> DynamicImage {
    DynamicImage::ImageRgb8(RgbImage::from_fn(8, 8, |x, y| Rgb([i, x as u8 * 30, y as u8 * 30])))
}

pub(super) fn as_file(original: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    original.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(super) fn png(original: &DynamicImage) -> Vec<u8> {
    as_file(original, ImageFormat::Png)
}

/// The first value of each image.
pub(super) fn first_values(set: &ImageSet) -> Vec<u8> {
    (0..set.count()).map(|i| set.image(i)[0]).collect()
}

fn resize(shape: [usize; 3], tiles: Option<Tiles>) -> Resize {
    Resize::new(shape, &Source { tiles, upscale: true, ..Source::from("any") }).unwrap()
}

fn resized(resize: &Resize, original: &DynamicImage) -> Vec<u8> {
    let count = resize.count(original.height() as usize, original.width() as usize) as usize;
    let mut images = vec![0xa5; count * resize.image_bytes()];
    resize.write_images(original, &mut images);
    images
}

fn mean(values: &[u8]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64
}

#[test]
fn scaling_keeps_a_single_colour() {
    for (height, width) in [(8, 8), (9, 13), (64, 3), (100, 100), (1, 1)] {
        for colour in [[0, 0, 0], [255, 255, 255], [7, 130, 251]] {
            let original = DynamicImage::ImageRgb8(RgbImage::from_pixel(width, height, Rgb(colour)));
            let images = resized(&resize(COLOUR, None), &original);
            assert_eq!(images.len(), SIDE * SIDE * 3);
            assert!(images.chunks(3).all(|pixel| pixel == colour), "{width} x {height}, {colour:?}: {images:?}");
        }
    }
}

#[test]
fn scaling_keeps_the_mean_brightness() {
    // A gradient that the crop cuts equally on both sides.
    for side in [4, 11, 16, 50, 203] {
        let original = GrayImage::from_fn(side, side, |x, y| Luma([(255 * (x + y) / (2 * side - 2)) as u8]));
        let (before, after) = (mean(original.as_raw()), mean(&resized(&resize(GREY, None), &original.into())));
        assert!((before - after).abs() < 1.5, "{side}: {before} became {after}");
    }
}

/// Without averaging over the area of each output pixel, stripes of one pixel would become black or white.
#[test]
fn shrinking_averages() {
    let stripes = GrayImage::from_fn(80, 80, |x, _| Luma([if x % 2 == 0 { 0 } else { 255 }]));
    let images = resized(&resize(GREY, None), &stripes.into());
    assert!(images.iter().all(|&value| (118..=138).contains(&value)), "{images:?}");
}

#[test]
fn images_are_cropped_at_their_centre() {
    for (height, width) in [(8, 24), (24, 8), (8, 26), (16, 48), (9, 90)] {
        let long = height.max(width);
        let original = GrayImage::from_fn(width, height, |x, y| {
            let at = if width > height { x } else { y };
            Luma([(at * 3 / long) as u8 * 100]) // 0, 100, 200 in three equal parts
        });
        let images = resized(&resize(GREY, None), &original.into());
        let (left_or_top, middle) = (images[0], images[SIDE * SIDE / 2 + SIDE / 2]);
        assert_eq!(middle, 100, "{width} x {height}");
        assert!(left_or_top.abs_diff(100) <= 1, "{width} x {height}: {left_or_top}");
        assert!(images[SIDE * SIDE - 1].abs_diff(100) <= 1, "{width} x {height}");
    }
    // The model's shape need not be square, and an image of its size is not scaled.
    let original = GrayImage::from_fn(12, 6, |x, y| Luma([(y * 12 + x) as u8]));
    let images = resized(&resize([6, 4, 1], None), &original.into());
    let expected: Vec<u8> = (0..6).flat_map(|y| (4..8).map(move |x| y * 12 + x)).collect();
    assert_eq!(images, expected);
}

#[test]
fn the_tile_count_equals_the_number_of_tiles_cut() {
    for (height, width, side, stride) in [(8, 8, 8, 1), (9, 30, 8, 3), (50, 41, 8, 8), (33, 64, 16, 5), (20, 20, 8, 40)]
    {
        let tiles = resize([4, 4, 1], Some(Tiles { side, stride }));
        let along = |length: usize| (0..length).step_by(stride).filter(|start| start + side <= length).count();
        let expected = along(height) * along(width);
        assert_eq!(tiles.count(height, width), expected as u64);
        let original = GrayImage::new(width as u32, height as u32);
        assert_eq!(resized(&tiles, &original.into()), vec![0; expected * 16]);
    }
    let tiles = resize(COLOUR, Some(Tiles { side: 8, stride: 8 }));
    assert_eq!([(7, 100), (100, 7), (0, 0)].map(|(height, width)| tiles.count(height, width)), [0; 3]);
    assert_eq!(tiles.count(usize::MAX / 2, 8), (usize::MAX / 16) as u64);
}

#[test]
fn tiles_of_the_models_size_are_the_pixels_of_the_image_row_by_row() {
    let original = RgbImage::from_fn(20, 13, |x, y| Rgb([x as u8, y as u8, 9]));
    let images = resized(&resize(COLOUR, Some(Tiles { side: 8, stride: 5 })), &original.clone().into());
    let corners: Vec<_> = images.chunks(SIDE * SIDE * 3).map(|tile| [tile[0], tile[1]]).collect();
    assert_eq!(corners, [[0, 0], [5, 0], [10, 0], [0, 5], [5, 5], [10, 5]]);
    for (tile, [left, top]) in images.chunks(SIDE * SIDE * 3).zip(corners) {
        for (at, pixel) in tile.chunks(3).enumerate() {
            let (x, y) = (left as usize + at % SIDE, top as usize + at / SIDE);
            assert_eq!(pixel, original.get_pixel(x as u32, y as u32).0);
        }
    }
}

#[test]
fn the_built_in_images_give_1541_tiles_of_their_own_pixels() {
    let source = Source::new("aerial", None, None, false).unwrap();
    assert_eq!(source.tiles, Some(Tiles { side: 64, stride: 32 }));
    let set = open(&source, [64, 64, 3], None, &Console::silent()).unwrap();
    assert_eq!((set.name.as_str(), set.count(), set.image_shape()), ("aerial", 1541, [64, 64, 3]));
    assert_eq!((set.labels.as_ref(), set.label_names.len()), (None, 0));
    // The second tile of the last image starts 32 pixels to the right of the corner.
    let last = image::load_from_memory(aerial::images().unwrap()[3].1).unwrap().into_rgb8();
    assert_eq!(set.image(1541 - 121 + 1)[..3], last.get_pixel(32, 0).0);
    assert_eq!(set.image(1540)[64 * 64 * 3 - 3..], last.get_pixel(320 + 63, 320 + 63).0);
    assert_eq!(Source::new("aerial", Some(100), None, false).unwrap().tiles, Some(Tiles { side: 100, stride: 50 }));
}

#[test]
fn every_image_format_is_recognised_by_content() {
    let original = numbered(77);
    let dir = ImageDir::empty();
    for (i, format) in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff].iter().enumerate() {
        for (j, ending) in ["png", "JPG", "webp", "bmp", "tiff", "gif"].iter().enumerate() {
            dir.write(&format!("{i}{j}.{ending}"), &as_file(&original, *format));
        }
    }
    let set = dir.open(COLOUR).unwrap();
    assert_eq!(set.count(), 24);
    assert!((0..24).all(|i| set.image(i) == original.as_bytes()));

    // These two formats are lossy.
    for format in [ImageFormat::Jpeg, ImageFormat::Gif] {
        let dir = ImageDir::empty();
        (0..16).for_each(|i| dir.write(&format!("{i}.jpeg"), &as_file(&original, format)));
        let set = dir.open(COLOUR).unwrap();
        let worst = set.image(3).iter().zip(original.as_bytes()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst < 64, "{format:?}: {worst}"); // JPEG halves the resolution of colour
    }
}

#[test]
fn sixteen_bit_values_are_rounded_to_eight_and_transparency_becomes_white() {
    let dir = ImageDir::empty();
    let deep = image::ImageBuffer::<Rgb<u16>, _>::from_pixel(8, 8, Rgb([65_535, 257 * 100, 0]));
    let clear = RgbaImage::from_fn(8, 8, |x, _| Rgba([10, 20, 30, [255, 0, 127][x.min(2) as usize]]));
    (0..8).for_each(|i| dir.write(&format!("a{i}.png"), &png(&deep.clone().into())));
    (0..8).for_each(|i| dir.write(&format!("b{i}.png"), &png(&clear.clone().into())));
    let set = dir.open(COLOUR).unwrap();
    assert_eq!(set.image(0)[..3], [255, 100, 0]);
    assert_eq!(set.image(8)[..9], [10, 20, 30, 255, 255, 255, 133, 138, 143]);
    assert!(dir.remarks(COLOUR).contains("8 of 16 images are transparent for more than a half, which becomes white"));
}

#[test]
fn images_are_converted_to_the_models_channels_with_a_remark() {
    let dir = ImageDir::new();
    let grey = GrayImage::from_pixel(8, 8, Luma([99]));
    (0..3).for_each(|i| dir.write(&format!("grey{i}.png"), &png(&grey.clone().into())));
    let set = dir.open(COLOUR).unwrap();
    assert_eq!(set.image(22), [99; 8 * 8 * 3]);
    assert!(dir.remarks(COLOUR).contains("3 of 23 images are grey"), "{}", dir.remarks(COLOUR));

    let set = dir.open(GREY).unwrap();
    assert_eq!(set.image(22), [99; 64]);
    // ITU-R BT.709: 0.2126 R + 0.7152 G + 0.0722 B, here of (5, 60, 30) in column 2 and row 1.
    assert!(set.image(5)[SIDE + 2].abs_diff(46) <= 1, "{}", set.image(5)[SIDE + 2]);
    assert!(dir.remarks(GREY).contains("20 of 23 images are in colour"), "{}", dir.remarks(GREY));
}

/// An image as a JPEG with an EXIF orientation.
fn turned_jpeg(original: &DynamicImage, orientation: u8) -> Vec<u8> {
    let jpeg = as_file(original, ImageFormat::Jpeg);
    let tiff = [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[orientation, 0, 0, 0][..], &[0; 4]].concat();
    let length = (2 + 6 + tiff.len()) as u16;
    [&jpeg[..2], b"\xff\xe1", &length.to_be_bytes(), b"Exif\0\0", &tiff, &jpeg[2..]].concat()
}

#[test]
fn the_exif_orientation_is_applied() {
    let dir = ImageDir::empty();
    // The stored image is wide: white on the left, black on the right. Rotated clockwise, white is above black.
    let original = DynamicImage::ImageLuma8(GrayImage::from_fn(32, 16, |x, _| Luma([if x < 16 { 255 } else { 0 }])));
    (0..16).for_each(|i| dir.write(&format!("{i}.jpg"), &turned_jpeg(&original, 6)));
    let set = dir.open([32, 16, 1]).unwrap(); // without the rotation, they would be too small
    assert!(set.image(0)[..16 * 16].iter().all(|&value| value > 240));
    assert!(set.image(0)[16 * 16..].iter().all(|&value| value < 15));
}

#[test]
fn only_the_first_frame_of_an_animation_is_used() {
    let mut gif = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
    for value in [200, 10, 20] {
        encoder.encode(&[value; 8 * 8 * 3], 8, 8, image::ExtendedColorType::Rgb8).unwrap();
    }
    drop(encoder);
    let dir = ImageDir::new();
    dir.write("moving.gif", &gif);
    let set = dir.open(COLOUR).unwrap();
    assert_eq!(set.image(20), [200; 8 * 8 * 3]);
    let remarks = dir.remarks(COLOUR);
    assert!(
        remarks
            .starts_with("1 of 21 images is of several frames or pages; the first one is used (--frames all uses all)"),
        "{remarks}"
    );
}

#[test]
fn images_are_in_path_order_with_any_number_of_threads() {
    let dir = ImageDir::empty();
    // In path order, `a/` comes before `b`, and folder and file names count.
    let names = ["a/1.png", "a/2.png", "a/b/1.png", "a b/0.png", "ä/0.png", "b.d/0.png"];
    for (i, name) in names.iter().rev().enumerate() {
        (0..9).for_each(|j| dir.write(&format!("{name}.{j}.png"), &png(&numbered((100 + 10 * i + j) as u8))));
    }
    let sets: Vec<_> = [1, 2, 7]
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| dir.open(COLOUR).unwrap())
        })
        .into();
    assert!(sets.iter().all(|set| *set == sets[0]));
    let mut found: Vec<PathBuf> =
        names.iter().flat_map(|name| (0..9).map(move |j| format!("{name}.{j}.png").into())).collect();
    found.sort();
    let expected = found.iter().map(|path| dir.path(path.to_str().unwrap()));
    let expected: Vec<u8> = expected.map(|path| image::open(path).unwrap().as_bytes()[0]).collect();
    assert_eq!(first_values(&sets[0]), expected);
}

#[test]
fn folders_are_classes() {
    let dir = ImageDir::empty();
    for (folder, count) in
        [("dogs", 9), ("cats", 7), ("cats/black", 2), (".hidden", 3), ("@eaDir/cats", 2), ("empty", 0)]
    {
        fs::create_dir_all(dir.path(folder)).unwrap();
        (0..count).for_each(|i| dir.write(&format!("{folder}/{i}.png"), &png(&numbered(i))));
    }
    dir.write("broken/1.png", b"no image");
    let set = dir.open(COLOUR).unwrap();
    assert_eq!(set.label_names, ["cats", "dogs"]);
    assert_eq!(set.labels.unwrap(), [vec![0; 9], vec![1; 9]].concat());

    // Each tile has the class of its image.
    let source = Source { tiles: Some(Tiles { side: 4, stride: 4 }), ..dir.source() };
    let set = open(&source, [4, 4, 3], None, &Console::silent()).unwrap();
    assert_eq!(set.labels.unwrap(), [vec![0; 36], vec![1; 36]].concat());

    // With one image beside the folders, the folders are not classes.
    dir.write("beside.png", &png(&numbered(1)));
    let set = dir.open(COLOUR).unwrap();
    assert_eq!((set.count(), set.labels, set.label_names.len()), (19, None, 0));
    assert!(dir.remarks(COLOUR).contains("not used as classes"));
}

#[test]
fn one_folder_gives_no_classes_and_257_are_too_many() {
    let dir = ImageDir::empty();
    (0..20).for_each(|i| dir.write(&format!("images/{i}.png"), &png(&numbered(i))));
    assert_eq!(dir.open(COLOUR).unwrap().labels, None);
    for i in 0..256 {
        dir.write(&format!("{i}/a.png"), &png(&numbered(0)));
    }
    assert_eq!(dir.open(COLOUR).unwrap().labels, None);
    assert!(dir.remarks(COLOUR).contains("257 folders exceed the limit of 256"));
    fs::remove_dir_all(dir.path("0")).unwrap();
    let set = dir.open(COLOUR).unwrap();
    assert_eq!((set.label_names.len(), set.labels.unwrap().iter().max()), (256, Some(&255)));
}

/// Files of every format with a few pixels, for damaging.
fn specimens(width: u32, height: u32) -> Vec<(ImageFormat, Vec<u8>)> {
    let colour = |x, y| Rgb([(x * 20) as u8, (y * 25) as u8, (x * y) as u8]);
    let original = DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, colour));
    [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Gif]
        .map(|format| (format, as_file(&original, format)))
        .into()
}

#[test]
fn a_truncated_image_is_left_out_by_name() {
    let good = ImageDir::new().open(COLOUR).unwrap().pixels;
    for (format, bytes) in specimens(64, 48) {
        let all = bytes.len();
        for length in [0, 1, 7, 20, all / 2, all * 3 / 4, all * 9 / 10, all - 16] {
            let dir = ImageDir::new();
            dir.write("0 before all others.png", &bytes[..length]);
            let set = dir.open(COLOUR).unwrap();
            assert!(set.pixels == good, "{format:?}, {length} of {all} bytes: {} images", set.count());
            let remarks = dir.remarks(COLOUR);
            assert!(remarks.starts_with("1 of 21 images is left out"), "{remarks}");
            assert!(remarks.contains("\n    0 before all others.png: it"), "{remarks}");
        }
    }
}

#[test]
fn an_image_with_any_byte_changed_is_read_or_left_out() {
    for (format, bytes) in specimens(12, 9) {
        let dir = ImageDir::empty();
        let step = bytes.len().div_ceil(300);
        for at in (0..bytes.len()).step_by(step) {
            for flip in [0xff, 0x01, 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                dir.write(&format!("{at}-{flip}.png"), &damaged);
            }
        }
        (0..16).for_each(|i| dir.write(&format!("good{i}.png"), &bytes));
        match dir.open([9, 12, 3]) {
            Ok(set) => assert!(set.count() >= 16, "{format:?}"),
            Err(error) => assert!(error.to_string().contains("cannot be read"), "{format:?}: {error}"),
        }
    }
}

/// The beginning of a PNG in colour, of some bytes.
fn huge_png(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8], content: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(content);
        [&(content.len() as u32).to_be_bytes(), kind, content, &crc.sum().to_be_bytes()].concat()
    };
    let mut zeros = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zeros.write_all(&vec![0; 8 << 20]).unwrap();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &header)[..], &chunk(b"IDAT", &zeros.finish().unwrap())].concat()
}

#[test]
fn an_image_of_30000_by_30000_pixels_is_left_out_before_it_is_decoded() {
    let dir = ImageDir::new();
    dir.write("huge.png", &huge_png(30_000, 30_000));
    assert_eq!(dir.open(COLOUR).unwrap().count(), 20);
    let remarks = dir.remarks(COLOUR);
    assert!(
        remarks.contains("huge.png: its 30000 x 30000 pixels take 2.5 GiB, more than the limit of 512.0 MiB"),
        "{remarks}"
    );
    // The largest supported size; the file is truncated.
    dir.write("huge.png", &huge_png(12_000, 14_000));
    assert!(dir.remarks(COLOUR).contains("huge.png: it is truncated"), "{}", dir.remarks(COLOUR));
}

#[test]
fn more_tiles_than_memory_holds_are_refused_before_decoding() {
    let dir = ImageDir::empty();
    dir.write("large.png", &huge_png(13_000, 13_000));
    let tiles = Tiles { side: 16, stride: 1 };
    let source = Source { tiles: Some(tiles), upscale: true, ..dir.source() };
    let error = assert_refused(
        open(&source, [256, 256, 3], None, &Console::silent()),
        &["gives 168610225 tiles of 256 x 256 x 3, which take 30.1 TiB", "memory are available"],
    );
    assert!(error.hint().contains("--stride"));
    (0..30).for_each(|i| dir.write(&format!("{i}.png"), &huge_png(13_000, 13_000)));
    assert_refused(open(&source, [256, 256, 3], None, &Console::silent()), &["the limit is 4294967295 images"]);
}

#[test]
fn damaged_images_are_left_out_and_the_first_five_are_named() {
    let dir = ImageDir::new();
    (0..8).for_each(|i| dir.write(&format!("x{i}.jpg"), b"<html>404 Not Found</html>"));
    let remarks = dir.remarks(COLOUR);
    let lines: Vec<_> = remarks.lines().collect();
    assert_eq!(lines.len(), 7, "{remarks}");
    assert_eq!(lines[0], "8 of 28 images are left out, because they cannot be read");
    assert!(lines[1].starts_with("    x0.jpg: it is an HTML page"), "{remarks}");
    assert_eq!(lines[6], "    and 3 more");
    (8..21).for_each(|i| dir.write(&format!("x{i}.jpg"), b"<html>404 Not Found</html>"));
    let error = assert_refused(dir.open(COLOUR), &["21 of the 41 images of", "cannot be read, such as x0.jpg: "]);
    assert!(error.hint().contains("PNG, JPEG"));
}

#[test]
fn control_characters_in_names_are_replaced() {
    let dir = ImageDir::new();
    dir.write("a\n\u{1b}[2Jb.png", b"");
    let remarks = dir.remarks(COLOUR);
    assert!(remarks.contains("    a\u{fffd}\u{fffd}[2Jb.png: "), "{remarks}");
}

#[test]
fn other_files_are_skipped_and_counted() {
    let dir = ImageDir::new();
    dir.write("notes.txt", b"hello");
    dir.write("a/photo.heic", b"");
    dir.write(".DS_Store", b"");
    fs::create_dir(dir.path("folder.png")).unwrap(); // a folder, not an image
    assert_eq!(
        dir.remarks(COLOUR),
        "a/photo.heic is skipped, because it is a HEIC image: convert HEIC images to JPEG or PNG, such as with `magick \
         mogrify -format jpg *.HEIC` or `heif-convert`\n1 file is skipped, because it is not named like an image: notes.txt"
    );
}

#[test]
fn too_few_images_are_refused_with_a_hint() {
    let dir = ImageDir::empty();
    (0..2).for_each(|i| dir.write(&format!("{i}.png"), &png(&numbered(i))));
    let error = assert_refused(dir.open(COLOUR), &["gives 2 images to train on, and at least 16 are needed"]);
    assert!(error.hint().contains("--tile 8 --stride 4"), "{}", error.hint());

    let source = Source { tiles: Some(Tiles { side: 8, stride: 8 }), ..dir.source() };
    let error = assert_refused(open(&source, COLOUR, None, &Console::silent()), &["gives 2 tiles"]);
    assert!(error.hint().contains("smaller --stride or --tile"), "{}", error.hint());

    let source = Source { tiles: Some(Tiles { side: 16, stride: 8 }), ..dir.source() };
    let parts = ["no image that can be used", "all 2 are smaller", "8 x 8 pixels) than a tile, 16 x 16"];
    let error = assert_refused(open(&source, COLOUR, None, &Console::silent()), &parts);
    assert!(error.hint().contains("smaller --tile"), "{}", error.hint());
}

#[test]
fn small_images_are_left_out_unless_upscale_is_on() {
    let dir = ImageDir::new();
    let small = DynamicImage::ImageRgb8(RgbImage::from_pixel(4, 30, Rgb([5, 6, 7])));
    (0..4).for_each(|i| dir.write(&format!("small{i}.png"), &png(&small)));
    assert_eq!(dir.open(COLOUR).unwrap().count(), 20);
    let remarks = dir.remarks(COLOUR);
    let expected = "4 of 24 images are left out, because they are smaller than the model's images, 8 x 8 pixels\n    small0.png: 4 x 30";
    assert!(remarks.starts_with(expected), "{remarks}");

    let source = Source { upscale: true, ..dir.source() };
    let set = open(&source, COLOUR, None, &Console::silent()).unwrap();
    assert_eq!((set.count(), &set.image(23)[..3]), (24, &[5, 6, 7][..]));

    let error = assert_refused(
        dir.open([16, 16, 3]),
        &[
            "no image that can be used",
            "all 24 are smaller (the largest is 4 x 30 pixels) than the model's images, 16 x 16",
        ],
    );
    assert!(error.hint().contains("--upscale"), "{}", error.hint());
}

#[test]
fn tiles_smaller_than_the_models_images_need_upscale() {
    let dir = ImageDir::new();
    let source = Source { tiles: Some(Tiles { side: 4, stride: 4 }), ..dir.source() };
    let error = assert_refused(
        open(&source, COLOUR, None, &Console::silent()),
        &["tiles of 4 x 4 pixels are smaller than the model's images, 8 x 8"],
    );
    assert!(error.hint().contains("--tile 8") && error.hint().contains("--upscale"), "{}", error.hint());
    let set = open(&Source { upscale: true, ..source }, COLOUR, None, &Console::silent()).unwrap();
    assert_eq!(set.count(), 80);
}

#[test]
fn a_stride_needs_a_tile() {
    let error = Source::new("images", None, Some(5), false).unwrap_err();
    assert!(error.to_string().contains("--stride 5") && error.hint().contains("--tile"), "{error}");
    let tiles = Source::new("images", Some(5), None, false).unwrap().tiles;
    assert_eq!(tiles, Some(Tiles { side: 5, stride: 5 }));
}

/// The command line rejects such numbers, but a checkpoint may hold them.
#[test]
fn tiles_with_a_side_or_stride_of_zero_are_refused() {
    for tiles in [Tiles { side: 0, stride: 1 }, Tiles { side: 8, stride: 0 }] {
        let source = Source { tiles: Some(tiles), ..ImageDir::new().source() };
        assert_refused(open(&source, COLOUR, None, &Console::silent()), &["must be at least 1"]);
    }
}

#[test]
fn models_with_two_channels_are_refused() {
    assert_refused(ImageDir::new().open([SIDE, SIDE, 2]), &["1 channel", "3", "images have 2"]);
}

#[test]
fn models_with_four_channels_keep_transparency_without_the_colour_of_invisible_pixels() {
    const RGBA: [usize; 3] = [8, 8, 4];
    let dir = ImageDir::empty();
    let half = RgbaImage::from_fn(8, 8, |x, _| Rgba([10, 20, 30, [255, 0, 127][x.min(2) as usize]]));
    (0..8).for_each(|i| dir.write(&format!("a{i}.png"), &png(&half.clone().into())));
    let opaque = RgbImage::from_pixel(8, 8, Rgb([1, 2, 3]));
    (0..8).for_each(|i| dir.write(&format!("b{i}.png"), &png(&opaque.clone().into())));
    // The left half is invisible green. Its colour must not appear at the edge of the red half when the image is made smaller.
    let sharp = RgbaImage::from_fn(24, 24, |x, _| if x < 12 { Rgba([0, 255, 0, 0]) } else { Rgba([200, 0, 0, 255]) });
    (0..8).for_each(|i| dir.write(&format!("c{i}.png"), &png(&sharp.clone().into())));
    let set = dir.open(RGBA).unwrap();
    assert_eq!(set.image(0)[..12], [10, 20, 30, 255, 255, 255, 255, 0, 10, 20, 30, 127]);
    assert_eq!(set.image(8)[..4], [1, 2, 3, 255]);
    for pixel in set.image(16).chunks(4).filter(|pixel| pixel[3] > 0) {
        assert!(pixel[0].abs_diff(200) <= 1 && pixel[1] == 0, "{pixel:?}");
    }
    assert!(!dir.remarks(RGBA).contains("transparent"), "{}", dir.remarks(RGBA));
    // Around padded images is transparency.
    let wide = DynamicImage::from(RgbImage::from_pixel(16, 8, Rgb([9, 9, 9])));
    let wide_dir = ImageDir::empty();
    (0..16).for_each(|i| wide_dir.write(&format!("{i}.png"), &png(&wide)));
    let source = Source { fit: Fit::Pad, ..wide_dir.source() };
    let padded = open(&source, RGBA, None, &Console::silent()).unwrap();
    assert_eq!(
        (&padded.image(0)[..4], &padded.image(0)[4 * 4 * 8..][..4]),
        (&[255, 255, 255, 0][..], &[9, 9, 9, 255][..])
    );
}

#[test]
fn one_image_suffices_if_it_is_cut_into_tiles() {
    let dir = ImageDir::empty();
    let original = RgbImage::from_fn(40, 40, |x, y| Rgb([x as u8, y as u8, 0]));
    dir.write("a forest.png", &png(&original.into()));
    let path = dir.path("a forest.png");
    let source = Source::new(path.to_str().unwrap(), Some(8), None, false).unwrap();
    let set = open(&source, COLOUR, None, &Console::silent()).unwrap();
    assert_eq!((set.name.as_str(), set.count()), ("a forest", 25));
    let whole = Source { tiles: None, ..source };
    assert_refused(open(&whole, COLOUR, None, &Console::silent()), &["gives 1 image", "at least 16"]);
    // A single file may have any name, and a file named like an image may have any content.
    fs::rename(&path, dir.path("forest.data")).unwrap();
    assert!(Source::from(dir.path("forest.data").to_str().unwrap()).has_image_files().unwrap());
    dir.write("no.png", b"");
    let source = Source::from(dir.path("no.png").to_str().unwrap());
    assert_refused(open(&source, COLOUR, None, &Console::silent()), &["cannot be read: no.png: "]);
}

#[test]
fn images_in_idx_format_are_scaled_cut_and_coloured_like_any_other() {
    let digits = open(&"mnist".into(), [28, 28, 1], None, &Console::silent()).unwrap();
    let (small, messages) = open_recorded(&"mnist".into(), [14, 14, 3], None);
    let small = small.unwrap();
    assert_eq!((small.count(), &small.labels), (60_000, &digits.labels));
    assert_eq!(messages, "all 60000 images are grey; red, green and blue are made equal");
    assert!((mean(small.image(0)) - mean(digits.image(0))).abs() < 1.5);

    let pixels = super::images(); // three images of 2 x 4
    let dir = ImageDir::empty();
    dir.write("train-images-idx3-ubyte", &pixels);
    dir.write("train-labels-idx1-ubyte", &super::labels());
    let error = assert_refused(dir.open(GREY), &["all 3 are smaller (the largest is 4 x 2 pixels)", "8 x 8"]);
    assert!(error.hint().contains("--upscale"));
    let source = Source { tiles: Some(Tiles { side: 2, stride: 2 }), ..dir.source() };
    let set = open(&source, [2, 2, 1], None, &Console::silent()).unwrap();
    assert_eq!(
        (set.count(), set.image(1)),
        (6, &super::PIXELS[2..4].iter().chain(&super::PIXELS[6..8]).copied().collect::<Vec<_>>()[..])
    );
    assert_eq!(set.labels.unwrap(), [1, 1, 0, 0, 2, 2]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    use std::os::unix::fs::symlink;
    let dir = ImageDir::new();
    let elsewhere = ImageDir::new();
    symlink(dir.folder.path(), dir.path("circle")).unwrap();
    symlink(dir.path("nowhere.png"), dir.path("x-leads-nowhere.png")).unwrap();
    symlink(dir.path("nowhere"), dir.path("x-leads-nowhere.txt")).unwrap();
    symlink(elsewhere.folder.path(), dir.path("elsewhere")).unwrap();
    let set = dir.open(COLOUR).unwrap();
    assert_eq!(set.count(), 40);
    let remarks = dir.remarks(COLOUR);
    assert!(remarks.contains("1 of 41 images is left out") && remarks.contains("x-leads-nowhere.png: "), "{remarks}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_not_read() {
    let dir = ImageDir::new();
    let outcome = std::process::Command::new("mkfifo").arg(dir.path("pipe.png")).status().unwrap();
    assert!(outcome.success());
    assert_eq!(dir.open(COLOUR).unwrap().count(), 20);
    assert!(dir.remarks(COLOUR).contains("pipe.png: it is not a regular file"));
}

#[test]
fn cached_images_equal_the_decoded_ones() {
    let dir = ImageDir::new();
    (0..5).for_each(|i| dir.write(&format!("dogs/{i}.png"), &png(&numbered(i))));
    dir.write("bad.png", b"");
    fs::create_dir(dir.path("cats")).unwrap();
    (0..20).for_each(|i| fs::rename(dir.path(&format!("{i:02}.png")), dir.path(&format!("cats/{i}.png"))).unwrap());
    let (read, first) = dir.open_cached(&dir.source(), COLOUR);
    assert!(read.labels.is_some() && read.label_names == ["cats", "dogs"]);
    let (kept, second) = dir.open_cached(&dir.source(), COLOUR);
    assert_eq!(kept, read);
    let path = dir.cached().pop().unwrap();
    assert_eq!(second, format!("data from the cache: {}\n{first}", path.display()));
    assert!(first.contains("bad.png: "));
}

#[test]
fn the_cache_is_not_used_after_any_change() {
    let dir = ImageDir::new();
    let source = dir.source();
    let is_kept = |source: &Source, shape| dir.open_cached(source, shape).1.contains("from the cache");
    assert!(!is_kept(&source, COLOUR) && is_kept(&source, COLOUR));
    let others = [
        (Source { upscale: true, ..source.clone() }, COLOUR),
        (Source { tiles: Some(Tiles { side: 8, stride: 8 }), ..source.clone() }, COLOUR),
        (Source { tiles: Some(Tiles { side: 8, stride: 4 }), ..source.clone() }, COLOUR),
        (source.clone(), GREY),
        (source.clone(), [4, 8, 3]),
    ];
    for (other, shape) in &others {
        assert!(!is_kept(other, *shape) && is_kept(other, *shape), "{other:?} {shape:?}");
    }
    let changes: [(&str, &dyn Fn()); 5] = [
        ("a new time", &|| {
            let file = fs::File::options().append(true).open(dir.path("03.png")).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(1000)).unwrap();
        }),
        ("a new length", &|| {
            let before = fs::metadata(dir.path("04.png")).unwrap().modified().unwrap();
            dir.write("04.png", &png(&numbered(200)).into_iter().chain([0]).collect::<Vec<_>>());
            let file = fs::File::options().append(true).open(dir.path("04.png")).unwrap();
            file.set_modified(before).unwrap();
        }),
        ("a new name", &|| fs::rename(dir.path("05.png"), dir.path("55.png")).unwrap()),
        ("a new image", &|| dir.write("56.png", &png(&numbered(56)))),
        ("one less", &|| fs::remove_file(dir.path("06.png")).unwrap()),
    ];
    for (what, change) in changes {
        change();
        let (set, remarks) = dir.open_cached(&source, COLOUR);
        assert!(!remarks.contains("from the cache"), "{what}");
        assert_eq!(set, dir.open(COLOUR).unwrap(), "{what}");
        assert!(is_kept(&source, COLOUR), "{what}");
    }
}

#[test]
fn a_damaged_cache_entry_is_rebuilt() {
    let dir = ImageDir::new();
    let source = dir.source();
    let (read, _) = dir.open_cached(&source, COLOUR);
    let path = dir.cached().pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let assert_rebuilt = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let (set, remarks) = dir.open_cached(&source, COLOUR);
        assert!(set == read, "{what}");
        assert!(remarks.contains("in the cache cannot be used"), "{what}: {remarks}");
        assert!(fs::read(&path).unwrap() == whole, "{what}");
    };
    for length in [0, 1, 17, 24, 25, 100, whole.len() / 2, whole.len() - 1] {
        assert_rebuilt(&whole[..length], &format!("{length} bytes of it"));
    }
    assert_rebuilt(&[&whole[..], b"x"].concat(), "one byte more");
    for at in (0..whole.len()).step_by(whole.len() / 150).chain(whole.len() - 5..whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        assert_rebuilt(&bytes, &format!("byte {at}"));
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_a_remark() {
    let dir = ImageDir::new();
    dir.write("file", b"");
    let (set, messages) = open_recorded(&dir.source(), COLOUR, Some(&dir.path("file")));
    assert_eq!(set.unwrap().count(), 20);
    assert!(messages.contains("the images are not cached for the next time: cannot"), "{messages}");
}

#[test]
fn refused_images_are_not_cached() {
    let dir = ImageDir::empty();
    dir.write("1.png", &png(&numbered(1)));
    assert_refused(open(&dir.source(), COLOUR, Some(dir.cache.path()), &Console::silent()), &["gives 1 image"]);
    assert!(!dir.cache.path().join("images").exists());
}

#[test]
fn the_source_keeps_its_saved_keys() {
    let old = r#"{"data":"mnist"}"#;
    assert_eq!(serde_json::from_str::<Source>(old).unwrap(), Source::from("mnist"));
    for source in [Source::from("mnist"), Source::new("aerial", None, Some(3), true).unwrap()] {
        let text = serde_json::to_string(&source).unwrap();
        assert_eq!(serde_json::from_str::<Source>(&text).unwrap(), source);
        assert!(text.contains(&format!(r#""data":"{}""#, source.name)));
    }
}
