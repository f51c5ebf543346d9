//! What the tests of numbers share: patterns, a comparison that cannot be fooled, and the adapter.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::neg_cmp_op_on_partial_ord, reason = "`!(error <= bound)` is what makes NaN fail")]

use std::io::Write;
use std::sync::OnceLock;

use gpu_gan::gpu::{AdapterKind, GpuDevice, adapters, what_to_install};
use gpu_gan::program::random::{philox, uniform};

/// How far a value may be from its reference: `absolute + relative * |reference|`, for each element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    pub(crate) absolute: f64,
    pub(crate) relative: f64,
}

impl Tolerance {
    /// For values that are a few roundings in f32 away from exact ones (2^-24 = 6e-8 each), at a scale of about 1.
    pub(crate) const ROUNDING: Self = Self { absolute: 2e-6, relative: 2e-6 };

    /// For sums of `length` products of numbers in [-1, 1]. Each addition rounds a partial sum that has grown to about
    /// sqrt(k) / 3 by 2^-24 of it, and the roundings add up like a random walk: to a deviation of 8e-9 * length, of which
    /// seven are allowed, since the worst of a million elements is five away.
    pub(crate) fn of_sum(length: usize) -> Self {
        Self { absolute: 2e-6 + 6e-8 * length as f64, relative: 1e-6 }
    }
}

/// Fails unless every element is within the tolerance and the normalised mean squared error is below the square of what
/// the tolerance means for a typical element. Written so that NaN fails.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: Tolerance) {
    if let Err(message) = compare(got, want, tolerance) {
        panic!("{what}: {message}");
    }
}

/// The comparison of [`assert_close`], with its complaint.
pub(crate) fn compare(got: &[f32], want: &[f64], tolerance: Tolerance) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} elements instead of {}", got.len(), want.len()));
    }
    if let Some(index) = want.iter().position(|value| !value.is_finite()) {
        return Err(format!("the reference is {} at {index}", want[index]));
    }
    let bound = |want: f64| tolerance.absolute + tolerance.relative * want.abs();
    let outside = |(_, (got, want)): &(usize, (&f32, &f64))| {
        let error = (f64::from(**got) - **want).abs();
        !(error <= bound(**want))
    };
    let total = got.len();
    let failures: Vec<_> = got.iter().zip(want).enumerate().filter(outside).collect();
    if let Some((index, (got, want))) = failures.iter().max_by(|(_, a), (_, b)| {
        let error = |(got, want): &(&f32, &f64)| (f64::from(**got) - **want).abs() / bound(**want);
        error(a).partial_cmp(&error(b)).unwrap_or(std::cmp::Ordering::Greater)
    }) {
        return Err(format!(
            "{} of {total} elements are wrong; the worst, {index}, is {got:e} instead of {want:e}, bound {:e}",
            failures.len(),
            bound(**want)
        ));
    }
    // Errors that stay below each element's bound and all point the same way are seen here.
    let squares: f64 = want.iter().map(|want| want * want).sum();
    let errors: f64 = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - want).powi(2)).sum();
    let typical = (squares / want.len().max(1) as f64).sqrt();
    let allowed = (bound(typical) / typical.max(f64::MIN_POSITIVE)).powi(2) / 4.0;
    if squares > 0.0 && !(errors / squares <= allowed) {
        return Err(format!("normalised mean squared error {:e}, bound {allowed:e}", errors / squares));
    }
    Ok(())
}

/// How far two tensors are apart, relative to the second.
pub(crate) fn apart(got: &[f32], want: &[f32]) -> f64 {
    norm(got.iter().zip(want).map(|(got, want)| got - want)) / norm(want.iter().copied())
}

/// The root of the sum of squares.
pub(crate) fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// Numbers in [-1, 1], different for each name.
pub(crate) fn pattern(name: &str, len: usize) -> Vec<f32> {
    let key = name.bytes().fold([7, len as u32], |[a, b], byte| [a.wrapping_mul(31).wrapping_add(u32::from(byte)), b]);
    (0..len.div_ceil(4) as u32)
        .flat_map(|block| philox([block, 0, 0, 0], key))
        .map(|word| (2.0 * uniform(word) - 1.0) as f32)
        .take(len)
        .collect()
}

/// Says something that is seen when tests pass, too: the test harness keeps back what `println!` prints.
pub(crate) fn aloud(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The adapter that the tests run on: `GPU_GAN_TEST_ADAPTER` is a part of its name, else it is the first one. Opened
/// once. None only where `GPU_GAN_SKIP_GPU=1` says, loudly, that these tests are to be left out.
pub(crate) fn gpu() -> Option<&'static GpuDevice> {
    gpu_and_kind().map(|(device, _)| device)
}

/// The adapter that the tests run on, and what it is: a software adapter is good for numbers, but slow.
pub(crate) fn gpu_and_kind() -> Option<&'static (GpuDevice, AdapterKind)> {
    static GPU: OnceLock<Option<(GpuDevice, AdapterKind)>> = OnceLock::new();
    GPU.get_or_init(|| {
        if std::env::var("GPU_GAN_SKIP_GPU").is_ok_and(|value| value == "1") {
            aloud("SKIPPED: GPU_GAN_SKIP_GPU=1, so nothing is known of the shaders");
            return None;
        }
        let wanted = std::env::var("GPU_GAN_TEST_ADAPTER").unwrap_or_default().to_lowercase();
        let found = adapters().into_iter().find(|adapter| adapter.name.to_lowercase().contains(&wanted));
        let adapter =
            found.unwrap_or_else(|| panic!("no adapter `{wanted}` to test the shaders on: {}", what_to_install()));
        aloud(&format!("adapter: {adapter}, {}, driver {}", adapter.kind, adapter.driver));
        Some((GpuDevice::open(&adapter).unwrap(), adapter.kind))
    })
    .as_ref()
}
