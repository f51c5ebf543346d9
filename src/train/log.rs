//! The log of a run: a row for each step in `losses.csv`, for spreadsheets, and in `log.jsonl`, for programs.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;
use crate::metrics::FrechetBlocks;

/// The log row of a step. A resumed run writes the same rows as a run that was not stopped, except for the speed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The number of the step, counted from 1.
    pub step: u64,
    /// The epoch that the step begins in, counted from 1.
    pub epoch: u64,
    /// The discriminator's loss, on real and on generated images together, in nats.
    pub d_loss: f32,
    /// The generator's loss, in nats.
    pub g_loss: f32,
    /// D(x): the mean probability of being real that the discriminator assigns to real images, 0 to 1.
    pub d_real: f32,
    /// D(G(z)): the mean probability of being real that the discriminator assigns to generated images before its update, 0 to 1.
    pub d_fake: f32,
    /// The accuracy of the discriminator, 0 to 1.
    pub d_accuracy: f32,
    /// The Fréchet distance after this step, if it was computed. `None` is an empty cell or null.
    pub fd: Option<f32>,
    /// The standard error of the Fréchet distance, if it was computed. `None` is an empty cell or null.
    pub fd_se: Option<f32>,
    /// The influence of blocks of images on the Fréchet distance, if it was computed. `None` is an empty cell or null.
    pub fd_blocks: Option<FrechetBlocks>,
    /// The number of real images per second, as a moving average.
    pub images_per_second: f32,
}

impl Row {
    /// The rows of a run's log, in the order of their steps.
    ///
    /// # Errors
    ///
    /// Where there are logs and none of them can be read.
    pub fn all_of(run: &Path) -> Result<Vec<Self>> {
        read(&[run.join(CSV), run.join(JSONL)]).map(|(rows, _)| rows)
    }
}

/// The columns of `losses.csv`, which are the fields of [`Row`].
const COLUMNS: [&str; 11] = [
    "step",
    "epoch",
    "d_loss",
    "g_loss",
    "d_real",
    "d_fake",
    "d_accuracy",
    "fd",
    "fd_se",
    "fd_blocks",
    "images_per_second",
];
/// The columns that logs of earlier versions may lack.
const LATER_COLUMNS: [&str; 3] = ["fd", "fd_se", "fd_blocks"];

/// The file name of the log for spreadsheets.
const CSV: &str = "losses.csv";
/// The file name of the log for programs.
const JSONL: &str = "log.jsonl";
/// The suffix that a log gets when it cannot be read and is renamed.
const UNREADABLE: &str = ".unreadable";

/// Both log files, open for appending.
pub(super) struct Log {
    /// The writer of `losses.csv`.
    csv: csv::Writer<File>,
    /// The writer of `log.jsonl`.
    jsonl: BufWriter<File>,
    /// The paths of `losses.csv` and `log.jsonl`.
    paths: [PathBuf; 2],
}

/// The result of [`Log::open`].
pub(super) struct OpenedLog {
    /// The log, to append to.
    pub(super) log: Log,
    /// The rows up to the step at which the log was opened.
    pub(super) rows: Vec<Row>,
    /// A sentence about a file that could not be read and was renamed, if any.
    pub(super) warning: Option<String>,
}

impl Log {
    /// Opens both files of a run folder to continue after `step`. Rows of later steps, which an interrupted run may have left, are removed.
    ///
    /// # Errors
    ///
    /// If there are log files and none of them can be read. Then no file is changed.
    pub(super) fn open(folder: &Path, step: u64) -> Result<OpenedLog> {
        let paths = [folder.join(CSV), folder.join(JSONL)];
        let (rows, warning) = read(&paths)?;
        let rows: Vec<Row> = rows.into_iter().take_while(|row| row.step <= step).collect();
        let [csv_path, jsonl_path] = &paths;
        files::write_atomically(csv_path, |file| {
            let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(file);
            writer.write_record(COLUMNS).map_err(|error| csv_error(csv_path, error))?;
            rows.iter().try_for_each(|row| writer.serialize(row)).map_err(|error| csv_error(csv_path, error))?;
            writer.flush().map_err(Error::file("write", csv_path))
        })?;
        files::write_atomically(jsonl_path, |file| {
            rows.iter().try_for_each(|row| write_json(file, row)).map_err(Error::file("write", jsonl_path))
        })?;
        let append = |path: &Path| OpenOptions::new().append(true).open(path).map_err(Error::file("write", path));
        let csv = csv::WriterBuilder::new().has_headers(false).from_writer(append(csv_path)?);
        let jsonl = BufWriter::new(append(jsonl_path)?);
        Ok(OpenedLog { log: Self { csv, jsonl, paths }, rows, warning })
    }

