//! NumPy's format of arrays, `.npy`: its header, and the types of its elements.
//!
//! The format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. A file starts with a magic string, a version and
//! the length of the header. The header is a Python dictionary of three entries: `descr` (the type), `fortran_order` and `shape`. The
//! elements follow it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use half::f16;

/// The largest size of a header that is read, in bytes; NumPy writes 128 for an array of images.
pub(crate) const MAX_HEADER: usize = 4096;

/// The first bytes of a file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// The bytes before the elements are padded to a multiple of this number.
const ALIGNMENT: usize = 64;

/// What an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElementKind {
    /// 0 or 1 in a byte.
    Bool,
    /// An unsigned integer of 8, 16, 32 or 64 bits.
    Unsigned,
    /// A signed integer of 8, 16, 32 or 64 bits.
    Signed,
    /// An f16, f32 or f64.
    Float,
    /// Text of bytes, padded with zeros.
    ByteText,
    /// Text of 32-bit characters, padded with zeros.
    WideText,
}

/// The type of the elements of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ElementType {
    /// What an element is.
    pub(crate) kind: ElementKind,
    /// The size of an element, in bytes.
    pub(crate) size: usize,
    /// Whether the first byte of a number or character is the most significant one.
    pub(crate) is_big_endian: bool,
}

impl ElementType {
    /// The type that NumPy calls `name`, such as `<f4`. None for complex numbers, dates, objects and other types.
    ///
    /// # Errors
    ///
    /// What is wrong with a text that is no name of a type.
    fn named(name: &str) -> Result<Option<Self>, String> {
        if name.is_empty() || name.len() > 40 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("its type has no name of NumPy's".into());
        }
        let Some((order, name)) = name.split_at_checked(1).filter(|(order, _)| matches!(*order, "<" | ">" | "|"))
        else {
            return Err(format!("its type {name} has no byte order, such as <{name}"));
        };
        let size = name.get(1..).and_then(|digits| digits.parse::<usize>().ok());
        let Some(size) = size else { return Ok(None) };
        let (kind, size) = match (name.as_bytes()[0], size) {
            (b'b', 1) => (ElementKind::Bool, 1),
            (b'u', 1 | 2 | 4 | 8) => (ElementKind::Unsigned, size),
            (b'i', 1 | 2 | 4 | 8) => (ElementKind::Signed, size),
            (b'f', 2 | 4 | 8) => (ElementKind::Float, size),
            (b'S' | b'a', _) => (ElementKind::ByteText, size),
            (b'U', _) => (ElementKind::WideText, size.saturating_mul(4)),
            _ => return Ok(None),
        };
        Ok(Some(Self { kind, size, is_big_endian: order == ">" }))
    }

    /// The number in `bytes`, which are [`Self::size`] bytes, as an integer. The bits of a float are returned as they are.
    pub(crate) fn integer(self, bytes: &[u8]) -> i64 {
        let mut word = [0; 8];
        for (place, byte) in word.iter_mut().zip(bytes) {
            *place = *byte;
        }
        if self.is_big_endian {
            word[..self.size].reverse();
        }
        let unused = 64 - 8 * self.size as u32;
        match self.kind {
            ElementKind::Signed => i64::from_le_bytes(word) << unused >> unused,
            _ => i64::from_le_bytes(word),
        }
    }

    /// The number in `bytes`, which are [`Self::size`] bytes.
    pub(crate) fn number(self, bytes: &[u8]) -> f64 {
        let bits = self.integer(bytes) as u64;
        match (self.kind, self.size) {
            (ElementKind::Float, 2) => f16::from_bits(bits as u16).to_f64(),
            (ElementKind::Float, 4) => f32::from_bits(bits as u32).into(),
            (ElementKind::Float, _) => f64::from_bits(bits),
            (ElementKind::Unsigned, 8) => bits as f64,
            _ => bits as i64 as f64,
        }
    }
}

