// fill.wgsl: fills a tensor, or adds to it.
//
//   constant     y = VALUE
//   accumulate   y += x
//
// Shapes    x, y (LEN)
// Mapping   one invocation per element, in a grid-stride loop
// Twin      src/cpu/fill.rs

// Number of elements.
override LEN: u32;
// The value of constant.
override VALUE: f32 = 0.0;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn constant(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        y[i] = VALUE;
    }
}

@compute @workgroup_size(256)
fn accumulate(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        y[i] += x[i];
    }
}
