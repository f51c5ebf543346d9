//! How the kernels of a matrix product divide it: the tile of a workgroup, its alternatives, and into how many partial sums a sum is
//! cut (split-K).

use super::kernel::{Kernel, MAX_WORKGROUPS, Overrides, overrides};
use super::norm::{FEW_ROWS, groups_of};
use super::{Dispatch, KernelSet};
use crate::program::Op;

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

/// The entry points of each kind of product: for the product alone, with statistics for batch normalisation, with the sums for its gradient,
/// and for few columns.
const ENTRY_POINTS: [[&str; 4]; 3] = [
    ["forward", "forward_and_statistics", "forward_and_gradient_sums", "narrow_forward"],
    ["grad_input", "grad_input_and_statistics", "grad_input_and_gradient_sums", "narrow_grad_input"],
    ["grad_weight"; 4],
];

/// Which product it is, and the size of the matrices; of the largest phase, where there are several.
#[derive(Clone, Copy)]
pub(super) struct ProductSize {
    /// Which product it is.
    pub(super) kind: ProductKind,
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
    /// The product.
    pub(super) size: ProductSize,
    /// The kernels.
    pub(super) kernels: KernelSet,
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
    /// The layout of a product. The number of partial sums depends on the size alone, and not on which tile is chosen, so that all tiles
    /// give the same bits.
    pub(super) fn of(size: ProductSize, kernels: KernelSet) -> Self {
        let (kernels, shader, tiles, wanted) = match kernels {
            KernelSet::Lanes => {
                let tile = Tile::of_lanes(&size);
                // A CPU has few cores, and a shorter sum costs less than another dispatch.
                let wanted = tile.splits(&size, 16, size.depth.div_ceil(65_536));
                (kernels, "conv_lanes", vec![tile], wanted.max(size.depth.div_ceil(MAX_TERMS_IN_LANES)))
            }
            KernelSet::Direct => {
                let tile = Tile { rows: 4, columns: 4, lanes: 1, overrides: Overrides::new() };
                // Until all cores of a CPU have some workgroups.
                let wanted = tile.splits(&size, 1024, size.depth.div_ceil(2048));
                (kernels, "conv_direct", vec![tile], wanted.max(size.depth.div_ceil(MAX_DIRECT_TERMS)))
            }
            // There are enough columns for a square tile.
            KernelSet::CooperativeMatrices { side, subgroup } if size.columns > 32 => {
                let shader = if side == 8 { "conv_matrices_8" } else { "conv_matrices_16" };
                // A subgroup has eight matrices of the square tile.
                let lanes = 64 * 64 / (8 * side * side) * subgroup;
                let tile = Tile::of_blocks([8, 8], [2, 2], lanes).with(overrides! { SUBGROUP: subgroup });
                (kernels, shader, vec![tile], Tile::square().splits_of_a_gpu(&size))
            }
            KernelSet::Portable | KernelSet::PortableOnSoftware | KernelSet::CooperativeMatrices { .. } => {
                let tiles = Tile::all_of_blocks(&size);
                let wanted = tiles[0].splits_of_a_gpu(&size);
                let needed = size.depth.div_ceil(MAX_TERMS_IN_BLOCKS);
                let splits = if kernels == KernelSet::PortableOnSoftware { wanted.max(needed) } else { wanted };
                (KernelSet::Portable, "conv", tiles, splits)
            }
        };
        let split_depth = size.depth.div_ceil(wanted).next_multiple_of(DEPTH);
        Self { size, kernels, shader, tiles, splits: size.depth.div_ceil(split_depth), split_depth }
    }

    /// Whether there are kernels that sum up rows of tiles, for batch normalisation, and the depth of an operand, which is the gradient
    /// of a bias.
    pub(super) fn has_sums(&self) -> bool {
        !matches!(self.kernels, KernelSet::Lanes | KernelSet::Direct)
    }

    /// Rows of a part, whose sums the kernels for batch normalisation write.
    pub(super) fn rows_of_part(&self) -> usize {
        self.tiles[0].rows
    }

