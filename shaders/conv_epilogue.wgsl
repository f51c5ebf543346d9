// conv_epilogue.wgsl: stores the tile of a product of conv.wgsl, with an epilogue. Compiled after conv.wgsl.
//
//   result + bias     in `partials`; with several splits without bias, which the reduction adds, and without epilogue
//   activation        of forward and grad_input: activated = f(result), or where BACKWARD  activated = result * f'  with f' from
//                     activated_y = f
//   *_and_statistics      also the statistics of the batch normalisation behind the product: in `sums`, for the rows of each part of a
//                         group: their sum, their centred sum of squares, and the number of rows
//   *_and_gradient_sums   also the sums of the gradient of batch normalisation: sum e and sum e * xhat, with e = activated,
//                         xhat = (x - mean) * inv_std of x = normalised_x, and mean and inv_std in saved
//
// Shapes    those of conv.wgsl
// Mapping   An invocation stores its blocks of 4 x 4, four neighbouring columns at a time. Sums over rows are added up over the four rows
//           of a block first, then over the blocks of a part in order, so their bits do not depend on the shape of the tile.
// Twin      src/cpu/conv.rs

// First row of a block of an invocation.
fn row_of(lane: u32, down: u32) -> u32 {
    return 4u * (lane / STRIP % TY + TY * down);
}

// First column of a block of an invocation.
fn column_of(lane: u32, across: u32) -> u32 {
    return 4u * (lane % STRIP + STRIP * (lane / (STRIP * TY)) + TX * across);
}

// Whether an invocation has blocks: those beyond TX * TY only help to load and to multiply.
fn has_blocks(lane: u32) -> bool {
    return lane < TX * TY;
}

