// conv.wgsl: convolution and its two gradients as tiled matrix products (implicit GEMM: the im2col matrix is never stored). Compiled
// after function.wgsl and conv_sizes.wgsl.
//
//   forward           y[n,i,j,o]  = b[o] + sum_{u,v,c} x[n,p,q,c] * w[u,v,c,o]
//   grad_input        dx[n,p,q,c] = b[c] + sum_{u,v,o} dy[n,i,j,o] * w[u,v,c,o];  a transposed convolution is this, applied to dy
//   grad_weight       dw[u,v,c,o] = sum_{n,i,j} x[n,p,q,c] * dy[n,i,j,o]
//                     with p = i*STRIDE + u - PAD, q = j*STRIDE + v - PAD;  x and dy are 0 outside their edges
//                     with BIAS_AT also the gradient of the bias (conv_bias.wgsl)
//   *_and_statistics, *_and_gradient_sums   the same, with an epilogue for batch normalisation (conv_epilogue.wgsl)
//
// Files     conv_sizes.wgsl has the sizes, and the epilogue's activation is that of function.wgsl. This file loads the tiles, calls the others
//           and has all bindings. tile.wgsl, or matrices.wgsl in its place, has the tiles:
//             store_depths_of_a, store_rows_of_a, store_depths_of_b, store_columns_of_b   put vectors into them
//             rows_at, columns_at                    read them
//             Products, multiply, four_of_row        sums of an invocation, and their rows
//             wait, share_block, shared_block, share_total, shared_total   memory that the epilogue shares, after the last stage
//           conv_epilogue.wgsl has store_all, store_partials, store_with_statistics and store_with_gradient_sums, conv_bias.wgsl
//           has adds_depth, add_depth and store_bias_gradient, and conv_narrow.wgsl has entry points of its own.
//
// Split-K   Where there would be too few workgroups, the depth is cut into SPLITS ranges of SPLIT_DEPTH terms.
//           Each writes its own partial sums, without bias or epilogue; partials.wgsl adds them, or the kernel that reads the result.
//           With one split, `partials` is the result.
//
// Shapes    left is x, dy, x  and right is w, w, dy  of the three products
//           x, dx (N, H, W, C_IN)    w, dw (K, K, C_IN, C_OUT)    y, dy (N, H_OUT, W_OUT, C_OUT)    b (C_OUT), of dx (C_IN)
//           partials (SPLITS, shape of the result), from BIAS_AT on (SPLITS, shape of the bias)
//           activated_y, activated, normalised_x of the result's shape
//           sums (GROUPS, PARTS, 2 * columns + 1), saved (GROUPS, 2, columns);  a part is PART_ROWS rows
// Mapping   A workgroup computes a tile of ROWS rows and COLUMNS columns of  A (rows, depth) * B (depth, columns)  in stages of DEPTH
//           terms that go through workgroup memory. An invocation loads its vectors of the next stage, at most four of each tile,
//           before it multiplies this one, so it waits for memory once.
//           The order of each sum, and so its bits, do not depend on the shape of the tile.
//             forward       rows (n,i,j) of a group            depth (u,v,c)   columns o
//             grad_input    rows (p,q,n) of a group, a phase   depth (u,v,o)   columns c;  phases are along z, too
//             grad_weight   rows (u,v,c)                       depth (n,i,j)   columns o
//           Groups of N / GROUPS images follow each other along y, so that no tile has rows of two groups. Splits are along z.
//           A vector is one load where the channels along which it lies are a multiple of four, else four loads.
//           A phase is the pixels with the same (p + PAD) % STRIDE and (q + PAD) % STRIDE: the same taps (u,v) reach all of
//           them, so the product is dense, and no zero between the strides is ever multiplied. Its rows run over the images
//           fastest, so that a tile covers few pixels and skips the taps that all of them have beyond the edge.
// Twin      src/cpu/conv.rs

