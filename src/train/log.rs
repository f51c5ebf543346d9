//! What a run writes about its steps: a line each in `losses.csv`, for spreadsheets, and in `log.jsonl`, for programs.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;

/// One step. A resumed run writes the same as one that never stopped, but for the speed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Counted from 1.
    pub step: u64,
    /// The epoch that the step begins in, counted from 1.
    pub epoch: u64,
    /// The discriminator's loss: on reals and on fakes, in nats.
    pub d_loss: f32,
    /// The generator's loss, in nats.
    pub g_loss: f32,
    /// D(x), 0 to 1.
    pub d_real: f32,
    /// D(G(z)), 0 to 1, before the discriminator's update.
    pub d_fake: f32,
    /// The share of images that the discriminator judges as they are.
    pub d_accuracy: f32,
    /// The Frechet distance measured after this step, if one was. An empty cell, or null.
    pub fd: Option<f32>,
    /// Real images taken in a second, lately.
    pub images_per_second: f32,
}

/// The two files, open.
pub(super) struct Log {
    csv: csv::Writer<File>,
    jsonl: BufWriter<File>,
    paths: [PathBuf; 2],
}

impl Log {
    /// Opens both files of a run folder to go on behind step `step`: rows of later steps, which a run that was cut
    /// off may have left, are removed. Returns the rows that stay.
    pub(super) fn open(folder: &Path, step: u64) -> Result<(Self, Vec<Row>)> {
        let paths = [folder.join("losses.csv"), folder.join("log.jsonl")];
        let [csv_path, jsonl_path] = &paths;
        let rows = if csv_path.exists() { rows_until(csv_path, step)? } else { Vec::new() };
        files::write_atomically(csv_path, |file| {
            let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(file);
            let header = "step,epoch,d_loss,g_loss,d_real,d_fake,d_accuracy,fd,images_per_second";
            writer.write_record(header.split(',')).map_err(|error| csv_error(csv_path, error))?;
            rows.iter().try_for_each(|row| writer.serialize(row)).map_err(|error| csv_error(csv_path, error))?;
            writer.flush().map_err(Error::file("write", csv_path))
        })?;
        files::write_atomically(jsonl_path, |file| {
            rows.iter().try_for_each(|row| write_json(file, row)).map_err(Error::file("write", jsonl_path))
        })?;
        let append = |path: &Path| OpenOptions::new().append(true).open(path).map_err(Error::file("write", path));
        let csv = csv::WriterBuilder::new().has_headers(false).from_writer(append(csv_path)?);
        let jsonl = BufWriter::new(append(jsonl_path)?);
        Ok((Self { csv, jsonl, paths }, rows))
    }

    pub(super) fn write(&mut self, row: &Row) -> Result<()> {
        self.csv.serialize(row).map_err(|error| csv_error(&self.paths[0], error))?;
        write_json(&mut self.jsonl, row).map_err(Error::file("write", &self.paths[1]))
    }

    /// Lets other programs see what was written so far.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.csv.flush().map_err(Error::file("write", &self.paths[0]))?;
        self.jsonl.flush().map_err(Error::file("write", &self.paths[1]))
    }
}

/// The rows of a losses.csv up to a step. A row that was cut off ends them.
fn rows_until(path: &Path, step: u64) -> Result<Vec<Row>> {
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    let whole_lines = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let mut reader = csv::Reader::from_reader(whole_lines.as_bytes());
    Ok(reader.deserialize().map_while(|row: Result<Row, _>| row.ok()).take_while(|row| row.step <= step).collect())
}

fn write_json(file: &mut impl Write, row: &Row) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, row)?;
    writeln!(file)
}

fn csv_error(path: &Path, error: csv::Error) -> Error {
    let source = match error.into_kind() {
        csv::ErrorKind::Io(source) => source,
        other => std::io::Error::other(format!("{other:?}")),
    };
    Error::file("write", path)(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64) -> Row {
        Row {
            step,
            epoch: 1,
            d_loss: 1.25,
            g_loss: 0.1,
            d_real: 0.5,
            d_fake: 0.25,
            d_accuracy: 0.75,
            fd: None,
            images_per_second: 1000.0,
        }
    }

    #[test]
    fn going_on_removes_later_rows_and_a_row_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path(), 0).unwrap();
        (1..=5).try_for_each(|step| log.write(&row(step))).unwrap();
        log.flush().unwrap();
        let path = folder.path().join("losses.csv");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.strip_suffix("1000.0\n").unwrap()).unwrap();

        let (mut log, rows) = Log::open(folder.path(), 4).unwrap();
        assert_eq!(rows, [1, 2, 3, 4].map(row));
        log.write(&row(5)).unwrap();
        log.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::read_to_string(folder.path().join("log.jsonl")).unwrap().lines().count(), 5);

        drop(Log::open(folder.path(), 2).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    }

    #[test]
    fn rows_say_what_their_columns_are_called() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path(), 0).unwrap();
        let rows = [row(1), Row { fd: Some(12.5), ..row(2) }];
        rows.iter().try_for_each(|row| log.write(row)).unwrap();
        log.flush().unwrap();
        let csv = fs::read_to_string(folder.path().join("losses.csv")).unwrap();
        let expected = [
            "step,epoch,d_loss,g_loss,d_real,d_fake,d_accuracy,fd,images_per_second\n",
            "1,1,1.25,0.1,0.5,0.25,0.75,,1000.0\n",
            "2,1,1.25,0.1,0.5,0.25,0.75,12.5,1000.0\n",
        ];
        assert_eq!(csv, expected.concat());
        let json = fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
        assert!(json.lines().map(|line| serde_json::from_str::<Row>(line).unwrap()).eq(rows));
        assert_eq!(Log::open(folder.path(), 2).unwrap().1, rows);
    }

    #[test]
    fn a_log_from_before_there_were_distances_still_loads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.csv");
        let header = "step,epoch,d_loss,g_loss,d_real,d_fake,d_accuracy,images_per_second\n";
        fs::write(&path, format!("{header}1,1,1.25,0.1,0.5,0.25,0.75,1000.0\n")).unwrap();
        assert_eq!(Log::open(folder.path(), 1).unwrap().1, [row(1)]);
        assert!(fs::read_to_string(&path).unwrap().ends_with("0.75,,1000.0\n"));
        assert_eq!(serde_json::from_str::<Row>(r#"{"step":1,"epoch":1,"d_loss":1.25,"g_loss":0.1,"d_real":0.5,"d_fake":0.25,"d_accuracy":0.75,"images_per_second":1000.0}"#).unwrap(), row(1));
    }
}
