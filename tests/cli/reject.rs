//! `--reject`: discriminator rejection sampling in `sample` and `eval`.

use crate::place::{Call, Place, TINY, idx_header};

/// A place whose model `tiny.toml` has no batch normalisation in its discriminator.
fn place() -> Place {
    let (generator, discriminator) = TINY.split_once("discriminator = [").unwrap();
    let plain = discriminator.replacen("    { layer = \"batch-norm\" },\n", "", 1);
    assert_ne!(plain, discriminator);
    let place = Place::new();
    place.write("tiny.toml", format!("{generator}discriminator = [{plain}").as_bytes());
    place
}

/// A finished run in such a place.
fn with_run(arguments: &str) -> Place {
    let place = place();
    place.train(&format!("--eval-every never --out run {arguments}")).succeeds();
    place
}

fn eval<'a>(place: &'a Place, arguments: &str) -> Call<'a> {
    place.gpu_gan(&format!("eval --device cpu {arguments}"))
}

/// Draws into an array. Returns its images.
#[track_caller]
fn drawn(place: &Place, arguments: &str) -> Vec<Vec<u8>> {
    place.sample("run", &format!("{arguments} --out drawn.npy")).succeeds();
    place.array("drawn.npy").1.chunks(64).map(<[u8]>::to_vec).collect()
}

/// The values of an .npy file of f32, in rows of a latent.
fn latents(place: &Place, name: &str) -> Vec<Vec<f32>> {
    let values: Vec<f32> = npyz::NpyFile::new(place.read(name).as_slice()).unwrap().into_vec().unwrap();
    values.chunks(4).map(<[f32]>::to_vec).collect()
}

#[test]
fn each_seed_gives_its_first_accepted_candidate_whatever_else_is_drawn() {
    let place = with_run("--unconditional --steps 20");
    let said = place.sample("run", "--count 70 --reject --out many.npy --save-latents z.npy --json").succeeds();
    let said = said.remarks("rejection   accepted 70 of ");
    let result = said.json();
    let candidates = result["rejection"]["candidates"].as_u64().unwrap();
    assert_eq!((&result["images"], &result["rejection"]["images"]), (&70.into(), &70.into()));
    assert!((80..400).contains(&candidates), "{candidates}");
    let many: Vec<Vec<u8>> = place.array("many.npy").1.chunks(64).map(<[u8]>::to_vec).collect();
    assert_eq!(drawn(&place, "--seeds 65 --reject"), many[65..66]);
    assert_eq!(drawn(&place, "--seeds 60-69,0 --reject"), [&many[60..], &many[..1]].concat());
    assert_eq!(drawn(&place, "--latents z.npy"), many, "the saved latents are those of the accepted candidates");

    // Some seeds give the image that they give without rejection: their first candidate was accepted.
    let without = drawn(&place, "--count 70");
    let equal = many.iter().zip(&without).filter(|(one, other)| one == other).count();
    assert!((10..60).contains(&equal), "{equal} of 70");
    place.sample("run", "--count 70 --save-latents first.npy --out all.npy").succeeds();
    let (accepted, first) = (latents(&place, "z.npy"), latents(&place, "first.npy"));
    let same = accepted.iter().zip(&first).filter(|(one, other)| one == other).count();
    assert!(same <= equal && same >= equal.saturating_sub(3), "{same} latents and {equal} images are equal");
    // A factor scales the latents of candidates.
    place.sample("run", "--count 70 --truncation 0 --reject --out zero.npy").succeeds();
    let zero = place.array("zero.npy").1;
    assert!(zero.chunks(64).all(|image| image == &zero[..64]));
    assert!(!place.sample("run", "--count 3 --out plain.npy").succeeds().stderr().contains("rejection"));
    place.sample("run", "--reject").succeeds().prints("64 images in sample.png");
}

