//! `gpu-gan train`: the run folder and the output.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;

use crate::checkpoint::{Checkpoint, assert_same_bits, assert_same_tensors};
use crate::place::{IMAGES, Place, TINY, contents, shapes};

const COLUMNS: [&str; 11] = [
    "step",
    "epoch",
    "d_loss",
    "g_loss",
    "d_real",
    "d_fake",
    "d_accuracy",
    "fd",
    "fd_se",
    "fd_blocks",
    "images_per_second",
];

#[test]
fn a_run_is_a_folder_with_everything_about_it() {
    let place = Place::with_run("--steps 6");
    let decided_and_happened = [
        "checkpoints",
        "config.toml",
        "events.out.tfevents.gpu-gan",
        "local.toml",
        "log.jsonl",
        "losses.csv",
        "model.toml",
    ];
    let to_look_at = ["plots", "real-vs-fake.png", "report.html", "samples"];
    assert_eq!(place.names("run"), [&decided_and_happened[..], &to_look_at[..]].concat());
    let samples = ["epoch-0000.png", "epoch-0001-step-000006.png", "progress.gif", "reals.png"];
    assert_eq!(place.names("run/samples"), samples);
    assert_eq!(place.names("run/checkpoints"), ["step-00000006.safetensors"]);
}

#[test]
fn the_configuration_has_every_option() {
    let place = Place::with_run("--steps 6 --batch-size 5 --seed 7 --lr 0.001 --beta1 0.25 --beta2 0.75");
    let config: toml::Table = toml::from_str(&place.text("run/config.toml")).unwrap();
    let run = config["run"].as_table().unwrap();
    assert_eq!(run["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(run["device-name"].as_str(), Some("CPU, 2 threads"));
    assert_eq!((run["model-name"].as_str(), run["images"].as_integer()), (Some("tiny"), Some(IMAGES as i64)));
    assert_eq!(config["data"].as_str(), Some("../shapes"));
    assert_eq!((config["model"].as_str(), config["device"].as_str()), (Some("model.toml"), Some("cpu")));
    for (key, value) in [("batch-size", 5), ("steps", 6), ("seed", 7), ("keep-checkpoints", 3)] {
        assert_eq!(config[key].as_integer(), Some(value), "{key}");
    }
    for (key, value) in [("lr", 0.001), ("beta1", 0.25), ("beta2", 0.75), ("eps", 1e-8)] {
        assert_eq!(config[key].as_float(), Some(value), "{key}");
    }
    for (key, value) in [("sample-every", "100times"), ("checkpoint-every", "100times"), ("eval-every", "10times")] {
        assert_eq!(config[key].as_str(), Some(value), "{key}");
    }
    assert_eq!(place.text("run/model.toml"), TINY);
}

#[test]
fn defaults_are_those_of_the_model() {
    let place = Place::with_run("");
    let config: toml::Table = toml::from_str(&place.text("run/config.toml")).unwrap();
    for (key, value) in [("batch-size", 4), ("steps", 20), ("seed", 0)] {
        assert_eq!(config[key].as_integer(), Some(value), "{key}");
    }
    assert_eq!(config["lr"].as_float(), Some(2e-3));
    let samples = ["epoch-0000.png", "epoch-0001.png", "epoch-0002.png", "progress.gif", "reals.png"];
    assert_eq!(place.names("run/samples"), samples);
    let checkpoints = ["best.safetensors", "step-00000010.safetensors", "step-00000020.safetensors"];
    assert_eq!(place.names("run/checkpoints"), checkpoints);
    let measured: Vec<bool> = place.text("run/losses.csv").lines().skip(1).map(|row| !row.contains(",,")).collect();
    let after_each_epoch: Vec<bool> = (1..=20).map(|step| step % 10 == 0).collect();
    assert_eq!(measured, after_each_epoch);
}

#[test]
fn every_step_has_its_row_in_both_logs() {
    let place = Place::with_run("--steps 12 --eval-every never");
    let csv = place.text("run/losses.csv");
    let mut table = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(table.headers().unwrap(), &COLUMNS[..]);
    // A cell is empty where a line has null.
    let cell = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    let rows: Vec<Vec<Option<f64>>> = table.records().map(|row| row.unwrap().iter().map(cell).collect()).collect();
    let lines = place.text("run/log.jsonl");
    let lines: Vec<BTreeMap<String, Option<f64>>> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), lines.len()), (12, 12));
    for (number, (row, line)) in rows.iter().zip(&lines).enumerate() {
        assert_eq!(row[..2], [Some(number as f64 + 1.0), Some(if number < 10 { 1.0 } else { 2.0 })], "step and epoch");
        assert_eq!(line.len(), COLUMNS.len());
        for (column, value) in COLUMNS.iter().zip(row) {
            // Nothing was evaluated.
            let sound = value.map_or(column.starts_with("fd"), |value| {
                value.is_finite() && value >= 0.0 && !column.starts_with("fd")
            });
            assert!(sound, "{column} is {value:?} in row {number}");
            assert_eq!(line[*column].map(f64::to_bits), value.map(f64::to_bits), "{column} of line {number}");
        }
    }
}

