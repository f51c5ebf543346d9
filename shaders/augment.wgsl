// augment.wgsl: random rotation and mirroring of each image of a batch. Compiled after random.wgsl.
//
//   forward   y[i] = x[i] rotated about its centre by a random angle within +-ROTATE half turns, then mirrored left to right with
//             probability 1/2 if FLIP, then rotated by 0 to 3 quarter turns if QUARTER_TURNS; counter-clockwise as seen
//             y[i,a,e,c] = sum_{u,v in {0,1}} weight(u,v) * x[i, reflected(top + u), reflected(left + v), c]
//             with (top, left) the pixel above and to the left of the source of (a, e), bilinear weights, and the words of
//             philox(FIRST + i, step, STREAM_AUGMENT, 0) as random draws
//
// Shapes    clock (1), u32    x, y (N, H, W, C)
// Mapping   one workgroup per image
// Twin      src/cpu/augment.rs

// Height of an image.
override H: u32;
// Width of an image.
override W: u32;
// Channels of an image.
override C: u32;
// Largest angle, in half turns.
override ROTATE: f32;
// Whether to mirror at random.
override FLIP: bool;
// Whether to rotate by random quarter turns; needs H == W.
override QUARTER_TURNS: bool;
// Number of the first image in the batch.
override FIRST: u32;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// The random draws for one image.
struct Turn {
    // Cosine and sine of the angle.
    direction: vec2<f32>,
    // 1 if the image is mirrored.
    mirrored: u32,
    // Number of quarter turns.
    quarters: u32,
}

var<workgroup> turn: Turn;

fn drawn(i: u32, step: u32) -> Turn {
    let words = philox(vec4<u32>(i, step, STREAM_AUGMENT, 0u));
    return Turn(
        circle(ROTATE * (uniform_numbers(words).x - 0.5)),
        select(0u, words.y >> 31u, FLIP),
        select(0u, words.z >> 30u, QUARTER_TURNS),
    );
}

// The pixel at coordinate k of the plane that is tiled by the image and its mirror images.
fn reflected(k: i32, size: u32) -> u32 {
    let there = u32(select(k, -1 - k, k < 0)) % (2u * size);
    return min(there, 2u * size - 1u - there);
}

// Linear interpolation between a and b with f in [0, 1]. Rounding could carry the value past b, so it is clamped there.
fn between(a: f32, b: f32, f: f32) -> f32 {
    let value = a + f * (b - a);
    return select(value, b, (a < b && value > b) || (a > b && value < b));
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x;
    if lane == 0u {
        turn = drawn(FIRST + i, clock[0]);
    }
    workgroupBarrier();
    let image = i * H * W * C;
    let middle = vec2<f32>(f32(H - 1u), f32(W - 1u)) / 2.0;
    for (var at = lane; at < H * W * C; at += 256u) {
        // From the pixel of y back to its source in x: the last transformation is undone first.
        let place = vec2<u32>(at / C / W, at / C % W);
        var before = place;
        switch turn.quarters {
            case 1u: { before = vec2<u32>(place.y, W - 1u - place.x); }
            case 2u: { before = vec2<u32>(H - 1u - place.x, W - 1u - place.y); }
            case 3u: { before = vec2<u32>(H - 1u - place.y, place.x); }
            default: {}
        }
        if turn.mirrored == 1u {
            before.y = W - 1u - before.y;
        }
        let down = f32(before.x) - middle.x;
        let right = f32(before.y) - middle.y;
        let source = middle
            + vec2<f32>(down * turn.direction.x + right * turn.direction.y, right * turn.direction.x - down * turn.direction.y);

        let corner = floor(source);
        let part = source - corner;
        let rows = image + W * C * vec2<u32>(reflected(i32(corner.x), H), reflected(i32(corner.x) + 1, H));
        let columns = at % C + C * vec2<u32>(reflected(i32(corner.y), W), reflected(i32(corner.y) + 1, W));
        let above = between(x[rows.x + columns.x], x[rows.x + columns.y], part.y);
        let below = between(x[rows.y + columns.x], x[rows.y + columns.y], part.y);
        y[image + at] = between(above, below, part.x);
    }
}
