// batch_norm.wgsl: batch normalisation and its gradients (Ioffe and Szegedy 2015, algorithm 1).
//
//   statistics      parts[g,s]  = sum and centred sum of squares of x over the rows of slice s of group g
//   finish          saved[g]    = mean and 1 / sqrt(variance + EPS) of group g, from its parts (Chan et al. 1979);
//                   running     = (1 - MOMENTUM) * running + MOMENTUM * (mean, unbiased variance), group after group
//   forward         y  = gamma * xhat + beta                 with xhat = (x - mean) * inv_std of the row's group
//   evaluate        y  = gamma * (x - mean) / sqrt(variance + EPS) + beta    with running statistics
//   grad_parts      parts[g,s]  = sum dy and sum dy * xhat over the rows of slice s of group g
//   grad_affine     sums[g]     = the parts of group g, added in order;  daffine = sum of sums[g]: dgamma, dbeta
//   grad_input      dx = gamma * inv_std * (dy - mean(dy) - xhat * mean(dy * xhat)), means over the group's rows
//
// Shapes    x, y, dy, dx (GROUPS * ROWS, C)    affine, running, daffine (2, C)    saved, sums (GROUPS, 2, C)
//           parts (GROUPS, SLICES, 2, C);  rows are all pixels of all images of a group
// Mapping   *_parts, statistics: a workgroup for 32 channels of a slice (y) of a group (z), 8 lanes share its rows;
//           finish, grad_affine: an invocation for each channel;  the others: one for each element, in a grid-stride loop
// Twin      src/cpu/batch_norm.rs

override GROUPS: u32;
override ROWS: u32;
override C: u32;
override SLICES: u32 = 1u;
override SLICE_ROWS: u32 = 1u;
override EPS: f32 = 0.0;
override MOMENTUM: f32 = 0.0;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> affine: array<f32>;
@group(0) @binding(3) var<storage, read_write> running: array<f32>;
@group(0) @binding(4) var<storage, read_write> saved: array<f32>;
@group(0) @binding(5) var<storage, read_write> parts: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<storage, read_write> dx: array<f32>;
@group(0) @binding(9) var<storage, read_write> daffine: array<f32>;

var<workgroup> lanes: array<vec2<f32>, 256>;

// The sum over the 8 lanes of a channel, for all of them.
fn sum_of_lanes(lane: vec2<u32>, value: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();
    lanes[lane.y * 32u + lane.x] = value;
    workgroupBarrier();
    var sum = vec2<f32>();
    for (var other = 0u; other < 8u; other++) {
        sum += lanes[other * 32u + lane.x];
    }
    return sum;
}

fn rows_of_slice(slice: u32) -> u32 {
    return min(SLICE_ROWS, ROWS - slice * SLICE_ROWS);
}

@compute @workgroup_size(32, 8)
fn statistics(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    // Lanes beyond the last channel do the work of the last one and store nothing, so that all reach the barriers.
    let c = min(group.x * 32u + lane.x, C - 1u);
    let first = group.z * ROWS + group.y * SLICE_ROWS;
    let rows = rows_of_slice(group.y);
    var sum = 0.0;
    for (var r = lane.y; r < rows; r += 8u) {
        sum += x[(first + r) * C + c];
    }
    let total = sum_of_lanes(lane.xy, vec2<f32>(sum, 0.0)).x;
    let mean = total / f32(rows);
    var squares = 0.0;
    for (var r = lane.y; r < rows; r += 8u) {
        let centred = x[(first + r) * C + c] - mean;
        squares += centred * centred;
    }
    let centred_squares = sum_of_lanes(lane.xy, vec2<f32>(squares, 0.0)).x;
    if lane.y == 0u && group.x * 32u + lane.x < C {
        let part = (group.z * SLICES + group.y) * 2u * C + c;
        parts[part] = total;
        parts[part + C] = centred_squares;
    }
}

@compute @workgroup_size(64)
fn finish(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if c >= C { return; }
    for (var g = 0u; g < GROUPS; g++) {
        var sum = 0.0;
        for (var s = 0u; s < SLICES; s++) {
            sum += parts[(g * SLICES + s) * 2u * C + c];
        }
        let mean = sum / f32(ROWS);
        var squares = 0.0;
        for (var s = 0u; s < SLICES; s++) {
            let part = (g * SLICES + s) * 2u * C + c;
            let rows = f32(rows_of_slice(s));
            let off = parts[part] / rows - mean;
            squares += parts[part + C] + rows * off * off;
        }
        saved[g * 2u * C + c] = mean;
        saved[g * 2u * C + C + c] = 1.0 / sqrt(squares / f32(ROWS) + EPS);
        running[c] += MOMENTUM * (mean - running[c]);
        running[C + c] += MOMENTUM * (squares / f32(ROWS - 1u) - running[C + c]);
    }
}

@compute @workgroup_size(256)
fn forward(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < GROUPS * ROWS * C; i += 256u * groups.x) {
        let c = i % C;
        let statistic = (i / (ROWS * C)) * 2u * C + c;
        y[i] = (x[i] - saved[statistic]) * (saved[statistic + C] * affine[c]) + affine[C + c];
    }
}

@compute @workgroup_size(256)
fn evaluate(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < GROUPS * ROWS * C; i += 256u * groups.x) {
        let c = i % C;
        y[i] = (x[i] - running[c]) * (affine[c] / sqrt(running[C + c] + EPS)) + affine[C + c];
    }
}

@compute @workgroup_size(32, 8)
fn grad_parts(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let c = min(group.x * 32u + lane.x, C - 1u);
    let first = group.z * ROWS + group.y * SLICE_ROWS;
    let rows = rows_of_slice(group.y);
    let mean = saved[group.z * 2u * C + c];
    let inv_std = saved[group.z * 2u * C + C + c];
    var sum = vec2<f32>();
    for (var r = lane.y; r < rows; r += 8u) {
        let i = (first + r) * C + c;
        sum += dy[i] * vec2<f32>(1.0, (x[i] - mean) * inv_std);
    }
    let total = sum_of_lanes(lane.xy, sum);
    if lane.y == 0u && group.x * 32u + lane.x < C {
        let part = (group.z * SLICES + group.y) * 2u * C + c;
        parts[part] = total.x;
        parts[part + C] = total.y;
    }
}

@compute @workgroup_size(64)
fn grad_affine(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    if c >= C { return; }
    var total = vec2<f32>();
    for (var g = 0u; g < GROUPS; g++) {
        var sum = vec2<f32>();
        for (var s = 0u; s < SLICES; s++) {
            let part = (g * SLICES + s) * 2u * C + c;
            sum += vec2<f32>(parts[part], parts[part + C]);
        }
        sums[g * 2u * C + c] = sum.x;
        sums[g * 2u * C + C + c] = sum.y;
        total += sum;
    }
    daffine[c] = total.y;
    daffine[C + c] = total.x;
}

@compute @workgroup_size(256)
fn grad_input(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < GROUPS * ROWS * C; i += 256u * groups.x) {
        let c = i % C;
        let statistic = (i / (ROWS * C)) * 2u * C + c;
        let inv_std = saved[statistic + C];
        let xhat = (x[i] - saved[statistic]) * inv_std;
        let mean_dy = sums[statistic] / f32(ROWS);
        let mean_dy_xhat = sums[statistic + C] / f32(ROWS);
        dx[i] = affine[c] * inv_std * (dy[i] - mean_dy - xhat * mean_dy_xhat);
    }
}
