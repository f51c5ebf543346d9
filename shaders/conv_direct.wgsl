// conv_direct.wgsl: the products of conv.wgsl without workgroup memory, for adapters that compute on the CPU and have no subgroups of 8
// lanes. Compiled after function.wgsl and conv_sizes.wgsl.
//
//   forward, grad_input, grad_weight   those of conv.wgsl, with the epilogue of forward and grad_input: bias, and activation or its
//                                      derivative
//
//           Such an adapter pays for each invocation at each barrier, and compiles a kernel with tiles for up to a second, this one
//           in a tenth of that. A sum may be split (split-K); partials.wgsl adds the partial sums.
//
// Shapes    left is x, dy, x  and right is w, w, dy  of the three products
//           partials (SPLITS, shape of the result), activated_y, activated of the result's shape
// Mapping   An invocation computes a block of four rows and four columns in registers. The order of rows and of depth is that of
//           conv.wgsl. Blocks lie along x and y, those of a column block after one another; splits, and within them phases, along z.
//           The depth is a loop over taps around one over channels, four at a time where their number is a multiple of four.
// Twin      src/cpu/conv.rs

// The most workgroups along x, as in the lowering. Those of the next line along y follow them.
const LINE = 65535u;

@group(0) @binding(0) var<storage, read> left: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> right: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
@group(0) @binding(4) var<storage, read> activated_y: array<f32>;
@group(0) @binding(5) var<storage, read_write> activated: array<f32>;

// A block of an invocation.
struct Block {
    // Rows of the product, or of its phase.
    rows: u32,
    // First row.
    row: u32,
    // First column.
    column: u32,
    // First term of the sums.
    first: u32,
    // End of the terms of the sums.
    end: u32,
}

fn block_of(index: u32, rows: u32, split: u32, depths: u32) -> Block {
    let down = (rows + 3u) / 4u;
    let first = split * SPLIT_DEPTH;
    return Block(rows, 4u * (index % down), 4u * (index / down), first, min(depths, first + SPLIT_DEPTH));
}

// A number of left, or 0 where it does not exist; its address is some other one's then.
fn one_of_left(at: u32, exists: bool) -> f32 {
    return select(0.0, left[at / 4u][at % 4u], exists);
}

// Four neighbouring numbers of left, or zeros where they do not exist.
fn four_of_left(at: u32, exists: bool) -> vec4<f32> {
    return select(vec4<f32>(), left[at / 4u], exists);
}

fn one_of_right(at: u32) -> f32 {
    return right[at / 4u][at % 4u];
}

// Four neighbouring columns of right; those beyond the last one are the last one.
fn columns_of_right(at: u32, column: u32, columns: u32) -> vec4<f32> {
    if columns % 4u == 0u { return right[(at + column) / 4u]; }
    let last = columns - 1u;
    return vec4<f32>(
        one_of_right(at + column),
        one_of_right(at + min(column + 1u, last)),
        one_of_right(at + min(column + 2u, last)),
        one_of_right(at + min(column + 3u, last))
    );
}

// Stores the sums of a row: a partial sum, or the result and its epilogue.
fn store(block: Block, r: u32, at_row: u32, columns: u32, four: vec4<f32>) {
    if block.row + r >= block.rows { return; }
    for (var c = 0u; c < 4u; c++) {
        let column = block.column + c;
        if column < columns {
            var value = four[c];
            if HAS_BIAS && SPLITS == 1u { value += b[column]; }
            partials[at_row + column] = value;
            if KIND != NONE && SPLITS == 1u {
                if BACKWARD {
                    activated[at_row + column] = value * derivative_at(activated_y[at_row + column]);
                } else {
                    activated[at_row + column] = function_of(value);
                }
            }
        }
    }
}

// The patch of a row: address, line and column of its first number. Before the first ones of x they wrap to large numbers.
fn patch_origin(row: u32) -> vec3<u32> {
    let n = row / (H_OUT * W_OUT);
    let p = row / W_OUT % H_OUT * STRIDE - PAD;
    let q = row % W_OUT * STRIDE - PAD;
    return vec3<u32>(((n * H + p) * W + q) * C_IN, p, q);
}

