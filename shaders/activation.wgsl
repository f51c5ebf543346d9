// activation.wgsl: activation functions and their gradients, elementwise. Compiled after function.wgsl.
//
//   forward   y  = f(x)
//   grad      dx = dy * f'(x), with f' computed from y = f(x)
//
// Shapes    x, y, dy, dx (LEN)
// Mapping   one invocation per element, in a grid-stride loop
// Twin      src/cpu/activation.rs

// Number of elements.
override LEN: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn forward(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        y[i] = function_of(x[i]);
    }
}

@compute @workgroup_size(256)
fn grad(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        dx[i] = dy[i] * derivative_at(y[i]);
    }
}
