//! The fuzz targets: functions that pass bytes to the program as a file of one kind. They must return normally for any bytes; a
//! panic is a finding. `fuzz/` runs them under libFuzzer, `tests/fuzz.rs` on stable with mutated seeds.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use gpu_gan::cli::{SeedList, parse_class_list};
use gpu_gan::cpu::CpuDevice;
use gpu_gan::data::{self, Fit, Frames, ImageSet, Source};
use gpu_gan::evaluation::{Evaluation, EvaluationPart, RunCheckpoints};
use gpu_gan::net::Model;
use gpu_gan::program::DiffAugment;
use gpu_gan::progress::{Console, Task};
use gpu_gan::recipe::{EvalInterval, Interval, KeptCheckpoints, Recipe, TimeLimit};
use gpu_gan::report::ImageBytes;
use gpu_gan::report::array_part::{ArrayPart, join};
use gpu_gan::report::arrays::{write_matrix, write_npy};
use gpu_gan::shard::Shard;
use gpu_gan::train::{Checkpoint, Row, Settings, read_config};
use gpu_gan::verify::{KnownFailures, Replay};
use image::{DynamicImage, ImageFormat, RgbImage};

/// A fuzz target.
pub(crate) struct Target {
    /// The target's name, and the name of its folders in `fuzz/corpus` and `fuzz/findings`.
    pub(crate) name: &'static str,
    /// Passes bytes to the program. It may write into the folder.
    pub(crate) run: fn(&Path, &[u8]),
    /// Creates the seeds of the mutations: small valid files.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub(crate) const TARGETS: [Target; 19] = [
    Target { name: "idx", run: idx, seeds: idx_seeds },
    Target { name: "idx_labels", run: idx_labels, seeds: idx_label_seeds },
    Target { name: "image", run: image_file, seeds: image_seeds },
    Target { name: "npy", run: npy, seeds: npy_seeds },
    Target { name: "npz", run: npz, seeds: npz_seeds },
    Target { name: "zip", run: zip, seeds: zip_seeds },
    Target { name: "tar", run: tar, seeds: tar_seeds },
    Target { name: "label_table", run: label_table, seeds: label_table_seeds },
    Target { name: "cache_entry", run: cache_entry, seeds: cache_entry_seeds },
    Target { name: "checkpoint", run: checkpoint, seeds: checkpoint_seeds },
    Target { name: "array_part", run: array_part, seeds: array_part_seeds },
    Target { name: "evaluation_part", run: evaluation_part, seeds: evaluation_part_seeds },
    Target { name: "model_toml", run: model_toml, seeds: model_toml_seeds },
    Target { name: "config_toml", run: config_toml, seeds: config_toml_seeds },
    Target { name: "run_log", run: run_log, seeds: run_log_seeds },
    Target { name: "class_list", run: class_list, seeds: class_list_seeds },
    Target { name: "interval", run: interval, seeds: interval_seeds },
    Target { name: "failing_case", run: failing_case, seeds: failing_case_seeds },
    Target { name: "known_failures", run: known_failures, seeds: known_failures_seeds },
];

const SHAPE: [usize; 3] = [4, 4, 1];

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("the folder can be written");
    path
}

