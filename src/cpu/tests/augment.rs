//! Augmentation: properties that hold independently of its formulas.

use super::*;
use crate::cpu::augment::{AugmentSettings, Transform, between, forward};

const ROTATE: AugmentSettings = AugmentSettings { rotate: 20.0, flip: false, quarter_turns: false };
const IDENTITY: Transform = Transform { angle: 0.0, mirrored: false, quarters: 0 };

fn transform(turn: Transform, shape: [usize; 3], x: &[f64]) -> Vec<f64> {
    let mut y = vec![f64::NAN; x.len()];
    turn.apply(shape, x, &mut y);
    y
}

/// A batch in f32, augmented with the random numbers of step 7 and seed 3.
fn augmented(settings: AugmentSettings, shape: [usize; 4], x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len()];
    forward(3, 7, settings, 0, shape, x, &mut y);
    y
}

fn noise_in_f32(len: usize) -> Vec<f32> {
    noise(1, len).into_iter().map(|value| value as f32).collect()
}

#[test]
fn quarter_turns_and_mirroring_of_a_3_by_3_image_give_the_expected_pixels() {
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    for (mirrored, quarters, expected) in [
        (false, 0, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
        (false, 1, [3.0, 6.0, 9.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0]),
        (false, 2, [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]),
        (false, 3, [7.0, 4.0, 1.0, 8.0, 5.0, 2.0, 9.0, 6.0, 3.0]),
        (true, 0, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0]),
        (true, 1, [1.0, 4.0, 7.0, 2.0, 5.0, 8.0, 3.0, 6.0, 9.0]),
    ] {
        assert_eq!(
            transform(Transform { mirrored, quarters, ..IDENTITY }, [3, 3, 1], &x),
            expected,
            "{mirrored} {quarters}"
        );
    }
    assert_eq!(transform(Transform { mirrored: true, ..IDENTITY }, [1, 2, 3], &x[..6]), [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
}

#[test]
fn rotating_by_multiples_of_90_degrees_equals_quarter_turns() {
    let x = noise(1, 9 * 9 * 2);
    for quarters in 1..4 {
        let angle = f64::from(quarters) / 4.0;
        let expected = transform(Transform { quarters, ..IDENTITY }, [9, 9, 2], &x);
        assert_close("rotated", &transform(Transform { angle, ..IDENTITY }, [9, 9, 2], &x), &expected, 1e-13);
    }
}

#[test]
fn a_rotation_by_0_degrees_keeps_all_bits() {
    for shape in [[5, 4, 7, 3], [2, 8, 8, 1], [3, 1, 5, 2], [1, 1, 1, 1]] {
        let x = noise_in_f32(shape.iter().product());
        let same = augmented(AugmentSettings { rotate: 0.0, ..ROTATE }, shape, &x);
        assert_eq!(
            same.iter().map(|y| y.to_bits()).collect::<Vec<_>>(),
            x.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
    }
}

#[test]
fn quarter_turns_mirroring_and_angles_are_uniformly_distributed() {
    const DRAWS: u32 = 16_000;
    let settings = AugmentSettings { rotate: 20.0, flip: true, quarter_turns: true };
    let mut counts = [[0; 2]; 4];
    let mut angles = Vec::new();
    for i in 0..DRAWS {
        let turn = Transform::drawn(3, 1 + i / 100, i % 100, settings);
        counts[turn.quarters as usize][usize::from(turn.mirrored)] += 1;
        angles.push(360.0 * turn.angle);
    }
    // The expected count is 2000, with a standard deviation of 42.
    assert!(counts.as_flattened().iter().all(|count| (1830..2170).contains(count)), "{counts:?}");
    let n = f64::from(DRAWS);
    let (mean, square) = (angles.iter().sum::<f64>() / n, angles.iter().map(|angle| angle * angle).sum::<f64>() / n);
    let largest = angles.iter().fold(0.0_f64, |largest, angle| largest.max(angle.abs()));
    assert!(mean.abs() < 0.4, "mean angle {mean}"); // four standard errors
    assert!((square - 400.0 / 3.0).abs() < 4.0, "mean squared angle {square}");
    assert!(largest <= 20.0 && largest > 19.9, "largest angle {largest}");
}

#[test]
fn transforms_that_are_off_are_not_drawn() {
    for i in 0..100 {
        let turn = Transform::drawn(3, 1, i, ROTATE);
        assert!(!turn.mirrored && turn.quarters == 0 && turn.angle != 0.0);
        let turn = Transform::drawn(3, 1, i, AugmentSettings { rotate: 0.0, flip: true, quarter_turns: false });
        assert!(turn.angle == 0.0 && turn.quarters == 0);
    }
}

#[test]
fn each_image_step_and_seed_draws_its_own_angle_and_repeats_it() {
    let draws = |seed, step| (0..50).map(|i| Transform::drawn(seed, step, i, ROTATE).angle).collect::<Vec<_>>();
    let mut all = [draws(1, 1), draws(1, 2), draws(2, 1), draws(1 << 40, 1)].concat();
    all.sort_by(f64::total_cmp);
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "two images have the same angle");
    assert_eq!(draws(1, 1), draws(1, 1));
}

#[test]
fn a_centred_disc_is_invariant_under_rotation() {
    const SIZE: usize = 33;
    let distance = |at: usize| ((at / SIZE) as f64 - 16.0).hypot((at % SIZE) as f64 - 16.0);
    // The edge is soft, so that linear interpolation changes it little.
    let x: Vec<f64> = (0..SIZE * SIZE).map(|at| ((9.0 - distance(at)) / 4.0).clamp(-1.0, 1.0)).collect();
    for angle in [0.01, 0.1, 0.125, 0.3, -0.49] {
        let y = transform(Transform { angle, mirrored: true, quarters: 3 }, [SIZE, SIZE, 1], &x);
        // The corners are excluded: they show the reflected image.
        for (at, (x, y)) in x.iter().zip(&y).enumerate().filter(|(at, _)| distance(*at) <= 16.0) {
            assert!((x - y).abs() < 0.06, "rotated by {angle} turns, {x} becomes {y} at {at}");
        }
    }
}

#[test]
fn a_dot_moves_counter_clockwise_by_the_angle() {
    const SIZE: usize = 31;
    // The dot is six pixels right of the centre, so its reflection stays outside the image. A positive angle moves it up.
    let mut x = vec![0.0; SIZE * SIZE];
    x[15 * SIZE + 21] = 1.0;
    for degrees in [-170.0_f64, -90.0, -30.0, 30.0, 45.0, 120.0, 179.0] {
        let y = transform(Transform { angle: degrees / 360.0, ..IDENTITY }, [SIZE, SIZE, 1], &x);
        let total: f64 = y.iter().sum();
        let centre = |coordinate: fn(usize) -> usize| {
            y.iter().enumerate().map(|(at, y)| y * coordinate(at) as f64).sum::<f64>() / total
        };
        let (row, column) = (centre(|at| at / SIZE), centre(|at| at % SIZE));
        let (up, right) = degrees.to_radians().sin_cos();
        let (row_error, column_error) = (row - (15.0 - 6.0 * up), column - (15.0 + 6.0 * right));
        assert!(row_error.hypot(column_error) < 0.4, "{degrees} degrees: the dot is at {row}, {column}");
        assert!((total - 1.0).abs() < 0.3, "{degrees} degrees: the sum of the dot is {total}, not 1");
    }
}

#[test]
fn corners_are_filled_by_reflection_at_the_edges() {
    // A ramp along the columns, rotated by 45 degrees. Beyond the edges at -1/2 and 8 1/2 it is reflected.
    const SIZE: usize = 9;
    let x: Vec<f64> = (0..SIZE * SIZE).map(|at| (at % SIZE) as f64).collect();
    let y = transform(Transform { angle: 0.125, ..IDENTITY }, [SIZE, SIZE, 1], &x);
    for (at, y) in y.iter().enumerate() {
        let (down, right) = ((at / SIZE) as f64 - 4.0, (at % SIZE) as f64 - 4.0);
        let place = 4.0 + (right - down) * 0.5_f64.sqrt();
        // Within half a pixel of the edge the ramp is constant: the outermost pixel and its reflection are equal.
        let unbounded = if place < -0.5 {
            -1.0 - place
        } else if place > 8.5 {
            17.0 - place
        } else {
            place
        };
        assert!((y - unbounded.clamp(0.0, 8.0)).abs() < 1e-12, "{y} instead of {unbounded} at {at}");
    }
    // An image of one row repeats that row at any distance outside.
    let row: Vec<f64> = (0..100).map(f64::from).collect();
    let y = transform(Transform { angle: 0.25, ..IDENTITY }, [1, 100, 1], &row);
    assert!(y.iter().all(|y| (y - 49.5).abs() < 1e-9), "{y:?}");
}

#[test]
fn values_never_leave_the_range_of_their_image() {
    let settings = AugmentSettings { rotate: 180.0, flip: true, quarter_turns: false };
    for (shape, scale) in [([200, 7, 5, 1], 1.0), ([200, 3, 3, 2], 1e-3), ([50, 9, 14, 1], 1e6)] {
        let x: Vec<f32> = noise_in_f32(shape.iter().product()).iter().map(|x| x * scale).collect();
        let y = augmented(settings, shape, &x);
        let len = shape[1..].iter().product();
        for (x, y) in x.chunks(len).zip(y.chunks(len)) {
            let (low, high) = x.iter().fold((f32::MAX, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
            assert!(y.iter().all(|y| (low..=high).contains(y)), "{y:?} is not within {low} to {high}");
        }
        assert!(x != y);
    }
}

#[test]
fn interpolated_values_lie_between_both_values_despite_rounding() {
    for pair in noise_in_f32(20_000).windows(2) {
        let (a, b) = (pair[0], pair[1]);
        for f in [0.0, f32::MIN_POSITIVE, 0.3, 1.0_f32.next_down(), 1.0] {
            assert!((a.min(b)..=a.max(b)).contains(&between(a, b, f)), "{a} to {b} at {f}");
        }
        assert!(between(a, b, 0.0).to_bits() == a.to_bits() && between(a, a, 0.7).to_bits() == a.to_bits());
    }
    assert!(between(f32::NAN, 1.0, 0.5).is_nan() && between(1.0, f32::NAN, 0.5).is_nan());
}

#[test]
fn f32_interpolation_agrees_with_f64() {
    let shape = [20, 13, 17, 3];
    let x = noise(5, shape.iter().product());
    let mut y = vec![f64::NAN; x.len()];
    forward(3, 7, ROTATE, 0, shape, &x, &mut y);
    let rounded: Vec<f32> = x.iter().map(|&x| x as f32).collect();
    let got: Vec<f64> = augmented(ROTATE, shape, &rounded).into_iter().map(f64::from).collect();
    assert_close("y", &got, &y, 1e-6);
}
