//! Formats: arrays, archives, several frames, unusual values, and unsupported formats.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use image::{
    DynamicImage, GrayAlphaImage, GrayImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage,
};

use super::images::{COLOUR, GREY, ImageDir, as_file, first_values, numbered, open_recorded, png};
use super::{ImageSet, assert_refused, compressed};
use crate::data::{Fit, Frames, Source, open};
use crate::error::Result;
use crate::progress::Console;

/// The bytes of a `.npy` file.
fn npy(kind: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), elements].concat()
}

fn zip(files: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in files {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        writer.append_data(&mut header, name, *bytes).unwrap();
    }
    writer.into_inner().unwrap()
}

fn open_path(path: &Path, shape: [usize; 3]) -> Result<ImageSet> {
    open(&Source::from(path.to_str().unwrap()), shape, None, &Console::silent())
}

#[test]
fn arrays_of_bytes_are_read_with_their_labels() {
    let dir = ImageDir::empty();
    let pixels: Vec<u8> = (0..20 * 64).map(|i| (i * 7 % 251) as u8).collect();
    dir.write("k-train-imgs.npy", &npy("|u1", "20, 8, 8", &pixels));
    let set = open_path(&dir.path("k-train-imgs.npy"), GREY).unwrap();
    assert_eq!((set.name.as_str(), set.count(), &set.pixels, &set.labels), ("k-train-imgs", 20, &pixels, &None));

    let labels: Vec<u8> = (0..20_i64).flat_map(|i| (i % 3 + 5).to_le_bytes()).collect();
    dir.write("k-train-labels.npy", &npy("<i8", "20,", &labels));
    let set = open_path(&dir.path("k-train-imgs.npy"), GREY).unwrap();
    assert_eq!(
        (set.label_names.as_slice(), set.labels.unwrap()[..4].to_vec()),
        (&["5", "6", "7"].map(String::from)[..], vec![0, 1, 2, 0])
    );

    dir.write("k-train-labels.npy", &npy("<i8", "19,", &labels[8..]));
    assert_refused(open_path(&dir.path("k-train-imgs.npy"), GREY), &["there are 20 images"]);

    // In colour, channels last or first, or scaled.
    let colour: Vec<u8> = (0..20 * 192).map(|i| (i % 253) as u8).collect();
    dir.write("c.npy", &npy("|u1", "20, 8, 8, 3", &colour));
    assert_eq!(open_path(&dir.path("c.npy"), COLOUR).unwrap().pixels, colour);
    let first: Vec<u8> = (0..20 * 192)
        .map(|i| {
            let (n, r) = (i / 192, i % 192);
            colour[n * 192 + r % 64 * 3 + r / 64]
        })
        .collect();
    dir.write("f.npy", &npy("|u1", "20, 3, 8, 8", &first));
    assert_eq!(open_path(&dir.path("f.npy"), COLOUR).unwrap().pixels, colour);
    dir.write("g.npy", &npy("|u1", "20, 8, 8, 1", &pixels));
    assert_eq!(open_path(&dir.path("g.npy"), GREY).unwrap().pixels, pixels);
    assert_eq!(open_path(&dir.path("c.npy"), [4, 4, 1]).unwrap().image_shape(), [4, 4, 1]);
}

#[test]
fn archives_of_arrays_are_read_with_their_labels() {
    let dir = ImageDir::empty();
    let pixels: Vec<u8> = (0..20 * 64).map(|i| (i * 7 % 251) as u8).collect();
    let (images, test) = (npy("|u1", "20, 8, 8", &pixels), npy("|u1", "4, 8, 8", &pixels[..256]));
    let labels = npy("|u1", "20,", &(0..20).map(|i| i % 2).collect::<Vec<u8>>());
    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        dir.write("a.npz", &zip(&[("arr_0.npy", &images)], method));
        assert_eq!(open_path(&dir.path("a.npz"), GREY).unwrap().pixels, pixels);
        dir.write("m.npz", &zip(&[("x_test.npy", &test), ("y_train.npy", &labels), ("x_train.npy", &images)], method));
        let set = open_path(&dir.path("m.npz"), GREY).unwrap();
        assert_eq!((set.count(), set.labels.as_ref().unwrap()[..3].to_vec()), (20, vec![0, 1, 0]));
    }
    dir.write("n.npz", &zip(&[("y.npy", &labels)], zip::CompressionMethod::Stored));
    assert_refused(open_path(&dir.path("n.npz"), GREY), &["no array of images", "y.npy [20]"]);
}

/// An array of 20 images of 8 x 8 numbers, each of which `encode` writes for a byte of a pixel.
fn array_of(kind: &str, pixels: &[u8], encode: impl Fn(f64) -> Vec<u8>) -> Vec<u8> {
    npy(kind, "20, 8, 8", &pixels.iter().flat_map(|&pixel| encode(pixel.into())).collect::<Vec<u8>>())
}

