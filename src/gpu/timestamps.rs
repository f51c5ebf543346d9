//! Timestamp queries: when compute passes begin and end, by the GPU's own clock.

use super::device::{GpuDevice, create_buffer};
use crate::error::Result;

/// The most passes that one query set times: it holds at most 4096 timestamps.
pub(super) const MAX_PASSES: usize = 2048;

/// A query set with two timestamps for each compute pass, at its beginning and at its end.
pub(super) struct TimestampQueries {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    passes: usize,
}

impl TimestampQueries {
    /// Queries for `passes` passes, 1 to [`MAX_PASSES`]. `None` where the device was opened without timestamps.
    pub(super) fn new(gpu: &GpuDevice, passes: usize) -> Result<Option<Self>> {
        if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        assert!((1..=MAX_PASSES).contains(&passes), "{passes} passes are out of range 1..={MAX_PASSES}");
        let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count: 2 * passes as u32,
        });
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = create_buffer(gpu, "timestamps", 16 * passes as u64, usage)?;
        Ok(Some(Self { queries, resolved, passes }))
    }

    /// The timestamp writes of pass `number`, for its descriptor.
    pub(super) fn writes(&self, number: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * number as u32),
            end_of_pass_write_index: Some(2 * number as u32 + 1),
        }
    }

    /// Encodes a copy of all timestamps into a buffer of [`Self::bytes`] that the host can read.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer) {
        encoder.resolve_query_set(&self.queries, 0..2 * self.passes as u32, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, buffer, 0, self.bytes());
    }

    /// Size of all timestamps, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        16 * self.passes as u64
    }
}

/// Seconds that each pass took. `words` are the low and the high half of each timestamp, in ticks of `nanoseconds`. `None` where
/// a pass does not end after it begins: the clock of some drivers stands still or runs backward.
pub(super) fn durations(words: &[u32], nanoseconds: f64) -> Option<Vec<f64>> {
    let passes = words.as_chunks::<4>().0.iter().map(|&[begin, begin_high, end, end_high]| {
        let timestamp = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let ticks = timestamp(end, end_high).checked_sub(timestamp(begin, begin_high))?;
        (ticks > 0 && nanoseconds > 0.0).then_some(ticks as f64 * nanoseconds * 1e-9)
    });
    passes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_the_difference_of_two_timestamps_of_64_bits() {
        let words = [u32::MAX, 6, 999, 7, 5, 0, 6, 0];
        let seconds = durations(&words, 1000.0).unwrap();
        assert_eq!(seconds.len(), 2);
        assert!((seconds[0] - 1e-3).abs() < 1e-12 && (seconds[1] - 1e-6).abs() < 1e-15, "{seconds:?}");
    }

    #[test]
    fn a_clock_that_stands_still_or_runs_backward_gives_no_duration() {
        assert_eq!(durations(&[5, 0, 9, 0, 7, 0, 7, 0], 1.0), None);
        assert_eq!(durations(&[7, 1, 8, 0], 1.0), None);
        assert_eq!(durations(&[5, 0, 9, 0], 0.0), None);
    }
}
