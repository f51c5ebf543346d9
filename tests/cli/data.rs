//! Missing, damaged and mislabelled data files.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::checkpoint::assert_same_bits;
use crate::place::{COLOUR, IMAGES, Place, SHAPES, SIDE, idx_header, shapes};

const LABELS: &str = "shapes/train-labels-idx1-ubyte";

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// With these bytes as the file of images, both a run and a dry run are refused.
#[track_caller]
fn images_are_refused(bytes: &[u8], facts: &[&str]) {
    let place = Place::new();
    place.write(SHAPES, bytes);
    place.train("--steps 1 --dry-run").refused();
    let said = place.train("--steps 1").refused().error(SHAPES);
    facts.iter().fold(said, |said, fact| said.error(fact));
}

#[test]
fn a_path_where_nothing_is_is_refused() {
    let place = Place::new();
    place
        .gpu_gan("train photos --model tiny.toml --device cpu")
        .refused()
        .error("`photos` does not exist")
        .hint("mnist");
    place.gpu_gan("train MNIST --device cpu").refused().error("MNIST").hint("`mnist`");
    place.gpu_gan("train tiny.toml/images --device cpu").refused().error("tiny.toml/images");
}

#[test]
fn a_folder_without_images_is_refused() {
    let place = Place::new();
    std::fs::create_dir(place.path("bare")).unwrap();
    place.gpu_gan("train bare --model tiny.toml --device cpu").refused().error("bare is empty").hint("IDX");
    place.write("notes/todo.txt", b"hello");
    let call = place.gpu_gan("train notes --model tiny.toml --device cpu");
    call.refused().error("notes holds no image").error(".png").error("train-images-idx3-ubyte");
}

#[test]
fn images_that_were_cut_short_are_refused() {
    let whole = shapes();
    assert_eq!(whole.len(), 16 + IMAGES * SIDE * SIDE);
    for length in [0, 3, 10, 16, 1000, whole.len() - 1] {
        images_are_refused(&whole[..length], &["is truncated", &format!("it has {length} bytes")]);
    }
    images_are_refused(&[&whole[..], b"x"].concat(), &["is too long"]);
}

#[test]
fn a_file_of_another_kind_is_refused_with_the_bytes_it_starts_with() {
    for (start, shown) in [([0, 0, 8, 1], "00 00 08 01"), ([0, 0, 0x0d, 3], "00 00 0d 03")] {
        let mut bytes = shapes();
        bytes[..4].copy_from_slice(&start);
        images_are_refused(&bytes, &["is not an IDX file of images", shown, "00 00 08 03"]);
    }
}

#[test]
fn a_header_that_declares_too_much_is_refused_without_allocating_it() {
    let most = u32::MAX as usize;
    for dimensions in [[most, most, most], [most, SIDE, SIDE], [1 << 31, 4096, 4096], [IMAGES, 1 << 16, 1 << 16]] {
        let header = idx_header([0, 0, 8, 3], &dimensions);
        images_are_refused(&header, &["at most"]);
        images_are_refused(&packed(&header), &["at most"]);
    }
    for dimensions in [[0, SIDE, SIDE], [IMAGES, 0, SIDE], [0, 0, 0]] {
        images_are_refused(&idx_header([0, 0, 8, 3], &dimensions), &["holds no images"]);
    }
    images_are_refused(&packed(&idx_header([0, 0, 8, 3], &[1 << 21, 16, 16])), &["is truncated", "after unpacking"]);
}

#[test]
fn packed_images_are_the_same_images() {
    let place = Place::with_run("--steps 4");
    std::fs::remove_file(place.path(SHAPES)).unwrap();
    place.write(&format!("{SHAPES}.gz"), &packed(&shapes()));
    place.train("--steps 4 --out packed").succeeds();
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000004.safetensors"));
    assert_same_bits(&last("run"), &last("packed"));
}

#[test]
fn damaged_packed_images_are_refused() {
    let whole = packed(&shapes());
    let half = whole.len() / 2;
    for length in [2, 11, half, whole.len() - 4] {
        images_are_refused(&whole[..length], &["is truncated"]);
    }
    let mut checksum = whole.clone();
    let crc = whole.len() - 8;
    checksum[crc] ^= 1;
    images_are_refused(&checksum, &["is damaged"]);
    let mut middle = whole;
    middle[half..half + 8].copy_from_slice(&[0xff; 8]);
    images_are_refused(&middle, &[]);
}

#[test]
fn labels_that_do_not_belong_to_the_images_are_refused_with_both_numbers() {
    let place = Place::new();
    place.write(LABELS, &[idx_header([0, 0, 8, 1], &[IMAGES - 1]), vec![0; IMAGES - 1]].concat());
    place.train("--steps 1").refused().error("40 images").error("39").hint("labels");
    place.write(LABELS, &shapes());
    place.train("--steps 1").refused().error(LABELS).error("is not an IDX file of labels");
    place.write(LABELS, &idx_header([0, 0, 8, 1], &[IMAGES]));
    place.train("--steps 1").refused().error(LABELS).error("is truncated");
    std::fs::remove_file(place.path(LABELS)).unwrap();
    place.train("--steps 1").succeeds(); // no labels are no mistake
}

#[test]
fn images_smaller_than_the_models_are_refused_until_they_may_be_enlarged() {
    let place = Place::new();
    place.write("large.toml", COLOUR.replace("channels = 3", "channels = 1").as_bytes());
    let train = |arguments: &str| place.gpu_gan(&format!("train shapes --model large.toml --device cpu {arguments}"));
    let said = train("--steps 1").refused();
    said.error("all 40 are smaller (the largest is 8 x 8 pixels)").error("16 x 16").hint("--upscale").hint("--model");
    train("--steps 2 --upscale --out run").succeeds().remarks("40 images of 16 x 16 x 1");
    // It goes on with the same images, enlarged as before.
    place.resume("run", "--steps 4").succeeds();
    train("--steps 4 --upscale --out whole").succeeds();
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000004.safetensors"));
    assert_same_bits(&last("run"), &last("whole"));
}

#[test]
fn images_larger_than_the_models_are_scaled_down() {
    let place = Place::new();
    let call = place.gpu_gan("train mnist --model tiny.toml --device cpu --steps 1 --batch-size 4");
    call.succeeds().remarks("mnist: 60000 images of 8 x 8 x 1");
}

#[test]
fn an_own_folder_that_is_called_like_a_built_in_set_is_remarked() {
    let place = Place::new();
    place.write("mnist/train-images-idx3-ubyte", &shapes());
    let train = |data: &str| place.gpu_gan(&format!("train {data} --model tiny.toml --device cpu --dry-run"));
    train("mnist").succeeds().remarks("write ./mnist\n").remarks("60000 images");
    let own = train("./mnist").succeeds().remarks("40 images");
    assert!(!own.stderr().contains("built-in"), "{}", own.stderr());
}

#[test]
fn arrays_that_sample_writes_can_be_trained_on() {
    let place = Place::with_run("--steps 4");
    place.sample("run", "--count 40 --out made.npy").succeeds();
    let call = place.gpu_gan("train made.npy --model tiny.toml --device cpu --steps 1 --out second");
    call.succeeds().remarks("40 images of 8 x 8 x 1");
}