#[test]
fn arrays_of_other_numbers_than_bytes_are_mapped_to_bytes() {
    let dir = ImageDir::empty();
    let pixels: Vec<u8> = (0..20 * 64).map(|i| (i * 7 % 256) as u8).collect();
    let half = |value: f64| half::f16::from_f64(value).to_le_bytes().to_vec();
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("f64", array_of("<f8", &pixels, |p| (p / 255.0).to_le_bytes().to_vec()), "0 to 1 is mapped to 0 to 255"),
        ("f32", array_of("<f4", &pixels, |p| (p as f32 / 255.0).to_le_bytes().to_vec()), "0 to 1 is mapped"),
        ("f16", array_of("<f2", &pixels, |p| half(p / 255.0)), "0 to 1 is mapped"),
        ("big-endian", array_of(">f4", &pixels, |p| (p as f32 / 255.0).to_be_bytes().to_vec()), "0 to 1 is mapped"),
        ("overshoot", array_of("<f8", &pixels, |p| (p / 255.0 * 1.001).to_le_bytes().to_vec()), "0 to 1 is mapped"),
        ("signed", array_of("<f8", &pixels, |p| (p / 127.5 - 1.0).to_le_bytes().to_vec()), "-1 to 1 is mapped"),
        ("to-255", array_of("<f4", &pixels, |p| (p as f32).to_le_bytes().to_vec()), ""),
        ("i64", array_of("<i8", &pixels, |p| (p as i64).to_le_bytes().to_vec()), ""),
        ("i16", array_of(">i2", &pixels, |p| (p as i16).to_be_bytes().to_vec()), ""),
        ("u16", array_of("<u2", &pixels, |p| (p as u16).to_le_bytes().to_vec()), ""),
        ("u16-full", array_of("<u2", &pixels, |p| (p as u16 * 257).to_le_bytes().to_vec()), "0 to 65535 is mapped"),
        ("u64", array_of("<u8", &pixels, |p| (p as u64).to_le_bytes().to_vec()), ""),
    ];
    for (name, bytes, remark) in cases {
        dir.write("a.npy", &bytes);
        let (set, said) = open_recorded(&Source::from(dir.path("a.npy").to_str().unwrap()), GREY, None);
        assert_eq!(set.unwrap().pixels, pixels, "{name}");
        assert!(said.contains(remark) && said.contains("is mapped") != remark.is_empty(), "{name}: {said}");
    }
    let bits: Vec<u8> = pixels.iter().map(|p| p % 2).collect();
    dir.write("a.npy", &npy("|b1", "20, 8, 8", &bits));
    let expected: Vec<u8> = bits.iter().map(|bit| 255 * bit).collect();
    assert_eq!(open_path(&dir.path("a.npy"), GREY).unwrap().pixels, expected);
}

#[test]
fn arrays_in_fortran_order_give_the_same_images() {
    let dir = ImageDir::empty();
    let fortran = |shape: &str, elements: &[u8]| {
        let mut bytes = npy("|u1", shape, elements);
        let at = bytes.windows(5).position(|word| word == b"False").unwrap();
        bytes[at..at + 5].copy_from_slice(b"True ");
        bytes
    };
    let pixel = |n: usize, y: usize, x: usize, c: usize| (n * 11 + y * 31 + x * 3 + c * 101) as u8;
    let images: Vec<u8> = (0..20 * 192).map(|i| pixel(i / 192, i / 24 % 8, i / 3 % 8, i % 3)).collect();
    let last: Vec<u8> = (0..20 * 192).map(|i| pixel(i % 20, i / 20 % 8, i / 160 % 8, i / 1280)).collect();
    dir.write("last.npy", &fortran("20, 8, 8, 3", &last));
    assert_eq!(open_path(&dir.path("last.npy"), COLOUR).unwrap().pixels, images);
    let first: Vec<u8> = (0..20 * 192).map(|i| pixel(i % 20, i / 60 % 8, i / 480, i / 20 % 3)).collect();
    dir.write("first.npy", &fortran("20, 3, 8, 8", &first));
    assert_eq!(open_path(&dir.path("first.npy"), COLOUR).unwrap().pixels, images);
}

