//! Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
//!
//! A number is a function of seed, stream, step and position. So every device draws the same integers in any order, nothing is
//! stored, and a run resumes from its step number alone. The twin is `shaders/random.wgsl`.

/// The independent random streams of a run. Each has one purpose.
pub mod stream {
    /// The order of the images.
    pub const SHUFFLE: u32 = 0;
    /// The latents of a training step.
    pub const LATENTS: u32 = 1;
    /// The latent of a sample that is requested by its seed.
    pub const SAMPLE: u32 = 2;
    /// Rotations and mirrorings of the real images of a training step.
    pub const AUGMENT: u32 = 3;
    /// Positions between real and generated images, for a gradient penalty.
    pub const MIX: u32 = 4;
    /// The class of a sample that is requested by its seed.
    pub const CLASS: u32 = 5;
    /// Whether rejection sampling accepts a candidate for a sample that is requested by its seed.
    pub const ACCEPT: u32 = 6;
    /// DiffAugment; the n-th in a step and its gradient use `DIFF_AUGMENT + n`.
    pub const DIFF_AUGMENT: u32 = 50;
    /// The digits of an image of the data set `stacked-mnist`, which has a seed of its own.
    pub const STACK: u32 = 60;
    /// The initial parameters; the n-th tensor uses `INITIAL + n`.
    pub const INITIAL: u32 = 100;
    /// The initial singular vectors of spectral normalisation; the n-th running statistic uses `SPECTRAL + n`.
    pub const SPECTRAL: u32 = 500_000;
    /// Dropout; the n-th of a program and its gradient use `DROPOUT + n`.
    pub const DROPOUT: u32 = 1_000_000;
}

/// The number of rounds of [`philox`].
pub(crate) const ROUNDS: usize = 10;
/// The multipliers of the first and of the third word in [`philox`].
pub(crate) const FACTORS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];

/// Four random words: Philox 4x32 with ten rounds.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let a = u64::from(counter[0]) * u64::from(FACTORS[0]);
        let b = u64::from(counter[2]) * u64::from(FACTORS[1]);
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = next_key(key);
    }
    counter
}

/// The key of the next round of [`philox`].
#[inline]
pub(crate) fn next_key(key: [u32; 2]) -> [u32; 2] {
    [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)]
}

