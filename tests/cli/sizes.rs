//! `--size` and `--channels`: the model that is built for a size, trained, resumed, sampled and exported.

use image::RgbaImage;

use crate::checkpoint::assert_same_bits;
use crate::place::{Place, photograph};

/// A place with 20 images of a size in the folder `images`.
fn place_of(image: impl Fn(usize) -> Vec<u8>) -> Place {
    let place = Place::empty();
    std::fs::create_dir(place.path("images")).unwrap();
    (0..20).for_each(|i| place.write(&format!("images/{i:02}.png"), &image(i)));
    place
}

/// A PNG with colours, a transparent left half, and a partly transparent column.
fn sprite(number: usize) -> Vec<u8> {
    let alpha = |x: u32| if x < 8 { 0 } else { 255 - u8::from(x == 8) * 100 };
    let image = RgbaImage::from_fn(16, 16, |x, y| [x as u8 * 9, y as u8 * 9, number as u8 * 5, alpha(x)].into());
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Trains for two steps, resumes for a third one, and checks that this equals a run of three steps.
fn trains(place: &Place, options: &str) {
    let train = format!("train images --device cpu --batch-size 4 --eval-every never --decay constant {options}");
    place.gpu_gan(&format!("{train} --steps 2 --out run")).succeeds();
    place.resume("run", "--steps 3").succeeds();
    place.gpu_gan(&format!("{train} --steps 3 --out whole")).succeeds();
    // The same command again finds its run complete.
    let again = place.gpu_gan(&format!("{train} --steps 3 --out whole --resume-or-start")).succeeds();
    again.prints("whole is complete");
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000003.safetensors"));
    assert_same_bits(&last("run"), &last("whole"));
}

#[test]
fn the_default_model_is_built_for_a_size() {
    let place = Place::empty();
    for size in ["32", "48", "64", "96", "128", "256"] {
        let said = place.gpu_gan(&format!("summary --size {size} --channels 3")).succeeds();
        said.prints("dcgan-r1\n").prints(&format!("{size} x {size} x 3"));
    }
    place.gpu_gan("summary --size 96x48 --channels 4").succeeds().prints(" 96 x 48 x 4");
    place.gpu_gan("summary --size 100").refused().error("100 x 100 pixels").hint("104 x 104");
    place.gpu_gan("summary --size 8x").misused().error("WIDTHxHEIGHT");
    place.gpu_gan("summary dcgan-64 --size 64").refused().error("the model dcgan-64 has one size").hint("dcgan-r1");
}

#[test]
fn image_files_are_trained_on_at_another_size_which_the_run_keeps() {
    let place = place_of(|i| photograph(40, 40, i));
    trains(&place, "--size 32");
    let sheet = image::load_from_memory(&place.read("run/samples/reals.png")).unwrap();
    assert!(sheet.color().has_color());
    let said = place.gpu_gan("train images --device cpu --size 32 --model dcgan-64 --steps 1").refused();
    said.error("the model dcgan-64 has one size");
    place.gpu_gan("train images --device cpu --size 30 --steps 1").refused().error("30 x 30").hint("32 x 32");
    place.resume("run", "--steps 4 --size 48").refused().error("--size cannot be changed when resuming");
    // Transfer to another size takes the layers of equal shape.
    let said = place.gpu_gan("train images --device cpu --init run --size 16 --steps 1 --out small").succeeds();
    said.remarks("images of 16 x 16 x 3");
}

#[test]
fn images_that_are_not_square_are_trained_on_sampled_and_exported() {
    let place = place_of(|i| photograph(48, 96, i));
    trains(&place, "--size 96x48");
    place.sample("run", "--count 2 --out images.npy").succeeds();
    assert_eq!(place.array("images.npy").0, [2, 48, 96, 3]);
    place.gpu_gan("export run wide.onnx").succeeds();
    place.gpu_gan("export run wide.safetensors").succeeds();
    assert!(place.text("wide.py").contains("(6, 12, 128)"), "{}", place.text("wide.py"));
}

#[test]
fn transparent_images_are_trained_on_and_sampled_with_their_transparency() {
    let place = place_of(sprite);
    trains(&place, "--size 16 --channels 4");
    let real = image::load_from_memory(&place.read("run/samples/reals.png")).unwrap().into_rgba8();
    let alphas: std::collections::BTreeSet<u8> = real.pixels().map(|pixel| pixel.0[3]).collect();
    assert_eq!(alphas.into_iter().collect::<Vec<_>>(), [0, 155, 255]);
    place.sample("run", "--count 2 --out one").succeeds();
    let image = image::load_from_memory(&place.read("one/seed-000000.png")).unwrap();
    assert_eq!((image.color(), image.width(), image.height()), (image::ColorType::Rgba8, 16, 16));
    // An array of small images decides the default shape.
    place.sample("run", "--count 20 --out made.npy").succeeds();
    place.gpu_gan("train made.npy --device cpu --dry-run").succeeds().remarks("images of 16 x 16 x 4");
    place.gpu_gan("interpolate run --seeds 1,2 --frames 3 --out walk.gif").succeeds();
    place.gpu_gan("interpolate run --seeds 1,2 --frames 3 --out walk.png").succeeds();
    place.gpu_gan("export run sprite.onnx").succeeds();
    let said = place.gpu_gan("export run sprite.onnx --uint8").refused();
    said.error("these have 4 channels");
    // The same images for a model without transparency.
    let said = place.gpu_gan("train images --device cpu --size 16 --steps 1 --out opaque").succeeds();
    said.remarks("which becomes white");
}
