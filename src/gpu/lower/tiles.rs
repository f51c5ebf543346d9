//! How the kernels of a matrix product divide it: the tile of a workgroup, its alternatives, and into how many partial sums a sum is
//! cut (split-K).

use super::kernel::{Kernel, MAX_WORKGROUPS, flag, sizes};
use super::{Dispatch, KernelSet, TileShape};

/// Terms of the sums that go through workgroup memory together, as in `conv.wgsl`.
const DEPTH: usize = 16;

/// Rows that every tile of `conv.wgsl` has, and a lane for each.
pub(super) const ROWS_OF_EVERY_TILE: usize = 64;

/// The most alternatives to the default tile shape of a product.
pub(in crate::gpu) const MAX_TILE_SHAPES: usize = 4;

/// The size of a matrix product; of the largest phase, where there are several.
#[derive(Clone, Copy)]
pub(super) struct ProductSize {
    /// Groups of images; no tile has rows of two groups.
    pub(super) groups: usize,
    /// Rows of a group.
    pub(super) rows: usize,
    /// Columns.
    pub(super) columns: usize,
    /// Terms of each sum.
    pub(super) depth: usize,
    /// Phases of the stride, each a product of its own.
    pub(super) phases: usize,
}

/// Which kernels compute a product, and with which tile.
pub(super) enum ProductLayout {
    /// Tiles in workgroup memory, in f32.
    Workgroup(WorkgroupTile),
    /// Blocks in the registers of an invocation.
    Direct,
    /// Tiles in the registers of a subgroup of 8 lanes.
    Lanes(LaneTile),
    /// Tiles in workgroup memory, multiplied as cooperative matrices of f16.
    Matrices {
        /// Rows and columns of a matrix.
        side: usize,
        /// Invocations of a subgroup.
        subgroup: usize,
    },
}

impl ProductLayout {
    /// The layout of a product. Cooperative matrices are for products with enough columns for a square tile.
    pub(super) fn of(size: &ProductSize, kernels: KernelSet) -> Self {
        match kernels {
            KernelSet::Lanes => Self::Lanes(LaneTile::of(size)),
            KernelSet::CooperativeMatrices { side, subgroup } if size.columns > 32 => Self::Matrices { side, subgroup },
            KernelSet::Direct => Self::Direct,
            KernelSet::Portable | KernelSet::CooperativeMatrices { .. } => Self::Workgroup(WorkgroupTile::of(size)),
        }
    }

