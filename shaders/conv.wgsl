// conv.wgsl: convolution and its two gradients as tiled matrix products (implicit GEMM: the im2col matrix is never stored), with an
// epilogue. Compiled after function.wgsl and before tile.wgsl or matrices.wgsl, which multiply the tiles.
//
//   forward           y[n,i,j,o]  = b[o] + sum_{u,v,c} x[n,p,q,c] * w[u,v,c,o]
//   grad_input        dx[n,p,q,c] = b[c] + sum_{u,v,o} dy[n,i,j,o] * w[u,v,c,o];  a transposed convolution is this, applied to dy
//   grad_weight       dw[u,v,c,o] = sum_{n,i,j} x[n,p,q,c] * dy[n,i,j,o]
//                     with p = i*STRIDE + u - PAD, q = j*STRIDE + v - PAD;  x and dy are 0 outside their edges
//   narrow_forward, narrow_grad_input   the same as forward and grad_input, for at most four columns
//   reduce_partials   result = b + sum of partials[s] over all splits s, in order
//
// Epilogue  of all but grad_weight: activated = f(result), or where BACKWARD  activated = result * f'  with f' from activated_y = f
//           *_and_statistics      also the statistics of the batch normalisation behind the product: in `sums`, for the rows of each
//                                 part of a group: their sum, their centred sum of squares, and the number of rows
//           *_and_gradient_sums   also the sums of the gradient of batch normalisation: sum e and sum e * xhat, with e = activated,
//                                 xhat = (x - mean) * inv_std of x = normalised_x, and mean and inv_std in saved
//
// Split-K   Where there would be too few workgroups, or loops too long, the depth is cut into SPLITS ranges of SPLIT_DEPTH terms.
//           Each writes its own partial sums, without bias or epilogue; reduce_partials adds them, or batch_norm.wgsl or adam.wgsl
//           does. With one split, `partials` is the result.
//
// Shapes    left is x, dy, x  and right is w, w, dy  of the three products
//           x, dx (N, H, W, C_IN)    w, dw (K, K, C_IN, C_OUT)    y, dy (N, H_OUT, W_OUT, C_OUT)    b (C_OUT), of dx (C_IN)
//           partials (SPLITS, shape of the result), result, activated_y, activated, normalised_x (LEN)
//           sums (GROUPS, PARTS, 2 * columns + 1), saved (GROUPS, 2, columns);  a part is PART_ROWS rows
// Mapping   A workgroup computes a tile of 8*TY rows and 8*TX columns of  A (rows, depth) * B (depth, columns),  each
//           invocation 8 x 8 of it, in stages of DEPTH terms that go through workgroup memory. The order of each sum, and so its
//           bits, do not depend on TX, TY and PADDING.
//             forward       rows (n,i,j) of a group            depth (u,v,c)   columns o
//             grad_input    rows (p,q,n) of a group, a phase   depth (u,v,o)   columns c;  phases are along z, too
//             grad_weight   rows (u,v,c)                       depth (n,i,j)   columns o
//           Groups of N / GROUPS images follow each other along y, so that no tile has rows of two groups. Splits are along z.
//           Loads take four numbers at once where the channels along which they lie are a multiple of four.
//           A phase is the pixels with the same (p + PAD) % STRIDE and (q + PAD) % STRIDE: the same taps (u,v) reach all of
//           them, so the product is dense, and no zero between the strides is ever multiplied. Its rows run over the images
//           fastest, so that a tile covers few pixels and skips the taps that all of them have beyond the edge.
//           narrow_*: one invocation per row, which computes all of its columns; a tile would be mostly empty. Neighbouring
//           invocations have neighbouring pixels of a phase, and nothing goes through workgroup memory.
//           reduce_partials: one invocation per element of the result, in a grid-stride loop
// Twin      src/cpu/conv.rs

