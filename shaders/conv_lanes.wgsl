// conv_lanes.wgsl: the products of conv.wgsl for software adapters, which compute on the CPU in vectors of 8 lanes. Compiled after
// function.wgsl and conv_sizes.wgsl.
//
//   product           FORWARD, GRAD_INPUT or GRAD_WEIGHT of conv.wgsl, as  left (rows, depth) * right (depth, columns),  and its
//                     epilogue
//
//           Such an adapter loads lane by lane, from workgroup memory too, and executes both sides of a branch. So a tile stays in
//           registers, a load takes four numbers, a value of one lane reaches the others by a shuffle with a constant, and the loop
//           has no conditional work. A sum may be split (split-K); partials.wgsl adds the partial sums.
//
// Shapes    as in conv.wgsl:  left is x, dy, x  and right is w, w, dy  of the three products;  partials (SPLITS, shape of the
//           result), activated_y, activated of the result's shape
// Mapping   A subgroup of 8 lanes computes 16 rows x 32 columns, or where SWAPPED 32 rows x 16 columns: the 32 lie along the lanes,
//           4 in each; the 16 come by shuffles in QUADS groups of four. The depth goes in steps of 4; every
//           RUN terms are summed separately, so that long sums round less. The order of rows and of depth is that of
//           conv.wgsl; splits, and within them phases, are along z.
// Twin      src/cpu/conv.rs

// Which product: one of the constants below.
override PRODUCT: u32;
// Whether the rows lie along the lanes, instead of the columns.
override SWAPPED: bool = false;
// Groups of four rows, or of four columns where SWAPPED, that come by shuffles: 1 to 4.
override QUADS: u32 = 4u;

// Value of PRODUCT: y.
const FORWARD = 0u;
// Value of PRODUCT: dx.
const GRAD_INPUT = 1u;
// Value of PRODUCT: dw.
const GRAD_WEIGHT = 2u;
// Address of a number that does not exist and counts as 0.
const NOWHERE = 0xffffffffu;
// Terms that are summed before they are added to the total.
const RUN = 256u;

@group(0) @binding(0) var<storage, read> left: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> right: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> activated_y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> activated: array<vec4<f32>>;

// The tile of a subgroup in the product.
struct Tile {
    // Rows of the whole product, or of its phase.
    rows: u32,
    // End of the depth of this split.
    end: u32,
    // Phase of GRAD_INPUT: vertical, horizontal.
    phase: vec2<u32>,
    // Lines of the phase: the first one, and their number.
    lines: vec2<u32>,
    // Columns of the phase: the first one, and their number.
    columns: vec2<u32>,
    // First tap that reaches any pixel of the tile.
    first_tap: vec2<u32>,
    // Number of taps that reach any pixel of the tile.
    taps: vec2<u32>,
}

var<private> tile: Tile;

fn row_count() -> u32 {
    switch PRODUCT {
        case FORWARD: { return N * H_OUT * W_OUT; }
        case GRAD_INPUT: { return N * tile.lines.y * tile.columns.y; }
        default: { return K * K * C_IN; }
    }
}

fn column_count() -> u32 {
    return select(C_OUT, C_IN, PRODUCT == GRAD_INPUT);
}

// Whether four neighbouring numbers of left, or of right, are four terms of the depth.
fn along_depth(of_right: bool) -> bool {
    return PRODUCT == GRAD_INPUT || (PRODUCT == FORWARD && !of_right);
}

// The taps that reach any pixel from `first` to `last` from inside dy: the first one, and their number.
fn reaching_taps(first: u32, last: u32, taps: u32, size_out: u32) -> vec2<u32> {
    let from_ = max((first + PAD) / STRIDE + 1u, size_out) - size_out;
    return vec2<u32>(from_, max(min(taps, (last + PAD) / STRIDE + 1u), from_) - from_);
}

fn set_phase(phase: vec2<u32>) {
    tile.phase = phase;
    tile.lines = phase_pixels(phase.x, H);
    tile.columns = phase_pixels(phase.y, W);
}

