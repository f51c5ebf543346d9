//! The argument `--seeds`: a list of seeds.

use std::str::FromStr;

/// The largest number of seeds in a list.
const MAX_SEEDS: u64 = 1_000_000;

/// The seeds of a list such as `0-63,100`, in its order. There are 1 to 1,000,000 seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedList(Vec<u64>);

impl SeedList {
    /// The seeds, in order.
    pub fn seeds(&self) -> &[u64] {
        &self.0
    }
}

impl FromStr for SeedList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: String| format!("{what}; write seeds and ranges with commas between them, such as 0-63,100");
        let number = |word: &str| {
            let word = word.trim();
            word.parse::<u64>().map_err(|_| wrong(format!("`{word}` is not a seed, an integer from 0 to {}", u64::MAX)))
        };
        let mut seeds = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(wrong(format!("the range {first}-{last} runs backwards")));
            }
            if last - first >= MAX_SEEDS - seeds.len() as u64 {
                return Err(wrong(format!("more than {MAX_SEEDS} seeds")));
            }
            seeds.extend(first..=last);
        }
        Ok(Self(seeds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(text: &str) -> Result<Vec<u64>, String> {
        text.parse().map(|SeedList(seeds)| seeds)
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
            assert!(error.ends_with("such as 0-63,100"), "{text}: {error}");
        }
        assert_eq!(seeds("0-999999").unwrap().len(), 1_000_000);
    }
}
