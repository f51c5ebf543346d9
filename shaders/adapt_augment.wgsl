// adapt_augment.wgsl: how strongly DiffAugment changes images, adapted to how well the discriminator recognises real images
// (Karras et al. 2020).
//
//   adapt     strength = min(max(strength + RATE * sign(s - TARGET), 0), 1)    with s = history[(step - 1) % HISTORY, COLUMN], the
//             share of the real images of a batch that the discriminator classified as real
//
// Shapes    clock (1), u32    history (HISTORY, COLUMNS)    strength (1)
// Mapping   one invocation
// Twin      src/cpu/diff_augment.rs

// Share of real images that the discriminator may classify as real.
override TARGET: f32;
// Change of the strength in one step.
override RATE: f32;
// Rows of the history, which is a ring.
override HISTORY: u32;
// Columns of the history.
override COLUMNS: u32;
// Column with the share.
override COLUMN: u32;

@group(0) @binding(0) var<storage, read> clock: array<u32>;
@group(0) @binding(1) var<storage, read> history: array<f32>;
@group(0) @binding(2) var<storage, read_write> strength: array<f32>;

@compute @workgroup_size(1)
fn adapt() {
    let share = history[(clock[0] - 1u) % HISTORY * COLUMNS + COLUMN];
    strength[0] = clamp(strength[0] + RATE * sign(share - TARGET), 0.0, 1.0);
}
