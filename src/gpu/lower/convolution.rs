//! Convolution and its gradients as matrix products: how large the tiles of a workgroup are, and into how many slices their sums
//! are cut.

use super::kernel::{Kernel, MOST_WORKGROUPS, elementwise, flag, sizes};
use super::{Dispatch, KernelSet, Resource, TileShape, function};
use crate::program::{Access, Activation, Geometry, Op, Operand, Program, TensorId};

/// Terms of a product's sums that go through workgroup memory together, as in `conv.wgsl`.
const DEPTH: usize = 16;

/// The most alternatives to the default tile shape of a product.
pub(in crate::gpu) const MAX_TILE_SHAPES: usize = 4;

/// What takes the result of a convolution as soon as it is there.
#[derive(Clone, Copy)]
pub(super) enum Next {
    /// `y = f(result)`.
    Activation { kind: Activation, y: TensorId },
    /// `dx = result * f'`, where `y` is what f gave.
    Gradient { kind: Activation, y: TensorId, dx: TensorId },
}

/// What the kernel of a product leaves beside it for batch normalisation, so that no other dispatch has to read it for that.
#[derive(Clone, Copy)]
pub(super) enum Sums {
    /// Of what is normalised next.
    Statistics,
    /// Of the gradient for what was normalised, behind that of an activation; `x` is what was normalised.
    Gradient { kind: Activation, z: TensorId, dz: TensorId, x: TensorId, saved: TensorId },
}

/// Sums of more parts of a group would take longer to read than they save.
const MOST_PARTS: usize = 512;

/// A convolution, its gradient for the input, which a transposed convolution is, or its gradient for the weights: as a product.
pub(super) struct Convolution<'a> {
    program: &'a Program,
    kernels: KernelSet,
    kernel: Kernel,
    product: Product,
    size: Size,
    bias: Option<TensorId>,
    /// Into how many its sums are cut.
    slices: usize,
}

impl<'a> Convolution<'a> {
    pub(super) fn of(op: &Op, program: &'a Program, kernels: KernelSet) -> Self {
        let (product, size, of, bias) = match *op {
            Op::Conv { x, w, b, y, geometry } => {
                let [n, h_out, w_out, c_out] = program.nhwc(y);
                let [k, _, c_in, _] = program.nhwc(w);
                let size = Size { groups: 1, rows: n * h_out * w_out, columns: c_out, depth: k * k * c_in, phases: 1 };
                (Product { entry: "forward", left: x, right: w, result: y }, size, (x, y, geometry), b)
            }
            Op::ConvGradInput { dy, w, b, dx, geometry } => {
                let [n, h, width, c_in] = program.nhwc(dx);
                let [k, _, _, c_out] = program.nhwc(w);
                let stride = geometry.stride;
                let (lines, taps) = (h.div_ceil(stride) * width.div_ceil(stride), k.div_ceil(stride).pow(2)); // at most
                let size =
                    Size { groups: 1, rows: n * lines, columns: c_in, depth: taps * c_out, phases: stride * stride };
                (Product { entry: "grad_input", left: dy, right: w, result: dx }, size, (dx, dy, geometry), b)
            }
            Op::ConvGradWeight { x, dy, dw, geometry } => {
                let [n, h_out, w_out, c_out] = program.nhwc(dy);
                let [k, _, c_in, _] = program.nhwc(dw);
                let size = Size { groups: 1, rows: k * k * c_in, columns: c_out, depth: n * h_out * w_out, phases: 1 };
                (Product { entry: "grad_weight", left: x, right: dy, result: dw }, size, (x, dy, geometry), None)
            }
            _ => unreachable!("a convolution"),
        };
        let tile = match kernels {
            KernelSet::Portable | KernelSet::CooperativeMatrices { .. } => Block::of(size.columns).tile(&size),
            KernelSet::Lanes => LaneTile::of(&size).tile(),
        };
        let slices = tile.slices(tile.over(&size, 1).iter().product(), size.depth);
        let slice_depth = size.depth.div_ceil(slices).next_multiple_of(DEPTH);
        let slices = size.depth.div_ceil(slice_depth);
        let shader =
            match kernels {
                KernelSet::CooperativeMatrices { side, .. } if Block::of(size.columns) == Block::SQUARE => {
                    if side == 8 { "conv_matrices_8" } else { "conv_matrices_16" }
                }
                _ => "conv",
            };
        let kernel = Kernel::new(op, shader, conv_sizes(program, of)).with_bias(bias, product.left);
        let kernel = kernel.constants(&sizes(&[("SPLITS", slices), ("SPLIT_DEPTH", slice_depth)]));
        let kernel = kernel.bind("left", Resource::Tensor(product.left)).bind("right", Resource::Tensor(product.right));
        Self { program, kernels, kernel, product, size, bias, slices }
    }

