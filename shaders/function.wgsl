// function.wgsl: activation functions and their derivatives. Compiled into the shaders that apply an activation.
//
//   function_of     f(value)
//   derivative_at   f'(x) from y = f(x):  leaky ReLU: 1 where y > 0, else SLOPE    tanh: 1 - y^2    sigmoid: y * (1 - y)
//
// Twin      src/cpu/activation.rs

// Which activation function: one of the constants below.
override KIND: u32;
// Slope of leaky ReLU for negative values; 0 is ReLU.
override SLOPE: f32 = 0.0;
// Whether an epilogue multiplies by the derivative of the activation, instead of applying it.
override BACKWARD: bool = false;

// Value of KIND: leaky ReLU, and ReLU.
const LEAKY_RELU = 0u;
// Value of KIND: hyperbolic tangent.
const TANH = 1u;
// Value of KIND: logistic sigmoid.
const SIGMOID = 2u;
// Value of KIND: no activation. Callers skip function_of and derivative_at then.
const NONE = 3u;

// Tests the bits: a driver may assume that NaN never occurs, and on some drivers exp turns NaN into a number.
fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

// Uses |x| clamped to 15, where tanh rounds to 1, so that exp cannot overflow: the built-in tanh returns NaN for large x on some
// drivers.
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