#[test]
fn labels_in_arrays_are_numbers_text_or_one_hot_and_other_arrays_are_named() {
    let dir = ImageDir::empty();
    let images = npy("|u1", "20, 8, 8", &(0..20 * 64).map(|i| (i * 7 % 251) as u8).collect::<Vec<u8>>());
    let classes = || (0..20_u8).map(|i| i % 3);
    let wide =
        |text: &str| (0..4).flat_map(|i| text.chars().nth(i).map_or(0, u32::from).to_be_bytes()).collect::<Vec<u8>>();
    let floats: Vec<u8> = classes().flat_map(|class| f32::from(class).to_le_bytes()).collect();
    let fractions: Vec<u8> = classes().flat_map(|class| (f32::from(class) + 0.5).to_le_bytes()).collect();
    let one_hot: Vec<u8> = classes().flat_map(|class| (0..3_u8).map(move |k| u8::from(k == class))).collect();
    let text: Vec<u8> = classes().flat_map(|class| *[b"dog\0", b"cat\0", b"bird"][usize::from(class)]).collect();
    let wide_text: Vec<u8> = classes().flat_map(|class| wide(["dög", "cat", "bird"][usize::from(class)])).collect();
    let named = |kind: &str, shape: &str, elements: &[u8], name: &str| {
        let labels = npy(kind, shape, elements);
        dir.write("a.npz", &zip(&[("x.npy", &images), (name, &labels)], zip::CompressionMethod::Stored));
        let (set, said) = open_recorded(&Source::from(dir.path("a.npz").to_str().unwrap()), GREY, None);
        let set = set.unwrap();
        (set.labels.map(|labels| labels[..3].to_vec()), set.label_names.join(" "), said)
    };
    let found = |labels: [u8; 3], names: &str| (Some(labels.to_vec()), names.to_string(), String::new());
    assert_eq!(named("<f4", "20,", &floats, "y.npy"), found([0, 1, 2], ""));
    assert_eq!(named("|u1", "20, 3", &one_hot, "labels.npy"), found([0, 1, 2], ""));
    assert_eq!(named("|S4", "20,", &text, "y.npy"), found([2, 1, 0], "bird cat dog"));
    assert_eq!(named(">U4", "20, 1", &wide_text, "names.npy"), found([2, 1, 0], "bird cat dög"));
    let no_class = [("<f4", "20,", &fractions), ("|u1", "20, 3", &vec![1; 60]), ("|u1", "20, 0", &Vec::new())];
    for (kind, shape, elements) in no_class {
        let (labels, _, said) = named(kind, shape, elements, "y.npy");
        assert!(
            labels.is_none() && said.contains("the array y.npy has the shape (20") && said.contains("no classes"),
            "{said}"
        );
    }
    assert_eq!(named("|u1", "20, 3", &[1; 60], "boxes.npy"), (None, String::new(), String::new()));
}

#[test]
fn unsupported_arrays_are_refused_with_a_hint() {
    let dir = ImageDir::empty();
    let refused = |bytes: &[u8], parts: &[&str]| {
        dir.write("a.npy", bytes);
        let error = assert_refused(open_path(&dir.path("a.npy"), GREY), parts);
        assert!(error.hint().contains("numpy") || error.hint().contains("again"), "{}", error.hint());
    };
    refused(&npy("<c8", "20, 8, 8", &[0; 20 * 64 * 8]), &["has the type <c8"]);
    let floats = |first: f32| [first.to_le_bytes().to_vec(), vec![0; 20 * 64 * 4 - 4]].concat();
    refused(&npy("<f4", "20, 8, 8", &floats(f32::NAN)), &["has 1 values that are not finite"]);
    refused(
        &npy("<f4", "20, 8, 8", &floats(-3.0)),
        &["has values from -3 to 0; they must be 0 to 1, or -1 to 1, or 0 to 255"],
    );
    refused(&npy("|i1", "20, 8, 8", &[0xff; 20 * 64]), &["has values from -1 to -1; they must be 0 to 255"]);
    refused(&npy("|u1", "20, 64", &[0; 20 * 64]), &["has the shape (20, 64)"]);
    refused(&npy("|u1", "20, 8, 8", &[0; 100]), &["100 bytes follow its header, but its shape needs 1280"]);
    refused(&npy("|u1", "20, 8, 8", &[0; 1281]), &["cannot be read"]);
    refused(&npy("|u1", "0, 8, 8", &[]), &["holds no images"]);
    refused(&npy("|u1", "4294967296, 4096, 4096", &[]), &["at most"]);
    refused(&npy("|u1", "18446744073709551615, 18446744073709551615, 3", &[]), &["at most 4096"]);
    refused(&npy("|u1", "20, 8, 8", &[0; 1280])[..40], &["truncated"]);
    refused(b"\x93NUMPY\x02\0\xff\xff\xff\xff{", &["header has 4294967307 bytes"]);
    refused(&npy("|O", "20, 8, 8", &[0; 1280]), &["has the type"]);
    // A parser whose time doubles with each nested bracket would never end.
    refused(&npy("|u1", &"[".repeat(400), &[]), &["more than a type and a shape"]);
}

