//! Convolution and its gradients as matrix products: how large the tiles of a workgroup are, and into how many slices their sums
//! are cut.

use super::kernel::{Kernel, MOST_WORKGROUPS, elementwise, flag, sizes};
use super::{Dispatch, Kernels, Source, Tiling, function};
use crate::program::{Activation, Geometry, Op, Program, TensorId};

/// Terms of a product's sums that go through workgroup memory together, as in `conv.wgsl`.
const DEPTH: usize = 16;

/// The most tilings of a product beside its usual one.
pub(in crate::gpu) const MOST_TILINGS: usize = 4;

/// What takes the result of a convolution as soon as it is there.
#[derive(Clone, Copy)]
pub(super) enum Next {
    /// `y = f(result)`.
    Activation { kind: Activation, y: TensorId },
    /// `dx = result * f'`, where `y` is what f gave.
    Gradient { kind: Activation, y: TensorId, dx: TensorId },
}

/// A convolution, its gradient for the input, which a transposed convolution is, or its gradient for the weights.
pub(super) fn convolution(op: &Op, program: &Program, kernels: Kernels, next: Option<Next>) -> Vec<Dispatch> {
    let (product, size, of, bias) = match *op {
        Op::Conv { x, w, b, y, geometry } => {
            let [n, h_out, w_out, c_out] = program.nhwc(y);
            let [k, _, c_in, _] = program.nhwc(w);
            let size = Size { rows: n * h_out * w_out, columns: c_out, depth: k * k * c_in, phases: 1 };
            (Product { entry: "forward", left: x, right: w, result: y }, size, (x, y, geometry), b)
        }
        Op::ConvGradInput { dy, w, b, dx, geometry } => {
            let [n, h, width, c_in] = program.nhwc(dx);
            let [k, _, _, c_out] = program.nhwc(w);
            let stride = geometry.stride;
            let (lines, taps) = (h.div_ceil(stride) * width.div_ceil(stride), k.div_ceil(stride).pow(2)); // at most
            let size = Size { rows: n * lines, columns: c_in, depth: taps * c_out, phases: stride * stride };
            (Product { entry: "grad_input", left: dy, right: w, result: dx }, size, (dx, dy, geometry), b)
        }
        Op::ConvGradWeight { x, dy, dw, geometry } => {
            let [n, h_out, w_out, c_out] = program.nhwc(dy);
            let [k, _, c_in, _] = program.nhwc(dw);
            let size = Size { rows: k * k * c_in, columns: c_out, depth: n * h_out * w_out, phases: 1 };
            (Product { entry: "grad_weight", left: x, right: dy, result: dw }, size, (x, dy, geometry), None)
        }
        _ => unreachable!("a convolution"),
    };
    let kernel = Kernel::new(op, "conv", conv_sizes(program, of)).with_bias(bias, product.left);
    let kernel = kernel.with_next(next, product.left);
    kernel.product(&product, &size, program, kernels)
}

fn conv_sizes(program: &Program, (x, y, geometry): (TensorId, TensorId, Geometry)) -> Vec<(&'static str, f64)> {
    let ([n, h, w, c_in], [_, h_out, w_out, c_out]) = (program.nhwc(x), program.nhwc(y));
    sizes(&[
        ("N", n),
        ("H", h),
        ("W", w),
        ("C_IN", c_in),
        ("H_OUT", h_out),
        ("W_OUT", w_out),
        ("C_OUT", c_out),
        ("K", geometry.kernel),
        ("STRIDE", geometry.stride),
        ("PAD", geometry.pad),
    ])
}

impl Kernel {
    /// A shader's bindings are fixed, so what an absent activation would read is any tensor that is only read.
    fn with_next(self, next: Option<Next>, placeholder: TensorId) -> Self {
        let (kind, read, written) = match next {
            None => (None, placeholder, Source::Scratch("next", 0..4)),
            Some(Next::Activation { kind, y }) => (Some(kind), placeholder, Source::Tensor(y)),
            Some(Next::Gradient { kind, y, dx }) => (Some(kind), y, Source::Tensor(dx)),
        };
        let constants = [function(kind), vec![flag("BACKWARD", matches!(next, Some(Next::Gradient { .. })))]].concat();
        self.bind("next_y", Source::Tensor(read)).bind("next", written).constants(&constants)
    }

