//! Liveness: tensors that no routine needs at the same time share a buffer.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{Access, Buffer, BufferId, Program, Routine, TensorId};

/// The operations between the last use of a tensor and the first use of the next one in its buffer. A device may run up to four
/// neighbours at once, and then reads what the first one needs while it writes what the last one computes.
const DISTANCE: usize = 3;

/// The operations from the first to the last that use a buffer, in each routine that does, by the number of the routine.
type Lifetime = Vec<(usize, usize, usize)>;

impl Program {
    /// Lets tensors share buffers where no routine needs them at the same time, so that a device needs less memory. Every number that a
    /// routine computes is the same. After a routine, only these tensors have defined values: those of `kept`, those that a routine reads
    /// before it writes them, such as parameters, and those that are parts of a buffer.
    pub fn share_buffers(&mut self, kept: &[TensorId]) {
        let lifetimes = self.shareable(kept);
        let mut numbers: Vec<usize> = lifetimes.keys().copied().collect();
        numbers.sort_by_key(|&number| (Reverse(self.buffers[number].bytes()), number));
        // The largest buffer comes first, and those that find room in it follow.
        let mut shared: Vec<(usize, Lifetime)> = Vec::new();
        let mut place_of: HashMap<usize, usize> = HashMap::new();
        for number in numbers {
            let lifetime = &lifetimes[&number];
            let fits = |(first, taken): &(usize, Lifetime)| {
                self.buffers[*first].element == self.buffers[number].element && !overlap(taken, lifetime)
            };
            match shared.iter_mut().find(|place| fits(place)) {
                Some((first, taken)) => {
                    taken.extend(lifetime);
                    place_of.insert(number, *first);
                }
                None => shared.push((number, lifetime.clone())),
            }
        }
        self.move_buffers(&place_of);
    }

    /// The buffers that may share memory, with their lifetimes: each is one tensor, which every routine that uses it writes first.
    fn shareable(&self, kept: &[TensorId]) -> HashMap<usize, Lifetime> {
        let mut lifetimes: HashMap<usize, Lifetime> = HashMap::new();
        let mut excluded: Vec<usize> = kept.iter().map(|&tensor| self.info(tensor).buffer.0).collect();
        let parts = self.tensors.iter().filter(|tensor| tensor.range() != (0..self.buffers[tensor.buffer.0].len));
        excluded.extend(parts.map(|part| part.buffer.0));
        for (number, routine) in self.routines.iter().enumerate() {
            for (buffer, (first, last), begins_with) in self.uses(routine) {
                lifetimes.entry(buffer).or_default().push((number, first, last));
                if begins_with != Access::Write {
                    excluded.push(buffer);
                }
            }
        }
        for buffer in excluded {
            lifetimes.remove(&buffer);
        }
        lifetimes
    }

    /// The buffers that a routine uses, with the first and the last operation that does, and what the first one does.
    fn uses(&self, routine: &Routine) -> impl Iterator<Item = (usize, (usize, usize), Access)> {
        let mut uses: HashMap<usize, ((usize, usize), Access)> = HashMap::new();
        for (at, op) in routine.ops.iter().enumerate() {
            for operand in op.operands() {
                let buffer = self.info(operand.tensor).buffer.0;
                uses.entry(buffer).or_insert(((at, at), operand.access)).0.1 = at;
            }
        }
        uses.into_iter().map(|(buffer, (range, access))| (buffer, range, access))
    }

    /// Moves the tensors of each buffer in `place_of` to another buffer, and removes the buffers that have no tensors left.
    fn move_buffers(&mut self, place_of: &HashMap<usize, usize>) {
        let mut new_numbers = HashMap::new();
        let mut buffers: Vec<Buffer> = Vec::new();
        for (number, buffer) in std::mem::take(&mut self.buffers).into_iter().enumerate() {
            if !place_of.contains_key(&number) {
                new_numbers.insert(number, BufferId(buffers.len()));
                buffers.push(buffer);
            }
        }
        self.buffers = buffers;
        for tensor in &mut self.tensors {
            let number = tensor.buffer.0;
            tensor.buffer = new_numbers[place_of.get(&number).unwrap_or(&number)];
        }
    }
}

