//! The step's number. Twin of `clock.wgsl`.

/// `clock += 1`.
pub(super) fn tick(clock: &mut u32) {
    *clock = clock.wrapping_add(1);
}
