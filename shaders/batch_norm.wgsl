// batch_norm.wgsl: batch normalisation and its gradients (Ioffe and Szegedy 2015, algorithm 1), fused with the activation behind it
// if there is one. Compiled after function.wgsl and workgroup_sums.wgsl.
//
//   statistics      sums[g,s]   = sum and centred sum of squares of x over the rows of slice s of group g, and the number of rows
//   forward         saved[g]    = mean and 1 / sqrt(variance + EPS) of group g, from its sums (Chan et al. 1979);
//                   running     = (1 - MOMENTUM) * running + MOMENTUM * (mean, unbiased variance), group after group
//                   y  = gamma * xhat + beta    with xhat = (x - mean) * inv_std of the row's group;  activated = f(y)
//   whole           statistics and forward in one dispatch, for few rows
//   evaluate        y  = gamma * (x - mean) / sqrt(variance + EPS) + beta    with running statistics;  activated = f(y)
//   grad_sums       sums[g,s]   = sum e and sum e * xhat over the rows of slice s of group g;  e = dy, or with an activation
//                   e = activated = dy * f'(activated_y), where dy is the gradient for activated_y
//   grad_input      daffine = sum e * xhat, sum e over all rows: dgamma, dbeta;  e is `dy`, also with an activation
//                   dx = gamma * inv_std * (e - mean(e) - xhat * mean(e * xhat)), means over the group's rows
//   grad_whole      grad_sums and grad_input in one dispatch, for few rows
//
//           The kernels that sum up rows read x, or dy, as `summed`. The product that computes it may already have written `sums` in its
//           epilogue. Or it left split-K partial sums, which these kernels reduce first:
//   summed = sum of partials[s] over all s, in order
//           grad_whole has no binding left for them, so they and daffine, which Adam takes from there, are in one: partials_and_daffine
//
// Shapes    x, y, dy, dx, summed, activated, activated_y (GROUPS * ROWS, C)    affine, running, daffine (2, C)    saved (GROUPS, 2, C)
//           sums (GROUPS, PARTS, 2 * C + 1), partials (SPLITS, GROUPS * ROWS, C)
//           partials_and_daffine: partials, and daffine from DAFFINE_AT on;  rows are all pixels of all images of a group
// Mapping   statistics, forward, grad_sums, grad_input: a workgroup per 32 channels of a slice (y) of a group (z), 8 lanes share
//           its rows;  *whole: a workgroup per WIDTH channels, HEIGHT lanes share all rows, each a run of them;  evaluate: an
//           invocation per element, in a grid-stride loop
// Twin      src/cpu/batch_norm.rs

// Groups of images with statistics of their own.
override GROUPS: u32;
// Rows of a group.
override ROWS: u32;
// Channels.
override C: u32;
// Rows of a slice, which is what one workgroup reads; the last slice of a group may have fewer.
override SLICE_ROWS: u32 = 1u;
// Entries of `sums` for each group.
override PARTS: u32 = 1u;
// Split-K partial sums to reduce first; 1 for none.
override SPLITS: u32 = 1u;
// Offset of daffine in `partials_and_daffine`.
override DAFFINE_AT: u32 = 0u;
// Added to the variance.
override EPS: f32 = 0.0;
// Weight of the newest statistics in the running ones.
override MOMENTUM: f32 = 0.0;
// Channels of a workgroup of whole and grad_whole.
override WIDTH: u32 = 1u;
// Lanes that share a channel in whole and grad_whole.
override HEIGHT: u32 = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> affine: array<f32>;
@group(0) @binding(3) var<storage, read_write> running: array<f32>;
@group(0) @binding(4) var<storage, read_write> saved: array<f32>;
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read> activated_y: array<f32>;
@group(0) @binding(8) var<storage, read_write> activated: array<f32>;
@group(0) @binding(9) var<storage, read_write> dx: array<f32>;
@group(0) @binding(10) var<storage, read_write> daffine: array<f32>;
@group(0) @binding(11) var<storage, read> partials: array<f32>;
@group(0) @binding(12) var<storage, read_write> summed: array<f32>;
@group(0) @binding(13) var<storage, read_write> partials_and_daffine: array<f32>;

