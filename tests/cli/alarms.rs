//! Runs that go wrong say so, and what to try.

use crate::place::{Place, TINY};

#[test]
fn a_discriminator_that_wins_is_said_once_in_the_log_and_on_the_page() {
    let place = Place::new();
    let call = "--steps 1500 --lr 1e-9 --d-lr 0.02 --eval-every never --sample-every 1000000steps --out run";
    let said = place.train(call).succeeds();
    let text = said.stderr();
    let alarms: Vec<&str> = text.lines().filter(|line| line.starts_with("alarm ")).collect();
    assert_eq!(alarms.len(), 1, "{text}");
    assert!(alarms[0].contains("the discriminator has won: over the last 500 steps it was right on "), "{}", alarms[0]);
    said.remarks("try a lower --d-lr, such as 0.005, --label-smoothing 0.1");
    let log = place.text("run/alarms.jsonl");
    let raised: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert_eq!(raised["kind"], "discriminator-won");
    assert!(raised["step"].as_u64().is_some_and(|step| (500..=1500).contains(&step)), "{log}");
    assert!(place.text("run/report.html").contains("class=\"alarm\""));

    // It is not said again when the run goes on, and still stands on the page.
    let said = place.resume("run", "--steps 2500").succeeds();
    assert!(!said.stderr().contains("alarm "), "{}", said.stderr());
    assert_eq!(place.text("run/alarms.jsonl"), log);
    assert!(place.text("run/report.html").contains("the discriminator has won"));
}

#[test]
fn a_discriminator_that_cannot_tell_anything_is_said() {
    let place = Place::new();
    // Weights of zero have no gradients, so neither network ever learns anything.
    place.write("dead.toml", TINY.replace("std = 0.2 }", "std = 0.0 }").as_bytes());
    let call = "train shapes --model dead.toml --device cpu --steps 600 --eval-every never --out run";
    let said = place.gpu_gan(call).succeeds();
    said.remarks(
        "alarm       after step 500: the discriminator has lost: over the last 500 steps it found real images as real",
    )
    .remarks("and was right on 50.0 % of them")
    .remarks("try a higher --d-lr, such as 0.008, ");
}

#[test]
fn images_that_are_all_alike_are_said() {
    let place = Place::new();
    // A generator whose latents have no weight makes the same image again and again.
    let alike = TINY.replace("std = 0.2 }", "std = 1e-9 }").replace("lr = 2e-3", "lr = 1e-12");
    assert!(alike.contains("lr = 1e-12"));
    place.write(
        "alike.toml",
        alike.replace("    { layer = \"batch-norm\" },\n    { layer = \"relu\" },\n", "").as_bytes(),
    );
    let call = "train shapes --model alike.toml --device cpu --steps 520 --eval-every 510steps --out run";
    let said = place
        .gpu_gan(call)
        .succeeds()
        .remarks("alarm       after step 510: the images are much the same: they spread 0.0");
    said.remarks("try ");
}

#[test]
fn a_run_in_which_both_networks_learn_raises_no_alarm() {
    let place = Place::new();
    let said = place.train("--steps 1000 --d-lr 1e-3 --eval-every never --sample-every 1000steps --out run").succeeds();
    assert!(!said.stderr().contains("alarm ") && !place.has("run/alarms.jsonl"), "{}", said.stderr());
}
