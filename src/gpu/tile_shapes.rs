//! Files of tile shapes: the cache of the autotuner, and the record of a run.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;

/// The largest file that is read, in bytes. A file about several thousand products is smaller.
const MAX_FILE_SIZE: u64 = 16 << 20;

/// The tile shapes of matrix products on one adapter.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TileShapes {
    /// What they hold for: version, adapter, driver and shader.
    pub(super) environment: String,
    /// The number of the tile shape, 0 for the default one, by the kernel with its default tile shape.
    pub(super) numbers: BTreeMap<String, usize>,
}

impl TileShapes {
    /// Reads a file. `None` if it cannot be read, is damaged or holds for another environment: it is then as good as none.
    pub(super) fn read(path: &Path, environment: &str) -> Option<Self> {
        let mut bytes = Vec::new();
        std::fs::File::open(path).ok()?.take(MAX_FILE_SIZE).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|file: &Self| file.environment == environment)
    }

    /// Writes a file, whose folder exists.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).expect("plain data has a JSON form");
        files::write_atomically(path, |file| file.write_all(&json).map_err(Error::file("write", path)))
    }
}

/// The tile shapes that the matrix products of a run have on a GPU, in a file of its folder. A run that is resumed takes them from there
/// and times nothing again, whatever other runs stored in the cache. Clones share the record.
///
/// A record that is damaged, or of another version, adapter or driver, is replaced.
#[derive(Debug, Clone, Default)]
pub struct TileShapeRecord(Arc<Mutex<RecordFiles>>);

/// The files of a record, and what is known of their content.
#[derive(Debug, Default)]
struct RecordFiles {
    /// The file of the run that is resumed, until it is read.
    resumed: Option<PathBuf>,
    /// The file to write.
    written: Option<PathBuf>,
    /// The tile shapes of the run so far.
    shapes: TileShapes,
}

impl TileShapeRecord {
    /// The record of a run that is resumed. The file is read when a program is built.
    pub fn of_resumed_run(path: &Path) -> Self {
        Self(Arc::new(Mutex::new(RecordFiles { resumed: Some(path.to_path_buf()), ..RecordFiles::default() })))
    }

    /// From now on, writes the tile shapes of each program that is built to the file `path`, whose folder exists.
    pub fn write_to(&self, path: &Path) {
        self.files().written = Some(path.to_path_buf());
    }

    /// The recorded number of the tile shape of a kernel.
    pub(super) fn number(&self, environment: &str, kernel: &str) -> Option<usize> {
        self.files().shapes_in(environment).get(kernel).copied()
    }

    /// Records the tile shapes of products.
    pub(super) fn add(&self, environment: &str, products: impl Iterator<Item = (String, usize)>) -> Result<()> {
        let mut files = self.files();
        let Some(path) = files.written.clone() else { return Ok(()) };
        files.shapes_in(environment).extend(products);
        if files.shapes.numbers.is_empty() { Ok(()) } else { files.shapes.write(&path) }
    }

    fn files(&self) -> MutexGuard<'_, RecordFiles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordFiles {
    /// The tile shapes of an environment; those of another one are forgotten.
    fn shapes_in(&mut self, environment: &str) -> &mut BTreeMap<String, usize> {
        let resumed = self.resumed.take().and_then(|path| TileShapes::read(&path, environment));
        if let Some(shapes) = resumed {
            self.shapes = shapes;
        }
        if self.shapes.environment != environment {
            self.shapes = TileShapes { environment: environment.into(), numbers: BTreeMap::new() };
        }
        &mut self.shapes.numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn products(list: &[(&str, usize)]) -> impl Iterator<Item = (String, usize)> {
        list.iter().map(|&(kernel, number)| (kernel.to_string(), number)).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn a_resumed_run_has_the_tile_shapes_of_its_record_and_writes_them_to_its_own_folder() {
        let place = tempfile::tempdir().unwrap();
        let [first, second] = ["first.json", "second.json"].map(|name| place.path().join(name));
        let begun = TileShapeRecord::default();
        begun.add("a card", products(&[("lost", 1)])).unwrap(); // no folder is known yet
        begun.write_to(&first);
        begun.add("a card", products(&[])).unwrap();
        assert!(!first.exists(), "a device without tile shapes records nothing");
        begun.add("a card", products(&[("one", 2)])).unwrap();
        begun.clone().add("a card", products(&[("two", 0)])).unwrap();

        let resumed = TileShapeRecord::of_resumed_run(&first);
        assert_eq!(["one", "two", "lost"].map(|kernel| resumed.number("a card", kernel)), [Some(2), Some(0), None]);
        resumed.write_to(&second);
        resumed.add("a card", products(&[("three", 3)])).unwrap();
        let numbers = TileShapes::read(&second, "a card").unwrap().numbers;
        assert_eq!(numbers, products(&[("one", 2), ("three", 3), ("two", 0)]).collect());
        assert_eq!(TileShapes::read(&first, "a card").unwrap().numbers.len(), 2);
    }

    #[test]
    fn a_record_that_is_damaged_missing_or_of_another_adapter_is_none_and_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("record.json");
        let recorded = TileShapes { environment: "another card".into(), numbers: products(&[("one", 2)]).collect() };
        let damages: [&dyn Fn(); 4] = [
            &|| std::fs::write(&path, "{\"environment\": \"a card\", \"numbers\": {\"one\": -1}}").unwrap(),
            &|| std::fs::write(&path, [0xff; 100]).unwrap(),
            &|| std::fs::remove_file(&path).unwrap(),
            &|| recorded.write(&path).unwrap(),
        ];
        for damage in damages {
            damage();
            let record = TileShapeRecord::of_resumed_run(&path);
            assert_eq!(record.number("a card", "one"), None);
            record.write_to(&path);
            record.add("a card", products(&[("two", 1)])).unwrap();
            assert_eq!(TileShapes::read(&path, "a card").unwrap().numbers, products(&[("two", 1)]).collect());
        }
    }
}
