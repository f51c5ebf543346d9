// noise.wgsl: standard normal random numbers. Compiled after random.wgsl.
//
//   normal    y ~ N(0, 1): Box-Muller transform (1958) of the words of philox(block, step, stream, 0), with four
//             positions per block; y[i] has the position FIRST + i
//   tick_and_normal   that of clock.wgsl, then normal with the new number of the step, for few numbers
//
// Shapes    clock (1), u32    y (LEN)
// Mapping   one invocation per block of four numbers, in a grid-stride loop;  tick_and_normal: one workgroup
// Twin      src/cpu/noise.rs

// Number of elements.
override LEN: u32;
// Random stream.
override STREAM: u32;
// Position of the first element.
override FIRST: u32;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> ticking: array<u32>; // the clock, where it is advanced

// The natural logarithm of u in [2^-24, 1): u = 2^e * m with m in [0.7, 1.4), ln m = 2 artanh((m - 1) / (m + 1)).
// WGSL allows the built-in log errors of 2^-21, and drivers differ. Latents must be the same on every device, so this one is
// written out, accurate to the last digits of f32.
fn log_of(u: f32) -> f32 {
    let bits = bitcast<u32>(u) - 0x3f330000u; // the bits of 0.7: the exponent counts from there
    let e = bitcast<i32>(bits) >> 23u;
    let m = bitcast<f32>((bits & 0x007fffffu) + 0x3f330000u);
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0))));
    return f32(e) * 0.6931471805599453 + 2.0 * s * series;
}

// Two independent normal numbers from two uniform ones.
fn box_muller(u: vec2<f32>) -> vec2<f32> {
    return sqrt(-2.0 * log_of(u.x)) * circle(u.y - 0.5);
}

// Draws every `stride`-th block from `first_block` on, in step number `step`.
fn draw(step: u32, first_block: u32, stride: u32) {
    // The first block may begin before the first element: then its index wraps around, and is not below LEN.
    let offset = FIRST % 4u;
    for (var block = first_block; 4u * block < LEN + offset; block += stride) {
        let u = uniform_numbers(philox(vec4<u32>(FIRST / 4u + block, step, STREAM, 0u)));
        let first = 4u * block - offset;
        let z01 = box_muller(u.xy);
        let z23 = box_muller(u.zw);
        if first < LEN { y[first] = z01.x; }
        if first + 1u < LEN { y[first + 1u] = z01.y; }
        if first + 2u < LEN { y[first + 2u] = z23.x; }
        if first + 3u < LEN { y[first + 3u] = z23.y; }
    }
}

@compute @workgroup_size(64)
fn normal(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    draw(clock[0], id.x, 64u * groups.x);
}

@compute @workgroup_size(256)
fn tick_and_normal(@builtin(local_invocation_index) lane: u32) {
    let step = ticking[0] + 1u;
    storageBarrier(); // all lanes have read it
    if lane == 0u { ticking[0] = step; }
    draw(step, lane, 256u);
}
