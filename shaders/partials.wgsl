// partials.wgsl: adds split-K partial sums, with the epilogue of the product that left them. Compiled after function.wgsl
// and workgroup_sums.wgsl.
//
//   reduce     result = b + sum of partials[s] over all splits s, in order
//              activated = f(result), or where BACKWARD  activated = result * f'  with f' from activated_y = f
//   reduce_and_multiply   the same, and the product of the next layer:
//              next_y[n,o] = next_b[o] + sum_d z[n,d] * next_w[d,o]  with z = activated if there is an activation, else result
//
//           adam.wgsl, batch_norm.wgsl and loss.wgsl add partial sums themselves where they come next.
//
// Shapes    partials (SPLITS, LEN)    result, activated_y, activated (LEN)    b (BIAS_LEN)
//           next_w (ROW_LEN, NEXT_COLUMNS), next_b (NEXT_COLUMNS), next_y (LEN / ROW_LEN, NEXT_COLUMNS)
// Mapping   reduce: one invocation per element of the result, in a grid-stride loop
//           reduce_and_multiply: one workgroup per row n, whose invocations share the depth
// Twin      src/cpu/conv.rs

// Numbers of the result.
override LEN: u32;
// Partial sums of each number.
override SPLITS: u32;
// Whether a bias is added.
override HAS_BIAS: bool = false;
// Channels of the result.
override BIAS_LEN: u32 = 1u;
// Numbers of the result for each row of the next layer.
override ROW_LEN: u32 = 1u;
// Columns of the next layer, at most four.
override NEXT_COLUMNS: u32 = 1u;
// Whether the next layer has a bias.
override NEXT_HAS_BIAS: bool = false;

@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<storage, read> activated_y: array<f32>;
@group(0) @binding(4) var<storage, read_write> activated: array<f32>;
@group(0) @binding(5) var<storage, read> next_w: array<f32>;
@group(0) @binding(6) var<storage, read> next_b: array<f32>;
@group(0) @binding(7) var<storage, read_write> next_y: array<f32>;

// A row of the next layer.
alias Sum = vec4<f32>;

// Reduces the partial sums of an element, applies the epilogue, and returns what the next layer multiplies.
fn reduced(i: u32) -> f32 {
    var sum = 0.0;
    for (var s = 0u; s < SPLITS; s++) {
        sum += partials[s * LEN + i];
    }
    if HAS_BIAS { sum += b[i % BIAS_LEN]; }
    result[i] = sum;
    if KIND == NONE { return sum; }
    var value: f32;
    if BACKWARD { value = sum * derivative_at(activated_y[i]); } else { value = function_of(sum); }
    activated[i] = value;
    return value;
}

@compute @workgroup_size(256)
fn reduce(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        reduced(i);
    }
}

@compute @workgroup_size(256)
fn reduce_and_multiply(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var values = vec4<f32>();
    for (var d = lane; d < ROW_LEN; d += 256u) {
        let value = reduced(id.x * ROW_LEN + d);
        for (var o = 0u; o < NEXT_COLUMNS; o++) {
            values[o] += value * next_w[d * NEXT_COLUMNS + o];
        }
    }
    values = sum_of_workgroup(lane, values);
    if lane > 0u { return; }
    for (var o = 0u; o < NEXT_COLUMNS; o++) {
        var value = values[o];
        if NEXT_HAS_BIAS { value += next_b[o]; }
        next_y[id.x * NEXT_COLUMNS + o] = value;
    }
}