/// The header of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NpyHeader {
    /// NumPy's name of the type of the elements, such as `<f4`, or its list of the fields of records.
    pub(crate) type_name: String,
    /// The type of the elements, if they are numbers or text.
    pub(crate) element: Option<ElementType>,
    /// Whether the first index runs fastest (Fortran order) instead of the last (C order).
    pub(crate) is_fortran: bool,
    /// The size of each dimension.
    pub(crate) shape: Vec<u64>,
    /// The number of bytes before the elements.
    pub(crate) size: usize,
}

impl NpyHeader {
    /// Reads the header at the start of a file. `start` is the whole file, or at least its first [`MAX_HEADER`] bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, as the end of a sentence: it is in another format, is truncated, has a header larger than
    /// [`MAX_HEADER`], or one that NumPy would not write.
    pub(crate) fn parse(start: &[u8]) -> Result<Self, String> {
        let truncated = || "it is truncated".to_string();
        let Some(rest) = start.strip_prefix(MAGIC) else { return Err("it is not in NumPy's format".into()) };
        let (version, before) = match rest {
            [version @ 1, 0, ..] => (version, 10),
            [version @ (2 | 3), 0, ..] => (version, 12),
            [major, minor, ..] => {
                return Err(format!("it has version {major}.{minor} of NumPy's format; 1.0 to 3.0 are supported"));
            }
            _ => return Err(truncated()),
        };
        let length = start.get(8..before).ok_or_else(truncated)?;
        let length = length.iter().rev().fold(0, |length: usize, &byte| length << 8 | usize::from(byte));
        let size = before.saturating_add(length);
        if size > MAX_HEADER {
            return Err(format!("its header has {size} bytes, more than the limit of {MAX_HEADER}"));
        }
        let text = start.get(before..size).ok_or_else(truncated)?;
        let text = match version {
            3 => String::from_utf8(text.to_vec()).map_err(|_| "its header is not text in UTF-8")?,
            // Latin-1.
            _ => text.iter().map(|&byte| char::from(byte)).collect(),
        };
        Literal { rest: &text }.header(size)
    }

    /// Reads the header of the array that begins at `offset` of a file. The inner error says what is wrong with the header.
    pub(crate) fn read(file: &mut File, offset: u64) -> io::Result<Result<Self, String>> {
        let mut start = Vec::new();
        file.seek(SeekFrom::Start(offset))?;
        file.take(MAX_HEADER as u64).read_to_end(&mut start)?;
        Ok(Self::parse(&start))
    }

    /// The size of all elements, in bytes. None if they are neither numbers nor text, or if the size does not fit into 64 bits.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let size = self.element?.size as u64;
        self.shape.iter().try_fold(size, |bytes, &size| bytes.checked_mul(size))
    }
}

/// A Python literal that is being read.
struct Literal<'a> {
    /// What was not read yet.
    rest: &'a str,
}

impl<'a> Literal<'a> {
    /// The header that is this dictionary.
    fn header(mut self, size: usize) -> Result<NpyHeader, String> {
        const WHAT_IT_IS_NOT: &str = "its header is not a dictionary of descr, fortran_order and shape";
        let (mut element, mut is_fortran, mut shape) = (None, None, None);
        self.expect('{').ok_or(WHAT_IT_IS_NOT)?;
        while self.expect('}').is_none() {
            let key = self.string().ok_or(WHAT_IT_IS_NOT)?;
            self.expect(':').ok_or(WHAT_IT_IS_NOT)?;
            let is_first = match key {
                "descr" => element.replace(self.type_name()?).is_none(),
                "fortran_order" => is_fortran.replace(self.boolean().ok_or(WHAT_IT_IS_NOT)?).is_none(),
                "shape" => shape.replace(self.shape()?).is_none(),
                _ => false,
            };
            if !is_first {
                return Err("its header holds more than a type and a shape".into());
            }
            if self.expect(',').is_none() && !self.rest.trim_start().starts_with('}') {
                return Err(WHAT_IT_IS_NOT.into());
            }
        }
        let (Some((type_name, element)), Some(is_fortran), Some(shape)) = (element, is_fortran, shape) else {
            return Err(WHAT_IT_IS_NOT.into());
        };
        if !self.rest.trim().is_empty() {
            return Err("its header holds more than a type and a shape".into());
        }
        Ok(NpyHeader { type_name, element, is_fortran, shape, size })
    }