    /// Whether one invocation computes all columns of a row: where they are so few that a tile would be mostly empty, rows are enough
    /// to keep an adapter busy, and loops are short.
    fn is_narrow(&self) -> bool {
        let ProductSize { kind, columns, depth, rows, phases } = self.size;
        let fits = columns <= 4 && depth <= 8192 && (64 * 128..=64 * MAX_WORKGROUPS).contains(&(rows * phases));
        fits && kind != ProductKind::GradWeight && self.splits == 1 && self.kernels == KernelSet::Portable
    }

    /// The dispatch of a product, with the sums that batch normalisation, or its gradient, takes. No tile then has rows of two groups of
    /// images, and all tiles have whole parts.
    pub(super) fn dispatch(&self, kernel: &Kernel, norm: Option<&Op>) -> Dispatch {
        let [plain, with_statistics, with_gradient_sums, narrow] = ENTRY_POINTS[self.size.kind as usize];
        let entry = match norm {
            None if self.is_narrow() => {
                return kernel.clone().dispatch(narrow, [self.size.rows.div_ceil(64), 1, self.size.phases]);
            }
            None if self.kernels == KernelSet::Lanes => "product",
            None => plain,
            Some(Op::BatchNorm { .. }) => with_statistics,
            Some(_) => with_gradient_sums,
        };
        let dispatch = |tile: &Tile| {
            let mut workgroups = tile.workgroups(&self.size, norm.map_or(1, groups_of), self.splits);
            if let (KernelSet::Direct, [x, y, z]) = (self.kernels, workgroups) {
                // A tile is that of an invocation.
                let count = (x * y).div_ceil(64);
                workgroups = [count.min(MAX_WORKGROUPS), count.div_ceil(MAX_WORKGROUPS), z];
            }
            kernel.clone().overrides(tile.overrides.clone()).dispatch(entry, workgroups)
        };
        let fits = |tile: &&Tile| norm.is_none() || tile.rows.is_multiple_of(self.rows_of_part());
        let others = self.tiles[1..].iter().filter(fits).map(dispatch);
        let is_allowed = |other: &Dispatch| other.workgroups.iter().all(|&count| count <= MAX_WORKGROUPS);
        Dispatch { tile_shapes: others.filter(is_allowed).collect(), ..dispatch(&self.tiles[0]) }
    }
}

/// The most terms of a sum in `conv_lanes.wgsl`, whose loops take 5 iterations for each 16 terms. Mesa before 25.1 ends all loops of an
/// invocation after 65,535 iterations; these are 40,000.
const MAX_TERMS_IN_LANES: usize = 128_000;

/// The most terms of a sum in `conv_direct.wgsl`. Each is up to two iterations, one of the loop over taps and one of that over channels.
const MAX_DIRECT_TERMS: usize = 20_000;

/// The most terms of a sum in `conv.wgsl` on a software adapter, which take up to 70 iterations for each 16.
const MAX_TERMS_IN_BLOCKS: usize = 12_000;

/// Terms of a sum that should take about as long as a dispatch on a GPU. An estimate, which was not measured.
const TERMS_OF_A_DISPATCH: usize = 640;

/// The fewest workgroups for which a product has the wide tile: about two for each core of a large GPU.
const MIN_WIDE: usize = 256;

/// Invocations that keep a large GPU busy: about ten subgroups of 32 for each scheduler of a GPU that has 192.
const BUSY_LANES: usize = 65_536;

/// The part of a product that one workgroup, or one invocation, computes.
#[derive(Debug, Clone)]
struct Tile {
    rows: usize,
    columns: usize,
    /// The invocations that compute it.
    lanes: usize,
    /// The overrides that choose it.
    overrides: Overrides,
}

impl Tile {
    /// A tile of `conv.wgsl`: `x` invocations along the columns times `y` along the rows, each with blocks of 4 x 4, `down` and `across`. Two
    /// are down only where two are across. The other invocations, up to `lanes`, only help to load.
    fn of_blocks([x, y]: [usize; 2], [down, across]: [usize; 2], lanes: usize) -> Self {
        let [rows, columns] = [4 * y * down, 4 * x * across];
        let overrides = overrides! { TX: x, TY: y, LANES: lanes, DOWN: down, ACROSS: across };
        Self { rows, columns, lanes, overrides }
    }

