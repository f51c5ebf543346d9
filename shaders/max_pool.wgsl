// max_pool.wgsl: the largest of each window of SIZE x SIZE pixels; windows do not overlap.
//
//   forward   y[n,i,j,c]  = max over u, v < SIZE of x[n, i * SIZE + u, j * SIZE + v, c]
//   grad      dx[n,h,w,c] = dy[n, h / SIZE, w / SIZE, c] at the first maximum of a window, row by row; 0 elsewhere, and behind
//             the last whole window
//
// Shapes    x, dx (N, H, W, C)    y, dy (N, H / SIZE, W / SIZE, C)
// Mapping   one invocation for each channel of a window, in a grid-stride loop; for grad also of the windows that are not whole
// Twin      src/cpu/max_pool.rs

override N: u32;
override H: u32;
override W: u32;
override C: u32;
override SIZE: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

// By its bits: drivers may take it that there is no NaN.
fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

// The first NaN is larger than all else.
fn exceeds(value: f32, best: f32) -> bool {
    return !is_nan(best) && (is_nan(value) || value > best);
}

// Where in x the first maximum of a window lies, whose first element is at `first`.
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
