//! Model files: valid ones, and the message for each mistake.

use super::Model;
use crate::error::Error;
use crate::net::Layer;

/// Layers that give one logit, as a discriminator must.
const END: &str = r#"{ layer = "flatten" }, { layer = "linear", features = 1 }"#;

fn built_in() -> String {
    Model::named("dcgan-small").unwrap().to_toml().to_string()
}

/// The error for a model file, with its hint.
fn report(text: &str) -> String {
    let error = Model::parse(text, "bad.toml").expect_err(text);
    assert!(matches!(error, Error::Model { .. }), "{error:?}");
    assert!(!error.hint().is_empty(), "{error}");
    format!("{error} / {}", error.hint())
}

/// The error for the built-in model after replacing all occurrences of `from` by `to`.
fn changed(from: &str, to: &str) -> String {
    let text = built_in();
    assert!(text.contains(from), "{from}");
    report(&text.replace(from, to))
}

/// The error for a discriminator of these layers.
fn discriminator(layers: &str) -> String {
    report(&with("discriminator", layers))
}

/// The error for a generator of these layers.
fn generator(layers: &str) -> String {
    report(&with("generator", layers))
}

/// The text of the built-in model with these layers in one network.
fn with(network: &str, layers: &str) -> String {
    let text = built_in();
    let start = text.find(&format!("{network} = [")).unwrap();
    let end = start + text[start..].find("\n]").unwrap() + 2;
    format!("{}{network} = [{layers}]{}", &text[..start], &text[end..])
}