    /// The tile with more overrides.
    fn with(mut self, more: Overrides) -> Self {
        self.overrides.extend(more);
        self
    }

    /// The most subgroups, for products that do not fill a GPU.
    fn square() -> Self {
        Self::of_blocks([16, 16], [1, 1], 256)
    }

    /// The default tile of hardware, and then alternatives, which may be faster on one adapter or another. Where there are few columns, the
    /// default is narrower and taller.
    fn all_of_blocks(size: &ProductSize) -> Vec<Self> {
        let square = Self::square();
        // Fewer loads for each multiplication.
        let wide = Self::of_blocks([16, 16], [1, 2], 256);
        // The fewest loads from workgroup memory.
        let wide_of_128 = Self::of_blocks([16, 8], [2, 2], 128);
        // The fewest invocations.
        let square_of_64 = Self::of_blocks([8, 8], [2, 2], 64);
        // Each invocation loads at most four vectors of a stage, so there is one for each row.
        let narrow = |x| Self::of_blocks([x, 32], [1, 1], 128.max(32 * x));
        // Hides the number of terms of a stage from the compiler. Intel's spills registers where it unrolls them.
        let rolled = |tile: &Self| tile.clone().with(overrides! { ROLLED: 1 });
        // Moves the tile of A against bank conflicts, which costs instructions.
        let swizzled = |tile: &Self| tile.clone().with(overrides! { SWIZZLE: 2 });
        let fits_wide = (size.columns - 1) % 128 >= 64 && wide.count(size) >= MIN_WIDE;
        let default = match size.columns {
            _ if fits_wide => return vec![wide.clone(), square, wide_of_128, square_of_64, rolled(&wide)],
            65.. => return vec![square.clone(), wide, square_of_64, rolled(&square)],
            33.. => return vec![square.clone(), swizzled(&square), square_of_64, rolled(&square)],
            17.. => narrow(8),
            9.. => narrow(4),
            _ => narrow(2),
        };
        vec![default.clone(), swizzled(&default), rolled(&default)]
    }

    /// The tile of a subgroup of `conv_lanes.wgsl`: 32 rows or columns along the lanes, and up to 16 of the other in quads. Of both ways the
    /// one that wastes less of the tiles at the edges.
    fn of_lanes(size: &ProductSize) -> Self {
        let quads = |count: usize| count.div_ceil(4).min(4);
        let cost = |on_lanes: usize, in_quads: usize| {
            on_lanes.div_ceil(32) * in_quads.div_ceil(16) * (1 + 2 * quads(in_quads))
        };
        let swapped = cost(size.rows, size.columns) < cost(size.columns, size.rows);
        let ([rows, columns], in_quads) = if swapped { ([32, 16], size.columns) } else { ([16, 32], size.rows) };
        let overrides = overrides! { PRODUCT: size.kind as usize, QUADS: quads(in_quads), SWAPPED: u8::from(swapped) };
        Self { rows, columns, lanes: 8, overrides }
    }

    /// The number of tiles of a product in `splits` partial sums, for rows in groups.
    fn workgroups(&self, size: &ProductSize, groups: usize, splits: usize) -> [usize; 3] {
        let rows = groups * (size.rows / groups).div_ceil(self.rows);
        [size.columns.div_ceil(self.columns), rows, size.phases * splits]
    }

    /// The number of tiles of a product that is not cut.
    fn count(&self, size: &ProductSize) -> usize {
        self.workgroups(size, 1, 1).iter().product()
    }

    /// The number of partial sums of each element, from 1 to `most`, for about that number of workgroups.
    fn splits(&self, size: &ProductSize, workgroups: usize, most: usize) -> usize {
        (workgroups / self.count(size)).min(most).max(1)
    }