    /// Reads a character after any white space.
    fn expect(&mut self, character: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(character)?;
        Some(())
    }

    /// Reads a string. Escapes stay as they are written.
    fn string(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let quote = text.chars().next().filter(|first| matches!(first, '\'' | '"'))?;
        let mut is_escaped = false;
        let (end, _) = text.char_indices().skip(1).find(|&(_, character)| {
            let ends = character == quote && !is_escaped;
            is_escaped = character == '\\' && !is_escaped;
            ends
        })?;
        self.rest = &text[end + 1..];
        Some(&text[1..end])
    }

    /// Reads True or False.
    fn boolean(&mut self) -> Option<bool> {
        let text = self.rest.trim_start();
        let (value, rest) = match text.strip_prefix("True") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("False")?),
        };
        self.rest = rest;
        Some(value)
    }

    /// Reads a type: its name, or the list of the fields of records, as text.
    fn type_name(&mut self) -> Result<(String, Option<ElementType>), String> {
        const WHAT_IT_IS_NOT: &str = "its header has no type";
        if let Some(name) = self.string() {
            return Ok((name.into(), ElementType::named(name)?));
        }
        let start = self.rest.trim_start();
        self.rest = start;
        let mut depth = 0;
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next().ok_or(WHAT_IT_IS_NOT)? {
                '\'' | '"' => drop(self.string().ok_or(WHAT_IT_IS_NOT)?),
                character => {
                    depth += i32::from(matches!(character, '[' | '(')) - i32::from(matches!(character, ']' | ')'));
                    self.rest = &self.rest[character.len_utf8()..];
                }
            }
            if depth <= 0 {
                break;
            }
        }
        let fields = &start[..start.len() - self.rest.len()];
        if !fields.starts_with('[') {
            return Err(WHAT_IT_IS_NOT.into());
        }
        Ok((fields.chars().filter(|character| !character.is_control()).collect(), None))
    }

    /// Reads a tuple of sizes. Python 2 wrote an L after some numbers.
    fn shape(&mut self) -> Result<Vec<u64>, String> {
        const WHAT_IT_IS_NOT: &str = "its shape is not a tuple of sizes";
        let mut shape = Vec::new();
        self.expect('(').ok_or(WHAT_IT_IS_NOT)?;
        while self.expect(')').is_none() {
            let text = self.rest.trim_start();
            if text.starts_with(['(', '[', '{']) {
                return Err("its header holds more than a type and a shape".into());
            }
            let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
            shape.push(text[..digits].parse().map_err(|_| WHAT_IT_IS_NOT)?);
            self.rest = text[digits..].trim_start_matches('L');
            // `(3)` is a number in Python, not a tuple.
            if self.expect(',').is_none() && (shape.len() < 2 || !self.rest.trim_start().starts_with(')')) {
                return Err(WHAT_IT_IS_NOT.into());
            }
        }
        Ok(shape)
    }
}

