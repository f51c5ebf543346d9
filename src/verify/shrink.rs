//! The search for the smallest shapes at which a case still fails.

use super::Case;
use super::axes::{axes, reduced};
use crate::error::Result;

/// The most runs of a search. On a device where each run takes a tenth of a second, this is half a minute.
const MAX_RUNS: usize = 300;

/// The result of a search.
pub(super) struct Shrunk {
    /// The smallest case that fails: where one of its axes has one element, or one element less, or half of its elements, it passes.
    /// After [`MAX_RUNS`] runs, the smallest case so far.
    pub(super) case: Case,
    /// The number of cases that were run.
    pub(super) runs: usize,
}

/// Searches for the smallest case that fails, among those of the same operations with shorter axes. `fails` runs a case.
///
/// # Errors
///
/// The first error of `fails`.
pub(super) fn shrink(case: &Case, mut fails: impl FnMut(&Case) -> Result<bool>) -> Result<Shrunk> {
    let mut shrunk = Shrunk { case: case.clone(), runs: 0 };
    loop {
        let before = shrunk.case.name();
        for axis in axes_of(&shrunk.case) {
            while let Some(smaller) = first_failing(&shrunk.case, axis, &mut shrunk.runs, &mut fails)? {
                shrunk.case = smaller;
            }
        }
        if shrunk.case.name() == before {
            return Ok(shrunk);
        }
    }
}

/// The indices of all axes of a case, as [operation, axis].
fn axes_of(case: &Case) -> Vec<[usize; 2]> {
    let ops = case.ops().iter().enumerate();
    ops.flat_map(|(op, of)| (0..axes(of, case.program()).len()).map(move |axis| [op, axis])).collect()
}

/// The first case that fails of those where the axis has one element, or is shorter by a half, a quarter and so on, down to one element
/// less.
fn first_failing(
    case: &Case,
    axis: [usize; 2],
    runs: &mut usize,
    fails: &mut impl FnMut(&Case) -> Result<bool>,
) -> Result<Option<Case>> {
    let size = axes(&case.ops()[axis[0]], case.program())[axis[1]].size;
    let halves = std::iter::successors(Some(size / 2), |fewer| Some(fewer / 2)).take_while(|&fewer| fewer > 0);
    let mut tried: Vec<usize> = [size - 1].into_iter().chain(halves).filter(|&fewer| fewer > 0).collect();
    tried.dedup();
    for fewer in tried {
        let shapes = reduced(case.ops(), case.program(), axis, fewer);
        let Some(smaller) = shapes.and_then(|shapes| case.resized(&shapes)) else { continue };
        if *runs == MAX_RUNS {
            return Ok(None);
        }
        *runs += 1;
        if fails(&smaller)? {
            return Ok(Some(smaller));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{awkward, long};
    use super::*;
    use crate::program::Op;

    /// The largest shape of an operand of a case.
    fn largest(case: &Case) -> usize {
        let operands = case.ops().iter().flat_map(Op::operands);
        operands.map(|operand| case.program().info(operand.tensor).len()).max().unwrap_or(0)
    }

    #[test]
    fn every_case_shrinks_to_valid_shapes_of_few_elements_if_all_shapes_fail() {
        let mut elements: BTreeMap<&str, usize> = BTreeMap::new();
        for case in awkward().into_iter().chain(long()) {
            let shrunk = shrink(&case, |_| Ok(true)).unwrap();
            assert!(shrunk.runs < MAX_RUNS, "{}", case.name());
            assert_eq!(shrunk.case.ops().len(), case.ops().len());
            let most = elements.entry(case.op().name()).or_default();
            *most = largest(&shrunk.case).max(*most);
        }
        // Histories of 256 steps do not shrink, nor do windows, factors and parts of a buffer.
        let windows = ["max_pool", "max_pool_grad", "upsample", "upsample_grad"];
        let parts = ["adam", "ema"];
        let large = elements.iter().filter(|(name, most)| {
            !windows.contains(name)
                && !parts.contains(name)
                && !name.ends_with("loss")
                && *name != &"cross_entropy"
                && **most > 700
        });
        assert_eq!(large.collect::<Vec<_>>(), Vec::new());
    }

    #[test]
    fn a_search_finds_the_smallest_shape_that_fails() {
        let cases = awkward();
        let case = cases.iter().find(|case| case.name() == "conv/x=2x6x5x9,w=3x3x9x65,y=2x3x3x65").expect("a case");
        // A kernel that is wrong from the column 40 on, where there are two images.
        let fails = |case: &Case| {
            let Op::Conv { y, .. } = case.ops()[0] else { unreachable!("a convolution") };
            let [n, .., c] = case.program().nhwc(y);
            Ok(n > 1 && c > 40)
        };
        let Shrunk { case: smallest, runs } = shrink(case, fails).unwrap();
        assert_eq!(smallest.name(), "conv/x=2x3x2x1,w=3x3x1x41,y=2x2x2x41");
        assert!(runs < 60, "{runs} runs");
        let unchanged = shrink(case, |_| Ok(false)).unwrap();
        assert_eq!(unchanged.case.name(), case.name());
    }
}
