//! How operations are declared: `operations!` turns the table in `op.rs` into [`Op`](super::Op), its names and its operands.

use crate::program::{Element, TensorId};

/// Whether an operation reads or writes a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The operation reads elements of the tensor.
    Read,
    /// The operation writes all elements of the tensor and reads none of them before.
    Write,
    /// The operation changes the tensor in place.
    Update,
}

/// A tensor that an operation works on.
#[derive(Debug, Clone, Copy)]
pub struct Operand {
    /// The letter in the formula; shaders bind the tensor to a variable of this name.
    pub name: &'static str,
    /// The tensor.
    pub tensor: TensorId,
    /// Whether the operation reads or writes the tensor.
    pub access: Access,
    /// The element type that the tensor must have.
    pub element: Element,
}

/// Declares the enum of operations. An operation is a variant, its name in listings, and its fields in braces. A field is an
/// operand or a setting:
///
/// - `read x: F32` is a tensor of f32 that the operation reads; `write` and `update` are the other ways of [`Access`];
/// - `maybe_read b: F32` and `maybe_write b: F32` are tensors that may be absent;
/// - `set eps: f64` is a number or a choice.
macro_rules! operations {
    ($(#[$doc:meta])* pub enum $op:ident {$(
        $(#[$variant_doc:meta])*
        $variant:ident $name:literal { $( $(#[$field_doc:meta])* $kind:ident $field:ident: $type:tt, )* }
    )*}) => {
        $(#[$doc])*
        pub enum $op {$(
            $(#[$variant_doc])*
            $variant { $( $(#[$field_doc])* $field: field_type!($kind $type), )* },
        )*}

        impl $op {
            /// The name in listings.
            pub fn name(&self) -> &'static str {
                match self { $( Self::$variant { .. } => $name, )* }
            }

            /// Calls `each` for every operand, in the order of the table; it may replace the tensor.
            fn for_each_operand(&mut self, each: &mut dyn FnMut(Operand) -> TensorId) {
                match self { $(
                    Self::$variant { $($field),* } => { $( visit_field!($kind $type, $field, each); )* }
                )* }
            }
        }
    };
}

macro_rules! field_type {
    (set $type:tt) => { $type };
    (maybe_read $element:ident) => { Option<TensorId> };
    (maybe_write $element:ident) => { Option<TensorId> };
    ($access:ident $element:ident) => { TensorId };
}

macro_rules! visit_field {
    (set $type:tt, $field:ident, $each:ident) => { let _ = $field; };
    (read $element:ident, $field:ident, $each:ident) => { visit_field!(@ Read $element, $field, $field, $each) };
    (write $element:ident, $field:ident, $each:ident) => { visit_field!(@ Write $element, $field, $field, $each) };
    (update $element:ident, $field:ident, $each:ident) => { visit_field!(@ Update $element, $field, $field, $each) };
    (maybe_read $element:ident, $field:ident, $each:ident) => {
        if let Some(tensor) = $field { visit_field!(@ Read $element, $field, tensor, $each) }
    };
    (maybe_write $element:ident, $field:ident, $each:ident) => {
        if let Some(tensor) = $field { visit_field!(@ Write $element, $field, tensor, $each) }
    };
    (@ $access:ident $element:ident, $field:ident, $tensor:ident, $each:ident) => {
        *$tensor = $each(Operand {
            name: stringify!($field),
            tensor: *$tensor,
            access: Access::$access,
            element: Element::$element,
        })
    };
}
