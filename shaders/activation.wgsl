// activation.wgsl: activation functions, element by element.
//
//   forward   y  = f(x)
//   grad      dx = dy * f'(x), with f' from y = f(x):
//             leaky ReLU: 1 where y > 0, else SLOPE    tanh: 1 - y^2    sigmoid: y * (1 - y)
//
// Shapes    x, y, dy, dx (LEN)
// Mapping   one invocation for each element, in a grid-stride loop
// Twin      src/cpu/activation.rs

override LEN: u32;
override KIND: u32;
override SLOPE: f32 = 0.0;

const LEAKY_RELU = 0u;
const TANH = 1u;
const SIGMOID = 2u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

// By its bits: drivers may take it that there is no NaN, and some have an exp that makes a number of it.
fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

// Of |x| only and clamped, so that exp never overflows: the built-in tanh is NaN for large x on some drivers. From 15 on, tanh
// rounds to 1.
fn tanh_of(value: f32) -> f32 {
    let t = exp(-2.0 * min(abs(value), 15.0));
    let y = select(1.0, -1.0, value < 0.0) * ((1.0 - t) / (1.0 + t));
    return select(y, value, is_nan(value));
}

fn sigmoid_of(value: f32) -> f32 {
    let t = exp(-abs(value));
    let y = select(1.0, t, value < 0.0) / (1.0 + t);
    return select(y, value, is_nan(value));
}

@compute @workgroup_size(256)
fn forward(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        let value = x[i];
        switch KIND {
            case LEAKY_RELU: { y[i] = value * select(1.0, SLOPE, value <= 0.0); }
            case TANH: { y[i] = tanh_of(value); }
            default: { y[i] = sigmoid_of(value); }
        }
    }
}

@compute @workgroup_size(256)
fn grad(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        let value = y[i];
        switch KIND {
            case LEAKY_RELU: { dx[i] = dy[i] * select(1.0, SLOPE, value <= 0.0); }
            case TANH: { dx[i] = dy[i] * (1.0 - value * value); }
            default: { dx[i] = dy[i] * value * (1.0 - value); }
        }
    }
}
