//! The elements of NumPy arrays: as bytes of pixels, and as labels.

use half::f16;
use npyz::{DType, Endianness, TypeChar};

/// How far numbers may lie outside a range, as a share of its width: rounding, and filters that overshoot.
const SLACK: f64 = 0.005;

/// The type of an array's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NumberType {
    kind: NumberKind,
    bytes: usize,
    is_big_endian: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NumberKind {
    Bool,
    Unsigned,
    Signed,
    Float,
}

impl NumberType {
    /// The type of numbers that is called `dtype`. None for text, objects, complex numbers and records.
    pub(super) fn of(dtype: &DType) -> Option<Self> {
        let DType::Plain(text) = dtype else { return None };
        let (kind, sizes): (_, &[u64]) = match text.type_char() {
            TypeChar::Bool => (NumberKind::Bool, &[1]),
            TypeChar::Uint => (NumberKind::Unsigned, &[1, 2, 4, 8]),
            TypeChar::Int => (NumberKind::Signed, &[1, 2, 4, 8]),
            TypeChar::Float => (NumberKind::Float, &[2, 4, 8]),
            _ => return None,
        };
        let size = sizes.iter().find(|&&size| size == text.size_field())?;
        Some(Self { kind, bytes: *size as usize, is_big_endian: text.endianness() == Endianness::Big })
    }

    /// Bytes of a number.
    pub(super) fn size(self) -> usize {
        self.bytes
    }

    /// The integer in `bytes`, which are [`Self::size`] bytes.
    fn integer(self, bytes: &[u8]) -> i64 {
        let mut word = [0; 8];
        for (place, byte) in word.iter_mut().zip(bytes) {
            *place = *byte;
        }
        if self.is_big_endian {
            word[..self.bytes].reverse();
        }
        let unused = 64 - 8 * self.bytes as u32;
        match self.kind {
            NumberKind::Signed => i64::from_le_bytes(word) << unused >> unused,
            _ => i64::from_le_bytes(word),
        }
    }

    /// The number in `bytes`, which are [`Self::size`] bytes.
    fn number(self, bytes: &[u8]) -> f64 {
        let bits = self.integer(bytes) as u64;
        match (self.kind, self.bytes) {
            (NumberKind::Float, 2) => f16::from_bits(bits as u16).to_f64(),
            (NumberKind::Float, 4) => f32::from_bits(bits as u32).into(),
            (NumberKind::Float, _) => f64::from_bits(bits),
            (NumberKind::Unsigned, 8) => bits as f64,
            _ => bits as i64 as f64,
        }
    }

    /// The labels in `bytes`: integers, or other numbers if all are whole.
    pub(super) fn labels(self, bytes: &[u8]) -> Option<Vec<i64>> {
        let elements = bytes.chunks_exact(self.bytes);
        match self.kind {
            NumberKind::Float => elements
                .map(|element| {
                    Some(self.number(element)).filter(|n| n.fract() == 0.0 && n.abs() < 1e15).map(|n| n as i64)
                })
                .collect(),
            _ => Some(elements.map(|element| self.integer(element)).collect()),
        }
    }

    /// The labels in `bytes` of `classes` columns, of which each row has a single 1, at the place of the label, and else 0
    /// (one-hot).
    pub(super) fn one_hot_labels(self, bytes: &[u8], classes: usize) -> Option<Vec<i64>> {
        let numbers = self.labels(bytes)?;
        let label = |row: &[i64]| {
            let place = row.iter().position(|&number| number == 1)?;
            row.iter().enumerate().all(|(i, &number)| i == place || number == 0).then_some(place as i64)
        };
        numbers.chunks_exact(classes).map(label).collect()
    }

