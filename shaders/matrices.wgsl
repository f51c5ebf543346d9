// matrices.wgsl: the product of two tiles by cooperative matrices of subgroups: operands rounded to f16, sums in f32. Compiled behind
// conv.wgsl instead of tile.wgsl, which is compiled behind matrices_8.wgsl or matrices_16.wgsl.
//
//   products = products + A * B,  with A (64, DEPTH) and B (DEPTH, 64) in workgroup memory
//
//           Operands are multiplied by SCALE_A and SCALE_B, powers of two, before they are rounded, and sums are divided by both:
//           gradients of a mean over many images are small, and f16 ends at 6e-8. A number that is too large becomes infinite, which
//           the trainer detects.
//
// Mapping   a subgroup computes eight matrices of SIDE x SIDE; after `wait` each of the first 64 invocations has 8 x 8
// Twin      src/cpu/conv.rs

// Matrices of a subgroup.
const MATRICES = 8u;
// Matrices along a side of the tile.
const IN_LINE = 64u / SIDE;

// The matrices of a subgroup, line after line.
alias Products = array<Sums, MATRICES>;

// Tile of A, depth after depth, so that A is column-major.
var<workgroup> tile_a: array<f16, DEPTH * LINE_A>;
// Tile of B, depth after depth.
var<workgroup> tile_b: array<f16, DEPTH * LINE_B>;
// The sums of the workgroup, row-major, after `wait`.
var<workgroup> complete: array<f32, 64u * 64u>;
// Memory A of the epilogue.
var<workgroup> shares_a: array<f32, 8u * 64u>;
// Memory B of the epilogue.
var<workgroup> shares_b: array<f32, 8u * 64u>;

// Stores four depths of a row of A.
fn store_depths_of_a(depth: u32, row: u32, four: vec4<f32>) {
    for (var d = 0u; d < 4u; d++) {
        tile_a[(depth + d) * LINE_A + row] = f16(SCALE_A * four[d]);
    }
}

// Stores four depths of a column of B.
fn store_depths_of_b(depth: u32, column: u32, four: vec4<f32>) {
    for (var d = 0u; d < 4u; d++) {
        tile_b[(depth + d) * LINE_B + column] = f16(SCALE_B * four[d]);
    }
}

// Stores four rows of a depth of A.
fn store_rows_of_a(depth: u32, row: u32, four: vec4<f32>) {
    for (var r = 0u; r < 4u; r++) {
        tile_a[depth * LINE_A + row + r] = f16(SCALE_A * four[r]);
    }
}

// Stores four columns of a depth of B.
fn store_columns_of_b(depth: u32, column: u32, four: vec4<f32>) {
    for (var c = 0u; c < 4u; c++) {
        tile_b[depth * LINE_B + column + c] = f16(SCALE_B * four[c]);
    }
}

// The first line of matrices of a subgroup. Invocations are assigned to subgroups in their order.
fn first_line(lane: u32) -> u32 {
    return lane / SUBGROUP * (MATRICES / IN_LINE);
}

// Adds the product of both tiles to the sums.
fn multiply(products: ptr<function, Products>, lane: u32) {
    for (var depth = 0u; depth < DEPTH; depth += SIDE) {
        for (var line = 0u; line < MATRICES / IN_LINE; line++) {
            let row = SIDE * (first_line(lane) + line);
            let a = coopLoad<Left>(&tile_a[depth * LINE_A + row], LINE_A);
            for (var m = 0u; m < IN_LINE; m++) {
                let b = coopLoadT<Right>(&tile_b[depth * LINE_B + SIDE * m], LINE_B);
                (*products)[line * IN_LINE + m] = coopMultiplyAdd(a, b, (*products)[line * IN_LINE + m]);
            }
        }
    }
}

// Writes the matrices to workgroup memory, and waits until all subgroups have.
fn wait(products: ptr<function, Products>, lane: u32) {
    workgroupBarrier();
    for (var line = 0u; line < MATRICES / IN_LINE; line++) {
        let row = SIDE * (first_line(lane) + line);
        for (var m = 0u; m < IN_LINE; m++) {
            coopStoreT((*products)[line * IN_LINE + m], &complete[64u * row + SIDE * m], 64u);
        }
    }
    workgroupBarrier();
}

// A row of an invocation's 8 x 8 sums.
fn product_row(products: ptr<function, Products>, lane: u32, row: u32) -> array<f32, 8> {
    var values: array<f32, 8>;
    for (var o = 0u; o < 8u; o++) {
        values[o] = complete[64u * (8u * (lane / TX) + row) + 8u * (lane % TX) + o] / (SCALE_A * SCALE_B);
    }
    return values;
}

// Shares a number with other lanes in memory A, after `wait`.
fn share_in_a(at: u32, value: f32) {
    shares_a[at] = value;
}

// Shares a number with other lanes in memory B, after `wait`.
fn share_in_b(at: u32, value: f32) {
    shares_b[at] = value;
}

// A number that a lane shared in memory A.
fn shared_in_a(at: u32) -> f32 {
    return shares_a[at];
}

// A number that a lane shared in memory B.
fn shared_in_b(at: u32) -> f32 {
    return shares_b[at];
}