@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = N * H_OUT * W_OUT;
    let block = block_of((id.y * LINE + id.x) * 64u + lane, rows, id.z, K * K * C_IN);
    if block.column >= C_OUT { return; }
    let last = rows - 1u;
    let origin0 = patch_origin(block.row);
    let origin1 = patch_origin(min(block.row + 1u, last));
    let origin2 = patch_origin(min(block.row + 2u, last));
    let origin3 = patch_origin(min(block.row + 3u, last));
    let ps = vec4<u32>(origin0.y, origin1.y, origin2.y, origin3.y);
    let qs = vec4<u32>(origin0.z, origin1.z, origin2.z, origin3.z);
    let starts = vec4<u32>(origin0.x, origin1.x, origin2.x, origin3.x);
    var sums = mat4x4<f32>();
    for (var tap = block.first / C_IN; tap * C_IN < block.end; tap++) {
        let u = tap / K;
        let v = tap % K;
        let exist = (ps + u < vec4<u32>(H)) & (qs + v < vec4<u32>(W));
        let first = max(block.first, tap * C_IN);
        let channels = min(block.end, tap * C_IN + C_IN) - first;
        let at = (starts + ((u * W + v) * C_IN + first - tap * C_IN)) * vec4<u32>(exist);
        if C_IN % 4u == 0u {
            for (var c = 0u; c < channels; c += 4u) {
                let a = mat4x4<f32>(
                    four_of_left(at.x + c, exist.x),
                    four_of_left(at.y + c, exist.y),
                    four_of_left(at.z + c, exist.z),
                    four_of_left(at.w + c, exist.w)
                );
                let w = mat4x4<f32>(
                    columns_of_right((first + c) * C_OUT, block.column, C_OUT),
                    columns_of_right((first + c + 1u) * C_OUT, block.column, C_OUT),
                    columns_of_right((first + c + 2u) * C_OUT, block.column, C_OUT),
                    columns_of_right((first + c + 3u) * C_OUT, block.column, C_OUT)
                );
                sums += w * a;
            }
        } else {
            for (var c = 0u; c < channels; c++) {
                let w = columns_of_right((first + c) * C_OUT, block.column, C_OUT);
                sums += mat4x4<f32>(
                    one_of_left(at.x + c, exist.x) * w,
                    one_of_left(at.y + c, exist.y) * w,
                    one_of_left(at.z + c, exist.z) * w,
                    one_of_left(at.w + c, exist.w) * w
                );
            }
        }
    }
    for (var r = 0u; r < 4u; r++) {
        store(block, r, (id.z * rows + block.row + r) * C_OUT, C_OUT, sums[r]);
    }
}

// The image, line and column in dx of a row of a phase.
fn pixel_of(row: u32, lines: vec2<u32>, columns: vec2<u32>) -> vec3<u32> {
    let pixel = row / N;
    return vec3<u32>(row % N, lines.x + STRIDE * (pixel / columns.y), columns.x + STRIDE * (pixel % columns.y));
}

// The pixel of dy that reaches a pixel of dx through the first tap of its phase: its address, line and column.
fn gradient_origin(pixel: vec3<u32>) -> vec3<u32> {
    let i = (pixel.y + PAD) / STRIDE;
    let j = (pixel.z + PAD) / STRIDE;
    return vec3<u32>(((pixel.x * H_OUT + i) * W_OUT + j) * C_OUT, i, j);
}

