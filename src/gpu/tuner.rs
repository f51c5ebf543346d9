//! Which tiles suit an adapter: on each product of a program a handful is timed, once, and the fastest is kept on disk, by adapter
//! and driver. Tiles change no bit of a result, so nothing depends on this but time.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flate2::Crc;
use serde::{Deserialize, Serialize};

use super::lower::Dispatch;
use super::shaders::SHADERS;
use crate::error::{Error, Result};
use crate::files;

/// After this long no other product of a program is begun with. Those whose turn has not come by then have their usual tiles, and
/// another try the next time.
const BUDGET: Duration = Duration::from_millis(1500);
/// Other tiles have to be faster by so much: less may be noise.
const LEAST_GAIN: f64 = 1.03;
/// A file of some thousand products is smaller.
const LARGEST_FILE: u64 = 16 << 20;

/// The fastest tiles of each product, as far as they are known.
pub(super) struct Tuner {
    about: String,
    path: Option<PathBuf>,
    /// The number of a tiling, by the kernel's name with its usual tiles.
    fastest: Mutex<BTreeMap<String, usize>>,
    tell: Box<dyn Fn(&str) + Send + Sync>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    /// Adapter, driver and shader that they were timed with.
    about: String,
    fastest: BTreeMap<String, usize>,
}

impl Tuner {
    /// Of an adapter with its driver, with what is known of it in a cache; `tell` is told, in one line, when something was timed.
    pub(super) fn new(adapter: &str, cache: Option<&Path>, tell: Box<dyn Fn(&str) + Send + Sync>) -> Arc<Self> {
        let shader = SHADERS.iter().find(|shader| shader.name == "conv").expect("there is a shader of products");
        let about = format!("gpu-gan {}, {adapter}, shader {:08x}", env!("CARGO_PKG_VERSION"), sum(shader.source));
        let path = cache.map(|cache| cache.join("tiles").join(format!("{:08x}.json", sum(&about))));
        // A file that cannot be read is made anew.
        let kept = path.as_deref().and_then(read).filter(|kept| kept.about == about);
        let fastest = Mutex::new(kept.map(|kept| kept.fastest).unwrap_or_default());
        Arc::new(Self { about, path, fastest, tell })
    }

    /// A dispatch with its fastest tiles, or with its usual ones where nothing is known of it.
    pub(super) fn tiled(&self, dispatch: &Dispatch) -> Dispatch {
        dispatch.tiled(self.fastest().get(&dispatch.kernel()).copied().unwrap_or(0))
    }

    /// Times those products of a program of which nothing is known yet. `time` is given a product in all its tilings, and returns
    /// how long each takes, in seconds.
    pub(super) fn tune<'a>(
        &self,
        dispatches: impl Iterator<Item = &'a Dispatch>,
        mut time: impl FnMut(&[Dispatch]) -> Result<Vec<f64>>,
    ) -> Result<()> {
        let unknown: BTreeMap<String, &Dispatch> = {
            let known = self.fastest();
            let products = dispatches.filter(|dispatch| !dispatch.tilings.is_empty());
            products
                .map(|dispatch| (dispatch.kernel(), dispatch))
                .filter(|(kernel, _)| !known.contains_key(kernel))
                .collect()
        };
        let mut unknown: Vec<_> = unknown.into_iter().collect();
        unknown.sort_by(|(_, a), (_, b)| terms(b).total_cmp(&terms(a))); // the largest first, where tiles count most
        let (clock, all, mut timed) = (Instant::now(), unknown.len(), 0);
        for (kernel, product) in unknown {
            if clock.elapsed() > BUDGET {
                break;
            }
            let tilings: Vec<Dispatch> = (0..=product.tilings.len()).map(|number| product.tiled(number)).collect();
            let times = time(&tilings)?;
            let better = times.iter().enumerate().skip(1).filter(|(_, time)| times[0] > LEAST_GAIN * **time);
            let fastest = better.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(number, _)| number);
            self.fastest().insert(kernel, fastest);
            timed += 1;
        }
        if timed > 0 {
            let kept = match self.write() {
                Ok(None) => String::new(),
                Ok(Some(path)) => format!(", and kept in {}", path.display()),
                Err(error) => format!(", and are not kept for the next time: {error}"),
            };
            let seconds = clock.elapsed().as_secs_f64();
            (self.tell)(&format!("tiles          timed for {timed} of {all} products in {seconds:.1} s{kept}"));
        }
        Ok(())
    }

    fn fastest(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.fastest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is known, and what another program has found out meanwhile.
    fn write(&self) -> Result<Option<&Path>> {
        let Some(path) = &self.path else { return Ok(None) };
        let mut fastest = self.fastest().clone();
        for (kernel, number) in
            read(path).filter(|kept| kept.about == self.about).map_or(BTreeMap::new(), |kept| kept.fastest)
        {
            fastest.entry(kernel).or_insert(number);
        }
        let kept =
            serde_json::to_vec(&Kept { about: self.about.clone(), fastest }).expect("plain data has a JSON form");
        files::create_folder(path.parent().expect("the folder `tiles`"))?;
        files::write_atomically(path, |file| file.write_all(&kept).map_err(Error::file("write", path)))?;
        Ok(Some(path))
    }
}

