//! `gpu-gan train --rotate, --flip, --quarter-turns`: random augmentation of real images; and `--diff-augment`: random augmentation of all
//! images that the discriminator sees.

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
    assert_eq!(config["rotate"].as_float(), Some(20.0));
    assert_eq!([&config["flip"], &config["quarter-turns"]].map(toml::Value::as_bool), [Some(true); 2]);
    let [reals, augmented] = ["reals", "reals-augmented"].map(|name| place.image(&format!("run/samples/{name}.png")));
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
    let [reals, augmented] = ["reals", "reals-augmented"].map(|name| place.image(&format!("run/samples/{name}.png")));
    let (mut as_they_are, mut mirrored) = (0, 0);
    for i in 0..IMAGES {
        let (real, seen) = (image(&reals, i), image(&augmented, i));
        let mirror: Vec<u8> = real.chunks(8).flat_map(|row| row.iter().rev()).copied().collect();
        assert!(seen == real || seen == mirror, "image {i} is neither as it is nor mirrored");
        // Some images are symmetric.
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
fn quarter_turns_of_images_that_are_not_square_are_refused() {
    let place = Place::new();
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
    train("--quarter-turns").refused().error("images of 16 x 8 pixels cannot be turned by quarter turns");
    train("--rotate 90 --flip").succeeds();
}

/// The tiny model with DiffAugment as its default.
fn asking_for(changes: &str) -> String {
    TINY.replace("ema-decay = 0.9\n", &format!("ema-decay = 0.9\ndiff-augment = {changes}\n"))
}

#[test]
fn a_model_that_asks_for_diff_augment_gets_it_on_few_images_unless_told_otherwise() {
    let place = Place::new();
    place.write("asking.toml", asking_for("\"cutout,translation\"").as_bytes());
    let train = |more: &str| {
        place.gpu_gan(&format!("train shapes --device cpu --model asking.toml --dry-run {more}")).succeeds().stderr()
    };
    assert!(
        train("").contains(
            "diff-augment   translation,cutout of all images that the discriminator sees, as there are fewer than 20000"
        ),
        "{}",
        train("")
    );
    let other = train("--diff-augment colour");
    assert!(
        other.contains("diff-augment   colour of all images that the discriminator sees (see --diff-augment)"),
        "{other}"
    );
    let adaptive = train("--adaptive-augment");
    assert!(
        adaptive.contains("the discriminator sees, as strongly as it needs, as there are fewer than 20000 (see"),
        "{adaptive}"
    );
    assert!(!train("--diff-augment none --adaptive-augment").contains("diff-augment  "));
    assert!(!place.train("--dry-run").succeeds().stderr().contains("diff-augment  "));
    // More images than a byte counts up to, each of 8 x 8 grey pixels.
    let many = [idx_header([0, 0, 8, 3], &[20_000, 8, 8]), vec![7; 20_000 * 64]].concat();
    place.write("many-images-idx3-ubyte", &many);
    let said = place.gpu_gan("train many-images-idx3-ubyte --device cpu --model asking.toml --dry-run").succeeds();
    assert!(!said.stderr().contains("diff-augment  "), "{}", said.stderr());

    for mistake in ["\"rotation\"", "[\"rotation\"]", "[1]", "true"] {
        place.write("bad.toml", asking_for(mistake).as_bytes());
        let said = place.gpu_gan("summary bad.toml").refused();
        said.error("bad.toml, line ").error("diff-augment");
    }
    let said = place.gpu_gan("train shapes --device cpu --model asking.toml --diff-augment rotation").misused();
    assert!(said.stderr().contains("translation, cutout, colour, or none"), "{}", said.stderr());
}

#[test]
fn a_run_with_diff_augment_shows_what_is_seen_and_goes_on_as_if_it_had_not_stopped() {
    let place = Place::with_run("--steps 3 --diff-augment translation");
    let [reals, seen] = ["reals", "reals-augmented"].map(|name| place.image(&format!("run/samples/{name}.png")));
    let mut moved = 0;
    for i in 0..IMAGES {
        let (real, seen) = (image(&reals, i), image(&seen, i));
        // By up to one pixel, an eighth of eight; what comes in is grey, half way from black to white.
        let places = (0..9).map(|place| [place / 3 - 1, place % 3 - 1]);
        let shift = places.into_iter().find(|[down, right]| {
            (0..64).all(|at| {
                let [row, column] = [at / 8 - down, at % 8 - right];
                let inside = (0..8).contains(&row) && (0..8).contains(&column);
                seen[at as usize] == if inside { real[(8 * row + column) as usize] } else { 128 }
            })
        });
        assert!(shift.is_some(), "image {i} is not moved by a pixel");
        moved += usize::from(seen != real);
    }
    assert!(moved > 25, "{moved} of {IMAGES} images are moved"); // of nine places one is where they were
    place.resume("run", "--steps 8 --diff-augment none").refused().error("--diff-augment").hint("leave it out");
    place.resume("run", "--steps 8").succeeds().remarks("diff-augment   translation of all images");
    place.train("--steps 8 --diff-augment translation --out whole").succeeds();
    place.train("--steps 8 --diff-augment translation --adaptive-augment --out adaptive").succeeds();
    place.train("--steps 8 --out plain").succeeds();
    let [run, whole, adaptive, plain] =
        ["run", "whole", "adaptive", "plain"].map(|run| place.read(&format!("{run}/{LAST}")));
    assert_same_bits(&run, &whole);
    assert!(run != plain && run != adaptive);
}
