//! Autotuning: times each matrix product of a program with several tile shapes, once for each adapter and driver, and stores the
//! fastest on disk. A tile shape changes no bit of a result, so nothing but time depends on the choice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flate2::Crc;

use super::lower::Dispatch;
use super::shaders::Shader;
use super::tile_shapes::{TileShapeRecord, TileShapes};
use crate::error::Result;
use crate::files;

/// The time for timing the products of a program; compiling does not count. Products that it does not reach have the default tile
/// shape, and are timed in another run.
const BUDGET: Duration = Duration::from_millis(1500);
/// Products that are compiled in parallel, with all their tile shapes, before they are timed.
const COMPILED_AT_ONCE: usize = 8;
/// The PCI number of Intel.
const INTEL: u32 = 0x8086;
/// How many times as fast as the default another tile shape must be; a smaller gain may be noise.
const MIN_SPEEDUP: f64 = 1.03;

/// Chooses the tile shape of each product: that of the run's record, or else the fastest one that was measured.
pub(super) struct Tuner {
    /// The fastest tile shapes of the products that were timed so far.
    fastest: Mutex<TileShapes>,
    /// What the tile shapes hold for: version, adapter, driver and shader.
    environment: String,
    /// The PCI number of the adapter's vendor, 0 where it is not known.
    vendor: u32,
    /// The file of the cache.
    path: Option<PathBuf>,
    /// The tile shapes of the run.
    record: TileShapeRecord,
    /// What receives the lines for a person; none where nothing is timed.
    report: Option<Report>,
}

/// Receives a line for a person.
type Report = Box<dyn Fn(&str) + Send + Sync>;

/// What compiles and times products.
pub(super) trait TileBenchmark {
    /// A product, compiled with each of its tile shapes.
    type Prepared;

    /// Compiles products with each of their tile shapes, the default one first.
    fn prepare(&mut self, products: &[&Dispatch]) -> Result<Vec<Self::Prepared>>;

    /// Whether each alternative tile shape gives the bits of the default one. One that does not must not run: the driver, or the
    /// kernel, has a bug.
    fn compare(&mut self, product: &Self::Prepared) -> Result<Vec<bool>>;

    /// Seconds that a product takes with each of its tile shapes, the default one first.
    fn time(&mut self, product: &Self::Prepared) -> Result<Vec<f64>>;
}

impl Tuner {
    /// A tuner for an adapter of a vendor, with its driver, which starts with the contents of the cache. Products in `record` have the tile
    /// shapes that are recorded there, and are not timed. `report` receives one line when products were timed, and one for each product with a
    /// candidate that computes wrong bits.
    pub(super) fn new(
        adapter: &str,
        vendor: u32,
        cache: Option<&Path>,
        record: TileShapeRecord,
        report: Report,
    ) -> Arc<Self> {
        Self::with(adapter, vendor, cache, record, Some(report))
    }

    /// A tuner that only knows the contents of the cache, and times nothing.
    pub(super) fn of_cache(adapter: &str, cache: Option<&Path>) -> Arc<Self> {
        Self::with(adapter, 0, cache, TileShapeRecord::default(), None)
    }

    fn with(
        adapter: &str,
        vendor: u32,
        cache: Option<&Path>,
        record: TileShapeRecord,
        report: Option<Report>,
    ) -> Arc<Self> {
        let shader = Shader::named("conv");
        let environment =
            format!("gpu-gan {}, {adapter}, shader {:08x}", env!("CARGO_PKG_VERSION"), checksum(shader.source));
        let path = cache.map(|cache| cache.join("tiles").join(format!("{:08x}.json", checksum(&environment))));
        let stored = path.as_deref().and_then(|path| TileShapes::read(path, &environment));
        let none = || TileShapes { environment: environment.clone(), numbers: BTreeMap::new() };
        let fastest = Mutex::new(stored.unwrap_or_else(none));
        Arc::new(Self { fastest, environment, vendor, path, record, report })
    }

    /// A dispatch with its recorded tile shape, or else the fastest one, or the default one if it was not timed.
    pub(super) fn apply(&self, dispatch: &Dispatch) -> Dispatch {
        dispatch.with_tile_shape(self.number(&dispatch.kernel()).unwrap_or(0))
    }