/// A seed as the key of [`philox`]: low word, high word.
pub fn key(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

/// Element `index` of a step's standard normal numbers in a stream (Box and Muller 1958, on pairs of [`uniform`] numbers).
pub fn normal(seed: u64, stream: u32, step: u32, index: u32) -> f64 {
    let words = philox([index / 4, step, stream, 0], key(seed));
    let pair = (index % 4 / 2 * 2) as usize;
    let radius = (-2.0 * uniform(words[pair]).ln()).sqrt();
    // Angles in [-pi, pi): WGSL promises nothing of sin and cos outside.
    let angle = std::f64::consts::TAU * (uniform(words[pair + 1]) - 0.5);
    radius * if index.is_multiple_of(2) { angle.cos() } else { angle.sin() }
}

/// Element `index` of a step's uniformly distributed numbers in (0, 1) in a stream.
pub fn uniform_at(seed: u64, stream: u32, step: u32, index: u32) -> f64 {
    uniform(philox([index / 4, step, stream, 0], key(seed))[index as usize % 4])
}

/// Whether dropout keeps the element with this random word, at the rate of this [`dropout_threshold`]. It compares integers, so
/// every device keeps the same elements.
#[inline]
pub fn dropout_keeps(word: u32, threshold: u32) -> bool {
    word >> 9 >= threshold
}

/// A dropout rate in units of 2^-23, rounded.
pub fn dropout_threshold(rate: f64) -> u32 {
    (rate * f64::from(1 << 23)).round() as u32
}

/// A random word as a number in (0, 1): the middle of one of 2^23 equal intervals, exact in f32.
pub fn uniform(word: u32) -> f64 {
    (f64::from(word >> 9) + 0.5) / f64::from(1 << 23)
}

/// The index of the image that a run shows as number `g`: a permutation of `0..count` for each epoch.
///
/// The permutation is a Feistel network on the next power of four, applied until the value is below `count` (Black and
/// Rogaway 2002, "Ciphers with arbitrary finite domains"). Nothing is stored, and each index takes constant time on average.
pub fn shuffled(seed: u64, g: u32, count: u32) -> u32 {
    let (epoch, position) = (g / count, g % count);
    let keys = [0, 1].map(|block| philox([block, epoch, stream::SHUFFLE, 0], key(seed)));
    let half_bits = half_bits(count);
    let mask = (1 << half_bits) - 1;
    let mut value = position;
    loop {
        let (mut left, mut right) = (value >> half_bits, value & mask);
        for round in keys.as_flattened() {
            (left, right) = (right, left ^ (mix(right ^ round) & mask));
        }
        value = (left << half_bits) | right;
        if value < count {
            return value;
        }
    }
}

/// Half the bits of the smallest power of four that is at least `count`, and at least 1.
pub fn half_bits(count: u32) -> u32 {
    (u32::BITS - (count - 1).leading_zeros()).div_ceil(2).max(1)
}

/// The finaliser of MurmurHash3: each bit of the result depends on every bit of the word.
fn mix(mut word: u32) -> u32 {
    word = (word ^ (word >> 16)).wrapping_mul(0x85EB_CA6B);
    word = (word ^ (word >> 13)).wrapping_mul(0xC2B2_AE35);
    word ^ (word >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_known_answers() {
        // Random123, kat_vectors, philox4x32 with 10 rounds.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn normal_numbers_have_mean_zero_variance_one_and_normal_tails() {
        let values: Vec<f64> = (0..100_000).map(|i| normal(7, stream::LATENTS, 3, i)).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n;
        let beyond_two = values.iter().filter(|z| z.abs() > 2.0).count() as f64 / n;
        assert!(mean.abs() < 0.01, "mean {mean}"); // three standard errors
        assert!((variance - 1.0).abs() < 0.015, "variance {variance}");
        assert!((beyond_two - 0.0455).abs() < 0.002, "beyond two {beyond_two}");
    }

    #[test]
    fn uniform_numbers_fill_their_interval_evenly() {
        let values: Vec<f64> = (0..100_000).map(|i| uniform_at(7, stream::INITIAL, 0, i)).collect();
        for (low, high) in [(0.0, 0.1), (0.3, 0.5), (0.9, 1.0)] {
            let share = values.iter().filter(|u| (low..high).contains(*u)).count() as f64 / values.len() as f64;
            assert!((share - (high - low)).abs() < 0.005, "{share} lie between {low} and {high}"); // three standard errors
        }
        assert_eq!(values.iter().filter(|u| (0.0..1.0).contains(*u)).count(), values.len());
    }

    #[test]
    fn dropout_keeps_one_minus_the_rate_and_differs_between_streams_and_steps() {
        let draw = |stream, step, rate: f64| -> Vec<bool> {
            let words = (0..25_000).flat_map(|block| philox([block, step, stream, 0], key(7)));
            words.map(|word| dropout_keeps(word, dropout_threshold(rate))).collect()
        };
        for rate in [0.0, 0.25, 0.3, 0.5, 0.9] {
            let kept = draw(stream::DROPOUT, 1, rate);
            let share = kept.iter().filter(|&&kept| kept).count() as f64 / kept.len() as f64;
            assert!((share - (1.0 - rate)).abs() < 0.005, "rate {rate}: {share} are kept");
        }
        let first = draw(stream::DROPOUT, 1, 0.5);
        for other in [draw(stream::DROPOUT + 1, 1, 0.5), draw(stream::DROPOUT, 2, 0.5)] {
            let equal = first.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / first.len() as f64;
            assert!((equal - 0.5).abs() < 0.01, "a share of {equal} is equal");
        }
    }

    #[test]
    fn shuffling_shows_each_image_once_per_epoch_for_any_number_of_images() {
        for count in [1, 2, 3, 4, 5, 16, 17, 1000, 4096, 60_000] {
            for epoch in 0..2 {
                let mut seen = vec![false; count as usize];
                for position in 0..count {
                    let index = shuffled(42, epoch * count + position, count) as usize;
                    assert!(!seen[index], "{index} of {count} twice in epoch {epoch}");
                    seen[index] = true;
                }
            }
        }
    }

    #[test]
    fn shuffling_differs_between_epochs_and_seeds_and_leaves_few_images_in_their_place() {
        let order = |seed, epoch: u32| (0..1000).map(|i| shuffled(seed, epoch * 1000 + i, 1000)).collect::<Vec<_>>();
        for other in [order(1, 1), order(2, 0), (0..1000).collect()] {
            let equal = order(1, 0).iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(equal < 10, "{equal} of 1000 images at the same place"); // 1 is expected
        }
    }

    #[test]
    fn shuffling_separates_neighbours() {
        let order: Vec<i64> = (0..60_000).map(|i| i64::from(shuffled(5, i, 60_000))).collect();
        let mean_step = order.windows(2).map(|pair| (pair[0] - pair[1]).abs() as f64).sum::<f64>() / 59_999.0;
        assert!((mean_step - 20_000.0).abs() < 300.0, "mean distance {mean_step}"); // count / 3 for random order
    }
}