    pub(super) fn write(&mut self, row: &Row) -> Result<()> {
        self.csv.serialize(row).map_err(|error| csv_error(&self.paths[0], error))?;
        write_json(&mut self.jsonl, row).map_err(Error::file("write", &self.paths[1]))
    }

    /// Writes all rows to the files, so that other programs can read them.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.csv.flush().map_err(Error::file("write", &self.paths[0]))?;
        self.jsonl.flush().map_err(Error::file("write", &self.paths[1]))
    }
}

/// Reads the rows of the first log file that can be read. If the other file cannot be read, it is renamed, and a sentence says so.
fn read(paths: &[PathBuf; 2]) -> Result<(Vec<Row>, Option<String>)> {
    let mut rows = None;
    let mut unreadable = Vec::new();
    for path in paths.iter().filter(|path| path.exists()) {
        let bytes = fs::read(path).map_err(Error::file("read", path))?;
        let text = str::from_utf8(&bytes).map_err(|error| error.to_string());
        match text.and_then(if path.ends_with(CSV) { rows_of_csv } else { rows_of_jsonl }) {
            Ok(read) => drop(rows.get_or_insert(read)),
            Err(reason) => unreadable.push((path, reason)),
        }
    }
    let Some((path, reason)) = unreadable.first() else { return Ok((rows.unwrap_or_default(), None)) };
    let Some(rows) = rows else {
        return Err(Error::Checkpoint {
            message: format!("{} is not the log of a run: {reason}", path.display()),
            hint: "restore the log as the run wrote it, or rename it to begin a new log".into(),
        });
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(UNREADABLE);
    fs::rename(path, &aside).map_err(Error::file("rename", path))?;
    let warning = format!(
        "{} is not the log of a run ({reason}); it is renamed to {}, and restored from the other log file",
        path.display(),
        Path::new(&aside).display()
    );
    Ok((rows, Some(warning)))
}

/// The complete lines of a text.
fn whole_lines(text: &str) -> &str {
    &text[..text.rfind('\n').map_or(0, |end| end + 1)]
}

fn rows_of_csv(text: &str) -> Result<Vec<Row>, String> {
    let mut reader = csv::Reader::from_reader(whole_lines(text).as_bytes());
    let header = reader.headers().map_err(|error| error.to_string())?;
    let lacks = |column: &&&str| !LATER_COLUMNS.contains(column) && !header.iter().any(|name| name == **column);
    if let Some(column) = COLUMNS.iter().find(lacks) {
        // A file that ends in its first line has no rows.
        return if header.is_empty() { Ok(Vec::new()) } else { Err(format!("it has no column {column}")) };
    }
    let rows = reader.deserialize().enumerate();
    rows.map(|(number, row)| row.map_err(|error: csv::Error| format!("row {}: {error}", number + 1))).collect()
}

fn rows_of_jsonl(text: &str) -> Result<Vec<Row>, String> {
    let lines = whole_lines(text).lines().enumerate();
    lines
        .map(|(number, line)| serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1)))
        .collect()
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
            fd_se: None,
            fd_blocks: None,
            images_per_second: 1000.0,
        }
    }

    #[test]
    fn resuming_removes_later_rows_and_an_incomplete_row() {
        let folder = tempfile::tempdir().unwrap();
        let OpenedLog { mut log, .. } = Log::open(folder.path(), 0).unwrap();
        (1..=5).try_for_each(|step| log.write(&row(step))).unwrap();
        log.flush().unwrap();
        let path = folder.path().join("losses.csv");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.strip_suffix("1000.0\n").unwrap()).unwrap();

        let OpenedLog { mut log, rows, .. } = Log::open(folder.path(), 4).unwrap();
        assert_eq!(rows, [1, 2, 3, 4].map(row));
        log.write(&row(5)).unwrap();
        log.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::read_to_string(folder.path().join("log.jsonl")).unwrap().lines().count(), 5);

        drop(Log::open(folder.path(), 2).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    }

    #[test]
    fn rows_are_written_under_the_names_of_their_columns() {
        let folder = tempfile::tempdir().unwrap();
        let OpenedLog { mut log, .. } = Log::open(folder.path(), 0).unwrap();
        let blocks = ["0.5"; 20].join(" ");
        let fd_blocks = Some(FrechetBlocks::try_from(blocks.clone()).unwrap());
        let rows = [row(1), Row { fd: Some(12.5), fd_se: Some(0.5), fd_blocks, ..row(2) }];
        rows.iter().try_for_each(|row| log.write(row)).unwrap();
        log.flush().unwrap();
        let csv = fs::read_to_string(folder.path().join("losses.csv")).unwrap();
        let expected = [
            "step,epoch,d_loss,g_loss,d_real,d_fake,d_accuracy,fd,fd_se,fd_blocks,images_per_second\n",
            "1,1,1.25,0.1,0.5,0.25,0.75,,,,1000.0\n",
            &format!("2,1,1.25,0.1,0.5,0.25,0.75,12.5,0.5,{blocks},1000.0\n"),
        ];
        assert_eq!(csv, expected.concat());
        let json = fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
        assert!(json.lines().map(|line| serde_json::from_str::<Row>(line).unwrap()).eq(rows));
        assert_eq!(Log::open(folder.path(), 2).unwrap().rows, rows);
    }

    #[test]
    fn a_log_without_the_columns_of_distances_loads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.csv");
        let header = "step,epoch,d_loss,g_loss,d_real,d_fake,d_accuracy,images_per_second\n";
        fs::write(&path, format!("{header}1,1,1.25,0.1,0.5,0.25,0.75,1000.0\n")).unwrap();
        assert_eq!(Log::open(folder.path(), 1).unwrap().rows, [row(1)]);
        assert!(fs::read_to_string(&path).unwrap().ends_with("0.75,,,,1000.0\n"));
        assert_eq!(serde_json::from_str::<Row>(r#"{"step":1,"epoch":1,"d_loss":1.25,"g_loss":0.1,"d_real":0.5,"d_fake":0.25,"d_accuracy":0.75,"images_per_second":1000.0}"#).unwrap(), row(1));
    }

    /// A folder with a log of three steps.
    fn three_steps() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path(), 0).unwrap().log;
        (1..=3).try_for_each(|step| log.write(&row(step))).unwrap();
        log.flush().unwrap();
        folder
    }

    /// The table as a spreadsheet saves it in countries with a decimal comma.
    fn with_semicolons(text: &str) -> String {
        text.replace(',', ";").replace('.', ",")
    }

    #[test]
    fn a_log_that_a_spreadsheet_changed_is_renamed_and_the_other_one_read() {
        let folder = three_steps();
        let path = folder.path().join(CSV);
        let good = fs::read_to_string(&path).unwrap();
        for changed in [with_semicolons(&good), good.replace("2,1,1.25", "2,1,one")] {
            fs::write(&path, &changed).unwrap();
            let OpenedLog { rows, warning, .. } = Log::open(folder.path(), 3).unwrap();
            assert_eq!(rows, [1, 2, 3].map(row));
            assert!(warning.unwrap().contains("losses.csv is not the log of a run"));
            assert_eq!(fs::read_to_string(&path).unwrap(), good);
            assert_eq!(fs::read_to_string(folder.path().join("losses.csv.unreadable")).unwrap(), changed);
        }
    }

    #[test]
    fn logs_that_cannot_be_read_are_not_changed() {
        let folder = three_steps();
        let [csv, jsonl] = [CSV, JSONL].map(|name| folder.path().join(name));
        fs::write(&csv, with_semicolons(&fs::read_to_string(&csv).unwrap())).unwrap();
        fs::write(&jsonl, "[]\n").unwrap();
        let before = [&csv, &jsonl].map(|path| fs::read(path).unwrap());
        let error = Log::open(folder.path(), 3).map(drop).unwrap_err();
        assert!(error.to_string().contains("losses.csv is not the log of a run: it has no column step"), "{error}");
        assert_eq!([&csv, &jsonl].map(|path| fs::read(path).unwrap()), before);
        fs::remove_file(&csv).unwrap();
        assert!(Log::open(folder.path(), 3).is_err());
        assert!(!csv.exists());
    }
}