// Groups of images, for the sums of batch normalisation.
override GROUPS: u32 = 1u;
// Entries of `sums` for each group.
override PARTS: u32 = 1u;
// Invocations along the columns of a tile, a multiple of STRIP.
override TX: u32 = 16u;
// Invocations along the rows of a tile.
override TY: u32 = 16u;
// Invocations of a workgroup: at least ROWS, and TX * TY or more, which then only load. Tile A has one, two or four times as many vectors,
// and tile B at most four times as many.
override LANES: u32 = 256u;
// Blocks of four rows of an invocation, 1 or 2; 2 only where ACROSS is 2.
override DOWN: u32 = 1u;
// Blocks of four columns of an invocation, 1 or 2.
override ACROSS: u32 = 1u;
// Whether the number of terms of a stage is hidden from the compiler, so that it does not unroll them.
override ROLLED: bool = false;
// Where the partial sums of the gradient of the bias begin in `partials`; 0 where grad_weight does not compute it.
override BIAS_AT: u32 = 0u;
// Whether that is the bias of a transposed convolution.
override BIAS_OF_LEFT: bool = false;
// By how many vectors those of depths 4.., 8.. and 12.. of a tile are moved (by exclusive or): 2 keeps invocations that store depths of one
// row out of one memory bank. Only tiles of a multiple of 8 vectors are moved.
override SWIZZLE: u32 = 0u;
// Vectors of four rows of tile A, for each depth.
override LINE_A: u32 = TY * DOWN;
// Vectors of four columns of tile B, for each depth.
override LINE_B: u32 = TX * ACROSS;
// Rows of a tile.
override ROWS: u32 = 4u * LINE_A;
// Columns of a tile.
override COLUMNS: u32 = 4u * LINE_B;
// Vectors of tile A.
override A_VECTORS: u32 = DEPTH * LINE_A;
// Vectors of tile B.
override B_VECTORS: u32 = DEPTH * LINE_B;
// Vectors of four columns, or rows, whose depth the gradient of the bias is.
override DEPTH_SUMS: u32 = max(LINE_A, LINE_B);
// Invocations are in strips of this many columns, so that those that read at a time read few vectors of both tiles.
override STRIP: u32 = min(8u, TX);
// Rows of an entry of `sums`; a tile has one or more.
override PART_ROWS: u32 = ROWS;
// Vectors of four columns of the sums of all parts of a tile; not more than LANES.
override TOTALS: u32 = LINE_B * (ROWS / PART_ROWS);

// Terms of a stage.
const DEPTH = 16u;
// Address of a number that does not exist and counts as 0.
const NOWHERE = 0xffffffffu;

// The three products.
const FORWARD = 0u;
const GRAD_INPUT = 1u;
const GRAD_WEIGHT = 2u;

@group(0) @binding(0) var<storage, read> left: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> right: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
@group(0) @binding(4) var<storage, read> activated_y: array<f32>;
@group(0) @binding(5) var<storage, read_write> activated: array<f32>;
@group(0) @binding(6) var<storage, read> normalised_x: array<f32>;
@group(0) @binding(7) var<storage, read> saved: array<f32>;
@group(0) @binding(8) var<storage, read_write> sums: array<f32>;

// Per row: the depth-independent part of its address (x) and of its line and column (y, z), and its offset in the result (w).
var<workgroup> origins: array<vec4<u32>, ROWS>;

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
    // First term of the sums.
    first_depth: u32,
    // End of the terms of the sums.
    end_depth: u32,
    // Entry of `sums` of the first row.
    first_part: u32,
    // End of the entries of `sums` of this group or phase.
    end_part: u32,
    // The phase of grad_input.
    phase: vec2<u32>,
    // Number of taps of the phase, u = phase, phase + STRIDE, ... along each axis.
    taps: vec2<u32>,
    // The smallest rectangle around the pixels of the tile in grad_input: its first pixel.
    first_pixel: vec2<u32>,
    // Its last pixel.
    last_pixel: vec2<u32>,
}

