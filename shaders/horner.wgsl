// horner.wgsl: a polynomial by Horner's rule. `bench` measures with it how fast a GPU multiplies and adds.
//
//   evaluate   y = 1; DEGREE times: y = y * a + 1; so y = a^0 + a^1 + ... + a^DEGREE
//
// Shapes    a, y (LEN)
// Mapping   one workgroup per 4096 elements; each of 256 lanes has 16 independent sums, as a multiply-add takes a few cycles
// Twin      src/cpu/horner.rs

// Number of elements.
override LEN: u32;
// Degree of the polynomial.
override DEGREE: u32;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// The elements of a lane: 256 apart, so that lanes read neighbours.
fn places(first: u32) -> vec4<u32> {
    return first + vec4<u32>(0u, 256u, 512u, 768u);
}

fn load(first: u32) -> vec4<f32> {
    let at = min(places(first), vec4<u32>(LEN - 1u));
    return vec4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]);
}

fn store(first: u32, values: vec4<f32>) {
    let at = places(first);
    for (var k = 0u; k < 4u; k++) {
        if at[k] < LEN {
            y[at[k]] = values[k];
        }
    }
}

@compute @workgroup_size(256)
fn evaluate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = group.x * 4096u + lane;
    let p = load(first);
    let q = load(first + 1024u);
    let r = load(first + 2048u);
    let s = load(first + 3072u);
    let one = vec4<f32>(1.0);
    var sum_p = one;
    var sum_q = one;
    var sum_r = one;
    var sum_s = one;
    for (var k = 0u; k < DEGREE; k++) {
        sum_p = fma(sum_p, p, one);
        sum_q = fma(sum_q, q, one);
        sum_r = fma(sum_r, r, one);
        sum_s = fma(sum_s, s, one);
    }
    store(first, sum_p);
    store(first + 1024u, sum_q);
    store(first + 2048u, sum_r);
    store(first + 3072u, sum_s);
}
