//! The parts of `gpu-gan sample --shard`, and `--join`.

use std::fmt;
use std::path::{Path, PathBuf};

use flate2::Crc;
use serde::{Deserialize, Serialize};

use super::Outcome;
use super::output::ResultFormat;
use super::sample_folder::SampleOrigin;
use crate::error::Result;
use crate::files;
use crate::progress::Console;
use crate::report::array_part::{self, ArrayPart};
use crate::shard::{Shard, ShardFile, damaged, in_order, other_device, parse_description};

/// The version of the note in a part. It increases when older versions of the program cannot join new parts, or would join parts that do
/// not belong together: a reader of format 1 ignores rejection sampling.
const FORMAT: u32 = 2;

/// The note in a part: which part of which array it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SamplePart {
    /// The version of the note.
    format: u32,
    /// The version of the program.
    version: String,
    /// The shard.
    shard: Shard,
    /// The description of the device.
    device: String,
    /// The checkpoint.
    #[serde(flatten)]
    origin: SampleOrigin,
    /// The number of images of all shards, which is the number of rows of the array.
    images: usize,
    /// The CRC-32 of the seeds of all shards, or of the latents from a file, in hexadecimal.
    inputs: String,
    /// The listed classes. `None` if the model is not conditional, or seeds draw the classes.
    classes: Option<Vec<u8>>,
}

impl SamplePart {
    /// The note of an array with a row for each of `images` images, of which this process draws a shard. `inputs` are the bytes that
    /// determine all latents, `classes` the listed classes.
    pub(super) fn new(
        shard: Shard,
        device: String,
        origin: SampleOrigin,
        images: usize,
        inputs: &[u8],
        classes: Option<Vec<u8>>,
    ) -> Self {
        let mut crc = Crc::new();
        crc.update(inputs);
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            shard,
            device,
            origin,
            images,
            inputs: format!("{:08x}", crc.sum()),
            classes,
        }
    }

    /// The note as text.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("plain data has a JSON form")
    }

    /// What must be equal in all parts of an array.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let SampleOrigin { step, raw, weights, truncation, reject } = &self.origin;
        let yes = |given: bool| if given { "given" } else { "not given" }.to_string();
        vec![
            ("the version of gpu-gan", self.version.clone()),
            ("the training step of the checkpoint", step.to_string()),
            ("--raw", yes(*raw)),
            ("the weights of the checkpoint (CRC-32)", weights.clone()),
            ("--truncation", truncation.to_string()),
            ("--reject", yes(*reject)),
            ("the number of images", self.images.to_string()),
            ("the seeds (CRC-32)", self.inputs.clone()),
            ("the classes", format!("{:?}", self.classes.as_deref().unwrap_or_default())),
        ]
    }
}

/// The printed result of `gpu-gan sample --join`.
#[derive(Serialize)]
struct JoinResult<'a> {
    /// The number of rows of the array: images or latents.
    rows: u64,
    /// The number of joined parts.
    parts: usize,
    /// The file of the array.
    out: &'a Path,
}

impl fmt::Display for JoinResult<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows of {} parts in {}", self.rows, self.parts, self.out.display())
    }
}

/// Joins the arrays of all shards to one file, with the bytes that one process would have written.
///
/// # Errors
///
/// If a part is damaged, missing or given twice, or the parts do not belong together.
pub(super) fn join(paths: &[PathBuf], out: &Path, format: &ResultFormat, console: &Console) -> Result<Outcome> {
    files::check_file(out)?;
    let parts = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let parts = in_order(parts, |(array, part)| [part.facts(), vec![("the kind of a row", array.row())]].concat())?;
    if let Some(warning) = other_device(&parts, |(_, part)| &part.device) {
        console.warning(&warning);
    }
    let arrays: Vec<ArrayPart> = parts.into_iter().map(|part| part.content.0).collect();
    let task = console.task("joining parts", arrays.len() as u64);
    array_part::join(out, &arrays, &task)?;
    drop(task);
    let rows = arrays.iter().map(ArrayPart::rows).sum();
    format.print(&JoinResult { rows, parts: arrays.len(), out })?;
    Ok(Outcome::Done)
}

/// Opens a part, and checks that it has the rows of its shard.
fn read(path: &Path) -> Result<ShardFile<(ArrayPart, SamplePart)>> {
    let array = ArrayPart::open(path)?;
    let part: SamplePart = parse_description(array.note(), FORMAT).map_err(|what| damaged(path, &what))?;
    if part.shard.range(part.images).len() as u64 != array.rows() {
        return Err(damaged(
            path,
            &format!("it has {} rows, which are not those of shard {}", array.rows(), part.shard),
        ));
    }
    Ok(ShardFile { path: path.to_path_buf(), shard: part.shard, content: (array, part) })
}