    /// The number of the tile shape of a kernel, if it is known.
    fn number(&self, kernel: &str) -> Option<usize> {
        let recorded = self.record.number(&self.environment, kernel);
        recorded.or_else(|| self.fastest().numbers.get(kernel).copied())
    }

    /// Records the tile shapes that products of a run have.
    pub(super) fn record<'a>(&self, dispatches: impl Iterator<Item = &'a Dispatch>) {
        let products = dispatches.filter(|dispatch| !dispatch.tile_shapes.is_empty()).map(Dispatch::kernel);
        let numbered: Vec<_> = products.map(|kernel| (self.number(&kernel).unwrap_or(0), kernel)).collect();
        let numbered = numbered.into_iter().map(|(number, kernel)| (kernel, number));
        if let Err(error) = self.record.add(&self.environment, numbered) {
            self.say(&format!("warning        the tile shapes of this run are not recorded: {error}"));
        }
    }

    /// The products that are still to be timed, each once and the largest first, where the tile shape matters most.
    pub(super) fn untimed<'a>(&self, dispatches: impl Iterator<Item = &'a Dispatch>) -> Vec<&'a Dispatch> {
        let products = dispatches.filter(|dispatch| self.report.is_some() && !dispatch.tile_shapes.is_empty());
        let untimed: BTreeMap<String, &Dispatch> = products
            .map(|dispatch| (dispatch.kernel(), dispatch))
            .filter(|(kernel, _)| self.number(kernel).is_none())
            .collect();
        let mut untimed: Vec<&Dispatch> = untimed.into_values().collect();
        untimed.sort_by(|a, b| multiply_adds(b).total_cmp(&multiply_adds(a)));
        untimed
    }

    /// Times products until [`BUDGET`] is spent.
    pub(super) fn tune(&self, products: &[&Dispatch], benchmark: &mut impl TileBenchmark) -> Result<()> {
        let (all, mut timed, mut spent) = (products.len(), 0, Duration::ZERO);
        for batch in products.chunks(COMPILED_AT_ONCE) {
            if spent > BUDGET {
                break;
            }
            let candidates: Vec<Vec<usize>> = batch.iter().map(|product| candidates(product, self.vendor)).collect();
            let offered: Vec<Dispatch> =
                batch.iter().zip(&candidates).map(|(product, all)| with_shapes(product, all)).collect();
            let prepared = benchmark.prepare(&offered.iter().collect::<Vec<_>>())?;
            for ((offered, candidates), prepared) in offered.iter().zip(&candidates).zip(prepared) {
                if spent > BUDGET {
                    break;
                }
                let correct = benchmark.compare(&prepared)?;
                let begin = Instant::now();
                let seconds = benchmark.time(&prepared)?;
                spent += begin.elapsed();
                let number = fastest(&seconds, &correct).checked_sub(1).map_or(0, |fastest| candidates[fastest]);
                self.fastest().numbers.insert(offered.kernel(), number);
                self.report_wrong_bits(offered, &correct);
                timed += 1;
            }
        }
        if timed > 0 {
            let stored = match self.write() {
                Ok(None) => String::new(),
                Ok(Some(path)) => format!(", stored in {}", path.display()),
                Err(error) => format!(", not stored for the next run: {error}"),
            };
            let seconds = spent.as_secs_f64();
            self.say(&format!(
                "autotuning     timed the tile shapes of {timed} of {all} matrix products in {seconds:.1} s{stored}"
            ));
        }
        Ok(())
    }

    fn report_wrong_bits(&self, product: &Dispatch, correct: &[bool]) {
        let wrong = correct.iter().filter(|correct| !**correct).count();
        if wrong > 0 {
            self.say(&format!(
                "warning        {wrong} of {} tile shapes of {} compute other bits than the default one and are not used: run \
                 `gpu-gan verify`",
                product.tile_shapes.len(),
                product.label()
            ));
        }
    }

    fn say(&self, line: &str) {
        if let Some(report) = &self.report {
            report(line);
        }
    }

    fn fastest(&self) -> MutexGuard<'_, TileShapes> {
        self.fastest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all that is known, together with what another process stored in the meantime.
    fn write(&self) -> Result<Option<&Path>> {
        let Some(path) = &self.path else { return Ok(None) };
        let mut shapes = self.fastest().clone();
        for (kernel, number) in TileShapes::read(path, &self.environment).unwrap_or_default().numbers {
            shapes.numbers.entry(kernel).or_insert(number);
        }
        files::create_folder(path.parent().expect("the folder `tiles`"))?;
        shapes.write(path)?;
        Ok(Some(path))
    }
}

