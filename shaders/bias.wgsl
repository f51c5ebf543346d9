// bias.wgsl: gradient of a bias. Compiled after workgroup_sums.wgsl.
//
//   grad    partials[s,c] = sum of dy[r,c] over the rows r of slice s;  they are added like split-K partial sums (partials.wgsl)
//
// Shapes    dy (ROWS, C)    partials (slices, C);  rows are all pixels of all images
// Mapping   a workgroup per slice and 32 channels, 8 lanes share its rows
// Twin      src/cpu/bias.rs

// Pixels of all images.
override ROWS: u32;
// Channels.
override C: u32;
// Rows of a slice; the last one may have fewer.
override SLICE_ROWS: u32;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;

alias Sum = f32;

@compute @workgroup_size(32, 8)
fn grad(
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
    let total = sum_of_column(lane.xy, 32u, 8u, sum);
    if lane.y == 0u && c < C { partials[group.y * C + c] = total; }
}