#[test]
fn a_file_that_is_named_itself_and_cannot_be_read_is_called_what_it_is() {
    let dir = ImageDir::empty();
    let zipped = zip(&[("archive/data.pkl", b"\x80\x02}")], zip::CompressionMethod::Stored);
    let cases: [(&str, Vec<u8>, &str, &str); 5] = [
        ("images.pt", zipped, "is a PyTorch file", "torch.load"),
        ("brain.nii.gz", compressed(&[0x5c, 1, 0, 0]), "is a NIfTI image", "nibabel"),
        ("step-00000004.safetensors", b"\x02\0\0\0\0\0\0\0{}".to_vec(), "is a safetensors file", "--init"),
        ("images.h5", b"\x89HDF\r\n\x1a\n".to_vec(), "is an HDF5 file", "h5py"),
        ("images.dat", vec![1, 2, 3, 0xfe, 5], "starts with the bytes 01 02 03 fe", "name a folder"),
    ];
    for (name, bytes, what, hint) in cases {
        dir.write(name, &bytes);
        let error = assert_refused(open_path(&dir.path(name), GREY), &[name, what]);
        assert!(error.hint().contains(hint), "{name}: {}", error.hint());
    }
}

/// Twenty images in two folders, as archives hold them.
fn files() -> Vec<(String, Vec<u8>)> {
    (0..20).map(|i| (format!("all/{}/{i:02}.png", ["cats", "dogs"][i / 10]), png(&numbered(i as u8)))).collect()
}

#[test]
fn archives_of_images_are_read_in_place_like_their_folders() {
    let files = files();
    let mut entries: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    let dir = ImageDir::empty();
    for (name, bytes) in &files {
        dir.write(&format!("folder/{name}"), bytes);
    }
    let expected = open_path(&dir.path("folder"), COLOUR).unwrap();
    entries.push(("__MACOSX/all/cats/._00.png", b"not an image"));
    entries.push(("all/notes.txt", b"hello"));
    dir.write("stored.zip", &zip(&entries, zip::CompressionMethod::Stored));
    dir.write("deflated.zip", &zip(&entries, zip::CompressionMethod::Deflated));
    dir.write("plain.tar", &tar(&entries));
    dir.write("small.tar.gz", &compressed(&tar(&entries)));
    dir.write("other.tgz", &compressed(&tar(&entries)));
    for name in ["stored.zip", "deflated.zip", "plain.tar", "small.tar.gz", "other.tgz"] {
        let set = open_path(&dir.path(name), COLOUR).unwrap();
        assert_eq!(
            (&set.pixels, &set.labels, &set.label_names),
            (&expected.pixels, &expected.labels, &expected.label_names),
            "{name}"
        );
        assert_eq!(set.name, name.split('.').next().unwrap());
        // The second call reads from the cache.
        let source = Source::from(dir.path(name).to_str().unwrap());
        let (_, first) = dir.open_cached(&source, COLOUR);
        let (cached, second) = dir.open_cached(&source, COLOUR);
        assert!(!first.contains("from the cache") && second.contains("from the cache"), "{name}: {second}");
        assert_eq!(cached.pixels, expected.pixels, "{name}");
    }
}

#[test]
fn damaged_archives_are_refused_or_their_files_left_out() {
    let files = files();
    let entries: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    for (name, bytes) in [
        ("a.zip", zip(&entries, zip::CompressionMethod::Deflated)),
        ("a.tar", tar(&entries)),
        ("a.tar.gz", compressed(&tar(&entries))),
    ] {
        let dir = ImageDir::empty();
        for at in (0..bytes.len()).step_by(bytes.len() / 60) {
            for damage in [&bytes[..at], &[&bytes[..at], &[!bytes[at]], &bytes[at + 1..]].concat()] {
                dir.write(name, damage);
                if let Ok(set) = open_path(&dir.path(name), COLOUR) {
                    assert!(set.count() >= 16 && set.count() <= 20, "{name}, byte {at}");
                }
            }
        }
    }
    let dir = ImageDir::empty();
    dir.write("empty.zip", &zip(&[("notes.txt", b"hello")], zip::CompressionMethod::Stored));
    assert_refused(open_path(&dir.path("empty.zip"), COLOUR), &["holds no image"]);
}

