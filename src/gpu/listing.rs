//! The dispatches of a routine as a list for a person: what runs, how large, and what it costs at least.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::lower::{Dispatch, Resource, groups};
use super::shaders::KernelSet;
use crate::program::{Element, Op, Program, RoutineId};

/// The overrides that say how a kernel divides its work and what it computes beside its result. The others repeat the shapes, or are
/// numbers of the training recipe.
const SHOWN_OVERRIDES: [&str; 25] = [
    "TX",
    "TY",
    "DOWN",
    "ACROSS",
    "ROLLED",
    "SWIZZLE",
    "LANES",
    "QUADS",
    "SWAPPED",
    "PRODUCT",
    "SPLITS",
    "SPLIT_DEPTH",
    "HAS_BIAS",
    "KIND",
    "BACKWARD",
    "GROUPS",
    "PARTS",
    "PART_ROWS",
    "SLICE_ROWS",
    "WIDTH",
    "HEIGHT",
    "WAITING",
    "BIAS_AT",
    "BIAS_OF_LEFT",
    "TERMS",
];

/// The dispatches of a routine, in order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DispatchList {
    /// The routine's name.
    pub routine: String,
    /// The dispatches, in order.
    pub dispatches: Vec<ListedDispatch>,
}

/// A dispatch in a [`DispatchList`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListedDispatch {
    /// The shader's name.
    pub shader: &'static str,
    /// The entry point's name.
    pub entry: &'static str,
    /// The operations that the kernel computes. Operations whose sums a second dispatch completes are named with both.
    pub operations: Vec<&'static str>,
    /// The shapes of the first operation's operands, by their letters: `x [128, 28, 28, 1]`.
    pub shapes: Vec<String>,
    /// The overrides that say how the kernel divides its work.
    pub overrides: BTreeMap<&'static str, f64>,
    /// The number of workgroups along x, y and z.
    pub workgroups: [usize; 3],
    /// Floating-point operations of the matrix product, two for each multiply-add; 0 for other kernels.
    pub flops: u64,
    /// Bytes that the kernel reads and writes at least: each of its tensors once, without the data set, of which a batch reads a
    /// few images.
    pub bytes: u64,
}

impl DispatchList {
    /// The dispatches of a routine with the default tile shapes. It needs no GPU.
    pub fn new(program: &Program, routine: RoutineId, kernels: KernelSet) -> Self {
        let routine = program.routine(routine);
        let mut dispatches = Vec::new();
        for group in groups(&routine.ops, program, kernels) {
            for (number, dispatch) in group.dispatches.iter().enumerate() {
                let flops = if number == 0 { group.ops.iter().map(|op| op.flops(program)).sum() } else { 0 };
                dispatches.push(ListedDispatch::new(dispatch, group.ops, flops, program));
            }
        }
        Self { routine: routine.name.clone(), dispatches }
    }

    /// Floating-point operations of all matrix products.
    pub fn flops(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| dispatch.flops).sum()
    }

    /// Bytes that all dispatches read and write at least.
    pub fn bytes(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| dispatch.bytes).sum()
    }
}

impl ListedDispatch {
    fn new(dispatch: &Dispatch, ops: &[Op], flops: u64, program: &Program) -> Self {
        let operands = ops[0].operands().into_iter();
        let shapes = operands.map(|operand| format!("{} {:?}", operand.name, program.shape(operand.tensor)));
        let shown = dispatch.overrides.iter().filter(|(name, _)| SHOWN_OVERRIDES.contains(name));
        let size = |len: usize| 4 * len as u64;
        let accessed = dispatch.bindings.iter().map(|(variable, resource)| {
            let bytes = match resource {
                Resource::Tensor(tensor) if program.element(*tensor) == Element::U8 => return 0,
                Resource::Tensor(tensor) => size(program.info(*tensor).len()),
                Resource::Scratch(_, range) => size(range.len()),
                Resource::Table(numbers) => size(numbers.len()),
            };
            bytes * (u64::from(variable.read) + u64::from(variable.written))
        });
        Self {
            shader: dispatch.shader,
            entry: dispatch.entry,
            operations: ops.iter().map(Op::name).collect(),
            shapes: shapes.collect(),
            overrides: shown.copied().collect(),
            workgroups: dispatch.workgroups,
            flops,
            bytes: accessed.sum(),
        }
    }
}

/// A line for each dispatch, then the totals.
impl fmt::Display for DispatchList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header =
            ["", "kernel", "operations", "workgroups", "MFLOP", "KiB", "overrides", "shapes"].map(String::from);
        let rows = self.dispatches.iter().enumerate().map(|(number, dispatch)| {
            let overrides = dispatch.overrides.iter().map(|(name, value)| format!("{name} {value}"));
            [
                (number + 1).to_string(),
                format!("{}.{}", dispatch.shader, dispatch.entry),
                dispatch.operations.join(" + "),
                dispatch.workgroups.map(|count| count.to_string()).join(" x "),
                if dispatch.flops == 0 { String::new() } else { format!("{:.1}", dispatch.flops as f64 / 1e6) },
                format!("{:.1}", dispatch.bytes as f64 / 1024.0),
                overrides.collect::<Vec<_>>().join(", "),
                dispatch.shapes.join(", "),
            ]
        });
        let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..8).map(width).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 | 4 | 5 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        write!(
            f,
            "{}: {} dispatches, {:.1} MFLOP in matrix products, at least {:.1} MiB read and written",
            self.routine,
            self.dispatches.len(),
            self.flops() as f64 / 1e6,
            self.bytes() as f64 / f64::from(1 << 20)
        )
    }
}
