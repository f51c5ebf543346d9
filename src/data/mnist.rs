//! The handwritten digits of the MNIST database, built into the program: 28 x 28 pixels, ten classes. `data/README.md` names
//! the origin and the licence of the files.

use gpu_gan_mnist_test as test_files;
use gpu_gan_mnist_train as train_files;

use super::{ImageSet, idx};
use crate::error::Result;

/// The name of the built-in training images on the command line.
pub const NAME: &str = "mnist";

/// The 60 000 training images with their labels.
///
/// # Errors
///
/// If the built-in files are damaged, which is a bug in this program.
pub fn train() -> Result<ImageSet> {
    let images = idx::images_in("the built-in train-images-idx3-ubyte", train_files::IMAGES)?;
    let labels = idx::labels_in("the built-in train-labels-idx1-ubyte", train_files::LABELS)?;
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
/// If the built-in files are damaged, which is a bug in this program.
pub fn test() -> Result<ImageSet> {
    let images = idx::images_in("the built-in t10k-images-idx3-ubyte", test_files::IMAGES)?;
    let labels = idx::labels_in("the built-in t10k-labels-idx1-ubyte", test_files::LABELS)?;
    Ok(ImageSet::from_idx(format!("{NAME}-test"), images, Some(digits(labels))))
}

#[cfg(test)]
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
        for (file, md5) in [
            (train_files::IMAGES, "6bbc9ace898e44ae57da46a324031adb"),
            (train_files::LABELS, "a25bea736e30d166cdddb491f175f624"),
            (test_files::IMAGES, "2646ac647ad5339dbf082846283269ea"),
            (test_files::LABELS, "27ae3e4e09519cfbb04c329615203637"),
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
