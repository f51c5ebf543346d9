//! How the kernels of a matrix product divide it: the tile of a workgroup, its alternatives, and into how many partial sums a sum is
//! cut (split-K).

use super::kernel::{Kernel, MAX_WORKGROUPS, Overrides, overrides};
use super::norm::FEW_ROWS;
use super::{Dispatch, KernelSet, TileShape};

/// Terms of the sums that go through workgroup memory together, as in `conv.wgsl`.
const DEPTH: usize = 16;

/// Rows that every tile of `conv.wgsl` has, and a lane for each.
pub(super) const ROWS_OF_EVERY_TILE: usize = 64;

/// The most alternatives to the default tile shape of a product.
pub(in crate::gpu) const MAX_TILE_SHAPES: usize = 4;

/// Which of the three products it is, numbered as in `conv_lanes.wgsl`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ProductKind {
    Forward,
    GradInput,
    GradWeight,
}

/// The size of a matrix product; of the largest phase, where there are several.
#[derive(Clone, Copy)]
pub(super) struct ProductSize {
    /// Rows.
    pub(super) rows: usize,
    /// Columns.
    pub(super) columns: usize,
    /// Terms of each sum.
    pub(super) depth: usize,
    /// Phases of the stride, each a product of its own.
    pub(super) phases: usize,
}

/// Which kernels compute a product, with which tiles, and in how many partial sums.
pub(super) struct ProductLayout {
    /// The kernels.
    kernels: KernelSet,
    /// The shader of the product.
    pub(super) shader: &'static str,
    /// The default tile, and then its alternatives.
    tiles: Vec<Tile>,
    /// The number of partial sums of each element.
    pub(super) splits: usize,
    /// Terms of a partial sum; the last one may have fewer.
    pub(super) split_depth: usize,
}

impl ProductLayout {
    /// The layout of a product, whose operands have these scales in f16. The number of partial sums depends on the size alone, and not on
    /// which tile is chosen, so that all tiles give the same bits.
    pub(super) fn of(size: &ProductSize, kind: ProductKind, [left, right]: [usize; 2], kernels: KernelSet) -> Self {
        let (kernels, shader, tiles, goals) = match kernels {
            KernelSet::Lanes => {
                // A CPU has few cores, and a shorter sum costs less than another dispatch.
                let goal = SplitGoal { workgroups: 16, most: size.depth.div_ceil(65_536), saves: 0 };
                (kernels, "conv_lanes", vec![lane_tile(size, kind)], vec![goal])
            }
            KernelSet::Direct => {
                // A term is up to two iterations: one of the loop over taps, and one of that over channels.
                let tile = Tile { rows: 4, columns: 4, iterations: 2 * DEPTH, overrides: Overrides::new() };
                // Until all cores of a CPU have some workgroups.
                let goal = SplitGoal { workgroups: 1024, most: size.depth.div_ceil(2048), saves: 0 };
                (kernels, "conv_direct", vec![tile], vec![goal])
            }
            // There are enough columns for a square tile.
            KernelSet::CooperativeMatrices { side, subgroup } if size.columns > 32 => {
                let shader = if side == 8 { "conv_matrices_8" } else { "conv_matrices_16" };
                // A subgroup has eight matrices of the square tile.
                let lanes = 64 * 64 / (8 * side * side) * subgroup;
                let mut tile = WorkgroupTile::SQUARE.tile();
                tile.overrides = WorkgroupTile::SQUARE_OF_64.overrides(lanes);
                tile.overrides.extend(overrides! { SUBGROUP: subgroup, SCALE_A: left, SCALE_B: right });
                (kernels, shader, vec![tile], WorkgroupTile::SQUARE.split_goals(size, kind))
            }
            KernelSet::Portable | KernelSet::CooperativeMatrices { .. } => {
                let all = WorkgroupTile::all_for(size);
                let goals = all[0].split_goals(size, kind);
                (KernelSet::Portable, "conv", all.into_iter().map(WorkgroupTile::tile).collect(), goals)
            }
        };
        let split_depth = size.depth.div_ceil(tiles[0].splits(size, &goals)).next_multiple_of(DEPTH);
        Self { kernels, shader, tiles, splits: size.depth.div_ceil(split_depth), split_depth }
    }

