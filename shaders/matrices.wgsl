// matrices.wgsl: the product of two tiles for conv.wgsl, which ends with it, by the cooperative matrices of subgroups: of numbers
// rounded to f16, added up in f32. Instead of tile.wgsl, behind matrices_8.wgsl or matrices_16.wgsl.
//
//   products = products + A * B,  with A (64, DEPTH) and B (DEPTH, 64) in workgroup memory
//
//           Numbers are multiplied by SCALE_A and SCALE_B, powers of two, before they are rounded, and products divided by both:
//           gradients of a mean over many images are small, and f16 ends at 6e-8. What is too large becomes infinite, and so
//           shows.
//
// Mapping   a subgroup computes eight matrices of SIDE x SIDE; once settled, each of the first 64 invocations has 8 x 8
// Twin      src/cpu/conv.rs

const MATRICES = 8u; // of a subgroup
const IN_LINE = 64u / SIDE;

alias Products = array<Sums, MATRICES>;

// Depth after depth, so that A lies column by column.
var<workgroup> tile_a: array<f16, DEPTH * LINE_A>;
var<workgroup> tile_b: array<f16, DEPTH * LINE_B>;
var<workgroup> settled: array<f32, 64u * 64u>;
var<workgroup> shares_a: array<f32, 8u * 64u>;
var<workgroup> shares_b: array<f32, 8u * 64u>;

fn store_depths_of_a(depth: u32, row: u32, four: vec4<f32>) {
    for (var d = 0u; d < 4u; d++) {
        tile_a[(depth + d) * LINE_A + row] = f16(SCALE_A * four[d]);
    }
}

fn store_depths_of_b(depth: u32, column: u32, four: vec4<f32>) {
    for (var d = 0u; d < 4u; d++) {
        tile_b[(depth + d) * LINE_B + column] = f16(SCALE_B * four[d]);
    }
}

fn store_rows_of_a(depth: u32, row: u32, four: vec4<f32>) {
    for (var r = 0u; r < 4u; r++) {
        tile_a[depth * LINE_A + row + r] = f16(SCALE_A * four[r]);
    }
}

fn store_columns_of_b(depth: u32, column: u32, four: vec4<f32>) {
    for (var c = 0u; c < 4u; c++) {
        tile_b[depth * LINE_B + column + c] = f16(SCALE_B * four[c]);
    }
}

// The first line of a tile's matrices that is a subgroup's. Invocations are in subgroups in their order.
fn first_line(lane: u32) -> u32 {
    return lane / SUBGROUP * (MATRICES / IN_LINE);
}

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

fn settle(products: ptr<function, Products>, lane: u32) {
    workgroupBarrier();
    for (var line = 0u; line < MATRICES / IN_LINE; line++) {
        let row = SIDE * (first_line(lane) + line);
        for (var m = 0u; m < IN_LINE; m++) {
            coopStoreT((*products)[line * IN_LINE + m], &settled[64u * row + SIDE * m], 64u);
        }
    }
    workgroupBarrier();
}

fn product_row(products: ptr<function, Products>, lane: u32, row: u32) -> array<f32, 8> {
    var values: array<f32, 8>;
    for (var o = 0u; o < 8u; o++) {
        values[o] = settled[64u * (8u * (lane / TX) + row) + 8u * (lane % TX) + o] / (SCALE_A * SCALE_B);
    }
    return values;
}

fn share_in_a(at: u32, value: f32) {
    shares_a[at] = value;
}

fn share_in_b(at: u32, value: f32) {
    shares_b[at] = value;
}

fn shared_in_a(at: u32) -> f32 {
    return shares_a[at];
}

fn shared_in_b(at: u32) -> f32 {
    return shares_b[at];
}
