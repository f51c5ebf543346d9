//! The elements of NumPy arrays: as bytes of pixels, and as labels.

use crate::npy::{ElementKind, ElementType};

/// How far numbers may lie outside a range, as a share of its width: rounding, and filters that overshoot.
const SLACK: f64 = 0.005;

/// The type of an array's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NumberType(ElementType);

impl NumberType {
    /// The type of elements that are numbers. None for text.
    pub(super) fn of(element: ElementType) -> Option<Self> {
        use ElementKind::{Bool, Float, Signed, Unsigned};
        matches!(element.kind, Bool | Unsigned | Signed | Float).then_some(Self(element))
    }

    /// Bytes of a number.
    pub(super) fn size(self) -> usize {
        self.0.size
    }

    /// The labels in `bytes`: integers, or other numbers if all are whole.
    pub(super) fn labels(self, bytes: &[u8]) -> Option<Vec<i64>> {
        let elements = bytes.chunks_exact(self.0.size);
        match self.0.kind {
            ElementKind::Float => elements
                .map(|element| {
                    Some(self.0.number(element)).filter(|n| n.fract() == 0.0 && n.abs() < 1e15).map(|n| n as i64)
                })
                .collect(),
            _ => Some(elements.map(|element| self.0.integer(element)).collect()),
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
        if (self.0.kind, self.0.size) == (ElementKind::Unsigned, 1) {
            return Ok((bytes, None));
        }
        let numbers = || bytes.chunks_exact(self.0.size).map(|element| self.0.number(element));
        let not_finite = numbers().filter(|number| !number.is_finite()).count();
        if not_finite > 0 {
            return Err(format!("has {not_finite} values that are not finite numbers"));
        }
        let least = numbers().fold(f64::INFINITY, f64::min);
        let largest = numbers().fold(f64::NEG_INFINITY, f64::max);
        let ranges: &[(f64, f64)] = match (self.0.kind, self.0.size) {
            (ElementKind::Bool, _) => &[(0.0, 1.0)],
            (ElementKind::Float, _) => &[(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)],
            (ElementKind::Unsigned, 2) => &[(0.0, 255.0), (0.0, 65535.0)],
            _ => &[(0.0, 255.0)],
        };
        let holds = |&&(low, high): &&(f64, f64)| {
            let slack = if self.0.kind == ElementKind::Float { SLACK * (high - low) } else { 0.0 };
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
        let is_obvious = self.0.kind == ElementKind::Bool || (low, high) == (0.0, 255.0);
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