    /// The dispatches for it and for what takes it: the product itself, and where its sums are cut another that adds their parts.
    pub(super) fn with(self, next: Option<Next>) -> Vec<Dispatch> {
        let kernel = self.kernel.clone().with_next(next, self.product.left);
        if let Some(entry) = self.thin() {
            let workgroups = [self.size.rows.div_ceil(64), 1, self.size.phases];
            return vec![kernel.bind("partials", self.parts()).dispatch(entry, workgroups)];
        }
        let mut dispatches = vec![self.tiled(kernel.clone(), self.product.entry, 1)];
        if self.slices > 1 {
            let len = self.len();
            let adding = kernel
                .bind("partials", self.parts())
                .bind("result", Resource::Tensor(self.product.result))
                .constants(&sizes(&[("LEN", len), ("BIAS_LEN", self.size.columns)]));
            dispatches.push(adding.dispatch("reduce_partials", elementwise(self.program, self.product.result)));
        }
        dispatches
    }

    /// The dispatch for it that leaves its parts for another to add, and how many they are. Nobody adds a bias then.
    pub(super) fn in_parts(&self) -> Option<(Dispatch, usize)> {
        let kernel = self.kernel.clone().with_next(None, self.product.left);
        (self.slices > 1 && self.bias.is_none()).then(|| (self.tiled(kernel, self.product.entry, 1), self.slices))
    }

    /// The dispatch for it that leaves sums over `groups` of images as well, and of how many parts of each they are; where
    /// there is such a kernel, and its sums are few.
    pub(super) fn with_sums(mut self, sums: Sums, groups: usize) -> Option<(Dispatch, usize)> {
        if self.kernels == KernelSet::Lanes || self.slices > 1 || self.bias.is_some() {
            return None;
        }
        let part = 8 * Block::of(self.size.columns).y;
        self.size = Size { groups, rows: self.size.rows / groups, ..self.size };
        let parts = self.size.phases * self.size.rows.div_ceil(part);
        if parts > MOST_PARTS {
            return None;
        }
        let kernel =
            self.kernel.clone().constants(&sizes(&[("GROUPS", groups), ("PARTS", parts), ("PART_ROWS", part)]));
        let kernel = kernel.scratch("sums", groups * parts * (2 * self.size.columns + 1));
        let (kernel, entry) = match (sums, self.product.entry) {
            (Sums::Statistics, "forward") => (kernel.with_next(None, self.product.left), "forward_and_statistics"),
            (Sums::Statistics, _) => (kernel.with_next(None, self.product.left), "grad_input_and_statistics"),
            (Sums::Gradient { kind, z, dz, x, saved }, entry) => {
                let kernel = kernel.with_next(Some(Next::Gradient { kind, y: z, dx: dz }), self.product.left);
                let kernel = kernel.bind("normalised_x", Resource::Tensor(x)).bind("saved", Resource::Tensor(saved));
                let forward = entry == "forward";
                (kernel, if forward { "forward_and_gradient_sums" } else { "grad_input_and_gradient_sums" })
            }
        };
        Some((self.tiled(kernel, entry, part), parts))
    }