    /// A matrix product into its result; where its sums are cut into slices, another dispatch adds the parts.
    fn product(self, product: &Product, size: &Size, program: &Program, kernels: Kernels) -> Vec<Dispatch> {
        let len = program.info(product.result).len();
        let block = Block::of(size.columns);
        let lanes = LaneTile::of(size);
        let tile: Tile = match kernels {
            Kernels::Portable => block.tile(size),
            Kernels::Lanes => lanes.tile(),
        };
        let slices = tile.slices(tile.over(size, 1).iter().product(), size.depth);
        let slice_depth = size.depth.div_ceil(slices).next_multiple_of(DEPTH);
        let slices = size.depth.div_ceil(slice_depth);
        let sliced = self.constants(&sizes(&[("SLICES", slices), ("SLICE_DEPTH", slice_depth)]));
        let parts = match slices {
            1 => Source::Tensor(product.result),
            _ => Source::Scratch("parts", 0..slices * len),
        };
        let kernel = sliced.clone().bind("parts", parts.clone());
        let kernel = kernel.bind("left", Source::Tensor(product.left)).bind("right", Source::Tensor(product.right));
        let workgroups = tile.over(size, slices);
        let mut dispatches = vec![match kernels {
            Kernels::Portable => {
                let tilings = block.others(size).into_iter().map(|block| Tiling {
                    constants: block.constants(),
                    workgroups: block.tile(size).over(size, slices),
                });
                // As many workgroups as every adapter allows.
                let tilings =
                    tilings.filter(|tiling| tiling.workgroups.iter().all(|&groups| groups <= MOST_WORKGROUPS));
                let tilings = tilings.collect();
                Dispatch { tilings, ..kernel.constants(&block.constants()).dispatch(product.entry, workgroups) }
            }
            Kernels::Lanes => {
                let number = ["forward", "grad_input", "grad_weight"].iter().position(|&entry| entry == product.entry);
                let number = number.expect("one of three products");
                let kernel = kernel.constants(&sizes(&[("PRODUCT", number), ("QUADS", lanes.quads)]));
                let kernel = kernel.constants(&[flag("SWAPPED", lanes.swapped)]);
                kernel.of_shader("conv_lanes").dispatch("product", workgroups)
            }
        }];
        if slices > 1 {
            let adding = sliced
                .bind("parts", parts)
                .bind("result", Source::Tensor(product.result))
                .constants(&sizes(&[("LEN", len), ("BIAS_LEN", size.columns)]));
            dispatches.push(adding.dispatch("add_parts", elementwise(program, product.result)));
        }
        dispatches
    }
}

/// A matrix product of tensors: its entry point in `conv.wgsl`, and which tensors its matrices are made from.
struct Product {
    entry: &'static str,
    left: TensorId,
    right: TensorId,
    result: TensorId,
}

/// The size of a matrix product: of the largest phase, where there are several.
struct Size {
    rows: usize,
    columns: usize,
    depth: usize,
    phases: usize,
}

/// What one workgroup computes of a product.
struct Tile {
    rows: usize,
    columns: usize,
    /// How many workgroups keep an adapter busy.
    wanted: usize,
    /// A sum is cut only into slices of at least so many terms.
    least_depth: usize,
    /// Loop iterations for each [`DEPTH`] terms.
    iterations: usize,
}

impl Tile {
    /// Into how many slices a sum of `depth` terms is cut: where there are few workgroups into more, until there are
    /// about as many as wanted or slices are short; and always so that no invocation runs more than 40,000 iterations,
    /// since Mesa before 25.1 silently ends all loops after 65,535.
    fn slices(&self, workgroups: usize, depth: usize) -> usize {
        let longest = 40_000 / self.iterations * DEPTH;
        let wanted = (self.wanted / workgroups).clamp(1, depth.div_ceil(self.least_depth));
        wanted.max(depth.div_ceil(longest))
    }

    /// How many workgroups there are for a product in so many slices.
    fn over(&self, size: &Size, slices: usize) -> [usize; 3] {
        [size.columns.div_ceil(self.columns), size.rows.div_ceil(self.rows), size.phases * slices]
    }
}

/// How many invocations of a workgroup of `conv.wgsl` lie along columns and rows; each computes 8 x 8. Then what lies unused in
/// workgroup memory behind each depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    x: usize,
    y: usize,
    padding: usize,
}

impl Block {
    /// 64 x 64 where there are columns enough, else narrower and taller. No tile is taller than 128 rows, so that
    /// both tiles stay within 16 KiB of workgroup memory.
    fn of(columns: usize) -> Self {
        let x = columns.div_ceil(8).next_power_of_two().min(8);
        Self { x, y: (64 / x).min(16), padding: 0 }
    }

