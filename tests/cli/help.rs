//! What the program says of itself, and of a command line that is none.

use crate::place::Place;

#[test]
fn the_program_explains_itself() {
    let place = Place::empty();
    for help in ["--help", "-h", "help"] {
        let said = place.gpu_gan(help).succeeds().prints("Usage: gpu-gan <COMMAND>");
        ["train", "sample", "interpolate", "eval", "models", "summary", "devices", "verify", "bench"]
            .iter()
            .fold(said, |said, command| said.prints(&format!("\n  {command} ")));
    }
    place.gpu_gan("--help").succeeds().prints("gpu-gan train mnist");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table with an entry for each command")]
fn every_command_explains_its_flags() {
    let place = Place::empty();
    for (command, words) in [
        (
            "train",
            &[
                "[DATA]",
                "mnist",
                "aerial",
                "PNG, JPEG",
                "IDX",
                "--model",
                "--channels",
                "--conditional",
                "--epochs",
                "--steps",
                "--batch-size",
                "--lr",
                "--beta1",
                "--beta2",
                "--d-lr",
                "--warm-up",
                "--decay",
                "--last-rate",
                "non-saturating",
                "--label-smoothing",
                "--r1",
                "--r2",
                "--gp",
                "--penalty-every",
                "--rotate",
                "--diff-augment",
                "--flip",
                "--quarter-turns",
                "--seed",
                "--out",
                "--device",
                "--data-memory",
                "--resume",
                "--sample-every",
                "--checkpoint-every",
                "--keep-checkpoints",
                "--stop-when-flat",
                "--time",
                "--dry-run",
                "--tile",
                "--stride",
                "--upscale",
                "--no-cache",
                "[default: dcgan-fast,",
                "dcgan-fast-64 for",
                "[default: 1epoch]",
            ][..],
        ),
        (
            "sample",
            &[
                "<RUN>",
                "--count",
                "--seeds",
                "--class",
                "--out",
                "--best",
                "--raw",
                "--device",
                "[default: 64]",
                ".png",
                ".npy",
            ][..],
        ),
        ("models", &["List the models"][..]),
        ("summary", &["[MODEL]", "--channels", "[default: dcgan-fast]"][..]),
        (
            "interpolate",
            &["<RUN>", "--seeds", "--out", "--frames", "--fps", "--scale", "--best", "--raw", "--device", ".gif"][..],
        ),
        ("devices", &["List the GPUs", "--json"][..]),
        ("verify", &["Check that a GPU", "--quick", "--full", "--json", "--device"][..]),
        (
            "bench",
            &[
                "--model",
                "--batch-size",
                "--operations",
                "--steps",
                "--sweep",
                "--plot",
                "--seconds",
                "--json",
                "--device",
            ][..],
        ),
        (
            "eval",
            &["<RUN>", "--count", "--best", "--neighbours", "--out", "--raw", "--json", "--device", "[default: 10000"]
                [..],
        ),
    ] {
        for help in [format!("{command} --help"), format!("help {command}")] {
            let said = place.gpu_gan(&help).succeeds().prints(&format!("Usage: gpu-gan {command}"));
            words.iter().fold(said, |said, word| said.prints(word));
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let said = Place::empty().gpu_gan("--version").succeeds();
    assert_eq!(said.stdout(), format!("gpu-gan {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_command_line_that_is_none_is_exit_code_2() {
    let place = Place::with_run("--steps 1");
    for nonsense in [
        "",
        "paint",
        "--paint",
        "train",
        "train shapes --paint",
        "train shapes more-shapes",
        "train shapes --lr",
        "train shapes --lr fast",
        "train shapes --steps 1.5",
        "train shapes --steps 1 --epochs 1",
        "train shapes --sample-every 5parsecs",
        "train shapes --checkpoint-every 0steps",
        "train shapes --keep-checkpoints 0",
        "sample",
        "sample run --count many",
        "sample run --count 1 --seeds 1",
        "interpolate run",
        "interpolate run --seeds 1,2 --frames many",
        "eval",
        "eval run --count many",
        "summary --steps 1",
        "devices cpu",
    ] {
        place.gpu_gan(nonsense).misused();
    }
}
