//! `gpu-gan export`: other programs that read the exported files compute what this program computes.

mod common;

use std::path::Path;

use gpu_gan::cpu::CpuDevice;
use gpu_gan::data::ImageSet;
use gpu_gan::export::{ExportFormat, ExportOptions};
use gpu_gan::net::parameters::{Layout, StoredTensor};
use gpu_gan::net::{Mode, Model, Network};
use gpu_gan::program::{Device, Element, Program, Values};
use gpu_gan::report::{arrays, pixels};
use gpu_gan::train::{Checkpoint, Settings, latent};
use serde_json::{Value, json};

/// The number of images of each comparison.
const N: usize = 4;

/// A model with the layers and paddings that no built-in model has.
const ODD: &str = include_str!("export/odd.toml");

/// A checkpoint that looks trained: its running statistics are not 0 and 1, and the EMA weights are not the raw weights.
fn checkpoint(model: &Model) -> Checkpoint {
    // The initial weights of this model are larger than those of the others, so that its activations vary more.
    let variance = if model.name == "upconv-aerial" { 1.5 } else { 0.4 };
    let [height, width, channels] = model.image;
    let labels = model.classes.map(|classes| (0..1000).map(|at| (at % classes) as u8).collect());
    let images = ImageSet {
        name: "noise".into(),
        height,
        width,
        channels,
        pixels: vec![0; 1000 * height * width * channels],
        labels,
        label_names: Vec::new(),
    };
    let settings = Settings::new(model, &images, "noise").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    Checkpoint::initial(model, &settings).write(&path).unwrap();
    // The values are changed in the file: eight bytes are the length of the header, which has the place of each tensor.
    let mut bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    for (name, tensor) in tensors.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__") {
        let [start, end] = [0, 1].map(|at| 8 + header + tensor["data_offsets"][at].as_u64().unwrap() as usize);
        for (at, value) in bytes[start..end].chunks_exact_mut(4).enumerate() {
            let old = f32::from_le_bytes(value.try_into().unwrap());
            let wave = (at as f32 * 0.7).sin();
            let new = match name {
                name if name.ends_with("running_mean") => 0.1 * wave,
                name if name.ends_with("running_var") => variance + 0.3 * wave,
                name if name.ends_with("bias") && !name.starts_with("adam") => old + 0.1 * wave,
                name if name.starts_with("ema.") => 1.25 * old,
                _ => old,
            };
            value.copy_from_slice(&new.to_le_bytes());
        }
    }
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::read(&path).unwrap()
}

/// Output (N, values) of a network on the CPU device, images in the order (H, W, C).
fn computed(checkpoint: &Checkpoint, discriminator: bool, prefix: &str, x: &[f32], labels: Option<&[u32]>) -> Vec<f32> {
    let model = &checkpoint.model;
    let mut program = Program::new();
    let classes = labels.map(|labels| program.tensor_of(Element::U32, "labels", &[labels.len()]));
    let (network, shape) = if discriminator {
        (Network::discriminator(&mut program, model), model.discriminator_input())
    } else {
        (Network::generator(&mut program, model), [1, 1, model.latent])
    };
    let network = network.with_labels(classes);
    let input = program.tensor("x", &[N, shape[0], shape[1], shape[2]]);
    let run = program.begin("run");
    let output = network.forward(&mut program, input, Mode::Evaluate, "run").y;
    let mut executor = CpuDevice::<f32>::new().build(&program).unwrap();
    let buffer = |layout: &Layout, prefix: &str| {
        let tensors = layout.tensors().map(|(name, _)| checkpoint.tensors()[&format!("{prefix}{name}")].clone());
        layout.pack(&tensors.collect::<Vec<StoredTensor<f32>>>()).unwrap()
    };
    executor.upload(network.params(), Values::F32(&buffer(network.params_layout(), prefix))).unwrap();
    executor.upload(network.running(), Values::F32(&buffer(network.running_layout(), ""))).unwrap();
    executor.upload(input, Values::F32(x)).unwrap();
    if let (Some(tensor), Some(labels)) = (classes, labels) {
        executor.upload(tensor, Values::U32(labels)).unwrap();
    }
    executor.run(run, 1).unwrap();
    executor.download(output).unwrap()
}

/// The exported files of a folder, and what they should compute.
struct Cases<'a> {
    folder: &'a Path,
    cases: Vec<Value>,
}

