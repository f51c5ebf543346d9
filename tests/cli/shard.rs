//! `--shard`, `sample --join` and `eval --merge`: work in parts, by processes that do not communicate.

use crate::place::{Call, Place, TINY, idx_header};

/// Draws all shards of an array into `PREFIX-I.npy`. Returns their names.
#[track_caller]
fn drawn(place: &Place, arguments: &str, prefix: &str, count: usize) -> Vec<String> {
    let draw = |index: usize| {
        let part = format!("{prefix}-{index}.npy");
        place.sample("run", &format!("{arguments} --shard {index}/{count} --out {part}")).succeeds();
        part
    };
    (1..=count).map(draw).collect()
}

/// `gpu-gan sample --join`.
fn join<'a>(place: &'a Place, parts: &[String], out: &str) -> Call<'a> {
    place.gpu_gan(&format!("sample --join {} --out {out}", parts.join(" ")))
}

/// The bytes of a file with one text replaced by another one of the same length.
#[track_caller]
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("the file has no {from}"));
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

#[test]
fn joined_shards_have_the_bytes_of_one_run_in_any_order_of_the_parts() {
    let place = Place::with_run("--steps 6");
    for (number, arguments) in ["--count 150", "--seeds 900-1029,3,3,5", "--count 7 --raw"].into_iter().enumerate() {
        let whole = format!("whole-{number}.npy");
        place.sample("run", &format!("{arguments} --out {whole}")).succeeds();
        for count in [1, 3, 7] {
            let mut parts = drawn(&place, arguments, "part", count);
            parts.reverse();
            join(&place, &parts, "joined.npy").succeeds().prints(&format!("rows of {count} parts in joined.npy"));
            assert!(place.read("joined.npy") == place.read(&whole), "{arguments} in {count} parts");
        }
    }
    // Programs that read NumPy files find the images of the shard in a part.
    let said = place.sample("run", "--count 150 --shard 2/3 --out part.npy --json").succeeds().json();
    assert_eq!((&said["shard"], &said["images"]), (&"2/3".into(), &50.into()));
    let (shape, images) = place.array("part.npy");
    assert_eq!(shape, [50, 8, 8]);
    assert!(images == place.array("whole-0.npy").1[50 * 64..100 * 64]);
    place.has_no_temporary_files();
}

#[test]
fn shards_of_a_conditional_run_have_the_classes_of_their_images_and_latents_and_classes_are_joined_too() {
    let place = Place::with_run("--conditional --eval-every never --steps 3");
    let all = |end: &str| {
        format!(
            "--out images{end}.npy --save-latents latents{end}.npy --save-classes classes{end}.npy --truncation 0.9"
        )
    };
    for classes in ["", "--class 4,7,1"] {
        place.sample("run", &format!("--count 13 {classes} {}", all(""))).succeeds();
        for index in 1..=4 {
            let arguments = format!("--count 13 {classes} --shard {index}/4 {}", all(&format!("-{index}")));
            place.sample("run", &arguments).succeeds().prints(&format!("(shard {index}/4)"));
        }
        for name in ["images", "latents", "classes"] {
            let parts: Vec<String> = (1..=4).map(|index| format!("{name}-{index}.npy")).collect();
            join(&place, &parts, &format!("joined-{name}.npy")).succeeds();
            assert!(
                place.read(&format!("joined-{name}.npy")) == place.read(&format!("{name}.npy")),
                "{name}, {classes}"
            );
        }
    }
    // The latents of a file are split like seeds.
    place.sample("run", "--latents latents.npy --class 4,7,1 --out whole.npy").succeeds();
    let parts = drawn(&place, "--latents latents.npy --class 4,7,1", "part", 2);
    join(&place, &parts, "joined.npy").succeeds();
    assert!(place.read("joined.npy") == place.read("whole.npy"));
    join(&place, &[parts[0].clone(), "latents-2.npy".into()], "no.npy").refused().error("is shard 2/4, but");
}

#[test]
fn shards_may_draw_into_one_folder() {
    let place = Place::with_run("--steps 6");
    place.sample("run", "--count 70 --out whole").succeeds();
    for index in [3, 1, 2] {
        place.sample("run", &format!("--count 70 --shard {index}/3 --out parts")).succeeds();
    }
    let names = place.names("whole");
    assert_eq!((names.len(), &names), (71, &place.names("parts")));
    for name in names {
        assert!(place.read(&format!("whole/{name}")) == place.read(&format!("parts/{name}")), "{name}");
    }
}

