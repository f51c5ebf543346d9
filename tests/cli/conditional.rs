//! `--conditional` and `--class`: class-conditional models.

use crate::checkpoint::{Checkpoint, assert_same_tensors};
use crate::place::{Call, Place, idx_header, photograph};

/// A finished run of the shapes, which have ten classes.
fn conditional(arguments: &str) -> Place {
    Place::with_run(&format!("--conditional --eval-every never {arguments}"))
}

/// Colour images in three folders.
fn animals() -> Place {
    let place = Place::with_photographs(0);
    for i in 0..24 {
        let class = ["cats", "dogs", "mice"][i % 3];
        place.write(&format!("animals/{class}/{i:02}.png"), &photograph(20, 24, i));
    }
    place
}

fn eval<'a>(place: &'a Place, arguments: &str) -> Call<'a> {
    place.gpu_gan(&format!("eval --device cpu {arguments}"))
}

/// The numbers of an .npy file of i64.
fn labels(place: &Place, name: &str) -> Vec<i64> {
    npyz::NpyFile::new(place.read(name).as_slice()).unwrap().into_vec().unwrap()
}

#[test]
fn a_seed_is_one_image_of_the_class_that_it_draws_wherever_it_is_drawn() {
    let place = conditional("--steps 7 --sample-every 3steps");
    let said = place.train("--conditional --dry-run").succeeds();
    said.remarks("classes        10: 0 to 9\n").prints("Conditional on 10 classes");
    assert!(place.text("run/model.toml").contains("latent = 4\nclasses = 10\n"));
    assert!(place.text("run/report.html").contains("10: 0 to 9"));
    place.gpu_gan("summary run").succeeds().prints("1 x 1 x 14").prints("1 x 1 x 11");

    place.sample("run", "").succeeds().prints("64 images in sample.png");
    let last = place.image("run/samples/epoch-0001-step-000007.png");
    assert!(place.image("sample.png") == last, "the sheet of the run shows other images");

    place.sample("run", "--out all.npy --save-classes classes.npy --save-latents latents.npy").succeeds();
    let (shape, all) = place.array("all.npy");
    assert_eq!(shape, [64, 8, 8]);
    let image = |seed: usize| &all[seed * 64..][..64];
    let classes = labels(&place, "classes.npy");
    assert_eq!(classes[..8], [7, 9, 6, 4, 0, 4, 6, 2]); // the labels are equally frequent
    for (seeds, class) in [("2", "6"), ("3,5", "4"), ("3,5", "4,4")] {
        place.sample("run", &format!("--seeds {seeds} --class {class} --out some.npy")).succeeds();
        let some = place.array("some.npy").1;
        let first = seeds[..1].parse().unwrap();
        assert_eq!(&some[..64], image(first), "seeds {seeds}, class {class}");
    }
    place.sample("run", "--seeds 2 --class 5 --out other.npy").succeeds();
    assert_ne!(place.array("other.npy").1, image(2), "the class changes nothing");
    place.sample("run", "--count 2 --out two").succeeds();
    assert_eq!(place.names("two")[1..], ["seed-000000-class-007.png", "seed-000001-class-009.png"]);
    place.sample("run", "--seeds 2 --raw --out raw.npy").succeeds();
    assert_ne!(place.array("raw.npy").1, image(2));

    // Latents have no seeds that could draw classes.
    let from_latents = |class: &str| place.sample("run", &format!("--latents latents.npy {class} --out again.npy"));
    from_latents("").refused().error("the latents of latents.npy have no seeds").hint("--class all");
    from_latents("--class 7").succeeds().prints("64 images");
    assert_eq!(&place.array("again.npy").1[..64], image(0));
}

#[test]
fn several_classes_are_columns_of_a_sheet_and_the_count_is_that_of_images() {
    let place = conditional("--steps 3");
    place.sample("run", "--class all --out sheet.png").succeeds().prints("60 images in").remarks("gives 10 images");
    let sheet = place.image("sheet.png");
    assert!(sheet.width() > sheet.height(), "ten columns, six rows");
    place.sample("run", "--class all --out all.npy").succeeds();
    let all = place.array("all.npy").1;
    let tile = |seed: usize, class: usize| &all[(10 * seed + class) * 64..][..64];
    assert_ne!(tile(2, 3), tile(2, 4));
    for (arguments, tiles) in [
        ("--seeds 5,0 --class 7,1-2", vec![(5, 7), (5, 1), (5, 2), (0, 7), (0, 1), (0, 2)]),
        ("--count 5 --class 4,3", vec![(0, 4), (0, 3), (1, 4), (1, 3), (2, 4)]),
        ("--count 3 --class 9", vec![(0, 9), (1, 9), (2, 9)]),
    ] {
        place.sample("run", &format!("{arguments} --out some.npy")).succeeds();
        let expected: Vec<u8> = tiles.into_iter().flat_map(|(seed, class)| tile(seed, class)).copied().collect();
        assert_eq!(place.array("some.npy").1, expected, "{arguments}");
    }
    place.sample("run", "--class 4 --out fours.npy").succeeds().prints("64 images");
    place.sample("run", "--count 25 --class all --out part.npy").succeeds().prints("25 images");
    place.sample("run", "--seeds 0-1000 --class all").refused().error("10010 images are too many for one sheet");
}

