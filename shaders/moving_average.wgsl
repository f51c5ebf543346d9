// moving_average.wgsl: the moving average of a network's parameters.
//
//   update    average += (1 - d) * (param - average)   with d = min(DECAY, t / (t + 10)), t the step
//
// Shapes    clock (1), u32    param, average (LEN)
// Mapping   one invocation for each element, in a grid-stride loop
// Twin      src/cpu/moving_average.rs

override LEN: u32;
override ONE_MINUS_DECAY: f32;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> param: array<f32>;
@group(0) @binding(2) var<storage, read_write> average: array<f32>;

@compute @workgroup_size(256)
fn update(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let share = max(ONE_MINUS_DECAY, 10.0 / (f32(clock[0]) + 10.0)); // 1 - d
    for (var i = id.x; i < LEN; i += 256u * groups.x) {
        average[i] += share * (param[i] - average[i]);
    }
}