    /// The entry point for so few columns that most of a tile would be none; where an invocation for each row keeps an adapter busy,
    /// and its loops are short.
    fn thin(&self) -> Option<&'static str> {
        let Size { rows, columns, depth, phases, .. } = self.size;
        let fits = columns <= 4 && depth <= 8192 && (64 * 128..=64 * MOST_WORKGROUPS).contains(&(rows * phases));
        match self.product.entry {
            "forward" if fits && self.kernels != KernelSet::Lanes && self.slices == 1 => Some("narrow_forward"),
            "grad_input" if fits && self.kernels != KernelSet::Lanes && self.slices == 1 => Some("narrow_grad_input"),
            _ => None,
        }
    }

    /// Numbers of the result.
    fn len(&self) -> usize {
        self.program.info(self.product.result).len()
    }

    /// Where the slices go, or the result if there is one alone.
    fn parts(&self) -> Resource {
        match self.slices {
            1 => Resource::Tensor(self.product.result),
            slices => Resource::Scratch("partials", 0..slices * self.len()),
        }
    }

    /// The product in tiles, each of so many rows or a multiple of them.
    fn tiled(&self, kernel: Kernel, entry: &'static str, part: usize) -> Dispatch {
        let kernel = kernel.bind("partials", self.parts());
        let over = |tile: Tile| tile.over(&self.size, self.slices);
        match self.kernels {
            KernelSet::CooperativeMatrices { side, subgroup } if Block::of(self.size.columns) == Block::SQUARE => {
                // Eight matrices are a subgroup's.
                let lanes = 64 * 64 / (8 * side * side) * subgroup;
                let [left, right] =
                    [self.product.left, self.product.right].map(|tensor| scale_of(tensor, self.program));
                let Block { x, y, padding } = Block::SQUARE;
                let tile = [("TX", x), ("TY", y), ("LANES", lanes), ("PADDING", padding), ("SUBGROUP", subgroup)];
                let kernel = kernel.constants(&sizes(&tile));
                let kernel = kernel.constants(&sizes(&[("SCALE_A", left), ("SCALE_B", right)]));
                let workgroups = over(Block::SQUARE.tile(&self.size));
                kernel.dispatch(entry, workgroups)
            }
            KernelSet::Portable | KernelSet::CooperativeMatrices { .. } => {
                let block = Block::of(self.size.columns);
                let others = block.others(&self.size).into_iter().filter(|other| (8 * other.y).is_multiple_of(part));
                let tile_shapes = others
                    .map(|block| TileShape { overrides: block.constants(), workgroups: over(block.tile(&self.size)) });
                // As many workgroups as every adapter allows.
                let tile_shapes =
                    tile_shapes.filter(|tiling| tiling.workgroups.iter().all(|&groups| groups <= MOST_WORKGROUPS));
                let tile_shapes = tile_shapes.collect();
                let workgroups = over(block.tile(&self.size));
                Dispatch { tile_shapes, ..kernel.constants(&block.constants()).dispatch(entry, workgroups) }
            }
            KernelSet::Lanes => {
                let lanes = LaneTile::of(&self.size);
                let number = ["forward", "grad_input", "grad_weight"].iter().position(|&product| product == entry);
                let number = number.expect("one of three products");
                let kernel = kernel.constants(&sizes(&[("PRODUCT", number), ("QUADS", lanes.quads)]));
                let kernel = kernel.constants(&[flag("SWAPPED", lanes.swapped)]);
                kernel.of_shader("conv_lanes").dispatch("product", over(lanes.tile()))
            }
        }
    }
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
            None => (None, placeholder, Resource::Scratch("activated", 0..4)),
            Some(Next::Activation { kind, y }) => (Some(kind), placeholder, Resource::Tensor(y)),
            Some(Next::Gradient { kind, y, dx }) => (Some(kind), y, Resource::Tensor(dx)),
        };
        let constants = [function(kind), vec![flag("BACKWARD", matches!(next, Some(Next::Gradient { .. })))]].concat();
        self.bind("activated_y", Resource::Tensor(read)).bind("activated", written).constants(&constants)
    }
}

/// By which power of two numbers of a tensor are multiplied before they are rounded to f16, whose smallest is 6e-8: a gradient of
/// the mean over a batch is as many times smaller as there are images, and some sixteen times more.
fn scale_of(tensor: TensorId, program: &Program) -> usize {
    if is_gradient(tensor, program) { 16 * program.nhwc(tensor)[0].next_power_of_two() } else { 1 }
}

