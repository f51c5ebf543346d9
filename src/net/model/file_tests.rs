//! Model files: what is accepted, and the message for each mistake.

use super::Model;
use crate::error::Error;

/// Layers that end as those of the discriminator must.
const END: &str = r#"{ layer = "flatten" }, { layer = "linear", features = 1 }"#;

fn built_in() -> String {
    Model::named("dcgan-small").unwrap().to_toml().to_string()
}

/// What is said about a model file.
fn mistake(text: &str) -> String {
    let error = Model::parse(text, "bad.toml").expect_err(text);
    assert!(matches!(error, Error::Model { .. }), "{error:?}");
    assert!(!error.hint().is_empty(), "{error}");
    format!("{error} / {}", error.hint())
}

/// What is said about the built-in model when a piece of its text is replaced, wherever it stands.
fn changed(from: &str, to: &str) -> String {
    let text = built_in();
    assert!(text.contains(from), "{from}");
    mistake(&text.replace(from, to))
}

/// What is said about a discriminator.
fn discriminator(layers: &str) -> String {
    mistake(&with("discriminator", layers))
}

/// What is said about a generator.
fn generator(layers: &str) -> String {
    mistake(&with("generator", layers))
}

/// The built-in model with another list of layers.
fn with(network: &str, layers: &str) -> String {
    let text = built_in();
    let start = text.find(&format!("{network} = [")).unwrap();
    let end = start + text[start..].find("\n]").unwrap() + 2;
    format!("{}{network} = [{layers}]{}", &text[..start], &text[end..])
}

#[track_caller]
fn says(mistake: &str, facts: &[&str]) {
    for fact in facts {
        assert!(mistake.contains(fact), "{mistake}\ndoes not say: {fact}");
    }
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_line_and_column() {
    says(&mistake("name = \"x\"\nlatent = = 3\n"), &["bad.toml is not TOML: line 2, column 10"]);
    says(&mistake("name = \"x"), &["line 1, column"]);
    says(&mistake(&"[".repeat(100_000)), &["is not TOML"]);
    says(&mistake(&format!("a = {}", "[".repeat(100_000))), &["is not TOML"]);
    says(&mistake("latent = 1\nlatent = 2"), &["line 2", "duplicate key"]);
}

#[test]
fn a_mistake_is_told_with_the_line_it_stands_in() {
    for (from, to) in [
        ("{ layer = \"tanh\" }", "{ layer = \"tan\" }"),
        ("slope = 0.2", "slope = 2.0"),
        ("features = 1 ", "features = 2 "),
    ] {
        let text = built_in().replace(from, to);
        let line = text.lines().position(|line| line.contains(to)).unwrap() + 1;
        says(&mistake(&text), &[&format!("bad.toml, line {line}: ")]);
    }
}

#[test]
fn a_model_without_a_key_it_needs_is_told_which() {
    says(&mistake(""), &["bad.toml, line 1: the model has no `name`", "generator"]);
    says(&changed("latent = 64", ""), &["the model has no `latent`", "before its first [section]"]);
    says(&changed("mean = 1.0, ", ""), &["[initial] gamma has no `mean`"]);
    says(&changed("height = 28, ", ""), &["image has no `height`"]);
    says(&changed(", kernel = 5", ""), &["discriminator layer 3 (conv) has no `kernel`"]);
    says(&changed("layer = \"flatten\"", ""), &["discriminator layer 9 has no `layer`", "flatten"]);
}

#[test]
fn an_unknown_key_is_refused_with_those_that_are_known() {
    says(
        &changed("slope = 0.2", "alpha = 0.2"),
        &["discriminator layer 2 (leaky-relu) has the unknown key `alpha`", "leaky-relu may have slope"],
    );
    says(
        &changed("{ layer = \"tanh\"", "{ layer = \"tanh\", gain = 1"),
        &["generator layer 11 (tanh) has the unknown key `gain`", "tanh has no keys"],
    );
    says(&changed("latent =", "latents ="), &["the model has the unknown key `latents`"]);
    says(&changed("[initial]", "[final]"), &["the model has the unknown key `final`"]);
}

#[test]
fn an_unknown_kind_of_layer_is_refused_with_those_there_are() {
    says(
        &changed("\"tanh\"", "\"softmax\""),
        &["generator layer 11 is of the unknown kind \"softmax\"", "transposed-conv", "flatten"],
    );
    says(&changed("\"tanh\"", "1"), &["generator layer 11 is of the unknown kind 1"]);
    says(&changed("{ layer = \"tanh\" }", "\"tanh\""), &["generator layer 11 is \"tanh\"", "a layer is a table"]);
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
        says(&changed(from, to), &facts);
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
        says(&changed(from, to), &facts);
    }
}

