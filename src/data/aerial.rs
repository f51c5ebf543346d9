//! Four photographs of forests from the air, built into the program: 400 x 400 pixels each and one of 1035 x 1249, in
//! colour. Where they come from, and their licence, is in `data/README.md`.

use super::Tiles;

/// What a person types to get tiles of the photographs.
pub const NAME: &str = "aerial";

/// The images' file names and files (PNG).
pub use gpu_gan_aerial::IMAGES as PHOTOGRAPHS;

/// The side of a tile where the person names none.
pub(super) const TILE: usize = 64;

/// Tiles overlap by half where the person does not say otherwise: four photographs are few.
pub(super) fn tiles(side: Option<usize>, stride: Option<usize>) -> Tiles {
    let side = side.unwrap_or(TILE);
    Tiles { side, stride: stride.unwrap_or(side.div_ceil(2)) }
}

#[cfg(test)]
mod tests {
    use md5::{Digest, Md5};

    use super::*;

    #[test]
    fn the_photographs_are_the_original_ones() {
        let sums = [
            "068f760e93901253b56cc54dff591506",
            "e60e55c7048afe3237a3e727a5eac2a4",
            "635850e7424679d87315b56726a747d0",
            "6d26dae19dccb42303de8fe737eeb489",
        ];
        for ((name, bytes), expected) in PHOTOGRAPHS.iter().zip(sums) {
            let sum = Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
            assert_eq!(sum, expected, "{name}");
        }
    }
}