    /// The shader of the product.
    pub(super) fn shader(&self) -> &'static str {
        match self {
            Self::Workgroup(_) => "conv",
            Self::Direct => "conv_direct",
            Self::Lanes(_) => "conv_lanes",
            Self::Matrices { side: 8, .. } => "conv_matrices_8",
            Self::Matrices { .. } => "conv_matrices_16",
        }
    }

    /// The number of partial sums of each element, and the terms of each but the last. Partial sums of gradients of weights are added by
    /// Adam.
    pub(super) fn splits(&self, size: &ProductSize, is_weight_gradient: bool) -> (usize, usize) {
        let rule = self.split_rule(size, is_weight_gradient);
        let depth = size.depth.div_ceil(rule.splits(size)).next_multiple_of(DEPTH);
        (size.depth.div_ceil(depth), depth)
    }

    fn split_rule(&self, size: &ProductSize, is_weight_gradient: bool) -> SplitRule {
        match self {
            Self::Workgroup(tile) => tile.split_rule(size, is_weight_gradient),
            Self::Matrices { .. } => WorkgroupTile::SQUARE.split_rule(size, is_weight_gradient),
            Self::Direct => direct_split_rule(size),
            Self::Lanes(tile) => tile.split_rule(size),
        }
    }

    /// Rows of a part, whose sums the kernels for batch normalisation write; none where there are no such kernels.
    pub(super) fn rows_of_part(&self) -> Option<usize> {
        match self {
            Self::Workgroup(tile) => Some(tile.covered().rows),
            Self::Matrices { .. } => Some(WorkgroupTile::SQUARE.covered().rows),
            Self::Direct | Self::Lanes(_) => None,
        }
    }

    /// Whether the kernels of the gradient of weights can sum up the depth of an operand as well, which is the gradient of a bias.
    pub(super) fn sums_depth(&self) -> bool {
        matches!(self, Self::Workgroup(_) | Self::Matrices { .. })
    }

    /// Whether there are kernels for few columns, without tiles.
    pub(super) fn has_narrow_kernels(&self) -> bool {
        matches!(self, Self::Workgroup(_))
    }

    /// The dispatch of a product: an entry point of `conv.wgsl`, its number in `conv_lanes.wgsl`, and the scales of its operands in
    /// f16. Tiles have `part` rows or a multiple of that.
    #[expect(clippy::too_many_arguments, reason = "each layout needs some of them")]
    pub(super) fn dispatch(
        &self,
        kernel: Kernel,
        entry: &'static str,
        number: usize,
        size: &ProductSize,
        splits: usize,
        part: usize,
        [left, right]: [usize; 2],
    ) -> Dispatch {
        match self {
            Self::Workgroup(tile) => {
                let others = tile.alternatives(size).into_iter();
                let others = others.filter(|other| other.covered().rows.is_multiple_of(part));
                let shapes = others.map(|other| TileShape {
                    overrides: other.overrides(),
                    workgroups: other.covered().workgroups(size, splits),
                });
                let allowed = |shape: &TileShape| shape.workgroups.iter().all(|&count| count <= MAX_WORKGROUPS);
                let tile_shapes = shapes.filter(allowed).collect();
                let workgroups = tile.covered().workgroups(size, splits);
                Dispatch { tile_shapes, ..kernel.overrides(&tile.overrides()).dispatch(entry, workgroups) }
            }
            &Self::Matrices { side, subgroup } => {
                // A subgroup has eight matrices of the square tile.
                let lanes = 64 * 64 / (8 * side * side) * subgroup;
                let kernel = kernel
                    .overrides(&WorkgroupTile::SQUARE_OF_64.overrides_of(lanes))
                    .overrides(&sizes(&[("SUBGROUP", subgroup)]));
                let kernel = kernel.overrides(&sizes(&[("SCALE_A", left), ("SCALE_B", right)]));
                kernel.dispatch(entry, WorkgroupTile::SQUARE.covered().workgroups(size, splits))
            }
            Self::Direct => {
                let blocks: usize = DIRECT_BLOCK.workgroups(size, 1)[..2].iter().product();
                let workgroups = blocks.div_ceil(64);
                let lines = workgroups.div_ceil(MAX_WORKGROUPS);
                kernel.dispatch(entry, [workgroups.div_ceil(lines), lines, size.phases * splits])
            }
            Self::Lanes(tile) => {
                let kernel = kernel.overrides(&sizes(&[("PRODUCT", number), ("QUADS", tile.quads)]));
                let kernel = kernel.overrides(&[flag("SWAPPED", tile.swapped)]);
                kernel.dispatch("product", tile.covered().workgroups(size, splits))
            }
        }
    }
}

/// The part of a product that one workgroup computes.
struct CoveredBlock {
    rows: usize,
    columns: usize,
}

impl CoveredBlock {
    /// The number of workgroups of a product in `splits` partial sums.
    fn workgroups(&self, size: &ProductSize, splits: usize) -> [usize; 3] {
        [size.columns.div_ceil(self.columns), size.groups * size.rows.div_ceil(self.rows), size.phases * splits]
    }
}

/// When a sum is cut into partial sums.
struct SplitRule {
    /// What one workgroup computes.
    tile: CoveredBlock,
    /// What cutting is for; the goal with the most partial sums counts.
    goals: Vec<SplitGoal>,
    /// Loop iterations of an invocation for each [`DEPTH`] terms.
    iterations: usize,
}

/// A number of workgroups, and how far sums are cut for it.
struct SplitGoal {
    /// The number of workgroups.
    workgroups: usize,
    /// The most partial sums of an element.
    most: usize,
}

impl SplitRule {
    /// The number of partial sums of each element: where workgroups are few, until there are about as many as wanted, or partial sums
    /// are short; and always enough that no invocation runs more than 40,000 iterations, as Mesa before 25.1 ends all loops
    /// after 65,535. It depends on the size alone, and not on which tile shape is chosen, so that all shapes give the same bits.
    fn splits(&self, size: &ProductSize) -> usize {
        let workgroups: usize = self.tile.workgroups(size, 1).iter().product();
        let wanted = self.goals.iter().map(|goal| (goal.workgroups / workgroups).min(goal.most)).max().unwrap_or(1);
        wanted.max(size.depth.div_ceil(40_000 / self.iterations * DEPTH))
    }
}

