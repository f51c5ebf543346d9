// cross_entropy.wgsl: cross-entropy of softmax on logits, its gradient, and accuracy. Compiled after workgroup_sums.wgsl.
//
//   softmax   loss    = mean over rows of ln(sum_j exp(l_j - max)) + max - l_label
//             dlogits = (exp(l_j - max) / sum_j exp(l_j - max) - (j == label)) / N
//             history[(step - 1) % HISTORY, COLUMN..] = loss, share of rows whose first largest logit is the label's
//
// Shapes    clock (1), u32    logits, dlogits (N, CLASSES)    labels (N), u32    history (HISTORY, COLUMNS)
// Mapping   one workgroup; 256 lanes share the rows
// Twin      src/cpu/cross_entropy.rs

// Images.
override N: u32;
// Number of classes.
override CLASSES: u32;
// Rows of the history, which is a ring.
override HISTORY: u32;
// Columns of the history.
override COLUMNS: u32;
// First column that is written.
override COLUMN: u32;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(4) var<storage, read_write> history: array<f32>;

// Loss and correct rows.
alias Sum = vec2<f32>;

// Tests the bits: a driver may assume that NaN and infinity never occur.
fn is_finite(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}

// Writes the gradient of a row; returns its loss, and 1 where its largest logit is the label's. If a logit is not finite, loss and
// gradient become that logit.
fn row(r: u32) -> vec2<f32> {
    let first = r * CLASSES;
    let label = labels[r];
    var broken = 0.0;
    var largest = 0u;
    var own = 0.0; // found by comparing, so that a wrong label cannot read out of bounds
    for (var j = 0u; j < CLASSES; j++) {
        let l = logits[first + j];
        if !is_finite(l) && is_finite(broken) {
            broken = l;
        }
        if l > logits[first + largest] {
            largest = j;
        }
        if j == label {
            own = l;
        }
    }
    let max = logits[first + largest];
    var sum = 0.0;
    for (var j = 0u; j < CLASSES; j++) {
        sum += exp(logits[first + j] - max);
    }
    for (var j = 0u; j < CLASSES; j++) {
        let softmax = exp(logits[first + j] - max) / sum;
        dlogits[first + j] = select(broken, (softmax - f32(j == label)) / f32(N), is_finite(broken));
    }
    let loss = log(sum) + (max - own);
    return select(vec2<f32>(broken, 0.0), vec2<f32>(loss, f32(largest == label)), is_finite(broken));
}

@compute @workgroup_size(256)
fn softmax(@builtin(local_invocation_index) lane: u32) {
    var sum = Sum();
    for (var r = lane; r < N; r += 256u) {
        sum += row(r);
    }
    let total = sum_of_workgroup(lane, sum);
    if lane == 0u {
        let cell = ((clock[0] - 1u) % HISTORY) * COLUMNS + COLUMN;
        history[cell] = total.x / f32(N);
        history[cell + 1u] = total.y / f32(N);
    }
}
