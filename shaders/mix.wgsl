// mix.wgsl: random interpolation between two batches.
//
//   forward   y[i] = b[i] + u * (a[i] - b[i]), with u uniform in (0, 1) for each image i: word k % 4 of
//             philox(k / 4, step, STREAM, 0) with k = FIRST + i
//
// Shapes    clock (1), u32    a, b, y (N, LEN), with LEN numbers per image
// Mapping   a workgroup per image
// Twin      src/cpu/mix.rs

// Numbers of an image.
override LEN: u32;
// Random stream.
override STREAM: u32;
// Number of the first image in the batch.
override FIRST: u32;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x;
    let k = FIRST + i;
    let u = uniform_numbers(philox(vec4<u32>(k / 4u, clock[0], STREAM, 0u)))[k % 4u];
    for (var e = i * LEN + lane; e < (i + 1u) * LEN; e += 256u) {
        y[e] = b[e] + u * (a[e] - b[e]);
    }
}
