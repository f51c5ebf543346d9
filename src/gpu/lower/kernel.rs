//! What a dispatch is made of before its size is known, and the sizes that many kernels share.

use std::collections::BTreeMap;

use super::{Dispatch, Resource};
use crate::program::{Op, Program, TensorId, random};

/// Invocations of an elementwise workgroup, as in the shaders.
pub(super) const ELEMENTWISE: usize = 256;
/// Workgroups along one dimension that every adapter allows.
pub(super) const MOST_WORKGROUPS: usize = 65_535;

/// An entry point's shader, constants and tensors, before its size is known.
#[derive(Clone)]
pub(super) struct Kernel {
    shader: &'static str,
    overrides: Vec<(&'static str, f64)>,
    bindings: BTreeMap<&'static str, Resource>,
}

impl Kernel {
    /// The operands of the operation are bound under their own names.
    pub(super) fn new(op: &Op, shader: &'static str, constants: Vec<(&'static str, f64)>) -> Self {
        let bindings =
            op.operands().into_iter().map(|operand| (operand.name, Resource::Tensor(operand.tensor))).collect();
        Self { shader, overrides: constants, bindings }
    }

    /// The same for another shader with the same constants and tensors.
    pub(super) fn of_shader(self, shader: &'static str) -> Self {
        Self { shader, ..self }
    }

    pub(super) fn constants(mut self, more: &[(&'static str, f64)]) -> Self {
        self.overrides.extend_from_slice(more);
        self
    }

    pub(super) fn bind(mut self, name: &'static str, source: Resource) -> Self {
        self.bindings.insert(name, source);
        self
    }

    pub(super) fn scratch(self, name: &'static str, len: usize) -> Self {
        self.bind(name, Resource::Scratch(name, 0..len))
    }

    /// A shader's bindings are fixed, so an absent bias is any tensor that is only read.
    pub(super) fn with_bias(self, bias: Option<TensorId>, placeholder: TensorId) -> Self {
        let has_bias = flag("HAS_BIAS", bias.is_some());
        self.bind("b", Resource::Tensor(bias.unwrap_or(placeholder))).constants(&[has_bias])
    }

    pub(super) fn dispatch(self, entry: &'static str, workgroups: [usize; 3]) -> Dispatch {
        let Self { shader, overrides, bindings } = self;
        Dispatch { shader, entry, overrides, bindings, workgroups, tile_shapes: Vec::new() }
    }
}

/// How a sum over many rows is split into parts that are added in a fixed order.
pub(super) struct Slices {
    pub(super) count: usize,
    pub(super) rows: usize,
}

impl Slices {
    /// About 64 slices, of 256 rows at least, and of 131,072 at most: its 8 lanes read them twice, and so stay at half of
    /// the iterations after which Mesa before 25.1 ends loops.
    pub(super) fn of(rows: usize) -> Self {
        let slice = rows.div_ceil(64).clamp(256, 131_072);
        Self { count: rows.div_ceil(slice), rows: slice }
    }

    pub(super) fn constants(&self) -> Vec<(&'static str, f64)> {
        sizes(&[("SLICES", self.count), ("SLICE_ROWS", self.rows)])
    }
}

pub(super) fn elementwise(program: &Program, tensor: TensorId) -> [usize; 3] {
    invocations(program.info(tensor).len())
}

/// Workgroups of so many invocations in all, or fewer for a grid-stride loop.
pub(super) fn invocations(count: usize) -> [usize; 3] {
    [count.div_ceil(ELEMENTWISE).min(MOST_WORKGROUPS), 1, 1]
}

/// Workgroups of 64 invocations that each draw four random words at a time.
pub(super) fn blocks_of_four(len: usize) -> [usize; 3] {
    [len.div_ceil(4 * 64).min(MOST_WORKGROUPS), 1, 1]
}

pub(super) fn flag(name: &'static str, set: bool) -> (&'static str, f64) {
    (name, f64::from(u8::from(set)))
}

pub(super) fn seed_constants(seed: u64) -> Vec<(&'static str, f64)> {
    let [low, high] = random::key(seed);
    vec![("SEED_LOW", f64::from(low)), ("SEED_HIGH", f64::from(high))]
}

pub(super) fn sizes(list: &[(&'static str, usize)]) -> Vec<(&'static str, f64)> {
    list.iter().map(|&(name, size)| (name, size as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::MESA_LIMIT;
    use super::*;

    #[test]
    fn no_lane_of_a_reduction_comes_near_mesas_limit_of_iterations() {
        for rows in [1, 255, 257, 1_000_000, 100_000_000, 1 << 31] {
            let slices = Slices::of(rows);
            assert!(slices.count * slices.rows >= rows && (slices.count - 1) * slices.rows < rows, "{rows} rows");
            assert!(2 * slices.rows / 8 + 16 < MESA_LIMIT && 2 * slices.count < MESA_LIMIT, "{rows} rows");
            // Batch normalisation reads the parts of both groups, then those of its own, twice, and then its rows.
            let in_reach = rows <= 100_000_000; // where that adapter's buffers end
            assert!(!in_reach || slices.rows / 8 + 6 * slices.count < MESA_LIMIT, "{rows} rows");
        }
    }
}
