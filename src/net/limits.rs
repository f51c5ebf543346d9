//! The largest values that a model file may hold. Every size is bounded before anything is allocated for it.

use std::ops::RangeInclusive;

/// Bytes of a model file.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;
/// Layers of a network.
pub(super) const MAX_LAYERS: usize = 200;
/// Channels, features and latent values.
pub(super) const MAX_WIDTH: usize = 1 << 16;
/// Kernel sizes, strides and pads, in pixels.
pub(super) const MAX_KERNEL: usize = 1024;
/// Height and width of the images that a network generates, in pixels.
pub(super) const MAX_IMAGE: usize = 1024;
/// Number of classes of a conditional model. Labels are bytes.
pub(super) const CLASSES: RangeInclusive<usize> = 2..=256;
/// Elements of one image between two layers, and of one weight tensor.
pub(super) const MAX_ELEMENTS: usize = 1 << 28;
/// Height and width of an image between two layers, in pixels.
pub(super) const MAX_SIDE: usize = 1 << 16;
/// Multiply-adds of one layer for one image. The count of a whole training step of the largest batch still fits 64 bits.
pub(super) const MAX_MULTIPLY_ADDS: u64 = 1 << 36;