// Images.
override N: u32;
// Height of x.
override H: u32;
// Width of x.
override W: u32;
// Channels of x.
override C_IN: u32;
// Height of y.
override H_OUT: u32;
// Width of y.
override W_OUT: u32;
// Channels of y.
override C_OUT: u32;
// Height and width of the kernel.
override K: u32;
// Distance between neighbouring patches, in pixels of x.
override STRIDE: u32;
// Zeros around x, in pixels on each side.
override PAD: u32;
// Whether a bias is added.
override HAS_BIAS: bool = false;
// Split-K: into how many ranges the depth is cut.
override SPLITS: u32 = 1u;
// Terms of a range; a multiple of DEPTH.
override SPLIT_DEPTH: u32 = 1u;
// Numbers of the result, for reduce_partials.
override LEN: u32 = 1u;
// Channels of the result, for reduce_partials.
override BIAS_LEN: u32 = 1u;
// Groups of images, for the sums of batch normalisation.
override GROUPS: u32 = 1u;
// Entries of `sums` for each group.
override PARTS: u32 = 1u;
// Whether the epilogue multiplies by the derivative of the activation, instead of applying it.
override BACKWARD: bool = false;
// Invocations of a workgroup along the columns.
override TX: u32 = 8u;
// Invocations of a workgroup along the rows.
override TY: u32 = 8u;
// Numbers left free behind each depth of a tile: without them, lanes that store several depths of one row meet in one memory bank.
override PADDING: u32 = 0u;
// Invocations of a workgroup: TX * TY, or more where matrices.wgsl needs whole subgroups.
override LANES: u32 = 64u;
// Numbers of a depth of tile A, with padding.
override LINE_A: u32 = 8u * TY + PADDING;
// Numbers of a depth of tile B, with padding.
override LINE_B: u32 = 8u * TX + PADDING;
// Rows of an entry of `sums`: at least 64, and a tile has one or more.
override PART_ROWS: u32 = 8u * TY;
// Column sums of all parts of a tile; not more than LANES.
override COLUMN_SUMS: u32 = 8u * TX * (8u * TY / PART_ROWS);

// Terms of a stage.
const DEPTH = 16u;
// Address of a number that does not exist and counts as 0.
const NOWHERE = 0xffffffffu;

@group(0) @binding(0) var<storage, read> left: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> right: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;
@group(0) @binding(5) var<storage, read> activated_y: array<f32>;
@group(0) @binding(6) var<storage, read_write> activated: array<f32>;
@group(0) @binding(7) var<storage, read> normalised_x: array<f32>;
@group(0) @binding(8) var<storage, read> saved: array<f32>;
@group(0) @binding(9) var<storage, read_write> sums: array<f32>;

// Per row: the depth-independent part of its address (x, y, z) and its offset in the result (w).
var<workgroup> origins: array<vec4<u32>, 8u * TY>;

// The tile of a workgroup in a product.
struct Tile {
    // Group of images.
    group: u32,
    // Split of the depth.
    split: u32,
    // First row, counted in the group or its phase.
    first_row: u32,
    // First column.
    first_column: u32,
    // Rows from the first one to the end of the group or the phase.
    rows: u32,
    // Entry of `sums` of the first row.
    first_part: u32,
    // End of the entries of `sums` of this group or phase.
    end_part: u32,
}

// A number of left, or 0 at NOWHERE.
fn one_of_left(at: u32) -> f32 {
    if at == NOWHERE { return 0.0; }
    return left[at / 4u][at % 4u];
}

// Four neighbouring numbers of left, or 0 at NOWHERE.
fn four_of_left(at: u32) -> vec4<f32> {
    if at == NOWHERE { return vec4<f32>(); }
    return left[at / 4u];
}

// A number of right, or 0 at NOWHERE.
fn one_of_right(at: u32) -> f32 {
    if at == NOWHERE { return 0.0; }
    return right[at / 4u][at % 4u];
}

// Four neighbouring numbers of right, or 0 at NOWHERE.
fn four_of_right(at: u32) -> vec4<f32> {
    if at == NOWHERE { return vec4<f32>(); }
    return right[at / 4u];
}

// The bias of a channel; 0 for partial sums, where the reduction adds it.
fn bias_of(channel: u32) -> f32 {
    if HAS_BIAS && SPLITS == 1u { return b[channel]; }
    return 0.0;
}

// Applies the activation, or its derivative, to an element of the complete result.
fn write_epilogue(i: u32, value: f32) {
    if KIND == NONE { return; }
    if BACKWARD {
        activated[i] = value * derivative_at(activated_y[i]);
    } else {
        activated[i] = function_of(value);
    }
}

// Writes an element of a partial sum, or of the result and its epilogue with one split.
fn store(i: u32, value: f32) {
    partials[i] = value;
    if SPLITS == 1u { write_epilogue(i, value); }
}

// Rows of a lane: 8, or 0 for lanes beyond TX * TY, which only help to load and to multiply.
fn rows_of_lane(lane: u32) -> u32 {
    return select(0u, 8u, lane < TX * TY);
}

