//! `--shard`, `sample --join` and `eval --merge`: work in parts, by processes that do not communicate.

use crate::place::{Call, Place};

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
fn shards_of_a_conditional_run_have_all_classes_of_their_seeds_and_latents_are_joined_too() {
    let place = Place::with_run("--conditional --eval-every never --steps 3");
    place.sample("run", "--count 13 --class 4,7,1 --out whole.npy --save-latents latents.npy").succeeds();
    let draw = |index: usize| {
        let arguments = format!(
            "--count 13 --class 4,7,1 --shard {index}/4 --out images-{index}.npy --save-latents latents-{index}.npy"
        );
        place.sample("run", &arguments).succeeds().prints(&format!("(shard {index}/4)"));
    };
    (1..=4).for_each(draw);
    for name in ["images", "latents"] {
        let parts: Vec<String> = (1..=4).map(|index| format!("{name}-{index}.npy")).collect();
        join(&place, &parts, &format!("joined-{name}.npy")).succeeds();
    }
    assert!(place.read("joined-images.npy") == place.read("whole.npy"));
    assert!(place.read("joined-latents.npy") == place.read("latents.npy"));
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
    said.error("--shard 1/4: 4 shards are too many for 3 seeds").hint("use at most 3 shards");
    place.sample("run", "--shard 1/4").refused().error("shard 1/4 of a sheet cannot be drawn").hint("--out part.npy");
    place.sample("run", "--shard 1/4 --join a.npy --out b.npy").misused().remarks("cannot be used with");
    place.gpu_gan("sample").misused().remarks("<RUN|--join <PARTS>...>");
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
        (with(1, other("five", "run", "--count 20 --shard 2/5")), "five.npy is shard 2/5, but part-1.npy is shard 1/4", "N of"),
        (
            with(1, other("step", earlier, "--count 20 --shard 2/4")),
            "part-1.npy and step.npy differ in the training step of the checkpoint: 8 and 4",
            "only --shard may differ",
        ),
        (with(1, other("raw", "run", "--count 20 --raw --shard 2/4")), "differ in --raw: not given and given", "settings"),
        (with(1, other("more", "run", "--count 21 --shard 2/4")), "differ in the number of seeds: 20 and 21", "settings"),
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
    let renamed = String::from_utf8_lossy(&part).contains("\"shard\":\"2/4\"");
    assert!(renamed, "the note of a part is text");
    place.write("part-2.npy", &part);
    join(&place, &parts, "joined.png").refused().error("--out joined.png: joined parts are one array");
    place.gpu_gan(&format!("sample --join {}", parts.join(" "))).refused().error("--out sample.png").hint("--out images.npy");
    join(&place, &parts, "joined.npy").succeeds().prints("20 rows of 4 parts in joined.npy");
}