#[test]
fn candidates_keep_the_class_of_their_seed_or_the_requested_one() {
    let place = with_run("--conditional --steps 20");
    let classes =
        |name: &str| -> Vec<i64> { npyz::NpyFile::new(place.read(name).as_slice()).unwrap().into_vec().unwrap() };
    place.sample("run", "--count 30 --out plain.npy --save-classes plain-classes.npy").succeeds();
    place.sample("run", "--count 30 --reject --out some.npy --save-classes classes.npy").succeeds();
    assert_eq!(classes("classes.npy"), classes("plain-classes.npy"));
    assert_ne!(place.read("some.npy"), place.read("plain.npy"));
    let all = drawn(&place, "--seeds 3-5 --class 4,7 --reject");
    assert_eq!(drawn(&place, "--seeds 4 --class 7 --reject"), all[3..4]);
    // The class that a seed draws is a class like a requested one.
    for (seed, class) in [3, 4].into_iter().map(|seed| (seed, classes("classes.npy")[seed])) {
        let of_class = drawn(&place, &format!("--seeds {seed} --class {class} --reject"));
        assert_eq!(of_class, drawn(&place, &format!("--seeds {seed} --reject")));
    }
}

#[test]
fn shards_are_joined_to_the_array_of_one_process_and_folders_do_not_mix() {
    let place = with_run("--conditional --steps 20");
    let all = |end: &str| format!("--count 13 --reject --out images{end}.npy --save-latents latents{end}.npy");
    place.sample("run", &all("")).succeeds();
    for index in 1..=3 {
        place.sample("run", &format!("{} --shard {index}/3", all(&format!("-{index}")))).succeeds();
        place.sample("run", &format!("--count 13 --reject --shard {index}/3 --out folder")).succeeds();
    }
    for name in ["images", "latents"] {
        let parts: Vec<String> = (1..=3).map(|index| format!("{name}-{index}.npy")).collect();
        place.gpu_gan(&format!("sample --join {} --out joined.npy", parts.join(" "))).succeeds();
        assert!(place.read("joined.npy") == place.read(&format!("{name}.npy")), "{name}");
    }
    place.sample("run", "--count 13 --reject --out whole").succeeds();
    assert_eq!(place.names("whole"), place.names("folder"));
    for name in place.names("whole") {
        assert!(place.read(&format!("whole/{name}")) == place.read(&format!("folder/{name}")), "{name}");
    }
    let said = place.sample("run", "--count 13 --out folder").refused();
    said.error("folder holds 13 images of the same checkpoint with --reject").hint("--out");
    place.sample("run", "--count 13 --out plain").succeeds();
    place.sample("run", "--reject --out plain").refused().error("13 images of the same checkpoint without --reject");
    place.sample("run", "--count 13 --shard 2/3 --out images-2.npy").succeeds();
    let parts = "images-1.npy images-2.npy images-3.npy";
    let said = place.gpu_gan(&format!("sample --join {parts} --out no.npy")).refused();
    said.error("images-1.npy and images-2.npy differ in --reject: given and not given");
}

#[test]
fn an_evaluation_with_rejection_says_so_and_is_that_of_the_images_of_sample() {
    let place = with_run("--conditional --steps 20 --checkpoint-every 10steps");
    let plain = eval(&place, "run --json").succeeds().json();
    assert!(plain["run"]["rejection"].is_null());
    let report = eval(&place, "run --reject --json").succeeds().json();
    let counts = &report["run"]["rejection"];
    assert_eq!((&counts["images"], &report["run"]["first_seed"]), (&40.into(), &1_000_000.into()));
    assert!(counts["candidates"].as_u64().unwrap() > 45, "{counts}");
    assert_ne!(report["run"]["metrics"], plain["run"]["metrics"]);
    assert_eq!(report["real_images"], plain["real_images"]);
    let text = eval(&place, "run --reject --neighbours --every-checkpoint").succeeds().stdout();
    for words in [
        "(seeds 1000000 to 1000039, with rejection)\nrejection sampling accepted 40 of ",
        "  with rejection   real images   good",
        "  with rejection   training images",
        "run/neighbours-reject.png",
    ] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
    assert!(!text.contains("this run") && !place.has("run/neighbours.png"), "{text}");
    // The counts are those of the same seeds of `sample`.
    let said = place.sample("run", "--seeds 1000000-1000039 --reject --json").succeeds().json();
    assert_eq!(&said["rejection"], counts);

    // Earlier checkpoints are evaluated with their own discriminators.
    let every = eval(&place, "run --reject --every-checkpoint --json").succeeds().json();
    let earlier = eval(&place, "run/checkpoints/step-00000010.safetensors --reject --json").succeeds().json();
    assert_eq!(every["checkpoints"][0]["metrics"], earlier["run"]["metrics"]);
    assert_eq!(every["checkpoints"][1]["metrics"], report["run"]["metrics"]);
}

