// tile.wgsl: the product of two tiles in f32 registers. Compiled after conv.wgsl.
//
//   products = products + A * B,  with A (ROWS, DEPTH) and B (DEPTH, COLUMNS) in workgroup memory
//
// Mapping   Each invocation computes DOWN x ACROSS blocks of 4 x 4. A second block is half a tile further down or across, so that
//           neighbouring invocations read neighbouring vectors.
// Twin      src/cpu/conv.rs

// Tile of A, depth after depth, in vectors of four rows. After the last stage the epilogue shares sums in it.
var<workgroup> tile_a: array<vec4<f32>, DEPTH * LINE_A>;
// Tile of B, depth after depth, in vectors of four columns. After the last stage the epilogue shares sums in it.
var<workgroup> tile_b: array<vec4<f32>, DEPTH * LINE_B>;

fn place_in(line: u32, depth: u32, vector: u32) -> u32 {
    return depth * line + (vector ^ (select(0u, SWIZZLE, line % 8u == 0u) * (depth / 4u)));
}

// Stores four depths of a row of A.
fn store_depths_of_a(depth: u32, row: u32, four: vec4<f32>) {
    let at = place_in(LINE_A, depth, row / 4u);
    for (var d = 0u; d < 4u; d++) {
        tile_a[at + d * LINE_A][row % 4u] = four[d];
    }
}

// Stores four depths of a column of B.
fn store_depths_of_b(depth: u32, column: u32, four: vec4<f32>) {
    let at = place_in(LINE_B, depth, column / 4u);
    for (var d = 0u; d < 4u; d++) {
        tile_b[at + d * LINE_B][column % 4u] = four[d];
    }
}

// Stores a vector of four rows of a depth of A.
fn store_rows_of_a(depth: u32, vector: u32, four: vec4<f32>) {
    tile_a[place_in(LINE_A, depth, vector)] = four;
}

// Stores a vector of four columns of a depth of B.
fn store_columns_of_b(depth: u32, vector: u32, four: vec4<f32>) {
    tile_b[place_in(LINE_B, depth, vector)] = four;
}

// A vector of four rows of a depth of A.
fn rows_at(depth: u32, vector: u32) -> vec4<f32> {
    return tile_a[place_in(LINE_A, depth, vector)];
}

// A vector of four columns of a depth of B.
fn columns_at(depth: u32, vector: u32) -> vec4<f32> {
    return tile_b[place_in(LINE_B, depth, vector)];
}

// The blocks of an invocation; column r of a matrix is row r of a block.
struct Products {
    top_left: mat4x4<f32>,
    top_right: mat4x4<f32>,
    bottom_left: mat4x4<f32>,
    bottom_right: mat4x4<f32>,
}

fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(a.x * b, a.y * b, a.z * b, a.w * b);
}

// Adds the product of `depths` terms of both tiles to the sums.
fn multiply(products: ptr<function, Products>, lane: u32, depths: u32) {
    if !has_blocks(lane) { return; }
    let row = row_of(lane, 0u) / 4u;
    let column = column_of(lane, 0u) / 4u;
    for (var depth = 0u; depth < depths; depth++) {
        let top = tile_a[place_in(LINE_A, depth, row)];
        let left = tile_b[place_in(LINE_B, depth, column)];
        (*products).top_left += outer(top, left);
        if ACROSS == 2u {
            let right = tile_b[place_in(LINE_B, depth, column + TX)];
            (*products).top_right += outer(top, right);
            if DOWN == 2u {
                let bottom = tile_a[place_in(LINE_A, depth, row + TY)];
                (*products).bottom_left += outer(bottom, left);
                (*products).bottom_right += outer(bottom, right);
            }
        }
    }
}

// Waits until all lanes are done with the tiles, so that the epilogue may use their memory.
fn wait(products: ptr<function, Products>, lane: u32) {
    workgroupBarrier();
}

// Four numbers of a row of a block of an invocation.
fn four_of_row(products: ptr<function, Products>, lane: u32, down: u32, across: u32, r: u32) -> vec4<f32> {
    if down == 0u {
        if across == 0u { return (*products).top_left[r]; }
        return (*products).top_right[r];
    }
    if across == 0u { return (*products).bottom_left[r]; }
    return (*products).bottom_right[r];
}

// Shares the sum of a block with other lanes, after `wait`: in the tile that has room for a vector of each block.
fn share_block(at: u32, four: vec4<f32>) {
    if LINE_B <= DEPTH { tile_a[at] = four; } else { tile_b[at] = four; }
}

// What a lane shared of a block.
fn shared_block(at: u32) -> vec4<f32> {
    if LINE_B <= DEPTH { return tile_a[at]; }
    return tile_b[at];
}

// Shares a total with other lanes, after `wait`: in the other tile.
fn share_total(at: u32, four: vec4<f32>) {
    if LINE_B <= DEPTH { tile_b[at] = four; } else { tile_a[at] = four; }
}

// A total that a lane shared.
fn shared_total(at: u32) -> vec4<f32> {
    if LINE_B <= DEPTH { return tile_b[at]; }
    return tile_a[at];
}