    /// The number of partial sums of each element on a GPU.
    ///
    /// Adam adds the partial sums of a gradient of weights as it reads it, so such a sum is cut until there are [`BUSY_LANES`], or 128 terms
    /// are left. More than 128 partial sums would take Adam longer than the product gains.
    ///
    /// Partial sums of other products cost a dispatch, or the statistics that the epilogue of a whole sum computes. So sums are
    /// cut where they become shorter by [`TERMS_OF_A_DISPATCH`]: until each core of a GPU has a workgroup, about 128; and beyond, where
    /// waiting is hidden better, if as many terms are left. Batch normalisation of few rows is one dispatch with partial sums
    /// and without, so sums for few rows are cut down to 128 terms.
    fn splits_of_a_gpu(&self, size: &ProductSize) -> usize {
        let (busy, short) = (BUSY_LANES / self.lanes, size.depth.div_ceil(128));
        if size.kind == ProductKind::GradWeight {
            return self.splits(size, busy, short.min(128));
        }
        let (few, many) = (self.splits(size, 128, short), self.splits(size, busy, size.depth / TERMS_OF_A_DISPATCH));
        let saved = size.depth - size.depth / few;
        let pays = saved >= TERMS_OF_A_DISPATCH || size.rows * size.phases <= FEW_ROWS;
        if pays { few.max(many) } else { many }
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
                let size = ProductSize { kind: ProductKind::Forward, rows, columns, depth: 100, phases: 1 };
                let all = Tile::all_of_blocks(&size);
                assert!((2..=1 + MAX_TILE_SHAPES).contains(&all.len()), "{columns} columns");
                for tile in all {
                    let Tile { rows, columns: covered, lanes, .. } = tile;
                    let origins = 16 * rows; // a vec4 for each row
                    assert!((ROWS_OF_EVERY_TILE..=lanes).contains(&rows), "{tile:?}");
                    let depth_sums = 4 * rows.max(covered);
                    let bytes = 4 * DEPTH * (rows + covered) + origins + depth_sums;
                    assert!(bytes <= 16 << 10, "{columns} columns: {bytes} bytes of {tile:?}");
                    let x = tile.overrides.iter().find(|(name, _)| *name == "TX").unwrap().1 as usize;
                    assert!(lanes <= 256 && x.is_multiple_of(x.min(8)), "{columns} columns: {tile:?}");
                    assert!(covered >= columns.min(64), "{columns} columns: {tile:?}");
                    // A lane loads one, two or four vectors of A, and up to four of B.
                    let [a, b] = [rows, covered].map(|side| side * DEPTH / 4);
                    let each = [1, 2, 4].map(|each| each * lanes);
                    assert!(each.contains(&a), "{columns} columns: {tile:?}");
                    assert!(b < lanes || each.contains(&b), "{columns} columns: {tile:?}");
                    // A tile has room for a vector of each block of 4 x 4, and the other one for the totals.
                    let [line_a, line_b] = [rows / 4, covered / 4];
                    assert!(line_b <= DEPTH || line_a <= DEPTH, "{columns} columns: {tile:?}");
                    assert!(line_b * (rows / 64) <= lanes.min(DEPTH * line_a), "{columns} columns: {tile:?}");
                }
            }
        }
    }

    #[test]
    fn no_invocation_of_a_product_of_software_adapters_comes_near_mesas_limit_of_iterations() {
        for columns in [1, 3, 8, 9, 64, 128, 1000] {
            for depth in [1, 16, 4096, 65_536, 1 << 22] {
                for rows in [10, 1000, 100_000] {
                    for kind in [ProductKind::Forward, ProductKind::GradWeight] {
                        let size = ProductSize { kind, rows, columns, depth, phases: 1 };
                        let [lanes, direct] = [KernelSet::Lanes, KernelSet::Direct]
                            .map(|kernels| ProductLayout::of(size, kernels).split_depth);
                        let iterations = (lanes / DEPTH * (DEPTH / 4 + 1)).max(2 * direct);
                        assert!(iterations + 200 < MESA_LIMIT, "{columns} columns, depth {depth}: {iterations}");
                    }
                }
            }
        }
    }

    #[test]
    fn sums_are_cut_until_a_gpu_is_busy_as_far_as_that_pays() {
        let splits = |kind, [rows, columns, depth]: [usize; 3]| {
            let size = ProductSize { kind, rows, columns, depth, phases: 1 };
            ProductLayout::of(size, KernelSet::Portable).splits
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
