//! Diverged runs: they stop, name the step, and keep the last good checkpoint.

use crate::checkpoint::Checkpoint;
use crate::place::{Place, TINY};

/// Layers that multiply a signal twenty times: with large weights it leaves the range of f32 on its way.
fn many_layers() -> String {
    "    { layer = \"linear\", features = 8 },\n".repeat(20)
}

/// The tiny model with many more layers at the end of its discriminator, and with weights that begin `std` wide.
fn deep(std: &str) -> String {
    let last = "    { layer = \"linear\", features = 1 },\n";
    TINY.replace(last, &format!("{}{last}", many_layers())).replace("std = 0.2 }", &format!("std = {std} }}"))
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_at_its_step() {
    let place = Place::new();
    place.write("deep.toml", deep("1000.0").as_bytes());
    let said = place.gpu_gan("train shapes --model deep.toml --device cpu --steps 20 --out run").fails();
    said.error("diverged")
        .error("loss is not a finite number at step 1")
        .hint("no checkpoint was written before that step");
    assert_eq!(place.names("run/checkpoints"), [""; 0]);
    assert_eq!(place.text("run/losses.csv").lines().count(), 1, "a row that is no number was logged");
    assert_eq!(place.names("run/samples"), ["epoch-0000.png", "reals.png"]);
    place.has_no_temporary_files();
    place.resume("run", "").refused().error("holds no checkpoint");
}

#[test]
fn an_image_that_is_no_number_stops_the_run_before_its_first_step() {
    let place = Place::new();
    let model = TINY.replace("generator = [\n", &format!("generator = [\n{}", many_layers()));
    place.write("deep.toml", model.replace("std = 0.2 }", "std = 1000.0 }").as_bytes());
    let said = place.gpu_gan("train shapes --model deep.toml --device cpu --steps 20 --out run").fails();
    said.error("diverged").error("at step 0").hint("no checkpoint was written before that step");
    assert_eq!(place.names("run/samples"), ["reals.png"]);
}

#[test]
fn a_run_that_diverges_later_names_its_last_good_checkpoint() {
    let place = Place::new();
    // Steps as long as the weights themselves: the signal grows until it leaves the range, in some twenty steps.
    place.write("deep.toml", deep("0.35").as_bytes());
    let often = "--checkpoint-every 5steps --keep-checkpoints all";
    let call =
        place.gpu_gan(&format!("train shapes --model deep.toml --device cpu --steps 400 --lr 0.5 --out run {often}"));
    let said = call.fails().error("diverged").error("is not a finite number at step ");
    let step: usize = said.stderr().lines().find_map(|line| line.split("at step ").nth(1)?.parse().ok()).unwrap();
    let checkpoints = place.names("run/checkpoints");
    let last = format!("run/checkpoints/{}", checkpoints.last().expect("it lasts for some steps"));
    said.hint(&last).hint("--lr");

    assert_eq!(checkpoints.len(), (step - 1) / 5, "of {step} steps");
    for name in &checkpoints {
        let checkpoint = Checkpoint::of(&place.read(&format!("run/checkpoints/{name}")));
        assert!(checkpoint.is_finite(), "{name}");
    }
    let losses = place.text("run/losses.csv");
    assert!(!losses.contains("NaN") && !losses.contains("inf"), "{losses}");
    place.sample(&last, "").succeeds();
    place.has_no_temporary_files();

    // It ends at the same step again, and what is there stays.
    let before = place.read(&last);
    place.resume("run", often).fails().error(&format!("at step {step}")).hint(&last);
    assert!(place.read(&last) == before && place.names("run/checkpoints") == checkpoints);
}
