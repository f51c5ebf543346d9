// penalty.wgsl: the direction in which a gradient penalty sends the discriminator's tangent pass.
//
//   direction   t = WEIGHT / N * g                          around 0: of the penalty WEIGHT / 2 * mean |g|^2
//               t = 2 * WEIGHT / N * (1 - 1 / |g|) * g      around 1: of the penalty WEIGHT * mean (|g| - 1)^2, and 0 where g is
//               with |g| the length of an image's part of g
//
// Shapes    g, t (N, LEN), of LEN numbers for each image
// Mapping   a workgroup for each image; its lanes take turns
// Twin      src/cpu/penalty.rs

override N: u32;
override LEN: u32;
override WEIGHT: f32;
override AROUND_ONE: bool;

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> t: array<f32>;

var<workgroup> lanes: array<f32, 256>;

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
        lanes[lane] = square;
        for (var half = 128u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if lane < half {
                lanes[lane] += lanes[lane + half];
            }
        }
        workgroupBarrier();
        let length = sqrt(lanes[0]);
        // Where there is no gradient there is no direction either.
        factor *= 2.0 * select(1.0 - 1.0 / length, 0.0, length == 0.0);
    }
    for (var i = lane; i < LEN; i += 256u) {
        t[first + i] = factor * g[first + i];
    }
}
