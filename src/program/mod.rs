//! The shared language: a [`Program`] is tensors and named lists of operations over them, as plain data.
//!
//! The code that writes a program (networks, the training step) does not know which device runs it, and a device does not know
//! what a program is for. A device builds a program once and then runs its routines many times. Between two runs the host
//! decides, uploads and allocates nothing.

mod device;
mod diff_augment;
mod liveness;
mod loss;
mod op;
pub mod random;
mod schedule;
mod tensor;

use std::collections::HashMap;
use std::fmt;

pub use device::{Device, Executor, Snapshot, Values};
pub use diff_augment::DiffAugment;
pub use loss::{AdversarialLoss, Centre, Score};
pub use op::{
    Access, Activation, Geometry, MAX_GROUP, MAX_LOGITS, MAX_SPECTRAL_ROWS, MAX_WINDOW, Op, Operand, Order, RampUp,
};
pub use schedule::{Decay, Schedule};
pub use tensor::{Buffer, BufferId, Element, Tensor, TensorId};

/// A tensor of a buffer starts at a multiple of this many elements: 256 bytes of f32, the largest alignment that
/// WebGPU lets an adapter ask for.
pub(crate) const SLICE_ALIGNMENT: usize = 64;

/// Tensors, and the named lists of operations that run over them.
#[derive(Debug, Default, Clone)]
pub struct Program {
    /// The buffers; [`BufferId`] is the index.
    buffers: Vec<Buffer>,
    /// The tensors; [`TensorId`] is the index.
    tensors: Vec<Tensor>,
    /// The routines; [`RoutineId`] is the index.
    routines: Vec<Routine>,
}

/// A named list of operations that a device runs as a whole, such as `step` or `sheet`.
#[derive(Debug, Clone)]
pub struct Routine {
    /// The name, unique in the program.
    pub name: String,
    /// The operations, in the order in which they run.
    pub ops: Vec<Op>,
}

/// A handle on a routine of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RoutineId(pub(crate) usize);

impl Program {
    /// A program without tensors or routines.
    pub fn new() -> Self {
        Self::default()
    }

    /// A tensor of f32 with a buffer of its own.
    pub fn tensor(&mut self, name: impl Into<String>, shape: &[usize]) -> TensorId {
        self.tensor_of(Element::F32, name, shape)
    }

    /// A tensor of any element type with a buffer of its own.
    pub fn tensor_of(&mut self, element: Element, name: impl Into<String>, shape: &[usize]) -> TensorId {
        let name = name.into();
        let len = shape.iter().product();
        let buffer = self.add_buffer(Buffer { name: name.clone(), element, len });
        self.add_tensor(Tensor { name, shape: shape.to_vec(), buffer, offset: 0 })
    }

    /// Tensors of f32 in one buffer, one after the other, so that Adam or a checkpoint processes them at once. Returns a tensor
    /// over the whole buffer, padding included, and the tensors in it.
    pub fn slices(&mut self, name: &str, parts: &[(String, Vec<usize>)]) -> (TensorId, Vec<TensorId>) {
        let mut offsets = Vec::with_capacity(parts.len());
        let mut len = 0;
        for (_, shape) in parts {
            offsets.push(len);
            len += shape.iter().product::<usize>().next_multiple_of(SLICE_ALIGNMENT);
        }
        // A network without parameters still has a buffer: devices do not allow an empty one.
        let len = len.max(SLICE_ALIGNMENT);
        let buffer = self.add_buffer(Buffer { name: name.to_string(), element: Element::F32, len });
        let whole = self.add_tensor(Tensor { name: name.to_string(), shape: vec![len], buffer, offset: 0 });
        let ids = parts
            .iter()
            .zip(offsets)
            .map(|((name, shape), offset)| {
                self.add_tensor(Tensor { name: name.clone(), shape: shape.clone(), buffer, offset })
            })
            .collect();
        (whole, ids)
    }

    /// The same elements with another shape. Costs nothing at run time.
    ///
    /// # Panics
    ///
    /// If the new shape has another number of elements.
    pub fn reshaped(&mut self, tensor: TensorId, shape: &[usize]) -> TensorId {
        let old = self.info(tensor).clone();
        assert_eq!(
            old.len(),
            shape.iter().product::<usize>(),
            "{} {:?} cannot be reshaped to {shape:?}",
            old.name,
            old.shape
        );
        self.add_tensor(Tensor { shape: shape.to_vec(), ..old })
    }

