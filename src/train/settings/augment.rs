//! Random augmentation of real images.

use std::fmt;

/// Random augmentation of real images. Each image is changed randomly each time that the discriminator sees it. By default, there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Augment {
    /// The largest angle of rotation, 0 to 180 degrees. The image is rotated by a random angle between `-rotate` and `rotate`.
    pub rotate: f64,
    /// Whether the image is mirrored left to right with probability 1/2.
    pub flip: bool,
    /// Whether the image, which must be square, is rotated by 0, 90, 180 or 270 degrees.
    pub quarter_turns: bool,
}

impl Augment {
    /// Whether images are changed at all.
    pub fn is_on(self) -> bool {
        self != Self::default()
    }
}

/// Describes the augmentation, such as `turned by up to 20 degrees, mirrored`.
impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rotate, flip, quarter_turns } = *self;
        let rotated = (rotate > 0.0).then(|| format!("turned by up to {rotate} degrees"));
        let flipped = flip.then(|| "mirrored".to_string());
        let turned = quarter_turns.then(|| "turned by quarter turns".to_string());
        let words: Vec<String> = [rotated, flipped, turned].into_iter().flatten().collect();
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn augmentation_is_said_in_words() {
        assert_eq!(Augment { rotate: 20.0, flip: true, quarter_turns: true }.to_string(), {
            "turned by up to 20 degrees, mirrored, turned by quarter turns"
        });
        assert_eq!(Augment::default().to_string(), "none");
    }
}
