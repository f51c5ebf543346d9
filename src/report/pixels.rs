//! Conversion between bytes of images, 0 to 255, and values of networks in a range `[low, high]`. The range of a model is
//! [`Model::range`](crate::net::Model::range).

use crate::error::{Error, Result};

/// Converts a byte to a value: 0 becomes `low`, 255 becomes `high`.
pub fn to_value(byte: u8, [low, high]: [f64; 2]) -> f32 {
    (((high - low) * f64::from(byte) + 255.0 * low) / 255.0) as f32
}

/// Converts values to bytes: `255 * (x - low) / (high - low)`, rounded to the nearest integer and clamped to 0..=255.
///
/// # Errors
///
/// [`Error::Device`] if a value is NaN. A cast would turn NaN into black, which looks like a valid image.
pub fn to_bytes(values: &[f32], [low, high]: [f64; 2]) -> Result<Vec<u8>> {
    if let Some(place) = values.iter().position(|x| x.is_nan()) {
        return Err(Error::Device {
            message: format!("the generator produced NaN (value {place} of {})", values.len()),
            hint: "training diverged: use an earlier checkpoint, or train again with a lower --lr".into(),
        });
    }
    let (low, scale) = (low as f32, (255.0 / (high - low)) as f32);
    // The cast clamps to 0..=255.
    Ok(values.iter().map(|x| ((x - low) * scale).round() as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: [f64; 2] = [-1.0, 1.0];

    #[test]
    fn every_byte_survives_the_conversion_to_a_value_and_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        for range @ [low, high] in [SIGNED, [0.0, 1.0]] {
            let values: Vec<f32> = bytes.iter().map(|&byte| to_value(byte, range)).collect();
            assert_eq!([values[0], values[255]].map(f32::to_bits), [low as f32, high as f32].map(f32::to_bits));
            assert_eq!(to_bytes(&values, range).unwrap(), bytes);
        }
    }

    #[test]
    fn values_are_rounded_and_clamped() {
        let values = [-1.0, 1.0, 0.0, -0.99, -7.0, 1.1, f32::NEG_INFINITY, f32::INFINITY, f32::MAX];
        assert_eq!(to_bytes(&values, SIGNED).unwrap(), [0, 255, 128, 1, 0, 255, 0, 255, 255]);
        assert_eq!(to_bytes(&[0.0, 1.0, 0.5, -0.1, 1.1, 0.1], [0.0, 1.0]).unwrap(), [0, 255, 128, 0, 255, 26]);
    }

    #[test]
    fn nan_is_an_error() {
        let error = to_bytes(&[0.0, f32::NAN, 0.0], SIGNED).unwrap_err();
        assert!(matches!(error, Error::Device { .. }));
        assert_eq!(error.to_string(), "the generator produced NaN (value 1 of 3)");
        assert!(!error.hint().is_empty());
    }
}