/// Opens a file as a data set; `None` on an error, which is a valid outcome.
fn open(path: &Path, source: impl FnOnce(Source) -> Source, cache: Option<&Path>) -> Option<ImageSet> {
    let source = source(Source { upscale: true, ..Source::from(path.to_str().expect("paths of tests are UTF-8")) });
    match data::open(&source, SHAPE, cache, &Console::silent()) {
        Ok(set) => {
            assert_eq!(set.pixels.len(), set.count() * 16, "images of another size");
            Some(set)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

fn idx(folder: &Path, bytes: &[u8]) {
    open(&write(folder, "images.idx", bytes), |source| source, None);
}

fn idx_labels(folder: &Path, bytes: &[u8]) {
    let images = write(folder, "train-images-idx3-ubyte", &idx_seeds()[0]);
    write(folder, "train-labels-idx1-ubyte", bytes);
    if let Some(set) = open(&images, |source| source, None) {
        let count = set.count();
        assert!(set.labels.is_none_or(|labels| labels.len() == count));
    }
}

fn image_file(folder: &Path, bytes: &[u8]) {
    let path = write(folder, "image.png", bytes);
    open(&path, |source| source, None);
    let odd = |source| Source { frames: Frames::All, normalise: true, fit: Fit::Pad, ..source };
    open(&path, odd, None);
}

fn npy(folder: &Path, bytes: &[u8]) {
    open(&write(folder, "array.npy", bytes), |source| source, None);
}

fn npz(folder: &Path, bytes: &[u8]) {
    open(&write(folder, "arrays.npz", bytes), |source| source, None);
}

fn zip(folder: &Path, bytes: &[u8]) {
    open(&write(folder, "images.zip", bytes), |source| source, None);
}

fn tar(folder: &Path, bytes: &[u8]) {
    open(&write(folder, "images.tar", bytes), |source| source, None);
    open(&write(folder, "images.tgz", bytes), |source| source, None);
}

fn label_table(folder: &Path, bytes: &[u8]) {
    let images = folder.join("images");
    if fs::create_dir(&images).is_ok() {
        (0..16).for_each(|i| drop(write(&images, &format!("{i:02}.bmp"), &small_image(i, ImageFormat::Bmp))));
    }
    for name in ["labels.csv", "dataset.json"] {
        let path = write(&images, name, bytes);
        open(&images, |source| source, None);
        let named = path.to_str().map(Into::into);
        open(&images, |source| Source { labels: named, ..source }, None);
        fs::remove_file(path).expect("it was written");
    }
}

fn cache_entry(folder: &Path, bytes: &[u8]) {
    let (images, cache) = (folder.join("images"), folder.join("cache"));
    if fs::create_dir(&images).is_ok() {
        (0..16).for_each(|i| drop(write(&images, &format!("{i:02}.bmp"), &small_image(i, ImageFormat::Bmp))));
        open(&images, |source| source, Some(&cache));
    }
    let entry = fs::read_dir(cache.join("images")).expect("the cache exists").next();
    let entry = entry.expect("an entry").expect("an entry").path();
    fs::write(&entry, bytes).expect("the cache can be written");
    let set = open(&images, |source| source, Some(&cache)).expect("the images themselves are undamaged");
    assert_eq!((set.count(), set.pixels.len()), (16, 256));
}

fn checkpoint(folder: &Path, bytes: &[u8]) {
    let _ = Checkpoint::read(&write(folder, "step-00000001.safetensors", bytes));
}

fn array_part(folder: &Path, bytes: &[u8]) {
    if let Ok(part) = ArrayPart::open(&write(folder, "part.npy", bytes)) {
        join(&folder.join("joined.npy"), &[part], &Task::hidden()).expect("what was opened can be copied");
    }
}

fn evaluation_part(folder: &Path, bytes: &[u8]) {
    if let Ok(file) = EvaluationPart::read(&write(folder, "part.safetensors", bytes)) {
        let _ = EvaluationPart::merge(vec![file], &Console::silent());
    }
}

fn model_toml(_: &Path, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Model::parse(text, "fuzzed.toml");
    }
}

fn config_toml(folder: &Path, bytes: &[u8]) {
    if let Ok(recipe) = read_config(&write(folder, "config.toml", bytes)) {
        // What was read can be written and read again.
        let again = Recipe::read(&write(folder, "again.toml", recipe.to_toml().as_bytes()));
        assert_eq!(again.expect("options that were read can be read"), recipe);
    }
}

fn run_log(folder: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(folder.join("log.jsonl"));
    write(folder, "losses.csv", bytes);
    let _ = Row::all_of(folder);
    let _ = fs::remove_file(folder.join("losses.csv"));
    write(folder, "log.jsonl", bytes);
    let _ = Row::all_of(folder);
}

fn class_list(_: &Path, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let names = ["cats", "hot-dogs", "7", "Größe, XL", "-2"].map(String::from);
        for (count, names) in [(10, &[][..]), (256, &[]), (5, &names[..])] {
            if let Ok(labels) = parse_class_list(text, count, names) {
                assert!(!labels.is_empty() && labels.iter().all(|&label| usize::from(label) < count), "{text}");
            }
        }
    }
}

fn interval(_: &Path, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<Interval>();
        let _ = text.parse::<EvalInterval>();
        let _ = text.parse::<KeptCheckpoints>();
        let _ = text.parse::<TimeLimit>();
        let _ = text.parse::<DiffAugment>();
        let _ = text.parse::<data::Background>();
        if let Ok(seeds) = text.parse::<SeedList>() {
            assert!((1..=1_000_000).contains(&seeds.seeds().len()));
        }
    }
}

