// matrices_8.wgsl: cooperative matrices of 8 x 8, in front of conv.wgsl, for matrices.wgsl behind it.
//
// Twin      src/cpu/conv.rs

enable f16;
enable wgpu_cooperative_matrix;

const SIDE = 8u;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;

override SUBGROUP: u32 = 32u;
override SCALE_A: f32 = 1.0;
override SCALE_B: f32 = 1.0;
