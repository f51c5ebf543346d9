//! `gpu-gan summary`: the tables of built-in models, model files and runs.

use crate::place::Place;

#[test]
fn the_default_model_is_shown_if_none_is_named() {
    let place = Place::empty();
    let said = place.gpu_gan("summary").succeeds().prints("dcgan-r1\n").prints("1909809").prints("369633");
    assert_eq!(said.stdout(), place.gpu_gan("summary dcgan-r1").succeeds().stdout());
    assert_eq!(said.stderr(), "");
}

#[test]
fn a_model_file_a_run_and_a_checkpoint_of_it_show_the_same_tables() {
    let place = Place::with_run("--steps 1");
    let of_file = place.gpu_gan("summary tiny.toml").succeeds();
    let of_file =
        of_file.prints("tiny\nAs small as a model can be\n").prints("\ngenerator ").prints("\ndiscriminator ");
    let of_file = of_file.prints("  0  conv, kernel 4, stride 2, pad 1 ").prints("4 x 4 x 2");
    for same in ["run", "run/model.toml", "run/checkpoints/step-00000001.safetensors"] {
        assert_eq!(place.gpu_gan(&format!("summary {same}")).succeeds().stdout(), of_file.stdout());
    }
}

#[test]
fn every_model_that_is_listed_has_a_summary_with_the_same_numbers() {
    let place = Place::empty();
    let listed = place.gpu_gan("models").succeeds();
    let lines: Vec<String> = listed.stdout().lines().map(str::to_string).collect();
    assert!(lines[0].starts_with("model ") && lines.len() == 10, "{lines:?}");
    for (name, parameters, layer) in [
        ("gan-mlp", ["1486352", "533505"], "leaky-relu, slope 0.2"),
        ("dcgan-r1", ["1909809", "369633"], "conv, kernel 3, stride 1, pad 1"),
        ("dcgan-small", ["747393", "64433"], "conv, kernel 5, stride 2"),
        ("dcgan-fast", ["747393", "109281"], "conv, kernel 3, stride 2, pad 1"),
        ("dcgan-28", ["2305472", "212865"], "transposed-conv, kernel 5, stride 2, pad same"),
        ("dcgan-fast-64", ["1100227", "391657"], "conv, kernel 4, stride 2, pad 1"),
        ("dcgan-64", ["3576704", "2765568"], "conv, kernel 4, stride 2, pad 1"),
        ("upconv-64", ["6990083", "1246241"], "max-pool, size 2"),
        ("upconv-aerial", ["19083139", "6489121"], "upsample, factor 2"),
    ] {
        let line = lines.iter().find(|line| line.starts_with(&format!("{name} "))).expect(name);
        let said = place.gpu_gan(&format!("summary {name}")).succeeds().prints(&format!("{name}\n")).prints(layer);
        for number in parameters {
            assert!(line.contains(number), "{line}");
            assert!(said.stdout().contains(number), "{}", said.stdout());
        }
    }
    let said = place.gpu_gan("summary upconv-64").succeeds();
    said.prints("dropout, rate 0.25")
        .prints("conv, kernel 3, stride 1, pad same")
        .prints("running statistics, untrained");
}

#[test]
fn a_model_is_shown_and_trained_for_other_channels_where_its_layers_follow() {
    let place = Place::new();
    place.gpu_gan("summary --channels 3").succeeds().prints("28 x 28 x 3");
    place.gpu_gan("summary dcgan-64 --channels 1").succeeds().prints("64 x 64 x 1");
    place.gpu_gan("summary --channels 2").refused().error("images cannot have 2 channels").hint("1 (grey), 3");
    place
        .gpu_gan("summary tiny.toml --channels 3")
        .refused()
        .error("an image is 8 x 8 x 3")
        .hint("channels = \"image\"");
    let train = "train shapes --device cpu --steps 1 --dry-run";
    place.gpu_gan(&format!("{train} --model tiny.toml --channels 1")).succeeds().prints("tiny");
    // Grey images are shown to it as colour.
    place.gpu_gan(&format!("{train} --channels 3 --upscale")).succeeds().remarks("28 x 28 x 3");
}

#[test]
fn summaries_and_the_list_of_models_are_also_printed_as_json() {
    let place = Place::empty();
    let summary = place.gpu_gan("summary dcgan-small --json").succeeds().json();
    assert_eq!((&summary["model"], &summary["image"]), (&"dcgan-small".into(), &serde_json::json!([28, 28, 1])));
    let [generator, discriminator] = [0, 1].map(|at| &summary["networks"][at]);
    assert_eq!((&generator["name"], &generator["parameters"]), (&"generator".into(), &747_393.into()));
    assert_eq!(discriminator["layers"][0]["layer"], "conv, kernel 3, stride 2");
    let models = place.gpu_gan("models --json").succeeds().json();
    let small = models["models"].as_array().unwrap().iter().find(|model| model["name"] == "dcgan-small").unwrap();
    assert_eq!((&small["generator_parameters"], &small["image"]), (&747_393.into(), &summary["image"]));
}

#[test]
fn files_without_a_model_are_refused() {
    let place = Place::new();
    place.write("notes", b"hello");
    for (name, error) in [
        ("nothing", "there is no model called \"nothing\""),
        ("nothing.toml", "cannot read nothing.toml"),
        ("nothing.safetensors", "nothing.safetensors"),
        ("shapes", "shapes has no folder checkpoints, so it is not a run"),
        ("notes", "there is no model called \"notes\""),
    ] {
        place.gpu_gan(&format!("summary {name}")).refused().error(error);
    }
}

#[test]
fn the_dispatches_of_a_step_are_listed_without_a_gpu() {
    let place = Place::empty();
    let list = place.gpu_gan("summary dcgan-small --dispatches").succeeds().stdout();
    assert_eq!(list, include_str!("../golden/dispatches-dcgan-small.txt"));
    let json = place.gpu_gan("summary dcgan-small --dispatches --json").succeeds().stdout();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let dispatches = json["dispatches"].as_array().unwrap();
    assert_eq!(dispatches.len(), list.lines().count() - 2, "a header and the totals");
    assert_eq!((&dispatches[0]["shader"], &dispatches[0]["entry"]), (&"noise".into(), &"tick_and_normal".into()));
    place.gpu_gan("summary --dispatches --device nosuchgpu").refused().error("nosuchgpu");
}
