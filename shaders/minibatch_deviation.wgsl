// minibatch_deviation.wgsl: minibatch standard deviation as one more channel (Karras et al. 2018, section 3). Compiled after
// workgroup_sums.wgsl.
//
//   deviation       partials[m, slice] = sum of sqrt(variance + 1e-8) over a slice of the elements of group m, divided by LEN; the
//                   variance of an element is over the GROUP images of the group
//   forward         y[n, pixel] = the channels of x, followed by the sum of its group's partials
//   grad_partials   partials[m, slice] = sum of the last channel of dy over a slice of the pixels of group m
//   grad            dx = dy + S / (LEN * GROUP) * d / sqrt(variance + 1e-8), with S the sum of the group's partials and d the
//                   difference of an element to its mean over the group
//
// Differences are taken to the first image of the group, so that they are exact where images are equal.
//
// Shapes    x, dx (N, PIXELS, C)    y, dy (N, PIXELS, C + 1)    partials (N / GROUP, SLICES)    LEN = PIXELS * C
// Mapping   deviation and grad_partials: a workgroup per group and slice. forward: one invocation per element. grad: one
//           invocation per element of an image, for all GROUP images; both in a grid-stride loop
// Twin      src/cpu/minibatch_deviation.rs

// Images.
override N: u32;
// Pixels of an image.
override PIXELS: u32;
// Channels of x.
override C: u32;
// Channels of y: C + 1.
override C_OUT: u32;
// Images of a group.
override GROUP: u32;
// Slices of a group.
override SLICES: u32;
// Elements of a slice in deviation, pixels in grad_partials.
override SLICE: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<storage, read_write> partials: array<f32>;

alias Sum = f32;

// Mean over the group of element i, relative to the first image, and its standard deviation.
fn spread(m: u32, i: u32) -> vec2<f32> {
    let len = PIXELS * C;
    let first = m * GROUP * len + i;
    let origin = x[first];
    var mean = 0.0;
    for (var g = 1u; g < GROUP; g++) {
        mean += x[first + g * len] - origin;
    }
    mean /= f32(GROUP);
    var square = mean * mean; // of the first image
    for (var g = 1u; g < GROUP; g++) {
        let d = x[first + g * len] - origin - mean;
        square += d * d;
    }
    return vec2(mean, sqrt(square / f32(GROUP) + 1e-8));
}

fn sum_of_partials(m: u32) -> f32 {
    var sum = 0.0;
    for (var slice = 0u; slice < SLICES; slice++) {
        sum += partials[m * SLICES + slice];
    }
    return sum;
}

@compute @workgroup_size(256)
fn deviation(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let len = PIXELS * C;
    var sum = 0.0;
    for (var k = lane; k < SLICE; k += 256u) {
        let i = group.y * SLICE + k;
        if i < len {
            sum += spread(group.x, i).y;
        }
    }
    let all = sum_of_workgroup(lane, sum);
    if lane == 0u {
        partials[group.x * SLICES + group.y] = all / f32(len);
    }
}

@compute @workgroup_size(256)
fn forward(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = id.x; i < N * PIXELS * C_OUT; i += 256u * groups.x) {
        let row = i / C_OUT;
        let channel = i % C_OUT;
        if channel < C {
            y[i] = x[row * C + channel];
        } else {
            y[i] = sum_of_partials(row / (PIXELS * GROUP));
        }
    }
}

@compute @workgroup_size(256)
fn grad_partials(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = PIXELS * GROUP;
    var sum = 0.0;
    for (var k = lane; k < SLICE; k += 256u) {
        let row = group.y * SLICE + k;
        if row < rows {
            sum += dy[(group.x * rows + row) * C_OUT + C];
        }
    }
    let all = sum_of_workgroup(lane, sum);
    if lane == 0u {
        partials[group.x * SLICES + group.y] = all;
    }
}

@compute @workgroup_size(256)
fn grad(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let len = PIXELS * C;
    for (var at = id.x; at < N / GROUP * len; at += 256u * groups.x) {
        let m = at / len;
        let i = at % len;
        let factor = sum_of_partials(m) / f32(len * GROUP);
        let moments = spread(m, i);
        let origin = x[m * GROUP * len + i];
        for (var g = 0u; g < GROUP; g++) {
            let image = m * GROUP + g;
            let place = image * len + i;
            let direct = dy[(image * PIXELS + i / C) * C_OUT + i % C];
            dx[place] = direct + factor * ((x[place] - origin - moments.x) / moments.y);
        }
    }
}
