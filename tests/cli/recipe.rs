//! `gpu-gan train` with other losses, penalties and learning rates than the defaults of the model.

use crate::checkpoint::assert_same_bits;
use crate::place::{Place, TINY};

/// A model whose discriminator supports gradient penalties.
fn without_batch_norm() -> String {
    let (generator, discriminator) = TINY.split_once("discriminator").unwrap();
    format!("{generator}discriminator{}", discriminator.replacen("{ layer = \"batch-norm\" },\n", "", 1))
}

fn place() -> Place {
    let place = Place::new();
    place.write("bare.toml", without_batch_norm().as_bytes());
    place
}

const TRAIN: &str = "train shapes --device cpu --model bare.toml";

#[test]
fn every_loss_trains_to_weights_of_its_own_and_says_its_name() {
    let place = place();
    let mut ends = Vec::new();
    for loss in ["non-saturating", "minimax", "hinge", "least-squares", "wasserstein", "relativistic"] {
        let said = place.gpu_gan(&format!("{TRAIN} --steps 6 --loss {loss} --out {loss}")).succeeds();
        said.remarks(&format!("objective      {loss} loss\n"));
        ends.push(place.read(&format!("{loss}/checkpoints/step-00000006.safetensors")));
        assert!(place.text(&format!("{loss}/config.toml")).contains(&format!("loss = \"{loss}\"")));
    }
    for (i, end) in ends.iter().enumerate() {
        assert!(ends[..i].iter().all(|other| other != end), "two losses give the same");
    }
}

#[test]
fn penalties_and_schedules_go_on_as_if_the_run_had_not_stopped() {
    let place = place();
    let recipe = "--loss relativistic --r1 0.5 --r2 0.25 --gp 0.1 --penalty-every 3 --warm-up 2 --d-lr 5e-3";
    place.gpu_gan(&format!("{TRAIN} --steps 8 {recipe} --out whole")).succeeds();
    place.gpu_gan(&format!("{TRAIN} --steps 4 {recipe} --out run")).succeeds();
    place.gpu_gan("train --resume run --steps 8 --device cpu").succeeds();
    let end = |run: &str| place.read(&format!("{run}/checkpoints/step-00000008.safetensors"));
    assert_same_bits(&end("run"), &end("whole"));
    // Each option changes the result.
    for without in ["--r1 0", "--r2 0", "--gp 0", "--penalty-every 2", "--warm-up 0", "--d-lr 2e-3"] {
        let flag = without.split_once(' ').unwrap().0;
        let (before, behind) = recipe.split_once(flag).unwrap();
        let behind = behind.trim_start().split_once(' ').map_or("", |(_, behind)| behind);
        let out = format!("without{flag}");
        place.gpu_gan(&format!("{TRAIN} --steps 8 {before} {behind} {without} --out {out}")).succeeds();
        assert!(end(&out) != end("whole"), "{flag} changes nothing");
    }
}

#[test]
fn several_updates_of_the_discriminator_and_a_half_life_go_on_as_if_the_run_had_not_stopped_and_in_windows() {
    let place = place();
    let recipe = "--loss wasserstein --gp 10 --penalty-every 2 --d-steps 3 --ema-half-life 30 --batch-size 5";
    let said = place.gpu_gan(&format!("{TRAIN} --steps 6 {recipe} --out whole")).succeeds();
    said.remarks("6 steps of 3 x 5 images");
    place.gpu_gan(&format!("{TRAIN} --steps 3 {recipe} --out run")).succeeds();
    place.gpu_gan("train --resume run --steps 6 --device cpu").succeeds();
    let end = |run: &str| place.read(&format!("{run}/checkpoints/step-00000006.safetensors"));
    assert_same_bits(&end("run"), &end("whole"));
    let rows = |run: &str| -> Vec<String> {
        let text = place.text(&format!("{run}/losses.csv"));
        text.lines().map(|line| line.rsplit_once(',').unwrap().0.to_string()).collect() // but for images per second
    };
    assert_eq!((rows("run"), rows("run").len()), (rows("whole"), 7));
    let config = place.text("whole/config.toml");
    assert!(config.contains("d-steps = 3") && config.contains("ema-half-life = 30"), "{config}");
    for without in ["--d-steps 2", "--ema-half-life 31"] {
        let flag = without.split_once(' ').unwrap().0;
        let kept: Vec<&str> = recipe.split(" --").filter(|part| !part.starts_with(&flag[2..])).collect();
        let kept = kept.join(" --");
        place.gpu_gan(&format!("{TRAIN} --steps 6 {kept} {without} --out without{flag}")).succeeds();
        assert!(end(&format!("without{flag}")) != end("whole"), "{flag} changes nothing");
    }
}