// Where a number is in a tensor.
struct Address {
    at: u32,
    // Whether it exists; otherwise it counts as 0.
    exists: bool,
}

// The vectors of a stage that an invocation loads.
struct Stage {
    a0: vec4<f32>,
    a1: vec4<f32>,
    a2: vec4<f32>,
    a3: vec4<f32>,
    b0: vec4<f32>,
    b1: vec4<f32>,
    b2: vec4<f32>,
    b3: vec4<f32>,
}

// Always loads, so that loads do not wait for a branch.
fn one_of_left(address: Address) -> f32 {
    let at = select(0u, address.at, address.exists);
    return select(0.0, left[at / 4u][at % 4u], address.exists);
}

fn four_of_left(address: Address) -> vec4<f32> {
    return select(vec4<f32>(), left[select(0u, address.at / 4u, address.exists)], address.exists);
}

fn one_of_right(address: Address) -> f32 {
    let at = select(0u, address.at, address.exists);
    return select(0.0, right[at / 4u][at % 4u], address.exists);
}

fn four_of_right(address: Address) -> vec4<f32> {
    return select(vec4<f32>(), right[select(0u, address.at / 4u, address.exists)], address.exists);
}

// The tap of a depth. Where a stage lies within one tap, it is computed from the stage's first depth, which is the same for all
// invocations.
fn tap_of(depth: u32, start: u32, channels: u32) -> u32 {
    return select(depth, start, channels % DEPTH == 0u) / channels;
}

// Address in x of a term of a patch. Lines and columns before the first wrap to large numbers, so one comparison covers both edges.
fn patch_at(origin: vec4<u32>, tap: u32, depth: u32, end: u32) -> Address {
    let u = tap / K;
    let v = tap % K;
    let at = origin.x + (u * W + v) * C_IN + (depth - tap * C_IN);
    return Address(at, depth < end && origin.y + u < H && origin.z + v < W);
}

fn four_of_patch(origin: vec4<u32>, start: u32, depth: u32, end: u32) -> vec4<f32> {
    if C_IN % 4u == 0u { return four_of_left(patch_at(origin, tap_of(depth, start, C_IN), depth, end)); }
    var four = vec4<f32>();
    for (var d = 0u; d < 4u; d++) {
        four[d] = one_of_left(patch_at(origin, (depth + d) / C_IN, depth + d, end));
    }
    return four;
}

// Address in w, or in dy as the right operand of grad_weight, of column o at a depth.
fn column_at(depth: u32, end: u32, o: u32) -> Address {
    return Address(depth * C_OUT + o, depth < end && o < C_OUT);
}

fn four_columns(depth: u32, end: u32, o: u32) -> vec4<f32> {
    if C_OUT % 4u == 0u { return four_of_right(column_at(depth, end, o)); }
    var four = vec4<f32>();
    for (var c = 0u; c < 4u; c++) {
        four[c] = one_of_right(column_at(depth, end, o + c));
    }
    return four;
}

// Address in dy of what reaches a row through the tap of a depth.
fn gradient_at(origin: vec4<u32>, taps: vec2<u32>, tap: u32, depth: u32, end: u32) -> Address {
    let u = tap / taps.y;
    let v = tap % taps.y;
    let at = origin.x - (u * W_OUT + v) * C_OUT + (depth - tap * C_OUT);
    return Address(at, depth < end && origin.y - u < H_OUT && origin.z - v < W_OUT);
}

fn four_of_gradient(origin: vec4<u32>, taps: vec2<u32>, start: u32, depth: u32, end: u32) -> vec4<f32> {
    if C_OUT % 4u == 0u { return four_of_left(gradient_at(origin, taps, tap_of(depth, start, C_OUT), depth, end)); }
    var four = vec4<f32>();
    for (var d = 0u; d < 4u; d++) {
        four[d] = one_of_left(gradient_at(origin, taps, (depth + d) / C_OUT, depth + d, end));
    }
    return four;
}

