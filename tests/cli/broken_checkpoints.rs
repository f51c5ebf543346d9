//! Truncated, damaged and changed checkpoints: commands that read them report the fault and change no file.

use crate::checkpoint::{Checkpoint, assert_same_tensors};
use crate::place::Place;

const LAST: &str = "run/checkpoints/step-00000006.safetensors";

/// A run of six steps, in `run`.
fn trained() -> Place {
    Place::with_run("--steps 6")
}

/// Puts `bytes` where the run's checkpoint was; both who reads it, `sample` and `train --resume`, say `error`.
#[track_caller]
fn is_told(place: &Place, bytes: &[u8], error: &str) {
    place.write(LAST, bytes);
    place.sample("run", "").refused().error(LAST).error(error);
    place.resume("run", "--steps 8").refused().error(LAST).error(error);
}

#[test]
fn a_checkpoint_that_was_cut_short_is_refused() {
    let place = trained();
    let good = place.read(LAST);
    for length in [0, 4, 8, 100, good.len() / 2, good.len() - 1] {
        is_told(&place, &good[..length], "is not a checkpoint that can be used");
    }
    is_told(&place, &[&good[..], b"more"].concat(), "is not a checkpoint that can be used");
}

#[test]
fn a_checkpoint_of_garbage_is_refused() {
    let place = trained();
    let good = place.read(LAST);
    let garbage: Vec<u8> = (0..good.len() as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let zeros = vec![0; good.len()];
    let huge_header = [&[0xff; 8], &good[8..]].concat();
    let broken_header = [&good[..8], &garbage[8..]].concat();
    for bytes in [garbage, zeros, huge_header, broken_header] {
        is_told(&place, &bytes, "is not a checkpoint that can be used");
    }
}

#[test]
fn a_checkpoint_with_a_value_that_is_no_number_is_refused_with_its_name() {
    let place = trained();
    let good = Checkpoint::of(&place.read(LAST));
    for (name, value) in [
        ("generator.0.weight", f32::NAN),
        ("ema.generator.4.weight", f32::INFINITY),
        ("adam.v.discriminator.0.weight", f32::NAN),
        ("discriminator.1.running_var", f32::NEG_INFINITY),
    ] {
        let bad = good.clone().with(name, |tensor| tensor.set_first(value));
        is_told(&place, &bad.to_bytes(), name);
    }
}

#[test]
fn a_checkpoint_whose_tensors_are_not_those_of_its_model_is_refused_with_both_shapes() {
    let place = trained();
    let good = Checkpoint::of(&place.read(LAST));
    let other = good.clone().with("generator.0.weight", |tensor| tensor.shape = vec![4, 32]);
    is_told(&place, &other.to_bytes(), "generator.0.weight is [4, 32], but the model's is [32, 4]");

    for name in ["generator.4.bias", "ema.generator.0.weight", "adam.m.discriminator.4.bias"] {
        let mut less = good.clone();
        less.tensors.remove(name).unwrap();
        is_told(&place, &less.to_bytes(), &format!("{name} is missing"));
    }

    let halves = good.clone().with("generator.4.weight", |tensor| {
        tensor.dtype = safetensors::Dtype::F16;
        tensor.bytes.truncate(16);
    });
    is_told(&place, &halves.to_bytes(), "generator.4.weight is not of f32");

    let other_model = good.said("latent = 4", "latent = 5");
    is_told(&place, &other_model.to_bytes(), "[32, 4], but the model's is [32, 5]");
}

/// What format 2 has in the place of the metadata of `now`. It has the absolute path of the images, `data`.
fn metadata_of_format_2(now: &serde_json::Value, data: &std::path::Path) -> serde_json::Value {
    let (recipe, run) = (&now["recipe"], &now["run"]);
    let model = now["model"].as_str().unwrap();
    let training = model.find("[training]").unwrap();
    let initial = model.find("[initial]").unwrap();
    let old_training = "[training]\nepochs = 2\nleast-steps = 3\nbatch-size = 4\naverage = 0.9\n\n[training.adam]\nlr = 2e-3\n\
                        beta1 = 0.5\nbeta2 = 0.99\neps = 1e-8\n\n";
    serde_json::json!({
        "format": 2, "version": "0.1.0", "step": now["step"],
        "model": format!("{}{old_training}{}", &model[..training], &model[initial..]),
        "settings": {
            "data": data, "upscale": false, "data_fingerprint": run["data-fingerprint"],
            "images": run["images"], "model": "tiny", "batch_size": 4, "d_steps": 1, "steps": recipe["steps"],
            "seed": 0, "average": 0.9, "adam": { "lr": 2e-3, "beta1": 0.5, "beta2": 0.99, "eps": 1e-8 },
            "objective": {
                "loss": "non-saturating", "label-smoothing": 0.0,
                "penalty": { "r1": 0.0, "r2": 0.0, "gp": 0.0, "every": 1 },
            },
            "rates": { "warm-up": 0, "decay": "constant", "last": 0.0 },
            "augment": { "rotate": 30.0, "flip": true, "quarter_turns": false },
            "diff_augment": { "translation": true, "cutout": false, "colour": true },
        },
    })
}

#[test]
fn a_checkpoint_of_format_2_draws_the_same_images_and_resumes_to_the_same_bits() {
    let place = Place::with_run("--steps 6 --rotate 30 --flip --diff-augment translation,colour");
    let mut old = Checkpoint::of(&place.read(LAST));
    let now = serde_json::from_str(&old.metadata["gpu-gan"]).unwrap();
    old.metadata.insert("gpu-gan".into(), metadata_of_format_2(&now, &place.path("shapes")).to_string());
    old.tensors = old.tensors.into_iter().map(|(name, tensor)| (name.replace("ema.", "average."), tensor)).collect();
    place.write("old.safetensors", &old.to_bytes());
    place.sample("old.safetensors", "--seeds 0-3 --out old.npy").succeeds();
    place.sample("run", "--seeds 0-3 --out new.npy").succeeds();
    assert_eq!(place.read("old.npy"), place.read("new.npy"));
    place.resume("old.safetensors", "--steps 8 --out old").succeeds();
    place.resume("run", "--steps 8").succeeds();
    let [old, run] = ["old", "run"].map(|run| place.read(&format!("{run}/checkpoints/step-00000008.safetensors")));
    let recipe = |file: &[u8]| -> serde_json::Value {
        let metadata = Checkpoint::of(file).metadata;
        serde_json::from_str::<serde_json::Value>(&metadata["gpu-gan"]).unwrap()["recipe"].clone()
    };
    assert_same_tensors(&old, &run);
    assert_eq!(recipe(&old), recipe(&run));
}

#[test]
fn a_checkpoint_of_another_program_or_format_is_refused() {
    let place = trained();
    let good = Checkpoint::of(&place.read(LAST));
    is_told(&place, &Checkpoint { metadata: [].into(), ..good.clone() }.to_bytes(), "gpu-gan did not write it");
    is_told(&place, &good.clone().said("\"format\":3", "\"format\":4").to_bytes(), "format 4");
    is_told(&place, &good.clone().said("\"recipe\"", "\"requests\"").to_bytes(), "recipe");
}

/// A run does not go on with metadata in which `from` has become `to`.
#[track_caller]
fn settings_are_refused(from: &str, to: &str) {
    let place = trained();
    place.write(LAST, &Checkpoint::of(&place.read(LAST)).said(from, to).to_bytes());
    place.resume("run", "--steps 8").refused();
}

#[test]
fn settings_that_contradict_the_images_are_refused() {
    settings_are_refused("\"images\":40", "\"images\":0");
    settings_are_refused("\"images\":40", "\"images\":39"); // there are 40
    settings_are_refused("\"images\":40", "\"images\":4000000000000");
}

#[test]
fn settings_that_no_run_can_have_are_refused() {
    for (from, to) in [
        ("\"batch-size\":4", "\"batch-size\":0"),
        ("\"steps\":6", "\"steps\":-6"),
        ("\"eps\":1e-8", "\"eps\":0.0"),
        ("\"lr\":0.002", "\"lr\":-1.0"),
        ("\"lr\":0.002", "\"lr\":1e30"),
        ("\"beta1\":0.5", "\"beta1\":1.0"),
        ("\"beta2\":0.99", "\"beta2\":-0.5"),
        ("\"ema-decay\":0.9", "\"ema-decay\":2.0"),
    ] {
        settings_are_refused(from, to);
    }
}
