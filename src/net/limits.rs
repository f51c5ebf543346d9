//! Limits of the values in a model file. Every size is checked before anything is allocated for it.

use std::ops::RangeInclusive;

/// The largest size of a model file, in bytes.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;
/// The largest number of layers of a network.
pub(super) const MAX_LAYERS: usize = 200;
/// The largest number of channels, features or latent values.
pub(super) const MAX_WIDTH: usize = 1 << 16;
/// The largest kernel size, stride or pad, in pixels.
pub(super) const MAX_KERNEL: usize = 1024;
/// The number of classes of a conditional model. Labels are bytes, so 256 is the most.
pub(super) const CLASSES: RangeInclusive<usize> = 2..=256;
/// The largest number of elements of an image between two layers, and of a weight tensor.
pub(super) const MAX_ELEMENTS: usize = 1 << 28;
/// The largest height or width of an image between two layers, in pixels.
pub(super) const MAX_SIDE: usize = 1 << 16;
/// The largest number of multiply-adds of one layer for one image. The count of a training step of the largest batch still fits
/// 64 bits.
pub(super) const MAX_MULTIPLY_ADDS: u64 = 1 << 36;