    /// Whether there are kernels that sum up rows of tiles, for batch normalisation, and the depth of an operand, which is the gradient
    /// of a bias.
    pub(super) fn has_sums(&self) -> bool {
        !matches!(self.kernels, KernelSet::Lanes | KernelSet::Direct)
    }

    /// Whether there are kernels for few columns, without tiles.
    pub(super) fn has_narrow_kernels(&self) -> bool {
        self.kernels == KernelSet::Portable
    }

    /// Rows of a part, whose sums the kernels for batch normalisation write.
    pub(super) fn rows_of_part(&self) -> usize {
        self.tiles[0].rows
    }

    /// The dispatch of a product. With groups of images, whose sums are written for batch normalisation, no tile has rows of two groups,
    /// and all tiles have whole parts.
    pub(super) fn dispatch(
        &self,
        kernel: Kernel,
        entry: &'static str,
        size: &ProductSize,
        groups: Option<usize>,
    ) -> Dispatch {
        let shape = |tile: &Tile| {
            let mut workgroups = tile.workgroups(size, groups.unwrap_or(1), self.splits);
            if let (KernelSet::Direct, [x, y, z]) = (self.kernels, workgroups) {
                // A tile is that of an invocation.
                let count = (x * y).div_ceil(64);
                let lines = count.div_ceil(MAX_WORKGROUPS);
                workgroups = [count.div_ceil(lines), lines, z];
            }
            TileShape { overrides: tile.overrides.clone(), workgroups }
        };
        let fits = |tile: &&Tile| groups.is_none() || tile.rows.is_multiple_of(self.rows_of_part());
        let is_allowed = |shape: &TileShape| shape.workgroups.iter().all(|&count| count <= MAX_WORKGROUPS);
        let tile_shapes = self.tiles[1..].iter().filter(fits).map(shape).filter(is_allowed).collect();
        let TileShape { overrides, workgroups } = shape(&self.tiles[0]);
        let entry = if self.kernels == KernelSet::Lanes { "product" } else { entry };
        Dispatch { tile_shapes, ..kernel.overrides(overrides).dispatch(entry, workgroups) }
    }
}

/// The part of a product that one workgroup, or one invocation, computes.
struct Tile {
    rows: usize,
    columns: usize,
    /// The most loop iterations of an invocation for each [`DEPTH`] terms.
    iterations: usize,
    /// The overrides that choose it.
    overrides: Overrides,
}

impl Tile {
    /// The number of tiles of a product in `splits` partial sums, for rows in groups.
    fn workgroups(&self, size: &ProductSize, groups: usize, splits: usize) -> [usize; 3] {
        let rows = groups * (size.rows / groups).div_ceil(self.rows);
        [size.columns.div_ceil(self.columns), rows, size.phases * splits]
    }

    /// The number of tiles of a product that is not cut.
    fn count(&self, size: &ProductSize) -> usize {
        self.workgroups(size, 1, 1).iter().product()
    }

    /// The number of partial sums of each element: where workgroups are few, until there are about as many as wanted, or partial sums
    /// are short, for the goal with the most partial sums; and always enough that no invocation runs more than 40,000 iterations, as
    /// Mesa before 25.1 ends all loops after 65,535.
    fn splits(&self, size: &ProductSize, goals: &[SplitGoal]) -> usize {
        let splits_for = |goal: &SplitGoal| {
            let splits = (goal.workgroups / self.count(size)).min(goal.most).max(1);
            if size.depth - size.depth / splits >= goal.saves { splits } else { 1 }
        };
        let wanted = goals.iter().map(splits_for).max().unwrap_or(1);
        wanted.max(size.depth.div_ceil(40_000 / self.iterations * DEPTH))
    }
}

