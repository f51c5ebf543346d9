// conv_bias.wgsl: the gradient of a bias beside that of the weights. Compiled after conv.wgsl, with tile.wgsl or matrices.wgsl.
//
//   db[o] = sum_{n,i,j} dy[n,i,j,o],  the sum over the depth of a column of B in grad_weight
//   db[c] = sum_{n,p,q} x[n,p,q,c]    with BIAS_OF_LEFT, for a transposed convolution, whose output gradient is x: the sum over the depth
//                                     of the rows (u,v,c) of A, which see each pixel of x once where u < STRIDE, or i is the last
//                                     line, and v < STRIDE, or j is the last column
//
// Shapes    those of conv.wgsl;  with BIAS_OF_LEFT all rows are in one tile, and all pixels of x in windows
// Mapping   The workgroups of the first rows have all of dy in their tiles B, stage after stage, and those of the first columns all of
//           A. One invocation for each four columns, or rows, adds what it finds there, depth after depth, so the bits do not depend
//           on the shape of the tile. The sums are in workgroup memory, so that the other workgroups have no registers for them.
// Twin      src/cpu/bias.rs

// The sums of four columns, or rows, each.
var<workgroup> depth_sums: array<vec4<f32>, DEPTH_SUMS>;

// Whether an invocation adds up the depth of four columns, or rows.
fn adds_depth(tile: Tile, lane: u32) -> bool {
    if BIAS_OF_LEFT { return tile.first_column == 0u && lane < LINE_A; }
    return BIAS_AT > 0u && tile.first_row == 0u && lane < LINE_B;
}

// Adds the stage that begins at `start` to the sums of an invocation.
fn add_depth(lane: u32, start: u32) {
    var sum = depth_sums[lane];
    let taps = (vec4<u32>(4u * lane) + vec4<u32>(0u, 1u, 2u, 3u)) / C_IN;
    let in_first_lines = taps / K < vec4<u32>(STRIDE);
    let in_first_columns = taps % K < vec4<u32>(STRIDE);
    for (var depth = 0u; depth < DEPTH; depth++) {
        if BIAS_OF_LEFT {
            let pixel = start + depth;
            let is_last_line = pixel / W_OUT % H_OUT == H_OUT - 1u;
            let is_last_column = pixel % W_OUT == W_OUT - 1u;
            let counts = (in_first_lines | vec4<bool>(is_last_line)) & (in_first_columns | vec4<bool>(is_last_column));
            sum += select(vec4<f32>(), rows_at(depth, lane), counts);
        } else {
            sum += columns_at(depth, lane);
        }
    }
    depth_sums[lane] = sum;
}

// The sum of a channel of x over all taps.
fn sum_of_taps(channel: u32) -> f32 {
    var sum = 0.0;
    for (var row = channel; row < K * K * C_IN; row += C_IN) {
        sum += depth_sums[row / 4u][row % 4u];
    }
    return sum;
}

// Writes a partial sum of the gradient of the bias.
fn store_bias_gradient(tile: Tile, lane: u32) {
    if BIAS_OF_LEFT {
        workgroupBarrier();
        if tile.first_column == 0u && lane < C_IN { partials[BIAS_AT + tile.split * C_IN + lane] = sum_of_taps(lane); }
    } else if adds_depth(tile, lane) {
        let column = tile.first_column + 4u * lane;
        let sum = depth_sums[lane];
        for (var c = 0u; c < 4u; c++) {
            if column + c < C_OUT { partials[BIAS_AT + tile.split * C_OUT + column + c] = sum[c]; }
        }
    }
}
