// conv_sizes.wgsl: the sizes of a convolution, and what its products have in common. Compiled before conv.wgsl, conv_lanes.wgsl and
// conv_direct.wgsl.
//
// Twin      src/cpu/conv.rs

// Images.
override N: u32;
// Height of x.
override H: u32;
// Width of x.
override W: u32;
// Channels of x.
override C_IN: u32;
// Height of y.
override H_OUT: u32;
// Width of y.
override W_OUT: u32;
// Channels of y.
override C_OUT: u32;
// Height and width of the kernel.
override K: u32;
// Distance between neighbouring patches, in pixels of x.
override STRIDE: u32;
// Zeros around x, in pixels on each side.
override PAD: u32;
// Whether a bias is added.
override HAS_BIAS: bool = false;
// Split-K: into how many ranges the depth is cut.
override SPLITS: u32 = 1u;
// Terms of a range; a multiple of the depth of a stage, or of four without stages.
override SPLIT_DEPTH: u32 = 1u;

// The pixels of a phase along an axis: the first one, and their number.
fn phase_pixels(phase: u32, size: u32) -> vec2<u32> {
    let first = (phase + STRIDE - PAD % STRIDE) % STRIDE;
    return vec2<u32>(first, (max(size, first) - first + STRIDE - 1u) / STRIDE);
}
