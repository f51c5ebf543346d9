//! Recognises the format of a file by its first bytes: image files, arrays, archives, and unsupported formats, each with a hint
//! for its conversion.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::file_data::GZIP_MAGIC;

/// The extensions of image files, in lower case.
const IMAGE_ENDINGS: [&str; 9] = ["png", "jpg", "jpeg", "jfif", "webp", "bmp", "tif", "tiff", "gif"];

/// The number of bytes that [`format_of`] reads.
pub(super) const START_BYTES: u64 = 512;

/// The format of a file, from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileFormat {
    /// An image in a supported format.
    Image,
    /// Data compressed with gzip.
    Gzip,
    /// A zip archive, which an `.npz` file is too.
    Zip,
    /// A tar archive.
    Tar,
    /// A NumPy array.
    Npy,
    /// A file in IDX format.
    Idx,
    /// A known format that is not supported.
    Unreadable(UnreadableFormat),
    /// An unknown format.
    Unknown,
}

/// A known format that is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnreadableFormat {
    /// Name of a file of this format in a sentence, with its article: "a HEIC image".
    pub(super) name: &'static str,
    /// Hint on how to convert the file to a supported format.
    pub(super) hint: &'static str,
}

/// The entry for a HEIC image.
const HEIC: UnreadableFormat = UnreadableFormat {
    name: "a HEIC image",
    hint: "convert HEIC images to JPEG or PNG, such as with `magick mogrify -format jpg *.HEIC` or `heif-convert`",
};
/// The entry for an AVIF image.
const AVIF: UnreadableFormat = UnreadableFormat {
    name: "an AVIF image",
    hint: "convert AVIF images to PNG, such as with `magick mogrify -format png *.avif` or `avifdec`",
};
/// The entry for a JPEG XL image.
const JPEG_XL: UnreadableFormat = UnreadableFormat {
    name: "a JPEG XL image",
    hint: "convert JPEG XL images to PNG, such as with `djxl` or `magick mogrify -format png *.jxl`",
};
/// The entry for a JPEG 2000 image.
const JPEG_2000: UnreadableFormat = UnreadableFormat {
    name: "a JPEG 2000 image",
    hint: "convert JPEG 2000 images to PNG or TIFF, such as with `magick mogrify -format png *.jp2`",
};
/// The entry for a video.
const VIDEO: UnreadableFormat = UnreadableFormat {
    name: "a video",
    hint: "extract the frames of a video as images, such as with `ffmpeg -i VIDEO frames/%06d.png`",
};
/// The entry for a Photoshop document.
const PHOTOSHOP: UnreadableFormat = UnreadableFormat {
    name: "a Photoshop document",
    hint: "export Photoshop documents as PNG, such as with `magick FILE.psd[0] FILE.png`",
};
/// The entry for a camera raw image.
const CAMERA_RAW: UnreadableFormat = UnreadableFormat {
    name: "a camera raw image",
    hint: "develop camera raw images to TIFF or JPEG, such as with `darktable-cli` or `dcraw -T`",
};
/// The entry for an `OpenEXR` image.
const OPEN_EXR: UnreadableFormat = UnreadableFormat {
    name: "an OpenEXR image",
    hint: "convert OpenEXR images to 16-bit PNG, such as with `magick mogrify -format png *.exr`",
};
/// The entry for a Radiance HDR image.
const RADIANCE: UnreadableFormat = UnreadableFormat {
    name: "a Radiance HDR image",
    hint: "convert HDR images to 16-bit PNG, such as with `magick mogrify -format png *.hdr`",
};
/// The entry for a Netpbm image.
const NETPBM: UnreadableFormat = UnreadableFormat {
    name: "a Netpbm image",
    hint: "convert PPM, PGM and PBM images to PNG, such as with `magick mogrify -format png *.ppm`",
};
/// The entry for an SVG drawing.
const SVG: UnreadableFormat = UnreadableFormat {
    name: "an SVG drawing",
    hint: "draw SVG files as PNG, such as with `resvg FILE.svg FILE.png` or `magick mogrify -format png *.svg`",
};
/// The entry for a PDF document.
const PDF: UnreadableFormat = UnreadableFormat {
    name: "a PDF document",
    hint: "draw the pages of a PDF as images, such as with `pdftoppm -png FILE.pdf PAGE`",
};
/// The entry for a Windows icon.
const ICON: UnreadableFormat = UnreadableFormat {
    name: "a Windows icon",
    hint: "convert ICO files to PNG, such as with `magick FILE.ico FILE.png`",
};
/// The entry for a DICOM image.
const DICOM: UnreadableFormat = UnreadableFormat {
    name: "a DICOM image",
    hint: "convert DICOM images to 16-bit PNG, such as with `dcm2pnm` or pydicom",
};
/// The entry for a `NIfTI` image.
const NIFTI: UnreadableFormat = UnreadableFormat {
    name: "a NIfTI image",
    hint: "save the slices of a NIfTI image as .npy, such as with nibabel and `numpy.save`",
};
/// The entry for a safetensors file.
const SAFETENSORS: UnreadableFormat = UnreadableFormat {
    name: "a safetensors file, as trained networks are",
    hint: "name the images to train on; `--init FILE` starts from the weights of a checkpoint, and `gpu-gan sample FILE` draws with them",
};
/// The entry for a FITS image.
const FITS: UnreadableFormat =
    UnreadableFormat { name: "a FITS image", hint: "convert FITS images to 16-bit PNG or TIFF, such as with astropy" };
