// batch.wgsl: the images of this step, in the order of the shuffled data set. Begins with random.wgsl.
//
//   gather    y[i] = (SCALE * images[row] + SHIFT) / 255   with g = (step - 1) * N + i
//             and row = shuffled(g) of a whole data set, or g % COUNT in a window of those that are due
//
// Shapes    clock (1), u32    images (COUNT, PIXELS), u8, four in a word    y (N, PIXELS), from low to high
// Mapping   one workgroup for each image
// Twin      src/cpu/batch.rs

override N: u32;
override PIXELS: u32; // H * W * C of one image
override COUNT: u32;
override HALF_BITS: u32; // of shuffled()
override SCALE: f32; // high - low
override SHIFT: f32; // 255 * low
override WINDOW: bool;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> images: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> image: u32;

@compute @workgroup_size(256)
fn gather(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x;
    if lane == 0u {
        let g = (clock[0] - 1u) * N + i;
        if WINDOW {
            image = g % COUNT;
        } else {
            image = shuffled(g, COUNT, HALF_BITS);
        }
    }
    workgroupBarrier();
    for (var pixel = lane; pixel < PIXELS; pixel += 256u) {
        let byte = image * PIXELS + pixel;
        let value = (images[byte / 4u] >> (8u * (byte % 4u))) & 0xffu;
        // For [-1, 1] and [0, 1] a whole number and one multiplication, which WGSL rounds correctly: the same bits everywhere.
        y[i * PIXELS + pixel] = (SCALE * f32(value) + SHIFT) * (1.0 / 255.0);
    }
}
