// conv.wgsl: convolution and its two gradients, as tiled matrix products over an image matrix that is never stored, with the activation
// behind it, or the gradient of the one before it, if there is one. Begins with function.wgsl, and ends with tile.wgsl.
//
//   forward           y[n,i,j,o]  = b[o] + sum_{u,v,c} x[n,p,q,c] * w[u,v,c,o]
//   grad_input        dx[n,p,q,c] = b[c] + sum_{u,v,o} dy[n,i,j,o] * w[u,v,c,o];  transposed convolution is this, of dy
//   grad_weight       dw[u,v,c,o] = sum_{n,i,j} x[n,p,q,c] * dy[n,i,j,o]
//                     with p = i*STRIDE + u - PAD, q = j*STRIDE + v - PAD;  x and dy are 0 outside their edges
//   thin_forward, thin_grad_input   the same as those, of few columns
//   add_parts         result = b + sum of parts[s] over all slices s, in order
//   all but grad_weight   next = f(result), or where BACKWARD  next = result * f'  with next_y what f gave
//   *_and_statistics      also the statistics of batch normalisation behind the product: in sums, for the rows of each part of a
//                         group, their sum, their centred sum of squares, and how many rows they are
//   *_and_gradient_sums   also those of the gradient of batch normalisation: sum e and sum e * xhat, with e = next,
//                         xhat = (x - mean) * inv_std of x = next_x, and mean and inv_std in saved
//
//           A sum may be cut into SLICES of SLICE_DEPTH terms, where there would be too few workgroups, or too long loops:
//           then each slice writes its own part, and add_parts adds them, or batch_norm.wgsl or adam.wgsl does. Else the only part is
//           the result, bias included.
//
// Shapes    left is x, dy, x  and right is w, w, dy  of the three products
//           x, dx (N, H, W, C_IN)    w, dw (K, K, C_IN, C_OUT)    y, dy (N, H_OUT, W_OUT, C_OUT)    b (C_OUT), of dx (C_IN)
//           parts (SLICES, shape of the result), result, next_y, next, next_x (LEN)
//           sums (GROUPS, PARTS, 2 * columns + 1), saved (GROUPS, 2, columns);  PART_ROWS rows are a part
// Mapping   A workgroup computes a tile of 8*TY rows and 8*TX columns of  A (rows, depth) * B (depth, columns),  each
//           invocation 8 x 8 of it, in steps of DEPTH that go through workgroup memory. Whatever TX, TY and PADDING are, the order
//           of each sum is the same, and so are the bits.
//             forward       rows (n,i,j) of a group            depth (u,v,c)   columns o
//             grad_input    rows (p,q,n) of a group, a phase   depth (u,v,o)   columns c;  phases are along z, too
//             grad_weight   rows (u,v,c)                       depth (n,i,j)   columns o
//           Groups of N / GROUPS images are along y, behind one another, so that no tile has rows of two. Slices are along z. Four
//           numbers come with each load where the channels along which they lie are a multiple of four.
//           A phase is the pixels with the same (p + PAD) % STRIDE and (q + PAD) % STRIDE: the same taps (u,v) reach all of
//           them, so the product is dense, and no zero between the strides is ever multiplied. Its rows run over the images
//           fastest, so that a tile sees few pixels and leaves out the taps that all of them have beyond the edge.
//           thin_*: one invocation for each row, with all its columns, four at most; where those are few, a tile would be one of
//           lanes that compute nothing. Neighbours have neighbouring pixels, of a phase, and nothing goes through workgroup memory.
//           add_parts: one invocation for each element of the result, in a grid-stride loop
// Twin      src/cpu/conv.rs

override N: u32;
override H: u32;
override W: u32;
override C_IN: u32;
override H_OUT: u32;
override W_OUT: u32;
override C_OUT: u32;
override K: u32;
override STRIDE: u32;
override PAD: u32;
override HAS_BIAS: bool = false;
override SLICES: u32 = 1u;
override SLICE_DEPTH: u32 = 1u;
override LEN: u32 = 1u;
override BIAS_LEN: u32 = 1u;
override GROUPS: u32 = 1u;
override PARTS: u32 = 1u; // of a group
override BACKWARD: bool = false;
override TX: u32 = 8u;
override TY: u32 = 8u;
// Left free behind each depth of a tile: without it, lanes that store depths of one row meet in one bank of the memory.
override PADDING: u32 = 0u;
override LANES: u32 = 64u; // TX * TY
override LINE_A: u32 = 8u * TY + PADDING;
override LINE_B: u32 = 8u * TX + PADDING;
override PART_ROWS: u32 = 8u * TY; // 64 at least; a tile has one part or more
override COLUMN_SUMS: u32 = 8u * TX * (8u * TY / PART_ROWS); // of all parts of a tile: not more than there are lanes