// Address in w of channel c at a depth of a phase.
fn tap_weight_at(phase: vec2<u32>, taps: vec2<u32>, tap: u32, depth: u32, end: u32, c: u32) -> Address {
    let u = phase.x + STRIDE * (tap / taps.y);
    let v = phase.y + STRIDE * (tap % taps.y);
    return Address(((u * K + v) * C_IN + c) * C_OUT + (depth - tap * C_OUT), depth < end && c < C_IN);
}

fn four_tap_weights(phase: vec2<u32>, taps: vec2<u32>, start: u32, depth: u32, end: u32, c: u32) -> vec4<f32> {
    if C_OUT % 4u == 0u {
        return four_of_right(tap_weight_at(phase, taps, tap_of(depth, start, C_OUT), depth, end, c));
    }
    var four = vec4<f32>();
    for (var d = 0u; d < 4u; d++) {
        four[d] = one_of_right(tap_weight_at(phase, taps, (depth + d) / C_OUT, depth + d, end, c));
    }
    return four;
}

// Address in x of what a pixel of dy sees through the tap and channel of a row of the tile.
fn tap_at(row: u32, pixel: u32, end: u32) -> Address {
    let j = pixel % W_OUT;
    let i = (pixel / W_OUT) % H_OUT;
    let n = pixel / (W_OUT * H_OUT);
    let origin = origins[row];
    let at = ((n * H + i * STRIDE) * W + j * STRIDE) * C_IN + origin.x;
    return Address(at, pixel < end && i * STRIDE + origin.y < H && j * STRIDE + origin.z < W);
}

fn four_taps(row: u32, pixel: u32, end: u32) -> vec4<f32> {
    if C_IN % 4u == 0u { return four_of_left(tap_at(row, pixel, end)); }
    var four = vec4<f32>();
    for (var r = 0u; r < 4u; r++) {
        four[r] = one_of_left(tap_at(row + r, pixel, end));
    }
    return four;
}

// Origin of the patch of a pixel of y: address, line and column of its first number (before the first ones of x they wrap to large
// numbers), and the pixel's offset in y.
fn patch_origin(pixel: u32) -> vec4<u32> {
    let j = pixel % W_OUT;
    let i = (pixel / W_OUT) % H_OUT;
    let n = pixel / (W_OUT * H_OUT);
    let p = i * STRIDE - PAD;
    let q = j * STRIDE - PAD;
    return vec4<u32>(((n * H + p) * W + q) * C_IN, p, q, pixel * C_OUT);
}

// The pixel of dy that reaches a pixel of dx through the first tap of its phase: its address, line and column. The last is 0.
fn gradient_origin(n: u32, p: u32, q: u32) -> vec4<u32> {
    let i = (p + PAD) / STRIDE;
    let j = (q + PAD) / STRIDE;
    return vec4<u32>(((n * H_OUT + i) * W_OUT + j) * C_OUT, i, j, 0u);
}

// Whether any of the pixels from `first` to `last` is reached by tap number `tap` of its phase from inside dy.
fn tap_reaches(first: u32, last: u32, tap: u32, size_out: u32) -> bool {
    return (last + PAD) / STRIDE >= tap && (first + PAD) / STRIDE < size_out + tap;
}

fn forward_tile(id: vec3<u32>, lane: u32) -> Tile {
    let rows = N / GROUPS * H_OUT * W_OUT;
    let tiles = (rows + ROWS - 1u) / ROWS;
    var tile = Tile();
    tile.group = id.y / tiles;
    tile.split = id.z;
    tile.first_row = id.y % tiles * ROWS;
    tile.first_column = id.x * COLUMNS;
    tile.rows = rows - tile.first_row;
    tile.first_depth = id.z * SPLIT_DEPTH;
    tile.end_depth = min(K * K * C_IN, tile.first_depth + SPLIT_DEPTH);
    tile.first_part = tile.first_row / PART_ROWS;
    tile.end_part = PARTS;
    if lane < ROWS {
        let row = lane; // there are at least as many invocations as rows
        let origin = patch_origin(tile.group * rows + tile.first_row + row);
        let in_split = id.z * GROUPS * rows * C_OUT + origin.w;
        let beyond = row >= tile.rows;
        origins[row] =
            vec4<u32>(origin.x, select(origin.y, NOWHERE - K, beyond), origin.z, select(in_split, NOWHERE, beyond));
    }
    return tile;
}

