// loss.wgsl: the non-saturating loss on logits (Goodfellow et al. 2014, section 3), its gradient and what people watch.
//
//   non_saturating   loss    = mean softplus(-l) over the REAL first rows + mean softplus(l) over the others
//                    dlogits = (sigmoid(l) - 1) / REAL, or sigmoid(l) / (N - REAL)
//                    history[(step - 1) % HISTORY, COLUMN..] = for each part with rows: loss, mean sigmoid(l), share as wanted
//
// Shapes    clock (1), u32    logits, dlogits (N)    history (HISTORY, COLUMNS)
// Mapping   one workgroup; 256 lanes share the rows
// Twin      src/cpu/loss.rs

override N: u32;
override REAL: u32;
override HISTORY: u32;
override COLUMNS: u32;
override COLUMN: u32;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(3) var<storage, read_write> history: array<f32>;

var<workgroup> lanes: array<vec3<f32>, 256>;

// By its bits: drivers may take it that there is no NaN, and some have an exp that makes a number of it. The loss is where
// training is seen to have diverged, so it must not.
fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

// log(1 + exp(l)), without overflow.
fn softplus(l: f32) -> f32 {
    return select(max(l, 0.0) + log(1.0 + exp(-abs(l))), l, is_nan(l));
}

fn sigmoid(l: f32) -> f32 {
    let t = exp(-abs(l));
    return select(select(1.0, t, l < 0.0) / (1.0 + t), l, is_nan(l));
}

// One part of the batch: its gradients, and its three means from `column` of this step's row on.
fn part(lane: u32, first: u32, rows: u32, wanted_real: bool, column: u32) {
    var sum = vec3<f32>(); // loss, sigmoid, rows judged as wanted
    for (var r = first + lane; r < first + rows; r += 256u) {
        let l = logits[r];
        let probability = sigmoid(l);
        dlogits[r] = select(probability, -sigmoid(-l), wanted_real) / f32(rows);
        let as_wanted = (l > 0.0) == wanted_real;
        sum += vec3<f32>(softplus(select(l, -l, wanted_real)), probability, f32(as_wanted));
    }
    workgroupBarrier();
    lanes[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        for (var other = 1u; other < 256u; other++) {
            sum += lanes[other];
        }
        let cell = ((clock[0] - 1u) % HISTORY) * COLUMNS + column;
        history[cell] = sum.x / f32(rows);
        history[cell + 1u] = sum.y / f32(rows);
        history[cell + 2u] = sum.z / f32(rows);
    }
}

@compute @workgroup_size(256)
fn non_saturating(@builtin(local_invocation_index) lane: u32) {
    if REAL > 0u {
        part(lane, 0u, REAL, true, COLUMN);
    }
    if REAL < N {
        part(lane, REAL, N - REAL, false, select(COLUMN + 3u, COLUMN, REAL == 0u));
    }
}