// Stores the sums of an invocation. Waits first, since a tile of no depth has not met a barrier after writing `origins`.
fn store_all(products: ptr<function, Products>, tile: Tile, lane: u32, columns: u32) {
    wait(products, lane);
    let column = tile.first_column + 8u * (lane % TX);
    for (var r = 0u; r < rows_of_lane(lane); r++) {
        let at_row = origins[8u * (lane / TX) + r].w;
        let values = product_row(products, lane, r);
        for (var o = 0u; o < 8u; o++) {
            if at_row != NOWHERE && column + o < columns {
                store(at_row + column + o, values[o] + bias_of(column + o));
            }
        }
    }
}

// Rows of part k of the tile.
fn rows_of_part(tile: Tile, k: u32) -> u32 {
    return min(max(tile.rows, k * PART_ROWS) - k * PART_ROWS, PART_ROWS);
}

// The sum over the lanes of part k, in order, of what they shared in memory A for a column.
fn total_in_a(k: u32, column: u32) -> f32 {
    var total = 0.0;
    for (var y = k * PART_ROWS / 8u; y < (k + 1u) * PART_ROWS / 8u; y++) {
        total += shared_in_a(8u * TX * y + column);
    }
    return total;
}

// The same of memory B.
fn total_in_b(k: u32, column: u32) -> f32 {
    var total = 0.0;
    for (var y = k * PART_ROWS / 8u; y < (k + 1u) * PART_ROWS / 8u; y++) {
        total += shared_in_b(8u * TX * y + column);
    }
    return total;
}

// Writes the two sums of part k of the tile for a column.
fn write_partial(tile: Tile, k: u32, column: u32, columns: u32, first: f32, second: f32) {
    let part = tile.first_part + k;
    let c = tile.first_column + column;
    if part >= tile.end_part || c >= columns { return; }
    let at = (tile.group * PARTS + part) * (2u * columns + 1u);
    sums[at + c] = first;
    sums[at + columns + c] = second;
    if c == 0u { sums[at + 2u * columns] = f32(rows_of_part(tile, k)); }
}

fn store_with_statistics(products: ptr<function, Products>, tile: Tile, lane: u32, columns: u32) {
    store_all(products, tile, lane, columns);
    let column = 8u * (lane % TX);
    let y = lane / TX;
    let rows = min(max(tile.rows, 8u * y) - 8u * y, rows_of_lane(lane));
    var own = array<f32, 8>();
    for (var r = 0u; r < rows; r++) {
        let values = product_row(products, lane, r);
        for (var o = 0u; o < 8u; o++) {
            own[o] += values[o];
        }
    }
    for (var o = 0u; o < rows_of_lane(lane); o++) {
        share_in_a(8u * lane + o, own[o]);
    }
    workgroupBarrier();
    let adds = lane < COLUMN_SUMS;
    let part = lane / (8u * TX);
    let of_tile = lane % (8u * TX);
    if adds { share_in_b(lane, total_in_a(part, of_tile)); }
    workgroupBarrier();
    let k = 8u * y / PART_ROWS;
    let in_part = f32(rows_of_part(tile, k));
    var squares = array<f32, 8>();
    for (var r = 0u; r < rows; r++) {
        let values = product_row(products, lane, r);
        for (var o = 0u; o < 8u; o++) {
            let centred = values[o] - shared_in_b(8u * TX * k + column + o) / in_part;
            squares[o] += centred * centred;
        }
    }
    for (var o = 0u; o < rows_of_lane(lane); o++) {
        share_in_a(8u * lane + o, squares[o]);
    }
    workgroupBarrier();
    if adds { write_partial(tile, part, of_tile, columns, shared_in_b(lane), total_in_a(part, of_tile)); }
}

