//! `gpu-gan project`: the picture, the latent, and refusals.

use crate::place::{Place, photograph};

#[test]
fn an_image_is_projected_and_its_latent_draws_the_result() {
    let place = Place::with_run("--steps 5 --conditional");
    place.write("target.png", &photograph(20, 24, 3));
    let said = place.gpu_gan("project run target.png --steps 4 --save-latents z.npy --device cpu --json").succeeds();
    let result = said.json();
    assert!(result["psnr"].as_f64().unwrap() > 0.0 && result["error"].as_f64().unwrap() < 1.0);
    let class = result["class"].as_str().unwrap().to_string();
    let picture = place.image("projection.png");
    assert!(picture.width() > 4 * picture.height(), "{:?}", picture.dimensions());
    place.sample("run", &format!("--latents z.npy --class {class} --out drawn.png")).succeeds();
    place.image("drawn.png");
    // Without --json, a sentence says where the picture lies.
    place
        .gpu_gan("project run target.png --steps 2 --class 3 --out other.png --device cpu")
        .succeeds()
        .prints("class 3. Look at other.png");
    place.has_no_temporary_files();
}

#[test]
fn what_cannot_be_projected_is_refused_before_anything_is_written() {
    let place = Place::with_run("--steps 2");
    place.write("target.png", &photograph(20, 24, 3));
    place.write("broken.png", b"no image");
    for (arguments, error) in [
        ("run nothing.png", "nothing.png"),
        ("run broken.png", "broken.png"),
        ("run shapes", "is not an image file"),
        ("run target.png --out other.gif", "other.gif is not a .png file"),
        ("run target.png --class 3", "is not conditional"),
        ("shapes target.png", "shapes"),
    ] {
        place.gpu_gan(&format!("project {arguments} --device cpu")).refused().error(error);
    }
    place.gpu_gan("project run target.png --steps 0").misused();
    let place = Place::with_run("--steps 2 --conditional");
    place.write("target.png", &photograph(20, 24, 3));
    place.gpu_gan("project run target.png --class 1,2 --device cpu").refused().error("--class names 2");
}
