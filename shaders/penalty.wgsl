// penalty.wgsl: direction of the discriminator's tangent pass for a gradient penalty. Compiled after workgroup_sums.wgsl.
//
//   direction   t = WEIGHT / N * g                          centred at 0: gradient of WEIGHT / 2 * mean |g|^2
//               t = 2 * WEIGHT / N * (1 - 1 / |g|) * g      centred at 1: gradient of WEIGHT * mean (|g| - 1)^2; 0 where g is 0
//               with |g| the norm of an image's part of g
//
// Shapes    g, t (N, LEN), with LEN numbers per image
// Mapping   a workgroup per image
// Twin      src/cpu/penalty.rs

// Images.
override N: u32;
// Numbers of an image.
override LEN: u32;
// Weight of the penalty.
override WEIGHT: f32;
// Whether the penalty is centred at 1 (WGAN-GP) instead of 0 (R1, R2).
override AROUND_ONE: bool;

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> t: array<f32>;

alias Sum = f32;

@compute @workgroup_size(256)
fn direction(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = group.x * LEN;
    var factor = WEIGHT / f32(N);
    if AROUND_ONE {
        var square = 0.0;
        for (var i = lane; i < LEN; i += 256u) {
            square += g[first + i] * g[first + i];
        }
        let length = sqrt(sum_of_workgroup(lane, square));
        // Where there is no gradient there is no direction either.
        factor *= 2.0 * select(1.0 - 1.0 / length, 0.0, length == 0.0);
    }
    for (var i = lane; i < LEN; i += 256u) {
        t[first + i] = factor * g[first + i];
    }
}