fn store_with_gradient_sums(products: ptr<function, Products>, tile: Tile, lane: u32, columns: u32) {
    wait(products, lane);
    let column = tile.first_column + 8u * (lane % TX);
    var first = array<f32, 8>();
    var second = array<f32, 8>();
    for (var r = 0u; r < rows_of_lane(lane); r++) {
        let at_row = origins[8u * (lane / TX) + r].w;
        let values = product_row(products, lane, r);
        for (var o = 0u; o < 8u; o++) {
            let c = column + o;
            if at_row == NOWHERE || c >= columns { continue; }
            let i = at_row + c;
            let value = values[o] * derivative_at(activated_y[i]);
            let mean = saved[tile.group * 2u * columns + c];
            let inv_std = saved[tile.group * 2u * columns + columns + c];
            partials[i] = values[o];
            activated[i] = value;
            first[o] += value;
            second[o] += value * ((normalised_x[i] - mean) * inv_std);
        }
    }
    for (var o = 0u; o < rows_of_lane(lane); o++) {
        share_in_a(8u * lane + o, first[o]);
        share_in_b(8u * lane + o, second[o]);
    }
    workgroupBarrier();
    if lane < COLUMN_SUMS {
        let part = lane / (8u * TX);
        let of_tile = lane % (8u * TX);
        write_partial(tile, part, of_tile, columns, total_in_a(part, of_tile), total_in_b(part, of_tile));
    }
}

// Index in x of the term `depth` of a patch. Lines and columns before the first wrap to large numbers.
fn patch_at(origin: vec4<u32>, depth: u32, depths: u32) -> u32 {
    let tap = depth / C_IN;
    let p = origin.y + tap / K;
    let q = origin.z + tap % K;
    let at = origin.x + (p * W + q) * C_IN + depth % C_IN;
    return select(NOWHERE, at, depth < depths && p < H && q < W);
}

fn four_of_patch(origin: vec4<u32>, depth: u32, depths: u32) -> vec4<f32> {
    if C_IN % 4u == 0u { return four_of_left(patch_at(origin, depth, depths)); }
    return vec4<f32>(
        one_of_left(patch_at(origin, depth, depths)),
        one_of_left(patch_at(origin, depth + 1u, depths)),
        one_of_left(patch_at(origin, depth + 2u, depths)),
        one_of_left(patch_at(origin, depth + 3u, depths))
    );
}

// Index in w, or in dy as the right operand of grad_weight, of column o at a depth.
fn column_at(depth: u32, end: u32, o: u32) -> u32 {
    return select(NOWHERE, depth * C_OUT + o, depth < end && o < C_OUT);
}

fn four_columns(depth: u32, end: u32, o: u32) -> vec4<f32> {
    if C_OUT % 4u == 0u { return four_of_right(column_at(depth, end, o)); }
    return vec4<f32>(
        one_of_right(column_at(depth, end, o)),
        one_of_right(column_at(depth, end, o + 1u)),
        one_of_right(column_at(depth, end, o + 2u)),
        one_of_right(column_at(depth, end, o + 3u))
    );
}

// Origin of the patch of a pixel of y: offset of its image, first line and first column (before the first they wrap to large
// numbers, so that one comparison covers both edges), and the pixel's offset in y.
fn patch_origin(pixel: u32) -> vec4<u32> {
    let j = pixel % W_OUT;
    let i = (pixel / W_OUT) % H_OUT;
    let n = pixel / (W_OUT * H_OUT);
    return vec4<u32>(n * H * W * C_IN, i * STRIDE - PAD, j * STRIDE - PAD, pixel * C_OUT);
}

// Computes the tile of a workgroup of the product forward.
fn forward_products(id: vec3<u32>, tiles: u32, lane: u32, products: ptr<function, Products>) -> Tile {
    let rows = N / GROUPS * H_OUT * W_OUT;
    let group = id.y / tiles;
    let first_row = id.y % tiles * 8u * TY;
    let first_column = id.x * 8u * TX;
    let first_depth = id.z * SPLIT_DEPTH;
    let depths = min(K * K * C_IN, first_depth + SPLIT_DEPTH);
    let tile = Tile(group, id.z, first_row, first_column, rows - first_row, first_row / PART_ROWS, PARTS);

    for (var row = lane; row < 8u * TY; row += LANES) {
        let origin = patch_origin(group * rows + first_row + row);
        let in_split = id.z * GROUPS * rows * C_OUT + origin.w;
        let beyond = first_row + row >= rows;
        origins[row] =
            vec4<u32>(origin.x, select(origin.y, NOWHERE - K, beyond), origin.z, select(in_split, NOWHERE, beyond));
    }

    for (var start = first_depth; start < depths; start += DEPTH) {
        workgroupBarrier();
        for (var e = lane; e < DEPTH / 4u * 8u * TY; e += LANES) {
            let depth = 4u * (e % (DEPTH / 4u));
            let row = e / (DEPTH / 4u);
            store_depths_of_a(depth, row, four_of_patch(origins[row], start + depth, depths));
        }
        for (var e = lane; e < DEPTH * 2u * TX; e += LANES) {
            let depth = e / (2u * TX);
            let column = 4u * (e % (2u * TX));
            store_columns_of_b(depth, column, four_columns(start + depth, depths, first_column + column));
        }
        workgroupBarrier();
        multiply(products, lane);
    }
    return tile;
}