impl Cases<'_> {
    /// Exports a network and writes its inputs and expected output.
    fn add(&mut self, name: &str, checkpoint: &Checkpoint, options: ExportOptions) {
        let model = &checkpoint.model;
        let file = format!("{name}.onnx");
        let path = self.folder.join(&file);
        let written = ExportFormat::of(&path).unwrap().write(checkpoint, options, &path).unwrap();
        assert_eq!(written, [path]);
        let mut inputs = serde_json::Map::new();
        let mut save = |input: &str, values: &[f32]| {
            let file = format!("{name}.{input}.npy");
            arrays::write_matrix(&self.folder.join(&file), values, values.len() / N, None).unwrap();
            inputs.insert(input.into(), file.into());
        };
        let x: Vec<f32> = if options.discriminator {
            let len: usize = model.discriminator_input().iter().product();
            (0..N * len).map(|at| (at as f32 * 1.3).sin()).collect()
        } else {
            (0..N as u64).flat_map(|seed| latent(seed, model.latent)).collect()
        };
        save(if options.discriminator { "image" } else { "latent" }, &x);
        let labels: Option<Vec<u32>> =
            model.classes.map(|classes| (0..N).map(|at| (at * 3 % classes) as u32).collect());
        if let Some(labels) = &labels {
            save("class", &labels.iter().map(|&label| label as f32).collect::<Vec<_>>());
        }
        let prefix = if options.discriminator || options.raw { "" } else { "ema." };
        let mut output = computed(checkpoint, options.discriminator, prefix, &x, labels.as_deref());
        // A value near a half may be rounded up by one program and down by the other.
        let mut tolerance = 1e-5;
        if options.uint8 {
            let bytes = pixels::to_bytes(&output, model.range()).unwrap();
            output = bytes.into_iter().map(f32::from).collect();
            tolerance = 1.0;
        } else if options.discriminator {
            // Logits have no range.
            tolerance *= output.iter().fold(1.0_f64, |largest, &logit| largest.max(f64::from(logit).abs()));
        }
        let expected = format!("{name}.expected.npy");
        arrays::write_matrix(&self.folder.join(&expected), &output, output.len() / N, None).unwrap();
        // Minibatch deviation needs whole groups.
        let single = !(options.discriminator && model.batch_multiple() > 1);
        self.cases.push(json!({
            "file": file, "inputs": inputs, "output": expected, "tolerance": tolerance, "single": single,
        }));
    }
}

#[test]
fn onnxruntime_computes_what_sample_computes_for_every_built_in_model() {
    if common::left_out("PYTHON", "ONNX files") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut cases = Cases { folder: folder.path(), cases: Vec::new() };
    let generator = ExportOptions::default();
    let [mut discriminator, mut raw, mut uint8] = [generator; 3];
    (discriminator.discriminator, raw.raw, uint8.uint8) = (true, true, true);
    for name in Model::built_in() {
        let checkpoint = checkpoint(&Model::named(name).unwrap());
        cases.add(name, &checkpoint, generator);
        cases.add(&format!("{name}-discriminator"), &checkpoint, discriminator);
    }
    let conditional = checkpoint(&Model::named("dcgan-fast").unwrap().with_classes(10).unwrap());
    let odd = checkpoint(&Model::parse(ODD, "odd").unwrap());
    for (name, checkpoint) in [("conditional", &conditional), ("odd", &odd)] {
        cases.add(name, checkpoint, generator);
        cases.add(&format!("{name}-discriminator"), checkpoint, discriminator);
        cases.add(&format!("{name}-raw"), checkpoint, raw);
        cases.add(&format!("{name}-uint8"), checkpoint, uint8);
    }
    std::fs::write(folder.path().join("cases.json"), serde_json::to_string(&cases.cases).unwrap()).unwrap();
    let said = common::python("tests/python/check_onnx.py").arg(folder.path()).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{out}\n{error}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), cases.cases.len());
    // Images without contrast would be equal for any weights.
    for line in lines.iter().filter(|line| !line["file"].as_str().unwrap().contains("discriminator")) {
        assert!(line["spread"].as_f64().unwrap() > 0.1, "{line}");
    }
}

#[test]
fn the_module_for_pytorch_is_as_it_was_reviewed_and_pytorch_drew_the_same_images_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export");
    let update = std::env::var("GPU_GAN_UPDATE_EXPORT").is_ok_and(|value| value == "1");
    let conditional = Model::parse(common::TINY, "tiny").unwrap().with_classes(3).unwrap();
    for (name, model) in [("odd", Model::parse(ODD, "odd").unwrap()), ("conditional", conditional)] {
        let checkpoint = checkpoint(&model);
        let path = folder.path().join(format!("{name}.safetensors"));
        let files = ExportFormat::of(&path).unwrap().write(&checkpoint, ExportOptions::default(), &path).unwrap();
        assert_eq!(files, [path.clone(), path.with_extension("py")]);
        let text = std::fs::read_to_string(&files[1]).unwrap();
        let x: Vec<f32> = (0..N as u64).flat_map(|seed| latent(seed, model.latent)).collect();
        let labels: Option<Vec<u32>> = model.classes.map(|classes| (0..N).map(|at| (at % classes) as u32).collect());
        if update {
            // tests/python/draw_with_pytorch.py then draws NAME.npy with them.
            std::fs::create_dir_all(golden.join("new")).unwrap();
            std::fs::copy(&path, golden.join(format!("new/{name}.safetensors"))).unwrap();
            arrays::write_matrix(&golden.join(format!("new/{name}.latents.npy")), &x, model.latent, None).unwrap();
            std::fs::write(golden.join(format!("{name}.py")), &text).unwrap();
            continue;
        }
        let reviewed = std::fs::read_to_string(golden.join(format!("{name}.py"))).unwrap().replace("\r\n", "\n");
        assert_eq!(text, reviewed, "set GPU_GAN_UPDATE_EXPORT=1 to write it, and see tests/export/README.md");
        let images = computed(&checkpoint, false, "ema.", &x, labels.as_deref());
        let drawn = arrays::read_matrix(&golden.join(format!("{name}.npy")), images.len() / N, N).unwrap();
        let apart = images.iter().zip(&drawn).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max);
        assert!(apart <= 1e-5, "{name}: {apart} apart");
    }
}