/// Whether two lifetimes come as close as [`DISTANCE`] in a routine.
fn overlap(one: &Lifetime, other: &Lifetime) -> bool {
    one.iter().any(|&(routine, first, last)| {
        other.iter().any(|&(of, begin, end)| routine == of && first <= end + DISTANCE && begin <= last + DISTANCE)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Activation, Element, Op, Order};
    use super::*;

    /// A program with a routine for each list of pairs, which applies tanh to one tensor and writes another.
    fn program(lens: &[usize], routines: &[&[(usize, usize)]]) -> (Program, Vec<TensorId>) {
        let mut program = Program::new();
        let tensors: Vec<TensorId> =
            lens.iter().enumerate().map(|(number, &len)| program.tensor(format!("t{number}"), &[len])).collect();
        for (number, ops) in routines.iter().enumerate() {
            program.begin(&format!("r{number}"));
            for &(x, y) in *ops {
                program.push(Op::Activation { kind: Activation::Tanh, x: tensors[x], y: tensors[y] });
            }
        }
        (program, tensors)
    }

    /// The number of the first tensor in the buffer of each tensor.
    fn places(program: &Program, tensors: &[TensorId]) -> Vec<usize> {
        let buffer = |tensor: &TensorId| program.info(*tensor).buffer;
        tensors.iter().map(|tensor| tensors.iter().position(|other| buffer(other) == buffer(tensor)).unwrap()).collect()
    }

    #[test]
    fn a_chain_of_tensors_takes_turns_in_buffers_that_no_neighbour_uses() {
        let chain: Vec<(usize, usize)> = (0..11).map(|at| (at, at + 1)).collect();
        let (mut program, tensors) = program(&[8; 12], &[&chain]);
        program.share_buffers(&tensors[11..]);
        // The first one is read before it is written, and the last one is kept.
        assert_eq!(places(&program, &tensors), [0, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 11]);
        assert_eq!(program.buffers().len(), 7);
    }

    #[test]
    fn values_that_outlive_a_routine_keep_a_buffer_of_their_own() {
        // t1 is written in the first routine and read in the second, t3 and t4 are for one routine each.
        let first = [(0, 1), (0, 2), (0, 3)];
        let second = [(1, 4), (0, 2)];
        let (mut program, tensors) = program(&[8; 6], &[&first, &second]);
        let part = program.part(tensors[2], 0, "part", &[4]);
        program.share_buffers(&[]);
        assert_eq!(places(&program, &tensors), [0, 1, 2, 3, 3, 5]);
        assert_eq!(program.info(part).buffer, program.info(tensors[2]).buffer);
    }

    #[test]
    fn a_buffer_is_as_long_as_its_longest_tensor_and_counters_share_none_with_floats() {
        let mut program = Program::new();
        let [small, large] = [("small", 4), ("large", 100)].map(|(name, len)| program.tensor(name, &[len]));
        let [clock, counters] =
            [("clock", 1), ("counters", 100)].map(|(name, len)| program.tensor_of(Element::U32, name, &[len]));
        let images = program.tensor_of(Element::U8, "labels", &[200]);
        program.begin("counters");
        program.push(Op::Labels { clock, labels: images, y: counters, seed: 1, order: Order::Chunk });
        program.begin("small");
        program.push(Op::Fill { y: small, value: 1.0 });
        program.begin("large");
        program.push(Op::Fill { y: large, value: 1.0 });
        program.share_buffers(&[]);
        assert_eq!(program.info(small).buffer, program.info(large).buffer);
        assert_eq!(program.buffers()[program.info(small).buffer.0].len, 100);
        assert_ne!(program.info(counters).buffer, program.info(large).buffer);
    }
}
