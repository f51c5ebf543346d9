//! Latents: the points that a generator makes images of, and ways from one to another.

use crate::program::random::{normal, stream};

/// The latent of a seed: standard normal numbers that depend on nothing else.
pub fn latent(seed: u64, size: usize) -> Vec<f32> {
    (0..size as u32).map(|index| normal(seed, stream::SAMPLE, 0, index) as f32).collect()
}

/// The point at `t`, 0 to 1, of the way from `p` to `q` along an arc: the direction turns evenly (Shoemake 1985), and the
/// length goes evenly from that of `p` to that of `q`. At 0 and 1 it is exactly `p` and `q`.
///
/// Nearly all normal latents have a length close to the root of their size. A straight way passes through shorter ones,
/// which a generator has never seen; an arc does not (White 2016, "Sampling generative networks").
pub fn slerp(p: &[f32], q: &[f32], t: f64) -> Vec<f32> {
    assert_eq!(p.len(), q.len(), "latents of one model");
    if t <= 0.0 || t >= 1.0 || p == q {
        return if t < 1.0 { p } else { q }.to_vec();
    }
    let (from, to) = (unit(p), unit(q));
    let cosine = dot(&from, &to).clamp(-1.0, 1.0);
    // Part of `to` across `from`: with it, they span the plane of the arc. Opposite points have no plane of their own, so
    // any will do; those in one direction need none.
    let mut across = combine(1.0, &to, -cosine, &from);
    if length(&across) < 1e-6 {
        across = any_across(&from);
    }
    let across = unit_of(across);
    let angle = t * cosine.acos();
    let direction = combine(angle.cos(), &from, angle.sin(), &across);
    let long = (1.0 - t) * norm(p) + t * norm(q);
    direction.iter().map(|x| (x * long) as f32).collect()
}

/// From each latent to the next along arcs, and from the last back to the first: `steps` points for each way, the first
/// of them the latent itself.
pub fn loop_through(latents: &[Vec<f32>], steps: usize) -> Vec<Vec<f32>> {
    let ways = latents.iter().zip(latents.iter().cycle().skip(1));
    ways.flat_map(|(p, q)| (0..steps).map(move |step| slerp(p, q, step as f64 / steps as f64))).collect()
}

/// A direction at a right angle to `direction`, made from the axis that it has least of.
fn any_across(direction: &[f64]) -> Vec<f64> {
    let least = (0..direction.len()).min_by(|&a, &b| direction[a].abs().total_cmp(&direction[b].abs())).unwrap_or(0);
    let mut across: Vec<f64> = direction.iter().map(|x| -direction[least] * x).collect();
    across[least] += 1.0;
    across
}

fn unit(p: &[f32]) -> Vec<f64> {
    unit_of(p.iter().map(|&x| f64::from(x)).collect())
}

/// The origin has no direction, and stays where it is.
fn unit_of(p: Vec<f64>) -> Vec<f64> {
    let long = length(&p);
    if long > 0.0 { p.iter().map(|x| x / long).collect() } else { p }
}

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
    fn the_ends_are_exact() {
        let (p, q) = (latent(3, 64), latent(7, 64));
        assert_eq!(slerp(&p, &q, 0.0), p);
        assert_eq!(slerp(&p, &q, 1.0), q);
        let inward = slerp(&p, &q, 1.0 - 1e-9);
        assert!(inward.iter().zip(&q).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn direction_and_length_change_evenly() {
        let (p, q) = (latent(3, 64), latent(7, 64));
        let (whole, from, to) = (angle(&p, &q), norm(&p), norm(&q));
        for t in [0.1, 0.25, 0.5, 0.9] {
            let point = slerp(&p, &q, t);
            assert_near(angle(&p, &point), t * whole);
            assert_near(angle(&point, &q), (1.0 - t) * whole);
            assert_near(norm(&point), from + t * (to - from));
        }
        // Shoemake's formula, for two of one length.
        let scaled: Vec<f32> = q.iter().map(|x| (f64::from(*x) * from / to) as f32).collect();
        let formula =
            |p: f32, q: f32| ((0.7 * whole).sin() * f64::from(p) + (0.3 * whole).sin() * f64::from(q)) / whole.sin();
        let point = slerp(&p, &scaled, 0.3);
        for ((&p, &q), &x) in p.iter().zip(&scaled).zip(&point) {
            assert_near(f64::from(x), formula(p, q));
        }
    }

    #[test]
    fn from_a_point_to_itself_is_no_way() {
        let p = latent(3, 64);
        assert_eq!(slerp(&p, &p, 0.3), p);
        // In one direction, only the length changes.
        let twice: Vec<f32> = p.iter().map(|x| 2.0 * x).collect();
        for (x, &p) in slerp(&p, &twice, 0.5).into_iter().zip(&p) {
            assert_near(x.into(), 1.5 * f64::from(p));
        }
    }

    #[test]
    fn opposite_points_are_joined_around_the_origin() {
        let p = latent(3, 64);
        let opposite: Vec<f32> = p.iter().map(|x| -x).collect();
        for t in [0.25, 0.5, 0.75] {
            let point = slerp(&p, &opposite, t);
            assert_near(norm(&point), norm(&p));
            assert_near(angle(&p, &point), t * std::f64::consts::PI);
        }
    }

    #[test]
    fn small_and_empty_latents_are_no_trouble() {
        assert!(slerp(&[1.0], &[-1.0], 0.5).iter().all(|x| x.is_finite()));
        assert_eq!(slerp(&[0.0, 0.0], &[0.0, 2.0], 0.5).len(), 2);
        assert!(slerp(&[0.0, 0.0], &[0.0, 2.0], 0.5).iter().all(|x| x.is_finite()));
    }

    #[test]
    fn a_loop_begins_each_way_with_its_latent_and_leads_back() {
        let latents = [3, 7, 12].map(|seed| latent(seed, 8));
        let way = loop_through(&latents, 10);
        assert_eq!(way.len(), 30);
        assert_eq!([&way[0], &way[10], &way[20]], [&latents[0], &latents[1], &latents[2]]);
        assert_near(angle(&way[29], &way[0]), angle(&latents[2], &latents[0]) / 10.0);
    }
}
