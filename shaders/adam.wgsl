// adam.wgsl: one step of Adam (Kingma and Ba 2015, algorithm 1) on all parameters of a network. Compiled after random.wgsl, for
// `circle`, and share.wgsl.
//
//   update    m = m + (1-beta1) * (grad - m)    v = v + (1-beta2) * (grad^2 - v)
//             param -= LR * schedule(t) * m/(1-beta1^t) / (sqrt(v/(1-beta2^t)) + EPS)    with t the step
//             schedule(t) = min(1, t / WARM_UP) * d(p),  p = clamp((t - WARM_UP) / DECAYING_STEPS, 0, 1),  and
//             d(p) = 1, or 1 - (1 - LAST) * p, or 1 - (1 - LAST) * (1 - cos(pi * p)) / 2
//   update_with_ema   update, then that of ema.wgsl
//
//           Where a gradient still lies in partial sums (split-K), both first reduce them, in the order of conv.wgsl and bias.wgsl:
//             grad = sum of partials[s] over all splits s, in order
//
// Shapes    clock (1), u32    param, grad, m, v, ema (LEN)    waiting (WAITING)
//           partials (splits, len) of each gradient in `waiting`, from its own offset on
// Mapping   one invocation per element, in a grid-stride loop
// Twin      src/cpu/adam.rs

// Number of parameters.
override LEN: u32;
// Learning rate.
override LR: f32;
// 1 - beta1, rounded from f64: computed in f32 it would lose up to half of its digits.
override ONE_MINUS_BETA1: f32;
// 1 - beta2, rounded from f64 for the same reason.
override ONE_MINUS_BETA2: f32;
// Added to the denominator.
override EPS: f32;
// Steps of linear learning-rate warm-up; 0 for none.
override WARM_UP: u32;
// Shape of the decay after the warm-up: CONSTANT, LINEAR, or any other value for cosine.
override DECAY: u32;
// Steps from the end of the warm-up to the end of the decay.
override DECAYING_STEPS: u32;
// Share of the learning rate that is left at the end of the decay.
override LAST: f32;
// Number of gradients in `waiting`. The host bounds it, and the splits of each, so that no invocation's loops get long.
override WAITING: u32;

// Value of DECAY: no decay.
const CONSTANT = 0u;
// Value of DECAY: linear decay to LAST.
const LINEAR = 1u;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read_write> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> param: array<f32>;
@group(0) @binding(3) var<storage, read_write> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;
@group(0) @binding(5) var<storage, read_write> ema: array<f32>;
@group(0) @binding(6) var<storage, read> partials: array<f32>;
@group(0) @binding(7) var<storage, read> waiting: array<Waiting>;

// A gradient that still lies in partial sums.
struct Waiting {
    // Offset of the gradient in `grad`.
    first: u32,
    // Number of elements.
    len: u32,
    // Number of splits.
    splits: u32,
    // Offset of its first partial sum in `partials`.
    partials: u32,
}

// c(t) = 1 - beta^t by repeated squaring: c(2t) = c(t) * (2 - c(t)) and c(t+1) = c(t) + (1-beta) * (1 - c(t)). Unlike
// 1 - pow(beta, t), this keeps its digits when t is small and beta is near 1.
fn bias_correction(one_minus_beta: f32, t: u32) -> f32 {
    var c = 0.0;
    for (var bit = 32u - countLeadingZeros(t); bit > 0u; bit--) {
        c *= 2.0 - c;
        if ((t >> (bit - 1u)) & 1u) == 1u {
            c += one_minus_beta * (1.0 - c);
        }
    }
    return c;
}

fn schedule(t: u32) -> f32 {
    let warmth = select(1.0, f32(t) / f32(max(WARM_UP, 1u)), t < WARM_UP);
    let p = min(f32(max(t, WARM_UP) - WARM_UP) / f32(DECAYING_STEPS), 1.0);
    switch DECAY {
        case CONSTANT: { return warmth; }
        case LINEAR: { return warmth * (1.0 - (1.0 - LAST) * p); }
        default: {
            let s = circle(0.25 * p).y; // (1 - cos(pi * p)) / 2 = sin(pi * p / 2)^2
            return warmth * (1.0 - (1.0 - LAST) * s * s);
        }
    }
}

// An element of the gradient; reduces its partial sums first if it has any.
fn gradient(i: u32) -> f32 {
    for (var w = 0u; w < WAITING; w++) {
        let place = waiting[w];
        let at = i - place.first; // wraps to a large number for i before the gradient
        if at < place.len {
            var sum = 0.0;
            for (var s = 0u; s < place.splits; s++) {
                sum += partials[place.partials + s * place.len + at];
            }
            grad[i] = sum;
            return sum;
        }
    }
    return grad[i];
}

// Updates both moments and returns the new value of the parameter.
fn updated(i: u32, rate: f32, first: f32, second: f32) -> f32 {
    let g = gradient(i);
    let m_i = m[i] + ONE_MINUS_BETA1 * (g - m[i]);
    let v_i = v[i] + ONE_MINUS_BETA2 * (g * g - v[i]);
    m[i] = m_i;
    v[i] = v_i;
    return param[i] - rate * (m_i / first) / (sqrt(v_i / second) + EPS);
}

@compute @workgroup_size(256)
fn update(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let first = bias_correction(ONE_MINUS_BETA1, clock[0]);
    let second = bias_correction(ONE_MINUS_BETA2, clock[0]);
    let rate = LR * schedule(clock[0]);
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        param[i] = updated(i, rate, first, second);
    }
}

@compute @workgroup_size(256)
fn update_with_ema(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let first = bias_correction(ONE_MINUS_BETA1, clock[0]);
    let second = bias_correction(ONE_MINUS_BETA2, clock[0]);
    let rate = LR * schedule(clock[0]);
    let share = share_of_new(clock[0]); // 1 - d
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        let value = updated(i, rate, first, second);
        param[i] = value;
        ema[i] += share * (value - ema[i]);
    }
}
