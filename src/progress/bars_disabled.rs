//! The types of `bars.rs` in a build without the feature `cli`: there are no bars.

/// The lines of a bar.
#[derive(Debug, Clone, Copy)]
pub(super) enum BarLayout {
    /// One line.
    OneLine,
    /// A line with details below.
    WithDetails,
}

/// A type without values.
#[derive(Clone)]
enum Never {}

/// No bars.
#[derive(Clone)]
pub(super) struct Bars(Never);

/// No bar.
pub(super) struct Bar(Never);

impl Bars {
    /// None.
    pub(super) fn on_stderr() -> Option<Self> {
        None
    }

    /// Cannot be called.
    pub(super) fn print(&self, _: &str) {
        match self.0 {}
    }

    /// Cannot be called.
    pub(super) fn begin(&self, _: &str, _: u64, _: u64, _: BarLayout) -> Bar {
        match self.0 {}
    }
}

impl Bar {
    /// Cannot be called.
    pub(super) fn set_done(&self, _: u64) {
        match self.0 {}
    }

    /// Cannot be called.
    pub(super) fn set_name(&self, _: &str) {
        match self.0 {}
    }

    /// Cannot be called.
    pub(super) fn set_details(&self, _: &str) {
        match self.0 {}
    }

    /// Cannot be called.
    pub(super) fn finish(&self) {
        match self.0 {}
    }
}
