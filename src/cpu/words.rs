//! Many random words at a time: the words of [`random::philox`], computed with SIMD. Computed one block at a time, the words of a
//! dropout would take as long as a convolution.

use std::array;

use pulp::{Arch, Simd, WithSimd};

use crate::program::random;

/// The number of blocks of four words that are drawn at once: two of the longest SIMD vectors.
const LANES: usize = 32;

/// Fills `words` with the words of the blocks `first`, `first + 1`, ... of a step in a stream; the last block may be incomplete.
pub(super) fn fill(seed: u64, stream: u32, step: u32, first: u32, words: &mut [u32]) {
    Arch::new().dispatch(Fill { key: random::key(seed), stream, step, first, words });
}

/// The arguments of [`fill`], for `pulp` to compile the loop for each SIMD instruction set.
struct Fill<'a> {
    /// The seed as a key of Philox.
    key: [u32; 2],
    /// The random stream.
    stream: u32,
    /// The number of the step.
    step: u32,
    /// The index of the first block of four words.
    first: u32,
    /// The words to fill.
    words: &'a mut [u32],
}

impl WithSimd for Fill<'_> {
    type Output = ();

    // Compiled once for each SIMD instruction set; integers have the same bits with all of them.
    #[expect(clippy::inline_always, reason = "a separate function would not be compiled for the instruction set")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { key, stream, step, first, words } = self;
        for (part, words) in words.chunks_mut(4 * LANES).enumerate() {
            let block = array::from_fn(|lane| first.wrapping_add((part * LANES + lane) as u32));
            let [a, b, c, d] = philox([block, [step; LANES], [stream; LANES], [0; LANES]], key);
            let blocks: [_; LANES] = array::from_fn(|lane| [a[lane], b[lane], c[lane], d[lane]]);
            words.copy_from_slice(&blocks.as_flattened()[..words.len()]);
        }
    }
}

/// [`random::philox`] of counters that are stored word by word, in a loop over lanes that the compiler vectorises: five times as fast
/// with AVX2 as a chain of maps over arrays, which it vectorises for AVX-512 alone.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn philox(mut counters: [[u32; LANES]; 4], mut key: [u32; 2]) -> [[u32; LANES]; 4] {
    for _ in 0..random::ROUNDS {
        let mut next = [[0; LANES]; 4];
        for lane in 0..LANES {
            let a = u64::from(counters[0][lane]) * u64::from(random::FACTORS[0]);
            let b = u64::from(counters[2][lane]) * u64::from(random::FACTORS[1]);
            next[0][lane] = (b >> 32) as u32 ^ counters[1][lane] ^ key[0];
            next[1][lane] = b as u32;
            next[2][lane] = (a >> 32) as u32 ^ counters[3][lane] ^ key[1];
            next[3][lane] = a as u32;
        }
        counters = next;
        key = random::next_key(key);
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_equal_philox_at_any_start_and_length() {
        for first in [0, 1, 1000, u32::MAX - 3] {
            for len in [1, 4, 63, 64, 65, 300] {
                let mut words = vec![0; len];
                fill(0x1234_5678_9abc_def0, 1_000_007, 42, first, &mut words);
                for (i, &word) in words.iter().enumerate() {
                    let counter = [first.wrapping_add(i as u32 / 4), 42, 1_000_007, 0];
                    let expected = random::philox(counter, random::key(0x1234_5678_9abc_def0))[i % 4];
                    assert_eq!(word, expected, "word {i} of {len} from block {first}");
                }
            }
        }
    }
}