#[test]
fn truncation_multiplies_latents_and_images_of_different_factors_do_not_mix() {
    let place = conditional("--steps 3");
    let values = |name: &str| npyz::NpyFile::new(place.read(name).as_slice()).unwrap().into_vec::<f32>().unwrap();
    for psi in ["1", "0.5"] {
        place
            .sample("run", &format!("--count 8 --truncation {psi} --out {psi}.npy --save-latents z{psi}.npy"))
            .succeeds();
    }
    let halves: Vec<f32> = values("z1.npy").iter().map(|z| z / 2.0).collect();
    assert_eq!(values("z0.5.npy"), halves);
    assert_ne!(place.array("1.npy"), place.array("0.5.npy"));
    place.sample("run", "--count 2 --class 3 --truncation 0 --out none.npy").succeeds();
    let equal = place.array("none.npy").1;
    assert_eq!(equal[..64], equal[64..], "at 0, all images of a class are equal");
    place.sample("run", "--count 1 --truncation 0.5 --out folder").succeeds();
    place.sample("run", "--count 1 --out folder").refused().error("1 image of another --truncation");
    for psi in ["-0.1", "2.5", "nan"] {
        place.sample("run", &format!("--truncation {psi}")).misused().remarks("--truncation");
    }
}

#[test]
fn a_checkpoint_without_frequencies_draws_classes_equally_and_gets_them_when_it_is_resumed() {
    let place = Place::new();
    // Thirty of the forty images are of class 0.
    let skewed = (0..40).map(|i: u8| i.saturating_sub(30)).collect();
    place.write("shapes/train-labels-idx1-ubyte", &[idx_header([0, 0, 8, 1], &[40]), skewed].concat());
    place.train("--conditional --steps 2 --out run").succeeds();
    let path = "run/checkpoints/step-00000002.safetensors";
    let drawn = |run: &str| {
        let said = place.sample(run, "--count 200 --out drawn.npy --save-classes drawn-classes.npy").succeeds();
        (labels(&place, "drawn-classes.npy").iter().filter(|class| **class == 0).count(), said)
    };
    let (zeros, said) = drawn("run");
    assert!((130..=180).contains(&zeros), "{zeros} of 200 instead of about 155");
    assert!(!said.stderr().contains("equally frequent"));
    place.write(path, &Checkpoint::of(&place.read(path)).said(r#""images":[31,1,1,1,1,1,1,1,1,1],"#, "").to_bytes());
    let (zeros, said) = drawn("run");
    assert!((5..=40).contains(&zeros), "{zeros} of 200 instead of about 20");
    said.remarks("classes are equally frequent");
    place.resume("run", "--steps 4").succeeds();
    assert!((130..=180).contains(&drawn("run").0));
}

#[test]
fn runs_on_labelled_images_are_conditional_unless_the_person_the_model_or_the_labels_say_otherwise() {
    let place = Place::new();
    let write = |per_class: usize| {
        let count = 2 * per_class;
        let pixels: Vec<u8> = (0..count * 64).map(|at| (at * 37 + at / 64 * 11) as u8).collect();
        place.write("pairs/train-images-idx3-ubyte", &[idx_header([0, 0, 8, 3], &[count, 8, 8]), pixels].concat());
        let labels = (0..count).map(|i| (i % 2) as u8).collect();
        place.write("pairs/train-labels-idx1-ubyte", &[idx_header([0, 0, 8, 1], &[count]), labels].concat());
    };
    write(200);
    let train = |model: &str, more: &str| {
        place
            .gpu_gan(&format!("train pairs --model {model} --device cpu --steps 1 --eval-every never {more}"))
            .succeeds()
    };
    let classes = "classes        2: 0 to 1, the default for labelled images (see --unconditional)\n";
    train("tiny.toml", "--out run").remarks(classes);
    assert!(place.text("run/config.toml").contains("\nconditional = true\n"));
    let said = train("tiny.toml", "--unconditional --out plain");
    assert!(!said.stderr().contains("classes "), "{}", said.stderr());
    // The settings of both runs repeat them, also as an earlier version wrote them, in which no run was conditional by default.
    for (run, is_conditional) in [("run", true), ("plain", false)] {
        let config = place.text(&format!("{run}/config.toml"));
        let line = format!("\nconditional = {is_conditional}\n");
        assert!(config.contains(&line) && config.contains("[run.classes]") == is_conditional, "{config}");
        let earlier = config.replace(&line, "\n").replace("[run.classes]", "[classes]");
        for (number, config) in [config, earlier].into_iter().enumerate() {
            place.write(&format!("{run}/config.toml"), config.as_bytes());
            let out = format!("{run}-{number}");
            place.gpu_gan(&format!("train --config {run}/config.toml --device cpu --out {out}")).succeeds();
            assert_eq!(place.text(&format!("{out}/model.toml")).contains("classes = 2"), is_conditional, "{out}");
        }
    }
    // Trained weights of a model without classes stay without them.
    let said = place.gpu_gan("train pairs --init plain --device cpu --steps 1 --out tuned").succeeds();
    said.remarks("classes        not used, since the trained model has none (see --conditional)\n");
    place.gpu_gan("train pairs --resume plain --device cpu --steps 2").succeeds();

    let of_published = place.text("tiny.toml").replace("latent = 4", "latent = 4\nconditional-by-default = false");
    place.write("published.toml", of_published.as_bytes());
    train("published.toml", "--dry-run").remarks("classes        not used, since the recipe of tiny has no classes");
    train("published.toml", "--dry-run --conditional").remarks("classes        2: 0 to 1\n");
    train("tiny.toml", "--dry-run --pac 2").remarks("not used, since the discriminator sees 2 images at once");
    write(199);
    train("tiny.toml", "--dry-run")
        .remarks("not used, since class 0 has 199 images, fewer than 200 (see --conditional)");
    let said = place.train("--dry-run --eval-every never").succeeds();
    said.remarks("not used, since class 0 has 4 images");
}

#[test]
fn a_conditional_run_is_the_same_when_it_is_resumed_and_in_windows() {
    let place = Place::new();
    let pixels: Vec<u8> = (0..18_000 * 64).map(|at: usize| (at * 37 + at / 64 * 11) as u8).collect();
    place.write("many-images-idx3-ubyte", &[idx_header([0, 0, 8, 3], &[18_000, 8, 8]), pixels].concat());
    let labels: Vec<u8> = (0..18_000).map(|i: usize| (i / 7 % 5) as u8).collect();
    place.write("many-labels-idx1-ubyte", &[idx_header([0, 0, 8, 1], &[18_000]), labels].concat());
    let train =
        "train many-images-idx3-ubyte --conditional --model tiny.toml --device cpu --batch-size 300 --eval-every never";
    place.gpu_gan(&format!("{train} --steps 58 --out all")).succeeds();
    // A chunk is 54 steps.
    place.gpu_gan(&format!("{train} --steps 30 --data-memory 1 --out run")).succeeds();
    place
        .resume("run", "--steps 58 --data-memory 1")
        .succeeds()
        .remarks("in chunks of 16200 images")
        .remarks("5: 0 to 4");
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000058.safetensors"));
    assert_same_tensors(&last("all"), &last("run"));
}

#[test]
fn folders_are_classes_under_their_names() {
    let place = animals();
    let train = "train animals --conditional --model colour.toml --device cpu --steps 3 --eval-every never --out run";
    place.gpu_gan(train).succeeds().remarks("classes        3: cats, dogs, mice\n");
    place.sample("run", "--class dogs,2 --seeds 4 --out two.npy").succeeds().remarks("of 3: cats, dogs, mice");
    place.sample("run", "--class 1-2 --seeds 4 --out same.npy").succeeds();
    assert_eq!(place.array("two.npy"), place.array("same.npy"));
    let error = "--class birds: `birds` is not a class";
    place.sample("run", "--class birds").refused().error(error).hint("0 to 2 (cats, dogs, mice)");

    // A folder of another name is another class.
    std::fs::rename(place.path("animals/cats"), place.path("animals/tigers")).unwrap();
    let said = place.resume("run", "--steps 5").refused();
    said.error("animals are not those that the run began with");
}

#[test]
fn how_well_images_show_their_classes_is_measured() {
    let place = conditional("--steps 6 --checkpoint-every 3steps");
    let report = eval(&place, "run --count 20 --json").succeeds().stdout();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let conditional = &report["run"]["conditional"];
    assert_eq!(conditional["trained_on"], 20);
    assert_eq!(conditional["gan_train"]["of"], 4); // a tenth of forty, held back
    assert_eq!(conditional["gan_test"]["of"], 20);
    let of_classes = conditional["gan_test_of_classes"].as_array().unwrap();
    assert_eq!(of_classes.len(), 10);
    for part in ["right", "of"] {
        let sum: u64 = of_classes.iter().map(|class| class[part].as_u64().unwrap()).sum();
        assert_eq!(conditional["gan_test"][part], sum);
    }
    let figures = |arguments: &str| -> serde_json::Value {
        serde_json::from_str(&eval(&place, &format!("{arguments} --json")).succeeds().stdout()).unwrap()
    };
    let alone = figures("run/checkpoints/step-00000003.safetensors");
    assert_eq!(figures("run --every-checkpoint")["checkpoints"][0]["metrics"], alone["run"]["metrics"]);
    let said = eval(&place, "run --count 20").succeeds();
    let said = said.prints("of 4 real images are recognised by a classifier trained on 20 generated images only (");
    said.prints("of 20 generated images are recognised as their requested class");
}

#[test]
fn frames_lead_from_image_to_image_and_from_class_to_class() {
    let place = conditional("--steps 3");
    let frame = |folder: &str, number: usize| place.image(&format!("{folder}/frame-{number:04}.png")).into_raw();
    let sampled = |arguments: &str| {
        place.sample("run", &format!("{arguments} --out one.npy")).succeeds();
        place.array("one.npy").1
    };
    let way = |arguments: &str| {
        let call = format!("interpolate run --device cpu --frames 2 --scale 1 {arguments}");
        place.gpu_gan(&call)
    };
    // The class of each seed; seeds 3 and 5 draw the same one.
    way("--seeds 2,3 --out seeds").succeeds().prints("4 frames");
    assert_eq!([frame("seeds", 1), frame("seeds", 3)], ["--seeds 2", "--seeds 3"].map(sampled));
    way("--seeds 2,3 --class 1 --out one").succeeds();
    assert_eq!([frame("one", 1), frame("one", 3)], ["--seeds 2 --class 1", "--seeds 3 --class 1"].map(sampled));
    // One latent through two classes, and there and back.
    way("--seeds 5 --class 3,8 --out classes").succeeds().prints("4 frames");
    assert_eq!([frame("classes", 1), frame("classes", 3)], ["--seeds 5 --class 3", "--seeds 5 --class 8"].map(sampled));
    assert_eq!(frame("classes", 2), frame("classes", 4));
    assert!(frame("classes", 2) != frame("classes", 1) && frame("classes", 2) != frame("classes", 3));
    way("--seeds 5 --class all --out all.gif").succeeds().prints("20 frames");
    way("--seeds 2,3 --class 3,8 --out both").succeeds().prints("4 frames");
    assert_eq!(frame("both", 3), sampled("--seeds 3 --class 8"));
    way("--seeds 2,3 --truncation 0 --class 1 --out flat").succeeds();
    assert_eq!(frame("flat", 1), frame("flat", 3));

    way("--seeds 1,2,3 --class 3,8").refused().error("3 seeds and 2 classes cannot be paired").hint("one seed");
    way("--seeds 1 --class 3").refused().error("interpolation needs at least 2 images");
}

#[test]
fn classes_that_are_not_there_are_refused() {
    let place = conditional("--steps 1");
    place.sample("run", "--class 10").refused().error("--class 10: `10` is not a class").hint("the classes are 0 to 9");
    place.sample("run", "--class -1").refused().error("--class -1");
    place.resume("run", "--conditional --steps 2").refused().error("--conditional cannot be changed when resuming");

    // Other labels of the same images.
    let labels = place.read("shapes/train-labels-idx1-ubyte");
    let mut others = labels.clone();
    others.swap(10, 11);
    place.write("shapes/train-labels-idx1-ubyte", &others);
    for call in [place.resume("run", "--steps 2"), eval(&place, "run")] {
        call.refused().error("the classes of");
    }
    std::fs::remove_file(place.path("shapes/train-labels-idx1-ubyte")).unwrap();
    place.resume("run", "--steps 2").refused().error("have no labels of two classes or more");
    let said = place.train("--conditional --steps 1 --out other").refused();
    said.error("have no labels of two classes or more").hint("a folder of its own");
    place.write("shapes/train-labels-idx1-ubyte", &labels);

    place.train("--steps 1 --out plain").succeeds();
    for call in ["sample plain", "interpolate plain --seeds 1,2"] {
        let said = place.gpu_gan(&format!("{call} --class 1 --device cpu")).refused();
        said.error("--class 1: plain is not conditional").hint("--conditional");
    }

    place.gpu_gan("summary tiny.toml --classes 1").misused().remarks("1 is not in 2..=256");
    place.gpu_gan("summary tiny.toml --classes 3").succeeds().prints("Conditional on 3 classes").prints("1 x 1 x 7");
    let model = place.text("tiny.toml").replace("latent = 4", "latent = 4\nclasses = 3");
    place.write("three.toml", model.as_bytes());
    let said = place.gpu_gan("train shapes --model three.toml --device cpu --steps 1 --out three").refused();
    said.error("have 10 classes, but the model tiny is for 3");
    place.gpu_gan("train shapes --conditional --model three.toml --device cpu --steps 1 --out three").succeeds();
}
