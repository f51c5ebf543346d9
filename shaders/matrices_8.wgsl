// matrices_8.wgsl: cooperative matrices of 8 x 8. Compiled before conv.wgsl and matrices.wgsl.
//
// Twin      src/cpu/conv.rs

enable f16;
enable wgpu_cooperative_matrix;

// Rows and columns of a matrix.
const SIDE = 8u;
// A matrix of the left operand.
alias Left = coop_mat8x8<f16, A>;
// A matrix of the right operand.
alias Right = coop_mat8x8<f16, B>;
// A matrix of sums.
alias Sums = coop_mat8x8<f32, C>;

// Invocations of a subgroup.
override SUBGROUP: u32 = 32u;
// Power of two that multiplies the left operand before it is rounded to f16.
override SCALE_A: f32 = 1.0;
// Power of two that multiplies the right operand before it is rounded to f16.
override SCALE_B: f32 = 1.0;