@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let tile = forward_products(id, workgroups.y / GROUPS, lane, &products);
    store_all(&products, tile, lane, C_OUT);
}

@compute @workgroup_size(LANES)
fn forward_and_statistics(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let tile = forward_products(id, workgroups.y / GROUPS, lane, &products);
    store_with_statistics(&products, tile, lane, C_OUT);
}

@compute @workgroup_size(LANES)
fn forward_and_gradient_sums(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let tile = forward_products(id, workgroups.y / GROUPS, lane, &products);
    store_with_gradient_sums(&products, tile, lane, C_OUT);
}

// Stores a row of at most four columns.
fn store_row(first: u32, values: vec4<f32>, columns: u32) {
    for (var c = 0u; c < columns; c++) {
        store(first + c, values[c] + bias_of(c));
    }
}

@compute @workgroup_size(64)
fn narrow_forward(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N * H_OUT * W_OUT { return; }
    let origin = patch_origin(id.x);
    let depths = K * K * C_IN;
    var values = vec4<f32>();
    for (var depth = 0u; depth < depths; depth += 4u) {
        let a = four_of_patch(origin, depth, depths);
        for (var o = 0u; o < C_OUT; o++) {
            for (var d = 0u; d < 4u; d++) {
                values[o] += a[d] * one_of_right(column_at(depth + d, depths, o));
            }
        }
    }
    store_row(origin.w, values, C_OUT);
}

// The pixels of a phase along an axis: the first one, and their number.
fn phase_pixels(phase: u32, size: u32) -> vec2<u32> {
    let first = (phase + STRIDE - PAD % STRIDE) % STRIDE;
    return vec2<u32>(first, (max(size, first) - first + STRIDE - 1u) / STRIDE);
}

// Whether any of the pixels from `first` to `last` is reached by tap number `tap` of its phase from inside dy.
fn tap_reaches(first: u32, last: u32, tap: u32, size_out: u32) -> bool {
    return (last + PAD) / STRIDE >= tap && (first + PAD) / STRIDE < size_out + tap;
}

// Index in dy of what reaches a row through the tap of a depth. Lines and columns before the first wrap to large numbers, so one
// comparison covers both edges.
fn gradient_at(origin: vec4<u32>, taps: vec2<u32>, depth: u32, depths: u32) -> u32 {
    let tap = depth / C_OUT;
    let i = origin.y - tap / taps.y;
    let j = origin.z - tap % taps.y;
    let at = origin.x + (i * W_OUT + j) * C_OUT + depth % C_OUT;
    return select(NOWHERE, at, depth < depths && i < H_OUT && j < W_OUT);
}

fn four_of_gradient(origin: vec4<u32>, taps: vec2<u32>, depth: u32, depths: u32) -> vec4<f32> {
    if C_OUT % 4u == 0u { return four_of_left(gradient_at(origin, taps, depth, depths)); }
    return vec4<f32>(
        one_of_left(gradient_at(origin, taps, depth, depths)),
        one_of_left(gradient_at(origin, taps, depth + 1u, depths)),
        one_of_left(gradient_at(origin, taps, depth + 2u, depths)),
        one_of_left(gradient_at(origin, taps, depth + 3u, depths))
    );
}

// Index in w of channel c at a depth of a phase.
fn tap_weight_at(phase: vec2<u32>, taps: vec2<u32>, depth: u32, depths: u32, c: u32) -> u32 {
    let tap = depth / C_OUT;
    let u = phase.x + STRIDE * (tap / taps.y);
    let v = phase.y + STRIDE * (tap % taps.y);
    return select(NOWHERE, ((u * K + v) * C_IN + c) * C_OUT + depth % C_OUT, depth < depths && c < C_IN);
}

