//! NumPy files (`.npy`) of images, of latents, of classes and of tensors.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::ImageBytes;
use crate::error::{Error, Result};
use crate::files;
pub use crate::npy::NpyElement;
use crate::npy::{ElementKind, NpyHeader, write_header};

/// Writes `values` as an `.npy` file of f32 with the shape (N, `width`). The file is written whole or not at all. A `note` makes it a
/// part of an array (see [`array_part`](super::array_part)).
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_matrix(path: &Path, values: &[f32], width: usize, note: Option<&str>) -> Result<()> {
    write(path, values, &[values.len() / width, width], note)
}

/// Writes `values` as an `.npy` file of i64 with the shape (N). The file is written whole or not at all. A `note` makes it a part of an
/// array (see [`array_part`](super::array_part)).
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_vector(path: &Path, values: &[i64], note: Option<&str>) -> Result<()> {
    write(path, values, &[values.len()], note)
}

/// Writes `values` as an `.npy` file of their type, with a shape of as many elements, in C order. The file is written whole or not at
/// all.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_array<T: NpyElement>(path: &Path, values: &[T], shape: &[usize]) -> Result<()> {
    write(path, values, shape, None)
}

/// Writes `values` as an array of this shape, and a note after it.
fn write<T: NpyElement>(path: &Path, values: &[T], shape: &[usize], note: Option<&str>) -> Result<()> {
    let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
    let write = |out: &mut BufWriter<File>| {
        write_header(out, T::TYPE_NAME, &shape)?;
        values.iter().try_for_each(|value| out.write_all(value.bytes().as_ref()))?;
        note.map_or(Ok(()), |note| write_note(out, note))
    };
    files::write_atomically(path, |out| write(out).map_err(Error::file("write", path)))
}

/// Reads an `.npy` file of f16, f32 or f64 with the shape (N, `width`), where N is 1 to `max_rows`. Returns the values in C order.
///
/// # Errors
///
/// If the file cannot be read, is not an array of that type and shape, or has values that are not finite.
pub fn read_matrix(path: &Path, width: usize, max_rows: usize) -> Result<Vec<f32>> {
    let wrong = |what: String| Error::Request {
        message: format!("{}: {what}", path.display()),
        hint: format!("give a NumPy array of f32 with the shape (N, {width}), as numpy.save writes it"),
    };
    let failed = || Error::file("read", path);
    let mut file = File::open(path).map_err(failed())?;
    let header = NpyHeader::read(&mut file, 0).map_err(failed())?.map_err(wrong)?;
    let shape = &header.shape;
    if shape.len() != 2 || shape[1] != width as u64 || !(1..=max_rows as u64).contains(&shape[0]) {
        return Err(wrong(format!("its shape is {shape:?}, but (N, {width}) with N from 1 to {max_rows} is required")));
    }
    if header.is_fortran {
        return Err(wrong("it is in Fortran order, but C order is required".into()));
    }
    let Some(float) = header.element.filter(|element| element.kind == ElementKind::Float) else {
        return Err(wrong(format!("its type is {}, but f32 or f64 is required", header.type_name)));
    };
    let needed = header.bytes().unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(header.size as u64)).map_err(failed())?;
    file.take(needed).read_to_end(&mut bytes).map_err(failed())?;
    if bytes.len() as u64 != needed {
        return Err(wrong(format!("{} bytes follow its header, but its shape needs {needed}", bytes.len())));
    }
    let values: Vec<f32> = bytes.chunks_exact(float.size).map(|value| float.number(value) as f32).collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(wrong(format!("row {} has a value that is not finite", at / width))),
        None => Ok(values),
    }
}

/// Writes images as an `.npy` file of u8: (N, H, W) for grey images, (N, H, W, C) for others. The file is written whole or not at all. A
/// `note` makes it a part of an array (see [`array_part`](super::array_part)).
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_npy(path: &Path, images: &ImageBytes, note: Option<&str>) -> Result<()> {
    let shape = [images.count(), images.height, images.width, images.channels].map(|size| size as u64);
    let write = |out: &mut BufWriter<File>| {
        write_header(out, u8::TYPE_NAME, if images.channels == 1 { &shape[..3] } else { &shape })?;
        out.write_all(images.bytes)?; // already in C order
        note.map_or(Ok(()), |note| write_note(out, note))
    };
    files::write_atomically(path, |out| write(out).map_err(Error::file("write", path)))
}

/// Writes a text as a second array after the first one, as `numpy.save` does with an open file.
fn write_note(out: &mut BufWriter<File>, note: &str) -> io::Result<()> {
    write_header(out, u8::TYPE_NAME, &[note.len() as u64])?;
    out.write_all(note.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_and_read_again(bytes: &[u8], shape: [usize; 3]) -> (Vec<u64>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.npy");
        write_npy(&path, &ImageBytes::new(bytes, shape).unwrap(), None).unwrap();
        let npy = npyz::NpyFile::new(File::open(&path).unwrap()).unwrap();
        assert_eq!(npy.order(), npyz::Order::C);
        (npy.shape().to_vec(), npy.into_vec::<u8>().unwrap())
    }

    #[test]
    fn grey_images_have_three_dimensions_and_colour_images_four() {
        let bytes: Vec<u8> = (0..24).collect();
        assert_eq!(written_and_read_again(&bytes, [3, 4, 1]), (vec![2, 3, 4], bytes.clone()));
        assert_eq!(written_and_read_again(&bytes, [2, 4, 3]), (vec![1, 2, 4, 3], bytes.clone()));
    }

    #[test]
    fn a_matrix_is_read_as_it_was_written_and_other_shapes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latents.npy");
        let values = [0.5, -1.0, 2.0, 3.0, 4.0, 5.0];
        write_matrix(&path, &values, 3, None).unwrap();
        assert_eq!(read_matrix(&path, 3, 2).unwrap(), values);
        let says = |width, max_rows| read_matrix(&path, width, max_rows).unwrap_err().to_string();
        assert!(
            says(2, 2).contains("its shape is [2, 3], but (N, 2) with N from 1 to 2 is required"),
            "{}",
            says(2, 2)
        );
        assert!(says(3, 1).contains("with N from 1 to 1 is"), "{}", says(3, 1));
        write_matrix(&path, &[1.0, f32::NAN], 1, None).unwrap();
        assert!(says(1, 9).contains("row 1 has a value that is not finite"), "{}", says(1, 9));
        let mut whole = std::fs::read(&path).unwrap();
        whole.pop();
        std::fs::write(&path, whole).unwrap();
        assert!(says(1, 9).contains("7 bytes follow its header, but its shape needs 8"), "{}", says(1, 9));
        std::fs::write(&path, b"hello").unwrap();
        assert!(says(1, 9).contains("latents.npy: it is not in NumPy's format"), "{}", says(1, 9));
        write_array(&path, &[1_i64, 2], &[2, 1]).unwrap();
        assert!(says(1, 9).contains("its type is <i8, but f32 or f64 is required"), "{}", says(1, 9));
        write_array(&path, &[0.1_f64, 2.0], &[2, 1]).unwrap();
        assert_eq!(read_matrix(&path, 1, 9).unwrap(), [0.1, 2.0]);
    }

    #[test]
    fn an_error_of_writing_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not there/images.npy");
        let error = write_npy(&path, &ImageBytes::new(&[0; 4], [2, 2, 1]).unwrap(), None).unwrap_err();
        assert!(error.to_string().contains("images.npy"), "{error}");
    }
}