/// The numbers of the alternative tile shapes that are worth timing on GPUs of a vendor, the most promising first, by what the vendor's compiler
/// says (`docs/performance.md`). Intel's spills registers of blocks of 8 x 8, and runs twice as many invocations at once of more products
/// where stages are not unrolled.
fn candidates(product: &Dispatch, vendor: u32) -> Vec<usize> {
    let is = |number: &usize, name| product.tile_shapes[number - 1].value(name).unwrap_or(0.0);
    let mut numbers: Vec<usize> = (1..=product.tile_shapes.len()).collect();
    if vendor == INTEL {
        numbers.retain(|number| is(number, "DOWN") < 2.0);
        numbers.sort_by(|one, other| is(other, "ROLLED").total_cmp(&is(one, "ROLLED")));
    }
    numbers
}

/// A product with some of its alternative tile shapes, in another order.
fn with_shapes(product: &Dispatch, numbers: &[usize]) -> Dispatch {
    let tile_shapes = numbers.iter().map(|number| product.tile_shapes[number - 1].clone()).collect();
    Dispatch { tile_shapes, ..product.clone() }
}

/// The number of the fastest tile shape: the default one, 0, unless another is faster by [`MIN_SPEEDUP`].
/// Only those of the others that are `correct` count.
fn fastest(seconds: &[f64], correct: &[bool]) -> usize {
    let others = seconds.iter().enumerate().skip(1).zip(correct).filter(|(_, correct)| **correct);
    let faster = others.map(|(other, _)| other).filter(|(_, time)| seconds[0] > MIN_SPEEDUP * **time);
    faster.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(number, _)| number)
}

/// About how many multiply-adds the workgroups of a product compute, up to a constant factor.
fn multiply_adds(product: &Dispatch) -> f64 {
    let factors = ["TX", "TY", "DOWN", "ACROSS", "SPLIT_DEPTH"].map(|name| product.value(name).unwrap_or(1.0));
    product.workgroups.iter().product::<usize>() as f64 * factors.iter().product::<f64>()
}

