// spectral_norm.wgsl: weights divided by their largest singular value, estimated by one power iteration (Miyato et al. 2018,
// "Spectral normalization for generative adversarial networks", algorithm 1). Compiled after workgroup_sums.wgsl.
//
//   project         v_raw = w u
//   reflect         u_raw = w^T v                       with v = v_raw / max(|v_raw|, 1e-12)
//   normalise       y = w / sigma, u = u_raw / max(|u_raw|, 1e-12) and v, with sigma = v^T w u = |u_raw|^2 / max(|u_raw|, 1e-12)
//   grad_partials   partials = sums of dw * y over slices
//   grad            dw = (dw - <dw, y> v u^T) / sigma   with <dw, y> the sum of the partials
//
// Shapes    w, y, dw (D, O)    uv (O + D): u, then v    sigma (1)    v_raw (D)    u_raw (O)    partials (SLICES), at most 256
// Mapping   project: a workgroup per row, in a loop. reflect: a workgroup per 32 columns, 8 lanes to a column.
//           grad_partials: a workgroup per slice. normalise and grad: one invocation per weight, in a grid-stride
//           loop; every workgroup computes the norms itself
// Twin      src/cpu/spectral_norm.rs

// Rows of the weight matrix.
override D: u32;
// Columns of the weight matrix.
override O: u32;
// Slices of the weights, at most 256.
override SLICES: u32 = 1u;
// Weights of a slice.
override SLICE: u32 = 1u;

@group(0) @binding(0) var<storage, read> w: array<f32>;
@group(0) @binding(1) var<storage, read_write> uv: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> sigma: array<f32>;
@group(0) @binding(4) var<storage, read_write> v_raw: array<f32>;
@group(0) @binding(5) var<storage, read_write> u_raw: array<f32>;
@group(0) @binding(6) var<storage, read_write> dw: array<f32>;
@group(0) @binding(7) var<storage, read_write> partials: array<f32>;

alias Sum = f32;

fn length_of_v(lane: u32) -> f32 {
    var sum = 0.0;
    for (var d = lane; d < D; d += 256u) {
        sum += v_raw[d] * v_raw[d];
    }
    return max(sqrt(sum_of_workgroup(lane, sum)), 1e-12);
}

@compute @workgroup_size(256)
fn project(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var d = group.x; d < D; d += groups.x) {
        var sum = 0.0;
        for (var o = lane; o < O; o += 256u) {
            sum += w[d * O + o] * uv[o];
        }
        let all = sum_of_workgroup(lane, sum);
        if lane == 0u {
            v_raw[d] = all;
        }
    }
}

@compute @workgroup_size(256)
fn reflect(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let length = length_of_v(lane);
    let o = group.x * 32u + lane % 32u;
    var sum = 0.0;
    if o < O {
        for (var d = lane / 32u; d < D; d += 8u) {
            sum += w[d * O + o] * v_raw[d];
        }
    }
    let all = sum_of_column(vec2<u32>(lane % 32u, lane / 32u), 32u, 8u, sum);
    if lane < 32u && o < O { u_raw[o] = all / length; }
}

@compute @workgroup_size(256)
fn normalise(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var square = 0.0;
    for (var o = lane; o < O; o += 256u) {
        square += u_raw[o] * u_raw[o];
    }
    let all = sum_of_workgroup(lane, square);
    let length = max(sqrt(all), 1e-12);
    let largest = all / length;
    if group.x == 0u {
        let length_v = length_of_v(lane);
        for (var o = lane; o < O; o += 256u) {
            uv[o] = u_raw[o] / length;
        }
        for (var d = lane; d < D; d += 256u) {
            uv[O + d] = v_raw[d] / length_v;
        }
        if lane == 0u {
            sigma[0] = largest;
        }
    }
    for (var i = group.x * 256u + lane; i < D * O; i += 256u * groups.x) {
        y[i] = w[i] / largest;
    }
}

@compute @workgroup_size(256)
fn grad_partials(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var sum = 0.0;
    for (var k = lane; k < SLICE; k += 256u) {
        let i = group.x * SLICE + k;
        if i < D * O {
            sum += dw[i] * y[i];
        }
    }
    let all = sum_of_workgroup(lane, sum);
    if lane == 0u {
        partials[group.x] = all;
    }
}

@compute @workgroup_size(256)
fn grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var part = 0.0;
    if lane < SLICES {
        part = partials[lane];
    }
    let product = sum_of_workgroup(lane, part);
    for (var i = group.x * 256u + lane; i < D * O; i += 256u * groups.x) {
        dw[i] = (dw[i] - product * uv[O + i / O] * uv[i % O]) / sigma[0];
    }
}
