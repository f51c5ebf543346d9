// batch.wgsl: the real images of this step, in the shuffled order of the data set. Compiled after random.wgsl.
//
//   gather    y[i] = (SCALE * images[row] + SHIFT) / 255   with g = (step - 1) * N + i
//             and row = shuffled(g) of a whole data set, or g % COUNT in a chunk that is already shuffled
//   gather_and_join   gather, and both = y followed by b
//
// Shapes    clock (1), u32    images (COUNT, PIXELS), u8, four in a word    y (N, PIXELS), from low to high
//           b (images, PIXELS)    both (N + images of b, PIXELS)
// Mapping   one workgroup per image
// Twin      src/cpu/batch.rs

// Batch size.
override N: u32;
// Numbers of one image: H * W * C.
override PIXELS: u32;
// Images in `images`.
override COUNT: u32;
// Argument of `shuffled` for COUNT.
override HALF_BITS: u32;
// Width of the range of y: high - low.
override SCALE: f32;
// 255 times the lower end of the range of y.
override SHIFT: f32;
// Whether `images` is a chunk of a streamed data set, in the order of use.
override CHUNK: bool;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> images: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> both: array<f32>;

var<workgroup> image: u32;

// The row of image i of the batch; one lane computes it for all.
fn row_of(i: u32, lane: u32) -> u32 {
    if lane == 0u {
        let g = (clock[0] - 1u) * N + i;
        if CHUNK {
            image = g % COUNT;
        } else {
            image = shuffled(g, COUNT, HALF_BITS);
        }
    }
    workgroupBarrier();
    return image;
}

fn value_of(row: u32, pixel: u32) -> f32 {
    let byte = row * PIXELS + pixel;
    let value = (images[byte / 4u] >> (8u * (byte % 4u))) & 0xffu;
    // For [-1, 1] and [0, 1] this is an integer and one multiplication, which WGSL rounds correctly: same bits on every device.
    return (SCALE * f32(value) + SHIFT) * (1.0 / 255.0);
}

@compute @workgroup_size(256)
fn gather(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x;
    let row = row_of(i, lane);
    for (var pixel = lane; pixel < PIXELS; pixel += 256u) {
        y[i * PIXELS + pixel] = value_of(row, pixel);
    }
}

@compute @workgroup_size(256)
fn gather_and_join(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x;
    let row = row_of(min(i, N - 1u), lane);
    for (var pixel = lane; pixel < PIXELS; pixel += 256u) {
        if i < N {
            let value = value_of(row, pixel);
            y[i * PIXELS + pixel] = value;
            both[i * PIXELS + pixel] = value;
        } else {
            both[i * PIXELS + pixel] = b[(i - N) * PIXELS + pixel];
        }
    }
}
