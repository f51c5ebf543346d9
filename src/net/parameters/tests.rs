//! Names, layouts and initial values of stored tensors.

use super::{Layout, NetworkState, StoredTensor, initial};
use crate::net::{Layer, Model, Network, Pad};
use crate::program::Program;
use crate::program::random::{normal, stream, uniform_at};

fn dcgan_small() -> (Model, Network, Network) {
    let model = Model::named("dcgan-small").unwrap();
    let mut program = Program::new();
    let g = Network::generator(&mut program, &model);
    let d = Network::discriminator(&mut program, &model);
    (model, g, d)
}

/// A layout with every kind of tensor; all dimensions of a tensor differ.
fn small() -> Layout {
    let (kernel, stride, pad) = (2, 1, Pad::Pixels(0));
    let layers = [
        Layer::Conv { channels: 3, kernel, stride, pad, bias: true, spectral: false },
        Layer::BatchNorm { eps: 1e-5, momentum: 0.9 },
        Layer::TransposedConv { channels: 4, kernel, stride, pad, output_pad: 0, bias: true },
        Layer::Flatten,
        Layer::Linear { features: 2, bias: true, spectral: false },
    ];
    Network::new(&mut Program::new(), "n", &layers, [3, 3, 5]).params_layout().clone()
}

#[test]
fn tensors_have_the_names_and_shapes_of_pytorch() {
    let expected: [(&str, &[usize]); 8] = [
        ("n.0.weight", &[3, 5, 2, 2]), // conv: (out, in, K, K)
        ("n.0.bias", &[3]),
        ("n.1.weight", &[3]),
        ("n.1.bias", &[3]),
        ("n.2.weight", &[3, 4, 2, 2]), // transposed conv: (in, out, K, K)
        ("n.2.bias", &[4]),
        ("n.4.weight", &[2, 36]), // linear: (out, in)
        ("n.4.bias", &[2]),
    ];
    assert_eq!(small().tensors().collect::<Vec<_>>(), expected);
    let (_, g, _) = dcgan_small();
    let running: Vec<(&str, &[usize])> = g.running_layout().tensors().collect();
    assert_eq!(running[..2], [("generator.2.running_mean", &[256][..]), ("generator.2.running_var", &[256])]);
}

#[test]
fn spectral_norm_tensors_have_pytorchs_names_and_layouts_and_start_as_unit_vectors() {
    let text = Model::named("dcgan-fast").unwrap().to_toml().replace("pad = 1 }", "pad = 1, spectral-norm = true }");
    let model = Model::parse(&text, "spectral").unwrap();
    let mut program = Program::new();
    let d = Network::discriminator(&mut program, &model);
    let params: Vec<(&str, &[usize])> = d.params_layout().tensors().collect();
    assert_eq!(params[..2], [("discriminator.0.weight_orig", &[32, 1, 4, 4][..]), ("discriminator.0.bias", &[32])]);
    assert_eq!(params[6].0, "discriminator.7.weight");
    let running: Vec<(&str, &[usize])> = d.running_layout().tensors().collect();
    assert_eq!(running[2..4], [("discriminator.2.weight_u", &[64][..]), ("discriminator.2.weight_v", &[512])]);
    let NetworkState { running: start, .. } = initial(&model, 3).discriminator;
    for StoredTensor { name, values, .. } in &start {
        let square: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        assert!((square - 1.0).abs() < 1e-5, "{name}: {square}");
    }
    assert!(start[0].values[..8] != start[2].values[..8]);
    // Element (c, u, v) in files is (u, v, c) in the buffer, after the 64 elements of u.
    let buffer: Vec<usize> = (0..d.running_layout().len()).collect();
    let vector = &d.running_layout().unpack(&buffer)[3].values;
    let first = vector[0];
    assert_eq!([vector[1] - first, vector[16] - first, vector[17] - first], [32, 1, 33]);
}