/// Sizes as a Python tuple.
fn tuple(sizes: &[u64]) -> String {
    match sizes {
        [size] => format!("({size},)"),
        _ => format!("({})", sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// Writes the header of an array in C order, whose elements have NumPy's type `type_name`. The elements must follow it.
pub(crate) fn write_header(out: &mut impl Write, type_name: &str, shape: &[u64]) -> io::Result<()> {
    let mut text = format!("{{'descr': '{type_name}', 'fortran_order': False, 'shape': {}, }}", tuple(shape));
    let before = MAGIC.len() + 4;
    let size = (before + text.len() + 1).next_multiple_of(ALIGNMENT);
    text.extend(std::iter::repeat_n(' ', size - before - text.len() - 1));
    text.push('\n');
    let length = u16::try_from(text.len()).expect("a shape of a few dimensions");
    out.write_all(&[MAGIC, &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat())
}

/// A number that can be the element of an array.
pub trait NpyElement: Copy {
    /// NumPy's name of the type.
    const TYPE_NAME: &'static str;

    /// The bytes of the number.
    fn bytes(self) -> impl AsRef<[u8]>;
}

macro_rules! elements {
    ($($number:ty: $name:literal),*) => {$(
        impl NpyElement for $number {
            const TYPE_NAME: &'static str = $name;

            fn bytes(self) -> impl AsRef<[u8]> {
                self.to_le_bytes()
            }
        }
    )*};
}

elements! { u8: "|u1", u32: "<u4", i64: "<i8", f32: "<f4", f64: "<f8" }

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that starts with this header.
    fn file(version: u8, header: &str) -> Vec<u8> {
        let length = header.len() as u32;
        let length = if version == 1 { (length as u16).to_le_bytes().to_vec() } else { length.to_le_bytes().to_vec() };
        [MAGIC, &[version, 0], &length, header.as_bytes()].concat()
    }

    fn parsed(header: &str) -> Result<NpyHeader, String> {
        NpyHeader::parse(&file(1, header))
    }

    #[test]
    fn a_header_has_the_bytes_that_numpy_writes() {
        let mut written = Vec::new();
        write_header(&mut written, f32::TYPE_NAME, &[2, 3]).unwrap();
        // The bytes of numpy.save, NumPy 2.4.6.
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        let numpy = [&b"\x93NUMPY\x01\0v\0"[..], text.as_bytes(), &[b' '; 58], b"\n"].concat();
        assert_eq!(written, numpy);
        for shape in [&[][..], &[7], &[1, 28, 28], &[u64::MAX; 8]] {
            let mut written = Vec::new();
            write_header(&mut written, "|u1", shape).unwrap();
            let header = NpyHeader::parse(&written).unwrap();
            assert_eq!((header.shape.as_slice(), header.size, header.size % 64), (shape, written.len(), 0));
        }
    }

    #[test]
    fn headers_of_all_versions_of_numpy_are_read() {
        let text = "{'descr': '>u2', 'fortran_order': True, 'shape': (20, 8), }   \n";
        let element = ElementType { kind: ElementKind::Unsigned, size: 2, is_big_endian: true };
        for (version, before) in [(1, 10), (2, 12), (3, 12)] {
            let header = NpyHeader::parse(&file(version, text)).unwrap();
            assert_eq!((header.element, header.is_fortran, header.bytes()), (Some(element), true, Some(320)));
            assert_eq!((header.shape, header.size), (vec![20, 8], before + text.len()));
        }
        // Python 2, other orders of keys, other quotes and spaces, no last comma.
        let old = parsed("{\"shape\": (3L, 4L),'fortran_order':False, 'descr' : '|S5'}").unwrap();
        assert_eq!((old.shape, old.element.map(|element| element.size)), (vec![3, 4], Some(5)));
        let records = "[('é, }', '<f4'), (\"b'\", '|u1', (2,))]";
        let text = format!("{{'descr': {records}, 'fortran_order': False, 'shape': (2,), }}");
        let header = NpyHeader::parse(&file(3, &text)).unwrap();
        assert_eq!((header.type_name.as_str(), header.element, header.shape), (records, None, vec![2]));
        let header = parsed("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (), }").unwrap();
        assert_eq!((header.type_name.as_str(), header.element, header.shape.len()), ("<M8[s]", None, 0));
    }

    #[test]
    fn what_numpy_would_not_write_is_refused_with_a_reason() {
        let whole = file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
        assert!(NpyHeader::parse(&whole).is_ok());
        for length in 0..whole.len() {
            let error = NpyHeader::parse(&whole[..length]).unwrap_err();
            let expected = if length < 6 { "it is not in NumPy's format" } else { "it is truncated" };
            assert_eq!(error, expected, "{length} bytes");
        }
        assert!(NpyHeader::parse(b"\x93NUMPY\x04\0").unwrap_err().contains("it has version 4.0 of NumPy's format"));
        assert!(NpyHeader::parse(b"\x93NUMPY\x02\0\xff\xff\xff\xff{").unwrap_err().contains("4294967307 bytes"));
        assert!(NpyHeader::parse(&file(3, "\u{ff}")).unwrap_err().contains("dictionary"));
        assert!(NpyHeader::parse(b"\x93NUMPY\x03\0\x01\0\0\0\xff").unwrap_err().contains("UTF-8"));
        let with = |descr: &str, order: &str, shape: &str, more: &str| {
            parsed(&format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {more}}}")).unwrap_err()
        };
        for (error, expected) in [
            (with("'f4'", "False", "(2,)", ""), "its type f4 has no byte order, such as <f4"),
            (with("'<f4\x1b'", "False", "(2,)", ""), "its type has no name of NumPy's"),
            (with("''", "False", "(2,)", ""), "its type has no name of NumPy's"),
            (with("4", "False", "(2,)", ""), "its header has no type"),
            (with("('<f4', (2,))", "False", "(2,)", ""), "its header has no type"),
            (with(&"[".repeat(400), "False", "(2,)", ""), "its header has no type"),
            (with("'<f4'", "0", "(2,)", ""), "its header is not a dictionary of descr, fortran_order and shape"),
            (with("'<f4'", "False", "(2)", ""), "its shape is not a tuple of sizes"),
            (with("'<f4'", "False", "2", ""), "its shape is not a tuple of sizes"),
            (with("'<f4'", "False", "(-2,)", ""), "its shape is not a tuple of sizes"),
            (with("'<f4'", "False", "(2 3)", ""), "its shape is not a tuple of sizes"),
            (with("'<f4'", "False", "(18446744073709551616,)", ""), "its shape is not a tuple of sizes"),
            (with("'<f4'", "False", "((2,),)", ""), "its header holds more than a type and a shape"),
            (with("'<f4'", "False", "(2,)", "'shape': (2,)"), "its header holds more than a type and a shape"),
            (with("'<f4'", "False", "(2,)", "'x': 1"), "its header holds more than a type and a shape"),
            (with("'<f4'", "False", "(2,)", "}"), "its header holds more than a type and a shape"),
            (with("'<f4'", "False", "(2,)", "x"), "its header is not a dictionary of descr, fortran_order and shape"),
            (
                parsed("{'descr': '<f4'}").unwrap_err(),
                "its header is not a dictionary of descr, fortran_order and shape",
            ),
            (parsed("").unwrap_err(), "its header is not a dictionary of descr, fortran_order and shape"),
        ] {
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn numbers_of_each_type_are_read() {
        for (name, bytes, number) in [
            ("|b1", vec![1], 1.0),
            ("|u1", vec![255], 255.0),
            ("|i1", vec![255], -1.0),
            ("<i2", vec![0xfe, 0xff], -2.0),
            (">i2", vec![0xff, 0xfe], -2.0),
            (">u4", vec![0xff, 0, 0, 1], 4_278_190_081.0),
            ("<u8", vec![0, 0, 0, 0, 0, 0, 0, 0x80], 9_223_372_036_854_775_808.0),
            ("<f2", vec![0, 0x38], 0.5),
            (">f4", 1.5_f32.to_be_bytes().to_vec(), 1.5),
            ("<f8", (-0.1_f64).to_le_bytes().to_vec(), -0.1),
        ] {
            let element = ElementType::named(name).unwrap().unwrap();
            assert_eq!((element.size, vec![element.number(&bytes)]), (bytes.len(), vec![number]), "{name}");
        }
        for unsupported in ["<c8", "|O", "|V8", "<f16", "<i3", "<M8[s]", "|b8"] {
            assert_eq!(ElementType::named(unsupported).unwrap(), None, "{unsupported}");
        }
    }
}
