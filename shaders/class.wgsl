// class.wgsl: class-conditional networks: one-hot labels for the generator, the logit of the requested class for the
// discriminator. With k = labels[n % LABELS]:
//
//   append      y[n,c] = x[n,c] for c < BEFORE, and y[n,BEFORE+j] = 1 where j = k, else 0
//   pick        y[n] = logits[n,0] + logits[n,1+k]
//   pick_grad   dlogits[n,j] = dy[n] where j = 0 or j = 1 + k, else 0
//
// Shapes    x (N, BEFORE)    labels (LABELS), u32    y (N, WIDTH), of pick (N)    logits, dlogits (N, WIDTH)    dy (N)
// Mapping   one invocation per element of the result; append and pick_grad in a grid-stride loop
// Twin      src/cpu/class.rs

// Images.
override N: u32;
// Number of labels; N is a multiple of it.
override LABELS: u32;
// Length of the latent before the class is appended.
override BEFORE: u32 = 1;
// Columns of the wider tensor: BEFORE + classes in append, 1 + classes in pick.
override WIDTH: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> logits: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;

@compute @workgroup_size(256)
fn append(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var o = id.x; o < N * WIDTH; o += 256u * groups.x) {
        let n = o / WIDTH;
        let c = o % WIDTH;
        if c < BEFORE {
            y[o] = x[n * BEFORE + c];
        } else {
            y[o] = select(0.0, 1.0, c == BEFORE + labels[n % LABELS]);
        }
    }
}

@compute @workgroup_size(256)
fn pick(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    if n < N {
        y[n] = logits[n * WIDTH] + logits[n * WIDTH + 1u + labels[n % LABELS]];
    }
}

@compute @workgroup_size(256)
fn pick_grad(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var o = id.x; o < N * WIDTH; o += 256u * groups.x) {
        let n = o / WIDTH;
        let j = o % WIDTH;
        let taken = j == 0u || j == 1u + labels[n % LABELS];
        dlogits[o] = select(0.0, dy[n], taken);
    }
}