#[test]
fn weights_are_permuted_to_pytorchs_layout() {
    let layout = small();
    // Each element of the buffer is its own index, and the first tensor starts at index 0.
    let buffer: Vec<usize> = (0..layout.len()).collect();
    let stored = layout.unpack(&buffer);
    let (w, [c_out, c_in, k]) = (&stored[0].values, [3, 5, 2]);
    let mut index = 0;
    for o in 0..c_out {
        for c in 0..c_in {
            for u in 0..k {
                for v in 0..k {
                    assert_eq!(w[index], ((u * k + v) * c_in + c) * c_out + o);
                    index += 1;
                }
            }
        }
    }
    // gamma and beta are one tensor: gamma, then beta
    assert_eq!(stored[2].values[0] + 3, stored[3].values[0]);
}

#[test]
fn a_buffer_survives_conversion_to_pytorch_and_back_in_any_float_type() {
    let (_, g, d) = dcgan_small();
    for layout in [g.params_layout(), g.running_layout(), d.params_layout(), d.running_layout(), &small()] {
        // The gaps between tensors are zeros.
        let mut within = vec![false; layout.len()];
        for (spec, offset) in &layout.tensors {
            for place in spec.program_indices() {
                assert!(!std::mem::replace(&mut within[offset + place], true), "{} twice", spec.name);
            }
        }
        let value = |index: usize| if within[index] { 1.0 / (index as f64 + 1.0) } else { 0.0 };
        let buffer: Vec<f64> = (0..layout.len()).map(value).collect();
        let mut stored = layout.unpack(&buffer);
        stored.reverse(); // the order does not matter
        assert_eq!(layout.pack(&stored).unwrap(), buffer);
        let buffer: Vec<f32> = buffer.into_iter().map(|value| value as f32).collect();
        assert_eq!(layout.pack(&layout.unpack(&buffer)).unwrap(), buffer);
    }
}

#[test]
fn tensors_of_another_model_are_refused_by_name_and_shape() {
    let layout = small();
    let stored = layout.unpack(&vec![0.0_f32; layout.len()]);
    let refused = |change: &dyn Fn(&mut Vec<StoredTensor<f32>>), fact: &str| {
        let mut stored = stored.clone();
        change(&mut stored);
        let error = layout.pack(&stored).unwrap_err();
        assert!(error.to_string().contains(fact), "{error}");
    };
    refused(&|stored| drop(stored.remove(3)), "there is no tensor n.1.bias");
    refused(&|stored| stored[2].name = "n.9.weight".into(), "the model has no tensor n.9.weight");
    refused(
        &|stored| stored[0].shape = vec![5, 3, 2, 2],
        "n.0.weight is [5, 3, 2, 2] with 60 values, but the model's is [3, 5, 2, 2]",
    );
    refused(&|stored| stored[0].values.truncate(59), "with 59 values");
}

#[test]
fn initial_weights_and_gammas_are_normal_and_other_parameters_constant() {
    let (model, g, d) = dcgan_small();
    let start = initial(&model, 7);
    for (state, network) in [(&start.generator, &g), (&start.discriminator, &d)] {
        network.params_layout().pack(&state.params).unwrap();
        network.running_layout().pack(&state.running).unwrap();
    }
    let moments = |name: &str| {
        let tensor = start.generator.params.iter().find(|tensor| tensor.name == name).unwrap();
        let n = tensor.values.len() as f64;
        let mean = tensor.values.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
        let square = tensor.values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>();
        (mean, (square / n).sqrt())
    };
    let (mean, std) = moments("generator.4.weight"); // 524288 numbers
    assert!(mean.abs() < 1e-4 && (std / 0.02 - 1.0).abs() < 0.005, "{mean} {std}");
    let (mean, std) = moments("generator.2.weight"); // 256 gammas
    assert!((mean - 1.0).abs() < 0.005 && (std / 0.02 - 1.0).abs() < 0.15, "{mean} {std}");
    assert_eq!(moments("generator.2.bias"), (0.0, 0.0));
    assert_eq!(moments("generator.10.bias"), (0.0, 0.0));
    let running = &start.generator.running;
    assert_eq!(running[0].values, [0.0; 256]);
    assert_eq!(running[1].values, [1.0; 256]);
}