/// What cutting sums is for: a number of workgroups, and how far sums are cut for it.
struct SplitGoal {
    /// The number of workgroups.
    workgroups: usize,
    /// The most partial sums of an element.
    most: usize,
    /// The fewest terms by which sums become shorter.
    saves: usize,
}

/// The tile of a subgroup of `conv_lanes.wgsl`: 32 rows or columns along the lanes, and up to 16 of the other in quads. Of both ways the one
/// that wastes less of the tiles at the edges.
fn lane_tile(size: &ProductSize, kind: ProductKind) -> Tile {
    let quads = |count: usize| count.div_ceil(4).min(4);
    let cost =
        |on_lanes: usize, in_quads: usize| on_lanes.div_ceil(32) * in_quads.div_ceil(16) * (1 + 2 * quads(in_quads));
    let swapped = cost(size.rows, size.columns) < cost(size.columns, size.rows);
    let ([rows, columns], in_quads) = if swapped { ([32, 16], size.columns) } else { ([16, 32], size.rows) };
    let overrides = overrides! { PRODUCT: kind as usize, QUADS: quads(in_quads), SWAPPED: u8::from(swapped) };
    Tile { rows, columns, iterations: DEPTH / 4 + 1, overrides }
}

/// Terms of a sum that should take about as long as a dispatch on a GPU. An estimate, which was not measured.
const TERMS_OF_A_DISPATCH: usize = 640;

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

    /// The default tile of hardware, and then alternatives, which may be faster on one adapter or another. Where there are few columns, the
    /// default is narrower and taller.
    fn all_for(size: &ProductSize) -> Vec<Self> {
        let fits_wide = (size.columns - 1) % 128 >= 64;
        let default = match size.columns {
            _ if fits_wide && Self::WIDE.tile().count(size) >= Self::MIN_WIDE => Self::WIDE,
            33.. => Self::SQUARE,
            17..=32 => Self::new(8, 32, [1, 1]),
            9..=16 => Self::new(4, 32, [1, 1]),
            _ => Self::new(2, 32, [1, 1]),
        };
        let [swizzled, rolled] = [Self { swizzled: true, ..default }, Self { rolled: true, ..default }];
        match default {
            Self::WIDE => vec![default, Self::SQUARE, Self::WIDE_OF_128, Self::SQUARE_OF_64, rolled],
            Self::SQUARE if size.columns > 64 => vec![default, Self::WIDE, Self::SQUARE_OF_64, rolled],
            Self::SQUARE => vec![default, swizzled, Self::SQUARE_OF_64, rolled],
            _ => vec![default, swizzled, rolled],
        }
    }

    /// Invocations of a workgroup. Each loads at most four vectors of a stage, so there is one for each row.
    fn lanes(self) -> usize {
        (self.x * self.y).max(4 * self.y * self.blocks[0])
    }

    fn overrides(self, lanes: usize) -> Overrides {
        let Self { x, y, blocks: [down, across], rolled, swizzled } = self;
        let swizzle = if swizzled { 2 } else { 0 };
        overrides! {
            TX: x, TY: y, LANES: lanes, DOWN: down, ACROSS: across, SWIZZLE: swizzle, ROLLED: u8::from(rolled)
        }
    }

    fn tile(self) -> Tile {
        let [rows, columns] = [4 * self.y * self.blocks[0], 4 * self.x * self.blocks[1]];
        let [a, b] = [rows, columns].map(|side| 4 * side.div_ceil(self.lanes()));
        // The stage itself and one that it skips, the vectors that it loads, each of up to four loads, and the product.
        let iterations = 2 + 5 * a + 4 * b + DEPTH;
        Tile { rows, columns, iterations, overrides: self.overrides(self.lanes()) }
    }

    /// Adam adds the partial sums of a gradient of weights as it reads it, so such a sum is cut until there are [`BUSY_LANES`], or 128 terms
    /// are left. More than 128 partial sums would take Adam longer than the product gains.
    ///
    /// Partial sums of other products cost a dispatch, or the statistics that the epilogue of a whole sum computes. So sums are
    /// cut where they become shorter by [`TERMS_OF_A_DISPATCH`]: until each core of a GPU has a workgroup, about 128; and beyond, where
    /// waiting is hidden better, if as many terms are left. Batch normalisation of few rows is one dispatch with partial sums
    /// and without, so sums for few rows are cut down to 128 terms.
    fn split_goals(self, size: &ProductSize, kind: ProductKind) -> Vec<SplitGoal> {
        let (busy, short) = (BUSY_LANES / self.lanes(), size.depth.div_ceil(128));
        let saves = if size.rows * size.phases <= FEW_ROWS { 0 } else { TERMS_OF_A_DISPATCH };
        match kind {
            ProductKind::GradWeight => vec![SplitGoal { workgroups: busy, most: short.min(128), saves: 0 }],
            _ => vec![
                SplitGoal { workgroups: 128, most: short, saves },
                // Two such parts save as much.
                SplitGoal { workgroups: busy, most: size.depth / TERMS_OF_A_DISPATCH, saves: 0 },
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MESA_LIMIT;
    use super::*;

    #[test]
    fn tiles_fit_into_the_workgroup_memory_and_invocations_of_every_adapter() {
        for columns in 1..=300 {
            for rows in [1000, 100_000] {
                let size = ProductSize { rows, columns, depth: 100, phases: 1 };
                let all = WorkgroupTile::all_for(&size);
                assert!((2..=1 + MAX_TILE_SHAPES).contains(&all.len()), "{columns} columns");
                for tile in all {
                    let (covered, lanes) = (tile.tile(), tile.lanes());
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
                    let size = ProductSize { rows, columns, depth, phases: 1 };
                    for kernels in [KernelSet::Portable, KernelSet::Direct, KernelSet::Lanes] {
                        for kind in [ProductKind::Forward, ProductKind::GradWeight] {
                            let layout = ProductLayout::of(&size, kind, [1, 1], kernels);
                            for tile in &layout.tiles {
                                // The first workgroups of a gradient of weights also sum up the columns of each stage.
                                let of_stage = tile.iterations + if layout.has_sums() { DEPTH } else { 0 };
                                let iterations = layout.split_depth / DEPTH * of_stage;
                                assert!(
                                    iterations + 200 < MESA_LIMIT,
                                    "{columns} columns, depth {depth}: {iterations}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn sums_are_cut_until_a_gpu_is_busy_as_far_as_that_pays() {
        let splits = |kind, [rows, columns, depth]: [usize; 3]| {
            let size = ProductSize { rows, columns, depth, phases: 1 };
            ProductLayout::of(&size, kind, [1, 1], KernelSet::Portable).splits
        };
        let product = |size| splits(ProductKind::Forward, size);
        assert_eq!(product([128, 64, 2304]), 18, "at least 128 terms each");
        assert_eq!(product([576, 256, 2048]), 3, "36 workgroups become 108 of 128");
        assert_eq!(product([1152, 256, 2048]), 3, "72 workgroups have terms enough to become 216 of 256");
        assert_eq!(product([1152, 256, 1152]), 1, "72 workgroups are more than half of 128, and 576 terms too few");
        assert_eq!(product([3200, 32, 400]), 1, "100 instead of 400 terms are not worth a dispatch");
        assert_eq!(product([4608, 128, 4096]), 1, "144 workgroups are more than half of 256");
        let gradient = |size| splits(ProductKind::GradWeight, size);
        assert_eq!(gradient([2048, 256, 1152]), 2, "128 workgroups become 256");
        assert_eq!(gradient([576, 128, 4608]), 14, "18 workgroups become 252 of 256");
        assert_eq!(gradient([400, 32, 6400]), 50, "at least 128 terms each");
        assert_eq!(gradient([9, 16, 100_000]), 128, "at most 128 partial sums");
    }
}
