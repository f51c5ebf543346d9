//! Whole training steps of the shipped models on each device: `cargo bench --bench step`.

#![allow(missing_docs, reason = "Criterion's macros write undocumented functions")]

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use gpu_gan::cpu::CpuDevice;
use gpu_gan::data::mnist;
use gpu_gan::gpu::{GpuDevice, adapters};
use gpu_gan::net::Model;
use gpu_gan::program::{Device, Values};
use gpu_gan::train::{Checkpoint, Gan, Settings};

fn steps(criterion: &mut Criterion) {
    let mut devices: Vec<Box<dyn Device>> = vec![Box::new(CpuDevice::<f32>::new())];
    for adapter in adapters() {
        devices.push(Box::new(GpuDevice::open(&adapter).expect("a listed adapter opens")));
    }
    let images = mnist::train().expect("it is built in");
    for name in Model::built_in() {
        let model = Model::named(name).expect("it is built in");
        if images.image_shape() != model.image {
            continue;
        }
        let settings = Settings::new(&model, &images, "mnist").expect("the shapes are equal");
        let gan = Gan::new(&model, &settings, images.count());
        let mut group = criterion.benchmark_group(format!("step of {name}, batch {}", settings.batch_size));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(settings.batch_size as u64));
        for device in &devices {
            let mut executor = device.build(&gan.program).expect("it fits");
            gan.load(executor.as_mut(), &Checkpoint::initial(&model, &settings)).expect("it fits");
            executor.upload(gan.data, Values::U8(&images.pixels)).expect("it fits");
            let mut one = || {
                executor.run(gan.step, 1).expect("the device works");
                // Waits for the step; the tensor is small.
                executor.download(gan.history).expect("the device works")
            };
            one();
            group.bench_function(BenchmarkId::from_parameter(device.description()), |bencher| bencher.iter(&mut one));
        }
        group.finish();
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
