//! Latents, the inputs of a generator, and spherical interpolation between them.

use crate::program::random::{normal, stream};

/// The latent of a seed: `size` standard normal numbers, which depend on the seed alone.
pub fn latent(seed: u64, size: usize) -> Vec<f32> {
    candidate_latent(seed, 0, size)
}

/// The latent of a candidate of a seed, in rejection sampling. Candidate 0 is the latent of the seed.
pub fn candidate_latent(seed: u64, number: u32, size: usize) -> Vec<f32> {
    (0..size as u32).map(|index| normal(seed, stream::SAMPLE, number, index) as f32).collect()
}

/// A latent times a factor (truncation). At a factor of 1 it has the same bits.
pub fn scaled_latent(mut latent: Vec<f32>, factor: f64) -> Vec<f32> {
    for value in &mut latent {
        *value = (f64::from(*value) * factor) as f32;
    }
    latent
}

/// Spherical linear interpolation between two latents (Shoemake 1985), with `t` from 0 to 1. The direction rotates at a constant rate,
/// and the norm is interpolated linearly. The result is exactly `p` at 0 and `q` at 1.
///
/// The norm of nearly all normal latents is close to the square root of their size. Linear interpolation passes through latents of
/// smaller norm, which a generator is not trained on (White 2016, "Sampling generative networks").
///
/// # Panics
///
/// If `p` and `q` have different sizes.
pub fn slerp(p: &[f32], q: &[f32], t: f64) -> Vec<f32> {
    assert_eq!(p.len(), q.len(), "latents of one size");
    if t <= 0.0 || t >= 1.0 || p == q {
        return if t < 1.0 { p } else { q }.to_vec();
    }
    let (from, to) = (unit(p), unit(q));
    let cosine = dot(&from, &to).clamp(-1.0, 1.0);
    // The component of `to` that is orthogonal to `from`. It vanishes for parallel vectors. Then any orthogonal direction serves: opposite
    // latents have no plane of their own, and the angle between equal directions is 0.
    let mut orthogonal = combine(1.0, &to, -cosine, &from);
    if length(&orthogonal) < 1e-6 {
        orthogonal = any_orthogonal(&from);
    }
    let orthogonal = normalised(orthogonal);
    let angle = t * cosine.acos();
    let direction = combine(angle.cos(), &from, angle.sin(), &orthogonal);
    let norm = (1.0 - t) * norm(p) + t * norm(q);
    direction.iter().map(|x| (x * norm) as f32).collect()
}

/// A closed path through latents: interpolates from each latent to the next, and from the last back to the first. Each segment has
/// `steps` points, beginning with the latent itself.
pub fn loop_through(latents: &[Vec<f32>], steps: usize) -> Vec<Vec<f32>> {
    let segments = latents.iter().zip(latents.iter().cycle().skip(1));
    segments.flat_map(|(p, q)| (0..steps).map(move |step| slerp(p, q, step as f64 / steps as f64))).collect()
}

/// A vector that is orthogonal to `direction`: the axis along which `direction` is smallest, made orthogonal to it.
fn any_orthogonal(direction: &[f64]) -> Vec<f64> {
    let least = (0..direction.len()).min_by(|&a, &b| direction[a].abs().total_cmp(&direction[b].abs())).unwrap_or(0);
    let mut across: Vec<f64> = direction.iter().map(|x| -direction[least] * x).collect();
    across[least] += 1.0;
    across
}

/// A vector scaled to norm 1.
fn unit(p: &[f32]) -> Vec<f64> {
    normalised(p.iter().map(|&x| f64::from(x)).collect())
}

/// A vector scaled to norm 1. The zero vector has no direction and is returned unchanged.
fn normalised(p: Vec<f64>) -> Vec<f64> {
    let length = length(&p);
    if length > 0.0 { p.iter().map(|x| x / length).collect() } else { p }
}

/// `a p + b q`.
fn combine(a: f64, p: &[f64], b: f64, q: &[f64]) -> Vec<f64> {
    p.iter().zip(q).map(|(p, q)| a * p + b * q).collect()
}

fn dot(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p * q).sum()
}

fn length(p: &[f64]) -> f64 {
    dot(p, p).sqrt()
}

