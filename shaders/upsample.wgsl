// upsample.wgsl: nearest-neighbour upsampling.
//
//   forward   y[n,h,w,c]  = x[n, h / FACTOR, w / FACTOR, c]
//   grad      dx[n,h,w,c] = sum over u, v < FACTOR of dy[n, h * FACTOR + u, w * FACTOR + v, c]
//
// Shapes    x, dx (N, H, W, C)    y, dy (N, FACTOR * H, FACTOR * W, C)
// Mapping   one invocation per element of the result, in a grid-stride loop
// Twin      src/cpu/upsample.rs

// Images.
override N: u32;
// Height of x.
override H: u32;
// Width of x.
override W: u32;
// Channels.
override C: u32;
// How many times y is as high and wide as x.
override FACTOR: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn forward(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let w_out = FACTOR * W;
    for (var i = id.x; i < N * FACTOR * H * w_out * C; i += 256u * groups.x) {
        let c = i % C;
        let w = i / C % w_out / FACTOR;
        let line = i / C / w_out / FACTOR; // n * H + h: a line of x becomes FACTOR lines of y
        y[i] = x[(line * W + w) * C + c];
    }
}

@compute @workgroup_size(256)
fn grad(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let w_out = FACTOR * W;
    for (var i = id.x; i < N * H * W * C; i += 256u * groups.x) {
        let c = i % C;
        let w = i / C % W;
        let line = i / C / W;
        var sum = 0.0;
        for (var u = 0u; u < FACTOR; u++) {
            for (var v = 0u; v < FACTOR; v++) {
                sum += dy[((line * FACTOR + u) * w_out + w * FACTOR + v) * C + c];
            }
        }
        dx[i] = sum;
    }
}
