//! Building programs, uploading and reading tensors.

use super::*;
use crate::cpu::CpuDevice;
use crate::error::Error;
use crate::program::{Device, Element, Op, Values};

/// A program whose routine `step` concatenates `a` with itself into `doubled`.
fn doubling() -> (Program, RoutineId, TensorId, TensorId) {
    let mut program = Program::new();
    let a = program.tensor("a", &[1, 1, 1, 2]);
    let doubled = program.tensor("doubled", &[2, 1, 1, 2]);
    let step = program.begin("step");
    program.push(Op::Concat { a, b: a, y: doubled });
    (program, step, a, doubled)
}

#[test]
fn a_program_runs_through_the_device_and_executor_traits() {
    let (program, step, a, doubled) = doubling();
    let device = CpuDevice::<f32>::new();
    assert!(device.description().starts_with("CPU, "), "{}", device.description());
    let mut executor = device.build(&program).unwrap();
    assert_eq!(executor.download(doubled).unwrap(), [0.0; 4], "memory starts as zeros");
    executor.upload(a, Values::F32(&[1.0, 2.0])).unwrap();
    executor.run(step, 1).unwrap();
    assert_eq!(executor.download(doubled).unwrap(), [1.0, 2.0, 1.0, 2.0]);
}

#[test]
fn a_snapshot_keeps_its_values_after_later_uploads() {
    let (program, _, a, _) = doubling();
    let mut executor = CpuDevice::<f64>::new().build(&program).unwrap();
    let mut snapshots = Vec::new();
    for i in 0..3 {
        executor.upload(a, Values::F32(&[i as f32, 0.5])).unwrap();
        snapshots.push(executor.snapshot(a).unwrap());
    }
    for (i, snapshot) in snapshots.into_iter().enumerate().rev() {
        assert_eq!(executor.collect(snapshot).unwrap(), [i as f32, 0.5]);
    }
}

#[test]
#[should_panic(expected = "3 values for a [1, 1, 1, 2]")]
fn uploading_a_wrong_number_of_values_panics() {
    let (program, _, a, _) = doubling();
    let mut executor = CpuExecutor::<f32>::new(&program).unwrap();
    let _ = executor.upload(a, Values::F32(&[0.0; 3]));
}

#[test]
#[should_panic(expected = "clock holds counters, not what was uploaded: F32")]
fn uploading_values_of_a_wrong_type_panics() {
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let mut executor = CpuExecutor::<f32>::new(&program).unwrap();
    let _ = executor.upload(clock, Values::F32(&[0.0]));
}

#[test]
fn a_program_larger_than_memory_is_rejected_with_the_name_of_its_largest_buffer() {
    let mut program = Program::new();
    program.tensor("small", &[1 << 10]);
    program.tensor("huge", &[1 << 30, 1 << 30]);
    let device = CpuDevice::<f32>::new();
    let error = device.check(&program).expect_err("no machine has 2^62 bytes of memory");
    assert!(matches!(error, Error::TooLarge { bytes, .. } if bytes == (1 << 62) + (1 << 12)), "{error:?}");
    assert!(error.to_string().contains("its largest buffer, huge, takes"), "{error}");
    let error = device.build(&program).err().expect("no machine has 2^62 bytes of memory");
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    let error = CpuExecutor::<f32>::new(&program).expect_err("no allocator gives 2^62 bytes");
    assert!(error.to_string().starts_with("the CPU has not enough free memory for huge"), "{error}");
}