// Skips the taps that are beyond the edge for the whole rectangle around the pixels of the rows.
fn set_taps(first_row: u32, rows: u32) {
    let first_pixel = first_row / N;
    let last_pixel = (min(first_row + rows, tile.rows) - 1u) / N;
    let width = tile.columns.y;
    let first_p = tile.lines.x + STRIDE * (first_pixel / width);
    let last_p = tile.lines.x + STRIDE * (last_pixel / width);
    let one_line = first_p == last_p;
    let first_q = tile.columns.x + STRIDE * select(0u, first_pixel % width, one_line);
    let last_q = tile.columns.x + STRIDE * select(width - 1u, last_pixel % width, one_line);
    let taps = (K + STRIDE - 1u - tile.phase) / STRIDE;
    let vertical = reaching_taps(first_p, last_p, taps.x, H_OUT);
    let horizontal = reaching_taps(first_q, last_q, taps.y, W_OUT);
    tile.first_tap = vec2<u32>(vertical.x, horizontal.x);
    tile.taps = vec2<u32>(vertical.y, horizontal.y);
}

// The tap of GRAD_INPUT at a depth, counted within its phase. Divides in f32, which is exact for these small numbers: CPUs have no
// vector division of integers.
fn tap_at(depth: u32) -> vec2<u32> {
    let tap = depth / C_OUT;
    let u = u32((f32(tap) + 0.5) / f32(tile.taps.y));
    return tile.first_tap + vec2<u32>(u, tap - u * tile.taps.y);
}

// The depth-independent part of a row's address in left. Lines and columns before the first wrap to large numbers, so that one
// comparison covers both edges.
fn origin_of(row: u32) -> vec3<u32> {
    let beyond = row >= tile.rows;
    switch PRODUCT {
        case FORWARD: {
            let j = row % W_OUT;
            let i = (row / W_OUT) % H_OUT;
            let n = row / (W_OUT * H_OUT);
            return vec3<u32>(n * H * W * C_IN, select(i * STRIDE - PAD, NOWHERE - K, beyond), j * STRIDE - PAD);
        }
        case GRAD_INPUT: {
            let n = row % N;
            let pixel = row / N;
            let p = tile.lines.x + STRIDE * (pixel / tile.columns.y);
            let q = tile.columns.x + STRIDE * (pixel % tile.columns.y);
            return vec3<u32>(n * H_OUT * W_OUT * C_OUT, select((p + PAD) / STRIDE, NOWHERE, beyond), (q + PAD) / STRIDE);
        }
        default: {
            let tap = row / C_IN;
            return vec3<u32>(row % C_IN, select(tap / K - PAD, NOWHERE - H_OUT * STRIDE, beyond), tap % K - PAD);
        }
    }
}

// Index in left of a row at a depth; NOWHERE where it is 0.
fn left_at(origin: vec3<u32>, depth: u32) -> u32 {
    var at: u32;
    var inside = depth < tile.end;
    switch PRODUCT {
        case FORWARD: {
            let tap = depth / C_IN;
            let p = origin.y + tap / K;
            let q = origin.z + tap % K;
            inside &= p < H && q < W;
            at = origin.x + (p * W + q) * C_IN + depth % C_IN;
        }
        case GRAD_INPUT: {
            let tap = tap_at(depth);
            let i = origin.y - tap.x;
            let j = origin.z - tap.y;
            inside &= i < H_OUT && j < W_OUT;
            at = origin.x + (i * W_OUT + j) * C_OUT + depth % C_OUT;
        }
        default: {
            let p = (depth / W_OUT) % H_OUT * STRIDE + origin.y;
            let q = depth % W_OUT * STRIDE + origin.z;
            inside &= p < H && q < W;
            at = ((depth / (W_OUT * H_OUT) * H + p) * W + q) * C_IN + origin.x;
        }
    }
    return select(NOWHERE, at, inside);
}

