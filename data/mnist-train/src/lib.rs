#![doc = include_str!("../README.md")]

/// The 60,000 training images, 28 x 28 grey pixels each: an IDX file, gzipped.
pub const IMAGES: &[u8] = include_bytes!("../train-images-idx3-ubyte.gz");

/// The classes of the training images, 0 to 9: an IDX file, gzipped.
pub const LABELS: &[u8] = include_bytes!("../train-labels-idx1-ubyte.gz");
