// pack.wgsl: joins every M images of a batch into one, side by side in its channels (PacGAN).
//
//   forward   y[n, pixel, j * C + c] = x[n * M + j, pixel, c]
//   grad      dx[n * M + j, pixel, c] = dy[n, pixel, j * C + c]
//
// Shapes    x, dx (N, PIXELS, C)    y, dy (N / M, PIXELS, M * C)    LEN = N * PIXELS * C
// Mapping   one invocation per element, in a grid-stride loop
// Twin      src/cpu/pack.rs

// Number of elements.
override LEN: u32;
// Pixels of an image.
override PIXELS: u32;
// Channels of a single image.
override C: u32;
// Images of a pack.
override M: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

// Index in the single images of element i of the packs.
fn single_index(i: u32) -> u32 {
    let channel = i % (M * C);
    let pixel = i / (M * C) % PIXELS;
    let image = i / (M * C * PIXELS) * M + channel / C;
    return (image * PIXELS + pixel) * C + channel % C;
}

@compute @workgroup_size(256)
fn forward(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        y[i] = x[single_index(i)];
    }
}

@compute @workgroup_size(256)
fn grad(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        dx[single_index(i)] = dy[i];
    }
}