// Index in right of a column at a depth; NOWHERE where it is 0.
fn right_at(depth: u32, column: u32) -> u32 {
    var at = depth * C_OUT + column;
    if PRODUCT == GRAD_INPUT {
        let tap = tile.phase + STRIDE * tap_at(depth);
        at = ((tap.x * K + tap.y) * C_IN + column) * C_OUT + depth % C_OUT;
    }
    return select(NOWHERE, at, depth < tile.end && column < column_count());
}

// A number of left, or 0 at NOWHERE.
fn one_of_left(at: u32) -> f32 {
    let safe = select(at, 0u, at == NOWHERE);
    return select(left[safe / 4u][safe % 4u], 0.0, at == NOWHERE);
}

// A number of right, or 0 at NOWHERE.
fn one_of_right(at: u32) -> f32 {
    let safe = select(at, 0u, at == NOWHERE);
    return select(right[safe / 4u][safe % 4u], 0.0, at == NOWHERE);
}

// Four neighbouring numbers of left: of a row at four depths, or of four rows at a depth.
fn four_of_left(row: u32, origin: vec3<u32>, depth: u32) -> vec4<f32> {
    if select(C_IN, C_OUT, PRODUCT == GRAD_INPUT) % 4u == 0u {
        let at = left_at(origin, depth);
        return select(left[select(at, 0u, at == NOWHERE) / 4u], vec4<f32>(), at == NOWHERE);
    }
    if along_depth(false) {
        return vec4<f32>(
            one_of_left(left_at(origin, depth)),
            one_of_left(left_at(origin, depth + 1u)),
            one_of_left(left_at(origin, depth + 2u)),
            one_of_left(left_at(origin, depth + 3u))
        );
    }
    return vec4<f32>(
        one_of_left(left_at(origin, depth)),
        one_of_left(left_at(origin_of(row + 1u), depth)),
        one_of_left(left_at(origin_of(row + 2u), depth)),
        one_of_left(left_at(origin_of(row + 3u), depth))
    );
}

// Four neighbouring numbers of right: of a column at four depths, or of four columns at a depth.
fn four_of_right(depth: u32, column: u32) -> vec4<f32> {
    if C_OUT % 4u == 0u {
        let at = right_at(depth, column);
        return select(right[select(at, 0u, at == NOWHERE) / 4u], vec4<f32>(), at == NOWHERE);
    }
    let next = select(vec2<u32>(0u, 1u), vec2<u32>(1u, 0u), along_depth(true)); // step in depth, and in columns
    return vec4<f32>(
        one_of_right(right_at(depth, column)),
        one_of_right(right_at(depth + next.x, column + next.y)),
        one_of_right(right_at(depth + 2u * next.x, column + 2u * next.y)),
        one_of_right(right_at(depth + 3u * next.x, column + 3u * next.y))
    );
}

// The row or column, counted from the first of the tile, of load number `load` of a lane.
fn item(lane: u32, load: u32, on_lanes: bool, along: bool) -> u32 {
    if on_lanes {
        return 4u * lane + select(0u, load, along);
    }
    return 8u * load + select(lane / 4u * 4u, lane, along);
}

// The depth, counted from the first of the step, of load number `load` of a lane.
fn item_depth(lane: u32, load: u32, on_lanes: bool, along: bool) -> u32 {
    return select(select(lane % 4u, load, on_lanes), 0u, along);
}

// Four depths of each of four rows or columns, from lanes 0 to 3.
fn low_quad(fours: vec4<f32>, along: bool) -> mat4x4<f32> {
    let quad = mat4x4<f32>(
        subgroupShuffle(fours, 0u),
        subgroupShuffle(fours, 1u),
        subgroupShuffle(fours, 2u),
        subgroupShuffle(fours, 3u)
    );
    if along { return quad; }
    return transpose(quad);
}