fn four_tap_weights(phase: vec2<u32>, taps: vec2<u32>, depth: u32, depths: u32, c: u32) -> vec4<f32> {
    if C_OUT % 4u == 0u { return four_of_right(tap_weight_at(phase, taps, depth, depths, c)); }
    return vec4<f32>(
        one_of_right(tap_weight_at(phase, taps, depth, depths, c)),
        one_of_right(tap_weight_at(phase, taps, depth + 1u, depths, c)),
        one_of_right(tap_weight_at(phase, taps, depth + 2u, depths, c)),
        one_of_right(tap_weight_at(phase, taps, depth + 3u, depths, c))
    );
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
    let origin = vec4<u32>(n * H_OUT * W_OUT * C_OUT, (p + PAD) / STRIDE, (q + PAD) / STRIDE, 0u);
    let taps = (K + STRIDE - 1u - phase) / STRIDE;
    let depths = taps.x * taps.y * C_OUT;
    var values = vec4<f32>();
    for (var depth = 0u; depth < depths; depth += 4u) {
        let a = four_of_gradient(origin, taps, depth, depths);
        for (var c = 0u; c < C_IN; c++) {
            values[c] += dot(a, four_tap_weights(phase, taps, depth, depths, c));
        }
    }
    store_row(((n * H + p) * W + q) * C_IN, values, C_IN);
}

// Computes the tile of a workgroup of the product grad_input.
fn grad_input_products(id: vec3<u32>, tiles: u32, lane: u32, products: ptr<function, Products>) -> Tile {
    let split = id.z / (STRIDE * STRIDE);
    let number = id.z % (STRIDE * STRIDE);
    let phase = vec2<u32>(number / STRIDE, number % STRIDE);
    let lines = phase_pixels(phase.x, H);
    let columns = phase_pixels(phase.y, W);
    let images = N / GROUPS;
    let rows = images * lines.y * columns.y;
    let group = id.y / tiles;
    let first_row = id.y % tiles * 8u * TY;
    let first_column = id.x * 8u * TX;
    // Number of taps u = phase, phase + STRIDE, ... along each axis.
    let taps = (K + STRIDE - 1u - phase) / STRIDE;
    let first_depth = split * SPLIT_DEPTH;
    // Phases differ in size: a workgroup beyond the last row has no depth.
    let depths = select(0u, min(taps.x * taps.y * C_OUT, first_depth + SPLIT_DEPTH), first_row < rows);
    let phase_parts = PARTS / (STRIDE * STRIDE);
    let tile = Tile(
        group,
        split,
        first_row,
        first_column,
        max(rows, first_row) - first_row,
        number * phase_parts + first_row / PART_ROWS,
        (number + 1u) * phase_parts
    );

    // Each row's image, and the output pixel that reaches it through the first tap of its phase.
    for (var row = lane; row < 8u * TY; row += LANES) {
        let n = group * images + (first_row + row) % images;
        let pixel = (first_row + row) / images;
        let p = lines.x + STRIDE * (pixel / columns.y);
        let q = columns.x + STRIDE * (pixel % columns.y);
        let beyond = first_row + row >= rows;
        origins[row] = vec4<u32>(
            n * H_OUT * W_OUT * C_OUT,
            select((p + PAD) / STRIDE, NOWHERE, beyond),
            (q + PAD) / STRIDE,
            select((((split * N + n) * H + p) * W + q) * C_IN, NOWHERE, beyond)
        );
    }

    // The smallest rectangle around the pixels of this tile.
    let first_pixel = first_row / images;
    let last_pixel = (min(first_row + 8u * TY, rows) - 1u) / images;
    let first_p = lines.x + STRIDE * (first_pixel / columns.y);
    let last_p = lines.x + STRIDE * (last_pixel / columns.y);
    let one_line = first_p == last_p;
    let first_q = columns.x + STRIDE * select(0u, first_pixel % columns.y, one_line);
    let last_q = columns.x + STRIDE * select(columns.y - 1u, last_pixel % columns.y, one_line);

    for (var start = first_depth; start < depths; start += DEPTH) {
        let tap_of_all = start / C_OUT;
        if tap_of_all == (min(start + DEPTH, depths) - 1u) / C_OUT
            && !(tap_reaches(first_p, last_p, tap_of_all / taps.y, H_OUT)
            && tap_reaches(first_q, last_q, tap_of_all % taps.y, W_OUT)) {
            continue;
        }
        workgroupBarrier();
        for (var e = lane; e < DEPTH / 4u * 8u * TY; e += LANES) {
            let depth = 4u * (e % (DEPTH / 4u));
            let row = e / (DEPTH / 4u);
            store_depths_of_a(depth, row, four_of_gradient(origins[row], taps, start + depth, depths));
        }
        for (var e = lane; e < DEPTH / 4u * 8u * TX; e += LANES) {
            let depth = 4u * (e % (DEPTH / 4u));
            let column = e / (DEPTH / 4u);
            store_depths_of_b(depth, column, four_tap_weights(phase, taps, start + depth, depths, first_column + column));
        }
        workgroupBarrier();
        multiply(products, lane);
    }
    return tile;
}