/// What an invocation of `conv_direct.wgsl` computes.
const DIRECT_BLOCK: CoveredBlock = CoveredBlock { rows: 4, columns: 4 };

/// The split of `conv_direct.wgsl`: until all cores of a CPU have some workgroups. A term is up to two iterations: one of the loop over
/// taps, and one of that over channels.
fn direct_split_rule(size: &ProductSize) -> SplitRule {
    let goals = vec![SplitGoal { workgroups: 1024, most: size.depth.div_ceil(2048) }];
    SplitRule { tile: DIRECT_BLOCK, goals, iterations: 2 * DEPTH }
}

/// Invocations that keep a large GPU busy: about ten subgroups of 32 for each scheduler of a GPU that has 192.
const BUSY_LANES: usize = 65_536;

/// The tile of a workgroup of `conv.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkgroupTile {
    /// Invocations along the columns.
    x: usize,
    /// Invocations along the rows.
    y: usize,
    /// Blocks of 4 x 4 of an invocation: down and across. Two down only where there are two across.
    blocks: [usize; 2],
    /// Whether the number of terms of a stage is hidden from the compiler. Intel's spills registers where it unrolls them.
    rolled: bool,
    /// Whether the tile of A is moved against bank conflicts, which costs instructions.
    swizzled: bool,
}

impl WorkgroupTile {
    const fn new(x: usize, y: usize, blocks: [usize; 2]) -> Self {
        Self { x, y, blocks, rolled: false, swizzled: false }
    }

    /// 64 x 64 by 256 invocations of 4 x 4: the most subgroups, for products that do not fill a GPU.
    const SQUARE: Self = Self::new(16, 16, [1, 1]);
    /// 64 x 128 by 256 invocations of 4 x 8: fewer loads for each multiplication.
    const WIDE: Self = Self::new(16, 16, [1, 2]);
    /// 64 x 128 by 128 invocations of 8 x 8: the fewest loads from workgroup memory.
    const WIDE_OF_128: Self = Self::new(16, 8, [2, 2]);
    /// 64 x 64 by 64 invocations of 8 x 8: the fewest invocations.
    const SQUARE_OF_64: Self = Self::new(8, 8, [2, 2]);

    /// The fewest workgroups for which a product has the wide tile: about two for each core of a large GPU.
    const MIN_WIDE: usize = 256;

    /// The default tile of hardware. Where there are few columns, it is narrower and taller.
    fn of(size: &ProductSize) -> Self {
        let fits_wide = (size.columns - 1) % 128 >= 64;
        match size.columns {
            _ if fits_wide && Self::WIDE.workgroups(size) >= Self::MIN_WIDE => Self::WIDE,
            33.. => Self::SQUARE,
            17..=32 => Self::new(8, 32, [1, 1]),
            9..=16 => Self::new(4, 32, [1, 1]),
            _ => Self::new(2, 32, [1, 1]),
        }
    }

    /// Alternatives, which may be faster on one adapter or another.
    fn alternatives(self, size: &ProductSize) -> Vec<Self> {
        let rolled = Self { rolled: true, ..self };
        match self {
            Self::WIDE => vec![Self::SQUARE, Self::WIDE_OF_128, Self::SQUARE_OF_64, rolled],
            Self::SQUARE if size.columns > 64 => vec![Self::WIDE, Self::SQUARE_OF_64, rolled],
            Self::SQUARE => vec![Self { swizzled: true, ..self }, Self::SQUARE_OF_64, rolled],
            _ => vec![Self { swizzled: true, ..self }, rolled],
        }
    }

    /// Invocations of a workgroup. Each loads at most four vectors of a stage, so there is one for each row.
    fn lanes(self) -> usize {
        (self.x * self.y).max(self.covered().rows)
    }

    fn overrides(self) -> Vec<(&'static str, f64)> {
        self.overrides_of(self.lanes())
    }