alias Sum = vec2<f32>;

fn rows_of_slice(slice: u32) -> u32 {
    return min(SLICE_ROWS, ROWS - slice * SLICE_ROWS);
}

// Reduces the split-K partial sums of an element.
fn reduce_partials(i: u32) {
    if SPLITS == 1u { return; }
    var sum = 0.0;
    for (var s = 0u; s < SPLITS; s++) {
        sum += partials[s * GROUPS * ROWS * C + i];
    }
    summed[i] = sum;
}

// Offset of entry s of a group in `sums`: C sums, then C sums of squares or of products with xhat, then the number of rows.
fn sums_at(g: u32, s: u32) -> u32 {
    return (g * PARTS + s) * (2u * C + 1u);
}

// Writes an element of y and, where there is an activation, of its result.
fn write(i: u32, xhat: f32, gamma: f32, beta: f32) {
    let value = xhat * gamma + beta;
    y[i] = value;
    if KIND != NONE { activated[i] = function_of(value); }
}

// The gradient of an element of y, from that of the activation or of y; with an activation it is also written to `activated`.
fn gradient(i: u32, incoming: f32) -> f32 {
    if KIND == NONE { return incoming; }
    let value = incoming * derivative_at(activated_y[i]);
    activated[i] = value;
    return value;
}

// Writes saved and running statistics of a group, from its mean and centred sum of squares.
fn write_statistics(g: u32, c: u32, mean: f32, squares: f32) {
    saved[g * 2u * C + c] = mean;
    saved[g * 2u * C + C + c] = 1.0 / sqrt(squares / f32(ROWS) + EPS);
    running[c] += MOMENTUM * (mean - running[c]);
    running[C + c] += MOMENTUM * (squares / f32(ROWS - 1u) - running[C + c]);
}

@compute @workgroup_size(32, 8)
fn statistics(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    // Lanes beyond the last channel repeat its work and store nothing, so that all lanes reach the barriers.
    let c = min(group.x * 32u + lane.x, C - 1u);
    let stores = group.x * 32u + lane.x < C;
    let first = group.z * ROWS + group.y * SLICE_ROWS;
    let rows = rows_of_slice(group.y);
    for (var r = lane.y; stores && r < rows; r += 8u) {
        reduce_partials((first + r) * C + c);
    }
    var sum = 0.0;
    for (var r = lane.y; r < rows; r += 8u) {
        sum += summed[(first + r) * C + c];
    }
    let total = sum_of_column(lane.xy, 32u, 8u, vec2<f32>(sum, 0.0)).x;
    let mean = total / f32(rows);
    var squares = 0.0;
    for (var r = lane.y; r < rows; r += 8u) {
        let centred = summed[(first + r) * C + c] - mean;
        squares += centred * centred;
    }
    let centred_squares = sum_of_column(lane.xy, 32u, 8u, vec2<f32>(squares, 0.0)).x;
    if lane.y == 0u && stores {
        let at = sums_at(group.z, group.y);
        sums[at + c] = total;
        sums[at + C + c] = centred_squares;
        if c == 0u { sums[at + 2u * C] = f32(rows); }
    }
}

// Mean and centred sum of squares of a group, from its entries of `sums`, by 8 lanes.
fn mean_and_squares(g: u32, c: u32, lane: vec3<u32>) -> vec2<f32> {
    var sum = 0.0;
    for (var s = lane.y; s < PARTS; s += 8u) {
        sum += sums[sums_at(g, s) + c];
    }
    let mean = sum_of_column(lane.xy, 32u, 8u, vec2<f32>(sum, 0.0)).x / f32(ROWS);
    var squares = 0.0;
    for (var s = lane.y; s < PARTS; s += 8u) {
        let at = sums_at(g, s);
        let rows = sums[at + 2u * C];
        let off = sums[at + c] / max(rows, 1.0) - mean; // an entry may have no rows
        squares += sums[at + C + c] + rows * off * off;
    }
    return vec2<f32>(mean, sum_of_column(lane.xy, 32u, 8u, vec2<f32>(squares, 0.0)).x);
}

