//! The functions of `drawing` in a build without the feature `report`: each returns an error.

use image::DynamicImage;

use super::RenderError;
use super::page::Page;
use super::plot::Plot;

/// Returns an error, since SVG is rasterised only with the feature `report`.
pub(super) fn rasterise(_: &str, _: f32) -> Result<DynamicImage, RenderError> {
    Err(without_feature())
}

impl Plot<'_> {
    /// Returns an error, since plots are rendered only with the feature `report`.
    pub fn svg(&self) -> Result<String, RenderError> {
        Err(without_feature())
    }

    /// Returns an error, since plots are rendered only with the feature `report`.
    pub fn pixels(_: &str) -> Result<DynamicImage, RenderError> {
        Err(without_feature())
    }
}

impl Page<'_> {
    /// Returns an error, since the page is rendered only with the feature `report`.
    pub fn html(&self) -> Result<String, RenderError> {
        Err(without_feature())
    }
}

fn without_feature() -> RenderError {
    RenderError("this build of gpu-gan has no feature `report`".into())
}