    /// A handful of others, which may be faster on one adapter or another: padded, so that stores do not wait for each other; wider and
    /// taller, so that numbers come from far away less often; smaller, so that there are more workgroups.
    fn others(self, size: &Size) -> Vec<Self> {
        let padded = Self { padding: 4, ..self }; // rows stay where vectors of four begin
        let mut others = vec![padded];
        if size.columns > 8 * self.x {
            others.push(Self { x: 2 * self.x, ..padded });
        }
        if size.rows > 8 * self.y && self.y < 16 {
            others.push(Self { y: 2 * self.y, ..padded });
        }
        if self.x * self.y > 32 {
            others.push(Self { y: self.y / 2, ..padded });
        }
        others
    }

    fn constants(self) -> Vec<(&'static str, f64)> {
        sizes(&[("TX", self.x), ("TY", self.y), ("PADDING", self.padding)])
    }

    /// Where a sum is cut does not depend on which of the blocks is taken for a product.
    fn tile(self, size: &Size) -> Tile {
        let usual = Self::of(size.columns);
        let iterations = usual.others(size).into_iter().chain([usual]).map(Self::iterations).max();
        let iterations = iterations.expect("at least the usual one");
        Tile { rows: 8 * self.y, columns: 8 * self.x, wanted: 128, least_depth: 128, iterations }
    }

    /// For each [`DEPTH`] terms: the step itself, both loads, the product. A load is of four numbers, which are stored in a loop.
    fn iterations(self) -> usize {
        let loads = |lanes: usize| 5 * (2 * DEPTH).div_ceil(lanes);
        1 + loads(self.x) + loads(self.y) + DEPTH
    }
}

/// How a subgroup of `conv_lanes.wgsl` lies on rows and columns: 32 of one along the lanes, up to 16 of the other in quads.
struct LaneTile {
    swapped: bool,
    quads: usize,
}

impl LaneTile {
    /// Whichever way wastes less of the tiles at the edges.
    fn of(size: &Size) -> Self {
        let quads = |count: usize| count.div_ceil(4).min(4);
        let cost = |on_lanes: usize, in_quads: usize| {
            on_lanes.div_ceil(32) * in_quads.div_ceil(16) * (1 + 2 * quads(in_quads))
        };
        let swapped = cost(size.rows, size.columns) < cost(size.columns, size.rows);
        Self { swapped, quads: quads(if swapped { size.columns } else { size.rows }) }
    }

    /// A CPU has few cores, and a sum shorter than this costs less than another dispatch would.
    fn tile(&self) -> Tile {
        let [rows, columns] = if self.swapped { [32, 16] } else { [16, 32] };
        Tile { rows, columns, wanted: 16, least_depth: 65_536, iterations: DEPTH / 4 + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::MESA_LIMIT;
    use super::*;

    fn of_columns(columns: usize, depth: usize) -> Size {
        Size { rows: 1000, columns, depth, phases: 1 }
    }

    #[test]
    fn tiles_fit_into_the_workgroup_memory_and_invocations_that_every_adapter_has() {
        for columns in 1..=200 {
            let size = of_columns(columns, 100);
            let usual = Block::of(columns);
            let others = usual.others(&size);
            assert!((1..=MOST_TILINGS).contains(&others.len()), "{columns} columns: {others:?}");
            for block in others.into_iter().chain([usual]) {
                let tile = block.tile(&size);
                let origins = 16 * tile.rows; // a vec3 takes 16 bytes
                let bytes = 4 * DEPTH * (tile.rows + tile.columns + 2 * block.padding) + origins;
                assert!(bytes <= 16 << 10, "{columns} columns: {bytes} bytes of {block:?}");
                assert!(block.x * block.y <= 256, "{columns} columns: {block:?}");
                assert!(tile.columns >= columns.min(64), "{columns} columns: {block:?}");
            }
        }
    }

    #[test]
    fn no_invocation_of_a_product_comes_near_mesas_limit_of_iterations() {
        for columns in [1, 3, 8, 9, 64, 1000] {
            for depth in [1, 16, 4096, 65_536, 1 << 22] {
                for workgroups in [1, 127, 128, 5000] {
                    let size = of_columns(columns, depth);
                    let block = Block::of(columns);
                    let steps = |tile: Tile| depth.div_ceil(tile.slices(workgroups, depth)).div_ceil(DEPTH);
                    let of_blocks = block.others(&size).into_iter().chain([block]);
                    let of_blocks = of_blocks.map(|block| steps(block.tile(&size)) * block.iterations());
                    let lanes = LaneTile::of(&size);
                    let of_lanes = steps(lanes.tile()) * lanes.tile().iterations;
                    for iterations in of_blocks.chain([of_lanes]) {
                        assert!(iterations + 200 < MESA_LIMIT, "{columns} columns, depth {depth}: {iterations}");
                    }
                }
            }
        }
    }
}
