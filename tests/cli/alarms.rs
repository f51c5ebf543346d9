//! Alarms: what a run that fails prints.

use crate::place::{Place, TINY};

#[test]
fn a_discriminator_that_wins_raises_one_alarm_in_the_log_and_on_the_page() {
    let place = Place::new();
    let call = "--steps 1500 --lr 1e-9 --d-lr 0.02 --eval-every never --sample-every 1000000steps --out run";
    let said = place.train(call).succeeds();
    let text = said.stderr();
    let alarms: Vec<&str> = text.lines().filter(|line| line.starts_with("alarm ")).collect();
    assert_eq!(alarms.len(), 1, "{text}");
    assert!(
        alarms[0].contains("the discriminator has won: over the last 500 steps its accuracy was "),
        "{}",
        alarms[0]
    );
    said.remarks("try a lower --d-lr, such as 0.005, --label-smoothing 0.1");
    let log = place.text("run/alarms.jsonl");
    let raised: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert_eq!(raised["kind"], "discriminator-won");
    assert!(raised["step"].as_u64().is_some_and(|step| (500..=1500).contains(&step)), "{log}");
    assert!(place.text("run/report.html").contains("class=\"alarm\""));

    // The resumed run does not raise it again, and still shows it on the page.
    let said = place.resume("run", "--steps 2500").succeeds();
    assert!(!said.stderr().contains("alarm "), "{}", said.stderr());
    assert_eq!(place.text("run/alarms.jsonl"), log);
    assert!(place.text("run/report.html").contains("the discriminator has won"));
}

#[test]
fn a_discriminator_that_loses_raises_an_alarm() {
    let place = Place::new();
    // Weights of zero have no gradients, so neither network learns.
    place.write("dead.toml", TINY.replace("std = 0.2 }", "std = 0.0 }").as_bytes());
    let call = "train shapes --model dead.toml --device cpu --steps 600 --eval-every never --out run";
    let said = place.gpu_gan(call).succeeds();
    said.remarks(
        "alarm       after step 500: the discriminator has lost: over the last 500 steps it could not tell real images",
    )
    .remarks("its accuracy was 50.0 %")
    .remarks("try a higher --d-lr, such as 0.008, ");
}

#[test]
fn collapsed_images_raise_an_alarm() {
    let place = Place::new();
    // A generator that ignores its latents always generates the same image.
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
        .remarks("alarm       after step 510: mode collapse: the spread of the generated images is 0.0");
    said.remarks("try ");
}

#[test]
fn a_run_in_which_both_networks_learn_raises_no_alarm() {
    let place = Place::new();
    let said = place.train("--steps 1000 --d-lr 1e-3 --eval-every never --sample-every 1000steps --out run").succeeds();
    assert!(!said.stderr().contains("alarm ") && !place.has("run/alarms.jsonl"), "{}", said.stderr());
}
