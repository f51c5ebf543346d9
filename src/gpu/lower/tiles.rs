//! How the kernels of a matrix product divide it: the tile of a workgroup, its alternatives, and into how many partial sums a sum is
//! cut (split-K).

use super::kernel::{Kernel, MAX_WORKGROUPS, flag, sizes};
use super::{Dispatch, KernelSet, TileShape};

/// Terms of the sums that go through workgroup memory together, as in `conv.wgsl`.
const DEPTH: usize = 16;

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
        let tile = WorkgroupTile::of(size.columns);
        match kernels {
            KernelSet::Lanes => Self::Lanes(LaneTile::of(size)),
            KernelSet::CooperativeMatrices { side, subgroup } if tile == WorkgroupTile::SQUARE => {
                Self::Matrices { side, subgroup }
            }
            KernelSet::Portable | KernelSet::CooperativeMatrices { .. } => Self::Workgroup(tile),
        }
    }

    /// The shader of the product.
    pub(super) fn shader(&self) -> &'static str {
        match self {
            Self::Workgroup(_) => "conv",
            Self::Lanes(_) => "conv_lanes",
            Self::Matrices { side: 8, .. } => "conv_matrices_8",
            Self::Matrices { .. } => "conv_matrices_16",
        }
    }

    /// The number of partial sums of each element, and the terms of each but the last.
    pub(super) fn splits(&self, size: &ProductSize) -> (usize, usize) {
        let rule = self.split_rule(size);
        let workgroups = rule.tile.workgroups(size, 1).iter().product();
        let depth = size.depth.div_ceil(rule.splits(workgroups, size.depth)).next_multiple_of(DEPTH);
        (size.depth.div_ceil(depth), depth)
    }

    fn split_rule(&self, size: &ProductSize) -> SplitRule {
        match self {
            Self::Workgroup(tile) => tile.split_rule(size),
            Self::Matrices { .. } => WorkgroupTile::SQUARE.split_rule(size),
            Self::Lanes(tile) => tile.split_rule(),
        }
    }

    /// Rows of a part, whose sums the kernels for batch normalisation write; none where there are no such kernels.
    pub(super) fn rows_of_part(&self) -> Option<usize> {
        match self {
            Self::Workgroup(tile) => Some(8 * tile.y),
            Self::Matrices { .. } => Some(8 * WorkgroupTile::SQUARE.y),
            Self::Lanes(_) => None,
        }
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
                let others = tile.alternatives(size).into_iter().filter(|other| (8 * other.y).is_multiple_of(part));
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
                let WorkgroupTile { x, y, padding } = WorkgroupTile::SQUARE;
                let tile = [("TX", x), ("TY", y), ("LANES", lanes), ("PADDING", padding), ("SUBGROUP", subgroup)];
                let kernel = kernel.overrides(&sizes(&tile));
                let kernel = kernel.overrides(&sizes(&[("SCALE_A", left), ("SCALE_B", right)]));
                kernel.dispatch(entry, WorkgroupTile::SQUARE.covered().workgroups(size, splits))
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
    /// The number of workgroups that keeps an adapter busy.
    wanted: usize,
    /// The fewest terms of a partial sum.
    min_depth: usize,
    /// Loop iterations of an invocation for each [`DEPTH`] terms.
    iterations: usize,
}

impl SplitRule {
    /// The number of partial sums of a sum of `depth` terms: where workgroups are few, until there are about as many as wanted, or
    /// partial sums are short; and always enough that no invocation runs more than 40,000 iterations, as Mesa before 25.1 ends all
    /// loops after 65,535.
    fn splits(&self, workgroups: usize, depth: usize) -> usize {
        let longest = 40_000 / self.iterations * DEPTH;
        let wanted = (self.wanted / workgroups).clamp(1, depth.div_ceil(self.min_depth));
        wanted.max(depth.div_ceil(longest))
    }
}

/// The tile of a workgroup of `conv.wgsl`, whose invocations each compute 8 x 8 of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkgroupTile {
    /// Invocations along the columns.
    x: usize,
    /// Invocations along the rows.
    y: usize,
    /// Unused elements of workgroup memory behind each depth.
    padding: usize,
}

impl WorkgroupTile {
    /// The default tile of most products, 64 x 64.
    const SQUARE: Self = Self { x: 8, y: 8, padding: 0 };

    /// The default tile: 64 x 64 where there are enough columns, else narrower and taller. No tile is taller than 128 rows, so that
    /// both operands stay within 16 KiB of workgroup memory.
    fn of(columns: usize) -> Self {
        let x = columns.div_ceil(8).next_power_of_two().min(8);
        Self { x, y: (64 / x).min(16), padding: 0 }
    }

