//! A dispatch before its size is known, and sizes that many kernels share.

use std::collections::BTreeMap;

use super::super::shaders::{Binding, Shader};
use super::{Dispatch, Resource};
use crate::program::{Activation, Op, Program, RampUp, TensorId};

/// Elements of a workgroup of an elementwise kernel, as in the shaders.
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

/// Words of the scratch memory of a variable that nothing is bound to: a vector.
const UNUSED: usize = 4;

/// A shader with overrides and bindings, before the entry point and the number of workgroups are known.
#[derive(Clone)]
pub(super) struct Kernel {
    shader: &'static str,
    overrides: Overrides,
    bindings: BTreeMap<&'static str, Resource>,
}

impl Kernel {
    /// A kernel of a shader whose variables have the names of the operation's operands.
    pub(super) fn new(op: &Op, shader: &'static str, overrides: Overrides) -> Self {
        let operands = op.operands().into_iter();
        let bindings = operands.map(|operand| (operand.name, Resource::Tensor(operand.tensor))).collect();
        Self { shader, overrides, bindings }
    }

    /// Adds overrides.
    pub(super) fn overrides(mut self, more: Overrides) -> Self {
        self.overrides.extend(more);
        self
    }

    /// Specialises the kernel to an activation of `function.wgsl`, or to none.
    pub(super) fn function(self, kind: Option<Activation>) -> Self {
        let (number, slope) = match kind {
            Some(Activation::LeakyRelu { slope }) => (0.0, slope),
            Some(Activation::Tanh) => (1.0, 0.0),
            Some(Activation::Sigmoid) => (2.0, 0.0),
            None => (3.0, 0.0),
        };
        self.overrides(overrides! { KIND: number, SLOPE: slope })
    }

    /// Specialises the kernel to the activation, or the gradient of one, that its epilogue computes, or to none.
    pub(super) fn epilogue(self, activation: Option<&Op>) -> Self {
        match activation {
            Some(&Op::Activation { kind, y, .. }) => self.function(Some(kind)).tensor("activated", y),
            Some(&Op::ActivationGrad { kind, y, dx, .. }) => {
                let kernel = self.function(Some(kind)).overrides(overrides! { BACKWARD: 1 });
                kernel.tensor("activated_y", y).tensor("activated", dx)
            }
            _ => self.function(None),
        }
    }

    /// Binds a resource to a variable.
    pub(super) fn bind(mut self, name: &'static str, resource: Resource) -> Self {
        self.bindings.insert(name, resource);
        self
    }

    /// Binds a tensor to a variable, if there is one.
    pub(super) fn tensor(self, name: &'static str, tensor: impl Into<Option<TensorId>>) -> Self {
        if let Some(tensor) = tensor.into() { self.bind(name, Resource::Tensor(tensor)) } else { self }
    }

    /// Binds `len` elements of the scratch memory of the variable's name.
    pub(super) fn scratch(self, name: &'static str, len: usize) -> Self {
        self.bind(name, Resource::Scratch(name, 0..len))
    }

    /// The dispatch of an entry point. Every variable of an entry point is bound: those that overrides make it leave alone, to scratch
    /// memory of their names.
    pub(super) fn dispatch(self, entry: &'static str, workgroups: [usize; 3]) -> Dispatch {
        let Self { shader, overrides, mut bindings } = self;
        let bind = |variable: &'static Binding| {
            let name = variable.name.as_str();
            (variable, bindings.remove(name).unwrap_or(Resource::Scratch(name, 0..UNUSED)))
        };
        let bindings = Shader::named(shader).reflection().bindings(entry).iter().map(bind).collect();
        Dispatch { shader, entry, overrides, bindings, workgroups, tile_shapes: Vec::new() }
    }
}

/// The number of slices of a sum over many rows, each of which a workgroup adds up, and rows of a slice; the last one may have fewer. Their
/// sums are added in order.
///
/// There are about 64 slices of at least 256 rows, and of at most 131,072: each of the 8 lanes reads its share of them twice, and so stays
/// at half of the iterations after which Mesa before 25.1 ends loops.
pub(super) fn row_slices(rows: usize) -> [usize; 2] {
    let slice = rows.div_ceil(64).clamp(256, 131_072);
    [rows.div_ceil(slice), slice]
}

/// Workgroups of an elementwise kernel over `len` elements: of 256 invocations, or of 64 that draw four random words each. A grid-stride loop
/// covers what exceeds the limit of workgroups, and `verify` checks it with two.
pub(super) fn elementwise(len: usize) -> [usize; 3] {
    [len.div_ceil(ELEMENTWISE).min(MAX_WORKGROUPS), 1, 1]
}

/// The overrides of a ring of recent losses.
pub(super) fn history_overrides(program: &Program, history: TensorId, column: usize) -> Overrides {
    let [rows, columns] = program.shape(history).try_into().expect("a history has rows and columns");
    overrides! { HISTORY: rows, COLUMNS: columns, COLUMN: column }
}

/// The overrides of `share.wgsl`.
pub(super) fn ema_overrides(decay: f64, ramp_up: RampUp) -> Overrides {
    overrides! { ONE_MINUS_DECAY: 1.0 - decay, BY_HALF_LIFE: u8::from(ramp_up == RampUp::HalfLife) }
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
            let [slices, slice_rows] = row_slices(rows);
            assert!(slices * slice_rows >= rows && (slices - 1) * slice_rows < rows, "{rows} rows");
            assert!(2 * slice_rows / 8 + 16 < MESA_LIMIT && 2 * slices < MESA_LIMIT, "{rows} rows");
            // Batch normalisation reads the sums of both groups, then those of its own, twice, and then its rows.
            let within_buffers = rows <= 100_000_000; // the largest buffers of that adapter
            assert!(!within_buffers || slice_rows / 8 + 6 * slices < MESA_LIMIT, "{rows} rows");
        }
    }
}
