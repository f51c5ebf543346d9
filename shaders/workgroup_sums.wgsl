// workgroup_sums.wgsl: sums over the 256 lanes of a workgroup. Compiled before the shaders that take such sums, each of which declares
// the type of what it sums up as `Sum`.
//
//   sum_of_workgroup   the sum over all lanes: each half is added to the other until one lane is left, in eight steps
//   sum_of_column      the sum over the lanes of a column, in order
//
//           Every lane of the workgroup calls them, and gets the sum.
//
// Mapping   sum_of_workgroup: lane is the index in the workgroup;  sum_of_column: a workgroup has `width` columns of `height` lanes
// Twin      src/cpu/loss.rs

var<workgroup> lanes: array<Sum, 256>;

fn sum_of_workgroup(lane: u32, value: Sum) -> Sum {
    workgroupBarrier(); // earlier reads of `lanes` must be done
    lanes[lane] = value;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half { lanes[lane] += lanes[lane + half]; }
    }
    workgroupBarrier();
    return lanes[0];
}

fn sum_of_column(lane: vec2<u32>, width: u32, height: u32, value: Sum) -> Sum {
    workgroupBarrier(); // earlier reads of `lanes` must be done
    lanes[lane.y * width + lane.x] = value;
    workgroupBarrier();
    var sum = Sum();
    for (var other = 0u; other < height; other++) {
        sum += lanes[other * width + lane.x];
    }
    return sum;
}