// The bias of four channels; 0 for partial sums, where the reduction adds it.
fn bias_of(channel: u32, channels: u32) -> vec4<f32> {
    var four = vec4<f32>();
    if HAS_BIAS && SPLITS == 1u {
        for (var c = 0u; c < 4u; c++) {
            if channel + c < channels { four[c] = b[channel + c]; }
        }
    }
    return four;
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

// Whether none of four neighbouring columns exists. Where all or none do, they are stored under one condition, as one vector.
fn is_beyond(at_row: u32, column: u32, columns: u32) -> bool {
    return at_row == NOWHERE || (columns % 4u == 0u && column >= columns);
}

// Whether one of them exists, if some do.
fn has_column(column: u32, columns: u32) -> bool {
    return columns % 4u == 0u || column < columns;
}

// Writes four neighbouring elements of a row: of a partial sum, or of the result and its epilogue with one split.
fn store_four(at_row: u32, column: u32, columns: u32, four: vec4<f32>) {
    if is_beyond(at_row, column, columns) { return; }
    for (var c = 0u; c < 4u; c++) {
        if has_column(column + c, columns) { partials[at_row + column + c] = four[c]; }
    }
    if SPLITS > 1u { return; }
    for (var c = 0u; c < 4u; c++) {
        if has_column(column + c, columns) { write_epilogue(at_row + column + c, four[c]); }
    }
}

// Stores the sums of an invocation. Waits first, since a tile of no depth has not met a barrier after writing `origins`.
fn store_all(products: ptr<function, Products>, lane: u32, columns: u32, first_column: u32) {
    wait(products, lane);
    if !has_blocks(lane) { return; }
    for (var across = 0u; across < ACROSS; across++) {
        let column = first_column + column_of(lane, across);
        let bias = bias_of(column, columns);
        for (var down = 0u; down < DOWN; down++) {
            for (var r = 0u; r < 4u; r++) {
                let four = four_of_row(products, lane, down, across, r);
                store_four(origins[row_of(lane, down) + r].w, column, columns, four + bias);
            }
        }
    }
}

// Stores the sums of an invocation of grad_weight, which has no epilogue.
fn store_partials(products: ptr<function, Products>, lane: u32, columns: u32, first_column: u32) {
    wait(products, lane);
    if !has_blocks(lane) { return; }
    for (var across = 0u; across < ACROSS; across++) {
        let column = first_column + column_of(lane, across);
        for (var down = 0u; down < DOWN; down++) {
            for (var r = 0u; r < 4u; r++) {
                let four = four_of_row(products, lane, down, across, r);
                let at_row = origins[row_of(lane, down) + r].w;
                if is_beyond(at_row, column, columns) { continue; }
                for (var c = 0u; c < 4u; c++) {
                    if has_column(column + c, columns) { partials[at_row + column + c] = four[c]; }
                }
            }
        }
    }
}

// Place of a block of an invocation among those of the tile.
fn block_of(lane: u32, down: u32, across: u32) -> u32 {
    return row_of(lane, down) / 4u * LINE_B + column_of(lane, across) / 4u;
}

// Rows of part k of the tile.
fn rows_of_part(tile: Tile, k: u32) -> u32 {
    return min(max(tile.rows, k * PART_ROWS) - k * PART_ROWS, PART_ROWS);
}

// Adds up what was shared of the blocks of a part, in order, for four columns: total `number` of TOTALS.
fn total(number: u32) -> vec4<f32> {
    let first = number / LINE_B * (PART_ROWS / 4u);
    var four = vec4<f32>();
    for (var block = first; block < first + PART_ROWS / 4u; block++) {
        four += shared_block(block * LINE_B + number % LINE_B);
    }
    return four;
}

// Writes the two sums of part and columns `number`.
fn write_partial(tile: Tile, number: u32, columns: u32, first: vec4<f32>, second: vec4<f32>) {
    let part = tile.first_part + number / LINE_B;
    let column = tile.first_column + 4u * (number % LINE_B);
    if part >= tile.end_part { return; }
    let at = (tile.group * PARTS + part) * (2u * columns + 1u);
    for (var c = 0u; c < 4u; c++) {
        if column + c < columns {
            sums[at + column + c] = first[c];
            sums[at + columns + column + c] = second[c];
        }
    }
    if column == 0u { sums[at + 2u * columns] = f32(rows_of_part(tile, number / LINE_B)); }
}

fn store_with_statistics(products: ptr<function, Products>, tile: Tile, lane: u32, columns: u32) {
    store_all(products, lane, columns, tile.first_column);
    for (var down = 0u; down < DOWN && has_blocks(lane); down++) {
        for (var across = 0u; across < ACROSS; across++) {
            var sum = vec4<f32>();
            for (var r = 0u; r < 4u; r++) {
                if row_of(lane, down) + r < tile.rows { sum += four_of_row(products, lane, down, across, r); }
            }
            share_block(block_of(lane, down, across), sum);
        }
    }
    workgroupBarrier();
    if lane < TOTALS { share_total(lane, total(lane)); }
    workgroupBarrier();
    for (var down = 0u; down < DOWN && has_blocks(lane); down++) {
        let row = row_of(lane, down);
        let k = row / PART_ROWS;
        for (var across = 0u; across < ACROSS; across++) {
            let mean = shared_total(k * LINE_B + column_of(lane, across) / 4u) / f32(rows_of_part(tile, k));
            var squares = vec4<f32>();
            for (var r = 0u; r < 4u; r++) {
                let centred = four_of_row(products, lane, down, across, r) - mean;
                if row + r < tile.rows { squares += centred * centred; }
            }
            share_block(block_of(lane, down, across), squares);
        }
    }
    workgroupBarrier();
    if lane < TOTALS { write_partial(tile, lane, columns, shared_total(lane), total(lane)); }
}

fn store_with_gradient_sums(products: ptr<function, Products>, tile: Tile, lane: u32, columns: u32) {
    wait(products, lane);
    var seconds = array<vec4<f32>, 4>();
    for (var across = 0u; across < ACROSS && has_blocks(lane); across++) {
        let column = tile.first_column + column_of(lane, across);
        var mean = vec4<f32>();
        var inv_std = vec4<f32>();
        for (var c = 0u; c < 4u; c++) {
            if column + c < columns {
                mean[c] = saved[tile.group * 2u * columns + column + c];
                inv_std[c] = saved[(tile.group * 2u + 1u) * columns + column + c];
            }
        }
        for (var down = 0u; down < DOWN; down++) {
            var first = vec4<f32>();
            var second = vec4<f32>();
            for (var r = 0u; r < 4u; r++) {
                let at_row = origins[row_of(lane, down) + r].w;
                let four = four_of_row(products, lane, down, across, r);
                if is_beyond(at_row, column, columns) { continue; }
                var x = vec4<f32>();
                var value = vec4<f32>();
                for (var c = 0u; c < 4u; c++) {
                    if has_column(column + c, columns) { value[c] = activated_y[at_row + column + c]; }
                }
                for (var c = 0u; c < 4u; c++) {
                    if has_column(column + c, columns) { x[c] = normalised_x[at_row + column + c]; }
                }
                for (var c = 0u; c < 4u; c++) {
                    value[c] = four[c] * derivative_at(value[c]);
                }
                for (var c = 0u; c < 4u; c++) {
                    if has_column(column + c, columns) { partials[at_row + column + c] = four[c]; }
                }
                for (var c = 0u; c < 4u; c++) {
                    if has_column(column + c, columns) { activated[at_row + column + c] = value[c]; }
                }
                first += value;
                second += value * ((x - mean) * inv_std);
            }
            share_block(block_of(lane, down, across), first);
            seconds[2u * down + across] = second;
        }
    }
    workgroupBarrier();
    var first_total = vec4<f32>();
    if lane < TOTALS { first_total = total(lane); }
    workgroupBarrier();
    for (var down = 0u; down < DOWN && has_blocks(lane); down++) {
        for (var across = 0u; across < ACROSS; across++) {
            share_block(block_of(lane, down, across), seconds[2u * down + across]);
        }
    }
    workgroupBarrier();
    if lane < TOTALS { write_partial(tile, lane, columns, first_total, total(lane)); }
}
