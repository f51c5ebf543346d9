//! The report of a run: plots, the animation of the sheets, real beside generated images, and the page.

use image::ImageFormat;

use crate::place::{PATIENCE, Place, SHAPES, images};

const PLOTS: [&str; 4] = ["accuracy", "judgement", "losses-by-epoch", "losses-by-step"];

/// The texts of an SVG, which has to be well-formed.
fn texts(svg: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(svg).unwrap();
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts.map(|node| node.text().unwrap_or_default().trim().to_string()).collect()
}

/// The names of the sheets on a page.
fn sheets_of(page: &str) -> Vec<String> {
    let json = page.split("id=\"sheets\">").nth(1).unwrap().split("</script>").next().unwrap();
    let sheets: Vec<serde_json::Value> = serde_json::from_str(json).unwrap();
    sheets.iter().map(|sheet| sheet["name"].as_str().unwrap().to_string()).collect()
}

#[test]
fn every_plot_exists_as_svg_and_png_with_labelled_axes() {
    let place = Place::with_run("--steps 12 --eval-every never");
    let names: Vec<String> = PLOTS.iter().flat_map(|plot| [format!("{plot}.png"), format!("{plot}.svg")]).collect();
    assert_eq!(place.names("run/plots"), names, "and there is none of a distance that nobody measured");
    for (plot, words) in [
        ("losses-by-step", ["step", "loss (nats)", "discriminator", "generator"]),
        ("losses-by-epoch", ["epoch", "loss (nats)", "discriminator", "generator"]),
        ("judgement", ["step", "probability of being real", "real images, D(x)", "generated ones, D(G(z))"]),
        ("accuracy", ["step", "share of images judged right", "accuracy", "guessing"]),
    ] {
        let texts = texts(&place.text(&format!("run/plots/{plot}.svg")));
        for word in words {
            assert!(texts.iter().any(|text| text == word), "{plot} does not say {word}: {texts:?}");
        }
        let png = image::load_from_memory_with_format(&place.read(&format!("run/plots/{plot}.png")), ImageFormat::Png);
        let png = png.unwrap().into_rgb8();
        let coloured = png.pixels().filter(|pixel| pixel.0.iter().max().unwrap() - pixel.0.iter().min().unwrap() > 100);
        let coloured = coloured.count();
        assert!(coloured > 500, "{plot} has no curve: {coloured} coloured pixels");
    }
}

#[test]
fn distances_in_the_log_get_their_plot() {
    let place = Place::with_run("--steps 4");
    // The log of a run with evaluations after the second and the fourth step.
    let with_distances: Vec<String> = place
        .text("run/losses.csv")
        .lines()
        .map(|row| match row.split_once(',').unwrap().0 {
            "2" => row.replacen(",,", ",20.5,", 1),
            "4" => row.replacen(",,", ",10.25,", 1),
            _ => row.to_string(),
        })
        .collect();
    place.write("run/losses.csv", (with_distances.join("\n") + "\n").as_bytes());
    place.resume("run", "--steps 5").succeeds();
    let texts = texts(&place.text("run/plots/quality.svg"));
    assert!(
        texts.iter().any(|text| text == "epoch") && texts.iter().any(|text| text.contains("distance")),
        "{texts:?}"
    );
    assert!(place.has("run/plots/quality.png"));
    assert_eq!(place.text("run/report.html").matches("<svg").count(), 5);
    assert!(place.text("run/log.jsonl").contains("\"fd\":20.5") && place.text("run/losses.csv").contains(",10.25,"));
}

#[test]
fn the_animation_shows_every_sheet_in_order_and_the_last_one_longer() {
    let place = Place::with_run("--steps 8 --sample-every 3steps");
    let frames = place.animation("run/samples/progress.gif");
    assert_eq!(frames.iter().map(|(_, delay)| *delay).collect::<Vec<_>>(), [40, 40, 40, 200]);
    let sheets = ["epoch-0000", "epoch-0001-step-000003", "epoch-0001-step-000006", "epoch-0001-step-000008"];
    for ((frame, _), sheet) in frames.iter().zip(sheets) {
        let sheet = image::DynamicImage::from(place.image(&format!("run/samples/{sheet}.png")));
        let sheet = sheet.resize(280, 280, image::imageops::FilterType::Triangle).into_luma8();
        assert_eq!(frame.dimensions(), sheet.dimensions());
        let apart = frame.pixels().zip(sheet.pixels()).map(|(a, b)| a.0[0].abs_diff(b.0[0])).max();
        assert!(apart <= Some(5), "{apart:?}");
    }
}