#[test]
fn unsupported_formats_are_named_with_a_hint_for_conversion() {
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
    let cases: [(&str, &[u8], &str, &str); 9] = [
        ("IMG_0001.HEIC", heic, "HEIC", "magick"),
        ("photo.jpg", heic, "HEIC", "magick"),
        ("a.avif", b"\0\0\0\x1cftypavif", "AVIF", "avifdec"),
        ("a.psd", b"8BPS\0\x01", "Photoshop", "PNG"),
        ("DSC.NEF", b"MM\0*", "camera raw", "darktable"),
        ("p.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS", "git lfs pull"),
        ("h.jpg", b"<!DOCTYPE html><html>", "HTML", "download"),
        ("data_batch_1", b"\x80\x02}q\x01(U\x04dataq\x02", "pickle", "numpy.save"),
        ("v.mp4", b"\0\0\0\x18ftypisom", "video", "ffmpeg"),
    ];
    for (name, bytes, what, hint) in cases {
        let dir = ImageDir::new();
        dir.write(name, bytes);
        let remarks = dir.remarks(COLOUR);
        assert!(remarks.contains(name) && remarks.contains(what) && remarks.contains(hint), "{name}: {remarks}");
        let alone = ImageDir::empty();
        (0..20).for_each(|i| alone.write(&format!("{i}-{name}"), bytes));
        let error = alone.open(COLOUR).expect_err(name);
        let text = format!("{error} {}", error.hint());
        assert!(text.contains(what) && text.contains(hint), "{name}: {text}");
    }
    // Every format in a folder is named, the most frequent one first.
    let mixed = ImageDir::empty();
    for name in ["b.svg", "c.pdf", "d.svg"] {
        mixed.write(name, b"text");
    }
    let error = assert_refused(
        mixed.open(COLOUR),
        &["2 files are not supported, because each is an SVG drawing, such as b.svg; c.pdf is a PDF document, which"],
    );
    assert!(error.hint().contains("resvg") && error.hint().contains("pdftoppm"), "{}", error.hint());
    let dir = ImageDir::empty();
    for (name, bytes, what) in
        [("page.gz", &compressed(b"<html>404</html>")[..], "HTML"), ("a.7z", b"7z\xbc\xaf\x27\x1c", "7-Zip")]
    {
        dir.write(name, bytes);
        let error = open_path(&dir.path(name), COLOUR).unwrap_err();
        assert!(format!("{error} {}", error.hint()).contains(what), "{error} {}", error.hint());
    }
    dir.write("twice.gz", &compressed(&compressed(&super::images())));
    assert!(assert_refused(open_path(&dir.path("twice.gz"), GREY), &["1f 8b"]).hint().contains("more than once"));
}

#[test]
fn files_without_an_extension_are_recognised_by_content() {
    let dir = ImageDir::empty();
    (0..20).for_each(|i| dir.write(&format!("{i:02}"), &png(&numbered(i))));
    dir.write("readme", b"hello");
    assert_eq!(first_values(&dir.open(COLOUR).unwrap()), (0..20).collect::<Vec<u8>>());
}

/// A TIFF file of 16 x 16 pixels with one strip; `tags` are added to the usual ones.
fn tiff(samples: u16, bits: u16, format: u16, extra: Option<u16>, photometric: u16, pixels: &[u8]) -> Vec<u8> {
    let mut entries: Vec<(u16, u16, u32, [u8; 4])> = vec![
        (256, 3, 1, short(16)),
        (257, 3, 1, short(16)),
        (259, 3, 1, short(1)),
        (262, 3, 1, short(photometric)),
        (277, 3, 1, short(samples)),
        (278, 3, 1, short(16)),
        (279, 4, 1, (pixels.len() as u32).to_le_bytes()),
    ];
    let count = entries.len() as u32 + 3 + u32::from(extra.is_some());
    let after = 8 + 2 + 12 * count + 4;
    let arrays = [vec![bits; samples.into()], vec![format; samples.into()]];
    let many = |array: &[u16], offset: u32| {
        if array.len() <= 2 {
            let mut value = [0; 4];
            array.iter().enumerate().for_each(|(i, v)| value[2 * i..][..2].copy_from_slice(&v.to_le_bytes()));
            value
        } else {
            offset.to_le_bytes()
        }
    };
    let second = after + 2 * u32::from(samples);
    entries.push((258, 3, samples.into(), many(&arrays[0], after)));
    entries.push((339, 3, samples.into(), many(&arrays[1], second)));
    entries.push((273, 4, 1, (second + 2 * u32::from(samples)).to_le_bytes()));
    if let Some(extra) = extra {
        entries.push((338, 3, 1, short(extra)));
    }
    entries.sort_unstable();
    let mut file = [b"II*\0", &8_u32.to_le_bytes()[..], &(entries.len() as u16).to_le_bytes()].concat();
    for (tag, kind, count, value) in entries {
        file.extend([&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value].concat());
    }
    file.extend([0; 4]);
    arrays.iter().flatten().for_each(|value| file.extend(value.to_le_bytes()));
    file.extend(pixels);
    file
}

fn short(value: u16) -> [u8; 4] {
    u32::from(value).to_le_bytes()
}

/// Opens twenty copies of a file as images in colour.
fn twenty(bytes: &[u8], change: impl Fn(Source) -> Source) -> (Result<ImageSet>, String) {
    let dir = ImageDir::empty();
    (0..20).for_each(|i| dir.write(&format!("{i:02}.tif"), bytes));
    open_recorded(&change(dir.source()), [16, 16, 3], None)
}