// Four depths of each of four rows or columns, from lanes 4 to 7.
fn high_quad(fours: vec4<f32>, along: bool) -> mat4x4<f32> {
    let quad = mat4x4<f32>(
        subgroupShuffle(fours, 4u),
        subgroupShuffle(fours, 5u),
        subgroupShuffle(fours, 6u),
        subgroupShuffle(fours, 7u)
    );
    if along { return quad; }
    return transpose(quad);
}

// Offset of a row in the result.
fn row_start(row: u32, split: u32) -> u32 {
    if PRODUCT == GRAD_INPUT {
        let pixel = row / N;
        let p = tile.lines.x + STRIDE * (pixel / tile.columns.y);
        let q = tile.columns.x + STRIDE * (pixel % tile.columns.y);
        return (((split * N + row % N) * H + p) * W + q) * C_IN;
    }
    return (split * tile.rows + row) * C_OUT;
}

// The epilogue of an element of the complete result; y is the result of the activation, for its derivative.
fn epilogue_of(value: f32, y: f32) -> f32 {
    if BACKWARD { return value * derivative_at(y); }
    return function_of(value);
}

// Writes an element of a partial sum, or of the result and its epilogue with one split.
fn store_one(at: u32, value: f32) {
    partials[at / 4u][at % 4u] = value;
    if KIND == NONE || SPLITS > 1u { return; }
    var y = 0.0;
    if BACKWARD { y = activated_y[at / 4u][at % 4u]; }
    activated[at / 4u][at % 4u] = epilogue_of(value, y);
}

// Writes four neighbouring elements.
fn store_four(at: u32, values: vec4<f32>) {
    partials[at / 4u] = values;
    if KIND == NONE || SPLITS > 1u { return; }
    var y = vec4<f32>();
    if BACKWARD { y = activated_y[at / 4u]; }
    activated[at / 4u] = vec4<f32>(
        epilogue_of(values.x, y.x),
        epilogue_of(values.y, y.y),
        epilogue_of(values.z, y.z),
        epilogue_of(values.w, y.w)
    );
}

// Stores four columns of a row.
fn store(split: u32, row: u32, column: u32, sums: vec4<f32>) {
    if row >= tile.rows { return; }
    let at = row_start(row, split) + column;
    var values = sums;
    if HAS_BIAS && SPLITS == 1u {
        let last = column_count() - 1u;
        values += vec4<f32>(b[min(column, last)], b[min(column + 1u, last)], b[min(column + 2u, last)], b[min(column + 3u, last)]);
    }
    if column_count() % 4u == 0u {
        if column < column_count() { store_four(at, values); }
        return;
    }
    if column < column_count() { store_one(at, values.x); }
    if column + 1u < column_count() { store_one(at + 1u, values.y); }
    if column + 2u < column_count() { store_one(at + 2u, values.z); }
    if column + 3u < column_count() { store_one(at + 3u, values.w); }
}

// Stores four of the rows or columns that come by shuffles, for the rows or columns of the lane.
fn store_quad(split: u32, row: u32, column: u32, lane: u32, quad: u32, sums: mat4x4<f32>) {
    if SWAPPED {
        let of_rows = transpose(sums);
        for (var r = 0u; r < 4u; r++) {
            store(split, row + 4u * lane + r, column + 4u * quad, of_rows[r]);
        }
    } else {
        for (var r = 0u; r < 4u; r++) {
            store(split, row + 4u * quad + r, column + 4u * lane, sums[r]);
        }
    }
}

