//! From operations to dispatches.
//!
//! [`plan`] decides which neighbouring operations one kernel computes, and who adds up partial sums. The other modules say which entry
//! points compute them, with how many workgroups, and specialised how.

mod adam;
mod kernel;
mod loss;
mod norm;
mod operations;
mod partials;
mod plan;
mod product;
mod tiles;

use std::ops::Range;

use adam::WaitingGradients;
use plan::Lowering;

use super::shaders::{Binding, KernelSet};
use crate::program::{Op, Program, TensorId};

pub(super) use tiles::MAX_TILE_SHAPES;

/// One dispatch of one entry point.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// The shader's name.
    pub shader: &'static str,
    /// The entry point's name.
    pub entry: &'static str,
    /// Values of the shader's overrides.
    pub overrides: Vec<(&'static str, f64)>,
    /// The tensors that the entry point uses, in the order of the shader, and what is bound to them.
    pub bindings: Vec<(&'static Binding, Resource)>,
    /// The number of workgroups along x, y and z.
    pub workgroups: [usize; 3],
    /// The same product with other tile shapes, which give the same bits.
    pub tile_shapes: Vec<Self>,
}

impl Dispatch {
    /// Shader and entry point.
    pub fn label(&self) -> String {
        format!("{}.{}", self.shader, self.entry)
    }

    /// What the pipeline depends on: the [label](Self::label) and all overrides. Dispatches with the same kernel share a pipeline.
    pub fn kernel(&self) -> String {
        format!("{} {:?}", self.label(), self.overrides)
    }

    /// The value of an override, if it is set.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.overrides.iter().find(|(known, _)| *known == name).map(|&(_, value)| value)
    }

    /// What is bound to a variable, if the entry point uses it.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.bindings.iter().find(|(variable, _)| variable.name == name).map(|(_, resource)| resource)
    }

    /// The dispatch with one tile shape: its own, 0, or one of [`Self::tile_shapes`], from 1. A number that is too large means its own.
    #[must_use]
    pub fn with_tile_shape(&self, number: usize) -> Self {
        let shape = number.checked_sub(1).and_then(|other| self.tile_shapes.get(other)).unwrap_or(self);
        Self { tile_shapes: Vec::new(), ..shape.clone() }
    }
}

/// What is bound to a variable of a shader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A tensor of the program.
    Tensor(TensorId),
    /// A range of elements of the scratch memory of that name, all f32: for results between dispatches.
    Scratch(&'static str, Range<usize>),
    /// Constants that are known when the program is built.
    Table(Vec<u32>),
}

/// Neighbouring operations and what computes them.
pub(super) struct Group<'a> {
    /// The operations.
    pub(super) ops: &'a [Op],
    /// Their dispatches, in order.
    pub(super) dispatches: Vec<Dispatch>,
}

/// The dispatches of operations, with the operations that they compute. Operations whose dispatches hand each other partial sums or
/// statistics are one group.
pub(super) fn groups<'a>(ops: &'a [Op], program: &Program, kernels: KernelSet) -> Vec<Group<'a>> {
    let mut lowering = Lowering { ops, program, kernels, waiting: WaitingGradients::default() };
    let (mut groups, mut start) = (Vec::new(), 0);
    while start < ops.len() {
        let (count, dispatches) = operations::group_from(&mut lowering, start);
        groups.push(Group { ops: &ops[start..start + count], dispatches });
        start += count;
    }
    groups
}

/// The dispatches that run operations, in order. Every tensor that the operations write is written, also where one kernel
/// computes several of them.
pub fn lower(ops: &[Op], program: &Program, kernels: KernelSet) -> Vec<Dispatch> {
    groups(ops, program, kernels).into_iter().flat_map(|group| group.dispatches).collect()
}

/// Iterations of all loops of an invocation together after which Mesa before 25.1 ends loops.
#[cfg(test)]
const MESA_LIMIT: usize = 65_535;
