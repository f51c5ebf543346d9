//! Tests of the CPU device. In f64 it is the reference for every other device. So it is compared here with results that do not use
//! its formulas: central differences, naive loops and values computed by hand.

mod augment;
mod device;
mod diff_augment;
mod gradients;
mod repeatability;
mod values;

use super::{CpuExecutor, Scalar};
use crate::program::{Executor, Program, RoutineId, TensorId, random};

/// `len` standard normal numbers, which `seed` determines.
fn noise(seed: u64, len: usize) -> Vec<f64> {
    (0..len).map(|i| random::normal(seed, 0, 0, i as u32)).collect()
}

/// Fills a tensor with standard normal numbers.
fn fill<T: Scalar>(executor: &mut CpuExecutor<T>, tensor: TensorId, seed: u64) {
    let len = executor.read(tensor).len();
    let values: Vec<T> = noise(seed, len).into_iter().map(T::from_f64).collect();
    executor.write(tensor, &values);
}

/// An executor of f64 whose `tensors` hold standard normal numbers, each from another seed.
fn with_noise(program: &Program, tensors: &[TensorId]) -> CpuExecutor<f64> {
    let mut executor = CpuExecutor::new(program).unwrap();
    for (seed, &tensor) in (1..).zip(tensors) {
        fill(&mut executor, tensor, seed);
    }
    executor
}

/// Runs a routine and returns a tensor that it writes. The tensor holds NaN before, so reading old values would show.
fn result(executor: &mut CpuExecutor<f64>, routine: RoutineId, tensor: TensorId) -> Vec<f64> {
    let len = executor.read(tensor).len();
    executor.write(tensor, &vec![f64::NAN; len]);
    executor.run(routine, 1).unwrap();
    executor.read(tensor)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Asserts that each value is within `bound * (1 + |expected|)` of the expected one. NaN fails.
#[track_caller]
fn assert_close(what: &str, values: &[f64], expected: &[f64], bound: f64) {
    assert_eq!(values.len(), expected.len(), "{what}: lengths");
    for (i, (value, expected)) in values.iter().zip(expected).enumerate() {
        let error = (value - expected).abs() / (1.0 + expected.abs());
        assert!(error <= bound, "{what}[{i}] is {value}, not {expected}: error {error:e} > {bound:e}");
    }
}

/// Asserts that `gradient` agrees with central differences of `objective` for each element of `x`; `forward` computes the
/// objective's inputs. `objective` must be smooth within the step of the differences.
#[track_caller]
fn assert_gradient(
    what: &str,
    executor: &mut CpuExecutor<f64>,
    forward: RoutineId,
    x: TensorId,
    objective: impl Fn(&CpuExecutor<f64>) -> f64,
    gradient: &[f64],
) {
    // The truncation error is about STEP^2 and the rounding error about 1e-16 / STEP: both are near 1e-10.
    const STEP: f64 = 1e-5;
    const BOUND: f64 = 1e-8;
    let values = executor.read(x);
    let mut at = |i: usize, step: f64| {
        let mut moved = values.clone();
        moved[i] += step;
        executor.write(x, &moved);
        executor.run(forward, 1).unwrap();
        objective(executor)
    };
    let differences: Vec<f64> = (0..values.len()).map(|i| (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP)).collect();
    executor.write(x, &values);
    assert!(differences.iter().any(|difference| difference.abs() > 0.01), "{what}: the objective does not depend on x");
    assert_close(what, gradient, &differences, BOUND);
}

mod helpers {
    use super::*;
    use crate::program::{Activation, Op};

    #[test]
    #[should_panic(expected = "is NaN, not 0")]
    fn assert_close_rejects_nan() {
        assert_close("values", &[f64::NAN], &[0.0], f64::INFINITY);
    }

    #[test]
    #[should_panic(expected = "lengths")]
    fn assert_close_rejects_a_missing_value() {
        assert_close("values", &[1.0], &[1.0, 1.0], 1.0);
    }

    #[test]
    fn assert_gradient_accepts_the_gradient_and_rejects_an_error_of_one_millionth() {
        let mut program = Program::new();
        let x = program.tensor("x", &[5]);
        let y = program.tensor("y", &[5]);
        let forward = program.begin("forward");
        let kind = Activation::Tanh;
        program.push(Op::Activation { kind, x, y });
        let check = |factor: f64| {
            let mut executor = with_noise(&program, &[x]);
            let gradient: Vec<f64> = executor.read(x).iter().map(|x| factor * (1.0 - x.tanh().powi(2))).collect();
            let sum = |executor: &CpuExecutor<f64>| executor.read(y).iter().sum();
            assert_gradient("dx", &mut executor, forward, x, sum, &gradient);
        };
        check(1.0);
        std::panic::catch_unwind(|| check(1.000_001)).expect_err("the gradient is wrong");
    }
}