    /// The numbers in `bytes` as bytes of pixels, and a sentence that says how they were mapped, where that is not obvious. The range
    /// that is mapped to 0 to 255 is the first of these that holds all numbers: of floats 0 to 1, -1 to 1 and 0 to 255; of integers 0 to 255,
    /// and of those of 16 bits also 0 to 65535; of Booleans 0 to 1.
    ///
    /// # Errors
    ///
    /// What is wrong with the numbers, as the end of a sentence that begins with "the array": numbers that are not finite, or in none of the
    /// ranges.
    pub(super) fn pixels(self, bytes: Vec<u8>) -> Result<(Vec<u8>, Option<String>), String> {
        if (self.kind, self.bytes) == (NumberKind::Unsigned, 1) {
            return Ok((bytes, None));
        }
        let numbers = || bytes.chunks_exact(self.bytes).map(|element| self.number(element));
        let not_finite = numbers().filter(|number| !number.is_finite()).count();
        if not_finite > 0 {
            return Err(format!("has {not_finite} values that are not finite numbers"));
        }
        let least = numbers().fold(f64::INFINITY, f64::min);
        let largest = numbers().fold(f64::NEG_INFINITY, f64::max);
        let ranges: &[(f64, f64)] = match (self.kind, self.bytes) {
            (NumberKind::Bool, _) => &[(0.0, 1.0)],
            (NumberKind::Float, _) => &[(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)],
            (NumberKind::Unsigned, 2) => &[(0.0, 255.0), (0.0, 65535.0)],
            _ => &[(0.0, 255.0)],
        };
        let holds = |&&(low, high): &&(f64, f64)| {
            let slack = if self.kind == NumberKind::Float { SLACK * (high - low) } else { 0.0 };
            least >= low - slack && largest <= high + slack
        };
        // A thousandth is enough for a person.
        let [shown_least, shown_largest] = [least, largest].map(|number| (1000.0 * number).round() / 1000.0);
        let Some(&(low, high)) = ranges.iter().find(holds) else {
            let known: Vec<_> = ranges.iter().map(|(low, high)| format!("{low} to {high}")).collect();
            return Err(format!(
                "has values from {shown_least} to {shown_largest}; they must be {}",
                known.join(", or ")
            ));
        };
        let byte = |number: f64| (255.0 * (number - low) / (high - low)).clamp(0.0, 255.0).round() as u8;
        let pixels = numbers().map(byte).collect();
        let is_obvious = self.kind == NumberKind::Bool || (low, high) == (0.0, 255.0);
        let note = format!(
            "the values of the array are from {shown_least} to {shown_largest}; {low} to {high} is mapped to 0 to 255"
        );
        Ok((pixels, (!is_obvious).then_some(note)))
    }
}

/// The order of an array's dimensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct ArrayLayout {
    /// Number of images, height, width, channels.
    pub(super) shape: [usize; 4],
    /// Whether an image consists of one plane for each channel: (N, C, H, W).
    pub(super) channels_first: bool,
    /// Whether the first index runs fastest (Fortran order).
    pub(super) is_fortran: bool,
}

impl ArrayLayout {
    /// The elements in the order (N, H, W, C).
    pub(super) fn channels_last(&self, elements: Vec<u8>) -> Vec<u8> {
        let [n, h, w, c] = self.shape;
        let is_in_order = !self.is_fortran && (!self.channels_first || c == 1);
        if is_in_order {
            return elements;
        }
        // The places of the dimensions n, h, w and c in the array, and the distance of neighbours along each.
        let (stored, places) =
            if self.channels_first { ([n, c, h, w], [0, 2, 3, 1]) } else { ([n, h, w, c], [0, 1, 2, 3]) };
        let stride = |place: usize| {
            let faster = if self.is_fortran { &stored[..place] } else { &stored[place + 1..] };
            faster.iter().product::<usize>()
        };
        let [along_n, along_h, along_w, along_c] = places.map(stride);
        let mut ordered = Vec::with_capacity(elements.len());
        for image in 0..n {
            for y in 0..h {
                for x in 0..w {
                    let at = image * along_n + y * along_h + x * along_w;
                    ordered.extend((0..c).map(|channel| elements[at + channel * along_c]));
                }
            }
        }
        ordered
    }
}

/// The text in each of `bytes`' elements of `size` bytes: padded with zeros, bytes of UTF-8 or, if `is_wide`, 32-bit characters.
pub(super) fn texts(bytes: &[u8], size: usize, is_wide: bool, is_big_endian: bool) -> Option<Vec<String>> {
    let text = |element: &[u8]| -> Option<String> {
        if !is_wide {
            return String::from_utf8(element.to_vec()).ok().map(|text| text.trim_end_matches('\0').to_string());
        }
        let code = |four: &[u8]| {
            let four = [four[0], four[1], four[2], four[3]];
            if is_big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
        };
        let characters = element.chunks_exact(4).map(|four| char::from_u32(code(four)));
        characters.collect::<Option<String>>().map(|text| text.trim_end_matches('\0').to_string())
    };
    bytes.chunks_exact(size).map(text).collect()
}
