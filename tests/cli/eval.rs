//! `gpu-gan eval`: metrics of a run and of a data set, and errors.

use crate::place::{Call, Place, SHAPES};

/// `gpu-gan eval` with a cache in the place.
fn eval<'a>(place: &'a Place, arguments: &str) -> Call<'a> {
    let cache = place.path("cache");
    place.gpu_gan(&format!("eval --device cpu {arguments}")).env("GPU_GAN_CACHE", cache.to_str().unwrap())
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_run_has_figures_beside_those_of_real_images_as_a_table_and_as_json() {
    let place = Place::with_run("--steps 6 --checkpoint-every 3steps");
    let said = eval(&place, "run").succeeds();
    let said = said.remarks("classifier  ").remarks("on 4 test images").remarks("(step 6)");
    let text = said.stdout();
    for words in [
        "40 images of run/checkpoints/step-00000006.safetensors (seeds 1000000 to 1000039)",
        "128 features of a classifier",
        "this run   real images",
        "\nclassifier score ",
        "\nFréchet distance ",
        "\nprecision ",
        "\nrecall ",
        "\ndensity ",
        "\ncoverage ",
        "\nclass 9 ",
        "one half of the data set, 20 images, against the other 20",
        "too few for 128 features",
    ] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }

    // The classifier is there already, so the same is said again, and at once.
    let again = eval(&place, "run").succeeds();
    assert_eq!(again.stdout(), text);
    let report = json(&eval(&place, "run --json").succeeds().stdout());
    assert_eq!(report["network"], "classifier");
    assert_eq!(report["classes"], 10);
    assert_eq!(report["run"]["step"], 6);
    assert_eq!(report["run"]["first_seed"], 1_000_000);
    assert_eq!(report["run"]["metrics"]["images"], 40);
    assert_eq!(report["real_images"]["images"], 20);
    assert!(report["noise"].is_null());
    for figures in [&report["run"]["metrics"], &report["real_images"]] {
        for name in ["score", "frechet", "precision", "recall", "density", "coverage"] {
            assert!(figures[name].as_f64().is_some_and(f64::is_finite), "{name} of {figures}");
        }
        let classes: u64 = figures["classes"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(Some(classes), figures["images"].as_u64());
    }

    // Other images have other figures: fewer, raw, of another checkpoint.
    let figures =
        |arguments: &str| json(&eval(&place, &format!("{arguments} --json")).succeeds().stdout())["run"].clone();
    let fewer = figures("run --count 12");
    assert_eq!(fewer["metrics"]["images"], 12);
    for other in ["run --raw", "run/checkpoints/step-00000003.safetensors"] {
        assert_ne!(figures(other)["metrics"], report["run"]["metrics"], "{other}");
    }
    place.has_no_temporary_files();
}

#[test]
fn every_checkpoint_of_a_run_has_the_figures_that_it_has_alone() {
    let place = Place::with_run("--steps 6 --checkpoint-every 2steps");
    let said = eval(&place, "run --every-checkpoint").succeeds().remarks("(step 2)").remarks("(step 6)");
    let rows = said.stdout();
    let rows: Vec<&str> = rows.lines().skip_while(|line| !line.contains("   score   ")).skip(1).take(3).collect();
    assert_eq!(rows.iter().filter(|row| row.ends_with("the lowest distance")).count(), 1, "{rows:?}");
    let report = json(&eval(&place, "run --every-checkpoint --json").succeeds().stdout());
    for (number, step) in [2, 4, 6].into_iter().enumerate() {
        let alone = format!("run/checkpoints/step-{step:08}.safetensors --json");
        let alone = json(&eval(&place, &alone).succeeds().stdout());
        assert_eq!(report["checkpoints"][number]["step"], step);
        assert_eq!(report["checkpoints"][number]["metrics"], alone["run"]["metrics"], "step {step}");
        assert!(alone["checkpoints"].is_null());
        let distance = format!(" {:.2} ", alone["run"]["metrics"]["frechet"].as_f64().unwrap());
        assert!(rows[number].contains(&distance) && rows[number].trim().starts_with(&step.to_string()), "{rows:?}");
    }
    eval(&place, "run/checkpoints/step-00000002.safetensors --every-checkpoint")
        .refused()
        .error("is a checkpoint file, not a run folder");
    eval(&place, "shapes --model tiny.toml --every-checkpoint").refused().error("is not a run");
}

#[test]
fn images_without_labels_have_the_best_and_the_worst_figures_there_can_be() {
    let place = Place::new();
    std::fs::remove_file(place.path("shapes/train-labels-idx1-ubyte")).unwrap();
    let said =
        eval(&place, "shapes --model tiny.toml --count 20").succeeds().prints("256 features of a random network");
    let text = said.stdout();
    assert!(text.contains("real images         noise") && !text.contains("score") && !text.contains("class"), "{text}");
    let report = json(&eval(&place, "shapes --model tiny.toml --count 20 --json").succeeds().stdout());
    assert!(report["run"].is_null());
    assert_eq!(report["network"], "random");
    let distance = |name: &str| report[name]["frechet"].as_f64().unwrap();
    assert!(distance("noise") > 2.0 * distance("real_images"), "{report}");
    assert!(!place.has("cache"), "nothing was learnt, so nothing is kept");
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let place = Place::with_run("--steps 1");
    eval(&place, "nothing").refused().error("there is no run, checkpoint or data set at nothing");
    eval(&place, "tiny.toml").refused().error("tiny.toml");
    eval(&place, "run --count 5").refused().error("--count cannot be 5");
    eval(&place, "run --count 41").refused().error("--count cannot be 41").hint("choose 6 to 40");
    place.write("broken.safetensors", b"hello");
    eval(&place, "broken.safetensors").refused().error("is not a checkpoint");

    let mut images = place.read(SHAPES);
    *images.last_mut().unwrap() ^= 1;
    place.write(SHAPES, &images);
    eval(&place, "run")
        .refused()
        .error("are not those that the run was trained on")
        .hint("name their new path with --data");
    std::fs::remove_dir_all(place.path("shapes")).unwrap();
    eval(&place, "run").refused().error("cannot be opened").hint("name their new path with --data");
}

#[test]
fn a_classifier_that_cannot_be_kept_is_used_all_the_same() {
    let place = Place::with_run("--steps 1");
    place.write("cache", b"a file where the folder should be");
    eval(&place, "run").succeeds().remarks("the classifier is not saved in the cache").prints("Fréchet distance");
}