@compute @workgroup_size(8)
fn product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let phases = select(1u, STRIDE * STRIDE, PRODUCT == GRAD_INPUT);
    let split = group.z / phases;
    let row = group.y * select(16u, 32u, SWAPPED);
    let column = group.x * select(32u, 16u, SWAPPED);
    if PRODUCT == GRAD_INPUT {
        set_phase(vec2<u32>(group.z / STRIDE % STRIDE, group.z % STRIDE));
    }
    tile.rows = row_count();
    if row >= tile.rows { return; } // phases differ in size
    var depths: u32;
    switch PRODUCT {
        case FORWARD: { depths = K * K * C_IN; }
        case GRAD_INPUT: {
            set_taps(row, select(16u, 32u, SWAPPED));
            depths = tile.taps.x * tile.taps.y * C_OUT;
        }
        default: { depths = N * H_OUT * W_OUT; }
    }
    tile.end = min(depths, (split + 1u) * SPLIT_DEPTH);

    let along_left = along_depth(false);
    let along_right = along_depth(true);
    let row0 = row + item(lane, 0u, SWAPPED, along_left);
    let row1 = row + item(lane, 1u, SWAPPED, along_left);
    let row2 = row + item(lane, 2u, SWAPPED, along_left);
    let row3 = row + item(lane, 3u, SWAPPED, along_left);
    let origin0 = origin_of(row0);
    let origin1 = origin_of(row1);
    let origin2 = origin_of(row2);
    let origin3 = origin_of(row3);
    let column0 = column + item(lane, 0u, !SWAPPED, along_right);
    let column1 = column + item(lane, 1u, !SWAPPED, along_right);
    let column2 = column + item(lane, 2u, !SWAPPED, along_right);
    let column3 = column + item(lane, 3u, !SWAPPED, along_right);

    var totals = array<mat4x4<f32>, 4>();
    for (var run = split * SPLIT_DEPTH; run < tile.end; run += RUN) {
        var sums0 = mat4x4<f32>();
        var sums1 = mat4x4<f32>();
        var sums2 = mat4x4<f32>();
        var sums3 = mat4x4<f32>();
        for (var depth = run; depth < min(run + RUN, tile.end); depth += 4u) {
            let left0 = four_of_left(row0, origin0, depth + item_depth(lane, 0u, SWAPPED, along_left));
            let right0 = four_of_right(depth + item_depth(lane, 0u, !SWAPPED, along_right), column0);
            var left1 = left0;
            var right1 = right0;
            if SWAPPED || QUADS > 2u {
                left1 = four_of_left(row1, origin1, depth + item_depth(lane, 1u, SWAPPED, along_left));
            }
            if !SWAPPED || QUADS > 2u {
                right1 = four_of_right(depth + item_depth(lane, 1u, !SWAPPED, along_right), column1);
            }
            // Four terms for the rows or columns of the lane, and the first and last eight of those that come by shuffles.
            var lanes: mat4x4<f32>;
            var first: vec4<f32>;
            var last: vec4<f32>;
            var along: bool;
            if SWAPPED {
                let left2 = four_of_left(row2, origin2, depth + item_depth(lane, 2u, true, along_left));
                let left3 = four_of_left(row3, origin3, depth + item_depth(lane, 3u, true, along_left));
                lanes = mat4x4<f32>(left0, left1, left2, left3);
                if along_left { lanes = transpose(lanes); }
                first = right0;
                last = right1;
                along = along_right;
            } else {
                let right2 = four_of_right(depth + item_depth(lane, 2u, true, along_right), column2);
                let right3 = four_of_right(depth + item_depth(lane, 3u, true, along_right), column3);
                lanes = mat4x4<f32>(right0, right1, right2, right3);
                if along_right { lanes = transpose(lanes); }
                first = left0;
                last = left1;
                along = along_left;
            }
            sums0 += lanes * low_quad(first, along);
            if QUADS > 1u { sums1 += lanes * high_quad(first, along); }
            if QUADS > 2u { sums2 += lanes * low_quad(last, along); }
            if QUADS > 3u { sums3 += lanes * high_quad(last, along); }
        }
        totals[0] += sums0;
        if QUADS > 1u { totals[1] += sums1; }
        if QUADS > 2u { totals[2] += sums2; }
        if QUADS > 3u { totals[3] += sums3; }
    }
    // In a loop, so that the stores are compiled once: with four calls creating a pipeline takes nearly twice as long.
    for (var quad = 0u; quad < QUADS; quad++) {
        store_quad(split, row, column, lane, quad, totals[quad]);
    }
}