/// Whether a tensor is a gradient that comes back from a loss.
fn is_gradient(tensor: TensorId, program: &Program) -> bool {
    let ops = program.routines().iter().flat_map(|routine| &routine.ops);
    let written = |operand: &Operand| operand.tensor == tensor && operand.access != Access::Read;
    let writer = ops.into_iter().find(|op| op.operands().iter().any(written));
    match writer {
        Some(Op::DiscriminatorLoss { .. } | Op::GeneratorLoss { .. } | Op::CrossEntropy { .. }) => true,
        // The gradients of a transposed convolution, and of dropout, are computed as their twins forward.
        Some(&Op::Conv { x: before, .. } | &Op::ConvGradInput { dy: before, .. } | &Op::Dropout { x: before, .. }) => {
            is_gradient(before, program)
        }
        Some(op) => op.name().ends_with("grad"),
        None => false,
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
#[derive(Clone, Copy)]
struct Size {
    /// Groups of images that no tile goes across.
    groups: usize,
    /// Rows of a group.
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
        [size.columns.div_ceil(self.columns), size.groups * size.rows.div_ceil(self.rows), size.phases * slices]
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
    /// The usual one of most products.
    const SQUARE: Self = Self { x: 8, y: 8, padding: 0 };

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
        sizes(&[("TX", self.x), ("TY", self.y), ("LANES", self.x * self.y), ("PADDING", self.padding)])
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
    use crate::net::Model;
    use crate::train::{Gan, Settings};

    fn of_columns(columns: usize, depth: usize) -> Size {
        Size { groups: 1, rows: 1000, columns, depth, phases: 1 }
    }

    /// Of the step of a model without dropout or rows of products.
    #[test]
    fn gradients_are_enlarged_before_they_are_rounded_and_nothing_else_is() {
        let model = Model::named("dcgan-small").unwrap();
        let program = Gan::new(&model, &Settings::bare(&model, 100, 24), 100).program;
        let name = |tensor: TensorId| program.info(tensor).name.as_str();
        let (mut gradients, mut others) = (0, 0);
        for op in program.routines().iter().flat_map(|routine| &routine.ops) {
            let operands = match *op {
                Op::Conv { x, w, .. } => [x, w],
                Op::ConvGradInput { dy, w, .. } => [dy, w],
                Op::ConvGradWeight { x, dy, .. } => [x, dy],
                _ => continue,
            };
            for tensor in operands {
                let is_gradient = [".dx ", ".grad"].iter().any(|part| name(tensor).contains(part));
                let images = program.nhwc(tensor)[0].next_power_of_two();
                assert_eq!(scale_of(tensor, &program), if is_gradient { 16 * images } else { 1 }, "{}", name(tensor));
                *(if is_gradient { &mut gradients } else { &mut others }) += 1;
            }
        }
        assert!(gradients > 15 && others > 30, "{gradients} gradients, {others} others");
    }

    #[test]
    fn tiles_fit_into_the_workgroup_memory_and_invocations_that_every_adapter_has() {
        for columns in 1..=200 {
            let size = of_columns(columns, 100);
            let usual = Block::of(columns);
            let others = usual.others(&size);
            assert!((1..=MAX_TILE_SHAPES).contains(&others.len()), "{columns} columns: {others:?}");
            for block in others.into_iter().chain([usual]) {
                let tile = block.tile(&size);
                let origins = 16 * tile.rows; // a vec3 takes 16 bytes
                let bytes = 4 * DEPTH * (tile.rows + tile.columns + 2 * block.padding) + origins;
                assert!(bytes <= 16 << 10, "{columns} columns: {bytes} bytes of {block:?}");
                assert!(block.x * block.y <= 256, "{columns} columns: {block:?}");
                assert!(tile.columns >= columns.min(64), "{columns} columns: {block:?}");
                // A lane adds up a column of a part, and there is room for what lanes share of it.
                assert!(usual.y >= 8 && block.x <= 16 && block.y <= 16, "{columns} columns: {block:?}");
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
