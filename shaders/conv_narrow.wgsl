// conv_narrow.wgsl: the products of conv.wgsl for at most four columns, without tiles. Compiled after conv.wgsl and conv_epilogue.wgsl.
//
//   narrow_forward, narrow_grad_input   the same as forward and grad_input
//
// Shapes    those of conv.wgsl
// Mapping   One invocation per row, which computes all of its columns; a tile would be mostly empty. Neighbouring invocations have
//           neighbouring pixels of a phase, and nothing goes through workgroup memory.
// Twin      src/cpu/conv.rs

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
