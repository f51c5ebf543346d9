//! The course of a value over a run, in bounded memory.

/// The largest number of bins of a trace. With more, a bin would be narrower than a pixel of a plot.
const MAX_BINS: usize = 1024;

/// A series of values, ordered by position (such as the step). Neighbouring bins are merged when their number exceeds 1024. A bin keeps
/// its lowest and its highest value, so no spike is lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The number of positions per bin.
    width: u64,
    /// The bins in the order of their positions. Bins without a value are left out.
    bins: Vec<Bin>,
}

/// Statistics of the values at neighbouring positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// The lowest value of the bin.
    pub low: f32,
    /// The highest value of the bin.
    pub high: f32,
    /// The sum of the values.
    sum: f64,
    /// The sum of the positions.
    positions: f64,
    /// The number of values.
    count: u64,
    /// The position divided by the width of a bin.
    index: u64,
}

impl Bin {
    fn of(index: u64, position: u64, value: f32) -> Self {
        Self { low: value, high: value, sum: f64::from(value), positions: position as f64, count: 1, index }
    }

    /// The mean of the values.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The mean of the positions.
    pub fn position(&self) -> f64 {
        self.positions / self.count as f64
    }

    fn join(&mut self, other: &Self) {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.sum += other.sum;
        self.positions += other.positions;
        self.count += other.count;
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self { width: 1, bins: Vec::new() }
    }
}

impl Trace {
    /// Adds a value. Positions must not decrease; values at the same position share a bin. Values that are not finite are ignored,
    /// since a plot cannot show them.
    pub fn push(&mut self, position: u64, value: f32) {
        if !value.is_finite() {
            return;
        }
        let bin = Bin::of(position / self.width, position, value);
        self.append(bin);
        while self.bins.len() > MAX_BINS {
            self.width *= 2;
            for bin in std::mem::take(&mut self.bins) {
                self.append(Bin { index: bin.index / 2, ..bin });
            }
        }
    }

    fn append(&mut self, bin: Bin) {
        match self.bins.last_mut() {
            Some(last) if last.index == bin.index => last.join(&bin),
            _ => self.bins.push(bin),
        }
    }

    /// The bins in the order of their positions.
    pub fn bins(&self) -> &[Bin] {
        &self.bins
    }

    /// The number of positions per bin: 1 until bins are merged, then a power of two.
    pub fn width(&self) -> u64 {
        self.width
    }

    /// The moving mean: for each bin, the mean of the values of all bins at most `reach` bins away.
    pub fn smoothed(&self, reach: usize) -> Vec<f64> {
        let last = self.bins.len().saturating_sub(1);
        let around = |at: usize| {
            let near = &self.bins[at.saturating_sub(reach)..=last.min(at + reach)];
            near.iter().map(|bin| bin.sum).sum::<f64>() / near.iter().map(|bin| bin.count).sum::<u64>() as f64
        };
        (0..self.bins.len()).map(around).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f32>) -> Trace {
        let mut trace = Trace::default();
        (1..).zip(values).for_each(|(position, value)| trace.push(position, value));
        trace
    }

    #[test]
    fn a_short_run_keeps_every_value() {
        let trace = of([3.0, 1.0, 2.0]);
        assert_eq!(trace.width(), 1);
        let seen: Vec<_> = trace.bins().iter().map(|bin| (bin.position(), bin.low, bin.mean(), bin.high)).collect();
        assert_eq!(seen, [(1.0, 3.0, 3.0, 3.0), (2.0, 1.0, 1.0, 1.0), (3.0, 2.0, 2.0, 2.0)]);
    }

    #[test]
    fn a_long_run_keeps_its_extremes_its_mean_and_its_length() {
        const LONG: usize = 300_000;
        let trace = of((0..LONG).map(|at| match at {
            123_456 => 50.0,
            234_567 => -40.0,
            _ => (at % 2) as f32,
        }));
        assert!((MAX_BINS / 2..=MAX_BINS).contains(&trace.bins().len()), "{} bins", trace.bins().len());
        assert!(trace.width().is_power_of_two() && trace.width() >= LONG as u64 / MAX_BINS as u64);
        let spike = |found: fn(&Bin) -> bool| {
            let mut bins = trace.bins().iter().filter(|bin| found(bin));
            let position = bins.next().expect("the spike is lost").position();
            assert!(bins.next().is_none());
            position
        };
        assert!((spike(|bin| bin.high > 49.0) - 123_457.0).abs() <= trace.width() as f64);
        assert!((spike(|bin| bin.low < -39.0) - 234_568.0).abs() <= trace.width() as f64);
        assert!(trace.smoothed(MAX_BINS).iter().all(|mean| (mean - 0.5).abs() < 1e-3));
        assert!((trace.bins().last().unwrap().position() - LONG as f64).abs() <= trace.width() as f64);
        assert!(trace.bins().is_sorted_by(|a, b| a.position() < b.position()));
    }

    #[test]
    fn values_at_one_position_share_a_bin_and_gaps_have_none() {
        let mut trace = Trace::default();
        for (position, value) in [(1, 1.0), (1, 2.0), (5, 4.0)] {
            trace.push(position, value);
        }
        assert_eq!(trace.bins().iter().map(Bin::mean).collect::<Vec<_>>(), [1.5, 4.0]);
        assert_eq!(trace.bins().iter().map(Bin::position).collect::<Vec<_>>(), [1.0, 5.0]);
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        let trace = of([1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3.0]);
        assert_eq!(trace.bins().iter().map(Bin::mean).collect::<Vec<_>>(), [1.0, 3.0]);
        assert!(of([f32::NAN]).bins().is_empty());
    }

    #[test]
    fn smoothing_uses_fewer_neighbours_at_the_ends() {
        assert_eq!(of([0.0, 9.0, 0.0, 0.0]).smoothed(0), [0.0, 9.0, 0.0, 0.0]);
        assert_eq!(of([0.0, 9.0, 0.0, 0.0]).smoothed(1), [4.5, 3.0, 3.0, 0.0]);
        assert_eq!(of([1.0, 2.0, 6.0]).smoothed(9), [3.0; 3]);
        assert!(of([]).smoothed(3).is_empty());
    }
}
