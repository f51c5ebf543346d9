//! `gpu-gan train` with invalid numbers, models and folders.

use crate::place::{Place, TINY};

#[test]
fn values_out_of_range_are_wrong_usage_on_the_command_line_and_failures_in_files() {
    let place = Place::new();
    for (key, value, range) in [
        ("batch-size", "0", "1..=65536"),
        ("batch-size", "-3", "1..=65536"),
        ("batch-size", "99999999999", "1..=65536"),
        ("epochs", "0", "1..=1000000"),
        ("steps", "0", "1..=4294967295"),
        ("steps", "-1", "1..=4294967295"),
        ("lr", "0", "1e-12..=1.0"),
        ("lr", "-1", "1e-12..=1.0"),
        ("lr", "2", "1e-12..=1.0"),
        ("lr", "nan", "1e-12..=1.0"),
        ("lr", "inf", "1e-12..=1.0"),
        ("lr", "1e-300", "1e-12..=1.0"), // 0 in single precision: a run that learns nothing
        ("beta1", "1.0", "0.0..1.0"),
        ("beta1", "0.99999999999", "0.0..1.0"), // 1 in single precision
        ("beta2", "-0.1", "0.0..1.0"),
        ("d-lr", "0.0", "1e-12..=1.0"),
        ("last-rate", "1.5", "0.0..=1.0"),
        ("label-smoothing", "0.5", "0.0..0.5"),
        ("r1", "-1", "0.0..=1000000.0"),
        ("gp", "inf", "0.0..=1000000.0"),
        ("penalty-every", "1001", "1..=1000"),
        ("warm-up", "-1", "0..=1000000000"),
        ("rotate", "180.5", "0.0..=180.0"),
        ("tile", "65537", "1..=65536"),
        ("stride", "0", "1..=65536"),
        ("seed", "-1", "0..=9223372036854775807"),
        ("data-memory", "0", "1..=16777216"),
        ("pac", "65", "1..=64"),
        ("d-steps", "0", "1..=100"),
        ("ema-half-life", "0", "1..=1000000000"),
    ] {
        let said = place.train(&format!("--{key} {value}")).misused().stderr();
        let facts = [format!("for '--{key} <"), format!("{value} is out of range {range}")];
        assert!(facts.iter().all(|fact| said.contains(fact)), "one of {facts:?} is not in {said}");
        place.write("config.toml", format!("data = \"shapes\"\n{key} = {value}\n").as_bytes());
        let said = place.gpu_gan("train --config config.toml --device cpu").refused();
        said.error("config.toml, line 2: ").error(&format!("{key} = {value}"));
    }
    place.train("--seed 9223372036854775808").misused();
    for flag in ["--loss l1", "--decay fast", "--diff-augment rotation", "--channels 2", "--keep-checkpoints 0"] {
        place.train(flag).misused();
    }
}

#[test]
fn more_steps_than_can_be_counted_are_refused() {
    let place = Place::new();
    let said = place.train("--steps 4294967295").refused();
    said.error("4294967295 steps of 4 images").hint("1 to 1073741823 steps");
}

#[test]
fn a_batch_that_no_memory_holds_is_refused_with_the_largest_that_fits() {
    let place = Place::new();
    let wide =
        "{ layer = \"conv\", channels = 65536, kernel = 1 },\n    { layer = \"conv\", channels = 1, kernel = 1 },";
    let wide = TINY.replace("discriminator = [", &format!("discriminator = [\n    {wide}"));
    place.write("wide.toml", wide.as_bytes());
    for dry in ["", "--dry-run"] {
        let call =
            place.gpu_gan(&format!("train shapes --model wide.toml --batch-size 65536 --device cpu --steps 1 {dry}"));
        call.refused().error("TiB").error("CPU").hint("--batch-size");
    }
}

#[test]
fn a_model_that_is_not_there_is_refused_with_those_that_are() {
    let place = Place::new();
    let train = |model: &str| place.gpu_gan(&format!("train shapes --device cpu --model {model}"));
    train("biggan").refused().error("there is no model called \"biggan\"").hint("dcgan-small").hint(".toml");
    train("biggan.toml").refused().error("cannot read biggan.toml").hint("check the spelling");
    train("shapes").refused().error("there is no model called \"shapes\"");
    std::fs::create_dir(place.path("folder.toml")).unwrap();
    train("folder.toml").refused().error("folder.toml");
}

