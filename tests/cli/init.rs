//! `gpu-gan train --init`: runs that start from the trained weights of another one.

use std::fs;

use crate::checkpoint::assert_same_bits;
use crate::place::{IMAGES, Place, TINY, idx_header, images};

/// Writes other images than the shapes to `others`, with labels of `classes` classes.
fn write_others(place: &Place, classes: usize) {
    place.write("others/train-images-idx3-ubyte", &images(|i, y, x| (i * 6 + y * 20 + x * x) as u8));
    let labels = (0..IMAGES).map(|i| (i % classes) as u8).collect();
    place.write("others/train-labels-idx1-ubyte", &[idx_header([0, 0, 8, 1], &[IMAGES]), labels].concat());
}

/// The checkpoint of a step.
fn end(place: &Place, run: &str, step: u64) -> Vec<u8> {
    place.read(&format!("{run}/checkpoints/step-{step:08}.safetensors"))
}

const TUNE: &str = "train others --device cpu --init";

#[test]
fn trained_weights_are_tuned_on_other_images_with_a_fresh_optimiser() {
    let place = Place::with_run("--steps 20");
    write_others(&place, 3);
    let said = place.gpu_gan(&format!("{TUNE} run --steps 8 --out tuned")).succeeds();
    said.remarks("run/checkpoints/step-00000020.safetensors, step 20: took generator 0, 2, 4; discriminator 0, 1, 4\n");
    assert!(
        place.read("tuned/samples/epoch-0000.png") == place.read("run/samples/epoch-0002.png"),
        "another first sheet"
    );
    assert!(place.text("tuned/losses.csv").lines().nth(1).unwrap().starts_with("1,1,"));

    // The same weights, but with the optimiser and the order of images of the other run.
    place.resume("run", "--steps 28").succeeds();
    assert!(end(&place, "tuned", 8) != end(&place, "run", 28));
    place.gpu_gan("train others --model tiny.toml --device cpu --steps 8 --out alone").succeeds();
    assert!(end(&place, "tuned", 8) != end(&place, "alone", 8), "the weights change nothing");
}

#[test]
fn a_tuned_run_is_repeated_and_resumed_bit_for_bit_and_resumes_without_its_source() {
    let place = Place::with_run("--steps 5");
    write_others(&place, 3);
    let checkpoint = "run/checkpoints/step-00000005.safetensors";
    place.gpu_gan(&format!("{TUNE} {checkpoint} --steps 6 --out whole")).succeeds();
    place.gpu_gan(&format!("{TUNE} run --steps 6 --out again")).succeeds();
    assert_same_bits(&end(&place, "whole", 6), &end(&place, "again", 6));
    place.resume("run", "--steps 7").succeeds(); // the file of options means the checkpoint, not the newest one
    place.gpu_gan("train --config whole/config.toml --device cpu --out repeated").succeeds();
    assert_same_bits(&end(&place, "whole", 6), &end(&place, "repeated", 6));
    place.gpu_gan(&format!("{TUNE} {checkpoint} --steps 3 --out part")).succeeds();
    fs::remove_dir_all(place.path("run")).unwrap();
    place.resume("part", "--steps 6").succeeds();
    assert_same_bits(&end(&place, "whole", 6), &end(&place, "part", 6));
    let config: toml::Table = toml::from_str(&place.text("part/config.toml")).unwrap();
    assert!(config["init"].as_str().unwrap().ends_with("step-00000005.safetensors"));
    assert_eq!(config["run"]["init-fingerprint"].as_str().unwrap().len(), 8);
    place.gpu_gan(&format!("{TUNE} run --steps 1 --out gone")).refused().error("there is no run or checkpoint at run");
}

