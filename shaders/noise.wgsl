// noise.wgsl: standard normal numbers. Begins with random.wgsl.
//
//   normal    y ~ N(0, 1): Box and Muller's transform (1958) of the words of philox(block, step, stream, 0)
//
// Shapes    clock (1), u32    y (LEN)
// Mapping   one invocation for each block of four numbers, in a grid-stride loop
// Twin      src/cpu/noise.rs

override LEN: u32;
override STREAM: u32;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// The middle of one of 2^23 equal parts of (0, 1): exact in f32, and never 0 or 1.
fn uniform_numbers(words: vec4<u32>) -> vec4<f32> {
    return (vec4<f32>(words >> vec4<u32>(9u)) + 0.5) * 0x1p-23;
}

// Two independent normal numbers of two uniform ones.
fn box_muller(u: vec2<f32>) -> vec2<f32> {
    // log may be off by 2^-21 near 1, and then be positive.
    let radius = sqrt(max(-2.0 * log(u.x), 0.0));
    // In [-pi, pi): WGSL promises nothing of sin and cos outside.
    let angle = 6.283185307179586 * (u.y - 0.5);
    return radius * vec2<f32>(cos(angle), sin(angle));
}

@compute @workgroup_size(64)
fn normal(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var block = id.x; 4u * block < LEN; block += 64u * groups.x) {
        let u = uniform_numbers(philox(vec4<u32>(block, clock[0], STREAM, 0u)));
        let first = 4u * block;
        let z01 = box_muller(u.xy);
        let z23 = box_muller(u.zw);
        y[first] = z01.x;
        if first + 1u < LEN { y[first + 1u] = z01.y; }
        if first + 2u < LEN { y[first + 2u] = z23.x; }
        if first + 3u < LEN { y[first + 3u] = z23.y; }
    }
}