#[test]
fn a_resumed_run_has_its_old_sheets_in_the_animation_and_on_the_page() {
    let place = Place::with_run("--steps 12 --checkpoint-every 4steps --keep-checkpoints all");
    place.resume("run", "--steps 21 --keep-checkpoints all").succeeds();
    let names = ["epoch 0", "epoch 1", "epoch 2, step 12", "epoch 2", "epoch 3, step 21"];
    assert_eq!(sheets_of(&place.text("run/report.html")), names);
    let frames = place.animation("run/samples/progress.gif");
    assert_eq!(frames.len(), 5);
    place.train("--steps 12 --out first").succeeds();
    let first = place.animation("first/samples/progress.gif");
    assert!(frames[..2].iter().zip(&first).all(|(now, before)| now.0 == before.0));

    // Resumed from an earlier checkpoint, the run has no later sheets.
    place.resume("run/checkpoints/step-00000004.safetensors", "--steps 11").succeeds();
    let names = ["epoch 0", "epoch 1", "epoch 2, step 11"];
    assert_eq!(sheets_of(&place.text("run/report.html")), names);
    assert_eq!(place.animation("run/samples/progress.gif").len(), 3);
}

#[test]
fn a_run_that_is_resumed_in_a_new_folder_begins_with_a_sheet_and_the_real_images() {
    let place = Place::with_run("--steps 4");
    place.resume("run", "--steps 8 --out new").succeeds();
    let names = ["epoch-0001-step-000004.png", "epoch-0001-step-000008.png", "progress.gif", "reals.png"];
    assert_eq!(place.names("new/samples"), names);
    assert!(place.read("new/samples/reals.png") == place.read("run/samples/reals.png"));
}

#[test]
fn a_damaged_sheet_is_left_out_and_named() {
    let place = Place::with_run("--steps 4 --sample-every 2steps");
    place.write("run/samples/epoch-0001-step-000002.png", b"no image");
    let said = place.resume("run", "--steps 6").succeeds();
    said.remarks("epoch-0001-step-000002.png cannot be read or has another size, and is left out of progress.gif");
    assert_eq!(place.animation("run/samples/progress.gif").len(), 3);
    assert_eq!(sheets_of(&place.text("run/report.html")).len(), 3);
}

#[test]
fn real_images_are_beside_the_generated_ones_of_the_last_sheet() {
    let place = Place::new();
    place.write(SHAPES, &images(|_, _, _| 250));
    place.train("--steps 2 --out run").succeeds();
    let comparison = place.image("run/real-vs-fake.png");
    let reals = place.image("run/samples/reals.png");
    let (left, top) = (2, comparison.height() - reals.height() + 2);
    assert_eq!(comparison.get_pixel(left, top).0, [250]);
    let sheet = place.image("run/samples/epoch-0001-step-000002.png");
    let right = comparison.width() - reals.width() + 2;
    assert_eq!(comparison.get_pixel(right, top), sheet.get_pixel(2, 2));
    assert!(comparison.get_pixel(right, top).0 != [250]);
}

#[test]
fn the_page_has_all_of_it_in_one_file_and_needs_no_network() {
    let place = Place::with_run("--steps 6 --seed 77");
    let page = place.text("run/report.html");
    for fact in [
        "<h1>run</h1>",
        "6 of 6",
        "CPU, 2 threads",
        "Time of all steps",
        "Images per second",
        env!("CARGO_PKG_VERSION"),
        "batch-size",
        ">77<",
        "transposed-conv, kernel 2, stride 2",
        "As small as a model can be",
        "losses.csv",
        "step-00000006.safetensors",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(fact), "{fact} is not on the page");
    }
    assert_eq!(page.matches("<svg").count(), PLOTS.len());
    // Two sheets for the script, the last also without one, and the comparison.
    assert_eq!(page.matches("data:image/png;base64,").count(), 4);
    assert_eq!(sheets_of(&page), ["epoch 0", "epoch 1, step 6"]);
    let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!elsewhere.contains("http:") && !elsewhere.contains("https:") && !elsewhere.contains("src=\"//"));
}

