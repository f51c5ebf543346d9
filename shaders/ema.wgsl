// ema.wgsl: exponential moving average (EMA) of a network's parameters. Compiled after share.wgsl.
//
//   update    ema += (1 - d) * (param - ema)   with d = min(DECAY, ramp(t)), t the step, and
//             ramp(t) = t / (t + 10), or by half-life 0.5^(1 / (0.05 * (t - 1))), which is 0 in the first step
//
// Shapes    clock (1), u32    param, ema (LEN)
// Mapping   one invocation per element, in a grid-stride loop
// Twin      src/cpu/ema.rs

// Number of parameters.
override LEN: u32;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> param: array<f32>;
@group(0) @binding(2) var<storage, read_write> ema: array<f32>;

@compute @workgroup_size(256)
fn update(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let share = share_of_new(clock[0]); // 1 - d
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        ema[i] += share * (param[i] - ema[i]);
    }
}
