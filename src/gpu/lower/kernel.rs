//! A dispatch before its size is known, and sizes that many kernels share.

use std::collections::BTreeMap;

use super::{Dispatch, Resource};
use crate::program::{Activation, Op, Program, TensorId};

/// Invocations of a workgroup of an elementwise kernel, as in the shaders.
pub(super) const ELEMENTWISE: usize = 256;
/// The most workgroups along one dimension that every adapter allows.
pub(super) const MAX_WORKGROUPS: usize = 65_535;

/// Values of a shader's overrides, by name.
pub(super) type Overrides = Vec<(&'static str, f64)>;

/// Values of overrides, sizes or numbers: `overrides! { H: h, SLOPE: slope }`. A flag is `u8::from(flag)`.
macro_rules! overrides {
    ($($name:ident: $value:expr),* $(,)?) => { vec![$((stringify!($name), $value as f64)),*] };
}
pub(super) use overrides;

/// A shader with overrides and bindings, before the entry point and the number of workgroups are known.
#[derive(Clone)]
pub(super) struct Kernel {
    shader: &'static str,
    overrides: Overrides,
    bindings: BTreeMap<&'static str, Resource>,
    /// The operation's first operand.
    first: TensorId,
}

impl Kernel {
    /// A kernel of a shader whose variables have the names of the operation's operands.
    pub(super) fn new(op: &Op, shader: &'static str, overrides: Overrides) -> Self {
        let operands = op.operands();
        let bindings = operands.iter().map(|operand| (operand.name, Resource::Tensor(operand.tensor))).collect();
        Self { shader, overrides, bindings, first: operands[0].tensor }
    }

    /// The kernel of another shader with the same overrides and bindings.
    pub(super) fn of_shader(self, shader: &'static str) -> Self {
        Self { shader, ..self }
    }

    /// Adds overrides.
    pub(super) fn overrides(mut self, more: Overrides) -> Self {
        self.overrides.extend(more);
        self
    }

    /// Specialises the kernel to an activation of `function.wgsl`, or to none.
    pub(super) fn activation(self, kind: Option<Activation>) -> Self {
        let (number, slope) = match kind {
            Some(Activation::LeakyRelu { slope }) => (0.0, slope),
            Some(Activation::Tanh) => (1.0, 0.0),
            Some(Activation::Sigmoid) => (2.0, 0.0),
            None => (3.0, 0.0),
        };
        self.overrides(overrides! { KIND: number, SLOPE: slope })
    }

    /// Binds a resource to a variable.
    pub(super) fn bind(mut self, name: &'static str, resource: Resource) -> Self {
        self.bindings.insert(name, resource);
        self
    }

    /// Binds a tensor to a variable.
    pub(super) fn tensor(self, name: &'static str, tensor: TensorId) -> Self {
        self.bind(name, Resource::Tensor(tensor))
    }

    /// Binds a tensor that may be absent to a variable. Every variable of an entry point is bound, so what is absent is the operation's first
    /// operand, which is only read.
    pub(super) fn optional(self, name: &'static str, tensor: Option<TensorId>) -> Self {
        let first = self.first;
        self.tensor(name, tensor.unwrap_or(first))
    }

    /// Binds a result that may be absent to a variable: else `len` elements of the scratch memory of its name.
    pub(super) fn optional_result(self, name: &'static str, tensor: Option<TensorId>, len: usize) -> Self {
        self.bind(name, tensor.map_or(Resource::Scratch(name, 0..len), Resource::Tensor))
    }

    /// Binds `len` elements of the scratch memory of the variable's name.
    pub(super) fn scratch(self, name: &'static str, len: usize) -> Self {
        self.bind(name, Resource::Scratch(name, 0..len))
    }

    /// The dispatch of an entry point.
    pub(super) fn dispatch(self, entry: &'static str, workgroups: [usize; 3]) -> Dispatch {
        let Self { shader, overrides, bindings, .. } = self;
        Dispatch { shader, entry, overrides, bindings, workgroups, tile_shapes: Vec::new() }
    }
}

/// How a sum over many rows is split into slices, each of which a workgroup adds up; their sums are added in order.
pub(super) struct RowSlices {
    /// The number of rows.
    pub(super) all: usize,
    /// The number of slices.
    pub(super) count: usize,
    /// Rows of a slice; the last one may have fewer.
    pub(super) rows: usize,
}

impl RowSlices {
    /// About 64 slices of at least 256 rows, and of at most 131,072: each of the 8 lanes reads its share of them twice, and so stays
    /// at half of the iterations after which Mesa before 25.1 ends loops.
    pub(super) fn of(rows: usize) -> Self {
        let slice = rows.div_ceil(64).clamp(256, 131_072);
        Self { all: rows, count: rows.div_ceil(slice), rows: slice }
    }
}

/// Workgroups of an elementwise kernel over a tensor.
pub(super) fn elementwise(program: &Program, tensor: TensorId) -> [usize; 3] {
    invocations(program.info(tensor).len())
}

/// Workgroups of an elementwise kernel over `count` elements; a grid-stride loop covers what exceeds the limit of workgroups.
pub(super) fn invocations(count: usize) -> [usize; 3] {
    [count.div_ceil(ELEMENTWISE).min(MAX_WORKGROUPS), 1, 1]
}

/// Workgroups of 64 invocations, each of which draws four random words at a time, for `len` elements.
pub(super) fn blocks_of_four(len: usize) -> [usize; 3] {
    [len.div_ceil(4 * 64).min(MAX_WORKGROUPS), 1, 1]
}

/// Whether two tensors are the same elements, perhaps in another shape: a reshape gives a tensor a second name.
pub(super) fn are_same_elements(one: TensorId, other: TensorId, program: &Program) -> bool {
    let [one, other] = [one, other].map(|tensor| program.info(tensor));
    one.buffer == other.buffer && one.range() == other.range()
}

#[cfg(test)]
mod tests {
    use super::super::MESA_LIMIT;
    use super::*;

    #[test]
    fn no_lane_of_a_reduction_comes_near_mesas_limit_of_iterations() {
        for rows in [1, 255, 257, 1_000_000, 100_000_000, 1 << 31] {
            let slices = RowSlices::of(rows);
            assert!(slices.count * slices.rows >= rows && (slices.count - 1) * slices.rows < rows, "{rows} rows");
            assert!(2 * slices.rows / 8 + 16 < MESA_LIMIT && 2 * slices.count < MESA_LIMIT, "{rows} rows");
            // Batch normalisation reads the sums of both groups, then those of its own, twice, and then its rows.
            let within_buffers = rows <= 100_000_000; // the largest buffers of that adapter
            assert!(!within_buffers || slices.rows / 8 + 6 * slices.count < MESA_LIMIT, "{rows} rows");
        }
    }
}