fn grad_input_tile(id: vec3<u32>, lane: u32) -> Tile {
    let number = id.z % (STRIDE * STRIDE);
    let phase = vec2<u32>(number / STRIDE, number % STRIDE);
    let lines = phase_pixels(phase.x, H);
    let columns = phase_pixels(phase.y, W);
    let images = N / GROUPS;
    let rows = images * lines.y * columns.y;
    // All phases have the tiles of the largest one.
    let most_rows = images * ((H + STRIDE - 1u) / STRIDE) * ((W + STRIDE - 1u) / STRIDE);
    let tiles = (most_rows + ROWS - 1u) / ROWS;
    let phase_parts = PARTS / (STRIDE * STRIDE);
    var tile = Tile();
    tile.group = id.y / tiles;
    tile.split = id.z / (STRIDE * STRIDE);
    tile.first_row = id.y % tiles * ROWS;
    tile.first_column = id.x * COLUMNS;
    tile.rows = max(rows, tile.first_row) - tile.first_row;
    tile.phase = phase;
    tile.taps = (K + STRIDE - 1u - phase) / STRIDE;
    tile.first_depth = tile.split * SPLIT_DEPTH;
    // Phases differ in size: a workgroup beyond the last row has no depth.
    let end = min(tile.taps.x * tile.taps.y * C_OUT, tile.first_depth + SPLIT_DEPTH);
    tile.end_depth = select(0u, end, tile.rows > 0u);
    tile.first_part = number * phase_parts + tile.first_row / PART_ROWS;
    tile.end_part = (number + 1u) * phase_parts;
    if lane < ROWS {
        let row = lane;
        let n = tile.group * images + (tile.first_row + row) % images;
        // At least 1, as phases without pixels have no rows.
        let pixel = (tile.first_row + row) / images;
        let p = lines.x + STRIDE * (pixel / max(columns.y, 1u));
        let q = columns.x + STRIDE * (pixel % max(columns.y, 1u));
        let origin = gradient_origin(n, p, q);
        let in_result = (((tile.split * N + n) * H + p) * W + q) * C_IN;
        let beyond = row >= tile.rows;
        origins[row] =
            vec4<u32>(origin.x, select(origin.y, NOWHERE, beyond), origin.z, select(in_result, NOWHERE, beyond));
    }
    let first_pixel = tile.first_row / images;
    let last_pixel = (tile.first_row + min(ROWS, max(tile.rows, 1u)) - 1u) / images;
    let first_line = first_pixel / max(columns.y, 1u);
    let last_line = last_pixel / max(columns.y, 1u);
    let one_line = first_line == last_line;
    let first_of_line = select(0u, first_pixel % max(columns.y, 1u), one_line);
    let last_of_line = select(columns.y - 1u, last_pixel % max(columns.y, 1u), one_line);
    tile.first_pixel = vec2<u32>(lines.x + STRIDE * first_line, columns.x + STRIDE * first_of_line);
    tile.last_pixel = vec2<u32>(lines.x + STRIDE * last_line, columns.x + STRIDE * last_of_line);
    return tile;
}