@compute @workgroup_size(32, 8)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let c = min(group.x * 32u + lane.x, C - 1u);
    let stores = group.x * 32u + lane.x < C;
    if group.y == 0u && group.z == 0u {
        for (var g = 0u; g < GROUPS; g++) {
            let statistic = mean_and_squares(g, c, lane);
            if stores && lane.y == 0u { write_statistics(g, c, statistic.x, statistic.y); }
        }
    }
    let gamma = affine[c];
    let beta = affine[C + c];
    let statistic = mean_and_squares(group.z, c, lane);
    let inv_std = 1.0 / sqrt(statistic.y / f32(ROWS) + EPS);
    let first = group.z * ROWS + group.y * SLICE_ROWS;
    let rows = rows_of_slice(group.y);
    for (var r = lane.y; stores && r < rows; r += 8u) {
        let i = (first + r) * C + c;
        write(i, (x[i] - statistic.x) * inv_std, gamma, beta);
    }
}

// The rows of a group that a lane reads in whole and grad_whole: the first one, and the one behind the last.
fn run_of_rows(g: u32, lane: u32) -> vec2<u32> {
    let length = (ROWS + HEIGHT - 1u) / HEIGHT;
    let first = min(lane * length, ROWS);
    return g * ROWS + vec2<u32>(first, min(first + length, ROWS));
}

// Mean and centred sum of squares of a lane's rows, in one pass. Differences are taken to the mean of the first rows, which is
// close to the mean of all, so that the subtraction loses no digits.
fn statistics_of(rows: vec2<u32>, c: u32) -> vec2<f32> {
    if rows.x == rows.y { return vec2<f32>(); }
    let few = min(rows.y - rows.x, 16u);
    var near = 0.0;
    for (var r = 0u; r < few; r++) {
        near += summed[(rows.x + r) * C + c] / f32(few);
    }
    var sum = 0.0;
    var squares = 0.0;
    for (var r = rows.x; r < rows.y; r++) {
        let off = summed[r * C + c] - near;
        sum += off;
        squares += off * off;
    }
    let mean_off = sum / f32(rows.y - rows.x);
    return vec2<f32>(near + mean_off, max(squares - sum * mean_off, 0.0));
}

@compute @workgroup_size(WIDTH, HEIGHT)
fn whole(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let c = min(group.x * WIDTH + lane.x, C - 1u);
    let stores = group.x * WIDTH + lane.x < C;
    let gamma = affine[c];
    let beta = affine[C + c];
    for (var g = 0u; g < GROUPS; g++) {
        let rows = run_of_rows(g, lane.y);
        for (var r = rows.x; stores && r < rows.y; r++) {
            reduce_partials(r * C + c);
        }
        let own = statistics_of(rows, c);
        let count = f32(rows.y - rows.x);
        let mean = sum_of_column(lane.xy, WIDTH, HEIGHT, vec2<f32>(count * own.x, 0.0)).x / f32(ROWS);
        let off = own.x - mean;
        let squares = sum_of_column(lane.xy, WIDTH, HEIGHT, vec2<f32>(own.y + count * off * off, 0.0)).x;
        let inv_std = 1.0 / sqrt(squares / f32(ROWS) + EPS);
        if stores {
            if lane.y == 0u { write_statistics(g, c, mean, squares); }
            for (var r = rows.x; r < rows.y; r++) {
                write(r * C + c, (summed[r * C + c] - mean) * inv_std, gamma, beta);
            }
        }
    }
}

@compute @workgroup_size(256)
fn evaluate(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < GROUPS * ROWS * C; i += 256u * groups.x) {
        let c = i % C;
        write(i, (x[i] - running[c]) / sqrt(running[C + c] + EPS), affine[c], affine[C + c]);
    }
}

