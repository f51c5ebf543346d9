//! Writes a layer from the operations: a residual block `y = x + tanh(conv(x, w))`, its forward and its backward pass. The gradient is
//! compared with a finite difference.
//!
//!     cargo run --release --example layer

use gpu_gan::cpu::CpuDevice;
use gpu_gan::program::{Activation, Device, Executor, Geometry, Op, Program, RoutineId, TensorId, Values};

/// Half the distance between the two values of an element of x for the finite difference.
const STEP: f32 = 1.0 / 64.0;

/// The block, for images of 8 x 8 pixels with 3 channels, in batches of 2.
struct Residual {
    program: Program,
    forward: RoutineId,
    backward: RoutineId,
    x: TensorId,
    w: TensorId,
    y: TensorId,
    dy: TensorId,
    dx: TensorId,
    dw: TensorId,
}

impl Residual {
    fn new() -> Self {
        let mut program = Program::new();
        // With its padding, a 3 x 3 kernel keeps the size of the images.
        let geometry = Geometry { kernel: 3, stride: 1, pad: 1 };
        let kind = Activation::Tanh;
        let [x, z, a, y, dy, dz, dx] =
            ["x", "z", "a", "y", "dy", "dz", "dx"].map(|name| program.tensor(name, &[2, 8, 8, 3]));
        let [w, dw] = ["w", "dw"].map(|name| program.tensor(name, &[3, 3, 3, 3]));

        let forward = program.begin("forward");
        program.push(Op::Conv { x, w, b: None, y: z, geometry });
        program.push(Op::Activation { kind, x: z, y: a });
        program.push(Op::Fill { y, value: 0.0 });
        program.push(Op::Accumulate { x, y });
        program.push(Op::Accumulate { x: a, y });

        let backward = program.begin("backward");
        program.push(Op::ActivationGrad { kind, y: a, dy, dx: dz });
        program.push(Op::ConvGradWeight { x, dy: dz, dw, geometry });
        program.push(Op::ConvGradInput { dy: dz, w, b: None, dx, geometry });
        program.push(Op::Accumulate { x: dy, y: dx });
        Self { program, forward, backward, x, w, y, dy, dx, dw }
    }
}

fn main() -> gpu_gan::Result<()> {
    let block = Residual::new();
    // Any device runs it: `GpuDevice::open(&adapters()[0])?` is a GPU.
    let mut executor = CpuDevice::<f64>::new().build(&block.program)?;
    let values = |len: usize, shift: usize| -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + shift) % 101) as f32 / 101.0 - 0.5).collect()
    };
    let (mut x, w, dy) = (values(384, 0), values(81, 1), values(384, 2));
    executor.upload(block.w, Values::F32(&w))?;
    executor.upload(block.dy, Values::F32(&dy))?;

    // The loss is the sum of y * dy, so that dy is its gradient for y.
    let loss = |executor: &mut dyn Executor, x: &[f32]| -> gpu_gan::Result<f64> {
        executor.upload(block.x, Values::F32(x))?;
        executor.run(block.forward, 1)?;
        let y = executor.download(block.y)?;
        Ok(y.iter().zip(&dy).map(|(y, dy)| f64::from(y * dy)).sum())
    };
    loss(executor.as_mut(), &x)?;
    executor.run(block.backward, 1)?;
    let (dx, dw) = (executor.download(block.dx)?, executor.download(block.dw)?);

    let at = 100;
    x[at] += STEP;
    let above = loss(executor.as_mut(), &x)?;
    x[at] -= 2.0 * STEP;
    let below = loss(executor.as_mut(), &x)?;
    let difference = (above - below) / f64::from(2.0 * STEP);
    println!("dx[{at}] = {:.5}, as a finite difference {difference:.5}; dw[0] = {:.5}", dx[at], dw[0]);
    assert!((f64::from(dx[at]) - difference).abs() < 1e-3, "the gradient is wrong");
    Ok(())
}