#[test]
fn a_fourth_band_is_alpha_only_if_the_file_says_so() {
    let pixels: Vec<u8> = (0..256).flat_map(|i| [i as u8, 100, 50, 3]).collect();
    for extra in [Some(0), None] {
        let (set, remarks) = twenty(&tiff(4, 8, 1, extra, 2, &pixels), |source| source);
        assert_eq!(set.unwrap().image(0)[3..6], [1, 100, 50], "{extra:?}");
        assert!(remarks.contains("all 20 images are of more bands than colours"), "{remarks}");
    }
    let (set, remarks) = twenty(&tiff(4, 8, 1, Some(2), 2, &pixels), |source| source);
    assert!(set.unwrap().image(0)[3] > 240);
    assert!(remarks.contains("all 20 images are transparent for more than a half"), "{remarks}");
}

#[test]
fn bands_without_colours_are_red_green_and_blue_in_order() {
    let pixels: Vec<u8> = (0..256).flat_map(|i| [i as u8, 100, 50, 3, 7]).collect();
    let (set, remarks) = twenty(&tiff(5, 8, 1, None, 1, &pixels), |source| source);
    assert_eq!(set.unwrap().image(0)[3..6], [1, 100, 50]);
    assert!(remarks.contains("of more bands than colours"), "{remarks}");
}

#[test]
fn floats_count_from_0_to_1_and_normalise_maps_their_range() {
    let pixels: Vec<u8> = (0..256).flat_map(|i| (i as f32 / 255.0).to_le_bytes()).collect();
    let (set, remarks) = twenty(&tiff(1, 32, 3, None, 1, &pixels), |source| source);
    assert_eq!(set.unwrap().image(0).iter().step_by(3).copied().collect::<Vec<_>>(), (0..=255).collect::<Vec<u8>>());
    assert!(remarks.contains("are grey") && !remarks.contains("clipped"), "{remarks}");
    let heights: Vec<u8> = (0..256).flat_map(|i| (1000.0 + i as f32).to_le_bytes()).collect();
    let (set, remarks) = twenty(&tiff(1, 32, 3, None, 1, &heights), |source| source);
    assert!(set.is_ok() && remarks.contains("clipped (see --normalise)"), "{remarks}");
    let (set, remarks) = twenty(&tiff(1, 32, 3, None, 1, &heights), |source| Source { normalise: true, ..source });
    let values: Vec<u8> = set.unwrap().image(0).iter().step_by(3).copied().collect();
    assert!((0..256).all(|i| values[i].abs_diff(i as u8) <= 1), "{values:?}");
    assert!(!remarks.contains("clipped") && remarks.contains("are mapped to black and white"), "{remarks}");
}

#[test]
fn twelve_bit_values_in_16_bits_are_reported_and_normalised() {
    let dir = ImageDir::empty();
    for i in 0..20_u16 {
        let image =
            ImageBuffer::<Luma<u16>, _>::from_fn(8, 8, |x, y| Luma([(x as u16 * 512 + y as u16 * 63 + i) % 4096]));
        dir.write(&format!("{i:02}.png"), &png(&DynamicImage::ImageLuma16(image)));
    }
    let remarks = dir.remarks(GREY);
    assert!(
        remarks.contains("use only the values 0 to 16 of 0 to 255") && remarks.contains("--normalise"),
        "{remarks}"
    );
    let (set, messages) = open_recorded(&Source { normalise: true, ..dir.source() }, GREY, None);
    let set = set.unwrap();
    assert!(set.pixels.iter().max() == Some(&255) && set.pixels.iter().min() == Some(&0));
    assert!(!messages.contains("small part"), "{messages}");
}

#[test]
fn white_icons_on_transparency_are_reported_and_a_background_shows_them() {
    let dir = ImageDir::empty();
    for i in 0..20 {
        let icon = RgbaImage::from_fn(8, 8, |x, y| Rgba([255, 255, 255, if (x + y * i) % 3 == 0 { 255 } else { 0 }]));
        dir.write(&format!("{i:02}.png"), &png(&DynamicImage::ImageRgba8(icon)));
    }
    let remarks = dir.remarks(COLOUR);
    assert!(remarks.contains("all 20 images are of a single colour") && remarks.contains("--background"), "{remarks}");
    let source = Source { background: "black".parse().unwrap(), ..dir.source() };
    let set = open(&source, COLOUR, None, &Console::silent()).unwrap();
    assert_eq!((set.image(1)[0], set.image(1)[3]), (255, 0));
    let grey = GrayAlphaImage::from_pixel(8, 8, LumaA([255, 0]));
    (0..20).for_each(|i| dir.write(&format!("{i:02}.png"), &png(&DynamicImage::ImageLumaA8(grey.clone()))));
    let source = Source { background: "#102030".parse().unwrap(), ..dir.source() };
    assert_eq!(open(&source, COLOUR, None, &Console::silent()).unwrap().image(0)[..3], [16, 32, 48]);
}

