//! The handwritten digits of the MNIST database, built into the program: 28 x 28 pixels, ten classes. `data/README.md` names
//! the origin and the licence of the files.

use super::{ImageSet, idx};
use crate::error::Result;

/// The name of the built-in training images on the command line.
pub const NAME: &str = "mnist";

/// The gzipped IDX files of a part of the database.
struct BuiltInFiles {
    images: &'static [u8],
    labels: &'static [u8],
}

/// The training images and the test images.
#[cfg(feature = "mnist")]
#[expect(clippy::unnecessary_wraps, reason = "a build without the images returns an error")]
fn files() -> Result<[BuiltInFiles; 2]> {
    Ok([
        BuiltInFiles { images: gpu_gan_mnist_train::IMAGES, labels: gpu_gan_mnist_train::LABELS },
        BuiltInFiles { images: gpu_gan_mnist_test::IMAGES, labels: gpu_gan_mnist_test::LABELS },
    ])
}

#[cfg(not(feature = "mnist"))]
fn files() -> Result<[BuiltInFiles; 2]> {
    Err(super::not_built_in(NAME))
}

/// The 60 000 training images with their labels.
///
/// # Errors
///
/// If this build has no feature `mnist`, or the built-in files are damaged, which is a bug in this program.
pub fn train() -> Result<ImageSet> {
    let [train, _] = files()?;
    let images = idx::images_in("the built-in train-images-idx3-ubyte", train.images)?;
    let labels = idx::labels_in("the built-in train-labels-idx1-ubyte", train.labels)?;
    Ok(ImageSet::from_idx(NAME.into(), images, Some(digits(labels))))
}

/// The labels of digits as bytes.
fn digits(labels: Vec<i64>) -> Vec<u8> {
    labels.into_iter().map(|label| label as u8).collect()
}

/// The 10 000 test images with their labels, named `mnist-test`.
///
/// # Errors
///
/// If this build has no feature `mnist`, or the built-in files are damaged, which is a bug in this program.
pub fn test() -> Result<ImageSet> {
    let [_, test] = files()?;
    let images = idx::images_in("the built-in t10k-images-idx3-ubyte", test.images)?;
    let labels = idx::labels_in("the built-in t10k-labels-idx1-ubyte", test.labels)?;
    Ok(ImageSet::from_idx(format!("{NAME}-test"), images, Some(digits(labels))))
}

#[cfg(all(test, feature = "mnist"))]
mod tests {
    use std::io::Read;

    use md5::{Digest, Md5};

    use super::*;

    fn md5_unpacked(packed: &[u8]) -> String {
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut unpacked).unwrap();
        Md5::digest(&unpacked).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
    }

    #[test]
    fn the_files_are_the_original_ones() {
        let [train, test] = files().unwrap();
        for (file, md5) in [
            (train.images, "6bbc9ace898e44ae57da46a324031adb"),
            (train.labels, "a25bea736e30d166cdddb491f175f624"),
            (test.images, "2646ac647ad5339dbf082846283269ea"),
            (test.labels, "27ae3e4e09519cfbb04c329615203637"),
        ] {
            assert_eq!(md5_unpacked(file), md5);
        }
    }

    #[test]
    fn there_are_60000_images_to_train_on_and_10000_to_test_with() {
        for (set, name, count) in [(train(), "mnist", 60_000), (test(), "mnist-test", 10_000)] {
            let set = set.unwrap();
            assert_eq!((set.name.as_str(), set.count()), (name, count));
            assert_eq!(set.image_shape(), [28, 28, 1]);
            assert_eq!(set.image(count - 1).len(), 28 * 28);
            let labels = set.labels.unwrap();
            assert_eq!(labels.len(), count);
            assert!((0..10).all(|class| labels.contains(&class)));
            assert!(labels.iter().all(|&class| class < 10));
        }
    }

    #[test]
    fn the_first_digit_is_a_five() {
        assert_eq!(train().unwrap().labels.unwrap()[0], 5);
    }
}