/// About how many terms the workgroups of a product add up.
fn terms(product: &Dispatch) -> f64 {
    let depth = product.constants.iter().find(|(name, _)| *name == "SLICE_DEPTH").map_or(1.0, |&(_, depth)| depth);
    product.workgroups.iter().product::<usize>() as f64 * depth
}

fn read(path: &Path) -> Option<Kept> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(LARGEST_FILE).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn sum(text: &str) -> u32 {
    let mut crc = Crc::new();
    crc.update(text.as_bytes());
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::super::lower::Tiling;
    use super::*;

    /// A product of so many rows with two other tilings, of 100 and 200 workgroups.
    fn product(rows: usize) -> Dispatch {
        let tiling = |groups| Tiling { constants: vec![("TX", groups as f64)], workgroups: [groups, 1, 1] };
        Dispatch {
            shader: "conv",
            entry: "forward",
            constants: vec![("N", rows as f64), ("TX", 8.0)],
            bindings: BTreeMap::new(),
            workgroups: [1, 1, 1],
            tilings: vec![tiling(100), tiling(200)],
        }
    }

    fn tuner(cache: Option<&Path>) -> Arc<Tuner> {
        Tuner::new("a card, a driver", cache, Box::new(|_| ()))
    }

    #[test]
    fn the_fastest_tiles_are_taken_and_the_usual_ones_where_the_gain_may_be_noise() {
        for (times, workgroups) in [
            ([1.0, 0.5, 0.7], 100),
            ([1.0, 0.9, 0.7], 200),
            ([1.0, 0.98, 0.99], 1),
            ([1.0, 2.0, 3.0], 1),
            ([1.0, f64::NAN, 2.0], 1),
            ([1.0, f64::NAN, 0.5], 200),
        ] {
            let tuner = tuner(None);
            tuner.tune([product(5)].iter(), |_| Ok(times.to_vec())).unwrap();
            let tiled = tuner.tiled(&product(5));
            assert_eq!(tiled.workgroups[0], workgroups, "{times:?}");
            assert_eq!(tiled.constants, [("N", 5.0), ("TX", if workgroups == 1 { 8.0 } else { workgroups as f64 })]);
        }
    }

    #[test]
    fn a_product_is_timed_once_in_each_tiling_and_never_again_where_that_is_kept() {
        let cache = tempfile::tempdir().unwrap();
        let asked = |tuner: &Tuner, rows: &[usize]| {
            let products: Vec<Dispatch> = rows.iter().map(|&rows| product(rows)).collect();
            let mut asked = Vec::new();
            let outcome = tuner.tune(products.iter(), |tilings| {
                asked.push((tilings[0].constants[0].1 as usize, tilings.len()));
                Ok(vec![1.0, 0.5, 0.6])
            });
            outcome.unwrap();
            asked
        };
        let first = tuner(Some(cache.path()));
        let beside = tuner(Some(cache.path()));
        assert_eq!(asked(&first, &[3, 4, 3]), [(3, 3), (4, 3)]);
        assert_eq!(asked(&first, &[4, 3]), []);
        assert_eq!(asked(&beside, &[5]), [(5, 3)]);
        let later = tuner(Some(cache.path()));
        assert_eq!(asked(&later, &[3, 4, 5]), []);
        assert_eq!(later.tiled(&product(4)).workgroups[0], 100);
        let other = Tuner::new("a card, another driver", Some(cache.path()), Box::new(|_| ()));
        assert_eq!(asked(&other, &[3]), [(3, 3)]);
    }

    #[test]
    fn the_largest_product_is_timed_first() {
        let sized = |groups| Dispatch { workgroups: [groups, 1, 1], ..product(groups) };
        let mut order = Vec::new();
        let products = [5, 30, 7].map(sized);
        let outcome = tuner(None).tune(products.iter(), |tilings| {
            order.push(tilings[0].workgroups[0]);
            Ok(vec![1.0; 3])
        });
        outcome.unwrap();
        assert_eq!(order, [30, 7, 5]);
    }

    #[test]
    fn a_damaged_file_is_made_anew_and_a_cache_that_cannot_be_written_stops_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let path = tuner(Some(cache.path())).path.clone().unwrap();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "{\"about\": 3").unwrap();
        tuner(Some(cache.path())).tune([product(3)].iter(), |_| Ok(vec![1.0, 0.5, 0.6])).unwrap();
        assert_eq!(tuner(Some(cache.path())).tiled(&product(3)).workgroups[0], 100);

        let file = cache.path().join("a file");
        std::fs::write(&file, "").unwrap();
        let (said, told) = std::sync::mpsc::channel();
        let tell = move |line: &str| said.send(line.to_string()).unwrap();
        let blocked = Tuner::new("a card", Some(&file), Box::new(tell));
        blocked.tune([product(3)].iter(), |_| Ok(vec![1.0, 0.5, 0.6])).unwrap();
        assert_eq!(blocked.tiled(&product(3)).workgroups[0], 100);
        let line = told.recv().unwrap();
        assert!(line.contains("timed for 1 of 1 products") && line.contains("not kept for the next time"), "{line}");
    }

    #[test]
    fn a_number_of_a_file_that_no_tiling_has_means_the_usual_tiles() {
        let tuner = tuner(None);
        tuner.fastest().insert(product(3).kernel(), 77);
        assert_eq!(tuner.tiled(&product(3)).workgroups[0], 1);
    }
}