#[test]
fn values_of_another_type_are_refused() {
    says(&changed("bias = false", "bias = 0"), &["has bias = 0", "true or false"]);
    says(&changed("name = \"dcgan-small\"", "name = 3"), &["the model has name = 3"]);
    says(&changed("dcgan-small\"", "../x\""), &["has name = \"../x\"", "letters, digits"]);
    says(&changed("about = \"A", "about = \"\\u001b[2J"), &["about must be one line of text"]);
    says(&mistake(&built_in().replace("[training]", "[[training]]")), &["has training ="]);
    says(&changed("{ mean = 0.0, std = 0.02 }", "0.02"), &["[initial]", "has weight = 0.02", "mean and std"]);
    says(
        &changed("{ mean = 0.0, std = 0.02 }", "\"he-uniform\""),
        &["[initial]", "has weight = \"he-uniform\"", "\"glorot-uniform\", \"fan-in-uniform\""],
    );
    says(&changed("{ mean = 1.0, std = 0.02 }", "1.0"), &["[initial]", "has gamma = 1.0", "mean and std"]);
}

#[test]
fn mistakes_in_upsampling_pooling_and_dropout_are_told_with_their_layer_and_line() {
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
        says(&discriminator(&format!("{layer}, {END}")), &facts);
    }
    let grow = r#"{ layer = "upsample", factor = 128 },"#;
    says(
        &discriminator(&format!("{}{END}", grow.repeat(190))),
        &["layer 1 (upsample) would make 458752 x 458752 x 1 values"],
    );
}