#[test]
fn a_discriminator_that_sees_packs_of_images_trains_with_penalties_goes_on_and_wants_whole_packs() {
    let place = place();
    let recipe = "--pac 2 --loss relativistic --r1 0.5 --gp 0.1 --batch-size 6";
    let said = place.gpu_gan(&format!("{TRAIN} --steps 4 {recipe} --out whole")).succeeds();
    said.remarks("2 images of 8 x 8 x 1 -> 1");
    place.gpu_gan(&format!("{TRAIN} --steps 2 {recipe} --out run")).succeeds();
    place.gpu_gan("train --resume run --steps 4 --device cpu").succeeds();
    let end = |run: &str| place.read(&format!("{run}/checkpoints/step-00000004.safetensors"));
    assert_same_bits(&end("run"), &end("whole"));
    place.gpu_gan("sample whole --seeds 0-3 --out four.png --device cpu").succeeds();
    let refused = place.gpu_gan(&format!("{TRAIN} --steps 2 --pac 2 --batch-size 5")).refused();
    refused.error("batch size 5 is not a multiple of pac, which is 2").hint("a multiple of 2");
    place
        .gpu_gan("train --resume run --steps 5 --pac 2 --device cpu")
        .refused()
        .error("--pac cannot be changed when resuming");
}

#[test]
fn spectral_normalisation_trains_with_penalties_and_goes_on_as_if_the_run_had_not_stopped() {
    let place = Place::new();
    let bare = without_batch_norm();
    let spectral = bare.replacen(
        "{ layer = \"linear\", features = 1 }",
        "{ layer = \"linear\", features = 1, spectral-norm = true }",
        1,
    );
    assert!(spectral != bare, "{bare}");
    place.write("bare.toml", bare.as_bytes());
    place.write("spectral.toml", spectral.as_bytes());
    let train = "train shapes --device cpu --model spectral.toml --loss hinge --r1 0.1 --d-steps 2";
    place.gpu_gan(&format!("{train} --steps 4 --out whole")).succeeds();
    place.gpu_gan(&format!("{train} --steps 2 --out run")).succeeds();
    place.gpu_gan("train --resume run --steps 4 --device cpu").succeeds();
    let end = |run: &str| place.read(&format!("{run}/checkpoints/step-00000004.safetensors"));
    assert_same_bits(&end("run"), &end("whole"));
    place.gpu_gan(&format!("{} --steps 4 --out plain", train.replace("spectral.toml", "bare.toml"))).succeeds();
    let text = String::from_utf8_lossy(&end("whole")).into_owned();
    assert!(text.contains("weight_orig") && text.contains("weight_u"));
    assert!(!String::from_utf8_lossy(&end("plain")).contains("weight_u"));
    place.gpu_gan("sample whole --seeds 0-3 --out four.png --device cpu").succeeds();
}

#[test]
fn a_decaying_rate_learns_less_and_less() {
    let place = place();
    for decay in ["constant", "linear", "cosine"] {
        place.gpu_gan(&format!("{TRAIN} --steps 6 --decay {decay} --last-rate 0.1 --out {decay}")).succeeds();
    }
    let end = |run: &str| place.read(&format!("{run}/checkpoints/step-00000006.safetensors"));
    assert!(end("constant") != end("linear") && end("linear") != end("cosine"));
    let said = place.gpu_gan(&format!("{TRAIN} --steps 6 --decay cosine --last-rate 0.1 --warm-up 3 --dry-run"));
    said.succeeds().remarks("Adam 0.002 (0.5, 0.99), warmed up for 3 steps, cosine to 0.1 of it, seed 0");
}

