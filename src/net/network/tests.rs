//! The operations that a network's passes append.

use super::{Network, Tape, TensorGroup, Wrt};
use crate::net::layer::{Layer, Pad};
use crate::net::model::Model;
use crate::net::pass::{DropoutRng, Mode};
use crate::program::{Element, Op, Program, TensorId};

const N: usize = 4;

/// The mode of a training pass whose dropout has its own clock.
fn training(program: &mut Program, groups: usize) -> Mode {
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    Mode::Train { groups, rng: DropoutRng { clock, seed: 5 } }
}

/// A routine as the program prints it, one line for each operation.
fn lines(program: &Program, routine: &str) -> Vec<String> {
    let text = program.to_string();
    let ops = text.lines().skip_while(|line| *line != format!("{routine}:")).skip(1);
    ops.take_while(|line| line.starts_with(' '))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

fn dcgan_small() -> (Program, Network, Network) {
    let model = Model::named("dcgan-small").unwrap();
    let mut program = Program::new();
    let g = Network::generator(&mut program, &model);
    let d = Network::discriminator(&mut program, &model);
    (program, g, d)
}

/// Appends a forward pass of the discriminator, and declares a gradient for its logits.
fn discriminator_pass(program: &mut Program, d: &Network, groups: usize) -> (Tape, TensorId) {
    let images = program.tensor("images", &[N, 28, 28, 1]);
    let dlogits = program.tensor("dlogits", &[N, 1, 1, 1]);
    program.begin("forward");
    let mode = training(program, groups);
    let tape = d.forward(program, images, mode, "both");
    (tape, dlogits)
}

#[test]
fn parameters_gradients_and_moments_are_laid_out_alike() {
    let (program, g, _) = dcgan_small();
    let lens = [g.params(), g.grads(), g.m(), g.v()].map(|id| program.info(id).len());
    assert_eq!(lens, [g.params_layout().len(); 4]);
    let place = |slices: &TensorGroup| -> Vec<_> {
        let parts = slices.parts.iter().map(|&part| program.info(part));
        parts.map(|part| (part.offset, part.shape.clone())).collect()
    };
    assert_eq!(place(&g.params), place(&g.grads));
    let names = |slices: &TensorGroup| -> Vec<String> {
        slices.parts.iter().map(|&part| program.info(part).name.clone()).collect()
    };
    assert_eq!(names(&g.params)[..2], ["generator.1.weight", "generator.2.affine"]);
    assert_eq!(names(&g.grads)[..2], ["generator.1.weight.grad", "generator.2.affine.grad"]);
    assert_eq!(names(&g.params)[6..], ["generator.10.weight", "generator.10.bias"]);
    assert_eq!(names(&g.running), ["generator.2.running", "generator.5.running", "generator.8.running"]);
    // The weights are those of the convolution that the layer transposes: from the layer's 256 output channels to its 64 inputs.
    assert_eq!(program.shape(g.params.parts[0]), [3, 3, 256, 64]);
}

#[test]
fn the_generator_runs_forward_from_latents_to_an_image() {
    let (mut program, g, _) = dcgan_small();
    let z = program.tensor("z", &[N, 1, 1, 64]);
    program.begin("forward");
    let mode = training(&mut program, 1);
    let tape = g.forward(&mut program, z, mode, "fake");
    assert_eq!(program.nhwc(tape.y), [N, 28, 28, 1]);
    assert_eq!(program.nhwc(tape.layer(1)), [N, 3, 3, 256]);
    let lines = lines(&program, "forward");
    assert_eq!(lines.len(), 11); // all layers but the reshape
    assert_eq!(
        lines[..3],
        [
            "conv_grad_input dy=z w=generator.1.weight dx=generator.1.y (fake)",
            "batch_norm x=generator.1.y (fake) affine=generator.2.affine y=generator.2.y (fake) \
             saved=generator.2.saved (fake) running=generator.2.running",
            "activation x=generator.2.y (fake) y=generator.3.y (fake)",
        ]
    );
    assert_eq!(
        lines[9..],
        [
            "conv_grad_input dy=generator.9.y (fake) w=generator.10.weight b=generator.10.bias dx=generator.10.y (fake)",
            "activation x=generator.10.y (fake) y=generator.11.y (fake)",
        ]
    );
}

#[test]
fn the_discriminator_runs_forward_from_an_image_to_a_logit() {
    let (mut program, _, d) = dcgan_small();
    let (tape, _) = discriminator_pass(&mut program, &d, 2);
    assert_eq!(program.nhwc(tape.y), [N, 1, 1, 1]);
    let lines = lines(&program, "forward");
    assert_eq!(lines.len(), 10); // all layers but the flatten
    assert_eq!(lines[0], "conv x=images w=discriminator.0.weight y=discriminator.0.y (both)");
    assert_eq!(
        lines[9],
        "conv x=discriminator.8.y (both) w=discriminator.10.weight b=discriminator.10.bias y=discriminator.10.y (both)"
    );
    let groups = program.routines()[0].ops.iter().filter_map(|op| match op {
        Op::BatchNorm { groups, eps, momentum, .. } => Some((*groups, *eps, *momentum)),
        _ => None,
    });
    assert_eq!(groups.collect::<Vec<_>>(), [(2, 1e-5, 1.0 - 0.9); 3]);
}

#[test]
fn a_backward_pass_for_parameters_stops_at_the_first_weights() {
    let (mut program, _, d) = dcgan_small();
    let (tape, dlogits) = discriminator_pass(&mut program, &d, 2);
    program.begin("backward");
    assert_eq!(d.backward(&mut program, &tape, dlogits, Wrt::Params), None);
    assert_eq!(
        lines(&program, "backward"),
        [
            "conv_grad_weight x=discriminator.8.y (both) dy=dlogits dw=discriminator.10.weight.grad",
            "bias_grad dy=dlogits db=discriminator.10.bias.grad",
            "conv_grad_input dy=dlogits w=discriminator.10.weight dx=discriminator.10.dx (both)",
            "activation_grad y=discriminator.8.y (both) dy=discriminator.10.dx (both) dx=discriminator.8.dx (both)",
            "batch_norm_grad x=discriminator.6.y (both) dy=discriminator.8.dx (both) affine=discriminator.7.affine \
             saved=discriminator.7.saved (both) dx=discriminator.7.dx (both) daffine=discriminator.7.affine.grad",
            "conv_grad_weight x=discriminator.5.y (both) dy=discriminator.7.dx (both) dw=discriminator.6.weight.grad",
            "conv_grad_input dy=discriminator.7.dx (both) w=discriminator.6.weight dx=discriminator.6.dx (both)",
            "activation_grad y=discriminator.5.y (both) dy=discriminator.6.dx (both) dx=discriminator.5.dx (both)",
            "batch_norm_grad x=discriminator.3.y (both) dy=discriminator.5.dx (both) affine=discriminator.4.affine \
             saved=discriminator.4.saved (both) dx=discriminator.4.dx (both) daffine=discriminator.4.affine.grad",
            "conv_grad_weight x=discriminator.2.y (both) dy=discriminator.4.dx (both) dw=discriminator.3.weight.grad",
            "conv_grad_input dy=discriminator.4.dx (both) w=discriminator.3.weight dx=discriminator.3.dx (both)",
            "activation_grad y=discriminator.2.y (both) dy=discriminator.3.dx (both) dx=discriminator.2.dx (both)",
            "batch_norm_grad x=discriminator.0.y (both) dy=discriminator.2.dx (both) affine=discriminator.1.affine \
             saved=discriminator.1.saved (both) dx=discriminator.1.dx (both) daffine=discriminator.1.affine.grad",
            "conv_grad_weight x=images dy=discriminator.1.dx (both) dw=discriminator.0.weight.grad",
        ]
    );
}

#[test]
fn a_backward_pass_for_the_input_leaves_the_gradients_of_parameters_alone() {
    let (mut program, _, d) = dcgan_small();
    let (tape, dlogits) = discriminator_pass(&mut program, &d, 1);
    program.begin("backward");
    let dimages = d.backward(&mut program, &tape, dlogits, Wrt::Input).unwrap();
    assert_eq!(program.nhwc(dimages), [N, 28, 28, 1]);
    let lines = lines(&program, "backward");
    assert_eq!(lines.len(), 10);
    assert!(lines.iter().all(|line| !line.contains(".grad")), "{lines:#?}");
    assert_eq!(
        lines[9],
        "conv_grad_input dy=discriminator.1.dx (both) w=discriminator.0.weight dx=discriminator.0.dx (both)"
    );
}

#[test]
fn a_backward_pass_for_both_has_the_operations_of_each() {
    let (mut program, _, d) = dcgan_small();
    let (tape, dlogits) = discriminator_pass(&mut program, &d, 1);
    let mut routine = |name: &str, wrt| {
        program.begin(name);
        d.backward(&mut program, &tape, dlogits, wrt);
        lines(&program, name)
    };
    let both = routine("both", Wrt::Both);
    let params = routine("params", Wrt::Params);
    let last = "conv_grad_input dy=discriminator.1.dx (both) w=discriminator.0.weight dx=discriminator.0.dx (both)";
    assert_eq!(both[..both.len() - 1], params);
    assert_eq!(both.last().unwrap(), last);
}

#[test]
fn the_gradient_of_a_transposed_convolution_is_a_convolution() {
    let (mut program, g, _) = dcgan_small();
    let z = program.tensor("z", &[N, 1, 1, 64]);
    let dimages = program.tensor("dimages", &[N, 28, 28, 1]);
    program.begin("forward");
    let mode = training(&mut program, 1);
    let tape = g.forward(&mut program, z, mode, "fake");
    program.begin("params");
    g.backward(&mut program, &tape, dimages, Wrt::Params);
    let params = lines(&program, "params");
    assert_eq!(
        params[..4],
        [
            "activation_grad y=generator.11.y (fake) dy=dimages dx=generator.11.dx (fake)",
            "conv_grad_weight x=generator.11.dx (fake) dy=generator.9.y (fake) dw=generator.10.weight.grad",
            "bias_grad dy=generator.11.dx (fake) db=generator.10.bias.grad",
            "conv x=generator.11.dx (fake) w=generator.10.weight y=generator.10.dx (fake)",
        ]
    );
    assert_eq!(params.last().unwrap(), "conv_grad_weight x=generator.2.dx (fake) dy=z dw=generator.1.weight.grad");
    program.begin("input");
    let dz = g.backward(&mut program, &tape, dimages, Wrt::Input).unwrap();
    assert_eq!(program.nhwc(dz), [N, 1, 1, 64]);
}

#[test]
fn the_ema_generates_with_its_own_parameters_and_the_shared_statistics() {
    let (mut program, g, _) = dcgan_small();
    let ema = g.ema(&mut program);
    assert_eq!(program.shape(ema.params()), program.shape(g.params()));
    assert_eq!(program.info(ema.params()).name, "generator.ema");
    assert_eq!((ema.running(), ema.grads()), (g.running(), g.grads()));
    let z = program.tensor("z", &[N, 1, 1, 64]);
    program.begin("sheet");
    ema.forward(&mut program, z, Mode::Evaluate, "sheet");
    assert_eq!(
        lines(&program, "sheet")[..2],
        [
            "conv_grad_input dy=z w=generator.1.weight.ema dx=generator.1.y (sheet)",
            "batch_norm_eval x=generator.1.y (sheet) affine=generator.2.affine.ema running=generator.2.running \
             y=generator.2.y (sheet)",
        ]
    );
}

#[test]
fn each_dropout_has_its_own_random_stream_and_its_gradient_reuses_it() {
    let model = Model::named("dcgan-28").unwrap();
    let mut program = Program::new();
    let d = Network::discriminator(&mut program, &model);
    let mode = training(&mut program, 1);
    let images = program.tensor("images", &[N, 28, 28, 1]);
    let dlogits = program.tensor("dlogits", &[N, 1, 1, 1]);
    program.begin("step");
    for label in ["first", "second"] {
        let tape = d.forward(&mut program, images, mode, label);
        d.backward(&mut program, &tape, dlogits, Wrt::Both).unwrap();
    }
    let drawn: Vec<(u32, String)> = program.routines()[0]
        .ops
        .iter()
        .filter_map(|op| match *op {
            Op::Dropout { y, stream, seed: 5, rate: 0.3, .. } => Some((stream, program.info(y).name.clone())),
            _ => None,
        })
        .collect();
    let expected = [
        (1_000_000, "discriminator.2.y (first)"),
        (1_000_001, "discriminator.5.y (first)"),
        (1_000_001, "discriminator.5.dx (first)"),
        (1_000_000, "discriminator.2.dx (first)"),
        (1_000_002, "discriminator.2.y (second)"),
        (1_000_003, "discriminator.5.y (second)"),
        (1_000_003, "discriminator.5.dx (second)"),
        (1_000_002, "discriminator.2.dx (second)"),
    ];
    assert_eq!(drawn, expected.map(|(stream, name)| (stream, name.to_string())));
}

#[test]
fn a_conditional_discriminator_picks_a_logit_last_and_its_gradient_first() {
    let model = Model::named("dcgan-fast").unwrap().with_classes(3).unwrap();
    let mut program = Program::new();
    let labels = program.tensor_of(Element::U32, "labels", &[N / 2]);
    let d = Network::discriminator(&mut program, &model).with_labels(Some(labels));
    let images = program.tensor("images", &[N, 28, 28, 1]);
    let dlogit = program.tensor("dlogit", &[N, 1, 1, 1]);
    let mode = training(&mut program, 2);
    program.begin("forward");
    let tape = d.forward(&mut program, images, mode, "both");
    assert_eq!((program.nhwc(tape.y), program.nhwc(tape.layer(7))), ([N, 1, 1, 1], [N, 1, 1, 4]));
    let pick = "pick_logit logits=discriminator.7.y (both) labels=labels y=discriminator.logit (both)";
    assert_eq!(lines(&program, "forward").last().unwrap(), pick);
    program.begin("backward");
    d.backward(&mut program, &tape, dlogit, Wrt::Params);
    assert_eq!(
        lines(&program, "backward")[..2],
        [
            "pick_logit_grad dy=dlogit labels=labels dlogits=discriminator.dlogits (both)",
            "conv_grad_weight x=discriminator.5.y (both) dy=discriminator.dlogits (both) dw=discriminator.7.weight.grad",
        ]
    );
}

#[test]
fn a_conditional_generator_appends_the_class_to_its_latents() {
    let model = Model::named("dcgan-fast").unwrap().with_classes(3).unwrap();
    let mut program = Program::new();
    let [labels, others] = ["labels", "others"].map(|name| program.tensor_of(Element::U32, name, &[N]));
    let g = Network::generator(&mut program, &model).with_labels(Some(labels));
    let ema = g.ema(&mut program).with_labels(Some(others));
    let z = program.tensor("z", &[N, 1, 1, 64]);
    for (name, network, label) in [("fakes", &g, "labels"), ("sheet", &ema, "others")] {
        program.begin(name);
        let images = network.forward(&mut program, z, Mode::Evaluate, name).y;
        assert_eq!(program.nhwc(images), [N, 28, 28, 1]);
        let append = format!("append_class x=z labels={label} y=generator.input ({name})");
        assert_eq!(lines(&program, name)[0], append);
    }
}

#[test]
#[should_panic(expected = "the discriminator is conditional and has no labels")]
fn a_conditional_network_without_labels_panics() {
    let model = Model::named("dcgan-fast").unwrap().with_classes(3).unwrap();
    let mut program = Program::new();
    let d = Network::discriminator(&mut program, &model);
    let images = program.tensor("images", &[N, 28, 28, 1]);
    program.begin("judge");
    d.forward(&mut program, images, Mode::Evaluate, "judge");
}

#[test]
fn dropout_does_nothing_in_evaluation() {
    let model = Model::named("dcgan-28").unwrap();
    let mut program = Program::new();
    let d = Network::discriminator(&mut program, &model);
    let images = program.tensor("images", &[N, 28, 28, 1]);
    program.begin("judge");
    let tape = d.forward(&mut program, images, Mode::Evaluate, "judge");
    assert_eq!([tape.layer(2), tape.layer(5)], [tape.layer(1), tape.layer(4)]);
    assert!(lines(&program, "judge").iter().all(|line| !line.starts_with("dropout")));
}

#[test]
fn same_padding_gives_the_pad_before_and_the_output_shape() {
    let same =
        |kernel, stride| Layer::Conv { channels: 2, kernel, stride, pad: Pad::Same, bias: true, spectral: false };
    let reversed = |kernel, stride| Layer::TransposedConv {
        channels: 2,
        kernel,
        stride,
        pad: Pad::Same,
        output_pad: 0,
        bias: true,
    };
    // TensorFlow's padding: from 28 to 14 it adds 1 row of zeros before and 2 after the image, from 6 to 3 one row after it.
    for (layer, side, out, pad) in [
        (same(5, 2), 28, 14, 1),
        (same(5, 2), 7, 4, 2),
        (same(3, 2), 6, 3, 0),
        (same(4, 1), 9, 9, 1),
        (same(3, 1), 2, 2, 1),
        (same(2, 3), 8, 3, 0),
        (same(1, 2), 5, 3, 0),
        (reversed(5, 2), 7, 14, 1),
        (reversed(5, 1), 7, 7, 2),
        (reversed(4, 2), 7, 14, 1),
        (reversed(2, 3), 4, 12, 0),
    ] {
        let mut program = Program::new();
        let network = Network::new(&mut program, "n", &[layer], [side, side, 1]);
        let x = program.tensor("x", &[N, side, side, 1]);
        let dy = program.tensor("dy", &[N, out, out, 2]);
        program.begin("step");
        let mode = training(&mut program, 1);
        let tape = network.forward(&mut program, x, mode, "one");
        assert_eq!(program.nhwc(tape.y), [N, out, out, 2], "{layer:?}");
        network.backward(&mut program, &tape, dy, Wrt::Both).unwrap(); // `push` checks the shapes
        assert_eq!(layer.geometry([side, side, 1]).unwrap().pad, pad, "{layer:?}");
    }
}

#[test]
#[should_panic(expected = "was not a training pass")]
fn the_backward_pass_of_an_evaluation_pass_panics() {
    let (mut program, g, _) = dcgan_small();
    let z = program.tensor("z", &[N, 1, 1, 64]);
    program.begin("sheet");
    let tape = g.forward(&mut program, z, Mode::Evaluate, "sheet");
    g.backward(&mut program, &tape, tape.y, Wrt::Both);
}

#[test]
fn a_skip_connection_adds_a_product_of_the_latent_and_its_gradient_is_added_to_that_of_the_first_layer() {
    let layers = [
        Layer::Linear { features: 12, bias: false, spectral: false },
        Layer::Reshape { shape: [2, 2, 3] },
        Layer::AddLatent { latent: 5 },
        Layer::Tanh,
        Layer::AddLatent { latent: 5 },
    ];
    let mut program = Program::new();
    let network = Network::new(&mut program, "g", &layers, [1, 1, 5]);
    assert_eq!(program.shape(network.params.parts[1]), [1, 1, 5, 12]);
    let (z, dy) = (program.tensor("z", &[N, 1, 1, 5]), program.tensor("dy", &[N, 2, 2, 3]));
    program.begin("forward");
    let mode = training(&mut program, 1);
    let tape = network.forward(&mut program, z, mode, "fake");
    assert_eq!(program.nhwc(tape.y), [N, 2, 2, 3]);
    program.begin("backward");
    assert_eq!(network.backward(&mut program, &tape, dy, Wrt::Params), None);
    program.begin("both");
    let dz = network.backward(&mut program, &tape, dy, Wrt::Both).unwrap();
    assert_eq!(program.nhwc(dz), [N, 1, 1, 5]);
    assert_eq!(
        lines(&program, "forward")[1..3],
        ["conv x=z w=g.2.weight y=g.2.y (fake)", "accumulate x=g.0.y (fake) y=g.2.y (fake)",]
    );
    assert_eq!(
        lines(&program, "backward"),
        [
            "conv_grad_weight x=z dy=dy dw=g.4.weight.grad",
            "activation_grad y=g.3.y (fake) dy=dy dx=g.3.dx (fake)",
            "conv_grad_weight x=z dy=g.3.dx (fake) dw=g.2.weight.grad",
            "conv_grad_weight x=z dy=g.3.dx (fake) dw=g.0.weight.grad",
        ]
    );
    let sums = lines(&program, "both").into_iter().filter(|line| line.starts_with("accumulate")).collect::<Vec<_>>();
    assert_eq!(
        sums,
        ["accumulate x=g.2.dlatent (fake) y=g.4.dlatent (fake)", "accumulate x=g.0.dx (fake) y=g.4.dlatent (fake)"]
    );
}

#[test]
fn a_network_of_every_layer_runs_forward_and_backward() {
    let (kernel, stride, pad) = (3, 2, Pad::Pixels(1));
    let layers = [
        Layer::BatchNorm { eps: 1e-5, momentum: 0.9 },
        Layer::Conv { channels: 5, kernel, stride, pad, bias: true, spectral: false },
        Layer::Sigmoid,
        Layer::TransposedConv { channels: 3, kernel, stride, pad, output_pad: 1, bias: true },
        Layer::LeakyRelu { slope: 0.1 },
        Layer::Upsample { factor: 3 },
        Layer::MaxPool { size: 3 },
        Layer::Dropout { rate: 0.5 },
        Layer::MinibatchDeviation { group: 2 },
        Layer::Flatten,
        Layer::Linear { features: 12, bias: false, spectral: false },
        Layer::Reshape { shape: [2, 2, 3] },
        Layer::Tanh,
        Layer::Relu,
    ];
    let mut program = Program::new();
    let network = Network::new(&mut program, "all", &layers, [7, 6, 2]);
    let x = program.tensor("x", &[N, 7, 6, 2]);
    let dy = program.tensor("dy", &[N, 2, 2, 3]);
    program.begin("step");
    let mode = training(&mut program, 2);
    let tape = network.forward(&mut program, x, mode, "one");
    let shapes: Vec<_> = (0..layers.len()).map(|number| program.nhwc(tape.layer(number))[1..].to_vec()).collect();
    assert_eq!(shapes[1], [4, 3, 5]);
    assert_eq!(shapes[3], [8, 6, 3]); // (4 - 1) * 2 + 3 - 2 + 1
    assert_eq!(shapes[5..8], [vec![24, 18, 3], vec![8, 6, 3], vec![8, 6, 3]]);
    assert_eq!(shapes[8..12], [vec![8, 6, 4], vec![1, 1, 192], vec![1, 1, 12], vec![2, 2, 3]]);
    let dx = network.backward(&mut program, &tape, dy, Wrt::Both).unwrap();
    assert_eq!(program.nhwc(dx), [N, 7, 6, 2]);
    // The first layer has one operation for both gradients. It writes the input's gradient, which is not returned here.
    assert_eq!(network.backward(&mut program, &tape, dy, Wrt::Params), None);
}