fn grad_weight_tile(id: vec3<u32>, lane: u32) -> Tile {
    let rows = K * K * C_IN;
    var tile = Tile();
    tile.split = id.z;
    tile.first_row = id.y * ROWS;
    tile.first_column = id.x * COLUMNS;
    tile.rows = rows - tile.first_row;
    tile.first_depth = id.z * SPLIT_DEPTH;
    tile.end_depth = min(N * H_OUT * W_OUT, tile.first_depth + SPLIT_DEPTH);
    if lane < ROWS {
        let row = lane;
        let weight = tile.first_row + row;
        let tap = weight / C_IN;
        let p = tap / K - PAD;
        let q = tap % K - PAD;
        let beyond = row >= tile.rows;
        origins[row] = vec4<u32>(
            (p * W + q) * C_IN + weight % C_IN,
            select(p, NOWHERE - H_OUT * STRIDE, beyond),
            q,
            select((id.z * rows + weight) * C_OUT, NOWHERE, beyond)
        );
    }
    return tile;
}

// The first depth of the next stage from `depth` on: in grad_input, stages of a tap that reaches no pixel of the tile are skipped.
fn next_stage(product: u32, tile: Tile, depth: u32) -> u32 {
    var start = depth;
    if product == GRAD_INPUT {
        while start < tile.end_depth {
            let tap = start / C_OUT;
            let one_tap = tap == (min(start + DEPTH, tile.end_depth) - 1u) / C_OUT;
            let line_reached = tap_reaches(tile.first_pixel.x, tile.last_pixel.x, tap / tile.taps.y, H_OUT);
            let column_reached = tap_reaches(tile.first_pixel.y, tile.last_pixel.y, tap % tile.taps.y, W_OUT);
            if !one_tap || (line_reached && column_reached) { break; }
            start += DEPTH;
        }
    }
    return start;
}

// Vector `number` of tile A of the stage that begins at `start`: four depths of a row, or in grad_weight four rows of a depth.
fn vector_of_a(product: u32, tile: Tile, number: u32, start: u32) -> vec4<f32> {
    if product == GRAD_WEIGHT { return four_taps(4u * (number % LINE_A), start + number / LINE_A, tile.end_depth); }
    let origin = origins[number / (DEPTH / 4u)];
    let depth = start + 4u * (number % (DEPTH / 4u));
    if product == FORWARD { return four_of_patch(origin, start, depth, tile.end_depth); }
    return four_of_gradient(origin, tile.taps, start, depth, tile.end_depth);
}

// Whether tile B has vector `number`: not always, where it has fewer than there are lanes.
fn is_in_b(number: u32) -> bool {
    return B_VECTORS >= LANES || number < B_VECTORS;
}

// Vector `number` of tile B: four columns of a depth, or in grad_input four depths of a column.
fn vector_of_b(product: u32, tile: Tile, number: u32, start: u32) -> vec4<f32> {
    let end = select(0u, tile.end_depth, is_in_b(number));
    if product == GRAD_INPUT {
        let column = tile.first_column + number / (DEPTH / 4u);
        return four_tap_weights(tile.phase, tile.taps, start, start + 4u * (number % (DEPTH / 4u)), end, column);
    }
    return four_columns(start + number / LINE_B, end, tile.first_column + 4u * (number % LINE_B));
}

fn load(product: u32, tile: Tile, lane: u32, start: u32) -> Stage {
    var stage = Stage();
    stage.a0 = vector_of_a(product, tile, lane, start);
    if A_VECTORS > LANES { stage.a1 = vector_of_a(product, tile, lane + LANES, start); }
    if A_VECTORS > 2u * LANES {
        stage.a2 = vector_of_a(product, tile, lane + 2u * LANES, start);
        stage.a3 = vector_of_a(product, tile, lane + 3u * LANES, start);
    }
    stage.b0 = vector_of_b(product, tile, lane, start);
    if B_VECTORS > LANES { stage.b1 = vector_of_b(product, tile, lane + LANES, start); }
    if B_VECTORS > 2u * LANES {
        stage.b2 = vector_of_b(product, tile, lane + 2u * LANES, start);
        stage.b3 = vector_of_b(product, tile, lane + 3u * LANES, start);
    }
    return stage;
}