#[test]
fn job_arrays_tell_the_shard() {
    let place = Place::with_run("--steps 6");
    place.sample("run", "--count 9 --out whole.npy").succeeds();
    let array = |task: usize, out: usize| {
        let call = place.sample("run", &format!("--count 9 --shard auto --out part-{out}.npy"));
        call.env("SLURM_ARRAY_TASK_ID", &task.to_string()).env("SLURM_ARRAY_TASK_COUNT", "3")
    };
    for first in [0, 1] {
        for place in 0..3 {
            array(first + place, place).env("SLURM_ARRAY_TASK_MIN", &first.to_string()).succeeds();
        }
        place.gpu_gan("sample --join part-0.npy part-1.npy part-2.npy --out joined.npy").succeeds();
        assert!(place.read("joined.npy") == place.read("whole.npy"), "tasks from {first} on");
    }
    for index in 0..3 {
        let call = place.sample("run", &format!("--count 9 --shard auto/3 --out pod-{index}.npy"));
        call.env("JOB_COMPLETION_INDEX", &index.to_string()).succeeds();
    }
    place.gpu_gan("sample --join pod-0.npy pod-1.npy pod-2.npy --out pods.npy").succeeds();
    assert!(place.read("pods.npy") == place.read("whole.npy"));

    array(4, 9).env("SLURM_ARRAY_TASK_MIN", "1").refused().error("task 4 of a job array of 3 tasks from 1 to 3");
    let auto = || place.sample("run", "--count 9 --shard auto --out no.npy");
    auto().refused().error("neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set").hint("--shard 1/4");
    let said = auto().env("JOB_COMPLETION_INDEX", "2").refused();
    said.error("Kubernetes does not tell the number of shards").hint("--shard auto/N");
}

#[test]
fn shards_that_do_not_exist_are_refused() {
    let place = Place::with_run("--steps 1");
    for (shard, error) in [
        ("0/4", "shards are counted from 1, so choose 1/4 to 4/4"),
        ("5/4", "shard 5/4 does not exist"),
        ("1/0", "0 shards are out of range 1..=10000"),
        ("2", "`2` is not a shard; write I/N with I from 1 to N, `auto`, or `auto/N`"),
    ] {
        place.sample("run", &format!("--shard {shard} --out part.npy")).misused().remarks(error);
    }
    let said = place.sample("run", "--count 3 --shard 1/4 --out part.npy").refused();
    said.error("--shard 1/4: 4 shards are too many for 3 images").hint("use at most 3 shards");
    place.sample("run", "--shard 1/4").refused().error("shard 1/4 of a sheet cannot be drawn").hint("--out part.npy");
    place.sample("run", "--shard 1/4 --join a.npy --out b.npy").misused().remarks("cannot be used with");
    place.gpu_gan("sample").misused().remarks("<RUN>");
}

