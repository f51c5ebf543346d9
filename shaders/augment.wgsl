// augment.wgsl: each image of a batch turned and mirrored by chance. Begins with random.wgsl.
//
//   forward   y[i] = x[i] turned about its middle by an angle within +-ROTATE half turns, then mirrored left to right with
//             probability 1/2 if FLIP, then turned by 0 to 3 quarter turns if QUARTER_TURNS; counter-clockwise, as seen
//             y[i,a,e,c] = sum_{u,v in {0,1}} weight(u,v) * x[i, reflected(top + u), reflected(left + v), c]
//             with (top, left) the pixel above and to the left of where (a, e) comes from, and the words of
//             philox(i, step, STREAM_AUGMENT, 0) as the draws
//
// Shapes    clock (1), u32    x, y (N, H, W, C)
// Mapping   one workgroup for each image
// Twin      src/cpu/augment.rs

override H: u32;
override W: u32;
override C: u32;
override ROTATE: f32;
override FLIP: bool;
override QUARTER_TURNS: bool;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

struct Turn {
    direction: vec2<f32>, // cosine and sine of the angle
    mirrored: u32,
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

// The pixel that is seen at k, where an image and its mirror image alternate without end.
fn reflected(k: i32, size: u32) -> u32 {
    let there = u32(select(k, -1 - k, k < 0)) % (2u * size);
    return min(there, 2u * size - 1u - there);
}

// The value at f in [0, 1] on the way from a to b. Rounding may carry it past b, but not past a.
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
        turn = drawn(i, clock[0]);
    }
    workgroupBarrier();
    let image = i * H * W * C;
    let middle = vec2<f32>(f32(H - 1u), f32(W - 1u)) / 2.0;
    for (var at = lane; at < H * W * C; at += 256u) {
        // From the place in y back to the place in x: first what was done last.
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
