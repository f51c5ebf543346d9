// clock.wgsl: number of the running step.
//
//   tick      clock += 1
//
// Shapes    clock (1), u32
// Mapping   one invocation
// Twin      src/cpu/clock.rs

@group(0) @binding(0) var<storage, read_write> clock: array<u32>;

@compute @workgroup_size(1)
fn tick() {
    clock[0] += 1u;
}
