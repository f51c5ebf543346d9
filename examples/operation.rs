//! Runs one operation on the CPU in f64 and, if the machine has a GPU, on that in f32, and compares the results.
//!
//!     cargo run --release --example operation

use gpu_gan::cpu::CpuDevice;
use gpu_gan::gpu::{self, GpuDevice};
use gpu_gan::program::{Activation, Device, Op, Program, Values};

const LEN: usize = 1000;

fn main() -> gpu_gan::Result<()> {
    let mut program = Program::new();
    let x = program.tensor("x", &[LEN]);
    let y = program.tensor("y", &[LEN]);
    let routine = program.begin("tanh");
    program.push(Op::Activation { kind: Activation::Tanh, x, y });

    let values: Vec<f32> = (0..LEN).map(|i| (i as f32 - 500.0) * 0.01).collect();
    let on = |device: &dyn Device| -> gpu_gan::Result<Vec<f32>> {
        let mut executor = device.build(&program)?;
        executor.upload(x, Values::F32(&values))?;
        executor.run(routine, 1)?;
        executor.download(y)
    };

    let expected = on(&CpuDevice::<f64>::new())?;
    let adapters = gpu::adapters();
    let Some(adapter) = adapters.first() else {
        println!("no GPU; the CPU computes tanh({}) = {}", values[0], expected[0]);
        return Ok(());
    };
    let gpu = GpuDevice::open(adapter)?;
    let actual = on(&gpu)?;
    let error = expected.iter().zip(&actual).map(|(e, a)| (e - a).abs()).fold(0.0, f32::max);
    println!("{}: the largest error of {LEN} values is {error:e}", gpu.description());
    Ok(())
}