#[test]
fn a_model_file_with_a_mistake_is_refused_with_its_line() {
    let place = Place::new();
    for (from, to, facts) in [
        ("latent = 4", "latent = = 4", &["bad.toml is not TOML: line 5"][..]),
        ("latent = 4\n", "", &["the model has no `latent`"]),
        ("\"tanh\"", "\"tanhh\"", &["line 12: generator layer 5 is of the unknown kind \"tanhh\""]),
        ("slope = 0.2", "slope = 2.0", &["discriminator layer 2 (leaky-relu) has slope = 2.0"]),
        ("lr = 2e-3", "lr = nan", &["[training] has lr = nan"]),
        ("batch-size = 4", "batch-size = 0", &["[training] has batch-size = 0"]),
        // Layers that do not fit, with both shapes.
        (
            "height = 4, width = 4, channels = 2",
            "height = 5, width = 4, channels = 2",
            &["generator layer 1 (reshape)", "4 x 5 x 2", "layer 0 (linear) gives 1 x 1 x 32"],
        ),
        (
            "{ layer = \"flatten\" },\n",
            "",
            &["discriminator layer 3 (linear)", "takes a flat vector", "layer 2 (leaky-relu) gives 4 x 4 x 2"],
        ),
        ("kernel = 4, stride = 2", "kernel = 11, stride = 2", &["discriminator layer 0 (conv)", "9 x 9", "8 x 8 x 1"]),
        (
            "kernel = 2, stride = 2",
            "kernel = 3, stride = 2",
            &["the generator ends in 9 x 9 x 1 (layer 5, tanh)", "8 x 8 x 1"],
        ),
        ("features = 1 }", "features = 3 }", &["the discriminator ends in 1 x 1 x 3 (layer 4, linear)", "1 x 1 x 1"]),
    ] {
        assert!(TINY.contains(from), "{from}");
        place.write("bad.toml", TINY.replace(from, to).as_bytes());
        for call in ["train shapes --device cpu --model bad.toml", "summary bad.toml"] {
            let said = place.gpu_gan(call).refused().error("bad.toml");
            facts.iter().fold(said, |said, fact| said.error(fact));
        }
    }
    place.write("bad.toml", b"name = \"\xff\"");
    place.gpu_gan("summary bad.toml").refused().error("not UTF-8");
}

#[test]
fn a_batch_that_batch_norm_cannot_normalise_is_refused_with_the_layer() {
    let place = Place::new();
    let flat = TINY.replace("{ layer = \"flatten\" },", "{ layer = \"flatten\" },\n    { layer = \"batch-norm\" },");
    place.write("flat.toml", flat.as_bytes());
    let call = place.gpu_gan("train shapes --model flat.toml --device cpu --steps 1 --batch-size 1");
    call.refused().error("discriminator layer 4 (batch-norm)").hint("at least 2");
}

