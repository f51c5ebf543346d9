//! `--conditional` and `--class`: class-conditional models.

use crate::checkpoint::assert_same_tensors;
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

#[test]
fn a_sheet_in_training_has_a_row_for_each_seed_and_a_column_for_each_class_and_sample_draws_the_same() {
    let place = conditional("--steps 7 --sample-every 3steps");
    let said = place.train("--conditional --dry-run").succeeds();
    said.remarks("classes        10: 0 to 9\n").prints("Conditional on 10 classes");
    assert!(place.text("run/model.toml").contains("latent = 4\nclasses = 10\n"));
    assert!(place.text("run/report.html").contains("10: 0 to 9"));
    place.gpu_gan("summary run").succeeds().prints("1 x 1 x 14").prints("1 x 1 x 11");

    place.sample("run", "").succeeds().prints("60 images in sample.png").remarks("each seed gives 10 images");
    let last = place.image("run/samples/epoch-0001-step-000007.png");
    assert!(place.image("sample.png") == last);
    let reals = place.image("run/samples/reals.png");
    assert_eq!(reals.dimensions(), last.dimensions());
    assert!(reals.width() > reals.height(), "ten columns, six rows");

    place.sample("run", "--out all.npy").succeeds();
    let (shape, all) = place.array("all.npy");
    assert_eq!(shape, [60, 8, 8]);
    let tile = |seed: usize, class: usize| &all[(10 * seed + class) * 64..][..64];
    assert_ne!(tile(2, 3), tile(2, 4));
    assert_ne!(tile(2, 3), tile(1, 3));
    for (seeds, classes, tiles) in
        [("2", "3", vec![(2, 3)]), ("5,0", "7,1-2", vec![(5, 7), (5, 1), (5, 2), (0, 7), (0, 1), (0, 2)])]
    {
        place.sample("run", &format!("--seeds {seeds} --class {classes} --out some.npy")).succeeds();
        let expected: Vec<u8> = tiles.into_iter().flat_map(|(seed, class)| tile(seed, class)).copied().collect();
        assert_eq!(place.array("some.npy").1, expected, "seeds {seeds}, classes {classes}");
    }
    place.sample("run", "--class 4 --out fours.npy").succeeds().prints("64 images");
    place.sample("run", "--count 3 --class 9 --out nines").succeeds();
    assert_eq!(
        place.names("nines")[1..],
        ["seed-000000-class-009.png", "seed-000001-class-009.png", "seed-000002-class-009.png"]
    );
    place.sample("run", "--seeds 2 --class 3 --raw --out raw.npy").succeeds();
    assert_ne!(place.array("raw.npy").1, tile(2, 3));
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
fn frames_between_images_are_of_one_class() {
    let place = conditional("--steps 3");
    for class in [1, 2] {
        let frames =
            format!("interpolate run --device cpu --seeds 3,5 --frames 2 --scale 1 --class {class} --out way-{class}");
        place.gpu_gan(&frames).succeeds().prints("4 frames");
        place.sample("run", &format!("--seeds 3 --class {class} --out {class}.npy")).succeeds();
        let first = place.image(&format!("way-{class}/frame-0001.png"));
        assert_eq!(first.as_raw(), &place.array(&format!("{class}.npy")).1);
    }
    assert_ne!(place.read("way-1/frame-0002.png"), place.read("way-2/frame-0002.png"));
    for class in ["", "--class 0-3"] {
        let said = place.gpu_gan(&format!("interpolate run --device cpu --seeds 3,5 {class} --out no.gif")).refused();
        said.error("all frames are of one class").hint("--class 0");
    }
}

#[test]
fn classes_that_are_not_there_are_refused() {
    let place = conditional("--steps 1");
    place.sample("run", "--class 10").refused().error("--class 10: `10` is not a class").hint("the classes are 0 to 9");
    place.sample("run", "--class -1").refused().error("--class -1");
    place.sample("run", "--count 1001").refused().error("10010 images are too many for one sheet");
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