fn small_image(number: u8, format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(4, 4, |x, y| [number * 9, x as u8 * 60, y as u8 * 60].into());
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(image).write_to(&mut bytes, format).expect("the image can be encoded");
    bytes.into_inner()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

fn idx_seeds() -> Vec<Vec<u8>> {
    let header = [0, 0, 8, 3, 0, 0, 0, 16, 0, 0, 0, 4, 0, 0, 0, 4];
    let plain: Vec<u8> = header.into_iter().chain((0..256).map(|i| i as u8)).collect();
    let wide: Vec<u8> = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 5].into_iter().chain(0..90).collect();
    vec![plain.clone(), gzipped(&plain), gzipped(&gzipped(&plain)), wide]
}

fn idx_label_seeds() -> Vec<Vec<u8>> {
    let bytes: Vec<u8> = [0, 0, 8, 1, 0, 0, 0, 16].into_iter().chain(0..16).collect();
    let ints: Vec<u8> = [0, 0, 0x0c, 2, 0, 0, 0, 16, 0, 0, 0, 2].into_iter().chain((0..128).map(|i| i as u8)).collect();
    vec![gzipped(&ints), bytes, ints]
}

fn image_seeds() -> Vec<Vec<u8>> {
    let formats =
        [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Gif];
    let mut seeds: Vec<_> = formats.iter().map(|format| small_image(3, *format)).collect();
    let mut gif = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
    for value in [200, 10] {
        encoder.encode(&[value; 48], 4, 4, image::ExtendedColorType::Rgb8).expect("memory can be written");
    }
    drop(encoder);
    seeds.push(gif);
    let deep =
        image::ImageBuffer::<image::LumaA<u16>, _>::from_fn(4, 4, |x, y| image::LumaA([x as u16 * 9999, y as u16]));
    let mut png = Cursor::new(Vec::new());
    DynamicImage::ImageLumaA16(deep).write_to(&mut png, ImageFormat::Png).expect("memory can be written");
    seeds.push(png.into_inner());
    let mut pages = Cursor::new(Vec::new());
    let mut encoder = tiff::encoder::TiffEncoder::new(&mut pages).expect("memory can be written");
    for value in 1..4 {
        let row = [value as f32 / 4.0; 16];
        encoder.write_image::<tiff::encoder::colortype::Gray32Float>(4, 4, &row).expect("memory can be written");
    }
    seeds.push(pages.into_inner());
    seeds
}

fn npy_bytes(shape: &str, elements: &[u8]) -> Vec<u8> {
    npy_of("|u1", "False", shape, elements)
}

fn npy_of(kind: &str, is_fortran: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': {is_fortran}, 'shape': ({shape}), }}\n");
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), elements].concat()
}

fn npy_seeds() -> Vec<Vec<u8>> {
    let pixels: Vec<u8> = (0..=255).collect();
    vec![
        npy_bytes("16, 4, 4", &pixels),
        npy_bytes("2, 4, 8, 3", &pixels[..192]),
        npy_bytes("4, 3, 4, 4", &pixels[..192]),
        npy_of(
            "<f4",
            "True",
            "16, 4, 4",
            &(0..256).flat_map(|i| (i as f32 / 255.0).to_le_bytes()).collect::<Vec<u8>>(),
        ),
        npy_of(">i2", "False", "16, 4, 4", &(0..256_i16).flat_map(i16::to_be_bytes).collect::<Vec<u8>>()),
    ]
}

fn zipped(files: &[(&str, Vec<u8>)], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in files {
        writer.start_file(*name, options).expect("memory can be written");
        writer.write_all(bytes).expect("memory can be written");
    }
    writer.finish().expect("memory can be written").into_inner()
}

fn npz_seeds() -> Vec<Vec<u8>> {
    let with = |labels: Vec<u8>| [("x_train.npy", npy_seeds().remove(0)), ("y_train.npy", labels)];
    let files = with(npy_bytes("16,", &[1; 16]));
    let one_hot: Vec<u8> = (0..32).map(|i| u8::from(i % 2 == i / 2 % 2)).collect();
    let others = [
        npy_bytes("16, 2", &one_hot),
        npy_of("|S2", "False", "16,", &b"ab".repeat(16)),
        npy_of("<U1", "False", "16,", &b"a\0\0\0".repeat(16)),
    ];
    let plain = [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated].map(|method| zipped(&files, method));
    plain.into_iter().chain(others.map(|labels| zipped(&with(labels), zip::CompressionMethod::Stored))).collect()
}

