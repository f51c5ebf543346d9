// concat.wgsl: concatenation of two batches of images.
//
//   forward   y = a followed by b
//
// Shapes    a (LEN_A)    b (LEN_B)    y (LEN_A + LEN_B)
// Mapping   one invocation per element, in a grid-stride loop
// Twin      src/cpu/concat.rs

// Numbers in a.
override LEN_A: u32;
// Numbers in b.
override LEN_B: u32;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn forward(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN_A + LEN_B; i += 256u * groups.x) {
        if i < LEN_A {
            y[i] = a[i];
        } else {
            y[i] = b[i - LEN_A];
        }
    }
}
