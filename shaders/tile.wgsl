// tile.wgsl: the product of two tiles in f32 registers. Compiled behind conv.wgsl.
//
//   products = products + A * B,  with A (8*TY, DEPTH) and B (DEPTH, 8*TX) in workgroup memory
//
// Mapping   each invocation computes 8 x 8 of the product
// Twin      src/cpu/conv.rs

// Tile of A, depth after depth. After the last stage the epilogue shares sums in it.
var<workgroup> tile_a: array<f32, DEPTH * LINE_A>;
// Tile of B, depth after depth. After the last stage the epilogue shares sums in it.
var<workgroup> tile_b: array<f32, DEPTH * LINE_B>;

// Stores four depths of a row of A.
fn store_depths_of_a(depth: u32, row: u32, four: vec4<f32>) {
    for (var d = 0u; d < 4u; d++) {
        tile_a[(depth + d) * LINE_A + row] = four[d];
    }
}

// Stores four depths of a column of B.
fn store_depths_of_b(depth: u32, column: u32, four: vec4<f32>) {
    for (var d = 0u; d < 4u; d++) {
        tile_b[(depth + d) * LINE_B + column] = four[d];
    }
}

// Stores four rows of a depth of A.
fn store_rows_of_a(depth: u32, row: u32, four: vec4<f32>) {
    for (var r = 0u; r < 4u; r++) {
        tile_a[depth * LINE_A + row + r] = four[r];
    }
}

// Stores four columns of a depth of B.
fn store_columns_of_b(depth: u32, column: u32, four: vec4<f32>) {
    for (var c = 0u; c < 4u; c++) {
        tile_b[depth * LINE_B + column + c] = four[c];
    }
}

// The 8 x 8 sums of an invocation in four quarters; column r of a matrix is row r of the quarter.
struct Products {
    top_left: mat4x4<f32>,
    top_right: mat4x4<f32>,
    bottom_left: mat4x4<f32>,
    bottom_right: mat4x4<f32>,
}

fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(a.x * b, a.y * b, a.z * b, a.w * b);
}

fn four_of_a(at: u32) -> vec4<f32> {
    return vec4<f32>(tile_a[at], tile_a[at + 1u], tile_a[at + 2u], tile_a[at + 3u]);
}

fn four_of_b(at: u32) -> vec4<f32> {
    return vec4<f32>(tile_b[at], tile_b[at + 1u], tile_b[at + 2u], tile_b[at + 3u]);
}

// Adds the product of both tiles to the sums.
fn multiply(products: ptr<function, Products>, lane: u32) {
    let row = 8u * (lane / TX);
    let column = 8u * (lane % TX);
    for (var depth = 0u; depth < DEPTH; depth++) {
        let at_a = depth * LINE_A + row;
        let at_b = depth * LINE_B + column;
        let top = four_of_a(at_a);
        let bottom = four_of_a(at_a + 4u);
        let left = four_of_b(at_b);
        let right = four_of_b(at_b + 4u);
        (*products).top_left += outer(top, left);
        (*products).top_right += outer(top, right);
        (*products).bottom_left += outer(bottom, left);
        (*products).bottom_right += outer(bottom, right);
    }
}

// Waits until all lanes are done with the tiles, so that the epilogue may use their memory.
fn wait(products: ptr<function, Products>, lane: u32) {
    workgroupBarrier();
}

// A row of an invocation's 8 x 8 sums.
fn product_row(products: ptr<function, Products>, lane: u32, row: u32) -> array<f32, 8> {
    var left: vec4<f32>;
    var right: vec4<f32>;
    if row < 4u {
        left = (*products).top_left[row];
        right = (*products).top_right[row];
    } else {
        left = (*products).bottom_left[row - 4u];
        right = (*products).bottom_right[row - 4u];
    }
    return array<f32, 8>(left.x, left.y, left.z, left.w, right.x, right.y, right.z, right.w);
}

// Shares a number with other lanes in memory A, after `wait`.
fn share_in_a(at: u32, value: f32) {
    tile_a[at] = value;
}

// Shares a number with other lanes in memory B, after `wait`.
fn share_in_b(at: u32, value: f32) {
    tile_b[at] = value;
}

// A number that a lane shared in memory A.
fn shared_in_a(at: u32) -> f32 {
    return tile_a[at];
}

// A number that a lane shared in memory B.
fn shared_in_b(at: u32) -> f32 {
    return tile_b[at];
}
