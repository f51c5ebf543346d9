//! Built-in models, models derived from them, and batch sizes.

use super::{BUILT_IN, Model};
use crate::net::layer::{Layer, Shape};
use crate::net::limits::MAX_FILE_BYTES;
use crate::net::shape::{PlacedLayer, place};
use crate::recipe::MAX_BATCH;

#[test]
fn every_built_in_model_parses_and_has_the_name_of_its_file() {
    for (name, text) in BUILT_IN {
        let model = Model::open(name).unwrap();
        assert_eq!((model.name.as_str(), model.to_toml()), (name, text));
    }
}

#[test]
fn dcgan_small_has_the_documented_shapes_and_parameters() {
    let model = Model::named("dcgan-small").unwrap();
    let shapes = |layers: &[Layer], input| -> Vec<Shape> {
        let placed = place(layers, input, "the input").unwrap();
        placed.iter().filter(|p| p.layer.weights(p.input).is_some()).map(|p| p.output).collect()
    };
    assert_eq!(
        shapes(&model.generator, model.generator_input()),
        [[3, 3, 256], [6, 6, 128], [13, 13, 64], [28, 28, 1]]
    );
    assert_eq!(shapes(&model.discriminator, model.image), [[13, 13, 16], [5, 5, 32], [1, 1, 64], [1, 1, 1]]);
    let kinds: Vec<&str> = model.generator.iter().map(Layer::kind).collect();
    assert_eq!(kinds[..4], ["reshape", "transposed-conv", "batch-norm", "relu"]);
    assert_eq!(kinds[10..], ["transposed-conv", "tanh"]);
    let parameters = model.networks().map(|(_, layers, input)| -> usize {
        place(layers, input, "the input").unwrap().iter().map(PlacedLayer::parameters).sum()
    });
    // 64 -> 256 -> 128 -> 64 -> 1 with kernels of 3, 4, 3, 4, and two numbers for each normalised channel.
    let generator = 9 * 64 * 256 + 16 * 256 * 128 + 9 * 128 * 64 + 16 * 64 + 1 + 2 * (256 + 128 + 64);
    let discriminator = 9 * 16 + 25 * 16 * 32 + 25 * 32 * 64 + 64 + 1 + 2 * (16 + 32 + 64);
    assert_eq!(parameters, [generator, discriminator]);
}

/// The numbers of parameters of the generator, of the discriminator, and of the generator with its running statistics.
fn parameters(model: &Model) -> [usize; 3] {
    let networks = model.networks().map(|(_, layers, input)| place(layers, input, "the input").unwrap());
    let [g, d] = networks.each_ref().map(|placed| placed.iter().map(PlacedLayer::parameters).sum());
    [g, d, g + networks[0].iter().map(PlacedLayer::statistics).sum::<usize>()]
}

#[test]
fn models_have_the_numbers_of_parameters_that_their_sources_publish() {
    for (name, g, d, g_with_statistics) in [
        ("gan-mlp", 1_486_352, 533_505, 1_486_352),
        ("dcgan-28", 2_305_472, 212_865, 2_330_944),
        ("dcgan-64", 3_576_704, 2_765_568, 3_578_624),
        ("upconv-64", 6_619_136 + 295_040 + 256 + 73_792 + 128 + 1_731, 1_246_241, 6_990_467),
        ("upconv-aerial", 19_083_139, 6_489_121, 19_087_235), // 19.09 M
    ] {
        assert_eq!(parameters(&Model::named(name).unwrap()), [g, d, g_with_statistics], "{name}");
    }
}

#[test]
fn with_channels_gives_every_model_for_grey_and_colour_and_updates_its_text() {
    for name in Model::built_in() {
        let model = Model::named(name).unwrap();
        let [h, w, c] = model.image;
        for channels in [1, 3, 4] {
            let other = model.with_channels(channels).unwrap();
            assert_eq!(other.image, [h, w, channels], "{name}");
            assert_eq!(Model::parse(other.to_toml(), name).unwrap(), other, "{name}");
            assert_eq!(other == model, channels == c, "{name}");
            assert_eq!(other.with_channels(c).unwrap(), model, "{name}");
        }
    }
    // Sources whose models have one channel where the built-in ones have three.
    let grey = Model::named("dcgan-64").unwrap().with_channels(1).unwrap();
    assert_eq!(parameters(&grey)[..2], [3_576_704 - 2 * 1024, 2_765_568 - 2 * 1024]);
}