#[track_caller]
fn assert_contains(report: &str, facts: &[&str]) {
    for fact in facts {
        assert!(report.contains(fact), "{report}\ndoes not contain: {fact}");
    }
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_line_and_column() {
    assert_contains(&report("name = \"x\"\nlatent = = 3\n"), &["bad.toml is not TOML: line 2, column 10"]);
    assert_contains(&report("name = \"x"), &["line 1, column"]);
    assert_contains(&report(&"[".repeat(100_000)), &["is not TOML"]);
    assert_contains(&report(&format!("a = {}", "[".repeat(100_000))), &["is not TOML"]);
    assert_contains(&report("latent = 1\nlatent = 2"), &["line 2", "duplicate key"]);
}

#[test]
fn a_mistake_is_reported_with_its_line() {
    for (from, to) in [
        ("{ layer = \"tanh\" }", "{ layer = \"tan\" }"),
        ("slope = 0.2", "slope = 2.0"),
        ("features = 1 ", "features = 2 "),
    ] {
        let text = built_in().replace(from, to);
        let line = text.lines().position(|line| line.contains(to)).unwrap() + 1;
        assert_contains(&report(&text), &[&format!("bad.toml, line {line}: ")]);
    }
}

#[test]
fn a_missing_key_is_refused_by_name() {
    assert_contains(&report(""), &["bad.toml, line 1: the model has no `name`", "generator"]);
    assert_contains(&changed("latent = 64", ""), &["the model has no `latent`", "before its first [section]"]);
    assert_contains(&changed("mean = 1.0, ", ""), &["[initial] gamma has no `mean`"]);
    assert_contains(&changed("height = 28, ", ""), &["image has no `height`"]);
    assert_contains(&changed(", kernel = 5", ""), &["discriminator layer 3 (conv) has no `kernel`"]);
    assert_contains(&changed("layer = \"flatten\"", ""), &["discriminator layer 9 has no `layer`", "flatten"]);
}

#[test]
fn an_unknown_key_is_refused_with_the_known_keys() {
    assert_contains(
        &changed("slope = 0.2", "alpha = 0.2"),
        &["discriminator layer 2 (leaky-relu) has the unknown key `alpha`", "leaky-relu may have slope"],
    );
    assert_contains(
        &changed("{ layer = \"tanh\"", "{ layer = \"tanh\", gain = 1"),
        &["generator layer 11 (tanh) has the unknown key `gain`", "tanh has no keys"],
    );
    assert_contains(&changed("latent =", "latents ="), &["the model has the unknown key `latents`"]);
    assert_contains(&changed("[initial]", "[final]"), &["the model has the unknown key `final`"]);
}

#[test]
fn an_unknown_layer_kind_is_refused_with_the_known_kinds() {
    assert_contains(
        &changed("\"tanh\"", "\"softmax\""),
        &["generator layer 11 is of the unknown kind \"softmax\"", "transposed-conv", "flatten"],
    );
    assert_contains(&changed("\"tanh\"", "1"), &["generator layer 11 is of the unknown kind 1"]);
    assert_contains(
        &changed("{ layer = \"tanh\" }", "\"tanh\""),
        &["generator layer 11 is \"tanh\"", "a layer is a table"],
    );
}

#[test]
fn whole_numbers_out_of_bounds_are_refused_with_their_bounds() {
    for (from, to, facts) in [
        ("kernel = 4", "kernel = 0", ["generator layer 4 (transposed-conv) has kernel = 0", "from 1 to 1024"]),
        ("kernel = 4", "kernel = 1025", ["has kernel = 1025", "from 1 to 1024"]),
        ("stride = 1", "stride = 0", ["generator layer 4 (transposed-conv) has stride = 0", "from 1"]),
        ("channels = 256", "channels = 0", ["generator layer 1 (transposed-conv) has channels = 0", "65536"]),
        ("channels = 256", "channels = 65537", ["has channels = 65537", "65536"]),
        ("channels = 256", "channels = -1", ["has channels = -1", "whole number"]),
        ("channels = 256", "channels = 2.0", ["has channels = 2.0", "\"image\" or a whole number"]),
        ("channels = 256", "channels = \"many\"", ["has channels = \"many\"", "\"image\" or a whole number from 1"]),
        ("channels = 256", "channels = 99999999999999999999999", ["has channels = 99", "65536"]),
        ("features = 1", "features = 0", ["discriminator layer 10 (linear) has features = 0", "65536"]),
        ("latent = 64", "latent = 0", ["the model has latent = 0", "65536"]),
        ("height = 28", "height = 1025", ["image has height = 1025", "1024"]),
        ("channels = 1 }       #", "channels = 5 }       #", ["image has channels = 5", "1 to 4"]),
    ] {
        assert_contains(&changed(from, to), &facts);
    }
}

#[test]
fn numbers_out_of_bounds_are_refused_with_their_bounds() {
    for (from, to, facts) in [
        ("slope = 0.2", "slope = 1.0", ["(leaky-relu) has slope = 1.0", "below 1"]),
        ("slope = 0.2", "slope = -0.1", ["has slope = -0.1", "at least 0"]),
        ("slope = 0.2", "slope = nan", ["has slope = nan", "at least 0"]),
        ("mean = 0.0, std = 0.02", "mean = 0.0, std = -0.02", ["[initial] weight has std = -0.02", "from 0"]),
        ("mean = 0.0", "mean = nan", ["[initial] weight has mean = nan", "number"]),
        (
            "{ layer = \"batch-norm\"",
            "{ layer = \"batch-norm\", eps = 0",
            ["layer 2 (batch-norm) has eps = 0", "above"],
        ),
        (
            "{ layer = \"batch-norm\"",
            "{ layer = \"batch-norm\", momentum = 1.5",
            ["layer 2 (batch-norm) has momentum = 1.5", "below 1"],
        ),
    ] {
        assert_contains(&changed(from, to), &facts);
    }
}

#[test]
fn values_of_another_type_are_refused() {
    assert_contains(&changed("bias = false", "bias = 0"), &["has bias = 0", "true or false"]);
    assert_contains(&changed("name = \"dcgan-small\"", "name = 3"), &["the model has name = 3"]);
    assert_contains(&changed("dcgan-small\"", "../x\""), &["has name = \"../x\"", "letters, digits"]);
    assert_contains(&changed("about = \"A", "about = \"\\u001b[2J"), &["about must be one line of text"]);
    assert_contains(&report(&built_in().replace("[training]", "[[training]]")), &["has training ="]);
    assert_contains(
        &changed("{ mean = 0.0, std = 0.02 }", "0.02"),
        &["[initial]", "has weight = 0.02", "mean and std"],
    );
    assert_contains(
        &changed("{ mean = 0.0, std = 0.02 }", "\"he-uniform\""),
        &["[initial]", "has weight = \"he-uniform\"", "\"glorot-uniform\", \"fan-in-uniform\""],
    );
    assert_contains(&changed("{ mean = 1.0, std = 0.02 }", "1.0"), &["[initial]", "has gamma = 1.0", "mean and std"]);
}

#[test]
fn mistakes_in_upsample_max_pool_and_dropout_are_reported_with_layer_and_line() {
    for (layer, facts) in [
        (r#"{ layer = "upsample" }"#, ["discriminator layer 0 (upsample) has no `factor`", "line"]),
        (r#"{ layer = "upsample", factor = 0 }"#, ["layer 0 (upsample) has factor = 0", "from 1 to 128"]),
        (r#"{ layer = "upsample", factor = 129 }"#, ["layer 0 (upsample) has factor = 129", "from 1 to 128"]),
        (r#"{ layer = "max-pool", stride = 2 }"#, ["layer 0 (max-pool) has the unknown key `stride`", "needs size"]),
        (r#"{ layer = "max-pool", size = 29 }"#, ["layer 0 (max-pool) needs at least 29 x 29 pixels", "28 x 28 x 1"]),
        (r#"{ layer = "dropout" }"#, ["layer 0 (dropout) has no `rate`", "needs rate"]),
        (r#"{ layer = "dropout", rate = 1.0 }"#, ["layer 0 (dropout) has rate = 1.0", "below 1"]),
        (r#"{ layer = "dropout", rate = -0.5 }"#, ["layer 0 (dropout) has rate = -0.5", "at least 0"]),
    ] {
        assert_contains(&discriminator(&format!("{layer}, {END}")), &facts);
    }
    let grow = r#"{ layer = "upsample", factor = 128 },"#;
    assert_contains(
        &discriminator(&format!("{}{END}", grow.repeat(190))),
        &["layer 1 (upsample) would give 458752 x 458752 x 1 values"],
    );
}

#[test]
fn mistakes_in_minibatch_deviation_are_reported_with_its_requirements() {
    let layer = |group: &str| format!(r#"{{ layer = "minibatch-deviation"{group} }}, {END}"#);
    let model = Model::parse(&with("discriminator", &layer("")), "good.toml").unwrap();
    assert_eq!(model.batch_multiple(), 4);
    assert_contains(
        &discriminator(&layer(", group = 1")),
        &["layer 0 (minibatch-deviation) has group = 1", "from 2 to 64"],
    );
    assert_contains(
        &discriminator(&layer(", group = 3")),
        &["batch size 128 is not a multiple of the groups of minibatch-deviation", "a multiple of 3"],
    );
    let both = format!("{}, {}", r#"{ layer = "minibatch-deviation" }"#, layer(", group = 64"));
    let model = Model::parse(&with("discriminator", &both), "good.toml").unwrap();
    assert_eq!((model.batch_multiple(), model.with_pac(2).unwrap().batch_multiple()), (64, 128));
    assert_contains(
        &generator(r#"{ layer = "minibatch-deviation" }, { layer = "linear", features = 784 }"#),
        &["generator layer 0 (minibatch-deviation)", "belongs in the discriminator"],
    );
    let error = model.check_penalty().unwrap_err();
    assert!(error.to_string().contains("discriminator layer 0 (minibatch-deviation)"), "{error}");
}

#[test]
fn a_skip_connection_from_the_latent_is_for_generators_and_knows_the_length_of_the_latent_and_of_the_class() {
    let text = with(
        "generator",
        r#"{ layer = "linear", features = 784 }, { layer = "add-latent" }, { layer = "reshape", height = 28, width = 28, channels = 1 }"#,
    );
    let model = Model::parse(&text, "good.toml").unwrap();
    let latent = model.latent;
    assert_eq!(model.generator[1], Layer::AddLatent { latent });
    assert_eq!(model.with_classes(10).unwrap().generator[1], Layer::AddLatent { latent: latent + 10 });
    assert_contains(
        &discriminator(&format!(r#"{{ layer = "add-latent" }}, {END}"#)),
        &["discriminator layer 0 (add-latent) needs a latent", "for the generator alone"],
    );
    assert_contains(&generator(r#"{ layer = "add-latent", features = 3 }"#), &["add-latent", "features"]);
}

#[test]
fn spectral_norm_is_limited_to_the_discriminator_and_to_its_largest_matrix() {
    let linear = r#"{ layer = "linear", features = 784, spectral-norm = true }"#;
    let model = with("discriminator", &format!(r#"{{ layer = "flatten" }}, {}"#, linear.replace("784", "1")));
    assert!(Model::parse(&model, "good.toml").unwrap().discriminator[1].is_spectral());
    assert_contains(
        &generator(linear),
        &["generator layer 0 (linear) has spectral-norm", "for the discriminator alone"],
    );
    assert_contains(&discriminator(&linear.replace("true", "1")), &["spectral-norm must be true or false"]);
    let wide = format!(r#"{{ layer = "upsample", factor = 20 }}, {{ layer = "flatten" }}, {linear}, {END}"#);
    assert_contains(
        &discriminator(&wide),
        &["would normalise 313600 weights of each output", "leave spectral-norm out"],
    );
}

#[test]
fn same_padding_that_differs_between_height_and_width_is_refused_with_both_numbers() {
    let conv = |more: &str| format!(r#"{{ layer = "conv", channels = 8, kernel = 5, pad = "same"{more} }}, {END}"#);
    let flat = r#"{ layer = "reshape", height = 7, width = 112, channels = 1 }, "#;
    assert_contains(
        &discriminator(&format!("{flat}{}", conv(", stride = 2"))),
        &[
            "discriminator layer 1 (conv) would pad 2 rows above and 1 columns to the left",
            "layer 0 (reshape) gives 112 x 7 x 1",
            "give pad as a number",
        ],
    );
    // A stride of 1 pads all sides by 2 at any height and width.
    Model::parse(&with("discriminator", &format!("{flat}{}", conv(""))), "good.toml").unwrap();
    assert_contains(&discriminator(&conv(", output-pad = 0")), &["(conv) has the unknown key `output-pad`"]);
    assert_contains(
        &changed("kernel = 4, stride = 2 }", "kernel = 4, stride = 2, pad = \"full\" }"),
        &["layer 10 (transposed-conv) has pad = \"full\"", "\"same\" or a whole number from 0"],
    );
    assert_contains(
        &changed("kernel = 4, stride = 2 }", "kernel = 4, stride = 2, pad = \"same\", output-pad = 1 }"),
        &["layer 10 (transposed-conv) has output-pad = 1", "leave output-pad out"],
    );
}

#[test]
fn paddings_that_only_add_zeros_are_refused() {
    let bias = "channels = \"image\", kernel = 4, stride = 2";
    assert_contains(
        &changed(bias, &format!("{bias}, pad = 4")),
        &["generator layer 10 (transposed-conv) has pad = 4", "smaller than kernel, which is 4"],
    );
    assert_contains(
        &changed(bias, &format!("{bias}, output-pad = 2")),
        &["generator layer 10 (transposed-conv) has output-pad = 2", "smaller than stride, which is 2"],
    );
}

#[test]
fn empty_too_long_and_untrainable_lists_of_layers_are_refused() {
    assert_contains(&generator(""), &["the generator has 0 layers", "1 to 200"]);
    assert_contains(&discriminator(&"{ layer = \"relu\" },".repeat(201)), &["has 201 layers", "1 to 200"]);
    assert_contains(
        &generator(r#"{ layer = "reshape", height = 8, width = 8, channels = 1 }"#),
        &["the generator has no trainable layer", "linear"],
    );
    assert_contains(&report(&with("generator", "").replace("generator = []", "generator = 3")), &["has generator = 3"]);
}

#[test]
fn a_linear_layer_on_an_image_is_refused_with_both_layers() {
    let layers =
        r#"{ layer = "conv", channels = 8, kernel = 4 }, { layer = "relu" }, { layer = "linear", features = 1 }"#;
    assert_contains(
        &discriminator(layers),
        &[
            "discriminator layer 2 (linear) takes a flat vector, but layer 1 (relu) gives 25 x 25 x 8",
            "put a flatten layer between them",
        ],
    );
    assert_contains(
        &discriminator(r#"{ layer = "linear", features = 1 }"#),
        &["layer 0 (linear) takes a flat vector, but the image is 28 x 28 x 1"],
    );
}

#[test]
fn a_kernel_larger_than_its_image_is_refused_with_both_sizes() {
    assert_contains(
        &discriminator(&format!(r#"{{ layer = "conv", channels = 8, kernel = 31, pad = 1 }}, {END}"#)),
        &[
            "discriminator layer 0 (conv) needs at least 29 x 29 pixels for kernel 31 and pad 1, but the image is 28 x 28 x 1",
        ],
    );
    assert_contains(
        &generator(r#"{ layer = "transposed-conv", channels = 8, kernel = 4, pad = 2 }"#),
        &["layer 0 (transposed-conv) cuts off all of its output with pad 2: the latent is 1 x 1 x 64"],
    );
}

#[test]
fn a_reshape_to_another_number_of_elements_is_refused_with_both_numbers() {
    assert_contains(
        &changed("height = 1, width = 1, channels = \"latent\"", "height = 2, width = 2, channels = 64"),
        &[
            "generator layer 0 (reshape) gives 2 x 2 x 64, which is 256 values, but the latent is 1 x 1 x 64, which is 64",
        ],
    );
    assert_contains(
        &changed("height = 1, width = 1, channels = \"latent\"", "height = 65536, width = 65536, channels = 65536"),
        &["which is too many values"],
    );
}

#[test]
fn networks_with_a_wrong_output_shape_are_refused_with_both_shapes() {
    assert_contains(
        &changed("height = 28", "height = 32"),
        &["the generator ends in 28 x 28 x 1 (layer 11, tanh), but an image is 28 x 32 x 1"],
    );
    assert_contains(
        &changed("features = 1 ", "features = 2 "),
        &["the discriminator ends in 1 x 1 x 2 (layer 10, linear), but must end in one logit, 1 x 1 x 1"],
    );
    assert_contains(
        &discriminator(&format!(r#"{END}, {{ layer = "sigmoid" }}"#)),
        &["the discriminator ends in a probability (layer 2, sigmoid)", "leave the last layer out"],
    );
}

#[test]
fn networks_too_large_for_any_device_are_refused_without_overflow() {
    let large = |layers: &str, fact: &str| assert_contains(&generator(layers), &["generator layer", fact]);
    let wide = r#"{ layer = "linear", features = 65536 }"#;
    large(&format!("{wide}, {wide}"), "would have 1 x 1 x 65536 x 65536 weights, more than the limit of 268435456");
    let grow = r#"{ layer = "transposed-conv", channels = 65536, kernel = 1024, stride = 1024 },"#;
    large(&grow.repeat(200), "layer 0 (transposed-conv) would give 1024 x 1024 x 65536 values for each image");
    let grow = r#"{ layer = "transposed-conv", channels = 1, kernel = 1024, stride = 1024 },"#;
    large(&grow.repeat(200), "layer 1 (transposed-conv) would give 1048576 x 1048576 x 1 values for each image");
    let grow = r#"{ layer = "transposed-conv", channels = 64, kernel = 256 }, { layer = "conv", channels = 64, kernel = 128 }"#;
    large(grow, "multiply-adds for each image, more than the limit of 68719476736");
}

#[test]
fn a_batch_size_that_batch_norm_cannot_normalise_is_refused_with_the_layer() {
    assert_contains(
        &changed("batch-size = 128", "batch-size = 1"),
        &["discriminator layer 7 (batch-norm) cannot normalise a batch of 1", "at least 2"],
    );
}

#[test]
fn damaged_model_files_never_panic() {
    let text = built_in();
    let pieces = ["", "9", "-", "e9", "\"", "{", "]", "\n", "nan", "\u{e9}", "0x"];
    for (number, at) in (0..text.len()).step_by(3).enumerate() {
        let piece = pieces[number % pieces.len()];
        let end = (at + number % 5).min(text.len());
        let damaged = format!("{}{piece}{}", &text[..at], &text[end..]);
        drop(Model::parse(&damaged, "damaged.toml"));
        drop(Model::parse(&text[..at], "cut.toml"));
    }
}