const DEPTH = 16u;
const NOWHERE = 0xffffffffu;

@group(0) @binding(0) var<storage, read> left: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> right: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> parts: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;
@group(0) @binding(5) var<storage, read> next_y: array<f32>;
@group(0) @binding(6) var<storage, read_write> next: array<f32>;
@group(0) @binding(7) var<storage, read> next_x: array<f32>;
@group(0) @binding(8) var<storage, read> saved: array<f32>;
@group(0) @binding(9) var<storage, read_write> sums: array<f32>;

// What of a row's address does not depend on the depth, and last where the row begins in the result.
var<workgroup> origins: array<vec4<u32>, 8u * TY>;

// Where a workgroup is in a product.
struct Place {
    group: u32,       // of images
    slice: u32,
    first_row: u32,   // in the group, or its phase
    first_column: u32,
    rows: u32,        // from the first one on to the last of the group, or of the phase
    first_part: u32,
    parts: u32,       // of the group's sums, up to which this phase's are
}

// A number of a tensor, and four that lie as one vector; 0 where there is nothing.
fn one_of_left(at: u32) -> f32 {
    if at == NOWHERE { return 0.0; }
    return left[at / 4u][at % 4u];
}

fn four_of_left(at: u32) -> vec4<f32> {
    if at == NOWHERE { return vec4<f32>(); }
    return left[at / 4u];
}

fn one_of_right(at: u32) -> f32 {
    if at == NOWHERE { return 0.0; }
    return right[at / 4u][at % 4u];
}

fn four_of_right(at: u32) -> vec4<f32> {
    if at == NOWHERE { return vec4<f32>(); }
    return right[at / 4u];
}

// The bias of a result that is complete as it is.
fn bias_of(channel: u32) -> f32 {
    if HAS_BIAS && SLICES == 1u { return b[channel]; }
    return 0.0;
}

// Hands an element of a complete result on to what takes it.
fn hand_on(i: u32, value: f32) {
    if KIND == NONE { return; }
    if BACKWARD {
        next[i] = value * derivative_at(next_y[i]);
    } else {
        next[i] = function_of(value);
    }
}

// An element of a slice's part, or of the result if there is only one.
fn store(i: u32, value: f32) {
    parts[i] = value;
    if SLICES == 1u { hand_on(i, value); }
}

// How many rows of a tile are a lane's: the lanes beyond the last tile only help to load and to multiply.
fn rows_of_lane(lane: u32) -> u32 {
    return select(0u, 8u, lane < TX * TY);
}