#[test]
fn mistakes_with_the_minibatchs_deviation_are_told_with_what_it_needs() {
    let layer = |group: &str| format!(r#"{{ layer = "minibatch-deviation"{group} }}, {END}"#);
    let model = Model::parse(&with("discriminator", &layer("")), "good.toml").unwrap();
    assert_eq!(model.batch_multiple(), 4);
    says(&discriminator(&layer(", group = 1")), &["layer 0 (minibatch-deviation) has group = 1", "from 2 to 64"]);
    says(
        &discriminator(&layer(", group = 3")),
        &["batch size 128 is not a multiple of the groups of minibatch-deviation", "a multiple of 3"],
    );
    let both = format!("{}, {}", r#"{ layer = "minibatch-deviation" }"#, layer(", group = 64"));
    let model = Model::parse(&with("discriminator", &both), "good.toml").unwrap();
    assert_eq!((model.batch_multiple(), model.with_pac(2).unwrap().batch_multiple()), (64, 128));
    says(
        &generator(r#"{ layer = "minibatch-deviation" }, { layer = "linear", features = 784 }"#),
        &["generator layer 0 (minibatch-deviation)", "belongs in the discriminator"],
    );
    let error = model.check_penalty().unwrap_err();
    assert!(error.to_string().contains("discriminator layer 0 (minibatch-deviation)"), "{error}");
}

#[test]
fn spectral_norm_is_for_the_discriminator_and_for_matrices_of_a_size_that_can_be_normalised() {
    let linear = r#"{ layer = "linear", features = 784, spectral-norm = true }"#;
    let model = with("discriminator", &format!(r#"{{ layer = "flatten" }}, {}"#, linear.replace("784", "1")));
    assert!(Model::parse(&model, "good.toml").unwrap().discriminator[1].is_spectral());
    says(&generator(linear), &["generator layer 0 (linear) has spectral-norm", "for the discriminator alone"]);
    says(&discriminator(&linear.replace("true", "1")), &["spectral-norm must be true or false"]);
    let wide = format!(r#"{{ layer = "upsample", factor = 20 }}, {{ layer = "flatten" }}, {linear}, {END}"#);
    says(&discriminator(&wide), &["would normalise 313600 weights of each output", "leave spectral-norm out"]);
}

#[test]
fn same_padding_that_height_and_width_do_not_share_is_refused_with_both_numbers() {
    let conv = |more: &str| format!(r#"{{ layer = "conv", channels = 8, kernel = 5, pad = "same"{more} }}, {END}"#);
    let flat = r#"{ layer = "reshape", height = 7, width = 112, channels = 1 }, "#;
    says(
        &discriminator(&format!("{flat}{}", conv(", stride = 2"))),
        &[
            "discriminator layer 1 (conv) would pad 2 rows above and 1 columns to the left",
            "layer 0 (reshape) gives 7 x 112 x 1",
            "give pad as a number",
        ],
    );
    // A stride of 1 pads all sides by 2, whatever they are.
    Model::parse(&with("discriminator", &format!("{flat}{}", conv(""))), "good.toml").unwrap();
    says(&discriminator(&conv(", output-pad = 0")), &["(conv) has the unknown key `output-pad`"]);
    says(
        &changed("kernel = 4, stride = 2 }", "kernel = 4, stride = 2, pad = \"full\" }"),
        &["layer 10 (transposed-conv) has pad = \"full\"", "\"same\" or a whole number from 0"],
    );
    says(
        &changed("kernel = 4, stride = 2 }", "kernel = 4, stride = 2, pad = \"same\", output-pad = 1 }"),
        &["layer 10 (transposed-conv) has output-pad = 1", "leave output-pad out"],
    );
}

#[test]
fn paddings_that_only_add_zeros_are_refused() {
    let bias = "channels = \"image\", kernel = 4, stride = 2";
    says(
        &changed(bias, &format!("{bias}, pad = 4")),
        &["generator layer 10 (transposed-conv) has pad = 4", "smaller than kernel, which is 4"],
    );
    says(
        &changed(bias, &format!("{bias}, output-pad = 2")),
        &["generator layer 10 (transposed-conv) has output-pad = 2", "smaller than stride, which is 2"],
    );
}

#[test]
fn a_list_of_layers_that_cannot_be_a_network_is_refused() {
    says(&generator(""), &["the generator has 0 layers", "1 to 200"]);
    says(&discriminator(&"{ layer = \"relu\" },".repeat(201)), &["has 201 layers", "1 to 200"]);
    says(
        &generator(r#"{ layer = "reshape", height = 8, width = 8, channels = 1 }"#),
        &["the generator has no layer that can learn", "linear"],
    );
    says(&mistake(&with("generator", "").replace("generator = []", "generator = 3")), &["has generator = 3"]);
}

#[test]
fn a_linear_layer_on_an_image_is_refused_with_both_layers() {
    let layers =
        r#"{ layer = "conv", channels = 8, kernel = 4 }, { layer = "relu" }, { layer = "linear", features = 1 }"#;
    says(
        &discriminator(layers),
        &[
            "discriminator layer 2 (linear) takes a flat vector, but layer 1 (relu) gives 25 x 25 x 8",
            "put a flatten layer between them",
        ],
    );
    says(
        &discriminator(r#"{ layer = "linear", features = 1 }"#),
        &["layer 0 (linear) takes a flat vector, but the image is 28 x 28 x 1"],
    );
}

#[test]
fn a_kernel_larger_than_its_image_is_refused_with_both_sizes() {
    says(
        &discriminator(&format!(r#"{{ layer = "conv", channels = 8, kernel = 31, pad = 1 }}, {END}"#)),
        &[
            "discriminator layer 0 (conv) needs at least 29 x 29 pixels for kernel 31 and pad 1, but the image is 28 x 28 x 1",
        ],
    );
    says(
        &generator(r#"{ layer = "transposed-conv", channels = 8, kernel = 4, pad = 2 }"#),
        &["layer 0 (transposed-conv) cuts off all of its output with pad 2: the latent is 1 x 1 x 64"],
    );
}

#[test]
fn a_reshape_to_another_number_of_elements_is_refused_with_both_numbers() {
    says(
        &changed("height = 1, width = 1, channels = \"latent\"", "height = 2, width = 2, channels = 64"),
        &[
            "generator layer 0 (reshape) makes 2 x 2 x 64, which is 256 values, but the latent is 1 x 1 x 64, which is 64",
        ],
    );
    says(
        &changed("height = 1, width = 1, channels = \"latent\"", "height = 65536, width = 65536, channels = 65536"),
        &["which is too many values"],
    );
}

#[test]
fn networks_that_do_not_end_as_they_must_are_refused_with_both_shapes() {
    says(
        &changed("height = 28", "height = 32"),
        &["the generator ends in 28 x 28 x 1 (layer 11, tanh), but an image is 32 x 28 x 1"],
    );
    says(
        &changed("features = 1 ", "features = 2 "),
        &["the discriminator ends in 1 x 1 x 2 (layer 10, linear), but must end in one logit, 1 x 1 x 1"],
    );
    says(
        &discriminator(&format!(r#"{END}, {{ layer = "sigmoid" }}"#)),
        &["the discriminator ends in a probability (layer 2, sigmoid)", "leave the last layer out"],
    );
}

#[test]
fn networks_too_large_for_any_device_are_refused_without_overflow() {
    let large = |layers: &str, fact: &str| says(&generator(layers), &["generator layer", fact]);
    let wide = r#"{ layer = "linear", features = 65536 }"#;
    large(&format!("{wide}, {wide}"), "would make 1 x 1 x 65536 x 65536 weights, more than the 268435456");
    let grow = r#"{ layer = "transposed-conv", channels = 65536, kernel = 1024, stride = 1024 },"#;
    large(&grow.repeat(200), "layer 0 (transposed-conv) would make 1024 x 1024 x 65536 values for each image");
    let grow = r#"{ layer = "transposed-conv", channels = 1, kernel = 1024, stride = 1024 },"#;
    large(&grow.repeat(200), "layer 1 (transposed-conv) would make 1048576 x 1048576 x 1 values for each image");
    let grow = r#"{ layer = "transposed-conv", channels = 64, kernel = 256 }, { layer = "conv", channels = 64, kernel = 128 }"#;
    large(grow, "multiply-adds for each image, more than the 68719476736");
}

#[test]
fn a_batch_size_that_batch_norm_cannot_normalise_is_refused_with_the_layer() {
    says(
        &changed("batch-size = 128", "batch-size = 1"),
        &["discriminator layer 7 (batch-norm) cannot normalise a batch of 1", "at least 2"],
    );
}

#[test]
fn no_damage_to_a_model_file_makes_the_reader_panic() {
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
