// loss.wgsl: adversarial losses of both networks on logits, their gradients, and what the log shows of them. Compiled
// after workgroup_sums.wgsl.
//
//   discriminator   the first half of the logits is of real images, the second half of generated ones (fakes)
//   generator       logits of generated images; the relativistic loss compares them with the logits of real images
//
//   For each half:  dlogits = loss'(l) / N
//                   history[(step - 1) % HISTORY, COLUMN..] = mean loss, mean D(x), share of logits on the wanted side
//
//   loss of a logit l; f of a fake, r of a real image, s = SMOOTHING:
//                      real                       fake                  generator
//     non-saturating   softplus(-r) + s*r         softplus(f)           softplus(-f)
//     minimax          softplus(-r) + s*r         softplus(f)           -softplus(f)
//     hinge            max(0, 1 - r)              max(0, 1 + f)         -f
//     least squares    (r - 1 + s)^2 / 2          f^2 / 2               (f - 1)^2 / 2
//     Wasserstein      -r                         f                     -f
//     relativistic     softplus(f - r) / 2        softplus(f - r) / 2   softplus(r - f)    of pairs; both halves belong to one
//                                                                       loss, so the derivatives are those of the whole
//   D(x) = sigmoid(l), or l clamped to [0, 1] for least squares; D(x) > 1/2 counts as "real"
//
//   With TERMS > 0 the logits are computed here, from what the product before it leaves in partial sums, or with IS_LAYER from the
//   operands of the last layer:
//                   logits[n] = b + sum of terms[t,n] over all splits t, in order
//                   logits[n] = b + sum over t of terms[n,t] * w[t]
//
// Shapes    clock (1), u32    logits, dlogits (2*N) or (N)    reals (N)    history (HISTORY, COLUMNS)
//           terms (TERMS, shape of the logits), with IS_LAYER (shape of the logits, TERMS)    w (TERMS)    b (1)
// Mapping   one workgroup; 256 lanes share the rows
// Twin      src/cpu/loss.rs

// Images of each half.
override N: u32;
// Which loss: one of the constants below; any other value is the relativistic loss.
override KIND: u32;
// One-sided label smoothing: the target of real images is 1 - SMOOTHING.
override SMOOTHING: f32 = 0.0;
// Rows of the history, which is a ring.
override HISTORY: u32;
// Columns of the history.
override COLUMNS: u32;
// First column that is written.
override COLUMN: u32;

// The number of terms of each logit; 0 where the logits are complete.
override TERMS: u32 = 0u;
// Whether the terms are those of a layer, and not partial sums.
override IS_LAYER: bool = false;
// The number of logits.
override LOGITS: u32 = 1u;
// Whether a bias is added.
override HAS_BIAS: bool = false;

// Value of KIND: non-saturating loss.
const NON_SATURATING = 0u;
// Value of KIND: minimax loss.
const MINIMAX = 1u;
// Value of KIND: hinge loss.
const HINGE = 2u;
// Value of KIND: least-squares loss.
const LEAST_SQUARES = 3u;
// Value of KIND: Wasserstein loss.
const WASSERSTEIN = 4u;

// Target of a logit: a real image, for the discriminator.
const REAL = 0u;
// Target of a logit: a generated image, for the discriminator.
const FAKE = 1u;
// Target of a logit: a generated image that should pass for real, for the generator.
const GENERATED = 2u;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read_write> logits: array<f32>;
@group(0) @binding(2) var<storage, read> reals: array<f32>;
@group(0) @binding(3) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(4) var<storage, read_write> history: array<f32>;
@group(0) @binding(5) var<storage, read> terms: array<f32>;
@group(0) @binding(6) var<storage, read> b: array<f32>;
@group(0) @binding(7) var<storage, read> w: array<f32>;

// Loss, D(x) and rows on the wanted side.
alias Sum = vec3<f32>;

// Tests the bits: a driver may assume that NaN never occurs, and on some drivers exp turns NaN into a number. The trainer detects
// divergence by the loss, so a NaN must reach it.
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

fn half_square(x: f32) -> vec2<f32> {
    return vec2<f32>(0.5 * x * x, x);
}

