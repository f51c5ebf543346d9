//! `gpu-gan sample`: images of seeds as a sheet, an array or a folder.

use crate::checkpoint::{Checkpoint, Tensor};
use crate::place::{Place, SIDE};

const LAST: &str = "run/checkpoints/step-00000006.safetensors";

/// A run of six steps, in `run`.
fn trained() -> Place {
    Place::with_run("--steps 6")
}

/// Draws into an array. Returns its images.
#[track_caller]
fn drawn(place: &Place, arguments: &str) -> Vec<Vec<u8>> {
    place.sample("run", &format!("{arguments} --out drawn.npy")).succeeds();
    let (shape, bytes) = place.array("drawn.npy");
    assert_eq!(shape[1..], [SIDE as u64, SIDE as u64]);
    assert_eq!(bytes.len() as u64, shape[0] * shape[1] * shape[2]);
    bytes.chunks(SIDE * SIDE).map(<[u8]>::to_vec).collect()
}

#[test]
fn the_default_is_a_sheet_of_64_images() {
    let place = trained();
    place.sample("run", "").succeeds().prints("64 images in sample.png").remarks("step 6");
    let side = 8 * (8 * 11 + 2) + 2;
    assert_eq!(place.image("sample.png").dimensions(), (side, side));
    place.sample("run", "--seeds 0-63 --out same.png").succeeds();
    assert!(place.read("sample.png") == place.read("same.png"));
}

#[test]
fn the_training_sheet_shows_the_seeds_0_to_63_in_order() {
    let place = trained();
    place.sample("run", "--out sheet.png").succeeds();
    assert!(place.read("sheet.png") == place.read("run/samples/epoch-0001-step-000006.png"));

    // Tile k, in rows of 8, 11 times enlarged and with 2 pixels around, is the image of seed k.
    let sheet = place.image("sheet.png");
    for (seed, image) in (0..).zip(drawn(&place, "--count 64")) {
        let (left, top) = (2 + seed % 8 * 90, 2 + seed / 8 * 90);
        let tile: Vec<u8> = (0..64).map(|at| sheet.get_pixel(left + 11 * (at % 8), top + 11 * (at / 8)).0[0]).collect();
        assert_eq!(tile, image, "seed {seed}");
    }
}

#[test]
fn a_folder_gets_a_png_for_each_seed() {
    let place = trained();
    place.sample("run", "--seeds 3,1000000,5-7 --out few").succeeds().prints("5 images in few");
    let names = ["seed-000003.png", "seed-000005.png", "seed-000006.png", "seed-000007.png", "seed-1000000.png"];
    let images = || place.names("few").into_iter().filter(|name| !name.starts_with('.')).collect::<Vec<_>>();
    assert_eq!(images(), names);
    for (seed, name) in [3, 5, 6, 7, 1_000_000].into_iter().zip(names) {
        let image = place.image(&format!("few/{name}"));
        assert_eq!(image.dimensions(), (8, 8));
        assert_eq!(vec![image.into_raw()], drawn(&place, &format!("--seeds {seed}")));
    }
    place.sample("run", "--seeds 8 --out few").succeeds().prints("1 image in few");
    let before = place.image("few/seed-000003.png").into_raw();
    assert_eq!(images().len(), 6, "an existing folder gets more");

    // Images of a checkpoint do not mix with those of another.
    place.resume("run", "--steps 8").succeeds();
    let said = place.sample("run", "--seeds 3 --out few").refused();
    said.error("few holds 6 images of another checkpoint (step 6, not 8)").hint("--out");
    assert_eq!(place.image("few/seed-000003.png").into_raw(), before);
    place.sample(LAST, "--seeds 9 --out few").succeeds();
    place.sample(LAST, "--seeds 9 --raw --out few").refused().error("other weights (see --raw)");
    place.sample("run", "--seeds 3 --out new").succeeds();
}

#[test]
fn an_array_has_the_bytes_of_an_image_for_each_seed_in_order() {
    let place = trained();
    let one_by_one: Vec<_> =
        ["3", "5", "6", "7", "0"].iter().flat_map(|seed| drawn(&place, &format!("--seeds {seed}"))).collect();
    assert_eq!(drawn(&place, "--seeds 3,5-7,0"), one_by_one);
    assert_eq!(drawn(&place, "--seeds 5,5"), [one_by_one[1].clone(), one_by_one[1].clone()]);
    assert!(one_by_one[0] != one_by_one[1]);
}

#[test]
fn a_seed_gives_the_same_image_in_any_batch() {
    let place = trained();
    let many = drawn(&place, "--count 70"); // more than are drawn at once
    assert_eq!(many.len(), 70);
    assert_eq!(drawn(&place, "--count 1"), many[..1]);
    assert_eq!(drawn(&place, "--seeds 65"), many[65..66]);
    assert_eq!(drawn(&place, "--seeds 60-69,0"), [&many[60..], &many[..1]].concat());
}

