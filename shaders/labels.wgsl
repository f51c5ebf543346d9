// labels.wgsl: class labels of this step's images, in the order of batch.wgsl. Compiled after random.wgsl.
//
//   gather    y[i] = labels[row]   with g = (step - 1) * N + i
//             and row = shuffled(g) of a whole data set, or g % COUNT in a chunk that is already shuffled
//
// Shapes    clock (1), u32    labels (COUNT), u8, four in a word    y (N), u32
// Mapping   one invocation per image
// Twin      src/cpu/labels.rs

// Batch size.
override N: u32;
// Labels in `labels`.
override COUNT: u32;
// Argument of `shuffled` for COUNT.
override HALF_BITS: u32;
// Whether `labels` is of a chunk of a streamed data set, in the order of use.
override CHUNK: bool;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn gather(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if i < N {
        let g = (clock[0] - 1u) * N + i;
        var row = g % COUNT;
        if !CHUNK {
            row = shuffled(g, COUNT, HALF_BITS);
        }
        y[i] = (labels[row / 4u] >> (8u * (row % 4u))) & 0xffu;
    }
}