/// The largest absolute value of a tensor and its mean square.
fn spread(tensor: &StoredTensor<f32>) -> (f64, f64) {
    let values = tensor.values.iter().map(|&value| f64::from(value));
    (values.clone().fold(0.0, |largest, value| largest.max(value.abs())), {
        let n = values.len() as f64;
        values.map(|value| value * value).sum::<f64>() / n
    })
}

#[test]
fn glorot_uniform_weights_fill_their_interval_and_biases_are_zero() {
    let model = Model::named("dcgan-28").unwrap();
    let start = initial(&model, 5);
    for (name, fans) in [
        ("generator.0.weight", 100 + 12_544),
        ("generator.4.weight", 25 * (256 + 128)),
        ("discriminator.3.weight", 25 * (64 + 128)),
    ] {
        let mut tensors = start.generator.params.iter().chain(&start.discriminator.params);
        let (largest, square) = spread(tensors.find(|tensor| tensor.name == name).unwrap());
        let bound = (6.0 / f64::from(fans)).sqrt();
        assert!(largest <= bound && largest > 0.999 * bound, "{name}: {largest}, bound {bound}");
        assert!((square / (bound * bound / 3.0) - 1.0).abs() < 0.01, "{name}: mean square {square}"); // of a uniform number
    }
    assert_eq!(start.discriminator.params[1].values, [0.0; 64]);
    // The file has no gamma, so all are 1.
    assert_eq!(start.generator.params[1].name, "generator.1.weight");
    assert_eq!(start.generator.params[1].values, vec![1.0; 12_544]);
}

#[test]
fn fan_in_uniform_weights_and_biases_fill_pytorchs_intervals() {
    let text = Model::named("dcgan-28").unwrap().to_toml().replace("glorot-uniform", "fan-in-uniform");
    let model = Model::parse(&text, "fan-in").unwrap();
    let start = initial(&model, 5);
    let named = |name: &str| {
        let mut tensors = start.generator.params.iter().chain(&start.discriminator.params);
        tensors.find(|tensor| tensor.name == name).unwrap()
    };
    for (name, fan_in) in [
        ("generator.0.weight", 100.0_f64),
        ("generator.4.weight", 25.0 * 128.0), // PyTorch takes a transposed convolution's fan from its outputs
        ("discriminator.0.weight", 25.0),
        ("discriminator.0.bias", 25.0),
        ("discriminator.3.bias", 25.0 * 64.0),
    ] {
        let (largest, square) = spread(named(name));
        let bound = 1.0 / fan_in.sqrt();
        assert!(largest <= bound && largest > 0.9 * bound, "{name}: {largest}, bound {bound}");
        assert!((square / (bound * bound / 3.0) - 1.0).abs() < 0.3, "{name}: mean square {square}");
    }
    // Tensor k draws from stream k here too: the generator has 10 tensors, so the discriminator's first bias is number 11.
    let value = 0.2 * (2.0 * uniform_at(5, stream::INITIAL + 11, 0, 7) - 1.0);
    assert_eq!(named("discriminator.0.bias").values[7].to_bits(), (value as f32).to_bits());
}

#[test]
fn stored_parameter_k_draws_from_stream_k_in_the_order_of_files() {
    let (model, ..) = dcgan_small();
    let start = initial(&model, 3);
    let value = |k: u32, index| ((0.02 * normal(3, stream::INITIAL + k, 0, index)) as f32).to_bits();
    assert_eq!(start.generator.params[0].values[5].to_bits(), value(0, 5));
    // The numbers are 0 weight, 1 gamma, 2 beta, 3 weight and so on. The generator has 11 tensors; the discriminator continues at 11.
    assert_eq!(start.generator.params[3].values[5].to_bits(), value(3, 5));
    assert_eq!(start.generator.params.len(), 11);
    assert_eq!(start.discriminator.params[0].values[5].to_bits(), value(11, 5));
    assert_ne!(initial(&model, 4), start);
}