// The loss of one logit, and its derivative.
fn loss(wanted: u32, l: f32, rival: f32) -> vec2<f32> {
    switch KIND {
        case HINGE: {
            if wanted == GENERATED { return vec2<f32>(-l, -1.0); }
            let margin = 1.0 + select(l, -l, wanted == REAL);
            let slope = select(1.0, -1.0, wanted == REAL);
            return select(vec2<f32>(), vec2<f32>(margin, slope), margin > 0.0 || is_nan(l));
        }
        case LEAST_SQUARES: {
            if wanted == FAKE { return half_square(l); }
            return half_square(l - 1.0 + select(0.0, SMOOTHING, wanted == REAL));
        }
        case WASSERSTEIN: {
            let slope = select(-1.0, 1.0, wanted == FAKE);
            return vec2<f32>(slope * l, slope);
        }
        case NON_SATURATING, MINIMAX: {
            if wanted == REAL { return vec2<f32>(softplus(-l) + SMOOTHING * l, SMOOTHING - sigmoid(-l)); }
            if wanted == FAKE { return vec2<f32>(softplus(l), sigmoid(l)); }
            if KIND == MINIMAX { return vec2<f32>(-softplus(l), -sigmoid(l)); }
            return vec2<f32>(softplus(-l), -sigmoid(-l));
        }
        default: {
            let lead = select(l - rival, rival - l, wanted == FAKE); // positive where the pair is on the wanted side
            let slope = sigmoid(-lead);
            return vec2<f32>(select(0.5, 1.0, wanted == GENERATED) * softplus(-lead), select(-slope, slope, wanted == FAKE));
        }
    }
}

fn probability_real(l: f32) -> f32 {
    if KIND == LEAST_SQUARES { return select(clamp(l, 0.0, 1.0), l, is_nan(l)); }
    return sigmoid(l);
}

// Computes the logits where they are not complete.
fn complete_logits(lane: u32) {
    if TERMS == 0u { return; }
    for (var at = lane; at < LOGITS; at += 256u) {
        var sum = 0.0;
        for (var t = 0u; t < TERMS; t++) {
            if IS_LAYER {
                sum += terms[at * TERMS + t] * w[t];
            } else {
                sum += terms[t * LOGITS + at];
            }
        }
        if HAS_BIAS { sum += b[0]; }
        logits[at] = sum;
    }
    storageBarrier();
}

// Writes the gradient of one logit; returns its loss, D(x), and 1 where D(x) is on the wanted side.
fn row(wanted: u32, at: u32, l: f32, rival: f32) -> vec3<f32> {
    let loss_and_slope = loss(wanted, l, rival);
    dlogits[at] = loss_and_slope.y / f32(N);
    // Compares the logit itself, so that rounding of the sigmoid cannot move the threshold.
    let looks_real = l > select(0.0, 0.5, KIND == LEAST_SQUARES);
    return vec3<f32>(loss_and_slope.x, probability_real(l), f32(looks_real != (wanted == FAKE)));
}

// Sums over the lanes and writes the three means.
fn write_means(lane: u32, sum: vec3<f32>, column: u32) {
    let total = sum_of_workgroup(lane, sum);
    if lane == 0u {
        let cell = ((clock[0] - 1u) % HISTORY) * COLUMNS + column;
        history[cell] = total.x / f32(N);
        history[cell + 1u] = total.y / f32(N);
        history[cell + 2u] = total.z / f32(N);
    }
}

@compute @workgroup_size(256)
fn discriminator(@builtin(local_invocation_index) lane: u32) {
    complete_logits(lane);
    var of_reals = vec3<f32>();
    var of_fakes = vec3<f32>();
    for (var i = lane; i < N; i += 256u) {
        let real = logits[i];
        let fake = logits[N + i];
        of_reals += row(REAL, i, real, fake);
        of_fakes += row(FAKE, N + i, fake, real);
    }
    write_means(lane, of_reals, COLUMN);
    write_means(lane, of_fakes, COLUMN + 3u);
}

@compute @workgroup_size(256)
fn generator(@builtin(local_invocation_index) lane: u32) {
    complete_logits(lane);
    var of_fakes = vec3<f32>();
    for (var i = lane; i < N; i += 256u) {
        var rival = 0.0;
        if KIND > WASSERSTEIN { rival = reals[i]; }
        of_fakes += row(GENERATED, i, logits[i], rival);
    }
    write_means(lane, of_fakes, COLUMN);
}