#[test]
fn images_of_extreme_shapes_are_cropped_with_a_remark_padded_or_stretched() {
    let dir = ImageDir::new();
    let wide = RgbImage::from_fn(80, 8, |x, _| Rgb([if x < 40 { 200 } else { 0 }, 9, 9]));
    dir.write("wide.png", &png(&wide.into()));
    let remarks = dir.remarks(COLOUR);
    assert!(
        remarks.contains("1 of 21 images is cropped to less than half, such as wide.png, 80 x 8 pixels"),
        "{remarks}"
    );
    assert!(remarks.contains("--fit pad"), "{remarks}");
    let with = |fit| {
        let source = Source { fit, upscale: fit == Fit::Pad, background: "green".parse().unwrap(), ..dir.source() };
        let (set, messages) = open_recorded(&source, COLOUR, None);
        assert!(!messages.contains("cropped"), "{messages}");
        set.unwrap().image(20).to_vec()
    };
    let padded = with(Fit::Pad);
    // One row of 8 x 1 pixels in the middle, and the background above and below.
    assert_eq!(padded[..3], [0, 255, 0]);
    let row = &padded[3 * 8 * 3..4 * 8 * 3];
    let row = if row[0] == 0 { &padded[4 * 8 * 3..5 * 8 * 3] } else { row };
    assert!(row[0] > 180 && row[21] < 20 && row[1] == 9, "{row:?}");
    let stretched = with(Fit::Stretch);
    assert!(stretched[0] > 180 && stretched[21] < 20);
}

#[test]
fn pages_and_frames_are_several_images_on_request() {
    let dir = ImageDir::empty();
    let mut gif = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
    for value in [200, 10, 90] {
        encoder.encode(&[value; 8 * 8 * 3], 8, 8, image::ExtendedColorType::Rgb8).unwrap();
    }
    drop(encoder);
    dir.write("a.gif", &gif);
    let mut pages = Cursor::new(Vec::new());
    let mut encoder = tiff::encoder::TiffEncoder::new(&mut pages).unwrap();
    for value in [1_u8, 2, 3, 4] {
        encoder.write_image::<tiff::encoder::colortype::Gray8>(8, 8, &[value; 64]).unwrap();
    }
    dir.write("b.tif", &pages.into_inner());
    (0..16).for_each(|i| dir.write(&format!("c{i:02}.png"), &png(&numbered(100 + i))));
    let remarks = dir.remarks(COLOUR);
    assert!(remarks.contains("2 of 18 images are of several frames or pages; the first one is used"), "{remarks}");
    let source = Source { frames: Frames::All, ..dir.source() };
    let (set, remarks) = dir.open_cached(&source, COLOUR);
    assert_eq!(set.count(), 23, "{remarks}");
    assert_eq!(first_values(&set)[..8], [200, 10, 90, 1, 2, 3, 4, 100]);
    assert!(!remarks.contains("first one"), "{remarks}");
}

/// An animated image of frames of one pixel, on a canvas of `side` x `side` pixels.
fn gif_of_canvas(side: u16, frames: usize) -> Vec<u8> {
    let mut gif = Vec::new();
    let mut encoder = gif::Encoder::new(&mut gif, side, side, &[0, 0, 0, 255, 255, 255]).unwrap();
    for _ in 0..frames {
        let frame = gif::Frame { width: 1, height: 1, buffer: vec![1].into(), ..gif::Frame::default() };
        encoder.write_frame(&frame).unwrap();
    }
    drop(encoder);
    gif
}

#[test]
fn few_bytes_that_claim_many_pixels_are_left_out_before_they_are_decoded() {
    let first = |gif: &[u8]| twenty(gif, |source| source);
    // 4 GB of pixels if they were decoded.
    let canvas = gif_of_canvas(8000, 2);
    let (set, _) = first(&canvas);
    assert_refused(
        set,
        &[&format!("its 64000000 pixels are more than are read from a file of {} bytes", canvas.len())],
    );
    // Each frame is allowed, and all of them are too many.
    let dir = ImageDir::empty();
    dir.write("many.gif", &gif_of_canvas(1000, 100));
    let set = open(&Source { frames: Frames::All, ..dir.source() }, COLOUR, None, &Console::silent());
    assert_refused(set, &["pixels are more than are read from a file of"]);
    let (set, remarks) = first(&gif_of_canvas(1000, 100));
    assert_eq!(set.unwrap().count(), 20);
    assert!(remarks.contains("all 20 images are of several frames"), "{remarks}");
    let (set, remarks) = first(&gif_of_canvas(1000, 1));
    assert!(set.is_ok() && !remarks.contains("several frames"), "{remarks}");
}