@compute @workgroup_size(64)
fn grad_input(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let phase = vec2<u32>(id.z / STRIDE % STRIDE, id.z % STRIDE);
    let split = id.z / (STRIDE * STRIDE);
    let lines = phase_pixels(phase.x, H);
    let columns = phase_pixels(phase.y, W);
    let taps = (K + STRIDE - 1u - phase) / STRIDE;
    let rows = N * lines.y * columns.y;
    if rows == 0u { return; } // phases differ in size
    let block = block_of((id.y * LINE + id.x) * 64u + lane, rows, split, taps.x * taps.y * C_OUT);
    if block.column >= C_IN { return; }
    let pixel0 = pixel_of(block.row, lines, columns);
    let pixel1 = pixel_of(min(block.row + 1u, rows - 1u), lines, columns);
    let pixel2 = pixel_of(min(block.row + 2u, rows - 1u), lines, columns);
    let pixel3 = pixel_of(min(block.row + 3u, rows - 1u), lines, columns);
    let origin0 = gradient_origin(pixel0);
    let origin1 = gradient_origin(pixel1);
    let origin2 = gradient_origin(pixel2);
    let origin3 = gradient_origin(pixel3);
    let is = vec4<u32>(origin0.y, origin1.y, origin2.y, origin3.y);
    let js = vec4<u32>(origin0.z, origin1.z, origin2.z, origin3.z);
    let starts = vec4<u32>(origin0.x, origin1.x, origin2.x, origin3.x);
    let inputs = min(block.column + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(C_IN - 1u));
    var sums = mat4x4<f32>();
    for (var tap = block.first / C_OUT; tap * C_OUT < block.end; tap++) {
        let u = tap / taps.y;
        let v = tap % taps.y;
        let exist = (is - u < vec4<u32>(H_OUT)) & (js - v < vec4<u32>(W_OUT));
        let first = max(block.first, tap * C_OUT);
        let channels = min(block.end, tap * C_OUT + C_OUT) - first;
        let at = (starts - (u * W_OUT + v) * C_OUT + (first - tap * C_OUT)) * vec4<u32>(exist);
        let weights = (((phase.x + STRIDE * u) * K + phase.y + STRIDE * v) * C_IN + inputs) * C_OUT + (first - tap * C_OUT);
        if C_OUT % 4u == 0u {
            for (var o = 0u; o < channels; o += 4u) {
                let w = mat4x4<f32>(
                    right[(weights.x + o) / 4u],
                    right[(weights.y + o) / 4u],
                    right[(weights.z + o) / 4u],
                    right[(weights.w + o) / 4u]
                );
                sums += mat4x4<f32>(
                    four_of_left(at.x + o, exist.x) * w,
                    four_of_left(at.y + o, exist.y) * w,
                    four_of_left(at.z + o, exist.z) * w,
                    four_of_left(at.w + o, exist.w) * w
                );
            }
        } else {
            for (var o = 0u; o < channels; o++) {
                let w = vec4<f32>(
                    one_of_right(weights.x + o),
                    one_of_right(weights.y + o),
                    one_of_right(weights.z + o),
                    one_of_right(weights.w + o)
                );
                sums += mat4x4<f32>(
                    one_of_left(at.x + o, exist.x) * w,
                    one_of_left(at.y + o, exist.y) * w,
                    one_of_left(at.z + o, exist.z) * w,
                    one_of_left(at.w + o, exist.w) * w
                );
            }
        }
    }
    for (var r = 0u; r < 4u; r++) {
        let pixel = pixel_of(block.row + r, lines, columns);
        store(block, r, (((split * N + pixel.x) * H + pixel.y) * W + pixel.z) * C_IN, C_IN, sums[r]);
    }
}

@compute @workgroup_size(64)
fn grad_weight(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = K * K * C_IN;
    let block = block_of((id.y * LINE + id.x) * 64u + lane, rows, id.z, N * H_OUT * W_OUT);
    if block.column >= C_OUT { return; }
    let weights = min(block.row + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(rows - 1u));
    let ps = weights / C_IN / K - PAD;
    let qs = weights / C_IN % K - PAD;
    let starts = (ps * W + qs) * C_IN + weights % C_IN;
    var j = block.first % W_OUT;
    var i = block.first / W_OUT % H_OUT;
    var n = block.first / (W_OUT * H_OUT);
    var sums = mat4x4<f32>();
    for (var pixel = block.first; pixel < block.end; pixel++) {
        let exist = (ps + i * STRIDE < vec4<u32>(H)) & (qs + j * STRIDE < vec4<u32>(W));
        let at = (starts + ((n * H + i * STRIDE) * W + j * STRIDE) * C_IN) * vec4<u32>(exist);
        let dy = columns_of_right(pixel * C_OUT, block.column, C_OUT);
        var x: vec4<f32>;
        if C_IN % 4u == 0u {
            x = four_of_left(at.x, exist.x);
        } else {
            x = vec4<f32>(
                one_of_left(at.x, exist.x),
                one_of_left(at.y, exist.y),
                one_of_left(at.z, exist.z),
                one_of_left(at.w, exist.w)
            );
        }
        sums += mat4x4<f32>(x.x * dy, x.y * dy, x.z * dy, x.w * dy);
        j += 1u;
        i += select(0u, 1u, j == W_OUT);
        j = select(j, 0u, j == W_OUT);
        n += select(0u, 1u, i == H_OUT);
        i = select(i, 0u, i == H_OUT);
    }
    for (var r = 0u; r < 4u; r++) {
        store(block, r, (id.z * rows + block.row + r) * C_OUT, C_OUT, sums[r]);
    }
}