#[test]
fn a_conditional_model_keeps_the_classes_of_the_same_names_and_gets_others() {
    let place = Place::with_run("--steps 3 --conditional");
    write_others(&place, 12);
    let said = place.gpu_gan(&format!("{TUNE} run --steps 1 --out more")).succeeds();
    said.remarks("took generator 0, 2, 4; discriminator 0, 1, 4\n")
        .remarks("fresh: generator 0 for the classes 10, 11, discriminator 4 for the classes 10, 11\n");
    place.sample("more", "--class 11 --seeds 0 --out one.png").succeeds();

    write_others(&place, 3);
    let said = place.gpu_gan(&format!("{TUNE} run --steps 1 --out fewer")).succeeds();
    assert!(!said.stderr().contains("fresh:"), "{}", said.stderr());
    // The first sheet shows the images of the other run, of the classes that its seeds draw now.
    place.sample("fewer", "--save-classes classes.npy --out fewer.npy").succeeds();
    let classes: Vec<i64> = npyz::NpyFile::new(place.read("classes.npy").as_slice()).unwrap().into_vec().unwrap();
    let sheet = place.image("fewer/samples/epoch-0000.png");
    for (seed, class) in classes.into_iter().enumerate().take(4) {
        place.sample("run", &format!("--seeds {seed} --class {class} --out one.npy")).succeeds();
        let pixel = |at: u32| sheet.get_pixel(2 + 90 * seed as u32 + 11 * (at % 8), 2 + 11 * (at / 8)).0[0];
        let shown: Vec<u8> = (0..64).map(pixel).collect();
        assert_eq!(shown, place.array("one.npy").1, "class {class} looks different");
    }

    let said = place.gpu_gan(&format!("{TUNE} run --unconditional --steps 1 --out all")).succeeds();
    said.remarks("took generator 0, 2, 4; discriminator 0, 1, 4\n");
    assert!(!place.text("all/model.toml").contains("classes"));
    place
        .gpu_gan(&format!("{TUNE} all --conditional --steps 1 --out back"))
        .succeeds()
        .remarks("for the classes 0, 1, 2");
    fs::remove_file(place.path("others/train-labels-idx1-ubyte")).unwrap();
    let refused = place.gpu_gan(&format!("{TUNE} run --steps 1 --out none")).refused();
    refused.error("have no labels of two classes").hint("--unconditional");
}

#[test]
fn layers_of_another_model_that_fit_are_taken_and_the_others_start_fresh_with_the_reason() {
    let place = Place::with_run("--steps 3");
    let larger = TINY
        .replace("height = 8, width = 8, channels = 1", "height = 16, width = 16, channels = 1")
        .replace(
            "{ layer = \"transposed-conv\", channels = 1, kernel = 2, stride = 2 },",
            "{ layer = \"transposed-conv\", channels = 1, kernel = 4, stride = 4 },",
        )
        .replace("{ layer = \"leaky-relu\", slope = 0.2 },", "{ layer = \"leaky-relu\", slope = 0.2 }, { layer = \"conv\", channels = 2, kernel = 4, stride = 2, pad = 1 },");
    place.write("larger.toml", larger.as_bytes());
    let said = place
        .gpu_gan("train shapes --upscale --model larger.toml --init run --device cpu --steps 2 --out tuned")
        .succeeds();
    said.remarks("took generator 0, 2; discriminator 0, 1\n")
        .remarks("fresh: generator 4 (its weight is 2 x 1 x 4 x 4, there 2 x 1 x 2 x 2)")
        .remarks("discriminator 3 (it is conv, there flatten)")
        .remarks("discriminator 5 (there is no such layer)");
}

#[test]
fn a_checkpoint_of_which_nothing_fits_is_refused_with_what_to_do() {
    let place = Place::with_run("--steps 3");
    let other = TINY
        .replace("latent = 4", "latent = 5")
        .replace("channels = 1, kernel = 2, stride = 2", "channels = 1, kernel = 4, stride = 2, pad = 1")
        .replace("kernel = 4, stride = 2, pad = 1, bias = false", "kernel = 2, stride = 2, bias = false")
        .replace("{ layer = \"flatten\" },", "{ layer = \"flatten\" }, { layer = \"relu\" },");
    place.write("other.toml", other.as_bytes());
    let refused = place.gpu_gan("train shapes --model other.toml --init run --device cpu --steps 1 --out no").refused();
    refused
        .error("no layer with weights of run/checkpoints/step-00000003.safetensors, whose model is tiny, fits the model tiny")
        .error("generator 0 (its weight is 32 x 5, there 32 x 4)")
        .hint("leave out --model")
        .hint("gpu-gan summary");
    place.gpu_gan("train --resume run --init run --device cpu --steps 9").misused();
    place.gpu_gan("train shapes --init shapes --device cpu").refused().error("shapes has no folder checkpoints");
}