#[test]
fn parts_that_are_not_all_parts_of_one_array_are_not_joined() {
    let place = Place::with_run("--steps 8 --checkpoint-every 4steps");
    let parts = drawn(&place, "--count 20", "part", 4);
    let other = |name: &str, run: &str, arguments: &str| {
        place.sample(run, &format!("{arguments} --out {name}.npy")).succeeds();
        format!("{name}.npy")
    };
    let with = |place: usize, name: String| {
        let mut parts = parts.clone();
        parts[place] = name;
        parts
    };
    let earlier = "run/checkpoints/step-00000004.safetensors";
    let others = [
        (vec![parts[0].clone(), parts[2].clone()], "2 of 4 shards are missing: 2/4, 4/4", "--shard"),
        (parts[1..].to_vec(), "shard 1/4 is missing", "--shard 1/4"),
        (with(1, parts[0].clone()), "part-1.npy and part-1.npy are both shard 1/4", "once"),
        (
            with(1, other("five", "run", "--count 20 --shard 2/5")),
            "five.npy is shard 2/5, but part-1.npy is shard 1/4",
            "N of",
        ),
        (
            with(1, other("step", earlier, "--count 20 --shard 2/4")),
            "part-1.npy and step.npy differ in the training step of the checkpoint: 8 and 4",
            "only --shard may differ",
        ),
        (
            with(1, other("raw", "run", "--count 20 --raw --shard 2/4")),
            "differ in --raw: not given and given",
            "settings",
        ),
        (
            with(1, other("more", "run", "--count 21 --shard 2/4")),
            "differ in the number of images: 20 and 21",
            "settings",
        ),
        (with(1, other("seeds", "run", "--seeds 1-20 --shard 2/4")), "differ in the seeds (CRC-32)", "settings"),
        (with(1, other("whole", "run", "--count 5")), "whole.npy cannot be used: it is a whole array", "again"),
        (with(1, "tiny.toml".into()), "tiny.toml cannot be used: it is not in NumPy's format", "again"),
        (with(1, "nothing.npy".into()), "cannot read nothing.npy", "path"),
    ];
    for (parts, error, hint) in others {
        join(&place, &parts, "joined.npy").refused().error(error).hint(hint);
    }
    let part = place.read("part-2.npy");
    for length in [part.len() - 1, part.len() / 2, 128 + 100, 50, 0] {
        place.write("part-2.npy", &part[..length]);
        join(&place, &parts, "joined.npy").refused().error("part-2.npy cannot be used: it").hint("copy the file again");
    }
    // A note of another format may have other entries.
    for (from, to, error) in [
        (
            "\"format\":2,\"version\"",
            "\"format\":1,\"version\"",
            "it is of format 1, and this version of gpu-gan reads format 2",
        ),
        ("\"format\":2,\"version\"", "\"format\":3,\"another\"", "it is of format 3"),
        ("\"format\"", "\"former\"", "it is of an unknown format"),
        ("\"shard\":\"2/4\"", "\"shard\":\"5/4\"", "its description is damaged: shard 5/4 does not exist"),
    ] {
        place.write("part-2.npy", &replaced(&part, from, to));
        join(&place, &parts, "joined.npy").refused().error(&format!("part-2.npy cannot be used: {error}"));
    }
    place.write("part-2.npy", &part);
    join(&place, &parts, "joined.png").refused().error("--out joined.png: joined parts are one array");
    place
        .gpu_gan(&format!("sample --join {}", parts.join(" ")))
        .refused()
        .error("--out sample.png")
        .hint("--out images.npy");
    join(&place, &parts, "joined.npy").succeeds().prints("20 rows of 4 parts in joined.npy");
}

/// `gpu-gan eval` of all shards. Returns the names of the parts.
#[track_caller]
fn measured(place: &Place, arguments: &str, prefix: &str, count: usize) -> Vec<String> {
    let measure = |index: usize| {
        let part = format!("{prefix}-{index}.safetensors");
        let said = place.gpu_gan(&format!("eval {arguments} --device cpu --shard {index}/{count} --out {part}"));
        said.succeeds().prints(&format!("(shard {index}/{count}) in {part}"));
        part
    };
    (1..=count).map(measure).collect()
}

/// Asserts that the merged report of these shards is the report of one process, as JSON and as text.
#[track_caller]
fn assert_merged(place: &Place, arguments: &str, count: usize) {
    let mut parts = measured(place, arguments, "part", count);
    parts.rotate_left(1);
    for format in ["--json", ""] {
        let one = place.gpu_gan(&format!("eval {arguments} --device cpu {format}")).succeeds().stdout();
        let merged = place.gpu_gan(&format!("eval --merge {} --device cpu {format}", parts.join(" ")));
        assert_eq!(merged.succeeds().stdout(), one, "{arguments} in {count} parts");
    }
}

#[test]
fn merged_shards_have_every_figure_of_one_process() {
    let place = Place::with_run("--steps 6 --checkpoint-every 3steps");
    for count in [1, 3, 7] {
        assert_merged(&place, "run", count);
    }
    assert_merged(&place, "run --count 17 --raw", 4);
    assert_merged(&place, "run --every-checkpoint", 2);
    assert_merged(&place, "shapes --model tiny.toml --count 20", 3);
    // Neither the run nor its images are needed.
    let parts = measured(&place, "run", "part", 2);
    let one = place.gpu_gan("eval run --device cpu").succeeds().stdout();
    for folder in ["run", "shapes"] {
        std::fs::remove_dir_all(place.path(folder)).unwrap();
    }
    assert_eq!(place.gpu_gan(&format!("eval --merge {}", parts.join(" "))).succeeds().stdout(), one);
    place.has_no_temporary_files();
}

