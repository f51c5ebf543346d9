// matrices.wgsl: the product of two tiles by cooperative matrices of subgroups: operands rounded to f16, sums in f32. Compiled after
// matrices_8.wgsl or matrices_16.wgsl and conv.wgsl, instead of tile.wgsl.
//
//   products = products + A * B,  with A (64, DEPTH) and B (DEPTH, 64) in workgroup memory
//
//           Operands are multiplied by SCALE_A and SCALE_B, powers of two, before they are rounded, and sums are divided by both:
//           gradients of a mean over many images are small, and f16 ends at 6e-8. A number that is too large becomes infinite, which
//           the trainer detects.
//
// Mapping   a subgroup computes eight matrices of SIDE x SIDE; after `wait` each of the first 64 invocations has 8 x 8, in four blocks
// Twin      src/cpu/conv.rs

// Matrices of a subgroup.
const MATRICES = 8u;
// Matrices along a side of the tile.
const IN_LINE = 64u / SIDE;

// The matrices of a subgroup, line after line.
alias Products = array<Sums, MATRICES>;

// Rows and columns of the tiles.
const SIZE = 64u;

// Tile of A, depth after depth, so that A is column-major.
var<workgroup> tile_a: array<f16, DEPTH * SIZE>;
// Tile of B, depth after depth.
var<workgroup> tile_b: array<f16, DEPTH * SIZE>;
// The sums of the workgroup, row-major, after `wait`.
var<workgroup> complete: array<f32, SIZE * SIZE>;
// What lanes share of each block in the epilogue.
var<workgroup> shares: array<vec4<f32>, SIZE / 4u * (SIZE / 4u)>;
// What lanes share of each four columns in the epilogue.
var<workgroup> totals: array<vec4<f32>, SIZE / 4u>;

// Stores four depths of a row of A.
fn store_depths_of_a(depth: u32, row: u32, four: vec4<f32>) {
    for (var d = 0u; d < 4u; d++) {
        tile_a[(depth + d) * SIZE + row] = f16(SCALE_A * four[d]);
    }
}

// Stores four depths of a column of B.
fn store_depths_of_b(depth: u32, column: u32, four: vec4<f32>) {
    for (var d = 0u; d < 4u; d++) {
        tile_b[(depth + d) * SIZE + column] = f16(SCALE_B * four[d]);
    }
}

// Stores a vector of four rows of a depth of A.
fn store_rows_of_a(depth: u32, vector: u32, four: vec4<f32>) {
    for (var r = 0u; r < 4u; r++) {
        tile_a[depth * SIZE + 4u * vector + r] = f16(SCALE_A * four[r]);
    }
}

// Stores a vector of four columns of a depth of B.
fn store_columns_of_b(depth: u32, vector: u32, four: vec4<f32>) {
    for (var c = 0u; c < 4u; c++) {
        tile_b[depth * SIZE + 4u * vector + c] = f16(SCALE_B * four[c]);
    }
}

// A vector of four rows of a depth of A, as it was rounded.
fn rows_at(depth: u32, vector: u32) -> vec4<f32> {
    let at = depth * SIZE + 4u * vector;
    return vec4<f32>(vec4<f16>(tile_a[at], tile_a[at + 1u], tile_a[at + 2u], tile_a[at + 3u])) / SCALE_A;
}

// A vector of four columns of a depth of B, as it was rounded.
fn columns_at(depth: u32, vector: u32) -> vec4<f32> {
    let at = depth * SIZE + 4u * vector;
    return vec4<f32>(vec4<f16>(tile_b[at], tile_b[at + 1u], tile_b[at + 2u], tile_b[at + 3u])) / SCALE_B;
}

// The first line of matrices of a subgroup. Invocations are assigned to subgroups in their order.
fn first_line(lane: u32) -> u32 {
    return lane / SUBGROUP * (MATRICES / IN_LINE);
}

// Adds the product of all terms of both tiles to the sums; those from `depths` on are 0.
fn multiply(products: ptr<function, Products>, lane: u32, depths: u32) {
    for (var depth = 0u; depth < depths; depth += SIDE) {
        for (var line = 0u; line < MATRICES / IN_LINE; line++) {
            let row = SIDE * (first_line(lane) + line);
            let a = coopLoad<Left>(&tile_a[depth * SIZE + row], SIZE);
            for (var m = 0u; m < IN_LINE; m++) {
                let b = coopLoadT<Right>(&tile_b[depth * SIZE + SIDE * m], SIZE);
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
            coopStoreT((*products)[line * IN_LINE + m], &complete[SIZE * row + SIDE * m], SIZE);
        }
    }
    workgroupBarrier();
}

// Four numbers of a row of a block of an invocation, after `wait`.
fn four_of_row(products: ptr<function, Products>, lane: u32, down: u32, across: u32, r: u32) -> vec4<f32> {
    let at = SIZE * (row_of(lane, down) + r) + column_of(lane, across);
    let four = vec4<f32>(complete[at], complete[at + 1u], complete[at + 2u], complete[at + 3u]);
    return four / (SCALE_A * SCALE_B);
}

// Shares the sum of a block with other lanes, after `wait`.
fn share_block(at: u32, four: vec4<f32>) {
    shares[at] = four;
}

// What a lane shared of a block.
fn shared_block(at: u32) -> vec4<f32> {
    return shares[at];
}

// Shares a total with other lanes, after `wait`.
fn share_total(at: u32, four: vec4<f32>) {
    totals[at] = four;
}

// A total that a lane shared.
fn shared_total(at: u32) -> vec4<f32> {
    return totals[at];
}