    /// A tensor over some elements of another one, which start at its element `first`.
    ///
    /// # Panics
    ///
    /// If `whole` has too few elements, or the new tensor would not start at a multiple of 64 elements of the buffer.
    pub fn part(&mut self, whole: TensorId, first: usize, name: impl Into<String>, shape: &[usize]) -> TensorId {
        let (offset, end) = (self.info(whole).offset + first, self.info(whole).range().end);
        let part = Tensor { name: name.into(), shape: shape.to_vec(), buffer: self.info(whole).buffer, offset };
        assert!(
            offset.is_multiple_of(SLICE_ALIGNMENT) && part.range().end <= end,
            "{part:?} does not lie in {whole:?}, or is not aligned"
        );
        self.add_tensor(part)
    }

    /// Begins a routine. [`Self::push`] appends operations to the routine begun last.
    ///
    /// # Panics
    ///
    /// If the program already has a routine of this name.
    pub fn begin(&mut self, name: &str) -> RoutineId {
        assert!(self.routine_named(name).is_none(), "two routines are called {name}");
        self.routines.push(Routine { name: name.to_string(), ops: Vec::new() });
        RoutineId(self.routines.len() - 1)
    }

    /// Appends an operation to the routine begun last.
    ///
    /// # Panics
    ///
    /// If its operands or settings are invalid, or if it writes a buffer that another of its operands reads or writes. This crate
    /// writes all programs and checks user input before, so either is a bug.
    pub fn push(&mut self, op: Op) {
        if let Err(message) = op.check(self) {
            panic!("{op:?}: {message}");
        }
        self.check_aliases(&op);
        self.routines.last_mut().expect("an operation belongs to a routine that was begun").ops.push(op);
    }

    /// Cuts a routine before each operation that `begins_part` accepts. Returns the routines of the parts in their order. The first part keeps
    /// the handle and the name of the whole.
    pub fn cut(&mut self, routine: RoutineId, begins_part: impl Fn(&Op) -> bool) -> Vec<RoutineId> {
        let whole = std::mem::take(&mut self.routines[routine.0].ops);
        let mut parts = vec![routine];
        for op in whole {
            if begins_part(&op) {
                let name = format!("{}, part {}", self.routines[routine.0].name, parts.len() + 1);
                parts.push(self.begin(&name));
            }
            self.routines[parts[parts.len() - 1].0].ops.push(op);
        }
        parts
    }

    /// WebGPU's rule on one dispatch: it reads a buffer, or it writes the buffer through one operand alone.
    fn check_aliases(&self, op: &Op) {
        let mut uses: HashMap<BufferId, (Access, &str)> = HashMap::new();
        for Operand { name, tensor, access, .. } in op.operands() {
            if let Some((before, other)) = uses.insert(self.info(tensor).buffer, (access, name)) {
                assert!(
                    before == Access::Read && access == Access::Read,
                    "{op:?}: `{other}` and `{name}` share a buffer and one of them is written"
                );
            }
        }
    }

    /// A key that is equal for operations that differ only in their tensors, not in shapes or settings.
    pub fn key_of(&self, ops: &[Op]) -> String {
        let parts = ops.iter().map(|op| {
            let shapes: Vec<_> = op.operands().iter().map(|operand| self.shape(operand.tensor).to_vec()).collect();
            format!("{:?} {shapes:?}", op.on(|_| TensorId(0)))
        });
        parts.collect()
    }

    /// All buffers; [`BufferId`] is the index.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// All routines; [`RoutineId`] is the index.
    pub fn routines(&self) -> &[Routine] {
        &self.routines
    }

    /// A routine.
    pub fn routine(&self, id: RoutineId) -> &Routine {
        &self.routines[id.0]
    }

    /// The routine of that name.
    pub fn routine_named(&self, name: &str) -> Option<RoutineId> {
        self.routines.iter().position(|routine| routine.name == name).map(RoutineId)
    }

    /// Name, shape, buffer and offset of a tensor.
    pub fn info(&self, tensor: TensorId) -> &Tensor {
        &self.tensors[tensor.0]
    }

    /// All tensors, in the order in which they were added.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The shape of a tensor.
    pub fn shape(&self, tensor: TensorId) -> &[usize] {
        &self.info(tensor).shape
    }

    /// The shape of an image tensor, (N, H, W, C).
    ///
    /// # Panics
    ///
    /// If the tensor does not have four dimensions.
    pub fn nhwc(&self, tensor: TensorId) -> [usize; 4] {
        self.shape(tensor).try_into().expect("images have four dimensions")
    }

    /// The element type of a tensor.
    pub fn element(&self, tensor: TensorId) -> Element {
        self.buffers[self.info(tensor).buffer.0].element
    }

    /// Floating-point operations of the matrix products of one run of a routine: two for each multiply-add.
    pub fn flops(&self, routine: RoutineId) -> u64 {
        self.routines[routine.0].ops.iter().map(|op| op.flops(self)).sum()
    }

