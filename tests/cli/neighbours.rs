//! `gpu-gan eval --neighbours`: the nearest training images.

use crate::place::{Call, Place};

fn eval<'a>(place: &'a Place, arguments: &str) -> Call<'a> {
    place.gpu_gan(&format!("eval {arguments} --device cpu"))
}

#[test]
fn the_nearest_training_images_are_drawn_and_their_distances_printed() {
    let place = Place::with_run("--steps 6");
    let text = eval(&place, "run --neighbours").succeeds().stdout();
    for words in [
        "nearest neighbours, by pixels, of 40 generated images among 40 training images",
        "this run   training images",
        "\nmedian distance ",
        "\nsuspiciously near ",
        "examples, sorted by distance: run/neighbours.png",
    ] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
    // A caption above ten rows of an image and its five neighbours.
    let image = place.image("run/neighbours.png");
    let (width, height) = image.dimensions();
    assert_eq!((width - 2) % 6, 0);
    assert_eq!((height - 44 - 2) % 10, 0);
    assert_eq!((width - 2) / 6, (height - 44 - 2) / 10);

    let report = eval(&place, "run --neighbours --json --out other.png").succeeds().stdout();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let neighbours = &report["run"]["neighbours"];
    for (name, least, most) in
        [("generated", 1.0, 255.0), ("real", 1.0, 255.0), ("ratio", 0.01, 100.0), ("suspicious", 0.0, 1.0)]
    {
        assert!(neighbours[name].as_f64().is_some_and(|value| (least..=most).contains(&value)), "{name}: {neighbours}");
    }
    assert_eq!(neighbours["held_out"], false);
    assert_eq!(neighbours["image"], "other.png");
    assert!(place.read("other.png") == place.read("run/neighbours.png"));
    let without: serde_json::Value = serde_json::from_str(&eval(&place, "run --json").succeeds().stdout()).unwrap();
    assert!(without["run"]["neighbours"].is_null());
}

#[test]
fn only_a_run_has_neighbours_and_only_a_png_shows_them() {
    let place = Place::with_run("--steps 1");
    eval(&place, "shapes --model tiny.toml --neighbours").refused().error("shapes is a data set").hint("name a run");
    eval(&place, "run --neighbours --out here.jpg").refused().error("--out here.jpg").hint(".png");
    eval(&place, "run --out here.png").misused();
}
