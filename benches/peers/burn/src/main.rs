//! Times a training step of dcgan-small in burn, with the networks, the schedule and the batch size of gpu-gan's step.
//!
//! ```text
//! cargo run --release -- --device flex --batch-size 128 --seconds 3
//! ```
//!
//! One step is one update of each network: G(z) once, real and generated images through D separately, Adam on both; the generator's loss
//! gives gradients only for the generator's weights, as in gpu-gan. Latents are drawn in each step. The real images stay the same, so
//! loading takes no time. gpu-gan's step also updates an EMA of the generator; this step does not.
//!
//! `flex` is burn's backend for CPUs. `wgpu` (through WGSL) and `vulkan` (through SPIR-V), each with the feature of its name, are
//! backends for GPUs, with fusion and autotuning.

use std::error::Error;
use std::time::Instant;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::{leaky_relu, relu, softplus};
use burn::tensor::{Device, Distribution, Tensor};

const LATENT: usize = 64;
const LEARNING_RATE: f64 = 2e-4;

#[derive(Module, Debug)]
struct Generator {
    convolutions: Vec<ConvTranspose2d>,
    norms: Vec<BatchNorm>,
}

impl Generator {
    fn new(device: &Device) -> Self {
        let shapes = [(LATENT, 256, 3, 2), (256, 128, 4, 1), (128, 64, 3, 2), (64, 1, 4, 2)];
        let convolution = |(from, to, kernel, stride): (usize, usize, usize, usize)| {
            let config = ConvTranspose2dConfig::new([from, to], [kernel; 2]).with_stride([stride; 2]);
            config.with_bias(to == 1).init(device)
        };
        let norm = |channels| BatchNormConfig::new(channels).init(device);
        Self { convolutions: shapes.map(convolution).into(), norms: [256, 128, 64].map(norm).into() }
    }

    fn forward(&self, latents: Tensor<2>) -> Tensor<4> {
        let [n, _] = latents.dims();
        let mut x = latents.reshape([n, LATENT, 1, 1]);
        for (convolution, norm) in self.convolutions.iter().zip(&self.norms) {
            x = relu(norm.forward(convolution.forward(x)));
        }
        self.convolutions[self.norms.len()].forward(x).tanh()
    }
}

#[derive(Module, Debug)]
struct Discriminator {
    convolutions: Vec<Conv2d>,
    norms: Vec<BatchNorm>,
    linear: Linear,
}

impl Discriminator {
    fn new(device: &Device) -> Self {
        let convolution = |(from, to, kernel): (usize, usize, usize)| {
            Conv2dConfig::new([from, to], [kernel; 2]).with_stride([2; 2]).with_bias(false).init(device)
        };
        Self {
            convolutions: [(1, 16, 3), (16, 32, 5), (32, 64, 5)].map(convolution).into(),
            norms: [16, 32, 64].map(|channels| BatchNormConfig::new(channels).init(device)).into(),
            linear: LinearConfig::new(64, 1).init(device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = images;
        for (convolution, norm) in self.convolutions.iter().zip(&self.norms) {
            x = leaky_relu(norm.forward(convolution.forward(x)), 0.2);
        }
        self.linear.forward(x.flatten(1, 3))
    }
}

/// The arguments of the command line.
struct Arguments {
    device: String,
    batch_size: usize,
    seconds: f64,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut arguments = Arguments { device: "flex".into(), batch_size: 128, seconds: 3.0 };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--device" => arguments.device = value,
            "--batch-size" => arguments.batch_size = value.parse()?,
            "--seconds" => arguments.seconds = value.parse()?,
            _ => return Err(format!("unknown option {flag}; the options are --device, --batch-size and --seconds").into()),
        }
    }
    Ok(arguments)
}

fn open(name: &str) -> Result<Device, Box<dyn Error>> {
    match name {
        "flex" => Ok(Device::flex()),
        #[cfg(all(feature = "wgpu", not(feature = "vulkan")))]
        "wgpu" => Ok(Device::wgpu(Default::default())),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(Default::default())),
        _ => Err(format!("unknown device {name}; the devices are flex, and wgpu and vulkan with the features of these names").into()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { device: name, batch_size, seconds } = arguments()?;
    let plain = open(&name)?;
    let device = plain.clone().autodiff();
    let (mut g, mut d) = (Generator::new(&device), Discriminator::new(&device));
    let adam = AdamConfig::new().with_beta_1(0.5).with_beta_2(0.99).with_epsilon(1e-8);
    let (mut adam_g, mut adam_d) = (adam.init(), adam.init());
    let reals = Tensor::<4>::random([batch_size, 1, 28, 28], Distribution::Uniform(-1.0, 1.0), &device);
    let mut last_loss = None;

    let mut step = || {
        let latents = Tensor::<2>::random([batch_size, LATENT], Distribution::Normal(0.0, 1.0), &device);
        let fakes = g.forward(latents);
        let on_reals = softplus(-d.forward(reals.clone()), 1.0).mean();
        let loss = on_reals + softplus(d.forward(fakes.clone().detach()), 1.0).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &d);
        d = adam_d.step(LEARNING_RATE, d.clone(), gradients);
        let loss = softplus(-d.clone().no_grad().forward(fakes), 1.0).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &g);
        g = adam_g.step(LEARNING_RATE, g.clone(), gradients);
        last_loss = Some(loss);
    };
    let mut run = |steps: usize| -> Result<f64, Box<dyn Error>> {
        let begin = Instant::now();
        for _ in 0..steps {
            step();
        }
        plain.sync().map_err(|error| format!("{error:?}"))?;
        Ok(begin.elapsed().as_secs_f64() / steps as f64)
    };

    let mut each = 0.0;
    for _ in 0..8 {
        each = run(1)?; // autotuning is over by then
    }
    let together = ((seconds / 20.0 / each) as usize).max(1);
    let count = ((seconds / each / together as f64) as usize).clamp(3, 100);
    let mut samples = (0..count).map(|_| run(together)).collect::<Result<Vec<f64>, _>>()?;
    samples.sort_by(f64::total_cmp);
    let loss = last_loss.expect("there were steps").into_scalar::<f32>();
    if !loss.is_finite() {
        return Err(format!("the generator's loss is {loss}").into());
    }
    let median = samples[count / 2];
    println!(
        "{{\"peer\": \"burn 0.22.1, {name}\", \"device\": \"{name}\", \"model\": \"dcgan-small\", \"batch_size\": {batch_size}, \
         \"milliseconds\": {}, \"fastest_milliseconds\": {}, \"images_per_second\": {}, \"samples\": {count}}}",
        1e3 * median,
        1e3 * samples[0],
        batch_size as f64 / median
    );
    Ok(())
}