#[test]
fn merged_shards_of_images_without_labels_have_every_figure_of_one_process() {
    // More images than are computed at once, so that shards begin inside of a batch.
    let place = Place::empty();
    let pixels: Vec<u8> = (0..300 * 64).map(|at: usize| (at * 37 + at / 64 * 11) as u8).collect();
    place.write("many-images-idx3-ubyte", &[idx_header([0, 0, 8, 3], &[300, 8, 8]), pixels].concat());
    place.write("tiny.toml", TINY.as_bytes());
    let train = "train many-images-idx3-ubyte --model tiny.toml --device cpu --eval-every never --steps 20 --out run";
    place.gpu_gan(train).succeeds();
    assert_merged(&place, "run --count 150", 4);
    assert_merged(&place, "run", 3);
}

#[test]
fn merged_shards_of_a_conditional_run_have_its_conditional_scores() {
    let place = Place::with_run("--conditional --eval-every never --steps 6");
    assert_merged(&place, "run --count 12", 5);
}

#[test]
fn parts_that_are_not_all_parts_of_one_evaluation_are_not_merged() {
    let place = Place::with_run("--steps 8 --checkpoint-every 4steps");
    let parts = measured(&place, "run", "part", 3);
    let other = |name: &str, arguments: &str| {
        place.gpu_gan(&format!("eval {arguments} --device cpu --out {name}.safetensors")).succeeds();
        format!("{name}.safetensors")
    };
    let with = |name: String| vec![parts[0].clone(), name, parts[2].clone()];
    let merge = |parts: &[String]| place.gpu_gan(&format!("eval --merge {}", parts.join(" ")));
    let newest = "run/checkpoints/step-00000008.safetensors";
    for (parts, error, hint) in [
        (vec![parts[2].clone()], "2 of 3 shards are missing: 1/3, 2/3", "give all 3 parts"),
        (with(parts[2].clone()), "part-3.safetensors and part-3.safetensors are both shard 3/3", "once"),
        (with(other("four", "run --shard 2/4")), "four.safetensors is shard 2/4, but part-1.safetensors is", "N of"),
        (
            with(other("step", "run/checkpoints/step-00000004.safetensors --shard 2/3")),
            "differ in the training step of the checkpoint: 8 and 4",
            "only --shard may differ",
        ),
        (with(other("raw", "run --raw --shard 2/3")), "differ in --raw: not given and given", "settings"),
        (with(other("few", "run --count 30 --shard 2/3")), "differ in the number of images: 40 and 30", "settings"),
        (with(newest.into()), "`gpu-gan eval --shard` did not write it", "again"),
        (with("tiny.toml".into()), "tiny.toml cannot be used: it is truncated or no safetensors file", "again"),
    ] {
        merge(&parts).refused().error(error).hint(hint);
    }
    let part = place.read("part-2.safetensors");
    for length in [part.len() - 1, part.len() / 2, 9, 0] {
        place.write("part-2.safetensors", &part[..length]);
        merge(&parts).refused().error("part-2.safetensors cannot be used: it is truncated").hint("copy the file again");
    }
    for (to, error) in [(1, "it is of format 1, and this version of gpu-gan reads format 2"), (3, "it is of format 3")]
    {
        place.write("part-2.safetensors", &replaced(&part, r#"\"format\":2"#, &format!(r#"\"format\":{to}"#)));
        merge(&parts).refused().error(&format!("part-2.safetensors cannot be used: {error}"));
    }
    // A classifier of other weights has other features.
    let name = b"extractor_fingerprint";
    let at = part.windows(name.len()).position(|bytes| bytes == name).expect("the description is text");
    let mut bytes = part.clone();
    let digit = at + name.len() + r#"\":\""#.len();
    bytes[digit] = if bytes[digit] == b'0' { b'1' } else { b'0' };
    place.write("part-2.safetensors", &bytes);
    merge(&parts).refused().error("differ in the weights of the classifier").error("GPU_GAN_CACHE");

    for (arguments, error) in [
        ("run --shard 1/3", "--out <FILE>"),
        ("run --out part.safetensors", "--neighbours|--shard"),
        ("run --shard 1/3 --neighbours --out part.safetensors", "cannot be used with"),
        ("run --shard 0/3 --out part.safetensors", "shards are counted from 1"),
        ("run --merge part-1.safetensors", "cannot be used with"),
    ] {
        place.gpu_gan(&format!("eval {arguments}")).misused().remarks(error);
    }
    let said = place.gpu_gan("eval part-1.safetensors").refused();
    said.error("part-1.safetensors is not a checkpoint, but shard 1/3 of an evaluation").hint("eval --merge");
    let said = place.gpu_gan("eval run --shard 1/41 --out part.safetensors").refused();
    said.error("--shard 1/41: 41 shards are too many for 40 images").hint("use at most 40 shards");
    place.gpu_gan("eval run --shard 1/3 --out part.npy").refused().error("can only be written as .safetensors");
}

#[test]
fn shards_on_a_gpu_are_put_together_like_those_on_the_cpu() {
    if std::env::var("GPU_GAN_SKIP_GPU").is_ok_and(|value| value == "1") {
        return crate::place::skipped("shards on a GPU", "GPU_GAN_SKIP_GPU=1");
    }
    let place = Place::new();
    // Without labels, no classifier is trained, which takes long on a software adapter.
    std::fs::remove_file(place.path("shapes/train-labels-idx1-ubyte")).unwrap();
    place.train("--steps 6 --eval-every never --out run").succeeds();
    let call = |arguments: &str| place.gpu_gan(&format!("{arguments} --device gpu"));
    call("sample run --count 100 --out whole.npy").succeeds();
    for index in [1, 2] {
        call(&format!("sample run --count 100 --shard {index}/2 --out part-{index}.npy")).succeeds();
        call(&format!("eval run --shard {index}/2 --out part-{index}.safetensors")).succeeds();
    }
    let parts = ["part-1.npy".into(), "part-2.npy".into()];
    join(&place, &parts, "joined.npy").succeeds();
    assert!(place.read("joined.npy") == place.read("whole.npy"));
    let one = call("eval run --json").succeeds().stdout();
    let merge = "eval --merge part-1.safetensors part-2.safetensors --json";
    assert_eq!(place.gpu_gan(merge).succeeds().stdout(), one);

    // Parts of different devices are put together with a warning.
    place.sample("run", "--count 100 --shard 2/2 --out part-2.npy").succeeds();
    join(&place, &parts, "joined.npy").succeeds().remarks("can differ in rounding");
}

/// The code block of `docs/clusters.md` that contains a text.
#[cfg(target_os = "linux")]
fn block(text: &str) -> String {
    let document = include_str!("../../docs/clusters.md").replace("\r\n", "\n");
    let blocks = document.split("\n```").skip(1).step_by(2);
    let found = blocks.filter_map(|block| block.split_once('\n')).find(|(_, block)| block.contains(text));
    format!("{}\n", found.unwrap_or_else(|| panic!("no code block with {text}")).1)
}

#[cfg(target_os = "linux")]
#[test]
fn the_job_array_of_the_documentation_gives_the_images_and_the_report_of_one_process() {
    let place = Place::with_run("--steps 6");
    place.write("shards.sh", block("# sbatch shards.sh").as_bytes());
    place.write("join.sh", block("# sbatch join.sh").as_bytes());
    std::fs::create_dir(place.path("bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gpu-gan"), place.path("bin/gpu-gan")).unwrap();
    let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap());
    let submitted =
        |script: &str| place.shell(&format!("sh {script}"), "").env("PATH", &path).env("GPU_GAN_DEVICE", "cpu");
    // As Slurm starts the tasks of --array=1-8, in any order.
    for task in [3, 1, 2, 8, 7, 6, 5, 4] {
        let call = submitted("shards.sh run parts").env("SLURM_ARRAY_TASK_ID", &task.to_string());
        let call = call.env("SLURM_ARRAY_TASK_COUNT", "8").env("SLURM_ARRAY_TASK_MIN", "1");
        call.env("SLURM_ARRAY_TASK_MAX", "8").succeeds().prints(&format!("(shard {task}/8)"));
    }
    let said = submitted("join.sh parts").succeeds().stdout();
    place.sample("run", "--count 10000 --out whole.npy").succeeds();
    assert!(place.read("images.npy") == place.read("whole.npy"));
    let report = place.gpu_gan("eval run --device cpu").succeeds().stdout();
    assert!(said.ends_with(&report), "{said}\ninstead of\n{report}");

    std::fs::remove_file(place.path("parts/eval-5.safetensors")).unwrap();
    place.shell("\"$0\" eval --merge parts/eval-*.safetensors", "").refused().error("shard 5/8 is missing");
}