@compute @workgroup_size(LANES)
fn grad_input(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let tile = grad_input_products(id, workgroups.y / GROUPS, lane, &products);
    store_all(&products, tile, lane, C_IN);
}

@compute @workgroup_size(LANES)
fn grad_input_and_statistics(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let tile = grad_input_products(id, workgroups.y / GROUPS, lane, &products);
    store_with_statistics(&products, tile, lane, C_IN);
}

@compute @workgroup_size(LANES)
fn grad_input_and_gradient_sums(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let tile = grad_input_products(id, workgroups.y / GROUPS, lane, &products);
    store_with_gradient_sums(&products, tile, lane, C_IN);
}

// Index in x of what a pixel of dy sees through the tap and channel of a row of the tile.
fn tap_at(row: u32, pixel: u32, end: u32) -> u32 {
    let j = pixel % W_OUT;
    let i = (pixel / W_OUT) % H_OUT;
    let n = pixel / (W_OUT * H_OUT);
    let p = i * STRIDE + origins[row].x;
    let q = j * STRIDE + origins[row].y;
    return select(NOWHERE, ((n * H + p) * W + q) * C_IN + origins[row].z, pixel < end && p < H && q < W);
}

fn four_taps(row: u32, pixel: u32, end: u32) -> vec4<f32> {
    if C_IN % 4u == 0u { return four_of_left(tap_at(row, pixel, end)); }
    return vec4<f32>(
        one_of_left(tap_at(row, pixel, end)),
        one_of_left(tap_at(row + 1u, pixel, end)),
        one_of_left(tap_at(row + 2u, pixel, end)),
        one_of_left(tap_at(row + 3u, pixel, end))
    );
}

@compute @workgroup_size(LANES)
fn grad_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = K * K * C_IN;
    let first_row = group.y * 8u * TY;
    let first_column = group.x * 8u * TX;
    let end = min(N * H_OUT * W_OUT, (group.z + 1u) * SPLIT_DEPTH);

    // Each row's tap and channel.
    for (var row = lane; row < 8u * TY; row += LANES) {
        let weight = first_row + row;
        let tap = weight / C_IN;
        let beyond = weight >= rows;
        origins[row] = vec4<u32>(
            select(tap / K - PAD, NOWHERE - H_OUT * STRIDE, beyond),
            tap % K - PAD,
            weight % C_IN,
            select((group.z * rows + weight) * C_OUT, NOWHERE, beyond)
        );
    }

    var products = Products();
    for (var start = group.z * SPLIT_DEPTH; start < end; start += DEPTH) {
        workgroupBarrier();
        for (var e = lane; e < DEPTH * 2u * TY; e += LANES) {
            let depth = e / (2u * TY);
            let row = 4u * (e % (2u * TY));
            store_rows_of_a(depth, row, four_taps(row, start + depth, end));
        }
        for (var e = lane; e < DEPTH * 2u * TX; e += LANES) {
            let depth = e / (2u * TX);
            let column = 4u * (e % (2u * TX));
            store_columns_of_b(depth, column, four_columns(start + depth, end, first_column + column));
        }
        workgroupBarrier();
        multiply(&products, lane);
    }

    wait(&products, lane);
    for (var r = 0u; r < rows_of_lane(lane); r++) {
        let at_row = origins[8u * (lane / TX) + r].w;
        let values = product_row(&products, lane, r);
        for (var o = 0u; o < 8u; o++) {
            let column = first_column + 8u * (lane % TX) + o;
            if at_row != NOWHERE && column < C_OUT { partials[at_row + column] = values[o]; }
        }
    }
}

@compute @workgroup_size(256)
fn reduce_partials(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        var sum = 0.0;
        for (var s = 0u; s < SPLITS; s++) {
            sum += partials[s * LEN + i];
        }
        if HAS_BIAS { sum += b[i % BIAS_LEN]; }
        result[i] = sum;
        write_epilogue(i, sum);
    }
}