fn norm(p: &[f32]) -> f64 {
    p.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn angle(p: &[f32], q: &[f32]) -> f64 {
        dot(&unit(p), &unit(q)).clamp(-1.0, 1.0).acos()
    }

    #[track_caller]
    fn assert_near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-5, "{got} instead of {want}");
    }

    #[test]
    fn the_candidates_of_a_seed_begin_with_its_latent_and_are_independent() {
        let candidates: Vec<Vec<f32>> = (0..4).map(|number| candidate_latent(7, number, 1000)).collect();
        assert_eq!(candidates[0], latent(7, 1000));
        for (number, one) in candidates.iter().enumerate() {
            for other in candidates.iter().skip(number + 1).chain([&latent(8, 1000)]) {
                // Four standard deviations of the correlation of 1000 independent pairs.
                let correlation = dot(&unit(one), &unit(other));
                assert!(correlation.abs() < 4.0 / 1000_f64.sqrt(), "candidate {number}: {correlation}");
            }
        }
    }

    #[test]
    fn every_value_of_a_latent_is_multiplied_and_a_factor_of_one_keeps_its_bits() {
        let latent = vec![0.1, -2.5, 1e-30];
        assert_eq!(scaled_latent(latent.clone(), 1.0), latent);
        assert_eq!(scaled_latent(latent.clone(), 0.5), [0.05, -1.25, 5e-31]);
        assert_eq!(scaled_latent(latent, 0.0), [0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_ends_are_exact() {
        let (p, q) = (latent(3, 64), latent(7, 64));
        assert_eq!(slerp(&p, &q, 0.0), p);
        assert_eq!(slerp(&p, &q, 1.0), q);
        let inward = slerp(&p, &q, 1.0 - 1e-9);
        assert!(inward.iter().zip(&q).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn direction_and_norm_change_at_constant_rates() {
        let (p, q) = (latent(3, 64), latent(7, 64));
        let (whole, from, to) = (angle(&p, &q), norm(&p), norm(&q));
        for t in [0.1, 0.25, 0.5, 0.9] {
            let point = slerp(&p, &q, t);
            assert_near(angle(&p, &point), t * whole);
            assert_near(angle(&point, &q), (1.0 - t) * whole);
            assert_near(norm(&point), from + t * (to - from));
        }
        // Shoemake's formula, for latents of equal norm.
        let scaled: Vec<f32> = q.iter().map(|x| (f64::from(*x) * from / to) as f32).collect();
        let formula =
            |p: f32, q: f32| ((0.7 * whole).sin() * f64::from(p) + (0.3 * whole).sin() * f64::from(q)) / whole.sin();
        let point = slerp(&p, &scaled, 0.3);
        for ((&p, &q), &x) in p.iter().zip(&scaled).zip(&point) {
            assert_near(f64::from(x), formula(p, q));
        }
    }

    #[test]
    fn equal_latents_and_equal_directions_are_interpolated() {
        let p = latent(3, 64);
        assert_eq!(slerp(&p, &p, 0.3), p);
        // Between equal directions, only the norm changes.
        let twice: Vec<f32> = p.iter().map(|x| 2.0 * x).collect();
        for (x, &p) in slerp(&p, &twice, 0.5).into_iter().zip(&p) {
            assert_near(x.into(), 1.5 * f64::from(p));
        }
    }

    #[test]
    fn opposite_latents_are_interpolated_around_the_origin() {
        let p = latent(3, 64);
        let opposite: Vec<f32> = p.iter().map(|x| -x).collect();
        for t in [0.25, 0.5, 0.75] {
            let point = slerp(&p, &opposite, t);
            assert_near(norm(&point), norm(&p));
            assert_near(angle(&p, &point), t * std::f64::consts::PI);
        }
    }

    #[test]
    fn short_and_zero_latents_give_finite_points() {
        assert!(slerp(&[1.0], &[-1.0], 0.5).iter().all(|x| x.is_finite()));
        assert_eq!(slerp(&[0.0, 0.0], &[0.0, 2.0], 0.5).len(), 2);
        assert!(slerp(&[0.0, 0.0], &[0.0, 2.0], 0.5).iter().all(|x| x.is_finite()));
    }

    #[test]
    fn a_closed_path_visits_each_latent_and_returns_to_the_first() {
        let latents = [3, 7, 12].map(|seed| latent(seed, 8));
        let path = loop_through(&latents, 10);
        assert_eq!(path.len(), 30);
        assert_eq!([&path[0], &path[10], &path[20]], [&latents[0], &latents[1], &latents[2]]);
        assert_near(angle(&path[29], &path[0]), angle(&latents[2], &latents[0]) / 10.0);
    }
}
