//! What DiffAugment does to images, against what can be said of it without its formulas.

use super::*;
use crate::cpu::diff_augment::{Change, Draws};
use crate::program::DiffAugment;

const SIDES: [usize; 2] = [16, 23];

fn changed(change: Change, shape: [usize; 3], x: &[f64]) -> Vec<f64> {
    let mut y = vec![f64::NAN; x.len()];
    change.apply(shape, x, &mut y);
    y
}

fn draws(changes: DiffAugment, count: u32) -> Vec<Change> {
    let drawn = |i: u32| Draws { changes, seed: 3, stream: 50, step: 1 + i / 100 };
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
fn an_image_written_down_is_moved_and_cut_out_as_it_should_be() {
    let x: Vec<f64> = (1..=12).map(f64::from).collect();
    let shape = [3, 4, 1];
    let moved = Change { shift: [1, -2], ..Change::NONE };
    assert_eq!(changed(moved, shape, &x), [0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 7.0, 8.0, 0.0, 0.0]);
    let cut_out = Change { hole: [[-1, 2], [2, 4]], ..Change::NONE };
    assert_eq!(changed(cut_out, shape, &x), [1.0, 2.0, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0, 9.0, 10.0, 11.0, 12.0]);
    assert_eq!(changed(Change::NONE, shape, &x), x);
}

#[test]
fn colours_change_as_their_names_say() {
    let (shape, x) = ([4, 5, 3], noise(1, 60));
    let brighter = changed(Change { brightness: 0.25, ..Change::NONE }, shape, &x);
    assert!(x.iter().zip(&brighter).all(|(x, y)| (y - x - 0.25).abs() < 1e-12), "{brighter:?}");

    // Without saturation a pixel is grey, as bright as it was, and twice of it spreads its channels twice as far.
    let pixels = |values: &[f64]| values.chunks(3).map(|pixel| (mean(pixel), spread(pixel))).collect::<Vec<_>>();
    for saturation in [0.0, 2.0] {
        let y = changed(Change { saturation, ..Change::NONE }, shape, &x);
        for ((mean, spread), (mean_then, spread_then)) in pixels(&x).into_iter().zip(pixels(&y)) {
            assert!((mean - mean_then).abs() < 1e-12 && (saturation * spread - spread_then).abs() < 1e-12);
        }
    }
    let y = changed(Change { contrast: 0.5, ..Change::NONE }, shape, &x);
    assert!((mean(&x) - mean(&y)).abs() < 1e-12 && (spread(&x) / 2.0 - spread(&y)).abs() < 1e-12);
}

#[test]
fn all_changes_together_are_first_those_of_colour_and_then_those_of_place() {
    let (shape, x) = ([6, 5, 3], noise(2, 90));
    let colour = Change { brightness: -0.3, saturation: 1.7, contrast: 0.6, ..Change::NONE };
    let place = Change { shift: [-1, 2], hole: [[2, -1], [5, 2]], ..Change::NONE };
    let one_after_the_other = changed(place, shape, &changed(colour, shape, &x));
    let together = Change { shift: place.shift, hole: place.hole, ..colour };
    assert_close("y", &changed(together, shape, &x), &one_after_the_other, 1e-12);
}

#[test]
fn every_place_that_an_image_may_be_moved_to_comes_as_often_as_the_others() {
    const DRAWS: usize = 21_000;
    let changes = DiffAugment { translation: true, ..DiffAugment::default() };
    let mut counts = [[0; 7]; 5];
    for change in draws(changes, DRAWS as u32) {
        let [down, right] = change.shift; // an eighth of 16 and of 23, rounded, are 2 and 3
        counts[(down + 2) as usize][(right + 3) as usize] += 1;
        assert_eq!(Change { shift: [0; 2], ..change }, Change::NONE);
    }
    // 600 of each are expected, with a deviation of 24.
    assert!(counts.as_flattened().iter().all(|count| (490..710).contains(count)), "{counts:?}");
}

#[test]
fn a_hole_has_half_the_sides_and_its_middle_is_anywhere() {
    let changes = DiffAugment { cutout: true, ..DiffAugment::default() };
    let mut middles = [[0_usize; 24]; 2];
    for change in draws(changes, 17_000) {
        let [first, end] = change.hole;
        assert_eq!([end[0] - first[0], end[1] - first[1]], [8, 12]);
        for (axis, middle) in [first[0] + 4, first[1] + 6].into_iter().enumerate() {
            middles[axis][middle as usize] += 1;
        }
        assert_eq!(Change { hole: [[0; 2]; 2], ..change }, Change::NONE);
    }
    // Where half the side is even, the middle lies between pixels: before the first to behind the last.
    for (counts, places) in middles.iter().zip([17, 24]) {
        let expected = 17_000 / places;
        assert!(counts[..places].iter().all(|count| count.abs_diff(expected) < 160), "{counts:?}");
        assert!(counts[places..].iter().all(|&count| count == 0), "{counts:?}");
    }
}

#[test]
fn colours_fill_their_ranges_evenly_and_independently() {
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
fn images_steps_seeds_and_streams_have_changes_of_their_own_and_the_same_ones_each_time() {
    let draw = |seed, stream, step| {
        let draws = Draws { changes: DiffAugment::ALL, seed, stream, step };
        (0..50).map(|i| Change::drawn(draws, i, SIDES).saturation).collect::<Vec<_>>()
    };
    let mut all = [draw(1, 50, 1), draw(1, 50, 2), draw(2, 50, 1), draw(1, 51, 1), draw(1 << 40, 50, 1)].concat();
    all.sort_by(f64::total_cmp);
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "two images are changed alike");
    assert_eq!(draw(1, 50, 1), draw(1, 50, 1));
}
