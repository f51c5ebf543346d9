//! Four aerial images of forests, built into the program: three of 400 x 400 pixels and one of 1035 x 1249, in colour.
//! `data/README.md` names their origin and licence.

use crate::error::Result;

/// The name of the data set on the command line. The data set consists of tiles of the images.
pub const NAME: &str = "aerial";

/// The name and the content of each image file (PNG).
///
/// # Errors
///
/// If this build has no feature `aerial`.
#[cfg(feature = "aerial")]
pub fn images() -> Result<[(&'static str, &'static [u8]); 4]> {
    Ok(gpu_gan_aerial::IMAGES)
}

/// Returns an error, since this build has no feature `aerial`.
#[cfg(not(feature = "aerial"))]
pub fn images() -> Result<[(&'static str, &'static [u8]); 4]> {
    Err(super::not_built_in(NAME))
}

#[cfg(all(test, feature = "aerial"))]
mod tests {
    use md5::{Digest, Md5};

    use super::*;

    #[test]
    fn the_images_are_the_original_files() {
        let sums = [
            "068f760e93901253b56cc54dff591506",
            "e60e55c7048afe3237a3e727a5eac2a4",
            "635850e7424679d87315b56726a747d0",
            "6d26dae19dccb42303de8fe737eeb489",
        ];
        for ((name, bytes), expected) in images().unwrap().iter().zip(sums) {
            let sum = Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
            assert_eq!(sum, expected, "{name}");
        }
    }
}
