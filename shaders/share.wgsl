// share.wgsl: weight of the newest parameters in their EMA. Compiled into adam.wgsl and ema.wgsl.
//
//   share_of_new(t) = 1 - d = max(1 - DECAY, 1 - ramp(t))    with t the step, and
//   1 - ramp(t)    = 10 / (t + 10)    or by half-life 1 - 0.5^(1 / (0.05 * (t - 1))), which is 1 in the first step
//
// Twin      src/cpu/ema.rs

// 1 - the decay of the EMA per step, rounded from f64.
override ONE_MINUS_DECAY: f32 = 1.0;
// Whether young steps ramp up by half-life, instead of by 10 / (t + 10).
override BY_HALF_LIFE: bool = false;

// 1 - exp(-x): by its power series where x is small, since the subtraction would lose most digits there.
fn one_minus_exp_minus(x: f32) -> f32 {
    if x > 0.5 {
        return 1.0 - exp(-x);
    }
    var sum = 1.0;
    for (var n = 9.0; n > 1.5; n -= 1.0) {
        sum = 1.0 - x / n * sum;
    }
    return x * sum;
}

fn share_of_new(t: u32) -> f32 {
    if !BY_HALF_LIFE {
        return max(ONE_MINUS_DECAY, 10.0 / (f32(t) + 10.0));
    }
    if t <= 1u {
        return 1.0;
    }
    return max(ONE_MINUS_DECAY, one_minus_exp_minus(0.6931471805599453 / (0.05 * f32(t - 1u))));
}
