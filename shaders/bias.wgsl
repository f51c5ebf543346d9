// bias.wgsl: the gradient of a bias.
//
//   grad_parts   parts[s,c] = sum of dy[r,c] over the rows r of slice s
//   grad         db[c]      = sum of parts[s,c] over all s, in order;  adam.wgsl does it where it comes next
//
// Shapes    dy (ROWS, C)    parts (SLICES, C)    db (C);  rows are all pixels of all images
// Mapping   grad_parts: a workgroup for 32 channels of a slice, 8 lanes share its rows;  grad: an invocation for each channel
// Twin      src/cpu/bias.rs

override ROWS: u32;
override C: u32;
override SLICES: u32;
override SLICE_ROWS: u32;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read_write> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> db: array<f32>;

var<workgroup> lanes: array<f32, 256>;

@compute @workgroup_size(32, 8)
fn grad_parts(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let c = group.x * 32u + lane.x;
    let end = min(ROWS, (group.y + 1u) * SLICE_ROWS);
    var sum = 0.0;
    if c < C {
        for (var r = group.y * SLICE_ROWS + lane.y; r < end; r += 8u) {
            sum += dy[r * C + c];
        }
    }
    lanes[lane.y * 32u + lane.x] = sum;
    workgroupBarrier();
    if lane.y == 0u && c < C {
        for (var other = 1u; other < 8u; other++) {
            sum += lanes[other * 32u + lane.x];
        }
        parts[group.y * C + c] = sum;
    }
}

@compute @workgroup_size(64)
fn grad(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if c >= C { return; }
    var sum = 0.0;
    for (var s = 0u; s < SLICES; s++) {
        sum += parts[s * C + c];
    }
    db[c] = sum;
}