#[test]
fn sheets_have_the_size_of_their_grid() {
    let place = Place::with_run("--steps 6");
    // 64 images in 8 rows, enlarged 11 times, with gaps of 2 pixels.
    let side = 8 * (8 * 11 + 2) + 2;
    for sheet in ["epoch-0000", "epoch-0001-step-000006"] {
        assert_eq!(place.image(&format!("run/samples/{sheet}.png")).dimensions(), (side, side), "{sheet}");
    }
    // All 40 real images, in 6 rows of 7, enlarged 12 times.
    let reals = place.image("run/samples/reals.png");
    assert_eq!(reals.dimensions(), (7 * (8 * 12 + 2) + 2, 6 * (8 * 12 + 2) + 2));
    let first: Vec<u8> = (0..64).map(|at| reals.get_pixel(2 + 12 * (at % 8), 2 + 12 * (at / 8)).0[0]).collect();
    assert!(shapes()[16..].chunks(64).any(|image| image == first), "the first real image is none of the data set");
}

#[test]
fn a_checkpoint_is_a_safetensors_file_with_both_networks_the_ema_and_the_moments() {
    let place = Place::with_run("--steps 6");
    let checkpoint = Checkpoint::of(&place.read("run/checkpoints/step-00000006.safetensors"));
    let shape = |name: &str| checkpoint.tensors.get(name).unwrap_or_else(|| panic!("no {name}")).shape.clone();
    for (name, expected) in [
        ("generator.0.weight", &[32, 4][..]), // PyTorch's layouts: (out, in), (in, out, K, K), (out, in, K, K)
        ("generator.2.weight", &[2]),
        ("generator.2.bias", &[2]),
        ("generator.4.weight", &[2, 1, 2, 2]),
        ("generator.4.bias", &[1]),
        ("discriminator.0.weight", &[2, 1, 4, 4]),
        ("discriminator.1.weight", &[2]),
        ("discriminator.1.bias", &[2]),
        ("discriminator.4.weight", &[1, 32]),
        ("discriminator.4.bias", &[1]),
    ] {
        let average = name.starts_with("generator").then_some("ema.");
        for prefix in ["", "adam.m.", "adam.v."].into_iter().chain(average) {
            assert_eq!(shape(&format!("{prefix}{name}")), expected, "{prefix}{name}");
        }
    }
    for name in ["generator.2", "discriminator.1"] {
        for statistic in ["running_mean", "running_var"] {
            assert_eq!(shape(&format!("{name}.{statistic}")), [2]);
        }
    }
    assert_eq!(checkpoint.tensors.len(), 3 * 10 + 5 + 4, "more tensors than those");
    assert!(checkpoint.tensors.values().all(|tensor| tensor.dtype == Dtype::F32));
    assert!(checkpoint.is_finite());
    let moved = |name: &str| checkpoint.tensors[name].values().iter().any(|value| *value != 0.0);
    for name in ["adam.m.generator.0.weight", "adam.v.discriminator.4.weight", "generator.2.running_mean"] {
        assert!(moved(name), "{name} is still as it began");
    }
    assert!(checkpoint.tensors["generator.0.weight"] != checkpoint.tensors["ema.generator.0.weight"]);
}