fn archived_images() -> Vec<(&'static str, Vec<u8>)> {
    const NAMES: [&str; 16] = [
        "a/0.bmp", "a/1.bmp", "a/2.bmp", "a/3.bmp", "a/4.bmp", "a/5.bmp", "a/6.bmp", "a/7.bmp", "b/0.bmp", "b/1.bmp",
        "b/2.bmp", "b/3.bmp", "b/4.bmp", "b/5.bmp", "b/6.bmp", "b/7.bmp",
    ];
    NAMES.iter().enumerate().map(|(i, name)| (*name, small_image(i as u8, ImageFormat::Bmp))).collect()
}

fn zip_seeds() -> Vec<Vec<u8>> {
    let files = archived_images();
    [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated].map(|method| zipped(&files, method)).into()
}

fn tar_seeds() -> Vec<Vec<u8>> {
    let mut writer = tar::Builder::new(Vec::new());
    for (name, bytes) in archived_images() {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        writer.append_data(&mut header, name, &bytes[..]).expect("memory can be written");
    }
    let plain = writer.into_inner().expect("memory can be written");
    vec![gzipped(&plain), plain]
}

fn label_table_seeds() -> Vec<Vec<u8>> {
    let rows: Vec<_> = (0..16).map(|i| format!("{i:02}.bmp,\"class {}\"", i % 3)).collect();
    let pairs: Vec<_> = (0..16).map(|i| format!("[\"{i:02}.bmp\", {}]", i % 3)).collect();
    vec![
        format!("file,label\n{}\n", rows.join("\n")).into_bytes(),
        format!("{{\"labels\": [{}]}}", pairs.join(", ")).into_bytes(),
        b"{\"labels\": null}".to_vec(),
    ]
}

fn cache_entry_seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    cache_entry(folder.path(), b"");
    let entry = fs::read_dir(folder.path().join("cache/images")).expect("the cache exists").next();
    vec![fs::read(entry.expect("an entry").expect("an entry").path()).expect("an entry")]
}

fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let images = open(&write(folder.path(), "images.idx", &idx_seeds()[0]), |source| source, None).expect("images");
    let model = Model::parse(&model_of_images(), "seed.toml").expect("the model is valid");
    let settings = Settings::new(&model, &images, "seed").expect("the settings are valid");
    let path = folder.path().join("step.safetensors");
    Checkpoint::initial(&model, &settings).write(&path).expect("the folder can be written");
    vec![fs::read(path).expect("it was written")]
}

fn array_part_seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (images, latents) = (folder.path().join("images.npy"), folder.path().join("latents.npy"));
    let note = r#"{"format":1,"shard":"1/2"}"#;
    write_npy(&images, &ImageBytes::new(&[7; 24], [2, 4, 3]).expect("one image"), Some(note))
        .expect("it can be written");
    write_matrix(&latents, &[0.5; 6], 3, Some(note)).expect("it can be written");
    [images, latents].map(|path| fs::read(path).expect("it was written")).to_vec()
}

fn evaluation_part_seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pixels: Vec<u8> = (0..24 * 16).map(|at: usize| (at * 37 + at / 16 * 11) as u8).collect();
    let [height, width, channels] = SHAPE;
    let images =
        ImageSet { name: "seed".into(), height, width, channels, pixels, labels: None, label_names: Vec::new() };
    let (device, console) = (CpuDevice::<f32>::new(), Console::silent());
    let evaluation = |reject| Evaluation {
        device: &device,
        images: &images,
        data: "seed",
        count: 6,
        training_count: 6,
        raw: false,
        reject,
        cache: None,
        console: &console,
    };
    // Rejection sampling needs a discriminator without batch normalisation.
    let text = model_of_images();
    let (generator, discriminator) = text.split_once("discriminator").expect("two networks");
    let discriminator = discriminator.replacen("{ layer = \"batch-norm\" },", "", 1);
    let model = format!("{generator}discriminator{discriminator}");
    let model = Model::parse(&model, "seed.toml").expect("the model is valid");
    let settings = Settings::new(&model, &images, "seed").expect("the settings are valid");
    let checkpoint = ("step-00000000.safetensors".into(), Checkpoint::initial(&model, &settings));
    let run = RunCheckpoints { checkpoint, earlier: None, neighbours: None };
    let parts = [evaluation(false).measure(None, Shard::WHOLE), evaluation(true).measure(Some(run), Shard::WHOLE)];
    let path = folder.path().join("part.safetensors");
    let bytes = |part: gpu_gan::Result<EvaluationPart>| {
        part.expect("the images can be measured").write(&path).expect("the folder can be written");
        fs::read(&path).expect("it was written")
    };
    parts.map(bytes).to_vec()
}