#[test]
fn large_images_are_normalised_in_strips_like_small_ones() {
    let dir = ImageDir::empty();
    // More than a strip of 2^20 pixels: the lowest values above, the highest below.
    let image = ImageBuffer::<Luma<u16>, _>::from_fn(1024, 1600, |_, y| Luma([(y / 100) as u16 * 100]));
    let bytes = png(&DynamicImage::ImageLuma16(image));
    (0..16).for_each(|i| dir.write(&format!("{i:02}.png"), &bytes));
    let source = Source { normalise: true, fit: Fit::Stretch, ..dir.source() };
    let set = open(&source, [16, 16, 1], None, &Console::silent()).unwrap();
    let rows: Vec<u8> = set.image(0).iter().step_by(16).copied().collect();
    assert!(rows.iter().enumerate().all(|(y, value)| value.abs_diff((y * 17) as u8) <= 1), "{rows:?}");
}

#[test]
fn useless_images_are_reported_with_their_number() {
    let dir = ImageDir::new();
    let grey = |value| png(&DynamicImage::ImageLuma8(GrayImage::from_pixel(8, 8, Luma([value]))));
    dir.write("x1.png", &grey(0));
    dir.write("x2.png", &grey(77));
    dir.write("x3.png", &png(&numbered(7)));
    let remarks = dir.remarks(COLOUR);
    assert!(remarks.contains("2 of 23 images are of a single colour"), "{remarks}");
    assert!(remarks.contains("1 of 23 images is a copy of another"), "{remarks}");
}

#[test]
fn run_folders_inside_the_data_are_skipped() {
    let dir = ImageDir::new();
    for run in ["runs/a-0001", "deep/er/b-0002"] {
        dir.write(&format!("{run}/config.toml"), b"");
        dir.write(&format!("{run}/checkpoints/step-00000001.safetensors"), b"");
        dir.write(&format!("{run}/samples/reals.png"), &png(&numbered(1)));
    }
    let remarks = dir.remarks(COLOUR);
    assert_eq!(dir.open(COLOUR).unwrap().count(), 20);
    assert!(
        remarks.contains("2 folders are skipped, because gpu-gan wrote them: deep/er/b-0002, runs/a-0001"),
        "{remarks}"
    );
    // A run's folder of images is data if the person names it.
    (0..20).for_each(|i| dir.write(&format!("runs/a-0001/samples/{i}.png"), &png(&numbered(i))));
    assert_eq!(open_path(&dir.path("runs/a-0001/samples"), COLOUR).unwrap().count(), 21);
    let only_runs = ImageDir::empty();
    only_runs.write("r/config.toml", b"");
    only_runs.write("r/checkpoints/x", b"");
    only_runs.write("r/real.png", &png(&numbered(1)));
    assert_refused(only_runs.open(COLOUR), &["holds only images that gpu-gan wrote: r"]);
}

/// `cp -p` and `rsync -t` restore times, so an equal time and length do not prove equal content.
#[test]
fn the_cache_is_not_used_for_other_content_of_the_same_length_and_time() {
    let dir = ImageDir::empty();
    (0..20).for_each(|i| dir.write(&format!("{i:02}.bmp"), &as_file(&numbered(i), ImageFormat::Bmp)));
    let (_, _) = dir.open_cached(&dir.source(), COLOUR);
    let path = dir.path("03.bmp");
    let before = fs::metadata(&path).unwrap();
    fs::write(&path, as_file(&numbered(200), ImageFormat::Bmp)).unwrap();
    fs::File::options().append(true).open(&path).unwrap().set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), before.len());
    let (set, remarks) = dir.open_cached(&dir.source(), COLOUR);
    assert!(!remarks.contains("from the cache"), "{remarks}");
    assert_eq!(set.image(3)[0], 200);
}

#[test]
fn a_folder_named_like_a_built_in_set_is_reported() {
    // The current folder of the tests, the crate, has no such folder; the command line's tests cover the remark.
    let (images, messages) = open_recorded(&"mnist".into(), [28, 28, 1], None);
    images.unwrap();
    assert_eq!(messages, "");
}

#[test]
fn colours_are_names_or_hexadecimal() {
    let colour = |text: &str| text.parse::<crate::data::Background>();
    assert_eq!(colour("White").unwrap().0, [255; 3]);
    assert_eq!(colour("#336699").unwrap().0, [0x33, 0x66, 0x99]);
    assert_eq!(colour("336699").unwrap().to_string(), "#336699");
    for bad in ["", "#33669", "#33669g", "+12345", "mauve"] {
        assert!(colour(bad).unwrap_err().contains("white"), "{bad}");
    }
}
