// diff_augment.wgsl: differentiable augmentation of each image of a batch (Zhao et al. 2020). Compiled after random.wgsl
// and workgroup_sums.wgsl.
//
//   forward   y = k * s * x + k * (1 - s) * mean_pixel(x) + (1 - k) * mean_image(x) + b, translated by a whole number of pixels,
//             and 0 outside the translated image and in a cut-out rectangle of up to half the height and width
//   grad      dx = k * s * g + k * (1 - s) * mean_pixel(g) + (1 - k) * mean_image(g), with g = dy where y depends on x,
//             translated back, and 0 elsewhere
//             saturation s, contrast k and brightness b are 1, 1 and 0 without COLOUR, the translation is 0 without TRANSLATION,
//             the rectangle is empty without CUTOUT; the random draws are the words of philox(k, step, STREAM, 0) and
//             philox(k, step, STREAM, 1) with k = FIRST + i; all changes grow with the strength, which is 1 without ADAPTED
//
// Shapes    clock (1), u32    x, y, dy, dx (N, H, W, C)    strength (1), 0 to 1
// Mapping   one workgroup per image; its lanes stride over the pixels
// Twin      src/cpu/diff_augment.rs

// Height of an image.
override H: u32;
// Width of an image.
override W: u32;
// Channels of an image.
override C: u32;
// Random stream of this pass.
override STREAM: u32;
// Whether images are translated.
override TRANSLATION: bool;
// Whether a rectangle is cut out.
override CUTOUT: bool;
// Whether brightness, saturation and contrast change.
override COLOUR: bool;
// Number of the first image in the batch.
override FIRST: u32;
// Whether changes have the strength that is given, instead of 1.
override ADAPTED: bool;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<storage, read> strength: array<f32>;

// The random draws for one image.
struct Change {
    // Added to every number.
    brightness: f32,
    // Factor of the difference to the pixel's mean.
    saturation: f32,
    // Factor of the difference to the image's mean.
    contrast: f32,
    // Translation, down and to the right.
    shift: vec2<i32>,
    // First row and column of the cut-out rectangle.
    first: vec2<i32>,
    // Row and column behind the rectangle.
    end: vec2<i32>,
}

alias Sum = f32;

fn drawn(i: u32) -> Change {
    let numbers = uniform_numbers(philox(vec4<u32>(i, clock[0], STREAM, 0u)));
    let words = philox(vec4<u32>(i, clock[0], STREAM, 1u)) >> vec4<u32>(16u);
    let sides = vec2<u32>(H, W);
    var amount = 1.0;
    if ADAPTED {
        amount = strength[0];
    }
    // In whole numbers, the CPU rounds alike.
    let sixteen_bits = u32(amount * 65536.0);
    let reach = (sixteen_bits * sides + (1u << 18u)) >> vec2<u32>(19u);
    let length = (sixteen_bits * sides + (1u << 16u)) >> vec2<u32>(17u);
    var change = Change(0.0, 1.0, 1.0, vec2<i32>(0), vec2<i32>(0), vec2<i32>(0));
    if COLOUR {
        change.brightness = amount * (numbers.x - 0.5);
        change.saturation = 1.0 + amount * (2.0 * numbers.y - 1.0);
        change.contrast = 1.0 + amount * (numbers.z - 0.5);
    }
    if TRANSLATION {
        change.shift = vec2<i32>((words.xy * (2u * reach + 1u)) >> vec2<u32>(16u)) - vec2<i32>(reach);
    }
    if CUTOUT {
        let middle = (words.zw * (sides + 1u - length % 2u)) >> vec2<u32>(16u);
        change.first = vec2<i32>(middle) - vec2<i32>(length / 2u);
        change.end = change.first + vec2<i32>(length);
    }
    return change;
}

fn inside(place: vec2<i32>) -> bool {
    return all(place >= vec2<i32>(0)) && all(place < vec2<i32>(i32(H), i32(W)));
}

fn cut_out(place: vec2<i32>, change: Change) -> bool {
    return all(place >= change.first) && all(place < change.end);
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let change = drawn(FIRST + group.x);
    let image = group.x * H * W * C;
    var everywhere = change.brightness;
    if COLOUR {
        var sum = 0.0;
        for (var at = lane; at < H * W * C; at += 256u) {
            sum += x[image + at];
        }
        everywhere += (1.0 - change.contrast) * sum_of_workgroup(lane, sum) / f32(H * W * C);
    }
    for (var pixel = lane; pixel < H * W; pixel += 256u) {
        let place = vec2<i32>(i32(pixel / W), i32(pixel % W));
        let source = place - change.shift;
        let to = image + pixel * C;
        if inside(source) && !cut_out(place, change) {
            let origin = image + (u32(source.x) * W + u32(source.y)) * C;
            var sum = 0.0;
            if COLOUR {
                for (var c = 0u; c < C; c++) {
                    sum += x[origin + c];
                }
            }
            let all_channels = change.contrast * (1.0 - change.saturation) * (sum / f32(C)) + everywhere;
            for (var c = 0u; c < C; c++) {
                y[to + c] = change.contrast * change.saturation * x[origin + c] + all_channels;
            }
        } else {
            for (var c = 0u; c < C; c++) {
                y[to + c] = 0.0;
            }
        }
    }
}

@compute @workgroup_size(256)
fn grad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let change = drawn(FIRST + group.x);
    let image = group.x * H * W * C;
    var everywhere = 0.0;
    if COLOUR {
        var sum = 0.0;
        for (var pixel = lane; pixel < H * W; pixel += 256u) {
            let place = vec2<i32>(i32(pixel / W), i32(pixel % W));
            if inside(place - change.shift) && !cut_out(place, change) {
                for (var c = 0u; c < C; c++) {
                    sum += dy[image + pixel * C + c];
                }
            }
        }
        everywhere = (1.0 - change.contrast) * sum_of_workgroup(lane, sum) / f32(H * W * C);
    }
    for (var pixel = lane; pixel < H * W; pixel += 256u) {
        let place = vec2<i32>(i32(pixel / W), i32(pixel % W)) + change.shift;
        let to = image + pixel * C;
        if inside(place) && !cut_out(place, change) {
            let origin = image + (u32(place.x) * W + u32(place.y)) * C;
            var sum = 0.0;
            if COLOUR {
                for (var c = 0u; c < C; c++) {
                    sum += dy[origin + c];
                }
            }
            let all_channels = change.contrast * (1.0 - change.saturation) * (sum / f32(C)) + everywhere;
            for (var c = 0u; c < C; c++) {
                dx[to + c] = change.contrast * change.saturation * dy[origin + c] + all_channels;
            }
        } else {
            for (var c = 0u; c < C; c++) {
                dx[to + c] = everywhere;
            }
        }
    }
}