/// The text of a small model for images of the shape that the targets open.
fn model_of_images() -> String {
    include_str!("../common/tiny.toml")
        .replace("features = 32", "features = 8")
        .replace("height = 4, width = 4", "height = 2, width = 2")
        .replace("height = 8, width = 8", "height = 4, width = 4")
}

fn model_toml_seeds() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../common/tiny.toml").to_vec(),
        include_bytes!("../../data/models/dcgan-fast.toml").to_vec(),
        include_bytes!("../../data/models/upconv-aerial.toml").to_vec(),
    ]
}

fn config_toml_seeds() -> Vec<Vec<u8>> {
    let recipe = Recipe::built_in().to_toml();
    vec![
        recipe.clone().into_bytes(),
        format!("{recipe}data = \"../photos\"\nlabels = \"labels.csv\"\ntile = 64\n[run]\nimages = 5\n").into_bytes(),
        b"data = \"mnist\"\ntime = \"1h30m\"\nema-half-life = 20000\ndiff-augment = \"cutout\"\n".to_vec(),
    ]
}

fn run_log_seeds() -> Vec<Vec<u8>> {
    let csv = "step,epoch,d_loss,g_loss,d_real,d_fake,d_accuracy,fd,images_per_second\n1,1,1.25,0.1,0.5,0.5,0.5,,900\n";
    let row = "{\"step\":1,\"epoch\":1,\"d_loss\":1.25,\"g_loss\":0.1,\"d_real\":0.5,\"d_fake\":0.5,\"d_accuracy\":0.5,\
               \"fd\":null,\"images_per_second\":900.0}\n";
    vec![format!("{csv}2,1,1e-3,2,0,1,1,75.5,0\n").into_bytes(), row.repeat(2).into_bytes()]
}

fn class_list_seeds() -> Vec<Vec<u8>> {
    ["0-3,7", "cats, hot-dogs", "cats-7", "Größe, XL,-2", "0-255"].map(|text| text.as_bytes().to_vec()).into()
}

fn interval_seeds() -> Vec<Vec<u8>> {
    ["5epochs", "1epoch", "500steps", "20times", "#336699", "white", "1h30m", "never", "cutout,colour", "0-63,100"]
        .map(|text| text.as_bytes().to_vec())
        .into()
}

fn failing_case(folder: &Path, bytes: &[u8]) {
    write(folder, "case.json", bytes);
    if let Err(error) = Replay::read(folder, None) {
        assert!(!error.to_string().is_empty());
    }
}

fn failing_case_seeds() -> Vec<Vec<u8>> {
    let case = r#"{"format":"gpu-gan verify case 1","version":"0.1.0","name":"fill/y=255","scope":"quick","seed":0,"variant":null,
        "complaints":["y: 1 of 255 elements are wrong"],"adapter":{"name":"a"},"mixed_precision":false,"operations":["Fill"],
        "operands":[{"array":"0-y","tensor":1,"shape":[255],"access":"write"}],"dispatches":[{"wgsl":"fill.wgsl","spirv":null,
        "entry":"constant","overrides":{"LEN":255.0},"workgroups":[1,1,1],"bindings":{"y":"0-y from element 0"}}],"arrays":true}"#;
    vec![case.as_bytes().to_vec()]
}

fn known_failures(folder: &Path, bytes: &[u8]) {
    if let Err(error) = KnownFailures::read(&write(folder, "known.toml", bytes)) {
        assert!(!error.to_string().is_empty());
    }
}

fn known_failures_seeds() -> Vec<Vec<u8>> {
    let text = "[[failure]]\nvendor = '0x10de'\ndevice = 'GeForce'\ndriver = '^550'\ncase = '^conv/'\nreason = 'bug'\n";
    vec![text.as_bytes().to_vec()]
}