#[test]
fn the_last_lines_name_the_sheet_and_the_next_commands() {
    let place = Place::new();
    let text = place.train("--steps 6").succeeds().prints("6 steps in ").stdout();
    let sheet = text.split("Look at ").nth(1).unwrap().lines().next().unwrap();
    assert_eq!(Path::new(sheet), Path::new("runs/shapes-0001/samples/epoch-0001-step-000006.png"));
    let run: Vec<_> = text.split("The run:").nth(1).unwrap().lines().next().unwrap().split_whitespace().collect();
    assert_eq!(run, ["runs/shapes-0001/report.html", "and", "runs/shapes-0001/samples/progress.gif"]);
    assert!(place.has(run[0]) && place.has(run[2]));
    place.image(sheet);
    let proposal = text.split("gpu-gan ").nth(1).unwrap().trim();
    place.gpu_gan(proposal).succeeds();
    place.image("more.png");
}

#[test]
fn the_progress_is_on_standard_error() {
    let said = Place::new().train("--steps 6").succeeds();
    ["device         CPU, 2 threads", "shapes: 40 images of 8 x 8 x 1", "141 parameters", "69 parameters", "step 6/6"]
        .iter()
        .fold(said, |said, fact| said.remarks(fact));
}

#[test]
fn runs_without_a_name_are_numbered() {
    let place = Place::new();
    for number in ["0001", "0002"] {
        place.train("--steps 1").succeeds().prints(&format!("shapes-{number}"));
    }
    assert_eq!(place.names("runs"), ["shapes-0001", "shapes-0002"]);
    place.gpu_gan("train shapes/train-images-idx3-ubyte --model tiny.toml --device cpu --steps 1").succeeds();
    assert_eq!(place.names("runs"), ["shapes-0001", "shapes-0002", "train-images-0001"]);
}

#[test]
fn the_digits_are_built_in_and_need_no_file() {
    let place = Place::empty();
    place
        .gpu_gan("train mnist --device cpu --steps 1 --batch-size 4")
        .succeeds()
        .remarks("60000 images of 28 x 28 x 1");
    assert_eq!(place.names("."), ["runs"]);
    assert_eq!(place.names("runs"), ["mnist-0001"]);
    assert_eq!(place.image("runs/mnist-0001/samples/epoch-0001-step-000001.png").dimensions(), (690, 690));
}

#[test]
fn missing_folders_are_created_and_an_empty_folder_is_used() {
    let place = Place::new();
    place.train("--steps 1 --out a/b/c").succeeds().prints("a/b/c");
    std::fs::create_dir(place.path("empty")).unwrap();
    place.train("--steps 1 --out empty").succeeds();
    assert!(place.has("a/b/c/config.toml") && place.has("empty/config.toml"));
    assert!(!place.has("runs"));
}

#[test]
fn sheets_and_checkpoints_are_written_at_their_intervals_and_at_the_end() {
    let place = Place::with_run("--steps 8 --sample-every 3steps --checkpoint-every 5steps");
    let sheets = [0, 3, 6, 8].map(|step| match step {
        0 => "epoch-0000.png".to_string(),
        step => format!("epoch-0001-step-{step:06}.png"),
    });
    assert_eq!(place.names("run/samples")[..4], sheets);
    assert_eq!(place.names("run/checkpoints"), ["step-00000005.safetensors", "step-00000008.safetensors"]);
}

