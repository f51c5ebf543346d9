//! `gpu-gan interpolate`: animations along a path through latents.

use std::io::Cursor;

use crate::place::{Place, SIDE};

fn trained() -> Place {
    Place::with_run("--steps 6")
}

/// The image of a seed as `gpu-gan sample` draws it.
fn sampled(place: &Place, seed: u64, more: &str) -> Vec<u8> {
    place.sample("run", &format!("--seeds {seed} --out one.npy {more}")).succeeds();
    place.array("one.npy").1
}

fn interpolate<'a>(place: &'a Place, arguments: &str) -> crate::place::Call<'a> {
    place.gpu_gan(&format!("interpolate run --device cpu {arguments}"))
}

/// Reduces an image by `scale`. Panics if the pixels of a square of `scale x scale` differ.
fn reduced(image: &image::GrayImage, scale: u32) -> Vec<u8> {
    let at = |x: u32, y: u32| image.get_pixel(x, y).0[0];
    let squares = image.enumerate_pixels().all(|(x, y, pixel)| pixel.0[0] == at(x / scale * scale, y / scale * scale));
    assert!(squares, "not every pixel became a square");
    (0..image.height() / scale)
        .flat_map(|y| (0..image.width() / scale).map(move |x| at(x * scale, y * scale)))
        .collect()
}

#[test]
fn each_segment_of_a_gif_begins_with_the_image_of_its_seed() {
    let place = trained();
    let result = interpolate(&place, "--seeds 3,7,12 --frames 5 --json").succeeds().json();
    assert_eq!((&result["frames"], &result["out"]), (&15.into(), &"interpolation.gif".into()));
    let frames = place.animation("interpolation.gif");
    assert_eq!(frames.len(), 15);
    assert!(frames.iter().all(|(frame, delay)| frame.dimensions() == (256, 256) && *delay == 5));
    for (seed, (frame, _)) in [3, 7, 12].into_iter().zip(frames.iter().step_by(5)) {
        assert!(reduced(frame, 32) == sampled(&place, seed, ""), "seed {seed}");
    }
    // Successive frames are closer to each other than the ends of a segment, and the last frame is close to the first.
    let apart = |a: usize, b: usize| -> u32 {
        frames[a].0.pixels().zip(frames[b].0.pixels()).map(|(a, b)| u32::from(a.0[0].abs_diff(b.0[0]))).sum()
    };
    assert!(apart(0, 1) < apart(0, 5) && apart(4, 5) < apart(0, 5) && apart(14, 0) < apart(10, 0));
}

#[test]
fn an_animated_png_and_a_folder_show_the_same_frames() {
    let place = trained();
    interpolate(&place, "--seeds 3,1000000 --frames 4 --scale 1 --out walk").succeeds().prints("8 frames in walk");
    let names: Vec<String> = (1..=8).map(|number| format!("frame-{number:04}.png")).collect();
    let mut found = place.names("walk");
    assert_eq!(found.remove(0), ".gpu-gan-samples.json");
    assert_eq!(found, names);
    let frames: Vec<_> = names.iter().map(|name| place.image(&format!("walk/{name}")).into_raw()).collect();
    assert_eq!([&frames[0], &frames[4]], [3, 1_000_000].map(|seed| sampled(&place, seed, "")).each_ref());
    for out in ["walk.png", "walk.apng"] {
        interpolate(&place, &format!("--seeds 3,1000000 --frames 4 --scale 1 --fps 10 --out {out}")).succeeds();
        let mut reader = png::Decoder::new(Cursor::new(place.read(out))).read_info().unwrap();
        assert_eq!(reader.info().animation_control.unwrap().num_frames, 8);
        for frame in &frames {
            let mut pixels = vec![0; SIDE * SIDE];
            reader.next_frame(&mut pixels).unwrap();
            assert!(pixels == *frame);
            let control = reader.info().frame_control.unwrap();
            assert_eq!((control.delay_num, control.delay_den), (10, 100));
        }
    }
    // An existing folder is used as a folder, whatever its name.
    std::fs::create_dir(place.path("folder.gif")).unwrap();
    interpolate(&place, "--seeds 1,2 --frames 1 --out folder.gif").succeeds();
    assert_eq!(place.names("folder.gif"), [".gpu-gan-samples.json", "frame-0001.png", "frame-0002.png"]);
}

#[test]
fn raw_weights_give_other_images() {
    let place = trained();
    interpolate(&place, "--seeds 3-4 --frames 1 --scale 1 --out raw.gif --raw").succeeds();
    let first = place.animation("raw.gif")[0].0.clone().into_raw();
    assert!(first == sampled(&place, 3, "--raw") && first != sampled(&place, 3, ""));
}

#[test]
fn the_frame_rate_is_as_requested() {
    let place = trained();
    for (fps, hundredths) in [(1, 100), (30, 3), (50, 2)] {
        interpolate(&place, &format!("--seeds 1,2 --frames 1 --scale 2 --fps {fps}")).succeeds();
        let frames = place.animation("interpolation.gif");
        assert!(frames.iter().all(|(frame, delay)| *delay == hundredths && frame.dimensions() == (16, 16)));
    }
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    let place = trained();
    for (arguments, error) in [
        ("--seeds three,four", "`three` is not a seed"),
        ("--seeds 1,2 --frames 0", "0 is not in 1..=10000"),
        ("--seeds 1,2 --fps 60", "60 is not in 1..=50"),
        ("--seeds 1,2 --scale 0", "0 is not in 1..=4096"),
        ("--seeds 1,2 --scale 99999999999999999999", "99999999999999999999"),
        ("--seeds 1,2 --out walk.webp", "cannot write an animation as .webp: use .gif"),
        ("--seeds 1,2 --out walk.mp4", "ffmpeg"),
    ] {
        interpolate(&place, arguments).misused().remarks(error);
    }
    for (arguments, error, hint) in [
        ("--seeds 3", "interpolation needs at least 2 images, but 1 is given", "two seeds or more"),
        ("--seeds 0-99999", "3000000 frames: the limit is 10000", "fewer --seeds"),
        ("--seeds 0-999 --frames 100", "100000 frames: the limit is 10000", "fewer --seeds"),
        ("--seeds 1,2 --scale 513", "--scale 513 is out of range 1..=512", "choose 1 to 512"),
        ("--seeds 1,2 --out gone/walk.gif", "cannot write gone/walk.gif", "spelling"),
    ] {
        interpolate(&place, arguments).refused().error(error).hint(hint);
    }
    place.gpu_gan("interpolate nothing --seeds 1,2").refused().error("no run or checkpoint at nothing");
}

#[test]
fn frames_of_a_longer_animation_are_not_left_behind_new_ones() {
    let place = Place::with_run("--steps 1");
    let draw =
        |frames: usize| place.gpu_gan(&format!("interpolate run --seeds 1,2 --frames {frames} --device cpu --out way"));
    draw(3).succeeds();
    assert_eq!(place.names("way").len(), 1 + 6);
    draw(3).succeeds();
    draw(2).refused().error("way holds frames of a longer animation, such as frame-0005.png").hint("--out");
    place.resume("run", "--steps 2").succeeds();
    draw(4).refused().error("way holds 6 images of another checkpoint (step 1, not 2)");
}