#[test]
fn the_largest_seed_is_a_seed() {
    assert_eq!(drawn(&trained(), &format!("--seeds {}", u64::MAX)).len(), 1);
}

#[test]
fn raw_weights_draw_other_images_than_their_ema() {
    let place = trained();
    let (average, raw) = (drawn(&place, "--count 4"), drawn(&place, "--count 4 --raw"));
    assert!(average != raw);
    // With the EMA in place of the weights, there is no difference.
    let mut checkpoint = Checkpoint::of(&place.read(LAST));
    let averages: Vec<(String, Tensor)> = checkpoint
        .tensors
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("ema.")?.to_string(), tensor.clone())))
        .collect();
    checkpoint.tensors.extend(averages);
    place.write(LAST, &checkpoint.to_bytes());
    assert_eq!(drawn(&place, "--count 4 --raw"), average);
    assert_eq!(drawn(&place, "--count 4"), average);
}

#[test]
fn a_run_is_drawn_from_its_newest_checkpoint_and_a_file_from_itself() {
    let place = Place::with_run("--steps 8 --checkpoint-every 4steps");
    let draw = |run: &str| {
        place.sample(run, "--out drawn.npy").succeeds();
        place.array("drawn.npy").1
    };
    let [old, new] = ["4", "8"].map(|step| draw(&format!("run/checkpoints/step-0000000{step}.safetensors")));
    assert!(old != new);
    assert!(draw("run") == new);
    // A checkpoint needs no other file beside it.
    place.write("alone.safetensors", &place.read("run/checkpoints/step-00000004.safetensors"));
    std::fs::remove_dir_all(place.path("run")).unwrap();
    std::fs::remove_dir_all(place.path("shapes")).unwrap();
    assert!(draw("alone.safetensors") == old);
}

#[test]
fn the_result_is_also_printed_as_json() {
    let place = trained();
    let result = place.sample("run", "--count 3 --json -o three.npy").succeeds().json();
    assert_eq!((&result["images"], &result["step"]), (&3.into(), &6.into()));
    assert_eq!((&result["out"], &result["checkpoint"]), (&"three.npy".into(), &LAST.into()));
    assert!(result["device"].as_str().unwrap().starts_with("CPU"), "{result}");
}

#[test]
fn quiet_prints_the_result_alone() {
    let place = trained();
    let said = place.sample("run", "-q").succeeds().prints("64 images in sample.png");
    assert_eq!(said.stderr(), "");
    place.sample("run", "-v").succeeds().remarks("drawing images: 64 of 64 in ");
}

#[test]
fn an_existing_file_is_replaced() {
    let place = trained();
    place.write("sheet.png", b"an old one");
    place.sample("run", "--out sheet.png").succeeds();
    place.image("sheet.png");
    place.has_no_temporary_files();
}

#[test]
fn invalid_requests_are_refused() {
    let place = trained();
    for (arguments, error) in [
        ("--count 0", "0 is not in 1..=1000000"),
        ("--count=-1", "invalid value '-1'"),
        ("--count 99999999999", "99999999999 is not in 1..=1000000"),
        ("--seeds 5-3", "the range 5-3 runs backwards"),
        ("--seeds x", "`x` is not a seed"),
        ("--seeds 1,,2", "`` is not a seed"),
        ("--seeds 18446744073709551616", "is not a seed"),
        ("--seeds 0-18446744073709551615", "more than 1000000 seeds"),
        ("--out image.jpg", "cannot write images as .jpg"),
    ] {
        place.sample("run", arguments).misused().remarks(error);
    }
    for (arguments, error) in [
        ("--count 10001", "10001 images are too many for one sheet: the limit is 10000"),
        ("--out nowhere/image.png", "cannot write nowhere/image.png"),
        ("--out tiny.toml/image.png", "cannot write tiny.toml/image.png"),
        ("--out tiny.toml/pictures", "cannot create the folder tiny.toml/pictures"),
    ] {
        place.sample("run", arguments).refused().error(error);
    }
    place.write("notes", b"hello");
    place.sample("run", "--out notes").refused().error("notes");
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_file_is_not_written_to() {
    let place = trained();
    for device in ["/dev/full", "/dev/null"] {
        place.sample("run", &format!("--out {device}")).refused().error(device);
    }
}

#[test]
fn other_files_than_runs_are_refused() {
    let place = trained();
    std::fs::create_dir_all(place.path("hollow/checkpoints")).unwrap();
    for (run, error) in [
        ("nothing", "there is no run or checkpoint at nothing"),
        ("shapes", "shapes has no folder checkpoints"),
        ("hollow", "holds no checkpoint"),
        ("tiny.toml", "tiny.toml is not a checkpoint"),
        ("shapes/train-images-idx3-ubyte", "is not a checkpoint"),
    ] {
        place.sample(run, "").refused().error(error);
    }
    place.sample("run/checkpoints", "").refused().error("is not a run").hint("name the run itself: run");
    place.sample("tiny.toml", "").refused().hint("name the folder of a run");
}