/// The entry for an HDF5 file.
const HDF5: UnreadableFormat = UnreadableFormat {
    name: "an HDF5 file",
    hint: "save the images of an HDF5 file as .npy, such as with h5py and `numpy.save`",
};
/// The entry for a MATLAB file.
const MATLAB: UnreadableFormat = UnreadableFormat {
    name: "a MATLAB file",
    hint: "save the images of a MATLAB file as .npy, such as with `scipy.io.loadmat` and `numpy.save`",
};
/// The entry for a Parquet file.
const PARQUET: UnreadableFormat = UnreadableFormat {
    name: "a Parquet file",
    hint: "save the images of a Parquet file as PNG files, such as with the Python package `datasets`",
};
/// The entry for a TFRecord file.
const TF_RECORD: UnreadableFormat = UnreadableFormat {
    name: "a TFRecord file",
    hint: "save the images of a TFRecord file as PNG files, such as with `tf.data.TFRecordDataset`",
};
/// The entry for an LMDB database.
const LMDB: UnreadableFormat = UnreadableFormat {
    name: "an LMDB database",
    hint: "save the images of an LMDB database as PNG files, such as with the Python package `lmdb`",
};
/// The entry for a Python pickle.
const PICKLE: UnreadableFormat = UnreadableFormat {
    name: "a Python pickle, as the batches of CIFAR are",
    hint: "save the images of the pickle as an array: `numpy.save('images.npy', \
              data[b'data'].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))` for CIFAR",
};
/// The entry for a binary batch of CIFAR.
const CIFAR_BINARY: UnreadableFormat = UnreadableFormat {
    name: "a binary batch of CIFAR",
    hint: "save the images as an array: `b = numpy.fromfile(FILE, 'u1').reshape(-1, 3073); numpy.save('images.npy', \
              b[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))`",
};
/// The entry for a PyTorch file.
const TORCH: UnreadableFormat = UnreadableFormat {
    name: "a PyTorch file",
    hint: "save the images as an array: `numpy.save('images.npy', torch.load(FILE).numpy())`, with values 0 to 255",
};
/// The entry for a Git LFS pointer.
const LFS_POINTER: UnreadableFormat = UnreadableFormat {
    name: "a Git LFS pointer, not the file itself",
    hint: "fetch the files that the pointers stand for with `git lfs pull`",
};
/// The entry for an HTML page.
const HTML: UnreadableFormat = UnreadableFormat {
    name: "an HTML page, such as the error page of a failed download",
    hint: "download the file again, and open it to see what the server answered",
};
/// The entry for an XML or JSON text.
const XML_OR_JSON: UnreadableFormat = UnreadableFormat {
    name: "an XML or JSON text, such as the error message of a failed download",
    hint: "download the file again, and open it to see what the server answered",
};
/// The entry for a 7-Zip archive.
const SEVEN_ZIP: UnreadableFormat =
    UnreadableFormat { name: "a 7-Zip archive", hint: "unpack it with `7z x FILE` and name the folder" };
