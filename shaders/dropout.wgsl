// dropout.wgsl: inverted dropout (Srivastava et al. 2014). Compiled after random.wgsl.
//
//   forward   y = x * kept / (1 - rate), where an element is kept if its word of philox(block, step, stream, 0), shifted right by
//             nine bits, is at least DROPPED; with dy and dx in the places of x and y this is also the gradient
//
// Shapes    clock (1), u32    x, y (LEN)
// Mapping   one invocation per block of four elements, in a grid-stride loop
// Twin      src/cpu/dropout.rs

// Number of elements.
override LEN: u32;
// Random stream of this layer and pass.
override STREAM: u32;
// rate * 2^23: elements with smaller draws become 0.
override DROPPED: u32;
// 1 / (1 - rate).
override SCALE: f32;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn forward(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var block = id.x; 4u * block < LEN; block += 64u * groups.x) {
        let words = philox(vec4<u32>(block, clock[0], STREAM, 0u)) >> vec4<u32>(9u);
        let factors = select(vec4<f32>(0.0), vec4<f32>(SCALE), words >= vec4<u32>(DROPPED));
        for (var i = 0u; i < 4u && 4u * block + i < LEN; i++) {
            y[4u * block + i] = x[4u * block + i] * factors[i];
        }
    }
}
