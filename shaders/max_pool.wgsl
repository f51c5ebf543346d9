// max_pool.wgsl: max pooling over SIZE x SIZE windows that do not overlap.
//
//   forward   y[n,i,j,c]  = max over u, v < SIZE of x[n, i * SIZE + u, j * SIZE + v, c]
//   grad      dx[n,h,w,c] = dy[n, h / SIZE, w / SIZE, c] at the first maximum of a window in row-major order; 0 elsewhere, and
//             behind the last whole window
//
// Shapes    x, dx (N, H, W, C)    y, dy (N, H / SIZE, W / SIZE, C)
// Mapping   one invocation per window and channel, in a grid-stride loop; in grad the windows cut by the edge count, too
// Twin      src/cpu/max_pool.rs

// Images.
override N: u32;
// Height of x.
override H: u32;
// Width of x.
override W: u32;
// Channels.
override C: u32;
// Height and width of a window.
override SIZE: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

// Tests the bits: a driver may assume that NaN never occurs.
fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

// NaN counts as larger than every number, so that pooling hands it on.
fn exceeds(value: f32, best: f32) -> bool {
    return !is_nan(best) && (is_nan(value) || value > best);
}

// Index in x of the first maximum of the window that begins at index `first`.
fn first_maximum(first: u32) -> u32 {
    var best = first;
    for (var u = 0u; u < SIZE; u++) {
        for (var v = 0u; v < SIZE; v++) {
            let at = first + (u * W + v) * C;
            if exceeds(x[at], x[best]) { best = at; }
        }
    }
    return best;
}

@compute @workgroup_size(256)
fn forward(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let h_out = H / SIZE;
    let w_out = W / SIZE;
    for (var o = id.x; o < N * h_out * w_out * C; o += 256u * groups.x) {
        let c = o % C;
        let j = o / C % w_out;
        let i = o / C / w_out % h_out;
        let n = o / C / w_out / h_out;
        y[o] = x[first_maximum(((n * H + i * SIZE) * W + j * SIZE) * C + c)];
    }
}

@compute @workgroup_size(256)
fn grad(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let h_out = H / SIZE;
    let w_out = W / SIZE;
    let h_all = (H + SIZE - 1u) / SIZE;
    let w_all = (W + SIZE - 1u) / SIZE;
    for (var o = id.x; o < N * h_all * w_all * C; o += 256u * groups.x) {
        let c = o % C;
        let j = o / C % w_all;
        let i = o / C / w_all % h_all;
        let n = o / C / w_all / h_all;
        let first = ((n * H + i * SIZE) * W + j * SIZE) * C + c;
        for (var u = 0u; u < min(SIZE, H - i * SIZE); u++) {
            for (var v = 0u; v < min(SIZE, W - j * SIZE); v++) {
                dx[first + (u * W + v) * C] = 0.0;
            }
        }
        if i < h_out && j < w_out {
            dx[first_maximum(first)] = dy[((n * h_out + i) * w_out + j) * C + c];
        }
    }
}