#[test]
fn names_are_escaped_on_the_page() {
    let place = Place::new();
    let model = std::fs::read_to_string(place.path("tiny.toml")).unwrap();
    let nasty = "<script>alert(1)</script>";
    place.write("nasty.toml", model.replace("As small as", nasty).as_bytes());
    place.gpu_gan("train shapes --model nasty.toml --device cpu --steps 1 --out <b>&<i>").succeeds();
    let page = place.text("<b>&<i>/report.html");
    assert!(!page.contains(nasty) && !page.contains("<b>") && !page.contains("<i>"));
    assert!(page.contains("<h1>&lt;b&gt;&amp;&lt;i&gt;</h1>") && page.contains("&lt;script&gt;alert(1)"), "{page}");
}

#[test]
fn the_page_is_there_before_the_first_step() {
    // A run whose first loss is not finite ends before its first row.
    let place = Place::new();
    let layers = "    { layer = \"linear\", features = 8 },\n".repeat(20);
    let last = "    { layer = \"linear\", features = 1 },\n";
    let model = std::fs::read_to_string(place.path("tiny.toml")).unwrap();
    let deep = model.replace(last, &format!("{layers}{last}")).replace("std = 0.2 }", "std = 1000.0 }");
    place.write("deep.toml", deep.as_bytes());
    place.gpu_gan("train shapes --model deep.toml --device cpu --steps 20 --out run").fails().error("diverged");
    let page = place.text("run/report.html");
    assert!(page.contains("0 of 20") && !page.contains("<svg"));
    assert!(!page.contains("in progress"), "the page of a run that failed still reloads itself");
    assert_eq!(sheets_of(&page), ["epoch 0"]);
    assert_eq!(place.names("run/plots"), [""; 0]);
}

/// Waits until a condition holds, and fails if it does not within the time that any command may take.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn the_page_of_a_run_in_progress_says_so_and_reloads_itself() {
    let place = Place::new();
    let mut command =
        place.command("train shapes --model tiny.toml --device cpu --epochs 1000000 --eval-every never --out run -q");
    let mut run = command.spawn().unwrap();
    wait_until("the first report", || place.has("run/report.html"));
    let page = place.text("run/report.html");
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(page.contains("Training is in progress") && page.contains("location.reload()"), "{page}");
}

#[cfg(target_os = "linux")]
#[test]
fn open_shows_the_report_in_the_browser() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.write("bin/xdg-open", b"#!/bin/sh\nprintf %s \"$1\" > \"$OPENED.part\" && mv \"$OPENED.part\" \"$OPENED\"\n");
    std::fs::set_permissions(place.path("bin/xdg-open"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap());
    let opened = place.path("opened");
    let call = place.train("--steps 2 --out run --open").env("PATH", &path).env("OPENED", opened.to_str().unwrap());
    call.succeeds();
    wait_until("the browser", || place.has("opened"));
    assert_eq!(place.text("opened"), "run/report.html");
}

#[test]
fn the_result_of_training_is_also_printed_as_json() {
    let place = Place::new();
    let result = place.train("--steps 6 --out run --json").succeeds().json();
    assert_eq!((&result["step"], &result["complete"]), (&6.into(), &true.into()));
    assert_eq!(result["checkpoint"], "run/checkpoints/step-00000006.safetensors");
    for file in ["run", "checkpoint", "sheet", "report"] {
        assert!(place.has(result[file].as_str().unwrap()), "{file}: {result}");
    }
    assert!(result["best"].is_null() && result["seconds"].as_f64().unwrap() > 0.0, "{result}");
}
