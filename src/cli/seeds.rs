//! `--seeds`: which images.

use crate::error::{Error, Result};

/// The seeds of a list such as `0-63,100`, in that order; more than `most` are refused.
pub(super) fn parse_seeds(text: &str, most: u64) -> Result<Vec<u64>> {
    let wrong = |what: String| Error::Request {
        message: format!("--seeds {text}: {what}"),
        hint: "write seeds and ranges with commas between, such as 0-63,100".into(),
    };
    let number = |word: &str| {
        let word = word.trim();
        word.parse::<u64>().map_err(|_| wrong(format!("`{word}` is not a seed, a whole number from 0 to {}", u64::MAX)))
    };
    let mut seeds = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(wrong(format!("{first}-{last} runs backwards")));
        }
        if last - first >= most - seeds.len() as u64 {
            return Err(wrong(format!("more than {most} images")));
        }
        seeds.extend(first..=last);
    }
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(text: &str) -> Result<Vec<u64>> {
        parse_seeds(text, 1_000_000)
    }

    #[test]
    fn seeds_are_numbers_and_ranges_in_the_order_given() {
        assert_eq!(seeds("7").unwrap(), [7]);
        assert_eq!(seeds("0-3, 100,2").unwrap(), [0, 1, 2, 3, 100, 2]);
        assert_eq!(seeds(&u64::MAX.to_string()).unwrap(), [u64::MAX]);
    }

    #[test]
    fn nonsense_and_floods_of_seeds_are_refused() {
        for text in ["", ",", "a", "-1", "3-1", "1-", "1.5", "0-1000000", "0-18446744073709551615", "0-999999,5"] {
            let error = seeds(text).unwrap_err();
            assert!(error.to_string().starts_with("--seeds") && !error.hint().is_empty(), "{text}: {error}");
        }
        assert_eq!(seeds("0-999999").unwrap().len(), 1_000_000);
    }
}
