//! `gpu-gan export` and the latents of `sample`: files for other programs. `tests/export.rs` has these programs read them.

use std::fs;

use crate::place::Place;

#[test]
fn the_ending_decides_the_format_and_the_result_names_the_files() {
    let place = Place::with_run("--steps 2");
    place.gpu_gan("export run g.onnx").succeeds().prints("exported to g.onnx").remarks("step 2");
    assert!(place.read("g.onnx").windows(8).any(|bytes| bytes == b"gpu-gan\x1a"), "the producer's name");
    place.gpu_gan("export run g.safetensors").succeeds().prints("exported to g.safetensors and g.py");
    assert!(fs::read_to_string(place.path("g.py")).unwrap().contains("class Generator(nn.Module):"));
    let json = place.gpu_gan("export run/checkpoints/step-00000002.safetensors d.onnx --discriminator --json");
    let json: serde_json::Value = serde_json::from_str(&json.succeeds().stdout()).unwrap();
    assert_eq!((&json["files"][0], &json["step"]), (&"d.onnx".into(), &2.into()));
    assert!(place.read("d.onnx") != place.read("g.onnx"));
    place.gpu_gan("export run raw.onnx --raw").succeeds();
    assert!(place.read("raw.onnx") != place.read("g.onnx"));
    place.has_no_temporary_files();
}

#[test]
fn formats_are_listed_and_what_they_do_not_have_is_refused() {
    let place = Place::with_run("--steps 1");
    let listed = place.gpu_gan("export --list").succeeds().prints(".onnx").prints(".safetensors").stdout();
    assert!(listed.contains("options: --discriminator, --uint8, --raw"), "{listed}");
    place.gpu_gan("export run g.pt").misused().error("must end in .onnx, .safetensors, .html or .json");
    place.gpu_gan("export run").misused();
    place.gpu_gan("export").misused();
    place.gpu_gan("export run g.onnx --uint8 --discriminator").misused();
    place
        .gpu_gan("export run g.safetensors --uint8")
        .refused()
        .error("--uint8 is not possible for .safetensors")
        .hint("--list");
    place.gpu_gan("export run g.onnx --images 10").refused().error("--images is not possible for .onnx");
    place.gpu_gan("export run g.onnx --data elsewhere").refused().error("--data is not possible for .onnx");
    place.gpu_gan("export run g.html --raw").refused().error("--raw is not possible for .html");
    place
        .gpu_gan("export run g.html --images 3")
        .refused()
        .error("3 training images are fewer than the 4")
        .hint("--images 4");
    place.gpu_gan("export run g.html --images 0").misused();
    place.gpu_gan("export nothing g.onnx").refused().error("nothing");
    assert!(!place.has("g.onnx") && !place.has("g.safetensors"));
}

#[test]
fn a_page_has_the_sheets_of_its_run_and_a_program_has_every_value() {
    let place = Place::with_run("--steps 2");
    place.gpu_gan("export run demo.html --images 8").succeeds().prints("exported to demo.html");
    let page = String::from_utf8(place.read("demo.html")).unwrap();
    assert!(page.contains("Generated images, ") && page.contains("Real images"), "the sheets of the run");
    assert!(page.contains("8 training images; the run had 40"), "{}", &page[..2000]);
    for elsewhere in ["http:", "https:", "src=\"/", "import("] {
        assert!(!page.contains(elsewhere), "the page needs {elsewhere}");
    }
    place.gpu_gan("export run/checkpoints/step-00000002.safetensors program.json --json").succeeds();
    let program: serde_json::Value = serde_json::from_slice(&place.read("program.json")).unwrap();
    assert_eq!(program["format"], "gpu-gan program");
    assert_eq!((&program["gan"]["step"], &program["gan"]["batch_size"]), (&2.into(), &4.into()));
    let buffers = program["buffers"].as_array().unwrap();
    assert!(buffers.iter().all(|buffer| buffer["initial"]["encoding"] != "f16"));

    fs::copy(place.path("run/checkpoints/step-00000002.safetensors"), place.path("alone.safetensors")).unwrap();
    place.gpu_gan("export alone.safetensors alone.html").succeeds();
    let alone = String::from_utf8(place.read("alone.html")).unwrap();
    assert!(alone.contains("Generated images, step 2"), "a sheet that was drawn for the page");
}

#[test]
fn saved_latents_make_the_images_of_their_seeds() {
    let place = Place::with_run("--steps 2");
    place.sample("run", "--seeds 3,5 --out seeds.npy --save-latents latents.npy").succeeds();
    place.sample("run", "--latents latents.npy --out latents-again.npy").succeeds().prints("2 images");
    assert!(place.read("seeds.npy") == place.read("latents-again.npy"));
    place.sample("run", "--latents latents.npy --out few").succeeds();
    assert!(place.has("few/latent-000000.png") && place.has("few/latent-000001.png"));

    place.sample("run", "--latents seeds.npy").refused().error("its shape is [2, 8, 8]").hint("(N, 4)");
    place.sample("run", "--latents nothing.npy").refused().error("nothing.npy");
    place.write("text.npy", b"hello");
    place.sample("run", "--latents text.npy").refused().error("text.npy").hint("NumPy array of f32");
    place.sample("run", "--latents latents.npy --seeds 3").misused();
}