// Stores the products of an invocation. A tile of no depth has met no barrier since its origins were written.
fn store_all(products: ptr<function, Products>, place: Place, lane: u32, columns: u32) {
    settle(products, lane);
    let column = place.first_column + 8u * (lane % TX);
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

// How many of the tile's rows are those of its part k.
fn rows_of_part(place: Place, k: u32) -> u32 {
    return min(max(place.rows, k * PART_ROWS) - k * PART_ROWS, PART_ROWS);
}

// What the lanes of part k have shared of a column, added up in order.
fn total_in_a(k: u32, column: u32) -> f32 {
    var total = 0.0;
    for (var y = k * PART_ROWS / 8u; y < (k + 1u) * PART_ROWS / 8u; y++) {
        total += shared_in_a(8u * TX * y + column);
    }
    return total;
}

fn total_in_b(k: u32, column: u32) -> f32 {
    var total = 0.0;
    for (var y = k * PART_ROWS / 8u; y < (k + 1u) * PART_ROWS / 8u; y++) {
        total += shared_in_b(8u * TX * y + column);
    }
    return total;
}

// Keeps the two sums of part k of the tile for a column.
fn keep(place: Place, k: u32, column: u32, columns: u32, first: f32, second: f32) {
    let part = place.first_part + k;
    let c = place.first_column + column;
    if part >= place.parts || c >= columns { return; }
    let at = (place.group * PARTS + part) * (2u * columns + 1u);
    sums[at + c] = first;
    sums[at + columns + c] = second;
    if c == 0u { sums[at + 2u * columns] = f32(rows_of_part(place, k)); }
}

fn store_with_statistics(products: ptr<function, Products>, place: Place, lane: u32, columns: u32) {
    store_all(products, place, lane, columns);
    let column = 8u * (lane % TX);
    let y = lane / TX;
    let rows = min(max(place.rows, 8u * y) - 8u * y, rows_of_lane(lane));
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
    let in_part = f32(rows_of_part(place, k));
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
    if adds { keep(place, part, of_tile, columns, shared_in_b(lane), total_in_a(part, of_tile)); }
}

fn store_with_gradient_sums(products: ptr<function, Products>, place: Place, lane: u32, columns: u32) {
    settle(products, lane);
    let column = place.first_column + 8u * (lane % TX);
    var first = array<f32, 8>();
    var second = array<f32, 8>();
    for (var r = 0u; r < rows_of_lane(lane); r++) {
        let at_row = origins[8u * (lane / TX) + r].w;
        let values = product_row(products, lane, r);
        for (var o = 0u; o < 8u; o++) {
            let c = column + o;
            if at_row == NOWHERE || c >= columns { continue; }
            let i = at_row + c;
            let value = values[o] * derivative_at(next_y[i]);
            let mean = saved[place.group * 2u * columns + c];
            let inv_std = saved[place.group * 2u * columns + columns + c];
            parts[i] = values[o];
            next[i] = value;
            first[o] += value;
            second[o] += value * ((next_x[i] - mean) * inv_std);
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
        keep(place, part, of_tile, columns, total_in_a(part, of_tile), total_in_b(part, of_tile));
    }
}

// Where x has the number of a patch at a depth; lines and columns wrap above the top and left edge.
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

// Where w, or dy as the right of grad_weight, has the number of a column o at a depth.
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

// Where the patch of a pixel of y begins: its image's first element, its first line and column (which wrap above the top and left
// edge, so that one comparison covers both edges).
fn patch_origin(pixel: u32) -> vec4<u32> {
    let j = pixel % W_OUT;
    let i = (pixel / W_OUT) % H_OUT;
    let n = pixel / (W_OUT * H_OUT);
    return vec4<u32>(n * H * W * C_IN, i * STRIDE - PAD, j * STRIDE - PAD, pixel * C_OUT);
}

// The tile of a workgroup, in the product that is y.
fn forward_products(id: vec3<u32>, tiles: u32, lane: u32, products: ptr<function, Products>) -> Place {
    let rows = N / GROUPS * H_OUT * W_OUT;
    let group = id.y / tiles;
    let first_row = id.y % tiles * 8u * TY;
    let first_column = id.x * 8u * TX;
    let first_depth = id.z * SLICE_DEPTH;
    let depths = min(K * K * C_IN, first_depth + SLICE_DEPTH);
    let place = Place(group, id.z, first_row, first_column, rows - first_row, first_row / PART_ROWS, PARTS);

    for (var row = lane; row < 8u * TY; row += LANES) {
        let origin = patch_origin(group * rows + first_row + row);
        let in_slice = id.z * GROUPS * rows * C_OUT + origin.w;
        let beyond = first_row + row >= rows;
        origins[row] =
            vec4<u32>(origin.x, select(origin.y, NOWHERE - K, beyond), origin.z, select(in_slice, NOWHERE, beyond));
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
    return place;
}

@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let place = forward_products(id, workgroups.y / GROUPS, lane, &products);
    store_all(&products, place, lane, C_OUT);
}

@compute @workgroup_size(LANES)
fn forward_and_statistics(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let place = forward_products(id, workgroups.y / GROUPS, lane, &products);
    store_with_statistics(&products, place, lane, C_OUT);
}

@compute @workgroup_size(LANES)
fn forward_and_gradient_sums(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let place = forward_products(id, workgroups.y / GROUPS, lane, &products);
    store_with_gradient_sums(&products, place, lane, C_OUT);
}

// Stores the few columns of a row.
fn store_row(first: u32, values: vec4<f32>, columns: u32) {
    for (var c = 0u; c < columns; c++) {
        store(first + c, values[c] + bias_of(c));
    }
}

@compute @workgroup_size(64)
fn thin_forward(@builtin(global_invocation_id) id: vec3<u32>) {
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

// The pixels of one phase along an axis: the first one, and how many there are.
fn phase_pixels(phase: u32, size: u32) -> vec2<u32> {
    let first = (phase + STRIDE - PAD % STRIDE) % STRIDE;
    return vec2<u32>(first, (max(size, first) - first + STRIDE - 1u) / STRIDE);
}

// Whether any of the pixels from `first` to `last` is reached by tap number `tap` of its phase from inside dy.
fn tap_reaches(first: u32, last: u32, tap: u32, size_out: u32) -> bool {
    return (last + PAD) / STRIDE >= tap && (first + PAD) / STRIDE < size_out + tap;
}

// Where dy has what reaches a row through the tap of a depth. Lines and columns wrap above the first ones, so one comparison covers
// both edges.
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

// Where w has the weight of a channel c at a depth of a phase.
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
fn thin_grad_input(@builtin(global_invocation_id) id: vec3<u32>) {
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

// The tile of a workgroup, in the product that is dx.
fn grad_input_products(id: vec3<u32>, tiles: u32, lane: u32, products: ptr<function, Products>) -> Place {
    let slice = id.z / (STRIDE * STRIDE);
    let number = id.z % (STRIDE * STRIDE);
    let phase = vec2<u32>(number / STRIDE, number % STRIDE);
    let lines = phase_pixels(phase.x, H);
    let columns = phase_pixels(phase.y, W);
    let images = N / GROUPS;
    let rows = images * lines.y * columns.y;
    let group = id.y / tiles;
    let first_row = id.y % tiles * 8u * TY;
    let first_column = id.x * 8u * TX;
    // Taps u = phase, phase + STRIDE, ...: how many there are along each axis.
    let taps = (K + STRIDE - 1u - phase) / STRIDE;
    let first_depth = slice * SLICE_DEPTH;
    // Phases differ in size, and where this one has no rows there is nothing to multiply.
    let depths = select(0u, min(taps.x * taps.y * C_OUT, first_depth + SLICE_DEPTH), first_row < rows);
    let parts = PARTS / (STRIDE * STRIDE);
    let place = Place(
        group,
        slice,
        first_row,
        first_column,
        max(rows, first_row) - first_row,
        number * parts + first_row / PART_ROWS,
        (number + 1u) * parts
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
            select((((slice * N + n) * H + p) * W + q) * C_IN, NOWHERE, beyond)
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
    return place;
}

@compute @workgroup_size(LANES)
fn grad_input(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let place = grad_input_products(id, workgroups.y / GROUPS, lane, &products);
    store_all(&products, place, lane, C_IN);
}

@compute @workgroup_size(LANES)
fn grad_input_and_statistics(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let place = grad_input_products(id, workgroups.y / GROUPS, lane, &products);
    store_with_statistics(&products, place, lane, C_IN);
}

@compute @workgroup_size(LANES)
fn grad_input_and_gradient_sums(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var products = Products();
    let place = grad_input_products(id, workgroups.y / GROUPS, lane, &products);
    store_with_gradient_sums(&products, place, lane, C_IN);
}

// Where x has what a pixel of dy sees through the tap and channel of a row of the tile.
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
    let end = min(N * H_OUT * W_OUT, (group.z + 1u) * SLICE_DEPTH);

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
    for (var start = group.z * SLICE_DEPTH; start < end; start += DEPTH) {
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

    settle(&products, lane);
    for (var r = 0u; r < rows_of_lane(lane); r++) {
        let at_row = origins[8u * (lane / TX) + r].w;
        let values = product_row(&products, lane, r);
        for (var o = 0u; o < 8u; o++) {
            let column = first_column + 8u * (lane % TX) + o;
            if at_row != NOWHERE && column < C_OUT { parts[at_row + column] = values[o]; }
        }
    }
}

@compute @workgroup_size(256)
fn add_parts(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        var sum = 0.0;
        for (var s = 0u; s < SLICES; s++) {
            sum += parts[s * LEN + i];
        }
        if HAS_BIAS { sum += b[i % BIAS_LEN]; }
        result[i] = sum;
        hand_on(i, sum);
    }
}
