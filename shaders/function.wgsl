// function.wgsl: activation functions and their derivatives, in front of the shaders that need them.
//
//   function_of     f(value)
//   derivative_at   f'(x) from y = f(x):  leaky ReLU: 1 where y > 0, else SLOPE    tanh: 1 - y^2    sigmoid: y * (1 - y)
//
// Twin      src/cpu/activation.rs

override KIND: u32;
override SLOPE: f32 = 0.0;

const LEAKY_RELU = 0u;
const TANH = 1u;
const SIGMOID = 2u;
const NONE = 3u;

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

fn function_of(value: f32) -> f32 {
    switch KIND {
        case LEAKY_RELU: { return value * select(1.0, SLOPE, value <= 0.0); }
        case TANH: { return tanh_of(value); }
        default: { return sigmoid_of(value); }
    }
}

fn derivative_at(y: f32) -> f32 {
    switch KIND {
        case LEAKY_RELU: { return select(1.0, SLOPE, y <= 0.0); }
        case TANH: { return 1.0 - y * y; }
        default: { return y * (1.0 - y); }
    }
}