/// The entry for a RAR archive.
const RAR: UnreadableFormat =
    UnreadableFormat { name: "a RAR archive", hint: "unpack it with `unrar x FILE` and name the folder" };
/// The entry for a file compressed with xz.
const XZ: UnreadableFormat =
    UnreadableFormat { name: "compressed with xz", hint: "unpack it with `xz -d FILE` (`tar -xf FILE` for .tar.xz)" };
/// The entry for a file compressed with bzip2.
const BZIP2: UnreadableFormat = UnreadableFormat {
    name: "compressed with bzip2",
    hint: "unpack it with `bzip2 -d FILE` (`tar -xf FILE` for .tar.bz2)",
};
/// The entry for a file compressed with Zstandard.
const ZSTD: UnreadableFormat = UnreadableFormat {
    name: "compressed with Zstandard",
    hint: "unpack it with `zstd -d FILE` (`tar -xf FILE` for .tar.zst)",
};

/// Unsupported formats by their extensions, in lower case. Only formats that may hold images are listed.
const UNREADABLE_ENDINGS: [(&[&str], UnreadableFormat); 22] = [
    (&["heic", "heif", "hif"], HEIC),
    (&["avif"], AVIF),
    (&["jxl"], JPEG_XL),
    (&["jp2", "j2k", "jpx", "jpf"], JPEG_2000),
    (&["mp4", "mov", "avi", "mkv", "webm", "m4v"], VIDEO),
    (&["psd", "psb"], PHOTOSHOP),
    (&["cr2", "cr3", "nef", "arw", "dng", "orf", "raf", "rw2", "pef", "srw"], CAMERA_RAW),
    (&["exr"], OPEN_EXR),
    (&["hdr"], RADIANCE),
    (&["ppm", "pgm", "pbm", "pnm"], NETPBM),
    (&["svg"], SVG),
    (&["pdf"], PDF),
    (&["ico"], ICON),
    (&["dcm", "dicom"], DICOM),
    (&["nii"], NIFTI),
    (&["safetensors"], SAFETENSORS),
    (&["fits", "fit"], FITS),
    (&["h5", "hdf5"], HDF5),
    (&["mat"], MATLAB),
    (&["parquet"], PARQUET),
    (&["tfrecord", "tfrecords"], TF_RECORD),
    (&["pkl", "pickle"], PICKLE),
];

/// Whether a file has the extension of a supported image format.
pub(super) fn has_image_name(path: &Path) -> bool {
    ending_of(path).is_some_and(|ending| IMAGE_ENDINGS.contains(&ending.as_str()))
}

/// The unsupported format whose extension a file has.
pub(super) fn unreadable_by_name(path: &Path) -> Option<UnreadableFormat> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    if name == "data.mdb" {
        return Some(LMDB);
    }
    if (name.starts_with("data_batch") || name.starts_with("test_batch"))
        && ending_of(path).is_some_and(|ending| ending == "bin")
    {
        return Some(CIFAR_BINARY);
    }
    if name.ends_with(".nii.gz") {
        return Some(NIFTI);
    }
    let ending = ending_of(path)?;
    if ["pt", "pth"].contains(&ending.as_str()) {
        return Some(TORCH);
    }
    UNREADABLE_ENDINGS.iter().find(|(endings, _)| endings.contains(&ending.as_str())).map(|(_, format)| *format)
}