#[test]
fn a_folder_that_is_in_use_is_refused() {
    let place = Place::with_run("--steps 1");
    for (out, error) in [
        ("run", "run already exists and is not empty"),
        (".", ". already exists and is not empty"),
        ("tiny.toml", "tiny.toml already exists and is not a folder"),
    ] {
        place.train(&format!("--steps 1 --out {out}")).refused().error(error).hint("--out");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_refused() {
    let place = Place::new();
    place.train("--steps 1 --out tiny.toml/run").refused().error("cannot create the folder tiny.toml/run");
    place.write("runs", b"a file where the folder of all runs should be");
    place.train("--steps 1").refused().error("runs");
}

#[cfg(unix)]
#[test]
fn a_place_that_may_not_be_written_to_is_refused() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    let place = Place::with_run("--steps 1");
    fs::create_dir(place.path("locked")).unwrap();
    fs::set_permissions(place.path("locked"), Permissions::from_mode(0o555)).unwrap();
    if fs::write(place.path("locked/try"), "").is_ok() {
        crate::place::skipped("a_place_that_may_not_be_written_to_is_refused", "permissions do not bind this user");
        return;
    }
    let hint = "choose a folder that you may write to";
    place.train("--steps 1 --out locked/new").refused().error("locked/new").hint(hint);
    place.train("--steps 1 --out locked").refused().error("locked").hint(hint);
    place.sample("run", "--out locked/sheet.png").refused().error("locked/sheet.png").hint(hint);
    place.sample("run", "--out locked/images.npy").refused().error("locked/images.npy").hint(hint);
    place.sample("run", "--out locked/images").refused().error("locked/images").hint(hint);
    fs::set_permissions(place.path("locked"), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_misspelt_name_is_answered_with_the_nearest_right_one() {
    let place = Place::with_run("--steps 1");
    place.write("other.toml", b"data = \"shapes\"\nepcohs = 3\n");
    for (call, meant) in [
        ("train mnsit", "did you mean mnist?"),
        ("train areal", "did you mean aerial?"),
        ("train shape", "did you mean shapes?"),
        ("train shapes --model dcgan-samll", "did you mean `dcgan-small`?"),
        ("summary dcgan_fast", "did you mean `dcgan-fast`?"),
        ("train --config other.toml", "did you mean epochs?"),
        ("train --resume rum", "did you mean run?"),
        ("sample rnu", "did you mean run?"),
        ("eval rum", "did you mean run?"),
        ("train shapes --model tiny.toml --device vulcan", "did you mean `vulkan`?"),
    ] {
        place.gpu_gan(call).refused().hint(meant);
    }
    // Flags, their values and commands.
    for (call, meant) in [
        ("trian mnist", "'train'"),
        ("train shapes --epcohs 3", "'--epochs'"),
        ("train shapes --loss hinj", "'hinge'"),
        ("train shapes --resume-or-strat", "'--resume-or-start'"),
    ] {
        let said = place.gpu_gan(call).misused().stderr();
        assert!(said.contains(meant), "{meant} is not in {said}");
    }
    // Nothing is like it.
    let said = place.gpu_gan("train zzzz").refused().stderr();
    assert!(!said.contains("did you mean"), "{said}");
}

#[test]
fn where_results_should_go_is_checked_before_images_and_checkpoints_are_read() {
    let place = Place::with_run("--steps 1");
    place.write("file", b"");
    // The images and the run are not there, and the folder is what is refused.
    for (call, error) in [
        ("train nothing --out run", "run already exists"),
        ("train nothing --out file/run", "cannot create the folder file/run"),
        ("train nothing --out run --dry-run", "run already exists"),
        ("sample nothing --out nowhere/sheet.png", "cannot write nowhere/sheet.png"),
        ("sample nothing --out file/images", "cannot create the folder file/images"),
        ("sample nothing --save-latents nowhere/l.npy", "cannot write nowhere/l.npy"),
        ("interpolate nothing --seeds 1,2 --out nowhere/a.gif", "cannot write nowhere/a.gif"),
        ("verify --junit nowhere/a.xml", "cannot write nowhere/a.xml"),
        ("bench --sweep batch --plot nowhere/a.svg", "cannot write nowhere/a.svg"),
        ("eval run --neighbours --out nowhere/a.png", "cannot write nowhere/a.png"),
    ] {
        place.gpu_gan(call).refused().error(error);
    }
}

#[cfg(unix)]
#[test]
fn proposed_commands_can_be_pasted_whatever_the_run_is_called() {
    let place = Place::new();
    for out in ["my run", "it's $HOME; & *"] {
        let mut command = place.command("train shapes --model tiny.toml --steps 2 --device cpu");
        let output = command.args(["--out", out]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let proposal = text.split("gpu-gan ").nth(1).unwrap().trim();
        assert!(proposal.ends_with(" --out more.png --device cpu"), "{proposal}");
        place.pasted(proposal).succeeds();
        std::fs::remove_file(place.path("more.png")).unwrap();
    }
    // Without the flag, nothing is added.
    let said =
        place.gpu_gan("train shapes --model tiny.toml --steps 2 --out run").env("GPU_GAN_DEVICE", "cpu").succeeds();
    said.prints("--out more.png\n");
}