fn put_a(product: u32, number: u32, four: vec4<f32>) {
    if product == GRAD_WEIGHT {
        store_rows_of_a(number / LINE_A, number % LINE_A, four);
    } else {
        store_depths_of_a(4u * (number % (DEPTH / 4u)), number / (DEPTH / 4u), four);
    }
}

fn put_b(product: u32, number: u32, four: vec4<f32>) {
    if !is_in_b(number) { return; }
    if product == GRAD_INPUT {
        store_depths_of_b(4u * (number % (DEPTH / 4u)), number / (DEPTH / 4u), four);
    } else {
        store_columns_of_b(number / LINE_B, number % LINE_B, four);
    }
}

fn put(product: u32, lane: u32, stage: Stage) {
    put_a(product, lane, stage.a0);
    if A_VECTORS > LANES { put_a(product, lane + LANES, stage.a1); }
    if A_VECTORS > 2u * LANES {
        put_a(product, lane + 2u * LANES, stage.a2);
        put_a(product, lane + 3u * LANES, stage.a3);
    }
    put_b(product, lane, stage.b0);
    if B_VECTORS > LANES { put_b(product, lane + LANES, stage.b1); }
    if B_VECTORS > 2u * LANES {
        put_b(product, lane + 2u * LANES, stage.b2);
        put_b(product, lane + 3u * LANES, stage.b3);
    }
}

// Adds up all terms of a tile.
fn multiply_tile(product: u32, tile: Tile, lane: u32, products: ptr<function, Products>) {
    if product == GRAD_WEIGHT && adds_depth(tile, lane) { depth_sums[lane] = vec4<f32>(); }
    workgroupBarrier();
    var start = next_stage(product, tile, tile.first_depth);
    var stage = Stage();
    if start < tile.end_depth { stage = load(product, tile, lane, start); }
    while start < tile.end_depth {
        workgroupBarrier();
        put(product, lane, stage);
        workgroupBarrier();
        let following = next_stage(product, tile, start + DEPTH);
        if following < tile.end_depth { stage = load(product, tile, lane, following); }
        multiply(products, lane, select(DEPTH, min(DEPTH, tile.end_depth - start), ROLLED));
        if product == GRAD_WEIGHT && adds_depth(tile, lane) { add_depth(lane, start); }
        start = following;
    }
}

@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let tile = forward_tile(id, lane);
    multiply_tile(FORWARD, tile, lane, &products);
    store_all(&products, lane, C_OUT, tile.first_column);
}

@compute @workgroup_size(LANES)
fn forward_and_statistics(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let tile = forward_tile(id, lane);
    multiply_tile(FORWARD, tile, lane, &products);
    store_with_statistics(&products, tile, lane, C_OUT);
}

@compute @workgroup_size(LANES)
fn forward_and_gradient_sums(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let tile = forward_tile(id, lane);
    multiply_tile(FORWARD, tile, lane, &products);
    store_with_gradient_sums(&products, tile, lane, C_OUT);
}

@compute @workgroup_size(LANES)
fn grad_input(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let tile = grad_input_tile(id, lane);
    multiply_tile(GRAD_INPUT, tile, lane, &products);
    store_all(&products, lane, C_IN, tile.first_column);
}

@compute @workgroup_size(LANES)
fn grad_input_and_statistics(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let tile = grad_input_tile(id, lane);
    multiply_tile(GRAD_INPUT, tile, lane, &products);
    store_with_statistics(&products, tile, lane, C_IN);
}

@compute @workgroup_size(LANES)
fn grad_input_and_gradient_sums(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let tile = grad_input_tile(id, lane);
    multiply_tile(GRAD_INPUT, tile, lane, &products);
    store_with_gradient_sums(&products, tile, lane, C_IN);
}

@compute @workgroup_size(LANES)
fn grad_weight(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var products = Products();
    let tile = grad_weight_tile(id, lane);
    multiply_tile(GRAD_WEIGHT, tile, lane, &products);
    store_partials(&products, lane, C_OUT, tile.first_column);
    store_bias_gradient(tile, lane);
}