#[test]
fn merged_shards_have_the_figures_and_the_counts_of_one_process() {
    let place = place();
    let pixels: Vec<u8> = (0..150 * 64).map(|at: usize| (at * 37 + at / 64 * 11) as u8).collect();
    place.write("shapes/train-images-idx3-ubyte", &[idx_header([0, 0, 8, 3], &[150, 8, 8]), pixels].concat());
    let labels = (0..150).map(|i| (i % 10) as u8).collect();
    place.write("shapes/train-labels-idx1-ubyte", &[idx_header([0, 0, 8, 1], &[150]), labels].concat());
    place.train("--conditional --eval-every never --steps 20 --out run").succeeds();
    let measured = |arguments: &str, index: usize| {
        let part = format!("--shard {index}/3 --out part-{index}.safetensors");
        eval(&place, &format!("run {arguments} {part}")).succeeds();
    };
    let merged = |format: &str| {
        let parts = "part-2.safetensors part-3.safetensors part-1.safetensors";
        place.gpu_gan(&format!("eval --merge {parts} --device cpu {format}"))
    };
    // A classifier is trained on more images than are evaluated.
    for arguments in ["--reject", "--reject --count 17 --every-checkpoint"] {
        (1..=3).for_each(|index| measured(arguments, index));
        for format in ["--json", ""] {
            let one = eval(&place, &format!("run {arguments} {format}")).succeeds().stdout();
            assert_eq!(merged(format).succeeds().stdout(), one, "{arguments}");
        }
    }
    measured("--count 17 --every-checkpoint", 2);
    merged("").refused().error("differ in --reject: not given and given").hint("only --shard may differ");
    // Counts that sampling cannot give are refused.
    measured("--reject --count 17 --every-checkpoint", 2);
    let mut part = place.read("part-2.safetensors");
    let header = u64::from_le_bytes(part[..8].try_into().unwrap()) as usize;
    let text: serde_json::Value = serde_json::from_slice(&part[8..8 + header]).unwrap();
    let at = 8 + header + text["rejection"]["data_offsets"][0].as_u64().unwrap() as usize;
    part[at..at + 16].copy_from_slice(&[255; 16]);
    place.write("part-2.safetensors", &part);
    merged("").refused().error("part-2.safetensors cannot be used: rejection does not count candidates");
}

#[test]
fn what_cannot_be_rejected_is_refused_with_the_next_step() {
    let batch_norm = Place::with_run("--steps 2");
    let hinge = with_run("--loss hinge --steps 2");
    let pac = with_run("--unconditional --pac 2 --steps 2");
    for (place, error, hint) in [
        (&batch_norm, "the discriminator of tiny was trained on statistics of whole batches", "such as dcgan-r1"),
        (&hinge, "which a discriminator with the hinge loss does not learn", "--loss non-saturating"),
        (&pac, "the discriminator sees 2 images at once (PacGAN)", "--pac 1"),
    ] {
        for call in ["sample run --out none", "eval run"] {
            place.gpu_gan(&format!("{call} --device cpu --reject")).refused().error(error).hint(hint);
        }
        assert!(!place.has("none"));
    }
    let place = with_run("--unconditional --steps 2");
    let said = eval(&place, "shapes --model tiny.toml --reject").refused();
    said.error("shapes is a data set, and --reject needs a run").hint("leave out --reject");
    place.sample("run", "--count 2 --save-latents z.npy").succeeds();
    place.sample("run", "--latents z.npy --reject").misused().remarks("cannot be used with");
    place.gpu_gan("sample --join a.npy --reject --out b.npy").misused().remarks("cannot be used with");
    place.gpu_gan("eval --merge a.safetensors --reject").misused().remarks("cannot be used with");
}
