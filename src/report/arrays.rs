//! Images as a NumPy array, for other programs.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use npyz::WriterBuilder;

use super::Pictures;
use crate::error::{Error, Result};
use crate::files;

/// Writes an `.npy` file of unsigned bytes: `(N, H, W)` for grey images, `(N, H, W, 3)` for colour.
pub fn write_npy(path: &Path, pictures: &Pictures) -> Result<()> {
    files::write_atomically(path, |out| write_array(out, pictures).map_err(Error::file("write", path)))
}

fn write_array(out: &mut BufWriter<File>, pictures: &Pictures) -> io::Result<()> {
    let sizes = [pictures.count(), pictures.height, pictures.width, pictures.channels];
    let shape = sizes.map(|size| size as u64);
    npyz::WriteOptions::<u8>::new()
        .default_dtype()
        .shape(if pictures.channels == 1 { &shape[..3] } else { &shape })
        .writer(&mut *out)
        .write_header_only()?;
    out.write_all(pictures.bytes) // bytes have no byte order, and the images are in the order of the array already
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_and_read_again(bytes: &[u8], shape: [usize; 3]) -> (Vec<u64>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.npy");
        write_npy(&path, &Pictures::new(bytes, shape).unwrap()).unwrap();
        let npy = npyz::NpyFile::new(io::BufReader::new(File::open(&path).unwrap())).unwrap();
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
    fn an_array_that_cannot_be_written_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not there/images.npy");
        let error = write_npy(&path, &Pictures::new(&[0; 4], [2, 2, 1]).unwrap()).unwrap_err();
        assert!(error.to_string().contains("images.npy"), "{error}");
    }
}