    /// Alternatives, which may be faster on one adapter or another: padded, against bank conflicts; wider and taller, with fewer loads
    /// from global memory; smaller, with more workgroups.
    fn alternatives(self, size: &ProductSize) -> Vec<Self> {
        let padded = Self { padding: 4, ..self }; // rows stay aligned to vectors of four
        let mut alternatives = vec![padded];
        if size.columns > 8 * self.x {
            alternatives.push(Self { x: 2 * self.x, ..padded });
        }
        if size.rows > 8 * self.y && self.y < 16 {
            alternatives.push(Self { y: 2 * self.y, ..padded });
        }
        if self.x * self.y > 32 {
            alternatives.push(Self { y: self.y / 2, ..padded });
        }
        alternatives
    }

    fn overrides(self) -> Vec<(&'static str, f64)> {
        sizes(&[("TX", self.x), ("TY", self.y), ("LANES", self.x * self.y), ("PADDING", self.padding)])
    }

    fn covered(self) -> CoveredBlock {
        CoveredBlock { rows: 8 * self.y, columns: 8 * self.x }
    }

    /// Depends on the size of the product alone, and not on which tile shape is chosen, so that all shapes give the same bits.
    fn split_rule(self, size: &ProductSize) -> SplitRule {
        let default = Self::of(size.columns);
        let iterations = default.alternatives(size).into_iter().chain([default]).map(Self::iterations).max();
        let iterations = iterations.expect("at least the default one");
        SplitRule { tile: self.covered(), wanted: 128, min_depth: 128, iterations }
    }

    /// For each [`DEPTH`] terms: the step itself, both loads, the product. A load is of four numbers, which are stored in a loop.
    fn iterations(self) -> usize {
        let loads = |lanes: usize| 5 * (2 * DEPTH).div_ceil(lanes);
        1 + loads(self.x) + loads(self.y) + DEPTH
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
    fn split_rule(&self) -> SplitRule {
        SplitRule { tile: self.covered(), wanted: 16, min_depth: 65_536, iterations: DEPTH / 4 + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MESA_LIMIT;
    use super::*;

    fn of_columns(columns: usize, depth: usize) -> ProductSize {
        ProductSize { groups: 1, rows: 1000, columns, depth, phases: 1 }
    }

    #[test]
    fn tiles_fit_into_the_workgroup_memory_and_invocations_of_every_adapter() {
        for columns in 1..=200 {
            let size = of_columns(columns, 100);
            let default = WorkgroupTile::of(columns);
            let alternatives = default.alternatives(&size);
            assert!((1..=MAX_TILE_SHAPES).contains(&alternatives.len()), "{columns} columns: {alternatives:?}");
            for tile in alternatives.into_iter().chain([default]) {
                let covered = tile.covered();
                let origins = 16 * covered.rows; // a vec4 for each row
                let bytes = 4 * DEPTH * (covered.rows + covered.columns + 2 * tile.padding) + origins;
                assert!(bytes <= 16 << 10, "{columns} columns: {bytes} bytes of {tile:?}");
                assert!(tile.x * tile.y <= 256, "{columns} columns: {tile:?}");
                assert!(covered.columns >= columns.min(64), "{columns} columns: {tile:?}");
                // A lane adds up a column of a part, and there is room for what lanes share of it.
                assert!(default.y >= 8 && tile.x <= 16 && tile.y <= 16, "{columns} columns: {tile:?}");
            }
        }
    }

    #[test]
    fn no_invocation_of_a_product_comes_near_mesas_limit_of_iterations() {
        for columns in [1, 3, 8, 9, 64, 1000] {
            for depth in [1, 16, 4096, 65_536, 1 << 22] {
                for workgroups in [1, 127, 128, 5000] {
                    let size = of_columns(columns, depth);
                    let tile = WorkgroupTile::of(columns);
                    let steps = |rule: SplitRule| depth.div_ceil(rule.splits(workgroups, depth)).div_ceil(DEPTH);
                    let tiles = tile.alternatives(&size).into_iter().chain([tile]);
                    let of_tiles = tiles.map(|tile| steps(tile.split_rule(&size)) * tile.iterations());
                    let lanes = LaneTile::of(&size);
                    let of_lanes = steps(lanes.split_rule()) * lanes.split_rule().iterations;
                    for iterations in of_tiles.chain([of_lanes]) {
                        assert!(iterations + 200 < MESA_LIMIT, "{columns} columns, depth {depth}: {iterations}");
                    }
                }
            }
        }
    }
}