/// The extension of a file's name, in lower case.
pub(super) fn ending_of(path: &Path) -> Option<String> {
    Some(path.extension()?.to_string_lossy().to_lowercase())
}

/// The first [`START_BYTES`] of a file, or the whole file if it is shorter.
pub(super) fn start_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(START_BYTES).read_to_end(&mut start)?;
    Ok(start)
}

/// The format of a file that starts with `start`, its first [`START_BYTES`].
pub(super) fn format_of(start: &[u8]) -> FileFormat {
    let has = |offset: usize, magic: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if image::guess_format(start).is_ok_and(|format| format.reading_enabled()) {
        return FileFormat::Image;
    }
    if has(0, &GZIP_MAGIC) {
        return FileFormat::Gzip;
    }
    if has(0, b"PK\x03\x04") || has(0, b"PK\x05\x06") {
        return FileFormat::Zip;
    }
    if has(257, b"ustar") {
        return FileFormat::Tar;
    }
    if has(0, b"\x93NUMPY") {
        return FileFormat::Npy;
    }
    if let [0, 0, 0x08 | 0x09 | 0x0b..=0x0e, 1..=4, ..] = start {
        return FileFormat::Idx;
    }
    unreadable_by_content(start).map_or(FileFormat::Unknown, FileFormat::Unreadable)
}

fn unreadable_by_content(start: &[u8]) -> Option<UnreadableFormat> {
    let has = |offset: usize, magic: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if has(4, b"ftyp") {
        return Some(match start.get(8..12) {
            Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1") => HEIC,
            Some(b"avif" | b"avis") => AVIF,
            Some(b"crx ") => CAMERA_RAW,
            _ => VIDEO,
        });
    }
    let by_magic: [(&[u8], UnreadableFormat); 27] = [
        (b"8BPS", PHOTOSHOP),
        (b"\xff\x0a", JPEG_XL),
        (b"\0\0\0\x0cJXL ", JPEG_XL),
        (b"\0\0\0\x0cjP  ", JPEG_2000),
        (b"\xff\x4f\xff\x51", JPEG_2000),
        (b"FUJIFILM", CAMERA_RAW),
        (b"IIRO", CAMERA_RAW),
        (b"IIU\0", CAMERA_RAW),
        (b"\x76\x2f\x31\x01", OPEN_EXR),
        (b"#?RADIANCE", RADIANCE),
        (b"%PDF", PDF),
        (b"\0\0\x01\0", ICON),
        (b"SIMPLE  =", FITS),
        (b"\x89HDF\r\n\x1a\n", HDF5),
        (b"MATLAB 5.0", MATLAB),
        (b"PAR1", PARQUET),
        (b"\x1aE\xdf\xa3", VIDEO),
        (b"\x80\x02}", PICKLE),
        (b"\x80\x03}", PICKLE),
        (b"\x80\x04\x95", PICKLE),
        (b"\x80\x05\x95", PICKLE),
        (b"version https://git-lfs", LFS_POINTER),
        (b"7z\xbc\xaf\x27\x1c", SEVEN_ZIP),
        (b"Rar!", RAR),
        (b"\xfd7zXZ", XZ),
        (b"BZh", BZIP2),
        (b"\x28\xb5\x2f\xfd", ZSTD),
    ];
    if let Some((_, format)) = by_magic.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Some(*format);
    }
    if has(128, b"DICM") {
        return Some(DICOM);
    }
    if let [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', ..] = start {
        return Some(NETPBM);
    }
    let text = String::from_utf8_lossy(start).trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).to_lowercase();
    if text.starts_with("<!doctype html") || text.starts_with("<html") || text.starts_with("<head") {
        return Some(HTML);
    }
    if text.contains("<svg") {
        return Some(SVG);
    }
    (text.starts_with("<?xml") || text.starts_with("{\"")).then_some(XML_OR_JSON)
}