    /// Whether a tensor is a gradient that comes back from a loss: the first operation that writes it, in any routine, computes one.
    pub fn is_gradient(&self, tensor: TensorId) -> bool {
        let written = |operand: &Operand| operand.tensor == tensor && operand.access != Access::Read;
        let mut ops = self.routines.iter().flat_map(|routine| &routine.ops);
        match ops.find(|op| op.operands().iter().any(written)) {
            Some(Op::DiscriminatorLoss { .. } | Op::GeneratorLoss { .. } | Op::CrossEntropy { .. }) => true,
            // These compute their own gradients: of a transposed convolution, and of dropout.
            Some(&Op::Conv { x, .. } | &Op::ConvGradInput { dy: x, .. } | &Op::Dropout { x, .. }) => {
                self.is_gradient(x)
            }
            Some(op) => op.name().ends_with("grad"),
            None => false,
        }
    }

    fn add_buffer(&mut self, buffer: Buffer) -> BufferId {
        assert!(buffer.len > 0, "{} is empty", buffer.name);
        self.buffers.push(buffer);
        BufferId(self.buffers.len() - 1)
    }

    fn add_tensor(&mut self, tensor: Tensor) -> TensorId {
        self.tensors.push(tensor);
        TensorId(self.tensors.len() - 1)
    }
}

/// One line for each operation, in order: `conv  x=images  w=discriminator.0.weight  y=discriminator.0.y`.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for routine in &self.routines {
            writeln!(f, "{}:", routine.name)?;
            for op in &routine.ops {
                write!(f, "  {:<18}", op.name())?;
                for Operand { name, tensor, .. } in op.operands() {
                    write!(f, " {name}={}", self.info(tensor).name)?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_a_buffer_start_at_aligned_offsets_and_do_not_overlap() {
        let mut program = Program::new();
        let parts = [("a".to_string(), vec![3]), ("b".to_string(), vec![65]), ("c".to_string(), vec![2, 2])];
        let (whole, ids) = program.slices("params", &parts);
        let offsets: Vec<usize> = ids.iter().map(|&id| program.info(id).offset).collect();
        assert_eq!(offsets, [0, 64, 192]);
        assert_eq!(program.shape(whole), [256]);
    }

    #[test]
    fn keys_depend_on_shapes_and_settings_but_not_on_tensors() {
        let mut program = Program::new();
        let [a, b, c] = ["a", "b", "c"].map(|name| program.tensor(name, &[100]));
        let [short, shorter] = ["d", "e"].map(|name| program.tensor(name, &[99]));
        let key = |slope, x, y| program.key_of(&[Op::Activation { kind: Activation::LeakyRelu { slope }, x, y }]);
        assert_eq!(key(0.0, a, b), key(0.0, b, c));
        assert_ne!(key(0.0, a, b), key(0.0, short, shorter));
        assert_ne!(key(0.0, a, b), key(0.2, a, b));
    }

    #[test]
    fn a_part_outside_its_tensor_or_unaligned_panics() {
        let mut program = Program::new();
        let (_, ids) = program.slices("params", &[("a".to_string(), vec![3]), ("b".to_string(), vec![130])]);
        let part = program.part(ids[1], 64, "part", &[11, 6]);
        assert_eq!((program.info(part).buffer, program.info(part).range()), (program.info(ids[1]).buffer, 128..194));
        let b = ids[1];
        for (first, len) in [(64, 67), (32, 1)] {
            let mut program = program.clone();
            let refused = std::panic::catch_unwind(move || program.part(b, first, "none", &[len]));
            assert!(refused.is_err(), "{len} from {first} on");
        }
    }

    #[test]
    #[should_panic(expected = "share a buffer")]
    fn an_operation_that_writes_a_buffer_it_reads_panics() {
        let mut program = Program::new();
        let x = program.tensor("x", &[1, 1, 1, 4]);
        program.begin("step");
        program.push(Op::Activation { kind: Activation::Tanh, x, y: x });
    }

    #[test]
    #[should_panic(expected = "but the geometry gives")]
    fn an_operation_with_mismatched_shapes_panics() {
        let mut program = Program::new();
        let x = program.tensor("x", &[2, 8, 8, 3]);
        let w = program.tensor("w", &[4, 4, 3, 5]);
        let y = program.tensor("y", &[2, 9, 4, 5]);
        program.begin("step");
        program.push(Op::Conv { x, w, b: None, y, geometry: Geometry { kernel: 4, stride: 2, pad: 1 } });
    }

    #[test]
    fn a_program_prints_its_operations_with_the_names_of_their_tensors() {
        let mut program = Program::new();
        let x = program.tensor("x", &[2, 1, 1, 3]);
        let y = program.tensor("y", &[2, 1, 1, 3]);
        program.begin("step");
        program.push(Op::Activation { kind: Activation::Tanh, x, y });
        assert_eq!(program.to_string(), "step:\n  activation         x=x y=y\n");
    }
}
