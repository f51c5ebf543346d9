//! An ONNX graph that is being written: nodes, constants, inputs and outputs.
//!
//! The numbers of fields and types are those of `onnx.proto3`, <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>.

use crate::protobuf::Message;

/// Version of the operators. 17 is the first with all operators used here in their current form, and old enough for most tools.
const OPSET: i64 = 17;
/// Version of the file format that goes with [`OPSET`].
const IR_VERSION: i64 = 8;

/// Element type of a tensor, with its number in `TensorProto.DataType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnnxElement {
    F32 = 1,
    U8 = 2,
    I64 = 7,
}

/// A dimension of an input or output.
#[derive(Debug, Clone, Copy)]
pub(super) enum OnnxDimension {
    /// The batch size, which is decided when the graph runs.
    Batch,
    /// A fixed size.
    Fixed(usize),
}

/// Value of an attribute of a node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Ints(&'a [i64]),
    Text(&'a str),
}

/// The graph so far. Values are referred to by name.
#[derive(Debug, Default)]
pub(super) struct OnnxGraph {
    nodes: Vec<Message>,
    constants: Vec<Message>,
    inputs: Vec<Message>,
    outputs: Vec<Message>,
}

impl OnnxGraph {
    /// Appends a node with one output, `output`, and returns that name.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, Attribute<'_>)],
    ) -> String {
        let mut node = Message::default();
        for input in inputs {
            node = node.string(1, input);
        }
        node = node.string(2, output).string(3, output).string(4, operator);
        for (name, value) in attributes {
            node = node.message(5, &attribute(name, *value));
        }
        self.nodes.push(node);
        output.to_string()
    }

    /// Adds a constant tensor of f32 and returns its name.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, OnnxElement::F32, shape, &bytes)
    }

    /// Adds a constant list of integers and returns its name.
    pub(super) fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, OnnxElement::I64, &[values.len()], &bytes)
    }

    /// Adds a constant integer, a tensor without dimensions, and returns its name.
    pub(super) fn integer(&mut self, name: &str, value: i64) -> String {
        self.constant(name, OnnxElement::I64, &[], &value.to_le_bytes())
    }

    fn constant(&mut self, name: &str, element: OnnxElement, shape: &[usize], bytes: &[u8]) -> String {
        let mut tensor = Message::default();
        for &size in shape {
            tensor = tensor.int(1, size as i64);
        }
        self.constants.push(tensor.int(2, element as i64).string(8, name).bytes(9, bytes));
        name.to_string()
    }

    /// Declares an input and returns its name.
    pub(super) fn input(&mut self, name: &str, element: OnnxElement, shape: &[OnnxDimension]) -> String {
        self.inputs.push(value_info(name, element, shape));
        name.to_string()
    }

    /// Declares an output. A node must have this name.
    pub(super) fn output(&mut self, name: &str, element: OnnxElement, shape: &[OnnxDimension]) {
        self.outputs.push(value_info(name, element, shape));
    }

    /// The whole file: the graph with its name, one sentence about it, and metadata.
    pub(super) fn finish(&self, name: &str, about: &str, metadata: &[(&str, String)]) -> Message {
        let mut graph = Message::default();
        for node in &self.nodes {
            graph = graph.message(1, node);
        }
        graph = graph.string(2, name);
        for (field, parts) in [(5, &self.constants), (11, &self.inputs), (12, &self.outputs)] {
            for part in parts {
                graph = graph.message(field, part);
            }
        }
        let mut model = Message::default()
            .int(1, IR_VERSION)
            .string(2, "gpu-gan")
            .string(3, env!("CARGO_PKG_VERSION"))
            .string(6, about)
            .message(7, &graph)
            .message(8, &Message::default().string(1, "").int(2, OPSET));
        for (key, value) in metadata {
            model = model.message(14, &Message::default().string(1, key).string(2, value));
        }
        model
    }
}

fn attribute(name: &str, value: Attribute<'_>) -> Message {
    let message = Message::default().string(1, name);
    match value {
        Attribute::Float(value) => message.float(2, value).int(20, 1),
        Attribute::Int(value) => message.int(3, value).int(20, 2),
        Attribute::Text(value) => message.string(4, value).int(20, 3),
        Attribute::Ints(values) => values.iter().fold(message, |message, &value| message.int(8, value)).int(20, 7),
    }
}

fn value_info(name: &str, element: OnnxElement, shape: &[OnnxDimension]) -> Message {
    let shape = shape.iter().fold(Message::default(), |message, dimension| {
        let dimension = match dimension {
            OnnxDimension::Batch => Message::default().string(2, "N"),
            OnnxDimension::Fixed(size) => Message::default().int(1, *size as i64),
        };
        message.message(1, &dimension)
    });
    let tensor = Message::default().int(1, element as i64).message(2, &shape);
    Message::default().string(1, name).message(2, &Message::default().message(1, &tensor))
}