    fn overrides_of(self, lanes: usize) -> Vec<(&'static str, f64)> {
        let Self { x, y, blocks: [down, across], rolled, swizzled } = self;
        let swizzle = if swizzled { 2 } else { 0 };
        let tile = [("TX", x), ("TY", y), ("LANES", lanes), ("DOWN", down), ("ACROSS", across), ("SWIZZLE", swizzle)];
        [sizes(&tile), vec![flag("ROLLED", rolled)]].concat()
    }

    fn covered(self) -> CoveredBlock {
        let [down, across] = self.blocks;
        CoveredBlock { rows: 4 * self.y * down, columns: 4 * self.x * across }
    }

    /// The most loop iterations of an invocation for each stage: the stage itself and one that it skips, the vectors that it loads, each of
    /// up to four loads, and the product.
    fn iterations(self) -> usize {
        let [a, b] = [self.covered().rows, self.covered().columns].map(|side| 4 * side.div_ceil(self.lanes()));
        2 + 5 * a + 4 * b + DEPTH
    }

    fn workgroups(self, size: &ProductSize) -> usize {
        self.covered().workgroups(size, 1).iter().product()
    }

    /// Adam adds the partial sums of a gradient of weights as it reads it, so such a sum is cut until there are [`BUSY_LANES`], or 128 terms
    /// are left. More than 128 partial sums would take Adam longer than the product gains.
    ///
    /// Partial sums of other products cost a dispatch, or the statistics that the epilogue of a whole sum computes. Until each core of a GPU
    /// has a workgroup, about 128, that is paid for. Beyond, waiting is hidden better; a dispatch takes as long as some hundred
    /// terms, so only sums are cut of which 640 terms are left.
    fn split_rule(self, size: &ProductSize, is_weight_gradient: bool) -> SplitRule {
        let (busy, short) = (BUSY_LANES / self.lanes(), size.depth.div_ceil(128));
        let goals = if is_weight_gradient {
            vec![SplitGoal { workgroups: busy, most: short.min(128) }]
        } else {
            vec![SplitGoal { workgroups: 128, most: short }, SplitGoal { workgroups: busy, most: size.depth / 640 }]
        };
        SplitRule { tile: self.covered(), goals, iterations: self.iterations() }
    }
}

/// The tile of a subgroup of `conv_lanes.wgsl`: 32 rows or columns along the lanes, and up to 16 of the other in quads.
pub(super) struct LaneTile {
    /// Whether rows, and not columns, lie along the lanes.
    swapped: bool,
    /// Quads of the other, 1 to 4.
    quads: usize,
}

impl LaneTile {
    /// The way that wastes less of the tiles at the edges.
    fn of(size: &ProductSize) -> Self {
        let quads = |count: usize| count.div_ceil(4).min(4);
        let cost = |on_lanes: usize, in_quads: usize| {
            on_lanes.div_ceil(32) * in_quads.div_ceil(16) * (1 + 2 * quads(in_quads))
        };
        let swapped = cost(size.rows, size.columns) < cost(size.columns, size.rows);
        Self { swapped, quads: quads(if swapped { size.columns } else { size.rows }) }
    }

    fn covered(&self) -> CoveredBlock {
        let [rows, columns] = if self.swapped { [32, 16] } else { [16, 32] };
        CoveredBlock { rows, columns }
    }

