//! Plots of a run: curves, axes and their labels. The module `drawing` renders them.

use super::trace::Trace;

/// The colour of a curve. People with colour blindness can tell the colours apart (Okabe and Ito 2008).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeriesColour {
    /// The colour of the discriminator and of real images.
    Blue,
    /// The colour of the generator and of generated images.
    Vermilion,
    /// The colour of values that concern both networks.
    Green,
}

/// A plot of one or more curves.
#[derive(Debug, Clone)]
pub struct Plot<'a> {
    /// The title of the plot.
    pub title: &'static str,
    /// The label of the horizontal axis, with its unit.
    pub x: &'static str,
    /// The label of the vertical axis, with its unit.
    pub y: &'static str,
    /// The number of trace positions per unit of the horizontal axis.
    pub positions_per_x: f64,
    /// The ends of the vertical axis. `None` derives them from the values.
    pub range: Option<[f64; 2]>,
    /// A reference value and its name, drawn as a dashed line.
    pub level: Option<(f64, &'static str)>,
    /// The curves of the plot.
    pub series: Vec<Series<'a>>,
}

/// A curve of a plot.
#[derive(Debug, Clone)]
pub struct Series<'a> {
    /// The name of the curve in the legend.
    pub name: &'static str,
    /// The colour of the curve.
    pub colour: SeriesColour,
    /// The values of the curve.
    pub trace: &'a Trace,
}

impl Plot<'_> {
    /// Whether no curve has a value.
    pub fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.trace.bins().is_empty())
    }
}
