//! Conversion between the bytes of an image, 0 to 255, and the values of a network in a range `[low, high]`: -1 to 1 or 0 to 1, see
//! [`Model::range`](crate::net::Model::range).

use crate::error::{Error, Result};

/// The value of a byte: 0 is `low`, 255 is `high`.
pub fn to_value(byte: u8, [low, high]: [f64; 2]) -> f32 {
    (((high - low) * f64::from(byte) + 255.0 * low) / 255.0) as f32
}

/// The bytes of a network's values: `255 * (x - low) / (high - low)`, rounded to the nearest and clamped to 0 and 255.
///
/// # Errors
///
/// [`Error::Device`] if a value is NaN. A cast would make it black, which looks like an image.
pub fn to_bytes(values: &[f32], [low, high]: [f64; 2]) -> Result<Vec<u8>> {
    if let Some(place) = values.iter().position(|x| x.is_nan()) {
        return Err(Error::Device {
            message: format!("the generator produced NaN (value {place} of {})", values.len()),
            hint: "its training diverged: use an earlier checkpoint, or train again with a lower --lr".into(),
        });
    }
    let (low, scale) = (low as f32, (255.0 / (high - low)) as f32);
    // A cast from float to integer stops at the ends of the integer's range.
    Ok(values.iter().map(|x| ((x - low) * scale).round() as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: [f64; 2] = [-1.0, 1.0];

    #[test]
    fn every_byte_survives_the_way_there_and_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        for range @ [low, high] in [SIGNED, [0.0, 1.0]] {
            let values: Vec<f32> = bytes.iter().map(|&byte| to_value(byte, range)).collect();
            assert_eq!([values[0], values[255]].map(f32::to_bits), [low as f32, high as f32].map(f32::to_bits));
            assert_eq!(to_bytes(&values, range).unwrap(), bytes);
        }
    }

    #[test]
    fn values_are_rounded_and_those_out_of_range_clamped() {
        let values = [-1.0, 1.0, 0.0, -0.99, -7.0, 1.1, f32::NEG_INFINITY, f32::INFINITY, f32::MAX];
        assert_eq!(to_bytes(&values, SIGNED).unwrap(), [0, 255, 128, 1, 0, 255, 0, 255, 255]);
        assert_eq!(to_bytes(&[0.0, 1.0, 0.5, -0.1, 1.1, 0.1], [0.0, 1.0]).unwrap(), [0, 255, 128, 0, 255, 26]);
    }

    #[test]
    fn a_value_that_is_not_a_number_is_an_error_and_not_black() {
        let error = to_bytes(&[0.0, f32::NAN, 0.0], SIGNED).unwrap_err();
        assert!(matches!(error, Error::Device { .. }));
        assert_eq!(error.to_string(), "the generator produced NaN (value 1 of 3)");
        assert!(!error.hint().is_empty());
    }
}
