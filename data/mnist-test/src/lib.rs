#![doc = include_str!("../README.md")]

/// The 10,000 test images, 28 x 28 grey pixels each: an IDX file, gzipped.
pub const IMAGES: &[u8] = include_bytes!("../t10k-images-idx3-ubyte.gz");

/// The classes of the test images, 0 to 9: an IDX file, gzipped.
pub const LABELS: &[u8] = include_bytes!("../t10k-labels-idx1-ubyte.gz");