#[test]
fn a_penalty_that_cannot_be_computed_is_refused_with_the_layer() {
    let place = Place::new();
    for flag in ["--r1 1", "--r2 1", "--gp 10"] {
        let said = place.train(&format!("--steps 2 {flag}")).refused();
        said.error("discriminator layer 1 (batch-norm)").hint("dcgan-fast");
    }
    let said = place.gpu_gan("train shapes --device cpu --model upconv-64 --upscale --channels 1 --r1 1 --steps 1");
    said.refused().error("discriminator layer 4 (max-pool)");
}

#[test]
fn labels_that_a_loss_does_not_have_cannot_be_smoothed() {
    let place = Place::new();
    place.train("--steps 2 --label-smoothing 0.1").succeeds().remarks("non-saturating loss, labels smoothed by 0.1");
    for loss in ["hinge", "wasserstein", "relativistic"] {
        let said = place.train(&format!("--steps 2 --out other --loss {loss} --label-smoothing 0.1")).refused();
        said.error(&format!("the {loss} loss has no labels")).hint("--label-smoothing");
    }
}

#[test]
fn a_model_file_says_how_it_learns_and_its_mistakes_are_told_with_their_place() {
    let place = place();
    let with = |section: &str| without_batch_norm().replace("\n[initial]", &format!("\n{section}\n[initial]"));
    let recipe = "r1 = 0.5\npenalty-every = 4\nd-lr = 1e-3\ndecay = \"linear\"\n";
    place.write("recipe.toml", with(recipe).as_bytes());
    let said = place.gpu_gan("train shapes --device cpu --model recipe.toml --dry-run").succeeds();
    said.remarks("non-saturating loss, R1 0.5 every 4 steps").remarks("linear to 0 of it, discriminator 0.001");
    for (section, fact) in [
        ("r3 = 1", "[training] has the unknown key `r3`"),
        ("r1 = -1", "[training] has r1 = -1"),
        ("penalty-every = 0", "[training] has penalty-every = 0"),
        ("decay = \"fast\"", "[training] has decay = \"fast\""),
        ("last-rate = 2", "[training] has last-rate = 2"),
    ] {
        place.write("bad.toml", with(section).as_bytes());
        place.gpu_gan("summary bad.toml").refused().error("bad.toml, line ").error(fact);
    }
    place.write(
        "bad.toml",
        without_batch_norm().replace("ema-decay = 0.9", "ema-decay = 0.9\nloss = \"l1\"").as_bytes(),
    );
    place.gpu_gan("summary bad.toml").refused().error("[training] has loss = \"l1\"").error("relativistic");
    let said = place.gpu_gan(&format!("{TRAIN} --loss l1")).misused();
    assert!(said.stderr().contains("possible values: non-saturating, minimax"), "{}", said.stderr());
}

#[test]
fn on_few_images_a_run_has_the_steps_that_the_model_wants_at_least_unless_told_otherwise() {
    let place = place();
    let patient = without_batch_norm().replace("epochs = 2\n", "epochs = 2\nmin-steps = 33\n");
    place.write("patient.toml", patient.as_bytes());
    let train = |more: &str| {
        let said = place.gpu_gan(&format!("train shapes --device cpu --model patient.toml --dry-run {more}"));
        said.succeeds().stderr()
    };
    // Forty images, four in a step: two epochs are twenty steps.
    assert!(train("").contains("training       33 steps of 4 images (3.3 epochs)"), "{}", train(""));
    assert!(train("--batch-size 2").contains("training       40 steps of 2 images (2 epochs)"));
    assert!(train("--epochs 1").contains("training       10 steps of 4 images (1 epoch)"));
    assert!(train("--steps 5").contains("training       5 steps of 4 images (0.5 epochs)"));
}
