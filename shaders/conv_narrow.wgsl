// conv_narrow.wgsl: the products of conv.wgsl that need no tiles. Compiled after conv.wgsl and conv_epilogue.wgsl.
//
//   narrow_forward, narrow_grad_input   the same as forward and grad_input, for at most four columns
//   reduce_partials   result = b + sum of partials[s] over all splits s, in order
//   reduce_partials_and_multiply   the same, and the product of the next layer:
//                     next_y[n,o] = next_b[o] + sum_d z[n,d] * next_w[d,o]  with z = activated if there is an activation, else result
//
// Shapes    those of conv.wgsl;  next_w (ROW_LEN, NEXT_COLUMNS), next_b (NEXT_COLUMNS), next_y (LEN / ROW_LEN, NEXT_COLUMNS)
// Mapping   narrow_*: one invocation per row, which computes all of its columns; a tile would be mostly empty. Neighbouring
//           invocations have neighbouring pixels of a phase, and nothing goes through workgroup memory.
//           reduce_partials: one invocation per element of the result, in a grid-stride loop
//           reduce_partials_and_multiply: one workgroup per row n, whose invocations share the depth
// Twin      src/cpu/conv.rs

@group(0) @binding(10) var<storage, read> next_w: array<f32>;
@group(0) @binding(11) var<storage, read> next_b: array<f32>;
@group(0) @binding(12) var<storage, read_write> next_y: array<f32>;

// What the invocations have added up of a row of the next layer.
var<workgroup> row_sums: array<vec4<f32>, 256>;

// Stores a row of at most four columns.
fn store_row(first: u32, four: vec4<f32>, columns: u32) {
    let values = four + bias_of(0u, columns);
    for (var c = 0u; c < columns; c++) {
        partials[first + c] = values[c];
        write_epilogue(first + c, values[c]);
    }
}

@compute @workgroup_size(64)
fn narrow_forward(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N * H_OUT * W_OUT { return; }
    let origin = patch_origin(id.x);
    let depths = K * K * C_IN;
    var values = vec4<f32>();
    for (var depth = 0u; depth < depths; depth += 4u) {
        let a = four_of_patch(origin, depth, depth, depths);
        for (var o = 0u; o < C_OUT; o++) {
            for (var d = 0u; d < 4u; d++) {
                values[o] += a[d] * one_of_right(column_at(depth + d, depths, o));
            }
        }
    }
    store_row(origin.w, values, C_OUT);
}

@compute @workgroup_size(64)
fn narrow_grad_input(@builtin(global_invocation_id) id: vec3<u32>) {
    let phase = vec2<u32>(id.z / STRIDE, id.z % STRIDE);
    let lines = phase_pixels(phase.x, H);
    let columns = phase_pixels(phase.y, W);
    if id.x >= N * lines.y * columns.y { return; } // phases differ in size
    let n = id.x / (lines.y * columns.y);
    let p = lines.x + STRIDE * (id.x / columns.y % lines.y);
    let q = columns.x + STRIDE * (id.x % columns.y);
    let origin = gradient_origin(n, p, q);
    let taps = (K + STRIDE - 1u - phase) / STRIDE;
    let depths = taps.x * taps.y * C_OUT;
    var values = vec4<f32>();
    for (var depth = 0u; depth < depths; depth += 4u) {
        let a = four_of_gradient(origin, taps, depth, depth, depths);
        for (var c = 0u; c < C_IN; c++) {
            values[c] += dot(a, four_tap_weights(phase, taps, depth, depth, depths, c));
        }
    }
    store_row(((n * H + p) * W + q) * C_IN, values, C_IN);
}

// Reduces the partial sums of an element and returns it, with its activation if there is one.
fn reduced(i: u32) -> f32 {
    var sum = 0.0;
    for (var s = 0u; s < SPLITS; s++) {
        sum += partials[s * LEN + i];
    }
    if HAS_BIAS { sum += b[i % BIAS_LEN]; }
    result[i] = sum;
    write_epilogue(i, sum);
    if KIND == NONE { return sum; }
    return function_of(sum);
}

@compute @workgroup_size(256)
fn reduce_partials(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        reduced(i);
    }
}

@compute @workgroup_size(256)
fn reduce_partials_and_multiply(
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
    row_sums[lane] = values;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half { row_sums[lane] += row_sums[lane + half]; }
    }
    if lane > 0u { return; }
    for (var o = 0u; o < NEXT_COLUMNS; o++) {
        var value = row_sums[0][o];
        if NEXT_HAS_BIAS { value += next_b[o]; }
        next_y[id.x * NEXT_COLUMNS + o] = value;
    }
}
