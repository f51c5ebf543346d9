//! The adapter's own clock: when compute passes begin and end on the GPU, whatever the host does meanwhile.

use super::GpuDevice;
use super::executor::create_buffer;
use crate::error::Result;

/// The most passes that are timed at a time: a query set holds at most 4096 instants.
pub(super) const MOST_PASSES: usize = 2048;

/// Instants that a GPU writes down, two for each compute pass.
pub(super) struct Clock {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    passes: usize,
}

impl Clock {
    /// For so many passes, up to [`MOST_PASSES`]; none where the device was not opened to be timed.
    pub(super) fn new(gpu: &GpuDevice, passes: usize) -> Result<Option<Self>> {
        if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        assert!((1..=MOST_PASSES).contains(&passes), "{passes} passes cannot be timed at a time");
        let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("clock"),
            ty: wgpu::QueryType::Timestamp,
            count: 2 * passes as u32,
        });
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = create_buffer(gpu, "clock", 16 * passes as u64, usage)?;
        Ok(Some(Self { queries, resolved, passes }))
    }

    /// What a pass has to be told so that it is timed.
    pub(super) fn of_pass(&self, number: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * number as u32),
            end_of_pass_write_index: Some(2 * number as u32 + 1),
        }
    }

    /// Copies all instants to a buffer that the host can read, of [`Self::bytes`].
    pub(super) fn read(&self, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer) {
        encoder.resolve_query_set(&self.queries, 0..2 * self.passes as u32, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, buffer, 0, self.bytes());
    }

    /// Bytes of all instants.
    pub(super) fn bytes(&self) -> u64 {
        16 * self.passes as u64
    }
}

/// How long each pass took, in seconds, from the words of its instants: 64 bits each, in ticks of so many nanoseconds. None where
/// a pass ends no later than it begins: some drivers have a clock that stands still, or is set back.
pub(super) fn durations(words: &[u32], nanoseconds: f64) -> Option<Vec<f64>> {
    let passes = words.as_chunks::<4>().0.iter().map(|&[begin, begin_high, end, end_high]| {
        let instant = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let ticks = instant(end, end_high).checked_sub(instant(begin, begin_high))?;
        (ticks > 0 && nanoseconds > 0.0).then_some(ticks as f64 * nanoseconds * 1e-9)
    });
    passes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_the_difference_of_two_instants_of_64_bits() {
        let words = [u32::MAX, 6, 999, 7, 5, 0, 6, 0];
        let seconds = durations(&words, 1000.0).unwrap();
        assert_eq!(seconds.len(), 2);
        assert!((seconds[0] - 1e-3).abs() < 1e-12 && (seconds[1] - 1e-6).abs() < 1e-15, "{seconds:?}");
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_is_not_believed() {
        assert_eq!(durations(&[5, 0, 9, 0, 7, 0, 7, 0], 1.0), None);
        assert_eq!(durations(&[7, 1, 8, 0], 1.0), None);
        assert_eq!(durations(&[5, 0, 9, 0], 0.0), None);
    }
}