#[test]
fn more_frequent_sheets_and_checkpoints_do_not_change_the_weights() {
    let place = Place::with_run("--steps 12");
    place.train("--steps 12 --sample-every 1step --checkpoint-every 1step --out often").succeeds();
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000012.safetensors"));
    assert_same_tensors(&last("run"), &last("often"));
}

#[test]
fn equal_seeds_give_equal_bits_and_different_seeds_different_bits() {
    let place = Place::new();
    for (out, seed) in [("one", 3), ("two", 3), ("other", 4)] {
        place.train(&format!("--steps 12 --seed {seed} --out {out}")).succeeds();
    }
    for step in ["step-00000010", "step-00000012"] {
        let checkpoint = |run: &str| place.read(&format!("{run}/checkpoints/{step}.safetensors"));
        assert_same_bits(&checkpoint("one"), &checkpoint("two"));
        let [one, other] = ["one", "other"].map(|run| Checkpoint::of(&checkpoint(run)));
        assert!(one.tensors["generator.0.weight"] != other.tensors["generator.0.weight"]);
    }
    let sheets = |run: &str| contents(&place.path(&format!("{run}/samples")));
    assert_eq!(sheets("one").len(), 5);
    assert!(sheets("one") == sheets("two"));
    for (name, sheet) in sheets("other") {
        assert!(sheet != sheets("one")[&name], "{name} is the same with another seed");
    }
}

#[test]
fn a_dry_run_shows_the_tables_and_writes_nothing() {
    let place = Place::new();
    let before = place.everything();
    for out in ["", "--out run"] {
        let said = place.train(&format!("--steps 6 --dry-run {out}")).succeeds();
        let said =
            said.prints("tiny\n").prints("\ngenerator ").prints("\ndiscriminator ").remarks("training       6 steps");
        assert!(!said.stdout().contains("Look at"));
    }
    assert!(place.everything() == before);
}

#[test]
fn a_dry_run_of_resuming_writes_nothing() {
    let place = Place::with_run("--steps 2");
    let before = place.everything();
    place.resume("run", "--steps 4 --dry-run").succeeds().remarks("resumed        after step 2").prints("tiny\n");
    assert!(place.everything() == before);
}

#[test]
fn a_dry_run_refuses_what_a_run_refuses() {
    let place = Place::with_run("--steps 1");
    for mistake in ["--loss hinge --label-smoothing 0.1", "--r1 1", "--out run", "--out tiny.toml"] {
        let error = |text: String| text.lines().find(|line| line.starts_with("error: ")).map(String::from);
        let run = error(place.train(&format!("--steps 2 {mistake}")).refused().stderr());
        let dry_run = error(place.train(&format!("--steps 2 --dry-run {mistake}")).refused().stderr());
        assert_eq!(run, dry_run);
    }
}

#[test]
fn the_newest_three_checkpoints_stay_unless_told_otherwise() {
    let place = Place::new();
    let names = |run: &str| place.names(&format!("{run}/checkpoints"));
    let step = |step: usize| format!("step-{step:08}.safetensors");
    let often = "--steps 12 --checkpoint-every 2steps --eval-every never";
    place.train(&format!("{often} --out three")).succeeds();
    assert_eq!(names("three"), [8, 10, 12].map(step));
    place.train(&format!("{often} --keep-checkpoints 1 --out one")).succeeds();
    assert_eq!(names("one"), [12].map(step));
    place.train(&format!("{often} --keep-checkpoints all --out all")).succeeds();
    assert_eq!(names("all"), [2, 4, 6, 8, 10, 12].map(step));
    // What a person laid there stays, and so do steps that are still to come when a run goes on from an earlier one.
    place.write("all/checkpoints/step-4.safetensors", b"mine");
    let early = format!("all/checkpoints/{}", step(6));
    place.resume(&early, "--steps 9 --checkpoint-every 100steps").succeeds();
    assert_eq!(
        names("all"),
        [2, 4, 6, 8, 9, 10, 12].map(step).into_iter().chain(["step-4.safetensors".into()]).collect::<Vec<_>>()
    );
}