@compute @workgroup_size(32, 8)
fn grad_sums(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let c = min(group.x * 32u + lane.x, C - 1u);
    let stores = group.x * 32u + lane.x < C;
    let first = group.z * ROWS + group.y * SLICE_ROWS;
    let rows = rows_of_slice(group.y);
    let mean = saved[group.z * 2u * C + c];
    let inv_std = saved[group.z * 2u * C + C + c];
    var sum = vec2<f32>();
    for (var r = lane.y; stores && r < rows; r += 8u) {
        let i = (first + r) * C + c;
        reduce_partials(i);
        sum += gradient(i, summed[i]) * vec2<f32>(1.0, (x[i] - mean) * inv_std);
    }
    let total = sum_of_column(lane.xy, 32u, 8u, sum);
    if lane.y == 0u && stores {
        let at = sums_at(group.z, group.y);
        sums[at + c] = total.x;
        sums[at + C + c] = total.y;
    }
}

// The sums of a group over all its entries of `sums`, by 8 lanes.
fn sums_of_group(g: u32, c: u32, lane: vec3<u32>) -> vec2<f32> {
    var sum = vec2<f32>();
    for (var s = lane.y; s < PARTS; s += 8u) {
        let at = sums_at(g, s);
        sum += vec2<f32>(sums[at + c], sums[at + C + c]);
    }
    return sum_of_column(lane.xy, 32u, 8u, sum);
}

fn input_gradient(scale: f32, xhat: f32, value: f32, of_group: vec2<f32>) -> f32 {
    return scale * (value - of_group.x / f32(ROWS) - xhat * (of_group.y / f32(ROWS)));
}

@compute @workgroup_size(32, 8)
fn grad_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let c = min(group.x * 32u + lane.x, C - 1u);
    let stores = group.x * 32u + lane.x < C;
    if group.y == 0u && group.z == 0u {
        var total = vec2<f32>();
        for (var g = 0u; g < GROUPS; g++) {
            total += sums_of_group(g, c, lane);
        }
        if stores && lane.y == 0u {
            daffine[c] = total.y;
            daffine[C + c] = total.x;
        }
    }
    let of_group = sums_of_group(group.z, c, lane);
    let mean = saved[group.z * 2u * C + c];
    let inv_std = saved[group.z * 2u * C + C + c];
    let scale = affine[c] * inv_std;
    let first = group.z * ROWS + group.y * SLICE_ROWS;
    let rows = rows_of_slice(group.y);
    for (var r = lane.y; stores && r < rows; r += 8u) {
        let i = (first + r) * C + c;
        dx[i] = input_gradient(scale, (x[i] - mean) * inv_std, dy[i], of_group);
    }
}

@compute @workgroup_size(WIDTH, HEIGHT)
fn grad_whole(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let c = min(group.x * WIDTH + lane.x, C - 1u);
    let stores = group.x * WIDTH + lane.x < C;
    var total = vec2<f32>();
    for (var g = 0u; g < GROUPS; g++) {
        let rows = run_of_rows(g, lane.y);
        let mean = saved[g * 2u * C + c];
        let inv_std = saved[g * 2u * C + C + c];
        let scale = affine[c] * inv_std;
        var sum = vec2<f32>();
        if stores {
            for (var r = rows.x; r < rows.y; r++) {
                let i = r * C + c;
                if SPLITS > 1u {
                    var total_of_splits = 0.0;
                    for (var s = 0u; s < SPLITS; s++) {
                        total_of_splits += partials_and_daffine[s * GROUPS * ROWS * C + i];
                    }
                    summed[i] = total_of_splits;
                }
                sum += gradient(i, summed[i]) * vec2<f32>(1.0, (x[i] - mean) * inv_std);
            }
        }
        let of_group = sum_of_column(lane.xy, WIDTH, HEIGHT, sum);
        total += of_group;
        if stores {
            for (var r = rows.x; r < rows.y; r++) {
                let i = r * C + c;
                var value: f32;
                if KIND == NONE { value = summed[i]; } else { value = activated[i]; }
                dx[i] = input_gradient(scale, (x[i] - mean) * inv_std, value, of_group);
            }
        }
    }
    if stores && lane.y == 0u {
        partials_and_daffine[DAFFINE_AT + c] = total.y;
        partials_and_daffine[DAFFINE_AT + C + c] = total.x;
    }
}
