//! Errors that a driver reports outside of any call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the driver reported so far; clones share it. Of each kind only the first report is kept: it is the cause, and the
/// later ones are its consequences.
#[derive(Clone, Default)]
pub(super) struct DriverErrors(Arc<Mutex<FirstReports>>);

/// The first report of each kind, in one line.
#[derive(Clone, Default)]
pub(super) struct FirstReports {
    /// Why the device was lost. Every other error follows from that. Empty where the driver gives no reason.
    pub(super) lost: Option<String>,
    /// What else went wrong.
    pub(super) error: Option<String>,
}

impl DriverErrors {
    /// The reports so far.
    pub(super) fn first(&self) -> FirstReports {
        self.lock().clone()
    }

    /// The device is lost.
    pub(super) fn report_loss(&self, reason: &str) {
        self.lock().lost.get_or_insert(in_one_line(reason));
    }

    /// An error that no error scope caught.
    pub(super) fn report(&self, error: &wgpu::Error) {
        let text = match error {
            wgpu::Error::OutOfMemory { .. } => "it has no memory left".into(),
            wgpu::Error::Validation { description, .. } => format!("invalid use: {description}"),
            wgpu::Error::Internal { description, .. } => format!("its driver failed: {description}"),
        };
        self.lock().error.get_or_insert(in_one_line(&text));
    }

    fn lock(&self) -> MutexGuard<'_, FirstReports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A paragraph of wgpu's as a part of a sentence.
fn in_one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
