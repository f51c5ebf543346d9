//! `gpu-gan train --data-memory`: data sets that are uploaded in chunks.

use crate::checkpoint::assert_same_tensors;
use crate::place::{Place, idx_header};

/// 18,000 images of 8 x 8, which take 1.1 MiB: one MiB has room for 16,384 of them.
fn many_images() -> Place {
    let place = Place::new();
    let pixels: Vec<u8> = (0..18_000 * 64).map(|at: usize| (at * 37 + at / 64 * 11) as u8).collect();
    place.write("many-images-idx3-ubyte", &[idx_header([0, 0, 8, 3], &[18_000, 8, 8]), pixels].concat());
    place
}

const TRAIN: &str = "train many-images-idx3-ubyte --model tiny.toml --device cpu --batch-size 300";

#[test]
fn a_run_in_chunks_is_a_run_with_all_images_in_place() {
    let place = many_images();
    let said = place.gpu_gan(&format!("{TRAIN} --steps 100 --out all")).succeeds();
    assert!(!said.stderr().contains("in chunks"));
    let said = place.gpu_gan(&format!("{TRAIN} --steps 100 --data-memory 1 --out chunks")).succeeds();
    said.remarks(
        "18000 images of 8 x 8 x 1, in chunks of 16200 images (1012.5 KiB of 1.1 MiB), as --data-memory allows 1.0 MiB\n",
    );
    // A chunk is 54 steps. The run stops within the first chunk, resumes with all images, and then within the second chunk.
    place.gpu_gan(&format!("{TRAIN} --steps 30 --data-memory 1 --out run")).succeeds();
    place.resume("run", "--steps 57 --data-memory 2").succeeds();
    place.resume("run", "--steps 100 --data-memory 1").succeeds().remarks("in chunks of 16200 images");
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000100.safetensors"));
    assert_same_tensors(&last("all"), &last("chunks"));
    assert_same_tensors(&last("all"), &last("run"));
}

#[test]
fn images_that_fit_are_not_cut_into_chunks() {
    let said = Place::new().train("--steps 1 --data-memory 1").succeeds();
    assert!(!said.stderr().contains("in chunks"));
}

#[test]
fn memory_for_less_than_a_batch_is_refused_with_what_is_needed() {
    let place = many_images();
    let train = TRAIN.replace("300", "18000");
    for dry in ["", "--dry-run"] {
        let said = place.gpu_gan(&format!("{train} --steps 1 --data-memory 1 {dry}")).refused();
        said.error("the 18000 images of a step need 1.1 MiB, but --data-memory allows 1.0 MiB");
    }
    place
        .gpu_gan(&format!("{train} --steps 1 --data-memory 1"))
        .refused()
        .hint("allow at least 2 MiB by --data-memory");
}
