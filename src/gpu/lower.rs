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

use std::collections::BTreeMap;
use std::ops::Range;

use super::shaders::KernelSet;
use crate::program::{Op, Program, TensorId};

pub(super) use plan::groups;
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
    /// What is bound to the shader's variables, by their names.
    pub bindings: BTreeMap<&'static str, Resource>,
    /// The number of workgroups along x, y and z.
    pub workgroups: [usize; 3],
    /// The alternatives to the default tile shape of a matrix product. All give the same bits.
    pub tile_shapes: Vec<TileShape>,
}

/// What changes in a dispatch with another tile shape.
#[derive(Debug, Clone, PartialEq)]
pub struct TileShape {
    /// Values of overrides, which replace those of the same names.
    pub overrides: Vec<(&'static str, f64)>,
    /// The number of workgroups along x, y and z.
    pub workgroups: [usize; 3],
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

    /// The same dispatch with one tile shape: the default one, 0, or one of [`Self::tile_shapes`], from 1. A number that is too large
    /// means the default one.
    #[must_use]
    pub fn with_tile_shape(&self, number: usize) -> Self {
        let mut dispatch = Self { tile_shapes: Vec::new(), ..self.clone() };
        let Some(shape) = number.checked_sub(1).and_then(|other| self.tile_shapes.get(other)) else { return dispatch };
        for &(name, value) in &shape.overrides {
            let changed = dispatch.overrides.iter_mut().find(|(known, _)| *known == name);
            *changed.expect("a tile shape changes overrides of its dispatch") = (name, value);
        }
        dispatch.workgroups = shape.workgroups;
        dispatch
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

/// The dispatches that run operations, in order. Every tensor that the operations write is written, also where one kernel
/// computes several of them.
pub fn lower(ops: &[Op], program: &Program, kernels: KernelSet) -> Vec<Dispatch> {
    groups(ops, program, kernels).into_iter().flat_map(|group| group.dispatches).collect()
}

/// Iterations of all loops of an invocation together after which Mesa before 25.1 ends loops.
#[cfg(test)]
const MESA_LIMIT: usize = 65_535;
