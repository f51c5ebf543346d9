//! `gpu-gan train --rotate, --flip, --quarter-turns`: real images that are turned and mirrored by chance.

use crate::checkpoint::assert_same_bits;
use crate::place::{IMAGES, Place, TINY, idx_header};

const LAST: &str = "checkpoints/step-00000008.safetensors";

/// Image i of a sheet of images of 8 x 8, 7 in a row, each 12 times enlarged.
fn image(sheet: &image::GrayImage, i: usize) -> Vec<u8> {
    let [left, top] = [i % 7, i / 7].map(|place| 2 + place * (8 * 12 + 2));
    (0..64).map(|at| sheet.get_pixel((left + 12 * (at % 8)) as u32, (top + 12 * (at / 8)) as u32).0[0]).collect()
}

#[test]
fn what_is_done_to_the_images_is_told_recorded_and_shown() {
    let place = Place::new();
    let said = place.train("--steps 2 --rotate 20 --flip --quarter-turns --out run").succeeds();
    said.remarks("augmentation   real images are turned by up to 20 degrees, mirrored, turned by quarter turns");
    let config: toml::Table = toml::from_str(&place.text("run/config.toml")).unwrap();
    let augment = &config["settings"]["augment"];
    assert_eq!(augment["rotate"].as_float(), Some(20.0));
    assert_eq!([&augment["flip"], &augment["quarter_turns"]].map(toml::Value::as_bool), [Some(true); 2]);
    let [reals, augmented] = ["reals", "reals-augmented"].map(|name| place.picture(&format!("run/samples/{name}.png")));
    assert_eq!(reals.dimensions(), augmented.dimensions());
    let changed = (0..IMAGES).filter(|&i| image(&reals, i) != image(&augmented, i)).count();
    assert!(changed > 30, "{changed} of {IMAGES} images are changed"); // some of the shapes are of one grey
}

#[test]
fn without_augmentation_nothing_is_told_and_nothing_shown() {
    let place = Place::new();
    let said = place.train("--steps 2 --rotate 0 --out run").succeeds();
    assert!(!said.stderr().contains("augmentation"));
    assert!(!place.has("run/samples/reals-augmented.png"));
    place.train("--steps 2 --out plain").succeeds();
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000002.safetensors"));
    assert_same_bits(&last("run"), &last("plain"));
}

#[test]
fn the_sheet_shows_the_real_images_as_the_discriminator_sees_them() {
    let place = Place::with_run("--steps 2 --flip");
    let [reals, augmented] = ["reals", "reals-augmented"].map(|name| place.picture(&format!("run/samples/{name}.png")));
    let (mut as_they_are, mut mirrored) = (0, 0);
    for i in 0..IMAGES {
        let (real, seen) = (image(&reals, i), image(&augmented, i));
        let mirror: Vec<u8> = real.chunks(8).flat_map(|row| row.iter().rev()).copied().collect();
        assert!(seen == real || seen == mirror, "image {i} is neither as it is nor mirrored");
        // Some images do not tell their sides apart.
        as_they_are += usize::from(real != mirror && seen == real);
        mirrored += usize::from(real != mirror && seen == mirror);
    }
    assert!(as_they_are >= 6 && mirrored >= 6, "{as_they_are} are as they are, {mirrored} mirrored");
}

#[test]
fn an_augmented_run_goes_on_as_if_it_had_not_stopped_and_learns_something_else() {
    let place = Place::with_run("--steps 3 --rotate 30 --flip");
    for flag in ["--rotate 30", "--flip", "--quarter-turns"] {
        let name = flag.split(' ').next().unwrap();
        place.resume("run", &format!("--steps 8 {flag}")).refused().error(name).hint("leave it out");
    }
    place.resume("run", "--steps 8").succeeds().remarks("turned by up to 30 degrees, mirrored");
    place.train("--steps 8 --rotate 30 --flip --out whole").succeeds();
    place.train("--steps 8 --out plain").succeeds();
    let [run, whole, plain] = ["run", "whole", "plain"].map(|run| place.read(&format!("{run}/{LAST}")));
    assert_same_bits(&run, &whole);
    assert!(run != plain);
}

#[test]
fn angles_that_are_none_and_quarter_turns_of_what_is_not_square_are_refused() {
    let place = Place::new();
    for angle in ["-1", "180.5", "NaN", "inf"] {
        let said = place.train(&format!("--steps 1 --rotate {angle}")).refused();
        said.error(&format!("--rotate cannot be {angle}")).hint("0 to 180 degrees");
    }
    let wide = TINY
        .replace("image = { height = 8, width = 8", "image = { height = 8, width = 16")
        .replace("features = 32", "features = 64")
        .replace("height = 4, width = 4", "height = 4, width = 8");
    place.write("wide.toml", wide.as_bytes());
    let pixels: Vec<u8> = (0..IMAGES * 8 * 16).map(|at| at as u8).collect();
    place.write("wide-images-idx3-ubyte", &[idx_header([0, 0, 8, 3], &[IMAGES, 8, 16]), pixels].concat());
    let train = |flags: &str| {
        place.gpu_gan(&format!("train wide-images-idx3-ubyte --model wide.toml --device cpu --steps 1 {flags}"))
    };
    train("--quarter-turns").refused().error("images of 8 x 16 pixels cannot be turned by quarter turns");
    train("--rotate 90 --flip").succeeds();
}