#[test]
fn with_classes_makes_every_model_conditional_and_updates_its_text() {
    for name in Model::built_in() {
        let model = Model::named(name).unwrap();
        let conditional = model.with_classes(10).unwrap();
        assert_eq!((model.classes, conditional.classes), (None, Some(10)), "{name}");
        assert!(conditional.to_toml().contains("\nclasses = 10\n"), "{name}");
        assert_eq!(Model::parse(conditional.to_toml(), name).unwrap(), conditional, "{name}");
        assert_eq!(conditional.generator_input(), [1, 1, model.latent + 10], "{name}");
        let ends = [&model, &conditional].map(|model| {
            let placed = place(&model.discriminator, model.image, "the image").unwrap();
            placed.last().unwrap().output
        });
        assert_eq!(ends, [[1, 1, 1], [1, 1, 11]], "{name}");
        // A second call replaces the number, and channels and classes are independent.
        let three = conditional.with_classes(3).unwrap();
        assert_eq!(three, model.with_classes(3).unwrap(), "{name}");
        let [_, _, channels] = model.image;
        let other = three.with_channels(4 - channels).unwrap();
        assert_eq!((other.classes, other.image[2]), (Some(3), 4 - channels), "{name}");
    }
}

#[test]
fn each_class_adds_one_generator_input_and_one_discriminator_logit() {
    let model = Model::named("dcgan-fast").unwrap();
    let [g, d, _] = parameters(&model);
    let [g_of_classes, d_of_classes, _] = parameters(&model.with_classes(10).unwrap());
    assert_eq!([g_of_classes - g, d_of_classes - d], [10 * 9 * 256, 10 * (2048 + 1)]);
}

#[test]
fn models_that_cannot_be_conditional_are_refused_with_the_change_needed() {
    let model = Model::named("dcgan-small").unwrap();
    for classes in [0, 1, 257, usize::MAX] {
        let error = model.with_classes(classes).unwrap_err();
        assert_eq!(error.to_string(), format!("number of classes {classes} is out of range 2..=256"));
        assert_eq!(error.hint(), "choose 2 to 256 classes");
    }
    let changed = |from: &str, to: &str| {
        assert!(model.to_toml().contains(from), "{from}");
        Model::parse(&model.to_toml().replace(from, to), "mine.toml").unwrap()
    };
    let fixed = changed("channels = \"latent\"", "channels = 64").with_classes(10).unwrap_err();
    assert!(fixed.to_string().contains("64 values, but the latent is 1 x 1 x 74"), "{fixed}");
    assert!(fixed.hint().contains("channels = \"latent\""), "{}", fixed.hint());
    let reshaped = changed(
        "features = 1 }",
        "features = 4 }, { layer = \"reshape\", height = 2, width = 2, channels = 1 }, { layer = \"max-pool\", size = 2 }",
    );
    let packed = model.with_pac(2).unwrap().with_classes(10).unwrap_err();
    assert!(packed.to_string().contains("2 images at once cannot be conditional"), "{packed}");
    let error = reshaped.with_classes(10).unwrap_err();
    assert!(
        error.to_string().contains("must end in a linear layer or a convolution, but layer 12 is max-pool"),
        "{error}"
    );
}

#[test]
fn with_pac_multiplies_the_discriminators_input_channels_and_restricts_the_batch_size() {
    let model = Model::named("dcgan-fast").unwrap();
    assert_eq!((model.pac, model.discriminator_input(), model.with_pac(1).unwrap()), (1, [28, 28, 1], model.clone()));
    let packed = model.with_pac(2).unwrap();
    assert_eq!((packed.pac, packed.discriminator_input(), packed.image), (2, [28, 28, 2], [28, 28, 1]));
    assert_eq!(Model::parse(packed.to_toml(), "packed").unwrap(), packed);
    assert_eq!(parameters(&packed)[1], parameters(&model)[1] + 4 * 4 * 32);
    let four = packed.with_pac(4).unwrap().with_channels(3).unwrap();
    assert_eq!((four.discriminator_input(), four.to_toml().matches("pac = ").count()), ([28, 28, 12], 1));
    packed.check_batch(64).unwrap();
    let error = packed.check_batch(65).unwrap_err();
    assert_eq!(error.to_string(), "batch size 65 is not a multiple of pac, which is 2");
    assert!(error.hint().contains("a multiple of 2"), "{}", error.hint());
    for pac in [0, 65] {
        assert_eq!(model.with_pac(pac).unwrap_err().to_string(), format!("pac {pac} is out of range 1..=64"));
    }
    // Batch normalisation sees one image per pack.
    let small = Model::named("dcgan-small").unwrap().with_pac(2).unwrap();
    assert!(small.check_batch(2).unwrap_err().to_string().contains("cannot normalise a batch of 1"));
    assert!(model.with_pac(3).unwrap_err().to_string().contains("batch size 64 is not a multiple of pac, which is 3"));
}

