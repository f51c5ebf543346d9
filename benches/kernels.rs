//! The matrix products of `dcgan-small` at its shapes, on each device: `cargo bench --bench kernels`. Criterion's elements
//! are floating-point operations, so its throughput is in FLOP/s.

#![allow(missing_docs, reason = "Criterion's macros write undocumented functions")]

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use gpu_gan::cpu::CpuDevice;
use gpu_gan::gpu::{GpuDevice, adapters};
use gpu_gan::program::{Device, Geometry, Op, Program, Values};

/// Each layer's name, then: images, side of x, side of y, channels of x, channels of y, kernel, stride.
const SHAPES: [(&str, [usize; 7]); 7] = [
    ("generator.1", [128, 3, 1, 256, 64, 3, 2]),
    ("generator.4", [128, 6, 3, 128, 256, 4, 1]),
    ("generator.7", [128, 13, 6, 64, 128, 3, 2]),
    ("generator.10", [128, 28, 13, 1, 64, 4, 2]),
    ("discriminator.0", [256, 28, 13, 1, 16, 3, 2]),
    ("discriminator.3", [256, 13, 5, 16, 32, 5, 2]),
    ("discriminator.6", [256, 5, 1, 32, 64, 5, 2]),
];

fn products(criterion: &mut Criterion) {
    let mut devices: Vec<Box<dyn Device>> = vec![Box::new(CpuDevice::<f32>::new())];
    for adapter in adapters() {
        devices.push(Box::new(GpuDevice::open(&adapter).expect("a listed adapter opens")));
    }
    for (layer, [n, size, size_out, c_in, c_out, kernel, stride]) in SHAPES {
        let mut program = Program::new();
        let x = program.tensor("x", &[n, size, size, c_in]);
        let y = program.tensor("y", &[n, size_out, size_out, c_out]);
        let w = program.tensor("w", &[kernel, kernel, c_in, c_out]);
        let geometry = Geometry { kernel, stride, pad: 0 };
        let routines = [
            ("conv", Op::Conv { x, w, b: None, y, geometry }, y),
            ("conv_grad_input", Op::ConvGradInput { dy: y, w, b: None, dx: x, geometry }, x),
            ("conv_grad_weight", Op::ConvGradWeight { x, dy: y, dw: w, geometry }, w),
        ]
        .map(|(name, op, result)| {
            let routine = program.begin(name);
            program.push(op);
            (name, routine, result)
        });
        let mut group = criterion.benchmark_group(layer);
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        for device in &devices {
            let mut executor = device.build(&program).expect("it fits");
            for tensor in [x, y, w] {
                let len = program.info(tensor).len();
                executor.upload(tensor, Values::F32(&vec![0.01; len])).expect("it fits");
            }
            for (name, routine, result) in routines {
                group.throughput(Throughput::Elements(program.flops(routine)));
                group.bench_function(BenchmarkId::new(name, device.description()), |bencher| {
                    bencher.iter(|| {
                        executor.run(routine, 1).expect("the device works");
                        executor.download(result).expect("the device works")
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
