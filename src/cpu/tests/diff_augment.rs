//! DiffAugment: properties that hold independently of its formulas.

use super::*;
use crate::cpu::diff_augment::{self, Change, Draws};
use crate::program::DiffAugment;

const SIDES: [usize; 2] = [16, 23];

fn changed(change: Change, shape: [usize; 3], x: &[f64]) -> Vec<f64> {
    let mut y = vec![f64::NAN; x.len()];
    change.apply(shape, x, &mut y);
    y
}

fn draws(changes: DiffAugment, count: u32) -> Vec<Change> {
    let drawn = |i: u32| Draws { changes, seed: 3, stream: 50, step: 1 + i / 100, first: 0, strength: 1.0 };
    (0..count).map(|i| Change::drawn(drawn(i), i % 100, SIDES)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation.
fn spread(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

#[test]
fn translation_and_cutout_of_a_3_by_4_image_give_the_expected_pixels() {
    let x: Vec<f64> = (1..=12).map(f64::from).collect();
    let shape = [3, 4, 1];
    let moved = Change { shift: [1, -2], ..Change::NONE };
    assert_eq!(changed(moved, shape, &x), [0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 7.0, 8.0, 0.0, 0.0]);
    let cut_out = Change { hole: [[-1, 2], [2, 4]], ..Change::NONE };
    assert_eq!(changed(cut_out, shape, &x), [1.0, 2.0, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0, 9.0, 10.0, 11.0, 12.0]);
    assert_eq!(changed(Change::NONE, shape, &x), x);
}

#[test]
fn brightness_saturation_and_contrast_change_means_and_deviations_as_defined() {
    let (shape, x) = ([4, 5, 3], noise(1, 60));
    let brighter = changed(Change { brightness: 0.25, ..Change::NONE }, shape, &x);
    assert!(x.iter().zip(&brighter).all(|(x, y)| (y - x - 0.25).abs() < 1e-12), "{brighter:?}");

    // The saturation scales the deviation of a pixel's channels and keeps their mean; with 0 the pixel is grey.
    let pixels = |values: &[f64]| values.chunks(3).map(|pixel| (mean(pixel), spread(pixel))).collect::<Vec<_>>();
    for saturation in [0.0, 2.0] {
        let y = changed(Change { saturation, ..Change::NONE }, shape, &x);
        for ((mean, spread), (new_mean, new_spread)) in pixels(&x).into_iter().zip(pixels(&y)) {
            assert!((mean - new_mean).abs() < 1e-12 && (saturation * spread - new_spread).abs() < 1e-12);
        }
    }
    let y = changed(Change { contrast: 0.5, ..Change::NONE }, shape, &x);
    assert!((mean(&x) - mean(&y)).abs() < 1e-12 && (spread(&x) / 2.0 - spread(&y)).abs() < 1e-12);
}

#[test]
fn combined_changes_apply_colour_before_translation_and_cutout() {
    let (shape, x) = ([6, 5, 3], noise(2, 90));
    let colour = Change { brightness: -0.3, saturation: 1.7, contrast: 0.6, ..Change::NONE };
    let position = Change { shift: [-1, 2], hole: [[2, -1], [5, 2]], ..Change::NONE };
    let sequential = changed(position, shape, &changed(colour, shape, &x));
    let combined = Change { shift: position.shift, hole: position.hole, ..colour };
    assert_close("y", &changed(combined, shape, &x), &sequential, 1e-12);
}

#[test]
fn translations_are_uniformly_distributed() {
    const DRAWS: usize = 21_000;
    let changes = DiffAugment { translation: true, ..DiffAugment::default() };
    let mut counts = [[0; 7]; 5];
    for change in draws(changes, DRAWS as u32) {
        let [down, right] = change.shift; // 16 / 8 and 23 / 8 rounded are 2 and 3
        counts[(down + 2) as usize][(right + 3) as usize] += 1;
        assert_eq!(Change { shift: [0; 2], ..change }, Change::NONE);
    }
    // The expected count is 600, with a standard deviation of 24.
    assert!(counts.as_flattened().iter().all(|count| (490..710).contains(count)), "{counts:?}");
}

#[test]
fn cutouts_have_half_the_sides_and_uniformly_distributed_centres() {
    let changes = DiffAugment { cutout: true, ..DiffAugment::default() };
    let mut centres = [[0_usize; 24]; 2];
    for change in draws(changes, 17_000) {
        let [first, end] = change.hole;
        assert_eq!([end[0] - first[0], end[1] - first[1]], [8, 12]);
        for (axis, centre) in [first[0] + 4, first[1] + 6].into_iter().enumerate() {
            centres[axis][centre as usize] += 1;
        }
        assert_eq!(Change { hole: [[0; 2]; 2], ..change }, Change::NONE);
    }
    // Half of 16 is even, so there are 17 centres, between pixels; half of 23, rounded up, is even too, with 24 centres.
    for (counts, positions) in centres.iter().zip([17, 24]) {
        let expected = 17_000 / positions;
        assert!(counts[..positions].iter().all(|count| count.abs_diff(expected) < 160), "{counts:?}");
        assert!(counts[positions..].iter().all(|&count| count == 0), "{counts:?}");
    }
}

#[test]
fn colour_changes_are_uniform_and_independent() {
    let changes = DiffAugment { colour: true, ..DiffAugment::default() };
    let all = draws(changes, 20_000);
    let parts = [
        all.iter().map(|change| change.brightness + 0.5).collect::<Vec<_>>(),
        all.iter().map(|change| change.saturation / 2.0).collect(),
        all.iter().map(|change| change.contrast - 0.5).collect(),
    ];
    for part in &parts {
        assert!(part.iter().all(|u| (0.0..1.0).contains(u)));
        assert!((mean(part) - 0.5).abs() < 0.009, "mean {}", mean(part)); // four standard errors
        assert!((spread(part) - 12.0_f64.sqrt().recip()).abs() < 0.005, "spread {}", spread(part));
    }
    for (one, other) in [(0, 1), (1, 2), (2, 0)] {
        let products = parts[one].iter().zip(&parts[other]).map(|(a, b)| (a - 0.5) * (b - 0.5));
        let covariance = mean(&products.collect::<Vec<_>>());
        assert!(covariance.abs() < 0.0025, "covariance {covariance}"); // four standard errors
    }
}

#[test]
fn changes_are_the_weaker_the_lower_the_strength_is() {
    let draw = |strength: f64| {
        let draws =
            |i: u32| Draws { changes: DiffAugment::ALL, seed: 3, stream: 50, step: 1 + i / 100, first: 0, strength };
        (0..1000).map(|i| Change::drawn(draws(i), i % 100, SIDES)).collect::<Vec<_>>()
    };
    for none in draw(0.0) {
        assert_eq!(Change { hole: [[0; 2]; 2], ..none }, Change::NONE);
        assert_eq!(none.hole[0], none.hole[1], "an empty rectangle");
    }
    let full = draw(1.0);
    for (strength, reach, length) in [(0.25, [1, 1], [2, 3]), (0.5, [1, 1], [4, 6]), (0.9, [2, 3], [7, 10])] {
        for (change, full) in draw(strength).into_iter().zip(&full) {
            for (some, all) in [
                (change.brightness, full.brightness),
                (change.saturation - 1.0, full.saturation - 1.0),
                (change.contrast - 1.0, full.contrast - 1.0),
            ] {
                assert!((some - strength * all).abs() < 1e-12, "{some} is not {strength} of {all}");
            }
            let [first, end] = change.hole;
            assert_eq!([end[0] - first[0], end[1] - first[1]], length, "{strength} of 8 and 11.5, rounded");
            assert!((0..2).all(|axis| change.shift[axis].abs() <= reach[axis]), "{strength} of 2 and 2.9, rounded");
        }
    }
}

#[test]
fn the_strength_rises_and_falls_with_the_share_of_recognised_images_and_stays_in_its_range() {
    for (share, before, after) in
        [(0.9, 0.5, 0.6), (0.7, 0.5, 0.4), (0.8, 0.5, 0.5), (0.9, 0.95, 1.0), (0.7, 0.05, 0.0), (f64::NAN, 0.5, 0.5)]
    {
        let mut strength: f64 = before;
        diff_augment::adapt(share, 0.8, 0.1, &mut strength);
        assert!((strength - after).abs() < 1e-12, "{share}, {before}: {strength}");
    }
}

#[test]
fn each_image_step_seed_and_stream_draws_its_own_changes_and_repeats_them() {
    let draw = |seed, stream, step| {
        let draws = Draws { changes: DiffAugment::ALL, seed, stream, step, first: 0, strength: 1.0 };
        (0..50).map(|i| Change::drawn(draws, i, SIDES).saturation).collect::<Vec<_>>()
    };
    let mut all = [draw(1, 50, 1), draw(1, 50, 2), draw(2, 50, 1), draw(1, 51, 1), draw(1 << 40, 50, 1)].concat();
    all.sort_by(f64::total_cmp);
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "two images have the same saturation");
    assert_eq!(draw(1, 50, 1), draw(1, 50, 1));
}