#[test]
fn invalid_numbers_of_channels_are_refused() {
    let model = Model::named("dcgan-small").unwrap();
    for channels in [0, 2, 5, usize::MAX] {
        let error = model.with_channels(channels).unwrap_err();
        assert_eq!(error.to_string(), format!("images cannot have {channels} channels"));
        assert_eq!(error.hint(), "choose 1 (grey), 3 (red, green, blue) or 4 (red, green, blue, alpha)");
    }
    let fixed = model.to_toml().replace("channels = \"image\"", "channels = 1");
    let error = Model::parse(&fixed, "fixed.toml").unwrap().with_channels(3).unwrap_err();
    assert!(error.to_string().contains("28 x 28 x 1 (layer 11, tanh), but an image is 28 x 28 x 3"), "{error}");
    assert!(error.hint().contains("channels = \"image\""), "{}", error.hint());
}

#[test]
fn the_pixel_range_follows_the_generators_last_activation() {
    let ranges: Vec<[f64; 2]> = Model::built_in().map(|name| Model::named(name).unwrap().range()).collect();
    let (signed, unsigned) = ([-1.0, 1.0], [0.0, 1.0]);
    assert_eq!(ranges, [signed, signed, signed, signed, signed, signed, signed, unsigned, signed]);
    let text = BUILT_IN[0].1.replace("\"tanh\"", "\"sigmoid\""); // before a reshape
    assert_eq!(vec![Model::parse(&text, "mlp").unwrap().range()], [unsigned]);
}

#[test]
fn an_unknown_model_name_is_refused_with_the_known_names() {
    let named = Model::named("dcgan").unwrap_err();
    assert_eq!(named.to_string(), "there is no built-in model called \"dcgan\"");
    assert_eq!(
        named.hint(),
        "built-in models: dcgan-r1, gan-mlp, dcgan-small, dcgan-fast, dcgan-28, dcgan-fast-64, dcgan-64, upconv-64 and upconv-aerial"
    );
    for name in ["dcgan", "models/dcgan.json", "", "models/"] {
        let error = Model::open(name).unwrap_err();
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        assert!(error.hint().contains("dcgan-small"), "{}", error.hint());
        assert!(error.hint().contains("must end in .toml"), "{}", error.hint());
    }
}

#[test]
fn a_model_file_is_opened_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, BUILT_IN[1].1).unwrap();
    let model = Model::open(path.to_str().unwrap()).unwrap();
    assert_eq!(model, Model::named("dcgan-small").unwrap());
}

#[test]
fn a_file_that_cannot_be_a_model_is_refused_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("binary.toml"), [b'a', b'=', 0xff]).unwrap();
    std::fs::write(path("huge.toml"), vec![b'#'; MAX_FILE_BYTES as usize + 1]).unwrap();
    std::fs::create_dir(path("folder.toml")).unwrap();
    for (name, fact) in [
        ("missing.toml", "cannot read"),
        ("folder.toml", "cannot read"),
        ("binary.toml", "byte 2 is not UTF-8"),
        ("huge.toml", "larger than a model file may be"),
    ] {
        let error = Model::open(path(name).to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(fact), "{error}");
    }
}

#[test]
fn a_batch_that_batch_norm_cannot_normalise_is_refused_with_the_layer() {
    let model = Model::named("dcgan-small").unwrap();
    model.check_batch(2).unwrap();
    let one = model.check_batch(1).unwrap_err();
    assert!(one.to_string().contains("discriminator layer 7 (batch-norm)"), "{one}");
    assert_eq!(one.hint(), "choose a batch size of at least 2");
    for size in [0, MAX_BATCH as usize + 1, usize::MAX] {
        assert!(model.check_batch(size).unwrap_err().to_string().contains(&size.to_string()));
    }
}
