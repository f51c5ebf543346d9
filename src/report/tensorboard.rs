//! TensorBoard event files: scalars, images and texts of a run.
//!
//! An event file is a sequence of records (`TFRecord`): the length of the data (u64, little-endian), its masked CRC-32C (u32), the data,
//! and the masked CRC-32C of the data. The data is a protobuf message `Event` of TensorBoard's
//! [event.proto](https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto).

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::files;
use crate::protobuf::Message;

/// The name of the event file. TensorBoard reads every file with `tfevents` in its name.
const FILE_NAME: &str = "events.out.tfevents.gpu-gan";

/// The version of the format, which is the first event of every file.
const FILE_VERSION: &str = "brain.Event:2";

/// Appends events to the event file of a run. Events are kept in memory until [`Self::flush`].
pub struct EventWriter {
    /// The path of the event file.
    path: PathBuf,
    /// The event file, open for appending.
    file: BufWriter<File>,
    /// The last step with an event when the file was opened.
    last_step: Option<u64>,
}

impl EventWriter {
    /// Opens the event file in `folder`. Events after `step` and a damaged end are removed, so a run that is resumed at `step` has each
    /// event once. With `step` 0, all events are removed.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join(FILE_NAME);
        let old = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        let events: Vec<&[u8]> = records(&old).collect();
        let kept: Vec<&[u8]> = events.iter().copied().filter(|event| step > 0 && step_of(event) <= step).collect();
        let is_whole = kept.iter().map(|event| event.len() + RECORD_OVERHEAD).sum::<usize>() == old.len();
        if kept.is_empty() || !is_whole {
            files::write_atomically(&path, |out| {
                let failed = || Error::file("write", &path);
                if kept.is_empty() {
                    let version = event(0).string(3, FILE_VERSION);
                    write_record(out, version.encoded()).map_err(failed())?;
                }
                kept.iter().try_for_each(|event| write_record(out, event)).map_err(failed())
            })?;
        }
        let last_step = kept.iter().map(|event| step_of(event)).max().filter(|&step| step > 0);
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::file("write", &path))?;
        Ok(Self { path, file: BufWriter::new(file), last_step })
    }

    /// The last step with an event when the file was opened. `None` if no step after 0 had one.
    pub fn last_step(&self) -> Option<u64> {
        self.last_step
    }

    /// Adds scalars of a step, as tags and values.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f32)]) -> Result<()> {
        let summary = values.iter().fold(Message::default(), |summary, &(tag, value)| {
            summary.message(1, &Message::default().string(1, tag).float(2, value))
        });
        self.write(step, &summary)
    }

    /// Adds the bytes of a PNG file as an image of `[height, width, channels]`.
    pub fn png(&mut self, step: u64, tag: &str, png: &[u8], [height, width, channels]: [usize; 3]) -> Result<()> {
        let size = Message::default().int(1, height as i64).int(2, width as i64).int(3, channels as i64);
        let value = Message::default().string(1, tag).message(4, &size.bytes(4, png));
        self.write(step, &Message::default().message(1, &value))
    }

    /// Adds a text. TensorBoard shows it as Markdown.
    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<()> {
        let plugin = Message::default().string(1, "text");
        let metadata = Message::default().message(1, &plugin);
        let shape = Message::default().message(2, &Message::default().int(1, 1));
        // 7 is DT_STRING.
        let tensor = Message::default().int(1, 7).message(2, &shape).string(8, text);
        let value = Message::default().string(1, tag).message(8, &tensor).message(9, &metadata);
        self.write(step, &Message::default().message(1, &value))
    }

    /// Writes all events to the file, so that TensorBoard can read them.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::file("write", &self.path))
    }

    fn write(&mut self, step: u64, summary: &Message) -> Result<()> {
        let event = event(step).message(5, summary);
        write_record(&mut self.file, event.encoded()).map_err(Error::file("write", &self.path))
    }
}

/// An event with the fields that all events have: the current time, in seconds since 1970, and the step.
fn event(step: u64) -> Message {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Message::default().double(1, now).int(2, step as i64)
}

/// The number of bytes of a record without its data: the length and two checksums.
const RECORD_OVERHEAD: usize = 8 + 4 + 4;

fn write_record(out: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked_crc(&length).to_le_bytes())?;
    out.write_all(data)?;
    out.write_all(&masked_crc(data).to_le_bytes())
}

/// The data of all records before the first damaged one.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (length_crc, rest) = rest.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*length_crc) != masked_crc(length) {
            return None;
        }
        let (data, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let (data_crc, rest) = rest.split_first_chunk::<4>()?;
        bytes = rest;
        (u32::from_le_bytes(*data_crc) == masked_crc(data)).then_some(data)
    })
}

/// The masked CRC-32C of `TFRecord`: rotated by 15 bits, plus a constant.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The step of an event that [`event`] began; 0 for any other event.
fn step_of(event: &[u8]) -> u64 {
    let [0x09, _, _, _, _, _, _, _, _, 0x10, step @ ..] = event else { return 0 };
    let end = step.iter().position(|byte| byte & 0x80 == 0).map_or(0, |last| last + 1);
    step[..end.min(9)].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(folder: &Path) -> Vec<u64> {
        records(&fs::read(folder.join(FILE_NAME)).unwrap()).map(step_of).collect()
    }

    #[test]
    fn a_record_has_the_layout_of_the_format() {
        let mut record = Vec::new();
        write_record(&mut record, b"gpu-gan").unwrap();
        assert_eq!(record.len(), 7 + RECORD_OVERHEAD);
        assert_eq!(record[..8], [7, 0, 0, 0, 0, 0, 0, 0]);
        // The check value of CRC-32C.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert!(records(&record).eq([b"gpu-gan"]));
        for at in 0..record.len() {
            let mut damaged = record.clone();
            damaged[at] ^= 4;
            assert_eq!(records(&damaged).count(), 0, "byte {at}");
            assert_eq!(records(&record[..at]).count(), 0, "{at} bytes");
        }
    }

    #[test]
    fn a_resumed_run_has_each_event_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventWriter::open(folder.path(), 0).unwrap();
        assert_eq!(events.last_step(), None);
        (1..=300).try_for_each(|step| events.scalars(step, &[("loss/d_loss", 0.5)])).unwrap();
        events.png(200, "samples", b"png", [1, 2, 3]).unwrap();
        drop(events);

        let mut events = EventWriter::open(folder.path(), 200).unwrap();
        assert_eq!(events.last_step(), Some(200));
        events.text(201, "settings", "seed = 7").unwrap();
        events.flush().unwrap();
        assert_eq!(steps(folder.path()), (0..=200).chain([200, 201]).collect::<Vec<_>>());

        // The process was killed while it wrote: the damaged end goes.
        let path = folder.path().join(FILE_NAME);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        drop(EventWriter::open(folder.path(), 1000).unwrap());
        assert_eq!(steps(folder.path()), (0..=200).chain([200]).collect::<Vec<_>>());
        // A new run in the same folder removes all events.
        drop(EventWriter::open(folder.path(), 0).unwrap());
        assert_eq!(steps(folder.path()), [0]);
    }

    #[test]
    fn steps_of_any_size_are_read_back() {
        for step in [0, 1, 127, 128, 300, 16_384, u64::from(u32::MAX), 1 << 50] {
            assert_eq!(step_of(event(step).encoded()), step);
        }
        assert_eq!([step_of(b""), step_of(b"no event"), step_of(&event(128).encoded()[..11])], [0; 3]);
    }
}
