// bias.wgsl: gradient of a bias.
//
//   grad_partials   partials[s,c] = sum of dy[r,c] over the rows r of slice s
//   grad            db[c]         = sum of partials[s,c] over all s, in order;  adam.wgsl does this itself where it comes next
//
// Shapes    dy (ROWS, C)    partials (SLICES, C)    db (C);  rows are all pixels of all images
// Mapping   grad_partials: a workgroup per slice and 32 channels, 8 lanes share its rows;  grad: an invocation per channel
// Twin      src/cpu/bias.rs

// Pixels of all images.
override ROWS: u32;
// Channels.
override C: u32;
// Number of slices of the rows.
override SLICES: u32;
// Rows of a slice; the last one may have fewer.
override SLICE_ROWS: u32;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> db: array<f32>;

var<workgroup> lanes: array<f32, 256>;

@compute @workgroup_size(32, 8)
fn grad_partials(
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
        partials[group.y * C + c] = sum;
    }
}

@compute @workgroup_size(64)
fn grad(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if c >= C { return; }
    var sum = 0.0;
    for (var s = 0u; s < SLICES; s++) {
        sum += partials[s * C + c];
    }
    db[c] = sum;
}