    /// A CPU has few cores, and a shorter sum costs less than another dispatch.
    fn split_rule(&self, size: &ProductSize) -> SplitRule {
        let goals = vec![SplitGoal { workgroups: 16, most: size.depth.div_ceil(65_536) }];
        SplitRule { tile: self.covered(), goals, iterations: DEPTH / 4 + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MESA_LIMIT;
    use super::*;

    /// The default tile and its alternatives.
    fn tiles(size: &ProductSize) -> Vec<WorkgroupTile> {
        let default = WorkgroupTile::of(size);
        [vec![default], default.alternatives(size)].concat()
    }

    #[test]
    fn tiles_fit_into_the_workgroup_memory_and_invocations_of_every_adapter() {
        for columns in 1..=300 {
            for rows in [1000, 100_000] {
                let size = ProductSize { groups: 1, rows, columns, depth: 100, phases: 1 };
                let default = WorkgroupTile::of(&size);
                assert!((1..=MAX_TILE_SHAPES).contains(&default.alternatives(&size).len()), "{columns} columns");
                for tile in tiles(&size) {
                    let (covered, lanes) = (tile.covered(), tile.lanes());
                    let origins = 16 * covered.rows; // a vec4 for each row
                    assert!(covered.rows >= ROWS_OF_EVERY_TILE && lanes >= ROWS_OF_EVERY_TILE, "{tile:?}");
                    let depth_sums = 4 * covered.rows.max(covered.columns);
                    let bytes = 4 * DEPTH * (covered.rows + covered.columns) + origins + depth_sums;
                    assert!(bytes <= 16 << 10, "{columns} columns: {bytes} bytes of {tile:?}");
                    assert!(lanes <= 256 && tile.x.is_multiple_of(tile.x.min(8)), "{columns} columns: {tile:?}");
                    assert!(covered.columns >= columns.min(64), "{columns} columns: {tile:?}");
                    // A lane loads one, two or four vectors of A, and up to four of B.
                    let [a, b] = [covered.rows, covered.columns].map(|side| side * DEPTH / 4);
                    let each = [1, 2, 4].map(|each| each * lanes);
                    assert!(each.contains(&a), "{columns} columns: {tile:?}");
                    assert!(b < lanes || each.contains(&b), "{columns} columns: {tile:?}");
                    // A tile has room for a vector of each block of 4 x 4, and the other one for the totals.
                    let [line_a, line_b] = [covered.rows / 4, covered.columns / 4];
                    assert!(line_b <= DEPTH || line_a <= DEPTH, "{columns} columns: {tile:?}");
                    assert!(line_b * (covered.rows / 64) <= lanes.min(DEPTH * line_a), "{columns} columns: {tile:?}");
                }
            }
        }
    }

    #[test]
    fn no_invocation_of_a_product_comes_near_mesas_limit_of_iterations() {
        for columns in [1, 3, 8, 9, 64, 128, 1000] {
            for depth in [1, 16, 4096, 65_536, 1 << 22] {
                for rows in [10, 1000, 100_000] {
                    let size = ProductSize { groups: 1, rows, columns, depth, phases: 1 };
                    let stages = |rule: &SplitRule| depth.div_ceil(rule.splits(&size)).div_ceil(DEPTH);
                    let of_kind = |is_gradient| stages(&WorkgroupTile::of(&size).split_rule(&size, is_gradient));
                    let stages_of_tiles = of_kind(false).max(of_kind(true));
                    // The first workgroups of a gradient of weights also sum up the columns of each stage.
                    let of_tiles = tiles(&size).into_iter().map(|tile| stages_of_tiles * (tile.iterations() + DEPTH));
                    let others = [direct_split_rule(&size), LaneTile::of(&size).split_rule(&size)];
                    let of_others = others.iter().map(|rule| stages(rule) * rule.iterations);
                    for iterations in of_tiles.chain(of_others) {
                        assert!(iterations + 200 < MESA_LIMIT, "{columns} columns, depth {depth}: {iterations}");
                    }
                }
            }
        }
    }

    #[test]
    fn sums_are_cut_until_a_gpu_is_busy_as_far_as_that_pays() {
        let splits = |is_weight_gradient, [rows, columns, depth]: [usize; 3]| {
            let size = ProductSize { groups: 1, rows, columns, depth, phases: 1 };
            ProductLayout::of(&size, KernelSet::Portable).splits(&size, is_weight_gradient).0
        };
        let product = |size| splits(false, size);
        assert_eq!(product([128, 64, 2304]), 18, "at least 128 terms each");
        assert_eq!(product([576, 256, 2048]), 3, "36 workgroups become 108 of 128");
        assert_eq!(product([1152, 256, 2048]), 3, "72 workgroups have terms enough to become 216 of 256");
        assert_eq!(product([1152, 256, 1152]), 1, "72 workgroups are more than half of 128, and 576 terms too few");
        assert_eq!(product([4608, 128, 4096]), 1, "144 workgroups are more than half of 256");
        let gradient = |size| splits(true, size);
        assert_eq!(gradient([2048, 256, 1152]), 2, "128 workgroups become 256");
        assert_eq!(gradient([576, 128, 4608]), 14, "18 workgroups become 252 of 256");
        assert_eq!(gradient([400, 32, 6400]), 50, "at least 128 terms each");
        assert_eq!(gradient([9, 16, 100_000]), 128, "at most 128 partial sums");
    }
}