fn checksum(text: &str) -> u32 {
    let mut crc = Crc::new();
    crc.update(text.as_bytes());
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product of `rows` rows with two alternative tile shapes, of 100 and 200 workgroups.
    fn product(rows: usize) -> Dispatch {
        let shape = |lanes: usize, workgroups: usize| Dispatch {
            shader: "conv",
            entry: "forward",
            overrides: vec![("N", rows as f64), ("TX", lanes as f64)],
            bindings: Vec::new(),
            workgroups: [workgroups, 1, 1],
            tile_shapes: Vec::new(),
        };
        Dispatch { tile_shapes: vec![shape(100, 100), shape(200, 200)], ..shape(8, 1) }
    }

    #[test]
    fn intels_compiler_is_not_offered_what_it_spills_and_first_what_it_runs_widely() {
        let mut product = product(1000);
        product.tile_shapes[0].overrides.push(("DOWN", 2.0));
        let plain = product.tile_shapes[1].clone();
        product.tile_shapes.push(Dispatch { overrides: vec![("ROLLED", 1.0)], ..plain });
        assert_eq!(candidates(&product, 0x10de), [1, 2, 3]);
        assert_eq!(candidates(&product, INTEL), [3, 2]);
        assert_eq!(with_shapes(&product, &[3, 2]).with_tile_shape(1), product.with_tile_shape(3));

        // The recorded number is that of the product, not that of the order.
        let tuner = Tuner::new("a card", INTEL, None, TileShapeRecord::default(), Box::new(|_| ()));
        tune(&tuner, std::slice::from_ref(&product), [3.0, 1.0, 2.0]);
        assert_eq!(tuner.apply(&product), product.with_tile_shape(3));
    }

    fn tuner(cache: Option<&Path>) -> Arc<Tuner> {
        Tuner::new("a card, a driver", 0, cache, TileShapeRecord::default(), Box::new(|_| ()))
    }

    /// Gives every product the same measurements.
    struct Same<'a> {
        seconds: [f64; 3],
        correct: [bool; 2],
        measured: &'a mut Vec<Dispatch>,
    }

    impl TileBenchmark for Same<'_> {
        type Prepared = Dispatch;

        fn prepare(&mut self, products: &[&Dispatch]) -> Result<Vec<Dispatch>> {
            Ok(products.iter().map(|&product| product.clone()).collect())
        }

        fn compare(&mut self, _: &Dispatch) -> Result<Vec<bool>> {
            Ok(self.correct.to_vec())
        }

        fn time(&mut self, product: &Dispatch) -> Result<Vec<f64>> {
            self.measured.push(product.clone());
            Ok(self.seconds.to_vec())
        }
    }

    /// Tunes products with the same measurements for each, and returns those that were timed.
    fn tune_with(tuner: &Tuner, products: &[Dispatch], seconds: [f64; 3], correct: [bool; 2]) -> Vec<Dispatch> {
        let mut measured = Vec::new();
        let mut same = Same { seconds, correct, measured: &mut measured };
        tuner.tune(&tuner.untimed(products.iter()), &mut same).unwrap();
        measured
    }

    fn tune(tuner: &Tuner, products: &[Dispatch], seconds: [f64; 3]) -> Vec<Dispatch> {
        tune_with(tuner, products, seconds, [true, true])
    }

    #[test]
    fn the_fastest_tile_shape_is_chosen_and_the_default_where_the_gain_may_be_noise() {
        for (seconds, workgroups) in [
            ([1.0, 0.5, 0.7], 100),
            ([1.0, 0.9, 0.7], 200),
            ([1.0, 0.98, 0.99], 1),
            ([1.0, 2.0, 3.0], 1),
            ([1.0, f64::NAN, 2.0], 1),
            ([1.0, f64::NAN, 0.5], 200),
        ] {
            let tuner = tuner(None);
            tune(&tuner, &[product(5)], seconds);
            let chosen = tuner.apply(&product(5));
            assert_eq!(chosen.workgroups[0], workgroups, "{seconds:?}");
            let tx = if workgroups == 1 { 8.0 } else { workgroups as f64 };
            assert_eq!(chosen.overrides, [("N", 5.0), ("TX", tx)]);
        }
    }

    #[test]
    fn a_tile_shape_with_other_bits_is_reported_and_never_chosen() {
        let (say, said) = std::sync::mpsc::channel();
        let report = move |line: &str| say.send(line.to_string()).unwrap();
        let tuner = Tuner::new("a card", 0, None, TileShapeRecord::default(), Box::new(report));
        tune_with(&tuner, &[product(5)], [1.0, 0.1, 0.7], [false, true]);
        assert_eq!(tuner.apply(&product(5)).workgroups[0], 200);
        assert!(said.recv().unwrap().contains("1 of 2 tile shapes of conv.forward compute other bits"));
        tune_with(&tuner, &[product(6)], [1.0, 0.1, 1.5], [false, true]);
        assert_eq!(tuner.apply(&product(6)).workgroups[0], 1);
    }

    #[test]
    fn a_product_is_timed_once_for_an_adapter_and_its_driver() {
        let cache = tempfile::tempdir().unwrap();
        let measured = |tuner: &Tuner, rows: &[usize]| {
            let products: Vec<Dispatch> = rows.iter().map(|&rows| product(rows)).collect();
            let measured = tune(tuner, &products, [1.0, 0.5, 0.6]);
            measured.iter().map(|product| product.overrides[0].1 as usize).collect::<Vec<_>>()
        };
        let first = tuner(Some(cache.path()));
        let other_process = tuner(Some(cache.path()));
        assert_eq!(measured(&first, &[3, 4, 3]), [3, 4]);
        assert_eq!(measured(&first, &[4, 3]), [0; 0]);
        assert_eq!(measured(&other_process, &[5]), [5]);
        let later = tuner(Some(cache.path()));
        assert_eq!(measured(&later, &[3, 4, 5]), [0; 0]);
        assert_eq!(later.apply(&product(4)).workgroups[0], 100);
        let only_cache = Tuner::of_cache("a card, a driver", Some(cache.path()));
        assert_eq!((measured(&only_cache, &[4, 6]), only_cache.apply(&product(4)).workgroups[0]), (vec![], 100));
        let other_driver =
            Tuner::new("a card, another driver", 0, Some(cache.path()), TileShapeRecord::default(), Box::new(|_| ()));
        assert_eq!(measured(&other_driver, &[3]), [3]);
    }

    #[test]
    fn the_largest_product_is_timed_first() {
        let products = [5, 30, 7].map(|groups| Dispatch { workgroups: [groups, 1, 1], ..product(groups) });
        let measured = tune(&tuner(None), &products, [1.0; 3]);
        assert_eq!(measured.iter().map(|product| product.workgroups[0]).collect::<Vec<_>>(), [30, 7, 5]);
    }

    #[test]
    fn a_damaged_file_is_replaced_and_a_cache_that_cannot_be_written_is_reported() {
        let seconds = [1.0, 0.5, 0.6];
        let cache = tempfile::tempdir().unwrap();
        let path = tuner(Some(cache.path())).path.clone().unwrap();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "{\"environment\": 3").unwrap();
        tune(&tuner(Some(cache.path())), &[product(3)], seconds);
        assert_eq!(tuner(Some(cache.path())).apply(&product(3)).workgroups[0], 100);

        let file = cache.path().join("a file");
        std::fs::write(&file, "").unwrap();
        let (say, said) = std::sync::mpsc::channel();
        let report = move |line: &str| say.send(line.to_string()).unwrap();
        let blocked = Tuner::new("a card", 0, Some(&file), TileShapeRecord::default(), Box::new(report));
        tune(&blocked, &[product(3)], seconds);
        assert_eq!(blocked.apply(&product(3)).workgroups[0], 100);
        let line = said.recv().unwrap();
        assert!(line.contains("of 1 of 1 matrix products") && line.contains("not stored for the next run"), "{line}");
    }

    #[test]
    fn a_resumed_run_has_its_recorded_tile_shapes_whatever_is_in_the_cache_and_times_only_what_is_not_recorded() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("record.json");
        let [old, new] = ["old", "new"].map(|cache| place.path().join(cache));
        let products = [product(3), product(4)];
        let of_run = |adapter: &str, cache: &Path, record: TileShapeRecord| {
            record.write_to(&path);
            Tuner::new(adapter, 0, Some(cache), record, Box::new(|_| ()))
        };
        let begun = of_run("a card", &old, TileShapeRecord::default());
        assert_eq!(tune(&begun, &products[..1], [1.0, 0.5, 0.7]).len(), 1);
        begun.record(products.iter()); // the second one was not reached, so it has the default
        // Another run finds other tile shapes to be the fastest.
        tune(
            &Tuner::new("a card", 0, Some(&new), TileShapeRecord::default(), Box::new(|_| ())),
            &products,
            [1.0, 0.7, 0.5],
        );

        let resumed = of_run("a card", &new, TileShapeRecord::of_resumed_run(&path));
        let third = [product(3), product(4), product(5)];
        assert_eq!(tune(&resumed, &third, [1.0, 0.7, 0.5]), third[2..]);
        let chosen = |tuner: &Tuner| [3, 4, 5].map(|rows| tuner.apply(&product(rows)).workgroups[0]);
        assert_eq!(chosen(&resumed), [100, 1, 200]);
        resumed.record(third.iter());
        let again = of_run("a card", &place.path().join("none"), TileShapeRecord::of_resumed_run(&path));
        assert_eq!((tune(&again, &third, [1.0; 3]).len(), chosen(&again)), (0, [100, 1, 200]));

        let elsewhere = of_run("another card", &place.path().join("none"), TileShapeRecord::of_resumed_run(&path));
        assert_eq!((tune(&elsewhere, &products, [1.0; 3]).len(), chosen(&elsewhere)), (2, [1, 1, 1]));
    }

    #[test]
    fn a_record_that_cannot_be_written_is_reported() {
        let place = tempfile::tempdir().unwrap();
        let (say, said) = std::sync::mpsc::channel();
        let record = TileShapeRecord::default();
        record.write_to(&place.path().join("no folder/record.json"));
        let tuner =
            Tuner::new("a card", 0, None, record, Box::new(move |line: &str| say.send(line.to_string()).unwrap()));
        tuner.record([product(3)].iter());
        assert!(said.recv().unwrap().contains("the tile shapes of this run are not recorded"));
    }

    #[test]
    fn a_number_in_the_file_that_a_product_has_no_tile_shape_for_means_the_default() {
        let tuner = tuner(None);
        tuner.fastest().numbers.insert(product(3).kernel(), 77);
        assert_eq!(tuner.apply(&product(3)).workgroups[0], 1);
    }
}
