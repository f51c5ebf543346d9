//! A writer of protocol buffer messages, with the field types of ONNX files and TensorBoard's event files.
//!
//! The format: <https://protobuf.dev/programming-guides/encoding>. A message is a list of fields, and each field starts with its
//! number and wire type.

/// A message that is being written.
#[derive(Debug, Default, Clone)]
pub(crate) struct Message {
    /// The encoded fields so far.
    bytes: Vec<u8>,
}

/// Wire type of integers.
const VARINT: u64 = 0;
/// Wire type of f64.
const FIXED_64: u64 = 1;
/// Wire type of strings, bytes and nested messages.
const LENGTH_DELIMITED: u64 = 2;
/// Wire type of f32.
const FIXED_32: u64 = 5;

impl Message {
    /// Appends an integer field.
    pub(crate) fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3 | VARINT);
        self.varint(value as u64);
        self
    }

    /// Appends an f32 field.
    pub(crate) fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | FIXED_32);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends an f64 field.
    pub(crate) fn double(mut self, field: u64, value: f64) -> Self {
        self.varint(field << 3 | FIXED_64);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a string field.
    pub(crate) fn string(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// Appends a nested message.
    pub(crate) fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.bytes)
    }

    /// Appends a field of bytes.
    pub(crate) fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    /// The encoded message.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a variable-length integer: seven bits per byte, the lowest first; the top bit of a byte means that another byte follows.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_in_the_specification() {
        // The examples of the specification: 150 in field 1, "testing" in field 2, and the first message in field 3.
        let first = Message::default().int(1, 150);
        assert_eq!(first.encoded(), [0x08, 0x96, 0x01]);
        let text = Message::default().string(2, "testing");
        assert_eq!(text.encoded(), [&[0x12, 0x07][..], b"testing"].concat());
        assert_eq!(Message::default().message(3, &first).encoded(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::default().float(2, 1.0).encoded(), [0x15, 0, 0, 0x80, 0x3f]);
        assert_eq!(Message::default().double(1, 1.0).encoded(), [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        assert_eq!(Message::default().int(1, -1).encoded().len(), 11);
    }
}
