// adam.wgsl: one step of Adam (Kingma and Ba 2015, algorithm 1) on all parameters of a network. Begins with random.wgsl, for
// its circle, and share.wgsl.
//
//   update    m = m + (1-beta1) * (grad - m)    v = v + (1-beta2) * (grad^2 - v)
//             param -= LR * schedule(t) * m/(1-beta1^t) / (sqrt(v/(1-beta2^t)) + EPS)    with t the step
//             schedule(t) = min(1, t / WARM_UP) * d(p),  p = clamp((t - WARM_UP) / DECAYING_STEPS, 0, 1),  and
//             d(p) = 1, or 1 - (1 - LAST) * p, or 1 - (1 - LAST) * (1 - cos(pi * p)) / 2
//   update_with_ema   the same, then that of ema.wgsl
//
//           Before both, where a gradient of one of the parameters waits in parts, one for each slice that its sum was cut into:
//             grad = sum of parts[s] over all slices s, in order, as conv.wgsl and bias.wgsl would add them
//
// Shapes    clock (1), u32    param, grad, m, v, ema (LEN)    waiting (WAITING)
//           parts (slices, len) of each gradient that waits, from its own place in the memory on
// Mapping   one invocation for each element, in a grid-stride loop
// Twin      src/cpu/adam.rs

override LEN: u32;
override LR: f32;
override ONE_MINUS_BETA1: f32; // rounded from f64: 1 - beta in f32 would lose up to half its digits
override ONE_MINUS_BETA2: f32;
override EPS: f32;
override WARM_UP: u32;
override DECAY: u32;
override DECAYING_STEPS: u32;
override LAST: f32;
override WAITING: u32; // the host's: so few, and of so few slices, that no invocation's loops are long

const CONSTANT = 0u;
const LINEAR = 1u;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read_write> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> param: array<f32>;
@group(0) @binding(3) var<storage, read_write> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;
@group(0) @binding(5) var<storage, read_write> ema: array<f32>;
@group(0) @binding(6) var<storage, read> parts: array<f32>;
@group(0) @binding(7) var<storage, read> waiting: array<Waiting>;

// A gradient that waits: where it begins in grad and how long it is, how many slices its sum has and where they begin in parts.
struct Waiting {
    first: u32,
    len: u32,
    slices: u32,
    parts: u32,
}

// c(t) = 1 - beta^t by its own squaring rule, c(2t) = c(t) * (2 - c(t)) and c(t+1) = c(t) + (1-beta) * (1 - c(t)): unlike
// 1 - pow(beta, t), it keeps its digits when t is small and beta near 1.
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

// An element of the gradient, which is added first if it waits.
fn gradient(i: u32) -> f32 {
    for (var w = 0u; w < WAITING; w++) {
        let place = waiting[w];
        let at = i - place.first; // wraps before it
        if at < place.len {
            var sum = 0.0;
            for (var s = 0u; s < place.slices; s++) {
                sum += parts[place.parts + s * place.len + at];
            }
            grad[i] = sum;
            return sum;
        }
    }
    return grad[i];
}

// Updates both moments, and returns the parameter's new value.
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
